"""RunView: a run as it stands, folded from its events.

No I/O and no clock. Memory is bounded by types, workers and their processes, groups in which items wait or that are paused,
and items that wait for a retry, as the engine's own is.
"""

import math
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Final, Literal

import msgspec

from aqueue import events as ev
from aqueue.events import (
    Counts,
    Event,
    ItemCompleted,
    ItemDescribed,
    ItemEnqueued,
    ItemFailed,
    ItemStarted,
    Phase,
    RunStatus,
)
from aqueue.figures import amount, limit_words, person, when_due

__all__ = [
    "InForce",
    "RunView",
    "RunningItem",
    "Sample",
    "Shares",
    "TypeView",
    "WorkerProcess",
    "WorkerProcesses",
]

SAMPLE_INTERVAL_S: Final = 0.5
RATE_WINDOW_S: Final = 10.0
_MAX_SAMPLES: Final = int(RATE_WINDOW_S / SAMPLE_INTERVAL_S) + 1
_MAX_FAILURES: Final = 20
_MIN_STALE_DUES: Final = 100
_MAX_LIMITS: Final = 10_000
_MIN_SWEPT: Final = 1_000

SHARES_WINDOW_S: Final = 60.0
"""What `RunView.shares` calls the last minute, seconds."""

_MARK_INTERVAL_S: Final = 3.0
"""How far apart the totals are kept from which the last minute is taken, seconds: within it, they count as growing evenly."""

_MIN_SHARE_S: Final = 5.0
"""For how long a process must have run before `RunView.limited_by` speaks of shares of its time, seconds."""

_MAX_DELAYS: Final = 128
"""How many of the last minute's events of one kind that tell a delay are kept: in a minute, 120 blocks of half a second."""

_NOTABLE: Final = 0.2
_MOST: Final = 0.5
_NEARLY_ALL: Final = 0.9
"""The shares of the last minute from which on `RunView.limited_by` names what took them."""

_Activity = Literal["paused", "limited", "retrying", "empty", "busy"]


@dataclass(slots=True)  # to count in a struct takes 35 ns, here 15
class TypeView:
    """The items of one type. Only the fold writes to it.

    Attributes:
        type: the item class, as ``module:qualname``.
        track_overall: whether the class counts in the overall progress.
        enqueued: how many were announced.
        queued: how many wait to be started now.
        peak_queued: the most that ever were queued.
        waiting: how many failed and wait for a retry, in `process` or in their hook; they are not queued.
        running: how many attempts run now, hooks included.
        completed: how many completed.
        failed: how many failed for good.
        interrupted: how many attempts were cut short.
        deduplicated: how many children its items enqueued that were dropped as duplicates.
        retried: how many attempts failed and were retried, or will be.
        skipped: how many a person skipped.
    """

    type: str
    track_overall: bool = False
    enqueued: int = 0
    queued: int = 0
    peak_queued: int = 0
    waiting: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    interrupted: int = 0
    deduplicated: int = 0
    retried: int = 0
    skipped: int = 0

    @property
    def counts(self) -> Counts:
        """The same as a record."""
        return Counts(
            self.enqueued,
            self.completed,
            self.failed,
            self.interrupted,
            self.deduplicated,
            self.retried,
            self.skipped,
        )


_NO_TYPE: Final = TypeView("")


class RunningItem(msgspec.Struct):
    """An item that a worker runs. Only the fold writes to it.

    Attributes:
        item: the item's number.
        type: its class, as ``module:qualname``.
        worker: the worker's number.
        phase: ``process``, or ``after_children`` for the hook.
        attempt: which try of that phase, from 1.
        started_at: Unix time in seconds.
        text: its latest description; empty if it has none.
        group: the group in which it waited; None if it had none, and for a hook.
    """

    item: int
    type: str
    worker: int
    phase: Phase
    attempt: int
    started_at: float
    text: str = ""
    group: str | None = None


class WorkerProcess(msgspec.Struct, frozen=True):
    """A worker process of a cluster.

    Attributes:
        first_worker: the number of its first worker; the others follow.
        num_workers: how many workers it has.
        host: its machine's name; not made safe.
        pid: the process there.
    """

    first_worker: int
    num_workers: int
    host: str
    pid: int


class WorkerProcesses(dict[int, WorkerProcess]):
    """The present worker processes of a cluster, by the number of their first worker. Only folds write to it.

    Attributes:
        num_workers: how many workers they have in all.
    """

    def __init__(self) -> None:
        """Start without processes."""
        super().__init__()
        self.num_workers: int = 0
        self._firsts: list[int] = []  # sorted

    def join(self, event: ev.ProcessJoined | WorkerProcess) -> WorkerProcess:
        """Add the process of `event`, replacing one that has the same first worker, and return it."""
        process = WorkerProcess(event.first_worker, event.num_workers, event.host, event.pid)
        before = self.get(event.first_worker)
        if before is None:
            insort(self._firsts, event.first_worker)
        else:
            self.num_workers -= before.num_workers
        self[event.first_worker] = process
        self.num_workers += process.num_workers
        return process

    def leave(self, event: ev.ProcessLeft) -> WorkerProcess | None:
        """Remove the process of `event` and return it; None if it isn't there."""
        process = self.pop(event.first_worker, None)
        if process is not None:
            self._firsts.remove(event.first_worker)
            self.num_workers -= process.num_workers
        return process

    def clear(self) -> None:
        """Remove all."""
        super().clear()
        self._firsts.clear()
        self.num_workers = 0

    def copy(self) -> "WorkerProcesses":
        """Return the same processes, to which others may be added."""
        twin = WorkerProcesses()
        twin.update(self)
        twin.num_workers = self.num_workers
        twin._firsts += self._firsts
        return twin

    def of(self, worker: int, num_workers: int = 1) -> WorkerProcess | None:
        """Return the process that has the worker numbered `worker`, or one of as many as `num_workers` from there on.

        None if there is none; the last if there are several. Takes as many steps as a binary search.
        """
        position = bisect_right(self._firsts, worker + num_workers - 1)
        if not position:
            return None
        process = self[self._firsts[position - 1]]
        return process if worker < process.first_worker + process.num_workers else None

    @property
    def workers(self) -> Iterator[int]:
        """The numbers of all workers, in their order."""
        for first in self._firsts:
            yield from range(first, first + self[first].num_workers)


