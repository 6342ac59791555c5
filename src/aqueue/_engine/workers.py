"""The workers: tasks that take items and run them one after the other."""

import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import anyio
from anyio.abc import TaskGroup

from aqueue._codec.results import encode_result
from aqueue._engine.attempt import NO_ENGINE, Attempt
from aqueue._engine.context import running_attempt
from aqueue._engine.exceptions import cancelled_between_items, hide_frames_of
from aqueue._engine.groups import GroupedQueue
from aqueue._engine.hooks import Hooks
from aqueue._engine.parts import Parts
from aqueue._engine.stopping import Stage
from aqueue._engine.tree import Node
from aqueue._engine.worker import TaskSpoiled, Worker
from aqueue._stream.event_stream import SOFT_LIMIT_EVENTS
from aqueue._system.loop import TaskWatch
from aqueue._system.notice import warn
from aqueue.events import NO_DATA, ItemCompleted, ItemStarted, Phase

__all__ = ["Workers"]

hide_frames_of(__file__)
hide_frames_of(GroupedQueue.check.__code__.co_filename)


class Workers:
    """Runs items, and the hooks that become due, in the tasks of workers.

    Attributes:
        present: the workers that have not ended.
        most: workers with higher numbers retire after their item.
    """

    def __init__(self, parts: Parts, hooks: Hooks) -> None:
        self.present: set[Worker] = set()
        self.most = sys.maxsize
        self._parts = parts
        self._stream = parts.stream
        self._tree = parts.tree
        self._stopping = parts.stopping
        self._dispatcher = parts.dispatcher
        self._intake = parts.intake
        self._outcomes = parts.outcomes
        self._turns = parts.turns
        self._hooks = hooks
        parts.stopping.on_change(self._look_at_all)

    # ---- who may start items ------------------------------------------------------------------------------------

    def keep(self, most: int) -> None:
        """Let the workers with numbers above `most` retire after their item, and no others."""
        self.most = most
        self._look_at_all()
        self._dispatcher.wake_all()

    def _look_at_all(self) -> None:
        # A flag per worker: the hot path reads one attribute, whether the run stops, is paused, or a worker is to retire.
        for worker in self.present:
            self._look_at(worker)

    def _enter(self, worker: Worker) -> None:
        self.present.add(worker)
        self._look_at(worker)

    def _look_at(self, worker: Worker) -> None:
        worker.may_start = self._stopping.may_start and worker.number <= self.most

    def running(self, *phases: Phase) -> Iterator[tuple[Node, Worker]]:
        """Yield the nodes whose attempts at one of these phases run, with their workers."""
        for worker in self.present:
            attempt = worker.attempt
            if attempt is not None and attempt.node is not None and attempt.phase in phases:
                yield attempt.node, worker

    # ---- a worker's task ----------------------------------------------------------------------------------------

    def start(
        self,
        worker: Worker,
        tasks: TaskGroup,
        work: Callable[[Worker], Awaitable[None]],
        on_end: Callable[[Worker], None],
    ) -> None:
        """Start the task of `worker` in `tasks`. If an item spoils the task, another task takes over.

        Parameters:
            worker: the worker.
            tasks: the group of its task.
            work: runs items until none is left for it.
            on_end: called in the task when the worker has ended.
        """
        self._enter(worker)

        def end() -> None:
            self.present.discard(worker)
            on_end(worker)

        async def run() -> None:
            with self._task_of(worker):
                try:
                    await self._hooks.run_due(worker)
                    await work(worker)
                except BaseException as error:
                    if await self._is_stray(error, worker):
                        self.start(worker, tasks, work, on_end)
                        return
                    end()
                    raise
            end()

        tasks.start_soon(run, name=f"aqueue worker {worker.number}")

    async def run_alone(self, node: Node, worker: Worker) -> None:
        """Run the `process` or the hook of `node`, whichever is next, and no other item."""
        self._enter(worker)
        with self._task_of(worker):
            try:
                if node.is_ended:
                    await self._hooks.run(self._tree.ascend(node, self._stream.now()), worker)
                    return
                left = deque([node])
                while left and self._stopping.stage is Stage.RUNNING:
                    await self.run_queued(worker, left.popleft)
                    if left:  # the run is paused
                        await self._dispatcher.wait_until_woken()
            except BaseException as error:
                if not await self._is_stray(error, worker):
                    raise
            finally:
                self.present.discard(worker)

    @contextmanager
    def _task_of(self, worker: Worker) -> Iterator[None]:
        """Let `worker` run items in the current task."""
        worker.watch = TaskWatch()
        with self._parts.timeouts.in_task(worker.watch) as worker.timeout:
            worker.watch.enter(anyio.CancelScope())  # which cancels an item that a person cancels or skips
            yield

    async def _is_stray(self, error: BaseException, worker: Worker) -> bool:
        """Return whether `error` has only spoiled the worker's task, while the run goes on; warn of a stray cancellation."""
        await worker.watch.close()
        if not isinstance(error, TaskSpoiled):
            if not self._outcomes.is_cancellation(error) or self._stopping.is_cancelled:
                return False
            node = worker.last
            warn(cancelled_between_items("none yet" if node is None else f"item {node.id} ({node.cls.type})"))
        await worker.watch.take_cancellation()
        return True

    # ---- items --------------------------------------------------------------------------------------------------

    async def work(self, worker: Worker) -> None:
        """Run items in this process until none is left or the run stops."""
        dispatcher = self._dispatcher
        while True:
            queue, fifo = dispatcher.queue, dispatcher.fifo
            if fifo is not None:
                # Calling `take` instead costs one more call per item, and was 1 % slower.
                await self.run_queued(worker, fifo.take_new, fifo.again)
            else:
                await self.run_queued(worker, dispatcher.take)
            if self._stopping.stage is not Stage.RUNNING or worker.number > self.most:
                return
            # The queue may have been replaced meanwhile, by the first item that has a group.
            if queue is dispatcher.queue and not await self.wait_for_item(worker):
                return

    async def wait_for_item(self, worker: Worker) -> bool:
        """Run due hooks, or sleep until there may be an item; return False if the run is done."""
        if self._dispatcher.due and worker.may_start:
            await self._hooks.run_due(worker)
            return True
        return await self._dispatcher.wait_for_item()

    async def run_queued(  # noqa: C901, PLR0912, PLR0915  # written out for speed: see below
        self, worker: Worker, take: Callable[[], Node], again: "deque[Node] | tuple[()]" = ()
    ) -> None:
        """Take items, first those in `again`, and run them until none is there or the run stops.

        This is the hot path. The work for an ordinary item is written out here, with local names, and with one reading of the
        clock for the end of an item and the start of the next. Rare cases are in methods. Durations use the monotonic clock:
        the time of events also follows jumps of the wall clock.
        """
        stream, turns = self._stream, self._turns
        suspects, engine, payloads = self._parts.suspects, self._parts.for_items, self._parts.payloads
        append, next_seq, clock, events = stream.append, stream.next_seq, stream.clock, stream.events
        add_large, is_heard = stream.add_large, stream.is_heard
        end_process, dropped = self._tree.end_process, self._dispatcher.dropped
        number = worker.number
        watch, task = worker.watch, worker.watch.task
        node = worker.last
        ticked = monotonic()
        while worker.may_start:
            try:
                node = again.popleft() if again else take()
            except IndexError:
                worker.last = node
                return
            except BaseException as error:  # a comparison of items is the user's code
                self._stopping.fail(error, "comparing items failed", cancel=not isinstance(error, Exception))
                return
            cls = node.cls
            if cls.is_plain:
                started = ticked
            elif dropped and node.id in dropped:
                dropped.remove(node.id)
                continue
            else:  # what waited for its time or its group can start later than the end of the last item
                started = monotonic()
            attempt = worker.attempt = Attempt(engine, node, number, "process")
            running_attempt.set(attempt)
            turns.latest = attempt
            if is_heard:
                at = started + clock.offset
                append(ItemStarted(next_seq(), at, node.id, cls.type, number, "process", node.attempt, node.group))
            try:
                if suspects.is_cautious:
                    await suspects.save_start()
                if cls.is_plain:
                    result = await node.item.process(attempt.enqueue, attempt.set_desc)
                else:
                    result = await self._process(node, attempt, worker)
                attempt.node = attempt.engine = NO_ENGINE
                if task._cancel_status is not watch.outermost:  # noqa: SLF001  # see TaskWatch
                    await worker.look_at_rest(node)
                if result is not None:
                    node.result = encode_result(result, cls.type, add_large)
                state = NO_DATA
                if payloads is not None and (cls.hook or node.has_children):
                    state = payloads.changed_state(node)
            except BaseException as error:
                if not await self._recover(error, node, worker, started, attempt):
                    return
                ticked = monotonic()
                continue
            ticked = monotonic()
            at = ticked + clock.offset
            cls.completed += 1
            if is_heard:
                append(
                    ItemCompleted(
                        next_seq(),
                        at,
                        node.id,
                        number,
                        ticked - started,
                        node.attempt,
                        attempt.deduplicated,
                        node.result,
                        state,
                    )
                )
            cls.deduplicated += attempt.deduplicated
            if node.recorded is not None:
                self._intake.end_recorded(node, name_others=True)  # what this records has a later time
                ticked = monotonic()
                at = ticked + clock.offset
            due = end_process(node, at)
            if due is not None:
                await self._hooks.run(due, worker, node)
                ticked = monotonic()
            if ticked > turns.slice_end or len(events) > SOFT_LIMIT_EVENTS:
                worker.last = node  # not for each item: keeping each node until the next one ends costs 2 %
                await self._pause(attempt, worker)
                ticked = monotonic()

    async def _recover(
        self, error: BaseException, node: Node, worker: Worker, started: float, attempt: Attempt
    ) -> bool:
        """Handle an attempt at `process` that raised `error`; return whether the worker may take more items.

        Raises:
            TaskSpoiled: it may, but in another task.
        """
        attempt.node = attempt.engine = NO_ENGINE
        worker.last = node
        is_spoiled = await worker.watch.close()
        if worker.abandoned is not None:
            return self._outcomes.drop(error, worker, is_spoiled=is_spoiled)
        error = self._outcomes.by_person(error, worker)
        if self._outcomes.interrupt(error, node, attempt):
            return False
        due = None
        if not self._outcomes.retry(error, node, attempt):
            at = self._outcomes.fail(error, node, started, attempt)
            if node.recorded is not None:
                self._intake.end_recorded(node, name_others=False)
                at = self._stream.now()
            due = self._tree.end_process(node, at)
        if is_spoiled or not isinstance(error, Exception):
            self._dispatcher.put_due(due)
            raise TaskSpoiled from None
        if due is not None:
            await self._hooks.run(due, worker, node)
        await self._pause(attempt, worker)
        return True

    async def _process(self, node: Node, attempt: Attempt, worker: Worker) -> Any:
        """Call the `process` of an item whose class isn't plain, and return its result."""
        dispatcher, place, watch, cls = self._dispatcher, worker.place, worker.watch, node.cls
        timeout_s = cls.policies.timeout_s
        if node.attempt > 1:
            attempt.earlier = dispatcher.retries.earlier(node)
        is_repeatable = cls.policies.retry is not None or node.recorded is not None
        try:
            if dispatcher.groups is not None and dispatcher.groups.refusals:
                dispatcher.groups.check(node)
            if place is not None:
                await place.run(node, attempt)
                result = None
            else:
                enqueue = attempt.enqueue_repeatable if is_repeatable else attempt.enqueue
                call = node.item.process(enqueue, attempt.set_desc)
                result = await (
                    call if timeout_s is None else worker.timeout.within(timeout_s, node.id, cls.type, call)
                )
        finally:
            # Looked up again: the first item with a group may have been a child of this one.
            if dispatcher.groups is not None:
                dispatcher.groups.release(node)
        # What the item has left open fails the attempt later, and it may be retried.
        if attempt.earlier is not None and not watch.has_rest:
            dispatcher.retries.forget(node)
            attempt.earlier = None
        return result

    async def _pause(self, attempt: Attempt, worker: Worker) -> None:
        """Between two items, give the event loop, due hooks and slow reporters a turn, if it is time."""
        if monotonic() > self._turns.slice_end:
            self._dispatcher.refill()
            await self._turns.give_way(attempt)
            await self._hooks.run_due(worker)
        await self._stream.wait_for_room()
