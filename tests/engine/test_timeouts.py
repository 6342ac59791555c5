"""How long an attempt may take: what is cancelled, what becomes of it, and what its error shows."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import anyio
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

import aqueue
from aqueue import (
    Backend,
    EnqueueFn,
    Item,
    ItemFailures,
    LeakedCancelScope,
    Retry,
    SetDescFn,
    run_queue,
)
from aqueue._engine.timeouts import Timeouts
from aqueue._system.loop import TaskWatch, clock_of_this_loop
from aqueue._system.timers import Timers
from aqueue.events import ItemFailed, ItemInterrupted, ItemRetryScheduled
from aqueue.testing import EventRecorder
from tests.engine.clocks import run_by_mock_clock
from tests.engine.invariants import TICK_S, check_events, check_result

LONG_S = 3_600.0
SHORT_S = 0.02


class Slow(Item):
    """Does what a function says, and may take a moment."""

    timeout_s = SHORT_S

    def __init__(self, function: Callable[[], Awaitable[Any]]) -> None:
        self.function = function

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> Any:
        return await self.function()


class SlowHook(Slow):
    """Does so in its hook."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> Any:
        return None

    async def after_children_processed(self) -> Any:
        return await self.function()


def run(item: Item, **arguments: Any) -> tuple[Any, EventRecorder, BaseException | None]:
    """Run `item`, check what holds for any run, and return what came of it and the error of the item."""
    recorder = EventRecorder()
    error = None
    try:
        result = run_queue([item], reporter=recorder, **arguments)
    except ItemFailures as failures:
        result = failures.result
        error = failures.exceptions[0]
    check_events(recorder.events)
    check_result(result, recorder.events)
    return result, recorder, error


async def wait_here() -> None:
    """Wait."""
    await anyio.sleep(LONG_S)


async def wait_in_a_nested_group() -> None:
    """Wait in two tasks of a group."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait_here)
        await wait_here()


async def wait_in_a_nested_nursery() -> None:
    """Wait in three tasks of a nursery of trio's own."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_here)
        nursery.start_soon(wait_here)
        await wait_here()


@pytest.mark.parametrize("kind", [Slow, SlowHook])
@pytest.mark.parametrize("function", [wait_here, wait_in_a_nested_group])
def test_what_takes_too_long_fails(backend: Backend, kind: type[Slow], function: Any) -> None:
    """The attempt is cancelled and fails with TimeoutError, which says the limit and where the item waited."""
    result, recorder, error = run(kind(function), backend=backend)
    assert result.status == "failed"
    assert type(error) is TimeoutError
    assert "the attempt took longer than timeout_s=0.02" in str(error)
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert function.__name__ in frames
    [failed] = recorder.of(ItemFailed)
    assert failed.error.type == "TimeoutError"
    assert f"in {function.__name__}" in failed.error.traceback
    assert failed.duration_s >= SHORT_S - TICK_S


def test_a_nursery_of_trio_shows_where_it_waited() -> None:
    """Also where the cancellation comes out as a group."""
    _, recorder, error = run(Slow(wait_in_a_nested_nursery))
    assert type(error) is TimeoutError
    [failed] = recorder.of(ItemFailed)
    assert "in wait_in_a_nested_nursery" in failed.error.traceback


def test_an_item_that_swallows_the_cancellation_and_returns_is_completed(backend: Backend) -> None:
    """What it returned is its result: it has done its work."""

    async def swallow() -> int:
        try:
            await anyio.sleep(LONG_S)
        except anyio.get_cancelled_exc_class():
            pass
        return 7

    result, _, _ = run(Slow(swallow), backend=backend)
    assert result.status == "completed"
    assert result.root_results == [7]


