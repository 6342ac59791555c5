"""``aqueue failures``: lists what failed, by kind and one by one, with tracebacks on request."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import click
import msgspec
from rich.console import RenderableType
from rich.text import Text

from aqueue._history.opening import open_history
from aqueue.cli._app import app, closed_at_end, examples, file_argument, finish, json_option, limit_option, run_option
from aqueue.cli._item_types import item_types, type_option
from aqueue.cli._record import ItemTexts, Record
from aqueue.cli._screen import (
    Column,
    error_summary,
    heading,
    host_and_pid,
    host_and_pid_fields,
    indented,
    local_time,
    print_json_lines,
    print_lines,
    remark,
    table,
    text,
    traceback_lines,
)
from aqueue.events import ItemFailed
from aqueue.figures import amount
from aqueue.text import visible
from aqueue.tracebacks import place, user_frames
from aqueue.view import WorkerProcess

__all__ = ["failures"]

_MAX_GROUPS: Final = 20
_MAX_MESSAGE_CHARS: Final = 300


@app.command(
    short_help="List what failed, by kind and one by one.",
    epilog=examples(
        "aqueue failures run.db",
        "aqueue failures run.db --type Page --tracebacks",
        "aqueue failures run.db --json | jq -r .error.message | sort | uniq -c",
    ),
)
@file_argument
@type_option
@click.option(
    "--tracebacks",
    is_flag=True,
    help="Each failure with its whole traceback instead of a table; all of them, unless --limit is given.",
)
@limit_option
@run_option
@json_option
def failures(file: str, types: tuple[str, ...], tracebacks: bool, limit: int | None, run: str, as_json: bool) -> None:
    """List what failed for good: how many of each kind, then one by one.

    Items that a resumed run has taken up again are not among them.
    """
    record = Record(closed_at_end(open_history(file, run=run)))
    rows = list(record.items.rows_in(("failed",), item_types(types, record.items.types)))
    if as_json:
        print_json_lines(_as_json(record, row, texts) for row, texts in record.texts(rows[:limit]))
    elif not rows:
        print_lines([remark("nothing of this type has failed" if types else "nothing has failed")])
    else:
        default = len(rows) if tracebacks else 50
        _print(record, rows, limit=default if limit is None else limit, tracebacks=tracebacks, all_types=not types)
    finish(record.history)


def _print(record: Record, rows: Sequence[int], *, limit: int, tracebacks: bool, all_types: bool) -> None:
    parts: list[RenderableType] = []
    if all_types:
        parts += _by_kind(record)
    found = record.texts(rows[:limit])
    if tracebacks:
        print_lines(parts)
        for row, texts in found:
            print_lines(_with_traceback(record, row, texts))
        parts = []
    else:
        parts += ["", _one_by_one(record, found)] if parts else [_one_by_one(record, found)]
    if len(rows) > limit:
        parts.append(remark(f"{amount(len(rows) - limit)} more: --limit {len(rows)} shows all"))
    print_lines(parts)


def _by_kind(record: Record) -> list[RenderableType]:
    groups = record.failure_groups()
    rows: list[list[Text | str]] = []
    for group in groups[:_MAX_GROUPS]:
        name = record.names.get(group.type) or visible(group.type, 200)
        frames = user_frames(group.first.error.traceback)
        rows.append(
            [
                Text(amount(group.count), style="bold red"),
                f"{name} after children" if group.phase == "after_children" else name,
                Text(error_summary(group.error, ""), style="red"),
                text(place(frames[-1]), "dim", _MAX_MESSAGE_CHARS) if frames else "",
            ]
        )
    columns = [Column("", True), Column("type", may_shrink=True), Column("error"), Column("where", may_shrink=True)]
    parts: list[RenderableType] = [heading("Kinds of failures", amount(len(groups))), table(columns, rows)]
    if len(groups) > _MAX_GROUPS:
        parts.append(remark(f"{amount(len(groups) - _MAX_GROUPS)} more kinds"))
    return parts


def _one_by_one(record: Record, found: Iterable[tuple[int, ItemTexts]]) -> RenderableType:
    rows: list[list[Text | str]] = []
    for row, texts in found:
        error = texts.failure.error if texts.failure is not None else None
        message = error_summary(error.type, error.message, _MAX_MESSAGE_CHARS) if error is not None else ""
        rows.append(
            [
                str(record.items.item_of(row)),
                record.name_of(row),
                Text(local_time(record.items.ended_at[row]), style="dim"),
                Text(message, style="red"),
                text(texts.label, max_chars=200),
            ]
        )
    columns = [
        Column("item", is_number=True),
        Column("type", may_shrink=True),
        Column("failed"),
        Column("error", may_shrink=True),
        Column("what", may_shrink=True),
    ]
    return table(columns, rows)


def _with_traceback(record: Record, row: int, texts: ItemTexts) -> list[RenderableType]:
    process = _process_of(record, row, texts)
    parts: list[RenderableType] = [
        "",
        Text.assemble(
            (f"Item {record.items.item_of(row)}", "bold"),
            f" {record.name_of(row)}, {local_time(record.items.ended_at[row])}",
            (f", attempt {texts.failure.attempt}" if texts.failure is not None else ""),
            (f", on {host_and_pid(process)}" if process is not None else ""),
            (", after its children" if texts.failure is not None and texts.failure.phase != "process" else ""),
        ),
    ]
    if texts.label:
        parts.append(indented(text(texts.label, "dim")))
    if texts.failure is not None:
        error = texts.failure.error
        parts.append(indented(traceback_lines(error.traceback or error.message)))
    return parts


def _process_of(record: Record, row: int, texts: ItemTexts) -> WorkerProcess | None:
    """Return in which worker process of a cluster it failed; None without one, or if not known. Hooks run in none."""
    in_hook = texts.failure is not None and texts.failure.phase != "process"
    return None if in_hook else record.items.process_of(row)


def _as_json(record: Record, row: int, texts: ItemTexts) -> dict[str, Any]:
    failure = texts.failure
    process = _process_of(record, row, texts)
    return {
        "item": record.items.item_of(row),
        "parent": record.items.parent_of(row),
        "type": record.items.type_of(row),
        "key": texts.key,
        "description": texts.description,
        "at": record.items.ended_at[row],
        "worker": record.items.worker[row],
        **host_and_pid_fields(process),
        "phase": failure.phase if failure is not None else "process",
        "attempt": failure.attempt if failure is not None else 1,
        "duration_s": failure.duration_s if isinstance(failure, ItemFailed) else None,
        "error": msgspec.structs.asdict(failure.error) if failure is not None else None,
    }
