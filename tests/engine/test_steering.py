"""What commands do to a run that is live: pauses, workers, limits, stops.

The engine's side is `_engine.steering`; the number of workers is `_engine.local_workers`'s. Commands here come from items, as
without a journal. What comes of any commands at any moment is tested by random: `tests.engine.commander` knows what must.
"""

from collections.abc import Callable
from contextvars import ContextVar
from random import Random
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue import (
    Backend,
    EnqueueFn,
    ItemFailures,
    Limit,
    MisplacedCall,
    Retry,
    SetDescFn,
    SteeringError,
    run_queue,
    steering,
)
from aqueue._engine.engine import Engine
from aqueue._engine.suspects import Suspects
from aqueue._verbs import Pause
from aqueue.events import (
    Event,
    GroupLimitChanged,
    GroupLimitKnown,
    GroupPaused,
    GroupUnpaused,
    ItemStarted,
    RunPaused,
    RunStopping,
    RunUnpaused,
    RunWorkersChanged,
)
from aqueue.testing import EventRecorder
from tests.engine.clocks import run_by_mock_clock
from tests.engine.commander import Commander
from tests.engine.invariants import check_events, check_result
from tests.engine.jobs import Do, Noop, WithHook
from tests.engine.trees import Plan, expected, items_of, plans


class InGroup(Do):
    """One in a group."""

    def __init__(self, group: str, function: Callable[[EnqueueFn, SetDescFn], Any]) -> None:
        super().__init__(function)
        self.group = group


