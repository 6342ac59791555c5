"""What a command on items appends to a run that no process runs: which items it applies to, and their events in order."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from heapq import heappop, heappush
from typing import Any, Final

import msgspec

from aqueue._engine.outcomes import cancelled_by
from aqueue._engine.restored_run import Change
from aqueue._folds.ended_items import ended_items
from aqueue._folds.recording import ROOT, RecordedItem, RecordedRun, Recording
from aqueue._stream.error_info import error_info
from aqueue._stream.item_facts import ItemFacts
from aqueue._verbs import OnItems, Retry, SeenState, Skip
from aqueue.events import (
    NO_DATA,
    Event,
    ItemChildrenFailed,
    ItemChildrenProcessed,
    ItemEnqueued,
    ItemFailed,
    ItemRegrouped,
    ItemReopened,
    ItemRescheduled,
    ItemSkipped,
    Phase,
)

__all__ = ["ItemEdits", "state_of"]

_QUEUED: Final[frozenset[SeenState | None]] = frozenset({"queued", "interrupted"})
"""States that are one for a command: which of them it is depends on whether a process was there in between."""

_HAS_COMPLETED: Final[frozenset[SeenState]] = frozenset({"completed", "skipped"})


def state_of(record: RecordedItem) -> SeenState:
    """Return the state of a live item whose process has ended, as people see it: what was running then is interrupted."""
    if record.failed is not None:
        return "failed"
    if record.skipped:
        return "skipped"
    if record.due:
        return "retrying"
    if record.completed:
        return "completed"
    is_cut = record.running is not None or record.interrupted_seq > max(record.started_seq, record.reopened_seq)
    return "interrupted" if is_cut else "queued"


class ItemEdits:
    """Makes the events of one command, and keeps the live items as they are after each of them.

    A subtree has ended if nothing in it is outstanding: it is closed well, and the item no longer live, or the item has failed or was
    closed over failures. An item whose hook is to run, as far as is known without its class, has not ended.

    Attributes:
        count: how many items the command applies to.
        others: how many it doesn't apply to, by their present state or ``unknown``.
        cut_off: what makes events that a crash has cut off: ancestors of items that were retried or skipped are reopened.
        changes: what makes the events, in order.
    """

    def __init__(
        self,
        recording: Recording,
        run: RecordedRun,
        command: OnItems,
        events_at: Callable[[Sequence[int]], Iterable[Event]],
        read: Callable[[], Iterable[Sequence[Event]]],
    ) -> None:
        """Make the events of `command`.

        Parameters:
            recording: the run.
            run: the same at its end, without the settled items; it is changed.
            command: what a person asks of items.
            events_at: reads the recorded events with these numbers, in any order.
            read: reads all recorded events in order, in batches; called only if items are named whose subtrees have ended well.
        """
        self.others: Counter[str] = Counter()
        self.cut_off: list[Change] = []
        self.changes: list[Change] = []
        self._recording = recording
        self._live = run.live
        self._command = command
        self._read = read
        self._cancelled = error_info(cancelled_by(command.by))
        self._closed: dict[int, ItemFacts] = {}  # ancestors and items that had ended well and were not reopened
        self._to_close: list[int] = []
        # How many children have failed or have a failure below, by their parent.
        self._failed_below: Counter[int] = Counter()
        self._count_what_has_ended()
        chosen = self._choose()
        self.count = len(chosen)
        self._groups = self._read_groups(chosen, events_at)
        for record in chosen:
            self._carry_out(record)
        self._close()

    # ---- which items --------------------------------------------------------------------------------------------

    def _count_what_has_ended(self) -> None:
        """Let `pending` of each item be the number of its children whose subtrees have not ended."""
        live, failed_below = self._live, self._failed_below
        for record in reversed(live.values()):  # children come before their parents
            if record.closed_over and (record.pending or not self._is_bad(record)):
                record.closed_over = False
                self.cut_off.append(partial(ItemReopened, item=record.id, type=record.type, skipped=record.skipped))
            if record.parent in live:
                live[record.parent].pending -= self._has_ended(record)
                failed_below[record.parent] += self._is_bad(record)

    def _choose(self) -> list[RecordedItem]:
        """Return the items that the command applies to, parents before their children."""
        wanted: dict[int, SeenState] = {item: state for state, items in self._command.items.items() for item in items}
        applies_to = self._command.applies_to
        present: dict[int, SeenState] = {}
        unknown: list[int] = []
        for item, seen in wanted.items():
            record = self._record(item)
            if record is not None:
                present[item] = state_of(record)
            elif not 0 < item <= self._recording.facts.last_id:
                continue
            elif seen in _HAS_COMPLETED and seen not in applies_to:
                present[item] = seen  # what has completed stays so, and the journal isn't read for it
            else:
                unknown.append(item)
        self._read_closed(unknown)
        present.update((item, state_of(self._live[item])) for item in unknown if item in self._live)
        chosen: list[RecordedItem] = []
        for item in sorted(wanted):
            state = present.get(item)
            is_as_seen = state == wanted[item] or {state, wanted[item]} <= _QUEUED
            if is_as_seen and state in applies_to:
                chosen.append(self._live[item])
            else:
                self.others[state or "unknown"] += 1
        return chosen

    def _record(self, item: int) -> RecordedItem | None:
        if item == ROOT:
            return None
        record = self._live.get(item)
        if record is None:
            record = self._recording.record_of(item)
            if record is not None:
                self._live[item] = record  # it waits, so it has no children
        return record

    def _read_closed(self, items: Sequence[int]) -> None:
        """Read what is known of items whose subtrees have ended well, and of their ancestors of which that holds."""
        for facts in ended_items(items, self._read).values():
            if facts.id not in self._live:
                self._closed[facts.id] = facts
                self._live[facts.id] = RecordedItem(
                    facts.id,
                    facts.parent,
                    facts.type,
                    facts.enqueued_seq,
                    facts.hook,
                    completed=True,
                    skipped=facts.skipped,
                    has_children=facts.has_children,
                )

    def _read_groups(
        self, chosen: Sequence[RecordedItem], events_at: Callable[[Sequence[int]], Iterable[Event]]
    ) -> dict[int, str | None]:
        """Return in which groups items were queued last, by the number of the event that says so."""
        seqs = {record.group_seq or record.enqueued_seq for record in chosen if record.id not in self._closed}
        return {
            event.seq: event.group
            for event in events_at(sorted(seqs))
            if isinstance(event, ItemEnqueued | ItemRegrouped | ItemReopened)
        }

    # ---- their events -------------------------------------------------------------------------------------------

    def _carry_out(self, record: RecordedItem) -> None:
        match self._command:
            case Retry(completed=True):
                self._rerun(record)
            case Retry() if record.failed is None:
                self.changes.append(partial(_rescheduled, record.id, record.type))
            case Retry():
                self._retry(record)
            case Skip(result=result):
                self._skip(record, msgspec.Raw(bytes(result)) if result else NO_DATA)
            case _:
                self._cancel(record)

    def _emit(self, event: Callable[..., Event], record: RecordedItem, **fields: Any) -> None:
        self.changes.append(partial(event, item=record.id, type=record.type, **fields))

    def _retry(self, record: RecordedItem) -> None:
        failed, had_ended = record.failed, self._has_ended(record)
        self._forget_failure(record)
        self._emit(ItemReopened, record, failed=failed, group=self._group(record) if failed == "process" else None)
        for ancestor in self._open_above(record, had_ended=had_ended):
            self._reopen(ancestor)

    def _rerun(self, record: RecordedItem) -> None:
        for ancestor in reversed(self._open_above(record, had_ended=self._has_ended(record))):
            self._reopen(ancestor)
        facts = self._closed.pop(record.id, None)
        self._emit(
            ItemReopened,
            record,
            group=self._group(record) if facts is None else facts.group,
            rerun=True,
            skipped=record.skipped,
            ended=None if facts is None else facts.as_ended(),
        )
        record.completed = record.skipped = record.closed_over = False

    def _reopen(self, record: RecordedItem) -> None:
        """Reopen an ancestor, whose `process` doesn't run again."""
        facts = self._closed.pop(record.id, None)
        self._emit(
            ItemReopened,
            record,
            skipped=record.skipped,
            ended=None if facts is None else facts.as_ended(),
            result=NO_DATA if facts is None else facts.process_result,
        )
        record.closed_over = False
        record.due = 0.0

    def _skip(self, record: RecordedItem, result: msgspec.Raw) -> None:
        had_ended, had_failed = self._has_ended(record), record.failed is not None
        phase: Phase = record.failed or ("after_children" if record.completed else "process")
        is_queued = phase == "process" and not had_failed and not record.due
        group = self._group(record) if is_queued else None
        self._emit(ItemSkipped, record, phase=phase, had_failed=had_failed, group=group, result=result)
        self._forget_failure(record)
        record.completed = record.skipped = True
        record.due = 0.0
        for ancestor in self._open_above(record, had_ended=had_ended):
            self._reopen(ancestor)
        self._close_one(record)

    def _cancel(self, record: RecordedItem) -> None:
        phase: Phase = "after_children" if record.completed else "process"
        self._emit(
            ItemFailed,
            record,
            worker=0,
            duration_s=0.0,
            error=self._cancelled,
            phase=phase,
            attempt=(record.attempt if phase == "process" else record.hook_attempt) + 1,
            group=self._group(record) if phase == "process" and not record.due else None,
        )
        record.due = 0.0
        is_new = not self._is_bad(record)
        record.failed = phase
        if is_new:
            self._count_failure(record, 1)
        self._close_one(record)

    def _group(self, record: RecordedItem) -> str | None:
        return self._groups[record.group_seq or record.enqueued_seq]

    # ---- the tree -----------------------------------------------------------------------------------------------

    def _has_ended(self, record: RecordedItem) -> bool:
        is_over = record.failed is not None or record.closed_over
        return record.id in self._closed or (is_over and not record.pending)

    def _is_bad(self, record: RecordedItem) -> bool:
        return record.failed is not None or self._failed_below[record.id] > 0

    def _forget_failure(self, record: RecordedItem) -> None:
        if record.failed is not None:
            record.failed = None
            if not self._is_bad(record):
                self._count_failure(record, -1)

    def _count_failure(self, record: RecordedItem, change: int) -> None:
        """Count above `record` that it is bad now, or no longer, up to the first ancestor for which that changes nothing."""
        while record.parent != ROOT:
            record = self._live[record.parent]
            was_bad = self._is_bad(record)
            self._failed_below[record.id] += change
            if was_bad == self._is_bad(record):
                return

    def _open_above(self, record: RecordedItem, *, had_ended: bool) -> list[RecordedItem]:
        """Count that the subtree of `record` is open; return the ancestors that are to be reopened if it `had_ended`, the deepest first."""
        found: list[RecordedItem] = []
        while had_ended and record.parent != ROOT:
            record = self._live[record.parent]
            had_ended = self._has_ended(record)
            record.pending += 1
            if (had_ended and record.failed is None) or (record.pending == 1 and _runs_hook(record)):
                found.append(record)
        return found

    def _close_one(self, record: RecordedItem) -> None:
        """End the subtree of `record`, if nothing in it is outstanding any more; that of its parent is left to `_close`."""
        if record.pending or not (record.completed or record.failed is not None) or _runs_hook(record):
            return
        is_bad = self._is_bad(record)
        if record.failed is None:
            if record.has_children:
                self._emit(ItemChildrenFailed if is_bad else ItemChildrenProcessed, record)
            record.closed_over = is_bad
            if not is_bad:
                del self._live[record.id]
        if record.parent != ROOT:
            self._live[record.parent].pending -= 1
            heappush(self._to_close, -record.parent)

    def _close(self) -> None:
        """End the subtrees above, the deepest first, up to those with a hook that may be due, which a resume decides."""
        while self._to_close:
            number = -heappop(self._to_close)
            while self._to_close and -self._to_close[0] == number:
                heappop(self._to_close)
            self._close_one(self._live[number])


def _runs_hook(record: RecordedItem) -> bool:
    """Return whether an item whose children have all ended has a hook that may be due: that depends on its class."""
    return record.hook and record.completed and not record.skipped and record.failed is None and not record.closed_over


def _rescheduled(item: int, type: str, seq: int, at: float) -> ItemRescheduled:
    return ItemRescheduled(seq, at, item, type, at)
