"""Groups, and the heap of those that may start their first item now, in the order of the queue type."""

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from heapq import heappop, heappush
from math import ceil
from typing import Final

from aqueue._engine.item_class import ItemClass
from aqueue._engine.queues import LifoQueue, PlainQueue, PriorityQueue
from aqueue._engine.tree import Node
from aqueue.errors import ItemsNotComparable
from aqueue.limits import Limit

__all__ = ["Group", "ReadyGroups"]

SPREAD: Final = 10
"""Starts are spread over a second's tenths, so that a limit of 100 a second is 10 in a tenth of one."""

_TRIM_EVERY: Final = 1_024
_WITHDRAWN_CANDIDATES: Final = 64


class Group:
    """One group: its nodes in order, and what it has started.

    Attributes:
        name: its name; None for the items without a group.
        limit: what it may do.
        head: the node that is next; None if none waits.
        rest: the nodes after that; None while there is none.
        running: how many of its nodes have been taken and not released; not counted without a limit on it.
        starts: when its latest nodes were taken, on the loop's clock, as many as the limit looks at and some more;
            empty without a limit on it.
        not_before: when it may start again because it was told to slow down, on the loop's clock.
        waits_until: the time for which a timer is set; 0.0 if none is.
        candidate: what stands for it among those that may start; None if it does not.
    """

    __slots__ = ("candidate", "head", "limit", "name", "not_before", "rest", "running", "starts", "waits_until")

    def __init__(self, name: str | None, limit: Limit) -> None:
        self.name = name
        self.limit = limit
        self.head: Node | None = None
        self.rest: PlainQueue | None = None
        self.running = 0
        self.starts: list[float] = []
        self.not_before = 0.0
        self.waits_until = 0.0
        self.candidate: Candidate | None = None

    @property
    def is_saturated(self) -> bool:
        """Whether it runs as many as it may."""
        most = self.limit.concurrent
        return most is not None and self.running >= most

    @property
    def may_start_at(self) -> float:
        """When the next node may be taken, on the loop's clock, as far as time decides."""
        rate = self.limit.per_second
        starts = self.starts
        if rate is None or not starts:
            return self.not_before
        # Two windows: a whole number of starts in a second or a little more (the time of one, if that is longer), and
        # for a high rate a tenth of that, so that not everything starts at the second's beginning.
        most = ceil(rate)
        few = max(1, most // SPREAD)
        at = self.not_before
        if len(starts) >= most:
            at = max(at, starts[-most] + most / rate)
        if len(starts) >= few:
            at = max(at, starts[-few] + few / rate)
        return at

    def count_start(self, now: float) -> None:
        """Remember that a node was taken at the time `now`."""
        if self.limit.concurrent is not None:
            self.running += 1
        rate = self.limit.per_second
        if rate is not None:
            starts = self.starts
            starts.append(now)
            most = ceil(rate)
            if len(starts) >= 2 * most or len(starts) % _TRIM_EVERY == 0:  # at each start it would move `most` times
                del starts[: max(len(starts) - most, bisect_left(starts, now - most / rate))]

    def holds_up_nothing(self, now: float) -> bool:
        """Tell whether nothing waits or runs in it, nor does anything that it did limit what may come."""
        rate = self.limit.per_second
        is_past = rate is None or not self.starts or self.starts[-1] + ceil(rate) / rate <= now
        return self.head is None and not self.running and self.not_before <= now and is_past


class Candidate:
    """Stands for a group that may start its first node; compared by the items, for a priority queue.

    One that doesn't count any more, since a lesser node came or its group was slowed down, keeps its place in the heap
    for as long as its node waits, and counts again when the node is the first of a group that may start. So a node has
    at most one place in the heap, which it leaves when it is taken: what runs, and may change what it is ordered by, is
    never compared.
    """

    __slots__ = ("group", "node")

    def __init__(self, group: Group, node: Node) -> None:
        self.group = group
        self.node = node

    @property
    def cls(self) -> ItemClass:
        return self.node.cls

    def __lt__(self, other: "Candidate") -> bool:
        return self.node < other.node


class _ByNumber:
    """Candidates by the number of their node: the lowest first for a FIFO queue, the highest for a LIFO one."""

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._heap: list[tuple[int, Candidate]] = []  # numbers differ, so candidates are never compared

    def put(self, candidate: Candidate) -> None:
        heappush(self._heap, (self._sign * candidate.node.id, candidate))

    def take(self) -> Candidate:
        return heappop(self._heap)[1]

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[Candidate]:
        return (candidate for _, candidate in self._heap)


class ReadyGroups:
    """The groups that may start their first node now, in the order of these nodes.

    Attributes:
        count: how many there are.
    """

    def __init__(self, kind: type[PlainQueue]) -> None:
        """There are none yet; they go by the order of a queue of this kind."""
        self.count = 0
        self._kind = kind
        self._heap = self._new_heap()
        self._withdrawn: dict[
            int, Candidate
        ] = {}  # those in the heap that don't count now, by the numbers of their nodes

    def _new_heap(self) -> "_ByNumber | PriorityQueue[Candidate]":
        if self._kind is PriorityQueue:
            return PriorityQueue[Candidate]()
        return _ByNumber(-1 if self._kind is LifoQueue else 1)

    def add(self, group: Group, node: Node) -> None:
        """Add `group`, whose first is `node`; if that can't be compared, nothing changes.

        Raises:
            ItemsNotComparable: it can't be compared.
        """
        self._place(group, node)
        self.count += 1

    def move_up(self, group: Group, node: Node) -> None:
        """Let `group`, which may be among these, stand there by `node`, which is now its first; raises what `add` does."""
        old = group.candidate
        if old is not None:
            self._place(group, node)
            self._withdrawn[old.node.id] = old

    def withdraw(self, group: Group) -> None:
        """Take out `group`, if it is among these."""
        if group.candidate is not None:
            self._withdrawn[group.candidate.node.id] = group.candidate
            group.candidate = None
            self.count -= 1

    def take(self) -> Group:
        """Take out and return the group whose node is next.

        Raises:
            IndexError: there is none.
            ItemsNotComparable: two items can't be compared.
        """
        while True:
            candidate = self._heap.take()
            group = candidate.group
            if group.candidate is candidate:
                group.candidate = None
                self.count -= 1
                return group
            del self._withdrawn[candidate.node.id]

    def _place(self, group: Group, node: Node) -> None:
        candidate = self._withdrawn.pop(node.id, None)
        if candidate is None:
            self._drop_withdrawn()
            candidate = Candidate(group, node)
            self._heap.put(candidate)
        group.candidate = candidate

    def _drop_withdrawn(self) -> None:
        """Forget, once there are many, the candidates that don't count now."""
        if len(self._heap) > _WITHDRAWN_CANDIDATES + 2 * self.count:
            heap = self._new_heap()
            with suppress(ItemsNotComparable):  # the next `take` that compares these items raises it
                for candidate in self._heap:
                    if candidate.group.candidate is candidate:
                        heap.put(candidate)
                self._heap = heap
                self._withdrawn.clear()
