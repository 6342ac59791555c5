"""The journal's file: locked, made whole or not at all, connected to; and what its errors mean."""

import errno
import os
import socket
import sqlite3
import stat
import struct
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from aqueue.errors import JournalError, JournalExists, JournalLocked, NotAJournal
from aqueue.text import visible

if TYPE_CHECKING:
    from filelock import BaseFileLock
    from sqlite_utils import Database

__all__ = [
    "COMMAND_INTERVAL_S",
    "COMMAND_S",
    "as_database",
    "connect",
    "connect_to_write",
    "explain",
    "has_log_header",
    "has_other_names",
    "identity",
    "is_empty",
    "keep_log",
    "lock",
    "lock_file",
    "make",
    "reason",
    "refuse_existing",
    "remove",
    "resolve",
    "shown",
    "size",
]

BUSY_TIMEOUT_S: Final = 2.0
"""How long SQLite itself waits for another connection that is writing, before the user is told about it."""

_PENDING_BYTE: Final = 0x4000_0000
"""The first of the bytes that SQLite locks."""

_LOCKED_BYTE: Final = _PENDING_BYTE - 1
_READERS_BYTES: Final = (_PENDING_BYTE + 2, 510)
"""The first byte, and how many, of those that a connection locks while it reads."""

_LOG_MAGIC: Final = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
"""What a write-ahead log begins with; which one is for the machine that began it."""

_COMMAND: Final = "a command, "
"""How the owner of the lock is named if it is a command, which holds the lock for as long as it takes to read the journal."""

COMMAND_S: Final = 10.0
"""How long a run waits for a command, seconds: reading five million events takes two."""

_NAMING_S: Final = 0.1
"""How long it waits for an owner that may not have written yet that it is a command, seconds."""

COMMAND_INTERVAL_S: Final = 0.02

MIN_SQLITE: Final = (3, 38)


def shown(path: Path | str) -> str:
    """Return `path` for a message: on one line, safe for a terminal."""
    return visible(str(path), 1_000)


# ---- what is there ------------------------------------------------------------------------------------------------


def is_empty(path: Path) -> bool:
    """Tell whether a new journal may be made at `path`: nothing is there, or an empty file.

    Nothing is opened: closing a file drops the locks that SQLite holds on it anywhere in the process.

    Raises:
        NotAJournal: it is a folder or another thing that isn't a regular file.
        JournalError: it can't be reached.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise JournalError(
                f"there is no folder {shown(path.parent)} for the journal {shown(path.name)}; create it, or name a file in "
                "a folder that exists"
            ) from None
        return True
    except OSError as error:
        raise JournalError(
            f"the journal {shown(path)} can't be reached: {_advised(error, 'name another file')}"
        ) from error
    if stat.S_ISDIR(found.st_mode):
        raise NotAJournal(f"{shown(path)} is a folder; name a file in it, such as {shown(path / 'run.db')}")
    if not stat.S_ISREG(found.st_mode):
        raise NotAJournal(f"{shown(path)} isn't a regular file; name a file on a local disk")
    return found.st_size == 0


def refuse_existing(path: Path) -> None:
    """Raise if a new run can't be recorded at `path`.

    Raises:
        JournalExists: a file with something in it is there.
        NotAJournal, JournalError: as `is_empty` raises them.
    """
    if not is_empty(path):
        raise JournalExists(
            f"the journal {shown(path)} exists already; to resume its run, pass resume={str(path)!r} instead of "
            "journal=…, or name another file for a new run"
        )


def identity(path: Path | str) -> tuple[int, int] | None:
    """Return the device and inode of the file at `path`, or None if there is none."""
    try:
        found = os.stat(path)  # a third of Path.stat's time, after every commit
    except OSError:
        return None
    return found.st_dev, found.st_ino


def size(path: Path | str) -> int:
    """Return how many bytes the file at `path` has; 0 if there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def has_other_names(path: Path) -> bool:
    """Return whether the file at `path` has several hard links, as far as is known."""
    with suppress(OSError):
        return os.stat(path).st_nlink > 1
    return False


