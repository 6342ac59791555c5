"""The seam: where `process` runs, when that is not here; what the engine and such a place ask of each other."""

from collections.abc import Sequence
from typing import Any, Protocol

from aqueue._engine.attempt import Attempt
from aqueue._engine.tree import Node
from aqueue._stream.event_stream import EventStream

__all__ = ["AttemptLost", "Crew", "Execution", "Place"]


class AttemptLost(Exception):
    """What ran an attempt is gone, and what became of the attempt will not be known: the item is to run again."""


class Place(Protocol):
    """A process elsewhere that runs `process` for some of the engine's workers."""

    @property
    def workers(self) -> Sequence[int]:
        """The numbers of its workers."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether its workers may take items; once that is False, it stays so."""
        ...

    @property
    def is_reserved(self) -> bool:
        """Whether one of its workers needs it for itself, so that the others may not take items."""
        ...

    async def until_free(self) -> None:
        """Wait until it is not reserved any more."""
        ...

    async def run(self, node: Node, attempt: Attempt) -> None:
        """Run the `process` of the item of `node`: what it enqueues and describes, `attempt` is told.

        The item's object then has the state that `process` left it with, and the node its result.

        Raises:
            AttemptLost: the place is gone, and the item may run again elsewhere.
            PoisonItem: the place is gone, and the item is the reason.
            BaseException: what `process` raised.
        """
        ...

    def leave(self, worker: int) -> None:
        """Note that one of its workers has ended."""
        ...


class Crew(Protocol):
    """What an execution asks of the engine."""

    stream: EventStream

    def add_workers(self, place: Place) -> None:
        """Let the workers of `place`, which is new, take items."""
        ...

    def dismiss(self, place: Place) -> None:
        """Let the workers of `place`, which is open no more, end as soon as they are through with what they are at."""
        ...

    def fail_to_execute(self, error: BaseException) -> None:
        """End the run at once: items can't be run any more."""
        ...

    def stop(self, reason: str, *, cancel: bool = False) -> None:
        """Take no more items; see `aqueue._engine.stopping.Stopping.stop`."""
        ...


class Execution(Protocol):
    """Where `process` runs: what supplies the engine with places."""

    def check(self, item: Any) -> None:
        """Raise if an initial item can't be run elsewhere.

        Raises:
            UnsendableItem: it can't.
        """
        ...

    def suspect(self, node: Node) -> None:
        """Have the item of `node` run alone in its place, since it may be what has ended earlier processes."""
        ...

    async def serve(self, crew: Crew) -> None:
        """Supply `crew` with places until `end` is called, and then close them."""
        ...

    def end(self) -> None:
        """Have `serve` return: no worker will take an item any more."""
        ...
