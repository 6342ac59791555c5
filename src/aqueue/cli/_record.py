"""Reads the run that a person named; which items of its tree to show."""

from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from aqueue._folds.tree_shape import NUM_RANKS, FoldedSiblings, TreeShape
from aqueue._history.opening import open_history
from aqueue._history.record import Record, live_record
from aqueue.cli._app import closed_at_end
from aqueue.events import Event

__all__ = ["TreeCut", "cut_tree", "read_live", "read_record"]

_MAX_SHOWN: Final = 20_000
"""About how many items of a tree are shown at most."""

_BRIEF_LINES: Final = 23
"""How many lines a brief tree has; more only where the first half of them leads to an item with children of many types."""


class TreeCut(msgspec.Struct):
    """What is shown of an item's children: the rows of some, and sums of the others."""

    children: list[int]
    folded: list[FoldedSiblings]


def read_record(file: str, run: str, on_events: Callable[[list[Event]], None] | None = None) -> Record:
    """Return the run in the file that a person named; it is closed when the subcommand ends. See `Record`."""
    return Record(closed_at_end(open_history(file, run=run)), on_events)


def read_live(file: str, run: str) -> Record:
    """Return the same, perhaps without items that have ended well: then most of its events needn't be read."""
    return live_record(closed_at_end(open_history(file, run=run)))


def cut_tree(shape: TreeShape, top: int | None, depth: int, width: int, *, brief: bool = False) -> dict[int, TreeCut]:
    """Return what to show below each item, parents before their children, by its row; -1 stands for the run.

    Parameters:
        shape: the tree.
        top: the row of the item at the top; None for all initial items.
        depth: how many levels to show below the top.
        width: how many children of an item to show one by one.
        brief: whether to show about 20 lines, and to spend them on what has failed, then on what is running or outstanding.
    """
    cuts: dict[int, TreeCut] = {}
    # Each with how many levels may be shown below it. Of the same rank, those of a higher level come first.
    ranked = [deque[tuple[int, int]]() for _ in range(NUM_RANKS)]
    ranked[0].append((-1 if top is None else top, depth + (top is None)))
    shown = 0
    while shown < _MAX_SHOWN and (waiting := next(filter(None, ranked), None)):
        row, levels = waiting.popleft()
        siblings = shape.roots if row < 0 else list(shape.children(row))
        if not siblings or not levels:
            continue
        cut = TreeCut(*shape.folded(siblings, width, brief=brief))
        lines = len(cut.children) + len(cut.folded)
        if brief and shown + lines > _BRIEF_LINES and shown > _BRIEF_LINES // 2:
            continue  # a smaller one may have room
        shown += lines
        cuts[row] = cut
        for child in cut.children:
            ranked[shape.rank(child) if brief else 0].append((child, levels - 1))
    return cuts
