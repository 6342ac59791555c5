"""Opens reporters and feeds them the events of a recorded run, for `aqueue watch` and `aqueue replay`."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import click

from aqueue._codec.class_names import type_name
from aqueue._delivery.open_reporters import OpenReporters
from aqueue._folds.outcome import FoldedResult
from aqueue._history.history import History, info_from
from aqueue._stream.error_info import name_and_message
from aqueue._system.notice import warn
from aqueue.errors import InvalidArgument
from aqueue.events import Event, RunStarted
from aqueue.figures import amount
from aqueue.reporting import Reporter, resolve_reporters
from aqueue.text import visible
from aqueue.view import RunView

__all__ = ["BATCH_INTERVAL_S", "TICK_INTERVAL_S", "Feeding", "reporter_option", "reporters_named"]

BATCH_INTERVAL_S: Final = 0.05
"""How long events wait for others, at most, before reporters get them."""

TICK_INTERVAL_S: Final = 0.1
"""How often reporters are called while nothing happens, so that clocks tick."""

reporter_option = click.option(
    "--reporter",
    "reporters",
    metavar="REPORTER",
    multiple=True,
    help="Reporter that shows the run, as in run_queue(reporter=…): auto, rich, plain, jsonl, jsonl:PATH, none, or the name "
    "of a plugin. Repeatable.  [default: auto]",
)
"""Which reporters."""


def reporters_named(specs: Sequence[str], file: str, *, clock: Callable[[], float] | None = None) -> list[Reporter]:
    """Return the reporters that a person names, not opened yet.

    Parameters:
        specs: their names; none for ``auto``.
        file: the file that is read, which none of them may write.
        clock: see `resolve_reporters`.

    Raises:
        click.UsageError: one is not known, or would write to `file`.
    """
    for spec in specs:
        target = spec.partition(":")[2]
        with suppress(OSError, ValueError):
            if target and os.path.samefile(target, file):
                raise click.UsageError(
                    f"--reporter: {visible(spec, 200)} would write to the file being read; name another file"
                )
    try:
        return resolve_reporters(list(specs) or "auto", clock=clock)
    except InvalidArgument as error:
        # The message begins with the name of the argument, which is that of the option.
        raise click.UsageError(f"--{error}") from error


class Feeding:
    """Folds a run's events and hands them to reporters, which are opened at the first event.

    A context manager: it closes the reporters and restores the terminal however it ends.

    Attributes:
        view: the run after the events so far.
        started: the last event with which a process began or resumed the run; None before the first event.
    """

    def __init__(self, reporters: Sequence[Reporter], history: History) -> None:
        """Make it; nothing is opened yet.

        Parameters:
            reporters: get the events.
            history: where these come from.
        """
        self.view = RunView()
        self.started: RunStarted | None = None
        self._folded = FoldedResult()
        self._reporters = OpenReporters(reporters, self._on_raised)
        self._had_any = bool(reporters)
        # A log has the failures, too, which is what summaries need it for.
        self._journal = str(history.path.resolve()) if history.path is not None else ""
        self._is_journal = history.is_journal
        self.release_terminals = self._reporters.release_terminals
        self.suspend_terminals = self._reporters.suspend_terminals
        self.resume_terminals = self._reporters.resume_terminals

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave("" if exc is None else str(exc))

    @property
    def has_lost_reporters(self) -> bool:
        """Whether all reporters have raised and were detached; False if there were none."""
        return self._had_any and self.started is not None and not self._reporters

    @property
    def progress(self) -> str:
        """How far the run is: ``12 of 40 completed``."""
        counts = self.view.counts
        return f"{amount(counts.completed)} of {amount(counts.enqueued)} completed"

    def feed(self, events: Sequence[Event]) -> None:
        """Fold and hand on the next events, at least one.

        Raises:
            ReporterError: one of the reporters could not be opened.
            BrokenPipeError: the last reporter wrote into a pipe that nobody reads any more.
        """
        if self.started is None:
            first = events[0]
            assert isinstance(first, RunStarted), first  # every history begins so
            self.started = first
            self._reporters.open(info_from(first, self._journal if self._is_journal else ""))
        began_at = self.view.started_at
        self.view.apply(events)
        if self.view.started_at != began_at:
            self.started = next(event for event in reversed(events) if isinstance(event, RunStarted))
        self._folded.apply(events)
        self._reporters.hand_on(events, self.view)

    def tick(self) -> None:
        """Call the reporters so that their clocks tick.

        Raises:
            BrokenPipeError: see `feed`.
        """
        self._reporters.hand_on((), self.view)

    def close(self, stop_reason: str | None = None) -> None:
        """Close the reporters: the run has ended, with its last event.

        Parameters:
            stop_reason: why, if the events don't tell.
        """
        self._reporters.close(self._folded.result(self.view, stop_reason=stop_reason, journal=self._journal))

    def close_still(self, stop_reason: str) -> None:
        """Close the reporters while the run continues, and leave its current state on the display."""
        result = self._folded.result(self.view, stop_reason=stop_reason, journal=self._journal)
        self._reporters.close_still(result, self.view)

    def leave(self, stop_reason: str, now: float | None = None) -> None:
        """End the reporters while the run continues: without a summary on a terminal.

        Parameters:
            stop_reason: the stop reason in the result that the others get.
            now: Unix time in seconds, until which the run is known to have taken; None for that of its last event.
        """
        result = self._folded.result(self.view, now=now, stop_reason=stop_reason, journal=self._journal)
        self._reporters.leave(result, self.view)

    def _on_raised(self, reporter: Reporter, error: BaseException) -> None:
        if isinstance(error, BrokenPipeError) and not self._reporters:
            raise error  # the reader of the pipe has left, and there is no other reporter
        kind, message = name_and_message(error)
        warn(f"reporter {type_name(type(reporter))} raised {kind}: {visible(message, 500)}; it gets no more events")
