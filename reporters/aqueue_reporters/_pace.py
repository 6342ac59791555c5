"""How fast a run goes and how long it will still take, the same in every display."""

from collections.abc import Callable
from typing import Final

from aqueue.events import Counts
from aqueue.figures import clock, duration, per_second
from aqueue.view import RunView

__all__ = ["RunClock", "rate_text", "time_left_s", "time_taken"]

_EARLY_S: Final = 1.0
_EARLY_GROWING_S: Final = 3.0
"""How long a process must have run before it has a time left: a little longer while items are found, in bursts."""

_FEW_PER_S: Final = 1.0
_SLOW_PER_S: Final = 0.095
"""Less than one item in 10.5 s, the longest time over which a rate is taken, so that the unit doesn't flip back and forth."""


def rate_text(rate: float) -> str:
    """Return a rate in items per second with its unit, ``12.3/s``, or, for slow items, per minute: ``3.0/min``."""
    return f"{per_second(rate * 60)}/min" if 0 < rate < _SLOW_PER_S else f"{per_second(rate)}/s"


def time_taken(seconds: float) -> str:
    """Return how long a run took: under a minute as seconds, ``8.25 s``, above as a clock, ``12:34``."""
    return duration(seconds) if seconds < 59.95 else clock(round(seconds))


def time_left_s(counts: Counts, rate: float, found: float, view: RunView, now: float) -> float | None:
    """Return in how many seconds the outstanding items of `counts` will have completed, at least 1; None if unknown.

    While items are found, it is the least that it can be: that of the items that are known. It is unknown in the first second
    or, while items are found, in the first three, and while a person has paused the run. It is at least the time until the next retry, since the run can't end before
    that. If items are slow, none may have completed in the last few seconds, over
    which rates are taken; then the average of the whole run is used.

    Parameters:
        counts: of the whole run, or of its overall progress.
        rate, found: how many of these items complete and are found now, per second.
        view, now: the run at that Unix time.
    """
    elapsed_s = view.elapsed_s(now)
    if rate < _FEW_PER_S and not found and elapsed_s > 0:
        rate = counts.completed / elapsed_s
    early_s = _EARLY_GROWING_S if found else _EARLY_S
    is_paused = view.in_force.paused is not None
    if not counts.outstanding or not rate or is_paused or now - view.started_at < early_s:
        return None
    due_s = view.next_due - now if view.waiting else 0.0
    return max(counts.outstanding / rate, due_s, 1.0)


class RunClock:
    """Tells the time of a run: that of a clock, but never before the run's last event.

    The times of events never decrease. If the clock is behind the last event, since it was set back or is another machine's,
    elapsed times would stand still and a wait of a second would look hours long.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Go by `clock`, which tells the Unix time in seconds."""
        self._clock = clock
        self._seq = 0
        self._behind_s = 0.0

    def now(self, view: RunView) -> float:
        """Return the time, in Unix seconds, for `view`, the run as it is at this moment."""
        now = self._clock()
        if view.seq != self._seq:
            self._seq = view.seq
            self._behind_s = max(view.at - now, 0.0)
        return max(now + self._behind_s, view.at)
