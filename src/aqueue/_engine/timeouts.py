"""Timeouts: cancels attempts that take too long, and warns of those that go on nevertheless."""

from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from aqueue._engine.exceptions import hide_frames_of, left_behind
from aqueue._system.loop import TaskWatch
from aqueue._system.notice import warn
from aqueue._system.watchdog import PATIENCE_S

__all__ = ["Timeouts"]

hide_frames_of(__file__)


class Timeouts:
    """The running attempts that have a timeout."""

    def __init__(self, clock: Callable[[], float], warn: Callable[[str], None] = warn) -> None:
        """Measure with `clock`, the loop's time in seconds; warn of attempts that go on with `warn`."""
        self._clock = clock
        self._warn = warn
        self._cancelled_class: type[BaseException] = anyio.get_cancelled_exc_class()
        self._running: dict[anyio.CancelScope, tuple[float, float, int, str]] = {}
        self._late: set[anyio.CancelScope] = set()
        self._told: set[str] = set()

    async def within(
        self, timeout_s: float, item: int, type: str, call: Coroutine[Any, Any, Any], watch: TaskWatch
    ) -> Any:
        """Await `call`, an attempt at item `item` of class `type`, and return its result.

        `watch` closes the cancel scopes that the item's code left open. They are inside the scope of the timeout, and that can
        only be left after they are.

        Raises:
            LeakedCancelScope: the item's code left a cancel scope open.
            TimeoutError: the attempt took longer than `timeout_s` and was cancelled; the traceback shows where it was.
        """
        deadline = self._clock() + timeout_s
        scope = anyio.CancelScope(deadline=deadline)
        where = None
        self._running[scope] = deadline, timeout_s, item, type
        try:
            with scope:
                inside = watch.innermost
                try:
                    value = await call
                    if watch.innermost is not inside:
                        raise left_behind(watch.innermost, item, type)
                except (self._cancelled_class, BaseExceptionGroup) as cancelled:  # a group, if a nursery was cancelled
                    where = cancelled.__traceback__
                    raise
                else:
                    return value
                finally:
                    if watch.innermost is not inside:
                        await watch.close(inside)
            raise _timed_out(timeout_s).with_traceback(where)
        except Exception as error:
            if scope.cancel_called and not isinstance(error, TimeoutError):
                raise _timed_out(timeout_s) from error
            raise
        finally:
            where = None  # breaks a cycle through its frames
            del self._running[scope]

    def check(self) -> None:
        """Warn, once per class, of an attempt that goes on long after its timeout.

        It must have been late at the previous check as well: if some code has just blocked the event loop for long, the other
        attempts have not been cancelled yet.
        """
        now = self._clock()
        late = {scope for scope, (deadline, *_) in self._running.items() if now > deadline + PATIENCE_S}
        for scope in late & self._late:
            deadline, timeout_s, item, type = self._running[scope]
            if type not in self._told:
                self._told.add(type)
                self._warn(
                    f"item {item} ({type}) is still running {now - deadline:.1f} s after its timeout_s={timeout_s:g}: it "
                    "shields itself from cancellation, ignores it, or waits for a thread; give the call that it waits for "
                    "its own timeout"
                )
        self._late = late


def _timed_out(timeout_s: float) -> TimeoutError:
    return TimeoutError(f"the attempt took longer than timeout_s={timeout_s:g}")
