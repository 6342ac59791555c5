"""`aqueue_reporters.web`: a run starts a page of its own, which outlives it and ends by itself."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

import aqueue
from aqueue.errors import ReporterError
from aqueue.reporting import Reporter, RunInfo
from aqueue.testing import ReporterSuite
from aqueue_reporters.web import WebReporter
from tests.page.serving import entered

DEADLINE_S = 30.0
LINGER_S = 1.0

PROGRAM = f"""
import sys, trio, aqueue
from aqueue_reporters.web import WebReporter

class Waits(aqueue.Item):
    async def process(self, enqueue, set_desc):
        set_desc("waits for its end")
        await trio.sleep(float(sys.argv[2]))

reporter = WebReporter(linger_minutes={LINGER_S} / 60)
aqueue.run_queue([Waits()], journal=sys.argv[1], reporter=["plain", reporter])
"""


class TestWebInCi(ReporterSuite):
    """The web reporter where nobody looks: it starts nothing."""

    @pytest.fixture(autouse=True)
    def _in_ci(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CI", "true")

    def make_reporter(self) -> Reporter:
        """Return one."""
        return WebReporter()


@contextmanager
def running(path: Path, seconds: float) -> Iterator[tuple[subprocess.Popen[str], str, psutil.Process]]:
    """Run the program in a process group of its own; yields its process, the printed address and the server's process."""
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    command = [sys.executable, "-c", PROGRAM, str(path), str(seconds)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        assert process.stderr is not None
        found = None
        while found is None:
            line = process.stderr.readline()
            assert line, "the address was not printed"
            found = re.search(r"the run in the browser: (http://\S+)", line)
        server = next(
            one
            for one in psutil.process_iter(["cmdline"])
            if str(path) in (one.info["cmdline"] or ()) and "serve" in one.info["cmdline"]
        )
        try:
            yield process, found[1], server
        finally:
            process.kill()
            if server.is_running():
                server.kill()


def wait_for(browser: httpx.Client, words: str) -> None:
    """Wait until the page says `words`."""
    end = time.monotonic() + DEADLINE_S
    while words not in browser.get("/").text:
        assert time.monotonic() < end, words
        time.sleep(0.1)


def wait_for_end(server: psutil.Process) -> None:
    """Wait until the server has ended: its parent may not have collected it yet."""
    end = time.monotonic() + DEADLINE_S
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_the_page_is_there_while_the_run_runs_and_after_it(tmp_path: Path) -> None:
    """Its address is printed; as long as a browser shows it, it stays, and then it ends by itself."""
    with running(tmp_path / "run.db", 4) as (process, address, server), entered(address) as browser:
        wait_for(browser, "waits for its end")
        with browser.stream("GET", "/events/now") as stream:
            chunks = stream.iter_raw()
            next(chunks)
            assert process.wait(DEADLINE_S) == 0
            wait_for(browser, "Completed")
            time.sleep(LINGER_S * 2)
            assert browser.get("/").status_code == 200
        wait_for_end(server)


@pytest.mark.parametrize(("end", "word"), [(signal.SIGINT, "Interrupted"), (signal.SIGKILL, "Process gone")])
def test_ctrl_c_and_a_kill_are_for_the_run_alone(tmp_path: Path, end: signal.Signals, word: str) -> None:
    """A terminal sends Ctrl-C to all processes of the job; the page stays and says what has happened."""
    with ExitStack() as stack:
        process, address, _ = stack.enter_context(running(tmp_path / "run.db", 60))
        browser = stack.enter_context(entered(address))
        stream = stack.enter_context(browser.stream("GET", "/events/now"))
        chunks = stream.iter_raw()
        next(chunks)
        os.killpg(process.pid, end)
        if end is signal.SIGINT:
            wait_for(browser, "Stopping")
            os.killpg(process.pid, end)  # without a grace period
        process.wait(DEADLINE_S)
        wait_for(browser, word)


def test_a_page_that_nobody_opens_ends(tmp_path: Path) -> None:
    """Once the run has ended, after the time for which it lingers."""
    with running(tmp_path / "run.db", 0.5) as (process, _, server):
        assert process.wait(DEADLINE_S) == 0
        wait_for_end(server)


def test_it_needs_a_journal() -> None:
    """The run doesn't begin, and the message says what to pass."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CI", raising=False)
        with pytest.raises(ReporterError, match=r"journal='run\.db'"):
            aqueue.run_queue([], reporter="web")


def test_a_recorded_run_is_shown_by_another_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """`aqueue watch` and `replay` have reporters, too; the message says which command shows a page."""
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(ReporterError, match="use aqueue serve"):
        WebReporter().open(RunInfo("run", 1, "queue", 0.0, watched=True, journal="/run.db"))


def test_it_needs_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run doesn't begin, and the message says what to install."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ReporterError, match=r"pip install '/path/to/aqueue\[web\]'"):
        aqueue.run_queue([], reporter="web", journal=tmp_path / "run.db")


def test_in_ci_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks there, and a process that stays would keep the job from ending."""
    monkeypatch.setenv("CI", "true")
    before = psutil.Process().children()
    aqueue.run_queue([], reporter="web", journal=tmp_path / "run.db")
    assert psutil.Process().children() == before
