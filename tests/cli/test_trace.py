"""The trace: right by the format's schema, by the importer's rules, and as Perfetto's trace processor reads it."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue.cli._formats.trace import write_chrome_trace
from aqueue.events import (
    Event,
    GroupSlowedDown,
    ItemCompleted,
    ItemDescribed,
    ItemEnqueued,
    ItemInterrupted,
    ItemSkipped,
    ItemStarted,
    RunResumed,
    RunStarted,
    RunStopping,
)
from aqueue.testing import _scripted_runs as scripted
from aqueue.testing._scripted_runs import ANNA, BOOM, CANCELLED, Script
from tests.cli.perfetto import query, why_not
from tests.cli.runs import HOSTILE, crashed_and_resumed, recorded
from tests.cli.trace_checker import Line, check_trace, slices
from tests.strategies import event_streams, hostile_text


def trace_of(*batches: Sequence[Event]) -> bytes:
    """Return the trace of these batches of events."""
    parts: list[bytes] = []
    write_chrome_trace(batches, parts.append)
    return b"".join(parts)


def lines_of(events: list[Event]) -> list[Line]:
    """Return what the trace of `events` consists of, when all that must hold of it does."""
    return check_trace(trace_of(events), events)


def named(lines: list[Line], name: str) -> list[Line]:
    """Return the lines with this name."""
    return [line for line in lines if line["name"] == name]


def values(lines: list[Line]) -> list[tuple[float, int, int, int, int, int]]:
    """Return what the counters show: the seconds, then how many are queued, running, completed, failed and skipped."""
    return [(line["ts"] / 1e6, *line["args"].values()) for line in named(lines, "items")]


def at_one_time() -> list[Event]:
    """Return a run in which time stands still, but for two attempts; one worker does all but one child."""
    script = Script()
    parent = script.enqueue("module:Folder")
    script.start(parent, "module:Folder")
    children = [script.enqueue(parent=parent), script.enqueue(parent=parent)]
    elsewhere = script.enqueue(parent=parent)
    script.start(elsewhere, worker=2)
    script.complete(parent)
    script.complete(elsewhere, worker=2)
    for item in children:
        script.start(item)
        grandchild = script.enqueue(parent=item)
        script.fail_for_now(item, due_in_s=0.0)
        script.start(grandchild)
        script.complete(grandchild)
    for item in children:
        script.start(item, attempt=2)
        script.wait(0.5)
        script.complete(item, attempt=2)
    events = script.finish("completed")
    moved = {event.at: math.floor(event.at * 2) / 2 for event in events}
    return [type(event)(**{**fields_of(event), "at": moved[event.at]}) for event in events]


def fields_of(event: Event) -> dict[str, Any]:
    """Return the fields of an event."""
    return {name: getattr(event, name) for name in event.__struct_fields__}


def with_marks_between() -> list[Event]:
    """Return a run in which an item asks for a pause before it enqueues a child, and while it runs the run is stopped."""
    script = Script()
    parent = script.enqueue("module:Folder")
    script.start(parent, "module:Folder")
    script.add(GroupSlowedDown, group="example.org", due=1_700_000_060.0, item=parent)
    child = script.enqueue(parent=parent)
    script.add(RunStopping, reason="SIGINT")
    script.enqueue(parent=parent)
    script.complete(parent)
    script.start(child)
    script.complete(child)
    return script.finish("interrupted")


SCRIPTED = {
    "nothing but its start": Script().events,
    "completed": scripted.completed(30),
    "every type of event": scripted.every_event_type(),
    "interrupted": scripted.interrupted(),
    "failures": scripted.with_failures(5),
    "resumed after a crash": scripted.resumed(),
    "retries": scripted.with_retries(10),
    "many workers": scripted.with_workers(1_200),
    "an event of the future": scripted.with_an_event_of_the_future(),
    "on a cluster": scripted.on_a_cluster(3, 2),
    "more worker processes than a thousand": scripted.on_a_cluster(600, 1),
    "hostile text": scripted.saying(HOSTILE),
    "lone surrogates": scripted.saying("\ud800 \udfff"),
    "nothing to say": scripted.saying(""),
    "at one time": at_one_time(),
    "marks in between": with_marks_between(),
}
each_scripted_run = pytest.mark.parametrize("events", SCRIPTED.values(), ids=SCRIPTED)


@each_scripted_run
def test_scripted_runs_give_right_traces(events: list[Event]) -> None:
    """Schema, slices, arrows, counters and names are as they must be."""
    check_trace(trace_of(events), events)


@given(st.data())
def test_whatever_is_cut_off_a_run_its_trace_is_right(data: st.DataObject) -> None:
    """The events of a process that crashed, or still runs, make a whole trace, also of text that is hostile."""
    events = data.draw(event_streams(hostile_text))
    prefix = events[: data.draw(st.integers(0, len(events)))]

    check_trace(trace_of(prefix), prefix)


@given(event_streams(), st.integers(1, 20))
def test_batches_make_no_difference(events: list[Event], size: int) -> None:
    """However the events come, the trace is the same."""
    batches = [events[start : start + size] for start in range(0, len(events), size)]

    assert trace_of(*batches) == trace_of(events)


@pytest.mark.parametrize("batches", [[], [[]]], ids=["no batch", "an empty batch"])
def test_run_without_events_is_an_empty_trace(batches: list[list[Event]]) -> None:
    """It is JSON all the same."""
    assert check_trace(trace_of(*batches), []) == []


def test_trace_is_written_while_events_come() -> None:
    """Nothing waits for the end of the run."""
    parts: list[bytes] = []
    written: list[int] = []

    def batches() -> Iterator[Sequence[Event]]:
        events = scripted.completed(1_000)
        for start in range(0, len(events), 100):
            written.append(len(parts))
            yield events[start : start + 100]

    write_chrome_trace(batches(), parts.append)

    assert written == list(range(len(written)))


def test_about_the_run() -> None:
    """The trace says which run it is of; times count from its start."""
    trace = json.loads(trace_of(scripted.completed(1)))

    assert trace["displayTimeUnit"] == "ms"
    assert trace["otherData"] == {
        "run": "3b1f",
        "started": "2023-11-14T22:13:20.010000Z",
        "aqueue": "1.0",
        "queue": "queue",
    }
    assert [line["ts"] for line in slices(trace["traceEvents"])] == [20_000.0]


def test_attempt_has_its_particulars() -> None:
    """A slice says what ran, at which try, how it came out, and what it said last."""
    script = Script()
    parent = script.enqueue("module:Folder.Inner")
    script.start(parent, "module:Folder.Inner", worker=2)
    child = script.enqueue(parent=parent)
    script.start(child, attempt=3)
    for number in range(12):
        script.add(ItemDescribed, item=child, worker=1, text=f"step {number}")
    script.fail(child, BOOM, attempt=3)
    of_parent, of_child = slices(lines_of(script.events))

    assert (of_parent["name"], of_parent["args"]["type"]) == ("Folder.Inner", "module:Folder.Inner")
    assert of_child["args"] == {
        "item": child,
        "type": "module:Page",
        "phase": "process",
        "attempt": 3,
        "outcome": "failed",
        "duration_s": 0.25,
        "error_type": "module:Boom",
        "error_message": "it broke",
        "description": "step 11",
    }


def test_each_way_to_end_has_its_outcome() -> None:
    """An attempt that nothing ended was cut off by a crash, or runs still."""
    outcomes = {
        name: [(line["args"]["outcome"], line["cat"]) for line in slices(lines_of(SCRIPTED[name]))]
        for name in ("resumed after a crash", "every type of event", "interrupted")
    }
    script = Script()
    script.start(script.enqueue())

    assert outcomes["resumed after a crash"][:2] == [("completed", "process"), ("crash", "process")]
    assert outcomes["interrupted"] == [("completed", "process"), *[("interrupted", "process")] * 2]
    assert outcomes["every type of event"][1] == ("retry_scheduled", "process")
    assert outcomes["every type of event"][-3:] == [
        ("completed", "after_children"),
        ("failed", "process"),
        ("interrupted", "process"),
    ]
    assert ("failed", "after_children") in outcomes["every type of event"]
    assert [line["args"]["outcome"] for line in slices(lines_of(script.events))] == ["running"]


def test_attempts_that_nothing_ended_end_with_the_last_event() -> None:
    """Of what came later, the time between two processes above all, nothing is known."""
    script = Script()
    script.start(script.enqueue())
    script.wait(0.5)
    script.enqueue()
    script.wait(7_200)
    script.begin(RunResumed)
    script.start(script.enqueue())
    script.wait(0.5)
    script.enqueue()

    assert [round(line["dur"], -1) for line in slices(lines_of(script.events))] == [510_000, 510_000]


def test_processes_of_a_run_stand_apart() -> None:
    """A resumed run has a process of the trace for each of its own, in order, with workers of its own."""
    lines = lines_of(scripted.resumed())
    names = {line["pid"]: line["args"]["name"] for line in named(lines, "process_name")}

    assert names == {
        1: "process 1 (pid 1234 on host)",
        3: "process 2 (pid 1234 on host)",
    }
    assert [line["args"] for line in named(lines, "process_sort_index")] == [{"sort_index": 1}, {"sort_index": 2}]
    assert [(line["tid"], line["args"]["name"]) for line in named(lines, "thread_name")] == [
        (2, "worker 1"),
        (4, "worker 1"),
    ]
    assert [line["pid"] for line in slices(lines)] == [1] * 2 + [3] * 4


def test_worker_processes_of_a_cluster_stand_apart() -> None:
    """Each has its workers, also where their numbers were those of one that is gone; hooks are in the run's own process."""
    lines = lines_of(SCRIPTED["on a cluster"])
    names = {line["pid"]: line["args"]["name"] for line in named(lines, "process_name")}
    threads = {line["tid"]: line["args"]["name"] for line in named(lines, "thread_name")}

    assert list(names.values()) == [
        "process 1 (pid 1234 on host)",
        "node-0.example.org:4000",
        "node-1.example.org:4001",
        "node-2.example.org:4002",
        "late.example.org:3",
    ]
    drawn = [
        (line["args"]["item"], names[line["pid"]].partition(".")[0], threads[line["tid"]]) for line in slices(lines)
    ]
    assert drawn == [
        *[(item, f"node-{(item - 1) // 2}", f"worker {item}") for item in range(1, 7)],
        (1, "late", "worker 1"),
        (2, "late", "worker 2"),
        (1, "process 1 (pid 1234 on host)", "worker 1"),
    ]
    assert {line["args"]["sort_index"] for line in named(lines, "process_sort_index")} == {1}


