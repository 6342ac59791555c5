"""The state of an item as JSON and back: restored equal and of the same type, or refused when it is stored.

A payload is one JSON object with a member for each attribute. A value that JSON lacks is an object with one key that
begins with ``$``: those of `aqueue._tags`, and here containers, references to ancestors, enum members and objects. The
class of an enum member or object is one that the attribute's annotation names: no payload can name any other.
"""

import enum
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from math import isfinite
from typing import Any, Final

import msgspec

from aqueue._outline import outline_of
from aqueue._state import Dumped, MissingField, Plain, State, check_name, state_of
from aqueue._tags import READERS, WRITERS, Unwritable, is_plain_text
from aqueue._types import has_process, resolve_type
from aqueue.errors import AqueueError, PayloadMismatch, UnknownItemType, UnstorableItem
from aqueue.item import type_name
from aqueue.text import visible

__all__ = ["MAX_DEPTH", "PayloadCodec"]

MAX_DEPTH: Final = 500
"""How deep arrays and objects may be nested in a payload; SQLite's JSON functions refuse a thousand."""

_MAX_SHAPES = 64
# How many more arrays and objects a value has around it that is written whole: {"$time": ["12:00", "Europe/Oslo", 0]}.
_SCALAR_DEPTH: Final = 2
_SCALARS: Final = frozenset({str, bool, type(None), int, float})
_SEQUENCES: Final[dict[type, str]] = {tuple: "$tuple", set: "$set", frozenset: "$frozenset"}
_BUILT: Final[dict[str, Callable[[list[Any]], Any]]] = {"$tuple": tuple, "$set": set, "$frozenset": frozenset}
_encode_json: Final = msgspec.json.Encoder().encode
_encode_sorted: Final = msgspec.json.Encoder(order="deterministic").encode
_decode_json: Final = msgspec.json.Decoder().decode

_Classes = dict[str, type | None]
_AncestorId = Callable[[object], int | None]
_Ancestor = Callable[[int], object]


def _no_ancestor(candidate: object) -> None:
    return None


class _Reference:
    """Stands for an ancestor when a payload is only written anew."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class _ItemClass:
    """What the codec knows about one class of items.

    Attributes:
        state: how its objects are read and made.
        simple: whether the attributes are the object's ``__dict__`` and nothing else.
        written, read: the names of attributes, in their order, of which one object has been written or read the
            long way, so that others with the same names need no check of them.
    """

    __slots__ = ("read", "simple", "state", "written")

    def __init__(self, state: State) -> None:
        self.state = state
        self.simple = isinstance(state, Plain) and state.in_dict
        self.written: set[tuple[str, ...]] = set()
        self.read: set[tuple[str, ...]] = set()


class _Unreadable(Exception):
    """A payload is none that today's class would have written."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: tuple[str, ...] = ()


