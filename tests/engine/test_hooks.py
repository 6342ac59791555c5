"""after_children_processed: once, after all below, and only where the rule says so.

When a hook is due is for `_engine.tree` to know.
"""

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from aqueue import Backend, EnqueueFn, Item, ItemFailures, SetDescFn, run_queue
from aqueue.events import ItemChildrenFailed, ItemChildrenProcessed, ItemFailed, ItemStarted
from aqueue.testing import EventRecorder
from tests.engine.invariants import check_events, check_result
from tests.engine.jobs import Noop

Log = list[str]


class Parent(Item):
    """Enqueues its children, and says when it and its hook begin and end."""

    def __init__(
        self, name: str, log: Log, *children: Item, lingers: int = 0, hook_lingers: int = 0, fails: str = ""
    ) -> None:
        self.name = name
        self.log = log
        self.children = children
        self.lingers = lingers
        self.hook_lingers = hook_lingers
        self.fails = fails

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for child in self.children:
            enqueue(child)
        for _ in range(self.lingers):
            await checkpoint()
        self.log.append(self.name)
        if self.fails == "process":
            raise ValueError(self.name)

    async def after_children_processed(self) -> None:
        self.log.append(f"<{self.name}")
        for _ in range(self.hook_lingers):
            await checkpoint()
        self.log.append(f"{self.name}>")
        if self.fails == "hook":
            raise ValueError(self.name)


class Anyway(Parent):
    after_children_rule = "all_done"


def run(backend: Backend, *items: Item, **arguments: Any) -> EventRecorder:
    """Run `items`, check what holds for any run, and return what was recorded."""
    recorder = EventRecorder()
    try:
        result = run_queue(items, reporter=recorder, backend=backend, **arguments)
    except ItemFailures as failures:
        result = failures.result
    check_events(recorder.events)
    check_result(result, recorder.events)
    return recorder


def test_a_hook_runs_once_for_an_item_without_children(backend: Backend) -> None:
    """An item with no children has its hook run straight after it, by the same worker."""
    log: Log = []
    recorder = run(backend, Parent("a", log))
    assert log == ["a", "<a", "a>"]
    assert [event.event for event in recorder.events[2:-1]] == [
        "item.started", "item.completed", "item.started", "item.children_processed"
    ]  # fmt: skip
    process, hook = recorder.of(ItemStarted)
    assert (process.phase, hook.phase) == ("process", "after_children")
    assert process.worker == hook.worker


def test_children_s_hooks_run_before_their_parent_s(backend: Backend) -> None:
    """Each hook runs once, after those of all below it, also when hooks take their time."""
    log: Log = []
    tree = Parent(
        "root",
        log,
        Parent("a", log, Parent("a1", log, hook_lingers=5), Parent("a2", log), hook_lingers=3),
        Parent("b", log, hook_lingers=7),
    )
    run(backend, tree, num_workers=3)
    assert sorted(log) == sorted(
        f"{before}{name}{after}"
        for name in ("root", "a", "a1", "a2", "b")
        for before, after in [("", ""), ("<", ""), ("", ">")]
    )
    for child, parent in [("a1", "a"), ("a2", "a"), ("a", "root"), ("b", "root")]:
        assert log.index(f"{child}>") < log.index(f"<{parent}")


@pytest.mark.parametrize("num_workers", [1, 2, 5])
def test_a_parent_that_ends_after_its_children(backend: Backend, num_workers: int) -> None:
    """The hook waits for the item's own process as well."""
    log: Log = []
    run(backend, Parent("root", log, Parent("a", log), Parent("b", log), lingers=50), num_workers=num_workers)
    assert log[-2:] == ["<root", "root>"]
    assert log.index("root") < log.index("<root")


def test_the_hook_of_a_chain_link_between_hookless_items(backend: Backend) -> None:
    """Items without a hook between two with one hand on that all is done."""
    log: Log = []

    class Bare(Item):
        def __init__(self, child: Item) -> None:
            self.child = child

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            enqueue(self.child)

    recorder = run(backend, Parent("root", log, Bare(Bare(Parent("leaf", log)))))
    assert log == ["root", "leaf", "<leaf", "leaf>", "<root", "root>"]
    assert [event.item for event in recorder.of(ItemChildrenProcessed)] == [4, 3, 2, 1]


