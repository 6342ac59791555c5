"""The report's fold: exact figures, however the events are cut into batches, and bounded however many there are.

It is made of `cli._report._durations`, `cli._report._failed`, `cli._report._numbering`, `cli._report._processes`,
`cli._report._series`, `cli._report._timeline` and `cli._report._tree`; the page shows it by `cli._report._chart_data`,
`cli._report._figures` and `cli._report._sections`.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqueue.cli._report import Report, render
from aqueue.cli._report._chart_data import chart_data
from aqueue.cli._report._durations import Slowest, SlowItem, bin_edge
from aqueue.cli._report._figures import over_time
from aqueue.cli._report._fold import MAX_TYPES, NOT_RECORDED, OTHER_TYPES, Fold
from aqueue.cli._report._html import clock, counted
from aqueue.cli._report._processes import MAX_CHANGES, Clock, Gap
from aqueue.cli._report._sections import failures, status
from aqueue.cli._report._series import MAX_BINS, Series
from aqueue.cli._report._timeline import MAX_ROWS, MAX_SPANS, Span, Timeline
from aqueue.cli._report._tree import MAX_CELLS, Cell
from aqueue.events import (
    ErrorInfo,
    Event,
    ItemCompleted,
    ItemEnqueued,
    ItemFailed,
    ItemReopened,
    ItemStarted,
    Phase,
    ProcessLeft,
    RunResumed,
)
from aqueue.figures import duration
from aqueue.testing._scripted_runs import BOOM, Script, every_event_type, interrupted, with_retries, with_workers
from tests.strategies import event_streams

FOLDER = "module:Folder"


def folded(events: Sequence[Event], *, now: float = 0.0, is_running: bool | None = None) -> Fold:
    """Return the fold of the events of a run, told of their end."""
    fold = Fold()
    fold.apply(events)
    fold.end(now, is_running=is_running)
    return fold


def data_of(fold: Fold) -> dict[str, Any]:
    """Return all that the charts of a run draw."""
    return chart_data(fold, fold.series.bins(fold.elapsed_s), fold.tree.cells(fold.failed))


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
    """The elapsed time, the bins and the attempts leave it out; only the clock that charts are drawn by has it."""
    fold = folded(crashed_and_resumed().finish("completed"))

    assert fold.elapsed_s == pytest.approx(4.12)
    assert fold.elapsed_s == pytest.approx(fold.view.elapsed_s(0))
    assert fold.series.bins(fold.elapsed_s)[-1].end == pytest.approx(4.12)
    (gap,) = fold.processes.clock().gaps
    assert gap.crashed
    assert gap.length_s == pytest.approx(7_200.01)
    assert fold.processes.clock().before(fold.elapsed_s) == pytest.approx(7_204.13)


def test_what_is_known_of_processes() -> None:
    """A process that was followed by another without having ended has crashed."""
    processes = folded(crashed_and_resumed().finish("completed")).processes

    assert [(process.end, process.host) for process in processes.first] == [("crashed", "host"), ("completed", "other")]
    assert (processes.count, processes.crashed) == (2, 1)


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

    assert [(round(at), count) for at, count in fold.processes.worker_changes()] == [(0, 0), (10, 2), (20, 5), (50, 3)]
    assert [(round(at / 1_000), count) for at, count in data_of(fold)["workers"]] == [
        (0, 0),
        (10, 2),
        (20, 5),
        (50, 3),
        (60, 3),
    ]
    assert (fold.processes.most_workers, fold.processes.last and fold.processes.last.num_workers) == (5, 5)


def test_changes_of_workers_are_bounded() -> None:
    """However often processes come and go, over however long, the line has the last change of each span of time."""
    script = Script(num_workers=1, cluster="tcp://scheduler:8786")
    for number in range(5_000):
        script.join(1, 1 + number % 7)
        script.wait(number)
        script.add(ProcessLeft, first_worker=1)
    fold = folded(script.finish("completed"))
    changes = fold.processes.worker_changes()

    assert 400 < len(changes) <= MAX_CHANGES
    assert [at for at, _ in changes] == sorted(at for at, _ in changes)
    assert changes[-1][1] == 0
    assert fold.processes.most_workers == 7


def test_a_stop_between_processes_is_no_crash() -> None:
    """A process that ended by itself has not crashed, though another followed."""
    fold = folded(with_retries(3))

    assert [gap.crashed for gap in fold.processes.clock().gaps] == [False]
    assert fold.processes.crashed == 0


@pytest.mark.parametrize(
    ("is_running", "expected", "outcome", "took_s"),
    [(True, "running", "running", 50.0), (False, "crashed", "crashed", 4.0), (None, "unknown", "unended", 4.0)],
)
def test_a_run_without_an_end(is_running: bool | None, expected: str, outcome: str, took_s: float) -> None:
    """What is at work now is drawn until now; if the process is gone, or nobody knows, until the last event."""
    script = Script()
    item = script.enqueue()
    script.start(item)
    script.wait(3.99)
    script.enqueue()

    fold = folded(script.events, now=script.events[1].at + 0.01 + 50.0, is_running=is_running)

    (span,) = spans_of(fold)
    assert (status(fold), span.outcome, fold.unended) == (expected, outcome, 1)
    assert span.end - span.start == pytest.approx(took_s)
    assert fold.durations.types == {}  # how long it will have taken is not known


def test_retries_and_hooks_are_attempts_of_their_own() -> None:
    """An attempt that is to be tried again, and each one at a hook, is a bar, and counts where time is added up."""
    fold = folded(with_retries(1))

    assert [(span.item, span.outcome, span.attempt, span.is_hook) for span in spans_of(fold)] == [
        (1, "completed", 1, False),
        (2, "retried", 1, False),
        (1, "retried", 1, True),
        (2, "completed", 2, False),
        (1, "completed", 2, True),
    ]
    assert sum(type.count for type in fold.durations.types.values()) == 5
    assert fold.view.counts.retried == 2


def test_a_cancelled_attempt_is_cut_short() -> None:
    """What was cancelled at a stop is drawn until then, and is no sample of how long an attempt takes."""
    fold = folded(interrupted())

    assert [span.outcome for span in spans_of(fold)] == ["completed", "interrupted", "interrupted"]
    assert sum(type.count for type in fold.durations.types.values()) == 1
    assert status(fold) == "interrupted"


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
    assert [(kind.phase, kind.count) for kind in fold.failed.ranked()] == [("after_children", 1)]


def reopened(failed: Phase, *, again: bool) -> Fold:
    """Return a run of which a failure was reopened by a resume, and failed again or completed."""
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
    if again:
        script.fail(item, ErrorInfo("module:Boom", "again"), phase=failed, attempt=2)
    elif failed == "process":
        script.complete(item, attempt=2)
    else:
        script.end_hook(item)
    return folded(script.finish("failed"))


@pytest.mark.parametrize("failed", ["process", "after_children"])
def test_a_reopened_failure_counts_no_more(failed: Phase) -> None:
    """What failed and then succeeded in a later process is no failure in the end."""
    fold = reopened(failed, again=False)

    assert [(kind.error, kind.count) for kind in fold.failed.ranked()] == [("module:Other", 1)]
    last = fold.series.bins(fold.elapsed_s)[-1]
    assert (last.done, last.failed) == (1, 1)


def test_the_example_of_a_kind_is_a_failure_that_still_counts() -> None:
    """A failure whose item was reopened gives way, as the example, to the next of its kind."""
    kind = next(kind for kind in reopened("process", again=True).failed.ranked() if kind.error == "module:Boom")

    assert (kind.count, kind.example.error.message, kind.is_stale) == (1, "again", False)


def test_kinds_of_failures_are_bounded() -> None:
    """More kinds than are told apart count all the same, and one of those is taken back by a reopening."""
    script = Script()
    for number in range(1_002):
        item = script.enqueue()
        script.start(item)
        script.fail(item, ErrorInfo(f"module:Error{number}", "", "Traceback"))
    fold = folded(script.events)
    assert (fold.failed.count, len(fold.failed.ranked())) == (1_002, 1_000)
    assert "952 failures of other kinds" in failures(fold)

    fold.failed.reopen(1_002)
    assert fold.failed.count == 1_001


def test_gaps_of_any_length_and_number_keep_the_charts_bounded() -> None:
    """Of very many processes the longest gaps are drawn, and the time of all the others is told."""
    script = Script()
    for number in range(300):
        script.wait(10.0**6 if number == 150 else 5.0)
        script.begin(RunResumed)
    fold = folded(script.finish("completed"))

    gaps = fold.processes.clock().gaps
    assert len(gaps) <= 50 and max(gap.length_s for gap in gaps) > 10.0**6
    assert fold.processes.dropped_gaps == 250
    assert fold.processes.dropped_s == pytest.approx(250 * 5.01)
    assert len(fold.processes.first) == 100
    assert fold.series.width_s < 1


def test_gaps_at_one_moment_are_one() -> None:
    """A process that did nothing lies between two gaps at the same moment of the run: they are drawn as one."""
    clock = Clock([Gap(5.0, 1.0, crashed=False), Gap(7.0, 1.0, crashed=True), Gap(1.0, 2.0, crashed=False)])

    assert clock.gaps == [Gap(12.0, 1.0, crashed=True), Gap(1.0, 2.0, crashed=False)]
    assert (clock.before(1.0), clock.after(1.0), clock.after(2.5)) == (1.0, 13.0, 15.5)


def test_lines_are_broken_in_gaps() -> None:
    """What is drawn over time is level up to a gap, absent in it, and goes on after it."""
    drawn = data_of(folded(crashed_and_resumed().finish("completed")))

    ((start, end, said),) = drawn["gaps"]
    assert said == "crashed, resumed after 2 h 0 min"
    assert any(level is None for at, level in drawn["busy"] if at == start)
    for name in ("busy", "rate", "enqueued", "done", "workers"):
        assert not [at for at, _ in drawn[name] if start < at < end]
        assert drawn[name][-1][0] == drawn["end"]
        assert [at for at, _ in drawn[name]] == sorted(at for at, _ in drawn[name])


def test_a_process_of_which_nothing_is_known_yet_ends_the_charts_after_its_gap() -> None:
    """A run that was resumed and has done nothing since ends where its last process begins, not before the gap."""
    script = crashed_and_resumed()
    script.wait(100)
    script.begin(RunResumed)
    drawn = data_of(folded(script.events, is_running=False))

    assert len(drawn["gaps"]) == 2
    assert drawn["end"] == drawn["gaps"][-1][1]


@given(event_streams(), st.data())
def test_it_is_one_fold_however_it_is_cut(events: list[Event], data: st.DataObject) -> None:
    """What is drawn depends on the events alone, not on how they were cut into batches."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=4)))
    fold = Fold()
    for start, end in zip([0, *cuts], [*cuts, len(events)], strict=True):
        fold.apply(events[start:end])
    fold.end(0.0, is_running=None)

    assert data_of(folded(events)) == data_of(fold)


