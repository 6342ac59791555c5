"""The view of one item: where it comes from, what happened to it, its children, its result and what the journal holds of it."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

import msgspec

from aqueue._folds.item_table import State
from aqueue._history.event_words import Part, StyleName
from aqueue._history.story import Act, Chapter, Story, WaitReason, acts_of, words_of
from aqueue._page.commands import OnItems
from aqueue._page.frame import Parts, href
from aqueue._page.html import Html, counted, joined, lines, text
from aqueue._page.item_query import ListedItem
from aqueue._page.items import index_note, state_in, state_mark
from aqueue._page.moment import Asked, Moment
from aqueue._page.pictures import icon
from aqueue._page.verbs import on_items
from aqueue.events import (
    ErrorInfo,
    Event,
    ItemAdopted,
    ItemChildrenProcessed,
    ItemCompleted,
    ItemEnqueued,
    ItemReopened,
    ItemSkipped,
    ItemStarted,
)
from aqueue.figures import amount, duration, limit_words, local_second
from aqueue.text import short_names
from aqueue.tracebacks import place, user_frames

__all__ = ["item_layout", "item_parts"]

_MAX_ACTS: Final = 40
_MAX_CHAPTERS: Final = 400
_MAX_STEPS: Final = 6
_MAX_NODES: Final = 300
"""How many values of a result or a payload are shown."""

_MAX_DEPTH: Final = 12
_MAX_VALUE_CHARS: Final = 2_000
_MAX_DECODED_BYTES: Final = 1_000_000
_TRACEBACK_MAX_CHARS: Final = 8_000

_COLORS: Final[dict[StyleName, str]] = {
    "plain": "", "dim": "quiet", "bold": "strong", "good": "good", "busy": "run", "warning": "warn", "error": "bad",
}  # fmt: skip

_WAITS: Final[dict[WaitReason, str]] = {
    "queue": "in the queue",
    "retry": "to retry",
    "paused": "paused",
    "no_process": "while no process ran",
}


def item_layout(parts: Parts) -> Html:
    """Return the view, made of its parts."""
    return parts["item"]


def item_parts(run: Moment, asked: Asked) -> Parts:
    """Return the part of the view: one, since all of it is about one item."""
    return {"item": Html(f'<div id="item" class="one">{_item(run, asked.n)}</div>')}


def _item(run: Moment, number: int) -> Html:
    if run.items is None:
        return index_note(run)
    row = run.items.item(number)
    if row is None or number > run.view.counts.enqueued:
        there_are = f"there are {counted(run.view.counts.enqueued, 'item')}"
        when = " at this moment" if run.at is not None else ""
        return Html(
            f'{index_note(run)}<p class="card nothing">No item has the number {amount(number)}; {there_are}{when}.</p>'
        )
    events = run.items.events_of(number, run.at)
    story = Story(number)
    story.apply(events)
    left_out = run.items.num_events(number, run.at) - sum(getattr(event, "item", 0) == number for event in events)
    story.left_out += left_out
    is_running = run.state.name == "running"
    lost_at = None if is_running or run.view.state == "finished" else run.view.at
    chapters = list(story.chapters(lost_at, run.now if is_running else None, run.view.in_force))
    acts = acts_of(chapters, run.until)
    state = _state(run, row, number)
    names = short_names(list(run.view.types))
    left = [
        _steps(run, row, acts, state),
        _attempts(run, acts, are_all=not story.left_out),
        _history(chapters, story, run.now),
    ]
    right = [_children(run, row), _result(events, number), _attributes(events, number)]
    return joined(
        [index_note(run), _head(run, row, names, state), _waited(run, story), *left[:1],
         Html('<div class="column">'), *left[1:], Html('</div><div class="column">'), *right, Html("</div>")]
    )  # fmt: skip


def _state(run: Moment, row: ListedItem, number: int) -> State:
    """Return the state of the item at the moment."""
    assert run.items is not None
    return state_in(run, run.items.state_at(number, run.at) if run.at is not None else row.state)


def _head(run: Moment, row: ListedItem, names: dict[str, str], state: State) -> Html:
    assert run.items is not None
    steps = [
        f'<li><a href="{href(run, "item", n=one.item)}">{text(names.get(one.type, one.type), 60)} {amount(one.item)}</a> '
        f'<span class="quiet">{text(one.description or one.key or "", 40)}</span></li>'
        for one in run.items.path_to(row.item)
    ]
    name = f"{text(names.get(row.type, row.type), 100)} {amount(row.item)}"
    label = row.description or row.key
    if label and row.description and run.at is not None and (row.described_seq or 0) > run.at:
        label = row.key
    key = f'<p class="quiet">key <code>{text(row.key, 500)}</code></p>' if row.key and row.key != label else ""
    group = f'<p class="quiet">group {text(row.group, 200)}</p>' if row.group else ""
    path = f'<ol class="path" aria-label="Where it comes from">{"".join(steps)}<li>{name}</li></ol>' if steps else ""
    verbs = ""
    if run.takes_commands:
        verbs = on_items(OnItems(items=(row.item,)), [state], "", f"item {row.item}")
    return Html(
        f'<header class="wide-title">{path}<h2>{name}{": " if label else ""}{text(label or "", 300)} {state_mark(state)}</h2>{key}{group}{verbs}</header>'
    )


def _waited(run: Moment, story: Story) -> Html:
    """Return how long it waited for what, and how long it ran."""
    limit = run.view.limits.get(story.group) if story.group is not None else None
    of_limit = f" ({limit.group}: {limit_words(limit.concurrent, limit.per_second)})" if limit is not None else ""
    said = [
        f"{duration(waited_s)} {_WAITS[reason]}{of_limit if reason == 'queue' else ''}"
        for reason, waited_s in story.waits_s.items()
        if waited_s >= 0.001
    ]
    if (not said and not story.work_s) or story.left_out:  # the time of what is left out is missing in these
        return Html("")
    ran = f"ran for {duration(story.work_s)}" if story.work_s else "has not run"
    waited = f", waited {', '.join(said)}" if said else ""
    return Html(f'<p class="quiet wide-title">It {text(ran + waited, 500)}.</p>')


# ---- what happened to it -------------------------------------------------------------------------------------------


def _steps(run: Moment, row: ListedItem, acts: Sequence[Act], state: State) -> Html:
    """Return a line of what happened in order: when it was enqueued, each attempt, and what it waits for now."""
    steps = [
        (
            "good",
            "check",
            "Enqueued",
            row.enqueued_at,
            f"by item {amount(row.parent)}" if row.parent else "as an initial item",
        )
    ]
    for act in acts:
        color, sign = _SIGNS.get(act.what[0][0], ("quiet", "wait"))
        title = act.number and (act.number.capitalize() if act.number.startswith("hook") else f"Attempt {act.number}")
        said = "".join(part for _, part in act.what)
        steps.append((color, sign, title or act.what[0][1].capitalize(), act.at, said if title else ""))
    if state in ("queued", "retrying"):
        steps.append(("warn" if state == "retrying" else "quiet", "again" if state == "retrying" else "wait",
                      "Waiting" if state == "queued" else "Retrying", run.now, "now"))  # fmt: skip
    half = _MAX_STEPS // 2
    shown = steps if len(steps) <= _MAX_STEPS else [*steps[:half], *steps[-half:]]
    drawn = []
    for place_, (color, sign, title, at, said) in enumerate(shown):
        if place_ == half and len(steps) > len(shown):
            drawn.append(f'<li class="more">… {amount(len(steps) - len(shown))} more</li>')
        gap_s = at - shown[place_ - 1][3] if place_ else 0.0
        gap = f'<small class="gap">{duration(gap_s)}</small>' if place_ and gap_s >= 0.001 else ""
        when = "" if said == "now" else f"<small>{local_second(at, run.now)}</small>"
        drawn.append(
            f'<li>{gap}<span class="dot {color}">{icon(sign)}</span><b>{text(title, 60)}</b>{when}<small>{text(said, 80)}</small></li>'
        )
    return Html(f'<ol class="card steps" aria-label="What happened">{"".join(drawn)}</ol>')


_SIGNS: Final[dict[StyleName, tuple[str, str]]] = {
    "good": ("good", "check"),
    "busy": ("run", "run"),
    "warning": ("warn", "again"),
    "error": ("bad", "cross"),
}


def _attempts(run: Moment, acts: Sequence[Act], *, are_all: bool) -> Html:
    shown = list(islice(reversed(acts), _MAX_ACTS))
    if not shown:
        return Html("")
    rows = []
    for act in shown:
        error = ""
        if act.error is not None:
            where = _place(act.error)
            kind = act.error.type.rpartition(":")[2]
            error = f"<small>{text(kind, 100)}: {text(act.error.message, 300)}</small>{f'<small><code>{text(where, 200)}</code></small>' if where else ''}"
        rows.append(
            f'<tr><td class="n">{text(act.number, 20)}</td><td>{_styled(act.what)}{error}</td>'
            f'<td class="n" data-name="At">{local_second(act.at, run.now)}</td></tr>'
        )
    more = len(acts) - len(shown)
    rest = f'<p class="rest">and {amount(more) if are_all else "more"} earlier</p>' if more else ""
    return Html(
        '<section class="card" aria-labelledby="attempts-title"><header><h2 id="attempts-title">Attempts</h2><span class="quiet">the last one first</span></header>'
        f'<table class="records attempts"><thead><tr><th scope="col" class="n">#</th><th scope="col">What happened</th><th scope="col" class="n">At</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>{rest}{_last_traceback(acts)}</section>"
    )


def _last_traceback(acts: Sequence[Act]) -> Html:
    error = next((act.error for act in reversed(acts) if act.error is not None), None)
    if error is None or not error.traceback:
        return Html("")
    return Html(
        '<details class="padded"><summary>Traceback of the last error</summary><button type="button" class="copy" data-copy="item-tb" hidden>Copy</button>'
        f'<pre tabindex="0" id="item-tb">{lines(error.traceback, _TRACEBACK_MAX_CHARS)}</pre></details>'
    )


def _place(error: ErrorInfo) -> str:
    frames = user_frames(error.traceback)
    return place(frames[-1]) if frames else ""


def _styled(parts: Iterable[Part]) -> Html:
    """Return what an event says, with its colors."""
    return joined(Html(f'<span class="{_COLORS[style]}">{text(part, 500)}</span>') for style, part in parts if part)


def _history(chapters: Sequence[Chapter], story: Story, now: float) -> Html:
    shown = chapters[-_MAX_CHAPTERS:]
    rows = "".join(
        f"<li><time>{local_second(chapter.at, now)}</time><span>{_styled(words_of(chapter))}</span></li>"
        for chapter in shown
    )
    left_out = story.left_out + len(chapters) - len(shown)
    more = (
        f'<p class="rest">{amount(left_out)} more events are left out; aqueue explain --history has them</p>'
        if left_out
        else ""
    )
    return Html(
        f'<details class="card padded"><summary>Every event</summary><ol class="list events">{rows}</ol>{more}</details>'
    )


# ---- children, result, attributes ----------------------------------------------------------------------------------


def _children(run: Moment, row: ListedItem) -> Html:
    assert run.items is not None
    children = run.items.children(row.item) if run.at is None else {}
    link = f'<a class="end" href="{href(run, "items", q=f"parent:{row.item}", order="oldest")}">in the list</a>'
    if run.at is None and not children:
        return Html(
            '<section class="card"><header><h2>Children</h2><span class="quiet">none so far</span></header></section>'
        )
    states = "".join(
        f"<li><span>{state_mark(state)}</span><b>{amount(count)}</b></li>" for state, count in children.items()
    )
    total = f'<span class="quiet">{amount(sum(children.values()))} found</span>' if children else ""
    return Html(
        f'<section class="card"><header><h2>Children</h2>{total}{link}</header><ul class="list counts">{states}</ul></section>'
    )


def _result(events: Sequence[Event], number: int) -> Html:
    """Return the result that holds at the moment."""
    result = b""
    for event in events:
        if getattr(event, "item", 0) != number:
            continue
        if isinstance(event, ItemStarted) and event.phase == "process":
            result = b""
        elif isinstance(event, ItemCompleted | ItemChildrenProcessed | ItemSkipped) and event.result:
            result = bytes(event.result)
        elif isinstance(event, ItemReopened) and event.rerun:
            result = b""
    return _data("Result", result, "none" if not result else f"{amount(len(result))} bytes")


def _attributes(events: Sequence[Event], number: int) -> Html:
    payload = b""
    for event in events:
        if isinstance(event, ItemEnqueued | ItemAdopted | ItemCompleted) and event.item == number and event.payload:
            payload = bytes(event.payload)
    return _data("Attributes", payload, "what the journal holds of it")


def _data(title: str, raw: bytes, note: str) -> Html:
    name = title.lower()
    head = f'<header><h2 id="{name}-title">{title}</h2><span class="quiet">{note}</span>'
    if not raw:
        return Html(f'<section class="card">{head}</header></section>') if title == "Result" else Html("")
    if len(raw) > _MAX_DECODED_BYTES:
        return Html(
            f'<section class="card">{head}</header><p class="nothing">It is too large to be shown here; aqueue results has it.</p></section>'
        )
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        return Html(f'<section class="card">{head}</header><p class="nothing">It can\'t be decoded.</p></section>')
    copy = f'<button type="button" class="copy end" data-copy="{name}-json" hidden>Copy JSON</button>'
    shown = text(raw.decode(errors="replace"), _MAX_DECODED_BYTES)
    return Html(
        f'<section class="card" aria-labelledby="{name}-title">{head}{copy}</header><div class="data">{_Tree().of(value)}</div>'
        f'<pre class="hidden" id="{name}-json">{shown}</pre></section>'
    )


class _Tree:
    """Shows a JSON value as nested lists, as far as there is room."""

    def __init__(self) -> None:
        self._left = _MAX_NODES

    def of(self, value: Any, depth: int = 0) -> Html:
        """Return `value` as HTML."""
        if not isinstance(value, dict | list) or not value:
            return Html(f"<code>{text(_written(value), _MAX_VALUE_CHARS)}</code>")
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        if depth == _MAX_DEPTH:
            return Html(f"<small>{counted(len(value), 'value')}</small>")
        shown: list[str] = []
        for name, one in entries:
            if self._left <= 0:
                shown.append(f"<li><small>… {amount(len(value) - len(shown))} more</small></li>")
                break
            self._left -= 1
            shown.append(f'<li><span class="run">{text(name, 200)}</span> {self.of(one, depth + 1)}</li>')
        return Html(f"<ul>{''.join(shown)}</ul>")


def _written(value: object) -> str:
    return msgspec.json.encode(value).decode()
