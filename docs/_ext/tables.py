"""What the directives have in common that make a table from the code."""

from collections.abc import Iterable
from typing import ClassVar

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

__all__ = ["TableDirective"]


class TableDirective(SphinxDirective):
    """A table whose cells are Markdown. Subclasses say what stands in it.

    Class attributes:
        header: what stands above the columns.
        widths: how wide the columns are, in proportion.
    """

    header: ClassVar[tuple[str, ...]]
    widths: ClassVar[tuple[int, ...]]

    def rows(self) -> Iterable[tuple[str, ...]]:
        """Return the rows below the header."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        group = nodes.tgroup(cols=len(self.widths))
        group += [nodes.colspec(colwidth=width) for width in self.widths]
        body = [self._row(row) for row in self.rows()]
        group += [nodes.thead("", self._row(self.header)), nodes.tbody("", *body)]
        return [nodes.table("", group)]

    def _row(self, cells: tuple[str, ...]) -> nodes.row:
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *self.parse_inline(cell)[0])) for cell in cells))
