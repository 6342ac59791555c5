"""Converts what coordinator and lanes exchange to bytes and back: items, their state, exceptions, classes.

Most items are flat: they have only scalars, in a ``__dict__``. Flat items take a fast path.
"""

import copyreg
import inspect
import pickle
import pickletools
from collections.abc import Callable
from operator import is_
from sys import intern
from types import GetSetDescriptorType
from typing import Any, Final

import msgspec

from aqueue._cluster.definitions import Definitions, LaneDefinitions, Refused, SentDefinitions, error_text
from aqueue._cluster.errors_on_the_wire import dump_error, load_error
from aqueue._cluster.names import Key
from aqueue._cluster.pickles import SCALARS, dump, failing_attribute, load
from aqueue._codec.class_names import type_name
from aqueue._codec.object_kinds import is_built_in
from aqueue.errors import UnsendableItem
from aqueue.text import visible

__all__ = ["Ancestor", "AncestorNumber", "CoordinatorObjects", "LaneObjects"]

AncestorNumber = Callable[[object], int | None]
"""Returns the number of an object that is an ancestor of the item in question, otherwise None."""

Ancestor = Callable[[int], object]
"""Returns the ancestor that has a number."""

_all_flat: Final = SCALARS.issuperset
_all_str: Final = frozenset({str}).issuperset
_PICKLE: Final = 0x80
"""The first byte of what pickle writes: a flat item. Everything else begins with one of the following letters."""
_ITEM, _STATE = b"G", b"S"

_SELF: Final = ("self",)
_dumps: Final = pickle.dumps
_loads: Final = pickle.loads
_new: Final = object.__new__
_set: Final = object.__setattr__


class _ItemClass:
    """What is known of a class of items.

    Attributes:
        key: what names the class on both sides.
        may_be_flat: whether an object of it is its ``__dict__`` and nothing else.
        is_struct: whether it is one of msgspec's.
        has_state: whether an object that has changed is sent as its state; else only pickle can make one, and the whole
            object is sent.
        reserved: the names of properties and slots: an attribute of such a name must go straight to the ``__dict__``.
    """

    __slots__ = ("cls", "has_state", "is_struct", "key", "may_be_flat", "reserved")

    def __init__(self, cls: type, key: Key) -> None:
        self.cls = cls
        self.key = key
        self.is_struct = issubclass(cls, msgspec.Struct)
        self.has_state = _has_state(cls)
        self.may_be_flat = self.has_state and _may_be_flat(cls)
        self.reserved = {
            name for base in cls.__mro__ for name, value in vars(base).items() if _is_data_descriptor(value)
        }


