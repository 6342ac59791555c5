"""Reads a whole run at once: its view, its items, its failures and its state."""

import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final, Literal, TypeVar

import msgspec

from aqueue._folds.item_table import STATES, ItemTable, State
from aqueue._folds.outcome import FailureTally
from aqueue._folds.snapshot import Folds
from aqueue._history.history import History, batches
from aqueue._history.process import Liveness, liveness
from aqueue.events import (
    Counts,
    Event,
    GroupLimitChanged,
    GroupPaused,
    ItemDescribed,
    ItemEnqueued,
    ItemFailed,
    ItemReopened,
    ItemRetryScheduled,
    ItemSkipped,
    RunEdited,
    RunPaused,
    RunResumed,
    RunStarted,
    RunWorkersChanged,
)
from aqueue.figures import amount, limit_words, local_minute, person, time_ago
from aqueue.result import FailureGroup
from aqueue.text import short_names, visible
from aqueue.view import RunView

__all__ = [
    "MISFITS",
    "HoldingCommand",
    "ItemTexts",
    "Record",
    "RunState",
    "RunStateName",
    "assess",
    "chunks",
    "live_record",
    "process_ended_at",
    "resume_hint",
    "words_of_command",
]

T = TypeVar("T")

RunStateName = Literal["running", "interrupted", "failed", "completed"]
"""What a run is doing, or how it ended."""

MISFITS: Final = (KeyError, IndexError)
"""What folding raises if the events after a snapshot don't fit it: a journal's first event is where they can be repaired."""

_STARTS: Final = {RunStarted, RunResumed}
_TALLIED: Final = {ItemFailed, ItemReopened, ItemSkipped}

_CHUNK_FAILURES: Final = 2_000
_CHUNK_TEXTS: Final = 100
"""How many items' texts are read at once: what they were enqueued with may be large."""

_TEXTS: Final = ("enqueued_seq", "described_seq", "failed_seq")
"""The columns with the numbers of the events that have an item's texts."""

_RECENT_S = 60.0
"""How long a run on another machine may record nothing and still count as running."""


class RunState(msgspec.Struct, frozen=True):
    """The state of a run, and how it is known.

    Attributes:
        name: the state.
        why: what a person should know about it; safe to show, empty if the name says it all.
        liveness: whether its last process is still there; None if the run has recorded its end.
    """

    name: RunStateName
    why: str
    liveness: Liveness | None = None


class ItemTexts(msgspec.Struct):
    """What an item's events say in words; not made safe.

    Attributes:
        key: its key; None if it has none.
        description: its last description; empty if it has none.
        failure: what its last failed attempt raised; None if none failed.
    """

    key: str | None = None
    description: str = ""
    failure: ItemFailed | ItemRetryScheduled | None = None

    @property
    def label(self) -> str:
        """Its description, or else its key."""
        return self.description or self.key or ""


