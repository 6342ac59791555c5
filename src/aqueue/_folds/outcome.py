"""Folds a run's events into its failures by kind and a `RunResult`, for readers that have only the events."""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from aqueue._stream.error_info import CANCELLED
from aqueue.events import Event, ItemFailed, ItemReopened, ItemSkipped, Phase, RunResumed, RunStopping
from aqueue.result import MAX_LISTED_FAILURES, FailureGroup, RunResult
from aqueue.view import RunView

__all__ = ["FailureTally", "FoldedResult", "num_cancelled"]


_MAX_GROUPS: Final = 100
_MAX_COUNTED_KINDS: Final = 1_000
"""How many kinds of failures are counted: each keeps an event with its traceback, of at most 30,000 characters."""

_KindName = tuple[str, Phase, str]
"""The class of the items, the method that raised, the class of the exceptions."""


class _Kind(msgspec.Struct, eq=False):
    """The failures of one kind: how many, one for an example, and those that are listed, by item."""

    name: _KindName
    count: int
    example: ItemFailed
    listed: dict[int, ItemFailed]

    @property
    def first(self) -> ItemFailed:
        return next(iter(self.listed.values()), self.example)


class FailureTally:
    """The items that are failed: how many of each kind, and a list of at most 1,000.

    An item that is retried or skipped leaves it. For that, about 100 bytes per failed item are kept.
    """

    def __init__(self) -> None:
        self._kinds: dict[_KindName, _Kind] = {}
        self._other_kinds: _Kind | None = None  # those beyond the ones that are counted
        self._kind_of: dict[int, _Kind] = {}  # by item
        self._num_listed = 0

    def add(self, failure: ItemFailed) -> None:
        """Count one. It is listed if there is room."""
        name = (failure.type, failure.phase, failure.error.type)
        kind = self._kinds.get(name)
        if kind is None:
            if len(self._kinds) < _MAX_COUNTED_KINDS:
                kind = self._kinds[name] = _Kind(name, 0, failure, {})
            else:
                kind = self._other_kinds = self._other_kinds or _Kind(name, 0, failure, {})
        elif self._kind_of.get(kind.example.item) is not kind:
            kind.example = failure
        kind.count += 1
        self._kind_of[failure.item] = kind
        if self._num_listed < MAX_LISTED_FAILURES:
            self._num_listed += 1
            kind.listed[failure.item] = failure

    def remove(self, item: int) -> None:
        """Take back the failure of an item, which will run again or was skipped; one that isn't failed is ignored."""
        kind = self._kind_of.pop(item, None)
        if kind is None:
            return
        kind.count -= 1
        self._num_listed -= kind.listed.pop(item, None) is not None
        if not kind.count and kind is not self._other_kinds:
            del self._kinds[kind.name]

    def apply(self, events: Iterable[Event]) -> None:
        """Count the failures among `events`, which must follow those applied so far, and take back what runs again."""
        for event in events:
            if type(event) is ItemFailed:
                self.add(event)
            elif (type(event) is ItemReopened and event.failed is not None) or (
                type(event) is ItemSkipped and event.had_failed
            ):
                self.remove(event.item)

    @property
    def has_all_examples(self) -> bool:
        """Whether the example of each kind is still failed.

        It isn't if it was taken back, and the others of its kind are beyond the 1,000 that are listed. Then it stays the example
        until another failure comes.
        """
        return all(self._kind_of.get(kind.first.item) is kind for kind in self._kinds.values())

    @property
    def listed(self) -> tuple[ItemFailed, ...]:
        """Those that are listed, at most 1,000, in their order."""
        kinds = [*self._kinds.values(), *([self._other_kinds] if self._other_kinds else [])]
        return tuple(sorted((one for kind in kinds for one in kind.listed.values()), key=lambda one: one.seq))

    def groups(self) -> tuple[FailureGroup, ...]:
        """Return the kinds, the most numerous first, at most 100; of equally many the one that came first."""
        ranked = sorted(self._kinds.values(), key=lambda kind: (-kind.count, kind.first.seq))[:_MAX_GROUPS]
        return tuple(FailureGroup(*kind.name, kind.count, kind.first) for kind in ranked)


def num_cancelled(groups: Iterable[FailureGroup]) -> int:
    """Return how many of these failures are of items that a person has cancelled: no resume runs them again."""
    return sum(group.count for group in groups if group.error == CANCELLED)


class FoldedResult:
    """Keeps what a `RunResult` has and a `RunView` lacks: the failures. See `FailureTally` for what it takes.

    The results of the initial items are not kept: a log doesn't have them.
    """

    def __init__(self) -> None:
        self._tally = FailureTally()
        self._stop_reason = ""  # the first of the last process; a view has the latest, which says what happens now

    def apply(self, events: Sequence[Event]) -> None:
        """Fold `events`, which must follow those applied so far."""
        self._tally.apply(events)
        for event in events:
            if type(event) is RunStopping:
                self._stop_reason = self._stop_reason or event.reason
            elif type(event) is RunResumed:
                self._stop_reason = ""

    def result(
        self, view: RunView, *, now: float | None = None, stop_reason: str | None = None, journal: str = ""
    ) -> RunResult:
        """Return the run's result; its status is ``interrupted`` if it has not ended.

        Parameters:
            view: the same events, folded.
            now: Unix time in seconds, until which it took; None for that of the last event.
            stop_reason: why it was stopped, if its events don't say it.
            journal: the path of the file in which it is recorded.
        """
        return RunResult(
            view.run_id,
            view.status or "interrupted",
            view.counts,
            {name: of_type.counts for name, of_type in view.types.items()},
            view.elapsed_s(view.at if now is None else now),
            self._tally.listed,
            self._tally.groups(),
            stop_reason=self._stop_reason if stop_reason is None else stop_reason,
            journal=journal,
        )
