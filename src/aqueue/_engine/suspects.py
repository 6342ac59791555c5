"""Items that may have crashed earlier processes of the run."""

from collections.abc import Iterator
from contextlib import contextmanager

from aqueue._engine.tree import Node
from aqueue._stream.event_stream import EventStream

__all__ = ["Suspects"]


class Suspects:
    """What runs alone before all others, and whether starts are committed before the item's code is called.

    Attributes:
        waiting: the nodes that are to run alone, in their order; each with why it is given up instead, for a message,
            or an empty string.
        is_cautious: whether each start is committed to the journal before the item's code is called.
    """

    def __init__(self, stream: EventStream) -> None:
        self.waiting: list[tuple[Node, str]] = []
        self.is_cautious = False
        self._stream = stream

    def take(self) -> tuple[Node, str]:
        """Take out the first of `waiting`."""
        return self.waiting.pop(0)

    @contextmanager
    def caution(self) -> Iterator[None]:
        """Commit each start within the ``with`` block; after it, go on as before."""
        before, self.is_cautious = self.is_cautious, True
        try:
            yield
        finally:
            self.is_cautious = before

    def restore(self, waiting: list[tuple[Node, str]], *, is_cautious: bool) -> None:
        """Have these nodes run alone, or given up: the attributes of the same names."""
        self.waiting = waiting
        self.is_cautious = is_cautious

    async def save_start(self) -> None:
        """Wait until the start of an attempt is committed, and before that, as between items, for slow reporters."""
        await self._stream.wait_for_room()
        await self._stream.saved()
