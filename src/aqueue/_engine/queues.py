"""The order in which items are taken: first in first out, last in first out, by priority."""

from collections.abc import Callable, Iterator
from heapq import heappop
from itertools import chain, pairwise
from typing import Final, Literal

from aqueue._engine.lines import Line, SpillingLine, SpillingStack, Spills, Stack
from aqueue._engine.tree import Node
from aqueue.errors import ItemsNotComparable

__all__ = ["QUEUE_TYPES", "FifoQueue", "LifoQueue", "PlainQueue", "PriorityQueue", "QueueTypeName", "Rest"]

QueueTypeName = Literal["queue", "stack", "priority"]
"""``queue``: first in, first out. ``stack``: last in, first out. ``priority``: the lesser item (``<``) first."""


class FifoQueue:
    """First in, first out. Nodes that are put again come before all others, in the order in which they were put again.

    Attributes:
        put: adds a node at the end. This is the method of the deque itself: one call less per item.
        again: the nodes that were put again.
    """

    def __init__(self) -> None:
        self.again = Line()
        self._use(Line())

    def _use(self, new: Line | SpillingLine) -> None:
        self._new = new
        self.put: Callable[[Node], None] = new.put

    def spill(self, spills: Spills) -> None:
        """Spill nodes from now on; only while it is empty."""
        self._use(SpillingLine(spills))

    def refill(self) -> None:
        """Have spilled nodes read back, if few are left in memory."""
        if isinstance(self._new, SpillingLine):
            self._new.refill()

    @property
    def take_new(self) -> Callable[[], Node]:
        """Takes the first of the other nodes."""
        return self._new.take

    def put_again(self, node: Node, /) -> None:
        """Add a node that was taken before."""
        self.again.append(node)

    def take(self) -> Node:
        """Remove and return the next node.

        Raises:
            IndexError: the queue is empty, or the next node is spilled.
        """
        return (self.again or self._new).take()

    def move(self) -> tuple[Line, Line | SpillingLine]:
        """Return the nodes that were put again, and the others, and leave this queue empty."""
        new = self._new.move()
        self._use(Line())
        return self.again.move(), new

    def reorder(self) -> None:
        """Do nothing: this order doesn't depend on the items."""

    def __len__(self) -> int:
        return len(self._new) + len(self.again)

    def __bool__(self) -> bool:
        return bool(self.again or self._new)

    def __iter__(self) -> Iterator[Node]:
        return chain(self.again, self._new)

    def in_memory(self) -> Iterator[list[Node]]:
        """Yield the nodes that are in memory, in lists that don't change."""
        yield from self.again.in_memory()
        yield from self._new.in_memory()

    @property
    def spilling_lines(self) -> list[SpillingLine]:
        """The lines with spilled nodes."""
        return [self._new] if isinstance(self._new, SpillingLine) else []


class LifoQueue:
    """Last in, first out.

    Attributes:
        put, put_again: add a node as the next.
        take: removes and returns the next node; raises `IndexError` if there is none, or if it is spilled.
    """

    def __init__(self) -> None:
        self._use(Stack())

    def _use(self, nodes: Stack | SpillingStack) -> None:
        self._nodes = nodes
        self.put: Callable[[Node], None] = nodes.put
        self.put_again = self.put
        self.take: Callable[[], Node] = nodes.take

    def spill(self, spills: Spills) -> None:
        """Spill nodes from now on; only while it is empty."""
        self._use(SpillingStack(spills))

    def refill(self) -> None:
        """Have spilled nodes read back, if few are left in memory."""
        if isinstance(self._nodes, SpillingStack):
            self._nodes.refill()

    def move(self) -> tuple[None, Stack | SpillingLine]:
        """Return None and all nodes, and leave this queue empty."""
        nodes = self._nodes.move()
        self._use(Stack())
        return None, nodes

    def reorder(self) -> None:
        """Do nothing: this order doesn't depend on the items."""

    def __len__(self) -> int:
        return len(self._nodes)

    def __bool__(self) -> bool:
        return bool(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes)

    def in_memory(self) -> Iterator[list[Node]]:
        """Yield the nodes that are in memory, in lists that don't change."""
        yield from self._nodes.in_memory()

    @property
    def spilling_lines(self) -> list[SpillingLine]:
        """The lines with spilled nodes."""
        return [self._nodes] if isinstance(self._nodes, SpillingLine) else []


