"""The thread that takes the events of a run and commits them to its journal."""

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aqueue._stream.event_stream import BATCH_EVENTS, EventStream
from aqueue.errors import JournalError
from aqueue.events import Event

if TYPE_CHECKING:
    from aqueue._delivery.snapshots import Snapshots
    from aqueue._folds.recording import Recording
    from aqueue._journal.writer import Journal  # which loads SQLite: for runs that have a journal

__all__ = ["JournalThread"]

Question = Callable[["Recording"], Sequence[int]]
"""Returns the numbers of the events that are asked for; raises KeyError if it is about events that are not written yet."""

OnRead = Callable[[list[Event]], None]
"""Gets these events."""

COMMIT_INTERVAL_S: Final = 0.05
"""How long events wait for others, at most, before they are written."""

_BUSY_EVENTS: Final = 2_000
"""After a batch of this many events, those that came meanwhile are committed at once."""


class JournalThread:
    """Takes events from a stream about every 50 ms, and at once when hurried, and commits them.

    Once writing has failed, it takes events and drops them, so that the run, which is being stopped, doesn't wait for it.

    Attributes:
        has_failed: whether writing has failed.
    """

    def __init__(
        self,
        journal: "Journal",
        stream: EventStream,
        snapshots: "Snapshots",
        on_committed: Callable[[list[Event]], None],
        on_failed: Callable[[JournalError], None],
        on_closed: Callable[[], None],
    ) -> None:
        """Start writing `journal`; the three functions are called on the thread.

        Parameters:
            journal: is written, and closed at the end.
            stream: has the events.
            snapshots: gets the events that are on the disk, in their order.
            on_committed: gets the events that are on the disk, in their order.
            on_failed: gets the error when writing failed.
            on_closed: called when the file is closed.
        """
        self._journal = journal
        self._stream = stream
        self._snapshots = snapshots
        self._on_committed = on_committed
        self._on_failed = on_failed
        self._on_closed = on_closed
        self._wake = threading.Event()
        # By the number of the last event that waits; appending and popping are thread-safe.
        self._flushes: deque[tuple[int, Callable[[], None]]] = deque()
        self._reads: deque[tuple[Question, OnRead]] = deque()  # as above
        self._is_ending = False
        self.has_failed = False
        self._has_ended = False
        self._thread = threading.Thread(target=self._work, name="aqueue-journal", daemon=True)
        self._thread.start()
        journal.begin_writing()  # now: if no thread can be started, the journal is closed as that of a run that has not begun

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._thread.is_alive()

    def hurry(self) -> None:
        """Write events now rather than after the interval; from any thread."""
        self._wake.set()

    def flush(self, on_done: Callable[[], None]) -> None:
        """Write what there is now; `on_done` is called, on any thread, when that is committed or can't be."""
        self._flushes.append((self._stream.last_waiting, on_done))
        self._wake.set()
        if self._has_ended:  # perhaps after it has looked for the last time
            self._end_flushes(1)

    def read(self, question: Question, on_read: OnRead) -> None:
        """Read events, which need not be written yet; `question` and `on_read` are called on the thread."""
        self._reads.append((question, on_read))
        self._wake.set()

    def end(self) -> None:
        """Write what is left, close the file and end; returns at once."""
        self._is_ending = True
        self._wake.set()

    def _work(self) -> None:
        try:
            is_ending = False
            while not is_ending:
                self._wake.wait(COMMIT_INTERVAL_S)
                self._wake.clear()
                is_ending = self._is_ending
                self._write_all()
            if not self.has_failed:
                self._snapshots.apply([], is_last=True)
        except JournalError as error:
            self.has_failed = True
            self._on_failed(error)
        except BaseException as error:  # when out of memory, `failure` itself may fail
            failure = JournalError(f"the thread that writes the journal failed: {type(error).__name__}: {error}")
            failure.__cause__ = error
            self.has_failed = True
            self._on_failed(failure)
        finally:
            self._has_ended = True
            self._end_flushes(len(self._flushes))
            self._journal.close()
            self._on_closed()

    def _read_items(self, num_written: int) -> None:
        """Read what is asked for and written; that is the case for the first `num_written` questions."""
        while self._reads:
            question, on_read = self._reads[0]
            try:
                seqs = question(self._snapshots.recording)
            except KeyError:
                if num_written <= 0:
                    return
                raise
            on_read(list(self._journal.written_at(seqs)))
            self._reads.popleft()
            num_written -= 1

    def _end_flushes(self, number: int, last_seq: float = math.inf) -> None:
        """End those of the first `number` flushes that wait for no event after the one with the number `last_seq`."""
        with suppress(IndexError):  # two threads may do this at once, at the end
            for _ in range(number):
                if self._flushes[0][0] > last_seq:
                    return
                self._flushes.popleft()[1]()

    def _write_all(self) -> None:
        """Write until only few events have come meanwhile."""
        stream = self._stream
        taken = BATCH_EVENTS
        while taken >= _BUSY_EVENTS:
            # Counted before `take`: they wait for events that it returns, at the latest.
            flushes, last_seq = len(self._flushes), math.inf
            try:
                asked = len(self._reads)
                batch = stream.take(BATCH_EVENTS)
                taken = len(batch)
                if batch:
                    last_seq = batch[-1].seq
                stream.wake_if_room()
                if not self.has_failed:
                    self._journal.write(batch)
                    # Before anybody gets them: bytes that are counted later would count for later events, and a display that
                    # has nothing left to show would be spared the end of the run.
                    stream.bytes_written = stream.bytes_taken
                    self._on_committed(batch)
                    self._snapshots.apply(batch)
                    self._read_items(asked if taken < BATCH_EVENTS else 0)
            except BaseException as error:
                # MemoryError, for example. After any error, no later event may count as saved.
                if self.has_failed:
                    return
                self.has_failed = True
                self._on_failed(self._journal.failure(error))
                taken = 0
            stream.bytes_written = stream.bytes_taken
            stream.wake_if_room()
            # Not only when the loop ends: while a run is fast, it doesn't.
            self._end_flushes(flushes, last_seq)
