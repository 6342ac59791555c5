"""Keeps what each worker did when: a bar per attempt, with short bars joined so that their number is bounded."""

from typing import Final, Literal

import msgspec

__all__ = ["MAX_ROWS", "MAX_SPANS", "Outcome", "Span", "Timeline", "WorkerTotals"]

MAX_SPANS: Final = 5_000
MAX_ROWS: Final = 200
_FIRST_LIMIT_S: Final = 0.001

Outcome = Literal["completed", "failed", "retried", "interrupted", "crashed", "running", "unended"]


class Span(msgspec.Struct, gc=False):
    """An attempt, or several short ones of one worker.

    Attributes:
        start: when it began, seconds since the run's start.
        end: when it ended, the same.
        outcome: what the attempt came to; of several, the worst.
        type: the number of the item's type.
        item: the item's number.
        attempt: which try it was, from 1.
        is_hook: whether it was one at the hook.
        text: the item's latest description.
        count: how many attempts this is.
        busy_s: how long they took together, seconds.
        failed: how many of them failed for good.
        retried: how many failed and were to be followed by another.
        interrupted: how many were cut short.
    """

    start: float
    end: float
    outcome: Outcome
    type: int
    item: int
    attempt: int
    is_hook: bool
    text: str
    count: int = 1
    busy_s: float = 0.0
    failed: int = 0
    retried: int = 0
    interrupted: int = 0

    def take_in(self, other: "Span") -> None:
        """Make this the span of both."""
        self.count_itself()
        other.count_itself()
        self.end = other.end
        self.text = ""
        self.count += other.count
        self.busy_s += other.busy_s
        self.failed += other.failed
        self.retried += other.retried
        self.interrupted += other.interrupted
        if self.type != other.type:
            self.type = -1
        if _WORST[other.outcome] > _WORST[self.outcome]:
            self.outcome = other.outcome

    def count_itself(self) -> None:
        """Make the counts those of one attempt, if it is one."""
        if self.count > 1:
            return
        self.busy_s = self.end - self.start
        self.failed = int(self.outcome == "failed")
        self.retried = int(self.outcome == "retried")
        self.interrupted = int(self.outcome in {"interrupted", "crashed"})


_WORST: Final[dict[Outcome, int]] = {
    "completed": 0,
    "running": 1,
    "unended": 1,
    "retried": 2,
    "interrupted": 3,
    "crashed": 4,
    "failed": 5,
}


class WorkerTotals(msgspec.Struct, gc=False):
    """What one worker did in all: how many attempts, for how long, how long the longest, how many failed for good."""

    attempts: int = 0
    busy_s: float = 0.0
    longest_s: float = 0.0
    failed: int = 0


class Timeline:
    """The attempts of a run by worker.

    Attributes:
        rows: the spans of the first 200 workers, by the worker's number, in their order.
        totals: what each worker did, all of them.
        limit_s: each attempt that took longer than this is a span of its own; shorter ones next to each other are
            together in one of at most this length. 0 if each attempt is one.
    """

    def __init__(self) -> None:
        self.rows: dict[int, list[Span]] = {}
        self.totals: dict[int, WorkerTotals] = {}
        self.limit_s = 0.0
        self._spans = 0

    def add(self, worker: int, span: Span) -> None:
        """Add an attempt, later than those of the same worker before it."""
        totals = self.totals.get(worker)
        if totals is None:
            totals = self.totals[worker] = WorkerTotals()
            if worker <= MAX_ROWS:
                self.rows[worker] = []
        took_s = span.end - span.start
        totals.attempts += 1
        totals.busy_s += took_s
        if took_s > totals.longest_s:
            totals.longest_s = took_s
        if span.outcome == "failed":
            totals.failed += 1
        if worker <= MAX_ROWS:
            self.rows[worker].append(span)
            self._spans += 1
            if self._spans > 2 * MAX_SPANS:
                self._shrink()

    def end(self) -> None:
        """Say that no more attempts will follow."""
        self._shrink()

    def _shrink(self) -> None:
        """Merge as widely as before, and, only if that is not enough, more widely."""
        if self.limit_s:
            self._merge()
        while self._spans > MAX_SPANS:
            self.limit_s = self.limit_s * 2 or _FIRST_LIMIT_S
            self._merge()

    def _merge(self) -> None:
        limit_s = self.limit_s
        self._spans = 0
        for worker, spans in self.rows.items():
            merged: list[Span] = []
            last: Span | None = None
            for span in spans:
                if last is not None and span.end - last.start <= limit_s:
                    last.take_in(span)
                else:
                    merged.append(span)
                    last = span
            self.rows[worker] = merged
            self._spans += len(merged)
