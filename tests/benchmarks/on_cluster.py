"""Runs one job on a Dask cluster of two worker processes on this machine, and prints what it cost as JSON.

    python on_cluster.py noop 40000 run.db
    python on_cluster.py sleepers 2000 run.db
    python on_cluster.py coordinator 40000 run.db
    python on_cluster.py crunch 400 run.db
    python on_cluster.py crunch-here 400 run.db

The scheduler is in this process, as with `cluster="local:2"`, except for ``coordinator``: there it is in one of its own,
so that the CPU time of this process is the coordinator's alone. `python tests/benchmarks` starts it; see there.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import anyio

from aqueue import EnqueueFn, Item, RunResult, SetDescFn, run_queue
from aqueue.events import Event, ItemCompleted, ItemStarted
from aqueue.reporting import ReporterSpec, RunInfo
from aqueue.view import RunView

WORKERS = 100
SLEEP_S = 0.05


class Noop(Item):
    """Does nothing."""

    def __init__(self, number: int) -> None:
        self.number = number

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        pass


class Sleeper(Noop):
    """Waits."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await anyio.sleep(SLEEP_S)


class Cruncher(Noop):
    """Computes for about 10 ms."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        sum(number * number for number in range(150_000))


class Index(Item):
    """Enqueues all the others."""

    def __init__(self, kind: str, count: int) -> None:
        self.kind = kind
        self.count = count

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        cls = {"noop": Noop, "coordinator": Noop, "sleepers": Sleeper, "crunch": Cruncher}[self.kind]
        for number in range(self.count):
            enqueue(cls(number))


class Times:
    """Notes when the first item but the root was started, and when the last ended."""

    def __init__(self) -> None:
        self.uses_terminal = False
        self.first = self.last = 0.0

    def open(self, run: RunInfo) -> None:
        pass

    def close(self, result: RunResult) -> None:
        pass

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        for event in events:
            if isinstance(event, ItemStarted) and event.item > 1:
                self.first = self.first or event.at
            elif isinstance(event, ItemCompleted) and event.item > 1:
                self.last = event.at


def run(kind: str, count: int, path: str, cluster: str | None, workers: int = WORKERS) -> dict[str, float]:
    """Run the job, and return its costs."""
    times = Times()
    reporter: ReporterSpec = times if kind == "sleepers" else "none"
    cpu_s = time.process_time()
    result = run_queue(
        [Index(kind, count)],
        num_workers=workers,
        journal=path,
        reporter=reporter,
        cluster=cluster,
    )
    cpu_s = time.process_time() - cpu_s
    return {"wall_s": result.elapsed_s, "cpu_s": cpu_s, "items_s": times.last - times.first}


@contextmanager
def own_scheduler() -> Iterator[str]:
    """Run a scheduler and two workers in processes of their own; give the scheduler's address."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    options = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    worker = ["-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny", *options]
    commands = [["-m", "distributed.cli.dask_scheduler", "--port", str(port), *options], worker, worker]
    processes = [
        subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in commands
    ]
    try:
        from distributed import Client

        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError):
                client: Any = Client(address)  # type: ignore[no-untyped-call]
                with client:
                    client.wait_for_workers(2, timeout=30)
                break
            if time.monotonic() > deadline:
                raise SystemExit("the scheduler does not start")
        yield address
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main(kind: str, count: int, path: str) -> dict[str, float]:
    """Run one job, and return its costs."""
    jobs: dict[str, Callable[[], dict[str, float]]] = {
        "noop": lambda: run(kind, count, path, "local:2"),
        "sleepers": lambda: run(kind, count, path, "local:2"),
        "crunch": lambda: run(kind, count, path, "local:2", 10),
        "crunch-here": lambda: run("crunch", count, path, None, 10),
    }
    if kind == "coordinator":
        with own_scheduler() as address:
            return run(kind, count, path, address)
    return jobs[kind]()


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
