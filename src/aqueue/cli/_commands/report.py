"""``aqueue report``: writes a run as one HTML file that can be sent to a colleague."""

import time

import click

from aqueue._history.history import CannotRead
from aqueue._history.opening import open_history
from aqueue.cli import _app, _screen
from aqueue.cli._output import open_output
from aqueue.cli._record import Record
from aqueue.text import visible

__all__ = ["report"]


@_app.command(
    "Make one HTML file of a run, with plots.",
    "aqueue report run.db -o report.html",
    "aqueue report run.jsonl -o - | gzip > report.html.gz",
)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    type=click.Path(dir_okay=False, path_type=str),
    required=True,
    help="The file to write, which is replaced once the new one is whole; - for standard output.",
)
@_app.run_option
def report(file: str, output: str, run: str) -> None:
    """Make one HTML file of a run: figures, plots, timeline, failures, slowest items and the tree.

    It needs no network, has everything in it and is at most 5 MB, however large the run; what is left out for that is said
    in it. It has descriptions, types and errors of items, but no payloads and no results.
    """
    # Imported here: other commands shouldn't wait for what the page needs.
    from aqueue.cli import _report

    history = _app.closed_at_end(open_history(file, run=run))
    fold = _report.Fold()
    record = Record(history, fold.apply)
    if record.view.state == "new":
        why = "none of its events fits in a run; name the file that a run has written"
        if not history.misplaced:
            why = "nothing is recorded there yet; begin the run first"
        raise CannotRead(f"there is no report of {history.name}: {why}")
    notes = [f"{said}." for said in (*history.caveats(), history.skipped_lines()) if said]
    with open_output(output, history) as write:
        write(_report.page(record, fold, source=history.name, now=time.time(), notes=notes).encode())
    if output != "-":
        _screen.say(f"wrote {visible(output, 500)}")
    _app.finish(history)
