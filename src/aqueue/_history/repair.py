"""Fills in the events that a log lacks, so that every fold can rely on a consistent run.

A journal has every event. A log may not: somebody cut it, a processor dropped records, a disk spoiled a line, or it began
when the run was resumed. `Repairer` puts in what must have happened, and leaves out what came twice or can't be. It changes
nothing in a stream that lacks nothing. In a journal or a log of an earlier aqueue, `item.children_processed` and
`item.interrupted` lack their worker: they get it here.
"""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from aqueue._history.known_items import UNKNOWN_TYPE, KnownItems
from aqueue.events import (
    SCHEMA_VERSION,
    Event,
    GroupSlowedDown,
    ItemAdopted,
    ItemChildrenFailed,
    ItemChildrenProcessed,
    ItemCompleted,
    ItemDescribed,
    ItemEnqueued,
    ItemFailed,
    ItemInterrupted,
    ItemReopened,
    ItemRetryScheduled,
    ItemStarted,
    Phase,
    ProcessJoined,
    ProcessLeft,
    ReporterFailed,
    RunFinished,
    RunResumed,
    RunStarted,
    RunStopping,
)
from aqueue.view import WorkerProcess, WorkerProcesses

__all__ = ["UNKNOWN_TYPE", "Repairer"]

_NO_WORKER: Final = 0
_UNKNOWN_CLUSTER: Final = "?"
_MAX_NUMBER: Final = 2**53
_MAX_AT: Final = 253_402_300_799.0
"""The end of the year 9999, Unix time in seconds: later times can't be written as dates."""

_MAX_PROCESSES: Final = 10_000
_MAX_WORKER: Final = 100_000_000
"""The highest number that a worker of a cluster may have."""

_COMPLETED: Final = 1
_FAILED: Final[dict[Phase, int]] = {"process": 2, "after_children": 4}


