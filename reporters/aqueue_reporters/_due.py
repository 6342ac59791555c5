"""How the displays say when the next retry is due."""

import math

__all__ = ["when_due"]


def when_due(due: float, now: float) -> str:
    """Return how a person says at the Unix time `now` that something may start at `due`: ``in 12 s``, or ``now``."""
    seconds = math.ceil(due - now)
    if seconds <= 0:
        return "now"
    if seconds < 100:
        return f"in {seconds} s"
    minutes = math.ceil(seconds / 60)
    return f"in {minutes} min" if minutes < 100 else f"in {math.ceil(minutes / 60)} h"
