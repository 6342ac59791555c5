"""Runs that people steer, made up at random: what must hold for their events, and that all folds tell the same of them.

Of `_folds.recording`, what the oracle of the journals asserts: see `tests.journal.oracle`.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace
from sqlite_utils import Database

from aqueue._folds.item_table import ItemTable
from aqueue._folds.outcome import FoldedResult
from aqueue._folds.recording import RecordedRun, Recording
from aqueue._page.over_time import Fold
from aqueue.cli._commands.results import _track_result
from aqueue.events import (
    Counts,
    Event,
    GroupLimit,
    GroupLimitChanged,
    GroupLimitKnown,
    GroupPaused,
    GroupUnpaused,
    ItemCancelled,
    ItemChildrenFailed,
    ItemChildrenProcessed,
    ItemCompleted,
    ItemDescribed,
    ItemFailed,
    ItemReopened,
    ItemRescheduled,
    ItemSkipped,
    RunPaused,
    RunResumed,
    RunStarted,
    RunUnpaused,
    RunWorkersChanged,
    encode,
)
from aqueue.journal import _RESULTS
from aqueue.testing._scripted_runs import ANNA, BOOM, Script
from aqueue.view import InForce, RunView
from aqueue_migrations.migrations import migrations
from tests.engine.invariants import check_events
from tests.journal.oracle import Story, told_by
from tests.strategies import event_streams


@contextmanager
def as_a_journal(events: Sequence[Event]) -> Iterator[sqlite3.Connection]:
    """Enter with a database that has the schema of a journal, and these events."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrations.apply(Database(connection))
        rows = [(event.seq, encode(event).decode("utf-8", "replace")) for event in events]
        connection.executemany("INSERT INTO events VALUES (?, ?)", rows)
        yield connection


def table_of(events: Sequence[Event]) -> ItemTable:
    """Return the items of a run."""
    items = ItemTable()
    items.apply(events)
    return items


def view_of(events: Sequence[Event]) -> RunView:
    """Return the view of a run."""
    view = RunView()
    view.apply(events)
    return view


def recording_of(events: Sequence[Event]) -> RecordedRun:
    """Return the live items of a run."""
    recording = Recording()
    recording.apply(events)
    return recording.at_end()


def states_of(story: Story, events: Sequence[Event]) -> dict[int, str]:
    """Return the state of each item by the words of `ItemTable`, from the story that its events tell."""
    waits = {"item.retry_scheduled": "retrying", "item.rescheduled": "retrying", "item.interrupted": "interrupted"}
    last: dict[int, Event] = {}
    for event in events:
        item = getattr(event, "item", 0)
        if item and event.event not in ("item.adopted", "item.regrouped", "item.described", "item.cancelled"):
            last[item] = event
    found = {}
    for item, state in story.state.items():
        is_retrying = last[item].event in ("item.retry_scheduled", "item.rescheduled")
        match state:
            case "waits":
                found[item] = waits.get(last[item].event, "queued")
            case "process" | "hook":
                found[item] = "running"
            case "failed" | "hook failed":
                found[item] = "failed"
            case _:
                found[item] = "skipped" if item in story.skipped else "retrying" if is_retrying else "completed"
    return found


@given(event_streams(), st.data())
def test_any_cut_of_a_steered_run_tells_what_holds(events: list[Event], data: st.DataObject) -> None:
    """No item is named before it is enqueued, an attempt has one outcome, what is closed rests, and what is paused waits."""
    told_by(events[: data.draw(st.integers(1, len(events)))], follows_clock=False)
    told_by(events, follows_clock=False)


@given(event_streams(), st.data())
def test_a_beginning_and_the_rest_fold_to_the_same(events: list[Event], data: st.DataObject) -> None:
    """Wherever the events are cut, also if a copy takes the rest."""
    cut = data.draw(st.integers(0, len(events)))
    view, recording, items, folded, whole = RunView(), Recording(), ItemTable(), FoldedResult(), FoldedResult()
    for part in (events[:cut], events[cut:]):
        view = view.copy()
        view.apply(part)
        recording.apply(part)
        items.apply(part)
        folded.apply(part)
    whole.apply(events)

    assert view == view_of(events)
    assert recording.at_end() == recording_of(events)
    assert vars(items) == vars(table_of(events))
    assert folded.result(view) == whole.result(view)


