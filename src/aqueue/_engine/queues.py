"""The order in which items are taken: first in first out, last in first out, by priority."""

from collections import deque
from collections.abc import Callable, Iterator
from heapq import heappop
from itertools import chain, pairwise
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

from aqueue._engine.item_class import ItemClass
from aqueue._engine.tree import Node
from aqueue.errors import ItemsNotComparable

__all__ = ["QUEUE_TYPES", "FifoQueue", "LifoQueue", "PlainQueue", "PriorityQueue", "QueueTypeName"]

QueueTypeName = Literal["queue", "stack", "priority"]
"""``queue``: first in, first out. ``stack``: last in, first out. ``priority``: the lesser item (``<``) first."""


class FifoQueue:
    """First in, first out. What is put again comes before all else, in the order in which it was put again.

    Attributes:
        put: adds a node at the end: the deque's own method, since it is called for every item.
    """

    __slots__ = ("_again", "_new", "put")  # there is one of these for each group in which items wait

    def __init__(self) -> None:
        self._new: deque[Node] = deque()
        self._again: deque[Node] | None = None
        self.put = self._new.append

    @property
    def again(self) -> deque[Node]:
        """What was put again."""
        if self._again is None:
            self._again = deque()
        return self._again

    @property
    def take_new(self) -> Callable[[], Node]:
        """Takes the next of the others."""
        return self._new.popleft

    def put_first(self, node: Node, /) -> None:
        """Add `node`, which was the next before another came."""
        self._new.appendleft(node)

    def put_again(self, node: Node, /) -> None:
        """Add `node`, which was taken before."""
        self.again.append(node)

    def take(self) -> Node:
        """Remove and return the next node.

        Raises:
            IndexError: the queue is empty.
        """
        return (self._again or self._new).popleft()

    def move(self) -> "FifoQueue":
        """Return a queue with all the nodes, and leave this one empty."""
        moved = FifoQueue()
        moved._new.extend(self._new)
        moved.again.extend(self.again)
        self._new.clear()
        self.again.clear()
        return moved

    def reorder(self) -> None:
        """Leave everything where it is."""

    def __len__(self) -> int:
        return len(self._new) + len(self._again or ())

    def __iter__(self) -> Iterator[Node]:
        return chain(self._again or (), self._new)


class LifoQueue(deque[Node]):
    """Last in, first out."""

    put = deque.append
    put_first = deque.append
    put_again = deque.append
    take = deque.pop

    def move(self) -> "LifoQueue":
        """Return a queue with all the nodes, and leave this one empty."""
        moved = LifoQueue(self)
        self.clear()
        return moved

    def reorder(self) -> None:
        """Leave everything where it is."""


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
        self._insert(node, path)

    def put_first(self, node: _Ordered, /) -> None:
        """Add `node`, which is the least: nothing is compared, so nothing can be refused."""
        path = [len(self._heap)]
        while path[-1] > 0:
            path.append((path[-1] - 1) >> 1)
        self._insert(node, path)

    def _insert(self, node: _Ordered, path: list[int]) -> None:
        """Add `node` at the end of `path`, which leads up from a new last place; what is on it moves down by one."""
        heap = self._heap
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
"""A queue of nodes in one order.

`put` adds a node. `put_again` adds one that was taken before and is to be the next, as far as the order allows that;
`put_first` one that was the next before another came. `take` gives the next; `move` gives a new queue with all nodes.
"""

QUEUE_TYPES: Final[dict[str, type[FifoQueue] | type[LifoQueue] | type[PriorityQueue[Node]]]] = {
    "queue": FifoQueue,
    "stack": LifoQueue,
    "priority": PriorityQueue,
}
