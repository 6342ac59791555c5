"""async_run_queue in the caller's own loop: cancelled, nested, beside others, and its lifespan.

Both entry points are in `_run.api`.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint

import aqueue
from aqueue import Backend, EnqueueFn, Item, ItemFailures, RunResult, SetDescFn, async_run_queue, run_queue
from aqueue.events import Event, ItemInterrupted, RunFinished
from aqueue.testing import EventRecorder
from aqueue.view import RunView
from tests.engine.invariants import check_events, check_result
from tests.engine.jobs import Do, Noop
from tests.engine.trees import items_of, random_plan


async def _sleep(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    await anyio.sleep_forever()


def test_it_returns_the_result(backend: Backend) -> None:
    """It takes the same parameters as run_queue, but for backend, and returns the same."""
    recorder = EventRecorder()

    async def main() -> RunResult:
        return await async_run_queue(
            [Noop(), Noop()],
            num_workers=2,
            queue_type_name="stack",
            graceful_ctrl_c=False,
            reporter=recorder,
            on_error="continue",
        )

    result = anyio.run(main, backend=backend)
    assert (result.status, result.counts.completed) == ("completed", 2)
    check_events(recorder.events)
    check_result(result, recorder.events)


def test_it_raises_what_run_queue_raises(backend: Backend) -> None:
    """ItemFailures come out of it, and the caller's loop goes on."""

    async def fail(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        raise ValueError

    async def main() -> None:
        with pytest.raises(ItemFailures):
            await async_run_queue([Do(fail)], reporter="none")
        assert (await async_run_queue([Noop()], reporter="none")).status == "completed"

    anyio.run(main, backend=backend)


def test_it_works_in_plain_asyncio() -> None:
    """The caller need not know AnyIO."""

    async def main() -> RunResult:
        return await asyncio.wait_for(async_run_queue([Noop()], reporter="none"), 60)

    assert asyncio.run(main()).status == "completed"


# ---- cancelled by the caller -------------------------------------------------------------------------------------


class Waits(EventRecorder):
    """A recorder that calls a function in its thread once so many items have started."""

    def __init__(self, started: int, then: Callable[[], object]) -> None:
        super().__init__()
        self.left = started
        self.then = then

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        super().handle(events, view)
        for event in events:
            if event.event == "item.started":
                self.left -= 1
                if self.left == 0:
                    self.then()


def _check_interrupted(recorder: EventRecorder, running: int) -> None:
    check_events(recorder.events)
    assert recorder.calls[-1] == "close"
    assert recorder.result is not None
    assert recorder.result.status == "interrupted"
    assert len(recorder.of(ItemInterrupted)) == running
    assert recorder.of(RunFinished)[0].status == "interrupted"


@pytest.mark.parametrize("deadline", [False, True])
def test_cancelling_the_caller_s_scope(backend: Backend, deadline: bool) -> None:
    """The running items are interrupted, everything is flushed, and the scope catches its cancellation."""
    recorder = EventRecorder()

    async def main() -> tuple[bool, bool]:
        went_on = False
        started = 0
        with anyio.CancelScope() as scope:

            async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
                nonlocal started
                started += 1
                if started == 3:
                    if deadline:
                        scope.deadline = anyio.current_time()
                    else:
                        scope.cancel()
                await anyio.sleep_forever()

            await async_run_queue([Do(process) for _ in range(10)], num_workers=3, reporter=recorder)
            went_on = True
        return scope.cancelled_caught, went_on

    assert anyio.run(main, backend=backend) == (True, False)
    _check_interrupted(recorder, 3)


def test_a_timeout_of_the_caller_is_not_swallowed(backend: Backend) -> None:
    """fail_after raises its TimeoutError, although the run had cleaning up to do."""
    recorder = EventRecorder()
    running = 0

    async def main() -> None:
        async def sleep(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            nonlocal running
            running += 1
            if running == 3:  # the time is over once all of them run
                scope.deadline = anyio.current_time()
            await anyio.sleep_forever()

        with anyio.fail_after(60) as scope:
            await async_run_queue([Do(sleep) for _ in range(3)], reporter=recorder)

    with pytest.raises(TimeoutError):
        anyio.run(main, backend=backend)
    _check_interrupted(recorder, 3)


@pytest.mark.parametrize("cancels", [1, 2, 5])
def test_cancelling_an_asyncio_task(cancels: int) -> None:
    """Task.cancel interrupts, flushes and comes out as CancelledError, also if it comes again while closing."""

    async def main() -> EventRecorder:
        loop = asyncio.get_running_loop()

        class Cancels(Waits):
            def close(self, result: RunResult) -> None:
                if cancels > 1:
                    loop.call_soon_threadsafe(task.cancel)
                    asyncio.run_coroutine_threadsafe(_turns(5), loop).result(60)
                super().close(result)

        def cancel() -> None:
            for _ in range(max(cancels - 1, 1)):
                loop.call_soon_threadsafe(task.cancel)

        recorder = Cancels(3, cancel)
        items = [Do(_sleep) for _ in range(5)]
        task = asyncio.create_task(async_run_queue(items, num_workers=3, reporter=recorder))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        return recorder

    _check_interrupted(asyncio.run(main()), 3)


async def _turns(number: int) -> None:
    for _ in range(number):
        await checkpoint()


def test_cancelling_while_reporters_are_opened() -> None:
    """Task.cancel while a reporter opens: nothing runs, reporters are closed, and it comes out."""

    async def main() -> EventRecorder:
        loop = asyncio.get_running_loop()

        class Cancels(EventRecorder):
            def open(self, run: aqueue.RunInfo) -> None:
                super().open(run)
                loop.call_soon_threadsafe(task.cancel)
                asyncio.run_coroutine_threadsafe(_turns(5), loop).result(60)

        async def untouched(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            pytest.fail("an item was run")

        recorder = Cancels()
        task = asyncio.create_task(async_run_queue([Do(untouched)], reporter=recorder))
        with pytest.raises(asyncio.CancelledError):
            await task
        return recorder

    _check_interrupted(asyncio.run(main()), 0)


def test_cancelling_when_all_is_done_but_the_closing(backend: Backend) -> None:
    """A cancellation that comes while reporters are closed does not cut that short."""
    recorder = EventRecorder()

    async def main() -> bool:
        with anyio.CancelScope() as scope:

            @asynccontextmanager
            async def lifespan() -> AsyncIterator[None]:
                yield
                scope.cancel()

            await async_run_queue([Noop()], reporter=recorder, lifespan=lifespan)
            await checkpoint()
        return scope.cancelled_caught

    assert anyio.run(main, backend=backend)
    assert recorder.calls[-1] == "close"
    assert recorder.result is not None
    assert recorder.result.status == "completed"


@pytest.mark.parametrize("seed", range(30))
def test_cancelled_at_any_moment(backend: Backend, seed: int) -> None:
    """Whenever the caller cancels, the events keep their invariants and the run raises or returns, never hangs."""
    recorder = EventRecorder()
    chance = random.Random(seed)
    items, _ = items_of([random_plan(chance, 30)])

    async def main() -> bool:
        async def cancel() -> None:
            await _turns(chance.randint(0, 40))
            tasks.cancel_scope.cancel()

        returned = False
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel)
            with suppress(ItemFailures):
                await async_run_queue(items, num_workers=chance.randint(1, 5), reporter=recorder, on_error="continue")
            returned = True
            tasks.cancel_scope.cancel()
        return returned

    returned = anyio.run(main, backend=backend)
    check_events(recorder.events)
    assert recorder.result is not None
    check_result(recorder.result, recorder.events)
    if not returned:
        assert recorder.result.status == "interrupted"


# ---- lifespan ----------------------------------------------------------------------------------------------------


def _logging_lifespan(log: list[str]) -> Callable[[], Any]:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[str]:
        log.append("enter")
        await checkpoint()
        try:
            yield "shared"
        finally:
            log.append("leaving")
            with anyio.CancelScope(shield=True):
                await checkpoint()
            log.append("left")

    return lifespan


@pytest.mark.parametrize("end", ["completed", "failed", "stopped", "exited", "cancelled"])
def test_lifespan_is_entered_before_the_first_item_and_left_after_the_last(backend: Backend, end: str) -> None:
    """Once, however the run ends; nothing of an item happens outside it."""
    log: list[str] = []

    async def main() -> None:
        with anyio.CancelScope() as scope:

            async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
                log.append("item")
                await checkpoint()
                try:
                    if end == "failed":
                        raise ValueError
                    if end == "stopped":
                        aqueue.stop("enough")
                    if end == "exited":
                        raise SystemExit
                    if end == "cancelled":
                        scope.cancel()
                        await checkpoint()
                finally:
                    log.append("ended")

            items = [Do(process) for _ in range(3)]
            await async_run_queue(items, num_workers=1, reporter="none", lifespan=_logging_lifespan(log))

    if end in ("failed", "exited"):
        with pytest.raises(ItemFailures if end == "failed" else SystemExit):
            anyio.run(main, backend=backend)
    else:
        anyio.run(main, backend=backend)
    times = 3 if end == "completed" else 1
    assert log == ["enter", *["item", "ended"] * times, "leaving", "left"]


@pytest.mark.parametrize("when", ["enter", "exit"])
def test_a_lifespan_that_raises(backend: Backend, when: str) -> None:
    """What it raises comes out; reporters are closed and told that the run failed."""
    recorder = EventRecorder()
    error = LookupError("no database")

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        if when == "enter":
            raise error
        yield
        raise error

    with pytest.raises(LookupError) as caught:
        run_queue([Noop()], reporter=recorder, lifespan=lifespan, backend=backend)
    assert caught.value is error
    assert recorder.calls[-1] == "close"
    assert recorder.of(RunFinished)[0].status == "failed"
    assert recorder.of(RunFinished)[0].counts.completed == (0 if when == "enter" else 1)


def test_shared_without_a_lifespan_says_so(backend: Backend) -> None:
    """shared() in a run without lifespan names what is missing, also inside a run that has one."""

    async def inner(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        with pytest.raises(aqueue.MisplacedCall, match="this run has no lifespan"):
            aqueue.shared()

    async def outer(enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        await async_run_queue([Do(inner)], reporter="none")
        shared: str = aqueue.shared()
        return shared

    result = run_queue([Do(outer)], reporter="none", lifespan=_logging_lifespan([]), backend=backend)
    assert result.root_results == ["shared"]


# ---- several runs ------------------------------------------------------------------------------------------------


def test_several_runs_in_one_loop(backend: Backend) -> None:
    """Runs side by side have their own items, numbers, shared object and events."""
    recorders = [EventRecorder() for _ in range(5)]
    results: dict[int, RunResult] = {}

    async def main() -> None:
        async def one(number: int) -> None:
            async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
                for _ in range(number + 1):
                    await checkpoint()
                    enqueue(Noop())
                return number

            results[number] = await async_run_queue([Do(process)], reporter=recorders[number])

        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(one, number)

    anyio.run(main, backend=backend)
    assert len({recorder.events[0].run_id for recorder in recorders}) == 5  # type: ignore[attr-defined]
    for number, recorder in enumerate(recorders):
        check_events(recorder.events)
        check_result(results[number], recorder.events)
        assert results[number].root_results == [number]
        assert results[number].counts.completed == number + 2


class OnTerminal(EventRecorder):
    """A recorder that says it redraws the terminal."""

    uses_terminal = True

    def release_terminal(self) -> None:
        pass


def test_a_run_nested_in_an_item(backend: Backend) -> None:
    """The inner run's results are right, its terminal reporter is left out, and the outer item is itself again."""
    outer_recorder, inner_recorder, log = OnTerminal(), OnTerminal(), EventRecorder()

    async def inner(enqueue: EnqueueFn, set_desc: SetDescFn) -> list[Any]:
        return [aqueue.current().id, aqueue.current().worker]

    async def outer(enqueue: EnqueueFn, set_desc: SetDescFn) -> list[Any]:
        before = aqueue.current()
        result = await async_run_queue([Noop(), Do(inner)], num_workers=1, reporter=[inner_recorder, log])
        assert aqueue.current() == before
        enqueue(Noop())
        return result.root_results

    result = run_queue([Do(outer)], num_workers=1, reporter=outer_recorder, backend=backend)
    assert result.root_results == [[None, [2, 1]]]
    assert result.counts.completed == 2
    assert inner_recorder.calls == []
    check_events(log.events)
    check_events(outer_recorder.events)


def test_the_terminal_is_free_again_after_a_run(backend: Backend) -> None:
    """A second run, after the first, has its terminal reporter, also if the first failed."""

    async def fail(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        raise ValueError

    with pytest.raises(ItemFailures):
        run_queue([Do(fail)], reporter=OnTerminal(), backend=backend)
    recorder = OnTerminal()
    run_queue([Noop()], reporter=recorder, backend=backend)
    assert recorder.calls[-1] == "close"


def test_failures_of_a_nested_run_fail_the_item(backend: Backend) -> None:
    """ItemFailures of the inner run are an exception of the outer item."""

    async def fail(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        raise ValueError("inner")

    async def outer(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await async_run_queue([Do(fail)], reporter="none")

    with pytest.raises(ItemFailures) as caught:
        run_queue([Do(outer)], reporter="none", backend=backend)
    [inner] = caught.value.exceptions
    assert isinstance(inner, ItemFailures)
    assert isinstance(inner.exceptions[0], ValueError)


def test_cancelling_a_nested_run(backend: Backend) -> None:
    """A cancel scope inside the outer item, such as that of a timeout, cancels the inner run alone."""
    recorder = EventRecorder()

    async def outer(enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        running = []

        async def inner(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            running.append(inner)
            if len(running) == 2:
                scope.cancel()
            await anyio.sleep_forever()

        with anyio.CancelScope() as scope:
            await async_run_queue([Do(inner), Do(inner)], reporter=recorder)
        return "went on"

    assert run_queue([Do(outer)], reporter="none", backend=backend).root_results == ["went on"]
    _check_interrupted(recorder, 2)


@pytest.mark.parametrize("inner_backend", ["trio", "asyncio"])
def test_a_run_in_a_thread_of_an_item(backend: Backend, inner_backend: Backend) -> None:
    """run_queue in a thread that an item started is a run of its own, on any backend."""

    class Threads(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
            def run() -> int:
                return run_queue([Noop(), Noop()], reporter="none", backend=inner_backend).counts.completed

            return await anyio.to_thread.run_sync(run)

    assert run_queue([Threads()], reporter="none", backend=backend).root_results == [2]
