"""An index of a run in SQLite: its items, the events of each, and views of the run at some events of its past.

The index is a cache, in the user's folder for those, shared between servers and safe to delete: all of it can be read from the
journal again. It is filled by one event after another, so that an update needs only those that came since.
"""

import atexit
import hashlib
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from time import time
from typing import Any, Final

import msgspec

from aqueue import events as ev
from aqueue._folds.item_table import STATES, State
from aqueue._folds.snapshot import view_from, view_to
from aqueue._history.journal_history import JournalHistory
from aqueue._history.record import MISFITS
from aqueue.errors import JournalError
from aqueue.events import Event, ItemCompleted, ItemDescribed, ItemEnqueued, ItemStarted
from aqueue.text import without_surrogates
from aqueue.view import RunView

__all__ = ["NUMBER_OF", "Index", "index_path", "last_view"]

_VERSION: Final = 2
"""To be raised when the tables or their fold change. Views say by themselves which aqueue wrote them."""

_BATCH_EVENTS: Final = 20_000
"""How many events are folded in one transaction. An item that starts and completes among them is written once."""

_BATCH_BYTES: Final = 32_000_000
"""After how many bytes of attributes and results a transaction ends: a run may have items of megabytes each."""

_VIEW_EVENTS: Final = 20_000
"""From how many events on, at most, the run at any event is folded: 60 ms."""

_MAX_CHARS: Final = 500
"""How much of a text is kept to be found and listed. The whole of it is in the journal."""

_UNUSED_S: Final = 30 * 86_400.0
"""After how long an index that nobody has opened is deleted, seconds."""

NUMBER_OF: Final[dict[State, int]] = {state: number for number, state in enumerate(STATES)}
"""By state, the number that stands for it in the index."""

_QUEUED, _RUNNING, _RETRYING, _INTERRUPTED, _COMPLETED, _FAILED, _SKIPPED = range(7)

_SCHEMA: Final = """
CREATE TABLE mark (version TEXT, seq INTEGER, at REAL, crashed_at REAL);
CREATE TABLE types (type INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE items (
    item INTEGER PRIMARY KEY, parent INTEGER, type INTEGER, key TEXT, group_name TEXT, enqueued_at REAL,
    state INTEGER, changed_at REAL, attempts INTEGER, started_at REAL, took_s REAL,
    description TEXT, described_seq INTEGER, error_type TEXT, error TEXT
);
CREATE INDEX children ON items (parent);
CREATE INDEX rare ON items (state, item) WHERE state NOT IN (0, 4);
CREATE TABLE changes (item INTEGER, seq INTEGER, state INTEGER, PRIMARY KEY (item, seq)) WITHOUT ROWID;
CREATE INDEX interruptions ON changes (seq) WHERE state = 3;
CREATE TABLE notable (seq INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE views (seq INTEGER PRIMARY KEY, data BLOB);
"""
# 0 and 4 are the states in which most items are, 3 is that of interrupted ones. `changes` has the events of each item, but for
# descriptions, and its state after each; `notable` has the events of the run as a whole, and those that change which items are failed.

_INSERT: Final = "INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE: Final = (
    "UPDATE items SET state = coalesce(?2, state), changed_at = coalesce(?3, changed_at), attempts = coalesce(?4, attempts), "
    "started_at = coalesce(?5, started_at), took_s = coalesce(?6, took_s), description = coalesce(?7, description), "
    "described_seq = coalesce(?8, described_seq), error_type = coalesce(?9, error_type), error = coalesce(?10, error) "
    "WHERE item = ?1"
)

_CHANGES_FAILED: Final = (ev.ItemFailed, ev.ItemReopened, ev.ItemSkipped)
_TOO_MANY: Final = (ev.LoopBlocked, ev.RunHeldUp, ev.GroupSlowedDown, ev.GroupLimitKnown)
"""Of the events that are about no item, those of which there may be millions, or one per group."""


class _Change(msgspec.Struct):
    """What becomes of an item's row; None for what stays. The fields after the first are columns, in the order of `_UPDATE`."""

    new: tuple[Any, ...] | None = None  # the columns that never change, of an item that is announced
    state: int | None = None
    changed_at: float | None = None
    attempts: int | None = None
    started_at: float | None = None
    took_s: float | None = None
    description: str | None = None
    described_seq: int | None = None
    error_type: str | None = None
    error: str | None = None

    @property
    def columns(self) -> tuple[Any, ...]:
        return (
            self.state, self.changed_at, self.attempts, self.started_at, self.took_s,
            self.description, self.described_seq, self.error_type, self.error,
        )  # fmt: skip


