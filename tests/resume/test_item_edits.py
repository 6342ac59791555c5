"""Commands on items of a run that no process runs: the events that they append, by themselves; `_resume.item_edits`.

What a resume makes of them is in `test_edited_items.py`.
"""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from aqueue._folds.snapshot import Folds
from aqueue._resume.editing import edited
from aqueue._resume.item_edits import state_of
from aqueue._verbs import Answer, Cancel, Retry, SeenState, Skip
from aqueue.errors import SteeringError
from aqueue.events import (
    Event,
    ItemChildrenFailed,
    ItemChildrenProcessed,
    ItemEnqueued,
    ItemFailed,
    ItemInterrupted,
    ItemReopened,
    ItemRescheduled,
    ItemSkipped,
    RunEdited,
    RunSteered,
)
from aqueue.testing._scripted_runs import BOOM, Script
from aqueue.view import RunView
from tests.folds.test_steered_runs import recording_of, table_of
from tests.journal.oracle import told_by
from tests.strategies import event_streams

Command = Retry | Skip | Cancel
BY = "anna@laptop via test"
NUM_FAILED: Final = 100_000
MOST_S: Final = 6.0  # about a third of it, the fold of the run included, on two shared cores that are idle
OTHERS: list[SeenState] = ["queued", "running", "retrying", "interrupted", "failed"]
COMMANDS: list[tuple[type[Command], dict[str, Any]]] = [
    (Retry, {}),
    (Retry, {"completed": True}),
    (Skip, {}),
    (Skip, {"result": Raw(b'"by hand"')}),
    (Cancel, {}),
]


class Run(Script):
    """A script whose siblings all have payloads of their own, and whose items start in the groups in which they wait."""

    def enqueue(self, type: str = "module:Page", parent: int = 0, **fields: Any) -> int:
        return super().enqueue(type, parent, payload=Raw(b"%d" % len(self.events)), **fields)

    def start(self, item: int, type: str = "module:Page", worker: int = 1, **fields: Any) -> None:
        enqueued = next(one for one in self.events if isinstance(one, ItemEnqueued) and one.item == item)
        group = None if "phase" in fields else enqueued.group
        super().start(item, type, worker, group=group, **fields)


def seen(events: Sequence[Event]) -> dict[int, SeenState]:
    """Return the state of each item, as a person sees it once the process of the run has ended."""
    items = table_of(events)
    items.lose_workers()
    return {items.item_of(row): items.state_of(row) for row in range(len(items))}


def command(cls: type[Command], items: dict[int, SeenState], **fields: Any) -> Command:
    """Return a command on these items, by the states in which a person saw them."""
    by_state: dict[SeenState, list[int]] = {}
    for item, state in items.items():
        by_state.setdefault(state, []).append(item)
    return cls(by=BY, selector="these", items=by_state, **fields)


def append(events: list[Event], asked: Command) -> Answer:
    """Append what a command on the run comes to, and return the answer."""
    folds = Folds()
    folds.apply(events)
    at = {event.seq: event for event in events}
    new, answer = edited(
        folds, asked, events[-1].at + 5, lambda seqs: [at[seq] for seq in seqs], lambda: [list(at.values())]
    )
    events += new
    return answer


def of(script: Script, cls: type[Command], *items: int, **fields: Any) -> list[Any]:
    """Give a command on these items, and return what follows the first two events, which say so, and what was interrupted."""
    states, before = seen(script.events), len(script.events)
    append(script.events, command(cls, {item: states[item] for item in items}, **fields))
    told_by(script.events, follows_clock=False)
    new = script.events[before:]
    if not new:
        return []
    assert isinstance(new[0], RunEdited)
    (at,) = [at for at, event in enumerate(new) if isinstance(event, RunSteered)]
    assert all(isinstance(event, ItemInterrupted) for event in new[1:at])
    return new[at + 1 :]


# ---- any run --------------------------------------------------------------------------------------------------------


