"""The report's fold: exact figures, however the events are cut into batches, and bounded however many there are.

It is `_page.over_time`, which is made of `_page.series` and `_page.timeline`; the report shows it by `cli._report._charts` and
`cli._report._sections`.
"""

import re
from array import array
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqueue._history.record import Record
from aqueue._page.html import clock, counted
from aqueue._page.over_time import MAX_TYPES, OTHER_TYPES, Durations, End, Fold, bin_edge
from aqueue._page.series import MAX_BINS, Series
from aqueue._page.timeline import MAX_ROWS, MAX_SPANS, Outcome, Span, Timeline
from aqueue.cli._report._charts import MAX_CELLS, chart_data, timeline, tree, tree_cells
from aqueue.cli._report._sections import slowest
from aqueue.events import (
    ErrorInfo,
    Event,
    ItemCompleted,
    ItemEnqueued,
    ItemFailed,
    ItemReopened,
    ItemSkipped,
    ItemStarted,
    Phase,
    ProcessLeft,
    RunResumed,
)
from aqueue.figures import duration
from aqueue.testing._scripted_runs import BOOM, Script, every_event_type, interrupted, with_retries, with_workers
from tests.report.runs import EventsHistory
from tests.strategies import event_streams

FOLDER, PAGE = "module:Folder", "module:Page"


def folded(events: Sequence[Event], *, now: float = 0.0, how: End = "unknown") -> Fold:
    """Return the fold of the events of a run, told of their end."""
    return both(events, now=now, how=how)[1]


def recorded(batches: Iterable[Sequence[Event]]) -> tuple[Record, Fold]:
    """Return the record of a run, and the fold of the same events, which hasn't been ended."""
    fold = Fold()
    return Record(EventsHistory(batches), fold.apply), fold


def both(events: Sequence[Event], *, now: float = 0.0, how: End = "unknown") -> tuple[Record, Fold]:
    """Return the record and the fold of the events of a run, told of their end."""
    record, fold = recorded([events])
    fold.end(now, how)
    return record, fold


def data_of(record: Record, fold: Fold) -> dict[str, Any]:
    """Return all that the charts of a run draw."""
    return chart_data(fold, tree_cells(record, fold))


def spans_of(fold: Fold) -> list[Span]:
    """Return the bars of the timeline, worker by worker."""
    return [span for _, spans in sorted(fold.timeline.rows.items()) for span in spans]


def two_items() -> Script:
    """Return the script of a run of two items of one worker: 10 s and 20 s, with 5 s between them."""
    script = Script(num_workers=1)
    first, second = script.enqueue(), script.enqueue()
    script.start(first)
    script.wait(9.99)
    script.complete(first)
    script.wait(4.99)
    script.start(second)
    script.wait(19.99)
    script.complete(second)
    return script


def test_an_attempt_lasts_from_its_start_to_its_end() -> None:
    """Each attempt is a bar of its worker from `item.started` to the event that ended it."""
    fold = folded(two_items().finish("completed"))

    assert [(span.item, span.outcome) for span in spans_of(fold)] == [(1, "completed"), (2, "completed")]
    assert [span.end - span.start for span in spans_of(fold)] == pytest.approx([10.0, 20.0])
    assert spans_of(fold)[1].start - spans_of(fold)[0].end == pytest.approx(5.0)


def test_busy_workers_are_averaged_exactly() -> None:
    """The bins' averages times their widths are the time for which workers were busy, also across bins' edges."""
    fold = folded(two_items().finish("completed"))

    bins = fold.series.bins(fold.elapsed_s)
    assert sum(b.busy * (b.end - b.start) for b in bins) == pytest.approx(30.0)
    assert {round(b.busy, 6) for b in bins if b.start > 1 and b.end < 10} == {1.0}
    assert {round(b.busy, 6) for b in bins if b.start > 10.1 and b.end < 15} == {0.0}


def test_totals_by_worker() -> None:
    """Of each worker it is known how many attempts it made, for how long, and how long the longest was."""
    totals = folded(two_items().finish("completed")).timeline.totals[1]

    assert (totals.attempts, totals.failed) == (2, 0)
    assert [totals.busy_s, totals.longest_s] == pytest.approx([30.0, 20.0])


