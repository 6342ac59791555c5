"""Results to JSON and back: exactly what JSON can carry, nothing silently changed into something else."""

import json
from typing import Any

import msgspec

from aqueue.errors import InvalidResult
from aqueue.text import visible

__all__ = ["decode_result", "encode_result"]


def encode_result(value: object, type: str) -> msgspec.Raw:
    """Return `value`, which an item of class `type` returned, as JSON.

    Dataclasses, attrs classes, msgspec structs, datetimes, UUIDs, enums, decimals and bytes are written as msgspec
    writes them.

    Raises:
        InvalidResult: JSON can't carry it: an object of another kind, NaN, infinity, a lone surrogate, a cycle.
    """
    try:
        # msgspec writes NaN and infinity as null, so the last step is the standard library's, which refuses them.
        plain = msgspec.to_builtins(value, str_keys=True)
        return msgspec.Raw(json.dumps(plain, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode())
    except (TypeError, ValueError, OverflowError, RecursionError) as error:  # UnicodeEncodeError is a ValueError
        raise InvalidResult(
            f"{type} returned {visible(_short_repr(value), 200)}, which JSON can't carry ({visible(str(error), 200)}); "
            "return None, or data made of dicts, lists, strings, finite numbers, booleans and None"
        ) from error


def decode_result(data: msgspec.Raw) -> Any:
    """Return the Python value of the JSON that `encode_result` wrote."""
    return json.loads(bytes(data))


def _short_repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # the user's __repr__, or a structure too deep for it
        return f"an object of class {type(value).__qualname__}"
