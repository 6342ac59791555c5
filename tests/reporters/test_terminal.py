"""The terminal region: its lines stay in place, what the program prints scrolls above them, all is put back."""

import logging
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aqueue_reporters import _terminal
from aqueue_reporters._terminal import MAX_PARTIAL_LINE_BYTES, TerminalRegion
from tests.reporters.emulator import OWN_SEQUENCES, Emulator


@pytest.fixture
def terminal() -> Iterator[Emulator]:
    """Return a terminal of 40 by 12 cells."""
    with Emulator(40, 12) as emulator:
        yield emulator


MAX_WAITING_BYTES = 20_000


@pytest.fixture(autouse=True)
def _small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold back less than a megabyte: the emulator is slow."""
    monkeypatch.setattr(_terminal, "MAX_WAITING_BYTES", MAX_WAITING_BYTES)


@contextmanager
def standard_streams(terminal: Emulator, stdout: Any = None) -> Iterator[None]:
    """Let stderr lead to the terminal, and stdout to it by another object, or elsewhere.

    Not a fixture: pytest puts its own streams there between a test's fixtures and the test.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", terminal.stream)
        patch.setattr(sys, "stdout", terminal.another_stream() if stdout is None else stdout)
        yield


@contextmanager
def open_region(terminal: Emulator, stdout: Any = None) -> Iterator[TerminalRegion]:
    """Open a region of the terminal to which the standard streams lead, and close it in the end."""
    with standard_streams(terminal, stdout):
        region = TerminalRegion(terminal.stream)
        region.open()
        try:
            yield region
        finally:
            region.close()


def test_lines_replace_those_of_the_last_draw(terminal: Emulator) -> None:
    """However many lines a frame has, nothing of the last one is left."""
    with open_region(terminal) as region:
        for frame in (["one", "two", "three"], ["a longer line", "2"], ["x" * 40, "y" * 40, "z"], ["end"]):
            region.draw(frame)
            terminal.until(lambda frame=frame: terminal.lines() == frame)  # type: ignore[misc]


def test_no_lines_erase_the_region(terminal: Emulator) -> None:
    """A frame without lines shows nothing, and the next one begins in the same place."""
    with open_region(terminal) as region:
        region.draw(["one", "two"])
        region.draw([])
        terminal.until(lambda: terminal.lines() == [])
        region.draw(["three"])
        terminal.until(lambda: terminal.lines() == ["three"])


