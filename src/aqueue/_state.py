"""What the state of an object is, class by class: how it is read, and how an equal object is made from it.

No `__init__`, `__new__` or `__post_init__` is called for that, except by a msgspec Struct, which can't be made without.
"""

import dataclasses
import enum
import functools
import inspect
import sys
from collections.abc import Callable
from types import MemberDescriptorType
from typing import Any, ClassVar, Final, cast

import msgspec

from aqueue._annotations import annotations_of, class_annotations, classes_in, is_class_variable
from aqueue._tags import WRITERS, Unwritable, is_plain_text

__all__ = ["Dumped", "MissingField", "Model", "NamedFields", "Plain", "State", "Structure", "check_name", "state_of"]

_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, not built into Python

Default = Callable[[object], object]
"""Returns the value of an attribute that was not recorded; it gets the object, or None before there is one."""


class MissingField(Exception):
    """A field that has no default was not recorded."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class State:
    """How objects of one class are read and made; one is made for each class, and its subclasses for each kind of class.

    Attributes:
        cls: the class.
        fields: the fields that the class declares, in their order, each with its default; None if it has none.
        declares: whether `fields` are all that a new object has. Otherwise any attribute is one, and all are sorted.
        optional: fields without a default that an object may yet lack.
        parts: what `read` may return beside fields.
    """

    parts: ClassVar[frozenset[str]] = frozenset({"$extra"})

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self.fields: dict[str, Default | None] = {}
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

    def classes(self, attribute: str) -> dict[str, type | None]:
        """Return the classes that the attribute's annotation names, by their names; None for one that two have."""
        found = self._classes.get(attribute)
        if found is None:
            if self._annotations is None:
                self._annotations = self._read_annotations()
            found = self._classes[attribute] = {}
            for cls in classes_in(self._annotations.get(attribute)):
                found[cls.__name__] = None if cls.__name__ in found else cls
        return found

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


class Plain(State):
    """Dataclasses, attrs classes and classes of no special kind: attributes in ``__dict__`` and ``__slots__``.

    Attributes:
        in_dict: whether all attributes are in ``__dict__``.
    """

    def __init__(self, cls: type) -> None:
        super().__init__(cls)
        self._slots: dict[str, MemberDescriptorType] = {}
        for base in cls.__mro__:
            for name, value in vars(base).items():
                if type(value) is MemberDescriptorType and name not in self._slots:
                    self._slots[name] = value
        self.in_dict = cls.__dictoffset__ != 0 and not self._slots
        self._has_dict = cls.__dictoffset__ != 0
        self._skipped = {
            name
            for base in cls.__mro__
            for name, value in vars(base).items()
            if isinstance(value, functools.cached_property)
        } | {"__orig_class__"}  # what a generic class writes on its objects
        if dataclasses.is_dataclass(cls):
            self.fields = {field.name: _dataclass_default(field) for field in dataclasses.fields(cls)}
            self.optional = frozenset(
                field.name for field in dataclasses.fields(cls) if not field.init and self.fields[field.name] is None
            )
        elif hasattr(cls, "__attrs_attrs__"):
            declared = cast(Any, cls).__attrs_attrs__
            self.fields = {field.name: _attrs_default(field) for field in declared}
            self.optional = frozenset(
                field.name for field in declared if not field.init and field.default is _nothing()
            )
        else:
            self.declares = False
            self.fields = self._class_defaults()

    def _class_defaults(self) -> dict[str, Default | None]:
        """Return what the class declares as a dataclass would: ``retries: int = 3`` in its body."""
        found: dict[str, Default | None] = {}
        for name, annotation in class_annotations(self.cls).items():
            value = inspect.getattr_static(self.cls, name, _ABSENT)
            # Only plain data: a logger or a client in the class's body belongs to the class, whatever its annotation.
            if not is_class_variable(annotation) and (
                type(value) in _DATA or (isinstance(value, enum.Enum) and type(value) in classes_in(annotation))
            ):
                found[name] = functools.partial(_same, value)
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
            fields = {**{name: default(made) for name, default in self.fields.items() if default}, **fields}
            for name, value in fields.items():
                self._set(made, name, value)
        for name, value in parts.get("$extra", {}).items():
            self._set(made, name, value)
        return made

    def _set(self, made: object, name: str, value: object) -> None:
        # Not setattr: the class may be frozen, or do more than set the attribute.
        slot = self._slots.get(name)
        if slot is not None:
            slot.__set__(made, value)
        elif self._has_dict:  # otherwise the class has no such attribute any more
            made.__dict__[name] = value


