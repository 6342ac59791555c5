"""Runs no-op jobs through another queue, and prints the seconds for all of them as one JSON object.

    python others.py huey 2000 folder/
    python others.py celery 10000 folder/

Each does the least that its documentation shows: enqueue, take, run, and record as done, with its own defaults (huey's
don't wait for the disk at each commit, in its favour). All but Celery keep their work in SQLite. Celery has its broker
in memory and one solo worker, all in this process: the broker's work is in the figure, while the way to a broker of its
own, Redis or RabbitMQ, and that several workers share the tasks, are not.

If the library is missing, this exits with 3.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

MISSING = 3


def huey(count: int, folder: Path) -> float:
    """Return the seconds that huey's SqliteHuey takes."""
    queue: Any = import_module("huey").SqliteHuey(filename=str(folder / "huey.db"))

    @queue.task()  # type: ignore[untyped-decorator]
    def page(url: str) -> None:
        pass

    began = time.perf_counter()
    for _ in range(count):
        page("https://example.org/page")
    for _ in range(count):
        queue.execute(queue.dequeue())
    return time.perf_counter() - began


def persistqueue(count: int, folder: Path) -> float:
    """Return the seconds that persist-queue's SQLiteAckQueue takes."""
    queue: Any = import_module("persistqueue").SQLiteAckQueue(str(folder), auto_commit=True)
    began = time.perf_counter()
    for _ in range(count):
        queue.put("https://example.org/page")
    for _ in range(count):
        queue.ack(queue.get())
    seconds = time.perf_counter() - began
    queue.close()
    return seconds


def dbos(count: int, folder: Path) -> float:
    """Return the seconds that as many steps of one DBOS workflow take."""
    library: Any = import_module("dbos").DBOS
    library(config={"name": "bench", "system_database_url": f"sqlite:///{folder / 'dbos.db'}", "log_level": "ERROR"})

    @library.step()  # type: ignore[untyped-decorator]
    def page(url: str) -> None:
        pass

    @library.workflow()  # type: ignore[untyped-decorator]
    def site(steps: int) -> None:
        for _ in range(steps):
            page("https://example.org/page")

    library.launch()
    site(1)  # what is made on first use
    began = time.perf_counter()
    site(count)
    seconds = time.perf_counter() - began
    library.destroy()
    return seconds


def celery(count: int, folder: Path) -> float:
    """Return the seconds that Celery takes with its in-memory broker and one solo worker in the same process."""
    app: Any = import_module("celery").Celery("bench", broker="memory://")
    app.conf.update(task_ignore_result=True, worker_enable_remote_control=False)
    state: Any = import_module("celery.worker.state")
    ended: list[float] = []

    @app.task  # type: ignore[untyped-decorator]
    def page(url: str) -> None:
        ended.append(time.perf_counter())
        if len(ended) == count:
            state.should_stop = 0  # the exit status; the worker sees it some seconds later

    began = time.perf_counter()
    for _ in range(count):
        page.delay("https://example.org/page")
    app.WorkController(
        pool="solo", concurrency=1, without_gossip=True, without_mingle=True, without_heartbeat=True
    ).start()
    assert len(ended) == count
    return ended[-1] - began


LIBRARIES: dict[str, Callable[[int, Path], float]] = {
    "huey": huey,
    "persistqueue": persistqueue,
    "dbos": dbos,
    "celery": celery,
}


def main() -> None:
    """Measure the library that the command line names."""
    name, count, folder = sys.argv[1:]
    try:
        import_module(name)
    except ImportError:
        sys.exit(MISSING)
    print(json.dumps({"wall_s": LIBRARIES[name](int(count), Path(folder))}))


if __name__ == "__main__":
    main()
