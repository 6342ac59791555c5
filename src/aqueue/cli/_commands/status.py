"""``aqueue status``: shows the state of a run on one screen."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from rich.console import RenderableType
from rich.text import Text

from aqueue._folds.item_table import OUTSTANDING, STATES, ItemTable, State
from aqueue._history.opening import open_history
from aqueue.cli._app import app, closed_at_end, examples, file_argument, finish, json_option, run_option
from aqueue.cli._record import Record, RunStateName, resume_hint
from aqueue.cli._screen import (
    Column,
    error_summary,
    heading,
    host_and_pid,
    host_and_pid_fields,
    indented,
    local_time,
    print_json,
    print_lines,
    remark,
    table,
    text,
    time_ago,
)
from aqueue.figures import amount, clock, duration, per_second, when_due
from aqueue.result import FailureGroup
from aqueue.text import visible
from aqueue.tracebacks import place, user_frames
from aqueue.view import RunningItem, WorkerProcess

__all__ = ["EXIT_CODES", "status"]

EXIT_CODES: Final[dict[RunStateName, int]] = {"completed": 0, "failed": 1, "interrupted": 3, "running": 4}
"""The exit code that tells it; 2 is for what can't be read."""

_STATE_ORDER: Final[tuple[State, ...]] = ("completed", "failed", "running", "queued", "retrying", "interrupted")
_MAX_RUNNING: Final = 10
_MAX_PROCESSES: Final = 10
_MAX_GROUPS: Final = 5
_MAX_TYPES: Final = 20
_STATE_STYLES: Final[dict[RunStateName, str]] = {
    "running": "bold cyan",
    "interrupted": "bold magenta",
    "failed": "bold red",
    "completed": "bold green",
}


@app.command(
    epilog=examples(
        "aqueue status run.db",
        "aqueue status --json run.jsonl",
        'aqueue status run.db >/dev/null; echo "exit code $?"',
    )
)
@file_argument
@run_option
@json_option
def status(file: str, run: str, as_json: bool) -> None:
    """Show how a run stands, on one screen.

    The exit code tells the state: 0 completed, 1 failed, 3 interrupted (also by a crash), 4 running; 2 means that FILE
    could not be read.
    """
    record = Record(closed_at_end(open_history(file, run=run)))
    groups = record.failure_groups()
    if as_json:
        print_json(_as_json(record, groups))
    else:
        print_lines(_screen(record, groups))
    finish(record.history, EXIT_CODES[record.state.name])


def _as_json(record: Record, groups: tuple[FailureGroup, ...]) -> dict[str, Any]:
    view, items, started, state = record.view, record.items, record.started, record.state
    oldest = next(items.rows_in(OUTSTANDING), None)
    return {
        "file": str(record.history.path) if record.history.path is not None else None,
        "kind": "journal" if record.history.is_journal else "log",
        "run_id": view.run_id,
        "state": state.name,
        "why": state.why,
        "pid": started.pid if started is not None else None,
        "host": started.host if started is not None else None,
        "num_workers": view.num_workers,
        "cluster": view.cluster or None,
        "worker_processes": [msgspec.structs.asdict(process) for process in view.processes.values()],
        "queue_type_name": view.queue_type_name,
        "started_at": record.begun_at,
        "process_started_at": view.started_at,
        "processes": record.num_processes,
        "last_event_at": view.at,
        "events": view.seq,
        "missing_events": record.history.missing,
        "misplaced_events": record.history.misplaced,
        "elapsed_s": _elapsed_s(record),
        "rate": _rate(record),
        "counts": msgspec.structs.asdict(view.counts) | {"outstanding": view.counts.outstanding},
        "types": _type_records(items),
        "running": [
            msgspec.structs.asdict(one) | host_and_pid_fields(_process_of(record, one))
            for one in _running_items(record)
        ],
        "retrying": view.waiting,
        "next_due": view.next_due or None,
        "oldest_outstanding": None
        if oldest is None
        else {
            "item": items.item_of(oldest),
            "type": items.type_of(oldest),
            "state": items.state_of(oldest),
            "enqueued_at": items.enqueued_at[oldest],
        },
        "failures": [
            {
                "type": group.type,
                "phase": group.phase,
                "error": group.error,
                "count": group.count,
                "first_item": group.first.item,
                "message": group.first.error.message,
            }
            for group in groups
        ],
        "resume": resume_hint(record.history) if state.name in ("interrupted", "failed") else None,
    }


def _type_records(items: ItemTable) -> list[dict[str, Any]]:
    counts = items.counts()
    return [
        {"type": type} | {state: counts.get((number, state), 0) for state in STATES}
        for number, type in enumerate(items.types)
    ]


