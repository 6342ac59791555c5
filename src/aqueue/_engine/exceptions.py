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
    """Hide the frames of the source file `file` in the tracebacks of items: it calls their code."""
    _own_files.add(file)


def without_own_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Return `traceback` without its first frames, those of hidden files."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename in _own_files:
        traceback = traceback.tb_next
    return traceback


def is_cancelled_group(error: BaseException, cancelled_class: type[BaseException]) -> bool:
    """Return whether `error` is a group that has cancellations (`cancelled_class`), and nothing else but exceptions."""
    if not isinstance(error, BaseExceptionGroup):
        return False
    rest = error.split(cancelled_class)[1]
    return rest is None or isinstance(rest, Exception)


def as_failure(error: BaseException, item: int, type: str) -> Exception:
    """Return the exception that is recorded as the failure of item `item` of class `type`, which raised `error`."""
    if isinstance(error, Exception):
        return error
    stray = StrayCancellation(
        f"item {item} ({type}) was cancelled, but not by aqueue; find the task or future that it awaited and that other code "
        "cancelled, and catch the cancellation there"
    )
    stray.__cause__ = error
    return stray


def left_behind(innermost: object, item: int, type: str) -> BaseException:
    """Return the error for what item `item` has left open in its task, whose innermost scope is now `innermost`.

    See `aqueue._system.loop.TaskWatch`.
    """
    if innermost is None:
        import asyncio  # what it stands for is asyncio's

        return asyncio.CancelledError("the task was cancelled while it was not awaiting anything")
    return LeakedCancelScope(
        f"item {item} ({type}) left a cancel scope open (that of a timeout or a nursery, for example), which could later cancel "
        "other items; if it breaks out of a loop over an async generator, wrap that in 'async with contextlib.aclosing(…)'"
    )


def cancelled_between_items(ran: str) -> str:
    """Return the warning that a worker was cancelled between items. `ran`: the item that it ran last."""
    return (
        f"a worker was cancelled between two items, but not by aqueue (its last item: {ran}); the run continues. Look for code "
        "that keeps asyncio's current task and cancels it later, such as a timeout that is never removed"
    )
