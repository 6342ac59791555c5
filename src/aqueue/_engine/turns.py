"""Turns of the event loop: items that never await must not block it."""

from time import monotonic
from typing import Final

from anyio.lowlevel import checkpoint

from aqueue._engine.attempt import Attempt

__all__ = ["SLICE_S", "Turns"]

SLICE_S: Final = 0.005
"""How long items that never await may block the event loop, seconds (plus one item per worker)."""


class Turns:
    """The time slice that all workers share.

    The first worker that finds it used up becomes the leader: it lets the event loop do one round. Meanwhile each other worker
    runs one item and then waits too. When the leader is back, it begins the next slice. So a round of the event loop takes
    one slice and one item per worker, however many workers there are.

    Attributes:
        slice_end: when the slice ends, by the monotonic clock; in the past during the leader's round.
        latest: the attempt that was started last.
    """

    def __init__(self) -> None:
        self.slice_end = _LONG_AGO
        self.latest: Attempt | None = None
        self._is_led = False

    async def give_way(self, attempt: Attempt) -> None:
        """Let everything else in the event loop run, unless `attempt`, which has ended, did so itself by awaiting."""
        leads = not self._is_led
        if leads and self.latest is not attempt:
            # Other attempts started during this one, so it has awaited, and a new slice begins. Without this, each of 200
            # workers that wake at the same time would do an extra round of the loop per item.
            self.slice_end = monotonic() + SLICE_S
            return
        self._is_led = True
        self.slice_end = _LONG_AGO
        await checkpoint()
        if leads:
            self._is_led = False
            self.slice_end = monotonic() + SLICE_S


_LONG_AGO: Final = float("-inf")
