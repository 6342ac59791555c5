"""The clock of a run."""

import time
from typing import Final

__all__ = ["Clock"]

CLOCK_STEP_S: Final = 0.1
"""How far the wall clock must be ahead before this one follows it, seconds."""


class Clock:
    """Unix time that never decreases: the monotonic clock plus an `offset` that only grows.

    The time is ``time.monotonic() + clock.offset``; the hot path writes that out instead of calling a method.
    """

    __slots__ = ("offset",)

    def __init__(self) -> None:
        self.offset = time.time() - time.monotonic()

    def follow_wall_clock(self) -> None:
        """Grow the offset if the wall clock is ahead (after a laptop has slept).

        Call it on one thread only: two that see the same jump would both add it.
        """
        before = time.monotonic()
        wall = time.time()
        if time.monotonic() - before < CLOCK_STEP_S / 10:  # otherwise this thread was held up in between
            offset = wall - before
            if offset - self.offset > CLOCK_STEP_S:
                self.offset = offset
