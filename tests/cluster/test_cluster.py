"""What becomes of a run when its processes, its lanes or its scheduler fail in one particular way each.

Coordinator and lanes talk in the tests' own process: `_cluster.place`, `_cluster.link` and `_cluster.lane`, over a
`_cluster.transport` in memory.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

import aqueue
from aqueue import Backend, ClusterError, EnqueueFn, Item, ItemFailures, PoisonItem, SetDescFn, run_queue
from aqueue._cluster.cluster import Cluster
from aqueue._cluster.lane import Lane
from aqueue._cluster.messages import (
    Answer,
    AttemptEnded,
    Begin,
    Described,
    LaneSettings,
    Order,
    Run,
    decode_reports,
    encode,
)
from aqueue._cluster.objects import CoordinatorObjects
from aqueue._cluster.place import Place
from aqueue._cluster.transport import TransportError
from aqueue._engine.context import running_attempt
from aqueue._folds.recording import RecordedRun, Recording
from aqueue._system import notice as _notice
from aqueue.events import (
    Event,
    ItemChildrenProcessed,
    ItemCompleted,
    ItemDescribed,
    ItemEnqueued,
    ItemFailed,
    ItemInterrupted,
    ItemStarted,
    ProcessJoined,
    ProcessLeft,
    RunResumed,
    RunStarted,
    RunStopping,
)
from aqueue.testing import EventRecorder
from aqueue.view import RunView
from tests.cluster.memory_transport import MemoryTransport
from tests.journal.oracle import told_by
from tests.journal.recorded import cut, events_of

ROOT = Path(__file__).parents[2]

DEADLINE_S = 60.0
"""How long anything may take before a test fails: far longer than it does, seconds."""


class World:
    """What the items of these tests see of the test, since their lanes are threads of its process."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.transport = transport
        self.went_on = threading.Event()
        self.began: list[Any] = []
        self.ended: list[Any] = []
        self.address = ""


worlds: list[World] = []
"""Of these the last one counts."""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Have a cluster of two processes, and let nothing take long."""
    monkeypatch.setattr("aqueue._cluster.cluster.MEMBERS_INTERVAL_S", 0.02)
    monkeypatch.setattr("aqueue._cluster.lane._LEASE_CHECK_INTERVAL_S", 0.05)
    made = World(MemoryTransport(Random(1)))
    made.transport.use(monkeypatch)
    worlds.append(made)
    yield made
    worlds.remove(made)


async def until(condition: Callable[[], object]) -> None:
    """Wait, on either event loop."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        await anyio.sleep(0.002)


def sleep_until(condition: Callable[[], object]) -> None:
    """Wait, in a thread of its own."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Noop(Item):
    """Does nothing."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
        return 1


class Waits(Item):
    """Waits until the test lets it go on."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
        world = worlds[-1]
        world.began.append(threading.get_ident())
        try:
            await until(world.went_on.is_set)
        finally:
            world.ended.append(threading.get_ident())
        return 1


class Brief(Item):
    """Takes a moment."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        world = worlds[-1]
        world.began.append(threading.get_ident())
        try:
            await anyio.sleep(0.005)
        finally:
            world.ended.append(threading.get_ident())


class Listener(EventRecorder):
    """Has a function called with each event, in the reporters' thread."""

    def __init__(self, hear: Callable[[Event], None]) -> None:
        super().__init__()
        self.hear = hear

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        super().handle(events, view)
        for event in events:
            self.hear(event)


# ---- processes that can't be used -------------------------------------------------------------------------------


