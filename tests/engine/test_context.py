"""What an item's code may ask and call: current, stop, enqueue and set_desc, and where that ends.

What an item's code is given to call is `_engine.attempt`; what it may ask from anywhere is `_engine.context`.
"""

import gc
import re
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint

import aqueue
from aqueue import Backend, EnqueueFn, Item, MisplacedCall, SetDescFn, async_run_queue, run_queue
from aqueue.events import ItemDescribed, RunFinished, RunStopping
from aqueue.testing import EventRecorder
from tests.engine.invariants import check_events
from tests.engine.jobs import Do, Noop, WithHook


def test_current_tells_the_running_item(backend: Backend) -> None:
    """Id, type, attempt, phase and worker, in process and in the hook, in tasks and threads that the item starts."""
    seen: list[aqueue.Current] = []

    async def ask() -> None:
        seen.append(aqueue.current())

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await ask()
        await checkpoint()
        await ask()
        seen.append(await anyio.to_thread.run_sync(aqueue.current))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)

    run_queue([Noop(), WithHook(process, ask)], num_workers=1, reporter="none", backend=backend)
    expected = aqueue.Current(2, "tests.engine.jobs:WithHook", 1, "process", 1, attempts_left=4)
    assert seen == [expected] * 4 + [
        aqueue.Current(2, "tests.engine.jobs:WithHook", 1, "after_children", 1, attempts_left=4)
    ]


@pytest.mark.parametrize(
    "call",
    [aqueue.current, aqueue.shared, aqueue.child_results, lambda: aqueue.stop("no")],
    ids=["current", "shared", "child_results", "stop"],
)
def test_calls_outside_an_item_are_misplaced(call: Callable[[], Any]) -> None:
    """Outside a run, each raises a MisplacedCall, a RuntimeError, that says where it works."""
    with pytest.raises(MisplacedCall, match=r"aqueue\.\w+\(\) works only while an item's (process|after_c)") as caught:
        call()
    assert isinstance(caught.value, RuntimeError)


def test_calls_after_the_item_has_ended_are_misplaced(backend: Backend) -> None:
    """A task that outlives its item can ask nothing more in its name."""
    ended = 0

    async def outlive(done: anyio.Event) -> None:
        nonlocal ended
        await done.wait()
        for call in (aqueue.current, aqueue.shared, aqueue.child_results, lambda: aqueue.stop("late")):
            with pytest.raises(MisplacedCall):
                call()
        ended += 1

    async def main() -> None:
        done = anyio.Event()

        async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            tasks.start_soon(outlive, done)
            await checkpoint()

        async with anyio.create_task_group() as tasks:
            await async_run_queue([Do(process)], reporter="none")
            done.set()

    anyio.run(main, backend=backend)
    assert ended == 1


def _kept(backend: Backend, **arguments: Any) -> tuple[EnqueueFn, SetDescFn]:
    kept: list[Any] = []

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        kept.extend([enqueue, set_desc])

    run_queue([Do(process)], reporter="none", backend=backend, **arguments)
    enqueue, set_desc = kept
    return enqueue, set_desc


def test_enqueue_and_set_desc_raise_after_the_run(backend: Backend) -> None:
    """Both end with the process that they were given to."""
    enqueue, set_desc = _kept(backend)
    with pytest.raises(MisplacedCall, match="enqueue was called after the item's process had ended"):
        enqueue(Noop())
    with pytest.raises(MisplacedCall, match="set_desc was called after the item's process"):
        set_desc("late")


