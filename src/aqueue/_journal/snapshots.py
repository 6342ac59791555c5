"""The table of snapshots in a journal: the state of a run at some event, so that its events needn't be folded again.

It is a cache: without it a journal says the same. Nothing here knows what the parts of a snapshot mean. A part is compressed
by zlib, which also has a checksum. A snapshot is used only if all of its parts are there, and if the event at which it was
made is the one in this journal: it may have been copied from another one, or the journal may have lost its end.
"""

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

import msgspec

__all__ = ["SnapshotWriter", "read_snapshots"]

_LEVEL: Final = 1
_LAST: Final = "last"
"""The name of the part that is written last, and says whether a snapshot is whole."""

_KEPT: Final = 2
"""How many snapshots are kept: if the last one is damaged, there is another."""


class _Last(msgspec.Struct, frozen=True):
    """What the last part says.

    Attributes:
        event: a checksum of the event at which the snapshot was made.
        parts: how many parts are needed, those of earlier snapshots included.
    """

    event: int
    parts: int


class UnusableSnapshot(Exception):
    """A snapshot isn't whole."""


def read_snapshots(
    connection: sqlite3.Connection, growing: Sequence[str]
) -> Iterator[tuple[int, Iterator[tuple[str, bytes]]]]:
    """Yield the snapshots that belong to this journal, the last one first.

    Parameters:
        connection: a connection to the journal; an older one has no snapshots.
        growing: the names of the parts that are also needed of earlier snapshots.

    Yields:
        The number of the last event that is in it, and its parts, those of earlier snapshots first. Reading them
        raises an exception if one is missing or damaged.
    """
    try:
        found = connection.execute(
            "SELECT seq, data FROM snapshots WHERE name = ? ORDER BY seq DESC", (_LAST,)
        ).fetchall()
    except sqlite3.Error:
        return
    for seq, data in found:
        with suppress(sqlite3.Error, msgspec.MsgspecError, TypeError):
            last = msgspec.msgpack.decode(data, type=_Last)
            if _checksum(connection, seq) == last.event:
                yield seq, _parts(connection, seq, last.parts, growing)


def _parts(connection: sqlite3.Connection, seq: int, count: int, growing: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    marks = ", ".join("?" * len(growing))
    for name, data in connection.execute(
        f"SELECT name, data FROM snapshots WHERE seq = ? AND name != ? OR seq < ? AND name IN ({marks}) "  # noqa: S608
        "ORDER BY seq, part",
        (seq, _LAST, seq, *growing),
    ):
        yield name, zlib.decompress(data)
        count -= 1
    if count:
        raise UnusableSnapshot(seq)


def _checksum(connection: sqlite3.Connection, seq: int) -> int | None:
    row = connection.execute("SELECT CAST(event AS BLOB) FROM events WHERE seq = ?", (seq,)).fetchone()
    return None if row is None else zlib.crc32(row[0])


class SnapshotWriter:
    """Writes snapshots, one after the other, each part in a transaction of its own: they may be large."""

    def __init__(self, connection: sqlite3.Connection, growing: Sequence[str], last: int) -> None:
        """Prepare to write.

        Parameters:
            connection: a connection to the journal, in autocommit mode.
            growing: the names of the parts that are needed for later snapshots, too.
            last: the number of the event of the snapshot on which the next one is based; 0 for none.
        """
        self._execute = connection.execute
        self._connection = connection
        self._growing = growing
        self._marks = ", ".join("?" * len(growing))
        self._complete = [last]
        self._seq = 0
        self._part = 0

    def begin(self, seq: int) -> None:
        """Begin a snapshot at the event `seq`. What is left of one that wasn't finished, or wasn't usable, goes."""
        self._execute("DELETE FROM snapshots WHERE seq > ?", (self._complete[-1],))
        self._seq, self._part = seq, 0

    def add(self, name: str, data: bytes) -> None:
        """Write a part."""
        self._insert(name, zlib.compress(data, _LEVEL))

    def finish(self) -> None:
        """Make the snapshot usable, and delete what is no longer needed."""
        seq = self._seq
        (earlier,) = self._execute(
            f"SELECT count(*) FROM snapshots WHERE seq < ? AND name IN ({self._marks})",  # noqa: S608
            (seq, *self._growing),
        ).fetchone()
        event = _checksum(self._connection, seq)
        assert event is not None
        self._insert(_LAST, msgspec.msgpack.encode(_Last(event, self._part + earlier)))
        self._complete = [*self._complete, seq][-_KEPT:]
        self._execute(
            f"DELETE FROM snapshots WHERE seq < ? AND name NOT IN ({self._marks})",  # noqa: S608
            (self._complete[0], *self._growing),
        )

    def _insert(self, name: str, data: bytes) -> None:
        self._execute(
            "INSERT INTO snapshots (seq, part, name, data) VALUES (?, ?, ?, ?)", (self._seq, self._part, name, data)
        )
        self._part += 1
