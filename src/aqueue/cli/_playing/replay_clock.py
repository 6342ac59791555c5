"""The clock of a replay: gives the time of the recorded run, which can run faster or slower, or pause."""

import math
import time
from collections.abc import Callable

__all__ = ["ReplayClock"]


class ReplayClock:
    """A clock for the time of the replayed run, which can go faster or slower than real time, or stand still.

    Called, it returns Unix time in seconds.

    Attributes:
        speed: how many times as fast as real time it goes; infinite for a clock that is only ever set.
        is_paused: whether a person has stopped it.
        is_held: whether it stands still between two processes of the run.
    """

    def __init__(self, speed: float = 1.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Make a clock that stands at 0.

        Parameters:
            speed: how many times as fast as the real time it goes, above 0.
            monotonic: the real time, seconds.
        """
        self.speed = speed
        self.is_paused = False
        self.is_held = False
        self._monotonic = monotonic
        self._at = 0.0
        self._since = monotonic()

    def __call__(self) -> float:
        """Return what time it is in the run."""
        if self.is_paused or self.is_held or math.isinf(self.speed):
            return self._at
        return self._at + (self._monotonic() - self._since) * self.speed

    def set(
        self,
        at: float | None = None,
        *,
        speed: float | None = None,
        is_paused: bool | None = None,
        is_held: bool | None = None,
    ) -> None:
        """Continue from the time `at`, by default the current one, with the attributes that are given changed."""
        self._at = self() if at is None else at
        self._since = self._monotonic()
        self.speed = self.speed if speed is None else speed
        self.is_paused = self.is_paused if is_paused is None else is_paused
        self.is_held = self.is_held if is_held is None else is_held

    def seconds_to(self, at: float) -> float:
        """Return how long it is until the time `at`, in real seconds, at the current speed; infinite if it stands still."""
        if self.is_paused or self.is_held:
            return math.inf
        return 0.0 if math.isinf(self.speed) else (at - self()) / self.speed
