"""Reads a recorded run from a log: JSON lines as the jsonl reporter writes them."""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from aqueue._history.history import CannotRead, History, Line
from aqueue._history.log_file import Chunk, LogFile
from aqueue.events import SCHEMA_VERSION, AnyEvent, Event, RunStarted, decode
from aqueue.text import visible

__all__ = ["LogHistory", "LogRun", "runs_in"]

_PATIENCE_LINES: Final = 1_000
"""After so many lines without one event, a file is no log, however long it is."""

_AVERAGE_LINE_BYTES: Final = 200
_START: Final = b'"run.started"'
_BOM: Final = b"\xef\xbb\xbf"
_decode_all = msgspec.json.Decoder(AnyEvent).decode_lines
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)


def _decode(line: bytes) -> Event | None:
    """Return the event in a line, which may begin with the mark that some programs put before UTF-8."""
    return decode(line.removeprefix(_BOM))


class LogRun(NamedTuple):
    """Where a run begins in a log, which may hold several, one after the other.

    Attributes:
        run_id: names it; empty where the log begins in the middle of a run.
        number: its first line's number, from 1.
        offset: where that begins, in bytes.
        end: where the next run begins, in bytes; None for the last one.
    """

    run_id: str
    number: int
    offset: int
    end: int | None


def runs_in(descriptor: int) -> list[LogRun]:
    """Return the runs in the log open as `descriptor`, in their order; at least one."""
    starts = []
    file = LogFile(descriptor)
    file.seek(0, 1, None)
    for chunk in iter(file.read, None):
        offset = chunk.offset
        for number, line in enumerate(chunk.data.split(b"\n") if _START in chunk.data else (), chunk.number):
            if _START in line:
                starts += [(one.run_id, number, offset) for one in _readable([line]) if type(one) is RunStarted]
            offset += len(line) + 1
    # Only where there are events before the first start is that another run.
    if not starts or (starts[0][2] > 0 and _has_event(descriptor, starts[0][2])):
        starts.insert(0, ("", 1, 0))
    ends: list[int | None] = [offset for _, _, offset in starts[1:]]
    return [LogRun(*start, end) for start, end in zip(starts, [*ends, None], strict=True)]


def _readable(lines: Iterable[bytes]) -> Iterator[Event]:
    """Yield the events in `lines`."""
    for line in lines:
        with suppress(*_UNREADABLE):
            event = _decode(line)
            if event is not None:
                yield event


def _has_event(descriptor: int, end: int) -> bool:
    file = LogFile(descriptor)
    file.seek(0, 1, end)
    return any(True for chunk in iter(file.read, None) for _ in _readable(chunk.data.splitlines()))


