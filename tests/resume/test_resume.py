"""Resuming a run: what is adopted, what runs again, what is restored, and what is refused.

`_resume.restoring` and `_resume.past` put the run back that `_folds.recording` has read, as an `_engine.restored_run`.
"""

import gc
import os
import signal
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest

import aqueue
from aqueue import Backend, EnqueueFn, Item, ItemFailures, RunResult, SetDescFn, run_queue
from aqueue.errors import JournalExists, JournalLocked, PayloadMismatch, UnknownItemType, UnstorableItem
from aqueue.events import (
    Event,
    ItemAdopted,
    ItemCompleted,
    ItemEnqueued,
    ItemFailed,
    ItemInterrupted,
    ItemReopened,
    ItemRetryScheduled,
    ItemStarted,
    RunResumed,
)
from aqueue.testing import EventRecorder
from aqueue.view import RunView
from tests.journal.oracle import told_by
from tests.journal.recorded import cut, events_of


class World:
    """What items of these tests do and did: set and read by the tests, cleared before each.

    Attributes:
        did: what ran, in order.
        keys: the idempotency keys that each name had.
        children: what an item of a name enqueues.
        raises: the names whose items raise, and how often.
        objects: the objects that ran, by name.
    """

    def __init__(self) -> None:
        self.did: list[str] = []
        self.keys: dict[str, list[str]] = {}
        self.children: dict[str, Callable[[Any], list[Item]]] = {}
        self.raises: Counter[str] = Counter()
        self.objects: dict[str, Item] = {}

    def saw(self, item: Any, what: str) -> None:
        self.did.append(what)
        self.keys.setdefault(what, []).append(aqueue.current().idempotency_key)
        self.objects[what] = item
        if self.raises[what] > 0:
            self.raises[what] -= 1
            raise ZeroDivisionError(what)


world = World()


@pytest.fixture(autouse=True)
def fresh_world() -> Iterator[None]:
    """Forget what the items of the test before did, and let go of them."""
    yield
    world.__init__()  # type: ignore[misc]


class Named(Item):
    """Does what the world says that an item of its name does."""

    def __init__(self, name: str, parent: Item | None = None) -> None:
        self.name = name
        self.parent = parent
        self.saw: list[str] = []

    def __lt__(self, other: "Named") -> bool:
        return self.name < other.name

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        for child in world.children.get(self.name, lambda _: [])(self):
            enqueue(child)
        self.saw = [*self.saw, "process"]
        set_desc(self.name)
        world.saw(self, self.name)
        return self.name


class Gathering(Named):
    """One with a hook."""

    async def after_children_processed(self) -> list[str]:
        assert self.saw == ["process"]
        world.saw(self, f"hook of {self.name}")
        return aqueue.child_results()


class Counts(Named):
    """One that returns its number among all that ran."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> Any:
        await super().process(enqueue, set_desc)
        return world.did.count(self.name)


class TriedAgain(Named):
    """One that may be tried again."""

    retry = aqueue.Retry(attempts=3, first_s=0.0)


class GatheringAnyway(Gathering):
    """One whose hook runs also if something failed."""

    after_children_rule = "all_done"


class Keyed(Named):
    """One whose name is its key, and which has something else besides."""

    def __init__(self, name: str, rest: int = 0) -> None:
        super().__init__(name)
        self.rest = rest

    @property
    def key(self) -> str:
        return self.name


class KeyedGathering(Keyed, Gathering):
    """One with a hook, too."""


class Fails(Named):
    """One of which the so-manyth of those called ``same`` fails."""

    ran: ClassVar[int] = 0

    def __init__(self, name: str, number: int) -> None:
        super().__init__(name)
        self.number = number

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        if self.name == "same":
            if Fails.ran == self.number:
                world.raises["same"] = 1
            Fails.ran += 1
        return await super().process(enqueue, set_desc)


def parent_of(*children: Callable[[], Item]) -> Callable[[Any], list[Item]]:
    """Return what the world is told of an item that enqueues what `children` make."""
    return lambda _: [child() for child in children]


def run(path: Path, *items: Item, **arguments: Any) -> RunResult:
    """Run or resume with one worker, and return what came of it, failures or not."""
    try:
        return run_queue(items, resume=path, **{"num_workers": 1, "reporter": "none", **arguments})
    except ItemFailures as failures:
        return failures.result


def first(events: list[Event], cls: type[Event], **fields: Any) -> int:
    """Return how many events there are up to the first of this type and fields, itself included."""
    for event in events:
        if type(event) is cls and all(getattr(event, name) == value for name, value in fields.items()):
            return event.seq
    raise AssertionError(f"no {cls.__name__} with {fields}")


def again(path: Path, after: int, *items: Item, **arguments: Any) -> tuple[RunResult, list[Event]]:
    """Resume what is left of the journal at `path` when it is cut after some events; also return all its events."""
    world.did.clear()
    cut_off = cut(path, after, path.with_name(f"cut after {after}.db"))
    result = run(cut_off, *items, **arguments)
    events = events_of(cut_off)
    told_by(events)
    return result, events


# ---- adoption -----------------------------------------------------------------------------------------------------


def test_children_that_completed_are_not_run_again_with_their_parent(tmp_path: Path, backend: Backend) -> None:
    """A failed parent runs again and enqueues its children again: those that had completed are done."""
    path = tmp_path / "run.db"
    world.children["root"] = parent_of(lambda: Named("a"), lambda: Named("b"))
    world.raises["root"] = 1
    assert run(path, Gathering("root"), on_error="continue", backend=backend).status == "failed"
    assert sorted(world.did) == ["a", "b", "root"]
    world.did.clear()
    result = run(path, Gathering("root"), backend=backend)
    assert world.did == ["root", "hook of root"]
    assert result.root_results == [["a", "b"]]
    assert result.counts.enqueued == result.counts.completed == 3
    told_by(events_of(path))


def test_the_new_object_of_an_outstanding_child_is_the_one_that_runs(tmp_path: Path) -> None:
    """A child that was enqueued and had not run is enqueued again by its parent: that object runs, once."""
    path = tmp_path / "run.db"
    made: list[Item] = []

    def children(parent: Item) -> list[Item]:
        made.append(Named("child"))
        return [made[-1]]

    world.children["root"] = children
    run(path, Named("root"))
    events = events_of(path)
    result, _ = again(path, first(events, ItemEnqueued, item=2), Named("root"))
    assert world.did == ["root", "child"]
    assert world.objects["child"] is made[-1]
    assert result.counts.enqueued == 2


def test_a_child_with_an_open_subtree_goes_on_while_its_parent_runs_again(tmp_path: Path) -> None:
    """The parent failed; its child had completed, its grandchild had not: only that and the parent run."""
    path = tmp_path / "run.db"
    world.children["root"] = parent_of(lambda: Gathering("child"))
    world.children["child"] = parent_of(lambda: Named("grandchild"))
    world.raises["root"] = 1
    run(path, Named("root"), on_error="continue")
    events = events_of(path)
    result, _ = again(path, first(events, ItemCompleted, item=2), Named("root"))
    assert sorted(world.did) == ["grandchild", "hook of child", "root"]
    assert result.counts.enqueued == result.counts.completed == 3


def test_recorded_children_that_are_not_repeated_run_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A parent that enqueues less when it runs again gets what it enqueued first, and the user is told."""
    path = tmp_path / "run.db"
    world.children["root"] = parent_of(lambda: Named("a"), lambda: Named("b"), lambda: Named("c"))
    run(path, Named("root"))
    events = events_of(path)
    world.children["root"] = parent_of(lambda: Named("b"))
    capsys.readouterr()
    result, _ = again(path, first(events, ItemEnqueued, item=4), Named("root"))
    assert world.did == ["root", "b", "a", "c"]
    assert "did not enqueue 2 of its recorded children again" in capsys.readouterr().err
    assert result.counts.enqueued == result.counts.completed == 4


