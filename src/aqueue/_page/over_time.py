"""Folds a run's events into what its report shows over time: which workers were busy, and for how long. No I/O, no clock.

Memory is bounded by item types and workers: what is known of each item is in the `Record`.
"""

from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import log10
from typing import Final, Literal

import msgspec

from aqueue import events as ev
from aqueue._page.series import Series
from aqueue._page.timeline import Outcome, Timeline
from aqueue.events import ItemCompleted, ItemDescribed, ItemEnqueued, ItemStarted
from aqueue.view import WorkerProcesses

__all__ = ["BINS_PER_DECADE", "MAX_PROCESSES", "MAX_TYPES", "OTHER_TYPES", "Durations", "Fold", "Process", "bin_edge"]

MAX_TYPES: Final = 1_000
MAX_PROCESSES: Final = 100
OTHER_TYPES: Final = "(other types)"
BINS_PER_DECADE: Final = 10
_LOWEST_DECADE: Final = -5  # 10 µs
_BINS: Final = 11 * BINS_PER_DECADE  # up to 1,000,000 s; the first and the last bin take what lies beyond

End = ev.RunStatus | Literal["running", "crashed", "unknown"]
"""How a process of a run ended."""

_OUTCOMES: Final[dict[End, Outcome]] = {"running": "running", "crashed": "crashed", "unknown": "unended"}
"""What becomes of the attempts that run when their process ends; `interrupted` after any other end."""

_ENDED: Final = frozenset({"completed", "failed", "retried"})
"""The outcomes of attempts that took as long as they needed."""


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

    def add(self, took_s: Sequence[float]) -> None:
        """Count attempts, given how long each took, seconds; many at once take a third of the time."""
        self.count += len(took_s)
        self.longest_s = max(self.longest_s, *took_s)
        bins, total_s = self.bins, self.total_s
        for one in took_s:  # not `sum`, of which the result would depend on how many there are at once
            total_s += one
        self.total_s = total_s
        for index in [int((log10(one) - _LOWEST_DECADE) * BINS_PER_DECADE) if one > 0 else 0 for one in took_s]:
            bins[index if 0 <= index < _BINS else min(max(index, 0), _BINS - 1)] += 1

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
        self._running: dict[int, ItemStarted] = {}  # by worker
        self._texts: dict[int, str] = {}  # what they were described with, by worker
        self._took: dict[int, list[float]] = {}  # what isn't in `durations` yet
        self._worker_processes = WorkerProcesses()
        self._num_workers = 0
        self._goes_on = True  # whether time passes: not while a command edits a run without a process
        self._epoch = 0.0  # the Unix time less this is the run's own time
        self._index, self._bin_end = self.series.advance(0.0)

    def apply(self, events: Sequence[ev.Event]) -> None:
        """Fold `events`, which must follow those applied so far and be consistent.

        As in `RunView.apply`, this runs once for every event of a run.
        """
        running, series, texts = self._running, self.series, self._texts
        enqueued, starts, moments = series.enqueued, series.starts, series.moments
        completed, done = series.completed, series.done
        at, index, bin_end, epoch = self.elapsed_s, self._index, self._bin_end, self._epoch
        for event in events:
            cls = type(event)
            if cls is ev.RunStarted or cls is ev.RunResumed:
                assert isinstance(event, ev.RunStarted)
                self._begin(event, at)
                index, bin_end, epoch = self._index, self._bin_end, self._epoch
                continue
            if cls is ev.RunEdited:
                self._end_process(at, "crashed")
                self._goes_on = False
                index, bin_end = self._index, self._bin_end
            if self._goes_on:
                at = event.at - epoch
            if at >= bin_end:
                self._index, bin_end = series.advance(at)
                index = self._index
            if cls is ItemStarted:
                assert isinstance(event, ItemStarted)
                running[event.worker] = event
                starts[index] += 1
                moments[index] += at
            elif cls is ItemCompleted:
                assert isinstance(event, ItemCompleted)
                completed[index] += 1
                done[index] += 1
                self._end(event.worker, at, "completed", event.duration_s)
            elif cls is ItemEnqueued:
                enqueued[index] += 1
            elif cls is ItemDescribed:
                assert isinstance(event, ItemDescribed)
                texts[event.worker] = event.text
            else:
                self._apply_rare(event, at)
        self.elapsed_s, self._bin_end = at, bin_end
        for number, took_s in self._took.items():
            if number not in self.durations:
                self.durations[number] = Durations(array("q", bytes(8 * _BINS)))
            self.durations[number].add(took_s)
        self._took.clear()

    def _apply_rare(self, event: ev.Event, at: float) -> None:
        match event:
            case ev.ItemChildrenProcessed() | ev.ItemInterrupted():
                # Not every item has a hook; an attempt that a crash interrupted has ended with its process.
                attempt = self._running.get(event.worker)
                if attempt is not None and attempt.item == event.item:
                    self._end(event.worker, at, _outcome(event))
            case ev.ItemFailed():
                self.series.failed[self._index] += 1
                # An item whose hook failed counted as done before; now it counts as failed alone.
                self.series.done[self._index] -= event.phase == "after_children"
                one = self._running.get(event.worker)
                if one is not None and one.item == event.item:  # else it was cancelled while it waited
                    self._end(event.worker, at, "failed", event.duration_s)
            case ev.ItemSkipped():
                self.series.skipped[self._index] += 1
                self.series.failed[self._index] -= event.had_failed
                self.series.done[self._index] -= event.phase == "after_children" and not event.had_failed
            case ev.ItemRetryScheduled():
                self._end(event.worker, at, "retried")
            case ev.ItemReopened():
                self.series.failed[self._index] -= event.failed is not None
                self.series.done[self._index] += event.failed == "after_children"
                self.series.done[self._index] -= event.rerun and not event.skipped
                self.series.skipped[self._index] -= event.rerun and event.skipped
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
        series, index = self.series, self._index
        series.starts[index] -= 1
        series.moments[index] -= at
        type, started_at = self._type_numbers.get(one.type), one.at - self._epoch
        if type is None:
            type = self.type_number(one.type)
        if outcome in _ENDED:
            took = self._took.get(type)
            if took is None:
                took = self._took[type] = []
            took.append(at - started_at if took_s is None else took_s)
        text = self._texts.pop(worker, "") if self._texts else ""
        self.timeline.add(worker, started_at, at, outcome, type, one, text)


def _outcome(event: ev.ItemChildrenProcessed | ev.ItemInterrupted) -> Outcome:
    """Return what became of the attempt that `event` ends."""
    if isinstance(event, ev.ItemChildrenProcessed):
        return "completed"
    return "skipped" if event.reason == "skipped" else "interrupted"
