"""The jsonl reporter: what a line holds, and that files and pipes are treated as a log should.

An event as a line is `aqueue.log_lines`, which the command uses, too.
"""

import io
import json
import os
import stat
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.typing import EventDict, WrappedLogger

from aqueue import ReporterError, run_queue
from aqueue.events import EVENT_TYPES, Event, ItemChildrenProcessed, ItemDescribed, RunStopping, decode
from aqueue.reporting import RunInfo
from aqueue.result import RunResult
from aqueue.testing import replay
from aqueue.testing._scripted_runs import completed, every_event_type
from aqueue.view import RunView
from aqueue_reporters.jsonl import JsonlReporter
from tests.reporters.pty_stream import PtyStream

INFO = RunInfo("run", 1, "queue", 1_700_000_000.0)


def logged(path: Path) -> list[dict[str, Any]]:
    """Return the records in a log."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def write(events: list[Event], path: Path, **arguments: Any) -> list[dict[str, Any]]:
    """Report `events` to a file and return the records in it."""
    replay(events, JsonlReporter(path, **arguments))
    return logged(path)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Name a log that isn't there yet."""
    return tmp_path / "run.jsonl"


def test_lines_hold_the_fields_of_their_events(log: Path) -> None:
    """Each line reads as its event again; only payloads and results are gone."""
    events = every_event_type()
    write(events, log)
    read = [decode(line) for line in log.read_bytes().splitlines()]

    assert read == [without_data(event) for event in events]


def without_data(event: Event) -> Event:
    """Return an event without its payload and result."""
    names = {"payload", "result"} & set(event.__struct_fields__)
    return msgspec.structs.replace(event, **{name: msgspec.Raw() for name in names})


def test_first_fields_are_those_that_a_person_looks_for(log: Path) -> None:
    """The time, the level and the name come first."""
    assert [list(record)[:5] for record in write(completed(1), log)] == [
        ["timestamp", "level", "event", "seq", "at"],
    ] * 6


def test_levels(log: Path) -> None:
    """Failures are errors, what went amiss is a warning, descriptions are for debugging."""
    levels = {record["event"]: record["level"] for record in write(every_event_type(), log)}

    assert set(levels) == set(EVENT_TYPES)
    assert {name: level for name, level in levels.items() if level != "info"} == {
        "item.failed": "error",
        "reporter.failed": "error",
        "process.left": "warning",
        "run.stopping": "warning",
        "item.interrupted": "warning",
        "item.cancelled": "warning",
        "item.retry_scheduled": "warning",
        "loop.blocked": "warning",
        "run.held_up": "warning",
        "item.described": "debug",
    }


@pytest.mark.parametrize(
    ("at", "timestamp"),
    [
        (1_700_000_000.0, "2023-11-14T22:13:20.000000Z"),
        (1_700_000_000.000001, "2023-11-14T22:13:20.000001Z"),
        (1_700_000_000.9999999, "2023-11-14T22:13:21.000000Z"),
        (0.0, "1970-01-01T00:00:00.000000Z"),
    ],
)
def test_timestamp_is_the_time_of_the_event(log: Path, at: float, timestamp: str) -> None:
    """It is ISO 8601, in UTC, with microseconds."""
    reporter = JsonlReporter(log)
    reporter.open(INFO)
    reporter.handle([RunStopping(1, at, "x")], RunView())

    assert [record["timestamp"] for record in logged(log)] == [timestamp]
    assert logged(log)[0]["at"] == at


@given(st.lists(st.floats(0, 4e9), max_size=20).map(sorted))
def test_timestamps_are_right_to_the_microsecond(tmp_path_factory: pytest.TempPathFactory, times: list[float]) -> None:
    """Whatever the times, and however they follow each other."""
    log = tmp_path_factory.mktemp("log") / "run.jsonl"
    reporter = JsonlReporter(log)
    reporter.open(INFO)
    reporter.handle([RunStopping(seq, at, "x") for seq, at in enumerate(times, 1)], RunView())

    stamps = [datetime.fromisoformat(record["timestamp"]).timestamp() for record in logged(log)]
    assert stamps == pytest.approx(times, rel=0, abs=1e-6)


def test_payloads_and_results_stay_out(log: Path) -> None:
    """They may hold secrets."""
    write(every_event_type(), log)

    assert b"payload" not in log.read_bytes()
    assert b"result" not in log.read_bytes()


def test_payloads_and_results_can_be_included(log: Path) -> None:
    """They are part of the line, as JSON."""
    records = write(every_event_type(), log, include_data=True)

    assert [record["payload"] for record in records if "payload" in record] == [
        {"url": "/"},
        {"url": "/", "n": 1},
        {"url": "/new"},
    ]
    assert [record["result"] for record in records if "result" in record] == [[1, 2], "x", 2, "by hand", 2]


