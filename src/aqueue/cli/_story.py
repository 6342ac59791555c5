"""Tells the history of one item in sentences: what happened, when, and how long it waited in between."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

import msgspec

from aqueue.cli._screen import error_summary, host_and_pid
from aqueue.events import (
    ErrorInfo,
    Event,
    GroupSlowedDown,
    ItemAdopted,
    ItemChildrenFailed,
    ItemChildrenProcessed,
    ItemCompleted,
    ItemDescribed,
    ItemEnqueued,
    ItemFailed,
    ItemInterrupted,
    ItemReopened,
    ItemRetryScheduled,
    ItemStarted,
    Phase,
    ProcessJoined,
    ProcessLeft,
    RunFinished,
    RunResumed,
    RunStarted,
)
from aqueue.figures import amount, duration
from aqueue.text import visible
from aqueue.view import WorkerProcess, WorkerProcesses

__all__ = ["Chapter", "Story"]

_MAX_EVENTS: Final = 2_000
_ENDS: Final = {"completed": "completed", "failed": "failed", "interrupted": "was interrupted"}
_MAX_TEXT_CHARS: Final = 500


class Chapter(msgspec.Struct, frozen=True):
    """One thing that happened.

    Attributes:
        at: when, Unix time in seconds.
        event: the event's name.
        text: what, in words; safe to show.
        tone: how it is to be taken.
        error: what was raised, if that is what happened.
    """

    at: float
    event: str
    text: str
    tone: Literal["", "good", "bad", "odd", "quiet"] = ""
    error: ErrorInfo | None = None


class Story:
    """Collects the events of one item; of a very long story the middle is left out.

    Attributes:
        left_out: how many of its events are left out.
        wait_s: how long it waited, in all, to be started: in the queue, for its next attempt, and between processes.
        work_s: how long its attempts took in all, seconds.
    """

    def __init__(self, item: int) -> None:
        self._item = item
        self._first: list[Event] = []
        self._last: deque[Event] = deque(maxlen=_MAX_EVENTS // 2)
        self.left_out = 0
        self.wait_s = 0.0
        self.work_s = 0.0
        self._is_named = False
        self._at = 0.0
        self._last_heard_at: dict[
            int, float
        ] = {}  # the time of the last event before each `run.resumed`, by its number
        self._processes = WorkerProcesses()
        self._ran_in: dict[int, WorkerProcess] = {}  # the worker process of each attempt, by the number of its start

    def apply(self, events: Iterable[Event]) -> None:
        """Fold `events`, which must follow those applied so far."""
        item = self._item
        at = self._at
        for event in events:
            if getattr(event, "item", None) == item:
                self._is_named = True
                self._keep(event)
                if isinstance(event, ItemStarted):
                    self._note_process(event)
            elif isinstance(event, RunStarted | RunFinished):
                self._processes.clear()
                if self._is_named:
                    self._keep(event)
                    self._last_heard_at[event.seq] = at
            elif isinstance(event, ProcessJoined):
                self._processes.join(event)
            elif isinstance(event, ProcessLeft):
                self._processes.leave(event)
            at = event.at
        self._at = at

    def _note_process(self, event: ItemStarted) -> None:
        # Hooks run in the run's own process.
        process = self._processes.of(event.worker) if event.phase == "process" else None
        if process is not None and len(self._ran_in) < _MAX_EVENTS:
            self._ran_in[event.seq] = process

    def _keep(self, event: Event) -> None:
        if len(self._first) < _MAX_EVENTS // 2:
            self._first.append(event)
            return
        self.left_out += len(self._last) == self._last.maxlen
        self._last.append(event)

    def chapters(self, lost_at: float | None = None, now: float | None = None) -> Iterator[Chapter]:
        """Yield what happened, in order; once.

        Parameters:
            lost_at: when its process was last heard of, Unix time in seconds, if that has ended without a word; else None.
            now: Unix time in seconds, until which what goes on now has taken; None if nothing goes on.
        """
        writer = _ChapterWriter(self._last_heard_at, self._ran_in)
        for event in (*self._first, *self._last):
            chapter = writer.chapter_of(event)
            if chapter is not None:
                yield chapter
        if lost_at is not None and writer.runs_since is not None:
            writer.end_attempt(lost_at)
            yield Chapter(lost_at, "", "nothing more: the process was killed, or it crashed", "odd")
        if now is not None:
            writer.go_on_until(now)
        self.wait_s, self.work_s = writer.wait_s, writer.work_s


class _ChapterWriter:
    """Writes a chapter for each event, with the durations since those before."""

    def __init__(self, last_heard_at: Mapping[int, float], ran_in: Mapping[int, WorkerProcess]) -> None:
        self._last_heard_at = last_heard_at
        self._ran_in = ran_in
        self._crashed_at: float | None = None
        self.wait_s = 0.0
        self.work_s = 0.0
        self.runs_since: float | None = None
        self._waits_since: float | None = None
        self._due = 0.0
        self._had_hook = False
        self._was_elsewhere = False  # whether its last attempt was in a worker process of a cluster

    def chapter_of(self, event: Event) -> Chapter | None:
        """Return the chapter of an event; None for one that is left out."""
        match event:
            case ItemEnqueued():
                self._waits_since = event.at
                return Chapter(event.at, event.event, _enqueued(event))
            case ItemStarted():
                return Chapter(event.at, event.event, self._start(event))
            case ItemDescribed():
                return Chapter(event.at, event.event, f"“{visible(event.text, _MAX_TEXT_CHARS)}”", "quiet")
            case ItemCompleted() | ItemFailed() | ItemRetryScheduled() | ItemInterrupted():
                return self._end(event)
            case _:
                return self._chapter_of_rare(event)

    def _chapter_of_rare(self, event: Event) -> Chapter | None:
        match event:
            case ItemChildrenProcessed():
                self.end_attempt(event.at)
                hook = ", and its hook returned" if self._had_hook else ""
                return Chapter(event.at, event.event, f"everything below it has succeeded{hook}", "good")
            case ItemChildrenFailed():
                return Chapter(event.at, event.event, "something below it has failed, so its hook is not run", "bad")
            case ItemReopened():
                if event.failed is not None:
                    self._waits_since = event.at
                return Chapter(event.at, event.event, _reopened(event))
            case ItemAdopted():
                text = "enqueued again with other attributes: it runs with these"
                if event.key is not None:
                    text = f"enqueued again; its key is {visible(event.key, 200)!r} now"
                return Chapter(event.at, event.event, text)
            case GroupSlowedDown():
                text = f"paused group {visible(event.group, 200)} for {duration(event.due - event.at)}"
                return Chapter(event.at, event.event, text, "odd")
            case RunResumed():
                self._crashed_at = self._last_heard_at.get(event.seq)
                return Chapter(event.at, event.event, f"the run was resumed (pid {event.pid})", "quiet")
            case RunFinished():
                return Chapter(event.at, event.event, f"the process ended, and the run {_ENDS[event.status]}", "quiet")
            case _:
                return None

    def _start(self, event: ItemStarted) -> str:
        """Begin an attempt, and say so."""
        waited_s = event.at - self._waits_since if self._waits_since is not None else None
        late_s = event.at - self._due if self._due else -1.0
        self._had_hook = self._had_hook or event.phase == "after_children"
        self._waits_since, self.runs_since, self._due = None, event.at, 0.0
        process = self._ran_in.get(event.seq)
        self._was_elsewhere = process is not None
        on = f" on {host_and_pid(process)}" if process is not None else ""
        words = [f"{'its hook ' if event.phase == 'after_children' else ''}started by worker {event.worker}{on}"]
        if event.attempt > 1:
            words.append(f"attempt {event.attempt}")
        if waited_s is not None:
            self.wait_s += waited_s
            words.append(f"after a wait of {duration(waited_s)}")
            if late_s >= 0:
                words.append(f"{duration(late_s)} of it for a worker")
        return ", ".join(words)

    def _end(self, event: ItemCompleted | ItemFailed | ItemRetryScheduled | ItemInterrupted) -> Chapter:
        ended_at = event.at
        if isinstance(event, ItemInterrupted) and event.reason == "crash" and self._crashed_at is not None:
            ended_at = self._crashed_at  # the event comes only with the resume, which may be a week later
        worked_s = self.end_attempt(ended_at)
        if isinstance(event, ItemRetryScheduled | ItemInterrupted):
            self._waits_since = ended_at
        if isinstance(event, ItemRetryScheduled):
            self._due = event.due
        return _ended(event, worked_s, was_elsewhere=self._was_elsewhere)

    def go_on_until(self, now: float) -> None:
        """Count what goes on, work or a wait, until the Unix time `now`."""
        if self.runs_since is None and self._waits_since is not None:
            self.wait_s += max(now - self._waits_since, 0.0)
        self.end_attempt(now)

    def end_attempt(self, at: float) -> float:
        """Note that an attempt, if there is one, ended at the Unix time `at`; return how long it took, seconds."""
        worked_s = max(at - self.runs_since, 0.0) if self.runs_since is not None else 0.0
        self.work_s += worked_s
        self.runs_since = None
        return worked_s


def _enqueued(event: ItemEnqueued) -> str:
    by = f"by item {event.parent}" if event.parent else "as an initial item"
    key = f", with the key {visible(event.key, 200)}" if event.key is not None else ""
    again = f", the {event.occurrence + 1}. like it" if event.occurrence else ""
    return f"enqueued {by}{key}{again}"


def _bytes(number: int) -> str:
    return f"{amount(number)} byte{'' if number == 1 else 's'}"


def _phase(phase: Phase) -> str:
    return "process" if phase == "process" else "its hook"


def _ended(
    event: ItemCompleted | ItemFailed | ItemRetryScheduled | ItemInterrupted, worked_s: float, *, was_elsewhere: bool
) -> Chapter:
    match event:
        case ItemCompleted():
            dropped = f"; {amount(event.deduplicated)} children dropped as known" if event.deduplicated else ""
            result = "" if not event.result else f", with a result of {_bytes(len(bytes(event.result)))}"
            return Chapter(event.at, event.event, f"completed in {duration(event.duration_s)}{result}{dropped}", "good")
        case ItemFailed():
            text = f"failed for good in {_phase(event.phase)} after {duration(event.duration_s)}: {error_summary(event.error.type, event.error.message, _MAX_TEXT_CHARS)}"
            return Chapter(event.at, event.event, text, "bad", event.error)
        case ItemRetryScheduled():
            wait = duration(event.due - event.at)
            text = f"raised in {_phase(event.phase)} after {duration(worked_s)}, to be tried again after {wait}: {error_summary(event.error.type, event.error.message, _MAX_TEXT_CHARS)}"
            return Chapter(event.at, event.event, text, "odd", event.error)
    reasons = {
        "cancelled": "it was cancelled, as the run was stopped",
        "crash": "its process had ended without a word",
        "worker_lost": "its worker process is gone" if was_elsewhere else "what became of it isn't recorded",
    }
    text = f"cut short in {_phase(event.phase)}: {reasons[event.reason]}"
    return Chapter(event.at, event.event, text, "odd")


def _reopened(event: ItemReopened) -> str:
    if event.failed is None:
        return "opened again, since something below it that had failed is run again"
    return f"opened again: {_phase(event.failed)}, which had failed, is run again"
