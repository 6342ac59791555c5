"""Recorded children of which nothing is left to do, in 24 bytes per child: a parent may have a million of them."""

from array import array
from collections.abc import Callable, Iterable
from typing import Final

from aqueue._codec.digests import DIGEST_BYTES, digest_of, encoded

__all__ = ["TAKEN", "Announced", "EndedChildren", "EndedDigests"]

TAKEN: Final = -1
"""What `EndedDigests.take` returns for one that was taken out as alike."""

Announced = tuple[int, str, str | None, bytes]
"""What an announcement says of a child: its number, the name of its class today, its key and its payload."""


class EndedDigests:
    """The numbers of ended children of one class, each found by the digest of what identifies it: its payload or its key.

    A digest takes 16 bytes per child while they are taken out in the order they came in, as a parent does that runs again
    unchanged. Otherwise those that are left are put into a dict. Two payloads that differ are taken for equal with a
    probability of 2^-128 per pair, as two keys are.

    Attributes:
        left: how many have not been taken out.
        alike: the places of those that were taken out though the digest was another.
    """

    __slots__ = ("_digests", "_equals", "_next", "_numbers", "_places", "_taken", "_totals", "alike", "left")

    def __init__(self) -> None:
        self.left = 0
        self.alike: set[int] = set()
        self._digests = bytearray()
        self._numbers = array("q")
        self._next = 0  # all before this place have been taken out
        self._taken = bytearray()  # and those whose place has a 1, if any
        self._places: dict[bytes, int] | None = None  # the first place of each digest that may be left
        self._equals: dict[int, int] = {}  # and of equal ones, which place comes after which
        self._totals: dict[bytes, int] | None = None

    def __len__(self) -> int:
        """Return how many were put in."""
        return len(self._numbers)

    def add(self, number: int, digest: bytes) -> None:
        """Put one in; only before one is taken out or `total` is called."""
        self._digests += digest
        self._numbers.append(number)
        self.left += 1

    def take(self, digest: bytes) -> int:
        """Take out the first that has this digest, and return its number.

        Returns 0 if there is none, and `TAKEN` if the only one was taken out as alike.
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
        """Take out the one that was put in as the `place`-th, from 0, and return its number; 0 if it was taken before."""
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
        """Tell whether the one that was put in as the `place`-th, from 0, has not been taken out."""
        return place >= self._next and not (self._taken and self._taken[place])

    def change(self, place: int, digest: bytes) -> None:
        """Have the one that was put in as the `place`-th, from 0, found by another digest."""
        self._digests[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES] = digest
        self._places = self._totals = None
        self._equals.clear()

    def total(self, digest: bytes) -> int:
        """Return how many with this digest were put in."""
        if self._totals is None:
            self._totals = {}
            for place in range(len(self._numbers)):
                other = self.digest(place)
                self._totals[other] = self._totals.get(other, 0) + 1
        return self._totals.get(digest, 0)

    def digest(self, place: int) -> bytes:
        """Return by what the one that was put in as the `place`-th, from 0, is found."""
        return bytes(self._digests[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES])


class EndedChildren:
    """The children whose subtrees have ended well, without their payloads: there may be a million of them.

    Attributes:
        by_key, by_payload: those with and without a key, by the name of their class today.
        announced: reads their announcements, once more each time.
    """

    def __init__(self, announced: Callable[[], Iterable[Announced]] = tuple) -> None:
        """Take the children that `announced` gives."""
        self.announced = announced
        self.by_key: dict[str, EndedDigests] = {}
        self.by_payload: dict[str, EndedDigests] = {}
        for number, type, key, payload in announced():
            children = self.by_payload if key is None else self.by_key
            ended = children.get(type)
            if ended is None:
                ended = children[type] = EndedDigests()
            ended.add(number, digest_of(payload if key is None else encoded(key)))
