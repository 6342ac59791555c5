"""Reads a recorded run, puts it back into an engine, and says so to the user."""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from aqueue._codec.item_codec import PayloadCodec
from aqueue._codec.results import decode_root_results
from aqueue._engine.adoption import RecordedChildren
from aqueue._engine.engine import Engine
from aqueue._engine.item_class import ItemClass, key_of, look_up_class
from aqueue._engine.payloads import Payloads
from aqueue._engine.restored_run import Change
from aqueue._engine.tree import unlink
from aqueue._folds.ended_items import ended_items
from aqueue._folds.recording import ROOT, Ended
from aqueue._folds.snapshot import GROWING, Folds, all_restored
from aqueue._resume.live_items import LiveItems
from aqueue._resume.plan import plan_of
from aqueue._resume.restoring import Restoring
from aqueue._system.notice import say, stderr_is_terminal, warn
from aqueue.errors import JournalDamaged
from aqueue.events import Event, ItemAdopted
from aqueue.result import RunResult
from aqueue.text import visible

__all__ = ["Past", "fold_recorded", "read_past"]


class RecordedEvents(Protocol):
    """The part of `aqueue._journal.writer.Journal` that is used here."""

    @property
    def path(self) -> Path: ...
    @property
    def last_seq(self) -> int: ...
    def snapshots(self, growing: Sequence[str]) -> Iterable[tuple[int, Iterable[tuple[str, bytes]]]]: ...
    def recorded(self, *, after: int) -> Iterable[list[Event]]: ...
    def events_at(self, seqs: Sequence[int]) -> Iterable[Event]: ...


def read_past(
    journal: RecordedEvents,
    check_interrupt: Callable[[], None],
    runs_again: Callable[[str], object] = lambda _: True,
    spill_after: int | None = None,
) -> "Past":
    """Read the run in `journal`, and restore its live items with today's classes.

    Parameters:
        journal: the recorded events.
        check_interrupt: called from time to time; raises if the user has pressed Ctrl-C.
        runs_again: returns whether failed items of a class, named as today, run again.
        spill_after: how many waiting items are kept in memory; None for all.

    Raises:
        JournalError: an event can't be read.
        UnknownItemType, PayloadMismatch: see `LiveItems.restore`.
    """
    folds = fold_recorded(journal, check_interrupt)
    return Past(folds, journal.events_at, partial(_read, journal, check_interrupt), runs_again, spill_after)


def _read(journal: RecordedEvents, check_interrupt: Callable[[], None]) -> Iterator[list[Event]]:
    for events in journal.recorded(after=0):
        check_interrupt()
        yield events


def fold_recorded(journal: RecordedEvents, check_interrupt: Callable[[], None] = lambda: None) -> Folds:
    """Return the state of the run in `journal`: that in its last usable snapshot, and the events after it.

    Parameters:
        journal: the recorded events.
        check_interrupt: called from time to time; raises if the user has pressed Ctrl-C.

    Raises:
        JournalError: an event can't be read.
    """
    for folds in all_restored(journal.snapshots(GROWING)):
        with suppress(KeyError):  # it doesn't fit the events after it
            _fold(journal, check_interrupt, folds)
            return folds
    folds = Folds()
    try:
        _fold(journal, check_interrupt, folds)
    except KeyError as error:
        after = folds.recording.facts.last_seq
        raise JournalDamaged(
            f"the journal {visible(str(journal.path), 1_000)} can't be resumed: an event after event {after:,} names an item, "
            f"a worker or a type ({error}) that no earlier event announced; restore it from a copy"
        ) from error
    return folds


def _fold(journal: RecordedEvents, check_interrupt: Callable[[], None], folds: Folds) -> None:
    """Fold all events after those in `folds`."""
    facts = folds.recording.facts
    for events in journal.recorded(after=facts.last_seq):
        check_interrupt()
        folds.apply(events)
    facts.last_seq = journal.last_seq  # `recorded` leaves out events of unknown types


