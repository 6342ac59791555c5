"""The order in which items are taken: first in first out, last in first out, by priority."""

from collections import deque
from collections.abc import Iterator
from heapq import heappop
from itertools import pairwise
from typing import Final, Literal, Protocol

from aqueue._tree import Node
from aqueue.errors import ItemsNotComparable

__all__ = ["QUEUE_TYPES", "NodeQueue", "QueueTypeName"]

QueueTypeName = Literal["queue", "stack", "priority"]
"""``queue``: first in, first out. ``stack``: last in, first out. ``priority``: the lesser item (``<``) first."""


class NodeQueue(Protocol):
    """Nodes that wait for a worker."""

    def put(self, node: Node, /) -> None:
        """Add `node`. If it raises, the queue is as it was."""
        ...

    def take(self) -> Node:
        """Remove and return the next node.

        Raises:
            IndexError: the queue is empty.
        """
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Node]: ...


class FifoQueue(deque[Node]):
    """First in, first out."""

    put = deque.append
    take = deque.popleft


class LifoQueue(deque[Node]):
    """Last in, first out."""

    put = deque.append
    take = deque.pop


class PriorityQueue:
    """The lesser item first; equal items leave in the order in which they came.

    A binary heap. `heapq` moves entries while it compares, and a comparison is the user's code, which can raise: so
    `put` finds the place first, comparing only, and moves afterwards.
    """

    def __init__(self) -> None:
        self._heap: list[Node] = []

    def put(self, node: Node, /) -> None:
        """Add `node`; raises `ItemsNotComparable` and changes nothing if its item can't be compared."""
        heap = self._heap
        path = [len(heap)]
        while path[-1] > 0:
            above = (path[-1] - 1) >> 1
            if not node < heap[above]:
                break
            path.append(above)
        if len(heap) != path[0]:
            raise ItemsNotComparable(f"comparing {node.cls.type} with < enqueued an item; __lt__ must only compare")
        heap.append(node)
        for below, above in pairwise(path):
            heap[below] = heap[above]
        heap[path[-1]] = node

    def take(self) -> Node:
        """Remove and return the least node.

        Raises:
            IndexError: the queue is empty.
            ItemsNotComparable: two items can't be compared; the queue then still has all nodes, but not in order.
        """
        heap = self._heap
        least = heap[0]
        try:
            return heappop(heap)
        except BaseException:
            heap.append(least)
            raise

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._heap)


QUEUE_TYPES: Final[dict[str, type[FifoQueue] | type[LifoQueue] | type[PriorityQueue]]] = {
    "queue": FifoQueue,
    "stack": LifoQueue,
    "priority": PriorityQueue,
}