def test_equal_children_are_matched_one_by_one(tmp_path: Path) -> None:
    """Of three equal children two were recorded: the third is new, each runs once, and none has another's identity."""
    path = tmp_path / "run.db"
    world.children["root"] = parent_of(*[lambda: Named("same")] * 3)
    run(path, Named("root"))
    events = events_of(path)
    all_keys = set(world.keys["same"])
    assert len(all_keys) == 3
    world.keys.clear()
    _, events = again(path, first(events, ItemEnqueued, item=3), Named("root"))
    assert world.did == ["root", "same", "same", "same"]
    assert set(world.keys["same"]) == all_keys, "also the one whose enqueue was lost has the key it had"
    assert [event.occurrence for event in events if isinstance(event, ItemEnqueued)] == [0, 0, 1, 2]


@pytest.mark.parametrize("failed", [0, 1, 2])
def test_an_outstanding_child_keeps_its_place_among_equals_that_have_ended(tmp_path: Path, failed: int) -> None:
    """Of three equal children two ended and one failed: that one runs, at its own place; a fourth is a new one."""
    path = tmp_path / "run.db"
    names = ["same", "other", "same", "another", "same"]
    Fails.ran = 0
    world.children["root"] = parent_of(*[partial(Fails, name, failed) for name in names])
    world.raises.update({"root": 1, "other": 1, "another": 1})
    run(path, Named("root"), on_error="continue")
    before = world.keys["same"]
    assert len(set(before)) == 3
    world.did.clear()
    world.keys.clear()
    world.children["root"] = parent_of(*[partial(Fails, name, failed) for name in [*names, "same"]])
    result = run(path, Named("root"))
    left = [name for place, name in enumerate(names) if name != "same" or place == 2 * failed]
    assert world.did == ["root", *left, "same"]
    assert world.keys["same"][0] == before[failed]
    assert world.keys["same"][1] not in before
    assert result.counts.enqueued == result.counts.completed == 7
    assert [e.occurrence for e in events_of(path) if isinstance(e, ItemEnqueued)] == [0, 0, 0, 1, 0, 2, 3]


def test_a_child_with_another_payload_is_another_child(tmp_path: Path) -> None:
    """What the parent enqueues now and has not enqueued before is new; what it had enqueued still runs."""
    path = tmp_path / "run.db"
    world.children["root"] = parent_of(lambda: Named("old"))
    run(path, Named("root"))
    events = events_of(path)
    world.children["root"] = parent_of(lambda: Named("new"))
    result, _ = again(path, first(events, ItemEnqueued, item=2), Named("root"))
    assert sorted(world.did) == ["new", "old", "root"]
    assert result.counts.enqueued == 3


def test_a_key_counts_before_the_payload(tmp_path: Path) -> None:
    """A child with the key of a recorded one is that child, whatever else has changed; it is not dropped for its key."""
    path = tmp_path / "run.db"
    world.children["root"] = parent_of(lambda: Keyed("k", 1), lambda: Keyed("k", 2))
    result = run(path, Named("root"))
    assert result.counts.deduplicated == 1
    events = events_of(path)
    world.children["root"] = parent_of(lambda: Keyed("k", 3), lambda: Keyed("k", 4))
    result, events = again(path, first(events, ItemEnqueued, item=2), Named("root"))
    assert world.did == ["root", "k"]
    assert world.objects["k"].rest == 3  # type: ignore[attr-defined]
    assert result.counts.deduplicated == 1
    assert result.counts.enqueued == 2


def test_keys_are_known_after_a_resume_although_their_items_have_ended(tmp_path: Path) -> None:
    """The visited set is the whole run's: a key whose item ended in an earlier process is not run again."""
    path = tmp_path / "run.db"
    run(path, Keyed("seen"))
    world.did.clear()
    world.children["new"] = parent_of(lambda: Keyed("seen"), lambda: Keyed("unseen"))
    result = run(path, Named("new"))
    assert world.did == ["new", "unseen"]
    assert result.counts_by_type[f"{__name__}:Named"].deduplicated == 1


