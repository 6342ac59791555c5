"""Waiting items that are spilled to the journal, and read back before their turn: `_engine.spilling` and `_engine.lines`.

All tests of runs with a journal spill nearly everything (see `tests.low_thresholds`), and so do the tests that kill them. What is
here is about spilling alone.
"""

import itertools
import sqlite3
import tracemalloc
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aqueue
from aqueue import (
    Backend,
    EnqueueFn,
    InvalidArgument,
    Item,
    ItemFailures,
    JournalError,
    Limit,
    PayloadMismatch,
    SetDescFn,
    run_queue,
)
from aqueue._codec import digests
from aqueue._delivery import snapshots
from aqueue._delivery.delivery import Delivery
from aqueue._engine import spilling
from aqueue._engine.engine import Engine
from aqueue._engine.item_class import ItemClass
from aqueue._engine.lines import Block, SpillingLine, SpillingStack
from aqueue._engine.payloads import Payloads
from aqueue._engine.tree import Node
from aqueue._resume import live_items
from aqueue.events import ItemCompleted, ItemStarted
from aqueue.testing import EventRecorder
from tests.engine.invariants import check_events

CLASS = ItemClass("test:Page", track_overall=False, hook=False, all_done=False)


# ---- one line ---------------------------------------------------------------------------------------------------------


class Shelf:
    """Spills nodes with even numbers, and forgets them; the odd ones can't be spilled. What is read arrives when asked for."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.num_spilled = 0
        self.num_lines = 1
        self.at_once = 2_000
        self.read_now: list[tuple[SpillingLine, Block]] = []

    def can_spill(self, node: Node) -> bool:
        return node.id % 2 == 0

    def read(self, line: SpillingLine, block: Block) -> None:
        self.read_now.append((line, block))

    def arrive(self) -> None:
        for line, block in self.read_now:
            nodes = [block.nodes.get(number) or made(number) for number in block.numbers]
            assert all(number % 2 == 0 or number in block.nodes for number in block.numbers)
            line.put_back(nodes)
        self.read_now.clear()


def made(number: int) -> Node:
    """Return a node that is like all others of this number."""
    return Node(number, None, None, CLASS)


@given(
    is_stack=st.booleans(),
    most=st.integers(1, 6),
    steps=st.lists(st.sampled_from(["put", "put", "put", "first", "take", "arrive", "move", "refill"]), max_size=60),
)
def test_a_line_gives_its_nodes_in_the_order_of_a_deque(is_stack: bool, most: int, steps: list[str]) -> None:
    """However many are put and taken while others are read; and it keeps count of those that are spilled."""
    shelf = Shelf(most)
    line = SpillingStack(shelf) if is_stack else SpillingLine(shelf)
    model: deque[int] = deque()
    number = 0
    for step in [*steps, *["take"] * len(steps)]:
        if step in {"put", "first"}:
            number += 1
            (line.put if step == "put" else line.put_first)(made(number))
            (model.append if is_stack or step == "put" else model.appendleft)(number)
        elif step == "arrive":
            shelf.arrive()
        elif step == "move":
            before = line.take
            assert line.move() is line
            with pytest.raises(IndexError):
                before()
        elif step == "refill":
            line.refill()
        elif model:
            line.refill()
            shelf.arrive()
            assert line
            assert line.take().id == (model.pop() if is_stack else model.popleft())
        assert len(line) == len(model)
        assert {node.id for node in line.near} <= {node.id for node in line}
        assert shelf.num_spilled == sum(len(block.numbers) for block in line.far)
        assert len(line.near) <= most + step.count("first") or is_stack or "first" in steps
    assert not model
    assert not line
    with pytest.raises(IndexError):
        line.take()


def test_a_group_reads_its_share_if_another_one_fills_the_memory() -> None:
    """A paused group may; if many groups share the memory, each reads a few nodes at a time, and one that has some none."""
    for most, num_lines, expected in [(1_000, 2, 125), (1_000, 10**6, 4), (3, 1, 1), (100_000, 3, 2_000)]:
        shelf = Shelf(most)
        shelf.num_lines = num_lines
        line = SpillingLine(shelf, lambda: True)
        for number in range(2, 10_000):
            line.put(made(number))
        for _ in range(2):
            line.refill()
            shelf.arrive()
        assert len(line.near) == expected


def test_items_that_take_long_to_be_decoded_are_read_in_smaller_blocks(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the event loop isn't blocked for longer than by items that never await."""
    reads: list[int] = []
    read_items = Delivery.read_items

    def count(delivery: Delivery, numbers: Sequence[int], on_read: Any) -> None:
        reads.append(len(numbers))
        read_items(delivery, numbers, on_read)

    monkeypatch.setattr(Delivery, "read_items", count)
    times = itertools.count(step=0.0625)
    monkeypatch.setattr(spilling, "monotonic", lambda: next(times))
    items = [Page(Plan(f"{number:03}")) for number in range(240)]
    result = run_queue(items, journal=tmp_path / "run.db", reporter="none", spill_after=200, backend=backend)
    assert result.status == "completed"
    assert reads[0] == 40  # all that are spilled
    path = tmp_path / "long.db"
    reads.clear()
    items = [Page(Plan(f"{number:03}")) for number in range(440)]
    run_queue(items, journal=path, reporter="none", spill_after=200, backend=backend)
    assert reads[0] == 100
    assert set(reads[1:]) == {8, 1}  # 100 took 62.5 ms instead of 5; then 8 took that