def test_marks() -> None:
    """Pauses, stops, crashes, commands on items and the end of worker processes are marked where they happened."""
    marks = [
        (line["name"], line["s"], line["args"])
        for run in ("every type of event", "resumed after a crash")
        for line in lines_of(SCRIPTED[run])
        if line["ph"] == "i"
    ]

    assert marks == [
        ("group slowed down", "p", {"item": 2, "group": "example.org", "due_in_s": 0.91}),
        ("run stopping", "p", {"reason": "SIGINT", "cancelling": False}),
        ("run stopping", "p", {"reason": "SIGINT again", "cancelling": True}),
        ("steered: retry", "p", {"selector": "--state retrying", "count": 1, "by": ANNA}),
        ("steered: skip", "p", {"selector": "9", "count": 1, "by": ANNA}),
        ("steered: cancel", "p", {"selector": "10", "count": 1, "by": ANNA}),
        ("steered: cancel", "p", {"selector": "11", "count": 1, "by": ANNA}),
        ("steered: skip", "p", {"selector": "12", "count": 1, "by": ANNA}),
        ("run stopping", "p", {"reason": "stop", "cancelling": False}),
        ("process left", "p", {}),
        ("process lost", "p", {"ignored": 2}),
        ("crash", "p", {}),
    ]


