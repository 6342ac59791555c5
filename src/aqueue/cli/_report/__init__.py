"""The HTML report of a run: the views of `aqueue._page` as they are at its end, in one file that needs nothing but a browser.

Each module imports only from those above it:

- `_frozen_run`: reads a run to its end
- `_charts`: the charts that only the report has, and their data as tables
- `_sections`: the tables and facts that only the report has
- `_page`: puts the page together in one file that needs nothing else
"""

from aqueue.cli._report._frozen_run import FrozenRun
from aqueue.cli._report._page import page

__all__ = ["FrozenRun", "page"]
