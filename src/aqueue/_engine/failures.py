"""What failed: how often each kind, the first failures with their exceptions, and exceptions as reports show them."""

from types import TracebackType
from typing import Final

import trio

from aqueue.errors import LeakedCancelScope, StrayCancellation
from aqueue.events import ItemFailed, Phase
from aqueue.result import MAX_LISTED_FAILURES, FailureGroup

__all__ = [
    "FailureTally",
    "Failures",
    "as_failure",
    "cancelled_between_items",
    "hide_frames_of",
    "is_cancelled_group",
    "left_behind",
    "without_own_frames",
]

MAX_LIVE_EXCEPTIONS: Final = 100
"""How many of the items' exceptions are kept alive, with the frames that they hold."""

_MAX_CHAIN: Final = 64
"""How many of the exceptions that led to another are looked at."""

_MARK: Final = "_aqueue_traceback"
"""The attribute that says which traceback an exception had when it was recorded: its identity, which keeps nothing alive."""

_MAX_GROUPS: Final = 100
_MAX_COUNTED_KINDS: Final = 1_000
"""How many kinds of failures are told apart: each keeps an event with its traceback, of at most 30,000 characters."""

_METHODS: Final[dict[Phase, str]] = {"process": "process", "after_children": "after_children_processed"}


class FailureTally:
    """How many failures there were of each kind. Bounded, however many there are."""

    def __init__(self) -> None:
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

    def groups(self) -> tuple[FailureGroup, ...]:
        """Return the kinds, the most numerous first, at most 100; of equally many the one that came first."""
        ranked = sorted(self._counts, key=self._counts.__getitem__, reverse=True)[:_MAX_GROUPS]
        return tuple(FailureGroup(*kind, self._counts[kind], self._firsts[kind]) for kind in ranked)


class Failures:
    """The items that failed for good in this process, the first of them by name.

    Attributes:
        count: how many.
        recorded: how many items have failed in earlier processes and are not run again.
        tally: how many of each kind, those of earlier processes included.
        listed: the first failures, at most 1,000, those of earlier processes included.
        exceptions: the exceptions of the first of those, at most 100, each object once.
        not_alive: the listed failures whose exceptions are not among these.
    """

    def __init__(self) -> None:
        self.count = 0
        self.recorded = 0
        self.tally = FailureTally()
        self.listed: list[ItemFailed] = []
        self.exceptions: list[Exception] = []
        self.not_alive: list[ItemFailed] = []
        self._first: dict[int, tuple[TracebackType | None, str]] = {}  # by the identities of `exceptions`; and the note

    def restore(self, failure: ItemFailed) -> None:
        """Count `failure`, of an earlier process; only before any other is added."""
        self.recorded += 1
        self.tally.add(failure)
        if len(self.listed) < MAX_LISTED_FAILURES:
            self.listed.append(failure)
            self.not_alive.append(failure)

    def add(self, failure: ItemFailed, error: Exception) -> None:
        """Count `failure`, which `error` was the reason of, and keep both as long as there is room."""
        self.count += 1
        self.tally.add(failure)
        is_listed = len(self.listed) < MAX_LISTED_FAILURES
        if is_listed:
            self.listed.append(failure)
        if len(self.exceptions) < MAX_LIVE_EXCEPTIONS and id(error) not in self._first:
            note = f"aqueue: raised by item {failure.item} ({failure.type}) in {_METHODS[failure.phase]}{_hint(error)}"
            self.exceptions.append(error)
            self._first[id(error)] = error.__traceback__, note
        elif is_listed:
            self.not_alive.append(failure)

    # Libraries keep an exception and raise it each time (asyncio.StreamReader, clients that are closed). Python then puts
    # the new frames before those that its traceback has: after 1,000 failures it had 2,000, each with its locals, all of
    # which were formatted at each failure. Only such a traceback is cut: others may hold an exception, and look at it.

    def forget_earlier(self, error: BaseException) -> None:
        """Leave in the traceback of `error`, and of what led to it, the frames of the last time it was raised, and no note."""
        for one in _chain(error):
            earlier = vars(one).get(_MARK)
            frame = None if earlier is None else one.__traceback__
            while frame is not None:
                if id(frame.tb_next) == earlier:
                    frame.tb_next = None
                frame = frame.tb_next
            vars(one)[_MARK] = id(one.__traceback__)
            if id(one) in self._first:
                _, note = self._first[id(one)]
                _set_notes(one, [kept for kept in _notes(one) if kept != note])

    def restore_first(self, error: BaseException) -> None:
        """Give `error`, which has been recorded, the traceback and the note that it had at first, if it is listed."""
        for one in _chain(error):
            if id(one) in self._first:
                traceback, note = self._first[id(one)]
                vars(one)[_MARK] = id(traceback)
                _set_notes(one.with_traceback(traceback), [*_notes(one), note])


