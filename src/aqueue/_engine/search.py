"""Finds the nodes of items by their numbers.

The engine keeps no index of the nodes that wait: it would cost time and memory for each item, and few runs are ever steered. So a
command looks through them, in slices of a few milliseconds. Meanwhile nothing starts, and so nothing leaves its place.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import chain
from time import monotonic
from typing import Final, Literal, get_args

import msgspec

from aqueue._engine.outcomes import cancelled_by
from aqueue._engine.parts import Parts
from aqueue._engine.tree import CLOSED, Node
from aqueue._engine.turns import SLICE_S
from aqueue._engine.worker import Worker
from aqueue._engine.workers import Workers
from aqueue._verbs import Answer, OnItems, SeenState

__all__ = ["Found", "InProgress", "Search", "Step", "has_running_hook"]

_AT_ONCE: Final = 1_000

_STATES: Final = get_args(SeenState)

Step = Callable[[Callable[[], None]], None] | None
"""What comes before the next slice: None for a turn of the event loop; or a function that gets another one, to be called then."""


class Found(msgspec.Struct, frozen=True, eq=False):
    """A node and where it is.

    Attributes:
        node: the node of an item that has not ended, or that is failed.
        place: ``failed``; ``retrying``; ``running``; ``queue``; ``suspects``: it runs alone before all others; ``parent``: it waits for
            its parent to enqueue it again; ``left``: it was interrupted, and the run stops; ``opening``: its object is being read.
        worker: the worker that runs it.
    """

    node: Node
    place: Literal["failed", "retrying", "running", "queue", "suspects", "parent", "left", "opening"]
    worker: Worker | None = None

    @property
    def state(self) -> SeenState:
        """Its state as people see it."""
        return self.place if self.place in ("failed", "retrying", "running") else "queued"


class InProgress:
    """A command that is being carried out.

    Attributes:
        command: the command.
        applied: the numbers of the items that it was applied to.
        others: why it was not applied to the other items, by number.
        error: what items fail with that it cancels.
    """

    def __init__(self, command: OnItems) -> None:
        self.command = command
        self.error = cancelled_by(command.by)
        self.applied: set[int] = set()
        self.others: dict[int, str] = {}

    def note_other(self, number: int, why: str) -> None:
        """Note why the command isn't applied to an item: a reason counts more than that it is in another state than it was seen in."""
        if number not in self.others or why not in _STATES:
            self.others[number] = why

    @property
    def answer(self) -> Answer:
        """What came of it."""
        others = Counter(why for number, why in self.others.items() if number not in self.applied)
        return Answer(changed=bool(self.applied), count=len(self.applied), others=dict(others))


