"""Writes events as lines for people: one each, aligned; styled and cut on a terminal, plain and whole in a pipe."""

import os
import time
import unicodedata
from functools import lru_cache
from typing import Final, NamedTuple, TextIO

from rich.cells import get_character_cell_size
from rich.color import ColorSystem
from rich.style import Style

from aqueue.cli._formats.event_details import Part, StyleName, details
from aqueue.cli._screen import is_styled
from aqueue.events import Event
from aqueue.log_lines import Level, level_of
from aqueue.text import short_names, visible

__all__ = ["EventLines"]

# Of the 16 colours that every terminal theme defines, those that read on dark and on light backgrounds.
_STYLES: Final[dict[StyleName, Style]] = {
    "plain": Style(),
    "dim": Style(dim=True),
    "bold": Style(bold=True),
    "good": Style(color="green"),
    "busy": Style(color="cyan"),
    "warning": Style(color="magenta"),
    "error": Style(color="red", bold=True),
}


class _Mark(NamedTuple):
    text: str
    style: StyleName


# A letter, so that the level shows without colours, and to those who can't tell colours apart.
_MARKS: Final[dict[Level, _Mark]] = {
    "debug": _Mark("D", "dim"),
    "info": _Mark(" ", "plain"),
    "warning": _Mark("W", "warning"),
    "error": _Mark("E", "error"),
}

# How events are called; most by the last part of their names, by which --event knows them.
_WORDS: Final = {
    "run.started": _Mark("run started", "bold"),
    "run.resumed": _Mark("run resumed", "bold"),
    "run.stopping": _Mark("run stopping", "warning"),
    "run.finished": _Mark("run finished", "bold"),
    "item.started": _Mark("started", "busy"),
    "item.described": _Mark("described", "dim"),
    "item.completed": _Mark("completed", "good"),
    "item.children_processed": _Mark("children done", "good"),
    "item.retry_scheduled": _Mark("retry scheduled", "warning"),
    "item.interrupted": _Mark("interrupted", "warning"),
    "item.failed": _Mark("failed", "error"),
    "process.joined": _Mark("process joined", "plain"),
    "process.left": _Mark("process left", "plain"),
    "group.slowed_down": _Mark("slowed down", "plain"),
    "reporter.failed": _Mark("reporter failed", "error"),
}
_WORD_CELLS: Final = 15
_MIN_ITEM_CELLS: Final = 5
_MAX_ITEM_CELLS: Final = 12
_MIN_TYPE_CELLS: Final = 4
_MAX_TYPE_CELLS: Final = 24
_MAX_TEXT_CHARS: Final = 1_000
"""More of a text than any terminal's line can show."""

_MAX_TYPES: Final = 200
_PIPE_CELLS: Final = 1 << 62
_NARROWEST: Final = 80


