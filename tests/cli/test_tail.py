"""`aqueue tail`: the last events and those that come, for people and as JSON, from logs and journals.

Which events is for `cli._commands.chosen_events`; how they are shown, for `cli._formats.event_lines` and
`_history.event_words`.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

import msgspec
import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from aqueue._history.opening import open_history
from aqueue.cli import _screen
from aqueue.cli._app import main
from aqueue.cli._commands import tail as tail_command
from aqueue.cli._commands.chosen_events import ChosenEvents
from aqueue.cli._formats.event_lines import EventLines
from aqueue.cli._formats.lines import write_events_jsonl
from aqueue.events import EVENT_TYPES, Event, ItemCompleted, ItemDescribed, ItemInterrupted, ProcessLeft, encode_lines
from aqueue.log_lines import LEVELS, level_of, safe_line
from aqueue.testing._scripted_runs import Script, completed, every_event_type, saying, with_retries, with_types
from aqueue.text import visible
from aqueue_reporters.jsonl import JsonlReporter
from tests.cli.runs import HOSTILE, recorded, run
from tests.journal.recorded import events_of
from tests.journal.writing import make_events, write
from tests.reporters.emulator import Emulator
from tests.strategies import event_streams, events, hostile_text

DEADLINE_S = 60.0
COMMAND = [sys.executable, "-c", "import aqueue.cli._commands.tail; from aqueue.cli._app import main; main()", "tail"]
STYLE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local time is UTC in these tests, so that lines can be compared."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    _screen._local_second.cache_clear()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a log is to be."""
    return tmp_path / "run.jsonl"


Tail = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def tail(capsys: pytest.CaptureFixture[str]) -> Tail:
    """Run the command in this process; give its exit code, its lines, and those on standard error."""

    def call(*args: object) -> tuple[int, list[str], list[str]]:
        with pytest.raises(SystemExit) as caught:
            main(["tail", *map(str, args)])
        out, err = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, out.split("\n")[:-1], err.split("\n")[:-1]

    return call


def lines_of(run: list[Event]) -> list[bytes]:
    """Return the line of each event, without its end."""
    parts: list[bytes] = []
    write_events_jsonl([run], parts.append)
    return b"".join(parts).splitlines()


def write_log(path: Path, run: list[Event]) -> list[bytes]:
    """Write a log and return its lines."""
    lines = lines_of(run)
    path.write_bytes(b"\n".join(lines) + b"\n")
    return lines


def append(path: Path, *lines: bytes) -> None:
    """Append lines to a log."""
    with path.open("ab") as file:
        file.writelines(line + b"\n" for line in lines)


def seqs(lines: list[str]) -> list[int]:
    """Return the numbers of the events in lines of JSON."""
    return [json.loads(line)["seq"] for line in lines]


class Following:
    """``aqueue tail -f`` in a process of its own, whose output can be waited for."""

    def __init__(self, folder: Path, *args: object, stdin: int | None = None, **env: str) -> None:
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*COMMAND, *map(str, args)], stdin=stdin, stdout=out, stderr=err, env=os.environ | env
            )

    def lines(self) -> list[str]:
        """Return what was printed until now, without dates."""
        return [line for line in self._out.read_text().splitlines() if not re.fullmatch(r"\d+-\d+-\d+", line)]

    def said(self) -> list[str]:
        """Return what was said on standard error until now."""
        return self._err.read_text().splitlines()

    def has(self, count: int) -> bool:
        """Tell whether so many lines were printed."""
        return len(self.lines()) == count

    def ends_with(self, text: str) -> bool:
        """Tell whether the last line that was printed ends so."""
        return "".join(self.lines()[-1:]).endswith(text)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline and self.process.poll() is None, (self.lines(), self.said())
            time.sleep(0.005)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)


# ---- lines for people -----------------------------------------------------------------------------------------------


