"""Chains up to 100,000 deep and up to a million siblings, run to their end and cut short: no recursion, no crash."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aqueue import Backend

JOB = Path(__file__).with_name("scale_job.py")


def run(shape: str, number: int, end: str, phase: str, backend: Backend) -> dict[str, Any]:
    """Run the job in a process of its own and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", JOB, shape, str(number), end, phase, backend],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr[-3_000:]}"
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


def test_a_million_siblings() -> None:
    """A million children of one item run, each once."""
    assert run("siblings", 1_000_000, "completed", "process", "trio") == {
        "raised": "", "status": "completed", "completed": 1_000_000
    }  # fmt: skip


def test_two_hundred_thousand_siblings_on_asyncio() -> None:
    """The other backend takes very many siblings, too."""
    assert run("siblings", 200_000, "completed", "hook", "asyncio")["completed"] == 200_000


ENDS = {
    "completed": ("", "completed"),
    "stopped": ("", "interrupted"),
    "failed": ("ItemFailures", "failed"),
    "exited": ("SystemExit", "interrupted"),
    "cancelled": ("cancelled", "interrupted"),
    "cancelled without awaiting": ("cancelled", "interrupted"),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("phase", ["process", "hook"])
def test_a_deep_chain_however_it_ends(backend: Backend, end: str, phase: str) -> None:
    """A chain 100,000 deep, with hooks and without, ends as it should and is freed without a crash.

    So does one that is cut short, at a quarter of that depth: what recursed would crash there as well.
    """
    number = 100_000 if end == "completed" else 25_000
    outcome = run("chain", number, end, phase, backend)
    assert (outcome["raised"], outcome["status"]) == ENDS[end]
    if end == "completed":
        assert outcome["completed"] == number
    elif phase == "process":
        assert outcome["completed"] < number
    else:
        assert outcome["completed"] in (number, number - 1)


@pytest.mark.parametrize("end", ["stopped", "failed", "exited", "cancelled"])
def test_many_siblings_cut_short(backend: Backend, end: str) -> None:
    """25,000 siblings, of which half are left in the queue."""
    outcome = run("siblings", 25_000, end, "process", backend)
    assert (outcome["raised"], outcome["status"]) == ENDS[end]
    assert outcome["completed"] < 25_000
