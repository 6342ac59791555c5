"""What the tests of the journal share: events by the number, a source of them, and waiting for what was written."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aqueue._delivery.journal_thread import JournalThread
from aqueue._delivery.snapshots import Snapshots
from aqueue._folds.snapshot import GROWING
from aqueue._journal.writer import Journal
from aqueue._resume.past import fold_recorded
from aqueue._stream.event_stream import BATCH_EVENTS, EventStream
from aqueue.errors import JournalError
from aqueue.events import Event, ItemCompleted, ItemDescribed, ItemEnqueued, ItemStarted, RunStarted

__all__ = ["DEADLINE_S", "Source", "live", "make_events", "recorded", "write"]

DEADLINE_S = 60.0
WRITER = Path(__file__).with_name("writer.py")


def make_events(first: int, last: int) -> list[Event]:
    """Return events with the numbers from `first` to `last` of a run whose items do nothing; the same ones each time."""
    events: list[Event] = []
    for seq in range(first, last + 1):
        item, step = divmod(seq + 2, 4)
        at = 1_700_000_000 + seq / 1_000
        if seq == 1:
            events.append(RunStarted(1, at, "run", 1, "0", 5, "queue", 1, "host"))
        elif step == 0:
            events.append(ItemEnqueued(seq, at, item, 0, "shop:Page"))
        elif step == 1:
            events.append(ItemStarted(seq, at, item, "shop:Page", 1 + item % 5))
        elif step == 2:
            events.append(ItemDescribed(seq, at, item, 1 + item % 5, f"page {item} …"))
        else:
            events.append(ItemCompleted(seq, at, item, 1 + item % 5, 0.25))
    return events


def _call(function: Callable[[], object]) -> None:
    function()


class Source(EventStream):
    """Stands where the run does: has events to write, and notes what is said of them."""

    events: list[Event]

    def __init__(self, events: list[Event]) -> None:
        super().__init__(_call)
        self.events = events
        self.committed: list[Event] = []
        self.errors: list[JournalError] = []
        self.batch_events = BATCH_EVENTS

    def take(self, most: int | None = None) -> list[Event]:
        return super().take(self.batch_events)

    def start(self, journal: Journal) -> None:
        """Have the events written, on the thread that does so for a run."""
        self._closed = threading.Event()
        folds = fold_recorded(journal)
        snapshots = Snapshots(journal.snapshot_writer(GROWING, folds.snapshot_seq), folds)
        self._thread = JournalThread(
            journal, self, snapshots, self.committed.extend, self.errors.append, self._closed.set
        )
        self.flush = self._thread.flush
        self.hurry = self._thread.hurry

    def close(self, timeout_s: float) -> bool:
        """Have all written and the journal closed; tell whether that was done in time."""
        self._thread.end()
        return self._closed.wait(timeout_s)


@contextmanager
def live(path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Have another process write a journal, without an end, 40 events at a time."""
    process = subprocess.Popen(
        [sys.executable, str(WRITER), str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": "."},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE_S)


def wait(ask: Callable[[Callable[[], None]], None]) -> None:
    """Call `ask` with a function, and return once that has been called."""
    done = threading.Event()
    ask(done.set)
    assert done.wait(DEADLINE_S)


def write(path: Path, events: list[Event]) -> None:
    """Write `events` to a new or existing journal and close it."""
    journal = Journal.open(path)
    source = Source(list(events))
    source.start(journal)
    assert source.close(DEADLINE_S)
    assert not source.errors
    assert source.committed == events


def recorded(path: Path) -> list[Event]:
    """Return all events of a journal, by opening it as a run would."""
    journal = Journal.open(path)
    try:
        return [event for batch in journal.recorded() for event in batch]
    finally:
        journal.close()
