"""Tells the history of one item: what happened when, and how long it waited in between, and for what."""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, Literal, get_args

import msgspec

from aqueue import events as ev
from aqueue._history.event_words import Part, details, host_and_pid, name_of, why_interrupted
from aqueue.figures import duration
from aqueue.text import visible
from aqueue.view import InForce, WorkerProcess, WorkerProcesses

__all__ = ["Act", "Chapter", "Story", "WaitReason", "acts_of", "words_of"]

WaitReason = Literal["queue", "retry", "paused", "no_process"]
"""Why an item waited: no events tell whether it waited in the queue for a worker, for its group's limit or for its parent."""

_Span = tuple[float, float]
"""From when until when, Unix time in seconds."""

_MAX_EVENTS: Final = 2_000
_PAUSES: Final = (ev.RunPaused, ev.GroupPaused)
_BY_PERSON: Final = (ev.ItemSkipped, ev.ItemCancelled, ev.ItemRescheduled, ev.ItemReopened)


class Chapter(msgspec.Struct, frozen=True):
    """One thing that happened.

    Attributes:
        at: when, Unix time in seconds.
        event: the event; None at the end of an attempt whose process was killed or crashed.
        facts: what the events before it add, such as how long the item waited; safe to show.
        took_s: how long the attempt took that ended with it, seconds; None if none did.
    """

    at: float
    event: ev.Event | None
    facts: list[str]
    took_s: float | None = None


