"""What a journal costs."""

import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from tests.benchmarks.figure import Figure, Part
from tests.benchmarks.measuring import recorded, run_job

M = 1_000_000


def journal_ratio(folder: Path) -> tuple[float, float]:
    """Return the ratio of a run with a journal to one without, and the latter's cost an item in microseconds."""
    base_s = recorded("leaves", M)["wall_s"]
    return recorded("leaves", M, folder / "run.db")["wall_s"] / base_s, base_s / M * 1e6


def stall_ms(folder: Path) -> tuple[float, float]:
    """Return the longest time that the loop kept a task waiting, milliseconds, and what garbage collection took in all."""
    cost = recorded("stall", 500_000, folder / "run.db")
    return cost["stall_ms"], cost["gc_ms"]


def _prepared(kind: str, count: int, folder: Path) -> Path:
    path = folder / f"prepared{kind}-{count}.db"
    if not path.exists():
        recorded(f"prepare{kind}", count, path)
    return path


def resume_cost(kind: str, end: str, name: str, folder: Path, count: int = M) -> tuple[float, float]:
    """Return the seconds or the MB that it takes to resume a journal of `count` items, 100,000 of them outstanding.

    Parameters:
        kind: empty if they are the children of one item, and ``-flat`` if they are initial items.
        end: empty if the process before was stopped, ``-killed`` if it was killed.
        name: ``wall_s`` or ``peak_mb``.
        folder: for the files.
        count: how many items.
    """
    prepared = _prepared(f"{kind}{end}", count, folder)
    path = folder / "resumed.db"
    for suffix in ("", "-wal"):  # each round begins with the same file, and with the log that a killed process leaves
        Path(f"{path}{suffix}").unlink(missing_ok=True)
        if Path(f"{prepared}{suffix}").exists():
            shutil.copyfile(f"{prepared}{suffix}", f"{path}{suffix}")
    return run_job(f"resume{kind}", str(count), str(path), program="recorded.py")[name], prepared.stat().st_size / 1e6


def command_s(words: tuple[str, ...], count: int, folder: Path) -> tuple[float, float]:
    """Return the seconds that a subcommand takes on a journal of `count` items, 100,000 of them outstanding, and its MB."""
    prepared = _prepared("", count, folder)
    began = time.perf_counter()
    command = [sys.executable, "-m", "aqueue", words[0], str(prepared), *words[1:]]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    assert done.returncode in (0, 3)  # `status` says by 3 that the run was interrupted
    return time.perf_counter() - began, prepared.stat().st_size / 1e6


def _command(line: str, count: int, most_s: float) -> Figure:
    """Return the figure of a subcommand with these words."""
    measure = partial(command_s, tuple(line.split()), count)
    return Figure(f"aqueue {line}, {count:,} items", measure, most_s, seconds=most_s, unit="s", base_unit="MB")


_backlogs: dict[str, dict[str, float]] = {}


def backlog_mb(kind: str, count: int, folder: Path) -> tuple[float, float]:
    """Return the most memory that a run with a journal takes whose items all wait at first, MB, and how long it took."""
    cost = _backlogs[kind] = recorded(f"leaves{kind}", count, folder / "run.db")
    return cost["peak_mb"], cost["wall_s"]


def backlog_ratio(kind: str, count: int, folder: Path) -> tuple[float, float]:
    """Return the ratio of the CPU times of an item of such a run and of one of 1,000,000, and the latter, microseconds.

    The run is the last one of which the memory was measured, if there is one: it takes minutes.
    """
    ours_s = (_backlogs.pop(kind, None) or recorded(f"leaves{kind}", count, folder / "run.db"))["cpu_s"] / count
    base_s = recorded(f"leaves{kind}", M, folder / "run.db")["cpu_s"] / M
    return ours_s / base_s, base_s * 1e6


def steered_ms(folder: Path) -> tuple[float, float]:
    """Return how long the slowest of 40 commands from another process took to hold, and to be answered, milliseconds."""
    cost = recorded("steered", 60_000, folder / "run.db")
    assert cost["items_per_s"] > 8_000, "the run was too slow to tell"
    return cost["effect_ms"], cost["answer_ms"]


_retries: list[dict[str, float]] = []


def retried_s(folder: Path) -> tuple[float, float]:
    """Return how long it took another process to select 100,000 failed items of 300,000 and have them retried, and how many."""
    cost = recorded("retried", 300_000, folder / "run.db")
    _retries.append(cost)
    return cost["command_s"], 100_000


