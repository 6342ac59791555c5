"""Checks of arguments: each raises `InvalidArgument` with the name, the value and what is allowed."""

import os
import sys
from collections.abc import Iterable, Sequence
from inspect import signature
from typing import Final

from aqueue.errors import InvalidArgument
from aqueue.text import visible_repr

__all__ = ["SECONDS", "WHOLE_NUMBER", "accepts", "check_number", "check_one_of", "is_path", "not_one_of"]

WHOLE_NUMBER: Final = "a whole number"
"""What `check_number` calls an int."""

SECONDS: Final = "a finite number of seconds"
"""What `check_number` calls a duration."""

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
    """Raise if `value` is no number that is allowed; True and False are none.

    Parameters:
        name: what has the value, for the message.
        value: anything.
        least: the least that is allowed; with `is_more_than` the least that is not.
        most: the most that is allowed; None for a year, if it is a duration, else for what a float, or a signed number
            of 64 bits, can be.
        kind: what it must be, for the message; ``a whole number`` for an int.
        is_more_than: whether `least` itself is not allowed.
        or_none: whether None is allowed.

    Raises:
        InvalidArgument: it is none.
    """
    if value is None and or_none:
        return
    is_whole = kind == WHOLE_NUMBER
    if most is None and kind == SECONDS:
        most = _YEAR_S
    highest = most if most is not None else sys.maxsize if is_whole else sys.float_info.max
    if (
        isinstance(value, int if is_whole else int | float)
        and not isinstance(value, bool)
        and (least < value if is_more_than else least <= value)
        and value <= highest
    ):
        return
    if most is None and is_whole and isinstance(value, int) and value > highest:
        most = highest  # else it goes without saying
    if most is not None:
        allowed = f"more than {least:,}, up to {most:,}" if is_more_than else f"from {least:,} to {most:,}"
    else:
        allowed = f"more than {least:,}" if is_more_than else f"at least {least:,}"
    raise InvalidArgument(
        f"{name} is {visible_repr(value)}; it must be {kind}, {allowed}{', or None' if or_none else ''}"
    )


def check_one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    """Raise if `value`, which the argument called `name` has, is none of those.

    Raises:
        InvalidArgument: it is not; the message says which are allowed.
    """
    if not isinstance(value, str) or value not in allowed:
        raise not_one_of(name, value, allowed)


def not_one_of(name: str, value: object, allowed: Iterable[str]) -> InvalidArgument:
    """Return the error that says which values `name` may have."""
    return InvalidArgument(f"{name} is {visible_repr(value)}; allowed are {', '.join(repr(one) for one in allowed)}")


def is_path(value: object) -> bool:
    """Tell whether `value` can be the path of a file: a string or an `os.PathLike` that stands for one, not empty."""
    if not isinstance(value, str | os.PathLike):
        return False
    try:
        text = os.fspath(value)
    except TypeError:  # it stands for neither str nor bytes
        return False
    return isinstance(text, str) and text != ""


def accepts(function: object, *arguments: object) -> bool:
    """Tell whether `function` can be called with `arguments`, as far as that is known without calling it."""
    if not callable(function):
        return False
    try:
        parameters = signature(function, follow_wrapped=False)  # a decorator may pass more than it takes
    except (TypeError, ValueError):  # some that are written in C don't say
        return True
    try:
        parameters.bind(*arguments)
    except TypeError:
        return False
    return True
