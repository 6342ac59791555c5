"""Whatever is cut off the end of a journal, resuming it comes to the same end."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aqueue import Backend, ItemFailures, RunResult, run_queue
from aqueue.events import Event, ItemCompleted, ItemEnqueued, ItemStarted
from aqueue.testing import EventRecorder
from aqueue.view import RunView
from tests.journal.oracle import check_left, told_by
from tests.journal.recorded import cut, events_of
from tests.journal.seeds import LIMITS, Did, Seed, group_of, items_of, seeds, tell, with_policies

on_both_backends = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
waiting = settings(
    on_both_backends, max_examples=10
)  # such runs wait by a real clock; so how many events there are is chance
queue_types = st.sampled_from(["queue", "stack", "priority"])
rules = st.sampled_from(["stop", "continue"])


class Watcher(EventRecorder):
    """Keeps the view, too, as it was shown at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.view = RunView()

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        super().handle(events, view)
        self.view = view


def run_once(roots: list[Seed], path: Path, **arguments: Any) -> RunResult:
    """Run `roots` with the journal at `path`; assert that the view shown at the end is that of the whole journal.

    Raises:
        ItemFailures: an item failed.
    """
    watcher = Watcher()
    try:
        return run_queue(items_of(roots), resume=path, reporter=watcher, **arguments)
    finally:
        if watcher.events:  # none if the run had completed
            whole = RunView()
            whole.apply(events_of(path))
            shown = watcher.view
            assert (shown.types, shown.waiting, shown.next_due) == (whole.types, whole.waiting, whole.next_due)
            assert (shown.counts, shown.status, list(shown.failures)) == (
                whole.counts,
                whole.status,
                list(whole.failures),
            )


@contextmanager
def counting(did: Counter[tuple[Did, str]]) -> Iterator[None]:
    """Count what items do."""

    def hear(what: Did, key: str) -> None:
        did[what, key] += 1

    tell.append(hear)
    try:
        yield
    finally:
        tell.clear()


def run_to_the_end(roots: list[Seed], path: Path, did: Counter[tuple[Did, str]], **arguments: Any) -> RunResult:
    """Run `roots` with the journal at `path`, again and again until nothing fails any more."""
    with counting(did):
        for _ in range(100):
            with suppress(ItemFailures):
                return run_once(roots, path, **arguments)
    raise AssertionError("it does not come to an end")


@on_both_backends
@given(st.lists(seeds(), min_size=1, max_size=3), st.integers(1, 4), queue_types, rules, st.data())
def test_resuming_any_prefix_comes_to_the_same_end(
    backend: Backend, roots: list[Seed], num_workers: int, queue_type_name: Any, on_error: Any, data: st.DataObject
) -> None:
    """The same items complete with the same hooks and results; what the prefix says is done is not done again."""
    check_prefixes(
        roots,
        data,
        num_workers=num_workers,
        queue_type_name=queue_type_name,
        on_error=on_error,
        backend=backend,
    )


@waiting
@given(
    st.lists(seeds(), min_size=1, max_size=3),
    st.integers(1, 2**16),
    st.integers(1, 4),
    queue_types,
    rules,
    st.data(),
)
def test_so_it_does_with_policies(
    backend: Backend,
    roots: list[Seed],
    salt: int,
    num_workers: int,
    queue_type_name: Any,
    on_error: Any,
    data: st.DataObject,
) -> None:
    """With retries, timeouts, limits and pauses as well; waits go on, and attempts are counted on."""
    check_prefixes(
        [with_policies(root, salt) for root in roots],
        data,
        num_workers=num_workers,
        queue_type_name=queue_type_name,
        on_error=on_error,
        backend=backend,
        limits=LIMITS,
    )


