"""The engine: runs the parts of a run until no item is left."""

from collections.abc import Iterable
from itertools import chain
from time import monotonic
from typing import Any

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from aqueue._engine.hooks import Hooks
from aqueue._engine.parts import Parts
from aqueue._engine.places import Execution
from aqueue._engine.remote_workers import RemoteWorkers
from aqueue._engine.restored_run import RestoredRun
from aqueue._engine.stopping import Stage
from aqueue._engine.tree import Node
from aqueue._engine.worker import Worker
from aqueue._engine.workers import Workers
from aqueue._stream.event_stream import EventStream
from aqueue._system.watchdog import Watchdog
from aqueue.errors import PoisonItem
from aqueue.events import NO_DATA, Counts, ItemStarted, Phase, RunStatus

__all__ = ["Engine"]


class Engine:
    """Runs items until none is left, or until it is stopped.

    Attributes:
        parts: what it consists of; most of a run's state is there.
    """

    def __init__(self, parts: Parts, num_workers: int, execution: Execution | None = None) -> None:
        """Prepare to run; nothing runs before `run`.

        Parameters:
            parts: what it consists of, all new.
            num_workers: how many workers there are, if items run here.
            execution: where `process` runs; None for here.
        """
        self.parts = parts
        self._num_workers = num_workers
        self._execution = execution
        hooks = Hooks(parts)
        self._workers = Workers(parts, hooks)
        self._remote = None if execution is None else RemoteWorkers(parts, self._workers, hooks, execution)

    def restore(self, run: RestoredRun) -> None:
        """Go on with a recorded run, and announce what a resume changes of it; only before anything is added."""
        parts = self.parts
        for cls in run.classes:
            parts.classes.known(cls)
        parts.tree.restore(run.open_roots, run.root_results, run.earlier_results)
        parts.intake.restore(run)
        for change in run.changes:
            parts.stream.emit(change)
        for failure in run.failures:
            parts.failures.restore(failure)
        parts.suspects.restore(run.suspects, is_cautious=run.is_cautious)
        parts.dispatcher.restore(run)
        for node in run.ended:
            parts.intake.end_again(node)

    async def add_initial(self, items: Iterable[Any]) -> None:
        """Add the initial items, all of them; a stop ends that early."""
        await self.parts.intake.add_initial(items, self.parts.for_items, self._execution)

    async def run(self) -> None:
        """Run all items; returns when nothing is left, or when the run has been stopped and the running ones ended."""
        parts, stopping, timers = self.parts, self.parts.stopping, self.parts.timers
        watchdog = Watchdog(
            parts.for_items.call_soon,
            frozenset((Workers.run_queued.__code__, Hooks.run_hook.__code__)),
            EventStream.make_room.__code__,
            self._look_round,
        )
        watchdog.start()
        parts.limits.begin(parts.classes.ended)
        outer = None
        try:
            async with anyio.create_task_group() as tasks:
                outer = stopping.cancel_in_future(tasks.cancel_scope)
                if stopping.stage is Stage.CANCELLING:
                    return
                timers.open(tasks)
                stopping.start_timer()
                await self._run_suspects()
                if self._remote is None:
                    for number in range(1, self._num_workers + 1):
                        parts.dispatcher.add_worker()
                        self._workers.start(Worker(number), tasks, self._workers.work, self._on_worker_end)
                else:
                    await self._remote.run(tasks)
                    timers.close()
            self._warn_of_unused_limits(is_over=stopping.stage is Stage.RUNNING)
            if stopping.stage is Stage.CANCELLING:
                # Workers end quietly when they are cancelled, and then trio's nursery doesn't say that it was, too.
                await checkpoint_if_cancelled()
        finally:
            watchdog.stop()
            stopping.cancel_in_future(outer)
            timers.close()  # a worker that was cancelled before it began has not done that

    def _on_worker_end(self, _: Worker) -> None:
        self.parts.dispatcher.remove_worker()
        if not self.parts.dispatcher.num_workers:
            self.parts.timers.close()

    def _look_round(self) -> None:
        """Look, now and then, for what the user should know."""
        self.parts.timeouts.check()
        self._warn_of_unused_limits(is_over=False)

    def _warn_of_unused_limits(self, *, is_over: bool) -> None:
        parts = self.parts
        parts.limits.look(parts.classes.ended, is_over=is_over and not parts.failures.count)

    def unlink_all(self) -> None:
        """Cut the links between the nodes that are left, once nothing will run any more."""
        parts = self.parts
        parts.tree.unlink(chain((node for node, _ in parts.suspects.waiting), parts.dispatcher))

    # ---- suspects -----------------------------------------------------------------------------------------------

    async def _run_suspects(self) -> None:
        """Run the items that may have crashed the process, one by one, while nothing else runs.

        Each start is committed, so that the next crash tells which it was. After several crashes in a row that goes on to
        the process's end: an item that ends the process at once may be another, whose start no crash has left on record.
        """
        parts, suspects = self.parts, self.parts.suspects
        worker = Worker(1)
        with suspects.caution():
            while suspects.waiting and parts.stopping.stage is Stage.RUNNING:
                node, poison = suspects.waiting[0]
                is_elsewhere = self._execution is not None and not node.is_ended
                if not poison and not node.is_ended and not is_elsewhere and not parts.dispatcher.take_unqueued():
                    break
                suspects.take()
                if poison:
                    self._fail_poison(node, worker, poison)
                elif self._execution is not None and is_elsewhere:
                    # What it may end is not this process. Wherever it runs, nothing else does.
                    self._execution.suspect(node)
                    parts.dispatcher.put_again(node)
                else:
                    # A task of its own ends with the item, and with it what the item's code has left in the task.
                    async with anyio.create_task_group() as task:
                        task.start_soon(self._workers.run_alone, node, worker)

    def _fail_poison(self, node: Node, worker: Worker, why: str) -> None:
        parts, stream = self.parts, self.parts.stream
        phase: Phase = "after_children" if node.is_ended else "process"
        started = monotonic()
        at = started + stream.clock.offset
        stream.append(
            ItemStarted(stream.next_seq(), at, node.id, node.cls.type, worker.number, phase, node.tries(phase))
        )
        error = PoisonItem(f"item {node.id} ({node.cls.type}) {why}")
        if phase == "after_children":
            node.cls.completed -= 1
        parts.outcomes.fail_for(error, node, worker.number, started, phase)
        if phase == "process":
            parts.intake.end_recorded(node, name_others=False)
            parts.dispatcher.put_due(parts.tree.end_process(node, stream.now()))
        else:
            parts.dispatcher.put_due(parts.tree.end_hook(node, worker.number, NO_DATA))

    # ---- what it came to ----------------------------------------------------------------------------------------

    @property
    def counts(self) -> Counts:
        """What the items came to, all types together."""
        by_type = self.parts.classes.counts.values()
        totals = {field: sum(getattr(one, field) for one in by_type) for field in Counts.__struct_fields__}
        totals["deduplicated"] += self.parts.intake.deduplicated_roots
        return Counts(**totals)

    @property
    def status(self) -> RunStatus:
        """How the run ended."""
        parts, failures = self.parts, self.parts.failures
        by_failure = failures.count and parts.stopping.stops_at_failure
        if (parts.tree.open_roots or not parts.intake.has_all_initial) and not by_failure:
            return "interrupted"
        has_failed = failures.count or failures.recorded or parts.stopping.error is not None
        return "failed" if has_failed else "completed"