def has_log_header(log: str) -> bool:
    """Return whether the file named `log` begins as a write-ahead log, or is empty, as far as can be seen.

    Opening it is harmless: SQLite holds no locks on it that closing it could drop.
    """
    try:
        with open(log, "rb", buffering=0) as file:
            return file.read(4) in (b"", *_LOG_MAGIC)
    except FileNotFoundError:
        return False
    except OSError:  # no file descriptor is free, for example: SQLite, which has it open, still writes to it
        return True


# ---- the lock -----------------------------------------------------------------------------------------------------


def lock(path: Path, *, is_command: bool = False) -> "BaseFileLock":
    """Lock the journal at `path` for one run; the operating system drops the lock when the process ends.

    The lock is on ``PATH.lock``, which names the owner. That file is never removed: a second run could get in then. If a command
    has the lock, which is soon done, this waits.

    Parameters:
        path: the journal.
        is_command: whether it is for a command that appends something, and not for a run.

    Raises:
        JournalLocked: another run has it.
        JournalError: the lock file can't be made or the file system has no locks.
    """
    from filelock import FileLock, Timeout  # without a journal it isn't needed

    name = f"{path}.lock"
    owner = FileLock(name, blocking=False, thread_local=False, mode=0o600, preserve_lock_file=True)
    began_at = time.monotonic()
    while not owner.is_locked:
        try:
            owner.acquire()
        except Timeout:
            if identity(name) is None:  # a file system of the system's own, /proc say, lets nobody make one
                raise JournalError(
                    f"the journal's lock file {shown(name)} can't be created; {_NEEDS_A_FOLDER}"
                ) from None
            patience_s = COMMAND_S if _owner(name).startswith(_COMMAND) else _NAMING_S
            if time.monotonic() - began_at < patience_s:
                time.sleep(COMMAND_INTERVAL_S)
                continue
            raise JournalLocked(
                f"the journal {shown(path)} is in use by another run ({_owner(name)}); wait until that run has ended, or stop it"
            ) from None
        except OSError as error:
            raise JournalError(
                f"the journal's lock file {shown(name)} can't be used: {_advised(error, _NEEDS_A_FOLDER)}"
            ) from error
    # The name of the owner is only for messages, so a full disk is no reason to fail.
    with suppress(OSError):
        by = _COMMAND if is_command else ""
        Path(name).write_text(f"{by}pid {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
    return owner


def _owner(name: str) -> str:
    with suppress(OSError):
        text = Path(name).read_text(encoding="utf-8", errors="replace").strip()
        if text:
            return visible(text, 300)
    return "its process is unknown"


def is_last_locked_by_command(path: Path) -> bool:
    """Return whether the process that locked the journal at `path` last, and perhaps still does, is a command's."""
    return _owner(f"{path}.lock").startswith(_COMMAND)


def lock_file(path: Path) -> int | None:
    """Lock the file at `path` itself, which may have other names: hard links, or mounts of this one file in containers.

    `lock` locks a name. This lock is on a byte next to those that SQLite locks, and belongs to an *open file description*
    of Linux. So it doesn't collide with SQLite's locks, not even over NFS, where `flock` would lock the whole file; and it
    stays when SQLite closes the file.

    Returns:
        The descriptor that holds it, to be closed after SQLite's connection: closing it drops all of SQLite's locks on the
        file. None where the system has no such locks.

    Raises:
        JournalLocked: another run has it.
    """
    if sys.platform != "linux":
        return None
    import fcntl  # not on every system

    if not hasattr(fcntl, "F_OFD_SETLK"):  # nor with every C library
        return None
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None  # SQLite says why when it tries to write
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _lock_record(fcntl.F_WRLCK, _LOCKED_BYTE, 1))
    except OSError as error:
        os.close(descriptor)
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            return None
        raise JournalLocked(
            f"the journal {shown(path)} is in use by another run, which opened it by another name (a hard link, or a mount "
            "of this single file) or lost its lock file; wait until that run has ended, or stop it"
        ) from error
    return descriptor


