"""The directive ``event-table``: every event type and its fields, taken from `aqueue.events` when the docs are built."""

import inspect
from collections.abc import Iterator

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata
from tables import TableDirective

from aqueue.events import EVENT_TYPES, Event


class EventTable(TableDirective):
    """One row an event: its name, when it happens, its fields beside those that all events have."""

    header = ("Event", "When", "Fields besides seq and at")
    widths = (25, 40, 35)

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield a row an event."""
        for name, cls in EVENT_TYPES.items():
            when = inspect.cleandoc(cls.__doc__ or "").splitlines()[0]
            fields = [field for field in cls.__struct_fields__ if field not in Event.__struct_fields__]
            link = f"{{py:class}}`{name} <{cls.__module__}.{cls.__name__}>`"
            yield link, when, ", ".join(f"`{field}`" for field in fields)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("event-table", EventTable)
    return {"parallel_read_safe": True, "env_version": 1}
