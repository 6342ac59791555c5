"""``aqueue status``: shows the state of a run on one screen."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from rich.console import RenderableType
from rich.text import Text

from aqueue._folds.item_table import OUTSTANDING, STATES
from aqueue._folds.outcome import num_cancelled
from aqueue._history.event_words import host_and_pid, words_of_counts
from aqueue._history.record import Record, RunStateName, resume_hint
from aqueue.cli import _app, _lists, _screen
from aqueue.cli._record import read_live
from aqueue.cli._screen import Column
from aqueue.figures import amount, clock, duration, local_minute, per_second, time_ago, when_due
from aqueue.result import FailureGroup
from aqueue.text import visible
from aqueue.view import RunningItem, WorkerProcess

__all__ = ["EXIT_CODES", "status"]

EXIT_CODES: Final[dict[RunStateName, int]] = {"completed": 0, "failed": 1, "interrupted": 3, "running": 4}
"""The exit code for each state; 2 is for a file that can't be read."""

_MAX_RUNNING: Final = 10
_MAX_PROCESSES: Final = 10
_MAX_GROUPS: Final = 5
_STATE_STYLES: Final[dict[RunStateName, str]] = {
    "running": "bold cyan",
    "interrupted": "bold magenta",
    "failed": "bold red",
    "completed": "bold green",
}


@_app.command(
    "Show the state of a run on one screen.",
    "aqueue status run.db",
    "aqueue status --json run.jsonl",
    'aqueue status run.db >/dev/null; echo "exit code $?"',
)
@_app.run_option
@_app.json_option
def status(file: str, run: str, as_json: bool) -> None:
    """Show the state of a run on one screen.

    The exit code is 0 if the run has completed, 1 if items have failed, 3 if it was interrupted or has crashed, 4 if it is
    running, and 2 if FILE could not be read.
    """
    record = read_live(file, run)
    groups = record.failure_groups()
    if as_json:
        _screen.print_json(_as_json(record, groups))
    else:
        _screen.print_lines(_printed(record, groups))
    _app.finish(record.history, EXIT_CODES[record.state.name])


def _as_json(record: Record, groups: tuple[FailureGroup, ...]) -> dict[str, Any]:
    view, items, started, state = record.view, record.items, record.started, record.state
    counts = record.counts()
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
        "types": [{"type": type} | {state: counts.get((type, state), 0) for state in STATES} for type in view.types],
        "running": [
            msgspec.structs.asdict(one) | _screen.host_and_pid_fields(_process_of(record, one))
            for one in _running_items(record)
        ],
        "retrying": view.waiting,
        "next_due": view.next_due or None,
        "limited_by": _limited_by(record) or None,
        "in_force": _lists.in_force_fields(record),
        "shares": {
            "last_minute": msgspec.structs.asdict(view.shares(record.until)),
            "run": msgspec.structs.asdict(view.shares(record.until, "run")),
        },
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
        "resume": _hint(record, groups) if state.name in ("interrupted", "failed") else None,
    }


def _hint(record: Record, groups: tuple[FailureGroup, ...]) -> str:
    return resume_hint(record.history, record.view.counts, num_cancelled(groups))


def _running_items(record: Record) -> list[RunningItem]:
    """Return the running items, the longest-running first; none if the run's process is gone."""
    if record.state.name != "running":
        return []
    return sorted(record.view.running.values(), key=lambda one: (one.started_at, one.worker))


def _process_of(record: Record, one: RunningItem) -> WorkerProcess | None:
    """Return the process in which an item runs: the run's own, or one of its cluster's; None if not known."""
    view, started = record.view, record.started
    if view.cluster and one.phase == "process":
        return view.process_of(one.worker)
    return WorkerProcess(1, view.num_workers, started.host, started.pid) if started is not None else None


def _limited_by(record: Record) -> str:
    return record.view.limited_by(record.now) if record.state.name == "running" else ""


def _elapsed_s(record: Record) -> float:
    return record.view.elapsed_s(record.until)


def _average(record: Record) -> float:
    elapsed_s = _elapsed_s(record)
    return record.view.counts.completed / elapsed_s if elapsed_s > 0 else 0.0


def _rate(record: Record) -> float:
    return record.view.rate(record.now) if record.state.name == "running" else _average(record)


def _printed(record: Record, groups: tuple[FailureGroup, ...]) -> list[RenderableType]:
    view = record.view
    parts = _head(record)
    if view.seq and view.types:
        parts += ["", _lists.items_by_state(record, record.counts())]
    if running := _running_items(record):
        # Hooks of the workers of a process that has left may still run.
        of = f" of {amount(view.num_workers)} workers" if len(running) <= view.num_workers else ""
        parts += ["", _screen.heading("Running", f"{amount(len(running))}{of}")]
        parts += _running(record, running)
    if view.processes and record.state.name == "running":
        parts += ["", _screen.heading("Worker processes", amount(len(view.processes))), _processes(record, running)]
    if facts := _facts(record):
        parts += ["", _screen.definition_list(facts)]
    if groups:
        parts += ["", _screen.heading("Failed", amount(view.counts.failed))]
        more = f"+{amount(len(groups) - _MAX_GROUPS)} more kinds; " if len(groups) > _MAX_GROUPS else ""
        remark = _screen.remark(f"{more}see them all: {record.command('failures')}")
        parts += [_lists.failure_kinds(record, groups, _MAX_GROUPS), remark]
    if record.state.name in ("interrupted", "failed"):
        hint = _hint(record, groups)
        parts += ["", Text(f"{hint[0].upper()}{hint[1:]}")]
        if view.counts.failed and record.history.is_journal:
            items = "item" if view.counts.failed == 1 else "items"
            parts.append(Text(f"To accept the failed {items}: {record.command('skip', '--state', 'failed')}"))
    return parts


