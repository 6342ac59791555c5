"""Gives the engine a place for each worker process of a cluster that joins, and closes it when the process leaves."""

import asyncio
import itertools
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

import anyio
import anyio.to_thread

from aqueue._cluster import messages
from aqueue._cluster.link import Link
from aqueue._cluster.messages import Cancel, End, LaneSettings, Report
from aqueue._cluster.objects import CoordinatorObjects
from aqueue._cluster.place import ALONE_AFTER, CANCEL_S, Place
from aqueue._cluster.transport import Transport, TransportError
from aqueue._engine.places import Crew
from aqueue._engine.tree import Node
from aqueue._system.loop import CallSoon
from aqueue._system.notice import say, warn
from aqueue.errors import ClusterError
from aqueue.events import ProcessJoined, ProcessLeft
from aqueue.text import visible

__all__ = ["LEASE_S", "PATIENCE_S", "Cluster"]

LEASE_S: Final = 30.0
"""How long a lane keeps running without hearing from the coordinator, seconds."""

PATIENCE_S: Final = 600.0
"""How long to retry a scheduler that does not answer, seconds."""

MEMBERS_INTERVAL_S: Final = 1.0
"""How often the scheduler is asked which worker processes there are, seconds."""

END_S: Final = 30.0
"""How long idle lanes may take to leave their `lifespan` and end, seconds."""

APPLIED_AT_ONCE: Final = 200
"""How many reports are applied before the engine's loop gets its turn."""

_NOTICE_S: Final = 5.0
_MAX_WARNINGS: Final = 100


