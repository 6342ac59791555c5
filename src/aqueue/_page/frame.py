"""What all views have around them: the name and state of the run, the tabs, and what a reader must know first."""

import time
from collections.abc import Mapping
from importlib.resources import files
from string import Template
from typing import Final
from urllib.parse import urlencode

from aqueue._folds.outcome import num_cancelled
from aqueue._history.record import resume_hint
from aqueue._page.commands import Pause
from aqueue._page.html import Html, counted, joined, text
from aqueue._page.moment import Asked, Moment
from aqueue._page.pictures import icon
from aqueue._page.verbs import verb
from aqueue.figures import amount, duration, local_minute, person

__all__ = [
    "VIEWS",
    "Parts",
    "document",
    "frame_parts",
    "hidden_fields",
    "href",
    "pause_button",
    "shown_views",
    "state_of",
    "whole_page",
    "zone",
]

Parts = dict[str, Html]
"""Elements of a page by their ids. The difference between two moments is a set of such elements."""

VIEWS: Final = {"now": "Now", "failures": "Failures", "items": "Items", "item": "Item", "control": "Control"}
"""The views, by their place in the address, and their titles."""

_CONTROL: Final = frozenset({"control"})
"""The views of a page from which the run can be steered."""

_MAX_ADDRESS_CHARS: Final = 8_000

_STATES: Final = {
    "running": ("run", "run", "Running"),
    "paused": ("cut", "pause", "Paused"),
    "stopping": ("cut", "stop", "Stopping"),
    "completed": ("good", "check", "Completed"),
    "failed": ("bad", "cross", "Failed"),
    "interrupted": ("cut", "stop", "Interrupted"),
    "gone": ("bad", "cross", "Process gone"),
    "unread": ("bad", "cross", "Can't be read"),
    "silent": ("cut", "stop", "No sign of life"),
    "new": ("cut", "pause", "Not begun"),
}
"""By state: its color, its icon, its word."""


def href(run: Moment, view: str, **parameters: object) -> Html:
    """Return the address of a view, at the same moment of the past if `run` is one; parameters that are empty or None are left out."""
    given = {"at": run.at} | parameters
    query = urlencode({name: value for name, value in given.items() if value not in ("", None)}, errors="replace")
    return text(f"{'./' if view == 'now' else view}{f'?{query}' if query else ''}", _MAX_ADDRESS_CHARS)


def hidden_fields(parameters: Mapping[str, object]) -> Html:
    """Return what a form adds to the address to which it leads, besides what a person enters; without empty values."""
    return Html(
        "".join(
            f'<input type="hidden" name="{name}" value="{text(value)}">' for name, value in parameters.items() if value
        )
    )


def state_of(run: Moment) -> str:
    """Return what the run is doing, in a word: one of those of `RunState.name`, or another of `_STATES`.

    ``silent`` is a run on another machine, which can't be looked at, and which has recorded nothing for a while.
    """
    if run.error:
        return "unread"
    name = run.state.name
    if run.view.state == "new":
        return "new"
    if name == "interrupted" and run.view.state != "finished":
        return "silent" if run.state.liveness == "elsewhere" else "gone"
    if name == "running" and run.view.state == "stopping":
        return "stopping"
    return "paused" if name == "running" and run.view.in_force.paused is not None else name


def shown_views(can_control: bool) -> list[str]:
    """Return the names of the views that a page has: `can_control` tells whether the run can be steered from it."""
    return [name for name in VIEWS if can_control or name not in _CONTROL]


def frame_parts(run: Moment, asked: Asked) -> Parts:
    """Return the parts around the view that is asked for."""
    return {
        "state": _state(run),
        "access": _access(run),
        "tabs": _tabs(run, asked),
        "notes": _notes(run),
        "said": _said(run),
    }


