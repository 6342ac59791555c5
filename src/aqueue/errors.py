"""The errors that aqueue raises. Each message says what happened, to which thing, and what to do about it.

The last paragraph of each class's docstring, which begins with ``What to do:``, says what helps in general.

AqueueError
├── InvalidArgument (ValueError)      an argument, or an attribute of an item class, that is not allowed
├── InvalidItem (TypeError)           an object that is not an item was enqueued
├── ItemsNotComparable (TypeError)    a priority queue got two items that `<` can't order
├── ChildrenNotComparable (TypeError) a retried item enqueued a child that may be one of an earlier attempt
├── InvalidResult (TypeError)         an item returned a value that JSON can't represent
├── StrayCancellation                 an item was cancelled, but not by aqueue or its caller
├── LeakedCancelScope                 an item left a cancel scope open, which could cancel other items
├── MisplacedCall (RuntimeError)      a function was called where it doesn't work
├── ReporterError                     a reporter couldn't be opened
├── ClusterError                      a cluster can't be used, or was lost
├── SteeringError                     a command couldn't be given to a run
├── JournalError                      the journal couldn't be read or written
│   ├── JournalExists                 the file for a new run isn't empty
│   ├── JournalLocked                 another run is writing the journal
│   ├── NotAJournal                   the file is something else, or its schema was changed
│   ├── JournalTooNew                 a newer aqueue wrote it
│   └── JournalDamaged                a part of the journal is missing or unreadable
├── CancelledByUser                   an item that a person cancelled
├── PoisonItem                        an item that crashed the process three times in a row
├── RemoteError                       replaces an exception of a worker process that couldn't be sent
├── RecordedFailure                   replaces an item's exception that is no longer in memory
├── ItemFailures (ExceptionGroup)     items failed for good
├── UnstorableItem (TypeError)        an item has state that the journal can't store exactly
├── UnsendableItem (TypeError)        an item's state or class can't be sent to another process
├── UnknownItemType (LookupError)     the journal names a class that this program doesn't have
├── PayloadMismatch (ValueError)      a recorded item can't be restored by today's class
└── AdoptionMismatch (ValueError)     after an edit of its class, an item may or may not be a recorded one
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from aqueue.events import ItemFailed
from aqueue.text import visible

if TYPE_CHECKING:
    from aqueue.result import RunResult  # it can read a journal, and so imports this module

__all__ = [
    "AdoptionMismatch",
    "AqueueError",
    "CancelledByUser",
    "ChildrenNotComparable",
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
    "LeakedCancelScope",
    "MisplacedCall",
    "NotAJournal",
    "PayloadMismatch",
    "PoisonItem",
    "RecordedFailure",
    "RemoteError",
    "ReporterError",
    "SteeringError",
    "StrayCancellation",
    "UnknownItemType",
    "UnsendableItem",
    "UnstorableItem",
]


class AqueueError(Exception):
    """The base of every error that aqueue itself raises.

    What to do: catch it to distinguish aqueue's own errors from those of your items; the subclass and the message say what
    helps.
    """

    def __init__(self, *args: object) -> None:
        """Create the error with a message without control characters.

        A message may contain text of an item or of an untrusted journal, and Python prints messages raw.
        """
        super().__init__(*(visible(arg) if isinstance(arg, str) else arg for arg in args))


class InvalidArgument(AqueueError, ValueError):
    """An argument, or an attribute of an item class, has a value that isn't allowed.

    The message names it, the value, and the allowed values. If it was an argument of `run_queue`, no item was run.

    What to do: pass a value that the message allows.
    """


class InvalidItem(AqueueError, TypeError):
    """An object that isn't an item was enqueued, or is one of the initial items; the message names its class.

    It has no async `process` that takes `enqueue` and `set_desc`, its hook isn't async, its `key` or `group` is neither a
    string nor None, or it is a class instead of an instance.

    What to do: enqueue an object whose class defines the method as the message shows it.
    """


class ItemsNotComparable(AqueueError, TypeError):
    """A priority queue got two items that ``<`` can't order; the message names both classes.

    What to do: define ``__lt__`` in both classes, for items of either class and without side effects, or use another
    ``queue_type_name``.
    """


class ChildrenNotComparable(AqueueError, TypeError):
    """A retried item enqueued a child that can't be compared with the children of an earlier attempt.

    The message names the child's class, and the attribute that can't be compared: its value can't be stored, and is not the
    same object as in the earlier attempt. The child was not enqueued, since one child could be lost and another run twice. The
    item fails with this error, unless its code catches it.

    What to do: give the child's class a `key`; or leave the attribute out of the class, and create its value in `process` or
    in the `lifespan`; or use a value that can be stored, or the same object in each attempt.
    """


class InvalidResult(AqueueError, TypeError):
    """An item returned a value that JSON can't represent, or that is too large for a journal (499 MB).

    The message names the item's class. JSON can't represent sets, bytes, NaN, infinity, and objects in general, nor a dict
    with two keys that are equal in JSON, such as 1 and "1": one of them would be lost.

    What to do: return None, or data made of dicts, lists, strings, finite numbers, booleans and None; write large data to a
    file, and return its path.
    """


class StrayCancellation(AqueueError):
    """An item's code was cancelled, but not by aqueue or its caller.

    On asyncio this happens when an item awaits a task or future that other code has cancelled. The original exception is the
    ``__cause__``.

    What to do: catch the cancellation where the item awaits something that other code may cancel, and raise or return
    something else.
    """


class LeakedCancelScope(AqueueError):
    """An item's code ended without leaving a cancel scope that it had entered, of a timeout or a nursery for example.

    The scope could cancel the next item of the same worker. aqueue closes it, and cancels what runs in it. This is a bug in
    the item's code, so no retry policy covers it. If the item raised another exception, it fails with that one instead, and
    the scope is closed as well.

    What to do: leave each cancel scope in the function that entered it. An async generator that yields inside a cancel scope
    leaves it only when the generator ends: use ``async with contextlib.aclosing(generator) as values`` around a loop that
    may end early.
    """


class MisplacedCall(AqueueError, RuntimeError):
    """A function was called where it doesn't work: `enqueue` after the end of `process`, for example.

    What to do: the message says where the call works: inside the item, in the event loop's thread, before the item has ended.
    Inside an event loop, await `async_run_queue` instead of calling `run_queue`. In a free-threaded Python, turn the global
    interpreter lock on.
    """


class ReporterError(AqueueError):
    """A reporter couldn't be loaded or opened, so the run didn't start; the message names the reporter and the cause.

    In a `reporter.failed` event, it stands for a reporter that was detached because a call hadn't returned for 60 s.

    What to do: fix the problem with the file, the terminal or the plugin that the message names, or choose another reporter.
    """


class ClusterError(AqueueError):
    """The cluster can't be used, was lost, or one of its worker processes can't run items; the message says why.

    What to do: check that the scheduler runs and can be reached, and that each worker process has the same Python, aqueue and
    modules as the program. With ``resume=``, the same call then resumes the run.
    """


class SteeringError(AqueueError):
    """A person's command was not carried out: the run can't be reached or refuses it.

    What to do: read the message. A run that isn't running can be steered as well, through its journal; one without a journal can be
    steered from its own items.
    """


class JournalError(AqueueError):
    """The journal couldn't be opened, read or written; the message names the file, the cause and what to do.

    Everything that was committed before stays in the file.

    What to do: fix the problem with the file, its folder or the disk that the message names, and make the same call again
    with ``resume=``.
    """


class JournalExists(JournalError):
    """``journal=`` starts a new run, but the file isn't empty. The file was not changed.

    What to do: pass ``resume=`` instead of ``journal=`` to resume the run in the file, or name another file.
    """


class JournalLocked(JournalError):
    """Another run is writing the journal; the message names its process and machine, if they are known.

    What to do: wait until that run has ended, or stop it. Reading a journal while a run writes it works in another process.
    """


class NotAJournal(JournalError):
    """The file isn't a journal, or its schema has tables or views that aqueue didn't create. The file was not changed.

    What to do: name another file, or remove what the message names from this one.
    """


class JournalTooNew(JournalError):
    """A newer version of aqueue wrote the journal. The file was not changed.

    What to do: upgrade aqueue.
    """


class JournalDamaged(JournalError):
    """A part of the journal is missing or unreadable; the message names it.

    What to do: restore the file from a copy, or start a new run in another file.
    """


class CancelledByUser(AqueueError):
    """A person cancelled the item with ``aqueue cancel`` or `aqueue.steering.cancel`; the message says who.

    No retry policy covers it, and a resume doesn't run the item again.

    What to do: nothing, if that was the intention; ``aqueue retry`` runs the item again.
    """


class PoisonItem(AqueueError):
    """An item was the only one running in three crashes of the process in a row, so it was not run again.

    When the run is resumed after its end, the item gets one more attempt, alone and before all others. If that ends the
    process too, the item fails with this error again. On a cluster, it is an item that was running in three worker
    processes that were lost.

    What to do: run the item by itself in a debugger to find out what ends the process. In most cases it is a crash in a C
    library, or the process runs out of memory. Fix that, and resume the run.
    """


class RemoteError(AqueueError):
    """Replaces an exception that an item raised in a worker process and that couldn't be sent; the message describes it.

    For example, the program doesn't have its class. A `RemoteError` has the traceback and the notes of the original.

    What to do: handle it like the original. To receive the original, define its class in a module that the program can
    import, so that pickle can write it.
    """


class RecordedFailure(AqueueError):
    """Replaces an item's exception that is no longer in memory: one after the first 100, or one of an earlier process.

    Attributes:
        failure: the `item.failed` event.

    What to do: handle it like the original; its class, message and traceback are in `failure`.
    """

    def __init__(self, failure: ItemFailed) -> None:
        """Replace the exception of `failure`.

        Parameters:
            failure: the `item.failed` event.
        """
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        error = self.failure.error
        return f"item {self.failure.item} ({self.failure.type}): {error.type}: {visible(error.message, 1_000)}"


class ItemFailures(AqueueError, ExceptionGroup[Exception]):
    """Items failed for good. The group holds their exceptions, each with a note that names the item.

    The first 100 are the original exceptions; up to 1,000 in all are listed, the rest as `RecordedFailure`.

    Attributes:
        result: the result of the run; ``result.counts.failed`` is the number of all failures.

    What to do: fix what made the items fail; ``result.failure_groups`` has the failures by kind. With ``resume=``, the same
    call then runs the failed items again. For transient errors, give the class a `Retry`.
    """

    result: "RunResult"

    def __new__(cls, message: str, exceptions: Sequence[Exception], result: "RunResult") -> Self:
        """Return a group of `exceptions` that carries `result`.

        Parameters:
            message: how many items failed.
            exceptions: the exceptions, or a `RecordedFailure` for each that isn't in memory; at least one.
            result: the result of the run.
        """
        group = super().__new__(cls, message, exceptions)
        group.result = result
        return group

    def __init__(self, message: str, exceptions: Sequence[Exception], result: "RunResult") -> None:
        super().__init__(message, exceptions)

    def derive(self, excs: Sequence[Exception], /) -> "ItemFailures":  # type: ignore[override]  # not generic
        """Return a group with the same message and result (as `split` and ``except*`` need it).

        Parameters:
            excs: the exceptions in it; at least one.
        """
        return ItemFailures(self.message, excs, self.result)

    def __reduce__(self) -> "tuple[type[Self], tuple[str, Sequence[Exception], RunResult]]":
        return type(self), (self.message, self.exceptions, self.result)


class UnstorableItem(AqueueError, TypeError):
    """A journal can't store and restore the state of an item exactly, or the state is too large (499 MB).

    The message names the class, the attribute and what to do.

    What to do: annotate the attribute with its exact class; or define `dump` and `load` in the item's class; or leave the
    attribute out of the item, and create its value in `process`, or in the `lifespan` if items share it.
    """


class UnsendableItem(AqueueError, TypeError):
    """The state or the class of an item can't be sent to another process, as a run on a cluster must.

    The message names the class, the attribute and what to do.

    What to do: leave the attribute out of the item, and create its value in `process` or in the `lifespan`; define the class
    at the top level of a module that the worker processes can import.
    """


class UnknownItemType(AqueueError, LookupError):
    """A journal names an item class that this program hasn't defined. Nothing was changed.

    What to do: define the class or import its module before the run. If the class was renamed, add the old name to its
    `previous_names`. Then make the same call again.
    """


class PayloadMismatch(AqueueError, ValueError):
    """The state of a recorded item doesn't fit today's class; the message names class and attribute. Nothing was changed.

    What to do: change the class so that it accepts the recorded state (give a new field a default, for example), or give it
    `dump` and a `load` that accepts the old state. Then make the same call again.
    """


class AdoptionMismatch(AqueueError, ValueError):
    """The class of an item was edited, and whether the item is one of the recorded ones can't be decided.

    The message names the class, its recorded attributes and today's. The item was not enqueued: completed work could run
    again, or an item could be lost. For an initial item, `run_queue` raises this error before anything runs. For a child,
    `enqueue` raises it, and the parent fails unless its code catches the error; on a cluster the parent always fails.

    What to do: give new attributes defaults in the class, with the values that recorded items have; or keep the old name of a
    renamed attribute; or add the old name of a renamed class to `previous_names`; or accept the recorded state in `load`; or
    restore the class as it was until the run has ended. If another item was taken for the recorded one because it was
    enqueued first, enqueue the unchanged item before it. Then make the same call again.
    """
