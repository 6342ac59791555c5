"""The processes of a run, and the time between them."""

from bisect import bisect_left, bisect_right
from heapq import heappush, heappushpop
from itertools import accumulate
from typing import Final, Literal

import msgspec

from aqueue.events import RunResumed, RunStarted, RunStatus

__all__ = ["MAX_PROCESSES", "Clock", "End", "Gap", "Process", "Processes"]

MAX_PROCESSES: Final = 100
_MAX_GAPS: Final = 50

End = RunStatus | Literal["running", "crashed", "unknown"]


class Process(msgspec.Struct, gc=False):
    """One process of a run.

    Attributes:
        pid: its number on its machine.
        host: the machine's name.
        aqueue_version: which aqueue it ran.
        num_workers: how many workers it had.
        started_at: Unix time in seconds.
        ended_at: when its last event happened, Unix time in seconds.
        end: how it ended.
    """

    pid: int
    host: str
    aqueue_version: str
    num_workers: int
    started_at: float
    ended_at: float
    end: End = "unknown"


class Gap(msgspec.Struct, frozen=True, gc=False, order=True):
    """The time between two processes.

    Attributes:
        length_s: how long it was, seconds.
        at: how long the run had taken before it, seconds.
        crashed: whether the process before it ended without a last event.
    """

    length_s: float
    at: float
    crashed: bool


class Clock:
    """Tells the time that a run had taken as the time that had passed, in which gaps count.

    Attributes:
        gaps: those that count, in their order; those between which the run took no time are one.
    """

    def __init__(self, gaps: list[Gap]) -> None:
        self.gaps: list[Gap] = []
        for gap in sorted(gaps, key=lambda gap: gap.at):
            if self.gaps and self.gaps[-1].at == gap.at:  # a process of which there is nothing to show lay between
                before = self.gaps.pop()
                gap = Gap(before.length_s + gap.length_s, gap.at, before.crashed or gap.crashed)
            self.gaps.append(gap)
        self._ats = [gap.at for gap in self.gaps]
        self._passed = [0.0, *accumulate(gap.length_s for gap in self.gaps)]

    def before(self, at: float) -> float:
        """Return the time that had passed; where a gap begins at that very moment, before it."""
        return at + self._passed[bisect_left(self._ats, at)]

    def after(self, at: float) -> float:
        """Return the same, where a gap begins at that moment after it."""
        return at + self._passed[bisect_right(self._ats, at)]


class Processes:
    """What is known of a run's processes; of many, of the first 100, and of the 50 longest gaps.

    Attributes:
        first: the first 100.
        last: the one that came last.
        count: how many there were.
        crashed: how many of them ended without `run.finished`.
        most_workers: the most workers that any of them had.
        workers: how many workers there were from when on, seconds since the run's start; of the first 100 changes.
        dropped_gaps: how many gaps were longer than none of the 50 longest, and are left out of `clock`.
        dropped_s: how long those were together, seconds.
    """

    def __init__(self) -> None:
        self.first: list[Process] = []
        self.last: Process | None = None
        self.count = 0
        self.crashed = 0
        self.most_workers = 0
        self.workers: list[tuple[float, int]] = []
        self.dropped_gaps = 0
        self.dropped_s = 0.0
        self._gaps: list[Gap] = []

    def begin(self, event: RunStarted, elapsed_s: float) -> None:
        """Note the start of a process, before which the run had taken `elapsed_s` seconds."""
        before = self.last
        if before is not None and isinstance(event, RunResumed):
            gap = Gap(event.at - before.ended_at, elapsed_s, before.end == "crashed")
            if len(self._gaps) < _MAX_GAPS:
                heappush(self._gaps, gap)
            else:
                self.dropped_gaps += 1
                self.dropped_s += heappushpop(self._gaps, gap).length_s
        self.last = Process(event.pid, event.host, event.aqueue_version, event.num_workers, event.at, event.at)
        self.count += 1
        self.most_workers = max(self.most_workers, event.num_workers)
        if len(self.first) < MAX_PROCESSES:
            self.first.append(self.last)
        workers = self.workers
        if (not workers or workers[-1][1] != event.num_workers) and len(workers) < MAX_PROCESSES:
            workers.append((elapsed_s, event.num_workers))

    def end(self, at: float, how: End) -> None:
        """Note the end of the process that began last, if that is not known yet."""
        if self.last is not None and self.last.end == "unknown":
            self.last.ended_at = at
            self.last.end = how
            self.crashed += how == "crashed"

    def clock(self) -> Clock:
        """Return the clock of the run with its longest gaps."""
        return Clock(self._gaps)
