"""Draw the moving pictures of the display in the README, from a real run: ``python docs/display.py``.

It runs what ``make demo`` runs, interrupts it with Ctrl-C and resumes it, takes what the rich reporter draws every second
or two, and what is printed, and writes that as ``display-dark.svg`` and ``display-light.svg`` next to this file, faster
than it was. It takes half a minute; figures differ a little from one time to the next. The pictures begin when the run
is busy. Where nothing moves (for somebody who has asked their system for less motion, in print, in a preview), they show
the resumed run.
"""

import os
import re
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import chdir, redirect_stderr
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from xml.sax.saxutils import escape

from rich.ansi import AnsiDecoder
from rich.cells import cell_len
from rich.console import Console
from rich.style import Style

from aqueue import RunInfo, RunResult
from aqueue.events import Event
from aqueue.view import RunView
from aqueue_reporters._drawing_pen import DrawingPen
from aqueue_reporters._panels import Panels
from aqueue_reporters._summary import summary_lines

EXAMPLES = Path(__file__).parents[1] / "examples"
COLUMNS, ROWS = 88, 26
CELL_WIDTH, CELL_HEIGHT, FONT_SIZE = 8.4, 18, 14
MARGIN = 18
FRAMES_A_SECOND = 0.5
FRAME_S = 0.5  # how long each is shown
HOLD_FRAMES = 8  # for this many more the last one stays
# How many items are completed when the first picture is taken, and when Ctrl-C is pressed.
BUSY_AFTER, INTERRUPT_AFTER = 150, 1_000


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

DASH = f"{CELL_WIDTH * 0.32:.5g} {CELL_WIDTH * 0.18:.5g}"  # and the gap after it: two in a cell

# Box-drawing characters as strokes, so that they meet whatever the font: where in the cell each begins (in cells), its
# path from there, its width.
STROKES = {
    "─": (0.0, 0.5, f"h{CELL_WIDTH}", 1.0),
    "━": (0.0, 0.5, f"h{CELL_WIDTH}", 2.6),
    "╸": (0.0, 0.5, f"h{CELL_WIDTH / 2}", 2.6),
    "╌": (0.0, 0.5, f"h{CELL_WIDTH}", 1.0),
    "│": (0.5, 0.0, f"v{CELL_HEIGHT}", 1.0),
    "╭": (1.0, 0.5, f"q-{CELL_WIDTH / 2} 0 -{CELL_WIDTH / 2} {CELL_HEIGHT / 2}", 1.0),
    "╮": (0.0, 0.5, f"q{CELL_WIDTH / 2} 0 {CELL_WIDTH / 2} {CELL_HEIGHT / 2}", 1.0),
    "╰": (0.5, 0.0, f"q0 {CELL_HEIGHT / 2} {CELL_WIDTH / 2} {CELL_HEIGHT / 2}", 1.0),
    "╯": (0.5, 0.0, f"q0 {CELL_HEIGHT / 2} -{CELL_WIDTH / 2} {CELL_HEIGHT / 2}", 1.0),
}


class Camera:
    """A reporter that keeps what a terminal would show: what was printed, and below it what the rich reporter draws.

    Attributes:
        frames: what the terminal showed, as lines.
        interrupt_after: Ctrl-C is pressed once this many items are completed; None for never.
    """

    uses_terminal = False

    def __init__(self) -> None:
        self._pen = DrawingPen(styles=True, colors=True, encoding="utf-8")
        self._panels = Panels(self._pen)
        self._drawn_at = 0.0
        self._printed: list[str] = []
        self.frames: list[list[str]] = []
        self.interrupt_after: int | None = None

    def open(self, run: RunInfo) -> None:
        """Begin with new panels."""
        self._panels = Panels(self._pen)

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Draw, if it is time and the run is busy; press Ctrl-C when that is due."""
        now, completed = time.time(), view.counts.completed
        if self.interrupt_after is not None and completed >= self.interrupt_after:
            self.interrupt_after = None
            os.kill(os.getpid(), signal.SIGINT)
        if now - self._drawn_at >= 1 / FRAMES_A_SECOND and completed >= BUSY_AFTER:
            self._drawn_at = now
            self.shoot(self._panels.lines(view, now, COLUMNS, ROWS))

    def close(self, result: RunResult) -> None:
        """Print the summary, as the rich reporter does."""
        c = self._pen.characters
        mark = {"completed": c.succeeded, "failed": c.failed}.get(result.status, c.stopped)
        self._printed += ["", *summary_lines(result, self._pen, f"{mark} {result.status.capitalize()}"), ""]

    def write(self, text: str) -> None:
        """Print what the run says of the resume, as standard error; how to resume, the Makefile says in its own words."""
        if text.startswith("aqueue: resuming"):
            self.print(text)

    def flush(self) -> None:
        """Do nothing."""

    def print(self, text: str) -> None:
        """Print lines, each on as many rows as it needs."""
        for line in text.splitlines():
            self._printed += [line[at : at + COLUMNS] for at in range(0, len(line) or 1, COLUMNS)]

    def shoot(self, below: Sequence[str] = ()) -> None:
        """Keep what the terminal shows now: the end of what was printed, and what is drawn below it."""
        self.frames.append([*self._printed, *below][-ROWS:])


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
        "g{visibility:hidden}g.still{visibility:visible}",
        "@media (prefers-reduced-motion:reduce){g{animation:none!important}}",
        "@media print{g{animation:none!important}}",
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
                d = f"M{x:.5g} {y:.5g}" + (f"h{count * CELL_WIDTH:.5g}" if character in "─━╌" else path)
                dashes = f' stroke-dasharray="{DASH}"' if character == "╌" else ""
                yield f'<path d="{d}" fill="none" stroke-width="{width}"{dashes}{strokes}/>'
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
    """Run the demo, interrupt and resume it, and write the pictures."""
    sys.path.insert(0, str(EXAMPLES))
    import mirror

    camera, first = Camera(), 0
    options = Namespace(url="stdlib", dest="copy", resume="build/demo/mirror.db", workers=8, reporter=camera, slow=20.0)
    with TemporaryDirectory() as folder, chdir(folder), redirect_stderr(camera):  # type: ignore[type-var]
        Path("build/demo").mkdir(parents=True)
        for interrupt_after in (INTERRUPT_AFTER, None):
            options.exclude, camera.interrupt_after = [], interrupt_after
            camera.print("$ make demo")
            try:
                camera.print(mirror.mirror_standard_library(options))
            except KeyboardInterrupt:
                camera.print("Run 'make demo' again: it resumes where this run stopped.")
                for _ in range(HOLD_FRAMES // 2):
                    camera.shoot()
                first = len(camera.frames)
        camera.shoot()
    still = (first + len(camera.frames)) // 2
    for name, theme in THEMES.items():
        picture = svg(camera.frames, still, theme)
        Path(__file__).with_name(f"display-{name}.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
