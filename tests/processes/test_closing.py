"""How a run ends when its terminal is closed, stuck or gone, and when its output streams are.

What aqueue itself says then goes past the streams' buffers, by `_system.notice`.
"""

import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes.pty_process import PROGRAMS, PtyProcess

Start = Callable[..., PtyProcess]

CTRL_C = b"\x03"
NOISE = ("Exception ignored", "Traceback", "Fatal Python error", "lost sys.stderr")


def shell_command(items: str, redirection: str, **options: object) -> str:
    """Return a shell's command that runs programs/job.py and then says with which code it ended."""
    words = [sys.executable, str(PROGRAMS / "job.py"), items, json.dumps(options)]
    return f"exec 3>&2; ( {shlex.join(words)}; echo code=$? >&3 ) {redirection}"


@pytest.mark.parametrize("reporter", ["rich", "plain", "none"])
def test_a_closed_terminal_stops_the_run(start: Start, gates: Path, reporter: str) -> None:
    """A terminal window that is closed is a SIGHUP: running items end, and the exit code says 129."""
    log = gates / "log"
    job = start("Gated*2,Quick*9", num_workers=2, reporter=[reporter, f"jsonl:{log}"])
    job.until_mark("started Gated1", "started Gated2")
    job.hang_up()
    job.until_event(log, "run.stopping")
    (gates / "go").touch()
    job.until_mark("raised SystemExit 129")
    assert "hook Gated1" in job.marks
    assert "Quick" not in "".join(line for line in log.read_text().splitlines() if "item.started" in line)
    assert job.wait() == 129


@pytest.mark.parametrize("reporter", ["rich", "plain", "jsonl"])
@pytest.mark.parametrize("redirection", ["2>&1 | head -1", "2>&-", "<&-", ">/dev/full", "2>/dev/full"])
def test_broken_streams_do_not_end_the_run(gates: Path, backend: str, reporter: str, redirection: str) -> None:
    """A closed or broken standard stream costs a reporter at most: all items are done, the script ends with 0."""
    if redirection.endswith("&-") and backend == "asyncio" and "uvloop" in sys.modules:
        pytest.skip("uvloop ends any process that began without a standard stream")
    command = shell_command("Quick*30", redirection, reporter=reporter, backend=backend)
    with PtyProcess("sh", "-c", command, env={"AQUEUE_TEST_GATES": str(gates)}) as job:
        job.until_mark("returned completed")
        job.until("code=0")
        job.wait()
        for noise in NOISE:
            assert noise not in job.shown, job.shown
        job.assert_terminal_restored()


@pytest.mark.parametrize(("reporter", "stuck_by"), [("rich", "stalled"), ("plain", "xoff")])
def test_a_stuck_terminal_does_not_stop_the_items(start: Start, gates: Path, reporter: str, stuck_by: str) -> None:
    """While nobody takes what the reporter writes, items go on; the run's end does not wait for it for good."""
    job = start("Gated,Quick*300", num_workers=2, reporter=reporter, env={"AQUEUE_TEST_DEAF_AT_END": "1"})
    job.until_mark("started Gated1")
    if stuck_by == "xoff":
        job.type(b"\x13")
    else:
        job.stop_reading()
    (gates / "go").touch()
    job.until_mark("returned completed")
    if stuck_by == "stalled":  # what was stopped with ^S goes on by itself, or its cursor would stay hidden
        job.continue_reading()
    assert job.wait() == 0
    assert not job.screen.cursor.hidden


def test_a_ctrl_c_at_the_very_end_does_not_take_the_cursor(start: Start, gates: Path) -> None:
    """A typed ^C discards what the terminal has not read yet; the cursor is shown nevertheless."""
    env = {"AQUEUE_TEST_DEAF_AT_END": "1", "AQUEUE_TEST_PAUSES_AT_END": "1"}
    job = start("Gated,Quick*300", num_workers=1, reporter="rich", env=env)
    job.until("Worker Status")
    job.stop_reading()
    (gates / "go").touch()
    job.until_mark("over")
    job.type(CTRL_C)
    job.continue_reading()
    (gates / "end").touch()
    assert job.wait() == 0
    assert not job.screen.cursor.hidden


def test_ctrl_c_reaches_a_run_that_waits_for_a_stuck_reporter(start: Start) -> None:
    """Workers that are paused, and an `enqueue` that is blocked, since nobody reads the output: signals get through."""
    job = start("Flood", reporter="jsonl")
    job.stop_reading()
    job.until_mark("flooding")
    job.kill(signal.SIGINT)
    job.kill(signal.SIGTERM)
    # Sent so close to each other, either may be seen first.
    job.until_one_mark("raised KeyboardInterrupt", "raised SystemExit 143")
    job.continue_reading()
    assert job.wait() == (-signal.SIGINT if "raised KeyboardInterrupt" in job.marks else 143)


def test_the_process_ends_though_nobody_reads_its_output(gates: Path, backend: str) -> None:
    """A reporter that is left behind, stuck in its write to stdout, keeps nothing that the interpreter's end needs."""
    words = [
        sys.executable,
        str(PROGRAMS / "job.py"),
        "Quick*900",
        json.dumps({"backend": backend, "reporter": "jsonl"}),
    ]
    command = f"{shlex.join(words)}; echo code=$? > /dev/fd/$AQUEUE_TEST_MARKS_FD"
    with PtyProcess("sh", "-c", command, env={"AQUEUE_TEST_GATES": str(gates)}) as job:
        job.stop_reading()
        job.until_mark("returned completed", "code=0")
        job.continue_reading()
        assert job.wait() == 0


def test_workers_that_are_paused_stop_at_the_first_ctrl_c(start: Start) -> None:
    """Between items nothing runs: a run that is paused there for a stuck reporter stops at the first signal."""
    job = start("Source", reporter="jsonl")
    job.stop_reading()
    job.until_mark("made")
    job.kill(signal.SIGINT)
    job.until_mark("raised KeyboardInterrupt")
    job.continue_reading()
    assert job.wait() == -signal.SIGINT


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_a_run_whose_reporter_can_not_be_opened(
    start: Start, gates: Path, number: signal.Signals
) -> None:
    """A pipe that nobody reads is opened for good: nothing has been run, the reporter is named, no journal is left."""
    pipe, journal = gates / "pipe", gates / "run.db"
    os.mkfifo(pipe)
    job = start("Quick", reporter=[f"jsonl:{gates / 'log'}", f"jsonl:{pipe}"], journal=str(journal))
    job.until_mark("ready")
    while not (gates / "log").exists():
        time.sleep(0.01)
    job.kill(number)
    job.until_mark("raised KeyboardInterrupt" if number == signal.SIGINT else "raised SystemExit 143")
    assert job.wait() == (-signal.SIGINT if number == signal.SIGINT else 143)
    assert "jsonl:JsonlReporter had not finished opening; nothing has been run" in job.shown.replace("\n", "")
    assert not journal.exists()
    assert not (gates / "log").read_text()
