"""A custom reporter: any object with `uses_terminal`, `open`, `handle` and `close`.

    python examples/custom_reporter.py

This one prints a line whenever another quarter of the tracked items known so far has completed, and one per failure.
"""

import sys
from collections.abc import Sequence
from typing import TextIO

import anyio

from aqueue import EnqueueFn, Item, RunResult, SetDescFn, run_queue
from aqueue.events import Event, ItemFailed
from aqueue.reporting import RunInfo
from aqueue.text import visible
from aqueue.view import RunView


class MilestoneReporter:
    """Prints a line at each quarter of the overall progress, and one for each failure."""

    uses_terminal = False  # it only writes whole lines, so another reporter may use the terminal

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.quarters = 0

    def open(self, run: RunInfo) -> None:
        self.quarters = 0
        print(f"started with {run.num_workers} workers", file=self.stream, flush=True)

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        for event in events:
            if isinstance(event, ItemFailed):
                # Text from an item may contain anything, even escape sequences: `visible` makes it one safe line.
                print(f"item {event.item} failed: {visible(event.error.message, 200)}", file=self.stream, flush=True)
        overall = view.overall
        quarters = 4 * overall.completed // max(overall.enqueued, 1)
        if quarters > self.quarters:
            self.quarters = quarters
            print(f"{25 * quarters} %: {overall.completed} of {overall.enqueued}", file=self.stream, flush=True)

    def close(self, result: RunResult) -> None:
        print(f"{result.status} after {result.elapsed_s:.1f} s", file=self.stream, flush=True)


class Root(Item):
    """Enqueues a hundred items."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for _ in range(100):
            enqueue(Step())


class Step(Item):
    """Takes a tenth of a second."""

    track_overall = True

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await anyio.sleep(0.1)


def main() -> None:
    """Run a hundred items and report the milestones."""
    run_queue(initial_items=[Root()], reporter=MilestoneReporter())


if __name__ == "__main__":
    main()
