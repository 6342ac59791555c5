"""Recorded children that are done, in 24 bytes per child: a parent may have a million of them."""

from array import array
from collections.abc import Callable, Iterable
from typing import Final

from aqueue._codec.digests import DIGEST_BYTES, digest_of, encoded

__all__ = ["TAKEN", "Announced", "EndedChildren", "EndedDigests", "Recognized"]

TAKEN: Final = -1
"""What `EndedDigests.take` returns for one that was taken out as alike."""

Announced = tuple[int, str, str | None, bytes]
"""What an announcement says of a child: its number, the name of its class today, its key and its payload."""


Recognized = tuple[int, str, bool, bytes]
"""The same, but whether it has a key, and the digest of that or else of its payload."""


class EndedDigests:
    """The numbers of the done children of one class, each found by a digest of its key or payload.

    This takes 16 bytes per child as long as children are taken in the order in which they were added, which a parent that is
    unchanged does. Otherwise the rest goes into a dict. Two different payloads or keys have the same digest with a
    probability of 2^-128 per pair.

    Attributes:
        left: how many have not been taken.
        alike: the places of the children that were taken for a child with another digest.
    """

    __slots__ = ("_digests", "_equals", "_next", "_numbers", "_places", "_taken", "_totals", "alike", "left")

    def __init__(self) -> None:
        self.left = 0
        self.alike: set[int] = set()
        self._digests = bytearray()
        self._numbers = array("q")
        self._next = 0  # every place before this one has been taken
        self._taken = bytearray()  # and every place with a 1 here
        self._places: dict[bytes, int] | None = None  # the first place of each digest that is not taken
        self._equals: dict[int, int] = {}  # the next place with the same digest
        self._totals: dict[bytes, int] | None = None

    def __len__(self) -> int:
        """Return how many were added."""
        return len(self._numbers)

    def add(self, number: int, digest: bytes) -> None:
        """Add a child; only before the first `take` and `total`."""
        self._digests += digest
        self._numbers.append(number)
        self.left += 1

    def take(self, digest: bytes) -> int:
        """Take the first child that has this digest, and return its number.

        Returns 0 if there is none, and `TAKEN` if the only one was taken for a child with another digest.
        """
        if self._places is None:
            if self.digest(self._next) == digest:
                number = self.take_at(self._next)
                if number:
                    return number
            places = self._places = {}
            for place in reversed(range(0 if self.alike else self._next, len(self._numbers))):
                if place < self._next and place not in self.alike:
                    continue
                other = self.digest(place)
                if other in places:
                    self._equals[place] = places[other]
                places[other] = place
        place = self._places.pop(digest, -1)
        if place in self._equals:
            self._places[digest] = self._equals.pop(place)
        if place < 0:
            return 0
        number = self.take_at(place) or self.take(digest)
        if place not in self.alike:
            return number
        if digest in self._places:
            self._equals[place] = self._places[digest]
        self._places[digest] = place
        return number or TAKEN

    def take_at(self, place: int) -> int:
        """Take the child at `place`, counted from 0 in the order of `add`; return its number, or 0 if it was taken before."""
        if not self.has(place):
            return 0
        self.left -= 1
        if place == self._next:
            self._next += 1
        else:
            self._taken = self._taken or bytearray(len(self._numbers))
            self._taken[place] = 1
        return self._numbers[place]

    def has(self, place: int) -> bool:
        """Return whether the child at `place` has not been taken."""
        return place >= self._next and not (self._taken and self._taken[place])

    def change(self, place: int, digest: bytes) -> None:
        """Change the digest of the child at `place`."""
        self._digests[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES] = digest
        self._places = self._totals = None
        self._equals.clear()

    def total(self, digest: bytes) -> int:
        """Return how many children with this digest were added."""
        if self._totals is None:
            self._totals = {}
            for place in range(len(self._numbers)):
                other = self.digest(place)
                self._totals[other] = self._totals.get(other, 0) + 1
        return self._totals.get(digest, 0)

    def digest(self, place: int) -> bytes:
        """Return the digest of the child at `place`."""
        return bytes(self._digests[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES])


class EndedChildren:
    """The children of one parent that are done, without their payloads.

    Attributes:
        by_key, by_payload: the children with and without a key, by the name of their class today.
        announced: reads the events that announced them, again at each call.
    """

    def __init__(
        self, announced: Callable[[], Iterable[Announced]] = tuple, recognized: Iterable[Recognized] | None = None
    ) -> None:
        """Take the children from `recognized`, or read them from `announced`, in the same order."""
        self.announced = announced
        self.by_key: dict[str, EndedDigests] = {}
        self.by_payload: dict[str, EndedDigests] = {}
        for number, type, is_keyed, digest in map(_recognize, announced()) if recognized is None else recognized:
            children = self.by_key if is_keyed else self.by_payload
            ended = children.get(type)
            if ended is None:
                ended = children[type] = EndedDigests()
            ended.add(number, digest)


def _recognize(announced: Announced) -> Recognized:
    number, type, key, payload = announced
    return number, type, key is not None, digest_of(payload if key is None else encoded(key))
