"""Groups: a queue that passes over the items of those groups that may start nothing now.

Every group has a queue of its own, and stands in one heap by its first node as long as that node may start. A group
that is saturated is not in the heap, so to pass over it costs nothing, however many there are of them and of their
items. Between groups that may start, the order of the queue type decides as it does within a group.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import count
from math import ceil
from typing import Any, Final

from aqueue._queues import LifoQueue, PlainQueue, PriorityQueue
from aqueue._timers import Timers
from aqueue._tree import Node
from aqueue.errors import InvalidArgument, InvalidItem, ItemsNotComparable
from aqueue.item import ItemClass
from aqueue.limits import Limit
from aqueue.text import visible_repr, without_surrogates

__all__ = ["GroupedQueue", "Limits", "group_of"]

Limits = Mapping[str, Limit] | Callable[[str], Limit | None]
"""The limit of each group by its name, ``"*"`` for all groups that have none of their own; or a function that tells it."""

OTHERS: Final = "*"
"""The name that stands, in a mapping of limits, for the groups not named."""

NO_LIMIT: Final = Limit()

SPREAD: Final = 10
"""Starts are spread over a second's tenths, so that a limit of 100 a second is 10 in a tenth of one."""

_SWEEP_GROUPS: Final = 1_000
_STALE_OFFERS: Final = 64
_TRIM_EVERY: Final = 1_024


def group_of(node: Node) -> str | None:
    """Return the `group` of the item of `node`.

    Raises:
        InvalidItem: it is neither a string nor None.
    """
    group = getattr(node.item, "group", None) if node.cls.grouped else None
    if group is None:
        return None
    if not isinstance(group, str):
        raise InvalidItem(f"{node.cls.type}.group is {visible_repr(group)}; it must be a string or None")
    return without_surrogates(str.__str__(group))


class _Group:
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
        offer: what stands for it among those that may start; None if it does not.
    """

    __slots__ = ("head", "limit", "name", "not_before", "offer", "rest", "running", "starts", "waits_until")

    def __init__(self, name: str | None, limit: Limit) -> None:
        self.name = name
        self.limit = limit
        self.head: Node | None = None
        self.rest: PlainQueue | None = None
        self.running = 0
        self.starts: list[float] = []
        self.not_before = 0.0
        self.waits_until = 0.0
        self.offer: _Offer | None = None

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


class _Offer:
    """Stands for a group that may start its first node; compared by the items, for a priority queue."""

    __slots__ = ("group", "node")

    def __init__(self, group: _Group, node: Node) -> None:
        self.group = group
        self.node = node

    def go_stale(self) -> None:
        """Stand for nothing any more, but keep the place in the heap: the node may run and let go of its item."""
        node = self.node
        self.node = Node(node.id, node.item, None, node.cls)

    @property
    def cls(self) -> ItemClass:
        return self.node.cls

    def __lt__(self, other: "_Offer") -> bool:
        return self.node < other.node


class _ByNumber:
    """Offers in the order of a number: that of a node for a FIFO queue, minus that for a LIFO one."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, _Offer]] = []
        self._numbers = count()

    def put(self, offer: _Offer, key: int) -> None:
        heappush(self._heap, (key, next(self._numbers), offer))

    def take(self) -> _Offer:
        return heappop(self._heap)[2]

    def __len__(self) -> int:
        return len(self._heap)

    def drop_stale(self) -> None:
        self._heap = [entry for entry in self._heap if entry[2].group.offer is entry[2]]
        heapify(self._heap)


class _ByPriority:
    """Offers in the order of their items."""

    def __init__(self) -> None:
        self._queue = PriorityQueue[_Offer]()

    def put(self, offer: _Offer, key: int) -> None:
        self._queue.put(offer)

    def take(self) -> _Offer:
        return self._queue.take()

    def __len__(self) -> int:
        return len(self._queue)

    def drop_stale(self) -> None:
        valid = PriorityQueue[_Offer]()
        for offer in self._queue:
            if offer.group.offer is offer:
                valid.put(offer)
        self._queue = valid