def keep_log(descriptor: int | None) -> None:
    """Keep SQLite from copying a damaged log into the file when it closes that: what the file has is sound by itself.

    SQLite copies the log only if nobody else reads the file, so this takes the lock of a reader. The next connection that
    opens the file reads the whole part of the log. Python 3.12 has a setting for this, ``SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE``.

    Parameters:
        descriptor: as `lock_file` returned it; with None nothing is done.
    """
    if descriptor is not None and sys.platform == "linux":
        import fcntl

        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _lock_record(fcntl.F_RDLCK, *_READERS_BYTES))


def _lock_record(kind: int, first: int, count: int) -> bytes:
    """Return Linux's ``struct flock`` for some bytes of a file; the process's number must be 0."""
    return struct.pack("hhqqi", kind, os.SEEK_SET, first, count, 0)


# ---- making it ----------------------------------------------------------------------------------------------------


def make(path: Path) -> None:
    """Make an empty journal at `path`, readable by its owner only; the lock must be held.

    It is made under a random name and then renamed, so there is never half a journal. If the process is killed just then,
    a file of a few pages stays.

    Raises:
        JournalError: the folder is not writable, the disk is full, or the file system can't do what SQLite needs; or an
            earlier journal's log is there, which SQLite would play into the new one.
    """
    _refuse_orphaned_log(path)
    new = path.with_name(f".aqueue-{os.urandom(8).hex()}")
    try:
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_CLOEXEC", 0), 0o600))
        with closing(connect(new, "rw")) as connection:
            # Twice SQLite's own: 1.5 % smaller for events of 130 bytes, and no slower.
            connection.execute("PRAGMA page_size = 8192")
            _migrate(connection)
            _use_wal(connection, path)
        # They are empty, but a reader may still have them open along with the earlier file.
        _remove(*_beside(path))
        new.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise JournalError(f"the journal {shown(path)} can't be created: {_advised(error, _NEEDS_A_FOLDER)}") from error
    except sqlite3.Error as error:
        raise JournalError(f"the journal {shown(path)} can't be created: {explain(error)}") from error
    finally:
        with suppress(OSError):
            _remove(new, *_beside(new))


def _refuse_orphaned_log(path: Path) -> None:
    """Raise if an earlier journal at `path` has left a log: after ``kill -9`` that has nearly all of the run."""
    for suffix in ("-wal", "-journal"):
        log = path.with_name(path.name + suffix)
        if found := size(log):
            raise JournalError(
                f"{shown(log)} has {found:,} bytes of an earlier run, but its journal {shown(path)} is missing or empty; if "
                f"you renamed or moved the journal, move this file with it, named as the journal is now plus {suffix}: only "
                f"both together are the earlier run; to start a new run in {shown(path.name)} without it, remove "
                f"{shown(log.name)}; or name another file"
            )


def remove(path: Path) -> None:
    """Remove the journal at `path`; the lock must be held.

    Raises:
        OSError: it can't be removed.
    """
    _remove(*_beside(path), path)


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


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
            f"the journal {shown(path)} can't be written safely: its file system doesn't support SQLite's write-ahead log "
            "(network file systems don't); name a file on a local disk"
        )


