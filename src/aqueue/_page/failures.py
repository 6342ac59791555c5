"""The view of the failures: by kind, each with its innermost line of the user's code, and when it happened."""

from typing import Final

from aqueue._page.commands import OnItems, exactly
from aqueue._page.failure_kinds import KindHistory, densest
from aqueue._page.frame import Parts, href
from aqueue._page.html import Html, counted, joined, lines, text
from aqueue._page.moment import Moment
from aqueue._page.pictures import falling_bars
from aqueue._page.verbs import on_items
from aqueue.figures import amount, local_minute, time_ago
from aqueue.result import FailureGroup
from aqueue.text import first_line, short_names
from aqueue.tracebacks import place, user_frames

__all__ = ["brief_kinds", "failures_layout", "failures_parts"]

_MAX_KINDS: Final = 40
_MAX_BRIEF: Final = 3
_MAX_FRAMES: Final = 3
_NUM_BARS: Final = 32
_TRACEBACK_MAX_CHARS: Final = 8_000
_TRACEBACKS_MAX_BYTES: Final = 600_000
"""How much of the page all tracebacks together may be, in UTF-8 and escaped."""

_BURST_BARS: Final = 3
_BURST_SHARE: Final = 0.6
_RECENT_S: Final = 120.0


def failures_layout(parts: Parts) -> Html:
    """Return the view, made of its parts."""
    return joined([parts["failed"], parts["list"]])


def failures_parts(run: Moment) -> Parts:
    """Return the parts of the view."""
    groups, count = run.kinds.groups(), run.view.counts.failed
    names = short_names(list(run.view.types))
    waiting = run.view.waiting
    retried = (
        f"{amount(waiting)}{' more' * (count > 0)} {'is' if waiting == 1 else 'are'} being retried" if waiting else ""
    )
    if not count:
        head = "No item has failed for good"
    elif run.read_share < 1:
        head = f"{counted(count, 'item')} failed for good"
    else:
        head = f"{counted(count, 'item')} failed for good, in {run.kinds.how_many}"
    title = f'<h2 id="failed" class="title">{head} <span class="quiet">{retried}</span></h2>'
    shown, room = [], _TRACEBACKS_MAX_BYTES
    for group, history in groups[:_MAX_KINDS] if count else []:
        traceback = lines(group.first.error.traceback, _TRACEBACK_MAX_CHARS)
        room -= len(traceback.encode())
        shown.append(_kind(run, group, history, names, traceback if room >= 0 else None))
    others = sum(group.count for group, _ in groups[:_MAX_KINDS])
    rest = (
        f'<p class="rest">and {counted(count - others, "failure")} of less frequent kinds</p>'
        if len(groups) > _MAX_KINDS
        else ""
    )
    return {"failed": Html(title), "list": Html(f'<div id="list" class="stack">{joined(shown)}{rest}</div>')}


def brief_kinds(run: Moment) -> Html:
    """Return the most numerous kinds in brief, for another view."""
    groups, count = run.kinds.groups(), run.view.counts.failed
    if not groups or not count:
        return Html('<section id="kinds" hidden></section>')
    names = short_names(list(run.view.types))
    cards = joined(_brief(run, group, history, names) for group, history in groups[:_MAX_BRIEF])
    return Html(
        f'<section id="kinds" aria-labelledby="kinds-title"><header class="title"><h2 id="kinds-title">Failures by kind</h2>'
        f'<span class="quiet">{counted(count, "item")} failed for good</span><a class="end" href="failures">All failures</a></header>'
        f'<div class="cards">{cards}</div></section>'
    )


def _heading(group: FailureGroup, names: dict[str, str]) -> Html:
    where = " in its hook" if group.phase == "after_children" else ""
    error = group.error.rpartition(":")[2]
    return Html(
        f'<h3><span class="bad">{amount(group.count)} ×</span> {text(names.get(group.type, group.type), 120)}{where}: '
        f'<span class="bad" title="{text(group.error, 200)}">{text(error, 120)}</span></h3>'
        f"<p>“{text(first_line(group.first.error.message), 300) or 'no message'}”</p>"
    )


def _brief(run: Moment, group: FailureGroup, history: KindHistory, names: dict[str, str]) -> Html:
    frames = user_frames(group.first.error.traceback)[-1:]
    bars = history.bars(run.elapsed_s, _NUM_BARS)
    code = "".join(
        f"<code class=code>{text(_short_place(place(frame)), 60)}  {text(frame.code, 120)}</code>" for frame in frames
    )
    return Html(
        f'<article class="card failure">{_heading(group, names)}{code}<div class="when">{falling_bars(bars)}'
        f'<span class="quiet">{text(_when(run, history, bars))}</span></div></article>'
    )