def test_initial_items_with_a_known_key_are_counted_in_the_view_too(tmp_path: Path) -> None:
    """No item is there to tell of those that were dropped: the end of the process does, once, resumed or not."""
    path = tmp_path / "run.db"
    for names in ("aab", "aabc"):
        result = run(path, *[Keyed(name) for name in names])
        view = RunView()
        view.apply(events_of(path))
        assert view.counts == result.counts
        assert result.counts.deduplicated == 1


# ---- hooks and state ----------------------------------------------------------------------------------------------


def test_a_hook_that_was_due_runs(tmp_path: Path, backend: Backend) -> None:
    """All below had ended, and the crash came before the hook: it runs, with the state and results there were."""
    path = tmp_path / "run.db"
    world.children["root"] = parent_of(lambda: Named("a"), lambda: Named("b"))
    run(path, Gathering("root"))
    events = events_of(path)
    result, _ = again(path, first(events, ItemCompleted, item=3), Gathering("root"), backend=backend)
    assert world.did == ["hook of root"]
    assert result.root_results == [["a", "b"]]


def test_a_hook_that_a_crash_cut_off_runs_again(tmp_path: Path) -> None:
    """The hook had begun: it is interrupted, and begins again as its second attempt."""
    path = tmp_path / "run.db"
    run(path, Gathering("root"))
    events = events_of(path)
    _, events = again(path, first(events, ItemStarted, phase="after_children"), Gathering("root"))
    assert world.did == ["hook of root"]
    assert [
        event.attempt for event in events if isinstance(event, ItemStarted) and event.phase == "after_children"
    ] == [1, 2]
    [interrupted] = [event for event in events if isinstance(event, ItemInterrupted)]
    assert (interrupted.phase, interrupted.reason) == ("after_children", "crash")


def test_a_hook_that_failed_runs_again_without_its_item(tmp_path: Path) -> None:
    """Only what failed is repeated: the hook, not the process that had completed."""
    path = tmp_path / "run.db"
    world.raises["hook of root"] = 1
    assert run(path, Gathering("root")).counts.failed == 1
    world.did.clear()
    result = run(path, Gathering("root"))
    assert world.did == ["hook of root"]
    assert (result.status, result.counts.failed, result.counts.completed) == ("completed", 0, 1)
    told_by(events_of(path))


def test_what_had_closed_over_a_failure_is_reopened(tmp_path: Path, backend: Backend) -> None:
    """The failed item runs again; hooks that had run over the failure run again, those that had not now do, once each."""
    path = tmp_path / "run.db"
    world.children["root"] = parent_of(lambda: GatheringAnyway("anyway"))
    world.children["anyway"] = parent_of(lambda: Named("good"), lambda: Named("bad"))
    world.raises["bad"] = 1
    run(path, Gathering("root"), on_error="continue", backend=backend)
    assert "hook of anyway" in world.did
    assert "hook of root" not in world.did
    world.did.clear()
    result = run(path, Gathering("root"), backend=backend)
    assert world.did == ["bad", "hook of anyway", "hook of root"]
    assert result.root_results == [[["good", "bad"]]]
    story = told_by(events_of(path))
    assert [event.item for event in story.events if isinstance(event, ItemReopened)] == [1, 2, 4]
    before = path.read_bytes()
    world.did.clear()
    assert run(path, Gathering("root")).root_results == result.root_results
    assert world.did == [], "what was reopened and ended well is closed for good"
    assert path.read_bytes() == before


def test_a_parent_is_the_same_object_for_its_hook_and_its_children(tmp_path: Path) -> None:
    """A child's link to its parent, and the parent's own hook, see one object with the state that process had left."""
    path = tmp_path / "run.db"
    world.children["root"] = lambda root: [Named("a", root), Gathering("b", root)]
    world.children["b"] = lambda b: [Named("c", b)]
    run(path, Gathering("root"))
    events = events_of(path)
    _, _ = again(path, first(events, ItemCompleted, item=2), Gathering("root"))
    root: Any = world.objects["hook of root"]
    b: Any = world.objects["hook of b"]
    c: Any = world.objects["c"]
    assert b.parent is root
    assert c.parent is b
    assert root.saw == ["process"]


def index_of(root: Any) -> list[Item]:
    """Return what ``root`` enqueues in the tests below: an item that enqueues what holds it, and runs again, too."""
    return [Gathering("index", root)]


@pytest.mark.parametrize("is_repeated", [True, False])
@pytest.mark.parametrize("at", ["root", "index"])
def test_what_is_below_an_item_that_runs_again_holds_the_object_that_runs(
    tmp_path: Path, backend: Backend, at: str, is_repeated: bool
) -> None:
    """Waiting descendants and hooks of completed ones hold the new object, or the one that runs as it was recorded."""
    path = tmp_path / "run.db"
    world.children["root"] = index_of
    world.children["index"] = lambda index: [Gathering("section", index), Gathering("also below", index)]
    world.children["section"] = lambda section: [Gathering("page", section.parent)]
    world.children["page"] = lambda page: [Named("image", page.parent)]
    world.children["also below"] = lambda below: [Named("not a holder")]
    world.raises.update({"root": 1, "index": 1})
    run(path, Gathering("root"), on_error="continue", backend=backend)
    events = events_of(path)
    after = first(events, ItemCompleted, item=4)
    if at == "root" and not is_repeated:
        world.children["root"] = lambda _: []
    if at == "index" and not is_repeated:
        world.children["index"] = lambda _: []
    root = Gathering("root")
    result, events = again(path, after, root, backend=backend)
    index = world.objects["index"]
    assert world.objects["root"] is root
    assert world.objects["hook of index"] is index
    for name in ("page", "image", "hook of page", "hook of section", "hook of also below"):
        held: Any = world.objects[name]
        assert held.parent is index, name
    assert index.parent is root  # type: ignore[attr-defined]
    assert (result.status, result.counts.enqueued) == ("completed", 7)
    assert not any(isinstance(event, ItemAdopted) for event in events)
    assert world.did.index("page") > world.did.index("root"), "it waits until it is known which object it holds"


