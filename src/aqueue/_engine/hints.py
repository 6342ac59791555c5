"""Advice for errors of Python and of the event loops whose own messages don't say what to change in an item."""

from typing import Final

from aqueue._stream.error_info import name_and_message
from aqueue._system.loop import running_backend

__all__ = ["hint"]

_ASYNCIO_ON_TRIO: Final = "this is asyncio code in a run on Trio; pass backend='asyncio' to run_queue"
_TRIO_ON_ASYNCIO: Final = "this is Trio code in a run on asyncio; leave out backend='asyncio', or use AnyIO's functions"
_AWAITED_NONE: Final = (
    "it awaited a function that returned None; enqueue, set_desc and aqueue.stop are called without await"
)

_HINTS: Final[tuple[tuple[type[Exception], str, str | None, str], ...]] = (
    (RuntimeError, "no running event loop", "trio", _ASYNCIO_ON_TRIO),
    (TypeError, "trio.run received unrecognized yield message", "trio", _ASYNCIO_ON_TRIO),
    (RuntimeError, "must be called from async context", "asyncio", _TRIO_ON_ASYNCIO),
    (RuntimeError, "Task got bad yield", "asyncio", _TRIO_ON_ASYNCIO),
    (TypeError, "object NoneType can't be used in 'await' expression", None, _AWAITED_NONE),
    (TypeError, "'NoneType' object can't be awaited", None, _AWAITED_NONE),  # Python 3.14
)
"""The class of an error, how its message begins, the event loop on which it means something (None: on both), the advice."""


def hint(error: BaseException) -> str:
    """Return advice for `error`, which was raised in the event loop that is running; empty if there is none to give."""
    if not isinstance(error, RuntimeError | TypeError):
        return ""
    _, message = name_and_message(error)  # `__str__` is the user's code, and may raise
    for kind, beginning, backend, advice in _HINTS:
        if isinstance(error, kind) and message.startswith(beginning) and backend in (None, running_backend()):
            return advice
    return ""
