"""Outlines: values told apart as far as that goes, for those that can't be stored."""

import enum
from contextlib import suppress
from typing import Any, Final

from aqueue._types import has_process
from aqueue.item import type_name

__all__ = ["outline_of"]

MAX_DEPTH: Final = 10
"""How deep is looked into a value; what is nested deeper is told apart by its class alone."""

_SCALARS: Final = frozenset({str, bytes, bool, int, float, complex, type(None)})


def outline_of(value: object, depth: int = 0) -> Any:
    """Return data for JSON that is the same for values that are equal, within this process; never raises.

    What compares by value is told apart by its value: containers, an URL object, a data class. What compares by identity
    is told apart by its class only, since the next attempt may well make a new one (a client, a lock, an open file);
    and so are items, whose state changes while they run.
    """
    name = ""
    try:
        name = type_name(type(value))
        return [name, _value_of(value, depth)]
    except Exception:  # the value's own code: __hash__, a property called __dict__
        return [name]


def _value_of(value: Any, depth: int) -> Any:
    cls = type(value)
    if cls in _SCALARS:
        return ascii(value) if cls is not int else hex(value)
    if depth > MAX_DEPTH or (depth and has_process(cls)):
        return None
    if isinstance(value, list | tuple):
        return [outline_of(part, depth + 1) for part in value]
    if isinstance(value, set | frozenset):
        return sorted(str(outline_of(part, depth + 1)) for part in value)
    if isinstance(value, dict):
        return [[outline_of(key, depth + 1), outline_of(part, depth + 1)] for key, part in value.items()]
    if isinstance(value, enum.Enum):
        return ascii(value.name)
    if isinstance(value, type):
        return type_name(value)
    equals, hashes = getattr(cls, "__eq__", None), getattr(cls, "__hash__", None)
    if depth and equals is object.__eq__:
        return None
    fields = [[ascii(field), outline_of(part, depth + 1)] for field, part in _fields_of(value)]
    if hasattr(cls, "__dataclass_fields__") or hasattr(cls, "__attrs_attrs__") or hasattr(cls, "__struct_fields__"):
        return fields
    if hashes is not None and hashes is not object.__hash__:
        # Unequal values may have equal hashes: with a hash alone one of two children would be taken for the other.
        with suppress(TypeError):
            shows = getattr(cls, "__repr__", None)
            return [hash(value), fields if shows is object.__repr__ else ascii(repr(value))]
    return fields


def _fields_of(value: Any) -> list[tuple[str, Any]]:
    names = dict.fromkeys(slot for cls in type(value).__mro__ for slot in _slots_of(cls))
    names |= dict.fromkeys(getattr(value, "__struct_fields__", ()))
    fields = [(name, getattr(value, name)) for name in names if hasattr(value, name)]
    declared = getattr(type(value), "__dataclass_fields__", {})
    return [
        (name, part)
        for name, part in (*fields, *getattr(value, "__dict__", {}).items())
        if name not in declared or declared[name].compare
    ]


def _slots_of(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    return tuple(
        name for name in ((slots,) if isinstance(slots, str) else slots) if name not in ("__dict__", "__weakref__")
    )
