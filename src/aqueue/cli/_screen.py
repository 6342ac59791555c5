"""Prints text and tables: styled on a terminal, plain in a pipe, and with control characters made visible in both."""

import io
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final, TextIO

import msgspec
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

from aqueue._history.event_words import StyleName
from aqueue.log_lines import render_record
from aqueue.text import first_line, visible
from aqueue.view import WorkerProcess

__all__ = [
    "STYLES",
    "Column",
    "definition_list",
    "error_summary",
    "heading",
    "host_and_pid_fields",
    "indented",
    "is_styled",
    "local_time",
    "print_json",
    "print_json_lines",
    "print_lines",
    "remark",
    "say",
    "state_text",
    "table",
    "text",
    "time_of_day",
    "traceback_lines",
]

STYLES: Final[Mapping[StyleName, Style]] = {
    "plain": Style(),
    "dim": Style(dim=True),
    "bold": Style(bold=True),
    "good": Style(color="green"),
    "busy": Style(color="cyan"),
    "warning": Style(color="magenta"),
    "error": Style(color="red", bold=True),
}
"""How parts of what an event says are written, in colours of the 16-colour palette that are readable on dark and on light backgrounds."""

_STATE_STYLES: Final[Mapping[str, str]] = {
    "queued": "",
    "running": "cyan",
    "retrying": "magenta",
    "interrupted": "magenta",
    "completed": "green",
    "failed": "bold red",
    "skipped": "green",
}
"""How each state of an item is written."""

_MAX_TEXT_CHARS: Final = 1_000
_GAP_CELLS: Final = 2
_MIN_CELLS: Final = 16
"""How narrow a column may get that shrinks: below that its texts say nothing any more."""

_PIPE_CELLS: Final = 100_000
"""How wide lines may be where nobody's terminal ends them: in a pipe nothing is cut."""


class Column(msgspec.Struct, frozen=True):
    """A column of a table.

    Attributes:
        title: its heading.
        is_number: whether its cells are aligned to the right.
        may_shrink: whether its texts are cut where the terminal is narrow, the others being whole.
    """

    title: str
    is_number: bool = False
    may_shrink: bool = False


def text(value: str, style: str = "", max_chars: int = _MAX_TEXT_CHARS) -> Text:
    """Return text from a file, safe to show: on one line, without characters that control a terminal."""
    return Text(visible(value, max_chars), style=style)


def state_text(state: str) -> Text:
    """Return the state of an item, as it is written everywhere."""
    return Text(state, style=_STATE_STYLES[state])


def host_and_pid_fields(process: WorkerProcess | None) -> dict[str, Any]:
    """Return the host and pid of a worker process as fields of a JSON object; null if it isn't known."""
    return {"host": None, "pid": None} if process is None else {"host": process.host, "pid": process.pid}


def heading(value: str, details: str = "") -> Text:
    """Return a heading with dim details after it; both must be safe to show."""
    return Text.assemble((value, "bold"), (f"  {details}" if details else "", "dim"))


def indented(part: RenderableType, cells: int = 2) -> RenderableType:
    """Return `part` indented, including the lines into which it wraps."""
    return Padding(part, (0, 0, 0, cells), expand=False)


def remark(value: str) -> RenderableType:
    """Return a dim, indented line for below a table; it must be safe to show."""
    return indented(Text(value, style="dim"))


def table(columns: Sequence[Column], rows: Iterable[Sequence[Text | str]]) -> RenderableType:
    """Return a table without rules, indented by two cells; the cells must be safe to show.

    Where the terminal is narrow, the columns that may shrink do, and the others stay whole. Where it is too narrow for
    that, each row is wrapped instead, with the titles before the numbers: a number is never cut.
    """
    return indented(_Table(columns, [[*row] for row in rows]))


class _Table:
    """A table, or, where the terminal is too narrow for it, its rows as lines that are wrapped between the cells."""

    def __init__(self, columns: Sequence[Column], rows: list[list[Text | str]]) -> None:
        self._columns = columns
        self._rows = rows
        self._grid = Table(box=None, pad_edge=False, padding=(0, _GAP_CELLS, 0, 0), header_style="dim", show_edge=False)
        for column in columns:
            self._grid.add_column(
                column.title, justify="right" if column.is_number else "left", no_wrap=not column.may_shrink
            )
        for row in rows:
            # Rich narrows only columns that may wrap, the widest first. Their cells may not wrap: so they are cut.
            self._grid.add_row(*(Text.assemble(cell, no_wrap=True, overflow="ellipsis") for cell in row))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        needed = -_GAP_CELLS
        for column, *cells in zip(self._columns, *self._rows, strict=True):
            width = max(map(cell_len, map(str, [column.title, *cells])))
            needed += _GAP_CELLS + (min(width, _MIN_CELLS) if column.may_shrink else width)
        yield from [self._grid] if needed <= options.max_width else map(self._line, self._rows)

    def _line(self, row: Sequence[Text | str]) -> Text:
        """Return a row as one line, with titles before the numbers."""
        line = Text(overflow="fold")
        for column, cell in zip(self._columns, row, strict=True):
            if str(cell):
                title = f"{column.title} " if column.is_number and column.title else ""
                line.append("  " if line else "").append(title, "dim").append_text(Text.assemble(cell))
        return line

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self._grid)


