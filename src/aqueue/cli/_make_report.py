"""``aqueue report``: a run as one HTML file that can be sent to a colleague."""

import time

import click

from aqueue.cli._app import app, examples, file_argument, finish, of_run
from aqueue.cli._history import History, batches
from aqueue.cli._opening import open_history
from aqueue.cli._output import open_output
from aqueue.cli._screen import say
from aqueue.text import visible

__all__ = ["report"]


@app.command(epilog=examples("aqueue report run.db -o report.html", "aqueue report run.jsonl -o - | gzip > report.html.gz"))
@file_argument
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    type=click.Path(dir_okay=False, path_type=str),
    required=True,
    help="The file to write, which is replaced once the new one is whole; - for standard output.",
)
@of_run
def report(file: str, output: str, run: str) -> None:
    """Make one HTML file of a run: figures, plots, timeline, failures, slowest items and the tree.

    It needs no network, has everything in it and is at most 5 MB, however large the run; what is left out for that is said
    in it. It has descriptions, types and errors of items, but no payloads and no results.
    """
    from aqueue.cli._report import render

    history = open_history(file, run=run)
    with open_output(output, history) as write:
        write(render(batches(history), source=history.name, now=time.time(), notes=_notes(history)).encode())
    if output != "-":
        say(f"wrote {visible(output, 500)}")
    finish(history)


def _notes(history: History) -> list[str]:
    return []
