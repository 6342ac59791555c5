"""``aqueue serve``: shows a run in the browser, live or ended."""

import sys
import threading
import webbrowser
from collections.abc import Callable

import click

from aqueue._journal import file as journal_file
from aqueue._journal.file import reason
from aqueue.cli import _app
from aqueue.errors import JournalError

__all__ = ["serve"]


@_app.command(
    "Show a run in the browser, live or ended.",
    "aqueue serve run.db",
    "aqueue serve run.db --open",
    "ssh -L 8700:127.0.0.1:8700 host aqueue serve run.db --port 8700",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    metavar="N",
    help="Listen on this port.  [default: 8700, or a free one if that is taken]",
)
@click.option(
    "--linger",
    type=click.FloatRange(0, 100_000, min_open=True),
    metavar="MINUTES",
    help="End once no process has run the run and no browser has shown it for so long.  [default: never]",
)
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
def serve(file: str, port: int | None, linger: float | None, opens: bool) -> None:
    """Show a run in the browser: what limits it, its figures, workers and failures, as they change.

    FILE is a journal. The server is a process of its own, which only reads it: a run that is blocked or killed doesn't take the
    page down, and the page doesn't slow the run. It goes on when the run is resumed.

    Only this machine can reach the page, and only with the printed address, which works once, for one browser.
    """
    # Imported here: other commands shouldn't wait for what the page needs, which not everybody has installed.
    try:
        from aqueue._page.server import PageServer
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise click.UsageError("aqueue serve needs more packages: pip install 'aqueue[web]'") from None

    path = journal_file.resolve(file)
    if file == "-" or journal_file.is_empty(path):
        raise JournalError(f"there is no journal at {journal_file.shown(path)}; name the file that a run has written")
    try:
        server = PageServer(path, port, linger_s=None if linger is None else linger * 60)
    except OSError as error:
        raise click.UsageError(
            f"port {port} can't be listened on: {reason(error)}; choose another one with --port"
        ) from error
    click.get_current_context().call_on_close(server.close)
    address = server.new_address()
    click.echo(f"{journal_file.shown(path)}: {address}")
    sys.stdout.flush()
    if sys.stdin is not None and sys.stdin.isatty():
        click.echo("The address works once, for one browser. Press Enter for another one, Ctrl-C to end.", err=True)
        threading.Thread(target=_print_more, args=(server.new_address,), daemon=True).start()
    if opens:
        webbrowser.open(address)
    server.serve()


def _print_more(new_address: Callable[[], str]) -> None:
    """Print a new address for each line that a person enters."""
    for _ in sys.stdin:
        click.echo(new_address())