def test_a_frame_is_one_write(terminal: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was printed and the lines go to the terminal together, so that nothing in between can be seen."""
    with open_region(terminal) as region:
        writes: list[bytes] = []
        write = os.write

        def counted(fd: int, data: bytes) -> int:
            writes.append(bytes(data))
            return write(fd, data)

        print("printed")
        monkeypatch.setattr(os, "write", counted)
        region.draw(["one", "two"])
        assert len(writes) == 1
        assert b"printed" in writes[0]
        assert b"two" in writes[0]


def test_partial_writes_are_continued(terminal: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal may take a few bytes at a time, or none at the moment."""
    with open_region(terminal) as region:
        write = os.write
        refusals = iter([True, False] * 1000)

        def reluctant(fd: int, data: bytes) -> int:
            if next(refusals):
                raise BlockingIOError
            return write(fd, bytes(data[:3]))

        monkeypatch.setattr(os, "write", reluctant)
        region.draw(["one of two", "two of two"])
        monkeypatch.undo()
        terminal.until(lambda: terminal.lines() == ["one of two", "two of two"])


def test_never_more_lines_than_rows(terminal: Emulator) -> None:
    """One row stays free: a frame can't push itself off the screen."""
    with open_region(terminal) as region:
        for _ in range(3):
            region.draw([f"line {number}" for number in range(30)])
        terminal.until_ends_with("line 10")
        assert terminal.transcript() == [f"line {number}" for number in range(11)]


def test_a_line_that_is_too_wide_takes_one_row(terminal: Emulator) -> None:
    """Where a width was misjudged, the line is cut off rather than wrapped."""
    with open_region(terminal) as region:
        for _ in range(3):
            region.draw(["w" * 60, "漢" * 30, "below"])
        terminal.until_ends_with("below")
        assert len(terminal.transcript()) == 3


def test_prints_scroll_above_the_lines(terminal: Emulator) -> None:
    """Each line once, in the order of printing, whichever stream it went to; the screen scrolls when it is full."""
    with open_region(terminal) as region:
        for number in range(40):
            print(f"out {number}")
            print(f"err {number}", file=sys.stderr)
            if number % 3 == 0:
                region.draw(["first", "last"])
        region.draw(["first", "last"])
        expected = [line for number in range(40) for line in (f"out {number}", f"err {number}")]
        terminal.until(lambda: terminal.transcript() == [*expected, "first", "last"])


def test_logging_handlers_are_heard(terminal: Emulator) -> None:
    """A handler that kept the stream before the region was opened writes above the lines too."""
    handler = logging.StreamHandler(terminal.stream)
    with open_region(terminal) as region:
        handler.emit(logging.LogRecord("name", logging.INFO, "path", 1, "logged %d", (7,), None))
        region.draw(["line"])
        terminal.until(lambda: terminal.lines() == ["logged 7", "line"])


def test_writelines_is_heard(terminal: Emulator) -> None:
    """`writelines` is only another way to write."""
    with open_region(terminal) as region:
        sys.stdout.writelines(["one\n", "two\n"])
        region.draw(["line"])
        terminal.until(lambda: terminal.lines() == ["one", "two", "line"])


def test_a_partial_line_waits_for_its_newline(terminal: Emulator) -> None:
    """`print(…, end="")` does not tear a line apart, and does not ask for a draw."""
    with open_region(terminal) as region:
        print("one, ", end="")
        assert not region.has_captured
        region.draw(["line"])
        terminal.until(lambda: terminal.lines() == ["line"])
        print("two")
        assert region.has_captured
        region.draw(["line"])
        terminal.until(lambda: terminal.lines() == ["one, two", "line"])
        assert not region.has_captured


def test_a_partial_line_is_shown_at_the_end(terminal: Emulator) -> None:
    """What never got its newline is not lost."""
    with open_region(terminal) as region:
        region.draw(["line"])
        print("no newline", end="")
        region.close(["last"])
        terminal.until(lambda: terminal.lines() == ["no newline", "last"])


def test_an_endless_partial_line_is_shown_in_pieces(terminal: Emulator) -> None:
    """A program that only ever returns to the start of its line can't fill the memory."""
    with open_region(terminal) as region:
        for percent in range(MAX_PARTIAL_LINE_BYTES // 10):
            sys.stdout.write(f"\r{percent:9} %")
        assert region.has_captured
        region.draw(["line"])
        terminal.until(lambda: terminal.lines() == [f"{MAX_PARTIAL_LINE_BYTES // 10 - 1:9} %", "line"])


def test_long_lines_and_tabs_stay_whole(terminal: Emulator) -> None:
    """What is wider than the terminal wraps, as it would without us; tabs and returns do what they do."""
    with open_region(terminal) as region:
        region.draw(["=" * 39, "=" * 39])
        print("x" * 100 + "\n" + "a\tb\n" + "first\rsecond")
        region.draw(["line"])
        terminal.until_ends_with("x" * 40, "x" * 40, "x" * 20, "a       b", "second", "line")


def test_wide_lines_stay_whole(terminal: Emulator) -> None:
    """Erasing behind a line that ends in the last column would take its last character away."""
    with open_region(terminal) as region:
        region.draw(["=" * 39])
        print("x" * 40)
        print("漢" * 20)
        region.draw(["|" * 40, "漢" * 20, "-" * 40])
        terminal.until(lambda: terminal.lines() == ["x" * 40, "漢" * 20, "|" * 40, "漢" * 20, "-" * 40])


def test_printed_colours_stay_and_do_not_run_into_the_lines(terminal: Emulator) -> None:
    """The program's own styles are shown as they are, and end before the region begins."""
    with open_region(terminal) as region:
        print("\x1b[31mred, never reset")
        region.draw(["plain"])
        terminal.until(lambda: terminal.lines() == ["red, never reset", "plain"])
        assert terminal.screen.buffer[0][0].fg == "red"
        assert terminal.screen.buffer[1][0].fg == "default"


def test_large_prints_arrive_whole(terminal: Emulator) -> None:
    """More in one call than may wait is neither cut nor does it wait for itself."""
    with open_region(terminal) as region:
        text = "\n".join(f"{number:07}" for number in range(2 * MAX_WAITING_BYTES // 8))
        print(text)
        region.draw(["line"])
        terminal.until_ends_with("line")
        shown = re.sub(rb"\x1b\[[?0-9]*[a-zA-Z]", b"", terminal.written()).replace(b"\r", b"")
        assert text.encode() in shown


def test_a_fast_printer_waits_for_the_terminal(terminal: Emulator) -> None:
    """Memory stays bounded: a thread that prints more than is drawn waits, then everything arrives in order."""
    with open_region(terminal) as region:
        lines = 5 * MAX_WAITING_BYTES // 100
        printed = 0

        def print_much() -> None:
            nonlocal printed
            for number in range(lines):
                print(f"{number:099}")
                printed += 1

        printer = threading.Thread(target=print_much, daemon=True)
        printer.start()
        terminal.until(lambda: printed * 100 >= MAX_WAITING_BYTES)
        assert printed * 100 <= MAX_WAITING_BYTES + 300
        while printer.is_alive():
            region.draw(["line"])
        region.close()
        terminal.until(lambda: b"%099d" % (lines - 1) in terminal.written())
        shown = re.findall(rb"\d{99}", terminal.written())
        assert [int(line) for line in shown] == list(range(lines))


def test_the_drawing_thread_never_waits(terminal: Emulator) -> None:
    """It would wait for itself."""
    with open_region(terminal) as region:
        for _ in range(3):
            print("x" * MAX_WAITING_BYTES)
        region.close(["end"])
        terminal.until_ends_with("end")


@pytest.mark.parametrize("end", [TerminalRegion.close, TerminalRegion.release])
def test_who_waits_goes_on_when_the_region_ends(terminal: Emulator, end: Callable[[TerminalRegion], None]) -> None:
    """Nobody waits for a region that is gone."""
    with open_region(terminal) as region:
        printed = threading.Event()

        def print_much() -> None:
            for _ in range(3):
                print("x" * MAX_WAITING_BYTES)
            printed.set()

        threading.Thread(target=print_much, daemon=True).start()
        terminal.until(lambda: region._waiting_bytes > MAX_WAITING_BYTES)
        end(region)
        assert printed.wait(30)


def test_threads_keep_their_lines(terminal: Emulator) -> None:
    """Lines that several threads write in one call each are neither torn nor lost."""
    with open_region(terminal) as region:

        def print_some(name: str) -> None:
            for number in range(200):
                sys.stdout.write(f"{name}{number}\n")

        threads = [threading.Thread(target=print_some, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            region.draw(["line"])
        region.close(["end"])
        terminal.until_ends_with("end")
        lines = terminal.transcript()[:-1]
        assert sorted(lines) == sorted(f"{name}{number}" for name in "abcd" for number in range(200))
        for name in "abcd":
            assert [line for line in lines if line[0] == name] == [f"{name}{number}" for number in range(200)]


def test_a_redirected_stream_is_left_alone(terminal: Emulator, tmp_path: Path) -> None:
    """`script > out` writes to the file at once, by the stream's own `write`."""
    with (tmp_path / "out").open("w", buffering=1) as out, open_region(terminal, out) as region:
        assert "write" not in vars(out)
        print("to the file")
        assert (tmp_path / "out").read_text() == "to the file\n"
        region.draw(["line"])
        terminal.until(lambda: terminal.lines() == ["line"])


def test_another_terminal_is_left_alone(terminal: Emulator) -> None:
    """A stream that leads to a different terminal is not ours."""
    with Emulator() as other, open_region(terminal, other.stream):
        print("elsewhere")
        other.until(lambda: other.lines() == ["elsewhere"])


class FixedStream:
    """A stream whose `write` can't be replaced."""

    __slots__ = ("stream",)

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write."""
        return int(self.stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "stream"), name)


def test_a_stream_that_refuses_is_replaced_and_put_back(terminal: Emulator) -> None:
    """Where an object won't have its `write` replaced, another stands in for it until the end."""
    fixed = FixedStream(terminal.another_stream())
    with standard_streams(terminal, fixed):
        region = TerminalRegion(terminal.stream)
        region.open()
        assert sys.stdout is not fixed
        assert sys.stdout.isatty()
        print("printed")
        sys.stdout.writelines(["one\n", "two\n"])
        region.draw(["line"])
        terminal.until(lambda: terminal.lines() == ["printed", "one", "two", "line"])
        region.close()
        assert sys.stdout is fixed


def test_streams_stay_terminals(terminal: Emulator) -> None:
    """Who asks whether stdout is a terminal gets the same answer as before."""
    with open_region(terminal):
        assert sys.stdout.isatty()
        assert sys.stderr.isatty()
        assert sys.stdout.fileno() != sys.stderr.fileno()


def test_write_raises_what_it_would_raise(terminal: Emulator) -> None:
    """Text that the stream can't encode, and what is no text, are the writer's errors, where they are made."""
    with open_region(terminal, terminal.another_stream("ascii")):
        with pytest.raises(UnicodeEncodeError):
            sys.stdout.write("漢\n")
        with pytest.raises(TypeError):
            sys.stdout.write(b"bytes")  # type: ignore[arg-type]
        assert sys.stdout.write("three") == 5


def test_close_puts_everything_back(terminal: Emulator) -> None:
    """The cursor is hidden only between open and close; afterwards prints pass straight through."""
    with standard_streams(terminal):
        print("before")
        region = TerminalRegion(terminal.stream)
        region.open()
        region.draw(["line"])
        terminal.until(lambda: not terminal.cursor_is_shown)
        region.close(["\x1b[1mlast\x1b[0m line"])
        region.close(["ignored"])
        assert "write" not in vars(sys.stdout)
        assert "write" not in vars(sys.stderr)
        print("after")
        terminal.until(lambda: terminal.lines() == ["before", "last line", "after"])
        assert terminal.cursor_is_shown


def test_release_puts_everything_back(terminal: Emulator) -> None:
    """In an emergency the lines go, what was printed is shown, the cursor too; later draws do nothing."""
    with open_region(terminal) as region:
        region.draw(["one", "two"])
        print("waiting", end="")
        region.release()
        region.release()
        region.draw(["too late"])
        region.close(["too late"])
        print("after")
        terminal.until(lambda: terminal.lines() == ["waiting", "after"])
        assert terminal.cursor_is_shown
        assert "write" not in vars(sys.stdout)


def test_released_in_the_middle_of_a_draw(terminal: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A draw that was begun before writes nothing after it."""
    with open_region(terminal) as region:
        region.draw(["one"])
        get_size = os.get_terminal_size

        def interrupted(fd: int) -> os.terminal_size:
            region.release()  # as from a signal handler
            return get_size(fd)

        monkeypatch.setattr(os, "get_terminal_size", interrupted)
        region.draw(["two"])
        monkeypatch.undo()
        print("after")
        terminal.until(lambda: terminal.lines() == ["after"])
        assert terminal.cursor_is_shown


def test_release_waits_for_a_draw_in_another_thread(terminal: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another thread is just drawing is erased too, unless it takes long."""
    monkeypatch.setattr(_terminal, "_PATIENCE_S", 30.0)
    with open_region(terminal) as region:
        writing, go_on = threading.Event(), threading.Event()
        write = os.write

        def slow(fd: int, data: bytes) -> int:
            if threading.current_thread() is drawing:
                writing.set()
                go_on.wait(30)
            return write(fd, data)

        drawing = threading.Thread(target=region.draw, args=(["one", "two"],), daemon=True)
        monkeypatch.setattr(os, "write", slow)
        drawing.start()
        assert writing.wait(30)
        releasing = threading.Thread(target=region.release, daemon=True)
        releasing.start()
        go_on.set()
        releasing.join(30)
        drawing.join(30)
        print("after")
        terminal.until(lambda: terminal.lines() == ["after"])
        assert terminal.cursor_is_shown


def test_suspended_and_resumed(terminal: Emulator) -> None:
    """Meanwhile the lines are gone and the cursor is shown; then they are drawn where the cursor is."""
    with open_region(terminal) as region:
        region.draw(["one", "two"])
        region.suspend()
        print("held back")
        region.draw(["not now"])
        os.write(terminal.stream.fileno(), b"prompt$ fg\n")
        terminal.until(lambda: terminal.lines() == ["prompt$ fg"])
        assert terminal.cursor_is_shown
        region.resume()
        region.draw(["one", "two"])
        terminal.until(lambda: terminal.lines() == ["prompt$ fg", "held back", "one", "two"])
        assert not terminal.cursor_is_shown


def test_release_takes_no_lock(terminal: Emulator) -> None:
    """It may interrupt anyone, also one who holds the region's lock."""
    with open_region(terminal) as region:
        locked, done = threading.Event(), threading.Event()

        def hold() -> None:
            with region._lock:
                locked.set()
                done.wait(30)

        holder = threading.Thread(target=hold, daemon=True)
        holder.start()
        assert locked.wait(30)
        region.release()
        done.set()
        holder.join()
        assert "write" not in vars(sys.stdout)


def test_a_hook_set_by_others_meanwhile_stays(terminal: Emulator) -> None:
    """Who replaced `write` while the region was open keeps their own, and it still writes."""
    with open_region(terminal) as region:
        stream: Any = sys.stdout
        ours = stream.write

        def louder(text: str) -> int:
            return int(ours(text.upper()))

        stream.write = louder
        region.close()
        assert stream.write is louder
        print("said")
        terminal.until(lambda: terminal.lines() == ["SAID"])


def test_a_second_region_is_refused(terminal: Emulator) -> None:
    """Two would draw over each other."""
    with open_region(terminal) as region:
        with pytest.raises(RuntimeError, match="another region"):
            TerminalRegion(terminal.stream).open()
        region.close()
        second = TerminalRegion(terminal.stream)
        second.open()
        second.close()


def test_misuse_is_refused(terminal: Emulator) -> None:
    """A region is opened once, and before it draws."""
    region = TerminalRegion(terminal.stream)
    with pytest.raises(RuntimeError, match="before open"):
        region.draw(["line"])
    region.open()
    region.close()
    with pytest.raises(RuntimeError, match="opened before"):
        region.open()


def test_a_closed_stream_is_an_oserror(terminal: Emulator) -> None:
    """`draw` says so; `close` and `release` put the other stream back nevertheless."""
    with open_region(terminal) as region:
        terminal.stream.close()
        with pytest.raises(OSError, match="closed"):
            region.draw(["line"])
        region.close(["line"])
        region.release()
        assert "write" not in vars(sys.stdout)


def test_a_lost_terminal_is_an_oserror(terminal: Emulator) -> None:
    """A window that was closed makes `draw` raise, and nothing else."""
    with open_region(terminal) as region:
        region.draw(["line"])
        terminal.hang_up()
        with pytest.raises(OSError, match="Input/output error"):
            region.draw(["line"])
        sys.stdout.write("lost\n")
        region.close(["line"])
        region.release()
        assert "write" not in vars(sys.stdout)


def test_a_forked_child_writes_by_itself(terminal: Emulator) -> None:
    """A child process has nobody who draws for it, so what it prints is not held back."""
    with open_region(terminal) as region:
        child = os.fork()
        if child == 0:
            try:
                print("from the child")
                sys.stdout.flush()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        region.draw(["line"])
        terminal.until(lambda: terminal.lines() == ["from the child", "line"])


def test_what_a_child_process_writes_stays_readable(terminal: Emulator) -> None:
    """Text that comes past us lands above the next frame, not inside it."""
    with open_region(terminal) as region:
        region.draw(["a line", "another line"])
        subprocess.run([sys.executable, "-c", "print('from elsewhere')"], stdout=sys.stdout, check=True)
        region.draw(["a line", "another line"])
        terminal.until(lambda: terminal.lines() == ["from elsewhere", "a line", "another line"])


def test_size_of_a_terminal_that_does_not_know_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zero columns happen; then the environment counts, then 80 by 24."""
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    with Emulator(40, 12) as emulator:
        region = TerminalRegion(emulator.stream)
        assert region.size == (40, 12)
        emulator._set_size(0, 0)
        assert region.size == (80, 24)
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setenv("LINES", "-1")
        assert region.size == (100, 24)


def test_no_debris_when_the_width_changes(terminal: Emulator) -> None:
    """On a terminal that does not wrap lines again, narrower and wider."""
    with open_region(terminal) as region:
        print("printed")
        for columns in (40, 20, 15, 39, 10, 60, 40):
            terminal.resize(columns)
            region.draw(["=" * columns, "-" * (columns - 1), "end"])
            terminal.until_ends_with("=" * columns, "-" * (columns - 1), "end")
            assert len(terminal.lines()) == 4
        assert terminal.transcript()[0] == "printed"


def test_only_sequences_that_are_known_to_be_harmless(terminal: Emulator) -> None:
    """Every escape that the region writes is one of the few it needs."""
    with open_region(terminal) as region:
        for columns in (40, 30, 50):
            terminal.resize(columns)
            print("printed " * 10)
            region.draw(["line"] * 3)
            region.draw(["line"])
            region.draw([])
        region.close(["last"])
        terminal.until_ends_with("last")
        assert b"\x1b" not in OWN_SEQUENCES.sub(b"", terminal.written())


IN_TMUX = """
import sys
import time
from pathlib import Path
from aqueue_reporters._terminal import TerminalRegion
for number in range(20):
    print("earlier", number)
region = TerminalRegion(sys.stderr)
region.open()
folder, turn = Path(sys.argv[1]), 0
while not (folder / "end").exists():
    if (folder / f"print{turn}").exists():
        print("printed", turn)
        turn += 1
    width = region.size.columns - 1
    rows = [f"| {width + 1} {number}".ljust(width - 1) + "|" for number in range(3)]
    region.draw(["", "=" * width, *rows, "=" * width])
    time.sleep(0.05)
region.close(["the end"])
"""


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_no_debris_in_tmux(tmp_path: Path) -> None:
    """A real terminal that wraps lines again: resized in both directions, nothing is left of older frames.

    As long as an old frame, wrapped again, has room on the screen: no program can erase what tmux has scrolled off it.
    """
    program = tmp_path / "program.py"
    program.write_text(IN_TMUX)
    tmux = ["tmux", "-S", str(tmp_path / "socket"), "-f", "/dev/null"]

    def run(*arguments: str) -> str:
        return subprocess.run([*tmux, *arguments], check=True, capture_output=True, text=True).stdout

    def until(expected: Callable[[], list[str]]) -> None:
        deadline = time.monotonic() + 30
        while True:
            shown = run("capture-pane", "-p", "-S", "-").rstrip("\n").split("\n")
            if shown == expected():
                return
            assert time.monotonic() < deadline, "tmux shows\n" + "\n".join(shown)
            time.sleep(0.02)

    def frame(columns: int) -> list[str]:
        width = columns - 1
        rows = [f"| {columns} {number}".ljust(width - 1) + "|" for number in range(3)]
        return ["", "=" * width, *rows, "=" * width]

    run("new-session", "-d", "-x", "60", "-y", "20", f"{sys.executable} {program} {tmp_path}; cat")
    run("set-option", "window-size", "manual")
    try:
        printed = [f"earlier {number}" for number in range(20)]
        until(lambda: printed + frame(60))
        for turn, (columns, rows) in enumerate([(40, 20), (80, 20), (80, 12), (60, 14), (31, 20), (100, 30)]):
            run("resize-window", "-x", str(columns), "-y", str(rows))
            until(lambda columns=columns: printed + frame(columns))  # type: ignore[misc]
            (tmp_path / f"print{turn}").touch()
            printed.append(f"printed {turn}")
            until(lambda columns=columns: printed + frame(columns))  # type: ignore[misc]
        (tmp_path / "end").touch()
        until(lambda: [*printed, "the end"])
    finally:
        run("kill-server")
