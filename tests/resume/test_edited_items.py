"""What a resume makes of items that were retried, skipped or cancelled while no process ran the run.

`_resume.item_edits` makes the events, which `test_item_edits.py` looks at; random runs are the fuzzer's: `tests.torture.fuzz`.
"""

import json
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import anyio
import pytest
from msgspec import Raw

import aqueue
from aqueue import Backend, EnqueueFn, Item, ItemFailures, RunResult, SetDescFn, run_queue, steering
from aqueue._engine.context import steer
from aqueue._engine.steering import Steering
from aqueue._journal.writer import Journal
from aqueue._resume.editing import edit
from aqueue._verbs import Answer, AnyCommand, Cancel, Pause, Retry, SeenState, Skip, Stop, Unpause
from aqueue.events import (
    Event,
    ItemCancelled,
    ItemEnqueued,
    ItemFailed,
    ItemReopened,
    ItemStarted,
    RunEdited,
    RunStarted,
    RunSteered,
)
from tests.engine.commander import BY, states_of
from tests.journal.oracle import Story, told_by
from tests.journal.recorded import cut, events_of
from tests.torture.__main__ import fork


@dataclass
class Node(Item):
    """Enqueues children by their names; returns how often it has run; its hook returns that, and what it got from them."""

    name: str
    children: tuple[str, ...] = ()

    fails: ClassVar[set[str]] = set()
    tree: ClassVar[dict[str, tuple[str, ...]]] = {}
    ran: ClassVar[Counter[str]] = Counter()

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        Node.ran[self.name] += 1
        for child in Node.tree.get(self.name, self.children):
            enqueue(Node(child))
        if self.name in Node.fails:
            raise ValueError(self.name)
        return f"{self.name}{aqueue.current().attempt}"


@dataclass
class Top(Node):
    """One with a hook."""

    async def after_children_processed(self) -> list[object]:
        Node.ran[f"hook of {self.name}"] += 1
        return [aqueue.current().attempt, *aqueue.child_results()]


@pytest.fixture(autouse=True)
def clean() -> None:
    """Begin with items that do what they say."""
    Node.fails = set()
    Node.tree = {}
    Node.ran.clear()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the journal is."""
    return tmp_path / "run.db"


def run(path: Path, backend: Backend = "trio", items: Sequence[Item] = (), **arguments: Any) -> RunResult:
    """Run or resume, with one initial item and its three children if no others are given; return the result, whatever it is."""
    try:
        return run_queue(
            items or [Top("top", ("a", "b", "c"))],
            resume=path,
            num_workers=1,
            on_error="continue",
            reporter="none",
            backend=backend,
            **arguments,
        )
    except ItemFailures as failures:
        return failures.result
    finally:
        told_by(events_of(path), follows_clock=False)


def command(
    path: Path, verb: Callable[..., AnyCommand], *items: int, state: SeenState | None = None, **fields: Any
) -> Answer:
    """Give a command on these items, in the state in which they are, and return the answer."""
    states = states_of(path)
    by_state: dict[SeenState, list[int]] = {}
    for item in items:
        by_state.setdefault(state or states[item], []).append(item)
    return edit(path, verb(by=BY, selector="these", items=by_state, **fields))


TOP, A, B, C = range(1, 5)


def test_retried_failure_runs_although_failures_are_not_retried(path: Path, backend: Backend) -> None:
    """And the hook above it; the other failure stays, and so the hook doesn't run."""
    Node.fails = {"a", "b"}
    assert run(path, backend).status == "failed"
    Node.fails = set()
    assert command(path, Retry, A).count == 1
    result = run(path, backend, retry_failed=False)
    assert (result.status, [failure.item for failure in result.failures]) == ("failed", [B])
    assert Node.ran == {"top": 1, "a": 2, "b": 1, "c": 1}
    command(path, Retry, B)
    result = run(path, backend, retry_failed=False)
    assert (result.status, result.root_results) == ("completed", [[1, "a2", "b2", "c1"]])
    assert Node.ran == {"top": 1, "a": 2, "b": 2, "c": 1, "hook of top": 1}


def test_completed_item_runs_again_once_and_its_hook_above_once_more(path: Path, backend: Backend) -> None:
    """Its result replaces the old one exactly once; nothing else runs."""
    assert run(path, backend).root_results == [[1, "a1", "b1", "c1"]]
    Node.ran.clear()
    assert command(path, Retry, B, completed=True).count == 1
    result = run(path, backend)
    assert (result.status, result.root_results) == ("completed", [[2, "a1", "b2", "c1"]])
    assert Node.ran == {"b": 1, "hook of top": 1}
    assert run(path, backend).root_results == [[2, "a1", "b2", "c1"]], "and not once more"


