"""A queue that skips the items of groups that are at their limit.

Each group has a queue of its own. A heap holds the groups that may start now, by their first node. A saturated group isn't in
the heap, so skipping it costs nothing, however many groups and waiting items there are. The order of the queue type applies
within a group and between the groups in the heap.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from heapq import nlargest
from itertools import islice
from typing import Final

from aqueue._engine.candidates import Group, ReadyGroups, new_group
from aqueue._engine.group_limits import NO_LIMIT, GroupLimits
from aqueue._engine.item_class import has_property
from aqueue._engine.lines import Line, SpillingLine, SpillingStack, Spills, Stack
from aqueue._engine.queues import FifoQueue, LifoQueue, PlainQueue, PriorityQueue, Rest
from aqueue._engine.tree import Node
from aqueue._system.timers import Timers
from aqueue.errors import InvalidItem, ItemsNotComparable
from aqueue.limits import Limit
from aqueue.text import visible_repr, without_surrogates

__all__ = ["SHOWN_GROUPS", "GroupedQueue", "group_of"]

_SWEEP_GROUPS: Final = 1_000

SHOWN_GROUPS: Final = 5
"""How many groups are named where a command has named one that isn't known."""

_MAX_LOOKED_AT: Final = 10_000
"""How many groups are looked at for that: a few milliseconds of the event loop."""

_MAX_ANNOUNCED: Final = 10_000
"""How many groups are remembered whose limit was announced."""


def group_of(node: Node) -> str | None:
    """Return the `group` of the item of `node`.

    Raises:
        InvalidItem: it is neither a string nor None.
        AttributeError: it is a property, and its code raised this.
    """
    if not node.cls.grouped:
        return None
    try:
        group = node.item.group
    except AttributeError:
        if has_property(node.item, "group"):
            raise
        group = None
    if type(group) is str and group.isascii():
        return group
    if group is None:
        return None
    if not isinstance(group, str):
        raise InvalidItem(f"{node.cls.type}.group is {visible_repr(group)}; it must be a string or None")
    return without_surrogates(str.__str__(group))


