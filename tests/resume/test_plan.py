"""What a resume does with each live item: decided by events alone, and then done."""

from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from aqueue import EnqueueFn, Item, ItemFailures, SetDescFn, run_queue
from aqueue._folds.recording import RecordedRun, Recording
from aqueue._resume.plan import Plan, plan_of
from aqueue.events import (
    ErrorInfo,
    Event,
    ItemCancelled,
    ItemChildrenFailed,
    ItemChildrenProcessed,
    ItemCompleted,
    ItemFailed,
    ItemReopened,
    ItemStarted,
    RunResumed,
)
from aqueue.testing import EventRecorder
from aqueue.testing._scripted_runs import BOOM, Script
from tests.cli.scripted import write_journal
from tests.cli.test_explain import CrashingRun

POISON = ErrorInfo("aqueue.errors:PoisonItem", "")
CLUSTERS = pytest.mark.parametrize("cluster", ["", "tcp://scheduler:8786"], ids=["here", "cluster"])


def recording_of(events: list[Event]) -> RecordedRun:
    """Return what a resume reads."""
    recording = Recording()
    recording.apply(events)
    return recording.at_end()


def planned(script: Script, **arguments: Any) -> Plan:
    """Return what a resume of the run does that `script` has written so far."""
    return plan_of(recording_of(script.events), **arguments)


def never(type: str) -> bool:
    """Run no failed item again."""
    return False


@CLUSTERS
def test_an_item_that_waited_or_was_cut_short_runs(cluster: str) -> None:
    """So does one that was interrupted, and one that has failed."""
    script = Script(cluster=cluster)
    waiting, running, interrupted, failed, done = [script.enqueue() for _ in range(5)]
    for item in (running, interrupted, failed, done):
        script.start(item)
    script.interrupt(interrupted)
    script.fail(failed, BOOM)
    script.complete(done)
    plan = planned(script)

    assert [plan.step(item) for item in (waiting, running, interrupted, failed)] == ["runs"] * 4
    assert done not in recording_of(script.events).live
    assert plan == Plan({}, {}, set(), is_cautious=False)


@CLUSTERS
def test_an_item_whose_attempt_failed_is_tried_again_at_its_time(cluster: str) -> None:
    """Once that attempt has begun it is as any other."""
    script = Script(cluster=cluster)
    item = script.enqueue()
    script.start(item)
    script.fail_for_now(item, 30.0)
    assert planned(script).step(item) == "retries"

    script.start(item, attempt=2)
    assert planned(script).step(item) == "runs"


@CLUSTERS
def test_a_child_waits_for_a_parent_that_runs_again(cluster: str) -> None:
    """As long as that has not completed; one that stays failed does not run again."""
    script = Script(cluster=cluster)
    parent = script.enqueue()
    script.start(parent)
    child = script.enqueue(parent=parent)
    below = script.enqueue(parent=child)
    assert [planned(script).step(item) for item in (parent, child, below)] == [
        "runs",
        "waits for parent",
        "waits for parent",
    ]

    script.fail(parent, BOOM)
    assert planned(script).step(child) == "waits for parent"
    assert planned(script, runs_again=never).step(child) == "runs"
    script.start(child)
    script.complete(child)
    assert planned(script).step(child) == "waits for descendants"
    assert planned(script).step(below) == "runs"


@CLUSTERS
def test_what_stays_failed_is_over_once_nothing_below_it_is_outstanding(cluster: str) -> None:
    """So is what was closed over it; with something to run below, both are kept."""
    script = Script(cluster=cluster)
    top = script.enqueue()
    script.start(top)
    parent = script.enqueue(parent=top)
    script.complete(top)
    script.start(parent)
    child = script.enqueue(parent=parent)
    script.fail(parent, BOOM)
    plan = planned(script, runs_again=never)
    assert [plan.step(item) for item in (top, parent, child)] == ["waits for descendants", "stays failed", "runs"]

    script.start(child)
    script.fail(child, BOOM)
    plan = planned(script, runs_again=never)
    assert [plan.step(item) for item in (top, parent, child)] == ["hook due", "over", "over"]
    script.add(ItemChildrenFailed, item=top, type="module:Page")
    plan = planned(script, runs_again=never)
    assert [plan.step(item) for item in (top, parent, child)] == ["over"] * 3
    assert plan.stay_failed == {parent, child}
    plan = planned(script)
    assert [plan.step(item) for item in (top, parent, child)] == ["waits for descendants", "runs", "waits for parent"]


