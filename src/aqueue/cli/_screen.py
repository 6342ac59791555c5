"""What the command prints: styled on a terminal, plain in a pipe, and nothing of a file raw in either."""

import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TextIO

import msgspec
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from aqueue.cli._items import State
from aqueue.log_lines import render_record
from aqueue.text import visible

__all__ = [
    "STATE_STYLES",
    "Column",
    "heading",
    "note",
    "print_json",
    "print_json_lines",
    "print_lines",
    "say",
    "table",
    "text",
    "time_of_day",
    "when",
]

# Of the 16 colours that every terminal theme defines, those that read on dark and on light backgrounds.
STATE_STYLES: Final[Mapping[State, str]] = {
    "queued": "",
    "running": "cyan",
    "waiting": "magenta",
    "interrupted": "magenta",
    "completed": "green",
    "failed": "bold red",
}
"""How each state of an item is written."""

_MAX_TEXT_CHARS: Final = 1_000
_PIPE_CELLS: Final = 1_000_000
"""How wide lines may be where nobody's terminal ends them: in a pipe nothing is cut."""


class Column(msgspec.Struct, frozen=True):
    """A column of a table.

    Attributes:
        title: its heading.
        is_number: whether its cells stand to the right.
        may_shrink: whether its texts are cut where the terminal is narrow, the others being whole.
    """

    title: str
    is_number: bool = False
    may_shrink: bool = False


def text(value: str, style: str = "", max_chars: int = _MAX_TEXT_CHARS) -> Text:
    """Return text from a file as it may be shown: on one line, with nothing in it that a terminal acts on."""
    return Text(visible(value, max_chars), style=style)


def heading(value: str, note: str = "") -> Text:
    """Return a heading, and behind it what is less important; neither is made safe."""
    return Text.assemble((value, "bold"), (f"  {note}" if note else "", "dim"))


def note(value: str) -> Text:
    """Return a remark below a table; it is not made safe."""
    return Text(f"  {value}", style="dim")


def table(columns: Sequence[Column], rows: Iterable[Sequence[Text | str]]) -> RenderableType:
    """Return a table without rules, indented by two cells; its cells must be safe."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    for column in columns:
        grid.add_column(
            column.title,
            justify="right" if column.is_number else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=4 if column.may_shrink else None,
        )
    for row in rows:
        grid.add_row(*row)
    return Padding(grid, (0, 0, 0, 2), expand=False)


def print_lines(parts: Iterable[RenderableType]) -> None:
    """Print each part: with colours on a terminal, unless ``NO_COLOR`` is set; in a pipe plain, and nothing is cut."""
    if sys.stdout.isatty():
        _console(sys.stdout, None).print(Group(*parts))
    else:
        plain = io.StringIO()
        _console(plain, _PIPE_CELLS).print(Group(*parts))
        sys.stdout.writelines(f"{line.rstrip()}\n" for line in plain.getvalue().splitlines())
    sys.stdout.flush()


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
    """Print one line to standard error, after what was printed before; `message` must be safe."""
    sys.stdout.flush()
    print(f"aqueue: {message}", file=sys.stderr, flush=True)  # noqa: T201  # a command speaks


def when(at: float) -> str:
    """Return a Unix time in seconds as local date and time, with whole seconds; ``?`` for one that is none."""
    try:
        return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return "?"


def time_of_day(at: float) -> str:
    """Return a Unix time in seconds as the local time of day, with milliseconds; ``?`` for one that is none."""
    try:
        return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except (OverflowError, OSError, ValueError):
        return "?"
