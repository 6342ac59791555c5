"""Measures what aqueue costs, as ratios: `make bench`, or `python tests/benchmarks [--rounds 5] [--only WORD]`.

Each figure is the median over several rounds. A round runs the two things to compare directly after each other, each
in a process of its own, so that a machine that slows down slows both. The rich display runs on a pseudo-terminal of
80 columns and 24 rows that is read all the time.

Figures about the journal depend on the disk. Those against other libraries are left out, and said to be, where one is
not installed.
"""

import argparse
import json
import os
import platform
import pty
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Callable
from dataclasses import dataclass
from fcntl import ioctl
from functools import partial
from pathlib import Path

from others import MISSING

HERE = Path(__file__).parent


class NotInstalledError(Exception):
    """A library to compare with is not there; the message names it."""


def run_job(*arguments: str, program: str = "job.py") -> dict[str, float]:
    """Run `program` with standard error on a pseudo-terminal, and return what it printed."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    reader = threading.Thread(target=_read_all, args=(master,), daemon=True)
    reader.start()
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling anew is not what import time means
    with subprocess.Popen(
        [sys.executable, str(HERE / program), *arguments], stdout=subprocess.PIPE, stderr=slave, env=environment
    ) as process:
        os.close(slave)
        output, _ = process.communicate()
    reader.join()
    if program == "others.py" and process.returncode == MISSING:
        raise NotInstalledError(arguments[0])
    if process.returncode:
        raise SystemExit(f"{program} {' '.join(arguments)} ended with {process.returncode}")
    cost: dict[str, float] = json.loads(output)
    return cost


def _read_all(master: int) -> None:
    try:
        while os.read(master, 1 << 16):
            pass
    except OSError:  # the other end was closed
        pass
    os.close(master)


@dataclass
class Figure:
    """One row: what is measured against what, and what it should stay below."""

    name: str
    measure: Callable[[], tuple[float, float]]  # a ratio or quantity, and the base of the ratio
    limit: float
    unit: str = "times"
    base_unit: str = "µs an item"
    at_least: bool = False  # then `limit` is what it should reach


def compare(ours: tuple[str, ...], base: tuple[str, ...], items: int, base_items: int = 0) -> tuple[float, float]:
    """Return the ratio of the costs an item, and the base's cost an item in microseconds."""
    base_s = run_job(*base)["wall_s"] / (base_items or items)
    ours_s = run_job(*ours)["wall_s"] / items
    return ours_s / base_s, base_s * 1e6


def siblings(count: int, *options: str) -> tuple[str, ...]:
    """Return the arguments for `count` siblings."""
    return ("siblings", str(count), *options)


def recorded(job: str, count: int, *path: Path) -> dict[str, float]:
    """Run a job of `recorded.py`; a journal that is named last is made anew."""
    if path:
        path[0].unlink(missing_ok=True)
    return run_job(job, str(count), *map(str, path), program="recorded.py")


def journal_ratio(folder: Path) -> tuple[float, float]:
    """Return the ratio of a run with a journal to one without, and the latter's cost an item in microseconds."""
    count = 1_000_000
    base_s = recorded("leaves", count)["wall_s"]
    return recorded("leaves", count, folder / "run.db")["wall_s"] / base_s, base_s / count * 1e6


def other_ratio(library: str, folder: Path) -> tuple[float, float]:
    """Return how many times as long `library` takes for an item, and our cost an item in microseconds."""
    count, others_count = 1_000_000, 2_000
    with tempfile.TemporaryDirectory(dir=folder) as theirs:
        others_s = run_job(library, str(others_count), theirs, program="others.py")["wall_s"] / others_count
    ours_s = recorded("leaves", count, folder / "run.db")["wall_s"] / count
    return others_s / ours_s, ours_s * 1e6


def stall_ms(folder: Path) -> tuple[float, float]:
    """Return the longest time that the loop kept a task waiting, milliseconds, and what garbage collection took in all."""
    cost = recorded("stall", 500_000, folder / "run.db")
    return cost["stall_ms"], cost["gc_ms"]


def resume_cost(folder: Path, kind: str, name: str) -> tuple[float, float]:
    """Return the seconds or the MB that it takes to go on with a journal of 1,000,000 items, a tenth of them outstanding.

    `kind` is empty if they are the children of one item, and ``-flat`` if they are initial items.
    """
    count = 1_000_000
    prepared = folder / f"prepared{kind}.db"
    if not prepared.exists():
        recorded(f"prepare{kind}", count, prepared)
    path = folder / "resumed.db"
    shutil.copyfile(prepared, path)  # each round goes on from the same end
    return run_job(f"resume{kind}", str(count), str(path), program="recorded.py")[name], prepared.stat().st_size / 1e6


