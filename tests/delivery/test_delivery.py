"""The delivery of events from the engine to its reporters: backpressure, and reporters that fail.

`_delivery.journal_thread` takes the events where there is a journal; `_delivery.reporter_thread` calls the
`_delivery.open_reporters`.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from anyio.lowlevel import checkpoint

import aqueue
from aqueue import (
    Backend,
    EnqueueFn,
    InvalidArgument,
    Item,
    JournalError,
    ReporterError,
    RunInfo,
    RunResult,
    SetDescFn,
    async_run_queue,
    run_queue,
)
from aqueue._codec.class_names import type_name
from aqueue._delivery import delivery
from aqueue._delivery.delivery import Delivery
from aqueue._delivery.reporter_thread import ReporterThread
from aqueue._engine.attempt import ROOM_CHECK_EVENTS
from aqueue._journal.writer import Journal
from aqueue._stream import event_stream
from aqueue._stream.event_stream import EventStream
from aqueue._system.loop import call_soon_in_this_loop
from aqueue.events import (
    Counts,
    Event,
    ItemCompleted,
    ItemDescribed,
    ItemEnqueued,
    ReporterFailed,
    RunFinished,
    RunHeldUp,
    RunStarted,
    RunStopping,
)
from aqueue.testing import EventRecorder
from aqueue.view import RunView
from tests.engine.invariants import check_events
from tests.engine.jobs import Do, Noop
from tests.journal.recorded import events_of
from tests.journal.writing import Source

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
    monkeypatch.setattr(event_stream, "SOFT_LIMIT_EVENTS", 200)
    monkeypatch.setattr("aqueue._engine.workers.SOFT_LIMIT_EVENTS", 200)
    monkeypatch.setattr(event_stream, "HARD_LIMIT_EVENTS", 2_000)


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
    assert {event.by for event in recorder.of(RunHeldUp)} <= {type_name(Blocked)}


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

    monkeypatch.setattr(event_stream, "HARD_LIMIT_EVENTS", 200_000)
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
    """However far behind reporters are, the journal has all events, and the run knows that it should wait."""
    path = tmp_path / "run.db"
    reporter = Blocked()

    async def main() -> None:
        journal = Journal.create(path)
        call_soon = call_soon_in_this_loop()
        stream = EventStream(call_soon)
        consumer = Delivery(stream, [reporter], journal, call_soon)
        await consumer.open(RunInfo("run", 1, "queue", 0.0))
        consumer.start_journal(lambda error: None)
        saved = []
        for _ in range(3):
            for _ in range(300):
                stream.emit(RunStopping, "")
            await stream.saved()
            saved.append(journal.last_seq)
        await _until(lambda: stream.is_crowded)
        reporter.let_go.set()
        await consumer.close(RunResult("run", "completed", Counts(), {}, 0.0))
        await consumer.close_journal()
        assert saved == [300, 600, 900]

    anyio.run(main, backend=backend)
    assert len(events_of(path)) == len(reporter.events) == 900


class Unspeakable(BaseException):
    """An exception about which nothing can be learnt."""

    def __str__(self) -> str:
        raise SystemExit(4)

    def __repr__(self) -> str:
        raise KeyboardInterrupt


errors = pytest.mark.parametrize(
    "error",
    [ValueError("broken"), SystemExit(3), KeyboardInterrupt(), Unspeakable()],
    ids=["ValueError", "SystemExit", "KeyboardInterrupt", "Unspeakable"],
)


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
        assert failed.reporter == "tests.delivery.test_delivery:Broken"
        assert failed.error.type.rpartition(":")[2] == type(error).__name__
    warning = capsys.readouterr().err
    assert warning.count("aqueue: warning: reporter tests.delivery.test_delivery:Broken raised") == 1


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
    with pytest.raises(ReporterError, match=r"tests\.delivery\.test_delivery:Broken could not be opened") as caught:
        run_queue([Do(untouched)], reporter=[first, broken, last], backend=backend)
    assert caught.value.__cause__ is error
    assert (first.calls, broken.calls, last.calls) == (["open", "close"], ["open"], [])
    assert first.events == []


def test_a_reporter_that_changes_its_batch_changes_no_other_s(
    backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it is given can't be changed, so it raises; those after it get every event."""

    class Takes(EventRecorder):
        def handle(self, events: Sequence[Event], view: RunView) -> None:
            cast(list[Event], events).clear()

    recorder = EventRecorder()
    run_queue([Noop() for _ in range(10)], reporter=[Takes(), recorder], backend=backend)
    check_sequence(recorder)
    check_events(recorder.events)
    assert "'tuple' object has no attribute 'clear'" in capsys.readouterr().err