class Record:
    """A run as it is recorded, read to its end.

    Attributes:
        history: from which it was read.
        view: the run as reporters see it.
        items: its items, a row each.
        is_whole: whether all items are among them; if not, those that have ended well may be missing.
        lacks_texts: whether those texts may be missing that items had before they ended and ran again.
        started: with which event its last process began or resumed it; None if a log lacks that.
        begun_at: when its first process began, as far as is recorded, Unix time in seconds.
        num_processes: how many processes have run it.
        now: when it was read, Unix time in seconds; not before its last event.
        state: the state of the run.
        until: until when the run's time counts, Unix time in seconds: now, or until its last event.
        names: the short name of each item type, safe to show.
    """

    def __init__(
        self,
        history: History,
        on_events: Callable[[list[Event]], None] | None = None,
        *,
        folds: Folds | None = None,
        again: Sequence[Event] = (),
        view: RunView | None = None,
    ) -> None:
        """Read `history`.

        Parameters:
            history: the run, of which nothing has been read yet.
            on_events: called with each batch of events, for another fold.
            folds: the state of the run where `history` begins, if that is a snapshot. Then `items` has only the items that were
                live there, and later ones.
            again: all events up to there of some items, which may have ended; they are among `items`, too.
            view: the run as it was at some event, if that is known: the earlier ones are folded into the other parts only.

        Raises:
            JournalError, CannotRead: it can't be read.
        """
        self.history = history
        self.view = RunView() if view is None else view
        self.items = ItemTable()
        self.is_whole = folds is None
        self.lacks_texts = folds is not None and bool(folds.recording.facts.forgotten_below)
        self.started: RunStarted | None = None
        self.begun_at = 0.0
        self.num_processes = 0
        self._tally = FailureTally()
        self._has_tallied_all = view is None
        if folds is not None:
            self._begin_with(folds, again)
        for events in batches(history):
            if view is None:
                self.view.apply(events)
            elif events and events[-1].seq > view.seq:
                view.apply([event for event in events if event.seq > view.seq])
            self.items.apply(events)
            if on_events is not None:
                on_events(events)
            types = set(map(type, events))  # a tenth of the time that it takes to look at each event
            if not types.isdisjoint(_TALLIED):
                self._tally.apply(events)
            if not types.isdisjoint(_STARTS):
                self._note_starts(events)
        # The clock may be behind the last event: set back since, or another machine's. Without this, a wait would seem to
        # last until the clock has caught up.
        self.now = max(time.time(), self.view.at)
        self.state = assess(self.view, self.started, history, self.now)
        if self.state.name != "running":
            self.items.lose_workers()
        self.until = self.now if self.state.name == "running" else self.view.at
        self.names = {type: visible(name, 200) for type, name in short_names(list(self.view.types)).items()}

    @property
    def ended_at(self) -> float:
        """When the last process ended, Unix time in seconds, as far as is recorded. Commands that follow don't count."""
        return process_ended_at(self.view, self.until)

    def _begin_with(self, folds: Folds, again: Sequence[Event]) -> None:
        """Read the events that say what state each live item is in, and which processes there were."""
        self.view = folds.view
        self._has_tallied_all = False
        seqs = folds.recording.latest_seqs()
        if again:
            seqs = sorted({*seqs, *(event.seq for event in again)})
        for chunk in chunks(seqs, _CHUNK_FAILURES):
            found = self.history.events_at(chunk)
            events = [found[seq] for seq in chunk if seq in found]
            folded = 0
            for place, event in enumerate(events):
                if isinstance(event, RunResumed | RunEdited):  # the process before it ended at the event before
                    self.items.apply(events[folded:place])
                    folded = place
                    before = self.history.events_at([event.seq - 1]).get(event.seq - 1)
                    self.items.last_at = self.items.last_at if before is None else before.at  # or of an unknown type
            self.items.apply(events[folded:])
            self._note_starts(events)
        self.items.last_at = folds.recording.facts.last_at

    def _note_starts(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, RunStarted):
                self.started = event
                self.begun_at = self.begun_at or event.at
                self.num_processes += 1

    def counts(self) -> dict[tuple[str, State], int]:
        """Return how many items of each type are in each state; states without items are left out."""
        items = self.items
        counts = {(items.types[number], state): count for (number, state), count in items.counts().items()}
        for name, of_type in self.view.types.items():  # which has those that have ended well, too
            counts[name, "skipped"] = of_type.skipped
            others = sum(counts.get((name, state), 0) for state in STATES if state != "completed")
            counts[name, "completed"] = of_type.enqueued - others
        return {key: count for key, count in counts.items() if count}

    def name_of(self, row: int) -> str:
        """Return the short name of the type of the item in a row, safe to show."""
        return self.names[self.items.type_of(row)]

    def has_item(self, item: int) -> bool:
        """Return whether the run has an item with this number, also if that isn't among `items`."""
        if self.items.row_of(item) is not None:
            return True
        # In a journal, from which alone they may be missing, numbers follow each other.
        return not self.is_whole and 0 < item <= self.view.counts.enqueued

    def command(self, *words: str) -> str:
        """Return the command line, safe to show, that runs another subcommand on this file."""
        file = str(self.history.path) if self.history.path is not None else "-"
        if len(file) > 1 and file.startswith("-"):
            file = f"./{file}"
        return visible(f"aqueue {shlex.join((words[0], file, *words[1:]))}", 1_000)

    def failure_groups(self) -> tuple[FailureGroup, ...]:
        """Return the failures of items that are failed now, by kind, the most numerous first."""
        if not self.view.counts.failed:
            return ()
        tally = self._tally
        if not self._has_tallied_all or not tally.has_all_examples:
            tally = FailureTally()
            tally.apply(self._failures())
        return tally.groups()

    def _failures(self) -> Iterator[ItemFailed]:
        """Read the failures of all failed items again, in their order."""
        seqs = sorted(self.items.failed_seq[row] for row in self.items.rows_in(("failed",)))
        for chunk in chunks(seqs, _CHUNK_FAILURES):
            found = self.history.events_at(chunk)
            for seq in chunk:
                event = found.get(seq)
                if isinstance(event, ItemFailed):
                    yield event

    def duration_s(self, row: int) -> float:
        """Return how long the item in a row took, or has taken by now, process and hook of its last round, seconds."""
        items = self.items
        if items.state_of(row) != "running":
            return items.duration_s[row]
        return max(self.now - items.started_at[row], 0.0) + (items.duration_s[row] if items.is_in_hook(row) else 0.0)

    def texts(self, rows: Iterable[int], columns: Sequence[str] = _TEXTS) -> Iterator[tuple[int, ItemTexts]]:
        """Yield each row with the texts of its item, read again; those of about a hundred items are in memory at a time.

        Parameters:
            rows: the rows.
            columns: by which columns of `items` the texts are found; by default all.
        """
        seqs_by_column = [getattr(self.items, name) for name in columns]
        for chunk in chunks(rows, _CHUNK_TEXTS):
            found = self.history.events_at({seqs[row] for row in chunk for seqs in seqs_by_column} - {0})
            for row in chunk:
                texts = ItemTexts()
                for seqs in seqs_by_column:
                    match found.get(seqs[row]):
                        case ItemEnqueued(key=key):
                            texts.key = key
                        case ItemDescribed(text=text):
                            texts.description = text
                        case ItemFailed() | ItemRetryScheduled() as failure:
                            texts.failure = failure
                        case _:
                            pass
                yield row, texts


