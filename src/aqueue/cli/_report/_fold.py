"""Folds a run's events into what its report shows over time: which workers were busy, and for how long. No I/O, no clock.

Memory is bounded by item types and workers: what is known of each item is in the `Record`.
"""

from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import floor, log10
from typing import Final, Literal

import msgspec

from aqueue import events as ev
from aqueue.cli._report._series import Series
from aqueue.cli._report._timeline import Outcome, Span, Timeline
from aqueue.view import RunningItem, WorkerProcesses

__all__ = ["BINS_PER_DECADE", "MAX_PROCESSES", "MAX_TYPES", "OTHER_TYPES", "Durations", "Fold", "Process", "bin_edge"]

MAX_TYPES: Final = 1_000
MAX_PROCESSES: Final = 100
OTHER_TYPES: Final = "(other types)"
BINS_PER_DECADE: Final = 10
_LOWEST_DECADE: Final = -5  # 10 µs
_BINS: Final = 11 * BINS_PER_DECADE  # up to 1,000,000 s; the first and the last bin take what lies beyond
_TEXT_MAX_CHARS: Final = 200

End = ev.RunStatus | Literal["running", "crashed", "unknown"]
"""How a process of a run ended."""

_OUTCOMES: Final[dict[End, Outcome]] = {"running": "running", "crashed": "crashed", "unknown": "unended"}
"""What becomes of the attempts that run when their process ends; `interrupted` after any other end."""


def bin_edge(index: int) -> float:
    """Return where the bin of that index begins, seconds."""
    return float(10.0 ** (_LOWEST_DECADE + index / BINS_PER_DECADE))


class Durations(msgspec.Struct):
    """How long the attempts at the items of one type took, hooks included; interrupted ones don't count.

    Attributes:
        bins: how many took as long as the bin of that index says (`bin_edge`).
        count: how many there were.
        total_s, longest_s: how long all took together, and the longest, seconds.
    """

    bins: "array[int]"
    count: int = 0
    total_s: float = 0.0
    longest_s: float = 0.0

    def add(self, took_s: float) -> None:
        """Count one attempt."""
        self.count += 1
        self.total_s += took_s
        self.longest_s = max(self.longest_s, took_s)
        index = floor((log10(took_s) - _LOWEST_DECADE) * BINS_PER_DECADE) if took_s > 0 else 0
        self.bins[min(max(index, 0), _BINS - 1)] += 1

    def quantile(self, share: float) -> float:
        """Return how long that share of the attempts took at most, seconds; between a bin's edges it is interpolated."""
        left = share * self.count
        for index, count in enumerate(self.bins):
            if count and left <= count:
                return min(float(bin_edge(0) * 10.0 ** ((index + left / count) / BINS_PER_DECADE)), self.longest_s)
            left -= count
        return self.longest_s


class Process(msgspec.Struct, gc=False):
    """One process of a run.

    Attributes:
        started: the event with which it began.
        before_s: how long the run had taken before it, seconds.
        num_workers: how many workers it had; with a cluster, the most that there were at once.
        ended_at: when its last event happened, Unix time in seconds.
        end: how it ended.
    """

    started: ev.RunStarted
    before_s: float
    num_workers: int
    ended_at: float
    end: End = "unknown"