def test_a_process_that_can_not_be_prepared_is_tried_now_and_then(
    world: World, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried once each time it is seen which processes there are, and the others run the items meanwhile."""
    monkeypatch.setattr("aqueue._cluster.cluster.MEMBERS_INTERVAL_S", 0.1)
    tried_at: list[float] = []
    prepare = MemoryTransport.prepare

    async def refuse(self: MemoryTransport, address: str, settings: LaneSettings) -> str:
        if address != "memory://1":
            return await prepare(self, address, settings)
        tried_at.append(time.monotonic())
        if len(tried_at) == 6:
            world.went_on.set()
        raise TransportError("it does not answer")

    monkeypatch.setattr(MemoryTransport, "prepare", refuse)
    result = run_queue([Waits(), Noop()], cluster="local:2", reporter="none", backend=backend)
    assert result.root_results == [1, 1]
    assert tried_at[5] - tried_at[0] >= 5 * 0.09


def test_a_process_that_is_refused_is_told_once(
    world: World, backend: Backend, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One that has another Python, say, is not asked again, and the reason is said once."""
    asked: list[str] = []
    prepare = MemoryTransport.prepare

    async def refuse(self: MemoryTransport, address: str, settings: LaneSettings) -> str:
        asked.append(address)
        return "it is too old" if address == "memory://1" else await prepare(self, address, settings)

    looks = 0
    members = MemoryTransport.members

    async def look(self: MemoryTransport) -> Any:
        nonlocal looks
        looks += 1
        if looks == 10:
            world.went_on.set()
        return await members(self)

    monkeypatch.setattr(MemoryTransport, "prepare", refuse)
    monkeypatch.setattr(MemoryTransport, "members", look)
    assert run_queue([Waits()], cluster="local:2", reporter="none", backend=backend).root_results == [1]
    assert Counter(asked) == {"memory://1": 1, "memory://2": 1}
    assert capfd.readouterr().err.count("the worker process at memory://1 can't be used: it is too old") == 1


def test_an_order_that_can_not_be_written_ends_the_run(
    world: World, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the sender of a link raises is raised by the run, and nothing waits for what was not sent."""

    def refuse(order: Order) -> bytes:
        if isinstance(order, Run):
            raise MemoryError("no room for the order")  # noqa: TRY004  # it isn't about the type
        return encode(order)

    monkeypatch.setattr("aqueue._cluster.link.encode", refuse)
    monkeypatch.setattr("aqueue._cluster.cluster.LEASE_S", 0.5)  # nobody tells the lanes that it is over
    with pytest.raises(MemoryError, match="no room for the order"):
        run_queue([Noop() for _ in range(30)], cluster="local:2", reporter="none", num_workers=10, backend=backend)


# ---- the lifespan ----------------------------------------------------------------------------------------------


def in_lane() -> bool:
    """Tell whether this is a lane's thread, not the coordinator's."""
    return threading.current_thread().name.startswith("aqueue-")


@asynccontextmanager
async def never_entered() -> AsyncIterator[None]:
    """Take for ever to be entered in a lane."""
    if in_lane():
        worlds[-1].began.append(threading.get_ident())
        try:
            await anyio.sleep_forever()
        finally:
            worlds[-1].ended.append(threading.get_ident())
    yield


def stop_when_entering(world: World, signals: int) -> Listener:
    """Return a reporter that sends SIGINT once both lanes enter the lifespan, and again once the run is stopping."""

    def interrupt_when_entering() -> None:
        sleep_until(lambda: len(world.began) == 2)
        interrupt()

    def hear(event: Event) -> None:
        if isinstance(event, RunStarted):
            threading.Thread(target=interrupt_when_entering).start()
        elif isinstance(event, RunStopping) and not event.cancelling and signals > 1:
            interrupt()

    return Listener(hear)


def interrupt() -> None:
    """Send SIGINT to this process."""
    os.kill(os.getpid(), signal.SIGINT)


def test_a_lifespan_that_is_never_entered_does_not_keep_a_run_from_stopping(
    world: World, backend: Backend, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """After Ctrl-C such lanes are left behind when their time is up, and end with their lease."""
    monkeypatch.setattr("aqueue._cluster.cluster.END_S", 0.1)
    monkeypatch.setattr("aqueue._cluster.cluster.LEASE_S", 0.5)
    with pytest.raises(KeyboardInterrupt):
        run_queue(
            [Noop()],
            cluster="local:2",
            lifespan=never_entered,
            reporter=stop_when_entering(world, 1),
            backend=backend,
        )
    assert "worker processes did not end within 0.1 s; the run no longer waits" in capfd.readouterr().err
    assert len(world.ended) == 2  # the transport has waited for the lanes' threads


def test_the_second_ctrl_c_cancels_a_lifespan_that_is_being_entered(
    world: World, backend: Backend, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Lanes that enter it are cancelled at once, and none is left behind."""
    with pytest.raises(KeyboardInterrupt):
        run_queue(
            [Noop()],
            cluster="local:2",
            lifespan=never_entered,
            reporter=stop_when_entering(world, 2),
            backend=backend,
        )
    assert len(world.ended) == 2
    assert "left behind" not in capfd.readouterr().err


@asynccontextmanager
async def never_left() -> AsyncIterator[None]:
    """Take for ever to be left in a lane."""
    yield
    if in_lane():
        await anyio.sleep_forever()


def test_a_lifespan_that_is_never_left_does_not_keep_a_run_from_ending(
    world: World, backend: Backend, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """When all items have ended, its lanes have some time, and then the run ends well without them."""
    monkeypatch.setattr("aqueue._cluster.cluster.END_S", 0.1)
    monkeypatch.setattr("aqueue._cluster.cluster.LEASE_S", 0.3)
    result = run_queue([Noop()], cluster="local:2", lifespan=never_left, reporter="none", backend=backend)
    assert (result.status, result.root_results) == ("completed", [1])
    assert "worker processes did not end within 0.1 s; the run no longer waits" in capfd.readouterr().err


def test_ctrl_c_does_not_wait_for_a_lifespan_that_is_never_left(
    world: World, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where lanes are told to end and don't, the second Ctrl-C shortens the wait for them."""
    monkeypatch.setattr("aqueue._cluster.cluster.END_S", 3_600.0)
    monkeypatch.setattr("aqueue._cluster.cluster.CANCEL_S", 0.1)
    monkeypatch.setattr("aqueue._cluster.cluster.LEASE_S", 0.3)

    def hear(event: Event) -> None:
        if isinstance(event, ItemCompleted) or (isinstance(event, RunStopping) and not event.cancelling):
            interrupt()

    with pytest.raises(KeyboardInterrupt):
        run_queue([Noop()], cluster="local:2", lifespan=never_left, reporter=Listener(hear), backend=backend)


class LifespanError(Exception):
    """What a lifespan raises."""


@asynccontextmanager
async def refuses_to_enter() -> AsyncIterator[None]:
    """Raise in each lane."""
    if in_lane():
        raise LifespanError("no database")
    yield


@asynccontextmanager
async def refuses_to_leave() -> AsyncIterator[None]:
    """Raise in each lane when it is left."""
    yield
    if in_lane():
        raise LifespanError("it does not commit")


@asynccontextmanager
async def refuses_to_leave_anywhere() -> AsyncIterator[None]:
    """Raise when it is left."""
    yield
    raise LifespanError("it does not commit")


def test_what_the_lifespan_raises_in_a_lane_ends_the_run(world: World, backend: Backend) -> None:
    """It is raised by the run as it is, and nothing was run."""
    with pytest.raises(LifespanError, match="no database"):
        run_queue([Waits()], cluster="local:2", lifespan=refuses_to_enter, reporter="none", backend=backend)
    assert world.began == []


def test_what_the_lifespan_raises_at_its_end_is_raised_as_it_is_locally(world: World, backend: Backend) -> None:
    """All items have completed then, here as there."""
    for cluster, lifespan in (
        (None, refuses_to_leave_anywhere),
        ("local:2", refuses_to_leave),
        ("local:2", refuses_to_leave_anywhere),
    ):
        recorder = EventRecorder()
        with pytest.raises(LifespanError, match="it does not commit"):
            run_queue([Noop(), Noop()], cluster=cluster, lifespan=lifespan, reporter=recorder, backend=backend)
        assert len(recorder.of(ItemCompleted)) == 2
        assert recorder.result is not None
        assert recorder.result.status == "failed"


# ---- reports that come too late or twice ------------------------------------------------------------------------


class EndsTwice(Item):
    """Is reported as ended before it is, and again when it is."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
        attempt: Any = running_attempt.get()
        set_desc("in time")
        worlds[-1].address = worlds[-1].transport.here()
        attempt._lane.report(AttemptEnded(attempt.run.order, "returned", b"7"))
        set_desc("too late")
        enqueue(Noop())
        return 8


def test_reports_about_an_attempt_that_is_over_are_ignored_and_counted(world: World, backend: Backend) -> None:
    """The first end of an attempt counts; what comes of it later is only counted, and told when the process leaves."""

    def hear(event: Event) -> None:
        if isinstance(event, ItemCompleted) and event.item == 1:
            world.transport.kill(world.address)
        elif isinstance(event, ProcessLeft):
            world.went_on.set()

    recorder = Listener(hear)
    result = run_queue([EndsTwice(), Waits()], cluster="local:2", num_workers=1, reporter=recorder, backend=backend)
    assert result.root_results == [7, 1]
    assert [event.text for event in recorder.of(ItemDescribed)] == ["in time"]
    assert (result.counts.enqueued, result.counts.completed) == (2, 2)
    [left] = recorder.of(ProcessLeft)
    assert (left.reason, left.ignored) == ("lost", 3)


def test_letters_that_come_twice_are_counted(world: World, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each report counts once, however often its letter comes, and how many came again is told."""
    exchange = MemoryTransport.exchange

    async def twice(self: MemoryTransport, *arguments: Any) -> Answer:
        answer = await exchange(self, *arguments)
        return Answer(answer.process, answer.incarnation, answer.acknowledged, answer.letters * 2)

    def hear(event: Event) -> None:
        if isinstance(event, ItemCompleted) and event.item == 1:
            world.transport.kill(world.address)
        elif isinstance(event, ProcessLeft):
            world.went_on.set()

    monkeypatch.setattr(MemoryTransport, "exchange", twice)
    recorder = Listener(hear)
    result = run_queue([EndsTwice(), Waits()], cluster="local:2", num_workers=1, reporter=recorder, backend=backend)
    assert result.root_results == [7, 1]
    [left] = recorder.of(ProcessLeft)
    assert left.ignored > 3


def test_a_place_counts_reports_about_orders_that_it_does_not_know() -> None:
    """They change nothing, whatever they say."""
    cluster = Cluster(
        MemoryTransport(Random(1)),
        lambda function: None,
        num_workers=1,
        backend="trio",
        lifespan=None,
        has_journal=False,
        run_id="run",
    )
    place = Place(cluster, range(1, 2), "host", 1, lambda ordered: None)
    for report in (Described(1, "text"), AttemptEnded(1, "returned", b"1"), AttemptEnded(2, "cancelled")):
        place.apply(report)
    assert place.ignored == 3


class Chatty(Item):
    """Says very much at once."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for number in range(1_000):
            set_desc(f"{number}")
            enqueue(Numbered(number))


class Numbered(Item):
    """Has a number."""

    def __init__(self, number: int) -> None:
        self.number = number

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
        return self.number

    @property
    def key(self) -> str:
        return str(self.number)


def test_many_reports_are_taken_in_a_few_at_a_time_and_in_order(
    world: World, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's loop has its turns in between, and nothing overtakes anything."""
    taken: list[int] = []
    take_turn, apply = Cluster._apply, Place.apply

    def begin(self: Cluster, *arguments: Any) -> None:
        taken.append(0)
        take_turn(self, *arguments)

    def count(self: Place, report: Any) -> None:
        taken[-1] += 1
        apply(self, report)

    monkeypatch.setattr(Cluster, "_apply", begin)
    monkeypatch.setattr(Place, "apply", count)
    recorder = EventRecorder()
    run_queue([Chatty()], cluster="local:2", num_workers=50, reporter=recorder, backend=backend)
    assert max(taken) == 200
    told = [
        event.text if isinstance(event, ItemDescribed) else event.key
        for event in recorder.events
        if isinstance(event, ItemDescribed | ItemEnqueued) and event.item > 0
    ]
    assert told == [None, *(str(number // 2) for number in range(2_000))]


# ---- processes that die -----------------------------------------------------------------------------------------


class Deadly(Item):
    """Kills its process, and another takes its place, until it is run for the time number `times`."""

    def __init__(self, times: int) -> None:
        self.times = times

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
        world = worlds[-1]
        count = 1 + sum(isinstance(one, tuple) for one in world.began)
        if count == 1 and self.times > 10:
            await until(lambda: running_here(world))
        beside = running_here(world)
        await anyio.sleep(0.02)
        world.began.append(("deadly", beside + running_here(world)))
        if count == self.times:
            world.went_on.set()
            return count
        world.transport.join()
        world.transport.kill(world.transport.here())
        await anyio.sleep_forever()
        raise AssertionError


def running_here(world: World) -> int:
    """Return how many other items are under way in this lane."""
    here = threading.get_ident()
    return world.began.count(here) - world.ended.count(here)


def test_an_item_whose_process_dies_runs_alone_at_last_and_fails(
    world: World, backend: Backend, tmp_path: Path
) -> None:
    """After two losses nothing else runs in its process, after the third it fails; what ran beside it runs again."""
    recorder = EventRecorder()
    with pytest.raises(ItemFailures) as caught:
        run_queue(
            [Deadly(99), *(Brief() for _ in range(200))],
            cluster="local:2",
            num_workers=3,
            on_error="continue",
            reporter=recorder,
            journal=tmp_path / "run.db",
            backend=backend,
        )
    [failure] = caught.value.exceptions
    assert isinstance(failure, PoisonItem)
    told_by(events_of(tmp_path / "run.db"))
    assert caught.value.result.counts.completed == 200
    assert [event.attempt for event in recorder.of(ItemFailed)] == [3]
    beside = [one[1] for one in world.began if isinstance(one, tuple)]
    assert len(beside) == 3
    assert beside[0] > 0
    assert beside[2] == 0
    assert {event.reason for event in recorder.of(ItemInterrupted)} == {"worker_lost"}
    assert [event.reason for event in recorder.of(ProcessLeft)] == ["lost"] * 3


def test_a_process_that_was_told_to_leave_blames_nobody(world: World, backend: Backend) -> None:
    """However often the process of an item is ended, it runs again, and not alone."""
    world.transport.dies = False
    recorder = EventRecorder()
    result = run_queue([Deadly(6), Waits()], cluster="local:2", num_workers=2, reporter=recorder, backend=backend)
    assert result.root_results == [6, 1]
    assert [event.reason for event in recorder.of(ProcessLeft)] == ["left"] * 5
    told_by(recorder.events)


def test_attempts_that_are_lost_are_not_those_of_a_retry_policy(world: World, backend: Backend) -> None:
    """With `retry` an item has all its attempts, however often its process is ended."""
    world.transport.dies = False
    recorder = EventRecorder()
    result = run_queue(
        [Deadly(4)], cluster="local:2", retry=aqueue.Retry(attempts=1), reporter=recorder, backend=backend
    )
    assert (result.root_results, result.counts.retried, result.counts.interrupted) == ([4], 0, 3)


# ---- a scheduler, or a coordinator, that is gone -----------------------------------------------------------------


class Silences(Item):
    """Silences the scheduler until it has been asked some times, in vain."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
        transport = worlds[-1].transport
        transport.is_silent = True
        await until(lambda: transport.counts["the scheduler is silent"] > 10)
        transport.is_silent = False
        return 2


def test_a_scheduler_that_is_silent_for_a_while_changes_nothing(
    world: World, backend: Backend, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Lanes go on meanwhile; the user is told, also when it is over."""
    monkeypatch.setattr("aqueue._cluster.cluster._NOTICE_S", 0.0)
    recorder = EventRecorder()

    def hear(text: str) -> None:
        _notice.say(text)
        if "answers again" in text:
            world.went_on.set()

    monkeypatch.setattr("aqueue._cluster.cluster.say", hear)
    result = run_queue([Silences(), Waits()], cluster="local:2", num_workers=2, reporter=recorder, backend=backend)
    assert result.root_results == [2, 1]
    assert not recorder.of(ProcessLeft)
    assert not recorder.of(ItemInterrupted)
    said = capfd.readouterr().err
    assert said.count("the scheduler at memory:// does not answer; retrying for 600 s") == 1
    assert said.count("the scheduler at memory:// answers again") == 1


class Cuts(Item):
    """Cuts all off from all."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        worlds[-1].transport.is_cut = True
        await anyio.sleep_forever()


def test_a_scheduler_that_is_silent_for_too_long_ends_the_run(
    world: World, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends by `ClusterError`, soon after the patience is over, and can be resumed."""
    monkeypatch.setattr("aqueue._cluster.cluster.PATIENCE_S", 0.2)
    monkeypatch.setattr("aqueue._cluster.cluster.LEASE_S", 0.5)
    monkeypatch.setattr("aqueue._cluster.cluster.CANCEL_S", 0.1)
    monkeypatch.setattr("aqueue._cluster.place.CANCEL_S", 0.1)
    journal = tmp_path / "run.db"
    with pytest.raises(ClusterError, match="the scheduler at memory:// has not answered for 0 s"):
        run_queue([Noop(), Cuts()], cluster="local:2", reporter="none", journal=journal, backend=backend)
    assert told_by(events_of(journal)).state[2] == "waits"
    monkeypatch.setattr(Cuts, "process", Noop.process)
    assert run_queue([Noop(), Cuts()], reporter="none", resume=journal, backend=backend).root_results == [1, 1]


class Lone:
    """A lane whose coordinator says nothing more after its orders."""

    def __init__(self, lease_s: float, backend: Backend) -> None:
        self.lane = Lane(LaneSettings("run", "coordinator", 1, backend, has_journal=False, lease_s=lease_s), "host")
        self.thread = threading.Thread(target=self.lane.run)
        self.thread.start()
        item = CoordinatorObjects().dump_item(Waits(), lambda _: None)
        run = Run(1, 1, "tests.cluster.test_cluster:Waits", 1, 1, b"", 0, None, False, item, {})
        self.lane.deliver([(1, encode([Begin(), run]))])

    def outcomes(self) -> list[str]:
        """Return how what ran ended, once the thread has ended."""
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive()
        reports = [report for _, content in self.lane.last_letters() for report in decode_reports(content)]
        return [report.outcome for report in reports if isinstance(report, AttemptEnded)]


def test_a_lane_whose_coordinator_is_gone_ends_with_its_lease(world: World, backend: Backend) -> None:
    """What runs in it is cancelled, and what is left to say is kept."""
    assert Lone(0.3, backend).outcomes() == ["cancelled"]
    assert len(world.ended) == 1


def test_a_lane_that_is_abandoned_ends_at_once(world: World, backend: Backend) -> None:
    """The next coordinator of the run doesn't wait for the lease."""
    lone = Lone(3_600.0, backend)
    sleep_until(lambda: world.began)
    lone.lane.abandon()
    assert lone.outcomes() == ["cancelled"]
    assert len(world.ended) == 1


# ---- coordinators that die --------------------------------------------------------------------------------------


def crashed(phase: str, cluster: str) -> RecordedRun:
    """Return what is recorded of a run of one item that crashed three times while `phase` of that was running."""
    events: list[Event] = []
    for attempt in (1, 2, 3):
        start = RunStarted if attempt == 1 else RunResumed
        events.append(start(len(events) + 1, 1.0, "run", 1, "1", 1, "queue", 1, "host", cluster))
        if attempt == 1:
            events.append(ItemEnqueued(2, 1.0, 1, 0, "shop:Page", hook=True))
            if phase == "after_children":
                events.append(ItemStarted(3, 1.0, 1, "shop:Page", 1))
                events.append(ItemCompleted(4, 1.0, 1, 1, 0.1))
        else:
            events.append(ItemInterrupted(len(events) + 1, 1.0, 1, phase, attempt - 1, "crash"))  # type: ignore[arg-type]
        events.append(ItemStarted(len(events) + 1, 1.0, 1, "shop:Page", 1, phase, attempt))  # type: ignore[arg-type]
    recording = Recording()
    recording.apply(events)
    return recording.at_end()


@pytest.mark.parametrize(
    ("phase", "cluster", "is_suspect"),
    [
        ("process", "", True),
        ("process", "tls://scheduler:8786", False),
        ("after_children", "", True),
        ("after_children", "tls://scheduler:8786", True),
    ],
)
def test_what_runs_elsewhere_is_not_blamed_for_a_crash_of_the_coordinator(
    phase: str, cluster: str, is_suspect: bool
) -> None:
    """Only what ran in the process that crashed can be why: hooks, and `process` without a cluster."""
    crashes = crashed(phase, cluster).crashes
    assert crashes.count == 3
    assert crashes.suspects == (frozenset({1}) if is_suspect else frozenset())
    assert crashes.alone == ({1: 3} if is_suspect else {})


class Hooked(Item):
    """Has a hook."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
        return 3

    async def after_children_processed(self) -> None: ...


def last_start(journal: Path, phase: str) -> int:
    """Return the number of the event with which `phase` of an item was last started."""
    return max(event.seq for event in events_of(journal) if isinstance(event, ItemStarted) and event.phase == phase)


@pytest.mark.parametrize("phase", ["process", "after_children"])
def test_an_item_runs_again_after_three_crashes_of_the_coordinator_and_a_hook_does_not(
    phase: str, world: World, backend: Backend, tmp_path: Path
) -> None:
    """The same by journals that were cut off where the coordinator crashed."""
    journal = tmp_path / "0.db"
    arguments: dict[str, Any] = {"cluster": "local:2", "reporter": "none", "backend": backend}
    run_queue([Hooked()], resume=journal, **arguments)
    for crash in (1, 2, 3):
        journal = cut(journal, last_start(journal, phase), tmp_path / f"{crash}.db")
        if crash < 3:
            run_queue([Hooked()], resume=journal, **arguments)
    if phase == "process":
        assert run_queue([Hooked()], resume=journal, **arguments).root_results == [3]
    else:
        with pytest.raises(ItemFailures) as caught:
            run_queue([Hooked()], resume=journal, **arguments)
        assert isinstance(caught.value.exceptions[0], PoisonItem)
    events = events_of(journal)
    told_by(events)
    # At least one process joined in each of the first two runs; later a hook runs alone, and may end before any has.
    assert sum(isinstance(event, ProcessJoined) for event in events) >= 2
    assert any(isinstance(event, ItemChildrenProcessed) for event in events) == (phase == "process")


# ---- signals ----------------------------------------------------------------------------------------------------

_PROGRAM = """
import os, sys
import anyio
from aqueue import Item, run_queue

class Job(Item):
    def __init__(self, folder):
        self.folder = folder

    async def process(self, enqueue, set_desc):
        note(self.folder, "begins")
        try:
            while not os.path.exists(f"{self.folder}/go"):
                await anyio.sleep(0.01)
        except BaseException:
            note(self.folder, "cut")
            raise
        note(self.folder, "ends")

def note(folder, line):
    descriptor = os.open(f"{folder}/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line} \\n".encode())
    os.close(descriptor)

folder, backend = sys.argv[1:]
run_queue(
    [Job(folder) for _ in range(9)], cluster="local:2", num_workers=1, reporter=["none", f"jsonl:{folder}/events"],
    resume=f"{folder}/run.db", backend=backend,
)
"""


class Program:
    """A program whose run on two local processes has two items under way."""

    def __init__(self, folder: Path, backend: Backend) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(folder), backend], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        sleep_until(lambda: self.read("log").count("begins") == 2 or self.process.poll() is not None)

    def read(self, name: str) -> str:
        """Return what is in one of its files."""
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def interrupt(self) -> None:
        """Send it a SIGINT, as Ctrl-C does, and wait until it has taken note."""
        before = self.read("events").count('"run.stopping"')
        self.process.send_signal(signal.SIGINT)
        sleep_until(lambda: self.read("events").count('"run.stopping"') > before)

    def end(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and what it said."""
        _, said = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, said


@pytest.mark.parametrize("backend", ["trio"])  # one each: starting a cluster takes seconds
def test_the_first_ctrl_c_lets_items_on_the_cluster_finish(tmp_path: Path, backend: Backend) -> None:
    """Nothing more is taken, what runs ends well, and the way to go on is told."""
    program = Program(tmp_path, backend)
    program.interrupt()
    (tmp_path / "go").touch()
    code, said = program.end()
    assert code == -signal.SIGINT
    assert "KeyboardInterrupt" in said
    assert "  Resume:         run the same command again\n" in said
    assert Counter(program.read("log").split()) == {"begins": 2, "ends": 2}
    assert Counter(told_by(events_of(tmp_path / "run.db")).state.values()) == {"closed": 2, "waits": 7}


@pytest.mark.parametrize("backend", ["asyncio"])
def test_the_second_ctrl_c_cancels_items_on_the_cluster(tmp_path: Path, backend: Backend) -> None:
    """They see it, and the program ends without waiting for them any longer."""
    program = Program(tmp_path, backend)
    program.interrupt()
    program.interrupt()
    code, said = program.end()
    assert code == -signal.SIGINT
    assert "left behind" not in said
    wait_for_cut(tmp_path / "log")
    assert Counter(program.read("log").split()) == {"begins": 2, "cut": 2}
    assert set(told_by(events_of(tmp_path / "run.db")).state.values()) == {"waits"}


def wait_for_cut(log: Path) -> None:
    """Wait until both items have seen that they were cancelled."""
    sleep_until(lambda: log.read_text().count("cut") == 2)
