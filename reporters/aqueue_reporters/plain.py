"""The plain reporter: a line of progress every few seconds, a line per failure, a summary at the end."""

import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TextIO

from msgspec.structs import replace

from aqueue import events as ev
from aqueue.events import Event, ItemFailed, Phase, ProcessJoined, ProcessLeft, RunResumed, RunStarted, RunStopping
from aqueue.figures import amount, clock, limit_words, person, when_due
from aqueue.reporting import RunInfo, can_redraw
from aqueue.result import RunResult
from aqueue.text import visible
from aqueue.view import RunView, WorkerProcess, WorkerProcesses
from aqueue_reporters._pace import RunClock, rate_text, time_left_s
from aqueue_reporters._pen import Pen
from aqueue_reporters._stream import encodable, write_text
from aqueue_reporters._summary import failure_line, plural, stopping, summary_lines
from aqueue_reporters._terminal import TerminalRegion

__all__ = ["PlainReporter"]

_INTERVAL_S = 5.0
_QUIET_INTERVAL_S = 60.0
_PAUSED_INTERVAL_S = 600.0
"""How long it is silent while nothing happens, and while a person has paused the run: who reads a log in CI takes longer
silence for a hang.
"""

_REDRAW_INTERVAL_S = 0.1
_CLOCK_INTERVAL_S = 1.0
_MIN_RATE_S = 1.0
_MAX_PER_KIND = 5
_MAX_KINDS = 100
_MAX_TRACEBACKS = 20
_MAX_TRACEBACK_LINES = 60
BY_PERSON = (
    ev.RunPaused,
    ev.RunUnpaused,
    ev.GroupPaused,
    ev.GroupUnpaused,
    ev.RunWorkersChanged,
    ev.GroupLimitChanged,
    ev.RunSteered,
)
"""The events by which a person steers the run."""

_TOLD = frozenset({ItemFailed, ProcessJoined, ProcessLeft, RunStarted, RunResumed, RunStopping, *BY_PERSON})


