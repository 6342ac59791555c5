"""The directive ``error-table``: every error, when it is raised and what to do, from the docstrings in `aqueue.errors`."""

import inspect
import re
from collections.abc import Iterator

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata
from tables import TableDirective

from aqueue import errors


class ErrorTable(TableDirective):
    """One row an error: its name, its docstring's first line, and the paragraph that says what to do."""

    header = ("Error", "When", "What to do")
    widths = (22, 39, 39)

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield a row an error."""
        for name in errors.__all__:
            first, _, rest = inspect.cleandoc(getattr(errors, name).__doc__ or "").partition("\n\n")
            remedy = re.search(r"What to do:\s+(.*?)(?:\n\n|\Z)", rest, re.DOTALL)
            if remedy is None:
                raise self.error(f"the docstring of {name} says nothing after 'What to do:'")
            yield f"{{py:class}}`~aqueue.errors.{name}`", plain(first), plain(remedy[1])


def plain(paragraph: str) -> str:
    """Return a paragraph of a docstring as one line of Markdown: code in single backquotes."""
    return re.sub(r"``(.+?)``", r"`\1`", " ".join(paragraph.split()))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("error-table", ErrorTable)
    return {"parallel_read_safe": True, "env_version": 1}
