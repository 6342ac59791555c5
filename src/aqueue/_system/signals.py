"""SIGINT, SIGTERM and SIGHUP while a run is open: handlers for the main thread, removed after it."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Final, Self

from aqueue._system.installed_handlers import InstalledHandlers
from aqueue._system.loop import CallSoon

__all__ = ["HeldInterrupts", "SignalHandlers", "exception_for", "signal_name"]

UNRESPONSIVE_S: Final = 1.0
"""How long the event loop may take to react to a signal before the user is told why nothing happens."""

_KILL_GRACE_S: Final = 0.2

_HANDLED: Final = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_KILLING: Final = 3
_NEVER: Final = float("inf")


def signal_name(number: int) -> str:
    """Return the name of the signal for a person."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def exception_for(number: int) -> BaseException:
    """Return what a run that the signal stopped raises: `KeyboardInterrupt`, or `SystemExit` with 128 + n."""
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


class HeldInterrupts:
    """A context manager around an event loop that aqueue runs; it holds back each Ctrl-C that nothing else handles.

    Before `SignalHandlers` is entered and after it is left, both loops would install a handler of their own, which raises
    somewhere inside the run. A Ctrl-C that is held back is sent again by `deliver`, or raised at the end.
    """

    def __init__(self) -> None:
        self._count = 0
        self._lets_through = False
        self._handlers: InstalledHandlers | None = None

    def __enter__(self) -> Self:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._handlers = InstalledHandlers([signal.SIGINT], self._hold)
        return self

    def __exit__(self, exc_type: object, exc: object, traceback: object) -> None:
        if self._handlers is not None:
            self._handlers.put_back()
        if self._count and not isinstance(exc, KeyboardInterrupt):
            raise KeyboardInterrupt

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self._lets_through:
            raise KeyboardInterrupt
        self._count += 1

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """Raise `KeyboardInterrupt` at once, for the user's code that may block and can be interrupted without loss."""
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
        """Send again what was held, now that there are handlers for it."""
        count, self._count = self._count, 0
        for _ in range(count):
            os.kill(os.getpid(), signal.SIGINT)


@dataclass(eq=False)
class SignalHandlers:
    """A context manager in which signals call `on_signal`, and the third ends the process at once.

    Does nothing outside the main thread. Several runs may be open in one loop: each gets the signals.

    Attributes:
        on_signal: called in the main thread, at any moment of its other work, with the signal and its count. What it
            raises is raised there.
        on_unanswered: called in a thread of its own, with the count of signals, when the loop has not reacted to the last
            one for a second.
        before_kill: called just before the process ends; must only use what is safe at any moment.
        call_soon: has a function called in the loop.
        first: the first signal that came, or None.
        count: how many signals came.
    """

    on_signal: Callable[[int, int], None]
    on_unanswered: Callable[[int], None]
    before_kill: Callable[[], None]
    call_soon: CallSoon
    first: int | None = None
    count: int = 0

    def __enter__(self) -> Self:
        global _installation  # noqa: PLW0603  # one in the process, as the handlers are
        if threading.current_thread() is threading.main_thread():
            if _installation is None:
                _installation = _Installation(self)
            else:
                _installation.open_runs.append(self)
        return self

    def __exit__(self, *raised: object) -> None:
        global _installation  # one in the process, as the handlers are
        if _installation is None or self not in _installation.open_runs:
            return
        if len(_installation.open_runs) > 1:
            _installation.open_runs.remove(self)
        else:
            last, _installation = _installation, None
            last.put_back()
            last.end_thread()


class _Installation(InstalledHandlers):
    """The handlers themselves: one in the process, for all runs that are open in the main thread.

    Python calls a handler only between two steps of the main thread's own work, and the loop reacts only when no item
    blocks it. So a thread watches (by `signal.set_wakeup_fd`) whether signals are answered: it says so if they aren't,
    wakes a loop that fell asleep just when one came, and ends the process at the third if the main thread can't, being
    inside a call that ignores signals.
    """

    def __init__(self, first_run: SignalHandlers) -> None:
        self.open_runs = [first_run]
        self._caught = 0
        self._answered = 0
        self._reading, self._writing = socket.socketpair()
        self._writing.setblocking(False)
        self._previous_wakeup_fd = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        super().__init__(_HANDLED, self._on_signal)
        self._thread = threading.Thread(target=self._watch, name="aqueue-signals", daemon=True)
        self._thread.start()

    def put_back(self) -> None:
        super().put_back()
        now = signal.set_wakeup_fd(-1)
        try:
            signal.set_wakeup_fd(self._previous_wakeup_fd if now == self._writing.fileno() else now)
        except (OSError, ValueError):  # its owner has closed it in the meantime
            signal.set_wakeup_fd(-1)

    def end_thread(self) -> None:
        """End the watching thread, after `put_back`."""
        self._writing.close()
        self._thread.join(_KILL_GRACE_S)  # it ends at once, unless a callback of a run is stuck
        if not self._thread.is_alive():
            self._reading.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        runs = tuple(self.open_runs)
        for run in runs:
            run.count += 1
            run.first = run.first or number
        if any(run.count >= _KILLING for run in runs):
            self._before_kill()
            # End by the signal itself, so that a shell or a supervisor sees what happened.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raised: BaseException | None = None
        for run in runs:
            try:
                run.on_signal(number, run.count)
            except BaseException as error:
                raised = error
        if raised is not None:
            raise raised

    def _before_kill(self) -> None:
        for run in tuple(self.open_runs):
            run.before_kill()

    # ---- the watching thread ------------------------------------------------------------------------------------

    def _watch(self) -> None:
        warn_at = kill_at = _NEVER
        last = 0
        while True:
            if self._answered == self._caught:
                warn_at = kill_at = _NEVER
            due = min(warn_at, kill_at)
            self._reading.settimeout(None if due == _NEVER else max(due - time.monotonic(), 0.001))
            try:
                data = self._reading.recv(4096)
            except TimeoutError:
                if self._answered == self._caught:
                    continue
                if kill_at <= warn_at:
                    self._before_kill()
                    os._exit(128 + last)
                warn_at = _NEVER
                for run in self.open_runs[:1]:
                    run.on_unanswered(self._caught)
                continue
            if not data:
                self._reading.close()  # here, since nobody may wait long for this thread
                return
            if self._previous_wakeup_fd >= 0:
                with suppress(OSError):
                    os.write(self._previous_wakeup_fd, data)
            caught = [number for number in data if number in self.previous]
            if caught:
                last = caught[-1]
                self._caught += len(caught)
                self._ask_loop(self._caught)
                warn_at = time.monotonic() + UNRESPONSIVE_S
                if self._caught >= _KILLING:
                    kill_at = min(kill_at, time.monotonic() + _KILL_GRACE_S)

    def _ask_loop(self, caught: int) -> None:
        def answer() -> None:
            self._answered = caught

        for run in self.open_runs[:1]:  # they all are in the one loop of the main thread
            run.call_soon(answer)


_installation: _Installation | None = None