@given(event_streams(), st.integers(1, 256))
def test_state_of_a_live_item_is_that_which_people_see(events: list[Event], cut: int) -> None:
    """In lists, which a fold of their own makes."""
    events = events[: min(cut, len(events))]
    states, live = seen(events), recording_of(events).live
    assert {item: state_of(record) for item, record in live.items() if item} == {
        item: states[item] for item in live if item
    }


@given(event_streams(), st.integers(1, 256), st.data())
def test_commands_on_any_run_that_ended_anywhere(events: list[Event], cut: int, data: st.DataObject) -> None:
    """The oracle allows what they append; each applies to what is in a state to which it may apply, and to nothing else."""
    events = events[: min(cut, len(events))]
    for _ in range(3):
        states = seen(events)
        cls, fields = data.draw(st.sampled_from(COMMANDS))
        last = len(states) + 2
        numbers = data.draw(st.sets(st.integers(1, last)))
        wrong = data.draw(st.sets(st.integers(1, last), max_size=2))
        asked = {
            item: data.draw(st.sampled_from(OTHERS)) if item in wrong else states.get(item, "failed")
            for item in numbers
        }
        applies = {
            (Retry, False): {"failed", "retrying"},
            (Retry, True): {"completed", "skipped"},
            (Skip, False): {"failed", "queued", "retrying", "interrupted"},
            (Cancel, False): {"queued", "retrying", "interrupted"},
        }[cls, "completed" in fields]
        chosen = {
            item
            for item, state in asked.items()
            if states.get(item) in applies
            and (states[item] == state or {states[item], state} == {"queued", "interrupted"})
        }
        before = len(events)
        if "completed" in fields and recording_of(events).runs_elsewhere:
            with pytest.raises(SteeringError):
                append(events, command(cls, asked, **fields))
            continue
        answer = append(events, command(cls, asked, **fields))
        new = events[before:]

        assert (answer.count, answer.changed, answer.is_live) == (len(chosen), bool(chosen), False)
        assert Counter(answer.others) == Counter(states.get(item, "unknown") for item in asked if item not in chosen)
        assert bool(new) == bool(chosen)
        told_by(events, follows_clock=False)
        now = seen(events)
        assert {item: state for item, state in now.items() if item not in chosen and state != states[item]} == {
            event.item: "completed"
            for event in new
            if isinstance(event, ItemReopened) and event.item not in chosen and states[event.item] == "retrying"
        }, "the hook of an ancestor no longer waits for its retry, and nothing else has changed"
        for item in chosen:
            if cls is not Retry:
                assert now[item] == {Skip: "skipped", Cancel: "failed"}[cls]
            elif "completed" in fields:
                assert now[item] == "queued"
            else:
                assert now[item] in ("queued", "retrying", "completed")
        view = RunView()
        view.apply(events)
        if new:
            assert isinstance(new[0], RunEdited)
            (steered,) = [event for event in new if isinstance(event, RunSteered)]
            assert (steered.verb, steered.selector, steered.count) == (cls.__struct_config__.tag, "these", len(chosen))
            assert view.status in ("interrupted", "failed", "completed")
            if any(isinstance(event, ItemReopened) for event in new):
                assert recording_of(events).finished is None


# ---- one by one -----------------------------------------------------------------------------------------------------


def a_failure(script: Run, *, hook: bool = False) -> tuple[int, int, int]:
    """Return an initial item, its child that has failed, and one that has not; the first, which may have a hook, is closed over it."""
    top = script.enqueue(hook=hook)
    script.start(top)
    failed, other = script.enqueue(parent=top, group="a"), script.enqueue(parent=top)
    script.complete(top)
    script.start(failed)
    script.fail(failed, BOOM)
    script.start(other)
    script.complete(other)
    script.add(ItemChildrenFailed, item=top, type="module:Page")
    script.finish("failed")
    return top, failed, other


