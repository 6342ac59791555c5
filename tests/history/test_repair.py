"""Repair: whatever a log lacks, repeats or makes up, what is handed on is a run that every fold can take.

What it knows of each item is in `_history.known_items`.
"""

from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from itertools import pairwise
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue._folds.item_table import ItemTable
from aqueue._folds.recording import Recording
from aqueue._history.known_items import UNKNOWN_TYPE
from aqueue._history.repair import Repairer
from aqueue._page.over_time import Fold
from aqueue.events import (
    SCHEMA_VERSION,
    Event,
    ItemAdopted,
    ItemChildrenFailed,
    ItemChildrenProcessed,
    ItemCompleted,
    ItemDescribed,
    ItemEnqueued,
    ItemFailed,
    ItemInterrupted,
    ItemRegrouped,
    ItemReopened,
    ItemRetryScheduled,
    ItemSkipped,
    ItemStarted,
    Phase,
    ProcessJoined,
    ProcessLeft,
    RunFinished,
    RunResumed,
    RunStarted,
)
from aqueue.testing import _scripted_runs as scripted
from aqueue.testing._scripted_runs import BOOM
from aqueue.view import RunView
from tests.report.runs import render
from tests.strategies import SCRIPTED_RUNS, as_in_older_logs, event_streams, events

SCRIPTED = [
    *SCRIPTED_RUNS,
    scripted.with_types(["module:Page", "other:Page", "x"]),
    scripted.saying("text"),
]
"""Runs whose every event is known to this aqueue."""

HOSTILE_NUMBERS = (0, -1, 1, 2, 2**53, 2**53 + 1, 2**63, 10**30)
_FIELDS = (
    "seq", "at", "item", "parent", "worker", "attempt", "duration_s", "due", "deduplicated", "first_worker", "num_workers",
)  # fmt: skip

whole_runs = st.one_of(event_streams(), st.sampled_from(SCRIPTED))


def mangle(run: list[Event], random: Random) -> list[Event]:
    """Return a run of which some events are lost, come twice or come elsewhere."""
    keep, again, move = (random.choice((0.0, 0.02, 0.3, 1.0)) for _ in range(3))
    mangled = [event for event in run if random.random() >= keep]
    mangled += [event for event in mangled if random.random() < again]
    order = [(at + (random.uniform(-5, 5) if random.random() < move else 0.0)) for at in range(len(mangled))]
    mangled = [mangled[at] for at in sorted(range(len(mangled)), key=order.__getitem__)]
    if random.random() < 0.5:  # as if nothing were lost: the numbers tell nothing
        mangled = [msgspec.structs.replace(event, seq=seq) for seq, event in enumerate(mangled, 1)]
    return mangled


def spoil(run: list[Event], random: Random) -> list[Event]:
    """Return a run in which some numbers are those that a hostile program writes."""
    spoilt = []
    for event in run:
        if random.random() < 0.2:
            name = random.choice([name for name in _FIELDS if hasattr(event, name)])
            number: Any = random.choice(HOSTILE_NUMBERS)
            if name in {"at", "due", "duration_s"}:
                number = random.choice((float(number), 1e300, -1e300, 5e-324))
            event = msgspec.structs.replace(event, **{name: number})
        spoilt.append(event)
    return spoilt


def in_batches(run: list[Event], random: Random) -> list[list[Event]]:
    """Return a run cut into batches anywhere."""
    cuts = sorted({0, len(run), *(random.randint(0, len(run)) for _ in range(random.randint(0, 5)))})
    return [run[start:end] for start, end in pairwise(cuts)]


def hooks_waiting(whole: list[Event]) -> Counter[str]:
    """Count, by type, the items whose hook waits for a retry at the end."""
    waiting: dict[int, Phase] = {}
    types: dict[int, str] = {}
    for event in whole:
        match event:
            case ItemEnqueued():
                types[event.item] = event.type
            case ItemRetryScheduled():
                waiting[event.item] = event.phase
            case ItemStarted() | ItemChildrenProcessed() | ItemChildrenFailed() | ItemReopened():
                waiting.pop(event.item, None)
            case ItemFailed() | ItemSkipped():
                waiting.pop(event.item, None)
            case _:
                pass
    return Counter(types[item] for item, phase in waiting.items() if phase == "after_children")


