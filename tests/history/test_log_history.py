"""Runs in logs: whole, cut anywhere, garbled, several in one file, growing, and files that are no logs at all.

What a person names is opened by `_history.opening`, as any `_history.history`.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue import run_queue
from aqueue._folds.item_table import ItemTable
from aqueue._history import log_file
from aqueue._history.history import CannotRead, History, batches
from aqueue._history.log_file import LogFile
from aqueue._history.log_history import LogHistory
from aqueue._history.opening import open_history
from aqueue._journal.check import MAGIC
from aqueue.cli._formats.lines import write_events_jsonl
from aqueue.errors import NotAJournal
from aqueue.events import SCHEMA_VERSION, Event, RunStarted, RunStopping, encode
from aqueue.testing._scripted_runs import every_event_type, resumed, with_an_event_of_the_future
from aqueue.view import RunView
from aqueue_reporters.jsonl import JsonlReporter
from tests.cli.runs import Folder, Page, run
from tests.strategies import event_streams

CHILD_DEADLINE_S = 60.0


def lines_of(events: list[Event]) -> list[bytes]:
    """Return the line of each event, with its end."""
    parts: list[bytes] = []
    write_events_jsonl([events], parts.append, include_data=True)
    return b"".join(parts).splitlines(keepends=True)


def read(path: Path, run: str = "", *, follows: bool = False) -> tuple[list[Event], History]:
    """Return the events of a run in a log, and from what they were read."""
    history = open_history(str(path), run=run, follows=follows)
    return [event for batch in batches(history) for event in batch], history


def read_whole(path: Path) -> tuple[list[bytes], str]:
    """Return the lines of all runs in a log, and what is said of those that can't be read."""
    history = open_history(str(path), whole_log=True)
    lines = []
    while (batch := history.read_lines()) is not None:
        lines += [line for line, _ in batch]
    history.close()
    return lines, history.skipped_lines()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a log is to be."""
    return tmp_path / "run.jsonl"


@pytest.fixture(scope="module")
def real_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of a real run with children, retries, hooks and a failure."""
    path = tmp_path_factory.mktemp("real") / "run.jsonl"
    run(path.with_suffix(".db"), reporter=JsonlReporter(path))
    return path


# ---- whole logs -----------------------------------------------------------------------------------------------------


def test_real_log_is_read_as_it_was_written(real_log: Path) -> None:
    """Nothing is missing, nothing is put in, nothing is complained of."""
    events, history = read(real_log)

    assert [encode(event) for event in events] == [
        encode(msgspec.json.decode(line, type=type(event)))
        for line, event in zip(real_log.read_bytes().splitlines(), events, strict=True)
    ]
    assert (history.missing, history.skipped_lines(), history.take_notices()) == (0, "", [])


def test_log_cut_anywhere(real_log: Path, path: Path) -> None:
    """Any beginning of it reads without complaint and gives exactly the events of its whole lines.

    Cut at every byte around the lines' ends, and at every fifth between them.
    """
    data = real_log.read_bytes()
    events, _ = read(real_log)
    lines = data.splitlines(keepends=True)
    first = len(lines[0])
    ends = [0]
    for line in lines:
        ends.append(ends[-1] + len(line))
    around = {end + offset for end in ends for offset in range(-4, 5)}
    for size in range(first, len(data) + 1):
        if size % 5 and size not in around:
            continue
        path.write_bytes(data[:size])
        # The last line is whole when nothing but its newline is missing.
        expected = sum(end - 1 <= size for end in ends[1:])
        found, history = read(path)
        history.close()
        assert found == events[:expected], size
        assert history.skipped_lines() == ""


def test_log_without_one_whole_line_is_no_log_yet(real_log: Path, path: Path) -> None:
    """It is said, not passed over, that there is nothing in it; to one who follows it may come."""
    data = real_log.read_bytes()
    for size in (0, 1, 50, data.index(b"\n") - 1):
        path.write_bytes(data[:size])
        why = (
            "no event of a run; name the file that a run has written" if size else "is empty: nothing is recorded there"
        )
        with pytest.raises(CannotRead, match=why):
            read(path)
        assert read(path, follows=True)[0] == []


@given(event_streams())
def test_any_log_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, events: list[Event]) -> None:
    """Through both ways of reading."""
    path = tmp_path_factory.mktemp("log") / "run.jsonl"
    lines = lines_of(events)
    path.write_bytes(b"".join(lines))

    assert read(path)[0] == events
    assert read_whole(path) == ([line.rstrip(b"\n") for line in lines], "")


# ---- lines that can't be read ---------------------------------------------------------------------------------------

