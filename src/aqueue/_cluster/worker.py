"""The code that runs in a Dask worker: a task that runs a lane, and a handler that takes and returns letters."""

import asyncio
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import distributed
import msgspec
from msgspec.structs import asdict

from aqueue._cluster.lane import Lane
from aqueue._cluster.letters import Letter
from aqueue._cluster.messages import Answer, LaneSettings

__all__ = ["HANDLER", "register_handler", "run_lane"]

HANDLER: Final = "aqueue_exchange"
"""The name of the worker's handler."""

GATHERING_S: Final = 0.0005
"""How long the first report waits for others, seconds."""

_ARRIVAL_S: Final = 0.005

_PROCESS: Final = os.urandom(8).hex()
_lanes: Final[dict[str, Lane]] = {}


def register_handler(run_id: str, coordinator: str, dask_worker: Any) -> None:
    """Register the handler by which a worker takes letters, and end the lanes of earlier coordinators of the run.

    Those coordinators are gone, but their lanes would keep running until their lease expires.
    """
    for lane in list(_lanes.values()):
        if lane.run_id == run_id and lane.coordinator != coordinator:
            lane.abandon()
    dask_worker.handlers[HANDLER] = _exchange


def run_lane(settings: bytes) -> list[Letter]:
    """Run a lane until it ends; return the letters that were not acknowledged."""
    # A lane runs for long: it must not occupy one of the worker's few threads.
    distributed.secede()  # type: ignore[no-untyped-call]
    worker = distributed.get_worker()
    lane = Lane(
        msgspec.msgpack.decode(settings, type=LaneSettings),
        socket.gethostname(),
        lambda: worker.status.name in ("closing", "closed", "failed"),
    )
    _lanes[lane.name] = lane
    lane.run()
    if _lanes.get(lane.name) is lane:  # Dask may have started it again
        del _lanes[lane.name]
    return lane.last_letters()


async def _exchange(lane: str, letters: Sequence[Letter], acknowledged: int, wait_s: float) -> dict[str, Any]:
    """Hand `letters` to a lane; unless `acknowledged` is negative, wait for its own, and return them."""
    end = time.monotonic() + wait_s
    # It is asked for as soon as it is started, in a thread that knows nothing of this loop.
    while lane not in _lanes and time.monotonic() < end:  # noqa: ASYNC110  # for that reason
        await asyncio.sleep(_ARRIVAL_S)
    found = _lanes.get(lane)
    if found is None:
        return asdict(Answer(_PROCESS, "", 0, []))
    taken = found.deliver([(number, content) for number, content in letters])
    collected: list[Letter] = []
    if acknowledged >= 0:
        if wait_s and taken:
            await _wait_for_reports(found, wait_s)
        elif wait_s:  # a lane has no reports before its first order, which waits for this answer
            await asyncio.sleep(_ARRIVAL_S)
        collected = found.collect(acknowledged)
    return asdict(Answer(_PROCESS, found.incarnation, taken, collected))


async def _wait_for_reports(lane: Lane, wait_s: float) -> None:
    has_reports = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(has_reports.set)

    if not lane.on_report(wake):
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await has_reports.wait()
        lane.on_report(None)
    await asyncio.sleep(GATHERING_S)
