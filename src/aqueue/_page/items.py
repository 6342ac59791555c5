"""The view of the items: those that match what a person has typed, a page of them at a time."""

from typing import Final

from aqueue._folds.item_table import State
from aqueue._page.commands import OnItems
from aqueue._page.frame import Parts, hidden_fields, href
from aqueue._page.html import Html, counted, joined, text
from aqueue._page.item_query import PAGE_ITEMS, Filter, ListedItem, Listing, Order, without_states
from aqueue._page.moment import Asked, Moment
from aqueue._page.pictures import icon
from aqueue._page.verbs import on_items
from aqueue.events import Event, ItemCompleted, ItemEnqueued, ItemFailed, ItemRetryScheduled
from aqueue.figures import amount, duration, local_minute
from aqueue.text import first_line, short_names

__all__ = ["index_note", "items_layout", "items_parts", "state_in", "state_mark"]

_STATE_SIGNS: Final[dict[State, tuple[str, str, str]]] = {
    "completed": ("good", "check", "completed"),
    "queued": ("quiet", "wait", "waiting"),
    "running": ("run", "run", "running"),
    "retrying": ("warn", "again", "retrying"),
    "failed": ("bad", "cross", "failed"),
    "interrupted": ("cut", "stop", "interrupted"),
    "skipped": ("good", "skip", "skipped"),
}
"""By state: its color, its icon, its word."""

_ORDERS: Final[dict[Order, str]] = {"newest": "newest first", "oldest": "oldest first", "slowest": "slowest first"}
_NOTABLE_LAG: Final = 30_000
"""From how many events on, about a second of a fast run, it is said how far the index is behind."""

_LATE_S: Final = 2.0
"""A full list stays where it is once the index lacks no more than the last few events, seconds."""

_FAILING: Final = ("failed", "retrying")
_LASTING: Final = frozenset({"completed", "failed", "skipped"})
"""The states in which items stay. A list of others can't stay where it is: soon none of its items would be left."""


def items_layout(parts: Parts) -> Html:
    """Return the view, made of its parts."""
    return joined([parts["filter"], parts["picked"], parts["listing"]])


def items_parts(run: Moment, asked: Asked) -> Parts:
    """Return the parts of the view."""
    wanted = Filter.of(asked.q)
    return {"filter": _filter(run, asked, wanted), "listing": _listing(run, asked, wanted), "picked": _picked(run)}


def state_mark(state: State) -> Html:
    """Return the state of an item in its color, with its icon."""
    color, sign, word = _STATE_SIGNS[state]
    return Html(f'<span class="{color} state">{icon(sign)} {word}</span>')


def state_in(run: Moment, state: State) -> State:
    """Return the state of an item that has `state` by the events: what runs in a process that is gone is interrupted."""
    return "interrupted" if state == "running" and run.state.name != "running" else state


def index_note(run: Moment) -> Html:
    """Return how far the index is, if it isn't at the moment that is shown."""
    if run.index_error:
        return Html(f'<p class="nothing bad">The index can\'t be filled: {text(run.index_error, 500)}</p>')
    if run.items is None:
        return Html('<p class="nothing">The items are being read.</p>')
    if run.view.seq - run.items.seq <= _NOTABLE_LAG:
        return Html("")
    share = run.items.seq / run.view.seq
    return Html(
        f'<p class="lag quiet">The index is at event {amount(run.items.seq)} of {amount(run.view.seq)} ({share * 100:.0f} %).</p>'
    )


# ---- the filter ----------------------------------------------------------------------------------------------------


def _filter(run: Moment, asked: Asked, wanted: Filter) -> Html:
    counts, view = run.view.counts, run.view
    is_running = run.state.name == "running"
    numbers: dict[State, int] = {
        # One whose hook runs has another state, though it counts as completed.
        "completed": counts.enqueued - view.queued - len(view.running) - view.waiting - counts.failed - counts.skipped,
        "queued": view.queued,
        "running": len(view.running) if is_running else 0,
        "retrying": view.waiting,
        "failed": counts.failed,
        "skipped": counts.skipped,
    }
    if run.items is not None:
        interrupted = run.items.num_interrupted(run.at)  # which wait as well, to be started again
        numbers["queued"] = max(view.queued - interrupted, 0)
        numbers["interrupted"] = interrupted + (0 if is_running else len(view.running))
    others = without_states(asked.q)
    chips = "".join(
        _chip(run, asked, state, number, others, is_on=state in wanted.states)
        for state, number in numbers.items()
        if number or state != "interrupted" or state in wanted.states
    )
    hidden = hidden_fields(Asked("items", order=asked.order).parameters | {"at": run.at})
    problems = "".join(f'<p class="warn">{text(problem, 300)}</p>' for problem in wanted.problems)
    of_now = [*wanted.asks_of_now, *["how long they took"] * (asked.order == "slowest")]
    if of_now and run.at is not None:
        said = ", ".join(of_now)
        problems += f'<p class="quiet">Compared with what the items have today, not at this moment: {said}.</p>'
    return Html(
        f'<form id="filter" class="filter" action="items" role="search"><div class="find">{icon("find")}'
        f'<input type="search" name="q" id="q" value="{text(asked.q, 500)}" maxlength="500" autocomplete="off" spellcheck="false" '
        'aria-label="Filter of the items" placeholder="type:Page state:failed error:HTTP* some text">'
        f'{hidden}<button type="submit">Find</button></div>'
        f'<div class="chips">{chips}<small class="end">also <code>group: key: parent: subtree: attempts:&gt;1</code></small></div>'
        f"{problems}</form>"
    )