@given(event_streams())
def test_all_folds_count_the_same(events: list[Event]) -> None:
    """The view, the table of items, the result, and the oracle's plain count; also each type by itself."""
    story, view, items = told_by(events, follows_clock=False), view_of(events), table_of(events)
    folded = FoldedResult()
    folded.apply(events)
    result = folded.result(view)
    states = Counter(items.state_of(row) for row in range(len(items)))

    assert {items.item_of(row): items.state_of(row) for row in range(len(items))} == states_of(story, events)
    assert result.counts == view.counts == story.counts
    assert (states["failed"], states["skipped"]) == (view.counts.failed, view.counts.skipped)
    assert view.waiting == states["retrying"] == len(items.due)
    failures = {event.item: event for event in events if isinstance(event, ItemFailed)}
    failed = {item for item, state in story.state.items() if state in ("failed", "hook failed")}
    assert {event.item: event for event in result.failures} == {item: failures[item] for item in failed}
    assert sum(group.count for group in result.failure_groups) == len(failed)


@given(event_streams())
def test_the_sql_views_tell_the_same(events: list[Event]) -> None:
    """The state of each item, who has failed, and the results, which two queries and a fold of a log tell as well."""
    story, items = told_by(events, follows_clock=False), table_of(events)
    as_in_sql = {"retrying": {"queued"}, "completed": {"completed", "waiting", "interrupted", "queued"}}
    seqs: dict[int, int] = {}
    process_seqs: dict[int, int] = {}
    for event in events:
        if isinstance(event, ItemCompleted | ItemChildrenProcessed | ItemSkipped | ItemFailed):
            _track_result(event, event.item, seqs, process_seqs)
    with as_a_journal(events) as connection:
        states = dict(connection.execute("SELECT id, state FROM items"))
        failures = {item for (item,) in connection.execute("SELECT item FROM failures")}
        results = dict(connection.execute("SELECT item, result FROM results"))
        streamed = {item: json.loads(event)["result"] for item, event in connection.execute(_RESULTS)}

    for row in range(len(items)):
        state = items.state_of(row)
        assert states[items.item_of(row)] in as_in_sql.get(state, {state})
    assert len(states) == len(items)
    assert failures == {item for item, state in story.state.items() if state in ("failed", "hook failed")}
    expected = {item: json.loads(result) for item, result in story.results.items() if result}
    assert {item: json.loads(result) for item, result in results.items()} == streamed == expected
    of_log = {item: json.loads(bytes(events[seq - 1].result)) for item, seq in seqs.items()}  # type: ignore[attr-defined]
    assert of_log == expected


@given(event_streams())
def test_what_people_set_holds_until_they_take_it_back(events: list[Event]) -> None:
    """And a number of workers, until the program passes another one."""
    paused: Event | None = None
    groups: dict[str, Event] = {}
    limits: dict[str, Event] = {}
    workers: RunWorkersChanged | None = None
    for event in events:
        match event:
            case RunStarted():
                if event.cluster or (workers is not None and workers.program != event.num_workers):
                    workers = None
            case RunPaused() | RunUnpaused():
                paused = event if isinstance(event, RunPaused) else None
            case GroupPaused():
                groups[event.group] = event
            case GroupUnpaused():
                del groups[event.group]
            case RunWorkersChanged():
                workers = None if event.num_workers == event.program else event
            case GroupLimitChanged():
                before = limits.pop(event.group, None)
                if isinstance(before, GroupLimitChanged) and before.program is None and event.program is not None:
                    # The program's limit was added, to what was set when no process was there to know it.
                    added = replace(before, program=event.program)
                    event = added if replace(added, seq=event.seq, at=event.at) == event else event
                limits |= {} if event.is_default else {event.group: event}
            case _:
                pass

    assert view_of(events).in_force == recording_of(events).in_force == InForce(paused, groups, workers, limits)  # type: ignore[arg-type]


# ---- one by one -----------------------------------------------------------------------------------------------------


def a_parent(script: Script) -> tuple[int, int]:
    """Return an initial item with a hook, and its child, both ended well."""
    parent = script.enqueue("m:Folder", hook=True)
    script.start(parent, "m:Folder")
    child = script.enqueue(parent=parent)
    script.complete(parent, result=Raw(b'"process"'))
    script.start(child)
    script.complete(child, result=Raw(b'"old"'))
    script.start(parent, "m:Folder", phase="after_children")
    script.end_hook(parent, "m:Folder", result=Raw(b'"hook"'))
    return parent, child