class InForce(msgspec.Struct):
    """What people have set by commands and still holds, each with the event that says who set it, and when.

    Only folds write to it.

    Attributes:
        paused: how the run was paused; None if it isn't.
        paused_groups: how groups were paused, by their names.
        workers: how the number of workers was changed; None if that of the program holds.
        limits: how the limits of groups were changed, by their names; those with the program's own limit are left out.
    """

    paused: ev.RunPaused | None = None
    paused_groups: dict[str, ev.GroupPaused] = {}
    workers: ev.RunWorkersChanged | None = None
    limits: dict[str, ev.GroupLimitChanged] = {}

    def apply(self, event: Event) -> None:
        """Fold `event`, which must follow those applied so far, and may be of any type."""
        match event:
            case ev.RunStarted():  # RunResumed is one
                if self.workers is not None and (event.cluster or event.num_workers != self.workers.program):
                    self.workers = None
            case ev.RunPaused():
                self.paused = event
            case ev.RunUnpaused():
                self.paused = None
            case ev.GroupPaused():
                self.paused_groups[event.group] = event
            case ev.GroupUnpaused():
                self.paused_groups.pop(event.group, None)
            case ev.RunWorkersChanged():
                self.workers = event if event.num_workers != event.program else None
            case ev.GroupLimitChanged() if event.is_default:
                self.limits.pop(event.group, None)
            case ev.GroupLimitChanged():
                before = self.limits.get(event.group)
                if before is not None and before.program is None and event.program is not None:
                    # After a command on a run without a process, its resume adds the program's limit: that is no new setting.
                    known = msgspec.structs.replace(before, program=event.program)
                    if msgspec.structs.replace(known, seq=event.seq, at=event.at) == event:
                        event = known
                self.limits[event.group] = event
            case _:
                pass

    @property
    def events(self) -> list[ev.RunPaused | ev.GroupPaused | ev.RunWorkersChanged | ev.GroupLimitChanged]:
        """The events by which it was set, in their order."""
        run = [event for event in (self.paused, self.workers) if event is not None]
        return sorted([*run, *self.paused_groups.values(), *self.limits.values()], key=lambda event: event.seq)

    def copy(self) -> "InForce":
        """Return an independent copy."""
        return InForce(self.paused, self.paused_groups.copy(), self.workers, self.limits.copy())


class Sample(msgspec.Struct, frozen=True):
    """Counters at one moment, from which rates are taken.

    Attributes:
        at: Unix time in seconds.
        enqueued: items announced until then, by type.
        completed: items completed until then, by type.
    """

    at: float
    enqueued: dict[str, int]
    completed: dict[str, int]


class Shares(msgspec.Struct, frozen=True):
    """What the time of a run was spent on: shares from 0 to 1.

    The first five exclude each other. What they leave is time of which the events don't tell a reason: items start and end
    faster than the fold looks, all workers are busy and nothing waits, or the run begins or stops. The last two are apart from
    them: items may run while the loop is blocked.

    Attributes:
        of_s: the time of which these are shares, seconds; 0 before the run.
        paused: a person had paused the run.
        limited: items waited while workers were idle, and a limit, `slow_down` or a paused group held some of them back.
        retrying: nothing was queued or running, and items waited for a retry.
        empty: workers were idle because nothing was queued, and other workers were busy.
        busy: all workers were busy, and items waited.
        blocked: a call of the user's code blocked the event loop; at least, as far as it was seen. See `LoopBlocked`.
        held_up: the run waited for the journal or a reporter. See `RunHeldUp`.
    """

    of_s: float = 0.0
    paused: float = 0.0
    limited: float = 0.0
    retrying: float = 0.0
    empty: float = 0.0
    busy: float = 0.0
    blocked: float = 0.0
    held_up: float = 0.0


class _Mark(msgspec.Struct, frozen=True):
    """Totals at one moment: the time, items enqueued, and what each activity had taken of the whole run, seconds."""

    at: float
    enqueued: int
    spent_s: dict[_Activity, float]