def _running_items(record: Record) -> list[RunningItem]:
    """Return what is running, the longest first; nothing if nobody runs it any more."""
    if record.state.name != "running":
        return []
    return sorted(record.view.running.values(), key=lambda one: (one.started_at, one.worker))


def _process_of(record: Record, one: RunningItem) -> WorkerProcess | None:
    """Return the process in which an item runs: the run's own, or one of its cluster's; None if not known."""
    view, started = record.view, record.started
    if view.cluster and one.phase == "process":
        return view.process_of(one.worker)
    return WorkerProcess(1, view.num_workers, started.host, started.pid) if started is not None else None


def _elapsed_s(record: Record) -> float:
    return record.view.elapsed_s(record.now if record.state.name == "running" else record.view.at)


def _rate(record: Record) -> float:
    if record.state.name == "running":
        return record.view.rate(record.now)
    elapsed_s = _elapsed_s(record)
    return record.view.counts.completed / elapsed_s if elapsed_s > 0 else 0.0


def _screen(record: Record, groups: tuple[FailureGroup, ...]) -> list[RenderableType]:
    view = record.view
    parts = _head(record)
    if len(record.items):
        parts += ["", _types(record.items, record.names)]
    if running := _running_items(record):
        # Where a worker process has left, hooks of its workers may go on.
        of = f" of {amount(view.num_workers)} workers" if len(running) <= view.num_workers else ""
        parts += ["", heading("Running", f"{amount(len(running))}{of}")]
        parts.append(_running(record, running))
    if view.processes and record.state.name == "running":
        parts += ["", heading("Worker processes", amount(len(view.processes))), _processes(record, running)]
    if record.state.name != "completed":
        parts += _outstanding(record)
    if groups:
        parts += ["", heading("Failed", amount(view.counts.failed)), *_failed(record, groups)]
    if record.state.name in ("interrupted", "failed"):
        parts += ["", Text.assemble(("To go on: ", "bold"), resume_hint(record.history))]
    return parts


def _head(record: Record) -> list[RenderableType]:
    history, view, started, state = record.history, record.view, record.started, record.state
    kind = "journal" if history.is_journal else "log"
    run = f" of run {visible(view.run_id, 100)}" if view.run_id else ""
    word = state.name.capitalize()
    counts = view.counts
    parts = [f"{amount(counts.completed)} of {amount(counts.enqueued)} done"]
    if counts.failed:
        parts.append(f"{amount(counts.failed)} failed")
    if counts.outstanding:
        parts.append(f"{amount(counts.outstanding)} outstanding")
    if counts.retried:
        parts.append(f"{amount(counts.retried)} retried")
    if counts.deduplicated:
        parts.append(f"{amount(counts.deduplicated)} dropped as known")
    host = f" on {visible(started.host, 100)}" if started is not None and started.host else ""
    workers = f"{amount(view.num_workers)} worker{'' if view.num_workers == 1 else 's'}"
    if view.cluster:
        count = len(view.processes)
        workers += f" in {amount(count)} process{'' if count == 1 else 'es'}"
    elapsed_s = _elapsed_s(record)
    elapsed = clock(elapsed_s) if elapsed_s >= 60 else duration(elapsed_s)
    lines: list[RenderableType] = [
        Text.assemble((history.name, "bold"), (f"  {kind}{run}", "dim")),
        Text.assemble((word, _STATE_STYLES[state.name]), f"  {state.why}" if state.why else ""),
        "",
        indented(Text(", ".join(parts))),
        indented(Text(f"{elapsed} elapsed, {per_second(_rate(record))}/s, {workers}")),
        indented(Text(f"{_begun(record)}{host}", style="dim")),
    ]
    lines += [indented(Text(said, "magenta")) for said in history.caveats()]
    return lines


def _begun(record: Record) -> str:
    """Return when the run began, and when its last process did if that is another one."""
    if record.num_processes <= 1:
        return f"since {local_time(record.begun_at)}"
    times = "once" if record.num_processes == 2 else f"{amount(record.num_processes - 1)} times"
    return f"since {local_time(record.begun_at)}, resumed {times}, last {local_time(record.view.started_at)}"


def _types(items: ItemTable, names: dict[str, str]) -> RenderableType:
    """Return a row per type, the most numerous first, with the states that there are."""
    counts = items.counts()
    states = [state for state in _STATE_ORDER if state == "completed" or any(found == state for _, found in counts)]
    totals = Counter[int]()
    for (number, _), count in counts.items():
        totals[number] += count
    ranked = [number for number, _ in totals.most_common()]
    rows = [
        _row(names[items.types[number]], [counts.get((number, state), 0) for state in states], states)
        for number in ranked[:_MAX_TYPES]
    ]
    if rest := ranked[_MAX_TYPES:]:
        sums = [sum(counts.get((number, state), 0) for number in rest) for state in states]
        rows.append(_row(f"+{amount(len(rest))} more types", sums, states))
    columns = [
        Column("type", may_shrink=True),
        *(Column("done" if s == "completed" else s, is_number=True) for s in states),
    ]
    return table(columns, rows)


