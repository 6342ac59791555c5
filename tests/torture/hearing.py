"""A lifespan by which the items of a worker process are heard of. Not in the program itself, which workers can't import."""

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from tests.journal.seeds import Did, tell, waits

__all__ = ["heard"]


@asynccontextmanager
async def heard(log: str) -> AsyncIterator[None]:
    """Have what the items of this process do be written to `log`, and them take some time."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def hear(what: Did, key: str) -> None:
        os.write(descriptor, f"{what} {key}\n".encode())

    with open(f"{log}.pids", "a") as pids:
        pids.write(f"{os.getpid()}\n")
    tell.append(hear)
    waits.append(lambda: anyio.sleep(random.choice([0.0, 0.001, 0.006])))
    try:
        yield
    finally:
        tell.remove(hear)
        waits.pop()
        os.close(descriptor)
