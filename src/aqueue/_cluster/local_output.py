"""Copies what other processes print to this program's own streams, line by line."""

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

__all__ = ["Outlet", "Relay"]

_END_S: Final = 1.0
_READ_BYTES: Final = 65_536
_WRITE_BYTES: Final = 4_096  # a pipe or terminal that has room at all takes so much in one go
_LONGEST_LINE: Final = 65_536  # characters; a progress bar that only ever returns to the line's start is one line


class Outlet:
    """Writes what workers print to this program's streams, as they are at that moment."""

    def __init__(self) -> None:
        self._stopped, self._stopping = os.pipe()  # readable once `close` has closed the other end
        self._relays: list[Relay] = []
        self._locks = {"stdout": threading.Lock(), "stderr": threading.Lock()}

    def connect(self, pipe: IO[bytes], name: str) -> "Relay":
        """Hand on what comes from `pipe` to the stream of that name in `sys`, in a thread of its own."""
        self._relays = [relay for relay in self._relays if relay.is_alive()]
        relay = Relay(pipe, name, self, self._stopped)
        self._relays.append(relay)
        relay.start()
        return relay

    def write(self, name: str, text: str) -> None:
        """Write `text`; wait while nobody takes it, until `close`. If the stream is closed, broken or none, drop it.

        A stream of the interpreter's own is written to past its buffer, for the reasons that stand in `aqueue._system.notice`: what
        can't be written must not stay in there, and no thread may hold the lock of one that is stuck.
        """
        with self._locks[name], suppress(Exception):
            stream: Any = getattr(sys, name)
            if type(stream) is not io.TextIOWrapper or "write" in vars(stream):
                stream.write(text)
                stream.flush()
                return
            data = text.encode(stream.encoding, "backslashreplace")
            while data and self._has_room(stream.fileno()):
                data = data[os.write(stream.fileno(), data[:_WRITE_BYTES]) :]

    def close(self) -> None:
        """Give the relays a second to come to their pipes' ends, then stop them; do nothing the second time.

        One that is inside of a foreign stream's `write` for good is left behind; it does not keep the program from
        ending.
        """
        if self._stopping == -1:
            return
        self._join()
        os.close(self._stopping)
        self._stopping = -1
        self._join()
        if not any(relay.is_alive() for relay in self._relays):
            os.close(self._stopped)

    def _join(self) -> None:
        deadline = time.monotonic() + _END_S
        for relay in self._relays:
            relay.join(max(0.0, deadline - time.monotonic()))

    def _has_room(self, fd: int) -> bool:
        try:
            return bool(select.select([self._stopped], [fd], [])[1])
        except ValueError:  # a number that select can't handle, since 1,024 files are open
            return True


class Relay(threading.Thread):
    """Reads a pipe to its end, line by line.

    Attributes:
        last_line: what came last, without its newline.
    """

    def __init__(self, pipe: IO[bytes], name: str, outlet: Outlet, stopped: int) -> None:
        super().__init__(name=f"aqueue-{name}", daemon=True)
        self.last_line = ""
        self._pipe = pipe
        self._stream_name = name
        self._outlet = outlet
        self._stopped = stopped

    def run(self) -> None:
        """Read on until the pipe ends or the outlet is closed; what has no newline then gets one."""
        decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        line = ""
        with self._pipe, selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            selector.register(self._stopped, selectors.EVENT_READ)
            while self._stopped not in {key.fd for key, _ in selector.select()}:
                data = os.read(self._pipe.fileno(), _READ_BYTES)
                *lines, line = (line + decoder.decode(data, final=not data)).split("\n")
                for complete in lines:
                    self._write(complete + "\n")
                if not data:
                    break
                if len(line) > _LONGEST_LINE:
                    self._write(line)
                    line = ""
        if line:
            self._write(line + "\n")

    def _write(self, text: str) -> None:
        self.last_line = text.strip() or self.last_line
        self._outlet.write(self._stream_name, text)