def test_which_failed_items_run_again_is_asked_by_the_names_of_today() -> None:
    """Once per class."""
    script = Script()
    for type in ("module:Old", "module:Old", "module:Other"):
        item = script.enqueue(type)
        script.start(item, type)
        script.fail(item, BOOM, type)
    asked = []

    def runs_again(type: str) -> bool:
        asked.append(type)
        return type == "module:New"

    plan = planned(script, runs_again=runs_again, type_today=lambda name: name.replace("Old", "New"))
    assert [plan.step(item) for item in (1, 2, 3)] == ["runs", "runs", "over"]
    assert asked == ["module:New", "module:Other"]


@CLUSTERS
def test_a_hook_is_due_once_all_below_has_ended(cluster: str) -> None:
    """Whether it never began, was cut short, is to be tried again, or has failed."""
    script = Script(cluster=cluster)
    parent = script.enqueue(hook=True)
    script.start(parent)
    child = script.enqueue(parent=parent)
    script.complete(parent)
    assert planned(script).step(parent) == "waits for descendants"

    script.start(child)
    script.complete(child)
    assert planned(script).step(parent) == "hook due"
    script.start(parent, phase="after_children")
    assert planned(script).step(parent) == "hook due"
    script.fail_for_now(parent, 30.0, phase="after_children")
    assert planned(script).step(parent) == "hook due"
    script.start(parent, phase="after_children", attempt=2)
    script.fail(parent, BOOM, phase="after_children")
    assert planned(script).step(parent) == "hook due"
    assert planned(script, runs_again=never).step(parent) == "over"


def crash(script: Script, *items: int, cluster: str = "", **fields: Any) -> None:
    """Let one more process crash that was at these items."""
    for item in items:
        script.start(item, **fields)
    script.begin(RunResumed, cluster=cluster)
    fields.pop("type", None)
    for item in items:
        script.interrupt(item, "crash", **fields)


def test_what_was_running_in_two_crashes_runs_alone_and_after_a_third_is_given_up() -> None:
    """If it was the only one; starts are committed from the second crash on."""
    script = Script()
    bad, other = script.enqueue(), script.enqueue()
    crash(script, bad, other)
    script.start(bad)
    script.start(other)
    plan = planned(script)
    assert (plan.step(bad), plan.step(other), plan.is_cautious) == ("runs alone", "runs alone", True)

    script.interrupt(other)
    plan = planned(script)
    assert (plan.step(bad), plan.step(other), plan.given_up) == ("runs alone", "runs", {})
    script.begin(RunResumed)
    crash(script, bad)
    script.start(bad)
    plan = planned(script)
    assert plan.step(bad) == "given up"
    assert "the only item running in three crashes in a row" in plan.given_up[bad]
    script.interrupt(bad)
    script.finish("interrupted")
    assert planned(script) == Plan({}, {}, set(), is_cautious=False)


def test_on_a_cluster_a_process_is_no_suspect_but_a_hook_is() -> None:
    """What `process` does elsewhere can't be why the run's own process crashes."""
    cluster = "tcp://scheduler:8786"
    script = Script(cluster=cluster)
    script.enqueue(hook=True)
    item = script.enqueue(hook=True)
    script.start(item)
    script.complete(item)
    for _ in range(3):
        crash(script, 1, cluster=cluster)
    assert planned(script).step(1) == "runs"
    for step in ("hook due", "runs alone", "given up"):
        script.start(item, phase="after_children")
        assert planned(script).step(item) == step
        script.begin(RunResumed, cluster=cluster)
        script.interrupt(item, "crash", phase="after_children")


class Reduce(Item):
    """Has a hook that runs over failures, and would end the process."""

    after_children_rule = "all_done"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None: ...

    async def after_children_processed(self) -> None:
        raise AssertionError("it was called")


