"""The errors that aqueue raises. Each message says what happened, to what, and what to do.

What helps against an error in general is the last paragraph of its class's docstring, which begins ``What to do:``.

AqueueError
├── InvalidArgument (ValueError)      an argument, or an attribute of an item class, that is not allowed
├── InvalidItem (TypeError)           an object that is not an item was enqueued
├── ItemsNotComparable (TypeError)    a priority queue got two items that `<` can't order
├── ChildrenNotComparable (TypeError) a further attempt at an item enqueued what an earlier one may have enqueued
├── InvalidResult (TypeError)         an item returned what JSON can't carry
├── StrayCancellation                 an item was cancelled, and nobody had asked for it
├── LeakedCancelScope                 an item left a cancel scope open, which would cancel other items
├── MisplacedCall (RuntimeError)      a call outside the place where it works
├── ReporterError                     a reporter could not be opened
├── ClusterError                      a cluster can't be used, or was lost
├── JournalError                      the journal could not be read or written
│   ├── JournalExists                 a new run was to be recorded in a file that has something in it
│   ├── JournalLocked                 another run is writing the journal
│   ├── NotAJournal                   the file is something else, or has what aqueue didn't put there
│   ├── JournalTooNew                 a newer aqueue wrote it
│   └── JournalDamaged                it is a journal, but a part of it is missing or unreadable
├── PoisonItem                        an item that crashed the process three times in a row
├── RemoteError                       stands for an exception in a worker process that could not be sent
├── RecordedFailure                   stands for an item's exception that is no longer in memory
├── ItemFailures (ExceptionGroup)     items failed for good
├── UnstorableItem (TypeError)        an item has state that the journal can't store exactly
├── UnsendableItem (TypeError)        an item has state, or is of a class, that can't be sent to another process
├── UnknownItemType (LookupError)     the journal names a class that this program doesn't have
├── PayloadMismatch (ValueError)      a recorded item can't be restored by today's class
└── AdoptionMismatch (ValueError)     an item may be a recorded one, since its class has changed, or another
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from aqueue.events import ItemFailed
from aqueue.text import visible

if TYPE_CHECKING:
    from aqueue.result import RunResult  # which can read a journal, and so has errors below it

__all__ = [
    "AdoptionMismatch",
    "AqueueError",
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
    "StrayCancellation",
    "UnknownItemType",
    "UnsendableItem",
    "UnstorableItem",
]


class AqueueError(Exception):
    """The base of every error that aqueue itself raises.

    What to do: catch it to tell aqueue's own errors from those of your items; the subclass and the message say what helps.
    """

    def __init__(self, *args: object) -> None:
        """Make the error of a message, in which nothing steers a terminal.

        A message may name a class, a key or a file as a stranger's journal, or an item, has it, and Python prints it raw.
        """
        super().__init__(*(visible(arg) if isinstance(arg, str) else arg for arg in args))


class InvalidArgument(AqueueError, ValueError):
    """An argument, or an attribute of an item class, has a value that is not allowed.

    The message names it, the value, and what is allowed. If it was an argument of `run_queue`, no item was run.

    What to do: pass a value that the message allows.
    """


class InvalidItem(AqueueError, TypeError):
    """An object that is not an item was enqueued, or is one of the initial items; the message names its class.

    It has no async `process` that takes `enqueue` and `set_desc`, or a hook that isn't async, or it is a class and no
    object; or its `key` or `group` is neither a string nor None.

    What to do: enqueue an object whose class defines the method as the message writes it.
    """


class ItemsNotComparable(AqueueError, TypeError):
    """A priority queue got two items that ``<`` can't order; the message names both classes.

    What to do: define ``__lt__`` in both classes, so that it takes an item of either and changes nothing, or use another
    ``queue_type_name``.
    """


class ChildrenNotComparable(AqueueError, TypeError):
    """An item that is tried again enqueued a child which may be one that an earlier attempt enqueued, or another.

    The message names the child's class, and the attribute: what it holds can't be stored, and is not the same object as
    then. The child was not enqueued, since one child might be lost and another run twice; the item fails by this error, unless
    its code catches it.

    What to do: give the child's class a `key`; or leave the attribute out of it, and make what it holds in `process`, or
    take it from `lifespan`; or hold there what can be stored, or in each attempt the same object.
    """


class InvalidResult(AqueueError, TypeError):
    """An item returned what JSON can't carry, or more than a journal can hold (499 MB); the message names the item's class.

    An object of a kind that JSON lacks, a set, bytes, NaN, infinity; or a dict with two keys that are the same in JSON,
    such as 1 and "1", of which one would be lost.

    What to do: return None, or data made of dicts, lists, strings, finite numbers, booleans and None; write what is large
    to a file, and return its path.
    """


class StrayCancellation(AqueueError):
    """An item's code was cancelled although neither aqueue nor its caller had asked for that.

    On asyncio this comes of awaiting a task or future that somebody else had cancelled. The original is ``__cause__``.

    What to do: catch the cancellation where the item awaits what others may cancel, and raise or return something else.
    """


class LeakedCancelScope(AqueueError):
    """An item's code ended while a cancel scope that it had entered was still open: of a timeout, or of a nursery.

    That scope would cancel what the same worker does next. aqueue closes it, and cancels what runs in it. It is an error in
    the code, so no retry policy covers it. An item that raises something else fails by that, and its scope is closed, too.

    What to do: leave each cancel scope in the function that entered it. In an async generator that yields inside one, that
    happens only when the generator ends: write ``async with contextlib.aclosing(generator) as values`` around a loop that
    may leave it early.
    """


class MisplacedCall(AqueueError, RuntimeError):
    """A call was made outside the place where it works: `enqueue` after `process` had ended, say.

    What to do: make the call where the message says that it works: inside the item, in its event loop's thread, before
    it has ended; in place of `run_queue` inside an event loop, await `async_run_queue`; in a free-threaded Python, turn
    the global interpreter lock on.
    """


class ReporterError(AqueueError):
    """A reporter could not be loaded or opened, and so the run was not begun; the message names it and the cause.

    In an event `reporter.failed`, it stands for one that was detached since it had not returned from a call for 60 s.

    What to do: mend what the message says of the file, the terminal or the plugin, or choose another reporter.
    """


class ClusterError(AqueueError):
    """The cluster can't be used, was lost, or one of its worker processes can't run items; the message says why.

    What to do: see that the scheduler runs and can be reached, and that each worker process has the Python, the aqueue
    and the modules that the program has. With ``resume=``, the same call then goes on with the run.
    """


class JournalError(AqueueError):
    """The journal could not be opened, read or written; the message names the file, the cause and what to do.

    What was committed before stays in the file.

    What to do: mend what the message says of the file, its folder or the disk, and make the same call again with
    ``resume=``.
    """


class JournalExists(JournalError):
    """A new run was to be recorded in a file that is not empty; it was left as it is.

    What to do: pass ``resume=`` instead of ``journal=`` to go on with the run in it, or name another file.
    """


class JournalLocked(JournalError):
    """Another run is writing the journal; the message names its process and machine, where they are known.

    What to do: wait until that run has ended, or stop it. To read the journal meanwhile, use another process.
    """


class NotAJournal(JournalError):
    """The file is not a journal, or its schema has something that aqueue didn't put there; it was left as it is.

    What to do: name another file, or take out of it what the message names.
    """


class JournalTooNew(JournalError):
    """A newer aqueue wrote the journal; it was left as it is.

    What to do: upgrade aqueue.
    """


class JournalDamaged(JournalError):
    """A part of the journal is missing or can't be read; the message names it.

    What to do: restore the file from a copy, or start a new run in another file.
    """


class PoisonItem(AqueueError):
    """An item was the only one running in three crashes of the process in a row, and was not run again.

    When the run has ended and is resumed, it is tried once more: alone and before all others. If it ends the process again,
    it fails so again. On a cluster: an item that was running in three worker processes that were lost.

    What to do: run the item by itself in a debugger, and see what ends the process: a crash in a library in C, or more
    memory than there is, in most cases. Mend that, and resume the run.
    """


class RemoteError(AqueueError):
    """Stands for an exception that an item raised in a worker process and that could not be sent; its message says which.

    Its class was not found in the program, for instance. It has the traceback and the notes of the original.

    What to do: do as for the original. To get it as what it is, define its class in a module that the program can
    import, in such a way that pickle can write it.
    """


class RecordedFailure(AqueueError):
    """Stands for an item's exception that is no longer in memory: one after the first 100, or of an earlier process.

    Attributes:
        failure: the `item.failed` event.

    What to do: do as for the original, whose class, message and traceback are in `failure`.
    """

    def __init__(self, failure: ItemFailed) -> None:
        """Stand for what `failure` tells of.

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
        result: what the run came to, with the number of all failures in ``result.counts.failed``.

    What to do: mend what made the items fail; ``result.failure_groups`` has the failures by kind. With ``resume=``, the
    same call then runs the failed items again. For errors that pass by themselves, give their class a `Retry`.
    """

    result: "RunResult"

    def __new__(cls, message: str, exceptions: Sequence[Exception], result: "RunResult") -> Self:
        """Return a group of `exceptions` that carries `result`.

        Parameters:
            message: how many items failed.
            exceptions: what they raised, or a `RecordedFailure` for each that is not in memory; at least one.
            result: what the run came to.
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
    """An item has state that the journal can't store and restore exactly, or more of it than a journal can hold (499 MB).

    The message names its class, the attribute and the ways out.

    What to do: annotate the attribute with its exact class, or define `dump` and `load` in the item's class, or leave the
    attribute out of the item and make what it holds in `process`.
    """


