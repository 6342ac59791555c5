"""A large job in a process of its own, so that a crash of the interpreter is seen; prints what came of it as JSON.

Arguments: shape (``chain`` or ``siblings``), number of items, how it ends, in which phase, backend.
"""

import gc
import json
import sys
import threading

import anyio
from anyio.lowlevel import checkpoint

import aqueue
from aqueue import EnqueueFn, Item, ItemFailures, SetDescFn
from aqueue.testing import EventRecorder

shape, number, end, phase, backend = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]
scope: anyio.CancelScope | None = None


async def end_midway() -> None:
    """Do what ends the run, in the item in the middle."""
    if end == "stopped":
        aqueue.stop("midway")
    elif end == "failed":
        raise ValueError("midway")
    elif end == "exited":
        raise SystemExit
    elif end in ("cancelled", "cancelled without awaiting"):
        assert scope is not None
        scope.cancel()
        if end == "cancelled":
            await checkpoint()


class Link(Item):
    __slots__ = ("depth",)

    def __init__(self, depth: int) -> None:
        self.depth = depth

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        if shape == "chain" and self.depth < number:
            enqueue(type(self)(self.depth + 1))
        if shape == "siblings" and self.depth == 0:
            for child in range(1, number):
                enqueue(type(self)(child))
        if phase == "process" and self.depth == number // 2:
            await end_midway()


class Hooked(Link):
    __slots__ = ()

    async def after_children_processed(self) -> None:
        if phase == "hook" and self.depth == number // 2:
            await end_midway()


async def run() -> None:
    """Run the job, and print how it ended."""
    global scope
    recorder = EventRecorder()
    first = 1 if shape == "chain" else 0
    cls = Hooked if phase == "hook" else Link
    # Alone, the reporters' thread keeps the events of a small run; of a large one none are kept.
    reporter = recorder if number <= 100_000 else "none"
    raised = ""
    counts: aqueue.RunResult | None = None
    with anyio.CancelScope() as scope:
        try:
            counts = await aqueue.async_run_queue([cls(first)], reporter=reporter)
        except ItemFailures as failures:
            raised, counts = "ItemFailures", failures.result
        except SystemExit:
            raised = "SystemExit"
    if scope.cancelled_caught:
        raised = "cancelled"
    result = recorder.result or counts
    assert result is not None
    print(json.dumps({"raised": raised, "status": result.status, "completed": result.counts.completed}))


def main() -> None:
    """Run in a thread with a small stack: what recurses in C crashes there at a tenth of the depth."""

    def run_and_free() -> None:
        anyio.run(run, backend=backend)
        gc.collect()  # here, and not at the end of the process, where the stack is large

    threading.stack_size(512 * 1024)
    thread = threading.Thread(target=run_and_free)
    thread.start()
    thread.join()


main()
