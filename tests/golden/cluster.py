"""The golden journal of a run on a cluster: its job, and how it is made, by ``tests.golden.cluster.make(Path(…))``.

Not by ``python -m``: its items would be those of a module called ``__main__``.
What is here may get more, but must go on to read what it has written. A journal that is checked in is never made again.
"""

import os
import signal
from pathlib import Path

import anyio

import aqueue
from aqueue import EnqueueFn, Item, SetDescFn, run_queue
from aqueue.events import ItemStarted, ProcessJoined, ProcessLeft
from tests.golden.make import keep
from tests.journal.oracle import told_by
from tests.journal.recorded import events_of

__all__ = ["Shelf", "Word", "make", "roots"]


class Word(Item):
    """One without a hook. The one called ``kills`` ends its process the first time, after it has enqueued a child."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        set_desc(f"at {self.name}")
        if self.name == "kills":
            enqueue(Word("child"))
            if aqueue.current().attempt == 1:
                await anyio.sleep(0.3)  # so that it is known
                os.kill(os.getpid(), signal.SIGKILL)
        return self.name


class Shelf(Item):
    """One with a hook, and with state that `process` sets elsewhere."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.seen = 0

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for name in self.names:
            enqueue(Word(name))
        self.seen = len(self.names)

    async def after_children_processed(self) -> list[object]:
        return [self.seen, *aqueue.child_results()]


def roots() -> list[Item]:
    """Return the initial items."""
    return [Shelf("a", "b"), Shelf("kills", "c"), Shelf("d", "e")]


def make(path: Path) -> None:
    """Record a run on a cluster that lost a worker process, and crashed when the next item had been started."""
    run_queue(roots(), journal=path, num_workers=1, cluster="local:2", reporter="none")
    events = events_of(path)
    left = next(event.seq for event in events if isinstance(event, ProcessLeft))
    last = next(event.seq for event in events[left:] if isinstance(event, ItemStarted))
    keep(path, events[:last])
    assert {ProcessJoined, ProcessLeft} <= {type(event) for event in events_of(path)}
    story = told_by(events_of(path))
    assert any(story.enqueued[event.parent].parent for event in story.enqueued.values() if event.parent), (
        "no grandchild"
    )
