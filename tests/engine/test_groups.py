"""The queue that goes by groups: its order, its limits, and that it loses nothing, whatever items and limits do.

The heap of the groups that may start an item is `_engine.candidates`; a group's limit is a class of `aqueue.limits`.
"""

import gc
import tracemalloc
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from heapq import heappop
from math import ceil
from random import Random
from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aqueue import Limit
from aqueue._engine.group_limits import GroupLimits
from aqueue._engine.groups import GroupedQueue
from aqueue._engine.item_class import ItemClass
from aqueue._engine.lines import Block, SpillingLine
from aqueue._engine.queues import QUEUE_TYPES, FifoQueue, PriorityQueue, QueueTypeName
from aqueue._engine.tree import Node
from aqueue._system.timers import Timers
from aqueue.errors import InvalidArgument, InvalidItem, ItemsNotComparable
from aqueue.limits import Limits

GROUPED: Final = ItemClass("m:Page", track_overall=False, hook=False, all_done=False, grouped=True)
STEP_S: Final = 2**-6
"""All times of these tests are multiples of it, so that adding them up is exact."""


class Page:
    """An item of a group, which may be one that can't be compared."""

    def __init__(self, group: Any, priority: int = 0, *, breaks: bool = False) -> None:
        self.group = group
        self.priority = priority
        self.breaks = breaks

    def __lt__(self, other: "Page") -> bool:
        if self.breaks or other.breaks:
            raise ValueError("neither more nor less")
        return self.priority < other.priority


class HandTimers(Timers):
    """Timers whose clock is moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0
        super().__init__(lambda: self.now)

    def advance(self, seconds: float) -> None:
        """Move the clock, and call what is due until then at its time."""
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            self.now = max(self.now, self._heap[0][0])
            heappop(self._heap)[2]()
        self.now = end

    @property
    def waiting(self) -> int:
        """How many timers are set."""
        return len(self._heap)


class Numbered:
    """Makes nodes with numbers that go up."""

    def __init__(self) -> None:
        self.last = 0

    def __call__(self, group: Any, priority: int = 0, *, breaks: bool = False) -> Node:
        self.last += 1
        return Node(self.last, Page(group, priority, breaks=breaks), None, GROUPED)


class HandSpills:
    """Spills nodes that were not tried yet; what is read back arrives when the test says so."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.num_spilled = 0
        self.num_lines = 1
        self.at_once = 2_000
        self.nodes: dict[int, Node] = {}
        self.reads: list[tuple[SpillingLine, Block]] = []

    def can_spill(self, node: Node) -> bool:
        return node.attempt == 1

    def read(self, line: SpillingLine, block: Block) -> None:
        self.reads.append((line, block))

    def answer(self, queue: GroupedQueue) -> None:
        """Let the first block that is being read arrive."""
        line, block = self.reads.pop(0)
        line.put_back([self.nodes[number] for number in block.numbers])
        queue.look_at_line(line)


def grouped(
    limits: Limits | None = None, kind: QueueTypeName = "queue", on_ready: Callable[[], None] = lambda: None
) -> tuple[GroupedQueue, HandTimers]:
    """Make a queue that goes by groups, and its timers."""
    timers = HandTimers()
    return GroupedQueue(
        QUEUE_TYPES[kind](), GroupLimits(limits), lambda: timers.now, timers, on_ready, lambda *_: None
    ), timers


def take_all(queue: GroupedQueue) -> list[int]:
    """Take, and release, what may start now."""
    taken = []
    while queue.is_ready:
        node = queue.take()
        queue.release(node)
        taken.append(node.id)
    return taken


LIMITS: Final = {
    "one": Limit(concurrent=1),
    "two": Limit(concurrent=2, per_second=4),
    "slow": Limit(per_second=0.25),
    "quick": Limit(per_second=32),
    "some": Limit(per_second=1, concurrent=3),
}
GROUPS: Final = [*LIMITS, "free", None]


