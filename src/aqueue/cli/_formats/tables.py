"""Writes events and results as CSV (RFC 4180), in UTF-8, for spreadsheets and everything else that reads tables.

There is no byte order mark: to most readers it would be a part of the first column's name. A spreadsheet that takes the
file for another encoding is told UTF-8 when it imports it. It is also to be told that the separator is the comma: text
is kept from being run where a cell begins, not after each semicolon in it.
"""

import csv
import io
import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, Final

import msgspec

from aqueue.events import Event
from aqueue.journal import ItemResult
from aqueue.log_lines import render_record, timestamp_of
from aqueue.text import visible

__all__ = [
    "EVENT_COLUMNS",
    "MORE",
    "ResultColumns",
    "csv_cell",
    "result_columns",
    "write_events_csv",
    "write_results_csv",
]

MORE: Final = "…"
"""The name of the column for the keys of results that got no column of their own."""

# What a spreadsheet takes for the beginning of a formula, by https://owasp.org/www-community/attacks/CSV_Injection, and
# the minus sign proper. Full-width, small and raised variants are the same characters under NFKC.
_BEGINS_FORMULA: Final = frozenset("=+-@\u2212")
_CUT_CELL: Final = frozenset("\t\r\n")
# White space, control and format characters: what is skipped before the first character that counts.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})

_BUFFER_CHARS: Final = 65_536


def csv_cell(value: object) -> str:
    """Return `value` as the text of a cell that a spreadsheet shows and doesn't run.

    Numbers stay numbers, negative ones too; None is an empty cell; booleans are ``true`` and ``false``. Text is made
    visible (`aqueue.text.visible`), and gets an apostrophe before it if it begins like a formula, also after characters
    that aren't seen, or with a tab or a line break. Anything else is written as JSON.
    """
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    if value is None:
        return ""
    if isinstance(value, float):
        return _text(str(value))
    return _text(render_record(value).decode())


def _text(text: str) -> str:
    shown = visible(text)
    return f"'{shown}" if _is_formula(text) else shown


def _is_formula(text: str) -> bool:
    first = text[:1]
    if first.isalnum():  # most text, and under NFKC no letter or digit is one of these
        return False
    if first and first in _CUT_CELL:
        return True
    for character in text:
        if unicodedata.category(character) not in _UNSEEN:
            return unicodedata.normalize("NFKC", character)[0] in _BEGINS_FORMULA
    return False


class _Column(msgspec.Struct, frozen=True):
    """A column of the table of events.

    Attributes:
        name: what stands above it.
        path: the field that it carries, or one inside that, after a dot.
        cell: makes the text of a cell.
    """

    name: str
    path: str
    cell: Callable[[Any], str] = csv_cell


def _data(raw: msgspec.Raw) -> str:
    return csv_cell(msgspec.json.decode(raw)) if raw else ""


def _time(at: float) -> str:
    try:
        return timestamp_of(at)
    except (ValueError, OverflowError, OSError):  # a pause of 10,000 years, say
        return ""


def _worker(number: int) -> str:
    return csv_cell(number) if number else ""


_DATA_COLUMNS: Final = (_Column("result", "result", _data), _Column("payload", "payload", _data))

# In the order in which a person looks for them; new fields of events go before the data.
_COLUMNS: Final = (
    _Column("seq", "seq"),
    _Column("at", "at"),
    _Column("time", "at", _time),
    _Column("event", "event"),
    _Column("item", "item"),
    _Column("parent", "parent"),
    _Column("type", "type"),
    _Column("worker", "worker", _worker),
    _Column("phase", "phase"),
    _Column("attempt", "attempt"),
    _Column("text", "text"),
    _Column("duration_s", "duration_s"),
    _Column("error_type", "error.type"),
    _Column("error_message", "error.message"),
    _Column("error_traceback", "error.traceback"),
    _Column("due", "due"),
    _Column("due_time", "due", _time),
    _Column("reason", "reason"),
    _Column("cancelling", "cancelling"),
    _Column("failed", "failed"),
    _Column("deduplicated", "deduplicated"),
    _Column("track_overall", "track_overall"),
    _Column("key", "key"),
    _Column("hook", "hook"),
    _Column("occurrence", "occurrence"),
    _Column("group", "group"),
    _Column("reporter", "reporter"),
    _Column("run_id", "run_id"),
    _Column("schema_version", "schema_version"),
    _Column("aqueue_version", "aqueue_version"),
    _Column("num_workers", "num_workers"),
    _Column("queue_type_name", "queue_type_name"),
    _Column("pid", "pid"),
    _Column("host", "host"),
    _Column("cluster", "cluster"),
    _Column("first_worker", "first_worker"),
    _Column("ignored", "ignored"),
    _Column("status", "status"),
    _Column("counts_enqueued", "counts.enqueued"),
    _Column("counts_completed", "counts.completed"),
    _Column("counts_failed", "counts.failed"),
    _Column("counts_interrupted", "counts.interrupted"),
    _Column("counts_deduplicated", "counts.deduplicated"),
    _Column("counts_retried", "counts.retried"),
    *_DATA_COLUMNS,
)

EVENT_COLUMNS: Final = tuple(column.name for column in _COLUMNS)
"""The columns of the table of events, in order.

``at`` and ``due`` are Unix times in seconds; ``time`` and ``due_time`` are the same in ISO 8601, UTC. What an event
doesn't have is an empty cell; what it has by default is written out.
"""