class GroupedQueue:
    """The nodes that wait for a worker, by group.

    Attributes:
        refusals: the errors of the nodes that `put` refused and that run without a group, by their numbers.
    """

    def __init__(
        self,
        nodes: PlainQueue,
        limits: GroupLimits,
        clock: Callable[[], float],
        timers: Timers,
        on_ready: Callable[[], None],
        on_limit: Callable[[str, Limit], None],
        spills: Spills | None = None,
        dropped: set[int] | None = None,
    ) -> None:
        """Take over the nodes of a plain queue, which have no group, and its order.

        Parameters:
            nodes: the plain queue; empty afterwards.
            limits: the limit of each group.
            clock: returns the loop's time, seconds.
            timers: calls functions at a time of `clock`.
            on_ready: called when a group becomes ready.
            on_limit: called with the name and limit of a group that has one, when it first keeps an item from starting.
            spills: spills nodes; None if all are in memory.
            dropped: the numbers of nodes that are dropped when their turn comes.

        Raises:
            ItemsNotComparable: two nodes can't be compared; all are still in `nodes`.
        """
        self._limits = limits
        self._clock = clock
        self._timers = timers
        self._on_ready = on_ready
        self._on_limit = on_limit
        self._dropped = set() if dropped is None else dropped
        self._spills = None if type(nodes) is PriorityQueue else spills
        self._announced: dict[str, Limit] = {}
        self._kind: type[PlainQueue] = type(nodes)
        self._is_fifo = self._kind is FifoQueue
        self._is_by_priority = self._kind is PriorityQueue
        self._groups: dict[str | None, Group] = {}
        self._running: dict[int, Group] = {}
        self.refusals: dict[int, Exception] = {}
        self._ready = ReadyGroups(self._kind)
        self._count = len(nodes)
        self._sweep_at = _SWEEP_GROUPS
        self._may_spill = True
        self._is_comparing = False
        self._unplaced: list[Node] = []
        self._error: BaseException | None = None
        if len(nodes):
            head = nodes.take() if nodes else None  # may raise, before anything has been moved
            group = self._group(None)
            group.head = head
            group.again, group.rest = nodes.move()
            self._make_ready(group)
            if isinstance(group.rest, SpillingLine):
                group.rest.is_full = self._is_full
                if head is None:  # otherwise `take` sees to it: a resume may still replace objects that items refer to
                    group.rest.refill()

    # ---- as any queue of nodes ----------------------------------------------------------------------------------

    def put(self, node: Node, /) -> str | None:
        """Add `node`, and return its group.

        Raises:
            InvalidItem, InvalidArgument: its group, or the limit of its group, is invalid; nothing has changed.
            ItemsNotComparable: it can't be compared; nothing has changed.
        """
        if self._is_comparing:
            self._refuse_while_comparing()
        name = group_of(node)
        group = self._groups.get(name) or self._group(name)
        if self._is_fifo and group.rest:  # the usual case, without a call
            group.rest.put(node)
            node.group = group.name
            self._count += 1
        else:
            self._put(group, node, again=False)
        return group.name

    def put_again(self, node: Node, /) -> str | None:
        """Add `node` as the next of its group, as far as the order of the queue allows; raises what `put` raises."""
        self._refuse_while_comparing()
        self._put(self._group(group_of(node)), node, again=True)
        return node.group

    def put_refused(self, node: Node, error: Exception, *, again: bool) -> None:
        """Add an announced `node` that `put` refused with `error`. It runs without a group, and `check` raises `error`."""
        self.refusals[node.id] = error
        self._put(self._group(None), node, again=again)

    def check(self, node: Node) -> None:
        """Raise the error with which `node` was refused, if it was; called when it is about to run."""
        if node.id in self.refusals:
            raise self.refusals.pop(node.id)

    def take(self) -> Node:
        """Remove and return the next node that may start. Call `release` when its `process` has ended.

        Raises:
            IndexError: no node may start now, or one was dropped: if `is_ready`, it must be called again.
            ItemsNotComparable: two items can't be compared, now or in a call since the last `take` that couldn't raise.
                The queue still holds all nodes, but `take` doesn't return any of them any more.
        """
        if self._error is not None:
            raise self._error
        self._is_comparing = self._is_by_priority
        try:
            group = self._ready.take()
            node = group.head
            assert node is not None
            rest = group.rest
            head = group.again.take() if group.again else rest.take() if rest else None
            # By priority, each must have been the first: `ReadyGroups` may still compare those that once were.
            while self._dropped and not self._is_by_priority and head is not None and head.id in self._dropped:
                self._dropped.remove(head.id)
                self._count -= 1
                head = group.again.take() if group.again else rest.take() if rest else None
            group.head = head
            if isinstance(rest, SpillingLine):
                rest.refill()
            if head is None and (rest is None or not len(rest)):
                group.again = group.rest = None
        except IndexError:
            raise
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._is_comparing = False
        self._count -= 1
        if self._dropped and node.id in self._dropped:
            self._dropped.remove(node.id)
            self._look_at(group)
            raise IndexError  # to be called again: what this has recorded is later than the end of the caller's last item
        if group.limit.concurrent is not None:
            group.running += 1
            self._running[node.id] = group
        if group.rate is not None:
            group.rate.count_start(self._clock())
        # The group may start its next node at once. Where nothing but the number of running nodes decides that, `_look_at` would
        # take two calls more, and an item of a limited group 6 % longer.
        is_simple = group.rate is None and not group.not_before and not self._is_by_priority
        if is_simple and head is not None and group.running < group.most:
            self._ready.add(group, head)
            self._on_ready()
        else:
            self._look_at(group)
        return node

    def release(self, node: Node) -> None:
        """Record that the `process` of `node` has ended. Does nothing for a node that isn't running in a limited group."""
        group = self._running.pop(node.id, None)
        if group is None:
            return
        group.running -= 1
        if not group.ready_as:
            self._look_at(group)

    def reorder(self) -> None:
        """Sort all nodes again, since items may have changed.

        Raises:
            InvalidItem, InvalidArgument, ItemsNotComparable: as `put`; the queue still holds all nodes.
        """
        nodes = self._unplaced
        self._ready = ReadyGroups(self._kind)
        lines: list[SpillingLine] = []
        for group in self._groups.values():
            group.ready_as = 0
            if group.head is not None:
                nodes += [group.head, *(group.again or ())]
            if isinstance(group.rest, SpillingLine):
                nodes += group.rest.take_all_in_memory()
                lines += [group.rest] if len(group.rest) else []
            else:
                nodes += group.rest or ()
            group.head = group.again = group.rest = None
        # By number, since items may have changed their groups. Nodes that ran before come first, as a resume queues them.
        nodes.sort(key=lambda node: ((node.attempt == 1) is not (self._kind is LifoQueue), node.id), reverse=True)
        self._count = sum(map(len, lines))
        self._may_spill = False  # the nodes are in memory, and come before spilled ones
        try:
            while nodes:
                node = nodes[-1]
                group = self._group(None if node.id in self.refusals else group_of(node))
                self._put(group, node, again=node.attempt > 1)
                nodes.pop()
        finally:
            self._may_spill = True
            for line in lines:
                group = self._group(line.group)
                line.near.extend(group.rest or ())
                group.rest = line
                line.refill()

    def __len__(self) -> int:
        return self._count + len(self._unplaced)

    def __iter__(self) -> Iterator[Node]:
        for group in self._groups.values():
            if group.head is not None:
                yield group.head
            yield from group.again or ()
            if group.rest is not None:
                yield from group.rest
        yield from self._unplaced

    def in_memory(self) -> Iterator[list[Node]]:
        """Yield the nodes that are in memory, in lists that don't change."""
        for group in list(self._groups.values()):
            if group.head is not None:
                yield [group.head, *(group.again or ())]
            if group.rest is not None:
                yield from group.rest.in_memory()
        yield self._unplaced.copy()

    @property
    def spilling_lines(self) -> list[SpillingLine]:
        """The lines with spilled nodes."""
        return [group.rest for group in self._groups.values() if isinstance(group.rest, SpillingLine)]

    # ---- what groups add ----------------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether `take` would return a node, or raise something other than IndexError."""
        return len(self._ready) > 0 or self._error is not None

    def slow_down(self, name: str, seconds: float) -> None:
        """Start nothing of the group called `name` for so many `seconds` from now.

        Raises:
            InvalidArgument: the limit of the group is invalid; nothing has changed.
            BaseException: `limits` is a function, and raised it; nothing has changed.
        """
        self._refuse_while_comparing()
        group = self._group(name)
        until = self._clock() + seconds
        if until > group.not_before:
            group.not_before = until
            self._ready.withdraw(group)
            self._look_at(group)
        self._sweep()

    def reconsider(self, name: str, running: Sequence[Node]) -> None:
        """Let what the limits now say of the group called `name` hold from its next start.

        Parameters:
            name: the group's name; a person has paused it, or changed its limit, or ended either.
            running: its nodes whose `process` runs; they are counted.
        """
        group = self._groups.get(name)
        if group is None:
            if not running:  # it asks when it gets its first node
                return
            group = self._groups[name] = new_group(name, NO_LIMIT)  # forgotten, since nothing waits in it
        try:
            limit = self._limits.limit(name)
        except Exception:  # `limits` is a function and raises it now; the caller has warned of that
            limit = group.limit
        if limit != group.limit:
            group.use(limit)
            self._announced.pop(name, None)
            self._running = {number: one for number, one in self._running.items() if one is not group}
            self._running.update((node.id, group) for node in running if limit.concurrent is not None)
            group.running = sum(one is group for one in self._running.values())
        self._ready.withdraw(group)
        self._look_at(group)

    def has(self, name: str) -> bool:
        """Return whether the group called `name` is known: a node waits or runs in it, or it was among the first seen."""
        return name in self._groups or name in self._limits.seen

    def largest(self) -> dict[str, int]:
        """Return the few groups in which the most nodes wait, with their numbers; of very many groups it looks at the first."""
        waiting = [
            (1 + len(group.again or ()) + len(group.rest or ()), group.name)
            for group in islice(self._groups.values(), _MAX_LOOKED_AT)
            if group.name is not None and group.head is not None
        ]
        return {name: count for count, name in nlargest(SHOWN_GROUPS, waiting)}

    # ---- how ----------------------------------------------------------------------------------------------------

    def _group(self, name: str | None) -> Group:
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = new_group(name, self._limits.limit(name))
        return group

    def _refuse_while_comparing(self) -> None:
        if self._is_comparing:
            raise ItemsNotComparable("comparing two items with < changed the queue; __lt__ must only compare")

    def _put(self, group: Group, node: Node, *, again: bool) -> None:
        head = group.head
        self._is_comparing = self._is_by_priority
        try:
            # Without a head, all other nodes are spilled, and come before the last of a FIFO queue.
            if head is None and (again or group.rest is None or not self._is_fifo):
                group.head = node
                try:
                    self._make_ready(group)
                except BaseException:
                    group.head = None
                    self._forget(group)
                    raise
                if group.name is not None and (self._limits.unused or not self._limits.seen):
                    self._limits.note(group.name)
            elif head is not None and (node < head if self._is_by_priority else (again or not self._is_fifo)):
                if again and self._is_fifo and head.attempt > 1:  # the head was put again before it
                    group.again = group.again or Line()
                    group.again.put(node)
                else:
                    self._ready.move_up(group, node)  # may raise, before anything has changed
                    self._rest(group).put_first(head)
                    group.head = node
            else:
                self._rest(group).put(node)
        finally:
            self._is_comparing = False
        node.group = group.name
        self._count += 1

    def _rest(self, group: Group) -> Rest:
        if group.rest is None:
            if self._is_by_priority:
                group.rest = PriorityQueue()
            elif self._spills is None:
                group.rest = Line() if self._is_fifo else Stack()
            else:
                kind = SpillingLine if self._is_fifo else SpillingStack
                group.rest = kind(self._spills, self._is_full, group.name)
                self._spills.num_lines = len(self._groups)
        return group.rest

    # ---- spilled nodes ------------------------------------------------------------------------------------------

    def refill(self) -> None:
        """Do nothing: `take` sees to it."""

    def _is_full(self) -> bool:
        assert self._spills is not None
        return self._may_spill and self._count - self._spills.num_spilled >= self._spills.most

    def look_at_line(self, line: SpillingLine) -> None:
        """Let the group of `line`, to which nodes were put back, start the next one, if it has been waiting for them."""
        group = self._group(line.group)
        if group.head is None and line:
            group.head = line.take()
            line.refill()
            self._look_at(group)

    def _make_ready(self, group: Group) -> bool:
        """Make `group` ready, if it may start now; return whether it has become ready by this."""
        node = group.head
        if node is None or group.ready_as:
            return False
        if self._limits.paused and group.name in self._limits.paused:
            return False
        if group.running >= group.most:
            self._announce_limit(group)
            return False
        at = group.not_before if group.rate is None else group.may_start_at
        if at > 0.0 and at > self._clock():
            self._announce_limit(group)
            if not 0.0 < group.waits_until <= at:
                group.waits_until = at
                self._timers.after(at - self._clock(), partial(self._look_again, group))
            return False
        self._ready.add(group, node)
        return True

    def _announce_limit(self, group: Group) -> None:
        name = group.name
        if name is not None and group.limit != NO_LIMIT and self._announced.get(name) != group.limit:
            if len(self._announced) >= _MAX_ANNOUNCED:
                self._announced.clear()
            self._announced[name] = group.limit
            self._on_limit(name, group.limit)

    def _look_at(self, group: Group) -> None:
        """Make `group` ready, if it may start now, and call `on_ready`; otherwise forget it, if it is idle.

        The caller can't handle an `ItemsNotComparable`; the next `take` raises it.
        """
        self._is_comparing = self._is_by_priority
        try:
            is_ready = self._make_ready(group)
        except BaseException as error:
            self._error = self._error or error
            is_ready = True
        finally:
            self._is_comparing = False
        if is_ready:
            self._on_ready()
        elif group.head is None:
            self._forget(group)

    def _look_again(self, group: Group) -> None:
        group.waits_until = 0.0
        self._look_at(group)

    # ---- forgetting what is not needed any more -----------------------------------------------------------------

    def _forget(self, group: Group) -> None:
        """Forget `group`, in which no node waits, unless its past matters; then look at all groups from time to time."""
        if group.rest is not None or group.running or group.not_before or group.rate is not None:
            self._sweep()
        elif self._groups.get(group.name) is group:
            del self._groups[group.name]

    def _sweep(self) -> None:
        """Forget the groups that are idle and not delayed by their past, once there are many."""
        if len(self._groups) < self._sweep_at:
            return
        now = self._clock()
        for group in [group for group in self._groups.values() if group.can_be_forgotten(now)]:
            del self._groups[group.name]
        self._sweep_at = max(_SWEEP_GROUPS, 2 * len(self._groups))
