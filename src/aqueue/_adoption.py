"""Adoption: a parent that runs again enqueues its children again, and each is matched with the recorded one.

A child with a key matches the recorded one with the same type and key. Another matches by type and payload, the first
such child with the first recorded, the second with the second, and so on.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Final

import msgspec

from aqueue._keys import KeySet
from aqueue._tree import Node
from aqueue.errors import PayloadMismatch, UnknownItemType, UnstorableItem

__all__ = ["EndedChildren", "RecordedChild", "RecordedChildren"]


class RecordedChild(msgspec.Struct, gc=False, eq=False):
    """A child that an earlier attempt of its parent enqueued.

    Attributes:
        id: its number.
        node: its node; None if its subtree has ended well, so that nothing is left to do.
        type: the name of its class today, or the recorded one if that class is gone.
        key: its key, if it has one.
        payload: its recorded payload: as it was announced, or, for one with a key, as it was recorded last.
        occurrence: how many earlier children of its parent had the same type and payload.
        ended_before: how many of those have ended and are to be matched after the equal one before it, and before it.
    """

    id: int
    node: Node | None
    type: str
    key: str | None
    payload: bytes
    occurrence: int = 0
    ended_before: int = 0


_DIGEST_BYTES: Final = 16

_ENDED: Final = RecordedChild(0, None, "", None, b"")
"""Stands for any child of which only a digest is kept."""

Announced = tuple[str, str | None, bytes]
"""What an announcement says of a child: the name of its class today, its key and its payload."""


class _Payloads:
    """A multiset of payloads of one type, as digests: 16 bytes each while they are taken out in the order they came in.

    That is what a parent does that runs again unchanged. Otherwise those that are left are put into a dict. Two payloads
    that differ are taken for equal with a probability of 2^-128 a pair, as two keys are.
    """

    __slots__ = ("_digests", "_left", "_next", "_totals")

    def __init__(self, taken: bytes | bytearray = b"", left: bytes | bytearray = b"") -> None:
        self._digests = bytearray(taken) + left
        self._next = len(taken)
        self._left: dict[bytes, int] | None = None
        self._totals: dict[bytes, int] | None = None

    def __len__(self) -> int:
        """Return how many different ones there are to take out, at least; 0 if there are none."""
        return len(self._digests) - self._next if self._left is None else len(self._left)

    def add(self, payload: bytes) -> None:
        """Put one in; only before one is taken out or `total` is called."""
        self._digests += blake2b(payload, digest_size=_DIGEST_BYTES).digest()

    def take(self, payload: bytes) -> bool:
        """Take one out; tell whether it was there."""
        digest = blake2b(payload, digest_size=_DIGEST_BYTES).digest()
        if self._left is None:
            after = self._next + _DIGEST_BYTES
            if self._digests[self._next : after] == digest:
                self._next = after
                return True
            self._left = self._count(self._next)
        count = self._left.pop(digest, 0)
        if count > 1:
            self._left[digest] = count - 1
        return count > 0

    def total(self, payload: bytes) -> int:
        """Return how many equal to `payload` were put in."""
        if self._totals is None:
            self._totals = self._count(0)
        return self._totals.get(blake2b(payload, digest_size=_DIGEST_BYTES).digest(), 0)

    def _count(self, start: int) -> dict[bytes, int]:
        counts: dict[bytes, int] = {}
        for at in range(start, len(self._digests), _DIGEST_BYTES):
            digest = bytes(self._digests[at : at + _DIGEST_BYTES])
            counts[digest] = counts.get(digest, 0) + 1
        return counts


class EndedChildren:
    """The children whose subtrees have ended well, without their payloads: there may be a million of them.

    Equal ones are not told apart: nothing is left to do for either.
    """

    def __init__(self, announced: Callable[[], Iterable[Announced]] = tuple) -> None:
        """Take the children that `announced` gives; it is called again if their payloads must be written anew."""
        self._announced = announced
        self.keys = KeySet()
        self.payloads: dict[str, _Payloads] = {}
        for type, key, payload in announced():
            if key is not None:
                self.keys.add(type, key)
                continue
            payloads = self.payloads.get(type)
            if payloads is None:
                payloads = self.payloads[type] = _Payloads()
            payloads.add(payload)

    def rewrite(self, type: str, canonical: Callable[[str, bytes], bytes]) -> None:
        """Know those left of `type` by what `canonical` makes of their payloads."""
        payloads = self.payloads.get(type)
        if not payloads:
            return
        taken, left = bytearray(), bytearray()
        for other, key, payload in self._announced():
            if other == type and key is None:
                is_left = payloads.take(payload)
                known_by = _rewritten(canonical, type, payload) if is_left else payload
                (left if is_left else taken).extend(blake2b(known_by, digest_size=_DIGEST_BYTES).digest())
        self.payloads[type] = _Payloads(taken, left)


class RecordedChildren:
    """The recorded children of a parent that runs again, less those that it has enqueued again.

    Attributes:
        holders: the nodes below the parent whose items hold the parent's item, and are to hold the object that takes its
            place, each with its recorded state; in the order of their numbers.
    """

    def __init__(
        self,
        children: Sequence[RecordedChild],
        canonical: Callable[[str, bytes], bytes],
        ended: EndedChildren | None = None,
    ) -> None:
        """Take `children`, in the order in which they were enqueued, and those that have `ended`, if not among them.

        `canonical` writes a payload as today's class of that name writes it; it is used only once a child of that class
        matches nothing.
        """
        self.holders: list[tuple[Node, bytes]] = []
        self._canonical = canonical
        self._rewritten: set[str] = set()
        self._by_key: dict[tuple[str, str], RecordedChild] = {}
        self._by_payload: dict[str, dict[bytes, list[RecordedChild]]] = {}  # of equal ones the first is the last
        self._totals: dict[tuple[str, int], int] = {}
        self._ended = ended or EndedChildren()
        for child in reversed(children):
            if child.key is not None:
                self._by_key[child.type, child.key] = child
            else:
                self._add(child)
        if self._ended.payloads:
            self._leave_room()

    def _leave_room(self) -> None:
        """Note for each child how many of its equals, which have ended, come before it."""
        for by_payload in self._by_payload.values():
            for equal in by_payload.values():
                before = -1
                for child in reversed(equal):
                    child.ended_before = child.occurrence - before - 1
                    before = child.occurrence

    def _add(self, child: RecordedChild) -> None:
        self._by_payload.setdefault(child.type, {}).setdefault(child.payload, []).append(child)

    def match(self, type: str, key: str | None, payload: bytes) -> RecordedChild | None:
        """Take out and return the recorded child that an item of this type, key and payload repeats, if any."""
        if key is not None:
            child = self._by_key.pop((type, key), None)
            return _ENDED if child is None and self._ended.keys.discard(type, key) else child
        child = self._take(type, payload)
        if child is None and type not in self._rewritten:
            self._rewrite(type)
            child = self._take(type, payload)
        return child

    def has_changed(self, child: RecordedChild, payload: bytes) -> bool:
        """Tell whether `payload`, of the item that repeats `child`, is another than recorded: not so without a key."""
        return payload != child.payload and payload != _rewritten(self._canonical, child.type, child.payload)

    def _take(self, type: str, payload: bytes) -> RecordedChild | None:
        ended = self._ended.payloads.get(type)
        by_payload = self._by_payload.get(type)
        equal = None if by_payload is None else by_payload.get(payload)
        if by_payload is None or equal is None:
            return _ENDED if ended is not None and ended.take(payload) else None
        first = equal[-1]
        if first.ended_before > 0 and ended is not None and ended.take(payload):
            first.ended_before -= 1
            return _ENDED
        equal.pop()
        if not equal:
            del by_payload[payload]
        which = type, hash(payload)
        self._totals[which] = self._totals.get(which, 0) + 1
        return first

    def total(self, type: str, payload: bytes) -> int:
        """Return how many recorded children this type and payload have matched, if none is left that it would match."""
        ended = self._ended.payloads.get(type)
        return self._totals.get((type, hash(payload)), 0) + (0 if ended is None else ended.total(payload))

    def _rewrite(self, type: str) -> None:
        """Write the payloads of one type as today's class does: a field may have been added since."""
        self._rewritten.add(type)
        self._ended.rewrite(type, self._canonical)
        children = [child for equal in self._by_payload.pop(type, {}).values() for child in equal]
        children.sort(key=lambda child: child.id, reverse=True)
        for child in children:
            child.payload = _rewritten(self._canonical, type, child.payload)
            self._add(child)

    def __iter__(self) -> Iterator[RecordedChild]:
        """Iterate over those not matched that have not ended."""
        yield from self._by_key.values()
        for by_payload in self._by_payload.values():
            for equal in by_payload.values():
                yield from reversed(equal)


def _rewritten(canonical: Callable[[str, bytes], bytes], type: str, payload: bytes) -> bytes:
    # A child that has ended may be of a class that is gone, or is no longer what it was.
    with suppress(UnknownItemType, PayloadMismatch, UnstorableItem):
        return canonical(type, payload)
    return payload
