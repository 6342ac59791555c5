"""Counts the items that have failed for good, by kind, with an example of each kind."""

from array import array
from typing import Final

import msgspec

from aqueue.events import ItemFailed, Phase

__all__ = ["FailedItems", "FailureKind"]

_MAX_KINDS: Final = 1_000
"""How many kinds are counted: each keeps an event with its traceback, of at most 30,000 characters."""


class FailureKind(msgspec.Struct):
    """Failures of one type of items, in one of its methods, by one type of error.

    Attributes:
        type: the class of the items, as ``module:qualname``.
        phase: which method raised.
        error: the exceptions' class.
        example: one of these failures.
        count: how many items failed so, less those that were reopened.
        is_stale: whether the item of the example was reopened.
    """

    type: str
    phase: Phase
    error: str
    example: ItemFailed
    count: int = 0
    is_stale: bool = False


class FailedItems:
    """The items that have failed for good, by kind. An item that is reopened counts no more.

    `aqueue._folds.outcome.FailureTally` can take no failure back, as it keeps nothing per item.

    Attributes:
        kind_of: for each item, by its number, its kind's number from 1; 0 if it has not failed. Its owner lengthens it.
    """

    def __init__(self) -> None:
        self.kind_of = array("H", [0])
        self._kinds: list[FailureKind] = []
        self._numbers: dict[tuple[str, Phase, str], int] = {}
        self._others = 0

    def add(self, failure: ItemFailed) -> None:
        """Count one."""
        key = failure.type, failure.phase, failure.error.type
        number = self._numbers.get(key)
        if number is None:
            if len(self._kinds) == _MAX_KINDS:
                self._others += 1
                self.kind_of[failure.item] = _MAX_KINDS + 1
                return
            self._kinds.append(FailureKind(*key, failure))
            number = self._numbers[key] = len(self._kinds)
        kind = self._kinds[number - 1]
        kind.count += 1
        if kind.is_stale:
            kind.example = failure
            kind.is_stale = False
        self.kind_of[failure.item] = number

    def reopen(self, item: int) -> None:
        """Count the failure of `item` no more."""
        number = self.kind_of[item]
        self.kind_of[item] = 0
        if number > _MAX_KINDS:
            self._others -= 1
        elif number:
            kind = self._kinds[number - 1]
            kind.count -= 1
            kind.is_stale = kind.is_stale or kind.example.item == item

    @property
    def count(self) -> int:
        """How many items have failed."""
        return sum(kind.count for kind in self._kinds) + self._others

    def ranked(self) -> list[FailureKind]:
        """Return the kinds that still count, the most numerous first; of equals the one that came first."""
        return sorted((kind for kind in self._kinds if kind.count), key=lambda kind: -kind.count)
