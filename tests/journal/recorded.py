"""Journals in tests: read back whole, and cut off as a crash would have left them."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from aqueue.events import Event, decode

__all__ = ["cut", "events_of"]


def events_of(path: Path) -> list[Event]:
    """Return all events in the journal at `path`, also while another process is writing it."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT event FROM events ORDER BY seq").fetchall()
    events = [decode(text) for (text,) in rows]
    return [event for event in events if event is not None]


def cut(path: Path, after: int, to: Path) -> Path:
    """Write the first `after` events of the journal at `path` into a new one at `to`, as a crash would leave them."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(path, to)
    with closing(sqlite3.connect(to)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        with connection:
            connection.execute("DELETE FROM events WHERE seq > ?", (after,))
    return to
