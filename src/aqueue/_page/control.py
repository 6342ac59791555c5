"""The view from which a person steers the run, and the dialogs that say what a command will do before it is given."""

from collections.abc import Sequence
from typing import Final

from aqueue._history.record import words_of_command
from aqueue._page.commands import MAX_NUMBER, OnItems, Pause, Preview, SetLimit, Stop
from aqueue._page.frame import Parts, href, pause_button, state_of
from aqueue._page.html import Html, counted, joined, text
from aqueue._page.moment import Moment
from aqueue._page.now import groups_table, what_would_help
from aqueue._page.past import what_was_done
from aqueue._page.pictures import icon
from aqueue._page.verbs import fields, verb
from aqueue._verbs import MAX_WORKERS, this_person
from aqueue.figures import amount, limit_words, local_second, person, when_due
from aqueue.text import short_names

__all__ = ["control_layout", "control_parts", "items_dialog", "limit_dialog", "stop_dialog"]

_MAX_GROUPS: Final = 100
_MAX_IN_FORCE: Final = 12
_MAX_TITLE_CHARS: Final = 160
_MAX_WORD_CHARS: Final = 1_000

_NO_PROCESS: Final = "No process runs the run: what is set here holds from its resume on."


def control_layout(parts: Parts) -> Html:
    """Return the view, made of its parts."""
    workers = joined(
        [
            Html('<section id="crew" class="card pad" aria-labelledby="crew-title">'),
            *(parts["crew-size"], parts["stepper"], parts["crew-advice"]),
            Html("</section>"),
        ]
    )
    return joined(
        [
            Html('<div id="cards" class="cards">'),
            parts["steer"],
            workers,
            parts["in-force"],
            Html("</div>"),
            parts["limits"],
            parts["people"],
        ]
    )


def control_parts(run: Moment) -> Parts:
    """Return the parts of the view."""
    return {
        "steer": _run(run),
        "crew-size": _crew_size(run),
        "stepper": _stepper(run),
        "crew-advice": Html(f'<p id="crew-advice" class="quiet">{text(what_would_help(run), 300)}</p>'),
        "in-force": _in_force(run),
        "limits": groups_table(run, "limits", "Limits", _MAX_GROUPS, None if _reason(run) else _group_verbs),
        "people": _people(run),
    }


def _reason(run: Moment) -> str:
    """Return why nothing can be set; empty if it can."""
    if not run.can_control:
        return "You are looking at the past, which can't be changed."
    state = state_of(run)
    if state == "unread":
        return "The journal can't be read, and nothing can be written into it."
    if state == "new":
        return "Nothing is recorded yet: a run can be steered once it has begun."
    return "The run is completed: nothing is left to start." if state == "completed" else ""


# ---- the cards -----------------------------------------------------------------------------------------------------


def _run(run: Moment) -> Html:
    state = state_of(run)
    finish = f"running items finish ({amount(len(run.view.running))} now)"
    buttons = []
    if said := _reason(run):
        pass
    elif run.state.name != "running":
        said = f"{_NO_PROCESS} There is nothing to stop."
        buttons = [pause_button(run, " run")]
    elif state == "stopping":
        said = f"The run is stopping: no more items are taken, and {finish}. What is set here holds from its resume on."
        buttons = [
            pause_button(run, " run"),
            verb("stop", Stop(now=True), _with_icon("stop", "Stop now…"), asks=True, css_class="bad"),
        ]
    else:
        said = (
            f"Nothing new starts until a person unpauses it; {finish}. A resumed run stays paused."
            if state == "paused"
            else f"After a pause nothing new starts; {finish}. A resumed run stays paused."
        )
        buttons = [
            pause_button(run, " run"),
            verb("stop", Stop(), _with_icon("stop", "Stop…"), asks=True, css_class="bad"),
        ]
    return Html(
        f'<section id="steer" class="card pad" aria-labelledby="steer-title"><h2 id="steer-title">Run</h2>'
        f'<p class="quiet">{text(said, 300)}</p><p class="verbs">{joined(buttons)}</p></section>'
    )


def _with_icon(name: str, words: str) -> Html:
    return Html(f"{icon(name)} {text(words)}")


def _crew_size(run: Moment) -> Html:
    view, changed = run.view, run.view.in_force.workers
    busy = ""
    if run.state.name == "running":
        busy = f"{amount(view.num_workers - view.num_idle)} busy, {amount(view.num_idle)} idle"
    if said := _reason(run):
        pass
    elif view.cluster:
        said = "The run is on a cluster: start or stop worker processes there."
    else:
        own = (
            "This is the program's number."
            if changed is None
            else f"The program's number is {amount(changed.program)}."
        )
        said = f"{own} With fewer, those with the highest numbers retire after their item."
    return Html(
        f'<div id="crew-size"><h2 id="crew-title">Workers <span class="quiet">{busy}</span></h2><p class="quiet">{text(said, 300)}</p></div>'
    )


