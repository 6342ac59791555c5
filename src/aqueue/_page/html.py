"""Builds HTML: all text that is not marked as HTML is made visible and escaped."""

import html
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from aqueue.text import visible

__all__ = [
    "Html",
    "as_json",
    "clock",
    "counted",
    "joined",
    "lines",
    "percent",
    "table",
    "text",
]

_TEXT_MAX_CHARS: Final = 1_000
_IN_SCRIPT: Final = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object, max_chars: int = _TEXT_MAX_CHARS) -> Html:
    """Return a value as HTML that shows it: itself if it is HTML, else its text, cut, on one line and escaped."""
    return value if isinstance(value, Html) else Html(html.escape(visible(str(value), max_chars)))


def lines(value: str, max_chars: int) -> Html:
    """Return several lines of text as HTML; if it is too long, only its end."""
    start = "…\n" if len(value) > max_chars else ""
    shown = (visible(line) for line in value[-max_chars:].rstrip().split("\n"))
    return Html(html.escape(start + "\n".join(shown)))


def joined(parts: Iterable[str]) -> Html:
    """Return parts, each of which is made safe, as one."""
    return Html("".join(text(part) for part in parts))


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]], figures: Iterable[int] = ()) -> Html:
    """Return a table with a caption and headings; the first cell of each row heads it.

    Parameters:
        caption: what it shows.
        columns: the headings.
        rows: the cells, made safe here.
        figures: which columns are figures, by number from 0: they are aligned to the right.
    """
    right = set(figures)
    mark = [' class="n"' if number in right else "" for number in range(len(columns))]
    head = "".join(f'<th scope="col"{mark[n]}>{text(title)}</th>' for n, title in enumerate(columns))
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{mark[n]}>{text(cell)}</td>" if n else f'<th scope="row"{mark[n]}>{text(cell)}</th>'
            for n, cell in enumerate(row)
        )
        + "</tr>\n"
        for row in rows
    )
    return Html(
        f'<div class="scroll" role="group" tabindex="0" aria-label="{text(caption)}"><table>'
        f"<caption>{text(caption)}</caption><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def as_json(value: object) -> Html:
    """Return JSON that can stand in a script element; its strings must be UTF-8."""
    return Html(msgspec.json.encode(value).decode().translate(_IN_SCRIPT))


def counted(number: int, noun: str) -> str:
    """Return a count with its noun, whose plural ends in s: 1 item, 1,234 items."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percent(part: float, whole: float) -> str:
    """Return a share in per cent."""
    return f"{100 * part / whole:.0f} %" if whole else "–"


def clock(seconds: float) -> str:
    """Return a moment in a run as a clock shows it: 0:07, 12:34, 1:02:03; with decimals where a run is short."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
