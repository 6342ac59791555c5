"""What an item's code leaves behind in its worker's task: an open cancel scope, or a cancellation that comes later.

`_system.loop` sees what a task has open, and closes it; another task then goes on for the `_engine.worker`. Also, calls from
other threads.
"""

import asyncio
import gc
import inspect
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
import trio

import aqueue
from aqueue import (
    Backend,
    EnqueueFn,
    Item,
    ItemFailures,
    LeakedCancelScope,
    Retry,
    SetDescFn,
    StrayCancellation,
    run_queue,
)
from aqueue._system.loop import TaskWatch, call_soon_in_this_loop
from aqueue.events import ItemCompleted, ItemEnqueued, ItemFailed, ItemInterrupted, RunStopping
from aqueue.testing import EventRecorder
from tests.engine.invariants import check_events, check_result
from tests.engine.jobs import Do, Noop, WithHook
from tests.engine.trees import items_of, random_plan

# An item whose generator is closed too late, as Python then says of its own.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored"),
]

LONG_S = 3_600.0


def run(*items: Any, **arguments: Any) -> tuple[list[Exception], EventRecorder]:
    """Run `items` with all the others going on after a failure; return what failed."""
    recorder = EventRecorder()
    failed: list[Exception] = []
    try:
        result = run_queue(items, reporter=recorder, on_error="continue", **arguments)
    except ItemFailures as failures:
        result = failures.result
        failed = list(failures.exceptions)
    check_events(recorder.events)
    check_result(result, recorder.events)
    assert recorder.of(ItemInterrupted) == []
    assert recorder.of(RunStopping) == []
    assert result.counts.outstanding == 0
    return failed, recorder


async def values(deadline_s: float) -> AsyncIterator[int]:
    """Yield inside a timeout, as must not be done without closing the generator."""
    with anyio.move_on_after(deadline_s):
        for number in range(100):
            yield number
            await anyio.sleep(0)


_kept: list[Any] = []
"""Generators that are kept, so that nobody closes them."""


async def drop(deadline_s: float) -> None:
    """Let the generator be closed when Python comes to it, in another task."""
    async for _ in values(deadline_s):
        break


async def keep(deadline_s: float) -> None:
    """Let the generator never be closed."""
    generator = values(deadline_s)
    _kept.append(generator)
    async for _ in generator:
        break


async def enter(deadline_s: float) -> None:
    """Leave a scope open without a single await."""
    scope = anyio.move_on_after(deadline_s)
    _kept.append(scope)
    scope.__enter__()


async def enter_several(deadline_s: float) -> None:
    """Leave several open."""
    for _ in range(3):
        await enter(deadline_s)


async def enter_cancelled(deadline_s: float) -> None:
    """Leave one open that is cancelled already."""
    scope = anyio.CancelScope()
    _kept.append(scope)
    scope.__enter__()
    scope.cancel()


_LEAKS: dict[str, Callable[[float], Awaitable[None]]] = {
    "dropped-generator": drop,
    "kept-generator": keep,
    "scope": enter,
    "scopes": enter_several,
    "cancelled-scope": enter_cancelled,
}


class Leak(Item):
    """Leaves a scope open, and may raise after that."""

    def __init__(self, leak: str, deadline_s: float = 0.01, error: Exception | None = None) -> None:
        self.leak = leak
        self.deadline_s = deadline_s
        self.error = error

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        await _LEAKS[self.leak](self.deadline_s)
        if self.error is not None:
            raise self.error
        return "done"


class Patient(Leak):
    """The same, with a timeout around it."""

    timeout_s = LONG_S


class Persistent(Leak):
    """The same, tried again."""

    retry = Retry(first_s=0.0, attempts=3)


