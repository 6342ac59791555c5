"""What people write by hand instead: a deque, a pool of tasks, no events. The yardstick of every figure."""

from collections import deque
from collections.abc import Iterable
from typing import Any

import trio


async def hand_written_loop(initial_items: Iterable[Any], num_workers: int) -> int:
    """Run `initial_items` and what they enqueue, and return how many were done."""
    queue = deque(initial_items)
    descriptions: dict[int, str] = {}
    errors: list[Exception] = []
    busy = done = 0

    async def worker(number: int) -> None:
        nonlocal busy, done

        def set_desc(text: str) -> None:
            descriptions[number] = text

        while queue or busy:
            if not queue:
                await trio.sleep(0.01)
                continue
            item = queue.popleft()
            busy += 1
            try:
                await item.process(queue.append, set_desc)
                done += 1
            except Exception as error:
                errors.append(error)
            finally:
                busy -= 1

    async with trio.open_nursery() as nursery:
        for number in range(num_workers):
            nursery.start_soon(worker, number)
    assert not errors
    return done
