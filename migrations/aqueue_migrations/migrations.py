"""The journal's schema. Migrations are only ever appended: a journal of any earlier aqueue must open for ever.

The same file serves aqueue and a person: ``sqlite-utils migrate run.db migrations/``.
"""

from typing import Final

from sqlite_utils import Database, Migrations

__all__ = ["APPLICATION_ID", "migrations"]

APPLICATION_ID: Final = 0x61717565
"""What marks a SQLite file as a journal: the bytes ``aque``, in the file's header at offset 68."""

migrations = Migrations("aqueue")


@migrations()
def m001_events(db: Database) -> None:
    """Make the table of events: one row for each, its number and its JSON."""
    # SQLite keeps the text of each statement, and aqueue compares it: what is written here must never change.
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, event TEXT NOT NULL)")
