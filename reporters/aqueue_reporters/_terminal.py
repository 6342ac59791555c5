"""Lines at the bottom of a terminal that are redrawn in place, while what the program prints scrolls above them.

Between two draws the cursor rests at the start of the first line, not below the last one. Terminals move the cursor
with its text when they are resized, whether they wrap long lines again (tmux, VTE, kitty) or not (xterm), so the next
draw begins in the right place without having to know how many rows the old lines take now. And what a child process
writes straight to the terminal lands above the next frame instead of inside it.

A typed ^C or ^Z makes the kernel discard what was written and not yet read, "show the cursor" and "wrap long lines" too
if it comes just then. So these are written once more when the region is closed and when the interpreter ends.
"""

import atexit
import contextlib
import errno
import os
import re
import select
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TextIO, cast

from aqueue_reporters._stream import write_all

__all__ = ["TerminalRegion"]

MAX_WAITING_BYTES: Final = 1_000_000
"""How much printed text may wait to be drawn before the thread that prints has to wait."""

MAX_PARTIAL_LINE_BYTES: Final = 64_000
"""How long a line without its newline may get before it is drawn anyway."""

_PATIENCE_S: Final = 0.2
"""How long an emergency, or Ctrl-Z, waits for a terminal that takes nothing."""

_HIDE_CURSOR: Final = b"\x1b[?25l"
_SHOW_CURSOR: Final = b"\x1b[?25h"
_RESET_STYLE: Final = b"\x1b[0m"
_ERASE_TO_END_OF_LINE: Final = b"\x1b[K"
_ERASE_BELOW: Final = b"\x1b[J"
# While the lines are written, what is too wide is cut off instead of wrapped: a line is a row, whatever its width.
_WRAP_OFF: Final = b"\x1b[?7l"
_WRAP_ON: Final = b"\x1b[?7h"
# Erase from the start of the cursor's row, by way of the row below: in the top left corner tmux takes a plain
# "erase below" for "clear the screen" and saves what is erased in its history.
_ERASE_FROM_HERE: Final = b"\r\x1b[2K\n\x1b[J\x1b[A"

_STYLE: Final = re.compile("\x1b\\[[0-9;:]*m")
_STYLE_RESETS: Final = ("\x1b[0m", "\x1b[m")
# Characters that may take two cells. Counting one too many is harmless here.
_MAYBE_WIDE: Final = re.compile(
    "[\u1100-\u11ff\u231a-\u27bf\u2b00-\u2bff\u2e80-\ua4cf\ua960-\ua97f\uac00-\ud7ff"
    "\uf900-\ufaff\ufe10-\ufe6f\uff00-\uffef\U00016fe0-\U0001ffff\U00020000-\U0003ffff]"
)


