"""A pseudo-terminal that keeps what is written to it, for tests of what a person would see."""

import fcntl
import os
import pty
import struct
import termios
import threading
from typing import TextIO

__all__ = ["PtyStream"]


class PtyStream:
    """One end of a pseudo-terminal to write to, and all that came out of the other.

    Attributes:
        stream: a text stream that leads to the terminal, UTF-8.
    """

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.stream: TextIO = open(slave, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        self._chunks: list[bytes] = []
        # Somebody has to read, or the writer would wait once the terminal's buffer is full.
        self._reader = threading.Thread(target=self._read, name="pty reader", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self._master, 65_536)
            except OSError:  # EIO: the other end was closed
                return
            if not chunk:
                return
            self._chunks.append(chunk)

    def finish(self) -> bytes:
        """Close the terminal and return all that was written to it."""
        if not self.stream.closed:
            self.stream.close()
            self._reader.join(60)
            os.close(self._master)
        return b"".join(self._chunks)
