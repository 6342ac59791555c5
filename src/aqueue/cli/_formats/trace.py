"""A trace of a run for Perfetto and chrome://tracing: a track per worker, a slice per attempt, arrows to children.

The format is the Trace Event Format of the Chromium project, in its form of one JSON object.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from aqueue import events as ev
from aqueue.log_lines import timestamp_of
from aqueue.text import visible
from aqueue.view import RunView, WorkerProcesses

__all__ = ["write_chrome_trace"]

SAMPLE_INTERVAL_S: Final = 0.1

# Times are whole eighths of a microsecond: finer than the resolution of a Unix time in a float (0.24 µs), and exact both as
# binary fractions and in nanoseconds. So no rounding makes an attempt begin before the one before it ended, which Perfetto
# reports as an error. Importers order events of the same time in their own ways, and where one attempt begins as another
# ends, they may attach an arrow to either. So the ends of arrows are within their attempt, at least a tick from its ends;
# where the clock stood still, what follows is drawn that much later.
_TICKS_PER_MICROSECOND: Final = 8

_MAX_TEXT_CHARS: Final = 1_000
_CHUNK_EVENTS: Final = 1_000


def write_chrome_trace(batches: Iterable[Sequence[ev.Event]], write: Callable[[bytes], object]) -> None:
    """Write a run as a trace in the JSON object form of the Trace Event Format.

    Each process of the run is one of the trace. An attempt is a slice on the track of its worker, of category ``process``
    or ``after_children``, with the item's particulars as its arguments; one that its process did not end is closed at the
    process's last event, with the outcome ``crash`` or, in the last process, ``running``. Each worker process of a cluster
    is one of the trace, too; hooks are drawn in the run's own process, where they run. An arrow leads from where a running
    item enqueued a child to the child's first start; of a child that did not start there is only its beginning. The
    counters ``queued``, ``running``, ``completed``, ``failed`` and ``skipped`` are taken at most every 100 ms, and at the end of
    each process of the run. What people did to items of a running process is marked. Times are microseconds from the run's start. Payloads and results are left out.

    Memory: what the view of a run takes, and the numbers of the items that wait for their first start.

    Parameters:
        batches: the events of one run, in order, from ``run.started`` on.
        write: takes the next bytes of the file. It is called about once per thousand events.

    Raises:
        Exception: what `batches` or `write` raises; what was written by then is incomplete JSON, which both viewers read.
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
    # The format requires that all values are text.
    return b'{"displayTimeUnit":"ms","otherData":' + msgspec.json.encode(trace.about) + b',"traceEvents":[\n'


class _Tracks(msgspec.Struct, eq=False):
    """A process of the trace: its number, and the thread number of each worker that was drawn, by the worker's number."""

    pid: int
    tids: dict[int, int]


class _Attempt(msgspec.Struct, gc=False, eq=False):
    """What a worker runs.

    Attributes:
        started: its start.
        pid, tid: the process and the thread of the trace on which it is drawn.
        tick: when it started.
        latest: the tick of the latest end of an arrow in it, or of its start.
        text: its latest description.
    """

    started: ev.ItemStarted
    pid: int
    tid: int
    tick: int
    latest: int
    text: str = ""


