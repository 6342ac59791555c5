"""Reads what `aqueue._codec.writer` wrote, and makes an equal object from it.

An enum member or object can only be of a class that the attribute's annotation names: a payload can't name another.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Any, Final

from aqueue._codec.class_names import type_name
from aqueue._codec.object_state import ClassAdapter, check_name
from aqueue._codec.values import CONTAINER_TAGS, MAX_DEPTH, READERS, SCALARS, Refusal
from aqueue.errors import AqueueError

__all__ = ["Ancestor", "StateReader"]

Ancestor = Callable[[int], object]
"""Returns the ancestor that has a number."""

# A value that is stored with its tag adds two arrays and objects: {"$time": ["12:00", "Europe/Oslo", 0]}.
_MAX_DEPTH: Final = MAX_DEPTH + 2

_Classes = dict[str, type | None]


class StateReader:
    """Reads states."""

    def __init__(self, adapter_of: Callable[[type], ClassAdapter]) -> None:
        """Read with the adapters that `adapter_of` returns for the classes of values."""
        self._adapter_of = adapter_of

    def read(self, adapter: ClassAdapter, raw: Any, ancestor: Ancestor, depth: int = 1) -> Any:
        """Return the object that `adapter` makes from a recorded state.

        Parameters:
            adapter: makes objects of the class.
            raw: the state, as JSON's types.
            ancestor: returns the ancestor with a number; an `AqueueError` from it passes through.
            depth: the number of arrays and objects around the attributes.

        Raises:
            Refusal: today's class would not have written that.
        """
        if type(raw) is not dict:
            raise Refusal("the state of an object is not a JSON object")
        fields: dict[str, Any] = {}
        parts: dict[str, Any] = {}
        gone: list[str] = []
        policies = adapter.policies
        for name, data in raw.items():
            if name in policies:  # older versions stored policies with items
                continue
            if name.startswith("$"):
                parts[name] = self._read_part(adapter, name, data, ancestor, depth)
            elif not adapter.declares or name in adapter.fields:
                fields[name] = self._read_attribute(adapter, name, data, ancestor, depth)
            else:
                gone.append(name)
        if gone:
            _refuse_renamed(adapter, gone, raw)
        try:
            made = adapter.make(fields, parts)
        except (AqueueError, Refusal):
            raise
        except Exception as error:  # of the class's own code: a default factory, load, a Struct's __post_init__
            raise Refusal(
                f"creating an object of {type_name(adapter.cls)} raised {type(error).__qualname__}: {error}"
            ) from error
        if type(made) is not adapter.cls:
            raise Refusal(f"load() of {type_name(adapter.cls)} returned an object of {type_name(type(made))}")
        return made

    def _read_part(self, adapter: ClassAdapter, part: str, data: Any, ancestor: Ancestor, depth: int) -> Any:
        if part not in adapter.parts:
            raise Refusal(f"{type_name(adapter.cls)} never stores anything as {part!r}")
        if part == "$dump":
            return self._read(data, {}, ancestor, depth)
        if part == "$unset":
            if type(data) is not list or not all(type(name) is str for name in data):
                raise Refusal("the names of unset fields are not a list of strings")
            return data
        if type(data) is not dict:
            raise Refusal(f"{part!r} is not a JSON object")
        return {
            name: self._read_attribute(adapter, name, value, ancestor, depth + 1)
            for name, value in data.items()
            if name not in adapter.policies
        }

    def _read_attribute(self, adapter: ClassAdapter, name: str, data: Any, ancestor: Ancestor, depth: int) -> Any:
        try:
            check_name(name)
            if type(data) in SCALARS:
                return data
            return self._read(data, adapter.classes(name), ancestor, depth)
        except Refusal as error:
            error.path = (name, *error.path)
            raise

    def _read(self, raw: Any, classes: _Classes, ancestor: Ancestor, depth: int) -> Any:
        kind = type(raw)
        if kind in SCALARS:
            return raw
        if depth > _MAX_DEPTH:
            raise Refusal(f"data nested deeper than {MAX_DEPTH}")
        if kind is list:
            parts = []
            for part in raw:
                parts.append(self._read(part, classes, ancestor, depth + 1))  # noqa: PERF401  # as in StateWriter
            return parts
        for key in raw:
            if key.startswith("$"):
                if len(raw) == 1:
                    try:
                        return self._read_tag(key, raw[key], classes, ancestor, depth + 1)
                    except (AqueueError, Refusal, RecursionError):
                        raise
                    except Exception as error:  # readers trust their data, and may raise anything
                        raise Refusal(f"a value tagged {key!r} that can't be read: {error}") from error
                raise Refusal(f"a JSON object that has {key!r} and other keys")
        members = {}
        for key, part in raw.items():
            members[key] = self._read(part, classes, ancestor, depth + 1)
        return members

    def _read_tag(self, tag: str, data: Any, classes: _Classes, ancestor: Ancestor, depth: int) -> Any:
        reader = READERS.get(tag)
        if reader is not None:
            return reader(data)
        container = CONTAINER_TAGS.get(tag)
        if container is not None:
            parts: list[Any] = []
            if container.type is dict:
                for pair in _sized(data):
                    key, value = _sized(pair, 2)
                    key = self._read(key, classes, ancestor, depth + 2)
                    parts.append((key, self._read(value, classes, ancestor, depth + 2)))
            else:
                for part in _sized(data):
                    parts.append(self._read(part, classes, ancestor, depth + 1))  # noqa: PERF401  # as in StateWriter
            return container.read(parts)
        if tag == "$item":
            if type(data) is not int:
                raise Refusal("the number of an item is not a whole number")
            return ancestor(data)
        if tag == "$enum":
            name, member = _sized(data, 2)
            members: Any = self._named(name, classes, of_enums=True)
            if issubclass(members, enum.Flag):
                value = self._read(member, {}, ancestor, depth + 1)
                if type(value) is not int:
                    raise Refusal("the value of a flag is not a whole number")
                return members(value)
            return members.__members__[self._read(member, {}, ancestor, depth + 1)]
        if tag == "$object":
            name, state = _sized(data, 2)
            return self.read(self._adapter_of(self._named(name, classes, of_enums=False)), state, ancestor, depth + 2)
        raise Refusal(f"the tag {tag!r}, which this version of aqueue doesn't know")

    def _named(self, name: Any, classes: _Classes, *, of_enums: bool) -> type:
        """Return the class that the annotation calls `name`; else the only class in it, which may have been renamed."""
        cls = classes.get(name) if type(name) is str else None
        if cls is not None and issubclass(cls, enum.Enum) == of_enums:
            return cls
        others = [other for other in classes.values() if other is not None and self._may_be(other, of_enums)]
        if len(others) == 1:
            return others[0]
        raise Refusal(f"an object of a class {name!r}, which the attribute's annotation doesn't name")

    def _may_be(self, cls: type, of_enums: bool) -> bool:
        if issubclass(cls, enum.Enum):
            return of_enums
        try:
            self._adapter_of(cls)
        except Refusal:
            return False
        return not of_enums


def _refuse_renamed(adapter: ClassAdapter, gone: Sequence[str], raw: dict[str, Any]) -> None:
    """Raise `Refusal` if the fields that are `gone` may have been renamed: the class has fields that were not recorded.

    Those would get their defaults, and the recorded values would be lost silently.
    """
    new = [name for name in adapter.fields if name not in raw and name not in raw.get("$unset", ())]
    if new:
        raise Refusal(
            f"{type_name(adapter.cls)} was recorded with {', '.join(map(repr, gone))}, which it no longer has, "
            f"and has {', '.join(map(repr, new))}, which was not recorded; if a field was renamed, give it its old name "
            "again"
        )


def _sized(data: Any, length: int | None = None) -> Sequence[Any]:
    if type(data) is not list or (length is not None and len(data) != length):
        raise Refusal("a JSON array is missing, or has the wrong length")
    return data