class _Account(msgspec.Struct):
    """What a run's time was spent on, as far as events tell. Only `RunView` uses it.

    Attributes:
        at: until when the time of the present process is accounted for, Unix time in seconds.
        spent_s: what each activity has taken of the whole run so far, seconds.
        marks: the totals every few seconds of the last minute of the present process, and one before it.
        blocks, holds: the delays of the last minute of the present process.
        blocked_s, held_s: what the delays of the whole run come to, seconds.
        given: how many items had been enqueued before the first one started in the present process.
        next_mark_at: when to make the next mark.
    """

    at: float = 0.0
    spent_s: dict[_Activity, float] = {}
    marks: list[_Mark] = []
    blocks: list[ev.LoopBlocked] = []
    holds: list[ev.RunHeldUp] = []
    blocked_s: float = 0.0
    held_s: float = 0.0
    given: int = 0
    next_mark_at: float = math.inf

    def copy(self) -> "_Account":
        """Return an independent copy."""
        return _Account(
            self.at,
            self.spent_s.copy(),
            self.marks.copy(),
            self.blocks.copy(),
            self.holds.copy(),
            self.blocked_s,
            self.held_s,
            self.given,
            self.next_mark_at,
        )

    def begin(self, at: float, enqueued: int) -> None:
        """Begin a process at the Unix time `at`."""
        self.at = at
        self.given = enqueued
        self.next_mark_at = at + _MARK_INTERVAL_S
        self.marks = [_Mark(at, enqueued, self.spent_s.copy())]
        self.blocks.clear()
        self.holds.clear()

    def spend(self, activity: _Activity | None, until: float) -> None:
        """Account for the time until the Unix time `until`, in which the run did `activity`, or something unknown."""
        if until > self.at:
            if activity is not None:
                self.spent_s[activity] = self.spent_s.get(activity, 0.0) + until - self.at
            self.at = until

    def mark(self, enqueued: int) -> None:
        """Keep the present totals."""
        marks = self.marks
        self.next_mark_at = self.at + _MARK_INTERVAL_S
        marks.append(_Mark(self.at, enqueued, self.spent_s.copy()))
        old = next(index for index, mark in enumerate(marks) if mark.at >= self.at - SHARES_WINDOW_S)
        del marks[: max(old - 1, 0)]

    def delay(self, event: ev.LoopBlocked | ev.RunHeldUp) -> None:
        """Note a delay that `event` tells."""
        kept: list[ev.LoopBlocked] | list[ev.RunHeldUp]
        if isinstance(event, ev.LoopBlocked):
            self.blocked_s += event.duration_s
            self.blocks.append(event)
            kept = self.blocks
        else:
            self.held_s += event.duration_s
            self.holds.append(event)
            kept = self.holds
        old = next(index for index, one in enumerate(kept) if one.at >= event.at - SHARES_WINDOW_S)
        del kept[: max(old, len(kept) - _MAX_DELAYS)]

    def base(self, at: float, now: _Mark) -> _Mark:
        """Return the totals as they were at the Unix time `at`, or at the beginning of the process if that is later.

        Parameters:
            at: the beginning of a window.
            now: the totals at its end.
        """
        before = self.marks[0]
        for after in (*self.marks[1:], now):
            if after.at > at:
                break
            before = after
        else:
            return before
        if before.at >= at:
            return before
        share = (at - before.at) / (after.at - before.at)
        spent_s = {
            activity: (1 - share) * before.spent_s.get(activity, 0.0) + share * total_s
            for activity, total_s in after.spent_s.items()
        }
        # Nearly all that was enqueued between the two was so soon after the first: marks are made at events.
        return _Mark(at, after.enqueued, spent_s)


