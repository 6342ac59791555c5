"""The items that failed for good, the first of them with their exceptions."""

from collections.abc import Callable
from types import TracebackType
from typing import Final

import trio

from aqueue.events import ItemFailed, Phase
from aqueue.result import MAX_LISTED_FAILURES

__all__ = ["Failures"]

MAX_LIVE_EXCEPTIONS: Final = 100
"""How many of the items' exceptions are kept alive, with the frames that they hold."""

_MAX_CHAIN: Final = 64
"""How many of the exceptions that led to another are looked at."""

_MARK: Final = "_aqueue_traceback"
"""The attribute that says which traceback an exception had when it was recorded: its identity, which keeps nothing alive."""

_METHODS: Final[dict[Phase, str]] = {"process": "process", "after_children": "after_children_processed"}


class Failures:
    """The items that failed for good in this process, the first of them by name.

    Attributes:
        count: how many.
        recorded: how many items have failed in earlier processes and are not run again.
        listed: the first failures, at most 1,000, those of earlier processes included.
        exceptions: the exceptions of the first of those, at most 100, each object once.
        not_alive: the listed failures whose exceptions are not among these.
    """

    def __init__(self, count_kind: Callable[[ItemFailed], None]) -> None:
        """Keep the first failures; `count_kind` gets every one, those of earlier processes included."""
        self._count_kind = count_kind
        self.count = 0
        self.recorded = 0
        self.listed: list[ItemFailed] = []
        self.exceptions: list[Exception] = []
        self.not_alive: list[ItemFailed] = []
        self._first: dict[int, tuple[TracebackType | None, str]] = {}  # by the identities of `exceptions`; and the note

    def restore(self, failure: ItemFailed) -> None:
        """Count `failure`, of an earlier process; only before any other is added."""
        self.recorded += 1
        self._count_kind(failure)
        if len(self.listed) < MAX_LISTED_FAILURES:
            self.listed.append(failure)
            self.not_alive.append(failure)

    def add(self, failure: ItemFailed, error: Exception) -> None:
        """Count `failure`, which `error` was the reason of, and keep both as long as there is room."""
        self.count += 1
        self._count_kind(failure)
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
