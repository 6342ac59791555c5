"""RunView: one fold of the events, right however it is cut, and bounded."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue.events import (
    Counts,
    ErrorInfo,
    Event,
    GroupLimitKnown,
    GroupSlowedDown,
    ItemChildrenFailed,
    ItemCompleted,
    ItemDescribed,
    ItemEnqueued,
    ItemFailed,
    ItemInterrupted,
    ItemRegrouped,
    ItemReopened,
    ItemRescheduled,
    ItemRetryScheduled,
    ItemSkipped,
    ItemStarted,
    LoopBlocked,
    ProcessJoined,
    ProcessLeft,
    RunEdited,
    RunFinished,
    RunHeldUp,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStopping,
    RunUnpaused,
    RunWorkersChanged,
)
from aqueue.testing._scripted_runs import BOOM, Script, completed, resumed, with_failures, with_workers
from aqueue.view import SHARES_WINDOW_S, RunView, Shares, WorkerProcess, WorkerProcesses
from tests.strategies import as_in_older_logs, event_streams


def view_of(events: list[Event]) -> RunView:
    """Return the view of `events`."""
    view = RunView()
    view.apply(events)
    return view


@given(event_streams(), st.data())
def test_folding_a_prefix_and_the_rest_is_folding_all(events: list[Event], data: st.DataObject) -> None:
    """The view depends on the events alone, not on how they were cut into batches."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=4)))
    view = RunView()
    for start, end in zip([0, *cuts], [*cuts, len(events)], strict=True):
        view.apply(events[start:end])

    assert view_of(events) == view


@given(event_streams(), st.data())
def test_a_copy_goes_on_by_itself(events: list[Event], data: st.DataObject) -> None:
    """What is applied to a copy, which comes to the same, leaves the view as it was, and the other way round."""
    cut = data.draw(st.integers(0, len(events)))
    view = view_of(events[:cut])
    twin = view.copy()
    twin.apply(events[cut:])
    assert twin == view_of(events)
    assert view == view_of(events[:cut])
    view.apply(events[cut:])
    assert view == twin


@given(event_streams())
def test_counters_equal_an_independent_count(events: list[Event]) -> None:  # noqa: C901, PLR0912, PLR0915  # each type
    """Each counter is what anyone who reads the events one by one would count."""
    type_of = {event.item: event.type for event in events if isinstance(event, ItemEnqueued)}
    state = dict.fromkeys(type_of, "absent")
    at_work: dict[int, tuple[int, str]] = {}
    interrupted: Counter[str] = Counter()
    deduplicated: Counter[str] = Counter()
    groups: dict[int, str | None] = {}
    dues: dict[int, float] = {}
    for event in events:
        match event:
            case ItemEnqueued():
                state[event.item] = "queued"
                groups[event.item] = event.group
            case ItemRegrouped():
                groups[event.item] = event.group
            case ItemStarted():
                dues.pop(event.item, None)
                at_work[event.item] = (event.worker, event.phase)
                if event.phase == "process":
                    state[event.item] = "running"
            case ItemCompleted():
                state[event.item] = "completed"
                del at_work[event.item]
                deduplicated[type_of[event.item]] += event.deduplicated
            case ItemFailed():
                state[event.item] = "failed"
                dues.pop(event.item, None)
                at_work.pop(event.item, None)
            case ItemSkipped():
                state[event.item] = "skipped"
                dues.pop(event.item, None)
            case ItemRescheduled():
                dues[event.item] = event.due
            case ItemReopened():
                dues.pop(event.item, None)
                if event.rerun or event.failed == "process":
                    state[event.item] = "queued"
                elif event.failed is not None:
                    state[event.item] = "completed"
            case ItemRetryScheduled() | ItemInterrupted():
                del at_work[event.item]
                is_retry = isinstance(event, ItemRetryScheduled)
                if event.phase == "process":
                    state[event.item] = "waiting" if is_retry else "queued"
                if isinstance(event, ItemRetryScheduled):
                    dues[event.item] = event.due
                else:
                    interrupted[type_of[event.item]] += 1
            case _:
                if event.event == "item.children_processed":
                    at_work.pop(event.item, None)  # type: ignore[attr-defined]
    view = view_of(events)

    for name in set(type_of.values()):
        of_type = Counter(state[item] for item, type in type_of.items() if type == name)
        seen = view.types[name]
        assert of_type.total() == seen.enqueued
        assert of_type["queued"] == seen.queued
        assert sum(type_of[item] == name for item in dues) == seen.waiting
        assert of_type["completed"] == seen.completed
        assert of_type["failed"] == seen.failed
        assert of_type["skipped"] == seen.skipped
        assert interrupted[name] == seen.interrupted
        assert deduplicated[name] == seen.deduplicated
        assert sum(type_of[item] == name for item in at_work) == seen.running
        assert seen.queued <= seen.peak_queued <= seen.enqueued
    assert (len(dues), min(dues.values(), default=0.0)) == (view.waiting, view.next_due)
    assert at_work == {running.item: (running.worker, running.phase) for running in view.running.values()}
    ended = sum(s in ("completed", "failed", "skipped") for s in state.values())
    assert len(type_of) - ended == view.counts.outstanding
    assert view.groups == Counter(
        group for item, group in groups.items() if group is not None and state[item] == "queued"
    )
    tracked = {event.type for event in events if isinstance(event, ItemEnqueued) and event.track_overall}
    assert sum(name in tracked for name in type_of.values()) == view.overall.enqueued


