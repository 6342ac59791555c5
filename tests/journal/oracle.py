"""What must hold for the events of a journal, over all processes of its run, checked by the plainest means."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from aqueue._codec.class_names import defined_items, type_name
from aqueue._folds.recording import RecordedRun
from aqueue._folds.snapshot import Folds, parts_of, restored
from aqueue._stream.error_info import CANCELLED
from aqueue.events import (
    Counts,
    ErrorInfo,
    Event,
    GroupLimitChanged,
    GroupPaused,
    GroupSlowedDown,
    GroupUnpaused,
    ItemAdopted,
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
    RunEdited,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    RunSteered,
    RunStopping,
    RunUnpaused,
    RunWorkersChanged,
)
from aqueue.retry import Retry
from aqueue.view import RunView

__all__ = ["Story", "check_left", "told_by"]

CLOCKS_S = 0.005
"""How far the loop's clock, by which items wait, and that of the events may be apart, seconds."""


class Story:
    """What the events of a journal tell, each checked for whether it may come where it comes.

    Attributes:
        enqueued: each item's announcement, by its number.
        payloads: each item's latest state, by its number.
        state: ``waits``, ``process``, ``failed``, ``completed``, ``hook``, ``hook failed``, ``closed`` or ``closed over``.
        attempts: the last attempt at each item, by its number and phase.
        results: each item's result as of the last round that has ended, as JSON; empty for none.
        of_process: what the `process` of each item returned last, or what it was skipped with, as JSON; empty for none.
        completions: how often each item completed since it was enqueued or was to run again.
        skipped: the items that are skipped; their state is ``completed``, ``closed`` or ``closed over``.
        cancelled: the items that were cancelled while they ran, and have not ended since.
        by_person: the items whose last failure was that a person cancelled them.
        hooks: how often the hook of each item was recorded as done since it was last reopened.
        reopened: how often each item was reopened.
        failed: how many attempts at each item have failed since it was enqueued or reopened, by its number and phase.
        processes: how many processes there were.
    """

    def __init__(
        self,
        events: Sequence[Event],
        group_of: Callable[[ItemEnqueued], str | None] = lambda _: None,
        *,
        follows_clock: bool = True,
    ) -> None:
        self.events = events
        self._early_s = CLOCKS_S if follows_clock else float("inf")
        self.enqueued: dict[int, ItemEnqueued] = {}
        self.payloads: dict[int, bytes] = {}
        self.state: dict[int, str] = {}
        self.groups: dict[int, str | None] = {}
        self.attempts: dict[tuple[int, str], int] = {}
        self.results: dict[int, bytes] = {}
        self.of_process: dict[int, bytes] = {}
        self.completions: Counter[int] = Counter()
        self.skipped: set[int] = set()
        self.cancelled: set[int] = set()
        self.by_person: set[int] = set()
        self.hooks: Counter[int] = Counter()
        self.reopened: Counter[int] = Counter()
        self.failed: Counter[tuple[int, str]] = Counter()
        self.interrupted = 0
        self.retried = 0
        self.deduplicated = 0
        self.deduplicated_roots = 0
        self.processes = 0
        self._workers: dict[int, ItemStarted] = {}
        self._due: dict[int, float] = {}
        self._group_of = group_of
        self._paused: dict[str | None, float] = {}
        self._is_paused = False
        self._most_workers = float("inf")
        self._changed_workers: RunWorkersChanged | None = None
        self._changed_limits: dict[str | None, GroupLimitChanged] = {}
        self._paused_groups: set[str | None] = set()
        self._to_be_reopened: set[int] = set()  # before anything else happens
        self._to_be_skipped = 0
        self._is_edited = False
        self._is_stopping = False
        self._item_keys: dict[int, str | None] = {}
        self._policies = {type_name(cls): getattr(cls, "retry", None) for cls in defined_items()}
        self._identities: set[Any] = set()
        self._keys: set[tuple[str, str]] = set()
        self._finished = False
        self._may_start = False
        assert [event.seq for event in events] == list(range(1, len(events) + 1)), "the numbers have a gap"
        for before, after in pairwise(events):
            assert before.at <= after.at, f"time goes back from {before} to {after}"
        for event in events:
            try:
                self._tell(event)
            except AssertionError as error:
                error.add_note(f"at {event}")
                raise

    def _tell(self, event: Event) -> None:  # noqa: C901, PLR0912, PLR0915  # a case for each type of event
        assert not self._finished or isinstance(event, RunResumed | RunEdited), "something follows the end"
        is_cut = isinstance(event, RunResumed | RunEdited)  # a crash has come between the two
        assert not self._to_be_skipped or is_cut or isinstance(event, ItemSkipped), "it was to be skipped"
        if event.event.startswith("item.") and not isinstance(event, ItemReopened | ItemInterrupted):
            reopened = {one for one in self._to_be_reopened if self.state[one] == "closed over"}
            assert not reopened, f"{reopened} must be reopened"
            self._to_be_reopened.clear()
        match event:
            case RunStarted():
                self._is_edited = self._is_stopping = False
                self._to_be_skipped = 0
                assert isinstance(event, RunResumed) == (event.seq > 1)
                self.processes += 1
                self._finished = False
                self.deduplicated_roots = 0
                changed = self._changed_workers
                if changed is not None and (event.cluster or event.num_workers != changed.program):
                    changed = self._changed_workers = None
                passed = float("inf") if event.cluster else event.num_workers
                self._most_workers = passed if changed is None else changed.num_workers
            case RunFinished():
                assert not self._workers
                dropped = event.counts.deduplicated - self.deduplicated  # of the initial items
                assert dropped >= 0
                assert event.counts == msgspec.structs.replace(self.counts, deduplicated=event.counts.deduplicated)
                self.deduplicated_roots = dropped
                self._finished = True
            case RunEdited():
                self._finished, self._is_edited = False, True
                self._to_be_skipped = 0
                self._to_be_skipped = 0
            case RunStopping():
                self._is_stopping = True
            case RunPaused() | RunUnpaused():
                self._is_paused = isinstance(event, RunPaused)
            case GroupPaused():
                self._paused_groups.add(event.group)
            case GroupUnpaused():
                self._paused_groups.remove(event.group)
            case RunWorkersChanged():
                self._changed_workers = event
                self._most_workers = event.num_workers
            case GroupLimitChanged():
                self._changed_limits[event.group] = event
            case ItemEnqueued():
                self._enqueue(event)
            case ItemAdopted():
                self._adopt(event)
            case ItemStarted():
                self._start(event)
            case ItemDescribed():
                assert self._workers[event.worker].item == event.item
            case ItemCompleted():
                self._end(event, "process")
                assert self.state[event.item] == "process"
                self.cancelled.discard(event.item)
                self.completions[event.item] += 1
                assert self.completions[event.item] == 1, "completed twice"
                self.deduplicated += event.deduplicated
                self.results[event.item] = self.of_process[event.item] = bytes(event.result)
                self.payloads[event.item] = bytes(event.payload) or self.payloads[event.item]
                self.state[event.item] = "completed"
                if not self.enqueued[event.item].hook and not self.children(event.item):
                    self.state[event.item] = "closed"
            case ItemFailed():
                (self.by_person.add if event.error.type == CANCELLED else self.by_person.discard)(event.item)
                if event.worker:
                    self._end(event, event.phase)
                    if event.item not in self.cancelled:
                        self._count_failure(event.item, event.phase, event.error, is_last=True)
                else:
                    assert self.state[event.item] == ("waits" if event.phase == "process" else "completed")
                    assert event.attempt == self.attempts.get((event.item, event.phase), 0) + 1
                    self._due.pop(event.item, None)
                self.cancelled.discard(event.item)
                self.deduplicated += event.deduplicated
                self.state[event.item] = "failed" if event.phase == "process" else "hook failed"
                self.results[event.item] = b""
            case ItemCancelled():
                assert self.state[event.item] in ("process", "hook")
                self.cancelled.add(event.item)
            case ItemSkipped():
                self._skip(event)
            case ItemRescheduled():
                assert event.type == self.enqueued[event.item].type
                assert event.item in self._due
                assert event.due >= event.at
                self._due[event.item] = event.due
            case ItemInterrupted():
                self._to_be_skipped = event.item if event.reason == "skipped" else 0
                self._end(event, event.phase)
                self.interrupted += 1
                self.state[event.item] = "waits" if event.phase == "process" else "completed"
            case ItemRetryScheduled():
                self._end(event, event.phase)
                self.retried += 1
                assert event.due >= event.at
                self._count_failure(event.item, event.phase, event.error, is_last=False)
                self._due[event.item] = event.due
                self.state[event.item] = "waits" if event.phase == "process" else "completed"
            case ItemReopened():
                self._reopen(event)
            case ItemRegrouped():
                assert self.state[event.item] == "waits"
                assert event.group != self.groups[event.item]
                self.groups[event.item] = event.group
            case GroupSlowedDown():
                assert event.item == 0 or self.state[event.item] in ("process", "hook")
                self._paused[event.group] = max(event.due, self._paused.get(event.group, 0.0))
            case ItemChildrenProcessed() | ItemChildrenFailed():
                self._close(event)
            case _:
                pass

    def _enqueue(self, event: ItemEnqueued) -> None:
        assert event.item == len(self.enqueued) + 1
        self.groups[event.item] = event.group
        assert event.parent == 0 or self.state[event.parent] == "process"
        identity: Any = (event.parent, event.type, bytes(event.payload), event.occurrence)
        if event.key is not None:
            identity = (event.type, event.key)
        assert identity not in self._identities, "announced twice"
        self._identities.add(identity)
        self.enqueued[event.item] = event
        self.payloads[event.item] = bytes(event.payload)
        self.state[event.item] = "waits"
        self._check_open_above(event.item)

    def _reopen(self, event: ItemReopened) -> None:
        item, before = event.item, self.state[event.item]
        enqueued = self.enqueued[item]
        assert event.type == enqueued.type
        assert event.skipped == (item in self.skipped)
        assert (event.ended is not None) == (before == "closed"), "what has ended is described, and nothing else"
        self.reopened[item] += 1
        self.hooks[item] = 0
        if event.ended is not None:
            told = event.ended
            assert (told.parent, told.enqueued_seq, told.hook) == (enqueued.parent, enqueued.seq, enqueued.hook)
            assert (told.track_overall, told.occurrence) == (enqueued.track_overall, enqueued.occurrence)
            assert told.key == self.key(item)
            assert told.has_children == bool(self.children(item))
            assert told.attempt == self.attempts.get((item, "process"), 0)
            assert told.hook_attempt == self.attempts.get((item, "after_children"), 0)
            assert bytes(event.result) == (b"" if event.rerun else self.of_process[item])
            assert enqueued.parent == 0 or self.state[enqueued.parent] not in ("closed", "closed over")
        failed = {"failed": "process", "hook failed": "after_children"}.get(before)
        if event.rerun:
            assert event.failed == failed
            assert before in ("completed", "closed", "closed over", "hook failed")
            self.skipped.discard(item)
            self.cancelled.discard(item)
            self._due.pop(item, None)
            self.completions[item] = 0
            self.state[item] = "waits"
            self.failed[item, "process"] = self.failed[item, "after_children"] = 0
        elif event.failed is not None:
            assert event.failed == failed
            self.state[item] = "waits" if failed == "process" else "completed"
            self.failed[item, event.failed] = 0
        else:
            assert before in ("closed", "closed over") or (before == "completed" and enqueued.hook)
            self._due.pop(item, None)
            self.state[item] = "completed"
            self.failed[item, "after_children"] = 0
        if failed is not None:
            self._to_be_reopened.update(self.above(item))

    def _skip(self, event: ItemSkipped) -> None:
        item = event.item
        assert event.type == self.enqueued[item].type
        self._to_be_skipped = 0
        if event.phase == "process":
            assert self.state[item] == ("failed" if event.had_failed else "waits")
        else:
            assert self.state[item] == ("hook failed" if event.had_failed else "completed")
            assert self.enqueued[item].hook
            # What had completed below a hook that has failed may run again meanwhile.
            assert event.had_failed or all(
                self.state[below] not in ("waits", "process", "hook") for below in self.below(item)
            )
        assert item not in self.skipped
        self.skipped.add(item)
        self.cancelled.discard(item)
        self._due.pop(item, None)
        self.results[item] = self.of_process[item] = bytes(event.result)
        self.state[item] = "completed" if self.children(item) else "closed"
        if event.had_failed:
            self._to_be_reopened.update(self.above(item))

    def key(self, item: int) -> str | None:
        """Return the key of `item`, perhaps added when it was adopted; None if it has none."""
        return self._item_keys.get(item, self.enqueued[item].key)

    def above(self, item: int) -> list[int]:
        """Return the numbers of all ancestors of `item`, the deepest first."""
        found = []
        while item := self.enqueued[item].parent:
            found.append(item)
        return found

    def _adopt(self, event: ItemAdopted) -> None:
        enqueued = self.enqueued[event.item]
        assert self.processes > 1 or self.reopened[event.item], "nothing is recorded before the first process"
        assert enqueued.parent == 0 or self.state[enqueued.parent] == "process"
        if event.key is not None:
            assert (event.type, event.key) not in self._keys, "the key was known"
            assert enqueued.key is None, "with another key it is another item"
            self._keys.add((event.type, event.key))
            self._item_keys[event.item] = event.key
        if not event.payload:
            assert event.key is not None, "nothing has changed"
            return
        assert event.type == enqueued.type
        assert self.state[event.item] == "waits"
        assert event.key is not None or bytes(event.payload) != self.payloads[event.item], "nothing has changed"
        self.payloads[event.item] = bytes(event.payload)

    def _start(self, event: ItemStarted) -> None:
        assert not self._is_paused, "the run is paused"
        assert not self._is_edited, "no process is there"
        assert event.item not in self.cancelled, "it was cancelled"
        if event.phase == "process":
            group = self.groups[event.item]
            assert group not in self._paused_groups, "its group is paused"
            limit = self._changed_limits.get(group)
            running = sum(self.groups[one.item] == group for one in self._workers.values() if one.phase == "process")
            assert limit is None or limit.concurrent is None or running < limit.concurrent, "its group is at its limit"
        else:
            assert event.item not in self.skipped, "the hook of a skipped item doesn't run"
        assert event.worker not in self._workers
        # In a run that stops, a worker that retires still runs the hook of its last item: no other worker would.
        is_last_hook = self._is_stopping and event.phase == "after_children"
        assert event.worker <= self._most_workers or is_last_hook, "there are fewer workers"
        assert event.type == self.enqueued[event.item].type
        self._workers[event.worker] = event
        before = self.attempts.get((event.item, event.phase), 0)
        assert event.attempt == before + 1
        assert event.at >= self._due.pop(event.item, 0.0) - self._early_s, "tried again too early"
        self.attempts[event.item, event.phase] = event.attempt
        if event.phase == "process":
            assert self.state[event.item] == "waits"
            group = self._group_of(self.enqueued[event.item])
            assert group is None or event.at >= self._paused.get(group, 0.0) - self._early_s, (
                f"{group} was told to pause"
            )
            self.state[event.item] = "process"
        else:
            assert self.state[event.item] == "completed"
            for below in self.below(event.item):
                allowed = {"closed", "closed over", "failed", "hook failed"}
                assert self.state[below] in allowed, f"the hook begins before item {below} has ended"
            self.state[event.item] = "hook"
        self._check_open_above(event.item)

    def _count_failure(self, item: int, phase: str, error: ErrorInfo, *, is_last: bool) -> None:
        """Check that after an attempt that failed there is another if, and only if, the policy allows it."""
        self.failed[item, phase] += 1
        failed = self.failed[item, phase]
        policy = self._policies.get(self.enqueued[item].type)
        allowed = (policy or Retry()).attempts
        assert failed <= allowed, f"{failed} attempts, {allowed} are allowed"
        if not is_last:
            assert failed < allowed, "tried again after the last attempt"
        elif policy is not None and policy.on == (Exception,) and not error.type.startswith("aqueue.errors:"):
            assert failed == allowed, f"failed for good after {failed} attempts, {allowed} are allowed"

    def _check_open_above(self, item: int) -> None:
        above = self.enqueued[item].parent
        while above:
            assert self.state[above] in ("waits", "process", "failed", "hook failed", "completed"), (
                f"item {above} is {self.state[above]}"
            )
            above = self.enqueued[above].parent

    def _end(self, event: Any, phase: str) -> None:
        started = self._workers.pop(event.worker)
        assert (started.item, started.phase, started.attempt) == (event.item, phase, event.attempt)

    def _close(self, event: ItemChildrenProcessed | ItemChildrenFailed) -> None:
        item = event.item
        assert event.type == self.enqueued[item].type
        below = [self.state[one] for one in self.below(item)]
        good = all(state == "closed" for state in below)
        assert all(state in ("closed", "closed over", "failed", "hook failed") for state in below)
        self.cancelled.discard(item)
        if self.state[item] == "hook":
            assert isinstance(event, ItemChildrenProcessed)
            started = self._workers.pop(event.worker)
            assert (started.item, started.phase) == (item, "after_children")
            self.hooks[item] += 1
            assert self.hooks[item] == 1, "its hook was done twice"
            self.failed[item, "after_children"] = 0  # if it is done again, for it was done over failures, that is anew
            self.results[item] = bytes(event.result) or self.of_process[item]
        else:
            assert self.state[item] == "completed"
            assert isinstance(event, ItemChildrenProcessed) == good
            assert not getattr(event, "worker", 0), "without a hook"
        self.state[item] = "closed" if good else "closed over"
        self._check_open_above(item)

    def children(self, item: int) -> list[int]:
        """Return the numbers of the children of `item`."""
        return [one for one, event in self.enqueued.items() if event.parent == item]

    def below(self, item: int) -> list[int]:
        """Return the numbers of all descendants of `item`."""
        found = set()
        for one, event in self.enqueued.items():  # parents come before their children
            if event.parent == item or event.parent in found:
                found.add(one)
        return sorted(found)

    @property
    def counts(self) -> Counts:
        """What the items came to, counted one by one."""
        states = Counter(state for item, state in self.state.items() if item not in self.skipped)
        failed = states["failed"] + states["hook failed"]
        completed = states["completed"] + states["hook"] + states["closed"] + states["closed over"]
        dropped = self.deduplicated + self.deduplicated_roots
        skipped = len(self.skipped)
        return Counts(len(self.state), completed, failed, self.interrupted, dropped, self.retried, skipped)

    def path(self, item: int) -> tuple[Any, ...]:
        """Return what tells `item` from all others of its job, in every run of that job."""
        event = self.enqueued[item]
        if event.key is not None:
            return ((event.type, event.key),)
        above = self.path(event.parent) if event.parent else ()
        return (*above, (event.type, bytes(event.payload), event.occurrence))

    def ended_well(self) -> set[Any]:
        """Return the paths of all items, each with whether its hook was done and with its result; all must be closed."""
        assert set(self.state.values()) <= {"closed"}, self.state
        return {(self.path(item), self.hooks[item], self.results.get(item, b"")) for item in self.enqueued}

    def root_results(self) -> list[bytes]:
        """Return the results of the initial items."""
        return [self.results.get(item, b"") for item in self.children(0)]