class Other(Item):
    """Runs until every deadline of those above has passed, and is to be left alone."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await anyio.sleep(0.01)


@pytest.mark.parametrize("num_workers", [1, 3])
@pytest.mark.parametrize("leak", _LEAKS)
def test_an_open_cancel_scope_fails_its_item_alone(backend: Backend, leak: str, num_workers: int) -> None:
    """The item is named, and what its worker runs later isn't cancelled when the scope's deadline comes."""
    failed, recorder = run(Leak(leak), *(Other() for _ in range(9)), num_workers=num_workers, backend=backend)
    [error] = failed
    assert type(error) is LeakedCancelScope
    assert "item 1 (tests.system.test_loop:Leak) left a cancel scope open" in str(error)
    assert [event.item for event in recorder.of(ItemFailed)] == [1]
    assert len(recorder.of(ItemCompleted)) == 9


@pytest.mark.parametrize("leak", _LEAKS)
def test_an_open_cancel_scope_inside_a_timeout(backend: Backend, leak: str) -> None:
    """The scope of `timeout_s` can be left all the same, and the error is the same."""
    failed, recorder = run(Patient(leak), Other(), Other(), num_workers=1, backend=backend)
    assert [type(error) for error in failed] == [LeakedCancelScope]
    assert len(recorder.of(ItemCompleted)) == 2


@pytest.mark.parametrize("cls", [Leak, Patient])
@pytest.mark.parametrize("leak", _LEAKS)
def test_an_item_that_raises_fails_by_its_own_error(backend: Backend, leak: str, cls: type[Leak]) -> None:
    """An exception that leaves a loop over a generator also leaves its scope open: that is closed without a word."""
    error = ValueError("no")
    failed, recorder = run(cls(leak, error=error), Other(), Other(), num_workers=1, backend=backend)
    assert failed == [error]
    assert len(recorder.of(ItemCompleted)) == 2


def test_an_open_cancel_scope_is_not_tried_again(backend: Backend) -> None:
    """It is a mistake in the code; an ordinary error of the same class is tried again as ever, in a sound task."""
    failed, recorder = run(Persistent("scope"), Persistent("scope", error=ValueError("no")), Other(), backend=backend)
    assert sorted(type(error).__name__ for error in failed) == ["LeakedCancelScope", "ValueError"]
    assert {event.type: event.attempt for event in recorder.of(ItemFailed) if event.error.type == "ValueError"} == {
        "tests.system.test_loop:Persistent": 3
    }


def test_a_nursery_that_is_left_open_is_cancelled(backend: Backend) -> None:
    """What runs in it ends, and neither the worker's task nor the run ends by it."""
    ended = []

    async def sleep() -> None:
        try:
            await anyio.sleep(LONG_S)
        finally:
            ended.append(True)

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        tasks = anyio.create_task_group() if backend == "asyncio" else trio.open_nursery()
        _kept.append(tasks)
        (await tasks.__aenter__()).start_soon(sleep)
        await anyio.sleep(0.001)

    failed, recorder = run(Do(process), *(Other() for _ in range(5)), num_workers=1, backend=backend)
    assert [type(error) for error in failed] == [LeakedCancelScope]
    assert len(recorder.of(ItemCompleted)) == 5
    assert ended == [True]


async def _says_goodbye() -> None:
    try:
        await anyio.sleep(LONG_S)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.01)
    pytest.fail("a task that is cancelled went on")


async def _connected() -> AsyncIterator[int]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_says_goodbye)
        await anyio.sleep(0.001)
        yield 1


class Connects(Item):
    """Leaves a loop over a generator with a task group, in which a task needs a moment to end."""

    def __init__(self, keeps: bool) -> None:
        self.keeps = keeps

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        generator = _connected()
        if self.keeps:
            _kept.append(generator)
        async for _ in generator:
            del generator
            break


class ConnectsInTime(Connects):
    """The same, within a timeout."""

    timeout_s = LONG_S


class ConnectsAfterwards(Connects):
    """The same, in a hook."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        pass

    async def after_children_processed(self) -> None:
        await Connects.process(self, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("num_workers", [1, 4])
@pytest.mark.parametrize("keeps", [False, True], ids=["dropped", "kept"])
@pytest.mark.parametrize("cls", [Connects, ConnectsInTime, ConnectsAfterwards])
def test_what_runs_in_a_nursery_that_is_left_open_may_take_time_to_end(
    backend: Backend, cls: type[Connects], keeps: bool, num_workers: int
) -> None:
    """Its end wakes nobody whom it doesn't concern, though Python closes the generator at the same time."""
    items = [cls(keeps), *(Other() for _ in range(9))]
    failed, recorder = run(*items, num_workers=num_workers, backend=backend)
    assert [type(error) for error in failed] == [LeakedCancelScope]
    assert len({event.item for event in recorder.of(ItemCompleted)} - {1}) == 9


