"""The journal: the run's events in a SQLite file, read back in order, and written by one thread of its own."""

import os
import sqlite3
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from aqueue._journal import check as journal_check
from aqueue._journal import file as journal_file
from aqueue._system.notice import warn
from aqueue.errors import JournalDamaged, JournalError, JournalLocked, JournalTooNew, NotAJournal
from aqueue.events import SCHEMA_VERSION, AnyEvent, Event, RunStarted, decode, encode, encode_lines

__all__ = ["BATCH_EVENTS", "EventReader", "Journal", "connect_to_read", "damaged", "read_events", "read_events_at"]

BATCH_EVENTS: Final = 10_000
"""How many events `take` gives at most; one that gives fewer has no more."""

COMMIT_INTERVAL_S: Final = 0.05
"""How long events wait for others, at most, before they are written."""

_BUSY_EVENTS: Final = 2_000
"""After a batch of so many, what has come meanwhile is worth a commit of its own at once."""

_READ_EVENTS: Final = 2_000

_READ_BYTES: Final = 8_000_000
"""How many bytes of events are read at once, about, or one event; 2,000 ordinary ones have 300 kB."""

_FIRST_SLICE_EVENTS: Final = 16
_SLICE_EVENTS: Final = 2_048
_SLICE_BYTES: Final = 4_000_000
"""How many bytes of events are encoded at once, about, or one event."""

_list_decoder = msgspec.json.Decoder(list[AnyEvent])

# Descriptions are a fifth of the events and of no use to whoever continues the run. Text is compared byte by byte, so
# that these two bounds stand for "begins with".
_DESCRIBED = '{"event":"item.described"'
_DESCRIBED_END = '{"event":"item.described#'


