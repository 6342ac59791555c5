"""Runs no-op jobs through another durable queue on SQLite, and prints the seconds for each as one JSON object.

    python others.py huey 2000 folder/

Each does the least that its documentation shows: enqueue, take, run, and record as done, with its own defaults (huey's
don't wait for the disk at each commit, in its favour). If the library is missing, this exits with 3.
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


LIBRARIES: dict[str, Callable[[int, Path], float]] = {"huey": huey, "persistqueue": persistqueue, "dbos": dbos}


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
