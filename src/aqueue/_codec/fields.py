"""The fields that a class declares, with their defaults: by kind of class, without evaluating annotations."""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple, cast

import msgspec

__all__ = ["ABSENT", "Field", "fields_of"]

ABSENT: Final = object()
"""Stands for a value that is not there; None may be a value."""

_StructFactory: Final[Any] = type(
    cast(Any, msgspec.defstruct("_", [("made", list, msgspec.field(default_factory=list))])).__struct_defaults__[0]
)
"""What msgspec has as the default of a field that has a factory."""


class Field(NamedTuple):
    """The default of a field.

    Attributes:
        default: the default; `ABSENT` if there is none, or a factory.
        factory: makes the default from the object, which is None before there is one; None if there is no factory.
        is_parameter: whether the constructor takes a value for the field.
    """

    default: Any = ABSENT
    factory: Callable[[Any], Any] | None = None
    is_parameter: bool = True

    @property
    def is_required(self) -> bool:
        """Whether there is no default."""
        return self.default is ABSENT and self.factory is None

    def make(self, made: object) -> Any:
        """Return the default for the object `made`."""
        return self.default if self.factory is None else self.factory(made)


def fields_of(cls: Any) -> dict[str, Field] | None:
    """Return the fields that `cls` declares, in their order; None for a plain class.

    The factories of pydantic models must not be called: they may need the values of other fields.
    """
    if issubclass(cls, msgspec.Struct):
        names, defaults = cls.__struct_fields__, cls.__struct_defaults__
        required = (msgspec.NODEFAULT,) * (len(names) - len(defaults))
        return {name: _struct_field(default) for name, default in zip(names, (*required, *defaults), strict=True)}
    if dataclasses.is_dataclass(cls):
        return {field.name: _dataclass_field(field) for field in dataclasses.fields(cls)}
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic is not None and issubclass(cls, pydantic.BaseModel):
        return {name: _model_field(field) for name, field in cls.model_fields.items()}
    if issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "_field_defaults"):
        return {name: Field(cls._field_defaults.get(name, ABSENT)) for name in cls._fields}
    if hasattr(cls, "__attrs_attrs__"):
        return {field.name: _attrs_field(field) for field in cls.__attrs_attrs__}
    return None


def _field(default: object, missing: object, factory: Any = None, is_parameter: bool = True) -> Field:
    if factory is not None and factory is not missing:
        return Field(factory=lambda made: factory(), is_parameter=is_parameter)
    return Field(ABSENT if default is missing else default, is_parameter=is_parameter)


def _struct_field(default: Any) -> Field:
    return _field(default, msgspec.NODEFAULT, default.factory if type(default) is _StructFactory else None)


def _dataclass_field(field: Any) -> Field:
    return _field(field.default, dataclasses.MISSING, field.default_factory, field.init)


def _model_field(field: Any) -> Field:
    return _field(field.default, sys.modules["pydantic_core"].PydanticUndefined, field.default_factory)


def _attrs_field(field: Any) -> Field:
    attr: Any = sys.modules["attr"]
    default = field.default
    if not isinstance(default, attr.Factory):
        return _field(default, attr.NOTHING, is_parameter=field.init)
    if default.takes_self:
        return Field(factory=default.factory, is_parameter=field.init)
    return _field(default, attr.NOTHING, default.factory, field.init)
