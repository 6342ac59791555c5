"""What a journal tells of items that the fold of the live ones has forgotten, or has forgotten parts of.

Whoever lets an item run again whose subtree had ended well needs its facts and those of its ancestors: see
`aqueue.events.EndedItem`. A resume needs the children of such items: what they announced and returned.

The events are read twice: first the announcements, which name each item's parent, and then all that happened to the items that were
found. Of other items only the parent's number is kept, eight bytes.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Raw

from aqueue import events as ev
from aqueue.events import NO_DATA, EndedItem, Event, ItemCompleted, ItemEnqueued, ItemStarted

__all__ = ["AnnouncedChild", "ItemFacts", "ended_items"]


class AnnouncedChild(NamedTuple):
    """The announcement of a child: its number, that of the event, and what this one says."""

    item: int
    seq: int
    type: str
    key: str | None
    payload: bytes


class ItemFacts(msgspec.Struct):
    """What a journal tells of an item, as of its last event.

    Attributes:
        id, parent, type, track_overall, hook, occurrence, payload: as announced; see `aqueue.events.ItemEnqueued`.
        enqueued_seq: the number of that event.
        key: its key, perhaps added by `item.adopted`.
        state: its latest state: what it was adopted with, or what its `process` left.
        state_seq: the number of the event that has it; 0 if that is the announcement.
        group: the group in which it was queued last; None if it had none.
        skipped: whether a person skipped it.
        is_completed: whether its `process` has returned, or it was skipped, and nothing of it has run since.
        is_closed: whether its subtree has ended well, or its hook has run over a failure.
        attempt, hook_attempt: how often its `process` and its hook were started.
        process_seq: the number of the event that has what its `process` returned, or what it was skipped with; 0 for nothing.
        process_result: this result, as JSON.
        result_seq, result: the same of the result that holds: that of its latest round that has ended. So that of the hook, if
            this returned one.
        has_children: whether it ever enqueued one.
        children: the announcements of its children, in order. Only of an item that was asked for: if it runs again, it enqueues
            them again.
        results: the results that hold of its children by number, without None, if its class has a hook.
    """

    id: int
    parent: int
    type: str
    enqueued_seq: int
    track_overall: bool
    hook: bool
    key: str | None
    occurrence: int
    payload: bytes
    state: bytes
    group: str | None
    state_seq: int = 0
    skipped: bool = False
    is_completed: bool = False
    is_closed: bool = False
    attempt: int = 0
    hook_attempt: int = 0
    process_seq: int = 0
    process_result: Raw = NO_DATA
    result_seq: int = 0
    result: Raw = NO_DATA
    has_children: bool = False
    children: list[AnnouncedChild] = []
    results: dict[int, Raw] = {}

    @property
    def announced_children(self) -> list[tuple[int, str, str | None, bytes]]:
        """The same without the numbers of the events."""
        return [(one.item, one.type, one.key, one.payload) for one in self.children]

    def as_ended(self) -> EndedItem:
        """Return what `item.reopened` says of it, if its subtree had ended well."""
        return EndedItem(
            self.parent,
            self.enqueued_seq,
            self.state_seq,
            self.track_overall,
            self.hook,
            self.key,
            self.occurrence,
            self.has_children,
            self.attempt,
            self.hook_attempt,
        )


def ended_items(wanted: Iterable[int], read: Callable[[], Iterable[Sequence[Event]]]) -> dict[int, ItemFacts]:
    """Return the facts of the items numbered `wanted`, and of all their ancestors, by number.

    Those that were never announced are left out.

    Parameters:
        wanted: the numbers of items, in any order, ended or not.
        read: reads all events in order, in batches; called twice. The second time there may be more.
    """
    asked = set(wanted)
    if not asked:
        return {}
    parents = _parents(max(asked), read())
    chain: set[int] = set()
    for item in asked:
        while 0 < item < len(parents) and item not in chain:
            chain.add(item)
            item = parents[item]
    fold = _Facts(asked, chain)
    for events in read():
        fold.apply(events)
    return fold.items


def _parents(last: int, batches: Iterable[Sequence[Event]]) -> "array[int]":
    """Return the number of the parent of each item up to `last`, at its own; as far as they were announced."""
    parents = array("q", [0])
    for events in batches:
        parents.extend([event.parent for event in events if type(event) is ItemEnqueued])
        if len(parents) > last:
            break
    return parents


class _Facts:
    """The fold.

    Attributes:
        items: the facts of the items of `chain` that were announced so far.
    """

    def __init__(self, asked: set[int], chain: set[int]) -> None:
        self.items: dict[int, ItemFacts] = {}
        self._asked = asked
        self._chain = chain
        self._children: dict[int, ItemFacts] = {}  # the parents with a hook, by the numbers of their children
        self._of_process: dict[int, Raw] = {}  # what `process` of such a child returned, if it has a hook, too
        self._hooked: set[int] = set()  # the children that have one

    def apply(self, events: Iterable[Event]) -> None:
        """Fold `events`, which must follow those applied so far."""
        items, chain, children = self.items, self._chain, self._children
        for event in events:
            if type(event) is ItemEnqueued:
                if event.parent in chain or event.item in chain:
                    self._enqueue(event)
            elif type(event) is ItemStarted:
                if event.item in chain:
                    item = items[event.item]
                    item.is_closed = False
                    if event.phase == "process":
                        item.attempt = event.attempt
                        item.is_completed = False
                    else:
                        item.hook_attempt = event.attempt
            else:
                number = getattr(event, "item", 0)
                if number in chain:
                    _apply(items[number], event)
                if number in children:
                    self._apply_to_child(children[number].results, number, event)

    def _enqueue(self, event: ItemEnqueued) -> None:
        if event.item in self._chain:
            payload = bytes(event.payload)
            self.items[event.item] = ItemFacts(
                event.item,
                event.parent,
                event.type,
                event.seq,
                event.track_overall,
                event.hook,
                event.key,
                event.occurrence,
                payload,
                payload,
                event.group,
            )
        parent = self.items.get(event.parent)
        if parent is None:
            return
        parent.has_children = True
        if parent.hook:
            self._children[event.item] = parent
            if event.hook:
                self._hooked.add(event.item)
        if event.parent in self._asked:
            announced = AnnouncedChild(event.item, event.seq, event.type, event.key, bytes(event.payload))
            parent.children.append(announced)

    def _apply_to_child(self, results: dict[int, Raw], number: int, event: Event) -> None:
        match event:
            case ItemCompleted() | ev.ItemSkipped():
                result = event.result.copy()
                if number in self._hooked:
                    self._of_process[number] = result
            case ev.ItemChildrenProcessed():
                if event.result is NO_DATA:
                    result = self._of_process.get(number, results.get(number, NO_DATA))
                else:
                    result = event.result.copy()
            case ev.ItemFailed():
                result = NO_DATA
            case _:
                return
        if result:
            results[number] = result
        else:
            results.pop(number, None)


def _apply(item: ItemFacts, event: Event) -> None:
    match event:
        case ItemCompleted() | ev.ItemSkipped():
            # A view of the event would keep all that was read with it.
            item.process_result = item.result = event.result.copy() if event.result else NO_DATA
            item.process_seq = item.result_seq = event.seq if event.result else 0
            item.skipped = isinstance(event, ev.ItemSkipped)
            item.is_completed = True
            item.is_closed = not item.has_children and (item.skipped or not item.hook)
            if isinstance(event, ItemCompleted) and event.payload:
                item.state, item.state_seq = bytes(event.payload), event.seq
        case ev.ItemChildrenProcessed():
            item.is_closed = True
            has_own = bool(event.result)
            item.result = event.result.copy() if has_own else item.process_result
            item.result_seq = event.seq if has_own else item.process_seq
        case ev.ItemFailed():
            item.result, item.result_seq = NO_DATA, 0
        case ev.ItemReopened():
            item.is_closed = False
            if event.rerun:
                item.skipped = item.is_completed = False
            if event.rerun or event.failed == "process":
                item.group = event.group
        case ev.ItemAdopted():
            if event.payload:
                item.state, item.state_seq = bytes(event.payload), event.seq
            item.key = item.key if event.key is None else event.key
        case ev.ItemRegrouped():
            item.group = event.group
        case _:
            pass