EVENTS = every_event_type()
LINES = lines_of(EVENTS)

GARBLED = {
    "torn": LINES[3][:40],
    "not JSON": b"hello",
    "a number": b"17",
    "an array": b"[]",
    "no event": b"{}",
    "an event of another type": b'{"event": 3}',
    "a field is missing": b'{"event":"item.failed","seq":4,"at":1.0}',
    "a field of the wrong type": LINES[3].rstrip(b"\n").replace(b'"seq":4', b'"seq":"4"'),
    "NUL bytes, as a crash may leave them": b"\0" * 4096,
    "NUL bytes before a line": b"\0\0" + LINES[3].rstrip(b"\n"),
    "invalid UTF-8": LINES[3].rstrip(b"\n").replace(b"listing", b"\xff\xfe"),
    "UTF-16": LINES[3].decode().rstrip("\n").encode("utf-16"),
    "too deep": b'{"x":' * 100_000,
    "a time beyond floats": LINES[3].rstrip(b"\n").replace(b'"seq":4', b'"seq":4,"at":1e999'),
    "two on one line": LINES[3].rstrip(b"\n") * 2,
}


@pytest.mark.parametrize("line", GARBLED.values(), ids=GARBLED.keys())
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_garbled_line_is_named_and_skipped(path: Path, line: bytes, end: bytes) -> None:
    """The lines around it are read, by both ways of reading."""
    others = [line.rstrip(b"\n") for line in LINES]
    del others[3]
    path.write_bytes(end.join([*others[:3], line, *others[3:]]) + end)
    events, history = read(path)
    skipped = history.skipped_lines()

    number = line.count(b"\n") + 4  # UTF-16 has newlines of its own
    assert skipped.startswith(f"{path}: line 4 could not be read and was skipped (") or number != 4
    assert [event.seq for event in events if event in EVENTS] == [1, 2, 3, *range(5, len(EVENTS) + 1)]
    lines, said = read_whole(path)
    assert [one.rstrip(b"\r") for one in lines] == others
    assert said == skipped


def test_garbled_lines_are_counted_and_the_first_is_named(path: Path) -> None:
    """However many there are, it is one line."""
    path.write_bytes(LINES[0] + b"x\n" * 5_000 + b"".join(LINES[1:]))
    events, history = read(path)

    assert events == EVENTS
    assert history.skipped_lines().startswith(
        f"{path}: 5,000 lines could not be read and were skipped; the first is line 2 ("
    )


def test_blank_lines_and_crlf_and_a_mark_at_the_beginning_do_no_harm(path: Path) -> None:
    """Editors and pipelines on Windows add them."""
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n\r\n  \r\n".join(line.rstrip(b"\n") for line in LINES))
    events, history = read(path)

    assert events == EVENTS
    assert history.skipped_lines() == ""
    assert history.events_at([1, 5]) == {1: EVENTS[0], 5: EVENTS[4]}


def test_lines_of_other_programs_are_passed_over(path: Path) -> None:
    """JSON with an `event` of a type that isn't known may be a newer aqueue's, or the job's own log."""
    other = b'{"event":"hello","level":"info"}\n'
    path.write_bytes(other * 2_000 + b"".join(line + other for line in LINES))

    assert read(path)[0] == EVENTS
    assert read_whole(path) == ([line.rstrip(b"\n") for line in LINES], "")


def test_fields_that_are_not_known_stay_in_the_lines(path: Path) -> None:
    """Processors add them, and newer versions."""
    line = LINES[0].rstrip(b"\n").replace(b'"seq":1', b'"seq":1,"host":"h","more":{"a":[1]}')
    path.write_bytes(line + b"\n")

    assert read_whole(path) == ([line], "")


