"""The engine: runs the parts of a run until no item is left."""

from collections.abc import Iterable
from itertools import chain
from time import monotonic
from typing import Any

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from aqueue._engine.hooks import Hooks
from aqueue._engine.item_commands import ItemCommands
from aqueue._engine.local_workers import LocalWorkers
from aqueue._engine.parts import Parts
from aqueue._engine.places import Execution
from aqueue._engine.remote_workers import RemoteWorkers
from aqueue._engine.restored_run import RestoredRun
from aqueue._engine.steering import Steering
from aqueue._engine.stopping import Stage
from aqueue._engine.tree import Node
from aqueue._engine.worker import Worker
from aqueue._engine.workers import Workers
from aqueue._stream.event_stream import EventStream
from aqueue._system.watchdog import Watchdog
from aqueue.errors import PoisonItem
from aqueue.events import NO_DATA, Counts, ItemStarted, LoopBlocked, Phase, RunStatus

__all__ = ["Engine"]


class Engine:
    """Runs items until none is left, or until it is stopped.

    Attributes:
        parts: the parts of the engine, which have the state of the run.
        steering: carries out the commands of people.
    """

    def __init__(self, parts: Parts, num_workers: int, execution: Execution | None = None) -> None:
        """Create the workers; nothing runs before `run`.

        Parameters:
            parts: new parts.
            num_workers: how many workers there are in this process, without an `execution`.
            execution: runs items in other processes; None to run them here.
        """
        self.parts = parts
        self._execution = execution
        hooks = Hooks(parts)
        self._workers = Workers(parts, hooks)
        self._local = LocalWorkers(parts, self._workers, num_workers) if execution is None else None
        self._remote = None if execution is None else RemoteWorkers(parts, self._workers, hooks, execution)
        self._item_commands = ItemCommands(parts, self._workers)
        self.steering = Steering(parts, self._workers, self._local, self._item_commands)
        parts.for_items.steer = self.steering.apply

    def restore(self, run: RestoredRun) -> None:
        """Continue a recorded run, and emit the events of the resume; only before anything is added."""
        parts = self.parts
        for cls in run.classes:
            parts.classes.known(cls)
        parts.tree.restore(run.open_roots, run.root_results, run.earlier_results, run.failed)
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
        """Add all initial items; stop early if the run stops."""
        await self.parts.intake.add_initial(items, self.parts.for_items, self._execution)

    async def run(self) -> None:
        """Run items until none is left, or until the run is stopped and the running items have ended."""
        parts, stopping, timers = self.parts, self.parts.stopping, self.parts.timers
        watchdog = Watchdog(
            parts.for_items.call_soon,
            frozenset((Workers.run_queued.__code__, Hooks.run_hook.__code__)),
            EventStream.make_room.__code__,
            self._look_round,
            on_blocked=self._record_blocked,
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
                if self._local is not None:
                    self._local.run(tasks)
                elif self._remote is not None:
                    await self._remote.run(tasks)
                    timers.close()
            self._warn_of_unused_limits(is_over=stopping.stage is Stage.RUNNING)
            if stopping.stage is Stage.CANCELLING:
                # Cancelled workers return without an exception. Then trio's nursery doesn't raise `Cancelled` either.
                await checkpoint_if_cancelled()
        finally:
            watchdog.stop()
            stopping.cancel_in_future(outer)
            timers.close()  # workers that were cancelled before they began haven't ended them

    def _look_round(self) -> None:
        """Check from time to time for what the user should be warned of."""
        self.parts.timeouts.check()
        self._warn_of_unused_limits(is_over=False)

    def _record_blocked(self, method: str, where: str, duration_s: float) -> None:
        if not self.parts.stream.is_finished:
            self.parts.stream.emit(LoopBlocked, method, where, duration_s)

    def _warn_of_unused_limits(self, *, is_over: bool) -> None:
        parts = self.parts
        parts.limits.look(parts.classes.ended, is_over=is_over and not parts.failures.count)

    def unlink_all(self) -> None:
        """Unlink the nodes that are left, once nothing runs any more."""
        parts = self.parts
        self._item_commands.end()
        if parts.spilling is not None:
            parts.spilling.end()
        parts.tree.unlink(chain((node for node, _ in parts.suspects.waiting), parts.dispatcher))

    # ---- suspects -----------------------------------------------------------------------------------------------

    async def _run_suspects(self) -> None:
        """Run the items that may have crashed the process, one by one, before anything else runs.

        Each start is committed first, so that the next crash shows which item it was. After several crashes in a row, starts
        are committed for the rest of the process too: the culprit may be an item whose start was never committed.
        """
        parts, suspects = self.parts, self.parts.suspects
        worker = Worker(1)
        with suspects.caution():
            while suspects.waiting and parts.stopping.stage is Stage.RUNNING:
                node, poison = suspects.waiting[0]
                if not parts.stopping.may_start or (not node.is_ended and node.group in parts.limits.paused):
                    await parts.dispatcher.wait_until_woken()
                    continue
                is_elsewhere = self._execution is not None and not node.is_ended
                if not poison and not node.is_ended and not is_elsewhere and not parts.dispatcher.take_unqueued():
                    break
                suspects.take()
                if poison:
                    self._fail_poison(node, worker, poison)
                elif self._execution is not None and is_elsewhere:
                    # It can't crash this process. The place that runs it runs nothing else meanwhile.
                    self._execution.suspect(node)
                    parts.dispatcher.put_again(node)
                else:
                    # In a task of its own, so that whatever the item leaves behind ends with the task.
                    async with anyio.create_task_group() as task:
                        task.start_soon(self._workers.run_alone, node, worker)

    def _fail_poison(self, node: Node, worker: Worker, why: str) -> None:
        parts, stream = self.parts, self.parts.stream
        phase: Phase = "after_children" if node.is_ended else "process"
        started = monotonic()
        at = started + stream.clock.offset
        stream.append(
            ItemStarted(
                stream.next_seq(),
                at,
                node.id,
                node.cls.type,
                worker.number,
                phase,
                node.attempt_number(phase),
                node.group if phase == "process" else None,
            )
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
        """The counts of all items."""
        by_type = self.parts.classes.counts.values()
        totals = {field: sum(getattr(one, field) for one in by_type) for field in Counts.__struct_fields__}
        totals["deduplicated"] += self.parts.intake.deduplicated_roots
        return Counts(**totals)

    @property
    def status(self) -> RunStatus:
        """How the run ended."""
        parts, failures = self.parts, self.parts.failures
        by_failure = failures.num_counted and parts.stopping.stops_at_failure
        if (parts.tree.open_roots or not parts.intake.has_all_initial) and not by_failure:
            return "interrupted"
        has_failed = failures.count or failures.recorded or parts.stopping.error is not None
        return "failed" if has_failed else "completed"
