"""What a run came to."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from aqueue.events import Counts, ItemFailed, RunStatus

if TYPE_CHECKING:
    from aqueue.journal import ItemResult

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
        journal: the path of the file in which it is recorded, with symbolic links resolved; empty without a journal.
    """

    run_id: str
    status: RunStatus
    counts: Counts
    counts_by_type: dict[str, Counts]
    elapsed_s: float
    failures: tuple[ItemFailed, ...] = ()
    root_results: list[Any] = []
    stop_reason: str = ""
    journal: str = ""

    def iter_results(self) -> "Iterator[ItemResult]":
        """Yield the results of all items, initial or not, from the journal; see `aqueue.iter_results`.

        Raises:
            InvalidArgument: the run had no journal.
            JournalError: the file can't be read, or is gone; one of its subclasses says why.
        """
        from aqueue.journal import iter_results

        return iter_results(self.journal)
