"""The command as a whole: its help, its errors, its exit codes, pipes, completion, and that nothing is printed raw.

`cli._app` and `cli._output` are what subcommands share; `aqueue.__main__` is another way to start it, and
`aqueue._version` what it prints. `cli._commands.completion`, `cli._commands.export`, `cli._commands.report` and
`cli._commands.results` are called here.
"""

import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest
from hypothesis import HealthCheck, given, settings

from aqueue._journal.file import connect
from aqueue.cli._app import app
from aqueue.events import ItemCompleted
from tests.cli.conftest import Aqueue
from tests.cli.scripted import Script, write_journal, write_log
from tests.strategies import hostile_text

ROOT = Path(__file__).parents[2]
READERS = [
    ["status"],
    ["items"],
    ["failures"],
    ["tree"],
    ["explain", "1"],
    ["results"],
    ["export", "--format", "jsonl"],
    ["export", "--format", "csv"],
    ["export", "--format", "chrome-trace"],
    ["tail"],
    ["replay", "--reporter", "plain", "--speed", "inf"],
    ["report", "-o", "-"],
]
"""Every subcommand that reads to the end of a file, with what it needs."""

each_reader = pytest.mark.parametrize("reader", READERS, ids=" ".join)


def call(reader: list[str], file: object) -> list[object]:
    """Return the arguments with which a reader reads `file`."""
    return [reader[0], file, *reader[1:]]


def every_command() -> Iterator[tuple[str, click.Command]]:
    """Yield each subcommand by name."""
    yield from app.commands.items()


def test_there_are_the_subcommands_that_the_docs_name() -> None:
    """A subcommand comes or goes together with this list."""
    assert list(app.commands) == [
        "status",
        "watch",
        "serve",
        "tail",
        "replay",
        "items",
        "failures",
        "tree",
        "explain",
        "pause",
        "unpause",
        "workers",
        "limit",
        "stop",
        "retry",
        "skip",
        "cancel",
        "results",
        "export",
        "report",
        "completion",
    ]


@pytest.mark.parametrize("name", list(app.commands))
def test_help_says_what_it_does_with_examples(aqueue: Aqueue, name: str) -> None:
    """Each subcommand has a sentence, examples that name it, and a text to each of its options."""
    done = aqueue(name, "--help")

    assert done.code == 0
    assert "Examples:" in done.out
    assert f"  aqueue {name} " in done.out
    command = app.commands[name]
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert [option.name for option in options if not (option.help or option.hidden)] == []
    assert command.help is not None
    assert max(len(line) for line in done.out.splitlines()) <= 120


def test_python_m_aqueue_is_the_same_command() -> None:
    """`python -m aqueue` needs no script on the path."""
    done = subprocess.run([sys.executable, "-m", "aqueue", "--version"], capture_output=True, text=True, check=True)

    assert done.stdout.startswith("aqueue ")


@each_reader
def test_a_missing_file_is_one_line(aqueue: Aqueue, tmp_path: Path, reader: list[str]) -> None:
    """What isn't there is named, with what to do."""
    done = aqueue(*call(reader, tmp_path / "nothing.db"))

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"aqueue: there is no file {tmp_path / 'nothing.db'}; ")
    assert done.err.count("\n") == 1


@each_reader
def test_what_is_no_run_is_one_line(aqueue: Aqueue, tmp_path: Path, reader: list[str]) -> None:
    """A text, another program's database, an empty file and a folder are refused by name."""
    text = tmp_path / "notes.txt"
    text.write_text("buy milk\n" * 10)
    database = tmp_path / "other.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE notes (text)")
    empty = tmp_path / "empty"
    empty.touch()
    for file in (text, database, empty, tmp_path):
        done = aqueue(*call(reader, file))

        assert (done.code, done.out) == (2, ""), file
        assert str(file) in done.err
        assert done.err.count("\n") == 1


@pytest.mark.skipif(not Path("/proc/version").is_file(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("file", "what"),
    [
        ("/proc/version", "isn't a file on a disk"),
        ("/proc/self/mem", "can't be read: Input/output error"),
        ("/dev/zero", "is a device"),
        ("x" * 256, "can't be read: File name too long"),
    ],
)
def test_what_is_no_file_on_a_disk_is_one_line(aqueue: Aqueue, file: str, what: str) -> None:
    """It is neither called empty nor read without an end."""
    done = aqueue("status", file)

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"aqueue: {file} {what}")
    assert done.err.count("\n") == 1


