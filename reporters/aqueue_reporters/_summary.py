"""The rich reporter's summary: what a run came to, as lines that stay."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from rich.cells import cell_len

from aqueue.events import Counts, ErrorInfo, ItemFailed
from aqueue.figures import amount
from aqueue.result import FailureGroup, RunResult
from aqueue.text import short_names
from aqueue.tracebacks import place
from aqueue_reporters._failed import how_to_list, innermost_frames, not_shown
from aqueue_reporters._pace import rate_text, time_taken
from aqueue_reporters._pen import Pen

__all__ = ["error_line", "failure_line", "summary_lines"]

_MAX_TYPES: Final = 50
_MAX_GROUPS: Final = 10
_MAX_MESSAGE_CHARS: Final = 300


def summary_lines(result: RunResult, pen: Pen, columns: int, *, goes_on: bool = False) -> list[str]:
    """Return the summary of `result` for a terminal `columns` wide; only the command to list failures may be wider.

    Parameters:
        result: what the run came to, so far if it goes on.
        pen: how to write.
        columns: the terminal's width, cells.
        goes_on: whether the run has not ended, but the watching of it has.
    """
    names = {type: pen.safe(name, 200) for type, name in short_names(result.counts_by_type).items()}
    lines = ["", *_headline(result, pen, columns, goes_on)]
    if len(result.counts_by_type) > 1:
        lines += ["", *_types(result, names, pen, columns)]
    if result.counts.failed:
        lines += ["", *_failures(result, names, pen, columns)]
    return [*lines, ""]


def failure_line(failure: ItemFailed, pen: Pen) -> str:
    """Return one failure as a line of its own, for where nothing is redrawn."""
    name = pen.safe(next(iter(short_names([failure.type]).values())), 200)
    return f"failed: {name} (item {failure.item}): {error_line(failure.error, pen)}"


def error_line(error: ErrorInfo, pen: Pen) -> str:
    """Return an error's class, without its module, and its message, safe to show."""
    kind = pen.safe(error.type.rpartition(":")[2] or error.type, 200)
    message = pen.safe(error.message, _MAX_MESSAGE_CHARS)
    return f"{kind}: {message}" if message else kind


def _headline(result: RunResult, pen: Pen, columns: int, goes_on: bool) -> list[str]:
    """Return how the run ended, its counts and its rate: on one line, or on several where that is too wide."""
    c, counts = pen.characters, result.counts
    match result.status:
        case "completed":
            mark, style, word = c.succeeded, "good strong", "Completed"
        case "failed":
            mark, style, word = c.failed, "bad strong", "Failed"
        case _:
            mark, style, word = c.stopped, "stopping", "Watching ended" if goes_on else "Interrupted"
    if result.stop_reason:
        word += f" ({pen.safe(result.stop_reason, 200)})"
    parts = [f"{amount(counts.completed)} done"]
    if counts.failed:
        parts.append(f"{amount(counts.failed)} failed")
    if counts.outstanding:
        parts.append(f"{amount(counts.outstanding)} outstanding")
    if counts.deduplicated:
        parts.append(f"{amount(counts.deduplicated)} dropped as known")
    if counts.retried:
        parts.append(f"{amount(counts.retried)} retried")
    time = f"in {time_taken(result.elapsed_s)}"
    if result.elapsed_s > 0:
        time += f" {c.dot} {rate_text(counts.completed / result.elapsed_s)}"
    head, came_to = f"{mark} {word}", ", ".join(parts)
    if cell_len(f"{head}  {came_to} {time}") < columns:
        return [f"{pen.write(style, head)}  {came_to} {time}"]
    return [pen.write(style, head), *_packed(parts, columns), f"  {time}"]


def _packed(parts: Sequence[str], cells: int) -> list[str]:
    """Return the parts, parted by commas, on as few lines as they fit on; none is broken."""
    lines = [f"  {parts[0]}"]
    for part in parts[1:]:
        lines[-1] += ","
        if cell_len(f"{lines[-1]} {part}") < cells:
            lines[-1] += f" {part}"
        else:
            lines.append(f"  {part}")
    return lines


