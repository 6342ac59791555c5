"""What runs next: the queue, the groups that may start, the hooks that are due, and the workers that wait for any of it."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain

import anyio

from aqueue._engine.group_limits import GroupLimits
from aqueue._engine.groups import GroupedQueue
from aqueue._engine.queues import FifoQueue, LifoQueue, PlainQueue
from aqueue._engine.restored_run import RestoredRun
from aqueue._engine.retries import Retries
from aqueue._engine.stopping import Stage, Stopping
from aqueue._engine.tree import Node
from aqueue._stream.event_stream import EventStream
from aqueue._system.notice import warn
from aqueue._system.timers import Timers
from aqueue.errors import ItemsNotComparable
from aqueue.events import GroupSlowedDown, Phase
from aqueue.text import visible_repr

__all__ = ["Dispatcher"]


class Dispatcher:
    """Hands out the nodes that wait, and tells when there will never be another.

    Attributes:
        put: queues a node.
        take: returns the next node; raises `IndexError` if there is none now.
        queue: those that wait for a worker.
        groups: the same, once a class with groups has been seen; None before.
        retries: those that wait for their next attempt.
        due: those whose hook is due and that no worker has come upon: of a resumed run, or to be tried again.
        left: those that nothing will run in this process: they were interrupted.
        idle: what each worker waits for that has nothing to take.
        num_workers: how many workers there are now.
        is_done: whether nothing is left, and nobody runs who could enqueue more.
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
        """Nothing waits yet.

        Parameters:
            stream: where the events of groups and retries go.
            stopping: whether the run stops; `take` stops it at ``max_items``.
            queue: the order of the nodes.
            limits: what each group may do.
            timers: calls functions when their time has come.
            clock: tells the loop's time, seconds.
        """
        self.groups: GroupedQueue | None = None
        self.retries = Retries(stream, timers, clock, self._end_wait)
        self.due: deque[Node] = deque()
        self.left: list[Node] = []
        self.idle: deque[anyio.Event] = deque()
        self.num_workers = 0
        self._num_taken = 0  # each node once
        self._is_stack = isinstance(queue, LifoQueue)  # by groups or not
        self.is_done = False
        self._num_queued_again = 0  # of those counted in `_num_taken`
        self._stream = stream
        self._stopping = stopping
        self._by_groups = partial(GroupedQueue, limits=limits, clock=clock, timers=timers, on_ready=self.wake_one)
        self._use_queue(queue)

    def _use_queue(self, queue: PlainQueue | GroupedQueue) -> None:
        self.queue = queue
        self.put = queue.put
        self.take: Callable[[], Node] = queue.take if self._stopping.limits.max_items is None else self._take_counted

    @property
    def fifo(self) -> FifoQueue | None:
        """The queue, if `take` does nothing but take its first node; None otherwise."""
        queue = self.queue
        return queue if isinstance(queue, FifoQueue) and self._stopping.limits.max_items is None else None

    def restore(self, run: RestoredRun) -> None:
        """Queue what a recorded run has left, and go on with its waits, each for as long as it was then at the most."""
        self.retries.restore(run.retried)
        now = self._stream.now()
        for group, (due, delay_s) in run.slowed_down.items():
            if due > now:
                self._restore_slow_down(group, min(due - now, delay_s))
        # What was running had been taken already: it comes first again, also from a stack.
        for was_taken in (not self._is_stack, self._is_stack):
            for node in run.queued:
                if (node.attempt > 1) is was_taken:
                    self.put_recorded(node)

    # ---- nodes --------------------------------------------------------------------------------------------------

    def _take_counted(self) -> Node:
        """Take the next node, unless as many have been taken as may be; then stop the run if there are more.

        One that is tried again was counted before.
        """
        if self._has_taken_all and len(self.queue) > self._num_queued_again:
            self._stop_at_max_items()
            raise IndexError
        node = self.queue.take()
        if self.retries.is_counted(node):
            self._num_queued_again -= 1
        else:
            self._num_taken += 1
        return node

    def take_unqueued(self) -> bool:
        """Count a node that runs without having been queued; return False, and stop the run, if ``max_items`` have been taken."""
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
        """Queue a recorded node, once it is due."""
        if not self.retries.wait_if_not_due(node, "process"):
            self._put_announced(node, again=False)

    def put_again(self, node: Node) -> None:
        """Queue a node that a worker has had; if it can't be compared any more, the run ends."""
        try:
            self._put_announced(node, again=True)
            self._num_queued_again += self.retries.is_counted(node)
        except BaseException as error:  # a comparison of items is the user's code
            self.left.append(node)
            what = f"item {node.id} ({node.cls.type}) could not be queued again"
            self._stopping.fail(error, what, cancel=not isinstance(error, Exception))
        self.wake_one()

    def _put_announced(self, node: Node, *, again: bool) -> None:
        """Queue a node. If its `group`, or its limit, raises, that fails its next attempt: no caller is there to get it."""
        try:
            (self.queue.put_again if again else self.put)(node)
        except ItemsNotComparable:
            raise
        except Exception as error:  # a `group`, and a function that tells limits, is the user's code
            if self.groups is None:
                raise
            self.groups.put_refused(node, error, again=again)

    def put_due(self, node: Node | None) -> None:
        """Have the hook of `node`, if there is one, run by the next worker that looks."""
        if node is not None:
            self.due.append(node)

    def _end_wait(self, node: Node, phase: Phase) -> None:
        """Queue a node that has waited for its next attempt at `phase`."""
        if self._stopping.stage is not Stage.RUNNING:
            return
        del self.retries.retrying[node.id]
        if phase == "process":
            self.put_again(node)
        else:
            self.due.append(node)
            self.wake_one()

    def __iter__(self) -> Iterator[Node]:
        """Yield all nodes that wait, or that nothing will run."""
        return chain(self.left, self.retries.retrying.values(), self.due, self.queue)

    # ---- workers that wait --------------------------------------------------------------------------------------

    def wake_one(self) -> None:
        """Wake an idle worker, if there is one and something for it."""
        if self.idle and (self.groups is None or self.groups.is_ready or self.due):
            self.idle.pop().set()

    def wake_all(self) -> None:
        """Have all idle workers look again."""
        while self.idle:
            self.idle.pop().set()

    def add_worker(self) -> None:
        """Count a worker that starts."""
        self.num_workers += 1

    def remove_worker(self) -> None:
        """Count a worker that has ended; the run may be done by that."""
        self.num_workers -= 1
        self.end_if_idle(about_to_wait=0)

    async def wait_for_item(self) -> bool:
        """Sleep until an item may be there; return False if none will ever come."""
        self.end_if_idle(about_to_wait=1)
        if self.is_done:
            return False
        event = anyio.Event()
        self.idle.append(event)
        try:
            await event.wait()
        except BaseException:  # cancelled: nobody is to wake it any more
            with suppress(ValueError):
                self.idle.remove(event)
            raise
        return True

    def end_if_idle(self, *, about_to_wait: int) -> None:
        """Note that the run is done if nothing is left and every worker is idle; `about_to_wait` workers will be next."""
        if len(self.idle) + about_to_wait == self.num_workers and not (
            self.retries.retrying or self.due or len(self.queue)
        ):
            # Nothing is queued or waits for its time, and nobody is running who could enqueue more.
            self.is_done = True
            self.wake_all()

    # ---- groups -------------------------------------------------------------------------------------------------

    def use_groups(self) -> GroupedQueue:
        """From the first class on whose items have a group, let the queue go by groups; return it."""
        if self.groups is None:
            assert not isinstance(self.queue, GroupedQueue)
            self.groups = self._by_groups(self.queue)
            self._use_queue(self.groups)
        return self.groups

    def slow_down(self, group: str, seconds: float, node: Node | None) -> None:
        """Start nothing of `group` for so long, as the item of `node` asks; see `aqueue.slow_down`."""
        stream = self._stream
        if self._stopping.stage is Stage.ENDED:
            return
        until = stream.now() + seconds  # read first: the group must not start again before the time that is recorded
        self.use_groups().slow_down(group, seconds)  # may refuse: a function that tells the limits is the user's code
        now = stream.now()
        stream.append(GroupSlowedDown(stream.next_seq(), now, group, max(now, until), 0 if node is None else node.id))

    def slow_down_later(self, group: str, seconds: float, node: Node | None) -> None:
        """Do what `slow_down` does for a caller in another thread, who can't be told that it went wrong."""
        try:
            self.slow_down(group, seconds, node)
        except BaseException as error:
            what = f"the group {visible_repr(group)} could not be slowed down"
            self._stopping.fail(error, what, cancel=not isinstance(error, Exception))

    def _restore_slow_down(self, group: str, seconds: float) -> None:
        """Start nothing of `group` for so long, as a recorded process has asked."""
        try:
            self.use_groups().slow_down(group, seconds)
        except Exception as error:  # a function that tells the limits is the user's code
            warn(f"the pause of the group {visible_repr(group)} ends now: limits raised {visible_repr(error)}")
