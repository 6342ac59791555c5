"""Runs a reporter on a thread of its own, so that a stuck one doesn't block the others."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Literal

from aqueue._codec.class_names import type_name
from aqueue._delivery.open_reporters import OpenReporters
from aqueue._stream.event_stream import BATCH_EVENTS
from aqueue.errors import ReporterError
from aqueue.events import Event
from aqueue.reporting import Reporter, RunInfo, SkippingReporter
from aqueue.result import RunResult
from aqueue.view import RunView

__all__ = ["TICK_INTERVAL_S", "ReporterThread"]

TICK_INTERVAL_S: Final = 0.1
"""How often reporters are called while nothing happens, so that clocks tick."""

SKIPPED_EVENTS: Final = 40_000
"""With more events waiting, a reporter that can skip gets none of them, only their effect on the view."""

SKIPPED_BYTES: Final = 64_000_000
"""The same, for the bytes of large values in the waiting events."""


class ReporterThread:
    """A thread that calls one reporter, with the events that wait for it and the reporter's own view of the run.

    Reporters share nothing, so one that is stuck or far behind blocks nobody, and its view doesn't change meanwhile.

    `give`, `close`, `let_go` and `stuck_for` are called on one other thread, and never block it.

    Attributes:
        name: the reporter's class.
        opened: the reporter itself, while it gets calls; what concerns its terminal may be called on any thread.
        can_skip: whether events may be dropped for it when it is behind.
        stage: ``new``, ``opening``, ``open``, or ``ended``: it gets no more calls, or nobody waits for it.
        open_error: why it could not be opened; None if it could.
        is_named: whether the user was warned that it is stuck.
    """

    def __init__(
        self,
        reporter: Reporter,
        view: RunView,
        on_raised: Callable[[Reporter, BaseException], None],
        on_progress: Callable[[], None],
    ) -> None:
        """Create it; nothing starts before `start`.

        Parameters:
            reporter: gets the events.
            view: the run before the first of them; the thread's own from now on.
            on_raised: called when it has raised from `handle` and was detached; on any thread.
            on_progress: called on its thread when a call of it has returned or raised.
        """
        self.name = type_name(type(reporter))
        self.can_skip = False
        with suppress(Exception):  # a property may be the user's code
            self.can_skip = isinstance(reporter, SkippingReporter) and bool(reporter.can_skip)
        self.stage: Literal["new", "opening", "open", "ended"] = "new"
        self.open_error: ReporterError | None = None
        self.is_named = False
        self.view = view
        self._reporter = reporter
        self.opened = OpenReporters([reporter], on_raised)
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._pending: list[Event] = []
        self._events_given = self._events_taken = 0
        self._given: deque[tuple[int, int]] = deque()  # of each call of `give`: how many events, and bytes, until then
        self._bytes_given = self._bytes_taken = 0
        self._shown: RunView | None = None  # the view that the reporter is looking at
        self._wake = threading.Event()
        self._result: RunResult | None = None
        self._steps = 0  # odd within a call
        self._steps_seen = 0
        self._stuck_s = 0.0

    def start(self, run: RunInfo) -> None:
        """Start the thread, which opens the reporter."""
        self.stage = "opening"
        threading.Thread(target=self._work, args=(run,), name=f"aqueue-reporter {self.name}", daemon=True).start()

    @property
    def waiting(self) -> int:
        """How many events wait for it."""
        return len(self._pending)

    @property
    def waiting_bytes(self) -> int:
        """How many bytes of large values these have, and those that it is just being called with."""
        return self._bytes_given - self._bytes_taken

    @property
    def is_idle(self) -> bool:
        """Whether it has taken all that it was given. The order matters: a call begins before it takes anything."""
        return not self._pending and self._steps % 2 == 0

    def give(self, events: Sequence[Event], size: int) -> None:
        """Queue the next `events`; a reporter that can skip and is too far behind gets them only as part of its view.

        Parameters:
            events: the next events.
            size: how many bytes of large values these and all events before them have.
        """
        if not self.opened:
            return
        with self._lock:
            self._pending += events
            self._events_given += len(events)
            self._bytes_given = size
            self._given.append((self._events_given, size))
            if self.can_skip and (len(self._pending) > SKIPPED_EVENTS or self.waiting_bytes > SKIPPED_BYTES):
                self._skip(len(self._pending))
        self._wake.set()

    def end_soon(self) -> None:
        """Leave at most one batch to a reporter that can skip, since the end of the run waits for it."""
        if self.can_skip:
            with self._lock:
                self._skip(len(self._pending) - BATCH_EVENTS)

    def _skip(self, number: int) -> None:
        """Fold the first `number` waiting events into the view instead of handing them on; under the lock."""
        if number <= 0:
            return
        if self._shown is self.view:
            self.view = self.view.copy()
        try:
            self.view.apply(self._pending[:number])
        except Exception as error:  # as in `_hand_on`
            self.fail(error)
        del self._pending[:number]
        self._count_taken(number)

    def _count_taken(self, number: int) -> None:
        """Count `number` events as taken; under the lock."""
        self._events_taken += number
        while self._given and self._given[0][0] <= self._events_taken:
            self._bytes_taken = self._given.popleft()[1]

    def close(self, result: RunResult) -> None:
        """Close it once it has got all events."""
        self._result = result
        self._wake.set()

    def let_go(self) -> None:
        """Detach it: once its present call returns, it gets no other."""
        self.stage = "ended"
        self.opened.let_go(self._reporter)
        self._pending.clear()

    def fail(self, error: BaseException) -> None:
        """Detach it as if it had raised `error`."""
        self.stage = "ended"
        self.opened.detach_all(error)

    def leave_behind(self) -> None:
        """Stop waiting for it. If its present call returns before the process ends, it gets the rest and is closed."""
        self.stage = "ended"
        self.opened.release_terminals()

    def stuck_for(self, passed_s: float) -> float:
        """Return for how long its present call has lasted, seconds; 0 between two calls.

        Parameters:
            passed_s: the time since the last call of this method that counts, seconds.
        """
        steps = self._steps
        self._stuck_s = self._stuck_s + passed_s if steps % 2 and steps == self._steps_seen else 0.0
        self._steps_seen = steps
        return self._stuck_s

    def forget_stuck(self) -> None:
        """Count the time of its present call from now on."""
        self._stuck_s = 0.0

    # ---- its thread ---------------------------------------------------------------------------------------------

    def _work(self, run: RunInfo) -> None:
        try:
            self._call(lambda: self._open(run))
            while self.opened:
                if not self._pending and self._result is None:
                    self._wake.wait(TICK_INTERVAL_S)
                self._wake.clear()
                self._call(self._hand_on)
        finally:
            self.stage = "ended"
            self._on_progress()

    def _call(self, call: Callable[[], None]) -> None:
        self._steps += 1
        try:
            call()
        finally:
            self._steps += 1
            self._on_progress()

    def _open(self, run: RunInfo) -> None:
        try:
            self.opened.open(run)
        except ReporterError as error:
            self.open_error = error
        else:
            self.stage = "open"

    def _hand_on(self) -> None:
        result = self._result  # read first: no event is given after `close`
        with self._lock:
            batch = tuple(self._pending[:BATCH_EVENTS])
            del self._pending[:BATCH_EVENTS]
            try:
                self.view.apply(batch)
            except Exception as error:  # a bug in aqueue; the run and the journal continue
                self.fail(error)
            self._shown = self.view
        if batch or result is None:
            self.opened.hand_on(batch, self._shown)
        self._shown = None
        with self._lock:
            self._count_taken(len(batch))
        if result is not None and not self._pending:
            self.opened.close(result)
