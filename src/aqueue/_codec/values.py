"""The table of the types whose values can be stored: each with its tag, its writer and its reader.

A value that JSON lacks is an object with one key, its tag: ``{"$path": "a/b"}``.
"""

import base64
import functools
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from math import inf, isfinite, nan
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final
from zoneinfo import ZoneInfo, available_timezones

import msgspec

__all__ = [
    "CONTAINERS",
    "CONTAINER_TAGS",
    "MAX_DEPTH",
    "READERS",
    "SCALARS",
    "WRITERS",
    "Refusal",
    "has_plain_keys",
    "is_plain_text",
    "is_scalar",
]

MAX_DEPTH: Final = 500
"""How deep arrays and objects may be nested in a payload or a result.

SQLite's JSON functions refuse a depth of 1,000, and a deeper value can be written, but not always read: that takes more of
Python's stack.
"""

SCALARS: Final = frozenset({str, bool, type(None), int, float})
"""The types whose values are the same in JSON as in Python, except for a few values."""

_encode_json: Final = msgspec.json.Encoder().encode


class Refusal(Exception):
    """A value or object can't be stored or restored exactly: a class or a payload doesn't allow it.

    Attributes:
        reason: what is wrong with the value, or what it is.
        path: the attributes that lead from the item to the value.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (f"attribute {'.'.join(self.path)!r}: " if self.path else "") + self.reason


def is_plain_text(text: str) -> bool:
    """Return whether JSON can carry `text`, which it can't with a lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_scalar(value: Any) -> bool:
    """Return whether JSON can carry `value` without a tag; lone surrogates are not looked for."""
    cls = type(value)
    if cls is int:
        # Other readers of JSON, such as SQLite's functions, would read a larger int as a float.
        fits: bool = -0x8000_0000_0000_0000 <= value <= 0x7FFF_FFFF_FFFF_FFFF
        return fits
    if cls is float:
        return isfinite(value)
    return cls in SCALARS


def has_plain_keys(value: dict[Any, Any]) -> bool:
    """Return whether JSON can carry `value` as an object: its keys are strings, none of which looks like a tag."""
    for key in value:  # noqa: SIM110  # all() takes twice the time
        if type(key) is not str or key.startswith("$") or not is_plain_text(key):
            return False
    return True


def _as_it_is(value: Any) -> Any:
    return value


def _sorted(parts: list[Any]) -> list[Any]:
    return sorted(parts, key=_encode_json)


def _base64(data: bytes | bytearray) -> str:
    return base64.b64encode(data).decode()


def _write_clock(value: datetime | time) -> Any:
    zone = _zone_key(value.tzinfo)
    if zone is None and not value.fold:
        return value.isoformat()
    return [(value if zone is None else value.replace(tzinfo=None)).isoformat(), zone, value.fold]