@given(event_streams())
def test_older_logs_give_the_same_view(events: list[Event]) -> None:
    """Whether the events that end an attempt all tell its worker, or only its start and some of them."""
    assert view_of(as_in_older_logs(events)) == view_of(events)


@given(event_streams())
def test_the_last_event_is_where_the_view_stands(events: list[Event]) -> None:
    """Its number and time are those of the view."""
    view = view_of(events)

    assert (events[-1].seq, events[-1].at) == (view.seq, view.at)
    of_run = [event for event in events if isinstance(event, RunStarted | RunEdited | RunFinished)]
    assert isinstance(of_run[-1], RunEdited | RunFinished) == (view.state == "finished")


@given(event_streams())
def test_memory_is_bounded(events: list[Event]) -> None:
    """What is kept grows with types, workers, their processes and what waits for a retry alone."""
    view = view_of(events)
    workers = {event.worker for event in events if isinstance(event, ItemStarted)}

    assert len(view.failures) <= 20
    assert len(view._samples) <= 21
    account = view._account
    assert len(account.marks) <= 22
    assert max(len(account.blocks), len(account.holds)) <= 128
    assert view.running.keys() <= workers
    most = max(event.num_workers for event in events if isinstance(event, RunStarted | RunWorkersChanged))
    assert view.cluster or len(view.running) <= most
    assert view._hook_types <= view.types.keys()
    assert len(view.processes._firsts) == len(view.processes)
    assert len(view._waits) == view.waiting
    assert len(view._dues) <= 2 * view.waiting + 200


@given(event_streams())
def test_worker_processes_are_those_that_joined_and_have_not_left(events: list[Event]) -> None:
    """Since the run was begun or resumed; each worker is in one of them, and so is what runs, but for hooks."""
    on_cluster, present = False, dict[int, WorkerProcess]()
    num_workers, changed = 0, None
    for event in events:
        match event:
            case RunStarted():
                on_cluster, present, num_workers = bool(event.cluster), {}, event.num_workers
                if changed is not None and not on_cluster and changed.program == num_workers:
                    num_workers = changed.num_workers
                else:
                    changed = None
            case RunWorkersChanged():
                changed, num_workers = event, event.num_workers
            case ProcessJoined():
                workers = range(event.first_worker, event.first_worker + event.num_workers)
                process = WorkerProcess(event.first_worker, event.num_workers, event.host, event.pid)
                present |= dict.fromkeys(workers, process)
            case ProcessLeft():
                present = {n: process for n, process in present.items() if process.first_worker != event.first_worker}
            case _:
                pass
    view = view_of(events)

    assert on_cluster == bool(view.cluster)
    assert {process.first_worker: process for process in present.values()} == view.processes
    assert list(view.workers) == (sorted(present) if on_cluster else list(range(1, num_workers + 1)))
    assert len(list(view.workers)) == view.num_workers
    for worker in range(max(present, default=0) + 2):
        assert present.get(worker) == view.process_of(worker)
    if on_cluster:
        assert all(one.worker in present for one in view.running.values() if one.phase == "process")


CLUSTER = "tcp://scheduler:8786"


def lost_at(*when: str) -> RunView:
    """Return the view of a run on a cluster after a process, which was at two items, died; then after these steps."""
    script = Script(cluster=CLUSTER)
    script.join(1, 3, host="a")
    script.join(4, 2, host="b")
    items = [script.enqueue(), script.enqueue()]
    for item in items:
        script.start(item, worker=item)
    script.lose(1, *items, ignored=1)
    if "started again" in when:
        for item in items:
            script.start(item, worker=3 + item, attempt=2)
    return view_of(script.events)


def test_items_lost_with_their_process_are_queued_until_they_start_again() -> None:
    """Each counts as interrupted once, and is outstanding all the time; no event announces it a second time."""
    lost, again = lost_at(), lost_at("started again")

    assert (lost.queued, lost.counts, lost.running, lost.num_workers) == (2, Counts(2, interrupted=2), {}, 2)
    assert (again.queued, again.counts, list(again.running)) == (0, Counts(2, interrupted=2), [4, 5])
    assert [process.host for process in lost.processes.values()] == ["b"]
    assert lost.types["module:Page"].peak_queued == 2


def test_number_of_a_process_that_has_left_may_be_used_again() -> None:
    """By one with more workers or fewer."""
    script = Script(cluster=CLUSTER)
    script.join(1, 2)
    script.join(3, 2)
    script.add(ProcessLeft, first_worker=1)
    script.join(1, 1, host="other")
    view = view_of(script.events)

    assert (view.num_workers, list(view.workers)) == (3, [1, 3, 4])
    assert (process := view.process_of(1)) is not None and process.host == "other"
    assert view.process_of(2) is None


