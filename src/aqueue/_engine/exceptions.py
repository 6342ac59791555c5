"""Which exceptions are failures of an item, and their tracebacks without aqueue's frames."""

from types import TracebackType
from typing import Final

from aqueue.errors import LeakedCancelScope, StrayCancellation

__all__ = [
    "as_failure",
    "cancelled_between_items",
    "hide_frames_of",
    "is_cancelled_group",
    "left_behind",
    "without_own_frames",
]

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
