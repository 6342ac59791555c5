"""The journal's file: made whole or not at all, checked before it is trusted, locked, connected to."""

import os
import socket
import sqlite3
import stat
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec

from aqueue.errors import JournalDamaged, JournalError, JournalExists, JournalLocked, JournalTooNew, NotAJournal
from aqueue.events import SCHEMA_VERSION
from aqueue.text import visible

if TYPE_CHECKING:
    from filelock import BaseFileLock
    from sqlite_utils import Database

__all__ = [
    "check",
    "connect_read_only",
    "connect_to_write",
    "explain",
    "identity",
    "is_empty",
    "lock",
    "make",
    "refuse_existing",
    "shown",
]

BUSY_TIMEOUT_S: Final = 2.0
"""How long SQLite itself waits for another connection that is writing, before the user is told about it."""

MIN_SQLITE: Final = (3, 38)

_MAGIC: Final = b"SQLite format 3\0"
_HEADER_BYTES: Final = 100
_MIGRATIONS_TABLE: Final = "_sqlite_migrations"

_SchemaObject = tuple[str, str, str, str | None]
"""Kind, name, table and SQL, as in `sqlite_schema`."""


def shown(path: Path | str) -> str:
    """Return `path` for a message: on one line, with nothing in it that steers a terminal."""
    return visible(str(path), 1_000)


# ---- what is there ------------------------------------------------------------------------------------------------


def is_empty(path: Path) -> bool:
    """Tell whether a new journal may be made at `path`: nothing is there, or an empty file.

    Nothing is opened: closing a file drops the locks that SQLite holds on it anywhere in the process.

    Raises:
        NotAJournal: it is a directory or another thing that is no regular file.
        JournalError: it can't be reached.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise JournalError(
                f"there is no folder {shown(path.parent)} for the journal {path.name!r}; make the folder, "
                "or name a file in one that exists"
            ) from None
        return True
    except OSError as error:
        raise JournalError(
            f"the journal {shown(path)} can't be reached: {_reason(error)}; name another file"
        ) from error
    if stat.S_ISDIR(found.st_mode):
        raise NotAJournal(f"{shown(path)} is a directory; name a file in it, such as {shown(path / 'run.db')}")
    if not stat.S_ISREG(found.st_mode):
        raise NotAJournal(f"{shown(path)} is no regular file; name a file on a local disk")
    return found.st_size == 0


def refuse_existing(path: Path) -> None:
    """Raise if a new run can't be journalled at `path`.

    Raises:
        JournalExists: a file with something in it is there.
        NotAJournal, JournalError: as `is_empty` raises them.
    """
    if not is_empty(path):
        raise JournalExists(
            f"the journal {shown(path)} exists already; to go on with its run, write resume={str(path)!r} instead of "
            "journal=…, or name another file for a new run"
        )


def identity(path: Path | str) -> tuple[int, int] | None:
    """Return what tells the file at `path` from another one that took its place, or None if none is there."""
    try:
        found = os.stat(path)  # a third of Path.stat's time, after every commit
    except OSError:
        return None
    return found.st_dev, found.st_ino


# ---- the lock -----------------------------------------------------------------------------------------------------


def lock(path: Path) -> "BaseFileLock":
    """Take the operating system's lock that admits one run to the journal at `path`; it dies with the process.

    It is on ``PATH.lock``, which names the owner and is never removed: whoever removed it would let two runs in.

    Raises:
        JournalLocked: another run has it.
        JournalError: the lock file can't be made or the file system has no locks.
    """
    from filelock import FileLock, Timeout  # without a journal it isn't needed

    name = f"{path}.lock"
    owner = FileLock(name, blocking=False, thread_local=False, mode=0o600, preserve_lock_file=True)
    try:
        owner.acquire()
    except Timeout:
        raise JournalLocked(
            f"the journal {shown(path)} is in use by another run ({_owner(name)}); wait until that has ended, or stop it"
        ) from None
    except OSError as error:
        raise JournalError(
            f"the lock file {shown(name)} beside the journal can't be used: {_reason(error)}; "
            "the journal needs a folder on a local disk in which you may write"
        ) from error
    # Who has the lock is only told, never relied on, so a full disk is no reason to refuse.
    with suppress(OSError):
        Path(name).write_text(f"pid {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
    return owner


def _owner(name: str) -> str:
    with suppress(OSError):
        text = Path(name).read_text(encoding="utf-8", errors="replace").strip()
        if text:
            return visible(text, 300)
    return "its process is not known"


# ---- making it ----------------------------------------------------------------------------------------------------


def make(path: Path) -> None:
    """Make an empty journal at `path`, readable by its owner only; the lock must be held.

    It is made under another name and moved into its place, so that whatever happens there is no half of one.

    Raises:
        JournalError: the folder is not writable, the disk is full, or the file system can't do what SQLite needs.
    """
    new = path.with_name(path.name + ".new")
    try:
        for leftover in (new, *_beside(new)):
            leftover.unlink(missing_ok=True)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_CLOEXEC", 0), 0o600))
        with closing(_connect(new, "rw")) as connection:
            _migrate(connection)
            _use_wal(connection, path)
        # A log without its database is worth nothing, but SQLite would play it into the new one.
        for leftover in _beside(path):
            leftover.unlink(missing_ok=True)
        new.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise JournalError(
            f"the journal {shown(path)} can't be made: {_reason(error)}; it needs a folder in which you may write"
        ) from error
    except sqlite3.Error as error:
        raise JournalError(f"the journal {shown(path)} can't be made: {explain(error)}") from error


def _beside(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # some file systems can't; they order it by themselves or not at all
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _use_wal(connection: sqlite3.Connection, path: Path) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise JournalError(
            f"the journal {shown(path)} can't be written safely: its file system doesn't allow SQLite's write-ahead log "
            "(network file systems don't); name a file on a local disk"
        )


# ---- connecting ---------------------------------------------------------------------------------------------------


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    if sqlite3.sqlite_version_info < MIN_SQLITE:
        raise JournalError(
            f"the journal needs SQLite 3.38 or newer, this Python has {sqlite3.sqlite_version}; use a newer Python"
        )
    connection = sqlite3.connect(
        f"file:{quote(os.fspath(path))}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    # Nothing that a stranger put into the file (a trigger, a view, a default) may call functions with side effects.
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def connect_to_write(path: Path) -> sqlite3.Connection:
    """Return the one connection that writes to the journal at `path`, which is locked and was checked.

    Every commit is on the disk when it returns.
    """
    connection = _connect(path, "rw")
    try:
        _use_wal(connection, path)
        connection.execute("PRAGMA synchronous = FULL")
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Return a connection that reads the journal at `path`, also while a run is writing it, and holds nobody up.

    Raises:
        NotAJournal, JournalTooNew, JournalDamaged: as `check` raises them.
        JournalError: the file can't be read.
    """
    check(path)
    try:
        return _connect(path, "ro")
    except sqlite3.Error as error:
        raise JournalError(f"the journal {shown(path)} can't be read: {explain(error)}") from error