def test_hook_outlasts_the_process_of_its_worker() -> None:
    """It runs in the run's own process, and is at work until it ends."""
    script = Script(cluster=CLUSTER)
    script.join(1, 1)
    item = script.enqueue()
    script.start(item)
    script.complete(item)
    script.start(item, phase="after_children")
    script.add(ProcessLeft, first_worker=1)
    view = view_of(script.events)
    before = (list(view.running), view.num_workers, view.process_of(1))
    script.add(ItemDescribed, item=item, worker=1, text="adding up")
    script.end_hook(item)
    view.apply(script.events[-2:])

    assert before == ([1], 0, None)
    assert view.running == {}


def test_a_cluster_has_no_workers_before_a_process_joins() -> None:
    """However many each process is to have; and none after it was resumed, until processes join again."""
    script = Script(cluster=CLUSTER)
    before = view_of(script.events)
    script.join()
    script.begin(RunResumed, cluster=CLUSTER)
    resumed_there = view_of(script.events)
    script.begin(RunResumed)
    resumed_here = view_of(script.events)

    assert [(view.cluster, view.num_workers, view.processes) for view in (before, resumed_there, resumed_here)] == [
        (CLUSTER, 0, {}),
        (CLUSTER, 0, {}),
        ("", 3, {}),
    ]


def test_process_events_without_a_cluster_change_nothing() -> None:
    """The workers are those of the run's own process."""
    script = Script()
    script.join(1, 9)
    script.add(ProcessLeft, first_worker=1)
    view = view_of(script.events)

    assert (view.num_workers, view.processes, view.process_of(1)) == (3, {}, None)


def test_worker_processes_are_found_by_their_workers() -> None:
    """By one, or by a span of them; one that joins under the same first number takes the other's place."""
    processes = WorkerProcesses()
    first, second, third = (
        processes.join(ProcessJoined(1, 0.0, number, 2, "node", number)) for number in (5, 1, 9)
    )  # workers 5 and 6, 1 and 2, 9 and 10

    assert [processes.of(worker) for worker in (0, 1, 2, 3, 5, 6, 7)] == [
        None,
        second,
        second,
        None,
        first,
        first,
        None,
    ]
    assert processes.of(2, 4) is first
    assert processes.of(3, 2) is None
    assert processes.of(6, 94) is third
    assert processes.leave(ProcessLeft(1, 0.0, 7)) is None
    processes.join(ProcessJoined(1, 0.0, 5, 4, "node", 1))
    assert (processes.num_workers, list(processes.workers)) == (8, [1, 2, 5, 6, 7, 8, 9, 10])


def test_only_the_latest_failures_are_kept() -> None:
    """Of 100 failures the last 20, the oldest of them first."""
    view = view_of(with_failures(100))

    assert [failure.item for failure in view.failures] == list(range(81, 101))
    assert view.counts.failed == 100


def test_samples_of_a_long_run_are_bounded() -> None:
    """An hour of events leaves no more samples than the rate needs."""
    script = Script()
    for _ in range(7_200):
        script.wait(0.5)
        script.enqueue()

    view = view_of(script.events)
    assert len(view._samples) == 21
    assert len(view._account.marks) <= 22


def test_running_items_say_what_they_do() -> None:
    """A busy worker is shown with its item, since when, and the latest description."""
    events = with_workers(3)
    last_start = max(index for index, event in enumerate(events) if isinstance(event, ItemDescribed))
    view = view_of(events[: last_start + 1])

    assert [(r.worker, r.text) for r in view.running.values()] == [(1, "page 1"), (2, "page 2"), (3, "page 3")]


def test_stopping_is_told_with_its_reason() -> None:
    """The state, the reason and whether what runs is cancelled."""
    script = Script()
    script.add(RunStopping, reason="SIGINT")
    first = view_of(script.events)
    script.add(RunStopping, reason="SIGINT again", cancelling=True)
    second = view_of(script.events)

    assert (first.state, first.stop_reason, first.cancelling) == ("stopping", "SIGINT", False)
    assert (second.state, second.stop_reason, second.cancelling) == ("stopping", "SIGINT again", True)


def test_items_that_wait_for_a_retry_are_not_queued() -> None:
    """They are counted by themselves, the first due is told, and each leaves when it starts; outstanding they all are."""
    script = Script()
    items = [script.enqueue() for _ in range(3)]
    for item, due in zip(items, (300.0, 100.0, 200.0), strict=True):
        script.start(item)
        script.add(ItemRetryScheduled, item=item, worker=1, error=BOOM, due=due)
    view = view_of(script.events)
    seen = [(view.waiting, view.queued, view.next_due, view.counts.outstanding)]
    for item in (items[0], items[1], items[2]):  # not in the order of their dues: a limit held the first one back
        begun = len(script.events)
        script.start(item, attempt=2)
        script.complete(item, attempt=2)
        view.apply(script.events[begun:])
        seen.append((view.waiting, view.queued, view.next_due, view.counts.outstanding))

    assert seen == [(3, 0, 100.0, 3), (2, 0, 100.0, 2), (1, 0, 200.0, 1), (0, 0, 0.0, 0)]
    assert view.types["module:Page"].waiting == 0
    assert view.types["module:Page"].peak_queued == 3


