"""Run with every fault at once for minutes; then see that every item has ended and that memory has stayed flat.

``python -m tests.torture.soak --seconds 600``. The items fail at random, are told to come back later, hang, shield
themselves, return what can't be saved, and so do their hooks; they belong to many groups, which are limited and slowed
down; and one of the reporters fails. All is journalled, and checked from the journal.
"""

import argparse
import gc
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Final

import anyio

import aqueue
from aqueue import Backend, EnqueueFn, Item, ItemFailures, Limit, Retry, RetryAfter, RunInfo, RunResult, SetDescFn
from aqueue._engine.engine import Engine
from aqueue._run import session
from aqueue.events import (
    Event,
    GroupSlowedDown,
    ItemChildrenFailed,
    ItemChildrenProcessed,
    ItemFailed,
    ItemRetryScheduled,
    ReporterFailed,
    decode,
)
from aqueue.view import RunView
from tests.engine.invariants import check_events, check_result

OUTSTANDING: Final = 300
"""How many items are under way, about."""

KEYS: Final = 500
HOSTS: Final = 2_000

SETTLED: Final = 0.2
"""The part of the time after which memory must not grow any more."""

MARGIN_BYTES: Final = 6_000_000
"""How much the process may be larger at the end than when it had settled: what the allocator does with its arenas."""