@pytest.mark.parametrize("in_group", [False, True])
def test_an_error_raised_because_of_the_cancellation_is_the_cause(backend: Backend, in_group: bool) -> None:
    """It is the time that ran out; what the item made of that stands behind it."""

    async def change() -> None:
        try:
            await anyio.sleep(LONG_S)
        except anyio.get_cancelled_exc_class():
            raise ValueError("closed") from None

    async def change_in_group() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(change)

    _, _, error = run(Slow(change_in_group if in_group else change), backend=backend)
    assert type(error) is TimeoutError
    cause = error.__cause__
    if in_group:
        assert isinstance(cause, ExceptionGroup)
        [cause] = cause.exceptions
    assert isinstance(cause, ValueError)


def test_an_error_before_the_time_is_over_stays_what_it_is(backend: Backend) -> None:
    """A limit that was not reached changes nothing."""

    async def fail() -> None:
        raise ValueError("early")

    _, _, error = run(Slow(fail), backend=backend)
    assert isinstance(error, ValueError)
    assert error.__cause__ is None


def test_a_timeout_of_the_item_itself_is_its_own(backend: Backend) -> None:
    """`fail_after` inside an item raises its own TimeoutError, without the engine's words."""

    async def fail() -> None:
        with anyio.fail_after(0):
            await anyio.sleep(LONG_S)

    _, _, error = run(Slow(fail), backend=backend)
    assert type(error) is TimeoutError
    assert "timeout_s" not in str(error)


def test_an_item_that_shields_itself_ends_when_it_will(backend: Backend) -> None:
    """Nothing can cancel it; its time is over when it comes out of the shield and waits again."""

    async def shielded() -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(5 * SHORT_S)
        await anyio.sleep(LONG_S)

    _, recorder, error = run(Slow(shielded), backend=backend)
    assert type(error) is TimeoutError
    assert recorder.of(ItemFailed)[0].duration_s >= 5 * SHORT_S - TICK_S


@pytest.mark.parametrize("kind", [Slow, SlowHook])
def test_it_is_tried_again_as_any_failure(backend: Backend, kind: type[Slow]) -> None:
    """TimeoutError is an error as others, for a policy that covers it; each attempt has its own time."""

    async def third_time() -> int:
        if aqueue.current().attempt < 3:
            await anyio.sleep(LONG_S)
        return 3

    result, recorder, _ = run(kind(third_time), retry=Retry(first_s=0.0, on=TimeoutError), backend=backend)
    assert result.status == "completed"
    assert result.root_results == [3]
    assert [event.error.type for event in recorder.of(ItemRetryScheduled)] == ["TimeoutError"] * 2
    result, _, _ = run(kind(third_time), retry=Retry(first_s=0.0, on=ValueError), backend=backend)
    assert result.counts.retried == 0


def test_the_time_is_exact_and_waiting_does_not_count() -> None:
    """The limit is of one attempt at work: neither the queue's time nor that between attempts counts."""
    ends = []

    class Page(Item):
        timeout_s = 10.0
        retry = Retry(attempts=2, first_s=500.0, max_s=500.0, jitter=0.0)

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            try:
                await anyio.sleep(9.999 if aqueue.current().attempt == 2 else LONG_S)
            finally:
                ends.append(anyio.current_time())

    result, _ = run_by_mock_clock([Page(), Page()], num_workers=1)
    assert result.status == "completed"
    assert ends == [10.0, 20.0, 519.999, 529.999]


def test_a_class_says_otherwise_than_the_run(backend: Backend) -> None:
    """`timeout_s = None` means no limit, whatever the run's is; without one the run's counts."""

    class Patient(Slow):
        timeout_s = None  # type: ignore[assignment]

    async def while_() -> None:
        await anyio.sleep(3 * SHORT_S)

    class Default(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            await while_()

    assert run(Patient(while_), timeout_s=SHORT_S, backend=backend)[0].status == "completed"
    assert run(Default(), timeout_s=SHORT_S, backend=backend)[0].status == "failed"


def test_a_run_that_is_cancelled_interrupts_what_has_a_limit(backend: Backend) -> None:
    """A cancellation from outside is none of the limit's: the attempt is interrupted, and not tried again."""

    class Page(Item):
        timeout_s = LONG_S
        retry = Retry(first_s=0.0)

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            aqueue.stop("enough")
            await anyio.sleep(LONG_S)

    result, recorder, _ = run(Page(), grace_s=SHORT_S, backend=backend)
    assert result.status == "interrupted"
    assert result.counts.retried == 0
    assert len(recorder.of(ItemInterrupted)) == 1


def test_system_exit_in_time_comes_out_bare(backend: Backend) -> None:
    """What is no ordinary error goes through the limit as it is."""

    async def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit) as caught:
        run_queue([Slow(leave)], reporter="none", backend=backend)
    assert caught.value.code == 3