def crashed_and_resumed() -> Script:
    """Return the script of a run that crashed while item 2 was at work, and was resumed two hours later."""
    script = Script(num_workers=1)
    first, second = script.enqueue(), script.enqueue()
    script.start(first)
    script.wait(1)
    script.complete(first)
    script.start(second)
    script.wait(3)
    third = script.enqueue(parent=second)
    script.wait(7_200)
    script.begin(RunResumed, host="other")
    script.interrupt(second, "crash")
    script.start(second)
    script.complete(second)
    script.start(third)
    script.complete(third)
    return script


def test_a_crash_ends_attempts_at_the_last_event_of_their_process() -> None:
    """An attempt that a crash cut short is drawn until the last event before it, not over the time in between."""
    crashed = spans_of(folded(crashed_and_resumed().finish("completed")))[1]

    assert crashed.outcome == "crashed"
    assert crashed.end - crashed.start == pytest.approx(3.01)


def test_the_time_between_processes_does_not_count() -> None:
    """The elapsed time, the bins, the attempts and the charts leave it out; how long each gap was is known."""
    record, fold = both(crashed_and_resumed().finish("completed"))

    assert fold.elapsed_s == pytest.approx(4.12)
    assert fold.elapsed_s == pytest.approx(record.view.elapsed_s(0))
    assert fold.series.bins(fold.elapsed_s)[-1].end == pytest.approx(4.12)
    ((at, length_s, crashed),) = fold.gaps()
    assert crashed
    assert [at, length_s] == pytest.approx([4.06, 7_200.01])
    assert data_of(record, fold)["gaps"] == [[pytest.approx(4_060), "crashed, resumed after 2 h 0 min"]]


def test_what_is_known_of_processes() -> None:
    """A process that was followed by another without having ended has crashed."""
    fold = folded(crashed_and_resumed().finish("completed"))

    assert [(process.end, process.started.host) for process in fold.processes] == [
        ("crashed", "host"),
        ("completed", "other"),
    ]
    assert (fold.num_processes, fold.num_crashed) == (2, 1)


def on_a_cluster() -> Script:
    """Return the script of a run of 60 s on a cluster: 2 workers from 10 s on, 5 from 20 s, 3 from 50 s."""
    script = Script(num_workers=2, cluster="tcp://scheduler:8786")
    script.wait(9.99)
    script.join(1, 2)
    script.wait(9.99)
    script.join(3, 3)
    script.start(script.enqueue(), worker=1)
    script.wait(29.97)
    script.lose(1, 1)
    script.wait(9.98)
    return script


def test_workers_of_a_cluster_come_and_go() -> None:
    """Over time there are those of the worker processes that are there; of a process of the run, the most are told."""
    fold = folded(on_a_cluster().finish("interrupted"))

    assert [count for count, _ in groupby(period.workers for period in fold.series.bins(60.0))] == [0, 2, 5, 3]
    assert [process.num_workers for process in fold.processes] == [5]


def test_changes_of_workers_are_bounded() -> None:
    """However often processes come and go, over however long, the line has a bin's corners."""
    script = Script(num_workers=1, cluster="tcp://scheduler:8786")
    for number in range(5_000):
        script.join(1, 1 + number % 7)
        script.wait(number)
        script.add(ProcessLeft, first_worker=1)
    fold = folded(script.finish("completed"))

    bins = fold.series.bins(fold.elapsed_s)
    assert len(bins) <= MAX_BINS
    assert bins[-1].workers == 0
    assert fold.last is not None and fold.last.num_workers == 7


def test_a_stop_between_processes_is_no_crash() -> None:
    """A process that ended by itself has not crashed, though another followed."""
    fold = folded(with_retries(3))

    assert [crashed for _, _, crashed in fold.gaps()] == [False]
    assert fold.num_crashed == 0


