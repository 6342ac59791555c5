"""Counts events over the time of a run, in a bounded number of bins."""

from array import array
from itertools import accumulate
from math import ceil
from operator import add
from typing import Final, NamedTuple

__all__ = ["MAX_BINS", "Period", "Series"]

MAX_BINS: Final = 600
_FIRST_WIDTH_S: Final = 0.001
_FEW_BINS: Final = 40
_ITEMS_PER_BIN: Final = 4
"""With fewer completions in a bin than this, a rate is more noise than figure; but some bins there must be."""


class Period(NamedTuple):
    """What happened in one part of a run.

    Attributes:
        start, end: from when to when, seconds since the run's start.
        enqueued: how many items had been announced by its end.
        done: how many had completed by then, and not failed since.
        failed: how many had failed by then, and not been reopened or skipped since.
        skipped: how many a person had skipped by then, and not let run again since.
        workers: how many workers there were at its end.
        completed: how many attempts at `process` completed within it.
        busy: how many workers were busy in it, on average.
    """

    start: float
    end: float
    enqueued: int
    done: int
    failed: int
    skipped: int
    workers: int
    completed: int
    busy: float

    @property
    def rate(self) -> float:
        """How many items completed a second."""
        return self.completed / (self.end - self.start) if self.end > self.start else 0.0


class Series:
    """Counters in at most 600 bins. When a run outgrows them, each two become one, and the bins twice as wide.

    The caller adds to the arrays at the index that `advance` returns. All values add up, so joining two bins loses nothing
    but resolution.

    Attributes:
        width_s: how wide a bin is, seconds.
        enqueued, completed: how many events of that kind there were in each bin.
        done, failed, skipped, workers, starts: by how much the number of such items, of workers and of busy workers changed.
        moments: each change of busy workers times the moment at which it happened, which gives their exact average.
    """

    def __init__(self) -> None:
        self.width_s = _FIRST_WIDTH_S
        self._columns = [array("d", bytes(8 * MAX_BINS)) for _ in range(8)]
        self.enqueued, self.completed, self.done, self.failed, self.skipped, *others = self._columns
        self.workers, self.starts, self.moments = others

    def advance(self, at: float) -> tuple[int, float]:
        """Return the index of the bin of the moment `at`, seconds since the run's start, and when that bin ends.

        The indexes of all bins may have changed.
        """
        while (index := int(at / self.width_s)) >= MAX_BINS:
            self.width_s *= 2
            for column in self._columns:
                column[: MAX_BINS // 2] = array("d", map(add, column[::2], column[1::2]))
                column[MAX_BINS // 2 :] = array("d", bytes(4 * MAX_BINS))
        return index, (index + 1) * self.width_s

    def bins(self, until: float, at_most: int = MAX_BINS // 2) -> list[Period]:
        """Return what happened up to `until`, when nothing more happens, in at most `at_most` bins of one width.

        There are fewer where little happened. The last one ends at `until`: it may be narrower, or up to half as wide again.
        """
        used = min(int(until / self.width_s), MAX_BINS - 1) + 1
        wanted = min(at_most, max(_FEW_BINS, int(sum(self.completed) / _ITEMS_PER_BIN)))
        step = ceil(used / wanted)
        edges = [*range(0, used, step)]
        # The rate of a much narrower last bin would mean nothing.
        if len(edges) > 1 and until - edges[-1] * self.width_s < step * self.width_s / 2:
            edges.pop()
        totals = [
            list(accumulate(column)) for column in (self.enqueued, self.done, self.failed, self.skipped, self.workers)
        ]
        busy = list(accumulate(self.starts))
        bins = []
        for first, end in zip(edges, [*edges[1:], used], strict=True):
            start_s, end_s = first * self.width_s, until if end == used else end * self.width_s
            changed = sum(self.starts[first:end])
            busy_s = busy[end - 1] * end_s - (busy[end - 1] - changed) * start_s - sum(self.moments[first:end])
            average = max(busy_s / (end_s - start_s), 0.0) if end_s > start_s else busy[end - 1]
            enqueued, done, failed, skipped, workers = (int(total[end - 1]) for total in totals)
            completed = int(sum(self.completed[first:end]))
            bins.append(Period(start_s, end_s, enqueued, done, failed, skipped, workers, completed, average))
        return bins
