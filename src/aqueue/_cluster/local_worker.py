"""The program of a local worker process: runs one Dask worker until the process that started it ends."""

import asyncio
import logging
import os
import shutil
import signal
import sys
import threading
import time
from typing import Any, Final

__all__ = ["START", "main"]

START: Final = (
    "import io, json, sys; job = json.loads(io.FileIO(0, closefd=False).readline()); sys.path[:] = job.pop('path'); "
    "from aqueue._cluster.local_worker import main; main(**job)"
)
"""What Python is started with. It takes one line of JSON from standard input, and nothing that follows it."""

_DEATH_TIMEOUT_S: Final = 60


def main(address: str, scratch: str, security: dict[str, str]) -> None:
    """Run the worker; when standard input ends, the parent is gone: end at once, with all that items have started.

    Parameters:
        address: the scheduler's.
        scratch: a folder for files, which is removed if the parent is killed.
        security: what `distributed.Security` takes: the scheduler's certificate, the worker's own, and its key.
    """
    _end_with_parent(scratch)
    streams: Any = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        asyncio.run(_work(address, scratch, security))
        os._exit(0)  # a normal exit would wait for an item that is still running
    except (OSError, RuntimeError) as error:
        print(f"aqueue: a worker process could not join the scheduler at {address}: {error!r}", file=sys.stderr)  # noqa: T201
        os._exit(1)


async def _work(address: str, scratch: str, security: dict[str, str]) -> None:
    # Imported here, once the parent is being watched.
    import dask.config
    from distributed import Worker
    from distributed.security import Security

    for name in ("distributed", "distributed.client", "distributed.gc"):  # those that Dask gives a level of their own
        logging.getLogger(name).setLevel(logging.ERROR)
    # Unused: a worker's web pages, and its profile, which samples the stacks of all threads 100 times a second.
    dask.config.set({"distributed.worker.profile.enabled": False, "distributed.worker.http.routes": []})
    worker = await Worker(
        address,
        security=Security(require_encryption=True, **security),  # type: ignore[no-untyped-call]
        protocol="tls",
        nthreads=1,
        memory_limit=0,  # none,
        local_directory=scratch,
        host="127.0.0.1",
        dashboard=False,
        death_timeout=_DEATH_TIMEOUT_S,
    )
    await worker.finished()


def _end_with_parent(scratch: str) -> None:
    """Watch standard input, and put an empty one in its place for the items."""
    lifeline = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        while os.read(lifeline, 1):
            pass
        for _ in range(5):  # a parent that was killed can't; Dask and the other workers may be removing it, too
            shutil.rmtree(scratch, ignore_errors=True)
            time.sleep(0.01)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="aqueue-parent", daemon=True).start()
