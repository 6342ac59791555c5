"""Finds the policies of a class of items, such as its `retry`: class attributes or fields that are no part of an item."""

import dataclasses
import inspect
import sys
from collections.abc import Sequence
from types import MemberDescriptorType
from typing import Any, Final, cast

import msgspec

from aqueue._codec.annotations import annotated_names

__all__ = ["policies_of", "previous_names"]

_POLICIES: Final = ("track_overall", "after_children_rule", "previous_names", "retry", "timeout_s")
_ABSENT: Final = object()


def policies_of(cls: type) -> dict[str, Any]:
    """Return the policies that `cls` has, by name: what it says to aqueue, which is no part of an item.

    The value of one is that of a class attribute, or the default of a field. A field that has none is no policy: it is
    data, of which each item has its own.
    """
    fields = _fields_of(cls)
    found = {name: _policy(cls, name, cls.__mro__, fields) for name in _POLICIES}
    return {name: value for name, value in found.items() if value is not _ABSENT}


def _policy(cls: type, name: str, bases: Sequence[type], fields: dict[str, Any]) -> Any:
    """Return what the first of `bases` that has the policy says; `_ABSENT` if that is no value, or none has it.

    Of a field the class itself may have nothing (pydantic, and attrs without slots, take it off), only what reads the field
    from objects (slots, Structs), or, for an inherited one, a value that a subclass has put in its place.
    """
    for base in bases:
        value = vars(base).get(name, _ABSENT)
        if name in fields and (_declares(base, name) if value is _ABSENT else inspect.isdatadescriptor(value)):
            return fields[name]
        if value is not _ABSENT:
            return _ABSENT if isinstance(value, MemberDescriptorType) else getattr(cls, name, _ABSENT)
    return _ABSENT


def _declares(cls: type, name: str) -> bool:
    return name in annotated_names(cls) or any(
        field.name == name and not field.inherited for field in vars(cls).get("__attrs_attrs__", ())
    )


def _fields_of(cls: Any) -> dict[str, Any]:
    """Return the fields that `cls` declares, each with its default, or what makes that; `_ABSENT` for one without."""
    missing: object = _ABSENT
    found: dict[str, Any] = {}
    if issubclass(cls, msgspec.Struct):
        missing = msgspec.NODEFAULT
        found = dict.fromkeys(cls.__struct_fields__, missing)
        found.update(zip(reversed(cls.__struct_fields__), reversed(cls.__struct_defaults__), strict=False))
    elif hasattr(cls, "__pydantic_fields__"):
        missing = sys.modules["pydantic_core"].PydanticUndefined
        found = {name: field.default_factory or field.default for name, field in cls.__pydantic_fields__.items()}
    elif dataclasses.is_dataclass(cls):
        missing = dataclasses.MISSING
        for field in dataclasses.fields(cls):
            found[field.name] = field.default if field.default_factory is missing else field.default_factory
    elif hasattr(cls, "__attrs_attrs__"):
        missing = cast(Any, sys.modules["attr"]).NOTHING
        found = {field.name: field.default for field in cls.__attrs_attrs__}
    elif issubclass(cls, tuple) and hasattr(cls, "_field_defaults"):
        found = {**dict.fromkeys(cast(Any, cls)._fields, missing), **cls._field_defaults}
    return {name: _ABSENT if default is missing else default for name, default in found.items()}


def previous_names(cls: type) -> Any:
    """Return the `previous_names` that `cls` itself has, whatever that is; an empty tuple if it has none."""
    names = _policy(cls, "previous_names", (cls,), _fields_of(cls))
    return () if names is _ABSENT else names
