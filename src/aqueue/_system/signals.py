"""SIGINT, SIGTERM and SIGHUP while a run is open: handlers are installed in the main thread and put back after it."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, Final, Self

from aqueue._system.loop import CallSoon

__all__ = ["HeldInterrupts", "SignalHandlers", "exception_for", "signal_name"]

UNRESPONSIVE_S: Final = 1.0
"""How long the event loop may take to get round to a signal before a person is told why nothing happens."""

_KILL_GRACE_S: Final = 0.2

_HANDLED: Final = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_KILLING: Final = 3


def signal_name(number: int) -> str:
    """Return what a person calls the signal."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def exception_for(number: int) -> BaseException:
    """Return what a run raises that was stopped by the signal: `KeyboardInterrupt`, or `SystemExit` with 128 + n."""
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


class HeldInterrupts:
    """A context manager around an event loop of aqueue's own, in which a Ctrl-C without another handler is held.

    Both loops would install a handler of theirs for the time before `SignalHandlers` is entered and after it is left,
    and raise somewhere inside the run. What is held is handed over by `deliver`, or raised at the end.
    """

    def __init__(self) -> None:
        self._count = 0
        self._holds = False
        self._lets_through = False

    def __enter__(self) -> Self:
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            signal.signal(signal.SIGINT, self._hold)
            self._holds = True
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._holds and signal.getsignal(signal.SIGINT) == self._hold:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._count and not isinstance(exc, KeyboardInterrupt):
            raise KeyboardInterrupt

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self._lets_through:
            raise KeyboardInterrupt
        self._count += 1

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """Raise `KeyboardInterrupt` at once, for the user's code that may block and with which nothing is lost."""
        self.check()
        self._lets_through = True
        try:
            yield
        finally:
            self._lets_through = False

    def check(self) -> None:
        """Raise `KeyboardInterrupt` if there was a Ctrl-C; for long work before the run begins."""
        if self._count:
            self._count = 0
            raise KeyboardInterrupt

    def deliver(self) -> None:
        """Send what was held again, now that there are handlers for it."""
        count, self._count = self._count, 0
        for _ in range(count):
            os.kill(os.getpid(), signal.SIGINT)


class SignalHandlers:
    """A context manager in which the signals call `on_signal`, and the third ends the process at once.

    Does nothing outside the main thread. A signal that is ignored (as `nohup` does with SIGHUP, and a shell with the
    SIGINT of a job in the background) stays ignored. Several runs may be open in one loop: each is told.

    Attributes:
        first: the first signal that came, or None.
    """

    def __init__(
        self,
        on_signal: Callable[[int, int], None],
        on_unanswered: Callable[[int], None],
        before_kill: Callable[[], None],
        call_soon: CallSoon,
    ) -> None:
        """Make them; nothing is installed before `__enter__`.

        Parameters:
            on_signal: called in the main thread, at any moment of its other work, with the signal and its count. What
                it raises is raised there.
            on_unanswered: called in a thread of its own, with the count of signals, when the loop has not got round to
                the last one for a second.
            before_kill: called just before the process ends; must only use what is safe at any moment.
            call_soon: has a function called in the loop.
        """
        self.first: int | None = None
        self._count = 0
        self._on_signal = on_signal
        self.on_unanswered = on_unanswered
        self.before_kill = before_kill
        self.call_soon = call_soon

    def __enter__(self) -> Self:
        global _installed  # noqa: PLW0603  # one in the process, as the handlers are
        if threading.current_thread() is threading.main_thread():
            if _installed is None:
                _installed = _Installation(self)
            else:
                _installed.open_runs.append(self)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        global _installed  # one in the process, as the handlers are
        if _installed is None or self not in _installed.open_runs:
            return
        if len(_installed.open_runs) > 1:
            _installed.open_runs.remove(self)
        else:
            installed, _installed = _installed, None
            installed.put_back()
            installed.end_thread()

    def count(self, number: int) -> int:
        """Count a signal and return how many there have been."""
        self._count += 1
        if self.first is None:
            self.first = number
        return self._count

    def tell(self, number: int) -> None:
        """Call `on_signal` for the one that was just counted."""
        self._on_signal(number, self._count)


