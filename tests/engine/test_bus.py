"""The bus between the engine and its reporters: backpressure, and reporters that fail."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import aqueue._bus
from aqueue import Backend, EnqueueFn, Item, ReporterError, RunInfo, RunResult, SetDescFn, async_run_queue, run_queue
from aqueue._attempt import ROOM_CHECK_EVENTS
from aqueue._bus import Bus, Clock
from aqueue._journal import Journal
from aqueue._loop import call_soon_in_this_loop
from aqueue.events import Counts, Event, ItemCompleted, ReporterFailed, RunFinished, RunStopping
from aqueue.testing import EventRecorder
from aqueue.view import RunView
from tests.engine.invariants import check_events
from tests.engine.jobs import Do, Noop
from tests.journal.recorded import events_of

PATIENCE_S = 60.0


class Blocked(EventRecorder):
    """A recorder that takes nothing after the first events until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.blocked = threading.Event()
        self.let_go = threading.Event()
        self.most_at_once = 0

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        super().handle(events, view)
        self.most_at_once = max(self.most_at_once, len(events))
        self.blocked.set()
        assert self.let_go.wait(PATIENCE_S)


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the limits small enough to be reached at once."""
    monkeypatch.setattr(aqueue._bus, "SOFT_LIMIT_EVENTS", 200)
    monkeypatch.setattr("aqueue._engine.SOFT_LIMIT_EVENTS", 200)
    monkeypatch.setattr(aqueue._bus, "HARD_LIMIT_EVENTS", 2_000)


async def _until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE_S):
        while not condition():
            await checkpoint()


@pytest.mark.usefixtures("small_limits")
def test_workers_pause_at_the_soft_limit_and_go_on(backend: Backend) -> None:
    """With a reporter that is stuck the workers stop taking items; the loop runs on; nothing is lost afterwards."""
    recorder = Blocked()
    ran = 0
    paused_at: list[int] = []

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        nonlocal ran
        ran += 1

    async def watch() -> None:
        await _until(recorder.blocked.is_set)
        # Items never await, so when nothing has run for many turns of the loop, the workers pause.
        still = 0
        before = -1
        while still < 1_000:
            still = still + 1 if ran == before else 0
            before = ran
            await checkpoint()
        paused_at.append(ran)
        recorder.let_go.set()

    async def main() -> RunResult:
        result: list[RunResult] = []

        async def run() -> None:
            result.append(await async_run_queue(items(), num_workers=4, reporter=recorder))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            tasks.start_soon(run)
        return result[0]

    def items() -> list[Item]:
        async def root(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            for _ in range(1_500):
                enqueue(Do(process))

        return [Do(root)]

    result = anyio.run(main, backend=backend)
    assert paused_at[0] < 1_500
    assert result.counts.completed == 1_501
    check_sequence(recorder)


@pytest.mark.usefixtures("small_limits")
def test_a_chain_of_hooks_pauses_at_the_soft_limit_too(backend: Backend) -> None:
    """Hooks that end one after the other, without any item between, don't outrun the reporters."""
    recorder = Blocked()
    hooks = 0
    paused_at: list[int] = []

    class Link(Item):
        def __init__(self, depth: int) -> None:
            self.depth = depth

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            if self.depth < 1_000:
                enqueue(Link(self.depth + 1))

        async def after_children_processed(self) -> None:
            nonlocal hooks
            hooks += 1

    class Lagging(Blocked):
        """It keeps up until the hooks begin."""

        def handle(self, events: Sequence[Event], view: RunView) -> None:
            if hooks:
                super().handle(events, view)
            else:
                EventRecorder.handle(self, events, view)

    async def watch() -> None:
        await _until(lambda: recorder.blocked.is_set() or hooks == 1_000)
        still = 0
        before = -1
        while still < 1_000:
            still = still + 1 if hooks == before else 0
            before = hooks
            await checkpoint()
        paused_at.append(hooks)
        recorder.let_go.set()

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await async_run_queue([Link(1)], num_workers=2, reporter=recorder)

    recorder = Lagging()
    anyio.run(main, backend=backend)
    assert hooks == 1_000
    assert paused_at[0] < 1_000
    check_sequence(recorder)


@pytest.mark.usefixtures("small_limits")
def test_enqueue_blocks_at_the_hard_limit_and_goes_on(backend: Backend) -> None:
    """One item that enqueues without end waits inside `enqueue` for a reporter that is stuck; nothing is lost."""
    recorder = Blocked()
    enqueued = 0
    blocked_at: list[int] = []

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        nonlocal enqueued
        for _ in range(10_000):
            enqueue(Noop())
            enqueued += 1

    def watch() -> None:
        assert recorder.blocked.wait(PATIENCE_S)
        # It is blocked for good when it does not move while this thread holds the recorder: look until it stands.
        before = -1
        while enqueued != before or enqueued == 0:
            before = enqueued
            recorder.let_go.wait(0.2)
        blocked_at.append(enqueued - len(recorder.events))
        recorder.let_go.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = run_queue([Do(process)], reporter=recorder, backend=backend)
    watcher.join()
    assert blocked_at[0] <= 2_000 + ROOM_CHECK_EVENTS
    assert result.counts.completed == 10_001
    check_sequence(recorder)


