"""The live items of a recorded run as objects of today's classes, and their children that are done."""

from array import array
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial

import msgspec

from aqueue._codec.class_names import type_name
from aqueue._codec.item_codec import PayloadCodec, references
from aqueue._engine.adoption import RecordedChildren
from aqueue._engine.changed_classes import ChangedClasses
from aqueue._engine.ended_children import Announced, EndedChildren, Recognized
from aqueue._engine.recorded_child import RecordedChild
from aqueue._engine.tree import Results
from aqueue._folds.recording import ROOT, RecordedItem, RecordedRun
from aqueue._resume.plan import Plan
from aqueue._stream.item_facts import ItemFacts
from aqueue.errors import PayloadMismatch, UnknownItemType
from aqueue.events import (
    NO_DATA,
    Event,
    ItemAdopted,
    ItemChildrenProcessed,
    ItemCompleted,
    ItemEnqueued,
    ItemRegrouped,
    ItemReopened,
    ItemSkipped,
)

__all__ = ["Announcement", "LiveItems"]

_FIRST_SETTLED = 100_000
"""How many settled items are decoded before anything is changed, at most, and kept until the engine has them."""

_AT_ONCE = 2_000

EventsAt = Callable[[Sequence[int]], Iterable[Event]]
"""Reads the recorded events with these numbers, in any order; works until the run ends."""


class Announcement(msgspec.Struct, gc=False):
    """What the announcement of an item says of it; see `aqueue.events.ItemEnqueued`."""

    payload: bytes
    track_overall: bool
    key: str | None
    occurrence: int
    group: str | None


