"""Say something on standard error at once, from any thread and from a signal handler, whoever reads it or nobody."""

import io
import os
import select
import sys
from contextlib import suppress
from typing import Any, Final

__all__ = ["say", "stderr_is_terminal", "warn"]

_PATIENCE_S: Final = 0.2
_MAX_BYTES: Final = 4_000  # a pipe that has room at all takes so much in one go


def say(message: str) -> None:
    """Write `message`, a line, to standard error; give up if that is closed, broken, or stuck for 0.2 s.

    It goes past the stream's buffer: what can't be written must not stay there, where the interpreter would fail on it
    at its end, and a thread that is stuck in a write must not hold the buffer's lock, on which the interpreter would
    abort. Only where a write is not the stream's own (a reporter shows printed text above its panels, a test captures
    it) does it go through that.
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
    """Write `message` as a warning of aqueue's, as `say` does."""
    say(f"aqueue: warning: {message}")


def stderr_is_terminal() -> bool:
    """Tell whether a person may be reading standard error."""
    with suppress(Exception):  # closed, or none
        return sys.stderr.isatty()
    return False
