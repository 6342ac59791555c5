"""The live items of which nothing is known but their announcement, in 20 bytes per item."""

from array import array
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

__all__ = ["PAGE_ITEMS", "Kind", "Page", "WaitingItems"]

PAGE_ITEMS: Final = 1_024
"""How many numbers of items a page has, a power of two: `WaitingItems` can then be indexed with a shift and a mask."""


class Kind(NamedTuple):
    """What many items have in common.

    Attributes:
        type: their class when they were enqueued.
        hook: whether it has a hook.
    """

    type: str
    hook: bool


class Page(msgspec.Struct, gc=False):
    """A column per fact, with a place per number, used or not.

    An item in `WaitingItems` is the three numbers at one place, and not an object: millions may wait.

    Attributes:
        enqueued_seqs: the number of the event that announced the item; 0 where there is no item.
        parents: the number of its parent.
        kinds: the number of its `Kind`.
        count: how many items there are.
    """

    enqueued_seqs: "array[int]"
    parents: "array[int]"
    kinds: "array[int]"
    count: int = 0


_Found = tuple[int, int, Kind]
"""The event that announced an item, its parent and its kind."""


class WaitingItems:
    """Items by number, in pages.

    The fold of a journal's events works on the pages itself, since it does so several times per item of a run.

    Attributes:
        pages: the pages by the numbers of their items divided by `PAGE_ITEMS`.
        kinds: the kinds that were seen, by number.
        kind_numbers: the number of each.
        hooks: whether items of each have a hook, by number.
    """

    def __init__(self) -> None:
        self.pages: dict[int, Page] = {}
        self.kinds: list[Kind] = []
        self.kind_numbers: dict[tuple[str, bool], int] = {}
        self.hooks: list[bool] = []

    def add_page(self, number: int) -> Page:
        """Add an empty page."""
        zeros = bytes(8 * PAGE_ITEMS)
        page = Page(array("q", zeros), array("q", zeros), array("I", zeros[: 4 * PAGE_ITEMS]))
        self.pages[number] = page
        return page

    def add_kind(self, type: str, hook: bool) -> int:
        """Add a kind, and return its number."""
        number = self.kind_numbers[type, hook] = len(self.kinds)
        self.kinds.append(Kind(type, hook))
        self.hooks.append(hook)
        return number

    def has(self, item: int) -> bool:
        """Return whether there is such an item."""
        page = self.pages.get(item // PAGE_ITEMS)
        return page is not None and page.enqueued_seqs[item % PAGE_ITEMS] > 0

    def remove(self, item: int) -> _Found:
        """Remove an item, and return what was known of it.

        Raises:
            KeyError: there is no such item.
        """
        page = self.pages[item // PAGE_ITEMS]
        place = item % PAGE_ITEMS
        found = self._at(page, place)
        if found is None:
            raise KeyError(item)
        page.enqueued_seqs[place] = 0
        page.count -= 1
        return found

    def items_of(self, number: int) -> "Iterator[tuple[int, *_Found]]":
        """Yield the items of a page: the number of each, and what is known of it."""
        page = self.pages[number]
        for place in range(PAGE_ITEMS):
            found = self._at(page, place)
            if found is not None:
                yield number * PAGE_ITEMS + place, *found

    def __iter__(self) -> "Iterator[tuple[int, *_Found]]":
        """Yield all items, page by page."""
        for number in self.pages:
            yield from self.items_of(number)

    def _at(self, page: Page, place: int) -> _Found | None:
        seq = page.enqueued_seqs[place]
        return (seq, page.parents[place], self.kinds[page.kinds[place]]) if seq else None
