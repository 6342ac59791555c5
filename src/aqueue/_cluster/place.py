"""A lane as the engine sees it: a place where `process` runs, with the attempts in progress there.

All of this happens in the engine's thread.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

import anyio
import msgspec

from aqueue._cluster import messages
from aqueue._cluster.messages import AttemptEnded, Run
from aqueue._cluster.objects import CoordinatorObjects
from aqueue._codec.results import LARGE_BYTES
from aqueue._engine.attempt import Attempt
from aqueue._engine.exceptions import hide_frames_of
from aqueue._engine.payloads import ancestor, ancestor_id
from aqueue._engine.places import AttemptLost
from aqueue._engine.tree import Node
from aqueue.errors import ClusterError, PoisonItem
from aqueue.text import visible

__all__ = ["ALONE_AFTER", "Place", "PlaceCluster"]

ALONE_AFTER: Final = 2
"""How many times the process that ran an item must be lost before the item runs alone; after one more, it fails."""

hide_frames_of(__file__)

CANCEL_S: Final = 5.0
"""How long a cancelled attempt is waited for, seconds."""


class PlaceCluster(Protocol):
    """The part of `Cluster` that a place uses; see `aqueue._cluster.cluster.Cluster`."""

    objects: CoordinatorObjects
    losses: dict[int, int]
    next_order: Callable[[], int]

    def cancel(self) -> None:
        """Cancel all running items, in every place."""
        ...

    def release_workers(self, place: "Place") -> None:
        """Free the worker numbers of `place`: its last worker has ended."""
        ...


@dataclass(slots=True, eq=False)
class _Pending:
    """An attempt that is under way in a lane.

    Attributes:
        node, attempt: the item's, and the engine's side of the attempt.
        ended: the lane's report of the end; None until then.
        error: what one of its requests, such as enqueuing a child, has raised in the coordinator.
        over: set once the attempt has ended or the lane is gone.
    """

    node: Node
    attempt: Attempt
    ended: AttemptEnded | None = None
    error: BaseException | None = None
    over: anyio.Event = field(default_factory=anyio.Event)


class Place:
    """A lane, to the engine.

    Attributes:
        host, pid: the process that it is in; the host's name is as the lane gave it.
        workers: the numbers of its workers.
        is_open: whether they may take items.
        ignored: how many of its reports were about attempts that are over.
    """

    def __init__(self, cluster: PlaceCluster, workers: range, host: str, pid: int, send: Callable[[Run], None]) -> None:
        """Make the place of a lane that is ready.

        Parameters:
            send: sends an order to the lane.
        """
        self.host = host
        self.pid = pid
        self.workers: Sequence[int] = workers
        self.is_open = True
        self.ignored = 0
        self._cluster = cluster
        self._send = send
        self._pending: dict[int, _Pending] = {}
        self._waiting_alone = 0
        self._changed = anyio.Event()
        self._left = 0
        self._blames = False
        self._alone_lock = anyio.Lock()

    # ---- called by the engine -----------------------------------------------------------------------------------

    @property
    def is_reserved(self) -> bool:
        """Whether one of its workers runs an item alone, or waits to do so."""
        return self._waiting_alone > 0

    async def until_free(self) -> None:
        """Wait until it is not reserved any more, or closed."""
        while self.is_open and self.is_reserved:
            await self._changed.wait()

    def leave(self, worker: int) -> None:
        """Count a worker that has ended; after the last one, free their numbers."""
        self._left += 1
        if self._left == len(self.workers):
            self._cluster.release_workers(self)

    async def run(self, node: Node, attempt: Attempt) -> None:
        """Run the `process` of the item of `node`; see `aqueue._engine.places.Place.run`."""
        if self._cluster.losses.get(node.id, 0) < ALONE_AFTER:
            await self.until_free()  # it may have been reserved after this item was taken
            await self._run(node, attempt, is_alone=False)
            return
        self._waiting_alone += 1
        try:
            async with self._alone_lock:
                while self._pending and self.is_open:
                    await self._changed.wait()
                await self._run(node, attempt, is_alone=True)
        finally:
            self._waiting_alone -= 1
            self._notify()

    async def _run(self, node: Node, attempt: Attempt, *, is_alone: bool) -> None:
        if not self.is_open:
            raise AttemptLost
        order = self._cluster.next_order()
        run_order = self._make_order(order, node, attempt)
        pending = _Pending(node, attempt)
        self._pending[order] = pending
        self._send(run_order)
        try:
            await pending.over.wait()
        except BaseException:  # cancelled
            if not pending.over.is_set():
                self._cluster.cancel()
                with anyio.move_on_after(CANCEL_S, shield=True):
                    await pending.over.wait()
            ended = pending.ended
            if ended is None or ended.outcome != "returned":
                raise
        finally:
            del self._pending[order]
            if self._waiting_alone and not self._pending:
                self._notify()
        self._apply_outcome(pending, is_alone=is_alone)

    def _make_order(self, order: int, node: Node, attempt: Attempt) -> Run:
        objects = self._cluster.objects
        wanted: set[int] = set()

        def number_of(above: Node | None, candidate: object) -> int | None:
            number = ancestor_id(above, candidate)
            if number is not None:
                wanted.add(number)
            return number

        data = objects.dump_item(node.item, partial(number_of, node.parent))
        ancestors: dict[int, bytes] = {}
        above = node.parent
        while above is not None and wanted:
            if above.id in wanted:
                wanted.remove(above.id)
                ancestors[above.id] = objects.dump_item(above.item, partial(number_of, above.parent))
            above = above.parent
        cls = node.cls
        engine = attempt.engine
        return Run(
            order=order,
            item=node.id,
            type=cls.type,
            attempt=node.attempt,
            worker=attempt.worker,
            identity=engine.identity(node),
            attempts_left=engine.attempts_left(node),
            timeout_s=cls.policies.timeout_s,
            needs_state=cls.hook,
            data=data,
            ancestors=dict(reversed(ancestors.items())),
        )

    def _apply_outcome(self, pending: _Pending, *, is_alone: bool) -> None:
        """Give the node its new state and result, or raise what the attempt ended with; see `run`."""
        cluster = self._cluster
        node = pending.node
        ended = pending.ended
        if ended is None or ended.outcome == "cancelled":
            if ended is None and self._blames:
                losses = cluster.losses[node.id] = cluster.losses.get(node.id, 0) + 1
                if is_alone and losses > ALONE_AFTER:
                    del cluster.losses[node.id]
                    raise PoisonItem(
                        f"item {node.id} ({node.cls.type}) was running in {losses} worker processes that died, the last time "
                        "alone, so it is not run again; run it by itself to find the cause"
                    )
            raise AttemptLost
        cluster.losses.pop(node.id, None)
        if pending.error is not None:
            raise pending.error
        if ended.state is not None:
            node.item = cluster.objects.apply_state(node.item, ended.state, partial(ancestor, node.parent))
        if ended.outcome == "raised":
            raise cluster.objects.load_error(ended.error)
        if ended.result:
            node.result = msgspec.Raw(ended.result)
            if len(ended.result) > LARGE_BYTES:
                pending.attempt.engine.stream.add_large(node.cls.type, "result", len(ended.result))

    def _notify(self) -> None:
        """Wake all tasks that wait for this place to change."""
        self._changed.set()
        self._changed = anyio.Event()

    # ---- called by the link -------------------------------------------------------------------------------------

    def apply(self, report: messages.OfAttempt) -> None:
        """Apply a report about an attempt; if that is over, only count the report."""
        pending = self._pending.get(report.order)
        if pending is None or pending.over.is_set():
            self.ignored += 1
        elif isinstance(report, AttemptEnded):
            pending.ended = report
            pending.over.set()
        else:
            try:
                self._hand_on(report, pending)
            except BaseException as error:  # a comparison of items, a key, a group: the user's code
                pending.error = pending.error or error

    def _hand_on(self, report: messages.OfAttempt, pending: _Pending) -> None:
        node, attempt = pending.node, pending.attempt
        match report:
            case messages.Enqueued():
                try:
                    item: Any = self._cluster.objects.load_item(report.data, partial(ancestor, node))
                except Exception as error:
                    raise ClusterError(
                        f"a child of item {node.id} ({node.cls.type}) can't be loaded in your program: "
                        f"{type(error).__name__}: {visible(str(error), 500)}; install the module of its class here, too"
                    ) from error
                attempt.enqueue_repeatable(item)
            case messages.Described():
                attempt.set_desc(report.text)
            case messages.StopAsked():
                attempt.stop(report.reason)
            case messages.SlowDownAsked():
                attempt.slow_down(report.group, report.seconds)

    def close(self, *, blames: bool) -> None:
        """Take no more items: the lane is gone, with its running items, one of which may be the cause if `blames`."""
        self.is_open = False
        self._blames = blames
        self._notify()
        for pending in self._pending.values():
            pending.over.set()
