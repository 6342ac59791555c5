"""Nodes in the order in which they are taken: all in memory, or the next ones in memory and the others spilled.

A spilled node is known by its number only: its item is in the journal, and is read back before its turn comes. What stays in
memory is the number, eight bytes, instead of some hundred bytes for the node and the user's object.
"""

from array import array
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final, Protocol

import msgspec

from aqueue._engine.tree import Node

__all__ = ["BLOCK_ITEMS", "Block", "Line", "SpillingLine", "SpillingStack", "Spills", "Stack"]

BLOCK_ITEMS: Final = 2_000
"""How many nodes are read back at once, at most: about 5 ms of the thread that reads them, and 5 ms of the event loop."""

_FEW: Final = 4
"""How many are read back at once, at least, where there is no room, since many groups share the memory."""


class Line(deque[Node]):
    """First in, first out, and nothing else."""

    __slots__ = ()  # each group in which items wait has one

    put = deque.append
    put_first = deque.appendleft
    take = deque.popleft

    def move(self) -> "Line":
        """Return a new line with all nodes, and leave this one empty."""
        moved = Line(self)
        self.clear()
        return moved

    def in_memory(self) -> Iterator[list[Node]]:
        """Yield the nodes, in lists that don't change."""
        yield list(self)


class Stack(deque[Node]):
    """Last in, first out, and nothing else."""

    __slots__ = ()

    put = put_first = deque.append
    take = deque.pop

    def move(self) -> "Stack":
        """Return a new stack with all nodes, and leave this one empty."""
        moved = Stack(self)
        self.clear()
        return moved

    def in_memory(self) -> Iterator[list[Node]]:
        """Yield the nodes, in lists that don't change."""
        yield list(self)


class Block(msgspec.Struct, gc=False, eq=False):
    """Some nodes of a line that follow each other.

    Attributes:
        numbers: their numbers, in the order of enqueue.
        nodes: by number, those of them that can't be spilled, and the parents of the others.
    """

    numbers: "array[int]"
    nodes: dict[int, Node]


class Spills(Protocol):
    """What a line needs in order to spill nodes; see `aqueue._engine.spilling.Spilling`.

    Attributes:
        most: how many nodes are to be in memory, at most.
        num_spilled: how many nodes are spilled, in all lines.
        num_lines: how many lines share the memory, about.
        at_once: how many nodes are to be read back at once, at most.
    """

    most: int
    num_spilled: int
    num_lines: int
    at_once: int

    def can_spill(self, node: Node) -> bool:
        """Return whether the journal has all that is needed to make `node` again."""
        ...

    def read(self, line: "SpillingLine", block: Block) -> None:
        """Read the nodes of `block` back, and give them to the `put_back` of `line` later."""
        ...


