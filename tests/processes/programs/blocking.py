"""Block the event loop for a third of a second, in steps of its own, and say when that begins."""

import sys
import time
from typing import Any

from aqueue import EnqueueFn, Item, SetDescFn, run_queue


class Blocking(Item):
    """Blocks the event loop."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        print("blocking", flush=True)
        for _ in range(5):
            time.sleep(0.06)


if __name__ == "__main__":
    backend: Any = sys.argv[1]
    run_queue([Blocking()], reporter="none", backend=backend)
