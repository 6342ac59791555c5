"""Draw the pictures of the display in the README, from a real run: ``python docs/display.py``.

It runs a small job that pretends to mirror a site, takes the lines that the rich reporter draws about two thirds through,
and writes them as ``display-dark.svg`` and ``display-light.svg`` beside this file. It takes half a minute; figures
differ a little from one time to the next.
"""

import random
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

import anyio
from rich.ansi import AnsiDecoder
from rich.cells import cell_len
from rich.console import Console
from rich.style import Style

from aqueue import EnqueueFn, Item, ItemFailures, RunInfo, RunResult, SetDescFn, run_queue
from aqueue.events import Event
from aqueue.view import RunView
from aqueue_reporters._panels import Panels
from aqueue_reporters._pen import Pen

COLUMNS, ROWS = 88, 40
CELL_WIDTH, CELL_HEIGHT, FONT_SIZE = 8.4, 18, 14
MARGIN = 18


class Theme(NamedTuple):
    """The colours of a terminal."""

    background: str
    text: str
    border: str
    colors: dict[int, str]  # by their ANSI numbers


THEMES = {
    "dark": Theme(
        "#16191d",
        "#d5d9de",
        "#2c3137",
        {1: "#f2777a", 2: "#8fbf7f", 6: "#5fb3bf", 5: "#d094d0"},
    ),
    "light": Theme(
        "#ffffff",
        "#24292f",
        "#d0d7de",
        {1: "#c01c28", 2: "#26793c", 6: "#0b7285", 5: "#8a3b9c"},
    ),
}

# Box-drawing characters as strokes, so that they meet whatever the font: where in the cell each begins (in cells), its
# path from there, its width.
STROKES = {
    "─": (0.0, 0.5, f"h{CELL_WIDTH}", 1.0),
    "━": (0.0, 0.5, f"h{CELL_WIDTH}", 2.6),
    "╸": (0.0, 0.5, f"h{CELL_WIDTH / 2}", 2.6),
    "│": (0.5, 0.0, f"v{CELL_HEIGHT}", 1.0),
    "╭": (1.0, 0.5, f"q-{CELL_WIDTH / 2} 0 -{CELL_WIDTH / 2} {CELL_HEIGHT / 2}", 1.0),
    "╮": (0.0, 0.5, f"q{CELL_WIDTH / 2} 0 {CELL_WIDTH / 2} {CELL_HEIGHT / 2}", 1.0),
    "╰": (0.5, 0.0, f"q0 {CELL_HEIGHT / 2} {CELL_WIDTH / 2} {CELL_HEIGHT / 2}", 1.0),
    "╯": (0.5, 0.0, f"q0 {CELL_HEIGHT / 2} -{CELL_WIDTH / 2} {CELL_HEIGHT / 2}", 1.0),
}

chance = random.Random(7)  # only for show
PLACES = ("guide", "guide/tutorial", "reference", "reference/api", "blog/2024", "blog/2025", "img")
NAMES = ("index.html", "install.html", "cover.jpg", "handbook.pdf", "style.css", "changes.html", "search.js")


class Directory(Item):
    """A directory of the site."""

    def __init__(self, depth: int = 0) -> None:
        self.depth = depth

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        """Find directories and files."""
        set_desc(f"{chance.choice(PLACES)}/")
        await anyio.sleep(chance.uniform(0.2, 0.6))
        for _ in range(0 if self.depth == 3 else 3):
            enqueue(Directory(self.depth + 1))
        for _ in range(chance.randint(4, 9)):
            enqueue(File())

    async def after_children_processed(self) -> None:
        """Take a moment."""
        await anyio.sleep(chance.uniform(0.3, 1.2))


class File(Item):
    """A file of the site."""

    track_overall = True

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        """Pretend to fetch it."""
        name, size_kb = f"{chance.choice(PLACES)}/{chance.choice(NAMES)}", chance.randint(9, 2_400)
        steps = chance.choice((1, 2, 3, 4, 30))
        for step in range(steps):
            set_desc(f"{name}  {size_kb * step // steps:,} of {size_kb:,} kB")
            await anyio.sleep(chance.uniform(0.01, 0.2))
        if chance.random() < 0.012:
            raise TimeoutError(f"{name}: no answer within 10 s")