class SpillingLine:
    """First in, first out; nodes for which there is no room are spilled.

    It is true if the next node is in memory, so that `take` returns it.

    Attributes:
        near: the nodes that are next, in memory.
        far: the spilled nodes, in blocks.
        num_away: how many nodes are spilled or being read.
        take: removes and returns the next node; raises `IndexError` if it isn't in memory.
        group: the name of the group whose line this is.
    """

    __slots__ = ("_being_read", "_spills", "far", "group", "is_full", "near", "num_away", "take")  # as in `Line`

    def __init__(self, spills: Spills, is_full: Callable[[], bool] | None = None, group: str | None = None) -> None:
        """Start empty; `is_full` returns whether there is no room for another node, by default if `near` has `most`."""
        self.near: deque[Node] = deque()
        self.group = group
        self._spills = spills
        self.is_full = is_full or self._is_near_full
        self.far: list[Block] = []  # an empty deque takes 700 bytes more
        self._being_read: Block | None = None
        self.num_away = 0
        self.take = self._taker()

    def _is_near_full(self) -> bool:
        return len(self.near) >= self._spills.most

    def _taker(self) -> Callable[[], Node]:
        return self.near.popleft

    def put(self, node: Node, /) -> None:
        """Add a node as the last."""
        if self.num_away or self.is_full():
            self._spill(node)
        else:
            self.near.append(node)

    def put_first(self, node: Node, /) -> None:
        """Add a node that was the next before another came."""
        self.near.appendleft(node)

    def _spill(self, node: Node) -> None:
        if not self.far or len(self.far[-1].numbers) >= BLOCK_ITEMS:
            self.far.append(Block(array("q"), {}))
        block = self.far[-1]
        block.numbers.append(node.id)
        if not self._spills.can_spill(node):
            block.nodes[node.id] = node
        elif node.parent is not None:
            block.nodes[node.parent.id] = node.parent
        self.num_away += 1
        self._spills.num_spilled += 1

    def refill(self) -> None:
        """Have spilled nodes read back, if few are left in memory."""
        spills, num_near, is_full = self._spills, len(self.near), self.is_full()
        half = max(spills.most // 2, 1)
        is_enough = num_near >= half or (num_near and is_full)
        if self.far and self._being_read is None and not is_enough:
            # One group that is paused may fill the memory: all others together may have a quarter more.
            share = max(_FEW, spills.most // (4 * spills.num_lines)) if is_full else half
            block = self._being_read = self._next(min(share, half, spills.at_once))
            # Now, not when they arrive, or each of many groups would believe that there is room.
            spills.num_spilled -= len(block.numbers)
            spills.read(self, block)

    def _next(self, most: int) -> Block:
        """Remove and return the nodes that are next, at most so many."""
        block = self.far[0]
        if len(block.numbers) <= most:
            return self.far.pop(0)
        following = Block(block.numbers[:most], block.nodes)
        del block.numbers[:most]
        return following

    def put_back(self, nodes: list[Node]) -> None:
        """Add the nodes that were read back, in the order of enqueue."""
        self.near.extend(nodes)
        self._end_read()

    def _end_read(self) -> None:
        assert self._being_read is not None
        self.num_away -= len(self._being_read.numbers)
        self._being_read = None

    def move(self) -> "SpillingLine":
        """Return this line. From now on, a `take` that was read before finds it empty."""
        near, self.near = self.near, self.near.copy()
        near.clear()
        self.take = self._taker()
        return self

    def take_all_in_memory(self) -> list[Node]:
        """Remove and return the nodes that are in memory, but for those of a block that is being read."""
        kept = [*self.near]
        self.near.clear()
        for block in self.far:
            nodes = [block.nodes[number] for number in block.numbers if number in block.nodes]
            block.numbers = array("q", [number for number in block.numbers if number not in block.nodes])
            self.num_away -= len(nodes)
            self._spills.num_spilled -= len(nodes)
            kept += nodes
        self.far = [block for block in self.far if block.numbers]
        return kept

    def __len__(self) -> int:
        return len(self.near) + self.num_away

    def __bool__(self) -> bool:
        return bool(self.near)

    def __iter__(self) -> Iterator[Node]:
        """Yield the nodes that are in memory, and the parents of those that aren't."""
        return chain(self.near, *(block.nodes.values() for block in self.blocks))

    @property
    def blocks(self) -> list[Block]:
        """The blocks of spilled nodes, also one that is being read."""
        return self.far.copy() if self._being_read is None else [self._being_read, *self.far]

    def in_memory(self) -> Iterator[list[Node]]:
        """Yield the nodes that are in memory, in lists that don't change."""
        yield list(self.near)
        for block in self.blocks:
            yield [block.nodes[number] for number in block.numbers if number in block.nodes]


class SpillingStack(SpillingLine):
    """Last in, first out; if there is no room, the nodes that were put first are spilled."""

    __slots__ = ()

    def _taker(self) -> Callable[[], Node]:
        return self.near.pop

    def put(self, node: Node, /) -> None:
        """Add a node as the next."""
        self.near.append(node)
        if len(self.near) > 1 and self._being_read is None and self.is_full():
            self._spill(self.near.popleft())

    put_first = put

    def _next(self, most: int) -> Block:
        block = self.far[-1]
        if len(block.numbers) <= most:
            return self.far.pop()
        following = Block(block.numbers[-most:], block.nodes)
        del block.numbers[-most:]
        return following

    def put_back(self, nodes: list[Node]) -> None:
        """Add the nodes that were read back, in the order of enqueue."""
        self.near.extendleft(reversed(nodes))
        self._end_read()