def rerun(script: Script) -> tuple[int, int]:
    """Let the child of `a_parent` run again, by a command on the run, which has completed; return both."""
    parent, child = a_parent(script)
    script.finish("completed")
    script.wait(3_600)
    script.edit()
    script.steer("retry", f"{child} --completed")
    script.open_again(parent, "m:Folder", ended=script.ended(parent), result=Raw(b'"process"'))
    script.open_again(child, rerun=True, ended=script.ended(child))
    return parent, child


def test_result_holds_until_the_next_round_has_ended() -> None:
    """Of the item that runs again, and of its parent, whose hook does."""
    script = Script()
    parent, child = rerun(script)
    recording = recording_of(script.events)

    assert recording.forgotten_below == {parent, child}
    assert recording.live[child].parent == parent and not recording.live[child].completed
    assert recording.live[parent].completed and recording.live[parent].pending == 1
    assert not recording.root_results, "a resume reads what holds for an initial item until then"
    script.begin(RunResumed)
    script.start(child, attempt=2)
    script.complete(child, attempt=2)
    recording = recording_of(script.events)
    assert recording.live[parent].results is None, "it has none any more"
    script.start(parent, "m:Folder", phase="after_children", attempt=2)
    script.end_hook(parent, "m:Folder")
    recording = recording_of(script.events)
    assert (set(recording.live), recording.forgotten_below, recording.earlier_results) == ({0}, set(), {})
    (reopened,) = [event.seq for event in script.events if isinstance(event, ItemReopened) and event.item == parent]
    assert recording.root_results == {parent: reopened}


def test_item_that_fails_when_it_runs_again_has_no_result() -> None:
    """Neither has its parent's hook one of it."""
    script = Script()
    parent = script.enqueue()
    script.start(parent)
    script.complete(parent, result=Raw(b"1"))
    script.open_again(parent, rerun=True, ended=script.ended(parent))
    assert recording_of(script.events).forgotten_below == {parent}
    script.start(parent, attempt=2)
    script.fail(parent, BOOM, attempt=2)
    recording = recording_of(script.events)

    assert (recording.earlier_results, recording.root_results) == ({}, {})
    assert not recording.live[parent].result_seq


def test_run_that_completed_is_not_complete_once_something_runs_again() -> None:
    """So that a resume runs it, and everybody sees that something is outstanding."""
    script = Script()
    a_parent(script)
    script.finish("completed")
    script.edit()
    edited = list(script.events)
    script = Script()
    rerun(script)

    assert (view_of(edited).state, view_of(edited).status) == ("finished", "completed")
    assert recording_of(edited).finished is not None
    assert (view_of(script.events).state, view_of(script.events).status) == ("finished", "interrupted")
    assert recording_of(script.events).finished is None


@pytest.mark.parametrize("has_finished", [True, False])
def test_time_without_a_process_does_not_count(has_finished: bool) -> None:
    """Neither the night before a command, nor the command itself; it is no process, and no crash."""
    script = Script()
    item, other = script.enqueue(), script.enqueue()
    script.start(item)
    script.wait(10)
    script.add(ItemDescribed, item=item, worker=1, text="")
    if has_finished:
        script.interrupt(item)
        script.finish("interrupted")
    elapsed_s = script.events[-1].at - script.events[0].at
    script.wait(40_000)
    script.edit()
    if not has_finished:
        script.interrupt(item, "crash")
    script.wait(5)
    script.skip(item)
    edited = recording_of(script.events)
    view = view_of(script.events)
    fold = Fold()
    fold.apply(script.events)

    assert (view.state, view.status) == ("finished", "interrupted")
    assert view.elapsed_s(script.events[-1].at + 99) == edited.elapsed_s == pytest.approx(elapsed_s)
    assert fold.elapsed_s == pytest.approx(elapsed_s)
    assert (list(edited.first_ids), edited.crashes.count) == ([1], 0 if has_finished else 1)
    assert fold.num_processes == 1 and fold.num_crashed == (not has_finished)
    script.wait(40_000)
    script.begin(RunResumed)
    script.start(other)
    script.complete(other)
    script.finish("completed")
    elapsed_s += script.events[-1].at - script.events[-4].at
    whole, view = recording_of(script.events), view_of(script.events)

    assert view.elapsed_s(view.at) == whole.elapsed_s == pytest.approx(elapsed_s)
    assert (list(whole.first_ids), whole.crashes.count) == ([1, 3], 0)


