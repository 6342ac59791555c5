"""The text and tables of the page: the outcome of the run, its failures, its slowest items."""

from collections.abc import Iterable, Sequence
from heapq import nlargest
from typing import Final

from aqueue._history.record import Record
from aqueue._page.html import Html, counted, joined, lines, percent, rate, table, text, time
from aqueue._page.over_time import Fold
from aqueue.cli import _lists
from aqueue.events import Counts
from aqueue.figures import amount, duration
from aqueue.result import FailureGroup
from aqueue.text import first_line, short_names
from aqueue.tracebacks import place, user_frames

__all__ = ["failures", "headline", "limits", "notes", "slowest", "status", "summary"]

_MAX_TYPES: Final = 100
_MAX_KINDS: Final = 50
_MAX_FRAMES: Final = 8
_NUM_SLOWEST: Final = 25
_MIN_SHARE: Final = 0.005
"""Which share of the time is worth a row."""

_FIGURES: Final = {
    "Found": "enqueued",
    "Completed": "completed",
    "Failed": "failed",
    "Skipped": "skipped",
    "Outstanding": "outstanding",
    "Interrupted": "interrupted",
    "Retried": "retried",
    "Duplicates skipped": "deduplicated",
}
"""The columns of the table of types, by which of the `Counts` they show."""

_SHARES: Final = {
    "paused": "A person had paused the run",
    "limited": "Items waited while workers were idle: a limit, slow_down or a paused group held them back",
    "retrying": "Nothing was left but items that waited for a retry",
    "empty": "Workers were idle because the queue was empty",
    "busy": "All workers were busy, and items waited",
    "blocked": "Code blocked the event loop",
    "held_up": "The run waited for its journal or a reporter",
}
"""What each of the `Shares` of a run's time is."""
_TRACEBACK_MAX_CHARS: Final = 12_000
_TRACEBACKS_MAX_BYTES: Final = 600_000
"""How much of the page all tracebacks together may be, in UTF-8 and escaped."""

# A sign next to each word and color, for readers who can't tell the colors apart.
_STATUSES: Final = {
    "completed": ("✓", "Completed"),
    "failed": ("✗", "Failed"),
    "interrupted": ("■", "Interrupted"),
    "running": ("▶", "Still running"),
    "crashed": ("⚡", "Crashed"),
    "unknown": ("?", "No end recorded"),
}


def status(fold: Fold) -> str:
    """Return how the run ended, as the page's style sheet calls it."""
    return fold.last.end if fold.last is not None else "unknown"


def headline(record: Record, fold: Fold) -> Html:
    """Return how the run ended, and in one sentence what it came to."""
    ended = status(fold)
    if record.view.status is not None and ended != "crashed":
        ended = record.view.status  # a command may have changed it since
    sign, word = _STATUSES[ended]
    counts = record.view.counts
    came_to = f"{amount(counts.completed)} of {amount(counts.enqueued)} items completed in {duration(fold.elapsed_s)}"
    running = 0 if ended == "crashed" else fold.unended
    parts = [
        (counts.failed, "failed"),
        (counts.skipped, "skipped"),
        (counts.outstanding, "outstanding"),
        (running, "running"),
    ]
    rest = ", ".join(f"{amount(number)} {what}" for number, what in parts if number)
    badge = f'<strong class="badge {ended}"><span aria-hidden="true">{sign}</span> {word}</strong>'
    return Html(f'<p class="headline">{badge} {came_to}{f"; {rest}" if rest else ""}</p>')


def notes(record: Record, fold: Fold, given: Sequence[str]) -> Html:
    """Return the notes above the figures: the caller's, why the run stopped, failed reporters."""
    said = list(given)
    if record.view.stop_reason:
        said.append(f"The run was stopped: {record.view.stop_reason}")
    if status(fold) == "unknown":
        said.append("The log doesn't have the end of the run: it is still running, or it crashed.")
    said += [
        f"The reporter {failed.reporter} failed: {failed.error.type}: {first_line(failed.error.message)[:300]}"
        for failed in record.view.failed_reporters[:5]
    ]
    return Html(f'<ul class="notes">{_list(said)}</ul>') if said else Html("")


