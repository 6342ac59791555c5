"""Makes the nodes of spilled items again, from what the journal has of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from time import monotonic

from aqueue._engine.class_registry import ClassRegistry
from aqueue._engine.dispatcher import Dispatcher
from aqueue._engine.lines import BLOCK_ITEMS, Block, SpillingLine
from aqueue._engine.payloads import Payloads
from aqueue._engine.stopping import Stage, Stopping
from aqueue._engine.tree import JournaledNode, Node
from aqueue._engine.turns import SLICE_S
from aqueue._stream.item_facts import ItemFacts
from aqueue.events import Event, ItemEnqueued

__all__ = ["ReadAgain", "ReadFacts", "ReadItems", "Spilling"]

Announced = Mapping[int, ItemEnqueued]
"""Announcements, by the numbers of their items."""

ReadItems = Callable[[Sequence[int], Callable[[Announced], None]], None]
"""Reads the announcements of these items, which are live, from the journal, and calls a function with them in the loop."""

ReadAgain = Callable[[Sequence[int], Sequence[int], Callable[[list[Event], set[int]], None]], None]
"""Does the same with the events that have the states of some live items, and with those that announced the children of others.

The function also gets those of the latter about whose children the events don't tell all, since they had completed before.
"""

ReadFacts = Callable[[Sequence[int], Callable[[Mapping[int, ItemFacts] | Exception], None]], None]
"""Reads the facts of some items and all their ancestors in a thread, and calls a function with them, or with an error, in the loop."""


class Spilling:
    """The `aqueue._engine.lines.Spills` of a run with a journal.

    Attributes:
        most: how many waiting nodes are kept in memory.
        num_spilled, num_lines: see there.
        at_once: the same; fewer if items take long to be decoded, since nothing else runs in the event loop meanwhile.
    """

    def __init__(
        self,
        most: int,
        read_items: ReadItems,
        payloads: Payloads,
        classes: ClassRegistry,
        dispatcher: Dispatcher,
        stopping: Stopping,
    ) -> None:
        """Let `dispatcher` spill nodes.

        Parameters:
            most: how many waiting nodes are kept in memory.
            read_items: reads items from the journal.
            payloads: decodes them.
            classes: what is known about their classes.
            dispatcher: queues their nodes.
            stopping: stops the run if an item can't be restored.
        """
        self.most = most
        self.num_spilled = 0
        self.num_lines = 1
        self.at_once = BLOCK_ITEMS
        self._read_items = read_items
        self._payloads = payloads
        self._classes = classes
        self._dispatcher = dispatcher
        self._stopping = stopping
        self._has_ended = False
        self._is_held = False
        self._postponed: list[Callable[[], None]] = []
        dispatcher.spill(self)

    def can_spill(self, node: Node) -> bool:
        """Return whether an announcement says all of `node`: it was never started, skipped or retried, and didn't wait for its parent."""
        is_as_announced = type(node) is JournaledNode and node.attempt == 1 and node.recorded is None
        return is_as_announced and node.id not in self._dispatcher.dropped

    def read(self, line: SpillingLine, block: Block) -> None:
        """Read the nodes of `block` back, and give them to `line` later."""
        if self._is_held:
            self._postponed.append(partial(self.read, line, block))
            return
        numbers = [number for number in block.numbers if number not in block.nodes]
        self._read_items(numbers, partial(self._put_back, line, block))

    def end(self) -> None:
        """Ignore what is still being read: the run is over, and the nodes are about to be unlinked."""
        self._has_ended = True

    def hold(self, *, is_held: bool) -> None:
        """Let all nodes stay where they are, or end that."""
        self._is_held = is_held
        if not is_held:
            postponed, self._postponed = self._postponed, []
            for call in postponed:
                call()

    def bring(self, line: SpillingLine, block: Block, numbers: Sequence[int], then: Callable[[], None]) -> None:
        """Make the nodes with these numbers, all in `block`, while it stays where it is; then call `then` in the loop."""
        self._read_items(numbers, partial(self._brought, line, block, numbers, then))

    def _brought(
        self, line: SpillingLine, block: Block, numbers: Sequence[int], then: Callable[[], None], announced: Announced
    ) -> None:
        if not self._has_ended:
            block.nodes.update((node.id, node) for node in self._made(line, block, numbers, announced))
        then()

    def _made(self, line: SpillingLine, block: Block, numbers: Sequence[int], announced: Announced) -> Iterator[Node]:
        """Yield nodes of `block` with these numbers, making those that it lacks; stop the run at one that can't be made."""
        for number in numbers:
            node = block.nodes.get(number)
            if node is None:
                event = announced[number]
                try:
                    node = self._node(event, block.nodes.get(event.parent), line.group)
                except BaseException as error:  # the code of the item's class raised it
                    what = f"item {number} ({event.type}) can't be read back from the journal"
                    self._stopping.fail(error, what, cancel=not isinstance(error, Exception))
                    return
            yield node

    def _put_back(self, line: SpillingLine, block: Block, announced: Announced) -> None:
        if self._is_held:
            self._postponed.append(partial(self._put_back, line, block, announced))
            return
        if self._has_ended or self._stopping.stage is not Stage.RUNNING:
            return
        began = monotonic()
        nodes = list(self._made(line, block, block.numbers, announced))
        if len(nodes) < len(block.numbers):
            return  # the line keeps the block, whose nodes are unlinked at the end
        took_s = monotonic() - began
        self.at_once = max(1, min(BLOCK_ITEMS, int(len(nodes) * SLICE_S / max(took_s, 1e-9))))
        line.put_back(nodes)
        self._dispatcher.look_at_line(line)

    def _node(self, event: ItemEnqueued, parent: Node | None, group: str | None) -> Node:
        state = bytes(event.payload)
        item = self._payloads.decode(event.type, state, parent)
        cls = self._classes.announced_as(item, event.type, track_overall=event.track_overall, hook=event.hook)
        return self._payloads.announced_node(event, state, item, parent, cls, group)
