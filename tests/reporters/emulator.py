"""A terminal emulator behind a pseudo-terminal: what a person would see, and every byte that was written."""

import fcntl
import os
import pty
import re
import select
import struct
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self, TextIO

import pyte

__all__ = ["OWN_SEQUENCES", "Emulator"]

OWN_SEQUENCES = re.compile(rb"\x1b\[(?:\?25[lh]|\?7[lh]|[0-9;]*m|[0-9]+A|A|K|2K|J)")
"""The escape sequences that a display may write: cursor, wrapping, style, up, erase."""

_PATIENCE_S = 30.0


class Emulator:
    """A terminal of a given size, as a context manager; `stream` leads to it.

    It does not wrap lines again when it is resized (as xterm), and keeps what scrolls off its top.
    """

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self._master, self._slave = pty.openpty()
        self._set_size(columns, rows)
        self._streams: list[TextIO] = []
        self.stream: TextIO = self.another_stream()
        self.screen: Any = pyte.HistoryScreen(columns, rows, history=10_000, ratio=0.5)
        self._feed = pyte.ByteStream(self.screen)
        self._written = b""
        self._woken, self._wake = os.pipe()
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def another_stream(self, encoding: str = "utf-8", errors: str = "strict") -> TextIO:
        """Return one more stream object that leads to this terminal."""
        stream = open(os.dup(self._slave), "w", encoding=encoding, errors=errors, buffering=1)  # noqa: SIM115
        self._streams.append(stream)
        return stream

    def resize(self, columns: int) -> None:
        """Make the terminal wider or narrower."""
        with self._lock:
            self._set_size(columns, self.screen.lines)
            self.screen.resize(columns=columns)

    def lines(self) -> list[str]:
        """Return what the screen shows, from its top to the last row that is not empty."""
        with self._lock:
            rows = [row.rstrip() for row in self.screen.display]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def transcript(self) -> list[str]:
        """Return what has scrolled off the top, and then what the screen shows."""
        with self._lock:
            scrolled = [
                "".join(row[x].data for x in range(self.screen.columns)).rstrip() for row in self.screen.history.top
            ]
        return scrolled + self.lines()

    @property
    def cursor_is_shown(self) -> bool:
        """Whether the cursor is shown now."""
        return not self.screen.cursor.hidden

    def written(self) -> bytes:
        """Return every byte that came until now."""
        return self._written

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the screen shows what it should; fail with what it shows if it does not."""
        deadline = time.monotonic() + _PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "the screen shows\n" + "\n".join(self.transcript())
            time.sleep(0.002)

    def until_ends_with(self, *lines: str) -> None:
        """Wait until these are the last lines on the screen."""
        self.until(lambda: self.lines()[-len(lines) :] == list(lines))

    def hang_up(self) -> None:
        """Take the terminal away, as a closed window or a broken connection does."""
        os.write(self._wake, b"!")
        self._reader.join(_PATIENCE_S)
        os.close(self._master)
        self._master = -1

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self) -> None:
        while self._woken not in select.select([self._master, self._woken], [], [])[0]:
            try:
                data = os.read(self._master, 65_536)
            except OSError:  # every stream that leads here was closed
                return
            with self._lock:
                self._written += data
                self._feed.feed(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for stream in self._streams:
            with suppress(OSError):  # a lost terminal
                stream.close()
        os.close(self._slave)
        self._reader.join(_PATIENCE_S)
        for fd in (self._master, self._wake, self._woken):
            if fd >= 0:
                os.close(fd)
