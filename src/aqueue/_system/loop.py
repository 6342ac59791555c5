"""What only the running event loop can do or tell: calls from other threads, the time, and the state of a task."""

import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from types import FrameType, SimpleNamespace
from typing import Any, Final

import anyio
import trio

__all__ = [
    "CallSoon",
    "TaskWatch",
    "call_soon_in_this_loop",
    "clock_of_this_loop",
    "frame_below_this_loop",
    "running_backend",
]

_CANCELLED: Final = object()
"""What `TaskWatch.outermost` is meanwhile."""

LOOK_S: Final = 0.01
"""The interval of checks whether all tasks in a nursery that an item left open have ended, seconds."""

CallSoon = Callable[[Callable[[], object]], None]
"""Schedules a call of a function in the loop; does nothing once that loop has ended."""


def call_soon_in_this_loop() -> CallSoon:
    """Return a function that schedules calls in the current loop, from any thread or signal handler."""
    call: Callable[[Callable[[], object]], object]
    if trio.lowlevel.in_trio_run():
        call = trio.lowlevel.current_trio_token().run_sync_soon
    else:
        import asyncio  # a trio program need not load it

        loop, context = asyncio.get_running_loop(), copy_context()

        def call(function: Callable[[], object]) -> None:
            # Not in the caller's context: that of another thread lacks the variable by which AnyIO knows the backend, and so does
            # that of a signal handler which interrupts such a call. Then no task could be started, not even for a timer.
            loop.call_soon_threadsafe(function, context=context.copy())

    def call_soon(function: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has ended; trio.RunFinishedError is one, too
            call(function)

    return call_soon


def running_backend() -> str | None:
    """Return the name of the backend whose loop runs in this thread, as in `run_queue`; None if there is no loop."""
    if trio.lowlevel.in_trio_run():
        return "trio"
    asyncio = sys.modules.get("asyncio")  # a trio program need not load it
    if asyncio is not None:
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            return "asyncio"
    return None


def clock_of_this_loop() -> Callable[[], float]:
    """Return a function that returns the current loop's time in seconds; it works in callbacks, too."""
    if trio.lowlevel.in_trio_run():
        return trio.current_time
    import asyncio

    return asyncio.get_running_loop().time


def frame_below_this_loop() -> FrameType | None:
    """Return the frame from which the loop of the current task calls its steps; None if it can't be found.

    For a loop in C, such as uvloop, which has no frames, that is the caller of `run_until_complete`. On trio it isn't needed.
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
    """Gives an asyncio task the attribute in which a Trio task has its innermost scope."""

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


class TaskWatch:
    """Finds and closes the cancel scopes and nurseries that an item's code leaves open in the task that runs it.

    An async generator that yields inside ``move_on_after`` leaves that scope open in the consuming task if the consumer
    leaves the loop by ``break``. At its deadline the scope cancels whatever that task does then. On asyncio, `Task.cancel`
    has the same effect if it is called while the code isn't awaiting: it cancels the next ``await``, which may be another
    item's.

    Neither loop has public means to see this, so private attributes of Trio and AnyIO are used; tests check them.

    Attributes:
        task: its attribute ``_cancel_status`` stands for the innermost open scope of the task; on asyncio it is None if a
            cancellation is pending. It is read once per item, which costs next to nothing on Trio.
        outermost: the value of that attribute when nothing is left open.
        scope: the scope that `enter` has entered, in which items run; None without one.
        is_cancelled: whether `cancel` was called, and `close` not since.
    """

    task: Any

    def __init__(self) -> None:
        """Watch the current task, which must belong to a task group, so that it has a scope."""
        self._is_spoiled = False
        self.scope: anyio.CancelScope | None = None
        self.is_cancelled = False
        self._outside: Any = None
        self._inside: Any = None
        try:
            self.task = trio.lowlevel.current_task() if trio.lowlevel.in_trio_run() else _AsyncioTask()
            self.outermost: Any = self.innermost
        except (AttributeError, LookupError):
            # The loop lacks the expected private attributes: nothing is found, or closed.
            self.task = SimpleNamespace(_cancel_status=None)
            self.outermost = None

    @property
    def innermost(self) -> Any:
        """What stands for the innermost open scope."""
        return self.task._cancel_status  # noqa: SLF001

    def enter(self, scope: anyio.CancelScope) -> None:
        """Enter `scope` for the items that follow, until `leave`; nothing may be left open."""
        scope.__enter__()
        self.scope = scope
        self._outside = self.outermost
        if self._outside is not None:
            # On asyncio, an AnyIO scope stands for itself, also while a cancellation is pending.
            self.outermost = self.innermost or scope

    def cancel(self) -> None:
        """Cancel what runs in `scope`. Until `close`, something seems to be left open, so that nobody goes on without that call."""
        if self.scope is not None and not self.is_cancelled:
            self.is_cancelled = True
            self._inside, self.outermost = self.outermost, _CANCELLED
            self.scope.cancel()

    @property
    def has_rest(self) -> bool:
        """Whether something is left open."""
        return self.innermost is not (self._inside if self.is_cancelled else self.outermost)

    def leave(self) -> None:
        """Leave the scope that `enter` has entered, if there is one; every scope inside must have been left."""
        if self.scope is not None:
            self.scope.__exit__(None, None, None)
            self.scope = None
            self.outermost = self._outside

    async def close(self) -> bool:
        """Cancel and close what items have left open, and wait until the tasks of open nurseries have ended.

        Returns:
            Whether anything was open, now or at an earlier call, or a cancellation is pending, which stays so.
        """
        was_cancelled, self.is_cancelled = self.is_cancelled, False
        if was_cancelled:
            self.outermost = self._inside
        if self.innermost is not self.outermost:
            self._is_spoiled = True
            is_trio = trio.lowlevel.in_trio_run()
            await (_close_trio(self.task, self.outermost) if is_trio else self.task.close(self.outermost))
        if self.scope is not None and self.scope.cancel_called:  # by `cancel`, or by a timeout: it would stay so
            self.leave()
            self.enter(anyio.CancelScope())
        return self._is_spoiled

    async def take_cancellation(self) -> None:
        """Consume a pending cancellation, which would end the task as cancelled, and with it its task group."""
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
    """Wait until the tasks of a cancelled nursery have ended, and remove it from `task`, which would fail at its end.

    Python may be closing the generator that opened the nursery, in another task. If that waited for the nursery, too, the
    end of the last child would wake this task, whatever it waits for. Nothing waits for a nursery that is marked as closed.
    """
    nursery._closed = True  # noqa: SLF001
    with trio.CancelScope(shield=True):
        while nursery.child_tasks:  # noqa: ASYNC110  # a nursery has no event for that
            await trio.sleep(LOOK_S)
    if nursery in task._child_nurseries:  # noqa: SLF001
        task._child_nurseries.remove(nursery)  # noqa: SLF001
