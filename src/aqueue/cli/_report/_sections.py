"""The tables and facts that only the report has: the slowest items, the processes, where and how the run ran."""

from heapq import nlargest
from typing import Final

from aqueue._history.record import Record
from aqueue._page.html import Html, counted, table, text
from aqueue._page.over_time import End, Fold
from aqueue.cli import _lists
from aqueue.cli._report._frozen_run import FrozenRun
from aqueue.cli._screen import local_time
from aqueue.figures import amount, duration

__all__ = ["facts", "processes", "slowest"]

_NUM_SLOWEST: Final = 25
_ENDS: Final[dict[End, str]] = {
    "completed": "Completed",
    "failed": "Failed",
    "interrupted": "Interrupted",
    "running": "Still running",
    "crashed": "Crashed",
    "unknown": "No end recorded",
}


def slowest(record: Record) -> Html:
    """Return the items whose last attempts, with their hooks, took the longest."""
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
    shown = table("Slowest items, by their last attempt and its hook", columns, rows, (0, 2, 3))
    return _card("slowest", "Slowest items", "by their last attempt and its hook", shown)


def processes(fold: Fold) -> Html:
    """Return the processes that have run the run."""
    rows = [
        (
            number,
            local_time(process.started.at),
            duration(process.ended_at - process.started.at),
            _ENDS[process.end],
            amount(process.num_workers),
            text(process.started.host, 200),
            process.started.pid,
        )
        for number, process in enumerate(fold.processes, 1)
    ]
    columns = ["Process", "Started", "Took", "Ended", "Workers", "Host", "PID"]
    more = fold.num_processes - len(rows)
    rest = f'<p class="rest">and {counted(more, "later process")}, which the charts leave out, too</p>' if more else ""
    return _card(
        "processes",
        "Processes",
        f"{amount(fold.num_crashed)} crashed",
        table("Processes", columns, rows, (0, 2, 4, 6)),
        rest,
    )


def facts(run: FrozenRun) -> Html:
    """Return where and how the run ran, and what people have set that still holds."""
    view, last = run.view, run.over_time.last
    assert last is not None
    workers, cluster = amount(last.num_workers), last.started.cluster
    known: list[tuple[str, object]] = [
        ("Started", local_time(run.over_time.processes[0].started.at)),
        ("Last event", local_time(view.at)),
        ("Host", last.started.host),
        ("Workers", f"at most {workers}" if cluster else workers),
        *([("Cluster", cluster)] if cluster else []),
        ("Queue", view.queue_type_name),
        *([("Duplicates skipped", amount(view.counts.deduplicated))] if view.counts.deduplicated else []),
        ("aqueue", last.started.aqueue_version),
        ("Run", view.run_id),
        *(("In force", line) for line in _lists.in_force(run.record)),
    ]
    shown = "".join(f"<div><dt>{title}</dt><dd>{text(fact, 200)}</dd></div>" for title, fact in known)
    return _card("facts", "Facts", "", Html(f'<dl class="facts">{shown}</dl>'))


def _card(name: str, title: str, remark: str, content: Html, rest: str = "") -> Html:
    return Html(
        f'<section id="{name}" class="card whole" aria-labelledby="{name}-title"><header><h2 id="{name}-title">{title}</h2>'
        f'<span class="quiet">{remark}</span></header>{content}{rest}</section>\n'
    )