class PayloadCodec:
    """Writes items as JSON, and restores them. What it needs to know about a class is looked up once."""

    def __init__(self) -> None:
        self._classes: dict[type, _ItemClass] = {}
        self._by_name: dict[str, _ItemClass] = {}
        self._states: dict[type, State] = {}

    def resolve(self, type_name: str) -> type:
        """Return the class of this program that a type name in a journal stands for.

        Raises:
            UnknownItemType: there is none, or it is not clear which.
        """
        return resolve_type(type_name)

    def encode(self, item: object, ancestor_id: _AncestorId) -> bytes:
        """Return the state of `item` as one JSON object.

        Equal items give equal bytes. Attributes have a fixed order and sets are sorted, but dicts keep their order: two
        that differ only in it are told apart.

        Parameters:
            ancestor_id: returns the number of an object that is itself an ancestor of the item, otherwise None.

        Raises:
            UnstorableItem: it has something that would not be restored equal and of the same type.
        """
        known = self._classes.get(type(item)) or self._look_up(type(item))
        if known.simple:
            values = item.__dict__
            if tuple(values) in known.written and _all_scalars(values.values()):
                try:
                    return _encode_json(values) if known.state.declares else _encode_sorted(values)
                except UnicodeEncodeError:
                    pass  # a lone surrogate, which the long way writes
        return self._encode(known, item, ancestor_id)

    def outline(self, item: object) -> bytes:
        """Return what of the state of `item` can be written, to tell it from others; never raises.

        Of what can't be stored its `aqueue._outline.outline_of` is written.
        """
        with suppress(Exception):  # what can't be stored, or what a class's own dump raises
            return self.encode(item, _no_ancestor)
        try:
            state = state_of(type(item), item=True)
            fields, _ = state.read(item)
        except Exception:
            return _encode_sorted(outline_of(item))
        written: dict[str, Any] = {}
        for name, value in fields.items():
            try:
                written.update(self._write_attributes(state, {name: value}, _no_ancestor, 1))
            except Exception:  # it can't be stored, or has code of its own that raises
                written[name] = {"$outline": outline_of(value, 1)}
        return _encode_sorted(written)

    def decode(self, type_name: str, payload: bytes, ancestor: _Ancestor) -> object:
        """Return an item of the type and state that were recorded.

        Two attributes that held the same list hold two equal ones. Fields that the class has no more are left out.

        Parameters:
            ancestor: returns the ancestor that has a number; what `AqueueError` it raises comes out.

        Raises:
            UnknownItemType: this program has no such class.
            PayloadMismatch: the payload doesn't fit today's class.
        """
        known = self._by_name.get(type_name) or self._find(type_name)
        try:
            raw = _decode_json(payload)
            if known.simple and type(raw) is dict and tuple(raw) in known.read:
                for value in raw.values():
                    if type(value) not in _SCALARS:
                        break
                else:
                    made: Any = object.__new__(known.state.cls)
                    made.__dict__.update(raw)
                    return made
            made = self._read_state(known.state, raw, ancestor, 1)
        except AqueueError:
            raise
        except _Unreadable as error:
            raise _mismatch(type_name, _where(error.path) + error.reason) from error
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            raise _mismatch(type_name, str(error)) from error
        if known.simple and tuple(made.__dict__) == tuple(raw):
            _remember(known.read, tuple(raw))
        return made

    def canonical(self, type_name: str, payload: bytes) -> bytes:
        """Return a recorded payload as `encode` would write an equal item today, without the ancestors being there.

        It differs from `payload` where the class has got fields with defaults, or lost fields, since.

        Raises:
            UnknownItemType: this program has no such class.
            PayloadMismatch: the payload doesn't fit today's class.
            UnstorableItem: it does, but the default of a new field can't be stored.
        """
        known = self._by_name.get(type_name) or self._find(type_name)
        if isinstance(known.state, Dumped) and b'"$item"' in payload:
            # load() must not meet what only stands for an ancestor.
            return payload
        item = self.decode(type_name, payload, _Reference)
        return self.encode(item, lambda value: value.number if type(value) is _Reference else None)

    def _look_up(self, cls: type) -> _ItemClass:
        name = type_name(cls)
        try:
            found: type | None = resolve_type(name)
        except UnknownItemType:
            found = None
        if found is not cls:
            why = "another class has been defined by its name" if found else "it would not be found by its name"
            raise UnstorableItem(
                f"{name} can't be stored: {why}, so a resumed run could not restore it; define it once, at the top "
                "level of a module or as a subclass of aqueue.Item, with process in its body"
            )
        try:
            known = _ItemClass(state_of(cls, item=True))
        except Unwritable as error:
            raise UnstorableItem(f"{name} can't be stored: it {error.reason}; {_mend(cls)}") from error
        self._classes[cls] = known
        return known

    def _find(self, name: str) -> _ItemClass:
        cls = resolve_type(name)
        known = self._classes.get(cls)
        if known is None:
            try:
                known = self._look_up(cls)
            except UnstorableItem as error:
                raise PayloadMismatch(str(error)) from error
        self._by_name[name] = known
        return known

    def _encode(self, known: _ItemClass, item: object, ancestor_id: _AncestorId) -> bytes:
        try:
            written = self._write_state(known.state, item, ancestor_id, 1)
            payload = _encode_json(written)
        except Unwritable as error:
            raise UnstorableItem(
                f"{type_name(type(item))} can't be stored: {visible(_where(error.path) + error.reason, 1_000)}; "
                f"{_mend(type(item), error.path[0] if error.path else '')}"
            ) from error
        if known.simple:
            names = tuple(item.__dict__)
            if names == tuple(written) or (not known.state.declares and set(names) == set(written)):
                _remember(known.written, names)
        return payload

    def _write_state(self, state: State, value: object, ancestor_id: _AncestorId, depth: int) -> dict[str, Any]:
        fields, parts = state.read(value)
        written = self._write_attributes(state, fields, ancestor_id, depth)
        for part, content in parts.items():
            if part == "$dump":
                written[part] = self._write(content, {}, ancestor_id, depth)
            elif part == "$unset":
                written[part] = content
            else:
                written[part] = self._write_attributes(state, content, ancestor_id, depth + 1)
        return written

    def _write_attributes(
        self, state: State, values: dict[str, Any], ancestor_id: _AncestorId, depth: int
    ) -> dict[str, Any]:
        written = {}
        for name, value in values.items():
            try:
                write = WRITERS.get(type(value))
                if write is not None:
                    written[name] = write(value)
                else:
                    written[name] = self._write(value, state.classes(name), ancestor_id, depth)
            except Unwritable as error:
                error.path = (name, *error.path)
                raise
            except RecursionError as error:
                if depth > 1:
                    raise
                reason = Unwritable(f"data nested too deep for Python's stack here, though not deeper than {MAX_DEPTH}")
                reason.path = (name,)
                raise reason from error
        return written

    def _write(self, value: Any, classes: _Classes, ancestor_id: _AncestorId, depth: int) -> Any:
        """Return a value of an attribute as JSON's types; `depth` is how many arrays and objects it is in."""
        cls = type(value)
        write = WRITERS.get(cls)
        if write is not None:
            return write(value)
        if depth >= MAX_DEPTH:
            raise Unwritable(f"data nested deeper than {MAX_DEPTH}, or in itself")
        # Loops, not comprehensions: those are calls of their own, and the limit on calls is about twice that on depth.
        parts: list[Any] = []
        if cls is list:
            for part in value:
                parts.append(self._write(part, classes, ancestor_id, depth + 1))  # noqa: PERF401  # as said
            return parts
        if cls is dict:
            members: dict[str, Any] = {}
            if all(type(key) is str and not key.startswith("$") and is_plain_text(key) for key in value):
                for key, part in value.items():
                    members[key] = self._write(part, classes, ancestor_id, depth + 1)
                return members
            for key, part in value.items():
                written = self._write(key, classes, ancestor_id, depth + 3)
                parts.append([written, self._write(part, classes, ancestor_id, depth + 3)])
            return {"$dict": parts}
        tag = _SEQUENCES.get(cls)
        if tag is not None:
            for part in value:
                parts.append(self._write(part, classes, ancestor_id, depth + 2))  # noqa: PERF401  # as said
            return {tag: parts if cls is tuple else sorted(parts, key=_encode_json)}
        number = ancestor_id(value)
        if number is not None:
            return {"$item": number}
        return self._write_object(value, classes, ancestor_id, depth)

    def _write_object(self, value: Any, classes: _Classes, ancestor_id: _AncestorId, depth: int) -> Any:
        cls = type(value)
        name = cls.__name__
        if has_process(cls):
            raise Unwritable(f"an item of class {type_name(cls)} that is not one of this item's ancestors")
        if name in classes and classes[name] is None:
            raise Unwritable(f"an object of class {type_name(cls)}, but the annotation names two classes {name}")
        is_enum = isinstance(value, enum.Enum)
        try:
            state = None if is_enum else self._state(cls)
        except Unwritable as error:
            raise Unwritable(f"an object of class {type_name(cls)}, which {error.reason}") from error
        if classes.get(name) is not cls:
            raise Unwritable(f"an object of class {type_name(cls)}, which the attribute's annotation doesn't name")
        if state is not None:
            return {"$object": [name, self._write_state(state, value, ancestor_id, depth + 3)]}
        if isinstance(value, enum.Flag):
            return {"$enum": [name, WRITERS[int](int(value.value))]}
        if cls.__members__.get(value.name) is not value:
            raise Unwritable(f"a member of {type_name(cls)} that the enum doesn't list")
        return {"$enum": [name, WRITERS[str](value.name)]}

    def _state(self, cls: type) -> State:
        state = self._states.get(cls)
        if state is None:
            state = self._states[cls] = state_of(cls, item=False)
        return state

    def _read_state(self, state: State, raw: Any, ancestor: _Ancestor, depth: int) -> Any:
        if type(raw) is not dict:
            raise _Unreadable("the state of an object is not a JSON object")
        fields: dict[str, Any] = {}
        parts: dict[str, Any] = {}
        for name, data in raw.items():
            if name.startswith("$"):
                parts[name] = self._read_part(state, name, data, ancestor, depth)
            elif not state.declares or name in state.fields:
                fields[name] = self._read_attribute(state, name, data, ancestor, depth)
        try:
            made = state.make(fields, parts)
        except AqueueError:
            raise
        except MissingField as error:
            raise _Unreadable(
                f"{type_name(state.cls)} has the field {error.name!r}, which was not recorded and has no default; give "
                "it one"
            ) from error
        except Exception as error:  # of the class's own code: a default factory, load, a Struct's __post_init__
            raise _Unreadable(
                f"making an object of {type_name(state.cls)} raised {type(error).__qualname__}: {error}"
            ) from error
        if type(made) is not state.cls:
            raise _Unreadable(f"load() of {type_name(state.cls)} returned an object of {type_name(type(made))}")
        return made

    def _read_part(self, state: State, part: str, data: Any, ancestor: _Ancestor, depth: int) -> Any:
        if part not in state.parts:
            raise _Unreadable(f"{type_name(state.cls)} stores nothing as {part!r}")
        if part == "$dump":
            return self._read(data, {}, ancestor, depth)
        if part == "$unset":
            if type(data) is not list or not all(type(name) is str for name in data):
                raise _Unreadable("the names of unset fields are not a list of strings")
            return data
        if type(data) is not dict:
            raise _Unreadable(f"{part!r} is not a JSON object")
        return {name: self._read_attribute(state, name, value, ancestor, depth + 1) for name, value in data.items()}

    def _read_attribute(self, state: State, name: str, data: Any, ancestor: _Ancestor, depth: int) -> Any:
        try:
            check_name(name)
            if type(data) in _SCALARS:
                return data
            return self._read(data, state.classes(name), ancestor, depth)
        except Unwritable as error:
            raise _Unreadable(error.reason) from error
        except _Unreadable as error:
            error.path = (name, *error.path)
            raise

    def _read(self, raw: Any, classes: _Classes, ancestor: _Ancestor, depth: int) -> Any:
        kind = type(raw)
        if kind in _SCALARS:
            return raw
        if depth > MAX_DEPTH + _SCALAR_DEPTH:
            raise _Unreadable(f"data nested deeper than {MAX_DEPTH}")
        if kind is list:
            parts = []
            for part in raw:
                parts.append(self._read(part, classes, ancestor, depth + 1))  # noqa: PERF401  # as in _write
            return parts
        for key in raw:
            if key.startswith("$"):
                if len(raw) == 1:
                    try:
                        return self._read_tag(key, raw[key], classes, ancestor, depth + 1)
                    except (AqueueError, _Unreadable, RecursionError):
                        raise
                    except Exception as error:  # readers trust their data, and fail in many ways
                        raise _Unreadable(f"no value for {key!r}: {error}") from error
                raise _Unreadable(f"an object with {key!r} and other keys")
        members = {}
        for key, part in raw.items():
            members[key] = self._read(part, classes, ancestor, depth + 1)
        return members

    def _read_tag(self, tag: str, data: Any, classes: _Classes, ancestor: _Ancestor, depth: int) -> Any:
        reader = READERS.get(tag)
        if reader is not None:
            return reader(data)
        if tag in _BUILT:
            parts = []
            for part in _sized(data):
                parts.append(self._read(part, classes, ancestor, depth + 1))  # noqa: PERF401  # as in _write
            return _BUILT[tag](parts)
        if tag == "$dict":
            found = {}
            for pair in _sized(data):
                key, value = _sized(pair, 2)
                found[self._read(key, classes, ancestor, depth + 2)] = self._read(value, classes, ancestor, depth + 2)
            return found
        if tag == "$item":
            if type(data) is not int:
                raise _Unreadable("the number of an item is not a whole number")
            return ancestor(data)
        if tag == "$enum":
            name, member = _sized(data, 2)
            members: Any = self._named(name, classes, of_enums=True)
            if issubclass(members, enum.Flag):
                value = self._read(member, {}, ancestor, depth + 1)
                if type(value) is not int:
                    raise _Unreadable("the value of a flag is not a whole number")
                return members(value)
            return members.__members__[self._read(member, {}, ancestor, depth + 1)]
        if tag == "$object":
            name, state = _sized(data, 2)
            return self._read_state(self._state(self._named(name, classes, of_enums=False)), state, ancestor, depth + 2)
        raise _Unreadable(f"the tag {tag!r}, which this aqueue doesn't know")

    def _named(self, name: Any, classes: _Classes, *, of_enums: bool) -> type:
        """Return the class that the annotation names so; if none, the only one it names, which may be renamed."""
        cls = classes.get(name) if type(name) is str else None
        if cls is not None and issubclass(cls, enum.Enum) == of_enums:
            return cls
        others = [other for other in classes.values() if other is not None and self._may_be(other, of_enums)]
        if len(others) == 1:
            return others[0]
        raise _Unreadable(f"an object of a class {name!r}, which the attribute's annotation doesn't name")

    def _may_be(self, cls: type, of_enums: bool) -> bool:
        if issubclass(cls, enum.Enum):
            return of_enums
        try:
            self._state(cls)
        except Unwritable:
            return False
        return not of_enums


