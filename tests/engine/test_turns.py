"""Items that never await don't keep the loop to themselves, and workers without work sleep."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint

from aqueue import Backend, EnqueueFn, Item, RunInfo, RunResult, SetDescFn, async_run_queue, run_queue
from aqueue._engine.tree import MAX_CLOSED_AT_ONCE
from aqueue._engine.turns import SLICE_S
from aqueue.events import Event, ItemChildrenProcessed
from aqueue.view import RunView
from tests.engine.jobs import Do, Noop


class Others:
    """Another task of the loop, and how many pieces of items' work were done between two turns of it."""

    def __init__(self) -> None:
        self.since = 0
        self.most = 0
        self.turns = 0

    def work_done(self) -> None:
        self.since += 1
        self.most = max(self.most, self.since)

    async def take_turns(self) -> None:
        while True:
            self.since = 0
            self.turns += 1
            await checkpoint()


def _run_beside(backend: Backend, others: Others, items: Iterable[Item], num_workers: int) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(others.take_turns)
            await checkpoint()
            await async_run_queue(items, num_workers=num_workers, reporter="none")
            tasks.cancel_scope.cancel()

    anyio.run(main, backend=backend)


def _hog(others: Others) -> None:
    """Use up a whole slice of time, so that a count of such items is a measure of time."""
    end = time.monotonic() + SLICE_S
    while time.monotonic() <= end:
        pass
    others.work_done()


@pytest.mark.parametrize(("num_workers", "num_items"), [(1, 30), (5, 60), (200, 450)])
def test_another_task_waits_for_one_item_a_worker_at_most(backend: Backend, num_workers: int, num_items: int) -> None:
    """With items that each use up a slice of time, one turn of the loop runs one item a worker."""
    others = Others()

    class Hog(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            _hog(others)

    _run_beside(backend, others, [Hog() for _ in range(num_items)], num_workers)
    assert others.turns >= num_items // num_workers
    # Trio runs the tasks of one turn in any order: the other one first, then, in the next turn, last.
    assert others.most <= 2 * num_workers + 1


def test_hooks_give_way_as_items_do(backend: Backend) -> None:
    """A chain of hooks that never await lets others have their turn between them."""
    others = Others()

    class Link(Item):
        def __init__(self, depth: int) -> None:
            self.depth = depth

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            if self.depth < 30:
                enqueue(Link(self.depth + 1))

        async def after_children_processed(self) -> None:
            _hog(others)

    _run_beside(backend, others, [Link(1)], 5)
    assert others.most <= 3


@pytest.mark.parametrize("num_workers", [1, 200])
def test_items_that_do_next_to_nothing_run_many_in_a_slice(backend: Backend, num_workers: int) -> None:
    """Giving way is by time, not by count: quick items don't pay for a turn of the loop each."""
    others = Others()

    class Quick(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            others.work_done()

    _run_beside(backend, others, [Quick() for _ in range(20_000)], num_workers)
    assert others.turns < 20_000 / 10


def test_an_initial_source_gives_way(backend: Backend) -> None:
    """Reading initial items, however slow they are to make, lets others have their turn."""
    others = Others()

    def slow() -> Iterator[Item]:
        for _ in range(20):
            _hog(others)
            yield Noop()

    _run_beside(backend, others, slow(), 5)
    assert others.most <= 3


class Steps(trio.abc.Instrument):
    """Counts how often workers were woken."""

    def __init__(self) -> None:
        self.workers: Counter[str] = Counter()
        self.is_counting = False

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.is_counting and task.name.startswith("aqueue worker"):
            self.workers[task.name] += 1


def test_idle_workers_sleep() -> None:
    """While one item is at work, not one of 199 idle workers is woken, in a thousand turns of the loop."""
    steps = Steps()

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for _ in range(10):
            await checkpoint()
        steps.is_counting = True
        for _ in range(1_000):
            await checkpoint()
        steps.is_counting = False

    async def main() -> None:
        trio.lowlevel.add_instrument(steps)
        await async_run_queue([Do(process)], num_workers=200, reporter="none")

    trio.run(main)
    assert len(steps.workers) == 1
    assert steps.workers.total() == 1_000


def test_an_item_wakes_one_worker() -> None:
    """An enqueue wakes one idle worker, not all of them."""
    steps = Steps()

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for _ in range(10):
            await checkpoint()
        steps.is_counting = True
        enqueue(Noop())
        for _ in range(10):
            await checkpoint()
        steps.is_counting = False

    async def main() -> None:
        trio.lowlevel.add_instrument(steps)
        await async_run_queue([Do(process)], num_workers=200, reporter="none")

    trio.run(main)
    assert len(steps.workers) == 2


@pytest.mark.parametrize("num_workers", [2, 50])
def test_a_worker_that_slept_takes_what_comes(backend: Backend, num_workers: int) -> None:
    """Items that come one at a time, with all workers asleep between them, run side by side with their parent."""
    ran = 0

    async def child(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        nonlocal ran
        ran += 1

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for number in range(1, 50):
            enqueue(Do(child))
            await _until(lambda number=number: ran == number)  # type: ignore[misc]

    run_queue([Do(process)], num_workers=num_workers, reporter="none", backend=backend)
    assert ran == 49


async def _until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not condition():
            await checkpoint()


@pytest.mark.parametrize("num_workers", [1, 5])
def test_closing_a_long_chain_lets_others_run(backend: Backend, num_workers: int) -> None:
    """The ancestors of the last item of a deep chain, which all end with it, are closed in steps."""

    class Link(Item):
        def __init__(self, left: int) -> None:
            self.left = left

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            if self.left:
                enqueue(Link(self.left - 1))

    closed_at: list[int] = []

    class Watch:
        uses_terminal = False

        def open(self, run: RunInfo) -> None: ...

        def handle(self, events: Sequence[Event], view: RunView) -> None:
            closed_at.extend(int(event.at * 1e9) for event in events if isinstance(event, ItemChildrenProcessed))

        def close(self, result: RunResult) -> None: ...

    result = run_queue([Link(20_000)], num_workers=num_workers, reporter=Watch(), backend=backend)
    assert result.status == "completed"
    assert len(closed_at) == 20_000
    # Each step has one time for all that it closes.
    most = max(Counter(closed_at).values())
    assert most <= MAX_CLOSED_AT_ONCE
