"""Start a program as the foreground job of a pseudo-terminal; type, send signals, read what a person would see."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pyte

__all__ = ["PROGRAMS", "PtyProcess"]

_DEADLINE_S: Final = 30.0
"""How long anything may take before the test fails: far longer than it takes on the slowest machine, seconds."""

PROGRAMS: Final = Path(__file__).parent / "programs"
_SHELL: Final = Path(__file__).parent / "foreground.py"
_STYLE: Final = re.compile("\x1b\\[[0-9;:]*m")
_MARKS: Final = "AQUEUE_TEST_MARKS_FD"
_NO_MORE_MARKS: Final = "no more marks"


class PtyProcess:
    """A program under a pseudo-terminal, in a session of its own.

    What it writes to the terminal is read all the time by a thread, unless `stop_reading` was called. Beside the
    terminal it has a pipe for marks: lines with which the program tells the test how far it is.

    Attributes:
        output: all bytes that came from the terminal.
        marks: all marks, in their order.
    """

    def __init__(
        self,
        *command: str | Path,
        env: Mapping[str, str] | None = None,
        rows: int = 30,
        columns: int = 100,
        keeps_output: bool = False,
    ) -> None:
        """Start it.

        Parameters:
            command: a program in `PROGRAMS` (a name that ends in .py), or any other command, and its arguments.
            env: environment variables to add.
            rows: the terminal's height, cells.
            columns: its width, cells.
            keeps_output: whether a typed ^C or ^Z leaves the output alone that was written and not yet read. By default
                the kernel discards it (NOFLSH is off): the sequence that shows the cursor again, or that takes it back
                to the first row of a frame, if the key comes just then. A terminal that a person types at has read it.
        """
        words = [str(word) for word in command]
        if words[0].endswith(".py"):
            words = [sys.executable, str(PROGRAMS / words[0]), *words[1:]]
        self.output = b""
        self.marks: list[str] = []
        self._size = columns, rows
        self._changed = threading.Condition()
        self._news: dict[str, Any] = {}
        self._prompts = 0  # how many the shell has written, but for the one after the program's end
        self._may_read = threading.Event()
        self._may_read.set()
        self._terminal, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if keeps_output:
            settings = termios.tcgetattr(terminal)
            settings[3] |= termios.NOFLSH
            termios.tcsetattr(terminal, termios.TCSANOW, settings)
        reports, report = os.pipe()
        control, self._control = os.pipe()
        marks, self._mark = os.pipe()
        self._has_all_marks = False
        environment = {
            **os.environ,
            "TERM": "xterm-256color",
            "PYTHONUNBUFFERED": "",
            _MARKS: str(self._mark),
            **(env or {}),
        }
        for name in ("AQUEUE_REPORTER", "NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR"):
            if name not in (env or {}):
                environment.pop(name, None)
        self._shell = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SHELL), str(report), str(control), *words],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=environment,
            pass_fds=(report, control, self._mark),
        )
        for fd in (terminal, report, control):
            os.close(fd)
        for read in (
            self._read_terminal,
            lambda: self._read_lines(reports, self._add_news),
            lambda: self._read_lines(marks, self._add_mark),
        ):
            threading.Thread(target=read, daemon=True).start()
        self.pid: int = self._await(lambda: self._news.get("pid"), "the start")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if "exit" not in self._news:
            with contextlib.suppress(ProcessLookupError):  # its end may be known to the shell alone
                os.killpg(self.pid, signal.SIGKILL)
        self._may_read.set()
        os.close(self._control)
        os.close(self._mark)
        self._shell.wait()

    # ---- what a person does -------------------------------------------------------------------------------------

    def type(self, keys: bytes) -> None:
        r"""Type `keys`; ``b"\x03"`` is Ctrl-C."""
        os.write(self._terminal, keys)

    def kill(self, number: int) -> None:
        """Send the signal to the program, if it still runs."""
        if "exit" not in self._news:
            with contextlib.suppress(ProcessLookupError):  # it ended just now
                os.kill(self.pid, number)

    def hang_up(self) -> None:
        """Close the terminal's window."""
        self._may_read.clear()
        terminal, self._terminal = self._terminal, -1
        time.sleep(0.1)  # the thread's own time-out, doubled
        os.close(terminal)

    def stop_reading(self) -> None:
        """Take nothing more from the terminal, as a stalled connection does."""
        self._may_read.clear()

    def continue_reading(self) -> None:
        """Undo `stop_reading`."""
        self._may_read.set()

    def foreground(self) -> None:
        """Let the stopped program go on in the foreground, as ``fg`` does."""
        self._continue(b"f")

    def background(self) -> None:
        """Let the stopped program go on in the background, as ``bg`` does."""
        self._prompts += 1
        self._continue(b"b")

    def _continue(self, command: bytes) -> None:
        os.write(self._control, command)
        self._await(lambda: True if self._news.get("stopped") is False else None, "being continued")

    # ---- what a person sees -------------------------------------------------------------------------------------

    def wait(self) -> int:
        """Wait for the program's end; return its exit code, or minus the signal that killed it."""
        code = self._await(lambda: self._news.get("exit"), "its end")
        if self._may_read.is_set():
            self._await_prompt()
        self._await_marks()
        return int(code)

    def _await_marks(self) -> None:
        """Wait until `marks` has all that the program has marked, which has ended."""
        os.write(self._mark, f"{_NO_MORE_MARKS}\n".encode())
        self._await(lambda: self._has_all_marks or None, "the shell's last mark")

    def _await_prompt(self) -> None:
        self._await(lambda: self.output.count(b"next-prompt$ ") > self._prompts or None, "the shell's prompt")

    def wait_stopped(self) -> None:
        """Wait until the program has been stopped (Ctrl-Z)."""
        self._await(lambda: self._news.get("stopped") or None, "being stopped")
        self._await_prompt()
        self._prompts += 1

    def until(self, *texts: str) -> None:
        """Wait until the program has written each of `texts` to the terminal, in capitals or not, in any colour."""
        for text in texts:
            self._await(
                lambda text=text: text.lower() in self.text.lower() or None,  # type: ignore[misc]
                f"{text!r} on the terminal",
            )

    def until_more(self, text: str, count: int) -> None:
        """Wait until the program has written `text` more than `count` times, of which the empty text has any number."""
        self._await(lambda: not text or self.text.count(text) > count or None, f"{text!r} once more")

    def until_mark(self, *marks: str) -> None:
        """Wait until the program has made each of `marks`."""
        for mark in marks:
            self._await(lambda mark=mark: mark in self.marks or None, f"the mark {mark!r}")  # type: ignore[misc]

    def until_one_mark(self, *marks: str) -> None:
        """Wait until the program has made one of `marks`."""
        self._await(lambda: not set(marks).isdisjoint(self.marks) or None, f"one of the marks {marks}")

    def until_event(self, log: Path, name: str) -> None:
        """Wait until the jsonl reporter has written an event called `name` to `log`."""
        end = time.monotonic() + _DEADLINE_S
        while name not in log.read_text():
            assert time.monotonic() < end, f"the event {name!r} did not come; the terminal:\n{self.shown}"
            time.sleep(0.01)

    @property
    def text(self) -> str:
        """All that was written to the terminal, without colours."""
        return _STYLE.sub("", self.output.decode("utf-8", "replace"))

    @property
    def screen(self) -> pyte.HistoryScreen:
        """The terminal as it looks now."""
        screen = pyte.HistoryScreen(*self._size, history=10_000)
        stream = pyte.ByteStream(screen)
        stream.feed(self.output)
        return screen

    @property
    def shown(self) -> str:
        """All lines on the terminal and those that have scrolled away."""
        screen = self.screen
        above = ["".join(row[x].data for x in range(screen.columns)).rstrip() for row in screen.history.top]
        return "\n".join([*above, *(line.rstrip() for line in screen.display)])

    @property
    def termios_restored(self) -> bool | None:
        """Whether the terminal's settings were, at the program's end, as before its start; None: no terminal left."""
        return self._news["termios_restored"]  # type: ignore[no-any-return]

    def assert_terminal_restored(self) -> None:
        """Assert that the next program finds the terminal as this one found it, on a fresh line."""
        self.assert_terminal_usable()
        assert self.termios_restored, f"the terminal's settings were changed; marks {self.marks}"

    def assert_terminal_usable(self) -> None:
        """Assert that the shell's prompt stands on a fresh line, with a cursor, without styles and nothing below it."""
        screen = self.screen
        context = f"\n--- marks {self.marks}\n--- the screen:\n{self.shown}\n--- the bytes' end: {self.output[-600:]!r}"
        assert not screen.cursor.hidden, "the cursor is hidden" + context
        assert self.output.rfind(b"\x1b[?25l") <= self.output.rfind(b"\x1b[?25h"), "the cursor is hidden" + context
        assert self.output.rfind(b"\x1b[?7l") <= self.output.rfind(b"\x1b[?7h"), "wrapping is off" + context
        assert self.output.count(b"\x1b[?1049h") == self.output.count(b"\x1b[?1049l"), "the other screen" + context
        attributes = screen.cursor.attrs
        plain = (attributes.fg, attributes.bg) == ("default", "default")
        assert plain and not (attributes.bold or attributes.reverse or attributes.underscore), "a style" + context
        line = screen.display[screen.cursor.y]
        prompt = "next-prompt$"
        # A terminal echoes ^C and ^Z where the cursor is; that is not the program's doing.
        assert line.replace("^C", "").replace("^Z", "").rstrip() == prompt, f"the prompt stands in {line!r}" + context
        below = [row for row in screen.display[screen.cursor.y + 1 :] if row.strip()]
        assert not below, "something is left below the prompt" + context

    # ---- the reading threads ------------------------------------------------------------------------------------

    def _read_terminal(self) -> None:
        while True:
            self._may_read.wait()
            try:
                # Not to be inside a read when the terminal is to be closed: that would keep it open.
                if not select.select([self._terminal], [], [], 0.05)[0] or not self._may_read.is_set():
                    continue
                data = os.read(self._terminal, 65536)
            except (OSError, ValueError):  # hung up
                return
            if not data:
                return
            with self._changed:
                self.output += data
                self._changed.notify_all()

    def _read_lines(self, fd: int, add: Callable[[str], None]) -> None:
        with open(fd, encoding="utf-8") as lines:
            for line in lines:
                with self._changed:
                    add(line.rstrip("\n"))
                    self._changed.notify_all()

    def _add_mark(self, line: str) -> None:
        if line == _NO_MORE_MARKS:
            self._has_all_marks = True
        else:
            self.marks.append(line)

    def _add_news(self, line: str) -> None:
        self._news |= json.loads(line)

    def _await(self, find: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + _DEADLINE_S
        with self._changed:
            while (found := find()) is None:
                left = end - time.monotonic()
                gone = "exit" in self._news and not what.startswith("the shell")
                # What the program wrote last may still be on its way when its end is known.
                if left <= 0 or (gone and not self._changed.wait(1.0) and find() is None):
                    raise AssertionError(
                        f"{what} did not come {'before its end' if gone else f'in {_DEADLINE_S:g} s'}; {self._news}, "
                        f"marks {self.marks}, the terminal:\n{self.shown}"
                    )
                if not gone:
                    self._changed.wait(min(left, 1.0))
            return found
