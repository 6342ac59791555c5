"""The clock of a run."""

import time
from typing import Final

__all__ = ["Clock"]

CLOCK_STEP_S: Final = 0.1
"""By how much the wall clock must be ahead, seconds, before this one follows it."""


class Clock:
    """Unix time that never decreases: the monotonic clock and an `offset` that only ever grows.

    The time is ``time.monotonic() + clock.offset``; where every nanosecond counts, that is written out.
    """

    __slots__ = ("offset",)

    def __init__(self) -> None:
        self.offset = time.time() - time.monotonic()

    def follow_wall_clock(self) -> None:
        """Grow the offset where the wall clock has got ahead of the monotonic one (a laptop that slept).

        On one thread only: two that see the same jump would both add it.
        """
        before = time.monotonic()
        wall = time.time()
        if time.monotonic() - before < CLOCK_STEP_S / 10:  # else this thread was held up in between
            offset = wall - before
            if offset - self.offset > CLOCK_STEP_S:
                self.offset = offset
