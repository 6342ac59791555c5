"""A trace of a run for Perfetto and chrome://tracing: a track per worker, a slice per attempt, arrows to children.

The format is the Trace Event Format of the Chromium project, in its form of one JSON object.
"""

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from aqueue.events import (
    ErrorInfo,
    Event,
    GroupSlowedDown,
    ItemChildrenProcessed,
    ItemCompleted,
    ItemDescribed,
    ItemEnqueued,
    ItemFailed,
    ItemInterrupted,
    ItemRetryScheduled,
    ItemStarted,
    Phase,
    ProcessJoined,
    ProcessLeft,
    RunFinished,
    RunResumed,
    RunStarted,
    RunStopping,
)
from aqueue.log_lines import timestamp_of
from aqueue.text import visible
from aqueue.view import RunView, WorkerProcesses

__all__ = ["write_chrome_trace"]

SAMPLE_INTERVAL_S: Final = 0.1

# Times are whole eighths of a microsecond: finer than what a Unix time in a float can tell (0.24 µs), and exact both as
# binary fractions and in nanoseconds. So no importer's rounding makes an attempt begin before the one before it ended,
# which Perfetto would take for an error. What has one time the importers put in orders of their own, and where one attempt
# begins as another ends, an arrow may be taken to be of either. So the ends of arrows and the marks are always within
# their attempt, a tick from its ends at least; where the clock stood still, what follows is drawn that much later.
_TICKS_PER_MICROSECOND: Final = 8

# A process gets the first free multiple of this as its number and its workers those that follow: 1003 is worker 3 of the
# first process. Numbers are unique in the whole trace, and none is 0 (the idle thread) or that of its process (the
# main thread). The numbers of the operating system would not do: in containers each process is number 1. On a cluster,
# whose workers' numbers are given to other processes later on, each worker process and each worker gets the next number.
_NUMBERS_PER_PROCESS: Final = 1_000

_MAX_DESCRIPTIONS: Final = 10
_MAX_TEXT_CHARS: Final = 1_000
_CHUNK_EVENTS: Final = 1_000
_NOTHING: Final[Mapping[str, object]] = {}


def write_chrome_trace(batches: Iterable[Sequence[Event]], write: Callable[[bytes], object]) -> None:
    """Write a run as a trace in the JSON object form of the Trace Event Format.

    Each process of the run is one of the trace. An attempt is a slice on the track of its worker, of category ``process``
    or ``after_children``, with the item's particulars as its arguments; one that its process did not end is closed at the
    process's last event, with the outcome ``crash`` or, in the last process, ``running``. Each worker process of a cluster
    is one of the trace, too; hooks are drawn in the run's own process, where they run. An arrow leads from where a running
    item enqueued a child to the child's first start; of a child that did not start there is only its beginning. The
    counters ``queued``, ``running``, ``done`` and ``failed`` are taken at most every 100 ms, and at the end of each process
    of the run. Times are microseconds from the run's start. Payloads and results are left out.

    Memory: what the view of a run takes, that is by workers, their processes, types and items that wait for a retry; and
    8 bytes per item, by which retries, hooks and items of later processes know their parents: 8 MB for a million.

    Parameters:
        batches: the events of one run, in order, from ``run.started`` on.
        write: takes the next bytes of the file. It is called once a thousand events or so.

    Raises:
        Exception: what `batches` or `write` raises; what was written by then is no whole JSON, but both viewers read it.
    """
    trace = _Trace()
    encode = msgspec.json.Encoder().encode
    before = b""
    for batch in batches:
        for start in range(0, len(batch), _CHUNK_EVENTS):
            lines = trace.take(batch[start : start + _CHUNK_EVENTS])
            if lines:
                write((before or _header(trace)) + b",\n".join(map(encode, lines)))
                before = b",\n"
    lines = trace.end()
    write(((before or _header(trace)) if lines or not before else b"") + b",\n".join(map(encode, lines)) + b"\n]}\n")


