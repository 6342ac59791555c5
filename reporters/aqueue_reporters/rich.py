"""The rich reporter: three panels at the bottom of the terminal while a run goes on, and a summary that stays."""

import time
from collections.abc import Callable, Sequence
from typing import Final, TextIO, cast

from rich.console import Console

from aqueue.events import Event, ItemFailed
from aqueue.reporting import RunInfo, can_redraw
from aqueue.result import RunResult
from aqueue.view import RunView
from aqueue_reporters._drawing_pen import DrawingPen
from aqueue_reporters._pace import RunClock
from aqueue_reporters._panels import Panels
from aqueue_reporters._region_reporter import RegionReporter
from aqueue_reporters._stream import write_text
from aqueue_reporters._summary import MissedFailures, failure_line, summary_lines
from aqueue_reporters._terminal import TerminalRegion

__all__ = ["RichReporter"]

MAX_REDRAWS_A_SECOND: Final = 10
"""How often the panels are drawn at most, however much happens; when only the clock has changed, once a second."""


class RichReporter(RegionReporter):
    """Shows a run on a terminal: what each worker does, what failed last, what the queue holds, how far it all is.

    The panels are redrawn in place at the bottom, at most ten times a second. What items print or log to that terminal
    appears above them. At the end a summary takes their place. Where nothing can be redrawn (a pipe, a dumb terminal)
    each failure is a line, and the summary ends it. The environment variable ``NO_COLOR`` is honoured.
    """

    uses_terminal = True
    can_skip = True

    def __init__(self, *, console: Console | None = None, clock: Callable[[], float] = time.time) -> None:
        """Make a reporter.

        Parameters:
            console: where to write, and with how many colours; by default what `sys.stderr` is at `open`.
            clock: what time it is, Unix time in seconds.
        """
        self._console = console
        self._clock = clock
        self._run_clock = RunClock(clock)
        self._missed = MissedFailures()
        self._has_news = False
        self._drawn_at: float | None = None

    def open(self, run: RunInfo) -> None:
        """Take over the bottom of the terminal, if there is one.

        Raises:
            OSError: the terminal can't be written to.
            RuntimeError: another run of this process draws on the terminal.
        """
        console = self._console = self._console or Console(stderr=True)
        styled = console.is_terminal and not console.is_dumb_terminal
        colors = styled and not console.no_color and console.color_system is not None
        self._pen = DrawingPen(styles=styled, colors=colors, encoding=console.encoding)
        self._panels = Panels(self._pen, watched=run.watched)
        if styled and can_redraw(cast(TextIO, console.file)):
            region = TerminalRegion(cast(TextIO, console.file))
            region.open()
            self._region = region

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Redraw if it is time.

        Raises:
            OSError: the terminal can't be written to.
        """
        region = self._region
        if region is None:
            new = (*self._missed.before(events, view), *events)
            self._write([failure_line(event, self._pen) for event in new if isinstance(event, ItemFailed)])
            return
        self._has_news = self._has_news or bool(events)
        time_of_run = self._run_clock.now(view)
        now = self._clock()
        if self._drawn_at is not None and not region.has_captured:
            # A draw in each tenth of a second (or second) of the clock, also of one that was set back.
            ticks_a_second = MAX_REDRAWS_A_SECOND if self._has_news else 1
            if int(now * ticks_a_second) == int(self._drawn_at * ticks_a_second):
                return
        self._drawn_at = now
        self._has_news = False
        columns, rows = region.size
        region.draw(self._panels.lines(view, time_of_run, columns, rows))

    def close(self, result: RunResult) -> None:
        """Put the summary in the place of the panels."""
        c = self._pen.characters
        mark = {"completed": c.succeeded, "failed": c.failed}.get(result.status, c.stopped)
        lines = ["", *summary_lines(result, self._pen, f"{mark} {result.status.capitalize()}"), ""]
        if self._region is not None:
            self._region.close(lines)
        else:
            self._write(lines)

    def close_still(self, result: RunResult, view: RunView) -> None:
        """Leave the panels on the screen as they are at this moment; without a terminal, write the summary."""
        region = self._region
        if region is None:
            self._write(["", *summary_lines(result, self._pen, f"{self._pen.characters.stopped} Watching ended"), ""])
        else:
            region.close(self._panels.lines(view, self._run_clock.now(view), *region.size))

    def _write(self, lines: Sequence[str]) -> None:
        if lines:
            assert self._console is not None
            write_text(cast(TextIO, self._console.file), "\n".join((*lines, "")))
