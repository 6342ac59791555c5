"""What the page of a run costs."""

import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import httpx
import psutil

from tests.benchmarks.figure import Figure, Part
from tests.benchmarks.measuring import HERE, recorded

M = 1_000_000
WATCHED_S = 15.0
DEADLINE_S = 120.0  # for a page


@contextmanager
def _serving(path: Path, cache: str = "") -> Iterator[tuple[psutil.Process, httpx.Client]]:
    """Run `aqueue serve`; yields the process, and a browser that has opened the printed address."""
    command = [sys.executable, "-m", "aqueue", "serve", str(path)]
    environment = os.environ | ({"XDG_CACHE_HOME": cache} if cache else {})
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
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


_indexed: list[tuple[float, float]] = []
_PATIENCE_S = 0.05


def index_s(folder: Path) -> tuple[float, float]:
    """Return how long it takes until the items of that run can be listed, seconds, and how many MB the index has.

    Then the same server lists them, and shows the run as it was.
    """
    _indexed.clear()
    with TemporaryDirectory() as cache, _serving(_large(folder), cache) as (_, browser):
        began = time.perf_counter()
        _until(browser, "/items", "The index is at")
        took_s = time.perf_counter() - began
        size_mb = sum(file.stat().st_size for file in Path(cache).rglob("*.db")) / 1e6
        _indexed.append(_times(browser, [f"/items?start={number}" for number in range(100_000, M, 50_000)]))
        _indexed.append((_until(browser, "/items?q=lighthouse", "are searched"), M))
        _indexed.append(_times(browser, [f"/?at={seq}" for seq in range(100_000, 2 * M, 100_000)]))
        return took_s, size_mb


def listed_ms(folder: Path) -> tuple[float, float]:
    """Return how long a page of 100 of these items takes, wherever it begins, ms, and the longest."""
    return _of_index(folder, 0)


def searched_s(folder: Path) -> tuple[float, float]:
    """Return how long it takes until all of these items are searched for a text that none has, seconds, and how many there are."""
    return _of_index(folder, 1)


def past_ms(folder: Path) -> tuple[float, float]:
    """Return how long it takes to show the run as it was after an event, ms, and the longest."""
    return _of_index(folder, 2)


def _of_index(folder: Path, place: int) -> tuple[float, float]:
    if not _indexed:
        index_s(folder)
    return _indexed[place]


def _times(browser: httpx.Client, paths: list[str]) -> tuple[float, float]:
    """Return the median and the longest time of these requests, ms."""
    took_ms = []
    for path in paths:
        began = time.perf_counter()
        assert "can't be read" not in browser.get(path).raise_for_status().text
        took_ms.append((time.perf_counter() - began) * 1e3)
    return median(took_ms), max(took_ms)


def _until(browser: httpx.Client, path: str, is_there: str) -> float:
    """Ask for a page until it no longer says something; return how long that took, seconds."""
    began = time.perf_counter()
    while is_there in (page := browser.get(path).text) or "are being read" in page:
        time.sleep(_PATIENCE_S)
    return time.perf_counter() - began


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
            "the same, until its items can be listed", index_s, 40, seconds=15, unit="s", base_unit="MB on the disk"
        ),
        Figure("a page of 100 of its items", listed_ms, 100, seconds=1, unit="ms", base_unit="ms at most"),
        Figure("a search in all of them, which finds nothing", searched_s, 5, seconds=1, unit="s", base_unit="items"),
        Figure("that run as it was after an event", past_ms, 200, seconds=1, unit="ms", base_unit="ms at most"),
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