def traceback_lines(traceback: str, style: str = "") -> RenderableType:
    """Return a traceback from a file, each of its lines made safe. Marks below code, which wraps, are left out."""
    lines = [visible(line, 2_000) for line in traceback.splitlines() if not line or line.strip(" ^~")]
    bare = [line.lstrip(" ") for line in lines]
    return Group(
        *(indented(Text(b, style, overflow="fold"), len(a) - len(b)) for a, b in zip(lines, bare, strict=True))
    )


def definition_list(rows: Iterable[tuple[str, RenderableType]], cells: int = 2) -> RenderableType:
    """Return a list of dim terms, such as times, each with a description, which is wrapped to the terminal and never cut.

    Parameters:
        rows: the terms and their descriptions.
        cells: by how much it is indented.
    """
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for term, description in rows:
        grid.add_row(term, description)
    return indented(grid, cells)


def print_lines(parts: Iterable[RenderableType]) -> None:
    """Print each part: styled on a terminal, plain in a pipe unless ``FORCE_COLOR`` is set, and there nothing is cut."""
    if sys.stdout.isatty():
        _console(sys.stdout, None).print(Group(*parts))
    else:
        whole = io.StringIO()
        _console(whole, _PIPE_CELLS).print(Group(*parts))
        sys.stdout.writelines(f"{line.rstrip()}\n" for line in whole.getvalue().splitlines())
    sys.stdout.flush()


def is_styled(stream: TextIO) -> bool:
    """Return whether output to `stream` is styled: on a terminal, and where ``FORCE_COLOR`` asks for it."""
    return (stream.isatty() or bool(os.environ.get("FORCE_COLOR"))) and os.environ.get("TERM") != "dumb"


def _console(file: TextIO, width: int | None) -> Console:
    return Console(file=file, width=width, markup=False, highlight=False, emoji=False, legacy_windows=False)


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object, indented for people and safe for a terminal."""
    _write(msgspec.json.format(render_record(dict(value)), indent=2) + b"\n")


def print_json_lines(records: Iterable[Mapping[str, Any]]) -> None:
    """Print each record as a line of JSON, safe for a terminal."""
    for record in records:
        _write(render_record(dict(record)) + b"\n")


def _write(data: bytes) -> None:
    sys.stdout.write(data.decode())


def say(message: str) -> None:
    """Print one line to standard error, after all earlier output; `message` must be safe to show."""
    sys.stdout.flush()
    with suppress(OSError):  # that it can't be printed must not change how the command ends
        print(f"aqueue: {message}", file=sys.stderr, flush=True)  # noqa: T201  # a command speaks


def error_summary(type: str, message: str, max_chars: int = 300) -> str:
    """Return the class name of an exception and the first line of its message, if it has one, safe to show."""
    name = visible(type.rpartition(":")[2] or type, 200)
    first = first_line(message)
    return f"{name}: {visible(first, max_chars)}" if first else name


def local_time(at: float) -> str:
    """Return a Unix time in seconds as local date and time, to the second; ``?`` if no calendar has it."""
    return _local(at)[0]


def time_of_day(at: float) -> str:
    """Return a Unix time in seconds as the local time of day, to the millisecond; ``?`` if no calendar has it."""
    moment, milliseconds = _local(at)
    return f"{moment[11:]}.{milliseconds:03}" if moment != "?" else moment


def _local(at: float) -> tuple[str, int]:
    """Return local date and time, and milliseconds."""
    try:
        second, milliseconds = divmod(round(at * 1_000_000) // 1_000, 1_000)
        return _local_second(second), milliseconds
    except (OverflowError, OSError, ValueError):
        return "?", 0


@lru_cache(maxsize=16)
def _local_second(second: int) -> str:
    # `aqueue tail` asks for each line: twice as fast as a datetime for each.
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
