"""The failures of a run by kind: none is lost or counted twice, however the events are cut, and memory is bounded.

It is `_page.failure_kinds`; the kinds themselves are counted by `_folds.outcome`.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue._folds.outcome import FailureTally
from aqueue._page.failure_kinds import FailureKinds, KindHistory
from aqueue.events import (
    ErrorInfo,
    Event,
    ItemDescribed,
    ItemFailed,
    ItemReopened,
    ItemSkipped,
    ItemStarted,
    Phase,
    RunResumed,
)
from aqueue.testing._scripted_runs import BOOM, Script, every_event_type, with_failures
from aqueue.view import RunView
from tests.strategies import event_streams

Kind = tuple[str, Phase, str]
"""The class of the items, the method that raised, the class of the exceptions."""

LATEST = 3
SLACK_S = 1e-3
"""How far from an edge of a bin a failure must be for its bin to be known: Unix times have no more digits than that."""


def varied(events: Sequence[Event], errors: int = 3) -> list[Event]:
    """Return the events of a run with that many types of errors and with descriptions of which no two are the same."""
    return [
        msgspec.structs.replace(event, text=f"{event.item} at {event.seq}")
        if isinstance(event, ItemDescribed)
        else msgspec.structs.replace(event, error=ErrorInfo(f"m:E{event.seq % errors}", f"{event.seq}"))
        if isinstance(event, ItemFailed)
        else event
        for event in events
    ]


def kind_of(event: ItemFailed) -> Kind:
    """Return the kind of a failure."""
    return event.type, event.phase, event.error.type


def folded(events: Sequence[Event], cuts: Sequence[int] = ()) -> FailureKinds:
    """Return the failures of a run, applied in batches that end at these places."""
    kinds = FailureKinds()
    for first, end in pairwise(sorted({0, *cuts, len(events)})):
        kinds.apply(events[first:end])
    return kinds


def by_kind(kinds: FailureKinds) -> dict[Kind, KindHistory]:
    """Return the histories of the kinds of which items are failed now."""
    return {(group.type, group.phase, group.error): history for group, history in kinds.groups()}


def failures(events: Sequence[Event]) -> dict[Kind, list[ItemFailed]]:
    """Return all failures that happened, by kind."""
    found: dict[Kind, list[ItemFailed]] = defaultdict(list)
    for event in events:
        if isinstance(event, ItemFailed):
            found[kind_of(event)].append(event)
    return found


def elapsed_at_failures(events: Sequence[Event]) -> Iterator[tuple[Kind, float]]:
    """Yield the kind of each failure and how long the run had taken by then, as the view of the run says."""
    view = RunView()
    for event in events:
        view.apply([event])
        if isinstance(event, ItemFailed):
            yield kind_of(event), view.elapsed_s(event.at)


runs = st.builds(varied, event_streams(), st.integers(1, 5))


@given(runs, st.lists(st.integers(0, 400), max_size=8))
def test_kinds_are_those_of_the_tally(events: list[Event], cuts: list[int]) -> None:
    """Whatever runs again or was skipped meanwhile, each kind has the count and the example that a run's result has."""
    tally = FailureTally()
    tally.apply(events)

    assert (
        tuple(group for group, _ in folded(events, [min(cut, len(events)) for cut in cuts]).groups()) == tally.groups()
    )


@given(runs, st.lists(st.integers(0, 400), max_size=8), st.integers(1, 100))
def test_each_failure_is_counted_once(events: list[Event], cuts: list[int], number: int) -> None:
    """Bins and bars add up to all failures that happened, in whatever batches they came."""
    kinds, happened = folded(events, [min(cut, len(events)) for cut in cuts]), failures(events)
    view = RunView()
    view.apply(events)

    for kind, history in by_kind(kinds).items():
        assert sum(history.bins) == len(happened[kind])
        for elapsed_s in (view.elapsed_s(view.at), 0.0, 1.0, 1e9):
            bars = history.bars(elapsed_s, number)
            assert len(bars) == number and min(bars) >= 0
            assert sum(bars) == len(happened[kind])
        assert (history.first_at, history.last_at) == (happened[kind][0].at, happened[kind][-1].at)
    assert by_kind(kinds) == by_kind(folded(events))


