"""Counts how long attempts took, by item type in bins of a logarithmic scale, and keeps the slowest items."""

from array import array
from heapq import heappop, heappush, heapreplace
from math import floor, log10
from typing import Final

import msgspec

from aqueue.cli._report._timeline import Outcome

__all__ = ["BINS_PER_DECADE", "Durations", "SlowItem", "Slowest", "TypeDurations", "bin_edge"]

BINS_PER_DECADE: Final = 10
_LOWEST_DECADE: Final = -5  # 10 µs
_BINS: Final = 11 * BINS_PER_DECADE  # up to 1,000,000 s; the first and the last bin take what lies beyond
_SLOWEST: Final = 25


def bin_edge(index: int) -> float:
    """Return where the bin of that index begins, seconds."""
    return float(10.0 ** (_LOWEST_DECADE + index / BINS_PER_DECADE))


class TypeDurations(msgspec.Struct):
    """How long the attempts at the items of one type took, hooks included.

    Attributes:
        bins: how many took as long as the bin of that index says (`bin_edge`).
        count: how many there were.
        total_s: how long all took, seconds.
        longest_s: how long the longest took.
    """

    bins: "array[int]"
    count: int = 0
    total_s: float = 0.0
    longest_s: float = 0.0

    def quantile(self, share: float) -> float:
        """Return how long that share of the attempts took at most, seconds; between a bin's edges it is interpolated."""
        left = share * self.count
        for index, count in enumerate(self.bins):
            if count and left <= count:
                inside = bin_edge(0) * 10 ** ((index + left / count) / BINS_PER_DECADE)
                return min(float(inside), self.longest_s)
            left -= count
        return self.longest_s


class Durations:
    """How long attempts took, by the number of the item's type."""

    def __init__(self) -> None:
        self.types: dict[int, TypeDurations] = {}

    def add(self, type: int, took_s: float) -> None:
        """Count one attempt."""
        durations = self.types.get(type)
        if durations is None:
            durations = self.types[type] = TypeDurations(array("q", bytes(8 * _BINS)))
        durations.count += 1
        durations.total_s += took_s
        if took_s > durations.longest_s:
            durations.longest_s = took_s
        index = floor((log10(took_s) - _LOWEST_DECADE) * BINS_PER_DECADE) if took_s > 0 else 0
        durations.bins[0 if index < 0 else index if index < _BINS else _BINS - 1] += 1


class SlowItem(msgspec.Struct, frozen=True, gc=False):
    """The longest attempt at an item: its number and type, which try of which method, how it ended, how long it took."""

    item: int
    type: int
    is_hook: bool
    attempt: int
    outcome: Outcome
    took_s: float
    text: str


class Slowest:
    """The 25 items with the longest attempts."""

    def __init__(self) -> None:
        self.threshold_s = -1.0
        """What is not longer than this is not among them."""
        self._longest: dict[int, SlowItem] = {}
        self._heap: list[tuple[float, int]] = []

    def add(self, slow: SlowItem) -> None:
        """Take an attempt into account."""
        known = self._longest.get(slow.item)
        if known is not None:
            if slow.took_s > known.took_s:
                self._longest[slow.item] = slow
                self._heap.remove((known.took_s, -slow.item))
                self._heap.sort()  # a sorted list is a heap
                heappush(self._heap, (slow.took_s, -slow.item))
        elif len(self._heap) < _SLOWEST:
            self._longest[slow.item] = slow
            heappush(self._heap, (slow.took_s, -slow.item))
        elif slow.took_s > self._heap[0][0]:
            self._longest[slow.item] = slow
            _, dropped = heapreplace(self._heap, (slow.took_s, -slow.item))
            del self._longest[-dropped]
        if len(self._heap) == _SLOWEST:
            self.threshold_s = self._heap[0][0]

    def ranked(self) -> list[SlowItem]:
        """Return them, the slowest first; of equally slow ones the one that was enqueued first."""
        heap = self._heap.copy()
        return [self._longest[-heappop(heap)[1]] for _ in range(len(heap))][::-1]