def retried_stall_ms(folder: Path) -> tuple[float, float]:
    """Return the longest stall of the loop meanwhile, milliseconds, and what garbage collection took, which isn't in it."""
    cost = _retries.pop() if _retries else recorded("retried", 300_000, folder / "run.db")
    return cost["stall_ms"], cost["gc_ms"]


def bytes_an_item(folder: Path) -> tuple[float, float]:
    """Return the size of the file for each of its items, and how many there are."""
    count = 200_000
    return recorded("bytes", count, folder / "run.db")["bytes_an_item"], count


def keys_mb(folder: Path) -> tuple[float, float]:
    """Return the MB that a set of keys takes, and how many there are."""
    return recorded("keys", M)["keys_mb"], M


JOURNAL = Part(
    "The journal",
    "The items only set a description, and each has a URL of 60 characters as its payload. These figures depend on"
    " the disk. A stall is how long the event loop kept another task waiting, minus the time of garbage collection"
    " in it. Resuming is measured from the call of `run_queue` until the first item runs, on a file of the size"
    " under *base*. Commands come from another process, which pauses and unpauses a run of items of 10 ms on 120"
    " workers.",
    (
        Figure("1,000,000 items, with a journal / without", journal_ratio, 3, seconds=18),
        Figure(
            "longest stall of the loop while journalling", stall_ms, 20, seconds=10, unit="ms", base_unit="ms in the GC"
        ),
        *(
            figure
            for kind, what, most_s, killed_s in (("", "children", 1.0, 2.0), ("-flat", "initial items", 2.5, 3.5))
            for figure in (
                Figure(
                    f"resume with 100,000 of 1,000,000 {what} left",
                    partial(resume_cost, kind, "", "wall_s"),
                    most_s,
                    seconds=5,
                    unit="s",
                    base_unit="MB",
                ),
                Figure(
                    f"the same with {what}, peak memory",
                    partial(resume_cost, kind, "", "peak_mb"),
                    200,
                    seconds=5,
                    unit="MB",
                    base_unit="MB",
                ),
                Figure(
                    f"the same with {what}, after kill -9",
                    partial(resume_cost, kind, "-killed", "wall_s"),
                    killed_s,
                    seconds=7,
                    unit="s",
                    base_unit="MB",
                ),
            )
        ),
        _command("status", M, 0.7),
        _command("explain 950000", M, 1.5),
        _command("failures", M, 2),
        _command("report -o -", M, 4),
        _command("export --format csv", M, 15),
        Figure(
            "journal, bytes an item with a description",
            bytes_an_item,
            600,
            seconds=4,
            unit="bytes",
            base_unit="items",
        ),
        Figure(
            "aqueue.steering, 10,000 items/s, the slowest of 40 commands",
            steered_ms,
            100,
            seconds=14,
            unit="ms",
            base_unit="ms until its answer",
        ),
        Figure(
            "aqueue retry --state failed, 100,000 of 300,000 items",
            retried_s,
            5,
            seconds=20,
            unit="s",
            base_unit="items",
        ),
        Figure(
            "the same, longest stall of the run's loop",
            retried_stall_ms,
            20,
            seconds=1,
            unit="ms",
            base_unit="ms in the GC",
        ),
        Figure("memory of 1,000,000 keys", keys_mb, 150, seconds=3, unit="MB", base_unit="keys"),
    ),
)

LARGE_JOURNAL = Part(
    "Ten million items",
    "The same with more items. In the last four figures, nearly all items wait before the first of them runs, and"
    " all of them complete.",
    (
        *(
            Figure(
                f"resume with 100,000 of 5,000,000 children left{what}",
                partial(resume_cost, "", "", name, count=5 * M),
                most,
                seconds=50,
                unit=unit,
                base_unit="MB",
            )
            for what, name, most, unit in (("", "wall_s", 2, "s"), (", peak memory", "peak_mb", 300, "MB"))
        ),
        _command("status", 5 * M, 1),
        *(
            figure
            for kind, what in (("", "children"), ("-flat", "initial items"))
            for figure in (
                Figure(
                    f"10,000,000 waiting {what} with a journal, peak memory",
                    partial(backlog_mb, kind, 10 * M),
                    700,
                    seconds=200,
                    unit="MB",
                    base_unit="s in all",
                ),
                Figure(
                    f"the same, one of 10,000,000 {what} / of 1,000,000",
                    partial(backlog_ratio, kind, 10 * M),
                    1.3,
                    seconds=20,
                    base_unit="µs of CPU an item",
                ),
            )
        ),
    ),
)
