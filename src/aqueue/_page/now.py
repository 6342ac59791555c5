"""The view of the present: what limits the run, its figures, and what its groups, types and workers do."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from aqueue._page.failures import brief_kinds
from aqueue._page.frame import Parts, href, state_of
from aqueue._page.html import Html, counted, joined, percent, text
from aqueue._page.moment import Moment
from aqueue._page.pictures import Line, bar, chart, icon, pips
from aqueue.events import Counts
from aqueue.figures import amount, duration, limit_words, local_minute, per_second, person, when_due
from aqueue.text import short_names
from aqueue.view import RunView, TypeView

__all__ = ["groups_table", "now_layout", "now_parts", "what_would_help"]

_MAX_GROUPS: Final = 12
_MAX_TYPES: Final = 40
_MAX_WORKERS: Final = 14
_MAX_RESERVED: Final = 6
"""For how many busy workers there is room also while fewer are."""

_MAX_BINS: Final = 150
_MIN_ESTIMATED_S: Final = 10.0
_MIN_SHARE: Final = 0.005
_MOST: Final = 0.5

_SHARES: Final = {
    "paused": "paused by a person",
    "limited": "held back by limits",
    "retrying": "waiting for retries",
    "empty": "discovery: the queue was empty",
    "busy": "all workers busy",
}
"""What a run's time is spent on, by the share's name, which is its class in the style sheet, too."""

_OVERLAPPING: Final = {"blocked": "your code blocked the event loop", "held_up": "waited for disk or reporters"}
"""Shares of the same time, which may be part of any of those above."""

_ADVICE: Final = (
    ("paused by", "Nothing starts until a person unpauses it, with aqueue unpause."),
    ("limited by your code", "More workers won't help. Await in the item, or move the work to a thread."),
    ("limited by discovery", "More workers won't help: the running items have to find more first."),
    ("held up by", "More workers won't help."),
    ("waiting for", "Nothing else is left to do until then."),
    ("all ", "They help unless the CPU is what is busy."),
    ("the only", "They help unless the CPU is what is busy."),
)
"""What would help, by the beginning of what `RunView.limited_by` says of anything but groups."""

_HELD_BACK: Final = re.compile(r"; [\d,]+ of [\d,]+ workers? idle$")
"""How what `RunView.limited_by` says of groups ends. It begins with a group's name, which may be any text."""

_GROUP_ADVICE: Final = (
    (re.compile(r" is paused by [^:]*: "), "Its items start once it is unpaused: aqueue unpause --group"),
    (re.compile(r" is paused, resumes "), "More workers won't help: the server has asked to slow down."),
    (re.compile(""), "More workers won't help. A higher limit would, if the server allows it."),
)


def now_layout(parts: Parts) -> Html:
    """Return the view, made of its parts."""
    column = joined([Html('<div class="column">'), parts["groups"], parts["types"], Html("</div>")])
    return joined([parts["why"], parts["figures"], column, parts["workers"], parts["charts"], parts["kinds"]])


def now_parts(run: Moment) -> Parts:
    """Return the parts of the view."""
    return {
        "why": _why(run),
        "figures": _figures(run),
        "groups": groups_table(run, "groups", "Groups", _MAX_GROUPS),
        "workers": _workers(run),
        "types": _types(run),
        "charts": _charts(run),
        "kinds": brief_kinds(run),
    }


# ---- what limits the run -------------------------------------------------------------------------------------------


def _why(run: Moment) -> Html:
    kind, sentence, advice = _sentence(run)
    is_running = run.state.name == "running"
    whole = run.view.shares(run.until, "run")
    minute = run.view.shares(run.now) if is_running else whole
    rows = [("Last minute", minute)] if is_running else []
    bars = "".join(
        f"<span>{title}</span>{bar([(name, getattr(of, name)) for name in _SHARES], 'shares')}"
        for title, of in [*rows, ("Whole run", whole)]
    )
    legend = "".join(
        f'<li><i class="key {name if name in _SHARES else "part"}"></i><span>{words}</span>{f"<b>{percent(getattr(minute, name), 1)}</b>" if is_running else ""}'
        f"<b>{percent(getattr(whole, name), 1)}</b></li>"
        for name, words in (_SHARES | _OVERLAPPING).items()
        if max(getattr(minute, name), getattr(whole, name)) >= _MIN_SHARE
    )
    has_time = whole.of_s > 0 and legend
    shown = (
        f'<div class="time"><div class="bars">{bars}</div><ul class="legend">{legend}</ul></div>' if has_time else ""
    )
    return Html(
        f'<section id="why" class="card why" aria-label="{kind}"><div><p class="kind">{kind}</p><h2>{text(sentence, 300)}</h2>'
        f'<p class="quiet">{text(advice, 300)}</p></div>{shown}</section>'
    )