def document(name: str, asked: Asked, parts: Parts, main: Html) -> str:
    """Return the whole page as it is served.

    Parameters:
        name: the name of the journal.
        asked: what is shown.
        parts: those of the frame are used.
        main: the view itself.
    """
    title = f"{VIEWS[asked.view]} {amount(asked.n)}" if asked.view == "item" else VIEWS[asked.view]
    served = {
        "head": Html(
            '<link rel="stylesheet" href="static/page.css">\n<script type="module" src="static/page.js"></script>'
        ),
        "live": Html(
            '<label class="switch" id="follow" hidden><input type="checkbox" role="switch" checked>Live updates</label>\n'
            '<button type="button" class="plain" id="help" aria-label="Keys" hidden>?</button>'
        ),
        "notices": Html(
            '<p class="note bad" id="offline" hidden><b>This page has lost its server</b> and shows the run as it was at '
            '<span id="seen"></span>. <span id="lost"></span></p>\n<noscript><p class="note">Without JavaScript this page shows the '
            f"run as it was when it was loaded. Reload it to see what has changed. Times are in {zone()}.</p></noscript>"
        ),
        "end": Html(f'{_keys()}\n<p class="hidden" id="spoken" role="status"></p>'),
    }
    return whole_page(parts | served, main, name=name, view=asked.view, title=title)


_KEYS: Final = {
    "[ ]": "Previous or next mark of the slider",
    ", .": "Previous or next event",
    "L": "Back to the present",
    "/": "Filter of the items",
    "J K": "Next or previous item of a list",
    "X": "Select that item, if the run can be steered",
    "?": "This list",
}


def _keys() -> Html:
    """Return the dialog that names the keys of the page, and lets them be turned off."""
    rows = "".join(
        f"<dt>{joined(Html(f'<kbd>{text(key)}</kbd>') for key in keys.split())}</dt><dd>{text(does)}</dd>"
        for keys, does in _KEYS.items()
    )
    return Html(
        f'<dialog id="keys" aria-labelledby="keys-title"><form method="dialog"><h2 id="keys-title">Keys</h2><dl>{rows}</dl>'
        '<p><label class="switch"><input type="checkbox" role="switch" checked>Shortcuts of a single key</label></p>'
        '<footer><button type="submit" autofocus>Close</button></footer></form></dialog>'
    )


def whole_page(parts: Parts, main: Html, *, name: str, view: str, title: str) -> str:
    """Return a whole page. It names the time zone of this machine, in which all its times are, for browsers in another one.

    Parameters:
        parts: those of the frame are used; ``banner`` and ``dock``; ``head``, ``live``, ``notices`` and ``end``, by whether a server
            keeps the page up to date.
        main: the view itself.
        name: the name of the file with the run.
        view: for the page's script, which view it is.
        title: of the view.
    """
    template = Template((files("aqueue._page") / "static" / "page.html").read_text("utf-8"))
    shown = main if main.startswith("<main") else Html(f'<main id="main" class="wrap" tabindex="-1">{main}</main>')
    return template.substitute(
        parts | {"main": shown},
        name=text(name, 300),
        view=view,
        title=title,
        zone=zone(),
        offset_s=time.localtime().tm_gmtoff,
    )


def zone() -> str:
    """Return the time zone of this machine: ``UTC+01:00``."""
    offset = time.strftime("%z")
    return f"UTC{offset[:3]}:{offset[3:]}".removesuffix("+00:00")


def _state(run: Moment) -> Html:
    color, sign, word = _STATES[state_of(run)]
    return Html(
        f'<p id="state"><span class="pill {color}">{icon(sign)}{word}</span> <span class="quiet">{text(_since(run))}</span></p>'
    )


def _access(run: Moment) -> Html:
    can_control = (run.latest or run).can_control
    mark = " data-control" * can_control  # for the page's script
    if run.latest is not None or not can_control:
        words = "Read-only" if run.latest is None else "The past can't be changed"
        return Html(f'<p id="access" class="end"{mark}><span class="tag">{icon("lock")}{words}</span></p>')
    is_shown = run.state.name == "running" or run.view.in_force.paused is not None
    return Html(f'<p id="access" class="end"{mark}>{pause_button(run) if is_shown else ""}</p>')


