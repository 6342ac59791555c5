"""Folds a journal's events into the items that are still live, with all that a resume needs to know of them.

The fold looks at no class and no payload, so it works however the program has changed. A live item is one that is
outstanding, or waits for a descendant or for its hook. Other items are forgotten as soon as they have ended, so that a long
run takes little memory, except one number if the parent will run again and enqueue the item again. Payloads and results are
not kept either: the fold names the events that have them.

A run folds its own events while it writes them to its journal, so that its snapshots are this fold, written down (see
`aqueue._folds.snapshot`). What such a run would have to keep of items that have ended is in `Recording.ended`: each snapshot
takes what is new and leaves the rest to those before it.
"""

from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from aqueue import events as ev
from aqueue._codec.class_names import type_name
from aqueue._codec.digests import DIGEST_BYTES, KeySet, digest_of, encoded, pair_digest
from aqueue._folds.crashes import Crashes
from aqueue._folds.waiting_items import PAGE_ITEMS, Kind, Page, Siblings, WaitingItems
from aqueue._stream.error_info import CANCELLED
from aqueue.errors import PoisonItem
from aqueue.events import NO_DATA, Event, ItemCompleted, ItemDescribed, ItemEnqueued, ItemStarted, Phase, RunFinished
from aqueue.view import InForce

__all__ = ["POISON", "ROOT", "Ended", "RecordedItem", "RecordedRun", "Recording", "RunFacts"]

if TYPE_CHECKING:
    Numbers = array[int]
else:
    Numbers = array  # msgspec looks at annotations, and Python 3.11 can't subscript this one

ROOT: Final = 0
"""The number that stands for the caller, the parent of the initial items."""

_SWEEP_GROUPS: Final = 1_000

_FEW: Final = 40
"""A page with this many items or fewer takes more memory than the same items as objects: 16.6 kB, and about 390 bytes each."""

_SHIFT: Final = PAGE_ITEMS.bit_length() - 1
_MASK: Final = PAGE_ITEMS - 1

_NOWHERE: Final = -PAGE_ITEMS
"""Where a page would begin that has no item."""

_NOBODY: Final = Siblings(-1, "", False)
_NO_PAGE: Final = Page([None] * PAGE_ITEMS, array("q"))

POISON: Final = type_name(PoisonItem)
"""The type of the error with which a poison item fails."""


class RecordedItem(msgspec.Struct, gc=False, array_like=True):
    """A live item, as recorded. The events named in it have its payloads and results.

    Attributes:
        id: its number.
        parent: its parent's number; `ROOT` for an initial item.
        type: its class when it was enqueued.
        enqueued_seq: the number of the event that announced it, which also has its key and its first group.
        hook: whether its class had a hook then.
        completed: whether its `process` has returned, or the item was skipped.
        skipped: whether a person skipped it: its hook doesn't run.
        state_seq: the number of the event that has its latest state, if that has changed: since it was adopted with
            another one, or by its `process`; else 0.
        group_seq: the number of the event that has its latest group, if it was queued again; else 0.
        running: the phase that a worker runs at the end of the events; None if none does.
        failed: the phase that failed for good; None if none did.
        retries: how many attempts at the phase that is next have failed and were to be followed by another.
        due: when that attempt may start, Unix time in seconds; 0.0 if it need not wait.
        delay_s: how long it had to wait from the failure, seconds.
        is_poison: whether it failed with `PoisonItem`, and has neither returned nor raised since.
        is_cancelled: whether it has failed since a person cancelled it: a resume leaves it failed.
        attempt: how often its `process` was started.
        hook_attempt: how often its hook was started.
        started_seq, hook_seq, described_seq, completed_seq, retried_seq, rescheduled_seq, interrupted_seq, failed_seq,
            skipped_seq, reopened_seq, brought_back_seq, closed_seq: the numbers of the latest events with which its `process`
            started, its hook started, it was described, its `process` completed, an attempt was to be followed by another, which
            was then due at once, one was interrupted, one failed for good, it was skipped, reopened, reopened after it had
            ended well, and closed over a failure; 0 for none.
        pending: how many of its children are live, so that their subtrees have not ended well; only from `Recording.at_end`.
        closed_over: whether it was closed although a descendant had failed.
        result_seq: the number of the event that has its result, that of the hook if it returned one, or what it was skipped
            with; 0 for none.
        results: those of its children's results by the children's numbers, if it has a hook.
        closed_children: the numbers of the events that announced those of its children whose subtrees have ended well,
            while its own `process` has not completed.
        has_children: whether it ever had any.
    """

    id: int
    parent: int
    type: str
    enqueued_seq: int
    hook: bool = False
    completed: bool = False
    skipped: bool = False
    state_seq: int = 0
    group_seq: int = 0
    running: Phase | None = None
    failed: Phase | None = None
    retries: int = 0
    due: float = 0.0
    delay_s: float = 0.0
    is_poison: bool = False
    is_cancelled: bool = False
    attempt: int = 0
    hook_attempt: int = 0
    started_seq: int = 0
    hook_seq: int = 0
    described_seq: int = 0
    completed_seq: int = 0
    retried_seq: int = 0
    rescheduled_seq: int = 0
    interrupted_seq: int = 0
    failed_seq: int = 0
    skipped_seq: int = 0
    reopened_seq: int = 0
    brought_back_seq: int = 0
    closed_seq: int = 0
    pending: int = 0
    closed_over: bool = False
    result_seq: int = 0
    results: dict[int, int] | None = None
    closed_children: Numbers | None = None
    has_children: bool = False

    def latest_seqs(self) -> set[int]:
        """Return the numbers of the events that say how it is now: how its last attempts began and ended, its text and group."""
        seqs = {self.enqueued_seq, self.brought_back_seq, self.group_seq}
        seqs |= {self.started_seq, self.hook_seq, self.described_seq}
        started_seq = max(self.started_seq, self.hook_seq)
        ends = (
            *(self.retried_seq, self.rescheduled_seq, self.interrupted_seq, self.failed_seq),
            *(self.skipped_seq, self.reopened_seq, self.closed_seq),
        )
        seqs.update(seq for seq in ends if seq > started_seq)
        if self.completed_seq > self.started_seq:
            seqs.add(self.completed_seq)
        return seqs - {0}