def test_a_limit_or_a_pause_that_keeps_workers_idle_is_named() -> None:
    """The one in which the most items wait; not while all workers are busy, nothing waits in it, or the run stops."""
    script = Script()
    items = [script.enqueue(group="a.example" if number < 6 else "b.example") for number in range(8)]
    view = view_of(script.events)
    assert view.groups == {"a.example": 6, "b.example": 2}
    said = [view.limited_by(view.at)]

    def apply(event: type[Event], **fields: Any) -> None:
        script.add(event, **fields)
        view.apply(script.events[-1:])
        said.append(view.limited_by(view.at))

    apply(GroupLimitKnown, group="b.example", concurrent=2, per_second=0.5)
    apply(GroupLimitKnown, group="a.example", concurrent=2)
    for number, worker in ((0, 1), (1, 2), (2, 3)):
        group = "a.example"
        apply(ItemStarted, item=items[number], type="module:Page", worker=worker, group=group)
    apply(ItemCompleted, item=items[0], worker=1, duration_s=0.1)
    apply(GroupSlowedDown, group="a.example", due=view.at + 27.0, item=0)
    apply(RunStopping, reason="enough")
    assert said == [
        "",
        "limited by b.example: 2 at once, 0.5/s, 2 waiting; 3 of 3 workers idle",
        "limited by b.example: 2 at once, 0.5/s, 2 waiting; 3 of 3 workers idle",
        "limited by b.example: 2 at once, 0.5/s, 2 waiting; 2 of 3 workers idle",
        "limited by a.example: 2 at once, 4 waiting; and another group; 1 of 3 workers idle",
        "",
        "limited by a.example: 2 at once, 3 waiting; and another group; 1 of 3 workers idle",
        "a.example is paused, resumes in 27 s: 3 waiting; and another group; 1 of 3 workers idle",
        "",
    ]


def test_items_that_wait_for_something_else_are_not_limited() -> None:
    """After a resume, for their parents: nothing of the group runs. And where a log lacks starts, nothing waits."""
    script = Script()
    parent = script.enqueue()
    children = [script.enqueue(parent=parent, group="a.example") for _ in range(2)]
    script.add(GroupLimitKnown, group="a.example", concurrent=1)
    script.start(parent)
    assert not view_of(script.events).limited_by(script.events[-1].at)
    script.start(children[0], worker=2, group="a.example")
    assert view_of(script.events).limited_by(script.events[-1].at) == (
        "limited by a.example: 1 at once, 1 waiting; 1 of 3 workers idle"
    )
    script.start(children[1], worker=3)  # as the repair of a log makes it up
    script.complete(children[1], worker=3)
    view = view_of(script.events)
    assert (view.groups, view.queued) == ({"a.example": 1}, 0)
    assert not view.limited_by(view.at)


def after(script: Script, wait_s: float = 0.0) -> tuple[RunView, float]:
    """Return the view of a script and the time so long after its last event."""
    return view_of(script.events), script.events[-1].at + wait_s


def said_after(script: Script, wait_s: float = 0.0) -> str:
    """Return what limits the run then."""
    view, now = after(script, wait_s)
    return view.limited_by(now)


def test_a_person_s_pause_comes_before_everything() -> None:
    """It is named at once, with what waits, and also while nothing does; not how the person gave the command."""
    script = Script()
    item = script.enqueue()
    script.start(item)
    script.add(LoopBlocked, method="Page.process", where="shop.py:40 in parse", duration_s=9.0)
    script.add(RunPaused, by="anna@laptop via aqueue pause")
    assert said_after(script, 10) == "paused by anna@laptop"
    script.enqueue()
    assert said_after(script, 10) == "paused by anna@laptop: 1 waiting"
    script.add(RunStopping, reason="Ctrl-C")
    assert said_after(script, 10) == ""


def two_blocks(seconds: float, where: str = "shop.py:40 in parse") -> Script:
    """Return a run of 10 s in which code has blocked the loop twice, each time for so long."""
    script = Script()
    script.enqueue()
    script.start(1)
    for _ in range(2):
        script.wait(4.95)
        script.add(LoopBlocked, method="Page.process", where=where, duration_s=seconds)
    return script


@pytest.mark.parametrize(
    ("seconds", "where", "expected"),
    [
        (3.1, "shop.py:40 in parse", "limited by your code: parse (shop.py:40) blocks the event loop 62 % of the time"),
        (1.1, "shop.py:40", "limited by your code: Page.process (shop.py:40) blocks the event loop 22 % of the time"),
        (0.9, "shop.py:40", ""),
        (90.0, "shop.py:40", "limited by your code: Page.process (shop.py:40) blocks the event loop 100 % of the time"),
    ],
)
def test_code_that_blocks_the_loop_is_named(seconds: float, where: str, expected: str) -> None:
    """The function in which it did, and the line; from a fifth of the time on."""
    assert said_after(two_blocks(seconds, where)) == expected


