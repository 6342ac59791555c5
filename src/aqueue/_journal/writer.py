"""The journal of a run: a SQLite file that is locked, read once, and then written."""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import Final, Self

from aqueue._journal import check as journal_check
from aqueue._journal import file as journal_file
from aqueue._journal import open_journals
from aqueue._journal.reader import EventReader, read_events_at
from aqueue._journal.snapshots import SnapshotWriter, read_snapshots
from aqueue._system.notice import warn
from aqueue.errors import JournalDamaged, JournalError, JournalLocked
from aqueue.events import Event, encode, encode_lines

__all__ = ["Journal"]

_FIRST_SLICE_EVENTS: Final = 16
_SLICE_EVENTS: Final = 2_048
_SLICE_BYTES: Final = 4_000_000
"""How many bytes of events are encoded at once, about, or one event."""

_inherited: Final[list[sqlite3.Connection]] = []
"""Connections of the parent process, kept from being closed in a forked child."""


class Journal:
    """The journal of a run, locked for this process from `create` or `open` to `close`.

    A resumed run reads `recorded` first. From `begin_writing` on, one thread calls `write`, and `close` at the end. A forked
    child can't use it.

    Attributes:
        path: the file, with symbolic links resolved.
        is_new: whether nothing is recorded yet.
        last_seq: the number of the last event that is committed; 0 if there is none.
    """

    def __init__(self, path: Path, *, is_command: bool = False) -> None:
        """Take the lock on `path` and open it; a missing or empty file is made. Use `create` or `open`."""
        self.path = path
        self._log = f"{path}-wal"
        with open_journals.opening:
            open_journals.wait_for_command(path)
            if open_journals.is_open(path):
                raise JournalLocked(
                    f"the journal {journal_file.shown(path)} is in use by another run in this process; "
                    "wait until that run has ended"
                )
            if not journal_file.is_empty(path):
                journal_check.check_header(path)  # before a lock file appears beside what may be no journal
            self._lock = journal_file.lock(path, is_command=is_command)
            self._lock_identity = journal_file.identity(f"{path}.lock")
            self._is_made_here = journal_file.is_empty(path)
            self._file_lock: int | None = None
            try:
                if self._is_made_here:
                    journal_file.make(path)
                self._file_lock = journal_file.lock_file(path)
                if not self._is_made_here:
                    journal_check.check(path)
                self._connection = self._connect()
            except BaseException:
                self._release_locks()
                raise
            self._identity = journal_file.identity(path)
            open_journals.add(path, self._identity, self.leave_to_the_parent, is_command=is_command)
        if journal_file.has_other_names(path):
            warn(
                f"the journal {journal_file.shown(path)} has other names (hard links); a killed run can only be resumed by this "
                f"one, since its latest events are in {journal_file.shown(path.name)}-wal; make copies instead of links"
            )
        self._pid = os.getpid()
        self._size = journal_file.size(path)
        self._log_identity: tuple[int, int] | None = None
        self._log_size = 0
        self._keeps_log = False
        self._is_writing = False
        self._closed = False
        self._removes = False
        self._said_busy = False
        self._slice_events = _FIRST_SLICE_EVENTS

    @classmethod
    def create(cls, path: "str | os.PathLike[str]") -> Self:
        """Return the journal of a new run at `path`.

        Raises:
            JournalExists: a file with something in it is there; it wasn't changed.
            JournalLocked: another run uses it.
            JournalError: the file can't be made there.
        """
        resolved = journal_file.resolve(path)
        journal_file.refuse_existing(resolved)
        journal = cls(resolved)
        if not journal.is_new:  # another run made it and ended, all since the first look
            journal.close()
            journal_file.refuse_existing(resolved)
        return journal

    @classmethod
    def open(cls, path: "str | os.PathLike[str]", *, is_command: bool = False) -> Self:
        """Return the journal at `path`; a missing or empty file is made.

        Parameters:
            path: the file.
            is_command: whether a command is to append to it, for which a run that is starting waits.

        Raises:
            NotAJournal: the file is something else, or its schema has something that aqueue didn't put there.
            JournalTooNew: a newer aqueue wrote it.
            JournalDamaged: it is cut short or can't be read.
            JournalLocked: another run uses it.
            JournalError: it can't be read, written or made. In each case it wasn't changed.
        """
        return cls(journal_file.resolve(path), is_command=is_command)

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = journal_file.connect_to_write(self.path)
            try:
                (last_seq,) = connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise JournalError(
                f"the journal {journal_file.shown(self.path)} can't be opened for writing: {journal_file.explain(error)}"
            ) from error
        self.last_seq: int = last_seq
        self.is_new: bool = last_seq == 0
        return connection

    # ---- reading ------------------------------------------------------------------------------------------------

    def recorded(self, *, after: int = 0) -> Iterator[list[Event]]:
        """Yield the events in order, in lists; only before `begin_writing`.

        Event types that this aqueue doesn't know are left out.

        Parameters:
            after: begin with the event after this one.

        Raises:
            JournalDamaged: an event is missing or can't be read; the message names it.
            JournalTooNew: a newer aqueue went on with the run.
        """
        assert not self._is_writing
        reader = EventReader(self._connection, self.path, after=after)
        while (events := reader.read()) is not None:
            yield events

    def events_at(self, seqs: Sequence[int]) -> Iterator[Event]:
        """Yield the recorded events with these numbers, in any order; from the loop's thread, also while it writes.

        Raises:
            JournalDamaged: one can't be read.
        """
        # SQLite's own connections get on in one process; Python's can't be used by two threads at a time.
        reading = nullcontext(self._connection) if not self._is_writing else self._connect_again()
        with reading as connection:
            yield from self._events_at(connection, seqs)

    def written_at(self, seqs: Sequence[int]) -> Iterator[Event]:
        """Do what `events_at` does, on the thread that writes."""
        return self._events_at(self._connection, seqs)

    def _events_at(self, connection: sqlite3.Connection, seqs: Sequence[int]) -> Iterator[Event]:
        missing = set(seqs)
        for event in read_events_at(connection, self.path, seqs):
            missing.discard(event.seq)
            yield event
        if missing:
            raise JournalDamaged(
                f"the journal {journal_file.shown(self.path)} lacks event {min(missing):,}; restore it from a copy"
            )

    def _connect_again(self) -> "closing[sqlite3.Connection]":
        return closing(journal_file.connect(self.path, "ro"))

    def snapshots(self, growing: Sequence[str]) -> Iterator[tuple[int, Iterator[tuple[str, bytes]]]]:
        """Yield the snapshots, the last one first; see `read_snapshots`. Only before `begin_writing`."""
        return read_snapshots(self._connection, growing)

    # ---- writing ------------------------------------------------------------------------------------------------

    def begin_writing(self) -> None:
        """Hand the journal over to the thread that writes it."""
        assert not self._is_writing
        self._is_writing = True

    def write(self, batch: list[Event]) -> None:
        """Commit `batch`, the next events; on one thread. If it is empty, only check the lock.

        Raises:
            JournalError: they could not be written, or the file was moved or unlinked. Nothing may be written after that.
                Any other exception means the same; see `failure`.
        """
        self._keep_lock()
        if batch:
            self._commit(batch)

    def snapshot_writer(self, growing: Sequence[str], last: int) -> SnapshotWriter:
        """Return what writes snapshots on the thread that calls `write`; see `SnapshotWriter`."""
        return SnapshotWriter(self._transact_or_not, growing, last)

    def _transact_or_not(self, write: Callable[[sqlite3.Connection], object]) -> None:
        """Do what `_transact` does, and leave no transaction open if it raises."""
        try:
            self._transact(write)
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.rollback()
            raise

    def failure(self, error: BaseException) -> JournalError:
        """Roll back, and return the error for the user, made of `error`, which `write` raised."""
        with suppress(sqlite3.Error):
            self._connection.rollback()
        if isinstance(error, JournalError):
            return error
        cause = journal_file.explain(error) if isinstance(error, sqlite3.Error) else f"{type(error).__name__}: {error}"
        failure = JournalError(
            f"the journal {journal_file.shown(self.path)} could not be written after event {self.last_seq:,}: {cause}; "
            f"what was committed before is safe; fix the cause, then resume with resume={str(self.path)!r}"
        )
        failure.__cause__ = error
        return failure

    def close(self) -> None:
        """Close the file and release the locks; after `begin_writing`, on the thread that writes."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        # The last connection to close copies the log into the file and removes it. While others read, this copies it.
        if not self._keeps_log:
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        with suppress(sqlite3.Error):
            self._connection.close()
        if self._removes:
            with suppress(OSError):
                journal_file.remove(self.path)
        with suppress(OSError):
            self._release_locks()
        open_journals.remove(self.path)

    def abandon(self) -> None:
        """Close the file of a run that has not begun; remove it if it was made here.

        Otherwise the same call with ``journal=`` would fail, once the cause is fixed, since the file exists.
        """
        if os.getpid() == self._pid and not self._is_writing:
            self.discard()
            self.close()

    def discard(self) -> None:
        """Remove the file when it is closed, if it was made here: nothing has run that could be resumed."""
        self._removes = self._is_made_here

    def leave_to_the_parent(self) -> None:
        """In a forked child: do nothing any more, and keep the connection from being closed."""
        _inherited.append(self._connection)
        self._close_file_lock()  # else the child would keep the lock when its parent has gone; filelock sees to its own
        self._closed = True

    def _release_locks(self) -> None:
        """Release both locks, once SQLite has closed the file."""
        self._close_file_lock()
        self._lock.release()

    def _close_file_lock(self) -> None:
        descriptor, self._file_lock = self._file_lock, None
        if descriptor is not None:
            os.close(descriptor)

    def _commit(self, batch: list[Event]) -> None:
        first = batch[0].seq
        if first != self.last_seq + 1 or batch[-1].seq != first + len(batch) - 1:
            raise JournalError(
                f"events {first:,} to {batch[-1].seq:,} were to be written to the journal {journal_file.shown(self.path)} after "
                f"event {self.last_seq:,}: this is a bug in aqueue; please report it"
            )
        self._transact(lambda _: self._insert_all(batch))
        self.last_seq = batch[-1].seq

    def _transact(self, write: Callable[[sqlite3.Connection], object]) -> None:
        """Call `write` in a transaction, and check before and after that the files are those that a resume will read."""
        self._begin()
        self._keep_lock()  # now nobody else can begin to write
        self._check_log()
        write(self._connection)
        self._connection.execute("COMMIT")
        self._check_place()

    def _insert_all(self, batch: list[Event]) -> None:
        start = 0
        last_seq: int | None = 0
        while start < len(batch):
            events = batch[start : start + self._slice_events]
            start += len(events)
            last_seq = self._insert(events)
        if last_seq != batch[-1].seq:
            raise JournalError(
                f"the journal {journal_file.shown(self.path)} was written by another program: event {batch[-1].seq:,} "
                f"would have become event {last_seq:,}; make sure that nothing else writes to it, then resume"
            )

    def _insert(self, events: list[Event]) -> int | None:
        """Write the rows of `events`, and return the number of the last. Set the size of the next slice by their bytes.

        Encoding holds the interpreter's lock, and each row is in memory several times meanwhile, so slices are small.
        """
        lines = encode_lines(events)
        fitting = max(_SLICE_BYTES * len(events) // len(lines), 1)
        self._slice_events = min(fitting, 2 * self._slice_events, _SLICE_EVENTS)
        execute = self._connection.execute
        if len(events) == 1:  # it may be large: nothing copies it but SQLite
            return execute(_INSERT_ONE, (memoryview(lines)[:-1],)).lastrowid
        rows = lines.decode().split("\n")
        rows.pop()
        if len(rows) != len(events):  # a newline inside an item's own JSON
            rows = [encode(event).decode() for event in events]
        del lines
        last_seq = None
        start, size = 0, _SLICE_EVENTS
        while start < len(rows):
            while size > len(rows) - start:
                size //= 2
            last_seq = execute(_INSERTS[size], rows[start : start + size]).lastrowid
            start += size
        return last_seq

    def _begin(self) -> None:
        """Begin a transaction, once no other connection is writing."""
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                if not self._said_busy:
                    self._said_busy = True
                    warn(
                        f"the journal {journal_file.shown(self.path)} is being written by another program; waiting for it"
                    )
            else:
                return

    def _keep_lock(self) -> None:
        """Lock the lock file again if somebody has removed or replaced it."""
        name = f"{self.path}.lock"
        if journal_file.identity(name) == self._lock_identity:
            return
        if journal_file.identity(self.path) != self._identity:
            return  # not only the lock is gone, which `_check_place` says
        self._lock.release()
        try:
            self._lock = journal_file.lock(self.path)
        except JournalLocked as error:
            if self._file_lock is not None:
                return  # that run can't begin: it doesn't get the lock on the file itself, and gives this one back
            raise JournalError(
                f"the lock file {journal_file.shown(name)} was removed or replaced while the run was writing the journal, "
                f"so another run could start to write it: {error}; this run has stopped, and what it did after event "
                f"{self.last_seq:,} is not saved"
            ) from error
        self._lock_identity = journal_file.identity(name)
        warn(
            f"the lock file {journal_file.shown(name)} was removed or replaced, and has been created again; never remove "
            "it: without it a second run could write to the journal"
        )

    def _check_place(self) -> None:
        """Raise if the file was moved, unlinked or cut: SQLite keeps writing to it without an error."""
        log = journal_file.identity(self._log)
        if self._log_identity is None:
            self._log_identity = log
        if log is None or log != self._log_identity or journal_file.identity(self.path) != self._identity:
            raise JournalError(
                f"the journal {journal_file.shown(self.path)}, or its log (the same name plus -wal), was removed or replaced "
                "while the run was writing it; what this run has done since is not saved; if they were moved, move both "
                "back, then resume"
            )
        size = journal_file.size(self.path)
        if size < self._size and size < self._pages_bytes():  # SQLite makes it smaller only if it has fewer pages
            raise JournalError(
                f"the journal {journal_file.shown(self.path)} was truncated from {self._size:,} to {size:,} bytes by another "
                "program while the run was writing it; what this run has done is not saved; if you have a copy, restore it, "
                "then resume"
            )
        self._size = size
        if not journal_file.has_log_header(self._log):  # emptied between `_check_log` and now
            raise self._log_was_cut()
        self._log_size = max(
            self._log_size, journal_file.size(self._log)
        )  # if it is emptied just now, `_check_log` sees to it

    def _pages_bytes(self) -> int:
        (count,), (size,) = (
            self._connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
        )
        return int(count * size)

    def _check_log(self) -> None:
        """Raise before a commit if somebody has cut the log: SQLite would write on behind the hole, and read zeros from it.

        A program may also have had SQLite empty the log (``wal_checkpoint(TRUNCATE)``), after copying all of it. A checkpoint
        tells the two apart: it has nothing to copy, or it fails at the end of the log, before it has changed anything.
        """
        size = journal_file.size(self._log)
        if size >= self._log_size:
            return
        if size:
            raise self._log_was_cut()
        self._connection.execute("ROLLBACK")
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.OperationalError as error:
            raise self._log_was_cut() from error
        self._log_size = 0
        self._begin()

    def _log_was_cut(self) -> JournalError:
        self._keeps_log = True
        journal_file.keep_log(self._file_lock)
        return JournalError(
            f"the journal's log {journal_file.shown(self._log)} was truncated by another program while the run was writing it; "
            f"the latest events are lost; if you have a copy of {journal_file.shown(self.path.name)} and of its log, restore "
            "both; then resume: what was lost runs again"
        )


def _insert(rows: int) -> str:
    # Without seq, which SQLite then makes the next number itself: with it, each row would be looked for first.
    return "INSERT INTO events (event) VALUES " + ",".join(["(?)"] * rows)  # noqa: S608  # question marks only


# Of one to 2,048 rows: whatever the size of a batch, few statements write it, and each is compiled only once.
_INSERTS: Final = {1 << n: _insert(1 << n) for n in range(_SLICE_EVENTS.bit_length())}

# From bytes, which needn't become a str first. For many small rows that takes SQLite half as long again.
_INSERT_ONE: Final = "INSERT INTO events (event) VALUES (CAST(? AS TEXT))"
