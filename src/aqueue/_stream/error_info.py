"""Exceptions as data: encodable, cut to size, whatever their own methods do."""

from functools import partial
from traceback import TracebackException
from typing import Any, Final

from aqueue.events import ErrorInfo
from aqueue.text import visible, without_surrogates

__all__ = ["error_info", "name_and_message"]

_MESSAGE_CHARS: Final = 10_000
_TRACEBACK_CHARS: Final = 20_000
_MIN_SAID_CHARS: Final = 200


def name_and_message(error: BaseException) -> tuple[str, str]:
    """Return the name of the class of `error`, and its message as it is, whatever its `__str__` does."""
    cls = type(error)
    name = visible(cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}:{cls.__qualname__}", 1_000)
    try:
        return name, str.__str__(str(error))
    except BaseException:  # the user's __str__, which may raise SystemExit, too: it must not end aqueue's own threads
        return name, "(its message can't be shown: __str__ raised)"


def error_info(error: BaseException) -> ErrorInfo:
    """Return `error` as data: encodable, cut to size, whatever its `__str__` does."""
    name, message = name_and_message(error)
    try:
        lines = _traceback_of(error)
    except BaseException:  # a __str__ or __repr__ in the chain
        lines = ""
    return ErrorInfo(name, without_surrogates(message[:_MESSAGE_CHARS]), without_surrogates(lines))


def _traceback_of(error: BaseException) -> str:
    """Return the formatted traceback of `error`, cut to size.

    What the exceptions say is cut first, all of it to the same length, so that the frames stay, which tell where to look;
    if there are too many of those, the end of the traceback stays.
    """
    whole = TracebackException.from_exception(error, compact=True)
    lines = "".join(whole.format())
    if len(lines) > _TRACEBACK_CHARS:
        every = [whole]
        for one in every:  # it grows while it is gone through
            every += filter(None, (one.__cause__, one.__context__, *(one.exceptions or ())))
        asked: list[TracebackException] = []  # `format` asks each that it shows what it says: of a large group not all
        for one in every:
            one.format_exception_only = partial(_nothing, asked, one)  # type: ignore[method-assign, assignment]
        frames = len("".join(whole.format()))
        most = max((_TRACEBACK_CHARS - frames) // len(asked), _MIN_SAID_CHARS)
        while (
            len(lines) > _TRACEBACK_CHARS and most >= _MIN_SAID_CHARS
        ):  # more than once where a group's indents are many
            for one in every:
                one.format_exception_only = partial(_said, one, most)  # type: ignore[method-assign, assignment]
            lines = "".join(whole.format())
            most //= 2
    return lines[-_TRACEBACK_CHARS:]


def _nothing(asked: list[TracebackException], one: TracebackException, **options: Any) -> list[str]:
    """Say nothing, and note that `one` was asked."""
    asked.append(one)
    return []


def _said(one: TracebackException, most: int, **options: Any) -> list[str]:
    """Return what `one` says, its class, message and notes, cut in the middle to `most` characters."""
    said = "".join(TracebackException.format_exception_only(one, **options))
    return [said if len(said) <= most else f"{said[: most - most // 4 - 3]} … {said[len(said) - most // 4 :]}"]
