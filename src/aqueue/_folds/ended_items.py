"""What a journal tells of items that the fold of the live ones has forgotten, or has forgotten parts of.

A retry of an item whose subtree had ended well needs the facts of the item and of its ancestors: see `aqueue.events.EndedItem`. A
resume needs the children of such items: what they announced and returned.

The events are read twice: first the announcements, which name each item's parent, and then all that happened to the items that were
found. Of other items only the parent's number is kept, eight bytes.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence

from msgspec import Raw

from aqueue import events as ev
from aqueue._stream.item_facts import AnnouncedChild, ItemFacts
from aqueue.events import NO_DATA, Event, ItemCompleted, ItemEnqueued, ItemStarted

__all__ = ["ended_items"]


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
            if event.key is not None:
                item.key, item.is_key_added = event.key, True
        case ev.ItemRegrouped():
            item.group = event.group
        case _:
            pass
