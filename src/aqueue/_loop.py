"""What is asked of a running event loop itself: to call a function from outside of it, the time, and the state of a task."""

import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import trio

__all__ = ["CallSoon", "TaskWatch", "call_soon_in_this_loop", "clock_of_this_loop", "frame_below_this_loop"]

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
        self._is_trio = trio.lowlevel.in_trio_run()
        self.task = trio.lowlevel.current_task() if self._is_trio else _AsyncioTask()
        self.outermost: Any = self.innermost

    @property
    def innermost(self) -> Any:
        """What stands for the innermost scope now."""
        return self.task._cancel_status  # noqa: SLF001

    def close(self, outer: Any = None) -> bool:
        """Cancel and close what has been left open inside of `outer`, by default since the watch began.

        Returns:
            Whether anything was open, or a cancellation is to come, which this leaves as it is.
        """
        outer = outer or self.outermost
        is_changed = self.innermost is not outer
        if self._is_trio:
            while self.innermost is not outer:
                _close(self.innermost._scope)  # noqa: SLF001
            # A task that ends while nurseries are open makes Trio cancel the nursery around it: here, the run.
            self.task._child_nurseries.clear()  # noqa: SLF001
        else:
            while (scope := self.task._state.cancel_scope) is not outer:  # noqa: SLF001
                _close(scope)
        return is_changed

    async def take_cancellation(self) -> None:
        """Take the cancellation that is to come, if one is: it would end the task as cancelled, and thereby its task group."""
        if self.innermost is None:
            import asyncio

            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)


def _close(scope: Any) -> None:
    scope.cancel()
    scope.__exit__(None, None, None)