def _types(result: RunResult, names: dict[str, str], pen: Pen, columns: int) -> Iterable[str]:
    """Return a table: a line a type, the most numerous first, with those columns that have something to say."""
    ranked = sorted(result.counts_by_type.items(), key=lambda entry: -entry[1].enqueued)
    rows = [(names[type], counts) for type, counts in ranked[:_MAX_TYPES]]
    figures: list[tuple[str, Callable[[Counts], int]]] = [
        ("done", lambda c: c.completed),
        ("failed", lambda c: c.failed),
        ("outstanding", lambda c: c.outstanding),
    ]
    figures = [(title, value) for title, value in figures if title == "done" or value(result.counts)]
    widths = [max(len(title), len(amount(value(result.counts)))) for title, value in figures]
    room = columns - 3 - sum(widths) - 3 * len(widths)
    name_cells = min(max(cell_len(name) for name, _ in rows), max(room, 8))
    yield pen.write(
        "quiet",
        "  "
        + " " * name_cells
        + "".join("   " + title.rjust(w) for (title, _), w in zip(figures, widths, strict=True)),
    )
    for name, counts in rows:
        cells = [(value(counts), width) for (_, value), width in zip(figures, widths, strict=True)]
        texts = [amount(number).rjust(width) for number, width in cells]
        if counts.failed:
            texts[1] = pen.write("bad strong", texts[1])
        texts = [text if number else pen.write("quiet", text) for text, (number, _) in zip(texts, cells, strict=True)]
        yield "  " + pen.fit(name, name_cells) + "".join("   " + text for text in texts)
    if len(ranked) > _MAX_TYPES:
        more = len(ranked) - _MAX_TYPES
        yield pen.write("quiet", f"  +{amount(more)} more type{'' if more == 1 else 's'}")


def _failures(result: RunResult, names: dict[str, str], pen: Pen, columns: int) -> Iterable[str]:
    """Return the failures by kind, the most numerous first, each with an example and where the user's code was in it."""
    groups = result.failure_groups[:_MAX_GROUPS]
    width = max((len(amount(group.count)) for group in groups), default=0)
    for group in groups:
        name = names.get(group.type) or pen.safe(group.type, 200)
        phase = " after children" if group.phase == "after_children" else ""
        count = pen.write("bad strong", amount(group.count).rjust(width))
        kind = pen.safe(group.error.rpartition(":")[2] or group.error, 200)
        yield f"  {count} {pen.characters.times} {pen.write('strong', name)}{phase}: {pen.write('bad', kind)}"
        for line in _example(group, pen, max(columns - width - 6, 20)):
            yield " " * (width + 5) + line
    if more := not_shown(result, groups):
        yield pen.write("quiet", f"  +{amount(more)} more failure{'' if more == 1 else 's'}")
    if how := how_to_list(result, groups):
        # On a line of its own, which the terminal wraps: so it can be copied whole.
        yield from ("", pen.write("quiet", f"  {how[0]}:"), f"  {pen.safe(how[1], 5_000)}")


def _example(group: FailureGroup, pen: Pen, cells: int) -> Iterable[str]:
    first = group.first
    message = pen.safe(first.error.message, _MAX_MESSAGE_CHARS)
    attempts = f" ({first.attempt} attempts)" if first.attempt > 1 else ""
    item = f"{'first: ' if group.count > 1 else ''}item {first.item}{attempts}"
    yield from _wrapped(f"{item}: {message}" if message else item, cells)
    frames = innermost_frames(first)
    for frame in frames:
        yield from (pen.write("quiet", line) for line in _wrapped(pen.safe(place(frame), _MAX_MESSAGE_CHARS), cells))
    if frames and frames[-1].code:
        yield "  " + pen.fit(pen.safe(frames[-1].code, _MAX_MESSAGE_CHARS), cells - 2).rstrip()


def _wrapped(text: str, cells: int) -> Iterable[str]:
    while cell_len(text) > cells:
        # At a space where there is one in the last third, else anywhere.
        end = text.rfind(" ", cells * 2 // 3, cells) + 1 or cells
        while cell_len(text[:end]) > cells:
            end -= 1
        yield text[:end].rstrip()
        text = text[end:]
    yield text