def check(batches: list[list[Event]]) -> list[Event]:
    """Repair and fold the batches; see that the folds agree and count nothing below zero; return what was handed on."""
    repairer, view, items, report = Repairer(), RunView(), ItemTable(), Fold()
    whole: list[Event] = []
    for batch in batches:
        repaired = repairer.repair(batch)
        whole += repaired
        view.apply(repaired)
        items.apply(repaired)
        report.apply(repaired)
    with suppress(
        KeyError
    ):  # where an item had ended with all below it: a resume refuses that, as `aqueue explain` says
        Recording().apply(whole)
    assert repairer.missing >= 0 and repairer.repeated >= 0
    states = Counter((items.type_of(row), items.state_of(row)) for row in range(len(items)))
    hooks = Counter(one.type for one in view.running.values() if one.phase == "after_children")
    hooks += hooks_waiting(whole)
    for one in view.types.values():
        figures = asdict(one)
        assert all(number >= 0 for number in figures.values() if not isinstance(number, str)), figures
        of_it = {state: number for (type, state), number in states.items() if type == one.type}
        assert one.enqueued == sum(of_it.values())
        assert one.running == of_it.get("running", 0)
        assert one.waiting == of_it.get("retrying", 0)
        assert one.failed == of_it.get("failed", 0)
        assert one.skipped == of_it.get("skipped", 0)
        assert one.queued == of_it.get("queued", 0) + of_it.get("interrupted", 0)
        assert one.completed == of_it.get("completed", 0) + hooks[one.type]
    assert len(items.due) == view.waiting
    workers = view.processes.num_workers
    assert workers == sum(process.num_workers for process in view.processes.values()) < 2**40
    assert not view.cluster or workers == view.num_workers
    blocks = sorted((one.first_worker, one.first_worker + one.num_workers) for one in view.processes.values())
    assert all(end <= first for (_, end), (first, _) in pairwise(blocks))
    assert all(number >= 0 for number in msgspec.structs.asdict(view.counts).values())
    assert [event.seq for event in whole] == sorted(event.seq for event in whole)
    assert [event.at for event in whole] == sorted(event.at for event in whole)
    return whole


def check_page(batches: list[list[Event]]) -> None:
    """Repair the batches, and see that the report makes a page of them, unless there is nothing of a run in them."""
    repairer = Repairer()
    repaired = [repairer.repair(batch) for batch in batches]
    if any(repaired):
        assert render(repaired, now=0.0, liveness="gone")


@given(whole_runs, st.integers(0, 2**32))
def test_run_that_lacks_nothing_comes_out_as_it_is(run: list[Event], seed: int) -> None:
    """Event by event the very same, wherever it is cut into batches."""
    repairer = Repairer()
    repaired = [event for batch in in_batches(run, Random(seed)) for event in repairer.repair(batch)]

    assert repaired == run
    assert (repairer.missing, repairer.repeated) == (0, 0)
    check([run])


@given(whole_runs, st.integers(0, 2**32))
def test_events_of_older_logs_get_their_worker(run: list[Event], seed: int) -> None:
    """Where a hook returned or an attempt was cut short: the worker of the start before it, wherever the run is cut."""
    repairer = Repairer()
    repaired = [event for batch in in_batches(as_in_older_logs(run), Random(seed)) for event in repairer.repair(batch)]

    assert repaired == run
    assert (repairer.missing, repairer.repeated) == (0, 0)


@given(whole_runs, st.integers(0, 2**32))
def test_run_that_lacks_and_repeats_events_can_be_folded(run: list[Event], seed: int) -> None:
    """Whatever is lost, doubled or out of order, and both folds come to the same."""
    random = Random(seed)

    check(in_batches(mangle(run, random), random))


