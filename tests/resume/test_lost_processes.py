"""Whatever worker processes a run on a cluster has lost, resuming its journal comes to the same end."""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from aqueue import ItemFailures, RunResult, run_queue
from aqueue.events import (
    Event,
    ItemInterrupted,
    ItemStarted,
    ProcessJoined,
    ProcessLeft,
    RunFinished,
    RunStarted,
    encode,
)
from tests.journal.oracle import told_by
from tests.journal.recorded import events_of
from tests.journal.seeds import Seed, items_of, seeds

WORKERS = 3


def on_a_cluster(events: Sequence[Event], random: Random) -> list[Event]:
    """Return the run of `events` as one on a cluster that loses a worker process now and then, as an item starts there."""
    told: list[Event] = []
    lost: Counter[int] = Counter()  # how many attempts at an item's `process` were
    first = 1

    def tell(event: Event, **fields: Any) -> None:
        told.append(replace(event, seq=len(told) + 1, **fields))

    for event in events:
        match event:
            case RunStarted():
                tell(event, cluster="tcp://scheduler:8786")
                tell(ProcessJoined(0, event.at, first, WORKERS, "node", 1))
            case ItemStarted(phase="process") if random.random() < 0.5:
                worker = first + WORKERS  # of a process that comes for this alone
                tell(ProcessJoined(0, event.at, worker, 1, "node", 2))
                tell(event, worker=worker, attempt=event.attempt + lost[event.item])
                left = ProcessLeft(0, event.at, worker, "lost")
                attempt = event.attempt + lost[event.item]
                interrupted = ItemInterrupted(
                    0, event.at, event.item, attempt=attempt, reason="worker_lost", worker=worker
                )
                for one in random.sample((left, interrupted), 2):
                    tell(one)
                lost[event.item] += 1
                tell(event, attempt=event.attempt + lost[event.item])
            case _ if getattr(event, "phase", "process") == "process" and hasattr(event, "attempt"):
                tell(event, attempt=event.attempt + lost[event.item])  # type: ignore[attr-defined]
            case RunFinished():
                tell(event, counts=replace(event.counts, interrupted=event.counts.interrupted + lost.total()))
            case _:
                tell(event)
    return told


def rewrite(path: Path, events: Sequence[Event]) -> None:
    """Let the journal at `path` have these events instead of its own."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM events")
        connection.executemany(
            "INSERT INTO events VALUES (?, ?)", [(event.seq, encode(event).decode()) for event in events]
        )


def run_to_the_end(roots: list[Seed], path: Path, num_workers: int) -> RunResult:
    """Run `roots` with the journal at `path`, again and again until nothing fails any more."""
    for _ in range(100):
        with suppress(ItemFailures):
            return run_queue(items_of(roots), resume=path, reporter="none", num_workers=num_workers)
    raise AssertionError("it does not come to an end")


@settings(max_examples=20)
@given(st.lists(seeds(), min_size=1, max_size=3), st.integers(1, WORKERS), st.randoms(use_true_random=False), st.data())
def test_resuming_any_prefix_comes_to_the_same_end(
    roots: list[Seed], num_workers: int, random: Random, data: st.DataObject
) -> None:
    """Items that were lost run again, also where the run ended before they did, and nothing that had completed does."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "run.db")
        whole = run_to_the_end(roots, path, num_workers)
        events = on_a_cluster(events_of(path), random)
        told_by(events)
        prefix = events[: data.draw(st.integers(1, len(events)), label="prefix")]
        rewrite(path, prefix)
        resumed = run_to_the_end(roots, path, num_workers)
        after = events_of(path)

    assert after[: len(prefix)] == prefix
    told_by(after).ended_well()
    assert resumed.root_results == whole.root_results
    assert (resumed.counts.completed, resumed.counts.failed) == (whole.counts.completed, whole.counts.failed)
