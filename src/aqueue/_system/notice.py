"""Messages on standard error: at once, from any thread and signal handler, whether or not anybody reads them."""

import io
import os
import select
import sys
from contextlib import suppress
from typing import Any, Final

__all__ = ["say", "stderr_is_terminal", "warn"]

_PATIENCE_S: Final = 0.2
_MAX_BYTES: Final = 4_000  # a pipe with any room takes this many in one write


def say(message: str) -> None:
    """Write `message`, a line, to standard error; give up if that is closed, broken, or stuck for 0.2 s.

    It bypasses the stream's buffer: what can't be written must not stay there, since the interpreter would fail on it at
    exit, and a thread that is stuck in a write must not hold the buffer's lock, on which the interpreter would abort. Only
    a replaced `write` is used (a reporter shows printed text above its panels, a test captures it).
    """
    stderr: Any = sys.stderr
    with suppress(Exception):
        if type(stderr) is not io.TextIOWrapper or "write" in vars(stderr):
            stderr.write(message + "\n")
            stderr.flush()
            return
        fd = stderr.fileno()
        data = (message + "\n").encode(stderr.encoding or "ascii", "backslashreplace")
        if select.select([], [fd], [], _PATIENCE_S)[1]:
            os.write(fd, data[:_MAX_BYTES])


def warn(message: str) -> None:
    """Write `message` as a warning from aqueue, as `say` does."""
    say(f"aqueue: warning: {message}")


def stderr_is_terminal() -> bool:
    """Return whether standard error is a terminal, where a person may be reading it."""
    with suppress(Exception):  # closed, or none
        return sys.stderr.isatty()
    return False
