"""What the features of items cost: hooks and keys, retries, timeouts and groups."""

from functools import partial
from pathlib import Path

from tests.benchmarks.figure import Figure, Part
from tests.benchmarks.measuring import run_job


def policies_ratio(job: str, base: str, folder: Path) -> tuple[float, float]:
    """Return the ratio of the costs of 300,000 items in two jobs of `policies.py`, and the base's in microseconds."""
    count = 300_000
    base_s, ours_s = (run_job(one, str(count), program="policies.py")["wall_s"] for one in (base, job))
    return ours_s / base_s, base_s / count * 1e6


def harvest_share(folder: Path) -> tuple[float, float]:
    """Return how much of the workers' time was spent in items, %, and the ratio of the shortest time to the real, %."""
    cost = run_job("harvest", "9900", program="policies.py")
    return 100 * cost["busy"], 100 * cost["ideal"]


FEATURES = Part(
    "What a feature adds",
    "300,000 items that only set a description, compared with items that use one feature more, or one less.",
    tuple(
        Figure(f"300,000 items {what} / plain ones", partial(policies_ratio, job, "plain"), None, seconds=3)
        for what, job in (
            ("that don't describe themselves", "silent"),
            ("with a result", "result"),
            ("with a key", "key"),
            ("with a hook", "hook"),
        )
    ),
)

POLICIES = Part(
    "Retries, timeouts and limits",
    "Items that only set a description, of a class with a policy, compared with those of a class without. Nothing"
    " fails or times out: the figures show what the policy costs when it isn't needed. In the last one, 100 hosts"
    " have a group each, and one of them takes 2 s per page while the others take 20 ms.",
    (
        *(
            Figure(f"300,000 items with {what} / plain ones", partial(policies_ratio, job, "plain"), limit, seconds)
            for what, job, limit, seconds in (
                ("retry", "retry", 1.15, 3),
                ("timeout_s", "timeout", 1.4, 3),
                ("group, limited", "groups-10", 1.9, 4),
                ("all three", "policies", 2.2, 4),
            )
        ),
        Figure(
            "300,000 items, 100,000 groups / 10 groups",
            partial(policies_ratio, "groups-100000", "groups-10"),
            1.5,
            seconds=5,
        ),
        Figure(
            "100 hosts, 2 at a time, one 100 times slower",
            harvest_share,
            95,
            seconds=12,
            unit="% busy",
            base_unit="% of the ideal speed",
            at_least=True,
        ),
    ),
)
