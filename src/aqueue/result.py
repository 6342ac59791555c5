"""What a run came to."""

from typing import Any

import msgspec

from aqueue.events import Counts, ItemFailed, RunStatus

__all__ = ["MAX_LISTED_FAILURES", "RunResult"]

MAX_LISTED_FAILURES = 1_000
"""How many failures a `RunResult` lists; `RunResult.counts.failed` counts all."""


class RunResult(msgspec.Struct, frozen=True):
    """What a run came to.

    Attributes:
        run_id: names the run.
        status: ``completed``: every item succeeded; ``failed``: at least one failed for good; ``interrupted``: it was
            stopped while items were outstanding.
        counts: what the items came to, all types together.
        counts_by_type: the same for each item type; the keys are ``module:qualname``.
        elapsed_s: how long the run took, seconds; the time between processes of a resumed run is not counted.
        failures: the first 1,000 `item.failed` events, in their order.
        root_results: the results of the initial items, in their order, as JSON gives them back; None for one
            without a result. A run whose initial items all have none has an empty list.
        stop_reason: why the run was stopped before its end; empty if it was not.
    """

    run_id: str
    status: RunStatus
    counts: Counts
    counts_by_type: dict[str, Counts]
    elapsed_s: float
    failures: tuple[ItemFailed, ...] = ()
    root_results: list[Any] = []
    stop_reason: str = ""