def test_of_several_calls_that_block_the_loop_the_longest_is_named() -> None:
    """The share is that of all, and the sentence says that there are others; what is over a minute ago doesn't count."""
    script = two_blocks(1.0)
    script.add(LoopBlocked, method="Page.process", where="shop.py:50 in store", duration_s=1.5)
    assert said_after(script) == (
        "limited by your code: parse (shop.py:40) and others block the event loop 35 % of the time"
    )
    assert said_after(script, 51) == ""
    view, now = after(script, 61)
    assert (view.shares(now).blocked, round(view.shares(now, "run").blocked, 2)) == (0.0, 0.05)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("journal", "held up by the disk 31 % of the time"),
        ("aqueue_reporters.jsonl:JsonlReporter", "held up by the reporter JsonlReporter 31 % of the time"),
    ],
)
def test_what_holds_the_run_up_is_named(by: str, expected: str) -> None:
    """The disk or the reporter for which it waits."""
    script = Script()
    script.enqueue()
    script.start(1)
    for _ in range(10):
        script.wait(0.99)
        script.add(RunHeldUp, by=by, duration_s=0.31)
    assert said_after(script) == expected


def test_code_that_blocks_most_of_the_time_comes_before_a_limit() -> None:
    """Else the limit that keeps workers idle is named."""
    for seconds, expected in ((3.1, "limited by your code: parse"), (1.1, "limited by a: 2/s, 5 waiting; 2 of 3")):
        script = two_blocks(seconds)
        for _ in range(5):
            script.enqueue(group="a")
        script.add(GroupLimitKnown, group="a", per_second=2.0)
        assert said_after(script).startswith(expected)


def test_waiting_for_retries_is_said_when_nothing_else_is_left() -> None:
    """How many items, and when the next is due, if that isn't past; not while anything is queued or runs."""
    script = Script()
    items = [script.enqueue() for _ in range(3)]
    said = []
    for item, due_in_s in zip(items, (30.0, 12.0, 40.0), strict=True):
        script.start(item)
        said.append(said_after(script))
        script.fail_for_now(item, due_in_s)
        said.append(said_after(script))
    assert said == ["", "", "", "", "", "waiting for retries: 3 items, the next in 12 s"]
    assert said_after(script, 15) == "waiting for retries: 3 items"
    for item in items[1:]:
        script.start(item, attempt=2)
        script.complete(item, attempt=2)
    assert said_after(script) == "waiting for a retry: 1 item, due in 30 s"


def chain(pages: int, seconds: float) -> Script:
    """Return a run in which each of so many items enqueues the next one in the end, after so many seconds."""
    script = Script()
    item = script.enqueue()
    for _ in range(pages):
        script.start(item)
        script.wait(seconds)
        found = script.enqueue(parent=item)
        script.complete(item)
        item = found
    script.start(item)
    return script


def test_discovery_limits_a_run_whose_queue_is_empty() -> None:
    """While something runs that may find more, and did in the last minute: the last items of a list are no discovery."""
    assert said_after(chain(3, 1.0)) == ""  # in the first seconds nothing is said
    script = chain(10, 3.0)
    assert said_after(script) == "limited by discovery: the queue was empty 100 % of the time so far"
    assert said_after(script, 40) == "limited by discovery: the queue was empty 100 % of the last minute"
    assert said_after(script, 70) == ""
    given = Script()
    for item in [given.enqueue() for _ in range(2)]:
        given.start(item, worker=item)
    assert said_after(given, 30) == ""


def test_busy_workers_are_said_to_be_too_few() -> None:
    """If nearly all of the time they were all busy, and items wait that no limit holds back."""

    def busy(group: str | None = None, **of_run: Any) -> Script:
        script = Script(**of_run)
        if of_run.get("cluster"):
            script.join(1, 3)
        items = [script.enqueue(group=group) for _ in range(30)]
        for worker, item in enumerate(items[:3], 1):
            script.start(item, worker=worker, group=group)
        for turn, item in enumerate(items[3:20]):
            script.wait(0.5)
            worker = turn % 3 + 1
            script.complete(items[turn], worker=worker)
            script.start(item, worker=worker, group=group)
        return script

    assert said_after(busy()) == "all 3 workers busy: more workers may help"
    assert said_after(busy(cluster=CLUSTER)) == "all 3 workers busy: more worker processes may help"
    limited = busy("a")
    limited.add(GroupLimitKnown, group="a", concurrent=3)
    assert said_after(limited) == ""
    script = busy()
    script.complete(18)
    assert said_after(script) == ""


def test_first_seconds_and_the_end_say_nothing() -> None:
    """Nor does a run whose items start and end faster than the fold looks."""
    script = Script()
    for _ in range(1_000):
        script.start(script.enqueue())
        script.complete(script.events[-1].item)  # type: ignore[attr-defined]
    view, now = after(script)
    assert view.limited_by(now) == RunView().limited_by(now) == ""
    assert RunView().shares(now) == Shares()
    script = chain(10, 3.0)
    script.finish("interrupted")
    assert said_after(script, 3) == ""


