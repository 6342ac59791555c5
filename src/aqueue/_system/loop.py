"""What is asked of a running event loop itself: to call a function from outside of it, the time, and the state of a task."""

import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Final

import trio

__all__ = [
    "CallSoon",
    "TaskWatch",
    "call_soon_in_this_loop",
    "clock_of_this_loop",
    "frame_below_this_loop",
    "running_backend",
]

LOOK_S: Final = 0.01
"""How often a nursery that an item has left open is looked at, until all in it has ended; seconds."""

CallSoon = Callable[[Callable[[], object]], None]
"""Has a function called in the loop soon; does nothing once that loop has ended."""


def call_soon_in_this_loop() -> CallSoon:
    """Return a function that has another one called in the current loop soon, from any thread or signal handler."""
    call: Callable[[Callable[[], object]], object]
    if trio.lowlevel.in_trio_run():
        call = trio.lowlevel.current_trio_token().run_sync_soon
    else:
        import asyncio  # a trio program need not load it

        call = asyncio.get_running_loop().call_soon_threadsafe

    def call_soon(function: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has ended; trio.RunFinishedError is one, too
            call(function)

    return call_soon


def running_backend() -> str | None:
    """Return the name of the backend whose loop runs in this thread, as `run_queue` takes it; None if none does."""
    if trio.lowlevel.in_trio_run():
        return "trio"
    asyncio = sys.modules.get("asyncio")  # a trio program need not load it
    if asyncio is not None:
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            return "asyncio"
    return None


def clock_of_this_loop() -> Callable[[], float]:
    """Return a function that tells the current loop's time in seconds; it works in its callbacks, too."""
    if trio.lowlevel.in_trio_run():
        return trio.current_time
    import asyncio

    return asyncio.get_running_loop().time


def frame_below_this_loop() -> FrameType | None:
    """Return the frame on which the loop of the current task runs its steps; None if that can't be told.

    It is the caller of `run_until_complete` where the loop has no frames of its own, being written in C as uvloop is. On
    trio nobody needs it.
    """
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or trio.lowlevel.in_trio_run():
        return None
    task = asyncio.current_task()
    first = None if task is None else getattr(task.get_coro(), "cr_frame", None)
    frame: FrameType | None = sys._getframe()  # noqa: SLF001  # its documented way
    while frame is not None and frame is not first:
        frame = frame.f_back
    return None if frame is None else frame.f_back


class _AsyncioTask:
    """Has, for a task of asyncio, the attribute in which a task of Trio has its innermost scope."""

    def __init__(self) -> None:
        import asyncio

        from anyio._backends import _asyncio

        task: Any = asyncio.current_task()
        self._task = task
        self._state = _asyncio._task_states[task]  # noqa: SLF001  # see TaskWatch

    @property
    def _cancel_status(self) -> object:
        return None if self._task._must_cancel else self._state.cancel_scope  # noqa: SLF001  # see TaskWatch

    async def close(self, outer: Any) -> None:
        while (scope := self._state.cancel_scope) is not outer and scope is not None:
            scope.cancel()
            scope.__exit__(None, None, None)


class _UnknownTask:
    """Stands for a task whose loop has other private attributes than are known here: nothing is seen, or closed."""

    _cancel_status = None

    async def close(self, outer: Any) -> None:
        pass


class TaskWatch:
    """Sees and closes what an item's code leaves open in the task that runs it: cancel scopes, and nurseries with theirs.

    An async generator that yields inside ``move_on_after`` and is left by ``break`` leaves that scope open in the task that
    asked it for values. Once its deadline has come, it cancels whatever that task does. On asyncio, `Task.cancel` does so,
    too, if it is called while the code doesn't await anything: the next ``await`` is cancelled, which may be another item's.

    Neither loop shows this by public means, so these are private attributes of Trio and AnyIO, which tests look at.

    Attributes:
        task: its attribute ``_cancel_status`` stands for the innermost scope that is open in the task; on asyncio it is
            None if a cancellation is to come. To read it costs next to nothing on Trio, which is done once per item.
        outermost: what that was when the watch began; while the task is as it was found, the two are the same object.
    """

    task: Any

    def __init__(self) -> None:
        """Watch the current task, which must be one of a task group's, so that it has a scope."""
        self._is_spoiled = False
        try:
            self.task = trio.lowlevel.current_task() if trio.lowlevel.in_trio_run() else _AsyncioTask()
            self.outermost: Any = self.innermost
        except (AttributeError, LookupError):
            self.task = _UnknownTask()
            self.outermost = None

    @property
    def innermost(self) -> Any:
        """What stands for the innermost scope now."""
        return self.task._cancel_status  # noqa: SLF001

    async def close(self, outer: Any = None) -> bool:
        """Cancel and close what has been left open inside of `outer`, by default since the watch began.

        It waits until what runs in a nursery has ended.

        Returns:
            Whether anything was open, now or at an earlier call, or a cancellation is to come, which this leaves as it is.
        """
        outer = outer or self.outermost
        if self.innermost is not outer:
            self._is_spoiled = True
            await (_close_trio(self.task, outer) if trio.lowlevel.in_trio_run() else self.task.close(outer))
        return self._is_spoiled

    async def take_cancellation(self) -> None:
        """Take the cancellation that is to come, if one is: it would end the task as cancelled, and thereby its task group."""
        if self.innermost is None is not self.outermost:
            import asyncio

            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)


async def _close_trio(task: Any, outer: Any) -> None:
    while task._cancel_status is not outer:  # noqa: SLF001  # see TaskWatch
        scope = task._cancel_status._scope  # noqa: SLF001
        scope.cancel()
        for nursery in task.child_nurseries:
            if nursery.cancel_scope is scope:
                await _close_nursery(task, nursery)
        scope.__exit__(None, None, None)


async def _close_nursery(task: Any, nursery: Any) -> None:
    """Wait until all in a cancelled nursery has ended, and take it from `task`, which would fail the run at its end.

    Python may be closing the generator that opened it, in another task. That must not wait for the nursery, too: the end of
    the last child would then wake this task, whatever it waits for. A nursery that is marked as closed isn't waited for.
    """
    nursery._closed = True  # noqa: SLF001
    with trio.CancelScope(shield=True):
        while nursery.child_tasks:  # noqa: ASYNC110  # a nursery has no event for that
            await trio.sleep(LOOK_S)
    if nursery in task._child_nurseries:  # noqa: SLF001
        task._child_nurseries.remove(nursery)  # noqa: SLF001
