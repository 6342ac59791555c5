"""Counts, rates and times for a person to read, the same in every display and in the command."""

import math
import time
from itertools import pairwise
from typing import Final

__all__ = [
    "amount",
    "clock",
    "duration",
    "limit_words",
    "local_minute",
    "local_second",
    "per_second",
    "person",
    "time_ago",
    "when_due",
]

_MAX_SECONDS: Final = 1e12
"""30,000 years: only a damaged file has longer durations."""

_UNITS: Final = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"))


def amount(number: int) -> str:
    """Return `number`, a count, as text: ``1,234``."""
    return f"{number:,}"


def per_second(rate: float) -> str:
    """Return `rate`, in items per second, as text, with a decimal if it is below 100: ``0.5``, ``1,234``."""
    return f"{rate:,.0f}" if rate >= 99.95 else f"{rate:.1f}"


def limit_words(concurrent: int | None, per_second: float | None) -> str:
    """Return the limit of a group as text: ``2 at once, 0.5/s``.

    Parameters:
        concurrent: how many of its items may run at once; None for any number.
        per_second: how many of its items may start in any one second; None for any number.
    """
    words = []
    if concurrent is not None:
        words.append(f"{amount(concurrent)} at once")
    if per_second is not None:
        words.append(f"{per_second:g}/s")
    return ", ".join(words)


def person(by: str) -> str:
    """Return who gave a command, without how: ``anna@laptop`` if `by` is ``anna@laptop via aqueue``. Not made safe to show."""
    return by.partition(" via ")[0]


def local_minute(at: float, now: float) -> str:
    """Return the Unix time `at`, seconds, as local time: ``14:03``, with the date before it if `now` is on another day.

    ``?`` if no calendar has it.
    """
    return _local(at, now, "%H:%M")


def local_second(at: float, now: float) -> str:
    """Return the Unix time `at`, seconds, as local time to the second: ``14:03:22``, with the date as `local_minute` has it.

    Parameters:
        at: the moment.
        now: the present Unix time, seconds.
    """
    return _local(at, now, "%H:%M:%S")


def _local(at: float, now: float, form: str) -> str:
    try:
        moment = time.strftime(f"%Y-%m-%d {form}", time.localtime(at))
        return moment[11:] if moment[:10] == time.strftime("%Y-%m-%d", time.localtime(now)) else moment
    except (OverflowError, OSError, ValueError):
        return "?"


def clock(seconds: float) -> str:
    """Return a duration as a clock shows it, in whole seconds: ``0:07``, ``12:34``, ``1:02:03``, ``2d 03:04:05``.

    Parameters:
        seconds: the duration, seconds; a negative one counts as 0.
    """
    minutes, s = divmod(int(min(max(seconds, 0.0), _MAX_SECONDS)), 60)
    hours, m = divmod(minutes, 60)
    if not hours:
        return f"{m}:{s:02}"
    days, h = divmod(hours, 24)
    return f"{days}d {h:02}:{m:02}:{s:02}" if days else f"{h}:{m:02}:{s:02}"


def duration(seconds: float) -> str:
    """Return how long something took, in about three figures or its two largest units.

    ``250 µs``, ``3.2 ms``, ``0.25 s``, ``12.3 s``, ``2 min 5 s``, ``3 h 20 min``, ``4 d 1 h``.

    Parameters:
        seconds: the duration, seconds; 0 and less give ``0 s``.
    """
    if not seconds < _MAX_SECONDS:
        return f"{seconds:.3g} s"  # from a damaged log
    if seconds < 0.000_999_5:
        return f"{seconds * 1e6:.0f} µs" if seconds > 0 else "0 s"
    if seconds < 0.099_95:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    left = round(seconds) if seconds < 3_570 else round(seconds / 60) * 60 if seconds < 86_370 else seconds
    for (size, name), (below, name_below) in pairwise(_UNITS):
        if left >= size:
            whole, rest = divmod(left, size)
            return f"{whole:,.0f} {name} {int(rest // below)} {name_below}"
    return f"{left:.0f} s"


def when_due(due: float, now: float) -> str:
    """Return when something may start that is due at the Unix time `due`, seen from `now`: ``in 12 s``, or ``now``."""
    if due <= now:
        return "now"
    seconds = math.ceil(min(due - now, _MAX_SECONDS))
    if seconds < 100:
        return f"in {seconds} s"
    minutes = math.ceil(seconds / 60)
    return f"in {minutes} min" if minutes < 100 else f"in {math.ceil(minutes / 60)} h"


def time_ago(seconds: float) -> str:
    """Return how long ago something was, `seconds`, in whole seconds or its two largest units: ``9 s ago``, ``3 min 9 s ago``."""
    return f"{max(int(seconds), 0)} s ago" if seconds < 60 else f"{duration(int(seconds))} ago"
