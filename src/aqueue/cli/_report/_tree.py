"""Keeps the tree of items in columns of numbers, and makes its largest parts into a bounded number of cells."""

from array import array
from collections.abc import Iterator
from heapq import heappop, heappush, nlargest
from typing import Final

import msgspec

from aqueue.cli._report._failed import FailedItems
from aqueue.cli._report._numbering import MAX_SKIPPED

__all__ = ["MAX_CELLS", "Cell", "ItemTree", "Level"]

MAX_CELLS: Final = 3_000
_MAX_SIBLINGS: Final = 20
"""How many children of one type a cell has by themselves; the smaller ones of them are together in one cell."""

_MAX_LEVELS: Final = 40


class Cell(msgspec.Struct, gc=False):
    """A part of the tree: an item and what is below it, or several siblings of one type and what is below them.

    Attributes:
        parent: the index of the cell above it; -1 for the run itself.
        type: the number of the items' type; -1 for the run itself.
        item: the item's number; 0 if it is not one.
        count: how many siblings it is.
        size: how many items: these and all below them.
        failed: how many of those have failed.
        busy_s: how long attempts at them took, seconds.
        is_cut: whether there are items below it that have no cell.
    """

    parent: int
    type: int
    item: int
    count: int
    size: int
    failed: int
    busy_s: float
    is_cut: bool = False


class Level(msgspec.Struct, gc=False):
    """The items of one type at one distance from the run: how many, how many failed, how long attempts took, seconds."""

    items: int = 0
    failed: int = 0
    busy_s: float = 0.0


class ItemTree:
    """Keeps who enqueued whom: 10 bytes per item while events come, and 24 more while cells are made.

    Attributes:
        parents: each item's parent, by the item's number; 0 for an initial item.
        types: the number of each item's type.
        busy_s: how long attempts at each item took, seconds.
    """

    def __init__(self) -> None:
        self.parents = array("I", [0])
        self.types = array("H", [0])
        self.busy_s = array("f", [0.0])

    def skip_to(self, item: int) -> int:
        """Make room for items before `item` of which nothing is known, and return how many those are.

        Raises:
            ValueError: they are so many that the number can't be right.
        """
        missing = item - len(self.parents)
        if not 0 <= missing <= MAX_SKIPPED:
            raise ValueError(f"item {item} is announced after item {len(self.parents) - 1}: is this one run, in order?")
        self.parents.extend([0] * missing)
        self.types.extend([0] * missing)
        self.busy_s.extend([0.0] * missing)
        return missing

    def cells(self, failed: FailedItems) -> list[Cell]:
        """Return the largest cells, at most 3,000, each after the one above it. The first is the run."""
        return _Cells(self, failed).cells

    def levels(self, failed: FailedItems) -> dict[tuple[int, int], Level]:
        """Return the items by level and type; initial items are at level 1, and at 40 is what is deeper, too."""
        parents, types, busy_s, kind_of = self.parents, self.types, self.busy_s, failed.kind_of
        depths = array("B", bytes(len(parents)))
        levels: dict[tuple[int, int], Level] = {}
        for item in range(1, len(parents)):
            depth = depths[parents[item]]
            if depth < _MAX_LEVELS:
                depth += 1
            depths[item] = depth
            key = depth, types[item]
            level = levels.get(key)
            if level is None:
                level = levels[key] = Level()
            level.items += 1
            level.busy_s += busy_s[item]
            if kind_of[item]:
                level.failed += 1
        return levels


class _Cells:
    """Makes cells, that of the largest subtree first, until they are as many as there may be."""

    def __init__(self, tree: ItemTree, failed: FailedItems) -> None:
        self._tree = tree
        parents = tree.parents
        count = len(parents)
        # Children have higher numbers than their parents: so one way through the numbers is enough, without a stack.
        self._sizes = sizes = array("I", [1]) * count
        self._busy_s = below_s = array("d", tree.busy_s)
        self._failed = below = array("I", map(bool, failed.kind_of))
        self._first_child = first = array("I", bytes(4 * count))
        self._next_sibling = following = array("I", bytes(4 * count))
        for item in range(count - 1, 0, -1):
            parent = parents[item]
            sizes[parent] += sizes[item]
            below_s[parent] += below_s[item]
            below[parent] += below[item]
            following[item] = first[parent]
            first[parent] = item
        self.cells = [Cell(-1, -1, 0, 1, count - 1, below[0], below_s[0])]
        self._queue: list[tuple[int, int, array[int]]] = [(0, 0, array("I", [0]))]
        self._split()

    def _split(self) -> None:
        """Split cells into those below them, the largest first."""
        queue = self._queue
        while queue:
            _, index, items = heappop(queue)
            groups: dict[int, array[int]] = {}
            types = self._tree.types
            for child in self._children(items):
                group = groups.get(types[child])
                if group is None:
                    group = groups[types[child]] = array("I")
                group.append(child)
            below = [part for group in groups.values() for part in self._parts(group, alone=len(items) == 1)]
            if len(self.cells) + len(below) > MAX_CELLS:
                self.cells[index].is_cut = True
                continue
            for part in sorted(below, key=lambda part: -sum(map(self._sizes.__getitem__, part))):
                self._add(index, part)

    def _children(self, items: "array[int]") -> Iterator[int]:
        first, following = self._first_child, self._next_sibling
        for item in items:
            child = first[item]
            while child:
                yield child
                child = following[child]

    def _parts(self, group: "array[int]", *, alone: bool) -> "list[array[int]]":
        """Return siblings of one type, or cousins, as they are to be shown: the largest alone, the others together."""
        if len(group) <= (_MAX_SIBLINGS + 1 if alone else 1):
            return [array("I", [item]) for item in group]
        if not alone:
            return [group]
        sizes, busy_s = self._sizes, self._busy_s
        largest = set(nlargest(_MAX_SIBLINGS, group, key=lambda item: (sizes[item], busy_s[item])))
        # Of leaves none is larger than another: nothing is gained by showing a few of them.
        if max(sizes[item] for item in largest) == 1:
            return [group]
        rest = array("I", [item for item in group if item not in largest])
        return [*(array("I", [item]) for item in group if item in largest), rest]

    def _add(self, parent: int, items: "array[int]") -> None:
        index = len(self.cells)
        sizes, failed, busy_s = self._sizes, self._failed, self._busy_s
        size = sum(sizes[item] for item in items)
        self.cells.append(
            Cell(
                parent,
                self._tree.types[items[0]],
                items[0] if len(items) == 1 else 0,
                len(items),
                size,
                sum(failed[item] for item in items),
                sum(busy_s[item] for item in items),
            )
        )
        if size > len(items):
            heappush(self._queue, (-size, index, items))
