"""What the page of a run costs."""

import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import psutil

from tests.benchmarks.figure import Figure, Part
from tests.benchmarks.measuring import HERE, recorded

M = 1_000_000
WATCHED_S = 15.0
DEADLINE_S = 120.0  # for a page


@contextmanager
def _serving(path: Path) -> Iterator[tuple[psutil.Process, httpx.Client]]:
    """Run `aqueue serve`; yields the process, and a browser that has opened the printed address."""
    command = [sys.executable, "-m", "aqueue", "serve", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"(http://\S+)/enter\S+", process.stdout.readline())
        assert found is not None
        with httpx.Client(base_url=found[1], timeout=DEADLINE_S) as browser:
            browser.get(found[0])
            yield psutil.Process(process.pid), browser
        process.kill()


def first_paint_s(folder: Path) -> tuple[float, float]:
    """Return how long it takes from the command until the page of a run of 1,000,000 items is there, seconds, and its kB."""
    path = _large(folder)
    began = time.perf_counter()
    with _serving(path) as (_, browser):
        page = browser.get("/")
        return time.perf_counter() - began, len(page.content) / 1e3


def memory_mb(folder: Path) -> tuple[float, float]:
    """Return the memory of the server once it has read all of that run, MB, and how long that took, seconds."""
    path = _large(folder)
    began = time.perf_counter()
    with _serving(path) as (process, browser):
        while "are read" in browser.get("/").text:
            time.sleep(0.2)
        return process.memory_info().rss / 1e6, time.perf_counter() - began


def _large(folder: Path) -> Path:
    path = folder / f"prepared-{M}.db"
    if not path.exists():
        recorded("prepare", M, path)
    return path


_watched: list[tuple[float, float]] = []


def share_of_core(folder: Path) -> tuple[float, float]:
    """Return what a core spends on the page of a run that makes 10,000 events per second, %, and how many there were."""
    path = folder / "live.db"
    with subprocess.Popen([sys.executable, str(HERE / "recorded.py"), "fast", "200000", str(path)]) as run:
        while not path.exists():
            time.sleep(0.1)
        time.sleep(3)  # until it is in full swing
        with _serving(path) as (process, browser):
            while "are read" in browser.get("/").text:
                time.sleep(0.2)
            with browser.stream("GET", "/events/now", headers={"accept-encoding": "gzip"}) as stream:
                began, cpu_s, seq, sent = time.perf_counter(), _cpu_s(process), _last_seq(path), 0
                for part in stream.iter_raw():
                    sent += len(part)
                    if time.perf_counter() - began > WATCHED_S:
                        break
                took_s = time.perf_counter() - began
                share, per_second = (_cpu_s(process) - cpu_s) / took_s, (_last_seq(path) - seq) / took_s
        run.kill()
    for name in ("live.db", "live.db-wal", "live.db-shm", "live.db.lock"):
        (folder / name).unlink(missing_ok=True)
    assert per_second > 8_000, "the run was too slow to tell"
    _watched.append((sent / took_s / 1e3, per_second))
    return share * 100, per_second


def sent_kb(folder: Path) -> tuple[float, float]:
    """Return what a browser is sent of such a run, kB per second, and how many events per second there were."""
    if not _watched:
        share_of_core(folder)
    return _watched.pop()


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _last_seq(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT max(seq) FROM events").fetchone()[0])


SERVING = Part(
    "The page",
    "`aqueue serve` on a journal of 1,000,000 items, from the command to the page and until all that happened is read; and on a run"
    " that makes 10,000 events per second, with the view *now* in one browser.",
    (
        Figure("aqueue serve, 1,000,000 items, the first page", first_paint_s, 1, seconds=2, unit="s", base_unit="kB"),
        Figure("the same, memory", memory_mb, 200, seconds=15, unit="MB", base_unit="s until all is read"),
        Figure(
            "aqueue serve, 10,000 events/s, share of a core",
            share_of_core,
            10,
            seconds=25,
            unit="%",
            base_unit="events/s",
        ),
        Figure("the same, sent to a browser", sent_kb, 50, seconds=1, unit="kB/s", base_unit="events/s"),
    ),
)
