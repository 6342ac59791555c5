"""The live items of which nothing is known but their announcement, in 16 bytes per item."""

from array import array
from collections.abc import Iterator
from itertools import compress
from typing import Final, NamedTuple

import msgspec

__all__ = ["PAGE_ITEMS", "Kind", "Page", "Siblings", "WaitingItems"]

PAGE_ITEMS: Final = 1_024
"""How many numbers of items a page has, a power of two: `WaitingItems` can then be indexed with a shift and a mask."""

_MAX_LATEST: Final = 1_000
"""How many `Siblings` are remembered, so that items share them although their parents enqueue by turns."""


class Kind(NamedTuple):
    """What many items have in common.

    Attributes:
        type: their class when they were enqueued.
        hook: whether it has a hook.
    """

    type: str
    hook: bool


class Siblings(msgspec.Struct, frozen=True, gc=False):
    """What an item's children of one class have in common.

    Attributes:
        parent: the number of their parent.
        type: their class when they were enqueued.
        hook: whether it has a hook.
    """

    parent: int
    type: str
    hook: bool


class Page:
    """Two columns, with a place per number, used or not.

    An item in `WaitingItems` is what is at one place, and not an object: millions may wait. One column is a list since a
    list takes 6 ns where an array takes 30, and its items share what they refer to. The page itself isn't a struct: to set
    an attribute of a struct takes 30 ns, of an object with slots 10.

    Attributes:
        siblings: what is known of an item and those like it; None where there is no item.
        enqueued_seqs: the number of the event that announced the item.
        count: how many items there are, since `set_count` and without those that were added later.
    """

    __slots__ = ("count", "enqueued_seqs", "siblings")

    def __init__(self, siblings: list[Siblings | None], enqueued_seqs: "array[int]") -> None:
        self.siblings = siblings
        self.enqueued_seqs = enqueued_seqs
        self.set_count()

    def set_count(self) -> None:
        """Set `count`: not for each item that is added, which would take twice as long."""
        self.count = PAGE_ITEMS - self.siblings.count(None)


_Found = tuple[int, Siblings]
"""The event that announced an item, and what is known of it and its siblings."""


class WaitingItems:
    """Items by number, in pages.

    The fold of a journal's events works on the pages itself, since it does so several times per item of a run.

    Attributes:
        pages: the pages by the numbers of their items divided by `PAGE_ITEMS`.
        kinds: the kinds that were seen, by number.
    """

    def __init__(self) -> None:
        self.pages: dict[int, Page] = {}
        self.kinds: list[Kind] = []
        self._kind_numbers: dict[tuple[str, bool], int] = {}
        self._latest: dict[tuple[int, str, bool], Siblings] = {}

    def add_page(self, number: int) -> Page:
        """Add an empty page."""
        page = self.pages[number] = Page([None] * PAGE_ITEMS, array("q", bytes(8 * PAGE_ITEMS)))
        return page

    def kind_number(self, type: str, hook: bool) -> int:
        """Return the number of a kind; of a new one, the next."""
        number = self._kind_numbers.get((type, hook))
        if number is None:
            number = self._kind_numbers[type, hook] = len(self.kinds)
            self.kinds.append(Kind(type, hook))
        return number

    def siblings(self, parent: int, type: str, hook: bool) -> Siblings:
        """Return what items have in common; the same object as before if there were not too many others in between."""
        siblings = self._latest.get((parent, type, hook))
        if siblings is None:
            if len(self._latest) >= _MAX_LATEST:
                self._latest.clear()
            siblings = self._latest[parent, type, hook] = Siblings(parent, type, hook)
        return siblings

    def __len__(self) -> int:
        """How many items there are."""
        return sum(PAGE_ITEMS - page.siblings.count(None) for page in self.pages.values())

    def has(self, item: int) -> bool:
        """Return whether there is such an item."""
        page = self.pages.get(item // PAGE_ITEMS)
        return page is not None and page.siblings[item % PAGE_ITEMS] is not None

    def remove(self, item: int) -> _Found:
        """Remove an item, and return what was known of it.

        Raises:
            KeyError: there is no such item.
        """
        page = self.pages[item // PAGE_ITEMS]
        place = item % PAGE_ITEMS
        siblings = page.siblings[place]
        if siblings is None:
            raise KeyError(item)
        page.siblings[place] = None
        page.count -= 1
        return page.enqueued_seqs[place], siblings

    def items_of(self, number: int) -> "Iterator[tuple[int, *_Found]]":
        """Yield the items of a page: the number of each, and what is known of it."""
        page = self.pages[number]
        for place, siblings in enumerate(page.siblings):
            if siblings is not None:
                yield number * PAGE_ITEMS + place, page.enqueued_seqs[place], siblings

    def __iter__(self) -> "Iterator[tuple[int, *_Found]]":
        """Yield all items, page by page."""
        for number in self.pages:
            yield from self.items_of(number)

    def enqueued_seqs(self) -> Iterator[int]:
        """Yield the numbers of the events that announced them."""
        for page in self.pages.values():
            yield from compress(page.enqueued_seqs, page.siblings)
