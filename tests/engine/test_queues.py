"""The order in which items are taken: first in first out, last in first out, by priority."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aqueue import Backend, EnqueueFn, Item, ItemsNotComparable, SetDescFn, run_queue
from aqueue._engine.item_class import look_up_class
from aqueue._engine.queues import PriorityQueue
from aqueue._engine.tree import Node
from aqueue.events import ItemEnqueued, ItemStarted
from aqueue.testing import EventRecorder
from tests.engine.invariants import check_events
from tests.engine.jobs import Do


class Named(Item):
    """Says when it runs, then enqueues its children."""

    def __init__(self, name: str, log: list[str], *children: Item) -> None:
        self.name = name
        self.log = log
        self.children = children

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.log.append(self.name)
        for child in self.children:
            enqueue(child)


class Ranked(Named):
    """A Named that is ordered by the number before the dash."""

    def __lt__(self, other: "Ranked") -> bool:
        return int(self.name.split("-")[0]) < int(other.name.split("-")[0])


def _tree(log: list[str]) -> list[Item]:
    return [
        Named("a", log, Named("a1", log, Named("a11", log)), Named("a2", log)),
        Named("b", log, Named("b1", log)),
    ]


@pytest.mark.parametrize(
    ("queue_type_name", "order"),
    [("queue", "a b a1 a2 b1 a11"), ("stack", "b b1 a a2 a1 a11")],
)
def test_one_worker_takes_items_in_exactly_this_order(backend: Backend, queue_type_name: Any, order: str) -> None:
    """A queue goes through the tree breadth first, a stack depth first, the last enqueued first."""
    log: list[str] = []
    run_queue(_tree(log), num_workers=1, queue_type_name=queue_type_name, reporter="none", backend=backend)
    assert " ".join(log) == order


def test_the_least_item_is_taken_first_and_equal_ones_as_they_came(backend: Backend) -> None:
    """A priority queue is stable, for children among items that were there before, too."""
    log: list[str] = []
    children = [Ranked("1-child", log), Ranked("2-child", log), Ranked("0-child", log)]
    items = [Ranked("2-a", log), Ranked("1-b", log, *children), Ranked("2-c", log), Ranked("1-d", log)]
    run_queue(items, num_workers=1, queue_type_name="priority", reporter="none", backend=backend)
    assert log == ["1-b", "0-child", "1-d", "1-child", "2-a", "2-c", "2-child"]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_priority_order_is_that_of_a_stable_sort(ranks: list[int]) -> None:
    """With one worker, initial items run in the order that `sorted` gives them."""
    log: list[str] = []
    names = [f"{rank}-{number}" for number, rank in enumerate(ranks)]
    items = [Ranked(name, log) for name in names]
    run_queue(items, num_workers=1, queue_type_name="priority", reporter="none")
    assert log == sorted(names, key=lambda name: int(name.split("-")[0]))


class Unordered(Named):
    """An item without `<`."""


def test_initial_items_that_can_not_be_compared(backend: Backend) -> None:
    """The second one raises an error that names both classes and says what to do, and nothing runs."""
    log: list[str] = []
    with pytest.raises(ItemsNotComparable, match=r"test_queues:Unordered with .*test_queues:Ranked.*define __lt__"):
        run_queue([Ranked("1", log), Unordered("u", log)], queue_type_name="priority", reporter="none", backend=backend)
    assert log == []


def test_enqueue_refuses_what_can_not_be_compared_and_the_item_goes_on(backend: Backend) -> None:
    """`enqueue` raises, announces nothing, queues nothing, and the rest runs to its end."""
    log: list[str] = []
    caught: list[TypeError] = []

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        enqueue(Ranked("2", log))
        try:
            enqueue(Unordered("u", log))
        except ItemsNotComparable as error:
            caught.append(error)
        enqueue(Ranked("1", log))

    recorder = EventRecorder()
    result = run_queue([Do(process)], queue_type_name="priority", num_workers=1, reporter=recorder, backend=backend)
    assert log == ["1", "2"]
    assert len(caught) == 1
    assert result.status == "completed"
    assert len(recorder.of(ItemEnqueued)) == 3
    check_events(recorder.events)


class Fickle(Named):
    """Compares until told to stop; `error` is what it raises then."""

    error: BaseException | None = None

    def __lt__(self, other: "Fickle") -> bool:
        if Fickle.error is not None:
            raise Fickle.error
        return self.name < other.name


@pytest.fixture
def unfickle(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let a test make comparisons raise, and undo that after it."""
    monkeypatch.setattr(Fickle, "error", None)
    return monkeypatch


def _fickle_items(log: list[str], error: BaseException, unfickle: pytest.MonkeyPatch) -> list[Item]:
    class First(Fickle):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            await super().process(enqueue, set_desc)
            unfickle.setattr(Fickle, "error", error)

    return [First("a", log), *(Fickle(name, log) for name in "bcdef")]