def what_would_help(run: Moment) -> str:
    """Return whether more workers would make the run faster, or what would; empty if nothing is known."""
    return _sentence(run)[2]


def _num_busy(view: RunView) -> int:
    """Return how many of the present workers are busy; others may be running their last item."""
    return view.num_workers - view.num_idle


def _sentence(run: Moment) -> tuple[str, str, str]:
    """Return what is asked, the answer, and what would help."""
    view, state = run.view, state_of(run)
    counts = view.counts
    if run.state.name == "running":
        said = view.limited_by(run.now)
        if said:
            if _HELD_BACK.search(said):
                advice = next(words for pattern, words in _GROUP_ADVICE if pattern.search(said))
            else:
                advice = next((words for begin, words in _ADVICE if said.startswith(begin)), "")
            return "What limits this run", said[:1].upper() + said[1:], advice
        if state == "stopping":
            left = counted(len(view.running), "item")
            return "What happens now", f"Stopping: {left} still running", "No more items are started."
        if not view.types:
            return "What limits this run", "Nothing was enqueued so far", ""
        if not view.num_workers:
            return "What limits this run", "No worker is there", "Items start once a worker process has joined."
        busy = f"{amount(_num_busy(view))} of {counted(view.num_workers, 'worker')} busy"
        return "What limits this run", f"Nothing holds the run back: {busy}", ""
    if state == "unread":
        return "What happens now", "The journal can't be read: the figures are of the past", ""
    left = f"{counted(counts.outstanding, 'item')} outstanding" if counts.outstanding else "nothing is outstanding"
    if state == "gone":
        return "What happens now", f"Nothing runs: the process was killed or has crashed; {left}", ""
    if state == "silent":
        return "What happens now", f"Nothing was recorded for a while, and {left}", ""
    if state == "new":
        return "What happens now", "Nothing is recorded yet", ""
    share, words = max((getattr(view.shares(run.until, "run"), name), words) for name, words in _SHARES.items())
    mostly = ""
    if share >= _MIN_SHARE:
        mostly = (
            f"Most of the time: {words}, {percent(share, 1)}."
            if share > _MOST
            else f"Longest: {words}, {percent(share, 1)} of the time."
        )
    if state == "completed":
        found = counts.enqueued
        done = (
            f"All {amount(found)} items have completed"
            if found > 1
            else "The item has completed"
            if found
            else "There was no item"
        )
        return "What limited this run", done, mostly
    failed = f"{counted(counts.failed, 'item')} failed, " if counts.failed else ""
    return "What limited this run", f"The run has ended: {failed}{left}", mostly


# ---- figures -------------------------------------------------------------------------------------------------------


def _figures(run: Moment) -> Html:
    view, counts, now = run.view, run.view.counts, run.now
    is_running = run.state.name == "running"
    elapsed_s = run.elapsed_s
    found = max(counts.enqueued, 1)

    def pace(count: int, of: str) -> str:
        average = f"{per_second(count / elapsed_s if elapsed_s > 0 else 0.0)}/s average"
        rate = view.rate(now, "enqueued" if of == "enqueued" else "completed")
        return f"{per_second(rate)}/s now, {average}" if is_running else average

    share = percent(counts.completed, found)
    share = "99 %" if share == "100 %" and counts.completed < found else share
    share = f' <small class="in">{share}</small>'
    tiles = [
        ("Found", amount(counts.enqueued), pace(counts.enqueued, "enqueued")),
        ("Completed", Html(f"{amount(counts.completed)}{share}"), pace(counts.completed, "completed")),
        ("Failed", Html(f'<span class="bad">✗ {amount(counts.failed)}</span>') if counts.failed else "0",
         f"{run.kinds.how_many}, for good" if run.kinds.groups() else "for good"),
        ("Retrying", amount(view.waiting), _next_retry(run)),
        ("Outstanding", amount(counts.outstanding), _outstanding(run)),
        _remaining(run),
    ]  # fmt: skip
    if counts.skipped:
        tiles.insert(3, ("Skipped", amount(counts.skipped), "by a person"))
    shown = "".join(
        f"<div><dt>{title}</dt><dd>{text(figure)}</dd><dd class=more>{text(more)}</dd></div>"
        for title, figure, more in tiles
    )
    done = _done(counts, "progress")
    return Html(f'<section id="figures" class="card figures" aria-label="Figures">{done}<dl>{shown}</dl></section>')