def test_item_that_was_cancelled_when_the_process_crashed_is_to_fail() -> None:
    """A resume knows it, until it has failed."""
    script = Script()
    item, other, third = script.enqueue(), script.enqueue(), script.enqueue()
    for worker, one in enumerate((item, other, third), 1):
        script.start(one, worker=worker)
        script.steer("cancel", str(one))
        script.add(ItemCancelled, item=one)
    script.complete(other, worker=2)
    script.fail(third, BOOM, worker=3)
    script.begin(RunResumed)
    script.interrupt(item, "crash")
    crashed = recording_of(script.events)
    script.cancel(item, attempt=2)
    given_up = recording_of(script.events)

    assert (crashed.cancelled, given_up.cancelled) == ({item: ANNA}, {})
    assert (given_up.live[item].failed, view_of(script.events).counts.failed) == ("process", 2)


def test_items_that_wait_can_be_cancelled() -> None:
    """For a worker, for a retry, and for a retry of the hook: they no longer wait, and no attempt has failed."""
    script = Script()
    hook = script.enqueue("m:Folder", hook=True)
    script.start(hook, "m:Folder")
    script.complete(hook)
    script.start(hook, "m:Folder", phase="after_children")
    script.fail_for_now(hook, 60.0, phase="after_children")
    queued, retried = script.enqueue(group="example.org"), script.enqueue("m:Other", group="example.org")
    script.start(retried, "m:Other", group="example.org")
    script.fail_for_now(retried, 60.0)
    script.cancel(queued, group="example.org")
    script.cancel(retried, "m:Other", attempt=2)
    script.cancel(hook, "m:Folder", phase="after_children", attempt=2)
    told_by(script.events, follows_clock=False)
    view, items = view_of(script.events), table_of(script.events)

    assert (view.queued, view.waiting, view.next_due, view.groups, view.running) == (0, 0, 0.0, {}, {})
    assert view.counts == Counts(3, failed=3, retried=2)
    assert (items.due, items.duration_s[0]) == ({}, 0.0)


def test_next_retry_is_that_which_is_due_first_also_after_a_change() -> None:
    """Earlier or later than before."""
    script = Script()
    first, second = script.enqueue(), script.enqueue()
    for item, due_in_s in ((first, 10.0), (second, 20.0)):
        script.start(item)
        script.fail_for_now(item, due_in_s)
    for item, due_in_s, is_next in ((first, 60.0, False), (second, 90.0, True), (first, 0.0, True)):
        due = script.events[-1].at + 0.01 + due_in_s
        script.add(ItemRescheduled, item=item, type="module:Page", due=due)
        view, recording = view_of(script.events), recording_of(script.events)
        other = recording.live[first if item == second else second]
        assert view.next_due == (due if (item, is_next) == (first, True) else min(due, other.due))
        assert recording.live[item].due == due
        assert recording.live[item].delay_s == pytest.approx(due_in_s)


def test_who_paused_what_limits_a_run() -> None:
    """The run, or the group in which most items wait; a group whose pause was taken back is not held."""
    script = Script()
    for group in ("a", "b", "b"):
        script.enqueue(group=group)

    def limited_by() -> str:
        return view_of(script.events).limited_by(script.events[-1].at)

    for group in ("a", "b"):
        script.add(GroupPaused, group=group, by=ANNA)
    assert limited_by() == "b is paused by anna@host: 2 waiting; and another group; 3 of 3 workers idle"
    script.add(GroupUnpaused, group="b", by=ANNA)
    assert limited_by() == "a is paused by anna@host: 1 waiting; 3 of 3 workers idle"
    script.add(RunPaused, by=ANNA)
    assert limited_by() == "paused by anna@host: 3 waiting"
    script.add(RunUnpaused, by=ANNA)
    script.add(GroupUnpaused, group="a", by=ANNA)
    assert limited_by() == ""


