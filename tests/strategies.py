"""Hypothesis strategies that several tests share: hostile text, single events, and whole runs as streams of events."""

from random import Random
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import Raw

from aqueue.events import (
    EVENT_TYPES,
    NO_DATA,
    SCHEMA_VERSION,
    Counts,
    EndedItem,
    ErrorInfo,
    Event,
    GroupLimit,
    GroupLimitChanged,
    GroupLimitKnown,
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
    LoopBlocked,
    Phase,
    ProcessJoined,
    ProcessLeft,
    ReporterFailed,
    RunEdited,
    RunFinished,
    RunHeldUp,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStatus,
    RunSteered,
    RunStopping,
    RunUnpaused,
    RunWorkersChanged,
)
from aqueue.testing import _scripted_runs as scripted

__all__ = [
    "SCRIPTED_RUNS",
    "as_in_older_logs",
    "encodable_text",
    "event_streams",
    "events",
    "hostile_text",
    "long_hostile_text",
]

SCRIPTED_RUNS: list[list[Event]] = [
    scripted.completed(5),
    scripted.every_event_type(),
    scripted.interrupted(),
    scripted.with_failures(5),
    scripted.resumed(),
    scripted.with_retries(4),
    scripted.with_workers(6),
    scripted.on_a_cluster(3, 2),
]
"""Made-up runs in which all happens that a run can do, for tests of what folds events."""

encodable_text = st.text(st.characters(exclude_categories=["Cs"]))
"""Any text that UTF-8 can carry."""

_fragments = st.sampled_from(
    [
        "\x1b", "\x1b[", "\x1b[2J", "\x1b[31m", "\x1b[5;35;45m", "\x1b[0m", "\x1b[1A", "\x1b[?25l", "\x1b]52;c;ZXZpbA==\x07",
        "\x1b]8;;http://x\x1b\\", "\x1bP", "\x9b2J", "\x9d0;t\x9c", "\x85", "\u2028", "\u2029", "\u202e", "\u2066",
        "\u200f", "\ud800", "\udfff", "\ud83d\ude00", "[/red]", "[bold]", "[link=x]", "\\", "\\[", "{0}", "%s", "\n",
        "\r", "\r\n", "\t", "\x00", "\x08", "\x7f", "\ufeff", "\u200d", "漢", "\u3000", "e\u0301", '"', "'", " ",
    ]
)  # fmt: skip
_any_text = st.text(st.characters())  # lone surrogates, too

hostile_text = st.lists(st.one_of(_fragments, _any_text), max_size=8).map("".join)
"""Text that is after the terminal or the log line."""

