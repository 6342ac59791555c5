"""The plain reporter: now and then one line of progress, each failure at once, a summary at the end."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple, TextIO

from aqueue.events import (
    Counts,
    Event,
    ItemFailed,
    Phase,
    ProcessJoined,
    ProcessLeft,
    RunResumed,
    RunStarted,
    RunStopping,
)
from aqueue.figures import amount, clock, when_due
from aqueue.reporting import RunInfo, can_redraw
from aqueue.result import RunResult
from aqueue.text import visible
from aqueue.tracebacks import place
from aqueue.view import RunView, WorkerProcess, WorkerProcesses
from aqueue_reporters._failed import MissedFailures, how_to_list, innermost_frames, not_shown
from aqueue_reporters._pace import Finding, RunClock, is_early, rate_text, remaining_s, steady_rate, time_taken
from aqueue_reporters._region_reporter import RegionReporter
from aqueue_reporters._stream import encodable, write_text
from aqueue_reporters._terminal import TerminalRegion

__all__ = ["PlainReporter"]

_INTERVAL_S = 5.0
_REDRAW_INTERVAL_S = 0.1
_CLOCK_INTERVAL_S = 1.0
_MIN_RATE_S = 1.0
_MAX_NAME_CHARS = 120
_MAX_MESSAGE_CHARS = 400
_MAX_CODE_CHARS = 300
_MAX_GROUPS = 20
_MAX_PROCESS_LINES = 3
_TOLD = frozenset({ItemFailed, ProcessJoined, ProcessLeft, RunStarted, RunResumed, RunStopping})


class PlainReporter(RegionReporter):
    """Show a run as lines of plain text: for CI logs, pipes and people who like it quiet.

    A progress line says how many items are done of how many found, how many a second, how many are queued and how many
    failed, the time elapsed, and how long it will take if that can be told: while items are found faster than they are
    done, it can't. It comes when something has happened since the last one, at most every `interval_s`. Each failure
    gets a line at once, and so do worker processes of a cluster that join or leave, one line for many of them. The end is
    a summary.

    On a terminal the progress line is rewritten in place, at most ten times a second; what the program prints appears
    above it.

    No run waits for it: where what it writes to takes nothing for long, it goes on from where the run is then, with the
    latest 20 of the failures that came meanwhile.

    Parameters:
        stream: where to write; None is `sys.stderr`, as it is when the run begins.
        interval_s: the least time between two progress lines, seconds; it is not used on a terminal. Default 5.
        clock: tells the Unix time, seconds.
    """

    def __init__(
        self,
        *,
        stream: TextIO | None = None,
        interval_s: float = _INTERVAL_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._given_stream = stream
        self._interval_s = interval_s
        self._clock = clock
        self._run_clock = RunClock(clock)
        self._stream: TextIO | None = None
        self._shown_seq = 0
        self._shown_at = 0.0
        self._finding = Finding()
        self._missed = MissedFailures()
        self._processes = WorkerProcesses()  # those after the events of which lines have been made

    can_skip = True

    @property
    def uses_terminal(self) -> bool:
        """Whether the stream is a terminal that can rewrite a line."""
        return can_redraw(sys.stderr if self._given_stream is None else self._given_stream)

    def open(self, run: RunInfo) -> None:
        """Begin; on a terminal, keep its last line for the progress.

        Raises:
            OSError: the terminal can't be written to.
        """
        self._stream = sys.stderr if self._given_stream is None else self._given_stream
        self._shown_at = self._clock()
        if self.uses_terminal and self._stream is not None:
            region = TerminalRegion(self._stream)
            region.open()
            self._region = region

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Write a line for each failure, for worker processes that come and go, for the stop, and the progress if it is time.

        Raises:
            OSError: the stream can't be written to.
        """
        lines = []
        changes: list[_Change] = []
        told = [one for one in events if type(one) in _TOLD]  # few of many
        for event in (*self._missed.before(events, view), *told):
            if isinstance(event, ItemFailed):
                lines.append(_failure_line(event))
            elif isinstance(event, ProcessJoined | ProcessLeft):
                self._follow(event, changes)
            elif isinstance(event, RunStarted):
                self._processes.clear()
            elif isinstance(event, RunStopping):
                # A signal that comes to a log's run comes from no person at its keys.
                more = "" if self._region is None else f"; {_next_ctrl_c(event, len(view.running))}"
                lines.append(_stopping_line(event, len(view.running)) + more)
        if self._processes != view.processes:  # events were skipped
            self._processes = view.processes.copy()
        lines = [*_process_lines(changes), *lines]
        if self._region is None:
            self._write(lines, view, self._run_clock.now(view))
        else:
            self._redraw(self._region, lines, view, self._run_clock.now(view))

    def _follow(self, event: ProcessJoined | ProcessLeft, changes: list["_Change"]) -> None:
        """Note in `changes` that a process has joined or left."""
        processes = self._processes
        if isinstance(event, ProcessJoined):
            changes.append(_Change("joined", processes.join(event), 0, len(processes), processes.num_workers))
        elif (process := processes.leave(event)) is not None:
            changes.append(_Change(event.reason, process, event.ignored, len(processes), processes.num_workers))

    def _write(self, lines: list[str], view: RunView, time_of_run: float) -> None:
        now = self._clock()
        if view.seq != self._shown_seq and view.state != "finished" and self._is_due(now, self._interval_s):
            lines.append(", ".join(part.text for part in self._progress(view, time_of_run)))
            self._note_shown(view, now)
        if lines and self._stream is not None:
            write_text(self._stream, _joined(lines))

    def _redraw(self, region: TerminalRegion, lines: list[str], view: RunView, time_of_run: float) -> None:
        if lines and self._stream is not None:
            # The region holds it back, as it does what others print, and shows it above the progress line.
            self._stream.write(encodable(self._stream, _joined(lines)))
        now = self._clock()
        interval_s = _REDRAW_INTERVAL_S if view.seq != self._shown_seq else _CLOCK_INTERVAL_S
        # What was printed is shown at once, also while a replay's clock stands still.
        if region.has_captured or self._is_due(now, interval_s):
            # It is all ASCII, a cell for each character. The last cell stays free: some terminals wrap after it.
            region.draw([_fitting(self._progress(view, time_of_run), max(region.size.columns - 1, 1))])
            self._note_shown(view, now)

    def _progress(self, view: RunView, now: float) -> list["_Part"]:
        """Return what the progress line says."""
        counts = view.counts
        found = self._finding.rate(view.rate(now, "enqueued"), counts.enqueued, now)
        parts = [_Part(f"{amount(counts.completed)}/{amount(counts.enqueued)} done", 1)]
        if now - view.started_at >= _MIN_RATE_S:
            parts.append(_Part(rate_text(view.rate(now)), 5))
        parts.append(_Part(f"{amount(view.queued)} queued", 6))
        if view.waiting:
            # Once no more items are taken, they won't be retried in this process.
            next_due = "" if view.state == "stopping" else f" (next {when_due(view.next_due, now)})"
            parts.append(_Part(f"{amount(view.waiting)} to retry{next_due}", 7))
        parts.append(_Part(f"{amount(counts.failed)} failed", 3))
        parts.append(_Part(f"{_clock(view.elapsed_s(now))} elapsed", 4))
        if view.cluster and not view.processes and view.state == "running":
            parts.append(_Part("waiting for worker processes", 2))
        elif view.state == "stopping":
            parts.append(_Part(f"stopping, {amount(len(view.running))} running", 2))
        elif remaining := _remaining(view, now, found):
            parts.append(_Part(remaining, 2))
        return parts

    def _is_due(self, now: float, interval_s: float) -> bool:
        # A clock that was set back must not silence the progress.
        return not 0 <= now - self._shown_at < interval_s

    def _note_shown(self, view: RunView, now: float) -> None:
        self._shown_seq = view.seq
        self._shown_at = now

    def close(self, result: RunResult) -> None:
        """Write the summary. A stream that can't be written to any more is no error: the run went as it went."""
        self._end(_summary_lines(result, f"run {result.status}"))

    def close_still(self, result: RunResult, view: RunView) -> None:
        """Write the summary as of this moment, which doesn't say that the run has ended."""
        self._end(_summary_lines(result, "watching ended"))

    def _end(self, lines: Sequence[str]) -> None:
        if self._region is not None:
            self._region.close(lines)
            self._region = None
        elif self._stream is not None:
            with suppress(OSError, ValueError):
                write_text(self._stream, _joined(lines))


