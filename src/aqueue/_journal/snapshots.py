"""The table of snapshots in a journal: the state of a run at some event, so that its events needn't be folded again.

It is a cache: without it a journal says the same. Nothing here knows what the parts of a snapshot mean. A part is compressed
by zlib, which also has a checksum. A snapshot is used only if all of its parts are there, and if the event at which it was
made is the one in this journal: it may have been copied from another one, or the journal may have lost its end.
"""

import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec

__all__ = ["SnapshotWriter", "read_snapshots"]

Transact = Callable[[Callable[[sqlite3.Connection], object]], None]

_RANDOM: Final = ("keys", "initial_digests")
"""The parts that can't be compressed."""

_MAX_BYTES: Final = 256_000_000
"""The size of a part, of which ordinary ones have a megabyte: a stranger's could be of any size."""

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
    for name, data in connection.execute(
        "SELECT name, data FROM snapshots WHERE seq = ? AND name != ? "
        "OR seq < ? AND name IN (SELECT value FROM json_each(?)) ORDER BY seq, part",
        (seq, _LAST, seq, msgspec.json.encode(growing).decode()),
    ):
        part = zlib.decompressobj()
        yield name, part.decompress(data, _MAX_BYTES)
        count -= 1
        if not part.eof:
            raise UnusableSnapshot(seq)
    if count:
        raise UnusableSnapshot(seq)


def _checksum(connection: sqlite3.Connection, seq: int) -> int | None:
    row = connection.execute("SELECT CAST(event AS BLOB) FROM events WHERE seq = ?", (seq,)).fetchone()
    return None if row is None else zlib.crc32(row[0])


class SnapshotWriter:
    """Writes snapshots, one after the other, each part in a transaction of its own: they may be large."""

    def __init__(self, transact: Transact, growing: Sequence[str], last: int) -> None:
        """Prepare to write.

        Parameters:
            transact: calls a function with a connection to the journal, in a transaction.
            growing: the names of the parts that are needed for later snapshots, too.
            last: the number of the event of the snapshot on which the next one is based; 0 for none.
        """
        self._transact = transact
        self._growing = growing
        self._complete = [last]

    def write(self, seq: int, parts: Iterable[tuple[str, bytes]]) -> None:
        """Write the snapshot at the event `seq`.

        If this raises, the snapshot isn't there, and the next one must have all that this one had.
        """
        # What is left of a snapshot that wasn't finished, or wasn't usable. Then at most one row per transaction, so that
        # the last one, which makes the snapshot usable, is there if and only if this returns.
        self._transact(
            lambda connection: connection.execute("DELETE FROM snapshots WHERE seq > ?", (self._complete[-1],))
        )
        part = -1
        for part, (name, data) in enumerate(parts):
            # Digests look random, so compressing them takes long for nothing; level 0 only adds the checksum.
            level = 0 if name in _RANDOM else 1
            row = (seq, part, name, zlib.compress(data, level))
            self._transact(partial(_insert, row))
        self._transact(partial(self._finish, seq, part + 1))
        self._complete = [*self._complete, seq][-_KEPT:]

    def _finish(self, seq: int, count: int, connection: sqlite3.Connection) -> None:
        names = msgspec.json.encode(self._growing).decode()
        (earlier,) = connection.execute(
            "SELECT count(*) FROM snapshots WHERE seq < ? AND name IN (SELECT value FROM json_each(?))",
            (seq, names),
        ).fetchone()
        event = _checksum(connection, seq)
        assert event is not None
        _insert((seq, count, _LAST, msgspec.msgpack.encode(_Last(event, count + earlier))), connection)
        kept = [*self._complete, seq][-_KEPT]
        connection.execute(
            "DELETE FROM snapshots WHERE seq < ? AND name NOT IN (SELECT value FROM json_each(?))", (kept, names)
        )


def _insert(row: tuple[int, int, str, bytes], connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO snapshots (seq, part, name, data) VALUES (?, ?, ?, ?)", row)
