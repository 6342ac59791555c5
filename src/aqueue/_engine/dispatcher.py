"""What runs next: the queue, groups, hooks that are due, and the workers that are idle."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from heapq import merge
from itertools import chain

import anyio
from anyio.lowlevel import checkpoint

from aqueue._engine.group_limits import GroupLimits, plain_numbers
from aqueue._engine.groups import GroupedQueue
from aqueue._engine.lines import SpillingLine, Spills
from aqueue._engine.queues import FifoQueue, LifoQueue, PlainQueue
from aqueue._engine.restored_run import RestoredRun
from aqueue._engine.retries import Retries
from aqueue._engine.stopping import Stage, Stopping
from aqueue._engine.tree import Node
from aqueue._stream.event_stream import EventStream
from aqueue._system.notice import warn
from aqueue._system.timers import Timers
from aqueue.errors import ItemsNotComparable
from aqueue.events import GroupLimitKnown, GroupSlowedDown, ItemRegrouped, Phase
from aqueue.limits import Limit
from aqueue.text import visible_repr

__all__ = ["Dispatcher"]


class Dispatcher:
    """Gives workers the nodes that wait, and detects when the run is done.

    Attributes:
        put: queues a node and returns its group.
        take: returns the next node; raises `IndexError` if there is none now.
        queue: the nodes that wait for a worker.
        groups: the same queue, once a class with groups has been seen; None before.
        retries: the nodes that wait for their next attempt.
        due: the nodes whose hook is due and not in the hands of a worker, by number: hooks of a resumed run, and retries of hooks.
        next_up: such nodes in the hands of workers that are about to run their hooks or close them, and give way before, by number.
        dropped: the numbers of nodes that are in the queue, but don't run: people have cancelled or skipped their items.
        opening: the nodes whose objects are being read from the journal before a phase of them can run, by number.
        is_held: whether a command is being carried out, so that the run isn't done.
        left: the nodes that don't run any more in this process, such as interrupted ones, and the phase that each would run.
        idle: an event per idle worker.
        num_workers: how many workers there are now.
        on_dropped: called when a command may have left nothing to run: workers see to that, unless there are none.
        is_done: whether nothing is left to run, and no item is running that could enqueue more.
    """

    def __init__(
        self,
        stream: EventStream,
        stopping: Stopping,
        queue: PlainQueue,
        limits: GroupLimits,
        timers: Timers,
        clock: Callable[[], float],
    ) -> None:
        """Start with nothing to run.

        Parameters:
            stream: where the events of groups and retries go.
            stopping: whether the run stops; `take` stops it at ``max_items``.
            queue: the order of the nodes.
            limits: the limit of each group.
            timers: calls functions at a time of `clock`.
            clock: returns the loop's time, seconds.
        """
        self.groups: GroupedQueue | None = None
        self.retries = Retries(stream, timers, clock, self._end_wait)
        self.due: OrderedDict[int, Node] = OrderedDict()
        self.next_up: dict[int, Node] = {}
        self.dropped: set[int] = set()
        self.opening: dict[int, tuple[Node, Phase]] = {}
        self.is_held = False
        self.left: list[tuple[Node, Phase]] = []
        self.idle: deque[anyio.Event] = deque()
        self.num_workers = 0
        self._num_taken = 0  # a node that is retried counts once
        self._is_stack = isinstance(queue, LifoQueue)  # stays true when the queue goes by groups
        self.on_dropped: Callable[[], None] = self.wake_all
        self.is_done = False
        self._num_queued_again = 0  # nodes in the queue that `_num_taken` counts already
        self._stream = stream
        self._stopping = stopping
        self._by_groups = partial(
            GroupedQueue,
            limits=limits,
            clock=clock,
            timers=timers,
            on_ready=self.wake_one,
            on_limit=self._record_limit,
            dropped=self.dropped,
        )
        self._spills: Spills | None = None
        self._use_queue(queue)

    def spill(self, spills: Spills) -> None:
        """Spill nodes from now on; only before any is put."""
        self._spills = spills
        assert not isinstance(self.queue, GroupedQueue)
        self.queue.spill(spills)
        self._use_queue(self.queue)

    def _use_queue(self, queue: PlainQueue | GroupedQueue) -> None:
        self.queue = queue
        self.put: Callable[[Node], str | None] = queue.put
        self.take: Callable[[], Node] = queue.take if self._stopping.limits.max_items is None else self._take_counted

    @property
    def fifo(self) -> FifoQueue | None:
        """The queue, if taking a node is nothing but taking its first; None otherwise."""
        queue = self.queue
        return queue if isinstance(queue, FifoQueue) and self._stopping.limits.max_items is None else None

    def restore(self, run: RestoredRun) -> None:
        """Queue what a recorded run has left, and go on waiting for retries and slowed-down groups.

        No wait gets longer than it was when it was recorded: the clock may have been set back since.
        """
        self.retries.restore(run.retried)
        now = self._stream.now()
        for group, (due, delay_s) in run.slowed_down.items():
            if due > now:
                self._restore_slow_down(group, min(due - now, delay_s))
        # Nodes that were running had been taken before the others, so they come first again, from a stack as well.
        taken = [node for node in run.queued if node.attempt > 1]
        waiting = merge((node for node in run.queued if node.attempt == 1), run.settled, key=lambda node: node.id)
        for node in chain(waiting, taken) if self._is_stack else chain(taken, waiting):
            self.put_recorded(node)

    # ---- nodes --------------------------------------------------------------------------------------------------

    def _take_counted(self) -> Node:
        """Take the next node, or stop the run if ``max_items`` have been taken and others wait.

        A node that is retried was counted at its first attempt.
        """
        if self._has_taken_all and self._num_waiting > self._num_queued_again:
            self._stop_at_max_items()
            raise IndexError
        node = self.queue.take()
        if node.id in self.dropped:
            return node  # for a worker that drops it
        if self.retries.is_counted(node):
            self._num_queued_again -= 1
        else:
            self._num_taken += 1
        return node

    def take_unqueued(self) -> bool:
        """Count a node that runs without being queued. At ``max_items``, stop the run and return False."""
        if self._has_taken_all:
            self._stop_at_max_items()
            return False
        self._num_taken += 1
        return True

    @property
    def _has_taken_all(self) -> bool:
        return self._num_taken == self._stopping.limits.max_items

    def _stop_at_max_items(self) -> None:
        self._stopping.stop(f"max_items={self._stopping.limits.max_items} was reached")

    def put_recorded(self, node: Node) -> None:
        """Queue a recorded node now, or when the wait for its retry is over."""
        if not self.retries.wait_if_not_due(node, "process"):
            self._put_announced(node, again=False)

    def put_again(self, node: Node) -> None:
        """Queue a node that a worker had taken; end the run if it can't be compared any more."""
        try:
            self._put_announced(node, again=True)
            self._num_queued_again += self.retries.is_counted(node)
        except BaseException as error:  # items are compared by the user's code
            self.left.append((node, "process"))
            what = f"item {node.id} ({node.cls.type}) could not be queued again"
            self._stopping.fail(error, what, cancel=not isinstance(error, Exception))
        self.wake_one()

    def _put_announced(self, node: Node, *, again: bool) -> None:
        """Queue a node whose `enqueue` has returned. An exception from its `group`, or its limit, fails its next attempt."""
        before, node.group = node.group, None  # a queue that goes by groups sets it
        try:
            (self.queue.put_again if again else self.put)(node)
        except ItemsNotComparable:
            raise
        except Exception as error:  # `group`, and `limits` if it is a function, are the user's code
            if self.groups is None:
                raise
            self.groups.put_refused(node, error, again=again)
        self._record_group(node, before)

    def _record_group(self, node: Node, before: str | None) -> None:
        if node.group != before:
            self._stream.emit(ItemRegrouped, node.id, node.cls.type, node.group, before)

    def reorder(self) -> None:
        """Sort the queue again, since items in it may have changed their priorities and groups; raises what `put` raises."""
        groups = [(node, node.group) for node in self.queue if node.id not in self.dropped]
        self.queue.reorder()
        for node, before in groups:
            self._record_group(node, before)

    def refill(self) -> None:
        """Have spilled nodes read back, if few are left in memory; called from time to time."""
        self.queue.refill()

    def look_at_line(self, line: SpillingLine) -> None:
        """Let workers start nodes that were put back to `line`."""
        if self.groups is not None:
            self.groups.look_at_line(line)
        for _ in range(min(len(self.idle), len(line.near))):
            self.wake_one()
        self.queue.refill()

    def drop(self, node: Node) -> None:
        """Let a node that is in the queue not run. It stays there until its turn comes."""
        self.dropped.add(node.id)
        node.cls.is_plain = False  # so that workers look
        if self.retries.is_counted(node):
            self._num_queued_again -= 1

    def put_reopened(self, node: Node) -> None:
        """Queue a node that is to run again, unless it is still in the queue, where it was dropped."""
        if node.id in self.dropped:
            self.dropped.remove(node.id)
            self.wake_one()
        else:
            self.put_again(node)

    @property
    def _num_waiting(self) -> int:
        return len(self.queue) - len(self.dropped)

    def put_due(self, node: Node | None) -> None:
        """Leave the hook of `node`, if there is a node, to the next worker that is free."""
        if node is not None:
            self.due[node.id] = node

    @contextmanager
    def in_hand(self, node: Node | None) -> Iterator[Callable[[], Node | None]]:
        """Let a worker that is about to go on with `node`, if there is one, give way within the ``with`` block.

        Meanwhile a command may open it again. Yields what returns the node, or None if that has happened. If the block raises, the
        node is left to the next worker that is free.
        """
        if node is not None:
            self.next_up[node.id] = node
        try:
            yield lambda: None if node is None else self.next_up.pop(node.id, None)
        finally:
            if node is not None:
                self.put_due(self.next_up.pop(node.id, None))

    def withdraw_hook(self, node: Node) -> None:
        """Let the hook of `node`, if it is due or waits for a retry, not run."""
        self.due.pop(node.id, None)
        self.next_up.pop(node.id, None)
        self.retries.forget(node)
        if node.id in self.retries.retrying:
            self.retries.withdraw(node.id)

    def _end_wait(self, node: Node, phase: Phase) -> None:
        """Queue a node whose wait for its next attempt at `phase` is over."""
        if self._stopping.stage is not Stage.RUNNING:
            return
        del self.retries.retrying[node.id]
        if phase == "process":
            self.put_again(node)
        else:
            self.put_due(node)
            self.wake_one()

    def __iter__(self) -> Iterator[Node]:
        """Yield all nodes that wait or were interrupted."""
        retrying = (wait.node for wait in self.retries.retrying.values())
        opening = (node for node, _ in self.opening.values())
        left = (node for node, _ in self.left)
        return chain(left, retrying, opening, self.due.values(), self.queue)

    # ---- workers that wait --------------------------------------------------------------------------------------

    def wake_one(self) -> None:
        """Wake an idle worker, if there is one and something can start."""
        if self.idle and (self.groups is None or self.groups.is_ready or self.due):
            self.idle.pop().set()

    def wake_all(self) -> None:
        """Wake all idle workers."""
        while self.idle:
            self.idle.pop().set()

    def add_worker(self) -> None:
        """Count a worker that starts."""
        self.num_workers += 1

    def remove_worker(self) -> None:
        """Count a worker that has ended, which may make the run done."""
        self.num_workers -= 1
        self.end_if_idle(about_to_wait=0)

    async def wait_for_item(self) -> bool:
        """Sleep until there may be an item; return False if the run is done."""
        self.queue.refill()
        if self.groups is not None and self.groups.is_ready and self._stopping.may_start:
            await checkpoint()  # one was dropped
            return True
        self.end_if_idle(about_to_wait=1)
        if self.is_done:
            return False
        await self.wait_until_woken()
        return True

    async def wait_until_woken(self) -> None:
        """Sleep as an idle worker."""
        event = anyio.Event()
        self.idle.append(event)
        try:
            await event.wait()
        except BaseException:  # cancelled, so `wake_one` must not pick this worker
            with suppress(ValueError):
                self.idle.remove(event)
            raise

    def end_if_idle(self, *, about_to_wait: int) -> None:
        """End the run if nothing is left and every worker is idle. `about_to_wait`: callers about to go idle themselves."""
        if len(self.idle) + about_to_wait == self.num_workers and not (
            self.retries.retrying or self.due or self.opening or self.is_held or self._num_waiting
        ):
            self.is_done = True
            self.wake_all()

    # ---- groups -------------------------------------------------------------------------------------------------

    def use_groups(self) -> GroupedQueue:
        """Return the queue by groups, which replaces the plain one at the first call."""
        if self.groups is None:
            assert not isinstance(self.queue, GroupedQueue)
            self.groups = self._by_groups(self.queue, spills=self._spills)
            self._use_queue(self.groups)
        return self.groups

    def slow_down(self, group: str, seconds: float, node: Node | None) -> None:
        """Start nothing of `group` for so long, as the item of `node` asks; see `aqueue.slow_down`."""
        stream = self._stream
        if self._stopping.stage is Stage.ENDED:
            return
        until = (
            stream.now() + seconds
        )  # read before the pause begins, or the group could start before the recorded time
        self.use_groups().slow_down(group, seconds)  # may raise: `limits` can be a function of the user
        now = stream.now()
        stream.append(GroupSlowedDown(stream.next_seq(), now, group, max(now, until), 0 if node is None else node.id))

    def slow_down_later(self, group: str, seconds: float, node: Node | None) -> None:
        """Do what `slow_down` does for a caller in another thread: an exception can't reach the caller, and stops the run."""
        try:
            self.slow_down(group, seconds, node)
        except BaseException as error:
            what = f"the group {visible_repr(group)} could not be slowed down"
            self._stopping.fail(error, what, cancel=not isinstance(error, Exception))

    def reconsider(self, group: str, running: Sequence[Node]) -> None:
        """Let what the limits now say of `group` hold from its next start; `running`: its nodes whose `process` runs."""
        if self.groups is not None:
            self.groups.reconsider(group, running)

    def _record_limit(self, group: str, limit: Limit) -> None:
        self._stream.emit(GroupLimitKnown, group, *plain_numbers(limit))

    def _restore_slow_down(self, group: str, seconds: float) -> None:
        """Go on with a pause of `group` that an earlier process recorded."""
        try:
            self.use_groups().slow_down(group, seconds)
        except Exception as error:  # `limits` can be a function of the user
            warn(
                f"limits raised {visible_repr(error)} for the group {visible_repr(group)}; the rest of its recorded pause is "
                "ignored, and its items may start now"
            )
