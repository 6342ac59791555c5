"""Reads the state of objects, and makes equal objects from it: an adapter for each class.

This calls no `__init__`, `__new__` or `__post_init__`, except for msgspec Structs, which can't be created without.
"""

import enum
import functools
import inspect
from collections.abc import Iterator, Mapping
from copy import deepcopy
from types import MemberDescriptorType
from typing import Any, ClassVar, Final

from aqueue._codec.annotations import annotations_of, class_annotations, classes_in, is_class_variable
from aqueue._codec.assignments import assigned_by_init, cached_names
from aqueue._codec.class_names import type_name
from aqueue._codec.fields import ABSENT, Field, fields_of
from aqueue._codec.values import CONTAINERS, WRITERS, Refusal, is_plain_text

__all__ = ["AttributesAdapter", "ClassAdapter", "check_name", "missing_field"]

_DATA: Final = frozenset({*WRITERS, *CONTAINERS, list})


class ClassAdapter:
    """Reads the state of objects of one class, and makes objects from such states; each kind of class has a subclass.

    Attributes:
        cls: the class.
        fields: the fields that the class declares, in their order, without policies.
        declares: whether a new object has these fields and nothing else. Otherwise any attribute is a field, and they are
            sorted by name.
        in_dict: whether the state of an object is its ``__dict__``.
        parts: the names under which `read` may return what is not a field.
        policies: the policies of a class of items by name: they are neither read nor given to `make`.
    """

    parts: ClassVar[frozenset[str]] = frozenset({"$extra"})

    def __init__(self, cls: type, policies: Mapping[str, Any]) -> None:
        self.cls: Any = cls
        self.policies = policies
        declared = fields_of(cls)
        self.declares = declared is not None
        self.fields = {name: field for name, field in (declared or {}).items() if name not in policies}
        self.in_dict = False
        self._has_dict = cls.__dictoffset__ != 0
        # `__orig_class__` is what a generic class writes on its objects.
        self._skipped = (cached_names(cls) | {"__orig_class__", *policies}).difference(self.fields)
        self._annotations: dict[str, Any] | None = None
        self._classes: dict[str, dict[str, type | None]] = {}

    def read(self, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the object's fields, and its other attributes, in parts whose names begin with ``$``.

        Raises:
            Refusal: the object has something that can't be read or restored.
        """
        raise NotImplementedError

    def make(self, fields: dict[str, Any], parts: dict[str, Any]) -> Any:
        """Return an object with these fields and parts; fields that are not given get their defaults.

        Raises:
            Refusal: a field without a default is not given.
        """
        raise NotImplementedError

    def classes(self, attribute: str) -> dict[str, type | None]:
        """Return the classes that the attribute's annotation names, by name; None for a name that two of them have."""
        found = self._classes.get(attribute)
        if found is None:
            if self._annotations is None:
                self._annotations = self._read_annotations()
            found = self._classes[attribute] = {}
            for cls in classes_in(self._annotations.get(attribute), self.cls):
                found[cls.__name__] = None if cls.__name__ in found else cls
        return found

    def _read_annotations(self) -> dict[str, Any]:
        return annotations_of(self.cls)

    def _is_optional(self, field: Field) -> bool:
        """Return whether an object may lack the field although that has no default: the constructor doesn't set it."""
        return not field.is_parameter and field.is_required

    def _in_order(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the fields among `values` in the order of declaration, and remove them from `values`."""
        found = {}
        for name, field in self.fields.items():
            if name in values:
                found[name] = values.pop(name)
            elif not self._is_optional(field):
                raise Refusal(f"attribute {name!r} is not set")
        return found

    def _missing(self, given: dict[str, Any], made: object = None) -> Iterator[tuple[str, Any]]:
        """Yield each field that is not `given` with its default for the object `made`."""
        for name, field in self.fields.items():
            if name not in given:
                if not field.is_required:
                    yield name, field.make(made)
                elif not self._is_optional(field):
                    raise missing_field(self.cls, name)


class AttributesAdapter(ClassAdapter):
    """Dataclasses, attrs classes and plain classes: attributes in ``__dict__`` and ``__slots__``."""

    def __init__(self, cls: type, policies: Mapping[str, Any]) -> None:
        super().__init__(cls, policies)
        self._slots: dict[str, MemberDescriptorType] = {}
        for base in cls.__mro__:
            for name, value in vars(base).items():
                if type(value) is MemberDescriptorType and name not in self._slots:
                    self._slots[name] = value
        self.in_dict = self._has_dict and not self._slots
        if not self.declares:
            self.fields = self._class_defaults()
        # Policies that only objects have: the class has slots in their place, or attrs has removed them from the class.
        self._given = {name: value for name, value in policies.items() if getattr(cls, name, ABSENT) is not value}

    def _class_defaults(self) -> dict[str, Field]:
        """Return what the body of a plain class declares as a dataclass would: ``retries: int = 3``."""
        found: dict[str, Field] = {}
        for name, annotation in class_annotations(self.cls).items():
            value = inspect.getattr_static(self.cls, name, ABSENT)
            if name not in self.policies and not is_class_variable(annotation) and self._is_data(name, value):
                found[name] = Field(value)
        return found

    def _is_data(self, name: str, value: object) -> bool:
        # A logger or a client belongs to the class or the program, no matter how it is annotated.
        return type(value) in _DATA or (isinstance(value, enum.Enum) and type(value) in self.classes(name).values())

    @functools.cached_property
    def _defaults(self) -> dict[str, Field]:
        """The defaults of a plain class, from its body and its `__init__`, for what was not recorded."""
        found = dict(self.fields)
        for name, value in assigned_by_init(self.cls).items():
            is_managed = inspect.isdatadescriptor(inspect.getattr_static(self.cls, name, None))
            if self._is_data(name, value) and name not in self._skipped and (name in self._slots or not is_managed):
                found[name] = Field(factory=functools.partial(_copy, value))
        return found

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
            for name, field in self.fields.items():
                if name not in values:
                    values[name] = field.default
            return dict(sorted(values.items())), {}
        for name in self.fields:
            if name not in values and hasattr(value, name):  # a default that only the class has
                values[name] = getattr(value, name)
        fields = self._in_order(values)
        return fields, {"$extra": dict(sorted(values.items()))} if values else {}

    def make(self, fields: dict[str, Any], parts: dict[str, Any]) -> Any:
        made: Any = object.__new__(self.cls)
        if self.declares:
            # Those that are recorded first: a factory of attrs may read them, and the defaults before its own.
            for name in self.fields:
                if name in fields:
                    self._set(made, name, fields[name])
            for name, value in self._missing(fields, made):
                self._set(made, name, value)
        else:
            for name, field in self._defaults.items():
                if name not in fields:
                    self._set(made, name, field.make(made))
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


@functools.lru_cache(1_024)  # it is called for each attribute of each item, and most items share a few names
def check_name(name: object) -> None:
    """Raise `Refusal` if no attribute by this name is ever stored or restored."""
    if (
        type(name) is not str
        or name.startswith("$")
        or (name.startswith("__") and name.endswith("__"))
        or not is_plain_text(name)
    ):
        raise Refusal(f"attribute {name!r} has a name that can't be restored")


def missing_field(cls: type, name: str) -> Refusal:
    """Return the error for a field without a default that was not recorded."""
    return Refusal(f"{type_name(cls)} has the field {name!r}, which was not recorded and has no default")
