"""The golden journal with retries: its job, and how it is made, by ``tests.golden.policies.make(Path(…))``.

Not by ``python -m``: its items would be those of a module called ``__main__``.
What is here may get more, but must go on to read what it has written. A journal that is checked in is never made again.
"""

from contextlib import suppress
from pathlib import Path

import aqueue
from aqueue import EnqueueFn, Item, ItemFailures, Limit, Retry, SetDescFn, run_queue
from aqueue.events import ItemRegrouped, ItemRetryScheduled, LoopBlocked, RunHeldUp, RunResumed
from tests.golden.make import keep
from tests.journal.oracle import told_by
from tests.journal.recorded import events_of

__all__ = ["Fetch", "make", "roots"]


class Fetch(Item):
    """One that is tried again, with a group and a hook."""

    retry = Retry(attempts=3, first_s=0.0)
    group = "example.org"

    def __init__(self, name: str, children: list[str], fails: int = 0, hook_fails: int = 0) -> None:
        self.name = name
        self.children = children
        self.fails = fails
        self.hook_fails = hook_fails

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for child in self.children:
            enqueue(Fetch(child, []))
        if self.name == "slow":
            aqueue.slow_down("example.org", 0.01)
        if aqueue.current().attempt <= self.fails:
            raise ConnectionError(self.name)

    async def after_children_processed(self) -> list[object]:
        if aqueue.current().attempt <= self.hook_fails:
            raise OSError(self.name)
        return [self.name, *aqueue.child_results()]


def roots() -> list[Item]:
    """Return the initial items."""
    return [
        Fetch("slow", []),
        Fetch("again", ["x", "x"], fails=1, hook_fails=1),
        Fetch("fails", ["y", "z"], fails=4),
    ]


def make(path: Path) -> None:
    """Record a run over two processes, the second of which crashed when an item waited for its fifth attempt, in another group."""
    with suppress(ItemFailures):
        limits = {"example.org": Limit(concurrent=1)}
        run_queue(roots(), journal=path, num_workers=1, on_error="continue", reporter="none", limits=limits)
    run_queue(roots(), resume=path, num_workers=1, on_error="continue", reporter="none")
    events = events_of(path)
    resumed = next(event.seq for event in events if isinstance(event, RunResumed))
    last = next(event.seq for event in events[resumed:] if isinstance(event, ItemRetryScheduled))
    waiting, at = events[last - 1], events[last - 1].at
    assert isinstance(waiting, ItemRetryScheduled)
    rare = [
        ItemRegrouped(last + 1, at, waiting.item, Fetch.__module__ + ":Fetch", "example.net"),
        LoopBlocked(last + 2, at, "Fetch.process", "policies.py:38", 0.75),
        RunHeldUp(last + 3, at, "journal", 0.25),
    ]
    keep(path, [*events[:last], *rare])
    told_by(events_of(path))