# ---- the order of a run -----------------------------------------------------------------------------------------------


@dataclass
class Plan:
    """What an item does."""

    name: str
    children: list["Plan"] = field(default_factory=list)
    text: str = ""
    is_grouped: bool = False

    @property
    def item(self) -> "Page":
        return (Grouped if self.is_grouped else Page)(self)


@dataclass
class Page(Item):
    """One that does what its plan says. Some have a key, or much text."""

    plan: Plan

    @property
    def key(self) -> str | None:
        return self.plan.name if self.plan.name.endswith("k") else None

    def __lt__(self, other: "Page") -> bool:
        return self.plan.name < other.plan.name

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        for child in self.plan.children:
            enqueue(child.item)
        return aqueue.current().idempotency_key


@dataclass
class Grouped(Page):
    """A page of a group; the first one makes the queue one by groups."""

    @property
    def group(self) -> str | None:
        return self.plan.name[0]


names = st.text("abk", min_size=1, max_size=3)


def plans(is_grouped: st.SearchStrategy[bool]) -> st.SearchStrategy[Plan]:
    """Trees of what items do."""
    return st.recursive(
        st.builds(Plan, names, text=st.sampled_from(["", "x" * 300]), is_grouped=is_grouped),
        lambda below: st.builds(Plan, names, st.lists(below, max_size=6), is_grouped=is_grouped),
        max_leaves=30,
    )


def starts(
    tmp_path_factory: pytest.TempPathFactory, roots: list[Plan], spill_after: int, **arguments: Any
) -> list[list[tuple[int, str | None]]]:
    """Run what `roots` plan below one item, with one worker, with and without spilling.

    Returns the items in the order of their starts, with their groups, of each of the two runs.
    """
    started = []
    for most in (spill_after, None):
        recorder = EventRecorder()
        run_queue(
            [Plan("", roots).item],
            num_workers=1,
            journal=tmp_path_factory.mktemp("run") / "run.db",
            reporter=recorder,
            backend="asyncio" if len(roots) % 2 else "trio",
            spill_after=most,
            **arguments,
        )
        check_events(recorder.events)
        started.append([(event.item, event.group) for event in recorder.of(ItemStarted)])
    return started


@pytest.mark.parametrize("kind", ["queue", "stack"])
@settings(max_examples=25)
@given(roots=st.lists(plans(is_grouped=st.just(False)), min_size=1, max_size=8), spill_after=st.integers(1, 5))
def test_one_worker_runs_the_same_items_in_the_same_order(
    tmp_path_factory: pytest.TempPathFactory, kind: Any, roots: list[Plan], spill_after: int
) -> None:
    """As a run that spills nothing."""
    spilled, kept = starts(tmp_path_factory, roots, spill_after, queue_type_name=kind)
    assert spilled == kept


