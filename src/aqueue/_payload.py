"""The state of an item as JSON and back: restored equal and of the same type, or refused when it is stored.

A payload is one JSON object with a member for each attribute. A value that JSON lacks is an object with one key that
begins with ``$``: those of `aqueue._tags`, and here containers, references to ancestors, enum members and objects. The
class of an enum member or object is one that the attribute's annotation names: no payload can name any other.
"""

import enum
from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any, Final, cast

import msgspec

from aqueue._state import MissingField, Plain, State, state_of
from aqueue._tags import READERS, WRITERS, Unwritable, is_plain_text
from aqueue._types import has_process, resolve_type
from aqueue.errors import AqueueError, PayloadMismatch, UnknownItemType, UnstorableItem
from aqueue.item import type_name
from aqueue.text import visible

__all__ = ["MAX_DEPTH", "PayloadCodec"]

MAX_DEPTH: Final = 500
"""How deep arrays and objects may be nested in a payload; SQLite's JSON functions refuse a thousand."""

_MAX_SHAPES = 64
_SCALARS: Final = frozenset({str, bool, type(None), int, float})
_encode_json: Final = msgspec.json.Encoder().encode
_encode_sorted: Final = msgspec.json.Encoder(order="deterministic").encode
_decode_json: Final = msgspec.json.Decoder().decode

_Classes = dict[str, type | None]
_AncestorId = Callable[[object], int | None]
_Ancestor = Callable[[int], object]


class _Reference:
    """Stands for an ancestor when a payload is only written anew."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class _ClassOfItems:
    """What the codec knows about one class of items.

    Attributes:
        state: how its objects are read and made.
        simple: whether the attributes are the object's ``__dict__`` and nothing else.
        written, read: the names of attributes, in their order, of which one object has been written or read the
            long way, so that others with the same need no check of the names.
    """

    __slots__ = ("read", "simple", "state", "written")

    def __init__(self, state: State) -> None:
        self.state = state
        self.simple = isinstance(state, Plain) and state.in_dict
        self.written: set[tuple[str, ...]] = set()
        self.read: set[tuple[str, ...]] = set()


class _Unreadable(Exception):
    """A payload is none that this class would have written; the reason goes on after where it was found."""


class PayloadCodec:
    """Writes items as JSON, and restores them. What it finds out about a class is looked up once."""

    def __init__(self) -> None:
        self._classes: dict[type, _ClassOfItems] = {}
        self._states: dict[type, State | Unwritable] = {}

    def resolve(self, type_name: str) -> type:
        """Return the class of this program that the name in a journal stands for.

        Raises:
            UnknownItemType: there is none, or it is not clear which.
        """
        return resolve_type(type_name)

    def encode(self, item: object, ancestor_id: _AncestorId) -> bytes:
        """Return the state of `item` as one JSON object.

        Equal items give equal bytes if their dicts also have the same order, which is kept. Sets are sorted.

        Parameters:
            ancestor_id: returns the number of an object that is itself an ancestor of the item, otherwise None.

        Raises:
            UnstorableItem: it has something that would not be restored equal and of the same type.
        """
        known = self._classes.get(type(item)) or self._look_up(type(item))
        if known.simple:
            values = item.__dict__
            if tuple(values) in known.written and _are_scalars(values.values()):
                try:
                    return _encode_json(values) if known.state.declares else _encode_sorted(values)
                except UnicodeEncodeError:  # a lone surrogate
                    pass
        return self._write_item(known, item, ancestor_id)

    def decode(self, type_name: str, payload: bytes, ancestor: _Ancestor) -> object:
        """Return an item of the type and state that were recorded.

        Two attributes that held one list hold two equal ones. Fields that the class has no more are left out.

        Parameters:
            ancestor: returns the ancestor with a number.

        Raises:
            UnknownItemType: this program has no such class.
            PayloadMismatch: the payload doesn't fit today's class.
        """
        cls = resolve_type(type_name) if type_name not in self._names else self._names[type_name]
        raise NotImplementedError
