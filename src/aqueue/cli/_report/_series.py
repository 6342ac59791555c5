"""Counts events over the time of a run, in a bounded number of bins."""

from array import array
from itertools import accumulate
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
        start: when it begins, seconds since the run's start.
        end: when it ends, the same.
        enqueued: how many items had been announced by its end.
        done: how many had completed by then, and not failed since.
        failed: how many had failed by then, and not been reopened since.
        completed: how many attempts at `process` completed within it.
        busy: how many workers were busy in it, on average.
    """

    start: float
    end: float
    enqueued: int
    done: int
    failed: int
    completed: int
    busy: float

    @property
    def rate(self) -> float:
        """How many items completed a second."""
        return self.completed / (self.end - self.start) if self.end > self.start else 0.0


class Series:
    """Counters in at most 600 bins. When a run outgrows them, each two become one, and the bins twice as wide.

    Who counts adds to the arrays at the index of the bin that `advance` gave. All that is kept of two bins is what adds
    up: so nothing is lost by putting them together but the resolution.

    Attributes:
        width_s: how wide a bin is, seconds.
        enqueued, completed: how many events of that kind there were in each bin.
        done, failed: by how much the number of such items changed in each bin.
        starts: by how much the number of busy workers changed in each bin.
        moments: the same, each change times the moment at which it happened. From these two follows the exact average.
    """

    def __init__(self) -> None:
        self.width_s = _FIRST_WIDTH_S
        self.enqueued, self.completed, self.done, self.failed, self.starts = (
            array("q", bytes(8 * MAX_BINS)) for _ in range(5)
        )
        self.moments = array("d", bytes(8 * MAX_BINS))

    def advance(self, at: float) -> tuple[int, float]:
        """Return the index of the bin of the moment `at`, seconds since the run's start, and when that bin ends.

        All bins before it may have got another index.
        """
        while (index := int(at / self.width_s)) >= MAX_BINS:
            self.width_s *= 2
            for column in (self.enqueued, self.completed, self.done, self.failed, self.starts):
                column[: MAX_BINS // 2] = array("q", map(sum, zip(column[::2], column[1::2], strict=True)))
                column[MAX_BINS // 2 :] = array("q", bytes(4 * MAX_BINS))
            moments = self.moments
            moments[: MAX_BINS // 2] = array("d", map(sum, zip(moments[::2], moments[1::2], strict=True)))
            moments[MAX_BINS // 2 :] = array("d", bytes(4 * MAX_BINS))
        return index, (index + 1) * self.width_s

    def bins(self, until: float, at_most: int = MAX_BINS // 2) -> list[Period]:
        """Return what happened up to `until`, when nothing more happens, in at most `at_most` bins of one width.

        In fewer where little happened. The last one ends at `until`, and so may be narrower or up to half as wide again.
        """
        used = min(int(until / self.width_s), MAX_BINS - 1) + 1
        total = sum(self.completed)
        step = 1
        while used / step > at_most or (used / step > _FEW_BINS and total * step / used < _ITEMS_PER_BIN):
            step += 1
        edges = list(range(0, used, step))
        # A sliver of a bin at the end would show a rate that nobody saw.
        if len(edges) > 1 and until - edges[-1] * self.width_s < step * self.width_s / 2:
            edges.pop()
        enqueued, done, failed, busy = (
            list(accumulate(c)) for c in (self.enqueued, self.done, self.failed, self.starts)
        )
        bins = []
        for first, next_first in zip(edges, [*edges[1:], used], strict=True):
            last = next_first - 1
            start = first * self.width_s
            end = until if next_first == used else next_first * self.width_s
            changed = sum(self.starts[first:next_first])
            busy_s = busy[last] * end - (busy[last] - changed) * start - sum(self.moments[first:next_first])
            bins.append(
                Period(
                    start,
                    end,
                    enqueued[last],
                    done[last],
                    failed[last],
                    sum(self.completed[first:next_first]),
                    max(busy_s / (end - start), 0.0) if end > start else float(busy[last]),
                )
            )
        return bins
