"""The items that failed for good, and the exceptions of the first ones."""

from collections.abc import Callable
from types import TracebackType
from typing import Final

from aqueue._engine.hints import hint
from aqueue._stream.error_info import CANCELLED
from aqueue._system.notice import warn
from aqueue.events import ItemFailed, Phase
from aqueue.result import MAX_LISTED_FAILURES

__all__ = ["Failures"]

MAX_LIVE_EXCEPTIONS: Final = 100
"""How many of the items' exceptions are kept alive, with the frames that they hold."""

_Facts = tuple[Phase, bool, bool]
"""What failed of an item, whether a person cancelled it, and whether an earlier process recorded that."""

_SAME_FACTS: Final[dict[_Facts, _Facts]] = {}
"""For each of them the one object that is kept, however many items failed so."""

_MAX_CHAIN: Final = 64
"""How many of the exceptions that led to another are looked at."""

_MARK: Final = "_aqueue_traceback"
"""The attribute that says which traceback an exception had when it was recorded: its identity, which keeps nothing alive."""

_METHODS: Final[dict[Phase, str]] = {"process": "process", "after_children": "after_children_processed"}


class Failures:
    """The items that failed for good: a count, and a bounded list.

    Attributes:
        count: how many items have failed in this process, and are failed.
        recorded: how many items have failed in earlier processes, and are not run again.
        num_cancelled: how many of `count` a person has cancelled.
        listed: the first failures by item, at most 1,000, including those of earlier processes.
        exceptions: the exceptions of the first failures by item, at most 100, each object once.
        not_alive: the listed failures that have no exception in `exceptions`, by item.
    """

    def __init__(
        self,
        count_kind: Callable[[ItemFailed], None],
        uncount_kind: Callable[[int], None] = lambda _: None,
        *,
        may_be_taken_back: bool = False,
    ) -> None:
        """Keep the first failures.

        Parameters:
            count_kind: called with each failure, including those of earlier processes.
            uncount_kind: called with the item of a failure that no longer counts.
            may_be_taken_back: whether `take_back` may be called, for which some facts about each failure must be kept.
        """
        self._count_kind = count_kind
        self._uncount_kind = uncount_kind
        self.count = 0
        self.recorded = 0
        self.num_cancelled = 0
        self.listed: dict[int, ItemFailed] = {}
        self.exceptions: dict[int, Exception] = {}
        self.not_alive: dict[int, ItemFailed] = {}
        self._facts: dict[int, _Facts] | None = {} if may_be_taken_back else None  # by item
        # Traceback and note, by the `id` of each of `exceptions`.
        self._first: dict[int, tuple[TracebackType | None, str]] = {}
        self._advice_given: set[str] = set()

    def restore(self, failure: ItemFailed) -> None:
        """Count a failure of an earlier process; only before any is added."""
        self.recorded += 1
        self._note(failure, is_recorded=True)
        if len(self.listed) < MAX_LISTED_FAILURES:
            self.listed[failure.item] = self.not_alive[failure.item] = failure

    def _note(self, failure: ItemFailed, *, is_recorded: bool) -> None:
        self._count_kind(failure)
        if self._facts is not None:
            facts = failure.phase, failure.error.type == CANCELLED, is_recorded
            self._facts[failure.item] = _SAME_FACTS.setdefault(facts, facts)

    @property
    def num_counted(self) -> int:
        """How many of `count` nobody has cancelled: those count for ``on_error`` and ``max_failures``."""
        return self.count - self.num_cancelled

    def phase_of(self, item: int) -> Phase:
        """Return which phase of a failed item failed; only if failures may be taken back."""
        assert self._facts is not None
        phase, _, _ = self._facts[item]
        return phase

    def take_back(self, item: int) -> None:
        """Count the failure of an item no longer: it runs again, or was skipped."""
        assert self._facts is not None
        _, is_cancelled, is_recorded = self._facts.pop(item)
        self._uncount_kind(item)
        if is_recorded:
            self.recorded -= 1
        else:
            self.count -= 1
            self.num_cancelled -= is_cancelled
        self.listed.pop(item, None)
        self.not_alive.pop(item, None)
        error = self.exceptions.pop(item, None)
        if error is not None:
            del self._first[id(error)]

    def add(self, failure: ItemFailed, error: Exception) -> None:
        """Count `failure`, which `error` caused, and keep both as long as there is room."""
        self.count += 1
        self.num_cancelled += failure.error.type == CANCELLED
        self._note(failure, is_recorded=False)
        is_listed = len(self.listed) < MAX_LISTED_FAILURES
        advice = hint(error)
        if advice and advice not in self._advice_given:  # a run with a journal prints no traceback, and so no notes
            self._advice_given.add(advice)
            warn(f"item {failure.item} ({failure.type}) failed: {advice}")
        if is_listed:
            self.listed[failure.item] = failure
        if len(self.exceptions) < MAX_LIVE_EXCEPTIONS and id(error) not in self._first:
            note = f"aqueue: raised by item {failure.item} ({failure.type}) in {_METHODS[failure.phase]}"
            note += f"; {advice}" if advice else ""
            self.exceptions[failure.item] = error
            self._first[id(error)] = error.__traceback__, note
        elif is_listed:
            self.not_alive[failure.item] = failure

    # Some libraries keep one exception and raise it each time (asyncio.StreamReader, closed clients). Python then puts the
    # new frames in front of the old traceback: after 1,000 failures it had 2,000 frames with their locals, and each failure
    # formatted all of them. Only such a traceback is cut, since code may hold other exceptions and look at them.

    def forget_earlier(self, error: BaseException) -> None:
        """Cut the traceback of `error`, and of its causes, to the frames of the latest raise, and remove the note."""
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
        """Give a recorded `error` its first traceback and note back, if it is listed."""
        for one in _chain(error):
            if id(one) in self._first:
                traceback, note = self._first[id(one)]
                vars(one)[_MARK] = id(traceback)
                _set_notes(one.with_traceback(traceback), [*_notes(one), note])


def _chain(error: BaseException) -> list[BaseException]:
    """Return `error`, its causes and contexts, and the members of groups; the beginning of a long chain."""
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
    vars(error)["__notes__"] = notes  # a frozen dataclass refuses an assignment
