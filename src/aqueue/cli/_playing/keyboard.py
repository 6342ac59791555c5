"""Reads single keys as they are typed, where standard input is a terminal."""

import os
import select
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

__all__ = ["Keyboard"]

_MAX_KEYS: Final = 1_000
_PATIENCE_S: Final = 0.2
# Indexes of the list that termios.tcgetattr returns.
_LOCAL_FLAGS: Final = 3
_CONTROL_CHARACTERS: Final = 6


class Keyboard:
    """A context manager in which keys are read without Enter and aren't echoed.

    It restores the terminal at its end, and while the process is stopped or in the background. If standard input is no
    terminal, or the system has no termios, there are no keys. Call `wait` in one thread, `suspend` and `resume` in the one
    that handles signals.
    """

    def __init__(self) -> None:
        self._fd = -1
        self._before: list[Any] | None = None  # the terminal's settings; None while they are not changed
        self._is_suspended = False
        # Held while the terminal's settings change, so that Ctrl-Z comes before or after that. Reentrant, since a signal
        # handler may be called inside another one.
        self._lock = threading.RLock()
        with suppress(AttributeError, OSError, ValueError, ImportError):
            import termios  # noqa: F401  # not on Windows

            if sys.stdin.isatty():
                self._fd = sys.stdin.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.suspend()

    @property
    def is_there(self) -> bool:
        """Whether keys can be read."""
        return self._fd >= 0

    def wait(self, seconds: float) -> str:
        """Wait for a key, at most so many seconds; return what was typed."""
        typed = b""
        if not self._listen():
            time.sleep(seconds)
            return ""
        with suppress(OSError):  # the terminal is gone
            if not select.select([self._fd], [], [], seconds)[0]:
                return ""
            with self._lock:
                if self._is_ours():
                    typed = os.read(self._fd, _MAX_KEYS)
        if not typed:
            time.sleep(seconds)
        return typed.decode("ascii", "ignore")

    def _is_ours(self) -> bool:
        """Whether this process is in the terminal's foreground. In the background the system would stop it for a change."""
        if self._fd < 0 or self._is_suspended:
            return False
        try:
            return os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:
            return False

    def _listen(self) -> bool:
        """Make the terminal deliver keys one by one, if it doesn't yet; return whether it does."""
        with self._lock:
            if not self._is_ours():
                return False
            if self._before is None:
                import termios

                try:
                    self._before, mode = termios.tcgetattr(self._fd), termios.tcgetattr(self._fd)
                    mode[_LOCAL_FLAGS] &= ~(termios.ECHO | termios.ICANON)
                    # Not 1: Ctrl-C discards a key that select has announced, and the read would wait for another.
                    mode[_CONTROL_CHARACTERS][termios.VMIN] = 0
                    mode[_CONTROL_CHARACTERS][termios.VTIME] = 0
                    termios.tcsetattr(self._fd, termios.TCSANOW, mode)
                except (OSError, termios.error):
                    self._before, self._fd = None, -1
            return self._before is not None

    def suspend(self) -> None:
        """Restore the terminal's settings until `resume`; safe in a signal handler."""
        held = self._lock.acquire(timeout=_PATIENCE_S)
        try:
            before, self._before = self._before, None
            if before is not None and self._is_ours():
                import termios

                with suppress(OSError, termios.error):
                    termios.tcsetattr(self._fd, termios.TCSANOW, before)
            self._is_suspended = True
        finally:
            if held:
                self._lock.release()

    def resume(self) -> None:
        """Read keys again; safe in a signal handler."""
        self._is_suspended = False
