"""Prints no traceback of an error that the summary of a run has reported already.

The traceback of an `ItemFailures` of 128 items has more than 100 lines, and would push the summary off the screen. Code that
catches the error still has everything, and so has the journal, which ``aqueue failures`` reads. Without a journal, reporters
print the traceback of the first failure of each kind when it happens, and say so by `has_summary`.
"""

import sys
from types import TracebackType
from typing import Final

__all__ = ["report"]

_REPORTED: Final = "_aqueue_reported"


def report(error: BaseException) -> None:
    """Print nothing if nobody catches `error`; a program with a `sys.excepthook` of its own still gets it there."""
    vars(error)[_REPORTED] = True
    if "IPython" in sys.modules:
        line = f"{type(error).__name__}: {error.args[0]}" if error.args else type(error).__name__
        vars(error)["_render_traceback_"] = lambda: [line]  # IPython prints these lines instead of a traceback
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _excepthook


def _excepthook(cls: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if _REPORTED not in vars(error):
        sys.__excepthook__(cls, error, traceback)
