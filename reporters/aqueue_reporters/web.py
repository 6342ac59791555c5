"""The web reporter: a page in the browser, served by a process of its own."""

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Sequence

from aqueue.errors import ReporterError
from aqueue.events import Event
from aqueue.reporting import RunInfo
from aqueue.result import RunResult
from aqueue.text import visible
from aqueue.view import RunView

__all__ = ["WebReporter"]

_LINGER_MINUTES = 10.0

_START_S = 5.0
"""How long the end of a run waits for a server that is just starting, seconds; it takes half a second."""


class WebReporter:
    """Show a run as a page in the browser: start ``aqueue serve`` for its journal, and print the page's address.

    The server is a process of its own, which outlives this one: a run that is blocked or killed doesn't take the page down, and
    the page goes on when the run is resumed. It ends once no process has run the run and no browser has shown it for
    `linger_minutes`. Where the environment variable ``CI`` is set, nothing is started.

    The run needs a journal, and the extra ``web``.

    Parameters:
        linger_minutes: how long the server waits for a browser or for a resume, minutes. Default 10.
    """

    uses_terminal = False
    can_skip = True

    def __init__(self, *, linger_minutes: float = _LINGER_MINUTES) -> None:
        self._linger_minutes = linger_minutes
        self._journal = ""  # until the server is started
        self._has_printed = threading.Event()
        self._has_printed.set()

    def open(self, run: RunInfo) -> None:
        """Check that there is what the page needs; the server is started with the first event.

        Raises:
            ReporterError: the run has no journal, or is one of another process, or the extra isn't installed.
        """
        if os.environ.get("CI"):
            return
        if run.watched:
            raise ReporterError(
                "it shows the runs of this program; to see another one in the browser, use aqueue serve"
            )
        if not run.journal:
            raise ReporterError("a page in the browser needs a journal: pass journal='run.db' or resume='run.db', too")
        if any(importlib.util.find_spec(name) is None for name in ("starlette", "uvicorn")):
            raise ReporterError("a page in the browser needs more packages: pip install '/path/to/aqueue[web]'")
        self._journal = run.journal

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Start the server once there is something to serve; it prints the address when it listens.

        Parameters:
            events: not used.
            view: the run: nothing is served before its first event is recorded.
        """
        if self._journal and view.seq:
            command = [sys.executable, "-m", "aqueue", "serve", self._journal, "--linger", f"{self._linger_minutes:g}"]
            self._journal = ""
            server = subprocess.Popen(  # noqa: S603  # this Python, with arguments of ours
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is for the run
            )
            self._has_printed.clear()
            threading.Thread(target=self._pass_on, args=(server,), name="aqueue-web", daemon=True).start()

    def close(self, result: RunResult) -> None:
        """Leave the server running: people look at a run when it has ended. A short run waits until the address is printed.

        Parameters:
            result: not used.
        """
        self._has_printed.wait(_START_S)

    def _pass_on(self, server: subprocess.Popen[bytes]) -> None:
        """Print what the server prints: its address, or why there is none. It appears above a display."""
        assert server.stdout is not None
        with server, server.stdout as lines:
            for line in lines:
                said, is_address, address = line.decode("utf-8", "replace").strip().partition("http://")
                words = f"the run in the browser: http://{address}" if is_address else f"warning: no page: {said}"
                if sys.stderr is not None:
                    print(f"aqueue: {visible(words, 1_000)}", file=sys.stderr, flush=True)  # noqa: T201
                self._has_printed.set()