class RunFacts(msgspec.Struct):
    """What is known of a run besides its items.

    Attributes:
        run_id: identifies the run; empty before its first event.
        last_id: the number of the item that was enqueued last.
        last_seq: the number of the last event.
        last_at: when that was, Unix time in seconds.
        elapsed_s: how long the processes that have ended took, seconds.
        process_started_at: when the last process began, Unix time in seconds.
        runs_elsewhere: whether its items run in a cluster.
        running: for each item that the last process runs the numbers of the events with which the attempt started and was last
            described, 0 for none, and 1 if it could be the cause if this process crashes: what runs in a cluster can't be.
        process_seqs: the numbers of the events with which processes began or resumed the run or a person edited it, and of
            those that tell which worker processes of a cluster there are.
        is_open: whether a process has begun whose time and end are not accounted for.
        finished: the last process's `run.finished`; None if it did not get that far, or if something was reopened since.
        first_ids: the number of the first item that each process enqueued, or would have.
        crashes: which processes ended without `run.finished`, and what was running then.
        earlier_results: of live items whose hook has ended and runs again, or that had ended and were reopened, what holds
            until then, by number: the number of the event that has the result, or 0 after a failure. Where nothing is there, the
            result so far is that of `process`.
        forgotten_below: the live items that had ended, or had completed and run again. This fold has forgotten what their
            ended children announced and returned, so that a resume must read it from the journal: their `closed_children` and
            `results` have at most those that ended since. `earlier_results` may lack what holds for them and their children.
        has_reopened_roots: whether an initial item that had ended was ever reopened.
        cancelled: the items that a person cancelled while they ran, and whose attempt has not ended, or was interrupted: those
            that aren't running are to fail at the resume. For each, by whose command, as ``user@host via command``.
        steered_by: by whom the last command on items was.
        in_force: what people have set by commands and still holds.
        slowed_down: for each group that was slowed down, when its items may start again, Unix time in seconds, and the
            length of that pause.
    """

    run_id: str = ""
    last_id: int = 0
    last_seq: int = 0
    last_at: float = 0.0
    elapsed_s: float = 0.0
    process_started_at: float = 0.0
    runs_elsewhere: bool = False
    running: dict[int, list[int]] = {}
    process_seqs: list[int] = []
    is_open: bool = False
    finished: RunFinished | None = None
    first_ids: list[int] = []
    crashes: Crashes = msgspec.field(default_factory=Crashes)
    earlier_results: dict[int, int] = {}
    forgotten_below: set[int] = set()
    has_reopened_roots: bool = False
    cancelled: dict[int, str] = {}
    steered_by: str = ""
    in_force: InForce = msgspec.field(default_factory=InForce)
    slowed_down: dict[str, tuple[float, float]] = {}

    def end_process(self) -> None:
        """Note that no more events of the last process follow: if it has not finished, it has crashed."""
        if self.is_open:
            self.is_open = False
            self.elapsed_s += self.last_at - self.process_started_at
            self.crashes.crash(frozenset(item for item, (_, _, is_blamed) in self.running.items() if is_blamed))
            self.running.clear()