@given(event_streams())
def test_sums_equal_an_independent_count(events: list[Event]) -> None:
    """Bins, bars, kinds of failures and cells add up to what anyone who counts the events would find."""
    fold = folded(events)

    completed = sum(isinstance(event, ItemCompleted) for event in events)
    started = sum(isinstance(event, ItemStarted) for event in events)
    found = sum(isinstance(event, ItemEnqueued) for event in events)
    failed = sum(isinstance(event, ItemFailed) for event in events)
    bins = fold.series.bins(fold.elapsed_s)
    assert sum(b.completed for b in bins) == completed
    assert (bins[-1].enqueued, bins[-1].failed) == (found, failed)
    assert bins[-1].done == fold.view.counts.completed
    assert sum(span.count for span in spans_of(fold)) == started
    assert fold.failed.count == failed
    assert fold.tree.cells(fold.failed)[0].size == found
    assert sum(level.items for level in fold.tree.levels(fold.failed).values()) == found
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


def span(start: float, end: float, **fields: Any) -> Span:
    """Return an attempt."""
    return Span(
        **{"outcome": "completed", "type": 1, "item": 1, "attempt": 1, "is_hook": False, "text": "", **fields},
        start=start,
        end=end,
    )


def test_short_attempts_are_merged_and_long_ones_are_not() -> None:
    """Of more attempts than are drawn the long ones stay bars of their own, and the merged ones count what they were."""
    timeline = Timeline()
    at = 0.0
    for number in range(3 * MAX_SPANS):
        took_s = 50.0 if number % 1_000 == 999 else 0.01
        timeline.add(1, span(at, at + took_s, outcome="failed" if number % 10 == 0 else "completed"))
        at += took_s
    timeline.end()

    spans = timeline.rows[1]
    assert len(spans) <= MAX_SPANS
    assert sum(s.count for s in spans) == 3 * MAX_SPANS
    assert sum(s.count == 1 and s.end - s.start == pytest.approx(50.0) for s in spans) == 15
    assert max(s.end - s.start for s in spans if s.count > 1) <= timeline.limit_s < 50
    assert sum(s.failed if s.count > 1 else s.outcome == "failed" for s in spans) == 1_500
    assert sum(s.busy_s if s.count > 1 else s.end - s.start for s in spans) == pytest.approx(at)


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
        timeline.add(worker, span(start, ends[worker]))
    timeline.end()

    assert sum(map(len, timeline.rows.values())) <= MAX_SPANS
    assert sum(s.count for spans in timeline.rows.values() for s in spans) == 2 * MAX_SPANS + 500
    for spans in timeline.rows.values():
        assert all(one.end <= other.start for one, other in pairwise(spans))


