"""Runs a Dask scheduler in a thread of this process, for workers on this machine."""

import asyncio
import logging
import re
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from distributed import Scheduler
    from distributed.security import Security

__all__ = ["LocalScheduler"]

_STOP_S: Final = 1.0
_NEVER_S: Final = 10 * 365 * 24 * 3600.0
_LOGGERS: Final = re.compile(r"(distributed|tornado|asyncio)(\.|$)")


class LocalScheduler:
    """A Dask scheduler on an event loop in a thread of its own.

    Attributes:
        security: a key and a certificate that were made for it, without which nobody can connect. Set by `start`.
    """

    def __init__(self, scratch: str) -> None:
        self.security: Security | None = None
        self._scratch = scratch
        self._scheduler: Future[Scheduler] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="aqueue-scheduler", daemon=True)

    def start(self) -> str:
        """Start it; return its address.

        Raises:
            RuntimeError: it could not be started.
        """
        self._thread.start()
        try:
            return self._scheduler.result().address
        except Exception as error:
            reason = error.__cause__ or error  # Dask's own error says only that there is one
            raise RuntimeError(f"Dask's scheduler could not be started: {reason!r}") from error

    def count_workers(self) -> int:
        """Return how many workers have joined."""
        return len(self._scheduler.result().workers)

    def stop(self) -> None:
        """Stop it, if it runs; a scheduler that takes longer than a second is left behind."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        silencer = _Silencer()
        try:
            asyncio.run(self._serve(silencer))
        except BaseException as error:
            if not self._scheduler.done():
                self._scheduler.set_exception(error)
        finally:
            silencer.remove()

    async def _serve(self, silencer: "_Silencer") -> None:
        # It takes a third of a second, of which the caller's event loop shouldn't be deprived.
        import dask.config
        from distributed import Scheduler
        from distributed.security import Security

        silencer.add()
        # Anyone who reaches a scheduler can run programs, and every user of a machine reaches its loopback interface.
        self.security = Security.temporary()  # type: ignore[no-untyped-call]
        # There is always a server of pages; it has none, and so is of no use to other users of the machine. The profile
        # is of this thread's stack, 100 times a second.
        with dask.config.set({"distributed.scheduler.http.routes": [], "distributed.worker.profile.enabled": False}):
            scheduler = Scheduler(
                protocol="tls",
                security=self.security,
                host="127.0.0.1",
                dashboard=False,
                dashboard_address="127.0.0.1:0",  # by default a certain port, with a warning if that is taken
                # A worker is gone when its process has ended. One that is merely busy or stopped is not.
                worker_ttl=_NEVER_S,
                idle_timeout=_NEVER_S,
                local_directory=self._scratch,
                needs_workdir=False,
            )
        # Dask puts its folder before all others, for files that are uploaded to a scheduler.
        with suppress(ValueError):
            sys.path.remove(scheduler.local_directory)
        self._loop = asyncio.get_running_loop()
        async with scheduler:
            self._scheduler.set_result(scheduler)
            await self._stopping.wait()


class _Silencer:
    """Drops what Dask logs in the thread that made it; what the user's own code does with Dask is logged as ever."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._loggers: list[logging.Logger] = []

    def add(self) -> None:
        for name, logger in list(logging.root.manager.loggerDict.items()):
            if _LOGGERS.match(name) and isinstance(logger, logging.Logger):
                logger.addFilter(self.allows)
                self._loggers.append(logger)

    def remove(self) -> None:
        for logger in self._loggers:
            logger.removeFilter(self.allows)

    def allows(self, record: logging.LogRecord) -> bool:
        return record.thread != self._thread
