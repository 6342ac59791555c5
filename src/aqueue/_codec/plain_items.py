"""Writes and makes plain items, which have only scalars in attributes of their own, whole and not value by value.

Most items are, and the journal's cost is theirs. An item of a class counts as plain if another with attributes of the same
names has been written or read the long way: names and defaults need no second look then.
"""

from collections.abc import Callable
from gc import get_referents
from operator import attrgetter
from typing import Any, Final

import msgspec

from aqueue._codec.object_state import AttributesAdapter, ClassAdapter
from aqueue._codec.values import SCALARS, is_scalar

__all__ = ["PlainItems", "WritePlain"]

WritePlain = Callable[[Any], bytes | None]
"""Returns the state of an item as JSON if the item is plain, otherwise None."""

_MAX_SHAPES: Final = 64
_encode: Final = msgspec.json.Encoder().encode
_encode_sorted: Final = msgspec.json.Encoder(order="deterministic").encode


class PlainItems:
    """Writes and makes the plain items of one class.

    Attributes:
        write: writes one.
    """

    __slots__ = ("_adapter", "_configured", "_may_be_plain", "_read", "_written", "write")

    def __init__(self, adapter: ClassAdapter) -> None:
        """Know nothing yet of the items that `adapter` reads and makes."""
        self._adapter = adapter
        # Whether the attributes are the object's __dict__ and nothing else.
        self._may_be_plain = isinstance(adapter, AttributesAdapter) and adapter.in_dict
        # Tuples of names, in their order in an object that was written or read.
        self._written: set[tuple[str, ...]] = set()
        # The same of objects with policies among their names, and those: what the class declares as a field is in each.
        self._configured: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._read: set[tuple[str, ...]] = set()
        self.write: WritePlain = self._write_dict if self._may_be_plain else _write_none

    def _write_dict(self, item: Any) -> bytes | None:
        values = item.__dict__
        names = tuple(values)
        if names not in self._written:
            policies = self._configured.get(names)
            if policies is None:
                return None
            values = values.copy()
            for name in policies:
                del values[name]
        if all(map(is_scalar, values.values())):
            try:
                return _encode(values) if self._adapter.declares else _encode_sorted(values)
            except UnicodeEncodeError:
                pass  # a lone surrogate, which has to be written in another way
        return None

    def learn_written(self, item: Any, written: dict[str, Any]) -> None:
        """Take note of the names in `item`, which was `written` the long way."""
        if not self._may_be_plain:
            return
        held = tuple(item.__dict__)
        policies = tuple(name for name in held if name in self._adapter.policies)
        names = tuple(name for name in held if name not in policies)
        if names == tuple(written) or (not self._adapter.declares and set(names) == set(written)):
            if policies:
                if len(self._configured) < _MAX_SHAPES:
                    self._configured[held] = policies
                return
            if not self._written:
                write = _without_dict(self._adapter.cls, tuple(written), self._write_dict)
                if write is not None:
                    self.write = write
            _remember(self._written, names)

    def make(self, raw: Any) -> Any:
        """Return an item made of `raw`, its state as JSON gave it back, or None if it may not be plain."""
        if type(raw) is dict and tuple(raw) in self._read:
            for value in raw.values():
                if type(value) not in SCALARS:
                    return None
            made: Any = object.__new__(self._adapter.cls)
            made.__dict__.update(raw)
            return made
        return None

    def learn_read(self, item: Any, raw: dict[str, Any]) -> None:
        """Take note of the names in `raw`, of which `item` was made the long way."""
        # One that an older version wrote may hold policies.
        if self._may_be_plain and tuple(item.__dict__) == tuple(raw) and raw.keys().isdisjoint(self._adapter.policies):
            _remember(self._read, tuple(raw))


def _without_dict(cls: type, names: tuple[str, ...], otherwise: WritePlain) -> WritePlain | None:
    """Return what writes an object of `cls` with attributes of these names, in this order; None if that can't be.

    CPython keeps an object's attributes without a dict until its ``__dict__`` is asked for. That makes one that lives as
    long as the object, so that a million waiting items take 100 MB more, and each of the garbage collector's rounds
    through them nearly twice the time. What has such a dict already, or other attributes, goes to `otherwise`.
    """
    of_classes = {name for base in cls.__mro__[:-1] for name in vars(base)}
    if (
        not names
        or not all(name.isidentifier() for name in names)
        # With these, an attribute could be read that the object does not have. (Classes don't get defaults while in use.)
        or not of_classes.isdisjoint({*names, "__getattr__", "__getattribute__"})
    ):
        return None
    fields = [f"f{n}" for n in range(len(names))]
    record: Any = msgspec.defstruct("PlainItem", fields, rename=dict(zip(fields, names, strict=True)), gc=False)
    read = attrgetter(*names)
    is_single = len(names) == 1
    count = len(names) + 1  # the values and the class

    def write(item: Any) -> bytes | None:
        held = get_referents(item)
        if len(held) != count or type(held[0]) is dict:
            return otherwise(item)
        try:
            values = (read(item),) if is_single else read(item)
            for value in values:
                if type(value) is not str and not is_scalar(value):
                    return None
            return _encode(record(*values))
        except AttributeError:
            return otherwise(item)
        except UnicodeEncodeError:  # a lone surrogate, which has to be written in another way
            return None

    return write


def _write_none(item: Any) -> None:
    return None


def _remember(known: set[tuple[str, ...]], names: tuple[str, ...]) -> None:
    if len(known) < _MAX_SHAPES:
        known.add(names)