# ---- the schema ---------------------------------------------------------------------------------------------------


def _as_database(connection: sqlite3.Connection) -> "Database":
    from sqlite_utils import Database  # it takes longer to import than the rest of aqueue

    return Database(connection, execute_plugins=False)


def _migrate(connection: sqlite3.Connection) -> None:
    from aqueue_migrations.migrations import migrations  # it imports sqlite-utils

    database = _as_database(connection)
    if migrations.pending(database):
        migrations.apply(database)


@cache
def _expected_schema(num_migrations: int) -> frozenset[_SchemaObject]:
    from aqueue_migrations.migrations import migrations

    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        names = [migration.name for migration in migrations.pending(_as_database(connection))]
        migrations.apply(_as_database(connection), stop_before=names[num_migrations : num_migrations + 1])
        return _schema(connection)


def _schema(connection: sqlite3.Connection) -> frozenset[_SchemaObject]:
    rows: list[_SchemaObject] = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
    return frozenset(
        # How the table of migrations is written is up to the version of sqlite-utils that made it.
        (kind, name, table, None if table == _MIGRATIONS_TABLE and kind != "trigger" else sql)
        for kind, name, table, sql in rows
        if not name.startswith("sqlite_stat")  # what ANALYZE leaves
    )


def check(path: Path) -> None:
    """See that the file at `path` is a whole journal, of this aqueue or an older one, without changing anything.

    Raises:
        NotAJournal: it is something else, or there is something in it that aqueue didn't put there.
        JournalTooNew: a newer aqueue made it.
        JournalDamaged: it is cut short, or can't be read.
        JournalError: there is nothing, or it may not be read.
    """
    if is_empty(path):
        raise JournalError(f"there is no journal at {shown(path)}; name the file that a run has written")
    has_log = _has_log(path)
    _check_header(path, has_log)
    try:
        with closing(_connect(path, "ro" if has_log else "ro&immutable=1")) as connection:
            _check_schema(connection, path)
            _check_version(connection, path)
    except sqlite3.Error as error:
        raise JournalDamaged(f"the journal {shown(path)} can't be read: {explain(error)}") from error


