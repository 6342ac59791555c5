"""The HTML report of a run: one page that needs nothing but a browser.

Each module imports only from those above it:

- `_html`: builds HTML and escapes all text in it
- `_series`: counts over time, in a bounded number of bins
- `_timeline`: what each worker did when: a bar per attempt, short ones joined
- `_fold`: folds the events into both, into how long attempts took, and into the processes of the run
- `_charts`: the charts of the page, and their data as tables
- `_sections`: the text and tables of the page
- `_page`: puts the page together in one file that needs nothing else
"""

from contextlib import suppress

from aqueue._history.history import History
from aqueue._history.record import MISFITS, Record
from aqueue.cli._report._fold import Fold
from aqueue.cli._report._page import page

__all__ = ["Fold", "page", "read"]


def read(history: History) -> tuple[Record, Fold]:
    """Return the run in `history` and the fold of the same events, which hasn't been ended."""
    view = history.view_at_snapshot()
    if view is not None:
        fold = Fold()
        with suppress(*MISFITS):
            return Record(history, fold.apply, view=view), fold
        history.rewind()
    fold = Fold()
    return Record(history, fold.apply), fold