@pytest.mark.parametrize("kind", ["queue", "stack"])
@settings(max_examples=25)
@given(
    roots=st.lists(st.builds(Plan, names, is_grouped=st.booleans()), min_size=1, max_size=40),
    spill_after=st.integers(1, 5),
)
def test_each_group_keeps_its_order(
    tmp_path_factory: pytest.TempPathFactory, kind: Any, roots: list[Plan], spill_after: int
) -> None:
    """Between groups, one whose next item is being read may come later."""
    limits = {"a": Limit(concurrent=1)}
    spilled, kept = starts(tmp_path_factory, roots, spill_after, queue_type_name=kind, limits=limits)
    assert sorted(spilled) == sorted(kept)
    for group in {group for _, group in kept}:
        assert [item for item, its in spilled if its == group] == [item for item, its in kept if its == group]


def test_a_group_whose_next_item_is_read_back_keeps_its_rate(tmp_path: Path, backend: Backend) -> None:
    """No timer has run before: what arrives from the journal's thread starts the first one."""
    items = [Grouped(Plan("a")) for _ in range(3)]
    result = run_queue(
        items,
        journal=tmp_path / "run.db",
        reporter="none",
        limits={"a": Limit(per_second=10)},
        spill_after=1,
        backend=backend,
    )
    assert result.counts.completed == 3


def test_idempotency_keys_of_spilled_items_are_those_of_a_resume(tmp_path: Path, backend: Backend) -> None:
    """A key names an item in a remote system: it must not depend on whether the item was spilled."""
    children = [Plan("a"), Plan("a"), Plan("bk"), Plan("c", text="x" * 300), Plan("d", [Plan("e")])]
    roots = [Page(Plan("r", children))]
    keys: list[list[bytes]] = []
    path = tmp_path / "run.db"
    for spill_after in (1, None):
        run_queue(roots, max_items=1, journal=path, reporter="none", backend=backend)
        recorder = EventRecorder()
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE events SET event = replace(event, ?, ?)", (run_id_in(path), "0" * 16))
            connection.execute("DELETE FROM snapshots")
        run_queue(roots, resume=path, reporter=recorder, spill_after=spill_after, backend=backend)
        keys.append([bytes(event.result) for event in recorder.of(ItemCompleted)])
        path.unlink()
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 6


def run_id_in(path: Path) -> str:
    """Return the identifier of the run in a journal."""
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute("SELECT event ->> 'run_id' FROM events WHERE seq = 1").fetchone()
    return str(found)


# ---- what a spilled item is when it is read back ----------------------------------------------------------------------


class Chapter(Item):
    """Refers to its book, and shares a list with its siblings."""

    held: ClassVar[list["Chapter"]] = []

    def __init__(self, book: "Book | Fails", notes: list[str]) -> None:
        self.book = book
        self.notes = notes

    book: "Book | Fails"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.notes.append("read")
        self.book.read += 1
        Chapter.held.append(self)


class Book(Item):
    """Counts the chapters that were read."""

    read: int = 0

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        notes: list[str] = []
        for _ in range(20):
            enqueue(Chapter(self, notes))

    async def after_children_processed(self) -> int:
        return self.read


