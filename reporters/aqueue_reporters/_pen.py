"""How the rich reporter writes: its few styles, its characters, and text cut to measure."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.color import ColorSystem
from rich.style import Style

from aqueue.text import visible

__all__ = ["Pen"]

# From the 16 colours that every terminal theme defines, those that read on dark and on light backgrounds.
_STYLES: Final = {
    "title": Style(bold=True),
    "strong": Style(bold=True),
    "quiet": Style(dim=True),
    "accent": Style(color="cyan"),
    "good": Style(color="green"),
    "good strong": Style(color="green", bold=True),
    "bad": Style(color="red"),
    "bad strong": Style(color="red", bold=True),
    "stopping": Style(color="magenta", bold=True),
}


class _Characters(NamedTuple):
    top_left: str = "╭"
    top_right: str = "╮"
    bottom_left: str = "╰"
    bottom_right: str = "╯"
    across: str = "─"
    down: str = "│"
    bar: str = "━"
    bar_half: str = "╸"
    bar_rest: str = "─"
    ellipsis: str = "…"
    dot: str = "·"
    times: str = "×"
    nothing: str = "–"
    succeeded: str = "✓"
    failed: str = "✗"
    stopped: str = "■"
    spinner: str = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


_ASCII: Final = _Characters(
    top_left="+",
    top_right="+",
    bottom_left="+",
    bottom_right="+",
    across="-",
    down="|",
    bar="#",
    bar_half="",
    bar_rest=".",
    ellipsis="~",
    dot="-",
    times="x",
    nothing="-",
    succeeded="+",
    failed="x",
    stopped="#",
    spinner="|/-\\",
)


class Pen:
    """Styles text as ANSI, and cuts and pads it to a number of cells.

    Attributes:
        characters: those that the encoding has: box-drawing characters, or ASCII in their place.
    """

    def __init__(self, *, styles: bool, colors: bool, encoding: str) -> None:
        """Make a pen.

        Parameters:
            styles: whether it may use bold and dim at all.
            colors: whether it may use colours too.
            encoding: the output's; what it can't express is replaced.
        """
        self.characters = _Characters() if _has_all(encoding, "".join(_Characters())) else _ASCII
        # Without colours, what has failed is told by its shape.
        self._bar_failed = self.characters.bar if colors else self.characters.times
        self._encoding = None if _has_all(encoding, "ก漢🂡") else encoding
        self._codes: dict[str, tuple[str, str]] = {}
        for name, style in _STYLES.items():
            ansi = (style if colors else style.without_color).render("|", color_system=ColorSystem.STANDARD)
            before, _, after = ansi.partition("|")
            self._codes[name] = (before, after) if styles else ("", "")

    def write(self, style: str, text: str) -> str:
        """Return `text` in one of the styles."""
        before, after = self._codes[style]
        return f"{before}{text}{after}"

    def safe(self, text: str, max_chars: int = 1_000) -> str:
        """Return text from an item as it may be shown: on one line, cut, in characters that the output has."""
        text = visible(text[: max_chars + 1])
        return text if self._encoding is None else text.encode(self._encoding, "replace").decode(self._encoding)

    def fit(self, text: str, cells: int) -> str:
        """Return `text`, which must be safe, cut or padded on the right to exactly `cells` cells."""
        width = cell_len(text)
        if width <= cells:
            return text + " " * (cells - width)
        return set_cell_size(text, cells - 1) + self.characters.ellipsis if cells > 0 else ""

    def bar(self, cells: int, done: float, failed: float = 0.0) -> str:
        """Return a bar of `cells` cells, of which the shares `done` and `failed`, both from 0 to 1, are filled."""
        c = self.characters
        bad = min(cells, max(round(failed * cells), 1)) if failed > 0 else 0
        halves = min(int(done * cells * 2), (cells - bad) * 2)
        full, half = divmod(halves, 2)
        # Something is never shown as nothing.
        half_bar = c.bar_half if (half and not bad) or (halves == 0 and done > 0 and cells > bad) else ""
        text = self.write("accent", c.bar * full + half_bar) + (
            self.write("bad", self._bar_failed * bad) if bad else ""
        )
        return text + self.write("quiet", c.bar_rest * (cells - full - len(half_bar) - bad))

    def box(
        self, title: str, note: str, body: Iterable[str], cells: int, foot: Sequence[str] = (), foot_style: str = ""
    ) -> list[str]:
        """Return `body`, lines of exactly `cells` less 4 cells, in a frame `cells` wide with a title and a note.

        Of the wordings in `foot`, if there are any, the first that fits stands in the frame's lower edge.
        """
        c = self.characters
        note = self.fit(note, min(cell_len(note), max(cells - len(title) - 9, 0)))
        rule = cells - 6 - len(title) - (cell_len(note) + 1 if note else 0)
        top = [self.write("quiet", f"{c.top_left}{c.across} "), self.write("title", title)]
        if note:
            top.append(self.write("quiet", f" {c.across * (rule - 1)} {note} {c.across}{c.top_right}"))
        else:
            top.append(self.write("quiet", f" {c.across * rule}{c.across}{c.top_right}"))
        side = self.write("quiet", c.down)
        said = next((words for words in foot if cell_len(words) + 6 <= cells), "")
        if said:
            corner = self.write("quiet", f"{c.bottom_left}{c.across} ")
            rest = self.write("quiet", f" {c.across * (cells - 5 - cell_len(said))}{c.bottom_right}")
            bottom = f"{corner}{self.write(foot_style, said) if foot_style else said}{rest}"
        else:
            bottom = self.write("quiet", f"{c.bottom_left}{c.across * (cells - 2)}{c.bottom_right}")
        return ["".join(top), *(f"{side} {line} {side}" for line in body), bottom]


def _has_all(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeError, LookupError):
        return False
    return True