def test_a_hook_that_crashes_over_failures_that_stay_is_given_up(tmp_path: Path) -> None:
    """If they are run again, it waits for them first, and is then one of many."""
    script, reduce = Script(), "tests.resume.test_plan:Reduce"
    parent = script.enqueue(reduce, hook=True, payload=Raw(b"{}"))
    script.start(parent, reduce)
    child = script.enqueue(reduce, parent=parent, hook=True, payload=Raw(b"{}"))
    script.complete(parent)
    script.start(child, reduce)
    script.fail(child, BOOM, reduce)
    for _ in range(3):
        crash(script, parent, type=reduce, phase="after_children")
    script.events = script.events[:-2]  # the third process was never followed by another
    assert planned(script).step(parent) == "waits for descendants"
    assert planned(script, runs_again=never).step(parent) == "given up"

    path = write_journal(tmp_path, script.events)
    with pytest.raises(ItemFailures) as failed:
        run_queue([], resume=path, reporter="none", retry_failed=False)
    assert "three crashes in a row" in str(failed.value.exceptions[0])


@CLUSTERS
def test_what_was_given_up_is_tried_alone_once_the_run_has_ended(cluster: str) -> None:
    """Another crash since leaves it as it is; one while it was tried gives it up again; and it may stay failed."""
    script = Script()
    item, other = script.enqueue(), script.enqueue()
    script.start(item)
    script.fail(item, POISON)
    script.start(other)
    plan = planned(script)
    assert (plan.step(item), plan.step(other)) == ("given up", "runs")
    assert "it is retried once the run has ended" in plan.given_up[item]

    script.interrupt(other)
    script.finish("interrupted")
    assert planned(script).step(item) == "runs alone"
    assert planned(script, runs_again=never).step(item) == "over"
    script.begin(RunResumed, cluster=cluster)
    script.add(ItemReopened, item=item, type="module:Page", failed="process")
    assert planned(script).step(item) == "runs alone"
    script.start(item, attempt=2)
    plan = planned(script)
    assert plan.step(item) == ("runs alone" if cluster else "given up")
    assert cluster or "was retried alone, and crashed it again" in plan.given_up[item]