def test_retry_reopens_the_item_and_then_what_was_closed_over_it() -> None:
    """The deepest first; the group is that in which it waits."""
    script = Run()
    top, failed, _ = a_failure(script)
    item, above = of(script, Retry, failed)

    assert isinstance(item, ItemReopened) and isinstance(above, ItemReopened)
    assert (item.item, item.failed, item.group, item.rerun) == (failed, "process", "a", False)
    assert (above.item, above.failed, above.group, above.ended) == (top, None, None, None)


def test_retry_of_completed_items_reopens_what_had_ended_well_from_the_top() -> None:
    """With its facts, and for an ancestor the result of its `process`."""
    script = Run()
    top = script.enqueue(hook=True)
    script.start(top)
    middle = script.enqueue(parent=top)
    script.complete(top, result=Raw(b"1"))
    script.start(middle)
    leaf, sibling = script.enqueue(parent=middle, group="a"), script.enqueue(parent=middle)
    script.complete(middle)
    for item in (leaf, sibling):
        script.start(item)
        script.complete(item, result=Raw(b"2"))
    script.add(ItemChildrenProcessed, item=middle, type="module:Page")
    script.start(top, phase="after_children")
    script.end_hook(top, result=Raw(b"3"))
    script.finish("completed")
    events = of(script, Retry, sibling, leaf, completed=True)

    assert all(isinstance(event, ItemReopened) and event.ended is not None for event in events)
    assert [(event.item, event.rerun, event.result) for event in events] == [
        (top, False, Raw(b"1")),
        (middle, False, Raw()),
        (leaf, True, Raw()),
        (sibling, True, Raw()),
    ]
    assert (events[2].group, events[0].ended.hook_attempt, events[2].ended.parent) == ("a", 1, middle)


def test_skip_of_a_failed_item_ends_what_was_closed_over_it() -> None:
    """Reopened first; several failures of one parent end it once."""
    script = Run()
    top = script.enqueue()
    script.start(top)
    failed = [script.enqueue(parent=top) for _ in range(3)]
    script.complete(top)
    for item in failed:
        script.start(item)
        script.fail(item, BOOM)
    script.add(ItemChildrenFailed, item=top, type="module:Page")
    some = of(script, Skip, failed[0])
    rest = of(script, Skip, *failed[1:], result=Raw(b"1"))

    assert [(type(event), event.item) for event in some] == [
        (ItemSkipped, failed[0]),
        (ItemReopened, top),
        (ItemChildrenFailed, top),
    ]
    assert [(type(event), event.item) for event in rest] == [
        (ItemSkipped, failed[1]),
        (ItemReopened, top),
        (ItemSkipped, failed[2]),
        (ItemChildrenProcessed, top),
    ]
    assert (some[0].result, rest[0].result, rest[0].had_failed) == (Raw(), Raw(b"1"), True)
    assert list(recording_of(script.events).live) == [0]


def test_skip_leaves_a_hook_above_to_the_resume() -> None:
    """It has become due: every item below has ended."""
    script = Run()
    top, failed, _ = a_failure(script, hook=True)
    skipped, reopened = of(script, Skip, failed)

    assert (skipped.item, reopened.item) == (failed, top)
    assert recording_of(script.events).live[top].pending == 0


def test_skip_of_an_item_that_has_children_waits_for_them() -> None:
    """They go on; it ends with the last of them, without its hook."""
    script = Run()
    top = script.enqueue(hook=True)
    script.start(top)
    child = script.enqueue(parent=top)
    skipped = of(script, Skip, top)
    last = of(script, Skip, child)

    assert [(type(event), event.item) for event in skipped] == [(ItemSkipped, top)]
    assert [(type(event), event.item) for event in last] == [(ItemSkipped, child), (ItemChildrenProcessed, top)]


