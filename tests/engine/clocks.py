"""Runs on a clock that jumps: waits take no time, and the loop's time is exact."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio.testing import MockClock

from aqueue import ItemFailures, ItemLike, RunResult, async_run_queue
from aqueue.testing import EventRecorder
from tests.engine.invariants import check_events, check_result

__all__ = ["run_by_mock_clock", "run_jumping"]


def run_jumping(items: Iterable[ItemLike], **arguments: Any) -> RunResult:
    """Run `items` so, and return what came of it.

    Raises:
        ItemFailures: an item failed.
    """
    clock = MockClock(autojump_threshold=float("inf"))

    @asynccontextmanager
    async def jumping() -> AsyncIterator[None]:
        # Not before and after: the run then waits, for a time, for threads that don't go by this clock.
        clock.autojump_threshold = 0.0
        try:
            yield
        finally:
            clock.autojump_threshold = float("inf")

    async def main() -> RunResult:
        return await async_run_queue(items, lifespan=jumping, **arguments)

    return trio.run(main, clock=clock)


def run_by_mock_clock(
    items: Iterable[ItemLike], *, recorded: bool = True, **arguments: Any
) -> tuple[RunResult, EventRecorder]:
    """Run `items` so, check what holds for any run, and return what came of it, failures or not.

    Parameters:
        recorded: whether to have the events recorded and checked: that takes some ms a run.
    """
    recorder = EventRecorder()
    try:
        result = run_jumping(items, reporter=recorder if recorded else "none", **arguments)
    except ItemFailures as failures:
        result = failures.result
    if recorded:
        check_events(recorder.events, follows_clock=False)
        check_result(result, recorder.events)
    return result, recorder
