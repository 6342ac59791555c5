"""The short form of ``python -m tests.torture``, in a process of its own, since a process with threads must not fork."""

import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_nothing_is_lost_or_done_twice_however_often_runs_are_killed() -> None:
    """A run killed at any moment and resumed ends as if nobody had disturbed it, and repeats only what was not recorded."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture", "--kills", "25", "--size", "40", "--seed", "1"],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing lost, nothing done twice" in done.stdout