def test_limit_that_was_changed_is_no_longer_that_of_the_program() -> None:
    """What was known of it doesn't hold, until the new one keeps an item waiting."""
    script = Script()
    script.enqueue(group="a")
    script.add(GroupLimitKnown, group="a", per_second=1.0)
    assert view_of(script.events).limits.keys() == {"a"}
    script.add(GroupLimitChanged, group="a", by=ANNA, program=GroupLimit(per_second=1.0))

    assert view_of(script.events).limits == {}
    assert view_of(script.events).in_force.limits["a"].concurrent is None


def test_copy_of_a_view_keeps_what_was_in_force() -> None:
    """Whatever happens to the other."""
    script = Script()
    script.add(GroupPaused, group="a", by=ANNA)
    view = view_of(script.events)
    twin = view.copy()
    script.add(GroupUnpaused, group="a", by=ANNA)
    view.apply(script.events[-1:])

    assert twin.in_force.paused_groups.keys() == {"a"}
    assert view.in_force.paused_groups == {}


def test_failed_run_whose_failures_were_skipped_has_completed() -> None:
    """Unless something is left to do."""
    script = Script()
    first, second = script.enqueue(), script.enqueue()
    for item in (first, second):
        script.start(item)
        script.fail(item, BOOM)
    script.finish("failed")
    script.edit()
    script.skip(first, had_failed=True)
    assert view_of(script.events).status == "failed"
    script.skip(second, had_failed=True)

    assert view_of(script.events).status == "completed"
    assert view_of(script.events).counts == Counts(2, skipped=2)


# ---- the invariants of the engine's runs ------------------------------------------------------------------------------


def steered_process() -> list[Event]:
    """Return a process whose run a person steers in every way."""
    script = Script()

    def run(item: int, cls: type[Event], type: str = "module:Page", **fields: Any) -> None:
        script.start(item, type, attempt=fields.get("attempt", 1), group=fields.pop("group", None))
        script.add(cls, item=item, worker=1, duration_s=0.01, **fields)

    top, late, waiting = script.enqueue("m:Folder", hook=True), script.enqueue(group="a"), script.enqueue()
    script.start(top, "m:Folder")
    below, skipped = script.enqueue(parent=top), script.enqueue(parent=top)
    script.add(ItemCompleted, item=top, worker=1, duration_s=0.03)
    script.add(GroupPaused, group="a", by=ANNA)
    script.add(RunPaused, by=ANNA)
    script.add(RunUnpaused, by=ANNA)
    run(below, ItemCompleted)
    script.skip(skipped)
    script.start(top, "m:Folder", phase="after_children")
    script.end_hook(top, "m:Folder")
    script.steer("retry", f"{below} {skipped} --completed", count=2)
    script.open_again(top, "m:Folder", ended=script.ended(top))
    script.open_again(below, rerun=True, ended=script.ended(below))
    script.open_again(skipped, rerun=True, skipped=True, ended=script.ended(skipped))
    run(below, ItemCompleted, attempt=2)
    script.start(skipped)
    script.add(ItemCancelled, item=skipped)
    script.add(ItemFailed, item=skipped, type="module:Page", worker=1, duration_s=0.02, error=BOOM)
    script.add(ItemChildrenFailed, item=top, type="m:Folder")
    script.add(GroupUnpaused, group="a", by=ANNA)
    script.start(late, group="a")
    script.fail_for_now(late, 60.0)
    script.add(ItemRescheduled, item=late, type="module:Page", due=script.events[-1].at + 0.02)
    script.wait(1)
    run(late, ItemCompleted, attempt=2, group="a")
    script.cancel(waiting)
    script.add(RunWorkersChanged, num_workers=1, program=3, by=ANNA)
    return script.finish("failed")


def test_the_checks_of_the_engine_know_what_people_do() -> None:
    """A process that is steered passes them; the counts are those of a fold."""
    check_events(steered_process())


@pytest.mark.parametrize("lost", [RunUnpaused, GroupUnpaused, ItemReopened, ItemSkipped, ItemCompleted])
def test_the_checks_of_the_engine_see_what_may_not_be(lost: type[Event]) -> None:
    """A start during a pause, or in a subtree that has ended and wasn't reopened; an end too many."""
    run = steered_process()
    gone = next(at for at, event in enumerate(run) if isinstance(event, lost))
    events = [msgspec.structs.replace(event, seq=seq) for seq, event in enumerate(run[:gone] + run[gone + 1 :], 1)]

    with pytest.raises(AssertionError):
        check_events(events)