class PriorityQueue:
    """The lesser item first, and equal items in the order in which they came.

    A binary heap. The user's code compares items, and it can raise. `heapq.heappush` moves entries while it compares, and
    would leave a broken heap; `put` therefore finds the place first, and moves entries only afterwards.
    """

    def __init__(self) -> None:
        self._heap: list[Node] = []

    def put(self, node: Node, /) -> None:
        """Add `node`. If it can't be compared, raise `ItemsNotComparable` and change nothing."""
        heap = self._heap
        path = [len(heap)]
        while path[-1] > 0:
            above = (path[-1] - 1) >> 1
            if not node < heap[above]:
                break
            path.append(above)
        if len(heap) != path[0]:
            raise ItemsNotComparable(
                f"comparing an item of {node.cls.type} with < enqueued an item; __lt__ must only compare"
            )
        self._insert(node, path)

    def put_first(self, node: Node, /) -> None:
        """Add the least node, without a comparison, so that nothing can raise."""
        path = [len(self._heap)]
        while path[-1] > 0:
            path.append((path[-1] - 1) >> 1)
        self._insert(node, path)

    def _insert(self, node: Node, path: list[int]) -> None:
        """Put `node` at the end of `path`, which leads up from a new last place; move the entries on the path down."""
        heap = self._heap
        heap.append(node)
        for below, above in pairwise(path):
            heap[below] = heap[above]
        heap[path[-1]] = node

    def take(self) -> Node:
        """Remove and return the least node.

        Raises:
            IndexError: the queue is empty.
            ItemsNotComparable: two items can't be compared; the queue still holds all nodes, but not in order.
        """
        heap = self._heap
        least = heap[0]
        try:
            return heappop(heap)
        except BaseException:
            heap.append(least)
            raise

    def put_again(self, node: Node, /) -> None:
        """Add `node` as `put` does: the order depends on the items only."""
        self.put(node)

    def move(self) -> "tuple[None, PriorityQueue]":
        """Return None and a new queue with all nodes, and leave this one empty."""
        moved = PriorityQueue()
        moved._heap, self._heap = self._heap, moved._heap
        return None, moved

    def spill(self, _: Spills) -> None:
        """Do nothing: the order is that of `<`, which is the user's code over the items in memory."""

    def refill(self) -> None:
        """Do nothing."""

    def reorder(self) -> None:
        """Sort all nodes again, since items may have changed."""
        nodes, self._heap = self._heap, []
        try:
            while nodes:
                self.put(nodes[-1])
                nodes.pop()
        except BaseException:
            self._heap += nodes
            raise

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._heap)

    def in_memory(self) -> Iterator[list[Node]]:
        """Yield the nodes, in a list that doesn't change."""
        yield list(self._heap)

    @property
    def spilling_lines(self) -> list[SpillingLine]:
        """The lines with spilled nodes: none."""
        return []


PlainQueue = FifoQueue | LifoQueue | PriorityQueue
"""A queue of nodes in one order.

`put` adds a node. `put_again` adds one that was taken before and is to be the next, as far as the order allows that. `take`
gives the next; `move` gives new queues: the nodes that were put again, if they are kept apart, and the others.
"""

Rest = Line | Stack | SpillingLine | PriorityQueue
"""The nodes of a group but the first, in one order, without those that were put again to a FIFO queue.

`put_first` adds one that was the next before another came.
"""

QUEUE_TYPES: Final[dict[str, type[FifoQueue] | type[LifoQueue] | type[PriorityQueue]]] = {
    "queue": FifoQueue,
    "stack": LifoQueue,
    "priority": PriorityQueue,
}