def _row(label: str, counts: Sequence[int], states: Sequence[State]) -> list[Text]:
    cells = [Text(label)]
    for count, state in zip(counts, states, strict=True):
        style = "dim" if not count else "bold red" if state == "failed" else ""
        cells.append(Text(amount(count), style=style))
    return cells


def _running(record: Record, longest: Sequence[RunningItem]) -> RenderableType:
    rows: list[list[Text | str]] = []
    for one in longest[:_MAX_RUNNING]:
        said = visible(one.text, 500)
        if one.phase == "after_children":
            said = f"after children: {said}" if said else "after children"
        if one.attempt > 1:
            said = f"try {one.attempt}: {said}"
        rows.append([str(one.item), record.names[one.type], clock(record.now - one.started_at), said])
        if record.view.cluster:
            process = _process_of(record, one)
            rows[-1].insert(3, Text(host_and_pid(process) if process is not None else "", style="dim"))
    columns = [Column("item", True), Column("type", may_shrink=True), Column("for", True), Column("", may_shrink=True)]
    if record.view.cluster:
        columns.insert(3, Column("on", may_shrink=True))
    if len(longest) > _MAX_RUNNING:
        more = Text(f"+{amount(len(longest) - _MAX_RUNNING)} more", style="dim")
        rows.append(["", more, *[""] * (len(columns) - 2)])
    return table(columns, rows)


def _processes(record: Record, running: Sequence[RunningItem]) -> RenderableType:
    """Return a row per worker process, the busiest first."""
    view = record.view
    busy = Counter(
        process.first_worker
        for one in running
        if one.phase == "process" and (process := view.process_of(one.worker)) is not None
    )
    ranked = sorted(view.processes.values(), key=lambda process: (-busy[process.first_worker], process.first_worker))
    rows: list[list[Text | str]] = [
        [host_and_pid(process), amount(process.num_workers), amount(busy[process.first_worker])]
        for process in ranked[:_MAX_PROCESSES]
    ]
    if rest := ranked[_MAX_PROCESSES:]:
        workers, at_work = sum(p.num_workers for p in rest), sum(busy[p.first_worker] for p in rest)
        rows.append([Text(f"+{amount(len(rest))} more", style="dim"), amount(workers), amount(at_work)])
    return table([Column("", may_shrink=True), Column("workers", True), Column("busy", True)], rows)


def _outstanding(record: Record) -> list[RenderableType]:
    view, items = record.view, record.items
    parts: list[RenderableType] = []
    if view.waiting:
        is_running = record.state.name == "running"
        verb, which = ("waits", " ") if view.waiting == 1 else ("wait", ", the next ")
        due = f"{which}{when_due(view.next_due, record.now)}" if is_running else ""
        parts += ["", Text(f"{amount(view.waiting)} {verb} to be retried{due}", style="magenta")]
    oldest = next(items.rows_in(OUTSTANDING), None)
    if oldest is not None:
        age = f"enqueued {time_ago(record.now - items.enqueued_at[oldest])}"
        what = f"item {items.item_of(oldest)} {record.name_of(oldest)}, {items.state_of(oldest)}, {age}"
        parts += ["", Text.assemble(("Oldest outstanding: ", "bold"), what)]
    return parts


def _failed(record: Record, groups: tuple[FailureGroup, ...]) -> list[RenderableType]:
    rows: list[list[Text | str]] = []
    for group in groups[:_MAX_GROUPS]:
        hook = " after children" if group.phase == "after_children" else ""
        message = text(group.first.error.message, max_chars=300)
        name = f"{record.names.get(group.type) or visible(group.type, 200)}{hook}"
        rows.append(
            [
                Text(amount(group.count), style="bold red"),
                name,
                Text(error_summary(group.error, ""), style="red"),
                message,
            ]
        )
        frames = user_frames(group.first.error.traceback)
        if frames:
            rows.append(["", "", "", text(place(frames[-1]), "dim", 300)])
    columns = [
        Column("", True),
        Column("type", may_shrink=True),
        Column("error"),
        Column("for example", may_shrink=True),
    ]
    more = f"+{amount(len(groups) - _MAX_GROUPS)} more kinds; " if len(groups) > _MAX_GROUPS else ""
    return [table(columns, rows), remark(f"{more}all of them: {record.command('failures')}")]
