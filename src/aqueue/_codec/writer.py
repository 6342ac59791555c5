"""Writes the state of an object as JSON's types, value by value, so that it can be restored equal and of the same type.

A value that JSON lacks is an object with one key that begins with ``$``: the tags of `aqueue._codec.values`, and those here
for references to ancestors, enum members and objects.
"""

import enum
from collections.abc import Callable
from typing import Any

from aqueue._codec.class_names import has_process, type_name
from aqueue._codec.object_state import ClassAdapter
from aqueue._codec.values import CONTAINERS, MAX_DEPTH, WRITERS, Refusal, has_plain_keys

__all__ = ["AncestorId", "OutlineWriter", "StateWriter"]

AncestorId = Callable[[object], int | None]
"""Returns the number of an object that is itself an ancestor of the item, otherwise None."""

_Classes = dict[str, type | None]


class StateWriter:
    """Writes states."""

    def __init__(self, adapter_of: Callable[[type], ClassAdapter]) -> None:
        """Write with the adapters that `adapter_of` returns for the classes of values."""
        self._adapter_of = adapter_of

    def write(self, adapter: ClassAdapter, value: object, ancestor_id: AncestorId, depth: int = 1) -> dict[str, Any]:
        """Return the state of `value`, which `adapter` reads, as JSON's types.

        Parameters:
            adapter: reads the class of `value`.
            value: the object.
            ancestor_id: returns the number of an object that is itself an ancestor of the item, otherwise None.
            depth: the number of arrays and objects around its attributes.

        Raises:
            Refusal: it has something that would not be restored equal and of the same type.
        """
        fields, parts = adapter.read(value)
        written = self._write_attributes(adapter, fields, ancestor_id, depth)
        for part, content in parts.items():
            if part == "$dump":
                written[part] = self._write(content, {}, ancestor_id, depth)
            elif part == "$unset":
                written[part] = content
            else:
                written[part] = self._write_attributes(adapter, content, ancestor_id, depth + 1)
        return written

    def _write_attributes(
        self, adapter: ClassAdapter, values: dict[str, Any], ancestor_id: AncestorId, depth: int
    ) -> dict[str, Any]:
        written = {}
        for name, value in values.items():
            try:
                write = WRITERS.get(type(value))
                if write is not None:
                    written[name] = write(value)
                else:
                    written[name] = self._write(value, adapter.classes(name), ancestor_id, depth)
            except Refusal as error:
                error.path = (name, *error.path)
                raise
            except RecursionError as error:
                if depth > 1:
                    raise
                reason = Refusal(f"data nested too deep for what is left of Python's stack (the limit is {MAX_DEPTH})")
                reason.path = (name,)
                raise reason from error
        return written

    def _write(self, value: Any, classes: _Classes, ancestor_id: AncestorId, depth: int) -> Any:
        """Return a value as JSON's types; `depth` is the number of arrays and objects around it."""
        cls = type(value)
        write = WRITERS.get(cls)
        if write is not None:
            return write(value)
        if depth >= MAX_DEPTH:
            raise Refusal(f"data nested deeper than {MAX_DEPTH}, or a cycle")
        # Loops, not comprehensions: in Python 3.11 these are calls of their own, and the limit on calls is only about twice
        # that on depth.
        parts: list[Any] = []
        if cls is list:
            for part in value:
                parts.append(self._write(part, classes, ancestor_id, depth + 1))  # noqa: PERF401  # as said
            return parts
        container = CONTAINERS.get(cls)
        if container is not None:
            if cls is not dict:
                for part in value:
                    parts.append(self._write(part, classes, ancestor_id, depth + 2))  # noqa: PERF401  # as said
            elif has_plain_keys(value):
                members: dict[str, Any] = {}
                for key, part in value.items():
                    members[key] = self._write(part, classes, ancestor_id, depth + 1)
                return members
            else:
                for key, part in value.items():
                    written = self._write(key, classes, ancestor_id, depth + 3)
                    parts.append([written, self._write(part, classes, ancestor_id, depth + 3)])
            return {container.tag: container.write(parts)}
        number = ancestor_id(value)
        if number is not None:
            return {"$item": number}
        return self._write_object(value, classes, ancestor_id, depth)

    def _write_object(self, value: Any, classes: _Classes, ancestor_id: AncestorId, depth: int) -> Any:
        cls = type(value)
        name = cls.__name__
        if has_process(cls):
            raise Refusal(f"an item of class {type_name(cls)} that is not one of this item's ancestors")
        if name in classes and classes[name] is None:
            raise Refusal(f"an object of class {type_name(cls)}, but the annotation names two classes called {name}")
        is_enum = isinstance(value, enum.Enum)
        try:
            adapter = None if is_enum else self._adapter_of(cls)
        except Refusal as error:
            raise Refusal(f"an object of class {type_name(cls)}, which {error.reason}") from error
        if classes.get(name) is not cls:
            raise Refusal(f"an object of class {type_name(cls)}, which the attribute's annotation doesn't name")
        if adapter is not None:
            return {"$object": [name, self.write(adapter, value, ancestor_id, depth + 3)]}
        if isinstance(value, enum.Flag):
            return {"$enum": [name, WRITERS[int](int(value.value))]}
        if cls.__members__.get(value.name) is not value:
            raise Refusal(f"a member of {type_name(cls)} that the enum doesn't list")
        return {"$enum": [name, WRITERS[str](value.name)]}


class OutlineWriter(StateWriter):
    """Writes states for comparisons alone: objects need no annotation, but are written with their class."""

    def outline(
        self, adapter: ClassAdapter, value: object, ancestor_id: AncestorId
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the state of `value` as JSON's types, and the attributes that can't be written.

        The attributes of all parts are in one dict: no two parts have an attribute of the same name.
        """
        fields, parts = adapter.read(value)
        written: dict[str, Any] = {}
        left_out: dict[str, Any] = {}
        for part, values in {"": fields, **parts}.items():
            if part in ("$dump", "$unset"):
                written[part] = self._write(values, {}, ancestor_id, 1)
                continue
            for name, one in values.items():
                try:
                    written[name] = self._write(one, {}, ancestor_id, 1)
                except Exception:  # the value can't be written, or its own code raised
                    left_out[name] = one
        return written, left_out

    def _write_object(self, value: Any, classes: _Classes, ancestor_id: AncestorId, depth: int) -> Any:
        cls = type(value)
        return {"$of": [type_name(cls), super()._write_object(value, {cls.__name__: cls}, ancestor_id, depth)]}