class AgainstASlowModel(RuleBasedStateMachine):
    """The queue gives what a list that is searched from its beginning would give."""

    def __init__(self) -> None:
        super().__init__()
        self.numbered = Numbered()
        self.is_over = False
        self.readies = 0

    def on_ready(self) -> None:
        self.readies += 1

    @initialize(
        kind=st.sampled_from(sorted(QUEUE_TYPES)),
        plain=st.integers(0, 3),
        by_function=st.booleans(),
        may_break=st.booleans(),
        most=st.sampled_from([None, 1, 2, 5]),
    )
    def begin(self, kind: QueueTypeName, plain: int, by_function: bool, may_break: bool, most: int | None) -> None:
        self.kind = kind
        self.spills = None if most is None else HandSpills(most)
        self.may_break = may_break
        self.timers = HandTimers()
        queue = QUEUE_TYPES[kind]()
        if self.spills is not None:
            queue.spill(self.spills)
        self.waiting: list[Node] = []
        for _ in range(plain):
            node = self.numbered(None)
            if self.spills is not None:
                self.spills.nodes[node.id] = node
            queue.put(node)
            self.put_into_model(node, again=False)
        limits: Limits = LIMITS.get if by_function else LIMITS
        self.queue = GroupedQueue(
            queue,
            GroupLimits(limits),
            lambda: self.timers.now,
            self.timers,
            self.on_ready,
            lambda *_: None,
            self.spills,
        )
        assert not len(queue)
        self.running: list[Node] = []
        self.ended: list[Node] = []
        self.starts: dict[str | None, list[float]] = {}
        self.not_before: dict[str | None, float] = {}

    # ---- the model

    def put_into_model(self, node: Node, *, again: bool) -> None:
        """The list is in the order within each group; a stack's next is the first of it."""
        if self.kind == "priority":
            self.waiting.append(node)
            self.waiting.sort(key=lambda one: (one.item.priority, one.id))
        elif self.kind == "stack":
            self.waiting.insert(0, node)
        elif again:  # behind those that were put again before
            self.waiting.insert(sum(one.attempt > 1 for one in self.waiting), node)
        else:
            self.waiting.append(node)

    def may_start(self, group: str | None) -> bool:
        limit = LIMITS.get(group or "", Limit())
        now = self.timers.now
        if now < self.not_before.get(group, 0.0):
            return False
        if limit.concurrent is not None and sum(one.item.group == group for one in self.running) >= limit.concurrent:
            return False
        starts = self.starts.get(group, [])
        if limit.per_second is None:
            return True
        most = ceil(limit.per_second)
        few = max(1, most // 10)
        return all(len(starts) < number or now >= starts[-number] + number / limit.per_second for number in (most, few))

    def next_of_model(self) -> Node | None:
        heads: dict[str | None, Node] = {}
        for node in self.waiting:
            heads.setdefault(node.item.group, node)
        able = [node for group, node in heads.items() if self.may_start(group)]
        if not able:
            return None
        if self.kind == "priority":
            return min(able, key=lambda one: (one.item.priority, one.id))
        return max(able, key=lambda one: one.id) if self.kind == "stack" else min(able, key=lambda one: one.id)

    # ---- what happens

    @rule(number=st.integers(1, 3))
    def read(self, number: int) -> None:
        """Some of what is being read arrives."""
        for _ in range(number):
            if self.spills is not None and self.spills.reads:
                self.spills.answer(self.queue)

    def put(self, node: Node, *, again: bool) -> bool:
        if self.spills is not None:
            self.spills.nodes[node.id] = node
        try:
            (self.queue.put_again if again else self.queue.put)(node)
        except ItemsNotComparable:
            assert self.kind == "priority"
            assert node.item.breaks or any(one.item.breaks for one in self.waiting)
            return False
        self.put_into_model(node, again=again)
        return True

    @rule(group=st.sampled_from(GROUPS), priority=st.integers(0, 3), breaks=st.integers(0, 7))
    def enqueue(self, group: str | None, priority: int, breaks: int) -> None:
        self.put(self.numbered(group, priority, breaks=self.may_break and breaks == 7), again=False)

    @rule(index=st.integers(0, 50))
    def try_again(self, index: int) -> None:
        if self.ended:
            node = self.ended[index % len(self.ended)]
            node.attempt += 1
            if self.put(node, again=True):
                self.ended.remove(node)

    @rule(index=st.integers(0, 50), priority=st.integers(0, 3), breaks=st.booleans())
    def change(self, index: int, priority: int, breaks: bool) -> None:
        """What runs may change what it is ordered by: it is compared with nothing until it waits again."""
        if self.running:
            item = self.running[index % len(self.running)].item
            item.priority, item.breaks = priority, self.may_break and breaks

    @rule(index=st.integers(0, 50))
    def end(self, index: int) -> None:
        if self.ended:
            self.ended.pop(index % len(self.ended)).item = None

    @rule(times=st.integers(1, 4))
    def take(self, times: int) -> None:
        for _ in range(times):
            if self.is_over:
                return
            while self.spills is not None and self.spills.reads:
                self.spills.answer(self.queue)
            expected = self.next_of_model()
            breaks = any(one.item.breaks for one in self.waiting)
            assert self.queue.is_ready == (expected is not None) or breaks
            try:
                node = self.queue.take()
            except IndexError:
                assert expected is None
                return
            except ItemsNotComparable:
                assert breaks
                self.is_over = True
                return
            if not breaks:
                assert node is expected
            assert node in self.waiting
            group = node.item.group
            assert self.may_start(group)
            self.waiting.remove(node)
            self.running.append(node)
            starts = self.starts.setdefault(group, [])
            starts.append(self.timers.now)
            rate = LIMITS.get(group or "", Limit()).per_second
            if rate is not None:
                assert sum(at > self.timers.now - 1 for at in starts) <= ceil(rate), "too many in a second"
                if rate < 1:
                    assert sum(at > self.timers.now - 1 / rate for at in starts) <= 1, "more than the fraction"

    @rule(index=st.integers(0, 50))
    def release(self, index: int) -> None:
        if self.running:
            node = self.running.pop(index % len(self.running))
            self.queue.release(node)
            self.ended.append(node)

    @rule(steps=st.integers(1, 200))
    def wait(self, steps: int) -> None:
        self.timers.advance(steps * STEP_S)

    @rule(group=st.sampled_from(GROUPS[:-1]), steps=st.integers(0, 200))
    def slow_down(self, group: str, steps: int) -> None:
        self.queue.slow_down(group, steps * STEP_S)
        self.not_before[group] = max(self.not_before.get(group, 0.0), self.timers.now + steps * STEP_S)

    @rule()
    def reorder(self) -> None:
        try:
            self.queue.reorder()
        except ItemsNotComparable:
            assert any(one.item.breaks for one in self.waiting)
            self.is_over = True
        else:  # as a resume queues them: those that were tried before first, then in the order of their numbers
            sign = -1 if self.kind == "stack" else 1
            if self.kind != "priority":
                self.waiting.sort(key=lambda one: (one.attempt == 1, sign * one.id))

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        if hasattr(self, "queue"):
            assert len(self.queue) == len(self.waiting)
            if self.spills is None:
                assert Counter(one.id for one in self.queue) == Counter(one.id for one in self.waiting)
            else:
                assert {one.id for one in self.queue} <= {one.id for one in self.waiting}
            if self.next_of_model() is not None and (self.spills is None or not self.spills.reads):
                assert self.queue.is_ready or self.is_over or any(one.item.breaks for one in self.waiting)
            assert self.timers.waiting <= 2 * len(GROUPS)


TestAgainstASlowModel = AgainstASlowModel.TestCase
TestAgainstASlowModel.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


@pytest.mark.parametrize("kind", sorted(QUEUE_TYPES))
def test_one_item_that_waited_before_the_first_group_is_given(kind: QueueTypeName) -> None:
    """A single item that is taken over from a plain queue is not lost."""
    queue = QUEUE_TYPES[kind]()
    node = Numbered()(None)
    queue.put(node)
    timers = HandTimers()
    by_groups = GroupedQueue(queue, GroupLimits(None), lambda: timers.now, timers, lambda: None, lambda *_: None)
    assert by_groups.take() is node


def test_items_that_cannot_be_taken_over_stay_in_their_queue() -> None:
    """A comparison that raises while a priority queue is taken over loses nothing."""
    numbered = Numbered()
    queue = PriorityQueue()
    nodes = [numbered(None) for _ in range(5)]
    for node in nodes:
        queue.put(node)
    nodes[3].item.breaks = nodes[4].item.breaks = True
    timers = HandTimers()
    with pytest.raises(ItemsNotComparable):
        GroupedQueue(queue, GroupLimits(None), lambda: timers.now, timers, lambda: None, lambda *_: None)
    assert sorted(node.id for node in queue) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("when", ["release", "time"])
def test_a_comparison_that_raises_when_nobody_asks_is_told_to_who_takes_next(when: str) -> None:
    """Neither the item that ends nor the timer gets it; a worker is woken for it, and nothing is lost."""
    told = []
    limit = Limit(concurrent=1) if when == "release" else Limit(per_second=1)
    queue, timers = grouped({"a": limit}, "priority", lambda: told.append(True))
    numbered = Numbered()
    first, broken, other = numbered("a"), numbered("a", breaks=True), numbered("b")
    queue.put(first)
    assert queue.take() is first
    queue.put(broken)
    queue.put(other)
    told.clear()
    if when == "release":
        queue.release(first)
    else:
        timers.advance(2.0)
    assert told
    assert queue.is_ready
    with pytest.raises(ItemsNotComparable):
        queue.take()
    assert {node.id for node in queue} == {broken.id, other.id}


def test_a_node_that_runs_is_not_compared() -> None:
    """What a better item pushed aside, or slowing down held back, may change what it is ordered by once it runs."""
    for seed in range(300):
        random = Random(seed)
        queue, timers = grouped(None, "priority")
        numbered = Numbered()
        waiting = []
        for _ in range(60):
            chance = random.random()
            if chance < 0.5:
                waiting.append(numbered(f"group {random.randrange(3)}", random.randrange(9)))
                queue.put(waiting[-1])
            elif chance < 0.7:
                queue.slow_down(f"group {random.randrange(3)}", STEP_S)
                timers.advance(2 * STEP_S)
            elif waiting:
                node = queue.take()
                assert node is min(waiting, key=lambda one: (one.item.priority, one.id)), f"seed {seed}"
                waiting.remove(node)
                node.item.breaks = True
                if random.random() < 0.5:
                    node.item = None  # it has ended


@pytest.mark.parametrize("group", ["a", None])
def test_what_is_put_again_is_next_in_the_order_in_which_it_was(group: str | None) -> None:
    """In a queue, retries that find no worker free start in the order in which they became due, before all else."""
    queue, _ = grouped()
    numbered = Numbered()
    ran = [numbered(group) for _ in range(3)]
    for node in ran:
        queue.put(node)
    assert take_all(queue) == [1, 2, 3]
    for _ in range(2):
        queue.put(numbered(group))
    for node in reversed(ran):
        node.attempt += 1
        queue.put_again(node)
    assert take_all(queue) == [3, 2, 1, 4, 5]


def test_slowing_down_again_and_again_costs_no_memory() -> None:
    """A group that is slowed down a thousand times a second leaves nothing behind."""
    kinds: list[QueueTypeName] = ["queue", "stack", "priority"]
    for kind in kinds:
        queue, timers = grouped(None, kind)
        numbered = Numbered()
        for priority, group in enumerate(("first", "a", "last")):
            queue.put(numbered(group, priority))
        gc.collect()
        tracemalloc.start()
        for _ in range(10_000):
            queue.slow_down("a", STEP_S)
            timers.advance(2 * STEP_S)
        used = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert used < 200_000, f"{kind}: {used:,} bytes are left"
        assert len(take_all(queue)) == 3


def test_a_comparison_that_raises_while_candidates_are_tidied_loses_nothing() -> None:
    """Candidates that don't count any more are dropped all at once or not at all."""
    for seed in range(50):
        random = Random(seed)
        queue, timers = grouped(None, "priority")
        numbered = Numbered()
        for number in range(8):
            queue.put(numbered(f"group {number}", number))
        nodes = sorted(queue, key=lambda one: one.id)
        for _ in range(random.randrange(60, 90)):
            queue.slow_down("group 7", STEP_S)  # the last in order: what it leaves in the heap stays there
            timers.advance(2 * STEP_S)
        broken = nodes[random.randrange(7)].item  # from now on: an item that changed
        broken.breaks = True
        with suppress(ItemsNotComparable):
            queue.put(numbered("group 7", 6))
        broken.breaks = False
        left = len(queue)
        assert left >= 8
        assert len(take_all(queue)) == left, f"seed {seed}"


def test_comparing_must_not_enqueue() -> None:
    """An item whose comparison enqueues another one is refused; what waited stays as it was."""
    numbered = Numbered()
    queue, _ = grouped(None, "priority")

    class Sneaky(Page):
        def __lt__(self, other: Page) -> bool:
            queue.put(numbered("a", -1))
            return super().__lt__(other)

    for priority in (1, 2, 3):
        queue.put(numbered("a", priority))
    with pytest.raises(ItemsNotComparable):
        queue.put(Node(99, Sneaky("a", 0), None, GROUPED))
    assert take_all(queue) == [1, 2, 3]


@pytest.mark.parametrize("kind", sorted(QUEUE_TYPES))
def test_reordering_keeps_the_order_where_nothing_changed(kind: QueueTypeName) -> None:
    """Putting every node into its place anew changes nothing if no item was changed."""
    given, _ = grouped(None, kind)
    again, _ = grouped(None, kind)
    for queue in (given, again):
        numbered = Numbered()
        for number in range(20):
            queue.put(numbered(f"group {number % 3}"))
    again.reorder()
    assert take_all(again) == take_all(given)


def test_a_refused_node_stays_refused_when_all_are_put_in_order_again() -> None:
    """Its group isn't asked again: it might raise once more, or let the node into a limit that it never leaves."""
    queue, _ = grouped({"a": Limit(concurrent=1)})
    numbered = Numbered()
    refused, other = numbered("a"), numbered("a")
    error = LookupError("no host")
    queue.put_refused(refused, error, again=False)
    queue.put(other)
    queue.reorder()
    assert [queue.take(), queue.take()] == [refused, other]
    with pytest.raises(LookupError) as caught:
        queue.check(refused)
    assert caught.value is error
    queue.check(refused)  # the next attempt is like any other


def test_what_was_put_again_stays_next_when_the_first_group_is_seen() -> None:
    """Retries that wait when the queue begins to go by groups keep their places before all others."""
    numbered = Numbered()
    plain = FifoQueue()
    for _ in range(3):
        plain.put(numbered(None))
    timers = HandTimers()
    again = [plain.take(), plain.take()]
    for node in again:
        node.attempt += 1
        plain.put_again(node)
    queue = GroupedQueue(plain, GroupLimits(None), lambda: timers.now, timers, lambda: None, lambda *_: None)
    late = numbered(None)
    late.attempt += 1
    queue.put_again(late)
    assert take_all(queue) == [1, 2, 4, 3]


@pytest.mark.parametrize("limit", [Limit(concurrent=1), Limit(per_second=100), Limit(concurrent=2, per_second=0.5)])
def test_groups_that_come_and_go_are_forgotten(limit: Limit) -> None:
    """30,000 groups, one after the other, cost no more memory than some."""
    queue, timers = grouped({"*": limit})
    numbered = Numbered()

    def come_and_go(count: int) -> None:
        for _ in range(count):
            queue.put(numbered(f"host {numbered.last}"))
            node = queue.take()
            timers.advance(0.001)
            queue.release(node)

    come_and_go(5_000)
    gc.collect()
    tracemalloc.start()
    come_and_go(25_000)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used < 1_600_000, f"{used:,} bytes more"
    assert len(queue._groups) < 5_000


class Counting(Page):
    """An item that counts how often it is compared."""

    compared = 0

    def __lt__(self, other: Page) -> bool:
        Counting.compared += 1
        return super().__lt__(other)


def test_taking_an_item_costs_no_more_with_10_000_saturated_groups() -> None:
    """Groups that run as many as they may are passed over without being looked at."""

    def cost(saturated: int) -> int:
        queue, _ = grouped({"free": Limit(), "*": Limit(concurrent=1)}, "priority")
        for number in range(2 * saturated):
            queue.put(Node(number + 1, Counting(f"host {number // 2}", 0), None, GROUPED))
        for _ in range(saturated):
            queue.take()
        assert len(queue) == saturated
        assert not queue.is_ready
        for number in range(10):
            queue.put(Node(3 * saturated + number, Counting("free", 1), None, GROUPED))
        Counting.compared = 0
        for _ in range(10):
            assert queue.take().item.group == "free"
        return Counting.compared

    assert cost(10_000) <= cost(10)


def _steps(function: Callable[[], object]) -> int:
    """Count the lines that are run."""
    import sys

    lines = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize("kind", ["queue", "stack"])
def test_taking_takes_as_many_steps_with_10_000_groups_as_with_10(kind: QueueTypeName) -> None:
    """A take, and the release after it, run as many lines of code, however many groups are saturated."""

    def steps(saturated: int) -> int:
        queue, _ = grouped({"free": Limit(concurrent=3), "*": Limit(concurrent=1)}, kind)
        numbered = Numbered()
        for number in range(2 * saturated):
            queue.put(numbered(f"host {number // 2}"))
        for _ in range(saturated):
            queue.take()
        for _ in range(10):
            queue.put(numbered("free"))

        def take_and_release() -> None:
            for _ in range(10):
                queue.release(queue.take())

        take_and_release()  # looks once for groups to forget: that is paid for by the groups that came
        for _ in range(10):
            queue.put(numbered("free"))
        return _steps(take_and_release)

    assert steps(10_000) == steps(10)


@pytest.mark.parametrize("group", [7, b"host", ["host"]])
def test_a_group_that_is_no_string_is_refused(group: Any) -> None:
    """It is told at once, naming class and value, and the queue is as it was."""
    queue, _ = grouped()
    with pytest.raises(InvalidItem, match=r"m:Page\.group is .*; it must be a string or None"):
        queue.put(Numbered()(group))
    assert not len(queue)


def test_a_function_that_gives_no_limit_is_refused() -> None:
    """What is neither a Limit nor None is told at once, naming the group."""
    queue, _ = grouped(lambda name: 5)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match=r"limits returned 5 for the group 'host'"):
        queue.put(Numbered()("host"))
    assert not len(queue)
    assert list(queue) == []


def test_a_high_rate_costs_no_more_a_start() -> None:
    """Of a group that may start 100,000 a second not all starts are moved at each one."""
    queue, timers = grouped({"a": Limit(per_second=100_000)})
    numbered = Numbered()
    for _ in range(250_000):
        queue.put(numbered("a"))
    taken = 0
    while len(queue):
        taken += len(take_all(queue))
        timers.advance(0.01)
    assert taken == 250_000
    assert timers.now - 1_000.0 >= 2.4