def every_activity() -> Script:
    """Return a run of a minute in which a person paused it, a limit held it back, and so on, each for 10 s."""
    script = Script(num_workers=2)
    items = [script.enqueue(group="a" if number < 2 else None) for number in range(6)]

    def run(item: int, worker: int, seconds: float) -> None:
        script.wait(seconds - 0.01)
        script.complete(item, worker=worker)

    for worker, item in enumerate(items[4:], 1):  # all busy
        script.start(item, worker=worker)
    run(items[4], 1, 10)
    script.start(items[3], worker=1)
    script.add(RunPaused, by="anna@laptop via aqueue")
    run(items[3], 1, 5)
    run(items[5], 2, 5)
    script.add(RunUnpaused, by="anna@laptop via aqueue")
    script.start(items[2], worker=1)
    script.start(items[0], worker=2, group="a")
    script.complete(items[2], worker=1)
    script.add(GroupLimitKnown, group="a", concurrent=1)
    run(items[0], 2, 10)  # limited
    script.start(items[1], group="a")
    script.wait(10)  # the queue is empty
    script.fail_for_now(items[1], 10.0)
    script.wait(10)
    script.start(items[1], attempt=2, group="a")
    return script


def test_shares_tell_what_the_time_was_spent_on() -> None:
    """Of the last minute, of which what is older leaves, and of the whole run; also after its end."""
    script = every_activity()
    view, now = after(script)
    for over in ("minute", "run"):
        shares = view.shares(now, over)
        assert shares.of_s == pytest.approx(50, abs=0.5)
        assert [shares.busy, shares.paused, shares.limited, shares.empty, shares.retrying] == pytest.approx(
            [0.2] * 5, abs=0.01
        )
    later = view.shares(now + 30)
    assert later.of_s == 60
    assert [later.busy, later.paused, later.limited, later.empty, later.retrying] == pytest.approx(
        [0, 0, 1 / 6, 4 / 6, 1 / 6], abs=0.01
    )
    script.complete(2, attempt=2)
    view.apply(script.finish("completed")[-2:])
    assert view.shares(now + 3_600, "run") == view.shares(now, "run")


def test_time_without_a_process_has_no_share() -> None:
    """Neither between a crash and the resume, nor after an end, nor while a command edits the run."""
    for end in ("crash", "finish", "edit"):
        script = chain(3, 3.0)
        before, now = after(script)
        if end == "finish":
            script.finish("interrupted")
        script.wait(7_200)
        if end == "edit":
            script.edit()
            script.wait(600)
        script.begin(RunResumed)
        view, resumed_at = after(script)
        assert view.shares(resumed_at) == Shares()
        assert view.shares(resumed_at, "run").of_s == pytest.approx(before.elapsed_s(now), abs=0.02)
        assert view.shares(resumed_at, "run").empty == pytest.approx(before.shares(now, "run").empty, abs=0.01)


@given(event_streams())
def test_shares_are_parts_of_a_whole(events: list[Event]) -> None:
    """Those that exclude each other come to at most the whole, over the last minute and the run, at any time."""
    view = view_of(events)
    for now in (view.at, view.at + 7.0, view.at + 90.0):
        minute, run = view.shares(now), view.shares(now, "run")
        assert 0 <= minute.of_s <= SHARES_WINDOW_S + 1e-6
        assert run.of_s == view.elapsed_s(now)
        for shares in (minute, run):
            parts = (shares.paused, shares.limited, shares.retrying, shares.empty, shares.busy)
            assert sum(parts) <= 1 + 1e-6
            assert all(0 <= share <= 1 for share in (*parts, shares.blocked, shares.held_up))


def test_times_of_a_damaged_log_are_folded() -> None:
    """However far from any calendar they are."""
    script = Script()
    for at in (1e17, 1e300, 1e305):
        script._at = at
        script.start(script.enqueue())
        script.add(LoopBlocked, method="f", where="a.py:1", duration_s=1.0)
        script.add(RunHeldUp, by="journal", duration_s=1.0)
    view, now = after(script)
    assert view.shares(now).of_s >= 0
    assert view.limited_by(now) == ""


def test_workers_that_retire_leave_the_others_idle() -> None:
    """Those that a person took away run their last item, and count neither as idle nor for those that are."""
    script = Script()
    for worker in (1, 3):
        script.start(script.enqueue(), worker=worker)
    assert view_of(script.events).num_idle == 1
    script.add(RunWorkersChanged, num_workers=2, program=3, by="anna@laptop via aqueue")
    assert view_of(script.events).num_idle == 1
    cluster = lost_at("started again")
    assert (cluster.num_idle, cluster.num_workers) == (0, 2)