def test_a_hook_that_is_due_waits_for_the_object_that_its_item_holds(tmp_path: Path) -> None:
    """All below a completed child has ended; its hook runs once its parent is the object that runs."""
    path = tmp_path / "run.db"
    world.children["root"] = index_of
    world.children["index"] = lambda index: [Gathering("section", index)]
    world.children["section"] = parent_of(lambda: Named("page"))
    world.raises.update({"root": 1, "index": 1, "hook of section": 1})
    run(path, Gathering("root"), on_error="continue")
    result, _ = again(path, events_of(path)[-1].seq, Gathering("root"))
    section: Any = world.objects["hook of section"]
    assert section.parent is world.objects["index"]
    assert (result.status, world.did.count("hook of section")) == ("completed", 1)


def test_an_item_that_waits_for_a_retry_waits_for_the_object_that_it_holds_too(tmp_path: Path) -> None:
    """It is tried again once both are over, with the object that runs."""
    path = tmp_path / "run.db"
    world.children["root"] = index_of
    world.children["index"] = lambda index: [Named("section", index)]
    world.children["section"] = lambda section: [TriedAgain("page", section.parent)]
    world.raises.update({"root": 1, "index": 1, "page": 1})
    run(path, Gathering("root"), on_error="continue")
    events = events_of(path)
    result, _ = again(path, first(events, ItemRetryScheduled), Gathering("root"))
    page: Any = world.objects["page"]
    assert page.parent is world.objects["index"]
    assert result.status == "completed"


def test_what_may_have_crashed_the_process_runs_with_the_objects_that_were_recorded(tmp_path: Path) -> None:
    """It runs before everything else, so what it holds runs as it was recorded, too; but initial items are today's."""
    path = tmp_path / "run.db"
    world.children["root"] = lambda root: [Named("index", root)]
    world.children["index"] = lambda index: [Named("section", index)]
    world.children["section"] = lambda section: [Named("page", section.parent), Named("also", section.parent)]
    world.raises.update({"root": 2, "index": 2})
    run(path, Gathering("root"), on_error="continue")
    _, events = again(path, first(events_of(path), ItemStarted, item=4), Gathering("root"), on_error="continue")
    path = path.with_name(f"cut after {first(events, ItemStarted, item=4)}.db")
    root = Gathering("root")
    result, _ = again(path, first(events, ItemStarted, item=4, attempt=2), root)  # it has crashed twice at page alone
    page: Any = world.objects["page"]
    also: Any = world.objects["also"]
    index: Any = world.objects["index"]
    assert world.did[0] == "page"
    assert page.parent is also.parent is index
    assert page.parent.parent is index.parent is world.objects["root"] is root
    assert result.status == "completed"


def test_other_attributes_of_an_adopted_item_are_recorded(tmp_path: Path, backend: Backend) -> None:
    """A child is known again by its key and runs with its new attributes; so does its hook after another crash."""
    path = tmp_path / "run.db"
    world.children["root"] = parent_of(lambda: KeyedGathering("k", 1))
    world.children["k"] = parent_of(lambda: Named("leaf"))
    world.raises["root"] = 1
    run(path, Named("root"), on_error="continue", backend=backend)
    world.children["root"] = parent_of(lambda: KeyedGathering("k", 2))
    path = cut(path, first(events_of(path), ItemFailed, item=1), path.with_name("first.db"))
    _, events = again(path, first(events_of(path), ItemFailed, item=1), Named("root"), backend=backend)
    assert [event.item for event in events if isinstance(event, ItemAdopted)] == [2]
    path = path.with_name(f"cut after {first(events_of(path), ItemFailed, item=1)}.db")

    # The next process comes when its process has not run, and its parent, which has completed, says nothing more of it.
    again(path, first(events, ItemCompleted, item=1), Named("root"), backend=backend)
    assert world.objects["k"].rest == world.objects["hook of k"].rest == 2  # type: ignore[attr-defined]

    # And when only its hook is left.
    again(path, first(events, ItemCompleted, item=2), Named("root"), backend=backend)
    assert world.did == ["leaf", "hook of k"]
    assert world.objects["hook of k"].rest == 2  # type: ignore[attr-defined]

    # Enqueued once more with the attributes that were recorded last, it says nothing new.
    _, events = again(path, first(events, ItemAdopted), Named("root"), backend=backend)
    assert len([event for event in events if isinstance(event, ItemAdopted)]) == 1

    # And with the first ones again, it does.
    world.children["root"] = parent_of(lambda: KeyedGathering("k", 1))
    _, events = again(path, first(events, ItemAdopted), Named("root"), backend=backend)
    assert len([event for event in events if isinstance(event, ItemAdopted)]) == 2
    assert world.objects["hook of k"].rest == 1  # type: ignore[attr-defined]


def test_other_attributes_of_an_initial_item_are_recorded(tmp_path: Path) -> None:
    """An initial item that was waiting is known again by its key, and runs as it is today, also after another crash."""
    path = tmp_path / "run.db"
    run(path, Keyed("a", 1), Keyed("b", 1))
    cut_at = first(events_of(path), ItemStarted)
    _, events = again(path, cut_at, Keyed("a", 1), Keyed("b", 2))
    assert [event.item for event in events if isinstance(event, ItemAdopted)] == [2]
    path = path.with_name(f"cut after {cut_at}.db")
    again(path, first(events, ItemAdopted), Keyed("a", 1))
    assert world.objects["b"].rest == 2  # type: ignore[attr-defined]


class Ticks(Item):
    """Counts in overall progress, and changes what its children can see of it."""

    track_overall: ClassVar[bool] = True

    def __init__(self, number: int) -> None:
        self.number = number

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        set_desc(f"tick {self.number}")
        world.saw(self, f"tick {self.number}")
        if self.number:
            enqueue(Ticks(self.number - 1))
            enqueue(Ticks(self.number - 1))


# ---- what a run goes on with --------------------------------------------------------------------------------------


