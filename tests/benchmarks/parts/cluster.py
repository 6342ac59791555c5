"""What a run on a cluster costs."""

from pathlib import Path

from tests.benchmarks.figure import Figure, Part
from tests.benchmarks.measuring import run_job


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


CLUSTER = Part(
    "Runs on a cluster",
    "A Dask cluster of two worker processes on the same machine, with a journal. On two cores, they share these"
    " with the scheduler and with the coordinator, which is the process that calls `run_queue`. For the"
    " coordinator's own cost, the scheduler is in a separate process, and only the CPU time of the coordinator"
    " counts.",
    (
        Figure(
            "cluster of 2 processes, items with a journal",
            cluster_rate,
            4_000,
            seconds=8,
            unit="items/s",
            at_least=True,
        ),
        Figure(
            "2,000 items of 50 ms, 2 processes of 100 / ideal",
            cluster_waits,
            1.3,
            seconds=4,
            base_unit="times for the whole run",
        ),
        Figure(
            "the coordinator's own cost of an item",
            coordinator_cost,
            100,
            seconds=10,
            unit="µs of CPU",
            base_unit="items/s at most",
        ),
        Figure(
            "items that compute, 1 process / 2 processes",
            crunch_ratio,
            1.4,
            seconds=12,
            base_unit="s in 1 process",
            at_least=True,
        ),
    ),
)
