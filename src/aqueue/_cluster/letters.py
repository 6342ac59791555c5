"""Letters: numbered messages that arrive once and in order over a connection that may lose, repeat and reorder them.

Each side keeps what it has written until the other acknowledges it, and takes each letter once, in the order of their
numbers. The numbers are 1, 2, 3, … in each direction.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

__all__ = ["Inbox", "Letter", "Outbox", "split_into_letters"]

T = TypeVar("T")

Letter = tuple[int, bytes]
"""A letter's number and what is in it."""

MAX_BYTES_AT_ONCE: Final = 4_000_000
"""How much is sent in one go, at most, unless a single letter is longer."""

MAX_BYTES: Final = 1_000_000
"""How much is in one letter, at most, unless a single message is longer."""

_MAX_EARLY: Final = 1_000


def split_into_letters(messages: list[T], size_of: Callable[[T], int], count: int) -> Iterator[tuple[list[T], int]]:
    """Yield the messages for one letter after the other, `count` at most for each, with how many bytes they have."""
    some: list[T] = []
    size = 0
    for message in messages:
        length = size_of(message)
        if some and (len(some) >= count or size + length > MAX_BYTES):
            yield some, size
            some, size = [], 0
        some.append(message)
        size += length
    if some:
        yield some, size


class Outbox:
    """The letters that were written and not acknowledged yet."""

    def __init__(self) -> None:
        self._letters: deque[Letter] = deque()
        self._last = 0

    def write(self, content: bytes) -> None:
        """Add a letter."""
        self._last += 1
        self._letters.append((self._last, content))

    def acknowledge(self, number: int) -> None:
        """Forget the letters up to `number`, which the other side has."""
        letters = self._letters
        while letters and letters[0][0] <= number:
            letters.popleft()

    def to_send(self) -> list[Letter]:
        """Return the first letters that were not acknowledged, as many as are to be sent in one go."""
        sent: list[Letter] = []
        left = MAX_BYTES_AT_ONCE
        for letter in self._letters:
            left -= len(letter[1])
            if left < 0 and sent:
                break
            sent.append(letter)
        return sent

    def all(self) -> list[Letter]:
        """Return all letters that were not acknowledged."""
        return list(self._letters)

    def __len__(self) -> int:
        return len(self._letters)


class Inbox:
    """Takes letters as they come, and gives each out once, in the order of their numbers.

    Attributes:
        acknowledged: the number of the last letter that was given out.
        repeated: how many letters came that had come before.
    """

    def __init__(self) -> None:
        self.acknowledged = 0
        self.repeated = 0
        self._early: dict[int, bytes] = {}

    def take(self, letters: Iterable[Letter]) -> list[bytes]:
        """Take `letters`, and return what is in those whose turn has come."""
        early = self._early
        for number, content in letters:
            if number <= self.acknowledged or number in early:
                self.repeated += 1
            elif number <= self.acknowledged + _MAX_EARLY:  # any later one comes again
                early[number] = content
        given: list[bytes] = []
        while self.acknowledged + 1 in early:
            self.acknowledged += 1
            given.append(early.pop(self.acknowledged))
        return given
