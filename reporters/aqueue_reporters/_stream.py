"""Write to a file descriptor or a stream, the whole of it or an error, and leave nothing behind in a buffer."""

import io
import os
import select
from contextlib import suppress
from typing import TextIO

__all__ = ["encodable", "write_all", "write_bytes", "write_text"]


def write_all(fd: int, data: bytes) -> None:
    """Write `data` to the file descriptor `fd`, in one call where the system takes it in one.

    Raises:
        OSError: it can't be written, to a closed pipe or a full disk say; part of it may have been.
    """
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            # Somebody who shares the pipe made it non-blocking; wait until there is room.
            select.select([], [fd], [])


def _descriptor(stream: TextIO) -> int | None:
    """Return the file descriptor behind `stream`, or None if what is written must pass through the object itself.

    Only a plain text stream is bypassed: a subclass or a stand-in, or one whose `write` was replaced (a display does
    that), may do something of its own with what it is given.
    """
    if type(stream) is not io.TextIOWrapper or "write" in vars(stream):
        return None
    try:
        return stream.fileno()
    except io.UnsupportedOperation:
        return None


def write_bytes(stream: TextIO, data: bytes) -> None:
    """Write `data` to the bytes below the text stream `stream`, after what the stream holds already, and flush.

    What can't be written does not stay in the stream's buffer, where the interpreter would fail on it again at its
    end ("Exception ignored … BrokenPipeError"). Nor is the buffer's lock held while a reader takes nothing: on that
    the interpreter would abort at its end ("Fatal Python error: _enter_buffered_busy").

    Raises:
        OSError: it can't be written.
        ValueError: the stream is closed.
    """
    fd = _descriptor(stream)
    if fd is not None:
        with suppress(OSError, ValueError):  # whatever can't be asked, on Windows files, is just written to
            select.select([], [fd], [])
    stream.flush()
    if fd is not None:
        write_all(fd, data)
    else:
        stream.buffer.write(data)
        stream.flush()


def encodable(stream: TextIO, text: str) -> str:
    r"""Return `text` with what the encoding of `stream` lacks replaced by an escape such as ``\u4e2d``."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def write_text(stream: TextIO, text: str) -> None:
    """Write `text`, made `encodable`, to `stream` and flush.

    What can't be written does not stay in the stream's buffer, see `write_bytes`.

    Raises:
        OSError: it can't be written.
        ValueError: the stream is closed.
    """
    text = encodable(stream, text)
    if _descriptor(stream) is not None:
        write_bytes(stream, text.encode(stream.encoding))
    else:
        stream.write(text)
        stream.flush()
