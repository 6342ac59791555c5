"""The workers that run items in this process: as many as the program or a person says."""

from contextvars import copy_context

from anyio.abc import TaskGroup

from aqueue._engine.parts import Parts
from aqueue._engine.worker import Worker
from aqueue._engine.workers import Workers

__all__ = ["LocalWorkers"]


class LocalWorkers:
    """A fixed number of workers, which a command may change.

    Attributes:
        number: how many there are to be.
    """

    def __init__(self, parts: Parts, workers: Workers, number: int) -> None:
        """Start without workers; `run` starts as many as `number`."""
        self.number = number
        self._dispatcher = parts.dispatcher
        self._timers = parts.timers
        self._workers = workers
        self._tasks: TaskGroup | None = None
        self._context = copy_context()

    def run(self, tasks: TaskGroup) -> None:
        """Let the workers run items until none is left or the run stops; each is a task in `tasks`."""
        self._tasks, self._context = tasks, copy_context()
        self._start_missing()

    def change(self, number: int) -> None:
        """Start more workers at once, or let those with the highest numbers retire after their item."""
        self.number = number
        self._workers.keep(number)
        if self._tasks is not None and not self._dispatcher.is_done:
            self._start_missing()

    def _start_missing(self) -> None:
        assert self._tasks is not None
        present = {worker.number for worker in self._workers.present}
        for number in range(1, self.number + 1):
            if number not in present:
                self._dispatcher.add_worker()
                # A command comes in the context of an item, or of the loop itself: a worker must not inherit that.
                self._context.run(self._workers.start, Worker(number), self._tasks, self._workers.work, self._on_end)

    def _on_end(self, _: Worker) -> None:
        self._dispatcher.remove_worker()
        if not self._dispatcher.num_workers:
            self._tasks = None
            self._timers.close()
