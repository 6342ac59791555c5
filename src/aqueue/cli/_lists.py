"""What several subcommands print alike: items, items by type and state, kinds of failures, what people have set."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from rich.console import RenderableType
from rich.text import Text

from aqueue import events as ev
from aqueue._folds.item_table import State
from aqueue._history.record import HoldingCommand, ItemTexts, Record, words_of_command
from aqueue.cli import _screen
from aqueue.cli._screen import Column
from aqueue.figures import amount, duration, when_due
from aqueue.result import FailureGroup
from aqueue.text import first_line, visible
from aqueue.tracebacks import place, user_frames

__all__ = [
    "failure_kinds",
    "in_force",
    "in_force_fields",
    "item_fields",
    "items_by_state",
    "list_of_items",
    "nothing_or_more",
    "title_of",
]

_MAX_TYPES: Final = 20
_MAX_TEXT_CHARS: Final = 200
_MAX_MESSAGE_CHARS: Final = 300
_MAX_IN_FORCE: Final = 20
_STATE_ORDER: Final[tuple[State, ...]] = (
    "completed",
    "failed",
    "skipped",
    "running",
    "queued",
    "retrying",
    "interrupted",
)

_TITLES: Final[Mapping[State, str]] = {"queued": "waiting"}
"""What displays call a state, if it isn't by its own name."""


def title_of(state: State) -> str:
    """Return what displays call a state of an item."""
    return _TITLES.get(state, state)


def item_fields(record: Record, row: int, texts: ItemTexts) -> dict[str, Any]:
    """Return the fields of an item that JSON has in every subcommand."""
    items = record.items
    state = items.state_of(row)
    failure = texts.failure if state in ("failed", "retrying") else None
    return {
        "item": items.item_of(row),
        "parent": items.parent_of(row),
        "type": items.type_of(row),
        "key": texts.key,
        "state": state,
        "description": texts.description,
        "error": msgspec.structs.asdict(failure.error) if failure is not None else None,
    }


def _what(record: Record, row: int, texts: ItemTexts) -> Text:
    """Return when it is retried, what it raised, and its label."""
    state = record.items.state_of(row)
    parts: list[Text] = []
    if state == "retrying" and record.state.name == "running":
        parts.append(Text(f"due {when_due(record.items.due.get(row, 0.0), record.now)}", "magenta"))
    if state in ("failed", "retrying"):
        parts.append(_error(texts))
    if texts.label:
        parts.append(_screen.text(texts.label, max_chars=_MAX_TEXT_CHARS))
    return Text("  ").join(part for part in parts if part)


def _error(texts: ItemTexts) -> Text:
    if texts.failure is None:
        return Text()
    error = texts.failure.error
    return Text(_screen.error_summary(error.type, error.message, _MAX_MESSAGE_CHARS), "red")


def _took(record: Record, row: int, texts: ItemTexts) -> str:
    return duration(record.duration_s(row)) if record.items.started_at[row] else ""


_COLUMNS: Final[Mapping[str, tuple[Column, Callable[[Record, int, ItemTexts], Text | str]]]] = {
    "item": (Column("item", is_number=True), lambda record, row, texts: str(record.items.item_of(row))),
    "type": (Column("type", may_shrink=True), lambda record, row, texts: record.name_of(row)),
    "state": (Column("state"), lambda record, row, texts: _screen.state_text(record.items.state_of(row))),
    "attempts": (
        Column("attempts", is_number=True),
        lambda record, row, texts: str(record.items.attempts[row] or ""),
    ),
    "took": (Column("took", is_number=True), _took),
    "failed": (
        Column("failed"),
        lambda record, row, texts: Text(_screen.local_time(record.items.ended_at[row])[5:16], "dim"),
    ),
    "error": (Column("error", may_shrink=True), lambda record, row, texts: _error(texts)),
    "label": (
        Column("description", may_shrink=True),
        lambda record, row, texts: _screen.text(texts.label, max_chars=_MAX_TEXT_CHARS),
    ),
    "what": (Column("details", may_shrink=True), _what),
}