def summary(record: Record, fold: Fold) -> Html:
    """Return the run's figures: tiles, facts, a table of types, and one of processes where there were several."""
    counts, number = record.view.counts, fold.num_processes
    skipped = f", {amount(counts.skipped)} skipped by a person" if counts.skipped else ""
    tiles = [
        ("Completed", amount(counts.completed), f"of {amount(counts.enqueued)}{skipped}"),
        ("Failed", amount(counts.failed), ""),
        ("Elapsed", duration(fold.elapsed_s), "without the time between processes" if number > 1 else ""),
        ("Throughput", rate(counts.completed / fold.elapsed_s if fold.elapsed_s else 0.0), "items per second"),
        ("Outstanding", amount(counts.outstanding), ""),
        ("Retried", amount(counts.retried), "attempts"),
        ("Duplicates skipped", amount(counts.deduplicated), ""),
        ("Processes", amount(number), f"{amount(fold.num_crashed)} crashed" if number > 1 else ""),
    ]
    shown = joined(_tile(*tile, is_bad=tile[0] == "Failed" and counts.failed > 0) for tile in tiles)
    last = fold.last
    assert last is not None
    workers, cluster = amount(last.num_workers), last.started.cluster
    facts: list[tuple[str, object]] = [
        ("Started", time(fold.processes[0].started.at)),
        ("Last event", time(record.view.at)),
        ("Host", last.started.host),
        ("Workers", f"at most {workers}" if cluster else workers),
        *([("Cluster", cluster)] if cluster else []),
        ("Queue", record.view.queue_type_name),
        ("aqueue", last.started.aqueue_version),
        ("Run", record.view.run_id),
    ]
    known = "".join(f"<div><dt>{title}</dt><dd>{text(fact, 200)}</dd></div>" for title, fact in facts)
    parts = f"{_types(record)}\n{_processes(fold)}"
    return Html(f'<dl class="tiles">{shown}</dl>\n<dl class="facts">{known}</dl>\n{parts}')


def _tile(title: str, figure: str, unit: str, *, is_bad: bool) -> Html:
    mark = ' class="bad"' if is_bad else ""
    return Html(f"<div{mark}><dt>{title}</dt><dd>{figure} <small>{unit}</small></dd></div>")


def _types(record: Record) -> Html:
    names = short_names(record.view.types)
    ranked = sorted(record.view.types.values(), key=lambda type: -type.enqueued)
    figures = {title: name for title, name in _FIGURES.items() if name != "skipped" or record.view.counts.skipped}
    columns = ["Type", *figures]
    rows = [_row(_type(names[type.type], type.type), type.counts, figures.values()) for type in ranked[:_MAX_TYPES]]
    if len(ranked) > 1:
        # Duplicates among the initial items have no type, so the sum over the types lacks them.
        rows.append(_row("All", record.view.counts, figures.values()))
    more = len(ranked) - _MAX_TYPES
    remark = Html(f"<p>{amount(more)} types with fewer items are left out.</p>") if more > 0 else ""
    return joined([table("Items by type", columns, rows, range(1, len(columns))), remark])


def _row(title: str, counts: Counts, figures: Iterable[str]) -> list[object]:
    shown = (getattr(counts, name) for name in figures)
    return [title, *(amount(number) if number else Html('<span class="none">0</span>') for number in shown)]


def _type(short: str, type: str) -> Html:
    """Return a type's short name, with its module in a smaller print where that says more."""
    module = f" <small>{text(type.rpartition(':')[0], 200)}</small>" if short != type else ""
    return Html(f"{text(short, 200)}{module}")


def _processes(fold: Fold) -> Html:
    if fold.num_processes < 2:
        return Html("")
    rows = [
        (
            number,
            time(process.started.at),
            duration(process.ended_at - process.started.at),
            _STATUSES[process.end][1],
            amount(process.num_workers),
            text(process.started.host, 200),
            process.started.pid,
        )
        for number, process in enumerate(fold.processes, 1)
    ]
    columns = ["Process", "Started", "Took", "Ended", "Workers", "Host", "PID"]
    more = fold.num_processes - len(rows)
    remark = Html(f"<p>{amount(more)} later processes are left out of the table and the charts.</p>") if more else ""
    return joined([table("Processes", columns, rows, (2, 4, 6)), remark])


