"""How fast a run goes and how long it will still take, the same in every display."""

from collections.abc import Callable
from typing import Final

from aqueue.events import Counts
from aqueue.figures import clock, duration, per_second
from aqueue.view import RunView

__all__ = ["RunClock", "rate_text", "time_left_s", "time_taken"]

_EARLY_S: Final = 3.0
_FEW_PER_S: Final = 1.0
_SLOW_PER_S: Final = 0.095
"""Less than one item in the ten seconds and a half of which a rate may be taken: so that doesn't go back and forth."""


def rate_text(rate: float) -> str:
    """Return a rate in items a second with its unit, ``12.3/s``, or, of slow items, a minute: ``3.0/min``."""
    return f"{per_second(rate * 60)}/min" if 0 < rate < _SLOW_PER_S else f"{per_second(rate)}/s"


def time_taken(seconds: float) -> str:
    """Return how long a run took: below a minute with a fraction, ``8.25 s``, beyond as a clock: ``12:34``."""
    return duration(seconds) if seconds < 59.95 else clock(round(seconds))


def time_left_s(counts: Counts, done: float, found: float, view: RunView, now: float) -> float | None:
    """Return in how many seconds what is outstanding of `counts` will be done, at least 1; None if that can't be told.

    That is so in the first seconds, and while as many items are found as are done. It is not less than until the next retry
    is due, since the run will not end before. Of slow items, the few seconds of the present speeds may have seen none; then
    the whole run tells more.

    Parameters:
        counts: of the whole run, or of its overall progress.
        done, found: how many of these items are done and found now, per second.
        view, now: the run at that Unix time.
    """
    elapsed_s = view.elapsed_s(now)
    if done < _FEW_PER_S and not found and elapsed_s > 0:
        done = counts.completed / elapsed_s
    if not counts.outstanding or done <= found or now - view.started_at < _EARLY_S:
        return None
    due_s = view.next_due - now if view.waiting else 0.0
    return max(counts.outstanding / done, due_s, 1.0)


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