class Fold:
    """The time of a run as its report shows it, after the events applied so far.

    Times are in seconds since the run's start, in which the time between processes does not count.

    Attributes:
        types: the names of the item types that were started, by their numbers; the last of more than 1,000 stands for
            all others.
        processes: the first 100 processes.
        last: the process that came last; None before the first event.
        num_processes, num_crashed: how many there were, and how many of them crashed.
        series, timeline, durations: the parts; the durations by the number of the type.
        elapsed_s: how long it has taken so far.
        unended: how many attempts were running when the events ended.
    """

    def __init__(self) -> None:
        self.types: list[str] = []
        self.processes: list[Process] = []
        self.last: Process | None = None
        self.num_processes = 0
        self.num_crashed = 0
        self.series = Series()
        self.timeline = Timeline()
        self.durations: dict[int, Durations] = {}
        self.elapsed_s = 0.0
        self.unended = 0
        self._type_numbers: dict[str, int] = {}
        self._running: dict[int, RunningItem] = {}  # by worker; they start at seconds since the run's start
        self._worker_processes = WorkerProcesses()
        self._num_workers = 0
        self._goes_on = True  # whether time passes: not while a command edits a run without a process
        self._epoch = 0.0  # the Unix time less this is the run's own time
        self._index, self._bin_end = self.series.advance(0.0)

    def apply(self, events: Sequence[ev.Event]) -> None:
        """Fold `events`, which must follow those applied so far and be consistent."""
        running, series, bin_end = self._running, self.series, self._bin_end
        at = self.elapsed_s
        for event in events:
            if isinstance(event, ev.RunStarted):  # RunResumed is one
                self._begin(event, at)
                bin_end = self._bin_end
                continue
            if isinstance(event, ev.RunEdited):
                self._end_process(at, "crashed")
                self._goes_on = False
            if self._goes_on:
                at = event.at - self._epoch
            if at >= bin_end:
                self._index, bin_end = series.advance(at)
            match event:
                case ev.ItemEnqueued():
                    series.enqueued[self._index] += 1
                case ev.ItemStarted():
                    running[event.worker] = RunningItem(
                        event.item, event.type, event.worker, event.phase, event.attempt, at
                    )
                    series.starts[self._index] += 1
                    series.moments[self._index] += at
                case ev.ItemDescribed():
                    running[event.worker].text = event.text
                case ev.ItemCompleted():
                    series.completed[self._index] += 1
                    series.done[self._index] += 1
                    self._end(event.worker, at, "completed", event.duration_s)
                case _:
                    self._apply_rare(event, at)
        self.elapsed_s, self._bin_end = at, bin_end

    def _apply_rare(self, event: ev.Event, at: float) -> None:
        match event:
            case ev.ItemChildrenProcessed() | ev.ItemInterrupted():
                # Not every item has a hook; an attempt that a crash interrupted has ended with its process.
                attempt = self._running.get(event.worker)
                if attempt is not None and attempt.item == event.item:
                    ended_well = isinstance(event, ev.ItemChildrenProcessed)
                    self._end(event.worker, at, "completed" if ended_well else "interrupted")
            case ev.ItemFailed():
                self.series.failed[self._index] += 1
                # An item whose hook failed counted as done before; now it counts as failed alone.
                self.series.done[self._index] -= event.phase == "after_children"
                one = self._running.get(event.worker)
                if one is not None and one.item == event.item:  # else it was cancelled while it waited
                    self._end(event.worker, at, "failed", event.duration_s)
            case ev.ItemSkipped():
                self.series.failed[self._index] -= event.had_failed
                self.series.done[self._index] -= event.phase == "after_children" and not event.had_failed
            case ev.ItemRetryScheduled():
                self._end(event.worker, at, "retried")
            case ev.ItemReopened():
                self.series.failed[self._index] -= event.failed is not None
                self.series.done[self._index] += event.failed == "after_children"
                self.series.done[self._index] -= event.rerun and not event.skipped
            case ev.RunWorkersChanged() if self.last is not None and not self.last.started.cluster:
                self._set_workers(event.num_workers)
            case ev.ProcessJoined():
                self._worker_processes.join(event)
                self._set_workers(self._worker_processes.num_workers)
            case ev.ProcessLeft():
                self._worker_processes.leave(event)
                self._set_workers(self._worker_processes.num_workers)
            case ev.RunFinished() if self.last is not None:
                self.last.end, self.last.ended_at = event.status, event.at
            case _:
                pass

    def end(self, now: float, how: End) -> None:
        """End the fold: no more events will follow.

        Parameters:
            now: until when attempts that have not ended are drawn if the run is still running, Unix time in seconds.
            how: how the last process has ended, if it has not said so.
        """
        if self.last is not None:
            if self.last.end == "unknown":
                self.unended = len(self._running)
                if how == "running":
                    self.elapsed_s = max(self.elapsed_s, now - self._epoch)
            self._end_process(self.elapsed_s, how)
        self.timeline.shrink()

    def gaps(self) -> Iterator[tuple[float, float, bool]]:
        """Yield the gaps between the first 100 processes: the run's time then, the gap's length (s), whether it crashed."""
        for before, after in pairwise(self.processes):
            yield after.before_s, after.started.at - before.ended_at, before.end == "crashed"

    def type_number(self, type: str) -> int:
        """Return the number of an item type on the page."""
        number = self._type_numbers.get(type)
        if number is None:
            if len(self.types) == MAX_TYPES:
                self.types.append(OTHER_TYPES)
            if len(self.types) > MAX_TYPES:
                return MAX_TYPES
            number = self._type_numbers[type] = len(self.types)
            self.types.append(type)
        return number

    def _begin(self, event: ev.RunStarted, at: float) -> None:
        self._end_process(at, "crashed")
        self._goes_on = True
        self._epoch = event.at - at
        self._worker_processes.clear()
        self.last = Process(event, at, 0, event.at)
        self.num_processes += 1
        if len(self.processes) < MAX_PROCESSES:
            self.processes.append(self.last)
        self._set_workers(0 if event.cluster else event.num_workers)

    def _end_process(self, at: float, how: End) -> None:
        self._index, self._bin_end = self.series.advance(at)
        if self.last is None:
            return
        if self.last.end == "unknown":
            self.last.end, self.last.ended_at = how, self._epoch + at
            self.num_crashed += how == "crashed"
        for worker in list(self._running):
            self._end(worker, at, _OUTCOMES.get(self.last.end, "interrupted"))

    def _set_workers(self, number: int) -> None:
        assert self.last is not None
        self.series.workers[self._index] += number - self._num_workers
        self._num_workers = number
        self.last.num_workers = max(self.last.num_workers, number)

    def _end(self, worker: int, at: float, outcome: Outcome, took_s: float | None = None) -> None:
        one = self._running.pop(worker)
        self.series.starts[self._index] -= 1
        self.series.moments[self._index] -= at
        type, busy_s = self.type_number(one.type), at - one.started_at
        if outcome in ("completed", "failed", "retried"):
            durations = self.durations.get(type)
            if durations is None:
                durations = self.durations[type] = Durations(array("q", bytes(8 * _BINS)))
            durations.add(busy_s if took_s is None else took_s)
        is_hook, failed = one.phase != "process", int(outcome == "failed")
        text = one.text[:_TEXT_MAX_CHARS]
        span = Span(one.started_at, at, outcome, type, one.item, one.attempt, is_hook, text, busy_s, failed)
        self.timeline.add(worker, span)