def test_every_type_of_event_for_people(path: Path, tail: Tail) -> None:
    """Aligned, with the level, what happened, the item, its type and worker, and what matters of the event."""
    write_log(path, every_event_type())

    assert tail(path, "-n", "all") == (
        0,
        """\
2023-11-14
22:13:20.010   run started      3b1f  3 workers, queue, pid 1234 on host
22:13:20.020   enqueued            1 Folder      key k
22:13:20.030   started             1 Folder  w2
22:13:20.040 D described           1 Folder  w2  listing
22:13:20.050   enqueued            2 Page        by item 1, group example.org
22:13:20.060   enqueued            3 Page        by item 1
22:13:20.070   completed           1 Folder  w2  0.25 s, 3 duplicates skipped
22:13:20.080   started             2 Page    w1
22:13:20.090   slowed down         2 Page        example.org  resumes in 0.91 s
22:13:20.100   limit known      example.org  2 at once, 0.5/s
22:13:20.110 W loop blocked     0.75 s by Page.process, at shop.py:40 in parse
22:13:20.120 W held up          0.25 s by journal
22:13:20.130 W retry scheduled     2 Page    w1  attempt 1, due in 0.87 s: Boom: it broke
22:13:20.140   regrouped           2 Page        group example.net
22:13:20.150   started             2 Page    w1  attempt 2
22:13:20.160   completed           2 Page    w1  0.25 s, attempt 2
22:13:20.170   started             2 Page    w1  hook
22:13:20.180   children done       2 Page    w1
22:13:20.190   started             3 Page    w3
22:13:20.200 E failed              3 Page    w3  0.25 s, 1 duplicate skipped: Boom: it broke
22:13:20.210   children failed     1 Folder
22:13:20.220 E reporter failed  Other: Boom: it broke
22:13:20.230 W run stopping     SIGINT
22:13:20.240   run finished     failed  2 of 3 completed, 1 failed, 1 attempt retried, 4 duplicates skipped
23:13:20.250   run resumed      3b1f  3 workers, queue, pid 1234 on host
23:13:20.260   reopened            1 Folder      something below it runs again
23:13:20.270   enqueued            4 Page
23:13:20.280   started             4 Page    w1
23:13:20.290   enqueued            5 Folder
23:13:20.300   started             5 Folder  w2
23:13:20.310   completed           5 Folder  w2  0.25 s
23:13:20.320   started             5 Folder  w2  hook
23:13:20.330 W run stopping     SIGINT again, cancelling running items
23:13:20.340 W interrupted         4 Page    w1  by a crash
23:13:20.350 E failed              5 Folder  w2  0.25 s, hook: Boom: it broke
23:13:20.360   run finished     interrupted  2 of 5 completed, 2 failed, 1 outstanding, 1 attempt interrupted, 1 attempt retried, 4 duplicates skipped
23:14:20.370   run resumed      3b1f  3 workers, queue, pid 1234 on host
23:14:20.380   workers changed  2 workers, 3 in the program, by anna@host via aqueue
23:14:20.390   limit changed    example.org  1 at once, 0.25/s, by anna@host via aqueue
23:14:20.400   group paused     example.org  by anna@host via aqueue
23:14:20.410   group unpaused   example.org  by anna@host via aqueue
23:14:20.420   run paused       by anna@host via aqueue
23:14:20.430   run unpaused     by anna@host via aqueue
23:14:20.440   enqueued            6 Folder
23:14:20.450   started             6 Folder  w1
23:14:20.460   enqueued            7 Page        by item 6, key below
23:14:20.470   enqueued            8 Page        by item 6
23:14:20.480   enqueued            9 Page        by item 6
23:14:20.490   completed           6 Folder  w1  0.25 s
23:14:20.500   started             7 Page    w1
23:14:20.510   completed           7 Page    w1  0.25 s
23:14:20.520   started             8 Page    w1
23:14:20.530 W retry scheduled     8 Page    w1  attempt 1, due in 10 min 0 s: Boom: it broke
23:14:20.540   steered          retry --state retrying, 1 item, by anna@host via aqueue
23:14:20.550   rescheduled         8 Page        due in 4.99 s
23:14:25.560   started             8 Page    w1  attempt 2
23:14:25.570   completed           8 Page    w1  0.25 s, attempt 2
23:14:25.580   started             9 Page    w1
23:14:25.590   steered          skip 9, 1 item, by anna@host via aqueue
23:14:25.600   interrupted         9 Page    w1  to be skipped
23:14:25.610   skipped             9 Page
23:14:25.620   started             6 Folder  w1  hook
23:14:25.630   children done       6 Folder  w1
23:14:25.640   enqueued           10 Page        group example.org
23:14:25.650   enqueued           11 Page
23:14:25.659   enqueued           12 Page        group example.org
23:14:25.669   steered          cancel 10, 1 item, by anna@host via aqueue
23:14:25.679 E failed             10 Page        while it waited: CancelledByUser: cancelled by anna@host via aqueue
23:14:25.689   started            11 Page    w2
23:14:25.699   steered          cancel 11, 1 item, by anna@host via aqueue
23:14:25.709 W cancelled          11 Page
23:14:25.719 E failed             11 Page    w2  0.25 s: CancelledByUser: cancelled by anna@host via aqueue
23:14:25.729   steered          skip 12, 1 item, by anna@host via aqueue
23:14:25.739   skipped            12 Page
23:14:25.749 W run stopping     stop, by anna@host via aqueue
23:14:25.759   run finished     interrupted  5 of 12 completed, 4 failed, 2 skipped, 1 outstanding, 2 attempts interrupted, 2 attempts retried, 4 duplicates skipped
23:15:25.769   run edited       by anna@host via aqueue
23:15:25.779   limit changed    example.org  as in the program, by anna@host via aqueue
23:15:25.789   steered          skip 5, 1 item, by anna@host via aqueue
23:15:25.799   skipped             5 Folder      hook, after its failure
23:15:25.809   steered          retry 7 9 --completed, 2 items, by anna@host via aqueue
23:15:25.819   reopened            6 Folder      something below it runs again
23:15:25.829   reopened            7 Page        it runs again, though it had completed
23:15:25.839   reopened            9 Page        it runs again, though it was skipped
23:25:25.849   run resumed      3b1f  3 workers per process, queue, pid 1234 on host, cluster tcp://scheduler:8786
23:25:25.859   process joined   node:4711  3 workers, w1 to w3
23:25:25.869   process joined   other:99  3 workers, w4 to w6
23:25:25.879   reopened            3 Page        it runs again
23:25:25.889   adopted             4 Page        with different attributes
23:25:25.899   started             4 Page    w5  attempt 2
23:25:25.909   process left     first worker w1
23:25:25.919 W interrupted         4 Page    w5  worker process lost
23:25:25.929 W process left     first worker w4, lost, 2 late or repeated reports ignored
23:25:25.939   run finished     interrupted  4 of 12 completed, 2 failed, 2 skipped, 4 outstanding, 3 attempts interrupted, 2 attempts retried, 4 duplicates skipped
""".splitlines(),
        [],
    )