class _Change(NamedTuple):
    """A worker process came or went: how, which, how many of its reports were ignored, and what there was after it."""

    how: Literal["joined", "left", "lost"]
    process: WorkerProcess
    ignored: int
    processes: int
    workers: int


def _process_lines(changes: Sequence[_Change]) -> Iterator[str]:
    """Yield a line for each change, or, of many of a kind, one for them all."""
    for how in ("joined", "left", "lost"):
        same = [change for change in changes if change.how == how]
        if len(same) > _MAX_PROCESS_LINES:
            workers = sum(change.process.num_workers for change in same)
            ignored = sum(change.ignored for change in same)
            yield _process_line(f"{how}: {amount(len(same))} processes", workers, ignored, same[-1])
        else:
            for change in same:
                process = change.process
                where = f"{how}: {visible(process.host, _MAX_NAME_CHARS)}:{process.pid}"
                yield _process_line(where, process.num_workers, change.ignored, change)


def _process_line(what: str, workers: int, ignored: int, last: _Change) -> str:
    left = f"{amount(last.workers)} in {amount(last.processes)} process{'' if last.processes == 1 else 'es'}"
    late = f"; {amount(ignored)} late report{'' if ignored == 1 else 's'} not counted" if ignored else ""
    return f"{what}, {amount(workers)} worker{'' if workers == 1 else 's'} ({left}){late}"


