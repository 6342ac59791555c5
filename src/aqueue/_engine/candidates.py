"""Groups, and a heap of the groups that may start their next item now, in the order of the queue type."""

import sys
from bisect import bisect_left
from heapq import heappop, heappush
from math import ceil
from typing import Final

import msgspec

from aqueue._engine.group_limits import NO_LIMIT
from aqueue._engine.lines import Line
from aqueue._engine.queues import LifoQueue, PlainQueue, PriorityQueue, Rest
from aqueue._engine.tree import Node
from aqueue.errors import ItemsNotComparable
from aqueue.limits import Limit

__all__ = ["Group", "Rate", "ReadyGroups", "new_group"]

SPREAD: Final = 10
"""Starts are spread over a second's tenths, so that a limit of 100 a second is 10 in a tenth of one."""

_TRIM_EVERY: Final = 1_024
_MOST_WITHDRAWN: Final = 64


class Rate:
    """The recent starts of a group whose limit has `per_second`.

    Attributes:
        per_second: how many nodes may start in a second.
        starts: when the latest nodes were taken, on the loop's clock; at least as many as the limit needs.
    """

    __slots__ = ("per_second", "starts")

    def __init__(self, per_second: float, starts: list[float]) -> None:
        self.per_second = per_second
        self.starts = starts

    @property
    def next_at(self) -> float:
        """From when on the next node may start, on the loop's clock."""
        # Two windows, both with a whole number of starts: about a second (or the time of one start, if that is longer),
        # and a tenth of it. With the first alone, a rate of 100 per second started 100 items at once and then slept.
        starts, rate = self.starts, self.per_second
        most = ceil(rate)
        few = max(1, most // SPREAD)
        at = 0.0
        if len(starts) >= most:
            at = max(at, starts[-most] + most / rate)
        if len(starts) >= few:
            at = max(at, starts[-few] + few / rate)
        return at

    def count_start(self, now: float) -> None:
        """Record that a node was taken at the time `now`."""
        starts = self.starts
        starts.append(now)
        most = ceil(self.per_second)
        if (
            len(starts) >= 2 * most or len(starts) % _TRIM_EVERY == 0
        ):  # doing this at each start would move up to `most` numbers per start
            del starts[: max(len(starts) - most, bisect_left(starts, now - most / self.per_second))]

    def is_past(self, now: float) -> bool:
        """Return whether no start delays another one at the time `now` or later."""
        return not self.starts or self.starts[-1] + ceil(self.per_second) / self.per_second <= now


class Group(msgspec.Struct, gc=False, eq=False):
    """One group: its waiting nodes in order, and what keeps them from starting.

    The garbage collector doesn't track groups, as it doesn't track nodes: there may be as many.

    Attributes:
        name: its name; None for the items without a group.
        limit: its limit.
        most: how many of its nodes may run at once.
        rate: its recent starts; None if its limit has no `per_second`.
        head: the next node; None if no node waits.
        again: the nodes after `head` that were put again, if the queue is FIFO. They come before `rest`.
        rest: the other nodes after `head`. If there is no `head`, they are spilled.
        running: how many of its nodes are taken and not released. Counted only if the limit has `concurrent`.
        not_before: `aqueue.slow_down` pauses it until this time of the loop's clock.
        waits_until: the time for which a timer is set; 0.0 without a timer.
        ready_as: its place in the order of `ReadyGroups`; 0 if it isn't there.
    """

    name: str | None
    limit: Limit = NO_LIMIT
    most: int = sys.maxsize
    rate: Rate | None = None
    head: Node | None = None
    again: Line | None = None
    rest: Rest | None = None
    running: int = 0
    not_before: float = 0.0
    waits_until: float = 0.0
    ready_as: int = 0

    def use(self, limit: Limit) -> None:
        """Let `limit` hold from the next start on; recent starts count, as far as the limit before has kept them."""
        self.limit = limit
        self.most = sys.maxsize if limit.concurrent is None else limit.concurrent
        starts = [] if self.rate is None else self.rate.starts
        self.rate = None if limit.per_second is None else Rate(limit.per_second, starts)

    @property
    def may_start_at(self) -> float:
        """From when on the rate and `slow_down` allow the next start, on the loop's clock."""
        return self.not_before if self.rate is None else max(self.not_before, self.rate.next_at)

    def can_be_forgotten(self, now: float) -> bool:
        """Return whether nothing waits or runs in it, and its past no longer delays a start."""
        is_past = self.rate is None or self.rate.is_past(now)
        return self.head is None and self.rest is None and not self.running and self.not_before <= now and is_past


def new_group(name: str | None, limit: Limit) -> Group:
    """Return the group called `name`, without nodes."""
    group = Group(name)
    if limit is not NO_LIMIT:
        group.use(limit)
    return group


class ReadyGroups:
    """The groups that may start their first node now, in the order of these nodes.

    A heap holds the nodes of a priority queue, or else only their numbers, negative for a LIFO queue: they are compared three
    times faster. Which group a node stands for is in a dict.

    A node is withdrawn, but stays in the heap, when a lesser one arrives or the group is slowed down; it stands for its group
    again when it is the first of a ready group again. So a node is in the heap at most once, and leaves it when it is taken.
    Running items may change what they are compared by, and are therefore never compared.
    """

    def __init__(self, kind: type[PlainQueue]) -> None:
        """Order the groups as a queue of this kind orders nodes."""
        self._sign = -1 if kind is LifoQueue else 1
        self._heap: list[int] = []
        self._by_priority = PriorityQueue() if kind is PriorityQueue else None
        self._groups: dict[int, Group | None] = {}  # by place in the order; None if the node is withdrawn
        self._num_withdrawn = 0

    def add(self, group: Group, node: Node) -> None:
        """Add `group`, whose first node is `node`.

        Raises:
            ItemsNotComparable: `node` can't be compared with another; nothing has changed.
        """
        place = self._sign * node.id
        if self._num_withdrawn and self._restores(place):
            pass
        elif self._by_priority is None:
            heappush(self._heap, place)
        else:
            self._by_priority.put(node)
        self._groups[place] = group
        group.ready_as = place

    def move_up(self, group: Group, node: Node) -> None:
        """Make `node` the first of `group`, if the group is ready; raises what `add` raises."""
        old = group.ready_as
        if old:
            self.add(group, node)
            self._groups[old] = None
            self._num_withdrawn += 1

    def withdraw(self, group: Group) -> None:
        """Remove `group`, if it is ready."""
        if group.ready_as:
            self._groups[group.ready_as] = None
            self._num_withdrawn += 1
            group.ready_as = 0

    def take(self) -> Group:
        """Remove and return the group whose first node is next.

        Raises:
            IndexError: no group is ready.
            ItemsNotComparable: two items can't be compared.
        """
        while True:
            place = heappop(self._heap) if self._by_priority is None else self._by_priority.take().id
            group = self._groups.pop(place)
            if group is not None:
                group.ready_as = 0
                return group
            self._num_withdrawn -= 1

    def __len__(self) -> int:
        return len(self._groups) - self._num_withdrawn

    def _restores(self, place: int) -> bool:
        """Return whether the node at `place` was withdrawn, and isn't any more."""
        if place in self._groups:
            self._num_withdrawn -= 1
            return True
        if self._num_withdrawn > _MOST_WITHDRAWN + len(self):
            self._drop_withdrawn()
        return False

    def _drop_withdrawn(self) -> None:
        """Remove the withdrawn nodes from the heap."""
        if self._by_priority is not None:
            kept = PriorityQueue()
            try:
                for node in self._by_priority:
                    if self._groups[node.id] is not None:
                        kept.put(node)
            except ItemsNotComparable:  # the next `take` that compares these items raises it
                return
            self._by_priority = kept
        self._groups = {place: group for place, group in self._groups.items() if group is not None}
        self._heap = sorted(self._groups) if self._by_priority is None else []
        self._num_withdrawn = 0
