"""The jsonl reporter: a run's events as log records by structlog, one JSON object a line, to a file or to stdout."""

import os
import re
import stat
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from aqueue.events import (
    NO_DATA,
    Event,
    ItemChildrenProcessed,
    ItemCompleted,
    ItemDescribed,
    ItemEnqueued,
    ItemFailed,
    ItemInterrupted,
    ItemRetryScheduled,
    ReporterFailed,
    RunStopping,
)
from aqueue.reporting import RunInfo
from aqueue.result import RunResult
from aqueue.text import without_surrogates
from aqueue.view import RunView
from aqueue_reporters._stream import write_all, write_bytes, write_text

__all__ = ["JsonlReporter"]

_LEVELS: dict[type[Event], str] = {
    ItemFailed: "error",
    ReporterFailed: "error",
    RunStopping: "warning",
    ItemInterrupted: "warning",
    ItemRetryScheduled: "warning",
    ItemDescribed: "debug",
}

# The fields that may hold secrets, and are Raw, which msgspec does not turn into plain data.
_DATA_FIELDS: dict[type[Event], tuple[str, ...]] = {
    ItemEnqueued: ("payload",),
    ItemCompleted: ("result", "payload"),
    ItemChildrenProcessed: ("result",),
}


class JsonlReporter:
    r"""Write each event of a run as one line of JSON.

    A line holds the event's own fields as `aqueue.events` names them, its name under ``event``, a ``timestamp`` (its
    time, ISO 8601 in UTC with microseconds) and a ``level``: ``error`` for ``item.failed`` and ``reporter.failed``;
    ``warning`` for ``run.stopping``, ``item.interrupted`` and ``item.retry_scheduled``; ``debug`` for
    ``item.described``; otherwise ``info``. Characters that can't be seen are written as ``\uXXXX``, lone surrogates
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
        self._target: _Target | None = None
        self._logger = _RecordLogger(structlog.ReturnLogger(), [_Timestamper(), *processors, _render], {})

    def open(self, run: RunInfo) -> None:
        """Open the file, creating it if it isn't there.

        Raises:
            OSError: it can't be opened for appending, or there is no stdout.
        """
        self._target = _Stdout() if self._path is None else _File(self._path)

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Write the next events.

        Raises:
            OSError: they can't be written.
            Exception: one of the processors that were given raised it.
        """
        if not events or self._target is None:
            return
        try:
            lines = self._logger.render(self._records(events))
            if lines:
                lines.append(b"")
                self._target.write(b"\n".join(lines))
        except BaseException:
            # A reporter that raises here is detached, not closed.
            self._target.close()
            self._target = None
            raise

    def close(self, result: RunResult) -> None:
        """Close the file."""
        if self._target is not None:
            self._target.close()
            self._target = None

    def _records(self, events: Sequence[Event]) -> Iterator[tuple[str, EventDict]]:
        """Yield each event's level and its record, whose first fields are those that a person looks for."""
        for event in events:
            level = _LEVELS.get(type(event), "info")
            yield level, {"timestamp": "", "level": level, **self._fields(event)}

    def _fields(self, event: Event) -> dict[str, Any]:
        data = {name: raw for name in _DATA_FIELDS.get(type(event), ()) if (raw := getattr(event, name))}
        if not data:
            return msgspec.to_builtins(event)  # type: ignore[no-any-return]  # a Struct becomes a dict
        fields: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(event, **dict.fromkeys(data, NO_DATA)))
        if self._include_data:
            fields.update({name: msgspec.json.decode(raw) for name, raw in data.items()})
        return fields


class _RecordLogger(structlog.BoundLoggerBase):
    """A structlog logger for batches of records that are dicts already.

    structlog's own methods take a record as keyword arguments, copy it twice and call the wrapped logger for each:
    2.6 µs a record where this takes 1.4.
    """

    def render(self, records: Iterable[tuple[str, EventDict]]) -> list[bytes]:
        """Run each record through the processors, and return what the last one, which encodes, makes of it."""
        lines = []
        logger, processors = self._logger, self._processors
        for level, record in records:
            result: Any = record
            try:
                for processor in processors:
                    result = processor(logger, level, result)
            except structlog.DropEvent:
                continue
            lines.append(result)
        return lines


class _Timestamper:
    """A processor that adds the event's time as ``timestamp``. The clock is read for the event, not for the log."""

    def __init__(self) -> None:
        self._seconds: int | None = None
        self._prefix = ""

    def __call__(self, logger: WrappedLogger, method_name: str, event_dict: EventDict) -> EventDict:
        seconds, microseconds = divmod(round(event_dict["at"] * 1_000_000), 1_000_000)
        if seconds != self._seconds:
            self._seconds = seconds
            self._prefix = datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
        event_dict["timestamp"] = f"{self._prefix}.{microseconds:06d}Z"
        return event_dict


_encoder = msgspec.json.Encoder(enc_hook=repr)


def _render(logger: WrappedLogger, method_name: str, event_dict: EventDict) -> bytes:
    """Encode a record: the last processor."""
    try:
        line = _encoder.encode(event_dict)
    except UnicodeEncodeError:
        line = _encoder.encode(_without_surrogates(event_dict))
    # JSON escapes the control characters below a space only.
    if line.isascii() and b"\x7f" not in line:
        return line
    text = line.decode()
    return line if text.isprintable() else _NOT_ASCII_TEXT.sub(_escape_unseen, text).encode()


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_surrogates(inner) for inner in value]
    return value


_NOT_ASCII = re.compile("[^\x00-\x7f]")
_NOT_ASCII_TEXT = re.compile("[^ -~]")


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def _escape_unseen(match: re.Match[str]) -> str:
    # Spaces other than " " count as not printable, but do nothing to a terminal: Japanese uses U+3000.
    character = match[0]
    return character if character.isprintable() or unicodedata.category(character) == "Zs" else _escape(match)


class _Target(Protocol):
    """Where the lines go."""

    def write(self, data: bytes) -> None:
        """Write whole lines."""

    def close(self) -> None:
        """Let go of it."""


class _Stdout:
    def __init__(self) -> None:
        if sys.stdout is None:
            raise OSError("there is no stdout; name a file, as in 'jsonl:run.jsonl'")

    def write(self, data: bytes) -> None:
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

    def close(self) -> None:
        pass


class _File:
    def __init__(self, path: str | os.PathLike[str]) -> None:
        # The program may change its directory before the file is opened again.
        self._path = os.path.abspath(path)
        self._open()

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        status = os.fstat(self._fd)
        self._id = (status.st_dev, status.st_ino)
        self._torn = stat.S_ISREG(status.st_mode) and status.st_size > 0 and not self._ends_with_newline()

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