def test_children_of_an_item_that_runs_again_are_matched(
    path: Path, backend: Backend, capfd: pytest.CaptureFixture[str]
) -> None:
    """None is announced or run twice; one that isn't enqueued again keeps its result, and a warning counts those."""
    run(path, backend)
    Node.ran.clear()
    Node.tree = {"top": ("c", "a", "new")}
    command(path, Retry, TOP, completed=True)
    result = run(path, backend)
    assert (result.status, result.root_results) == ("completed", [[2, "a1", "b1", "c1", "new1"]])
    assert Node.ran == {"top": 1, "new": 1, "hook of top": 1}
    assert sum(isinstance(event, ItemEnqueued) for event in events_of(path)) == 5
    said = capfd.readouterr().err
    assert f"item 1 ({Top.__module__}:Top) has run again, and did not enqueue 1 of its completed children again" in said


def test_selected_children_of_an_item_that_runs_again_wait_for_it(path: Path, backend: Backend) -> None:
    """They run once it has enqueued them again; also if it is interrupted in between."""
    run(path, backend)
    Node.ran.clear()
    command(path, Retry, TOP, B, completed=True)
    assert run(path, backend, max_items=1).status == "interrupted"
    assert Node.ran == {"top": 1}
    assert run(path, backend).root_results == [[2, "a1", "b2", "c1"]]
    assert Node.ran == {"top": 1, "b": 1, "hook of top": 1}


@pytest.mark.parametrize("rerun", [TOP, A])
def test_old_result_of_an_initial_item_holds_until_the_new_round_has_ended(
    path: Path, backend: Backend, rerun: int
) -> None:
    """Never both, and never none; what a stopped run returns is what a crash would leave."""
    old = [1, "a1", "b1", "c1"]
    run(path, backend)
    command(path, Retry, rerun, completed=True)
    assert so_far(path, backend) == old
    edited = len(events_of(path))
    assert Story(events_of(path)).results[TOP] == b'[1,"a1","b1","c1"]'
    new = run(path, backend).root_results
    assert new == [[2, "a1" if rerun == TOP else "a2", "b1", "c1"]]
    events = events_of(path)
    for after in range(edited, len(events)):
        crashed = cut(path, after, path.with_suffix(f".{after}"))
        holds = Story(events_of(crashed)).results[TOP]
        assert holds
        assert so_far(crashed, backend) == json.loads(holds)
        assert run(crashed, backend).status == "completed"
    assert Node.ran["c"] == 1


def so_far(path: Path, backend: Backend) -> object:
    """Return the result so far of the initial item, by a process that runs nothing."""
    edit(path, Pause(by=BY))
    (result,) = run(path, backend, stop_after_s=0.01).root_results
    edit(path, Unpause(by=BY))
    return result


def test_item_that_fails_when_it_runs_again_has_no_result(path: Path, backend: Backend) -> None:
    """Its parent's old result holds: its hook has not run since."""
    run(path, backend)
    Node.fails = {"a"}
    command(path, Retry, A, completed=True)
    result = run(path, backend)
    assert (result.status, result.root_results) == ("failed", [[1, "a1", "b1", "c1"]])
    assert Story(events_of(path)).results[A] == b""
    Node.fails = set()
    assert run(path, backend).root_results == [[2, "a3", "b1", "c1"]]


def test_skipped_failure_counts_as_successful(path: Path, backend: Backend, capfd: pytest.CaptureFixture[str]) -> None:
    """The hook above runs, with the result that the person gave."""
    Node.fails = {"a"}
    run(path, backend)
    capfd.readouterr()
    command(path, Skip, A, result=Raw(b'"by hand"'))
    result = run(path, backend)
    assert (result.status, result.root_results) == ("completed", [[1, "by hand", "b1", "c1"]])
    assert (result.counts.completed, result.counts.skipped, result.counts.failed) == (3, 1, 0)
    assert Node.ran == {"top": 1, "a": 1, "b": 1, "c": 1, "hook of top": 1}
    assert "3 completed, 1 skipped, 0 outstanding" in capfd.readouterr().err


