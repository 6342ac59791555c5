"""Items of the cluster's tests, in a module of their own, which the workers import."""

import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio

import aqueue
from aqueue import EnqueueFn, Item, SetDescFn

__all__ = ["Leaf", "Poison", "Root", "Tied", "note"]


def note(log: str, line: str) -> None:
    """Write a line to a file, at once and whole."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


class Leaf(Item):
    """Takes `seconds` once there is a file called `gate`, if one is named, and notes that it began and ended."""

    def __init__(self, number: int, log: str, seconds: float = 0.05, gate: str = "") -> None:
        self.number = number
        self.log = log
        self.seconds = seconds
        self.gate = gate

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
        note(self.log, f"begins {self.number} {os.getpid()}")
        set_desc(f"leaf {self.number}")
        while self.gate and not os.path.exists(self.gate):
            await anyio.sleep(0.01)
        await anyio.sleep(self.seconds)
        note(self.log, f"ends {self.number} {os.getpid()}")
        return self.number


class Root(Item):
    """Has `count` leaves, of which those after the first 50 wait at the `gate`, and adds up what they return.

    The last one waits at `last_gate`, if one is named.
    """

    def __init__(self, count: int, log: str, seconds: float = 0.05, gate: str = "", last_gate: str = "") -> None:
        self.count = count
        self.log = log
        self.seconds = seconds
        self.gate = gate
        self.last_gate = last_gate

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for number in range(self.count):
            gate = self.last_gate if number == self.count - 1 else self.gate if number >= 50 else ""
            enqueue(Leaf(number, self.log, self.seconds, gate))

    async def after_children_processed(self) -> int:
        note(self.log, f"hook {os.getpid()}")
        return sum(aqueue.child_results())


class Poison(Item):
    """Kills its process."""

    def __init__(self, log: str) -> None:
        self.log = log

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        note(self.log, f"poison {os.getpid()}")
        await anyio.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)


class Tied(Item):
    """Says what it finds where it runs."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> dict[str, Any]:
        return {"pid": os.getpid(), "shared": aqueue.shared()}


@asynccontextmanager
async def lifespan() -> AsyncIterator[int]:
    """Yield the process's number."""
    yield os.getpid()


def pids(log: str) -> set[int]:
    """Return the processes that have run leaves."""
    with suppress(FileNotFoundError):
        return {int(line.split()[2]) for line in Path(log).read_text().splitlines() if line.startswith("begins")}
    return set()


def wait_for(log: str, count: int, timeout_s: float = 30.0) -> None:
    """Wait until `count` leaves have ended."""
    deadline = time.monotonic() + timeout_s
    while not os.path.exists(log) or Path(log).read_text().count("ends ") < count:
        assert time.monotonic() < deadline, f"{count} leaves have not ended"
        time.sleep(0.01)
