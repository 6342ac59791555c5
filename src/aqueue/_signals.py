"""SIGINT, SIGTERM and SIGHUP while a run is open: handlers are installed in the main thread and put back after it."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Self

__all__ = ["SignalHandlers", "exception_for", "signal_name"]

_HANDLED: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_KILLING: Final = 3


def signal_name(number: int) -> str:
    """Return what a person calls the signal."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def exception_for(number: int) -> BaseException:
    """Return what a run raises that was stopped by the signal: `KeyboardInterrupt`, or `SystemExit` with 128 + n."""
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


class SignalHandlers:
    """A context manager in which the signals call `on_signal`, and the third ends the process at once.

    Does nothing outside the main thread. A signal that is ignored (as `nohup` does with SIGHUP, and a shell with the
    SIGINT of a job in the background) stays ignored.

    Attributes:
        count: how many signals came.
        first: the first signal that came, or None.
    """

    def __init__(self, on_signal: Callable[[int, int], None], before_kill: Callable[[], None]) -> None:
        """Parameters:
        on_signal: called in the main thread, at any moment of its other work, with the signal and its count.
        before_kill: called just before the process ends; must only use what is safe at any moment.
        """
        self.count = 0
        self.first: int | None = None
        self._on_signal = on_signal
        self._before_kill = before_kill
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _HANDLED:
                # None: installed by other than Python, and could not be put back.
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.first is None:
            self.first = number
        if self.count >= _KILLING:
            self._before_kill()
            # Die of the signal itself, so that a shell or a supervisor sees what happened.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._on_signal(number, self.count)