def list_of_items(record: Record, rows: Sequence[int], columns: Sequence[str]) -> RenderableType:
    """Return a table of the items in some rows, with the columns of these names."""
    chosen = [_COLUMNS[name] for name in columns]
    cells = ([cell(record, row, texts) for _, cell in chosen] for row, texts in record.texts(rows))
    return _screen.table([column for column, _ in chosen], cells)


def nothing_or_more(total: int, shown: int, nothing: str) -> list[RenderableType]:
    """Return the remark below a list that is empty or not shown in full."""
    if not total:
        return [_screen.remark(nothing)]
    return [_screen.remark(f"{amount(total - shown)} more; use --all to see them")] if total > shown else []


def items_by_state(record: Record, counts: Mapping[tuple[str, State], int]) -> RenderableType:
    """Return a table with a row per type, the most numerous first, and a column for each state that there is.

    Parameters:
        record: the run.
        counts: how many items there are, by their type and their state.
    """
    states = [state for state in _STATE_ORDER if state == "completed" or any(found == state for _, found in counts)]
    totals = Counter[str]()
    for (type, _), count in counts.items():
        totals[type] += count
    ranked = [type for type, _ in totals.most_common()]
    shown = [(record.names[type], [type]) for type in ranked[:_MAX_TYPES]]
    if rest := ranked[_MAX_TYPES:]:
        shown.append((f"+{amount(len(rest))} more types", rest))
    rows: list[list[Text | str]] = []
    for name, types in shown:
        sums = {state: sum(counts.get((type, state), 0) for type in types) for state in states}
        styles = {
            state: "dim" if not count else "bold red" if state == "failed" else "" for state, count in sums.items()
        }
        rows.append([name, *(Text(amount(count), styles[state]) for state, count in sums.items())])
    titles = [title_of(state) for state in states]
    return _screen.table([Column("type", may_shrink=True), *(Column(title, is_number=True) for title in titles)], rows)


def failure_kinds(record: Record, groups: Sequence[FailureGroup], at_most: int) -> RenderableType:
    """Return a table of kinds of failures, each with an example and where in the user's code it was raised."""
    rows: list[list[Text | str]] = []
    for group in groups[:at_most]:
        name = record.names.get(group.type) or visible(group.type, _MAX_TEXT_CHARS)
        hook = " hook" if group.phase == "after_children" else ""
        error = Text(_screen.error_summary(group.error, ""), "red")
        message = _screen.text(first_line(group.first.error.message), max_chars=_MAX_MESSAGE_CHARS)
        rows.append([Text(amount(group.count), "bold red"), f"{name}{hook}", error, message])
        if frames := user_frames(group.first.error.traceback):
            rows.append(["", "", "", _screen.text(place(frames[-1]), "dim", _MAX_MESSAGE_CHARS)])
    columns = [
        Column("", is_number=True),
        Column("type", may_shrink=True),
        Column("error"),
        Column("example", may_shrink=True),
    ]
    return _screen.table(columns, rows)


def in_force(record: Record) -> list[str]:
    """Return a line for each thing that people have set and still holds, by whom and since when; safe to show."""
    commands = record.view.in_force.events
    lines = [visible(words_of_command(event, record.now), _MAX_TEXT_CHARS) for event in commands[:_MAX_IN_FORCE]]
    more = len(commands) - _MAX_IN_FORCE
    return [*lines, *([f"{amount(more)} more"] if more > 0 else [])]


def in_force_fields(record: Record) -> list[dict[str, Any]]:
    """Return the same as JSON objects, all of which have the same fields."""
    return [_fields_of_command(event) for event in record.view.in_force.events]


def _fields_of_command(event: HoldingCommand) -> dict[str, Any]:
    what, value, program = "pause", None, None  # type: str, object, object
    if isinstance(event, ev.RunWorkersChanged):
        what, value, program = "workers", event.num_workers, event.program
    elif isinstance(event, ev.GroupLimitChanged):
        what, value = "limit", {"concurrent": event.concurrent, "per_second": event.per_second}
        program = None if event.program is None else msgspec.structs.asdict(event.program)
    return {
        "what": what,
        "group": getattr(event, "group", None),
        "value": value,
        "program": program,
        "since": event.at,
        "by": event.by,
    }
