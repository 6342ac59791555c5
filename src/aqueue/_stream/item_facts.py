"""What the events tell of one item, read again once nothing else remembers the item."""

from typing import NamedTuple

import msgspec
from msgspec import Raw

from aqueue.events import NO_DATA, EndedItem

__all__ = ["AnnouncedChild", "ItemFacts"]


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
        is_key_added: whether it was. The item's identity stays that of an item without a key then.
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
    is_key_added: bool = False
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
