"""What must hold for the events of any run, checked from the events alone, by the plainest means."""

import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec

from aqueue import FailureGroup, RunResult
from aqueue._folds.outcome import FoldedResult
from aqueue.events import (
    Counts,
    Event,
    GroupLimitChanged,
    GroupLimitKnown,
    GroupPaused,
    GroupSlowedDown,
    GroupUnpaused,
    ItemCancelled,
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
    LoopBlocked,
    Phase,
    ReporterFailed,
    RunFinished,
    RunHeldUp,
    RunPaused,
    RunStarted,
    RunSteered,
    RunStopping,
    RunUnpaused,
    RunWorkersChanged,
)
from aqueue.view import RunView

__all__ = ["TICK_S", "check_events", "check_result", "check_workers", "counts_of"]


TICK_S = 0.001 if "uvloop" in sys.modules else 0.0
"""What a wait may lack, seconds: uvloop's clock counts whole milliseconds."""


class _Checker:
    """Follows a run event by event and asserts that each may come where it comes."""

    def __init__(self, num_workers: int, follows_clock: bool) -> None:
        self.follows_clock = follows_clock
        self.num_workers = num_workers
        self.parents: dict[int, int] = {}
        self.children: dict[int, list[int]] = {}
        self.types: dict[int, str] = {}
        self.state: dict[int, str] = {}  # enqueued, process, completed, failed, interrupted, after_children
        self.attempts: Counter[tuple[int, Phase]] = Counter()
        self.due: dict[int, float] = {}
        self.groups: dict[int, str | None] = {}
        self.seen_groups: set[str | None] = set()
        self.held_groups: dict[str, tuple[int | None, float | None]] = {}
        self.has_children: set[int] = set()
        self.with_hook: set[int] = set()
        self.workers: dict[int, ItemStarted] = {}
        self.closed: set[int] = set()
        self.sealed: set[int] = set()  # nothing may happen below these
        self.stopping: list[RunStopping] = []
        self.any_started = False
        self.is_paused = False
        self.paused_groups: set[str | None] = set()

    def check(self, event: Event) -> None:
        match event:
            case ItemEnqueued():
                self.enqueued(event)
            case ItemStarted():
                self.started(event)
            case ItemDescribed():
                assert self.at_work(event).phase == "process", event
            case ItemCompleted():
                started = self.end(event)
                assert started.phase == "process", event
                self.took(event, started)
                self.state[event.item] = "completed"
            case ItemFailed():
                if event.worker:
                    started = self.end(event)
                    assert (started.phase, started.type) == (event.phase, event.type), event
                    self.took(event, started)
                else:
                    self.leave(event)
                self.state[event.item] = "failed"
            case ItemRetryScheduled():
                started = self.end(event)
                assert started.phase == event.phase, event
                assert event.due >= event.at, event
                self.due[event.item] = event.due
                self.state[event.item] = "enqueued" if event.phase == "process" else "completed"
            case ItemRegrouped() | GroupLimitKnown() | GroupSlowedDown():
                self.of_group(event)
            case LoopBlocked() | RunHeldUp():
                assert event.duration_s > 0, event
            case ItemInterrupted():
                assert self.end(event).phase == event.phase, event
                self.state[event.item] = "interrupted"
            case ItemChildrenProcessed() | ItemChildrenFailed():
                self.children_ended(event)
            case RunStopping():
                assert not self.stopping or (event.cancelling and not self.stopping[-1].cancelling), event
                self.stopping.append(event)
            case ReporterFailed():
                pass
            case _:
                self.commanded(event)

    def commanded(self, event: Event) -> None:
        match event:
            case ItemCancelled() | ItemSkipped() | ItemReopened() | ItemRescheduled():
                self.steered(event)
            case RunPaused() | RunUnpaused():
                assert self.is_paused == isinstance(event, RunUnpaused), event
                self.is_paused = isinstance(event, RunPaused)
            case GroupPaused() | GroupUnpaused():
                assert (event.group in self.paused_groups) == isinstance(event, GroupUnpaused), event
                self.paused_groups ^= {event.group}
            case GroupLimitChanged():
                self.held_groups.pop(event.group, None)
            case RunWorkersChanged():
                assert event.num_workers >= 1, event
                self.num_workers = event.num_workers
            case RunSteered():
                assert event.count >= 0, event
            case _:
                raise AssertionError(f"{event} has no place in the middle of a run")

    def of_group(self, event: ItemRegrouped | GroupLimitKnown | GroupSlowedDown) -> None:
        match event:
            case ItemRegrouped():
                self.named(event.item)
                assert self.state[event.item] == "enqueued", event
                assert event.group != self.groups[event.item], event
                self.groups[event.item] = event.group
                self.seen_groups.add(event.group)
            case GroupLimitKnown():
                assert event.concurrent is not None or event.per_second is not None, event
                limit = event.concurrent, event.per_second
                assert self.held_groups.get(event.group) != limit, event
                self.held_groups[event.group] = limit
            case GroupSlowedDown():
                assert event.due >= event.at, event
                if event.item:
                    self.named(event.item)

    def steered(self, event: ItemCancelled | ItemSkipped | ItemReopened | ItemRescheduled) -> None:
        item = event.item
        match event:
            case ItemCancelled():
                self.named(item)
                assert any(started.item == item for started in self.workers.values()), event
            case ItemRescheduled():
                self.named(item)
                assert item in self.due and event.due >= event.at, event
                self.due[item] = event.due
            case ItemSkipped():
                self.leave(event)
                self.state[item] = "skipped"
                if item not in self.has_children:
                    self.closed.add(item)
            case ItemReopened():
                above = self.parents[item]
                assert above not in self.closed, f"{event} comes before item {above} is reopened"
                is_leaf = item not in self.has_children | self.with_hook
                has_ended = item in self.closed or (is_leaf and self.state[item] == "completed")
                assert (event.ended is not None) == has_ended, event
                assert event.skipped == (self.state[item] == "skipped"), event
                self.closed.discard(item)
                self.sealed.discard(item)
                if event.rerun or event.failed == "process":
                    self.state[item] = "enqueued"
                elif event.failed is not None:
                    self.state[item] = "completed"

    def leave(self, event: ItemFailed | ItemSkipped) -> None:
        """An item that waits is taken away; one that had failed may be skipped."""
        self.named(event.item)
        assert event.type == self.types[event.item], event
        waits = {"enqueued", "interrupted"} if event.phase == "process" else {"completed", "interrupted"}
        assert self.state[event.item] in ({"failed"} if getattr(event, "had_failed", False) else waits), event

    def named(self, item: int) -> None:
        """Nothing happens in a subtree that has ended, nor below an item whose hook has begun."""
        assert item in self.parents, f"item {item} is named before it is enqueued"
        assert item not in self.closed, f"item {item} is named after its subtree has ended"
        above = self.parents[item]
        while above:
            assert above not in self.closed, f"item {item} is named after {above} has ended"
            assert above not in self.sealed, f"item {item} is named after the hook of {above} has begun"
            above = self.parents[above]

    def enqueued(self, event: ItemEnqueued) -> None:
        assert event.item == len(self.parents) + 1, event
        if event.parent:
            assert self.state[event.parent] == "process", event
            self.has_children.add(event.parent)
        else:
            assert not self.any_started, f"{event} comes after the first start"
        self.parents[event.item] = event.parent
        self.children.setdefault(event.parent, []).append(event.item)
        self.types[event.item] = event.type
        self.with_hook |= {event.item} if event.hook else set()
        self.state[event.item] = "enqueued"
        self.groups[event.item] = event.group
        self.seen_groups.add(event.group)
        self.named(event.item)

    def started(self, event: ItemStarted) -> None:
        self.named(event.item)
        assert not self.is_paused, f"{event} comes while the run is paused"
        if event.phase == "process":
            assert self.groups[event.item] not in self.paused_groups, f"{event} comes while its group is paused"
        self.any_started = True
        # In a run that stops, a worker that retires still runs the hook of its last item: no other worker would.
        is_last_hook = bool(self.stopping) and event.phase == "after_children"
        assert 1 <= event.worker <= self.num_workers or is_last_hook, event
        assert event.worker not in self.workers, f"worker {event.worker} is at something else: {event}"
        assert event.type == self.types[event.item], event
        self.attempts[event.item, event.phase] += 1
        assert event.attempt == self.attempts[event.item, event.phase], event
        if self.follows_clock:
            assert event.at >= self.due.get(event.item, 0.0) - TICK_S, f"{event} comes before its time"
        self.workers[event.worker] = event
        if event.phase == "process":
            assert not self.stopping, f"{event} comes after {self.stopping}"
            assert self.state[event.item] == "enqueued", event
        else:
            assert self.state[event.item] == "completed", event
            self.check_ended_below(event.item)
            self.sealed.add(event.item)
        self.state[event.item] = event.phase

    def at_work(self, event: Any) -> ItemStarted:
        self.named(event.item)
        assert event.worker in self.workers, f"worker {event.worker} is at nothing: {event}"
        started = self.workers[event.worker]
        assert started.item == event.item, event
        return started

    def end(self, event: Any) -> ItemStarted:
        started = self.at_work(event)
        assert event.attempt == started.attempt, event
        del self.workers[event.worker]
        return started

    @staticmethod
    def took(event: ItemCompleted | ItemFailed, started: ItemStarted) -> None:
        # Exact by the monotonic clock; Unix times in floats tell a quarter of a microsecond.
        assert abs(event.duration_s - (event.at - started.at)) < 1e-6, event

    def children_ended(self, event: ItemChildrenProcessed | ItemChildrenFailed) -> None:
        item = event.item
        self.named(item)
        assert event.type == self.types[item], event
        if self.state[item] == "after_children":
            assert isinstance(event, ItemChildrenProcessed), event
            assert self.at_work(event).phase == "after_children", event
            del self.workers[event.worker]
            self.state[item] = "completed"
        else:
            assert self.state[item] in ("completed", "skipped"), event
            assert not getattr(event, "worker", 0), f"{event} has no hook that a worker could have run"
            self.check_ended_below(item)
            failed = any(self.state[one] == "failed" for one in self.below(item))
            assert failed == isinstance(event, ItemChildrenFailed), event
        self.closed.add(item)

    def below(self, item: int) -> list[int]:
        found: list[int] = []
        left = [item]
        while left:
            below = self.children.get(left.pop(), [])
            found += below
            left += below
        return found

    def check_ended_below(self, item: int) -> None:
        for one in self.below(item):
            assert self.state[one] in ("completed", "failed", "skipped"), (
                f"{item} ended before {one}, which is {self.state[one]}"
            )
            if self.state[one] != "failed" and one in self.has_children:
                assert one in self.closed, f"{item} ended before the subtree of {one}"


