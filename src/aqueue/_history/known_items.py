"""Keeps which items a run has announced, with their types and flags, in three bytes per item."""

from array import array
from bisect import bisect_right
from typing import Final

__all__ = ["UNKNOWN_TYPE", "KnownItems"]

UNKNOWN_TYPE: Final = "?"
"""The type of an item of which no event that is there tells it."""

_MAX_TYPES: Final = 0xFFFF
_NOTHING: Final = (array("H"), bytearray())


class KnownItems:
    """Which items were announced, each one's type and flags: three bytes an item where their numbers follow each other.

    Attributes:
        numbers: a number for each type.
    """

    def __init__(self) -> None:
        self._names = [UNKNOWN_TYPE]
        self.numbers = {UNKNOWN_TYPE: 0}
        self._starts: list[int] = []  # sorted, as the spans beside them
        self._spans: list[tuple[array[int], bytearray]] = []

    @property
    def last_span(self) -> "tuple[int, array[int], bytearray]":
        """The first item of the span with the greatest numbers, and the types' numbers and the flags of all in it."""
        return (self._starts[-1], *self._spans[-1]) if self._starts else (1, *_NOTHING)

    def _find(self, item: int) -> "tuple[array[int], bytearray, int] | None":
        at = bisect_right(self._starts, item) - 1
        if at < 0:
            return None
        types, flags = self._spans[at]
        offset = item - self._starts[at]
        return (types, flags, offset) if offset < len(types) else None

    def _get(self, item: int) -> "tuple[array[int], bytearray, int]":
        found = self._find(item)
        assert found is not None
        return found

    def __contains__(self, item: int) -> bool:
        return self._find(item) is not None

    def type_of(self, item: int) -> str:
        """Return the type of a known item."""
        types, _, offset = self._get(item)
        return self._names[types[offset]]

    def flags(self, item: int) -> int:
        """Return the flags of a known item."""
        _, flags, offset = self._get(item)
        return flags[offset]

    def flag(self, item: int, flag: int) -> None:
        """Set a flag of a known item."""
        _, flags, offset = self._get(item)
        flags[offset] |= flag

    def unflag(self, item: int, flag: int) -> None:
        """Take a flag off a known item."""
        _, flags, offset = self._get(item)
        flags[offset] &= ~flag

    def _number(self, type: str) -> int:
        """Return the number of a type; that of the unknown one for those beyond what 16 bits can tell apart."""
        number = self.numbers.get(type)
        if number is None:
            if len(self._names) > _MAX_TYPES:
                return 0
            number = self.numbers[type] = len(self._names)
            self._names.append(type)
        return number

    def add(self, item: int, type: str) -> None:
        """Note that `item`, which is not known yet, was announced."""
        number = self._number(type)
        at = bisect_right(self._starts, item) - 1
        if at >= 0 and item == self._starts[at] + len(self._spans[at][0]):
            types, flags = self._spans[at]
            types.append(number)
            flags.append(0)
        else:
            self._starts.insert(at + 1, item)
            self._spans.insert(at + 1, (array("H", (number,)), bytearray(1)))
