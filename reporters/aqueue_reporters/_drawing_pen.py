"""What the panels are made of: frames, bars, and text cut to a number of cells."""

from collections.abc import Iterable

from rich.cells import cell_len, set_cell_size

from aqueue_reporters._pen import Pen

__all__ = ["DrawingPen"]


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

    def bar(self, cells: int, done: float, failed: float = 0.0) -> str:
        """Return a bar of `cells` cells, of which the shares `done` and `failed`, both from 0 to 1, are filled."""
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
                ("quiet", c.bar_rest * rest),
            )
        )

    def box(
        self, title: str, note: str, body: Iterable[str], cells: int, foot: str = "", foot_style: str = ""
    ) -> list[str]:
        """Return `body`, lines of exactly `cells` less 4 cells, in a frame `cells` wide.

        Its upper edge has a title and a note, its lower edge `foot`; what doesn't fit is cut.
        """
        c = self.characters
        note, foot = self.cut(note, cells - len(title) - 9), self.cut(foot, cells - 6)
        title_cells, foot_cells = len(title) + 5, 3 + (cell_len(foot) + 2 if foot else 0)
        title = f"{self.write('quiet', f'{c.top_left}{c.across}')} {self.write('strong', title)} "
        note = f" {note} {c.across}" if note else c.across
        rule = c.across * (cells - title_cells - cell_len(note))
        top = f"{title}{self.write('quiet', f'{rule}{note}{c.top_right}')}"
        foot = f" {self.write(foot_style, foot)} " if foot else ""
        rule = c.across * (cells - foot_cells)
        bottom = f"{self.write('quiet', c.bottom_left + c.across)}{foot}{self.write('quiet', rule + c.bottom_right)}"
        side = self.write("quiet", c.down)
        return [top, *(f"{side} {line} {side}" for line in body), bottom]