def index_path(run_id: str, journal: Path) -> Path:
    """Return where the index of a run is, in a folder that only its owner can read.

    Indexes that nobody has used for 30 days are deleted. If the user's folder for caches can't be written, it is a new folder among
    the temporary files, which is deleted when this process ends.

    Parameters:
        run_id: the id of the run.
        journal: its journal. A copy of that may go on in another way, and both may be shown at the same time.
    """
    from platformdirs import user_cache_path  # only the page needs it

    folder = user_cache_path("aqueue") / "runs"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(folder, os.W_OK):
            raise PermissionError
    except OSError:
        folder = Path(mkdtemp(prefix="aqueue-"))
        atexit.register(rmtree, folder, ignore_errors=True)
    for old in folder.glob("*.db"):
        with suppress(OSError):
            if time() - old.stat().st_mtime > _UNUSED_S:
                _remove(old)
    # Servers of two versions would each drop the other's tables.
    name = f"{Index.version()} {run_id} {journal.resolve()}".encode("utf-8", "backslashreplace")
    return folder / f"{hashlib.sha256(name).hexdigest()[:32]}.db"


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def last_view(connection: sqlite3.Connection, until: int) -> RunView | None:
    """Return the latest view of the run that the index has, at the event `until` or before; None if it has none."""
    found = connection.execute("SELECT data FROM views WHERE seq <= ? ORDER BY seq DESC LIMIT 1", (until,)).fetchone()
    return None if found is None else view_from(found[0])


