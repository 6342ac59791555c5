"""Replaying: a reporter is given a run that is there as its events."""

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
    """Give `reporter` a whole run, from `open` to `close`, in the calling thread.

    Parameters:
        events: the events of a run, from its first.
        reporter: gets them in batches, and an empty one after each, as when the engine lets a clock tick.
        batch_size: how many events make a batch, at least 1, by default 100.

    Returns:
        The result that the reporter was given, folded from the events.

    Raises:
        InvalidArgument: `batch_size` is less than 1.
        Exception: what the reporter raises.
    """
    check_number("replay(batch_size=…)", batch_size, 1, kind=WHOLE_NUMBER)
    return feed(events, reporter, batch_size)


def feed(events: Sequence[Event], reporter: Reporter, batch_size: int, every: int = 1) -> RunResult:
    """Do what `replay` does, with checked arguments, and skip all batches but the first of each `every`."""
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
    """Return what a reporter of these events is told when it is opened."""
    for event in events:
        if isinstance(event, RunStarted):
            return info_from(event)
    return RunInfo("r", 1, "queue", 1_700_000_000.0)


def result_of(events: Sequence[Event], view: RunView) -> RunResult:
    """Return what a reporter of these events, folded into `view`, is told when it is closed."""
    folded = FoldedResult()
    folded.apply(events)
    return folded.result(view)
