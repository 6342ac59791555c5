"""Starts worker processes on this machine, with a Dask scheduler in this process, and restarts those that die."""

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from aqueue._cluster.local_output import copy_output
from aqueue._cluster.local_worker import START

if TYPE_CHECKING:
    from distributed import Scheduler
    from distributed.security import Security

__all__ = ["LocalWorkers"]

_START_S: Final = 60.0
_POLL_S: Final = 0.02
_SHORT_LIFE_S: Final = 1.0
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 30.0
_END_S: Final = 1.0
_CLOSE_S: Final = 5.0
_NEVER_S: Final = 10 * 365 * 24 * 3600.0
_PYTHON: Final = re.compile("python|pypy|graalpy", re.IGNORECASE)


class LocalWorkers:
    """A number of processes that run one Dask worker each, and the scheduler that they have joined.

    Not `distributed.LocalCluster`: it starts processes by `multiprocessing`, which imports the user's script again unless
    that has an ``if __name__ == "__main__"``, lets a Ctrl-C and what items print through to the terminal, and uses no
    TLS. Here modules in the script's folder can be imported, as the workers have this program's `sys.path`.
    A worker that dies is started again. All of them end with this process, however it ends, even if it is killed; but
    a Ctrl-C typed at its terminal does not reach them. What items in them print is written, line by line, to whatever
    `sys.stdout` and `sys.stderr` are here at that moment. While that stream is stuck, printing items wait, as they
    would with a pipe; when the workers are closed, they end nevertheless, and what they printed last may be lost.

    Everything listens on the loopback interface only, and nobody can connect without the key that was made for the run.

    Attributes:
        address: the scheduler's, such as ``tls://127.0.0.1:40001``; empty before `start`.
        security: that key with its certificate, for Dask's client; None before `start`.
    """

    def __init__(self, count: int) -> None:
        """Prepare `count` workers, at least 1; nothing is started before `start`."""
        self.address = ""
        self.security: Security | None = None
        self._count = count
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._ready: Future[None] = Future()
        self._copiers: list[threading.Thread] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="aqueue-workers", daemon=True)

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that are alive."""
        return [process.pid for process in list(self._processes)]

    def start(self) -> None:
        """Start the scheduler and the workers; return when all of them have joined it. After an error, call `close`.

        Raises:
            OSError: a process, a thread or a file could not be made.
            RuntimeError: Python can't be started from this program, the scheduler could not be started, a worker ended
                before it had joined, or a minute has passed.
        """
        self._thread.start()
        self._ready.result()

    def close(self) -> None:
        """Kill the workers, and stop the scheduler; return after 5 s at the latest.

        It may be called at any time: again, after a `start` that failed, or during a `start` in another thread, which then
        fails.
        """
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_S)

    # ---- in the thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)

    async def _main(self) -> None:
        command = [*_python_command(), "-c", START]
        with tempfile.TemporaryDirectory(prefix="aqueue-workers-", ignore_cleanup_errors=True) as scratch:
            scheduler = await self._start_scheduler(scratch)
            job = json.dumps(self._job(scratch)).encode() + b"\n"

            def launch() -> "subprocess.Popen[bytes]":
                process: Any = subprocess.Popen(  # noqa: S603  # this Python, with arguments of ours
                    command,
                    env=os.environ,  # not the C library's, which readline adds to
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
                with suppress(OSError):  # it has died already
                    process.stdin.write(job)
                    process.stdin.flush()
                self._copiers = [thread for thread in self._copiers if thread.is_alive()]
                self._copiers += [copy_output(process.stdout, "stdout"), copy_output(process.stderr, "stderr")]
                return process  # type: ignore[no-any-return]  # its pipes are there

            keepers = [asyncio.ensure_future(self._keep_running(launch)) for _ in range(self._count)]
            try:
                await self._until_closed(scheduler)
            finally:
                for keeper in keepers:
                    keeper.cancel()
                await asyncio.gather(*keepers, return_exceptions=True)
                deadline = time.monotonic() + _END_S
                for copier in self._copiers:
                    copier.join(max(0.0, deadline - time.monotonic()))
                with suppress(TimeoutError):
                    async with asyncio.timeout(_END_S):
                        await scheduler.close()

    async def _start_scheduler(self, scratch: str) -> "Scheduler":
        # Imported in this thread: it takes a third of a second, which would hold up the caller's event loop.
        import dask.config
        from distributed import Scheduler
        from distributed.security import Security

        _silence_this_thread()
        # Anyone who reaches a scheduler can run programs, and every user of a machine reaches its loopback interface.
        self.security = Security.temporary()  # type: ignore[no-untyped-call]
        # Dask always starts an HTTP server; without pages it is of no use to other users of the machine. Its profiler
        # would look at this thread's stack 100 times a second.
        with dask.config.set({"distributed.scheduler.http.routes": [], "distributed.worker.profile.enabled": False}):
            scheduler = Scheduler(
                protocol="tls",
                security=self.security,
                host="127.0.0.1",
                dashboard=False,
                dashboard_address="127.0.0.1:0",  # by default a certain port, with a warning if that is taken
                # A worker that is busy or stopped is not gone; its end is noticed by its connection.
                worker_ttl=_NEVER_S,
                idle_timeout=_NEVER_S,
                local_directory=scratch,
                needs_workdir=False,
            )
        # Dask puts its folder first in `sys.path`, for files that are uploaded to a scheduler.
        with suppress(ValueError):
            sys.path.remove(scheduler.local_directory)
        try:
            await scheduler
        except Exception as error:
            reason = error.__cause__ or error  # Dask's own error says only that there is one
            raise RuntimeError(f"Dask's scheduler could not be started: {reason!r}") from error
        self.address = scheduler.address
        return scheduler

    def _job(self, scratch: str) -> dict[str, Any]:
        key: Any = self.security
        security = {
            "tls_ca_file": key.tls_ca_file,
            "tls_worker_cert": key.tls_worker_cert,
            "tls_worker_key": key.tls_worker_key,
        }
        path = [entry or os.getcwd() for entry in sys.path if isinstance(entry, str)]
        return {"path": path, "address": self.address, "scratch": scratch, "security": security}

    async def _until_closed(self, scheduler: "Scheduler") -> None:
        deadline = time.monotonic() + _START_S
        while not self._closing.is_set():
            if not self._ready.done():
                joined = len(scheduler.workers)
                if joined >= self._count:
                    self._ready.set_result(None)
                elif time.monotonic() > deadline:
                    raise RuntimeError(
                        f"only {joined} of {self._count} were ready after {_START_S:.0f} s; start fewer, or wait until this "
                        "machine is less busy"
                    )
            await asyncio.sleep(_POLL_S)
        self._fail(RuntimeError("the run ended before they were ready"))

    async def _keep_running(self, launch: "Callable[[], subprocess.Popen[bytes]]") -> None:
        """Start a worker, and a new one each time it has died."""
        pause_s = 0.0
        while True:
            started_at = time.monotonic()
            try:
                process = launch()
            except (OSError, RuntimeError) as error:  # no memory, or too many processes, threads or files: it may pass
                self._fail(error)
            else:
                self._processes.add(process)
                try:
                    while process.poll() is None:  # noqa: ASYNC110  # a process has no event to wait for
                        await asyncio.sleep(_POLL_S)
                finally:
                    self._processes.remove(process)
                    _kill(process)
                code = process.returncode
                how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
                self._fail(RuntimeError(f"a worker process {how} before it was ready; look at what it printed"))
            # Workers that die again and again at their start must not keep the machine busy.
            pause_s = _next_pause_s(pause_s, time.monotonic() - started_at)
            await asyncio.sleep(pause_s)


def _next_pause_s(pause_s: float, lifetime_s: float) -> float:
    """Return how long to wait before the next start, after a life that began after a wait of `pause_s`."""
    return 0.0 if lifetime_s >= _SHORT_LIFE_S else min(max(2 * pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)


def _kill(process: Any) -> None:
    """End a worker, and the processes that its items have started: those would keep running, and hold the pipes open."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(OSError):  # it died before it had taken its job
        process.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)


def _silence_this_thread() -> None:
    """Drop what Dask logs in this thread; logs of the user's own Dask objects still appear."""
    thread = threading.get_ident()
    for handler in logging.getLogger("distributed").handlers:
        handler.addFilter(lambda record: record.thread != thread)
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)


def _python_command() -> list[str]:
    """Return the command that starts this Python, with the options that change how the user's code behaves.

    Raises:
        RuntimeError: `sys.executable` isn't Python.
    """
    executable = sys.executable
    if not executable or getattr(sys, "frozen", False) or not _PYTHON.search(os.path.basename(executable)):
        raise RuntimeError(
            f"sys.executable is {executable!r}, which isn't a Python interpreter; start Dask workers yourself, and pass "
            "their scheduler's address as cluster"
        )
    # Private, but multiprocessing and concurrent.futures start Python with these, too.
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001
    # The current folder must not come first in `sys.path`, and what is printed must not wait in a buffer.
    return [executable, *flags, "-P", "-u"]