class _Trace:
    """Turns events into lines of a trace, which are JSON objects with the keys that the format gives them.

    Attributes:
        about: facts about the whole run; filled in by the first event.
    """

    def __init__(self) -> None:
        self.about: dict[str, str] = {}
        self._lines: list[dict[str, Any]] = []
        self._view = RunView()
        self._sample_at = 0.0
        self._started_at = 0.0
        self._last_tick = 0
        # Processes and workers share one sequence of numbers. The system's won't do: in containers each process is number 1.
        # 0 is the idle thread, and a process's own number its main thread, so that no worker may have either.
        self._last_number = 0
        self._processes = 0
        self._is_open = False  # a process has begun, and has not ended
        self._own = _Tracks(0, {})
        self._on_cluster = False
        self._worker_processes = WorkerProcesses()
        self._tracks: dict[int, _Tracks] = {}  # by the first worker of a worker process that is there
        self._attempts: dict[int, _Attempt] = {}  # by worker
        self._worker_of: dict[int, int] = {}  # by running item
        self._arrows: set[int] = set()  # the items whose arrow has a beginning and no end yet

    def take(self, events: Sequence[ev.Event]) -> list[dict[str, Any]]:
        """Return the lines for `events`, which must follow those before."""
        view = self._view
        applied = 0
        for number, event in enumerate(events):
            is_due = event.at >= self._sample_at
            if is_due or isinstance(event, ev.RunStarted | ev.RunFinished):
                view.apply(events[applied:number])
                applied = number
                if is_due and self._is_open and not isinstance(event, ev.RunStarted):
                    self._sample(event.at)
            self._draw(event)
            self._tick(event.at)
        view.apply(events[applied:])
        return self._drain()

    def end(self) -> list[dict[str, Any]]:
        """Return the last lines, once there are no more events."""
        if self._is_open:
            self._close_process("running")
        return self._drain()

    def _drain(self) -> list[dict[str, Any]]:
        lines, self._lines = self._lines, []
        return lines

    def _tick(self, at: float) -> int:
        """Return the tick of a time, but never an earlier one than the last that was drawn."""
        self._last_tick = max(self._last_tick, round((at - self._started_at) * (_TICKS_PER_MICROSECOND * 1_000_000)))
        return self._last_tick

    def _draw(self, event: ev.Event) -> None:
        at = event.at
        match event:
            case ev.ItemEnqueued():
                worker = self._worker_of.get(event.parent)
                if worker is not None:
                    self._arrows.add(event.item)
                    self._arrow("s", event.item, self._attempts[worker], at)
            case ev.ItemStarted():
                self._start(event)
            case ev.ItemDescribed():
                self._attempts[event.worker].text = event.text
            case ev.ItemCompleted():
                more = {"deduplicated": event.deduplicated} if event.deduplicated else None
                self._end(event.worker, self._tick(at), "completed", more, event.duration_s)
            case _:
                self._draw_rare(event, at)

    def _draw_rare(self, event: ev.Event, at: float) -> None:
        match event:
            case ev.ItemChildrenProcessed():
                if event.item in self._worker_of:  # not all have a hook
                    self._end(event.worker, self._tick(at), "completed")
            case ev.ItemFailed() if event.item in self._worker_of:  # else it was cancelled while it waited
                self._end(event.worker, self._tick(at), "failed", _error(event.error), event.duration_s)
            case ev.ItemRetryScheduled():
                due_in_s = round(event.due - at, 6)
                self._end(
                    event.worker, self._tick(at), "retry_scheduled", {**_error(event.error), "due_in_s": due_in_s}
                )
            case ev.ItemInterrupted():
                if event.item in self._worker_of:  # after a crash it has ended with its process
                    self._end(event.worker, self._tick(at), "interrupted", {"reason": event.reason})
            case ev.RunStarted():  # RunResumed is one
                self._begin(event)
            case ev.RunEdited():
                self._close_crashed()
            case ev.RunFinished():
                self._tick(at)
                self._close_process("running")
            case ev.ProcessJoined() if self._on_cluster:
                self._worker_processes.join(event)
                name = f"{visible(event.host, _MAX_TEXT_CHARS)}:{event.pid}"
                self._tracks[event.first_worker] = self._new_process(name)
            case ev.ProcessLeft():
                if self._worker_processes.leave(event) is not None:
                    args = {"ignored": event.ignored} if event.ignored else {}
                    self._mark(f"process {event.reason}", at, self._tracks.pop(event.first_worker), **args)
            case _:
                self._draw_mark(event, at)

    def _draw_mark(self, event: ev.Event, at: float) -> None:
        match event:
            case ev.GroupSlowedDown():
                group, due_in_s = visible(event.group, _MAX_TEXT_CHARS), round(event.due - at, 6)
                self._mark("group slowed down", at, item=event.item, group=group, due_in_s=due_in_s)
            case ev.RunSteered() if (
                self._is_open
            ):  # else nothing runs: the trace would get as long as the night before it
                by, selector = (visible(text, _MAX_TEXT_CHARS) for text in (event.by, event.selector))
                name = f"steered: {visible(event.verb, _MAX_TEXT_CHARS)}"
                self._mark(name, at, selector=selector, count=event.count, by=by)
            case ev.RunStopping():
                reason = visible(event.reason, _MAX_TEXT_CHARS)
                self._mark("run stopping", at, reason=reason, cancelling=event.cancelling)
            case _:
                pass

    # ---- processes ----------------------------------------------------------------------------------------------

    def _begin(self, event: ev.RunStarted) -> None:
        self._close_crashed()
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
        name = f"process {self._processes} (pid {event.pid} on {event.host})"
        self._own = self._new_process(visible(name, _MAX_TEXT_CHARS))
        if self._processes == 1:
            self._count(0)
        # Until a resumed run has recorded what the crash interrupted, its view counts those attempts as running.
        self._sample_at = event.at + SAMPLE_INTERVAL_S

    def _new_process(self, name: str) -> _Tracks:
        pid = self._new_number()
        self._name("process", pid, pid, name, self._processes)
        return _Tracks(pid, {})

    def _new_number(self) -> int:
        self._last_number += 1
        return self._last_number

    def _close_crashed(self) -> None:
        if self._is_open:
            self._mark("crash")
            self._close_process("crash")

    def _close_process(self, outcome: str) -> None:
        for worker in list(self._attempts):
            self._end(worker, self._last_tick, outcome)
        # A viewer extends the last value to the end of the trace, and nothing runs in a process that has crashed.
        self._count(self._last_tick, still_running=outcome != "crash")
        self._is_open = False

    # ---- attempts -----------------------------------------------------------------------------------------------

    def _start(self, event: ev.ItemStarted) -> None:
        worker = event.worker
        process = self._worker_processes.of(worker) if event.phase == "process" else None
        tracks = self._tracks[process.first_worker] if process is not None else self._own
        tid = tracks.tids.get(worker)
        if tid is None:
            tid = tracks.tids[worker] = self._new_number()
            self._name("thread", tracks.pid, tid, f"worker {worker}", worker)
        tick = self._tick(event.at)
        attempt = self._attempts[worker] = _Attempt(event, tracks.pid, tid, tick, tick)
        self._worker_of[event.item] = worker
        if event.item in self._arrows:
            self._arrows.remove(event.item)
            self._arrow("f", event.item, attempt, event.at, bp="e")  # it ends at the slice that is then open

    def _end(
        self, worker: int, tick: int, outcome: str, more: dict[str, Any] | None = None, duration_s: float | None = None
    ) -> None:
        """Write the slice of what `worker` runs."""
        attempt = self._attempts.pop(worker)
        started = attempt.started
        del self._worker_of[started.item]
        end = self._last_tick = max(tick, attempt.latest + 1)
        ts, dur = attempt.tick / _TICKS_PER_MICROSECOND, (end - attempt.tick) / _TICKS_PER_MICROSECOND
        type = visible(started.type, _MAX_TEXT_CHARS)
        name = type.rpartition(":")[2] or type or "item"
        args: dict[str, Any] = {
            "item": started.item,
            "type": type,
            "phase": started.phase,
            "attempt": started.attempt,
            "outcome": outcome,
            "duration_s": dur / 1_000_000 if duration_s is None else duration_s,
            **(more or {}),
        }
        if attempt.text:
            args["description"] = visible(attempt.text, _MAX_TEXT_CHARS)
        self._line("X", name, attempt.pid, attempt.tid, ts=ts, dur=dur, cat=started.phase, args=args)

    def _arrow(self, ph: str, item: int, attempt: _Attempt, at: float, **more: str) -> None:
        """Write an end of an arrow to `item`, within `attempt`."""
        attempt.latest = self._last_tick = max(self._tick(at), attempt.tick + 1)
        ts = attempt.latest / _TICKS_PER_MICROSECOND
        self._line(ph, "child", attempt.pid, attempt.tid, ts=ts, cat="child", id=item, **more)

    # ---- lines --------------------------------------------------------------------------------------------------

    def _line(self, ph: str, name: str, pid: int, tid: int, **more: Any) -> None:
        self._lines.append({"ph": ph, "name": name, "pid": pid, "tid": tid, **more})

    def _name(self, what: str, pid: int, tid: int, name: str, position: int) -> None:
        self._line("M", f"{what}_name", pid, tid, args={"name": name})
        self._line("M", f"{what}_sort_index", pid, tid, args={"sort_index": position})

    def _mark(self, name: str, at: float | None = None, tracks: _Tracks | None = None, **args: Any) -> None:
        """Mark a moment, by default that of the last event, in a process, by default the run's own.

        Not on a worker's track: Perfetto would take the mark for the beginning of the arrows that follow.
        """
        pid = (tracks or self._own).pid
        ts = (self._last_tick if at is None else self._tick(at)) / _TICKS_PER_MICROSECOND
        self._line("i", name, pid, pid, ts=ts, cat="run", s="p", args=args)

    def _sample(self, at: float) -> None:
        """Write the counters at the end of the interval and begin the next one, at `at` if there was nothing in between."""
        self._count(self._tick(self._sample_at))
        due = self._sample_at + SAMPLE_INTERVAL_S
        self._sample_at = at + SAMPLE_INTERVAL_S if at >= due else due

    def _count(self, tick: int, still_running: bool = True) -> None:
        view, counts = self._view, self._view.counts
        args = {
            "queued": view.queued,
            "running": len(view.running) if still_running else 0,
            "completed": counts.completed,
            "failed": counts.failed,
            "skipped": counts.skipped,
        }
        self._line("C", "items", self._own.pid, self._own.pid, ts=tick / _TICKS_PER_MICROSECOND, args=args)


def _error(error: ev.ErrorInfo) -> dict[str, Any]:
    return {
        "error_type": visible(error.type, _MAX_TEXT_CHARS),
        "error_message": visible(error.message, _MAX_TEXT_CHARS),
    }
