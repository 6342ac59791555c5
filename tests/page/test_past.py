"""The past of a run, `_page.past`: each view as it was after any event, the run's own time, and the marks that lead there."""

import re
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqueue import events as ev
from aqueue._page import index
from aqueue._page.over_time import Fold
from aqueue._page.past import PastMoment, commands_of, elapsed_at, marks_of, time_at
from aqueue.events import Event
from aqueue.figures import local_minute
from aqueue.testing import _scripted_runs as scripted
from aqueue.testing._scripted_runs import ANNA, BOOM, Script
from tests.page.test_views import MadeUpRun, View, with_items
from tests.strategies import event_streams


def edited() -> list[Event]:
    """Return a run that was killed, and that a command changed before anything resumed it."""
    script = Script()
    items = [script.enqueue() for _ in range(2)]
    script.start(items[1])
    script.wait(3600)
    script.add(ev.RunEdited, schema_version=2, aqueue_version="0", by=ANNA)  # until the next event, the item "runs"
    script.interrupt(items[1], "crash")
    script.skip(items[0])
    return script.events


SCRIPTED = {
    "completed": scripted.completed(5),
    "every type": scripted.every_event_type(),
    "interrupted": scripted.interrupted(),
    "failures": scripted.with_failures(5),
    "resumed": scripted.resumed(),
    "retries": scripted.with_retries(4),
    "workers": scripted.with_workers(6),
    "cluster": scripted.on_a_cluster(3, 2),
    "edited": edited(),
}


def rows_of(view: View) -> list[tuple[str, ...]]:
    """Return what the list says of each item that doesn't depend on what came later: number, state and type."""
    table = view.part("listing").find("tbody")
    if table is None:
        return []
    found: list[tuple[str, ...]] = []
    for row in table.find_all("tr"):
        cells = [" ".join(cell.get_text(" ").split()) for cell in row.find_all("td")]
        found.append((cells[1], cells[0], cells[2]))
    return found


def check_past(run: MadeUpRun, events: Sequence[Event], at: int) -> None:
    """See that the run as it was after the event `at` is one of which nothing more has happened."""
    assert run.items is not None
    then, cut = PastMoment(run, run.items, at), MadeUpRun(events[:at])
    assert (then.at, then.latest, then.now) == (at, run, cut.view.at)
    assert then.view == cut.view
    assert then.num_processes == cut.num_processes
    # Nobody can look at a process of the past: it is there as long as the run hasn't said its end.
    ended = cut.view.state == "finished"
    assert then.state.name == (cut.state.name if ended else "running")
    assert then.elapsed_s == pytest.approx(cut.elapsed_s)
    for name, part in (("now", "figures"), ("now", "types"), ("now", "kinds"), ("now", "workers"), ("now", "groups"), ("failures", "failed")):  # fmt: skip
        assert View(then, name).said(part) == View(cut, name).said(part), part
    kinds = [(group, history.bins, history.first_at, history.last_at) for group, history in then.kinds.groups()]
    assert kinds == [(group, history.bins, history.first_at, history.last_at) for group, history in cut.kinds.groups()]
    with with_items(cut):
        asked: dict[str, Any] = {"order": "oldest"}
        assert rows_of(View(then, "items", **asked)) == rows_of(View(cut, "items", **asked))
        for n in range(1, min(cut.view.counts.enqueued, 4) + 2):
            one, other = View(then, "item", n=n).said("item"), View(cut, "item", n=n).said("item")
            head = re.compile(r".*? (completed|waiting|running|retrying|failed|interrupted|skipped)\b")
            if n <= cut.view.counts.enqueued:
                assert head.match(one) and head.match(other)
                assert head.match(one)[1] == head.match(other)[1]  # type: ignore[index]
                assert View(then, "item", n=n).rows("item") == View(cut, "item", n=n).rows("item")
            else:
                assert one == other.replace(".", " at this moment.")


