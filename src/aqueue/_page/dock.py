"""Time travel: a slider over the run's own time at the foot of each view, and what says that the past is shown."""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from aqueue._page.frame import Parts, hidden_fields, href
from aqueue._page.html import Html, clock, text
from aqueue._page.moment import Asked, Mark, Moment
from aqueue._page.pictures import icon
from aqueue._page.series import Period
from aqueue.figures import amount, duration, local_minute

__all__ = ["dock_parts"]

_NUM_BARS: Final = 80
_CHARS: Final = 130
"""How many characters of the labels of marks fit below the slider, about, on a wide screen."""

_MAX_LABEL_CHARS: Final = 24
_PRIORITY: Final = {"cross": 0, "pause": 1, "stop": 2, "hand": 3}
"""Which marks are labelled before others, by their icons."""


def dock_parts(run: Moment, asked: Asked) -> Parts:
    """Return the slider, and the banner over what is of the past."""
    return {"banner": _banner(run, asked), "dock": _dock(run, asked)}


def _banner(run: Moment, asked: Asked) -> Html:
    latest = run.latest
    if latest is None:
        return Html('<div id="banner" hidden></div>')
    ago = f"It was {duration(max(latest.now - run.now, 0.0))} ago." if latest.state.name == "running" else ""
    back = "Back to live" if latest.state.name == "running" else "Back to the end"
    return Html(
        f'<div id="banner" class="past"><p class="wrap">You are looking at <b>{_moment(run)}</b>, event <b>{amount(run.view.seq)}</b> of '
        f'{amount(latest.view.seq)}. {ago} <a class="button" id="live" data-keep href="{_there(run, asked, None)}">{back}</a></p></div>'
    )


def _moment(run: Moment) -> str:
    latest = run.latest or run
    return f"{clock(run.elapsed_s)} of {clock(latest.elapsed_s)} ({local_minute(run.now, latest.now)})"


def _there(run: Moment, asked: Asked, at: int | None) -> Html:
    """Return the same view at another moment."""
    return href(run, asked.view, at=at, **asked.parameters)


def _dock(run: Moment, asked: Asked) -> Html:
    latest = run.latest or run
    fold, total_s = latest.over_time, latest.elapsed_s
    if latest.items is None or latest.read_share < 1 or total_s <= 0 or not fold.num_processes:
        return Html('<form id="dock" hidden></form>')
    is_past = run.latest is not None
    word = "Live" if latest.state.name == "running" else "End"
    head = f"{icon('back')} {clock(run.elapsed_s)}" if is_past else f"{word}, {clock(total_s)}"
    bars = _throughput(fold.series.bins(total_s, _NUM_BARS), total_s)
    seq = run.view.seq
    before = max((mark.seq for mark in latest.marks if mark.seq < seq), default=None)
    after = min((mark.seq for mark in latest.marks if mark.seq > seq), default=None) if is_past else None
    steps = [
        (before, "previous", "Previous mark", "["),
        (max(seq - 1, 1), "earlier", "Previous event", ","),
        (seq + 1 if seq < latest.view.seq else None, "later", "Next event", "."),
        (after, "next", "Next mark", "]"),
    ]
    links = "".join(
        f'<a class="button" data-keep id="{name}" href="{_there(run, asked, at)}" title="{title} ({key})" aria-label="{title}">{icon(name)}</a>'
        if at is not None and at != seq
        else f'<a class="button off" id="{name}" role="link" aria-disabled="true" aria-label="{title}">{icon(name)}</a>'
        for at, name, title, key in steps
    )
    where = "./" if asked.view == "now" else asked.view
    return Html(
        f'<form id="dock" class="dock{" past" if is_past else ""}" action="{where}" aria-label="Time travel"><div class="wrap">'
        f'<p><b id="clock">{head}</b><small>event {amount(seq)}</small></p><div class="track">{bars}'
        f'<input type="range" id="time" name="t" min="0" max="{total_s:.3f}" step="any" value="{min(run.elapsed_s, total_s):.3f}" '
        f'aria-label="Moment of the run" aria-valuetext="{clock(run.elapsed_s)}, event {amount(seq)}">{_marks(run, asked, latest.marks, total_s)}</div>'
        f'{hidden_fields(replace(asked, start=None).parameters)}<span class="steps">{links}</span><noscript><button type="submit">Show</button></noscript></div></form>'
    )


def _throughput(bins: Sequence[Period], total_s: float) -> Html:
    """Return bars as high as items completed per second, each as wide as its period: the last one may be long."""
    top = max((period.rate for period in bins), default=0.0) or 1.0
    bars = "".join(
        f'<rect x="{period.start / total_s * 100:.2f}%" width="{(period.end - period.start) / total_s * 85:.2f}%" '
        f'y="{100 - period.rate / top * 100:.1f}%" height="{period.rate / top * 100:.1f}%"/>'
        for period in bins
        if period.rate
    )
    return Html(f'<svg class="burst" aria-hidden="true">{bars}</svg>')


def _marks(run: Moment, asked: Asked, marks: Sequence[Mark], total_s: float) -> Html:
    """Return a tick per mark, with a label if there is room for it."""
    drawn, labels = [], _labels(marks, total_s)
    for mark in marks:
        x = min(mark.elapsed_s / total_s, 1.0) * 100
        label = ""
        if mark in labels:
            anchor = "end" if x > 50 else "start"
            label = f'<text x="{x:.2f}%" y="20" text-anchor="{anchor}">{text(_label(mark), _MAX_LABEL_CHARS)}</text>'
        title = text(f"{mark.words}, {clock(mark.elapsed_s)}", 150)
        drawn.append(
            f'<a href="{_there(run, asked, mark.seq)}" data-keep aria-label="{title}"><title>{title}</title>'
            f'<rect class="{mark.sign}" x="{x:.2f}%" width="3" height="8"/>{label}</a>'
        )
    return Html(f'<svg class="marks">{"".join(drawn)}</svg>')


def _label(mark: Mark) -> str:
    return mark.words.partition(" by ")[0]


def _labels(marks: Sequence[Mark], total_s: float) -> set[Mark]:
    """Return the marks for whose labels there is room: what went wrong comes first, then what people did."""
    taken: list[tuple[float, float]] = []
    labels = set()
    for mark in sorted(marks, key=lambda one: (_PRIORITY.get(one.sign, len(_PRIORITY)), one.seq)):
        x = min(mark.elapsed_s / total_s, 1.0)
        width = (min(len(_label(mark)), _MAX_LABEL_CHARS) + 2) / _CHARS
        begin, end = (x - width, x) if x > 0.5 else (x, x + width)
        if all(end <= first or begin >= last for first, last in taken):
            taken.append((begin, end))
            labels.add(mark)
    return labels
