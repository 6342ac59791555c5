"""The result of a run."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from aqueue.events import Counts, ItemFailed, Phase, RunStatus

if TYPE_CHECKING:
    from aqueue.journal import ItemResult

__all__ = ["MAX_LISTED_FAILURES", "FailureGroup", "RunResult"]

MAX_LISTED_FAILURES = 1_000
"""The most failures that a `RunResult` lists; `RunResult.counts.failed` is the number of all."""


class FailureGroup(msgspec.Struct, frozen=True):
    """Failures of the same kind: the same class of items, the same method, the same class of exceptions.

    Attributes:
        type: the class of the items, as ``module:qualname``.
        phase: the method that raised.
        error: the class of the exceptions, as ``module:qualname`` (builtins without the module).
        count: the exact number of items that failed in this way.
        first: the first of these failures. If that item was retried or skipped, and none of the others is among the
            `RunResult.failures`, it is still given as an example.
    """

    type: str
    phase: Phase
    error: str
    count: int
    first: ItemFailed


class RunResult(msgspec.Struct, frozen=True):
    """The result of a run.

    Attributes:
        run_id: the id of the run.
        status: ``completed``: every item succeeded or was skipped; ``failed``: at least one is failed at the end, which includes
            those that a person cancelled; ``interrupted``: it was stopped while items were outstanding.
        counts: the counts of items of all types together.
        counts_by_type: the same for each item type; the keys are ``module:qualname``.
        elapsed_s: how long the run took, seconds; the time between processes of a resumed run is not counted.
        failures: the `item.failed` events of items that are failed at the end, in their order: the first 1,000. Where more than
            that were failed at once, and some were retried or skipped, it may be fewer.
        failure_groups: the same failures by kind, the most numerous first: at most 100 of the first 1,000 kinds. The counts of
            these are exact, however many failures and kinds there are.
        root_results: the results of the initial items in their order, as decoded from JSON; None for an item without a
            result, and for one that was dropped as a duplicate. After a resume these are the initial items of the latest
            call. The list is empty if no initial item has a result.
        stop_reason: why the run was stopped before its end; empty if it wasn't.
        journal: the path of the journal, with symbolic links resolved; empty without a journal.
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

    def __repr__(self) -> str:
        """Return a short text: notebooks and prompts show it, and results can be long."""
        counts = self.counts
        figures = [
            f"{name}={value}"
            for name in ("completed", "failed", "skipped", "outstanding")
            if (value := getattr(counts, name))
        ]
        journal = [f"journal={self.journal!r}"] if self.journal else []
        return f"RunResult({', '.join([self.status, *figures, f'elapsed_s={self.elapsed_s:.3g}', *journal])})"

    def iter_results(self) -> "Iterator[ItemResult]":
        """Yield the results of all items, initial or not, from the journal; see `aqueue.iter_results`.

        Raises:
            InvalidArgument: the run had no journal.
            JournalError: the file can't be read, or is gone; one of its subclasses says why.
        """
        from aqueue.journal import iter_results

        return iter_results(self.journal)
