"""Run an item in uvloop, which is started in the way that the argument names; what comes of it is marked."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import anyio
import uvloop
from marks import mark

from aqueue import EnqueueFn, Item, RunResult, SetDescFn, async_run_queue, run_queue

GATES: Final = Path(os.environ["AQUEUE_TEST_GATES"])
ARGUMENTS: Final[dict[str, Any]] = {"resume": GATES / "run.db", "reporter": "none", "graceful_ctrl_c": False}


class Idle(Item):
    """Sleeps for an hour, unless the gate ``go`` is open."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        mark(f"in {type(asyncio.get_running_loop()).__module__}")
        if not (GATES / "go").exists():
            await anyio.sleep(3_600)


async def main() -> RunResult:
    """Run in the loop that there is."""
    return await async_run_queue([Idle()], **ARGUMENTS)


def by_runner() -> RunResult:
    """Let asyncio make the loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def by_policy() -> RunResult:
    """Let aqueue make the loop, as the policy says."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    return run_queue([Idle()], backend="asyncio", **ARGUMENTS)


WAYS: Final[dict[str, Callable[[], RunResult]]] = {
    "uvloop.run": lambda: uvloop.run(main()),
    "asyncio.Runner": by_runner,
    "anyio.run": lambda: anyio.run(main, backend="asyncio", backend_options={"use_uvloop": True}),
    "policy": by_policy,
}

if __name__ == "__main__":
    try:
        result = WAYS[sys.argv[1]]()
    except BaseException as error:
        mark(f"raised {type(error).__name__}")
        raise
    mark(f"returned {result.status}")
