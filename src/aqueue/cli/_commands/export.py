"""``aqueue export``: writes a run's events as JSON lines, CSV or a trace that opens in Perfetto, or the run as SQLite tables."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from aqueue._history.history import CannotRead, History, batches
from aqueue._history.opening import open_history
from aqueue._journal.check import MAGIC
from aqueue._journal.file import connect, explain, size
from aqueue._journal.open_journals import connect_to_read
from aqueue._journal.reader import EventReader
from aqueue.cli import _app
from aqueue.cli._formats.lines import write_events_jsonl
from aqueue.cli._formats.sqlite_tables import Mark, NotTables, Tables
from aqueue.cli._formats.tables import write_events_csv
from aqueue.cli._formats.trace import write_chrome_trace
from aqueue.cli._output import cannot_write, new_file, open_output, output_option, target_of
from aqueue.events import Event
from aqueue.text import visible

__all__ = ["export"]


@_app.command(
    "Write all events as JSON lines, CSV or a trace, or SQLite tables.",
    "aqueue export run.db > run.jsonl",
    "aqueue export run.db --format csv -o events.csv",
    "aqueue export run.db --format chrome-trace -o trace.json   # for ui.perfetto.dev",
    "aqueue export run.db --format sqlite -o tables.db          # for Datasette",
    "aqueue export run.db --format sqlite -o tables.db --update",
)
@click.option(
    "--format",
    "as_what",
    metavar="FORMAT",
    type=click.Choice(["jsonl", "csv", "chrome-trace", "sqlite"]),
    default="jsonl",
    show_default=True,
    help="Output format: jsonl, csv, chrome-trace or sqlite.",
)
@click.option(
    "--include-data",
    is_flag=True,
    help="Include payloads and results of items, which may contain secrets (jsonl and csv only; sqlite always has them).",
)
@click.option(
    "--update",
    is_flag=True,
    help="Add what has happened since to the tables in PATH instead of making them again (sqlite only).",
)
@output_option
@_app.run_option
def export(file: str, as_what: str, include_data: bool, update: bool, output: str | None, run: str) -> None:
    """Write all events of a run in another format, or its items as tables.

    \b
    jsonl         the lines that reporter="jsonl" writes
    csv           one row per event
    chrome-trace  for Perfetto: one track per worker, one slice per attempt,
                  arrows from parents to children, and counters
    sqlite        a file with indexed tables of items, attempts, failures, results,
                  groups and runs, for Datasette and SQL; needs -o
    """  # noqa: D301  # click takes the \b as a sign not to wrap
    if include_data and as_what not in ("jsonl", "csv"):
        raise click.UsageError("--include-data works only with jsonl and csv; leave it out")
    if update and as_what != "sqlite":
        raise click.UsageError("--update works only with sqlite; add --format sqlite")
    if as_what == "sqlite" and output in (None, "-"):
        raise click.UsageError("sqlite can't be written to standard output; name a file with -o")
    history = _app.closed_at_end(open_history(file, run=run))
    if as_what == "sqlite":
        assert output is not None
        _write_tables(history, output, update=update)
        _app.finish(history)
    with open_output(output, history) as write:
        if as_what == "jsonl":
            write_events_jsonl(_as_recorded(history), write, include_data)
        elif as_what == "csv":
            write_events_csv(_as_recorded(history), write, include_data)
        else:
            write_chrome_trace(batches(history), write)
    _app.finish(history)


def _as_recorded(history: History) -> Iterator[list[Event]]:
    """Yield the events as they are recorded: nothing is added for what a log lacks."""
    if history.is_journal:
        yield from _in_journal(history)
        return
    while (lines := history.read_lines()) is not None:
        yield [event for _, event in lines]


def _in_journal(history: History, after: int = 0) -> Iterator[list[Event]]:
    """Yield the events of a journal after the one with this number, without the JSON and the repairs that others need."""
    path = history.path
    assert path is not None
    with closing(connect_to_read(path)) as connection:
        reader = EventReader(connection, path)
        reader.after = after
        yield from iter(reader.read, None)


def _write_tables(history: History, output: str, *, update: bool) -> None:
    """Write the tables of a run to the file named `output`, or bring those in it up to date, in one transaction.

    Raises:
        click.UsageError: the file can't be written, or has other tables than those of this run.
        JournalError, CannotRead: the run can't be read.
    """
    target = target_of(output, history)
    if target.exists() and not target.is_file():
        raise click.UsageError(f"--output: {visible(output, 500)} isn't a regular file; name a file for the tables")
    try:
        if update and size(target):
            _check_that_it_is_sqlite(target)
            with closing(connect(target, "rw")) as connection:
                # Triggers of a full-text index may be there. Python's SQLite has no function with side effects to call.
                connection.execute("PRAGMA trusted_schema = ON")
                connection.execute("BEGIN IMMEDIATE")
                _fold(history, Tables(connection))
                connection.execute("COMMIT")
            return
        with new_file(target) as new:
            with closing(connect(new, "rwc")) as connection:
                # Nobody else sees this file yet, and if this process is killed, nobody ever will.
                connection.execute("PRAGMA journal_mode = OFF")
                connection.execute("PRAGMA synchronous = OFF")
                connection.execute("BEGIN")
                _fold(history, Tables(connection))
                connection.execute("COMMIT")
            # With what a killed update left there, SQLite would undo that update in the new file.
            for suffix in ("-journal", "-wal", "-shm"):
                target.with_name(target.name + suffix).unlink(missing_ok=True)
    except NotTables as error:
        raise click.UsageError(f"--output: {visible(output, 500)} can't be updated: {error}") from error
    except OverflowError as error:
        raise CannotRead(f"{history.name} has a number that no run has ({error}); name the file of a run") from error
    except sqlite3.Error as error:
        raise click.UsageError(f"--output: can't write {visible(output, 500)}: {explain(error)}") from error
    except OSError as error:
        raise cannot_write(output, visible(error.strerror or str(error), 300)) from error


def _check_that_it_is_sqlite(target: Path) -> None:
    with target.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise NotTables("it isn't a SQLite file; name another file")


def _fold(history: History, tables: Tables) -> None:
    for events in _events_after(history, tables.mark):
        tables.apply(events)
    tables.finish(history.name)


def _events_after(history: History, mark: Mark) -> Iterator[list[Event]]:
    """Yield the events after `mark`. Those of a log that lacks some are repaired; it is read from its beginning.

    Raises:
        NotTables: the events up to `mark` are others than those that the tables were made from.
    """
    if history.is_journal:
        if mark.seq:
            found = history.events_at([1, mark.seq])
            _check(mark, found.get(1), found.get(mark.seq), history.name)
        yield from _in_journal(history, mark.seq)
        return
    first = last = None
    is_checked = not mark.seq
    for events in batches(history):
        later = [event for event in events if event.seq > mark.seq]
        known = events[: len(events) - len(later)]
        first, last = first or next(iter(events), None), known[-1] if known else last
        if later and not is_checked:
            _check(mark, first, last, history.name)
            is_checked = True
        yield later
    if not is_checked:
        _check(mark, first, last, history.name)


def _check(mark: Mark, first: Event | None, last: Event | None, name: str) -> None:
    run_id: Any = getattr(first, "run_id", "")
    if run_id != mark.run_id:
        raise NotTables(
            f"it has the run {visible(mark.run_id, 100)}, and {name} has the run {visible(run_id, 100)}; name another file"
        )
    if last is None or (last.seq, last.at) != (mark.seq, mark.at):
        raise NotTables(
            f"it was made up to event {mark.seq:,}, which isn't in {name} or is another one there; leave out --update to make "
            "it again"
        )