class GroupedQueue:
    """Nodes that wait for a worker, by groups that may be limited."""

    def __init__(
        self,
        nodes: PlainQueue,
        limits: Limits | None,
        clock: Callable[[], float],
        timers: Timers,
        on_ready: Callable[[], None],
    ) -> None:
        """Take over `nodes`, none of which has a group, and their order.

        Parameters:
            nodes: left empty.
            limits: what each group may do; None if there are no limits, for a run in which groups are only slowed down.
            clock: tells the loop's time, seconds.
            timers: calls functions when their time has come.
            on_ready: called when a group may start again that could not.

        Raises:
            ItemsNotComparable: two of the nodes can't be compared; they are still in `nodes`.
        """
        self._limits = limits
        self._clock = clock
        self._timers = timers
        self._on_ready = on_ready
        self._is_lifo = isinstance(nodes, LifoQueue)
        self._is_by_priority = isinstance(nodes, PriorityQueue)
        self._new_queue = type(nodes)
        self._groups: dict[str | None, _Group] = {}
        self._running: dict[int, _Group] = {}
        self._offers = self._new_offers()
        self._valid = 0
        self._count = len(nodes)
        self._sweep_at = _SWEEP_GROUPS
        self._is_comparing = False
        self._unplaced: list[Node] = []
        self._error: BaseException | None = None
        if len(nodes):
            head = nodes.take()  # may raise: then they stay where they are
            group = self._group(None)
            group.head = head
            if len(nodes):
                group.rest = nodes.move()
            self._offer(group)

    # ---- as any queue of nodes ----------------------------------------------------------------------------------

    def put(self, node: Node, /) -> None:
        """Add `node`.

        Raises:
            InvalidItem, InvalidArgument: its group, or the limit of that, is none; nothing was changed.
            ItemsNotComparable: it can't be compared; nothing was changed.
        """
        self._add(node, again=False)

    def put_again(self, node: Node, /) -> None:
        """Add `node`, which is to be the next of its group, as far as the order allows that."""
        self._add(node, again=True)

    def take(self) -> Node:
        """Remove and return the next node that may start; `release` must follow when its `process` has ended.

        Raises:
            IndexError: none may start now.
            ItemsNotComparable: two items can't be compared; the queue then still has all nodes, but gives none of them
                any more. What was raised since the last call, when no node was asked for, is raised here, too.
        """
        if self._error is not None:
            raise self._error
        self._is_comparing = self._is_by_priority
        try:
            while True:
                offer = self._offers.take()
                group = offer.group
                if group.offer is offer:
                    break
            rest = group.rest
            group.head = rest.take() if rest else None
        except IndexError:
            raise
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._is_comparing = False
        if not rest:
            group.rest = None
        node = offer.node
        group.offer = None
        self._valid -= 1
        self._count -= 1
        if group.limit is not NO_LIMIT:
            group.count_start(self._clock())
            if group.running:
                self._running[node.id] = group
        self._look_at(group)  # another worker may take the next at once
        return node

    def release(self, node: Node) -> None:
        """Say that the `process` of `node` has ended, which had been taken; without effect for any other."""
        group = self._running.pop(node.id, None)
        if group is None:
            return
        group.running -= 1
        self._look_at(group)

    def reorder(self) -> None:
        """Put every node into its place anew: an item may have been changed.

        Raises:
            InvalidItem, InvalidArgument, ItemsNotComparable: as `put` does; the queue then still has all nodes.
        """
        nodes = self._unplaced[::-1]
        self._offers = self._new_offers()
        for group in self._groups.values():
            self._withdraw(group)
            waiting = [] if group.head is None else [group.head, *(group.rest or ())]
            if self._is_lifo:
                waiting = [*waiting[1:], *waiting[:1]]  # what is put last is the head
            nodes += waiting
            group.head = group.rest = None
        nodes.reverse()
        self._unplaced = nodes
        self._count = 0
        while nodes:
            self.put(nodes[-1])
            nodes.pop()

    def __len__(self) -> int:
        return self._count + len(self._unplaced)

    def __iter__(self) -> Iterator[Node]:
        for group in self._groups.values():
            if group.head is not None:
                yield group.head
            yield from group.rest or ()
        yield from self._unplaced

    # ---- what groups add ----------------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether `take` would return a node, or raise anything else than IndexError."""
        return self._valid > 0 or self._error is not None

    def slow_down(self, name: str, seconds: float) -> None:
        """Start nothing of the group called `name` for so long, from now.

        Raises:
            InvalidArgument: its limit is none; nothing was changed.
            BaseException: what the function raised that tells the limits; nothing was changed.
        """
        self._refuse_while_comparing()
        group = self._group(name)
        until = self._clock() + seconds
        if until > group.not_before:
            group.not_before = until
            self._withdraw(group)
            self._look_at(group)
        self._sweep()

    # ---- how ----------------------------------------------------------------------------------------------------

    def _group(self, name: str | None) -> _Group:
        group = self._groups.get(name)
        if group is None:
            limit = NO_LIMIT if name is None else self._limit(name)
            group = self._groups[name] = _Group(name, limit)
        return group

    def _limit(self, name: str) -> Limit:
        limits = self._limits
        if limits is None:
            return NO_LIMIT
        limit: Any = limits.get(name, limits.get(OTHERS)) if isinstance(limits, Mapping) else limits(name)
        if limit is None:
            return NO_LIMIT
        if not isinstance(limit, Limit):
            raise InvalidArgument(
                f"limits gives {visible_repr(limit)} for the group {visible_repr(name)}; it must be an aqueue.Limit or None"
            )
        return limit

    def _new_offers(self) -> _ByNumber | _ByPriority:
        return _ByPriority() if self._is_by_priority else _ByNumber()

    def _refuse_while_comparing(self) -> None:
        if self._is_comparing:
            raise ItemsNotComparable("comparing two items with < changed the queue; __lt__ must only compare")

    def _add(self, node: Node, *, again: bool) -> None:
        self._refuse_while_comparing()
        group = self._group(group_of(node))
        self._is_comparing = self._is_by_priority
        try:
            head = group.head
            if head is None:
                group.head = node
                try:
                    self._offer(group)
                except BaseException:
                    group.head = None
                    self._forget_if_idle(group)
                    raise
            elif node < head if self._is_by_priority else (again or self._is_lifo):
                self._put_first(group, node, head)
            else:
                self._rest(group).put(node)
        finally:
            self._is_comparing = False
        self._count += 1

    def _drop_stale(self) -> None:
        """Forget, once there are many, the offers that don't count any more."""
        if len(self._offers) > _STALE_OFFERS + 2 * self._valid:
            with suppress(ItemsNotComparable):  # what can't be compared is told when it must be
                self._offers.drop_stale()

    def _put_first(self, group: _Group, node: Node, head: Node) -> None:
        self._drop_stale()
        old = group.offer
        if old is not None:
            offer = _Offer(group, node)
            self._offers.put(offer, self._key(node))  # may refuse; the old one is still the one that counts
            group.offer = offer
        try:
            self._rest(group).put_again(head)
        except BaseException:
            group.offer = old
            raise
        if old is not None:
            old.go_stale()
        group.head = node

    def _rest(self, group: _Group) -> PlainQueue:
        if group.rest is None:
            group.rest = self._new_queue()
        return group.rest

    def _key(self, node: Node) -> int:
        return -node.id if self._is_lifo else node.id

    def _offer(self, group: _Group) -> bool:
        """Let `group` stand among those that may start, if it may; return whether it does so since now."""
        node = group.head
        if node is None or group.offer is not None or group.is_saturated:
            return False
        at = group.may_start_at
        if at > 0.0 and at > self._clock():
            if not 0.0 < group.waits_until <= at:
                group.waits_until = at
                self._timers.after(at - self._clock(), partial(self._look_again, group))
            return False
        self._drop_stale()
        offer = _Offer(group, node)
        self._offers.put(offer, self._key(node))
        group.offer = offer
        self._valid += 1
        return True

    def _look_at(self, group: _Group) -> None:
        """Let `group` stand among those that may start, if it may since now, and say so; else forget it, if it is idle.

        Nobody is there who could be told that items can't be compared: whoever takes the next one is.
        """
        self._is_comparing = self._is_by_priority
        try:
            is_ready = self._offer(group)
        except BaseException as error:
            self._error = self._error or error
            is_ready = True
        finally:
            self._is_comparing = False
        if is_ready:
            self._on_ready()
        self._forget_if_idle(group)

    def _look_again(self, group: _Group) -> None:
        group.waits_until = 0.0
        self._look_at(group)

    def _withdraw(self, group: _Group) -> None:
        if group.offer is not None:
            group.offer.go_stale()
            group.offer = None
            self._valid -= 1

    # ---- forgetting what is not needed any more -----------------------------------------------------------------

    def _forget_if_idle(self, group: _Group) -> None:
        if group.head is None:
            if group.running or group.starts or group.not_before:
                self._sweep()
            elif self._groups.get(group.name) is group:
                del self._groups[group.name]

    def _sweep(self) -> None:
        """Forget, once there are many, the groups that are idle and that no time limits any more."""
        if len(self._groups) < self._sweep_at:
            return
        now = self._clock()
        for group in [group for group in self._groups.values() if group.holds_up_nothing(now)]:
            del self._groups[group.name]
        self._sweep_at = max(_SWEEP_GROUPS, 2 * len(self._groups))
