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
    """First in, first out. Nodes that are put again come before all others, in the order in which they were put again.

    Attributes:
        put: adds a node at the end. This is the method of the deque itself: one call less per item.
    """

    __slots__ = ("_again", "_new", "put")  # each group in which items wait has one

    def __init__(self) -> None:
        self._new: deque[Node] = deque()
        self._again: deque[Node] | None = None
        self.put = self._new.append

    @property
    def again(self) -> deque[Node]:
        """The nodes that were put again."""
        if self._again is None:
            self._again = deque()
        return self._again

    @property
    def take_new(self) -> Callable[[], Node]:
        """Takes the first of the other nodes."""
        return self._new.popleft

    def put_first(self, node: Node, /) -> None:
        """Add `node` at the front."""
        self._new.appendleft(node)

    def put_again(self, node: Node, /) -> None:
        """Add a node that was taken before."""
        self.again.append(node)

    def take(self) -> Node:
        """Remove and return the next node.

        Raises:
            IndexError: the queue is empty.
        """
        return (self._again or self._new).popleft()

    def move(self) -> "FifoQueue":
        """Return a new queue with all nodes, and leave this one empty."""
        moved = FifoQueue()
        moved._new.extend(self._new)
        moved.again.extend(self.again)
        self._new.clear()
        self.again.clear()
        return moved

    def reorder(self) -> None:
        """Do nothing: this order doesn't depend on the items."""

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
        """Return a new queue with all nodes, and leave this one empty."""
        moved = LifoQueue(self)
        self.clear()
        return moved

    def reorder(self) -> None:
        """Do nothing: this order doesn't depend on the items."""


class Ordered(Protocol):
    """What a `PriorityQueue` can hold: nodes, and entries that stand for a node."""

    @property
    def cls(self) -> ItemClass: ...
    def __lt__(self, other: Any, /) -> bool: ...


_Ordered = TypeVar("_Ordered", bound=Ordered)


class PriorityQueue(Generic[_Ordered]):
    """The lesser item first, and equal items in the order in which they came.

    A binary heap. The user's code compares items, and it can raise. `heapq.heappush` moves entries while it compares, and
    would leave a broken heap; `put` therefore finds the place first, and moves entries only afterwards.
    """

    def __init__(self) -> None:
        self._heap: list[_Ordered] = []

    def put(self, node: _Ordered, /) -> None:
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

    def put_first(self, node: _Ordered, /) -> None:
        """Add the least node, without a comparison, so that nothing can raise."""
        path = [len(self._heap)]
        while path[-1] > 0:
            path.append((path[-1] - 1) >> 1)
        self._insert(node, path)

    def _insert(self, node: _Ordered, path: list[int]) -> None:
        """Put `node` at the end of `path`, which leads up from a new last place; move the entries on the path down."""
        heap = self._heap
        heap.append(node)
        for below, above in pairwise(path):
            heap[below] = heap[above]
        heap[path[-1]] = node

    def take(self) -> _Ordered:
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

    def put_again(self, node: _Ordered, /) -> None:
        """Add `node` as `put` does: the order depends on the items only."""
        self.put(node)

    def move(self) -> "PriorityQueue[_Ordered]":
        """Return a new queue with all nodes, and leave this one empty."""
        moved = PriorityQueue[_Ordered]()
        moved._heap, self._heap = self._heap, moved._heap
        return moved

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
