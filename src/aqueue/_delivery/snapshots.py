"""Makes snapshots of a run while its journal is written, so that neither a resume nor a reader has to fold all of its events."""

import sqlite3
from contextlib import suppress

from aqueue._folds.recording import Ended, Recording
from aqueue._folds.snapshot import Folds, parts_of
from aqueue._journal.snapshots import SnapshotWriter
from aqueue._system.notice import warn
from aqueue.errors import JournalError
from aqueue.events import Event

__all__ = ["Snapshots"]

_MIN_EVENTS = 500_000
"""A snapshot comes after at least this many events: reading and folding them takes about a second."""

_EVENTS_PER_ITEM = 4
"""And after this many per live item, of which each takes a quarter of a microsecond to write: 2 % of the events' own time."""

_MANY_INITIAL = 1_000_000
"""With so many new initial items, half an event per live item is enough: until a snapshot has them, they take 40 bytes each."""

_MIN_EVENTS_AT_END = 20_000
"""At the end of a process fewer are enough; folding these takes 0.03 s."""


class Snapshots:
    """Folds the events of a run that are committed, and writes snapshots. Only for the thread that writes the journal."""

    def __init__(self, writer: SnapshotWriter, folds: Folds) -> None:
        """Begin with `folds` of all events so far, which nothing else changes; write with `writer`."""
        self._folds: Folds | None = folds
        self._writer = writer
        recording = folds.recording
        recording.saved = Ended()  # the snapshots have it
        self._last = folds.snapshot_seq
        # A process that was killed has left no snapshot of its last events.
        is_behind = recording.facts.last_seq > self._last
        self._next = self._last + (_MIN_EVENTS_AT_END if is_behind else _MIN_EVENTS)

    def apply(self, events: list[Event], *, is_last: bool = False) -> None:
        """Fold `events`, and write a snapshot if it is time.

        No events are committed meanwhile: 0.03 s for 100,000 waiting items, some seconds for ten million.

        Raises:
            JournalError: the journal's files were moved or changed by somebody else.
        """
        folds = self._folds
        if folds is None:
            return
        try:
            folds.apply(events)
            if self._is_time(folds, is_last=is_last):
                self._write(folds)
        except JournalError:
            raise
        except Exception as error:
            self._folds = None
            warn(
                f"no more snapshots are made, so resuming this run will take longer ({type(error).__name__}: {error}); this is "
                "a bug in aqueue; please report it"
            )

    @property
    def recording(self) -> Recording:
        """The fold of the events that are committed.

        Raises:
            JournalError: a bug in aqueue has ended it.
        """
        if self._folds is None:
            raise JournalError(
                "the items that wait can't be found in the journal any more, since its events can't be folded (see the warning "
                "above); nothing is lost: run the same command again to resume"
            )
        return self._folds.recording

    def _is_time(self, folds: Folds, *, is_last: bool) -> bool:
        seq = folds.recording.facts.last_seq
        if is_last:
            return seq >= min(self._next, self._last + _MIN_EVENTS_AT_END)
        if seq < self._next:
            return False
        is_large = len(folds.recording.ended.initial_seqs) > _MANY_INITIAL
        per_item = min(_EVENTS_PER_ITEM, 0.5) if is_large else _EVENTS_PER_ITEM
        self._next = seq + _MIN_EVENTS  # fewer may be live by then
        return seq - self._last >= per_item * folds.recording.num_live

    def _write(self, folds: Folds) -> None:
        seq = folds.recording.facts.last_seq
        self._next = seq + _MIN_EVENTS
        # The disk is full, say, or another program is writing. If that lasts, events can't be written either, which stops
        # the run.
        with suppress(sqlite3.Error, MemoryError):
            self._writer.write(seq, parts_of(folds))
            folds.recording.ended = Ended()
            self._last = seq