class _Installation:
    """The handlers themselves: one in the process, for all runs that are open in the main thread.

    Python calls a handler only between two steps of the main thread's own work, and the loop gets round to it only
    when no item keeps it. So a thread watches (by `signal.set_wakeup_fd`) whether signals are answered: it says so if
    they aren't, wakes a loop that fell asleep just when one came, and ends the process at the third if the main thread
    can't, since it is inside a call that knows nothing of signals.
    """

    def __init__(self, first_run: SignalHandlers) -> None:
        self.open_runs = [first_run]
        self._caught = 0
        self._answered = 0
        self._reading, self._writing = socket.socketpair()
        self._writing.setblocking(False)
        self._previous_wakeup_fd = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        self._previous: dict[int, Any] = {}
        for number in _HANDLED:
            # None: installed by other than Python, and could not be put back.
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._previous[number] = signal.signal(number, self._handle)
        self._thread = threading.Thread(target=self._watch, name="aqueue-signals", daemon=True)
        self._thread.start()

    def put_back(self) -> None:
        """Install again what was installed before, except where someone has installed something else since."""
        for number, previous in self._previous.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, previous)
        now = signal.set_wakeup_fd(-1)
        try:
            signal.set_wakeup_fd(self._previous_wakeup_fd if now == self._writing.fileno() else now)
        except (OSError, ValueError):  # whoever installed it has closed it in the meantime
            signal.set_wakeup_fd(-1)

    def end_thread(self) -> None:
        """End the watching thread; what is put back must be put back before."""
        self._writing.close()
        self._thread.join(_KILL_GRACE_S)  # it ends at once, unless it is stuck in telling something
        if not self._thread.is_alive():
            self._reading.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        runs = tuple(self.open_runs)
        if max((run.count(number) for run in runs), default=0) >= _KILLING:
            self._before_kill()
            # Die of the signal itself, so that a shell or a supervisor sees what happened.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raised: BaseException | None = None
        for run in runs:
            try:
                run.tell(number)
            except BaseException as error:
                raised = error
        if raised is not None:
            raise raised

    def _before_kill(self) -> None:
        for run in tuple(self.open_runs):
            run.before_kill()

    # ---- the watching thread ------------------------------------------------------------------------------------

    def _watch(self) -> None:
        tell_at = kill_at = float("inf")
        last = 0
        while True:
            if self._answered == self._caught:
                tell_at = kill_at = float("inf")
            due = min(tell_at, kill_at)
            self._reading.settimeout(None if due == float("inf") else max(due - time.monotonic(), 0.001))
            try:
                data = self._reading.recv(4096)
            except TimeoutError:
                if self._answered == self._caught:
                    continue
                if kill_at <= tell_at:
                    self._before_kill()
                    os._exit(128 + last)
                tell_at = float("inf")
                for run in self.open_runs[:1]:
                    run.on_unanswered(self._caught)
                continue
            if not data:
                self._reading.close()  # here, since nobody may wait long for this thread
                return
            if self._previous_wakeup_fd >= 0:
                with suppress(OSError):
                    os.write(self._previous_wakeup_fd, data)
            caught = [number for number in data if number in self._previous]
            if caught:
                last = caught[-1]
                self._caught += len(caught)
                self._ask_loop(self._caught)
                tell_at = time.monotonic() + UNRESPONSIVE_S
                if self._caught >= _KILLING:
                    kill_at = min(kill_at, time.monotonic() + _KILL_GRACE_S)

    def _ask_loop(self, caught: int) -> None:
        def answer() -> None:
            self._answered = caught

        for run in self.open_runs[:1]:  # they all are in the one loop of the main thread
            run.call_soon(answer)


_installed: _Installation | None = None


def _put_back_in_child() -> None:
    """In a forked child, put everything back: its signals are none of the run's, and `Process.terminate` must work."""
    if _installed is not None:
        _installed.put_back()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_put_back_in_child)
