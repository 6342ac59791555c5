"""A recorded child, and its comparison with new children whose class has other attributes."""

from operator import itemgetter
from typing import Any, Final

import msgspec

from aqueue._codec.digests import digest_of
from aqueue._engine.tree import Node

__all__ = ["Comparison", "Names", "OneChild", "RecordedChild"]

Names = frozenset[str]
"""The names of attributes."""

_encode_json: Final = msgspec.json.Encoder().encode


class RecordedChild(msgspec.Struct, gc=False, eq=False):
    """A child that an earlier attempt of its parent enqueued.

    Attributes:
        id: its number.
        node: its node; None if its subtree is done.
        key: its key, if it has one.
        payload: its payload as announced, by which a new child matches it.
        state: its latest recorded payload, which differs from `payload` if it was adopted with other attributes.
        occurrence: how many earlier children of its parent had the same type and payload.
        ended_before: how many of these are done and are matched before this one, but after the previous waiting one.
        known_by: its payload as today's class would write it; empty until it is needed.
        is_taken: whether it was enqueued again.
        is_alike: whether it was enqueued again with another set of attributes.
    """

    id: int
    node: Node | None
    key: str | None
    payload: bytes
    state: bytes
    occurrence: int = 0
    ended_before: int = 0
    known_by: bytes = b""
    is_taken: bool = False
    is_alike: bool = False


OneChild = RecordedChild | int
"""A recorded child; one that has ended by its place among those with a key, or among those without."""


class Comparison:
    """The recorded children with one set of attributes, found by the values that they share with another set.

    Attributes:
        recorded: the names of the recorded attributes.
        common: the names of the attributes that new children have as well.
        alike: the children by a digest of the values of `common`; several children in a list.
    """

    __slots__ = ("_values", "alike", "common", "recorded")

    def __init__(self, recorded: Names, names: Names) -> None:
        self.recorded = recorded
        self.common = sorted(recorded & names)
        self.alike: dict[bytes, OneChild | list[OneChild]] = {}
        self._values = itemgetter(*self.common) if self.common else None

    def digest(self, attributes: dict[str, Any]) -> bytes | None:
        """Return the digest of the common attributes; None if there are none."""
        return None if self._values is None else digest_of(_encode_json(self._values(attributes)))

    def add(self, attributes: dict[str, Any], one: OneChild) -> None:
        """Add a child with these attributes."""
        digest = self.digest(attributes)
        if digest is not None:
            self._add(digest, one)

    def _add(self, digest: bytes, one: OneChild) -> None:
        before = self.alike.setdefault(digest, one)
        if isinstance(before, list):
            before.append(one)
        elif before is not one:
            self.alike[digest] = [before, one]

    def merge(self, other: "Comparison") -> None:
        """Add the children of `other`, which has the same set of attributes."""
        for digest, alike in other.alike.items() if other is not self else ():
            for one in alike if isinstance(alike, list) else [alike]:
                self._add(digest, one)
