"""Checks, without changing a byte, that a file is a whole journal that this aqueue can continue."""

import os
import sqlite3
from contextlib import ExitStack, closing, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from aqueue._journal.file import as_database, connect, explain, is_empty, reason, shown
from aqueue.errors import JournalDamaged, JournalError, JournalTooNew, NotAJournal
from aqueue.events import SCHEMA_VERSION
from aqueue.text import visible

__all__ = ["MAGIC", "check", "check_header", "connect_read_only"]

MAGIC: Final = b"SQLite format 3\0"
"""What every SQLite file begins with."""

_HEADER_BYTES: Final = 100
_MIGRATIONS_TABLE: Final = "_sqlite_migrations"

_SchemaObject = tuple[str, str, str, str | None]
"""Kind, name, table and SQL, as in `sqlite_schema`."""


def check(path: Path) -> None:
    """Raise unless the file at `path` is a whole journal of this aqueue or an older one. Nothing is changed.

    The caller must hold the lock, since the file is read as one that nobody writes.

    Raises:
        NotAJournal: it is something else, or there is something in it that aqueue didn't put there.
        JournalTooNew: a newer aqueue made it.
        JournalDamaged: it is cut short, or can't be read.
        JournalError: there is nothing, or it may not be read.
    """
    # Without a log SQLite would make one, even to read; with ``immutable=1`` it makes nothing.
    _connect_checked(path, "ro" if _has_log(path) else "ro&immutable=1").close()


def _connect_checked(path: Path, mode: str) -> sqlite3.Connection:
    check_header(path)
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(closing(connect(path, mode)))
            _check_schema(connection, path)
            _check_version(connection, path)
        except sqlite3.Error as error:
            raise JournalDamaged(f"the journal {shown(path)} can't be read: {explain(error)}") from error
        stack.pop_all()
    return connection


def _has_log(path: Path) -> bool:
    with suppress(OSError):
        return path.with_name(path.name + "-wal").stat().st_size > 0
    return False


def check_header(path: Path) -> None:
    """Raise unless the first bytes of the file at `path` are those of a journal that isn't cut short.

    No connection of this process may have the file open: closing a file drops all locks that the process has on it.

    Raises:
        NotAJournal, JournalDamaged, JournalError: as `check` raises them.
    """
    if is_empty(path):
        raise JournalError(f"there is no journal at {shown(path)}; name the file that a run has written")
    from aqueue_migrations.migrations import APPLICATION_ID

    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise JournalError(
            f"the journal {shown(path)} can't be read: {reason(error)}; make it readable, or name another file"
        ) from error
    if not header.startswith(MAGIC):
        raise NotAJournal(
            f"{shown(path)} isn't a SQLite file, so it isn't a journal; it wasn't changed; name another file"
        )
    if len(header) < _HEADER_BYTES or header[68:72] != APPLICATION_ID.to_bytes(4, "big"):
        raise NotAJournal(f"{shown(path)} is a SQLite file, but not a journal; it wasn't changed; name another file")
    # See "The Database Header" in SQLite's file format. With a log, pages may still be there instead.
    page_size = int.from_bytes(header[16:18], "big")
    page_size = 65_536 if page_size == 1 else page_size
    expected = int.from_bytes(header[28:32], "big") * page_size
    if size < expected and not _has_log(path):
        raise JournalDamaged(
            f"the journal {shown(path)} is truncated: it has {size:,} of {expected:,} bytes; "
            "it wasn't changed; restore it from a copy, or start a new run in another file"
        )


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    from aqueue_migrations.migrations import migrations

    database = as_database(connection)
    applied = [migration.name for migration in migrations.applied(database)]
    with closing(sqlite3.connect(":memory:")) as empty:
        known = [migration.name for migration in migrations.pending(as_database(empty))]
    if set(applied) - set(known):
        raise JournalTooNew(
            f"the journal {shown(path)} was made by a newer aqueue (its schema has "
            f"{visible(', '.join(sorted(set(applied) - set(known))), 300)}); it wasn't changed; upgrade aqueue"
        )
    if not applied or applied != known[: len(applied)]:
        raise NotAJournal(
            f"{shown(path)} is marked as a journal, but lacks the schema of one; it wasn't changed; name another file"
        )
    found = _schema(connection)
    expected = _expected_schema(len(applied))
    strange = sorted(f"{kind} {name}" for kind, name, _, _ in found - expected)
    if strange:
        raise NotAJournal(
            f"the journal {shown(path)} has objects that aqueue didn't create, or that were changed: "
            f"{visible(', '.join(strange), 500)}; nothing was done to it; drop them (with sqlite3, for example), "
            "and keep your own views and tables in another file that attaches this one"
        )
    missing = sorted(f"{kind} {name}" for kind, name, _, _ in expected - found)
    if missing:
        raise NotAJournal(
            f"the journal {shown(path)} lacks {visible(', '.join(missing), 500)}; it wasn't changed; "
            "restore it from a copy"
        )


class _Version(msgspec.Struct):
    schema_version: int


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    row: tuple[Any] | None = connection.execute("SELECT event FROM events ORDER BY seq LIMIT 1").fetchone()
    if row is None:
        return
    try:
        version = msgspec.json.decode(row[0], type=_Version).schema_version
    except (msgspec.MsgspecError, TypeError) as error:
        raise JournalDamaged(
            f"the first event in the journal {shown(path)} isn't the start of a run; it wasn't changed; "
            "restore it from a copy"
        ) from error
    if version > SCHEMA_VERSION:
        raise JournalTooNew(
            f"the journal {shown(path)} was written by a newer aqueue (events of version {version}, this aqueue knows "
            f"{SCHEMA_VERSION}); it wasn't changed; upgrade aqueue"
        )


@cache
def _expected_schema(num_migrations: int) -> frozenset[_SchemaObject]:
    from aqueue_migrations.migrations import migrations

    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        names = [migration.name for migration in migrations.pending(as_database(connection))]
        migrations.apply(as_database(connection), stop_before=names[num_migrations : num_migrations + 1])
        return _schema(connection)


def _schema(connection: sqlite3.Connection) -> frozenset[_SchemaObject]:
    rows: list[_SchemaObject] = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
    return frozenset(
        # How the table of migrations is written is up to the version of sqlite-utils that made it.
        (kind, name, table, None if table == _MIGRATIONS_TABLE and kind != "trigger" else sql)
        for kind, name, table, sql in rows
        if not name.startswith("sqlite_stat")  # what ANALYZE leaves
    )


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Return a connection that reads the journal at `path`, also while a run writes it, and blocks nobody.

    SQLite may leave an empty log and its index next to the file. ``immutable=1`` would leave none, but then the reader takes
    no locks, and a run that is resumed meanwhile would change pages under it unnoticed.

    Raises:
        NotAJournal, JournalTooNew, JournalDamaged, JournalError: as `check` raises them.
    """
    try:
        return _connect_checked(path, "ro")
    except JournalDamaged as error:
        if _has_log(path) or not isinstance(error.__cause__, sqlite3.OperationalError):
            raise
        # In a folder where SQLite can't make the files that a log needs, nobody can be writing one either.
        return _connect_checked(path, "ro&immutable=1")