def pause_button(run: Moment, of: str = "") -> Html:
    """Return the button that pauses the run, or unpauses it; nothing if it can't be read. `of` follows the verb."""
    if state_of(run) == "unread":
        return Html("")
    name = "pause" if run.view.in_force.paused is None else "unpause"
    return verb(name, Pause(), Html(f"{icon('pause' if name == 'pause' else 'run')} {name.capitalize()}{of}"))


def _since(run: Moment) -> str:
    view, state = run.view, state_of(run)
    resumed = run.num_processes - 1
    times = "" if resumed < 1 else ", resumed once" if resumed == 1 else f", resumed {amount(resumed)} times"
    if state == "unread":
        return f"as it was at {local_minute(view.at, run.now)}"
    if state == "new":
        return "nothing is recorded yet"
    took = duration(run.elapsed_s)
    if state == "paused" and (paused := view.in_force.paused) is not None:
        return f"since {local_minute(paused.at, run.now)} by {person(paused.by)}; the run has taken {took}{times}"
    if state == "stopping":
        return f"after {took}{times}{f'; {view.stop_reason}' if view.stop_reason else ''}"
    if state == "running":
        return f"for {took}{times}"
    ended = f"{'since' if state == 'silent' else 'at'} {local_minute(run.ended_at, run.now)}, after {took}{times}"
    return f"{ended}; {view.stop_reason}" if view.stop_reason else ended


def _tabs(run: Moment, asked: Asked) -> Html:
    counts = run.view.counts
    badges = {
        "failures": f' <b class="bad">✗ {amount(counts.failed)}</b>' if counts.failed else "",
        "items": f" <small>{amount(counts.enqueued)}</small>",
        "item": f" {amount(asked.n)}",
    }
    links = "".join(
        f'<a href="{href(run, name, n=asked.n if name == "item" else "")}"{" aria-current=page" * (name == asked.view)}>{VIEWS[name]}{badges.get(name, "")}</a>'
        for name in shown_views((run.latest or run).can_control)
        if name != "item" or asked.view == "item"
    )
    return Html(f'<nav id="tabs" class="tabs" aria-label="Views">{links}</nav>')


def _notes(run: Moment) -> Html:
    said: list[tuple[str, str, str]] = []
    counts = run.view.counts
    if run.error:
        said.append(("bad", "The journal can't be read.", f"{run.error}. If that lasts, start aqueue serve again."))
    elif (state := state_of(run)) in ("gone", "silent"):
        hint = resume_hint(run.history, counts)
        head = "The run's process is gone." if state == "gone" else "The run's process may be gone."
        kept = "Nothing in the journal is lost; " if run.history.is_journal else ""
        said.append(("bad", head, f"{run.state.why}. {_upper(kept + hint)}."))
    elif state in ("interrupted", "failed"):
        cancelled = num_cancelled(group for group, _ in run.kinds.groups())
        hint = resume_hint(run.history, counts, cancelled)
        said.append(
            ("warn", "The run isn't finished." if counts.outstanding else "Items have failed.", f"{_upper(hint)}.")
        )
    said += [
        ("warn", f"The reporter {failed.reporter} failed.", f"{failed.error.type}: {failed.error.message}")
        for failed in run.view.failed_reporters[:3]
    ]
    unread = [*map(_upper, run.history.caveats()), run.history.skipped_lines()]  # which begins with the file's name
    said += [("warn", "Not all could be read.", f"{words}.") for words in unread if words]
    if run.read_share < 1 and not run.error:
        read = f"{run.read_share * 100:.0f} % of {counted(run.view.seq, 'event')} are read: "
        said.append(("", "Reading what happened so far.", read + "charts and failures are complete once all are."))
    notes = "".join(f'<p class="note {color}"><b>{text(head)}</b> {text(rest)}</p>' for color, head, rest in said)
    return Html(f'<div id="notes">{notes}</div>')


def _upper(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _said(run: Moment) -> Html:
    """Return what a screen reader announces when it changes: never a figure that always does."""
    failures = f". {run.kinds.how_many} of failures" if run.kinds.groups() and run.read_share == 1 else ""
    return Html(f'<p id="said" hidden>{_STATES[state_of(run)][2]}{failures}.</p>')
