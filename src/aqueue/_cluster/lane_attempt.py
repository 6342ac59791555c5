"""One attempt at an item in a lane: the functions that its code is given, and what `aqueue.current` and others ask."""

import threading
from collections.abc import Callable
from typing import Any, Protocol

from aqueue._cluster.messages import Described, Enqueued, Report, Run, SlowDownAsked, StopAsked
from aqueue._engine.attempt import NO_CHILD_RESULTS, NO_LIFESPAN, NO_SHARED, no_description, refusal
from aqueue._engine.context import Current
from aqueue.errors import MisplacedCall
from aqueue.text import DESCRIPTION_MAX_CHARS, visible

__all__ = ["AttemptLane", "LaneAttempt"]


class AttemptLane(Protocol):
    """What an attempt calls of its lane; see `aqueue._cluster.lane.Lane`."""

    thread: int
    shared: Any

    def report(self, report: Report) -> None:
        """Queue a report to the coordinator; from any thread."""
        ...

    def wait_for_room(self) -> None:
        """Wait while far too many reports are not acknowledged."""
        ...

    def dump_child(self, item: Any, ancestor_number: Callable[[object], int | None]) -> bytes:
        """Return `item`, a child, as bytes for a report."""
        ...


class LaneAttempt:
    """One attempt at an item's `process`, in a lane.

    Attributes:
        run: what was ordered.
        item: the item.
        has_children: whether it has enqueued any.
        has_ended: whether its code is through.
    """

    def __init__(self, lane: AttemptLane, run: Run) -> None:
        self.run = run
        self.item: Any = None
        self.has_children = False
        self.has_ended = False
        self._lane = lane
        self._ancestors: dict[int, tuple[int, object]] = {}

    # ---- the item and those above it ----------------------------------------------------------------------------

    def add_ancestor(self, number: int, ancestor: object) -> None:
        """Remember that `ancestor` is the object of the item numbered `number`, for children that refer to it."""
        self._ancestors[id(ancestor)] = number, ancestor

    def item_or_ancestor_number(self, candidate: object) -> int | None:
        """Return the number of `candidate` if it is the item or one of its ancestors, else None."""
        if candidate is self.item:
            return self.run.item
        known = self._ancestors.get(id(candidate))
        return None if known is None else known[0]

    def ancestor_number(self, candidate: object) -> int | None:
        """Return the number of `candidate` if it is an ancestor of the item, else None."""
        return None if candidate is self.item else self.item_or_ancestor_number(candidate)

    # ---- what `process` is given --------------------------------------------------------------------------------

    def enqueue(self, item: Any, /) -> None:
        """Add a child; see `aqueue.Item.process`."""
        self._check("enqueue")
        data = self._lane.dump_child(item, self.item_or_ancestor_number)
        self.has_children = True
        self._lane.report(Enqueued(self.run.order, data))
        self._lane.wait_for_room()

    def set_desc(self, text: str, /) -> None:
        """Say what the item is doing; see `aqueue.Item.process`."""
        self._check("set_desc")
        if not isinstance(text, str):
            raise no_description(text, self.run.item, self.run.type)
        self._lane.report(Described(self.run.order, visible(str.__str__(text), DESCRIPTION_MAX_CHARS)))
        self._lane.wait_for_room()

    def _check(self, name: str) -> None:
        if self.has_ended or threading.get_ident() != self._lane.thread:
            raise refusal(name, None if self.has_ended else (self.run.item, self.run.type))

    # ---- what is asked inside it --------------------------------------------------------------------------------

    def current(self) -> Current | None:
        """Return the running item, or None once the attempt has ended."""
        if self.has_ended:
            return None
        run = self.run
        return Current(run.item, run.type, run.attempt, "process", run.worker, run.identity.hex(), run.attempts_left)

    def shared(self) -> Any:
        """Return what `lifespan` yielded in this process."""
        if self._lane.shared is NO_SHARED:
            raise MisplacedCall(NO_LIFESPAN)
        return self._lane.shared

    def child_results(self) -> list[Any]:
        """Refuse: hooks run in the coordinator."""
        raise MisplacedCall(NO_CHILD_RESULTS)

    def stop(self, reason: str) -> None:
        """Stop the run gracefully, from any thread."""
        self._lane.report(StopAsked(self.run.order, visible(reason, DESCRIPTION_MAX_CHARS)))

    def slow_down(self, group: str, seconds: float) -> None:
        """Start nothing of `group` for a while, from any thread."""
        self._lane.report(SlowDownAsked(self.run.order, group, float(seconds)))
