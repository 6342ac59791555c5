"""Run items through a wall clock that this program itself sets, as libfaketime lets it.

Arguments: the event loop; then ``jump``, to set the clock by each of the offsets that follow (seconds) and be killed, or
``go-on``, to set it by one offset and stop when the items named behind that have run.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import anyio

import aqueue
from aqueue import EnqueueFn, Item, ItemFailures, Limit, Retry, RunResult, SetDescFn, run_queue
from aqueue.events import Event, ItemRetryScheduled
from aqueue.reporting import RunInfo
from aqueue.view import RunView
from aqueue_reporters.plain import PlainReporter

BACKEND, WHAT, *WORDS = sys.argv[1:]
CLOCK = Path(os.environ["FAKETIME_TIMESTAMP_FILE"])
DONE: set[str] = set()


def set_clock(offset: str) -> None:
    """Set the wall clock to the real one and so many seconds, at once for all threads."""
    new = CLOCK.with_suffix(".new")
    new.write_text(offset)
    new.replace(CLOCK)


class Ticks:
    """Counts the calls, before the next but one of which the run looks at the wall clock, and notes what is recorded."""

    uses_terminal = False
    count = 0
    retried: ClassVar[set[str]] = set()

    def open(self, run: RunInfo) -> None: ...

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Count the call, and note what has failed and waits."""
        self.count += 1
        for event in events:
            if isinstance(event, ItemRetryScheduled):
                self.retried.add(event.error.message)

    def close(self, result: RunResult) -> None: ...


ticks = Ticks()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what other tasks or the reporters' thread do."""
    while not condition():
        await anyio.sleep(0.01)


@dataclass
class Flaky(Item):
    """Fails once, and waits 0.2 s for its second attempt."""

    jump: int
    retry = Retry(attempts=2, first_s=0.2, jitter=0.0)

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        DONE.add(f"flaky {self.jump}, attempt {aqueue.current().attempt}")
        if aqueue.current().attempt == 1:
            raise ValueError("on purpose")


@dataclass
class Hanging(Item):
    """Runs until its timeout."""

    jump: int
    timeout_s = 0.2

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            DONE.add(f"hanging {self.jump}")


@dataclass
class Polite(Item):
    """One of a group that is limited, or slowed down."""

    group: str
    number: int

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        DONE.add(f"{self.group} {self.number}")


@dataclass
class Patient(Item):
    """Runs through all jumps; its timeout is much longer than the run, and shorter than the jumps."""

    timeout_s = 3_600.0

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await until(lambda: "jumps" in DONE or WHAT != "jump")


@dataclass
class Again(Item):
    """Fails in the first process: one then waits for an hour, from before the jumps or after them, one again and again."""

    kind: str
    retry = Retry(attempts=1_000, first_s=3_600.0, jitter=0.0)

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        if WHAT != "jump":
            DONE.add(self.kind)
            return
        if self.kind == "short":
            raise aqueue.RetryAfter(1.0)
        if self.kind == "late":
            await until(lambda: "jumps" in DONE)
        raise ValueError(self.kind)


@dataclass
class Clock(Item):
    """Sets the clock while others wait, and sees them end in time for all that."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        if WHAT != "jump":
            await until(lambda: set(WORDS[1:]) <= DONE)
            aqueue.stop("what was due has run")
            return
        aqueue.slow_down("slow for long", 3_600.0)
        enqueue(Polite("slow for long", 0))
        for jump, offset in enumerate(WORDS):
            await self.jump(jump, offset, enqueue)
        DONE.add("jumps")
        await until(lambda: {"early", "late"} <= ticks.retried)
        os.kill(os.getpid(), signal.SIGKILL)

    async def jump(self, jump: int, offset: str, enqueue: EnqueueFn) -> None:
        """Set the clock by `offset` once others wait, and wait for them and for the run to have looked at the clock."""
        aqueue.slow_down(f"slow {jump}", 0.2)
        awaited = {f"hanging {jump}", f"flaky {jump}, attempt 2", f"slow {jump} 0"}
        for item in (Hanging(jump), Flaky(jump), Polite(f"slow {jump}", 0)):
            enqueue(item)
        for number in range(3 * jump, 3 * jump + 3):
            enqueue(Polite("limited", number))
            awaited.add(f"limited {number}")
        await until(lambda: f"flaky {jump}, attempt 1" in DONE)
        set_clock(offset)
        looked = ticks.count
        await until(lambda: awaited <= DONE and ticks.count > looked + 2)


def main() -> None:
    """Run, and say what became of it."""
    if WHAT != "jump":
        set_clock(WORDS[0])
    arguments: dict[str, Any] = {"resume": "run.db", "on_error": "continue", "backend": BACKEND, "retry_failed": False}
    plain = PlainReporter(stream=open("plain.txt", "a"), interval_s=0.0)  # noqa: SIM115  # until the end
    try:
        result = run_queue(
            [Clock(), Patient(), Again("early"), Again("late"), Again("short")],
            num_workers=10,
            limits={"limited": Limit(per_second=20)},
            stop_after_s=3_600.0,
            reporter=["rich", plain, "jsonl:run.jsonl", ticks],
            **arguments,
        )
    except ItemFailures as failures:
        result = failures.result
    print(result.status, *sorted(DONE))


if __name__ == "__main__":
    main()