def _chain(error: BaseException) -> list[BaseException]:
    """Return `error`, what it was raised from or while handling, and the members of groups; of a long chain the beginning."""
    chain = {id(error): error}
    for one in (found := [error]):
        members = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        for other in (one.__cause__, one.__context__, *members):
            if other is not None and id(other) not in chain and len(chain) < _MAX_CHAIN:
                chain[id(other)] = other
                found.append(other)
    return found


def _notes(error: BaseException) -> list[str]:
    notes = getattr(error, "__notes__", ())
    return list(notes) if isinstance(notes, list | tuple) else []


def _set_notes(error: BaseException, notes: list[str]) -> None:
    vars(error)["__notes__"] = notes  # by no assignment: a frozen dataclass refuses that


def _hint(error: Exception) -> str:
    """Return what helps with an error whose own message doesn't, to be added to its note."""
    if isinstance(error, RuntimeError) and str(error) == "no running event loop" and trio.lowlevel.in_trio_run():
        return "; this is asyncio code in a run on trio: give run_queue backend='asyncio'"
    return ""


_own_files: Final[set[str]] = set()


def hide_frames_of(file: str) -> None:
    """Let what calls the items' code from the source file called `file` be no part of their tracebacks."""
    _own_files.add(file)


def without_own_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Return `traceback` from its first frame that is in none of the files that are to be hidden."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename in _own_files:
        traceback = traceback.tb_next
    return traceback


def is_cancelled_group(error: BaseException, cancelled_class: type[BaseException]) -> bool:
    """Return whether `error` is a group of cancellations, `cancelled_class`, and of ordinary exceptions at most."""
    if not isinstance(error, BaseExceptionGroup):
        return False
    rest = error.split(cancelled_class)[1]
    return rest is None or isinstance(rest, Exception)


def as_failure(error: BaseException, item: int, type: str) -> Exception:
    """Return `error`, which the item numbered `item` of a class called `type` raised, as what counts as its failure."""
    if isinstance(error, Exception):
        return error
    stray = StrayCancellation(
        f"item {item} ({type}) was cancelled, but not by aqueue; see what it awaits that somebody else may have cancelled, and "
        "catch that"
    )
    stray.__cause__ = error
    return stray


def left_behind(innermost: object, item: int, type: str) -> BaseException:
    """Return, as an error, what the item numbered `item` has left in its task, where `innermost` is not what it was.

    See `aqueue._system.loop.TaskWatch`.
    """
    if innermost is None:
        import asyncio  # what it stands for is asyncio's

        return asyncio.CancelledError("the task was cancelled while it was not awaiting anything")
    return LeakedCancelScope(
        f"item {item} ({type}) left a cancel scope open (a timeout or a nursery has one, too), which would later have cancelled "
        "other items; if it leaves a loop over an async generator early, write 'async with contextlib.aclosing(…)' around that"
    )


def cancelled_between_items(ran: str) -> str:
    """Return what the user is told when a worker was cancelled that was running no item, but had run `ran`."""
    return (
        f"a worker was cancelled between two items, and not by aqueue; it had run {ran}; look for code that keeps "
        "asyncio's current task and cancels it later, such as a deadline that isn't taken back; the run goes on"
    )
