"""What each worker did when: a bar per attempt, with short bars joined so that their number is bounded."""

from typing import Final, Literal

import msgspec

from aqueue.events import ItemStarted

__all__ = ["MAX_ROWS", "MAX_SPANS", "Outcome", "Span", "Timeline", "WorkerTotals"]

MAX_SPANS: Final = 5_000
MAX_ROWS: Final = 200
_MAX_ADDED: Final = 2 * MAX_SPANS
_FIRST_LIMIT_S: Final = 0.001
_TEXT_MAX_CHARS: Final = 200

Outcome = Literal["completed", "failed", "retried", "interrupted", "skipped", "crashed", "running", "unended"]


class Span(msgspec.Struct, gc=False):
    """An attempt, or several short ones of one worker.

    Attributes:
        start, end: from when to when, seconds since the run's start.
        outcome: how the attempt ended; of several, the first.
        type: the number of the item's type; -1 for several types.
        item: the item's number.
        attempt: the number of the attempt, from 1.
        is_hook: whether it was one at the hook.
        text: the item's latest description.
        busy_s: how long the attempts took together, seconds.
        failed: how many of them failed for good.
        count: how many attempts this is.
    """

    start: float
    end: float
    outcome: Outcome
    type: int
    item: int
    attempt: int
    is_hook: bool
    text: str
    busy_s: float
    failed: int
    count: int = 1


class WorkerTotals(msgspec.Struct, gc=False):
    """All that one worker did: its attempts, their time and that of the longest, and how many failed for good."""

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
        self._spans = 0  # after the last `shrink`, plus the attempts since then

    def add(
        self, worker: int, start: float, end: float, outcome: Outcome, type: int, event: ItemStarted, text: str
    ) -> None:
        """Add an attempt, later than those of the same worker before it.

        Parameters:
            worker: who made it.
            start, end, outcome, type: see `Span`.
            event: with what it started.
            text: the item's latest description, of which the beginning is kept.
        """
        totals = self.totals.get(worker)
        if totals is None:
            totals = self.totals[worker] = WorkerTotals()
        busy_s, failed = end - start, outcome == "failed"
        totals.attempts += 1
        totals.busy_s += busy_s
        if busy_s > totals.longest_s:
            totals.longest_s = busy_s
        if failed:
            totals.failed += 1
        if worker > MAX_ROWS:
            return
        spans = self.rows.get(worker)
        if spans is None:
            spans = self.rows[worker] = []
        limit_s = self.limit_s
        if limit_s and spans and end - (last := spans[-1]).start <= limit_s:  # most are: no object is made of them
            last.end, last.text = end, ""
            if last.type != type:
                last.type = -1
            last.busy_s += busy_s
            if failed:
                last.failed += 1
            last.count += 1
        else:
            is_hook, text = event.phase != "process", text[:_TEXT_MAX_CHARS]
            spans.append(Span(start, end, outcome, type, event.item, event.attempt, is_hook, text, busy_s, int(failed)))
        self._spans += 1
        if self._spans > _MAX_ADDED:
            self.shrink()

    def shrink(self) -> None:
        """Join short spans more widely, until there are few enough."""
        self._spans = sum(map(len, self.rows.values()))
        while self._spans > MAX_SPANS:
            self.limit_s = self.limit_s * 2 or _FIRST_LIMIT_S
            self._join()

    def _join(self) -> None:
        for worker, spans in self.rows.items():
            joined = spans[:1]
            for span in spans[1:]:
                last = joined[-1]
                if span.end - last.start > self.limit_s:
                    joined.append(span)
                    continue
                last.end, last.text = span.end, ""
                last.type = last.type if last.type == span.type else -1
                last.busy_s += span.busy_s
                last.failed += span.failed
                last.count += span.count
            self.rows[worker] = joined
        self._spans = sum(map(len, self.rows.values()))