class TerminalRegion:
    """Lines at the bottom of a terminal, redrawn in place.

    While it is open, what the program prints to that same terminal through `sys.stdout` or `sys.stderr`, or through
    anyone who kept one of these objects, is held back and shown above the lines at the next draw. Lines keep their
    order; one without its newline waits for it. A thread that prints faster than is drawn waits once 1 MB is held
    back, as it would on a slow terminal. A stream that leads elsewhere is not touched.

    `open`, `draw` and `close` are to be called from one thread; anyone may print. In the process there can be one open
    region at a time. While the process is in the terminal's background (``bg``), no lines are drawn.
    """

    _opened_in = 0  # the process in which some region is open

    def __init__(self, stream: TextIO) -> None:
        """Make a region of the terminal to which `stream` leads; nothing happens before `open`."""
        self._stream = stream
        self._is_open = False
        self._is_suspended = False
        self._rows = 0  # how many the last frame has
        self._columns = 0  # the terminal's width when it was drawn; 0 if nothing of it is on the screen
        self._taps: list[_Tap] = []
        self._process = 0
        self._drawing_thread = 0
        # Both are reentrant, because a signal handler may print while its own thread is inside `_capture`, and release
        # while that is inside `draw`.
        self._lock = threading.RLock()
        self._draw_lock = threading.RLock()
        self._drained = threading.Condition(self._lock)
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._line_waits = False
        self._partial = b""

    def open(self) -> None:
        """Begin to hold back what is printed.

        Raises:
            RuntimeError: another region is open, or this one was opened before.
            OSError: the terminal can't be written to.
        """
        if TerminalRegion._opened_in == os.getpid():
            raise RuntimeError("another region of the terminal is open in this process; close that one first")
        if self._process:
            raise RuntimeError("this region of the terminal was opened before; make a new one")
        streams = _streams_of_same_terminal(self._stream)
        for stream in streams:
            stream.flush()
        self._write(_RESET_STYLE)
        _usable_at_exit(self._stream.fileno())
        self._process = TerminalRegion._opened_in = os.getpid()
        self._drawing_thread = threading.get_ident()
        self._is_open = True
        for stream in streams:
            self._taps.append(_Tap(stream, self._capture))

    @property
    def size(self) -> os.terminal_size:
        """The terminal's size in cells, asked afresh; both numbers are at least 1."""
        columns, rows = 0, 0
        with contextlib.suppress(OSError, ValueError):
            columns, rows = os.get_terminal_size(self._stream.fileno())
        return os.terminal_size((columns or _from_environment("COLUMNS", 80), rows or _from_environment("LINES", 24)))

    @property
    def has_captured(self) -> bool:
        """Whether the next draw has printed text to show."""
        return self._line_waits

    def draw(self, lines: Sequence[str]) -> None:
        """Show what was printed since the last draw, and below it `lines` in place of the last ones: one write.

        Does nothing once the region was closed or released, or while it is suspended.

        Parameters:
            lines: plain or styled with SGR sequences, without newlines, each at most `size.columns` cells wide; what
                is wider is cut off by the terminal. Lines beyond the terminal's rows less one are left out.

        Raises:
            OSError: the terminal can't be written to.
            RuntimeError: the region was never opened.
        """
        if not self._is_open:
            if not self._process:
                raise RuntimeError("draw() before open()")
            return
        self._drawing_thread = threading.get_ident()
        with self._draw_lock:
            if self._is_suspended or not self._is_open:
                return
            if self._is_in_background:
                frame = self._take_captured()
                self._columns = 0
            else:
                frame = self._frame(lines)
            if self._is_open:
                self._write(frame)

    def _frame(self, lines: Sequence[str]) -> bytes:
        """Return what shows the printed text, and `lines` below it."""
        columns, rows = self.size
        # The cursor is hidden each time: it may have been shown since, after Ctrl-Z or by another program.
        out = [_HIDE_CURSOR, b"\r"]
        if columns != self._columns:
            # Rows that the terminal has wrapped again would be joined again when it gets wider.
            out.append(_ERASE_FROM_HERE)
            self._rows = 0
        self._append_captured(out, self._take_captured(), columns)
        lines = lines[: max(rows - 1, 1)]
        erase_below = self._rows > len(lines)
        last = len(lines) - 1
        encoding = self._stream.encoding or "utf-8"
        out.append(_WRAP_OFF)
        for index, line in enumerate(lines):
            erase = _ERASE_BELOW if erase_below and index == last else _ERASE_TO_END_OF_LINE
            # Behind a character in the last column, erasing would take that character away.
            if _max_cells(_STYLE.sub("", line)) < columns:
                out += (line.encode(encoding, "replace"), _RESET_STYLE, erase)
            else:
                out += (erase, line.encode(encoding, "replace"), _RESET_STYLE)
            if index < last:
                out.append(b"\r\n")
        out.append(_WRAP_ON)
        if not lines:
            out.append(_ERASE_FROM_HERE)
        out.append(b"\r")
        if last > 0:
            out.append(b"\x1b[%dA" % last)
        self._rows = len(lines)
        self._columns = columns
        return b"".join(out)

    def close(self, last_lines: Sequence[str] = ()) -> None:
        """Erase the lines, show all that was printed and then `last_lines`, which stay, and put everything back.

        A terminal that can't be written to is no error here. A second call does nothing.
        """
        encoding = self._stream.encoding or "utf-8"
        closing = b"".join(line.encode(encoding, "replace") + _RESET_STYLE + b"\n" for line in last_lines)
        with self._draw_lock:
            if not self._is_open:
                return
            self._write_unless_broken(self._erase() + self._take_captured(whole=True))
            # From here on those who print wait a moment, so that nothing gets ahead of what was held back.
            with self._lock:
                self._write_unless_broken(
                    self._take_captured(whole=True) + closing + _RESET_STYLE + _WRAP_ON + _SHOW_CURSOR
                )
                self._put_back()
                self._drained.notify_all()

    def suspend(self) -> None:
        """Erase the lines and show the cursor, since the process is about to be stopped; from a signal handler too.

        What is printed is held back until `resume`. A terminal that takes nothing for 0.2 s stays as it is.
        """
        if not self._holds_back():
            return
        with self._unless_drawn():
            if not self._is_open:
                return
            self._is_suspended = True
            self._write_at_once(_WRAP_ON + _RESET_STYLE + self._erase() + _SHOW_CURSOR)

    def resume(self) -> None:
        """Draw again, from where the cursor is at the next draw."""
        self._is_suspended = False

    def release(self) -> None:
        """Put the terminal and the streams back at once; for an emergency, from a signal handler too.

        Waits at most 0.2 s for a draw that is going on. What was held back is shown if the terminal takes it without
        delay. One that was stopped by ^S goes on: it would keep its cursor hidden otherwise.
        """
        if not self._is_open:
            return
        self._undo_xoff()
        with self._unless_drawn():
            self._release()

    def _release(self) -> None:
        if not self._is_open:
            return
        self._put_back()
        waiting = [self._partial]
        with contextlib.suppress(IndexError):
            while True:
                waiting.append(self._waiting.popleft())
        text = b"".join(waiting)
        if text and not text.endswith(b"\n"):
            text += b"\n"
        for data in (_SHOW_CURSOR + _WRAP_ON + _RESET_STYLE + self._erase(), text, _RESET_STYLE):
            self._write_at_once(data)

    @contextlib.contextmanager
    def _unless_drawn(self) -> Iterator[None]:
        """Keep others from drawing, as far as that can be had in 0.2 s: a stuck terminal keeps who draws there."""
        held = self._draw_lock.acquire(timeout=_PATIENCE_S)
        try:
            yield
        finally:
            if held:
                self._draw_lock.release()

    @property
    def _is_in_background(self) -> bool:
        try:
            return os.tcgetpgrp(self._stream.fileno()) != os.getpgrp()
        except (OSError, ValueError, AttributeError):  # not this session's terminal, closed, or Windows
            return False

    def _undo_xoff(self) -> None:
        """Let a terminal that takes nothing go on, in case it was stopped by ^S."""
        with contextlib.suppress(ImportError, OSError, ValueError):
            import termios  # not on Windows

            fd = self._stream.fileno()
            # From the background the system would stop us for it.
            if not self._is_in_background and not select.select([], [fd], [], 0)[1]:
                with contextlib.suppress(termios.error):
                    # To let output go on does nothing by itself: it undoes only what was stopped the same way.
                    termios.tcflow(fd, termios.TCOOFF)
                    termios.tcflow(fd, termios.TCOON)

    def _erase(self) -> bytes:
        """Return what erases the last frame, if one is on the screen."""
        on_screen = self._columns
        self._rows = self._columns = 0
        return _ERASE_FROM_HERE if on_screen else b""

    def _holds_back(self) -> bool:
        return self._is_open and os.getpid() == self._process  # a forked child has nobody who draws

    def _put_back(self) -> None:
        self._is_open = False
        TerminalRegion._opened_in = 0
        for tap in self._taps:
            tap.remove()

    def _capture(self, text: str, tap: "_Tap") -> int:
        """Hold back `text`, which someone writes to a stream of this terminal; the `write` of that stream."""
        if not self._holds_back():
            return tap.original(text)
        # Encoded here, so that what can't be encoded raises where it is written, as it would without us.
        data = str.encode(text, tap.stream.encoding or "utf-8", tap.stream.errors or "strict")
        with self._lock:
            while (
                self._waiting_bytes > MAX_WAITING_BYTES
                and threading.get_ident() != self._drawing_thread
                and self._holds_back()
            ):
                # The timeout is for `release`, which can't notify.
                self._drained.wait(0.2)
            if not self._holds_back():
                return tap.original(text)
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            if b"\n" in data or self._waiting_bytes > MAX_PARTIAL_LINE_BYTES:
                self._line_waits = True
        return len(text)

    def _take_captured(self, *, whole: bool = False) -> bytes:
        """Return the complete lines that wait, or, if `whole`, all of the text, ended by a newline."""
        with self._lock:
            text = b"".join((self._partial, *self._waiting))
            self._waiting.clear()
            end = text.rfind(b"\n") + 1
            if whole or len(text) - end > MAX_PARTIAL_LINE_BYTES:
                end = len(text)
            self._partial = text[end:]
            self._waiting_bytes = len(self._partial)
            self._line_waits = False
            self._drained.notify_all()
        text = text[:end]
        return text if not text or text.endswith(b"\n") else text + b"\n"

    def _append_captured(self, out: list[bytes], text: bytes, columns: int) -> None:
        """Append `text`, which takes the place of the last frame's first rows, to `out`."""
        if not text:
            return
        lines = text.decode(self._stream.encoding or "utf-8", "replace").split("\n")[:-1]
        if all(_covers_one_row(line, columns) for line in lines):
            # Each row is overwritten, then erased behind the text: nothing flickers.
            out.append(text.replace(b"\n", _ERASE_TO_END_OF_LINE + b"\r\n"))
            self._rows -= len(lines)
        else:
            out += (_ERASE_FROM_HERE, text, _RESET_STYLE)
            self._rows = 0

    def _write_at_once(self, data: bytes) -> None:
        """Write what the terminal takes, with no more than 0.2 s between two parts."""
        with contextlib.suppress(OSError, ValueError):
            _write_at_once(self._stream.fileno(), data)

    def _write_unless_broken(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self._write(data)

    def _write(self, data: bytes) -> None:
        try:
            fd = self._stream.fileno()
        except ValueError as error:  # closed
            raise OSError(errno.EBADF, str(error)) from error
        write_all(fd, data)


class _Tap:
    """Takes over the `write` of one stream object, and gives it back."""

    def __init__(self, stream: TextIO, capture: "Callable[[str, _Tap], int]") -> None:
        self.stream = stream
        self.original: Callable[[str], int] = stream.write
        self._proxy: _StreamProxy | None = None

        def write(text: str) -> int:
            return capture(text, self)

        self._write = write
        self._earlier = getattr(stream, "__dict__", {}).get("write")
        try:
            # On the object itself, so that logging handlers and others that kept it are heard too.
            cast(Any, stream).write = write
        except (AttributeError, TypeError):
            self._proxy = _StreamProxy(stream, write)
            _replace_in_sys(stream, self._proxy)

    def remove(self) -> None:
        """Give the stream its own `write` back, unless someone else has replaced ours since."""
        if self._proxy is not None:
            _replace_in_sys(self._proxy, self.stream)
        elif self.stream.__dict__.get("write") is self._write:
            if self._earlier is None:
                del cast(Any, self.stream).write
            else:
                cast(Any, self.stream).write = self._earlier


class _StreamProxy:
    """Stands in `sys` for a stream whose `write` can't be replaced."""

    def __init__(self, stream: TextIO, write: Callable[[str], int]) -> None:
        self._stream = stream
        self.write = write

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _replace_in_sys(old: object, new: object) -> None:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is old:
            setattr(sys, name, new)


def _streams_of_same_terminal(stream: TextIO) -> list[TextIO]:
    """Return the program's output streams that lead to the terminal of `stream`, each once."""
    terminal = _terminal_device(stream)
    if terminal is None:
        return []
    found: list[TextIO] = []
    for other in (stream, sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if other is not None and _terminal_device(other) == terminal and not any(other is one for one in found):
            found.append(cast(TextIO, other))
    return found


def _terminal_device(stream: Any) -> int | None:
    try:
        status = os.fstat(stream.fileno())
        return status.st_rdev if stat.S_ISCHR(status.st_mode) and os.isatty(stream.fileno()) else None
    except (AttributeError, OSError, ValueError):  # no descriptor, or a closed one
        return None


def _covers_one_row(line: str, columns: int) -> bool:
    """Whether `line`, as printed, surely stays on one row with room behind it, and leaves no style behind."""
    if "\x1b" in line:
        styles = _STYLE.findall(line)
        if styles and styles[-1] not in _STYLE_RESETS:
            return False
        line = _STYLE.sub("", line)
    return line.isprintable() and _max_cells(line) < columns


def _max_cells(line: str) -> int:
    return len(line) if line.isascii() else len(line) + len(_MAYBE_WIDE.findall(line))


def _write_at_once(fd: int, data: bytes) -> None:
    while data and select.select([], [fd], [], _PATIENCE_S)[1]:
        data = data[os.write(fd, data[:4096]) :]


_opened_terminals: dict[int, tuple[int, int]] = {}  # descriptors of terminals: which terminal it was, in which process


def _usable_at_exit(fd: int) -> None:
    if not _opened_terminals:
        atexit.register(_make_usable)
    _opened_terminals[fd] = os.fstat(fd).st_rdev, os.getpid()


def _make_usable() -> None:
    for fd, opened in _opened_terminals.items():
        # It may have been closed, or lead elsewhere now.
        with contextlib.suppress(OSError, ValueError):
            if os.isatty(fd) and (os.fstat(fd).st_rdev, os.getpid()) == opened:
                _write_at_once(fd, _WRAP_ON + _SHOW_CURSOR)


def _from_environment(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) or default if text.isdecimal() else default