@each_reader
def test_a_journal_of_a_newer_aqueue_is_refused(aqueue: Aqueue, tmp_path: Path, reader: list[str]) -> None:
    """What can't be understood is not guessed at: upgrade, says the one line."""
    script = Script()
    script.enqueue()
    path = write_journal(tmp_path, script.events)
    with closing(connect(path, "rw")) as connection:
        connection.execute("UPDATE events SET event = replace(event, '\"schema_version\":1', '\"schema_version\":9')")
    done = aqueue(*call(reader, path))

    assert (done.code, done.out) == (2, "")
    assert "newer aqueue" in done.err
    assert "upgrade" in done.err
    assert done.err.count("\n") == 1


@each_reader
def test_a_run_without_an_event_is_no_traceback(aqueue: Aqueue, tmp_path: Path, reader: list[str]) -> None:
    """Killed before it had saved anything, or a log of which no line fits in a run; the explanation is one line."""
    impossible = ItemCompleted(2**63, 1.0, 1, 1, 0.1)
    for path in (write_journal(tmp_path, []), write_log(tmp_path, [impossible])):
        done = aqueue(*call(reader, path))

        assert done.err.count("\n") <= 1, path
        assert done.code != 2 or str(path) in done.err


def test_a_report_of_a_run_without_an_event_says_why_there_is_none(aqueue: Aqueue, tmp_path: Path) -> None:
    """And leaves the file alone that it would have replaced."""
    output = tmp_path / "report.html"
    output.write_text("the one of yesterday")
    journal = write_journal(tmp_path, [])
    log = write_log(tmp_path, [ItemCompleted(2**63, 1.0, 1, 1, 0.1)])

    of_journal, of_log = (aqueue("report", path, "-o", output) for path in (journal, log))
    assert (of_journal.code, of_log.code) == (2, 2)
    assert of_journal.err == (f"aqueue: can't make a report of {journal}: it has no events yet; start the run first\n")
    assert of_log.err == (
        f"aqueue: can't make a report of {log}: its events don't form a run; name a file that a run has written\n"
    )
    assert output.read_text() == "the one of yesterday"


@each_reader
def test_a_garbled_line_is_named_skipped_and_counted(aqueue: Aqueue, tmp_path: Path, reader: list[str]) -> None:
    """All else is read, one line says how many were not and which is the first, and the exit code is 2."""
    script = Script()
    for _ in range(3):
        script.start(script.enqueue())
        script.complete(script.last_item)
    lines = write_log(tmp_path, script.finish("completed")).read_bytes().splitlines()
    lines[3:3] = [b'{"event":"item.comple', b"\xff\xfe"]
    path = tmp_path / "garbled.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    done = aqueue(*call(reader, path))

    assert done.code == 2
    said = [line for line in done.err.splitlines() if line.startswith(f"aqueue: {path}: 2 lines")]
    assert len(said) == 1, done.err
    assert "were skipped; the first is line 4 (" in said[0]
    if reader[0] not in ("results", "failures"):
        assert done.out or reader[0] == "replay"


@each_reader
def test_what_nobody_reads_on_is_no_error(tmp_path: Path, reader: list[str]) -> None:
    """A pipe that is closed, as by `head`, ends the command without a word."""
    script = Script()
    for _ in range(2_000):
        script.enqueue()
    path = write_log(tmp_path, script.events)
    command = [sys.executable, "-m", "aqueue", *map(str, call(reader, path))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        error = process.stderr.read().decode()

    assert "Traceback" not in error
    assert "Exception ignored" not in error


@pytest.mark.parametrize(
    "reader", [reader for reader in READERS if reader[0] not in {"replay", "report"}], ids=" ".join
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=hostile_text)
def test_nothing_of_a_file_is_printed_raw(aqueue: Aqueue, tmp_path: Path, reader: list[str], text: str) -> None:
    """Types, keys, descriptions, errors, groups and reasons reach no terminal as they are."""
    text = text.encode("utf-8", "replace").decode()
    script = Script()
    script.enqueue(text or "x", key=text)
    script.start(1, text or "x")
    script.describe(1, text)
    script.fail_hostile(1, text or "x", text)
    script.stop(text)
    path = write_log(tmp_path, script.finish("failed"), f"{abs(hash(text))}.jsonl")
    done = aqueue(*call(reader, path))

    line_end = "\r\n" if "csv" in reader else "\n"
    printed = (done.out + done.err).replace(line_end, "")
    acted_on = {c for c in printed if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}} - set("\u200c\u200d")
    assert acted_on == set()