@given(whole_runs, st.integers(0, 2**32), st.booleans())
def test_report_can_be_made_of_a_run_that_lacks_and_repeats_events(
    run: list[Event], seed: int, has_hostile_numbers: bool
) -> None:
    """Whatever is lost, doubled, out of order or has numbers that no run has, a page comes of it."""
    random = Random(seed)
    mangled = mangle(run, random)

    check_page(in_batches(spoil(mangled, random) if has_hostile_numbers else mangled, random))


@given(whole_runs, st.integers(0, 2**32))
def test_repair_does_not_depend_on_the_batches(run: list[Event], seed: int) -> None:
    """A log is cut into batches by its bytes: that must not show."""
    random = Random(seed)
    mangled = mangle(run, random)
    repairer = Repairer()

    assert [e for batch in in_batches(mangled, random) for e in repairer.repair(batch)] == Repairer().repair(mangled)


@given(whole_runs, st.integers(0, 2**32))
def test_numbers_that_no_run_has_can_be_folded(run: list[Event], seed: int) -> None:
    """Zero, negative, huge: of items, workers, parents, attempts, times and the events themselves."""
    random = Random(seed)

    check(in_batches(spoil(mangle(run, random) if random.random() < 0.5 else run, random), random))


@given(st.lists(events, max_size=30))
def test_any_events_at_all_can_be_folded(anything: list[Event]) -> None:
    """Even those that have nothing to do with each other."""
    check([anything])
    check([[msgspec.structs.replace(event, seq=seq) for seq, event in enumerate(anything, 1)]])


@given(whole_runs, st.integers(0, 2**32))
def test_mended_run_lacks_nothing(run: list[Event], seed: int) -> None:
    """Repaired a second time it comes out with the same events; only numbers may be shared."""
    repaired = Repairer().repair(mangle(run, Random(seed)))
    numbered = [msgspec.structs.replace(event, seq=seq) for seq, event in enumerate(repaired, 1)]

    assert Repairer().repair(numbered) == numbered


# ---- what is put in -------------------------------------------------------------------------------------------------

START = RunStarted(1, 1.0, "run", 1, "0", 2, "queue", 1, "host")


def repaired(*run: Event) -> list[Event]:
    """Return the events behind the start of a run, repaired, numbered and without their times."""
    return [
        msgspec.structs.replace(event, seq=0, at=0.0)
        for event in check(
            [[START, *(msgspec.structs.replace(one, seq=seq, at=1.0) for seq, one in enumerate(run, 2))]]
        )
    ][1:]


def test_log_that_begins_in_the_middle_gets_a_start() -> None:
    """Of a run without a name."""
    whole = check([[ItemStarted(70, 5.0, 7, "m:T", 3)]])

    assert whole == [
        RunStarted(70, 5.0, "", SCHEMA_VERSION, "", 0, "", 0, ""),
        ItemEnqueued(70, 5.0, 7, 0, "m:T"),
        ItemStarted(70, 5.0, 7, "m:T", 3),
    ]


def test_log_that_begins_with_a_resume_needs_no_start() -> None:
    """That event says all that a start does."""
    resume = RunResumed(70, 5.0, "run", 1, "0", 2, "queue", 1, "host")

    assert check([[resume]]) == [resume]


def test_end_without_a_start_gets_one() -> None:
    """And an announcement, of no known type if the event doesn't tell it."""
    completed = ItemCompleted(0, 0.0, 4, 2, 0.5, attempt=3)

    assert repaired(completed) == [
        ItemEnqueued(0, 0.0, 4, 0, UNKNOWN_TYPE),
        ItemStarted(0, 0.0, 4, UNKNOWN_TYPE, 2, attempt=3),
        completed,
    ]


def test_start_without_the_end_of_what_the_worker_was_at() -> None:
    """The attempt before it was cut short, as far as can be known."""
    first, second = (ItemEnqueued(0, 0.0, item, 0, "m:T") for item in (1, 2))
    starts = [ItemStarted(0, 0.0, item, "m:T", 1) for item in (1, 2)]

    assert repaired(first, second, *starts) == [
        first,
        second,
        starts[0],
        ItemInterrupted(0, 0.0, 1, reason="worker_lost", worker=1),
        starts[1],
    ]


