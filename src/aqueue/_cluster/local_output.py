"""Copies what other processes print to this program's own streams, whole lines at a time."""

import codecs
import io
import os
import select
import selectors
import sys
import threading
import time
from contextlib import suppress
from typing import IO, Any, Final

__all__ = ["Outlet"]

_END_S: Final = 1.0
_POLL_S: Final = 0.01
_READ_BYTES: Final = 65_536
_WRITE_BYTES: Final = 4_096  # a pipe or terminal that has room at all takes so much in one go
_LONGEST_LINE: Final = 65_536  # characters; a progress bar that only ever returns to the line's start is one line


class Outlet:
    """Copies from pipes to this program's streams, as they are at that moment, in a thread of its own.

    While nobody takes it there, nothing is read from the pipes: who writes to them waits.
    """

    def __init__(self) -> None:
        self._stopped, self._stopping = os.pipe()  # readable once `close` has closed the other end
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stopped, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="aqueue-output", daemon=True)
        self._thread.start()

    def connect(self, pipe: IO[bytes], name: str) -> None:
        """Copy what comes from `pipe` to the stream called `name` in `sys`, until the pipe's end; from any thread."""
        self._selector.register(pipe, selectors.EVENT_READ, _Source(name))

    def close(self) -> None:
        """Wait up to a second for the pipes' ends, then stop.

        A thread that is inside of a foreign stream's `write` for good is left behind; it does not keep the program from
        ending.
        """
        deadline = time.monotonic() + _END_S
        while len(self._selector.get_map() or ()) > 1 and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        os.close(self._stopping)
        self._thread.join(_END_S)

    def _run(self) -> None:
        is_stopped = False
        while not is_stopped:
            for key, _ in self._selector.select():
                if key.data is None:
                    is_stopped = True
                elif not self._copy(key.fileobj, key.data):  # type: ignore[arg-type]  # registered as a pipe
                    self._selector.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]  # the same
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                key.fileobj.close()  # type: ignore[union-attr]  # the same
        self._selector.close()
        os.close(self._stopped)

    def _copy(self, pipe: IO[bytes], source: "_Source") -> bool:
        """Write the lines that have come; return whether the pipe goes on. A last line without a newline gets one."""
        data = os.read(pipe.fileno(), _READ_BYTES)
        text = source.line + source.decoder.decode(data, final=not data)
        lines, newline, source.line = text.rpartition("\n")
        if len(source.line) > _LONGEST_LINE or (source.line and not data):
            lines, newline, source.line = text, "" if data else "\n", ""
        self._write(source.name, lines + newline)
        return bool(data)

    def _write(self, name: str, text: str) -> None:
        """Write `text`; wait while nobody takes it, until `close`. If the stream is closed, broken or none, drop it.

        A stream of the interpreter's own is written to past its buffer, for the reasons in `aqueue._system.notice`: what
        can't be written must not stay in there, and no thread may hold the lock of one that is stuck.
        """
        with suppress(Exception):
            stream: Any = getattr(sys, name)
            if type(stream) is not io.TextIOWrapper or "write" in vars(stream):
                stream.write(text)
                stream.flush()
                return
            data = text.encode(stream.encoding, "backslashreplace")
            while data and self._has_room(stream.fileno()):
                data = data[os.write(stream.fileno(), data[:_WRITE_BYTES]) :]

    def _has_room(self, fd: int) -> bool:
        try:
            return bool(select.select([self._stopped], [fd], [])[1])
        except ValueError:  # a number that select can't handle, since 1,024 files are open
            return True


class _Source:
    """What has come from a pipe.

    Attributes:
        name: of the stream that it goes to.
        line: what has come since the last newline.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.line = ""
        self.decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