def test_standard_input_is_read_by_a_dash(recorded: Path) -> None:
    """A log that comes through a pipe, over ssh say, is read whole."""
    command = [sys.executable, "-m", "aqueue", "status", "-", "--json"]
    log = (recorded / "run.jsonl").read_bytes()
    done = subprocess.run(command, input=log, capture_output=True, check=False, cwd=ROOT)

    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["counts"]["enqueued"] == 11


def test_a_run_of_a_log_is_chosen(aqueue: Aqueue, tmp_path: Path) -> None:
    """A log that was appended to by two runs has both: by number, from the end, or by id; the last if nothing is said."""
    path = tmp_path / "two.jsonl"
    with path.open("wb") as file:
        for run_id, size in (("aaa1", 1), ("bbb2", 2)):
            script = Script(run_id=run_id)
            for _ in range(size):
                script.enqueue()
            file.write(write_log(tmp_path, script.finish("interrupted")).read_bytes())

    def count(*args: str) -> int:
        return int(aqueue("status", path, "--json", *args).json["counts"]["enqueued"])

    assert [count(), count("--run", "1"), count("--run=-1"), count("--run", "aaa"), count("--run", "b")] == [
        2,
        1,
        2,
        1,
        2,
    ]
    done = aqueue("status", path, "--run", "ccc")
    assert done.code == 2
    assert "has no run 'ccc'; it has 1 (aaa1), 2 (bbb2)" in done.err


def test_types_are_completed_from_the_file(recorded: Path) -> None:
    """The shell offers the classes that are in the file, and the events that there are."""
    assert complete("aqueue items run.db --type P", recorded) == ["Product"]
    assert complete("aqueue skip run.db 4 --state failed --type P", recorded) == ["Product"]
    assert complete("aqueue retry run.db --state f", recorded) == ["failed"]
    assert "item.failed" in complete("aqueue tail run.db --event item.f", recorded)
    assert "failures" in complete("aqueue fai", recorded)


