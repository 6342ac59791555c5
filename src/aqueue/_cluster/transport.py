"""The protocol of a transport: what carries letters to lanes and back, and knows the worker processes of a cluster."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from aqueue._cluster.letters import Letter
from aqueue._cluster.messages import Answer, LaneSettings

__all__ = ["Transport", "TransportError"]


class TransportError(Exception):
    """A worker process, the scheduler or the network did not answer. The call can be retried."""


class Transport(Protocol):
    """Reaches the worker processes of a cluster. All methods but `open` and `close` are called in its asyncio event loop.

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
            ClusterError: it can't connect, or a worker process can't be used.
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
        """Return whether a worker process that is gone has died, rather than been told to leave.

        Raises:
            TransportError: the scheduler does not answer.
        """
        ...

    async def reconnect(self) -> None:
        """Reconnect if the connection is lost; one try.

        Raises:
            TransportError: the try failed.
        """
        ...

    async def prepare(self, address: str, settings: LaneSettings) -> str:
        """Prepare a worker process for a lane; return what is wrong with it, empty if nothing is.

        Lanes that an earlier coordinator of the run has left there are ended.

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