@given(runs)
def test_failures_are_where_they_happened_in_the_own_time_of_the_run(events: list[Event]) -> None:
    """The time between processes doesn't count, not even if a person's command failed items in between."""
    moments: dict[Kind, list[float]] = defaultdict(list)
    for kind, elapsed_s in elapsed_at_failures(events):
        moments[kind].append(elapsed_s)

    for kind, history in by_kind(folded(events)).items():
        at = sorted(moments[kind])
        for number in range(1, len(history.bins) + 1):
            counted, edge = sum(history.bins[:number]), number * history.width_s
            assert bisect_left(at, edge - SLACK_S) <= counted <= bisect_left(at, edge + SLACK_S)


@given(runs)
def test_latest_are_the_last_three_each_with_its_own_description(events: list[Event]) -> None:
    """Those of items that ran again or were skipped since are left out.

    A failure has the last description of its own attempt, and never that of another item on the same worker.
    """
    texts: dict[int, str] = {}  # of the running attempts, by item
    ever: dict[int, set[str]] = defaultdict(set)
    said: dict[int, str] = {}  # by the number of the failure
    for event in events:
        if isinstance(event, ItemStarted):
            texts.pop(event.item, None)
        elif isinstance(event, ItemDescribed):
            texts[event.item] = event.text
            ever[event.item].add(event.text)
        elif isinstance(event, ItemFailed):
            said[event.seq] = texts.pop(event.item, "") if event.worker else ""
    latest: dict[Kind, list[ItemFailed]] = defaultdict(list)
    for event in events:
        if isinstance(event, ItemFailed):
            kind = (event.type, event.phase, event.error.type)
            latest[kind] = [*latest[kind], event][-LATEST:]
        elif isinstance(event, ItemSkipped) or (isinstance(event, ItemReopened) and event.failed is not None):
            latest = defaultdict(
                list, {kind: [one for one in of if one.item != event.item] for kind, of in latest.items()}
            )

    for kind, history in by_kind(folded(events)).items():
        assert [one for one, _ in history.latest] == latest[kind]
        for one, text in history.latest:
            assert text in {"", *ever[one.item]}
            assert text == said[one.seq] or not said[one.seq]


def test_description_of_an_earlier_item_on_the_worker_is_not_that_of_the_next() -> None:
    """The second item failed before it was described, the third after; the fourth was cancelled before it ran."""
    script = Script()
    for number in range(1, 4):
        item = script.enqueue()
        script.start(item)
        if number != 2:
            script.add(ItemDescribed, item=item, worker=1, text=f"page {number}")
        if number == 1:
            script.complete(item)
        else:
            script.fail(item, BOOM)
    script.cancel(script.enqueue())
    latest = {group.error: history.latest for group, history in folded(script.events).groups()}

    assert [(one.item, text) for one, text in latest[BOOM.type]] == [(2, ""), (3, "page 3")]
    assert [(one.item, text) for one, text in latest["aqueue.errors:CancelledByUser"]] == [(4, "")]


def test_what_another_process_described_is_forgotten() -> None:
    """After a crash the worker's numbers are given again, and what ran before was interrupted."""
    script = Script()
    item = script.enqueue()
    script.start(item)
    script.add(ItemDescribed, item=item, worker=1, text="page 1")
    script.begin(RunResumed)
    script.interrupt(item, "crash")
    script.start(item, attempt=2)
    script.fail(item, BOOM, attempt=2)
    ((_, history),) = folded(script.events).groups()

    assert [text for _, text in history.latest] == [""]


def test_failures_that_were_taken_back_stay_in_the_history_of_their_kind() -> None:
    """An item that failed, ran again and failed again counts once now, and twice over time."""
    script = Script()
    item = script.enqueue()
    for attempt in (1, 2):
        script.start(item, attempt=attempt)
        script.wait(10)
        script.fail(item, BOOM, attempt=attempt)
        if attempt == 1:
            script.open_again(item, failed="process")
    ((group, history),) = folded(script.events).groups()

    assert group.count == 1
    assert sum(history.bins) == 2
    script.skip(item, had_failed=True)
    assert folded(script.events).groups() == []


