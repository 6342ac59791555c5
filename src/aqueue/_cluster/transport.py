"""The protocol of a transport: what carries letters to lanes and back, and knows the worker processes of a cluster."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from aqueue._cluster.letters import Letter
from aqueue._cluster.messages import Answer, LaneSettings

__all__ = ["Transport", "TransportError"]


class TransportError(Exception):
    """The worker process, the scheduler or the network did not answer. The call may be tried again."""


class Transport(Protocol):
    """Reaches the worker processes of a cluster. All but `open` and `close` are called in its own event loop, asyncio's.

    Attributes:
        address: the scheduler's.
    """

    address: str

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Its event loop, which runs in a thread of its own."""
        ...

    def open(self) -> None:
        """Connect; blocks.

        Raises:
            ClusterError: that is not possible, or a worker process that is there can't be used.
        """
        ...

    def close(self) -> None:
        """Disconnect; blocks, a few seconds at the most."""
        ...

    async def members(self) -> Mapping[str, bool]:
        """Return the addresses of the worker processes, each with whether it takes new work.

        Raises:
            TransportError: the scheduler does not answer.
        """
        ...

    async def has_died(self, address: str) -> bool:
        """Return whether a worker process that is gone has died, as opposed to being asked to leave.

        Raises:
            TransportError: the scheduler does not answer.
        """
        ...

    async def reconnect(self) -> None:
        """Try once to connect again, if the connection is lost.

        Raises:
            TransportError: it can't be done now.
        """
        ...

    async def prepare(self, address: str, settings: LaneSettings) -> str:
        """Make a worker process ready for a lane; return what is wrong with it, empty if nothing is.

        Lanes of the run that are still there, of an earlier coordinator, have to end.

        Raises:
            TransportError: it does not answer.
        """
        ...

    async def run_lane(self, address: str, settings: LaneSettings) -> list[Letter]:
        """Run a lane until it ends, and return the letters that were not acknowledged by then.

        Raises:
            TransportError: they won't be known.
        """
        ...

    async def exchange(
        self, address: str, lane: str, letters: list[Letter], acknowledged: int, wait_s: float
    ) -> Answer:
        """Hand `letters` to a lane; unless `acknowledged` is negative, wait up to `wait_s` seconds for its own letters.

        Raises:
            TransportError: no answer came. The letters may have been taken.
        """
        ...
