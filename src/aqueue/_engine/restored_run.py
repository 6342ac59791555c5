"""What a resume hands to the engine: all that earlier processes of the run have left."""

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
    """A recorded run, to be gone on with.

    Attributes:
        last_id: the number of the item that was enqueued last.
        keys: all keys that were ever enqueued.
        recorded_roots: the initial items of earlier processes.
        open_roots: how many of those have a subtree that has not ended.
        root_results, earlier_results: see `aqueue._engine.tree.Tree`.
        classes: the classes, with what their items have come to; `changes` included.
        changes: what is to be announced before all else.
        failures: the items that stay failed, in the order of their failures.
        retried: the nodes of which attempts have failed: how many count, when the next may start, Unix time in seconds, and
            how long that was to wait from the failure, seconds.
        slowed_down: when groups that were slowed down may go on, Unix time in seconds, and how long that was then.
        suspects, is_cautious: see `aqueue._engine.suspects.Suspects`.
        queued: the nodes whose `process` is to run, in the order in which they were enqueued.
        ended: those whose `process` and children have ended, so that their hooks are due.
        roots: the numbers of this process's initial items that have been recognized already; 0 for one that was dropped.
        deduplicated_roots: how many of those were dropped.
    """

    last_id: int
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
    ended: list[Node]
    roots: list[int] = []
    deduplicated_roots: int = 0
