"""What stops a run by itself: time, numbers of items and failures; how long that may take; and what waits meanwhile."""

import gc
import os
import signal
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aqueue
from aqueue import (
    Backend,
    EnqueueFn,
    Item,
    ItemFailures,
    Limit,
    Retry,
    RetryAfter,
    SetDescFn,
    async_run_queue,
    run_queue,
)
from aqueue.errors import InvalidArgument
from aqueue.events import GroupSlowedDown, ItemInterrupted, ItemStarted, RunStopping
from aqueue.testing import EventRecorder
from tests.engine.clocks import run_by_mock_clock
from tests.engine.invariants import TICK_S, check_events, check_result
from tests.engine.jobs import Do, Noop

LONG_S = 3_600.0


def run(items: list[Any], **arguments: Any) -> tuple[Any, EventRecorder]:
    """Run `items`, check what holds for any run, and return what came of it."""
    recorder = EventRecorder()
    try:
        result = run_queue(items, reporter=recorder, **arguments)
    except ItemFailures as failures:
        result = failures.result
    check_events(recorder.events)
    check_result(result, recorder.events)
    return result, recorder


class Waiting(Item):
    """Asks to be tried again in an hour."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        raise RetryAfter(LONG_S)


class WaitingHook(Item):
    """Does so in its hook."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        pass

    async def after_children_processed(self) -> None:
        raise RetryAfter(LONG_S)


class Failing(Item):
    """Fails for good."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        raise ValueError


class Flaky(Item):
    """Fails `failures` times, then enqueues some others and returns; has a hook that does so, too."""

    retry = Retry(first_s=1.0, attempts=10)

    def __init__(self, failures: int = 0, children: int = 0, hook_failures: int = 0) -> None:
        self.failures = failures
        self.children = children
        self.hook_failures = hook_failures

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await anyio.sleep(0.1)
        if aqueue.current().attempt <= self.failures:
            raise ValueError
        for _ in range(self.children):
            enqueue(Flaky(self.failures))

    async def after_children_processed(self) -> None:
        if aqueue.current().attempt <= self.hook_failures:
            raise ValueError


# ---- max_items -----------------------------------------------------------------------------------------------------


@given(
    st.lists(st.builds(Flaky, st.integers(0, 3), st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=6),
    st.integers(1, 30),
    st.integers(1, 5),
    st.sampled_from(["queue", "stack"]),
    st.booleans(),
)
def test_exactly_so_many_items_are_run(
    items: list[Flaky], most: int, num_workers: int, queue_type_name: Any, limited: bool
) -> None:
    """Hooks and further attempts don't count; if there are no more, the run is complete."""
    total = sum(1 + item.children for item in items)
    if limited:
        Flaky.group = "a"  # type: ignore[attr-defined]
    try:
        result, recorder = run_by_mock_clock(
            items,
            max_items=most,
            num_workers=num_workers,
            queue_type_name=queue_type_name,
            limits={"a": Limit(concurrent=2)},
        )
    finally:
        if limited:
            del Flaky.group  # type: ignore[attr-defined]
    started = {event.item for event in recorder.of(ItemStarted)}
    assert len(started) <= most
    if total <= most:
        assert result.status == "completed"
        assert result.stop_reason == ""
    else:
        assert result.status == "interrupted"
        assert result.stop_reason == f"max_items={most} was reached"
        assert len(started) == most


def test_a_single_item_that_is_tried_again_is_one_item(backend: Backend) -> None:
    """With max_items=1 it has all its attempts."""

    class Third(Item):
        retry = Retry(first_s=0.0)

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            if aqueue.current().attempt < 3:
                raise ValueError

    result, _ = run([Third()], max_items=1, backend=backend)
    assert result.status == "completed"
    assert result.counts.retried == 2


