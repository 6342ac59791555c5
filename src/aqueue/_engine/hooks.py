"""Runs hooks: `after_children_processed` of an item, and then those of its ancestors that become due."""

from time import monotonic
from typing import Any

from anyio.lowlevel import checkpoint

from aqueue._codec.results import encode_result
from aqueue._engine.attempt import NO_ENGINE, Attempt
from aqueue._engine.context import running_attempt
from aqueue._engine.exceptions import hide_frames_of
from aqueue._engine.parts import Parts
from aqueue._engine.stopping import Stage
from aqueue._engine.tree import Node
from aqueue._engine.worker import TaskSpoiled, Worker
from aqueue.events import NO_DATA, ItemStarted

__all__ = ["Hooks"]

hide_frames_of(__file__)


class Hooks:
    """Runs due hooks in the tasks of workers, before the workers take new items."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._stream = parts.stream
        self._tree = parts.tree
        self._stopping = parts.stopping
        self._dispatcher = parts.dispatcher
        self._outcomes = parts.outcomes
        self._suspects = parts.suspects

    async def run_due(self, worker: Worker) -> None:
        """Run the hooks that are due and not in the hands of a worker: hooks of a resumed run, and retries."""
        due = self._dispatcher.due
        while due and worker.may_start:
            _, node = due.popitem(last=False)
            await self.run(node, worker)

    async def run(self, due: Node | None, worker: Worker, own: Node | None = None) -> None:
        """Run the hook of `due`, and then the hooks of its ancestors that become due.

        In a run that stops, only the hook of `own`, the item that has just ended, still runs. In one that is paused, or if the worker is
        to retire, hooks stay due. Nodes without a hook are closed in any case.
        """
        while due is not None:
            if not self._tree.is_hook_due(due):
                due = await self._close_more(due)
            elif worker.may_start or (due is own and self._may_finish):
                due = await self.run_hook(due, worker)
            elif self._stopping.stage is Stage.RUNNING:
                self._dispatcher.put_due(due)
                self._dispatcher.wake_one()
                return
            else:
                self._dispatcher.left.append((due, "after_children"))
                return

    @property
    def _may_finish(self) -> bool:
        """Whether the run stops, and the hook of the item that has just ended still runs."""
        return self._stopping.stage is not Stage.RUNNING and not self._stopping.is_paused

    async def _close_more(self, node: Node) -> Node | None:
        """Give the event loop a turn, and then go on closing a long chain of nodes."""
        with self._dispatcher.in_hand(node) as take:
            await checkpoint()
            await self._stream.wait_for_room()
            return self._tree.ascend(take(), self._stream.now())

    async def run_hook(self, node: Node, worker: Worker) -> Node | None:
        """Run the hook of `node`, and return the node whose hook is due next, if any."""
        stream, turns, payloads, watch = self._stream, self._parts.turns, self._parts.payloads, worker.watch
        cls = node.cls
        attempt = worker.attempt = Attempt(self._parts.for_items, node, worker.number, "after_children")
        running_attempt.set(attempt)
        turns.latest = attempt
        worker.last = worker.hook = node
        is_spoiled = is_retried = False
        started = monotonic()
        at = started + stream.clock.offset
        stream.append(
            ItemStarted(stream.next_seq(), at, node.id, cls.type, worker.number, "after_children", node.hook_attempt)
        )
        result = NO_DATA
        if payloads is not None:
            payloads.check_unchanged(node)
        try:
            if self._suspects.is_cautious:
                await self._suspects.save_start()
            value = await self._call(node, worker)
            attempt.node = attempt.engine = NO_ENGINE
            if watch.innermost is not watch.outermost:
                await worker.look_at_rest(node)
            if value is not None:
                result = encode_result(value, cls.type, stream.add_large)
            worker.hook = None
        except BaseException as error:
            attempt.node = attempt.engine = NO_ENGINE
            is_spoiled = await watch.close()
            worker.hook = None
            if worker.abandoned is not None:
                self._outcomes.drop(error, worker, is_spoiled=is_spoiled)
                return None
            error = self._outcomes.by_person(error, worker)
            if self._outcomes.interrupt(error, node, attempt):
                return None
            is_spoiled = is_spoiled or not isinstance(error, Exception)
            is_retried = self._outcomes.retry(error, node, attempt)
            if not is_retried:
                cls.completed -= 1
                self._outcomes.fail(error, node, started, attempt)
        due = None
        if not is_retried:
            self._dispatcher.retries.forget(node)
            due = self._tree.end_hook(node, worker.number, result)
        is_over = monotonic() > turns.slice_end  # a long chain of hooks must not keep the loop either
        if not (is_over or is_spoiled or stream.is_crowded):
            return due
        with self._dispatcher.in_hand(due) as take:
            if is_spoiled:
                raise TaskSpoiled
            if is_over:
                await turns.give_way(attempt)
            if stream.is_crowded:
                await stream.wait_for_room()
            return take()

    async def _call(self, node: Node, worker: Worker) -> Any:
        """Call the hook of `node`, and return its result."""
        # None if the class lost its hook between the crash and the resume.
        hook = getattr(node.item, "after_children_processed", None)
        if hook is None:
            return None
        timeout_s = node.cls.policies.timeout_s
        if timeout_s is None:
            return await hook()
        return await worker.timeout.within(timeout_s, node.id, node.cls.type, hook())