class Search:
    """Finds nodes by the numbers of their items."""

    def __init__(self, parts: Parts, workers: Workers) -> None:
        """Look at the nodes in `parts`, and at those that `workers` run."""
        self._parts = parts
        self._workers = workers
        self._waiting: dict[int, Found] = {}
        self._above: dict[int, Node] = {}

    def forget(self) -> None:
        """Forget the nodes that were found: they may start now, or end."""
        self._waiting.clear()
        self._above.clear()

    def running(self) -> dict[int, Worker]:
        """Return the workers that run something, by the numbers of the items."""
        return {node.id: worker for node, worker in self._workers.running("process", "after_children")}

    def in_hook(self) -> set[int]:
        """Return the numbers of the items whose hooks run, or have run and are about to be recorded."""
        return {worker.hook.id for worker in self._workers.present if worker.hook is not None}

    def find(self, number: int, running: dict[int, Worker]) -> Found | None:
        """Return a node that can be looked up, or was found by `look_for`; None if there is none, or it has ended."""
        parts = self._parts
        dispatcher = parts.dispatcher
        if number in parts.tree.failed:
            return Found(parts.tree.failed[number], "failed")
        if number in dispatcher.retries.retrying:
            return Found(dispatcher.retries.retrying[number].node, "retrying")
        worker = running.get(number)
        if worker is not None and worker.attempt is not None and worker.attempt.node is not None:
            return Found(worker.attempt.node, "running", worker)
        node, phase = dispatcher.opening.get(number, (None, "process"))
        if node is not None and phase == "process":
            return Found(node, "opening")
        found = self._waiting.get(number)
        return None if found is None or number in dispatcher.dropped or found.node.cls.is_skipped else found

    def is_skipped(self, number: int) -> bool:
        """Return whether an item that `look_for` has found was skipped since."""
        found = self._waiting.get(number)
        return found is not None and found.node.cls.is_skipped

    def dropped(self, number: int) -> Node | None:
        """Return the node of an item that is in the queue, but isn't to run, if `look_for` has found it."""
        found = self._waiting.get(number)
        return found.node if found is not None and number in self._parts.dispatcher.dropped else None

    def completed(self, number: int) -> Node | None:
        """Return a node whose `process` has completed, but whose subtree hasn't ended well, if `look_above` has found it."""
        node = self._above.get(number)
        if node is None or (node.pending == CLOSED and not node.num_failed) or (not node.pending and node.item is None):
            return None  # it has been unlinked since
        return node

    def has_abandoned(self, number: int) -> bool:
        """Return whether an attempt still runs that was abandoned when this item was skipped."""
        return any(worker.abandoned is not None and worker.abandoned.id == number for worker in self._workers.present)

    def look_for(self, wanted: set[int]) -> Iterator[Step]:
        """Find those of the `wanted` items that wait, so that `find` returns them; nothing may start until `forget`."""
        end = monotonic() + SLICE_S
        yield from self._unspill(wanted)
        parts, dispatcher = self._parts, self._parts.dispatcher
        parents = [node for node, _ in self._workers.running("process")]
        parents += [wait.node for wait in dispatcher.retries.retrying.values()]
        places: Iterator[tuple[Literal["suspects", "left", "queue", "parent"], list[Node]]] = chain(
            [
                ("suspects", [node for node, _ in parts.suspects.waiting if not node.is_ended]),
                ("left", [node for node, phase in dispatcher.left if phase == "process"]),
            ],
            (("queue", nodes) for nodes in dispatcher.queue.in_memory()),
            (("parent", nodes) for nodes in _held_below(parents)),
        )
        for place, nodes in places:
            for start in range(0, len(nodes), _AT_ONCE):
                part = nodes[start : start + _AT_ONCE]
                self._waiting.update((node.id, Found(node, place)) for node in part if node.id in wanted)
                parents += [node for node in part if node.recorded is not None]
                if monotonic() > end:
                    yield None
                    end = monotonic() + SLICE_S

    def look_above(self, wanted: set[int]) -> Iterator[Step]:
        """Find those of the `wanted` items whose subtrees have not ended well, so that `completed` returns them."""
        end = monotonic() + SLICE_S
        parts, dispatcher, seen = self._parts, self._parts.dispatcher, set[int]()
        running = [node for node, _ in self._workers.running("process", "after_children")]
        others = [node for node, _ in parts.suspects.waiting]
        others += [wait.node for wait in dispatcher.retries.retrying.values()]
        others += [node for node, _ in dispatcher.opening.values()]
        others += [node for node, _ in dispatcher.left]
        others += [*dispatcher.due.values(), *dispatcher.next_up.values(), *parts.tree.failed.values()]
        for nodes in chain([running, others], dispatcher.queue.in_memory(), self._above_spilled()):
            for node in nodes:
                above: Node | None = node
                while above is not None and above.id not in seen:
                    seen.add(above.id)
                    if above.id in wanted:
                        self._above[above.id] = above
                    above = above.parent
                if monotonic() > end:
                    yield None
                    end = monotonic() + SLICE_S

    def _above_spilled(self) -> Iterator[list[Node]]:
        for line in self._parts.dispatcher.queue.spilling_lines:
            for block in line.blocks:
                yield list(block.nodes.values())

    def _unspill(self, wanted: set[int]) -> Iterator[Step]:
        """Make the nodes of the wanted items that are spilled; they stay in their places."""
        spilling = self._parts.spilling
        if spilling is None:
            return
        end = monotonic() + SLICE_S
        for line in self._parts.dispatcher.queue.spilling_lines:
            for block in line.blocks:
                numbers = [number for number in block.numbers if number in wanted and number not in block.nodes]
                for start in range(0, len(numbers), spilling.at_once):
                    yield partial(spilling.bring, line, block, numbers[start : start + spilling.at_once])
                if monotonic() > end:
                    yield None
                    end = monotonic() + SLICE_S


def has_running_hook(node: Node | None, in_hook: AbstractSet[int]) -> bool:
    """Return whether the hook of `node` runs, or that of an ancestor, over a subtree that has ended. `in_hook`: whose hooks run."""
    while node is not None and node.pending <= 0:
        if node.pending == 0 and node.id in in_hook:
            return True
        node = node.parent
    return False


def _held_below(parents: list[Node]) -> Iterator[list[Node]]:
    """Yield the nodes that wait for these `parents`, to which others may be added meanwhile, to enqueue them again."""
    while parents:
        recorded = parents.pop().recorded
        if recorded is not None:
            yield [child.node for child in recorded if child.node is not None and child.node.is_held]