def _header(trace: "_Trace") -> bytes:
    # All values are text: the format wants it so.
    return b'{"displayTimeUnit":"ms","otherData":' + msgspec.json.encode(trace.about) + b',"traceEvents":[\n'


class _Line(msgspec.Struct, gc=False, omit_defaults=True):
    """A trace event, by the format's names.

    Attributes:
        ph: its kind: ``X`` a whole slice, ``i`` an instant, ``C`` counters, ``s`` and ``f`` an arrow's ends, ``M`` a name.
        name: what is shown.
        pid: the process.
        tid: the thread, here a worker; that of the process itself for what concerns all of it.
        ts: when, microseconds from the run's start; not for ``M``.
        dur: how long, microseconds; for ``X``.
        cat: its category, by which viewers filter.
        id: what the two ends of an arrow share.
        bp: ``e``: the arrow ends at the slice that is then open, not at the next one.
        s: whom an instant concerns: ``t`` the thread, ``p`` the process.
        args: what else a viewer shows with it.
    """

    ph: str
    name: str
    pid: int
    tid: int
    ts: float | None = None
    dur: float | None = None
    cat: str = ""
    id: int = 0
    bp: str = ""
    s: str = ""
    args: dict[str, Any] | None = None


class _Tracks(msgspec.Struct, eq=False):
    """A process of the trace.

    Attributes:
        pid: its number.
        tids: the number of each of its workers of which something was drawn, by the worker's number in the run.
    """

    pid: int
    tids: dict[int, int]


class _Attempt(msgspec.Struct, gc=False, eq=False):
    """What a worker is at.

    Attributes:
        item, type, worker, phase, attempt: see `aqueue.events.ItemStarted`.
        parent: the number of the item's parent; 0 for an initial item.
        tick: when it started.
        pid, tid: the process and the thread of the trace on which it is drawn.
        latest: the tick of the latest thing that is drawn within it, or of its start.
        descriptions: its latest ones.
    """

    item: int
    type: str
    worker: int
    phase: Phase
    attempt: int
    parent: int
    tick: int
    pid: int
    tid: int
    latest: int
    descriptions: deque[str] | None = None