def _all_scalars(values: Iterable[Any]) -> bool:
    """Return whether JSON carries the values as they are, but for lone surrogates."""
    for value in values:
        cls = type(value)
        if cls is str or cls is bool or value is None:
            continue
        if cls is int:
            if not -0x8000_0000_0000_0000 <= value <= 0x7FFF_FFFF_FFFF_FFFF:
                return False
        elif cls is not float or not isfinite(value):
            return False
    return True


def _remember(known: set[tuple[str, ...]], names: tuple[str, ...]) -> None:
    if len(known) < _MAX_SHAPES:
        known.add(names)


def _sized(data: Any, length: int | None = None) -> Sequence[Any]:
    if type(data) is not list or (length is not None and len(data) != length):
        raise _Unreadable("a JSON array is missing, or has the wrong length")
    return data


def _where(path: tuple[str, ...]) -> str:
    return f"attribute {'.'.join(path)!r}: " if path else ""


def _mend(cls: type, attribute: str = "") -> str:
    attribute = visible(attribute, 100) or "it"
    return (
        f"annotate {attribute} in the body of {cls.__qualname__} with its exact class (a dataclass, attrs class, Struct, "
        "pydantic model, named tuple or enum), or define dump(self) and the class method load(cls, data), or leave "
        f"{attribute} out of the item and compute it in process"
    )


def _mismatch(type_name: str, reason: str) -> PayloadMismatch:
    return PayloadMismatch(
        f"an item of {visible(type_name, 300)} can't be restored: {visible(reason, 1_000)}; mend the class so that it "
        "takes what was recorded, or give it dump(self) and the class method load(cls, data)"
    )
