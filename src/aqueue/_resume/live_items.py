"""The live items of a recorded run as objects of today's classes, and their children that are done."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial

from aqueue._codec.class_names import type_name
from aqueue._codec.item_codec import PayloadCodec, references
from aqueue._engine.adoption import RecordedChildren
from aqueue._engine.changed_classes import ChangedClasses
from aqueue._engine.ended_children import Announced, EndedChildren
from aqueue._engine.recorded_child import RecordedChild
from aqueue._folds.recording import ROOT, RecordedItem, Recording
from aqueue._resume.plan import Plan
from aqueue.errors import PayloadMismatch, UnknownItemType
from aqueue.events import Event, ItemAdopted, ItemCompleted, ItemEnqueued

__all__ = ["LiveItems"]

EventsAt = Callable[[Sequence[int]], Iterable[Event]]
"""Reads the recorded events with these numbers, in any order; works until the run ends."""


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
    """

    def __init__(self, recording: Recording, events_at: EventsAt, codec: PayloadCodec) -> None:
        """Read the payloads of the live items with `events_at`; decode them with `codec`."""
        self.objects: dict[int, object] = {}
        self.held_by: dict[int, int] = {}
        self.ended: dict[int, EndedChildren] = {}
        self.codec = codec
        self._live = recording.live
        self.events_at = events_at
        self._plan: Plan
        self._changes = ChangedClasses(codec, recording.keys, recording.first_ids)
        self._types: dict[str, type | None] = {}
        self._names_today: dict[str, str] = {}
        self._payloads: dict[int, bytes] = {}
        self._adopted: set[int] = set()  # the events with which items were adopted with other attributes
        wanted = [record.enqueued_seq for record in self._live.values() if record.id != ROOT]
        wanted += [record.state_seq for record in self._live.values() if record.state_seq]
        for event in events_at(sorted(wanted)):
            if isinstance(event, ItemEnqueued | ItemAdopted | ItemCompleted):
                self._payloads[event.seq] = bytes(event.payload)
                if isinstance(event, ItemAdopted):
                    self._adopted.add(event.seq)

    # ---- payloads and classes -----------------------------------------------------------------------------------

    def payload(self, record: RecordedItem) -> bytes:
        """Return the payload of an item when it was enqueued."""
        return self._payloads[record.enqueued_seq]

    def state(self, record: RecordedItem) -> bytes:
        """Return the latest recorded payload of an item."""
        return self._payloads[record.state_seq or record.enqueued_seq]

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
            needed = number not in plan.stay_failed and (not record.completed or record.hook)
            if cls is None:
                if needed:
                    missing[record.type] += 1
            elif needed:
                self._restore(record)
            else:  # a hook or a child may use it
                with suppress(PayloadMismatch):
                    self._restore(record)
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
        self.ended = {
            # In the order of enqueue, in which an unchanged parent enqueues them again.
            record.id: EndedChildren(partial(self._announced, array("q", sorted(record.closed_children))))
            for record in self._live.values()
            if record.closed_children
        }

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
                    self._payloads[record.state_seq] = self.payload(record)
                    return self._restore(record)
                waiting = sum(other.type == record.type and not other.completed for other in self._live.values())
                raise PayloadMismatch(
                    f"{error} (it was item {number}; {waiting:,} item{'s' if waiting != 1 else ''} of {record.type} "
                    f"{'are' if waiting != 1 else 'is'} outstanding; nothing was changed)"
                ) from error.__cause__
        return self.objects[number]

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

    def _announced(self, seqs: Sequence[int]) -> Iterator[Announced]:
        for event in self.events_at(seqs):
            if isinstance(event, ItemEnqueued):
                yield event.item, self.type_today(event.type), event.key, bytes(event.payload)

    def children(self, parent: int, waiting: Sequence[tuple[str, RecordedChild]] = ()) -> RecordedChildren:
        """Return the recorded children of `parent`, once: those `waiting`, with today's names of their classes, and the others."""
        ended = self.ended.pop(parent, None) or EndedChildren()
        return RecordedChildren(waiting, self._changes, ended, "an initial item" if parent == ROOT else "a child")

    def clear(self) -> None:
        """Drop the objects and payloads: from now on the engine frees each item when it ends."""
        self.objects.clear()
        self._payloads.clear()
        self.ended.clear()