def journal_figures(folder: Path) -> list[Figure]:
    """Return the part of the table that is about the journal."""
    m = 1_000_000
    return [
        Figure("1,000,000 items, with a journal / without", lambda: journal_ratio(folder), 3),
        *(
            Figure(
                f"{name} / an item with a journal",
                partial(other_ratio, module, folder),
                30,
                base_unit="µs an item of ours",
                at_least=True,
            )
            for name, module in (
                ("huey, SqliteHuey", "huey"),
                ("persist-queue, SQLiteAckQueue", "persistqueue"),
                ("DBOS, a step on SQLite", "dbos"),
            )
        ),
        Figure("longest stall of the loop while journalling", lambda: stall_ms(folder), 20, "ms", "ms in the GC"),
        *(
            figure
            for kind, what in (("", "children"), ("-flat", "initial items"))
            for figure in (
                Figure(
                    f"resume with 100,000 of 1,000,000 {what} left",
                    partial(resume_cost, folder, kind, "wall_s"),
                    8,
                    "s",
                    "MB",
                ),
                Figure("the same, peak memory", partial(resume_cost, folder, kind, "peak_mb"), 600, "MB", "MB"),
            )
        ),
        Figure(
            "journal, bytes an item with a description",
            lambda: (recorded("bytes", 200_000, folder / "run.db")["bytes_an_item"], 200_000),
            600,
            "bytes",
            "items",
        ),
        Figure("memory of 1,000,000 keys", lambda: (recorded("keys", m)["keys_mb"], m), 150, "MB", "keys"),
    ]


def policies_ratio(job: str, base: str) -> tuple[float, float]:
    """Return the ratio of the costs of 300,000 items in two jobs of `policies.py`, and the base's in microseconds."""
    count = 300_000
    base_s, ours_s = (run_job(one, str(count), program="policies.py")["wall_s"] for one in (base, job))
    return ours_s / base_s, base_s / count * 1e6


def harvest_share() -> tuple[float, float]:
    """Return how much of the workers' time was spent in items, %, and the ratio of the shortest time to the real, %."""
    cost = run_job("harvest", "9900", program="policies.py")
    return 100 * cost["busy"], 100 * cost["ideal"]


def policies_figures() -> list[Figure]:
    """Return the part of the table that is about retries, timeouts and groups."""
    return [
        Figure(
            f"300,000 items with {what} / plain ones",
            partial(policies_ratio, job, "plain"),
            limit,
        )
        for what, job, limit in (
            ("retry", "retry", 1.3),
            ("timeout_s", "timeout", 5),
            ("group, limited", "groups-10", 2.5),
            ("all three", "policies", 6.5),
        )
    ] + [
        Figure("300,000 items, 10,000 groups / 10 groups", partial(policies_ratio, "groups-10000", "groups-10"), 1.5),
        Figure(
            "100 hosts, 2 at a time, one 100 times slower",
            harvest_share,
            95,
            "% busy",
            "% of the ideal speed",
            at_least=True,
        ),
    ]


def on_cluster(job: str, count: int, folder: Path) -> dict[str, float]:
    """Run a job of `on_cluster.py` with a new journal."""
    path = folder / "cluster.db"
    path.unlink(missing_ok=True)
    return run_job(job, str(count), str(path), program="on_cluster.py")


def cluster_rate(folder: Path) -> tuple[float, float]:
    """Return how many items a second a cluster of two processes runs, and the cost of one in microseconds."""
    count = 40_000
    wall_s = on_cluster("noop", count, folder)["wall_s"]
    return count / wall_s, wall_s / count * 1e6


def cluster_waits(folder: Path) -> tuple[float, float]:
    """Return the ratio of the time from the first item's start to the last one's end to the ideal, and of the whole run."""
    cost = on_cluster("sleepers", 2_000, folder)
    ideal_s = 2_000 / 200 * 0.05
    return cost["items_s"] / ideal_s, cost["wall_s"] / ideal_s


def coordinator_cost(folder: Path) -> tuple[float, float]:
    """Return the CPU time of the coordinator for an item, in microseconds, and how many items a second that allows."""
    count = 40_000
    cpu_us = on_cluster("coordinator", count, folder)["cpu_s"] / count * 1e6
    return cpu_us, 1e6 / cpu_us


def crunch_ratio(folder: Path) -> tuple[float, float]:
    """Return how many times as fast items that compute run in two processes, and the seconds in one."""
    here_s = on_cluster("crunch-here", 1_000, folder)["wall_s"]
    return here_s / on_cluster("crunch", 1_000, folder)["wall_s"], here_s