async def nothing(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Do nothing."""


def kinds(events: list[Event]) -> list[type[Event]]:
    """Return the types of the events but those of the run's begin and end."""
    return [type(event) for event in events[1:-1]]


# ---- any commands at any moment ---------------------------------------------------------------------------------


@given(
    roots=st.lists(plans(), min_size=1, max_size=3),
    seed=st.integers(0, 2**32),
    num_workers=st.integers(1, 5),
    queue=st.sampled_from(["queue", "stack", "priority"]),
    backend=st.sampled_from(["trio", "asyncio"]),
)
def test_any_commands_at_any_moment_change_only_when_things_happen(
    roots: list[Plan], seed: int, num_workers: int, queue: Any, backend: Backend
) -> None:
    """A run comes to what it would have come to, the invariants hold, and each answer is what a plain model says."""
    items, _ = items_of(roots)
    recorder = EventRecorder()
    commander = Commander(Random(seed))
    with commander.steering(commands=6):
        try:
            result = run_queue(
                items,
                num_workers=num_workers,
                queue_type_name=queue,
                on_error="continue",
                reporter=recorder,
                backend=backend,
            )
        except ItemFailures as failures:
            result = failures.result
    check_events(recorder.events)
    check_result(result, recorder.events)
    outcomes = [expected(plan) for plan in roots]
    assert result.counts.completed == sum(one.completed for one in outcomes)
    assert result.counts.failed == sum(one.failed for one in outcomes)
    kinds_of_changes = RunPaused | RunUnpaused | RunWorkersChanged
    assert len(commander.given) == sum(isinstance(event, kinds_of_changes) for event in recorder.events)


# ---- pauses -----------------------------------------------------------------------------------------------------


def test_paused_run_starts_nothing_and_ends_only_once_it_is_unpaused(backend: Backend) -> None:
    """Running items finish; neither the others nor the hook that is due start; the run waits, with idle workers."""
    recorder = EventRecorder()
    is_paused = anyio.Event()

    async def hold(*_: Any) -> None:
        await is_paused.wait()
        for _turn in range(50):
            await anyio.lowlevel.checkpoint()
        while not any(isinstance(event, RunPaused) for event in recorder.events):  # its thread may be behind
            await anyio.sleep(0.01)
        await anyio.sleep(0.1)
        assert sum(isinstance(event, ItemStarted) for event in recorder.events) == 2
        assert steering.unpause().changed
        assert not steering.unpause().changed

    async def pause(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        answer = steering.pause()
        assert (answer.changed, answer.running, answer.is_stopping) == (True, 2, False)
        again = steering.pause()
        assert not again.changed
        assert again.since > 0.0
        assert again.by.endswith(" via Python")
        enqueue(Noop())
        is_paused.set()

    async def hook() -> None:
        pass

    items = [Do(hold), WithHook(pause, hook), *[Noop()] * 5]
    result = run_queue(items, num_workers=2, reporter=recorder, backend=backend)
    check_events(recorder.events)
    check_result(result, recorder.events)
    assert result.status == "completed"
    assert kinds(recorder.events).count(RunPaused) == kinds(recorder.events).count(RunUnpaused) == 1


def test_hook_of_the_last_item_waits_for_the_end_of_the_pause(backend: Backend) -> None:
    """The item that pauses the run is the last below one with a hook: that hook is due, and doesn't start."""
    recorder = EventRecorder()

    async def root(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        enqueue(Do(pause))

    async def pause(*_: Any) -> None:
        steering.pause()

    async def hold(*_: Any) -> None:
        while not any(isinstance(event, RunPaused) for event in recorder.events):
            await anyio.sleep(0.01)
        await anyio.sleep(0.02)
        steering.unpause()

    async def hook() -> None:
        pass

    run_queue([WithHook(root, hook), Do(hold)], num_workers=2, reporter=recorder, backend=backend)
    check_events(recorder.events)
    order = [event for event in recorder.events if isinstance(event, RunPaused | RunUnpaused | ItemStarted)]
    assert [getattr(event, "phase", type(event)) for event in order] == [
        *["process"] * 3,
        RunPaused,
        RunUnpaused,
        "after_children",
    ]


def test_retry_timers_and_the_time_limit_continue_while_a_run_is_paused() -> None:
    """A paused run is stopped by `stop_after_s`, and what waits for a retry is due by then; nothing starts."""

    class Failing(Do):
        retry = Retry(attempts=3, first_s=1.0, jitter=0.0)

    async def fail_and_pause(*_: Any) -> None:
        steering.pause()
        raise ValueError

    result, recorder = run_by_mock_clock([Failing(fail_and_pause), Noop()], num_workers=1, stop_after_s=100.0)
    assert result.status == "interrupted"
    assert result.stop_reason == "stop_after_s=100 has passed"
    assert result.counts.retried == 1
    assert sum(isinstance(event, ItemStarted) for event in recorder.events) == 1


def test_group_that_is_paused_starts_no_process_while_hooks_and_others_continue(backend: Backend) -> None:
    """Only `process` of that group waits; the pause is independent of `slow_down`, and of the pause of the run."""
    recorder = EventRecorder()
    started: list[str] = []

    def note(name: str) -> Callable[..., Any]:
        async def process(*_: Any) -> None:
            started.append(name)

        return process

    async def first(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        assert steering.pause(group="a").changed
        assert not steering.pause(group="a").changed
        assert steering.unpause(group="b").changed is False
        enqueue(InGroup("a", note("a")))
        enqueue(InGroup("b", note("b")))
        enqueue(Do(last))

    async def last(*_: Any) -> None:
        while "b" not in started:
            await anyio.sleep(0.001)
        assert started == ["b"]
        assert steering.unpause(group="a").changed

    run_queue([Do(first)], num_workers=2, reporter=recorder, backend=backend)
    check_events(recorder.events)
    assert started == ["b", "a"]
    assert [kind for kind in kinds(recorder.events) if kind in (GroupPaused, GroupUnpaused)] == [
        GroupPaused,
        GroupUnpaused,
    ]


def test_pause_while_the_run_stops_is_recorded_and_lets_it_end(backend: Backend) -> None:
    """Nothing would start anyway; not even the hook of the last item starts between the pause and its end."""
    recorder = EventRecorder()

    async def root(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        steering.stop()
        answer = steering.pause()
        assert answer.changed
        assert answer.is_stopping

    async def hook() -> None:
        raise AssertionError("a hook started in a paused run")

    result = run_queue([WithHook(root, hook), Noop()], num_workers=1, reporter=recorder, backend=backend)
    check_events(recorder.events)
    assert result.status == "interrupted"
    assert not any(isinstance(event, ItemStarted) and event.phase == "after_children" for event in recorder.events)


# ---- workers ----------------------------------------------------------------------------------------------------


def test_more_workers_start_at_once_and_the_highest_retire_after_their_item(backend: Backend) -> None:
    """From one to four while an item runs, then to two: workers 3 and 4 finish what they run, and take nothing more."""
    recorder = EventRecorder()
    running: list[int] = []
    all_run, change = anyio.Event(), anyio.Event()

    async def first(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        answer = steering.workers(None, 4)
        assert (answer.changed, answer.num_workers) == (True, 1)
        assert not steering.workers(None, 4).changed
        await all_run.wait()
        assert steering.workers(None, 2).num_workers == 4
        change.set()

    async def work(*_: Any) -> None:
        running.append(1)
        if len(running) == 3:
            all_run.set()
        await change.wait()

    run_queue([Do(first), *[Do(work) for _ in range(8)]], num_workers=1, reporter=recorder, backend=backend)
    check_events(recorder.events)  # no item starts with a worker that there is not
    starts = [event.worker for event in recorder.events if isinstance(event, ItemStarted)]
    assert sorted(starts[:4]) == [1, 2, 3, 4]
    assert set(starts[4:]) <= {1, 2}


def test_retiring_worker_that_is_wanted_again_stays(backend: Backend) -> None:
    """Fewer and more workers again, while all run an item: no worker is doubled and none is missing."""
    recorder = EventRecorder()

    async def change(*_: Any) -> None:
        for number in (1, 3, 2, 3):
            assert steering.workers(None, number).changed
        await anyio.sleep(0.01)

    async def wait(*_: Any) -> None:
        await anyio.sleep(0.005)

    run_queue([Do(wait), Do(wait), Do(change), *[Do(wait)] * 9], num_workers=3, reporter=recorder, backend=backend)
    check_events(recorder.events)
    assert {event.worker for event in recorder.events[-30:] if isinstance(event, ItemStarted)} == {1, 2, 3}


OUTSIDE: ContextVar[str] = ContextVar("outside", default="unset")


@pytest.mark.parametrize("by", ["item", "another thread"])
def test_worker_that_is_added_sees_what_the_others_see(backend: Backend, by: str) -> None:
    """Its items have the context variables of the program, and none that the item has set that asked for the worker."""
    seen: list[str] = []
    both = anyio.Event()

    async def note(*_: Any) -> None:
        seen.append(OUTSIDE.get())
        if len(seen) == 2:
            both.set()
        await both.wait()

    async def ask(*_: Any) -> None:
        OUTSIDE.set("item")
        if by == "item":
            steering.workers(None, 3)
        else:
            await anyio.to_thread.run_sync(lambda: anyio.from_thread.run_sync(steering.workers, None, 3))
        await both.wait()

    OUTSIDE.set("program")
    run_queue([Do(ask), Do(note), Do(note)], num_workers=1, reporter="none", backend=backend)
    assert seen == ["program", "program"]


@pytest.mark.parametrize("number", [0, -1, 1_000_001, 2.5, True, "4", None])
def test_number_of_workers_is_checked_before_anything_is_asked(number: Any) -> None:
    """A number that is not allowed never reaches a run."""
    with pytest.raises(
        ValueError, match=r"^workers\(number=…\) is .*; it must be a whole number, from 1 to 1,000,000$"
    ):
        steering.workers("nowhere.db", number)


def test_idle_workers_are_not_counted_as_running(backend: Backend) -> None:
    """A pause and a stop wake workers that sleep, which doesn't make their items running ones."""

    async def steer(*_: Any) -> None:
        for _turn in range(50):
            await anyio.lowlevel.checkpoint()
        assert steering.pause().running == 1
        assert steering.unpause().changed
        for _turn in range(50):
            await anyio.lowlevel.checkpoint()
        assert steering.stop().running == 1

    assert run_queue([Do(steer)], num_workers=4, backend=backend, reporter=EventRecorder()).counts.completed == 1


# ---- limits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [None, {"a": Limit(concurrent=5)}, {"*": Limit(per_second=1000.0)}])
def test_new_limit_holds_from_the_next_start_and_counts_what_runs(backend: Backend, limits: Any) -> None:
    """Three of a group run when the limit becomes one, whether or not they were counted before: the next starts after all three."""
    recorder = EventRecorder()
    running, most = [0], [0]
    three, go = anyio.Event(), anyio.Event()

    async def work(*_: Any) -> None:
        running[0] += 1
        if running[0] == 3:
            three.set()
        if go.is_set():
            most[0] = max(most[0], running[0])
        await go.wait()
        await anyio.sleep(0.001)
        running[0] -= 1

    async def change(*_: Any) -> None:
        await three.wait()
        answer = steering.limit(None, "a", Limit(concurrent=1))
        assert answer.changed
        assert answer.running == 3
        assert answer.is_known
        assert not steering.limit(None, "a", Limit(concurrent=1)).changed
        go.set()

    items = [Do(change), *[InGroup("a", work) for _ in range(8)]]
    run_queue(items, num_workers=4, limits=limits, reporter=recorder, backend=backend)
    check_events(recorder.events)
    assert most[0] == 1


def test_new_limit_counts_an_item_whose_start_is_being_saved(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """After crashes a worker waits for the commit of a start before it runs the item, which is taken by then."""
    running = most = 0

    async def save_start(suspects: Suspects) -> None:
        steering.limit(None, "a", Limit(concurrent=1))
        await anyio.lowlevel.checkpoint()

    async def count(*_: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(0.001)
        running -= 1

    monkeypatch.setattr(Suspects, "save_start", save_start)
    monkeypatch.setattr(Suspects, "is_cautious", property(lambda _: True, lambda *_: None), raising=False)
    result = run_queue([InGroup("a", count) for _ in range(6)], num_workers=3, reporter="none", backend=backend)
    assert result.counts.completed == 6
    assert most == 1


def test_new_limit_counts_running_items_of_a_group_in_which_nothing_waits(backend: Backend) -> None:
    """Such a group is forgotten as long as it has no limit, since there may be very many."""
    running, most = 0, []

    async def count(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        nonlocal running
        running += 1
        most.append(running)
        await anyio.sleep(0.01)
        running -= 1

    async def limit(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        assert steering.limit(None, "a", Limit(concurrent=1)).running == 1
        enqueue(InGroup("a", count))
        enqueue(InGroup("a", count))
        await count(enqueue, set_desc)

    run_queue([InGroup("a", limit)], num_workers=3, reporter="none", backend=backend)
    assert most == [1, 1, 1]


def test_limit_that_a_person_takes_away_and_gives_back_to_the_program(backend: Backend) -> None:
    """``none`` lets all run at once, ``default`` brings back the program's own; each says what held before."""
    recorder = EventRecorder()
    running = [0]
    seen: list[tuple[str, int]] = []
    phase = ["default"]

    async def work(*_: Any) -> None:
        running[0] += 1
        seen.append((phase[0], running[0]))
        await anyio.sleep(0.01)
        running[0] -= 1

    async def change(*_: Any) -> None:
        answer = steering.limit(None, "a", "none")
        assert (answer.changed, answer.concurrent, answer.per_second) == (True, 1, None)
        phase[0] = "none"
        while running[0] < 3:
            await anyio.sleep(0.001)
        answer = steering.limit(None, "a", "default")
        assert (answer.changed, answer.concurrent) == (True, None)
        assert not steering.limit(None, "a", "default").changed
        assert not steering.limit(None, "a", Limit(concurrent=1)).changed  # it is so by the program
        while running[0]:
            await anyio.sleep(0.001)
        phase[0] = "default"

    items = [InGroup("a", work), Do(change), *[InGroup("a", work) for _ in range(12)]]
    run_queue(items, num_workers=4, limits={"a": Limit(concurrent=1)}, reporter=recorder, backend=backend)
    check_events(recorder.events)
    assert max(count for when, count in seen if when == "default") == 1
    assert max(count for when, count in seen if when == "none") >= 3
    changes = [event for event in recorder.events if isinstance(event, GroupLimitChanged)]
    assert [event.is_default for event in changes] == [False, True]
    known = [event for event in recorder.events if isinstance(event, GroupLimitKnown)]
    assert [event.concurrent for event in known] == [1, 1], "readers learn again what limits the group"
    assert all(event.program is not None and event.program.concurrent == 1 for event in changes)


def test_command_on_a_group_that_no_item_has_says_so_and_names_the_groups(backend: Backend) -> None:
    """A misspelt group fails open: the answer names the groups in which the most items wait."""
    answers = []

    async def ask(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for group in ("shop", "shop", "cdn"):
            enqueue(InGroup(group, nothing))
        answers.append(steering.limit(None, "shp", Limit(per_second=5.0)))
        answers.append(steering.pause(group="shop"))
        steering.unpause(group="shop")

    run_queue([Do(ask)], num_workers=1, reporter="none", backend=backend)
    assert (answers[0].is_known, answers[0].groups) == (False, {"shop": 2, "cdn": 1})
    assert (answers[1].is_known, answers[1].groups) == (True, {})


def test_group_of_which_an_item_only_runs_is_known(backend: Backend) -> None:
    """Also if many other groups were seen before it, and nothing waits in it."""

    async def ask(*_: Any) -> None:
        assert steering.pause(group="last").is_known
        assert steering.unpause(group="last").is_known

    items = [*[InGroup(f"group {number}", nothing) for number in range(10)], InGroup("last", ask)]
    assert run_queue(items, num_workers=1, reporter="none", backend=backend).status == "completed"


def test_limits_function_that_raises_for_the_named_group_is_no_end_of_the_run(
    backend: Backend, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is warned of, the person's limit holds, and so does the program's before, when theirs is taken back."""

    def limits(group: str) -> Limit:
        raise RuntimeError("no network")

    async def ask(*_: Any) -> None:
        assert steering.limit(None, "a\x1b[2J", Limit(concurrent=1)).changed
        assert steering.limit(None, "a\x1b[2J", "default").changed

    assert run_queue([Do(ask)], limits=limits, reporter="none", backend=backend).status == "completed"
    err = capfd.readouterr().err
    assert "limits raised RuntimeError('no network') for the group 'a\\x1b[2J', which a command has named" in err
    assert "\x1b" not in err


@pytest.mark.parametrize("new", [None, "all", 5, {"per_second": 2}])
def test_new_limit_is_checked(new: Any) -> None:
    """What is no limit never reaches a run."""
    with pytest.raises(ValueError, match=r"^limit\(new=…\) is .*; it must be an aqueue.Limit, 'none' or 'default'$"):
        steering.limit("nowhere.db", "a", new)


# ---- stops ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("now", [False, True])
def test_stop_by_a_person_returns_an_interrupted_result(backend: Backend, now: bool) -> None:
    """As `aqueue.stop` does: no exception, and the reason names who. With `now` the running items are cancelled."""
    recorder = EventRecorder()
    finished = []

    async def slow(*_: Any) -> None:
        await anyio.sleep(0.05)
        finished.append(1)

    async def stop(*_: Any) -> None:
        answer = steering.stop(now=now)
        assert answer.changed
        assert answer.is_stopping
        assert answer.running == 2
        assert not steering.stop(now=now).changed

    result = run_queue([Do(slow), Do(stop), Noop()], num_workers=2, reporter=recorder, backend=backend)
    check_events(recorder.events)
    assert result.status == "interrupted"
    assert finished == ([] if now else [1])
    event = next(event for event in recorder.events if isinstance(event, RunStopping))
    assert event.by.endswith(" via Python")
    assert result.stop_reason == event.reason == f"stopped by {event.by.removesuffix(' via Python')}"
    assert event.cancelling is now


# ---- where they can be called -----------------------------------------------------------------------------------


def test_commands_without_a_journal_work_only_in_an_item(backend: Backend) -> None:
    """Outside an item, and in a thread that it started, the error says what to do instead."""
    with pytest.raises(MisplacedCall, match=r'needs the path of the run\'s journal, as in steering.pause\("run.db"\)'):
        steering.pause()
    kept: list[Any] = []

    async def in_a_thread(*_: Any) -> None:
        with pytest.raises(MisplacedCall, match=r"from another thread; use anyio.from_thread.run_sync there"):
            await anyio.to_thread.run_sync(steering.pause)
        assert (await anyio.to_thread.run_sync(lambda: anyio.from_thread.run_sync(steering.unpause))).changed is False
        kept.append(steering)

    run_queue([Do(in_a_thread)], reporter="none", backend=backend)
    assert kept


def test_ended_run_takes_no_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that comes just after the end is refused by the engine, so that the caller asks the journal."""
    engines = []

    begin = Engine.add_initial

    async def keep(engine: Engine, *arguments: Any) -> None:
        engines.append(engine)
        await begin(engine, *arguments)

    monkeypatch.setattr(Engine, "add_initial", keep)
    run_queue([Noop()], reporter="none")
    with pytest.raises(SteeringError, match="the run has ended"):
        engines[0].steering.apply(Pause(by="anna"))
