"""What a resume passes to the engine: everything that earlier processes of the run have left."""

from array import array
from collections.abc import Callable, Iterable

import msgspec

from aqueue._codec.digests import KeySet
from aqueue._engine.adoption import RecordedChildren
from aqueue._engine.item_class import ItemClass
from aqueue._engine.tree import Node, Results
from aqueue.events import Event, ItemFailed

__all__ = ["Change", "RestoredRun"]

Change = Callable[[int, float], Event]
"""Makes the event that tells of a change, with this number and time."""


class RestoredRun(msgspec.Struct):
    """A recorded run that an engine can continue.

    Attributes:
        last_id: the number of the latest item.
        first_ids: the number of the first item that each process enqueued, or would have.
        keys: all keys that were ever enqueued.
        recorded_roots: the initial items of earlier processes.
        open_roots: how many of them have a subtree that has not ended.
        root_results, earlier_results: see `aqueue._engine.tree.Tree`.
        classes: the classes with their counts, which include `changes`.
        changes: the events to announce first.
        failures: the failures of the items that stay failed, in order.
        retried: the nodes whose attempts have failed: how many failures count, when the next attempt may start (Unix time,
            seconds), and how long the wait was at the failure, seconds.
        slowed_down: per group, when it may start again (Unix time, seconds), and how long the pause was, seconds.
        suspects, is_cautious: see `aqueue._engine.suspects.Suspects`.
        queued: the nodes whose `process` must run, in the order of enqueue.
        settled: more such nodes, in the same order, that were never started; each is made when it is asked for.
        ended: the nodes whose `process` and children have ended, so that their hooks are due.
        failed: the nodes of the items that stay failed; the others above them are their ancestors.
        roots: the numbers of this process's initial items that have been read already; 0 for a dropped duplicate.
        deduplicated_roots: how many of these were dropped.
    """

    last_id: int
    first_ids: list[int]
    keys: KeySet
    recorded_roots: RecordedChildren
    open_roots: int
    root_results: Results
    earlier_results: Results
    classes: Iterable[ItemClass]
    changes: Iterable[Change]
    failures: Iterable[ItemFailed]
    retried: Iterable[tuple[Node, int, float, float]]
    slowed_down: dict[str, tuple[float, float]]
    suspects: list[tuple[Node, str]]
    is_cautious: bool
    queued: list[Node]
    settled: Iterable[Node]
    ended: list[Node]
    failed: list[Node]
    roots: "array[int]" = msgspec.field(default_factory=lambda: array("q"))
    deduplicated_roots: int = 0
