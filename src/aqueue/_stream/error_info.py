"""Exceptions as data: encodable and cut to size, even if their own methods raise."""

from functools import partial
from traceback import TracebackException
from typing import Any, Final

from aqueue._codec.class_names import type_name
from aqueue.errors import CancelledByUser
from aqueue.events import ErrorInfo
from aqueue.text import visible, without_surrogates

__all__ = ["CANCELLED", "error_info", "name_and_message"]

CANCELLED: Final = type_name(CancelledByUser)
"""The type of the error with which an item fails that a person cancelled."""

_MESSAGE_CHARS: Final = 10_000
_TRACEBACK_CHARS: Final = 20_000
_MAX_SAID_CHARS: Final = 16_000
_MIN_SAID_CHARS: Final = 250


def name_and_message(error: BaseException) -> tuple[str, str]:
    """Return the name of the class of `error`, and its message as it is, even if its `__str__` raises."""
    cls = type(error)
    name = visible(cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}:{cls.__qualname__}", 1_000)
    try:
        return name, str.__str__(str(error))
    except BaseException:  # the user's __str__ may raise SystemExit, too, which must not end aqueue's own threads
        return name, "(its message can't be shown: __str__ raised)"


def error_info(error: BaseException) -> ErrorInfo:
    """Return `error` as data: encodable and cut to size, even if its `__str__` raises."""
    name, message = name_and_message(error)
    try:
        lines = _traceback_of(error)
    except BaseException:  # a __str__ or __repr__ in the chain
        lines = ""
    return ErrorInfo(name, without_surrogates(message[:_MESSAGE_CHARS]), without_surrogates(lines))


def _traceback_of(error: BaseException) -> str:
    """Return the formatted traceback of `error`, cut to size.

    Messages are cut first, all to the same length: the frames tell where to look. If there are too many frames, the end of
    the traceback is kept.
    """
    whole = TracebackException.from_exception(error, compact=True)
    lines = "".join(whole.format())
    chain = [whole]
    for one in chain:  # it grows in the loop
        chain += filter(None, (one.__cause__, one.__context__, *(one.exceptions or ())))
    most = min(_MAX_SAID_CHARS, max(_MIN_SAID_CHARS, 8 * _TRACEBACK_CHARS // len(chain)))  # few rounds for a long chain
    while len(lines) > _TRACEBACK_CHARS and most >= _MIN_SAID_CHARS:
        for one in chain:
            one.format_exception_only = partial(_said, one, most)  # type: ignore[method-assign, assignment]
        lines = "".join(whole.format())
        most //= 2
    return lines[-_TRACEBACK_CHARS:]


def _said(one: TracebackException, most: int, **options: Any) -> list[str]:
    """Return the class, message and notes of `one`, cut in the middle to `most` characters."""
    said = "".join(TracebackException.format_exception_only(one, **options))
    return [said if len(said) <= most else f"{said[: most - most // 4 - 3]} … {said[len(said) - most // 4 :]}"]
