"""One worker: what is remembered of it from item to item."""

from aqueue._engine.places import Place
from aqueue._engine.tree import Node
from aqueue._system.loop import TaskWatch

__all__ = ["Worker"]


class Worker:
    """A worker, whatever task it is in.

    Attributes:
        number: its number, from 1.
        place: where it runs `process`; None for here.
        watch: sees what items leave open in its task; made when that begins.
        last: the node that it has had last, as far as that was noted.
    """

    __slots__ = ("last", "number", "place", "watch")

    watch: TaskWatch

    def __init__(self, number: int, place: Place | None = None) -> None:
        self.number = number
        self.place = place
        self.last: Node | None = None
