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
    ErrorInfo,
    Event,
    GroupLimitKnown,
    GroupSlowedDown,
    ItemAdopted,
    ItemChildrenFailed,
    ItemChildrenProcessed,
    ItemCompleted,
    ItemDescribed,
    ItemEnqueued,
    ItemFailed,
    ItemInterrupted,
    ItemRegrouped,
    ItemRetryScheduled,
    ItemStarted,
    LoopBlocked,
    Phase,
    ProcessJoined,
    ProcessLeft,
    ReporterFailed,
    RunFinished,
    RunHeldUp,
    RunResumed,
    RunStarted,
    RunStatus,
    RunStopping,
)

__all__ = ["as_in_older_logs", "encodable_text", "event_streams", "events", "hostile_text", "long_hostile_text"]

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
    Counts: st.builds(Counts, *[_numbers] * 6),
    ProcessLeft.__annotations__["reason"]: st.sampled_from(["left", "lost"]),
    ItemInterrupted.__annotations__["reason"]: st.sampled_from(["cancelled", "crash", "worker_lost"]),
}


def _events_of(cls: type[Event]) -> st.SearchStrategy[Event]:
    return st.builds(cls, **{field.name: _by_annotation[field.type] for field in msgspec.structs.fields(cls)})


events = st.sampled_from(list(EVENT_TYPES.values())).flatmap(_events_of)
"""Any event that UTF-8 can carry, legal in its place or not."""


class _Item:
    def __init__(self, number: int, type: str, parent: "_Item | None", *, hook: bool) -> None:
        self.number = number
        self.type = type
        self.parent = parent
        self.hook = hook
        self.children = 0
        self.open_parts = 1  # its own process, and each child whose subtree has not ended
        self.attempt = 0
        self.phase: Phase = "process"
        self.failed = False
        self.subtree_failed = False
        self.group: str | None = None


