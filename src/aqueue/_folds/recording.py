"""Folds a journal's events into the items that are still live, with all that a resume needs to know of them.

The fold looks at no class and no payload, so it works however the program has changed. A live item is one that is
outstanding, or waits for a descendant or for its hook. Other items are forgotten as soon as they have ended, so that a long
run takes little memory, except one number if the parent will run again and enqueue the item again.
"""

from array import array
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from aqueue import events as ev
from aqueue._codec.class_names import type_name
from aqueue._codec.digests import KeySet
from aqueue._folds.crashes import Crashes
from aqueue.errors import PoisonItem
from aqueue.events import NO_DATA, Event, ItemCompleted, ItemDescribed, ItemEnqueued, ItemStarted, Phase

__all__ = ["POISON", "ROOT", "RecordedItem", "Recording"]

ROOT: Final = 0
"""The number that stands for the caller, the parent of the initial items."""


_SWEEP_GROUPS: Final = 1_000

_MAX_GROUPS: Final = 10_000
"""How many names of groups are kept so that items share them."""

POISON: Final = type_name(PoisonItem)
"""The type of the error with which a poison item fails."""


class RecordedItem(msgspec.Struct, gc=False, eq=False):
    """A live item, as recorded.

    Attributes:
        id: its number.
        parent: its parent's number; `ROOT` for an initial item.
        type: its class when it was enqueued.
        enqueued_seq: the number of the event that has its payload.
        track_overall, hook, key, occurrence: see `aqueue.events.ItemEnqueued`.
        completed: whether its `process` has returned.
        state_seq: the number of the event that has its latest state, if that has changed: since it was adopted with
            another one, or by its `process`; else 0.
        running: the phase that a worker runs at the end of the events; None if none does.
        failed: the phase that failed for good; None if none did.
        failed_seq: the number of the event that says so.
        retries: how many attempts at the phase that is next have failed and were to be followed by another.
        due: when that attempt may start, Unix time in seconds; 0.0 if it need not wait.
        delay_s: how long it had to wait from the failure, seconds.
        is_poison: whether it failed with `PoisonItem`, and has neither returned nor raised since.
        attempt: how often its `process` was started.
        hook_attempt: how often its hook was started.
        pending: how many of its children have a subtree that has not ended well.
        closed_over: whether it was closed although a descendant had failed.
        result: what its `process` returned, as JSON.
        results: its children's results by their numbers, if it has a hook.
        closed_children: the numbers of the events that announced those of its children whose subtrees have ended well,
            while its own `process` has not completed.
        has_children: whether it ever had any.
        group: the group in which it was queued last; None without a group.
    """

    id: int
    parent: int
    type: str
    enqueued_seq: int
    track_overall: bool = False
    hook: bool = False
    key: str | None = None
    occurrence: int = 0
    completed: bool = False
    state_seq: int = 0
    running: Phase | None = None
    failed: Phase | None = None
    failed_seq: int = 0
    retries: int = 0
    due: float = 0.0
    delay_s: float = 0.0
    is_poison: bool = False
    attempt: int = 0
    hook_attempt: int = 0
    pending: int = 0
    closed_over: bool = False
    result: msgspec.Raw = NO_DATA
    results: dict[int, msgspec.Raw] | None = None
    closed_children: "array[int] | None" = None
    has_children: bool = False
    group: str | None = None