class _Trace:
    """Turns events into lines of a trace.

    Attributes:
        about: what is to be known of the run as a whole; there after the first event.
    """

    def __init__(self) -> None:
        self.about: dict[str, str] = {}
        self._lines: list[_Line] = []
        self._view = RunView()
        self._sample_at = 0.0
        self._started_at = 0.0
        self._last_tick = 0
        self._processes = 0
        self._is_open = False  # a process has begun, and has not ended
        self._own = _Tracks(0, {})
        self._last_number = 0
        self._on_cluster = False
        self._worker_processes = WorkerProcesses()
        self._tracks: dict[int, _Tracks] = {}  # by the first worker of a worker process that is there
        self._attempts: dict[int, _Attempt] = {}  # by worker
        self._worker_of: dict[int, int] = {}  # by running item
        self._names: dict[str, tuple[str, str]] = {}  # by type
        # Each item's parent; less than 0 while the beginning of an arrow waits for the item's first start. Of a log that lacks
        # items, those after the first gap are in the dict, since their numbers may be any.
        self._parents = array("q", [0])
        self._parents_after_gap: dict[int, int] = {}
        # Each handler takes the type that it is looked up by.
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            RunStarted: self._begin,
            RunResumed: self._begin,
            ItemEnqueued: self._enqueue,
            ItemStarted: self._start,
            ItemDescribed: self._describe,
            ItemCompleted: self._complete,
            ItemChildrenProcessed: self._end_hook,
            ItemFailed: self._fail,
            ItemRetryScheduled: self._retry_later,
            ItemInterrupted: self._interrupt,
            GroupSlowedDown: self._slow_down,
            ProcessJoined: self._join,
            ProcessLeft: self._leave,
            RunStopping: self._stop,
            RunFinished: self._finish,
        }

    def take(self, events: Sequence[Event]) -> list[_Line]:
        """Return the lines that `events` give, which must follow those taken so far."""
        handlers, view = self._handlers, self._view
        applied = 0
        for number, event in enumerate(events):
            is_due = event.at >= self._sample_at
            if is_due or isinstance(event, RunStarted | RunFinished):
                view.apply(events[applied:number])
                applied = number
                if is_due and self._is_open and not isinstance(event, RunStarted):
                    self._sample(event.at)
            handler = handlers.get(type(event))
            if handler is not None:
                handler(event)
            self._tick(event.at)
        view.apply(events[applied:])
        return self._drain()

    def end(self) -> list[_Line]:
        """Return the lines that are still due when there are no more events."""
        if self._is_open:
            self._close_process("running")
        return self._drain()

    def _drain(self) -> list[_Line]:
        lines, self._lines = self._lines, []
        return lines

    def _tick(self, at: float) -> int:
        """Return the tick of a time, but none that is before what has been drawn."""
        self._last_tick = max(self._last_tick, round((at - self._started_at) * (_TICKS_PER_MICROSECOND * 1_000_000)))
        return self._last_tick

    def _tick_within(self, attempt: _Attempt, at: float) -> int:
        """Return the tick at which what happened at a time is drawn within an attempt that runs."""
        attempt.latest = self._last_tick = max(self._tick(at), attempt.tick + 1)
        return attempt.latest

    # ---- processes ----------------------------------------------------------------------------------------------

    def _begin(self, event: RunStarted) -> None:
        if self._is_open:
            self._instant("crash", self._last_tick, self._own.pid, self._own.pid)
            self._close_process("crash")
        if not self._processes:
            self._started_at = event.at
            self.about = {
                "run": visible(event.run_id),
                "started": timestamp_of(event.at),
                "aqueue": visible(event.aqueue_version),
                "queue": visible(event.queue_type_name),
            }
        self._processes += 1
        self._is_open = True
        self._on_cluster = bool(event.cluster)
        self._worker_processes.clear()
        self._tracks.clear()
        self._last_number = (self._last_number // _NUMBERS_PER_PROCESS + 1) * _NUMBERS_PER_PROCESS
        self._own = _Tracks(self._last_number, {})
        name = f"process {self._processes} (pid {event.pid} on {event.host})"
        self._name("process", self._own.pid, self._own.pid, visible(name, _MAX_TEXT_CHARS), self._processes)
        if self._processes == 1:
            self._count(0)
        # A resumed run counts as running what the crash cut off, until it has said that it was.
        self._sample_at = event.at + SAMPLE_INTERVAL_S

    def _finish(self, event: RunFinished) -> None:
        self._tick(event.at)
        self._close_process("running")

    def _close_process(self, outcome: str) -> None:
        for worker in list(self._attempts):
            self._end(worker, self._last_tick, outcome)
        # A viewer draws the last value on and on, and nothing runs in a process that is no more.
        self._count(self._last_tick, still_running=outcome != "crash")
        self._is_open = False

    def _join(self, event: ProcessJoined) -> None:
        if not self._on_cluster:
            return
        self._worker_processes.join(event)
        self._last_number += 1
        tracks = self._tracks[event.first_worker] = _Tracks(self._last_number, {})
        name = f"{visible(event.host, _MAX_TEXT_CHARS)}:{event.pid}"
        self._name("process", tracks.pid, tracks.pid, name, self._processes)

    def _leave(self, event: ProcessLeft) -> None:
        if self._worker_processes.leave(event) is not None:
            pid = self._tracks.pop(event.first_worker).pid
            args = {"ignored": event.ignored} if event.ignored else None
            self._instant(f"process {event.reason}", self._tick(event.at), pid, pid, args)

    def _stop(self, event: RunStopping) -> None:
        self._mark("run stopping", event.at, reason=visible(event.reason, _MAX_TEXT_CHARS), cancelling=event.cancelling)

    # ---- attempts -----------------------------------------------------------------------------------------------

    def _enqueue(self, event: ItemEnqueued) -> None:
        parent = event.parent
        worker = self._worker_of.get(parent)
        marked = parent if worker is None else -parent
        if event.item == len(self._parents):
            self._parents.append(marked)
        else:
            self._parents_after_gap[event.item] = marked
        if worker is None:
            return
        self._arrow("s", event.item, worker, self._tick_within(self._attempts[worker], event.at))

    def _start(self, event: ItemStarted) -> None:
        parents = self._parents if event.item < len(self._parents) else self._parents_after_gap
        parent = parents[event.item]
        if parent < 0:
            parents[event.item] = -parent
        worker = event.worker
        tick = self._tick(event.at)
        pid, tid = self._track_of(event)
        attempt = self._attempts[worker] = _Attempt(
            event.item, event.type, worker, event.phase, event.attempt, abs(parent), tick, pid, tid, tick
        )
        if parent < 0:
            self._arrow("f", event.item, worker, self._tick_within(attempt, event.at), bp="e")
        self._worker_of[event.item] = worker

    def _track_of(self, event: ItemStarted) -> tuple[int, int]:
        """Return the process and the thread on which an attempt is drawn; name them if that was not done before."""
        worker = event.worker
        process = self._worker_processes.of(worker) if event.phase == "process" else None
        tracks = self._tracks[process.first_worker] if process is not None else self._own
        tid = tracks.tids.get(worker)
        if tid is None:
            tid = self._last_number + 1 if self._on_cluster else tracks.pid + worker
            tracks.tids[worker] = tid
            self._last_number = max(self._last_number, tid)
            self._name("thread", tracks.pid, tid, f"worker {worker}", worker)
        return tracks.pid, tid

    def _describe(self, event: ItemDescribed) -> None:
        attempt = self._attempts[event.worker]
        if attempt.descriptions is None:
            attempt.descriptions = deque(maxlen=_MAX_DESCRIPTIONS)
        attempt.descriptions.append(event.text)

    def _complete(self, event: ItemCompleted) -> None:
        more = {"deduplicated": event.deduplicated} if event.deduplicated else {}
        self._end(event.worker, self._tick(event.at), "completed", more, event.duration_s)

    def _end_hook(self, event: ItemChildrenProcessed) -> None:
        if event.item in self._worker_of:  # not all have a hook
            self._end(event.worker, self._tick(event.at), "completed")

    def _fail(self, event: ItemFailed) -> None:
        self._end(event.worker, self._tick(event.at), "failed", _error(event.error), event.duration_s)

    def _retry_later(self, event: ItemRetryScheduled) -> None:
        due_in_s = round(event.due - event.at, 6)
        self._mark("retry scheduled", event.at, event.worker, item=event.item, due_in_s=due_in_s)
        self._end(event.worker, self._tick(event.at), "retry_scheduled", _error(event.error))

    def _interrupt(self, event: ItemInterrupted) -> None:
        if event.item not in self._worker_of:  # a crash, which has its own mark, in the process that it ended
            return
        self._mark("interrupted", event.at, event.worker, item=event.item, reason=event.reason)
        self._end(event.worker, self._tick(event.at), "interrupted", {"reason": event.reason})

    def _slow_down(self, event: GroupSlowedDown) -> None:
        group = visible(event.group, _MAX_TEXT_CHARS)
        due_in_s = round(event.due - event.at, 6)
        # Not on the worker's track: Perfetto would take it for the beginning of the arrows that follow.
        self._mark("group slowed down", event.at, item=event.item, group=group, due_in_s=due_in_s)

    def _end(
        self,
        worker: int,
        tick: int,
        outcome: str,
        more: Mapping[str, object] = _NOTHING,
        duration_s: float | None = None,
    ) -> None:
        """Write the slice of what `worker` is at."""
        attempt = self._attempts.pop(worker)
        del self._worker_of[attempt.item]
        end = self._last_tick = max(tick, attempt.latest + 1)
        short, full = self._name_of(attempt.type)
        if duration_s is None:
            duration_s = (end - attempt.tick) / (_TICKS_PER_MICROSECOND * 1_000_000)
        args = {
            "item": attempt.item,
            "type": full,
            "parent": attempt.parent,
            "phase": attempt.phase,
            "attempt": attempt.attempt,
            "outcome": outcome,
            "duration_s": duration_s,
            **more,
        }
        if attempt.descriptions:
            args["descriptions"] = [visible(text, _MAX_TEXT_CHARS) for text in attempt.descriptions]
        self._lines.append(
            _Line(
                "X",
                short,
                attempt.pid,
                attempt.tid,
                attempt.tick / _TICKS_PER_MICROSECOND,
                (end - attempt.tick) / _TICKS_PER_MICROSECOND,
                attempt.phase,
                args=args,
            )
        )

    def _name_of(self, type: str) -> tuple[str, str]:
        """Return an item type's class name and its full name, both safe to show."""
        names = self._names.get(type)
        if names is None:
            full = visible(type, _MAX_TEXT_CHARS)
            names = self._names[type] = (full.rpartition(":")[2] or full or "item", full)
        return names

    # ---- lines --------------------------------------------------------------------------------------------------

    def _name(self, what: str, pid: int, tid: int, name: str, position: int) -> None:
        self._lines.append(_Line("M", f"{what}_name", pid, tid, args={"name": name}))
        self._lines.append(_Line("M", f"{what}_sort_index", pid, tid, args={"sort_index": position}))

    def _arrow(self, ph: str, item: int, worker: int, tick: int, bp: str = "") -> None:
        ts = tick / _TICKS_PER_MICROSECOND
        attempt = self._attempts[worker]
        self._lines.append(_Line(ph, "child", attempt.pid, attempt.tid, ts, None, "child", item, bp))

    def _mark(self, name: str, at: float, worker: int = 0, **args: Any) -> None:
        """Mark a moment: within what `worker` is at, or, with worker 0, in the run's own process."""
        if worker:
            attempt = self._attempts[worker]
            self._instant(name, self._tick_within(attempt, at), attempt.pid, attempt.tid, args)
        else:
            self._instant(name, self._tick(at), self._own.pid, self._own.pid, args)

    def _instant(self, name: str, tick: int, pid: int, tid: int, args: dict[str, Any] | None = None) -> None:
        scope, cat = ("p", "run") if tid == pid else ("t", "item")
        self._lines.append(_Line("i", name, pid, tid, tick / _TICKS_PER_MICROSECOND, None, cat, s=scope, args=args))

    def _sample(self, at: float) -> None:
        """Write what was counted at the end of the interval, and begin the next one, at `at` if nothing was in between."""
        self._count(self._tick(self._sample_at))
        due = self._sample_at + SAMPLE_INTERVAL_S
        self._sample_at = at + SAMPLE_INTERVAL_S if at >= due else due

    def _count(self, tick: int, still_running: bool = True) -> None:
        view, counts = self._view, self._view.counts
        args = {
            "queued": view.queued,
            "running": len(view.running) if still_running else 0,
            "done": counts.completed,
            "failed": counts.failed,
        }
        self._lines.append(_Line("C", "items", self._own.pid, self._own.pid, tick / _TICKS_PER_MICROSECOND, args=args))


def _error(error: ErrorInfo) -> dict[str, str]:
    return {
        "error_type": visible(error.type, _MAX_TEXT_CHARS),
        "error_message": visible(error.message, _MAX_TEXT_CHARS),
    }