def test_time_between_processes_does_not_count() -> None:
    """A failure long after a resume is where the run's own time says, commands in between or not."""
    for is_edited in (False, True):
        script = Script()
        items = [script.enqueue() for _ in range(3)]
        script.start(items[0])
        script.wait(11)
        script.fail(items[0], BOOM)
        script.finish("failed")
        script.wait(3_600)
        if is_edited:
            script.edit()
            script.cancel(items[2])
        script.wait(3_600)
        script.begin(RunResumed)
        script.start(items[1])
        script.wait(10)
        script.fail(items[1], BOOM)
        histories = {group.error: history for group, history in folded(script.events).groups()}

        assert histories[BOOM.type].bars(24.0, 4) == [0, 1, 0, 1], is_edited
        if is_edited:
            assert histories["aqueue.errors:CancelledByUser"].bars(24.0, 4) == [0, 1, 0, 0]


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=50).map(sorted), st.integers(1, 100), st.floats(1e-3, 1e9))
def test_history_is_bounded_and_lossless(moments: list[float], number: int, elapsed_s: float) -> None:
    """However long a run takes, a kind has as many bins as at first, and each failure is in one of them."""
    event = next(event for event in with_failures(1) if isinstance(event, ItemFailed))
    history = KindHistory(event.at)
    num_bins = len(history.bins)
    for moment in moments:
        history.add(event, moment, "")

    assert len(history.bins) == num_bins and len(history.latest) == min(len(moments), LATEST)
    assert sum(history.bins) == sum(history.bars(elapsed_s, number)) == len(moments)
    expected = Counter(int(moment / history.width_s) for moment in moments)
    assert history.bins == [expected[index] for index in range(num_bins)]
    assert history.width_s * num_bins > moments[-1] >= (history.width_s * num_bins / 2 if history.width_s > 0.25 else 0)


@pytest.mark.parametrize("number", [1, 2, 7, 32, 100])
def test_bars_share_the_time_of_the_run_evenly(number: int) -> None:
    """Of failures at an even pace each bar has its share, to within the two bins at its edges."""
    event = next(event for event in with_failures(1) if isinstance(event, ItemFailed))
    history = KindHistory(event.at)
    for moment in range(6_400):
        history.add(event, moment + 0.5, "")

    bars = history.bars(6_400.0, number)
    per_bin = max(history.bins)
    assert all(abs(count - 6_400 / number) <= 2 * per_bin for count in bars)


def test_kinds_are_bounded() -> None:
    """Of thousands of kinds the most numerous hundred are shown, and not all are kept."""
    events = with_failures(5_000)
    kinds = folded(events, range(0, len(events), 7))
    tally = FailureTally()
    tally.apply(events)

    assert tuple(group for group, _ in kinds.groups()) == tally.groups()
    assert len(kinds._histories) <= 1_000


def test_new_kinds_take_the_place_of_old_ones() -> None:
    """A kind that comes after a thousand others, all of which ran again since, has all that happened of it."""
    script = Script()
    item = script.enqueue()
    for number in range(1_100):
        script.start(item, attempt=number + 1)
        script.fail(item, ErrorInfo(f"module:Error{number}", "no"), attempt=number + 1)
        script.open_again(item, failed="process")
    last = [script.enqueue() for _ in range(3)]
    for one in last:
        script.start(one)
        script.fail(one, BOOM)
    ((group, history),) = folded(script.events).groups()

    assert (group.error, group.count, sum(history.bins)) == (BOOM.type, 3, 3)


def test_kind_whose_history_is_forgotten_is_shown_nevertheless() -> None:
    """With its count and its first failure: it is among those that are failed."""
    script = Script()
    old = [script.enqueue() for _ in range(3)]
    for item in old:
        script.start(item)
        script.fail(item, BOOM)
    for number in range(1_100):
        item = script.enqueue()
        script.start(item)
        script.fail(item, ErrorInfo(f"module:Error{number}", "no"))
    group, history = folded(script.events).groups()[0]

    assert (group.error, group.count) == (BOOM.type, 3)
    assert (sum(history.bins), sum(history.bars(10.0, 32)), len(history.latest)) == (0, 0, 1)
    assert history.first_at == history.last_at == group.first.at


def test_any_type_of_event_is_taken() -> None:
    """A run with every type of event, also after its end, and one without an event."""
    assert folded([]).groups() == []
    events = every_event_type()
    view = RunView()
    view.apply(events)
    assert sum(group.count for group, _ in folded(events).groups()) == view.counts.failed > 0
