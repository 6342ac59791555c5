"""Handles Ctrl-C, SIGTERM and SIGHUP while a subcommand shows a run."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TypeVar

from aqueue._system.notice import say
from aqueue._system.signals import SignalHandlers

__all__ = ["StopSignals"]

T = TypeVar("T")

_JOIN_S: Final = 0.1  # without a limit, no handler would run meanwhile on Windows
_PATIENCE_S: Final = 4.0
"""How long to wait for a reporter that is stuck, after the message that says so."""


class StopSignals:
    """A context manager that records signals, so that the subcommand can end in an orderly way.

    The third signal ends the process at once. So does the first, after five seconds, if a reporter keeps the subcommand
    from ending, for example one that writes into a pipe that nobody reads.
    """

    def __init__(self, restore_terminal: Callable[[], None]) -> None:
        """Make it; nothing is installed before `__enter__`.

        Parameters:
            restore_terminal: puts the terminal back; safe in a signal handler and on any thread.
        """
        self._handlers = SignalHandlers(self._on_signal, self._on_unanswered, restore_terminal, self._call_soon)
        self._restore_terminal = restore_terminal
        self._answers: deque[Callable[[], object]] = deque()

    def __enter__(self) -> Self:
        self._handlers.__enter__()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._handlers.__exit__(exc_type, exc, traceback)

    def run(self, function: Callable[[], T]) -> T:
        """Call `function` in its own thread while this one handles signals; return or raise what it does.

        Call reporters in it: then Ctrl-Z restores the terminal between two of their draws, not during one.
        """
        returned: list[T] = []
        raised: list[BaseException] = []

        def call() -> None:
            try:
                returned.append(function())
            except BaseException as error:  # for the thread that waits
                raised.append(error)

        thread = threading.Thread(target=call, name="aqueue-reporters", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(_JOIN_S)
        if raised:
            raise raised[0]
        return returned[0]

    def first(self) -> int | None:
        """Return the number of the first signal, or None; call it regularly."""
        while self._answers:
            self._answers.popleft()()
        return self._handlers.first

    def _on_signal(self, number: int, count: int) -> None:
        """Do nothing: the handlers have counted it."""

    def _call_soon(self, function: Callable[[], object]) -> None:
        self._answers.append(function)

    def _on_unanswered(self, count: int) -> None:
        """Say that a reporter is stuck, and end the process if it stays so. Called in the thread that watches signals."""
        say("aqueue: waiting for a reporter that is stuck; a third Ctrl-C quits at once")
        end = time.monotonic() + _PATIENCE_S
        while self._answers:
            if time.monotonic() >= end:
                self._restore_terminal()
                os._exit(128 + (self._handlers.first or 0))
            time.sleep(0.05)