class Story:
    """Collects the events of one item; the middle of a very long story is left out.

    Attributes:
        left_out: how many of its events are left out.
        waits_s: how long it waited to be started for which reason, seconds.
        work_s: how long its attempts took in all, seconds.
        group: the group in which it waits, or waited last; None for none.
    """

    def __init__(self, item: int) -> None:
        self._item = item
        self._first: list[ev.Event] = []
        self._last: deque[ev.Event] = deque(maxlen=_MAX_EVENTS // 2)
        self.left_out = 0
        self.waits_s: dict[WaitReason, float] = dict.fromkeys(get_args(WaitReason), 0.0)
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
        self._due = 0.0  # until when it waits to be retried
        self._waits_in: str | None = None  # the group in which it waits; None for none, and for its hook
        self._grouped_at = 0.0  # since when
        self._stops: list[_Span] = []  # when no process ran
        self._paused_at: dict[str | None, float] = {}  # since when groups are paused, and None for the run
        self._pauses: list[tuple[str | None, _Span]] = []  # of which group, or None for the run

    @property
    def wait_s(self) -> float:
        """How long it waited in all, seconds."""
        return sum(self.waits_s.values())

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
            elif isinstance(event, _PAUSES):
                self._paused_at[getattr(event, "group", None)] = event.at
            elif isinstance(event, ev.RunUnpaused | ev.GroupUnpaused):
                group = getattr(event, "group", None)
                # Of what was paused before the item was enqueued, the beginning may not be among the events.
                since = self._paused_at.pop(group, 0.0)
                if self._first and len(self._pauses) < _MAX_EVENTS:
                    self._pauses.append((group, (since, event.at)))
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

    def chapters(
        self, lost_at: float | None = None, now: float | None = None, in_force: InForce | None = None
    ) -> Iterator[Chapter]:
        """Yield what happened, in order. Call it once.

        Parameters:
            lost_at: the time of the last event, Unix time in seconds, if the process is gone; else None.
            now: the current Unix time, until which a running attempt or wait counts; None if the run has ended, and waits with it.
            in_force: which pauses hold at the end; None if none does.
        """
        for pause in in_force.events if in_force is not None else ():
            if isinstance(pause, _PAUSES):
                self._pauses.append((getattr(pause, "group", None), (pause.at, math.inf)))
        crashed_at: float | None = None
        for number, event in enumerate((*self._first, *self._last)):
            if self.left_out and number == len(self._first):
                self._runs_since = self._waits_since = None  # what was left out may have ended it
            facts: list[str] = []
            took_s: float | None = None
            match event:
                case ev.ItemEnqueued() | ev.ItemReopened(failed=str()) | ev.ItemReopened(rerun=True):
                    self._waits_since = event.at
                    self._waits_in, self._grouped_at = event.group, event.at
                case ev.ItemSkipped():
                    self._end_wait(event.at)
                case ev.ItemRescheduled():
                    self._due = event.due
                case ev.ItemRegrouped():
                    self._waits_in, self._grouped_at = event.group, event.at
                case ev.ItemStarted():
                    facts = list(self._facts_of_start(event))
                    self._runs_since = event.at
                case ev.ItemRetryScheduled() | ev.ItemInterrupted():
                    is_crash = isinstance(event, ev.ItemInterrupted) and event.reason == "crash"
                    # After a crash the event comes only with the resume, which may be a week later.
                    at = crashed_at if is_crash and crashed_at is not None else event.at
                    took_s = self._end_attempt(at)
                    facts = [f"after {duration(took_s or 0.0)}"]
                    self._waits_since = at
                    self._waits_in = None if event.phase == "after_children" else self._waits_in
                    self._due = event.due if isinstance(event, ev.ItemRetryScheduled) else 0.0
                case ev.ItemCompleted() | ev.ItemFailed() | ev.ItemChildrenProcessed():
                    took_s = self._end_attempt(event.at)
                    self._end_wait(event.at)  # if it was cancelled while it waited
                case ev.RunResumed() | ev.RunEdited():
                    crashed_at = self._crashed_at[event.seq]
                    self._stops.append((crashed_at, event.at))
                case _:
                    pass
            if (by := self._steered_by.get(event.seq)) is not None:
                facts.append(f"by {visible(by, 200)}")
            yield Chapter(event.at, event, facts, took_s)
        if lost_at is not None and self._runs_since is not None:
            took_s = self._end_attempt(lost_at)
            yield Chapter(lost_at, None, ["no more events: the process was killed or crashed"], took_s)
        end = self._at if now is None else now
        self._end_wait(end)
        self._end_attempt(end)

    def _facts_of_start(self, event: ev.ItemStarted) -> Iterator[str]:
        """Count the wait before an attempt; yield where the attempt runs and how long the wait was."""
        process = self._ran_in.get(event.seq)
        yield f"by worker {event.worker}{f' on {host_and_pid(process)}' if process is not None else ''}"
        if self._waits_since is not None:
            due = self._due
            yield f"after waiting {duration(self._end_wait(event.at))}"
            if due and event.at >= due:
                yield f"{duration(event.at - due)} of it since it was due"

    def _end_wait(self, at: float) -> float:
        """Count the wait that ended at the Unix time `at`, if there was one; return how long it took, seconds."""
        since, due = self._waits_since, self._due
        self._waits_since, self._due = None, 0.0
        if since is None or at <= since:
            return 0.0
        paused: list[_Span] = []
        for group, (begin, end) in self._pauses:
            if group is None:
                paused.append((begin, end))
            elif group == self._waits_in and end > self._grouped_at:
                paused.append((max(begin, self._grouped_at), end))
        left = [(since, at)]
        reasons: tuple[tuple[WaitReason, list[_Span]], ...] = (
            ("no_process", self._stops),
            ("retry", [(since, max(due, since))]),
            ("paused", paused),
        )
        for reason, spans in reasons:
            before_s = _length(left)
            left = _without(left, spans)
            self.waits_s[reason] += before_s - _length(left)
        self.waits_s["queue"] += _length(left)
        return at - since

    def _end_attempt(self, at: float) -> float | None:
        """Count the attempt that ended at the Unix time `at`; return how long it took, seconds, or None if none ran."""
        if self._runs_since is None:
            return None
        worked_s = max(at - self._runs_since, 0.0)
        self.work_s += worked_s
        self._runs_since = None
        return worked_s


class Act(msgspec.Struct):
    """An attempt at an item, or what a person or a resume did to it.

    Attributes:
        at: when it began, Unix time in seconds.
        what: what it was, and what came of it; not made safe to show.
        number: which attempt it was; empty for none.
        error: what it raised; None for nothing.
        ended_at: when it ended; None for an attempt that runs.
    """

    at: float
    what: list[Part]
    number: str = ""
    error: ev.ErrorInfo | None = None
    ended_at: float | None = None


_OTHER_ACTS: Final = (
    ev.ItemAdopted,
    ev.ItemCancelled,
    ev.ItemChildrenFailed,
    ev.ItemFailed,
    ev.ItemInterrupted,
    ev.ItemReopened,
    ev.ItemRescheduled,
    ev.ItemSkipped,
)
"""What is shown among the attempts."""


def acts_of(chapters: Iterable[Chapter], now: float) -> list[Act]:
    """Return an item's attempts and what else was done to it, in order.

    Parameters:
        chapters: its story.
        now: until when an attempt that has not ended counts, Unix time in seconds.
    """
    acts: list[Act] = []
    attempt: Act | None = None
    for chapter in chapters:
        event = chapter.event
        if isinstance(event, ev.ItemStarted):
            number = "" if event.phase == "process" else "hook" if event.attempt == 1 else "hook "
            number += str(event.attempt) if number != "hook" else ""
            attempt = Act(event.at, [("plain", "…")], number)
            acts.append(attempt)
        elif attempt is not None and (end := _end_of(chapter)) is not None:
            if chapter.took_s is not None:  # else the end of this attempt is left out
                name, why = end
                took = duration(getattr(event, "duration_s", chapter.took_s))
                attempt.what = [name, ("plain", f" after {took}{why}")]
                attempt.error = getattr(event, "error", None)
            attempt.ended_at = chapter.at
            attempt = None
        elif isinstance(event, _OTHER_ACTS):
            acts.append(Act(event.at, words_of(chapter), ended_at=event.at))
    if attempt is not None:
        attempt.what = [("busy", f"running for {duration(max(now - attempt.at, 0.0))}")]
    return acts


def _end_of(chapter: Chapter) -> tuple[Part, str] | None:
    """Return how an attempt ended, and why; None if it didn't."""
    match chapter.event:
        case None:
            return ("warning", "interrupted"), ", the process was killed or crashed"
        case ev.ItemInterrupted() as event:
            return ("warning", "interrupted"), f", {why_interrupted(event)}"
        case ev.ItemRetryScheduled():
            return ("warning", "failed"), ""
        case ev.ItemFailed():
            return ("error", "failed"), ""
        case ev.ItemCompleted() | ev.ItemChildrenProcessed():
            return ("good", "completed"), ""
        case _:
            return None


def words_of(chapter: Chapter) -> list[Part]:
    """Return what happened, in the words of `aqueue tail`, with what the rest of the story adds; not made safe to show."""
    facts = ", ".join(chapter.facts)
    if chapter.event is None:
        return [("warning", facts)]
    parts = details(chapter.event)
    added = f" {facts}{', ' if any(part for _, part in parts) else ''}" if facts else " "
    return [name_of(chapter.event), ("plain", added), *parts]


def _without(spans: list[_Span], others: list[_Span]) -> list[_Span]:
    """Return what is left of some spans of time without `others`."""
    for begin, end in others:
        pieces = (piece for first, last in spans for piece in ((first, min(last, begin)), (max(first, end), last)))
        spans = [(first, last) for first, last in pieces if first < last]
    return spans


def _length(spans: list[_Span]) -> float:
    return sum(end - begin for begin, end in spans)