def _zone_key(zone: tzinfo | None) -> str | None:
    """Return the key of a zone of the time zone database; None without a zone, or if isoformat() says all about it."""
    if zone is None:
        return None
    if type(zone) is timezone:
        if timedelta(0) != zone.utcoffset(None) and abs(zone.utcoffset(None)) < timedelta(seconds=1):
            raise Refusal("a time in a zone less than a second from UTC, which Python reads back as UTC")
        if zone.tzname(None) == timezone(zone.utcoffset(None)).tzname(None):
            return None
        raise Refusal(f"a time in a datetime.timezone that has a name ({zone.tzname(None)}), which would be lost")
    if type(zone) is ZoneInfo and zone.key in _zone_keys():
        return zone.key
    raise Refusal(
        f"a time with a tzinfo of class {type(zone).__qualname__}; only datetime.timezone and zoneinfo.ZoneInfo (by its "
        "key) can be stored"
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
    # Checked before it is loaded: ZoneInfo imports a module of the tzdata package by the key.
    if zone not in _zone_keys():
        raise ValueError("the time zone is not in this machine's time zone database")
    return value.replace(tzinfo=ZoneInfo(zone), fold=fold)


def _read_timedelta(data: Any) -> timedelta:
    days, seconds, microseconds = (_checked(int, part) for part in data)
    return timedelta(days, seconds, microseconds)


def _checked(kind: type, data: Any) -> Any:
    if type(data) is not kind:
        raise TypeError(f"expected {kind.__name__}, not {type(data).__name__}")
    return data


def _read_text(make: Callable[[str], Any]) -> Callable[[Any], Any]:
    return lambda data: make(_checked(str, data))


def _unbase64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _write_path(value: PurePosixPath | PureWindowsPath) -> Any:
    text = str(value)
    return text if is_plain_text(text) else WRITERS[str](text)  # os.fsdecode makes lone surrogates


def _read_path(make: Callable[[str], Any]) -> Callable[[Any], Any]:
    return lambda data: make(READERS["$str"](data["$str"]) if type(data) is dict else _checked(str, data))


@dataclass(frozen=True, slots=True)
class _Form:
    """How the values of one type are stored.

    Attributes:
        type: the type.
        tag: the only key of the JSON object that stands for a value.
        write: gets a value, or the list of a container's parts as JSON; returns what is stored under the tag.
        read: gets what is stored, or the list of a container's parts; returns the value. For data that `write` never
            returns it raises ValueError, TypeError and others.
        is_json: returns whether JSON can carry a value without a tag; None if that is never so.
        is_container: whether values have parts, which are written and read one by one; the parts of a dict are its pairs.
    """

    type: type
    tag: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    is_json: Callable[[Any], bool] | None = None
    is_container: bool = False


_FORMS: Final = (
    _Form(
        str,
        "$str",
        lambda value: _base64(value.encode("utf-8", "surrogatepass")),
        _read_text(lambda text: _unbase64(text).decode("utf-8", "surrogatepass")),
        is_json=is_plain_text,
    ),
    _Form(int, "$int", hex, _read_text(lambda text: int(text, 16)), is_json=is_scalar),
    _Form(float, "$float", repr, {"nan": nan, "inf": inf, "-inf": -inf}.__getitem__, is_json=isfinite),
    _Form(bytes, "$bytes", _base64, _read_text(_unbase64)),
    _Form(bytearray, "$bytearray", _base64, _read_text(lambda text: bytearray(_unbase64(text)))),
    _Form(datetime, "$datetime", _write_clock, functools.partial(_read_clock, datetime)),
    _Form(date, "$date", date.isoformat, _read_text(date.fromisoformat)),
    _Form(time, "$time", _write_clock, functools.partial(_read_clock, time)),
    _Form(timedelta, "$timedelta", lambda value: [value.days, value.seconds, value.microseconds], _read_timedelta),
    _Form(uuid.UUID, "$uuid", str, _read_text(uuid.UUID)),
    _Form(Decimal, "$decimal", str, _read_text(Decimal)),
    _Form(type(Path()), "$path", _write_path, _read_path(Path)),
    _Form(PurePosixPath, "$pure_posix_path", _write_path, _read_path(PurePosixPath)),
    _Form(PureWindowsPath, "$pure_windows_path", _write_path, _read_path(PureWindowsPath)),
    _Form(tuple, "$tuple", _as_it_is, tuple, is_container=True),
    _Form(set, "$set", _sorted, set, is_container=True),
    _Form(frozenset, "$frozenset", _sorted, frozenset, is_container=True),
    _Form(dict, "$dict", _as_it_is, dict, is_container=True),
)
"""The types whose values need no annotation; bool, None and list are not among them, since JSON has all their values."""


def _writer(form: _Form) -> Callable[[Any], Any]:
    tag, write, is_json = form.tag, form.write, form.is_json
    if is_json is None:
        return lambda value: {tag: write(value)}
    return lambda value: value if is_json(value) else {tag: write(value)}


WRITERS: Final[dict[type, Callable[[Any], Any]]] = {
    bool: _as_it_is,
    type(None): _as_it_is,
    **{form.type: _writer(form) for form in _FORMS if not form.is_container},
}
"""The writers of values by type, without those of containers; they add the tag where one is needed."""

READERS: Final = {form.tag: form.read for form in _FORMS if not form.is_container}
"""The readers of what is stored under a tag, without those of containers."""

CONTAINERS: Final = {form.type: form for form in _FORMS if form.is_container}
"""The containers that JSON lacks, by type."""

CONTAINER_TAGS: Final = {form.tag: form for form in CONTAINERS.values()}
"""The same, by tag."""
