"""Starts worker processes on this machine, with a Dask scheduler in this process, and restarts those that die."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aqueue._cluster.local_output import Outlet
from aqueue._cluster.local_scheduler import LocalScheduler

if TYPE_CHECKING:
    from distributed.security import Security

__all__ = ["LocalWorkers"]

_START_S: Final = 60.0
_POLL_S: Final = 0.01
_SHORT_LIFE_S: Final = 1.0
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 30.0
_END_S: Final = 1.0
_PYTHON: Final = re.compile("python|pypy|graalpy", re.IGNORECASE)


class LocalWorkers:
    """A number of processes that run one Dask worker each, and the scheduler that they have joined.

    `multiprocessing` has no part in it, and so the user's script is not imported again: it needs no
    ``if __name__ == "__main__"``. Modules in its folder can be imported, as the workers have this program's `sys.path`.
    A worker that dies is started again. All of them end with this process, however it ends, even if it is killed; but
    a Ctrl-C typed at its terminal does not reach them. What items in them print is written, line by line, to whatever
    `sys.stdout` and `sys.stderr` are here at that moment. While nobody takes it there, printing items wait, as they
    would with a pipe; when the workers are closed, they end nevertheless, and what they said last may be lost.

    Nothing listens but on the loopback interface, and nobody can connect who has not the key that was made for the run.

    Attributes:
        address: the scheduler's, such as ``tls://127.0.0.1:40001``; empty before `start`.
        security: that key with its certificate, for Dask's client; None before `start`.
    """

    def __init__(self, count: int) -> None:
        """Prepare `count` workers, at least 1; nothing is started before `start`."""
        self.address = ""
        self.security: Security | None = None
        self._credentials = b""
        self._count = count
        self._lock = threading.Lock()  # no process is started once `_closing` is set
        self._close_lock = threading.Lock()
        self._closing = threading.Event()
        self._is_started = False
        self._processes: list[_Process] = []
        self._died_early: list[_Process] = []
        self._supervisors: list[threading.Thread] = []
        self._scheduler: LocalScheduler | None = None
        self._outlet: Outlet | None = None
        self._scratch = ""
        self._environment: dict[str, str] = {}
        self._arguments: list[str] = []

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that are alive."""
        with self._lock:
            return [process.pid for process in self._processes]

    def start(self) -> None:
        """Start the scheduler and the workers; return when all of them have joined it. After an error, call `close`.

        Raises:
            OSError: a process, a thread or a file could not be made.
            RuntimeError: Python can't be started from this program, the scheduler could not be started, a worker ended
                before it had joined, or a minute has passed.
        """
        command = _python_command()
        self._scratch = tempfile.mkdtemp(prefix="aqueue-workers-")
        self._outlet = Outlet()
        self._environment = {**os.environ, "PYTHONPATH": _python_path()}
        self._scheduler = LocalScheduler(self._scratch)
        self.address = self._scheduler.start()
        self.security = security = self._scheduler.security
        assert security is not None
        credentials = [security.tls_ca_file, security.tls_worker_cert, security.tls_worker_key]  # type: ignore[attr-defined]
        self._credentials = json.dumps(credentials).encode() + b"\n"
        self._arguments = [*command, "-m", "aqueue._cluster.local_worker", self.address, self._scratch]
        if "PYTHONPATH" in os.environ:
            self._arguments.append(os.environ["PYTHONPATH"])
        for number in range(1, self._count + 1):
            process = self._launch()
            if process is not None:
                supervisor = threading.Thread(
                    target=self._keep_running, args=(process,), name=f"aqueue-worker-{number}", daemon=True
                )
                self._supervisors.append(supervisor)
                supervisor.start()
        self._wait_until_joined()
        with self._lock:
            self._is_started = True
        if self._died_early:  # after it had joined
            raise RuntimeError(self._died_early[0].exit_summary())

    def close(self) -> None:
        """End the workers, at once and in the midst of what they do, and the scheduler; return after 5 s at the latest.

        It may be called in any state: a second time, after a `start` that failed, and while one is under way in another
        thread, which then fails.
        """
        with self._close_lock:
            with self._lock:
                self._closing.set()
                processes = list(self._processes)
            for process in processes:
                process.end()
            _join(self._supervisors)
            for process in processes:
                process.kill()  # one that is in a call which keeps all of Python's threads from running
            _join(self._supervisors)
            if self._outlet is not None:
                self._outlet.close()
            if self._scheduler is not None:
                self._scheduler.stop()
            if self._scratch:
                shutil.rmtree(self._scratch, ignore_errors=True)

    def _wait_until_joined(self) -> None:
        assert self._scheduler is not None
        deadline = time.monotonic() + _START_S
        while (joined := self._scheduler.count_workers()) < self._count:
            if self._closing.is_set():
                raise RuntimeError("they were closed while they were being started")
            if self._died_early:
                raise RuntimeError(self._died_early[0].exit_summary())
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"only {joined} of {self._count} were ready after {_START_S:.0f} s; start fewer, or see what keeps them"
                )
            time.sleep(_POLL_S)

    def _launch(self) -> "_Process | None":
        with self._lock:
            if self._closing.is_set():
                return None
            assert self._outlet is not None
            process = _Process(self._arguments, self._environment, self._outlet, self._credentials)
            self._processes.append(process)
            return process

    def _keep_running(self, process: "_Process") -> None:
        """Wait for the end of `process` and start the next, until `close`."""
        short_lives = 0
        while True:
            lifetime_s = process.wait()
            with self._lock:
                self._processes.remove(process)
                if not self._is_started:
                    self._died_early.append(process)
                    return
            # What dies over and over before it has begun must not keep the machine busy.
            short_lives = short_lives + 1 if lifetime_s < _SHORT_LIFE_S else 0
            following = None
            while following is None:
                if self._closing.wait(_pause_s(short_lives)):
                    return
                try:
                    following = self._launch()
                except (OSError, RuntimeError):  # no memory, or too many processes, threads or files: it may pass
                    short_lives += 1
            process = following


