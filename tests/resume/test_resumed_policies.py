"""Resuming a run with policies: waits, counted attempts, pauses of groups, and failures that are left as they are."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

import aqueue
from aqueue import (
    Backend,
    EnqueueFn,
    InvalidArgument,
    Item,
    ItemFailures,
    Limit,
    RecordedFailure,
    Retry,
    RetryAfter,
    RunResult,
    SetDescFn,
    run_queue,
)
from aqueue.events import (
    GroupSlowedDown,
    ItemChildrenFailed,
    ItemEnqueued,
    ItemFailed,
    ItemReopened,
    ItemRetryScheduled,
    ItemStarted,
    RunStopping,
)
from tests.journal.oracle import told_by
from tests.journal.recorded import cut, events_of

did: list[str] = []
raises: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Forget what the items of the test before did."""
    yield
    did.clear()
    raises.clear()


def act(what: str) -> None:
    """Do `what`, which may raise."""
    did.append(what)
    if raises[what] > 0:
        raises[what] -= 1
        raise ConnectionError(what)


class Plain(Item):
    """Enqueues what it was given and may raise; so does its hook, if it has one."""

    def __init__(self, name: str, *children: Any) -> None:
        self.name = name
        self.children: tuple[Any, ...] = children

    def make(self) -> Iterator[Item]:
        for kind, *rest in self.children:
            yield KINDS[kind](*rest)

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        for child in self.make():
            enqueue(child)
        act(self.name)
        return self.name


class Gathering(Plain):
    """One with a hook."""

    async def after_children_processed(self) -> list[Any]:
        act(f"hook of {self.name}")
        return aqueue.child_results()


class Anyway(Gathering):
    """One whose hook runs also over failures."""

    after_children_rule = "all_done"


class Retried(Gathering):
    """One that is tried three times, at once."""

    retry = Retry(attempts=3, first_s=0.0)


class Patient(Plain):
    """One that asks for an hour, the first time."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        did.append(self.name)
        if aqueue.current().attempt == 1:
            raise RetryAfter(3600)
        return self.name


class Slowing(Plain):
    """One that slows its group down."""

    group: ClassVar[str] = "host"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        did.append(self.name)
        aqueue.slow_down("host", 3600)
        return self.name


KINDS: dict[str, type[Plain]] = {"plain": Plain, "gathering": Gathering, "retried": Retried, "anyway": Anyway}


def run(path: Path, items: list[Item], **settings: Any) -> RunResult:
    """Begin a run at `path` or go on with it, and return what came of it, also if items failed."""
    try:
        return run_queue(items, resume=path, reporter="none", **{"on_error": "continue", **settings})
    except ItemFailures as failures:
        return failures.result


def test_a_wait_goes_on_after_a_resume(tmp_path: Path, backend: Backend) -> None:
    """What is to wait an hour waits on, its attempt isn't made, and nothing is said to have failed."""
    path = tmp_path / "run.db"
    for _ in range(2):
        result = run(path, [Patient("a")], stop_after_s=0.2, backend=backend)
        assert result.status == "interrupted"
        assert result.counts.retried == 1
    assert did == ["a"]
    told_by(events_of(path))


def test_an_attempt_that_has_become_due_is_made_at_once(tmp_path: Path) -> None:
    """An item whose wait has passed while nothing ran is tried when the run goes on, and its attempts count on."""
    path = tmp_path / "run.db"
    raises["a"] = 1
    run(path, [Retried("a")], max_items=1)
    events = events_of(path)
    scheduled = next(number for number, event in enumerate(events, 1) if isinstance(event, ItemRetryScheduled))
    half = cut(path, scheduled, tmp_path / "half.db")
    did.clear()
    assert run(half, [Retried("a")]).status == "completed"
    assert did == ["a", "hook of a"]
    story = told_by(events_of(half))
    assert story.attempts[1, "process"] == 2


def test_attempts_are_counted_over_resumes(tmp_path: Path) -> None:
    """Of three attempts one was made before a crash: two are left, and then the item has failed."""
    path = tmp_path / "run.db"
    raises["a"] = 9
    run(path, [Retried("a")])
    assert did == ["a", "a", "a"]
    events = events_of(path)
    scheduled = next(number for number, event in enumerate(events, 1) if isinstance(event, ItemRetryScheduled))
    half = cut(path, scheduled, tmp_path / "half.db")
    did.clear()
    result = run(half, [Retried("a")])
    assert did == ["a", "a"]
    assert [failure.attempt for failure in result.failures] == [3]
    told_by(events_of(half))


