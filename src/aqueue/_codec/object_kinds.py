"""Chooses the adapter of a class, and has those of Structs, named tuples, pydantic models, classes with dump and load."""

import dataclasses
import enum
import inspect
import sys
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from aqueue._codec.annotations import annotations_of
from aqueue._codec.assignments import cached_names
from aqueue._codec.object_state import AttributesAdapter, ClassAdapter, MissingField, check_name, default_of
from aqueue._codec.policies import policies_of
from aqueue._codec.values import Unwritable

__all__ = ["DumpLoadAdapter", "adapter_of", "is_built_in"]

_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, not built into Python


def is_built_in(cls: type) -> bool:
    """Return whether `cls` is built into Python or an extension module, and not made by a class statement."""
    return not cls.__flags__ & _HEAP_TYPE


class StructAdapter(ClassAdapter):
    """msgspec Structs. They are made by their constructor; what their ``__post_init__`` changes is set again."""

    def __init__(self, cls: type, policies: Mapping[str, Any]) -> None:
        super().__init__(cls, policies)
        try:
            declared = msgspec.structs.fields(cls)
        except (
            Exception
        ) as error:  # it evaluates the annotations, of which one names what only type checkers import, say
            raise Unwritable(
                f"has an annotation that can't be evaluated ({error}); import at run time what it names"
            ) from error
        missing: object = msgspec.NODEFAULT
        self._declare({f.name: default_of(f.default, f.default_factory, missing) for f in declared})
        self._has_dict = cls.__dictoffset__ != 0
        self._skipped = cached_names(cls).union(policies)

    def read(self, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        values = {name: getattr(value, name) for name in self.fields if hasattr(value, name)}
        extra = dict(sorted(value.__dict__.items())) if self._has_dict else {}
        if extra:
            for name in self._skipped:
                extra.pop(name, None)
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


class NamedTupleAdapter(ClassAdapter):
    """Named tuples."""

    def __init__(self, cls: type, policies: Mapping[str, Any]) -> None:
        super().__init__(cls, policies)
        self._names: tuple[str, ...] = cast(Any, cls)._fields
        defaults = cast(Any, cls)._field_defaults
        missing = object()
        self._declare({name: default_of(defaults.get(name, missing), missing, missing) for name in self._names})
        self._has_dict = cls.__dictoffset__ != 0
        self._cached = cached_names(cls)

    def read(self, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        if self._has_dict and not self._cached.issuperset(value.__dict__):
            raise Unwritable("is a named tuple with attributes beside its fields")
        held = zip(self._names, tuple.__iter__(value), strict=True)
        return {name: part for name, part in held if name in self.fields}, {}

    def make(self, fields: dict[str, Any], parts: dict[str, Any]) -> Any:
        given = _with_defaults(self, fields)
        return tuple.__new__(self.cls, [given[name] if name in given else self.policies[name] for name in self._names])


class ModelAdapter(ClassAdapter):
    """pydantic models, with private attributes, extra ones, and which fields were set."""

    parts = frozenset({"$extra", "$private", "$unset"})

    def __init__(self, cls: type, policies: Mapping[str, Any]) -> None:
        super().__init__(cls, policies)
        self._model = cast(Any, cls)
        # Without the defaults: one may need the values of other fields; see make.
        self._declare(dict.fromkeys(self._model.model_fields))
        self._skipped = cached_names(cls).union(policies)

    def outline(self, names: tuple[str, ...]) -> None:
        return None

    def _declared(self) -> list[tuple[str, Any]]:
        return list(self._model.model_fields.items())

    def _read_annotations(self) -> dict[str, Any]:
        return {**annotations_of(self.cls), **{name: field.annotation for name, field in self._declared()}}

    def read(self, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        for name in value.__dict__:
            if name not in self.fields and name not in self._skipped:  # such as is set over a cached property
                raise Unwritable(f"attribute {name!r} is no field of the model")
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


class DumpLoadAdapter(ClassAdapter):
    """Classes that say by ``dump`` and ``load`` what is stored. What was recorded before they did, ``load`` gets as a dict."""

    parts = frozenset({"$dump", "$extra", "$private", "$unset"})

    def __init__(self, cls: type, policies: Mapping[str, Any]) -> None:
        super().__init__(cls, policies)
        self.declares = False

    def read(self, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            return {}, {"$dump": value.dump()}
        except Exception as error:
            raise Unwritable(f"its dump() raised {type(error).__qualname__}: {error}") from error

    def make(self, fields: dict[str, Any], parts: dict[str, Any]) -> Any:
        data = (
            parts["$dump"] if "$dump" in parts else {**fields, **parts.get("$extra", {}), **parts.get("$private", {})}
        )
        return cast(Any, self.cls).load(data)


def adapter_of(cls: type, *, item: bool) -> ClassAdapter:
    """Return what reads and makes objects of `cls`.

    Parameters:
        item: whether it is a class of items. Of the classes of other values, those of no special kind are refused:
            an object of theirs may be more than its attributes.

    Raises:
        Unwritable: objects of this class can't be stored; the reason goes on after the class's name.
    """
    policies = policies_of(cls) if item else {}
    dump, load = (inspect.getattr_static(cls, name, None) for name in ("dump", "load"))
    if callable(dump) and load is not None:
        if not isinstance(load, classmethod):
            raise Unwritable("defines dump and load, but load is not a class method: write '@classmethod' above it")
        return DumpLoadAdapter(cls, policies)
    if issubclass(cls, enum.Enum):
        raise Unwritable("is an enum")
    if issubclass(cls, msgspec.Struct):
        return StructAdapter(cls, policies)
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic is not None and issubclass(cls, pydantic.BaseModel):
        return ModelAdapter(cls, policies)
    if issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "_field_defaults"):
        return NamedTupleAdapter(cls, policies)
    if not (item or dataclasses.is_dataclass(cls) or hasattr(cls, "__attrs_attrs__")):
        raise Unwritable(
            "is neither a dataclass, an attrs class, a Struct, a pydantic model, an enum nor a named tuple, and does "
            "not define dump and load"
        )
    if any(base is not object and is_built_in(base) for base in cls.__mro__):
        raise Unwritable("derives from a class that is built into Python, whose state is more than attributes")
    try:
        object.__new__(cls)
    except TypeError as error:
        raise Unwritable(f"can't be made without its constructor ({error})") from error
    return AttributesAdapter(cls, policies)


def _with_defaults(adapter: ClassAdapter, fields: dict[str, Any]) -> dict[str, Any]:
    given = {}
    for name, default in adapter.fields.items():
        if name in fields:
            given[name] = fields[name]
        elif default is None:
            raise MissingField(name)
        else:
            given[name] = default(None)
    return given
