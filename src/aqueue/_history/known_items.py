"""Keeps which items a run has announced, with the type and the state of each, in two bytes per item."""

from array import array
from bisect import bisect_right
from typing import Final

__all__ = ["STATES", "UNKNOWN_TYPE", "KnownItems"]

UNKNOWN_TYPE: Final = "?"
"""The type of an item that no event in the file names."""

STATES: Final = 8
"""How many states an item may have: numbers from 0, the one that an item begins with, to 7."""

_MAX_TYPES: Final = 0xFFFF // STATES
"""So that a type and a state fit into two bytes: a page that is open for a week reads of tens of millions of items."""


class KnownItems:
    """The items that were announced. Each is one number: that of its type, plus its state.

    Items whose numbers follow each other share an array, a span, so a whole run needs one.

    Attributes:
        numbers: a number per type, a multiple of `STATES`.
    """

    def __init__(self) -> None:
        self._names = [UNKNOWN_TYPE]
        self.numbers = {UNKNOWN_TYPE: 0}
        self._starts: list[int] = []  # sorted: the first item of each span
        self._spans: list[array[int]] = []

    @property
    def last_span(self) -> "tuple[int, array[int]]":
        """The span with the highest numbers, and its first item."""
        return (self._starts[-1], self._spans[-1]) if self._starts else (1, array("H"))

    def _find(self, item: int) -> "tuple[array[int], int] | None":
        """Return the span of `item` and the index in it; None if the item is not known."""
        at = bisect_right(self._starts, item) - 1
        if at < 0 or item - self._starts[at] >= len(self._spans[at]):
            return None
        return self._spans[at], item - self._starts[at]

    def type_of(self, item: int) -> str:
        """Return the type of a known item."""
        found = self._find(item)
        assert found is not None
        return self._names[found[0][found[1]] // STATES]

    def state(self, item: int) -> int | None:
        """Return the state of an item; None if it is not known."""
        found = self._find(item)
        return None if found is None else found[0][found[1]] % STATES

    def set_state(self, item: int, state: int) -> None:
        """Change the state of a known item."""
        found = self._find(item)
        assert found is not None
        span, at = found
        span[at] += state - span[at] % STATES

    def add(self, item: int, type: str, state: int = 0) -> None:
        """Add `item`, which is not known yet. Types beyond 8,191 count as unknown: a hostile file may have any number."""
        if type not in self.numbers and len(self._names) <= _MAX_TYPES:
            self.numbers[type] = len(self._names) * STATES
            self._names.append(type)
        number = self.numbers.get(type, 0) + state
        at = bisect_right(self._starts, item) - 1
        if at >= 0 and item == self._starts[at] + len(self._spans[at]):
            self._spans[at].append(number)
        else:
            self._starts.insert(at + 1, item)
            self._spans.insert(at + 1, array("H", (number,)))
