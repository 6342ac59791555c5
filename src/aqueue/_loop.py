"""What is asked of a running event loop itself: to call a function from outside of it, the time, and where it runs."""

import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import trio

__all__ = ["CallSoon", "call_soon_in_this_loop", "clock_of_this_loop", "frame_below_this_loop"]

CallSoon = Callable[[Callable[[], object]], None]
"""Has a function called in the loop soon; does nothing once that loop has ended."""


def call_soon_in_this_loop() -> CallSoon:
    """Return a function that has another one called in the current loop soon, from any thread or signal handler."""
    call: Callable[[Callable[[], object]], object]
    if trio.lowlevel.in_trio_run():
        call = trio.lowlevel.current_trio_token().run_sync_soon
    else:
        import asyncio  # a trio program need not load it

        call = asyncio.get_running_loop().call_soon_threadsafe

    def call_soon(function: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has ended; trio.RunFinishedError is one, too
            call(function)

    return call_soon


def clock_of_this_loop() -> Callable[[], float]:
    """Return a function that tells the current loop's time in seconds; it works in its callbacks, too."""
    if trio.lowlevel.in_trio_run():
        return trio.current_time
    import asyncio

    return asyncio.get_running_loop().time


def frame_below_this_loop() -> FrameType | None:
    """Return the frame on which the loop of the current task runs its steps; None if that can't be told.

    It is the caller of `run_until_complete` where the loop has no frames of its own, being written in C as uvloop is. On
    trio nobody needs it.
    """
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or trio.lowlevel.in_trio_run():
        return None
    task = asyncio.current_task()
    first = None if task is None else getattr(task.get_coro(), "cr_frame", None)
    frame: FrameType | None = sys._getframe()  # noqa: SLF001  # its documented way
    while frame is not None and frame is not first:
        frame = frame.f_back
    return None if frame is None else frame.f_back