class Recording:
    """The fold of a journal's events.

    Attributes:
        live: the live items by number, in the order in which they were enqueued; `ROOT` stands for the caller.
        last_id: the number of the item that was enqueued last.
        run_id: identifies the run; empty before its first event.
        last_seq: the number of the last event.
        last_at: when that was, Unix time in seconds.
        elapsed_s: how long the run has taken, without the time between processes.
        finished: the last process's `run.finished`; None if it did not get that far.
        first_ids: the number of the first item that each process enqueued, or would have.
        crashes: which processes ended without `run.finished`, and what was running then.
        root_results: the results of initial items that have ended, by number.
        earlier_results: of live items whose hook has ended and runs again, what holds until then, by number: its result, or
            `NO_DATA` after a failure. Where nothing is there, the result so far is that of `process`.
        keys: all keys that were ever enqueued.
        slowed_down: for each group that was slowed down, when its items may start again, Unix time in seconds, and the
            length of that pause.
    """

    def __init__(self) -> None:
        self.live: dict[int, RecordedItem] = {ROOT: RecordedItem(ROOT, -1, "", 0)}
        self.last_id = 0
        self.run_id = ""
        self.last_seq = 0
        self.last_at = 0.0
        self.elapsed_s = 0.0
        self.finished: ev.RunFinished | None = None
        self.first_ids = array("q")
        self.crashes = Crashes()
        self.root_results: dict[int, msgspec.Raw] = {}
        self.earlier_results: dict[int, msgspec.Raw] = {}
        self.keys = KeySet()
        self._types: dict[str, str] = {}  # one string for all items of a type, not one each
        self._groups: dict[str, str] = {}  # the same for groups
        self.slowed_down: dict[str, tuple[float, float]] = {}
        self._sweep_at = _SWEEP_GROUPS
        self._failed_below: set[int] | None = set()  # the items of which a descendant has failed; None if not known
        self._process_started_at = 0.0
        self._running = self.crashes.running
        self._runs_elsewhere = False  # then `process` can't be the cause if this process crashes

    def apply(self, events: Iterable[Event]) -> None:
        """Fold `events`, which must follow those applied so far."""
        live = self.live
        types, groups = self._types, self._groups
        event: Event | None = None
        for event in events:
            cls = type(event)
            if cls is ItemEnqueued:
                assert isinstance(event, ItemEnqueued)
                item = event.item
                live[item] = RecordedItem(
                    item,
                    event.parent,
                    types.setdefault(event.type, event.type),
                    event.seq,
                    event.track_overall,
                    event.hook,
                    event.key,
                    event.occurrence,
                )
                self.last_id = item
                if event.group is not None:
                    if len(groups) >= _MAX_GROUPS:
                        groups.clear()
                    live[item].group = groups.setdefault(event.group, event.group)
                if event.key is not None:
                    self.keys.add(event.type, event.key)
                parent = live[event.parent]
                parent.pending += 1
                parent.has_children = True
            elif cls is ItemStarted:
                assert isinstance(event, ItemStarted)
                record = live[event.item]
                record.running = event.phase
                record.due = 0.0
                if event.phase == "process":
                    record.attempt = event.attempt
                    if not self._runs_elsewhere:
                        self._running.add(event.item)
                else:
                    record.hook_attempt = event.attempt
                    self._running.add(event.item)
            elif cls is ItemCompleted:
                assert isinstance(event, ItemCompleted)
                self._complete(event)
            elif cls is not ItemDescribed:
                self._apply_rare(event)
            self.last_at = event.at
        if event is not None:
            self.last_seq = event.seq

    def _complete(self, event: ItemCompleted) -> None:
        record = self.live[event.item]
        self._running.discard(event.item)
        record.running = None
        record.completed = True
        record.is_poison = False
        record.retries = 0
        record.result = event.result
        if event.payload is not NO_DATA:
            record.state_seq = event.seq
        record.closed_children = None  # it will not run again, so nobody will enqueue these again
        if not record.hook and not record.has_children:
            self._close(record)
        elif event.result is not NO_DATA:
            record.result = event.result.copy()  # as it is, it would keep all that was read with it

    def _apply_rare(self, event: Event) -> None:
        live = self.live
        match event:
            case ev.RunStarted():  # RunResumed is one
                if isinstance(event, ev.RunResumed):
                    self._end_process()
                    self._failed_below = None  # what failed may run again
                self.first_ids.append(self.last_id + 1)
                self.run_id = event.run_id
                self.finished = None
                self._process_started_at = event.at
                self._runs_elsewhere = bool(event.cluster)
            case ev.ItemChildrenProcessed():
                self._end_hook(event)
            case ev.ItemChildrenFailed():
                live[event.item].closed_over = True
            case ev.ItemFailed():
                self._fail(event)
            case ev.ItemInterrupted():
                live[event.item].running = None
                if event.reason != "crash":
                    self._running.discard(event.item)
            case ev.ItemRetryScheduled():
                record = live[event.item]
                self._running.discard(event.item)
                record.running = None
                record.is_poison = False
                record.retries += 1
                record.due = event.due
                record.delay_s = event.due - event.at
            case ev.ItemAdopted() | ev.ItemRegrouped() | ev.ItemReopened():
                self._change(event)
            case ev.GroupSlowedDown():
                self._slow_down(event)
            case ev.RunFinished():
                self.finished = event
                self.elapsed_s += event.at - self._process_started_at
                self.crashes.finish()
            case _:
                pass

    def _change(self, event: ev.ItemAdopted | ev.ItemRegrouped | ev.ItemReopened) -> None:
        if isinstance(event, ev.ItemAdopted):
            if event.item in self.live and event.payload is not NO_DATA:  # it may have ended
                self.live[event.item].state_seq = event.seq
            if event.key is not None:
                self.keys.add(event.type, event.key)
        elif isinstance(event, ev.ItemRegrouped):
            self.live[event.item].group = event.group
        else:
            record = self.live[event.item]
            record.failed = None
            record.closed_over = False
            self._failed_below = None

    def _end_hook(self, event: ev.ItemChildrenProcessed) -> None:
        record = self.live[event.item]
        self._running.discard(event.item)
        record.running = None
        record.is_poison = False
        record.retries = 0
        self.earlier_results.pop(event.item, None)
        if event.item in self._with_failure_below():
            record.closed_over = True  # its hook will run again
            if event.result is not NO_DATA:
                self.earlier_results[event.item] = event.result
            return
        if event.result is not NO_DATA:
            record.result = event.result
        self._close(record)

    def _fail(self, event: ev.ItemFailed) -> None:
        record = self.live[event.item]
        self._running.discard(event.item)
        record.running = None
        record.failed = event.phase
        record.failed_seq = event.seq
        record.retries = 0
        record.is_poison = event.error.type == POISON
        if event.phase == "after_children":
            self.earlier_results[event.item] = NO_DATA
        self._add_ancestors(record.parent, self._with_failure_below())

    def end(self) -> None:
        """Note that no more events follow: if the last process has not finished, it has crashed."""
        if self.run_id:
            self._end_process()

    def _end_process(self) -> None:
        if self.finished is not None:
            return
        self.elapsed_s += self.last_at - self._process_started_at
        self.crashes.crash()

    def _with_failure_below(self) -> set[int]:
        """Return the items of which a descendant has failed and was not reopened."""
        if self._failed_below is None:
            self._failed_below = set()
            for record in self.live.values():
                if record.failed is not None:
                    self._add_ancestors(record.parent, self._failed_below)
        return self._failed_below

    def _add_ancestors(self, item: int, failed_below: set[int]) -> None:
        # Stops at the first that knows: each item is marked once.
        while item != ROOT and item not in failed_below:
            failed_below.add(item)
            item = self.live[item].parent

    def _slow_down(self, event: ev.GroupSlowedDown) -> None:
        slowed = self.slowed_down
        if event.due >= slowed.get(event.group, (0.0, 0.0))[0]:
            slowed[event.group] = event.due, event.due - event.at
        if len(slowed) >= self._sweep_at:
            for group in [group for group, (due, _) in slowed.items() if due <= event.at]:
                del slowed[group]
            self._sweep_at = max(_SWEEP_GROUPS, 2 * len(slowed))

    def _close(self, record: RecordedItem) -> None:
        """Forget `record`, whose subtree has ended well, after passing its result to its parent."""
        parent = self.live[record.parent]
        parent.pending -= 1
        if record.result is not NO_DATA:
            if parent.id == ROOT:
                self.root_results[record.id] = record.result.copy()
            elif parent.hook:
                if parent.results is None:
                    parent.results = {}
                parent.results[record.id] = record.result.copy()
        del self.live[record.id]
        if not parent.completed:
            if parent.closed_children is None:
                parent.closed_children = array("q")
            parent.closed_children.append(record.enqueued_seq)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Recording):
            return NotImplemented
        return self._state() == other._state()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def _state(self) -> dict[str, Any]:
        state = dict(vars(self))
        del state["_groups"]  # says nothing about the run
        state["live"] = [msgspec.structs.astuple(record) for record in self.live.values()]
        return state
