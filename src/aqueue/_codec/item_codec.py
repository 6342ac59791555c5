"""Writes items as JSON, and restores them equal and of the same type; refuses items that it could not restore exactly.

A payload is one JSON object with a member for each attribute. `aqueue._codec.writer` and `aqueue._codec.reader` write and
read the values; this module finds the class, and names class and attribute in errors.
"""

import functools
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from aqueue._codec.class_names import resolve_type, type_name
from aqueue._codec.object_kinds import DumpLoadAdapter, adapter_of
from aqueue._codec.object_state import ClassAdapter
from aqueue._codec.plain_items import WritePlain, plain_writer
from aqueue._codec.policies import policies_of
from aqueue._codec.reader import Ancestor, StateReader
from aqueue._codec.values import MAX_DEPTH, SCALARS, Refusal
from aqueue._codec.writer import AncestorId, OutlineWriter, StateWriter
from aqueue.errors import AqueueError, PayloadMismatch, UnknownItemType, UnstorableItem
from aqueue.text import visible

__all__ = ["MAX_DEPTH", "PayloadCodec", "references"]

_encode_json: Final = msgspec.json.Encoder().encode
_decode_json: Final = msgspec.json.Decoder().decode
_decode_object: Final = msgspec.json.Decoder(dict[str, Any]).decode


class _Reference(int):
    """Stands for an ancestor, by its number, where a payload is decoded only to be encoded again."""


