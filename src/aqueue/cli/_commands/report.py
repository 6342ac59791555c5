"""``aqueue report``: writes a run as one HTML file that can be sent to a colleague."""

import time
from typing import Final

import click

from aqueue._history.history import CannotRead, History, batches
from aqueue._history.opening import open_history
from aqueue._history.process import Liveness
from aqueue.cli._app import app, closed_at_end, examples, file_argument, finish, run_option
from aqueue.cli._output import open_output
from aqueue.cli._record import assess
from aqueue.cli._screen import say
from aqueue.events import RunStarted
from aqueue.text import visible

__all__ = ["report"]

_IS_RUNNING: Final[dict[Liveness, bool | None]] = {"alive": True, "gone": False, "elsewhere": None}


@app.command(
    short_help="Make one HTML file of a run, with plots.",
    epilog=examples("aqueue report run.db -o report.html", "aqueue report run.jsonl -o - | gzip > report.html.gz"),
)
@file_argument
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    type=click.Path(dir_okay=False, path_type=str),
    required=True,
    help="The file to write, which is replaced once the new one is whole; - for standard output.",
)
@run_option
def report(file: str, output: str, run: str) -> None:
    """Make one HTML file of a run: figures, plots, timeline, failures, slowest items and the tree.

    It needs no network, has everything in it and is at most 5 MB, however large the run; what is left out for that is said
    in it. It has descriptions, types and errors of items, but no payloads and no results.
    """
    from aqueue.cli._report import Report

    history = closed_at_end(open_history(file, run=run))
    made = Report()
    started: RunStarted | None = None
    for events in batches(history):
        made.apply(events)
        started = next((event for event in reversed(events) if isinstance(event, RunStarted)), started)
    if made.view.state == "new":
        why = "none of its events fits in a run; name the file that a run has written"
        if not history.misplaced:
            why = "nothing is recorded there yet; begin the run first"
        raise CannotRead(f"there is no report of {history.name}: {why}")
    now = time.time()
    liveness = assess(made.view, started, history, now).liveness
    with open_output(output, history) as write:
        is_running = None if liveness is None else _IS_RUNNING[liveness]
        page = made.page(source=history.name, now=now, notes=_notes(history), is_running=is_running)
        write(page.encode())
    if output != "-":
        say(f"wrote {visible(output, 500)}")
    finish(history)


def _notes(history: History) -> list[str]:
    """Return what a reader must know of the file before the figures."""
    notes = [f"{said}." for said in history.caveats()]
    if skipped := history.skipped_lines():
        notes.append(f"{skipped}.")
    return notes
