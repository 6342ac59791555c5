"""``aqueue failures``: lists what failed, by kind and one by one, with tracebacks on request."""

import re
from typing import Any, Final

import click
from rich.console import RenderableType
from rich.text import Text

from aqueue._codec.digests import digest_of
from aqueue._history.event_words import host_and_pid
from aqueue._history.record import ItemTexts, Record
from aqueue.cli import _app, _lists, _screen
from aqueue.cli._item_types import item_types, type_option
from aqueue.cli._record import read_live
from aqueue.events import ItemFailed
from aqueue.figures import amount
from aqueue.text import first_line, visible
from aqueue.view import WorkerProcess

__all__ = ["failures"]

_MAX_GROUPS: Final = 5
_MAX_MESSAGE_CHARS: Final = 300
_SHOWN: Final = 10
"""How many failures are shown by default, so that the kinds above them stay on the screen."""

# In a group of exceptions, bars and numbered rules are before these.
_FRAME: Final = re.compile(r'^(?P<margin>[ |]+)File ".+", line [0-9]+, in .+$')
_BEGINNING: Final = re.compile(r"^[ |+-]*(?:(?:Exception Group )?Traceback \(most recent call last\):|[0-9.]+ -+)$")


@_app.command(
    "List failures, by kind and one by one.",
    "aqueue failures run.db",
    "aqueue failures run.db --type Page --tracebacks --all",
    "aqueue failures run.db --json | jq -r .error.message | sort | uniq -c",
)
@type_option
@click.option(
    "--tracebacks",
    is_flag=True,
    help="Show each failure with its traceback instead of a table. Tracebacks that differ only in messages are shown once.",
)
@_app.limit_options(_SHOWN)
@_app.run_option
@_app.json_option
def failures(file: str, types: tuple[str, ...], tracebacks: bool, limit: int | None, run: str, as_json: bool) -> None:
    """List items that failed for good: first how many of each kind, then one by one.

    Failures that a resumed run has retried are left out.
    """
    record = read_live(file, run)
    rows = list(record.items.rows_in(("failed",), item_types(types, record.items.types, record.view.types)))
    if as_json:
        _screen.print_json_lines(_as_json(record, row, texts) for row, texts in record.texts(rows[:limit]))
        _app.finish(record.history)
    shown = rows[: _SHOWN if limit is None else limit]
    if rows and not types:
        _screen.print_lines([*_by_kind(record, _MAX_GROUPS if limit is None else limit), *([] if tracebacks else [""])])
    if tracebacks:
        shown_for: dict[bytes, int] = {}
        for row, texts in record.texts(shown):
            _screen.print_lines(_with_traceback(record, row, texts, shown_for))
    elif shown:
        _screen.print_lines([_lists.list_of_items(record, shown, ["item", "type", "failed", "error", "label"])])
    nothing = "no item of this type has failed" if types else "no item has failed"
    _screen.print_lines(_lists.nothing_or_more(len(rows), len(shown), nothing))
    _app.finish(record.history)


def _by_kind(record: Record, most: int) -> list[RenderableType]:
    groups = record.failure_groups()
    parts: list[RenderableType] = [
        _screen.heading("Kinds of failures", amount(len(groups))),
        _lists.failure_kinds(record, groups, most),
    ]
    if len(groups) > most:
        parts.append(_screen.remark(f"{amount(len(groups) - most)} more kinds; use --all to see them"))
    return parts


def _with_traceback(record: Record, row: int, texts: ItemTexts, shown_for: dict[bytes, int]) -> list[RenderableType]:
    """Return a failure with its traceback, or its message if only that differs from an earlier one.

    `shown_for` has the item of each traceback so far, by a digest.
    """
    item = record.items.item_of(row)
    process, failure = _process_of(record, row, texts), texts.failure
    facts = [
        f" {record.name_of(row)}",
        _screen.local_time(record.items.ended_at[row]),
        *([f"attempt {failure.attempt}"] if failure is not None else []),
        *([f"on {host_and_pid(process)}"] if process is not None else []),
        *(["in its hook"] if failure is not None and failure.phase != "process" else []),
    ]
    parts: list[RenderableType] = [
        "",
        Text.assemble((f"Item {item}", "bold"), ", ".join(facts)),
    ]
    if texts.label:
        parts.append(_screen.indented(_screen.text(texts.label, "dim")))
    if failure is not None:
        raised = failure.error.traceback or failure.error.message
        first = shown_for.setdefault(digest_of(_without_messages(raised).encode("utf-8", "surrogatepass")), item)
        message = visible(first_line(failure.error.message), _MAX_MESSAGE_CHARS)
        same = _screen.remark(f"the same traceback as item {first}{f': {message}' if message else ''}")
        parts.append(_screen.indented(_screen.traceback_lines(raised) if first == item else same))
    return parts


def _without_messages(traceback: str) -> str:
    """Return the frames of a traceback and the types of its exceptions; all of it if it has no frames.

    Messages are left out, since those of HTTP errors have another URL each.
    """
    kept: list[str] = []
    margin, in_message, has_frames = "", False, False
    for line in traceback.splitlines():
        if (frame := _FRAME.match(line)) or _BEGINNING.match(line):
            kept.append(line)
            margin, in_message, has_frames = frame["margin"] if frame else "", False, has_frames or frame is not None
        elif line and not in_message and not (margin and line.startswith(margin)):  # below frames are lines of code
            kept.append(line.partition(":")[0])
            in_message = True
    return "\n".join(kept) if has_frames else traceback


def _process_of(record: Record, row: int, texts: ItemTexts) -> WorkerProcess | None:
    """Return the worker process of a cluster in which it failed; None if there is none, as for hooks, or if it isn't known."""
    in_hook = texts.failure is not None and texts.failure.phase != "process"
    return None if in_hook else record.items.process_of(row)


def _as_json(record: Record, row: int, texts: ItemTexts) -> dict[str, Any]:
    failure = texts.failure
    return {
        **_lists.item_fields(record, row, texts),
        "at": record.items.ended_at[row],
        "worker": record.items.worker[row],
        **_screen.host_and_pid_fields(_process_of(record, row, texts)),
        "phase": failure.phase if failure is not None else "process",
        "attempt": failure.attempt if failure is not None else 1,
        "duration_s": failure.duration_s if isinstance(failure, ItemFailed) else None,
    }