class Repairer:
    """Follows the events of one run and hands them on, consistent.

    Memory: three bytes an item, what is running, and the worker processes that are there, 10,000 at most.

    Attributes:
        missing: how many events are not there, as far as the numbers tell.
        repeated: how many came twice, out of order or where they can't be, and were left out.
    """

    def __init__(self) -> None:
        self.missing = 0
        self.repeated = 0
        self._seq = 0
        self._at = 0.0
        self._goes_on = False  # whether a process of the run has begun and not ended
        self._has_crashed = False  # whether `_running` still has attempts of an earlier process, which crashed
        self._started = RunStarted(1, 0.0, "", SCHEMA_VERSION, "", 0, "", 0, "")  # the last one
        self._items = KnownItems()
        self._running: dict[int, int] = {}  # by worker: twice the item, and one more in its hook
        self._workers: dict[int, int] = {}  # by item
        self._processes = WorkerProcesses()
        self._whole: list[Event] = []

    def repair(self, events: Iterable[Event]) -> list[Event]:
        """Return `events`, which follow those before, with what they lack and without what they repeat.

        One loop over local names for the most frequent events where nothing is amiss: this runs for every event read.
        """
        whole = self._whole = []
        append = whole.append
        running, workers, items = self._running, self._workers, self._items
        seq, at = self._seq, self._at
        first, types, flags = items.last_span
        numbers = items.numbers
        goes_on = self._goes_on and not self._has_crashed
        for event in events:
            if event.seq != seq + 1 or not at <= event.at <= _MAX_AT:
                if not seq < event.seq <= _MAX_NUMBER:
                    self.repeated += 1
                    continue
                self.missing += event.seq - seq - 1
                if not at <= event.at <= _MAX_AT:  # times never decrease
                    event = replace(event, at=at)
            if not goes_on:
                self._go_on(event)
            seq, at = event.seq, event.at
            cls = type(event)
            if cls is ItemDescribed:
                assert isinstance(event, ItemDescribed)
                if running.get(event.worker) == 2 * event.item:
                    append(event)
                    continue
            elif cls is ItemStarted:
                assert isinstance(event, ItemStarted)
                item, worker = event.item, event.worker
                offset = item - first
                if (
                    event.phase == "process"
                    and 0 <= offset < len(flags)
                    and not flags[offset]
                    and types[offset] == numbers.get(event.type)
                    and worker not in running
                    and item not in workers
                ):
                    running[worker] = 2 * item
                    workers[item] = worker
                    append(event)
                    continue
            elif cls is ItemCompleted:
                assert isinstance(event, ItemCompleted)
                item, worker = event.item, event.worker
                offset = item - first
                if running.get(worker) == 2 * item and 0 <= offset < len(flags) and event.deduplicated >= 0:
                    del running[worker], workers[item]
                    flags[offset] |= _COMPLETED
                    append(event)
                    continue
            elif cls is ItemEnqueued:
                assert isinstance(event, ItemEnqueued)
                number = numbers.get(event.type)
                if (
                    flags
                    and number is not None
                    and event.item == first + len(flags)
                    and (not event.parent or 0 <= event.parent - first < len(flags))
                ):
                    types.append(number)
                    flags.append(0)
                    append(event)
                    continue
            self._seq, self._at = seq, at
            whole_event = self._prepare(event)
            if whole_event is not None:
                append(whole_event)
            else:
                self.repeated += 1
            goes_on = self._goes_on and not self._has_crashed
            first, types, flags = items.last_span
        self._seq, self._at = seq, at
        return whole

    def _prepare(self, event: Event) -> Event | None:
        """Put in what must have come before `event`, keep track, and return it as it may come; None if it may not at all."""
        item = getattr(event, "item", None)
        if item is not None and not 0 < item <= _MAX_NUMBER and not isinstance(event, GroupSlowedDown):
            return None
        event = self._with_worker(_with_counts(event))
        match event:
            case ItemEnqueued():
                return self._prepare_enqueued(event)
            case ItemStarted():
                return self._typed(event) if self._prepare_start(event) else None
            case ItemDescribed():
                # It may come from the hook, too.
                if self._running.get(event.worker) == _coded(event.item, "after_children"):
                    return event
                return event if self._see_running(event, event.item, event.worker) else None
            case ItemCompleted():
                if not self._see_running(event, event.item, event.worker, attempt=event.attempt):
                    return None
                self._note_end(event.worker)
                self._items.flag(event.item, _COMPLETED)
                return event
            case _:
                return self._typed(event) if self._rare_may_come(event) else None

    def _prepare_enqueued(self, event: ItemEnqueued) -> Event | None:
        if not 0 <= event.parent < event.item:  # parents come first
            return None
        if event.parent:
            self._announce(event, event.parent)
        if event.item in self._items:
            return None
        self._items.add(event.item, event.type)
        return self._typed(event)

    def _with_worker(self, event: Event) -> Event:
        """Return `event` with the worker of the attempt that it ends, which older logs tell at its start alone."""
        if not isinstance(event, ItemChildrenProcessed | ItemInterrupted) or event.worker != _NO_WORKER:
            return event
        phase = event.phase if isinstance(event, ItemInterrupted) else "after_children"
        return replace(event, worker=self._workers[event.item]) if self._is_at(event.item, phase) else event

    def _typed(self, event: Event) -> Event:
        """Return `event`, whose item is known, with the type that the item was announced with."""
        type = getattr(event, "type", None)
        if type is None or (known := self._items.type_of(event.item)) == type:  # type: ignore[attr-defined]
            return event
        return replace(event, type=known)

    def _rare_may_come(self, event: Event) -> bool:
        match event:
            case ItemFailed() | ItemRetryScheduled() | ItemInterrupted():
                return self._prepare_end(event)
            case ItemChildrenProcessed():
                self._see_completed(event, event.item, event.type)
                if event.worker != _NO_WORKER or self._items.flags(event.item) & _FAILED["after_children"]:
                    self._see_running(event, event.item, event.worker, "after_children")
                if self._is_at(event.item, "after_children"):
                    self._note_end(event.worker)
            case ItemChildrenFailed():
                self._see_over(event, event.item, event.type)
                self._end_attempt(event, self._workers.get(event.item))
            case ItemReopened():
                return self._prepare_reopened(event)
            case ItemAdopted():
                return self._prepare_adopted(event)
            case GroupSlowedDown():
                if 0 < event.item <= _MAX_NUMBER:
                    self._announce(event, event.item)
            case ProcessJoined():
                return self._prepare_joined(event)
            case ProcessLeft():
                return self._processes.leave(event) is not None
            case RunStarted():
                self._started, self._goes_on = event, True
                self._has_crashed = bool(self._running)
                self._processes.clear()
            case RunFinished():
                for worker in list(self._running):
                    self._end_attempt(event, worker)
                self._goes_on = False
                self._processes.clear()
            case _:
                pass
        return True

    def _prepare_joined(self, event: ProcessJoined) -> bool:
        """See that the numbers of a process that joins are free: what had them, or ran under them, must have ended."""
        processes = self._processes
        first, end = event.first_worker, event.first_worker + event.num_workers
        if not self._started.cluster or not 0 < first < end <= _MAX_WORKER + 1:
            return False
        if processes.get(first) == WorkerProcess(first, event.num_workers, event.host, event.pid):
            return False  # it is told twice
        if len(processes) >= _MAX_PROCESSES:
            return False
        for worker in [worker for worker in self._running if first <= worker < end]:
            self._end_attempt(event, worker)
        for gone in processes.overlapping(first, end):
            left = ProcessLeft(event.seq, event.at, gone.first_worker, "lost")
            processes.leave(left)
            self._whole.append(left)
        processes.join(event)
        return True

    def _prepare_end(self, event: ItemFailed | ItemRetryScheduled | ItemInterrupted) -> bool:
        item, phase = event.item, event.phase
        type = event.type if isinstance(event, ItemFailed) else UNKNOWN_TYPE
        if not self._see_running(event, item, event.worker, phase, event.attempt, type):
            return False
        self._note_end(event.worker)
        if isinstance(event, ItemFailed):
            self._items.flag(item, _FAILED[phase])
        return True

    def _go_on(self, event: Event) -> None:
        """Put in what must have come before `event` in its process: the start of that, and what a crash before it cut short.

        A resumed run tells of the latter before anything else of items.
        """
        if not self._goes_on and not isinstance(event, RunStarted):
            self._whole.append(self._begin(event))
        if self._has_crashed and not (
            isinstance(event, RunStarted | RunStopping | ReporterFailed)
            # One that was not at work would be put in first, as the first event of an item in this process.
            or (isinstance(event, ItemInterrupted) and self._is_at(event.item, event.phase))
        ):
            for worker in list(self._running):
                self._end_attempt(event, worker, "crash")
            self._has_crashed = False

    def _is_at(self, item: int, phase: Phase) -> bool:
        return self._running.get(self._workers.get(item, _NO_WORKER)) == _coded(item, phase)

    def _begin(self, event: Event) -> RunStarted:
        """Return the start, or the resumption, that must have come before `event`."""
        self._goes_on = True
        begun = self._started
        self._processes.clear()
        if isinstance(event, ProcessJoined | ProcessLeft) and not begun.cluster:
            begun = self._started = replace(begun, cluster=_UNKNOWN_CLUSTER)
        if not self._seq:
            return replace(begun, seq=event.seq, at=event.at)
        fields = msgspec.structs.asdict(begun) | {"seq": event.seq, "at": event.at}
        return RunResumed(**fields)

    def _announce(self, event: Event, item: int, type: str = UNKNOWN_TYPE) -> None:
        if item not in self._items:
            self._items.add(item, type)
            self._whole.append(ItemEnqueued(event.seq, event.at, item, 0, self._items.type_of(item)))

    def _see_completed(self, event: Event, item: int, type: str) -> None:
        """See that the `process` of `item` has completed: what comes next says so."""
        self._announce(event, item, type)
        worker = self._workers.get(item, _NO_WORKER)
        if not self._items.flags(item) & _COMPLETED and self._see_running(event, item, worker):
            self._whole.append(ItemCompleted(event.seq, event.at, item, worker, 0.0))
            self._note_end(worker)
            self._items.flag(item, _COMPLETED)

    def _see_over(self, event: Event, item: int, type: str) -> None:
        """See that the `process` of `item` has completed or failed."""
        self._announce(event, item, type)
        if not self._items.flags(item) & _FAILED["process"]:
            self._see_completed(event, item, type)

    def _see_running(
        self,
        event: Event,
        item: int,
        worker: int,
        phase: Phase = "process",
        attempt: int = 1,
        type: str = UNKNOWN_TYPE,
    ) -> bool:
        """See that `worker` is at `item`, as `event` says; return False if it can't be."""
        if self._running.get(worker) == _coded(item, phase):
            return True
        self._announce(event, item, type)
        start = ItemStarted(event.seq, event.at, item, self._items.type_of(item), worker, phase, attempt)
        if not self._prepare_start(start):
            return False
        self._whole.append(start)
        return True

    def _prepare_start(self, start: ItemStarted) -> bool:
        item, phase = start.item, start.phase
        self._announce(start, item, start.type)
        if phase == "process":
            if self._items.flags(item) & _COMPLETED:
                return False
        else:
            self._see_completed(start, item, start.type)
        self._end_attempt(start, self._workers.get(item))
        self._end_attempt(start, start.worker)
        self._reopen(start, item, phase)
        self._running[start.worker] = _coded(item, phase)
        self._workers[item] = start.worker
        return True

    def _reopen(self, event: Event, item: int, phase: Phase) -> None:
        """See that `item` is not one that has failed for good: it runs again, as `event` says."""
        if self._items.flags(item) & _FAILED[phase]:
            self._whole.append(ItemReopened(event.seq, event.at, item, self._items.type_of(item), phase))
            self._items.unflag(item, _FAILED[phase])

    def _prepare_adopted(self, event: ItemAdopted) -> bool:
        item = event.item
        self._announce(event, item, event.type)
        if self._items.flags(item) & _COMPLETED:
            return event.key is not None  # then it is not to run, and has only got a key
        self._end_attempt(event, self._workers.get(item))
        self._reopen(event, item, "process")
        return True

    def _prepare_reopened(self, event: ItemReopened) -> bool:
        if event.failed is None:
            self._see_over(event, event.item, event.type)
            self._end_attempt(event, self._workers.get(event.item))
            return True
        if event.failed == "process":
            self._announce(event, event.item, event.type)
        else:
            self._see_completed(event, event.item, event.type)
        flag = _FAILED[event.failed]
        had_failed = bool(self._items.flags(event.item) & flag)
        self._items.unflag(event.item, flag)
        return had_failed  # if not, that it had isn't known, and it is queued or running as far as is known

    def _end_attempt(
        self, event: Event, worker: int | None, reason: Literal["crash", "worker_lost"] = "worker_lost"
    ) -> None:
        running = self._running.get(worker) if worker is not None else None
        if worker is not None and running is not None:
            phase: Phase = "after_children" if running % 2 else "process"
            self._whole.append(ItemInterrupted(event.seq, event.at, running // 2, phase, reason=reason, worker=worker))
            self._note_end(worker)

    def _note_end(self, worker: int) -> None:
        del self._workers[self._running.pop(worker) // 2]


def _coded(item: int, phase: Phase) -> int:
    """Return what a worker is at as one number, which takes no memory of its own where it is small."""
    return 2 * item + (phase != "process")


def _with_counts(event: Event) -> Event:
    """Return `event` with the counts that must not be below zero as they may be."""
    if isinstance(event, ItemCompleted | ItemFailed) and event.deduplicated < 0:
        return replace(event, deduplicated=0)
    if isinstance(event, RunFinished) and event.counts.deduplicated < 0:
        return replace(event, counts=replace(event.counts, deduplicated=0))
    return event
