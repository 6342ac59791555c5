"""The errors that aqueue raises. Each message says what happened, to what, and what to do.

AqueueError
├── InvalidArgument (ValueError)      an argument of run_queue, or of a reporter, that is not allowed
├── InvalidItem (TypeError)           an object that is not an item was enqueued
├── ItemsNotComparable (TypeError)    a priority queue got two items that `<` can't order
├── InvalidResult (TypeError)         an item returned what JSON can't carry
├── StrayCancellation                 an item was cancelled, and nobody had asked for it
├── MisplacedCall (RuntimeError)      a call outside the place where it works
├── ReporterError                     a reporter could not be opened
├── ClusterError                      a cluster can't be used, or was lost
├── JournalError                      the journal could not be read or written
│   ├── JournalExists                 a new run was to be journalled in a file that has something in it
│   ├── JournalLocked                 another run is writing the journal
│   ├── NotAJournal                   the file is something else, or has what aqueue didn't put there
│   ├── JournalTooNew                 a newer aqueue wrote it
│   └── JournalDamaged                it is a journal, but a part of it is missing or unreadable
├── PoisonItem                        an item that crashed the process three times in a row
├── RemoteError                       stands for an exception of a worker's that could not be sent
├── RecordedFailure                   stands for an item's exception that is no longer in memory
├── ItemFailures (ExceptionGroup)     items failed for good
├── UnstorableItem (TypeError)        an item has state that the journal can't store exactly
├── UnsendableItem (TypeError)        an item has state, or is of a class, that can't be sent to another process
├── UnknownItemType (LookupError)     the journal names a class that this program doesn't have
└── PayloadMismatch (ValueError)      a recorded item can't be restored by today's class
"""

from collections.abc import Sequence
from typing import Self

from aqueue.events import ItemFailed
from aqueue.result import RunResult
from aqueue.text import visible

__all__ = [
    "AqueueError",
    "ClusterError",
    "InvalidArgument",
    "InvalidItem",
    "InvalidResult",
    "ItemFailures",
    "ItemsNotComparable",
    "JournalDamaged",
    "JournalError",
    "JournalExists",
    "JournalLocked",
    "JournalTooNew",
    "MisplacedCall",
    "NotAJournal",
    "PayloadMismatch",
    "PoisonItem",
    "RecordedFailure",
    "RemoteError",
    "ReporterError",
    "StrayCancellation",
    "UnknownItemType",
    "UnsendableItem",
    "UnstorableItem",
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


class ClusterError(AqueueError):
    """The cluster can't be used, was lost, or one of its worker processes can't run items; the message says why."""


class JournalError(AqueueError):
    """The journal could not be opened, read or written; the message names the file, the cause and what to do.

    What was committed before stays in the file.
    """


class JournalExists(JournalError):
    """A new run was to be journalled in a file that is not empty; it was left as it is."""


class JournalLocked(JournalError):
    """Another run is writing the journal; the message names its process and machine."""


class NotAJournal(JournalError):
    """The file is not a journal, or its schema has something that aqueue didn't put there; it was left as it is."""


class JournalTooNew(JournalError):
    """A newer aqueue wrote the journal; it was left as it is."""


class JournalDamaged(JournalError):
    """A part of the journal is missing or can't be read; the message names it."""


class PoisonItem(AqueueError):
    """An item was the only one running in three crashes of the process in a row, and was not run again.

    When the run has ended and is resumed, it is tried once more: alone and before all others. If it ends the process again,
    it fails so again.
    """


class RemoteError(AqueueError):
    """Stands for an exception that an item raised on a worker and that could not be sent; its message says which.

    Its class was not found in the program, for instance. It has the traceback and the notes of the original.
    """


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
        return f"item {self.failure.item} ({self.failure.type}): {error.type}: {visible(error.message, 1_000)}"


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


class UnstorableItem(AqueueError, TypeError):
    """An item has state that the journal can't store and restore exactly.

    The message names its class, the attribute and the ways to mend it.
    """


class UnsendableItem(AqueueError, TypeError):
    """An item has state, or is of a class, that can't be sent to another process, as a run on a cluster needs it.

    The message names its class, the attribute and the ways to mend it.
    """


class UnknownItemType(AqueueError, LookupError):
    """A journal names a class of items that this program has not defined; the message says how to bring it back."""


class PayloadMismatch(AqueueError, ValueError):
    """The state of a recorded item doesn't fit today's class; the message names class, attribute and what to do."""
