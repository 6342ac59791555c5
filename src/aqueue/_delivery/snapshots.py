"""Makes snapshots of a run while its journal is written, so that neither a resume nor a reader has to fold all of its events."""

import sqlite3
import time
from collections.abc import Iterator
from typing import Final

from aqueue._folds.recording import Ended
from aqueue._folds.snapshot import Folds, Part, parts_of
from aqueue._journal.snapshots import SnapshotWriter
from aqueue._system.notice import warn
from aqueue.events import Event

__all__ = ["Snapshots"]

_MIN_EVENTS = 500_000
"""A snapshot comes after at least this many events: reading and folding them takes about a second."""

_EVENTS_PER_ITEM = 4
"""And after this many per live item, of which each takes a quarter of a microsecond to write: 2 % of the events' own time."""

_MIN_EVENTS_AT_END = 20_000
"""At the end of a process fewer are enough; folding these takes 0.03 s."""

_SLICE_S: Final = 0.02
"""How long a snapshot is written before events, which come every 50 ms, are committed again."""


class Snapshots:
    """Folds the events of a run that are committed, and writes snapshots. Only for the thread that writes the journal.

    While a snapshot is being written, events are kept to be folded later.
    """

    def __init__(self, writer: SnapshotWriter, folds: Folds) -> None:
        """Begin with `folds` of all events so far, which nothing else changes; write with `writer`."""
        self._folds: Folds | None = folds
        self._writer = writer
        self._events: list[Event] = []
        self._parts: Iterator[Part] | None = None
        recording = folds.recording
        recording.saved = Ended()  # the snapshots have it
        self._last = folds.snapshot_seq
        # A process that was killed has left no snapshot of its last events.
        is_behind = recording.facts.last_seq > self._last
        self._next = self._last + (_MIN_EVENTS_AT_END if is_behind else _MIN_EVENTS)

    def apply(self, events: list[Event], *, is_last: bool = False) -> None:
        """Fold `events`, and write what is due of a snapshot; all of it with the last ones."""
        if self._folds is None:
            return
        self._events += events
        try:
            self._write(self._folds, float("inf") if is_last else _SLICE_S)
            if self._parts is None:
                self._fold(self._folds, is_last=is_last)
            if is_last:
                self._write(self._folds, float("inf"))
        except sqlite3.OperationalError:
            # The disk is full, say, or another program is writing. If that lasts, events can't be written either, which
            # stops the run.
            self._parts = None
            self._next = self._folds.recording.facts.last_seq + _MIN_EVENTS
        except Exception as error:
            self._folds = None
            warn(
                f"no more snapshots are made, so resuming this run will take longer ({type(error).__name__}: {error}); this is "
                "a bug in aqueue; please report it"
            )

    def _fold(self, folds: Folds, *, is_last: bool) -> None:
        """Fold the events so far, and begin a snapshot if it is time."""
        events, self._events = self._events, []
        folds.apply(events)
        seq = folds.recording.facts.last_seq
        if is_last:
            self._next = min(self._next, self._last + _MIN_EVENTS_AT_END)
        elif seq >= self._next:
            self._next = max(self._next, self._last + _EVENTS_PER_ITEM * folds.recording.num_live)
        if seq >= self._next:
            self._writer.begin(seq)
            self._parts = parts_of(folds)

    def _write(self, folds: Folds, for_s: float) -> None:
        """Write what is left of a snapshot, or as much of it as `for_s` seconds allow."""
        end = time.monotonic() + for_s
        while self._parts is not None and time.monotonic() < end:
            part = next(self._parts, None)
            if part is not None:
                self._writer.add(*part)
                continue
            self._writer.finish()
            self._parts = None
            folds.recording.ended = Ended()
            self._last = folds.recording.facts.last_seq
            self._next = self._last + _MIN_EVENTS
