"""``aqueue items``: lists the items of a run by state and type, or the slowest."""

from heapq import nlargest
from typing import Any

import click

from aqueue._folds.item_table import OUTSTANDING, STATES
from aqueue._history.record import ItemTexts, Record
from aqueue.cli import _app, _lists, _screen
from aqueue.cli._item_types import item_types, type_option
from aqueue.cli._record import read_live, read_record

__all__ = ["items"]


@_app.command(
    "List items by state and type, or the slowest.",
    "aqueue items run.db --state failed",
    "aqueue items run.db --state running --slowest 5",
    "aqueue items run.db --type Page --slowest 20",
    "aqueue items run.db --state outstanding --json | jq .item",
)
@click.option(
    "--state",
    "states",
    metavar="STATE",
    type=click.Choice((*STATES, "outstanding")),
    multiple=True,
    help=f"Only items in this state: {', '.join(STATES)}, or outstanding, which is the first four. Repeatable.",
)
@type_option
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
    states: tuple[str, ...],
    types: tuple[str, ...],
    slowest: int | None,
    limit: int | None,
    run: str,
    as_json: bool,
) -> None:
    """List the items of a run, in the order in which they were enqueued.

    Each item is queued, running, retrying (waiting for its next attempt), interrupted (by a cancellation, a crash or a lost
    worker process), completed or failed.
    """
    wanted = {state for state in STATES if not states or state in states}
    if "outstanding" in states:
        wanted |= OUTSTANDING
    record = read_record(file, run) if wanted & {"completed", "skipped"} else read_live(file, run)
    rows = list(record.items.rows_in(wanted, item_types(types, record.items.types, record.view.types)))
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