@pytest.mark.parametrize(
    ("how", "outcome", "took_s"),
    [("running", "running", 50.0), ("crashed", "crashed", 4.0), ("unknown", "unended", 4.0)],
)
def test_a_run_without_an_end(how: End, outcome: str, took_s: float) -> None:
    """What is at work now is drawn until now; if the process is gone, or nobody knows, until the last event."""
    script = Script()
    item = script.enqueue()
    script.start(item)
    script.wait(3.99)
    script.enqueue()

    fold = folded(script.events, now=script.events[1].at + 0.01 + 50.0, how=how)

    (span,) = spans_of(fold)
    assert fold.last is not None
    assert (fold.last.end, span.outcome, fold.unended) == (how, outcome, 1)
    assert span.end - span.start == pytest.approx(took_s)
    assert fold.durations == {}  # how long it will have taken is not known


def test_retries_and_hooks_are_attempts_of_their_own() -> None:
    """An attempt that is to be tried again, and each one at a hook, is a bar, and counts where time is added up."""
    record, fold = both(with_retries(1))

    assert [(span.item, span.outcome, span.attempt, span.is_hook) for span in spans_of(fold)] == [
        (1, "completed", 1, False),
        (2, "retried", 1, False),
        (1, "retried", 1, True),
        (2, "completed", 2, False),
        (1, "completed", 2, True),
    ]
    assert sum(type.count for type in fold.durations.values()) == 5
    assert record.view.counts.retried == 2


def test_a_cancelled_attempt_is_cut_short() -> None:
    """What was cancelled at a stop is drawn until then, and is no sample of how long an attempt takes."""
    fold = folded(interrupted())

    assert [span.outcome for span in spans_of(fold)] == ["completed", "interrupted", "interrupted"]
    assert sum(type.count for type in fold.durations.values()) == 1
    assert fold.last is not None and fold.last.end == "interrupted"


def test_a_hook_that_fails_takes_its_item_from_the_done() -> None:
    """Found, done and failed at the end are the counts of the run, in which an item comes to one thing."""
    script = Script()
    item = script.enqueue(FOLDER)
    script.start(item, FOLDER)
    script.complete(item)
    script.start(item, FOLDER, phase="after_children")
    script.fail(item, BOOM, FOLDER, phase="after_children")
    fold = folded(script.finish("failed"))

    last = fold.series.bins(fold.elapsed_s)[-1]
    assert (last.enqueued, last.done, last.failed) == (1, 0, 1)


def reopened(failed: Phase) -> Fold:
    """Return the fold of a run of which a failure was reopened by a resume, and completed."""
    script = Script()
    item, other = script.enqueue(), script.enqueue()
    if failed == "after_children":
        script.start(item)
        script.complete(item)
    script.start(item, phase=failed)
    script.fail(item, BOOM, phase=failed)
    script.start(other)
    script.fail(other, ErrorInfo("module:Other", "stays"))
    script.finish("failed")
    script.begin(RunResumed)
    script.add(ItemReopened, item=item, type="module:Page", failed=failed)
    script.start(item, attempt=2, phase=failed)
    if failed == "process":
        script.complete(item, attempt=2)
    else:
        script.end_hook(item)
    return folded(script.finish("failed"))


@pytest.mark.parametrize("failed", ["process", "after_children"])
def test_a_reopened_failure_counts_no_more(failed: Phase) -> None:
    """What failed and then succeeded in a later process is no failure in the end."""
    fold = reopened(failed)

    last = fold.series.bins(fold.elapsed_s)[-1]
    assert (last.done, last.failed) == (1, 1)


def test_processes_and_gaps_are_bounded() -> None:
    """Of very many processes the first are in the table and in the charts; the others are counted."""
    script = Script()
    for number in range(300):
        script.wait(10.0**6 if number == 50 else 5.0)
        script.begin(RunResumed)
    fold = folded(script.finish("completed"))

    assert len(fold.processes) == 100 and fold.num_processes == 301
    lengths = [length_s for _, length_s, _ in fold.gaps()]
    assert len(lengths) == 99 and max(lengths) > 10.0**6
    assert fold.series.width_s < 1


