"""A link: the coordinator's end of the connection with one lane. It lives in the transport's event loop."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any, Final

from aqueue._cluster.letters import Inbox, Letter, Outbox, in_letters
from aqueue._cluster.messages import (
    Ancestors,
    Answer,
    Begin,
    Cancel,
    Define,
    End,
    LaneSettings,
    Order,
    Over,
    Report,
    decode_reports,
    encode_orders,
)
from aqueue._cluster.place import Ordered
from aqueue._cluster.transport import Transport, TransportError

__all__ = ["Fate", "Link"]

LETTER_ORDERS: Final = 200
"""How many items go into one letter, at most."""

POLL_S: Final = 5.0
"""How long a lane keeps a question for its reports before it answers that there are none, seconds."""

KEEPALIVE_S: Final = 5.0

PAUSE_S: Final = 0.1
"""After how long a message that was not answered is sent again, seconds."""


class Fate(Enum):
    """How a link ended."""

    ENDED = "it was told to"
    LEFT = "its process has left the cluster"
    EXPIRED = "it had not heard from here for too long"
    LOST = "its process has died"


class Link:
    """Sends orders to a lane and hands its reports on, each once, whatever becomes of single messages.

    Attributes:
        address: the worker process's.
        lane: the lane's name.
        is_leaving: whether its process is about to leave the cluster.
        on_leaving: called when it is.
        repeated: how many letters came more than once.
    """

    def __init__(
        self,
        address: str,
        settings: LaneSettings,
        transport: Transport,
        definitions: Sequence[bytes],
        apply: Callable[[list[Report], Callable[[], None]], None],
    ) -> None:
        """Make a link; `run` starts the lane.

        Parameters:
            definitions: the parcels that the lane must have before what comes after them; more may be added.
            apply: has reports taken in elsewhere, in the order of the calls, and calls back, in any thread, when that is
                done.
        """
        self.address = address
        self.lane = settings.lane
        self.is_leaving = False
        self.on_leaving: Callable[[], None] = _do_nothing
        self._settings = settings
        self._transport = transport
        self._definitions = definitions
        self._defined = 0
        self._apply = apply
        self._outbox = Outbox()
        self._inbox = Inbox()
        self._orders: list[Ordered] = []  # other threads append to it
        self._last_order: Order | None = None
        self._is_finishing = False  # whether that is still to be written
        self._wake = asyncio.Event()
        self._applied = asyncio.Event()
        self._applied.set()
        self._has_begun = False
        self._met = asyncio.Event()  # set once the lane has answered
        self._boot = self._process = ""
        self._heard_at = time.monotonic()
        self._is_gone = asyncio.Event()
        self._over: Over | None = None
        self._taking = asyncio.Lock()

    @property
    def repeated(self) -> int:
        """How many letters came more than once."""
        return self._inbox.repeated

    # ---- from other threads -------------------------------------------------------------------------------------

    def send(self, ordered: Ordered) -> None:
        """Have an order sent; from any thread."""
        orders = self._orders
        orders.append(ordered)
        if len(orders) == 1:
            self._call(self._wake.set)

    def finish(self, order: Cancel | End) -> None:
        """Have the lane end, and nothing sent after that; from any thread. A later call can only go further."""
        if not isinstance(self._last_order, Cancel):
            self._last_order = order
            self._call(self._finish)

    def _call(self, function: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._transport.loop.call_soon_threadsafe(function)

    # ---- in the transport's loop --------------------------------------------------------------------------------

    def lose(self) -> None:
        """Give the lane up: its process is no part of the cluster any more."""
        self._is_gone.set()

    def _finish(self) -> None:
        if not self._has_begun:
            self._is_gone.set()
            return
        self._is_finishing = True
        self._wake.set()

    async def prepare(self) -> str | None:
        """Make the process ready; return what is wrong with it, empty if nothing is, or None if it is not needed any more.

        Raises:
            TransportError: it does not answer.
        """
        preparing = asyncio.ensure_future(self._transport.prepare(self.address, self._settings))
        gone = asyncio.ensure_future(self._is_gone.wait())
        try:
            await asyncio.wait({preparing, gone}, return_when=asyncio.FIRST_COMPLETED)
            return None if self._is_gone.is_set() else preparing.result()
        finally:
            for task in (preparing, gone):
                task.cancel()
            await asyncio.gather(preparing, gone, return_exceptions=True)

    async def run(self) -> tuple[Fate, bytes]:
        """Start the lane, and serve it until it has ended or is lost; return its fate, and what it raised, if anything."""
        self._has_begun = True
        self._outbox.write(encode_orders([*self._undefined(), Begin()]))
        self._wake.set()
        end = self._transport.start_lane(self.address, self._settings)
        sending = asyncio.ensure_future(self._send())
        collecting = asyncio.ensure_future(self._collect(end))
        gone = asyncio.ensure_future(self._is_gone.wait())
        watched: set[asyncio.Future[Any]] = {end, sending, collecting, gone}
        try:
            while True:
                done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                if end in done:
                    watched.discard(end)
                    if not end.cancelled() and end.exception() is None:
                        await self._take(end.result())
                    # Else nobody knows whether it has ended, unless it answers.
                if self._over is not None or collecting in done or gone in done:
                    break
                if sending in done:
                    sending.result()  # which it never has: it raises
            async with self._taking:  # what was taken must be applied
                await self._applied.wait()
            if self._over is not None:
                return Fate.ENDED if self._last_order is not None else Fate.EXPIRED, self._over.error
            return collecting.result() if collecting.done() else await self._parted(), b""
        finally:
            for task in (sending, collecting, gone):
                task.cancel()
            end.cancel()
            await asyncio.gather(sending, collecting, gone, return_exceptions=True)

    # ---- orders -------------------------------------------------------------------------------------------------

    def _undefined(self) -> list[Order]:
        parcels = self._definitions[self._defined :]
        self._defined += len(parcels)
        return [Define(parcel) for parcel in parcels]

    def _pack(self) -> None:
        """Put the orders that wait into letters."""
        waiting = self._orders[:]
        del self._orders[: len(waiting)]  # one step each under the interpreter's lock; others append at the other end
        for some, _ in in_letters(waiting, _size_of, LETTER_ORDERS):
            orders = self._undefined()
            ancestors: dict[int, bytes] = {}
            for ordered in some:
                ancestors.update(ordered.ancestors)
            if ancestors:
                orders.append(Ancestors(ancestors))
            orders += [ordered.run for ordered in some]
            self._outbox.write(encode_orders(orders))
        if self._is_finishing:
            assert self._last_order is not None
            self._is_finishing = False
            self._outbox.write(encode_orders([self._last_order]))

    async def _send(self) -> None:
        await self._met.wait()
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._pack()
            while letters := self._outbox.to_send():
                try:
                    await self._exchange(letters, -1, 0.0)
                except TransportError:
                    await asyncio.sleep(PAUSE_S)
                self._pack()

    # ---- reports ------------------------------------------------------------------------------------------------

    async def _collect(self, end: "asyncio.Future[list[Letter]]") -> Fate:
        """Hand on what the lane reports; return its fate once it has said that it is over, or is known to be gone."""
        while self._over is None:
            boot = self._boot  # empty: the question may be there before the lane
            try:
                answer = await self._exchange([], self._inbox.acknowledged, POLL_S)
            except TransportError:
                fate = await self._fate()
                if fate is not None:
                    return fate
                await asyncio.sleep(PAUSE_S)
                continue
            if boot and answer.process != self._process:
                return await self._parted()
            if boot and answer.boot != boot:
                if not end.done():  # its last letters come with its end
                    await asyncio.wait({end}, timeout=KEEPALIVE_S)
                if end.done() and not end.cancelled() and end.exception() is None:
                    await asyncio.Event().wait()
                return Fate.EXPIRED
            await self._take(answer.letters)
        return Fate.ENDED

    async def _exchange(self, letters: list[Letter], acknowledged: int, wait_s: float) -> Answer:
        answer = await self._transport.exchange(self.address, self.lane, letters, acknowledged, wait_s)
        self._heard_at = time.monotonic()
        if answer.is_leaving and not self.is_leaving:
            self.is_leaving = True
            self.on_leaving()
        if answer.boot and answer.boot == (self._boot or answer.boot):
            self._boot, self._process = answer.boot, answer.process
            self._met.set()
            self._outbox.acknowledge(answer.acknowledged)
        return answer

    async def _fate(self) -> Fate | None:
        """Tell what has become of the lane that doesn't answer; None if it may do so again."""
        try:
            members = await self._transport.members()
        except TransportError:
            members = {self.address: False}  # nobody knows
        if self.address not in members:
            return await self._parted()
        silent_s = time.monotonic() - self._heard_at
        return Fate.EXPIRED if silent_s > self._settings.lease_s + KEEPALIVE_S else None

    async def _parted(self) -> Fate:
        with suppress(TransportError):
            if not self.is_leaving and await self._transport.has_died(self.address):
                return Fate.LOST
        return Fate.LEFT

    async def _take(self, letters: list[Letter]) -> None:
        async with self._taking:
            contents = self._inbox.take(letters)
            if contents:
                await self._hand_over(contents)

    async def _hand_over(self, contents: list[bytes]) -> None:
        """Have the reports in `contents` applied, once those before have been; meanwhile the lane hears that all is well."""
        reports = [report for content in contents for report in decode_reports(content)]
        last = reports[-1]
        if isinstance(last, Over):
            self._over = last
            del reports[-1]
        while not self._applied.is_set():
            try:
                async with asyncio.timeout(KEEPALIVE_S):
                    await self._applied.wait()
            except TimeoutError:
                with suppress(TransportError):
                    await self._exchange([], -1, 0.0)
        self._applied.clear()
        self._apply(reports, lambda: self._call(self._applied.set))


def _size_of(ordered: Ordered) -> int:
    return ordered.size


def _do_nothing() -> None:
    pass
