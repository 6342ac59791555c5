"""Counts, rates and times as a person reads them: what every display and the command write alike."""

import math

__all__ = ["amount", "clock", "duration", "per_second", "when_due"]

_MAX_SECONDS = 1e12
"""30,000 years: what a spoiled file may say beyond that is no duration."""


def amount(number: int) -> str:
    """Return a count: ``1,234``."""
    return f"{number:,}"


def per_second(rate: float) -> str:
    """Return a rate in items a second, with a decimal where that tells something: ``0.5``, ``1,234``."""
    return f"{rate:,.0f}" if rate >= 99.95 else f"{rate:.1f}"


def clock(seconds: float) -> str:
    """Return a time in seconds as a clock shows it, whole seconds: ``0:07``, ``12:34``, ``1:02:03``, ``2d 03:04:05``.

    A negative one counts as 0.
    """
    minutes, s = divmod(int(min(max(seconds, 0.0), _MAX_SECONDS)), 60)
    hours, m = divmod(minutes, 60)
    if not hours:
        return f"{m}:{s:02}"
    days, h = divmod(hours, 24)
    return f"{days}d {h:02}:{m:02}:{s:02}" if days else f"{h}:{m:02}:{s:02}"


def duration(seconds: float) -> str:
    """Return how long something took, in three figures or so: ``480 µs``, ``25.1 ms``, ``3.42 s``, ``12:34``.

    Parameters:
        seconds: a negative one counts as 0.
    """
    seconds = max(seconds, 0.0)
    if seconds >= 99.95:
        return clock(seconds)
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= 0.9995 * size or unit == "µs":
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:.3g} {unit}"
    raise AssertionError("the last unit takes what is left")


def when_due(due: float, now: float) -> str:
    """Return how a person says at the Unix time `now` that something may start at `due`: ``in 12 s``, or ``now``."""
    seconds = math.ceil(min(due - now, _MAX_SECONDS))
    if seconds <= 0:
        return "now"
    if seconds < 100:
        return f"in {seconds} s"
    minutes = math.ceil(seconds / 60)
    return f"in {minutes} min" if minutes < 100 else f"in {math.ceil(minutes / 60)} h"