def test_workers_beyond_the_rows_are_counted() -> None:
    """Only so many workers have a row, but what the others did is known."""
    fold = folded(with_workers(MAX_ROWS + 100))

    assert len(fold.timeline.rows) == MAX_ROWS
    assert len(fold.timeline.totals) == MAX_ROWS + 100


def test_the_slowest_items_are_kept_each_by_its_longest_attempt() -> None:
    """Of many attempts those of the 25 slowest items remain; an item that was slow twice is there once."""
    slowest = Slowest()
    for item in range(1, 101):
        for took_s in (float(item), item / 2, item + 0.5):
            slowest.add(SlowItem(item, 0, is_hook=False, attempt=1, outcome="completed", took_s=took_s, text=""))

    assert [(slow.item, slow.took_s) for slow in slowest.ranked()] == [(n, n + 0.5) for n in range(100, 75, -1)]
    assert slowest.threshold_s == 76.5


def test_durations_are_in_bins_of_their_magnitude() -> None:
    """Each duration is in the bin whose edges it lies between; what is off the scale is in the outermost."""
    fold = Fold()
    for took_s in (0.0, 1e-9, 0.0123, 1.0, 45.0, 1e9):
        fold.durations.add(1, took_s)
    durations = fold.durations.types[1]

    used = [index for index, count in enumerate(durations.bins) for _ in range(count)]
    assert (durations.count, len(used), durations.longest_s) == (6, 6, 1e9)
    assert used[:2] == [0, 0] and used[-1] == len(durations.bins) - 1
    for index, took_s in zip(used[2:5], (0.0123, 1.0, 45.0), strict=True):
        assert bin_edge(index) * (1 - 1e-9) <= took_s < bin_edge(index + 1)