def test_parent_that_is_not_known_is_announced_first() -> None:
    """A child names it, and so it was there."""
    child = ItemEnqueued(0, 0.0, 9, 4, "m:T")

    assert repaired(child) == [ItemEnqueued(0, 0.0, 4, 0, UNKNOWN_TYPE), child]


@pytest.mark.parametrize("parent", [5, 6, -1, 10**30])
def test_item_that_came_before_its_parent_is_left_out(parent: int) -> None:
    """Of itself, or of an item that is enqueued later, nothing can be a child."""
    assert repaired(ItemEnqueued(0, 0.0, 5, parent, "m:T")) == []


def test_hook_without_the_completion_before_it() -> None:
    """The hook runs only when `process` has returned: a log that lost its start or its end gets them back."""
    hook = ItemStarted(0, 0.0, 1, "m:T", 2, "after_children")
    announced = ItemEnqueued(0, 0.0, 1, 0, "m:T")
    started = ItemStarted(0, 0.0, 1, "m:T", 3)

    assert repaired(hook) == [announced, ItemStarted(0, 0.0, 1, "m:T", 0), ItemCompleted(0, 0.0, 1, 0, 0.0), hook]
    assert repaired(announced, hook) == repaired(hook)
    assert repaired(announced, started, hook) == [announced, started, ItemCompleted(0, 0.0, 1, 3, 0.0), hook]


def test_a_lost_completion_loses_no_failure_of_a_hook() -> None:
    """Failures are what a log is read for: with any of the lines before it gone, a failed hook is a failure."""
    run = [
        ItemEnqueued(0, 0.0, 1, 0, "m:T", hook=True),
        ItemStarted(0, 0.0, 1, "m:T", 1),
        ItemCompleted(0, 0.0, 1, 1, 0.5),
        ItemStarted(0, 0.0, 1, "m:T", 1, "after_children"),
        ItemFailed(0, 0.0, 1, "m:T", 1, 0.5, BOOM, "after_children"),
    ]
    for lost in range(4):
        view = RunView()
        left = [event for index, event in enumerate(run) if index != lost]
        view.apply(
            check([[START, *(msgspec.structs.replace(one, seq=seq, at=1.0) for seq, one in enumerate(left, 2))]])
        )
        assert (view.counts.failed, view.counts.outstanding) == (1, 0), lost


def test_end_of_a_hook_without_its_start() -> None:
    """Its worker tells that there was one; an item without a hook has none."""
    run = [
        ItemEnqueued(0, 0.0, 1, 0, "m:T"),
        ItemStarted(0, 0.0, 1, "m:T", 1),
        ItemCompleted(0, 0.0, 1, 1, 0.1),
        ItemChildrenProcessed(0, 0.0, 1, "m:T", worker=2),
    ]
    without = [*run[:3], ItemChildrenProcessed(0, 0.0, 1, "m:T")]

    assert repaired(*run) == [*run[:3], ItemStarted(0, 0.0, 1, "m:T", 2, "after_children"), run[3]]
    assert repaired(*without) == without


def test_parent_of_which_the_beginning_is_missing() -> None:
    """Its child has announced it; what comes next of it is taken as the sign of what it was at."""
    parent, child = (ItemEnqueued(0, 0.0, item, above, type) for item, above, type in ((4, 0, "?"), (9, 4, "m:T")))
    completed = ItemCompleted(0, 0.0, 4, 2, 0.1)

    assert repaired(child, completed) == [parent, child, ItemStarted(0, 0.0, 4, UNKNOWN_TYPE, 2), completed]


def test_description_of_an_item_that_is_over_starts_nothing() -> None:
    """What has completed doesn't run again; the description is left out."""
    run = (
        ItemEnqueued(0, 0.0, 1, 0, "m:T"),
        ItemStarted(0, 0.0, 1, "m:T", 1),
        ItemCompleted(0, 0.0, 1, 1, 0.1),
        ItemDescribed(0, 0.0, 1, 1, "late"),
    )

    assert repaired(*run) == list(run[:3])


