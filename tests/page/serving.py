"""Runs and servers in processes of their own, which the tests of the page start, and kill."""

import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import httpx
import psutil

from tests.page.job import told_file

__all__ = ["Run", "Server", "call", "entered", "until"]

_ROOT: Final = Path(__file__).parents[2]
_DEADLINE_S: Final = 30.0
"""How long anything may take before the test fails: far longer than it takes on the slowest machine, seconds."""

_JOB: Final = (
    "import json, sys; from tests.page.job import main; main(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]))"
)
# Hundreds of updates take minutes at their usual pace.
_SERVE: Final = """import sys
from aqueue._page import shown
from aqueue.cli import main
shown.INTERVAL_S = float(sys.argv[1])
main(sys.argv[2:])"""


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition` holds; fail with `what` was waited for if it never does."""
    end = time.monotonic() + _DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.02)


@contextmanager
def entered(address: str) -> Iterator[httpx.Client]:
    """Yield a browser that has opened the printed address."""
    with httpx.Client(base_url=address.partition("/enter")[0], timeout=_DEADLINE_S) as browser:
        assert browser.get(address).status_code == 200
        yield browser


def call(*arguments: object) -> str:
    """Call the command, as a person does in another terminal; return what it prints."""
    command = [sys.executable, "-m", "aqueue", *map(str, arguments)]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=_DEADLINE_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


class _Process:
    """A process that is killed at the end, with all that it has started."""

    process: "subprocess.Popen[str]"

    def kill(self) -> None:
        """Kill it (SIGKILL), and wait until it is gone."""
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                child.kill()
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Run(_Process):
    """The run of a feed: see `tests.page.job`. If there is a journal, the run is resumed.

    Attributes:
        journal: its journal, which exists.
    """

    def __init__(self, journal: Path, workers: int = 4, fails: str = "", **feed: Any) -> None:
        """Start it.

        Parameters:
            journal: where it is recorded.
            workers: how many it has.
            fails: as for `tell`.
            feed: what the feed is made with.
        """
        self.journal = journal
        self.tell(fails)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _JOB, str(journal), str(workers), json.dumps(feed)],
            cwd=_ROOT,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        until(lambda: (journal.exists() and journal.stat().st_size) or self.process.poll() is not None, "the journal")

    def tell(self, fails: str) -> None:
        """Tell the feed how the pages fail that it finds from now on: by the name of the error; they don't if empty."""
        file = told_file(self.journal)
        file.with_suffix(".new").write_text(fails, "utf-8")
        file.with_suffix(".new").replace(file)  # never read half

    def wait(self) -> int:
        """Wait for its end; return its exit code."""
        return self.process.wait(_DEADLINE_S)


class Server(_Process):
    """``aqueue serve``, at a terminal of its own.

    Attributes:
        address: the address that it has printed last, with its token, which works once.
        origin: where it is, without a token.
    """

    def __init__(
        self, journal: Path, port: int | None = None, interval_s: float | None = None, *, control: bool = False
    ) -> None:
        """Start it, and wait until it has printed its address.

        Parameters:
            journal: the journal whose run it shows.
            port: where it listens; by default where it wants.
            interval_s: how often it looks at the run, seconds; by default as often as it does.
            control: whether the run can be steered from the page.
        """
        command = ["-m", "aqueue"] if interval_s is None else ["-c", _SERVE, str(interval_s)]
        options = [*([] if port is None else ["--port", str(port)]), *(["--control"] * control)]
        self._keyboard, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, *command, "serve", str(journal), *options],
            cwd=_ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            text=True,
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        os.close(terminal)
        self.address = self._read_address()
        self.origin, _, _ = self.address.partition("/enter")

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.origin.split("/")[2].split(":")[1])

    def new_address(self) -> str:
        """Press Enter in its terminal; return the address that it prints, which is `address` now."""
        os.write(self._keyboard, b"\n")
        self.address = self._read_address()
        return self.address

    def kill(self) -> None:
        """Kill it (SIGKILL), and close its terminal."""
        super().kill()
        if self._keyboard >= 0:
            os.close(self._keyboard)
            self._keyboard = -1
            assert self.process.stdout is not None
            self.process.stdout.close()

    def _read_address(self) -> str:
        assert self.process.stdout is not None
        killing = threading.Timer(_DEADLINE_S, self.process.kill)  # ends the wait for a line that doesn't come
        killing.start()
        line = self.process.stdout.readline()
        killing.cancel()
        assert "/enter?token=" in line, line
        return line.split()[-1]


class Served(NamedTuple):
    """A run and its server."""

    run: Run
    server: Server


Start = Callable[..., Served]
"""What starts both: the fixture `start`."""
