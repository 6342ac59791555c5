"""The HTML report of a run: one page that needs nothing but a browser.

Each module imports only from those above it:

- `_failed`: counts failures by kind, with an example of each
- `_html`: builds HTML and escapes all text in it
- `_numbering`: renumbers the items of a log whose beginning is missing
- `_processes`: the processes of a run, and the gaps between them
- `_series`: counts over time, in a bounded number of bins
- `_timeline`: what each worker did when: a bar per attempt, short ones joined
- `_durations`: how long attempts took, and the slowest items
- `_tree`: the tree in columns, and its largest parts as a bounded number of cells
- `_fold`: folds the events into all of the above
- `_chart_data`: the data that the page's script draws
- `_sections`: the text and tables of the page
- `_figures`: the charts of the page, and their data as tables
- `_page`: puts the page together in one file that needs nothing else
"""

from collections.abc import Iterable, Sequence

from aqueue.events import Event
from aqueue.view import RunView

__all__ = ["Report", "render"]


class Report:
    """Folds the events of one run, and makes the page of them."""

    def __init__(self) -> None:
        # What makes the page loads what a command that needs no page should not wait for.
        from aqueue.cli._report._fold import Fold
        from aqueue.cli._report._numbering import Numbering

        self._fold = Fold()
        self._numbering = Numbering()

    @property
    def view(self) -> RunView:
        """The run as it stands after the events applied so far."""
        return self._fold.view

    def apply(self, events: Sequence[Event]) -> None:
        """Fold `events`, which must follow those applied so far, and be consistent."""
        self._fold.apply(self._numbering.apply(events))

    def page(self, *, source: str, now: float, notes: Sequence[str] = (), is_running: bool | None = None) -> str:
        """Return the page, once all events are applied.

        Parameters:
            source: the name of the file that they come from, as the page shows it.
            now: when the page is made, Unix time in seconds. Attempts at work in a run that still runs are drawn until
                then.
            notes: sentences that a reader must know first, such as that lines could not be read.
            is_running: whether a process is at the run now; False if its last process must have crashed when it has not
                ended; None if nobody knows. It makes no difference for a run that has ended.

        Raises:
            ValueError: there was no `run.started` or `run.resumed`.
        """
        from aqueue.cli._report._page import page

        if not self._fold.processes.count:
            raise ValueError(f"{source} has no run: there is no run.started in it")
        if self._numbering.is_new:
            notes = [*notes, "The log lacks much of the run, and so its items have got numbers of their own here."]
        self._fold.end(now, is_running=is_running)
        return page(self._fold, source=source, now=now, notes=notes)


def render(
    batches: Iterable[Sequence[Event]],
    *,
    source: str,
    now: float,
    notes: Sequence[str] = (),
    is_running: bool | None = None,
) -> str:
    """Return the report of one run as an HTML page, from one pass over its events.

    Parameters:
        batches: the run's events in their order, from `run.started` on, in parts of any size.
        source, now, notes, is_running: see `Report.page`.

    Raises:
        ValueError: there is no `run.started` or `run.resumed` among the events.
    """
    report = Report()
    for batch in batches:
        report.apply(batch)
    return report.page(source=source, now=now, notes=notes, is_running=is_running)