def test_many_pauses_cost_no_more_each() -> None:
    """They are swept when there are twice as many as were left."""
    script = Script()
    for number in range(20_000):
        script.add(GroupSlowedDown, group=f"host {number}", due=4e9, item=0)
    view = view_of(script.events)
    assert len(view.pauses) == 20_000
    assert view._sweep_pauses_at == 32_000


def test_memory_for_groups_is_bounded_by_what_waits() -> None:
    """A group in which nothing waits is not kept, nor are pauses that are over and limits without end."""
    script = Script()
    for number in range(25_000):
        item = script.enqueue(group=f"host {number}")
        script.add(GroupLimitKnown, group=f"host {number}", concurrent=1)
        script.add(GroupSlowedDown, group=f"host {number}", due=1_700_000_000.0, item=0)
        script.start(item, group=f"host {number}")
        script.complete(item)
    view = view_of(script.events)
    assert not view.groups
    assert len(view.limits) <= 10_000
    assert len(view.pauses) <= 10_000


def test_a_hook_that_waits_for_a_retry_is_waiting_and_its_item_completed() -> None:
    """It is neither queued nor outstanding, before and after its retry."""
    script = Script()
    item = script.enqueue()
    script.start(item)
    script.complete(item)
    script.start(item, phase="after_children")
    script.add(ItemRetryScheduled, item=item, worker=1, error=BOOM, due=9.0, phase="after_children")
    view = view_of(script.events)
    before = (view.waiting, view.queued, view.counts.completed, view.next_due, len(view.running))
    begun = len(script.events)
    script.start(item, phase="after_children", attempt=2)
    view.apply(script.events[begun:])

    assert before == (1, 0, 1, 9.0, 0)
    assert (view.waiting, view.queued, view.counts.completed, view.next_due, len(view.running)) == (0, 0, 1, 0.0, 1)


def test_waiting_for_a_retry_goes_on_after_a_resume() -> None:
    """What waited when the process ended waits in the next one, until what was recorded."""
    script = Script()
    item = script.enqueue()
    script.start(item)
    script.add(ItemRetryScheduled, item=item, worker=1, error=BOOM, due=9.0)
    script.finish("interrupted")
    script.begin(RunResumed)
    view = view_of(script.events)

    assert (view.waiting, view.queued, view.next_due) == (1, 0, 9.0)


@pytest.mark.parametrize("cls", [ItemReopened, ItemChildrenFailed])
def test_a_hook_waits_no_more_once_its_subtree_is_told_of_anew(cls: type[Event]) -> None:
    """A hook that ran over a failure may wait when that is resumed; it will start afresh, or never."""
    script = Script()
    item = script.enqueue()
    script.start(item)
    script.complete(item)
    script.start(item, phase="after_children")
    script.add(ItemRetryScheduled, item=item, worker=1, error=BOOM, due=9.0, phase="after_children")
    script.begin(RunResumed)
    script.add(cls, item=item, type="module:Page")
    view = view_of(script.events)

    assert (view.waiting, view.queued, view.counts.completed, view.next_due) == (0, 0, 1, 0.0)


def test_memory_for_retries_is_bounded_by_what_waits() -> None:
    """However often items are retried, also while the first due is not taken, little more than what waits is kept."""
    script = Script()
    stuck, busy = script.enqueue(), script.enqueue()
    script.start(stuck)
    script.add(ItemRetryScheduled, item=stuck, worker=1, error=BOOM, due=1.0)
    for attempt in range(1, 2_000):
        script.start(busy, attempt=attempt)
        script.add(ItemRetryScheduled, item=busy, worker=1, error=BOOM, due=1.0 + attempt, attempt=attempt)
    view = view_of(script.events)

    assert (view.waiting, view.next_due) == (2, 1.0)
    assert len(view._dues) < 200


def test_time_between_processes_is_not_counted() -> None:
    """A run that was resumed two hours later has not taken two hours, in one fold or in many."""
    events = resumed()
    at_once = view_of(events)
    singly = RunView()
    for event in events:
        singly.apply([event])

    assert at_once.elapsed_s(at_once.at) < 1
    assert at_once.elapsed_s(0) == singly.elapsed_s(0)


def test_elapsed_time_goes_on_until_the_end() -> None:
    """It is 0 before the run, follows the clock during it, never goes back, and stands still after it."""
    events = completed(10)
    view = view_of(events[:-1])
    started_at = events[0].at

    assert RunView().elapsed_s(123.0) == 0
    assert view.elapsed_s(started_at + 60) == 60
    assert view.elapsed_s(started_at - 60) == view.at - started_at
    view.apply(events[-1:])
    assert view.elapsed_s(started_at + 60) == events[-1].at - started_at


START = 1_700_000_000.0


def completions(*times: float) -> list[Event]:
    """Return a run in which an item is found and completed at each of these times, seconds after its start."""
    events: list[Event] = [RunStarted(1, START, "run", 1, "0", 1, "queue", 1, "host")]
    for item, time in enumerate(times, 1):
        at = START + time
        seq = len(events)
        events += [
            ItemEnqueued(seq + 1, at, item, 0, "module:Page"),
            ItemStarted(seq + 2, at, item, "module:Page", 1),
            ItemCompleted(seq + 3, at, item, 1, 0.0),
        ]
    return events