# ---- reporters that are stuck ------------------------------------------------------------------------------------


class Display(Blocked):
    """One that is stuck and can skip, which keeps what the view was."""

    can_skip = True

    def __init__(self) -> None:
        super().__init__()
        self.views: list[RunView] = []

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        self.views.append(view.copy())
        super().handle(events, view)
        assert view == self.views[-1]  # nobody else has changed it in the meantime


class Many(Item):
    """An item with 1,000 children, which a journal can store."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for _ in range(1_000):
            enqueue(Noop())


@pytest.fixture
def few_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a display be far behind with 100 events."""
    monkeypatch.setattr("aqueue._delivery.reporter_thread.SKIPPED_EVENTS", 100)


@pytest.mark.usefixtures("small_limits", "few_skipped")
def test_a_run_never_waits_for_a_display(backend: Backend) -> None:
    """All items are done while it is stuck; then it gets the newest view, without most of the events, and the last ones."""
    display = Display()

    async def last(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await _until(lambda: done == 1_000)
        display.let_go.set()

    done = 0

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        nonlocal done
        await _until(display.blocked.is_set)
        done += 1

    async def root(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for _ in range(1_000):
            enqueue(Do(process))
        enqueue(Do(last))

    result = run_queue([Do(root)], reporter=display, backend=backend)
    assert result.counts.completed == 1_002
    seqs = [event.seq for event in display.events]
    assert seqs == sorted(set(seqs))
    assert len(seqs) < seqs[-1] == display.views[-1].seq
    assert isinstance(display.events[-1], RunFinished)
    assert display.views[-1].counts == result.counts
    assert display.calls[-1] == "close"


@pytest.mark.parametrize("has_journal", [False, True], ids=["alone", "with-a-journal"])
@pytest.mark.parametrize("stuck", [Blocked, Display], ids=["log", "display"])
def test_what_waits_for_a_stuck_reporter_is_bounded_by_bytes(
    backend: Backend, stuck: type[Blocked], has_journal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few the events are: a log makes the run pause until it has caught up, a display is spared them."""
    monkeypatch.setattr(event_stream, "SOFT_LIMIT_BYTES", 1_000_000)
    monkeypatch.setattr("aqueue._delivery.reporter_thread.SKIPPED_BYTES", 1_000_000)
    reporter = stuck()
    is_log = stuck is Blocked
    done = 0

    async def large(enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        nonlocal done
        await _until(reporter.blocked.is_set)
        done += 1
        return "x" * 50_000

    async def wait(is_crowded: Callable[[], bool]) -> None:
        await _until(is_crowded if is_log else lambda: done == 500)
        assert is_log == (done < 500)
        reporter.let_go.set()

    class Watched(EventStream):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            streams.append(self)

    streams: list[EventStream] = []
    monkeypatch.setattr("aqueue._run.session.EventStream", Watched)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, lambda: bool(streams) and streams[0].is_crowded)
            result = await aqueue.async_run_queue(
                [Large(large) for _ in range(500)],
                reporter=reporter,
                num_workers=4,
                journal=tmp_path / "run.db" if has_journal else None,
            )
        assert result.counts.completed == 500

    class Large(Do):
        """Is stored as nothing."""

        def dump(self) -> None:
            return None

        @classmethod
        def load(cls, data: None) -> "Large":
            return cls(large)

    anyio.run(main, backend=backend)
    assert isinstance(reporter.events[-1], RunFinished)
    completed = [event for event in reporter.events if isinstance(event, ItemCompleted)]
    assert is_log == (len(completed) == 500)


@pytest.mark.usefixtures("small_limits", "few_skipped")
@pytest.mark.parametrize("stuck", [Blocked, Display], ids=["log", "display"])
def test_a_stuck_reporter_holds_up_no_other(backend: Backend, stuck: type[Blocked], tmp_path: Path) -> None:
    """While it takes nothing, the others and the journal get each event that happens, as long as the run goes on."""
    blocked, log, display = stuck(), EventRecorder(), Display()
    display.let_go.set()
    path = tmp_path / "run.db"

    class Says(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            await _until(blocked.blocked.is_set)
            for number in range(50):
                set_desc(f"{number}")
            await _until(lambda: any(one.text == "49" for view in display.views[-1:] for one in view.running.values()))
            await _until(lambda: "49" in [one.text for one in tuple(log.events) if isinstance(one, ItemDescribed)])
            await _until(lambda: "49" in [one.text for one in events_of(path) if isinstance(one, ItemDescribed)])
            blocked.let_go.set()

    run_queue([Says()], reporter=[blocked, log, display], journal=path, backend=backend)
    for reporter in (log, *([] if isinstance(blocked, Display) else [blocked])):
        check_sequence(reporter)


@pytest.fixture
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reporters be stuck after a moment."""
    monkeypatch.setattr(delivery, "WARN_STUCK_S", 0.1)
    monkeypatch.setattr(delivery, "DETACH_STUCK_S", 0.3)
    monkeypatch.setattr(delivery, "CLOSE_TIMEOUT_S", 0.3)


@pytest.mark.usefixtures("small_limits", "little_patience")
def test_a_log_that_is_stuck_is_detached_where_there_is_a_journal(
    backend: Backend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run waits for it, names it once, and goes on without it: it gets no more calls, the others reporter.failed."""
    blocked, recorder = Blocked(), EventRecorder()
    path = tmp_path / "run.db"
    result = run_queue([Many()], reporter=[blocked, recorder], journal=path, backend=backend)
    assert result.status == "completed"
    check_sequence(recorder)
    [failed] = recorder.of(ReporterFailed)
    assert failed.reporter == "tests.delivery.test_delivery:Blocked"
    assert f"aqueue export {path} --format jsonl" in failed.error.message
    said = capsys.readouterr().err
    assert said.count("aqueue: warning: reporter tests.delivery.test_delivery:Blocked has been blocked for 0.1 s") == 1
    assert said.count("Blocked it has been blocked for 0.3 s") == 0
    assert said.count("Blocked has been blocked for 0.3 s") == 1
    assert said.count("the run continues without it") == 2  # it will, and it does
    handled = blocked.calls.copy()
    threads = {thread for thread in threading.enumerate() if "Blocked" in thread.name}
    blocked.let_go.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert blocked.calls == handled == ["open", "handle"]


@pytest.mark.usefixtures("small_limits", "little_patience")
def test_a_log_that_is_stuck_is_named_and_kept_without_a_journal(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its events would be lost: the run waits for as long as it takes."""
    blocked = Blocked()
    stuck_for = ReporterThread.stuck_for

    def until_stuck_for_long(reporter: ReporterThread, passed_s: float) -> float:
        stuck_s = stuck_for(reporter, passed_s)
        if stuck_s > 3 * delivery.DETACH_STUCK_S:
            blocked.let_go.set()
        return stuck_s

    monkeypatch.setattr(ReporterThread, "stuck_for", until_stuck_for_long)
    run_queue([Many()], reporter=blocked, backend=backend)
    check_sequence(blocked)
    said = capsys.readouterr().err
    assert "Blocked has been blocked for 0.1 s, and the run waits for it if it falls too far behind" in said
    assert "continues without it" not in said


@pytest.mark.usefixtures("little_patience")
@pytest.mark.parametrize("method", ["handle", "close"])
def test_the_end_of_a_run_leaves_a_stuck_reporter_behind(
    backend: Backend, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named once; the others are closed after the last event."""
    let_go = threading.Event()

    class Stuck(EventRecorder):
        can_skip = True

        def handle(self, events: Sequence[Event], view: RunView) -> None:
            if method == "handle" and any(isinstance(event, RunFinished) for event in events):
                let_go.wait(PATIENCE_S)

        def close(self, result: RunResult) -> None:
            let_go.wait(PATIENCE_S)

    recorder = EventRecorder()
    result = run_queue([Noop()], reporter=[Stuck(), recorder], backend=backend)
    let_go.set()
    assert result.status == "completed"
    check_sequence(recorder)
    said = capsys.readouterr().err
    assert said.count("Stuck did not accept the last events within 0.3 s, so the run ended without it") == 1


def test_a_call_s_time_counts_from_the_run_s_end_and_only_while_the_process_runs() -> None:
    """So a reporter that is stuck for long has its 5 s at the end, whatever it has taken before, and no more."""
    recorder = Blocked()
    reporter = ReporterThread(recorder, RunView(), lambda reporter, error: None, lambda: None)
    assert reporter.stuck_for(1.0) == 0.0
    reporter.start(RunInfo("run", 1, "queue", 0.0))
    assert recorder.blocked.wait(PATIENCE_S)
    reporter.stuck_for(1.0)  # notices the call
    assert [reporter.stuck_for(1.0) for _ in range(3)] == [1.0, 2.0, 3.0]
    reporter.forget_stuck()
    assert reporter.stuck_for(1.0) == 1.0
    reporter.let_go()
    recorder.let_go.set()


def test_a_delivering_thread_that_fails_ends_no_run(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does it hold one up: reporters are detached with a warning, and their terminals put back."""
    released = threading.Event()

    class OnTerminal(EventRecorder):
        uses_terminal = True

        def release_terminal(self) -> None:
            released.set()

    def fail(reporter: ReporterThread, events: Sequence[Event], size: int) -> None:
        raise RuntimeError("a mistake in aqueue")

    monkeypatch.setattr(ReporterThread, "give", fail)
    result = run_queue([Noop() for _ in range(100)], reporter=[EventRecorder(), OnTerminal()], backend=backend)
    assert result.counts.completed == 100
    assert released.is_set()
    assert capsys.readouterr().err.count("raised RuntimeError: a mistake in aqueue; the run continues without it") == 2


def test_a_journal_thread_that_fails_ends_the_run(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing runs unrecorded, and nothing waits for what will never be saved; not even memory for the error is needed."""

    def fail(*_: object) -> None:
        raise MemoryError

    class Sleeps(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            monkeypatch.setattr(Journal, "write", fail)
            monkeypatch.setattr(Journal, "failure", fail)
            await anyio.sleep_forever()

    with pytest.raises(JournalError, match="the thread that writes the journal failed: MemoryError"):
        run_queue([Sleeps()], journal=tmp_path / "run.db", reporter="none", backend=backend)
    monkeypatch.undo()
    assert any(isinstance(event, ItemEnqueued) for event in events_of(tmp_path / "run.db"))


def test_who_asks_for_a_flush_of_a_thread_that_has_ended_is_called_back(tmp_path: Path) -> None:
    """Whatever it wrote: nobody waits for it for ever."""
    source = Source([])
    source.start(Journal.create(tmp_path / "run.db"))
    assert source.close(PATIENCE_S)
    called = threading.Event()
    source.flush(called.set)
    assert called.wait(PATIENCE_S)


def test_a_run_that_gets_no_thread_for_its_journal_leaves_none_behind(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the system gives threads again, the same call makes the journal."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "aqueue-journal":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            run_queue([Noop()], journal=tmp_path / "run.db", reporter="none", backend=backend)
    result = run_queue([Noop()], journal=tmp_path / "run.db", reporter="none", backend=backend)
    assert result.counts.completed == 1


@pytest.mark.usefixtures("small_limits")
def test_workers_go_on_when_the_delivering_thread_fails_while_they_pause(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing will ever make room for them then, so nothing waits for that."""
    recorder = Blocked()
    look_after = Delivery._look_after

    def fail_once_workers_pause(delivery: Delivery, passed_s: float, *, is_ending: bool) -> None:
        if delivery._stream.is_waited_for and recorder.blocked.is_set():
            raise RuntimeError("a mistake in aqueue")
        look_after(delivery, passed_s, is_ending=is_ending)

    monkeypatch.setattr(Delivery, "_look_after", fail_once_workers_pause)

    async def root(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for _ in range(1_500):
            enqueue(Noop())

    async def main() -> RunResult:
        with anyio.fail_after(PATIENCE_S):
            return await async_run_queue([Do(root)], reporter=recorder)

    try:
        assert anyio.run(main, backend=backend).counts.completed == 1_501
    finally:
        recorder.let_go.set()


@pytest.mark.parametrize("way", ["scope", "task"])
def test_a_cancellation_ends_a_run_whose_reporter_can_not_be_opened(
    backend: Backend, way: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing has been run, the others are closed, and the cancellation comes out; once it opens, it is closed, too."""
    if way == "task" and backend == "trio":
        pytest.skip("trio cancels by scopes alone")
    monkeypatch.setattr(delivery, "OPEN_GRACE_S", 0.1)
    opening, let_go, closed = threading.Event(), threading.Event(), threading.Event()

    class Stuck(EventRecorder):
        def open(self, run: RunInfo) -> None:
            opening.set()
            assert let_go.wait(PATIENCE_S)

        def close(self, result: RunResult) -> None:
            closed.set()

    async def untouched(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        pytest.fail("an item was run")

    first = EventRecorder()

    async def run() -> None:
        await async_run_queue([Do(untouched)], reporter=[first, Stuck()])

    async def main() -> None:
        if way == "task":
            task = asyncio.ensure_future(run())
            await _until(opening.is_set)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await _until(opening.is_set)
            tasks.cancel_scope.cancel()

    anyio.run(main, backend=backend)
    assert first.calls[0] == "open"
    assert first.calls[-1] == "close"
    assert first.events == []
    assert "Stuck had not finished opening; nothing has been run" in capsys.readouterr().err
    let_go.set()
    assert closed.wait(PATIENCE_S)


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


# ---- what large values that wait come to -------------------------------------------------------------------------


def test_the_bytes_of_a_log_that_keeps_up_are_not_added_up() -> None:
    """Though never seen idle, it has taken what it has taken: a batch that it is through with counts no more."""
    log = Blocked()
    thread = ReporterThread(log, RunView(), lambda reporter, error: None, lambda: None)
    thread.start(RunInfo("run", 1, "queue", 0.0))
    start = RunStarted(1, 1.0, "run", 1, "0", 5, "queue", 1, "host")
    events: list[Event] = [start, *(ItemEnqueued(seq, 1.0, seq - 1, 0, "t") for seq in range(2, 6))]
    try:
        thread.give(events[:2], 1_000)
        assert log.blocked.wait(PATIENCE_S)
        thread.give(events[2:4], 5_000)
        assert thread.waiting_bytes == 5_000
        log.let_go.set()
        deadline = time.monotonic() + PATIENCE_S
        while thread.waiting_bytes > 0:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        log.blocked.clear()
        log.let_go.clear()
        assert log.blocked.wait(PATIENCE_S)  # in a call again, as at most times
        thread.give(events[4:], 7_000)
        assert thread.waiting_bytes - 2_000 == 0
    finally:
        log.let_go.set()
        thread.let_go()


def test_results_never_block_the_loop_for_a_stuck_log(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker may add one to what waits, however long that is; the loop goes on, and can be stopped."""
    monkeypatch.setattr(event_stream, "SOFT_LIMIT_BYTES", 100_000)
    monkeypatch.setattr(event_stream, "HARD_LIMIT_BYTES", 200_000)
    log = Blocked()
    done = 0

    async def large(enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        nonlocal done
        await _until(log.blocked.is_set)
        done += 1
        if done == 20:
            log.let_go.set()
        return "x" * 50_000

    result = run_queue([Do(large) for _ in range(20)], reporter=log, num_workers=20, backend=backend)
    assert result.counts.completed == 20
    assert isinstance(log.events[-1], RunFinished)


# ---- other reporters come to no harm -----------------------------------------------------------------------------


def test_a_display_that_is_behind_ends_with_one_more_batch(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's end waits for it: what came before the last events is folded into its view."""
    monkeypatch.setattr("aqueue._delivery.reporter_thread.BATCH_EVENTS", 20)
    display = Display()
    ending = threading.Event()
    monkeypatch.setattr(ReporterThread, "end_soon", _then(ReporterThread.end_soon, ending.set))

    async def root(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for _ in range(300):
            enqueue(Noop())
        await _until(display.blocked.is_set)

    def let_go() -> None:
        assert ending.wait(PATIENCE_S)
        display.let_go.set()

    letting_go = threading.Thread(target=let_go)
    letting_go.start()
    result = run_queue([Do(root)], reporter=display, backend=backend)
    letting_go.join()
    assert result.counts.completed == 301
    assert len(display.events) < 200
    assert isinstance(display.events[-1], RunFinished)
    assert display.views[-1].counts == result.counts


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, ValueError])
def test_a_terminal_that_can_not_be_put_back_takes_no_other_reporter_down(
    backend: Backend, error: type[BaseException]
) -> None:
    """Whatever `release_terminal` raises: that the reporter has failed is an event, and a log gets all of them."""

    class Terrible(Broken):
        uses_terminal = True

        def release_terminal(self) -> None:
            raise error

    recorder = EventRecorder()
    result = run_queue([Noop()], reporter=[Terrible("handle", ValueError("no")), recorder], backend=backend)
    assert result.status == "completed"
    check_sequence(recorder)
    assert isinstance(recorder.events[-1], RunFinished)
    assert len(recorder.of(ReporterFailed)) == 1


def test_a_reporter_is_named_once(backend: Backend) -> None:
    """Two threads would call it at one time."""
    recorder = EventRecorder()
    with pytest.raises(InvalidArgument, match="the same object twice"):
        run_queue([Noop()], reporter=[recorder, recorder], backend=backend)


def test_a_reporter_that_can_not_say_whether_it_can_skip_is_a_log(backend: Backend) -> None:
    """A property that raises is the user's code, and no reason not to run."""

    class Unsure(EventRecorder):
        @property
        def can_skip(self) -> bool:
            raise ValueError("no")

    recorder = Unsure()
    assert run_queue([Noop()], reporter=recorder, backend=backend).status == "completed"
    check_sequence(recorder)


def _then(function: Callable[[Any], None], call: Callable[[], None]) -> Callable[[Any], None]:
    def both(argument: Any) -> None:
        function(argument)
        call()

    return both


def test_bytes_are_counted_before_a_reporter_gets_the_events(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or they would count for the events that come next, and a display would be spared these: the end of the run, perhaps."""
    counted: list[tuple[int, int]] = []
    on_committed = Delivery._on_committed

    def note(delivery: Delivery, batch: list[Event]) -> None:
        counted.append((delivery._stream.bytes_written, delivery._stream.bytes_taken))
        on_committed(delivery, batch)

    class Large(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
            return "x" * 50_000

    monkeypatch.setattr(Delivery, "_on_committed", note)
    run_queue([Large()], journal=tmp_path / "run.db", reporter=EventRecorder(), backend=backend)
    assert counted[-1][0] >= 50_000
    assert all(written == taken for written, taken in counted)
