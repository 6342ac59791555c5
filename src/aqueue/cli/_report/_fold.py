"""Folds a run's events into what its report shows. No I/O and no clock.

Memory is bounded by item types and workers, and by 12 bytes per item: its parent, type and time, and what it failed of.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from aqueue.cli._report._durations import Durations, Slowest, SlowItem
from aqueue.cli._report._failed import FailedItems
from aqueue.cli._report._processes import End, Processes
from aqueue.cli._report._series import Series
from aqueue.cli._report._timeline import Outcome, Span, Timeline
from aqueue.cli._report._tree import ItemTree
from aqueue.events import (
    Event,
    ItemChildrenProcessed,
    ItemCompleted,
    ItemDescribed,
    ItemEnqueued,
    ItemFailed,
    ItemInterrupted,
    ItemReopened,
    ItemRetryScheduled,
    ItemStarted,
    ProcessJoined,
    ProcessLeft,
    RunFinished,
    RunStarted,
)
from aqueue.view import RunView

__all__ = ["MAX_TYPES", "NOT_RECORDED", "OTHER_TYPES", "Fold"]

MAX_TYPES: Final = 1_000
NOT_RECORDED: Final = "(not recorded)"
OTHER_TYPES: Final = "(other types)"
_TEXT_MAX_CHARS: Final = 200

_OUTCOMES: Final[dict[End, Outcome]] = {"running": "running", "crashed": "crashed", "unknown": "unended"}
_TIMED: Final = frozenset({"completed", "failed", "retried"})
"""An attempt that was cut short says nothing of how long one takes."""


class _Attempt(msgspec.Struct, gc=False):
    start: float
    item: int
    type: int
    attempt: int
    is_hook: bool
    text: str = ""


class Fold:
    """A run as its report shows it, after the events applied so far.

    Times are in seconds since the run's start, in which the time between processes does not count.

    Attributes:
        view: the run as it stands: counts, status.
        types: the names of the item types by their numbers, as ``module:qualname``. The first stands for items of which
            the log says nothing, the last of more than 1,000 for all others.
        processes, series, timeline, durations, slowest, failed, tree: the parts, each of its own module.
        elapsed_s: how long it has taken so far.
        unended: how many attempts were at work when the events ended.
    """

    def __init__(self) -> None:
        self.view = RunView()
        self.types: list[str] = [NOT_RECORDED]
        self.processes = Processes()
        self.series = Series()
        self.timeline = Timeline()
        self.durations = Durations()
        self.slowest = Slowest()
        self.failed = FailedItems()
        self.tree = ItemTree()
        self.elapsed_s = 0.0
        self.unended = 0
        self._type_numbers: dict[str, int] = {}
        self._running: dict[int, _Attempt] = {}
        self._epoch = 0.0  # the Unix time less this is the run's own time

    def apply(self, events: Sequence[Event]) -> None:
        """Fold `events`, which must follow those applied so far.

        One loop over local names, the most frequent types first: this runs once for every event of a run.
        """
        self.view.apply(events)
        running = self._running
        type_numbers = self._type_numbers
        series = self.series
        enqueued, completed, done = series.enqueued, series.completed, series.done
        starts, moments = series.starts, series.moments
        parents, types, busy_s = self.tree.parents, self.tree.types, self.tree.busy_s
        kind_of = self.failed.kind_of
        epoch = self._epoch
        at = self.elapsed_s
        index, bin_end = series.advance(at)
        for event in events:
            cls = type(event)
            previous_at = at
            at = event.at - epoch
            if at >= bin_end and not isinstance(event, RunStarted):
                index, bin_end = series.advance(at)
            if cls is ItemEnqueued:
                assert isinstance(event, ItemEnqueued)
                if event.item != len(parents):
                    self._skip_to(event.item)
                number = type_numbers.get(event.type)
                if number is None:
                    number = self._number_type(event.type)
                parents.append(event.parent)
                types.append(number)
                busy_s.append(0.0)
                kind_of.append(0)
                enqueued[index] += 1
            elif cls is ItemStarted:
                assert isinstance(event, ItemStarted)
                item = event.item
                is_hook = event.phase != "process"
                running[event.worker] = _Attempt(at, item, types[item], event.attempt, is_hook)
                starts[index] += 1
                moments[index] += at
            elif cls is ItemDescribed:
                assert isinstance(event, ItemDescribed)
                running[event.worker].text = event.text
            elif cls is ItemCompleted:
                assert isinstance(event, ItemCompleted)
                completed[index] += 1
                done[index] += 1
                starts[index] -= 1
                moments[index] -= at
                self._end(event.worker, at, "completed", event.duration_s)
            elif isinstance(event, RunStarted):  # RunResumed is one
                at = previous_at
                self._begin(event, at)
                epoch = self._epoch
            else:
                self._apply_rare(event, at, index)
        self.elapsed_s = at

    def end(self, now: float, *, is_running: bool | None) -> None:
        """End the fold: no more events will follow.

        Parameters:
            now: how far attempts that have not ended are to be drawn if the run is still running, Unix time in seconds.
            is_running: whether it is; None if that is not known. Of no meaning if the last process has ended.
        """
        last = self.processes.last
        if last is not None and last.end == "unknown":
            if is_running:
                self.elapsed_s = max(self.elapsed_s, now - self._epoch)
            how: End = "unknown" if is_running is None else "running" if is_running else "crashed"
            self.unended = len(self._running)
            self._end_process(self.elapsed_s, how)
        elif last is not None:
            self._end_process(self.elapsed_s, last.end)
        self.timeline.end()

    def _begin(self, event: RunStarted, at: float) -> None:
        last = self.processes.last
        if last is not None:
            self._end_process(at, "crashed" if last.end == "unknown" else last.end)
        self._epoch = event.at - at
        self.processes.begin(event, at)

    def _end_process(self, at: float, how: End) -> None:
        self.processes.end(self._epoch + at, how)
        index, _ = self.series.advance(at)
        outcome = _OUTCOMES.get(how, "interrupted")
        for worker in list(self._running):
            self._end_in(index, worker, at, outcome)

    def _apply_rare(self, event: Event, at: float, index: int) -> None:
        match event:
            case ItemChildrenProcessed() | ItemInterrupted():
                # Not all have a hook, and those that a crash cut short ended with their process.
                attempt = self._running.get(event.worker)
                if attempt is not None and attempt.item == event.item:
                    ended_well = isinstance(event, ItemChildrenProcessed)
                    self._end_in(index, event.worker, at, "completed" if ended_well else "interrupted")
            case ItemFailed():
                self._fail(event, at, index)
            case ItemRetryScheduled():
                self._end_in(index, event.worker, at, "retried")
            case ItemReopened():
                if event.failed is not None:
                    self.series.failed[index] -= 1
                    self.series.done[index] += event.failed == "after_children"
                    self.failed.reopen(event.item)
            case ProcessJoined() | ProcessLeft():
                self.processes.change(event, at)
            case RunFinished():
                self.processes.end(event.at, event.status)
            case _:
                pass

    def _fail(self, event: ItemFailed, at: float, index: int) -> None:
        self.series.failed[index] += 1
        if event.phase == "after_children":
            # Its `process` had completed; an item comes to one thing in the end.
            self.series.done[index] -= 1
        self.failed.add(event)
        self._end_in(index, event.worker, at, "failed", event.duration_s)

    def _end_in(self, index: int, worker: int, at: float, outcome: Outcome, took_s: float | None = None) -> None:
        self.series.starts[index] -= 1
        self.series.moments[index] -= at
        self._end(worker, at, outcome, at - self._running[worker].start if took_s is None else took_s)

    def _end(self, worker: int, at: float, outcome: Outcome, took_s: float) -> None:
        attempt = self._running.pop(worker)
        item = attempt.item
        self.tree.busy_s[item] += took_s
        if outcome in _TIMED:
            self.durations.add(attempt.type, took_s)
        text = attempt.text[:_TEXT_MAX_CHARS]
        if took_s > self.slowest.threshold_s:
            self.slowest.add(SlowItem(item, attempt.type, attempt.is_hook, attempt.attempt, outcome, took_s, text))
        self.timeline.add(
            worker, Span(attempt.start, at, outcome, attempt.type, item, attempt.attempt, attempt.is_hook, text)
        )

    def _number_type(self, type: str) -> int:
        types = self.types
        if len(types) <= MAX_TYPES:
            number = self._type_numbers[type] = len(types)
            types.append(type)
            return number
        if len(types) == MAX_TYPES + 1:
            types.append(OTHER_TYPES)
        return len(types) - 1

    def _skip_to(self, item: int) -> None:
        self.failed.kind_of.extend([0] * self.tree.skip_to(item))
