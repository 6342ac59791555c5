"""Opens reporters, gives them events, detaches those that raise, and closes them."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from aqueue._codec.class_names import type_name
from aqueue._stream.error_info import name_and_message
from aqueue._system.notice import warn
from aqueue.errors import ReporterError
from aqueue.events import Event
from aqueue.reporting import Reporter, RunInfo, StillReporter, TerminalReporter
from aqueue.result import RunResult
from aqueue.text import visible
from aqueue.view import RunView

__all__ = ["OpenReporters", "terminals_last"]


def terminals_last(reporters: Sequence[Reporter]) -> list[Reporter]:
    """Return `reporters` in the order in which to open them: a log that can't be opened leaves nothing on the screen."""
    return sorted(reporters, key=lambda reporter: reporter.uses_terminal)


class OpenReporters:
    """The reporters that are open.

    `open`, `hand_on` and those that end them are called in one thread; what concerns the terminal is safe on any
    thread and in a signal handler, and so is `let_go`.
    """

    def __init__(self, reporters: Sequence[Reporter], on_raised: Callable[[Reporter, BaseException], None]) -> None:
        """Keep `reporters`; nothing is opened before `open`.

        Parameters:
            reporters: get the events.
            on_raised: called when one has raised from `handle` and was detached; its own exceptions propagate.
        """
        self._reporters = terminals_last(reporters)
        self._opened: list[Reporter] = []
        self._on_raised = on_raised

    def __len__(self) -> int:
        """How many are open."""
        return len(self._opened)

    def open(self, run: RunInfo) -> None:
        """Open them.

        Raises:
            ReporterError: one raised; those before it are open.
        """
        for reporter in self._reporters:
            try:
                reporter.open(run)
            except BaseException as error:  # SystemExit, too: a display never ends a run
                kind, message = name_and_message(error)
                raise ReporterError(
                    f"reporter {type_name(type(reporter))} could not be opened: {kind}: {visible(message, 1_000)}"
                ) from error
            self._opened.append(reporter)

    def hand_on(self, events: Sequence[Event], view: RunView) -> None:
        """Call each with `events` and the view after them; detach those that raise."""
        events = tuple(events)  # so that no reporter can change what the others get
        for reporter in tuple(self._opened):
            try:
                reporter.handle(events, view)
            except BaseException as error:
                self._detach(reporter, error)

    def detach_all(self, error: BaseException) -> None:
        """Detach all of them as if each had raised `error`."""
        for reporter in tuple(self._opened):
            self._detach(reporter, error)

    def let_go(self, reporter: Reporter) -> bool:
        """Detach `reporter` and restore its terminal; return False if it was detached already."""
        try:
            self._opened.remove(reporter)
        except ValueError:
            return False
        _call(reporter, "release_terminal")
        return True

    def _detach(self, reporter: Reporter, error: BaseException) -> None:
        if self.let_go(reporter):
            self._on_raised(reporter, error)

    # ---- their end ----------------------------------------------------------------------------------------------

    def close(self, result: RunResult) -> None:
        """Close them: the run has ended."""
        self._end(lambda reporter: reporter.close(result))

    def leave(self, result: RunResult, view: RunView) -> None:
        """End them before the run has ended: restore terminals without a summary, close the others (still if they can)."""

        def end(reporter: Reporter) -> None:
            if reporter.uses_terminal and isinstance(reporter, TerminalReporter):
                reporter.release_terminal()
            else:
                _close_still(reporter, result, view)

        self._end(end)

    def close_still(self, result: RunResult, view: RunView) -> None:
        """Close them before the run has ended; those that can leave the display as it is."""
        self._end(lambda reporter: _close_still(reporter, result, view))

    def _end(self, end: Callable[[Reporter], None]) -> None:
        for reporter in self._opened:
            try:
                end(reporter)
            except BaseException as error:
                _call(reporter, "release_terminal")
                name, (kind, message) = type_name(type(reporter)), name_and_message(error)
                warn(f"reporter {name} raised {kind} when it was closed: {visible(message, 500)}")
        self._opened.clear()

    # ---- the terminal -------------------------------------------------------------------------------------------

    def release_terminals(self) -> None:
        """Restore every terminal that a reporter has changed."""
        self._call_all("release_terminal")

    def suspend_terminals(self) -> None:
        """Restore the terminals until `resume_terminals`."""
        self._call_all("suspend_terminal")

    def resume_terminals(self) -> None:
        """Let reporters draw again."""
        self._call_all("resume_terminal")

    def _call_all(self, method: str) -> None:
        for reporter in self._opened:
            _call(reporter, method)


def _close_still(reporter: Reporter, result: RunResult, view: RunView) -> None:
    if isinstance(reporter, StillReporter):
        reporter.close_still(result, view)
    else:
        reporter.close(result)


def _call(reporter: Reporter, method: str) -> None:
    """Call a method that not every reporter has."""
    with suppress(BaseException):  # SystemExit, too: a display never ends a run
        getattr(reporter, method, lambda: None)()
