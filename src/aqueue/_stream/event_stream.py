"""The list of events of a run: numbers them, tells their time, and makes the run wait when too many have not been taken.

It doesn't know who reads it. One consumer takes the events, on a thread of its own, and says how far behind it is.
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
from aqueue.events import Event

__all__ = ["BATCH_EVENTS", "SOFT_LIMIT_EVENTS", "Consumer", "EventStream"]

BATCH_EVENTS: Final = 10_000
"""How many events are committed, or given to a reporter, at once, at most."""

HURRY_EVENTS: Final = 4_000
"""With so many, they are taken at once, while the run goes on, rather than when it must wait for that."""

SOFT_LIMIT_EVENTS: Final = 40_000
"""With so many events waiting, workers pause between items."""

HARD_LIMIT_EVENTS: Final = 200_000
"""With so many, `enqueue` and `set_desc` themselves wait: about 30 MB."""

SOFT_LIMIT_BYTES: Final = 64_000_000
"""With so many bytes of large values waiting, workers pause between items."""

HARD_LIMIT_BYTES: Final = 128_000_000
"""With so many, the next `enqueue` of a large item waits."""

WARN_BYTES: Final = 10_000_000
"""How long a value may be before the user is warned: to encode it stops the event loop for about 100 ms."""

P = ParamSpec("P")
E = TypeVar("E", bound=Event)


class Consumer(Protocol):
    """What takes the events of a stream, on threads of its own; see `aqueue._delivery.delivery.Delivery`."""

    @property
    def is_taking(self) -> bool:
        """Whether it still takes events; if not, nothing waits for it."""
        ...

    def hurry(self) -> None:
        """Take what there is now, rather than after the usual interval."""
        ...

    async def saved(self) -> None:
        """Wait until all events so far are committed to the journal, or can't be."""
        ...


class EventStream:
    """The events of a run in one order.

    The hot path is `append`, `next_seq` and `clock`: an event is built with the last two and appended to a list, which costs
    no call into this class. A consumer takes what has come about every 50 ms. A run never waits for it inside an item's
    code, unless the hard limit is reached; workers pause between items at the soft limit.

    All methods are called in the loop's thread, but for those that say otherwise.

    Attributes:
        append: adds an event.
        next_seq: returns the number for the next event.
        clock: tells the time for the next event.
        events: those that have not been taken.
        may_pause: whether workers wait between items while the consumer lags; not once the run is being stopped.
        may_block: whether `enqueue` waits for it at the hard limit; not once the running items are cancelled.
        is_finished: whether the last event has been appended.
        bytes_taken: how many bytes of large values the events have that were taken, from the start on.
        bytes_written: how many of these the consumer is through with; set by the thread that takes events.
        lag: how many events were taken and still wait for the slowest reader that needs every event; set by the consumer.
        lag_bytes: how many bytes of large values these have.
    """

    def __init__(self, call_soon: CallSoon) -> None:
        """Make a stream that only counts its events, until `connect` is called; `call_soon` has a function called in the loop."""
        self.events: list[Event] | deque[Event] = deque(maxlen=0)
        self.append: Callable[[Event], None] = self.events.append
        self.next_seq = count(1).__next__
        self.clock = Clock()
        self.may_pause = True
        self.may_block = True
        self.is_finished = False
        self.bytes_taken = self.bytes_written = 0
        self.lag = self.lag_bytes = 0
        self._bytes = 0  # of large values in all events, from the start on
        self._call_soon = call_soon
        self._consumer: Consumer | None = None
        self._room: anyio.Event | None = None
        self._warned: set[str] = set()

    def connect(self, consumer: Consumer) -> None:
        """Keep the events for `consumer` from now on; before anything has been appended, or `append` has been copied."""
        self._consumer = consumer
        self.events = []
        self.append = self.events.append

    def continue_after(self, seq: int, at: float) -> None:
        """Go on with a recorded run whose last event was number `seq`, at the Unix time `at`."""
        self.next_seq = count(seq + 1).__next__
        self.clock.offset += max(at - self.now(), 0.0)

    # ---- appending ----------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the time for the next event: Unix time in seconds, never less than before, whatever the clock does.

        The thread that takes events sees to it that it follows the wall clock after the machine has slept.
        """
        return time.monotonic() + self.clock.offset

    def emit(self, event: Callable[Concatenate[int, float, P], E], *fields: P.args, **named: P.kwargs) -> E:
        """Append an event of the type `event`, with its number, the time and these fields, and return it.

        It is for what is rare: the hot path saves this call.
        """
        made = event(self.next_seq(), self.now(), *fields, **named)
        self.append(made)
        return made

    def finish(self, event: Event) -> None:
        """Append the last event: nothing comes after it, not even that a reporter failed over it."""
        self.is_finished = True
        self.append(event)

    def add_large(self, type: str, what: Literal["result", "attributes"], size: int) -> None:
        """Count a value of `size` bytes, which the next event has, of an item of class `type`.

        Block while there is no room for what an item enqueues, which may be any number. Of results each worker has one, and
        then pauses: to block for those would keep the loop from answering a signal while a log is stuck. Warn, once per
        class, if it is too large to be handled well.
        """
        if self._consumer is not None:
            if what == "attributes" and self._is_full:
                self.make_room()
            self._bytes += size
        if size > WARN_BYTES and type not in self._warned:
            self._warned.add(type)
            advice = "return its path" if what == "result" else "keep its path"
            warn(
                f"{type}: {'a result' if what == 'result' else 'attributes'} of {size / 1e6:,.0f} MB; while so much is encoded "
                f"nothing else runs, and a resume reads it again; write what is large to a file, and {advice}"
            )

    # ---- back-pressure ------------------------------------------------------------------------------------------

    @property
    def is_crowded(self) -> bool:
        """Whether workers should pause between items."""
        return self._waiting >= SOFT_LIMIT_EVENTS or self._waiting_bytes >= SOFT_LIMIT_BYTES

    @property
    def _is_full(self) -> bool:
        """Whether `enqueue` must wait."""
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
        """Hurry the consumer where many events wait; block until there is room below the hard limit, or that must end."""
        if len(self.events) >= HURRY_EVENTS:
            self._hurry()
        while self._is_full and self.may_block and self._is_read:
            self._hurry()
            time.sleep(0.005)

    async def wait_for_room(self) -> None:
        """Wait until the consumer has caught up, or waiting must end."""
        while self.is_crowded and self.may_pause and self._is_read:
            await self.wait_for_change()

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
        """Let those that wait for room look again."""
        if self._room is not None:
            self._room.set()
            self._room = None

    async def saved(self) -> None:
        """Wait until all events so far are committed to the journal, if there is one, or can't be."""
        if self._consumer is not None:
            await self._consumer.saved()

    # ---- for the consumer, on its threads -----------------------------------------------------------------------

    def take(self, most: int | None = None) -> list[Event]:
        """Return what has come, at most `most` events, which the stream then keeps no longer; on one thread only."""
        self.clock.follow_wall_clock()
        events = self.events
        assert isinstance(events, list)
        # Each of these is one step under the interpreter's lock; the loop only ever appends at the other end.
        size = self._bytes  # before the look at the events, which then have all of it, or it was not needed
        batch = events[:most]
        del events[: len(batch)]
        if most is None or len(batch) < most:
            self.bytes_taken = size
        return batch

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody waits for room."""
        return self._room is not None

    def wake_if_room(self) -> None:
        """Wake those that wait for room, if there is some: thousands of events, since they are taken in batches."""
        if self._room is not None and not self.is_crowded:
            self._call_soon(self.wake_waiting)