def _kind(
    run: Moment, group: FailureGroup, history: KindHistory, names: dict[str, str], traceback: Html | None
) -> Html:
    """Return a kind; a `traceback` of None is left out."""
    key = group.first.seq  # no two kinds have the same
    frames = user_frames(group.first.error.traceback)[-_MAX_FRAMES:]
    code = "".join(
        f"<li{' class=inner' if frame is frames[-1] else ''}><code>{text(frame.code, 200) or '…'}</code>"
        f"<small>{text(place(frame), 200)}</small></li>"
        for frame in frames
    )
    attempts = sorted({one.attempt for one, _ in history.latest} or {group.first.attempt})
    tries = f"{attempts[0]}" if len(attempts) == 1 else f"{attempts[0]} to {attempts[-1]}"
    facts = [
        ("First seen", local_minute(history.first_at, run.now)),
        ("Last seen", f"{local_minute(history.last_at, run.now)}, {time_ago(run.now - history.last_at)}"),
        ("Attempts of the latest", tries),
    ]
    shown = "".join(f"<div><dt>{title}</dt><dd>{text(fact)}</dd></div>" for title, fact in facts)
    latest = "".join(
        f'<li><b><a href="{href(run, "item", n=one.item)}">{amount(one.item)}</a></b>'
        f"<span>{text(said or first_line(one.error.message), 160)}</span><time>{local_minute(one.at, run.now)}</time></li>"
        for one, said in reversed(history.latest)
    )
    bars = history.bars(run.elapsed_s, _NUM_BARS)
    listed = f'<ol class="frames" tabindex="0" aria-label="Where it failed">{code}</ol>' if frames else ""
    whole = (
        f'<details><summary>Traceback of item {amount(group.first.item)}</summary><button type="button" class="copy" data-copy="tb-{key}" '
        f'hidden>Copy</button><pre tabindex="0" id="tb-{key}">{traceback}</pre></details>'
        if traceback
        else '<p class="quiet">The traceback is left out to keep this page small.</p>'
        if traceback is None
        else ""  # a person cancelled it
    )
    return Html(
        f'<article class="card failure wide" id="kind-{key}"><div>{_heading(group, names)}{listed}<dl class="facts">{shown}</dl>'
        f"{whole}{_verbs(run, group)}</div>"
        f'<div><p class="quiet">When, over the run; also of items retried since</p>{falling_bars(bars)}<p class="quiet">{text(_when(run, history, bars))}</p>'
        f'<p class="quiet latest">Latest</p><ol class="list">{latest}</ol><p><a href="{_items_of(run, group)}">{counted(group.count, "item")} of this kind</a></p></div></article>'
    )


def _items_of(run: Moment, group: FailureGroup) -> Html:
    """Return where the failed items of a kind are listed."""
    return href(run, "items", q=f'state:failed type:"{group.type}" error:"{group.error}"')


def _verbs(run: Moment, group: FailureGroup) -> Html:
    """Return what a person can do to the items of a kind; those that failed with the same error in their hooks are meant, too."""
    if not run.takes_commands:
        return Html("")
    same = [one for one, _ in run.kinds.groups() if (one.type, one.error) == (group.type, group.error)]
    number = amount(sum(one.count for one in same))
    request = OnItems(types=(group.type,), states=("failed",), error=exactly(group.error))
    return on_items(request, ["failed"], number, f"{number} failed items: {group.type}, {group.error}")


def _short_place(where: str) -> str:
    return where.partition(" in ")[0].rpartition("/")[2]


def _when(run: Moment, history: KindHistory, bars: list[int]) -> str:
    """Return in words when the failures of a kind happened; `bars` are those of its history."""
    total = sum(bars)
    if run.state.name == "running" and total > 1 and run.now - history.last_at < _RECENT_S:
        return f"since {local_minute(history.first_at, run.now)}, still happening"
    _, most = densest(bars, _BURST_BARS)
    if total > _NUM_BARS and most >= _BURST_SHARE * total:
        return f"{amount(most)} failures within a tenth of the run's time"
    if local_minute(history.first_at, run.now) == local_minute(history.last_at, run.now):
        return f"at {local_minute(history.last_at, run.now)}"
    return f"between {local_minute(history.first_at, run.now)} and {local_minute(history.last_at, run.now)}"
