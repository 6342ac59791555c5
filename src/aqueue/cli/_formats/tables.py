"""Writes events and results as CSV (RFC 4180), in UTF-8, for spreadsheets and everything else that reads tables.

There is no byte order mark: most readers would take it for a part of the first column's name. When you import the file
into a spreadsheet, choose UTF-8, and the comma as the only separator: text is kept from running as a formula at the start
of a cell, not after each semicolon in it.
"""

import csv
import io
import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, lru_cache
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
    """Return `value` as the text of a cell that a spreadsheet shows and never runs as a formula.

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


def _cell(value: object) -> str:
    """Return what `csv.writer` makes of `csv_cell`, in half the time for most text."""
    is_plain = isinstance(value, str) and value[:1].isalnum() and value.isprintable()
    cell = str(value) if is_plain else csv_cell(value)
    return '"' + cell.replace('"', '""') + '"' if "," in cell or '"' in cell else cell


def _data(raw: msgspec.Raw) -> str:
    return _cell(msgspec.json.decode(raw)) if raw else ""


def _time(at: float) -> str:
    try:
        return timestamp_of(at)
    except (ValueError, OverflowError, OSError):  # a pause of 10,000 years, say
        return ""


# In the order in which a person looks for them; new fields of events go before the data.
EVENT_COLUMNS: Final = (
    *("seq", "at", "time", "event", "item", "parent", "type", "worker", "phase", "attempt", "text", "duration_s"),
    *("error_type", "error_message", "error_traceback", "due", "due_time", "reason", "cancelling", "failed"),
    *("had_failed", "rerun", "skipped", "ended"),
    *("deduplicated", "track_overall", "key", "hook", "occurrence", "group", "before", "concurrent", "per_second"),
    *("is_default", "program", "verb", "selector", "count"),
    *("method", "where", "by", "reporter", "run_id", "schema_version"),
    *(
        "aqueue_version",
        "num_workers",
        "queue_type_name",
        "pid",
        "host",
        "cluster",
        "first_worker",
        "ignored",
        "status",
    ),
    *("counts_enqueued", "counts_completed", "counts_failed", "counts_interrupted", "counts_deduplicated"),
    *("counts_retried", "counts_skipped", "result", "payload"),
)
"""The columns of the table of events, in order.

``at`` and ``due`` are Unix times in seconds; ``time`` and ``due_time`` are the same in ISO 8601, UTC. What an event
doesn't have is an empty cell; what it has by default is written out.
"""

_CELLS: Final[dict[str, tuple[str, Callable[[Any], object]]]] = {
    # Of these there are few.
    **{name: (name, lru_cache(1_000)(_cell)) for name in ("type", "phase", "group")},
    "time": ("at", _time),
    "due_time": ("due", _time),
    "worker": ("worker", lambda number: number or ""),
    "result": ("result", _data),
    "payload": ("payload", _data),
}
"""The field of a column, and what makes its cells, where that isn't the field of its name by `_cell`."""


def write_events_csv(
    batches: Iterable[Sequence[Event]], write: Callable[[bytes], object], include_data: bool = False
) -> None:
    """Write a table with a row per event and all columns `EVENT_COLUMNS`, even those that stay empty.

    Parameters:
        batches: events, in order. One batch at a time is in memory.
        write: takes the next bytes of the file, whole rows.
        include_data: whether to fill the columns ``payload`` and ``result``, which may hold secrets.

    Raises:
        Exception: what `batches` or `write` raises.
    """
    header = f"{','.join(EVENT_COLUMNS)}\r\n"  # written with the first rows: of a file that can't be read, nothing is
    for batch in batches:
        # Column by column for the events of each type: half the time of `csv.writer`, which most empty cells cost as well.
        places: dict[type[Event], list[int]] = {}
        for place, event in enumerate(batch):
            places.setdefault(type(event), []).append(place)
        rows = [""] * len(batch)
        for cls, found in places.items():
            for place, row in zip(found, _rows(cls, [batch[place] for place in found], include_data), strict=True):
                rows[place] = row
        if rows:
            write(f"{header}{''.join(rows)}".encode())
            header = ""
    write(header.encode())


