"""Draw the drawings of the explanations: ``python docs/drawings.py`` writes them to ``docs/explanation``, dark and light.

Each is boxes, arrows and words at places given in pixels; what stands in a box or at an arrow is a name that the
reference has, too.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from display import THEMES, Theme

FOLDER = Path(__file__).with_name("explanation")
SANS = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
BOX_HEIGHT = 44
RED, GREEN, MAGENTA, CYAN = 1, 2, 5, 6  # ANSI's numbers, by which a theme has its colours


class Box(NamedTuple):
    """Words in a frame, around the point (x, y)."""

    x: float
    y: float
    words: str  # lines are parted by newlines
    color: int | None = None
    width: float = 124
    height: float = BOX_HEIGHT
    dashed: bool = False


class Arrow(NamedTuple):
    """A line through points, with a tip at its end and a label at a point."""

    points: tuple[tuple[float, float], ...]
    label: str = ""
    label_at: tuple[float, float] = (0, 0)
    anchor: str = "middle"
    color: int | None = None
    code: bool = True  # whether the label is a name in the API


class Words(NamedTuple):
    """Text at a point."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    bold: bool = False
    quiet: bool = False
    code: bool = False  # whether it is a name in the source
    size: float = 14


Shape = Box | Arrow | Words


class Drawing(NamedTuple):
    """A picture of shapes."""

    title: str
    width: float
    height: float
    shapes: tuple[Shape, ...]


STATES = Drawing(
    "What the items of a run do: their states, and the events that lead from one to the next",
    760,
    560,
    (
        Words(230, 75, "enqueue()", "end"),
        Arrow(((236, 70), (298, 70))),
        Box(360, 70, "queued"),
        Arrow(((360, 92), (360, 158)), "item.started", (368, 130), "start"),
        Box(360, 180, "running", CYAN),
        Arrow(((360, 202), (360, 278)), "item.completed", (368, 244), "start"),
        Box(360, 300, "completed\nby itself", width=148),
        Arrow(((360, 322), (360, 388)), "item.started", (368, 360), "start"),
        Box(360, 410, "running\nits hook", CYAN),
        Arrow(((360, 432), (360, 498)), "item.children_processed", (368, 470), "start"),
        Box(360, 520, "completed\nand all below it", GREEN),
        # Another attempt.
        Arrow(((298, 170), (120, 170), (120, 147)), "item.retry_scheduled", (210, 162), color=MAGENTA),
        Box(120, 125, "retrying\nwaits for its time", MAGENTA, 140),
        Arrow(((120, 103), (120, 30), (340, 30), (340, 48)), "its time has come", (230, 22), color=MAGENTA, code=False),
        Arrow(((298, 410), (196, 410), (196, 300), (286, 300)), "item.retry_scheduled", (188, 360), "end", MAGENTA),
        # Cut short.
        Arrow(((422, 170), (560, 170), (560, 147)), "item.interrupted", (491, 162)),
        Box(560, 125, "interrupted"),
        Arrow(((560, 103), (560, 70), (422, 70)), "runs again", (491, 62), code=False),
        # Neither children nor hook.
        Arrow(((298, 190), (30, 190), (30, 520), (298, 520)), "item.completed", (38, 495), "start"),
        Words(38, 512, "no hook, nothing below"),
        # Failed.
        Arrow(((422, 190), (650, 190), (650, 278)), "item.failed", (531, 206), color=RED),
        Arrow(((434, 300), (588, 300)), "item.children_failed", (511, 290), color=RED),
        Arrow(((422, 410), (650, 410), (650, 322)), "item.failed", (531, 402), color=RED),
        Box(650, 300, "failed\nitself, or below", RED),
        Arrow(((712, 300), (730, 300), (730, 30), (380, 30), (380, 48)), "item.reopened, on resume", (555, 22)),
    ),
)