def test_arrows_lead_from_running_parents_to_first_starts() -> None:
    """Neither initial items have one, nor those whose parent doesn't run, nor further attempts."""
    script = Script()
    parent = script.enqueue()
    script.start(parent)
    child, never = script.enqueue(parent=parent), script.enqueue(parent=parent)
    script.complete(parent)
    late = script.enqueue(parent=parent)
    script.start(child)
    script.fail_for_now(child, 0.0)
    script.begin(RunResumed)
    script.start(child, attempt=2)
    script.start(late, worker=2)
    arrows = [(line["ph"], line["id"], round(line["ts"])) for line in lines_of(script.events) if line["ph"] in "sf"]

    assert arrows == [("s", child, 30_000), ("s", never, 40_000), ("f", child, 70_000)]


def test_log_that_lacks_items_has_the_arrows_of_the_others() -> None:
    """Whatever numbers are missing: attempts are drawn, and arrows lead to the right ones."""
    events: list[Event] = [
        RunStarted(1, 1.0, "run", 1, "0", 5, "queue", 1, "host"),
        ItemEnqueued(2, 1.0, 1, 0, "t"),
        ItemStarted(3, 1.0, 1, "t", 1),
        ItemEnqueued(4, 2.0, 10**12, 1, "t"),
        ItemEnqueued(5, 2.0, 7, 1, "t"),
        ItemStarted(6, 3.0, 7, "t", 2),
        ItemStarted(7, 4.0, 10**12, "t", 3),
    ]
    lines = lines_of(events)
    assert [line["id"] for line in lines if line["ph"] == "f"] == [7, 10**12]