def check_left(before: Story, after: Story, runs_again: Callable[[str], object], *, to_the_end: bool) -> None:
    """Assert that what had failed and was not to run again was left as it was, and that all else was tried.

    Parameters:
        before: what there was before a process went on.
        after: what there was after it.
        runs_again: tells of the name of a class whether failed items of it were to run again.
        to_the_end: whether that process ended by itself, not stopped by a failure.
    """
    failed = {item for item, state in before.state.items() if state in ("failed", "hook failed")} | before.cancelled
    left = {item for item in failed if item in before.by_person or not runs_again(before.enqueued[item].type)}
    left |= before.cancelled
    for event in after.events[len(before.events) :]:
        if isinstance(event, RunSteered):  # a person may have them run again
            break
        if isinstance(event, ItemStarted | ItemReopened):
            assert event.item not in left, f"it had failed and was not to run again: {event}"
    if to_the_end:
        tried = {event.item for event in after.events[len(before.events) :] if isinstance(event, ItemStarted)}
        ended = {"closed", "closed over", "failed", "hook failed"}
        for item, state in after.state.items():
            assert state in ended, f"item {item} {state} after the end"
        waited = {item for item, state in before.state.items() if state == "waits"}
        not_tried = (failed - left | waited) - tried - after.skipped - after.by_person
        # The hook of an item whose hook had failed isn't run over a child that ran again, was cancelled and stays failed.
        not_tried = {item for item in not_tried if left.isdisjoint(after.below(item))}
        assert not not_tried, f"not run: {not_tried}"


