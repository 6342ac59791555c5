"""Draw the moving pictures of the display in the README, from a real run: ``python docs/display.py``.

It runs a small job that pretends to mirror a site, takes what the rich reporter draws every second or two, and what it leaves at
the end, and writes that as ``display-dark.svg`` and ``display-light.svg`` beside this file, faster than it was. It
takes half a minute; figures differ a little from one time to the next. Who has asked their system for less motion sees
one picture from the middle of the run.
"""

import random
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import chdir, suppress
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
from aqueue_reporters._drawing_pen import DrawingPen
from aqueue_reporters._panels import Panels
from aqueue_reporters._summary import summary_lines

COLUMNS, ROWS = 88, 40
CELL_WIDTH, CELL_HEIGHT, FONT_SIZE = 8.4, 18, 14
MARGIN = 18
FRAMES_A_SECOND = 0.7
FRAME_S = 0.5  # how long each is shown
HOLD_FRAMES = 8  # for so many more the last one stays


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
    """A reporter that keeps what the rich reporter draws now and then, and the summary.

    Attributes:
        frames: what was drawn, as lines.
        still: which of the frames shows most of what there is to see.
    """

    uses_terminal = False

    def __init__(self) -> None:
        self._pen = DrawingPen(styles=True, colors=True, encoding="utf-8")
        self._panels = Panels(self._pen)
        self._drawn_at = 0.0
        self.frames: list[list[str]] = []
        self.still = 0

    def open(self, run: RunInfo) -> None:
        """Do nothing."""

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Draw, if it is time."""
        now = time.time()
        if now - self._drawn_at < 1 / FRAMES_A_SECOND:
            return
        self._drawn_at = now
        self.frames.append(self._panels.lines(view, now, COLUMNS, ROWS))
        files = view.overall
        if files.completed < files.enqueued * 0.7 and any(
            one.phase == "after_children" for one in view.running.values()
        ):
            self.still = len(self.frames) - 1

    def close(self, result: RunResult) -> None:
        """Draw the summary."""
        mark = self._pen.characters.failed if result.failures else self._pen.characters.succeeded
        self.frames.append(["", *summary_lines(result, self._pen, f"{mark} {result.status.capitalize()}"), ""])


def svg(frames: Sequence[Sequence[str]], still: int, theme: Theme) -> str:
    """Return `frames`, lines styled with ANSI sequences, as a moving picture of a terminal.

    A row that stays as it is over several frames is drawn once, and shown for as long.
    """
    rows = max(len(lines) for lines in frames)
    width, height = 2 * MARGIN + COLUMNS * CELL_WIDTH, 2 * MARGIN + rows * CELL_HEIGHT
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" font-size="{FONT_SIZE}"'
    fonts = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
    box = f'x=".5" y=".5" width="{width - 1:g}" height="{height - 1:g}" rx="8"'
    total = len(frames) + HOLD_FRAMES
    spans: set[tuple[int, int]] = set()
    drawn: list[str] = []
    for row in range(rows):
        first = 0
        lines = [lines[row] if row < len(lines) else "" for lines in frames]
        for line, same in groupby(lines):
            last = first + len(list(same))
            span = first, total if last == len(frames) else last
            if line.strip():
                spans.add(span)
                kept = " still" if first <= still < last else ""
                drawn.append(f'<g class="s{first}-{span[1]}{kept}">')
                drawn += elements(row, line, theme)
                drawn.append("</g>")
            first = last
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{fonts}" xml:space="preserve">',
            f"<style>{style(sorted(spans), total)}</style>",
            f'<rect {box} fill="{theme.background}" stroke="{theme.border}"/>',
            *drawn,
            "</svg>\n",
        )
    )


def style(spans: Sequence[tuple[int, int]], total: int) -> str:
    """Return the style sheet that shows what belongs to each span of frames in its time."""
    rules = [
        "g{visibility:hidden}",
        "@media (prefers-reduced-motion:reduce){g{animation:none!important}g.still{visibility:visible}}",
    ]
    for first, last in spans:
        name = f"s{first}-{last}"
        if (first, last) == (0, total):
            rules.append(f".{name}{{visibility:visible}}")
            continue
        begin, end = 100 * first / total, 100 * last / total
        steps = "" if first == 0 else "0%{visibility:hidden}"
        steps += f"{begin:.4g}%{{visibility:visible}}"
        steps += "" if last == total else f"{end:.4g}%{{visibility:hidden}}"
        steps += f"100%{{visibility:{'visible' if last == total else 'hidden'}}}"
        rules.append(f"@keyframes {name}{{{steps}}}.{name}{{animation:{name} {total * FRAME_S:g}s step-end infinite}}")
    return "".join(rules)


def elements(row: int, line: str, theme: Theme) -> Iterator[str]:
    """Yield the text and the strokes of a row; each text has its own place and length, so that no font can shift it."""
    top, column = MARGIN + row * CELL_HEIGHT, 0
    console = Console(width=COLUMNS)
    for segment in next(iter(AnsiDecoder().decode(line))).render(console):
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
        for words in re.split("(  +)", "".join(" " if c in STROKES else c for c in segment.text)):
            if words.strip():
                blank = len(words) - len(words.lstrip())
                x, y = MARGIN + (column + blank) * CELL_WIDTH, top + CELL_HEIGHT / 2 + FONT_SIZE * 0.34
                shown = words.strip()
                size = f'textLength="{cell_len(shown) * CELL_WIDTH:.5g}" lengthAdjust="spacingAndGlyphs"'
                yield f'<text x="{x:.5g}" y="{y:.5g}" {size}{text}>{escape(shown)}</text>'
            column += cell_len(words)


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
    journal = Path(__file__).with_name("mirror.db")
    with chdir(journal.parent), suppress(ItemFailures):
        run_queue([Directory()], num_workers=8, on_error="continue", reporter=camera, journal=journal)
    for file in journal.parent.glob(f"{journal.name}*"):
        file.unlink()
    command = "$ python display.py"
    frames = [[command, *lines] for lines in camera.frames]
    for name, theme in THEMES.items():
        picture = svg(frames, camera.still, theme)
        Path(__file__).with_name(f"display-{name}.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
