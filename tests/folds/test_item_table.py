"""The table of items: a row for each item, folded from any run, against a count of its own, in few bytes."""

import sys
from array import array
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue._folds.item_table import OUTSTANDING, STATES, ItemTable, State
from aqueue._history.repair import Repairer
from aqueue.events import (
    Event,
    ItemChildrenFailed,
    ItemChildrenProcessed,
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
    ProcessJoined,
    ProcessLeft,
    RunResumed,
    RunStarted,
)
from aqueue.testing import _scripted_runs as scripted
from aqueue.testing._scripted_runs import BOOM, Script
from aqueue.view import WorkerProcess
from tests.journal.writing import make_events
from tests.strategies import SCRIPTED_RUNS, event_streams


class Record:
    """What a person would note of one item who reads its events one after the other."""

    def __init__(self, event: ItemEnqueued) -> None:
        self.announced = event
        self.state: State = "queued"
        self.in_hook = False
        self.started_at = 0.0
        self.described_seq = 0
        self.failed_seq = 0
        self.attempts = 0
        self.worker = 0
        self.process: WorkerProcess | None = None
        self.due: float | None = None
        self.group_seq: int | None = None
        self.is_closed = False

    def note(self, event: Event) -> None:
        """Note the next event of this item."""
        match event:
            case ItemStarted():
                self.state, self.due = "running", None
                self.in_hook = event.phase == "after_children"
                self.started_at, self.worker = event.at, event.worker
                if not self.in_hook:
                    self.attempts = event.attempt
            case ItemDescribed():
                self.described_seq = event.seq
            case ItemCompleted():
                self.state = "completed"
            case ItemFailed():
                self.state, self.failed_seq, self.due = "failed", event.seq, None
            case ItemSkipped():
                self.state, self.due = "skipped", None
            case ItemRescheduled():
                self.due = event.due
            case ItemRetryScheduled():
                self.state, self.failed_seq, self.due = "retrying", event.seq, event.due
            case ItemInterrupted():
                self.state = "completed" if event.phase == "after_children" else "interrupted"
            case ItemChildrenProcessed() | ItemChildrenFailed():
                self.is_closed = isinstance(event, ItemChildrenProcessed)
                self.leave_hook()
            case ItemReopened():
                self.is_closed = False
                if event.rerun:
                    self.state, self.due = "queued", None
                elif event.failed is None:
                    self.leave_hook()
                else:
                    self.state = "queued" if event.failed == "process" else "completed"
            case _:
                pass

    def leave_hook(self) -> None:
        """Note that the hook neither runs nor waits any more."""
        if self.state in {"running", "retrying"}:
            self.state, self.due = "completed", None


def records_of(run: list[Event]) -> dict[int, Record]:
    """Return a record for each item, by its number."""
    records: dict[int, Record] = {}
    processes: dict[int, WorkerProcess] = {}  # by worker
    for event in run:
        match event:
            case RunStarted():
                processes.clear()
            case ProcessJoined():
                process = WorkerProcess(event.first_worker, event.num_workers, event.host, event.pid)
                processes |= dict.fromkeys(range(event.first_worker, event.first_worker + event.num_workers), process)
            case ProcessLeft():
                processes = {worker: one for worker, one in processes.items() if one.first_worker != event.first_worker}
            case ItemEnqueued():
                records[event.item] = Record(event)
            case _:
                if (item := getattr(event, "item", None)) in records:
                    records[item].note(event)
                    if isinstance(event, ItemRegrouped) or (
                        isinstance(event, ItemReopened) and (event.rerun or event.failed == "process")
                    ):
                        records[item].group_seq = event.seq
                if isinstance(event, ItemStarted) and event.phase == "process":
                    records[event.item].process = processes.get(event.worker)
    return records


def folded(run: list[Event]) -> ItemTable:
    """Return the items of a run."""
    items = ItemTable()
    items.apply(run)
    return items


