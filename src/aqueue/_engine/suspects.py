"""Items that may have crashed earlier processes of the run."""

from collections.abc import Iterator
from contextlib import contextmanager

from aqueue._engine.tree import Node
from aqueue._stream.event_stream import EventStream

__all__ = ["Suspects"]


class Suspects:
    """The items that run alone before all others.

    Attributes:
        waiting: the nodes to run alone, in order; each with an empty string, or with the reason why it fails as a poison item
            instead of running, for a message.
        is_cautious: whether each start is committed to the journal before the code of the item is called. A journal commits
            every 50 ms; without this, an item that crashes the process at once would leave no trace of its start.
    """

    def __init__(self, stream: EventStream) -> None:
        self.waiting: list[tuple[Node, str]] = []
        self.is_cautious = False
        self._stream = stream

    def take(self) -> tuple[Node, str]:
        """Remove and return the first of `waiting`."""
        return self.waiting.pop(0)

    def remove(self, node: Node) -> None:
        """Let `node`, if it is waiting, not run."""
        self.waiting = [one for one in self.waiting if one[0] is not node]

    @contextmanager
    def caution(self) -> Iterator[None]:
        """Be cautious within the ``with`` block."""
        before, self.is_cautious = self.is_cautious, True
        try:
            yield
        finally:
            self.is_cautious = before

    def restore(self, waiting: list[tuple[Node, str]], *, is_cautious: bool) -> None:
        """Set the attributes of the same names."""
        self.waiting = waiting
        self.is_cautious = is_cautious

    async def save_start(self) -> None:
        """Wait until the start of an attempt is committed; first wait for slow reporters, as between items."""
        await self._stream.wait_for_room()
        await self._stream.saved()
