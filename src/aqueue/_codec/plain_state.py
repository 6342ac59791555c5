"""The state of dataclasses, attrs classes and classes of no special kind: what is in ``__dict__`` and ``__slots__``."""

import dataclasses
import enum
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from types import MemberDescriptorType
from typing import Any, Final, cast

from aqueue._codec.annotations import class_annotations, is_class_variable
from aqueue._codec.object_state import (
    Default,
    MissingField,
    State,
    assigned_by_init,
    cached_names,
    call,
    check_name,
    same,
)
from aqueue._codec.values import CONTAINERS, SCALARS, WRITERS

__all__ = ["Plain"]

_ABSENT: Final = object()
_DATA: Final = frozenset({*WRITERS, *CONTAINERS, list})


class Plain(State):
    """Dataclasses, attrs classes and classes of no special kind: attributes in ``__dict__`` and ``__slots__``.

    Attributes:
        in_dict: whether all attributes are in ``__dict__``.
    """

    def __init__(self, cls: type, policies: Mapping[str, Any]) -> None:
        super().__init__(cls, policies)
        self._slots: dict[str, MemberDescriptorType] = {}
        for base in cls.__mro__:
            for name, value in vars(base).items():
                if type(value) is MemberDescriptorType and name not in self._slots:
                    self._slots[name] = value
        self.in_dict = cls.__dictoffset__ != 0 and not self._slots
        self._has_dict = cls.__dictoffset__ != 0
        if dataclasses.is_dataclass(cls):
            self._declare({field.name: _dataclass_default(field) for field in dataclasses.fields(cls)})
            self.optional = frozenset(
                field.name for field in dataclasses.fields(cls) if not field.init and _dataclass_default(field) is None
            )
        elif hasattr(cls, "__attrs_attrs__"):
            declared = cast(Any, cls).__attrs_attrs__
            self._declare({field.name: _attrs_default(field) for field in declared})
            self.optional = frozenset(
                field.name for field in declared if not field.init and field.default is _nothing()
            )
        else:
            self.declares = False
            self._declare(self._class_defaults())
        # `__orig_class__` is what a generic class writes on its objects.
        self._skipped = (cached_names(cls) | {"__orig_class__", *policies}).difference(self.fields)
        # What an object has only in itself: the class has slots in its place, or attrs has taken it off the class.
        self._given = {name: value for name, value in policies.items() if getattr(cls, name, _ABSENT) is not value}

    def _class_defaults(self) -> dict[str, Default | None]:
        """Return what the class declares as a dataclass would: ``retries: int = 3`` in its body."""
        found: dict[str, Default | None] = {}
        for name, annotation in class_annotations(self.cls).items():
            value = inspect.getattr_static(self.cls, name, _ABSENT)
            if not is_class_variable(annotation) and self._is_data(name, value):
                found[name] = functools.partial(same, value)
        return found

    def _is_data(self, name: str, value: object) -> bool:
        # A logger or a client belongs to the class or to the program, whatever its annotation.
        return type(value) in _DATA or (isinstance(value, enum.Enum) and type(value) in self.classes(name).values())

    @functools.cached_property
    def _defaults(self) -> dict[str, Default | None]:
        """What a class of no special kind gives an object that it was not recorded with: its `__init__`, or its body."""
        found = dict(self.fields)
        for name, value in assigned_by_init(self.cls).items():
            is_managed = inspect.isdatadescriptor(inspect.getattr_static(self.cls, name, None))
            if self._is_data(name, value) and name not in self._skipped and (name in self._slots or not is_managed):
                is_scalar = type(value) in SCALARS
                found[name] = functools.partial(same, value) if is_scalar else functools.partial(_copy, value)
        return found

    def outline(self, names: tuple[str, ...]) -> dict[str, Any] | None:
        if self.declares:
            return super().outline(names)
        defaults = {name: default(None) for name, default in self._defaults.items() if default is not None}
        return dict(sorted({**defaults, **dict.fromkeys(names)}.items()))

    def read(self, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        values: dict[str, Any] = {}
        for name, slot in self._slots.items():
            try:
                values[name] = slot.__get__(value, self.cls)
            except AttributeError:  # not set
                continue
        if self._has_dict:
            values.update(value.__dict__)
        if not self._skipped.isdisjoint(values):
            for name in self._skipped:
                values.pop(name, None)
        for name in values:
            check_name(name)
        if not self.declares:
            for name, default in self.fields.items():
                if name not in values and default is not None:
                    values[name] = default(value)
            return dict(sorted(values.items())), {}
        for name in self.fields:
            if name not in values and hasattr(value, name):  # a default that stands in the class alone
                values[name] = getattr(value, name)
        fields = self._in_order(values)
        return fields, {"$extra": dict(sorted(values.items()))} if values else {}

    def make(self, fields: dict[str, Any], parts: dict[str, Any]) -> Any:
        made: Any = object.__new__(self.cls)
        if self.declares:
            for name in self.fields:
                if name in fields:
                    self._set(made, name, fields[name])
            for name, default in self.fields.items():
                if name in fields:
                    continue
                if default is not None:
                    self._set(made, name, default(made))
                elif name not in self.optional:
                    raise MissingField(name)
        else:
            for name, default in self._defaults.items():
                if name not in fields and default is not None:
                    self._set(made, name, default(made))
            for name, value in fields.items():
                self._set(made, name, value)
        for name, value in {**self._given, **parts.get("$extra", {})}.items():
            self._set(made, name, value)
        return made

    def _set(self, made: object, name: str, value: object) -> None:
        # Not setattr: the class may be frozen, or do more than set the attribute.
        slot = self._slots.get(name)
        if slot is not None:
            slot.__set__(made, value)
        elif self._has_dict:  # otherwise the class has no such attribute any more
            made.__dict__[name] = value


def _copy(value: object, made: object) -> object:
    return deepcopy(value)


def _nothing() -> object:
    return cast(Any, sys.modules["attr"]).NOTHING


def _dataclass_default(field: "dataclasses.Field[Any]") -> Default | None:
    if field.default is not dataclasses.MISSING:
        return functools.partial(same, field.default)
    if field.default_factory is not dataclasses.MISSING:
        return functools.partial(call, field.default_factory)
    return None


def _attrs_default(field: Any) -> Default | None:
    if field.default is _nothing():
        return None
    if isinstance(field.default, cast(Any, sys.modules["attr"]).Factory):
        factory: Callable[..., object] = field.default.factory
        return factory if field.default.takes_self else functools.partial(call, factory)
    return functools.partial(same, field.default)