def test_line_that_is_too_long_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And skipped, without filling the memory."""
    monkeypatch.setattr(log_file, "_READ_BYTES", 1_000)
    path.write_bytes(LINES[0] + b'{"event":"' + b"x" * 10_000 + b'"}\n' + LINES[1])
    file = LogFile(os.open(path, os.O_RDONLY), path, max_line_bytes=5_000)
    history = LogHistory(file, name="it", path=path, follows=False)
    events = [event for batch in batches(history) for event in batch]

    assert events == EVENTS[:2]
    assert history.skipped_lines() == "it: line 2 could not be read and was skipped (a line is longer than 64 MiB)"
    history.close()


def test_garbled_line_near_the_end_has_no_number(path: Path) -> None:
    """Where reading begins there, nobody has counted those before."""
    path.write_bytes(b"".join(LINES) + b"x\n" + LINES[-1])
    history = open_history(str(path), whole_log=True)
    assert history.start_near_end(2)
    while history.read_lines() is not None:
        pass

    assert "a line near its end could not be read and was skipped (" in history.skipped_lines()
    history.start_near_end(2)
    assert history.skipped_lines() == ""
    history.close()


# ---- several runs in one log ----------------------------------------------------------------------------------------


def renamed(events: list[Event], run_id: str) -> list[Event]:
    """Return the run under another name."""
    return [msgspec.structs.replace(e, run_id=run_id) if isinstance(e, RunStarted) else e for e in events]


FIRST, SECOND, THIRD = renamed(every_event_type(), "aa1"), renamed(resumed(), "aa2"), renamed(EVENTS[:3], "b")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("", THIRD), ("1", FIRST), ("2", SECOND), ("3", THIRD), ("-1", THIRD), ("-3", FIRST), ("aa2", SECOND), ("b", THIRD),
    ],
)  # fmt: skip
def test_one_of_several_runs(path: Path, wanted: str, expected: list[Event]) -> None:
    """By its number, or by the beginning of its name; the last by default."""
    path.write_bytes(b"".join([*lines_of(FIRST), b"garbled\n", *lines_of(SECOND), *lines_of(THIRD)]))
    events, history = read(path, wanted)

    assert events == expected
    assert history.is_over == (expected is not THIRD)


@pytest.mark.parametrize("wanted", ["0", "4", "-4", "aa", "c", "\x1b[2J", "1" * 5_000])
def test_run_that_is_not_there_or_not_one(path: Path, wanted: str) -> None:
    """All that there are are named, and nothing of what was asked for steers the terminal."""
    path.write_bytes(b"".join(lines_of(FIRST) + lines_of(SECOND) + lines_of(THIRD)))
    with pytest.raises(CannotRead, match=r"it has 1 \(aa1\), 2 \(aa2\), 3 \(b\)") as caught:
        read(path, wanted)

    assert str(caught.value).isprintable()


def test_all_runs_as_lines(path: Path) -> None:
    """One after the other, as they stand there."""
    lines = lines_of(FIRST) + lines_of(SECOND)
    path.write_bytes(b"".join(lines))

    assert read_whole(path) == ([line.rstrip(b"\n") for line in lines], "")


def test_log_that_begins_in_the_middle_of_a_run(path: Path) -> None:
    """What is left of that counts as a run without a name."""
    path.write_bytes(b"".join(lines_of(FIRST)[5:] + lines_of(SECOND)))
    events, history = read(path, "1")

    assert history.missing == 5
    assert {event.seq: event.event for event in events} == {event.seq: event.event for event in FIRST[5:]}
    assert read(path)[0] == SECOND
    with pytest.raises(CannotRead, match=r"it has 1 \(its start is missing\), 2 \(aa2\)"):
        read(path, "x")


def test_log_that_begins_when_a_run_was_resumed(path: Path) -> None:
    """As it does when the log was rotated meanwhile."""
    at = next(at for at, event in enumerate(SECOND) if event.event == "run.resumed")
    path.write_bytes(b"".join(lines_of(SECOND)[at:]))
    events, history = read(path)

    assert (events[0], history.missing) == (SECOND[at], at)


def test_two_runs_that_wrote_at_once_can_be_folded(path: Path) -> None:
    """Their lines alternate, and no figure of either can be right; but it is no reason to fail."""
    both = [line for pair in zip(lines_of(FIRST), lines_of(SECOND), strict=False) for line in pair]
    path.write_bytes(b"".join(both))
    for wanted in ("1", "2"):
        events, _ = read(path, wanted)
        RunView().apply(events)
        ItemTable().apply(events)
    assert len(read_whole(path)[0]) == len(both)


def test_events_can_be_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their numbers, wherever they are in the file."""
    monkeypatch.setattr(log_file, "_READ_BYTES", 1_000)
    path.write_bytes(b"".join([*lines_of(SECOND), b"garbled\n", *lines_of(FIRST)]))
    _, history = read(path)

    for event in FIRST:
        assert history.events_at([event.seq]) == {event.seq: event}
    assert history.events_at(range(1, 1_000)) == {event.seq: event for event in FIRST}
    assert history.events_at([]) == {}


# ---- while it grows -------------------------------------------------------------------------------------------------


def test_growing_log_gives_what_comes(path: Path) -> None:
    """Line by line, also when a line is written in two parts."""
    path.write_bytes(b"")
    history = open_history(str(path), follows=True)
    seen: list[Event] = []
    for line in LINES:
        for part in (line[:30], line[30:]):
            with path.open("ab") as file:
                file.write(part)
            seen += history.read() or []
    assert seen == EVENTS
    assert history.read() is None and not history.is_over