COMMANDS = Drawing(
    "What a person can do to an item: the commands, and the states between which they move it",
    760,
    430,
    (
        Box(150, 190, "", width=200, height=316, dashed=True),
        Words(150, 56, "outstanding", "middle", quiet=True),
        Box(150, 95, "queued"),
        Box(150, 165, "running", CYAN),
        Box(150, 235, "retrying", MAGENTA),
        Box(150, 305, "interrupted"),
        # The wait ends.
        Arrow(((212, 228), (286, 228), (286, 244), (212, 244)), "aqueue retry", (294, 232), "start", MAGENTA),
        Words(294, 249, "item.rescheduled", quiet=True, code=True),
        # What has failed.
        Arrow(((250, 68), (448, 68)), "aqueue cancel", (349, 60), color=RED),
        Words(349, 83, "item.failed", "middle", quiet=True, code=True),
        Box(510, 84, "failed", RED),
        Arrow(((448, 102), (212, 102)), "aqueue retry", (349, 120), color=CYAN),
        Words(349, 136, "item.reopened", "middle", quiet=True, code=True),
        Arrow(((510, 106), (510, 278)), "aqueue skip", (518, 188), "start", GREEN),
        Words(518, 204, "item.skipped", quiet=True, code=True),
        # What counts as successful.
        Arrow(((250, 300), (448, 300)), "aqueue skip", (349, 292), color=GREEN),
        Words(349, 318, "item.skipped", "middle", quiet=True, code=True),
        Box(510, 300, "skipped", GREEN),
        Box(680, 300, "completed", GREEN),
        # Again, from either of them.
        Arrow(
            ((680, 322), (680, 390), (510, 390), (510, 322), (510, 390), (22, 390), (22, 95), (88, 95)),
            "aqueue retry --completed",
            (349, 382),
        ),
        Words(349, 408, "item.reopened", "middle", quiet=True, code=True),
    ),
)


def recorded(row: int, name: str, state: str, color: int | None, call: str, outcome: str) -> tuple[Shape, ...]:
    """Return the shapes of one recorded child, the call that matches it, and what comes of that."""
    y = 128 + 62 * row
    return (
        Arrow(((76, 66 + BOX_HEIGHT / 2), (76, y), (128, y))),
        Box(200, y, f"{name}\n{state}", color, 144, dashed=color is None),
        Arrow(((402, y), (276, y)), "matches", (339, y - 8), code=False, color=CYAN),
        Words(412, y - 2, call, bold=True),
        Words(412, y + 17, outcome, quiet=True),
    )


ADOPTION = Drawing(
    "How a parent that runs again adopts the children that were recorded",
    760,
    430,
    (
        Words(24, 26, "The journal, after the crash", bold=True),
        Words(412, 26, "The next process runs Book again", bold=True),
        Box(86, 66, "Book\ninterrupted", MAGENTA, 124),
        Words(412, 70, "process() begins at its first line", quiet=True),
        *recorded(0, "Page 1", "completed", GREEN, "enqueue(Page(1))", "is done: nothing is left to do"),
        *recorded(1, "Page 2", "interrupted", MAGENTA, "enqueue(Page(2))", "the new object runs, as the recorded item"),
        *recorded(2, "Page 3", "queued", None, "enqueue(Page(3))", "the new object runs, as the recorded item"),
        Words(412, 312, "enqueue(Page(4))", bold=True),
        Words(412, 331, "matches nothing: a new item", quiet=True),
        Arrow(((76, 66 + BOX_HEIGHT / 2), (76, 376), (128, 376))),
        Box(200, 376, "Page 9\nqueued", None, 144, dashed=True),
        Words(412, 374, "process() has ended without it", bold=True),
        Words(412, 393, "it runs as it was recorded, with a warning", quiet=True),
        Arrow(((402, 376), (276, 376)), color=None),
    ),
)


