"""The engine: creates the parts of a run, and runs them."""

from collections.abc import Iterable
from itertools import chain
from threading import get_ident
from time import monotonic
from typing import Any

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from aqueue._engine.attempt import NO_SHARED
from aqueue._engine.class_registry import ClassRegistry
from aqueue._engine.dispatcher import Dispatcher
from aqueue._engine.failures import Failures
from aqueue._engine.hooks import Hooks
from aqueue._engine.intake import Intake
from aqueue._engine.item_class import NO_POLICIES, Policies
from aqueue._engine.outcomes import Outcomes
from aqueue._engine.payloads import Payloads
from aqueue._engine.places import Execution
from aqueue._engine.queues import PlainQueue
from aqueue._engine.remote_workers import RemoteWorkers
from aqueue._engine.restored_run import RestoredRun
from aqueue._engine.stopping import OnError, Stage, StopLimits, Stopping
from aqueue._engine.suspects import Suspects
from aqueue._engine.timeouts import Timeouts
from aqueue._engine.tree import Node, Tree
from aqueue._engine.turns import Turns
from aqueue._engine.unused_limits import UnusedLimits
from aqueue._engine.worker import Worker
from aqueue._engine.workers import Workers
from aqueue._stream.event_stream import EventStream
from aqueue._system.loop import CallSoon, clock_of_this_loop
from aqueue._system.timers import Timers
from aqueue._system.watchdog import Watchdog
from aqueue.errors import PoisonItem
from aqueue.events import NO_DATA, Counts, ItemStarted, Phase, RunStatus
from aqueue.limits import Limits

__all__ = ["Engine"]