def test_failed_item_starts_again_once_it_is_reopened() -> None:
    """Without that the start is left out, so a failure is counted once, however often it is tried after a resume."""
    failed = ItemFailed(0, 0.0, 1, "m:T", 1, 0.1, BOOM)
    start = ItemStarted(0, 0.0, 1, "m:T", 1)
    announced = ItemEnqueued(0, 0.0, 1, 0, "m:T")
    reopened = ItemReopened(0, 0.0, 1, "m:T", "process")

    assert repaired(announced, start, failed, start) == [announced, start, failed]
    assert repaired(announced, start, failed, reopened, start) == [announced, start, failed, reopened, start]


def test_item_that_is_adopted_is_announced() -> None:
    """It changes no state, so it may come in any."""
    adopted = ItemAdopted(0, 0.0, 1, "m:T")
    run = [ItemEnqueued(0, 0.0, 1, 0, "m:T"), ItemStarted(0, 0.0, 1, "m:T", 1), adopted]

    assert repaired(adopted) == [run[0], adopted]
    assert repaired(*run) == run


def test_what_runs_when_the_run_ends_was_cut_short() -> None:
    """A process says of its end only when nothing runs any more."""
    end = scripted.completed(1)[-1]
    assert isinstance(end, RunFinished)

    assert repaired(ItemStarted(0, 0.0, 1, "m:T", 1), end)[2:] == [
        ItemInterrupted(0, 0.0, 1, reason="worker_lost", worker=1),
        msgspec.structs.replace(end, seq=0, at=0.0),
    ]


def test_what_ran_at_a_crash_was_cut_short() -> None:
    """By the next process at the latest: what completes there was started there."""
    announced, start = ItemEnqueued(0, 0.0, 1, 0, "m:T"), ItemStarted(0, 0.0, 1, "m:T", 1)
    resume = RunResumed(0, 0.0, "run", 1, "0", 2, "queue", 1, "host")
    completed = ItemCompleted(0, 0.0, 1, 1, 0.1)

    assert repaired(announced, start, resume, completed) == [
        announced,
        start,
        resume,
        ItemInterrupted(0, 0.0, 1, reason="crash", worker=1),
        start,
        completed,
    ]


def test_what_ran_at_two_crashes_is_told_after_the_second() -> None:
    """The first resumed process may have crashed, too, before it said what it had found."""
    start = ItemStarted(0, 0.0, 1, "m:T", 1)
    resume = RunResumed(0, 0.0, "run", 1, "0", 2, "queue", 1, "host")
    interrupted = ItemInterrupted(0, 0.0, 1, reason="crash", worker=1)
    run = [ItemEnqueued(0, 0.0, 1, 0, "m:T"), start, resume, resume, interrupted, start]

    assert repaired(*run) == run


def on_cluster(*run: Event) -> list[Event]:
    """Return the same as `repaired`, of a run on a cluster."""
    return repaired(msgspec.structs.replace(START, cluster="tcp://scheduler:8786"), *run)[1:]


FIRST, SECOND = (ProcessJoined(0, 0.0, first, 2, "node", pid) for first, pid in ((1, 10), (3, 11)))


def test_items_lost_with_their_process_run_again() -> None:
    """Whether it is told before or after the process is, nothing is amiss."""
    announced = [ItemEnqueued(0, 0.0, item, 0, "m:T") for item in (1, 2)]
    starts = [ItemStarted(0, 0.0, item, "m:T", item) for item in (1, 2)]
    lost = [ItemInterrupted(0, 0.0, item, reason="worker_lost", worker=item) for item in (1, 2)]
    left = ProcessLeft(0, 0.0, 1, "lost")
    again = [ItemStarted(0, 0.0, item, "m:T", item + 2, attempt=2) for item in (1, 2)]
    run = [FIRST, SECOND, *announced, *starts, lost[0], left, lost[1], *again]

    assert on_cluster(*run) == run