class UnsendableItem(AqueueError, TypeError):
    """An item has state, or is of a class, that can't be sent to another process, as a run on a cluster needs it.

    The message names its class, the attribute and the ways to mend it.

    What to do: leave the attribute out of the item, and open what it holds in `process` or in the `lifespan`; define the
    class at the top level of a module that the worker processes can import.
    """


class UnknownItemType(AqueueError, LookupError):
    """A journal names a class of items that this program has not defined; nothing was changed.

    What to do: define the class or import its module before the run; if it was renamed, name its old name in
    `previous_names` of the class that it is now. Then make the same call again.
    """


class PayloadMismatch(AqueueError, ValueError):
    """The state of a recorded item doesn't fit today's class; the message names class and attribute. Nothing was changed.

    What to do: change the class so that it takes what was recorded (give a new field a default, say), or give it `dump`
    and a `load` that takes the old state. Then make the same call again.
    """


class AdoptionMismatch(AqueueError, ValueError):
    """An item was enqueued that may be one which is recorded, or another: its class was changed since, and doesn't tell.

    The message names the class, and the attributes that it was recorded with and has now. The item was not enqueued: what is
    completed might run again, or an item be lost. For an initial item, `run_queue` raises it before anything runs; for a
    child, `enqueue` does, and the parent fails by it, unless its code catches it; on a cluster it always fails.

    What to do: give new attributes the values that recorded items are to have, as defaults in the class; or keep the old
    name of one that was renamed; or, if the class was renamed, name its old name in `previous_names`; or take what was
    recorded in `load`; or put the class back as it was until the run has ended. Where another item was taken for the recorded
    one because it was enqueued first, enqueue the one that is as recorded before it. Then make the same call again.
    """