class Camera:
    """A reporter that keeps what the rich reporter draws two thirds through."""

    uses_terminal = False

    def __init__(self) -> None:
        self._panels = Panels(Pen(styles=True, colors=True, encoding="utf-8"))
        self.lines: list[str] = []

    def open(self, run: RunInfo) -> None:
        """Do nothing."""

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Draw, and keep what is drawn when it is time."""
        lines = self._panels.lines(view, time.time(), COLUMNS, ROWS)
        files = view.overall
        if not self.lines and files.completed > 100 and files.completed > files.enqueued * 0.64 and files.failed:
            # With an example of all there is to see: a hook, and something that takes its time.
            longest_s = max(time.time() - item.started_at for item in view.running.values())
            if longest_s > 2 and any(item.phase == "after_children" for item in view.running.values()):
                self.lines = lines

    def close(self, result: RunResult) -> None:
        """Do nothing."""


def svg(lines: Sequence[str], theme: Theme) -> str:
    """Return `lines`, styled with ANSI sequences, as a picture of a terminal."""
    width, height = 2 * MARGIN + COLUMNS * CELL_WIDTH, 2 * MARGIN + len(lines) * CELL_HEIGHT
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" font-size="{FONT_SIZE}"'
    fonts = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
    box = f'x=".5" y=".5" width="{width - 1:g}" height="{height - 1:g}" rx="8"'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{fonts}">',
            f'<rect {box} fill="{theme.background}" stroke="{theme.border}"/>',
            *elements(lines, theme),
            "</svg>\n",
        )
    )


def elements(lines: Sequence[str], theme: Theme) -> Iterator[str]:
    """Yield the words and the strokes; each word has its own place and length, so that no font can shift the columns."""
    console = Console(width=COLUMNS)
    for row, line in enumerate(AnsiDecoder().decode("\n".join(lines))):
        top, column = MARGIN + row * CELL_HEIGHT, 0
        for segment in line.render(console):
            text, strokes = paint(segment.style or Style(), theme)
            for character, repeated in groupby(segment.text):
                count = len(list(repeated))
                if character in STROKES:
                    right, down, path, width = STROKES[character]
                    x, y = MARGIN + (column + right) * CELL_WIDTH, top + down * CELL_HEIGHT
                    d = f"M{x:.5g} {y:.5g}" + (f"h{count * CELL_WIDTH:.5g}" if character in "─━" else path)
                    yield f'<path d="{d}" fill="none" stroke-width="{width}"{strokes}/>'
                column += count * cell_len(character)
            column -= segment.cell_length
            for word in re.split("( +)", "".join(" " if c in STROKES else c for c in segment.text)):
                if word.strip():
                    x, y = MARGIN + column * CELL_WIDTH, top + CELL_HEIGHT / 2 + FONT_SIZE * 0.34
                    size = f'textLength="{cell_len(word) * CELL_WIDTH:.5g}" lengthAdjust="spacingAndGlyphs"'
                    yield f'<text x="{x:.5g}" y="{y:.5g}" {size}{text}>{escape(word)}</text>'
                column += cell_len(word)


def paint(style: Style, theme: Theme) -> tuple[str, str]:
    """Return the attributes of text and of strokes in `style`."""
    number = style.color.number if style.color is not None else None
    color = theme.text if number is None else theme.colors[number]
    opacity = ' opacity=".55"' if style.dim else ""
    weight = ' font-weight="bold"' if style.bold else ""
    return f' fill="{color}"{weight}{opacity}', f' stroke="{color}"{opacity}'


def main() -> None:
    """Run the job and write the pictures."""
    camera = Camera()
    with suppress(ItemFailures):
        run_queue(initial_items=[Directory()], num_workers=8, on_error="continue", reporter=camera)
    lines = ["$ python mirror.py", *camera.lines]
    for name, theme in THEMES.items():
        Path(__file__).with_name(f"display-{name}.svg").write_text(svg(lines, theme), encoding="utf-8")


if __name__ == "__main__":
    main()
