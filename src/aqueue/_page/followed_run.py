"""Follows the run in a journal: as it stands, and what has happened since it began, which is read in the background."""

import logging
import sqlite3
import time
from collections.abc import Iterable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from aqueue._history.journal_history import JournalHistory
from aqueue._history.record import MISFITS, RunState, assess
from aqueue._page.failure_kinds import FailureKinds
from aqueue._page.moment import Moment
from aqueue._page.over_time import Fold
from aqueue.errors import JournalError
from aqueue.events import Event, RunStarted
from aqueue.view import RunView

__all__ = ["FollowedRun"]

_logger: Final = logging.getLogger(__name__)

_PAST_S: Final = 0.25
"""How long one look at the past may take, seconds: the page waits for it."""

_IDLE_S: Final = 10.0
"""For how long a group is shown after its last item, seconds."""

_MAX_IDLE: Final = 20
"""Of how many groups it is known that they were there a moment ago. A run may have a group per item, and a full table doesn't jump."""

_LIVENESS_S: Final = 2.0
"""How often the process of the run is looked for, seconds."""


class FollowedRun(Moment):
    """A run and its journal, which is read to its end at each `poll`. All in one thread.

    A view of the run as it stands needs the last snapshot and what came after it. What needs all events is read by a second
    connection, some at each poll: a journal of a million items has several million.

    Its moment is when it was read last.
    """

    def __init__(self, path: Path) -> None:
        """Open the journal at `path` and read the run as it stands.

        Raises:
            JournalError, CannotRead: it can't be read.
        """
        self.name = path.name
        self.view = RunView()
        self.over_time = Fold()
        self.kinds = FailureKinds()
        self.state = RunState("interrupted", "")
        self._is_lost = False  # whether the error lasts
        self._started: RunStarted | None = None
        self._assess_at = 0.0
        self._seen_groups: dict[str, float] = {}
        with ExitStack() as stack:
            self.history = self._live = stack.enter_context(closing(JournalHistory(path)))
            self._past = stack.enter_context(closing(self._live.again()))
            folds = self._live.start_at_snapshot()
            if folds is not None:
                self.view = folds.view
                self._note_starts(self._live.events_at(folds.recording.facts.process_seqs).values())
            self.now = time.time()
            self.poll()
            self._open = stack.pop_all()

    def poll(self) -> None:
        """Read what the journal has now, and some of the past."""
        if not self._is_lost:
            had_error, self.error = self.error, ""
            try:
                self._follow()
                self._read_past()
            except JournalError as error:
                self.error = str(error)
                # The disk or the system may recover, and nothing was read that is lost now.
                self._is_lost = not isinstance(error.__cause__, sqlite3.OperationalError)
            except Exception as error:  # what was read is lost: no figure after this would be right
                _logger.exception("a run can't be followed")
                self.error = f"{type(error).__name__}: {error}; this is a bug in aqueue, please report it"
                self._is_lost = True
            self._assess_at = 0.0 if had_error else self._assess_at
        self.now = max(time.time(), self.view.at)
        self._note_groups()
        self.read_share = min(self._past.last_read / self.view.seq, 1.0) if self.view.seq else 1.0
        if self.error:  # another run may be writing a file of that name
            self.state = RunState("interrupted", "")
        elif time.monotonic() >= self._assess_at or self.view.state == "finished":
            self._assess_at = time.monotonic() + _LIVENESS_S
            self.state = assess(self.view, self._started, self._live, self.now)

    def _follow(self) -> None:
        while (events := self._live.read()) is not None:
            try:
                self.view.apply(events)
            except MISFITS:  # after a snapshot nothing is repaired
                self._live.rewind()
                self.view = RunView()
                continue
            self._note_starts(events)

    def _read_past(self) -> None:
        end = time.monotonic() + _PAST_S
        while time.monotonic() < end and (events := self._past.read()) is not None:
            self.over_time.apply(events)
            self.kinds.apply(events)

    def _note_groups(self) -> None:
        waiting = self.view.groups
        running = {item.group for item in self.view.running.values() if item.group is not None}
        groups = {*waiting, *running} if len(waiting) <= _MAX_IDLE else ()  # to copy 100,000 names would slow each look
        seen = self._seen_groups | dict.fromkeys(groups if len(groups) <= _MAX_IDLE else (), self.now)
        recent = sorted((at, name) for name, at in seen.items() if self.now - at < _IDLE_S)
        self._seen_groups = {name: at for at, name in recent[-_MAX_IDLE:]}
        self.idle_groups = {name for name in self._seen_groups if name not in waiting and name not in running}

    def _note_starts(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, RunStarted):
                self._started = event
                self._assess_at = 0.0

    def reader(self) -> JournalHistory:
        """Return another reader of the journal, for any one thread."""
        return self._live.again()

    def close(self) -> None:
        """Close the journal."""
        if self.items is not None:
            self.items.close()
        self._open.close()