class Ended(msgspec.Struct):
    """What is kept of initial items and of items that have ended. It only grows, so it can be kept in parts.

    Attributes:
        keys: the digests of all keys that were enqueued.
        roots: the numbers of the events that announced the initial items whose subtrees have ended well.
        root_results: pairs: the number of such an item, and that of the event with its result, or 0 once it was reopened. The
            last pair of an item counts.
        initial_seqs, initial_ids, initial_kinds, initial_digests: of each initial item, the number of the event that announced
            it, its own, twice that of its `Kind`, plus 1 if it has a key, and the digest of that or else of its payload: a
            resume recognizes the initial items that have ended by these.
    """

    keys: bytearray = msgspec.field(default_factory=bytearray)
    roots: Numbers = msgspec.field(default_factory=lambda: array("q"))
    root_results: Numbers = msgspec.field(default_factory=lambda: array("q"))
    initial_seqs: Numbers = msgspec.field(default_factory=lambda: array("q"))
    initial_ids: Numbers = msgspec.field(default_factory=lambda: array("q"))
    initial_kinds: Numbers = msgspec.field(default_factory=lambda: array("q"))
    initial_digests: bytearray = msgspec.field(default_factory=bytearray)


class RecordedRun(RunFacts, kw_only=True):
    """A run whose last process has ended.

    Attributes:
        live: the live items by number, in the order in which they were enqueued; `ROOT` stands for the caller.
        keys: all keys that were ever enqueued.
        root_results: by the number of each initial item that has ended with a result, that of the event that has it.
        ended: what is kept of initial items.
        kinds: the kinds that it names.
        settled_seqs: with ``leaves_settled``, the numbers of the events that announced the other live items, in order: those that
            wait, and whose parents have completed. A resume just runs them, as they were announced.
        settled_types: how many of these there are of each class.
    """

    live: dict[int, RecordedItem]
    keys: KeySet
    root_results: dict[int, int]
    ended: Ended
    kinds: list[Kind]
    settled_seqs: Numbers = msgspec.field(default_factory=lambda: array("q"))
    settled_types: dict[str, int] = {}

    def ended_roots(self) -> Iterator[tuple[int, str, bool, bytes]]:
        """Yield the initial items that have ended well, in the order of enqueue.

        Yields:
            The number, the type, whether the item has a key, and the digest of that or else of its payload.
        """
        ended, digests = self.ended, self.ended.initial_digests
        seqs = iter(sorted(self.live[ROOT].closed_children or ()))
        wanted = next(seqs, 0)
        columns = zip(ended.initial_seqs, ended.initial_ids, ended.initial_kinds, strict=True)
        for place, (seq, number, kind) in enumerate(columns):
            if seq == wanted:
                start = place * DIGEST_BYTES
                yield number, self.kinds[kind >> 1].type, bool(kind & 1), bytes(digests[start : start + DIGEST_BYTES])
                wanted = next(seqs, 0)