# ---- connecting ---------------------------------------------------------------------------------------------------


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Return a connection to the file at `path` in SQLite's mode ``rw`` or ``ro``; nothing in the file is trusted."""
    if sqlite3.sqlite_version_info < MIN_SQLITE:
        raise JournalError(
            f"the journal {shown(path)} needs SQLite 3.38 or newer, and this Python has {sqlite3.sqlite_version}; use a newer "
            "Python"
        )
    connection = sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    # A trigger, view or default in a file from a stranger must not call functions with side effects.
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def connect_to_write(path: Path) -> sqlite3.Connection:
    """Return the one connection that writes to the journal at `path`, which is locked and was checked.

    Every commit is on the disk when it returns.
    """
    connection = connect(path, "rw")
    try:
        _use_wal(connection, path)
        connection.execute("PRAGMA synchronous = FULL")
        # Pages, of 8 KiB: 32 MB. Copying the log into the file every 1,000, the default, took a third of the writer's time.
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        # SQLite opens a file without write permission for reading, and only fails at a write, even of no rows.
        connection.execute("UPDATE events SET event = event WHERE seq = 0")
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


# ---- the schema ---------------------------------------------------------------------------------------------------


def as_database(connection: sqlite3.Connection) -> "Database":
    """Return what sqlite-utils and its migrations work with."""
    from sqlite_utils import Database  # it takes longer to import than the rest of aqueue

    return Database(connection, execute_plugins=False)


def _migrate(connection: sqlite3.Connection) -> None:
    from aqueue_migrations.migrations import migrations  # it imports sqlite-utils

    database = as_database(connection)
    if migrations.pending(database):
        migrations.apply(database)


# ---- words for errors ---------------------------------------------------------------------------------------------

_ADVICE: Final = {
    sqlite3.SQLITE_FULL: "the disk or the quota is full; free some space",
    sqlite3.SQLITE_IOERR: "a disk read or write failed; check the system's log, and the limit on file sizes",
    sqlite3.SQLITE_READONLY: "the file or its folder is not writable; make both writable",
    sqlite3.SQLITE_CANTOPEN: "the file or its -wal log can't be opened; make sure that both and their folder are writable",
    sqlite3.SQLITE_CORRUPT: "a part of the file is damaged; restore it from a copy",
    sqlite3.SQLITE_NOTADB: "a part of the file is damaged; restore it from a copy",
    sqlite3.SQLITE_PERM: "permission was denied; change the file's permissions",
    sqlite3.SQLITE_NOMEM: "there is not enough memory; free some",
    sqlite3.SQLITE_CONSTRAINT: "another run has written to it because its lock file was removed; never remove that",
    sqlite3.SQLITE_BUSY: "another program has locked the file; close that program",
}


def explain(error: sqlite3.Error) -> str:
    """Return what `error` means and what to do about it, for a message."""
    code = getattr(error, "sqlite_errorcode", None)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    advice = _ADVICE.get(code & 0xFF) if code is not None else None
    text = f"{visible(str(error), 500)} ({name})"
    return f"{text}: {advice}" if advice else text


_NEEDS_A_FOLDER: Final = "the journal needs a writable folder on a local disk"


def _advised(error: OSError, advice: str) -> str:
    """Return what the system says, and what to do about it: `advice`, unless the file's name is the reason."""
    if error.errno == errno.ENAMETOOLONG:
        advice = "choose a shorter name: aqueue and SQLite also create files with .lock, -wal and -journal added to it"
    return f"{reason(error)}; {advice}"


def reason(error: OSError) -> str:
    """Return what the system says, for a message."""
    return visible(error.strerror or str(error), 300)


def resolve(path: "str | os.PathLike[str]") -> Path:
    """Return `path` with symbolic links resolved, as journals are known by.

    Raises:
        NotAJournal: it can be no path to a file.
    """
    try:
        resolved = Path(path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of symbolic links; a null character
        raise NotAJournal(f"{shown(str(path))} isn't a path to a file ({error}); name another file") from error
    # /dev/stdout can link to an open pipe; the link's target is then not a path that exists.
    if identity(resolved) is None and identity(Path(path)) is not None:
        raise NotAJournal(f"{shown(str(path))} isn't a file with a path; name a file on a local disk")
    return resolved