def live_record(history: History) -> Record:
    """Return the run, perhaps without items that have ended well: then most of its events needn't be read."""
    folds = history.start_at_snapshot()
    if folds is not None:
        with suppress(*MISFITS):
            return Record(history, folds=folds)
        history.rewind()
    return Record(history)


def chunks(rows: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    """Yield `rows` in lists of `size`, the last of which may be shorter."""
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk


def assess(view: RunView, started: RunStarted | None, history: History, now: float) -> RunState:
    """Return the state of a run.

    Parameters:
        view: folded from all its events.
        started: the last event with which a process began or resumed it; None if the log lacks that.
        history: from which all was read.
        now: Unix time in seconds.
    """
    if view.state == "finished" and view.status is not None:
        return RunState(view.status, visible(view.stop_reason, 200))
    if started is None or not started.run_id:
        return RunState("interrupted", "the log doesn't say which process runs it")
    process = f"pid {started.pid}"
    alive = liveness(started, history.path if history.is_journal else None)
    if alive == "alive":
        stopping = f", stopping: {visible(view.stop_reason, 200)}" if view.state == "stopping" else ""
        return RunState("running", f"{process}{stopping}", alive)
    silence = f"last event {time_ago(now - view.at)}"
    if alive == "elsewhere":
        process = f"{process} on {visible(started.host, 100)}, which can't be checked from here"
        return RunState("running" if now - view.at < _RECENT_S else "interrupted", f"{process}; {silence}", alive)
    return RunState("interrupted", f"{process} is gone (killed or crashed); {silence}", alive)


def process_ended_at(view: RunView, until: float) -> float:
    """Return when the last process ended, as far as is recorded, Unix time in seconds. Commands that follow don't count.

    Parameters:
        view: the run.
        until: until when the run's time counts, Unix time in seconds.
    """
    return view.started_at + view.elapsed_s(until) - view.earlier_s if view.started_at else view.at


def resume_hint(history: History, counts: Counts, num_cancelled: int = 0) -> str:
    """Return how to resume an unfinished run, safe to show.

    Parameters:
        history: from which it was read.
        counts: of the run.
        num_cancelled: how many of the failed items a person has cancelled: no resume runs these again.
    """
    if history.path is None or not history.is_journal:
        return "a log can't be resumed; to resume runs, record a journal with run_queue(resume=…)"
    what = "to resume,"
    if counts.enqueued and not counts.outstanding:
        items = "item" if counts.failed == 1 else "items"
        if not counts.failed:
            what = "to finish (hooks may be left),"  # such as those above an item whose failure was skipped
        elif counts.failed > num_cancelled:
            what = f"to retry the failed {items},"
        else:
            what = f"to retry the cancelled {items}, use aqueue retry; then"
    return f"{what} run the same program again (journal {visible(str(history.path), 1_000)})"


HoldingCommand = RunPaused | GroupPaused | RunWorkersChanged | GroupLimitChanged
"""What a person has set, and still holds."""


def words_of_command(event: HoldingCommand, now: float) -> str:
    """Return what a person has set, when and who it was; not made safe to show.

    Parameters:
        event: by which it was set.
        now: when it is read, Unix time in seconds.
    """
    who = f"{local_minute(event.at, now)} by {person(event.by)}"
    match event:
        case RunPaused():
            return f"paused {who}"
        case GroupPaused():
            return f"{event.group} paused {who}"
        case RunWorkersChanged():
            workers = f"{amount(event.num_workers)} worker{'' if event.num_workers == 1 else 's'}"
            return f"{workers}, set {who} (program: {amount(event.program)})"
        case GroupLimitChanged():
            limit = limit_words(event.concurrent, event.per_second) or "no limit"
            own = event.program
            program = "" if own is None else f" (program: {limit_words(own.concurrent, own.per_second) or 'no limit'})"
            return f"{event.group} {limit}, set {who}{program}"
