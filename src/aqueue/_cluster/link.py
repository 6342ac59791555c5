"""A link: the coordinator's end of the connection with one lane. It runs in the transport's event loop."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from aqueue._cluster import messages
from aqueue._cluster.letters import Inbox, Letter, Outbox
from aqueue._cluster.messages import Cancel, End, Run, encode
from aqueue._cluster.transport import Transport, TransportError

__all__ = ["Link"]

POLL_S: Final = 5.0
"""How long a request for reports waits in the worker before it is answered with none, seconds."""

KEEPALIVE_S: Final = 5.0

PAUSE_S: Final = 0.1
"""How long to wait before resending a message that got no answer, seconds."""


class Link:
    """Sends orders to a lane and passes on its reports, each exactly once, even if messages get lost.

    Attributes:
        address: the worker process's.
        settings: its own.
        inbox: what has come from it.
        task: runs it.
    """

    task: "asyncio.Task[Any]"

    def __init__(
        self,
        address: str,
        settings: messages.LaneSettings,
        transport: Transport,
        definitions: Sequence[bytes],
        apply: Callable[["Link", list[messages.Report], Callable[[], None]], None],
    ) -> None:
        """Make a link; `run` starts the lane.

        Parameters:
            definitions: sent to the lane in this order, before any item that is sent later; more may be appended.
            apply: applies reports, in the order of the calls, and calls back, in any thread, when they are applied.
        """
        self.address = address
        self.settings = settings
        self.inbox = Inbox()
        self._transport = transport
        self._definitions = definitions
        self._num_definitions_sent = 0
        self._apply = apply
        self._outbox = Outbox()
        self._orders: list[Run | Cancel | End] = []  # other threads append to it
        self._wake = asyncio.Event()
        self._applied = asyncio.Event()
        self._applied.set()
        self._has_begun = False
        self._has_answered = asyncio.Event()  # set once the lane has answered
        self._incarnation = self._process = ""
        self._heard_at = time.monotonic()
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lane_ended: messages.LaneEnded | None = None
        self._taking = asyncio.Lock()

    def send(self, order: Run | Cancel | End) -> None:
        """Queue an order to be sent; from any thread."""
        orders = self._orders
        orders.append(order)
        if len(orders) == 1:
            self._call(self._wake.set)

    def _call(self, function: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._transport.loop.call_soon_threadsafe(function)

    # ---- in the transport's loop --------------------------------------------------------------------------------

    def finish(self, order: Cancel | End) -> None:
        """Order the lane to end; nothing else is sent after that, but `Cancel` may follow `End`."""
        if self._has_begun:
            self.send(order)
        else:
            self.task.cancel()

    def give_up(self) -> None:
        """End the link: the lane's process has left the cluster."""
        if not self._has_begun:
            self.task.cancel()
        elif not self._gone.done():
            self._gone.set_result(None)

    async def run(self) -> tuple[bool, bytes]:
        """Start the lane, and serve it until it has ended or is gone.

        Returns:
            Whether its process has died by itself, and what the lane has raised, if anything.
        """
        self._has_begun = True
        self._write_definitions()
        self._outbox.write(encode(messages.Begin()))
        self._wake.set()
        end = asyncio.ensure_future(self._transport.run_lane(self.address, self.settings))
        sending = asyncio.ensure_future(self._send())
        collecting = asyncio.ensure_future(self._collect(end))
        watched: set[asyncio.Future[Any]] = {end, sending, collecting, self._gone}
        try:
            while self._lane_ended is None and not collecting.done() and not self._gone.done():
                done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                if sending in done:
                    sending.result()  # it never returns normally: this raises
                if end in done:
                    watched.discard(end)
                    if _has_letters(end):  # else only an answer of the lane tells whether it has ended
                        await self._take_letters(end.result())
            async with self._taking:  # apply what was taken
                await self._applied.wait()
            if self._lane_ended is not None:
                return False, self._lane_ended.error
            return collecting.result() if collecting.done() else await self._has_died(), b""
        finally:
            for task in (sending, collecting, end):
                task.cancel()
            await asyncio.gather(sending, collecting, end, return_exceptions=True)

    # ---- orders -------------------------------------------------------------------------------------------------

    def _write_definitions(self) -> None:
        for definitions in self._definitions[self._num_definitions_sent :]:
            self._num_definitions_sent += 1
            self._outbox.write(encode(messages.Define(definitions)))

    def _write_waiting_orders(self) -> None:
        """Write the definitions that are new, then the orders that wait."""
        waiting = self._orders[:]
        del self._orders[: len(waiting)]  # each step is atomic, and other threads append at the other end
        self._write_definitions()
        for order in waiting:
            self._outbox.write(encode(order))

    async def _send(self) -> None:
        await self._has_answered.wait()
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._write_waiting_orders()
            while letters := self._outbox.to_send():
                try:
                    await self._exchange(letters, -1, 0.0)
                except TransportError:
                    await asyncio.sleep(PAUSE_S)
                self._write_waiting_orders()

    # ---- reports ------------------------------------------------------------------------------------------------

    async def _collect(self, end: "asyncio.Future[list[Letter]]") -> bool:
        """Hand on the lane's reports until it has ended or is gone; return whether its process has died."""
        while self._lane_ended is None:
            incarnation = self._incarnation  # empty at first: the request may arrive before the lane has started
            try:
                answer = await self._exchange([], self.inbox.acknowledged, POLL_S)
            except TransportError:
                if await self._has_left():
                    return await self._has_died()
                if time.monotonic() - self._heard_at > self.settings.lease_s + KEEPALIVE_S:
                    return False
                await asyncio.sleep(PAUSE_S)
                continue
            if incarnation and answer.process != self._process:
                return await self._has_died()
            if incarnation and answer.incarnation != incarnation:
                if not end.done():  # its last letters come with its end
                    await asyncio.wait({end}, timeout=KEEPALIVE_S)
                if _has_letters(end):
                    await asyncio.Event().wait()
                return False
            await self._take_letters(answer.letters)
        return False

    async def _exchange(self, letters: list[Letter], acknowledged: int, wait_s: float) -> messages.Answer:
        answer = await self._transport.exchange(self.address, self.settings.lane, letters, acknowledged, wait_s)
        self._heard_at = time.monotonic()
        if answer.incarnation and answer.incarnation == (self._incarnation or answer.incarnation):
            self._incarnation, self._process = answer.incarnation, answer.process
            self._has_answered.set()
            self._outbox.acknowledge(answer.acknowledged)
        return answer

    async def _has_left(self) -> bool:
        with suppress(TransportError):  # else nobody knows
            return self.address not in await self._transport.members()
        return False

    async def _has_died(self) -> bool:
        with suppress(TransportError):
            return await self._transport.has_died(self.address)
        return False

    async def _take_letters(self, letters: list[Letter]) -> None:
        """Have the reports in `letters` applied, once those before have been."""
        async with self._taking:
            contents = self.inbox.take(letters)
            reports = [report for content in contents for report in messages.decode_reports(content)]
            if reports and isinstance(reports[-1], messages.LaneEnded):
                self._lane_ended = reports[-1]
            if reports:
                await self._wait_until_applied()
                self._applied.clear()
                self._apply(self, reports, lambda: self._call(self._applied.set))

    async def _wait_until_applied(self) -> None:
        """Wait until earlier reports are applied, and meanwhile keep the lane's lease alive."""
        while not self._applied.is_set():
            try:
                async with asyncio.timeout(KEEPALIVE_S):
                    await self._applied.wait()
            except TimeoutError:
                with suppress(TransportError):
                    await self._exchange([], -1, 0.0)


def _has_letters(end: "asyncio.Future[list[Letter]]") -> bool:
    return end.done() and not end.cancelled() and end.exception() is None
