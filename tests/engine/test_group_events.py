"""What events say of groups: in which group an item waits, and which limits have kept items from starting.

The engine writes them in `_engine.dispatcher` and `_engine.intake`.
"""

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

import aqueue
from aqueue import Backend, EnqueueFn, Item, Limit, Limits, Retry, SetDescFn, run_queue
from aqueue.events import Event, GroupLimitKnown, ItemCompleted, ItemEnqueued, ItemRegrouped, RunResumed, encode
from aqueue.testing import EventRecorder
from tests.engine.invariants import check_events
from tests.journal.oracle import told_by
from tests.journal.recorded import events_of

QUEUES = ["queue", "stack", "priority"]


@dataclass(order=True)
class Page(Item):
    """An item of a group, with children."""

    number: int
    group: str | None = None
    children: list["Page"] = field(default_factory=list, compare=False)

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for child in self.children:
            enqueue(child)


def run(*items: Item, limits: Limits | None = None, **arguments: Any) -> list[Event]:
    """Run `items`; return the events, which are checked."""
    recorder = EventRecorder()
    run_queue(items, reporter=recorder, limits=limits, **arguments)
    check_events(recorder.events)
    return recorder.events


def groups_of(events: list[Event]) -> list[tuple[int, str | None]]:
    """Return which group each item was announced with, and each change."""
    return [(event.item, event.group) for event in events if isinstance(event, ItemEnqueued | ItemRegrouped)]


@pytest.mark.parametrize("kind", QUEUES)
def test_an_item_is_announced_with_its_group(backend: Backend, kind: Any) -> None:
    """Initial items and children, also those that waited before the first group was seen; in the JSON only if there is one."""
    events = run(Page(1), Page(2, "a", [Page(4, "b"), Page(5)]), Page(3, "a"), queue_type_name=kind, backend=backend)
    groups = groups_of(events)
    assert groups[:3] == [(1, None), (2, "a"), (3, "a")]
    assert sorted(groups[3:]) == [(4, "b"), (5, None)]
    announced = {event.item: msgspec.json.decode(encode(event)) for event in events if isinstance(event, ItemEnqueued)}
    assert "group" not in announced[1]
    assert announced[2]["group"] == "a"


@pytest.mark.parametrize("as_function", [False, True])
def test_a_limit_is_announced_when_it_first_holds_an_item_back(backend: Backend, as_function: bool) -> None:
    """Once per group, however it is given; not for a group that nothing was held back by, or that has no limit."""
    by_name = {
        "one": Limit(concurrent=1),
        "slow": Limit(per_second=5.0),
        "ample": Limit(concurrent=100),
        "none": Limit(),
    }
    items = [Page(number, group) for number in range(3) for group in by_name]
    events = run(*items, limits=by_name.get if as_function else by_name, num_workers=20, backend=backend)
    known = [event for event in events if isinstance(event, GroupLimitKnown)]
    assert sorted((one.group, one.concurrent, one.per_second) for one in known) == [
        ("one", 1, None),
        ("slow", None, 5.0),
    ]


class OddFloat(float):
    """A number that msgspec doesn't encode, as some libraries have."""


class OddInt(int):
    """The same for whole numbers."""


def test_a_limit_of_odd_numbers_is_announced_in_plain_ones(backend: Backend, tmp_path: Path) -> None:
    """A journal can hold them."""
    limits = {"a": Limit(concurrent=OddInt(1), per_second=OddFloat(500.0))}
    run_queue(
        [Page(1, "a"), Page(2, "a")], limits=limits, journal=tmp_path / "run.db", reporter="none", backend=backend
    )
    [known] = [event for event in events_of(tmp_path / "run.db") if isinstance(event, GroupLimitKnown)]
    assert (known.concurrent, known.per_second) == (1, 500.0)


@dataclass
class Moving(Item):
    """One that fails once and has another group afterwards."""

    group: str | None
    later: str | None
    retry = Retry(attempts=3, first_s=0.0)

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        if aqueue.current().attempt == 1:
            self.group = self.later
            raise ValueError("once more")


def test_a_group_that_has_changed_at_a_retry_is_told(backend: Backend) -> None:
    """When the item is queued again; nothing is told where it is the same."""
    events = run(Moving("a", "b"), Moving("a", None), Moving(None, "c"), Moving("a", "a"), backend=backend)
    before, changes = groups_of(events)[:4], groups_of(events)[4:]
    assert before == [(1, "a"), (2, "a"), (3, None), (4, "a")]
    assert sorted(changes) == [(1, "b"), (2, None), (3, "c")]


