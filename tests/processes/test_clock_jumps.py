"""A wall clock that jumps both ways under a real run: libfaketime sets it, and leaves the monotonic clock alone."""

import contextlib
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from aqueue.cli import main
from tests.processes.pty_process import PROGRAMS

_LIBRARY: Final = "faketime/libfaketimeMT.so.1"
"""The build that locks its own state, which all threads read; where Debian puts it below the folder of libraries."""

_DAY_S: Final = 86_400
_TO_1970_S: Final = _DAY_S - int(time.time())


def _library() -> Path | None:
    if not sys.platform.startswith("linux"):
        return None
    return next((path for path in sorted(Path("/usr").glob(f"lib*/*/{_LIBRARY}"))), None)


pytestmark = pytest.mark.skipif(_library() is None, reason="needs libfaketime (Debian: apt-get install libfaketime)")


class Run(NamedTuple):
    """A run in a folder, whose program can be started with a clock of its own."""

    folder: Path
    backend: str

    def start(self, *words: str) -> tuple[int, str, str]:
        """Run the program to its end with a terminal for the display, and return its exit code, output and messages."""
        (self.folder / "clock").write_text("+0")
        env = {
            **os.environ,
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self.folder / "clock"),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "TERM": "xterm",
        }
        ours, theirs = pty.openpty()
        shown = bytearray()

        def read() -> None:
            with contextlib.suppress(OSError):  # the terminal is closed with its last user
                while data := os.read(ours, 65_536):
                    shown.extend(data)

        command = [sys.executable, str(PROGRAMS / "clock_jumps.py"), self.backend, *words]
        with subprocess.Popen(
            command, cwd=self.folder, env=env, stdout=subprocess.PIPE, stderr=theirs, text=True
        ) as process:
            os.close(theirs)
            reader = threading.Thread(target=read)
            reader.start()
            try:
                stdout, _ = process.communicate(timeout=90)
            finally:
                process.kill()
                reader.join()
                os.close(ours)
        return process.returncode, stdout, shown.decode(errors="replace")

    def events(self) -> list[dict[str, Any]]:
        """Return the events in the journal."""
        with closing(sqlite3.connect(f"{(self.folder / 'run.db').as_uri()}?mode=ro", uri=True)) as connection:
            return [json.loads(text) for (text,) in connection.execute("SELECT event FROM events ORDER BY seq")]


def test_a_run_goes_by_the_monotonic_clock_however_the_wall_clock_jumps(
    tmp_path: Path, backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No wait or timeout is cut short or prolonged, in one process or over a crash, and recorded times never decrease."""
    run = Run(tmp_path, backend)
    code, _, shown = run.start("jump", f"{_DAY_S:+}", f"{-_DAY_S:+}", f"{_TO_1970_S:+}")
    assert code == -signal.SIGKILL, shown
    assert "Worker Status" in shown
    _check_events(run.events())
    _check_long_waits(run.events())
    _check_commands(run.folder / "run.db", capsys)

    code, said, shown = run.start("go-on", f"{_TO_1970_S:+}", "early", "short")
    assert (code, said.split()) == (0, ["interrupted", "early", "short"]), shown
    code, said, shown = run.start("go-on", f"{3_650 * _DAY_S:+}", "late")
    assert (code, said.split()[0]) == (0, "failed"), shown
    events = run.events()
    _check_events(events)
    stops = [event["reason"] for event in events if event["event"] == "run.stopping"]
    assert stops == ["what was due has run"]  # and not stop_after_s
    _check_commands(run.folder / "run.db", capsys)


def _check_events(events: list[dict[str, Any]]) -> None:
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    for before, after in pairwise(events):
        assert before["at"] <= after["at"]
    assert not [event for event in events if event["event"] == "reporter.failed"]
    for event in events:
        assert 0 <= event.get("duration_s", 0.0) < 1_000, event
    failed = [(event["type"], event["error"]["type"]) for event in events if event["event"] == "item.failed"]
    assert set(failed) == {("__main__:Hanging", "TimeoutError")}
    assert len(failed) == 3


def _check_long_waits(events: list[dict[str, Any]]) -> None:
    """Assert that the clock, set forward by a day, did not end waits of an hour; `events` are those of the first process."""
    retried = [event for event in events if event["event"] == "item.retry_scheduled"]
    assert [event["error"]["message"] for event in retried].count("early") == 1
    slowed = next(event["item"] for event in events if event["event"] == "item.enqueued" and event["parent"] == 1)
    assert not [event for event in events if event["event"] == "item.started" and event["item"] == slowed]


def _check_commands(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Assert that no command that reads the journal says anything absurd of its times."""

    def aqueue(*words: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([words[0], str(journal), *words[1:]])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert ended.value.code in (0, 1, 3), err
        return out

    assert json.loads(aqueue("status", "--json"))["elapsed_s"] >= 0
    items = [json.loads(line) for line in aqueue("items", "--json").splitlines()]
    assert all(0 <= item["duration_s"] < 1_000 for item in items if item["state"] in ("completed", "failed"))
    waiting = [item for item in items if item["state"] == "retrying"]
    for item in waiting:
        due = re.search(
            r"retried,?(?: due)? (now|in (\d+) (s|min|h))|retry is due", aqueue("explain", str(item["item"]))
        )
        assert due is not None
        assert due[3] != "h", due[0]
    for words in (["status"], ["items"], ["tail", "-n", "all"], ["explain", "1"]):
        assert not re.search(r"(?<![\w-])-\d+(\.\d+)?(:\d\d| (µs|ms|s|min|h|d)\b)", aqueue(*words)), words
    page = journal.with_suffix(".html")
    aqueue("report", "-o", str(page))
    assert page.stat().st_size
    trace = json.loads(aqueue("export", "--format", "chrome-trace"))
    assert all(line.get("ts", 0) >= 0 and line.get("dur", 0) >= 0 for line in trace["traceEvents"])