class RunView(msgspec.Struct, kw_only=True):
    """A run as it stands after the events applied so far.

    A pure fold: the same events give an equal view, in however many calls they are applied. Reporters get it with each
    batch and must not change it.

    Attributes:
        state: ``new`` before the first event, then ``running``, ``stopping`` once no more items are taken, ``finished``.
        run_id: identifies the run.
        num_workers: how many workers it has; with a cluster, those of the present worker processes, 0 at first. Workers with
            higher numbers may still be running their last item.
        queue_type_name: ``queue``, ``stack`` or ``priority``.
        cluster: the address of the cluster's scheduler; empty if items run in the run's own process.
        processes: the present worker processes of the cluster, by the number of their first worker.
        seq: the number of the last event applied; 0 before the first.
        at: the time of the last event applied, Unix time in seconds.
        started_at: when this process began or resumed the run, Unix time in seconds.
        earlier_s: how long earlier processes of the run took in all, seconds.
        stop_reason: why it is stopping; empty if it is not.
        cancelling: whether the running items are being cancelled.
        status: how its last process ended; None before that. A person's command on a run without a process may change it:
            to ``interrupted`` if something is outstanding again, or if that process had crashed. If all that had failed was
            skipped, to ``completed``, or to ``interrupted`` if the process had stopped early: hooks may be left.
        types: each item type that was announced, in the order of the first announcement.
        running: what each busy worker is running, by the worker's number. Items of a worker process that is gone stay
            until their hook has ended, or until an event says that they were interrupted.
        failures: the latest failures, at most 20, the oldest first, without those of items that run again or were skipped.
        failed_reporters: the reporters that were detached.
        deduplicated_roots: how many initial items were dropped as duplicates; known once a process has ended.
        groups: how many of the queued items wait in each group; those without a group are not counted.
        limits: the limits that have kept items waiting in this process, by group. At most 10,000: the next one removes them all.
        pauses: until when groups are slowed down, Unix time in seconds; those that are past may still be there.
        in_force: what people have set by commands and still holds: pauses, the number of workers, limits.
    """

    state: Literal["new", "running", "stopping", "finished"] = "new"
    run_id: str = ""
    num_workers: int = 0
    queue_type_name: str = ""
    cluster: str = ""
    processes: WorkerProcesses = msgspec.field(default_factory=WorkerProcesses)
    seq: int = 0
    at: float = 0.0
    started_at: float = 0.0
    earlier_s: float = 0.0
    stop_reason: str = ""
    cancelling: bool = False
    status: RunStatus | None = None
    types: dict[str, TypeView] = {}
    running: dict[int, RunningItem] = {}
    failures: list[ItemFailed] = []
    failed_reporters: list[ev.ReporterFailed] = []
    deduplicated_roots: int = 0
    groups: dict[str, int] = {}
    limits: dict[str, ev.GroupLimitKnown] = {}
    pauses: dict[str, float] = {}
    in_force: InForce = msgspec.field(default_factory=InForce)
    _ended_at: float = 0.0  # when the present process ended, as far as is known; 0 while it continues
    _sweep_pauses_at: int = _MIN_SWEPT
    _account: _Account = msgspec.field(default_factory=_Account)
    _samples: list[Sample] = []
    _next_sample_at: float = 0.0
    _has_started: bool = False  # whether an item has, in this process
    _hook_types: set[str] = set()  # whose hooks have begun
    # What waits for a retry, and until when: 170 bytes each, measured. The heap keeps those that no longer wait until they
    # reach its top or are too many. It changes only with events, so that looking at the view leaves it equal.
    _waits: dict[int, float] = {}
    _dues: list[tuple[float, int]] = []

    def copy(self) -> "RunView":
        """Return an independent copy: applying events to either doesn't change the other."""
        twin = copy(self)
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, dict | list | set):
                setattr(twin, name, value.copy())
        twin.in_force = self.in_force.copy()
        twin._account = self._account.copy()  # noqa: SLF001
        twin.types = {name: copy(type) for name, type in self.types.items()}
        twin.running = {worker: copy(item) for worker, item in self.running.items()}
        return twin

    def apply(self, events: Iterable[Event]) -> None:  # noqa: C901, PLR0912, PLR0915  # one loop
        """Fold `events`, which must follow those applied so far, into the view.

        One loop over local names, the most frequent types first: this runs once for every event of a run.
        """
        types, running, waits = self.types, self.running, self._waits
        next_sample_at, has_started = self._next_sample_at, self._has_started
        # The attempt that began last, and its type. It mostly ends before anything else happens, and then was never in
        # `running`: to put it there and to take it out took 180 ns.
        started: ItemStarted | None = None
        of_started = _NO_TYPE
        text = ""
        enqueued_type: str | None = None
        of_enqueued = _NO_TYPE
        before: Event | None = None
        event: Event | None = None
        for event in events:
            if type(event) is ItemStarted:
                if started is not None:
                    self._note_started(started, text)
                # A gap between two events often ends with a start, and what follows it would blur why there was one.
                if event.at >= next_sample_at or not has_started:
                    if not has_started:
                        # Rates are taken from here on: initial items, all announced before, were given, not found.
                        self._has_started = has_started = True
                        self._samples.clear()
                        self._account.given = self.counts.enqueued
                    next_sample_at = self._sample(event.at, None)
                started, text = event, ""
                of_started = types[event.type]
                waited = waits and self._end_wait(event.item, of_started)
                if event.phase != "process":
                    self._hook_types.add(event.type)
                elif not waited:
                    of_started.queued -= 1
                    if event.group is not None:
                        self._leave_group(event.group)
                if running:
                    running.pop(event.worker, None)
            elif type(event) is ItemDescribed:
                if started is not None and event.worker == started.worker:
                    text = event.text
                else:
                    running[event.worker].text = event.text
            elif type(event) is ItemCompleted:
                if event.at >= next_sample_at:
                    next_sample_at = self._sample(event.at, started)
                if started is not None and event.worker == started.worker:
                    started = None
                    view = of_started
                else:
                    view = types[running.pop(event.worker).type]
                    view.running -= 1
                view.completed += 1
                if event.deduplicated:
                    view.deduplicated += event.deduplicated
            elif type(event) is ItemEnqueued:
                if event.at >= next_sample_at:
                    next_sample_at = self._sample(event.at, started)
                if event.type != enqueued_type:
                    enqueued_type = event.type
                    of_enqueued = types.get(enqueued_type) or self._add_type(event)
                of_enqueued.enqueued += 1
                queued = of_enqueued.queued = of_enqueued.queued + 1
                if queued > of_enqueued.peak_queued:
                    of_enqueued.peak_queued = queued
                if event.group is not None:
                    self._enter_group(event.group)
            else:
                if started is not None:
                    self._note_started(started, text)
                    started = None
                previous_at = self.at if before is None else before.at
                if event.at >= next_sample_at:
                    if isinstance(
                        event, ev.RunStarted | ev.RunEdited
                    ):  # no process may have run since the event before
                        next_sample_at = event.at + SAMPLE_INTERVAL_S
                    else:
                        next_sample_at = self._sample(event.at, None)
                self._apply_rare(event, previous_at)
                has_started = self._has_started
            before = event
        if started is not None:
            self._note_started(started, text)
        self._next_sample_at = next_sample_at
        if event is not None:
            self.seq = event.seq
            self.at = event.at

    def _note_started(self, event: ItemStarted, text: str) -> None:
        self.types[event.type].running += 1
        self.running[event.worker] = RunningItem(
            event.item, event.type, event.worker, event.phase, event.attempt, event.at, text, event.group
        )

    def _add_type(self, event: ItemEnqueued) -> TypeView:
        view = self.types[event.type] = TypeView(event.type, event.track_overall)
        return view

    def _apply_rare(self, event: Event, previous_at: float) -> None:
        match event:
            case ev.RunStarted():  # RunResumed is one
                self._begin(event, previous_at)
            case ev.ItemChildrenProcessed() | ev.ItemChildrenFailed():
                # Nearly all are of items without a hook, for which `_take_out` would look at all running items.
                if event.type in self._hook_types and isinstance(event, ev.ItemChildrenProcessed):
                    self._take_out(event)
                if self._waits:
                    self._end_wait(event.item, self.types[event.type])
            case ItemFailed():
                self._fail(event)
            case ev.ItemRetryScheduled():
                self._retry_later(event)
            case ev.ItemInterrupted():
                self._interrupt(event)
            case ev.ItemReopened():
                self._reopen(event)
            case ev.ItemRegrouped() | ev.GroupLimitKnown() | ev.GroupSlowedDown():
                self._apply_group(event)
            case ev.ProcessJoined() if self.cluster:
                self.processes.join(event)
                self.num_workers = self.processes.num_workers
            case ev.ProcessLeft() if self.cluster:
                self.processes.leave(event)
                self.num_workers = self.processes.num_workers
            case ev.LoopBlocked() | ev.RunHeldUp():
                self._account.delay(event)
            case ev.RunStopping() | ev.RunFinished():
                self._end(event)
            case ev.ReporterFailed():
                self.failed_reporters.append(event)
            case _:
                self._apply_steering(event, previous_at)

    def _begin(self, event: ev.RunStarted, previous_at: float) -> None:
        if isinstance(event, ev.RunResumed) and self.started_at:
            self.earlier_s += (self._ended_at or previous_at) - self.started_at
        self._spend(previous_at)
        self._account.begin(event.at, self.counts.enqueued)
        self._ended_at = 0.0
        # Rates are of this process: the time before it must not count as idle time.
        self._samples.clear()
        self._sample(event.at, None)
        self._has_started = False
        self.state = "running"
        self.run_id = event.run_id
        self.cluster = event.cluster
        self.processes.clear()
        self.in_force.apply(event)
        workers = self.in_force.workers or event
        self.num_workers = 0 if event.cluster else workers.num_workers
        self.queue_type_name = event.queue_type_name
        self.started_at = event.at
        self.stop_reason = ""
        self.cancelling = False
        self.status = None
        self.deduplicated_roots = 0  # the initial items come again
        self.limits.clear()  # the program may have others now

    def _end(self, event: ev.RunStopping | ev.RunFinished) -> None:
        self._spend(event.at)
        if isinstance(event, ev.RunStopping):
            self.state = "stopping"
            self.stop_reason = event.reason
            self.cancelling = event.cancelling
        else:
            self.state = "finished"
            self.status = event.status
            self._ended_at = event.at
            self.deduplicated_roots = event.counts.deduplicated - self.counts.deduplicated

    def _fail(self, event: ItemFailed) -> None:
        view = self.types[event.type]
        one = self.running.get(event.worker)
        if one is not None and one.item == event.item:
            del self.running[event.worker]
            view.running -= 1
        else:  # it was cancelled while it waited
            self._leave_queue(event, view)
        view.failed += 1
        view.deduplicated += event.deduplicated
        if event.phase == "after_children":
            # Its `process` had completed; an item is counted once in the end.
            view.completed -= 1
        self.failures.append(event)
        del self.failures[:-_MAX_FAILURES]

    def _take_back_failure(self, item: int) -> None:
        self.failures = [failure for failure in self.failures if failure.item != item]

    def _retry_later(self, event: ev.ItemRetryScheduled) -> None:
        item = self.running.pop(event.worker)
        view = self.types[item.type]
        view.running -= 1
        view.retried += 1
        view.waiting += 1
        self._wait(event.item, event.due)

    def _wait(self, item: int, due: float) -> None:
        self._waits[item] = due
        heappush(self._dues, (due, item))

    def _end_wait(self, item: int, view: TypeView) -> bool:
        """End the wait of `item`, whose type has `view`; return whether it waited."""
        waits = self._waits
        if waits.pop(item, None) is None:
            return False
        view.waiting -= 1
        self._tidy_dues()
        return True

    def _tidy_dues(self) -> None:
        waits, dues = self._waits, self._dues
        while dues and waits.get(dues[0][1]) != dues[0][0]:
            heappop(dues)
        if len(dues) > 2 * len(waits) + _MIN_STALE_DUES:
            dues[:] = [(due, waiting) for waiting, due in waits.items()]
            heapify(dues)

    def _leave_queue(self, event: ItemFailed | ev.ItemSkipped, view: TypeView) -> None:
        """Note that an item that waited, for a worker or for a retry, waits no longer."""
        if not self._end_wait(event.item, view) and event.phase == "process":
            view.queued -= 1
            if event.group is not None:
                self._leave_group(event.group)

    def _skip(self, event: ev.ItemSkipped) -> None:
        view = self.types[event.type]
        view.skipped += 1
        if event.had_failed:
            view.failed -= 1
            self._take_back_failure(event.item)
            if self.status == "failed" and not (counts := self.counts).failed:
                # A process that a failure stopped may have left hooks, which aren't among the outstanding items.
                self.status = "interrupted" if counts.outstanding or self.stop_reason else "completed"
        else:
            self._leave_queue(event, view)
            # Its `process` had completed if its hook was to run; an item is counted once in the end.
            view.completed -= event.phase == "after_children"

    def _reopen(self, event: ev.ItemReopened) -> None:
        view = self.types[event.type]
        self._end_wait(event.item, view)  # its hook ran in spite of a failure that will now run again
        if event.failed is not None:
            view.failed -= 1
            view.completed += event.failed == "after_children"
            self._take_back_failure(event.item)
        if event.rerun:
            view.skipped -= event.skipped
            view.completed -= not event.skipped
        if event.rerun or event.failed == "process":
            self._queue_again(view, event.group)
        if self.state == "finished":
            self.status = "interrupted"

    def _interrupt(self, event: ev.ItemInterrupted) -> None:
        item = self._take_out(event)
        if item is not None:
            view = self.types[item.type]
            view.interrupted += 1
            if item.phase == "process":
                self._queue_again(view, item.group)

    def _take_out(self, event: ev.ItemChildrenProcessed | ev.ItemInterrupted) -> RunningItem | None:
        """Remove and return the running item that `event` ends; None if no worker runs it."""
        worker = event.worker
        if not worker:  # as in older logs
            worker = next((number for number, one in self.running.items() if one.item == event.item), 0)
        item = self.running.get(worker)
        if item is None or item.item != event.item:
            return None
        del self.running[worker]
        self.types[item.type].running -= 1
        return item

    def _queue_again(self, view: TypeView, group: str | None) -> None:
        view.queued += 1
        view.peak_queued = max(view.peak_queued, view.queued)
        if group is not None:
            self._enter_group(group)

    def _enter_group(self, group: str) -> None:
        self.groups[group] = self.groups.get(group, 0) + 1

    def _leave_group(self, group: str) -> None:
        left = self.groups.get(group, 1) - 1  # a log may lack the event that counted it
        if left:
            self.groups[group] = left
        else:
            self.groups.pop(group, None)

    def _apply_steering(self, event: Event, previous_at: float) -> None:
        if isinstance(event, ev.RunPaused | ev.RunUnpaused | ev.GroupPaused | ev.GroupUnpaused):
            self._spend(event.at)
        self.in_force.apply(event)
        match event:
            case ev.ItemSkipped():
                self._skip(event)
            case ev.ItemRescheduled() if event.item in self._waits:
                self._wait(event.item, event.due)
                self._tidy_dues()
            case ev.RunWorkersChanged() if not self.cluster:
                self.num_workers = event.num_workers
            case ev.GroupLimitChanged():
                self.limits.pop(
                    event.group, None
                )  # `group.limit_known` comes again once the new one keeps an item waiting
            case ev.RunEdited():
                self._spend(previous_at)
                self._ended_at = self._ended_at or previous_at
                self.state = "finished"
                self.status = self.status or "interrupted"
            case _:
                pass

    def _apply_group(self, event: ev.ItemRegrouped | ev.GroupLimitKnown | ev.GroupSlowedDown) -> None:
        if isinstance(event, ev.ItemRegrouped):
            if event.item in self._waits:  # for a retry: it isn't queued
                return
            if event.before is not None:
                self._leave_group(event.before)
            if event.group is not None:
                self._enter_group(event.group)
        elif isinstance(event, ev.GroupLimitKnown):
            if len(self.limits) >= _MAX_LIMITS:
                self.limits.clear()
            self.limits[event.group] = event
        else:
            self.pauses[event.group] = max(event.due, self.pauses.get(event.group, 0.0))
            if len(self.pauses) >= self._sweep_pauses_at:
                self.pauses = {group: due for group, due in self.pauses.items() if due > event.at}
                self._sweep_pauses_at = max(_MIN_SWEPT, 2 * len(self.pauses))

    def _sample(self, at: float, started: ItemStarted | None) -> float:
        """Keep the counters as they are before an event at the Unix time `at`, and return when to do so again.

        Parameters:
            at: the time of the event.
            started: what was started before it and isn't in `running` yet.
        """
        types, samples, account = self.types, self._samples, self._account
        enqueued = {name: t.enqueued for name, t in types.items()}
        self._spend(at, started)
        if account.at >= account.next_mark_at:
            account.mark(sum(enqueued.values()))
        samples.append(Sample(at, enqueued, {name: t.completed for name, t in types.items()}))
        if len(samples) > _MAX_SAMPLES:
            del samples[:-_MAX_SAMPLES]
        return at + SAMPLE_INTERVAL_S

    def _spend(self, until: float, started: ItemStarted | None = None) -> None:
        """Account for the time until the Unix time `until`, in which the run stayed as it is now. See `_sample`."""
        if self.state in ("running", "stopping"):
            self._account.spend(self._activity(started), until)

    def _activity(self, started: ItemStarted | None = None) -> _Activity | None:
        """Return what the process does, or why it does nothing, as it is now; None if the events don't tell. See `Shares`."""
        if self.state != "running":
            return None
        if self.in_force.paused is not None:
            return "paused"
        busy = len(self.running) + (started is not None)
        queued = False
        for view in self.types.values():  # half of the time that `self.queued` takes
            if view.queued:
                queued = True
                break
        if busy >= self.num_workers:
            return "busy" if busy and queued else None
        if queued:
            return "limited" if next(self._held(self._account.at, started), None) is not None else None
        if busy:
            return "empty"
        return "retrying" if self._waits else None

    def _held(self, now: float, started: ItemStarted | None = None) -> Iterator[str]:
        """Yield the groups of which some items are held back at the Unix time `now`. See `_sample`."""
        groups, pauses, limits = self.groups, self.pauses, self.limits
        paused = self.in_force.paused_groups
        if not (pauses or limits or paused):
            return
        running = Counter(one.group for one in self.running.values())
        if started is not None:
            running[started.group] += 1
        for name in groups:
            if name in paused or pauses.get(name, 0.0) > now:
                yield name
            elif (limit := limits.get(name)) is not None:
                is_full = limit.concurrent is not None and running[name] >= limit.concurrent
                # Items may also wait for their parents, after a resume: only a rate can hold back a group of which
                # nothing runs.
                if is_full or limit.per_second is not None:
                    yield name

    @property
    def counts(self) -> Counts:
        """The counts of items so far, all types together."""
        counts = _sum(self.types.values())
        return msgspec.structs.replace(counts, deduplicated=counts.deduplicated + self.deduplicated_roots)

    @property
    def overall(self) -> Counts:
        """The same, only for the types with `track_overall`."""
        return _sum(t for t in self.types.values() if t.track_overall)

    @property
    def queued(self) -> int:
        """How many items wait to be started now, all types together."""
        return sum(t.queued for t in self.types.values())

    @property
    def waiting(self) -> int:
        """How many items failed and wait for a retry, all types together."""
        return len(self._waits)

    @property
    def next_due(self) -> float:
        """When the first of them may start again, Unix time in seconds; 0 if none waits.

        It may be past: then the item waits for a worker.
        """
        return self._dues[0][0] if self._waits else 0.0

    def shares(self, now: float, over: Literal["minute", "run"] = "minute") -> Shares:
        """Return what the time of the run was spent on until the Unix time `now`, or until its end.

        Times are told from the events around them, to about half a second: if items take less time than that, the shares are
        those of the moments at which the fold looked.

        Parameters:
            now: Unix time in seconds.
            over: ``minute`` for the last 60 s, or since this process began if that is later; ``run`` for all of the run,
                without the time between processes.
        """
        account = self._account
        if not self.started_at:
            return Shares()
        base, end = self._last_minute(now)
        if over == "run":
            return _shares(self.elapsed_s(now), end.spent_s, account.blocked_s, account.held_s)
        return _shares(
            end.at - base.at,
            {activity: total_s - base.spent_s.get(activity, 0.0) for activity, total_s in end.spent_s.items()},
            sum(one.duration_s for one in account.blocks if one.at > base.at),
            sum(one.duration_s for one in account.holds if one.at > base.at),
        )

    def _last_minute(self, now: float) -> tuple[_Mark, _Mark]:
        """Return the totals at the beginning of the last minute and at the Unix time `now`, or at the end of the process."""
        account = self._account
        at = self._ended_at or max(now, self.at)
        spent_s = account.spent_s.copy()
        activity = self._activity()
        if activity is not None and at > account.at:
            spent_s[activity] = spent_s.get(activity, 0.0) + at - account.at
        end = _Mark(at, self.counts.enqueued, spent_s)
        return account.base(at - SHARES_WINDOW_S, end), end

    def limited_by(self, now: float) -> str:
        """Return what limits the run at the Unix time `now`, as a sentence; empty if nothing does as far as events tell.

        It speaks of a running process only, and of shares of its last minute (see `shares`) once it has run for 5 s. What
        comes first in this list is said:

        - ``paused by anna@laptop: 611 waiting``: a person has paused the run.
        - ``limited by your code: parse (shop.py:40) blocks the event loop 62 % of the time``, with the call that took the most;
          ``held up by the disk 31 % of the time``, or ``by the reporter JsonlReporter``: the larger of these shares, if it is
          half or more. Nothing else would help as much.
        - ``limited by example.org: 2 at once, 611 waiting; 14 of 20 workers idle``, ``shop is paused, resumes in 27 s: 19
          waiting; …``, ``shop is paused by anna@laptop: 19 waiting; …``: workers are idle while items wait in a group that
          has reached its limit, that `slow_down` or a person paused. Of several groups it is the one in which most wait.
        - The same about code, disk and reporters, from a fifth on.
        - ``waiting for retries: 3 items, the next in 12 s``: nothing else is queued or running.
        - ``limited by discovery: the queue was empty 70 % of the last minute``: workers were idle half of the time or more, and
          a fifth of them are now, because the items that run must find more first; and they did find some within that time.
        - ``all 20 workers busy: more workers may help``: they were nine tenths of the time, and items wait that no limit holds
          back. On a cluster ``more worker processes``. They don't help if the CPU is what is busy: no event tells that.

        Names of groups, people and code are not made safe to show.
        """
        if self.state != "running":
            return ""
        if (paused := self.in_force.paused) is not None:
            return f"paused by {person(paused.by)}" + (f": {amount(self.queued)} waiting" if self.queued else "")
        shares = self.shares(now)
        if shares.of_s < _MIN_SHARE_S:
            shares = Shares()
        held = set(self._held(now)) if self.queued else set()
        idle = self.num_idle
        delay_share = max(shares.blocked, shares.held_up)
        if delay_share >= _MOST:
            return self._delay_words(shares)
        if held and idle:
            return f"{self._group_words(held, now)}; {amount(idle)} of {_workers(self.num_workers)} idle"
        if delay_share >= _NOTABLE:
            return self._delay_words(shares)
        if self._waits and not self.queued and not self.running:
            return self._retry_words(now)
        is_idle = idle >= _NOTABLE * self.num_workers
        if shares.empty >= _MOST and not self.queued and self.running and self._has_found(now) and is_idle:
            return f"limited by discovery: the queue was empty {_percent(shares.empty)} of {_window(shares)}"
        is_free = self.queued > sum(map(self.groups.__getitem__, held))
        if shares.busy >= _NEARLY_ALL and self.num_workers and not idle and is_free:
            all_busy = "the only worker is" if self.num_workers == 1 else f"all {_workers(self.num_workers)}"
            return f"{all_busy} busy: more {'worker processes' if self.cluster else 'workers'} may help"
        return ""

    def _has_found(self, now: float) -> bool:
        """Return whether items were enqueued in the last minute, other than the initial ones."""
        base, end = self._last_minute(now)
        return end.enqueued > max(base.enqueued, self._account.given)

    def _delay_words(self, shares: Shares) -> str:
        account = self._account
        if shares.held_up > shares.blocked:
            by, others = _longest((one.by, one.duration_s) for one in account.holds)
            name = "the disk" if by == "journal" else f"the reporter {by.rpartition(':')[2]}"
            return f"held up by {name}{others} {_percent(shares.held_up)} of the time"
        call, others = _longest((_call(one), one.duration_s) for one in account.blocks)
        verb = "block" if others else "blocks"
        return f"limited by your code: {call}{others} {verb} the event loop {_percent(shares.blocked)} of the time"

    def _group_words(self, held: set[str], now: float) -> str:
        name = max(sorted(held), key=self.groups.__getitem__)
        others = len(held) - 1
        waiting = f"{amount(min(self.groups[name], self.queued))} waiting"
        if others:
            waiting += f"; and {amount(others)} more groups" if others > 1 else "; and another group"
        if (by_person := self.in_force.paused_groups.get(name)) is not None:
            return f"{name} is paused by {person(by_person.by)}: {waiting}"
        due = self.pauses.get(name, 0.0)
        if due > now:
            return f"{name} is paused, resumes {when_due(due, now)}: {waiting}"
        limit = self.limits[name]
        return f"limited by {name}: {limit_words(limit.concurrent, limit.per_second)}, {waiting}"

    def _retry_words(self, now: float) -> str:
        next_due = f" {when_due(self.next_due, now)}" if self.next_due > now else ""
        if self.waiting == 1:
            return f"waiting for a retry: 1 item{next_due and f', due{next_due}'}"
        return f"waiting for retries: {amount(self.waiting)} items{next_due and f', the next{next_due}'}"

    @property
    def num_idle(self) -> int:
        """How many of the present workers are idle. Others may still run an item: those that retire, and hooks of lost ones."""
        running = self.running
        if self.cluster:  # not by a look at each worker: a made-up journal may say that there are 100 million
            return self.num_workers - sum(self.processes.of(worker) is not None for worker in running)
        return self.num_workers - sum(worker <= self.num_workers for worker in running)

    @property
    def workers(self) -> Iterator[int]:
        """The numbers of the workers that there are now, in their order."""
        return self.processes.workers if self.cluster else iter(range(1, self.num_workers + 1))

    def process_of(self, worker: int) -> WorkerProcess | None:
        """Return the worker process that has the worker numbered `worker`; None without a cluster, or if it is gone."""
        return self.processes.of(worker)

    def elapsed_s(self, now: float) -> float:
        """Return how long the run has taken at the Unix time `now`, seconds, without the time between processes."""
        if not self.started_at:
            return 0.0
        end = self._ended_at or max(now, self.at)
        return self.earlier_s + end - self.started_at

    def rate(self, now: float, of: Literal["completed", "enqueued"] = "completed", type: str | None = None) -> float:
        """Return how many items a second completed, or were enqueued, over the last 10 s before the Unix time `now`.

        Over a shorter time if this process has not run for 10 s yet, but at least 0.5 s. Once the run has finished,
        over the whole of its time.

        Parameters:
            now: Unix time in seconds.
            of: what to count.
            type: one item type, or None for all.
        """
        if not self._samples:
            return 0.0
        total: int = sum(getattr(t, of) for t in self.types.values() if type is None or t.type == type)
        if self.state == "finished":
            elapsed_s = self.elapsed_s(now)
            return total / elapsed_s if elapsed_s > 0 else 0.0
        end = max(now, self.at)
        base_total, base_at = self._base(end - RATE_WINDOW_S, of, type, total)
        # A hook that fails takes its item back from those that had completed.
        return max(total - base_total, 0) / max(end - base_at, SAMPLE_INTERVAL_S)

    def _base(self, at: float, of: str, type: str | None, total: int) -> tuple[int, float]:
        """Return the total as it was at the time `at`, or nearly then, and the time for which it is exact.

        Parameters:
            at: the beginning of the window, Unix time in seconds.
            of, type: see `rate`.
            total: as it is now.
        """
        after: Sample | None = None
        for sample in reversed(self._samples):
            if sample.at <= at:
                if at < sample.at + SAMPLE_INTERVAL_S:
                    return _sampled(sample, of, type), sample.at
                # A sample is taken before the first event that changes a count later than the interval after the one
                # before. So no count changed between the end of that interval and the next sample, or until now.
                return (total if after is None else _sampled(after, of, type)), at
            after = sample
        first = self._samples[0]
        return _sampled(first, of, type), first.at


