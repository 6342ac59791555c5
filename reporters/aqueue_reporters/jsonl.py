"""The jsonl reporter: a run's events as log records by structlog, one JSON object a line, to a file or to stdout."""

import os
import re
import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog
from structlog.typing import Processor

from aqueue.events import Event
from aqueue.log_lines import line_of, record_of, render_record
from aqueue.reporting import RunInfo
from aqueue.result import RunResult
from aqueue.view import RunView
from aqueue_reporters._stream import write_all, write_bytes, write_text

__all__ = ["JsonlReporter"]


class JsonlReporter:
    r"""Write each event of a run as one line of JSON.

    A line holds the event's own fields as `aqueue.events` names them, its name under ``event``, a ``timestamp`` (its
    time, ISO 8601 in UTC with microseconds) and a ``level``: ``error`` for ``item.failed`` and ``reporter.failed``;
    ``warning`` for ``run.stopping``, ``run.held_up``, ``loop.blocked``, ``item.interrupted``, ``item.cancelled`` and ``item.retry_scheduled``;
    ``debug`` for ``item.described``; otherwise ``info``. Characters that can't be seen are written as ``\uXXXX``, lone surrogates
    as U+FFFD, so that a line is always one line and can be shown on a terminal.

    The lines of one batch are written at once. A file is created readable by its owner alone, and appended to; when
    it is moved away or removed (logrotate), a new one is begun.

    Parameters:
        path: the file; None writes to stdout.
        include_data: whether to include the items' payloads and results, which may hold secrets. Default False.
        processors: structlog processors that see each record, as a dict, before it is encoded; one may change it, or
            drop it by raising `structlog.DropEvent`. What they add and JSON can't carry is written as its `repr`.
            structlog's global configuration is neither used nor changed.
    """

    uses_terminal = False

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        include_data: bool = False,
        processors: Sequence[Processor] = (),
    ) -> None:
        self._path = path
        self._include_data = include_data
        self._processors = processors
        self._write: Callable[[bytes], None] | None = None
        self._file: _File | None = None

    def open(self, run: RunInfo) -> None:
        """Open the file, creating it if it isn't there.

        Raises:
            OSError: it can't be opened for appending, or there is no stdout.
            ValueError: the file is an SQLite database, such as a journal; it wasn't changed.
        """
        if self._path is not None:
            self._file = _File(self._path)
            self._write = self._file.write
        elif sys.stdout is None:
            raise OSError("there is no stdout; name a file, as in 'jsonl:run.jsonl'")
        else:
            self._write = _write_to_stdout

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Write the next events.

        Raises:
            OSError: they can't be written.
            Exception: one of the processors that were given raised it.
        """
        if not events or self._write is None:
            return
        try:
            lines = [line for event in events if (line := self._line(event)) is not None]
            if lines:
                self._write(b"\n".join((*lines, b"")))
        except BaseException:
            # A reporter that raises here is detached, not closed.
            self._close()
            raise

    def _line(self, event: Event) -> bytes | None:
        """Return the record of `event` as the processors leave it; None if one of them drops it."""
        if not self._processors:
            return line_of(event, self._include_data)
        # Without a structlog logger, which takes a record as keyword arguments and copies it twice, in twice the time.
        record: Any = record_of(event, self._include_data)
        level = record["level"]
        try:
            for processor in self._processors:
                record = processor(None, level, record)
        except structlog.DropEvent:
            return None
        return render_record(record)

    def close(self, result: RunResult) -> None:
        """Close the file."""
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._write = None


_NOT_ASCII = re.compile("[^\x00-\x7f]")
_SQLITE: Final = b"SQLite format 3\0"


def _escape(match: re.Match[str]) -> str:
    """Write a character that a terminal's encoding lacks as JSON does, one beyond the first plane as two."""
    units = match[0].encode("utf-16-be")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def _write_to_stdout(data: bytes) -> None:
    # Looked up each time: a display may have replaced it, to show above itself what is printed.
    stream = sys.stdout
    if hasattr(stream, "buffer") and not stream.isatty():
        write_bytes(stream, data)
        return
    text = data.decode()
    try:
        text.encode(stream.encoding or "utf-8", stream.errors or "strict")
    except UnicodeEncodeError:
        text = _NOT_ASCII.sub(_escape, text)
    write_text(stream, text)


class _File:
    def __init__(self, path: str | os.PathLike[str]) -> None:
        # The program may change its directory before the file is opened again.
        self._path = os.path.abspath(path)
        self._open()

    def _open(self) -> None:
        if self._is_database():
            raise ValueError(f"{self._path} is an SQLite database, such as a journal; name another file for the log")
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        status = os.fstat(self._fd)
        self._id = (status.st_dev, status.st_ino)
        self._torn = stat.S_ISREG(status.st_mode) and status.st_size > 0 and not self._ends_with_newline()

    def _is_database(self) -> bool:
        # One that isn't there or may not be read is none; a pipe that is opened to be read would wait for its writer.
        with suppress(OSError):
            if stat.S_ISREG(os.stat(self._path).st_mode):
                with open(self._path, "rb") as file:
                    return file.read(len(_SQLITE)) == _SQLITE
        return False

    def _ends_with_newline(self) -> bool:
        """Return False if whoever wrote last was cut off in the middle of a line."""
        try:
            with open(self._path, "rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read(1) == b"\n"
        except PermissionError:  # a file that may be appended to, but not read
            return True

    def write(self, data: bytes) -> None:
        if self._was_moved():
            os.close(self._fd)
            self._open()
        write_all(self._fd, b"\n" + data if self._torn else data)
        self._torn = False

    def _was_moved(self) -> bool:
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return True
        return (status.st_dev, status.st_ino) != self._id

    def close(self) -> None:
        os.close(self._fd)