class LiveItems:
    """The live items of a recorded run.

    Attributes:
        objects: the object of each live item by number, except for items that are over, and for items that can't be decoded
            and that nothing needs.
        held_by: for an item that refers to ancestors, directly or through others, the nearest ancestor that is enqueued again.
            When its final object is known, those of all ancestors above it are known too.
        events_at: reads recorded events.
        codec: decodes items.
        ended: the children that are done of items that enqueue their children again, by the parent's number.
        forgotten: the facts of live items of which the recording has forgotten the children, by number.
    """

    def __init__(
        self,
        recording: RecordedRun,
        events_at: EventsAt,
        codec: PayloadCodec,
        spill_after: int | None = None,
        forgotten: Mapping[int, ItemFacts] | None = None,
    ) -> None:
        """Read the payloads and results of the live items.

        Parameters:
            recording: the run.
            events_at: reads events.
            codec: decodes payloads.
            spill_after: how many waiting items are kept in memory; None for all.
            forgotten: the facts of the live items of which the recording has forgotten the children.
        """
        self.forgotten = {} if forgotten is None else {**forgotten}
        self.objects: dict[int, object] = {}
        self.held_by: dict[int, int] = {}
        self.ended: dict[int, EndedChildren] = {}
        self.codec = codec
        self._recording = recording
        self._live = recording.live
        self.events_at = events_at
        self._plan: Plan
        self._changes = ChangedClasses(codec, recording.keys, recording.first_ids)
        self._types: dict[str, type | None] = {}
        self._names_today: dict[str, str] = {}
        self._num_first = _FIRST_SETTLED if spill_after is None else min(spill_after, _FIRST_SETTLED)
        self._first_settled: deque[tuple[ItemEnqueued, object]] = deque()
        self._announced_as: dict[int, Announcement] = {}
        self._states: dict[int, bytes] = {}  # what follows is by the number of the event
        self._groups: dict[int, str | None] = {}
        self._results: dict[int, msgspec.Raw] = {0: NO_DATA}
        self._adopted: set[int] = set()  # the events with which items were adopted with other attributes
        for event in events_at(sorted(self._wanted(recording))):
            match event:
                case ItemEnqueued():
                    self._announced_as[event.item] = Announcement(
                        bytes(event.payload), event.track_overall, event.key, event.occurrence, event.group
                    )
                case ItemRegrouped():
                    self._groups[event.seq] = event.group
                case ItemReopened():
                    self._groups[event.seq] = event.group
                    self._results[event.seq] = event.result.copy()
                case ItemAdopted():
                    self._states[event.seq] = bytes(event.payload)
                    self._adopted.add(event.seq)
                case ItemCompleted():
                    self._states[event.seq] = bytes(event.payload)
                    self._results[event.seq] = event.result.copy()  # as it is, it would keep all that was read with it
                case ItemChildrenProcessed() | ItemSkipped():
                    self._results[event.seq] = event.result.copy()
                case _:
                    pass

    def _wanted(self, recording: RecordedRun) -> set[int]:
        """Return the numbers of the events that have what a resume needs."""
        wanted = {*recording.root_results.values(), *recording.earlier_results.values()}
        for record in self._live.values():
            wanted |= {record.enqueued_seq, record.state_seq, record.group_seq, record.result_seq}
            if record.results:
                wanted.update(record.results.values())
        wanted.discard(0)
        return wanted

    # ---- payloads and classes -----------------------------------------------------------------------------------

    def announcement(self, record: RecordedItem) -> Announcement:
        """Return what the announcement of an item says of it."""
        return self._announced_as[record.id]

    def state(self, record: RecordedItem) -> bytes:
        """Return the latest recorded payload of an item."""
        return self._states[record.state_seq] if record.state_seq else self.announcement(record).payload

    def group(self, record: RecordedItem) -> str | None:
        """Return the group in which an item was queued last; None if it had none."""
        return self._groups[record.group_seq] if record.group_seq else self.announcement(record).group

    def result(self, seq: int) -> msgspec.Raw:
        """Return the result that an event has; `NO_DATA` for 0."""
        return self._results[seq]

    def holds(self, record: RecordedItem) -> Iterable[int]:
        """Return the numbers of the ancestors that an item refers to."""
        return references(self.state(record))

    def _resolve(self, name: str) -> type | None:
        if name not in self._types:
            try:
                self._types[name] = self.codec.resolve(name)
            except UnknownItemType:
                self._types[name] = None
        return self._types[name]

    def type_today(self, recorded: str) -> str:
        """Return today's name of the class recorded as `recorded`; the same name if there is no such class."""
        name = self._names_today.get(recorded)
        if name is None:
            cls = self._resolve(recorded)
            name = self._names_today[recorded] = recorded if cls is None else type_name(cls)
        return name

    # ---- objects ------------------------------------------------------------------------------------------------

    def restore(self, plan: Plan) -> None:
        """Decode the objects that are needed to carry out a `plan`; once.

        Raises:
            UnknownItemType: live items have classes that the program doesn't have; names them and counts their items.
            PayloadMismatch: today's class of a live item can't restore it.
        """
        self._plan = plan
        missing: Counter[str] = Counter()
        for number, record in self._live.items():
            if number == ROOT:
                continue
            cls = self._resolve(record.type)
            if plan.step(number) == "over":
                continue
            has_hook = record.hook and not record.skipped
            needed = number not in plan.stay_failed and (not record.completed or has_hook)
            if cls is None:
                if needed:
                    missing[record.type] += 1
            elif needed:
                self._restore(record)
            else:  # a hook or a child may use it
                with suppress(PayloadMismatch):
                    self._restore(record)
        for name, count in self._recording.settled_types.items():
            if self._resolve(name) is None:
                missing[name] += count
        if missing:
            listed = ", ".join(f"{name} ({count:,} outstanding)" for name, count in missing.most_common())
            script = any(name.startswith("__main__:") for name in missing)
            of_script = (
                "those of __main__ come from a script that was run directly: run that script; " if script else ""
            )
            raise UnknownItemType(
                f"items are outstanding whose classes this program doesn't define: {listed}; {of_script}import their modules "
                "before the run, or, if they were renamed, add the class attribute previous_names = (…,) to the new classes, "
                "and run the same command again; nothing was changed"
            )
        self._first_settled.extend(self._decoded(self._recording.settled_seqs[: self._num_first]))
        self.ended = {
            # In the order of enqueue, in which an unchanged parent enqueues them again.
            record.id: EndedChildren(
                partial(self._announced, array("q", sorted(closed))), self._ended_roots() if record.id == ROOT else None
            )
            for record in self._live.values()
            if (closed := self._closed_children(record))
        }

    def _closed_children(self, record: RecordedItem) -> Collection[int]:
        """Return the numbers of the events that announced the children that are done of an item that enqueues them again."""
        if record.id not in self.forgotten:
            return record.closed_children or ()
        if record.completed:
            return ()
        return [child.seq for child in self.forgotten[record.id].children if child.item not in self._live]

    def child_results(self, record: RecordedItem) -> Results | None:
        """Return the results of the children that are done of an item that has a hook; None for none."""
        if record.id in self.forgotten:
            results = self.forgotten[record.id].results
            return {child: result for child, result in results.items() if child not in self._live} or None
        return None if record.results is None else {child: self.result(seq) for child, seq in record.results.items()}

    def _restore(self, record: RecordedItem) -> object:
        number = record.id
        if number not in self.objects:
            ancestor = partial(self._ancestor, number)
            try:
                self.objects[number] = self.codec.decode(record.type, self.state(record), ancestor)
            except PayloadMismatch as error:
                if record.state_seq in self._adopted:
                    # An edited class adopted it, and has been put back since, as an AdoptionMismatch advises.
                    self._adopted.remove(record.state_seq)
                    self._states[record.state_seq] = self.announcement(record).payload
                    return self._restore(record)
                raise self._mismatch(number, record.type, error) from error.__cause__
        return self.objects[number]

    def _mismatch(
        self, number: int, type: str, error: PayloadMismatch, outcome: str = "nothing was changed"
    ) -> PayloadMismatch:
        waiting = sum(other.type == type and not other.completed for other in self._live.values())
        waiting += self._recording.settled_types.get(type, 0)
        return PayloadMismatch(
            f"{error} (it was item {number}; {waiting:,} item{'s' if waiting != 1 else ''} of {type} "
            f"{'are' if waiting != 1 else 'is'} outstanding; {outcome})"
        )

    def settled(self) -> Iterator[tuple[ItemEnqueued, object]]:
        """Yield the announcements of settled items, and their objects, in order; once.

        Raises:
            PayloadMismatch: today's class can't restore one that is not among the first.
        """
        while self._first_settled:
            yield self._first_settled.popleft()
        # By now it is recorded that the run was resumed.
        yield from self._decoded(self._recording.settled_seqs[self._num_first :], "nothing was lost")

    def _decoded(self, seqs: Sequence[int], *outcome: str) -> Iterator[tuple[ItemEnqueued, object]]:
        for event in self._in_order(seqs):
            assert isinstance(event, ItemEnqueued)
            try:
                item = self.codec.decode(event.type, bytes(event.payload), partial(self._ancestor, event.item))
            except PayloadMismatch as error:
                raise self._mismatch(event.item, event.type, error, *outcome) from error.__cause__
            yield event, item

    def _in_order(self, seqs: Sequence[int]) -> Iterator[Event]:
        for start in range(0, len(seqs), _AT_ONCE):
            yield from sorted(self.events_at(seqs[start : start + _AT_ONCE]), key=lambda event: event.seq)

    def _ancestor(self, holder: int, number: int) -> object:
        """Return the ancestor `number` of the item `holder`, and record in `held_by` that this one refers to it."""
        record = self._live.get(number)
        if record is None or number == ROOT:
            raise PayloadMismatch(
                f"an item can't be restored: it refers to item {number}, which is not one of its ancestors; restore the "
                "journal from a copy"
            )
        item = self._restore(record)
        held = number if self._plan.is_enqueued_again(record) else self.held_by.get(number, ROOT)
        if held > self.held_by.get(holder, ROOT):
            self.held_by[holder] = held
        return item

    # ---- children -----------------------------------------------------------------------------------------------

    def _ended_roots(self) -> Iterator[Recognized]:
        for number, type, is_keyed, digest in self._recording.ended_roots():
            yield number, self.type_today(type), is_keyed, digest

    def _announced(self, seqs: Sequence[int]) -> Iterator[Announced]:
        for event in self.events_at(seqs):
            if isinstance(event, ItemEnqueued):
                yield event.item, self.type_today(event.type), event.key, bytes(event.payload)

    def children(self, parent: int, waiting: Sequence[tuple[str, RecordedChild]] = ()) -> RecordedChildren:
        """Return the recorded children of `parent`, once: those `waiting`, with today's names of their classes, and the others."""
        ended = self.ended.pop(parent, None) or EndedChildren()
        what = "an initial item" if parent == ROOT else "a child"
        return RecordedChildren(waiting, self._changes, ended, what, is_rerun=parent in self.forgotten)

    def clear(self) -> None:
        """Drop the objects and payloads: from now on the engine frees each item when it ends."""
        self.objects.clear()
        self._announced_as.clear()
        self._first_settled.clear()
        self._states.clear()
        self.ended.clear()
        self.forgotten.clear()