def check_prefixes(roots: list[Seed], data: st.DataObject, **arguments: Any) -> None:
    """Run `roots`, cut the journal off at drawn places, and compare what resuming comes to."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "whole.db")
        whole_did: Counter[tuple[Did, str]] = Counter()
        whole_result = run_to_the_end(roots, path, whole_did, **arguments)
        assert all(count == 1 for (what, _), count in whole_did.items() if what == "processed"), "two have one key"
        events = events_of(path)
        whole = told_by(events, group_of)
        for number in range(data.draw(st.integers(1, 3), label="how often it is cut")):
            after = len(events) * data.draw(st.integers(0, 100), label="the prefix, in %") // 100
            path = cut(path, after, Path(folder, f"cut {number}.db"))
            before = events[:after]
            did: Counter[tuple[Did, str]] = Counter()
            result = run_to_the_end(roots, path, did, **arguments)
            events = events_of(path)
            assert events[:after] == before, "what was recorded has changed"
            story = told_by(events, group_of)
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


CHOICES: dict[str, tuple[dict[str, Any], Callable[[str], bool]]] = {
    "no failed ones": ({"retry_failed": False}, lambda _: False),
    "only those with a hook": ({"only": lambda type: "Hooked" in type}, lambda type: "Hooked" in type),
    "only those without a policy": (
        {"only": lambda type: type.endswith((":Bare", ":Hooked", ":HookedAnyway"))},
        lambda type: type.endswith((":Bare", ":Hooked", ":HookedAnyway")),
    ),
}
"""Which failed items run again on a resume: what `run_queue` is given, and what that stands for."""


@waiting
@given(
    st.lists(seeds(), min_size=1, max_size=3),
    st.integers(1, 2**16),
    st.integers(1, 4),
    queue_types,
    rules,
    st.sampled_from(list(CHOICES)),
    st.data(),
)
def test_what_is_not_to_run_again_is_left_until_it_may(
    backend: Backend,
    roots: list[Seed],
    salt: int,
    num_workers: int,
    queue_type_name: Any,
    on_error: Any,
    choice: str,
    data: st.DataObject,
) -> None:
    """Of any prefix, nothing that failed and is left runs, everything else does; a plain resume then completes all."""
    roots = [with_policies(root, salt) for root in roots]
    arguments: dict[str, Any] = {
        "num_workers": num_workers,
        "queue_type_name": queue_type_name,
        "backend": backend,
        "limits": LIMITS,
    }
    picks, runs_again = CHOICES[choice]
    with TemporaryDirectory() as folder:
        path = Path(folder, "whole.db")
        with suppress(ItemFailures):
            run_once(roots, path, on_error=on_error, **arguments)
        events = events_of(path)
        path = cut(
            path, len(events) * data.draw(st.integers(0, 100), label="the prefix, in %") // 100, Path(folder, "cut.db")
        )
        for _ in range(2):
            before = told_by(events_of(path), group_of)
            did: Counter[tuple[Did, str]] = Counter()
            failures: ItemFailures | None = None
            try:
                with counting(did):
                    result = run_once(roots, path, on_error="continue", **picks, **arguments)
            except ItemFailures as raised:
                failures = raised
                result = raised.result
            after = told_by(events_of(path), group_of)
            check_left(before, after, runs_again, to_the_end=True)
            failed = [item for item, state in after.state.items() if state in ("failed", "hook failed")]
            assert result.counts.failed == len(failed) == len(result.failures)
            assert (failures is not None) == bool(failed)
            assert {failure.item for failure in result.failures} == set(failed)
            completions = after.completions.total() - before.completions.total()
            assert sum(count for (what, _), count in did.items() if what == "processed") == completions
        result = run_to_the_end(roots, path, Counter(), on_error=on_error, **arguments)
        story = told_by(events_of(path), group_of)
        whole = Path(folder, "undisturbed.db")
        run_to_the_end(roots, whole, Counter(), on_error=on_error, **arguments)
        assert story.ended_well() == told_by(events_of(whole), group_of).ended_well()
        assert result.counts.completed == result.counts.enqueued == len(story.enqueued)