@given(event_streams(), st.data())
def test_it_is_one_fold_however_it_is_cut(events: list[Event], data: st.DataObject) -> None:
    """What is drawn depends on the events alone, not on how they were cut into batches."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=4)))
    record, fold = recorded(events[start:end] for start, end in zip([0, *cuts], [*cuts, len(events)], strict=True))
    fold.end(0.0, "unknown")

    assert data_of(*both(events)) == data_of(record, fold)


@given(event_streams())
def test_sums_equal_an_independent_count(events: list[Event]) -> None:
    """Bins, bars and cells add up to what anyone who counts the events would find."""
    record, fold = both(events)

    completed = sum(isinstance(event, ItemCompleted) for event in events)
    started = sum(isinstance(event, ItemStarted) for event in events)
    found = sum(isinstance(event, ItemEnqueued) for event in events)
    state = {event.item: event for event in events if isinstance(event, ItemFailed | ItemReopened | ItemSkipped)}
    # An ancestor that is reopened has not failed itself.
    failed = sum(isinstance(event, ItemFailed) for event in state.values())
    bins = fold.series.bins(fold.elapsed_s)
    assert sum(b.completed for b in bins) == completed
    assert (bins[-1].enqueued, bins[-1].failed) == (found, failed)
    assert (bins[-1].done, bins[-1].skipped) == (record.view.counts.completed, record.view.counts.skipped)
    assert sum(span.count for span in spans_of(fold)) == started
    assert tree_cells(record, fold)[0][4:7] == [found, failed, record.view.counts.skipped]
    assert sum(cell[4] for cell in tree_cells(record, fold) if cell[0] == 0) == found
    busy_s = sum(b.busy * (b.end - b.start) for b in bins)
    assert busy_s == pytest.approx(sum(totals.busy_s for totals in fold.timeline.totals.values()), abs=1e-3)


@given(st.lists(st.floats(0, 1e7), max_size=60), st.integers(1, MAX_BINS))
def test_bins_keep_their_sums_while_they_widen(ats: list[float], at_most: int) -> None:
    """However long a run gets, nothing that was counted is lost, and the bins stay as few."""
    series = Series()
    for at in sorted(ats):
        index, end = series.advance(at)
        assert index < MAX_BINS and at < end
        series.enqueued[index] += 1
        series.starts[index] += 1
        series.moments[index] += at
    until = max(ats, default=0.0)

    bins = series.bins(until, at_most)

    assert len(bins) <= at_most
    assert bins[-1].enqueued == len(ats)
    assert (bins[0].start, bins[-1].end) == (0.0, until)
    busy_s = sum(b.busy * (b.end - b.start) for b in bins)
    assert busy_s == pytest.approx(sum(until - at for at in ats), rel=1e-6, abs=1e-3)


def add(timeline: Timeline, worker: int, start: float, end: float, outcome: Outcome = "completed") -> None:
    """Add an attempt."""
    timeline.add(worker, start, end, outcome, 1, ItemStarted(1, start, 1, "module:Page", worker), "")


def test_short_attempts_are_merged_and_long_ones_are_not() -> None:
    """Of more attempts than are drawn the long ones stay bars of their own, and the merged ones count what they were."""
    timeline = Timeline()
    at = 0.0
    for number in range(3 * MAX_SPANS):
        took_s = 50.0 if number % 1_000 == 999 else 0.01
        add(timeline, 1, at, at + took_s, "completed" if number % 10 else "failed")
        at += took_s
    timeline.shrink()

    spans = timeline.rows[1]
    assert len(spans) <= MAX_SPANS
    assert sum(s.count for s in spans) == 3 * MAX_SPANS
    assert sum(s.count == 1 and s.end - s.start == pytest.approx(50.0) for s in spans) == 15
    assert max(s.end - s.start for s in spans if s.count > 1) <= timeline.limit_s < 50
    assert sum(s.failed for s in spans) == 1_500
    assert sum(s.busy_s for s in spans) == pytest.approx(at)


def joined(spans: list[tuple[float, float, int]], limit_s: float) -> list[tuple[float, float, int]]:
    """Join neighbors of at most this length together."""
    found = spans[:1]
    for start, end, count in spans[1:]:
        if end - found[-1][0] > limit_s:
            found.append((start, end, count))
        else:
            found[-1] = (found[-1][0], end, found[-1][2] + count)
    return found


@settings(max_examples=20)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=40), st.integers(0, 2 * MAX_SPANS))
def test_attempts_are_joined_as_if_each_had_been_kept(drawn: list[float], more: int) -> None:
    """An attempt that is joined when it is added makes the same bars as one that is joined when there are too many."""
    timeline = Timeline()
    spans: list[tuple[float, float, int]] = []
    at = limit_s = 0.0
    count = 2 * MAX_SPANS + 2 + more
    for number in range(count):
        end = at + drawn[number % len(drawn)]
        add(timeline, 1, at, end)
        spans.append((at, end, 1))
        at = end
        if len(spans) > 2 * MAX_SPANS or number == count - 1:
            spans = joined(spans, limit_s) if limit_s else spans
            while len(spans) > MAX_SPANS:
                limit_s = limit_s * 2 or 0.001
                spans = joined(spans, limit_s)
    timeline.shrink()

    assert [(span.start, span.end, span.count) for span in timeline.rows[1]] == spans


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(1, 3), st.floats(0, 1e6)), min_size=1, max_size=40), st.integers(1, 12))
def test_bars_are_bounded_whatever_the_attempts(drawn: list[tuple[int, float]], workers: int) -> None:
    """Attempts of any lengths, in any number, make at most 5,000 bars, none of which crosses another."""
    timeline = Timeline()
    ends = dict.fromkeys(range(1, workers + 1), 0.0)
    for number in range(2 * MAX_SPANS + 500):
        gap, took_s = drawn[number % len(drawn)]
        worker = number % workers + 1
        start = ends[worker] + gap
        ends[worker] = start + took_s
        add(timeline, worker, start, ends[worker])
    timeline.shrink()

    assert sum(map(len, timeline.rows.values())) <= MAX_SPANS
    assert sum(s.count for spans in timeline.rows.values() for s in spans) == 2 * MAX_SPANS + 500
    for spans in timeline.rows.values():
        assert all(one.end <= other.start for one, other in pairwise(spans))


def test_workers_beyond_the_rows_are_counted() -> None:
    """Only so many workers have a row, but what the others did is known."""
    fold = folded(with_workers(MAX_ROWS + 100))

    assert len(fold.timeline.rows) == MAX_ROWS
    assert len(fold.timeline.totals) == MAX_ROWS + 100


def test_the_slowest_items_are_shown_each_by_its_last_attempt() -> None:
    """Of many items the 25 slowest remain, the slowest first."""
    script = Script(num_workers=1)
    for number in range(1, 101):
        item = script.enqueue()
        script.start(item)
        script.add(ItemCompleted, item=item, worker=1, duration_s=float(number))
    shown = re.findall(r'<th scope="row" class="n">(\d+)</th>', slowest(both(script.events)[0]))

    assert shown == [str(number) for number in range(100, 75, -1)]


def no_durations() -> Durations:
    """Return those of no attempt."""
    return Durations(array("q", bytes(8 * 110)))


def test_durations_are_in_bins_of_their_magnitude() -> None:
    """Each duration is in the bin whose edges it lies between; what is off the scale is in the outermost."""
    durations = no_durations()
    durations.add((0.0, 1e-9, 0.0123, 1.0, 45.0, 1e9))

    used = [index for index, count in enumerate(durations.bins) for _ in range(count)]
    assert (durations.count, len(used), durations.longest_s) == (6, 6, 1e9)
    assert used[:2] == [0, 0] and used[-1] == len(durations.bins) - 1
    for index, took_s in zip(used[2:5], (0.0123, 1.0, 45.0), strict=True):
        assert bin_edge(index) * (1 - 1e-9) <= took_s < bin_edge(index + 1)


@given(st.lists(st.floats(1e-5, 9e5), min_size=1, max_size=50), st.floats(0.01, 1))
def test_quantiles_are_within_a_bin(took: list[float], share: float) -> None:
    """A quantile read from the histogram is at most a bin's width, a quarter, away from the exact one."""
    durations = no_durations()
    durations.add(took)

    exact = sorted(took)[max(-int(-share * len(took) // 1) - 1, 0)]
    assert exact / 1.27 <= durations.quantile(share) <= exact * 1.27


def test_the_tree_has_a_cell_for_each_item_of_a_small_run() -> None:
    """Items are cells below the item that enqueued them, with what is below them counted, failures too."""
    script = Script()
    root = script.enqueue(FOLDER)
    script.start(root, FOLDER)
    pages = [script.enqueue(parent=root) for _ in range(3)]
    script.complete(root)
    script.start(pages[1])
    leaf = script.enqueue(FOLDER, parent=pages[1])
    script.fail(pages[1], BOOM)
    record, fold = both(script.events)

    run, *cells = tree_cells(record, fold)
    assert run == [-1, -1, 0, 1, 5, 1, 0, 0]
    assert [(parent, fold.types[type], item, size, failed) for parent, type, item, _, size, failed, *_ in cells] == [
        (0, FOLDER, root, 5, 1),
        (1, "module:Page", pages[0], 1, 0),
        (1, "module:Page", pages[1], 2, 1),
        (1, "module:Page", pages[2], 1, 0),
        (3, FOLDER, leaf, 1, 0),
    ]


def test_many_siblings_of_one_type_are_one_cell() -> None:
    """Of many siblings some have cells of their own, and all others one, which says that what is below is left out."""
    script = Script()
    folders = [script.enqueue(FOLDER) for _ in range(100)]
    for folder in folders:
        script.enqueue(parent=folder)
    cells = tree_cells(*both(script.events))

    below_run = [cell for cell in cells if cell[0] == 0]
    (rest,) = [cell for cell in below_run if cell[3] > 1]
    assert len(below_run) == 21
    assert rest[2:] == [0, 80, 160, 0, 0, 1]


@pytest.mark.parametrize("shape", ["chain", "bush", "flat"])
def test_cells_are_bounded_and_add_up(shape: str) -> None:
    """Whatever the tree's shape, cells are few, and those below a cell, unless it says it is cut, are all it has."""
    script = Script()
    for number in range(10_000):
        parent = {"chain": number, "bush": number // 3, "flat": 0}[shape]
        script.enqueue(f"module:T{number % 2}", parent=parent)
    cells = tree_cells(*both(script.events))

    assert len(cells) <= MAX_CELLS
    below = [0] * len(cells)
    for cell in cells[1:]:
        below[cell[0]] += cell[4]
    for index, (_, _, _, count, size, *_, is_cut) in enumerate(cells):
        assert below[index] == (0 if is_cut else size - (count if index else 0))
    assert any(cell[-1] for cell in cells) is (shape != "flat")


def test_types_are_bounded() -> None:
    """Types beyond a thousand share one name in the charts; the counts by type know them all."""
    script = Script()
    for number in range(MAX_TYPES + 5):
        script.enqueue(f"module:T{number}")
    record, fold = both(script.events)
    tree_cells(record, fold)
    for number in range(MAX_TYPES + 5):
        fold.type_number(f"module:T{number}")

    assert len(fold.types) == MAX_TYPES + 1
    assert fold.types[-1] == OTHER_TYPES
    assert len(record.view.types) == MAX_TYPES + 5


def test_a_run_in_which_nothing_happened() -> None:
    """A run of no items and no time has figures for every chart all the same."""
    fold = folded(Script().events)

    assert fold.elapsed_s == 0.0
    (only,) = fold.series.bins(0.0)
    assert (only.enqueued, only.rate, only.busy) == (0, 0.0, 0.0)


def test_every_type_of_event_is_taken() -> None:
    """A run with every type of event has a report, up to its last process, whose workers were in two of a cluster's."""
    record, fold = both(every_event_type())

    assert [(process.started.cluster, process.num_workers) for process in fold.processes] == [
        ("", 3),
        ("", 3),
        ("", 3),
        ("tcp://scheduler:8786", 6),
    ]
    assert [failed.reporter for failed in record.view.failed_reporters] == ["module:Other"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0 s"), (0.000_25, "250 µs"), (0.0032, "3.2 ms"), (0.25, "0.25 s"), (12.34, "12.3 s"), (59.99, "1 min 0 s"),
        (125.0, "2 min 5 s"), (3_599.0, "1 h 0 min"), (12_000.0, "3 h 20 min"), (349_200.0, "4 d 1 h"), (1e300, "1e+300 s"), (float("inf"), "inf s"),
    ],
)  # fmt: skip
def test_durations_are_said_in_units_of_their_magnitude(seconds: float, said: str) -> None:
    """A duration has two units at most, and never 60 of one."""
    assert duration(seconds) == said


def test_counts_are_said_with_what_they_count() -> None:
    """One is counted in the singular, all else in the plural."""
    assert [counted(number, "item") for number in (0, 1, 1_234)] == ["0 items", "1 item", "1,234 items"]


@pytest.mark.parametrize(("seconds", "said"), [(1.5, "1.50 s"), (67.2, "1:07"), (3_723.0, "1:02:03")])
def test_moments_are_said_as_a_clock_does(seconds: float, said: str) -> None:
    """A moment in a run is hours, minutes and seconds; in a short run it has decimals."""
    assert clock(seconds) == said


def test_a_log_that_lacks_much_has_a_page() -> None:
    """A log that begins far into a run, or in which numbers go back, makes a page all the same."""
    script = Script()
    script.enqueue()
    for seq, (item, parent) in enumerate([(5_000_000, 1), (70, 5_000_000), (5_000_001, 70)], 3):
        script.events.append(ItemEnqueued(seq, script.events[-1].at, item, parent, FOLDER))
    script.events.append(ItemStarted(6, script.events[-1].at, 5_000_001, FOLDER, 1))
    script.events.append(ItemCompleted(7, script.events[-1].at, 5_000_001, 1, 0.5))
    record, fold = both(script.events)

    assert "5000001" in slowest(record)
    assert [cell[2] for cell in tree_cells(record, fold)] == [0, 1, 5_000_000, 70, 5_000_001]


def test_what_was_skipped_has_a_bar_and_a_column() -> None:
    """Over time, until it runs again: in the run's own time, in which commands on an ended run take none."""
    script = Script()
    root = script.enqueue(FOLDER)
    script.start(root, FOLDER)
    items = [script.enqueue(parent=root) for _ in range(4)]
    script.complete(root)
    script.start(items[0])
    script.wait(10)
    script.steer("skip", f"{items[0]}")
    script.interrupt(items[0], "skipped")
    script.add(ItemSkipped, item=items[0], type=PAGE)
    script.skip(items[1])
    script.wait(10)
    script.cancel(items[2])
    script.wait(10)
    script.open_again(items[1], rerun=True, skipped=True, ended=script.ended(items[1]))
    script.open_again(items[2], failed="process")
    script.wait(10)
    script.start(items[1])
    script.complete(items[1])
    record, fold = both(script.events)
    bins = fold.series.bins(fold.elapsed_s)
    at = {at: next(one for one in bins if one.end > at) for at in (5, 15, 25, 35)}
    data = chart_data(fold, tree_cells(record, fold))

    assert [(one.skipped, one.failed) for one in at.values()] == [(0, 0), (2, 0), (2, 1), (1, 0)]
    assert [span[3] for span in data["spans"]] == ["completed", "skipped", "completed"]
    assert [cell[5:7] for cell in data["cells"][:3]] == [[0, 1], [0, 1], [0, 1]]
    assert "skipped by a person (hollow)" in timeline(fold)
    assert '<th scope="col" class="n">Skipped</th>' in tree(record, data["cells"])
    before, before_fold = both(script.events[:8])
    assert "kipped" not in timeline(before_fold) + tree(before, tree_cells(before, before_fold))
