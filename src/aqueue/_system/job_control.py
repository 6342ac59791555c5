"""Ctrl-Z while a run draws on the terminal: restores it before the process stops, and takes it again after ``fg``."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Final, Self

from aqueue._system.installed_handlers import InstalledHandlers

__all__ = ["JobControl"]

_STOP: Final = [signal.SIGTSTP] if hasattr(signal, "SIGTSTP") else []  # Windows has none


class JobControl:
    """A context manager in which the terminal is released before Ctrl-Z (SIGTSTP) stops the process.

    Does nothing outside the main thread. There may be one at a time in the process, as there is one run that draws on the
    terminal.
    """

    def __init__(self, suspend: Callable[[], None], resume: Callable[[], None]) -> None:
        """Install nothing before `__enter__`.

        Parameters:
            suspend: called in the main thread, at any moment of its other work, just before the process stops.
            resume: called there when the process continues.
        """
        self._suspend = suspend
        self._resume = resume

    def __enter__(self) -> Self:
        self._handlers = InstalledHandlers(_STOP, self._handle)
        return self

    def __exit__(self, *raised: object) -> None:
        self._handlers.put_back()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._suspend()
        try:
            previous = self._handlers.previous[number]
            if callable(previous):
                previous(number, frame)
            else:
                # The signal itself stops the process: the shell sees that, and without job control nothing happens.
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)  # returns when the process continues
                signal.signal(number, self._handle)
        finally:
            self._resume()