def test_a_finished_run_returns_its_result_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing runs, no reporter is opened, not a byte changes, the result is the recorded one, and a line says so."""
    path = tmp_path / "run.db"
    world.children["root"] = parent_of(lambda: Named("a"))
    result = run(path, Gathering("root"), Named("other"))
    before = path.read_bytes()
    world.did.clear()
    recorder = EventRecorder()
    capsys.readouterr()
    repeated = run(path, Gathering("root"), Named("other"), reporter=recorder)
    assert capsys.readouterr().err == f"aqueue: {path} is complete: 3 completed; nothing is left to do\n"
    assert repeated.root_results == result.root_results == [["a"], "other"]
    assert (repeated.run_id, repeated.status, repeated.counts) == (result.run_id, "completed", result.counts)
    assert repeated.counts_by_type == result.counts_by_type
    assert repeated.elapsed_s == pytest.approx(result.elapsed_s, abs=1.0)
    assert (world.did, recorder.events, recorder.result) == ([], [], None)
    assert path.read_bytes() == before


def test_new_initial_items_run(tmp_path: Path) -> None:
    """A finished run that is resumed with more initial items runs those alone, and has all results."""
    path = tmp_path / "run.db"
    run(path, Named("a"), Named("b"))
    world.did.clear()
    result = run(path, Named("a"), Named("c"), Named("b"))
    assert world.did == ["c"]
    assert result.root_results == ["a", "c", "b"]
    told_by(events_of(path))


def test_only_the_new_ones_of_a_source_that_can_be_read_once_run(tmp_path: Path) -> None:
    """Of a finished run's initial items those before and after the first new one are known again, equals one by one."""
    path = tmp_path / "run.db"
    run(path, *[Named(name) for name in "aab"], Keyed("k"))
    world.did.clear()
    before = {*world.keys["a"]}
    new = (Keyed(name) if name == "k" else Named(name) for name in "akkcbaad")
    result = run_queue(new, resume=path, num_workers=1, reporter="none")
    assert world.did == ["c", "a", "d"]
    assert len({*world.keys["a"]} - before) == 1
    assert (result.root_results, result.counts.deduplicated) == (["a", "k", None, "c", "b", "a", "a", "d"], 1)
    told_by(events_of(path))


def test_results_are_in_the_order_of_todays_initial_items(tmp_path: Path, backend: Backend) -> None:
    """Of those that have ended, those that are adopted and new ones; one that was dropped has none."""
    path = tmp_path / "run.db"
    run(path, Named("a"), Keyed("k"), Named("b"), Named("c"), backend=backend)
    events = events_of(path)
    today = (Keyed("k"), Named("c"), Keyed("k"), Named("d"), Named("a"))
    result, _ = again(path, first(events, ItemCompleted, item=2), *today, backend=backend)
    assert sorted(world.did) == ["b", "c", "d"]
    assert result.root_results == ["k", "c", None, "d", "a"]

    # And once all is done: as many as there are today, each the result of its own.
    result, _ = again(path, events[-1].seq, Named("c"), Keyed("k"), Keyed("k"), Named("b"), backend=backend)
    assert (world.did, result.root_results) == ([], ["c", "k", None, "b"])


def test_equal_initial_items_have_results_of_their_own(tmp_path: Path) -> None:
    """The first of several has the result of the first that was recorded, in whatever order others come."""
    path = tmp_path / "run.db"
    run(path, Counts("x"), Named("y"), Counts("x"), Counts("x"))
    today = (Named("y"), Counts("x"), Counts("x"), Counts("x"))
    result, _ = again(path, events_of(path)[-1].seq, *today)
    assert result.root_results == ["y", 1, 2, 3]


def test_known_items_of_a_finished_run_are_not_kept(tmp_path: Path) -> None:
    """Each is freed as soon as it is known again, though a million of them may come before a new one."""
    path = tmp_path / "run.db"
    run_queue((Remembered(n) for n in range(100)), resume=path, num_workers=1, reporter="none")
    alive: weakref.WeakSet[Item] = weakref.WeakSet()
    most = 0

    def items() -> Iterator[Item]:
        nonlocal most
        for number in range(101):
            item = Remembered(number)
            alive.add(item)
            most = max(most, len(alive))
            yield item
            del item

    assert run_queue(items(), resume=path, num_workers=1, reporter="none").counts.enqueued == 101
    assert most <= 3


def test_the_view_goes_on_where_it_stood(tmp_path: Path) -> None:
    """Reporters of a resumed run see counters, overall totals and time as at the crash, and end at the engine's counts."""
    path = tmp_path / "run.db"
    run(path, Ticks(3))
    events = events_of(path)
    after = first(events, ItemCompleted, item=5)
    at_crash = RunView()
    at_crash.apply(events[:after])
    views: list[Any] = []

    class Looks(EventRecorder):
        def handle(self, events: Any, view: RunView) -> None:
            if events and isinstance(events[0], RunResumed):
                views.append(view)
            super().handle(events, view)

    recorder = Looks()
    result, all_events = again(path, after, Ticks(3), reporter=recorder)
    whole = RunView()
    whole.apply(all_events)
    [view] = views
    assert view.counts == whole.counts == result.counts
    assert view.overall == whole.overall
    assert view.overall.enqueued == 15
    assert recorder.events == all_events[after:]
    resumed = all_events[after]
    at_resume = RunView()
    at_resume.apply(all_events[: after + 1])
    assert at_resume.counts == at_crash.counts
    assert at_resume.overall == at_crash.overall
    assert at_resume.elapsed_s(resumed.at) == pytest.approx(at_crash.at - at_crash.started_at)
    last = all_events[-1]
    assert whole.elapsed_s(last.at) == pytest.approx(at_crash.at - at_crash.started_at + last.at - resumed.at)
    assert result.elapsed_s == pytest.approx(whole.elapsed_s(last.at), abs=0.5)


def test_a_journal_that_ends_with_a_description_is_resumed(tmp_path: Path) -> None:
    """Descriptions are not read on a resume, but their numbers are taken."""
    path = tmp_path / "run.db"
    run(path, Named("a"))
    events = events_of(path)
    [described] = [event.seq for event in events if event.event == "item.described"]
    result, _ = again(path, described, Named("a"))
    assert result.status == "completed"


class Grouped(Named):
    """One that is, like all others, of one group."""

    group = "one"


