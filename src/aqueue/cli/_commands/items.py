"""``aqueue items``: lists the items of a run by state and type, or the slowest."""

from collections.abc import Iterable, Iterator, Sequence
from heapq import nlargest
from typing import Any, Final

import click
import msgspec
from rich.text import Text

from aqueue._folds.item_table import OUTSTANDING, STATES, State
from aqueue._history.opening import open_history
from aqueue.cli._app import (
    WholeNumber,
    app,
    closed_at_end,
    examples,
    file_argument,
    finish,
    json_option,
    limit_option,
    run_option,
)
from aqueue.cli._item_types import item_types, type_option
from aqueue.cli._record import ItemTexts, Record
from aqueue.cli._screen import (
    STATE_STYLES,
    Column,
    error_summary,
    host_and_pid_fields,
    print_json_lines,
    print_lines,
    remark,
    table,
    text,
)
from aqueue.figures import amount, duration, when_due

__all__ = ["items"]

_CHOICES: Final = (*STATES, "outstanding")
_MAX_TEXT_CHARS: Final = 200


@app.command(
    short_help="List items by state and type, or the slowest.",
    epilog=examples(
        "aqueue items run.db --state failed",
        "aqueue items run.db --state running --slowest 5",
        "aqueue items run.db --type Page --slowest 20",
        "aqueue items run.db --state outstanding --json | jq .item",
    ),
)
@file_argument
@click.option(
    "--state",
    "states",
    metavar="STATE",
    type=click.Choice(_CHOICES),
    multiple=True,
    help=f"Only items in this state: {', '.join(STATES)}, or outstanding, the first four together. May be given several "
    "times.",
)
@type_option
@click.option(
    "--slowest",
    type=WholeNumber(1),
    metavar="N",
    help="The N whose last attempt took, or has taken, the longest, the slowest first.",
)
@limit_option
@run_option
@json_option
def items(
    file: str,
    states: tuple[str, ...],
    types: tuple[str, ...],
    slowest: int | None,
    limit: int | None,
    run: str,
    as_json: bool,
) -> None:
    """List the items of a run, in the order of enqueue.

    Each with its state: queued; running; retrying, while it waits for its next attempt; interrupted, by a cancellation or a crash;
    completed; failed.
    """
    record = Record(closed_at_end(open_history(file, run=run)))
    rows = record.items.rows_in(_states(states), item_types(types, record.items.types))
    if slowest is not None:
        rows = iter(nlargest(slowest, rows, key=record.duration_s))
        limit = slowest if limit is None else limit
    if as_json:
        print_json_lines(_as_json(record, row, texts) for row, texts in record.texts(_first(rows, limit)))
    else:
        _print_table(record, list(rows), limit)
    finish(record.history)


def _states(names: Sequence[str]) -> frozenset[State]:
    if not names:
        return frozenset(STATES)
    wanted = frozenset(state for state in STATES if state in names)
    return wanted | OUTSTANDING if "outstanding" in names else wanted


def _first(rows: Iterable[int], limit: int | None) -> Iterator[int]:
    for number, row in enumerate(rows):
        if number == limit:
            return
        yield row


def _print_table(record: Record, rows: Sequence[int], limit: int | None) -> None:
    limit = 50 if limit is None else limit
    shown = rows[:limit]
    several = any(record.items.attempts[row] > 1 for row in shown)
    columns = [
        Column("item", is_number=True),
        Column("type", may_shrink=True),
        Column("state"),
        *([Column("attempts", is_number=True)] if several else []),
        Column("took", is_number=True),
        Column("what", may_shrink=True),
    ]
    cells = (_cells(record, row, texts, several=several) for row, texts in record.texts(shown))
    parts = [table(columns, cells)] if shown else []
    if len(rows) > limit:
        parts.append(remark(f"{amount(len(rows) - limit)} more: --limit {len(rows)} shows all"))
    elif not rows:
        parts.append(remark("no item is like that" if len(record.items) else "no items yet"))
    print_lines(parts)


def _cells(record: Record, row: int, texts: ItemTexts, *, several: bool) -> list[Text | str]:
    items = record.items
    state = items.state_of(row)
    took = duration(record.duration_s(row)) if items.started_at[row] else ""
    what = text(texts.label, max_chars=_MAX_TEXT_CHARS)
    if state == "retrying" and record.state.name == "running":
        what = Text.assemble((f"again {when_due(items.due.get(row, 0.0), record.now)}  ", "magenta"), what)
    if texts.failure is not None and state in ("failed", "retrying"):
        said = error_summary(texts.failure.error.type, texts.failure.error.message, _MAX_TEXT_CHARS)
        what = Text.assemble((said, "red"), "  ", what) if what else Text(said, style="red")
    return [
        str(items.item_of(row)),
        record.name_of(row),
        Text(state, style=STATE_STYLES[state]),
        *([str(items.attempts[row] or "")] if several else []),
        took,
        what,
    ]


def _as_json(record: Record, row: int, texts: ItemTexts) -> dict[str, Any]:
    items = record.items
    failure = texts.failure if items.state_of(row) in ("failed", "retrying") else None
    process = items.process_of(row)
    return {
        "item": items.item_of(row),
        "parent": items.parent_of(row),
        "type": items.type_of(row),
        "key": texts.key,
        "state": items.state_of(row),
        "attempts": items.attempts[row],
        "worker": items.worker[row] or None,
        **host_and_pid_fields(process),
        "enqueued_at": items.enqueued_at[row],
        "started_at": items.started_at[row] or None,
        "ended_at": items.ended_at[row] or None,
        "duration_s": round(record.duration_s(row), 6) if items.started_at[row] else None,
        "due": items.due.get(row),
        "description": texts.description,
        "error": msgspec.structs.asdict(failure.error) if failure is not None else None,
    }