class _Objects:
    """Writes and reads items, on both sides."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._classes: dict[type, _ItemClass] = {}
        self._by_key: dict[Key, _ItemClass] = {}

    # ---- whole items --------------------------------------------------------------------------------------------

    def dump_item(self, item: Any, ancestor_number: AncestorNumber) -> bytes:
        """Return `item` as bytes.

        Raises:
            UnsendableItem: it can't be sent.
        """
        known = self._classes.get(type(item)) or self._inspect_class(type(item))
        if known.may_be_flat and _is_flat(item):
            return _dumps((known.key, item.__dict__), 5)
        return self._dump_long(known, item, ancestor_number)

    def load_item(self, data: bytes, ancestor: Ancestor) -> Any:
        """Return a new item made of `data`.

        Raises:
            UnsendableItem: it can't be made on this side; its class is missing, say.
        """
        if data[0] == _PICKLE:
            key, attributes = _loads(data)
            known = self._by_key.get(key) or self._find(key)
            try:
                made: Any = _new(known.cls)
            except TypeError as error:  # the class is abstract here
                raise _unreadable(str(key), error) from error
            if known.reserved.isdisjoint(attributes):
                # Not through __dict__: reading it would give each object a dict of its own (3.11: 64 bytes more).
                for name, value in attributes.items():
                    _set(made, intern(name), value)
            else:
                made.__dict__.update(attributes)
            return made
        try:
            loaded = load(data, self._definitions.find, lambda pid: ancestor(pid[1]), 1)
            made = loaded[1]
            if loaded[2] is not None:
                _restore(made, loaded[2])
        except Exception as error:  # the user's code, while it is unpickled
            raise _unreadable(_name_in(data), error) from error
        return made

    def _dump_long(self, known: _ItemClass, item: Any, ancestor_number: AncestorNumber) -> bytes:
        name = f"{known.cls.__module__}:{known.cls.__qualname__}"
        # A Struct's __reduce__ has it made by its constructor: that forgets the attributes of a __dict__ which another base
        # brings, and __post_init__ may change the others.
        state = item.__getstate__() if known.is_struct and known.has_state else None
        return self._dump(_ITEM, (name, item, state), item, ancestor_number)

    # ---- states -------------------------------------------------------------------------------------------------

    def dump_state(self, item: Any, ancestor_number: AncestorNumber) -> bytes:
        """Return the state of `item` as bytes, for `apply_state` on the other side.

        Raises:
            UnsendableItem: it can't be sent.
        """
        known = self._classes.get(type(item)) or self._inspect_class(type(item))
        if known.may_be_flat and _is_flat(item):
            return _dumps((known.key, item.__dict__), 5)
        if not known.has_state:
            return self._dump_long(known, item, ancestor_number)

        try:
            state = item.__getstate__()
        except Exception as error:
            raise _unsendable(known.cls, "", error) from error
        return self._dump(_STATE, state, item, ancestor_number)

    def apply_state(self, item: Any, data: bytes, ancestor: Ancestor) -> Any:
        """Give `item` the state in `data`, and return it; or return its replacement, if it can't be changed.

        Raises:
            UnsendableItem: the state can't be made on this side.
        """
        cls = type(item)
        try:
            if data[0] == _PICKLE:
                state = _loads(data)[1]
            else:
                state = load(data, self._definitions.find, lambda pid: item if pid == _SELF else ancestor(pid[1]), 1)
            if data[:1] == _ITEM:
                return state[1]
            _restore(item, state)
        except Exception as error:  # the user's code, while it is unpickled
            raise _unreadable(type_name(cls), error) from error
        return item

    # ---- both ---------------------------------------------------------------------------------------------------

    def _dump(self, prefix: bytes, value: Any, item: Any, ancestor_number: AncestorNumber) -> bytes:
        def reference_to(part: Any) -> tuple[Any, ...] | None:
            if part is item:
                return _SELF if prefix == _STATE else None
            number = ancestor_number(part)
            return None if number is None else ("item", number)

        key_of = self._definitions.key_of
        try:
            return dump(value, key_of, reference_to, prefix)
        except UnsendableItem:  # its class or another can't be sent
            raise
        except Exception as error:  # the user's code, while it is pickled
            name, reason = failing_attribute(item, key_of, reference_to) or ("", error)
            raise _unsendable(type(item), name, reason) from error

    def _inspect_class(self, cls: type) -> _ItemClass:
        try:
            known = _ItemClass(cls, self._definitions.name_or_number(cls))
        except UnsendableItem:
            raise
        except Exception as error:  # Refused, or the user's metaclass
            why = error if isinstance(error, Refused) else f"can't be inspected ({error_text(error)})"
            raise UnsendableItem(
                f"{type_name(cls)} can't be sent to another process: it {why}; define it at the top level of a module"
            ) from error
        self._classes[cls] = self._by_key[known.key] = known
        return known

    def _find(self, key: Key) -> _ItemClass:
        try:
            cls = self._definitions.find(key)
            if not isinstance(cls, type):
                raise TypeError("it isn't a class in this process")
            known = self._classes.get(cls) or self._inspect_class(cls)
        except Exception as error:  # the user's module, while it is imported
            raise _unreadable(str(key), error) from error
        self._by_key[key] = known
        return known


class CoordinatorObjects(_Objects):
    """The coordinator's side.

    Attributes:
        definitions: what each lane has to be given, in this order, before it loads an item that was dumped since.
    """

    def __init__(self, lifespan: Callable[..., Any] | None = None) -> None:
        """Send the lanes `lifespan` with the first definitions.

        Raises:
            InvalidArgument: it can't be sent.
        """
        sent = SentDefinitions(lifespan)
        super().__init__(sent)
        self.definitions: list[bytes] = sent.pickled

    def load_error(self, data: bytes) -> BaseException:
        """Return the exception that a lane has dumped, or a `RemoteError` that stands for it; never raises."""
        return load_error(data, self._definitions.find)


class LaneObjects(_Objects):
    """A lane's side, in another process; or, with a cluster of threads, in the coordinator's own.

    Attributes:
        definitions: what the coordinator has sent.
    """

    def __init__(self) -> None:
        self.definitions = LaneDefinitions()
        super().__init__(self.definitions)

    def changed_state(self, item: object, before: bytes, ancestor_number: AncestorNumber) -> bytes | None:
        """Return the state of `item` as bytes, or None if it is as it was `before`.

        Raises:
            UnsendableItem: it can't be sent.
        """
        state = self.dump_state(item, ancestor_number)
        return None if state == before else state

    def dump_error(self, error: BaseException) -> bytes:
        """Return an exception as bytes, with everything in it; never raises."""
        return dump_error(error, self._definitions.key_of)


def _is_flat(item: Any) -> bool:
    # A name may be of a subclass of str (a member of a StrEnum), which only the slow path can send.
    attributes = item.__dict__
    return _all_flat(map(type, attributes.values())) and _all_str(map(type, attributes))


def _has_state(cls: Any) -> bool:
    if issubclass(cls, msgspec.Struct):
        return is_(cls.__reduce__, msgspec.Struct.__reduce__)
    return (
        cls.__reduce_ex__ is object.__reduce_ex__
        and cls.__reduce__ is object.__reduce__
        and cls not in copyreg.dispatch_table
        and not hasattr(cls, "__getnewargs__")
        and not hasattr(cls, "__getnewargs_ex__")
        and all(base is object or not is_built_in(base) for base in cls.__mro__)
    )


def _is_data_descriptor(value: object) -> bool:
    return hasattr(type(value), "__set__") or hasattr(type(value), "__delete__")


def _may_be_flat(cls: Any) -> bool:
    return bool(
        cls.__dictoffset__
        and cls.__new__ is object.__new__
        and cls.__getstate__ is object.__getstate__
        and cls.__getattribute__ is object.__getattribute__
        and all(type(vars(base).get("__dict__")) in (GetSetDescriptorType, type(None)) for base in cls.__mro__)
        and not hasattr(cls, "__setstate__")
        and not any(vars(base).get("__slots__") for base in cls.__mro__)
    )


def _restore(item: Any, state: Any) -> None:
    """Give `item` the state that pickle would give to a new object, and remove attributes that the state lacks."""
    set_state = getattr(item, "__setstate__", None)
    if set_state is not None:
        if state is not None:
            set_state(state)
        return
    attributes, slots = _attributes_and_slots(state)
    # What the class's own __getstate__ leaves out stays: it was never sent.
    old_attributes, old_slots = _attributes_and_slots(item.__getstate__())
    if hasattr(item, "__dict__"):
        held = item.__dict__
        for name in old_attributes.keys() - attributes.keys():
            held.pop(name, None)
        # With interned names, so that a million items share them.
        held.update({intern(name) if type(name) is str else name: value for name, value in attributes.items()})
    for name in old_slots.keys() - slots.keys():
        inspect.getattr_static(type(item), name).__delete__(item)
    set_slot = msgspec.structs.force_setattr if isinstance(item, msgspec.Struct) else _set
    for name, value in slots.items():
        set_slot(item, name, value)


def _attributes_and_slots(state: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a state without a `__setstate__` has in it: attributes in the ``__dict__``, and others."""
    attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    return attributes or {}, slots or {}


def _unsendable(cls: type, attribute: str, reason: Exception) -> UnsendableItem:
    text = str(reason) if isinstance(reason, Refused) else f"can't be pickled ({error_text(reason)})"
    where = f"attribute {visible(attribute, 100)!r}" if attribute else "it"
    out = visible(attribute, 100) or "that"
    return UnsendableItem(
        f"{type_name(cls)} can't be sent to another process: {where} {text}; leave {out} out of the item and create it "
        "in process or in the lifespan, or give the class a __getstate__ that omits it"
    )


def _unreadable(name: str, error: Exception) -> UnsendableItem:
    return UnsendableItem(
        f"{visible(name, 300)} can't be restored from what another process sent: {error_text(error)}; check that your "
        "program and the worker processes have the same modules, in the same versions, and that the class's __setstate__ "
        "accepts what its __getstate__ returns"
    )


def _name_in(data: bytes) -> str:
    """Return the name of the item's class, which comes first."""
    return next((found for _, found, _ in pickletools.genops(data[1:]) if isinstance(found, str)), "an item")
