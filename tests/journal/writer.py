"""A process that journals events until it is killed: writer.py PATH [EVENTS_A_BATCH]. Says what it was told is saved."""

import sys
import threading

from aqueue._journal.writer import Journal
from aqueue.events import Event
from tests.journal.writing import make_events

journal = Journal.open(sys.argv[1])
batch_events = int(sys.argv[2]) if len(sys.argv) > 2 else 40
next_seq = journal.last_seq + 1


def take() -> list[Event]:
    """Return the next events; there is no end to them."""
    global next_seq  # noqa: PLW0603  # called in one thread only
    events = make_events(next_seq, next_seq + batch_events - 1)
    next_seq += batch_events
    return events


def committed(batch: list[Event]) -> None:
    """Say which event is the last that is saved, and have more written at once."""
    print(batch[-1].seq, flush=True)
    journal.wake()


print("open", flush=True)
journal.start(take, committed, lambda error: print(error, file=sys.stderr))
threading.Event().wait()