def _stepper(run: Moment) -> Html:
    """Return the input for the number of workers; a part of its own, which changes only when that number does."""
    view, changed = run.view, run.view.in_force.workers
    number = view.num_workers if changed is None else changed.num_workers
    if view.cluster or _reason(run) or not number:
        return Html('<p id="stepper" hidden></p>')
    return Html(
        '<p id="stepper" class="verbs stepper"><button type="button" class="verb" data-step="-1" aria-label="One worker fewer">&minus;</button>'
        f'<input type="number" class="verb" min="1" max="{MAX_WORKERS}" step="1" required value="{number}" data-verb="workers" '
        'aria-label="Number of workers"/><button type="button" class="verb" data-step="1" aria-label="One worker more">+</button></p>'
    )


def _in_force(run: Moment) -> Html:
    view, now = run.view, run.now
    events = view.in_force.events
    lines = [("gate" if hasattr(event, "program") else "pause", words_of_command(event, now)) for event in events]
    slowed = sorted((until, name) for name, until in view.pauses.items() if until > now)
    if run.state.name == "running":
        lines += [
            ("pause", f"{name} slowed down by the server, resumes {when_due(until, now)}") for until, name in slowed
        ]
    shown = "".join(f"<li>{icon(sign)}<span>{text(words, 200)}</span></li>" for sign, words in lines[:_MAX_IN_FORCE])
    more = len(lines) - _MAX_IN_FORCE
    rest = f'<p class="quiet">and {amount(more)} more</p>' if more > 0 else ""
    nothing = '<p class="quiet">Nothing: the run goes by what its program says.</p>'
    listed = f'<ul class="effects">{shown}</ul>{rest}' if lines else nothing
    return Html(
        f'<section id="in-force" class="card pad" aria-labelledby="in-force-title"><h2 id="in-force-title">In force</h2>{listed}</section>'
    )


def _people(run: Moment) -> Html:
    """Return what people did to the run; each row leads to the moment after it."""
    if not run.commands:
        return Html('<section id="people" hidden></section>')
    rows = []
    for event in run.commands:
        by = str(getattr(event, "by", ""))
        rows.append(
            f'<tr><th scope="row">{local_second(event.at, run.now)}</th><td data-name="Who">{text(person(by), 100)}</td>'
            f'<td data-name="What">{text(what_was_done(event), 300)}</td><td data-name="From">{text(by.partition(" via ")[2], 40)}</td>'
            f'<td class="n" data-name="Event"><a href="{href(run, "now", at=event.seq)}">{amount(event.seq)}</a></td></tr>'
        )
    head = "".join(f'<th scope="col">{title}</th>' for title in ("When", "Who", "What", "From"))
    return Html(
        f'<section id="people" class="card" aria-labelledby="people-title"><header><h2 id="people-title">What people did to this run</h2>'
        f'<span class="quiet">the last first; each is an event in the journal</span></header><table class="records"><thead><tr>{head}'
        f'<th scope="col" class="n">Event</th></tr></thead><tbody>{"".join(rows)}</tbody></table></section>'
    )


def _group_verbs(run: Moment, group: str) -> Html:
    name = "pause" if group not in run.view.in_force.paused_groups else "unpause"
    title = f"{name.capitalize()} the group {group}"
    return joined(
        [
            verb(name, Pause(group=group), name.capitalize(), css_class="link", title=title),
            verb(
                "limit", SetLimit(group=group), "Edit…", asks=True, css_class="link", title=f"Edit the limit of {group}"
            ),
        ]
    )


# ---- dialogs -------------------------------------------------------------------------------------------------------


def stop_dialog(run: Moment, command: Sequence[str]) -> Html:
    """Return what is shown before the run is stopped; `command` are the words of the same command for the terminal."""
    now = verb("stop", Stop(now=True), "Stop now", css_class="bad")
    cancelled = (
        "cross",
        f"With Stop now, running items are cancelled ({amount(len(run.view.running))} now), and run again after the resume.",
    )
    if state_of(run) == "stopping":
        return _dialog("Stop the run now?", [cancelled], _terminal(command), [now])
    waiting = counted(run.view.queued + run.view.waiting, "waiting item")
    effects = [
        ("stop", f"No more items are taken: {waiting} are left for when the run is resumed."),
        ("run", "With Stop, running items finish first."),
        cancelled,
    ]
    return _dialog("Stop the run?", effects, _terminal(command), [now, verb("stop", Stop(), "Stop", css_class="main")])


