"""Items that end the process: found by what was running when it crashed, and given up after three times alone.

What was running at each crash is `_folds.crashes`; what runs alone first is `_engine.suspects`.
"""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import ClassVar

import pytest

from aqueue import Backend, EnqueueFn, Item, SetDescFn, run_queue, steering
from aqueue._folds.recording import Recording
from aqueue._resume.plan import POISON_AFTER_CRASHES
from aqueue.events import (
    ErrorInfo,
    ItemChildrenProcessed,
    ItemCompleted,
    ItemEnqueued,
    ItemFailed,
    ItemInterrupted,
    ItemReopened,
    ItemStarted,
    RunResumed,
)
from aqueue.testing._scripted_runs import BOOM, Script
from tests.journal.oracle import told_by
from tests.journal.recorded import cut, events_of
from tests.journal.seeds import Seed, items_of

PROGRAM = """
import os, signal, sys
from aqueue import Item, ItemFailures, run_queue

class Page(Item):
    def __init__(self, name): self.name = name
    async def process(self, enqueue, set_desc):
        os.write(log, f"{self.name}\\n".encode())
        if "hook" in self.name:
            return
        if self.name in ("slow", "late poison"):
            import anyio
            await anyio.sleep(0.15)
        if "poison" in self.name and how != "mended":
            os._exit(77) if how == "exit" else os.kill(os.getpid(), signal.SIGKILL)

class Hook(Page):
    async def after_children_processed(self):
        os.write(log, f"hook of {self.name}\\n".encode())
        if self.name == "poison hook":
            os._exit(77)

class Parent(Page):
    async def process(self, enqueue, set_desc):
        import anyio
        enqueue(Page("late poison"))
        for _ in range(20):
            enqueue(Page("slow"))
        await anyio.sleep(0.5)

path, how, backend, workers = sys.argv[1:5]
log = os.open(path + ".log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
items = [(Hook if "hook" in name else Parent if name == "parent" else Page)(name) for name in sys.argv[5:]]
try:
    run_queue(items, resume=path, num_workers=int(workers), on_error="continue", reporter="none", backend=backend)
except ItemFailures as failures:
    print(*failures.exceptions, sep="\\n")
    sys.exit(3)
"""


def crash_until_it_ends(path: Path, how: str, names: list[str], workers: int = 3) -> tuple[int, str]:
    """Run the program again and again while it crashes; return how often it did, and what it said at last."""
    for crashes in range(15):
        backend = ["trio", "asyncio"][crashes % 2]
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(path), how, backend, str(workers), *names],
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode not in (77, -signal.SIGKILL):
            return crashes, done.stdout + done.stderr
        told_by(events_of(path))
    raise AssertionError("it does not come to an end")


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_an_item_that_ends_the_process_is_found_and_given_up(tmp_path: Path, how: str) -> None:
    """It fails as PoisonItem after it was the only one running in three crashes; all others complete, none is blamed."""
    path = tmp_path / "run.db"
    names = ["a", "slow", "poison", "b", "slow"]
    crashes, said = crash_until_it_ends(path, how, names)
    assert 3 <= crashes <= 8
    assert "was the only item running in three crashes in a row" in said
    events = events_of(path)
    [failure] = [event for event in events if isinstance(event, ItemFailed)]
    assert failure.error.type == "aqueue.errors:PoisonItem"
    assert failure.item == 3
    assert {event.item for event in events if isinstance(event, ItemCompleted)} == {1, 2, 4, 5}
    did = Counter(Path(f"{path}.log").read_text().split())
    assert did["poison"] == crashes, "it is not called once it has been given up"