# ---- one attempt after another in the same task --------------------------------------------------------------------


class Step(NamedTuple):
    """What an attempt does: it takes so long, in this manner, with this timeout."""

    manner: str
    takes_s: float
    timeout_s: float | None

    @property
    def outcome(self) -> tuple[float, type[Exception] | None]:
        """When it ends, seconds after its start, and what it fails with."""
        timeout_s = LONG_S if self.timeout_s is None else self.timeout_s
        is_late = self.takes_s > timeout_s
        match self.manner:
            case "shield":
                return self.takes_s, None
            case "block":
                return self.takes_s, ValueError  # nothing could cancel it
            case "swallow":
                return min(self.takes_s, timeout_s), None
            case "raise":
                return min(self.takes_s, timeout_s), TimeoutError if is_late else ValueError
            case "leak":
                return min(self.takes_s, timeout_s), TimeoutError if is_late else LeakedCancelScope
            case _:
                return min(self.takes_s, timeout_s), TimeoutError if is_late else None

    async def take(self) -> None:
        """Do it."""
        match self.manner:
            case "shield":
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(self.takes_s)
            case "block":  # the loop, and then an error
                clock = trio.lowlevel.current_clock()
                assert isinstance(clock, MockClock)
                clock.jump(self.takes_s)
                raise ValueError("blocked")
            case "swallow":
                with suppress(anyio.get_cancelled_exc_class()):
                    await anyio.sleep(self.takes_s)
            case "raise":
                try:
                    await anyio.sleep(self.takes_s)
                finally:
                    raise ValueError("closed")
            case "leak":
                anyio.CancelScope(deadline=anyio.current_time() + LONG_S).__enter__()
                await anyio.sleep(self.takes_s)
            case _:
                await anyio.sleep(self.takes_s)


def steps(*manners: str) -> st.SearchStrategy[Step]:
    """Return steps in these manners, none of which ends at its deadline."""
    return st.builds(
        Step, st.sampled_from(manners), st.sampled_from([0.0, 1.0, 3.0]), st.sampled_from([None, 0.5, 2.0, 60.0])
    )


CALM = ("wait", "raise", "swallow", "shield", "leak")


@given(st.lists(steps(*CALM, "block"), max_size=8), st.lists(steps(*CALM), max_size=5), st.integers(1, 3))
def test_each_attempt_has_its_own_time(processes: list[Step], hooks: list[Step], num_workers: int) -> None:
    """However the one before has ended: late or in time, by an error, in spite of the timeout, with a scope left open.

    Steps that block the loop make the time of all others pass, and therefore run alone.
    """
    if any(step.manner == "block" for step in processes):
        num_workers = 1
    took: dict[int, float] = {}

    async def measure(number: int, step: Step) -> None:
        began = trio.current_time()
        try:
            await step.take()
        finally:
            took[number] = trio.current_time() - began

    def item(number: int, step: Step, kind: type[Slow]) -> Slow:
        limited: type[Slow] = type("Limited", (kind,), {"timeout_s": step.timeout_s})
        return limited(partial(measure, number, step))

    items = [item(number, step, Slow) for number, step in enumerate(processes, 1)]
    items += [item(number, step, SlowHook) for number, step in enumerate(hooks, len(items) + 1)]
    _, recorder = run_by_mock_clock(items, num_workers=num_workers, on_error="continue")
    expected = {number: step.outcome for number, step in enumerate([*processes, *hooks], 1)}
    assert took == {number: takes_s for number, (takes_s, _) in expected.items()}
    assert {event.item: event.error.type.rpartition(":")[2] for event in recorder.of(ItemFailed)} == {
        number: error.__name__ for number, (_, error) in expected.items() if error is not None
    }


