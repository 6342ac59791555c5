"""Run the items that the first argument names, with the arguments of `run_queue` in the second (JSON).

Items are given as ``NAME`` or ``NAME*COUNT``, separated by commas. What the run raises or returns is marked.
"""

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import anyio
from marks import gate, mark

from aqueue import EnqueueFn, Item, SetDescFn, run_queue


class Counted(Item):
    """An item with a number of its class."""

    made: ClassVar[int] = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.name = f"{type(self).__name__}{type(self).made}"


class Gated(Counted):
    """Runs until the gate ``go`` is open; its hook until ``hook`` is."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        set_desc(f"waiting {self.name}")
        mark(f"started {self.name}")
        try:
            await gate("go")
        except BaseException as error:
            mark(f"cut {self.name} {type(error).__name__}")
            raise
        mark(f"ended {self.name}")

    async def after_children_processed(self) -> None:
        mark(f"hook {self.name}")


class GatedHook(Counted):
    """Its hook runs until the gate ``go`` is open."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        pass

    async def after_children_processed(self) -> None:
        mark(f"hook {self.name}")
        await gate("go")
        mark(f"hook ended {self.name}")


class Quick(Counted):
    """Does next to nothing."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        set_desc(self.name)
        await anyio.sleep(0.002)


class Endless(Counted):
    """Enqueues its like without end, so that the run is always between items."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        enqueue(Endless())
        if Endless.made == 50:
            mark("going")
        await anyio.sleep(0)


class Swallowing(Counted):
    """Doesn't let itself be cancelled."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        mark(f"started {self.name}")
        while True:
            try:
                await anyio.sleep(0.01)
            except BaseException:  # as bad code does
                time.sleep(0.01)  # not to burn the processor


class Shielded(Counted):
    """Shields itself."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        with anyio.CancelScope(shield=True):
            mark(f"started {self.name}")
            await gate("never")


class Sleeping(Counted):
    """Blocks the event loop in Python's own sleep."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        mark(f"started {self.name}")
        time.sleep(1_000)


class InC(Counted):
    """Blocks the event loop in a call in C that knows nothing of Python's signals."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        mark(f"started {self.name}")
        libc = ctypes.CDLL(None)
        mutex = ctypes.create_string_buffer(128)
        libc.pthread_mutex_init(mutex, None)
        libc.pthread_mutex_lock(mutex)
        libc.pthread_mutex_lock(mutex)  # we have it ourselves: this never returns


class Exits(Counted):
    """Raises SystemExit(3) once the gate ``go`` is open."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        mark(f"started {self.name}")
        await gate("go")
        raise SystemExit(3)


class Fails(Counted):
    """Fails at once."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        raise ValueError("on purpose")


class Flood(Counted):
    """Enqueues more than a stuck reader takes."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        mark("flooding")
        for number in range(1_000_000):
            set_desc(f"event {number} with a description of some length, to fill the terminal")
        mark("flooded")
        await anyio.sleep(0)


class Tree(Counted):
    """Has children and hooks, prints now and then, and is over after half a second or so."""

    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        self.depth = depth

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        set_desc(f"depth {self.depth}")
        if self.depth:
            for _ in range(4):
                enqueue(Tree(self.depth - 1))
        if Tree.made % 10 == 0:
            print("printed by an item")
        await anyio.sleep(0.01)

    async def after_children_processed(self) -> None:
        await anyio.sleep(0.001)


class Source(Counted):
    """Enqueues many quick items."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for _ in range(100_000):
            enqueue(Nothing())
        mark("made")


class Nothing(Item):
    """Does nothing."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        set_desc("nothing much")


def slowly() -> Iterator[Item]:
    """Yield items without end, one every 10 ms."""
    mark("consuming")
    while True:
        time.sleep(0.01)
        yield Nothing()


def stuck() -> Iterator[Item]:
    """Yield one item and then nothing, without an end."""
    yield Nothing()
    mark("consuming")
    time.sleep(1_000)


@asynccontextmanager
async def opening() -> AsyncIterator[None]:
    """Wait at the gate before the first item."""
    mark("entering")
    await gate("go")
    mark("entered")
    try:
        yield
    finally:
        mark("left")


@asynccontextmanager
async def closing() -> AsyncIterator[None]:
    """Wait at the gate after the last item."""
    try:
        yield
    finally:
        mark("leaving")
        await gate("go")
        mark("left")


@asynccontextmanager
async def with_tasks() -> AsyncIterator[None]:
    """Keep a task group open, and take a moment to leave, even after a cancellation of the items."""
    async with anyio.create_task_group():
        try:
            yield
        finally:
            await anyio.sleep(0.01)
            mark("left")


def items(words: str) -> Any:
    """Return the initial items."""
    if words in ("slowly", "stuck"):
        return globals()[words]()
    return [
        globals()[name]()
        for word in words.split(",")
        for name, _, count in [word.partition("*")]
        for _ in range(int(count or 1))
    ]


def main() -> None:
    """Run, and mark what came of it."""
    options = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    if "lifespan" in options:
        options["lifespan"] = globals()[options["lifespan"]]
    initial = items(sys.argv[1])
    mark("ready")
    try:
        result = run_queue(initial, **options)
    except BaseException as error:
        mark(f"raised {type(error).__name__} {error}".rstrip())
        raise
    else:
        mark(f"returned {result.status}")
    finally:
        # What signals do to an interpreter that ends is not what is tested.
        if "AQUEUE_TEST_DEAF_AT_END" in os.environ:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
        if "AQUEUE_TEST_PAUSES_AT_END" in os.environ:
            mark("over")
            anyio.run(gate, "end")


if __name__ == "__main__":
    main()
