"""Add the running item to log records: a processor for structlog and a filter for the standard `logging`."""

import logging
from typing import TYPE_CHECKING

from aqueue._engine.context import current_or_none

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

__all__ = ["ItemFilter", "add_item"]


def add_item(logger: "WrappedLogger", method_name: str, event_dict: "EventDict") -> "EventDict":
    """Add the running item to a structlog record: a processor, to be put before the one that renders.

    A record made inside an item's `process` or hook, or in a thread or task that these started, gets ``item`` (the
    item's number), ``type`` (its class, as ``module:qualname``) and ``worker`` (the worker's number): the names that
    the jsonl reporter uses. Keys that the record has already are kept. Other records are not changed.

    Parameters:
        logger: not used; structlog passes it to each processor.
        method_name: not used either.
        event_dict: the record to which the item is added.

    Returns:
        The same `event_dict`.
    """
    running = current_or_none()
    if running is not None:
        event_dict.setdefault("item", running.id)
        event_dict.setdefault("type", running.type)
        event_dict.setdefault("worker", running.worker)
    return event_dict


class ItemFilter(logging.Filter):
    """Add the running item to the standard library's log records; no record is left out.

    Each gets the attributes ``item`` (the item's number), ``item_type`` (its class, as ``module:qualname``) and
    ``worker`` (the worker's number); all are None for a record made outside an item's `process` and hook. Add the
    filter to a handler: the filter of a logger doesn't see the records of the loggers below it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Set the attributes, and keep the record."""
        running = current_or_none()
        record.item = None if running is None else running.id
        record.item_type = None if running is None else running.type
        record.worker = None if running is None else running.worker
        return True