def cluster_figures(folder: Path) -> list[Figure]:
    """Return the part of the table that is about runs on a cluster."""
    return [
        Figure(
            "cluster of 2 processes, items with a journal",
            lambda: cluster_rate(folder),
            4_000,
            "items/s",
            at_least=True,
        ),
        Figure(
            "2,000 items of 50 ms, 2 processes of 100 / ideal",
            lambda: cluster_waits(folder),
            1.3,
            base_unit="the whole run",
        ),
        Figure(
            "the coordinator's own cost of an item",
            lambda: coordinator_cost(folder),
            100,
            "µs of CPU",
            "items/s at most",
        ),
        Figure(
            "items that compute, 1 process / 2 processes",
            lambda: crunch_ratio(folder),
            1.4,
            base_unit="s",
            at_least=True,
        ),
    ]


def figures(log: str) -> list[Figure]:
    """Return the table."""
    k, m = 100_000, 1_000_000
    jsonl = ("--reporter", f"jsonl:{log}")
    with_rich, with_plain, loop = ("--reporter", "rich"), ("--reporter", "plain"), ("--loop",)
    return [
        Figure("100,000 siblings, none / hand-written loop", lambda: compare(siblings(k), siblings(k, *loop), k), 5),
        Figure("1,000,000 siblings, none / hand-written loop", lambda: compare(siblings(m), siblings(m, *loop), m), 5),
        Figure("100,000 siblings, rich / none", lambda: compare(siblings(k, *with_rich), siblings(k), k), 1.8),
        Figure("1,000,000 siblings, rich / none", lambda: compare(siblings(m, *with_rich), siblings(m), m), 1.8),
        Figure("100,000 siblings, plain / none", lambda: compare(siblings(k, *with_plain), siblings(k), k), 1.8),
        Figure("100,000 siblings, jsonl to a file / none", lambda: compare(siblings(k, *jsonl), siblings(k), k), 8),
        # One short run is mostly start-up, which would flatter the long one: so a hundred, one after the other.
        Figure(
            "an item of 1,000,000 / of 10,000 (100 times)",
            lambda: compare(siblings(m), siblings(10_000, "--repeat", "100"), m, m),
            1.3,
        ),
        Figure(
            "an item of a chain 100,000 deep / of siblings", lambda: compare(("chain", str(k)), siblings(k), k), 1.3
        ),
        Figure(
            "20,000 items of 50 ms, 200 workers, rich / loop",
            lambda: compare(("sleepers", "20000", *with_rich), ("sleepers", "20000", *loop), 20_000),
            1.05,
        ),
        Figure("CPU: 20 workers describe 10 times a second, rich", talkers_cpu, 5, "% of a core", "s of wall time"),
        Figure("memory a pending item", pending_bytes, 250, "bytes", "items"),
        Figure("import aqueue / import trio, anyio, msgspec", import_ratio, 1.2, "times", "ms"),
    ]


def talkers_cpu() -> tuple[float, float]:
    """Return the CPU time as a percentage of the wall time, and the wall time in seconds."""
    cost = run_job("talkers", "20", "--reporter", "rich")
    return 100 * cost["cpu_s"] / cost["wall_s"], cost["wall_s"]


def pending_bytes() -> tuple[float, float]:
    """Return the resident bytes that a pending item costs beyond the user's object, and over how many."""
    count = 1_000_000
    return run_job("pending", str(count), "--reporter", "plain")["bytes_an_item"], count


def import_ratio() -> tuple[float, float]:
    """Return the ratio of the import times, and the base in milliseconds."""
    base_s = run_job("import", "--modules", "trio, anyio, msgspec")["wall_s"]
    ours_s = run_job("import", "--modules", "aqueue")["wall_s"]
    return ours_s / base_s, base_s * 1e3


def main() -> None:
    """Measure and print the table; exit with 1 if a figure is beyond its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each figure is measured (default 5)")
    parser.add_argument("--only", default="", help="only figures whose name contains this")
    arguments = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.platform()}")
    print(f"median of {arguments.rounds} rounds (lowest to highest)\n")
    above = 0
    with tempfile.TemporaryDirectory() as folder:
        for figure in [
            *figures(str(Path(folder) / "run.jsonl")),
            *policies_figures(),
            *journal_figures(Path(folder)),
            *cluster_figures(Path(folder)),
        ]:
            if arguments.only not in figure.name:
                continue
            try:
                values, bases = zip(*(figure.measure() for _ in range(arguments.rounds)), strict=True)
            except NotInstalledError as missing:
                print(f"{figure.name:52}  left out: {missing} is not installed (`make bench` tries to)", flush=True)
                continue
            median = statistics.median(values)
            missed = median < figure.limit if figure.at_least else median > figure.limit
            above += missed
            print(
                f"{figure.name:52} {median:8.2f} {figure.unit:11} {'at least' if figure.at_least else 'at most'} "
                f"{figure.limit:<5g} "
                f"({min(values):.2f} to {max(values):.2f}; base {statistics.median(bases):,.2f} {figure.base_unit})"
                f"{'  MISSED' if missed else ''}",
                flush=True,
            )
    if above:
        raise SystemExit(f"{above} beyond the limit")


if __name__ == "__main__":
    main()