@pytest.mark.parametrize("cls", [Named, Grouped])
@pytest.mark.parametrize("queue_type_name", ["queue", "stack", "priority"])
def test_the_order_of_the_queue_is_kept(tmp_path: Path, queue_type_name: str, cls: type[Named]) -> None:
    """With one worker, wherever the run is cut, what is left runs in the order in which it would have run."""
    path = tmp_path / "run.db"
    for name in ("m", "c", "x"):
        world.children[name] = parent_of(*[partial(cls, f"{name}{n}") for n in (2, 1, 3)])
    roots = [partial(cls, name) for name in ("m", "c", "x")]
    run(path, *[make() for make in roots], queue_type_name=queue_type_name)
    order = list(world.did)
    events = events_of(path)
    for event in events:
        if isinstance(event, ItemCompleted):
            done = sum(isinstance(one, ItemCompleted) for one in events[: event.seq])
            again(path, event.seq, *[make() for make in roots], queue_type_name=queue_type_name)
            assert world.did == order[done:], f"cut after {done} items"
        if isinstance(event, ItemStarted):
            done = sum(isinstance(one, ItemCompleted) for one in events[: event.seq])
            again(path, event.seq, *[make() for make in roots], queue_type_name=queue_type_name)
            assert world.did == order[done:], f"cut after {done} items and a start"


def test_attempts_count_on(tmp_path: Path) -> None:
    """Each attempt has its own number, over all processes."""
    path = tmp_path / "run.db"
    world.raises["a"] = 2
    for _ in range(3):
        run(path, Named("a"))
    events = events_of(path)
    assert [event.attempt for event in events if isinstance(event, ItemStarted)] == [1, 2, 3]
    assert [event.attempt for event in events if isinstance(event, ItemFailed)] == [1, 2]
    assert len(set(world.keys["a"])) == 1
    told_by(events)


class Crowding(Named):
    """One of a group, which tells how many run at once."""

    group = "crowd"
    running: ClassVar[int] = 0
    most: ClassVar[int] = 0

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        Crowding.running += 1
        Crowding.most = max(Crowding.most, Crowding.running)
        try:
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
            return await super().process(enqueue, set_desc)
        finally:
            Crowding.running -= 1


def test_limits_and_policies_hold_for_what_was_enqueued_before_a_crash(tmp_path: Path) -> None:
    """A restored item is limited by its group, and tried again, as one that is enqueued now."""
    path = tmp_path / "run.db"
    names = [f"child {number}" for number in range(6)]
    world.children["a"] = parent_of(*(partial(Crowding, name) for name in names))
    run(path, Named("a"))
    cut_off = cut(path, first(events_of(path), ItemCompleted, item=1), tmp_path / "cut.db")
    world.did.clear()
    world.raises["child 3"] = 1
    Crowding.most = 0
    result = run(
        cut_off,
        Named("a"),
        num_workers=6,
        limits={"crowd": aqueue.Limit(concurrent=2)},
        retry=aqueue.Retry(attempts=2, first_s=0),
    )
    assert result.status == "completed"
    assert Crowding.most == 2
    assert sorted(world.did) == sorted([*names, "child 3"])


class Ranked(Keyed):
    """One that is ordered by something else than its key."""

    def __lt__(self, other: Named) -> bool:
        return isinstance(other, Ranked) and self.rest < other.rest


def test_an_initial_item_whose_rank_has_changed_takes_its_new_place(tmp_path: Path) -> None:
    """Matched by their keys, initial items run in the order that they have now."""
    path = tmp_path / "run.db"
    run(path, *[Ranked(name, rank) for rank, name in enumerate("abcdef")], queue_type_name="priority")
    assert world.did == [*"abcdef"]
    after = first(events_of(path), ItemCompleted, item=2)
    again(path, after, *[Ranked(name, -rank) for rank, name in enumerate("abcdef")], queue_type_name="priority")
    assert world.did == [*"fedc"]


class Deep(Item):
    """One of a chain, in which each refers to the one above it."""

    def __init__(self, depth: int, parent: Item | None = None) -> None:
        self.depth = depth
        self.parent = parent

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        if self.depth:
            enqueue(Deep(self.depth - 1, self))

    async def after_children_processed(self) -> int:
        below: list[int] = aqueue.child_results()
        return sum(below) + 1


