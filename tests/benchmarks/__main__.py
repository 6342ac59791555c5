"""Measures what aqueue costs, as ratios: `make bench`, or `python tests/benchmarks [--rounds 5] [--only WORD]`.

Each figure is the median over several rounds. A round runs the two things to compare directly after each other, each
in a process of its own, so that a machine that slows down slows both. The rich display runs on a pseudo-terminal of
80 columns and 24 rows that is read all the time.
"""

import argparse
import json
import os
import platform
import pty
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
from pathlib import Path

HERE = Path(__file__).parent


def run_job(*arguments: str) -> dict[str, float]:
    """Run `job.py` with standard error on a pseudo-terminal, and return what it printed."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    reader = threading.Thread(target=_read_all, args=(master,), daemon=True)
    reader.start()
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling anew is not what import time means
    with subprocess.Popen(
        [sys.executable, str(HERE / "job.py"), *arguments], stdout=subprocess.PIPE, stderr=slave, env=environment
    ) as process:
        os.close(slave)
        output, _ = process.communicate()
    reader.join()
    if process.returncode:
        raise SystemExit(f"job.py {' '.join(arguments)} ended with {process.returncode}")
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


def compare(ours: tuple[str, ...], base: tuple[str, ...], items: int, base_items: int = 0) -> tuple[float, float]:
    """Return the ratio of the costs an item, and the base's cost an item in microseconds."""
    base_s = run_job(*base)["wall_s"] / (base_items or items)
    ours_s = run_job(*ours)["wall_s"] / items
    return ours_s / base_s, base_s * 1e6


def siblings(count: int, *options: str) -> tuple[str, ...]:
    """Return the arguments for `count` siblings."""
    return ("siblings", str(count), *options)


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
    """Measure and print the table; exit with 1 if a figure is above its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each figure is measured (default 5)")
    parser.add_argument("--only", default="", help="only figures whose name contains this")
    arguments = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.platform()}")
    print(f"median of {arguments.rounds} rounds (lowest to highest)\n")
    above = 0
    with tempfile.TemporaryDirectory() as folder:
        for figure in figures(str(Path(folder) / "run.jsonl")):
            if arguments.only not in figure.name:
                continue
            values, bases = zip(*(figure.measure() for _ in range(arguments.rounds)), strict=True)
            median = statistics.median(values)
            above += median > figure.limit
            print(
                f"{figure.name:52} {median:8.2f} {figure.unit:11} at most {figure.limit:<5g} "
                f"({min(values):.2f} to {max(values):.2f}; base {statistics.median(bases):,.2f} {figure.base_unit})"
                f"{'  ABOVE' if median > figure.limit else ''}",
                flush=True,
            )
    if above:
        raise SystemExit(f"{above} above the limit")


if __name__ == "__main__":
    main()