def resumed_groups(path: Path) -> list[tuple[int, str | None]]:
    """Return the changes of groups that the last process has recorded; the whole journal is checked."""
    events = events_of(path)
    told_by(events)
    resumed = max(event.seq for event in events if isinstance(event, RunResumed))
    return [(event.item, event.group) for event in events[resumed:] if isinstance(event, ItemRegrouped)]


@dataclass
class Listing(Item):
    """Stops the run the first time, before its children have run."""

    stops = True

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for number in range(3):
            enqueue(Leaf(number))
        if self.stops:
            aqueue.stop("enough")


@dataclass
class Leaf(Item):
    """An item whose class tells its group."""

    number: int
    host = "a"

    @property
    def group(self) -> str | None:
        return self.host if self.number else None

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        pass


@pytest.mark.parametrize("host", ["a", "b", None])
@pytest.mark.parametrize("kind", QUEUES[:2])
def test_a_group_that_has_changed_at_a_resume_is_told(
    tmp_path: Path, backend: Backend, kind: Any, host: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each item that waits, in a later process as well; nothing where the class still has the same group."""
    path = tmp_path / "run.db"
    arguments: dict[str, Any] = {"resume": path, "queue_type_name": kind, "num_workers": 1, "reporter": "none"}
    run_queue([Listing()], backend=backend, **arguments)
    monkeypatch.setattr(Leaf, "host", host)
    monkeypatch.setattr(Listing, "stops", False)
    run_queue([Listing()], max_items=1, backend=backend, **arguments)
    assert sorted(resumed_groups(path)) == ([] if host == "a" else [(3, host), (4, host)])
    with closing(sqlite3.connect(path)) as connection:
        in_sql = connection.execute("SELECT id, group_name FROM items ORDER BY id").fetchall()
    assert in_sql == [(1, None), (2, None), (3, host), (4, host)]
    run_queue([Listing()], backend=backend, **arguments)
    assert resumed_groups(path) == []


def test_a_class_that_has_no_groups_any_more_is_told(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The items wait in no group then, as if none ever had."""
    path = tmp_path / "run.db"
    arguments: dict[str, Any] = {"resume": path, "num_workers": 1, "reporter": "none", "backend": backend}
    run_queue([Listing()], **arguments)
    monkeypatch.setattr(Listing, "stops", False)
    monkeypatch.delattr(Leaf, "group")
    run_queue([Listing()], **arguments)
    assert sorted(resumed_groups(path)) == [(3, None), (4, None)]


@dataclass
class Adopted(Item):
    """An initial item, known by its key, which may have another group when it is enqueued again."""

    number: int
    group: str | None
    stops = True

    @property
    def key(self) -> str:
        return str(self.number)

    def __lt__(self, other: "Adopted") -> bool:
        return self.number < other.number

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        if self.stops:
            aqueue.stop("enough")


@pytest.mark.parametrize("kind", QUEUES)
def test_an_adopted_item_with_another_group_is_told(
    tmp_path: Path, backend: Backend, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its new attributes, and before anything runs."""
    path = tmp_path / "run.db"
    arguments: dict[str, Any] = {"resume": path, "num_workers": 1, "reporter": "none", "queue_type_name": kind}
    run_queue([Adopted(number, "a") for number in range(4)], backend=backend, **arguments)
    monkeypatch.setattr(Adopted, "stops", False)
    run_queue([Adopted(number, "ab"[number % 2]) for number in range(4)], backend=backend, **arguments)
    assert sorted(resumed_groups(path)) == ([(2, "b")] if kind == "stack" else [(2, "b"), (4, "b")])


@pytest.mark.parametrize("kind", QUEUES)
def test_the_first_pause_may_come_from_a_thread(backend: Backend, kind: Any) -> None:
    """A callback of the loop then sets the first timer of the run, outside every task."""

    @dataclass(order=True)
    class Pausing(Page):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            enqueue(Page(2, "a"))
            await anyio.to_thread.run_sync(aqueue.slow_down, "a", 0.02)

    events = run(Pausing(1), num_workers=1, queue_type_name=kind, backend=backend)
    assert sum(isinstance(event, ItemCompleted) for event in events) == 2
