"""Replaying: gives a reporter a run from its events."""

from collections.abc import Sequence

from aqueue._arguments import WHOLE_NUMBER, check_number
from aqueue._folds.outcome import FoldedResult
from aqueue._history.history import info_from
from aqueue.events import Event, RunStarted
from aqueue.reporting import Reporter, RunInfo
from aqueue.result import RunResult
from aqueue.view import RunView

__all__ = ["feed", "info_of", "replay", "result_of"]


def replay(events: Sequence[Event], reporter: Reporter, *, batch_size: int = 100) -> RunResult:
    """Call `reporter` with a whole run, from `open` to `close`, in the calling thread.

    Parameters:
        events: the events of a run, from its first.
        reporter: gets the events in batches, with an empty batch after each, as a run gives it for clocks to tick.
        batch_size: the number of events in a batch, at least 1, by default 100.

    Returns:
        The result that the reporter got, which is folded from the events.

    Raises:
        InvalidArgument: `batch_size` is less than 1.
        Exception: the reporter raised it.
    """
    check_number("replay(batch_size=…)", batch_size, 1, kind=WHOLE_NUMBER)
    return feed(events, reporter, batch_size)


def feed(events: Sequence[Event], reporter: Reporter, batch_size: int, every: int = 1) -> RunResult:
    """Do what `replay` does, without checks, and give the reporter only one batch in `every`."""
    view = RunView()
    reporter.open(info_of(events))
    for start in range(0, len(events), batch_size):
        batch = tuple(events[start : start + batch_size])
        view.apply(batch)
        if start % (batch_size * every) == 0:
            reporter.handle(batch, view)
            reporter.handle((), view)
    result = result_of(events, view)
    reporter.close(result)
    return result


def info_of(events: Sequence[Event]) -> RunInfo:
    """Return the argument of `open` for a reporter of these events."""
    for event in events:
        if isinstance(event, RunStarted):
            return info_from(event)
    return RunInfo("r", 1, "queue", 1_700_000_000.0)


def result_of(events: Sequence[Event], view: RunView) -> RunResult:
    """Return the argument of `close` for a reporter of these events, which are folded into `view`."""
    folded = FoldedResult()
    folded.apply(events)
    return folded.result(view)
