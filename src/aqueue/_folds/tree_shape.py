"""The tree of the items in a table: each item's children, and counts of all items below it, in 24 bytes per item."""

from array import array
from collections.abc import Iterator, Sequence

import msgspec

from aqueue._folds.item_table import ItemTable

__all__ = ["CountsBelow", "FoldedSiblings", "TreeShape"]


class CountsBelow(msgspec.Struct, frozen=True):
    """How many items are below one, at any depth.

    Attributes:
        total: all of them.
        completed: those that have completed.
        failed: those that have failed for good.
    """

    total: int
    completed: int
    failed: int

    @property
    def outstanding(self) -> int:
        """Those that have neither completed nor failed."""
        return self.total - self.completed - self.failed


class FoldedSiblings(msgspec.Struct):
    """Siblings of one type that are shown as one.

    Attributes:
        type: their type.
        count: how many they are.
        completed: how many of them have completed.
        failed: how many of them have failed for good.
        below: how many items are below them.
    """

    type: str
    count: int = 0
    completed: int = 0
    failed: int = 0
    below: int = 0


class TreeShape:
    """The tree of `items`, from each item to its children in the order of enqueue."""

    def __init__(self, items: ItemTable) -> None:
        self._items = items
        size = len(items)
        self._total = array("I", bytes(4 * size))
        self._completed = array("I", bytes(4 * size))
        self._failed = array("I", bytes(4 * size))
        self._first_child = array("i", b"\xff" * 4 * size)
        self._next_sibling = array("i", b"\xff" * 4 * size)
        self.roots: list[int] = []
        total, completed, failed = self._total, self._completed, self._failed
        first_child, next_sibling, parents = self._first_child, self._next_sibling, items.parent_row
        has_completed = items.is_in("completed")
        has_failed = items.is_in("failed")
        # Parents come before their children, so that going backwards each item's own sums are ready when it is met.
        for row in range(size - 1, -1, -1):
            parent = parents[row]
            if parent < 0:
                self.roots.append(row)
                continue
            total[parent] += total[row] + 1
            completed[parent] += completed[row] + has_completed[row]
            failed[parent] += failed[row] + has_failed[row]
            next_sibling[row] = first_child[parent]
            first_child[parent] = row
        self.roots.reverse()

    def below(self, row: int) -> CountsBelow:
        """Return how many items are below the one in `row`."""
        return CountsBelow(self._total[row], self._completed[row], self._failed[row])

    def children(self, row: int) -> Iterator[int]:
        """Yield the rows of the children of the item in `row`."""
        child = self._first_child[row]
        while child >= 0:
            yield child
            child = self._next_sibling[child]

    def folded(self, siblings: Sequence[int], width: int) -> tuple[list[int], list[FoldedSiblings]]:
        """Return which siblings to show one by one, at most `width`, and the others by type, the most numerous first.

        If there are more, those come first that have failed or have a failure below them, then those that are running,
        then the others in their order.
        """
        if len(siblings) <= width:
            return list(siblings), []
        state_of = self._items.state_of

        def rank(row: int) -> int:
            state = state_of(row)
            return 0 if state == "failed" or self._failed[row] else 1 if state == "running" else 2

        shown = set(sorted(siblings, key=rank)[:width])
        others: dict[int, FoldedSiblings] = {}
        for row in siblings:
            if row in shown:
                continue
            number = self._items.type_number[row]
            folded = others.get(number)
            if folded is None:
                folded = others[number] = FoldedSiblings(self._items.types[number])
            folded.count += 1
            folded.completed += state_of(row) == "completed"
            folded.failed += state_of(row) == "failed"
            folded.below += self._total[row]
        ranked = sorted(others.values(), key=lambda one: -one.count)
        return [row for row in siblings if row in shown], ranked
