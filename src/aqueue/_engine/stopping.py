"""Whether anything may start: a run stops gracefully first, then by cancelling the running items; a person may pause it."""

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
    """How far the run has got in stopping. A stage is never left for an earlier one."""

    RUNNING = 0
    STOPPING = 1
    CANCELLING = 2
    ENDED = 3


class StopLimits(msgspec.Struct, frozen=True):
    """What stops a run gracefully in one process, and how long that may take.

    Attributes:
        stop_after_s: after this time, seconds; None for no limit.
        max_items: after this many items have been taken; None for no limit.
        max_failures: after this many items have failed for good; None for no limit.
        grace_s: after a graceful stop, how long running items may take before they are cancelled, seconds; None for no limit.
    """

    stop_after_s: float | None = None
    max_items: int | None = None
    max_failures: int | None = None
    grace_s: float | None = None


NO_STOP_LIMITS: Final = StopLimits()


class Stopping:
    """Whether and why the run stops, and whether a person has paused it.

    All causes of a stop come here: signals, failures, `aqueue.stop`, commands, limits, errors of the run.

    Attributes:
        stage: how far the run has got in stopping.
        is_paused: whether a person has paused the run.
        may_start: whether items and hooks may start: the run neither stops nor is paused, and no command looks for waiting items.
        reason: why the run stops; empty if it doesn't.
        error: what ended the run, if no item failure did: an item's `SystemExit`, or a comparison that raised, for example.
        limits: the limits that stop it.
    """

    def __init__(
        self,
        stream: EventStream,
        timers: Timers,
        on_error: OnError,
        limits: StopLimits | None,
    ) -> None:
        """Start in stage RUNNING.

        Parameters:
            stream: where `run.stopping` goes.
            timers: calls functions at a time of the loop's clock.
            on_error: whether the first failure stops the run.
            limits: the limits that stop it.
        """
        self.stage = Stage.RUNNING
        self.is_paused = False
        self.may_start = True
        self.reason = ""
        self.error: BaseException | None = None
        self.limits = limits or NO_STOP_LIMITS
        self.stops_at_failure = on_error == "stop"
        self._stream = stream
        self._timers = timers
        self._callbacks: list[Callable[[], None]] = []
        self._scope: anyio.CancelScope | None = None
        self._is_suspended = False
        self._is_held = False
        self._held: list[tuple[str, bool, str]] = []

    def stop(self, reason: str, *, cancel: bool = False, by: str = "") -> None:
        """Take no more items; with `cancel`, cancel the running ones as well. A later call can only go further.

        Parameters:
            reason: for people.
            cancel: whether the running items are cancelled.
            by: who stops the run by a command; empty for no person.
        """
        stage = Stage.CANCELLING if cancel else Stage.STOPPING
        if stage <= self.stage:
            return
        self.stage = stage
        self.reason = self.reason or reason
        if self._is_held:
            self._held.append((reason, cancel, by))
        else:
            self._stream.emit(RunStopping, reason, cancel, by)
        grace_s = self.limits.grace_s
        if grace_s is not None and not cancel:
            self._timers.after(grace_s, partial(self.stop, f"grace_s={grace_s:g} has passed", cancel=True))
        self._stream.may_pause = False
        if cancel:
            self._stream.may_block = False
            if self._scope is not None:
                self._scope.cancel()
        self._change()
        self._stream.wake_waiting()

    def pause(self) -> None:
        """Start nothing until `unpause`; what runs continues."""
        self.is_paused = True
        self._change()

    def unpause(self) -> None:
        """Let items and hooks start again, unless the run stops."""
        self.is_paused = False
        self._change()

    def suspend_starts(self, *, is_suspended: bool) -> None:
        """Start nothing while a command looks for waiting items, some milliseconds; or end that."""
        self._is_suspended = is_suspended
        self._change()

    def _change(self) -> None:
        self.may_start = self.stage is Stage.RUNNING and not self.is_paused and not self._is_suspended
        for callback in self._callbacks:
            callback()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` at every stop, graceful or not, and at every pause and its end, from now on."""
        self._callbacks.append(callback)

    def cancel_in_future(self, scope: anyio.CancelScope | None) -> anyio.CancelScope | None:
        """Set the scope that a stop with `cancel` cancels, None for none; return the previous one."""
        scope, self._scope = self._scope, scope
        return scope

    def note_cancellation(self) -> None:
        """Take no more items: the code that called the run has cancelled it, so there is no reason to record."""
        self.stage = Stage.CANCELLING
        self._change()

    def end(self) -> None:
        """Ignore every later stop: the run has ended."""
        self.stage = Stage.ENDED

    def fail(self, error: BaseException, reason: str, *, cancel: bool) -> None:
        """Stop the run because of `error`, which isn't the failure of an item; `cancel` as in `stop`."""
        if self.error is None:
            self.error = error
        self.stop(reason, cancel=cancel)

    def hold(self) -> None:
        """Delay the events of stops until `release`: the first event of a run is its start."""
        self._is_held = True

    def release(self) -> None:
        """Emit the delayed events; the start of the run has been emitted."""
        self._is_held = False
        for held in self._held:
            self._stream.emit(RunStopping, *held)

    def start_timer(self) -> None:
        """Start the time limit, if there is one."""
        stop_after_s = self.limits.stop_after_s
        if stop_after_s is not None:
            self._timers.after(stop_after_s, partial(self.stop, f"stop_after_s={stop_after_s:g} has passed"))

    def look_at_failure(self, failed: str, count: int) -> None:
        """Stop the run if this failure is a reason to.

        Parameters:
            failed: the item that has failed for good, as the reason names it.
            count: how many items have failed for good, including this one.
        """
        if self.stops_at_failure:
            self.stop(f"{failed} failed")
        elif count == self.limits.max_failures:
            self.stop(f"max_failures={count} was reached")

    @property
    def is_cancelled(self) -> bool:
        """Whether the current task is cancelled, by the run or by the code that called it."""
        return self.stage is Stage.CANCELLING or anyio.current_effective_deadline() == float("-inf")
