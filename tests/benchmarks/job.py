"""Runs one job once, in this process, and prints what it cost as one JSON object on standard output.

    python job.py siblings 100000 --reporter none
    python job.py siblings 100000 --loop

`python tests/benchmarks` starts it; see there.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, ClassVar

import trio

import aqueue
from hand_written_loop import hand_written_loop


class Page:
    """An item that does nothing but say so."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def process(self, enqueue: aqueue.EnqueueFn, set_desc: aqueue.SetDescFn) -> None:
        set_desc(self.url)


class Site:
    """Enqueues `count` of what `make` makes."""

    def __init__(self, count: int, make: Callable[[str], Any]) -> None:
        self.count = count
        self.make = make

    async def process(self, enqueue: aqueue.EnqueueFn, set_desc: aqueue.SetDescFn) -> None:
        url = "https://example.org/page"
        for _ in range(self.count):
            enqueue(self.make(url))


class Link:
    """One link of a chain: enqueues the next."""

    def __init__(self, left: int) -> None:
        self.left = left

    async def process(self, enqueue: aqueue.EnqueueFn, set_desc: aqueue.SetDescFn) -> None:
        set_desc("https://example.org/page")
        if self.left:
            enqueue(Link(self.left - 1))


class SlowPage(Page):
    """An item that waits for 50 ms, as on a network."""

    takes_s: ClassVar[float] = 0.05

    async def process(self, enqueue: aqueue.EnqueueFn, set_desc: aqueue.SetDescFn) -> None:
        set_desc(self.url)
        await trio.sleep(self.takes_s)


class LongPage(SlowPage):
    """One that waits for 1 s."""

    takes_s = 1.0


class Talker:
    """An item that waits for 10 s in steps of 100 ms and says where it is at each."""

    async def process(self, enqueue: aqueue.EnqueueFn, set_desc: aqueue.SetDescFn) -> None:
        for step in range(100):
            set_desc(f"https://example.org/archive/page-{step}.html: {step * 12_345:,} bytes")
            await trio.sleep(0.1)


class Hoard:
    """Enqueues `count` items that share one object, and prints what a pending one costs beyond that object."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.bytes_an_item = 0.0

    async def process(self, enqueue: aqueue.EnqueueFn, set_desc: aqueue.SetDescFn) -> None:
        page = Page("https://example.org/page")
        await trio.sleep(0.3)
        gc.collect()
        before = _resident_bytes()
        for n in range(self.count):
            enqueue(page)
            if n % 10_000 == 0:
                await trio.sleep(0.002)
        await trio.sleep(1)  # the events have been handed on
        gc.collect()
        self.bytes_an_item = (_resident_bytes() - before) / self.count
        aqueue.stop("measured")


def _resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _initial_items(job: str, count: int) -> tuple[list[Any], int]:
    """Return the initial items and the number of workers."""
    match job:
        case "siblings":
            return [Site(count, Page)], 5
        case "chain":
            return [Link(count)], 5
        case "sleepers":
            return [Site(count, SlowPage)], 200
        case "crowd":
            return [Site(count, LongPage)], 5_000
        case "talkers":
            return [Talker() for _ in range(count)], count
        case "pending":
            return [Hoard(count)], 1
    raise SystemExit(f"no such job: {job}")


def _import_seconds(modules: str) -> float:
    code = f"import time; t = time.perf_counter(); import {modules}; print(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Run the job that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job")
    parser.add_argument("count", type=int, nargs="?", default=0)
    parser.add_argument("--loop", action="store_true", help="with the hand-written loop instead of aqueue")
    parser.add_argument("--reporter", default="none")
    parser.add_argument("--repeat", type=int, default=1, help="run it so many times in the same process")
    parser.add_argument("--modules", default="", help="for the job 'import'")
    arguments = parser.parse_args()
    if arguments.job == "import":
        print(json.dumps({"wall_s": _import_seconds(arguments.modules)}))
        return
    gc.collect()
    cpu = time.process_time()
    wall = time.perf_counter()
    items: list[Any] = []
    for _ in range(arguments.repeat):
        items, num_workers = _initial_items(arguments.job, arguments.count)
        if arguments.loop:
            trio.run(hand_written_loop, items, num_workers)
        else:
            aqueue.run_queue(items, num_workers=num_workers, reporter=arguments.reporter)
    cost = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    if arguments.job == "pending":
        cost["bytes_an_item"] = items[0].bytes_an_item
    print(json.dumps(cost))


if __name__ == "__main__":
    main()