def test_a_long_chain_is_resumed_without_recursion(tmp_path: Path) -> None:
    """A chain of 3,000 items, cut in its middle or among its hooks, also when the initial items raise first."""
    path = tmp_path / "run.db"
    run(path, Deep(3_000))
    events = events_of(path)

    def raises() -> Iterator[Item]:
        yield Deep(3_000)
        raise ZeroDivisionError

    for after in (len(events) // 2, len(events) * 4 // 5):
        cut_off = cut(path, after, tmp_path / f"{after}.db")
        with pytest.raises(ZeroDivisionError):
            run_queue(raises(), resume=cut_off, reporter="none")
        assert run(cut_off, Deep(3_000)).root_results == [3_001]


class Stays(Named):
    """One that does not end before it is cancelled, the first time."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        for child in world.children[self.name](self):
            enqueue(child)
        world.saw(self, self.name)
        if aqueue.current().attempt == 1:
            await anyio.sleep_forever()
        return self.name


def test_a_run_that_its_caller_cancelled_is_resumed(tmp_path: Path, backend: Backend) -> None:
    """What was running is interrupted and runs again; its children are not announced twice."""
    path = tmp_path / "run.db"
    world.children["stays"] = parent_of(lambda: Named("a"), lambda: Named("b"))

    async def cancelled() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(
                partial(aqueue.async_run_queue, [Stays("stays")], num_workers=2, journal=path, reporter="none")
            )
            while world.did != ["stays", "a", "b"]:
                await anyio.sleep(0.001)
            group.cancel_scope.cancel()

    anyio.run(cancelled, backend=backend)
    world.did.clear()
    assert run(path, Stays("stays"), backend=backend).counts.enqueued == 3
    assert world.did == ["stays"]
    story = told_by(events_of(path))
    assert [event.reason for event in story.events if isinstance(event, ItemInterrupted)] == ["cancelled"]


# ---- refusals -----------------------------------------------------------------------------------------------------


def test_journal_refuses_an_existing_file(tmp_path: Path) -> None:
    """A new run does not touch the journal of another, and says how to resume it."""
    path = tmp_path / "run.db"
    run(path, Named("a"))
    before = path.read_bytes()
    with pytest.raises(JournalExists, match="resume="):
        run_queue([Named("a")], journal=path, reporter="none")
    assert path.read_bytes() == before


def _interrupted(path: Path, code: dict[str, Any], body: str, children: int = 3) -> Path:
    """Record a run with `children` items waiting of the class that `body` defines; return the cut journal."""
    item = _define(code, body)
    world.children["root"] = lambda _: [item(f"c{n}") for n in range(children)]
    run(path, Named("root"))
    return cut(path, first(events_of(path), ItemCompleted, item=1), path.with_name("cut.db"))


def _define(code: dict[str, Any], body: str) -> Any:
    code["__name__"] = "program"
    exec(body, code)  # a program that is changed between two runs
    return code["Page"]


PAGE = """
from dataclasses import dataclass
from aqueue import Item
from tests.resume.test_resume import world
@dataclass
class Page(Item):
    name: str
    async def process(self, enqueue, set_desc):
        world.saw(self, self.name)
        return self.name
"""


def test_a_class_that_is_gone_is_named_and_nothing_is_changed(tmp_path: Path) -> None:
    """The error says which class and how many items wait; after it is back the same command goes on."""
    code: dict[str, Any] = {}
    path = _interrupted(tmp_path / "run.db", code, PAGE)
    before = path.read_bytes()
    code.clear()
    world.children.clear()
    world.objects.clear()
    gc.collect()
    with pytest.raises(UnknownItemType, match=r"program:Page \(3 outstanding\)"):
        run(path, Named("root"))
    assert path.read_bytes() == before
    _define(code, PAGE)
    world.did.clear()
    assert run(path, Named("root")).status == "completed"
    assert world.did == ["c0", "c1", "c2"]


def test_a_renamed_class_is_found_by_its_previous_name(tmp_path: Path) -> None:
    """Its items run, and in the events they keep the name under which they were announced."""
    code: dict[str, Any] = {}
    path = _interrupted(tmp_path / "run.db", code, PAGE)
    code.clear()
    world.children.clear()
    world.objects.clear()
    gc.collect()
    renamed = PAGE.replace("class Page", "class Leaf").replace("name: str", "previous_names = ['Page']\n    name: str")
    code["Page"] = None
    _define(code, renamed)
    recorder = EventRecorder()
    result = run(path, Named("root"), reporter=recorder)
    assert result.status == "completed"
    story = told_by(events_of(path))
    assert set(result.counts_by_type) == {f"{__name__}:Named", "program:Page"}
    assert {event.type for event in story.events if isinstance(event, ItemStarted)} == set(result.counts_by_type)
    assert run(path, Named("root")).counts_by_type == result.counts_by_type


def test_keys_of_a_renamed_class_are_known(tmp_path: Path) -> None:
    """The visited set holds under the new name, also if the previous one is given without its module."""
    keyed = PAGE + "    @property\n    def key(self):\n        return self.name\n"
    code: dict[str, Any] = {}
    path = tmp_path / "run.db"
    run(path, _define(code, keyed)("seen"))
    renamed = keyed.replace("class Page", "class Leaf").replace("name: str", "previous_names = 'Page'\n    name: str")
    code.clear()
    code["Page"] = None
    _define(code, renamed)
    world.did.clear()
    world.children["root"] = parent_of(lambda: code["Leaf"]("seen"), lambda: code["Leaf"]("unseen"))
    assert run(path, Named("root")).counts.deduplicated == 1
    assert world.did == ["root", "unseen"]


def test_a_new_required_field_is_refused_and_one_with_a_default_is_not(tmp_path: Path) -> None:
    """The error names the class, the field and how many wait, and changes nothing; with a default the items run."""
    code: dict[str, Any] = {}
    path = _interrupted(tmp_path / "run.db", code, PAGE)
    before = path.read_bytes()
    _define(code, PAGE.replace("name: str", "name: str\n    depth: int"))
    with pytest.raises(PayloadMismatch, match=r"(?s)program:Page.*depth.*3 items of program:Page are outstanding"):
        run(path, Named("root"))
    assert path.read_bytes() == before
    _define(code, PAGE.replace("name: str", "name: str\n    depth: int = 0"))
    world.did.clear()
    assert run(path, Named("root")).status == "completed"
    assert world.did == ["c0", "c1", "c2"]


def test_children_of_a_class_with_a_new_default_are_still_the_recorded_ones(tmp_path: Path) -> None:
    """A parent that runs again enqueues objects with the new field, and they match what was recorded without it."""
    code: dict[str, Any] = {}
    item = _define(code, PAGE)
    world.children["root"] = lambda _: [item("a"), item("b")]
    path = tmp_path / "run.db"
    world.raises["root"] = 1
    run(path, Named("root"), on_error="continue")
    cut_off = cut(path, first(events_of(path), ItemCompleted, item=2), tmp_path / "cut.db")
    newer = _define(code, PAGE.replace("name: str", "name: str\n    depth: int = 0"))
    world.children["root"] = lambda _: [newer("a"), newer("b")]
    world.did.clear()
    result = run(cut_off, Named("root"))
    assert world.did == ["root", "b"]
    assert result.counts.enqueued == 3


def test_initial_items_of_a_class_with_a_new_default_are_still_the_recorded_ones(tmp_path: Path) -> None:
    """Those that have ended are not run again, with or without others outstanding; a new one is, and is told apart."""
    code: dict[str, Any] = {}
    item = _define(code, PAGE)
    path = tmp_path / "run.db"
    run(path, *[item(name) for name in "aabc"])
    after = first(events_of(path), ItemCompleted, item=3)
    newer = _define(code, PAGE.replace("name: str", "name: str\n    depth: int = 0"))
    result, _ = again(path, after, *[newer(name) for name in "daaabc"])
    assert sorted(world.did) == ["a", "c", "d"]
    assert result.counts.enqueued == 6
    world.did.clear()
    result = run(path, *[newer(name) for name in "daaabc"])
    assert sorted(world.did) == ["a", "d"]
    assert result.counts.enqueued == 6
    before = path.read_bytes()
    assert run(path, *[newer(name) for name in "daaabc"]).counts == result.counts
    assert path.read_bytes() == before


def test_a_hook_that_came_to_a_class_later_is_not_run_for_recorded_items(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether an item has a hook is settled when it is announced, and a class that differs is named once."""
    code: dict[str, Any] = {}
    with_hook = (
        PAGE + "    async def after_children_processed(self):\n        world.saw(self, f'hook of {self.name}')\n"
    )
    path = _interrupted(tmp_path / "run.db", code, PAGE)
    _define(code, with_hook)
    world.did.clear()
    capsys.readouterr()
    assert run(path, Named("root")).status == "completed"
    assert world.did == ["c0", "c1", "c2"]
    said = capsys.readouterr().err
    assert said.count("program:Page now has an after_children_processed, but had none when 3 of its") == 1
    told_by(events_of(path))
    path = _interrupted(tmp_path / "second.db", code, with_hook)
    _define(code, PAGE)
    world.did.clear()
    capsys.readouterr()
    assert run(path, Named("root")).status == "completed"
    assert world.did == ["c0", "c1", "c2"]
    said = capsys.readouterr().err
    assert said.count("program:Page no longer has an after_children_processed, but had one when 3 of its") == 1
    told_by(events_of(path))


def test_an_item_that_cannot_be_stored_is_refused_when_it_is_enqueued(tmp_path: Path) -> None:
    """Its parent's enqueue raises, naming class and attribute, and so the parent fails; nothing is recorded of the child."""
    path = tmp_path / "run.db"

    def children(_: Item) -> list[Item]:
        child = Named("child")
        child.socket = object()  # type: ignore[attr-defined]
        return [child]

    world.children["root"] = children
    with pytest.raises(ItemFailures) as caught:
        run_queue([Named("root")], journal=path, reporter="none")
    [error] = caught.value.exceptions
    assert isinstance(error, UnstorableItem)
    assert "Named" in str(error)
    assert "socket" in str(error)
    assert sum(isinstance(event, ItemEnqueued) for event in events_of(path)) == 1


def test_a_second_run_of_a_journal_is_refused_in_one_process(tmp_path: Path) -> None:
    """A run inside an item can't resume the journal of the run that it is in."""
    path = tmp_path / "run.db"

    class Inner(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            with pytest.raises(JournalLocked):
                await aqueue.async_run_queue([Named("a")], resume=path, reporter="none")

    assert run_queue([Inner()], journal=path, reporter="none").status == "completed"


# ---- keys ---------------------------------------------------------------------------------------------------------


def test_a_hundred_thousand_keys_fit_in_fifteen_megabytes() -> None:
    """The visited set costs at most 150 bytes a key, however long the keys are."""
    import tracemalloc

    from aqueue._codec.digests import KeySet

    keys = KeySet()
    tracemalloc.start()
    for number in range(100_000):
        keys.add("shop:Page", f"https://example.org/{'directory/' * 20}{number}")
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(keys) == 100_000
    assert size < 150 * 100_000


class Remembered(Item):
    """Stops the run at its first item; counts how many others are alive when it runs."""

    alive: ClassVar["weakref.WeakSet[Remembered]"] = weakref.WeakSet()
    most: ClassVar[int] = 0
    stops: ClassVar[bool] = False

    def __init__(self, number: int) -> None:
        self.number = number

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        cls = type(self)
        if cls.stops:
            aqueue.stop("enough")
            return
        cls.alive.add(self)
        cls.most = max(cls.most, len(cls.alive))


class Rememberer(Item):
    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for number in range(100):
            enqueue(Remembered(number))


@pytest.mark.parametrize("items", [lambda: (Remembered(n) for n in range(100)), lambda: [Rememberer()]])
def test_a_restored_item_is_freed_when_it_has_ended(tmp_path: Path, items: Callable[[], Any]) -> None:
    """The initial items, though they were all asked for before, and those that were waiting."""
    path = tmp_path / "run.db"
    Remembered.stops = True
    run_queue(items(), num_workers=1, reporter="none", resume=path)
    Remembered.stops, Remembered.most = False, 0
    result = run_queue(items(), num_workers=1, reporter="none", resume=path)
    assert (result.status, result.counts.outstanding) == ("completed", 0)
    assert Remembered.most <= 2


def test_restored_children_that_wait_for_their_parent_are_freed_with_the_run(tmp_path: Path) -> None:
    """The run ends before the parent could enqueue them again: nothing of them stays in memory."""
    path = tmp_path / "run.db"
    world.children["root"] = parent_of(lambda: Named("child"))
    world.children["child"] = parent_of(lambda: Named("grandchild"))
    world.raises.update({"root": 1, "child": 1, "grandchild": 1})
    run(path, Named("root"), on_error="continue")
    world.objects.clear()

    def raises() -> Iterator[Item]:
        yield Named("root")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_queue(raises(), resume=path, reporter="none")
    gc.collect()
    assert [one for one in gc.get_objects() if isinstance(one, Named)] == []


def test_ctrl_c_ends_a_blocking_source_of_items_when_a_run_is_resumed(tmp_path: Path) -> None:
    """KeyboardInterrupt at once; the journal is what it was with a process that ran nothing, and is given back."""
    path = tmp_path / "run.db"
    Remembered.stops = True
    run_queue([Remembered(1), Remembered(2)], num_workers=1, reporter="none", resume=path)
    before = events_of(path)

    def blocking() -> Iterator[Item]:
        yield Remembered(1)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_queue(blocking(), reporter="none", resume=path)
    assert time.monotonic() - began < 30
    events = events_of(path)
    assert events[: len(before)] == before
    assert [event.event for event in events[len(before) :]] == ["run.resumed", "run.stopping", "run.finished"]
    Remembered.stops = False
    assert run_queue([Remembered(1), Remembered(2)], reporter="none", resume=path).status == "completed"
