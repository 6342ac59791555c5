"""What reporters cost."""

from functools import partial
from pathlib import Path

from tests.benchmarks.figure import Figure, Part
from tests.benchmarks.measuring import compare, run_job, siblings


def reporter_ratio(reporter: str, count: int, folder: Path) -> tuple[float, float]:
    """Return the ratio of `count` siblings with a reporter to those with none, and the latter's cost in microseconds."""
    return compare(siblings(count, "--reporter", reporter), siblings(count), count)


def jsonl_ratio(folder: Path) -> tuple[float, float]:
    """Return the same for the jsonl reporter, which writes to a file."""
    return reporter_ratio(f"jsonl:{folder / 'run.jsonl'}", 100_000, folder)


def sleepers_ratio(folder: Path) -> tuple[float, float]:
    """Return the ratio of items that wait, with the live display, to the same in the loop, and the latter's cost."""
    return compare(("sleepers", "20000", "--reporter", "rich"), ("sleepers", "20000", "--loop"), 20_000)


def crowd_s(folder: Path) -> tuple[float, float]:
    """Return how long 50,000 items of 1 s take 5,000 workers, with the live display, and how long at best, seconds."""
    return run_job("crowd", "50000", "--reporter", "rich")["wall_s"], 10


def talkers_cpu(folder: Path) -> tuple[float, float]:
    """Return the CPU time as a percentage of the wall time, and the wall time in seconds."""
    cost = run_job("talkers", "20", "--reporter", "rich")
    return 100 * cost["cpu_s"] / cost["wall_s"], cost["wall_s"]


REPORTERS = Part(
    "The reporters",
    "The same items with a reporter, compared with a run with `none`. The live display, `rich`, draws on a"
    " pseudo-terminal of 80 columns and 24 rows, which is read all the time.",
    (
        Figure("100,000 siblings, rich / none", partial(reporter_ratio, "rich", 100_000), 1.8, seconds=2.5),
        Figure("1,000,000 siblings, rich / none", partial(reporter_ratio, "rich", 1_000_000), 1.8, seconds=11),
        Figure("100,000 siblings, plain / none", partial(reporter_ratio, "plain", 100_000), 1.8, seconds=2.5),
        Figure("100,000 siblings, jsonl to a file / none", jsonl_ratio, 8, seconds=4),
        Figure("20,000 items of 50 ms, 200 workers, rich / loop", sleepers_ratio, 1.05, seconds=12),
        Figure("50,000 items of 1 s, 5,000 workers, rich", crowd_s, 10.6, seconds=12, unit="s", base_unit="s at best"),
        Figure(
            "CPU: 20 workers describe 10 times a second, rich",
            talkers_cpu,
            5,
            seconds=11,
            unit="% of a core",
            base_unit="s of wall time",
        ),
    ),
)
