"""Values of Python's own types that JSON lacks, as JSON objects with one key that says which: ``{"$path": "a/b"}``."""

import base64
import functools
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from math import isfinite
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final
from zoneinfo import ZoneInfo, available_timezones

__all__ = ["MAX_DEPTH", "READERS", "SCALARS", "WRITERS", "Unwritable", "is_plain_text"]

MAX_DEPTH: Final = 500
"""How deep arrays and objects may be nested in a payload; SQLite's JSON functions refuse a thousand."""

SCALARS: Final = frozenset({str, bool, type(None), int, float})
"""The types of values that are in JSON what they are in Python, but for a few values."""


class Unwritable(Exception):
    """A value can't be stored exactly.

    Attributes:
        reason: what it is, or why; what says where goes before it.
        path: the attributes that lead to it, from the item on.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: tuple[str, ...] = ()


def is_plain_text(text: str) -> bool:
    """Return whether JSON can carry `text`: it has no lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_it_is(value: Any) -> Any:
    return value


def _write_str(value: str) -> Any:
    if is_plain_text(value):
        return value
    return {"$str": _base64(value.encode("utf-8", "surrogatepass"))}


def _write_int(value: int) -> Any:
    # What other readers of JSON, SQLite's functions among them, take for a float is written as text.
    return value if -(2**63) <= value < 2**63 else {"$int": hex(value)}


def _write_float(value: float) -> Any:
    return value if isfinite(value) else {"$float": repr(value)}


def _base64(data: bytes | bytearray) -> str:
    return base64.b64encode(data).decode()


def _write_datetime(value: datetime) -> Any:
    return _write_clock("$datetime", value)


def _write_time(value: time) -> Any:
    return _write_clock("$time", value)


def _write_clock(tag: str, value: datetime | time) -> Any:
    zone = _zone_key(value.tzinfo)
    if zone is None and not value.fold:
        return {tag: value.isoformat()}
    return {tag: [(value if zone is None else value.replace(tzinfo=None)).isoformat(), zone, value.fold]}


def _zone_key(zone: tzinfo | None) -> str | None:
    """Return the name of a zone of the time zone database; None if there is no zone, or isoformat() tells it whole."""
    if zone is None:
        return None
    if type(zone) is timezone:
        if timedelta(0) != zone.utcoffset(None) and abs(zone.utcoffset(None)) < timedelta(seconds=1):
            raise Unwritable("a time in a zone less than a second from UTC, which Python reads back as UTC")
        if zone.tzname(None) == timezone(zone.utcoffset(None)).tzname(None):
            return None
        raise Unwritable(f"a time in a fixed zone with a name of its own ({zone.tzname(None)}), which would be lost")
    if type(zone) is ZoneInfo and zone.key in _zone_keys():
        return zone.key
    raise Unwritable(
        f"a time with a tzinfo of class {type(zone).__qualname__}; datetime.timezone and zoneinfo.ZoneInfo by key can "
        "be stored"
    )


@functools.cache
def _zone_keys() -> frozenset[str]:
    return frozenset(available_timezones())


def _read_clock(kind: type[datetime] | type[time], data: Any) -> datetime | time:
    if type(data) is str:
        return kind.fromisoformat(data)
    text, zone, fold = data
    value = kind.fromisoformat(text)
    if fold not in (0, 1):
        raise ValueError("fold is neither 0 nor 1")
    if zone is None:
        return value.replace(fold=fold)
    # Looked up before it is loaded: ZoneInfo turns a key into the name of a module of the tzdata package.
    if zone not in _zone_keys():
        raise ValueError("the time zone is not in this machine's database")
    return value.replace(tzinfo=ZoneInfo(zone), fold=fold)


def _write_timedelta(value: timedelta) -> Any:
    return {"$timedelta": [value.days, value.seconds, value.microseconds]}


def _read_timedelta(data: Any) -> timedelta:
    days, seconds, microseconds = (_checked(int, part) for part in data)
    return timedelta(days, seconds, microseconds)


def _checked(kind: type, data: Any) -> Any:
    if type(data) is not kind:
        raise TypeError(f"it is no {kind.__name__}")
    return data


def _read_text(make: Callable[[str], Any]) -> Callable[[Any], Any]:
    return lambda data: make(_checked(str, data))


def _unbase64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _read_float(text: str) -> float:
    if text not in ("nan", "inf", "-inf"):
        raise ValueError("it is neither nan nor infinity")
    return float(text)


# A path may hold lone surrogates (os.fsdecode makes them), so its text is written as any str is.
WRITERS: Final[dict[type, Callable[[Any], Any]]] = {
    str: _write_str,
    int: _write_int,
    bool: _as_it_is,
    type(None): _as_it_is,
    float: _write_float,
    bytes: lambda value: {"$bytes": _base64(value)},
    bytearray: lambda value: {"$bytearray": _base64(value)},
    datetime: _write_datetime,
    date: lambda value: {"$date": value.isoformat()},
    time: _write_time,
    timedelta: _write_timedelta,
    uuid.UUID: lambda value: {"$uuid": str(value)},
    Decimal: lambda value: {"$decimal": str(value)},
    type(Path()): lambda value: {"$path": _write_str(str(value))},
    PurePosixPath: lambda value: {"$pure_posix_path": _write_str(str(value))},
    PureWindowsPath: lambda value: {"$pure_windows_path": _write_str(str(value))},
}
"""For each type of which a value can be stored without an annotation: what writes it. Containers are not among them."""


def _read_path(make: Callable[[str], Any]) -> Callable[[Any], Any]:
    return lambda data: make(READERS["$str"](data["$str"]) if type(data) is dict else _checked(str, data))


READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "$str": _read_text(lambda text: _unbase64(text).decode("utf-8", "surrogatepass")),
    "$int": _read_text(lambda text: int(text, 16)),
    "$float": _read_text(_read_float),
    "$bytes": _read_text(_unbase64),
    "$bytearray": _read_text(lambda text: bytearray(_unbase64(text))),
    "$datetime": functools.partial(_read_clock, datetime),
    "$date": _read_text(date.fromisoformat),
    "$time": functools.partial(_read_clock, time),
    "$timedelta": _read_timedelta,
    "$uuid": _read_text(uuid.UUID),
    "$decimal": _read_text(Decimal),
    "$path": _read_path(Path),
    "$pure_posix_path": _read_path(PurePosixPath),
    "$pure_windows_path": _read_path(PureWindowsPath),
}
"""For each tag what reads its value. They raise ValueError, TypeError and others for what `WRITERS` never writes."""