class Journal:
    """The journal of a run, locked for this process from `create` or `open` to `close`.

    First `recorded` is read, if there is anything; then `start` begins writing. After a fork the child has nothing of it.

    Attributes:
        path: the file, with symbolic links resolved.
        is_new: whether nothing is recorded yet.
        last_seq: the number of the last event that is committed; 0 if there is none.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock on `path` and open it; a missing or empty file is made. Use `create` or `open`."""
        self.path = path
        self._log = f"{path}-wal"
        with _opening:
            if _is_open(path):
                # Not even read: closing a file drops all locks that this process, and SQLite in it, has on it.
                raise JournalLocked(
                    f"the journal {journal_file.shown(path)} is in use by another run in this process; "
                    "wait until that has ended"
                )
            if not journal_file.is_empty(path):
                journal_check.check_header(path)  # before a lock file appears beside what may be no journal
            self._lock = journal_file.lock(path)
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
            self._identity = _open_files[path] = journal_file.identity(path)
        if journal_file.has_other_names(path):
            warn(
                f"the journal {journal_file.shown(path)} has other names (hard links), by which a run that was killed can't be "
                f"gone on with: what it saved last is in {journal_file.shown(path.name)}-wal; resume it by this name, and "
                "make copies instead of links"
            )
        self._pid = os.getpid()
        self._size = journal_file.size(path)
        self._log_identity: tuple[int, int] | None = None
        self._log_size = 0
        self._keeps_log = False
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._flushes: deque[Callable[[], None]] = deque()  # whose ends any two threads may use at once
        self._closing = False
        self._closed = False
        self._removes = False
        self._failed = False
        self._said_busy = False
        self._slice_events = _FIRST_SLICE_EVENTS
        _journals.add(self)

    @classmethod
    def create(cls, path: "str | os.PathLike[str]") -> Self:
        """Return the journal of a new run at `path`.

        Raises:
            JournalExists: a file with something in it is there; it was left as it is.
            JournalLocked: another run uses it.
            JournalError: the file can't be made there.
        """
        resolved = _resolve(path)
        journal_file.refuse_existing(resolved)
        journal = cls(resolved)
        if not journal.is_new:  # another run made it and ended, all since the first look
            journal.close(0.0)
            journal_file.refuse_existing(resolved)
        return journal

    @classmethod
    def open(cls, path: "str | os.PathLike[str]") -> Self:
        """Return the journal at `path`; a missing or empty file is made.

        Raises:
            NotAJournal: the file is something else, or its schema has something that aqueue didn't put there.
            JournalTooNew: a newer aqueue wrote it.
            JournalDamaged: it is cut short or can't be read.
            JournalLocked: another run uses it.
            JournalError: it can't be read, written or made. In each case it was left as it is.
        """
        return cls(_resolve(path))

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

    def recorded(self, *, skip_described: bool = True, batch: int = 2_000) -> Iterator[list[Event]]:
        """Yield the events in order, in lists; only before `start`.

        Event types that this aqueue doesn't know are left out.

        Parameters:
            skip_described: leave out `item.described`, which are many and which a resumed run doesn't need.
            batch: how many rows to read for each list.

        Raises:
            JournalDamaged: an event is missing or can't be read; the message names it.
            JournalTooNew: a newer aqueue went on with the run.
        """
        assert self._thread is None
        yield from read_events(self._connection, self.path, skip_described=skip_described, batch=batch)

    def events_at(self, seqs: Sequence[int]) -> Iterator[Event]:
        """Yield the recorded events with these numbers, in any order; from the loop's thread, also while it writes.

        Raises:
            JournalDamaged: one can't be read.
        """
        # SQLite's own connections get on in one process; Python's can't be used by two threads at a time.
        reading = nullcontext(self._connection) if self._thread is None else self._connect_again()
        with reading as connection:
            yield from read_events_at(connection, self.path, seqs)

    def _connect_again(self) -> "closing[sqlite3.Connection]":
        return closing(journal_file.connect(self.path, "ro"))

    # ---- writing ------------------------------------------------------------------------------------------------

    def start(
        self,
        take: Callable[[], list[Event]],
        committed: Callable[[list[Event]], None],
        failed: Callable[[JournalError], None],
    ) -> None:
        """Begin writing, on a thread of the journal's own. The three functions are called on that thread.

        Parameters:
            take: returns the next events, at most `BATCH_EVENTS`; fewer if there are no more. It is called about every
                50 ms, and at once after `wake`.
            committed: gets what `take` gave when it is on the disk.
            failed: gets the error when writing failed, once. From then on what `take` gives is dropped.
        """
        assert self._thread is None
        self._take = take
        self._committed = committed
        self._on_failed = failed
        self._thread = threading.Thread(target=self._work, name="aqueue-journal", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Have events written now; from any thread."""
        self._wake.set()

    def flush(self, on_done: Callable[[], None]) -> None:
        """Write what there is now; `on_done` is called, on the journal's thread, when that is committed or has failed."""
        self._flushes.append(on_done)
        self._wake.set()

    def close(self, timeout_s: float) -> bool:
        """Write what is left, close the file and give the lock back; from any thread but the journal's own.

        Parameters:
            timeout_s: how long to wait for the disk, seconds.

        Returns:
            Whether it ended in time. If not, it is still going on, and the file is still locked.
        """
        if os.getpid() != self._pid:
            return True
        if self._thread is None:
            self._end()
            return True
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """Close the file of a run that has not begun; if it was made here, it is removed.

        Once what kept the run from beginning is mended, the same call with ``journal=`` must not find a journal.
        """
        if os.getpid() == self._pid and self._thread is None:
            self.discard()
            self._end()

    def discard(self) -> None:
        """Have the file removed when it is closed, if it was made here: nothing has run that could be gone on with."""
        self._removes = self._is_made_here

    def leave_to_the_parent(self) -> None:
        """In a forked child: do nothing ever again, and keep the connection from being closed."""
        _inherited.append(self._connection)
        self._close_file_lock()  # else the child would keep the lock when its parent has gone; filelock sees to its own
        self._closed = True

    def _release_locks(self) -> None:
        """Give both locks back, once SQLite has closed the file."""
        self._close_file_lock()
        self._lock.release()

    def _close_file_lock(self) -> None:
        descriptor, self._file_lock = self._file_lock, None
        if descriptor is not None:
            os.close(descriptor)

    def _work(self) -> None:
        try:
            while not self._closed:
                self._wake.wait(COMMIT_INTERVAL_S)
                self._wake.clear()
                closing = self._closing
                flushes = len(self._flushes)  # those asked for before `take`: what they wait for is among what it gives
                self._drain()
                for _ in range(flushes):
                    self._flushes.popleft()()
                if closing:
                    return
        finally:
            self._end()

    def _drain(self) -> None:
        """Write until `take` has no more."""
        more = True
        while more:
            try:
                if not self._failed:
                    self._keep_lock()
                batch = self._take()
                more = len(batch) >= _BUSY_EVENTS
                if batch and not self._failed:
                    self._write(batch)
                    self._committed(batch)
            except BaseException as error:
                # MemoryError and what else there may be: whatever it was, nothing after it may count as saved.
                if self._failed:
                    return
                self._failed = True
                more = False
                with suppress(sqlite3.Error):
                    self._connection.rollback()
                self._on_failed(self._writing_failed(error))

    def _write(self, batch: list[Event]) -> None:
        first = batch[0].seq
        if first != self.last_seq + 1 or batch[-1].seq != first + len(batch) - 1:
            raise JournalError(
                f"events {first:,} to {batch[-1].seq:,} were to be written to the journal {journal_file.shown(self.path)} after "
                f"event {self.last_seq:,}: this is a mistake in aqueue; please report it"
            )
        self._begin()
        self._keep_lock()  # now nobody else can begin to write
        self._check_log()
        start = 0
        last_seq: int | None = 0
        while start < len(batch):
            events = batch[start : start + self._slice_events]
            start += len(events)
            last_seq = self._insert(events)
        if last_seq != batch[-1].seq:
            raise JournalError(
                f"the journal {journal_file.shown(self.path)} was written by another program: event {batch[-1].seq:,} "
                f"would have become event {last_seq:,}; see that nothing else writes it, and resume"
            )
        self._connection.execute("COMMIT")
        self._check_place()
        self.last_seq = batch[-1].seq

    def _insert(self, events: list[Event]) -> int | None:
        """Write the rows of `events`, and return the number of the last; how many there are next time goes by their size.

        Encoding holds the interpreter's lock, so they are few, and each row is in memory several times meanwhile.
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
        """See that the lock is on the file that another run would try to lock; if somebody removed that, make it again."""
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
                f"and so another run could begin to write it: {error}; this run has stopped, and what it did after event "
                f"{self.last_seq:,} is not saved"
            ) from error
        self._lock_identity = journal_file.identity(name)
        warn(
            f"the lock file {journal_file.shown(name)} was removed or replaced, and has been made again; leave it alone: "
            "without it a second run could write the journal"
        )

    def _check_place(self) -> None:
        """See that what was committed is where a resume will look for it: a removed file takes writes as before."""
        log = journal_file.identity(self._log)
        if self._log_identity is None:
            self._log_identity = log
        if log is None or log != self._log_identity or journal_file.identity(self.path) != self._identity:
            raise JournalError(
                f"the journal {journal_file.shown(self.path)}, or its log with -wal at the end of the name, was removed or "
                "replaced while the run was writing it; what this run has done since is not saved; if they were moved, move "
                "both back, and resume"
            )
        size = journal_file.size(self.path)
        if size < self._size:  # SQLite itself never makes it smaller
            raise JournalError(
                f"the journal {journal_file.shown(self.path)} was cut from {self._size:,} to {size:,} bytes by another program "
                "while the run was writing it; what this run has done is not saved; if you have a copy, put it in its place, "
                "and resume"
            )
        self._size = size
        if not journal_file.has_log_header(self._log):  # emptied between `_check_log` and now
            raise self._log_was_cut()
        self._log_size = max(
            self._log_size, journal_file.size(self._log)
        )  # if it is emptied just now, `_check_log` sees to it

    def _check_log(self) -> None:
        """See before a commit that nobody has cut the log short: SQLite would go on behind the hole, and read zeros from it.

        SQLite itself empties the log for a program that asks it to (``wal_checkpoint(TRUNCATE)``), with all of it copied.
        Which of the two it was it tells when it is to copy the rest: there is none, or it fails where the log ends, before it
        has changed anything.
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
            f"the journal's log {journal_file.shown(self._log)} was cut short by another program while the run was writing it; "
            f"what was saved last is lost; if you have a copy of {journal_file.shown(self.path.name)} and of its log, put them "
            "in their place; resume, and what is lost runs again"
        )

    def _writing_failed(self, error: BaseException) -> JournalError:
        if isinstance(error, JournalError):
            return error
        cause = journal_file.explain(error) if isinstance(error, sqlite3.Error) else f"{type(error).__name__}: {error}"
        failure = JournalError(
            f"the journal {journal_file.shown(self.path)} could not be written after event {self.last_seq:,}: {cause}; "
            f"what was committed up to there is safe; once that is mended, go on with resume={str(self.path)!r}"
        )
        failure.__cause__ = error
        return failure

    def _end(self) -> None:
        if self._closed:
            return
        self._closed = True
        # The last connection's close writes the log into the file and removes it; beside a reader this does the first.
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
        _open_files.pop(self.path, None)


