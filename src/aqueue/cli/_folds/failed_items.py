"""The failures of a run that count in the end: those that a resume took up again don't."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeVar

from aqueue._folds.item_table import ItemTable
from aqueue._folds.outcome import FailureTally
from aqueue._history.history import History
from aqueue.events import Event, ItemFailed, ItemReopened
from aqueue.result import FailureGroup

__all__ = ["FailedItems", "chunks"]

_CHUNK: Final = 2_000
T = TypeVar("T")


def chunks(rows: Iterable[T], size: int = _CHUNK) -> Iterator[Sequence[T]]:
    """Yield `rows` in lists of `size`, the last of which may be shorter."""
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk


class FailedItems:
    """Counts failures by kind while the events go by. Bounded, however many there are."""

    def __init__(self) -> None:
        self._tally = FailureTally()
        self._is_exact = True

    def apply(self, events: Iterable[Event]) -> None:
        """Fold `events`, which must follow those applied so far."""
        for event in events:
            if type(event) is ItemFailed:
                self._tally.add(event)
            elif type(event) is ItemReopened and event.failed is not None:
                self._is_exact = False

    def groups(self, history: History, items: ItemTable) -> tuple[FailureGroup, ...]:
        """Return the failures of the items that are failed now, by kind, the most numerous first, at most 100 kinds.

        Parameters:
            history: from which all was read; read once more if failed items were run again.
            items: folded from the same events.
        """
        if self._is_exact:
            return self._tally.groups()
        tally = FailureTally()
        for failure in failures(history, items, items.rows_in(("failed",))):
            tally.add(failure)
        return tally.groups()


def failures(history: History, items: ItemTable, rows: Iterable[int]) -> Iterator[ItemFailed]:
    """Yield the failures of the items in `rows`, which have failed, read again from `history`."""
    for chunk in chunks(rows):
        found = history.events_at([items.failed_seq[row] for row in chunk])
        for row in chunk:
            event = found.get(items.failed_seq[row])
            if isinstance(event, ItemFailed):
                yield event
