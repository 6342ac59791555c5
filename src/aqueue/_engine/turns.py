"""Turns on the event loop: items that never await must not keep it to themselves."""

from time import monotonic
from typing import Final

from anyio.lowlevel import checkpoint

from aqueue._engine.attempt import Attempt

__all__ = ["SLICE_S", "Turns"]

SLICE_S: Final = 0.005
"""How long items that never await may keep the event loop to themselves, seconds (and one item per worker more)."""


class Turns:
    """The time slice that all workers share.

    The first worker to find it used up leads: until it is back from one round of the loop, the others run one item each, and
    then it begins the next slice. So a round of the loop takes one slice and one item per worker, however many there are.

    Attributes:
        slice_end: when the slice ends, by the monotonic clock; long ago while the leader is away.
        latest: the attempt that was started last.
    """

    def __init__(self) -> None:
        self.slice_end = _LONG_AGO
        self.latest: Attempt | None = None
        self._is_led = False

    async def give_way(self, attempt: Attempt) -> None:
        """Let everything else in the loop run, if `attempt`, which has ended, has not done so by awaiting."""
        leads = not self._is_led
        if leads and self.latest is not attempt:
            # Other attempts were started during this one, so it has awaited: a new slice begins. Without this, of 200
            # workers that wake at one time each would go round the loop once more for every item.
            self.slice_end = monotonic() + SLICE_S
            return
        self._is_led = True
        self.slice_end = _LONG_AGO
        await checkpoint()
        if leads:
            self._is_led = False
            self.slice_end = monotonic() + SLICE_S


_LONG_AGO: Final = float("-inf")
