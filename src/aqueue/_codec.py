"""Results to JSON and back: exactly what JSON can carry, nothing silently changed into something else."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from aqueue.errors import InvalidResult
from aqueue.text import visible, visible_repr

__all__ = ["decode_result", "decode_root_results", "encode_result"]

MAX_DEPTH: Final = 500
"""How deep a result may be nested: more could be written, but not read again deeper in Python's stack."""


# A string is one match, so that brackets in it don't count.
_brackets: Final = re.compile(r'[][{}]|"(?:[^"\\]|\\.)*"').findall


def _plain(value: object) -> object:
    """Return what the standard library can't write in terms of what it can; raise `TypeError` for what JSON can't."""
    if isinstance(value, set | frozenset):
        raise TypeError("a set has no order in JSON; return sorted(…)")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return msgspec.to_builtins(value, str_keys=True)


# The standard library's, since msgspec writes NaN and infinity as null, and a set as a list in any order.
_encode: Final = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_plain).encode


def encode_result(value: object, type: str) -> msgspec.Raw:
    """Return `value`, which an item of class `type` returned, as JSON.

    Dataclasses, attrs classes, msgspec structs, datetimes, UUIDs, enums, decimals and bytes are written as msgspec
    writes them.

    Raises:
        InvalidResult: JSON can't carry it: an object of another kind, a set, NaN, infinity, a lone surrogate, a cycle,
            data nested deeper than 500.
    """
    try:
        text = _encode(value)
        if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH}")
        return msgspec.Raw(text.encode())
    except (TypeError, ValueError, OverflowError, RecursionError) as error:  # UnicodeEncodeError is a ValueError
        raise InvalidResult(
            f"{type} returned {visible_repr(value)}, which JSON can't carry ({visible(str(error), 200)}); "
            "return None, or data made of dicts, lists, strings, finite numbers, booleans and None"
        ) from error


def _depth(text: str) -> int:
    """Return how many arrays and objects of the JSON `text` are inside each other."""
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


def decode_root_results(roots: Sequence[int], results: Mapping[int, msgspec.Raw]) -> list[Any]:
    """Return the `results` of the initial items numbered `roots`, None for one without; empty if all are without."""
    found = [decode_result(results[number]) if number in results else None for number in roots]
    return found if any(result is not None for result in found) else []