def _chip(run: Moment, asked: Asked, state: State, number: int, others: str, *, is_on: bool) -> Html:
    color, sign, word = _STATE_SIGNS[state]
    q = others if is_on else f"state:{word} {others}".strip()  # behind a quote that is open it would be text
    current = ' aria-current="true"' if is_on else ""
    where = _link(run, q, asked.order)
    return Html(
        f'<a class="chip" href="{where}"{current}><span class="{color}">{icon(sign)}</span> {word} <b>{amount(number)}</b></a>'
    )


# ---- the list ------------------------------------------------------------------------------------------------------


def _listing(run: Moment, asked: Asked, wanted: Filter) -> Html:
    """Return the items that are found so far."""
    if run.items is None:
        return Html(f'<section id="listing" class="card">{index_note(run)}</section>')
    is_live = run.state.name == "running"
    found = run.items.listing(asked.q, asked.order, asked.start, run.at, run.view.counts.enqueued, is_live=is_live)
    is_all = wanted.is_empty
    verbs = _verbs(run, wanted)
    head = f"{counted(found.count, 'item')}{'' if is_all else ' match' if found.count != 1 else ' matches'}"
    of = "" if is_all else f"of {amount(run.view.counts.enqueued)}"
    if found.share < 1:
        of = f"so far: {found.share * 100:.0f} % of {amount(run.view.counts.enqueued)} are searched"
    lag = index_note(run)
    orders = "".join(
        f'<a href="{_link(run, asked.q, order)}"{" aria-current=true" * (order == asked.order)}>{words}</a>'
        for order, words in _ORDERS.items()
    )
    newer = ""
    if found.num_before and asked.order == "newest":
        newer = f'<a class="newer" href="{_link(run, asked.q, asked.order)}">{amount(found.num_before)} newer</a>'
    nothing = found.problem or ("No item matches." if not is_all else "Nothing is enqueued so far.")
    nothing = nothing if found.share >= 1 else "None so far."
    body = _table(run, found.rows) if found.rows else f'<p class="nothing">{text(nothing, 500)}</p>'
    is_complete = run.at is not None or run.view.at - run.items.at < _LATE_S  # else the newest may be of an hour ago
    stays = asked.order == "newest" and _LASTING.issuperset(wanted.states) and is_complete
    first = f' data-from="{found.rows[0].item}"' if stays and len(found.rows) == PAGE_ITEMS else ""
    return Html(
        f'<section id="listing" class="card" aria-labelledby="listing-title"{first}><header><h2 id="listing-title">{head}</h2>'
        f'<span class="quiet">{of}</span>{newer}<span class="orders end">{orders}</span></header>{verbs}{lag}{body}{_footer(run, asked, found)}</section>'
    )


def _verbs(run: Moment, wanted: Filter) -> Html:
    """Return what a person can do to all that match, if a command can name them."""
    is_plain = not (wanted.words or wanted.parents or wanted.attempts or wanted.problems or wanted.is_empty)
    is_single = max(map(len, (wanted.errors, wanted.keys, wanted.subtrees))) <= 1
    is_exact = set("".join(wanted.groups)).isdisjoint("*?[")
    if not (run.takes_commands and is_plain and is_single and is_exact):
        return Html("")
    request = OnItems(
        types=wanted.types,
        states=wanted.states,
        groups=wanted.groups,
        error=next(iter(wanted.errors), None),
        key=next(iter(wanted.keys), None),
        subtree=next(iter(wanted.subtrees), None),
    )
    return on_items(request, wanted.states or tuple(_STATE_SIGNS), "matching", "the items that match")


def _picked(run: Moment) -> Html:
    """Return what a person can do to the items whose boxes are ticked, which the page's script knows, on all pages of all lists."""
    if not run.takes_commands:
        return Html('<div id="picked" hidden></div>')
    return Html(
        f'<div id="picked" class="card" role="group" aria-label="Selected items" data-run="{text(run.view.run_id, 100)}" hidden>'
        f"<b></b>{on_items(OnItems(), _STATE_SIGNS, '', 'the selected items')}"
        '<button type="button" class="link end" id="unpick">Clear</button></div>'
    )


def _link(run: Moment, q: str, order: Order, start: int | None = None) -> Html:
    """Return where a list is, or the page of it that begins with the item of the number `start`."""
    return href(run, "items", **Asked("items", q=q, order=order, start=start).parameters)


