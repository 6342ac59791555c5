"""The same items do the same on a cluster as in one process: each promise about items, tried in both.

The engine asks `_engine.places` for what runs elsewhere; its workers there are `_engine.remote_workers`.
"""

import asyncio
import re
import socket
import threading
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import anyio
import pytest
from anyio.lowlevel import checkpoint

import aqueue
from aqueue import (
    Backend,
    EnqueueFn,
    InvalidItem,
    InvalidResult,
    Item,
    ItemFailures,
    LeakedCancelScope,
    Limit,
    MisplacedCall,
    Retry,
    RetryAfter,
    RunResult,
    SetDescFn,
    StrayCancellation,
    UnsendableItem,
    run_queue,
)
from aqueue.events import (
    ItemChildrenProcessed,
    ItemCompleted,
    ItemDescribed,
    ItemEnqueued,
    ItemFailed,
    ItemInterrupted,
    ItemRetryScheduled,
    ItemStarted,
    RunResumed,
    RunStopping,
)
from aqueue.testing import EventRecorder
from tests.cluster.memory_transport import MemoryTransport
from tests.engine.invariants import check_events, check_workers
from tests.journal.oracle import told_by
from tests.journal.recorded import cut, events_of

seen: list[Any] = []
"""What the items of a run have told: all of its lanes are in this process."""


@pytest.fixture(params=[None, "local:2"], ids=["here", "cluster"])
def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str | None]:
    """Say where the items run; the test is run for both."""
    seen.clear()
    MemoryTransport(Random(1)).use(monkeypatch)
    yield request.param
    seen.clear()


@dataclass
class Done:
    """What came of a run.

    Attributes:
        result: what it came to, if it says so.
        error: what it raised.
        recorder: heard its events.
    """

    result: RunResult | None
    error: BaseException | None
    recorder: EventRecorder

    @property
    def failures(self) -> list[Exception]:
        """The exceptions of the items that failed."""
        assert isinstance(self.error, ItemFailures), self.error
        return list(self.error.exceptions)

    def described(self) -> dict[int, list[str]]:
        """Return what each item said of itself."""
        told: dict[int, list[str]] = {}
        for event in self.recorder.of(ItemDescribed):
            told.setdefault(event.item, []).append(event.text)
        return told

    def tree(self) -> list[tuple[int, str, str | None]]:
        """Return what each item enqueued, in its order."""
        return sorted(
            ((event.parent, event.type, event.key) for event in self.recorder.of(ItemEnqueued)),
            key=lambda one: one[0],
        )


def run(items: list[Any], **arguments: Any) -> Done:
    """Run items, and check what holds for any run."""
    recorder = EventRecorder()
    result, error = None, None
    try:
        result = run_queue(items, reporter=recorder, **arguments)
    except BaseException as raised:
        error = raised
        if isinstance(raised, ItemFailures):
            result = raised.result
    if recorder.events and not isinstance(recorder.events[0], RunResumed):
        check_workers(recorder.events)
        if arguments.get("cluster") is None:
            check_events(recorder.events)
    return Done(result, error, recorder)


class Calls(Item):
    """Does what a function of this module does, and has a number."""

    def __init__(self, function: Callable[..., Any], number: int = 0) -> None:
        self.function = function
        self.number = number

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> Any:
        return await self.function(self, enqueue, set_desc)


class CallsRetried(Calls):
    """One that is tried three times."""

    retry: ClassVar[Any] = Retry(attempts=3, first_s=0.0)


# ---- results, hooks, descriptions -------------------------------------------------------------------------------


class Tree(Item):
    """Has children down to a depth, whose results its hook gathers; it is one of its children's attributes."""

    def __init__(self, depth: int, parent: "Tree | None" = None) -> None:
        self.depth = depth
        self.parent = parent
        self.left = ""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> Any:
        for number in range(2 if self.depth else 0):
            set_desc(f"child {number}")
            await checkpoint()
            enqueue(Tree(self.depth - 1, self))
        set_desc(f"\x1b[2J{'x' * 2_000}")
        self.left = f"left at {self.depth}"
        return None if self.depth % 2 else {"depth": self.depth, "pair": (1, 2.5, None)}

    async def after_children_processed(self) -> Any:
        assert self.left == f"left at {self.depth}"
        seen.append((self, self.parent))
        return [self.depth, *aqueue.child_results()]


