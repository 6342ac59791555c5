"""Make a golden journal: ``python -m tests.golden.make tests/golden/journal-v2.db``.

A journal that is checked in is never made again: it must resume for ever as it is. When the events get a new version,
make one of that version beside it.
"""

import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from aqueue import ItemFailures, run_queue
from aqueue.events import (
    EVENT_TYPES,
    ErrorInfo,
    Event,
    ItemFailed,
    ItemRetryScheduled,
    ItemStarted,
    ProcessJoined,
    ReporterFailed,
    RunResumed,
    RunStarted,
    encode,
)
from aqueue.testing import EventRecorder
from aqueue.view import RunView
from tests.golden.job import roots
from tests.journal.oracle import told_by
from tests.journal.recorded import events_of


class Fails(EventRecorder):
    """A reporter that raises, for `reporter.failed`."""

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        raise ConnectionError("the other end is gone")


__all__ = ["ELSEWHERE", "anywhere", "keep", "make"]

ELSEWHERE = {
    "group.limit_changed",
    "group.limit_known",
    "group.paused",
    "group.slowed_down",
    "group.unpaused",
    "item.cancelled",
    "item.regrouped",
    "item.rescheduled",
    "item.skipped",
    "loop.blocked",
    "process.joined",
    "process.left",
    "run.edited",
    "run.held_up",
    "run.paused",
    "run.steered",
    "run.unpaused",
    "run.workers_changed",
}
"""The events that the other golden journals have."""


def make(path: Path) -> None:
    """Record a run over three processes, the last of which crashed between two attempts at an item."""
    with suppress(ItemFailures, SystemExit):
        run_queue(roots(), journal=path, num_workers=1, on_error="continue", reporter=Fails())
    with suppress(ItemFailures, SystemExit):
        run_queue(
            roots(visit=2), resume=path, num_workers=2, on_error="continue", reporter="none", queue_type_name="stack"
        )
    with suppress(ItemFailures, SystemExit):
        run_queue(roots(), resume=path, num_workers=1, on_error="continue", reporter="none")
    events = events_of(path)
    resumed = max(event.seq for event in events if isinstance(event, RunResumed))
    last = min(e.seq for e in events[resumed:] if isinstance(e, ItemStarted) and e.phase == "process")
    started = events[last - 1]
    assert isinstance(started, ItemStarted)
    retry = ItemRetryScheduled(
        last + 1,
        started.at,
        started.item,
        started.worker,
        ErrorInfo("OSError", "again"),
        started.at + 1.0,
        attempt=started.attempt,
    )
    keep(path, [*events[:last], retry])
    missing = set(EVENT_TYPES) - ELSEWHERE - {event.event for event in events_of(path)}
    assert not missing, f"it has no {missing}"
    told_by(events_of(path))


def keep(path: Path, events: Sequence[Event]) -> None:
    """Have `events` in the journal at `path` instead of what is there, as if they had happened on no machine in particular."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM events")
        for event in events:
            connection.execute("INSERT INTO events VALUES (?, ?)", (event.seq, encode(anywhere(event)).decode()))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("VACUUM")


def anywhere(event: Event) -> Event:
    """Return `event` as if it had happened on no machine in particular."""
    if isinstance(event, RunStarted):
        cluster = event.cluster and "tls://scheduler.example.org:8786"
        return msgspec.structs.replace(event, host="example.org", pid=1_000, cluster=cluster)
    if isinstance(event, ProcessJoined):
        return msgspec.structs.replace(event, host="node.example.org", pid=1_000 + event.first_worker)
    if isinstance(event, ItemFailed | ItemRetryScheduled | ReporterFailed):
        return msgspec.structs.replace(event, error=msgspec.structs.replace(event.error, traceback=""))
    return event


if __name__ == "__main__":
    make(Path(sys.argv[1]))