class _Simulation:
    """Makes up a run, a step at a time, and writes down its events."""

    def __init__(self, random: Random, types: list[str], text: str) -> None:
        self.random = random
        self.types = types
        self.text = text
        self.events: list[Event] = []
        self.at = 1_700_000_000.0
        self.workers = random.randint(1, 4)
        self.on_cluster = False
        self.present: dict[int, int] = {}  # how many workers each process has, by the number of its first
        self.number = 0
        self.failed = 0
        self.ready: list[_Item] = []
        self.running: dict[int, _Item] = {}
        self.stopping = False

    def add(self, cls: type[Event], **fields: Any) -> None:
        self.at += self.random.choice((0.0, 0.0, 0.001, 0.3, 2.0, 40.0))
        self.events.append(cls(seq=len(self.events) + 1, at=self.at, **fields))

    def error(self) -> ErrorInfo:
        return ErrorInfo(self.text, self.text, self.text)

    def begin(self, cls: type[RunStarted]) -> None:
        self.stopping = False
        self.on_cluster = self.random.random() < 0.4
        self.present.clear()
        self.add(
            cls,
            run_id="run",
            schema_version=SCHEMA_VERSION,
            aqueue_version="0",
            num_workers=self.workers,
            queue_type_name="queue",
            pid=1,
            host="host",
            cluster="tcp://scheduler:8786" if self.on_cluster else "",
        )

    def free_workers(self) -> list[int]:
        present = self.present if self.on_cluster else {1: self.workers}
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
            self.lose(worker)
        reason = self.random.choice(("left", "lost"))
        self.add(ProcessLeft, first_worker=first, reason=reason, ignored=self.random.randrange(3))
        for worker in lost[told_before:]:
            self.lose(worker)

    def lose(self, worker: int) -> None:
        item = self.running.pop(worker)
        self.add(ItemInterrupted, item=item.number, attempt=item.attempt, reason="worker_lost", worker=worker)
        self.ready.append(item)

    def enqueue(self, parent: _Item | None) -> None:
        kind = self.random.randrange(len(self.types))
        self.number += 1
        item = _Item(self.number, self.types[kind], parent, hook=self.random.random() < 0.5)
        if parent is not None:
            parent.children += 1
            parent.open_parts += 1
        self.ready.append(item)
        number = 0 if parent is None else parent.number
        group = item.group = self.random.choice((None, None, self.text, "other"))
        self.add(
            ItemEnqueued, item=item.number, parent=number, type=item.type, track_overall=kind % 2 == 0, group=group
        )

    def start(self) -> None:
        item = self.ready.pop(self.random.randrange(len(self.ready)))
        worker = self.random.choice(self.free_workers())
        item.attempt += 1
        self.running[worker] = item
        group = item.group if item.phase == "process" else None
        of_item = {"item": item.number, "type": item.type}
        self.add(ItemStarted, worker=worker, phase=item.phase, attempt=item.attempt, group=group, **of_item)

    def end(self, worker: int) -> None:
        item = self.running.pop(worker)
        outcome = self.random.random()
        of_attempt = {"item": item.number, "worker": worker, "attempt": item.attempt}
        if outcome < 0.6:
            if item.phase == "process":
                self.add(ItemCompleted, duration_s=0.1, deduplicated=self.random.randrange(3), **of_attempt)
                self.close_part(item)
            else:
                self.add(ItemChildrenProcessed, item=item.number, type=item.type, worker=worker)
                self.close_subtree(item)
        elif outcome < 0.8:
            self.add(ItemFailed, type=item.type, duration_s=0.1, error=self.error(), phase=item.phase, **of_attempt)
            self.failed += 1
            item.failed = item.subtree_failed = True
            if item.phase == "process":
                self.close_part(item)
            else:
                self.close_subtree(item)
        else:
            due = self.at + self.random.choice((0.0, 0.0, 1.0, 7.5, 600.0))
            self.add(ItemRetryScheduled, error=self.error(), due=due, phase=item.phase, **of_attempt)
            self.ready.append(item)

    def close_part(self, item: _Item) -> None:
        """Note that an item's process, or the subtree of one of its children, has ended."""
        item.open_parts -= 1
        if item.open_parts:
            return
        if item.failed:
            self.close_subtree(item)
        elif item.subtree_failed:
            self.add(ItemChildrenFailed, item=item.number, type=item.type)
            self.close_subtree(item)
        elif item.hook:
            item.phase = "after_children"
            item.attempt = 0
            self.ready.append(item)
        else:
            if item.children:
                self.add(ItemChildrenProcessed, item=item.number, type=item.type)
            self.close_subtree(item)

    def close_subtree(self, item: _Item) -> None:
        if item.parent is not None:
            item.parent.subtree_failed = item.parent.subtree_failed or item.subtree_failed
            self.close_part(item.parent)

    def interrupt(self, reason: str) -> None:
        for worker, item in self.running.items():
            of_attempt = {"item": item.number, "worker": worker, "attempt": item.attempt}
            self.add(ItemInterrupted, phase=item.phase, reason=reason, **of_attempt)
            self.ready.append(item)
        self.running.clear()

    def step(self) -> None:
        act = self.random.randrange(14)
        parents = [item for item in self.running.values() if item.phase == "process"]
        if act < 3 and parents:
            self.enqueue(self.random.choice(parents))
        elif act < 7 and self.ready and self.free_workers() and not self.stopping:
            self.start()
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

    def rare(self) -> None:
        act = self.random.randrange(6)
        if act == 5:
            self.add(GroupLimitKnown, group=self.text, concurrent=2)
            self.add(LoopBlocked, method=self.text, where=self.text, duration_s=0.5)
            self.add(RunHeldUp, by=self.text, duration_s=0.5)
        elif act == 4:
            item = self.random.randint(0, self.number)
            self.add(GroupSlowedDown, group=self.text, due=self.at + 30.0, item=item)
        elif act == 0:
            self.add(ReporterFailed, reporter=self.text, error=self.error())
        elif act == 1:
            self.stopping = True
            self.add(RunStopping, reason=self.text)
        elif act == 2:
            self.stopping = True
            self.add(RunStopping, reason=self.text, cancelling=True)
            self.interrupt("cancelled")
        else:
            # It was killed; another process goes on.
            self.at += 3_600
            self.begin(RunResumed)
            self.interrupt("crash")
            for ready in self.ready:
                if ready.phase == "process" and self.random.random() < 0.2:
                    self.add(ItemAdopted, item=ready.number, type=ready.type, payload=Raw(b"{}"))
                    before, ready.group = ready.group, self.random.choice((None, self.text, "third"))
                    self.add(ItemRegrouped, item=ready.number, type=ready.type, group=ready.group, before=before)

    def run(self, steps: int) -> list[Event]:
        self.begin(RunStarted)
        if self.on_cluster and self.random.random() < 0.8:
            self.join()
        for _ in range(self.random.choice((0, 1, 1, 2, 5))):
            self.enqueue(None)
        for _ in range(steps):
            self.step()
        if self.random.random() < 0.7:
            self.interrupt("cancelled")
            status = "interrupted" if self.ready else "failed" if self.failed else "completed"
            self.add(RunFinished, status=status, counts=Counts(self.number))
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
