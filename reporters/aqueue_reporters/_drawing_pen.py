"""What the panels are made of: frames, bars, and text cut to a number of cells."""

from collections.abc import Iterable, Sequence
from typing import Final

from rich.cells import cell_len, set_cell_size

from aqueue_reporters._pen import Pen

__all__ = ["DrawingPen"]

_MIN_FOOT_CELLS: Final = 24
"""How much room there must be for a further text in the lower edge of a frame."""


class DrawingPen(Pen):
    """A pen that draws frames and bars. It is apart from `Pen` since programs with plain lines don't wait for rich."""

    def fit(self, text: str, cells: int) -> str:
        """Return `text`, which must be safe, cut or padded on the right to exactly `cells` cells."""
        width = cell_len(text)
        if width <= cells:
            return text + " " * (cells - width)
        return set_cell_size(text, cells - 1) + self.characters.ellipsis if cells > 0 else ""

    def cut(self, text: str, cells: int) -> str:
        """Return `text`, which must be safe, cut to at most `cells` cells."""
        return text if cell_len(text) <= cells else self.fit(text, cells)

    def bar(self, cells: int, done: float, failed: float = 0.0, *, is_open: bool = False) -> str:
        """Return a bar of `cells` cells, of which the shares `done` and `failed`, both from 0 to 1, are filled.

        If it `is_open`, the rest is dashed: the whole may grow.
        """
        c = self.characters
        # Without colours, what has failed is told by its shape.
        bad = min(cells, max(round(failed * cells), 1)) if failed > 0 else 0
        full, half = divmod(min(int(done * cells * 2), (cells - bad) * 2), 2)
        # Something is never shown as nothing.
        half_bar = c.bar_half if (half and not bad) or (not full and not half and done > 0 and cells > bad) else ""
        rest = cells - full - len(half_bar) - bad
        return "".join(
            self.write(style, text) if text else ""
            for style, text in (
                ("accent", c.bar * full + half_bar),
                ("bad", (c.bar if self.colors else c.times) * bad),
                ("quiet", (c.bar_open if is_open else c.bar_rest) * rest),
            )
        )

    def box(
        self, title: str, note: str, body: Iterable[str], cells: int, feet: Sequence[tuple[str, str]] = ()
    ) -> list[str]:
        """Return `body`, lines of exactly `cells` less 4 cells, in a frame `cells` wide.

        Its upper edge has a title and a note, its lower edge `feet`: texts, each with a style. What doesn't fit is cut.
        """
        c = self.characters
        note = self.cut(note, cells - len(title) - 9)
        foot, foot_cells = "", 3
        for text, style in feet:
            gap = f" {c.dot} " if foot else " "
            if foot and cells - foot_cells < _MIN_FOOT_CELLS:
                break
            shown = self.cut(text, cells - foot_cells - len(gap) - 2)
            foot += f"{self.write('quiet' if foot else '', gap)}{self.write(style, shown)}"
            foot_cells += len(gap) + cell_len(shown)
        if foot:
            foot, foot_cells = f"{foot} ", foot_cells + 1
        title_cells = len(title) + 5
        title = f"{self.write('quiet', f'{c.top_left}{c.across}')} {self.write('strong', title)} "
        note = f" {note} {c.across}" if note else c.across
        rule = c.across * (cells - title_cells - cell_len(note))
        top = f"{title}{self.write('quiet', f'{rule}{note}{c.top_right}')}"
        rule = c.across * (cells - foot_cells)
        bottom = f"{self.write('quiet', c.bottom_left + c.across)}{foot}{self.write('quiet', rule + c.bottom_right)}"
        side = self.write("quiet", c.down)
        return [top, *(f"{side} {line} {side}" for line in body), bottom]