def _head(record: Record) -> list[RenderableType]:
    """Return the state, what limits the run, and its figures."""
    history, view = record.history, record.view
    limited_by = visible(_limited_by(record), 300)
    kind = "journal" if history.is_journal else "log"
    run = f" of run {visible(view.run_id, 100)}" if view.run_id else ""
    lines: list[RenderableType] = [
        Text.assemble(
            (history.name, "bold"), "   ", *_state(record), (f"   {limited_by}" if limited_by else "", "magenta")
        ),
        _screen.indented(Text(f"{kind}{run}, {_begun(record)}", style="dim")),
        "",
        _screen.indented(Text(_figures(record))),
        _screen.indented(Text(_pace(record))),
    ]
    lines += [_screen.indented(Text(said, "magenta")) for said in history.caveats()]
    return lines


def _state(record: Record) -> Iterator[tuple[str, str]]:
    """Yield in parts what the run is doing, or how and when it ended, and why."""
    view, started, state = record.view, record.started, record.state
    why = state.why
    if state.liveness == "alive" and started is not None and started.host:
        pid = f"pid {started.pid}"
        why = why.replace(pid, f"{pid} on {visible(started.host, 100)}", 1)
    yield state.name, _STATE_STYLES[state.name]
    if state.name == "running":
        yield f" since {local_minute(view.started_at, record.now)} ({why})", ""
    elif view.state == "finished":
        yield f" at {local_minute(record.ended_at, record.now)}{f' ({why})' if why else ''}", ""
    elif why:
        yield f": {why}", ""


def _figures(record: Record) -> str:
    view = record.view
    figures = words_of_counts(view.counts).split(", ")
    if record.state.name == "running":
        now = ((view.waiting, "retrying"), (view.queued, "waiting"), (len(view.running), "running"))
        figures += [f"{amount(count)} {what}" for count, what in now if count]
    return "   ".join(figures)


def _pace(record: Record) -> str:
    view, elapsed_s = record.view, _elapsed_s(record)
    workers = f"{amount(view.num_workers)} worker{'' if view.num_workers == 1 else 's'}"
    if view.cluster:
        count = len(view.processes)
        workers += f" in {amount(count)} process{'' if count == 1 else 'es'}"
    now = [f"now {per_second(_rate(record))}/s"] if record.state.name == "running" else []
    elapsed = f"elapsed {clock(elapsed_s) if elapsed_s >= 60 else duration(elapsed_s)}"
    return "   ".join([*now, f"average {per_second(_average(record))}/s", elapsed, workers])


def _begun(record: Record) -> str:
    """Return when the run began and, if it was resumed, when its last process began."""
    if record.num_processes <= 1:
        return f"started {_screen.local_time(record.begun_at)}"
    times = "once" if record.num_processes == 2 else f"{amount(record.num_processes - 1)} times"
    return f"started {_screen.local_time(record.begun_at)}, resumed {times}, last {_screen.local_time(record.view.started_at)}"


def _running(record: Record, longest: Sequence[RunningItem]) -> list[RenderableType]:
    rows: list[list[Text | str]] = []
    for one in longest[:_MAX_RUNNING]:
        said = visible(one.text, 500)
        if one.phase == "after_children":
            said = f"hook: {said}" if said else "hook"
        if one.attempt > 1:
            said = f"attempt {one.attempt}: {said}"
        process = _process_of(record, one)
        on = Text(host_and_pid(process) if process is not None else "", style="dim")
        rows.append([str(one.item), record.names[one.type], clock(record.now - one.started_at), on, said])
    columns = [
        *(Column("item", True), Column("type", may_shrink=True), Column("for", True)),
        *(Column("on", may_shrink=True), Column("", may_shrink=True)),
    ]
    if not record.view.cluster:
        columns.pop(3)
        rows = [[*row[:3], *row[4:]] for row in rows]
    more = len(longest) - _MAX_RUNNING
    return [_screen.table(columns, rows), *([_screen.remark(f"+{amount(more)} more")] if more > 0 else [])]


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
    return _screen.table([Column("", may_shrink=True), Column("workers", True), Column("busy", True)], rows)


def _facts(record: Record) -> list[tuple[str, RenderableType]]:
    """Return what people have set, and what waits: each fact with its name."""
    view, items = record.view, record.items
    is_running = record.state.name == "running"
    facts: list[tuple[str, RenderableType]] = [
        ("" if number else "In force", Text(line)) for number, line in enumerate(_lists.in_force(record))
    ]
    if record.state.name == "completed":
        return facts
    if view.waiting:
        next_one = "" if view.waiting == 1 else "the next "
        due = f", {next_one}due {when_due(view.next_due, record.now)}" if is_running else ""
        facts.append(
            ("Retrying", Text(f"{amount(view.waiting)} item{'' if view.waiting == 1 else 's'}{due}", "magenta"))
        )
    oldest = next(items.rows_in(OUTSTANDING), None)
    if oldest is not None:
        age = f"enqueued {time_ago(record.now - items.enqueued_at[oldest])}"
        what = (
            f"item {items.item_of(oldest)} {record.name_of(oldest)}, {_lists.title_of(items.state_of(oldest))}, {age}"
        )
        facts.append(("Oldest", Text(what)))
    return facts