def test_an_open_cancel_scope_of_a_hook(backend: Backend) -> None:
    """A hook is an item's code, too; one above it that is run after failures as well runs in a sound task."""

    class Above(Item):
        after_children_rule = "all_done"

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            enqueue(WithHook(nothing, lambda: enter(0.0)))

        async def after_children_processed(self) -> str:
            await anyio.sleep(0.01)
            return "ran"

    async def nothing(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        pass

    recorder = EventRecorder()
    with pytest.raises(ItemFailures) as caught:
        run_queue([Above(), Other()], num_workers=1, reporter=recorder, on_error="continue", backend=backend)
    check_events(recorder.events)
    [error] = caught.value.exceptions
    assert type(error) is LeakedCancelScope
    assert "ran" in caught.value.result.root_results
    assert caught.value.result.counts.failed == 1


def test_a_scope_that_is_left_open_when_the_run_is_stopped(backend: Backend) -> None:
    """The item is interrupted as any other: its scope is neither taken for the run's nor in its way."""

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await enter(LONG_S)
        aqueue.stop("enough")
        await anyio.sleep(LONG_S)

    recorder = EventRecorder()
    result = run_queue([Do(process), Other()], reporter=recorder, grace_s=0.0, backend=backend)
    check_events(recorder.events)
    assert result.status == "interrupted"
    assert len(recorder.of(ItemInterrupted)) == 1


def test_the_loops_still_show_what_a_task_has_open(backend: Backend) -> None:
    """The private attributes that this goes by are there; each scope is seen, and closed, with all inside of it."""

    async def look() -> None:
        watch = TaskWatch()
        assert watch.innermost is watch.outermost
        outside = watch.outermost
        own, first, second = anyio.CancelScope(), anyio.CancelScope(), anyio.CancelScope()
        watch.enter(own)
        assert watch.innermost is watch.outermost is not outside
        assert not await watch.close()
        first.__enter__()
        assert watch.innermost is not watch.outermost
        second.__enter__()
        assert await watch.close()
        assert watch.innermost is watch.outermost is not outside
        assert first.cancel_called
        assert second.cancel_called
        assert not own.cancel_called
        watch.leave()
        assert watch.innermost is watch.outermost is outside
        watch.leave()
        assert watch.innermost is outside
        await anyio.sleep(0)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)

    anyio.run(main, backend=backend)


# ---- asyncio: cancelled by others --------------------------------------------------------------------------------


def _cancel_later(delay_s: float | None) -> Do:
    """Return an item that leaves a deadline behind, which is not taken back."""

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        task = asyncio.current_task()
        assert task is not None
        if delay_s is None:
            asyncio.get_running_loop().call_soon(task.cancel)
        else:
            asyncio.get_running_loop().call_later(delay_s, task.cancel)

    return Do(process)