def parts(x: float, y: float, *rows: tuple[str, str]) -> Iterator[Words]:
    """Yield, line below line, names of modules and packages and what they are for; names that share a line have spaces between."""
    for number, (names, purpose) in enumerate(rows):
        line, column = y + 23 * number, x
        for name in names.split():
            yield Words(column, line, name, bold=True, code=True)
            column += 7.3 * len(name) + 9
        yield Words(max(column, x + 94), line, purpose, quiet=True, size=13)


ARCHITECTURE = Drawing(
    "The modules and packages of aqueue: those that write the list of events, those that read it, and those that steer a run",
    760,
    580,
    (
        # The two ways in.
        Box(155, 46, "", width=270, height=60),
        Words(36, 40, "run_queue()", bold=True),
        *parts(36, 61, ("_run", "connects the parts")),
        Box(605, 46, "", width=270, height=60),
        Words(486, 40, "aqueue status, pause, …", bold=True),
        *parts(486, 61, ("cli _page __main__", "the command")),
        Arrow(((155, 76), (155, 113))),
        Arrow(((605, 76), (605, 113))),
        # The way in from outside.
        Box(380, 86, "", GREEN, 120, 140),
        Words(380, 38, "Steer", "middle", bold=True),
        Words(380, 59, "steering", "middle", bold=True, code=True),
        Words(380, 74, "pause, stop, …", "middle", quiet=True, size=13),
        Words(380, 94, "_verbs", "middle", bold=True, code=True),
        Words(380, 109, "as messages", "middle", quiet=True, size=13),
        Words(380, 129, "_control", "middle", bold=True, code=True),
        Words(380, 144, "a socket", "middle", quiet=True, size=13),
        Arrow(((470, 46), (440, 46)), color=GREEN),
        Arrow(((320, 46), (290, 46)), color=GREEN),
        # Those that write.
        Box(155, 223, "", width=270, height=220),
        Words(36, 139, "Write the list", bold=True),
        *parts(
            36,
            168,
            ("item", "what you write"),
            ("retry", "when it is tried again"),
            ("limits", "how many at once"),
            ("_engine", "workers, tree, queues"),
            ("_codec", "items as JSON"),
            ("_cluster", "items elsewhere"),
            ("log_context", "items in your own log"),
        ),
        # The list.
        Box(380, 256, "", CYAN, 120, 170),
        Words(380, 198, "The list", "middle", bold=True),
        Words(380, 236, "events", "middle", bold=True, code=True),
        Words(380, 254, "what happens", "middle", quiet=True, size=13),
        Words(380, 292, "_stream", "middle", bold=True, code=True),
        Words(380, 310, "in one order", "middle", quiet=True, size=13),
        Arrow(((290, 256), (320, 256)), color=CYAN),
        Arrow(((440, 256), (470, 256)), color=CYAN),
        # Those that read.
        Box(605, 256, "", width=270, height=286),
        Words(486, 139, "Read the list", bold=True),
        *parts(
            486,
            168,
            ("_delivery", "hands it on, in batches"),
            ("_journal", "into a file, and back"),
            ("reporting", "to displays and logs"),
            ("log_lines", "as lines of a log"),
            ("view", "how the run stands"),
            ("_folds", "what else it says"),
            ("result", "what it came to"),
            ("_history", "a recorded run"),
            ("journal", "the results of a run"),
            ("testing", "a run, for your tests"),
        ),
        # The bridge.
        Box(380, 452, "", MAGENTA, 200, 52),
        Words(380, 447, "_resume", "middle", bold=True, code=True),
        Words(380, 466, "continues what it reads", "middle", quiet=True, size=13),
        Arrow(((605, 399), (605, 452), (480, 452)), color=MAGENTA),
        Arrow(((280, 452), (155, 452), (155, 333)), color=MAGENTA),
        # What any of them may use.
        Box(380, 532, "", width=720, height=60, dashed=True),
        Words(36, 526, "Used by all", bold=True),
        *parts(36, 547, ("_system _arguments errors text figures tracebacks _version", "")),
    ),
)