@given(st.lists(st.floats(1e-5, 9e5), min_size=1, max_size=50), st.floats(0.01, 1))
def test_quantiles_are_within_a_bin(durations: list[float], share: float) -> None:
    """A quantile read from the histogram is at most a bin's width, a quarter, away from the exact one."""
    fold = Fold()
    for took_s in durations:
        fold.durations.add(1, took_s)

    exact = sorted(durations)[max(-int(-share * len(durations) // 1) - 1, 0)]
    assert exact / 1.27 <= fold.durations.types[1].quantile(share) <= exact * 1.27


def cells_of(fold: Fold) -> list[Cell]:
    """Return the cells of a run's tree."""
    return fold.tree.cells(fold.failed)


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
    fold = folded(script.events)

    assert [(c.parent, fold.types[c.type], c.item, c.size, c.failed) for c in cells_of(fold)[1:]] == [
        (0, FOLDER, root, 5, 1),
        (1, "module:Page", pages[1], 2, 1),
        (1, "module:Page", pages[0], 1, 0),
        (1, "module:Page", pages[2], 1, 0),
        (2, FOLDER, leaf, 1, 0),
    ]


def test_many_siblings_of_one_type_are_one_cell() -> None:
    """Of many siblings the largest have cells of their own, and all others one; below that, types are together."""
    script = Script()
    folders = [script.enqueue(FOLDER) for _ in range(100)]
    for folder in folders:
        for _ in range(5 if folder <= 20 else 1):
            script.enqueue(parent=folder)
    fold = folded(script.events)

    below_run = [c for c in cells_of(fold) if c.parent == 0]
    (rest,) = [c for c in below_run if c.count > 1]
    assert len(below_run) == 21
    assert (rest.count, rest.size, rest.item) == (80, 160, 0)
    index = cells_of(fold).index(rest)
    assert [(fold.types[c.type], c.count) for c in cells_of(fold) if c.parent == index] == [("module:Page", 80)]


@pytest.mark.parametrize("shape", ["chain", "bush", "flat"])
def test_cells_are_bounded_and_add_up(shape: str) -> None:
    """Whatever the tree's shape, cells are few, and those below a cell, unless it says it is cut, are all it has."""
    script = Script()
    for number in range(10_000):
        parent = {"chain": number, "bush": number // 3, "flat": 0}[shape]
        script.enqueue(f"module:T{number % 2}", parent=parent)
    cells = cells_of(folded(script.events))

    assert len(cells) <= MAX_CELLS
    below = [0] * len(cells)
    for cell in cells[1:]:
        below[cell.parent] += cell.size
    for index, cell in enumerate(cells):
        assert below[index] == (0 if cell.is_cut else cell.size - (cell.count if index else 0))
    assert any(cell.is_cut for cell in cells) is (shape != "flat")


def test_types_are_bounded() -> None:
    """Types beyond a thousand share one name in the charts; the counts by type know them all."""
    script = Script()
    for number in range(MAX_TYPES + 5):
        script.enqueue(f"module:T{number}")
    fold = folded(script.events)

    assert len(fold.types) == MAX_TYPES + 2
    assert (fold.types[0], fold.types[-1]) == (NOT_RECORDED, OTHER_TYPES)
    assert len(fold.view.types) == MAX_TYPES + 5


def test_items_that_a_log_lost_leave_a_hole() -> None:
    """Items of which nothing is recorded don't shift the others; a number out of all reason is refused."""
    script = Script()
    script.enqueue()
    script.events.append(ItemEnqueued(seq=9, at=script.events[-1].at, item=5, parent=1, type=FOLDER))
    fold = folded(script.events)
    assert (len(fold.tree.parents), fold.types[fold.tree.types[5]], fold.tree.parents[5]) == (6, FOLDER, 1)

    with pytest.raises(ValueError, match="item 4000000000 is announced after item 5"):
        fold.apply([ItemEnqueued(seq=10, at=script.events[-1].at, item=4_000_000_000, parent=0, type=FOLDER)])


def test_a_run_in_which_nothing_happened() -> None:
    """A run of no items and no time has figures for every chart all the same."""
    fold = folded(Script().events)

    assert fold.elapsed_s == 0.0
    (only,) = fold.series.bins(0.0)
    assert (only.enqueued, only.rate, only.busy) == (0, 0.0, 0.0)
    assert "0 found" in over_time(fold, [only], [only])


def test_every_type_of_event_is_taken() -> None:
    """A run with every type of event has a report, up to its last process, whose workers were in two of a cluster's."""
    fold = folded(every_event_type())

    assert [(process.cluster, process.num_workers) for process in fold.processes.first] == [
        ("", 3),
        ("", 3),
        ("tcp://scheduler:8786", 6),
    ]
    assert [failed.reporter for failed in fold.view.failed_reporters] == ["module:Other"]


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


def test_items_of_a_log_that_lacks_much_are_numbered_anew() -> None:
    """A log that begins far into a run, or in which numbers go back, makes a page all the same, and it says so."""
    script = Script()
    script.enqueue()
    for seq, (item, parent) in enumerate([(5_000_000, 1), (70, 5_000_000), (5_000_001, 70)], 3):
        script.events.append(ItemEnqueued(seq, script.events[-1].at, item, parent, FOLDER))
    script.events.append(ItemStarted(6, script.events[-1].at, 5_000_001, FOLDER, 1))
    script.events.append(ItemCompleted(7, script.events[-1].at, 5_000_001, 1, 0.5))
    report = Report()
    for event in script.events:
        report.apply([event])
    page = report.page(source="run.jsonl", now=script.events[-1].at)

    assert "its items have got numbers of their own here" in page
    assert (report.view.counts.enqueued, report.view.counts.completed) == (4, 1)
    assert "its items have got" not in render([two_items().events], source="run.jsonl", now=0.0)
