"""One worker: the state that outlives its items."""

from aqueue._engine.places import Place
from aqueue._engine.timeouts import TaskTimeout
from aqueue._engine.tree import Node
from aqueue._system.loop import TaskWatch

__all__ = ["Worker"]


class Worker:
    """A worker. It can move to a new task when an item has spoiled the old one.

    Attributes:
        number: its number, from 1.
        place: the process that runs its items; None for this one.
        watch: detects what items leave open in its task; set when the task begins.
        timeout: cancels an attempt in its task that takes too long; set when the task begins.
        last: the latest node, as far as it was noted, for a warning.
        node: the node whose `process` it runs or is about to run, if its class has groups or policies; else None.
        may_start: whether it may start another item or hook: the run neither stops nor is paused, and the worker isn't to retire.
    """

    __slots__ = ("last", "may_start", "node", "number", "place", "timeout", "watch")

    timeout: TaskTimeout
    watch: TaskWatch

    def __init__(self, number: int, place: Place | None = None) -> None:
        self.number = number
        self.place = place
        self.last: Node | None = None
        self.node: Node | None = None
        self.may_start = False