def _has_log(path: Path) -> bool:
    with suppress(OSError):
        return path.with_name(path.name + "-wal").stat().st_size > 0
    return False


def _check_header(path: Path, has_log: bool) -> None:
    from aqueue_migrations.migrations import APPLICATION_ID

    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise JournalError(
            f"the journal {shown(path)} can't be read: {_reason(error)}; make it readable, or name another file"
        ) from error
    if not header.startswith(_MAGIC):
        raise NotAJournal(
            f"{shown(path)} is no SQLite file, and so no journal; it was left as it is; name another file"
        )
    if len(header) < _HEADER_BYTES or header[68:72] != APPLICATION_ID.to_bytes(4, "big"):
        raise NotAJournal(
            f"{shown(path)} is a SQLite file of another program, no journal; it was left as it is; name another file"
        )
    # See "The Database Header" in SQLite's file format. With a log, pages may still be there instead.
    page_size = int.from_bytes(header[16:18], "big")
    page_size = 65_536 if page_size == 1 else page_size
    expected = int.from_bytes(header[28:32], "big") * page_size
    if size < expected and not has_log:
        raise JournalDamaged(
            f"the journal {shown(path)} is cut short: {size:,} of {expected:,} bytes are there; "
            "it was left as it is; restore it from a copy, or start a new run in another file"
        )


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    from aqueue_migrations.migrations import migrations

    database = _as_database(connection)
    applied = [migration.name for migration in migrations.applied(database)]
    with closing(sqlite3.connect(":memory:")) as empty:
        known = [migration.name for migration in migrations.pending(_as_database(empty))]
    if set(applied) - set(known):
        raise JournalTooNew(
            f"the journal {shown(path)} was made by a newer aqueue (its schema has "
            f"{visible(', '.join(sorted(set(applied) - set(known))), 300)}); it was left as it is; upgrade aqueue"
        )
    if not applied or applied != known[: len(applied)]:
        raise NotAJournal(
            f"{shown(path)} is marked as a journal but lacks its schema; it was left as it is; name another file"
        )
    found = _schema(connection)
    expected = _expected_schema(len(applied))
    strange = sorted(f"{kind} {name}" for kind, name, _, _ in found - expected)
    if strange:
        raise NotAJournal(
            f"the journal {shown(path)} has what aqueue didn't put there or what was changed: "
            f"{visible(', '.join(strange), 500)}; it was left as it is; drop that (with sqlite3, say), "
            "and keep views and tables of your own in another file that attaches this one"
        )
    missing = sorted(f"{kind} {name}" for kind, name, _, _ in expected - found)
    if missing:
        raise NotAJournal(
            f"the journal {shown(path)} lacks {visible(', '.join(missing), 500)}; it was left as it is; "
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
            f"the first event in the journal {shown(path)} is not that of a run's start; it was left as it is; "
            "restore it from a copy"
        ) from error
    if version > SCHEMA_VERSION:
        raise JournalTooNew(
            f"the journal {shown(path)} was written by a newer aqueue (events of version {version}, this aqueue knows "
            f"{SCHEMA_VERSION}); it was left as it is; upgrade aqueue"
        )


# ---- words for errors ---------------------------------------------------------------------------------------------

_ADVICE: Final = {
    sqlite3.SQLITE_FULL: "the disk or the quota is full; free some space",
    sqlite3.SQLITE_IOERR: "the disk refused to read or write; look at the system's log and the limits of file size",
    sqlite3.SQLITE_READONLY: "the file or its folder is not writable; allow it",
    sqlite3.SQLITE_CANTOPEN: "the file or the log beside it can't be opened; see that you may write to both and the folder",
    sqlite3.SQLITE_CORRUPT: "a part of the file is damaged; restore it from a copy",
    sqlite3.SQLITE_NOTADB: "a part of the file is damaged; restore it from a copy",
    sqlite3.SQLITE_PERM: "the system doesn't permit it; change the file's permissions",
    sqlite3.SQLITE_NOMEM: "there is not enough memory",
    sqlite3.SQLITE_BUSY: "another program keeps the file to itself; close that program",
}


def explain(error: sqlite3.Error) -> str:
    """Return what `error` means and what to do about it, for a message."""
    code = getattr(error, "sqlite_errorcode", None)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    advice = _ADVICE.get(code & 0xFF) if code is not None else None
    text = f"{visible(str(error), 500)} ({name})"
    return f"{text}: {advice}" if advice else text


def _reason(error: OSError) -> str:
    return visible(error.strerror or str(error), 300)