long_hostile_text = st.builds(
    lambda fragment, text: (fragment + text) * (1_000_000 // len(fragment + text)), _fragments, _any_text
)
"""The same, about a million characters long."""

_numbers = st.integers(0, 2**53)
_seconds = st.floats(0, 4e9, allow_nan=False)
_errors = st.builds(ErrorInfo, encodable_text, encodable_text, encodable_text)
_by_annotation: dict[Any, st.SearchStrategy[Any]] = {
    int: _numbers,
    float: _seconds,
    bool: st.booleans(),
    str: encodable_text,
    str | None: st.none() | encodable_text,
    int | None: st.none() | _numbers,
    float | None: st.none() | _seconds,
    Phase: st.sampled_from(["process", "after_children"]),
    Phase | None: st.none() | st.sampled_from(["process", "after_children"]),
    RunStatus: st.sampled_from(["completed", "failed", "interrupted"]),
    Raw: st.just(NO_DATA) | st.sampled_from([b"null", b"[1,2]", b'{"a":"\xc3\xa9"}', b'"x"', b"0"]).map(Raw),
    ErrorInfo: _errors,
    Counts: st.builds(Counts, *[_numbers] * 7),
    EndedItem | None: st.none() | st.builds(EndedItem, *[_numbers] * 3, key=st.none() | encodable_text),
    GroupLimit | None: st.none() | st.builds(GroupLimit, st.none() | _numbers, st.none() | _seconds),
    ProcessLeft.__annotations__["reason"]: st.sampled_from(["left", "lost"]),
    ItemInterrupted.__annotations__["reason"]: st.sampled_from(["cancelled", "crash", "worker_lost", "skipped"]),
}


def _events_of(cls: type[Event]) -> st.SearchStrategy[Event]:
    return st.builds(cls, **{field.name: _by_annotation[field.type] for field in msgspec.structs.fields(cls)})


events = st.sampled_from(list(EVENT_TYPES.values())).flatmap(_events_of)
"""Any event that UTF-8 can carry, legal in its place or not."""


class _Item:
    """An item of a made-up run.

    Attributes:
        open_parts: its own `process`, if that has not ended, and each child whose subtree has not.
        state: ``ready``, ``running``, ``open`` (its `process` has ended), ``failed``; ``closed`` or ``over`` once its subtree
            has ended, well or not, unless it has failed.
        phase: what runs, is to run or has failed.
        due: when it may be tried again, while it waits for that.
    """

    def __init__(self, number: int, type: str, parent: "_Item | None", seq: int, *, hook: bool) -> None:
        self.number = number
        self.type = type
        self.parent = parent
        self.seq = seq
        self.state_seq = 0
        self.hook = hook
        self.track_overall = False
        self.occurrence = 0
        self.children: list[_Item] = []
        self.open_parts = 1
        self.attempts: dict[Phase, int] = {"process": 0, "after_children": 0}
        self.tries = 0  # since it was enqueued or reopened
        self.phase: Phase = "process"
        self.state = "ready"
        self.has_ended = False
        self.is_skipped = False
        self.is_cancelled = False
        self.due: float | None = None
        self.group: str | None = None
        self.result = NO_DATA

    @property
    def is_closed(self) -> bool:
        return self.state == "closed"

    @property
    def waits_for_hook(self) -> bool:
        return self.state == "ready" and self.phase == "after_children"

    @property
    def ancestors(self) -> "list[_Item]":
        return [] if self.parent is None else [self.parent, *self.parent.ancestors]

    def has_failure_below(self) -> bool:
        return any(child.state == "failed" or child.has_failure_below() for child in self.children)


class _Simulation:
    """Makes up a run, a step at a time, and writes down its events. People steer it, while it runs and in between."""

    def __init__(self, random: Random, types: list[str], text: str) -> None:
        self.random = random
        self.types = types
        self.text = text
        self.events: list[Event] = []
        self.at = 1_700_000_000.0
        self.program = random.randint(1, 4)
        self.changed_workers: int | None = None
        self.on_cluster = False
        self.present: dict[int, int] = {}  # how many workers each process has, by the number of its first
        self.items: list[_Item] = []
        self.tally = {"interrupted": 0, "deduplicated": 0, "retried": 0}
        self.running: dict[int, _Item] = {}
        self.stopping = False
        self.is_paused = False
        self.paused_groups: set[str | None] = set()
        self.single_groups: set[str | None] = set()  # a person lets one item of them run at a time

    def add(self, cls: type[Event], **fields: Any) -> None:
        self.at += self.random.choice((0.0, 0.0, 0.001, 0.3, 2.0, 40.0))
        self.events.append(cls(seq=len(self.events) + 1, at=self.at, **fields))

    def add_of(self, cls: type[Event], item: _Item, **fields: Any) -> None:
        self.add(cls, item=item.number, type=item.type, **fields)

    def error(self) -> ErrorInfo:
        return ErrorInfo(self.text, self.text, self.text)

    def choose(self, items: "list[_Item]") -> _Item | None:
        return self.random.choice(items) if items else None

    def begin(self, cls: type[RunStarted]) -> None:
        self.stopping = False
        self.on_cluster = self.random.random() < 0.4
        self.present.clear()
        program, self.program = (
            self.program,
            self.random.choice((self.program, self.program, self.random.randint(1, 4))),
        )
        if self.on_cluster or self.program != program:
            self.changed_workers = None
        self.add(
            cls,
            run_id="run",
            schema_version=SCHEMA_VERSION,
            aqueue_version="0",
            num_workers=self.program,
            queue_type_name="queue",
            pid=1,
            host="host",
            cluster="tcp://scheduler:8786" if self.on_cluster else "",
        )

    def free_workers(self) -> list[int]:
        present = self.present if self.on_cluster else {1: self.changed_workers or self.program}
        return [w for first, count in present.items() for w in range(first, first + count) if w not in self.running]

    def join(self) -> None:
        """Let a worker process join, with the first numbers that neither another has nor a hook that outlasts its own."""
        count = self.random.randint(1, 3)
        taken = {w for first, has in self.present.items() for w in range(first, first + has)} | self.running.keys()
        first = 1
        while not taken.isdisjoint(range(first, first + count)):
            first += 1
        self.present[first] = count
        self.add(ProcessJoined, first_worker=first, num_workers=count, host=self.text, pid=self.random.randint(1, 99))

    def leave(self) -> None:
        """Let a worker process leave, or die: what runs in it is interrupted, but for hooks, which run elsewhere."""
        first = self.random.choice(list(self.present))
        count = self.present.pop(first)
        lost = [w for w, item in self.running.items() if first <= w < first + count and item.phase == "process"]
        told_before = self.random.randint(0, len(lost))
        for worker in lost[:told_before]:
            self.interrupt(worker, "worker_lost")
        reason = self.random.choice(("left", "lost"))
        self.add(ProcessLeft, first_worker=first, reason=reason, ignored=self.random.randrange(3))
        for worker in lost[told_before:]:
            self.interrupt(worker, "worker_lost")

    def interrupt(self, worker: int, reason: str) -> None:
        item = self.running.pop(worker)
        of_attempt = {"item": item.number, "worker": worker, "attempt": item.attempts[item.phase]}
        self.add(ItemInterrupted, phase=item.phase, reason=reason, **of_attempt)
        self.tally["interrupted"] += 1
        item.state = "ready"

    def interrupt_all(self, reason: str) -> None:
        for worker in list(self.running):
            self.interrupt(worker, reason)

    def enqueue(self, parent: _Item | None) -> None:
        kind = self.random.randrange(len(self.types))
        item = _Item(
            len(self.items) + 1, self.types[kind], parent, len(self.events) + 1, hook=self.random.random() < 0.5
        )
        siblings = [one for one in self.items if one.parent is parent]
        item.occurrence = sum(one.type == item.type for one in siblings)
        item.track_overall = kind % 2 == 0
        item.group = self.random.choice((None, None, self.text, "other"))
        if parent is not None:
            parent.children.append(item)
            parent.open_parts += 1
        self.items.append(item)
        self.add_of(
            ItemEnqueued,
            item,
            parent=0 if parent is None else parent.number,
            track_overall=item.track_overall,
            hook=item.hook,
            occurrence=item.occurrence,
            group=item.group,
        )

    def startable(self) -> list[_Item]:
        ready = [item for item in self.items if item.state == "ready" and not item.is_cancelled]
        if self.stopping or self.is_paused or not self.free_workers():
            return []
        at_limit = self.single_groups & {one.group for one in self.running.values() if one.phase == "process"}
        return [item for item in ready if item.phase != "process" or item.group not in self.paused_groups | at_limit]

    def start(self, item: _Item) -> None:
        worker = self.random.choice(self.free_workers())
        item.attempts[item.phase] += 1
        item.state, item.due = "running", None
        self.running[worker] = item
        group = item.group if item.phase == "process" else None
        attempt = item.attempts[item.phase]
        self.add_of(ItemStarted, item, worker=worker, phase=item.phase, attempt=attempt, group=group)

    def end(self, worker: int) -> None:
        item = self.running.pop(worker)
        outcome = self.random.random()
        of_attempt = {"item": item.number, "worker": worker, "attempt": item.attempts[item.phase]}
        if outcome < 0.6:
            item.is_cancelled = False
            item.state = "open"
            result = self.some_result()
            if item.phase == "process":
                dropped = self.random.randrange(3)
                self.tally["deduplicated"] += dropped
                item.result = result
                self.add(ItemCompleted, duration_s=0.1, deduplicated=dropped, result=result, **of_attempt)
                self.close_part(item)
            else:
                self.add_of(ItemChildrenProcessed, item, worker=worker, result=result)
                self.close_subtree(item, "closed")
        elif outcome < 0.8 or item.is_cancelled or item.tries >= 3:
            self.add(ItemFailed, type=item.type, duration_s=0.1, error=self.error(), phase=item.phase, **of_attempt)
            self.fail(item)
        else:
            item.tries += 1
            item.state = "ready"
            item.due = self.at + self.random.choice((0.0, 0.0, 1.0, 7.5, 600.0)) + 40.0
            self.tally["retried"] += 1
            self.add(ItemRetryScheduled, error=self.error(), due=item.due, phase=item.phase, **of_attempt)

    def some_result(self) -> Raw:
        return self.random.choice((NO_DATA, Raw(b"1"), Raw(b'"x"')))

    def fail(self, item: _Item) -> None:
        item.state, item.due, item.is_cancelled = "failed", None, False
        item.result = NO_DATA
        if item.phase == "process":
            self.close_part(item)
        else:
            self.close_subtree(item, "failed")

    def close_part(self, item: _Item) -> None:
        """Note that an item's process, or the subtree of one of its children, has ended."""
        item.open_parts -= 1
        self.close_if_ended(item)

    def close_if_ended(self, item: _Item) -> None:
        if item.open_parts:
            return
        has_failure_below = item.has_failure_below()
        if item.state == "failed":
            self.close_subtree(item, "failed")
        elif has_failure_below:
            self.add_of(ItemChildrenFailed, item)
            self.close_subtree(item, "over")
        elif item.hook and not item.is_skipped:
            item.phase, item.state, item.tries = "after_children", "ready", 0
        else:
            if item.children:
                self.add_of(ItemChildrenProcessed, item)
            self.close_subtree(item, "closed")

    def close_subtree(self, item: _Item, state: str) -> None:
        item.state, item.has_ended = state, True
        if item.parent is not None:
            self.close_part(item.parent)

    # ---- what people do ---------------------------------------------------------------------------------------------

    def steered(self, verb: str) -> None:
        self.add(RunSteered, verb=verb, selector=self.text, count=1, by=self.text)

    def open_above(self, item: _Item) -> list[_Item]:
        """Open the subtree of `item` again, if it had ended; return the ancestors that must be reopened, the deepest first."""
        found = []
        while item.has_ended:
            item.has_ended = False
            if item.parent is None:
                break
            item = item.parent
            item.open_parts += 1
            if item.waits_for_hook or item.state in ("closed", "over"):
                found.append(item)
        return found

    def reopen(self, item: _Item, **fields: Any) -> None:
        """Write that `item` is reopened; what has ended well is described."""
        ended = None
        if item.is_closed:
            ended = EndedItem(
                0 if item.parent is None else item.parent.number,
                item.seq,
                item.state_seq,
                item.track_overall,
                item.hook,
                None,
                item.occurrence,
                bool(item.children),
                item.attempts["process"],
                item.attempts["after_children"],
            )
        is_ancestor = not fields
        self.add_of(
            ItemReopened,
            item,
            skipped=item.is_skipped,
            ended=ended,
            result=item.result if is_ancestor and ended is not None else NO_DATA,
            **fields,
        )
        item.tries, item.due = 0, None
        if is_ancestor:
            item.state = "open"

    def retry(self, item: _Item) -> None:
        """Let an item that has failed run again; not a hook, if something below it has run again since, and failed."""
        if item.phase == "after_children" and (item.open_parts or item.has_failure_below()):
            return
        above = self.open_above(item)
        self.reopen(item, failed=item.phase, group=item.group if item.phase == "process" else None)
        item.state = "ready"
        item.open_parts += item.phase == "process"
        for ancestor in above:
            self.reopen(ancestor)

    def rerun(self, item: _Item) -> None:
        """Let an item run again that has completed, or was skipped."""
        for ancestor in reversed(self.open_above(item)):
            self.reopen(ancestor)
        failed = item.phase if item.state == "failed" else None
        self.reopen(item, rerun=True, failed=failed, group=item.group)
        item.state, item.phase, item.is_skipped = "ready", "process", False
        item.open_parts += 1

    def skip(self, item: _Item) -> None:
        if item.state == "running":
            self.interrupt(next(worker for worker, one in self.running.items() if one is item), "skipped")
        has_failed, was_open = item.state == "failed", item.phase == "process" and item.state == "ready"
        above = self.open_above(item)
        is_queued = was_open and item.due is None
        item.result = self.some_result()
        self.add_of(
            ItemSkipped,
            item,
            phase=item.phase,
            had_failed=has_failed,
            group=item.group if is_queued else None,
            result=item.result,
        )
        item.state, item.due, item.is_skipped, item.is_cancelled = "open", None, True, False
        item.open_parts -= was_open
        for ancestor in above:
            self.reopen(ancestor)
        self.close_if_ended(item)

    def cancel(self, item: _Item) -> None:
        if item.state == "running":
            item.is_cancelled = True
            self.add(ItemCancelled, item=item.number)
            return
        is_queued = item.phase == "process" and item.due is None
        self.add_of(
            ItemFailed,
            item,
            worker=0,
            duration_s=0.0,
            error=self.error(),
            phase=item.phase,
            attempt=item.attempts[item.phase] + 1,
            group=item.group if is_queued else None,
        )
        self.fail(item)

    def fail_cancelled(self) -> None:
        """Fail the items that were cancelled and whose attempt was interrupted."""
        for item in self.items:
            if item.is_cancelled and item.state == "ready":
                self.cancel(item)

    def reschedule(self, item: _Item) -> None:
        item.due = self.at + self.random.choice((40.0, 90.0))
        self.add_of(ItemRescheduled, item, due=item.due)

    def steer(self, *, is_live: bool) -> None:
        """Let a person give one command. What it doesn't apply to is left alone."""
        act = self.random.randrange(11)
        group = self.random.choice((self.text, "other"))
        hooks = [item for item in self.running.values() if item.phase == "after_children"]
        # Something below an item whose hook runs stays as it is.
        free = [item for item in self.items if not any(above in hooks for above in item.ancestors)]
        if act < 2:
            if item := self.choose([one for one in free if one.state == "failed"]):
                self.steered("retry")
                self.retry(item)
        elif act < 4:
            completed = [
                one
                for one in free
                if one.state in ("open", "closed", "over")
                or one.waits_for_hook
                or (one.state == "failed" and one.phase == "after_children")
            ]
            if item := self.choose([one for one in completed if not one.is_cancelled]):
                self.steered("retry")
                self.rerun(item)
        elif act < 6:
            if item := self.choose([one for one in free if one.state in ("ready", "running", "failed")]):
                self.steered("skip")
                self.skip(item)
        elif act == 6:
            if item := self.choose([one for one in free if one.state in ("ready", "running") and not one.is_cancelled]):
                self.steered("cancel")
                self.cancel(item)
        elif act == 7:
            if item := self.choose([one for one in free if one.state == "ready" and one.due is not None]):
                self.steered("retry")
                self.reschedule(item)
        elif act == 8:
            self.is_paused = not self.is_paused
            self.add(RunPaused if self.is_paused else RunUnpaused, by=self.text)
        elif act == 9:
            is_paused = group in self.paused_groups
            (self.paused_groups.remove if is_paused else self.paused_groups.add)(group)
            self.add(GroupUnpaused if is_paused else GroupPaused, group=group, by=self.text)
        elif self.random.random() < 0.5 or self.on_cluster:
            limit = self.random.choice(({"concurrent": 1}, {"per_second": 0.5}, {}, {"is_default": True}))
            program = GroupLimit(2) if is_live else None
            (self.single_groups.add if "concurrent" in limit else self.single_groups.discard)(group)
            self.add(GroupLimitChanged, group=group, by=self.text, program=program, **limit)
        else:
            self.changed_workers = self.random.randint(1, 5)
            self.add(RunWorkersChanged, num_workers=self.changed_workers, program=self.program, by=self.text)

    def edit(self) -> None:
        """Let a command append to the run while no process runs it."""
        self.present.clear()
        self.at += 3_600
        self.add(RunEdited, schema_version=SCHEMA_VERSION, aqueue_version="0", by=self.text)
        self.interrupt_all("crash")
        for _ in range(self.random.randint(0, 3)):
            self.steer(is_live=False)

    def resume(self) -> None:
        """Let another process go on, which may run again what has failed."""
        if self.random.random() < 0.4:
            self.edit()
        self.at += 3_600
        self.begin(RunResumed)
        self.interrupt_all("crash")
        self.fail_cancelled()
        for item in self.items:
            if item.state == "failed" and self.random.random() < 0.5:
                self.retry(item)
            elif (
                item.state == "ready" and item.phase == "process" and item.parent is None and self.random.random() < 0.2
            ):
                item.state_seq = len(self.events) + 1
                payload = Raw(b"%d" % item.state_seq)
                self.add_of(ItemAdopted, item, payload=payload)
                before, item.group = item.group, self.random.choice([None, self.text, "third"])
                if item.group != before:
                    self.add_of(ItemRegrouped, item, group=item.group, before=before)

    def step(self) -> None:
        act = self.random.randrange(16)
        parents = [item for item in self.running.values() if item.phase == "process"]
        if act % 2:
            self.fail_cancelled()
        if act < 3 and parents:
            self.enqueue(self.random.choice(parents))
        elif act < 7 and (ready := self.startable()):
            self.start(self.random.choice(ready))
        elif act < 8 and self.running:
            worker = self.random.choice(list(self.running))
            self.add(ItemDescribed, item=self.running[worker].number, worker=worker, text=self.text)
        elif act < 11 and self.running:
            self.end(self.random.choice(list(self.running)))
        elif act == 11 and self.random.random() < 0.3:
            self.rare()
        elif act == 12 and self.on_cluster and len(self.present) < 4:
            self.join()
        elif act == 13 and self.present and self.random.random() < 0.3:
            self.leave()
        elif act > 13 and self.random.random() < 0.4:
            self.steer(is_live=True)

    def rare(self) -> None:
        act = self.random.randrange(6)
        if act == 5:
            self.add(GroupLimitKnown, group=self.text, concurrent=2)
            self.add(LoopBlocked, method=self.text, where=self.text, duration_s=0.5)
            self.add(RunHeldUp, by=self.text, duration_s=0.5)
        elif act == 4:
            item = self.random.choice([0, *(one.number for one in self.running.values())])
            self.add(GroupSlowedDown, group=self.text, due=self.at + 70.0, item=item)
        elif act == 0:
            self.add(ReporterFailed, reporter=self.text, error=self.error())
        elif act == 1:
            self.stopping = True
            self.add(RunStopping, reason=self.text, by=self.random.choice(("", self.text)))
        elif act == 2:
            self.stopping = True
            self.add(RunStopping, reason=self.text, cancelling=True)
            self.interrupt_all("cancelled")
        else:  # it was killed
            self.resume()

    def finish(self) -> None:
        self.interrupt_all("cancelled")
        states = [(item.state, item.is_skipped) for item in self.items]
        failed = states.count(("failed", False))
        waiting = sum(item.state == "ready" and item.phase == "process" for item in self.items)
        skipped = sum(item.is_skipped for item in self.items)
        completed = len(self.items) - failed - waiting - skipped
        status = (
            "interrupted" if any(item.state == "ready" for item in self.items) else "failed" if failed else "completed"
        )
        counts = Counts(enqueued=len(self.items), completed=completed, failed=failed, skipped=skipped, **self.tally)
        self.add(RunFinished, status=status, counts=counts)

    def run(self, steps: int) -> list[Event]:
        self.begin(RunStarted)
        if self.on_cluster and self.random.random() < 0.8:
            self.join()
        for _ in range(self.random.choice((0, 1, 1, 2, 5))):
            self.enqueue(None)
        for _ in range(steps):
            self.step()
        while self.random.random() < 0.7:
            self.finish()
            if self.random.random() < 0.7:
                break
            self.resume()
            for _ in range(steps // 2):
                self.step()
        if self.random.random() < 0.2:
            self.edit()
        return self.events


def as_in_older_logs(events: list[Event]) -> list[Event]:
    """Return `events` as earlier versions of aqueue wrote them: some ends of attempts don't tell the worker."""
    return [
        msgspec.structs.replace(event, worker=0)
        if isinstance(event, ItemChildrenProcessed | ItemInterrupted)
        else event
        for event in events
    ]


@st.composite
def event_streams(draw: st.DrawFn, text: st.SearchStrategy[str] = encodable_text) -> list[Event]:
    """Draw the events of a run that could have taken place, perhaps cut off, perhaps resumed.

    Parameters:
        draw: Hypothesis's.
        text: what descriptions, errors, reasons and the names of some types are drawn from.
    """
    types = list(dict.fromkeys(["module:Page", "module:Folder", *draw(st.lists(text, max_size=2))]))
    # A seed makes for richer runs than a draw for each choice; what shrinks is the number of steps.
    random = Random(draw(st.integers(0, 2**32)))  # not for secrets
    return _Simulation(random, types, draw(text)).run(draw(st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128, 256])))
