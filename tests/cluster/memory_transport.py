"""A cluster in this process: lanes in threads, reached by messages that get lost, come twice, late and out of order."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from random import Random

import pytest

from aqueue._cluster.lane import Lane
from aqueue._cluster.letters import Letter
from aqueue._cluster.messages import Answer, LaneSettings
from aqueue._cluster.transport import TransportError

__all__ = ["MemoryTransport"]


class _Process:
    """What stands for a worker process: one lane at a time, until it is killed."""

    def __init__(self) -> None:
        self.lane: Lane | None = None
        self.thread: threading.Thread | None = None


class MemoryTransport:
    """See `aqueue._cluster.transport.Transport`.

    Attributes:
        faults: of how many messages something becomes that should not, from 0 to 1.
        loses_ends: whether what a lane leaves at its end never arrives.
        is_cut: whether nothing gets through at all.
        is_silent: whether the scheduler does not answer.
        dies: whether processes that are killed have died by themselves, and were not told to leave.
        counts: how often which fault came, and what else was refused.
    """

    def __init__(self, random: Random, processes: int = 2, *, faults: float = 0.0, loses_ends: bool = False) -> None:
        self.address = "memory://"
        self.faults = faults
        self.loses_ends = loses_ends
        self.is_cut = False
        self.is_silent = False
        self.dies = True
        self.counts: Counter[str] = Counter()
        self._random = random
        self._processes: dict[str, _Process] = {}
        self._all: list[_Process] = []
        self._late: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._last = 0
        for _ in range(processes):
            self.join()

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have runs with a cluster use this one, whatever its address."""

        def make(cluster: object, *, allow_insecure: bool) -> MemoryTransport:
            return self

        monkeypatch.setattr("aqueue._cluster.link.PAUSE_S", 0.005)
        monkeypatch.setattr("aqueue._cluster.dask_transport.DaskTransport", make)

    # ---- what may happen to it; from any thread -------------------------------------------------------------------

    def join(self) -> str:
        """Add a process, and return its address."""
        self._last += 1
        address = f"memory://{self._last}"
        self._processes[address] = process = _Process()
        self._all.append(process)
        return address

    def kill(self, address: str) -> None:
        """End a process; what runs in it goes on until the run is over, but nobody will hear of it."""
        del self._processes[address]

    def here(self) -> str:
        """Return the address of the process whose lane's thread this is, or which it was."""
        process = next(one for one in self._all if one.thread is threading.current_thread())
        return next((address for address, one in self._processes.copy().items() if one is process), "")

    @property
    def addresses(self) -> list[str]:
        """Those of the processes that are there."""
        return list(self._processes)

    # ---- the transport --------------------------------------------------------------------------------------------

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None
        return self._loop

    def open(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="memory transport")
        self._thread.start()

    def close(self) -> None:
        assert self._loop is not None and self._thread is not None
        asyncio.run_coroutine_threadsafe(self._settle(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for process in self._all:
            if process.lane is not None and process not in self._processes.values():
                process.lane.abandon()
        for process in self._all:
            if process.thread is not None:
                process.thread.join()

    async def _settle(self) -> None:
        while self._late:
            await asyncio.wait(self._late)

    async def has_died(self, address: str) -> bool:
        return self.dies

    async def reconnect(self) -> None:
        pass

    async def members(self) -> Mapping[str, bool]:
        if self.is_cut or self.is_silent:
            self.counts["the scheduler is silent"] += 1
            raise TransportError("the scheduler is silent")
        if self._comes("no answer from the scheduler"):
            raise TransportError("no answer from the scheduler")
        return dict.fromkeys(self._processes.copy(), True)

    async def prepare(self, address: str, settings: LaneSettings) -> str:
        lane = self._process(address).lane
        if lane is not None and lane.coordinator != settings.coordinator:
            lane.abandon()
        return ""

    async def run_lane(self, address: str, settings: LaneSettings) -> list[Letter]:
        end: asyncio.Future[list[Letter]] = self.loop.create_future()
        process = self._processes.get(address)
        if process is None:
            raise TransportError("the process is gone")

        def run(lane: Lane) -> None:
            lane.run()
            self._call(partial(self._end, end, address, process, lane.last_letters()))

        process.lane = Lane(settings, "memory")
        process.thread = threading.Thread(target=run, args=(process.lane,), name=settings.lane)
        process.thread.start()
        return await end

    def _end(self, end: "asyncio.Future[list[Letter]]", address: str, process: _Process, left: list[Letter]) -> None:
        if end.done():
            return
        if self.loses_ends or self.is_cut or self._processes.get(address) is not process:
            end.set_exception(TransportError("the end of the lane is lost"))
        else:
            end.set_result(left)

    async def exchange(
        self, address: str, lane: str, letters: list[Letter], acknowledged: int, wait_s: float
    ) -> Answer:
        if self._comes("a message is lost"):
            await asyncio.sleep(self._random.random() / 500)
            raise TransportError("the message is lost")
        if self._comes("a message comes late, too"):
            late = asyncio.ensure_future(self._later(address, lane, letters))
            self._late.add(late)
            late.add_done_callback(self._late.discard)
        await asyncio.sleep(self._random.random() / 1_000)
        answer = await self._answer(address, lane, letters, acknowledged, wait_s)
        if self._comes("an answer is lost"):
            raise TransportError("the answer is lost")
        return answer

    async def _later(self, address: str, lane: str, letters: list[Letter]) -> None:
        await asyncio.sleep(self._random.random() / 50)
        process = self._processes.get(address)
        if process is not None and process.lane is not None and process.lane.name == lane:
            process.lane.deliver(letters)

    async def _answer(self, address: str, name: str, letters: list[Letter], acknowledged: int, wait_s: float) -> Answer:
        process = self._process(address)
        lane = process.lane
        if lane is None or lane.name != name:
            return Answer(address, "", 0, [])
        taken = lane.deliver(letters)
        collected: list[Letter] = []
        if acknowledged >= 0:
            there_are = asyncio.Event()
            if taken and not lane.on_report(lambda: self._call(there_are.set)):
                try:
                    async with asyncio.timeout(min(wait_s, 0.2)):
                        await there_are.wait()
                except TimeoutError:
                    pass
                lane.on_report(None)
            self._process(address)
            collected = lane.collect(acknowledged)
        return Answer(address, lane.incarnation, taken, collected)

    def _call(self, function: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the run is over
            self.loop.call_soon_threadsafe(function)

    def _process(self, address: str) -> _Process:
        process = self._processes.get(address)
        if process is None or self.is_cut:
            raise TransportError("the process does not answer")
        return process

    def _comes(self, fault: str) -> bool:
        comes = self._random.random() < self.faults
        if comes:
            self.counts[fault] += 1
        return comes
