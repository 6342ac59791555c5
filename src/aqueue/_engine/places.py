"""The interface between the engine and processes elsewhere that run `process` for it."""

from collections.abc import Sequence
from typing import Any, Protocol

from aqueue._engine.attempt import Attempt
from aqueue._engine.tree import Node
from aqueue._stream.event_stream import EventStream

__all__ = ["AttemptLost", "Crew", "Execution", "Place"]


class AttemptLost(Exception):
    """The process that ran an attempt is lost, and so is the outcome: the item must run again."""


class Place(Protocol):
    """A process elsewhere that runs items for some of the engine's workers."""

    @property
    def workers(self) -> Sequence[int]:
        """The numbers of its workers."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether its workers may take items; never True again once it is False."""
        ...

    @property
    def is_reserved(self) -> bool:
        """Whether one of its workers runs an item alone, so that the others must not take items."""
        ...

    async def until_free(self) -> None:
        """Wait until it isn't reserved."""
        ...

    async def run(self, node: Node, attempt: Attempt) -> None:
        """Run the `process` of the item of `node`, and call `attempt` for the items that it enqueues and its descriptions.

        Afterwards the item's object has the state in which `process` left it, and the node has the result.

        Raises:
            AttemptLost: the process is gone, and the item may run again elsewhere.
            PoisonItem: the process is gone, and the item is the cause.
            BaseException: `process` raised it.
        """
        ...

    def leave(self, worker: int) -> None:
        """Record that one of its workers has ended."""
        ...


class Crew(Protocol):
    """The engine as an `Execution` sees it."""

    stream: EventStream

    def add_workers(self, place: Place) -> None:
        """Let the workers of a new `place` take items."""
        ...

    def dismiss(self, place: Place) -> None:
        """Let the workers of a closed `place` end when their current items have ended."""
        ...

    def fail_to_execute(self, error: BaseException) -> None:
        """Cancel the run because of `error`: no more items can be run."""
        ...

    def stop(self, reason: str, *, cancel: bool = False) -> None:
        """Take no more items; see `aqueue._engine.stopping.Stopping.stop`."""
        ...


class Execution(Protocol):
    """Supplies the engine with places."""

    def check(self, item: Any) -> None:
        """Check that an initial item can be run elsewhere.

        Raises:
            UnsendableItem: it can't.
        """
        ...

    def suspect(self, node: Node) -> None:
        """Let the item of `node` run alone in its place: it may have crashed earlier processes."""
        ...

    async def serve(self, crew: Crew) -> None:
        """Add places to `crew` until `end` is called, and then close them."""
        ...

    def end(self) -> None:
        """Let `serve` return: no worker will take another item."""
        ...
