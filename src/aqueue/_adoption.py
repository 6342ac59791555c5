"""Adoption: a parent that runs again enqueues its children again, and each is matched with the recorded one.

A child with a key matches the recorded one with the same type and key. Another matches by type and payload, the first
such child with the first recorded, the second with the second, and so on.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Final

import msgspec

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

Announced = tuple[int, str, str | None, bytes]
"""What an announcement says of a child: its number, the name of its class today, its key and its payload."""


class _Ended:
    """The numbers of ended children of one type, each found by what identifies it: its payload or its key.

    That is kept as a digest: 16 bytes each while they are taken out in the order they came in, as a parent does that runs
    again unchanged. Otherwise those that are left are put into a dict. Two payloads that differ are taken for equal with
    a probability of 2^-128 a pair, as two keys are.
    """

    __slots__ = ("_digests", "_equals", "_left", "_next", "_numbers", "_totals")

    def __init__(
        self, taken: bytes | bytearray = b"", left: bytes | bytearray = b"", numbers: Iterable[int] = ()
    ) -> None:
        """Begin with the digests of those `taken` out before, which count in `total`, and those `left`, with their numbers."""
        self._next = len(taken) // _DIGEST_BYTES
        self._digests = bytearray(taken) + left
        self._numbers = array("q", bytes(8 * self._next))
        self._numbers.extend(numbers)
        self._left: dict[bytes, int] | None = None
        self._equals: dict[int, int] = {}  # of equal ones that are left, which comes after which
        self._totals: dict[bytes, int] | None = None

    def __len__(self) -> int:
        """Return how many different ones there are to take out, at least; 0 if there are none."""
        return len(self._numbers) - self._next if self._left is None else len(self._left)

    def add(self, number: int, known_by: bytes) -> None:
        """Put one in; only before one is taken out or `total` is called."""
        self._digests += _digest_of(known_by)
        self._numbers.append(number)

    def take(self, known_by: bytes) -> int:
        """Take out the first that is known by this, and return its number; 0 if there is none."""
        digest = _digest_of(known_by)
        if self._left is None:
            at = self._next
            if self._digest(at) == digest:
                self._next = at + 1
                return self._numbers[at]
            left = self._left = {}
            for place in reversed(range(at, len(self._numbers))):
                number, other = self._numbers[place], self._digest(place)
                if other in left:
                    self._equals[number] = left[other]
                left[other] = number
        number = self._left.pop(digest, 0)
        if number in self._equals:
            self._left[digest] = self._equals.pop(number)
        return number

    def total(self, known_by: bytes) -> int:
        """Return how many that are known by this were put in."""
        if self._totals is None:
            self._totals = {}
            for place in range(len(self._numbers)):
                digest = self._digest(place)
                self._totals[digest] = self._totals.get(digest, 0) + 1
        return self._totals.get(_digest_of(known_by), 0)

    def _digest(self, place: int) -> bytes:
        return bytes(self._digests[place * _DIGEST_BYTES : (place + 1) * _DIGEST_BYTES])


class EndedChildren:
    """The children whose subtrees have ended well, without their payloads: there may be a million of them."""

    def __init__(self, announced: Callable[[], Iterable[Announced]] = tuple) -> None:
        """Take the children that `announced` gives; it is called again if their payloads must be written anew."""
        self._announced = announced
        self.keys: dict[str, _Ended] = {}
        self.payloads: dict[str, _Ended] = {}
        for number, type, key, payload in announced():
            children = self.payloads if key is None else self.keys
            ended = children.get(type)
            if ended is None:
                ended = children[type] = _Ended()
            ended.add(number, payload if key is None else _of_key(key))

    def rewrite(self, type: str, canonical: Callable[[str, bytes], bytes]) -> None:
        """Know those left of `type` by what `canonical` makes of their payloads."""
        ended = self.payloads.get(type)
        if not ended:
            return
        taken, left, numbers = bytearray(), bytearray(), array("q")
        for _, other, key, payload in self._announced():
            if other == type and key is None:
                number = ended.take(payload)
                if number:
                    numbers.append(number)
                    left += _digest_of(_rewritten(canonical, type, payload))
                else:
                    taken += _digest_of(payload)
        self.payloads[type] = _Ended(taken, left, numbers)


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
            return child or _take_ended(self._ended.keys.get(type), _of_key(key))
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
            return _take_ended(ended, payload)
        first = equal[-1]
        if first.ended_before > 0:
            child = _take_ended(ended, payload)
            if child is not None:
                first.ended_before -= 1
                return child
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


def _digest_of(known_by: bytes) -> bytes:
    return blake2b(known_by, digest_size=_DIGEST_BYTES).digest()


def _take_ended(ended: _Ended | None, known_by: bytes) -> RecordedChild | None:
    number = 0 if ended is None else ended.take(known_by)
    return RecordedChild(number, None, "", None, b"") if number else None


def _of_key(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _rewritten(canonical: Callable[[str, bytes], bytes], type: str, payload: bytes) -> bytes:
    # A child that has ended may be of a class that is gone, or is no longer what it was.
    with suppress(UnknownItemType, PayloadMismatch, UnstorableItem):
        return canonical(type, payload)
    return payload
