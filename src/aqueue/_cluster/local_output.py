"""Copies what other processes print to this program's own streams, whole lines at a time."""

import io
import os
import select
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import IO, Any, Final

__all__ = ["copy_output"]

_WRITE_BYTES: Final = 4_096  # a pipe or terminal that has room at all takes this much in one write
_LONGEST_LINE: Final = 65_536  # characters; a progress bar that only ever returns to the line's start is one line
_locks: Final = {"stdout": threading.Lock(), "stderr": threading.Lock()}  # a stuck stdout must not hold back stderr


def copy_output(pipe: IO[bytes], name: str) -> threading.Thread:
    """Copy what comes from `pipe` to the stream called `name` in `sys`, as it is at that moment, in a thread.

    While that stream is stuck, nothing is read from the pipe, and the processes that write to it wait. The thread ends
    with the pipe, and does not keep the program from ending.
    """
    thread = threading.Thread(target=_copy, args=(pipe, name), name=f"aqueue-{name}", daemon=True)
    thread.start()
    return thread


def _copy(pipe: Any, name: str) -> None:
    with io.TextIOWrapper(pipe, "utf-8", "backslashreplace", newline="\n") as lines:
        for line in iter(partial(lines.readline, _LONGEST_LINE), ""):
            is_whole = line.endswith("\n") or len(line) == _LONGEST_LINE
            _write(name, line if is_whole else line + "\n")  # the last one, without its newline


def _write(name: str, text: str) -> None:
    """Write `text`; wait while the stream is stuck. If it is closed, broken or None, drop the text.

    A stream of the interpreter's own is written to past its buffer, for the reasons in `aqueue._system.notice`: what
    can't be written must not stay in there, and no thread may hold the lock of one that is stuck.
    """
    with _locks[name], suppress(Exception):
        stream: Any = getattr(sys, name)
        if type(stream) is not io.TextIOWrapper or "write" in vars(stream):
            stream.write(text)
            stream.flush()
            return
        data = text.encode(stream.encoding, "backslashreplace")
        while data:
            with suppress(ValueError):  # a number that select can't handle, since 1,024 files are open
                select.select([], [stream.fileno()], [])
            data = data[os.write(stream.fileno(), data[:_WRITE_BYTES]) :]
