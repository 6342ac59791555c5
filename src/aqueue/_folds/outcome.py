"""Folds a run's events into its failures by kind and a `RunResult`, for readers that have only the events."""

from collections.abc import Iterable, Sequence
from typing import Final, TypeGuard

from aqueue.events import Event, ItemFailed, ItemReopened, ItemSkipped, Phase, RunResumed, RunStopping
from aqueue.result import MAX_LISTED_FAILURES, FailureGroup, RunResult
from aqueue.view import RunView

__all__ = ["FailureTally", "FoldedResult"]


_MAX_GROUPS: Final = 100
_MAX_COUNTED_KINDS: Final = 1_000
"""How many kinds of failures are counted: each keeps an event with its traceback, of at most 30,000 characters."""


class FailureTally:
    """How many failures there were of each kind. Bounded, however many there are.

    Attributes:
        is_exact: whether all that were counted are still failed; False once a failed item runs again, or was skipped.
    """

    def __init__(self) -> None:
        self.is_exact = True
        self._firsts: dict[tuple[str, Phase, str], ItemFailed] = {}
        self._counts: dict[tuple[str, Phase, str], int] = {}

    def add(self, failure: ItemFailed) -> None:
        """Count one."""
        kind = (failure.type, failure.phase, failure.error.type)
        if kind in self._counts:
            self._counts[kind] += 1
        elif len(self._counts) < _MAX_COUNTED_KINDS:
            self._counts[kind] = 1
            self._firsts[kind] = failure

    def apply(self, events: Iterable[Event]) -> None:
        """Count the failures among `events`, which must follow those applied so far."""
        for event in events:
            if type(event) is ItemFailed:
                self.add(event)
            elif _takes_back(event):
                self.is_exact = False

    def groups(self) -> tuple[FailureGroup, ...]:
        """Return the kinds, the most numerous first, at most 100; of equally many the one that came first."""
        ranked = sorted(self._counts, key=self._counts.__getitem__, reverse=True)[:_MAX_GROUPS]
        return tuple(FailureGroup(*kind, self._counts[kind], self._firsts[kind]) for kind in ranked)


def _takes_back(event: Event) -> TypeGuard[ItemReopened | ItemSkipped]:
    """Return whether `event` says that an item that had failed has no longer."""
    return (type(event) is ItemReopened and event.failed is not None) or (
        type(event) is ItemSkipped and event.had_failed
    )


class FoldedResult:
    """Keeps what a `RunResult` has and a `RunView` lacks: the failures. Bounded, however many there are.

    The results of the initial items are not kept: a log doesn't have them.
    """

    def __init__(self) -> None:
        self._tally = FailureTally()
        self._listed: dict[int, ItemFailed] = {}  # by item
        self._stop_reason = ""  # the first of the last process; a view has the latest, which says what happens now

    def apply(self, events: Sequence[Event]) -> None:
        """Fold `events`, which must follow those applied so far."""
        for event in events:
            if type(event) is RunStopping:
                self._stop_reason = self._stop_reason or event.reason
            elif type(event) is RunResumed:
                self._stop_reason = ""
            elif type(event) is ItemFailed:
                self._tally.add(event)
                if len(self._listed) < MAX_LISTED_FAILURES:
                    self._listed[event.item] = event
            elif _takes_back(event):
                self._tally.is_exact = False
                self._listed.pop(event.item, None)

    def result(
        self, view: RunView, *, now: float | None = None, stop_reason: str | None = None, journal: str = ""
    ) -> RunResult:
        """Return the run's result; its status is ``interrupted`` if it has not ended.

        Once failed items have been run again, or skipped, the kinds are those of the listed failures. That is all of them, unless
        more than 1,000 items fail.

        Parameters:
            view: the same events, folded.
            now: Unix time in seconds, until which it took; None for that of the last event.
            stop_reason: why it was stopped, if its events don't say it.
            journal: the path of the file in which it is recorded.
        """
        tally = self._tally
        if not tally.is_exact:
            tally = FailureTally()
            tally.apply(self._listed.values())
        return RunResult(
            view.run_id,
            view.status or "interrupted",
            view.counts,
            {name: of_type.counts for name, of_type in view.types.items()},
            view.elapsed_s(view.at if now is None else now),
            tuple(self._listed.values()),
            tally.groups(),
            stop_reason=self._stop_reason if stop_reason is None else stop_reason,
            journal=journal,
        )
