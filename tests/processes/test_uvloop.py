"""Runs in uvloop, which is asyncio to aqueue."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.processes.pty_process import PtyProcess

pytest.importorskip("uvloop", reason="needs uvloop, which Windows has not")

_ROOT: Final = Path(__file__).parents[2]

_SOME_TESTS: Final = (
    "engine/test_engine.py",
    "run/test_async_run_queue.py",
    "engine/test_failures.py",
    "engine/test_retries.py",
    "engine/test_timeouts.py",
    "engine/test_stopping.py",
    "engine/test_turns.py",
    "system/test_watchdog.py::test_a_nested_task_is_told",
    "system/test_watchdog.py::test_other_tasks_of_the_loop_are_told",
    "resume/test_resume.py",
    "resume/test_resumed_policies.py",
    "journal/test_file.py::test_an_error_of_aqueue_shows_none_of_its_frames",
)
"""Those that ask most of the loop, of what `make test-uvloop` runs."""


@pytest.mark.timeout(400)
def test_the_engine_keeps_its_promises_on_uvloop() -> None:
    """The engine's tests, with asyncio's loop replaced."""
    tests = [str(_ROOT / "tests" / name) for name in _SOME_TESTS]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "asyncio", "-p", "no:cacheprovider", *tests],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT / "tests" / "on_uvloop")},
        capture_output=True,
        text=True,
        timeout=360,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr


@pytest.mark.parametrize(
    "way",
    [
        "uvloop.run",
        "asyncio.Runner",
        "anyio.run",
        pytest.param(
            "policy",
            marks=pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python 3.14 deprecates policies"),
        ),
    ],
)
def test_ctrl_c_ends_a_run_that_sleeps_in_uvloop(gates: Path, way: str) -> None:
    """However the loop was made, it answers at once though nothing else wakes it, and the run can be resumed."""
    environment = {"AQUEUE_TEST_GATES": str(gates)}
    with PtyProcess("on_uvloop.py", way, env=environment) as job:
        job.until_mark("in uvloop")
        job.kill(signal.SIGINT)
        job.until_mark("raised KeyboardInterrupt")
        assert job.wait() == -signal.SIGINT
    (gates / "go").touch()
    with PtyProcess("on_uvloop.py", way, env=environment) as job:
        job.until_mark("returned completed")
        assert job.wait() == 0