def test_a_leaf_without_a_hook_ends_with_its_completion(backend: Backend) -> None:
    """An item with neither hook nor children gets no item.children_processed."""
    assert run(backend, Noop()).of(ItemChildrenProcessed) == []


@pytest.mark.parametrize("fails", ["process", "hook"])
def test_no_hook_above_a_failure(backend: Backend, fails: str) -> None:
    """A failed item takes the hooks of all its ancestors with it, and each is told of as item.children_failed."""
    log: Log = []
    tree = Parent("root", log, Parent("a", log, Parent("bad", log, fails=fails)), Parent("b", log))
    recorder = run(backend, tree, on_error="continue")
    assert "<root" not in log
    assert "<a" not in log
    assert "b>" in log
    assert [event.item for event in recorder.of(ItemChildrenFailed)] == [2, 1]
    assert [(event.item, event.phase) for event in recorder.of(ItemFailed)] == [
        (4, "process" if fails == "process" else "after_children")
    ]


def test_no_hook_for_an_item_that_failed_itself(backend: Backend) -> None:
    """An item whose process raised gets no hook, whatever its rule, once its children have run."""
    log: Log = []
    run(backend, Parent("a", log, fails="process"), Anyway("b", log, Noop(), fails="process"), on_error="continue")
    assert log == ["a", "b"]


def test_all_done_runs_the_hook_although_descendants_failed(backend: Backend) -> None:
    """all_done waits until all below has ended, and runs; a hook above it with all_success doesn't."""
    log: Log = []
    tree = Parent("root", log, Anyway("a", log, Parent("bad", log, fails="process"), Parent("good", log, lingers=9)))
    run(backend, tree, on_error="continue")
    assert log.index("good>") < log.index("<a")
    assert "a>" in log
    assert "<root" not in log


def test_all_done_does_not_hide_the_failure(backend: Backend) -> None:
    """A run whose items failed raises, even if a hook above them ran."""
    with pytest.raises(ItemFailures):
        run_queue(
            [Anyway("a", [], Parent("bad", [], fails="process"))],
            on_error="continue",
            reporter="none",
            backend=backend,
        )


def test_a_failing_hook_fails_its_item(backend: Backend) -> None:
    """The item counts as failed, no longer as completed, and the exception carries where it was raised."""
    recorder = EventRecorder()
    with pytest.raises(ItemFailures) as caught:
        run_queue([Parent("a", [], fails="hook")], reporter=recorder, backend=backend)
    result = caught.value.result
    assert (result.counts.completed, result.counts.failed) == (0, 1)
    assert caught.value.exceptions[0].__notes__ == [
        "aqueue: raised by item 1 (tests.engine.test_hooks:Parent) in after_children_processed"
    ]
    check_result(result, recorder.events)


def test_a_failure_stops_the_run_after_the_running_item_and_its_own_hook(backend: Backend) -> None:
    """A graceful stop lets the running items end, their own hooks included, but begins no ancestor's."""
    log: Log = []

    class Fails(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            await running.wait()
            log.append("failed")
            raise ValueError

    class Runs(Parent):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            running.set()
            while "failed" not in log:
                await checkpoint()
            await super().process(enqueue, set_desc)

    running = anyio.Event()

    class Root(Parent):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            nonlocal running
            running = anyio.Event()
            await super().process(enqueue, set_desc)

    recorder = run(backend, Root("root", log, Runs("a", log)), Fails(), num_workers=3, queue_type_name="queue")
    assert log == ["root", "failed", "a", "<a", "a>"]
    assert recorder.result is not None
    assert recorder.result.status == "failed"


@pytest.mark.parametrize("depth", [100_000])
def test_a_deep_chain_of_hooks(backend: Backend, depth: int) -> None:
    """Hooks of a chain 100,000 deep run one after the other, the deepest first."""
    order: list[int] = []

    class Link(Item):
        __slots__ = ("depth",)

        def __init__(self, depth: int) -> None:
            self.depth = depth

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            if self.depth < depth:
                enqueue(Link(self.depth + 1))

        async def after_children_processed(self) -> None:
            order.append(self.depth)

    result = run_queue([Link(1)], reporter="none", backend=backend)
    assert result.counts.completed == depth
    assert order == list(range(depth, 0, -1))
