"""Runs one job about a feature of items (a hook, retries, timeouts, groups) once, in this process, and prints what it cost as JSON.

    python policies.py policies 300000
    python policies.py groups-10 300000
    python policies.py harvest 9900

`python tests/benchmarks` starts it; see there.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import trio

import aqueue
from aqueue import Limit, Retry

HOSTS = 100
WORKERS = 20
PAGE_S = 0.02
SLOW_PAGE_S = 100 * PAGE_S


class Plain:
    """An item that does nothing but say so, of a class without policies."""

    def __init__(self, number: int) -> None:
        self.number = number

    async def process(self, enqueue: aqueue.EnqueueFn, set_desc: aqueue.SetDescFn) -> Any:
        set_desc("https://example.org/page")


class Silent(Plain):
    """One that doesn't even say so."""

    async def process(self, enqueue: aqueue.EnqueueFn, set_desc: aqueue.SetDescFn) -> None:
        pass


class WithResult(Plain):
    """One that returns something."""

    async def process(self, enqueue: aqueue.EnqueueFn, set_desc: aqueue.SetDescFn) -> Any:
        set_desc("https://example.org/page")
        return self.number


class WithKey(Plain):
    """One that exists once."""

    @property
    def key(self) -> str:
        return f"https://example.org/{self.number}"


class WithHook(Plain):
    """One with a hook."""

    async def after_children_processed(self) -> None:
        pass


class Retried(Plain):
    """One that would be tried again."""

    retry: ClassVar[Retry] = Retry()


class Timed(Plain):
    """One with a limit of time."""

    timeout_s: ClassVar[float] = 60.0


class Grouped(Plain):
    """One of 10 groups."""

    GROUPS: ClassVar[int] = 10

    @property
    def group(self) -> str:
        return f"host-{self.number % self.GROUPS}"


class ManyGroups(Grouped):
    """One of 100,000 groups."""

    GROUPS = 100_000


class WithAll(Retried, Timed, Grouped):
    """One with all of these."""


class Site:
    """Enqueues `count` of what `make` makes."""

    def __init__(self, count: int, make: Callable[[int], Any]) -> None:
        self.count = count
        self.make = make

    async def process(self, enqueue: aqueue.EnqueueFn, set_desc: aqueue.SetDescFn) -> None:
        for number in range(self.count):
            enqueue(self.make(number))


class HostPage:
    """A page of a host, which takes its time to answer.

    Attributes:
        busy_s: how long all pages together have been at work, seconds.
    """

    busy_s: ClassVar[float] = 0.0

    def __init__(self, host: int, takes_s: float) -> None:
        self.group = f"host-{host}"
        self.takes_s = takes_s

    async def process(self, enqueue: aqueue.EnqueueFn, set_desc: aqueue.SetDescFn) -> None:
        began = time.perf_counter()
        await trio.sleep(self.takes_s)
        HostPage.busy_s += time.perf_counter() - began


def harvest(count: int) -> Iterator[HostPage]:
    """Yield pages host by host and round by round: `count` of all but the first host, which is 100 times slower.

    That one has a tenth as many as each of the others: with two at a time it is at work nearly as long as the whole
    harvest takes at best, and whoever waits for it will be seen.
    """
    rounds = count // (HOSTS - 1)
    for number in range(rounds):
        if number < rounds // 10:
            yield HostPage(0, SLOW_PAGE_S)
        for host in range(1, HOSTS):
            yield HostPage(host, PAGE_S)


def measure(job: str, count: int) -> dict[str, float]:
    """Run the job and return what it cost."""
    began = time.perf_counter()
    if job == "harvest":
        pages = list(harvest(count))
        began = time.perf_counter()
        aqueue.run_queue(pages, num_workers=WORKERS, reporter="none", limits={"*": Limit(concurrent=2)})
        wall_s = time.perf_counter() - began
        ideal_s = sum(page.takes_s for page in pages) / WORKERS
        return {"wall_s": wall_s, "busy": HostPage.busy_s / (WORKERS * wall_s), "ideal": ideal_s / wall_s}
    classes: dict[str, Any] = {
        "plain": Plain,
        "silent": Silent,
        "result": WithResult,
        "key": WithKey,
        "hook": WithHook,
        "retry": Retried,
        "timeout": Timed,
        "groups-10": Grouped,
        "groups-100000": ManyGroups,
        "policies": WithAll,
    }
    aqueue.run_queue([Site(count, classes[job])], reporter="none", limits={"*": Limit(concurrent=4)})
    return {"wall_s": time.perf_counter() - began}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