def told_by(
    events: Sequence[Event],
    group_of: Callable[[ItemEnqueued], str | None] = lambda _: None,
    *,
    follows_clock: bool = True,
) -> Story:
    """Return what `events` tell; assert all that must hold for them, folds included.

    Parameters:
        group_of: tells the group of an item, by its announcement.
        follows_clock: whether the loop goes by the clock that the events go by; not so with a mock clock.
    """
    story = Story(events, group_of, follows_clock=follows_clock)
    view, parts = RunView(), RunView()
    view.apply(events)
    for event in events:
        parts.apply([event])
    assert view == parts
    assert view.counts == story.counts
    whole, cut = Folds(), Folds()
    whole.apply(events)
    half = len(events) // 2
    cut.apply(events[:half])
    again = restored(parts_of(cut))
    assert again is not None
    for folds in (cut, again):
        folds.apply(events[half:])
        assert folds.recording == whole.recording
        assert folds.recording.at_end() == whole.recording.at_end()
        assert folds.view == view
    recorded = whole.recording.at_end()
    assert (set(recorded.cancelled), recorded.in_force) == (story.cancelled, view.in_force)
    closed = {item for item, state in story.state.items() if state == "closed"}
    assert set(recorded.live) == {0, *story.enqueued} - closed, (
        "the recording keeps what has ended, or forgets what has not"
    )
    for number, record in recorded.live.items():
        if number in recorded.forgotten_below:
            continue
        ended = (
            []
            if record.completed
            else sorted(story.enqueued[one].seq for one in story.children(number) if one in closed)
        )
        assert sorted(record.closed_children or ()) == ended, "an ended child of a parent that runs again is forgotten"
    _check_live(recorded, story, closed)
    return story


