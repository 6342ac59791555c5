"""Checks of arguments: they raise `InvalidArgument` with the name, the value and what is allowed."""

import os
import sys
from collections.abc import Iterable, Sequence
from inspect import signature
from typing import Final

from aqueue.errors import InvalidArgument
from aqueue.text import visible_repr

__all__ = [
    "SECONDS",
    "WHOLE_NUMBER",
    "accepts",
    "check_number",
    "check_one_of",
    "is_path",
    "not_allowed",
    "not_one_of",
]

WHOLE_NUMBER: Final = "a whole number"
"""The `kind` of an int, for `check_number`."""

SECONDS: Final = "a finite number of seconds"
"""The `kind` of a duration, for `check_number`."""

_YEAR_S: Final = 31_536_000
"""The longest duration. Longer ones are probably in the wrong unit, and may lead to dates that can't be shown."""


def check_number(
    name: str,
    value: object,
    least: float,
    most: float | None = None,
    *,
    kind: str = "a finite number",
    is_more_than: bool = False,
    or_none: bool = False,
) -> None:
    """Raise unless `value` is a number in the range; True and False are not numbers.

    Parameters:
        name: the name of the argument, for the message.
        value: anything.
        least: the least number that is allowed; with `is_more_than`, the least that is not.
        most: the largest that is allowed; None for a year, if `kind` is `SECONDS`, else for what a float, or a signed number
            of 64 bits, can be.
        kind: what the value must be, for the message; with `WHOLE_NUMBER` it must be an int.
        is_more_than: whether `least` itself is not allowed.
        or_none: whether None is allowed.

    Raises:
        InvalidArgument: the value is not allowed.
    """
    if value is None and or_none:
        return
    is_whole = kind == WHOLE_NUMBER
    if most is None and kind == SECONDS:
        most = _YEAR_S
    highest = most if most is not None else sys.maxsize if is_whole else sys.float_info.max
    is_number = isinstance(value, int if is_whole else int | float) and not isinstance(value, bool)
    if is_number and (least < value if is_more_than else least <= value) and value <= highest:  # type: ignore[operator]
        return
    if most is None and is_number and is_whole and value > highest:  # type: ignore[operator]
        most = highest  # otherwise it goes without saying
    allowed = f"more than {least:,}" if is_more_than else f"at least {least:,}" if most is None else f"from {least:,}"
    if most is not None:
        allowed += f", up to {most:,}" if is_more_than else f" to {most:,}"
    raise not_allowed(name, value, f"{kind}, {allowed}{', or None' if or_none else ''}")


def check_one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    """Raise unless the argument `name` has one of the `allowed` values.

    Raises:
        InvalidArgument: it has another value; the message says which are allowed.
    """
    if not isinstance(value, str) or value not in allowed:
        raise not_one_of(name, value, allowed)


def not_one_of(name: str, value: object, allowed: Iterable[str]) -> InvalidArgument:
    """Return the error for an argument that has none of the `allowed` values."""
    return not_allowed(name, value, f"one of {', '.join(repr(one) for one in allowed)}")


def not_allowed(name: str, value: object, allowed: str) -> InvalidArgument:
    """Return the error for an argument that must be what `allowed` says."""
    return InvalidArgument(f"{name} is {visible_repr(value)}; it must be {allowed}")


def is_path(value: object) -> bool:
    """Return whether `value` can be the path of a file: a string that isn't empty, or an `os.PathLike` for one."""
    try:
        text = os.fspath(value)  # type: ignore[call-overload]
    except TypeError:
        return False
    return isinstance(text, str) and text != ""


def accepts(function: object, *arguments: object) -> bool:
    """Return whether `function` can be called with `arguments`, as far as that is known without calling it."""
    if not callable(function):
        return False
    try:
        parameters = signature(function, follow_wrapped=False)  # a decorator may pass more than it takes
    except (TypeError, ValueError):  # some functions that are written in C have no signature
        return True
    try:
        parameters.bind(*arguments)
    except TypeError:
        return False
    return True