def test_an_item_refers_to_the_very_object_of_its_parent_and_to_copies_of_others(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a resume. A run that spills nothing shares the list."""
    for spill_after, shared in ((None, 20), (3, 1)):
        monkeypatch.setattr(Chapter, "held", [])
        path = tmp_path / f"{spill_after}.db"
        book = Book()
        result = run_queue([book], journal=path, reporter="none", spill_after=spill_after, backend=backend)
        assert result.root_results == [20]
        assert all(chapter.book is book for chapter in Chapter.held)
        assert len(Chapter.held[-1].notes) == shared


class Part(Item):
    """Enqueues chapters that refer to the book, which is the item above."""

    def __init__(self, book: "Book | Fails") -> None:
        self.book = book

    book: "Book | Fails"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for _ in range(20):
            enqueue(Chapter(self.book, []))


class Fails(Item):
    """Has chapters below it, and fails when it is woken."""

    woken: ClassVar[anyio.Event]

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        Fails.woken = anyio.Event()
        self.read = 0
        enqueue(Part(self))
        await Fails.woken.wait()
        raise ValueError


class Picky(Item):
    """One that can't be read back as long as `is_broken`."""

    is_broken: ClassVar[type[BaseException] | None] = None
    done: ClassVar[list[int]] = []

    def __init__(self, number: int) -> None:
        self.number = number

    def dump(self) -> int:
        return self.number

    @classmethod
    def load(cls, data: int) -> "Picky":
        if cls.is_broken and data == 30:
            raise cls.is_broken("not now")
        return cls(data)

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        Picky.done.append(self.number)


@pytest.mark.parametrize("grace_s", [None, 30])
@pytest.mark.parametrize("error", [ValueError, SystemExit])
@pytest.mark.parametrize("queue_type_name", ["queue", "stack"])
def test_an_item_that_can_not_be_read_back_stops_the_run_and_is_not_lost(
    tmp_path: Path,
    backend: Backend,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
    queue_type_name: Any,
    grace_s: float | None,
) -> None:
    """The error names the item's class and says what to do; once the class is corrected, a resume runs what is left, once."""
    monkeypatch.setattr(Picky, "is_broken", error)
    monkeypatch.setattr(Picky, "done", [])
    path = tmp_path / "run.db"
    items = [Picky(number) for number in range(1, 60)]
    arguments: dict[str, Any] = {"reporter": "none", "backend": backend, "queue_type_name": queue_type_name}
    with pytest.raises(PayloadMismatch if error is ValueError else error, match="not now"):
        run_queue(items, journal=path, grace_s=grace_s, **arguments)
    assert 30 not in Picky.done
    Picky.is_broken = None
    result = run_queue(items, resume=path, **arguments)
    assert result.status == "completed"
    assert sorted(Picky.done) == list(range(1, 60))


@pytest.mark.parametrize("is_first", [True, False])
def test_a_resume_says_whether_it_has_changed_anything(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch, is_first: bool
) -> None:
    """Waiting items after the first ones are decoded when the resume has been recorded."""
    path = tmp_path / "run.db"
    monkeypatch.setattr(Picky, "is_broken", None)
    monkeypatch.setattr(Picky, "done", [])

    class Parent(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            for below in [30] if is_first else [1, 2, 3, 30]:
                enqueue(Picky(below))
            aqueue.stop("that is enough")

    def resume() -> None:
        run_queue([Parent()], resume=path, reporter="none", num_workers=1, backend=backend)

    resume()
    Picky.is_broken = ValueError
    before = path.read_bytes()
    with pytest.raises(PayloadMismatch, match="nothing was changed" if is_first else "nothing was lost"):
        resume()
    assert (path.read_bytes() == before) is is_first
    Picky.is_broken = None
    resume()
    assert Picky.done == ([30] if is_first else [1, 2, 3, 30])


class Counted(Item):
    """Knows how many of its kind were in memory at once."""

    alive: ClassVar[int] = 0
    most: ClassVar[int] = 0

    def dump(self) -> None:
        pass

    @classmethod
    def load(cls, data: None) -> "Counted":
        Counted.alive += 1
        Counted.most = max(Counted.most, Counted.alive)
        return cls()

    def __del__(self) -> None:
        Counted.alive -= 1

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None: ...


def test_a_resume_decodes_no_more_items_than_fit_into_memory(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small `spill_after` says that items are large."""
    path = tmp_path / "run.db"
    monkeypatch.setattr(live_items, "_FIRST_SETTLED", 1_000)

    class Parent(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            for _ in range(100):
                enqueue(Counted())
            aqueue.stop("that is enough")

    for status in ("interrupted", "completed"):
        Counted.alive = Counted.most = 0
        result = run_queue([Parent()], resume=path, reporter="none", num_workers=1, spill_after=2, backend=backend)
        assert result.status == status
    assert 0 < Counted.most < 10


def test_the_ancestors_of_an_item_that_can_not_be_read_back_are_unlinked(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if nothing else refers to them: freeing a chain of 150,000 ended the process with a segmentation fault."""
    monkeypatch.setattr(Picky, "is_broken", ValueError)
    parents: list[Node] = []
    decode = Payloads.decode

    def decode_below(payloads: Payloads, type: str, state: bytes, parent: Node | None) -> object:
        assert parent is not None
        parents.append(parent)
        return decode(payloads, type, state, parent)

    class Above(Item):
        depth: int = 2

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            if self.depth:
                below = Above()
                below.depth = self.depth - 1
                enqueue(below)
            else:
                enqueue(Page(Plan("in memory")))
                enqueue(Picky(30))

    monkeypatch.setattr(Payloads, "decode", decode_below)
    with pytest.raises(PayloadMismatch, match="not now"):
        run_queue(
            [Above()], journal=tmp_path / "run.db", reporter="none", spill_after=1, num_workers=1, backend=backend
        )
    assert [parent.parent for parent in parents] == [None]


@pytest.mark.parametrize("order", ["before", "after"])
def test_what_is_read_when_the_run_has_stopped_is_ignored(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    """The ancestors that the items refer to may be gone by then; the error of the run stays the one that stopped it."""
    reads: list[Any] = []
    unlink_all = Engine.unlink_all

    def answer_late(engine: Engine) -> None:
        if order == "after":
            unlink_all(engine)
        for answer, events in reads:
            if events:
                answer(events)
        unlink_all(engine)

    def read_late(delivery: Delivery, numbers: Sequence[int], on_read: Any) -> None:
        events: dict[int, Any] = {}
        reads.append((on_read, events))

        def stop(found: dict[int, Any]) -> None:
            events.update(found)
            Fails.woken.set()

        read_items(delivery, numbers, stop)

    read_items = Delivery.read_items
    monkeypatch.setattr(Delivery, "read_items", read_late)
    monkeypatch.setattr(Engine, "unlink_all", answer_late)
    with pytest.raises(ItemFailures, match="1 item failed"):
        run_queue([Fails()], journal=tmp_path / "run.db", reporter="none", num_workers=2, backend=backend)
    assert any(events for _, events in reads)


def test_a_journal_that_can_not_be_read_ends_the_run(tmp_path: Path, backend: Backend) -> None:
    """With an error that names the event; nothing runs any more that could not be recorded."""
    path = tmp_path / "run.db"

    @dataclass
    class Vandal(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("UPDATE events SET event = '{}' WHERE event LIKE '%page 40%'")

    items: list[Item] = [Vandal(), *(Page(Plan(f"page {number}")) for number in range(60))]
    with pytest.raises(JournalError, match=r"event 4\d in the journal .*run\.db can't be read"):
        run_queue(items, journal=path, reporter="none", num_workers=1, backend=backend)


@pytest.mark.parametrize("queue_type_name", ["queue", "stack"])
def test_a_stop_with_spilled_items_leaves_them_to_a_resume(
    tmp_path: Path, backend: Backend, queue_type_name: Any
) -> None:
    """Each runs exactly once, also those that were being read when the run stopped, and max_items counts as without."""
    path = tmp_path / "run.db"
    roots = [Page(Plan(f"page {number}", [Plan(f"child {number}")])) for number in range(20)]
    counts = []
    while True:
        result = run_queue(
            roots,
            resume=path,
            reporter="none",
            max_items=7,
            spill_after=2,
            queue_type_name=queue_type_name,
            backend=backend,
        )
        counts.append(result.counts.completed)
        if result.status == "completed":
            break
    assert counts == [7, 14, 21, 28, 35, 40]


@pytest.mark.parametrize("kind", ["queue", "stack", "priority"])
@pytest.mark.parametrize("is_grouped", [False, True])
def test_a_resume_keeps_the_order_of_what_is_spilled_at_once(
    tmp_path: Path, backend: Backend, kind: Any, is_grouped: bool
) -> None:
    """Children of items that have completed are spilled while they are restored, and so are those after the first ones."""
    path = tmp_path / "run.db"
    children = [Plan(f"a{number:02}", text="x" * (number % 2 * 300), is_grouped=is_grouped) for number in range(30)]
    items = [Plan("", children).item]
    run_queue(items, journal=path, max_items=5, num_workers=1, reporter="none", backend=backend, queue_type_name=kind)
    recorder = EventRecorder()
    result = run_queue(items, resume=path, num_workers=1, reporter=recorder, backend=backend, queue_type_name=kind)
    assert result.counts.completed == 31
    started = [event.item for event in recorder.of(ItemStarted)]
    if kind == "stack":
        assert started == list(range(27, 1, -1))
    else:
        assert started == list(range(6, 32))


class Leaf(Item):
    """Refers to a tree."""

    seen: ClassVar[list["Tree"]] = []

    def __init__(self, tree: "Tree") -> None:
        self.tree = tree

    tree: "Tree"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        Leaf.seen.append(self.tree)


class GroupedLeaf(Leaf):
    """Makes the queue one by groups."""

    group = "a"


class Branch(Item):
    """Has leaves that refer to the tree, and completes."""

    def __init__(self, tree: "Tree") -> None:
        self.tree = tree

    tree: "Tree"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for cls in (Leaf, GroupedLeaf):
            for _ in range(5):
                enqueue(cls(self.tree))
        if Tree.is_first:
            aqueue.stop("that is enough")


class Tree(Item):
    """Doesn't complete in the first process."""

    is_first: ClassVar[bool] = True

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        enqueue(Branch(self))
        if Tree.is_first:
            await anyio.sleep_forever()


def test_what_a_resume_spills_refers_to_the_initial_item_of_today(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is read back before all initial items are known, even if the queue becomes one by groups meanwhile."""
    monkeypatch.setattr(Tree, "is_first", True)
    monkeypatch.setattr(Leaf, "seen", [])
    path = tmp_path / "run.db"
    arguments: dict[str, Any] = {"reporter": "none", "backend": backend, "spill_after": 1, "num_workers": 2}
    run_queue([Tree()], journal=path, grace_s=0, **arguments)
    assert not Leaf.seen
    Tree.is_first = False
    tree = Tree()
    reads: list[Sequence[int]] = []
    read_items = Delivery.read_items

    def read(delivery: Delivery, numbers: Sequence[int], on_read: Any) -> None:
        reads.append(numbers)
        read_items(delivery, numbers, on_read)

    monkeypatch.setattr(Delivery, "read_items", read)

    def initial() -> Iterator[Item]:
        assert not reads
        yield tree

    run_queue(initial(), resume=path, **arguments)
    assert len(Leaf.seen) == 10
    assert all(seen is tree for seen in Leaf.seen)


# ---- memory and arguments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["queue", "stack", "groups"])
def test_a_spilled_item_costs_at_most_80_bytes(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In all: the line, the fold of the journal's events, and what waits to be written, against 650 bytes if it isn't spilled. A few items take more."""
    monkeypatch.setattr(snapshots, "_MIN_EVENTS", 10**9)  # they take time, but are not kept in memory
    monkeypatch.setattr(digests, "_FEW", 1_000)
    number = 20_000
    used: list[int] = []

    class Site(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            for count in (5_000, number):
                for place in range(count):
                    enqueue(Plan(f"{place:06} of {count}", text="x" * 100, is_grouped=kind == "groups").item)
                    if place % 5_000 == 0:
                        await anyio.sleep(0.06)
                await anyio.sleep(0.5)
                if not used:
                    tracemalloc.start()
                used.append(tracemalloc.get_traced_memory()[0])
            tracemalloc.stop()
            aqueue.stop("that is enough")

    run_queue(
        [Site()],
        journal=tmp_path / "run.db",
        reporter="none",
        num_workers=1,
        spill_after=1_000,
        queue_type_name="stack" if kind == "stack" else "queue",
    )
    assert (used[1] - used[0]) / number <= 80


@pytest.mark.parametrize("kind", [SpillingLine, SpillingStack])
def test_a_line_that_spills_is_small(kind: type[SpillingLine]) -> None:
    """Each group in which items wait has one; a deque alone takes 760 bytes."""
    shelf = Shelf(1)
    tracemalloc.start()
    lines = [kind(shelf) for _ in range(1_000)]
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used / len(lines) <= 1_100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spill_after": 0, "journal": "run.db"}, r"spill_after is 0; it must be a whole number"),
        ({"spill_after": 1.5, "journal": "run.db"}, r"spill_after is 1\.5"),
        ({"spill_after": 10}, r"this run has none; pass journal"),
        (
            {"spill_after": 10, "journal": "run.db", "queue_type_name": "priority"},
            r'no effect with queue_type_name="pri',
        ),
    ],
)
def test_an_argument_that_has_no_effect_is_refused(arguments: dict[str, Any], message: str) -> None:
    """Before a file is created."""
    with pytest.raises(InvalidArgument, match=message):
        run_queue([Page(Plan("a"))], reporter="none", **arguments)
    assert not Path("run.db").exists()
