"""What a run came to."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from aqueue.events import Counts, ItemFailed, Phase, RunStatus

if TYPE_CHECKING:
    from aqueue.journal import ItemResult

__all__ = ["MAX_LISTED_FAILURES", "FailureGroup", "RunResult"]

MAX_LISTED_FAILURES = 1_000
"""How many failures a `RunResult` lists; `RunResult.counts.failed` counts all."""


class FailureGroup(msgspec.Struct, frozen=True):
    """Failures of one kind: of one class of items, in one of its methods, by one type of error.

    Attributes:
        type: the class of the items, as ``module:qualname``.
        phase: which method raised.
        error: the exceptions' class, as ``module:qualname`` (builtins without the module).
        count: how many items failed so, exactly, however many there are.
        first: the first of these failures.
    """

    type: str
    phase: Phase
    error: str
    count: int
    first: ItemFailed


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
        failure_groups: the failures by kind, the most numerous first: at most 100 of the first 1,000 kinds that there
            were. With more kinds, the counts of those listed are exact all the same.
        root_results: the results of the initial items that the program gave, in their order, as JSON gives them back; None
            for one without a result, or that was dropped because its key was known. After a resume they are those of
            today's list. A run whose initial items all have none has an empty list.
        stop_reason: why the run was stopped before its end; empty if it was not.
        journal: the path of the file in which it is recorded, with symbolic links resolved; empty without a journal.
    """

    run_id: str
    status: RunStatus
    counts: Counts
    counts_by_type: dict[str, Counts]
    elapsed_s: float
    failures: tuple[ItemFailed, ...] = ()
    failure_groups: tuple[FailureGroup, ...] = ()
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