@pytest.mark.parametrize(
    "amiss",
    [
        [FIRST],
        [ProcessJoined(0, 0.0, 1, 2, "node", 12)],
        [ProcessJoined(0, 0.0, 2, 2, "node", 12)],
        [ProcessLeft(0, 0.0, 2)],
        [ProcessLeft(0, 0.0, 3), ProcessLeft(0, 0.0, 3)],
        [ProcessJoined(0, 0.0, 0, 2, "node", 12)],
        [ProcessJoined(0, 0.0, 3, 0, "node", 12)],
        [ProcessJoined(0, 0.0, 3, 2**60, "node", 12)],
    ],
    ids=[
        "joins twice",
        "has the workers of another",
        "has a worker of another",
        "leaves by another number",
        "leaves and never came",
        "no worker 0",
        "no workers",
        "too many",
    ],
)
def test_processes_that_can_not_be_are_left_out(amiss: list[Event]) -> None:
    """What they say of workers would make no sense."""
    assert on_cluster(FIRST, *amiss) == [FIRST]


def test_process_that_joins_a_run_without_a_cluster_is_left_out() -> None:
    """Its workers are those of its own process."""
    assert repaired(FIRST) == []


def test_log_that_begins_with_a_process_is_of_a_run_on_a_cluster() -> None:
    """Which one is not known."""
    joined = msgspec.structs.replace(FIRST, seq=70, at=5.0)
    begun, *rest = check([[joined]])

    assert isinstance(begun, RunStarted) and begun.cluster == "?"
    assert rest == [joined]


def test_processes_of_a_run_that_is_resumed_are_gone() -> None:
    """Those of the process before have ended with it, and the same may join again."""
    resume = RunResumed(0, 0.0, "run", 1, "0", 2, "queue", 1, "host", "tcp://scheduler:8786")

    assert on_cluster(FIRST, resume, FIRST) == [FIRST, resume, FIRST]


def test_there_are_no_more_processes_than_can_be_remembered() -> None:
    """A log with a million of them takes no more memory than one with ten thousand."""
    repairer = Repairer()
    begun = msgspec.structs.replace(START, cluster="tcp://scheduler:8786")
    joins = [ProcessJoined(seq, 1.0, seq, 1, "node", seq) for seq in range(2, 10_102)]

    assert len(repairer.repair([begun, *joins])) == 10_001
    assert repairer.repeated == 100


def test_missing_and_repeated_events_are_counted() -> None:
    """By their numbers."""
    repairer = Repairer()
    run = scripted.completed(3)
    repairer.repair([*run[:3], *run[1:3], *run[6:]])

    assert (repairer.missing, repairer.repeated) == (3, 2)


def test_time_never_goes_back() -> None:
    """A clock that was set back, or a time beyond all dates, counts as the time before."""
    repairer = Repairer()
    run = [START, *(ItemEnqueued(seq, at, seq, 0, "m:T") for seq, at in enumerate((5.0, 3.0, 1e300, 6.0), 2))]

    assert [event.at for event in repairer.repair(run)] == [1.0, 5.0, 5.0, 5.0, 6.0]


def test_items_that_a_log_lacks_wait_in_the_group_that_later_events_say() -> None:
    """Of a log that begins with the second process: those that start don't leave the groups of others."""
    script = scripted.Script()
    items = [script.enqueue(group="a") for _ in range(4)]
    resumed = len(script.events)
    script.begin(RunResumed)
    script.enqueue(group="a")
    script.start(items[0], group="a")
    script.add(ItemRegrouped, item=items[1], type="module:Page", group="b", before="a")
    view = RunView()
    view.apply(Repairer().repair(script.events[resumed:]))
    assert view.groups == {"a": 1, "b": 1}


def test_types_beyond_those_that_can_be_remembered_are_unknown() -> None:
    """A hostile log may have any number of them; the items are there, run and complete."""
    script = scripted.Script()
    for number in range(8_200):
        item = script.enqueue(f"module:Page{number}")
        script.start(item, f"module:Page{number}")
        script.complete(item)
    repairer = Repairer()
    whole = repairer.repair(script.events)
    assert (repairer.missing, repairer.repeated) == (0, 0)
    assert [event.seq for event in whole] == [event.seq for event in script.events]
    types = [event.type for event in whole if isinstance(event, ItemStarted)]
    assert types[:8_191] == [f"module:Page{number}" for number in range(8_191)]
    assert types[8_191:] == [UNKNOWN_TYPE] * 9
