"""Makes the text and tables of the page: the outcome of the run, its failures, its slowest items."""

from collections.abc import Iterable, Sequence
from typing import Final

from aqueue.cli._report._durations import SlowItem
from aqueue.cli._report._failed import FailureKind
from aqueue.cli._report._fold import Fold
from aqueue.cli._report._html import Html, joined, lines, rate, table, text, time
from aqueue.cli._report._processes import MAX_PROCESSES
from aqueue.events import Counts
from aqueue.figures import amount, duration
from aqueue.text import short_names
from aqueue.tracebacks import Frame, user_frames

__all__ = ["OUTCOMES", "failures", "headline", "notes", "slowest", "status", "summary"]

_MAX_TYPES: Final = 100
_MAX_KINDS: Final = 50
_MAX_FRAMES: Final = 8
_TRACEBACK_MAX_CHARS: Final = 12_000
_TRACEBACKS_MAX_BYTES: Final = 600_000
"""How much of the page all tracebacks together may be, in UTF-8 and escaped."""

# A sign next to each word and colour, so that neither is the only carrier.
_STATUSES: Final = {
    "completed": ("✓", "Completed"),
    "failed": ("✗", "Failed"),
    "interrupted": ("■", "Interrupted"),
    "running": ("▶", "Still running"),
    "crashed": ("⚡", "Crashed"),
    "unknown": ("?", "No end recorded"),
}
OUTCOMES: Final = {
    "completed": "completed",
    "failed": "failed",
    "retried": "failed, tried again",
    "interrupted": "cut short",
    "crashed": "cut short by a crash",
    "running": "still running",
    "unended": "no end recorded",
}


def status(fold: Fold) -> str:
    """Return how the run ended, as the page's style sheet calls it."""
    last = fold.processes.last
    return last.end if last is not None else "unknown"


def headline(fold: Fold) -> Html:
    """Return how the run ended, and in one sentence what it came to."""
    sign, word = _STATUSES[status(fold)]
    counts = fold.view.counts
    came_to = f"{amount(counts.completed)} of {amount(counts.enqueued)} items done in {duration(fold.elapsed_s)}"
    at_work = 0 if status(fold) == "crashed" else fold.unended
    parts = [(counts.failed, "failed"), (counts.outstanding, "outstanding"), (at_work, "at work")]
    rest = ", ".join(f"{amount(number)} {what}" for number, what in parts if number)
    came_to += f"; {rest}" if rest else ""
    badge = f'<strong class="badge {status(fold)}"><span aria-hidden="true">{sign}</span> {word}</strong>'
    return Html(f'<p class="headline">{badge} {text(came_to)}</p>')


def notes(fold: Fold, given: Sequence[str]) -> Html:
    """Return what a reader must know before the figures: the caller's notes, and why the run stopped."""
    said = list(given)
    if fold.view.stop_reason:
        said.append(f"It was stopped: {fold.view.stop_reason}")
    if status(fold) == "unknown":
        said.append("The log has no end of the run: it is still running, or crashed.")
    if fold.processes.dropped_gaps:
        said.append(
            f"Of the times between processes the {len(fold.processes.clock().gaps)} longest are drawn. Of the others, "
            f"{amount(fold.processes.dropped_gaps)} of {duration(fold.processes.dropped_s)} in all, nothing is seen."
        )
    said += [
        f"The reporter {failed.reporter} failed: {failed.error.type}: {failed.error.message[:300]}"
        for failed in fold.view.failed_reporters[:5]
    ]
    return Html(f'<ul class="notes">{_list(said)}</ul>') if said else Html("")


def summary(fold: Fold) -> Html:
    """Return the run's figures: tiles, facts, a table of types, and one of processes where there were several."""
    counts = fold.view.counts
    processes = fold.processes
    last = processes.last
    tiles = [
        ("Done", amount(counts.completed), f"of {amount(counts.enqueued)}"),
        ("Failed", amount(counts.failed), ""),
        ("Elapsed", duration(fold.elapsed_s), "without the time between processes" if processes.count > 1 else ""),
        ("Throughput", rate(counts.completed / fold.elapsed_s if fold.elapsed_s else 0.0), "items a second"),
        ("Outstanding", amount(counts.outstanding), ""),
        ("Retried", amount(counts.retried), "attempts"),
        ("Dropped as known", amount(counts.deduplicated), "items"),
        ("Processes", amount(processes.count), f"{amount(processes.crashed)} crashed" if processes.count > 1 else ""),
    ]
    shown = joined(
        _tile(title, figure, unit, is_bad=title == "Failed" and counts.failed > 0) for title, figure, unit in tiles
    )
    facts: list[tuple[str, object]] = []
    if last is not None:
        facts = [
            ("Started", time(processes.first[0].started_at)),
            ("Last event", time(fold.view.at)),
            ("Host", last.host),
            ("Workers", f"at most {amount(last.num_workers)}" if last.cluster else amount(last.num_workers)),
            *([("Cluster", last.cluster)] if last.cluster else []),
            ("Queue", fold.view.queue_type_name),
            ("aqueue", last.aqueue_version),
            ("Run", fold.view.run_id),
        ]
    known = joined(Html(f"<div><dt>{title}</dt><dd>{text(fact, 200)}</dd></div>") for title, fact in facts)
    return Html(f'<dl class="tiles">{shown}</dl>\n<dl class="facts">{known}</dl>\n{_types(fold)}\n{_processes(fold)}')


def _tile(title: str, figure: str, unit: str, *, is_bad: bool) -> Html:
    mark = ' class="bad"' if is_bad else ""
    return Html(f"<div{mark}><dt>{title}</dt><dd>{text(figure)} <small>{text(unit)}</small></dd></div>")


