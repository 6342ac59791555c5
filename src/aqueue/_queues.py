"""The order in which items are taken: first in first out, last in first out, by priority."""

from collections import deque
from collections.abc import Iterator
from heapq import heappop
from itertools import pairwise
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

from aqueue._tree import Node
from aqueue.errors import ItemsNotComparable
from aqueue.item import ItemClass

__all__ = ["QUEUE_TYPES", "FifoQueue", "LifoQueue", "NodeQueue", "PlainQueue", "PriorityQueue", "QueueTypeName"]

QueueTypeName = Literal["queue", "stack", "priority"]
"""``queue``: first in, first out. ``stack``: last in, first out. ``priority``: the lesser item (``<``) first."""


class NodeQueue(Protocol):
    """Nodes that wait for a worker."""

    def put(self, node: Node, /) -> None:
        """Add `node`. If it raises, the queue is as it was."""
        ...

    def put_again(self, node: Node, /) -> None:
        """Add `node`, which has been taken before and is to be the next, as far as the order allows that."""
        ...

    def take(self) -> Node:
        """Remove and return the next node.

        Raises:
            IndexError: the queue is empty.
        """
        ...

    def reorder(self) -> None:
        """Put every node into its place anew: an item may have been changed."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Node]: ...


class FifoQueue(deque[Node]):
    """First in, first out."""

    put = deque.append
    put_again = deque.appendleft
    take = deque.popleft

    def move(self) -> "FifoQueue":
        """Return a queue with all the nodes, and leave this one empty."""
        return _moved(self)

    def reorder(self) -> None:
        """Leave everything where it is."""


class LifoQueue(deque[Node]):
    """Last in, first out."""

    put = deque.append
    put_again = deque.append
    take = deque.pop

    def move(self) -> "LifoQueue":
        """Return a queue with all the nodes, and leave this one empty."""
        return _moved(self)

    def reorder(self) -> None:
        """Leave everything where it is."""


_AnyDeque = TypeVar("_AnyDeque", FifoQueue, LifoQueue)


def _moved(queue: _AnyDeque) -> _AnyDeque:
    moved = type(queue)(queue)
    queue.clear()
    return moved


class Ordered(Protocol):
    """What a `PriorityQueue` holds: nodes, or what stands for one."""

    @property
    def cls(self) -> ItemClass: ...
    def __lt__(self, other: Any, /) -> bool: ...


_Ordered = TypeVar("_Ordered", bound=Ordered)


class PriorityQueue(Generic[_Ordered]):
    """The lesser item first; equal items leave in the order in which they came.

    A binary heap. `heapq` moves entries while it compares, and a comparison is the user's code, which can raise: so
    `put` finds the place first, comparing only, and moves afterwards.
    """

    def __init__(self) -> None:
        self._heap: list[_Ordered] = []

    def put(self, node: _Ordered, /) -> None:
        """Add `node`; raises `ItemsNotComparable` and changes nothing if its item can't be compared."""
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
        heap.append(node)
        for below, above in pairwise(path):
            heap[below] = heap[above]
        heap[path[-1]] = node

    def take(self) -> _Ordered:
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

    def put_again(self, node: _Ordered, /) -> None:
        """Add `node` as `put` does: it is the items that decide."""
        self.put(node)

    def move(self) -> "PriorityQueue[_Ordered]":
        """Return a queue with all the nodes, and leave this one empty."""
        moved = PriorityQueue[_Ordered]()
        moved._heap, self._heap = self._heap, moved._heap
        return moved

    def reorder(self) -> None:
        """Put every node into its place anew."""
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

    def __iter__(self) -> Iterator[_Ordered]:
        return iter(self._heap)


PlainQueue = FifoQueue | LifoQueue | PriorityQueue[Node]
"""A queue of nodes in one order. They can `move` all their nodes to a new one."""

QUEUE_TYPES: Final[dict[str, type[FifoQueue] | type[LifoQueue] | type[PriorityQueue[Node]]]] = {
    "queue": FifoQueue,
    "stack": LifoQueue,
    "priority": PriorityQueue,
}