def counts_of(events: Sequence[Event], type: str | None = None) -> Counts:
    """Count the items of `events`, or those of one type, anew."""
    types = {event.item: event.type for event in events if isinstance(event, ItemEnqueued)}
    completed: set[int] = set()
    failed: set[int] = set()
    skipped: set[int] = set()
    interrupted = retried = deduplicated = 0
    for event in events:
        if isinstance(event, ItemRetryScheduled) and type in (None, types[event.item]):
            retried += 1
        if isinstance(event, ItemCompleted | ItemFailed) and type in (None, types[event.item]):
            deduplicated += event.deduplicated
        if isinstance(event, ItemSkipped) and type in (None, types[event.item]):
            skipped.add(event.item)
            completed.discard(event.item)
            failed.discard(event.item)
        elif isinstance(event, ItemReopened) and type in (None, types[event.item]):
            if event.failed is not None:
                failed.discard(event.item)
            if event.failed == "after_children":
                completed.add(event.item)
            if event.rerun:
                completed.discard(event.item)
                skipped.discard(event.item)
        if isinstance(event, ItemCompleted | ItemFailed | ItemInterrupted) and type in (None, types[event.item]):
            if isinstance(event, ItemCompleted):
                completed.add(event.item)
            elif isinstance(event, ItemFailed):
                failed.add(event.item)
                completed.discard(event.item)
            else:
                interrupted += 1
    enqueued = sum(type in (None, one) for one in types.values())
    return Counts(enqueued, len(completed), len(failed), interrupted, deduplicated, retried, len(skipped))