def _check_live(recording: RecordedRun, story: Story, closed: set[int]) -> None:
    """Assert what a recording says of the items that are live, and of the results of ended ones."""

    def result_at(seq: int) -> bytes:
        return bytes(story.events[seq - 1].result) if seq else b""  # type: ignore[attr-defined]  # it has one

    for number, record in recording.live.items():
        children = story.children(number)
        assert record.pending == sum(child not in closed for child in children)
        assert record.has_children == bool(children)
        if number == 0:
            continue
        state = story.state[number]
        assert record.completed == (state in ("completed", "hook", "hook failed", "closed over"))
        assert record.skipped == (number in story.skipped)
        assert record.failed == {"failed": "process", "hook failed": "after_children"}.get(state)
        assert record.running == {"process": "process", "hook": "after_children"}.get(state)
        assert record.closed_over == (state == "closed over")
        assert record.attempt == story.attempts.get((number, "process"), 0)
        assert record.hook_attempt == story.attempts.get((number, "after_children"), 0)
        if record.parent == 0 and number not in recording.forgotten_below:
            so_far = recording.earlier_results.get(number, record.result_seq)
            assert result_at(so_far) == story.results.get(number, b"")
        if record.hook and number not in recording.forgotten_below:
            expected = {child: result for child in children if child in closed and (result := story.results[child])}
            assert {child: result_at(seq) for child, seq in (record.results or {}).items()} == expected
    roots = {child: result for child in story.children(0) if child in closed and (result := story.results[child])}
    assert {root: result_at(seq) for root, seq in recording.root_results.items()} == roots