class Recording:
    """The fold of a journal's events.

    Attributes:
        facts: what is known besides the items.
        live: those live items of which more is known than `waiting` has; `ROOT` stands for the caller.
        waiting: the other live items.
        saved: what the snapshot from which this was restored had of items that had ended.
        ended: what is kept of items that have ended since then, or since this run made a snapshot.
    """

    def __init__(self, facts: RunFacts | None = None) -> None:
        """Begin with these facts, or before the first event."""
        self.facts = RunFacts() if facts is None else facts
        self.live: dict[int, RecordedItem] = {ROOT: RecordedItem(ROOT, -1, "", 0)}
        self.waiting = WaitingItems()
        self.saved = Ended()
        self.ended = Ended()
        self._open = self.facts.last_id >> _SHIFT  # the number of the page to which items are added
        self._sweep_at = _SWEEP_GROUPS
        # How many children have failed or have a failure below, by the number of their parent, if any; None if not known.
        self._failed_below: dict[int, int] | None = None

    def apply(self, events: Iterable[Event]) -> None:  # noqa: C901, PLR0912, PLR0915  # one loop
        """Fold `events`, which must follow those applied so far.

        Raises:
            KeyError: an event names an item that isn't live; the fold can't be used any more.
        """
        # Local names, the most frequent types first, and no calls where an item is an ordinary one: this runs once for every
        # event of a run that has a journal.
        facts, live, pages, keys = self.facts, self.live, self.waiting.pages, self.ended.keys
        running = facts.running
        # The item that started last. It mostly completes before anything asks what runs, and then was never in `running`:
        # to put it there and to take it out took 90 ns.
        started: ItemStarted | None = None
        described_seq = 0
        # What was looked up last, since siblings mostly follow each other: those to which items are added; those of which
        # one has completed, with their parent; and a page, with the number of its first item.
        parent: int | None = None
        type_, hook, siblings = "", False, _NOBODY
        ended, above = _NOBODY, live[ROOT]
        first, page, column, seqs = _NOWHERE, _NO_PAGE, _NO_PAGE.siblings, _NO_PAGE.enqueued_seqs
        last_id = facts.last_id
        before: Event | None = None
        event: Event | None = None
        for event in events:
            if type(event) is ItemStarted:
                if started is not None:
                    self._note_started(started, described_seq)
                    first = _NOWHERE
                started, described_seq = event, 0
            elif type(event) is ItemDescribed:
                if started is not None and event.item == started.item:
                    described_seq = event.seq
                else:
                    running[event.item][1] = event.seq
            elif type(event) is ItemCompleted:
                item = event.item
                place = item - first
                if not 0 <= place < PAGE_ITEMS:
                    place = item & _MASK
                    first, page = item - place, pages.get(item >> _SHIFT) or _NO_PAGE
                    column, seqs = page.siblings, page.enqueued_seqs
                one = column[place]
                if one is not ended and (one is None or one.hook):
                    if started is not None:
                        self._note_started(started, described_seq)
                        started = None
                    self._complete(event)
                    first = _NOWHERE
                else:  # it has neither a hook nor children: it is forgotten
                    if one is not ended:
                        ended, above = one, live[one.parent]
                    if started is not None and started.item == item:
                        started = None
                    else:
                        running.pop(item, None)
                    column[place] = None
                    page.count -= 1
                    if page.count == _FEW:
                        self._thin_out(item >> _SHIFT)
                        first = _NOWHERE
                    if event.result is not NO_DATA or not above.completed:
                        self._pass_on(item, seqs[place], above, _result_seq(event))
            elif type(event) is ItemEnqueued:
                item = last_id = event.item
                if event.parent != parent or event.type != type_ or event.hook is not hook:
                    siblings = self._siblings_of(event)
                    parent, type_, hook, first = event.parent, event.type, event.hook, _NOWHERE
                place = item - first
                if not 0 <= place < PAGE_ITEMS:
                    place = item & _MASK
                    first, page = item - place, pages.get(item >> _SHIFT) or self._open_page(item >> _SHIFT)
                    column, seqs = page.siblings, page.enqueued_seqs
                column[place] = siblings
                seqs[place] = event.seq
                if event.key is not None:
                    keys += pair_digest(event.type, event.key)
                if not parent:
                    self._keep_initial(event)
            else:
                if started is not None:
                    self._note_started(started, described_seq)
                    started = None
                if before is not None:
                    facts.last_at = before.at
                facts.last_id = last_id
                self._apply_rare(event)
                parent, ended, first = None, _NOBODY, _NOWHERE
            before = event
        if started is not None:
            self._note_started(started, described_seq)
        facts.last_id = last_id
        if event is not None:
            facts.last_at, facts.last_seq = event.at, event.seq

    def _note_started(self, event: ItemStarted, described_seq: int) -> None:
        item, running = event.item, self.facts.running
        if item in self.live or event.attempt != 1:
            self._start(self._record(item), event)
            running[item][1] = described_seq
        else:  # its `process`: before a hook starts, `process` has completed, and the item is in `live`
            running[item] = [event.seq, described_seq, int(not self.facts.runs_elsewhere)]

    def _siblings_of(self, event: ItemEnqueued) -> Siblings:
        self._record(event.parent).has_children = True
        return self.waiting.siblings(event.parent, event.type, event.hook)

    def _keep_initial(self, event: ItemEnqueued) -> None:
        ended, kind = self.ended, self.waiting.kind_number(event.type, event.hook)
        ended.initial_seqs.append(event.seq)
        ended.initial_ids.append(event.item)
        ended.initial_kinds.append(2 * kind + (event.key is not None))
        ended.initial_digests += digest_of(bytes(event.payload) if event.key is None else encoded(event.key))

    def _record(self, item: int) -> RecordedItem:
        """Return what is known of a live item, as an object from now on.

        Raises:
            KeyError: it isn't live.
        """
        record = self.live.get(item)
        if record is None:
            record = self.live[item] = self._record_of(item, *self.waiting.remove(item))
            self._thin_out(item >> _SHIFT)
        return record

    def _record_of(self, item: int, enqueued_seq: int, siblings: Siblings) -> RecordedItem:
        record = RecordedItem(item, siblings.parent, siblings.type, enqueued_seq, siblings.hook)
        if item in self.facts.running:
            record.running, record.attempt = "process", 1
            record.started_seq, record.described_seq, _ = self.facts.running[item]
        return record

    def _end_attempt(self, item: int) -> RecordedItem:
        record = self._record(item)
        attempt = self.facts.running.pop(item, None)
        if attempt is not None and attempt[1]:
            record.described_seq = attempt[1]
        record.running = None
        return record

    def _open_page(self, number: int) -> Page:
        """Add a page, to which items are added from now on, and not to the one before."""
        before, self._open = self._open, number
        if before in self.waiting.pages:
            self.waiting.pages[before].set_count()
            self._thin_out(before)
        return self.waiting.add_page(number)

    def _thin_out(self, number: int) -> None:
        """Drop a page if it has few items left, unless more are still added to it."""
        page = self.waiting.pages.get(number)
        if page is not None and page.count <= _FEW and number != self._open:
            self.live.update((found[0], self._record_of(*found)) for found in self.waiting.items_of(number))
            del self.waiting.pages[number]

    def _start(self, record: RecordedItem, event: ItemStarted) -> None:
        record.running = event.phase
        record.due = 0.0
        is_blamed = True
        if event.phase == "process":
            record.attempt = event.attempt
            record.started_seq = event.seq
            is_blamed = not self.facts.runs_elsewhere
        else:
            record.hook_attempt = event.attempt
            record.hook_seq = event.seq
        self.facts.running[event.item] = [event.seq, 0, int(is_blamed)]

    def _complete(self, event: ItemCompleted) -> None:
        record = self._end_attempt(event.item)
        record.completed = True
        record.completed_seq = event.seq
        record.is_poison = False
        record.retries = 0
        record.result_seq = _result_seq(event)
        if self.facts.cancelled or self.facts.forgotten_below:
            self.facts.cancelled.pop(event.item, None)
            self.facts.earlier_results.pop(event.item, None)
        if event.payload is not NO_DATA:
            record.state_seq = event.seq
        record.closed_children = None  # it will not run again, so nobody will enqueue these again
        if not record.hook and not record.has_children:
            self._close(record)

    def _apply_rare(self, event: Event) -> None:
        facts = self.facts
        match event:
            case ev.RunStarted():  # RunResumed is one
                if isinstance(event, ev.RunResumed):
                    self._end_process()
                    self._failed_below = None  # what failed may run again
                facts.first_ids.append(facts.last_id + 1)
                facts.run_id = event.run_id
                facts.finished = None
                facts.is_open = True
                facts.in_force.apply(event)
                facts.process_started_at = event.at
                facts.process_seqs.append(event.seq)
                facts.runs_elsewhere = bool(event.cluster)
            case ev.ProcessJoined() | ev.ProcessLeft():
                facts.process_seqs.append(event.seq)
            case ev.ItemChildrenProcessed():
                self._end_hook(event)
            case ev.ItemChildrenFailed():
                record = self._end_attempt(event.item)
                record.closed_over = True
                record.closed_seq = event.seq
            case ev.ItemFailed():
                self._fail(event)
            case ev.ItemInterrupted():
                self._end_attempt(event.item).interrupted_seq = event.seq
            case ev.ItemRetryScheduled():
                record = self._end_attempt(event.item)
                record.retried_seq = event.seq
                record.is_poison = False
                record.retries += 1
                record.due = event.due
                record.delay_s = event.due - event.at
            case ev.ItemAdopted() | ev.ItemRegrouped():
                self._change(event)
            case ev.ItemReopened():
                self._reopen(event)
            case ev.GroupSlowedDown():
                self._slow_down(event)
            case ev.RunFinished():
                facts.finished = event
                facts.elapsed_s += event.at - facts.process_started_at
                facts.is_open = False
                facts.crashes.finish()
                facts.running.clear()
            case _:
                self._apply_steering(event)

    def _apply_steering(self, event: Event) -> None:
        match event:
            case ev.ItemRescheduled():
                record = self._record(event.item)
                record.rescheduled_seq = event.seq
                record.due = event.due
                record.delay_s = event.due - event.at
            case ev.ItemSkipped():
                self._skip(event)
            case ev.ItemCancelled():
                self._record(event.item)  # or its completion would not be looked at
                self.facts.cancelled[event.item] = self.facts.steered_by
            case ev.RunSteered():
                self.facts.steered_by = event.by
            case ev.RunEdited():
                self._end_process()
                self.facts.process_seqs.append(event.seq)
            case _:
                self.facts.in_force.apply(event)

    def _end_process(self) -> None:
        for item, (_, described_seq, _) in self.facts.running.items():
            record = self._record(item)  # which still runs, until an event says that it was interrupted
            record.described_seq = described_seq or record.described_seq
        self.facts.end_process()

    def _change(self, event: ev.ItemAdopted | ev.ItemRegrouped) -> None:
        if isinstance(event, ev.ItemAdopted):
            if event.payload is not NO_DATA:
                with suppress(KeyError):  # it may have ended
                    self._record(event.item).state_seq = event.seq
            if event.key is not None:
                self.ended.keys += pair_digest(event.type, event.key)
        else:
            self._record(event.item).group_seq = event.seq

    def _reopen(self, event: ev.ItemReopened) -> None:
        if event.ended is not None:
            self._bring_back(event, event.ended)
        record = self._record(event.item)
        record.reopened_seq = event.seq
        self._forget_failure(record)
        record.closed_over = False
        record.retries, record.due = 0, 0.0
        self.facts.finished = None
        if event.failed == "process" or event.rerun:
            record.group_seq = event.seq
        if event.rerun:
            record.completed = record.skipped = False
            self.facts.cancelled.pop(event.item, None)
            self.facts.forgotten_below.add(event.item)

    def _bring_back(self, event: ev.ItemReopened, ended: ev.EndedItem) -> None:
        """Make an item live whose subtree had ended well. Its parent is live, since ancestors are reopened first."""
        facts = self.facts
        self.live[event.item] = RecordedItem(
            event.item,
            ended.parent,
            event.type,
            ended.enqueued_seq,
            ended.hook,
            completed=True,
            skipped=event.skipped,
            state_seq=ended.state_seq,
            attempt=ended.attempt,
            hook_attempt=ended.hook_attempt,
            has_children=ended.has_children,
            brought_back_seq=event.seq,
            result_seq=_result_seq(event),
        )
        facts.forgotten_below.add(event.item)
        parent = self._record(ended.parent)
        if parent.id == ROOT:
            facts.has_reopened_roots = True
            self.ended.root_results.extend((event.item, 0))
        elif parent.results and event.item in parent.results:
            facts.earlier_results[event.item] = parent.results.pop(event.item)
        if parent.closed_children is not None and ended.enqueued_seq in parent.closed_children:
            parent.closed_children.remove(ended.enqueued_seq)

    def _skip(self, event: ev.ItemSkipped) -> None:
        record = self._record(event.item)
        record.skipped_seq = event.seq
        self._forget_failure(record)
        record.is_poison = False
        record.retries, record.due = 0, 0.0
        record.completed = record.skipped = True
        record.result_seq = _result_seq(event)
        record.closed_children = None
        self.facts.cancelled.pop(event.item, None)
        self.facts.earlier_results.pop(event.item, None)
        if not record.has_children:
            self._close(record)

    def _end_hook(self, event: ev.ItemChildrenProcessed) -> None:
        facts = self.facts
        record = self._end_attempt(event.item)
        record.is_poison = False
        record.retries = 0
        facts.cancelled.pop(event.item, None)
        facts.earlier_results.pop(event.item, None)
        has_result = event.result is not NO_DATA
        if event.item in self._with_failure_below():
            record.closed_over = True  # its hook will run again
            record.closed_seq = event.seq
            if has_result:
                facts.earlier_results[event.item] = event.seq
            return
        if has_result:
            record.result_seq = event.seq
        self._close(record)

    def _fail(self, event: ev.ItemFailed) -> None:
        record = self._end_attempt(event.item)
        self._with_failure_below()
        record.failed = event.phase
        record.failed_seq = event.seq
        record.retries, record.due = 0, 0.0
        record.is_poison = event.error.type == POISON
        record.is_cancelled = event.error.type == CANCELLED
        self.facts.cancelled.pop(event.item, None)
        if event.phase == "after_children":
            self.facts.earlier_results[event.item] = 0
        else:  # it may have had a result, if it ran again
            self.facts.earlier_results.pop(event.item, None)
            record.result_seq = 0
        self._count_failure(record, 1)

    def _forget_failure(self, record: RecordedItem) -> None:
        """Note that an item is no longer failed, if it was."""
        if record.failed is not None:
            self._with_failure_below()
            record.failed = None
            record.is_cancelled = False
            self._count_failure(record, -1)

    def _with_failure_below(self) -> dict[int, int]:
        """Return the items of which a descendant has failed and was not reopened, as `_failed_below`."""
        if self._failed_below is None:
            below = self._failed_below = {}
            counted: set[int] = set()
            for record in self.live.values():
                while (record.failed is not None or record.id in below) and record.id not in counted:
                    counted.add(record.id)
                    if record.parent != ROOT:
                        record = self.live[record.parent]
                        below[record.id] = below.get(record.id, 0) + 1
        return self._failed_below

    def _count_failure(self, record: RecordedItem, change: int) -> None:
        """Count that `record` has failed, or no longer has, with a `change` of 1 or -1."""
        below, live = self._with_failure_below(), self.live
        if record.id in below:
            return
        # A retry of many siblings would be quadratic if it looked at all items, or at those above for each of them.
        while record.parent != ROOT:
            record = live[record.parent]
            before = below.get(record.id, 0)
            if before + change:
                below[record.id] = before + change
            else:
                del below[record.id]
            if record.failed is not None or (before and before + change):
                return  # which was so for those above, too, or still is

    def _slow_down(self, event: ev.GroupSlowedDown) -> None:
        slowed = self.facts.slowed_down
        if event.due >= slowed.get(event.group, (0.0, 0.0))[0]:
            slowed[event.group] = event.due, event.due - event.at
        if len(slowed) >= self._sweep_at:
            for group in [group for group, (due, _) in slowed.items() if due <= event.at]:
                del slowed[group]
            self._sweep_at = max(_SWEEP_GROUPS, 2 * len(slowed))

    def _close(self, record: RecordedItem) -> None:
        """Forget `record`, whose subtree has ended well, after passing its result to its parent."""
        del self.live[record.id]
        if self.facts.forgotten_below:
            self.facts.forgotten_below.discard(record.id)
        self._pass_on(record.id, record.enqueued_seq, self.live[record.parent], record.result_seq)

    def _pass_on(self, item: int, enqueued_seq: int, parent: RecordedItem, result_seq: int) -> None:
        if parent.id == ROOT:
            self.ended.roots.append(enqueued_seq)
            if result_seq:
                self.ended.root_results.extend((item, result_seq))
            return
        if result_seq and parent.hook:
            if parent.results is None:
                parent.results = {}
            parent.results[item] = result_seq
        if not parent.completed:
            if parent.closed_children is None:
                parent.closed_children = array("q")
            parent.closed_children.append(enqueued_seq)

    @property
    def num_live(self) -> int:
        """How many items are live, without `ROOT`."""
        return len(self.live) - 1 + len(self.waiting)

    def is_live(self, item: int) -> bool:
        """Return whether an item is live."""
        return item in self.live or self.waiting.has(item)

    def record_of(self, item: int) -> RecordedItem | None:
        """Return what is known of an item; None if it isn't live. It must not be changed."""
        record = self.live.get(item)
        if record is None and self.waiting.has(item):
            page, place = self.waiting.pages[item >> _SHIFT], item & _MASK
            siblings = page.siblings[place]
            assert siblings is not None
            record = self._record_of(item, page.enqueued_seqs[place], siblings)
        return record

    def announced_by(self, items: Iterable[int]) -> list[int]:
        """Return the numbers of the events that announced these items, leaving out those that aren't live any more.

        Raises:
            KeyError: one hasn't been announced.
        """
        pages, live = self.waiting.pages, self.live
        seqs = []
        for item in items:
            page = pages.get(item >> _SHIFT) or _NO_PAGE
            if page.siblings[item & _MASK] is not None:
                seqs.append(page.enqueued_seqs[item & _MASK])
            elif item in live:
                seqs.append(live[item].enqueued_seq)
            elif item > self.facts.last_id:
                raise KeyError(item)
        return seqs

    def needed_again(self, items: Collection[int], parents: Iterable[int]) -> list[int]:
        """Return the numbers of the events that have what is needed to run these items again, in order.

        Parameters:
            items: live items; of each, the event that announced it, and that with its latest state, if that has changed.
            parents: live items whose `process` has not completed; of each, the events that announced its children.
        """
        seqs = set(self.announced_by(items))
        seqs.update(self.live[item].state_seq for item in items if item in self.live)
        wanted = set(parents) & self.live.keys()
        for parent in wanted:
            seqs.update(self.live[parent].closed_children or ())
        if wanted:
            seqs.update(record.enqueued_seq for record in self.live.values() if record.parent in wanted)
            seqs.update(seq for _, seq, siblings in self.waiting if siblings.parent in wanted)
        seqs.discard(0)
        return sorted(seqs)

    def latest_seqs(self) -> list[int]:
        """Return the numbers of the events that say how each live item is now, and which processes there were, in order."""
        facts = self.facts
        seqs = set(facts.process_seqs)
        seqs.update(self.waiting.enqueued_seqs())
        for started_seq, described_seq, _ in facts.running.values():
            seqs |= {started_seq, described_seq}
        for record in self.live.values():
            seqs |= record.latest_seqs()
        seqs.discard(0)
        return sorted(seqs)

    def at_end(self, *, leaves_settled: bool = False) -> RecordedRun:
        """Return the run if no more events follow. If the last process has not finished, it has crashed.

        It shares nothing that changes with the fold, to which events can still be applied.

        Parameters:
            leaves_settled: whether only numbers are returned of items that wait and whose parents have completed: millions may.
        """
        ended = self._all_ended()
        live: dict[int, RecordedItem] = {}
        settled: list[int] = []
        types: Counter[str] = Counter()
        pending: Counter[int] = Counter()
        for item, seq, siblings in self.waiting:
            if leaves_settled and self.live[siblings.parent].completed and item not in self.facts.running:
                settled.append(seq)
                types[siblings.type] += 1
                pending[siblings.parent] += 1
            else:
                live[item] = self._record_of(item, seq, siblings)
        for item, record in self.live.items():
            _, described_seq, _ = self.facts.running.get(item, (0, 0, 0))
            results, closed = record.results, record.closed_children
            live[item] = msgspec.structs.replace(
                record,
                described_seq=described_seq or record.described_seq,
                results=results and dict(results),
                closed_children=closed and closed[:],
            )
        roots = ended.roots
        if self.facts.has_reopened_roots:
            seqs = {record.enqueued_seq for record in live.values()}
            roots = array("q", [seq for seq in dict.fromkeys(roots) if seq not in seqs])
        live[ROOT].closed_children = roots or None
        for item, record in live.items():
            if item != ROOT:
                pending[record.parent] += 1
        for item, number in pending.items():
            live[item].pending += number
        facts = msgspec.msgpack.decode(msgspec.msgpack.encode(self.facts), type=RunFacts)
        run = RecordedRun(
            **msgspec.structs.asdict(facts),
            live=dict(sorted(live.items())),
            keys=KeySet(ended.keys),
            root_results={
                item: seq
                for item, seq in dict(zip(ended.root_results[::2], ended.root_results[1::2], strict=True)).items()
                if seq
            },
            ended=ended,
            kinds=list(self.waiting.kinds),
            settled_seqs=array("q", sorted(settled)),
            settled_types=dict(types),
        )
        run.end_process()
        return run

    def __eq__(self, other: object) -> bool:
        return self.at_end() == other.at_end() if isinstance(other, Recording) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it changes

    def _all_ended(self) -> Ended:
        if self.ended == Ended():
            return self.saved  # large, and not copied for nothing
        return Ended(*(getattr(self.saved, name) + getattr(self.ended, name) for name in Ended.__struct_fields__))


def _result_seq(event: ItemCompleted | ev.ItemSkipped | ev.ItemReopened) -> int:
    """Return the number of `event` if it has a result; 0 if it has none."""
    return event.seq if event.result is not NO_DATA else 0
