"""The workers of a cluster: they come and go with the processes that run their items."""

from collections.abc import Callable

from anyio.abc import TaskGroup

from aqueue._engine.hooks import Hooks
from aqueue._engine.parts import Parts
from aqueue._engine.places import Execution, Place
from aqueue._engine.stopping import Stage
from aqueue._engine.tree import Node
from aqueue._engine.worker import Worker
from aqueue._engine.workers import Workers

__all__ = ["RemoteWorkers"]


class RemoteWorkers:
    """The workers of an `Execution`; the `Crew` that it adds places to.

    Attributes:
        stream: where events go.
        stop: takes no more items; see `aqueue._engine.stopping.Stopping.stop`.
    """

    def __init__(
        self,
        parts: Parts,
        workers: Workers,
        hooks: Hooks,
        execution: Execution,
    ) -> None:
        """Start without workers; `run` calls `execution.serve`."""
        self.stream = parts.stream
        self.stop = parts.stopping.stop
        self._stopping = parts.stopping
        self._dispatcher = parts.dispatcher
        self._workers = workers
        self._hooks = hooks
        self._execution = execution
        self._tasks: TaskGroup | None = None
        parts.stopping.on_change(self.look_if_over)

    async def run(self, tasks: TaskGroup) -> None:
        """Run items in all places until none is left or the run stops; each worker is a task in `tasks`."""
        self._tasks = tasks
        self._dispatcher.on_dropped = self._look_at_all
        self._look_at_all()
        if self._stopping.stage is Stage.RUNNING and not self._dispatcher.is_done:
            await self._execution.serve(self)

    def _look_at_all(self) -> None:
        self._dispatcher.wake_all()
        self._dispatcher.end_if_idle(about_to_wait=0)
        self.look_if_over()

    def look_if_over(self) -> None:
        """End the execution if no worker is left and no more are needed."""
        if not self._dispatcher.num_workers and (self._dispatcher.is_done or self._stopping.stage is not Stage.RUNNING):
            self._execution.end()

    # ---- for the execution --------------------------------------------------------------------------------------

    def add_workers(self, place: Place) -> None:
        """Let the workers of `place`, which is new, take items."""
        assert self._tasks is not None
        for number in place.workers:
            self._dispatcher.add_worker()
            self._workers.start(Worker(number, place), self._tasks, self._work, self._leave)

    def dismiss(self, place: Place) -> None:
        """Let the workers of `place`, which is open no more, end as soon as they are through with what they are at."""
        assert not place.is_open
        self._dispatcher.wake_all()

    def fail_to_execute(self, error: BaseException) -> None:
        """End the run at once: items can't be run any more."""
        self._stopping.fail(error, "the cluster can't be used", cancel=True)

    # ---- one worker ---------------------------------------------------------------------------------------------

    def _leave(self, worker: Worker) -> None:
        assert worker.place is not None
        worker.place.leave(worker.number)
        self._dispatcher.remove_worker()
        self.look_if_over()

    async def _work(self, worker: Worker) -> None:
        """Run items in the worker's place until none is left, the run stops, or the place is closed."""
        place = worker.place
        assert place is not None
        take = self._taker(place)
        while place.is_open and self._stopping.stage is Stage.RUNNING:
            await self._workers.run_queued(worker, take)
            if self._stopping.stage is not Stage.RUNNING:
                return
            if not place.is_open or place.is_reserved:
                await self._hooks.run_due(worker)
                self._dispatcher.wake_one()  # pass on the wake-up, since this worker takes nothing
                await place.until_free()
            elif not await self._workers.wait_for_item(worker):
                return

    def _taker(self, place: Place) -> Callable[[], Node]:
        def take() -> Node:
            if not place.is_open or place.is_reserved:
                raise IndexError
            return self._dispatcher.take()

        return take
