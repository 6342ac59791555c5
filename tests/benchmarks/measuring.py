"""Runs the programs beside this file, and measures figures with them."""

import json
import os
import pty
import statistics
import struct
import subprocess
import sys
import termios
import threading
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path

from tests.benchmarks.figure import Figure
from tests.benchmarks.others import MISSING

HERE = Path(__file__).parent
TIMEOUT_S = 900  # for a program; the longest takes some minutes
# A new release of a library may break these: the other figures are measured all the same.
OTHERS = ("others.py", "crawl.py")


class NotInstalledError(Exception):
    """A library to compare with is not there; the message names it."""


class JobFailedError(Exception):
    """What runs other people's libraries did not do what it should; the message says which."""


def run_job(*arguments: str, program: str = "job.py") -> dict[str, float]:
    """Run `program` with standard error on a pseudo-terminal, and return what it printed.

    Raises:
        NotInstalledError: the program says that the library that it measures is missing.
        JobFailedError: it failed, and is one of those about others.
        SystemExit: another one failed.
    """
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    tail = bytearray()
    reader = threading.Thread(target=_read_all, args=(master, tail), daemon=True)
    reader.start()
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling anew is not what import time means
    with subprocess.Popen(
        [sys.executable, str(HERE / program), *arguments], stdout=subprocess.PIPE, stderr=slave, env=environment
    ) as process:
        os.close(slave)
        why = ""
        try:
            output, _ = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            why = f"took more than {TIMEOUT_S} s"
    reader.join(timeout=10)
    if program in OTHERS and process.returncode == MISSING:
        raise NotInstalledError(arguments[0].partition("-")[0])
    if process.returncode:
        why = why or f"ended with {process.returncode}"
        sys.stderr.write(tail.decode(errors="replace"))
        if program in OTHERS:
            raise JobFailedError(f"{program} {arguments[0]} {why}")
        raise SystemExit(f"{program} {' '.join(arguments)} {why}")
    cost: dict[str, float] = json.loads(output)
    return cost


def _read_all(master: int, tail: bytearray) -> None:
    """Read the terminal's output until its end, so that nobody waits for it, and keep the last of it."""
    try:
        while read := os.read(master, 1 << 16):
            tail += read
            del tail[:-4000]
    except OSError:  # the other end was closed
        pass
    os.close(master)


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


@dataclass(frozen=True)
class Measurement:
    """What came of measuring a figure.

    Attributes:
        figure: which one.
        values: the ratio or quantity of each round; none if it could not be measured.
        bases: the base of each round.
        left_out: why there are no values: what is not installed.
        failed: why there are no values: what went wrong.
    """

    figure: Figure
    values: tuple[float, ...] = ()
    bases: tuple[float, ...] = ()
    left_out: str = ""
    failed: str = ""

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.values)

    @property
    def base(self) -> float:
        """The median of the rounds' bases."""
        return statistics.median(self.bases)

    @property
    def missed(self) -> bool:
        """Whether the figure is beyond its limit, or could not be measured though all was there."""
        return bool(self.failed) or (bool(self.values) and self.figure.misses(self.median))


def measure(figure: Figure, rounds: int, folder: Path) -> Measurement:
    """Measure a figure so many times, with files in `folder`."""
    try:
        values, bases = zip(*(figure.measure(folder) for _ in range(rounds)), strict=True)
    except NotInstalledError as missing:
        return Measurement(figure, left_out=f"{missing} is not installed")
    except JobFailedError as failure:
        return Measurement(figure, failed=str(failure))
    return Measurement(figure, values, bases)