def test_rate_is_zero_before_the_run() -> None:
    """Nothing has happened."""
    assert RunView().rate(START) == 0


def test_rate_of_a_steady_run() -> None:
    """Ten items a second are ten items a second, found as well as done, of one type as of all."""
    view = view_of(completions(*[tenth / 10 for tenth in range(600)]))

    assert view.rate(START + 60) == pytest.approx(10, rel=0.02)
    assert view.rate(START + 60, "enqueued") == pytest.approx(10, rel=0.02)
    assert view.rate(START + 60, type="module:Page") == pytest.approx(10, rel=0.02)
    assert view.rate(START + 60, type="module:Other") == 0


def test_initial_items_are_not_found() -> None:
    """They are all there before the first item starts, however long that takes: rates begin then, also after a resume."""
    script = Script()
    for _ in range(2):
        items = [script.enqueue() for _ in range(1_000)]
        script.start(items[0])
        view = view_of(script.events)
        assert view.rate(view.at, "enqueued") == view.rate(view.at) == 0.0
        script.enqueue(parent=items[0])
        script.complete(items[0])
        view = view_of(script.events)
        assert (
            view.rate(view.at, "enqueued") == view.rate(view.at) == 2.0
        )  # one in the shortest time that counts, 0.5 s
        script.begin(RunResumed)


def test_rate_soon_after_the_start() -> None:
    """It is taken over the time that the run has had, but not over a moment."""
    view = view_of(completions(*[tenth / 10 for tenth in range(20)]))

    assert view.rate(START + 2) == pytest.approx(10)
    assert view_of(completions(0.0, 0.0, 0.001)).rate(START + 0.001) == pytest.approx(6)


def test_rate_in_a_lull() -> None:
    """It falls to nothing as the window passes over what was done."""
    view = view_of(completions(*[tenth / 10 for tenth in range(300)]))

    assert view.rate(START + 35) == pytest.approx(5, rel=0.1)
    assert view.rate(START + 39.8) == pytest.approx(0, abs=0.5)
    assert view.rate(START + 41) == 0


def test_rate_after_a_lull() -> None:
    """The first item after a lull is one item in ten seconds, not one in a moment."""
    view = view_of(completions(1.0, 2.0, 100.0))

    assert view.rate(START + 100.1) == pytest.approx(0.1)


def test_rate_after_a_resume() -> None:
    """The hours between two processes are no time without work."""
    events = completions(0.0, 1.0)
    later = START + 7_200
    events.append(RunResumed(len(events) + 1, later, "run", 1, "0", 1, "queue", 1, "host"))
    for item in range(3, 13):
        seq = len(events)
        events += [
            ItemEnqueued(seq + 1, later + 0.1 * item, item, 0, "module:Page"),
            ItemStarted(seq + 2, later + 0.1 * item, item, "module:Page", 1),
            ItemCompleted(seq + 3, later + 0.1 * item, item, 1, 0.0),
        ]

    assert view_of(events).rate(later + 2) == pytest.approx(10 / 1.7)  # the first item starts 0.3 s after the resume


def test_rate_of_a_finished_run() -> None:
    """It is taken over the whole of the run, and does not change any more."""
    events = completions(*range(100))
    events.append(RunFinished(len(events) + 1, START + 200, "completed", Counts(100, 100)))
    view = view_of(events)

    assert view.rate(START + 200) == pytest.approx(0.5)
    assert view.rate(START + 900) == pytest.approx(0.5)


@given(st.lists(st.floats(0, 60), max_size=60), st.floats(0, 30))
def test_rate_is_of_the_last_ten_seconds(times: list[float], later: float) -> None:
    """Whenever things happened: what completed in the last 10 to 10.5 s, a second."""
    times = sorted([0.0, *times, 11.0])  # rates begin with the first item
    end = max(times) + later
    rate = view_of(completions(*times)).rate(START + end)
    slack = 1e-6
    least = sum(time > end - 10 + slack for time in times)
    most = sum(time >= end - 10.5 - slack for time in times)

    assert least / 10.5 - slack <= rate <= most / 10 + slack


def test_rate_is_never_negative() -> None:
    """Not even where a hook fails and takes its item back from those that had completed."""
    events = completions(1.0)
    events += [
        ItemStarted(len(events) + 1, START + 60, 1, "module:Page", 1, "after_children"),
        ItemFailed(len(events) + 2, START + 61, 1, "module:Page", 1, 1.0, ErrorInfo("m:E", "broke"), "after_children"),
    ]

    assert view_of(events).rate(START + 61) == 0


def test_views_are_compared_by_what_they_hold() -> None:
    """Two folds of the same events are equal, and of others not; a view is no key, for it changes."""
    events = completions(1.0)

    assert view_of(events) == view_of(events)
    assert view_of(events) != view_of(events[:-1])
    assert view_of(events) != "a view"  # type: ignore[comparison-overlap]
    with pytest.raises(TypeError):
        hash(view_of(events))
