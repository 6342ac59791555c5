"""Ctrl-Z: the terminal is usable while the program is stopped, and the display comes back after fg."""

import json
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aqueue._system.job_control import JobControl
from tests.processes.pty_process import PROGRAMS, PtyProcess

Start = Callable[..., PtyProcess]

CTRL_Z = b"\x1a"
SHOWN = {"rich": "Worker Status", "plain": "elapsed", "none": ""}


@pytest.mark.parametrize("reporter", ["rich", "plain", "none"])
def test_stopped_and_continued(start: Start, gates: Path, reporter: str) -> None:
    """At the shell's prompt there is a cursor and nothing of the display; after fg it is drawn below; twice."""
    shown = SHOWN[reporter]
    job = start("Gated,Quick*9", num_workers=1, reporter=reporter, keeps_output=True)
    job.until_mark("started Gated1")
    for _ in range(2):
        job.until(shown)
        job.type(CTRL_Z)
        job.wait_stopped()
        job.assert_terminal_usable()
        assert not shown or shown not in job.shown
        before = job.text.count(shown)
        job.foreground()
        job.until_more(shown, before)
    (gates / "go").touch()
    assert job.wait() == 0
    assert job.marks[-1] == "returned completed"
    assert job.shown.count("next-prompt$ fg") == 2
    assert "Worker Status" not in job.shown
    job.assert_terminal_restored()


@pytest.mark.parametrize("reporter", ["rich", "plain"])
def test_in_the_background_only_text_is_shown(start: Start, gates: Path, reporter: str) -> None:
    """After bg nothing is drawn over the shell's line; the summary comes nevertheless."""
    job = start("Gated,Quick*300", num_workers=1, reporter=reporter, keeps_output=True)
    job.until(SHOWN[reporter])
    job.type(CTRL_Z)
    job.wait_stopped()
    before = len(job.output)
    job.background()
    (gates / "go").touch()
    assert job.wait() == 0
    assert b"\x1b[?25l" not in job.output[before:]
    assert "next-prompt$ bg" in job.shown
    assert "301" in job.shown
    job.assert_terminal_restored()


def test_an_ignored_ctrl_z_stays_ignored(gates: Path, backend: str) -> None:
    """Where the shell has switched Ctrl-Z off it does nothing to a run."""
    words = [sys.executable, str(PROGRAMS / "job.py"), "Gated", json.dumps({"backend": backend, "reporter": "rich"})]
    command = f"trap '' TSTP; exec {shlex.join(words)}"
    with PtyProcess("sh", "-c", command, env={"AQUEUE_TEST_GATES": str(gates)}, keeps_output=True) as job:
        job.until("Worker Status")
        job.type(CTRL_Z)
        (gates / "go").touch()
        assert job.wait() == 0
        assert job.output.count(b"next-prompt$ ") == 1
        job.assert_terminal_restored()


@pytest.fixture
def stop_handler() -> Iterator[Callable[[Any], None]]:
    """Return what installs a handler for SIGTSTP until the test's end."""
    before = signal.getsignal(signal.SIGTSTP)

    def install(handler: Any) -> None:
        signal.signal(signal.SIGTSTP, handler)

    yield install
    signal.signal(signal.SIGTSTP, before)


def test_the_handler_before_is_called_and_put_back(stop_handler: Callable[[Any], None]) -> None:
    """A program's own handler for Ctrl-Z runs with the terminal put back, and is there again afterwards."""
    calls: list[str] = []

    def mine(number: int, frame: object) -> None:
        calls.append(f"mine {signal.Signals(number).name}")

    stop_handler(mine)
    with JobControl(lambda: calls.append("suspend"), lambda: calls.append("resume")):
        signal.raise_signal(signal.SIGTSTP)
    assert calls == ["suspend", "mine SIGTSTP", "resume"]
    assert signal.getsignal(signal.SIGTSTP) is mine


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_what_was_installed_before_is_put_back(stop_handler: Callable[[Any], None], handler: Any) -> None:
    """An ignored signal is not even touched; the default is there again afterwards."""
    stop_handler(handler)
    with JobControl(lambda: None, lambda: None):
        assert (signal.getsignal(signal.SIGTSTP) == handler) is (handler is signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTSTP) == handler


def test_who_installs_another_meanwhile_keeps_it(stop_handler: Callable[[Any], None]) -> None:
    """A handler that an item installs while the run is open stays."""

    def other(number: int, frame: object) -> None:
        pass

    stop_handler(signal.SIG_DFL)
    with JobControl(lambda: None, lambda: None):
        signal.signal(signal.SIGTSTP, other)
    assert signal.getsignal(signal.SIGTSTP) is other
