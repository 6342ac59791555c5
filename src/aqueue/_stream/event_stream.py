"""The list of events of a run: numbers them, gives them their time, and makes the run wait when too many are waiting.

It doesn't know its readers. One consumer takes the events, on a thread of its own, and reports how far behind it is.
"""

import time
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Concatenate, Final, Literal, ParamSpec, Protocol, TypeVar

import anyio

from aqueue._stream.clock import Clock
from aqueue._system.loop import CallSoon
from aqueue._system.notice import warn
from aqueue.events import Event, RunHeldUp

__all__ = ["BATCH_EVENTS", "SOFT_LIMIT_EVENTS", "Consumer", "EventStream"]

BATCH_EVENTS: Final = 10_000
"""The most events that are committed, or given to a reporter, at once."""

HURRY_EVENTS: Final = 4_000
"""With this many events waiting, the consumer takes them at once, so that the run doesn't have to wait."""

SOFT_LIMIT_EVENTS: Final = 40_000
"""With this many events waiting, workers pause between items."""

HARD_LIMIT_EVENTS: Final = 200_000
"""With this many events waiting, about 30 MB, `enqueue` and `set_desc` block."""

SOFT_LIMIT_BYTES: Final = 64_000_000
"""With this many bytes of large values waiting, workers pause between items."""

HARD_LIMIT_BYTES: Final = 128_000_000
"""With this many bytes of large values waiting, `enqueue` of a large item blocks."""

WARN_BYTES: Final = 10_000_000
"""The size of a value from which the user is warned: encoding it blocks the event loop for about 100 ms."""

HELD_UP_S: Final = 0.1
"""How long workers must have waited for room, all in all, for `run.held_up`, seconds."""

HELD_UP_INTERVAL_S: Final = 1.0
"""The least time between two of these events, seconds."""

P = ParamSpec("P")
E = TypeVar("E", bound=Event)


class Consumer(Protocol):
    """Takes the events of a stream, on threads of its own; see `aqueue._delivery.delivery.Delivery`."""

    @property
    def is_taking(self) -> bool:
        """Whether it still takes events; otherwise nothing waits for it."""
        ...

    @property
    def slowest(self) -> str:
        """What is behind: ``journal``, or the class of a reporter."""
        ...

    def hurry(self) -> None:
        """Take the events now, rather than after the usual interval."""
        ...

    async def saved(self) -> None:
        """Wait until all events so far are committed to the journal, or can't be."""
        ...