def test_skipped_hook_that_had_failed_ends_the_subtree() -> None:
    """Once all below it has ended, which it has."""
    script = Run()
    top = script.enqueue(hook=True)
    script.start(top)
    child = script.enqueue(parent=top)
    script.complete(top)
    script.start(child)
    script.complete(child)
    script.start(top, phase="after_children")
    script.fail(top, BOOM, phase="after_children")
    skipped, ended = of(script, Skip, top)

    assert (skipped.phase, skipped.had_failed) == ("after_children", True)
    assert isinstance(ended, ItemChildrenProcessed)


def test_cancelled_items_fail_and_what_waited_for_them_is_closed() -> None:
    """Whether they were queued, waited for a retry, or were running in the crash."""
    script = Run()
    top = script.enqueue()
    script.start(top)
    queued, retrying, running = (script.enqueue(parent=top, group="a") for _ in range(3))
    script.complete(top)
    script.start(retrying)
    script.fail_for_now(retrying, 60.0)
    script.start(running)
    events = of(script, Cancel, queued, retrying, running)

    assert [(type(event), event.item) for event in events] == [
        (ItemFailed, queued),
        (ItemFailed, retrying),
        (ItemFailed, running),
        (ItemChildrenFailed, top),
    ]
    assert {(event.worker, event.error.type, event.error.message) for event in events[:3]} == {
        (0, "aqueue.errors:CancelledByUser", "cancelled by anna@laptop")
    }
    assert [(event.attempt, event.group) for event in events[:3]] == [(1, "a"), (2, None), (2, "a")]
    assert all(recording_of(script.events).live[item].is_cancelled for item in (queued, retrying, running))


def test_retry_of_an_item_that_waits_lets_it_run_at_once() -> None:
    """Its wait ends with the command."""
    script = Run()
    item = script.enqueue()
    script.start(item)
    script.fail_for_now(item, 600.0)
    (event,) = of(script, Retry, item)

    assert isinstance(event, ItemRescheduled)
    assert event.due == event.at


def test_command_that_applies_to_nothing_writes_nothing() -> None:
    """Not even that the run was edited; the answer says why."""
    script = Run()
    _, failed, other = a_failure(script)
    before = list(script.events)
    answer = append(script.events, command(Cancel, {failed: "failed", other: "completed", 99: "queued"}))

    assert script.events == before
    assert (answer.count, answer.changed) == (0, False)
    assert answer.others == {"failed": 1, "completed": 1, "unknown": 1}


def test_completed_items_of_a_cluster_can_not_run_again() -> None:
    """The refusal says what to do instead."""
    script = Run(cluster="tcp://scheduler:8786")
    item = script.enqueue()
    with pytest.raises(SteeringError, match="resume the run without cluster="):
        append(script.events, command(Retry, {item: "completed"}, completed=True))
    assert append(script.events, command(Skip, {item: "queued"})).changed


@pytest.mark.parametrize("depth", [1, 3])
def test_many_failures_are_retried_and_skipped_in_time(depth: int) -> None:
    """100,000 are retried within 2 s of CPU; skipping half of them, and folding it all again, takes no more per item."""
    script = Script()
    above = 0
    for _ in range(depth):
        above = script.enqueue(parent=above, hook=True)
        script.start(above, worker=above)
    failed = [script.enqueue(parent=above) for _ in range(NUM_FAILED)]
    for item in range(1, depth + 1):
        script.complete(item, worker=item)
    for item in failed:
        script.start(item)
        script.fail(item, BOOM)
    for item in range(depth, 0, -1):
        script.add(ItemChildrenFailed, item=item, type="module:Page")
    states: list[tuple[type[Command], int]] = [(Retry, NUM_FAILED), (Skip, NUM_FAILED // 2)]
    for cls, count in states:
        events = list(script.events)
        asked = command(cls, dict.fromkeys(failed[:count], "failed"))
        began = time.process_time()
        answer = append(events, asked)
        took_s = time.process_time() - began
        recording_of(events)

        assert answer.count == count
        assert took_s < MOST_S, f"{took_s} s"