class EventLines:
    """Writes events as lines.

    Attributes:
        cells: how wide a line may be at most.
    """

    def __init__(self, stream: TextIO) -> None:
        """Write as suits `stream`, to which nothing is written here."""
        self._is_terminal = stream.isatty()
        self._stream = stream
        self._max_chars = _MAX_TEXT_CHARS if self._is_terminal else None
        self._encoding = None if _has_all(stream.encoding, "ก漢🂡…") else stream.encoding
        self._ellipsis = "…" if self._encoding is None else "~"
        self._codes = _codes(styles=is_styled(stream), colors=not os.environ.get("NO_COLOR"))
        self._names: dict[str, str] = {}
        self._types: list[str] = []
        self._date = ""
        self._item_cells, self._type_cells, self._worker_cells = _MIN_ITEM_CELLS, _MIN_TYPE_CELLS, 2
        self.cells = _PIPE_CELLS
        self.measure()

    def measure(self) -> None:
        """See how wide the terminal is now."""
        if self._is_terminal:
            try:
                self.cells = os.get_terminal_size(self._stream.fileno()).columns or _NARROWEST
            except OSError:
                self.cells = _NARROWEST

    def write(self, event: Event, type: str) -> str:
        """Return the line of `event`, with its end; before it, where a new day begins, a line with the date.

        Parameters:
            event: any event.
            type: the type of its item; empty if it has none.
        """
        date, clock = _local(event.at)
        text = ""
        if date != self._date:
            self._date = date
            text = self._line([("dim", date)])
        mark = _MARKS[level_of(event)]
        word = _WORDS.get(event.event) or _Mark(event.event.rpartition(".")[2].replace("_", " "), "plain")
        parts: list[Part] = [("dim", clock), (mark.style, f" {mark.text} "), (word.style, word.text.ljust(_WORD_CELLS))]
        item = getattr(event, "item", 0)
        if item:
            parts += self._columns(str(item), type, getattr(event, "worker", 0))
        parts.append(("plain", "  "))
        parts += [(style, self._safe(said)) for style, said in details(event)]
        return text + self._line(parts)

    def _columns(self, item: str, type: str, worker: int) -> list[Part]:
        """Return the number of an item, its type and its worker, in columns that grow with what comes."""
        name = self._name(type)
        by = f"w{worker}" if worker else ""
        name_cells = _cells(name)
        if self._is_terminal and name_cells > _MAX_TYPE_CELLS:
            name = self._cut(name, _MAX_TYPE_CELLS)
            name_cells = _cells(name)
        self._item_cells = max(self._item_cells, min(len(item), _MAX_ITEM_CELLS))
        self._type_cells = max(self._type_cells, min(name_cells, _MAX_TYPE_CELLS))
        self._worker_cells = max(self._worker_cells, min(len(by), _MAX_ITEM_CELLS))
        return [
            ("plain", f" {item.rjust(self._item_cells)} "),
            ("bold", name),
            ("dim", f"{' ' * (self._type_cells - name_cells)}  {by.ljust(self._worker_cells)}"),
        ]

    def _name(self, type: str) -> str:
        """Return the shortest name for a type that tells it from the others that came so far."""
        name = self._names.get(type)
        if name is None:
            if len(self._types) >= _MAX_TYPES:
                return self._safe(type)
            self._types.append(type)
            self._names = {type: self._safe(name) for type, name in short_names(self._types).items()}
            name = self._names[type]
        return name

    def _safe(self, text: str) -> str:
        text = visible(text, self._max_chars)
        if self._encoding is not None and not text.isascii():
            text = text.encode(self._encoding, "backslashreplace").decode(self._encoding)
        return text

    def _line(self, parts: list[Part]) -> str:
        codes = self._codes
        left = self.cells
        styled = []
        for at, (style, text) in enumerate(parts):
            cells = _cells(text)
            if cells > left or (cells == left and any(rest for _, rest in parts[at + 1 :])):
                text = self._cut(text, left, always=True)
                left = 0
            left -= cells
            before, after = codes[style]
            styled.append(f"{before}{text}{after}" if text else "")
            if left <= 0:
                break
        return "".join(styled).rstrip(" ") + "\n"

    def _cut(self, text: str, cells: int, *, always: bool = False) -> str:
        """Return `text`, cut to `cells` cells, the last of which says so."""
        if not always and _cells(text) <= cells:
            return text
        left = cells - 1
        for at, character in enumerate(text):
            left -= _cells(character)
            if left < 0:
                return text[:at] + self._ellipsis
        return text + self._ellipsis


def _codes(*, styles: bool, colors: bool) -> dict[StyleName, tuple[str, str]]:
    """Return what comes before and after a text in each style."""
    codes = {}
    for name, style in _STYLES.items():
        shown = style if colors else style.without_color
        before, _, after = shown.render("|", color_system=ColorSystem.STANDARD if styles else None).partition("|")
        codes[name] = (before, after)
    return codes


def _has_all(encoding: str | None, text: str) -> bool:
    try:
        text.encode(encoding or "utf-8")
    except (UnicodeError, LookupError):
        return False
    return True


def _cells(text: str) -> int:
    """Return how many cells `text` takes at most.

    Each character counts by itself: some terminals join several to one sign, others don't. Those that are not assigned
    here may be, and wide, in the terminal's version of Unicode.
    """
    return len(text) if text.isascii() else sum(map(_character_cells, text))


@lru_cache(maxsize=4096)
def _character_cells(character: str) -> int:
    if character == "\ufe0f":  # it asks for the coloured form of the one before it, which some draw over two cells
        return 1
    may_be_wide = unicodedata.east_asian_width(character) in "WF" or unicodedata.category(character) in {"Cn", "Co"}
    return 2 if may_be_wide else get_character_cell_size(character)


def _local(at: float) -> tuple[str, str]:
    """Return local date and time, to the millisecond."""
    try:
        second, milliseconds = divmod(round(at * 1_000_000) // 1_000, 1_000)
        date, clock = _local_second(second)
    except (OverflowError, OSError, ValueError):  # a time that is none
        return "?", "??:??:??.???"
    return date, f"{clock}.{milliseconds:03}"


@lru_cache(maxsize=16)
def _local_second(second: int) -> tuple[str, str]:
    local = time.localtime(second)
    return time.strftime("%Y-%m-%d", local), time.strftime("%H:%M:%S", local)