def test_an_item_that_was_given_up_is_tried_once_more_alone(tmp_path: Path) -> None:
    """Each resume after the run's end tries it alone and first; it crashes once, with nothing beside it, or completes."""
    path = tmp_path / "run.db"
    names = ["slow", "poison", "slow"]
    first, _ = crash_until_it_ends(path, "kill", names)
    before = len(events_of(path))
    again, said = crash_until_it_ends(path, "kill", [*names, "slow", "slow"])
    assert again == 1
    assert "was retried alone, and crashed it again" in said
    new = events_of(path)[before:]
    [interrupted] = [event for event in new if isinstance(event, ItemInterrupted)]
    assert interrupted.item == 2, "what was new did not run beside it"
    assert sum(isinstance(event, ItemCompleted) for event in new) == 2
    assert Counter(Path(f"{path}.log").read_text().split())["poison"] == first + 1
    crashes, said = crash_until_it_ends(path, "mended", names)
    assert (crashes, said.count("given up")) == (0, 0)
    assert [event.item for event in events_of(path) if isinstance(event, ItemCompleted)][-1] == 2


@pytest.mark.parametrize("names", [["poison", "late poison"], ["late poison", "poison"]])
def test_two_items_that_end_the_process_are_both_found(tmp_path: Path, names: list[str]) -> None:
    """The one that was given up is not tried again between the crashes of the other, which then would go on for ever."""
    path = tmp_path / "run.db"
    crashes, _ = crash_until_it_ends(path, "exit", [*names, "a"])
    assert crashes <= 12
    given_up = [event.item for event in events_of(path) if isinstance(event, ItemFailed)]
    assert set(given_up) == {1, 2}
    assert [event.item for event in events_of(path) if isinstance(event, ItemCompleted)] == [3]


def test_a_hook_that_ends_the_process_is_given_up(tmp_path: Path) -> None:
    """The same for a hook: its item fails in that phase, and the others complete."""
    path = tmp_path / "run.db"
    crashes, said = crash_until_it_ends(path, "exit", ["a", "poison hook", "good hook"])
    assert 3 <= crashes <= 8
    assert "PoisonItem" in said or "three crashes" in said
    events = events_of(path)
    [failure] = [event for event in events if isinstance(event, ItemFailed)]
    assert (failure.item, failure.phase) == (2, "after_children")
    assert sum(isinstance(event, ItemChildrenProcessed) for event in events) == 1


def test_a_hook_that_was_given_up_and_has_returned_since_is_not_given_up_by_one_crash() -> None:
    """It returned over a failure below it, and so runs again; then it counts as any other does."""
    script, page = Script(), "module:Page"
    parent = script.enqueue(hook=True)
    script.start(parent)
    child = script.enqueue(parent=parent)
    script.complete(parent)
    script.start(child)
    script.fail(child, BOOM)
    script.start(parent, phase="after_children")
    script.fail(parent, ErrorInfo("aqueue.errors:PoisonItem", ""), phase="after_children")
    script.finish("failed")
    script.begin(RunResumed)
    script.add(ItemReopened, item=parent, type=page, failed="after_children")
    script.add(ItemReopened, item=child, type=page, failed="process")
    script.start(child)
    script.fail(child, BOOM)
    script.start(parent, phase="after_children", attempt=2)
    script.add(ItemChildrenProcessed, item=parent, type=page)
    recording = Recording()
    recording.apply(script.events)

    assert not recording.at_end().live[parent].is_poison


def test_a_child_of_an_item_that_runs_again_is_tried_alone_as_well(tmp_path: Path) -> None:
    """A suspect doesn't wait for its parent, which runs again, to enqueue it: others would run at the same time then."""
    path = tmp_path / "run.db"
    crashes, _ = crash_until_it_ends(path, "exit", ["slow", "parent"], workers=4)
    assert crashes == 5
    events = events_of(path)
    assert sum(isinstance(event, ItemCompleted) for event in events) == 22
    [poison] = [event.item for event in events if isinstance(event, ItemFailed)]
    running: list[set[int]] = []
    for event in events:
        if isinstance(event, RunResumed):
            running.append(set())
        elif isinstance(event, ItemInterrupted):
            running[-1].add(event.item)
    assert [len(items) > 1 for items in running[:2]] == [True, True]
    assert running[2:] == [{poison}] * 3


def test_after_two_crashes_a_start_is_committed_before_the_item_is_called(tmp_path: Path) -> None:
    """From the third process on, whatever was called is known to have been started, however soon it crashed."""
    path = tmp_path / "run.db"
    names = ["poison"]
    command = [sys.executable, "-c", PROGRAM, str(path), "kill", "trio", "1", *names]
    started = []
    for _ in range(4):
        assert subprocess.run(command, capture_output=True, timeout=60).returncode == -signal.SIGKILL
        started.append(sum(isinstance(event, ItemStarted) for event in events_of(path)))
    assert started[2] == started[1] + 1
    assert started[3] == started[2] + 1


