"""The policies of a class of items, such as its `retry`: class attributes or fields that are not part of an item."""

import inspect
from collections.abc import Sequence
from types import MemberDescriptorType
from typing import Any, Final

from aqueue._codec.annotations import annotated_names
from aqueue._codec.fields import ABSENT, Field, fields_of

__all__ = ["policies_of", "previous_names"]

_POLICIES: Final = ("track_overall", "after_children_rule", "previous_names", "retry", "timeout_s")


def policies_of(cls: type) -> dict[str, Any]:
    """Return the policies of `cls` by name: its settings for aqueue, which are not part of an item.

    The value is that of the class attribute, or the default of the field. A field without a default is not a policy but
    data, since each item has a value of its own.
    """
    fields = fields_of(cls) or {}
    found = {name: _policy(cls, name, cls.__mro__, fields) for name in _POLICIES}
    return {name: value for name, value in found.items() if value is not ABSENT}


def _policy(cls: type, name: str, bases: Sequence[type], fields: dict[str, Field]) -> Any:
    """Return the policy from the first of `bases` that has it; `ABSENT` if none has, or what has it holds no value.

    A class may lack an attribute for its field (pydantic removes it, and so does attrs without slots), or have only the
    descriptor that reads the field from objects (slots, Structs). An inherited field may have been replaced by a value in
    a subclass.
    """
    for base in bases:
        value = vars(base).get(name, ABSENT)
        if name in fields and (_declares(base, name) if value is ABSENT else inspect.isdatadescriptor(value)):
            # The factory itself, which is refused where the policy is checked: classes have policies, items don't.
            return fields[name].factory or fields[name].default
        if value is not ABSENT:
            return ABSENT if isinstance(value, MemberDescriptorType) else getattr(cls, name, ABSENT)
    return ABSENT


def _declares(cls: type, name: str) -> bool:
    return name in annotated_names(cls) or any(
        field.name == name and not field.inherited for field in vars(cls).get("__attrs_attrs__", ())
    )


def previous_names(cls: type) -> Any:
    """Return the `previous_names` that `cls` itself has, whatever its type; an empty tuple if it has none."""
    names = _policy(cls, "previous_names", (cls,), fields_of(cls) or {})
    return () if names is ABSENT else names