@pytest.mark.parametrize("how", ["rotated", "cut", "made anew"])
def test_log_that_is_replaced_while_it_is_followed(path: Path, how: str) -> None:
    """No line is lost, those between the last look and the rotation included, and it is said."""
    path.write_bytes(b"".join(LINES[:3]))
    history = open_history(str(path), follows=True, whole_log=True)
    seen = [line for line, _ in history.read_lines() or []]
    assert history.read_lines() is None
    last = 3 if how == "cut" else 5
    if how == "rotated":
        with path.open("ab") as file:
            file.write(b"".join(LINES[3:5]))
        path.rename(path.with_suffix(".1"))
    elif how == "cut":
        os.truncate(path, 0)
    else:
        with path.open("ab") as file:
            file.write(b"".join(LINES[3:5]))
        path.unlink()
    while (lines := history.read_lines()) is not None:
        seen += [line for line, _ in lines]
    with path.open("ab") as file:
        file.write(b"".join(LINES[last:9]))
    while (lines := history.read_lines()) is not None:
        seen += [line for line, _ in lines]

    assert [line + b"\n" for line in seen] == LINES[:9]
    assert len(history.take_notices()) == 1 and history.take_notices() == []
    assert history.skipped_lines() == ""


def test_another_run_ends_the_one_that_is_followed(path: Path) -> None:
    """A program that is started again appends to the same log."""
    path.write_bytes(b"".join(lines_of(FIRST)))
    events, history = read(path, follows=True)
    with path.open("ab") as file:
        file.write(b"".join(lines_of(SECOND)))
    more = [event for batch in batches(history) for event in batch]

    assert (events, more, history.is_over) == (FIRST, [], True)


def test_log_of_a_real_run_is_read_while_it_is_written(path: Path) -> None:
    """By a reader that looks at it after every batch, in the same process."""

    class Reading(JsonlReporter):
        def handle(self, events, view):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            super().handle(events, view)
            seen.extend(event for batch in batches(history) for event in batch)

    path.touch()
    history = open_history(str(path), follows=True)
    seen: list[Event] = []
    run_queue([Folder(4), Page(1)], reporter=Reading(path))

    assert [event.seq for event in seen] == list(range(1, seen[-1].seq + 1))
    assert seen == read(path)[0]


# ---- what is no log -------------------------------------------------------------------------------------------------


@given(st.binary(max_size=2_000).filter(lambda data: not data.startswith(MAGIC)), st.booleans())
def test_random_bytes_are_refused_or_complained_of(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, with_events: bool
) -> None:
    """Whatever a file holds, unless it begins as a journal does, nothing else happens."""
    path = tmp_path_factory.mktemp("log") / "run.jsonl"
    path.write_bytes(data + (b"\n" + b"".join(LINES) if with_events else b""))
    for follows in (False, True):
        try:
            events, history = read(path, follows=follows)
            said = history.skipped_lines()
        except (CannotRead, NotAJournal) as error:
            events, said = [], str(error)
        assert "\n" not in said
        assert said or with_events or follows
        assert events == (EVENTS if with_events else [])


