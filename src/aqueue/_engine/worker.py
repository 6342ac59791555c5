"""One worker: the state that outlives its items."""

from aqueue._engine.attempt import NO_ENGINE, Attempt
from aqueue._engine.exceptions import left_behind
from aqueue._engine.places import Place
from aqueue._engine.timeouts import TaskTimeout
from aqueue._engine.tree import Node
from aqueue._system.loop import TaskWatch
from aqueue.events import Phase

__all__ = ["AttemptAbandoned", "TaskSpoiled", "Worker"]


class AttemptAbandoned(Exception):
    """An attempt has returned, but a person has skipped its item meanwhile."""


class TaskSpoiled(Exception):
    """An item left something open in its worker's task: the worker needs a new task."""


class Worker:
    """A worker. It can move to a new task when an item has spoiled the old one.

    Attributes:
        number: its number, from 1.
        place: the process that runs its items; None for this one.
        watch: detects what items leave open in its task; set when the task begins.
        timeout: cancels an attempt in its task that takes too long; set when the task begins.
        last: the latest node, as far as it was noted, for a warning.
        attempt: the latest attempt; it runs unless it has no node.
        hook: the node whose hook it runs, until the end of that is recorded, which can take time; else None.
        abandoned: the node whose attempt it still runs although a person has skipped the item; else None.
        cancelled_by: who has cancelled the item that it runs, as ``user@host via command``; empty if nobody has.
        may_start: whether it may start another item or hook: the run neither stops nor is paused, and the worker isn't to retire.
    """

    __slots__ = (
        *("abandoned", "attempt", "cancelled_by", "hook", "last", "may_start", "number", "place", "timeout", "watch"),
    )

    timeout: TaskTimeout
    watch: TaskWatch

    def __init__(self, number: int, place: Place | None = None) -> None:
        self.number = number
        self.place = place
        self.last: Node | None = None
        self.attempt: Attempt | None = None
        self.hook: Node | None = None
        self.abandoned: Node | None = None
        self.cancelled_by = ""
        self.may_start = False

    @property
    def phase(self) -> Phase:
        """The phase of the latest attempt."""
        assert self.attempt is not None
        return self.attempt.phase

    def cancel(self, by: str) -> None:
        """Cancel the attempt that it runs, as the person `by` asks; an attempt that returns all the same counts."""
        self.cancelled_by = by
        self.watch.cancel()

    def abandon(self, node: Node) -> None:
        """Cancel the attempt at `node` that it runs, and let nothing come of it."""
        assert self.attempt is not None
        self.attempt.node = self.attempt.engine = NO_ENGINE
        self.abandoned = node
        self.watch.cancel()

    async def look_at_rest(self, node: Node) -> None:
        """Look at what an attempt at `node` that has returned leaves in the task.

        Raises:
            LeakedCancelScope, StrayCancellation: it has left a scope open, or a cancellation.
            AttemptAbandoned: nothing is to come of it.
        """
        watch = self.watch
        if not watch.is_cancelled or watch.has_rest:
            raise left_behind(watch.innermost, node.id, node.cls.type)
        await watch.close()
        self.cancelled_by = ""
        if self.abandoned is not None:
            raise AttemptAbandoned
