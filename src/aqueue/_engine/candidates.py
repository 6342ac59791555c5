"""Groups, and a heap of the groups that may start their next item now, in the order of the queue type."""

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
    """One group: its waiting nodes in order, and its recent starts.

    Attributes:
        name: its name; None for the items without a group.
        limit: its limit.
        head: the next node; None if no node waits.
        rest: the nodes after `head`; None if there are none.
        running: how many of its nodes are taken and not released. Counted only if the limit has `concurrent`.
        starts: when its latest nodes were taken, on the loop's clock; at least as many as the limit needs. Kept only if
            the limit has `per_second`.
        not_before: `aqueue.slow_down` pauses it until this time of the loop's clock.
        waits_until: the time for which a timer is set; 0.0 without a timer.
        candidate: its entry in `ReadyGroups`; None if it isn't there.
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
        """Whether as many of its nodes run as its limit allows."""
        most = self.limit.concurrent
        return most is not None and self.running >= most

    @property
    def may_start_at(self) -> float:
        """From when on the rate and `slow_down` allow the next start, on the loop's clock."""
        rate = self.limit.per_second
        starts = self.starts
        if rate is None or not starts:
            return self.not_before
        # Two windows, both with a whole number of starts: about a second (or the time of one start, if that is longer),
        # and a tenth of it. With the first alone, a rate of 100 per second started 100 items at once and then slept.
        most = ceil(rate)
        few = max(1, most // SPREAD)
        at = self.not_before
        if len(starts) >= most:
            at = max(at, starts[-most] + most / rate)
        if len(starts) >= few:
            at = max(at, starts[-few] + few / rate)
        return at

    def count_start(self, now: float) -> None:
        """Record that a node was taken at the time `now`."""
        if self.limit.concurrent is not None:
            self.running += 1
        rate = self.limit.per_second
        if rate is not None:
            starts = self.starts
            starts.append(now)
            most = ceil(rate)
            if (
                len(starts) >= 2 * most or len(starts) % _TRIM_EVERY == 0
            ):  # doing this at each start would move up to `most` numbers per start
                del starts[: max(len(starts) - most, bisect_left(starts, now - most / rate))]

    def can_be_forgotten(self, now: float) -> bool:
        """Return whether nothing waits or runs in it, and its past no longer delays a start."""
        rate = self.limit.per_second
        is_past = rate is None or not self.starts or self.starts[-1] + ceil(rate) / rate <= now
        return self.head is None and not self.running and self.not_before <= now and is_past


class Candidate:
    """A group's entry in the heap, by its first node. A priority queue compares entries by their items.

    An entry is withdrawn, but stays in the heap, when a lesser node arrives or the group is slowed down; it counts again
    when its node is the first of a ready group again. So a node has at most one entry, which leaves the heap when the node
    is taken. Running items may change what they are compared by, and are therefore never compared.
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
        count: the number of groups, without withdrawn entries.
    """

    def __init__(self, kind: type[PlainQueue]) -> None:
        """Order the groups as a queue of this kind orders nodes."""
        self.count = 0
        self._kind = kind
        self._heap = self._new_heap()
        self._withdrawn: dict[int, Candidate] = {}  # in the heap; by the number of the node

    def _new_heap(self) -> "_ByNumber | PriorityQueue[Candidate]":
        if self._kind is PriorityQueue:
            return PriorityQueue[Candidate]()
        return _ByNumber(-1 if self._kind is LifoQueue else 1)

    def add(self, group: Group, node: Node) -> None:
        """Add `group`, whose first node is `node`.

        Raises:
            ItemsNotComparable: `node` can't be compared with another; nothing has changed.
        """
        self._place(group, node)
        self.count += 1

    def move_up(self, group: Group, node: Node) -> None:
        """Make `node` the first of `group`, if the group is ready; raises what `add` raises."""
        old = group.candidate
        if old is not None:
            self._place(group, node)
            self._withdrawn[old.node.id] = old

    def withdraw(self, group: Group) -> None:
        """Remove `group`, if it is ready."""
        if group.candidate is not None:
            self._withdrawn[group.candidate.node.id] = group.candidate
            group.candidate = None
            self.count -= 1

    def take(self) -> Group:
        """Remove and return the group whose first node is next.

        Raises:
            IndexError: no group is ready.
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
        """Drop withdrawn entries from the heap, once there are many."""
        if len(self._heap) > _WITHDRAWN_CANDIDATES + 2 * self.count:
            heap = self._new_heap()
            with suppress(ItemsNotComparable):  # the next `take` that compares these items raises it
                for candidate in self._heap:
                    if candidate.group.candidate is candidate:
                        heap.put(candidate)
                self._heap = heap
                self._withdrawn.clear()
