"""Signal handlers are installed while a run is open, in the main thread only, and put back exactly as they were.

They are those of `_system.signals`, by `_system.installed_handlers`.
"""

import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.processes.pty_process import PROGRAMS, PtyProcess

Start = Callable[..., PtyProcess]


def test_handlers_are_put_back(backend: str) -> None:
    """After a run each handler is the one before: Python's own, a user's, ignored ones; and so in forked children."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", PROGRAMS / "handlers.py", backend], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("OK")


def test_an_ignored_sighup_stays_ignored(gates: Path, backend: str) -> None:
    """Under nohup a SIGHUP does nothing to a run."""
    options = f'{{"backend": "{backend}", "reporter": "none"}}'
    words = [sys.executable, str(PROGRAMS / "job.py"), "Gated,Quick", options]
    command = f"exec nohup {shlex.join(words)} >{gates}/out 2>&1"
    with PtyProcess("sh", "-c", command, env={"AQUEUE_TEST_GATES": str(gates)}) as job:
        job.until_mark("started Gated1")
        job.kill(signal.SIGHUP)
        (gates / "go").touch()
        assert job.wait() == 0
        assert job.marks[-1] == "returned completed"


def test_development_mode_has_nothing_to_say(start: Start, gates: Path) -> None:
    """Under python -X dev neither a run that completes nor one that is cancelled leaves anything open."""
    for interrupted in (False, True):
        job = start("Gated,Quick*9", num_workers=2, reporter="none", env={"PYTHONDEVMODE": "1"})
        job.until_mark("started Gated1")
        if interrupted:
            job.kill(signal.SIGINT)
            job.until("again cancels them")
            job.kill(signal.SIGINT)
            assert job.wait() == -signal.SIGINT
        else:
            (gates / "go").touch()
            assert job.wait() == 0
            (gates / "go").unlink()
            assert job.shown.strip() == "next-prompt$"
        assert "Warning" not in job.shown, job.shown
        assert "Exception ignored" not in job.shown, job.shown
