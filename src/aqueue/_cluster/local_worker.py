"""The program of a local worker process: runs one Dask worker until the process that started it ends."""

import asyncio
import io
import json
import logging
import os
import shutil
import signal
import sys
import threading
from contextlib import suppress
from typing import Final, NoReturn

__all__ = ["main"]

_DEATH_TIMEOUT_S: Final = 60
_FLUSH_PATIENCE_S: Final = 0.1


def main() -> None:
    """Run the worker; the arguments are the scheduler's address, a folder for scratch files, and PYTHONPATH as it was.

    Standard input is a pipe, by which the parent sends the scheduler's certificate, its own, and its key, as one line of
    JSON, and which it holds open then. When that reaches its end the parent is gone, or wants this process gone, and it
    ends at once: the running item, whatever that started, and all.
    """
    address, scratch, *python_path = sys.argv[1:]
    credentials = _read_line()
    _end_with_parent(scratch)
    # It holds the parent's whole `sys.path`, on which the programs that items start would choke if they are of another
    # Python; for them it is again what the user set, if anything.
    os.environ.pop("PYTHONPATH", None)
    if python_path:
        os.environ["PYTHONPATH"] = python_path[0]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # there is an encoding to agree on, and a line is worth showing at once
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    try:
        asyncio.run(_work(address, scratch, json.loads(credentials)))
    except (OSError, RuntimeError) as error:
        print(f"a worker of aqueue's could not join the scheduler at {address}: {error!r}", file=sys.stderr)  # noqa: T201
        _exit(1)


def _read_line() -> bytes:
    """Return the first line of standard input, and take nothing that follows it."""
    line = b""
    while not line.endswith(b"\n"):
        character = os.read(0, 1)
        if not character:
            os._exit(1)  # there is no parent any more
        line += character
    return line


async def _work(address: str, scratch: str, credentials: list[str]) -> None:
    # Only now: while Dask is imported, the parent is watched already.
    import dask.config
    from distributed import Worker
    from distributed.security import Security

    for name in ("distributed", "distributed.client", "distributed.gc"):  # those that Dask gives a level of their own
        logging.getLogger(name).setLevel(logging.ERROR)
    # Nobody sees the profile, for which the stacks of all threads would be taken 100 times a second; nor is there
    # anyone to read a worker's pages.
    dask.config.set({"distributed.worker.profile.enabled": False, "distributed.worker.http.routes": []})
    ca, certificate, key = credentials
    security = Security(  # type: ignore[no-untyped-call]
        require_encryption=True, tls_ca_file=ca, tls_worker_cert=certificate, tls_worker_key=key
    )
    worker = await Worker(
        address,
        security=security,
        protocol="tls",
        nthreads=1,
        memory_limit=0,  # none,
        local_directory=scratch,
        host="127.0.0.1",
        dashboard=False,
        death_timeout=_DEATH_TIMEOUT_S,
    )
    await worker.finished()
    _exit(0)


def _end_with_parent(scratch: str) -> None:
    """Watch standard input, and put an empty one in its place, lest an item that reads it takes its end away."""
    lifeline = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        while os.read(lifeline, 1):
            pass
        shutil.rmtree(scratch, ignore_errors=True)  # a parent that was killed can't
        _flush()
        shutil.rmtree(scratch, ignore_errors=True)  # a worker that was just being made may have made it again
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, name="aqueue-parent", daemon=True).start()


def _exit(code: int) -> NoReturn:
    """End the process without the interpreter's own end, which would wait for an item that is still running."""
    _flush()
    os._exit(code)


def _flush() -> None:
    """Hand over what was printed without a newline, if that is quick.

    It may take for good, if the parent reads no more, or if a thread has the stream's lock that waits for the parent.
    """

    def flush() -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()

    flushing = threading.Thread(target=flush, daemon=True)
    flushing.start()
    flushing.join(_FLUSH_PATIENCE_S)


if __name__ == "__main__":
    main()
