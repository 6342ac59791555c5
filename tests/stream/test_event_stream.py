"""The stream of events (`_stream.event_stream`) by itself: what it keeps, what it counts, and when it makes the run wait."""

import threading
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from aqueue import Backend
from aqueue._stream import event_stream
from aqueue._stream.event_stream import EventStream
from aqueue.events import Event, RunHeldUp, RunStopping

PATIENCE_S = 60.0


def call(function: Callable[[], object]) -> None:
    """Call `function` at once: the loop is this thread."""
    function()


class Taker:
    """A consumer that takes nothing by itself, and counts how often it was hurried."""

    def __init__(self) -> None:
        self.is_taking = True
        self.hurried = threading.Semaphore(0)

    @property
    def slowest(self) -> str:
        return "journal"

    def hurry(self) -> None:
        self.hurried.release()

    async def saved(self) -> None:
        raise AssertionError


def connected() -> tuple[EventStream, Taker]:
    """Return a stream and its consumer."""
    stream, taker = EventStream(call), Taker()
    stream.connect(taker)
    return stream, taker


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the limits small enough to be reached at once."""
    for name, limit in [("HURRY", 5), ("SOFT_LIMIT", 10), ("HARD_LIMIT", 20)]:
        monkeypatch.setattr(event_stream, f"{name}_EVENTS", limit)
    monkeypatch.setattr(event_stream, "SOFT_LIMIT_BYTES", 1_000)
    monkeypatch.setattr(event_stream, "HARD_LIMIT_BYTES", 2_000)


def test_a_stream_that_nobody_reads_counts_its_events_and_keeps_none() -> None:
    """Whoever emits gets the event with its number; nothing waits, and nothing is ever in the way."""
    stream = EventStream(call)
    events = [stream.emit(RunStopping, "why", cancelling=True) for _ in range(3)]
    assert [(event.seq, event.reason, event.cancelling) for event in events] == [
        (1, "why", True),
        (2, "why", True),
        (3, "why", True),
    ]
    assert sorted(event.at for event in events) == [event.at for event in events]
    stream.add_large("t", "attributes", 10**12)
    stream.make_room()
    assert not stream.events
    assert not stream.is_crowded


@given(st.lists(st.one_of(st.none(), st.integers(1, 5)), max_size=30))
def test_what_is_taken_is_what_was_appended(steps: list[int | None]) -> None:
    """In any order of appending (None) and taking: each event once, in order, at most as many as asked for."""
    stream, _ = connected()
    taken: list[Event] = []
    appended: list[Event] = []
    for most in steps:
        if most is None:
            appended += [stream.emit(RunStopping, "") for _ in range(3)]
        else:
            batch = stream.take(most)
            assert len(batch) <= most
            taken += batch
    assert [*taken, *stream.take()] == appended
    assert [event.seq for event in appended] == list(range(1, len(appended) + 1))


def test_a_recorded_run_goes_on_with_the_next_number_and_no_earlier_time() -> None:
    """Even if its last event is of a time that is still to come by this machine's clock."""
    stream, _ = connected()
    stream.continue_after(41, stream.now() + 3_600)
    event = stream.emit(RunStopping, "")
    assert event.seq == 42
    assert event.at >= stream.now() - PATIENCE_S


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("what", ["events", "bytes", "lag", "lag_bytes"])
def test_workers_wait_while_it_is_crowded(backend: Backend, what: str) -> None:
    """By events or by bytes, whether these have not been taken or wait for a slow reader; until there is room."""
    stream, taker = connected()
    fill: dict[str, Callable[[], object]] = {
        "events": lambda: [stream.emit(RunStopping, "") for _ in range(10)],
        "bytes": lambda: stream.add_large("t", "result", 1_000),
        "lag": partial(setattr, stream, "lag", 10),
        "lag_bytes": partial(setattr, stream, "lag_bytes", 1_000),
    }

    async def main() -> None:
        await stream.wait_for_room()
        fill[what]()
        assert stream.is_crowded
        went_on = anyio.Event()

        async def work() -> None:
            await stream.wait_for_room()
            went_on.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            with anyio.fail_after(PATIENCE_S):
                while not stream.is_waited_for:
                    await checkpoint()
            assert taker.hurried.acquire(blocking=False)
            stream.wake_if_room()  # there is none
            assert stream.is_waited_for
            stream.take()
            stream.bytes_written = stream.bytes_taken
            stream.lag = stream.lag_bytes = 0
            stream.wake_if_room()
            with anyio.fail_after(PATIENCE_S):
                await went_on.wait()

    anyio.run(main, backend=backend)


@pytest.mark.usefixtures("small_limits")
def test_what_holds_up_a_run_is_an_event(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long workers waited, counted once for those that waited at the same time; at most once per second, by the clock."""
    stream, _ = connected()
    now = 100.0
    monkeypatch.setattr(event_stream, "time", SimpleNamespace(monotonic=lambda: now))

    async def wait(seconds: float, workers: int = 3) -> None:
        nonlocal now
        stream.lag = 10
        async with anyio.create_task_group() as tasks:
            for _ in range(workers):
                tasks.start_soon(stream.wait_for_room)
            await anyio.wait_all_tasks_blocked()
            now += seconds
            stream.lag = 0
            stream.wake_if_room()

    async def main() -> None:
        nonlocal now
        await wait(0.25)
        await wait(0.25)
        now += 1.0
        await wait(0.5)
        now += 1.0
        await wait(0.01)  # too short to be told

    anyio.run(main, backend=backend)
    told = [event for event in stream.events if isinstance(event, RunHeldUp)]
    assert [(event.by, event.duration_s) for event in told] == [("journal", 0.25), ("journal", 0.75)]


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("end", ["stops", "has no reader"])
def test_nobody_waits_for_what_will_not_come(backend: Backend, end: str) -> None:
    """A run that is being stopped, or whose consumer has ended, goes on however crowded it is."""
    stream, taker = connected()
    for _ in range(30):
        stream.append(RunStopping(stream.next_seq(), stream.now(), ""))
    stream.may_pause = stream.may_block = end != "stops"
    taker.is_taking = end != "has no reader"
    stream.make_room()
    anyio.run(stream.wait_for_room, backend=backend)
    assert stream.is_crowded


@pytest.mark.usefixtures("small_limits")
def test_enqueue_blocks_at_the_hard_limit_until_the_consumer_has_taken_enough() -> None:
    """It is hurried from the first few thousand events on, and waited for at the limit."""
    stream, taker = connected()
    for _ in range(5):
        stream.emit(RunStopping, "")
    stream.make_room()
    assert taker.hurried.acquire(blocking=False)
    for _ in range(15):
        stream.emit(RunStopping, "")
    while taker.hurried.acquire(blocking=False):
        pass
    blocked = threading.Thread(target=stream.make_room)
    blocked.start()
    assert taker.hurried.acquire(timeout=PATIENCE_S)
    assert blocked.is_alive()
    assert len(stream.take(1)) == 1
    blocked.join(PATIENCE_S)
    assert not blocked.is_alive()
