"""The HTML report of a run: one page that needs nothing but a browser. It is made of the same parts as `aqueue._page`.

Each module imports only from those above it:

- `_charts`: the charts of the page, and their data as tables
- `_sections`: the text and tables of the page
- `_page`: puts the page together in one file that needs nothing else
"""

from contextlib import suppress

from aqueue._history.history import History
from aqueue._history.record import MISFITS, Record
from aqueue._page.over_time import Fold
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
