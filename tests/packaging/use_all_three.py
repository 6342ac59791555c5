"""Uses what was installed, as a user's program would: run in a folder of its own, away from the checkout."""

import json
import sys
from importlib.metadata import entry_points
from pathlib import Path

import aqueue
import aqueue_migrations
import aqueue_reporters
from aqueue import EnqueueFn, Item, SetDescFn, run_queue
from aqueue.testing import EventRecorder


class Branch(Item):
    """A node of a small tree, whose result is the number of nodes below and with it."""

    def __init__(self, depth: int) -> None:
        self.depth = depth

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        set_desc(f"{self.depth} levels to go")
        for _ in range(2 if self.depth else 0):
            enqueue(Branch(self.depth - 1))

    async def after_children_processed(self) -> int:
        below: int = sum(aqueue.child_results())
        return 1 + below


def main(expected_root: Path) -> None:
    """Check that all three packages come from `expected_root`, and run a small job on each backend."""
    for package in (aqueue, aqueue_migrations, aqueue_reporters):
        file = Path(str(package.__file__))
        assert file.is_relative_to(expected_root), f"{package.__name__} comes from {file}, not from {expected_root}"
        assert file.with_name("py.typed").is_file(), f"{package.__name__} has no py.typed"
    for backend in ("trio", "asyncio"):
        recorder = EventRecorder()
        log = f"{backend}.jsonl"
        result = run_queue([Branch(3)], num_workers=2, reporter=["plain", f"jsonl:{log}", recorder], backend=backend)
        assert result.status == "completed"
        assert result.root_results == [15]
        lines = Path(log).read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["event"] for line in lines] == [event.event for event in recorder.events]
    reporters = {point.name: point.load() for point in entry_points(group="aqueue.reporters")}
    assert {"rich", "plain", "jsonl"} <= set(reporters)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
