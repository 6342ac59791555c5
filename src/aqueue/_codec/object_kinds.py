"""Chooses the adapter of a class; the adapters of Structs, named tuples, pydantic models and classes with dump and load."""

import dataclasses
import enum
import inspect
import sys
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from aqueue._codec.object_state import AttributesAdapter, ClassAdapter, check_name, missing_field
from aqueue._codec.policies import policies_of
from aqueue._codec.values import Refusal

__all__ = ["DumpLoadAdapter", "adapter_of", "is_built_in"]

_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, not built into Python


def is_built_in(cls: type) -> bool:
    """Return whether `cls` is built into Python or an extension module, and not made by a class statement."""
    return not cls.__flags__ & _HEAP_TYPE


class StructAdapter(AttributesAdapter):
    """msgspec Structs. The constructor makes them; what ``__post_init__`` has changed is set again."""

    def __init__(self, cls: type, policies: Mapping[str, Any]) -> None:
        super().__init__(cls, policies)
        self.in_dict = False  # a Struct without fields can have one, but `object.__new__` doesn't make Structs

    def make(self, fields: dict[str, Any], parts: dict[str, Any]) -> Any:
        given = {**fields, **dict(self._missing(fields))}
        made = self.cls(**given)
        for name, value in given.items():
            if getattr(made, name) is not value:
                msgspec.structs.force_setattr(made, name, value)
        if self._has_dict:
            made.__dict__.clear()
            made.__dict__.update(parts.get("$extra", {}))
        return made


class NamedTupleAdapter(ClassAdapter):
    """Named tuples."""

    def read(self, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        if self._has_dict and not self._skipped.issuperset(value.__dict__):
            raise Refusal("is a named tuple with attributes that aren't fields")
        held = zip(value._fields, tuple.__iter__(value), strict=True)
        return {name: part for name, part in held if name in self.fields}, {}

    def make(self, fields: dict[str, Any], parts: dict[str, Any]) -> Any:
        given = {**self.policies, **fields, **dict(self._missing(fields))}
        return tuple.__new__(self.cls, [given[name] for name in self.cls._fields])


class ModelAdapter(ClassAdapter):
    """pydantic models, with private attributes, extra ones, and which fields were set."""

    parts = frozenset({"$extra", "$private", "$unset"})

    def _read_annotations(self) -> dict[str, Any]:
        return {**super()._read_annotations(), **{n: field.annotation for n, field in self.cls.model_fields.items()}}

    def read(self, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        for name in value.__dict__:
            if name not in self.fields and name not in self._skipped:  # such as a value set over a cached property
                raise Refusal(f"attribute {name!r} isn't a field of the model")
        fields = self._in_order({name: value.__dict__[name] for name in self.fields if name in value.__dict__})
        extra = (value.__pydantic_extra__ or {}).items()
        parts: dict[str, Any] = {
            "$extra": {name: part for name, part in sorted(extra) if name not in self.policies},
            "$private": dict(sorted((value.__pydantic_private__ or {}).items())),
            "$unset": sorted(set(fields) - value.__pydantic_fields_set__),
        }
        for name in (*parts["$extra"], *parts["$private"]):
            check_name(name)
        return fields, {name: part for name, part in parts.items() if part}

    def make(self, fields: dict[str, Any], parts: dict[str, Any]) -> Any:
        given: dict[str, Any] = {}
        for name, field in self.cls.model_fields.items():
            if name in fields:
                given[name] = fields[name]
            elif field.is_required():
                raise missing_field(self.cls, name)
            else:
                given[name] = field.get_default(call_default_factory=True, validated_data=dict(given))
        is_set = fields.keys() - set(parts.get("$unset", ()))
        extra = private = None
        if self.cls.model_config.get("extra") == "allow":
            extra = parts.get("$extra", {})
            is_set |= extra.keys()
        if self.cls.__private_attributes__:
            undefined = sys.modules["pydantic_core"].PydanticUndefined
            defaults = {name: attribute.get_default() for name, attribute in self.cls.__private_attributes__.items()}
            private = {name: value for name, value in defaults.items() if value is not undefined}
            private.update({n: value for n, value in parts.get("$private", {}).items() if n in defaults})
        made: Any = object.__new__(self.cls)
        state: dict[str, Any] = {"__dict__": given, "__pydantic_fields_set__": is_set}
        if not self.cls.__pydantic_root_model__:  # those have neither
            state |= {"__pydantic_extra__": extra, "__pydantic_private__": private}
        for name, value in state.items():
            object.__setattr__(made, name, value)
        return made


class DumpLoadAdapter(ClassAdapter):
    """Classes that choose what is stored by ``dump`` and ``load``, which gets a dict of what was recorded without ``dump``."""

    parts = frozenset({"$dump", "$extra", "$private", "$unset"})

    def __init__(self, cls: type, policies: Mapping[str, Any]) -> None:
        super().__init__(cls, policies)
        self.declares = False

    def read(self, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            return {}, {"$dump": value.dump()}
        except Exception as error:
            raise Refusal(f"its dump() raised {type(error).__qualname__}: {error}") from error

    def make(self, fields: dict[str, Any], parts: dict[str, Any]) -> Any:
        data = (
            parts["$dump"] if "$dump" in parts else {**fields, **parts.get("$extra", {}), **parts.get("$private", {})}
        )
        return self.cls.load(data)


def adapter_of(cls: type, *, item: bool) -> ClassAdapter:
    """Return what reads and makes objects of `cls`.

    Parameters:
        cls: the class.
        item: whether it is a class of items. A class of other values must be of a special kind: an object of a plain class
            may be more than its attributes.

    Raises:
        Refusal: objects of this class can't be stored; the reason is worded to follow the name of the class.
    """
    policies = policies_of(cls) if item else {}
    dump, load = (inspect.getattr_static(cls, name, None) for name in ("dump", "load"))
    if callable(dump) and load is not None:
        if not isinstance(load, classmethod):
            raise Refusal("defines dump and load, but load is not a class method: write '@classmethod' above it")
        return DumpLoadAdapter(cls, policies)
    if issubclass(cls, enum.Enum):
        raise Refusal("is an enum")
    if issubclass(cls, msgspec.Struct):
        return StructAdapter(cls, policies)
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic is not None and issubclass(cls, pydantic.BaseModel):
        return ModelAdapter(cls, policies)
    if issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "_field_defaults"):
        return NamedTupleAdapter(cls, policies)
    if not (item or dataclasses.is_dataclass(cls) or hasattr(cls, "__attrs_attrs__")):
        raise Refusal(
            "is not a dataclass, an attrs class, a Struct, a pydantic model, an enum or a named tuple, and does not define "
            "dump and load"
        )
    if any(base is not object and is_built_in(base) for base in cls.__mro__):
        raise Refusal("is a subclass of a built-in type, which has state outside its attributes")
    try:
        object.__new__(cls)
    except TypeError as error:
        raise Refusal(f"can't be created without calling its constructor ({error})") from error
    return AttributesAdapter(cls, policies)
