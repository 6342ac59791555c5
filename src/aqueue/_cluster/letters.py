"""Letters: messages that arrive once and in order over a connection that may lose, repeat and reorder what it carries.

Each side keeps what it has written until the other acknowledges it, and takes each letter once, in the order of their
numbers. The numbers are 1, 2, 3, … in each direction.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec

__all__ = ["Inbox", "Letter", "Outbox"]

Letter = tuple[int, bytes]
"""A letter's number, and its messages, as a list in MessagePack."""

MAX_BYTES_AT_ONCE: Final = 4_000_000
"""The most bytes to send at once, unless a single letter is longer."""

MAX_BYTES: Final = 1_000_000
"""The most bytes of messages in a letter, unless a single message is longer."""


_encode: Final = msgspec.msgpack.Encoder().encode


class Outbox:
    """The messages that were written and not acknowledged yet."""

    def __init__(self) -> None:
        self._letters: deque[Letter] = deque()
        self._last = 0
        self._open: list[msgspec.Raw] = []  # the next letter
        self._num_open_bytes = 0
        self._num_letter_bytes = 0

    @property
    def num_bytes(self) -> int:
        """How many bytes all the messages have."""
        return self._num_open_bytes + self._num_letter_bytes

    def write(self, message: bytes) -> None:
        """Add a message, in MessagePack."""
        if self._open and self._num_open_bytes + len(message) > MAX_BYTES:
            self._close_letter()
        self._open.append(msgspec.Raw(message))
        self._num_open_bytes += len(message)

    def acknowledge(self, number: int) -> None:
        """Forget the letters up to `number`, which the other side has."""
        letters = self._letters
        while letters and letters[0][0] <= number:
            self._num_letter_bytes -= len(letters.popleft()[1])

    def to_send(self, max_bytes: float | None = None) -> list[Letter]:
        """Return the first unacknowledged letters, as many as may be sent at once."""
        if self._open:
            self._close_letter()
        sent: list[Letter] = []
        left = MAX_BYTES_AT_ONCE if max_bytes is None else max_bytes
        for letter in self._letters:
            left -= len(letter[1])
            if left < 0 and sent:
                break
            sent.append(letter)
        return sent

    def _close_letter(self) -> None:
        self._last += 1
        content = _encode(self._open)
        self._letters.append((self._last, content))
        self._num_letter_bytes += len(content)
        self._open = []
        self._num_open_bytes = 0

    def __len__(self) -> int:
        return len(self._letters) + len(self._open)


class Inbox:
    """Takes letters as they come, and gives each out once, in the order of their numbers.

    A letter that comes too early is dropped: the other side resends all letters that are not acknowledged.

    Attributes:
        acknowledged: the number of the last letter that was given out.
        repeated: how many letters came that had come before.
    """

    def __init__(self) -> None:
        self.acknowledged = 0
        self.repeated = 0

    def take(self, letters: Iterable[Letter]) -> list[bytes]:
        """Take `letters`, and return what is in those whose turn has come."""
        given: list[bytes] = []
        for number, content in letters:
            if number == self.acknowledged + 1:
                self.acknowledged = number
                given.append(content)
            elif number <= self.acknowledged:
                self.repeated += 1
        return given