def check(run: list[Event]) -> None:
    """See that every row is what its record says."""
    items, records = folded(run), records_of(run)
    assert len(items) == len(records)
    assert items.last_at == run[-1].at
    rows = {}
    for row, (item, record) in enumerate(records.items()):
        rows[item] = row
        announced = record.announced
        assert (items.row_of(item), items.item_of(row)) == (row, item)
        assert items.type_of(row) == announced.type
        assert items.state_of(row) == record.state
        assert items.parent_row[row] == rows.get(announced.parent, -1)
        assert items.enqueued_at[row] == announced.at
        assert items.enqueued_seq[row] == announced.seq
        assert items.started_at[row] == record.started_at
        assert items.described_seq[row] == record.described_seq
        assert items.failed_seq[row] == record.failed_seq
        assert items.attempts[row] == record.attempts
        assert items.worker[row] == record.worker
        assert items.process_of(row) == record.process
        assert items.due.get(row) == record.due
        assert items.group_seq.get(row) == record.group_seq
        assert items.has_hook(row) == announced.hook
        assert items.is_closed(row) == record.is_closed
    assert items.types == list(dict.fromkeys(record.announced.type for record in records.values()))
    expected = Counter((items.types.index(one.announced.type), one.state) for one in records.values())
    assert items.counts() == expected


@given(st.one_of(event_streams(), st.sampled_from(SCRIPTED_RUNS)))
def test_every_item_of_any_run(run: list[Event]) -> None:
    """Each row is what an independent count of its events comes to."""
    check(run)


@given(event_streams(), st.integers(1, 10**6))
def test_items_whose_numbers_are_sparse(run: list[Event], factor: int) -> None:
    """As in a log that lacks lines: rows still are in the order of enqueue."""

    def renumbered(event: Event) -> Event:
        names = [name for name in ("item", "parent") if getattr(event, name, 0)]
        return msgspec.structs.replace(event, **{name: getattr(event, name) * factor + 7 for name in names})

    check([renumbered(event) for event in run])


def test_items_that_come_in_any_order() -> None:
    """Their numbers may even fall; those that follow each other may begin anywhere."""
    start = RunStarted(1, 1.0, "r", 1, "0", 1, "queue", 1, "host")
    numbers = [50, 51, 52, 9, 3, 10**15]
    run: list[Event] = [start, *(ItemEnqueued(seq, 1.0, item, 0, "m:T") for seq, item in enumerate(numbers, 2))]
    check(run)
    check(run[:3])
    items = folded(run[:3])

    assert [items.row_of(item) for item in (49, 50, 51, 52, 0, -1)] == [None, 0, 1, None, None, None]


@given(st.one_of(event_streams(), st.sampled_from(SCRIPTED_RUNS)), st.sets(st.sampled_from(STATES)), st.integers(0, 3))
def test_rows_in_some_states(run: list[Event], states: set[State], of_type: int) -> None:
    """Those and no others, in the order of enqueue, of all types or of some."""
    items = folded(run)
    rows = range(len(items))

    assert list(items.rows_in(states)) == [row for row in rows if items.state_of(row) in states]
    assert list(items.rows_in(states, frozenset({of_type}))) == [
        row for row in rows if items.state_of(row) in states and items.type_number[row] == of_type
    ]
    for state in STATES:
        assert list(items.is_in(state)) == [items.state_of(row) == state for row in rows]


def test_outstanding_items_are_neither_completed_nor_failed() -> None:
    """Whatever they wait for; and a person has skipped none of them."""
    assert set(STATES) - OUTSTANDING == {"completed", "failed", "skipped"}


def test_times_of_an_attempt() -> None:
    """When it began and ended, and how long it took; a new attempt has no end yet."""
    enqueued = ItemEnqueued(1, 10.0, 1, 0, "m:T")
    start, again = ItemStarted(2, 11.0, 1, "m:T", 3), ItemStarted(4, 20.0, 1, "m:T", 4, attempt=2)
    retry = ItemRetryScheduled(3, 11.5, 1, 3, BOOM, 15.0)
    done = ItemCompleted(5, 22.5, 1, 4, 2.25, attempt=2)

    def times(*run: Event) -> tuple[float, float, float]:
        items = folded(list(run))
        return items.started_at[0], items.ended_at[0], items.duration_s[0]

    assert times(enqueued) == (0.0, 0.0, 0.0)
    assert times(enqueued, start) == (11.0, 0.0, 0.0)
    assert times(enqueued, start, retry) == (11.0, 11.5, 0.5)
    assert times(enqueued, start, retry, again) == (20.0, 0.0, 0.5)
    assert times(enqueued, start, retry, again, done) == (20.0, 22.5, 2.25)