def check_events(events: Sequence[Event], *, follows_clock: bool = True) -> None:
    """Assert all that must hold for the events of one whole run.

    Parameters:
        follows_clock: whether the loop goes by the clock that the events go by; not so with a mock clock.
    """
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    for before, after in pairwise(events):
        assert before.at <= after.at, f"time goes back from {before} to {after}"
    first, last = events[0], events[-1]
    assert isinstance(first, RunStarted)
    assert isinstance(last, RunFinished)
    checker = _Checker(first.num_workers, follows_clock)
    for event in events[1:-1]:
        checker.check(event)
    assert not checker.workers, f"still at work at the end: {checker.workers}"
    assert (
        checker.held_groups.keys() <= checker.seen_groups
    )  # a group's limit may be known before its first item is announced
    counts = counts_of(events)
    assert last.counts == counts
    if last.status == "completed":
        assert not counts.failed
        assert counts.completed + counts.skipped == counts.enqueued
        assert checker.has_children <= checker.closed
    if not counts.failed and counts.outstanding:
        assert last.status == "interrupted"
    _check_folding(events)


def check_workers(events: Sequence[Event]) -> None:
    """Assert that each end of an attempt tells the worker that its start has told, in a run that may be on a cluster."""
    at_work: dict[int, int] = {}
    for event in events:
        match event:
            case ItemStarted():
                assert event.worker not in at_work.values(), event
                at_work[event.item] = event.worker
            case ItemCompleted() | ItemFailed() | ItemRetryScheduled() | ItemInterrupted():
                assert event.worker == at_work.pop(event.item), event
            case ItemChildrenProcessed():
                assert event.worker == at_work.pop(event.item, 0), event
            case _:
                pass