def test_a_suspect_does_not_wait_for_its_parent_nor_does_what_it_holds() -> None:
    """What it holds can't be exchanged once it has run, nor can what is above that; directly, or by what doesn't wait."""
    script = Script()
    top = script.enqueue()
    script.start(top)
    first = script.enqueue(parent=top)
    script.start(first, worker=2)
    second = script.enqueue(parent=first)
    script.start(second, worker=3)
    third = script.enqueue(parent=second)
    script.complete(second, worker=3)
    bad = script.enqueue(parent=third)
    for item in (third, bad):
        script.start(item, worker=item)
    script.begin(RunResumed)
    for item in (top, first, third, bad):
        script.interrupt(item, "crash")
    script.start(bad)

    def steps(held: dict[int, tuple[int, ...]]) -> list[str]:
        plan = planned(script, holds=lambda record: held.get(record.id, ()))
        return [plan.step(item) for item in (top, first, second, third, bad)]

    free, waits, done, alone = "runs", "waits for parent", "waits for descendants", "runs alone"
    assert steps({}) == [free, waits, done, free, alone]
    assert steps({bad: (third,)}) == [free, waits, done, free, alone]
    assert steps({third: (first,)}) == [free, waits, done, free, alone]
    assert steps({bad: (first,)}) == [free, free, done, free, alone]
    assert steps({bad: (third,), third: (second,), second: (first,)}) == [free, free, done, free, alone]
    assert steps({bad: (bad, 99, 0)}) == [free, waits, done, free, alone], "what is no ancestor is refused elsewhere"


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_a_resume_does_what_is_planned(seed: int, retry_failed: bool) -> None:
    """With each live item of a run that nobody ran, in several processes, most of which crashed; on a cluster, too."""
    events = CrashingRun(Random(seed)).script.events
    recording = recording_of(events)
    plan = plan_of(recording, lambda _: retry_failed)
    items = [item for item in recording.live if item]
    alone = [item for item in items if plan.step(item) == "runs alone"]
    parents = {item: recording.live[item].parent for item in items}
    recorder = EventRecorder()
    with TemporaryDirectory() as folder, suppress(ItemFailures):
        path = write_journal(Path(folder), events)
        run_queue([], num_workers=2, reporter=recorder, resume=path, on_error="continue", retry_failed=retry_failed)

    first: dict[tuple[object, ...], int] = {}
    for at, event in enumerate(recorder.events):
        match event:
            case ItemChildrenFailed() | ItemChildrenProcessed():
                first.setdefault(("closed", event.item), at)
            case ItemStarted() | ItemCompleted() | ItemFailed() | ItemReopened():
                first.setdefault((type(event), event.item), at)
                first.setdefault((type(event), event.item, getattr(event, "phase", "")), at)
    alone_until = max((first[ItemStarted, item] for item in (*alone, *plan.given_up)), default=-1)
    for item in items:
        step = plan.step(item)
        process, hook = (first.get((ItemStarted, item, phase)) for phase in ("process", "after_children"))
        failed, closed = first.get((ItemFailed, item)), first.get(("closed", item))
        match step:
            case "runs" | "retries" | "waits for parent":
                assert process is not None
                assert alone_until < process
                if step == "waits for parent":
                    ended = {ItemCompleted, ItemFailed} & {kind for kind, *of in first if of == [parents[item]]}
                    assert min(first[kind, parents[item]] for kind in ended) < process
            case "runs alone":
                assert (process, hook) != (None, None)
            case "given up":
                error = next(event.error for event in recorder.of(ItemFailed) if event.item == item)
                assert error.type == POISON.type
                assert plan.given_up[item] in error.message
            case "stays failed" | "over":
                assert (process, hook, failed) == (None, None, None)
                assert (ItemReopened, item) not in first
                assert step == "stays failed" or closed is None
            case "hook due" | "waits for descendants":
                assert process is None
                assert (closed, failed) != (None, None)
                below = [other for other in items if parents[other] == item and plan.step(other) != "over"]
                assert bool(below) == (step == "waits for descendants")


# ---- what people did to items ---------------------------------------------------------------------------------------


def test_cancelled_items_stay_failed_until_a_person_retries_them() -> None:
    """They stay so while other failed items run again. An item that was cancelled while it ran has to fail first."""
    script = Script()
    waiting, running, retried, failed = [script.enqueue() for _ in range(4)]
    script.cancel(waiting)
    script.cancel(retried)
    script.open_again(retried, failed="process")
    script.start(failed)
    script.fail(failed, BOOM)
    script.start(running)
    script.steer("cancel", str(running))
    script.add(ItemCancelled, item=running)
    plan = planned(script)

    assert (plan.stay_failed, plan.cancelled) == ({waiting, running}, {running})
    assert [plan.step(item) for item in (waiting, running, retried, failed)] == ["over", "over", "runs", "runs"]


def test_cancelled_item_with_children_fails_while_they_run() -> None:
    """They run as recorded, since it doesn't enqueue them again."""
    script = Script()
    parent = script.enqueue()
    script.start(parent)
    child = script.enqueue(parent=parent)
    script.steer("cancel", str(parent))
    script.add(ItemCancelled, item=parent)
    plan = planned(script)

    assert (plan.step(parent), plan.step(child)) == ("cancelled", "runs")


def test_skipped_item_does_not_run_alone_although_it_may_have_crashed_the_run() -> None:
    """Nothing of it runs at all."""
    script = Script()
    parent = script.enqueue(hook=True)
    script.start(parent)
    child = script.enqueue(parent=parent)
    for attempt in (2, 3):
        script.begin(RunResumed)
        script.interrupt(parent, "crash", attempt=attempt - 1)
        script.start(parent, attempt=attempt)
    script.edit()
    script.interrupt(parent, "crash", attempt=3)
    assert planned(script).step(parent) == "given up"
    script.skip(parent)
    plan = planned(script)

    assert (plan.step(parent), plan.step(child)) == ("waits for descendants", "runs")