def test_process_and_hook_of_the_last_round_are_added_up() -> None:
    """The last attempt of the hook adds to what its process took; a new attempt of the process begins again."""
    script = scripted.Script()
    parent = script.enqueue("m:Folder", hook=True)
    script.start(parent, "m:Folder")
    script.add(ItemCompleted, item=parent, worker=1, duration_s=1.5)
    script.start(parent, "m:Folder", phase="after_children")
    in_hook = folded(script.events)
    script.fail_for_now(parent, 5.0, phase="after_children")
    retried = folded(script.events).duration_s[0]
    script.start(parent, "m:Folder", phase="after_children", attempt=2)
    script.add(ItemFailed, item=parent, type="m:Folder", worker=1, duration_s=0.25, error=BOOM, phase="after_children")
    failed = folded(script.events).duration_s[0]
    script.begin(RunResumed)
    script.add(ItemReopened, item=parent, type="m:Folder", failed="process")
    script.start(parent, "m:Folder", attempt=2)
    script.add(ItemCompleted, item=parent, worker=1, duration_s=2.0, attempt=2)

    assert in_hook.is_in_hook(0) and in_hook.duration_s[0] == 1.5
    assert retried > 1.5
    assert failed == 1.5 + 0.25
    assert (folded(script.events).duration_s[0], folded(script.events).is_in_hook(0)) == (2.0, False)


def test_hook_that_waits_while_something_below_it_runs_again() -> None:
    """It waits no longer: it will run when that has ended."""
    script = scripted.Script()
    parent = script.enqueue("m:Folder", hook=True)
    script.start(parent, "m:Folder")
    script.complete(parent)
    script.start(parent, "m:Folder", phase="after_children")
    script.fail_for_now(parent, 5.0, phase="after_children")
    waiting = list(script.events)
    script.begin(RunResumed)
    script.add(ItemReopened, item=parent, type="m:Folder")
    check(waiting)
    check(script.events)
    items = folded(script.events)

    assert (folded(waiting).state_of(0), items.state_of(0), items.due) == ("retrying", "completed", {})


def test_process_that_ended_without_a_word_leaves_nothing_running() -> None:
    """An attempt is interrupted then; a hook's item has completed all the same."""
    script = scripted.Script()
    first, second, third = (script.enqueue() for _ in range(3))
    script.start(first, worker=1)
    script.start(second, worker=2)
    script.complete(second, worker=2)
    script.start(second, worker=2, phase="after_children")
    items = folded(script.events)
    items.lose_workers()

    assert [items.state_of(items.row_of(item) or 0) for item in (first, second, third)] == [
        "interrupted",
        "completed",
        "queued",
    ]


@pytest.mark.parametrize("number", [-1, 0, 2**32, 2**53 + 1, 10**30])
def test_numbers_that_no_run_has_are_taken_as_far_as_they_go(number: int) -> None:
    """Of workers and attempts, which a stranger's file may hold."""
    run = [ItemEnqueued(1, 1.0, 1, 0, "m:T"), ItemStarted(2, 1.0, 1, "m:T", number, attempt=number)]
    items = folded(Repairer().repair(run))

    assert items.worker[0] == items.attempts[0] == min(max(number, 0), 2**32 - 1)


def test_where_items_ran_is_remembered_for_ten_thousand_processes() -> None:
    """Of what ran in later ones it is not known, rather than told wrong."""
    script = Script(1, cluster="tcp://scheduler:8786")
    for pid in range(10_005):
        script.join(1, 1, pid=pid)
        script.start(script.enqueue())
        script.complete(script.events[-1].item)  # type: ignore[attr-defined]
        script.add(ProcessLeft, first_worker=1)
    items = folded(script.events)
    found = [items.process_of(row) for row in (0, 9_999, 10_000, 10_004)]

    assert [process and process.pid for process in found] == [0, 9_999, None, None]


def test_an_item_takes_at_most_a_hundred_bytes() -> None:
    """All columns together, once the memory that arrays hold in advance is counted, too."""
    count = 20_000
    items = ItemTable()
    items.apply(make_events(1, 4 * count + 1))
    columns = [value for value in vars(items).values() if isinstance(value, array | bytearray)]

    assert len(items) == count
    assert len(columns) >= 13
    assert sum(map(sys.getsizeof, columns)) / count <= 100
    assert sys.getsizeof(items.due) < 1_000