@pytest.mark.parametrize("manner", ["wait", "raise", "swallow", "leak"])
def test_what_follows_a_timeout_in_the_same_worker_is_not_cancelled(backend: Backend, manner: str) -> None:
    """Neither by the timeout that has passed nor by what is left of it."""
    after = Slow(anyio.lowlevel.checkpoint)
    items = [item for _ in range(3) for item in (Slow(Step(manner, LONG_S, SHORT_S).take), after)]
    recorder = EventRecorder()
    with suppress(ItemFailures):
        run_queue(items, num_workers=1, reporter=recorder, on_error="continue", backend=backend)
    check_events(recorder.events)
    late = {1, 3, 5}
    assert {event.item for event in recorder.of(ItemFailed)} == (set() if manner == "swallow" else late)
    assert {event.error.type for event in recorder.of(ItemFailed)} <= {"TimeoutError"}


def test_a_cancellation_that_an_earlier_item_has_caught_changes_nothing() -> None:
    """Asyncio keeps counting it in the task, and by that count AnyIO doesn't swallow later cancellations of the task."""

    async def catch() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel)
        with suppress(asyncio.CancelledError):
            await anyio.sleep(LONG_S)

    for late in (wait_here, wait_in_a_nested_group):
        items = [Slow(anyio.lowlevel.checkpoint), Slow(catch), Slow(late)]
        with pytest.raises(ItemFailures) as caught:
            run_queue(items, num_workers=1, reporter="none", backend="asyncio")
        assert [type(error) for error in caught.value.exceptions] == [TimeoutError]


@pytest.mark.parametrize("kind", [Slow, SlowHook])
@pytest.mark.parametrize("grace_s", [9.0, 9.9995, 10.0, 10.0005, 11.0])
def test_a_run_that_is_cancelled_when_the_time_is_over(kind: type[Slow], grace_s: float) -> None:
    """What comes first decides, an interruption or a failure; at the same moment, the event loop decides by chance."""

    async def process() -> None:
        aqueue.stop("enough")
        await anyio.sleep(LONG_S)

    class Limited(kind):  # type: ignore[misc,valid-type]
        timeout_s = 10.0

    _, recorder = run_by_mock_clock([Limited(process)], grace_s=grace_s)
    failed = [event.error.type for event in recorder.of(ItemFailed)]
    assert failed in ([], ["TimeoutError"])
    assert len(recorder.of(ItemInterrupted)) == 1 - len(failed)
    if grace_s != 10.0:
        assert len(failed) == (grace_s > 10.0)


def test_timers_are_few() -> None:
    """Attempts that end in time set one timer all together, and the next task of a worker takes it over."""
    set_for = []

    class CountedTimers(Timers):
        def after(self, delay_s: float, call: Callable[[], None]) -> None:
            set_for.append(delay_s)
            super().after(delay_s, call)

    async def work(timeouts: Timeouts, timeout_s: float) -> None:
        with timeouts.in_task(TaskWatch()) as timeout:
            for _ in range(100):
                await timeout.within(timeout_s, 1, "a:A", anyio.sleep(0.5))

    async def main() -> None:
        timers = CountedTimers(clock_of_this_loop())
        timeouts = Timeouts(clock_of_this_loop(), timers)
        async with trio.open_nursery() as tasks:
            timers.open(tasks)  # type: ignore[arg-type]
            for timeout_s in (60.0, 60.0, 2.0):
                async with trio.open_nursery() as task:
                    task.start_soon(work, timeouts, timeout_s)
            tasks.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    # The timer of the first 100 s goes off at 60 s. The last 50 s have one every 1.5 s at least.
    assert [delay_s for delay_s in set_for if delay_s > 2.0] == pytest.approx([60.0, 59.5], abs=0.01)
    assert len(set_for) < 40
