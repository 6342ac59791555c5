"""Commands on runs in other processes, which are killed as soon as they have answered, and blocked while they should answer."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aqueue import Limit, steering
from aqueue.events import GroupLimitChanged, GroupPaused, ItemStarted, RunPaused, RunWorkersChanged
from tests.journal.oracle import told_by
from tests.journal.recorded import events_of
from tests.processes.conftest import Start

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")


def test_what_was_answered_holds_after_a_kill_and_at_the_resume(start: Start, gates: Path, tmp_path: Path) -> None:
    """SIGKILL comes right after the last answer: nothing that was answered is lost, and nothing starts until it is unpaused."""
    path = tmp_path / "run.db"
    run = start("Gated*4", num_workers=2, resume=str(path))
    run.until_mark("started Gated1", "started Gated2")
    assert steering.workers(path, 3).changed
    assert steering.limit(path, "shop", Limit(per_second=2.0)).changed
    assert steering.pause(path, group="shop").changed
    assert steering.pause(path).running == 3
    run.kill(signal.SIGKILL)
    run.wait()
    events = events_of(path)
    for kind in (RunWorkersChanged, GroupLimitChanged, GroupPaused, RunPaused):
        assert sum(isinstance(event, kind) for event in events) == 1
    assert Path(f"{path}.sock").exists(), "a process that is killed can't remove its socket"
    answer = steering.pause(path)
    assert (answer.changed, answer.is_live) == (False, False)
    run = start("Gated*4", num_workers=2, resume=str(path))
    run.until("nothing starts until: aqueue unpause")
    assert len([event for event in events_of(path) if isinstance(event, ItemStarted)]) == 3
    assert steering.unpause(path).is_live
    run.until_mark("started Gated1", "started Gated2", "started Gated3")
    (gates / "go").touch()
    run.until_mark("returned completed")
    run.wait()
    events = events_of(path)
    told_by(events)
    assert {event.worker for event in events if isinstance(event, ItemStarted)} == {1, 2, 3}
    assert not Path(f"{path}.sock").exists()


def test_blocked_loop_is_reported_and_the_command_waits_for_it(start: Start, tmp_path: Path) -> None:
    """The caller learns within about 2 s why nothing happens; Ctrl-C ends the wait at once."""
    path = tmp_path / "run.db"
    run = start("Sleeping", resume=str(path), reporter="none")
    run.until_mark("started Sleeping1")
    command = [sys.executable, "-m", "aqueue", "pause", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as asking:
        assert asking.stderr is not None
        assert "the run's event loop is blocked by code that it runs" in asking.stderr.readline()
        asking.send_signal(signal.SIGINT)
        assert asking.wait(10) == 130
    run.kill(signal.SIGKILL)
    run.wait()
    assert steering.pause(path).is_live is False


def test_stop_by_a_command_is_no_interruption_by_a_signal(start: Start, gates: Path, tmp_path: Path) -> None:
    """The program gets a result, and no KeyboardInterrupt; with ``--now``, running items are cancelled."""
    path = tmp_path / "run.db"
    run = start("Gated*3", num_workers=1, resume=str(path))
    run.until_mark("started Gated1")
    assert steering.stop(path).changed
    assert steering.stop(path, now=True).changed
    run.until_mark("returned interrupted")
    assert run.wait() == 0
    assert os.fspath(path) in run.text