class PlainReporter:
    """Show a run as lines of plain text: for CI logs, pipes and people who prefer less output.

    A progress line says how many items of those found have completed, the rate, how many have failed, the time elapsed, the
    estimated time left (at least, while more items are found), how many wait, and what limits the run. It is written
    when something has happened since the last one, at most every `interval_s`; while nothing happens, once a minute, and every
    ten minutes while a person has paused the run. The first five failures of each kind get a line at once, and so do each
    worker process of a cluster that joins or leaves, and each command of a person: that pauses or limits the run, or that
    retries, skips or cancels items. Without a journal, the first failure of each of the first 20 kinds also gets its traceback.
    A summary follows at the end.

    On a terminal the progress line is rewritten in place, at most ten times per second; what the program prints appears
    above it.

    It never holds up a run: if the output is blocked for long, it then continues with the current state of the run, and the
    latest 20 of the failures in between.

    Parameters:
        stream: where to write; None is `sys.stderr`, as it is when the run begins.
        interval_s: the least time between two progress lines, seconds; it is not used on a terminal. Default 5.
        clock: tells the Unix time, seconds.
    """

    can_skip = True
    has_summary: bool = False
    """Whether the summary has been written, and each kind of failure has its traceback: printed, or in the journal.

    `run_queue` then prints no traceback of an uncaught error.
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
        self._region: TerminalRegion | None = None  # where it draws; None while it draws nowhere
        self._pen = Pen(styles=False, colors=False, encoding="utf-8")
        self._shown_seq = 0
        self._shown_at = 0.0
        self._told_seq: float = math.inf  # the number of the last event that it was given
        self._is_watched = False
        self._has_journal = False
        self._traced: set[tuple[str, Phase, str]] | None = (
            None  # the kinds with a traceback; None if a journal has them all
        )
        self._kinds = Counter[tuple[str, Phase, str]]()  # how many failures of each kind there were
        self._processes = WorkerProcesses()  # those after the events of which lines have been made

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
        self._is_watched = run.watched
        self._has_journal = bool(run.journal)
        self._traced = None if run.watched or run.journal else set()
        self._kinds.clear()
        self.has_summary = False
        self._shown_at = self._clock()
        if self._stream is not None and can_redraw(self._stream):
            region = TerminalRegion(self._stream)
            region.open()
            self._region = region

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Write a line per failure, worker process that joins or leaves, and stop; and the progress line if it is due.

        Raises:
            OSError: the stream can't be written to.
        """
        first = events[0].seq if events else view.seq + 1
        # What failed while it was behind and skipped events: the latest 20.
        missed = [failed for failed in view.failures if self._told_seq < failed.seq < first]
        self._told_seq = view.seq
        told = _with_whole_commands([one for one in events if type(one) in _TOLD])  # few of many
        lines = [line for event in (*missed, *told) for line in self._told(event, view)]
        if self._processes != view.processes:  # events were skipped
            self._processes = view.processes.copy()
        now, time_of_run = self._clock(), self._run_clock.now(view)
        if self._region is not None:
            self._redraw(self._region, lines, view, now, time_of_run)
            return
        if self._is_due(now, self._wait_s(view)):
            lines.append(self._progress(view, time_of_run))
            self._shown_seq, self._shown_at = view.seq, now
        if lines and self._stream is not None:
            write_text(self._stream, _joined(lines))

    def _wait_s(self, view: RunView) -> float:
        """Return how long after the last progress line the next one is due, seconds."""
        if view.state == "finished":
            return math.inf
        if view.seq != self._shown_seq:
            return self._interval_s
        if view.state == "new":
            return math.inf
        quiet_s = _QUIET_INTERVAL_S if view.in_force.paused is None else _PAUSED_INTERVAL_S
        return max(quiet_s, self._interval_s)

    def _told(self, event: Event, view: RunView) -> Iterator[str]:
        """Yield the line about `event`, if there is something to say."""
        processes = self._processes
        if isinstance(event, ItemFailed):
            yield from self._told_of_failure(event)
        elif isinstance(event, RunStarted):
            processes.clear()
        elif isinstance(event, RunStopping):
            # Without a terminal nobody can press Ctrl-C.
            has_keys = self._region is not None
            who = visible(person(event.by), 200)
            by = f" by {who}" if who and who not in event.reason else ""
            reason = f"{visible(event.reason, 400)}{by}"
            yield stopping(reason, len(view.running), cancelling=event.cancelling, has_keys=has_keys)
        elif isinstance(event, BY_PERSON):
            yield visible(_command(event), 400)
        elif isinstance(event, ProcessJoined):
            yield f"joined: {self._described(processes.join(event))}"
        elif isinstance(event, ProcessLeft) and (process := processes.leave(event)) is not None:
            late = f"; {plural(event.ignored, 'late report')} not counted" if event.ignored else ""
            yield f"{event.reason}: {self._described(process)}{late}"

    def _told_of_failure(self, event: ItemFailed) -> Iterator[str]:
        kind = event.type, event.phase, event.error.type
        is_new = kind not in self._kinds
        if is_new and len(self._kinds) == _MAX_KINDS:
            return
        self._kinds[kind] += 1
        if self._kinds[kind] <= _MAX_PER_KIND:
            yield failure_line(event, self._pen)
            yield from self._first_traceback(event)
        elif self._kinds[kind] == _MAX_PER_KIND + 1:
            yield "  further failures of this kind are counted, but not shown"
        if is_new and len(self._kinds) == _MAX_KINDS:
            yield "  failures of other kinds are counted, but not shown"

    def _first_traceback(self, event: ItemFailed) -> Iterator[str]:
        """Yield the traceback of `event`, if it is the first failure of a kind, and nothing else keeps it."""
        kind = event.type, event.phase, event.error.type
        if self._traced is None or kind in self._traced or len(self._traced) == _MAX_TRACEBACKS:
            return
        self._traced.add(kind)
        lines = event.error.traceback.splitlines()
        if len(lines) > _MAX_TRACEBACK_LINES:
            lines[:-_MAX_TRACEBACK_LINES] = ["…"]
        yield from (f"  {self._pen.safe(line)}" for line in lines)

    def _described(self, process: WorkerProcess) -> str:
        """Return the process, its workers, and the totals now that it has joined or left."""
        all_of_them = self._processes
        return (
            f"{visible(process.host, 120)}:{process.pid}, {plural(process.num_workers, 'worker')} "
            f"({amount(all_of_them.num_workers)} in {plural(len(all_of_them), 'process', 'es')})"
        )

    def _redraw(self, region: TerminalRegion, lines: list[str], view: RunView, now: float, time_of_run: float) -> None:
        if lines and self._stream is not None:
            # The region holds it back, as it does what others print, and shows it above the progress line.
            self._stream.write(encodable(self._stream, _joined(lines)))
        interval_s = _REDRAW_INTERVAL_S if view.seq != self._shown_seq else _CLOCK_INTERVAL_S
        # What was printed is shown at once, also while a replay's clock stands still.
        if region.has_captured or self._is_due(now, interval_s):
            region.draw(self._frame(view, time_of_run, region.size))
            self._shown_seq, self._shown_at = view.seq, now

    def _frame(self, view: RunView, now: float, size: os.terminal_size) -> list[str]:
        """Return what is drawn on a terminal of this size."""
        # All of it is ASCII, one cell per character. The last cell stays free: some terminals wrap after it.
        return [self._progress(view, now)[: max(size.columns - 1, 1)]]

    def _progress(self, view: RunView, now: float) -> str:
        """Return the progress line: what matters most comes first, since a narrow terminal shows no more."""
        counts = view.counts
        parts = [f"{amount(counts.completed)}/{amount(counts.enqueued)} completed"]
        if now - view.started_at >= _MIN_RATE_S:
            parts.append(rate_text(view.rate(now)))
        parts.append(f"{amount(counts.failed)} failed")
        if counts.skipped:
            parts.append(f"{amount(counts.skipped)} skipped")
        parts.append(f"{_clock(view.elapsed_s(now))} elapsed")
        found = view.rate(now, "enqueued")
        if view.cluster and not view.processes and view.state == "running":
            parts.append("waiting for worker processes")
        elif view.state == "stopping":
            parts.append(f"stopping, {amount(len(view.running))} running")
        elif left_s := time_left_s(counts, view.rate(now), found, view, now):
            parts.append(f"eta {'at least ' if found else ''}{_clock(left_s)}")
        parts.append(f"{amount(view.queued)} waiting")
        if view.waiting:
            # Once no more items are taken, they won't be retried in this process.
            next_due = "" if view.state == "stopping" else f" (next {when_due(view.next_due, now)})"
            parts.append(f"{amount(view.waiting)} retrying{next_due}")
        if limited_by := view.limited_by(now):
            parts.append(visible(limited_by, 200).encode("ascii", "backslashreplace").decode())
        return ", ".join(parts)

    def _is_due(self, now: float, interval_s: float) -> bool:
        # A clock that was set back must not silence the progress.
        return not 0 <= now - self._shown_at < interval_s

    def close(self, result: RunResult) -> None:
        """Write the summary. A stream that can't be written to any more is no error: the run has ended anyway."""
        self._end(self._summary(result, result.status.capitalize()), result)

    def close_still(self, result: RunResult, view: RunView) -> None:
        """Write the summary as of now, without saying that the run has ended."""
        self._end(self._summary(result, "Watching ended"), result)

    def _summary(self, result: RunResult, ended: str) -> list[str]:
        return summary_lines(result, self._pen, ended, is_watched=self._is_watched, has_journal=self._has_journal)

    def suspend_terminal(self) -> None:
        """Put the terminal back until `resume_terminal`; safe in a signal handler."""
        if self._region is not None:
            self._region.suspend()

    def resume_terminal(self) -> None:
        """Draw again."""
        if self._region is not None:
            self._region.resume()

    def release_terminal(self) -> None:
        """Put the terminal back at once; safe in a signal handler."""
        if self._region is not None:
            self._region.release()

    def _end(self, lines: Sequence[str], result: RunResult) -> None:
        traced = self._traced
        kinds = {(group.type, group.phase, group.error) for group in result.failure_groups}
        has_told_all = traced is None or kinds <= traced  # it may have skipped some, or there were too many kinds
        if self._region is not None:
            self._region.close(lines)
            self._region = None
            self.has_summary = has_told_all
        elif self._stream is not None:
            with suppress(OSError, ValueError):
                write_text(self._stream, _joined(lines))
                # If only another file has the summary, nobody sees the error, so the traceback is still needed.
                self.has_summary = has_told_all and self._stream is sys.stderr