def test_results_hooks_and_descriptions_are_the_same(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results, what hooks see of results, state and parents, and what items say of themselves, in its order."""
    MemoryTransport(Random(1)).use(monkeypatch)
    done = {}
    for cluster in (None, "local:2"):
        seen.clear()
        journal = tmp_path / f"{cluster}.db"
        one = done[cluster] = run([Tree(3), Tree(1)], cluster=cluster, backend=backend, journal=journal)
        told_by(events_of(journal))
        assert len(seen) == 15 + 3
        items = {id(item) for item, _ in seen}
        for item, parent in seen:
            assert parent is None or (id(parent) in items and parent.depth == item.depth + 1)
        assert one.error is None
    here, there = done[None], done["local:2"]
    assert here.result is not None
    assert there.result is not None
    assert here.result.root_results == there.result.root_results
    assert here.result.counts == there.result.counts
    assert Counter(map(tuple, here.described().values())) == Counter(map(tuple, there.described().values()))
    assert here.tree()[:4] == there.tree()[:4]
    assert here.described()[1][-1] == there.described()[1][-1]


class Link(Item):
    """Is one of a chain, each of which holds the one before as its parent."""

    def __init__(self, number: int, parent: "Link | None" = None, older: "Link | None" = None) -> None:
        self.number = number
        self.parent = parent
        self.older = older

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        if self.number:
            enqueue(Link(self.number - 1, self, self.parent.parent if self.parent else None))

    async def after_children_processed(self) -> None:
        seen.append(self)


@pytest.mark.parametrize("has_journal", [False, True], ids=["no journal", "journal"])
def test_an_item_may_hold_a_long_chain_of_ancestors(cluster: str | None, has_journal: bool, tmp_path: Path) -> None:
    """However long it is, and also those that only another ancestor holds, each as that object itself."""
    journal = tmp_path / "run.db" if has_journal else None
    done = run([Link(400)], cluster=cluster, journal=journal)
    assert done.error is None
    chain = {item.number: item for item in seen}
    assert len(chain) == 401
    for number in range(398):
        assert chain[number].parent is chain[number + 1]
        assert chain[number].older is chain[number + 3 if number < 398 else None]


class Spoiled(Link):
    """Can't be made in a lane any more once its child has run."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        if seen and threading.current_thread() is not threading.main_thread():
            raise ValueError("spoiled")
        vars(self).update(state)

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        if self.parent is not None:
            seen.append(1)
        enqueue(Spoiled(self.number + 1, self))


def test_an_ancestor_that_can_not_be_made_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the item, and why; it doesn't repeat itself for each ancestor in between."""
    seen.clear()
    MemoryTransport(Random(1)).use(monkeypatch)
    [error] = run([Spoiled(0)], cluster="local:1").failures
    assert str(error).count("can't be restored") == 1
    assert re.search(r"can't load item 3 \(.*:Spoiled\): .*ValueError: spoiled", str(error))


class Keyed(Item):
    """Is known by its key."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def key(self) -> str:
        return self.name

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for name in "abcab":
            enqueue(Keyed(name))


def test_keys_drop_what_is_known(cluster: str | None, backend: Backend) -> None:
    """Each key runs once, whoever enqueues it, and the others are counted as dropped."""
    done = run([Keyed("a"), Keyed("d")], cluster=cluster, backend=backend)
    assert done.result is not None
    assert sorted(event.key or "" for event in done.recorder.of(ItemEnqueued)) == ["a", "b", "c", "d"]
    assert done.result.counts.deduplicated == 4 * 5 - 2


async def enqueue_and_see(item: Calls, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Enqueue an item, and wait until that has run, before this one has ended."""
    enqueue(Calls(tell))
    while not seen:
        await anyio.sleep(0.001)


async def tell(item: Calls, enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
    """Note the item's number."""
    seen.append(item.number)
    return item.number


def test_children_run_while_their_parent_does(cluster: str | None, backend: Backend) -> None:
    """What `process` enqueues can be taken at once."""
    done = run([Calls(enqueue_and_see)], cluster=cluster, backend=backend, num_workers=2)
    assert done.error is None
    assert len(done.tree()) == 2


# ---- attempts ---------------------------------------------------------------------------------------------------


async def fail_twice(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> Any:
    """Fail two times, changing the item, and enqueue the same children each time."""
    item.tries = [*getattr(item, "tries", []), aqueue.current().attempt]
    enqueue(Calls(tell, 1))
    enqueue(Calls(tell, 1))
    seen.append((aqueue.current().attempt, aqueue.current().attempts_left))
    if aqueue.current().attempt == 1:
        raise ValueError("the first")
    if aqueue.current().attempt == 2:
        raise RetryAfter(0.001)
    enqueue(Calls(tell, 2))
    return item.tries


def test_an_item_is_tried_again_with_what_it_left(cluster: str | None, backend: Backend) -> None:
    """With the state of the failed attempt, and without doubling the children that this had enqueued."""
    done = run([CallsRetried(fail_twice)], cluster=cluster, backend=backend)
    assert done.result is not None
    assert done.result.root_results == [[1, 2, 3]]
    assert [one for one in seen if isinstance(one, tuple)] == [(1, 2), (2, 1), (3, 0)]
    assert sorted(one for one in seen if isinstance(one, int)) == [1, 1, 2]
    scheduled = done.recorder.of(ItemRetryScheduled)
    assert [event.error.type for event in scheduled] == ["ValueError", "aqueue.retry:RetryAfter"]
    assert done.result.counts.retried == 2


class Found:
    """Compares by identity."""


async def fail_with_found(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Fail after enqueuing a child that nothing tells from another one of the next attempt."""
    enqueue(CallsWith(tell, Found()))
    raise ValueError("the first")


class CallsWith(Calls):
    """One that holds something else, too."""

    def __init__(self, function: Callable[..., Any], found: object) -> None:
        super().__init__(function)
        self.found = found


def test_children_that_can_not_be_told_apart_fail_the_next_attempt(cluster: str | None, backend: Backend) -> None:
    """The item fails for good, and names what it can't tell."""
    # With "stop", the second attempt could stop the run before the child of the first one starts.
    done = run([CallsRetried(fail_with_found)], cluster=cluster, backend=backend, on_error="continue")
    assert isinstance(done.error, ItemFailures)
    [error] = done.error.exceptions
    assert isinstance(error, aqueue.ChildrenNotComparable)
    assert f"child of class {__name__}:CallsWith can't be compared" in str(error)
    assert "'found'" in str(error)
    assert seen == [0]


async def ask_once(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> Any:
    """Ask to be tried again, without a policy."""
    if aqueue.current().attempt == 1:
        item.number = 41
        raise RetryAfter(0.0)
    return item.number + 1


async def ask_after_enqueue(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> Any:
    """Ask to be tried again when it is too late for that, without a policy."""
    enqueue(Calls(tell))
    raise RetryAfter(0.0)


def test_an_item_without_a_policy_may_ask_for_another_attempt(cluster: str | None, backend: Backend) -> None:
    """Before it enqueues anything; afterwards that is misplaced."""
    done = run([Calls(ask_once)], cluster=cluster, backend=backend)
    assert done.result is not None
    assert done.result.root_results == [42]
    [error] = run([Calls(ask_after_enqueue)], cluster=cluster, backend=backend).failures
    assert isinstance(error, MisplacedCall)
    assert isinstance(error.__cause__, RetryAfter)


class TimedOut(Calls):
    """Has little time."""

    timeout_s: ClassVar[float | None] = 0.02


async def wait_at_this_place(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Wait for longer than there is time."""
    try:
        await anyio.sleep_forever()
    finally:
        seen.append("cancelled")


def test_a_timeout_shows_where_the_item_was(cluster: str | None, backend: Backend) -> None:
    """The item is cancelled, and its `TimeoutError` has the place in its traceback."""
    done = run([TimedOut(wait_at_this_place)], cluster=cluster, backend=backend)
    [error] = done.failures
    assert isinstance(error, TimeoutError)
    assert "the attempt took longer than timeout_s=0.02" in str(error)
    assert "in wait_at_this_place" in "".join(traceback.format_exception(error))
    [failed] = done.recorder.of(ItemFailed)
    assert "in wait_at_this_place" in failed.error.traceback
    assert seen == ["cancelled"]


# ---- order and limits -------------------------------------------------------------------------------------------


class Grouped(Item):
    """Notes how many of its group are under way."""

    def __init__(self, group: str) -> None:
        self.group = group

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        seen.append((self.group, 1))
        await anyio.sleep(0.002)
        seen.append((self.group, -1))


def test_limits_hold_over_all_processes(cluster: str | None, backend: Backend) -> None:
    """Never do more items of a group run than it is allowed, on however many processes."""
    done = run(
        [Grouped(group) for _ in range(12) for group in ("a", "b")],
        cluster=cluster,
        backend=backend,
        num_workers=6,
        limits={"a": Limit(concurrent=1), "b": Limit(concurrent=3)},
    )
    assert done.error is None
    most = {"a": 0, "b": 0}
    now = {"a": 0, "b": 0}
    for group, change in seen.copy():
        now[group] += change
        most[group] = max(most[group], now[group])
    assert most["a"] == 1
    assert 2 <= most["b"] <= 3


class Ranked(Item):
    """Has a rank, and two children of higher ones."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def __lt__(self, other: "Ranked") -> bool:
        return self.rank < other.rank

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        seen.append(self.rank)
        if self.rank < 10:
            enqueue(Ranked(self.rank + 20))
            enqueue(Ranked(self.rank + 10))


@pytest.mark.parametrize(
    ("queue", "expected"),
    [
        ("queue", [5, 1, 3, 25, 15, 21, 11, 23, 13]),
        ("stack", [3, 13, 23, 1, 11, 21, 5, 15, 25]),
        ("priority", [1, 3, 5, 11, 13, 15, 21, 23, 25]),
    ],
)
def test_items_are_taken_in_the_order_of_the_queue(
    queue: str, expected: list[int], backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one worker in one process that is the order here as there."""
    for cluster in (None, "local:1"):
        seen.clear()
        MemoryTransport(Random(1), 1).use(monkeypatch)
        done = run(
            [Ranked(5), Ranked(1), Ranked(3)],
            cluster=cluster,
            backend=backend,
            num_workers=1,
            queue_type_name=queue,
        )
        assert done.error is None
        assert seen == expected


class Incomparable(Calls):
    """Can't be compared."""


def test_items_that_can_not_be_ordered_end_the_run(cluster: str | None, backend: Backend) -> None:
    """Also where they come as children, out of another process."""
    done = run(
        [Calls(enqueue_incomparable)], cluster=cluster, backend=backend, queue_type_name="priority", num_workers=1
    )
    assert done.error is not None
    assert "ItemsNotComparable" in "".join(traceback.format_exception(done.error))


async def enqueue_incomparable(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Enqueue items that can't be compared."""
    for _ in range(10):
        enqueue(Incomparable(tell))


# ---- what items may ask -----------------------------------------------------------------------------------------


class Asks(Item):
    """Notes what there is to be known, in its hook as well."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await self.after_children_processed()

    async def after_children_processed(self) -> None:
        seen.append(aqueue.current())
        seen.append(await anyio.to_thread.run_sync(aqueue.current))


def test_current_is_the_same(cluster: str | None, backend: Backend, tmp_path: Path) -> None:
    """Number, class, attempt, phase, worker, idempotency key, attempts left; in threads, too."""
    done = run([Asks()], cluster=cluster, backend=backend, journal=tmp_path / "run.db")
    assert done.error is None
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]
    assert {len(one.idempotency_key) for one in seen} == {32}
    assert seen[0].idempotency_key == seen[2].idempotency_key
    started: dict[str, int] = {event.phase: event.worker for event in done.recorder.of(ItemStarted)}
    for one, phase in ((seen[0], "process"), (seen[2], "after_children")):
        assert (one.id, one.type, one.attempt, one.phase) == (1, "tests.cluster.test_parity:Asks", 1, phase)
        assert one.worker == started[phase]
        assert one.attempts_left == 4


@asynccontextmanager
async def lifespan() -> AsyncIterator[int]:
    """Yield the thread's number, which stands for the process's."""
    yield threading.get_ident()


async def see_shared(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Note what is shared."""
    seen.append(("process", aqueue.shared() == threading.get_ident()))
    await anyio.sleep(0.002)


class SeesShared(Calls):
    """Looks in its hook, too."""

    async def after_children_processed(self) -> None:
        seen.append(("hook", aqueue.shared() == threading.main_thread().ident))


def test_what_the_lifespan_yields_is_shared_by_process(cluster: str | None, backend: Backend) -> None:
    """Each item finds that of the process that runs it, and hooks find the coordinator's."""
    done = run([SeesShared(see_shared) for _ in range(8)], cluster=cluster, backend=backend, lifespan=lifespan)
    assert done.error is None
    assert Counter(seen) == {("process", True): 8, ("hook", True): 8}


async def stop_here(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
    """Stop the run, from a thread."""
    await anyio.to_thread.run_sync(aqueue.stop, "enough\x1b")
    while item.number:
        await anyio.sleep(0.001)
    return 4


def test_an_item_may_stop_the_run(cluster: str | None, backend: Backend) -> None:
    """The reason is told, the item ends, and nothing more is taken."""
    done = run([Calls(stop_here), *(Calls(tell) for _ in range(9))], cluster=cluster, backend=backend, num_workers=1)
    assert done.result is not None
    assert done.result.status == "interrupted"
    assert done.result.stop_reason == r"enough\x1b"
    assert done.result.root_results[0] == 4
    assert done.result.counts.completed + done.result.counts.outstanding == 10
    assert done.result.counts.outstanding > 0


class Paused(Grouped):
    """Pauses its group, the first time."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        seen.append(time.monotonic())
        if len(seen) == 1:
            aqueue.slow_down("a", 0.1)
            with pytest.raises(aqueue.InvalidArgument, match=r"slow_down\(group=…\) is 5; it must be a group's name"):
                aqueue.slow_down(5, 1.0)  # type: ignore[arg-type]


def test_an_item_may_slow_its_group_down(cluster: str | None, backend: Backend) -> None:
    """Nothing of the group starts before the pause is over, in any process."""
    done = run(
        [Paused("a"), Paused("a"), Paused("a")], cluster=cluster, backend=backend, limits={"a": Limit(concurrent=1)}
    )
    assert done.error is None
    assert min(seen[1:]) - seen[0] > 0.09


def test_limits_of_a_run_stop_it(cluster: str | None, backend: Backend) -> None:
    """`max_items`, `max_failures` and `stop_after_s` end a run for the same reason."""
    items = [Calls(tell, number) for number in range(20)]
    done = run(items, cluster=cluster, backend=backend, num_workers=1, max_items=5)
    assert done.result is not None
    assert (done.result.counts.completed, done.result.stop_reason) == (5, "max_items=5 was reached")
    done = run(
        [Calls(fail, number) for number in range(20)],
        cluster=cluster,
        backend=backend,
        num_workers=1,
        on_error="continue",
        max_failures=3,
    )
    assert done.result is not None
    assert done.result.stop_reason == "max_failures=3 was reached"
    assert 3 <= done.result.counts.failed <= 4  # two processes may be at one each
    # Long enough for the item to begin elsewhere, also on a busy machine.
    done = run([Calls(sleep)], cluster=cluster, backend=backend, stop_after_s=1.5, grace_s=0.01)
    assert done.result is not None
    assert (done.result.status, done.result.stop_reason) == ("interrupted", "stop_after_s=1.5 has passed")
    assert seen[-1] == "cut"
    assert [event.reason for event in done.recorder.of(ItemInterrupted)] == ["cancelled"]
    assert [event.cancelling for event in done.recorder.of(RunStopping)] == [False, True]


async def sleep(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Sleep until it is cancelled."""
    try:
        await anyio.sleep_forever()
    finally:
        seen.append("cut")


async def fail(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Fail."""
    raise ValueError(item.number)


def test_on_error_stops_or_goes_on(cluster: str | None, backend: Backend) -> None:
    """By default nothing is taken after a failure; with ``continue`` everything else runs."""
    items = [Calls(fail), *(Calls(tell) for _ in range(30))]
    done = run(items, cluster=cluster, backend=backend, num_workers=1)
    assert done.result is not None
    assert done.result.counts.outstanding > 0
    assert done.result.stop_reason == "item 1 (tests.cluster.test_parity:Calls) failed"
    done = run(items, cluster=cluster, backend=backend, on_error="continue")
    assert done.result is not None
    assert (done.result.counts.failed, done.result.counts.completed, done.result.status) == (1, 30, "failed")


# ---- what items raise -------------------------------------------------------------------------------------------


class PageError(Exception):
    """Has attributes and arguments of its own."""

    def __init__(self, url: str, status: int) -> None:
        super().__init__(url, status)
        self.url = url
        self.headers = {"status": status}


async def raise_page_error(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Raise one with a cause and a note."""
    try:
        raise KeyError("below")
    except KeyError as cause:
        error = PageError("http://example.org", 503)
        error.add_note("a note")
        raise error from cause


def test_what_an_item_raises_is_raised_as_it_is(cluster: str | None, backend: Backend) -> None:
    """Class, arguments, attributes, notes, cause and traceback; `except*` finds it."""
    done = run([Calls(raise_page_error)], cluster=cluster, backend=backend)
    [error] = done.failures
    assert type(error) is PageError
    assert error.args == ("http://example.org", 503)
    assert (error.url, error.headers) == ("http://example.org", {"status": 503})
    assert error.__notes__ == [
        "a note",
        "aqueue: raised by item 1 (tests.cluster.test_parity:Calls) in process",
    ]
    assert isinstance(error.__cause__, KeyError)
    assert error.__cause__.args == ("below",)
    frames = traceback.extract_tb(error.__traceback__)
    assert [frame.name for frame in frames][-2:] == ["process", "raise_page_error"]
    caught: list[Exception] = []
    assert done.error is not None
    try:
        raise done.error
    except* PageError as group:
        caught += group.exceptions
    assert caught == [error]
    [failed] = done.recorder.of(ItemFailed)
    assert failed.error.type == "tests.cluster.test_parity:PageError"
    assert "in raise_page_error" in failed.error.traceback


async def await_cancelled(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Await what somebody else has cancelled."""
    if aqueue_backend() == "asyncio":
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future
    raise StrayCancellation("trio has none")


def aqueue_backend() -> str:
    """Return the event loop's name."""
    import sniffio

    return sniffio.current_async_library()


def test_a_stray_cancellation_is_a_failure(cluster: str | None, backend: Backend) -> None:
    """An item that awaits something cancelled fails, and the run goes on."""
    done = run(
        [Calls(await_cancelled), Calls(tell)], cluster=cluster, backend=backend, on_error="continue", num_workers=1
    )
    [error] = done.failures
    assert isinstance(error, StrayCancellation)
    if backend == "asyncio":
        assert isinstance(error.__cause__, asyncio.CancelledError)
    assert done.result is not None
    assert done.result.counts.completed == 1


async def leave_a_scope_open(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Leave a cancel scope open, which soon cancels what its task does."""
    scope = anyio.move_on_after(0.01)
    scope.__enter__()


async def sleep_past_it(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Run when that scope would cancel it."""
    await anyio.sleep(0.03)


async def leave_a_cancellation(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Leave a cancellation for the next await, which is another item's."""
    if aqueue_backend() == "trio":
        raise StrayCancellation("trio has none")
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@pytest.mark.parametrize(
    ("function", "error"), [(leave_a_scope_open, LeakedCancelScope), (leave_a_cancellation, StrayCancellation)]
)
def test_what_an_item_leaves_in_its_task_harms_no_other(
    function: Callable[..., Any], error: type[Exception], cluster: str | None, backend: Backend
) -> None:
    """The item fails by name, and those that run after it in the same place complete."""
    items = [Calls(function), *(Calls(sleep_past_it) for _ in range(3))]
    done = run(items, cluster=cluster, backend=backend, on_error="continue", num_workers=1)
    assert [type(failure) for failure in done.failures] == [error]
    assert done.result is not None
    assert done.result.counts.completed == 3


async def exit_here(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Raise what is no failure."""
    raise SystemExit(5)


async def interrupt_here(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Raise what is no failure, either."""
    raise KeyboardInterrupt


@pytest.mark.parametrize(("function", "error"), [(exit_here, SystemExit), (interrupt_here, KeyboardInterrupt)])
def test_what_is_no_exception_ends_the_run(
    function: Callable[..., Any], error: type[BaseException], cluster: str | None, backend: Backend
) -> None:
    """It is raised by the run as it is; what runs beside it is cancelled, and nothing has failed."""
    done = run([Calls(sleep), Calls(function)], cluster=cluster, backend=backend)
    assert type(done.error) is error
    if isinstance(done.error, SystemExit):
        assert done.error.code == 5
    assert {event.reason for event in done.recorder.of(ItemInterrupted)} == {"cancelled"}
    assert not done.recorder.of(ItemFailed)
    [stopping] = done.recorder.of(RunStopping)
    assert re.fullmatch(rf"item [12] \(tests.cluster.test_parity:Calls\) raised {error.__name__}", stopping.reason)


async def keep_enqueue(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Keep what works only now, for the next item."""
    seen.append((enqueue, set_desc))


async def use_what_was_kept(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Use it."""
    while not seen:
        await anyio.sleep(0.001)
    await anyio.sleep(0.01)
    kept, described = seen[0]
    for call, argument in ((kept, Calls(tell)), (described, "x")):
        with pytest.raises(MisplacedCall, match="was called after the item's process had ended"):
            call(argument)
    with pytest.raises(MisplacedCall, match="from another thread"):
        await anyio.to_thread.run_sync(enqueue, Calls(tell))
    with pytest.raises(MisplacedCall, match="child_results"):
        aqueue.child_results()
    with pytest.raises(MisplacedCall, match="no lifespan"):
        aqueue.shared()
    with pytest.raises(aqueue.InvalidArgument, match="was given 5; it must be a string"):
        set_desc(5)  # type: ignore[arg-type]


def test_calls_at_the_wrong_time_are_refused(cluster: str | None, backend: Backend) -> None:
    """Each says what was called, and where it works."""
    done = run([Calls(keep_enqueue), Calls(use_what_was_kept)], cluster=cluster, backend=backend, num_workers=1)
    assert done.error is None
    assert done.result is not None
    assert done.result.counts.enqueued == 2


async def enqueue_number(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Enqueue what is no item."""
    enqueue(5)  # type: ignore[arg-type]


async def return_socket(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> Any:
    """Return what JSON can't carry."""
    return {"x": object()}


@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        (enqueue_number, InvalidItem, "int"),
        (return_socket, InvalidResult, "tests.cluster.test_parity:Calls"),
    ],
)
def test_what_is_no_item_or_no_result_is_refused(
    function: Callable[..., Any], error: type[Exception], text: str, cluster: str | None, backend: Backend
) -> None:
    """With the same words, and with the place in the traceback."""
    [raised] = run([Calls(function)], cluster=cluster, backend=backend).failures
    assert type(raised) is error
    assert text in str(raised)


class BadKey(Item):
    """Has a key that can't be asked for."""

    @property
    def key(self) -> str:
        raise PageError("no key", 1)

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None: ...


async def enqueue_bad_key(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Enqueue a child whose key raises, after one that is good."""
    enqueue(Calls(tell, 3))
    enqueue(BadKey())


def test_what_a_childs_key_raises_is_its_parents_failure(cluster: str | None, backend: Backend) -> None:
    """Though it is asked for in the coordinator; the children before it run."""
    done = run([Calls(enqueue_bad_key)], cluster=cluster, backend=backend, on_error="continue")
    [error] = done.failures
    assert type(error) is PageError
    assert error.__notes__ == ["aqueue: raised by item 1 (tests.cluster.test_parity:Calls) in process"]
    assert seen == [3]


# ---- what can't be sent -----------------------------------------------------------------------------------------


async def enqueue_socket(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Enqueue an item with a socket."""
    child: Any = Calls(tell)
    with socket.socket() as child.connection:
        enqueue(child)


async def enqueue_lambda(item: Any, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Enqueue an item with a lambda."""
    child: Any = Calls(tell)
    child.convert = lambda value: value
    enqueue(child)


@pytest.mark.parametrize(("function", "attribute"), [(enqueue_socket, "connection"), (enqueue_lambda, "convert")])
def test_a_child_that_can_not_be_sent_is_refused_when_it_is_enqueued(
    function: Callable[..., Any], attribute: str, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal names class and attribute, and its traceback the call."""
    MemoryTransport(Random(1)).use(monkeypatch)
    [error] = run([Calls(function)], cluster="local:2", backend=backend).failures
    assert isinstance(error, UnsendableItem)
    assert re.search(f"tests.cluster.test_parity:Calls can't be sent .*attribute '{attribute}'", str(error))
    assert f"in {function.__name__}" in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("attribute", ["connection", "convert"])
def test_an_initial_item_that_can_not_be_sent_keeps_a_run_from_beginning(
    attribute: str, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is run, and the refusal names the attribute."""
    seen.clear()
    MemoryTransport(Random(1)).use(monkeypatch)
    item: Any = Calls(tell)
    setattr(item, attribute, threading.Lock() if attribute == "connection" else lambda: None)
    done = run([Calls(tell), item], cluster="local:2", backend=backend)
    assert isinstance(done.error, UnsendableItem)
    assert f"attribute '{attribute}'" in str(done.error)
    assert seen == []
    assert not done.recorder.of(ItemStarted)


class Locked(Item):
    """Can be stored, but not be sent."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        seen.append(1)

    def dump(self) -> None: ...

    @classmethod
    def load(cls, data: None) -> "Locked":
        return cls()


def test_an_initial_item_that_can_be_stored_but_not_sent_is_refused(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a journal, too, nothing is run on the cluster; without one, it is."""
    seen.clear()
    MemoryTransport(Random(1)).use(monkeypatch)
    done = run([Locked()], cluster="local:2", backend=backend, journal=tmp_path / "run.db")
    assert isinstance(done.error, UnsendableItem)
    assert "attribute 'lock'" in str(done.error)
    assert seen == []
    done = run([Locked()], backend=backend, resume=tmp_path / "run.db")
    assert done.error is None
    assert seen == [1]


# ---- a journal goes from one to the other -----------------------------------------------------------------------


@pytest.mark.parametrize("first", [None, "local:2"])
def test_a_run_goes_on_where_it_did_not_begin(
    first: str | None, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal that was written on a cluster is resumed without one, and the other way round, from every event."""
    MemoryTransport(Random(1)).use(monkeypatch)
    second = "local:2" if first is None else None
    whole = tmp_path / "whole.db"
    expected = run([Tree(2)], cluster=first, backend=backend, journal=whole)
    assert expected.result is not None
    events = events_of(whole)
    for after in range(3, len(events), 5):
        seen.clear()
        journal = cut(whole, after, tmp_path / f"{after}.db")
        done = run([Tree(2)], cluster=second, backend=backend, resume=journal)
        assert done.error is None
        assert done.result is not None
        assert done.result.root_results == expected.result.root_results
        story = told_by(events_of(journal))
        assert set(story.state.values()) == {"closed"}
        assert sum(isinstance(event, ItemChildrenProcessed) for event in story.events) == 7


class Above(Item):
    """One that enqueues what holds it or what it holds; the first two fail once."""

    def __init__(self, name: str, above: "Above | None" = None) -> None:
        self.name = name
        self.above = above

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        below = {"root": "index", "index": "section", "section": "page", "page": "image"}.get(self.name)
        if below is not None:
            enqueue(Above(below, self if self.name in ("root", "index") else self.above))
        if self.name in ("root", "index") and aqueue.current().attempt == 1:
            raise ConnectionError(self.name)

    async def after_children_processed(self) -> None:
        seen.append((self.name, self, self.above))


def test_what_holds_an_item_that_runs_again_holds_the_object_that_runs(
    cluster: str | None, backend: Backend, tmp_path: Path
) -> None:
    """It hands it on to its children after a resume, and hooks see the very object whose own hook runs."""
    whole = tmp_path / "whole.db"
    arguments: dict[str, Any] = {"cluster": cluster, "backend": backend, "on_error": "continue", "num_workers": 1}
    assert len(run([Above("root")], journal=whole, **arguments).failures) == 2
    events = events_of(whole)
    section = next(event.seq for event in events if isinstance(event, ItemCompleted) and event.item == 3)
    for after in range(section, len(events) + 1):
        journal = cut(whole, after, tmp_path / f"{after}.db")
        seen.clear()
        root = Above("root")
        done = run([root], resume=journal, **arguments)
        assert done.error is None
        told_by(events_of(journal)).ended_well()
        objects = {name: item for name, item, _ in seen}
        for name, _, above in seen:  # those whose hook had run are not there
            assert above is (None if name == "root" else objects["root" if name == "index" else "index"]), name
        assert objects["root"] is root