def test_a_comparison_that_fails_when_an_item_is_taken_stops_the_run(
    backend: Backend, unfickle: pytest.MonkeyPatch
) -> None:
    """The run is stopped gracefully and raises ItemsNotComparable; reporters see the whole, and nothing is lost."""
    log: list[str] = []
    error = ZeroDivisionError("no order")
    recorder = EventRecorder()
    with pytest.raises(ItemsNotComparable, match=r"Fickle with .*Fickle raised ZeroDivisionError") as caught:
        run_queue(
            _fickle_items(log, error, unfickle),
            queue_type_name="priority",
            num_workers=1,
            reporter=recorder,
            backend=backend,
        )
    assert caught.value.__cause__ is error
    assert log == ["a"]
    check_events(recorder.events)
    assert recorder.result is not None
    assert (recorder.result.status, recorder.result.counts.outstanding) == ("interrupted", 5)


def test_a_comparison_that_exits_when_an_item_is_taken_comes_out_bare(
    backend: Backend, unfickle: pytest.MonkeyPatch
) -> None:
    """SystemExit from `<` ends the run as one from an item does."""
    error = SystemExit(3)
    with pytest.raises(SystemExit) as caught:
        run_queue(
            _fickle_items([], error, unfickle),
            queue_type_name="priority",
            num_workers=1,
            reporter="none",
            backend=backend,
        )
    assert caught.value is error


def test_a_comparison_that_enqueues_is_refused(backend: Backend) -> None:
    """`<` that changes the queue while it is searched would lose an item: it is an error."""

    class Meddling(Item):
        enqueue: EnqueueFn | None = None

        def __lt__(self, other: object) -> bool:
            if Meddling.enqueue is not None:
                enqueue, Meddling.enqueue = Meddling.enqueue, None
                enqueue(Meddling())
            return False

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            pass

    caught: list[ItemsNotComparable] = []

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        enqueue(Meddling())
        Meddling.enqueue = enqueue
        try:
            enqueue(Meddling())
        except ItemsNotComparable as error:
            caught.append(error)

    result = run_queue([Do(process)], queue_type_name="priority", num_workers=1, reporter="none", backend=backend)
    assert "__lt__ must only compare" in str(caught[0])
    assert result.counts.completed == 3


class Value(Item):
    """An item whose comparison raises once `fails_after` has come down to 0."""

    fails_after = -1

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def __lt__(self, other: "Value") -> bool:
        if Value.fails_after == 0:
            raise RuntimeError("no order")
        Value.fails_after -= 1
        return self.rank < other.rank


class PriorityQueueMachine(RuleBasedStateMachine):
    """The priority queue against a list that is kept sorted, with comparisons that raise now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = PriorityQueue()
        self.model: list[tuple[int, int]] = []
        self.number = 0
        self.cls = look_up_class(Value(0))

    @rule(rank=st.integers(0, 5), fails_after=st.none() | st.integers(0, 4))
    def put(self, rank: int, fails_after: int | None) -> None:
        self.number += 1
        node = Node(self.number, Value(rank), None, self.cls)
        Value.fails_after = -1 if fails_after is None else fails_after
        try:
            self.queue.put(node)
        except ItemsNotComparable:
            assert fails_after is not None
        else:
            self.model = sorted([*self.model, (rank, self.number)])
        finally:
            Value.fails_after = -1

    @rule()
    def take(self) -> None:
        if self.model:
            node = self.queue.take()
            assert (node.item.rank, node.id) == self.model.pop(0)
        else:
            with pytest.raises(IndexError):
                self.queue.take()

    @rule(fails_after=st.integers(0, 4))
    def take_with_a_failing_comparison(self, fails_after: int) -> None:
        """It may succeed; if it raises, all nodes are still there (their order is not: a run ends with that)."""
        Value.fails_after = fails_after
        try:
            node = self.queue.take()
        except IndexError:
            assert not self.model
        except ItemsNotComparable:
            Value.fails_after = -1
            assert sorted((node.item.rank, node.id) for node in self.queue) == self.model
            left, self.queue = list(self.queue), PriorityQueue()
            for node in left:
                self.queue.put(node)
        else:
            assert (node.item.rank, node.id) == self.model.pop(0)
        finally:
            Value.fails_after = -1

    @invariant()
    def has_as_many(self) -> None:
        assert len(self.queue) == len(self.model)


TestPriorityQueue = PriorityQueueMachine.TestCase


def test_workers_share_the_order(backend: Backend) -> None:
    """With many workers items start in the queue's order, too."""
    log: list[str] = []
    recorder = EventRecorder()
    run_queue([Named(str(number), log) for number in range(50)], num_workers=7, reporter=recorder, backend=backend)
    assert [event.item for event in recorder.of(ItemStarted)] == list(range(1, 51))
