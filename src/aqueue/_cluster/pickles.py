"""Pickles any object, with references to what must not be copied: items, classes and functions."""

import pickle
from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

from aqueue._cluster.names import Definition, Key, is_definition
from aqueue.errors import UnsendableItem

__all__ = ["SCALARS", "KeyOf", "ReferenceTo", "dump", "failing_attribute", "load"]

KeyOf = Callable[[Definition], Key | None]
"""Names a class or function, as `Definitions.key_of` does."""

ReferenceTo = Callable[[Any], tuple[Any, ...] | None]
"""Returns what is written in place of an object, or None to write the object itself."""

SCALARS: Final = frozenset({str, int, float, bool, type(None), bytes})
"""Types whose objects have no parts and no state."""

_NEVER_REFERENCES: Final = SCALARS | {bytearray, complex, list, tuple, dict, set, frozenset}


# Classes, since on Python 3.13.0 `persistent_id` can't be set on a pickler.
class _Pickler(pickle.Pickler):
    def __init__(self, file: BytesIO, key_of: KeyOf, reference_to: ReferenceTo) -> None:
        super().__init__(file, 5)
        self._key_of = key_of
        self._reference_to = reference_to

    def persistent_id(self, part: Any) -> Any:
        if type(part) in _NEVER_REFERENCES:
            return None
        return self._key_of(part) if is_definition(part) else self._reference_to(part)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BytesIO, find: Callable[[Any], Any]) -> None:
        super().__init__(file)
        self._find = find

    def persistent_load(self, pid: Any) -> Any:
        return self._find(pid)


def dump(value: Any, key_of: KeyOf, reference_to: ReferenceTo, prefix: bytes = b"") -> bytes:
    """Return `value` as bytes, after `prefix`.

    Raises:
        Exception: what the user's objects raise; `Refused` for a function without a name.
    """
    file = BytesIO()
    file.write(prefix)
    _Pickler(file, key_of, reference_to).dump(value)
    return file.getvalue()


def load(
    data: bytes, find: Callable[[Key], Any], refer: Callable[[tuple[Any, ...]], Any] = tuple, skip: int = 0
) -> Any:
    """Return the value that `dump` has written, without the `skip` bytes of its prefix."""
    file = BytesIO(data)
    file.seek(skip)
    return _Unpickler(file, lambda pid: refer(pid) if type(pid) is tuple else find(pid)).load()


def failing_attribute(value: Any, key_of: KeyOf, reference_to: ReferenceTo) -> tuple[str, Exception] | None:
    """Return the name of the first attribute of `value` that can't be pickled, and the exception."""
    try:
        attributes = _attributes_of(value)
    except Exception:  # the user's code
        return None
    for name, part in attributes.items():
        try:
            # A reference back to `value` is no reason to blame an attribute.
            dump(part, key_of, lambda one: ("whole",) if one is value else reference_to(one))
        except UnsendableItem:  # about a class, and it says so
            raise
        except Exception as error:  # the user's code, while it is pickled
            return str(name), error
    return None


def _attributes_of(value: Any) -> dict[Any, Any]:
    state = value.__getstate__()
    if isinstance(state, dict):
        return dict(state.get("__dict__", state))  # pydantic's models keep their fields a level below
    slots = [name for base in type(value).__mro__ for name in getattr(base, "__slots__", ())]
    return {**getattr(value, "__dict__", {}), **{name: getattr(value, name) for name in slots if hasattr(value, name)}}
