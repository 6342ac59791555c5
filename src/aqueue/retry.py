"""Retry: whether and when an item whose method raised is tried again."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from time import time

import msgspec

from aqueue._arguments import SECONDS, WHOLE_NUMBER, check_number, not_allowed
from aqueue.errors import AqueueError, InvalidArgument, StrayCancellation
from aqueue.text import visible_repr

__all__ = ["Retry", "RetryAfter", "parse_retry_after"]


class RetryAfter(Exception):
    """Raised by an item that wants to be tried again, and not before some time has passed (a server said so, say).

    It counts as one of the attempts that the item's `Retry` allows; without one, of 5. Such a class must raise it before
    it enqueues anything. The wait is the one given here, whatever the policy's `Retry.max_s` is.

    Attributes:
        seconds: how long to wait, at least.

    What to do: nothing, as long as the item is tried again. It fails with this error after its last attempt: allow more
    attempts by ``Retry(attempts=…)``, or slow the whole group down, by `aqueue.slow_down` or a `Limit`.
    """

    def __init__(self, seconds: float) -> None:
        """Ask for another attempt after a wait.

        Parameters:
            seconds: how long to wait, at least; from 0 to a year (31,536,000). `parse_retry_after` never returns more.

        Raises:
            InvalidArgument: `seconds` is out of range, or no number.
        """
        check_number("RetryAfter(seconds=…)", seconds, 0, kind=SECONDS)
        super().__init__(seconds)
        self.seconds: float = float(seconds)

    def __str__(self) -> str:
        return f"asked to be tried again after {self.seconds:g} s"


def parse_retry_after(
    value: str | None, *, default_s: float = 30.0, max_s: float = 3_600.0, now: float | None = None
) -> float:
    """Return how many seconds an HTTP ``Retry-After`` header asks for, from 0 to `max_s`.

    Both forms are read, seconds and a date (RFC 9110, section 10.2.3).

    Parameters:
        value: the header's value; None if there was none.
        default_s: what is returned if there is none, or if it can't be read; seconds, from 0 to a year, by default 30.
        max_s: the most that is returned, whatever the server says; seconds, from 0 to a year, by default 3,600, an hour.
        now: the Unix time, seconds, from which a date is counted, the server's own ``Date`` for instance; None, the
            default, for this machine's.

    Returns:
        The seconds to wait; 0 for a date that is past.

    Raises:
        InvalidArgument: an argument is not of its type, or out of its range.
    """
    if value is not None and not isinstance(value, str):
        raise not_allowed("parse_retry_after(value=…)", value, "the header's value, a string, or None")
    check_number("parse_retry_after(default_s=…)", default_s, 0, kind=SECONDS)
    check_number("parse_retry_after(max_s=…)", max_s, 0, kind=SECONDS)
    check_number("parse_retry_after(now=…)", now, 0, kind=f"a Unix time, {SECONDS}", or_none=True)
    text = "" if value is None else value.strip()
    if text.isascii() and text.isdigit():
        digits = text.lstrip("0") or "0"
        return min(float(digits), max_s) if len(digits) <= 20 else max_s
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return min(default_s, max_s)
    if date.tzinfo is None:  # "-0000": the time is UTC, and nothing is said of where
        date = date.replace(tzinfo=UTC)
    return min(max(date.timestamp() - (time() if now is None else now), 0.0), max_s)


class Retry(msgspec.Struct, frozen=True):
    """When an item whose `process` or hook raised is tried again.

    The wait after the n-th failed attempt is drawn evenly from the last part, `jitter`, of
    ``min(max_s, first_s * factor ** (n - 1))`` (exponential backoff with "equal jitter" at 0.5 and "full jitter" at 1.0,
    as Marc Brooker calls them in "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). No worker is held
    meanwhile. `process` and the hook have these attempts each.

    What only the program can mend is never tried again: an `AqueueError`, such as a result that JSON can't carry.

    Attributes:
        attempts: how many attempts in all, the first included; at least 1, by default 5.
        first_s: the longest wait after the first failed attempt; seconds, from 0 to a year, by default 1.
        factor: how many times longer each further wait is; at least 1, by default 2.
        max_s: the longest wait; seconds, from 0 to a year, by default 60.
        jitter: how much of a wait is left to chance, from 0.0 (nothing) to 1.0 (all of it), by default 0.5.
        on: the exceptions after which there is another attempt, with their subclasses: a class or a tuple of them, by
            default every `Exception`. An exception group counts if all the exceptions in it do.
    """

    attempts: int = 5
    first_s: float = 1.0
    factor: float = 2.0
    max_s: float = 60.0
    jitter: float = 0.5
    on: type[Exception] | tuple[type[Exception], ...] = (Exception,)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InvalidArgument: one is not allowed; the message names it.
        """
        check_number("Retry(attempts=…)", self.attempts, 1, kind=WHOLE_NUMBER)
        check_number("Retry(first_s=…)", self.first_s, 0, kind=SECONDS)
        check_number("Retry(factor=…)", self.factor, 1)
        check_number("Retry(max_s=…)", self.max_s, 0, kind=SECONDS)
        check_number("Retry(jitter=…)", self.jitter, 0, 1)
        classes = self.on if isinstance(self.on, tuple) else (self.on,)
        for one in classes:
            if not (isinstance(one, type) and issubclass(one, Exception)):
                raise InvalidArgument(
                    f"Retry(on=…) has {visible_repr(one)}; it must be a subclass of Exception, or a tuple of such, as in "
                    "on=(OSError, TimeoutError)"
                )

    def covers(self, error: BaseException) -> bool:
        """Tell whether there is another attempt after `error`, if any are left.

        Parameters:
            error: what the attempt raised.
        """
        return all(
            isinstance(one, RetryAfter)
            or (isinstance(one, self.on) and (not isinstance(one, AqueueError) or isinstance(one, StrayCancellation)))
            for one in _leaves(error)
        )

    def delay_s(self, failed: int, chance: Callable[[], float] = random.random) -> float:
        """Return how long to wait after the attempt number `failed` has failed; seconds.

        Parameters:
            failed: how many attempts have failed, at least 1.
            chance: returns a number from 0 to 1; by default `random.random`.

        Raises:
            InvalidArgument: `failed` is no whole number, or less than 1.
        """
        check_number("Retry.delay_s(failed=…)", failed, 1, kind=WHOLE_NUMBER)
        try:
            longest = min(self.max_s, self.first_s * float(self.factor) ** (failed - 1))
        except OverflowError:
            longest = self.max_s if self.first_s else 0.0
        return longest * (1 - self.jitter * chance())


def asked_delay_s(error: BaseException) -> float | None:
    """Return the wait that a `RetryAfter`, which `error` is or has in it, asks for, the longest of several; else None."""
    return max((one.seconds for one in _leaves(error) if isinstance(one, RetryAfter)), default=None)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    left = [error]
    while left:
        one = left.pop()
        if isinstance(one, BaseExceptionGroup):
            left.extend(one.exceptions)
        else:
            yield one
