"""How a run stops: graceful first, then cancelling what runs; and what makes it stop."""

from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import Final, Literal

import anyio
import msgspec

from aqueue._stream.event_stream import EventStream
from aqueue._system.timers import Timers
from aqueue.events import RunStopping

__all__ = ["OnError", "Stage", "StopLimits", "Stopping"]

OnError = Literal["stop", "continue"]
"""What the first item that fails for good does: ``stop`` the run gracefully, or let everything else ``continue``."""


class Stage(IntEnum):
    """How far the run has got in stopping. It only ever goes forward."""

    RUNNING = 0
    STOPPING = 1
    CANCELLING = 2
    ENDED = 3


class StopLimits(msgspec.Struct, frozen=True):
    """What stops a run gracefully in one process, and how long that may take.

    Attributes:
        stop_after_s: after how long, seconds; None for never.
        max_items: after how many items have been taken; None for any number.
        max_failures: after how many have failed for good; None for any number.
        grace_s: how long the running items are waited for before they are cancelled, seconds; None for ever.
    """

    stop_after_s: float | None = None
    max_items: int | None = None
    max_failures: int | None = None
    grace_s: float | None = None


NO_STOP_LIMITS: Final = StopLimits()


class Stopping:
    """Whether and why the run stops. Signals, failures, `aqueue.stop`, limits and errors of the run itself all come here.

    Attributes:
        stage: how far it has got.
        reason: why the run stops; empty if it doesn't.
        error: what ended the run besides items that failed: an item's `SystemExit`, a comparison that raised.
        limits: what else stops the run.
    """

    def __init__(
        self,
        stream: EventStream,
        timers: Timers,
        on_error: OnError,
        limits: StopLimits | None,
    ) -> None:
        """Nothing stops the run yet.

        Parameters:
            stream: where `run.stopping` goes.
            timers: calls functions when their time has come.
            on_error: whether the first failure stops the run.
            limits: what else does.
        """
        self.stage = Stage.RUNNING
        self.reason = ""
        self.error: BaseException | None = None
        self.limits = limits or NO_STOP_LIMITS
        self.stops_at_failure = on_error == "stop"
        self._stream = stream
        self._timers = timers
        self._callbacks: list[Callable[[], None]] = []
        self._scope: anyio.CancelScope | None = None
        self._is_held = False
        self._held: list[tuple[str, bool]] = []

    def stop(self, reason: str, *, cancel: bool = False) -> None:
        """Take no more items; with `cancel`, cancel the running ones as well. Later calls can only go further."""
        stage = Stage.CANCELLING if cancel else Stage.STOPPING
        if stage <= self.stage:
            return
        self.stage = stage
        self.reason = self.reason or reason
        if self._is_held:
            self._held.append((reason, cancel))
        else:
            self._stream.emit(RunStopping, reason, cancel)
        grace_s = self.limits.grace_s
        if grace_s is not None and not cancel:
            self._timers.after(grace_s, partial(self.stop, f"grace_s={grace_s:g} has passed", cancel=True))
        self._stream.may_pause = False
        if cancel:
            self._stream.may_block = False
            if self._scope is not None:
                self._scope.cancel()
        for callback in self._callbacks:
            callback()
        self._stream.wake_waiting()

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Call `callback` at each stop from now on, the graceful one and the one that cancels."""
        self._callbacks.append(callback)

    def cancel_in_future(self, scope: anyio.CancelScope | None) -> anyio.CancelScope | None:
        """Let a stop that cancels cancel `scope` from now on, which is None if nothing runs; return the one before."""
        scope, self._scope = self._scope, scope
        return scope

    def note_cancellation(self) -> None:
        """Take no more items: the caller of the run has cancelled it, which needs no event."""
        self.stage = Stage.CANCELLING

    def end(self) -> None:
        """Announce nothing any more: a signal or a late `stop` comes too late."""
        self.stage = Stage.ENDED

    def fail(self, error: BaseException, reason: str, *, cancel: bool) -> None:
        """Stop the run because of `error`, which is no item's failure; with `cancel`, as `stop` takes it."""
        if self.error is None:
            self.error = error
        self.stop(reason, cancel=cancel)

    def hold(self) -> None:
        """Record no stop before `release`: the run's start is its first event, and is not recorded yet."""
        self._is_held = True

    def release(self) -> None:
        """Record the stops that came before the run's start was, and from now on each at once."""
        self._is_held = False
        for reason, cancel in self._held:
            self._stream.emit(RunStopping, reason, cancel)

    def start_timer(self) -> None:
        """Let the time begin that the run may take."""
        stop_after_s = self.limits.stop_after_s
        if stop_after_s is not None:
            self._timers.after(stop_after_s, partial(self.stop, f"stop_after_s={stop_after_s:g} has passed"))

    def look_at_failure(self, failed: str, count: int) -> None:
        """Stop if a failure is a reason to.

        Parameters:
            failed: names the item that has failed for good.
            count: how many have, that one included.
        """
        if self.stops_at_failure:
            self.stop(f"{failed} failed")
        elif count == self.limits.max_failures:
            self.stop(f"max_failures={count} was reached")

    @property
    def is_cancelled(self) -> bool:
        """Whether a cancellation of the current task has been asked for, by the run or around it."""
        return self.stage is Stage.CANCELLING or anyio.current_effective_deadline() == float("-inf")
