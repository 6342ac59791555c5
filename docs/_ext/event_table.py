"""The directive ``event-table``: every event type and its fields, taken from `aqueue.events` when the docs are built."""

import inspect

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from aqueue.events import EVENT_TYPES, Event


class EventTable(SphinxDirective):
    """One row an event: its name, when it happens, its fields beside those that all events have."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        rows = [("Event", "When", "Fields besides seq and at")]
        for name, cls in EVENT_TYPES.items():
            when = inspect.cleandoc(cls.__doc__ or "").splitlines()[0]
            fields = [field for field in cls.__struct_fields__ if field not in Event.__struct_fields__]
            link = f"{{py:class}}`{name} <{cls.__module__}.{cls.__name__}>`"
            rows.append((link, when, ", ".join(f"`{field}`" for field in fields)))
        group = nodes.tgroup(cols=3)
        group += [nodes.colspec(colwidth=width) for width in (25, 40, 35)]
        header, *body = [self._row(row) for row in rows]
        group += [nodes.thead("", header), nodes.tbody("", *body)]
        return [nodes.table("", group)]

    def _row(self, cells: tuple[str, ...]) -> nodes.row:
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *self.parse_inline(cell)[0])) for cell in cells))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("event-table", EventTable)
    return {"parallel_read_safe": True, "env_version": 1}