class Structure(State):
    """msgspec Structs. They are made by their constructor; what their ``__post_init__`` changes is set again."""

    def __init__(self, cls: type) -> None:
        super().__init__(cls)
        declared = msgspec.structs.fields(cls)
        self.fields = {field.name: _struct_default(field) for field in declared}
        self._has_dict = cls.__dictoffset__ != 0

    def read(self, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        values = {name: getattr(value, name) for name in self.fields if hasattr(value, name)}
        extra = dict(sorted(value.__dict__.items())) if self._has_dict else {}
        for name in extra:
            check_name(name)
        return self._in_order(values), {"$extra": extra} if extra else {}

    def make(self, fields: dict[str, Any], parts: dict[str, Any]) -> Any:
        given = _with_defaults(self, fields)
        made = self.cls(**given)
        for name, value in given.items():
            if getattr(made, name) is not value:
                msgspec.structs.force_setattr(made, name, value)
        if self._has_dict:
            made.__dict__.clear()
            made.__dict__.update(parts.get("$extra", {}))
        return made


class NamedFields(State):
    """Named tuples."""

    def __init__(self, cls: type) -> None:
        super().__init__(cls)
        names = cast(Any, cls)._fields
        defaults = cast(Any, cls)._field_defaults
        self.fields = {name: functools.partial(_same, defaults[name]) if name in defaults else None for name in names}
        self._has_dict = cls.__dictoffset__ != 0

    def read(self, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        if self._has_dict and value.__dict__:
            raise Unwritable("is a named tuple with attributes beside its fields")
        return dict(zip(self.fields, tuple.__iter__(value), strict=True)), {}

    def make(self, fields: dict[str, Any], parts: dict[str, Any]) -> Any:
        given = _with_defaults(self, fields)
        return tuple.__new__(self.cls, [given[name] for name in self.fields])


class Model(State):
    """pydantic models, with private attributes, extra ones, and which fields were set."""

    parts = frozenset({"$extra", "$private", "$unset"})

    def __init__(self, cls: type) -> None:
        super().__init__(cls)
        self._model = cast(Any, cls)
        self.fields = dict.fromkeys(self._model.model_fields)  # a default may need the values of other fields: see make

    def _declared(self) -> list[tuple[str, Any]]:
        return list(self._model.model_fields.items())

    def _read_annotations(self) -> dict[str, Any]:
        return {**annotations_of(self.cls), **{name: field.annotation for name, field in self._declared()}}

    def read(self, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        # Only fields: what else is in a model's __dict__ are cached properties, which belong to no comparison.
        fields = self._in_order({name: value.__dict__[name] for name in self.fields if name in value.__dict__})
        parts: dict[str, Any] = {
            "$extra": dict(sorted((value.__pydantic_extra__ or {}).items())),
            "$private": dict(sorted((value.__pydantic_private__ or {}).items())),
            "$unset": sorted(set(fields) - value.__pydantic_fields_set__),
        }
        for name in (*parts["$extra"], *parts["$private"]):
            check_name(name)
        return fields, {name: part for name, part in parts.items() if part}

    def make(self, fields: dict[str, Any], parts: dict[str, Any]) -> Any:
        given: dict[str, Any] = {}
        extra = parts.get("$extra", {})
        unset = set(parts.get("$unset", ()))
        for name, field in self._declared():
            if name in fields:
                given[name] = fields[name]
            elif field.is_required():
                raise MissingField(name)
            else:
                given[name] = field.get_default(call_default_factory=True, validated_data=dict(given))
                unset.add(name)
        allows_extra = self._model.model_config.get("extra") == "allow"
        private = None
        if self._model.__private_attributes__:
            undefined = sys.modules["pydantic_core"].PydanticUndefined
            defaults = {name: attribute.get_default() for name, attribute in self._model.__private_attributes__.items()}
            private = {name: value for name, value in defaults.items() if value is not undefined}
            private.update({n: value for n, value in parts.get("$private", {}).items() if n in defaults})
        made: Any = object.__new__(self.cls)
        object.__setattr__(made, "__dict__", given)
        if not self._model.__pydantic_root_model__:  # such a class has neither, and says so itself
            object.__setattr__(made, "__pydantic_extra__", extra if allows_extra else None)
            object.__setattr__(made, "__pydantic_private__", private)
        object.__setattr__(
            made, "__pydantic_fields_set__", (set(given) - unset) | (set(extra) if allows_extra else set())
        )
        return made


class Dumped(State):
    """Classes that say by ``dump`` and ``load`` what is stored."""

    parts = frozenset({"$dump"})

    def read(self, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            return {}, {"$dump": value.dump()}
        except Exception as error:
            raise Unwritable(f"its dump() raised {type(error).__qualname__}: {error}") from error

    def make(self, fields: dict[str, Any], parts: dict[str, Any]) -> Any:
        if "$dump" not in parts:
            raise ValueError("it was stored before the class defined dump and load")
        return cast(Any, self.cls).load(parts["$dump"])


def state_of(cls: type, *, item: bool) -> State:
    """Return how objects of `cls` are read and made.

    Parameters:
        item: whether it is a class of items. Of the classes of other values, those of no special kind are refused:
            an object of theirs may be more than its attributes.

    Raises:
        Unwritable: objects of this class can't be stored; the reason goes on after the class's name.
    """
    dump, load = (inspect.getattr_static(cls, name, None) for name in ("dump", "load"))
    if callable(dump) and load is not None:
        if not isinstance(load, classmethod):
            raise Unwritable("defines dump and load, but load is not a class method: write '@classmethod' above it")
        return Dumped(cls)
    if issubclass(cls, enum.Enum):
        raise Unwritable("is an enum")
    if issubclass(cls, msgspec.Struct):
        return Structure(cls)
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic is not None and issubclass(cls, pydantic.BaseModel):
        return Model(cls)
    if issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "_field_defaults"):
        return NamedFields(cls)
    if not (item or dataclasses.is_dataclass(cls) or hasattr(cls, "__attrs_attrs__")):
        raise Unwritable(
            "is neither a dataclass, an attrs class, a Struct, a pydantic model, an enum nor a named tuple, and does "
            "not define dump and load"
        )
    if any(base is not object and not base.__flags__ & _HEAP_TYPE for base in cls.__mro__):
        raise Unwritable("derives from a class that is built into Python, whose state is more than attributes")
    try:
        object.__new__(cls)
    except TypeError as error:
        raise Unwritable(f"can't be made without its constructor ({error})") from error
    return Plain(cls)


_ABSENT: Final = object()
_DATA: Final = frozenset({*WRITERS, list, dict, tuple, set, frozenset})


def _same(value: object, made: object) -> object:
    return value


def _call(factory: Callable[[], object], made: object) -> object:
    return factory()


def _nothing() -> object:
    return cast(Any, sys.modules["attr"]).NOTHING


def _dataclass_default(field: "dataclasses.Field[Any]") -> Default | None:
    if field.default is not dataclasses.MISSING:
        return functools.partial(_same, field.default)
    if field.default_factory is not dataclasses.MISSING:
        return functools.partial(_call, field.default_factory)
    return None


def _attrs_default(field: Any) -> Default | None:
    if field.default is _nothing():
        return None
    if isinstance(field.default, cast(Any, sys.modules["attr"]).Factory):
        factory: Callable[..., object] = field.default.factory
        return factory if field.default.takes_self else functools.partial(_call, factory)
    return functools.partial(_same, field.default)


def _struct_default(field: msgspec.structs.FieldInfo) -> Default | None:
    if field.default is not msgspec.NODEFAULT:
        return functools.partial(_same, field.default)
    if field.default_factory is not msgspec.NODEFAULT:
        return functools.partial(_call, cast("Callable[[], object]", field.default_factory))
    return None


def _with_defaults(state: State, fields: dict[str, Any]) -> dict[str, Any]:
    given = {}
    for name, default in state.fields.items():
        if name in fields:
            given[name] = fields[name]
        elif default is None:
            raise MissingField(name)
        else:
            given[name] = default(None)
    return given


def check_name(name: object) -> None:
    """Raise `Unwritable` if no attribute by this name is ever stored or restored."""
    if (
        type(name) is not str
        or name.startswith("$")
        or (name.startswith("__") and name.endswith("__"))
        or not is_plain_text(name)
    ):
        raise Unwritable(f"attribute {name!r} has a name that can't be restored")
