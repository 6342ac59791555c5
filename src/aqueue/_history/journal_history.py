"""Reads a recorded run from a journal."""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from aqueue._folds.snapshot import GROWING, Folds, last_restored
from aqueue._history.history import CannotRead, History, Line
from aqueue._journal.file import connect, identity, is_empty, shown
from aqueue._journal.open_journals import connect_to_read
from aqueue._journal.reader import EventReader, damaged, read_events_at
from aqueue._journal.snapshots import read_snapshots
from aqueue.errors import JournalError
from aqueue.events import (
    SCHEMA_VERSION,
    Event,
    GroupPaused,
    GroupUnpaused,
    ItemEnqueued,
    ItemReopened,
    ItemSkipped,
    RunPaused,
    RunStarted,
    RunSteered,
    RunUnpaused,
    encode,
)
from aqueue.view import RunView

__all__ = ["JournalHistory"]

_NEXT_ANNOUNCEMENT: Final = """SELECT seq FROM events WHERE seq BETWEEN ? AND ?
AND event >= '{"event":"item.enqueued"' AND event < '{"event":"item.enqueued#' ORDER BY seq LIMIT 1"""

_EVENTS_OF: Final = """SELECT seq FROM events WHERE seq BETWEEN ? AND ? AND (
event >= '{"event":"item.enqueued"' AND event < '{"event":"item.enqueued#' AND event GLOB ?
OR event >= '{"event":"item.reopened"' AND event < '{"event":"item.reopened#'
OR event >= '{"event":"item.skipped"' AND event < '{"event":"item.skipped#'
OR event >= '{"event":"run.' AND event < '{"event":"run/'
OR event >= '{"event":"group.' AND event < '{"event":"group/' AND event GLOB '{"event":"group.*paused",*'"""

_OF_ANY: Final = (ItemSkipped, ItemReopened, RunSteered, RunPaused, RunUnpaused, GroupPaused, GroupUnpaused)
"""What of these doesn't name the item, and yet belongs to its history."""