def limits(record: Record) -> Html:
    """Return what the time of the run was spent on, and what people have set that still holds."""
    shares = record.view.shares(record.until, "run")
    rows = [
        (text, percent(share, 1)) for name, text in _SHARES.items() if (share := getattr(shares, name)) >= _MIN_SHARE
    ]
    told = table("Shares of the time that it took", ["What", "Share"], rows, (1,)) if rows else ""
    in_force = _lists.in_force(record)
    set_by_people = f"<p>In force:</p><ul>{_list(in_force)}</ul>" if in_force else ""
    return Html(f"{told}{set_by_people}") if told or in_force else Html("<p>Nothing, as far as its events tell.</p>")


def failures(record: Record) -> Html:
    """Return the failures by kind, each with an example, where the user's code was in it, and its traceback."""
    kinds = record.failure_groups()
    count = record.view.counts.failed
    if not count:
        return Html("<p>No item has failed for good.</p>")
    room = _TRACEBACKS_MAX_BYTES
    shown = []
    for kind in kinds[:_MAX_KINDS]:
        traceback = lines(kind.first.error.traceback, _TRACEBACK_MAX_CHARS)
        room -= len(traceback.encode())
        name = record.names.get(kind.type, kind.type)
        shown.append(_failure(kind, name, traceback if room >= 0 else None))
    rest = count - sum(kind.count for kind in kinds[:_MAX_KINDS])
    more = f"<p>{amount(rest)} failures of less frequent kinds are left out.</p>" if rest else ""
    return joined([Html(f"<p>{counted(count, 'item')} failed for good.</p>"), *shown, Html(more)])


def _failure(kind: FailureGroup, name: str, traceback: Html | None) -> Html:
    example, error = kind.first, kind.first.error
    where = " in its hook" if kind.phase == "after_children" else ""
    tries = f", attempt {example.attempt}" if example.attempt > 1 else ""
    label = "Item" if kind.count == 1 else "For example, item"
    frames = user_frames(error.traceback)[-_MAX_FRAMES:]
    locations = _list(
        Html(f"{text(place(frame), 400)}{f' <br><code>{text(frame.code, 300)}</code>' if frame.code else ''}")
        for frame in frames
    )
    whole = (
        f'<details><summary>Full traceback</summary><pre tabindex="0">{traceback}</pre></details>' if traceback else ""
    )
    if traceback is None:
        whole = "<p>The traceback is left out to keep this page small.</p>"
    listed = f'<ol class="frames">{locations}</ol>' if frames else ""
    return Html(
        f'<article class="failure"><h3><span class="count">{amount(kind.count)}&nbsp;×</span> '
        f'{text(name, 200)}{where}: <span class="error">{text(kind.error, 200)}</span></h3>\n'
        f"<p>{label} {example.item}{tries}: <q>{text(first_line(error.message), 600) or '(no message)'}</q></p>\n"
        f"{listed}{whole}</article>\n"
    )


def slowest(record: Record) -> Html:
    """Return a table of the items whose last attempts, with their hooks, took the longest."""
    items = record.items
    # What still runs has taken longer than its column says.
    running = set(items.rows_in(("running",)))
    started = (row for row, at in enumerate(items.started_at) if at and row not in running)
    ended = nlargest(_NUM_SLOWEST, started, key=items.duration_s.__getitem__)
    rows = [
        (
            items.item_of(row),
            record.name_of(row),
            duration(record.duration_s(row)),
            items.attempts[row],
            items.state_of(row),
            texts.label,
        )
        for row, texts in record.texts(nlargest(_NUM_SLOWEST, sorted([*running, *ended]), key=record.duration_s))
    ]
    columns = ["Item", "Type", "Took", "Attempts", "State", "Description"]
    return table("Slowest items, by their last attempt and its hook", columns, rows, (0, 2, 3))


def _list(entries: Iterable[object]) -> Html:
    return joined(Html(f"<li>{text(entry)}</li>") for entry in entries)