def _command(
    event: ev.RunPaused
    | ev.RunUnpaused
    | ev.GroupPaused
    | ev.GroupUnpaused
    | ev.RunWorkersChanged
    | ev.GroupLimitChanged
    | ev.RunSteered,
) -> str:
    """Return what a person set, and who; not made safe."""
    who = person(event.by)
    match event:
        case ev.RunPaused():
            return f"paused by {who}"
        case ev.RunUnpaused():
            return f"unpaused by {who}"
        case ev.GroupPaused():
            return f"group {event.group} paused by {who}"
        case ev.GroupUnpaused():
            return f"group {event.group} unpaused by {who}"
        case ev.RunWorkersChanged():
            return f"{plural(event.num_workers, 'worker')}, set by {who} (program: {amount(event.program)})"
        case ev.GroupLimitChanged():
            limit = limit_words(event.concurrent, event.per_second) or "no limit"
            return f"group {event.group}: {'limit as in the program' if event.is_default else limit}, set by {who}"
        case ev.RunSteered():
            return f"{event.verb} {event.selector}: {plural(event.count, 'item')}, by {who}"


def _with_whole_commands(events: Sequence[Event]) -> Iterator[Event]:
    """Yield `events` with one command on items in place of its parts: of a large one, there is an event per 1,000 items."""
    counts = Counter[tuple[str, str, str]]()
    for event in events:
        if isinstance(event, ev.RunSteered):
            counts[event.verb, event.selector, event.by] += event.count
    for event in events:
        if not isinstance(event, ev.RunSteered):
            yield event
        elif count := counts.pop((event.verb, event.selector, event.by), 0):
            yield replace(event, count=count)


def _joined(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _clock(seconds: float) -> str:
    # Rounded, so that lines written every five seconds show times five seconds apart.
    return clock(round(seconds))
