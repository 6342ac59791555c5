"""``aqueue items``: lists the items of a run, all or those that are selected, or the slowest."""

from heapq import nlargest
from typing import Any

import click

from aqueue._history.opening import open_history
from aqueue._history.record import ItemTexts, Record
from aqueue._history.selecting import Selector, record_for, rows_of
from aqueue.cli import _app, _lists, _screen
from aqueue.cli._selector import selector_options

__all__ = ["items"]


@_app.command(
    "List items by state, type, error, text, …, or the slowest.",
    "aqueue items run.db --state failed",
    "aqueue items run.db --state running --slowest 5",
    "aqueue items run.db --type Page --slowest 20",
    "aqueue items run.db --text example.org/gone",
    "aqueue items run.db --error 'HTTP*' --subtree 17",
    "aqueue items run.db --state outstanding --json | jq .item",
)
@selector_options
@click.option(
    "--slowest",
    type=_app.WholeNumber(1),
    metavar="N",
    help="Only the N items whose last attempt took longest, with its hook, or has taken longest so far; the slowest first.",
)
@_app.limit_options(50)
@_app.run_option
@_app.json_option
def items(
    file: str,
    selector: Selector,
    slowest: int | None,
    limit: int | None,
    run: str,
    as_json: bool,
) -> None:
    """List the items of a run, in the order in which they were enqueued.

    By default all. ITEM, a number, and options narrow the list: everything that is given must hold.

    Each item is queued, running, retrying (waiting for its next attempt), interrupted (by a cancellation, a crash or a lost
    worker process), completed, failed, or skipped by a person.
    """
    record = record_for(_app.closed_at_end(open_history(file, run=run)), selector)
    rows = rows_of(record, selector)
    if slowest is not None:
        limit = slowest if limit is None else limit
        rows = nlargest(slowest, rows, key=record.duration_s)
    if as_json:
        _screen.print_json_lines(_as_json(record, row, texts) for row, texts in record.texts(rows[:limit]))
    else:
        shown = rows[: 50 if limit is None else limit]
        several = any(record.items.attempts[row] > 1 for row in shown)
        columns = ["item", "type", "state", *(["attempts"] if several else []), "took", "what"]
        parts = [_lists.list_of_items(record, shown, columns)] if shown else []
        nothing = "no items match" if record.view.types else "no items yet"
        _screen.print_lines([*parts, *_lists.nothing_or_more(len(rows), len(shown), nothing)])
    _app.finish(record.history)


def _as_json(record: Record, row: int, texts: ItemTexts) -> dict[str, Any]:
    items = record.items
    return {
        **_lists.item_fields(record, row, texts),
        "attempts": items.attempts[row],
        "worker": items.worker[row] or None,
        **_screen.host_and_pid_fields(items.process_of(row)),
        "enqueued_at": items.enqueued_at[row],
        "started_at": items.started_at[row] or None,
        "ended_at": items.ended_at[row] or None,
        "duration_s": round(record.duration_s(row), 6) if items.started_at[row] else None,
        "due": items.due.get(row),
    }