def _joined(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _failure_line(event: ItemFailed) -> str:
    error = event.error
    return (
        f"failed: item {event.item} {visible(event.type, _MAX_NAME_CHARS)}{_in_hook(event.phase)}: "
        f"{visible(error.type, _MAX_NAME_CHARS)}: {visible(error.message, _MAX_MESSAGE_CHARS)}"
    )


def _in_hook(phase: Phase) -> str:
    return " in after_children_processed" if phase == "after_children" else ""


def _stopping_line(event: RunStopping, running: int) -> str:
    items = f"{amount(running)} running item{'' if running == 1 else 's'}"
    verb = "cancelling" if event.cancelling else "waiting for"
    doing = f"; {verb} {items}" if running else ""
    return f"stopping: {visible(event.reason, _MAX_MESSAGE_CHARS)}{doing}"


def _next_ctrl_c(event: RunStopping, running: int) -> str:
    if event.cancelling:
        return "a third Ctrl-C ends the process at once"
    again = " again" if event.reason == "Ctrl-C" else ""
    return f"Ctrl-C{again} cancels {'it' if running == 1 else 'them'}"


def _remaining(view: RunView, now: float, found: float) -> str:
    """Return how long the run will still take; empty while items are found as fast as they are done, or faster.

    Parameters:
        view, now: the run at that Unix time.
        found: how many items are found a second.
    """
    counts = view.counts
    done = steady_rate(view.rate(now), found, counts.completed, view.elapsed_s(now))
    if not counts.outstanding or done <= found or is_early(now - view.started_at):
        return ""
    remaining = _clock(remaining_s(counts.outstanding, done, view, now))
    return f"eta at least {remaining}" if found else f"eta {remaining}"


class _Part(NamedTuple):
    """A part of the progress line, and its rank, 1 the first to be kept where there is no room for all."""

    text: str
    rank: int


def _fitting(parts: Sequence[_Part], columns: int) -> str:
    """Return the parts in their order, without the least important ones if all are wider than `columns`."""
    left = list(parts)
    while len(line := ", ".join(part.text for part in left)) > columns and len(left) > 1:
        left.remove(max(left, key=lambda part: part.rank))
    return line[:columns]


def _summary_lines(result: RunResult, ended: str) -> list[str]:
    counts = result.counts
    head = [_done_and_failed(counts)]
    if counts.outstanding:
        head.append(f"{amount(counts.outstanding)} outstanding")
    if counts.deduplicated:
        head.append(f"{amount(counts.deduplicated)} dropped as known")
    if counts.retried:
        head.append(f"{amount(counts.retried)} retried")
    head.append(f"{time_taken(result.elapsed_s)} elapsed")
    if result.elapsed_s > 0:
        head.append(rate_text(counts.completed / result.elapsed_s))
    reason = f" ({visible(result.stop_reason, _MAX_MESSAGE_CHARS)})" if result.stop_reason else ""
    lines = [f"{ended}{reason}: {', '.join(head)}"]
    # Of one type the line above has told all.
    lines += [
        f"  {visible(name, _MAX_NAME_CHARS)}: {_done_and_failed(of_type)}"
        for name, of_type in result.counts_by_type.items()
        if len(result.counts_by_type) > 1
    ]
    if counts.failed:
        lines += ["failures:", *_failures(result)]
    return lines


def _done_and_failed(counts: Counts) -> str:
    return f"{amount(counts.completed)}/{amount(counts.enqueued)} done, {amount(counts.failed)} failed"


def _failures(result: RunResult) -> Iterator[str]:
    """Yield each kind of failures, the most numerous first, with an example and where the user's code was in it."""
    groups = result.failure_groups[:_MAX_GROUPS]
    for group in groups:
        kind = f"{visible(group.type, _MAX_NAME_CHARS)}{_in_hook(group.phase)}: {visible(group.error, _MAX_NAME_CHARS)}"
        yield f"  {amount(group.count)} x {kind}; {'first: ' if group.count > 1 else ''}{_example(group.first)}"
        frames = innermost_frames(group.first)
        yield from (f"      {visible(place(frame), _MAX_CODE_CHARS)}" for frame in frames)
        if frames and frames[-1].code:
            yield f"        {visible(frames[-1].code, _MAX_CODE_CHARS)}"
    if more := not_shown(result, groups):
        yield f"  +{amount(more)} more failure{'' if more == 1 else 's'}"
    if how := how_to_list(result, groups):
        yield f"  {how[0]}: {visible(how[1])}"


def _example(failure: ItemFailed) -> str:
    attempts = f" ({failure.attempt} attempts)" if failure.attempt > 1 else ""
    return f"item {failure.item}{attempts}: {visible(failure.error.message, _MAX_MESSAGE_CHARS)}"


def _clock(seconds: float) -> str:
    # Rounded: lines that come every five seconds are to say so.
    return clock(round(seconds))