@pytest.mark.parametrize("events", SCRIPTED.values(), ids=SCRIPTED)
def test_each_moment_is_the_run_as_it_was(events: list[Event]) -> None:
    """After each event, or about 40 of them: its figures, its failures by kind, its items and each of them."""
    run = MadeUpRun(events, after_s=5)
    with patch.object(index, "_VIEW_EVENTS", 7), with_items(run):
        for at in {*range(1, len(events) + 1, max(len(events) // 40, 1)), len(events)}:
            check_past(run, events, at)


@settings(max_examples=25)
@given(event_streams(), st.floats(0, 1))
def test_any_moment_of_any_run(events: list[Event], share: float) -> None:
    """Whatever had happened."""
    run = MadeUpRun(events)
    with with_items(run):
        check_past(run, events, max(round(len(events) * share), 1))


# ---- the run's own time --------------------------------------------------------------------------------------------


@given(st.one_of(event_streams(), st.sampled_from(list(SCRIPTED.values()))), st.floats(0, 1))
def test_time_of_the_run_and_time_of_the_clock(events: list[Event], share: float) -> None:
    """One is the inverse of the other, but for the time between processes, which is at the end of the first."""
    fold = Fold()
    fold.apply(events)
    elapsed_s = fold.elapsed_s * share
    assert elapsed_at(fold, time_at(fold, elapsed_s)) == pytest.approx(elapsed_s, abs=1e-3)
    before = 0.0
    for event in events:
        now = elapsed_at(fold, event.at)
        assert 0 <= now <= fold.elapsed_s + 1e-6
        assert now >= before - 1e-6
        before = now
    assert elapsed_at(fold, events[0].at - 1) == 0


def test_nothing_has_happened() -> None:
    """There is no time."""
    assert elapsed_at(Fold(), 1_700_000_000.0) == time_at(Fold(), 5.0) == 0


@settings(max_examples=40)
@given(st.one_of(event_streams(), st.sampled_from(list(SCRIPTED.values()))))
def test_last_moment_of_the_past_is_now(events: list[Event]) -> None:
    """Each cell of its items is the same."""
    run = MadeUpRun(events)
    with with_items(run):
        assert run.items is not None
        then = PastMoment(run, run.items, len(events))
        assert View(then, "items").rows("listing") == View(run, "items").rows("listing")


def test_of_an_item_that_stayed_as_it_was_nothing_is_read() -> None:
    """Its last event may have a result of megabytes, and the index knows more: when the process crashed, for one."""
    script = Script()
    items = [script.enqueue() for _ in range(3)]
    for item in items[:2]:
        script.start(item, worker=item)
        script.add(ev.ItemDescribed, item=item, worker=item, text=f"item {item}")
    script.wait(10)
    script.complete(items[0], worker=items[0])
    crashed_at = script.events[-1].at
    script.wait(80_000)
    script.begin(ev.RunResumed)
    script.interrupt(items[1], "crash")
    at = len(script.events)
    script.wait(60)
    script.start(items[2])
    script.add(ev.ItemDescribed, item=items[2], worker=1, text="not yet")
    run = MadeUpRun(script.events)
    with with_items(run):
        assert run.items is not None
        then = PastMoment(run, run.items, at)
        found = run.items.listing("", "oldest", None, at, 3, is_live=True).rows
        assert [row.last_seq for row in found] == [None, None, items[2] + 1]
        [_, interrupted, waiting] = View(then, "items", order="oldest").rows("listing")[-3:]
    assert interrupted[0] == "interrupted" and "item 2" in interrupted
    assert local_minute(crashed_at, then.now) in interrupted[-1]
    assert waiting[0] == "waiting" and "not yet" not in waiting


def test_attempts_of_items_in_the_past() -> None:
    """What came later doesn't count, nor do attempts at the hook."""
    script = Script()
    items = [script.enqueue() for _ in range(2)]
    until: list[tuple[int, str]] = [(len(script.events), "")]
    for attempt in (1, 2, 3):
        script.start(items[0], attempt=attempt)
        until.append((len(script.events), str(attempt)))
        if attempt < 3:
            script.fail_for_now(items[0], 0.1, attempt=attempt)
    script.complete(items[0], attempt=3)
    script.start(items[0], phase="after_children")
    until.append((len(script.events), "3"))
    run = MadeUpRun(script.events)
    with with_items(run):
        assert run.items is not None
        for at, attempts in until:
            listing = View(PastMoment(run, run.items, at), "items", order="oldest").part("listing")
            [cell] = listing.select("#row-1 [data-name=Attempts]")
            assert cell.get_text() == attempts


# ---- marks ---------------------------------------------------------------------------------------------------------


def eventful() -> Script:
    """Return a run that a person paused and steered, that was killed and resumed, and that ended."""
    script = Script()
    items = [script.enqueue() for _ in range(40)]
    script.wait(10)
    script.add(ev.RunPaused, by=ANNA)
    script.wait(10)
    script.add(ev.RunUnpaused, by=ANNA)
    script.start(items[0])
    script.wait(80_000)
    script.begin(ev.RunResumed)
    script.interrupt(items[0], "crash")
    script.skip(items[1])
    script.wait(100)
    for item in items[2:32]:
        script.start(item)
        script.fail(item, BOOM)
    script.wait(300)
    script.add(ev.RunStopping, reason="SIGINT")
    script.finish("interrupted")
    return script


def test_marks_lead_to_what_happened() -> None:
    """In order, each at the event after which the run is as the mark says."""
    run = MadeUpRun(eventful().events)
    with with_items(run):
        assert run.items is not None
        marks = marks_of(run, run.items)
        words = [mark.words.replace(ANNA, "Anna") for mark in marks]
        assert [word.split(" by ")[0] for word in words] == [
            "paused", "unpaused", "killed", "resumed", "skip 2, 1 item", "30 failed", "stopping: SIGINT", "interrupted",
        ]  # fmt: skip
        assert marks == sorted(marks)
        assert [mark.elapsed_s for mark in marks] == sorted(mark.elapsed_s for mark in marks)
        moments = {mark.words.split(" by ")[0]: PastMoment(run, run.items, mark.seq) for mark in marks}
        assert moments["paused"].view.in_force.paused is not None
        assert moments["unpaused"].view.in_force.paused is None
        assert len(moments["killed"].view.running) == 1 and moments["killed"].num_processes == 1
        assert moments["resumed"].num_processes == 2
        assert moments["30 failed"].view.counts.failed == 30
        assert moments["interrupted"].state.name == "interrupted"
        by_words = {mark.words: mark for mark in marks}
        assert by_words["killed"].elapsed_s == pytest.approx(by_words["resumed"].elapsed_s, abs=0.1)


@pytest.mark.parametrize("events", [*SCRIPTED.values(), [], Script().events], ids=[*SCRIPTED, "none", "one"])
def test_marks_of_any_run(events: list[Event]) -> None:
    """Each is within the run, and of many only the first ones are kept."""
    run = MadeUpRun(events)
    with with_items(run):
        assert run.items is not None
        for mark in marks_of(run, run.items):
            assert 1 <= mark.seq <= len(events)
            assert 0 <= mark.elapsed_s <= run.elapsed_s + 1e-6


def test_a_command_without_a_process_is_one_command() -> None:
    """That the journal is opened for it is no second one, in the list and as a mark."""
    script = Script()
    script.enqueue()
    script.finish("interrupted")
    script.add(ev.RunEdited, schema_version=2, aqueue_version="0", by=ANNA)
    script.add(ev.RunPaused, by=ANNA)
    run = MadeUpRun(script.events)
    with with_items(run):
        assert run.items is not None
        assert [type(event) for event in commands_of(run.items)] == [ev.RunPaused]
        assert [mark.words.split()[0] for mark in marks_of(run, run.items)] == ["interrupted", "paused"]


def test_marks_are_bounded() -> None:
    """A script may pause a run a thousand times."""
    script = Script()
    for _ in range(1_000):
        script.add(ev.RunPaused, by=ANNA)
        script.add(ev.RunUnpaused, by=ANNA)
    run = MadeUpRun(script.events)
    with with_items(run):
        assert len(run.marks) == 200
        assert View(run).parts["dock"].count("<title>") == 200