class Soak:
    """What the items of one run share.

    Attributes:
        outstanding: how many items had not ended when a reporter was last called.
        resident: the memory of the process and when that was taken: bytes, and seconds from the beginning.
        too_many: the groups of which more ran at once than may, by what their items saw.
        groups: the most groups that the engine has known at once.
        engine: the engine that ran it.
    """

    def __init__(self, seconds: float, seed: int) -> None:
        self.seconds = seconds
        self.seed = seed
        self.began = time.monotonic()
        self.outstanding = 0
        self.resident: list[tuple[float, int]] = []
        self.running: Counter[str] = Counter()
        self.too_many: set[str] = set()
        self.groups = 0
        self.engine: Any = None

    @property
    def passed_s(self) -> float:
        return time.monotonic() - self.began

    def look(self) -> None:
        """Take note of what the process needs now."""
        gc.collect()
        with open("/proc/self/statm") as statm:
            self.resident.append((self.passed_s, int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")))
        grouped = self.engine.parts.dispatcher.groups
        self.groups = max(self.groups, 0 if grouped is None else len(grouped._groups))


soak: Soak


def limit_of(group: str) -> Limit | None:
    """Return what `group` may do: some are not limited, some by number, some by rate, some by both."""
    number = int(group.rpartition("-")[2])
    at_once = number % 4 or None
    per_second = [None, 100, 200.0, None, 25.5][number % 5]
    return Limit(at_once, per_second) if at_once or per_second else None


class WatchedEngine(Engine):
    """An engine that the soak can look into."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        soak.engine = self


class Source(Item):
    """Enqueues waves as others end, until the time is over."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        steps = 50
        while (part := soak.passed_s / soak.seconds) < 1.0:
            if part >= len(soak.resident) / steps:
                soak.look()
            set_desc(f"{part:.0%} of the time is over")
            for _ in range(max(0, min(10, (OUTSTANDING - soak.outstanding) // Wave.SIZE))):
                enqueue(Wave())
            await anyio.sleep(0.05)
        soak.look()


class Wave(Item):
    """A few dozen items, different in every wave, with a hook that some children's failures prevent."""

    SIZE: Final = 25

    after_children_rule = "all_success"
    track_overall = True

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        random = Random(soak.seed * 1_000_003 + aqueue.current().id)
        for _ in range(random.randint(1, self.SIZE)):
            enqueue(random.choice(KINDS)(random.getrandbits(40)))

    async def after_children_processed(self) -> int:
        return len(aqueue.child_results())


class Faulty(Item):
    """Does what its seed says, differently in every attempt."""

    retry: ClassVar[Retry | None] = Retry(
        attempts=4, first_s=0.01, factor=3.0, max_s=0.1, on=(OSError, TimeoutError, LookupError)
    )
    timeout_s: ClassVar[float | None] = 0.1
    after_children_rule = "all_done"

    def __init__(self, seed: int, depth: int = 1) -> None:
        self.seed = seed
        self.depth = depth

    @property
    def group(self) -> str | None:
        return None

    def fate(self) -> Random:
        now = aqueue.current()
        return Random(f"{self.seed} {now.phase} {now.attempt}")

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> Any:
        random = self.fate()
        group = self.group
        if group is None:
            return await self.work(random, enqueue, set_desc)
        soak.running[group] += 1
        try:
            limit = limit_of(group)
            if limit is not None and limit.concurrent is not None and soak.running[group] > limit.concurrent:
                soak.too_many.add(group)
            if random.random() < 0.02:
                aqueue.slow_down(group, random.choice([0.0, 0.02, 0.2]))
            return await self.work(random, enqueue, set_desc)
        finally:
            soak.running[group] -= 1
            if not soak.running[group]:
                del soak.running[group]

    async def work(self, random: Random, enqueue: EnqueueFn, set_desc: SetDescFn) -> Any:
        set_desc(f"seed {self.seed}\x1b[31m")
        if self.depth and random.random() < 0.3:
            same = Random(self.seed)  # each attempt enqueues the same, but not all of them come so far
            for _ in range(same.randint(1, 3)):
                enqueue(type(self)(same.getrandbits(40), self.depth - 1))
                if random.random() < 0.1:
                    raise ConnectionError("after some children")
        await anyio.sleep(random.choice([0.0, 0.0, 0.001, 0.01, 0.02]))
        return await self.end(random)

    async def after_children_processed(self) -> Any:
        return await self.end(self.fate())

    async def end(self, random: Random) -> Any:
        match random.randint(0, 30):
            case 0:
                await anyio.sleep_forever()
            case 1:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.2)
                await anyio.sleep_forever()
            case 2:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(anyio.sleep_forever)
                    await anyio.sleep(0.01)
                    raise ConnectionResetError("in a task group")
            case 3 | 4:
                raise RetryAfter(random.choice([0.0, 0.03, 0.3]))
            case 5 | 6:
                raise OSError(f"seed {self.seed}")
            case 7:
                raise ValueError(f"not to be tried again: {self.seed}")
            case 8:
                raise ExceptionGroup("several", [OSError(1), KeyError(2)])
            case 9:
                return float("nan")
            case 10:
                return {"seed": self.seed, "text": "\udcff" if self.seed % 50 == 0 else "é"}
            case 11:
                time.sleep(0.003)
                return None
            case 12:
                raise anyio.get_cancelled_exc_class() if backend_is_asyncio() else OSError("alone")
        return self.seed % 7


def backend_is_asyncio() -> bool:
    """Tell which backend this is: under trio nobody can make a cancellation."""
    return anyio.get_cancelled_exc_class().__module__.startswith("asyncio")


class Hosted(Faulty):
    """One of a host, of which there are many, and always the same."""

    @property
    def group(self) -> str | None:
        return f"host-{self.seed % HOSTS}"


class Crowded(Faulty):
    """One of the few hosts that most items belong to."""

    @property
    def group(self) -> str | None:
        return f"host-{self.seed % 3 + 1}"


class Fleeting(Faulty):
    """One of a group that never comes again."""

    @property
    def group(self) -> str | None:
        return f"fleeting-{self.seed}"


class Keyed(Hosted):
    """One that may have been seen before."""

    @property
    def key(self) -> str:
        return f"key-{self.seed % KEYS}"


class Untimed(Faulty):
    """One without a limit of time, whose waits end by themselves, and that is tried again only if it asks for that."""

    timeout_s = None
    retry = None

    async def work(self, random: Random, enqueue: EnqueueFn, set_desc: SetDescFn) -> Any:
        await anyio.sleep(0.001)
        return await self.end(random)

    async def end(self, random: Random) -> Any:
        with anyio.move_on_after(0.05):
            return await super().end(random)
        return None


class Plain(Item):
    """One with no policies at all."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
        return self.seed


EXPECTED: Final = {
    "OSError",
    "ConnectionError",
    "ConnectionResetError",
    "TimeoutError",
    "ValueError",
    "ExceptionGroup",
    "aqueue.retry:RetryAfter",
    "aqueue.errors:InvalidResult",
    "aqueue.errors:StrayCancellation",
    "aqueue.errors:MisplacedCall",  # RetryAfter after children, from a class without a policy
}
"""The errors that the items' own faults come to; any other is a fault of this program or of aqueue."""

KINDS: Final[Sequence[Callable[[int], Any]]] = (Faulty, Hosted, Crowded, Fleeting, Keyed, Untimed, Plain)


class Watcher:
    """A reporter that tells the source how many items are under way."""

    uses_terminal = False

    def open(self, run: RunInfo) -> None:
        """Do nothing."""

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Count."""
        soak.outstanding = view.counts.outstanding

    def close(self, result: RunResult) -> None:
        """Do nothing."""


class Failing(Watcher):
    """A reporter that fails after a while."""

    def __init__(self) -> None:
        self.left = 10

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Count, and fail at last."""
        self.left -= 1
        if not self.left:
            raise OSError("the reporter's own disk is full")


def run(seconds: float, seed: int, backend: Backend, folder: Path) -> RunResult:
    """Run for so long, and return what came of it; `soak` then has what was seen meanwhile."""
    global soak  # noqa: PLW0603  # items are journalled, and so can't hold it
    soak = Soak(seconds, seed)
    try:
        aqueue.run_queue(
            [Source()],
            num_workers=30,
            on_error="continue",
            limits=limit_of,
            journal=folder / "run.db",
            reporter=[Watcher(), Failing(), f"jsonl:{folder / 'run.jsonl'}"],
            backend=backend,
        )
    except ItemFailures as failures:
        return failures.result
    raise AssertionError("no item failed")


def check_memory(resident: Sequence[tuple[float, int]], seconds: float) -> tuple[int, int]:
    """Assert that the memory has not grown since it had settled; return what it was then, and at the end; bytes.

    Each is the median of some looks in a row: one alone may meet a batch of events.
    """
    settled = [size for at, size in resident if at >= SETTLED * seconds]
    some = max(1, len(settled) // 8)
    first, last = (sorted(sizes)[len(sizes) // 2] for sizes in (settled[:some], settled[-some:]))
    assert last - first <= MARGIN_BYTES, f"memory grew from {first / 1e6:.1f} to {last / 1e6:.1f} MB"
    return first, last


def check_engine(engine: Any) -> None:
    """Assert that the engine remembers nothing of what has ended."""
    parts = engine.parts
    for part, names in (
        (parts.suspects, ("waiting",)),
        (parts.dispatcher, ("due", "left", "idle", "queue")),
        (parts.dispatcher.retries, ("_earlier", "_not_before", "retrying")),
    ):
        for name in names:
            left = len(getattr(part, name))
            assert not left, f"{type(part).__name__}.{name} has {left} entries left"
    assert not parts.dispatcher.groups._running
    assert set(parts.timeouts._free) == set(parts.timeouts._all), "a task's timeout has not been given back"
    assert all(task.deadline == float("inf") for task in parts.timeouts._all)
    assert not parts.tree.open_roots


def check_faults(events: Sequence[Event]) -> Counter[str]:
    """Assert that each fault has come; return how often."""
    seen = Counter[str]()
    for event in events:
        if isinstance(event, ItemFailed | ItemRetryScheduled):
            assert event.error.type in EXPECTED, event
            how = "failed" if isinstance(event, ItemFailed) else "retried"
            seen[f"{how} in {event.phase}"] += 1
            seen[event.error.type] += 1
        elif isinstance(event, GroupSlowedDown | ReporterFailed | ItemChildrenFailed | ItemChildrenProcessed):
            seen[type(event).__name__] += 1
    for fault in (
        "failed in process",
        "failed in after_children",
        "retried in process",
        "retried in after_children",
        "TimeoutError",
        "OSError",
        "ValueError",
        "ExceptionGroup",
        "GroupSlowedDown",
        "ItemChildrenFailed",
        "ItemChildrenProcessed",
    ):
        assert seen[fault], f"{fault} never came: {seen}"
    assert seen["ReporterFailed"] == 1, seen
    return seen


def main() -> None:
    """Read the arguments, run, and check."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="for how long items are added")
    parser.add_argument("--seed", type=int, default=1, help="the random numbers' seed")
    parser.add_argument("--backend", choices=["trio", "asyncio"], default="trio")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="aqueue-soak-") as name:
        folder = Path(name)
        vars(session)["Engine"] = WatchedEngine
        result = run(arguments.seconds, arguments.seed, arguments.backend, folder)
        first, last = check_memory(soak.resident, arguments.seconds)
        check_engine(soak.engine)
        with closing(sqlite3.connect(folder / "run.db")) as connection:
            events = [
                event
                for (text,) in connection.execute("SELECT event FROM events ORDER BY seq")
                if (event := decode(text)) is not None
            ]
        with open(folder / "run.jsonl") as log:
            assert sum(1 for _ in log) == len(events), "the log has other events than the journal"
    assert not soak.too_many, f"more ran at once than may: {soak.too_many}"
    assert not soak.running
    counts = result.counts
    assert not counts.outstanding, f"{counts.outstanding} items have not ended"
    assert counts.deduplicated
    assert result.status == "failed"
    check_events(events)
    check_result(result, events)
    seen = check_faults(events)
    for what, count in seen.most_common():
        print(f"{count:9,} {what}")
    print(
        f"{counts.enqueued:,} items in {result.elapsed_s:.0f} s on {arguments.backend}: all ended; "
        f"{first / 1e6:.1f} MB after {SETTLED:.0%} of the time, {last / 1e6:.1f} MB at the end; "
        f"at most {soak.groups:,} groups at once"
    )


if __name__ == "__main__":
    main()
