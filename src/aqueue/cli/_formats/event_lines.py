"""Writes events as lines for people, one per event: aligned; styled and cut on a terminal, plain and whole in a pipe."""

import os
from typing import Final, TextIO

from rich.cells import get_character_cell_size
from rich.color import ColorSystem

from aqueue._history.event_words import Part, StyleName, details, name_of
from aqueue.cli._screen import STYLES, is_styled, local_time, time_of_day
from aqueue.events import Event
from aqueue.log_lines import Level, level_of
from aqueue.text import short_names, visible

__all__ = ["EventLines"]

# A letter, so that the level shows without colours.
_MARKS: Final[dict[Level, Part]] = {
    "debug": ("dim", " D "),
    "info": ("plain", "   "),
    "warning": ("warning", " W "),
    "error": ("error", " E "),
}

_NAME_CELLS: Final = 15
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
        """Write lines for `stream`: for its width and colours. Nothing is written to it here."""
        self._is_terminal = stream.isatty()
        self._stream = stream
        self._max_chars = _MAX_TEXT_CHARS if self._is_terminal else None
        self._codes = _codes(styles=is_styled(stream), colors=not os.environ.get("NO_COLOR"))
        self._names: dict[str, str] = {}
        self._date = ""
        self._item_cells, self._type_cells, self._worker_cells = _MIN_ITEM_CELLS, _MIN_TYPE_CELLS, 2
        self.cells = _PIPE_CELLS
        self.measure()

    def measure(self) -> None:
        """Read the current width of the terminal."""
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
        date = local_time(event.at)[:10]
        text = ""
        if date != self._date:
            self._date = date
            text = self._line([("dim", date)])
        style, name = name_of(event)
        parts: list[Part] = [("dim", time_of_day(event.at)), _MARKS[level_of(event)], (style, name.ljust(_NAME_CELLS))]
        item = getattr(event, "item", 0)
        if item:
            parts += self._columns(str(item), type, getattr(event, "worker", 0))
        parts.append(("plain", "  "))
        parts += [(style, visible(said, self._max_chars)) for style, said in details(event)]
        return text + self._line(parts)

    def _columns(self, item: str, type: str, worker: int) -> list[Part]:
        """Return the number of an item, its type and its worker, in columns that grow with what comes."""
        name = self._name(type)
        by = f"w{worker}" if worker else ""
        if self._is_terminal and _cells(name) > _MAX_TYPE_CELLS:
            name = f"{_beginning(name, _MAX_TYPE_CELLS - 1)}…"
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
        """Return the shortest name that tells a type from the others so far."""
        if type not in self._names:
            if len(self._names) >= _MAX_TYPES:
                return visible(type, self._max_chars)
            names = short_names([*self._names, type])
            self._names = {type: visible(name, self._max_chars) for type, name in names.items()}
        return self._names[type]

    def _line(self, parts: list[Part]) -> str:
        while not parts[-1][1].strip():
            parts.pop()
        is_whole = not self._is_terminal or sum(_cells(text) for _, text in parts) <= self.cells
        left = self.cells if is_whole else self.cells - 1
        styled = []
        for style, text in parts:
            before, after = self._codes[style]
            shown = text if is_whole else _beginning(text, left)
            left -= 0 if is_whole else _cells(shown)
            if shown != text:
                styled.append(f"{before}{shown}…{after}")
                break
            styled.append(f"{before}{shown}{after}" if shown else "")
        return "".join(styled).rstrip(" ") + "\n"


def _codes(*, styles: bool, colors: bool) -> dict[StyleName, tuple[str, str]]:
    """Return what comes before and after a text in each style."""
    codes = {}
    for name, style in STYLES.items():
        shown = style if colors else style.without_color
        before, _, after = shown.render("|", color_system=ColorSystem.STANDARD if styles else None).partition("|")
        codes[name] = (before, after)
    return codes


def _cells(text: str) -> int:
    """Return how many cells `text` takes at most. Characters count one by one, since not all terminals join them."""
    return len(text) if text.isascii() else sum(map(get_character_cell_size, text))


def _beginning(text: str, cells: int) -> str:
    """Return as much of `text` as takes at most `cells` cells."""
    if _cells(text) <= cells:
        return text
    for at, character in enumerate(text):
        cells -= _cells(character)
        if cells < 0:
            return text[:at]
    return text