def test_a_failed_item_gets_its_attempts_afresh(tmp_path: Path) -> None:
    """After a resume it is tried three times more; its attempts are numbered on, and each error is in the journal."""
    path = tmp_path / "run.db"
    raises["a"] = 5
    run(path, [Retried("a")])
    result = run(path, [Retried("a")])
    assert did == ["a"] * 6 + ["hook of a"]
    assert result.status == "completed"
    events = events_of(path)
    assert [event.attempt for event in events if isinstance(event, ItemStarted) and event.phase == "process"] == [
        *range(1, 7)
    ]
    errors = [event.error.message for event in events if isinstance(event, ItemRetryScheduled | ItemFailed)]
    assert errors == ["a"] * 5
    told_by(events)


class Counting(Plain):
    """One that notes how many attempts it has left, and fails."""

    retry = Retry(attempts=3, first_s=0.0)

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        did.append(f"{aqueue.current().attempt}: {aqueue.current().attempts_left} left")
        raise ConnectionError(self.name)


def test_an_item_is_told_how_many_attempts_it_has_left(tmp_path: Path, backend: Backend) -> None:
    """None in the last; all of them again when a failed item is resumed."""
    for _ in range(2):
        run(tmp_path / "run.db", [Counting("a")], backend=backend)
    assert did == ["1: 2 left", "2: 1 left", "3: 0 left", "4: 2 left", "5: 1 left", "6: 0 left"]


def test_a_retried_hook_is_tried_on_after_a_resume_without_its_item(tmp_path: Path) -> None:
    """A crash between two attempts at a hook: the hook is tried again, `process` is not."""
    path = tmp_path / "run.db"
    raises["hook of a"] = 2
    run(path, [Retried("a", ("plain", "b"))])
    events = events_of(path)
    scheduled = next(number for number, event in enumerate(events, 1) if isinstance(event, ItemRetryScheduled))
    half = cut(path, scheduled, tmp_path / "half.db")
    did.clear()
    raises["hook of a"] = 1
    result = run(half, [Retried("a", ("plain", "b"))])
    assert did == ["hook of a", "hook of a"]
    assert result.root_results == [["b"]]
    told_by(events_of(half))


def test_the_children_of_a_retried_parent_are_known_after_a_crash(tmp_path: Path) -> None:
    """Wherever the run is cut off, each child is announced once."""
    path = tmp_path / "run.db"
    children = [("plain", "b"), ("plain", "b"), ("plain", "c")]
    raises["a"] = 2
    run(path, [Retried("a", *children)], num_workers=1)
    whole = events_of(path)
    for after in range(1, len(whole)):
        half = cut(path, after, tmp_path / f"{after}.db")
        raises["a"] = 2 - sum(isinstance(event, ItemRetryScheduled) for event in whole[:after])
        assert run(half, [Retried("a", *children)], num_workers=1).status == "completed"
        events = events_of(half)
        told_by(events)
        assert [event.type.rpartition(":")[2] for event in events if isinstance(event, ItemEnqueued)] == [
            "Retried",
            "Plain",
            "Plain",
            "Plain",
        ]


class Growing(Item):
    """One whose fourth attempt has a child more than those before, equal to the other."""

    retry = Retry(attempts=2, first_s=0.0)

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        enqueue(Plain("b"))
        if aqueue.current().attempt < 4:
            raise ConnectionError
        enqueue(Plain("b"))


def test_a_new_child_after_adopted_equal_ones_is_counted_once(tmp_path: Path) -> None:
    """An attempt that repeats what an earlier one of its process has adopted goes on with the next occurrence."""
    path = tmp_path / "run.db"
    run(path, [Growing()])
    assert run(path, [Growing()]).status == "completed"
    children = [event for event in events_of(path) if isinstance(event, ItemEnqueued) and event.parent]
    assert [event.occurrence for event in children] == [0, 1]
    told_by(events_of(path))


