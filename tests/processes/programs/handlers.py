"""Compare the signal handlers before, during and after runs in many settings; print what is wrong, or OK."""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import anyio
import trio

from aqueue import EnqueueFn, Item, SetDescFn, async_run_queue, run_queue

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
during: dict[signal.Signals, Any] = {}
backend: Any = sys.argv[1]


class Look(Item):
    """Notes which handlers are installed while it runs."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        during.update({number: signal.getsignal(number) for number in NUMBERS})


class Nested(Item):
    """Runs a run in a thread."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await anyio.to_thread.run_sync(lambda: run_queue([Look()], reporter="none", backend=backend))


class Forks(Item):
    """Starts a process by fork and terminates it."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        # A fork of a process with threads, which Python 3.12 and newer warn of, is what is tested here.
        warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
        context = multiprocessing.get_context("fork")
        ready = context.Event()

        def wait() -> None:
            ready.set()
            time.sleep(60)

        child = context.Process(target=wait)
        child.start()
        await anyio.to_thread.run_sync(ready.wait)
        child.terminate()
        await anyio.to_thread.run_sync(child.join)
        assert child.exitcode == -signal.SIGTERM, child.exitcode


def mine(number: int, frame: object) -> None:
    """Stand for a handler of the user's own."""


def check(what: str, run: Callable[[], object], *, installs: bool) -> None:
    """Run, and compare."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    wakeup_fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup_fd)
    threads = threading.active_count()
    during.clear()
    run()
    after = {number: signal.getsignal(number) for number in NUMBERS}
    assert after == before, (what, before, after)
    assert signal.set_wakeup_fd(wakeup_fd) == wakeup_fd, what
    assert threading.active_count() <= max(threads, 1) + 1, (what, threading.enumerate())
    for number, handler in during.items():
        ignored = before[number] is signal.SIG_IGN
        same = handler == before[number] or "trio" in repr(handler) or "_on_sigint" in repr(handler)
        assert same is (ignored or not installs), (what, number, handler)


def in_thread(run: Callable[[], object]) -> None:
    """Run in another thread."""
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


async def in_loop(count: int = 1) -> None:
    """Run several runs at a time in a loop that is there already."""
    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(lambda: async_run_queue([Look()], reporter="none"))


def run() -> object:
    """Run with `run_queue`."""
    return run_queue([Look()], reporter="none", backend=backend)


def in_own_loop(count: int = 1) -> None:
    """Run with `async_run_queue`, in a loop made for it."""
    if backend == "trio":
        trio.run(in_loop, count)
    else:
        asyncio.run(in_loop(count))


check("as they are at first", run, installs=True)
for handler in (signal.default_int_handler, mine, signal.SIG_IGN, signal.SIG_DFL):
    for number in NUMBERS:
        signal.signal(number, handler)
    check(f"with {handler}", run, installs=True)
signal.signal(signal.SIGINT, signal.default_int_handler)
check("async_run_queue in the main thread", in_own_loop, installs=True)
check("two at a time in one loop", lambda: in_own_loop(2), installs=True)
check("run_queue in another thread", lambda: in_thread(run), installs=False)
check("async_run_queue in another thread", lambda: in_thread(in_own_loop), installs=False)
check("nested", lambda: run_queue([Nested()], reporter="none", backend=backend), installs=True)
check("forks", lambda: run_queue([Forks()], reporter="none", backend=backend), installs=True)
print("OK", os.getpid())
