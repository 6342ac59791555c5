"""Reads the state of objects, and makes equal objects from it: by an adapter for each class.

No `__init__`, `__new__` or `__post_init__` is called for that, except by a msgspec Struct, which can't be made without.
"""

import dataclasses
import enum
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from types import MemberDescriptorType
from typing import Any, ClassVar, Final, cast

from aqueue._codec.annotations import annotations_of, class_annotations, classes_in, is_class_variable
from aqueue._codec.assignments import assigned_by_init, cached_names
from aqueue._codec.values import CONTAINERS, SCALARS, WRITERS, Unwritable, is_plain_text

__all__ = ["AttributesAdapter", "ClassAdapter", "MissingField", "check_name", "default_of"]

_ABSENT: Final = object()
_DATA: Final = frozenset({*WRITERS, *CONTAINERS, list})

_Default = Callable[[object], object]
"""Returns the value of an attribute that was not recorded; it gets the object, or None before there is one."""


class MissingField(Exception):
    """A field that has no default was not recorded."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class ClassAdapter:
    """Reads the state of objects of one class, and makes objects from such states; it has a subclass for each kind of class.

    Attributes:
        cls: the class.
        fields: the fields that the class declares, in their order, each with its default; None if it has none.
        declares: whether `fields` are all that a new object has. Otherwise any attribute is one, and all are sorted.
        optional: fields without a default that an object may yet lack.
        parts: what `read` may return beside fields.
        policies: of a class of items, what it says to aqueue, by name: it is neither read nor given to `make`.
    """

    parts: ClassVar[frozenset[str]] = frozenset({"$extra"})

    def __init__(self, cls: type, policies: Mapping[str, Any]) -> None:
        self.cls = cls
        self.policies = policies
        self.fields: dict[str, _Default | None] = {}
        self.declares = True
        self.optional: frozenset[str] = frozenset()
        self._annotations: dict[str, Any] | None = None
        self._classes: dict[str, dict[str, type | None]] = {}

    def read(self, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the object's fields, and what else it has: attributes by name, in parts whose names begin with ``$``.

        Raises:
            Unwritable: the object has something that can't be read or restored.
        """
        raise NotImplementedError

    def make(self, fields: dict[str, Any], parts: dict[str, Any]) -> Any:
        """Return an object with these fields and parts; fields that are not given have their defaults.

        Raises:
            MissingField: a field without a default is not given.
        """
        raise NotImplementedError

    def outline(self, names: tuple[str, ...]) -> dict[str, Any] | None:
        """Return what `read` finds in an object that is made of fields of these `names`: None for those, else defaults.

        Returns None if that depends on more than the names: a field is gone, or has a default that is made each time.

        Raises:
            MissingField: a field without a default is not among them.
        """
        if not self.fields.keys() >= set(names):
            return None
        outline: dict[str, Any] = {}
        for name, default in self.fields.items():
            if name in names:
                outline[name] = None
            elif isinstance(default, functools.partial) and default.func is _same:
                outline[name] = default.args[0]
            elif isinstance(default, functools.partial) and (default.args[0] is list or default.args[0] is dict):
                outline[name] = default(None)
            elif default is not None:
                return None
            elif name not in self.optional:
                raise MissingField(name)
        return outline

    def classes(self, attribute: str) -> dict[str, type | None]:
        """Return the classes that the attribute's annotation names, by their names; None for one that two have."""
        found = self._classes.get(attribute)
        if found is None:
            if self._annotations is None:
                self._annotations = self._read_annotations()
            found = self._classes[attribute] = {}
            for cls in classes_in(self._annotations.get(attribute), self.cls):
                found[cls.__name__] = None if cls.__name__ in found else cls
        return found

    def _declare(self, fields: dict[str, _Default | None]) -> None:
        self.fields = {name: default for name, default in fields.items() if name not in self.policies}

    def _read_annotations(self) -> dict[str, Any]:
        return annotations_of(self.cls)

    def _in_order(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the declared fields among `values` in the order of declaration, taken out of `values`."""
        found = {}
        for name in self.fields:
            if name in values:
                found[name] = values.pop(name)
            elif name not in self.optional:
                raise Unwritable(f"attribute {name!r} is not set")
        return found


class AttributesAdapter(ClassAdapter):
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
            declared: Any = dataclasses.fields(cls)
            missing: object = dataclasses.MISSING
            self._declare({f.name: default_of(f.default, f.default_factory, missing) for f in declared})
        elif hasattr(cls, "__attrs_attrs__"):
            declared = cast(Any, cls).__attrs_attrs__
            self._declare({field.name: _attrs_default(field) for field in declared})
        else:
            declared = ()
            self.declares = False
            self._declare(self._class_defaults())
        self.optional = frozenset(
            field.name for field in declared if not field.init and self.fields.get(field.name) is None
        )
        # `__orig_class__` is what a generic class writes on its objects.
        self._skipped = (cached_names(cls) | {"__orig_class__", *policies}).difference(self.fields)
        # What an object has only in itself: the class has slots in its place, or attrs has taken it off the class.
        self._given = {name: value for name, value in policies.items() if getattr(cls, name, _ABSENT) is not value}

    def _class_defaults(self) -> dict[str, _Default | None]:
        """Return what the class declares as a dataclass would: ``retries: int = 3`` in its body."""
        found: dict[str, _Default | None] = {}
        for name, annotation in class_annotations(self.cls).items():
            value = inspect.getattr_static(self.cls, name, _ABSENT)
            if not is_class_variable(annotation) and self._is_data(name, value):
                found[name] = functools.partial(_same, value)
        return found

    def _is_data(self, name: str, value: object) -> bool:
        # A logger or a client belongs to the class or to the program, whatever its annotation.
        return type(value) in _DATA or (isinstance(value, enum.Enum) and type(value) in self.classes(name).values())

    @functools.cached_property
    def _defaults(self) -> dict[str, _Default | None]:
        """What a class of no special kind gives an object that it was not recorded with: its `__init__`, or its body."""
        found = dict(self.fields)
        for name, value in assigned_by_init(self.cls).items():
            is_managed = inspect.isdatadescriptor(inspect.getattr_static(self.cls, name, None))
            if self._is_data(name, value) and name not in self._skipped and (name in self._slots or not is_managed):
                is_scalar = type(value) in SCALARS
                found[name] = functools.partial(_same, value) if is_scalar else functools.partial(_copy, value)
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


def _attrs_default(field: Any) -> _Default | None:
    attr: Any = sys.modules["attr"]
    if not isinstance(field.default, attr.Factory):
        return default_of(field.default, attr.NOTHING, attr.NOTHING)
    factory: Callable[..., object] = field.default.factory
    return factory if field.default.takes_self else functools.partial(_call, factory)


def default_of(value: object, factory: Any, missing: object) -> _Default | None:
    """Return what gives a field its default: `value`, or what `factory` makes; None if both are `missing`."""
    if value is not missing:
        return functools.partial(_same, value)
    return None if factory is missing else functools.partial(_call, factory)


def _same(value: object, made: object) -> object:
    return value


def _call(factory: Callable[[], object], made: object) -> object:
    return factory()


@functools.lru_cache(1_024)  # it is asked for each attribute of each item, of which most have a few names in common
def check_name(name: object) -> None:
    """Raise `Unwritable` if no attribute by this name is ever stored or restored."""
    if (
        type(name) is not str
        or name.startswith("$")
        or (name.startswith("__") and name.endswith("__"))
        or not is_plain_text(name)
    ):
        raise Unwritable(f"attribute {name!r} has a name that can't be restored")