def _footer(run: Moment, asked: Asked, found: Listing) -> Html:
    """Return the links to other pages; the slowest have none."""
    if not found.rows:
        return Html("")
    first, last = found.num_before + 1, found.num_before + len(found.rows)
    rows = (
        f"{amount(first)} to {amount(last)} of {amount(found.count)}"
        if found.share >= 1
        else f"{amount(len(found.rows))} items"
    )
    links = []
    if asked.order == "slowest":
        rows = f"the {amount(len(found.rows))} slowest"
    else:
        # By their ids, an update leaves each of them what it is: a click takes as long as two updates.
        if asked.start is not None and found.num_before:
            links.append(f'<a class="button" id="first-page" href="{_link(run, asked.q, asked.order)}">First</a>')
        if len(found.rows) == PAGE_ITEMS and (last < found.count or found.share < 1):
            step = -1 if asked.order == "newest" else 1
            links.append(
                f'<a class="button" id="next-page" rel="next" href="{_link(run, asked.q, asked.order, found.rows[-1].item + step)}">Next {PAGE_ITEMS}</a>'
            )
    return Html(f'<footer><span class="quiet">{rows}</span><span class="end">{"".join(links)}</span></footer>')


def _table(run: Moment, rows: list[ListedItem]) -> Html:
    assert run.items is not None
    names = short_names(list(run.view.types))
    past = run.items.last_events(rows)
    drawn = [_row(run, row, names, past.get(row.last_seq or 0)) for row in rows]
    columns = {
        "State": True, "Item": True, "Type": True, "Description": True,
        "Parent": any(row.parent for row in rows),
        "Group": any(row.group for row in rows),
        "Error": any(row.state in _FAILING for row in rows),
        "Attempts": any(row.attempts > 1 for row in rows),
        "Took": True, "Changed": True,
    }  # fmt: skip
    figures = ("Item", "Attempts", "Took", "Changed")
    head = "".join(
        f'<th scope="col"{" class=n" if name in figures else ""}>{name}</th>' for name, has in columns.items() if has
    )
    if run.takes_commands:
        head = head.replace(">State", f' abbr="State">{_box("all", "Select the items on this page")}State', 1)
    body = "".join(
        f'<tr id="row-{row.item}">'
        + "".join(
            f"<td{' class=n' if name in figures else ''}{f' data-name={name}' if name not in ('State', 'Item', 'Type') else ''}>{cells[name]}</td>"
            for name, has in columns.items()
            if has
        )
        + "</tr>"
        for row, cells in zip(rows, drawn, strict=True)
    )
    return Html(
        '<div class="scroll" tabindex="0" role="group" aria-labelledby="listing-title">'
        f'<table class="records items"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _box(value: str, label: str) -> Html:
    return Html(f'<input type="checkbox" class="verb" value="{value}" aria-label="{label}" autocomplete="off">')


def _row(run: Moment, row: ListedItem, names: dict[str, str], last: Event | None) -> dict[str, Html]:
    """Return the cells of an item, as the index has it, or as it was after the event `last`."""
    state, attempts, changed_at, took_s = row.state, row.attempts, row.changed_at, row.took_s
    error_type, error, description = row.error_type, row.error, row.description
    if last is not None:
        changed_at = last.at
        if isinstance(last, ItemEnqueued):
            attempts = 0
        elif getattr(last, "phase", "process") == "process":
            attempts = getattr(last, "attempt", attempts)
        took_s = last.duration_s if isinstance(last, ItemCompleted | ItemFailed) else None
        if isinstance(last, ItemFailed | ItemRetryScheduled):
            error_type, error = last.error.type, last.error.message
    if run.at is not None and (row.described_seq or 0) > run.at:
        description = None
    state = state_in(run, state)
    if state == "running":
        took_s = run.now - (changed_at if last is not None else row.started_at or changed_at)
    elif state in ("retrying", "interrupted") and row.started_at is not None and last is None:
        took_s = changed_at - row.started_at
    failure = ""
    if state in _FAILING and error_type:
        said = first_line(error or "")
        failure = f'<span class="bad" title="{text(said, 300)}">{text(error_type.rpartition(":")[2], 60)}</span>'
    parent = f'<a href="{href(run, "item", n=row.parent)}">{amount(row.parent)}</a> <small>{text(row.parent_label or "", 60)}</small>'
    has_started = attempts > 0 and took_s is not None
    box = _box(str(row.item), f"Select item {amount(row.item)}") if run.takes_commands else ""
    return {
        "State": Html(f"{box}{state_mark(state)}"),
        "Item": Html(f'<a href="{href(run, "item", n=row.item)}">{amount(row.item)}</a>'),
        "Type": text(names.get(row.type, row.type), 60),
        "Description": text(description or row.key or "", 160),
        "Parent": Html(parent if row.parent else ""),
        "Group": text(row.group or "", 60),
        "Error": Html(failure),
        "Attempts": Html(amount(attempts) if attempts else ""),
        "Took": Html(duration(max(took_s or 0.0, 0.0)) if has_started else ""),
        "Changed": Html(local_minute(changed_at, run.now)),
    }
