"""Reads a run to its end, as what the views of the page are rendered from."""

from aqueue._history.history import History
from aqueue._history.record import MISFITS, Record
from aqueue._page.failure_kinds import FailureKinds
from aqueue._page.moment import Moment
from aqueue._page.over_time import Fold
from aqueue.events import Event
from aqueue.view import RunView

__all__ = ["FrozenRun"]


class FrozenRun(Moment):
    """A run as it was when it was read.

    Attributes:
        record: its items, and what else the views of the page don't need.
    """

    def __init__(self, history: History) -> None:
        """Read `history`, of which nothing has been read yet.

        Raises:
            JournalError, CannotRead: it can't be read.
        """
        view = history.view_at_snapshot()
        try:
            record = self._read(history, view)
        except MISFITS:
            if view is None:
                raise
            history.rewind()
            record = self._read(history, None)
        self.record = record
        self.name = history.path.name if history.path is not None else history.name
        self.history = history
        self.view, self.state, self.now = record.view, record.state, record.now
        is_running, is_gone = record.state.name == "running", record.state.liveness == "gone"
        self.over_time.end(self.now, "running" if is_running else "crashed" if is_gone else "unknown")

    def _read(self, history: History, view: RunView | None) -> Record:
        self.over_time, self.kinds = Fold(), FailureKinds()
        return Record(history, self._apply, view=view)

    def _apply(self, events: list[Event]) -> None:
        self.over_time.apply(events)
        self.kinds.apply(events)