class PayloadCodec:
    """Writes items as JSON, and restores them. What it needs to know about a class is looked up once.

    Attributes:
        write_plain: the functions that write plain items in one step, by class; for callers with many items to write.
    """

    def __init__(self) -> None:
        self.write_plain: dict[type, WritePlain] = {}
        self._adapter_of = functools.cache(functools.partial(adapter_of, item=True))
        self._by_class: dict[type, ClassAdapter] = {}
        self._by_name: dict[str, ClassAdapter] = {}
        self._plain_names: dict[str, tuple[str, ...]] = {}
        self._policies_of = functools.cache(_policies_of)
        adapters = functools.cache(functools.partial(adapter_of, item=False))
        self._writer = StateWriter(adapters)
        self._reader = StateReader(adapters)
        self._outliner = OutlineWriter(adapters)

    def resolve(self, type_name: str) -> type:
        """Return the class of this program for a type name in a journal.

        Raises:
            UnknownItemType: there is none, or more than one.
        """
        return resolve_type(type_name)

    def type_today(self, name: str) -> str:
        """Return today's name of the class that a journal calls `name`; the same name if there is no such class."""
        try:
            return type_name(self.resolve(name))
        except UnknownItemType:
            return name

    def encode(self, item: object, ancestor_id: AncestorId) -> bytes:
        """Return the state of `item` as one JSON object.

        Equal items give equal bytes: attributes have a fixed order, and sets are sorted. Dicts keep their order, so two
        that differ only in that give different bytes.

        Parameters:
            ancestor_id: returns the number of an object that is itself an ancestor of the item, otherwise None.

        Raises:
            UnstorableItem: it has something that would not be restored equal and of the same type.
        """
        written = self._plain(item)
        if written is not None:
            return written
        adapter = self._by_class.get(type(item)) or self._look_up(type(item))
        try:
            state = self._writer.write(adapter, item, ancestor_id)
            payload = _encode_json(state)
        except Refusal as error:
            cause: BaseException | None = error
            while isinstance(cause, Refusal):  # its message is in ours; what the user's dump raised stays the cause
                cause = cause.__cause__
            raise UnstorableItem(
                f"{type_name(type(item))} can't be stored: {visible(str(error), 1_000)}; "
                f"{_what_to_do(type(item), error.path)}"
            ) from cause
        self._learn(adapter, item, state)
        return payload

    def outline(self, item: object, ancestor_id: AncestorId) -> tuple[bytes, dict[str, Any]]:
        """Return the state of `item` for comparisons, without what can't be stored, and the attributes that hold that.

        The state is that of `encode`, but classes need not be found by name, and annotations need not name them. If no
        attribute of `item` can be read, `item` itself is what can't be stored, under an empty name. Never raises.
        """
        try:
            written = self._plain(item)
            if written is not None:
                return written, {}
            cls: type = type(item)
            adapter = self._adapter_of(cls)
            state, left_out = self._outliner.outline(adapter, item, ancestor_id)
            payload = _encode_json(state)
            if not left_out:
                self._learn(adapter, item, state)
        except Exception:  # its class can't be stored, or its own code raises, such as dump
            return b"", {"": item}
        return payload, left_out

    def _plain(self, item: object) -> bytes | None:
        """Return the state of `item` as JSON if it is plain, and its class is known for plain items."""
        write = self.write_plain.get(type(item))
        return None if write is None else write(item)

    def _learn(self, adapter: ClassAdapter, item: object, state: dict[str, Any]) -> None:
        """Remember how to write plain items of the class of `item`, whose `state` was written value by value."""
        if type(item) not in self.write_plain and (write := plain_writer(adapter, item, state)) is not None:
            self.write_plain[type(item)] = write

    def decode(self, type_name: str, payload: bytes, ancestor: Ancestor) -> object:
        """Return an item with the type and state that were recorded.

        Two attributes that held the same list get two equal lists. Fields that the class no longer has are left out.

        Parameters:
            type_name: the recorded name of its class.
            payload: its recorded state.
            ancestor: returns the ancestor with a number; an `AqueueError` from it passes through.

        Raises:
            UnknownItemType: this program has no such class.
            PayloadMismatch: the payload doesn't fit today's class.
        """
        adapter = self._by_name.get(type_name) or self._find(type_name)
        try:
            state = _decode_json(payload)
            is_plain = adapter.in_dict and type(state) is dict and SCALARS.issuperset(map(type, state.values()))
            if is_plain and tuple(state) == self._plain_names.get(type_name):
                made = object.__new__(adapter.cls)
                object.__setattr__(made, "__dict__", state)
                return made
            made = self._reader.read(adapter, state, ancestor)
        except AqueueError:
            raise
        except (Refusal, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            # The cause is what the user's class raised, if it did: aqueue's own errors in between say nothing more.
            raise _mismatch(type_name, str(error)) from error.__cause__
        if is_plain and made.__dict__ == state:
            # The class adds, drops and changes no attribute if it has these. Scalars can then be set at once: in 1.5 instead
            # of 2.4 µs. Nothing else is compared: `==` could be the user's code.
            self._plain_names[type_name] = tuple(state)
        return made

    def canonical(self, type_name: str, payload: bytes) -> bytes:
        """Return a recorded payload as `encode` would write an equal item today, without the ancestors being there.

        It differs from `payload` if fields have been added to the class, or removed.

        Raises:
            UnknownItemType: this program has no such class.
            PayloadMismatch: the payload doesn't fit today's class.
            UnstorableItem: the payload fits, but the default of a new field can't be stored.
        """
        adapter = self._by_name.get(type_name) or self._find(type_name)
        if isinstance(adapter, DumpLoadAdapter) and b'"$item"' in payload:
            # load() must not get a number in place of an ancestor.
            return payload
        item = self.decode(type_name, payload, _Reference)
        return self.encode(item, lambda value: int(value) if type(value) is _Reference else None)

    def compare(self, type_name: str, payload: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
        """Return the attributes of a recorded payload, those that today's class gives the item, and its payload with these.

        Where today's class can't read the payload, both are as recorded.
        """
        before = self.attributes(type_name, payload)
        try:
            written = self.canonical(type_name, payload)
        except (UnknownItemType, PayloadMismatch, UnstorableItem):
            return before, before, payload
        return before, self.attributes(type_name, written), written

    def attributes(self, type_name: str, payload: bytes) -> dict[str, Any]:
        """Return the attributes in a recorded payload by name, with their values as JSON's types.

        The return value of `dump` counts as an attribute, ``$dump``. Policies of today's class don't, nor does the list of
        a model's unset fields.

        Raises:
            PayloadMismatch: `encode` never wrote this payload.
        """
        try:
            found = _decode_object(payload)
            if b'"$' in payload:  # otherwise no name begins with it, neither here nor in a value
                found.pop("$unset", None)
                for part in ("$extra", "$private"):
                    found.update(**found.pop(part, {}))
        except (TypeError, ValueError, RecursionError) as error:
            raise _mismatch(type_name, str(error)) from None
        policies = self._policies_of(type_name)
        if not policies.isdisjoint(found):
            return {name: value for name, value in found.items() if name not in policies}
        return found

    def _look_up(self, cls: type) -> ClassAdapter:
        name = type_name(cls)
        try:
            found: type | None = resolve_type(name)
        except UnknownItemType:
            found = None
        if found is not cls:
            why = "another class has the same name" if found else "it can't be found by its name"
            raise UnstorableItem(
                f"{name} can't be stored: {why}, so a resumed run could not restore its items; define the class once, at "
                "the top level of a module or as a subclass of aqueue.Item, with process in its body"
            )
        try:
            adapter = self._by_class[cls] = self._adapter_of(cls)
        except Refusal as error:
            raise UnstorableItem(f"{name} can't be stored: it {error.reason}; {_what_to_do(cls)}") from error
        return adapter

    def _find(self, name: str) -> ClassAdapter:
        cls = resolve_type(name)
        try:
            adapter = self._by_name[name] = self._by_class.get(cls) or self._look_up(cls)
        except UnstorableItem as error:
            raise PayloadMismatch(f"an item of {visible(name, 300)} can't be restored: {error}") from None
        return adapter


def references(payload: bytes) -> Iterator[int]:
    """Yield the numbers of the ancestors that a payload refers to, without its class."""
    if b'"$item"' not in payload:
        return
    try:
        parts = [_decode_json(payload)]
    except (ValueError, RecursionError):  # damaged; it is refused when it is decoded
        return
    for part in parts:
        if isinstance(part, dict):
            parts += part.values()
            if type(part.get("$item")) is int:
                yield part["$item"]
        elif isinstance(part, list):
            parts += part


def _policies_of(type_name: str) -> frozenset[str]:
    try:
        return frozenset(policies_of(resolve_type(type_name)))
    except UnknownItemType:
        return frozenset()


def _what_to_do(cls: type, path: tuple[str, ...] = ()) -> str:
    if not path:
        return (
            "define dump(self), which returns what to store, and the class method load(cls, data), which makes the item"
        )
    attribute = visible(".".join(path), 100)
    holder = cls.__qualname__ if len(path) == 1 else "the class that declares it"
    return (
        f"annotate {attribute} in the body of {holder} with its exact class (a dataclass, attrs class, Struct, "
        "pydantic model, named tuple or enum), or define dump(self) and the class method load(cls, data), or leave "
        f"{attribute} out of the item: create it in process, or once for all items with lifespan= and aqueue.shared()"
    )


def _mismatch(type_name: str, reason: str) -> PayloadMismatch:
    return PayloadMismatch(
        f"an item of {visible(type_name, 300)} can't be restored: {visible(reason, 1_000)}; change the class to accept "
        "what was recorded (give new fields a default, for example), or define dump(self) and the class method "
        "load(cls, data), which gets a dict of the attributes for items that were recorded without dump"
    )