class EventStream:
    """The events of a run in one order.

    The hot path uses `append`, `next_seq` and `clock`: an event is made with the last two and appended to a list, without a
    call into this class. A consumer takes the events about every 50 ms. At the soft limit workers pause between items; only
    at the hard limit does a run wait inside an item's code.

    All methods are called in the loop's thread, except where they say otherwise.

    Attributes:
        append: adds an event.
        next_seq: returns the number for the next event.
        clock: has the time for the next event.
        is_heard: whether anybody gets the events. If not, the hot path doesn't make them.
        events: the events that have not been taken.
        may_pause: whether workers wait between items while the consumer is behind; no longer once the run is stopping.
        may_block: whether `enqueue` blocks at the hard limit; no longer once the running items are cancelled.
        is_finished: whether the last event has been appended.
        bytes_taken: the bytes of large values in all events that were taken.
        bytes_written: how many of these the consumer has dealt with; set by the thread that takes events.
        lag: how many events were taken and still wait for the slowest reader that needs every event; set by the consumer.
        lag_bytes: the bytes of large values in these.
    """

    def __init__(self, call_soon: CallSoon) -> None:
        """Only number events until `connect` is called; `call_soon` schedules a call in the loop."""
        self.events: list[Event] | deque[Event] = deque(maxlen=0)
        self.append: Callable[[Event], None] = self.events.append
        self.next_seq = count(1).__next__
        self.clock = Clock()
        self.is_heard = False
        self.may_pause = True
        self.may_block = True
        self.is_finished = False
        self.bytes_taken = self.bytes_written = 0
        self.lag = self.lag_bytes = 0
        self._bytes = 0  # of large values in all events so far
        self._call_soon = call_soon
        self._consumer: Consumer | None = None
        self._room: anyio.Event | None = None
        self._warned: set[str] = set()
        self._held_s = 0.0  # how long workers have waited since the last `run.held_up`
        self._held_until = 0.0  # the time until which that is counted, by the monotonic clock
        self._held_told_at = 0.0

    def connect(self, consumer: Consumer) -> None:
        """Keep the events for `consumer`. Call it before anything is appended, and before `append` is copied."""
        self._consumer = consumer
        self.is_heard = True
        self.events = []
        self.append = self.events.append

    def continue_after(self, seq: int, at: float) -> None:
        """Continue a recorded run whose last event was number `seq`, at the Unix time `at`."""
        self.next_seq = count(seq + 1).__next__
        self.clock.offset += max(at - self.now(), 0.0)

    # ---- appending ----------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the time for the next event: Unix time in seconds, never less than before.

        After the machine has slept, the thread that takes events adjusts it to the wall clock.
        """
        return time.monotonic() + self.clock.offset

    def emit(self, event: Callable[Concatenate[int, float, P], E], *fields: P.args, **named: P.kwargs) -> E:
        """Append an event of the type `event` with the next number, the time and these fields, and return it.

        For rare events: the hot path saves this call.
        """
        made = event(self.next_seq(), self.now(), *fields, **named)
        self.append(made)
        return made

    def finish(self, event: Event) -> None:
        """Append the last event: nothing may follow it, not even the failure of a reporter that handles it."""
        self.is_finished = True
        self.append(event)

    def add_large(self, type: str, what: Literal["result", "attributes"], size: int) -> None:
        """Count a value of `size` bytes in the next event, of an item of class `type`.

        Block while there is no room for the attributes of a new item, since an item may enqueue any number. Results don't
        block: each worker has one, and then pauses, and blocking would keep the loop from answering a signal while a log is
        stuck. Warn, once per class, about a value that is too large to be handled well.
        """
        if self._consumer is not None:
            if what == "attributes" and self._is_full:
                self.make_room()
            self._bytes += size
        if size > WARN_BYTES and type not in self._warned:
            self._warned.add(type)
            advice = "return its path" if what == "result" else "keep its path"
            warn(
                f"{type}: {'a result' if what == 'result' else 'attributes'} of {size / 1e6:,.0f} MB; encoding that much "
                f"blocks the event loop, and a resume reads it again; write large data to a file, and {advice}"
            )

    # ---- back-pressure ------------------------------------------------------------------------------------------

    @property
    def is_crowded(self) -> bool:
        """Whether workers should pause between items."""
        return self._waiting >= SOFT_LIMIT_EVENTS or self._waiting_bytes >= SOFT_LIMIT_BYTES

    @property
    def _is_full(self) -> bool:
        """Whether `enqueue` must block."""
        return self._waiting >= HARD_LIMIT_EVENTS or self._waiting_bytes >= HARD_LIMIT_BYTES

    @property
    def _waiting(self) -> int:
        return len(self.events) + self.lag

    @property
    def _waiting_bytes(self) -> int:
        return self._bytes - self.bytes_written + self.lag_bytes

    @property
    def _is_read(self) -> bool:
        return self._consumer is not None and self._consumer.is_taking

    def make_room(self) -> None:
        """Hurry the consumer if many events wait; at the hard limit, block until there is room or `may_block` is False."""
        if len(self.events) >= HURRY_EVENTS:
            self._hurry()
        began = time.monotonic()
        while self._is_full and self.may_block and self._is_read:
            self._hurry()
            time.sleep(0.005)
            self._count_held(began)

    async def wait_for_room(self) -> None:
        """Wait until the consumer has caught up, or `may_pause` is False."""
        began = time.monotonic()
        while self.is_crowded and self.may_pause and self._is_read:
            await self.wait_for_change()
            self._count_held(began)

    def _count_held(self, began: float) -> None:
        """Record that a worker has waited for room since `began`, which others may have done at the same time."""
        now = time.monotonic()
        self._held_s += now - max(began, self._held_until)
        self._held_until = now
        is_time = self._held_s >= HELD_UP_S and now - self._held_told_at >= HELD_UP_INTERVAL_S
        if is_time and self._consumer is not None and not self.is_finished:
            self.emit(RunHeldUp, self._consumer.slowest, self._held_s)
            self._held_s = 0.0
            self._held_told_at = now

    async def wait_for_change(self) -> None:
        """Wait until there is room, or `wake_waiting` is called."""
        if self._room is None:
            self._room = anyio.Event()
        self._hurry()
        await self._room.wait()

    def _hurry(self) -> None:
        if self._consumer is not None:
            self._consumer.hurry()

    def wake_waiting(self) -> None:
        """Wake the tasks that wait for room, so that they look again."""
        if self._room is not None:
            self._room.set()
            self._room = None

    async def saved(self) -> None:
        """Wait until all events so far are committed to the journal, or can't be; don't wait without a journal."""
        if self._consumer is not None:
            await self._consumer.saved()

    # ---- for the consumer, on its threads -----------------------------------------------------------------------

    def take(self, most: int | None = None) -> list[Event]:
        """Remove and return the waiting events, at most `most` of them; on one thread only."""
        self.clock.follow_wall_clock()
        events = self.events
        assert isinstance(events, list)
        # Each of these is one step under the interpreter's lock; the loop's thread only appends at the other end.
        size = self._bytes  # read before the events, so that those that are taken hold at least these bytes
        batch = events[:most]
        del events[: len(batch)]
        if most is None or len(batch) < most:
            self.bytes_taken = size
        return batch

    @property
    def last_waiting(self) -> int:
        """The number of the last event that has not been taken; 0 if all have. In any thread."""
        events = self.events
        assert isinstance(events, list)
        last = events[-1:]  # one step under the interpreter's lock
        return last[0].seq if last else 0

    @property
    def is_waited_for(self) -> bool:
        """Whether a task waits for room."""
        return self._room is not None

    def wake_if_room(self) -> None:
        """Wake the tasks that wait for room, if there is some."""
        if self._room is not None and not self.is_crowded:
            self._call_soon(self.wake_waiting)