def write_events_csv(
    batches: Iterable[Sequence[Event]], write: Callable[[bytes], object], include_data: bool = False
) -> None:
    """Write a table with a row per event and the columns `EVENT_COLUMNS`; all of them, whatever events there are.

    Parameters:
        batches: events, in order. One batch at a time is in memory.
        write: takes the next bytes of the file, whole rows.
        include_data: whether to fill the columns ``payload`` and ``result``, which may hold secrets.

    Raises:
        Exception: what `batches` or `write` raises.
    """
    table = _Table(write)
    table.row(EVENT_COLUMNS)
    for batch in batches:
        for event in batch:
            cells = [""] * len(_COLUMNS)
            for position, field, cell in _cells_of(type(event), include_data):
                cells[position] = cell(field(event))
            table.row(cells)
    table.flush()


@cache
def _cells_of(
    cls: type[Event], include_data: bool
) -> tuple[tuple[int, Callable[[Event], Any], Callable[[Any], str]], ...]:
    """Return what cells an event of `cls` has: the column's position, what gets the field, what makes the text."""
    fields = {*cls.__struct_fields__, "event"}
    return tuple(
        (position, attrgetter(column.path), column.cell)
        for position, column in enumerate(_COLUMNS)
        if column.path.partition(".")[0] in fields and (include_data or column not in _DATA_COLUMNS)
    )


class ResultColumns(msgspec.Struct, frozen=True):
    """The columns of a table of results, in addition to ``item`` and ``type``.

    Attributes:
        keys: the keys of results that are JSON objects, a column each, in the order in which they first came.
        has_others: whether there are results that are no objects; they have the column ``result``.
        has_more: whether there were more keys than columns; the others of a row are together in the column `MORE`.
    """

    keys: tuple[str, ...] = ()
    has_others: bool = False
    has_more: bool = False

    @property
    def names(self) -> list[str]:
        """What stands above all columns; a key that would repeat a name, whatever its case, is ``result.KEY`` there."""
        names = ["item", "type", *["result"] * self.has_others]
        taken = {*names, MORE}
        for key in self.keys:
            name = csv_cell(key)
            number = 1
            while not name or name.casefold() in taken:
                name = f"result.{visible(key)}" if number == 1 else f"result.{visible(key)} ({number})"
                number += 1
            taken.add(name.casefold())
            names.append(name)
        return [*names, *[MORE] * self.has_more]

    def fit(self, row: ItemResult) -> bool:
        """Return whether there is a column for each part of a result."""
        if not isinstance(row.result, dict):
            return self.has_others
        return self.has_more or row.result.keys() <= set(self.keys)


def result_columns(rows: Iterable[ItemResult], max_keys: int = 1_000) -> ResultColumns:
    """Return the columns that a table of `rows` needs.

    Parameters:
        rows: all the results of the table to come. Of them only the keys stay in memory.
        max_keys: how many keys get a column of their own.

    Raises:
        Exception: what `rows` raises.
    """
    keys: dict[str, None] = {}
    has_others = has_more = False
    for row in rows:
        if not isinstance(row.result, dict):
            has_others = True
            continue
        for key in row.result:
            if key not in keys:
                if len(keys) < max_keys:
                    keys[key] = None
                else:
                    has_more = True
    return ResultColumns(tuple(keys), has_others, has_more)


def write_results_csv(
    rows: Iterable[ItemResult],
    write: Callable[[bytes], object],
    columns: ResultColumns,
    chosen: Sequence[int] | None = None,
) -> None:
    """Write a table with a row per result: its item's number and type, and its value in the columns that fit it.

    Parameters:
        rows: the results. One at a time is in memory.
        write: takes the next bytes of the file, whole rows.
        columns: those that `result_columns` gave for the same results.
        chosen: which of `columns.names` to write, in this order, by their positions; None for all.

    Raises:
        ValueError: a result has no column: it is none of those that `columns` were taken from.
        Exception: what `rows` or `write` raises.
    """
    positions = {key: position for position, key in enumerate(columns.keys)}
    table = _Table(write)
    names = columns.names
    table.row(names if chosen is None else [names[position] for position in chosen])
    for row in rows:
        result = row.result
        values = [""] * len(positions)
        more = {}
        if isinstance(result, dict):
            for key, value in result.items():
                position = positions.get(key)
                if position is None:
                    more[key] = value
                else:
                    values[position] = csv_cell(value)
        if not columns.fit(row):
            raise ValueError(f"the result of item {row.item:,} has no column; take the columns from the same results")
        cells = [str(row.item), csv_cell(row.type)]
        if columns.has_others:
            cells.append("" if isinstance(result, dict) else csv_cell(result))
        cells += values
        if columns.has_more:
            cells.append(csv_cell(more) if more else "")
        table.row(cells if chosen is None else [cells[position] for position in chosen])
    table.flush()


class _Table:
    """Writes rows of cells that are text already, many at a time."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text)

    def row(self, cells: Sequence[str]) -> None:
        self._writer.writerow(cells)
        if self._text.tell() > _BUFFER_CHARS:
            self.flush()

    def flush(self) -> None:
        self._write(self._text.getvalue().encode())
        self._text.seek(0)
        self._text.truncate()
