"""``aqueue results``: writes what the items returned."""

from collections.abc import Callable, Collection, Iterator, Sequence

import click

from aqueue._codec.results import decode_result
from aqueue._folds.item_table import ItemTable
from aqueue._history.history import History, batches
from aqueue._history.opening import open_history
from aqueue._history.record import chunks
from aqueue._history.selecting import matches_type
from aqueue.cli import _app, _screen
from aqueue.cli._formats.lines import write_results_jsonl
from aqueue.cli._formats.tables import result_columns, write_results_csv
from aqueue.cli._item_types import type_option, unknown_types
from aqueue.cli._output import open_output, output_option
from aqueue.events import NO_DATA, ItemChildrenProcessed, ItemCompleted, ItemEnqueued, ItemFailed, ItemSkipped
from aqueue.figures import amount
from aqueue.journal import ItemResult, iter_results
from aqueue.text import visible

__all__ = ["results"]

Rows = Callable[[], Iterator[ItemResult]]


@_app.command(
    "Write what the items returned.",
    "aqueue results run.db > results.jsonl",
    "aqueue results run.db --type Product --format csv -o products.csv",
    "aqueue results run.db --format csv --columns title,price -o prices.csv",
    "aqueue results run.db | jq .result",
)
@click.option(
    "--format",
    "as_what",
    metavar="FORMAT",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="Output format: jsonl or csv. In csv, results that are JSON objects get one column per key.",
)
@click.option(
    "--columns",
    metavar="A,B,…",
    help="Only these columns, in this order (csv only): item, type, result, or a key of the results.  [default: all]",
)
@type_option
@output_option
@_app.run_option
def results(file: str, as_what: str, columns: str | None, types: tuple[str, ...], output: str | None, run: str) -> None:
    """Write the results of the items, in the order of their numbers.

    The result of an item is what its hook returned, or else what its process method returned. Results can be read while
    the run is still running. A log contains them only if it was written by JsonlReporter(include_data=True).
    """
    if columns is not None and as_what != "csv":
        raise click.UsageError("--columns works only with csv; add --format csv")
    history = _app.closed_at_end(open_history(file, run=run))
    every = _rows_of(history, types)
    num_found = 0

    def rows() -> Iterator[ItemResult]:
        nonlocal num_found
        for one in every():
            if not types or any(matches_type(name, one.type) for name in types):
                num_found += 1
                yield one

    with open_output(output, history) as write:
        if as_what == "jsonl":
            write_results_jsonl(rows(), write)
        else:
            _write_csv(rows, write, None if columns is None else columns.split(","))
    if types and not num_found:
        _screen.say("no item of this type has a result")
    elif not num_found and history.is_journal:  # of a log this has been said, with what to do
        _screen.say("no item of this run has returned a result")
    _app.finish(history)


def _write_csv(rows: Rows, write: Callable[[bytes], object], chosen: Sequence[str] | None) -> None:
    """Write the table in two passes. Between them a running run may add results that need other columns.

    Raises:
        click.UsageError: there is no column of one of the `chosen` names.
    """
    columns = result_columns(rows())
    names = columns.names
    missing = [name for name in chosen or () if name not in names]
    if missing:
        known = ", ".join(visible(name, 100) for name in names[:20]) + (", …" if len(names) > 20 else "")
        raise click.UsageError(f"--columns: there is no column {visible(missing[0], 100)!r}; the columns are {known}")
    positions = None if chosen is None else [names.index(name) for name in chosen]
    num_late = write_results_csv(rows(), write, columns, positions)
    if num_late:
        _screen.say(
            f"left out {amount(num_late)} results that were recorded meanwhile and need other columns; run the command again"
        )


def _rows_of(history: History, types: Sequence[str]) -> Rows:
    """Return a function that yields all results from the first on, each time it is called.

    Raises:
        click.UsageError: there are no items of one of the `types`, names as given on the command line.
    """
    if history.is_journal:
        if types and (error := unknown_types(types, _types_until_found(history, types))):
            raise error
        path = history.path
        assert path is not None
        return lambda: iter_results(path)
    items = ItemTable()
    seqs: dict[int, int] = {}
    process_seqs: dict[int, int] = {}  # the results of processes that were followed by something; 0 for none
    for events in batches(history):
        items.apply(events)
        for event in events:
            if isinstance(event, ItemCompleted | ItemChildrenProcessed | ItemSkipped | ItemFailed):
                row = items.row_of(event.item)
                assert row is not None
                _track_result(event, row, seqs, process_seqs)
    if error := unknown_types(types, items.types):
        raise error
    if not seqs:
        _screen.say("this log has no results; to record them, use a journal or JsonlReporter(include_data=True)")
    return lambda: _results_of_log(history, items, seqs)


def _track_result(
    event: ItemCompleted | ItemChildrenProcessed | ItemSkipped | ItemFailed,
    row: int,
    seqs: dict[int, int],
    process_seqs: dict[int, int],
) -> None:
    """Update which event has the result of the item in a row: its hook's, or else its process's; none after a failure.

    What it was skipped with takes the place of what its process returned.
    """
    before = seqs.pop(row, 0)
    if isinstance(event, ItemCompleted | ItemSkipped):
        process_seqs.pop(row, None)
    else:
        process_seqs.setdefault(row, before)
    if not isinstance(event, ItemFailed):
        seq = event.seq if event.result is not NO_DATA else process_seqs.get(row, 0)
        if seq:
            seqs[row] = seq


def _types_until_found(history: History, wanted: Sequence[str]) -> Collection[str]:
    """Return the types in the order of their first items, reading no further than the last of the `wanted` ones."""
    known: dict[str, None] = {}
    for events in batches(history):
        num_before = len(known)
        known |= dict.fromkeys(event.type for event in events if isinstance(event, ItemEnqueued))
        if len(known) > num_before and unknown_types(wanted, known) is None:
            break
    return known


def _results_of_log(history: History, items: ItemTable, seqs: dict[int, int]) -> Iterator[ItemResult]:
    for rows in chunks(sorted(seqs), 100):  # which may be large
        found = history.events_at([seqs[row] for row in rows])
        for row in rows:
            event = found.get(seqs[row])
            if isinstance(event, ItemCompleted | ItemChildrenProcessed | ItemSkipped):
                yield ItemResult(items.item_of(row), items.type_of(row), decode_result(event.result))
