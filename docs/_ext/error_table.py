"""The directive ``error-table``: every error, when it is raised and what to do, from the docstrings in `aqueue.errors`."""

import inspect
import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from aqueue import errors


class ErrorTable(SphinxDirective):
    """One row an error: its name, its docstring's first line, and the paragraph that says what to do."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        rows = [("Error", "When", "What to do")]
        for name in errors.__all__:
            first, _, rest = inspect.cleandoc(getattr(errors, name).__doc__ or "").partition("\n\n")
            remedy = re.search(r"What to do:\s+(.*?)(?:\n\n|\Z)", rest, re.DOTALL)
            if remedy is None:
                raise self.error(f"the docstring of {name} says nothing after 'What to do:'")
            rows.append((f"{{py:class}}`~aqueue.errors.{name}`", plain(first), plain(remedy[1])))
        group = nodes.tgroup(cols=3)
        group += [nodes.colspec(colwidth=width) for width in (22, 39, 39)]
        header, *body = [self._row(row) for row in rows]
        group += [nodes.thead("", header), nodes.tbody("", *body)]
        return [nodes.table("", group)]

    def _row(self, cells: tuple[str, ...]) -> nodes.row:
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *self.parse_inline(cell)[0])) for cell in cells))


def plain(paragraph: str) -> str:
    """Return a paragraph of a docstring as one line of Markdown: code in single backquotes."""
    return re.sub(r"``(.+?)``", r"`\1`", " ".join(paragraph.split()))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("error-table", ErrorTable)
    return {"parallel_read_safe": True, "env_version": 1}