def test_an_item_that_happened_to_run_beside_the_bad_one_is_not_failed(tmp_path: Path) -> None:
    """Items that ran in the same crashes are tried alone first, complete, and are not failed."""
    path = tmp_path / "run.db"
    names = ["slow", "slow", "slow", "poison", "slow"]
    _, _ = crash_until_it_ends(path, "kill", names, workers=5)
    events = events_of(path)
    assert [event.item for event in events if isinstance(event, ItemFailed)] == [4]
    interrupted = {event.item for event in events if isinstance(event, ItemInterrupted)}
    assert len(interrupted) > 1, "others did run beside it"
    assert sum(isinstance(event, ItemCompleted) for event in events) == 4
    assert sum(isinstance(event, ItemEnqueued) for event in events) == 5
    assert os.path.exists(path)


def test_what_is_tried_alone_counts_for_max_items(tmp_path: Path, backend: Backend) -> None:
    """A process takes no more items than max_items says, also where two crashes have made it careful about the first."""
    items = [Seed(awaits=1, result=number) for number in (1, 2)]
    path = tmp_path / "run.db"
    for crash in range(2):
        run_queue(items_of(items), resume=path, num_workers=2, reporter="none", backend=backend)
        started = [event.seq for event in events_of(path) if isinstance(event, ItemStarted)]
        path = cut(path, started[-1], tmp_path / f"crash {crash}.db")
    result = run_queue(items_of(items), resume=path, max_items=1, reporter="none", backend=backend)
    assert (result.status, result.stop_reason) == ("interrupted", "max_items=1 was reached")
    assert result.counts.completed == 1
    result = run_queue(items_of(items), resume=path, reporter="none", backend=backend)
    assert result.status == "completed"
    told_by(events_of(path)).ended_well()


def test_paused_run_gives_nothing_up_and_tries_nothing_alone(tmp_path: Path, backend: Backend) -> None:
    """A person looks into the crashes: until the run is unpaused, no item fails as a poison item, and none runs alone."""
    path = tmp_path / "run.db"
    items = [Seed(awaits=1, result=number) for number in (1, 2)]
    recorded = 0
    for crash in range(POISON_AFTER_CRASHES):
        run_queue(items_of(items), resume=path, num_workers=1, reporter="none", backend=backend)
        recorded = next(one.seq for one in events_of(path) if isinstance(one, ItemStarted) and one.seq > recorded)
        path = cut(path, recorded, tmp_path / f"crash {crash}.db")
    steering.pause(path)
    recorded = len(events_of(path))
    result = run_queue(items_of(items), resume=path, stop_after_s=0.05, reporter="none", backend=backend)
    assert result.status == "interrupted"
    assert not any(isinstance(event, ItemStarted | ItemFailed) for event in events_of(path)[recorded:])
    steering.unpause(path)
    # The process that was stopped has ended by itself, so the crashes before it don't count any more.
    assert run_queue(items_of(items), resume=path, reporter="none", backend=backend).status == "completed"
    told_by(events_of(path))


class Asks(Item):
    """Pauses its run, and notes how many items were running."""

    answers: ClassVar[list[int]] = []

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.answers.append(steering.pause().running)
        steering.unpause()


def test_item_that_runs_alone_is_counted_as_running(tmp_path: Path, backend: Backend) -> None:
    """The workers of the run haven't started yet."""
    path = tmp_path / "run.db"
    recorded = 0
    for crash in range(2):
        run_queue([Asks()], resume=path, num_workers=1, reporter="none", backend=backend)
        recorded = next(one.seq for one in events_of(path) if isinstance(one, ItemStarted) and one.seq > recorded)
        path = cut(path, recorded, tmp_path / f"crash {crash}.db")
    Asks.answers.clear()
    run_queue([Asks()], resume=path, reporter="none", backend=backend)
    assert Asks.answers == [1]