def _outstanding(run: Moment) -> str:
    """Return what the outstanding items do. Items of which the hook runs or is retried have completed, and aren't among them."""
    view = run.view
    if run.state.name != "running":
        return ""
    running = sum(item.phase == "process" for item in view.running.values())
    retrying = view.counts.outstanding - view.queued - running
    return f"{amount(view.queued)} waiting, {amount(running)} running{f', {amount(retrying)} retrying' if retrying > 0 else ''}"


def _done(of: Counts | TypeView, css_class: str) -> Html:
    """Return a bar of what has ended of what was found."""
    states = {"done": of.completed, "skipped": of.skipped, "failed": of.failed}
    return bar([(name, number / max(of.enqueued, 1)) for name, number in states.items()], css_class)


def _next_retry(run: Moment) -> str:
    view = run.view
    if not view.waiting or run.state.name != "running":
        return f"{counted(view.counts.retried, 'attempt')} retried" if view.counts.retried else "none"
    return f"the next {when_due(view.next_due, run.now)}"


def _remaining(run: Moment) -> tuple[str, object, str]:
    """Return the tile with how much longer the run takes: a range, with what it assumes; or how long it took."""
    view, now = run.view, run.now
    outstanding = view.counts.outstanding
    if run.state.name != "running":
        return (
            "Took",
            duration(run.elapsed_s),
            "without the time between processes" if run.num_processes > 1 else "",
        )
    # Failures end items, too: so many of them end for each that completes.
    ended = outstanding and (view.counts.enqueued - outstanding) / max(view.counts.completed, 1)
    completing, finding = view.rate(now) * ended, view.rate(now, "enqueued")
    is_early = now - view.started_at < _MIN_ESTIMATED_S
    state = state_of(run)
    if state in ("paused", "stopping") or is_early or not outstanding or completing <= 0:
        why = (
            f"the run is {state}"
            if state in ("paused", "stopping")
            else "too early to tell"
            if is_early
            else "nothing completes now"
        )
        return "Remaining", "no estimate", why if outstanding else "nothing is outstanding"
    least = _about(outstanding / completing)
    if finding <= 0.05:
        return "Remaining", least, f"at {per_second(completing)}/s"
    if finding >= completing:
        return "Remaining", f"at least {least}", f"more is found ({per_second(finding)}/s) than completed"
    most = _about(outstanding / (completing - finding))
    span = least if least == most else f"{least} to {most}"
    return "Remaining", span, f"if finding stops now, or goes on at {per_second(finding)}/s"


def _about(seconds: float) -> str:
    """Return an estimate in whole seconds or coarser units."""
    return duration(float(round(seconds))) if seconds >= 59.5 else f"{max(round(seconds), 1)} s"


# ---- groups, types, workers ----------------------------------------------------------------------------------------


def groups_table(
    run: Moment, part: str, title: str, at_most: int, verbs: Callable[[Moment, str], Html] | None = None
) -> Html:
    """Return the table of the groups in which most items wait, with their limits.

    Parameters:
        run: the run.
        part: the name of this part.
        title: its title.
        at_most: how many groups it has; the others are counted.
        verbs: what returns the buttons of a group. Then they are in the order of their names: a row that moves is hard to hit.
    """
    view, now = run.view, run.now
    running = Counter(one.group for one in view.running.values() if one.group is not None)
    waiting = Counter(view.groups)
    if run.state.name != "running":  # what a process that is gone was running waits again
        waiting += running
        running.clear()
    slowed = {name for name, until in view.pauses.items() if until > now}
    set_by_people = {*view.in_force.limits, *view.in_force.paused_groups}
    names = {*waiting, *running, *slowed, *run.idle_groups, *view.limits, *set_by_people}
    if not names:
        return Html(f'<section id="{part}" hidden></section>')
    ranked = sorted(names, key=lambda name: (-waiting[name], -running[name], name))
    shown, order = (
        (ranked[:at_most], "most waiting first")
        if verbs is None
        else (sorted(ranked[:at_most]), "changes hold from the next start, and after a resume")
    )
    rows = "".join(
        _group(run, name, running[name], waiting[name], None if verbs is None else verbs(run, name)) for name in shown
    )
    more = len(ranked) - at_most
    rest = f'<p class="rest">and {counted(more, "more group")}</p>' if more > 0 else ""
    titles = "".join(f'<th scope="col">{column}</th>' for column in ("Group", "State", "Running", "Limit"))
    head = f'<tr>{titles}<th scope="col" class="n">Waiting</th>{"<td></td>" if verbs is not None else ""}</tr>'
    return Html(
        f'<section id="{part}" class="card" aria-labelledby="{part}-title"><header><h2 id="{part}-title">{title}</h2>'
        f'<span class="quiet">{order}</span></header><table class="records"><thead>{head}</thead>'
        f"<tbody>{rows}</tbody></table>{rest}</section>"
    )


