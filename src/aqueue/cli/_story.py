"""Tells the history of one item: what happened when, and how long it waited in between."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from aqueue import events as ev
from aqueue.cli._screen import host_and_pid
from aqueue.figures import duration
from aqueue.text import visible
from aqueue.view import WorkerProcess, WorkerProcesses

__all__ = ["Chapter", "Story"]

_MAX_EVENTS: Final = 2_000
_BY_PERSON: Final = (ev.ItemSkipped, ev.ItemCancelled, ev.ItemRescheduled, ev.ItemReopened)


class Chapter(msgspec.Struct, frozen=True):
    """One thing that happened.

    Attributes:
        at: when, Unix time in seconds.
        event: the event; None at the end of an attempt whose process was killed or crashed.
        facts: what the events before it add, such as how long the item waited; safe to show.
    """

    at: float
    event: ev.Event | None
    facts: list[str]


class Story:
    """Collects the events of one item; the middle of a very long story is left out.

    Attributes:
        left_out: how many of its events are left out.
        wait_s: how long it waited, in all, to be started: in the queue, for its next attempt, and between processes.
        work_s: how long its attempts took in all, seconds.
        group: the group in which it waits, or waited last; None for none.
    """

    def __init__(self, item: int) -> None:
        self._item = item
        self._first: list[ev.Event] = []
        self._last: deque[ev.Event] = deque(maxlen=_MAX_EVENTS // 2)
        self.left_out = 0
        self.wait_s = 0.0
        self.work_s = 0.0
        self.group: str | None = None
        self._at = 0.0
        self._crashed_at: dict[int, float] = {}  # the time of the last event before each `run.resumed`, by its number
        self._steered: ev.RunSteered | None = None  # the latest command of this process
        self._steered_by: dict[int, str] = {}  # who let an event happen, by its number
        self._processes = WorkerProcesses()
        self._ran_in: dict[int, WorkerProcess] = {}  # the worker process of each attempt, by the number of its start
        self._runs_since: float | None = None
        self._waits_since: float | None = None

    def apply(self, events: Iterable[ev.Event]) -> None:
        """Fold `events`, which must follow those applied so far."""
        item = self._item
        at = self._at
        for event in events:
            if getattr(event, "item", None) == item:
                self._keep(event)
                is_by_person = isinstance(event, _BY_PERSON) or (isinstance(event, ev.ItemFailed) and not event.worker)
                if is_by_person and self._steered is not None and len(self._steered_by) < _MAX_EVENTS:
                    self._steered_by[event.seq] = self._steered.by
                # Hooks run in the run's own process.
                if isinstance(event, ev.ItemStarted) and event.phase == "process" and len(self._ran_in) < _MAX_EVENTS:
                    process = self._processes.of(event.worker)
                    if process is not None:
                        self._ran_in[event.seq] = process
            elif isinstance(event, ev.RunSteered):
                self._steered = event
            elif isinstance(event, ev.RunStarted | ev.RunFinished | ev.RunEdited):
                self._processes.clear()
                self._steered = None
                if self._first:
                    self._keep(event)
                    self._crashed_at[event.seq] = at
            elif isinstance(event, ev.ProcessJoined):
                self._processes.join(event)
            elif isinstance(event, ev.ProcessLeft):
                self._processes.leave(event)
            at = event.at
        self._at = at

    def _keep(self, event: ev.Event) -> None:
        match event:
            case (
                ev.ItemEnqueued() | ev.ItemRegrouped() | ev.ItemReopened(failed="process") | ev.ItemReopened(rerun=True)
            ):
                self.group = event.group
            case _:
                pass
        if len(self._first) < _MAX_EVENTS // 2:
            self._first.append(event)
            return
        self.left_out += len(self._last) == self._last.maxlen
        self._last.append(event)

    def chapters(self, lost_at: float | None = None, now: float | None = None) -> Iterator[Chapter]:
        """Yield what happened, in order. Call it once.

        Parameters:
            lost_at: the time of the last event, Unix time in seconds, if the process is gone; else None.
            now: the current Unix time, until which a running attempt or wait counts; None if the run has ended.
        """
        crashed_at: float | None = None
        due = 0.0
        for event in (*self._first, *self._last):
            facts: list[str] = []
            match event:
                case ev.ItemEnqueued() | ev.ItemReopened(failed=str()) | ev.ItemReopened(rerun=True):
                    self._waits_since = event.at
                case ev.ItemSkipped():
                    self._end_wait(event.at)
                case ev.ItemRescheduled():
                    due = event.due
                case ev.ItemStarted():
                    facts = list(self._facts_of_start(event, due))
                    self._runs_since, due = event.at, 0.0
                case ev.ItemRetryScheduled() | ev.ItemInterrupted():
                    is_crash = isinstance(event, ev.ItemInterrupted) and event.reason == "crash"
                    # After a crash the event comes only with the resume, which may be a week later.
                    at = crashed_at if is_crash and crashed_at is not None else event.at
                    facts = [f"after {duration(self._end_attempt(at))}"]
                    self._waits_since = at
                    due = event.due if isinstance(event, ev.ItemRetryScheduled) else 0.0
                case ev.ItemCompleted() | ev.ItemFailed() | ev.ItemChildrenProcessed():
                    self._end_attempt(event.at)
                    self._end_wait(event.at)  # if it was cancelled while it waited
                case ev.RunResumed() | ev.RunEdited():
                    crashed_at = self._crashed_at.get(event.seq)
                case _:
                    pass
            if (by := self._steered_by.get(event.seq)) is not None:
                facts.append(f"by {visible(by, 200)}")
            yield Chapter(event.at, event, facts)
        if lost_at is not None and self._runs_since is not None:
            self._end_attempt(lost_at)
            yield Chapter(lost_at, None, ["no more events: the process was killed or crashed"])
        if now is not None:
            if self._runs_since is None:
                self._end_wait(now)
            self._end_attempt(now)

    def _facts_of_start(self, event: ev.ItemStarted, due: float) -> Iterator[str]:
        """Count the wait before an attempt; yield where the attempt runs and how long the wait was."""
        process = self._ran_in.get(event.seq)
        yield f"by worker {event.worker}{f' on {host_and_pid(process)}' if process is not None else ''}"
        if self._waits_since is not None:
            yield f"after waiting {duration(self._end_wait(event.at))}"
            if due and event.at >= due:
                yield f"{duration(event.at - due)} of it for a worker"

    def _end_wait(self, at: float) -> float:
        """Count the wait that ended at the Unix time `at`, if there was one; return how long it took, seconds."""
        waited_s = max(at - self._waits_since, 0.0) if self._waits_since is not None else 0.0
        self.wait_s += waited_s
        self._waits_since = None
        return waited_s

    def _end_attempt(self, at: float) -> float:
        """Count the attempt that ended at the Unix time `at`, if one ran; return how long it took, seconds."""
        worked_s = max(at - self._runs_since, 0.0) if self._runs_since is not None else 0.0
        self.work_s += worked_s
        self._runs_since = None
        return worked_s
