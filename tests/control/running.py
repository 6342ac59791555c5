"""A run's loop that carries out commands, in a thread of its own; clients that send what they like; runs as programs."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import anyio

from aqueue import Backend
from aqueue._control.addresses import addresses_of
from aqueue._control.server import ControlServer, Pending
from aqueue._system.loop import CallSoon, call_soon_in_this_loop
from aqueue._verbs import Answer, AnyCommand, Pause, Reply, line_of, reply_of

TIMEOUT_S = 30.0
"""After how long a test that waits has failed."""

ANSWER = Answer(running=3)

NOBODY = 65_534
"""The number of a user that every system has, and that isn't the one who runs the tests."""


class Run:
    """What a run is for its control server: a loop, and a disk that may be slow.

    Attributes:
        commands: what was carried out.
        warnings: what the user was warned of.
        answer: its answer to each command.
        is_disk_slow: whether replies wait in `unsaved`.
    """

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.commands: list[AnyCommand] = []
        self.warnings: list[str] = []
        self.answer = ANSWER
        self.is_disk_slow = False
        self.unsaved: list[Pending] = []
        self.carried_out = threading.Semaphore(0)
        self.server = ControlServer(journal, self.take, self.warnings.append)
        self.call_soon: CallSoon

    def take(self, command: AnyCommand, pending: Pending) -> None:
        self.call_soon(lambda: self._apply(command, pending))

    def _apply(self, command: AnyCommand, pending: Pending) -> None:
        self.commands.append(command)
        pending.applied()
        if self.is_disk_slow:
            self.unsaved.append(pending)
        else:
            pending.reply(self.answer)
        self.carried_out.release()

    def block(self) -> threading.Event:
        """Block the loop from now on, until the event that is returned is set."""
        blocked, free = threading.Event(), threading.Event()

        def wait() -> None:
            blocked.set()
            free.wait(TIMEOUT_S)

        self.call_soon(wait)
        assert blocked.wait(TIMEOUT_S)
        return free

    def wait_for_commands(self, count: int) -> None:
        for _ in range(count):
            assert self.carried_out.acquire(timeout=TIMEOUT_S)

    def cpu_s(self) -> float:
        """Return the CPU time of the server's thread, seconds."""
        thread = next(one for one in threading.enumerate() if one.name == "aqueue-control")
        assert thread.ident is not None
        return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))

    @property
    def path(self) -> Path:
        """Where the socket is."""
        assert self.server.path is not None
        return self.server.path


@contextmanager
def running(journal: Path, backend: Backend = "trio") -> Iterator[Run]:
    """Run a loop with a control server; closed when the test leaves."""
    journal.touch()
    run = Run(journal)
    ready = threading.Event()
    closing: list[Callable[[], None]] = []
    errors: list[BaseException] = []

    async def main() -> None:
        run.call_soon = call_soon_in_this_loop()
        ended = anyio.Event()
        closing.append(ended.set)
        run.server.start()
        ready.set()
        await ended.wait()
        await run.server.close()

    def work() -> None:
        try:
            anyio.run(main, backend=backend)
        except BaseException as error:
            errors.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(TIMEOUT_S)
    try:
        yield run
    finally:
        if closing:
            run.call_soon(closing[0])
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()
        assert errors == []


class Client:
    """A connection by which a test sends whatever it likes."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self.socket.settimeout(TIMEOUT_S)
        self._file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reply(self) -> Reply | None:
        """Return the next reply; None if the connection has ended."""
        try:
            line = self._file.readline()
        except ConnectionError:  # what was sent last was not read
            return None
        return reply_of(line) if line else None

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def command(by: str = "anna@laptop via command") -> Pause:
    """Return a command."""
    return Pause(by=by)


COMMAND_LINE = line_of(command())


def descriptors() -> int:
    """Return how many file descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


PROGRAM = """
import os, signal, sys, threading
from pathlib import Path
import anyio._backends._trio
from aqueue._control.server import ControlServer
from aqueue._verbs import Answer

journal = Path(sys.argv[1])
os.setuid(int(sys.argv[2]))

async def serve(apply=lambda command, pending: (pending.applied(), pending.reply(Answer(running=7)))):
    server = ControlServer(journal, apply)
    server.start()
    print("ready", flush=True)
    await anyio.to_thread.run_sync(sys.stdin.readline)
    {}
    await server.close()

anyio.run(serve, backend="trio")
"""
"""A program with a control server, which waits for a line on its standard input; a test fills in what it does then."""


def start_program(
    journal: Path, then: str = "", *, user: int | None = None, before: str = ""
) -> "subprocess.Popen[str]":
    """Start `PROGRAM`, and wait until it listens."""
    code = before + PROGRAM.format(then)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(journal), str(os.getuid() if user is None else user)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    return process


def first_path(journal: Path) -> Path:
    """Return where a socket next to `journal` is."""
    return addresses_of(journal)[0].path
