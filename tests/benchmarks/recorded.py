"""Runs one job with a journal once, in this process, and prints what it cost as one JSON object on standard output.

    python recorded.py leaves 1000000 run.db       # 1,000,000 items that do nothing, recorded; no file: not recorded
    python recorded.py leaves-flat 1000000 run.db  # the same, when all items are initial items
    python recorded.py stall 500000 run.db         # the longest time that the event loop did not come round
    python recorded.py prepare 1000000 run.db      # a run of which the last 100,000 are outstanding …
    python recorded.py resume 1000000 run.db       # … and how long it takes to go on with it
    python recorded.py prepare-killed 1000000 run.db # the same, but the process is killed there
    python recorded.py prepare-flat 1000000 run.db # the same two, when all items are initial items
    python recorded.py resume-flat 1000000 run.db
    python recorded.py bytes 200000 run.db         # how large the file is
    python recorded.py keys 1000000                # what the visited set takes
    python recorded.py steered 60000 run.db        # how soon commands from another process hold, at 10,000 items a second
    python recorded.py retried 300000 run.db       # how long it takes to retry a third of so many items, which have failed

`python tests/benchmarks` starts it; see there.
"""

import gc
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any, ClassVar, Literal

import trio

import aqueue
from aqueue.events import RunPaused, RunUnpaused, decode

BEAT_S = 0.002
SHORT_S = 0.01
SHORT_WORKERS = 120
FAST_S = 0.04
FAST_WORKERS = 100
COMMANDING = """
import json, sys, time
from aqueue import steering
time.sleep(1.5)  # until all leaves are enqueued, which blocks the loop
called = []
for _ in range(20):
    for verb in (steering.pause, steering.unpause):
        called.append((time.time(), verb(sys.argv[1]) and time.time()))
        time.sleep(0.1)
print(json.dumps(called))
"""
"""A program that pauses and unpauses a run, and says when it has called and when it had each answer."""

LEFT = 100_000
"""How many items are outstanding in a run that is prepared to be resumed."""


