"""The invariants of events, over random trees, awaits and failures.

What runs next is for the `_engine.dispatcher` to say, and `_engine.workers` run it. `_engine.parts` puts these together.
"""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aqueue
from aqueue import Backend, ItemFailures, RunResult, run_queue
from aqueue.events import ItemStarted
from aqueue.testing import EventRecorder
from aqueue.view import RunView
from tests.engine.invariants import check_events, check_result
from tests.engine.trees import Log, Plan, expected, items_of, plans

# The fixture names a backend; it holds nothing that one example could leave to the next.
on_both_backends = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

queue_types = st.sampled_from(["queue", "stack", "priority"])


def run(roots: list[Plan], **arguments: Any) -> tuple[RunResult, EventRecorder, Log]:
    """Run `roots`, check what holds for any run, and return what came of it."""
    recorder = EventRecorder()
    items, log = items_of(roots)
    try:
        result = run_queue(items, reporter=recorder, **arguments)
    except ItemFailures as failures:
        result = failures.result
    check_events(recorder.events)
    check_result(result, recorder.events)
    assert recorder.result == result
    return result, recorder, log


def check_log(log: Log) -> None:
    """Assert, from what the items saw, that all ran once, and hooks after all below them."""
    assert len(set(log)) == len(log), "something ran twice"
    hooks = {path: number for number, (what, path) in enumerate(log) if what == "hook"}
    for number, (_, path) in enumerate(log):
        for length in range(1, len(path)):
            assert number < hooks.get(path[:length], len(log)), f"{path} ran after the hook of {path[:length]}"


@on_both_backends
@given(st.lists(plans(), min_size=1, max_size=3), st.integers(1, 6), queue_types)
def test_all_that_can_run_runs_when_errors_do_not_stop_it(
    backend: Backend, roots: list[Plan], num_workers: int, queue_type_name: str
) -> None:
    """With on_error="continue" everything runs but the hooks above failures, and the result says exactly that."""
    result, recorder, log = run(
        roots, num_workers=num_workers, queue_type_name=queue_type_name, on_error="continue", backend=backend
    )
    outcomes = [expected(plan) for plan in roots]
    assert result.counts.completed == sum(one.completed for one in outcomes)
    assert result.counts.failed == sum(one.failed for one in outcomes)
    assert result.status == ("failed" if result.counts.failed else "completed")
    results = [one.result for one in outcomes]
    assert result.root_results == (results if any(one is not None for one in results) else [])
    hooks = [event for event in recorder.of(ItemStarted) if event.phase == "after_children"]
    assert len(hooks) == sum(one.hooks for one in outcomes)
    check_log(log)


@on_both_backends
@given(st.lists(plans(), min_size=1, max_size=3), st.integers(1, 6), queue_types)
def test_a_run_that_the_first_failure_stops(
    backend: Backend, roots: list[Plan], num_workers: int, queue_type_name: str
) -> None:
    """With on_error="stop" the invariants hold, too, and what was left is outstanding."""
    result, _, log = run(
        roots, num_workers=num_workers, queue_type_name=queue_type_name, on_error="stop", backend=backend
    )
    assert result.status == ("failed" if any(expected(plan).failed for plan in roots) else "completed")
    check_log(log)


@on_both_backends
@given(st.lists(plans(failures=False), min_size=1, max_size=3), st.integers(1, 6), st.integers(1, 20))
def test_a_run_that_an_item_stops(backend: Backend, roots: list[Plan], num_workers: int, after: int) -> None:
    """A run stopped at any moment keeps the invariants, and is interrupted unless nothing was left."""
    seen = 0

    class Counting(list[Any]):
        def append(self, entry: Any) -> None:
            nonlocal seen
            seen += 1
            if seen == after:
                aqueue.stop("enough")
            super().append(entry)

    recorder = EventRecorder()
    items, _ = items_of(roots)
    log = Counting()
    for item in items:
        item.log = log
    result = run_queue(items, reporter=recorder, num_workers=num_workers, backend=backend)
    check_events(recorder.events)
    check_result(result, recorder.events)
    check_log(log)
    assert result.stop_reason == ("enough" if seen >= after else "")
    assert result.status in ("completed", "interrupted")


@on_both_backends
@given(plans(), st.integers(1, 4), st.data())
def test_folding_a_prefix_and_then_the_rest_equals_folding_all(
    backend: Backend, root: Plan, num_workers: int, data: st.DataObject
) -> None:
    """A view can be folded in any parts: of real runs, too."""
    _, recorder, _ = run([root], num_workers=num_workers, on_error="continue", backend=backend)
    events = recorder.events
    cut = data.draw(st.integers(0, len(events)))
    whole, parts = RunView(), RunView()
    whole.apply(events)
    parts.apply(events[:cut])
    parts.apply(events[cut:])
    assert whole == parts


def test_the_checker_sees_what_is_wrong() -> None:
    """Events in a wrong order, left out or twice don't pass: the checks above can fail."""
    _, recorder, _ = run([Plan(children=(Plan(), Plan(hook="all_success")), hook="all_success")])
    events = recorder.events
    caught = 0
    for number in range(1, len(events) - 2):
        swapped = [*events[:number], events[number + 1], events[number], *events[number + 2 :]]
        left_out = [*events[:number], *events[number + 1 :]]
        twice = [*events[: number + 1], events[number], *events[number + 1 :]]
        for wrong in (swapped, left_out, twice):
            renumbered = [_with(event, seq=seq, at=0.0) for seq, event in enumerate(wrong, 1)]
            try:
                check_events(renumbered)
            except (AssertionError, ValueError, KeyError):
                caught += 1
    with pytest.raises(AssertionError):
        check_events(events[:-1])
    assert caught >= 2 * (len(events) - 3), "each event that is left out or doubled is seen"


def _with(event: Any, **changes: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(event, **changes)