def _check_folding(events: Sequence[Event]) -> None:
    """Folding the events at once and one by one gives the same, and the same counts as counting them."""
    at_once, one_by_one = RunView(), RunView()
    at_once.apply(events)
    for event in events:
        one_by_one.apply([event])
    assert at_once == one_by_one
    assert at_once.counts == counts_of(events)
    assert not at_once.running
    waits: dict[int, ItemRetryScheduled] = {}
    queued: dict[int, str | None] = {}  # their groups
    groups: dict[int, str | None] = {}
    for event in events:
        if isinstance(event, ItemRetryScheduled):
            waits[event.item] = event
        elif isinstance(event, ItemStarted):
            if event.phase == "process":
                assert event.group == groups[event.item]
                queued.pop(event.item, None)
            waits.pop(event.item, None)
        elif isinstance(event, ItemEnqueued):
            queued[event.item] = groups[event.item] = event.group
        elif isinstance(event, ItemRegrouped):
            assert event.before == groups[event.item]
            groups[event.item] = event.group
            if event.item in queued:
                queued[event.item] = event.group
        elif isinstance(event, ItemInterrupted) and event.phase == "process":
            queued[event.item] = groups[event.item]
        elif isinstance(event, ItemFailed | ItemSkipped):
            queued.pop(event.item, None)
            waits.pop(event.item, None)
        elif isinstance(event, ItemReopened):
            waits.pop(event.item, None)
            if event.rerun or event.failed == "process":
                queued[event.item] = groups[event.item]
        elif isinstance(event, ItemRescheduled):
            waits[event.item] = msgspec.structs.replace(waits[event.item], due=event.due)
    assert (at_once.queued, at_once.waiting) == (len(queued), len(waits))
    assert at_once.groups == Counter(group for group in queued.values() if group is not None)
    assert at_once.next_due == min((wait.due for wait in waits.values()), default=0.0)


def check_failure_groups(result: RunResult, events: Sequence[Event]) -> None:
    """Assert that the failures are grouped by kind, each counted in full, the most numerous first."""
    kinds: dict[tuple[str, Phase, str], list[ItemFailed]] = {}
    for event in events:
        if isinstance(event, ItemFailed):
            kinds.setdefault((event.type, event.phase, event.error.type), []).append(event)
    ranked = sorted(kinds.items(), key=lambda entry: (-len(entry[1]), entry[1][0].seq))
    expected = [FailureGroup(*kind, len(failures), failures[0]) for kind, failures in ranked]
    assert list(result.failure_groups) == expected[:100]


def check_result(result: RunResult, events: Sequence[Event]) -> None:
    """Assert that `result` says what `events` say."""
    first, last = events[0], events[-1]
    assert isinstance(first, RunStarted)
    assert isinstance(last, RunFinished)
    assert result.run_id == first.run_id
    assert result.status == last.status
    assert result.counts == counts_of(events)
    types = dict.fromkeys(event.type for event in events if isinstance(event, ItemEnqueued))
    assert result.counts_by_type == {type: counts_of(events, type) for type in types}
    assert list(result.failures) == [event for event in events if isinstance(event, ItemFailed)][:1_000]
    check_failure_groups(result, events)
    reasons = [event.reason for event in events if isinstance(event, RunStopping)]
    assert result.stop_reason == (reasons[0] if reasons else "")
    assert result.elapsed_s >= last.at - first.at
    # The engine counts, since a run without a listener makes no events; a fold of the events must give the same counts.
    folded, view = FoldedResult(), RunView()
    folded.apply(events)
    view.apply(events)
    parts = {name: getattr(result, name) for name in ("root_results", "elapsed_s", "journal")}
    assert msgspec.structs.replace(folded.result(view), **parts) == result