class LogHistory(History):
    """The events of one run in a log, also while it grows."""

    is_journal = False

    def __init__(self, file: LogFile, *, name: str, path: Path | None, follows: bool) -> None:
        """Read `file`, which is at the run's beginning.

        Parameters:
            file: the lines.
            name: the log's name, safe to show.
            path: the file; None for standard input.
            follows: whether a last line without its end is to be waited for; otherwise it counts if it is whole.
        """
        super().__init__(name, path)
        self._file = file
        self._follows = follows
        self._is_part = False  # events before those that are read may be there
        self._num_events = 0
        self._num_garbled = 0
        self._first_garbled = (0, "")  # its number, and why it can't be read
        self._read_unended = False
        self._index: list[tuple[int, int, int]] = []  # of each chunk: its first event's number, offset and size

    def read(self) -> list[Event] | None:
        """Return the next events, repaired; None if there are no more now.

        Raises:
            CannotRead: it is no log, or a newer aqueue wrote it.
        """
        chunk = None if self.is_over else self._next_chunk()
        if chunk is None:
            return None
        events = [event for _, event in self._decode_lines(chunk)]
        if events:
            self._index.append((events[0].seq, chunk.offset, len(chunk.data)))
        for at, event in enumerate(events):
            if type(event) is RunStarted and (at or self._num_events):
                self.is_over = True
                events = events[:at]
                break
        self._num_events += len(events)
        return self._repairer.repair(events)

    def read_lines(self) -> list[Line] | None:
        """Return the next events, as they are, and their lines; None if there are no more now. It raises what `read` does.

        The lines of several runs in one log follow each other.
        """
        chunk = self._next_chunk()
        if chunk is None:
            return None
        lines = self._decode_lines(chunk)
        self._num_events += len(lines)
        return lines

    def _decode_lines(self, chunk: Chunk) -> list[Line]:
        """Return the events in `chunk` and their lines; note the lines that can't be read."""
        lines = [line for line in chunk.data.split(b"\n") if line]
        events: list[Event] = []
        with suppress(*_UNREADABLE):
            events = list(_decode_all(chunk.data))
        found = list(zip(lines, events, strict=False))
        # JSON may also be spread over lines, or two on one: then none of the lines is an event, or not the one next to it.
        if len(events) != len(lines) or not all(line[:1] == b"{" for line in lines):
            found = []
            for number, line in enumerate(chunk.data.split(b"\n"), chunk.number):
                try:
                    event = _decode(line) if line and not line.isspace() else None
                except _UNREADABLE as error:
                    self._note_garbled(number, error, is_first=not found)
                    continue
                if event is not None:
                    found.append((line, event))
        for _, event in found:
            if isinstance(event, RunStarted) and event.schema_version > SCHEMA_VERSION:
                raise CannotRead(
                    f"{self.name} was written by a newer aqueue (event {event.seq:,} is of version "
                    f"{event.schema_version}, this aqueue knows {SCHEMA_VERSION}); upgrade aqueue"
                )
        return found

    def start_near_end(self, num_events: int) -> bool:
        """Begin near the end, at a whole line; return whether that leaves any events out."""
        self._num_events = self._num_garbled = 0
        self._read_unended = False
        self._is_part = self._file.seek_before_end(num_events * _AVERAGE_LINE_BYTES)
        return self._is_part

    def events_at(self, seqs: Collection[int]) -> dict[int, Event]:
        """Return the events with these numbers; where the file has been cut meanwhile, some may not be there."""
        firsts = [first for first, _, _ in self._index]
        wanted = set(seqs)
        found: dict[int, Event] = {}
        for at in sorted({max(bisect_right(firsts, seq) - 1, 0) for seq in wanted} if firsts else ()):
            _, offset, size = self._index[at]
            for event in _readable(self._file.read_again(offset, size).split(b"\n")):
                if event.seq in wanted:
                    found.setdefault(event.seq, event)
        return found

    def take_notices(self) -> list[str]:
        """Return what happened to the file since the last call."""
        notices, self._file.notices = self._file.notices, []
        return notices

    def skipped_lines(self) -> str:
        """Return which lines could not be read, if any."""
        count = self._num_garbled + self._file.num_too_long
        if not count:
            return ""
        number, reason = self._first_garbled if self._num_garbled else self._file.first_too_long
        first = "a line near its end" if self._is_part else f"line {number:,}"
        if count == 1:
            return f"{self.name}: {first} could not be read and was skipped ({reason})"
        return f"{self.name}: {count:,} lines could not be read and were skipped; the first is {first} ({reason})"

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _next_chunk(self) -> Chunk | None:
        chunk = self._file.read()
        if chunk is None:
            self.is_over = self._file.is_over
            if not self._read_unended and (self.is_over or not self._follows):
                self._read_unended = True
                chunk = self._file.read_unended()
                if chunk is not None and any(_readable([chunk.data])):
                    return chunk
            self._check_that_it_is_a_log(at_end=True)
            return None
        return chunk

    def _note_garbled(self, number: int, error: Exception, *, is_first: bool) -> None:
        if not self._num_garbled:
            self._first_garbled = number, visible(str(error), 200)
        self._num_garbled += 1
        if is_first and self._num_garbled >= _PATIENCE_LINES:
            self._check_that_it_is_a_log()

    def _check_that_it_is_a_log(self, *, at_end: bool = False) -> None:
        if self._num_events or self._is_part or not (self._num_garbled or at_end):
            return
        if at_end and self.path is None and self._follows and not self.is_over:
            return  # a program may print something before its run begins
        if self._num_garbled:
            raise CannotRead(
                f"{self.name} is neither a journal nor a log from aqueue: line {self._first_garbled[0]:,} isn't an event "
                f"({self._first_garbled[1]}); name the file that a run has written"
            )
        if not self._follows or self.is_over:
            raise CannotRead(f"{self.name} has no event of a run; name the file that a run has written")