def test_a_cancellation_of_a_worker_that_waits(capfd: pytest.CaptureFixture[str]) -> None:
    """It ends nothing: a new task goes on for that worker, and a warning names the item that the worker ran last."""

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await anyio.sleep(0.05)
        for _ in range(3):  # the workers are still three, and each can be woken
            enqueue(Do(meet))

    together = 0
    met: asyncio.Event | None = None

    async def meet(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        nonlocal together, met
        met = met or asyncio.Event()
        together += 1
        if together == 3:
            met.set()
        await asyncio.wait_for(met.wait(), 60)

    failed, recorder = run(Do(process), _cancel_later(0.01), num_workers=3, backend="asyncio")
    assert failed == []
    assert len(recorder.of(ItemCompleted)) == 5
    said = capfd.readouterr().err
    assert said.count("was cancelled between two items, but not by aqueue") == 1
    assert "(its last item: item 2 (tests.engine.jobs:Do))" in said


@pytest.mark.parametrize("num_workers", [1, 4])
def test_a_cancellation_that_hits_another_item_fails_that_one(num_workers: int) -> None:
    """No more than one item fails, and nothing is interrupted."""
    failed, recorder = run(
        _cancel_later(0.01), *(Other() for _ in range(20)), num_workers=num_workers, backend="asyncio"
    )
    assert [type(error) for error in failed] in ([StrayCancellation], [])
    assert len(recorder.of(ItemFailed)) + len(recorder.of(ItemCompleted)) == 21


def test_an_item_that_is_cancelled_as_it_returns_fails_itself() -> None:
    """What comes at the next await would hit the next item: so this one is a stray cancellation, and no other."""

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    failed, recorder = run(Do(process), *(Other() for _ in range(5)), num_workers=1, backend="asyncio")
    assert [type(error) for error in failed] == [StrayCancellation]
    assert [event.item for event in recorder.of(ItemFailed)] == [1]


@pytest.mark.parametrize("timeout_s", [None, LONG_S])
def test_an_item_that_is_cancelled_as_it_returns_is_retried_as_any_other(timeout_s: float | None) -> None:
    """It has so many attempts and no more, and the next attempt knows the children of the one before."""

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        enqueue(Noop())
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    retry = Retry(first_s=0.0, attempts=3)
    failed, recorder = run(Do(process), retry=retry, timeout_s=timeout_s, backend="asyncio")
    assert [type(error) for error in failed] == [StrayCancellation]
    assert [event.attempt for event in recorder.of(ItemFailed)] == [3]
    assert [event.item for event in recorder.of(ItemEnqueued)] == [1, 2]


def test_a_task_that_was_cancelled_runs_no_other_item() -> None:
    """Asyncio counts cancellations, and a TaskGroup goes by that: a group's error must not become a cancellation."""

    async def fail() -> None:
        raise ValueError("no")

    async def grouped(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            await asyncio.sleep(LONG_S)

    async def cancelled(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(LONG_S)

    failed, _ = run(Do(cancelled), Do(grouped), num_workers=1, backend="asyncio")
    assert [type(error) for error in failed] == [StrayCancellation, ExceptionGroup]


@pytest.mark.parametrize("seed", range(40))
def test_workers_may_be_cancelled_at_any_time(seed: int) -> None:
    """A stranger cancels workers at random: each item ends, well or as a stray cancellation, and the run comes to its end."""
    random = Random(seed)
    items, _ = items_of([random_plan(random, 12) for _ in range(5)])
    events = EventRecorder()

    async def harass() -> None:
        while True:
            for _ in range(random.randrange(4)):
                await asyncio.sleep(0)
            workers = [
                task
                for task in asyncio.all_tasks()
                if task.get_name().startswith("aqueue worker")
                # Before that no item can have got hold of it, and no code of aqueue's can take the cancellation.
                and inspect.getcoroutinestate(task.get_coro()) != inspect.CORO_CREATED  # type: ignore[arg-type]
            ]
            if workers:
                random.choice(workers).cancel()

    async def main() -> aqueue.RunResult:
        harasser = asyncio.get_running_loop().create_task(harass())
        try:
            return await aqueue.async_run_queue(
                items, num_workers=random.randint(1, 4), reporter=events, on_error="continue"
            )
        finally:
            harasser.cancel()

    try:
        result = anyio.run(main, backend="asyncio")
    except ItemFailures as failures:
        result = failures.result
    check_events(events.events)
    check_result(result, events.events)
    assert result.counts.outstanding == 0
    assert events.of(ItemInterrupted) == []
    assert len(events.of(ItemEnqueued)) == result.counts.enqueued


def test_generators_that_python_closes_later_end_nothing(tmp_path: Path, backend: Backend) -> None:
    """In a process of its own: what Python says of generators that were left open is all that happens at its end."""
    program = tmp_path / "program.py"
    program.write_text(
        f"""
from tests.system.test_loop import Leak, Other
from aqueue import ItemFailures, run_queue

try:
    run_queue([Leak("dropped-generator"), Leak("kept-generator"), Other()], on_error="continue", backend={backend!r})
except ItemFailures as failures:
    print(failures.result.counts.failed, failures.result.counts.completed)
"""
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", program],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "2 1\n"), done.stderr


@pytest.fixture(autouse=True)
def _forget_what_was_kept() -> Any:
    yield
    with suppress(Exception):
        _kept.clear()
        gc.collect()


# ---- calls from other threads -----------------------------------------------------------------------------------------


def test_what_another_thread_has_called_may_start_tasks(backend: Backend) -> None:
    """As the timers do, for example when an item that was read back from the journal has to wait for its group's rate."""
    started: list[str] = []

    async def main() -> None:
        call_soon, ended = call_soon_in_this_loop(), anyio.Event()

        async def note() -> None:
            started.append("task")
            ended.set()

        async with anyio.create_task_group() as tasks:
            threading.Thread(target=call_soon, args=(lambda: tasks.start_soon(note),)).start()
            with anyio.fail_after(10):
                await ended.wait()

    anyio.run(main, backend=backend)
    assert started == ["task"]