@given(st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\n", b"")), max_size=20))
def test_random_lines_between_events_are_complained_of(
    tmp_path_factory: pytest.TempPathFactory, garbled: list[bytes]
) -> None:
    """And the events are all there."""
    path = tmp_path_factory.mktemp("log") / "run.jsonl"
    lines = list(LINES)
    for at, line in enumerate(garbled):
        lines.insert(1 + (at * 7) % (len(lines) - 1), line + b"\n")
    path.write_bytes(b"".join(lines))
    events, history = read(path)

    assert events == EVENTS
    assert bool(history.skipped_lines()) == any(line and not line.isspace() for line in garbled)


def test_file_that_is_something_else_is_refused_before_all_of_it_is_read(path: Path) -> None:
    """A text of a gigabyte is no log after its first thousand lines."""
    with path.open("wb") as file:
        file.write(b"hello\n" * 1_000_000)
    history = open_history(str(path), whole_log=True)
    with pytest.raises(
        CannotRead, match=r"neither a journal nor a log from aqueue: line 1 isn't an event \(.*\); name the"
    ):
        history.read_lines()


def test_newer_log_is_refused(path: Path) -> None:
    """Its events may mean something else."""
    lines = [*LINES[:5], LINES[0].replace(b'"schema_version":1', b'"schema_version":9').replace(b"started", b"resumed")]
    path.write_bytes(b"".join(lines))
    for reading in (read, read_whole):
        with pytest.raises(
            CannotRead,
            match=rf"written by a newer aqueue \(event 1 is of version 9, this aqueue knows {SCHEMA_VERSION}\)",
        ):
            reading(path)


def test_event_of_a_newer_aqueue_is_passed_over(path: Path) -> None:
    """As long as the schema's version is the same."""
    path.write_bytes(b"".join(lines_of(with_an_event_of_the_future())))
    events, history = read(path)

    assert [event.event for event in events] == ["run.started", "run.finished"]
    assert history.missing == 1


def no_such_file(path: Path) -> None:
    """Make nothing."""


def unreadable(path: Path) -> None:
    """Make a file that may not be read."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        pytest.skip("root may read everything")
    path.touch(mode=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_such_file, "there is no file .*; name the journal or the log that a run has written"),
        (Path.mkdir, "is a directory; name the journal or the log in it"),
        (Path.touch, "is empty: nothing is recorded there yet"),
        (unreadable, "can't be read: Permission denied"),
    ],
)
def test_what_can_not_be_read_is_said(path: Path, make: Callable[[Path], None], message: str) -> None:
    """In one line that names the file and says what to do."""
    make(path)
    with pytest.raises(CannotRead, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_path_that_no_file_can_have() -> None:
    """A null character in it, or the name of a file as a folder."""
    with pytest.raises(CannotRead, match="isn't a path to a file"):
        open_history("a\0b")
    with pytest.raises(CannotRead, match="can't be read: Not a directory"):
        open_history(f"{__file__}/run.jsonl")


# ---- standard input and pipes ---------------------------------------------------------------------------------------

READER = """
import sys
from aqueue._history.history import batches
from aqueue._history.opening import open_history
from aqueue.errors import AqueueError
from aqueue.events import encode
try:
    history = open_history(sys.argv[1], follows=sys.argv[2] == "follow")
    while not history.is_over:
        for events in batches(history):
            sys.stdout.buffer.writelines(encode(event) + b"\\n" for event in events)
            sys.stdout.flush()
        if sys.argv[2] != "follow":
            break
except AqueueError as error:
    print(error)
"""


def reader(file: str, how: str = "once") -> "subprocess.Popen[bytes]":
    """Start a process that reads a log and prints its events."""
    return subprocess.Popen(
        [sys.executable, "-c", READER, file, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )


def test_log_on_standard_input() -> None:
    """A pipe can be read only once, and yet one of several runs can be chosen."""
    with reader("-") as process:
        out, _ = process.communicate(b"".join(lines_of(SECOND) + LINES), timeout=CHILD_DEADLINE_S)

    assert out.splitlines() == [encode(event) for event in EVENTS]


def test_log_on_standard_input_is_followed() -> None:
    """Each event as it comes, until the sender has gone; a last line without its end counts if it is whole."""
    with reader("-", "follow") as process:
        assert process.stdin is not None and process.stdout is not None
        for line, event in zip(LINES[:-1], EVENTS, strict=False):
            process.stdin.write(line)
            assert process.stdout.readline().rstrip(b"\n") == encode(event)
        process.stdin.write(LINES[-1].rstrip(b"\n"))
        process.stdin.close()
        assert process.stdout.read().rstrip(b"\n") == encode(EVENTS[-1])
        assert process.wait(CHILD_DEADLINE_S) == 0


@pytest.mark.parametrize("how", ["once", "follow"])
def test_named_pipe(tmp_path: Path, how: str) -> None:
    """As a shell makes one of ``<(zcat run.jsonl.gz)``."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with reader(str(path), how) as process:
        with path.open("wb") as file:
            file.write(b"".join(LINES))
        out, _ = process.communicate(timeout=CHILD_DEADLINE_S)

    assert out.splitlines() == [encode(event) for event in EVENTS]


def test_journal_on_standard_input_is_refused(tmp_path: Path) -> None:
    """SQLite reads files alone."""
    run(tmp_path / "run.db", reporter="none")
    with reader("-") as process:
        out, _ = process.communicate((tmp_path / "run.db").read_bytes(), timeout=CHILD_DEADLINE_S)

    assert out == b"a journal can't be read from standard input; name its file\n"


def test_nothing_on_standard_input() -> None:
    """That is said as of an empty file."""
    with reader("-") as process:
        out, _ = process.communicate(b"", timeout=CHILD_DEADLINE_S)

    assert out == b"standard input has no event of a run; name the file that a run has written\n"


def test_run_stopping_is_read(path: Path) -> None:
    """A run that was stopped and says why."""
    path.write_bytes(b"".join(LINES))

    assert any(isinstance(event, RunStopping) for event in read(path)[0])
