"""What a run keeps in memory: little for an item that waits, nothing of a subtree that has ended.

What is kept per item is a node of `_engine.tree`.
"""

import gc
import tracemalloc
import weakref
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from aqueue import Backend, EnqueueFn, Item, ItemFailures, SetDescFn, run_queue
from tests.engine.jobs import Noop


class Small:
    __slots__ = ()

    def __lt__(self, other: object) -> bool:
        return False

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        pass


@pytest.mark.parametrize("queue_type_name", ["queue", "stack", "priority"])
def test_a_pending_item_costs_at_most_250_bytes(backend: Backend, queue_type_name: Any) -> None:
    """Beyond the user's object: what tracemalloc sees while one item enqueues 50,000 objects that were there before."""
    number = 50_000
    objects = [Small() for _ in range(number)]
    each: list[float] = []

    class Root(Small):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            enqueue(Small())  # what is looked up once a class is no cost of an item
            tracemalloc.start()
            for item in objects:
                enqueue(item)
            each.append(tracemalloc.get_traced_memory()[0] / number)
            tracemalloc.stop()

    run_queue([Root()], queue_type_name=queue_type_name, reporter="none", backend=backend)
    assert each[0] <= 250


class Traced(Item):
    """One whose objects' lives are followed."""

    alive: ClassVar["weakref.WeakSet[Traced]"] = weakref.WeakSet()

    def __init__(self, depth: int = 0) -> None:
        self.depth = depth
        Traced.alive.add(self)

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        if self.depth:
            enqueue(type(self)(self.depth - 1))
            enqueue(type(self)(self.depth - 1))


class TracedWithHook(Traced):
    async def after_children_processed(self) -> int:
        return self.depth


class TracedThatFails(Traced):
    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await super().process(enqueue, set_desc)
        if not self.depth:
            raise ValueError


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Let a test see what is freed at once, without the garbage collector."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("cls", [Traced, TracedWithHook, TracedThatFails])
def test_a_subtree_that_has_ended_is_freed_while_the_run_goes_on(backend: Backend, cls: type[Traced]) -> None:
    """When the next item runs, none of the objects of the subtrees before it is left."""
    alive: list[int] = []

    class Looks(Noop):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            alive.append(len(Traced.alive))

    class Root(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            for _ in range(20):  # with a stack: the subtree, then the look
                enqueue(Looks())
                enqueue(cls(4))

    Traced.alive.clear()
    try:
        run_queue(
            [Root()], queue_type_name="stack", num_workers=1, reporter="none", on_error="continue", backend=backend
        )
    except ItemFailures as failures:
        # The first 100 exceptions are kept alive, and they hold the frames, and so the items, that raised them.
        assert cls is TracedThatFails
        del failures
        assert alive[-1] <= 100
        assert alive[-10] - 9 == alive[-1], "of later failures nothing is kept"
    else:
        # Those that are left are the roots of the subtrees that still wait.
        assert alive == list(range(19, -1, -1))
    gc.collect()  # the event loop's own objects point at each other, and one of them at what the run raised
    assert not Traced.alive


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("cls", [Traced, TracedWithHook])
def test_an_item_is_freed_when_neither_its_hook_nor_a_worker_needs_it(backend: Backend, cls: type[Traced]) -> None:
    """An item without a hook goes when its process has ended, although its children still wait; one with a hook stays."""
    alive: list[set[int]] = []

    class Chain(cls):  # type: ignore[valid-type,misc]
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            alive.append({item.depth for item in Traced.alive})
            if self.depth:
                enqueue(Chain(self.depth - 1))

    Traced.alive.clear()

    def items() -> Iterator[Item]:
        yield Chain(3)

    run_queue(items(), num_workers=1, reporter="none", backend=backend)
    expected = [{3}, {2}, {1}, {0}] if cls is Traced else [{3}, {2, 3}, {1, 2, 3}, {0, 1, 2, 3}]
    assert alive == expected
    assert not Traced.alive


def test_nodes_and_attempts_are_no_work_for_the_collector(backend: Backend) -> None:
    """A hundred thousand waiting items add next to nothing to what the garbage collector has to look at."""
    tracked: list[int] = []

    class Root(Small):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            before = len(gc.get_objects())
            for _ in range(100_000):
                enqueue(Small())
            tracked.append(len(gc.get_objects()) - before)

    run_queue([Root()], reporter="none", backend=backend)
    # Whether the collector looks at a Small is Python's business; at its node it must not.
    assert tracked[0] < 1_000 + (100_000 if gc.is_tracked(Small()) else 0)