def test_neither_process_nor_hook_of_a_skipped_item_runs(
    path: Path, backend: Backend, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its children go on, and no warning says that its class has changed."""
    events = crash_in_process(path, backend, of="top")
    command(path, Skip, TOP, result=Raw(b"7"))
    result = run(path, backend)
    assert (result.status, result.root_results) == ("completed", [7])
    assert Node.ran["hook of top"] == Node.ran["top"] == 0
    assert Node.ran["a"] == 1
    assert "after_children_processed" not in capfd.readouterr().err
    assert len(events) < len(events_of(path))


def crash_in_process(path: Path, backend: Backend, of: str) -> list[Event]:
    """Record a run that crashed while the item called `of` was running, after it enqueued its children; return its events."""
    whole = path.with_suffix(".whole")
    run(whole, backend)
    events = events_of(whole)
    Node.ran.clear()
    item = {"top": TOP, "a": A, "b": B, "c": C}[of]
    start = next(event.seq for event in events if isinstance(event, ItemStarted) and event.item == item)
    last = max([start, *(event.seq for event in events if isinstance(event, ItemEnqueued) and event.parent == item)])
    cut(whole, last, path)
    return events_of(path)


def test_cancelled_item_stays_failed_until_it_is_retried(path: Path, backend: Backend) -> None:
    """A resume leaves it, although it retries failed items."""
    crash_in_process(path, backend, of="a")
    assert command(path, Cancel, A, B).count == 2
    for _ in range(2):
        result = run(path, backend)
        assert (result.status, [failure.item for failure in result.failures]) == ("failed", [A, B])
        assert {failure.error.type for failure in result.failures} == {"aqueue.errors:CancelledByUser"}
    assert Node.ran == {"c": 1}
    command(path, Retry, A, B)
    assert run(path, backend).root_results == [[1, "a2", "b1", "c1"]]


def test_item_that_was_cancelled_and_then_interrupted_fails_at_the_resume(path: Path, backend: Backend) -> None:
    """Before anything runs; the counts, the list of failures and the events agree."""
    events = crash_in_process(path, backend, of="a")
    journal = Journal.open(path)
    journal.begin_writing()
    seq, at = events[-1].seq, events[-1].at
    journal.write([RunSteered(seq + 1, at, "cancel", "2", 1, BY), ItemCancelled(seq + 2, at, A)])
    journal.close()
    result = run(path, backend)
    assert (result.status, result.counts.failed, result.counts.completed) == ("failed", 1, 3)
    (failure,) = result.failures
    assert (failure.item, failure.worker, failure.error.message) == (A, 0, "cancelled by anna@laptop")
    new = events_of(path)[seq + 2 :]
    first = next(event for event in new if isinstance(event, ItemStarted | ItemFailed))
    assert isinstance(first, ItemFailed)
    assert Node.ran["a"] == 0
    assert run(path, backend).counts == result.counts


def test_completed_run_runs_what_was_retried(path: Path, backend: Backend, capfd: pytest.CaptureFixture[str]) -> None:
    """It is no longer complete."""
    run(path, backend)
    run(path, backend)
    assert "is complete: 4 completed; nothing is left to do" in capfd.readouterr().err
    command(path, Retry, C, completed=True)
    run(path, backend)
    err = capfd.readouterr().err
    assert "is complete" not in err
    assert "3 completed, 1 outstanding" in err


@dataclass
class Steers(Item):
    """Has what had failed run again, while the run is live."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        answer = steer(Retry(by=BY, selector="these", items={"failed": [A]}))
        assert answer.count == 1


def test_live_command_opens_what_a_resume_has_left_failed(path: Path, backend: Backend) -> None:
    """Its node is there, and those above it, although nothing below them was to run."""
    Node.fails = {"a"}
    run(path, backend)
    Node.fails = set()
    result = run(path, backend, [Top("top", ("a", "b", "c")), Steers()], retry_failed=False)
    assert (result.status, result.root_results) == ("completed", [[1, "a2", "b1", "c1"], None])
    assert [event.item for event in events_of(path) if isinstance(event, ItemReopened)] == [A, TOP]


def test_crash_while_a_command_is_written_leaves_nothing_of_it(path: Path) -> None:
    """It is one transaction: the process is killed after each of its parts, and the run is as it was; then it works."""
    Node.fails = {"a", "b", "c"}
    run(path)
    before = events_of(path)
    failed: dict[SeenState, list[int]] = {"failed": [A, B, C]}

    def die_in_the_middle() -> int:
        insert = Journal._insert

        def dying(journal: Journal, events: list[Event]) -> None:
            insert(journal, events)
            os.kill(os.getpid(), signal.SIGKILL)

        with mock.patch.object(Journal, "_insert", dying):
            edit(path, Retry(by=BY, selector="these", items=failed))
        return 0

    code = os.waitstatus_to_exitcode(os.waitpid(fork(die_in_the_middle), 0)[1])
    assert code == -signal.SIGKILL
    assert events_of(path) == before
    assert edit(path, Retry(by=BY, selector="these", items=failed)).count == 3
    Node.fails = set()
    assert run(path, retry_failed=False).status == "completed"


@pytest.mark.parametrize("verb", [Retry, Skip])
@pytest.mark.parametrize("is_edited", [False, True])
def test_ancestor_is_reopened_although_a_crash_came_before_it_was_recorded(
    path: Path, backend: Backend, verb: Callable[..., AnyCommand], is_edited: bool
) -> None:
    """As it can come in a live run: its hook runs, whether a resume follows or another command."""
    Node.fails = {"a"}
    run(path, backend)
    command(path, verb, A)
    events = events_of(path)
    assert isinstance(events[-1], ItemReopened)
    assert events[-1].item == TOP
    crashed = cut(path, len(events) - 1, path.with_suffix(".cut"))
    Node.fails = set()
    if is_edited:
        assert command(crashed, Retry, B, completed=True).count == 1
        told_by(events_of(crashed), follows_clock=False)
    result = run(crashed, backend)
    expected = [1, *(["a2"] if verb is Retry else []), "b2" if is_edited else "b1", "c1"]
    assert (result.status, result.root_results) == ("completed", [expected])


def test_command_that_can_not_be_written_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full."""
    run(path)
    before = events_of(path)

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "_insert_all", full)
        with pytest.raises(aqueue.JournalError):
            command(path, Retry, A, completed=True)
    assert events_of(path) == before
    assert sum(isinstance(event, RunStarted | RunEdited) for event in before) == 1


@dataclass
class RetriesTop(Item):
    """Has the first item of its run, which has completed, run again."""

    path: str

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        answer = await anyio.to_thread.run_sync(partial(steering.retry, self.path, [TOP], completed=True))
        assert answer.count == 1


def test_attempts_of_what_a_resume_has_restored_as_completed_are_counted_on(path: Path, backend: Backend) -> None:
    """The next attempt has the next number."""
    Node.fails = {"a"}
    run(path, backend)
    items = [Top("top", ("a", "b", "c")), RetriesTop(str(path))]
    run(path, backend, items, retry_failed=False)
    starts = [event for event in events_of(path) if isinstance(event, ItemStarted) and event.item == TOP]
    assert [(event.phase, event.attempt) for event in starts] == [("process", 1), ("process", 2)]


class Later(Item):
    """Asks to be retried in an hour."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        Node.ran["later"] += 1
        raise aqueue.RetryAfter(3_600)


class AboveLater(Item):
    """Fails once its child waits for its retry."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        enqueue(Later())
        while not Node.ran["later"]:
            await anyio.sleep(0.001)
        await anyio.sleep(0.001)
        raise ValueError


@pytest.mark.parametrize("verb", [Skip, Cancel, Retry])
@pytest.mark.parametrize("parent", [[], [1]], ids=["alone", "with its parent"])
def test_item_that_waits_for_its_parent_and_for_its_retry(
    path: Path, backend: Backend, verb: Any, parent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is seen as waiting for its retry, and the run doesn't wait for that any more."""
    with pytest.raises(ItemFailures):
        run_queue([AboveLater()], resume=path, reporter="none", num_workers=2, backend=backend)
    init, made = Steering.__init__, list[Steering]()
    answers: list[Answer] = []

    def note(steering: Steering, *arguments: Any) -> None:
        init(steering, *arguments)
        made.append(steering)

    def items() -> Iterator[Item]:
        command = verb(by=BY, selector="these", items={"queued": parent, "retrying": [2]})
        answers.append(made[-1].apply(command))
        yield AboveLater()

    monkeypatch.setattr(Steering, "__init__", note)
    monkeypatch.setattr(Later, "process", nothing)
    monkeypatch.setattr(AboveLater, "process", enqueues_later)
    with suppress(ItemFailures):
        run_queue(items(), resume=path, reporter="none", num_workers=2, on_error="continue", backend=backend)
    assert [answer.count for answer in answers] == [1 if verb is Retry else 1 + len(parent)]
    events = events_of(path)
    told_by(events, follows_clock=False)
    outcome = {Skip: "skipped", Cancel: "failed", Retry: "completed"}[verb]
    assert states_of(path)[2] == outcome


async def nothing(item: Item, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Do nothing."""


async def enqueues_later(item: Item, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Enqueue the child that was enqueued before."""
    enqueue(Later())


class CancelsTheOther(Item):
    """Cancels another item, which was interrupted, while the run stops."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        command = Cancel(by=BY, selector="1", items={"interrupted": [1]})
        Node.ran["other"] += 1
        try:
            await anyio.sleep(60)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
                assert steer(command).count == 1


class Stops(Item):
    """Stops its run, once the other item runs."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        while not Node.ran["other"]:
            await anyio.sleep(0.001)
        steer(Stop(by=BY, now=True))
        await anyio.sleep(60)


def test_item_that_was_interrupted_is_cancelled_as_of_its_next_attempt(path: Path, backend: Backend) -> None:
    """Its attempt has ended, and has one outcome."""
    with pytest.raises(ItemFailures):
        run_queue([Stops(), CancelsTheOther()], resume=path, reporter="none", num_workers=2, backend=backend)
    told_by(events_of(path), follows_clock=False)
    [failed] = [event for event in events_of(path) if isinstance(event, ItemFailed)]
    assert (failed.item, failed.attempt) == (1, 2)
