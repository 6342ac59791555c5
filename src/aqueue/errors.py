"""The errors that aqueue raises. Each message says what happened, to what, and what to do.

AqueueError
├── InvalidArgument (ValueError)      an argument of run_queue, or of a reporter, that is not allowed
├── InvalidItem (TypeError)           an object that is not an item was enqueued
├── ItemsNotComparable (TypeError)    a priority queue got two items that `<` can't order
├── InvalidResult (TypeError)         an item returned what JSON can't carry
├── StrayCancellation                 an item was cancelled, and nobody had asked for it
├── MisplacedCall (RuntimeError)      a call outside the place where it works
├── ReporterError                     a reporter could not be opened
├── RecordedFailure                   stands for an item's exception that is no longer in memory
└── ItemFailures (ExceptionGroup)     items failed for good
"""

from collections.abc import Sequence
from typing import Self

from aqueue.events import ItemFailed
from aqueue.result import RunResult

__all__ = [
    "AqueueError",
    "InvalidArgument",
    "InvalidItem",
    "InvalidResult",
    "ItemFailures",
    "ItemsNotComparable",
    "MisplacedCall",
    "RecordedFailure",
    "ReporterError",
    "StrayCancellation",
]


class AqueueError(Exception):
    """The base of every error that aqueue itself raises."""


class InvalidArgument(AqueueError, ValueError):
    """An argument is not allowed; the message names it and what is."""


class InvalidItem(AqueueError, TypeError):
    """An object that is not an item was enqueued; the message names its class."""


class ItemsNotComparable(AqueueError, TypeError):
    """A priority queue got two items that ``<`` can't order; the message names both classes."""


class InvalidResult(AqueueError, TypeError):
    """An item returned what JSON can't carry; the message names the item's class."""


class StrayCancellation(AqueueError):
    """An item's code was cancelled although neither aqueue nor its caller had asked for that.

    On asyncio this comes of awaiting a task or future that somebody else had cancelled. The original is ``__cause__``.
    """


class MisplacedCall(AqueueError, RuntimeError):
    """A call was made outside the place where it works: `enqueue` after `process` had ended, say."""


class ReporterError(AqueueError):
    """A reporter could not be opened, and so the run was not begun."""


class RecordedFailure(AqueueError):
    """Stands for an item's exception that is no longer in memory: one after the first 100, or of an earlier process.

    Attributes:
        failure: the `item.failed` event.
    """

    def __init__(self, failure: ItemFailed) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        error = self.failure.error
        return f"item {self.failure.item} ({self.failure.type}): {error.type}: {error.message}"


class ItemFailures(AqueueError, ExceptionGroup[Exception]):
    """Items failed for good. The group holds their exceptions, each with a note that names the item.

    The first 100 are the original exceptions; up to 1,000 in all are listed, the rest as `RecordedFailure`.

    Attributes:
        result: what the run came to, with the number of all failures in ``result.counts.failed``.
    """

    result: RunResult

    def __new__(cls, message: str, exceptions: Sequence[Exception], result: RunResult) -> Self:
        """Return a group of `exceptions` that carries `result`."""
        group = super().__new__(cls, message, exceptions)
        group.result = result
        return group

    def __init__(self, message: str, exceptions: Sequence[Exception], result: RunResult) -> None:
        super().__init__(message, exceptions)

    def derive(self, excs: Sequence[Exception], /) -> "ItemFailures":  # type: ignore[override]  # not generic
        """Return a group of `excs` with the same message and result (as `split` and ``except*`` need it)."""
        return ItemFailures(self.message, excs, self.result)

    def __reduce__(self) -> tuple[type[Self], tuple[str, Sequence[Exception], RunResult]]:
        return type(self), (self.message, self.exceptions, self.result)