class Engine:
    """Runs items until none is left, or until it is stopped.

    Attributes:
        stream: where every event goes.
        append, next_seq, clock: the stream's own, one step nearer: attempts use them for every event.
        thread: the identifier of the loop's thread.
        call_soon: has a function called in the loop.
        shared: what `lifespan` yielded.
        stopping: whether and why the run stops.
        dispatcher: what runs next.
        retries: the items that are tried again, and their wait.
        classes: what is known about each item class.
        tree: who waits for whom.
        intake: what is enqueued.
        add, add_repeatable: the intake's own, one step nearer.
        failures: what failed for good.
        suspects: what runs alone first.
    """

    def __init__(
        self,
        stream: EventStream,
        queue: PlainQueue,
        call_soon: CallSoon,
        num_workers: int,
        on_error: OnError,
        failures: Failures,
        payloads: Payloads | None = None,
        policies: Policies = NO_POLICIES,
        limits: Limits | None = None,
        stop_limits: StopLimits | None = None,
        execution: Execution | None = None,
    ) -> None:
        """Create the parts; nothing runs before `run`.

        Parameters:
            stream: where every event goes.
            queue: the order of the items.
            call_soon: has a function called in the loop.
            num_workers: how many workers there are, if items run here.
            on_error: what the first item that fails for good does.
            failures: keeps what failed for good.
            payloads: what is recorded of items; None without a journal.
            policies: what holds for the attempts at all classes that don't say otherwise.
            limits: what each group may do.
            stop_limits: what stops the run besides.
            execution: where `process` runs; None for here.
        """
        self.stream = stream
        self.append = stream.append
        self.next_seq = stream.next_seq
        self.clock = stream.clock
        self.thread = get_ident()
        self.call_soon = call_soon
        self.shared: Any = NO_SHARED
        self.failures = failures
        self._payloads = payloads
        self._execution = execution
        self._num_workers = num_workers
        self._working = 0  # workers of this process whose tasks have not ended
        loop_time = clock_of_this_loop()
        self._timers = Timers(loop_time)
        self._timeouts = timeouts = Timeouts(loop_time)
        self.stopping = stopping = Stopping(stream, self._timers, on_error, stop_limits, self._on_stop)
        self.dispatcher = dispatcher = Dispatcher(stream, stopping, queue, limits, self._timers, loop_time)
        self.retries = dispatcher.retries
        self.classes = ClassRegistry(policies, dispatcher.use_groups, is_elsewhere=execution is not None)
        self.tree = tree = Tree(stream, keeps_items=payloads is not None or execution is not None)
        self.intake = intake = Intake(stream, tree, stopping, dispatcher, self.classes, payloads)
        self.add = intake.add
        self.add_repeatable = intake.add_repeatable
        self.suspects = suspects = Suspects(stream)
        self._unused_limits = UnusedLimits(limits)
        self._outcomes = outcomes = Outcomes(stream, stopping, dispatcher, failures)
        turns = Turns()
        hooks = Hooks(self, stream, tree, stopping, dispatcher, outcomes, suspects, turns, timeouts, payloads)
        self._workers = Workers(
            self, stream, tree, stopping, dispatcher, intake, outcomes, suspects, turns, timeouts, hooks, payloads
        )
        self._remote: RemoteWorkers | None = None
        if execution is not None:
            self._remote = RemoteWorkers(stream, stopping, dispatcher, self._workers, hooks, execution)

    def restore(self, run: RestoredRun) -> None:
        """Go on with a recorded run, and announce what a resume changes of it; only before anything is added."""
        for cls in run.classes:
            self.classes.known(cls)
        self.tree.restore(run.open_roots, run.root_results, run.earlier_results)
        self.intake.restore(run)
        for change in run.changes:
            self.stream.emit(change)
        for failure in run.failures:
            self.failures.restore(failure)
        self.suspects.restore(run.suspects, is_cautious=run.is_cautious)
        self.dispatcher.restore(run)
        for node in run.ended:
            self.intake.end_again(node)

    # ---- what attempts ask --------------------------------------------------------------------------------------

    def identity(self, node: Node) -> bytes:
        """Return what makes the item of `node` the same in every rerun; empty without a journal. From any thread."""
        return b"" if self._payloads is None else self._payloads.identity(node)

    def stop(self, reason: str) -> None:
        """Take no more items, as an item has asked."""
        self.stopping.stop(reason)

    def slow_down(self, group: str, seconds: float, node: Node | None) -> None:
        """Start nothing of `group` for so long, as the item of `node` asks."""
        self.dispatcher.slow_down(group, seconds, node)

    def slow_down_later(self, group: str, seconds: float, node: Node | None) -> None:
        """Do the same for a caller in another thread."""
        self.dispatcher.slow_down_later(group, seconds, node)

    # ---- running ------------------------------------------------------------------------------------------------

    async def add_initial(self, items: Iterable[Any]) -> None:
        """Add the initial items, all of them; a stop ends that early."""
        await self.intake.add_initial(items, self, self._execution)

    async def run(self) -> None:
        """Run all items; returns when nothing is left, or when the run has been stopped and the running ones ended."""
        stopping = self.stopping
        outer = stopping.scope
        watchdog = Watchdog(
            self.call_soon,
            frozenset((Workers.run_queued.__code__, Hooks.run_hook.__code__)),
            EventStream.make_room.__code__,
            self._look_round,
        )
        watchdog.start()
        self._unused_limits.begin(self.classes.ended)
        try:
            async with anyio.create_task_group() as tasks:
                stopping.scope = tasks.cancel_scope
                if stopping.stage is Stage.CANCELLING:
                    return
                self._timers.open(tasks)
                stopping.start_timer()
                await self._run_suspects()
                if self._remote is None:
                    self.dispatcher.num_workers = self._num_workers
                    self._working = self._num_workers
                    for number in range(1, self._num_workers + 1):
                        self._workers.start(Worker(number), tasks, self._workers.work, self._on_worker_end)
                else:
                    await self._remote.run(tasks)
                    self._timers.close()
            self._warn_of_unused_limits(is_over=stopping.stage is Stage.RUNNING)
            if stopping.stage is Stage.CANCELLING:
                # Workers end quietly when they are cancelled, and then trio's nursery doesn't say that it was, too.
                await checkpoint_if_cancelled()
        finally:
            watchdog.stop()
            stopping.scope = outer
            self._timers.close()  # a worker that was cancelled before it began has not done that

    def _on_worker_end(self, worker: Worker) -> None:
        self._working -= 1
        if not self._working:
            self._timers.close()

    def _on_stop(self) -> None:
        self.dispatcher.wake_all()
        if self._remote is not None:
            self._remote.look_if_over()

    def _look_round(self) -> None:
        """Look, now and then, for what the user should know."""
        self._timeouts.check()
        self._warn_of_unused_limits(is_over=False)

    def _warn_of_unused_limits(self, *, is_over: bool) -> None:
        self._unused_limits.look(
            self.dispatcher.groups, self.classes.ended, is_over=is_over and not self.failures.count
        )

    def unlink_all(self) -> None:
        """Cut the links between the nodes that are left, once nothing will run any more."""
        self.tree.unlink(chain((node for node, _ in self.suspects.waiting), self.dispatcher))

    # ---- suspects -----------------------------------------------------------------------------------------------

    async def _run_suspects(self) -> None:
        """Run the items that may have crashed the process, one by one, while nothing else runs.

        Each start is committed, so that the next crash tells which it was. After several crashes in a row that goes on to
        the process's end: an item that ends the process at once may be another, whose start no crash has left on record.
        """
        suspects, dispatcher = self.suspects, self.dispatcher
        goes_on = suspects.is_cautious
        suspects.is_cautious = True
        worker = Worker(1)
        while suspects.waiting and self.stopping.stage is Stage.RUNNING:
            node, poison = suspects.waiting[0]
            if not poison and not node.is_ended and self._execution is None:
                if dispatcher.has_taken_all:
                    dispatcher.stop_at_max_items()
                    break
                dispatcher.num_taken += 1
            del suspects.waiting[0]
            if poison:
                self._fail_poison(node, worker, poison)
            elif self._execution is not None and not node.is_ended:
                # What it may end is not this process. Wherever it runs, nothing else does.
                self._execution.suspect(node)
                dispatcher.put_again(node)
            else:
                # A task of its own ends with the item, and with it what the item's code has left in the task.
                async with anyio.create_task_group() as task:
                    task.start_soon(self._workers.run_alone, node, worker)
        suspects.is_cautious = goes_on

    def _fail_poison(self, node: Node, worker: Worker, why: str) -> None:
        stream = self.stream
        phase: Phase = "after_children" if node.is_ended else "process"
        started = monotonic()
        at = started + stream.clock.offset
        stream.append(
            ItemStarted(stream.next_seq(), at, node.id, node.cls.type, worker.number, phase, node.tries(phase))
        )
        error = PoisonItem(f"item {node.id} ({node.cls.type}) {why}")
        if phase == "after_children":
            node.cls.completed -= 1
        self._outcomes.fail_for(error, node, worker.number, started, phase)
        if phase == "process":
            self.intake.end_recorded(node, name_others=False)
            self.dispatcher.put_due(self.tree.end_process(node, stream.now()))
        else:
            self.dispatcher.put_due(self.tree.end_hook(node, worker.number, NO_DATA))

    # ---- what it came to ----------------------------------------------------------------------------------------

    @property
    def counts(self) -> Counts:
        """What the items came to, all types together."""
        by_type = self.classes.counts.values()
        totals = {field: sum(getattr(one, field) for one in by_type) for field in Counts.__struct_fields__}
        totals["deduplicated"] += self.intake.deduplicated_roots
        return Counts(**totals)

    @property
    def status(self) -> RunStatus:
        """How the run ended."""
        by_failure = self.failures.count and self.stopping.stops_at_failure
        if (self.tree.open_roots or not self.intake.has_all_initial) and not by_failure:
            return "interrupted"
        has_failed = self.failures.count or self.failures.recorded or self.stopping.error is not None
        return "failed" if has_failed else "completed"