class Leaf(aqueue.Item):
    """An item that does nothing but say so."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def process(self, enqueue: aqueue.EnqueueFn, set_desc: aqueue.SetDescFn) -> None:
        set_desc("https://example.org/page")


class Site(aqueue.Item):
    """Enqueues `count` leaves, each with a payload of 60 bytes."""

    leaf: ClassVar[type[Leaf]] = Leaf

    def __init__(self, count: int) -> None:
        self.count = count

    async def process(self, enqueue: aqueue.EnqueueFn, set_desc: aqueue.SetDescFn) -> None:
        for number in range(self.count):
            enqueue(self.leaf(f"https://example.org/archive/page-{number:017}"))


class Branch(aqueue.Item):
    """Enqueues a tree of small fan-out, so that no `process` takes more than a millisecond."""

    def __init__(self, left: int) -> None:
        self.left = left

    async def process(self, enqueue: aqueue.EnqueueFn, set_desc: aqueue.SetDescFn) -> None:
        set_desc("https://example.org/page")
        if self.left > 1:
            share = max(self.left // 50, 1)
            for _ in range(min(50, self.left)):
                enqueue(Branch(share))


class LastLeft(Leaf):
    """A leaf that stops the run once all but the last 100,000 have completed."""

    todo = 0
    is_killed = False

    async def process(self, enqueue: aqueue.EnqueueFn, set_desc: aqueue.SetDescFn) -> None:
        cls = type(self)
        cls.todo -= 1
        if cls.todo == 0 and cls.is_killed:
            os.kill(os.getpid(), signal.SIGKILL)
        elif cls.todo == 0:
            aqueue.stop("prepared")
        elif cls.todo < 0:
            _report_start()
            aqueue.stop("measured")


def _leaves(cls: type[Leaf], count: int) -> Iterator[Leaf]:
    for number in range(count):
        yield cls(f"https://example.org/archive/page-{number:017}")


class Short(Leaf):
    """A leaf that takes 10 ms."""

    async def process(self, enqueue: aqueue.EnqueueFn, set_desc: aqueue.SetDescFn) -> None:
        await trio.sleep(SHORT_S)


class Shorts(Site):
    """Enqueues leaves that take 10 ms each, and has the run paused and unpaused by another process meanwhile."""

    leaf = Short


class Fast(Leaf):
    """A leaf that takes 40 ms: on 100 workers, these make 10,000 events per second."""

    async def process(self, enqueue: aqueue.EnqueueFn, set_desc: aqueue.SetDescFn) -> None:
        set_desc(self.url)
        await trio.sleep(FAST_S)


class Fasts(aqueue.Item):
    """Enqueues leaves as fast as they run."""

    def __init__(self, count: int) -> None:
        self.count = count

    async def process(self, enqueue: aqueue.EnqueueFn, set_desc: aqueue.SetDescFn) -> None:
        for number in range(self.count):
            enqueue(Fast(f"https://example.org/archive/page-{number:017}"))
            if number % 250 == 0:
                await trio.sleep(FAST_S * 250 / FAST_WORKERS)


class Refused(Leaf):
    """A leaf whose first attempt fails for every third."""

    count = 0
    failed = 0

    async def process(self, enqueue: aqueue.EnqueueFn, set_desc: aqueue.SetDescFn) -> None:
        cls = type(self)
        cls.count += 1
        if cls.count % 3 == 0 and aqueue.current().attempt == 1:
            cls.failed += 1
            raise ValueError("no price on the page")


class Refusing(Site):
    """Enqueues leaves of which a third fail."""

    leaf = Refused


class Waiting(aqueue.Item):
    """Ends once the failed items were retried."""

    async def process(self, enqueue: aqueue.EnqueueFn, set_desc: aqueue.SetDescFn) -> None:
        await aqueue.shared().wait()


class Prepared(Site):
    """Enqueues leaves that stop the run."""

    leaf = LastLeft


_called = 0.0
_started: dict[str, float] = {}


def _report_start() -> None:
    if not _started:
        _started["wall_s"] = time.perf_counter() - _called
        _started["peak_mb"] = _peak_bytes() / 1e6


def _peak_bytes() -> int:
    # What `getrusage` says includes the memory of the process that started this one.
    with open("/proc/self/status") as status:
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read())
    assert found is not None
    return int(found[1]) * 1024


def _resident_bytes() -> int:
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Heartbeat:
    """A task that finds out how long the loop keeps it waiting, less what the garbage collector took of that."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.gc_s = 0.0
        self._gc_began = 0.0

    @asynccontextmanager
    async def beating(self) -> AsyncGenerator[None, None]:
        """Beat while the run goes on."""
        gc.callbacks.append(self._on_gc)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._beat)
            yield
            nursery.cancel_scope.cancel()
        gc.callbacks.remove(self._on_gc)

    async def _beat(self) -> None:
        while True:
            before, gc_before = time.perf_counter(), self.gc_s
            await trio.sleep(BEAT_S)
            late_s = time.perf_counter() - before - BEAT_S - (self.gc_s - gc_before)
            self.longest_s = max(self.longest_s, late_s)

    def _on_gc(self, phase: Literal["start", "stop"], info: dict[str, int]) -> None:
        if phase == "start":
            self._gc_began = time.perf_counter()
        else:
            self.gc_s += time.perf_counter() - self._gc_began


def _run(items: Iterable[Any], journal: str | None, **options: Any) -> float:
    began = time.perf_counter()
    aqueue.run_queue(items, reporter="none", journal=journal, **options)
    return time.perf_counter() - began


