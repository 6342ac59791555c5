"""What a journal costs."""

import shutil
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


def resume_cost(kind: str, name: str, folder: Path) -> tuple[float, float]:
    """Return the seconds or the MB that it takes to go on with a journal of 1,000,000 items, a tenth of them outstanding.

    `kind` is empty if they are the children of one item, and ``-flat`` if they are initial items.
    """
    prepared = folder / f"prepared{kind}.db"
    if not prepared.exists():
        recorded(f"prepare{kind}", M, prepared)
    path = folder / "resumed.db"
    shutil.copyfile(prepared, path)  # each round goes on from the same end
    return run_job(f"resume{kind}", str(M), str(path), program="recorded.py")[name], prepared.stat().st_size / 1e6


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
    " under *base*.",
    (
        Figure("1,000,000 items, with a journal / without", journal_ratio, 3, seconds=18),
        Figure(
            "longest stall of the loop while journalling", stall_ms, 20, seconds=10, unit="ms", base_unit="ms in the GC"
        ),
        *(
            figure
            for kind, what in (("", "children"), ("-flat", "initial items"))
            for figure in (
                Figure(
                    f"resume with 100,000 of 1,000,000 {what} left",
                    partial(resume_cost, kind, "wall_s"),
                    8,
                    seconds=12,
                    unit="s",
                    base_unit="MB",
                ),
                Figure(
                    f"the same with {what}, peak memory",
                    partial(resume_cost, kind, "peak_mb"),
                    600,
                    seconds=12,
                    unit="MB",
                    base_unit="MB",
                ),
            )
        ),
        Figure(
            "journal, bytes an item with a description",
            bytes_an_item,
            600,
            seconds=4,
            unit="bytes",
            base_unit="items",
        ),
        Figure("memory of 1,000,000 keys", keys_mb, 150, seconds=3, unit="MB", base_unit="keys"),
    ),
)
