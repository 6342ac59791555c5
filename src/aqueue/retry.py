"""Retry: whether and when a failed attempt at an item is retried."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from time import time

import msgspec

from aqueue._arguments import SECONDS, WHOLE_NUMBER, accepts, check_number, not_allowed
from aqueue.errors import AqueueError, InvalidArgument, StrayCancellation
from aqueue.text import visible_repr

__all__ = ["Retry", "RetryAfter", "parse_retry_after"]


class RetryAfter(Exception):
    """Raise it in an item to have the item retried after at least `seconds`, for example because a server asked for that.

    The attempt counts towards those that the item's `Retry` allows; without a `Retry` there are 5, and the item must raise
    it before it enqueues anything. `Retry.max_s` doesn't limit the wait.

    Attributes:
        seconds: the least time to wait.

    What to do: nothing, as long as the item is retried. It fails with this error after its last attempt: allow more
    attempts with ``Retry(attempts=…)``, or slow the whole group down, with `aqueue.slow_down` or a `Limit`.
    """

    def __init__(self, seconds: float) -> None:
        """Ask for another attempt after a wait.

        Parameters:
            seconds: the least time to wait; from 0 to a year (31,536,000). `parse_retry_after` never returns more.

        Raises:
            InvalidArgument: `seconds` is out of range, or not a number.
        """
        check_number("RetryAfter(seconds=…)", seconds, 0, kind=SECONDS)
        super().__init__(seconds)
        self.seconds: float = float(seconds)

    def __str__(self) -> str:
        return f"asked for a retry after {self.seconds:g} s"


def parse_retry_after(
    value: str | None, *, default_s: float = 30.0, max_s: float = 3_600.0, now: float | None = None
) -> float:
    """Return how many seconds an HTTP ``Retry-After`` header asks for, from 0 to `max_s`.

    Both forms are read, seconds and a date (RFC 9110, section 10.2.3).

    Parameters:
        value: the header's value; None if there was none.
        default_s: returned if there is no header, or if it can't be read; seconds, from 0 to a year, by default 30.
        max_s: the upper limit of what is returned; seconds, from 0 to a year, by default 3,600, an hour.
        now: the Unix time from which a date is counted, seconds, such as that of the server's ``Date``; None, the default,
            for the time of this machine.

    Returns:
        The seconds to wait; 0 for a date in the past.

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
    if date.tzinfo is None:  # "-0000": UTC, without a time zone of the sender
        date = date.replace(tzinfo=UTC)
    return min(max(date.timestamp() - (time() if now is None else now), 0.0), max_s)


class Retry(msgspec.Struct, frozen=True):
    """When a failed attempt at `process` or the hook is retried.

    The wait after the n-th failed attempt is at most ``min(max_s, first_s * factor ** (n - 1))``, less a random part of up
    to `jitter` times that (exponential backoff, with "equal jitter" at 0.5 and "full jitter" at 1.0, as Marc Brooker calls
    them in "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). A waiting item occupies no worker. `process` and
    the hook have this many attempts each.

    An `AqueueError` is never retried, since only a change of the program helps, for example if a result can't be
    represented in JSON.

    Attributes:
        attempts: the number of attempts in all, including the first; at least 1, by default 5.
        first_s: the longest wait after the first failed attempt; seconds, from 0 to a year, by default 1.
        factor: how many times longer each further wait is; at least 1, by default 2.
        max_s: the longest wait; seconds, from 0 to a year, by default 60.
        jitter: the part of a wait that is random, from 0.0 (none) to 1.0 (all of it), by default 0.5.
        on: the exceptions to retry: a class or a tuple of classes, which include their subclasses, or a function that takes
            the exception and returns whether to retry; by default every `Exception`. An exception group is retried if all
            exceptions in it are.
    """

    attempts: int = 5
    first_s: float = 1.0
    factor: float = 2.0
    max_s: float = 60.0
    jitter: float = 0.5
    on: type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool] = (Exception,)

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
        if isinstance(self.on, type | tuple):
            for one in self.on if isinstance(self.on, tuple) else (self.on,):
                if not (isinstance(one, type) and issubclass(one, Exception)):
                    raise InvalidArgument(
                        f"Retry(on=…) has {visible_repr(one)}; it must be a subclass of Exception, or a tuple of them, as in "
                        "on=(OSError, TimeoutError)"
                    )
        elif not accepts(self.on, None):
            raise InvalidArgument(
                f"Retry(on=…) is {visible_repr(self.on)}; it must be exception classes, or a function that takes the exception "
                "and returns whether to retry, such as on=lambda error: error.status >= 500"
            )

    def covers(self, error: BaseException) -> bool:
        """Return whether to retry after `error`, if an attempt is left.

        Parameters:
            error: the error of the attempt.

        Raises:
            BaseException: `on` is a function, and raised it.
        """
        return all(isinstance(one, RetryAfter) or self._covers_one(one) for one in _leaves(error))

    def _covers_one(self, error: BaseException) -> bool:
        if not isinstance(error, Exception) or (
            isinstance(error, AqueueError) and not isinstance(error, StrayCancellation)
        ):
            return False
        return isinstance(error, self.on) if isinstance(self.on, type | tuple) else bool(self.on(error))

    def delay_s(self, failed: int, chance: Callable[[], float] = random.random) -> float:
        """Return the wait after the failed attempt number `failed`, seconds.

        Parameters:
            failed: the number of failed attempts, at least 1.
            chance: returns a number from 0 to 1; by default `random.random`.

        Raises:
            InvalidArgument: `failed` is less than 1, or not a whole number.
        """
        check_number("Retry.delay_s(failed=…)", failed, 1, kind=WHOLE_NUMBER)
        try:
            longest = min(self.max_s, self.first_s * float(self.factor) ** (failed - 1))
        except OverflowError:
            longest = self.max_s if self.first_s else 0.0
        return longest * (1 - self.jitter * chance())


def asked_delay_s(error: BaseException) -> float | None:
    """Return the longest wait of a `RetryAfter` that `error` is, or has in it as a group; None if there is none."""
    return max((one.seconds for one in _leaves(error) if isinstance(one, RetryAfter)), default=None)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    left = [error]
    while left:
        one = left.pop()
        if isinstance(one, BaseExceptionGroup):
            left.extend(one.exceptions)
        else:
            yield one
