"""A run's events as log records: a level, a timestamp and the event's fields, one line of JSON each.

The jsonl reporter writes these lines during a run; the same lines can be made from a journal later.
"""

import json
import re
import unicodedata
from collections.abc import Collection
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from aqueue import events as ev
from aqueue.text import without_surrogates

__all__ = ["LEVELS", "Level", "level_of", "line_of", "record_of", "render_record", "safe_line", "timestamp_of"]

Level = Literal["debug", "info", "warning", "error"]
"""The level of an event in a log, by its name in Python's logging and in structlog."""

LEVELS: Final[dict[type[ev.Event], Level]] = {
    ev.ItemFailed: "error",
    ev.ReporterFailed: "error",
    ev.ProcessLeft: "warning",
    ev.RunStopping: "warning",
    ev.ItemInterrupted: "warning",
    ev.ItemCancelled: "warning",
    ev.ItemRetryScheduled: "warning",
    ev.LoopBlocked: "warning",
    ev.RunHeldUp: "warning",
    ev.ItemDescribed: "debug",
}
"""The levels of the event types that are not ``info``.

`level_of` gives ``info`` to a process that left in good order, and to an item that is interrupted since a person skips it, too.
"""

_DATA: Final = ("result", "payload")
"""The fields that may hold secrets. They are Raw, which msgspec doesn't turn into plain data."""


def level_of(event: ev.Event) -> Level:
    """Return the level of `event`; types that `LEVELS` doesn't name have ``info``."""
    level = LEVELS.get(type(event), "info")
    # What happens in good order, or as a person wants it, is nothing to be warned of.
    if level == "warning" and (
        (isinstance(event, ev.ProcessLeft) and event.reason == "left")
        or (isinstance(event, ev.ItemInterrupted) and event.reason == "skipped")
    ):
        return "info"
    return level


def timestamp_of(at: float) -> str:
    """Return the Unix time `at`, in seconds, as ISO 8601 in UTC with microseconds: ``2023-11-14T22:13:20.000000Z``.

    Raises:
        ValueError, OverflowError, OSError: `at` is past the year 9999, or isn't a possible time.
    """
    seconds, microseconds = divmod(round(at * 1_000_000), 1_000_000)
    return f"{_to_the_second(seconds)}.{microseconds:06d}Z"


# Many events share a second; with the cache a timestamp takes a third of the time.
@lru_cache(maxsize=16)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def record_of(event: ev.Event, include_data: bool = False) -> dict[str, Any]:
    """Return `event` as plain data: a new dict that begins with ``timestamp`` and ``level``, for a person to find.

    The other keys are ``event``, the name of the event, and its fields, except those with their default.

    Parameters:
        event: any event.
        include_data: whether to include the item's payload and result, which may hold secrets.

    Raises:
        ValueError, OverflowError, OSError: as `timestamp_of` does.
    """
    record: dict[str, Any] = {"timestamp": timestamp_of(event.at), "level": level_of(event)}
    data = {name: raw for name in _DATA if (raw := getattr(event, name, ev.NO_DATA))}
    record.update(msgspec.to_builtins(_without(event, data)))
    if include_data:
        record.update({name: msgspec.json.decode(raw) for name, raw in data.items()})
    return record


def _without(event: ev.Event, names: Collection[str]) -> ev.Event:
    """Return `event` without the fields called `names`, which hold data."""
    return msgspec.structs.replace(event, **dict.fromkeys(names, ev.NO_DATA)) if names else event


def line_of(event: ev.Event, include_data: bool = False) -> bytes:
    """Return ``render_record(record_of(event, include_data))``: the same bytes, made from the event's own JSON.

    Parameters:
        event: any event.
        include_data: whether to include the item's payload and result, which may hold secrets.

    Raises:
        ValueError, OverflowError, OSError: as `timestamp_of` does.
    """
    data = [name for name in _DATA if getattr(event, name, ev.NO_DATA)]
    if data and include_data:
        return render_record(record_of(event, include_data))
    head = f'{{"timestamp":"{timestamp_of(event.at)}","level":"{level_of(event)}",'.encode()
    try:
        line = head + ev.encode(_without(event, data))[1:]
    except UnicodeEncodeError:
        return render_record(record_of(event))
    return _visible_line(line)


_encoder = msgspec.json.Encoder(enc_hook=repr)


def render_record(record: object) -> bytes:
    r"""Return `record`, a dict or any other value, as JSON on one line that is safe to print to a terminal; no newline.

    Characters that can't be seen are written as ``\uXXXX``, lone surrogates as U+FFFD, and values that JSON can't represent
    as their `repr`.

    Raises:
        Exception: what the `repr` of something in the record raises.
        TypeError: a key of a dict in it is neither text nor a number.
    """
    try:
        line = _encoder.encode(record)
    except UnicodeEncodeError:
        line = _encoder.encode(_without_surrogates(record))
    return _visible_line(line)


def _visible_line(line: bytes) -> bytes:
    # JSON escapes the control characters below a space only.
    return line if line.isascii() and b"\x7f" not in line else safe_line(line)


def safe_line(line: bytes) -> bytes:
    r"""Return `line`, a line of JSON from anywhere, as JSON that means the same and is safe to print to a terminal.

    Characters that can't be seen are written as ``\uXXXX``, and bytes that aren't UTF-8 as U+FFFD. White space around the
    line is removed; between values, where JSON allows no other control characters, it becomes spaces.
    """
    text = line.strip().decode(errors="replace")
    if text.isprintable():
        return text.encode()
    return _NOT_ASCII_TEXT.sub(_escape_unseen, text.translate(_SPACES)).encode()


_SPACES: Final = {ord(character): " " for character in "\t\n\r"}


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_surrogates(inner) for inner in value]
    return value


_NOT_ASCII_TEXT = re.compile("[^ -~]")


def _escape_unseen(match: re.Match[str]) -> str:
    # Spaces other than " " count as not printable, but are harmless on a terminal: Japanese uses U+3000.
    character = match[0]
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]