def limit_dialog(run: Moment, group: str) -> Html:
    """Return the form for the limit of a group."""
    changed = run.view.in_force.limits.get(group)
    limit = changed or run.view.limits.get(group)
    concurrent = "" if limit is None or limit.concurrent is None else str(limit.concurrent)
    per_second = "" if limit is None or limit.per_second is None else f"{limit.per_second:g}"
    inputs = (
        f'<label>at once <input type="number" name="concurrent" value="{concurrent}" min="1" max="{MAX_NUMBER}" '
        f'step="1" placeholder="any"/></label><label>per second <input type="number" name="per_second" value="{per_second}" '
        'min="0.000001" step="any" placeholder="any"/></label>'
    )
    count = sum(one.group == group for one in run.view.running.values())
    holds = f"It holds from the next start, and after a resume. Running items count: {amount(count)} now."
    effects = [
        ("note", "Leave a field empty for any number."),
        ("gate", holds if run.state.name == "running" else _NO_PROCESS),
    ]
    if limit is None:
        effects.append(
            ("note", "If the program has a limit, it has held nothing back so far; what is set here replaces it.")
        )
    buttons = [Html('<button type="submit" class="main">Set limit</button>')]
    if changed is not None:
        own = changed.program
        words = "" if own is None else f": {limit_words(own.concurrent, own.per_second) or 'no limit'}"
        buttons.insert(0, verb("limit", SetLimit(group=group, is_default=True), f"Back to the program's{words}"))
    form = fields("limit", SetLimit(group=group))
    return _dialog(f"Limit of {group}", effects, Html(f'<p class="inputs">{inputs}</p>'), buttons, form)


def items_dialog(run: Moment, name: str, request: OnItems, preview: Preview, command: Sequence[str]) -> Html:
    """Return what is shown before a command on items is given.

    Parameters:
        run: the run.
        name: the verb: ``retry``, ``skip`` or ``cancel``.
        request: on which items.
        preview: what it would do now; it applies to at least one item.
        command: the words of the same command for the terminal.
    """
    count, failed = preview.count, run.view.counts.failed
    items = counted(count, "item")
    sign, words = _EFFECTS[name]
    effects = [(sign, words.format(items=items, s="s" if count == 1 else ""))]
    if name != "cancel" and preview.hooks:
        effects.append(
            ("hook", f"Once everything below has succeeded, {counted(preview.hooks, 'hook')} of ancestors will run.")
        )
    if name != "cancel" and request.states == ("failed",) and failed >= count:
        effects.append(("note", f"The number of failed items goes from {amount(failed)} to {amount(failed - count)}."))
    if preview.left_out:
        effects.append(("note", f"Not included: {preview.left_out}."))
    if not preview.is_live:
        effects.append(("pause", _NO_PROCESS))
    elif not request.items:
        effects.append(("note", "Items are selected again when you confirm; the answer says how many they were."))
    states = f"{request.states[0]} " if len(request.states) == 1 else ""
    types = list(short_names(preview.types).values())
    of = types[0] if len(types) == 1 else f"{len(types)} types"
    title = f"{name.capitalize()} {amount(count)} {states}{items.split()[1]} of {of}?"
    confirm = verb(name, request, f"{name.capitalize()} {items}", css_class="main")
    return _dialog(title, effects, _terminal(command), [confirm])


_EFFECTS: Final = {
    "retry": ("again", "{items} run{s} again, with fresh attempts; attempt numbers continue. Pauses and limits hold."),
    "skip": (
        "skip",
        "{items} count{s} as successful, without a result. What was enqueued runs; hooks of skipped items don't.",
    ),
    "cancel": ("cross", "{items} fail{s}, and stay{s} failed until retried. What is running is cancelled."),
}
"""What becomes of items, by the verb, with its icon."""


def _terminal(command: Sequence[str]) -> Html:
    words = Html(" ").join(f"<span>{text(word, _MAX_WORD_CHARS)}</span>" for word in command)
    return Html(
        '<p class="quiet">The same command for the terminal:</p><div class="command"><code id="ask-command" tabindex="0">'
        f'{words}</code><button type="button" class="copy" data-copy="ask-command">Copy</button></div>'
        f'<p class="quiet">Recorded as {text(person(this_person("page")), 200)}, from the page.</p>'
    )


def _dialog(
    title: str, effects: Sequence[tuple[str, str]], more: Html, buttons: Sequence[Html], form: Html | None = None
) -> Html:
    """Return what is in a dialog.

    Parameters:
        title: the question.
        effects: what will happen, each with an icon.
        more: what follows; in a form, what comes first.
        buttons: what stands beside Cancel, which has the focus at first unless there is a form.
        form: the attributes of the form that it is; None if it is none.
    """
    listed = "".join(f"<li>{icon(sign)}<span>{text(words, 300)}</span></li>" for sign, words in effects)
    list_ = Html(f'<ul class="effects">{listed}</ul>')
    tag, focus, parts = ("div", " autofocus", [list_, more]) if form is None else (f"form {form}", "", [more, list_])
    return Html(
        f'<{tag}><h2 id="ask-title">{text(title, _MAX_TITLE_CHARS)}</h2>{joined(parts)}'
        f'<footer><button type="button" class="close"{focus}>Cancel</button>{joined(buttons)}</footer></{tag.split()[0]}>'
    )
