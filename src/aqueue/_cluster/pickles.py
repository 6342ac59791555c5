"""Pickles any object, with references in place of what must not be copied: items, classes and functions."""

import dataclasses
import enum
import pickle
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any, Final

import msgspec

from aqueue._cluster.names import Definition, Key, is_definition
from aqueue.errors import UnsendableItem

__all__ = ["SCALARS", "KeyOf", "ReferenceTo", "dump", "failing_part", "load", "parts_of"]

KeyOf = Callable[[Definition], Key | None]
"""Names a class or function, as `Definitions.key_of` does."""

ReferenceTo = Callable[[Any], tuple[Any, ...] | None]
"""Returns what is written instead of an object, or None if the object itself is."""

SCALARS: Final = frozenset({str, int, float, bool, type(None), bytes})
"""The types whose objects have no parts and no state of their own."""

_NEVER_REFERENCES: Final = SCALARS | {bytearray, complex, list, tuple, dict, set, frozenset}
_MAX_PATH: Final = 6


class _Pickler(pickle.Pickler):
    def __init__(self, file: BytesIO, key_of: KeyOf, reference_to: ReferenceTo) -> None:
        super().__init__(file, 5)
        self._key_of = key_of
        self._reference_to = reference_to

    def persistent_id(self, value: Any) -> Any:
        if type(value) in _NEVER_REFERENCES:
            return None
        if is_definition(value):
            return self._key_of(value)
        return self._reference_to(value)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BytesIO, find: Callable[[Key], Any], refer: Callable[[tuple[Any, ...]], Any]) -> None:
        super().__init__(file)
        self._find = find
        self._refer = refer

    def persistent_load(self, pid: Any) -> Any:
        return self._refer(pid) if type(pid) is tuple else self._find(pid)


def dump(value: Any, key_of: KeyOf, reference_to: ReferenceTo, prefix: bytes = b"") -> bytes:
    """Return `value` as bytes, after `prefix`.

    Raises:
        Exception: whatever the user's objects raise; `Refused` for what has no name.
    """
    file = BytesIO()
    file.write(prefix)
    _Pickler(file, key_of, reference_to).dump(value)
    return file.getvalue()


def load(data: bytes, find: Callable[[Key], Any], refer: Callable[[tuple[Any, ...]], Any], skip: int = 0) -> Any:
    """Return the value that `dump` has written, without the `skip` bytes of its prefix."""
    file = BytesIO(data)
    file.seek(skip)
    return _Unpickler(file, find, refer).load()


def failing_part(value: Any, key_of: KeyOf, reference_to: ReferenceTo) -> tuple[list[str], Exception | None]:
    """Return the path to the innermost part of `value` that can't be written by itself, and why not.

    The path is empty if each part can be written alone.
    """
    path: list[str] = []
    reason: Exception | None = None
    entered = {id(value)}

    def reference_to_known(part: Any) -> tuple[Any, ...] | None:
        # What refers to the whole isn't the culprit because something else in the whole can't be written.
        return ("entered",) if id(part) in entered else reference_to(part)

    while len(path) < _MAX_PATH:
        try:
            parts = parts_of(value)
        except Exception:  # whatever the user's objects raise when they are looked at
            break
        for name, part in parts:
            if id(part) in entered:
                continue
            try:
                dump(part, key_of, reference_to_known)
            except Exception as error:  # whatever the user's objects raise when they are pickled
                if isinstance(error, UnsendableItem):  # it is about a class, and says so
                    raise
                path.append(name)
                value, reason = part, error
                entered.add(id(part))
                break
        else:
            break
    return path, reason


def parts_of(value: Any) -> Iterable[tuple[str, Any]]:
    """Return what pickle would look into, by its names."""
    if isinstance(value, dict):
        return [(str(key), part) for key, part in value.items()]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=False))
    if isinstance(value, list | tuple | set | frozenset):
        return [(str(number), part) for number, part in enumerate(value)]
    if is_definition(value) or isinstance(value, enum.Enum):  # a member is found by its class
        return []
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
        return [(name, getattr(value, name)) for name in names if hasattr(value, name)]
    try:
        state = value.__getstate__()
    except Exception:  # the user's code
        state = None
    if isinstance(state, list) and dataclasses.is_dataclass(value):  # with slots
        return list(zip([field.name for field in dataclasses.fields(value)], state, strict=False))
    parts: list[tuple[str, Any]] = []
    for half in state if isinstance(state, tuple) and len(state) == 2 else (state,):
        if isinstance(half, dict):
            for name, part in half.items():
                # pydantic's models keep their fields a level below
                nested = name.startswith("__") and isinstance(part, dict) if isinstance(name, str) else False
                parts += part.items() if nested else [(str(name), part)]
    return parts or list(getattr(value, "__dict__", {}).items())
