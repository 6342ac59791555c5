"""Groups, and the heap of those that may start their first item now, in the order of the queue type."""

from bisect import bisect_left
from heapq import heapify, heappop, heappush
from itertools import count
from math import ceil
from typing import Final

from aqueue._engine.item_class import ItemClass
from aqueue._engine.queues import PlainQueue, PriorityQueue
from aqueue._engine.tree import Node
from aqueue.limits import Limit

__all__ = ["Candidate", "CandidatesByNumber", "CandidatesByPriority", "Group"]

SPREAD: Final = 10
"""Starts are spread over a second's tenths, so that a limit of 100 a second is 10 in a tenth of one."""

_TRIM_EVERY: Final = 1_024


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


class CandidatesByNumber:
    """Candidates in the order of a number: that of a node for a FIFO queue, minus that for a LIFO one."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Candidate]] = []
        self._numbers = count()

    def put(self, candidate: Candidate, key: int) -> None:
        heappush(self._heap, (key, next(self._numbers), candidate))

    def take(self) -> Candidate:
        return heappop(self._heap)[2]

    def __len__(self) -> int:
        return len(self._heap)

    def keep_valid(self) -> None:
        self._heap = [entry for entry in self._heap if entry[2].group.candidate is entry[2]]
        heapify(self._heap)


class CandidatesByPriority:
    """Candidates in the order of their items."""

    def __init__(self) -> None:
        self._queue = PriorityQueue[Candidate]()

    def put(self, candidate: Candidate, key: int) -> None:
        self._queue.put(candidate)

    def take(self) -> Candidate:
        return self._queue.take()

    def __len__(self) -> int:
        return len(self._queue)

    def keep_valid(self) -> None:
        valid = PriorityQueue[Candidate]()
        for candidate in self._queue:
            if candidate.group.candidate is candidate:
                valid.put(candidate)
        self._queue = valid
