"""The watchdog: tells the user which code keeps the event loop to itself."""

import os
import sys
import threading
import time
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Final

from aqueue._loop import CallSoon
from aqueue._notice import warn
from aqueue.text import visible
from aqueue.tracebacks import is_user_file

__all__ = ["PATIENCE_S", "Watchdog"]

PATIENCE_S: Final = 1.0
"""How long code may keep the loop to itself, or go on after its timeout, before that is told; seconds."""

INTERVAL_S: Final = 0.25
"""How often the loop is asked for a sign of life."""

_LOOPS: Final = {os.path.join("trio", "_core", "_run.py"): "unrolled_run", os.path.join("asyncio", "events.py"): "_run"}
"""The functions of the event loops that run a step of a task, by the end of their file's path."""


class Watchdog:
    """Asks a loop for a sign of life, on a thread of its own, and warns once for each function that keeps it waiting."""

    def __init__(
        self, call_soon: CallSoon, callers: frozenset[CodeType], excused: CodeType, on_tick: Callable[[], None]
    ) -> None:
        """Watch the loop of this thread from `start` to `stop`.

        Parameters:
            call_soon: has a function called in the loop.
            callers: the engine's code that calls items: what called that is not theirs.
            excused: aqueue's own code that may keep the loop waiting on purpose.
            on_tick: called in the loop with each sign of life.
        """
        self._call_soon = call_soon
        self._callers = callers
        self._excused = excused
        self._on_tick = on_tick
        self._loop_thread = threading.get_ident()
        self._answered = threading.Event()
        self._stopped = threading.Event()
        self._told: set[CodeType] = set()
        self._thread = threading.Thread(target=self._watch, name="aqueue-watchdog", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, at once unless a warning is just being written."""
        self._stopped.set()
        self._answered.set()
        self._thread.join(PATIENCE_S)

    def _answer(self) -> None:
        self._answered.set()
        if not self._stopped.is_set():
            self._on_tick()

    def _watch(self) -> None:
        while not self._stopped.wait(INTERVAL_S):
            self._answered.clear()
            if self._stopped.is_set():
                return
            asked_at, used = time.monotonic(), time.process_time()
            self._call_soon(self._answer)
            if self._answered.wait(PATIENCE_S):
                continue
            # A wait that took much longer than it should means that this thread was held up, too: by code that keeps
            # the interpreter's lock, or because the whole process was stopped (Ctrl-Z), and used no time.
            waited_s = time.monotonic() - asked_at
            if waited_s < 2 * PATIENCE_S or time.process_time() - used > PATIENCE_S / 2:
                self._tell(waited_s)
            self._answered.wait()

    def _tell(self, waited_s: float) -> None:
        stack = self._stack()
        users = [frame for frame in stack if is_user_file(frame.f_code.co_filename)]
        if not users or self._stopped.is_set():
            return
        place, method = users[0], users[-1]
        if method.f_code in self._told:
            return
        self._told.add(method.f_code)
        where = f"{os.path.basename(place.f_code.co_filename)}:{place.f_lineno}"
        inside = "" if place is method else f" in {place.f_code.co_qualname}"
        warn(
            visible(
                f"{method.f_code.co_qualname} has kept the event loop to itself for {waited_s:.1f} s, at {where}{inside}; "
                "nothing else can run meanwhile. Await something there, or move the work to a thread with "
                "anyio.to_thread.run_sync",
                1_000,
            )
        )

    def _stack(self) -> list[FrameType]:
        """Return the frames of what the loop is running now, the innermost first, without those of the loop itself."""
        stack: list[FrameType] = []
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001  # its documented way
        while frame is not None:
            code = frame.f_code
            if code is self._excused:
                return []
            if code in self._callers or any(
                code.co_name == name and code.co_filename.endswith(path) for path, name in _LOOPS.items()
            ):
                return stack
            stack.append(frame)
            frame = frame.f_back
        return []  # it is between two tasks
