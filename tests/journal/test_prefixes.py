"""Whatever is cut off the end of a journal, resuming it comes to the same end."""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aqueue import Backend, ItemFailures, RunResult, run_queue
from aqueue.events import ItemCompleted, ItemEnqueued, ItemStarted
from aqueue.testing import EventRecorder
from tests.journal.oracle import told_by
from tests.journal.recorded import cut, events_of
from tests.journal.seeds import Did, Seed, items_of, seeds, tell

on_both_backends = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
queue_types = st.sampled_from(["queue", "stack", "priority"])
rules = st.sampled_from(["stop", "continue"])


def run_to_the_end(roots: list[Seed], path: Path, did: Counter[tuple[Did, str]], **arguments: Any) -> RunResult:
    """Run `roots` with the journal at `path`, again and again until nothing fails any more."""

    def hear(what: Did, key: str) -> None:
        did[what, key] += 1

    tell.append(hear)
    try:
        for _ in range(100):
            try:
                return run_queue(items_of(roots), resume=path, reporter=EventRecorder(), **arguments)
            except ItemFailures:
                continue
    finally:
        tell.clear()
    raise AssertionError("it does not come to an end")


@on_both_backends
@given(st.lists(seeds(), min_size=1, max_size=3), st.integers(1, 4), queue_types, rules, st.data())
def test_resuming_any_prefix_comes_to_the_same_end(
    backend: Backend, roots: list[Seed], num_workers: int, queue_type_name: Any, on_error: Any, data: st.DataObject
) -> None:
    """The same items complete with the same hooks and results; what the prefix says is done is not done again."""
    arguments: dict[str, Any] = {
        "num_workers": num_workers,
        "queue_type_name": queue_type_name,
        "on_error": on_error,
        "backend": backend,
    }
    with TemporaryDirectory() as folder:
        path = Path(folder, "whole.db")
        whole_did: Counter[tuple[Did, str]] = Counter()
        whole_result = run_to_the_end(roots, path, whole_did, **arguments)
        assert all(count == 1 for (what, _), count in whole_did.items() if what == "processed"), "two have one key"
        events = events_of(path)
        whole = told_by(events)
        for number in range(data.draw(st.integers(1, 3), label="how often it is cut")):
            after = data.draw(st.integers(0, len(events)), label="the prefix")
            path = cut(path, after, Path(folder, f"cut {number}.db"))
            before = events[:after]
            did: Counter[tuple[Did, str]] = Counter()
            result = run_to_the_end(roots, path, did, **arguments)
            events = events_of(path)
            assert events[:after] == before, "what was recorded has changed"
            story = told_by(events)
            assert story.ended_well() == whole.ended_well()
            assert Counter(story.root_results()) == Counter(whole.root_results())
            assert result.root_results == whole_result.root_results
            assert result.status == "completed"
            assert result.counts.completed == result.counts.enqueued == len(story.enqueued)
            completed = {event.item for event in before if isinstance(event, ItemCompleted)}
            started_again = {
                event.item for event in events[after:] if isinstance(event, ItemStarted) and event.phase == "process"
            }
            assert not completed & started_again, "what was completed ran again"
            enqueued = sum(isinstance(event, ItemEnqueued) for event in events)
            ran = sum(count for (what, _), count in did.items() if what == "processed")
            assert ran == enqueued - len(completed), "each item that was not completed runs to its end once"
            if not after:
                whole_did = did  # it is a new run, with a name of its own
            assert set(did) <= set(whole_did), "an item has another idempotency key when it runs again"