def svg(drawing: Drawing, theme: Theme) -> str:
    """Return the drawing as an SVG."""
    size = f'viewBox="0 0 {drawing.width:g} {drawing.height:g}" width="{drawing.width:g}" height="{drawing.height:g}"'
    box = f'x=".5" y=".5" width="{drawing.width - 1:g}" height="{drawing.height - 1:g}" rx="8"'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{SANS}" font-size="14">',
            f"<title>{escape(drawing.title)}</title>",
            f'<rect {box} fill="{theme.background}" stroke="{theme.border}"/>',
            *(line for shape in drawing.shapes for line in paint(shape, theme)),
            "</svg>\n",
        )
    )


def paint(shape: Shape, theme: Theme) -> Iterator[str]:
    """Yield the elements of one shape."""
    if isinstance(shape, Words):
        yield text(
            shape.x,
            shape.y,
            shape.text,
            theme.text,
            shape.anchor,
            bold=shape.bold,
            quiet=shape.quiet,
            code=shape.code,
            size=shape.size,
        )
        return
    color = theme.text if shape.color is None else theme.colors[shape.color]
    if isinstance(shape, Box):
        left, top = shape.x - shape.width / 2, shape.y - shape.height / 2
        dashes = ' stroke-dasharray="4 3"' if shape.dashed else ""
        yield (
            f'<rect x="{left:g}" y="{top:g}" width="{shape.width:g}" height="{shape.height:g}" rx="8" '
            f'fill="none" stroke="{color}" stroke-width="1.5"{dashes}/>'
        )
        lines = shape.words.split("\n") if shape.words else []
        for number, line in enumerate(lines):
            y = shape.y + 5 + (number - (len(lines) - 1) / 2) * 17
            yield text(shape.x, y, line, color, "middle", bold=number == 0)
        return
    path = "M" + " L".join(f"{x:g} {y:g}" for x, y in shape.points)
    yield f'<path d="{path}" fill="none" stroke="{color}" stroke-width="1.5" stroke-linejoin="round"/>'
    yield tip(shape.points[-2], shape.points[-1], color)
    if shape.label:
        yield text(*shape.label_at, shape.label, color, shape.anchor, code=shape.code)


def tip(before: tuple[float, float], end: tuple[float, float], color: str) -> str:
    """Return the tip of an arrow that ends at `end` and comes, straight across or down, from `before`."""
    (x, y), (dx, dy) = end, (end[0] - before[0], end[1] - before[1])
    across, down = (dx > 0) - (dx < 0), (dy > 0) - (dy < 0)
    back_x, back_y = x - 8 * across, y - 8 * down
    return (
        f'<path d="M{x:g} {y:g} L{back_x + 4 * down:g} {back_y + 4 * across:g} '
        f'L{back_x - 4 * down:g} {back_y - 4 * across:g} Z" fill="{color}"/>'
    )


def text(
    x: float,
    y: float,
    words: str,
    color: str,
    anchor: str,
    *,
    bold: bool = False,
    quiet: bool = False,
    code: bool = False,
    size: float = 14,
) -> str:
    """Return a line of text."""
    more = ' font-weight="bold"' if bold else ""
    more += ' opacity=".75"' if quiet else ""
    more += f' font-family="{MONO}" font-size="12"' if code else ""
    more += f' font-size="{size:g}"' if size != 14 and not code else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{color}"{more}>{escape(words)}</text>'


def main() -> None:
    """Write the drawings."""
    drawings = {"states": STATES, "commands": COMMANDS, "adoption": ADOPTION, "architecture": ARCHITECTURE}
    for name, drawing in drawings.items():
        for variant, theme in THEMES.items():
            (FOLDER / f"{name}-{variant}.svg").write_text(svg(drawing, theme), encoding="utf-8")


if __name__ == "__main__":
    main()
