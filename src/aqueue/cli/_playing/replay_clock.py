"""The clock of a replay: gives the time of the recorded run, which can run faster or slower, or pause."""

import math
import time
from collections.abc import Callable

__all__ = ["ReplayClock"]


class ReplayClock:
    """Tells the time of the run that is replayed, which goes faster or slower than the real one and can stand still.

    Called, it returns Unix time in seconds.
    """

    def __init__(self, speed: float = 1.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Make a clock that stands at 0.

        Parameters:
            speed: how many times as fast as the real time it goes, above 0; infinite for one that is only ever set.
            monotonic: the real time, seconds.
        """
        self._speed = speed
        self._monotonic = monotonic
        self._at = 0.0
        self._since = monotonic()
        self._is_paused = False
        self._is_held = False

    def __call__(self) -> float:
        """Return what time it is in the run."""
        if self._is_paused or self._is_held or math.isinf(self._speed):
            return self._at
        return self._at + (self._monotonic() - self._since) * self._speed

    def set(self, at: float) -> None:
        """Go on from the time `at`."""
        self._at = at
        self._since = self._monotonic()

    @property
    def speed(self) -> float:
        """How many times as fast as the real time it goes."""
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        self.set(self())
        self._speed = speed

    @property
    def is_paused(self) -> bool:
        """Whether a person has stopped it."""
        return self._is_paused

    @is_paused.setter
    def is_paused(self, is_paused: bool) -> None:
        self.set(self())
        self._is_paused = is_paused

    @property
    def is_held(self) -> bool:
        """Whether it stands still although nobody has stopped it: between two processes of the run."""
        return self._is_held

    @is_held.setter
    def is_held(self, is_held: bool) -> None:
        self.set(self())
        self._is_held = is_held

    def seconds_to(self, at: float) -> float:
        """Return how long it is until the time `at`, in real seconds, if it goes on as now; infinite if it stands still."""
        if self._is_paused or self._is_held:
            return math.inf
        return 0.0 if math.isinf(self._speed) else (at - self()) / self._speed