class JournalHistory(History):
    """The events in a journal, also while a run is writing it. The base table is read, never a view."""

    is_journal = True

    def __init__(self, path: Path, *, also_own: bool = False, connection: sqlite3.Connection | None = None) -> None:
        """Open the journal at `path`.

        Parameters:
            path: the file.
            also_own: whether to read it while a run of this process is writing it, too.
            connection: to it, if it was opened and checked already.

        Raises:
            JournalError: it can't be read; one of its subclasses says why.
            CannotRead: nothing is recorded in it yet.
        """
        super().__init__(shown(path), path)
        self._journal = path
        if is_empty(path):
            raise CannotRead(f"{self.name} is empty: nothing is recorded there yet")
        self._connection = connection or connect_to_read(path, also_own=also_own)
        self._identity = identity(path)
        self._reader = EventReader(self._connection, path)
        self._needs_repair = True

    def again(self) -> "JournalHistory":
        """Return another reader of the same journal, which begins at its first event.

        One that is made by the path would check the file, and to close a file drops all locks that this process has on it, those
        of SQLite among them. Then a run that ends would delete the log from which the first one reads, and that would never
        see another event.
        """
        connection = connect(self._journal, "ro")
        try:
            connection.execute("SELECT seq FROM events LIMIT 1").fetchall()
        except sqlite3.OperationalError:  # as in `connect_read_only`: a log can't be made there, so nobody writes one
            connection.close()
            connection = connect(self._journal, "ro&immutable=1")
        other = JournalHistory(self._journal, connection=connection)
        other._identity = self._identity  # so that it notices if the file was replaced in the meantime
        return other

    @property
    def last_read(self) -> int:
        """The number of the last event that was read, known to this aqueue or not; 0 for none."""
        return self._reader.after

    def read(self) -> list[Event] | None:
        """Return the next events; None if there are no more now.

        Raises:
            JournalDamaged: an event is missing or can't be read.
            JournalTooNew: a newer aqueue went on with the run.
            JournalError: the file was removed or replaced meanwhile.
        """
        events = self._next()
        # A journal lacks nothing, but a stranger's may hold what no run can have written.
        return self._repairer.repair(events) if events is not None and self._needs_repair else events

    def _next(self) -> list[Event] | None:
        events = self._reader.read()
        if events is None and identity(self._journal) != self._identity:
            raise JournalError(
                f"the journal {self.name} was removed or replaced while it was being read; open it again"
            )
        return events

    def read_lines(self) -> list[Line] | None:
        """Return the next events and their JSON; None if there are no more now. It raises what `read` does."""
        events = self._next()
        return None if events is None else [(encode(event), event) for event in events]

    def start_near_end(self, num_events: int) -> bool:
        """Begin near the end; return whether that leaves any events out.

        Raises:
            JournalDamaged: it can't be read.
        """
        try:
            (last,) = self._connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
        except sqlite3.Error as error:
            raise damaged(self._journal, error) from error
        self._reader.after = max(last - num_events, 0)
        return self._reader.after > 0

    def start_at_snapshot(self) -> Folds | None:
        """Begin after the last snapshot; return the state of the run there, or None and begin at the first event."""
        folds = last_restored(read_snapshots(self._connection, GROWING))
        if folds is not None:
            self._reader.after = folds.snapshot_seq
            self._needs_repair = False
        return folds

    def start_after(self, seq: int) -> None:
        """Begin after the event with this number. All are returned as they were recorded."""
        self._reader.after = seq
        self._needs_repair = False

    def view_at_snapshot(self) -> RunView | None:
        """Return the run as it was at the last snapshot, and begin at the first event; None if there is none."""
        folds = self.start_at_snapshot()
        self.rewind()
        if folds is None or any(
            isinstance(event, RunStarted) and event.schema_version < SCHEMA_VERSION  # which lacks fields
            for event in self.events_at(folds.recording.facts.process_seqs).values()
        ):
            return None
        self._needs_repair = False
        return folds.view

    def rewind(self) -> None:
        """Begin at the first event again, and repair; only if it began at or with a snapshot."""
        self._reader.after = 0
        self._needs_repair = True

    def announcement_of(self, item: int, until: int) -> ItemEnqueued | None:
        """Return the event up to the number `until` that announced an item; None if it isn't found.

        Items and events are both numbered one by one, so that an announcement which is n items later is at least n events
        later. Each step goes that far, and from there to the next announcement.
        """
        seq = number = 0
        found: Event | None = None
        while number < item:
            try:
                row = self._connection.execute(_NEXT_ANNOUNCEMENT, (seq + item - number, until)).fetchone()
            except sqlite3.Error as error:
                raise damaged(self._journal, error) from error
            found = self.events_at(row).get(row[0]) if row is not None else None
            if not isinstance(found, ItemEnqueued) or not number < found.item <= item:
                return None  # no run can have written this
            seq, number = found.seq, found.item
        return found if isinstance(found, ItemEnqueued) else None

    def events_of(self, items: Sequence[int], first: int, last: int) -> Iterator[Event]:
        """Yield the events of these numbers that name one of the items or announce children of the first.

        Those are among them that tell which other items were skipped and reopened, commands on items, and pauses.

        SQLite compares text with a pattern about five times as fast as it parses JSON, and faster if the pattern begins
        with a character that is rare.
        """
        named = " OR ".join("event GLOB ?" for _ in items)
        found = self._connection.execute(
            f"{_EVENTS_OF} OR {named})",
            (first, last, f'*,"parent":{items[0]},*', *(f'*,"item":{item}[,}}]*' for item in items)),
        )
        seqs = [seq for (seq,) in found]
        for event in sorted(read_events_at(self._connection, self._journal, seqs), key=lambda event: event.seq):
            # The pattern may have matched in a payload, say.
            is_named = getattr(event, "item", 0) in items or getattr(event, "parent", 0) == items[0]
            if is_named or isinstance(event, _OF_ANY):
                yield event

    def events_at(self, seqs: Collection[int]) -> dict[int, Event]:
        """Return the events with these numbers.

        Raises:
            JournalDamaged: one can't be read.
        """
        return {event.seq: event for event in read_events_at(self._connection, self._journal, sorted(seqs))}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
