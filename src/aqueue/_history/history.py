"""The interface of a recorded run that is read: its events in order, as far as they are recorded so far."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from aqueue._folds.snapshot import Folds
from aqueue._history.repair import Repairer
from aqueue.errors import AqueueError
from aqueue.events import Event, ItemEnqueued, RunStarted
from aqueue.figures import amount
from aqueue.reporting import RunInfo
from aqueue.view import RunView

__all__ = ["CannotRead", "History", "Line", "batches", "info_from"]

Line = tuple[bytes, Event]
"""A line of JSON, without its newline, and the event that it holds."""


class CannotRead(AqueueError):
    """What was given to the command can't be read; the message is one line that says why and what to do."""


class History(ABC):
    """The events of one run in a journal or a log. The file is never changed.

    `read` and `read_lines` are two ways to go through it, of which a reader uses one.

    Attributes:
        name: the file's name, safe to show.
        path: the file; None for standard input.
        is_journal: whether it is a journal, from which the run can be resumed.
        is_over: whether nothing more can come: standard input has ended, or another run begins here.
    """

    is_journal: bool

    def __init__(self, name: str, path: Path | None) -> None:
        """Begin with nothing read."""
        self.name = name
        self.path = path
        self.is_over = False
        self._repairer = Repairer()

    @abstractmethod
    def read(self) -> list[Event] | None:
        """Return the next events, consistent as those of a journal are; None if there are no more now."""

    @abstractmethod
    def read_lines(self) -> list[Line] | None:
        """Return the next events as they were recorded, each with its line; None if there are no more now."""

    @abstractmethod
    def start_near_end(self, num_events: int) -> bool:
        """Begin near the end, about `num_events` events before it; return whether that leaves any out."""

    def start_at_snapshot(self) -> Folds | None:
        """Begin after the last snapshot; return the state of the run there, or None and begin at the first event.

        The events after it are returned as they were recorded: in a journal that no run can have written, they may not fit.
        """
        return None

    def view_at_snapshot(self) -> RunView | None:
        """Return the run as it was at the last snapshot, and begin at the first event; None if there is none.

        The run itself made the snapshot, from events that needed no repair. So all are returned as they were recorded.
        """
        return None

    def rewind(self) -> None:
        """Begin at the first event again, and repair; only if it began at or with a snapshot."""
        raise NotImplementedError

    def announcement_of(self, item: int, until: int) -> ItemEnqueued | None:
        """Return the event up to `until` that announced an item; None if it isn't found. Only of a journal."""
        raise NotImplementedError

    def events_of(self, items: Sequence[int], first: int, last: int) -> Iterator[Event]:
        """Yield the events of these numbers that name one of the items or announce children of the first; only of a journal.

        Those are among them that tell which other items were skipped and reopened, commands on items, and pauses.
        """
        raise NotImplementedError

    @abstractmethod
    def events_at(self, seqs: Collection[int]) -> dict[int, Event]:
        """Return, by number, those of the events read so far that have one of these numbers."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    @property
    def missing(self) -> int:
        """How many events are not there, as far as was read: dropped by a processor, say, or cut off."""
        return self._repairer.missing

    @property
    def misplaced(self) -> int:
        """How many events came twice, out of order or where they can't be, and were left out."""
        return self._repairer.repeated

    def caveats(self) -> list[str]:
        """Return why the figures may be off: a sentence each, without its full stop; safe to show."""
        caveats = []
        if self.missing:
            caveats.append(f"events missing from this log: {amount(self.missing)}; figures may be off")
        if self.misplaced:
            caveats.append(f"duplicate or out-of-order events skipped: {amount(self.misplaced)}")
        return caveats

    def take_notices(self) -> list[str]:
        """Return what there is to say about the file since the last call, safe to show: that it was rotated, say."""
        return []

    def skipped_lines(self) -> str:
        """Return one line about what could not be read so far, safe to show; empty if all could."""
        return ""


def batches(history: History) -> Iterator[list[Event]]:
    """Yield the events so far."""
    while (events := history.read()) is not None:
        yield events


def info_from(start: RunStarted, journal: str = "") -> RunInfo:
    """Return the `RunInfo` with which reporters are opened for the run that began with `start`, recorded in `journal`."""
    return RunInfo(start.run_id, start.num_workers, start.queue_type_name, start.at, watched=True, journal=journal)
