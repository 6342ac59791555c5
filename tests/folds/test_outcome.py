"""Failures by kind and one by one, as items fail, run again and are skipped, against a plain model of all of them."""

from collections import Counter
from collections.abc import Sequence
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue._folds import outcome
from aqueue._folds.outcome import FailureTally, FoldedResult
from aqueue.events import ErrorInfo, Event, ItemFailed, ItemReopened, ItemSkipped
from aqueue.testing._scripted_runs import BOOM, CANCELLED, Script
from aqueue.view import RunView
from tests.strategies import event_streams


def failure(seq: int, item: int, kind: int) -> ItemFailed:
    """Return one that has no other."""
    return ItemFailed(seq, 0.0, item, "m:C", 1, 0.0, ErrorInfo(f"E{kind}", ""))


def kind_of(failed: ItemFailed) -> tuple[str, str, str]:
    """Return what makes failures alike."""
    return failed.type, failed.phase, failed.error.type


def failed_after(events: Sequence[Event]) -> list[ItemFailed]:
    """Return the failures of the items that are failed after `events`, in their order."""
    failed: dict[int, ItemFailed] = {}
    for event in events:
        if isinstance(event, ItemFailed):
            failed[event.item] = event
        elif (isinstance(event, ItemReopened) and event.failed) or (
            isinstance(event, ItemSkipped) and event.had_failed
        ):
            del failed[event.item]
    return list(failed.values())


def expected_groups(failed: Sequence[ItemFailed]) -> list[tuple[tuple[str, str, str], int, ItemFailed]]:
    """Return the kinds of `failed`: each with how many, and the first; the most numerous first."""
    counts = Counter(map(kind_of, failed))
    firsts = {kind_of(one): one for one in reversed(failed)}
    ranked = sorted(counts, key=lambda kind: (-counts[kind], firsts[kind].seq))
    return [(kind, counts[kind], firsts[kind]) for kind in ranked]


@given(event_streams())
def test_folded_failures_are_those_of_the_items_that_are_failed(events: list[Event]) -> None:
    """However often they failed, ran again and were skipped."""
    folded, view = FoldedResult(), RunView()
    folded.apply(events)
    view.apply(events)
    result, failed = folded.result(view), failed_after(events)

    assert list(result.failures) == failed
    groups = [((one.type, one.phase, one.error), one.count, one.first) for one in result.failure_groups]
    assert groups == expected_groups(failed)


@given(st.data())
def test_counts_are_exact_where_not_all_failures_are_listed(data: st.DataObject) -> None:
    """So is what is said of the examples: one that was taken back stays only where no other is known, and is no secret."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outcome, "MAX_LISTED_FAILURES", 2)
        tally = FailureTally()
        failed: dict[int, ItemFailed] = {}
        listed: dict[int, ItemFailed] = {}
        for seq in range(1, data.draw(st.integers(1, 30)) + 1):
            item = data.draw(st.integers(1, 8))
            if item in failed:
                del failed[item]
                listed.pop(item, None)
                tally.remove(item)
            else:
                failed[item] = failure(seq, item, data.draw(st.integers(1, 3)))
                tally.add(failed[item])
                if len(listed) < 2:
                    listed[item] = failed[item]
        tally.remove(99)
    groups = tally.groups()

    assert tally.listed == tuple(listed.values())
    assert {(one.error, one.count) for one in groups} == {
        (error, count) for (_, _, error), count in Counter(map(kind_of, failed.values())).items()
    }
    assert [one.count for one in groups] == sorted((one.count for one in groups), reverse=True)
    are_failed = [failed.get(one.first.item) == one.first for one in groups]
    assert all(are_failed) == tally.has_all_examples
    of_listed = {kind_of(one): one for one in reversed(listed.values())}
    for one in groups:
        assert one.first == of_listed.get(kind_of(one.first), one.first)


def test_failures_beyond_the_kinds_that_are_counted_are_listed_and_taken_back() -> None:
    """They are no kind of their own, until there is room for one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outcome, "_MAX_COUNTED_KINDS", 1)
        tally = FailureTally()
        for item in (1, 2, 3):
            tally.add(failure(item, item, item))
        assert [one.item for one in tally.listed] == [1, 2, 3]
        tally.remove(2)
        tally.remove(1)
        assert ([one.item for one in tally.listed], tally.groups()) == ([3], ())
        tally.add(failure(4, 4, 4))
        assert [(one.error, one.count) for one in tally.groups()] == [("E4", 1)]


def test_taking_a_failure_back_takes_no_longer_the_more_there_are() -> None:
    """100,000 of them within two seconds, also in the order in which they came, in which each was an example."""
    tally = FailureTally()
    for item in range(100_000):
        tally.add(failure(item, item, item % 7))
    began = perf_counter()
    for item in range(100_000):
        tally.remove(item)
    assert perf_counter() - began < 2.0
    assert (tally.groups(), tally.listed) == ((), ())


def test_item_that_was_cancelled_is_a_failure_of_a_kind_like_any_other() -> None:
    """So that the summary groups them; skipping them takes them away."""
    script = Script()
    items = [script.enqueue() for _ in range(4)]
    script.start(items[0])
    script.fail(items[0], BOOM)
    for item in items[1:]:
        script.cancel(item)
    folded, view = FoldedResult(), RunView()
    folded.apply(script.events)
    view.apply(script.events)

    assert [(one.error, one.count) for one in folded.result(view).failure_groups] == [
        (CANCELLED.type, 3),
        (BOOM.type, 1),
    ]