def test_date_is_told_whenever_the_day_changes(path: Path, tail: Tail) -> None:
    """In local time, before the first line of that day."""
    script = Script()
    script.wait(86_400)
    script.enqueue()
    script.enqueue()
    write_log(path, script.events)
    _, lines, _ = tail(path)

    assert [line[:10] for line in lines] == ["2023-11-14", "22:13:20.0", "2023-11-15", "22:13:20.0", "22:13:20.0"]


def test_types_are_named_as_short_as_they_can_be_told_apart(path: Path, tail: Tail) -> None:
    """From the moment on that there are two of one name."""
    write_log(path, with_types(["a:Page", "b:Page", "c:Folder", "c:<locals>.Inner"]))
    _, lines, _ = tail(path, "-n", "all", "--event", "item.started")

    assert [line.split()[3] for line in lines[1:]] == ["Page", "b:Page", "Folder", "Inner"]


def test_levels_can_be_told_without_colours(path: Path, tail: Tail) -> None:
    """By a letter in a column of its own."""
    run_ = every_event_type()
    write_log(path, run_)
    _, lines, _ = tail(path, "-n", "all")
    letters = {"debug": "D", "info": " ", "warning": "W", "error": "E"}

    assert [line[13] for line in lines[1:]] == [letters[level_of(event)] for event in run_]


def test_process_that_left_in_good_order_is_no_warning(path: Path, tail: Tail) -> None:
    """One that died is, though the events are of one type."""
    script = Script(cluster="tcp://scheduler:8786")
    script.join(1)
    script.join(4)
    script.add(ProcessLeft, first_worker=1)
    script.lose(4)
    write_log(path, script.events)
    _, whole, _ = tail(path, "-n", "all", "--event", "process.left")
    _, warnings, _ = tail(path, "-n", "all", "--level", "warning")

    assert [line[13:] for line in whole[1:]] == [
        "  process left     first worker w1",
        "W process left     first worker w4, lost",
    ]
    assert warnings == [whole[0], whole[2]]


def test_texts_are_whole_in_a_pipe(path: Path, tail: Tail) -> None:
    """However long, on one line each."""
    text = "x" * 5_000
    write_log(path, saying(text))
    _, lines, _ = tail(path, "--event", "failed")

    assert lines[1].endswith(f": {text}: {text}")


@pytest.mark.parametrize("as_json", [False, True])
def test_nothing_of_a_file_steers_the_terminal(path: Path, tail: Tail, as_json: bool) -> None:
    """Escape sequences, bidi overrides and line breaks are shown, whichever field they are in."""
    lines = write_log(path, saying(HOSTILE))
    options = ["--json"] if as_json else []
    _, shown, _ = tail(path, "-n", "all", *options)

    assert len(shown) == len(lines) + (not as_json)
    assert [line for line in shown if visible(line) != line] == []


def test_hostile_text_on_a_terminal(path: Path) -> None:
    """All that is written beside text are colours, and no line wraps."""
    run_ = saying(HOSTILE + "漢字" * 50)
    write_log(path, run_)
    with Emulator(80, 100) as terminal:
        subprocess.run([*COMMAND, str(path), "-n", "all"], stdout=terminal.stream, timeout=DEADLINE_S, check=True)
        terminal.until(lambda: "run finished" in terminal.lines()[-1] if terminal.lines() else False)
        lines = terminal.lines()
        written = terminal.written().decode()

    assert len(lines) == len(run_) + 1
    assert all(line == "" or line.endswith("…") or cell_len(line) <= 80 for line in lines)
    assert any(line.endswith("…") for line in lines)
    assert all(c.isprintable() or c in "\r\n" for c in STYLE.sub("", written))
    assert set(re.findall(r"\x1b\[([0-9;]*)m", written)) <= {"0", "1", "2", "31", "32", "35", "36", "1;31"}


def test_no_color_is_honoured(path: Path) -> None:
    """Bold and dim stay; the levels are told by their letters anyway."""
    write_log(path, every_event_type())
    with Emulator(100, 100) as terminal:
        subprocess.run(
            [*COMMAND, str(path), "-n", "all"],
            stdout=terminal.stream,
            timeout=DEADLINE_S,
            check=True,
            env=os.environ | {"NO_COLOR": "1"},
        )
        terminal.until(lambda: len(terminal.lines()) == len(every_event_type()) + 1)
        written = terminal.written().decode()

    assert set(re.findall(r"\x1b\[([0-9;]*)m", written)) == {"0", "1", "2"}