def complete(line: str, folder: Path) -> list[str]:
    """Return what bash would offer at the end of `line`."""
    words = line.split()
    environment = os.environ | {
        "_AQUEUE_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    script = shutil.which("aqueue", path=str(Path(sys.executable).parent))
    assert script is not None, "aqueue is not installed beside this Python"
    done = subprocess.run([script], env=environment, capture_output=True, text=True, check=False, cwd=folder)
    return [offer.partition(",")[2] for offer in done.stdout.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(aqueue: Aqueue, shell: str) -> None:
    """What is printed is the script, and the help says where to put it."""
    done = aqueue("completion", shell)

    assert done.code == 0
    assert "_AQUEUE_COMPLETE" in done.out


def test_an_output_file_is_whole_or_not_there(aqueue: Aqueue, recorded: Path, tmp_path: Path) -> None:
    """What fails midway leaves no half of a file, and the file that is read is never written over."""
    target = tmp_path / "out.csv"
    assert aqueue("export", recorded / "run.db", "--format", "csv", "-o", target).code == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.csv"]
    assert len(target.read_text().splitlines()) > 30
    before = (recorded / "run.jsonl").read_bytes()
    done = aqueue("export", recorded / "run.jsonl", "--format", "csv", "-o", recorded / "run.jsonl")
    assert done.code == 2
    assert "is the file being read" in done.err
    assert (recorded / "run.jsonl").read_bytes() == before
    done = aqueue("report", recorded / "run.db", "-o", tmp_path / "no" / "folder.html")
    assert (done.code, done.err.count("\n")) == (2, 1)


def test_results_are_those_of_the_journal_in_both_formats(aqueue: Aqueue, file: Path) -> None:
    """A hook's result stands for the item's own; objects get a column for each key; formulas are escaped."""
    results = aqueue("results", file).json_lines
    assert {one["type"].rpartition(":")[2] for one in results} == {"Product", "Category"}
    assert [one["result"] for one in results if one["type"].endswith("Category")] == [4]
    prices = sorted(one["result"]["price"] for one in results if one["type"].endswith("Product"))
    assert prices == [-3, -2, -2, -1, -1, 0, 0]
    rows = aqueue("results", file, "--format", "csv", "--type", "Product").out.splitlines()
    assert rows[0] == "item,type,name,price"
    assert len(rows) == 8
    assert any(row.endswith(",games 2,-2") for row in rows)


def test_a_csv_has_the_columns_that_were_chosen(aqueue: Aqueue, file: Path) -> None:
    """In the order asked for; a column that isn't there is named, with those that are, and no file is made."""
    rows = aqueue("results", file, "--format", "csv", "--columns", "type,item").out.splitlines()
    whole = aqueue("results", file, "--format", "csv").out.splitlines()
    assert rows[0] == "type,item"
    assert [row.split(",") for row in rows] == [row.split(",")[1::-1] for row in whole]
    output = file.parent / "out.csv"
    done = aqueue("results", file, "--format", "csv", "--columns", "item,cost", "-o", output)
    assert done.code == 2
    assert "there is no column 'cost'; the columns are item, type, result" in done.err
    assert not output.exists()
    assert "add --format csv" in aqueue("results", file, "--columns", "item").err


def test_a_type_without_results_is_said(aqueue: Aqueue, file: Path) -> None:
    """An empty dataset doesn't come without a word."""
    done = aqueue("results", file, "--type", "Front")

    assert (done.code, done.out) == (0, "")
    assert "no item of this type has a result" in done.err


@pytest.mark.parametrize(("options", "out"), [([], ""), (["--format", "csv"], "item,type\n")])
def test_a_run_without_results_is_said(aqueue: Aqueue, tmp_path: Path, options: list[str], out: str) -> None:
    """Nobody has to wonder whether the file was read."""
    script = Script()
    script.start(script.enqueue())
    script.complete(1)
    done = aqueue("results", write_journal(tmp_path, script.finish("completed")), *options)

    assert (done.code, done.out.replace("\r\n", "\n")) == (0, out)
    assert done.err == "aqueue: no item of this run has returned a result\n"


def test_an_export_is_a_log_by_default(aqueue: Aqueue, file: Path) -> None:
    """As `results` writes JSON lines."""
    assert aqueue("export", file).out == aqueue("export", file, "--format", "jsonl").out != ""


PRINTERS = [
    *([*map(str, call(reader, "run.db"))] for reader in READERS if reader[0] != "replay"),
    ["--version"],
    ["--help"],
    ["status", "--help"],
    ["completion", "bash"],
]
"""Every call that prints; `replay` leaves that to a reporter, which does it on standard error."""


def in_shell(folder: Path, arguments: list[str], redirected: str) -> subprocess.CompletedProcess[str]:
    """Call the command in `folder` with its streams redirected or closed as a shell does it."""
    command = shlex.join([sys.executable, "-m", "aqueue", *arguments])
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["sh", "-c", f"{command} {redirected}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("arguments", PRINTERS, ids=" ".join)
def test_what_can_not_be_printed_is_an_error(recorded: Path, arguments: list[str]) -> None:
    """With standard output closed, one line says so and the exit code is 2, as with any other error."""
    done = in_shell(recorded, arguments, ">&-")
    assert (done.returncode, done.stderr) == (2, "aqueue: Bad file descriptor: standard output\n")
    assert in_shell(recorded, arguments, ">&- 2>&-").returncode == 2


def test_a_closed_output_is_no_error_if_nothing_is_printed(recorded: Path, tmp_path: Path) -> None:
    """What is written to a file, or said on standard error, needs no standard output."""
    output = str(tmp_path / "results.jsonl")
    done = in_shell(recorded, ["results", "run.db", "-o", output], ">&-")
    assert (done.returncode, done.stderr) == (0, "")
    done = in_shell(recorded, ["status", "nothing.db"], ">&-")
    assert done.returncode == 2
    assert done.stderr.startswith("aqueue: there is no file nothing.db; ")


@pytest.mark.parametrize("arguments", [["status", "run.db"], ["tail", "run.db"], ["--version"]], ids=" ".join)
def test_a_closed_error_stream_is_no_error(recorded: Path, arguments: list[str]) -> None:
    """The data and the exit code are what they are."""
    assert in_shell(recorded, arguments, "2>&-").stdout
    assert in_shell(recorded, arguments, "2>&-").returncode == (1 if arguments[0] == "status" else 0)


def test_a_closed_error_stream_leaves_the_exit_code(recorded: Path) -> None:
    """A command that fails, and has nowhere to say so, writes nothing into the data and fails as always."""
    done = in_shell(recorded, ["status", "nothing.db"], "2>&-")
    assert (done.returncode, done.stdout) == (2, "")


def test_completion_offers_only_what_a_shell_may_run(tmp_path: Path) -> None:
    """A file's text gets to the shell's command line only where it is surely the name of a class."""
    script = Script()
    for type in ("m:Page", "m:Pa$(touch pwned)", "m:Pa;x", "m:Pa\nplain,injected", "m:P\x1b[2J", "m:P x"):
        script.enqueue(type)
    write_log(tmp_path, script.events)

    assert complete("aqueue items run.jsonl --type P", tmp_path) == ["Page"]


def test_sigterm_leaves_no_half_of_a_file(tmp_path: Path) -> None:
    """An export that is ended midway takes away what it has written."""
    script = Script()
    for _ in range(20_000):
        script.enqueue()
    log = write_log(tmp_path, script.events)
    folder = tmp_path / "out"
    folder.mkdir()
    command = [sys.executable, "-m", "aqueue", "export", str(log), "--format", "csv", "-o", str(folder / "x.csv")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not list(folder.iterdir()):
            assert time.monotonic() < deadline
        process.terminate()
        code = process.wait(60)

    assert (code, list(folder.iterdir())) in [(143, []), (0, [folder / "x.csv"])]


def test_an_output_that_can_not_be_written_is_named(aqueue: Aqueue, recorded: Path, tmp_path: Path) -> None:
    """The message has the path that was given, not that of a file on the way."""
    for path in ("", str(tmp_path / "no" / "x.html")):
        done = aqueue("report", recorded / "run.db", "-o", path)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "--output" in done.err
        assert path in done.err


def test_lines_out_of_order_are_told(aqueue: Aqueue, recorded: Path, tmp_path: Path) -> None:
    """What was left out is no secret."""
    lines = (recorded / "run.jsonl").read_bytes().splitlines(keepends=True)
    path = tmp_path / "odd.jsonl"
    path.write_bytes(b"".join([*lines[:10], lines[3], *lines[10:]]))
    done = aqueue("status", path)

    assert "duplicate or out-of-order events skipped: 1" in done.out
    assert "10 of 11 completed" in done.out


def test_what_is_no_file_is_written_to_and_not_replaced(aqueue: Aqueue, file: Path, tmp_path: Path) -> None:
    """A pipe's reader gets what was to be written, and the pipe stays one."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    whole = aqueue("results", file).out
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    done = aqueue("results", file, "-o", pipe)
    reader.join(60)
    assert done.code == 0
    assert read == [whole.encode()]
    assert pipe.is_fifo()


def test_of_a_link_the_file_is_replaced(aqueue: Aqueue, file: Path, tmp_path: Path) -> None:
    """What leads to the latest report goes on to do so."""
    target, link = tmp_path / "target.jsonl", tmp_path / "latest.jsonl"
    target.write_text("old")
    link.symlink_to(target)
    assert aqueue("results", file, "-o", link).code == 0
    assert link.is_symlink()
    assert target.read_text() == aqueue("results", file).out


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs a device that is full")
def test_a_full_disk_is_told_with_the_file(aqueue: Aqueue, file: Path) -> None:
    """Which file, why, and what to do."""
    done = aqueue("results", file, "-o", "/dev/full")
    assert done.code == 2
    assert "--output: can't write /dev/full: No space left on device; " in done.err
    assert "free some space, or name a file in a folder that you may write to" in done.err
