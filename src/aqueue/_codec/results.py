"""Writes results as JSON and reads them; values that would come back as something else are refused."""

import dataclasses
import enum
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import msgspec

from aqueue._codec.values import MAX_DEPTH, SCALARS
from aqueue.errors import InvalidResult
from aqueue.events import NO_DATA
from aqueue.text import visible, visible_repr

__all__ = ["LARGE_BYTES", "MAX_BYTES", "OnLarge", "decode_result", "decode_root_results", "encode_result"]

MAX_BYTES: Final = 499_000_000
"""How long a result, or the attributes of an item, may be as JSON.

SQLite's rows have at most 1,000,000,000 bytes (SQLITE_MAX_LENGTH, https://sqlite.org/limits.html), and an `item.completed`
may have both, and more.
"""

LARGE_BYTES: Final = 4_096
"""From this length on they count for back-pressure in bytes, too: shorter ones are bounded by the number of events."""

OnLarge = Callable[[str, Literal["result", "attributes"], int], None]
"""Called for each large one with the class of the item, which of the two it is, and its length in bytes."""

# A string is one match, so that its brackets are not counted.
_brackets: Final = re.compile(r'[][{}]|"(?:[^"\\]|\\.)*"').findall


def _plain(value: object) -> object:
    """Return what the standard library can't write in terms of what it can; raise `TypeError` for what JSON can't represent."""
    fields = _fields(value)
    if fields is not None:
        return fields
    _refuse_changed(value)
    return msgspec.to_builtins(value, str_keys=True)


def _fields(value: object) -> dict[str, object] | None:
    """Return the fields of a dataclass or attrs object by name; None for objects of another kind."""
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name) for field in value.__attrs_attrs__}
    return None


def _refuse_changed(value: object) -> None:
    """Raise `TypeError` for a value that would come back as something else."""
    if isinstance(value, set | frozenset):
        raise TypeError("JSON has no sets; return sorted(…)")
    if isinstance(value, bytes | bytearray | memoryview):
        raise TypeError("JSON has no bytes; return text, such as base64.b64encode(…).decode()")


def _check(value: object) -> None:
    """Raise `TypeError` for a result that has been written but would come back as something else.

    Those are two keys that are the same in JSON, and bytes and sets in a Struct, which msgspec writes.
    """
    todo = [value]
    for one in todo:  # it grows in the loop
        if type(one) in SCALARS:
            continue
        if isinstance(one, dict):
            _check_keys(one)
            todo += one.values()
        elif isinstance(one, list | tuple):
            todo += one
        elif isinstance(one, msgspec.Struct):
            todo += msgspec.structs.astuple(one)
        elif isinstance(one, enum.Enum):
            todo.append(one.value)
        else:
            _refuse_changed(one)
            todo += (_fields(one) or {}).values()


def _check_keys(value: dict[Any, object]) -> None:
    for key in value:
        if not isinstance(key, str):
            _refuse_changed(key)
    if len(set(map(type, value))) > 1:  # keys of one type differ in JSON, too
        keys: dict[str, object] = {}
        for key in value:
            text = key if isinstance(key, str) else _encode(key).strip('"')
            if text in keys:
                raise TypeError(f"its keys {visible_repr(keys[text])} and {visible_repr(key)} are the same in JSON")
            keys[text] = key


_Data = str | int | float | bool | None
_Data1 = _Data | list[_Data] | dict[str, _Data]
_Data2 = _Data | list[_Data1] | dict[str, _Data1]
_Data3 = _Data | list[_Data2] | dict[str, _Data2]
_Data4 = _Data | list[_Data3] | dict[str, _Data3]


class _StringKeys(msgspec.Struct, gc=False):
    """What most results are. msgspec checks that in a third of the time that `_check` takes."""

    value: _Data4  # as a field its type is analysed once, and not each time


# The standard library's, since msgspec writes NaN and infinity as null, and a set as a list in any order.
_encode: Final = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_plain).encode

# For text both write the same. This is several times as fast, and doesn't make a str before the bytes.
_encode_text: Final = msgspec.json.Encoder().encode


def encode_result(value: object, type: str, on_large: OnLarge | None = None) -> msgspec.Raw:
    """Return `value`, which an item of class `type` has returned, as JSON; call `on_large` if that is large.

    Dataclasses, attrs classes, msgspec structs, datetimes, UUIDs, enums and decimals are written as msgspec writes them.

    Raises:
        InvalidResult: JSON can't represent it: an object of another kind, a set, bytes, NaN, infinity, a lone surrogate, two
            keys that are the same in JSON, a cycle, data nested deeper than 500; or it is longer than a journal can hold.
    """
    try:
        if value.__class__ is str:
            data = _encode_text(value)
        else:
            text = _encode(value)
            if value.__class__ not in SCALARS:
                try:
                    msgspec.convert({"value": value}, _StringKeys)
                except msgspec.ValidationError:
                    _check(value)
                if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
                    raise ValueError(f"it is nested deeper than {MAX_DEPTH}")
            data = text.encode()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:  # UnicodeEncodeError is a ValueError
        raise InvalidResult(
            f"{type} returned {visible_repr(value)}, which JSON can't represent ({visible(str(error), 200)}); "
            "return None, or data made of dicts, lists, strings, finite numbers, booleans and None"
        ) from error
    if len(data) > LARGE_BYTES:
        if len(data) > MAX_BYTES:
            raise InvalidResult(
                f"{type} returned a result of {len(data):,} bytes as JSON, but a journal holds at most {MAX_BYTES:,}; "
                "write it to a file, and return the file's path"
            )
        if on_large is not None:
            on_large(type, "result", len(data))
    return msgspec.Raw(data)


def _depth(text: str) -> int:
    """Return how deep arrays and objects are nested in the JSON `text`."""
    deepest = depth = 0
    for bracket in _brackets(text):
        if bracket in ("[", "{"):
            depth += 1
            deepest = max(deepest, depth)
        elif bracket in ("]", "}"):
            depth -= 1
    return deepest


def decode_result(data: msgspec.Raw) -> Any:
    """Return the Python value of the JSON that `encode_result` wrote."""
    return json.loads(bytes(data))


def decode_root_results(roots: Sequence[int], results: dict[int, msgspec.Raw]) -> list[Any]:
    """Return the `results` of the initial items with the numbers `roots`, or an empty list if none has a result.

    An item without a result gets None. Results are removed from `results`, so that not all are in memory twice.
    """
    found = [decode_result(raw) if (raw := results.pop(number, NO_DATA)) is not NO_DATA else None for number in roots]
    return found if any(result is not None for result in found) else []
