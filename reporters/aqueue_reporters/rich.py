"""The rich reporter: three panels at the bottom of the terminal during a run, and a summary that stays."""

import os
import time
from collections.abc import Callable, Iterator
from typing import TextIO, cast

from rich.console import Console

from aqueue.events import Event, ItemFailed
from aqueue.reporting import RunInfo
from aqueue.result import RunResult
from aqueue.view import RunView
from aqueue_reporters._drawing_pen import DrawingPen
from aqueue_reporters._panels import Panels
from aqueue_reporters._summary import failure_line
from aqueue_reporters.plain import BY_PERSON, PlainReporter

__all__ = ["RichReporter"]


class RichReporter(PlainReporter):
    """Shows a run on a terminal: what each worker does, what failed last, what the queue holds, how far the run is.

    The panels are redrawn in place at the bottom, at most ten times per second. What items print or log to that terminal
    appears above them. At the end a summary takes their place. If nothing can be redrawn (a pipe, a dumb terminal), it
    writes the lines of `plain` instead. The environment variable ``NO_COLOR`` is honoured.
    """

    uses_terminal = True

    def __init__(self, *, console: Console | None = None, clock: Callable[[], float] = time.time) -> None:
        """Make a reporter.

        Parameters:
            console: where to write, and with how many colours; by default what `sys.stderr` is at `open`.
            clock: what time it is, Unix time in seconds.
        """
        super().__init__(clock=clock)
        self._console = console

    def open(self, run: RunInfo) -> None:
        """Take over the bottom of the terminal, if there is one.

        Raises:
            OSError: the terminal can't be written to.
            RuntimeError: another run of this process draws on the terminal.
        """
        console = self._console or Console(stderr=True)
        self._given_stream = cast(TextIO, console.file)
        styles = console.is_terminal and not console.is_dumb_terminal
        colors = styles and not console.no_color and console.color_system is not None
        self._pen = pen = DrawingPen(styles=styles, colors=colors, encoding=console.encoding)
        self._panels = Panels(pen, watched=run.watched, journal=run.journal)
        super().open(run)
        self._shown_at = float("-inf")  # the first frame is drawn at once

    def _told(self, event: Event, view: RunView) -> Iterator[str]:
        """Yield the first traceback of a kind of failure, and what people set, to be shown above the panels."""
        if self._region is None or isinstance(event, BY_PERSON):
            yield from super()._told(event, view)
        elif isinstance(event, ItemFailed) and (traceback := [*self._first_traceback(event)]):
            yield failure_line(event, self._pen)
            yield from traceback

    def _frame(self, view: RunView, now: float, size: os.terminal_size) -> list[str]:
        return self._panels.lines(view, now, *size)

    def close(self, result: RunResult) -> None:
        """Put the summary in the place of the panels."""
        c = self._pen.characters
        mark = {"completed": c.succeeded, "failed": c.failed}.get(result.status, c.stopped)
        self._end(["", *self._summary(result, f"{mark} {result.status.capitalize()}")], result)

    def close_still(self, result: RunResult, view: RunView) -> None:
        """Leave the panels on the screen as they are at this moment; without a terminal, write the summary."""
        if self._region is None:
            super().close_still(result, view)
        else:
            self._end(self._panels.lines(view, self._run_clock.now(view), *self._region.size), result)