def _rows(cls: type[Event], events: Sequence[Event], include_data: bool) -> Iterator[str]:
    """Return the rows of events of `cls`."""
    template, fields, to_cells = _layout(cls, include_data)
    columns = zip(*map(fields, events), strict=True)
    cells = [
        column if to_cell is None else map(to_cell, column) for to_cell, column in zip(to_cells, columns, strict=True)
    ]
    return map(template.__mod__, zip(*cells, strict=True))


@cache
def _layout(
    cls: type[Event], include_data: bool
) -> tuple[str, Callable[[Event], tuple[Any, ...]], list[Callable[[Any], object] | None]]:
    """Return the template of a row of `cls`, the getter of what goes into it, and what makes cells of that, None for numbers."""
    types: dict[str, Any] = {field.name: field.type for field in msgspec.structs.fields(cls)}
    template, paths, to_cells = [], [], []
    for name in EVENT_COLUMNS:
        path, to_cell = _CELLS.get(name, (name, _cell))
        if name.startswith(("error_", "counts_")):  # fields of the struct in that field
            path = name.replace("_", ".", 1)
        field = path.partition(".")[0]
        has_cell = field in types and (include_data or field not in ("payload", "result"))
        template.append("%s" if has_cell else str(cls.__struct_config__.tag) if name == "event" else "")
        if has_cell:
            paths.append(path)
            to_cells.append(None if to_cell is _cell and types[field] in (int, float) else to_cell)
    return f"{','.join(template)}\r\n", attrgetter(*paths), to_cells


class ResultColumns(msgspec.Struct, frozen=True):
    """The columns of a table of results, in addition to ``item`` and ``type``.

    Attributes:
        keys: the keys of results that are JSON objects, one column per key, in the order in which they first came.
        has_others: whether there are results that are no objects; they have the column ``result``.
        has_more: whether there were more keys than columns; the others of a row are together in the column `MORE`.
    """

    keys: tuple[str, ...] = ()
    has_others: bool = False
    has_more: bool = False

    @property
    def names(self) -> list[str]:
        """The headings of all columns. A key that repeats one, in any case, becomes ``result.KEY``."""
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

    def cells(self, row: ItemResult) -> list[str] | None:
        """Return the cells of a result; None if some part of it has no column."""
        known, others = {}, [""] * self.has_others
        if isinstance(row.result, dict):
            known = row.result
        elif self.has_others:
            others = [csv_cell(row.result)]
        else:
            return None
        more = known.keys() - set(self.keys)
        if more and not self.has_more:
            return None
        values = [csv_cell(known[key]) if key in known else "" for key in self.keys]
        rest = {key: value for key, value in known.items() if key in more}
        return [str(row.item), csv_cell(row.type), *others, *values, *[csv_cell(rest or None)] * self.has_more]


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
        new = row.result.keys() - keys.keys()
        for key in [key for key in row.result if key in new]:
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
) -> int:
    """Write a table with a row per result: its item's number and type, and its value in the columns that fit it.

    Parameters:
        rows: the results. One at a time is in memory.
        write: takes the next bytes of the file, whole rows.
        columns: those that `result_columns` gave for the same results.
        chosen: which of `columns.names` to write, in this order, by their positions; None for all.

    Returns:
        How many results were left out, since they need other columns.

    Raises:
        Exception: what `rows` or `write` raises.
    """
    table = _Table(write)
    names = columns.names
    positions = range(len(names)) if chosen is None else chosen
    table.row([names[position] for position in positions])
    num_left_out = 0
    for row in rows:
        cells = columns.cells(row)
        if cells is None:
            num_left_out += 1
        else:
            table.row([cells[position] for position in positions])
    table.flush()
    return num_left_out


class _Table:
    """Writes rows of cells that are already text, many at a time."""

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
