"""The short forms of ``python -m tests.torture`` and ``tests.torture.soak``.

In processes of their own: one that has threads must not fork, and how much memory one takes is its own matter.
"""

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


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_with_every_fault_at_once_every_item_ends_and_memory_stays_flat(backend: str) -> None:
    """Retries, timeouts, hanging items, failing hooks, limits and a failing reporter leave nothing behind in the engine."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture.soak", "--seconds", "2.5", "--backend", backend],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all ended" in done.stdout
