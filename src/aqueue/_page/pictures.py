"""Bars and charts as SVG. Classes name what is drawn, and the style sheet gives the colors, for light and dark.

There are no inline styles: the page's policy allows none, so that no text of an item can become one.
"""

from collections.abc import Callable, Iterable, Sequence
from math import ceil, log10
from typing import Final

from aqueue._page.html import Html, clock, text
from aqueue._page.series import Period
from aqueue.figures import amount

__all__ = ["bar", "chart", "falling_bars", "icon", "pips"]

_MOST_PIPS: Final = 12
_HEIGHT: Final = 1_000
_STEPS: Final = (1, 2, 4, 6, 8, 10)
"""What the top of a chart may be, times a power of ten: a quarter of each is a round number, too."""

Line = tuple[str, Callable[[Period], float]]
"""What a line of a chart is, as the style sheet calls it, and its value in a period."""


def icon(name: str) -> Html:
    """Return an icon of the page's sheet of icons. What it means must be said in words, too."""
    return Html(f'<svg class="icon" aria-hidden="true"><use href="#i-{name}"/></svg>')


def bar(shares: Iterable[tuple[str, float]], css_class: str = "bar") -> Html:
    """Return a bar with a segment per share, from 0 to 1, in their order; each has its class."""
    drawn, left = [], 0.0
    for name, share in shares:
        if share > 0:
            drawn.append(f'<rect class="{name}" x="{left:.2f}%" width="{share * 100:.2f}%" height="100%"/>')
            left += share * 100
    return Html(f'<svg class="{css_class}" aria-hidden="true">{"".join(drawn)}</svg>')


def pips(full: int, most: int) -> Html:
    """Return a small box per place of a limit, `full` of which are taken; nothing if they are too many to be seen."""
    if not 0 < most <= _MOST_PIPS:
        return Html("")
    boxes = "".join(
        f'<rect class="{"taken" if place < full else "free"}" x="{place * 6 + 1}" y="1" width="4" height="10" rx="1"/>'
        for place in range(most)
    )
    return Html(f'<svg class="pips" width="{most * 6}" height="12" aria-hidden="true">{boxes}</svg>')


def falling_bars(counts: Sequence[int]) -> Html:
    """Return a histogram without axes; each count that isn't 0 can be seen."""
    top, width = max(counts, default=0) or 1, 100 / max(len(counts), 1)
    bars = "".join(
        f'<rect x="{at * width:.2f}%" width="{width * 0.82:.2f}%" y="{100 - height:.1f}%" height="{height:.1f}%"/>'
        for at, count in enumerate(counts)
        for height in [max(count / top * 100, 8.0) if count else 3.0]
    )
    return Html(f'<svg class="burst" aria-hidden="true">{bars}</svg>')


def chart(
    title: str,
    bins: Sequence[Period],
    lines: Sequence[Line],
    gaps: Iterable[tuple[float, str]],
    *,
    is_stepped: bool = False,
    moment_s: float | None = None,
) -> Html:
    """Return a chart over the run's own time; screen readers get `title`, which says what it shows.

    Parameters:
        title: what it shows, with its figures.
        bins: the periods, of which there is one at least.
        lines: its lines; the area below a single one is filled.
        gaps: when the run was resumed, in its own time, seconds, and what had ended it.
        is_stepped: whether a value holds for its whole period; otherwise it is that of the period's end.
        moment_s: which moment is shown, if it is a past one: what came after it is veiled.
    """
    end_s = bins[-1].end or 1.0
    top = _round_up(max((value(period) for period in bins for _, value in lines), default=0.0))
    drawn = []
    for name, value in lines:
        points = _corners(bins, value, is_stepped=is_stepped)
        path = "L".join(f"{at / end_s * _HEIGHT:.1f} {_HEIGHT - y / top * _HEIGHT:.1f}" for at, y in points)
        if len(lines) == 1:
            drawn.append(f'<path class="area" d="M0 {_HEIGHT}L{path}L{_HEIGHT} {_HEIGHT}Z"/>')
        drawn.append(f'<path class="line {name}" d="M{path}"/>')
    grid = "".join(f'<line x1="0" x2="100%" y1="{y}%" y2="{y}%"/>' for y in (0, 50))
    levels = "".join(f'<text x="0" y="{y}%" dy="-4">{_short(top * (100 - y) / 100)}</text>' for y in (0, 50))
    marks = "".join(
        f'<line class="gap" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="100%"/>'
        f'<text class="gap" x="{x:.2f}%" y="0" dy="-4" text-anchor="{"end" if x > 80 else "start"}">{text(said, 40)}</text>'
        for at, said in gaps
        for x in [at / end_s * 100]
    )
    times = "".join(
        f'<text x="{x}%" y="100%" dy="16" text-anchor="{anchor}">{clock(end_s * x / 100) if x else 0}</text>'
        for x, anchor in ((0, "start"), (50, "middle"), (100, "end"))
    )
    veil = ""
    if moment_s is not None:
        x = min(moment_s / end_s * 100, 100.0)
        veil = (
            f'<rect class="future" x="{x:.2f}%" width="{100 - x:.2f}%" height="100%"/>'
            f'<line class="moment" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="100%"/>'
        )
    return Html(
        f'<svg class="chart" role="img" aria-label="{text(title, 500)}">{grid}<line class="base" x1="0" x2="100%" y1="100%" y2="100%"/>'
        f'<svg viewBox="0 0 {_HEIGHT} {_HEIGHT}" preserveAspectRatio="none" width="100%" height="100%">{"".join(drawn)}</svg>'
        f"{levels}{marks}{veil}{times}</svg>"
    )


def _corners(
    bins: Sequence[Period], value: Callable[[Period], float], *, is_stepped: bool
) -> list[tuple[float, float]]:
    if not is_stepped:
        return [(0.0, 0.0), *((period.end, value(period)) for period in bins)]
    corners = []
    for period in bins:
        level = value(period)
        corners += [(period.start, level), (period.end, level)]
    return corners


def _round_up(most: float) -> float:
    """Return the top of an axis that reaches to `most`."""
    if most <= 0:
        return 1.0
    power = 10.0 ** ceil(log10(most / 10))
    return next((step * power for step in _STEPS if step * power >= most), 20 * power)  # a logarithm is rounded


def _short(value: float) -> str:
    """Return a value of an axis in a few characters: 250, 1.5k, 12M."""
    for size, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if name == 'k' else size):g}{name}"
    return f"{value:g}" if value < 1_000 else amount(round(value))