class Past:
    """A recorded run, with today's classes.

    Attributes:
        folds: the state of the run before this process, from which its snapshots continue.
        recording: the same for a resume.
        view: the same for reporters.
    """

    def __init__(
        self,
        folds: Folds,
        events_at: Callable[[Sequence[int]], Iterable[Event]],
        read: Callable[[], Iterable[Sequence[Event]]],
        runs_again: Callable[[str], object] = lambda _: True,
        spill_after: int | None = None,
    ) -> None:
        """Plan the resume, and restore the objects of the live items; no event is emitted yet.

        Parameters:
            folds: the state of the run after all of its events.
            events_at: reads the recorded events with these numbers, in any order; works until the run ends.
            read: reads all recorded events in order, in batches; called now, and only if items run again that had completed.
            runs_again: returns whether failed items of a class, named as today, run again.
            spill_after: how many waiting items are kept in memory; None for all.

        Raises:
            UnknownItemType, PayloadMismatch: see `LiveItems.restore`.
        """
        self.folds = folds
        self.view = folds.view.copy()
        self.recording = recording = folds.recording.at_end(leaves_settled=True)
        facts = ended_items(recording.forgotten_below, read)
        forgotten = {item: facts[item] for item in recording.forgotten_below}
        self._items = items = LiveItems(recording, events_at, PayloadCodec(), spill_after, forgotten)
        self._plan = plan_of(recording, runs_again, items.type_today, items.holds)
        items.restore(self._plan)
        self._recorded_roots: RecordedChildren | None = None
        self._roots = array("q")
        self._dropped_roots = 0
        self._adopted: list[Change] = []  # initial items whose key was added
        self._summary = self._summarize()

    def _summarize(self) -> str:
        counts = self.view.counts
        running = sum(1 for record in self.recording.live.values() if record.running is not None)
        left = len(self._plan.stay_failed)
        cancelled = len(self._plan.cancelled)
        again = counts.failed - (left - cancelled)
        outstanding = counts.outstanding - sum(not self.recording.live[item].completed for item in self._plan.cancelled)
        parts = [f"{running:,} {'was' if running == 1 else 'were'} running"] if running else []
        parts += [f"{again:,} had failed"] if again else []
        among = f" ({', '.join(parts)})" if parts else ""
        kept = f", {left:,} failed and not retried" if left else ""
        skipped = f", {counts.skipped:,} skipped" if counts.skipped else ""
        return f"{counts.completed:,} completed{skipped}, {outstanding + again:,} outstanding{among}{kept}"

    def say_what_is_resumed(self, name: str, *, has_all: bool) -> None:
        """Print the line about the resume, once, after the initial items have been added.

        Parameters:
            name: the path of the journal as the user gave it.
            has_all: whether all initial items were added. If not, new and missing ones aren't known.
        """
        recorded, self._recorded_roots = self._recorded_roots, None
        if not has_all:
            say(f"aqueue: resuming {name}: {self._summary}")
            return
        known = sum(0 < number <= self.recording.last_id for number in self._roots)
        new = sum(number > self.recording.last_id for number in self._roots)
        missing = 0 if recorded is None else recorded.left
        to_run = sum(child.node is not None for child in recorded or ())
        parts = [f"resuming {name}: {self._summary}"]
        if new and recorded is not None and recorded.first_new is not None:
            example = self._in_words(*recorded.first_new)
            parts.append(
                f", 1 new initial item ({example})" if new == 1 else f", {new:,} new initial items ({example}, …)"
            )
        if missing:
            parts.append(f"; {missing:,} recorded initial item{'s are' if missing > 1 else ' is'} not among today's")
        if to_run:
            parts.append(f" ({to_run:,} outstanding, run{'s' if to_run == 1 else ''} as recorded)")
        say(f"aqueue: {''.join(parts)}")
        if new and missing and not known:
            warn(
                f"none of the initial items recorded in {name} is among today's, and both are now one run; the journal may "
                "belong to another job: to keep them apart, stop this run, and use another file"
            )

    def _in_words(self, type: str, key: str | None, payload: bytes) -> str:
        """Return how the line about the resume shows an item.

        Attributes, which can contain a password, are shown on a terminal only; a key is shown in logs as well.
        """
        words = [type.rpartition(":")[2]]
        if key is not None:
            words.append(key)
        elif stderr_is_terminal():
            values = self._items.codec.attributes(type, payload).values()
            words += [visible(str(value), 40) for value in values if isinstance(value, str | int | float)]
        return visible(" ".join(words), 80)

    @property
    def is_completed(self) -> bool:
        """Whether the run had completed: nothing is outstanding."""
        finished = self.recording.finished
        return finished is not None and finished.status == "completed"

    def result(self) -> RunResult:
        """Return the result of a completed run, with the root results in the order of the items that `first_new` read; once."""
        counts = {view.type: view.counts for view in self.view.types.values()}
        finished = self.recording.finished
        assert finished is not None
        roots = decode_root_results(
            self._roots, {item: self._items.result(seq) for item, seq in self.recording.root_results.items()}
        )
        return RunResult(
            self.recording.run_id,
            finished.status,
            finished.counts,
            counts,
            self.recording.elapsed_s,
            root_results=roots,
        )

    def first_new(self, items: Iterator[Any]) -> list[Any]:
        """Read `items` up to the first that isn't a recorded initial item; return a list of it, or an empty list.

        Only for a completed run: the items before it need not run, and are not kept. `restore` passes on what they changed.
        """
        recorded = self._recorded_roots = self._items.children(ROOT)
        payloads = Payloads(self._items.codec, self.recording.run_id)
        keys = self.recording.keys
        classes: dict[type, ItemClass] = {}
        for item in items:
            cls = classes.get(type(item)) or classes.setdefault(type(item), look_up_class(item))
            key = key_of(item, cls.type) if cls.keyed else None
            payload = payloads.state(item, None)
            child = recorded.match(cls.type, key, payload)
            if child is not None:
                self._roots.append(child.id)
                if key is not None and child.key is None and not keys.knows(cls.names, key):
                    keys.add(cls.type, key)
                    self._adopted.append(partial(ItemAdopted, item=child.id, type=cls.type, key=key))
            elif key is None or not keys.knows(cls.names, key):
                return [item]
            else:
                self._roots.append(0)
                self._dropped_roots += 1
        return []

    def restore(self, engine: Engine) -> None:
        """Put the run into `engine`, which is new, and emit the events of the resume; once."""
        restoring = Restoring(self.recording, self.view, self._plan, self._items, engine.parts.classes)
        try:
            run = restoring.run(self._recorded_roots)
            run.roots, run.deduplicated_roots = self._roots, self._dropped_roots
            run.changes = chain(run.changes, self._adopted)
            self._recorded_roots = run.recorded_roots
            engine.restore(run)
        except BaseException:
            unlink(restoring.nodes.values())  # or freeing a long chain of nodes would recurse
            raise
        # From now on the engine frees each item when it ends.
        self.recording.live.clear()
        self.recording.ended = Ended()
        self._items.clear()
        del self._plan