def test_dumb_terminal_gets_no_sequences(path: Path) -> None:
    """It could only print them."""
    write_log(path, every_event_type())
    with Emulator(100, 100) as terminal:
        subprocess.run(
            [*COMMAND, str(path), "-n", "all"],
            stdout=terminal.stream,
            timeout=DEADLINE_S,
            check=True,
            env=os.environ | {"TERM": "dumb"},
        )
        terminal.until(lambda: len(terminal.lines()) == len(every_event_type()) + 1)
        assert b"\x1b" not in terminal.written()


class Screen:
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError("there is no terminal")


def lines_on_terminal(run_: list[Event], cells: int, types: list[str]) -> list[str]:
    """Return the lines of some events as they are written to a terminal, without their ends."""
    stream: Any = Screen()
    lines = EventLines(stream)
    lines.cells = cells
    text = "".join(lines.write(event, types[at % len(types)] if types else "") for at, event in enumerate(run_))
    return text.split("\n")[:-1]


@given(
    st.one_of(event_streams(hostile_text), st.lists(events, max_size=20)),
    st.integers(1, 120),
    st.lists(hostile_text, max_size=3),
)
def test_no_line_is_wider_than_the_terminal(run_: list[Event], cells: int, types: list[str]) -> None:
    """Whatever it says, and whatever the terminal's width."""
    lines = lines_on_terminal(run_, cells, types)
    screen = pyte.Screen(cells, len(lines) + 2)
    shown = "\r\n".join(lines)
    # The emulator draws each half of a flag, and each tone of a skin, two cells wide. Terminals differ in these.
    shown = re.sub("[\U0001f1e6-\U0001f1ff\U0001f3fb-\U0001f3ff]", lambda found: "x" * cell_len(found[0]), shown)
    # And it begins a new line before a character without width that follows a full one.
    shown = "".join(one for one in shown if one < " " or cell_len(one))
    pyte.Stream(screen).feed(shown)

    assert all(cell_len(STYLE.sub("", line)) <= cells for line in lines)
    assert screen.cursor.y == max(len(lines) - 1, 0)
    assert all(visible(STYLE.sub("", line)) == STYLE.sub("", line) for line in lines)


def test_times_that_are_none_are_no_error() -> None:
    """Of a spoiled file: beyond all dates, or before them."""
    (start,) = make_events(1, 1)
    for at in (1e300, -1e300, 1e18, 5e-324, -1.0, 253_402_300_800.0):
        *_, line = lines_on_terminal([msgspec.structs.replace(start, at=at)], 200, [])
        assert "run started" in line


# ---- how many -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["log", "journal"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [([], 10), (["-n", "3"], 3), (["--lines", "25"], 25), (["-n", "0"], 0), (["-n", "all"], 99), (["-n", "10000"], 99)],
)
def test_the_last_lines(tmp_path: Path, tail: Tail, kind: str, options: list[str], expected: int) -> None:
    """Ten by default."""
    path = tmp_path / "run"
    if kind == "log":
        write_log(path, make_events(1, 99))
    else:
        write(path, make_events(1, 99))
    code, lines, said = tail(path, "--json", *options)

    assert (code, said) == (0, [])
    assert seqs(lines) == list(range(100 - expected, 100))


@pytest.mark.parametrize("value", ["-1", "ten", "1.5", "", "٣", "9" * 30])
def test_number_that_is_none(path: Path, tail: Tail, value: str) -> None:
    """Is a usage error that says what may be given."""
    write_log(path, completed(1))
    code, lines, said = tail(path, f"--lines={value}")

    assert (code, lines, len(said)) == (2, [], 1)
    assert "is not a whole number (0 or more) or 'all'" in said[0]