def _steered(count: int, path: str | None) -> dict[str, float]:
    assert path is not None
    commands: list[subprocess.Popen[str]] = []

    @asynccontextmanager
    async def commanded() -> AsyncGenerator[None, None]:
        commands.append(subprocess.Popen([sys.executable, "-c", COMMANDING, path], stdout=subprocess.PIPE, text=True))
        yield

    _run([Shorts(count)], path, num_workers=SHORT_WORKERS, lifespan=commanded)
    called = json.loads(commands[0].communicate()[0])
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT event FROM events ORDER BY seq").fetchall()
    events = [event for (text,) in rows if (event := decode(text)) is not None]
    held = [event for event in events if isinstance(event, RunPaused | RunUnpaused)]
    paused_s = sum(after.at - before.at for before, after in zip(held[::2], held[1::2], strict=True))
    return {
        "effect_ms": max(event.at - began for event, (began, _) in zip(held, called, strict=True)) * 1e3,
        "answer_ms": max(ended - began for began, ended in called) * 1e3,
        "items_per_s": count / (events[-1].at - events[0].at - paused_s),
    }


def _retried(count: int, path: str | None) -> dict[str, float]:
    assert path is not None
    heart = Heartbeat()
    cost: dict[str, float] = {}

    async def retry(is_over: trio.Event) -> None:
        while Refused.failed < count // 3:
            await trio.sleep(0.1)
        await trio.sleep(1)  # until all of it is committed
        began = time.perf_counter()
        command = [sys.executable, "-m", "aqueue", "retry", path, "--state", "failed", "--yes", "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            heart.longest_s, gc_before_s = 0.0, heart.gc_s
            while process.poll() is None:
                await trio.sleep(0.01)
            assert process.stdout is not None
            answer = json.loads(process.stdout.read())
        assert answer["count"] == count // 3, answer
        cost.update(
            command_s=time.perf_counter() - began,
            stall_ms=heart.longest_s * 1e3,
            gc_ms=(heart.gc_s - gc_before_s) * 1e3,
        )
        is_over.set()

    @asynccontextmanager
    async def retrying() -> AsyncGenerator[trio.Event, None]:
        is_over = trio.Event()
        async with heart.beating(), trio.open_nursery() as nursery:
            nursery.start_soon(retry, is_over)
            yield is_over

    _run([Refusing(count), Waiting()], path, on_error="continue", lifespan=retrying)
    return cost


def measure(job: str, count: int, path: str | None) -> dict[str, float]:
    """Run the job and return what it cost."""
    global _called  # noqa: PLW0603  # items read it
    match job:
        case "leaves" | "leaves-flat":
            wall_s = _run([Site(count)] if job == "leaves" else _leaves(Leaf, count), path)
            return {"wall_s": wall_s, "cpu_s": time.process_time(), "peak_mb": _peak_bytes() / 1e6}
        case "stall":
            heart = Heartbeat()
            wall_s = _run([Branch(count)], path, lifespan=heart.beating)
            return {"wall_s": wall_s, "stall_ms": heart.longest_s * 1e3, "gc_ms": heart.gc_s * 1e3}
        case "prepare" | "prepare-flat":
            LastLeft.todo = count - LEFT
            return {"wall_s": _run([Prepared(count)] if job == "prepare" else _leaves(LastLeft, count), path)}
        case "prepare-killed" | "prepare-flat-killed":
            LastLeft.is_killed = True
            child = os.fork()
            if not child:
                measure(job.removesuffix("-killed"), count, path)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            return {}
        case "resume" | "resume-flat":
            _called = time.perf_counter()
            items: Iterable[Any] = [Prepared(count)] if job == "resume" else _leaves(LastLeft, count)
            aqueue.run_queue(items, reporter="none", resume=path)
            return _started
        case "steered":
            return _steered(count, path)
        case "retried":
            return _retried(count, path)
        case "fast":
            return {"wall_s": _run([Fasts(count)], path, num_workers=FAST_WORKERS)}
        case "bytes":
            assert path is not None
            _run([Site(count)], path)
            return {"bytes_an_item": os.path.getsize(path) / count}
        case "keys":
            from aqueue._codec.digests import KeySet

            before = _resident_bytes()
            keys = KeySet()
            for number in range(count):
                keys.add("recorded:Keyed", f"https://example.org/archive/page-{number:017}")
            return {"keys_mb": (_resident_bytes() - before) / 1e6, "count": len(keys)}
    raise SystemExit(f"no such job: {job}")


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)))