def test_enqueue_raises_in_the_item_s_own_hook_and_in_later_items(backend: Backend) -> None:
    """A hook can't add children by an `enqueue` that its process kept, nor can another item."""
    kept: list[EnqueueFn] = []
    refused: list[str] = []

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        kept.append(enqueue)

    async def try_it() -> None:
        with pytest.raises(MisplacedCall):
            kept[0](Noop())
        refused.append("hook")

    async def another(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        with pytest.raises(MisplacedCall):
            kept[0](Noop())
        refused.append("item")

    result = run_queue([WithHook(process, try_it), Do(another)], num_workers=1, reporter="none", backend=backend)
    assert refused == ["hook", "item"]
    assert result.counts.enqueued == 2


def test_enqueue_and_set_desc_raise_in_another_thread(backend: Backend) -> None:
    """From a thread both raise there, name the way that works, and nothing is announced; that way works."""
    said: list[str] = []

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        def elsewhere() -> None:
            calls: list[Callable[[], None]] = [lambda: enqueue(Noop()), lambda: set_desc("from a thread")]
            for call in calls:
                try:
                    call()
                except MisplacedCall as error:
                    said.append(str(error))
            anyio.from_thread.run_sync(set_desc, "from the loop")

        await anyio.to_thread.run_sync(elsewhere)

    recorder = EventRecorder()
    result = run_queue([Do(process)], reporter=recorder, backend=backend)
    assert result.counts.enqueued == 1
    assert [event.text for event in recorder.of(ItemDescribed)] == ["from the loop"]
    assert [re.sub(" by .* from", " from", one) for one in said] == [
        "enqueue was called from another thread; use anyio.from_thread.run_sync(enqueue, …) there",
        "set_desc was called from another thread; use anyio.from_thread.run_sync(set_desc, …) there",
    ]


def test_a_kept_enqueue_does_not_keep_the_item(backend: Backend) -> None:
    """Who keeps `enqueue` keeps neither the item nor its children."""
    references: list[weakref.ref[Item]] = []
    kept: list[Any] = []

    class Keeps(Noop):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            references.append(weakref.ref(self))
            kept.extend([enqueue, set_desc])
            if len(references) < 3:
                enqueue(Keeps())

    run_queue([Keeps()], reporter="none", backend=backend)
    gc.collect()
    assert len(kept) == 6
    assert [reference() for reference in references] == [None, None, None]


def test_an_item_that_keeps_its_own_enqueue_is_freed_without_the_collector(backend: Backend) -> None:
    """Item → enqueue → item is no cycle once process has ended."""
    references: list[weakref.ref[Item]] = []

    class Keeps(Noop):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            references.append(weakref.ref(self))
            self.enqueue = enqueue

    gc.disable()
    try:
        run_queue((Keeps() for _ in range(3)), reporter="none", backend=backend)
        assert [reference() for reference in references] == [None, None, None]
    finally:
        gc.enable()


# ---- stop --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["loop", "thread", "hook"])
def test_stop_stops_the_run_gracefully(backend: Backend, where: str) -> None:
    """Nothing more is taken, the running items end, the reason is told, and the run returns as interrupted."""
    recorder = EventRecorder()

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        if where == "loop":
            aqueue.stop("enough\n")
        elif where == "thread":
            await anyio.to_thread.run_sync(aqueue.stop, "enough\n")
        await checkpoint()

    async def hook() -> None:
        if where == "hook":
            aqueue.stop("enough\n")

    items = [WithHook(process, hook), *(Noop() for _ in range(20))]
    result = run_queue(items, num_workers=1, reporter=recorder, backend=backend)
    assert (result.status, result.stop_reason) == ("interrupted", r"enough\n")
    assert [(event.reason, event.cancelling) for event in recorder.of(RunStopping)] == [(r"enough\n", False)]
    assert (result.counts.completed, result.counts.outstanding) == (1, 20)
    check_events(recorder.events)


def test_stop_when_nothing_is_left(backend: Backend) -> None:
    """A run in which all has been done is completed, stopped or not."""

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        aqueue.stop("enough")

    result = run_queue([Do(process)], reporter="none", backend=backend)
    assert (result.status, result.stop_reason) == ("completed", "enough")


def test_the_first_reason_counts(backend: Backend) -> None:
    """Stopping twice is stopping once."""

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        aqueue.stop("first")
        aqueue.stop("second")
        enqueue(Noop())

    recorder = EventRecorder()
    result = run_queue([Do(process)], reporter=recorder, backend=backend)
    assert (result.status, result.stop_reason) == ("interrupted", "first")
    assert len(recorder.of(RunStopping)) == 1


def test_stop_wakes_idle_workers(backend: Backend) -> None:
    """A stop from a thread reaches a run whose workers all wait, but for the one that is in the thread."""
    told = threading.Event()

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        def stop_then_tell() -> None:
            aqueue.stop("enough")
            told.set()

        await anyio.to_thread.run_sync(stop_then_tell)
        enqueue(Noop())

    result = run_queue([Do(process)], num_workers=50, reporter="none", backend=backend)
    assert told.is_set()
    assert (result.status, result.counts.outstanding) == ("interrupted", 1)


def test_a_stop_that_comes_after_the_end_is_not_announced(backend: Backend) -> None:
    """A thread may call stop while its item ends: whenever that reaches the loop, run.finished stays the last event."""
    for _ in range(20):
        recorder = EventRecorder()
        threads: list[threading.Thread] = []

        async def process(enqueue: EnqueueFn, set_desc: SetDescFn, threads: list[threading.Thread] = threads) -> None:
            context = copy_context()

            def stop() -> None:
                with suppress(MisplacedCall):
                    context.run(aqueue.stop, "late")

            threads.append(threading.Thread(target=stop))
            threads[0].start()

        run_queue([Do(process)], reporter=recorder, backend=backend)
        threads[0].join()
        assert isinstance(recorder.events[-1], RunFinished)
        check_events(recorder.events)


def test_context_variables_of_the_caller_are_seen_by_all_items(backend: Backend) -> None:
    """What is set around `run_queue` is how a program that uses them shares state with its items."""
    variable: ContextVar[str] = ContextVar("variable")

    async def look(enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        await checkpoint()
        return variable.get()

    token = variable.set("of the caller")
    try:
        result = run_queue([Do(look) for _ in range(5)], reporter="none", num_workers=2, backend=backend)
    finally:
        variable.reset(token)
    assert result.root_results == ["of the caller"] * 5
