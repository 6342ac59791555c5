"""Runs for the tests of the page: one that is large, and one with all that a page can have."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from random import Random
from unittest.mock import patch

from aqueue._history import record
from aqueue._history.history import History, Line
from aqueue._history.process import Liveness
from aqueue.cli import _report
from aqueue.cli._report import FrozenRun
from aqueue.events import (
    ErrorInfo,
    Event,
    ItemCompleted,
    ItemDescribed,
    ItemEnqueued,
    ItemFailed,
    ItemSkipped,
    ItemStarted,
    RunResumed,
    RunStarted,
)
from aqueue.testing._scripted_runs import Script

HOSTILE = "</script><img src=x onerror=alert(1)>\u202e\u2028\x1b[2J\x00\"'`&amp;<!--${source}\ud800"
"""What is after the page: markup, a template's placeholder, what steers a terminal or a layout, half a character."""

TRACEBACK = """Traceback (most recent call last):
  File "/srv/app/site.py", line 40, in process
    page = await client.get(self.url)
  File "/srv/venv/site-packages/httpx/_client.py", line 9, in get
    raise ConnectError(message)
httpx.ConnectError: no such name
"""
ERROR = ErrorInfo("httpx:ConnectError", "no such name", TRACEBACK)


class EventsHistory(History):
    """A history of events that are in memory."""

    is_journal = False

    def __init__(self, batches: Iterable[Sequence[Event]], name: str = "events", notes: Sequence[str] = ()) -> None:
        """Make it of events in their order, and of what there is to say about its figures."""
        super().__init__(name, None)
        self.is_over = True
        self._notes = notes
        self._batches = iter(batches)
        self._events: dict[int, Event] = {}

    def read(self) -> list[Event] | None:
        """Return the next batch."""
        events = next(self._batches, None)
        if events is None:
            return None
        self._events |= {event.seq: event for event in events}
        return list(events)

    def read_lines(self) -> list[Line] | None:
        """Return nothing: the report reads no lines."""
        raise NotImplementedError

    def start_near_end(self, num_events: int) -> bool:
        """Return nothing: the report reads from the beginning."""
        raise NotImplementedError

    def events_at(self, seqs: Collection[int]) -> dict[int, Event]:
        """Return those of these numbers."""
        return {seq: self._events[seq] for seq in seqs if seq in self._events}

    def caveats(self) -> list[str]:
        """Return what was given."""
        return [*self._notes]

    def close(self) -> None:
        """Do nothing."""


def frozen(
    batches: Iterable[Sequence[Event]],
    *,
    source: str = "run.db",
    now: float,
    notes: Sequence[str] = (),
    liveness: Liveness = "elsewhere",
) -> FrozenRun:
    """Return a run as it is read at a moment, when its process is there or not."""
    with patch.object(record, "liveness", lambda *_: liveness), patch("aqueue._history.record.time.time", lambda: now):
        return FrozenRun(EventsHistory(batches, source, notes))


def render(
    batches: Iterable[Sequence[Event]],
    *,
    source: str = "run.db",
    now: float,
    notes: Sequence[str] = (),
    liveness: Liveness = "elsewhere",
) -> str:
    """Return the report of the same."""
    return _report.page(frozen(batches, source=source, now=now, notes=notes, liveness=liveness))


def large(items: int, *, workers: int, text: str = "https://example.org/", seed: int = 1) -> Iterator[list[Event]]:
    """Yield the events of a run of that many items, in batches: a tree of three types, with failures, without an end.

    Parameters:
        items: how many.
        workers: how many are at work.
        text: what descriptions and messages begin with.
        seed: of the random choices.
    """
    random = Random(seed)
    start_at, seq, made = 1_700_000_000.0, 3, 1
    types = ("site.jobs:Index", "site.jobs:Page", "site.jobs:Image")
    events: list[Event] = [
        RunStarted(1, start_at, "run", 1, "1.0", workers, "queue", 7, "host"),
        ItemEnqueued(2, start_at, 1, 0, types[0]),
    ]
    waiting = deque([(1, types[0])])
    running = [(start_at, worker, 0, "") for worker in range(workers, 0, -1)]  # idle ones, which end at once
    heapify(running)
    idle: list[int] = []
    while running:
        at, worker, item, type = heappop(running)
        if item:
            for _ in range(min(30 if type is types[0] else random.choice((0, 1, 2, 3)) or not waiting, items - made)):
                made += 1
                waiting.append((made, random.choices(types, (1, 50, 49))[0]))
                events.append(ItemEnqueued(seq, at, made, item, waiting[-1][1]))
            if random.random() < 0.002:
                error = ErrorInfo(f"module:Error{random.randrange(200)}", text * 40, TRACEBACK + text * 600)
                events.append(ItemFailed(seq + 1, at, item, type, worker, 0.05, error))
            else:
                events.append(ItemCompleted(seq + 1, at, item, worker, random.lognormvariate(-3.0, 1.0)))
        idle.append(worker)
        while waiting and idle:
            item, type = waiting.popleft()
            worker = idle.pop()
            events.append(ItemStarted(seq + 2, at, item, type, worker))
            events.append(ItemDescribed(seq + 3, at, item, worker, f"{text}{item}"))
            heappush(running, (at + random.lognormvariate(-3.0, 1.0), worker, item, type))
        seq += 4
        if len(events) > 5_000:
            yield events
            events = []
    yield events


def of_everything(text: str = "https://example.org/") -> list[Event]:
    """Return a run with every part of the page in it: failures, retries, a crash, skipped items, what is still at work."""
    script = Script(num_workers=3)
    root = script.enqueue("site.jobs:Index")
    script.start(root, "site.jobs:Index")
    pages = [script.enqueue("site.jobs:Page", parent=root) for _ in range(41)]
    script.wait(2)
    script.complete(root)
    for number, page in enumerate(pages[:30]):
        worker = number % 3 + 1
        script.start(page, "site.jobs:Page", worker=worker)
        script.add(ItemDescribed, item=page, worker=worker, text=f"{text}{page}")
        script.wait(1 + number % 4)
        if number % 10 == 3:
            script.fail(page, ERROR, "site.jobs:Page", worker=worker)
        elif number % 10 == 5:
            script.fail_for_now(page, due_in_s=1, worker=worker)
        else:
            script.enqueue("site.jobs:Image", parent=page)
            script.complete(page, worker=worker)
    script.start(pages[30], "site.jobs:Page", worker=2)
    script.wait(5_400)
    script.begin(RunResumed)
    script.interrupt(pages[30], "crash")
    for number, page in enumerate(pages[30:39]):
        script.start(page, "site.jobs:Page", worker=number % 3 + 1)
        script.wait(2)
        script.complete(page, worker=number % 3 + 1)
    script.start(pages[39], "site.jobs:Page", worker=3)
    script.start(pages[40], "site.jobs:Page", worker=1)
    script.wait(3)
    script.steer("skip", f"{pages[3]} {pages[40]}", count=2)
    script.add(ItemSkipped, item=pages[3], type="site.jobs:Page", had_failed=True)
    script.interrupt(pages[40], "skipped")
    script.add(ItemSkipped, item=pages[40], type="site.jobs:Page")
    script.enqueue("site.jobs:Page")
    return script.events
