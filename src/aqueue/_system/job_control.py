"""Ctrl-Z while a run draws on the terminal: that is put back before the process stops, and taken again after ``fg``."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Self

__all__ = ["JobControl"]

_STOP: Final[int | None] = getattr(signal, "SIGTSTP", None)  # None on Windows


class JobControl:
    """A context manager in which the terminal is let go of before Ctrl-Z (SIGTSTP) stops the process.

    Does nothing outside the main thread, and leaves a signal that is ignored alone. There may be one at a time in the
    process, as there is one run that draws on the terminal.
    """

    def __init__(self, suspend: Callable[[], None], resume: Callable[[], None]) -> None:
        """Make it; nothing is installed before `__enter__`.

        Parameters:
            suspend: called in the main thread, at any moment of its other work, just before the process stops.
            resume: called there when it goes on.
        """
        self._suspend = suspend
        self._resume = resume
        self._previous: Any = None

    def __enter__(self) -> Self:
        global _installed  # noqa: PLW0603  # one in the process, as the handler is
        if _STOP is None or threading.current_thread() is not threading.main_thread():
            return self
        # None: installed by other than Python, and could not be put back.
        if signal.getsignal(_STOP) not in (signal.SIG_IGN, None):
            self._previous = signal.signal(_STOP, self._handle)
            _installed = self
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        global _installed  # noqa: PLW0603  # one in the process, as the handler is
        if _installed is self:
            self.put_back()
            _installed = None

    def put_back(self) -> None:
        """Install again what was installed before, except where someone has installed something else since."""
        if _STOP is not None and signal.getsignal(_STOP) == self._handle:
            signal.signal(_STOP, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._suspend()
        try:
            if callable(self._previous):
                self._previous(number, frame)
            else:
                # By the signal's own doing, so that the shell sees what happened, and nothing does where there is none.
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)  # returns when the process goes on
                signal.signal(number, self._handle)
        finally:
            self._resume()


_installed: JobControl | None = None


def _put_back_in_child() -> None:
    """In a forked child, put the handler back: the terminal is its parent's to see to."""
    if _installed is not None:
        _installed.put_back()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_put_back_in_child)