def _types(fold: Fold) -> Html:
    names = short_names(fold.view.types)
    ranked = sorted(fold.view.types.values(), key=lambda type: -type.enqueued)
    columns = ["Type", "Found", "Done", "Failed", "Outstanding", "Interrupted", "Retried", "Dropped as known"]
    rows: list[list[object]] = [_row(_type(names[type.type], type.type), type.counts) for type in ranked[:_MAX_TYPES]]
    if len(ranked) > 1:
        # The initial items that were known already have no type.
        rows.append(_row("All", fold.view.counts))
    more = len(ranked) - _MAX_TYPES
    remark = Html(f"<p>{amount(more)} types with fewer items are left out.</p>") if more > 0 else ""
    return joined([table("Items by type", columns, rows, range(1, len(columns))), remark])


def _row(title: str, c: Counts) -> list[object]:
    figures = (c.enqueued, c.completed, c.failed, c.outstanding, c.interrupted, c.retried, c.deduplicated)
    return [title, *(amount(number) if number else Html('<span class="none">0</span>') for number in figures)]


def _type(short: str, type: str) -> Html:
    """Return a type's short name, with its module in a smaller print where that says more."""
    module = f" <small>{text(type.rpartition(':')[0], 200)}</small>" if short != type else ""
    return Html(f"{text(short, 200)}{module}")


def _processes(fold: Fold) -> Html:
    processes = fold.processes
    if processes.count < 2:
        return Html("")
    rows = [
        (
            number,
            time(process.started_at),
            duration(process.ended_at - process.started_at),
            _STATUSES[process.end][1],
            amount(process.num_workers),
            text(process.host, 200),
            process.pid,
        )
        for number, process in enumerate(processes.first, 1)
    ]
    columns = ["Process", "Started", "Took", "Ended", "Workers", "Host", "PID"]
    more = processes.count - MAX_PROCESSES
    remark = Html(f"<p>{amount(more)} later processes are left out of the table.</p>") if more > 0 else ""
    return joined([table("Processes", columns, rows, (2, 4, 6)), remark])


def failures(fold: Fold) -> Html:
    """Return the failures by kind, each with an example, where the user's code was in it, and its traceback."""
    kinds = fold.failed.ranked()
    count = fold.failed.count
    if not count:
        return Html("<p>No item has failed for good.</p>")
    names = short_names(fold.view.types)
    room = _TRACEBACKS_MAX_BYTES
    shown = []
    for kind in kinds[:_MAX_KINDS]:
        traceback = lines(kind.example.error.traceback, _TRACEBACK_MAX_CHARS)
        room -= len(traceback.encode())
        shown.append(_failure(kind, names.get(kind.type, kind.type), traceback if room >= 0 else None))
    rest = count - sum(kind.count for kind in kinds[:_MAX_KINDS])
    more = f"<p>{amount(rest)} failures of other kinds, none of them more frequent, are left out.</p>" if rest else ""
    what = "item has" if count == 1 else "items have"
    kinds_said = f", in {amount(len(kinds))} kinds" if len(kinds) > 1 else ""
    return joined([Html(f"<p>{amount(count)} {what} failed for good{kinds_said}.</p>"), *shown, Html(more)])


def _failure(kind: FailureKind, name: str, traceback: Html | None) -> Html:
    example = kind.example
    error = example.error
    where = " in its hook" if kind.phase == "after_children" else ""
    tries = f", attempt {example.attempt}" if example.attempt > 1 else ""
    stale = " (it was run again since)" if kind.is_stale else ""
    label = "Item" if kind.count == 1 else "For example item"
    locations = _list(_location(frame) for frame in user_frames(error.traceback)[-_MAX_FRAMES:])
    if traceback is None:
        whole = "<p>Its traceback is left out, to keep this page small.</p>"
    else:
        whole = f'<details><summary>Whole traceback</summary><pre tabindex="0">{traceback}</pre></details>'
    listed = f'<ol class="frames">{locations}</ol>' if locations else ""
    return Html(
        f'<article class="failure"><h3><span class="count">{amount(kind.count)}&nbsp;×</span> '
        f'{text(name, 200)}{where}: <span class="error">{text(kind.error, 200)}</span></h3>\n'
        f"<p>{label} {example.item}{tries}{stale}: <q>{text(error.message, 600) or '(no message)'}</q></p>\n"
        f"{listed}{whole if traceback != '' else ''}</article>\n"
    )


def _location(frame: Frame) -> Html:
    file = frame.file if len(frame.file) <= 200 else f"…{frame.file[-199:]}"
    code = Html(f" <br><code>{text(frame.code, 300)}</code>") if frame.code else ""
    return Html(f"{text(f'{file}:{frame.line}', 400)} in {text(frame.function, 200)}{code}")


def slowest(fold: Fold) -> Html:
    """Return a table of the items with the longest attempts."""
    names = short_names(fold.types)
    rows = [_slow(item, names[fold.types[item.type]]) for item in fold.slowest.ranked()]
    columns = ["Item", "Type", "Took", "Attempt", "Outcome", "Description"]
    return table("Slowest items, each by its longest attempt", columns, rows, (0, 2))


def _slow(item: SlowItem, name: str) -> list[object]:
    attempt = f"{item.attempt}, hook" if item.is_hook else str(item.attempt)
    return [item.item, text(name, 100), duration(item.took_s), attempt, OUTCOMES[item.outcome], item.text]


def _list(entries: Iterable[object]) -> Html:
    return joined(Html(f"<li>{text(entry)}</li>") for entry in entries)
