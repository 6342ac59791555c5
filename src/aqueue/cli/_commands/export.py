"""``aqueue export``: writes a run's events as JSON lines, as a table, or as a trace that opens in Perfetto."""

from collections.abc import Iterator

import click

from aqueue._history.history import History, batches
from aqueue._history.opening import open_history
from aqueue.cli import _app
from aqueue.cli._formats.lines import write_events_jsonl
from aqueue.cli._formats.tables import write_events_csv
from aqueue.cli._formats.trace import write_chrome_trace
from aqueue.cli._output import open_output, output_option
from aqueue.events import Event

__all__ = ["export"]


@_app.command(
    "Write all events as JSON lines, CSV or a trace.",
    "aqueue export run.db > run.jsonl",
    "aqueue export run.db --format csv -o events.csv",
    "aqueue export run.db --format chrome-trace -o trace.json   # for ui.perfetto.dev",
)
@click.option(
    "--format",
    "as_what",
    metavar="FORMAT",
    type=click.Choice(["jsonl", "csv", "chrome-trace"]),
    default="jsonl",
    show_default=True,
    help="Output format: jsonl, csv or chrome-trace.",
)
@click.option(
    "--include-data",
    is_flag=True,
    help="Include payloads and results of items, which may contain secrets (jsonl and csv only).",
)
@output_option
@_app.run_option
def export(file: str, as_what: str, include_data: bool, output: str | None, run: str) -> None:
    """Write all events of a run in another format.

    \b
    jsonl         the lines that reporter="jsonl" writes
    csv           one row per event
    chrome-trace  for Perfetto: one track per worker, one slice per attempt,
                  arrows from parents to children, and counters
    """  # noqa: D301  # click takes the \b as a sign not to wrap
    if include_data and as_what == "chrome-trace":
        raise click.UsageError("--include-data works only with jsonl and csv; leave it out")
    history = _app.closed_at_end(open_history(file, run=run))
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
    while (lines := history.read_lines()) is not None:
        yield [event for _, event in lines]