def test_included_numbers_are_exact(log: Path) -> None:
    """A large whole number is not rounded."""
    event = ItemChildrenProcessed(1, 2.0, 3, "m:T", msgspec.Raw(b'{"id":123456789012345678901234567890,"x":0.1}'))
    reporter = JsonlReporter(log, include_data=True)
    reporter.open(INFO)
    reporter.handle([event], RunView())

    assert logged(log)[0]["result"] == {"id": 123456789012345678901234567890, "x": 0.1}


def test_text_of_other_scripts_stays_readable(log: Path) -> None:
    """Only what can't be seen is escaped, and characters beyond the first plane as JSON wants it."""
    reporter = JsonlReporter(log)
    reporter.open(INFO)
    reporter.handle([ItemDescribed(1, 2.0, 3, 4, "漢字\u3000é😀 \u202e\x7f\U000e0041")], RunView())

    assert "漢字\u3000é😀 \\u202e\\u007f\\udb40\\udc41" in log.read_text("utf-8")
    assert logged(log)[0]["text"] == "漢字\u3000é😀 \u202e\x7f\U000e0041"


def test_file_is_for_its_owner_alone(log: Path) -> None:
    """Nobody else may read it, whatever the umask allows."""
    before = os.umask(0)
    try:
        write(completed(1), log)
    finally:
        os.umask(before)

    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_file_is_appended_to(log: Path) -> None:
    """What it holds stays."""
    log.write_text('{"before":1}\n')

    assert write(completed(0), log)[0] == {"before": 1}
    assert len(logged(log)) == 3


def test_line_that_was_cut_off_is_not_joined(log: Path) -> None:
    """After a crash in the middle of a line, the next one begins on a line of its own."""
    log.write_text('{"before":1}\n{"cut o')
    replay(completed(0), JsonlReporter(log))
    lines = log.read_text().splitlines()

    assert lines[:2] == ['{"before":1}', '{"cut o']
    assert [json.loads(line)["event"] for line in lines[2:]] == ["run.started", "run.finished"]


@pytest.mark.parametrize("how", ["moved", "removed"])
def test_new_file_is_begun_when_the_file_is_gone(log: Path, how: str) -> None:
    """As logrotate has it: the next batch is in a new file of the same name."""
    reporter = JsonlReporter(log)
    reporter.open(INFO)
    reporter.handle([RunStopping(1, 2.0, "first")], RunView())
    old = log.with_suffix(".1")
    log.rename(old) if how == "moved" else log.unlink()
    reporter.handle([RunStopping(2, 3.0, "second")], RunView())

    assert [record["reason"] for record in logged(log)] == ["second"]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert how == "removed" or [record["reason"] for record in logged(old)] == ["first"]


def test_file_stays_the_same_when_the_folder_is_left(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative name is meant from where the run began."""
    monkeypatch.chdir(log.parent)
    reporter = JsonlReporter("run.jsonl")
    reporter.open(INFO)
    monkeypatch.chdir("/")
    log.unlink()
    reporter.handle([RunStopping(1, 2.0, "x")], RunView())

    assert len(logged(log)) == 1


def test_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    """It says which, before anything has run."""
    with pytest.raises(OSError, match=r"nowhere/run\.jsonl"):
        JsonlReporter(tmp_path / "nowhere" / "run.jsonl").open(INFO)


def test_batch_is_written_at_once(log: Path) -> None:
    """A pipe that is as large as the batch gets it in one piece, so that readers see whole lines."""
    os.mkfifo(log)
    read_end = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    reporter = JsonlReporter(log)
    reporter.open(INFO)
    events = completed(20)
    view = RunView()
    view.apply(events)
    reporter.handle(events, view)
    data = os.read(read_end, 65_536)
    os.close(read_end)

    assert len(data.splitlines()) == len(events)
    with pytest.raises(BrokenPipeError):
        reporter.handle(events, view)
    reporter.close(RunResult("run", "completed", view.counts, {}, 1.0))


def test_user_processors_see_every_record(log: Path) -> None:
    """One may change a record, or drop it; what JSON lacks is written as its repr."""

    def redact(logger: WrappedLogger, method_name: str, event_dict: EventDict) -> EventDict:
        if event_dict["level"] == "debug":
            raise structlog.DropEvent
        return {**event_dict, "method": method_name, "set": {1}, "odd": 1 + 2j}

    records = write(completed(1), log, processors=[redact])

    assert [record["event"] for record in records] == [
        "run.started", "item.enqueued", "item.started", "item.completed", "run.finished",
    ]  # fmt: skip
    assert {record["method"] for record in records} == {"info"}
    assert records[0]["odd"] == "(1+2j)"


def test_configuration_of_structlog_is_left_alone(log: Path) -> None:
    """The program's own configuration is neither used nor changed."""

    def refuse(logger: WrappedLogger, method_name: str, event_dict: EventDict) -> EventDict:
        raise AssertionError("it used the program's processors")

    assert not structlog.is_configured()
    structlog.configure(processors=[refuse])
    try:
        before = structlog.get_config()
        assert len(write(completed(1), log)) == 6
        assert structlog.get_config() == before
    finally:
        structlog.reset_defaults()


def test_stdout_gets_utf_8_whatever_its_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON between programs is UTF-8; what was printed before comes first."""
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    reporter = JsonlReporter()
    reporter.open(INFO)
    stdout.write("printed\n")
    reporter.handle([RunStopping(1, 2.0, "漢")], RunView())

    assert isinstance(stdout.buffer, io.BytesIO)
    assert stdout.buffer.getvalue().decode().startswith("printed\n{")
    assert "漢" in stdout.buffer.getvalue().decode()


def test_stdout_without_bytes_below_gets_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for stdout need only take text."""
    stdout = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stdout)
    replay(completed(1), JsonlReporter())

    assert len([json.loads(line) for line in stdout.getvalue().splitlines()]) == 6


