"""Reads the events of a journal, in order or by number, a few megabytes at a time."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from aqueue._journal import file as journal_file
from aqueue.errors import JournalDamaged, JournalTooNew
from aqueue.events import SCHEMA_VERSION, AnyEvent, Event, RunResumed, RunStarted, decode

__all__ = ["EventReader", "damaged", "read_all", "read_events_at"]

_READ_EVENTS: Final = 2_000

_READ_BYTES: Final = 8_000_000
"""How many bytes of events are read at once, about, or one event; 2,000 ordinary ones have 300 kB."""

_STARTS: Final = {RunStarted, RunResumed}
_list_decoder = msgspec.json.Decoder(list[AnyEvent])
_UNREADABLE: Final = (msgspec.MsgspecError, TypeError, UnicodeError, RecursionError)
"""What decoding a stranger's text may raise; JSON that is too deep raises the last."""


class EventReader:
    """Reads the events in a journal in their order, 2,000 at a time, from any connection to it; what comes later, too.

    Attributes:
        after: the number of the last event that was read, known to this aqueue or not.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, *, after: int = 0) -> None:
        """Make a reader of the journal at `path`.

        Parameters:
            connection: a connection to it.
            path: for messages.
            after: begin with the event after this one.
        """
        self.after = after
        self._connection = connection
        self._path = path
        self._has_large = False
        # One string for many rows, and one call to decode it: several times as fast as a row at a time.
        self._query = (
            "SELECT count(*), max(seq), '[' || group_concat(event, ',') || ']' "
            "FROM events WHERE seq BETWEEN ? AND ?"  # a LIMIT needs a subquery, and a fourth more time
        )

    def read(self) -> list[Event] | None:
        """Return the next events, those of types that this aqueue knows; None if there are no more now.

        Raises:
            JournalDamaged: an event is missing or can't be read; the message names it.
            JournalTooNew: a newer aqueue went on with the run.
        """
        path, after = self._path, self.after
        try:
            count, last, events = self._read_at_once() or self._read_rows()
        except sqlite3.Error as error:
            raise JournalDamaged(
                f"the journal {journal_file.shown(path)} can't be read after event {after:,}: "
                f"{journal_file.explain(error)}"
            ) from error
        if not count:
            return None
        if last != after + count:
            raise JournalDamaged(
                f"the journal {journal_file.shown(path)} lacks events between {after + 1:,} and {last:,}; "
                "restore it from a copy"
            )
        for event in () if _STARTS.isdisjoint(map(type, events)) else events:
            if isinstance(event, RunStarted) and event.schema_version > SCHEMA_VERSION:
                raise JournalTooNew(
                    f"the journal {journal_file.shown(path)} was continued by a newer aqueue (event {event.seq:,} is of "
                    f"version {event.schema_version}, this aqueue knows {SCHEMA_VERSION}); upgrade aqueue"
                )
        self.after = last
        return events

    def _read_at_once(self) -> tuple[int, int, list[Event]] | None:
        """Return how many rows come next, the number of the last and their events.

        None if they must be read one by one, if there are none, or if the next 2,000 are missing.
        """
        if self._has_large:
            return None
        found = _concatenated(self._connection, self._query, (self.after + 1, self.after + _READ_EVENTS))
        with suppress(*_UNREADABLE):
            if found is not None and found[0]:
                return found[0], found[1], list(_list_decoder.decode(found[2]))
        return None

    def _read_rows(self) -> tuple[int, int, list[Event]]:
        """Return the same, read row by row, up to `_READ_BYTES`."""
        count, last, size = 0, self.after, 0
        events: list[Event] = []
        for seq, text in self._connection.execute(_ROWS, (self.after, _READ_EVENTS)):
            event = _decode(self._path, seq, text)
            if event is not None:
                events.append(event)
            count, last, size = count + 1, seq, size + len(text)
            if size >= _READ_BYTES:
                break
        self._has_large = size >= _READ_BYTES  # the next ones are probably large, too
        return count, last, events


def read_all(path: Path) -> Iterator[list[Event]]:
    """Yield all events of the journal at `path`, which this process may be writing, by a connection of its own; in any thread.

    Parameters:
        path: the file, resolved and checked.

    Raises:
        JournalDamaged, JournalTooNew: see `EventReader.read`.
    """
    with closing(journal_file.connect(path, "ro")) as connection:
        reader = EventReader(connection, path)
        while (events := reader.read()) is not None:
            yield events


def read_events_at(connection: sqlite3.Connection, path: Path, seqs: Sequence[int]) -> Iterator[Event]:
    """Yield the events with these numbers, in any order, from any connection to the journal at `path`.

    Raises:
        JournalDamaged: one can't be read.
    """
    try:
        for start in range(0, len(seqs), _READ_EVENTS):
            yield from _read_at(connection, path, set(seqs[start : start + _READ_EVENTS]))
    except sqlite3.Error as error:
        raise damaged(path, error) from error


def _read_at(connection: sqlite3.Connection, path: Path, seqs: set[int]) -> Iterator[Event]:
    first, last = min(seqs), max(seqs)
    wanted: tuple[int | str, ...]
    if last - first + 1 == len(seqs):  # one after the other, as the announcements of siblings are: half the time
        where, wanted = "FROM events WHERE seq BETWEEN ? AND ?", (first, last)
    else:
        where = "FROM events WHERE seq IN (SELECT value FROM json_each(?))"
        wanted = (msgspec.json.encode(sorted(seqs)).decode(),)
    found = _concatenated(connection, f"SELECT '[' || group_concat(event, ',') || ']' {where}", wanted)
    if found is not None:
        with suppress(*_UNREADABLE):
            return iter(_list_decoder.decode(found[0] or "[]"))
    rows = connection.execute(f"SELECT seq, event {where}", wanted)
    return (event for seq, text in rows if (event := _decode(path, seq, text)) is not None)


_ROWS: Final = "SELECT seq, event FROM events WHERE seq > ? ORDER BY seq LIMIT ?"


def _concatenated(connection: sqlite3.Connection, query: str, parameters: tuple[int | str, ...]) -> Any:
    """Return the row that `query` makes of many; None if that is longer than `_READ_BYTES`, or than SQLite allows."""
    most = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _READ_BYTES)
    try:
        return connection.execute(query, parameters).fetchone()
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_TOOBIG:
            raise
        return None
    finally:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, most)


def _decode(path: Path, seq: int, text: str) -> Event | None:
    try:
        return decode(text)
    except _UNREADABLE as error:
        raise JournalDamaged(
            f"event {seq:,} in the journal {journal_file.shown(path)} can't be read ({error}); restore it from a copy"
        ) from error


def damaged(path: "str | os.PathLike[str]", error: Exception) -> JournalDamaged:
    """Return the error that says that the journal at `path` can't be read because of `error`."""
    why = journal_file.explain(error) if isinstance(error, sqlite3.Error) else str(error)
    return JournalDamaged(
        f"the journal {journal_file.shown(os.fspath(path))} can't be read: {why}; restore it from a copy"
    )