class Cluster:
    """Runs `process` in the worker processes of a cluster; each is a place with the same number of workers.

    Attributes:
        objects: turns items into bytes and back.
        losses: for each item that has not ended since, by number, how often the process that ran it was lost.
        next_order: returns the number of the next order.
    """

    def __init__(
        self,
        transport: Transport,
        call_soon: CallSoon,
        *,
        num_workers: int,
        backend: str,
        lifespan: Callable[..., Any] | None,
        has_journal: bool,
        run_id: str,
    ) -> None:
        """Make a cluster; `open` connects it.

        Parameters:
            transport: reaches the worker processes.
            call_soon: schedules a function in the engine's loop.
            num_workers: how many items each process runs at a time.
            backend: the event loop of the items, ``trio`` or ``asyncio``.
            lifespan: entered in each process.
            has_journal: whether items must be storable in a journal.
            run_id: the run's id.
        """
        self.objects = CoordinatorObjects(lifespan)
        self.losses: dict[int, int] = {}
        self._transport = transport
        self._call_soon = call_soon
        self._num_workers = num_workers
        self._backend = backend
        self._has_journal = has_journal
        self._run_id = run_id
        self._name = os.urandom(4).hex()
        self.next_order: Callable[[], int] = itertools.count(1).__next__
        self._lane_numbers = itertools.count(1)
        # In the engine's loop:
        self._opening: anyio.CancelScope | None = None
        self._crew: Crew | None = None
        self._first_workers: set[int] = set()
        self._places: dict[Link, Place] = {}
        self._last_order: Cancel | End | None = None
        self._late_error: BaseException | None = None
        self._ended = anyio.Event()
        self._closed = anyio.Event()
        self._kinds_warned_of: set[str] = set()
        # In the transport's loop:
        self._links: dict[str, Link] = {}
        self._refused: set[str] = set()
        self._look_now = asyncio.Event()

    # ---- opening and closing, in the engine's loop ----------------------------------------------------------------

    @property
    def address(self) -> str:
        """The scheduler's address."""
        return self._transport.address

    async def open(self) -> None:
        """Connect; returns early if `end` is called meanwhile.

        Raises:
            ClusterError: it can't connect.
        """
        if not self._ended.is_set():
            with anyio.CancelScope() as self._opening:
                await anyio.to_thread.run_sync(self._transport.open, abandon_on_cancel=True)

    async def close(self) -> None:
        """Disconnect, even when cancelled."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._transport.close)

    # ---- called by the engine -------------------------------------------------------------------------------------

    def check(self, item: Any) -> None:
        """Raise `UnsendableItem` if `item`, an initial one, can't be sent."""
        self.objects.dump_item(item, lambda _: None)

    def suspect(self, node: Node) -> None:
        """Have the item of `node` run alone in its process."""
        self.losses[node.id] = max(self.losses.get(node.id, 0), ALONE_AFTER)

    async def serve(self, crew: Crew) -> None:
        """Supply `crew` with places until `end` is called, and then close them."""
        self._crew = crew
        managing = asyncio.run_coroutine_threadsafe(self._manage(), self._transport.loop)
        patience_s = END_S
        try:
            await self._ended.wait()
            self._finish(End())
            with anyio.move_on_after(END_S):
                await self._closed.wait()
        except BaseException:
            self.cancel()
            patience_s = CANCEL_S
            with anyio.move_on_after(CANCEL_S, shield=True):
                await self._closed.wait()
            raise
        finally:
            if not self._closed.is_set():
                warn(
                    f"worker processes did not end within {patience_s:g} s; the run no longer waits for them, and they "
                    "will end on their own"
                )
                managing.cancel()
            self._crew = None
            if self._late_error is not None:
                crew.fail_to_execute(self._late_error)

    def end(self) -> None:
        """Have `open` and `serve` return."""
        self._ended.set()
        if self._opening is not None:
            self._opening.cancel()

    # ---- called by places ------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Cancel all running items, in every place."""
        self._finish(Cancel())

    def release_workers(self, place: Place) -> None:
        """Free the worker numbers of `place`: its last worker has ended."""
        self._first_workers.discard(place.workers[0])

    def _finish(self, order: Cancel | End) -> None:
        if isinstance(self._last_order, Cancel):
            return
        self._last_order = order
        with suppress(RuntimeError):  # the transport's loop has ended
            self._transport.loop.call_soon_threadsafe(self._finish_links, order)

    # ---- called by links, in the engine's loop -----------------------------------------------------------------------

    def _apply(self, link: Link, reports: list[Report], done: Callable[[], None]) -> None:
        """Apply reports, a few at a time, so that the engine's loop gets its turns."""
        for report in reports[:APPLIED_AT_ONCE]:
            place = self._places.get(link)
            match report:
                case messages.Warned():
                    self._warn(report.text, place)
                case messages.Ready():
                    self._add_place(link, report)
                case messages.LaneEnded():
                    pass  # the link's business
                case _ if place is not None:
                    place.apply(report)
        if len(reports) > APPLIED_AT_ONCE:
            self._apply_soon(link, reports[APPLIED_AT_ONCE:], done)
        else:
            done()

    def _add_place(self, link: Link, ready: messages.Ready) -> None:
        crew = self._crew
        if crew is None or self._last_order is not None:
            return
        first = next(number for number in itertools.count(1, self._num_workers) if number not in self._first_workers)
        self._first_workers.add(first)
        workers = range(first, first + self._num_workers)
        self._places[link] = place = Place(self, workers, visible(ready.host, 255), ready.pid, link.send)
        crew.stream.emit(ProcessJoined, first, self._num_workers, place.host, place.pid)
        crew.add_workers(place)

    def _warn(self, text: str, place: Place | None) -> None:
        kind = re.sub("[0-9]+", "0", text)
        if kind not in self._kinds_warned_of and len(self._kinds_warned_of) < _MAX_WARNINGS:
            self._kinds_warned_of.add(kind)
            where = "" if place is None else f" (on {place.host}, process {place.pid})"
            warn(f"{visible(text, 2_000)}{where}")

    def _remove_place(self, link: Link, has_died: bool, error: bytes) -> None:
        """Close the place of a lane that has ended or is gone; if its process has died, blame the items that ran there."""
        place = self._places.pop(link, None)
        lane_error = self.objects.load_error(error) if error else None
        crew = self._crew
        if crew is None:
            return
        if place is not None:
            place.close(blames=has_died)
            if self._last_order is None:
                ignored = place.ignored + link.inbox.repeated
                crew.stream.emit(ProcessLeft, place.workers[0], "lost" if has_died else "left", ignored)
            crew.dismiss(place)
        if lane_error is not None and self._ended.is_set():  # the other lanes may still leave their lifespan
            self._late_error = self._late_error or lane_error
        elif lane_error is not None:
            crew.fail_to_execute(lane_error)

    def _fail(self, error: BaseException) -> None:
        if self._crew is not None:
            self._crew.fail_to_execute(error)

    # ---- the worker processes, in the transport's loop --------------------------------------------------------------

    async def _manage(self) -> None:
        """Keep a link to a lane in each worker process until the run ends, and until those lanes have ended."""
        try:
            await self._watch_members()
            while self._links:
                await asyncio.wait([link.task for link in self._links.values()])
        except Exception as error:  # the scheduler is lost; or a bug in aqueue or the transport
            self._call_soon(partial(self._fail, error))
        finally:
            for link in self._links.values():
                link.task.cancel()
            self._call_soon(self._closed.set)

    async def _watch_members(self) -> None:
        """Start a link for each process that joins, and end the link of each that leaves, until the run ends.

        Raises:
            ClusterError: the scheduler has not answered for too long.
        """
        answered_at = began_at = time.monotonic()
        has_warned = False
        while self._last_order is None:
            try:
                await self._transport.reconnect()
                members = await self._transport.members()
            except TransportError as error:
                silent_s = time.monotonic() - answered_at
                if silent_s > PATIENCE_S:
                    raise ClusterError(
                        f"the scheduler at {self.address} has not answered for {silent_s:.0f} s ({error}); check that it "
                        "is running and reachable, and resume the run"
                    ) from error
                if not has_warned and silent_s >= min(_NOTICE_S, PATIENCE_S / 2):
                    has_warned = True
                    warn(f"the scheduler at {self.address} does not answer; retrying for {PATIENCE_S:.0f} s")
            else:
                answered_at = time.monotonic()
                if has_warned:
                    has_warned = False
                    say(f"aqueue: the scheduler at {self.address} answers again")
                self._update_links(members)
                if not self._links and not self._refused and began_at and answered_at - began_at > _NOTICE_S:
                    began_at = 0.0
                    say(f"aqueue: the cluster at {self.address} has no worker processes yet; waiting for the first")
            self._look_now.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(MEMBERS_INTERVAL_S):
                    await self._look_now.wait()

    def _update_links(self, members: Mapping[str, bool]) -> None:
        for address, link in self._links.items():
            if address not in members:
                link.give_up()
        self._refused &= members.keys()
        for address, takes_work in members.items():
            if takes_work and address not in self._links and address not in self._refused:
                self._start_link(address)

    def _start_link(self, address: str) -> None:
        settings = LaneSettings(
            self._run_id, self._name, next(self._lane_numbers), self._backend, self._has_journal, LEASE_S
        )

        link = Link(address, settings, self._transport, self.objects.definitions, self._apply_soon)
        self._links[address] = link
        link.task = asyncio.ensure_future(self._serve_link(link))
        link.task.add_done_callback(partial(self._link_ended, link))

    async def _serve_link(self, link: Link) -> tuple[bool, bytes]:
        with suppress(TransportError):  # it will be retried, if the process is still there
            problem = await self._transport.prepare(link.address, link.settings)
            if problem:
                self._refused.add(link.address)
                warning = f"the worker process at {visible(link.address, 200)} can't be used: {problem}"
                self._call_soon(partial(self._warn, warning, None))
            elif self._last_order is None:
                return await link.run()
        return False, b""

    def _link_ended(self, link: Link, task: "asyncio.Task[tuple[bool, bytes]]") -> None:
        del self._links[link.address]
        has_died, lane_error = False, b""
        if not task.cancelled():
            error = task.exception()
            if error is None:
                has_died, lane_error = task.result()
            else:  # a bug in aqueue or the transport
                self._call_soon(partial(self._fail, error))
        self._call_soon(partial(self._remove_place, link, has_died, lane_error))

    def _apply_soon(self, link: Link, reports: list[Report], done: Callable[[], None]) -> None:
        self._call_soon(partial(self._apply, link, reports, done))

    def _finish_links(self, order: Cancel | End) -> None:
        self._look_now.set()
        for link in self._links.values():
            link.finish(order)
