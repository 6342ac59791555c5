"""What failed: the first failures and their exceptions, which are kept alive, and exceptions as reports show them."""

from collections.abc import Container
from types import TracebackType
from typing import Final

from aqueue._tree import Node
from aqueue.errors import StrayCancellation
from aqueue.events import ItemFailed, Phase
from aqueue.result import MAX_LISTED_FAILURES

__all__ = ["Failures", "as_failure", "without_frames_of"]

MAX_LIVE_EXCEPTIONS: Final = 100
"""How many of the items' exceptions are kept alive, with the frames that they hold."""

_METHODS: Final[dict[Phase, str]] = {"process": "process", "after_children": "after_children_processed"}


class Failures:
    """The items that failed for good in this process, the first of them by name.

    Attributes:
        count: how many.
        recorded: how many items have failed in earlier processes and are not run again.
        listed: the first failures, at most 1,000, those of earlier processes included.
        exceptions: the exceptions of the first of those, at most 100.
    """

    def __init__(self) -> None:
        self.count = 0
        self.recorded = 0
        self.listed: list[ItemFailed] = []
        self.exceptions: list[Exception] = []

    def restore(self, failure: ItemFailed) -> None:
        """Count `failure`, of an earlier process; only before any other is added."""
        self.recorded += 1
        if len(self.listed) < MAX_LISTED_FAILURES:
            self.listed.append(failure)

    def add(self, failure: ItemFailed, error: Exception) -> None:
        """Count `failure`, which `error` was the reason of, and keep both as long as there is room."""
        self.count += 1
        if len(self.listed) < MAX_LISTED_FAILURES:
            self.listed.append(failure)
        if len(self.exceptions) < MAX_LIVE_EXCEPTIONS:
            note = f"aqueue: raised by item {failure.item} ({failure.type}) in {_METHODS[failure.phase]}"
            try:
                error.add_note(note)
            except Exception:  # a frozen dataclass refuses that
                vars(error)["__notes__"] = [note]
            self.exceptions.append(error)

    @property
    def not_alive(self) -> list[ItemFailed]:
        """The listed failures whose exceptions are not in memory."""
        recorded = min(self.recorded, len(self.listed))
        return [*self.listed[:recorded], *self.listed[recorded + len(self.exceptions) :]]


def without_frames_of(files: Container[str], traceback: TracebackType | None) -> TracebackType | None:
    """Return `traceback` from its first frame that is in none of the source files called `files`."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename in files:
        traceback = traceback.tb_next
    return traceback


def as_failure(error: BaseException, node: Node) -> Exception:
    """Return `error`, which the item of `node` raised, as an exception that counts as its failure."""
    if isinstance(error, Exception):
        return error
    stray = StrayCancellation(
        f"item {node.id} ({node.cls.type}) was cancelled, but not by aqueue: did it await something cancelled?"
    )
    stray.__cause__ = error
    return stray