class Asking(Plain):
    """One without a policy that asks to be tried again, after it has enqueued."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        for child in self.make():
            enqueue(child)
        act(self.name)
        if raises["asks"] > 0:
            raises["asks"] -= 1
            raise RetryAfter(0.0)
        return self.name


def test_a_resumed_parent_that_asks_to_be_tried_again_enqueues_nothing_twice(tmp_path: Path) -> None:
    """Its class has no policy, but its recorded children are known, in each further attempt."""
    path = tmp_path / "run.db"
    children = [("plain", "b"), ("plain", "b"), ("plain", "c")]
    raises["a"] = 1
    run(path, [Asking("a", *children)], num_workers=1)
    raises["asks"] = 2
    result = run(path, [Asking("a", *children)], num_workers=1)
    assert (result.status, result.counts.enqueued, result.counts.retried) == ("completed", 4, 2)
    assert Counter(did) == {"a": 4, "b": 2, "c": 1}
    told_by(events_of(path))


def test_a_pause_of_a_group_goes_on_after_a_resume(tmp_path: Path, backend: Backend) -> None:
    """Items of a group that was slowed down for an hour do not start in the next process either."""
    path = tmp_path / "run.db"
    items: list[Item] = [Slowing("a"), Slowing("b")]
    for _ in range(2):
        assert run(path, items, stop_after_s=0.2, num_workers=1, backend=backend).status == "interrupted"
    assert did == ["a"]
    events = events_of(path)
    assert len([event for event in events if isinstance(event, GroupSlowedDown)]) == 1
    told_by(events)


class Hosted(Plain):
    """One whose group can't be told any more once a test says so."""

    is_lost: ClassVar[bool] = False

    @property
    def group(self) -> str:
        if self.is_lost:
            raise LookupError(f"the host of {self.name} is unknown")
        return "host"


