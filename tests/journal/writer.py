"""A process that journals events until it is killed: writer.py PATH [EVENTS_A_BATCH]. Says what it was told is saved."""

import sys
import threading
from collections.abc import Iterable

from aqueue._journal.writer import Journal
from aqueue.errors import JournalError
from aqueue.events import Event
from tests import low_thresholds  # noqa: F401  # few items stay in memory, and resumes begin with a snapshot
from tests.journal.writing import Source, make_events

journal = Journal.open(sys.argv[1])
batch_events = int(sys.argv[2]) if len(sys.argv) > 2 else 40


class Endless(Source):
    """Has events without end."""

    next_seq_to_take = journal.last_seq + 1

    def take(self, most: int | None = None) -> list[Event]:
        first = self.next_seq_to_take
        self.next_seq_to_take += batch_events
        return make_events(first, self.next_seq_to_take - 1)


class Said(list[Event]):
    """Says which event is the last that is saved, and has more written at once."""

    def extend(self, batch: Iterable[Event]) -> None:
        *_, last = batch
        print(last.seq, flush=True)
        source.hurry()


class Printed(list[JournalError]):
    """Says what went wrong."""

    def append(self, error: JournalError) -> None:
        print(error, file=sys.stderr)


source = Endless([])
source.committed = Said()
source.errors = Printed()
print("open", flush=True)
source.start(journal)
threading.Event().wait()
