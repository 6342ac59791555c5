"""The watchdog: finds the code that blocks the event loop, warns of it, and reports how long it took."""

import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from types import CodeType, FrameType
from typing import Final, NamedTuple

from aqueue._system.loop import CallSoon, frame_below_this_loop
from aqueue._system.notice import warn
from aqueue.text import visible
from aqueue.tracebacks import is_user_file

__all__ = ["PATIENCE_S", "Watchdog"]

BLOCKED_S: Final = 0.5
"""How long one call must block the loop to be recorded, seconds."""

PATIENCE_S: Final = 1.0
"""How long code may block the loop, or keep running after its timeout, before the user is warned; seconds."""

INTERVAL_S: Final = 0.25
"""The interval at which the loop is asked for a sign of life, seconds."""

LOOK_S: Final = 0.05
"""The interval at which its stack is looked at until it gives one, seconds."""

_LOOPS: Final = {os.path.join("trio", "_core", "_run.py"): "unrolled_run", os.path.join("asyncio", "events.py"): "_run"}
"""The functions of event loops that run a step of a task, by the end of the path of their file; uvloop has none."""

_DEBUGGERS: Final = frozenset({"bdb", "pydevd", "_pydevd_bundle"})
"""The modules of debuggers, which stop a thread and wait there for a person."""

_NOT_THEIRS: Final = sys.stdlib_module_names | {"aqueue", "aqueue_reporters", "aqueue_migrations", "anyio", "trio"}
"""The packages that are never the user's own program."""


class _Blocker(NamedTuple):
    """A call that blocks the loop.

    Attributes:
        method: the method that the engine called.
        where: the innermost line of the user's own code.
    """

    method: str
    where: str


