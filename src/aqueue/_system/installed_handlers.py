"""Signal handlers, and how the earlier ones are restored: when their owner is done, and in forked children."""

import os
import signal
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, Final

__all__ = ["InstalledHandlers"]

_installed: Final["list[InstalledHandlers]"] = []


class InstalledHandlers:
    """Handlers of signals, installed from the creation of this object until `put_back`; none outside the main thread.

    A signal that is ignored (as `nohup` does with SIGHUP, and a shell with the SIGINT of a job in the background) stays
    ignored.

    Attributes:
        previous: the earlier handlers, by signal.
    """

    def __init__(self, numbers: Iterable[int], handle: Callable[[int, FrameType | None], None]) -> None:
        """Have `handle` called for the signals `numbers`."""
        self.previous: dict[int, Any] = {}
        self._handle = handle
        if threading.current_thread() is not threading.main_thread():
            return
        for number in numbers:
            # None: installed by something other than Python, and could not be restored.
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self.previous[number] = signal.signal(number, handle)
        _installed.append(self)

    def put_back(self) -> None:
        """Restore the earlier handlers, except where another one has been installed since."""
        if self in _installed:
            _installed.remove(self)
        for number, previous in self.previous.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, previous)


def _put_back_in_child() -> None:
    """In a forked child, restore all handlers: its parent handles these signals, and `Process.terminate` must work."""
    for handlers in _installed[::-1]:
        handlers.put_back()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_put_back_in_child)