def _group(run: Moment, name: str, running: int, waiting: int, verbs: Html | None) -> Html:
    view, now = run.view, run.now
    known = view.in_force.limits.get(name)
    limit = known or view.limits.get(name)
    words = limit_words(limit.concurrent, limit.per_second) or "none" if limit is not None else "–"
    by = f"<small>{text(person(known.by), 60)}, {local_minute(known.at, now)}</small>" if known is not None else ""
    most = limit.concurrent if limit is not None else None
    flight = f"{pips(running, most)} {amount(running)} of {amount(most)}" if most is not None else amount(running)
    until = view.pauses.get(name, 0.0)
    if (paused := view.in_force.paused_groups.get(name)) is not None:
        state = f'<span class="cut">{icon("pause")} paused by {text(person(paused.by), 60)}</span>'
    elif until > now and run.state.name == "running":
        state = f'<span class="warn">{icon("pause")} slowed down, resumes {when_due(until, now)}</span>'
    elif most is not None and running >= most and waiting:
        state = f'<span class="warn">{icon("gate")} at its limit</span>'
    elif running:
        state = f'<span class="run">{icon("run")} flowing</span>'
    else:
        state = f'<span class="quiet">{"waiting" if waiting else "idle"}</span>'
    last = "" if verbs is None else f'<td class="n">{verbs}</td>'
    return Html(
        f'<tr><th scope="row">{text(name, 120)}</th><td>{state}</td><td data-name="Running">{flight}</td>'
        f'<td data-name="Limit">{text(words)}{by}</td><td class="n" data-name="Waiting">{amount(waiting)}</td>{last}</tr>'
    )


def _types(run: Moment) -> Html:
    view = run.view
    names = short_names(list(view.types))
    is_running = run.state.name == "running"
    rates = {name: view.rate(run.now, type=name) for name in list(view.types)[:_MAX_TYPES]} if is_running else {}
    types = list(view.types.values())
    if not is_running:  # what a process that is gone was running waits again
        lost = Counter(one.type for one in view.running.values() if one.phase == "process")
        types = [replace(of, running=0, queued=of.queued + lost[of.type]) for of in types]
    rows = [_type_row(names[of.type], of, rates.get(of.type)) for of in types[:_MAX_TYPES]]
    if len(types) > 1:
        rows.append(_sum_row(types, view.rate(run.now) if is_running else None))
    more = len(view.types) - _MAX_TYPES
    rest = f'<p class="rest">and {counted(more, "more type")}</p>' if more > 0 else ""
    columns = ["Found", "Completed", "Failed", "Retrying", "Waiting", "Running", *(["Per s"] if is_running else [])]
    head = "".join(f'<th scope="col" class="n">{title}</th>' for title in columns)
    note = "per second: the last 10 s" if is_running else "per class of items"
    return Html(
        f'<section id="types" class="card types" aria-labelledby="types-title"><header><h2 id="types-title">Types</h2>'
        f'<span class="quiet">{note}</span></header><div class="scroll" tabindex="0" role="group" aria-labelledby="types-title">'
        f'<table><thead><tr><th scope="col">Type</th><td></td>{head}</tr></thead><tbody>{joined(rows)}</tbody></table></div>{rest}</section>'
    )


def _type_row(name: str, of: TypeView, rate: float | None, css_class: str = "") -> Html:
    done = _done(of, "meter")
    figures = [of.enqueued, of.completed, of.failed, of.waiting, of.queued, of.running]
    cells = "".join(
        f'<td class="n{" bad" if number and place == 2 else "" if number else " zero"}">{amount(number)}</td>'
        for place, number in enumerate(figures)
    )
    per = "" if rate is None else f'<td class="n{"" if rate else " zero"}">{per_second(rate)}</td>'
    return Html(f'<tr{css_class}><th scope="row">{text(name, 120)}</th><td>{done}</td>{cells}{per}</tr>')


def _sum_row(types: Iterable[TypeView], rate: float | None) -> Html:
    all_types = TypeView("")
    for name in ("enqueued", "completed", "failed", "skipped", "waiting", "queued", "running"):
        setattr(all_types, name, sum(getattr(of, name) for of in types))
    return _type_row("All", all_types, rate, ' class="sum"')


