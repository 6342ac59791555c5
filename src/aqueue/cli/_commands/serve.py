"""``aqueue serve``: shows a run in the browser, live or ended."""

import signal
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from aqueue._journal import file as journal_file
from aqueue.cli import _app
from aqueue.cli._commands.tail import wait_for
from aqueue.errors import JournalError

__all__ = ["serve"]


@_app.command(
    "Show a run in the browser, live or ended.",
    "aqueue serve run.db",
    "aqueue serve run.db --open",
    "aqueue serve run.db --control",
    "ssh -t -L 8700:127.0.0.1:8700 host aqueue serve run.db --port 8700",
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
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    help="Listen on this address, which needs TLS if others can reach it.",
)
@click.option("--tls-cert", metavar="FILE", help="The certificate for https, PEM, with those between it and the root.")
@click.option("--tls-key", metavar="FILE", help="The certificate's private key, PEM.")
@click.option(
    "--allow-host", "names", multiple=True, metavar="NAME", help="Let browsers reach the page under this name, too."
)
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@click.option("--control", is_flag=True, help="Let the run be steered from the page.  [default: it is read-only]")
def serve(
    file: str,
    port: int | None,
    linger: float | None,
    host: str,
    tls_cert: str | None,
    tls_key: str | None,
    names: tuple[str, ...],
    opens: bool,
    control: bool,
) -> None:
    """Show a run in the browser: what limits it, its figures, workers and failures, as they change.

    FILE is a journal; if it doesn't exist yet, wait for it. The server is a process of its own, which only reads it: a run that is
    blocked or killed doesn't take the page down, and the page doesn't slow the run. It goes on when the run is resumed.

    Only this machine can reach the page, and only with the printed address, which works once, for one browser. From another
    machine, let ssh forward the port; or serve the page to others with --host, --tls-cert and --tls-key.

    With --control, the page has buttons to pause and stop the run, to change its workers and limits, and to retry and skip items.
    They call this command, which works as in a terminal; the run records who did it.
    """
    # Imported here: other commands shouldn't wait for what the page needs, which not everybody has installed.
    try:
        from aqueue._page.listening import listen
        from aqueue._page.server import PageServer
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise click.UsageError("aqueue serve needs more packages: pip install '/path/to/aqueue[web]'") from None

    path = journal_file.resolve(file)
    if file == "-":
        raise JournalError(
            "aqueue serve reads a journal, not standard input; name the file that a run writes, such as run.db"
        )
    is_new = journal_file.is_empty(path)
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key need each other")
    tls = None if tls_cert is None or tls_key is None else (Path(tls_cert), Path(tls_key))
    listener = listen(host, port, tls=tls, names=names)
    click.get_current_context().call_on_close(listener.socket.close)  # if the journal can't be read
    if is_new:  # only now, so that what is wrong with the options is said at once
        wait_for(str(path))
    server = PageServer(path, listener, linger_s=None if linger is None else linger * 60, can_control=control)
    click.get_current_context().call_on_close(server.close)
    click.echo(f"{journal_file.shown(path)}: {server.new_address()}")
    click.echo("The address works once, for one browser.", err=True)
    sys.stdout.flush()
    if sys.stdin is not None and sys.stdin.isatty():
        click.echo("Press Enter for another one, Ctrl-C to end.", err=True)
        signal.signal(signal.SIGTTIN, signal.SIG_IGN)  # in the background, to read would stop the process
        threading.Thread(target=_print_more, args=(server.new_address,), daemon=True).start()
    signal.signal(signal.SIGHUP, lambda *_: server.end())
    with ExitStack() as stack:
        if opens:
            page = stack.enter_context(_leading_to(server.new_address()))
            # A browser in a terminal returns only when it is closed.
            threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()
        server.serve()


def _print_more(new_address: Callable[[], str]) -> None:
    """Print a new address for each line that a person enters."""
    with suppress(OSError):  # in the background
        for _ in sys.stdin:
            click.echo(new_address())


@contextmanager
def _leading_to(address: str) -> Iterator[str]:
    """Yield the address of a file that leads to `address`, which everybody could read among the arguments of a browser."""
    with TemporaryDirectory(prefix="aqueue-") as folder:  # which only its owner can read
        page = Path(folder, "open.html")
        page.write_text(f'<!doctype html><title>aqueue</title><meta http-equiv="refresh" content="0; url={address}">')
        yield page.as_uri()