@pytest.mark.parametrize("kind", ["log", "journal"])
def test_reading_goes_back_as_far_as_it_must(
    tmp_path: Path, tail: Tail, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In steps, up to the beginning, for the last events that match and for the types of items that run for long."""
    monkeypatch.setattr(tail_command, "_FIRST_WINDOW", 10)
    script = Script()
    long = script.enqueue("module:Long")
    script.start(long, "module:Long", worker=2)
    for _ in range(500):
        item = script.enqueue()
        script.start(item)
        script.complete(item)
    script.add(ItemDescribed, item=long, worker=2, text="still there")
    for _ in range(3):
        script.enqueue()
    path = tmp_path / "run"
    if kind == "log":
        write_log(path, script.events)
    else:
        write(path, script.events)
    last = len(script.events)

    assert seqs(tail(path, "--json", "--event", "run")[1]) == [1]
    assert seqs(tail(path, "--json", "--type", "Long")[1]) == [2, 3, last - 3]
    assert seqs(tail(path, "--json", "--item", "1")[1]) == [2, 3, last - 3]
    assert seqs(tail(path, "--json", "-n", "2", "--type", "Page", "--event", "completed")[1]) == [last - 7, last - 4]
    assert "described           1 Long  w2  still there" in tail(path, "-n", "4")[1][1]
    # To show one type is worth so much, and no more.
    monkeypatch.setattr(tail_command, "_TYPES_WINDOW", 20)
    assert "described           1 ?     w2  still there" in tail(path, "-n", "4")[1][1]
    assert seqs(tail(path, "--json", "-n", "1", "--type", "Long")[1]) == [last - 3]


@given(event_streams(), st.integers(0, 30), st.sampled_from(["", "module:Page"]), st.integers(1, 40))
def test_window_finds_what_reading_all_of_it_finds(
    tmp_path_factory: pytest.TempPathFactory, run_: list[Event], count: int, type: str, window: int
) -> None:
    """The same lines, with the same types."""
    path = tmp_path_factory.mktemp("log") / "run.jsonl"
    write_log(path, run_)
    with pytest.MonkeyPatch.context() as patch:
        found = []
        for size in (window, 10**9):
            patch.setattr(tail_command, "_FIRST_WINDOW", size)
            history = open_history(str(path), whole_log=True)
            chosen = ChosenEvents(types=[type] if type else [])
            last, _ = tail_command._read_last(history, count, chosen)
            history.close()
            found.append([(event.seq, of_type) for _, event, of_type in last])

    assert found[0] == found[1]


# ---- which ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["item.failed"], {"item.failed"}),
        (["failed"], {"item.failed", "reporter.failed"}),
        (["run"], {name for name in EVENT_TYPES if name.startswith("run.")}),
        (["group"], {name for name in EVENT_TYPES if name.startswith("group.")}),
        (["retry"], {"item.retry_scheduled"}),
        (["children"], {"item.children_failed", "item.children_processed"}),
        (["started", "run.stopping"], {"run.started", "item.started", "run.stopping"}),
    ],
)
def test_events_by_name(path: Path, tail: Tail, names: list[str], expected: set[str]) -> None:
    """A whole name, its first or its last part, or the first word of that."""
    run_ = every_event_type()
    write_log(path, run_)
    _, lines, _ = tail(path, "-n", "all", "--json", *(f"--event={name}" for name in names))

    assert seqs(lines) == [event.seq for event in run_ if event.event in expected]


@pytest.mark.parametrize("name", ["filed", "", "item.fail", "item.", "*", "\x1b[2J"])
def test_event_that_is_not_known(path: Path, tail: Tail, name: str) -> None:
    """Is a usage error that names those that are."""
    code, lines, said = tail(path, f"--event={name}")

    assert (code, lines, len(said)) == (2, [], 1)
    assert f"no event is called {visible(name)!r}; the events are run.started, run.resumed, item.enqueued" in said[0]
    assert said[0].isprintable()


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_events_of_a_level_or_above(path: Path, tail: Tail, level: str) -> None:
    """As the log itself has them."""
    run_ = every_event_type()
    lines = write_log(path, run_)
    levels = ["debug", "info", "warning", "error"]
    wanted = levels[levels.index(level) :]

    assert set(LEVELS.values()) < set(levels)
    assert tail(path, "-n", "all", "--json", "--level", level)[1] == [
        line.decode() for line in lines if json.loads(line)["level"] in wanted
    ]


@pytest.mark.parametrize(
    ("options", "items"),
    [
        (["--item", "2"], {2}),
        (["--item", "2", "--item", "4"], {2, 4}),
        (["--type", "Page"], {2, 3, 4, 7, 8, 9, 10, 11, 12}),
        (["--type", "module:Folder", "--item", "5"], {5}),
        (["--type", "Page", "--type", "Folder"], set(range(1, 13))),
    ],
)
def test_events_of_items_and_types(path: Path, tail: Tail, options: list[str], items: set[int]) -> None:
    """Also those events that don't tell their item's type."""
    run_ = every_event_type()
    write_log(path, run_)
    code, lines, said = tail(path, "-n", "all", "--json", *options)

    assert (code, said) == (0, [])
    assert seqs(lines) == [event.seq for event in run_ if getattr(event, "item", 0) in items]


@pytest.mark.parametrize("count", ["10", "all"])
def test_type_that_never_came_is_refused(path: Path, tail: Tail, count: str) -> None:
    """On standard error, with those that there are; it is a failure."""
    write_log(path, every_event_type())
    code, lines, said = tail(path, "-n", count, "--type", "Pgae\x1b")

    assert (code, lines, len(said)) == (2, [], 1)
    assert "--type: no item is of type 'Pgae\\\\x1b'; known types: " in said[0]
    assert "Folder" in said[0]
    # Where the last ten are found without reading all of it, it isn't known.
    assert tail(path, "-n", count, "--type", "Pgae\x1b", "--type", "Page")[2] == (said if count == "all" else [])
    # It came, but what is wanted of it did not.
    assert tail(path, "-n", count, "--type", "Page", "--event", "children_failed") == (
        0,
        [],
        [f"aqueue: no events in {path} match"],
    )


def test_type_that_never_came_through_a_pipe_is_only_said() -> None:
    """What a sender leaves out, or sends later, is no mistake of the person who waits for it."""
    log = b"\n".join(lines_of(every_event_type())) + b"\n"
    done = subprocess.run(
        [*COMMAND, "-", "--type", "Pgae"], input=log, capture_output=True, timeout=DEADLINE_S, check=False
    )

    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.startswith(b"aqueue: --type: no item is of type 'Pgae'; known types: ")


def test_filters_apply_together(path: Path, tail: Tail) -> None:
    """An event must pass all of them."""
    run_ = with_retries(5)
    write_log(path, run_)
    _, lines, _ = tail(path, "-n", "all", "--json", "--type", "Folder", "--level", "warning", "--event", "item")

    assert seqs(lines) == [e.seq for e in run_ if level_of(e) == "warning" and getattr(e, "item", 0) == 1]


def test_items_of_another_run_in_the_same_log_have_their_own_types(path: Path, tail: Tail) -> None:
    """A number begins anew with each run."""
    script, other = Script(), Script()
    script.start(script.enqueue("m:First"), "m:First")
    other.enqueue("m:Second")
    other.add(ItemCompleted, item=1, worker=1, duration_s=0.1)
    write_log(path, script.events + other.events)
    _, lines, _ = tail(path, "-n", "1")

    assert "completed           1 ?" in lines[-1]


def test_types_of_running_items_are_bounded(path: Path, tail: Tail, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a log that lacks ends; the oldest are forgotten."""
    monkeypatch.setattr("aqueue.cli._commands.chosen_events._MAX_RUNNING", 3)
    script = Script()
    for item in range(1, 6):
        script.start(script.enqueue(f"m:T{item}"), f"m:T{item}", worker=item)
    for item in range(1, 6):
        script.add(ItemInterrupted, item=item)
    write_log(path, script.events)

    assert [line.split()[4] for line in tail(path, "-n", "5")[1][1:]] == ["?", "?", "T3", "T4", "T5"]


# ---- JSON -----------------------------------------------------------------------------------------------------------


def test_json_of_a_log_are_its_very_lines(path: Path, tail: Tail) -> None:
    """With fields that aqueue doesn't know, and in their order."""
    line = b'{"level":"info", "more": {"a": [1, null]},"event":"run.stopping","seq":1,"at":1.5,"reason":"\xc3\xa9"}'
    path.write_bytes(line + b"\r\n")

    assert tail(path, "--json")[1] == [line.decode()]


def test_json_of_a_journal_is_what_the_reporter_writes(tmp_path: Path, tail: Tail) -> None:
    """For a real run with failures, retries, hooks and hostile text."""
    log, journal = tmp_path / "run.jsonl", tmp_path / "run.db"
    run(journal, reporter=JsonlReporter(log))
    expected = log.read_text().splitlines()

    assert tail(journal, "-n", "all", "--json")[1] == expected
    assert tail(log, "-n", "all", "--json")[1] == expected
    assert tail(journal)[1] == tail(log)[1]


@given(st.dictionaries(hostile_text, st.one_of(hostile_text, st.lists(hostile_text), st.none(), st.floats(0, 1))))
def test_json_that_is_made_safe_stays_equal(fields: dict[str, Any]) -> None:
    """Whatever the texts in it, however it is written."""
    for ascii_only in (True, False):
        data = json.dumps(fields, ensure_ascii=ascii_only, indent="\t").encode(errors="surrogatepass")
        try:
            data.decode()
        except UnicodeDecodeError:  # a lone surrogate, which no JSON file has
            continue
        line = safe_line(data).decode()
        assert json.loads(line) == json.loads(data)
        assert visible(line) == line


def test_bytes_that_are_no_text_are_replaced_in_json(path: Path, tail: Tail) -> None:
    """In a field that aqueue passes over."""
    path.write_bytes(b'{"event":"run.stopping","seq":1,"at":1.5,"reason":"x","more":"\xff\xc2\x9b2J"}\n')

    assert tail(path, "--json")[1] == [
        '{"event":"run.stopping","seq":1,"at":1.5,"reason":"x","more":"\ufffd\\u009b2J"}'
    ]


def test_journal_with_a_time_that_no_date_has(tmp_path: Path, tail: Tail) -> None:
    """A stranger's: the line lacks its timestamp."""
    path = tmp_path / "run.db"
    start, *_ = make_events(1, 1)
    write(path, [start, msgspec.structs.replace(completed(1)[-1], seq=2, at=1e300)])

    assert json.loads(tail(path, "--json")[1][1]) | {"counts": 0} == {
        "timestamp": None,
        "level": "info",
        "event": "run.finished",
        "seq": 2,
        "at": 1e300,
        "status": "completed",
        "counts": 0,
    }


# ---- what can't be read ---------------------------------------------------------------------------------------------


def test_garbled_lines_are_named_at_the_end(path: Path, tail: Tail) -> None:
    """The others are printed; the exit code is 2."""
    lines = write_log(path, completed(3))
    append(path, b"garbled", lines[-1])
    code, shown, said = tail(path, "--json", "-n", "2")

    assert (code, shown) == (2, [lines[-1].decode()] * 2)
    assert len(said) == 1 and said[0].startswith(
        f"aqueue: {path}: line {len(lines) + 1} could not be read and was skipped"
    )


def test_what_is_not_there_or_no_log(path: Path, tail: Tail) -> None:
    """One line says it; the exit code is 2."""
    assert tail(path) == (
        2,
        [],
        [f"aqueue: there is no file {path}; name the journal or the log that a run has written"],
    )
    path.write_bytes(b"hello\n")
    code, lines, said = tail(path)
    assert (code, lines, len(said)) == (2, [], 1)
    assert "is neither a journal nor a log from aqueue" in said[0]


def test_help_has_examples(tail: Tail) -> None:
    """That can be copied."""
    code, lines, _ = tail("--help")

    assert code == 0
    assert "    ssh host tail -f run.jsonl | aqueue tail -f -" in lines


def test_reader_that_has_read_enough(path: Path) -> None:
    """Is no error of this command's."""
    write_log(path, make_events(1, 20_000))
    with subprocess.Popen(
        [*COMMAND, str(path), "-n", "all"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(DEADLINE_S) == 141  # as of a process that SIGPIPE ends


# ---- following ------------------------------------------------------------------------------------------------------

JOB = """
import sys, anyio
from aqueue import Item, run_queue
class Page(Item):
    def __init__(self, n):
        self.n = n
    async def process(self, enqueue, set_desc):
        set_desc(f"page {self.n}")
        await anyio.to_thread.run_sync(sys.stdin.readline)
run_queue([Page(1), Page(2)], num_workers=1, reporter=f"jsonl:{sys.argv[1]}", resume=sys.argv[2])
"""


@pytest.mark.parametrize("kind", ["log", "journal"])
def test_run_in_another_process_is_followed(tmp_path: Path, kind: str) -> None:
    """Each event as it comes; a FILE that isn't there yet is waited for; Ctrl-C ends it quietly."""
    log, journal = tmp_path / "run.jsonl", tmp_path / "run.db"
    file = log if kind == "log" else journal
    with Following(tmp_path, file, "-f") as following:
        following.until(following.said)
        with subprocess.Popen([sys.executable, "-c", JOB, log, journal], stdin=subprocess.PIPE, bufsize=0) as job:
            assert job.stdin is not None
            for number in (1, 2):
                following.until(partial(following.ends_with, f"w1  page {number}"))
                job.stdin.write(b"\n")
        following.until(partial(following.ends_with, "run finished     completed  2 of 2 completed"))
        # The run may be resumed: it goes on.
        following.process.send_signal(signal.SIGINT)
        assert following.process.wait(DEADLINE_S) == 130
        assert following.said() == [f"aqueue: {file} doesn't exist yet; waiting for it"]
        assert len(following.lines()) == len(events_of(journal))


def test_log_that_is_rotated_cut_and_made_anew_is_followed(path: Path, tmp_path: Path) -> None:
    """No line is lost or printed twice, and each time it is said."""
    lines = write_log(path, completed(4))
    expected = [line.decode() for line in lines]
    path.write_bytes(b"")
    append(path, *lines[:3])
    with Following(tmp_path, path, "-f", "-n", "2", "--json") as following:
        following.until(lambda: following.lines() == expected[1:3])
        with path.open("ab") as file:
            file.write(lines[3][:20])
            file.flush()
            file.write(lines[3][20:] + b"\n")
        following.until(lambda: following.lines() == expected[1:4])
        append(path, lines[4])
        path.rename(tmp_path / "run.jsonl.1")
        append(path, lines[5])
        following.until(lambda: following.lines() == expected[1:6])
        os.truncate(path, 0)
        following.until(lambda: len(following.said()) == 2)
        append(path, lines[6])
        following.until(lambda: following.lines() == expected[1:7])
        path.unlink()
        append(path, lines[7])
        following.until(lambda: following.lines() == expected[1:8])

        replaced = f"aqueue: {path}: it was replaced by a new file; reading continues from its start"
        cut = f"aqueue: {path}: it was truncated; reading continues from its start"
        assert following.said() == [replaced, cut, replaced]


def test_journal_that_is_replaced_is_followed(tmp_path: Path) -> None:
    """The new one from its beginning, once it is there."""
    path = tmp_path / "run.db"
    write(path, make_events(1, 20))
    with Following(tmp_path, path, "-f", "-n", "1", "--json") as following:
        following.until(lambda: len(following.lines()) == 1)
        for name in tmp_path.glob("run.db*"):
            name.unlink()
        following.until(lambda: len(following.said()) == 2)
        write(path, make_events(1, 5))
        following.until(lambda: len(following.lines()) == 6)

        assert seqs(following.lines()) == [20, 1, 2, 3, 4, 5]
        assert following.said() == [
            f"aqueue: {path} was removed or replaced; reading the new file from its start",
            f"aqueue: {path} doesn't exist yet; waiting for it",
        ]


def test_followed_events_are_filtered(path: Path, tmp_path: Path) -> None:
    """With the types that were learned before."""
    run_ = every_event_type()
    lines = write_log(path, run_)
    path.write_bytes(b"")
    append(path, *lines[:3])
    with Following(tmp_path, path, "-f", "-n", "1", "--json", "--type", "Folder") as following:
        following.until(lambda: seqs(following.lines()) == [3])
        append(path, *lines[3:])
        wanted = [event.seq for event in run_[2:] if getattr(event, "item", 0) in {1, 5, 6}]
        following.until(lambda: seqs(following.lines()) == wanted)


def test_garbled_lines_are_said_when_they_come(path: Path, tmp_path: Path) -> None:
    """Not one by one, where there are many."""
    lines = write_log(path, completed(4))
    path.write_bytes(b"")
    append(path, *lines[:3], b"garbled")
    with Following(tmp_path, path, "-f", "--json") as following:
        following.until(lambda: len(following.said()) == 1)
        assert following.said()[0].startswith(f"aqueue: {path}: line 4 could not be read and was skipped (")
        append(path, *[b"garbled"] * 1_000, lines[3])
        following.until(lambda: len(following.lines()) == 4)
        following.until(lambda: len(following.said()) == 2)
        assert following.said()[1].startswith(
            f"aqueue: {path}: 1,001 lines could not be read and were skipped; the first is line 4 "
        )


def test_standard_input_is_followed_until_it_ends(tmp_path: Path) -> None:
    """All that comes is printed as it comes; then the exit code tells whether all could be read."""
    run_ = completed(20)
    lines = lines_of(run_)
    for garbled, code in ((b"", 0), (b"garbled\n", 2)):
        with Following(tmp_path, "-f", "-", "--json", "-n", "3", stdin=subprocess.PIPE) as following:
            stdin = following.process.stdin
            assert stdin is not None
            for number in (1, len(lines)):
                stdin.write(b"\n".join(lines[len(following.lines()) : number]) + b"\n")
                stdin.flush()
                following.until(partial(following.has, number))
            stdin.write(garbled)
            stdin.close()
            assert following.process.wait(DEADLINE_S) == code
            assert seqs(following.lines()) == [event.seq for event in run_]
            assert len(following.said()) == (1 if garbled else 0)


def test_program_that_prints_before_its_run_begins(tmp_path: Path) -> None:
    """Such lines in a pipe are said to be no events, and the run's are waited for."""
    with Following(tmp_path, "-f", "-", "--json", stdin=subprocess.PIPE) as following:
        stdin = following.process.stdin
        assert stdin is not None
        stdin.write(b"loading\n")
        stdin.flush()
        following.until(following.said)
        stdin.write(b"\n".join(lines_of(completed(2))) + b"\n")
        stdin.close()
        assert following.process.wait(DEADLINE_S) == 2
        assert following.has(len(completed(2)))
        assert "line 1 could not be read" in following.said()[0]


def test_last_lines_of_standard_input(tmp_path: Path) -> None:
    """Without -f they are known when it has ended."""
    lines = lines_of(completed(20))
    done = subprocess.run(
        [*COMMAND, "-", "-n", "3", "--json"],
        input=b"\n".join(lines),
        capture_output=True,
        timeout=DEADLINE_S,
        check=True,
    )

    assert done.stdout.splitlines() == lines[-3:]


def test_reader_that_has_gone_ends_following(path: Path) -> None:
    """At once, not when the next event comes, which may be never."""
    write_log(path, completed(3))
    with subprocess.Popen([*COMMAND, str(path), "-f"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(DEADLINE_S) == 141


def test_widths_follow_the_terminal(path: Path, tmp_path: Path) -> None:
    """What comes after it was made narrower is cut to its new width."""
    lines = write_log(path, saying("x" * 300))
    path.write_bytes(b"")
    append(path, *lines[:10])
    with Emulator(100, 60) as terminal:
        process = subprocess.Popen([*COMMAND, str(path), "-f"], stdout=terminal.stream)
        try:
            terminal.until(lambda: len(terminal.lines()) == 11)
            assert max(map(len, terminal.lines())) == 100
            terminal.resize(60)
            before = len(terminal.lines())
            append(path, *lines[10:20])
            terminal.until(lambda: len(terminal.lines()) == before + 10)
            assert max(map(len, terminal.lines()[before:])) == 60
        finally:
            process.kill()
            process.wait(DEADLINE_S)


def test_journal_and_its_lines_agree(tmp_path: Path, tail: Tail) -> None:
    """Payloads and results stay out of what is printed, as they do in logs."""
    path = tmp_path / "run.db"
    run(path, reporter="none")
    whole = b"".join(encode_lines(batch) for batch in recorded(path))
    _, lines, _ = tail(path, "-n", "all", "--json")

    assert b'"payload"' in whole
    assert not any('"payload"' in line or '"result"' in line for line in lines)
    assert len(lines) == whole.count(b"\n")
