"""A process that has been stopped for a while, as by Ctrl-Z or a container's pause, and goes on."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.processes.pty_process import PROGRAMS


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs signals that stop a process")
def test_nobody_is_blamed_for_the_time_in_which_the_process_was_stopped(backend: str) -> None:
    """An item that was blocking for a moment when the process was stopped is not told, however long that was."""
    with subprocess.Popen(
        [sys.executable, str(PROGRAMS / "blocking.py"), backend],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "blocking\n"
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        time.sleep(2.5)
        process.send_signal(signal.SIGCONT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert errors == ""