@given(st.floats(0, 2e9), st.lists(st.integers(0, 3), min_size=2, max_size=30))
def test_no_rounding_moves_an_attempt_into_the_next(start: float, steps: list[int]) -> None:
    """Also where times follow each other as closely as floats can, one attempt begins no earlier than the last ended."""
    script = Script()
    for _ in steps:
        item = script.enqueue()
        script.start(item)
        script.complete(item)
    at, events = start, []
    for number, event in enumerate(script.events):
        for _ in range(steps[number % len(steps)]):
            at = math.nextafter(at, math.inf)
        events.append(type(event)(**{**fields_of(event), "at": at}))

    lines_of(events)


def test_counters_are_sampled_and_true() -> None:
    """A sample every 100 ms at most; what changed shortly before a silence is shown at its beginning, not at its end."""
    script = Script()
    items = [script.enqueue() for _ in range(30)]
    script.start(items[0])
    script.wait(3_600)
    script.complete(items[0])
    script.start(items[1])
    script.start(items[2], worker=2)

    assert [(round(at, 3), *counts) for at, *counts in values(lines_of(script.events))] == [
        (0.0, 0, 0, 0, 0, 0),
        (0.1, 9, 0, 0, 0, 0),
        (0.2, 19, 0, 0, 0, 0),
        (0.3, 29, 0, 0, 0, 0),
        (0.4, 29, 1, 0, 0, 0),
        (3600.34, 27, 2, 1, 0, 0),
    ]


def test_items_that_people_skip_cancel_and_retry() -> None:
    """Attempts end as the events say, with the reason; each state has a counter, and a command on an ended run adds no time."""
    script = Script()
    failed, cut, cancelled, waiting = (script.enqueue() for _ in range(4))
    script.start(failed)
    script.fail(failed, BOOM)
    script.start(cut)
    script.start(cancelled, worker=2)
    script.interrupt(cut, "skipped")
    script.add(ItemSkipped, item=cut, type="module:Page")
    script.fail(cancelled, CANCELLED, worker=2)
    script.cancel(waiting)
    script.finish("failed")
    before = lines_of(script.events)
    script.wait(40_000)
    script.edit()
    script.skip(failed, had_failed=True)
    script.open_again(cancelled, failed="process")
    edited = lines_of(script.events)
    script.begin(RunResumed)
    script.start(cancelled, attempt=2)
    resumed = lines_of(script.events)

    ends = [(line["args"]["item"], line["args"]["outcome"]) for line in slices(resumed)]
    assert ends == [(failed, "failed"), (cut, "interrupted"), (cancelled, "failed"), (cancelled, "running")]
    assert slices(resumed)[1]["args"]["reason"] == "skipped"
    assert slices(resumed)[2]["args"]["error_type"] == CANCELLED.type
    assert edited == before
    assert [counts for _, *counts in (values(before)[-1], values(resumed)[-1])] == [[0, 0, 0, 3, 1], [0, 1, 0, 1, 2]]


def test_nothing_runs_in_a_process_that_has_crashed() -> None:
    """Viewers draw a counter's last value on to the end of the trace."""
    first = [line for line in lines_of(scripted.resumed()) if line["pid"] == 1]

    assert [counts for _, *counts in values(first)][-1] == [3, 0, 1, 0, 0]


def test_text_of_items_does_nothing() -> None:
    """What a terminal or a JSON reader would stumble over is written as an escape."""
    lines = lines_of(scripted.saying(HOSTILE + "\ud800"))
    shown = '=cmd|\\x1b[2J\\x9b1m\\u202e\\u2028\\x7f\\r\\n"</script>;\\ud800'

    assert slices(lines)[0]["args"]["description"] == shown
    assert {line["args"]["error_message"] for line in slices(lines) if "error_message" in line["args"]} == {shown}
    assert {line["args"]["reason"] for line in named(lines, "run stopping")} == {shown}


# ---- real runs, and the real reader ---------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [1, 3, 12, 25, 40])
def test_real_run_that_crashed_and_was_resumed(tmp_path: Path, after: int) -> None:
    """Wherever it was cut off, its trace is right."""
    batches = recorded(crashed_and_resumed(tmp_path, after, reporter="none"))
    events = [event for batch in batches for event in batch]
    lines = check_trace(trace_of(*batches), events)

    completed = [event.item for event in events if isinstance(event, ItemCompleted)]
    drawn = [line for line in slices(lines) if line["args"]["outcome"] == "completed" and line["cat"] == "process"]
    assert sorted(line["args"]["item"] for line in drawn) == sorted(completed)
    assert len(named(lines, "process_name")) == 2