class Index:
    """Fills the index of a run. All in one thread; `connect` gives readers connections of their own.

    Attributes:
        seq: the number of the last event in it; 0 for none.
        is_damaged: whether it must be opened again: what it had was damaged, and is removed.
    """

    def __init__(self, path: Path, history: JournalHistory) -> None:
        """Open the index at `path`, or make it if it isn't there, damaged, of another version or of other events.

        Parameters:
            path: the file.
            history: a reader of the journal for the index alone.

        Raises:
            sqlite3.Error, OSError: it can't be made.
            JournalError: the journal can't be read.
        """
        self._path = path
        self._history = history
        self.is_damaged = False
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self.forget_if_damaged(error)
            if not self.is_damaged:
                raise
            self._open()
            self.is_damaged = False

    def _open(self) -> None:
        # SQLite would let everybody read it. One that is there isn't opened: to close it would drop SQLite's locks on it.
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        os.utime(self._path)
        self._connection = self.connect()
        try:
            # A crash of the machine may lose the last transactions, and damages nothing.
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            with self._transaction():
                self._restore()
        except BaseException:
            self._connection.close()
            raise

    def forget_if_damaged(self, error: sqlite3.Error) -> None:
        """Remove the index if `error` is about what is in it, so that the next one is made again.

        Others come from the disk or the system.
        """
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            self.is_damaged = True
            _remove(self._path)

    def connect(self) -> sqlite3.Connection:
        """Return a connection to the index, for any one thread."""
        connection = sqlite3.connect(self._path, timeout=10.0, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA trusted_schema = OFF")
        return connection

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    # ---- what it has ---------------------------------------------------------------------------------------------

    def _restore(self) -> None:
        """Go on where the index ends; begin again if it isn't of these events."""
        statements = [statement.strip() for statement in _SCHEMA.split(";")[:-1]]
        found = self._connection.execute("SELECT sql FROM sqlite_schema ORDER BY rowid").fetchall()
        if found and found != [(statement,) for statement in statements]:
            raise sqlite3.DatabaseError("it is something else")
        mark = self._connection.execute("SELECT * FROM mark").fetchone() if found else None
        if mark is None or mark[0] != self.version() or not self._is_of_journal(mark[1], mark[2]):
            for (name,) in self._connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
                self._connection.execute(f"DROP TABLE {name}")
            for statement in statements:
                self._connection.execute(statement)
            mark = (self.version(), 0, 0.0, 0.0)
            self._connection.execute("INSERT INTO mark VALUES (?, ?, ?, ?)", mark)
        self.seq: int = mark[1]
        self._at: float = mark[2]
        self._crashed_at: float = mark[3]
        self._types = {name: type for type, name in self._connection.execute("SELECT type, name FROM types")}
        self._view: RunView | None = RunView()
        self._viewed_at = 0
        if (last := last_view(self._connection, self.seq)) is not None:
            self._view = last
            self._viewed_at = last.seq
        self._history.start_after(self._viewed_at)
        while self._history.last_read < self.seq and (events := self._history.read()) is not None:
            self._apply_to_view([event for event in events if event.seq <= self.seq])
        self._history.start_after(self.seq)

    @staticmethod
    def version() -> str:
        """Return what is the same for all aqueues that can share an index."""
        return f"{_VERSION} {STATES} {view_to(RunView()).hex()}"  # which has what the fields of a view are

    def _is_of_journal(self, seq: int, at: float) -> bool:
        """Return whether the journal has the last event of the index: a copy of it may have gone on in another way."""
        if not seq:
            return True
        self._history.start_near_end(0)
        if self._history.last_read < seq:  # of an older copy
            return False
        found = self._history.events_at([seq]).get(seq)
        return found is None or found.at == at  # it may be of a type that this aqueue doesn't know

    # ---- filling it ----------------------------------------------------------------------------------------------

    def fill(self) -> bool:
        """Add some of the events that it lacks; return whether there were any.

        Raises:
            JournalError: the journal can't be read.
            sqlite3.Error: the index can't be written.
        """
        try:
            with self._transaction():
                return self._fill()
        except BaseException as error:
            self.seq = -1  # what was read isn't in it: the next call restores what is
            if isinstance(error, sqlite3.Error):
                self.forget_if_damaged(error)
            if isinstance(error, OverflowError):
                raise JournalError("the journal has a number that no run can have written") from error
            raise

    def _fill(self) -> bool:
        mark = self._connection.execute("SELECT seq, at FROM mark").fetchone()
        if mark != (self.seq, self._at):  # another server has gone on with it
            self._restore()
        events: list[Event] = []
        size = 0
        while len(events) < _BATCH_EVENTS and size < _BATCH_BYTES and (more := self._history.read()) is not None:
            events += more
            size += sum(len(getattr(event, "payload", b"")) + len(getattr(event, "result", b"")) for event in more)
        last = self._history.last_read
        if last == self.seq:
            return False
        self._add(events)
        self._apply_to_view(events)
        self._at = events[-1].at if events else self._at
        self.seq = last
        if last - self._viewed_at >= _VIEW_EVENTS:
            self._keep_view()
        mark = (last, self._at, self._crashed_at)
        self._connection.execute("UPDATE mark SET (seq, at, crashed_at) = (?, ?, ?)", mark)
        return True

    def _apply_to_view(self, events: Sequence[Event]) -> None:
        if self._view is None:
            return
        try:
            self._view.apply(events)
        except MISFITS:  # a stranger's journal may hold what no run can have written; its past can't be shown
            self._view = None

    def _keep_view(self) -> None:
        if self._view is not None and self._view.seq:
            row = (self._view.seq, view_to(self._view))
            self._connection.execute("INSERT OR REPLACE INTO views VALUES (?, ?)", row)
            self._viewed_at = self.seq

    def _add(self, events: Sequence[Event]) -> None:
        changed: defaultdict[int, _Change] = defaultdict(_Change)
        changes: list[tuple[int, int, int | None]] = []
        at = self._at
        for event in events:
            before, at = at, event.at
            cls = type(event)
            if cls is ItemEnqueued:
                assert isinstance(event, ItemEnqueued)
                change = changed[event.item] = self._announced(event)
            elif cls is ItemStarted:
                assert isinstance(event, ItemStarted)
                change = changed[event.item]
                change.state, change.changed_at, change.started_at = _RUNNING, at, at
                if event.phase == "process":
                    change.attempts = event.attempt
            elif cls is ItemCompleted:
                assert isinstance(event, ItemCompleted)
                change = changed[event.item]
                change.state, change.changed_at, change.took_s = _COMPLETED, at, event.duration_s
            elif cls is ItemDescribed:
                assert isinstance(event, ItemDescribed)
                change = changed[event.item]
                change.description, change.described_seq = _short(event.text), event.seq
                continue  # it changes no state
            elif item := getattr(event, "item", 0):  # 0 if a program, not an item, slows a group down
                change = changed[item]
                self._apply_rare(event, item, change)
            else:
                self._apply_to_run(event, before)
                continue
            changes.append((event.item, event.seq, change.state))  # type: ignore[attr-defined]  # all of these have one
        self._write(changed)
        self._connection.executemany("INSERT OR REPLACE INTO changes VALUES (?, ?, ?)", changes)

    def _announced(self, event: ItemEnqueued) -> _Change:
        type_number = self._types.get(event.type)
        if type_number is None:
            type_number = self._types[event.type] = len(self._types)
            row = (type_number, without_surrogates(event.type))
            self._connection.execute("INSERT OR REPLACE INTO types VALUES (?, ?)", row)
        key = None if event.key is None else _short(event.key)
        parent = event.parent if 0 < event.parent < event.item else 0  # a stranger's journal may lead round in a circle
        new = (event.item, parent, type_number, key, _group(event.group), event.at)
        return _Change(new, state=_QUEUED, changed_at=event.at, attempts=0)

    def _apply_rare(self, event: Event, item: int, change: _Change) -> None:
        """Note what `event` makes of the item; its state is known after that."""
        if change.state is None:
            found = self._connection.execute("SELECT state FROM items WHERE item = ?", (item,)).fetchone()
            change.state = found[0] if found is not None else _QUEUED
        old, at = change.state, event.at
        match event:
            case ev.ItemFailed():
                change.state, change.took_s = _FAILED, event.duration_s
                change.error_type, change.error = _short(event.error.type), _short(event.error.message)
            case ev.ItemRetryScheduled():
                change.state = _RETRYING
                change.error_type, change.error = _short(event.error.type), _short(event.error.message)
            case ev.ItemInterrupted():
                change.state = _COMPLETED if event.phase == "after_children" else _INTERRUPTED
                # For a crash this event comes with the resume, which may be a week later.
                at = self._crashed_at if event.reason == "crash" and self._crashed_at else at
            case ev.ItemSkipped():
                change.state = _SKIPPED
            case ev.ItemReopened() if event.rerun or event.failed == "process":
                change.state = _QUEUED
                self._regroup(item, event.group, change)
            case ev.ItemReopened() if event.failed is not None:
                change.state = _COMPLETED
            case ev.ItemReopened() | ev.ItemChildrenProcessed() | ev.ItemChildrenFailed():
                # Its hook, or the wait for a retry of the hook, ends.
                change.state = _COMPLETED if old in (_RUNNING, _RETRYING) else old
            case ev.ItemRegrouped():
                self._regroup(item, event.group, change)
            case _:
                pass
        if change.state != old:
            change.changed_at = at
        if isinstance(event, _CHANGES_FAILED):
            self._note(event)

    def _regroup(self, item: int, group: str | None, change: _Change) -> None:
        if change.new is not None:
            change.new = (*change.new[:4], _group(group), change.new[5])
        else:
            self._connection.execute("UPDATE items SET group_name = ? WHERE item = ?", (_group(group), item))

    def _apply_to_run(self, event: Event, before: float) -> None:
        """Note an event of the run as a whole; the one before it came at the Unix time `before`."""
        if isinstance(event, ev.RunResumed | ev.RunEdited):
            self._crashed_at = before
        if not isinstance(event, _TOO_MANY):
            self._note(event)

    def _note(self, event: Event) -> None:
        self._connection.execute("INSERT OR REPLACE INTO notable VALUES (?, ?)", (event.seq, event.event))

    def _write(self, changed: dict[int, _Change]) -> None:
        new = [(*change.new, *change.columns) for change in changed.values() if change.new is not None]
        self._connection.executemany(_INSERT, new)
        old = [(item, *change.columns) for item, change in changed.items() if change.new is None]
        self._connection.executemany(_UPDATE, old)

    def close(self) -> None:
        """Close the index and its reader of the journal."""
        self._connection.close()
        self._history.close()


def _short(value: str) -> str:
    return without_surrogates(value[:_MAX_CHARS])


def _group(name: str | None) -> str | None:
    return None if name is None else without_surrogates(name)
