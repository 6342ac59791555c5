"""Gives items consecutive numbers where their own have gaps, as in a log whose beginning is missing."""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from aqueue.events import Event, ItemEnqueued

__all__ = ["MAX_SKIPPED", "Numbering"]

MAX_SKIPPED: Final = 1_000_000
"""How many items in a row may be missing before the others get numbers of their own."""


class Numbering:
    """Hands events on with items that are announced in the order of their numbers.

    Attributes:
        is_new: whether items have got other numbers than their own.
    """

    def __init__(self) -> None:
        self.is_new = False
        self._next = 1
        self._numbers: dict[int, int] = {}  # of those that have others; about 100 bytes each, only where it is needed

    def apply(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return `events`, which follow those before and are consistent; the very ones if their numbers do."""
        if not self.is_new:
            following = self._next
            for event in events:
                if type(event) is ItemEnqueued:
                    if not following <= event.item <= following + MAX_SKIPPED:
                        break
                    following = event.item + 1
            else:
                self._next = following
                return events
        return [self._numbered(event) for event in events]

    def _numbered(self, event: Event) -> Event:
        item = getattr(event, "item", 0)
        numbers = self._numbers
        if type(event) is ItemEnqueued:
            if self.is_new or not self._next <= item <= self._next + MAX_SKIPPED:
                self.is_new = True
                numbers[item] = self._next
                self._next += 1
            else:
                self._next = item + 1
            return replace(event, item=numbers.get(item, item), parent=numbers.get(event.parent, event.parent))
        number = numbers.get(item, item)
        return event if number == item else replace(event, item=number)
