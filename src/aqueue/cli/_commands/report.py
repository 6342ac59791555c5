"""``aqueue report``: writes a run as one HTML file that can be sent to a colleague."""

import click

from aqueue._history.history import CannotRead
from aqueue._history.opening import open_history
from aqueue.cli import _app, _screen
from aqueue.cli._output import open_output
from aqueue.text import visible

__all__ = ["report"]


@_app.command(
    "Write an HTML report of a run, with charts.",
    "aqueue report run.db -o report.html",
    "aqueue report run.jsonl -o - | gzip > report.html.gz",
)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    type=click.Path(dir_okay=False, path_type=str),
    required=True,
    help="Write to PATH, or to standard output if it is -; an existing file is replaced once the new one is complete.",
)
@_app.run_option
def report(file: str, output: str, run: str) -> None:
    """Write a report of a run as one HTML file: the page of aqueue serve as it is now, a timeline, the slowest items, the tree.

    The file works offline and is at most 5 MB, however large the run is; it says what it leaves out. It contains the
    descriptions, types and errors of items, but no payloads and no results.
    """
    # Imported here: other commands shouldn't wait for what the page needs.
    from aqueue.cli import _report

    history = _app.closed_at_end(open_history(file, run=run))
    frozen = _report.FrozenRun(history)
    if frozen.view.state == "new":
        why = "its events don't form a run; name a file that a run has written"
        if not history.misplaced:
            why = "it has no events yet; start the run first"
        raise CannotRead(f"can't make a report of {history.name}: {why}")
    with open_output(output, history) as write:
        write(_report.page(frozen).encode())
    if output != "-":
        _screen.say(f"wrote {visible(output, 500)}")
    _app.finish(history)
