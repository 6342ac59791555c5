"""Timers: functions that are called in the event loop when their time has come, all by one task."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Final

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

__all__ = ["Timers"]

MAX_CALLS_AT_ONCE: Final = 1_000
"""How many functions are called before everything else in the event loop gets its turn: about 2 ms."""


class Timers:
    """Functions and when they are due, on the loop's own clock.

    That clock stands still while the machine sleeps, so what is left of a wait is the same when it wakes, and not
    everything is due at once. The task runs from the beginning: it can't be started where the first timer may be set, in a
    callback of asyncio's loop (after a `slow_down` in another thread, for example), which is no task.

    All methods are called in the loop's thread.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Use `clock`, which returns the loop's time in seconds."""
        self._clock = clock
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._changed: anyio.Event | None = None
        self._tasks: TaskGroup | None = None

    def open(self, tasks: TaskGroup) -> None:
        """Call functions from now on, in a task of `tasks`; it ends only when that group is cancelled, or by `close`."""
        self._tasks = tasks
        tasks.start_soon(self._run, name="aqueue timers")

    def close(self) -> None:
        """Call nothing more, and let the task end."""
        self._heap.clear()
        self._tasks = None
        self._wake()

    def after(self, delay_s: float, call: Callable[[], None]) -> None:
        """Have `call` called once, in `delay_s` seconds or soon after."""
        heappush(self._heap, (self._clock() + delay_s, next(self._numbers), call))
        if self._heap[0][2] is call:
            self._wake()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()

    async def _run(self) -> None:
        while self._tasks is not None:
            left = MAX_CALLS_AT_ONCE
            while self._heap and self._heap[0][0] <= self._clock():
                heappop(self._heap)[2]()
                left -= 1
                if left == 0:
                    left = MAX_CALLS_AT_ONCE
                    await checkpoint()
            if self._tasks is None:  # closed during that checkpoint: nothing would end the wait
                return
            self._changed = anyio.Event()
            with anyio.CancelScope(deadline=self._heap[0][0] if self._heap else float("inf")):
                await self._changed.wait()