def test_more_items_that_wait_for_their_group_stop_the_run_at_once(backend: Backend) -> None:
    """Once the number is reached, it doesn't matter that the next could not start for an hour."""

    class Page(Item):
        group = "a"

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            aqueue.slow_down("a", LONG_S)

    result, _ = run([Page(), Page()], max_items=1, backend=backend)
    assert result.status == "interrupted"
    assert result.counts.completed == 1


# ---- stop_after_s, max_failures, grace_s -----------------------------------------------------------------------------


def test_time_is_over(backend: Backend) -> None:
    """After stop_after_s no more items are taken; those that run end."""
    seen = []

    async def short(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        seen.append(True)
        enqueue(Do(short))
        await anyio.sleep(0.01)

    result, recorder = run([Do(short)], stop_after_s=0.1, backend=backend)
    assert result.status == "interrupted"
    assert result.stop_reason == "stop_after_s=0.1 has passed"
    assert not recorder.of(ItemInterrupted)
    assert result.counts.completed == len(seen)


def test_time_that_is_not_over_holds_nothing_up(backend: Backend) -> None:
    """A run that completes before ends then, and says nothing of a limit."""
    result, _ = run([Noop()], stop_after_s=LONG_S, grace_s=LONG_S, max_items=1, backend=backend)
    assert result.status == "completed"
    assert result.stop_reason == ""


def test_so_many_failures(backend: Backend) -> None:
    """With the second failure the run stops; retries are no failures, and the failures are raised."""

    class Page(Item):
        retry = Retry(first_s=0.0, attempts=2)

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            raise ValueError

    with pytest.raises(ItemFailures) as caught:
        run_queue(
            [Page() for _ in range(9)],
            num_workers=1,
            on_error="continue",
            max_failures=2,
            reporter="none",
            backend=backend,
        )
    result = caught.value.result
    assert result.status == "interrupted"
    assert result.stop_reason == "max_failures=2 was reached"
    assert result.counts.failed == 2
    assert result.counts.retried >= 2


def test_as_many_failures_as_items_is_a_failed_run(backend: Backend) -> None:
    """Where nothing is left there is nothing to resume."""
    result, _ = run([Failing(), Failing()], on_error="continue", max_failures=2, num_workers=1, backend=backend)
    assert result.status == "failed"


@pytest.mark.parametrize("reason", ["stop", "max_failures", "stop_after_s", "on_error"])
def test_a_graceful_stop_takes_no_longer_than_its_grace(backend: Backend, reason: str) -> None:
    """Whatever the reason, what still runs when grace_s has passed is cancelled."""

    async def long(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        if reason == "stop":
            aqueue.stop("enough")
        await anyio.sleep(LONG_S)

    by_reason: dict[str, dict[str, Any]] = {
        "stop": {},
        "max_failures": {"on_error": "continue", "max_failures": 1},
        "stop_after_s": {"stop_after_s": 0.01},
        "on_error": {},
    }
    items = [Do(long), *([Failing()] if reason in ("max_failures", "on_error") else [])]
    result, recorder = run(items, grace_s=0.05, backend=backend, **by_reason[reason])
    assert result.status == ("failed" if reason == "on_error" else "interrupted")
    assert len(recorder.of(ItemInterrupted)) == 1
    first, second = recorder.of(RunStopping)
    assert (first.cancelling, second.cancelling) == (False, True)
    assert second.reason == "grace_s=0.05 has passed"
    assert second.at - first.at >= 0.05 - TICK_S


def test_ctrl_c_waits_no_longer_than_the_grace(backend: Backend) -> None:
    """The first signal alone ends the run, also where no timer was ever set before."""

    async def long(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await anyio.sleep(LONG_S)

    recorder = EventRecorder()
    with pytest.raises(KeyboardInterrupt):
        run_queue([Do(long)], grace_s=0.05, reporter=recorder, backend=backend)
    check_events(recorder.events)
    assert [event.reason for event in recorder.of(RunStopping)] == ["Ctrl-C", "grace_s=0.05 has passed"]


def test_an_item_that_shields_itself_outlasts_the_grace(backend: Backend) -> None:
    """It can't be cancelled: when it has ended by itself it counts as completed, and the run ends."""

    async def shielded(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        aqueue.stop("enough")
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.1)

    result, _ = run([Do(shielded), Noop()], num_workers=1, grace_s=0.0, backend=backend)
    assert result.status == "interrupted"
    assert (result.counts.completed, result.counts.interrupted) == (1, 0)


def test_the_grace_is_for_items_and_not_for_the_lifespan(backend: Backend) -> None:
    """What lifespan does when it is left is not cut short, and a run whose items ended in time ends as ever."""
    left = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        yield
        await anyio.sleep(0.1)
        left.append(True)

    async def stopping(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        aqueue.stop("enough")

    result, recorder = run([Do(stopping), Noop()], num_workers=1, grace_s=0.01, lifespan=lifespan, backend=backend)
    assert left
    assert result.status == "interrupted"
    assert len(recorder.of(RunStopping)) == 1

    async def hanging(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        aqueue.stop("enough")
        await anyio.sleep(LONG_S)

    result, recorder = run([Do(hanging)], grace_s=0.01, lifespan=lifespan, backend=backend)
    assert len(left) == 2
    assert len(recorder.of(RunStopping)) == 2


# ---- what waits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Waiting, WaitingHook])
@pytest.mark.parametrize("how", ["stop", "stop_after_s", "max_items", "cancel", "ctrl-c"])
def test_a_stop_does_not_wait_for_retries(backend: Backend, kind: type[Item], how: str) -> None:
    """While items wait an hour for their next attempt, a stop ends the run at once; nothing of them is left over."""
    waiting = [kind() for _ in range(3)]
    alive = [weakref.ref(item) for item in waiting]

    async def last(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await anyio.sleep(0.02)
        if how == "stop":
            aqueue.stop("enough")
        elif how == "ctrl-c":
            os.kill(os.getpid(), signal.SIGINT)
        elif how == "max_items":
            enqueue(Noop())
        elif how == "cancel":
            scopes[0].cancel()

    scopes: list[anyio.CancelScope] = []
    items = [*waiting, Do(last)]
    del waiting
    recorder = EventRecorder()
    begin = time.monotonic()
    match how:
        case "cancel":

            async def main() -> None:
                with anyio.CancelScope() as scope:
                    scopes.append(scope)
                    await async_run_queue(items, reporter=recorder)

            anyio.run(main, backend=backend)
        case "ctrl-c":
            with pytest.raises(KeyboardInterrupt):
                run_queue(items, reporter=recorder, backend=backend)
        case _:
            by_how: dict[str, dict[str, Any]] = {"stop_after_s": {"stop_after_s": 0.5}, "max_items": {"max_items": 4}}
            result = run_queue(items, reporter=recorder, backend=backend, **by_how.get(how, {}))
            assert result.status == "interrupted"
    assert time.monotonic() - begin < LONG_S / 10
    check_events(recorder.events)
    assert recorder.result is not None
    assert recorder.result.status == "interrupted"
    assert recorder.result.counts.retried == 3
    items.clear()
    gc.collect()
    assert not any(one() for one in alive), "an item that waited is still alive"


# ---- slow_down -------------------------------------------------------------------------------------------------------


class Page(Item):
    """Logs when it starts."""

    log: list[tuple[str, float]] = []  # noqa: RUF012  # emptied by each test

    def __init__(self, group: str, slow_down: tuple[str, float] | None = None) -> None:
        self.group = group
        self.slow_down = slow_down

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.log.append((self.group, anyio.current_time()))
        if self.slow_down is not None:
            aqueue.slow_down(*self.slow_down)
        await anyio.sleep(1)


def test_a_group_that_is_slowed_down_holds_up_no_other() -> None:
    """Its items wait, those of others run; the longest of several pauses counts."""
    Page.log.clear()
    items = [Page("a", ("a", 10.0)), Page("a", ("a", 5.0)), Page("b"), Page("c"), Page("a")]
    _, recorder = run_by_mock_clock(items, num_workers=1)
    assert Page.log == [("a", 0.0), ("b", 1.0), ("c", 2.0), ("a", 10.0), ("a", 15.0)]
    assert [event.group for event in recorder.of(GroupSlowedDown)] == ["a", "a"]


@pytest.mark.parametrize("from_thread", [False, True])
def test_a_group_may_be_slowed_down_before_there_is_one(backend: Backend, from_thread: bool) -> None:
    """Before any class with a group was seen, also from a thread; what is enqueued later obeys."""
    starts = []

    class Late(Item):
        group = "later"

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            starts.append(time.monotonic())

    async def first(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        begin.append(time.monotonic())
        if from_thread:
            await anyio.to_thread.run_sync(aqueue.slow_down, "later", 0.1)
            await anyio.sleep(0)
        else:
            aqueue.slow_down("later", 0.1)
        enqueue(Late())
        enqueue(Noop())

    begin: list[float] = []
    result, recorder = run([Do(first)], backend=backend)
    assert result.status == "completed"
    assert starts[0] - begin[0] >= 0.1 - TICK_S
    [event] = recorder.of(GroupSlowedDown)
    assert (event.group, event.item) == ("later", 1)
    assert event.due == pytest.approx(event.at + 0.1)


@pytest.mark.parametrize("from_thread", [False, True])
def test_limits_that_can_not_be_told_are_an_error_and_not_a_crash(backend: Backend, from_thread: bool) -> None:
    """A function of limits that raises fails the item that calls slow_down, or from a thread ends the run."""

    def limits(group: str) -> Limit:
        raise LookupError(group)

    async def first(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        if from_thread:
            await anyio.to_thread.run_sync(aqueue.slow_down, "a", 1.0)
            await anyio.sleep(0.01)
        else:
            aqueue.slow_down("a", 1.0)

    recorder = EventRecorder()
    if from_thread:
        with pytest.raises(LookupError):
            run_queue([Do(first)], limits=limits, reporter=recorder, backend=backend)
    else:
        with pytest.raises(ItemFailures) as caught:
            run_queue([Do(first)], limits=limits, reporter=recorder, backend=backend)
        assert isinstance(caught.value.exceptions[0], LookupError)
    assert not recorder.of(GroupSlowedDown)
    check_events(recorder.events)


@pytest.mark.parametrize(
    ("group", "seconds"),
    [(7, 1.0), (None, 1.0), ("a", -1), ("a", float("nan")), ("a", 1e9), ("a", "1"), ("a", True), ("a", 10**400)],
)
def test_slow_down_takes_a_group_and_seconds(group: Any, seconds: Any) -> None:
    """Anything else is refused in the item's own code."""

    async def first(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        with pytest.raises(
            InvalidArgument,
            match=r"slow_down\((group|seconds)=…\) is .*; it must be a (group's name|finite number of seconds)",
        ):
            aqueue.slow_down(group, seconds)

    assert run_queue([Do(first)], reporter="none").status == "completed"


@pytest.mark.parametrize("queue_type_name", ["queue", "stack", "priority"])
@pytest.mark.parametrize("plain", [1, 2, 5])
def test_items_without_a_group_are_not_lost_when_the_first_with_one_comes(
    backend: Backend, queue_type_name: Any, plain: int
) -> None:
    """Also a single one that waits then."""

    class Plain(Noop):
        def __lt__(self, other: object) -> bool:
            return False

    class Grouped(Plain):
        group = "a"

    result, _ = run(
        [*(Plain() for _ in range(plain)), Grouped()],
        queue_type_name=queue_type_name,
        limits={"*": Limit(concurrent=1)},
        backend=backend,
    )
    assert result.status == "completed"


def test_items_of_a_limited_group_that_can_not_be_compared_end_the_run(backend: Backend) -> None:
    """The error comes out of the run; the item that ended just then is completed, and nothing hangs."""

    class Odd(Item):
        group = "a"

        def __lt__(self, other: object) -> bool:
            raise ValueError("no order")

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            enqueue(Odd())

            class Free(Odd):
                group = None  # type: ignore[assignment]

            enqueue(Free())

    recorder = EventRecorder()
    with pytest.raises(aqueue.ItemsNotComparable):
        run_queue(
            [Odd()],
            queue_type_name="priority",
            limits={"a": Limit(concurrent=1)},
            num_workers=1,
            on_error="continue",
            reporter=recorder,
            backend=backend,
        )
    assert recorder.result is not None
    assert recorder.result.counts.completed == 1
    assert recorder.result.counts.failed == 0


# ---- values ----------------------------------------------------------------------------------------------------------


async def _is_page(name: str) -> bool:
    """Be no ordinary function: what it returns is awaited by nobody, and counts as true."""
    return name.endswith(":Page")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"stop_after_s": -1},
            "stop_after_s is -1; it must be a finite number of seconds, from 0 to 31,536,000, or None",
        ),
        ({"stop_after_s": "1"}, "stop_after_s is '1'"),
        ({"stop_after_s": 10**400}, "stop_after_s is 1000"),
        ({"stop_after_s": float("inf")}, "stop_after_s is inf"),
        ({"stop_after_s": 31_536_001}, "stop_after_s is 31536001"),
        ({"max_items": 0}, "max_items is 0; it must be a whole number, at least 1, or None"),
        ({"max_items": 1.5}, "max_items is 1.5"),
        ({"max_items": True}, "max_items is True"),
        ({"max_failures": 0, "on_error": "continue"}, "max_failures is 0"),
        ({"max_failures": 1}, 'max_failures needs on_error="continue"'),
        ({"grace_s": -0.1}, "grace_s is -0.1; it must be a finite number of seconds, from 0 to 31,536,000, or None"),
        ({"grace_s": 1e300}, "grace_s is 1e+300"),
        ({"grace_s": float("nan")}, "grace_s is nan"),
        ({"limits": 5}, "limits is 5; it must be a dict from group to aqueue.Limit, or a function"),
        ({"limits": {"a": 5}}, "limits has 'a': 5; it must map each group, a string, to an aqueue.Limit"),
        ({"limits": {1: Limit()}}, "limits has 1: Limit"),
        ({"retry_failed": 1}, "retry_failed is 1; it must be True or False"),
        ({"only": "Page"}, "only is 'Page'; it must be a function, not async,"),
        ({"only": _is_page, "resume": "run.db"}, "only is <function _is_page at 0x"),
        ({"only": lambda _: True}, "only applies to the failed items of a recorded run; pass resume="),
        ({"retry_failed": False}, "retry_failed=False applies to the failed items of a recorded run; pass"),
        ({"retry_failed": False, "journal": "run.db"}, "retry_failed=False applies to the failed items"),
    ],
)
def test_an_argument_that_is_not_allowed_is_named(arguments: dict[str, Any], message: str) -> None:
    """Before anything runs."""
    with pytest.raises(InvalidArgument) as caught:
        run_queue([Noop()], reporter="none", **arguments)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "arguments",
    [
        {"concurrent": 0},
        {"concurrent": 1.0},
        {"concurrent": True},
        {"per_second": 0},
        {"per_second": -1},
        {"per_second": float("inf")},
        {"per_second": float("nan")},
        {"per_second": "5"},
        {"per_second": 10**400},
    ],
)
def test_a_limit_with_a_wrong_value_is_refused(arguments: dict[str, Any]) -> None:
    """The message names the value and what is allowed."""
    [name] = arguments
    with pytest.raises(InvalidArgument, match=rf"Limit\({name}=…\) is .*; it must be a .*number, .*, or None"):
        Limit(**arguments)
