"""Writes events and results as JSON lines: the same lines as the jsonl reporter, and one result per line."""

from collections.abc import Callable, Iterable, Sequence

from aqueue.events import Event
from aqueue.journal import ItemResult
from aqueue.log_lines import line_of, render_record

__all__ = ["write_events_jsonl", "write_results_jsonl"]


def write_events_jsonl(
    batches: Iterable[Sequence[Event]], write: Callable[[bytes], object], include_data: bool = False
) -> None:
    """Write the same lines as the jsonl reporter.

    Parameters:
        batches: events, in order. One batch at a time is in memory.
        write: takes the lines of one batch.
        include_data: whether to include the items' payloads and results, which may hold secrets.

    Raises:
        Exception: what `batches` or `write` raises.
    """
    for batch in batches:
        if batch:
            write(b"".join([line_of(event, include_data) + b"\n" for event in batch]))


def write_results_jsonl(rows: Iterable[ItemResult], write: Callable[[bytes], object]) -> None:
    """Write one line per result, an object with the keys ``item``, ``type`` and ``result``.

    Parameters:
        rows: the results. One at a time is in memory.
        write: takes one line.

    Raises:
        Exception: what `rows` or `write` raises.
    """
    for row in rows:
        write(render_record({"item": row.item, "type": row.type, "result": row.result}) + b"\n")
