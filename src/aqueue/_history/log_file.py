"""Reads whole lines, not yet decoded, from a log that may grow, be rotated or cut, or come from standard input."""

import os
import select
import sys
from pathlib import Path
from typing import Final, NamedTuple

from aqueue._journal.file import identity, shown

__all__ = ["Chunk", "LogFile"]

_READ_BYTES: Final = 1 << 20
_MAX_LINE_BYTES: Final = 64 << 20
"""How long a line may be; a longer one is no event, and would only fill the memory."""

_REPLACED: Final = "it was replaced by a new file"
_CUT: Final = "it was truncated"


class Chunk(NamedTuple):
    """Whole lines.

    Attributes:
        number: the first one's number, from 1 at the file's beginning, or at where `LogFile.seek_before_end` went.
        offset: where it begins in the file, in bytes.
        data: the lines, each with its newline; the last may lack it at the end of the file.
    """

    number: int
    offset: int
    data: bytes


class LogFile:
    """Reads whole lines from a file or a pipe, in chunks of a megabyte or so.

    Attributes:
        is_over: whether nothing more can come: a pipe has ended, or `end` is reached.
        num_too_long: how many lines were passed over because they are longer than 64 MiB.
        first_too_long: the number of the first of them, and why it was passed over.
        notices: what happened to the file since somebody last looked, safe to show.
    """

    def __init__(
        self,
        descriptor: int,
        path: Path | None = None,
        *,
        is_pipe: bool = False,
        max_line_bytes: int = _MAX_LINE_BYTES,
    ) -> None:
        """Read from `descriptor`, which `close` closes.

        Parameters:
            descriptor: an open file or pipe.
            path: the file; it is opened again when another one has taken its place, as logrotate does.
            is_pipe: whether it may have nothing to read now and more later.
            max_line_bytes: how long a line may be; a longer one is passed over.
        """
        self.is_over = False
        self.num_too_long = 0
        self.first_too_long = (0, "a line is longer than 64 MiB")
        self.notices: list[str] = []
        self._descriptor = descriptor
        self._path = path
        self._is_pipe = is_pipe
        self._max_line_bytes = max_line_bytes
        self._identity = _identity(descriptor)
        self._number = 1
        self._offset = 0
        self._begin = 0  # what lies before it counts as not there
        self._end: int | None = None
        self._rest = bytearray()
        self._skips = False  # in the middle of a line that is too long

    def seek(self, offset: int, number: int, end: int | None) -> None:
        """Go to the line `number` at `offset`; what lies before it, and at `end` and after it, counts as not there."""
        self._begin, self._end = offset, end
        self._go_to(offset, number)

    def _go_to(self, offset: int, number: int) -> None:
        if not self._is_pipe:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
        self._offset, self._number = offset, number
        self._rest, self._skips = bytearray(), False
        self.num_too_long = 0
        self.is_over = False

    def seek_before_end(self, num_bytes: int) -> bool:
        """Go to a line about `num_bytes` before the end; return whether that leaves any lines out. A pipe is read whole.

        Lines are numbered from there.
        """
        if self._is_pipe:
            return False
        end = os.fstat(self._descriptor).st_size if self._end is None else self._end
        offset = self._line_at(end - num_bytes, end)
        self._go_to(offset, 1)
        return offset > self._begin

    def _line_at(self, offset: int, end: int) -> int:
        """Return where the first line begins at `offset` or behind it; the beginning if there is none."""
        while self._begin < offset < end:
            # One byte back: a line may begin at this very offset.
            found = self.read_again(offset - 1, min(_READ_BYTES, end - offset + 1))
            newline = found.find(b"\n")
            if newline >= 0:
                return offset + newline
            if not found:
                break
            offset += len(found)
        return self._begin

    def read(self) -> Chunk | None:
        """Return the next whole lines; None if there are none now. A line without its end waits for it."""
        while True:
            data = self._read_bytes()
            if not data:
                change = "" if self.is_over else self._change()
                if not change:
                    return None
                # What was written before the file was moved away, but after the read above.
                data = self._read_bytes()
                if not data:
                    # Nobody will end that line any more.
                    unended = self.read_unended() if change == _REPLACED else None
                    if not self._start_over(change):
                        return None
                    if unended is not None:
                        return unended
                    continue
            if b"\n" not in data and not self._skips and len(self._rest) + len(data) <= self._max_line_bytes:
                self._rest += data  # in place: a copy per read of a pipe's 64 KB would be quadratic
                continue
            data = bytes(self._rest) + data
            end = data.rfind(b"\n") + 1
            start = 0
            if self._skips:
                start = data.find(b"\n") + 1 or len(data)
                self._number += bool(end)
                self._skips = not end
            self._offset += start
            chunk = Chunk(self._number, self._offset, data[start:end])
            self._rest = bytearray(data[max(start, end) :])
            self._number += chunk.data.count(b"\n")
            self._offset += len(chunk.data)
            if len(self._rest) > self._max_line_bytes:
                if not self.num_too_long:
                    self.first_too_long = self._number, self.first_too_long[1]
                self.num_too_long += 1
                self._offset += len(self._rest)
                self._rest, self._skips = bytearray(), True
            if chunk.data:
                return chunk

    def read_unended(self) -> Chunk | None:
        """Return the last line if it lacks its end, as a file does that was cut; None if it has one."""
        return Chunk(self._number, self._offset, bytes(self._rest)) if self._rest else None

    def read_again(self, offset: int, size: int) -> bytes:
        """Return what was read before at `offset`; shorter if the file has been cut since, nothing from a pipe."""
        if self._is_pipe:
            return b""
        here = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        try:
            return os.read(self._descriptor, size)
        finally:
            os.lseek(self._descriptor, here, os.SEEK_SET)

    def close(self) -> None:
        """Close it; nothing happens if it is closed already, or is standard input."""
        if self._descriptor > 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _read_bytes(self) -> bytes:
        size = _READ_BYTES
        if self._end is not None:
            size = min(size, self._end - self._offset - len(self._rest))
        if not size:
            self.is_over = True
            return b""
        if self._is_pipe and not _is_ready(self._descriptor):
            return b""
        data = os.read(self._descriptor, size)
        if not data and self._is_pipe:
            self.is_over = True
        return data

    def _change(self) -> str:
        """Return what has become of the file, if it must be read from its beginning now; else nothing."""
        path = self._path
        now = identity(path) if path is not None else None
        if now is None:  # moved away, and not made again yet
            return ""
        if now != self._identity:
            return _REPLACED
        if self._end is None and os.fstat(self._descriptor).st_size < self._offset + len(self._rest):
            return _CUT
        return ""

    def _start_over(self, why: str) -> bool:
        assert self._path is not None
        try:
            descriptor = os.open(self._path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError:  # moved away once more
            return False
        os.close(self._descriptor)
        self._descriptor, self._identity = descriptor, _identity(descriptor)
        self.notices.append(f"{shown(self._path)}: {why}; reading continues from its start")
        self._rest, self._skips = bytearray(), False
        self._number, self._offset, self._begin = 1, 0, 0
        return True


def _identity(descriptor: int) -> tuple[int, int]:
    """Return the same as `identity`, of an open file: its name may be another one's by now."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _is_ready(descriptor: int) -> bool:
    if sys.platform == "win32":
        return True  # select is for sockets there: a read waits
    ready, _, _ = select.select([descriptor], [], [], 0)
    return bool(ready)