def _workers(run: Moment) -> Html:
    view = run.view
    if run.state.name != "running":
        return Html('<section id="workers" hidden></section>')
    names = short_names(list(view.types))
    longest = sorted(view.running.values(), key=lambda one: (one.started_at, one.worker))
    rows = "".join(
        f"<li><i>{one.worker}</i><b>{text(names.get(one.type, one.type), 60)}</b>"
        f'<span><small><a href="{href(run, "item", n=one.item)}">{amount(one.item)}</a></small>'
        f"{' <em>hook</em>' if one.phase == 'after_children' else ''} {text(one.text, 200)}"
        f"{f' <em>attempt {one.attempt}</em>' if one.attempt > 1 else ''}</span><time>{_age(run.now - one.started_at)}</time></li>"
        for one in longest[:_MAX_WORKERS]
    )
    more = len(longest) - _MAX_WORKERS
    rest = f'<p class="rest">and {counted(more, "busy worker")} with younger items</p>' if more > 0 else ""
    idle = view.num_idle
    busy = f"{amount(_num_busy(view))} of {amount(view.num_workers)} busy"
    why = view.limited_by(run.now) if idle else ""
    said = f"<b>{amount(idle)} idle.</b> {text(_idle_words(run, why), 200)}" if idle else "All are busy."
    # A line that came and went, and a card that grew and shrank with each item, would move all that is below.
    idle_line = f'<p class="idle{"" if idle else " quiet"}">{icon("gate" if idle else "run")}<span>{said}</span></p>'
    idle_line = idle_line if view.num_workers else ""
    room = min(view.num_workers, _MAX_RESERVED)
    return Html(
        f'<section id="workers" class="card" aria-labelledby="workers-title"><header><h2 id="workers-title">Workers</h2>'
        f'<span class="quiet">{busy}</span><span class="quiet end">oldest first</span></header><ol class="list rows-{room}">{rows}</ol>{rest}{idle_line}</section>'
    )


def _idle_words(run: Moment, why: str) -> str:
    if not run.view.queued:
        return "Nothing waits to be started."
    held_back = _HELD_BACK.search(why) or run.view.in_force.paused is not None
    return "All that waits is held back by a limit or a pause." if held_back else ""


def _age(seconds: float) -> str:
    return f"{max(seconds, 0.0):.1f} s" if seconds < 59.95 else duration(max(int(seconds), 60))


# ---- over time -----------------------------------------------------------------------------------------------------


def _charts(run: Moment) -> Html:
    fold = run.over_time
    if run.read_share < 1 or not fold.num_processes or fold.elapsed_s <= 0:
        return Html('<div id="charts" class="charts"></div>')
    latest = run.latest or run
    moment_s = None if run.latest is None else run.elapsed_s
    elapsed_s = max(fold.elapsed_s, latest.elapsed_s) if latest.state.name == "running" else fold.elapsed_s
    bins = fold.series.bins(elapsed_s, _MAX_BINS)
    gaps = [(at, "killed" if crashed else "stopped") for at, _, crashed in fold.gaps()]
    counts = run.view.counts
    average = counts.completed / run.elapsed_s if run.elapsed_s else 0.0
    lines: list[Line] = [("found", lambda period: period.enqueued), ("done", lambda period: period.done)]
    lines += [("failed", lambda period: period.failed)] if counts.failed else []
    lines += [("skipped", lambda period: period.skipped)] if counts.skipped else []
    throughput = chart(
        f"Items completed per second over the run: {per_second(average)} on average.",
        bins,
        [("done", lambda period: period.rate)],
        gaps,
        is_stepped=True,
        moment_s=moment_s,
    )
    total = chart(
        f"Items found and completed over the run: {amount(counts.enqueued)} found, {amount(counts.completed)} completed.",
        bins,
        lines,
        gaps,
        moment_s=moment_s,
    )
    legend = "".join(f'<li><i class="key {name}"></i>{_WORDS[name]}</li>' for name, _ in lines)
    return Html(
        '<div id="charts" class="charts"><figure class="card"><figcaption><h2>Throughput</h2>'
        f'<span class="quiet">items completed per second</span></figcaption>{throughput}</figure>'
        '<figure class="card"><figcaption><h2>Found and completed</h2><span class="quiet">the gap is what is left</span>'
        f'<ul class="legend end">{legend}</ul></figcaption>{total}</figure></div>'
    )


_WORDS: Final = {"found": "found", "done": "completed", "failed": "failed", "skipped": "skipped"}