def test_terminal_gets_what_it_can_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the lines go through sys.stdout, so that a display can show them above itself."""
    terminal = PtyStream()
    terminal.stream.reconfigure(encoding="ascii", errors="strict")  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "stdout", terminal.stream)
    reporter = JsonlReporter()
    reporter.open(INFO)
    reporter.handle([RunStopping(1, 2.0, "漢😀")], RunView())
    monkeypatch.undo()

    output = terminal.finish()
    assert b"\\u6f22\\ud83d\\ude00" in output
    assert json.loads(output)["reason"] == "漢😀"


def test_no_stdout_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to do."""
    monkeypatch.setattr(sys, "stdout", None)

    with pytest.raises(OSError, match=r"jsonl:run\.jsonl"):
        JsonlReporter().open(INFO)


def test_nothing_is_written_after_the_close(log: Path) -> None:
    """A second close is no error."""
    events = completed(1)
    reporter = JsonlReporter(log)
    result = replay(events, reporter)
    reporter.close(result)
    reporter.handle(events, RunView())

    assert len(logged(log)) == len(events)


SCRIPT = """
import sys
import anyio
from aqueue import run_queue

class Chatty:
    async def process(self, enqueue, set_desc):
        for number in range(20_000):
            set_desc(f"step {number}")
            if number % 1_000 == 0:
                await anyio.sleep(0.01)

result = run_queue(initial_items=[Chatty()], reporter=sys.argv[1])
assert result.status == "completed"
"""


@pytest.mark.parametrize("reporter", ["jsonl", "plain"])
def test_reader_that_goes_away_ends_neither_the_run_nor_makes_noise(reporter: str) -> None:
    """With `script | head -1`, the run goes on, and the interpreter has nothing to complain about at its end."""
    read_end, write_end = os.pipe()
    stream = "stdout" if reporter == "jsonl" else "stderr"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, reporter],
        stdin=subprocess.DEVNULL,
        stdout=write_end if stream == "stdout" else subprocess.PIPE,
        stderr=write_end if stream == "stderr" else subprocess.PIPE,
        text=True,
    )
    os.close(write_end)
    if stream == "stdout":
        assert os.read(read_end, 1)
    os.close(read_end)
    stdout, stderr = process.communicate(timeout=60)

    assert process.returncode == 0
    assert "Exception ignored" not in f"{stdout}{stderr}"
    if stream == "stdout":
        warning = "aqueue: warning: reporter aqueue_reporters.jsonl:JsonlReporter raised BrokenPipeError: "
        assert stderr.splitlines() == [f"{warning}[Errno 32] Broken pipe; the run continues without it"]


def test_a_database_is_refused_as_a_log(tmp_path: Path) -> None:
    """A journal that is named by mistake is left as it is."""
    path = tmp_path / "run.db"
    run_queue([], reporter="none", journal=path)
    before = path.read_bytes()
    with pytest.raises(ReporterError, match=r"run\.db is an SQLite database, such as a journal; name another file"):
        run_queue([], reporter=f"jsonl:{path}")
    assert path.read_bytes() == before
