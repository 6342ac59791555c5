"""Writes an item that has only scalars, in attributes of its own, in one step instead of value by value.

Most items are of this kind. Of the 14 µs that an item with two attributes costs in a run with a journal, writing it
takes 0.9 µs; value by value it would take 3.0 µs.
"""

from collections.abc import Callable
from gc import get_referents
from operator import attrgetter
from typing import Any, Final

import msgspec

from aqueue._codec.object_state import ClassAdapter
from aqueue._codec.values import is_scalar

__all__ = ["WritePlain", "plain_writer"]

WritePlain = Callable[[Any], bytes | None]
"""Returns the state of an item as JSON, or None if the item must be written value by value."""

_encode: Final = msgspec.json.Encoder().encode
_encode_sorted: Final = msgspec.json.Encoder(order="deterministic").encode


def plain_writer(adapter: ClassAdapter, item: Any, written: dict[str, Any]) -> WritePlain | None:
    """Return what writes items with the same attributes as `item`, an object of the adapter's class.

    Parameters:
        adapter: reads the class.
        item: an object of the class.
        written: the state of `item` as it was written value by value.

    Returns:
        None if `item` doesn't have the same attributes as its state: a policy or a default of the class makes a difference.
    """
    names = tuple(item.__dict__) if adapter.in_dict else None
    if names is None or (names != tuple(written) if adapter.declares else set(names) != set(written)):
        return None
    encode = _encode if adapter.declares else _encode_sorted

    def write_dict(item: Any) -> bytes | None:
        values = item.__dict__
        if tuple(values) == names and all(map(is_scalar, values.values())):
            try:
                return encode(values)
            except UnicodeEncodeError:  # a lone surrogate
                pass
        return None

    of_classes = {name for base in adapter.cls.__mro__[:-1] for name in vars(base)}
    # With these, reading an attribute by its name could find one that the object itself lacks. (Classes don't get other
    # defaults while in use.)
    is_ambiguous = not of_classes.isdisjoint({*names, "__getattr__", "__getattribute__"})
    if not names or is_ambiguous or not all(name.isidentifier() for name in names):
        return write_dict
    return _without_dict(tuple(written), write_dict)


def _without_dict(names: tuple[str, ...], write_dict: WritePlain) -> WritePlain:
    """Return what writes an object with attributes of these names, in this order, without reading its ``__dict__``.

    CPython keeps an object's attributes without a dict until its ``__dict__`` is read. The dict that is made then
    lives as long as the object: a million waiting items would take 100 MB more, and each of the garbage collector's rounds
    through them nearly twice the time. An object that has a dict already, or other attributes, goes to `write_dict`.
    """
    fields = [f"f{n}" for n in range(len(names))]
    record: Any = msgspec.defstruct("PlainItem", fields, rename=dict(zip(fields, names, strict=True)), gc=False)
    read = attrgetter(*names)
    is_single = len(names) == 1
    count = len(names) + 1  # the values and the class

    def write(item: Any) -> bytes | None:
        held = get_referents(item)
        if len(held) != count or type(held[0]) is dict:
            return write_dict(item)
        try:
            values = (read(item),) if is_single else read(item)
            for value in values:
                if type(value) is not str and not is_scalar(value):
                    return None
            return _encode(record(*values))
        except AttributeError:
            return write_dict(item)
        except UnicodeEncodeError:  # a lone surrogate
            return None

    return write
