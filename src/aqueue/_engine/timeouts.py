"""Timeouts: cancels attempts that take too long, and warns of those that go on nevertheless.

A cancel scope with a deadline for each attempt costs 12 µs, four times as much as everything else about an item that does
nothing. So a task keeps one scope open from attempt to attempt, and replaces it only after it has been cancelled. Nor does each
attempt set a timer: most end long before their deadline. A task has one timer, which looks at the attempt that runs when it goes
off. Only if the deadline of that one is close, the scope gets it.
"""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import anyio

from aqueue._engine.exceptions import hide_frames_of, left_behind
from aqueue._system.loop import TaskWatch
from aqueue._system.notice import warn
from aqueue._system.timers import Timers
from aqueue._system.watchdog import PATIENCE_S

__all__ = ["TaskTimeout", "Timeouts"]

hide_frames_of(__file__)

LEAD_S: Final = 0.001
"""How long before its deadline an attempt gets it as that of its scope, seconds, so that the event loop itself cancels it."""

_NEVER: Final = float("inf")


class Timeouts:
    """The tasks that run attempts with a timeout."""

    def __init__(self, clock: Callable[[], float], timers: Timers, warn: Callable[[str], None] = warn) -> None:
        """Measure with `clock`, the loop's time in seconds; cancel by `timers`; warn of attempts that go on with `warn`."""
        self.clock = clock
        self.timers = timers
        self.cancelled_class: type[BaseException] = anyio.get_cancelled_exc_class()
        self._warn = warn
        self._all: list[TaskTimeout] = []
        self._free: list[TaskTimeout] = []  # a task that has ended may have left a timer: the next one takes it over
        self._late: set[tuple[TaskTimeout, float]] = set()
        self._told: set[str] = set()

    @contextmanager
    def in_task(self, watch: TaskWatch) -> "Iterator[TaskTimeout]":
        """Provide what limits the attempts that run in the current task, which `watch` watches."""
        if self._free:
            timeout = self._free.pop()
        else:
            timeout = TaskTimeout(self)
            self._all.append(timeout)
        timeout.watch = watch
        try:
            yield timeout
        finally:
            watch.leave()
            self._free.append(timeout)

    def check(self) -> None:
        """Warn, once per class, of an attempt that goes on long after its timeout.

        It must have been late at the previous check as well: if some code has just blocked the event loop for long, the other
        attempts have not been cancelled yet.
        """
        now = self.clock()
        late = {(task, task.deadline) for task in self._all if now > task.deadline + PATIENCE_S}
        for task, deadline in late & self._late:
            if task.type not in self._told:
                self._told.add(task.type)
                self._warn(
                    f"item {task.item} ({task.type}) is still running {now - deadline:.1f} s after its "
                    f"timeout_s={task.timeout_s:g}: it shields itself from cancellation, ignores it, or waits for a thread; "
                    "give the call that it waits for its own timeout"
                )
        self._late = late


class TaskTimeout:
    """Limits the attempts that run in one task, one after the other.

    Attributes:
        watch: watches the task, and has its scope.
        deadline: until when the running attempt may run, on the loop's clock; infinite if none is running.
        timeout_s, item, type: the timeout of the latest attempt, and its item.
    """

    __slots__ = ("_clock", "_is_set", "_looks_at", "_timeouts", "deadline", "item", "timeout_s", "type", "watch")

    watch: TaskWatch

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._clock = timeouts.clock
        self._is_set = False
        self._looks_at = _NEVER
        self.deadline = _NEVER
        self.timeout_s = 0.0
        self.item = 0
        self.type = ""

    async def within(self, timeout_s: float, item: int, type: str, call: Coroutine[Any, Any, Any]) -> Any:
        """Await `call`, an attempt at item `item` of class `type`, and return its result.

        Raises:
            TimeoutError: the attempt took longer than `timeout_s` and was cancelled; the traceback shows where it was.
        """
        if self.watch.scope is None:
            self.watch.enter(anyio.CancelScope())
        self.timeout_s = timeout_s
        self.item = item
        self.type = type
        now = self._clock()
        deadline = self.deadline = now + timeout_s
        if deadline < self._looks_at:
            self._look_at(deadline - LEAD_S, now)
        raised = value = None
        try:
            value = await call
        except BaseException as error:
            if not self._is_set:
                raise
            raised = error
        finally:
            self.deadline = _NEVER
        if self._is_set:
            try:
                await self._end(raised)
            finally:
                raised = None  # breaks a cycle through its frames
        return value

    async def _end(self, raised: BaseException | None) -> None:
        """End an attempt whose deadline the scope has; raise what comes of what it `raised`, or, if it is late, left open."""
        watch = self.watch
        scope, rest = watch.scope, raised
        assert scope is not None
        self._is_set = False
        scope.deadline = _NEVER
        is_late = scope.cancel_called and not watch.is_cancelled  # a person's cancellation is left to the worker
        if is_late:
            if raised is None and watch.innermost is not watch.outermost:
                rest = raised = left_behind(watch.innermost, self.item, self.type)
            await watch.close()
            if anyio.current_effective_deadline() != -_NEVER:  # otherwise the run has been cancelled, too
                rest = _without(self._timeouts.cancelled_class, raised)
        try:
            if raised is not None and rest is None:
                raise _timed_out(self.timeout_s).with_traceback(raised.__traceback__)
            if is_late and isinstance(rest, Exception) and not isinstance(rest, TimeoutError):
                raise _timed_out(self.timeout_s) from rest
            if rest is not None:
                raise rest
        finally:
            raised = rest = None

    def _look_at(self, at: float, now: float) -> None:
        """Call `_look` at the time `at`."""
        self._looks_at = at
        self._timeouts.timers.after(at - now, partial(self._look, at))

    def _look(self, at: float) -> None:
        """Give the scope the deadline of the attempt that runs, if it is close; otherwise look again when it is."""
        if at != self._looks_at:  # a shorter timeout has set an earlier timer since
            return
        self._looks_at = _NEVER
        if self.deadline == _NEVER:
            return
        now, at = self._clock(), self.deadline - LEAD_S
        if now < at:
            self._look_at(at, now)
        else:
            assert self.watch.scope is not None
            self._is_set = True
            self.watch.scope.deadline = self.deadline


def _without(cancelled_class: type[BaseException], error: BaseException | None) -> BaseException | None:
    """Return what is left of `error` without cancellations; None if that is nothing."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(cancelled_class)[1]
    return None if isinstance(error, cancelled_class) else error


def _timed_out(timeout_s: float) -> TimeoutError:
    return TimeoutError(f"the attempt took longer than timeout_s={timeout_s:g}")