def test_a_recorded_item_whose_group_raises_fails_alone(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An item of an earlier process whose class can't tell its group any more fails; the others run."""
    monkeypatch.setitem(KINDS, "hosted", Hosted)
    path = tmp_path / "run.db"
    items: list[Item] = [Plain("root", ("hosted", "a"), ("plain", "b"), ("hosted", "c"))]
    run(path, items, max_items=1, backend=backend)
    monkeypatch.setattr(Hosted, "is_lost", True)
    result = run(path, items, backend=backend)
    assert (result.status, result.counts.completed, did) == ("failed", 2, ["root", "b"])
    assert [failure.error.message for failure in result.failures] == [
        "the host of a is unknown",
        "the host of c is unknown",
    ]
    told_by(events_of(path))


class Moving(Item):
    """One whose group may be another when it is enqueued again; the first to run stops the run."""

    stops: ClassVar[bool] = True

    def __init__(self, number: int, group: str | None) -> None:
        self.key = f"item {number}"
        self.number = number
        self.group = group

    def __lt__(self, other: "Moving") -> bool:
        return self.number < other.number

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        if self.stops:
            aqueue.stop("enough")
        act(f"{self.group} {self.number}")


@pytest.mark.parametrize("queue_type_name", ["queue", "stack", "priority"])
def test_items_whose_groups_have_changed_keep_their_order(
    tmp_path: Path, queue_type_name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Initial items go into their new groups, and these take turns, by the items' numbers, not by their old groups."""
    arguments: dict[str, Any] = {
        "resume": tmp_path / "run.db",
        "num_workers": 1,
        "reporter": "none",
        "queue_type_name": queue_type_name,
        "limits": {"*": Limit(concurrent=1)},
    }
    run_queue([Moving(number, ["a", "b", None][number % 3]) for number in range(12)], **arguments)
    did.clear()
    monkeypatch.setattr(Moving, "stops", False)
    run_queue([Moving(number, "ab"[number % 2]) for number in range(12)], **arguments)
    order = range(1, 12) if queue_type_name != "stack" else reversed(range(11))  # one has run
    assert did == [f"{'ab'[number % 2]} {number}" for number in order]


def test_a_limit_that_stopped_the_run_is_told(tmp_path: Path) -> None:
    """A run that a limit stopped is resumed like any other, until nothing is left; the limit counts anew."""
    path = tmp_path / "run.db"
    items: list[Item] = [Plain(str(number)) for number in range(5)]
    statuses = [run(path, items, max_items=2).status for _ in range(3)]
    assert statuses == ["interrupted", "interrupted", "completed"]
    assert sorted(did) == ["0", "1", "2", "3", "4"]
    reasons = [event.reason for event in events_of(path) if isinstance(event, RunStopping)]
    assert reasons == ["max_items=2 was reached"] * 2


@pytest.mark.parametrize("failing", ["b", "hook of b"])
def test_what_failed_is_left_as_it_is(tmp_path: Path, failing: str, backend: Backend) -> None:
    """With ``retry_failed=False`` nothing of it is run or reopened; it is still told of, and new items run."""
    path = tmp_path / "run.db"
    raises[failing] = 99
    items: list[Item] = [Gathering("a", ("gathering", "b", ("plain", "c")), ("plain", "d"))]
    run(path, items, backend=backend)
    did.clear()
    for more in ("x", "y"):
        with pytest.raises(ItemFailures) as raised:
            run_queue(
                [*items, Plain(more)],
                resume=path,
                retry_failed=False,
                on_error="continue",
                reporter="none",
                backend=backend,
            )
        (failure,) = raised.value.exceptions
        assert isinstance(failure, RecordedFailure)
        assert raised.value.result.status == "failed"
        assert raised.value.result.counts.failed == 1
        assert [one.error.message for one in raised.value.result.failures] == [failing]
        assert [(group.count, group.first.error.message) for group in raised.value.result.failure_groups] == [
            (1, failing)
        ]
    assert did == ["x", "y"]
    events = events_of(path)
    assert not any(isinstance(event, ItemReopened) for event in events)
    told_by(events)
    raises.clear()
    did.clear()
    assert run(path, [*items, Plain("x"), Plain("y")], backend=backend).status == "completed"
    assert sorted(did) == sorted(["hook of a", "hook of b", *(["b"] if failing == "b" else [])])
    told_by(events_of(path))


def test_what_is_outstanding_runs_beside_what_stays_failed(tmp_path: Path) -> None:
    """Descendants and siblings of a failed item run; its ancestors close over it then, and their hooks don't run."""
    path = tmp_path / "run.db"
    raises["b"] = 1
    items: list[Item] = [
        Gathering("a", ("plain", "b", ("plain", "c")), ("anyway", "d", ("plain", "e"), ("plain", "f"))),
    ]
    run(path, items, num_workers=1, queue_type_name="stack", on_error="stop")
    assert "b" in did
    result = run(path, items, num_workers=1, queue_type_name="stack", retry_failed=False)
    assert sorted(did) == ["a", "b", "c", "d", "e", "f", "hook of d"]
    assert (result.status, result.counts.failed, result.counts.outstanding) == ("failed", 1, 0)
    events = events_of(path)
    assert [event.item for event in events if isinstance(event, ItemChildrenFailed)] == [1]
    told_by(events)


def test_only_failed_items_of_the_types_that_are_picked_run_again(tmp_path: Path) -> None:
    """The others stay failed; an ancestor of both is reopened, and closes over what has stayed."""
    path = tmp_path / "run.db"
    raises.update({"b": 1, "c": 1})
    items: list[Item] = [Gathering("a", ("plain", "b"), ("anyway", "c"))]
    run(path, items)
    did.clear()
    asked: list[str] = []

    def only(type: str) -> bool:
        asked.append(type)
        return type.endswith(":Anyway")

    result = run(path, items, only=only)
    assert did == ["c", "hook of c"]
    assert {type.rpartition(":")[2] for type in asked} == {"Plain", "Anyway"}
    assert (result.status, result.counts.failed) == ("failed", 1)
    told_by(events_of(path))
    did.clear()
    assert run(path, items).status == "completed"
    assert did == ["b", "hook of a"]
    told_by(events_of(path))


def test_a_failed_parent_that_stays_so_lets_its_failed_child_run_again(tmp_path: Path) -> None:
    """An item that failed after it had enqueued stays failed while a descendant of it is tried again."""
    path = tmp_path / "run.db"
    raises.update({"a": 1, "b": 1})
    items: list[Item] = [Gathering("top", ("plain", "a", ("anyway", "b")))]
    run(path, items)
    did.clear()
    result = run(path, items, only=lambda type: type.endswith(":Anyway"))
    assert did == ["b", "hook of b"]
    assert (result.status, result.counts.failed, result.counts.outstanding) == ("failed", 1, 0)
    told_by(events_of(path))
    assert run(path, items).status == "completed"
    assert did == ["b", "hook of b", "a", "hook of top"]
    told_by(events_of(path))


def test_the_line_about_a_resume_says_what_stays_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """How many failed items run again, and how many are left as they are."""
    path = tmp_path / "run.db"
    raises.update({"a": 1, "b": 1})
    run(path, [Plain("a"), Anyway("b")])
    capsys.readouterr()
    run(path, [Plain("a"), Anyway("b")], only=lambda type: type.endswith(":Anyway"))
    said = capsys.readouterr().err
    assert "0 completed, 1 outstanding (1 had failed), 1 failed and not retried" in said


def test_a_child_that_succeeds_on_a_resume_lets_the_hooks_above_it_run_once(tmp_path: Path) -> None:
    """A failure kept the hooks of its ancestors from running; they run when it has been mended, each once."""
    path = tmp_path / "run.db"
    raises["c"] = 3
    items: list[Item] = [Gathering("a", ("gathering", "b", ("retried", "c")))]
    run(path, items)
    assert not any(what.startswith("hook") for what in did)
    assert run(path, items).status == "completed"
    assert [what for what in did if what.startswith("hook")] == ["hook of c", "hook of b", "hook of a"]
    told_by(events_of(path))


def test_only_and_no_failed_items_at_all_contradict_each_other() -> None:
    """The message names both arguments."""
    with pytest.raises(InvalidArgument, match="only and retry_failed=False"):
        run_queue([], retry_failed=False, only=lambda _: True)