def _sum(types: Iterable[TypeView]) -> Counts:
    counts = [t.counts for t in types]
    return Counts(*(sum(getattr(one, name) for one in counts) for name in Counts.__struct_fields__))


def _sampled(sample: Sample, of: str, type: str | None) -> int:
    by_type: dict[str, int] = getattr(sample, of)
    return sum(by_type.values()) if type is None else by_type.get(type, 0)


def _shares(of_s: float, spent_s: dict[_Activity, float], blocked_s: float, held_up_s: float) -> Shares:
    if of_s <= 0:
        return Shares()
    spent = {activity: _share(seconds, of_s) for activity, seconds in spent_s.items()}
    return Shares(of_s, blocked=_share(blocked_s, of_s), held_up=_share(held_up_s, of_s), **spent)


def _share(seconds: float, of_s: float) -> float:
    return min(max(seconds / of_s, 0.0), 1.0)  # a call may have begun to block before the window


def _longest(delays: Iterable[tuple[str, float]]) -> tuple[str, str]:
    """Return which name took the longest of all, and `` and others`` if there are any."""
    totals: dict[str, float] = {}
    for name, duration_s in delays:
        totals[name] = totals.get(name, 0.0) + duration_s
    return max(totals, key=totals.__getitem__), " and others" if len(totals) > 1 else ""


def _call(event: ev.LoopBlocked) -> str:
    """Return the function that blocked the loop and where: ``parse (shop.py:40)``."""
    place, _, function = event.where.partition(" in ")
    return f"{function or event.method} ({place})"


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _window(shares: Shares) -> str:
    return "the last minute" if shares.of_s >= SHARES_WINDOW_S else "the time so far"


def _workers(count: int) -> str:
    return f"{amount(count)} worker{'' if count == 1 else 's'}"