@pytest.mark.usefixtures("small_limits")
def test_initial_items_wait_for_reporters_without_blocking_the_loop(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source of many items pauses for a reporter that is stuck, and other tasks go on meanwhile."""
    recorder = Blocked()
    given = 0

    def items() -> Any:
        nonlocal given
        for _ in range(100_000):
            given += 1
            yield Noop()

    async def watch() -> None:
        await _until(recorder.blocked.is_set)
        still = 0
        before = -1
        while still < 1_000:
            still = still + 1 if given == before else 0
            before = given
            await checkpoint()
        assert given < 100_000
        recorder.let_go.set()

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await async_run_queue(items(), reporter=recorder)

    monkeypatch.setattr(aqueue._bus, "HARD_LIMIT_EVENTS", 200_000)
    anyio.run(main, backend=backend)
    check_sequence(recorder)


def check_sequence(recorder: EventRecorder) -> None:
    """Assert that every event came, in order, and the reporter was closed after the last."""
    assert [event.seq for event in recorder.events] == list(range(1, len(recorder.events) + 1))
    assert isinstance(recorder.events[-1], RunFinished)
    assert recorder.calls[0] == "open"
    assert recorder.calls[-1] == "close"


def test_a_slow_reporter_gets_every_event_in_order(backend: Backend) -> None:
    """However long it takes over each batch, and while items run on."""

    class Slow(EventRecorder):
        def handle(self, events: Sequence[Event], view: RunView) -> None:
            super().handle(events, view)
            threading.Event().wait(0.01)

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for number in range(5):
            set_desc(str(number))
            await checkpoint()

    recorder = Slow()
    run_queue([Do(process) for _ in range(300)], reporter=recorder, backend=backend)
    check_sequence(recorder)
    check_events(recorder.events)


def test_the_view_is_that_of_the_events_so_far(backend: Backend) -> None:
    """The view that comes with a batch has folded exactly the events up to its last."""

    class Folds(EventRecorder):
        def __init__(self) -> None:
            super().__init__()
            self.folded = RunView()

        def handle(self, events: Sequence[Event], view: RunView) -> None:
            super().handle(events, view)
            self.folded.apply(events)
            assert self.folded == view

    recorder = Folds()
    run_queue([Noop() for _ in range(100)], reporter=recorder, backend=backend)
    assert recorder.folded.counts.completed == 100


def test_all_calls_to_a_reporter_come_from_one_thread_of_their_own(backend: Backend) -> None:
    """open, handle and close: one thread, which is not the loop's and has ended afterwards."""
    threads: set[threading.Thread] = set()

    class Notes(EventRecorder):
        def open(self, run: RunInfo) -> None:
            threads.add(threading.current_thread())

        def handle(self, events: Sequence[Event], view: RunView) -> None:
            threads.add(threading.current_thread())

        def close(self, result: RunResult) -> None:
            threads.add(threading.current_thread())

    run_queue([Noop()], reporter=Notes(), backend=backend)
    [thread] = threads
    assert thread is not threading.current_thread()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


# ---- reporters that raise ----------------------------------------------------------------------------------------


class Broken(EventRecorder):
    """A recorder one of whose methods raises."""

    def __init__(self, method: str, error: BaseException) -> None:
        super().__init__()
        self.method = method
        self.error = error

    def _maybe(self, method: str) -> None:
        if method == self.method:
            raise self.error

    def open(self, run: RunInfo) -> None:
        super().open(run)
        self._maybe("open")

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        super().handle(events, view)
        self._maybe("handle")

    def close(self, result: RunResult) -> None:
        super().close(result)
        self._maybe("close")


@pytest.mark.usefixtures("small_limits")
def test_what_must_be_saved_is_saved_while_reporters_lag(backend: Backend, tmp_path: Path) -> None:
    """The journal waits for reporters that are far behind, but not while someone waits for it to save."""
    path = tmp_path / "run.db"
    reporter = Blocked()

    async def main() -> None:
        journal = Journal.create(path)
        bus = Bus([reporter], call_soon_in_this_loop(), journal)
        await bus.open(RunInfo("run", 1, "queue", 0.0))
        bus.start_journal(lambda error: None)
        saved = []
        for _ in range(3):
            for _ in range(300):
                bus.append(RunStopping(bus.next_seq(), bus.now(), ""))
            await bus.saved()
            saved.append(journal.last_seq)
        crowded = bus.is_crowded
        reporter.let_go.set()
        await bus.close(RunResult("run", "completed", Counts(), {}, 0.0))
        await bus.close_journal()
        assert saved == [300, 600, 900]
        assert crowded

    anyio.run(main, backend=backend)
    assert len(events_of(path)) == len(reporter.events) == 900


errors = pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3), KeyboardInterrupt()], ids=repr)