def _insert(rows: int) -> str:
    # Without seq, which SQLite then makes the next number itself: with it, each row would be looked for first.
    return "INSERT INTO events (event) VALUES " + ",".join(["(?)"] * rows)  # noqa: S608  # question marks only


# Of one to 2,048 rows: whatever the size of a batch, few statements write it, and each is compiled only once.
_INSERTS: Final = {1 << n: _insert(1 << n) for n in range(_SLICE_EVENTS.bit_length())}

# From bytes, which needn't become a str first. For many small rows that takes SQLite half as long again.
_INSERT_ONE: Final = "INSERT INTO events (event) VALUES (CAST(? AS TEXT))"


class EventReader:
    """Reads the events in a journal in their order, from any connection to it; what comes later, too.

    Attributes:
        after: the number of the last event that was read, known to this aqueue or not.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path, *, skip_described: bool, batch: int, after: int = 0
    ) -> None:
        """Make a reader of the journal at `path`.

        Parameters:
            connection: a connection to it.
            path: for messages.
            skip_described: see `Journal.recorded`.
            batch: how many rows to read at a time.
            after: the number of the event after which to begin.
        """
        self.after = after
        self._connection = connection
        self._path = path
        self._skip_described = skip_described
        self._batch = batch
        self._has_large = False
        wanted = f"CASE WHEN event >= '{_DESCRIBED}' AND event < '{_DESCRIBED_END}' THEN NULL ELSE event END"
        # One string for many rows, and one call to decode it: several times as fast as a row at a time.
        self._query = (
            f"SELECT count(*), max(seq), '[' || coalesce(group_concat({wanted if skip_described else 'event'}, ','), '')"  # noqa: S608
            " || ']' FROM (SELECT seq, event FROM events WHERE seq > ? ORDER BY seq LIMIT ?)"
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
        for event in events:
            if isinstance(event, RunStarted) and event.schema_version > SCHEMA_VERSION:
                raise JournalTooNew(
                    f"the journal {journal_file.shown(path)} was continued by a newer aqueue (event {event.seq:,} is of "
                    f"version {event.schema_version}, this aqueue knows {SCHEMA_VERSION}); upgrade aqueue"
                )
        self.after = last
        return events

    def _read_at_once(self) -> tuple[int, int, list[Event]] | None:
        """Return how many rows come next, the number of the last and their events; None if they must be read one by one."""
        if self._has_large:
            return None
        found = _concatenated(self._connection, self._query, (self.after, self._batch))
        if found is None:
            return None
        count, last, text = found
        with suppress(msgspec.MsgspecError):
            return count, last, list(_list_decoder.decode(text))
        return None

    def _read_rows(self) -> tuple[int, int, list[Event]]:
        """Do the same row by row, up to `_READ_BYTES`."""
        count, last, size = 0, self.after, 0
        events: list[Event] = []
        for seq, text in self._connection.execute(_ROWS, (self.after, self._batch)):
            event = _decode(self._path, seq, text)
            if event is not None and not (self._skip_described and event.event == "item.described"):
                events.append(event)
            count, last, size = count + 1, seq, size + len(text)
            if size >= _READ_BYTES:
                break
        self._has_large = size >= _READ_BYTES  # then those that follow are probably large, too
        return count, last, events


def read_events(
    connection: sqlite3.Connection, path: Path, *, skip_described: bool, batch: int, after: int = 0
) -> Iterator[list[Event]]:
    """Yield the events after number `after` from any connection to the journal at `path`, as `Journal.recorded` does."""
    reader = EventReader(connection, path, skip_described=skip_described, batch=batch, after=after)
    while (events := reader.read()) is not None:
        yield events


def read_events_at(connection: sqlite3.Connection, path: Path, seqs: Sequence[int]) -> Iterator[Event]:
    """Yield the events with these numbers, in any order, from any connection to the journal at `path`.

    Raises:
        JournalDamaged: one can't be read.
    """
    try:
        for start in range(0, len(seqs), _READ_EVENTS):
            yield from _read_at(connection, path, list(seqs[start : start + _READ_EVENTS]))
    except sqlite3.Error as error:
        raise damaged(path, error) from error


def _read_at(connection: sqlite3.Connection, path: Path, seqs: list[int]) -> Iterator[Event]:
    first, last = min(seqs), max(seqs)
    wanted: tuple[int | str, ...]
    if last - first + 1 == len(seqs):  # one after the other, as the announcements of siblings are: half the time
        where, wanted = "FROM events WHERE seq BETWEEN ? AND ?", (first, last)
    else:
        where = "FROM events WHERE seq IN (SELECT value FROM json_each(?))"
        wanted = (msgspec.json.encode(seqs).decode(),)
    found = _concatenated(connection, f"SELECT '[' || group_concat(event, ',') || ']' {where}", wanted)
    if found is not None:
        with suppress(msgspec.MsgspecError):
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
    except (msgspec.MsgspecError, TypeError, UnicodeError) as error:
        raise JournalDamaged(
            f"event {seq:,} in the journal {journal_file.shown(path)} can't be read ({error}); restore it from a copy"
        ) from error


def _resolve(path: "str | os.PathLike[str]") -> Path:
    try:
        resolved = Path(path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of symbolic links; a null character
        raise NotAJournal(
            f"{journal_file.shown(str(path))} is no path to a file ({error}); name another file"
        ) from error
    # /dev/stdout can link to an open pipe; the link's target is then not a path that exists.
    if journal_file.identity(resolved) is None and journal_file.identity(Path(path)) is not None:
        raise NotAJournal(f"{journal_file.shown(str(path))} is no file with a path; name a file on a local disk")
    return resolved


def connect_to_read(path: "str | os.PathLike[str]") -> sqlite3.Connection:
    """Return a connection that reads the journal at `path`, also while another process is writing it.

    Raises:
        JournalLocked: this process is writing it.
        JournalError: as `aqueue._journal.check.connect_read_only` raises it and its subclasses.
    """
    resolved = _resolve(path)
    with _opening:
        if _is_open(resolved):  # as above: to look at its first bytes would drop the writer's locks
            raise JournalLocked(
                f"the journal {journal_file.shown(resolved)} is being written by a run in this process; read it when "
                "that has ended, or from another process"
            )
        return journal_check.connect_read_only(resolved)


def _is_open(path: Path) -> bool:
    found = journal_file.identity(path)
    return path in _open_files or (found is not None and found in _open_files.values())


def damaged(path: "str | os.PathLike[str]", error: Exception) -> JournalDamaged:
    """Return the error that says that the journal at `path` can't be read because of `error`."""
    why = journal_file.explain(error) if isinstance(error, sqlite3.Error) else str(error)
    return JournalDamaged(
        f"the journal {journal_file.shown(os.fspath(path))} can't be read: {why}; restore it from a copy"
    )


_opening = threading.Lock()
_open_files: dict[Path, tuple[int, int] | None] = {}
"""What journals of this process have open, each with its identity: a file may have several names."""

_journals: "weakref.WeakSet[Journal]" = weakref.WeakSet()
_inherited: list[sqlite3.Connection] = []


def _leave_to_the_parent() -> None:
    """In a forked child: see that what the parent has open is neither used nor closed, which SQLite forbids there."""
    for journal in _journals:
        journal.leave_to_the_parent()
    _journals.clear()
    _open_files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)