class _Process:
    """One worker's process, and the threads that hand on what it prints."""

    def __init__(self, arguments: list[str], environment: dict[str, str], outlet: Outlet, credentials: bytes) -> None:
        self._started_at = time.monotonic()
        self._popen = subprocess.Popen(  # noqa: S603  # this Python, with arguments of ours
            arguments,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        self._lifeline = self._popen.stdin
        with suppress(OSError):  # it has died already
            self._lifeline.write(credentials)
        outlet.connect(self._popen.stdout, "stdout")
        self._errors = outlet.connect(self._popen.stderr, "stderr")
        self.pid = self._popen.pid

    def wait(self) -> float:
        """Wait for its end; return for how long it has lived, in seconds."""
        self._popen.wait()
        lifetime_s = time.monotonic() - self._started_at
        self.end()
        # What its items had started: it would go on without anyone who looks after it, and hold the pipes open.
        with suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        return lifetime_s

    def end(self) -> None:
        """Have it end at once, by the end of its standard input."""
        with suppress(OSError):
            self._lifeline.close()

    def kill(self) -> None:
        """Kill it, if it is still there, with all that it has started."""
        if self._popen.poll() is None:
            with suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)

    def exit_summary(self) -> str:
        """Return how it ended, and the last line that it wrote to standard error."""
        code = self._popen.returncode
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self._errors.join(_END_S)
        said = f": {self._errors.last_line}" if self._errors.last_line else ""
        return f"a worker process {how} before it was ready{said}"


def _python_command() -> list[str]:
    """Return what starts this Python, with the options that bear on how the user's code behaves.

    Raises:
        RuntimeError: `sys.executable` is no Python.
    """
    executable = sys.executable
    if not executable or getattr(sys, "frozen", False) or not _PYTHON.search(os.path.basename(executable)):
        raise RuntimeError(
            f"sys.executable, which is to start Python, is {executable!r}; start Dask's workers yourself, and give cluster "
            "the address of their scheduler"
        )
    options = ["-P"]  # the current folder is not to come first in `sys.path`; PYTHONPATH has all of it
    options += ["-O"] * sys.flags.optimize + ["-b"] * sys.flags.bytes_warning
    options += ["-B"] * sys.flags.dont_write_bytecode
    options += [f"-W{option}" for option in sys.warnoptions]
    for name, value in sys._xoptions.items():  # noqa: SLF001  # documented in spite of its name
        options.append(f"-X{name}" if value is True else f"-X{name}={value}")
    return [executable, *options]


def _python_path() -> str:
    return os.pathsep.join(entry or os.getcwd() for entry in sys.path if isinstance(entry, str))


def _pause_s(short_lives: int) -> float:
    """Return how long to wait before the next start, after so many short lives in a row: not at all after the first."""
    if short_lives < 2:
        return 0.0
    return min(_FIRST_PAUSE_S * 2.0 ** min(short_lives - 2, 10), _LONGEST_PAUSE_S)


def _join(threads: Sequence[threading.Thread]) -> None:
    """Wait for the threads' ends, for 1 s in all."""
    deadline = time.monotonic() + _END_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