@errors
def test_a_reporter_that_raises_is_detached_and_the_run_goes_on(
    backend: Backend, error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    """It gets nothing more, the others get reporter.failed, one warning is on stderr, and all items run."""
    broken, before, after = Broken("handle", error), EventRecorder(), EventRecorder()
    result = run_queue([Noop() for _ in range(10)], reporter=[before, broken, after], backend=backend)
    assert result.counts.completed == 10
    assert broken.calls == ["open", "handle"]
    for recorder in (before, after):
        check_sequence(recorder)
        check_events(recorder.events)
        [failed] = recorder.of(ReporterFailed)
        assert failed.reporter == "tests.engine.test_bus:Broken"
        assert failed.error.type == type(error).__name__
    warning = capsys.readouterr().err
    assert warning.count("aqueue: warning: reporter tests.engine.test_bus:Broken raised") == 1


def test_nothing_comes_after_the_run_s_last_event(
    backend: Backend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reporter that raises over run.finished gets its warning, but no event."""

    class Late(EventRecorder):
        def handle(self, events: Sequence[Event], view: RunView) -> None:
            if any(isinstance(event, RunFinished) for event in events):
                raise ValueError("too late")

    recorder = EventRecorder()
    path = tmp_path / "run.db"
    run_queue([Noop()], reporter=[Late(), recorder], backend=backend, journal=path)
    assert isinstance(recorder.events[-1], RunFinished)
    assert events_of(path)[-1] == recorder.events[-1]
    assert "too late" in capsys.readouterr().err


@errors
def test_a_reporter_that_raises_when_closed(
    backend: Backend, error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are closed, a warning is on stderr, and the run's result is returned."""
    recorder = EventRecorder()
    result = run_queue([Noop()], reporter=[Broken("close", error), recorder], backend=backend)
    assert result.status == "completed"
    check_sequence(recorder)
    assert "raised " in capsys.readouterr().err


@errors
def test_a_reporter_that_can_not_be_opened(backend: Backend, error: BaseException) -> None:
    """ReporterError names it, nothing has run, and those that were open are closed."""

    async def untouched(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        pytest.fail("an item was run")

    first, broken, last = EventRecorder(), Broken("open", error), EventRecorder()
    with pytest.raises(ReporterError, match=r"tests\.engine\.test_bus:Broken could not be opened") as caught:
        run_queue([Do(untouched)], reporter=[first, broken, last], backend=backend)
    assert caught.value.__cause__ is error
    assert (first.calls, broken.calls, last.calls) == (["open", "close"], ["open"], [])
    assert first.events == []


def test_every_reporter_gone(backend: Backend) -> None:
    """A run whose reporters have all failed runs to its end, in bounded memory."""
    result = run_queue(
        [Noop() for _ in range(30_000)],
        reporter=[Broken("handle", ValueError()), Broken("handle", ValueError())],
        backend=backend,
    )
    assert result.counts.completed == 30_000


def test_an_item_completed_is_reported_while_the_run_goes_on(backend: Backend) -> None:
    """Events are handed on while items run, not only at the end."""
    seen = threading.Event()

    class Tells(EventRecorder):
        def handle(self, events: Sequence[Event], view: RunView) -> None:
            super().handle(events, view)
            if self.of(ItemCompleted):
                seen.set()

    async def wait(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await _until(seen.is_set)

    run_queue([Noop(), Do(wait)], reporter=Tells(), backend=backend)
    assert seen.is_set()


def test_one_jump_of_the_wall_clock_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that both see the wall clock ahead, the journal's and the reporters', make up for it once."""
    real_time, day_s = time.time, 86_400.0
    both_see = threading.Barrier(2)

    class Traced(Clock):
        """A clock whose followers have all read it before one of them sets it."""

        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            if name == "offset" and threading.current_thread().name == "follower":
                with suppress(threading.BrokenBarrierError):
                    both_see.wait(PATIENCE_S)
                both_see.abort()
            return value

    clock = Traced()
    before = clock.offset
    monkeypatch.setattr(time, "time", lambda: real_time() + day_s)
    followers = [threading.Thread(target=clock.follow_wall_clock, name="follower") for _ in range(2)]
    for follower in followers:
        follower.start()
    for follower in followers:
        follower.join()
    assert day_s - 1 < clock.offset - before < day_s + 60