class Watchdog:
    """Asks a loop for a sign of life, on a thread of its own, and warns once about each function that blocks the loop."""

    def __init__(
        self,
        call_soon: CallSoon,
        callers: frozenset[CodeType],
        excused: CodeType,
        on_tick: Callable[[], None],
        warn: Callable[[str], None] = warn,
        on_blocked: Callable[[str, str, float], None] | None = None,
    ) -> None:
        """Watch the loop of the current task from `start` to `stop`.

        Parameters:
            call_soon: schedules a call in the loop.
            callers: the engine's code that calls items; frames outside of it are not the items'.
            excused: aqueue's own code that may block the loop on purpose.
            on_tick: called in the loop with each sign of life.
            warn: warns the user, from the watchdog's thread.
            on_blocked: called in the loop after a call has blocked it, with the name of the method, the line in it, and how
                long that took, seconds.
        """
        self._call_soon = call_soon
        self._callers = callers
        self._excused = excused
        self._on_tick = on_tick
        self._warn = warn
        self._on_blocked = on_blocked
        self._loop_thread = threading.get_ident()
        self._below_loop = frame_below_this_loop()
        self._clock = _Clock(self._loop_thread)
        self._answered = threading.Event()
        self._stopped = threading.Event()
        self._named: set[CodeType] = set()
        # The calls in which the loop was seen. The loop's thread clears this list: dropping the last reference to a frame
        # frees its local variables, which may have to happen in the thread that made them.
        self._seen: list[FrameType] = []
        self._thread = threading.Thread(target=self._watch, name="aqueue-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching: at once, unless a warning is being written."""
        self._stopped.set()
        self._answered.set()
        self._thread.join(PATIENCE_S)
        self._seen.clear()
        self._below_loop = None

    def _answer(self) -> None:
        self._answered.set()
        self._seen.clear()
        if not self._stopped.is_set():
            self._on_tick()

    def _watch(self) -> None:
        while not self._stopped.wait(INTERVAL_S):
            held_s = self._clock.lap_s()
            if held_s > PATIENCE_S + INTERVAL_S:  # a call in C that held the interpreter's lock has just ended
                self._record(self._look(held_s), held_s)
            self._answered.clear()
            if self._stopped.is_set():
                return
            self._call_soon(self._answer)
            self._follow()

    def _follow(self) -> None:
        """Until the loop answers, measure how long one and the same call blocks it: many short calls are not to blame."""
        kept_s = 0.0
        blocker: _Blocker | None = None
        is_answered = False
        while not is_answered:
            is_answered = self._answered.wait(LOOK_S)
            passed_s = self._clock.lap_s()
            is_call = passed_s > 2 * INTERVAL_S  # a call in C has just ended; it may have begun after the answer
            if is_answered and not is_call:
                break
            if self._is_same_call():
                kept_s += passed_s
            else:
                self._record(blocker, kept_s)
                kept_s = passed_s if is_call else 0.0
                blocker = None
            blocker = self._look(kept_s) or blocker
        self._record(blocker, kept_s)

    def _record(self, blocker: "_Blocker | None", kept_s: float) -> None:
        """Tell the loop that `blocker`, if there is one, has blocked it for so long."""
        if blocker is not None and self._on_blocked is not None:
            self._call_soon(partial(self._on_blocked, blocker.method, blocker.where, kept_s))

    def _is_same_call(self) -> bool:
        """Return whether the loop is still in the call of the last look."""
        call = self._stack()[-1:]
        seen = self._seen
        if call and call == seen[-1:]:  # not by index: the loop's thread may clear it at any moment
            return True
        seen += call
        return False

    def _look(self, kept_s: float) -> "_Blocker | None":
        """Return what blocks the loop, which it has done for `kept_s` so far; None if that is short, or nobody's own code.

        Warn of it if it is long.
        """
        stack = self._stack() if kept_s >= BLOCKED_S else []
        users = [frame for frame in stack if is_user_file(frame.f_code.co_filename)] or [
            # The user's program may be an installed package, too.
            frame
            for frame in stack
            if _package(frame) not in _NOT_THEIRS
        ]
        if not users or self._stopped.is_set() or any(_package(frame) in _DEBUGGERS for frame in stack):
            return None
        frame, method = users[0], users[-1]
        where = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
        if frame is not method:
            where += f" in {frame.f_code.co_qualname}"
        found = _Blocker(visible(method.f_code.co_qualname, 300), visible(where, 600))
        if kept_s >= PATIENCE_S and method.f_code not in self._named:
            self._named.add(method.f_code)
            self._warn(
                f"{found.method} blocked the event loop for {kept_s:.1f} s, at {found.where}; nothing else can run meanwhile; "
                "await something there, or move the work to a thread with anyio.to_thread.run_sync"
            )
        return found

    def _stack(self) -> list[FrameType]:
        """Return the frames of the step that the loop is running, the innermost first, without those of the loop itself."""
        stack: list[FrameType] = []
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001  # its documented way
        while frame is not None:
            code = frame.f_code
            if code is self._excused:
                return []
            if (
                code in self._callers
                or frame is self._below_loop
                or any(code.co_name == name and code.co_filename.endswith(path) for path, name in _LOOPS.items())
            ):
                return stack
            stack.append(frame)
            frame = frame.f_back
        return []  # it is between two tasks


class _Clock:
    """Measures how long the loop has been at work since the last call, as far as the watchdog can know that."""

    def __init__(self, loop_thread: int) -> None:
        # Some systems have no clock of a thread that other threads can read; the time of the process must do there.
        find = getattr(time, "pthread_getcpuclockid", None)
        self._used_s = time.process_time if find is None else partial(time.clock_gettime, find(loop_thread))
        self._at, self._used = time.monotonic(), self._used_s()

    def lap_s(self) -> float:
        """Return the seconds since the last call.

        If this is longer than the watchdog meant to wait, its own thread was held up, too: by a call in C that held the
        interpreter's lock, or because the process was stopped (Ctrl-Z). Then the CPU time of the loop's thread counts.
        """
        before, used_before = self._at, self._used
        self._at, self._used = time.monotonic(), self._used_s()
        passed_s = self._at - before
        return passed_s if passed_s <= 2 * INTERVAL_S else min(passed_s, self._used - used_before)


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
