"""Keeps the processes of a run, and the gaps between them."""

from bisect import bisect_left, bisect_right
from heapq import heappush, heappushpop
from itertools import accumulate
from typing import Final, Literal

import msgspec

from aqueue.events import ProcessJoined, ProcessLeft, RunResumed, RunStarted, RunStatus
from aqueue.view import WorkerProcesses

__all__ = ["MAX_CHANGES", "MAX_PROCESSES", "Clock", "End", "Gap", "Process", "Processes"]

MAX_PROCESSES: Final = 100
MAX_CHANGES: Final = 1_000
_FIRST_RESOLUTION_S: Final = 0.01
_MAX_GAPS: Final = 50

End = RunStatus | Literal["running", "crashed", "unknown"]


class Process(msgspec.Struct, gc=False):
    """One process of a run.

    Attributes:
        pid: its number on its machine.
        host: the machine's name.
        aqueue_version: which aqueue it ran.
        num_workers: how many workers it had; with a cluster, the most that there were at once.
        started_at: Unix time in seconds.
        ended_at: when its last event happened, Unix time in seconds.
        cluster: the address of its cluster; empty if items ran in it.
        end: how it ended.
    """

    pid: int
    host: str
    aqueue_version: str
    num_workers: int
    started_at: float
    ended_at: float
    cluster: str = ""
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
        workers: how many workers there were from when on, seconds since the run's start; of the first 100 changes. Of a
            cluster's changes, which may be many, those close to each other are one, so that they are at most 1,000.
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
        self._present = WorkerProcesses()
        self._resolution_s = 0.0

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
        self._present.clear()
        num_workers = 0 if event.cluster else event.num_workers
        self.last = Process(event.pid, event.host, event.aqueue_version, num_workers, event.at, event.at, event.cluster)
        self.count += 1
        self.most_workers = max(self.most_workers, num_workers)
        if len(self.first) < MAX_PROCESSES:
            self.first.append(self.last)
        workers = self.workers
        if (not workers or workers[-1][1] != num_workers) and (len(workers) < MAX_PROCESSES or event.cluster):
            self._note_workers(elapsed_s, num_workers)

    def change(self, event: ProcessJoined | ProcessLeft, elapsed_s: float) -> None:
        """Note that a worker process came or went when the run had taken `elapsed_s` seconds."""
        if isinstance(event, ProcessJoined):
            self._present.join(event)
        else:
            self._present.leave(event)
        num_workers = self._present.num_workers
        if self.last is not None:
            self.last.num_workers = max(self.last.num_workers, num_workers)
        self.most_workers = max(self.most_workers, num_workers)
        self._note_workers(elapsed_s, num_workers)

    def _note_workers(self, elapsed_s: float, num_workers: int) -> None:
        self.workers.append((elapsed_s, num_workers))
        if len(self.workers) > 2 * MAX_CHANGES:
            self._thin()

    def _thin(self) -> None:
        """Of the changes in each span of time keep the last, in spans that are so long that they are few enough."""
        while len(self.workers) > MAX_CHANGES:
            resolution_s = self._resolution_s = self._resolution_s * 2 or _FIRST_RESOLUTION_S
            last = {int(at / resolution_s): (at, count) for at, count in self.workers}
            self.workers = list(last.values())

    def end(self, at: float, how: End) -> None:
        """Note the end of the process that began last, if that is not known yet."""
        if self.last is not None and self.last.end == "unknown":
            self.last.ended_at = at
            self.last.end = how
            self.crashed += how == "crashed"

    def clock(self) -> Clock:
        """Return the clock of the run with its longest gaps."""
        return Clock(self._gaps)

    def worker_changes(self) -> list[tuple[float, int]]:
        """Return `workers`, no more than are to be drawn."""
        if len(self.workers) > MAX_CHANGES:
            self._thin()
        return self.workers
