"""The tree of the items in a table: each item's children, and counts of all items below it, in 30 bytes per item."""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Final

import msgspec

from aqueue._folds.item_table import ItemTable

__all__ = ["NUM_RANKS", "CountsBelow", "FoldedSiblings", "TreeShape"]

NUM_RANKS: Final = 4
_COMPLETED_RANK: Final = NUM_RANKS - 1
_FEW: Final = 4
"""So few siblings are shown even if most of them have completed."""


class CountsBelow(msgspec.Struct, frozen=True):
    """How many items are below one, at any depth.

    Attributes:
        total: all of them.
        completed: those that have completed.
        failed: those that have failed for good.
        skipped: those that a person skipped.
    """

    total: int
    completed: int
    failed: int
    skipped: int = 0

    @property
    def outstanding(self) -> int:
        """Those that have neither completed nor failed, and were not skipped."""
        return self.total - self.completed - self.failed - self.skipped


class FoldedSiblings(msgspec.Struct):
    """Siblings of one type that are shown as one.

    Attributes:
        type: their type.
        count: how many they are.
        completed: how many of them have completed.
        failed: how many of them have failed for good.
        skipped: how many of them a person skipped.
        below: how many items are below them.
    """

    type: str
    count: int = 0
    completed: int = 0
    failed: int = 0
    skipped: int = 0
    below: int = 0


class TreeShape:
    """The tree of `items`, from each item to its children in the order of enqueue."""

    def __init__(self, items: ItemTable) -> None:
        self._items = items
        size = len(items)
        self._total = array("I", bytes(4 * size))
        self._completed = array("I", bytes(4 * size))
        self._failed = array("I", bytes(4 * size))
        self._skipped = array("I", bytes(4 * size))
        self._has_running = bytearray(items.is_in("running"))
        self._has_failed = items.is_in("failed")
        self._has_completed = items.is_in("completed")
        self._was_skipped = items.is_in("skipped")
        self._first_child = array("i", b"\xff" * 4 * size)
        self._next_sibling = array("i", b"\xff" * 4 * size)
        self.roots: list[int] = []
        total, completed, failed = self._total, self._completed, self._failed
        first_child, next_sibling, parents = self._first_child, self._next_sibling, items.parent_row
        has_running, has_completed, has_failed = self._has_running, self._has_completed, self._has_failed
        skipped, was_skipped = self._skipped, self._was_skipped
        # Parents come before their children, so that going backwards each item's own sums are ready when it is met.
        for row in range(size - 1, -1, -1):
            parent = parents[row]
            if parent < 0:
                self.roots.append(row)
                continue
            total[parent] += total[row] + 1
            completed[parent] += completed[row] + has_completed[row]
            if failed_here := failed[row] + has_failed[row]:
                failed[parent] += failed_here
            if skipped_here := skipped[row] + was_skipped[row]:
                skipped[parent] += skipped_here
            if has_running[row]:
                has_running[parent] = 1
            next_sibling[row] = first_child[parent]
            first_child[parent] = row
        self.roots.reverse()

    def below(self, row: int) -> CountsBelow:
        """Return how many items are below the one in `row`."""
        return CountsBelow(self._total[row], self._completed[row], self._failed[row], self._skipped[row])

    def children(self, row: int) -> Iterator[int]:
        """Yield the rows of the children of the item in `row`."""
        child = self._first_child[row]
        while child >= 0:
            yield child
            child = self._next_sibling[child]

    def rank(self, row: int) -> int:
        """Return how soon to show an item: 0 if it or something below it has failed, 1 if running, 2 if outstanding, else 3."""
        if self._has_failed[row] or self._failed[row]:
            return 0
        if self._has_running[row]:
            return 1
        is_outstanding = not (self._has_completed[row] or self._was_skipped[row])
        is_open = is_outstanding or self._total[row] > self._completed[row] + self._skipped[row]
        return 2 if is_open else _COMPLETED_RANK

    def folded(
        self, siblings: Sequence[int], width: int, *, brief: bool = False
    ) -> tuple[list[int], list[FoldedSiblings]]:
        """Return which siblings to show one by one, at most `width`, and the others by type, the most numerous first.

        If there are more, those of the lowest `rank` are shown, and of the same rank the first ones. With `brief`, those that
        have completed with all below them are among the others, unless there are only a few siblings, or only such ones.
        """
        if len(siblings) <= (_FEW if brief else width):
            return list(siblings), []
        ranked: list[list[int]] = [[] for _ in range(NUM_RANKS)]
        for row in siblings:
            ranked[self.rank(row)].append(row)
        if brief:
            width = min(width, len(siblings) - len(ranked[_COMPLETED_RANK]) or width)
        shown = set(islice(chain(*ranked), width))
        hidden = [row for row in siblings if row not in shown]
        columns = (self._items.type_number, self._has_completed, self._has_failed, self._was_skipped)
        others: dict[int, FoldedSiblings] = {}
        # Counted at once: there may be a million of them.
        alike = Counter(zip(*(map(column.__getitem__, hidden) for column in columns), strict=True))
        for (number, completed, failed, skipped), count in alike.items():
            folded = others.setdefault(number, FoldedSiblings(self._items.types[number]))
            folded.count += count
            folded.completed += count * completed
            folded.failed += count * failed
            folded.skipped += count * skipped
        for row in hidden:
            if self._total[row]:
                others[self._items.type_number[row]].below += self._total[row]
        by_count = sorted(others.values(), key=lambda one: -one.count)
        return [row for row in siblings if row in shown], by_count
