"""Compares recorded items with today's classes, which may have been edited since."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

from aqueue._codec.class_names import previous_names_of
from aqueue._codec.digests import KeySet
from aqueue._system.notice import warn
from aqueue.errors import UnknownItemType
from aqueue.text import visible

__all__ = ["DUMP", "KEY", "ChangedClasses", "listed"]

KEY: Final = "$key"
"""Stands for the key among the names of attributes; no attribute has such a name."""

DUMP: Final = "$dump"
"""What `aqueue._codec.item_codec.PayloadCodec.attributes` calls what dump() returned."""


class _Codec(Protocol):
    """The part of `aqueue._codec.item_codec.PayloadCodec` that is used here."""

    def resolve(self, type_name: str) -> type: ...
    def attributes(self, type_name: str, payload: bytes) -> dict[str, Any]: ...
    def compare(self, type_name: str, payload: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]: ...


class ChangedClasses:
    """Compares recorded items with today's classes, and warns once per class that has changed."""

    def __init__(self, codec: _Codec, keys: KeySet, first_ids: Sequence[int]) -> None:
        """Compare with `codec`. `keys` are all keys of the run; `first_ids` is each process's first item number."""
        self._codec = codec
        self._keys = keys
        self._first_ids = first_ids
        self._names: dict[str, tuple[str, ...]] = {}
        self.attributes = codec.attributes
        self.compare = codec.compare
        self._named: set[str] = set()
        self._others_named: set[str] = set()

    def is_gone(self, type: str) -> bool:
        """Return whether the program has no class of that name."""
        try:
            self._codec.resolve(type)
        except UnknownItemType:
            return True
        return False

    def process_of(self, number: int) -> int:
        """Return which process of the run enqueued item `number`, counted from 1."""
        return bisect_right(self._first_ids, number)

    def is_duplicate(self, type: str, key: str) -> bool:
        """Return whether the run has an item of class `type` with this key."""
        names = self._names.get(type)
        if names is None:
            names = self._names[type] = (type, *previous_names_of(self._codec.resolve(type)))
        return self._keys.knows(names, key)

    def name_others_once(self, type: str, parent: str, left: int, new: int) -> None:
        """Warn that `parent` enqueued `new` children of class `type`, and left out `left` completed ones."""
        if type not in self._others_named:
            self._others_named.add(type)
            warn(
                f"{parent} did not enqueue {left:,} completed item{'s' if left > 1 else ''} of class {type} again, but "
                f"{new:,} new one{'s' if new > 1 else ''}; if these are the same items with a changed value or key, they run twice"
            )

    def name_once(self, type: str, before: Iterable[str], now: Iterable[str]) -> None:
        """Warn that items of class `type` were matched although their attributes differ from the recorded ones."""
        if type not in self._named:
            self._named.add(type)
            warn(
                f"{type} was recorded with {listed(before)}, and has {listed(now)} now; an item whose other attributes match "
                "a recorded item counts as that item, and doesn't run twice"
            )


def listed(names: Iterable[str]) -> str:
    """Return attribute names as a list for a message."""
    all_names = sorted(names, key=lambda name: (name == KEY, name))
    shown = [
        "a key" if name == KEY else "what dump() returns" if name == DUMP else repr(visible(name, 100))
        for name in all_names[:20]
    ]
    if len(all_names) > 20:
        shown.append("…")
    return ", ".join(shown) or "no attributes"