def test_runs_in_other_hands_are_read_to_their_last_event(tmp_path: Path) -> None:
    """Of a run that goes on, what is there so far is drawn: attempts up to the last event."""
    events = [event for batch in recorded(crashed_and_resumed(tmp_path, 20, reporter="none")) for event in batch]
    so_far = events[: next(number for number, event in enumerate(events) if isinstance(event, RunResumed))]
    running = sum(isinstance(event, ItemInterrupted) for event in events)
    outcomes = [line["args"]["outcome"] for line in slices(lines_of(so_far))]

    assert outcomes.count("running") == running > 0


SLICES = """
    SELECT process.pid, tid, slice.name, slice.category, slice.ts, slice.dur, EXTRACT_ARG(slice.arg_set_id, 'args.item')
    FROM slice JOIN thread_track ON thread_track.id = track_id JOIN thread USING (utid) JOIN process USING (upid)
    ORDER BY slice.ts, tid, slice.id"""
ARROWS = """
    SELECT EXTRACT_ARG(one.arg_set_id, 'args.item'), EXTRACT_ARG(other.arg_set_id, 'args.item'), other.ts
    FROM flow JOIN slice AS one ON one.id = slice_out JOIN slice AS other ON other.id = slice_in ORDER BY 2"""
NAMES = """
    SELECT pid, process.name, tid, thread.name FROM thread JOIN process USING (upid)
    WHERE NOT is_main_thread ORDER BY tid"""
COUNTERS = """
    SELECT pid, process_counter_track.name, counter.ts, counter.value
    FROM counter JOIN process_counter_track ON process_counter_track.id = track_id JOIN process USING (upid)"""
MARKS = """
    SELECT slice.name, slice.ts FROM slice JOIN process_track ON process_track.id = track_id ORDER BY slice.ts"""
TROUBLE = "SELECT name, value FROM stats WHERE severity IN ('error', 'data_loss') AND value > 0"


@pytest.mark.skipif(bool(why_not()), reason=why_not())
@pytest.mark.parametrize(
    "run",
    [
        "real",
        "every type of event",
        "retries",
        "resumed after a crash",
        "at one time",
        "marks in between",
        "on a cluster",
    ],
)
def test_perfetto_reads_what_is_meant(tmp_path: Path, run: str) -> None:
    """Its trace processor finds each slice, arrow, name, counter and mark, exact to the nanosecond, and no fault."""
    if run == "real":
        events = [event for batch in recorded(crashed_and_resumed(tmp_path, reporter="none")) for event in batch]
    else:
        events = SCRIPTED[run]
    trace = trace_of(events)
    lines = check_trace(trace, events)
    found, arrows, names, counters, marks, trouble = query(trace, SLICES, ARROWS, NAMES, COUNTERS, MARKS, TROUBLE)

    assert trouble == []
    on_threads = [line for line in lines if line["ph"] == "X" or line.get("s") == "t"]
    assert found == [
        (line["pid"], line["tid"], line["name"], line["cat"], ns(line["ts"]), ns(line.get("dur", 0)), item_of(line))
        for line in sorted(on_threads, key=lambda line: (line["ts"], line["tid"]))
    ]
    first = {line["args"]["item"]: line for line in reversed(slices(lines))}
    reached = sorted(line["id"] for line in lines if line["ph"] == "f")
    parents = {event.item: event.parent for event in events if isinstance(event, ItemEnqueued)}
    assert arrows == [(parents[item], item, ns(first[item]["ts"])) for item in reached]
    processes = {line["pid"]: line["args"]["name"] for line in named(lines, "process_name")}
    workers = sorted((line["tid"], line["pid"], line["args"]["name"]) for line in named(lines, "thread_name"))
    assert names == [(pid, processes[pid], tid, name) for tid, pid, name in workers]
    assert sorted(map(repr, counters)) == sorted(
        repr((line["pid"], f"items {name}", ns(line["ts"]), float(value)))
        for line in named(lines, "items")
        for name, value in line["args"].items()
    )
    of_processes = sorted((line["ts"], line["name"]) for line in lines if line.get("s") == "p")
    assert marks == [(name, ns(ts)) for ts, name in of_processes]


def ns(microseconds: float) -> int:
    """Return microseconds as whole nanoseconds, which they must be."""
    assert microseconds * 1_000 == int(microseconds * 1_000)
    return int(microseconds * 1_000)


def item_of(line: Line) -> int:
    """Return the number of the item that a slice or a mark is about."""
    item: int = line["args"]["item"]
    return item
