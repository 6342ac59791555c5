"""The command that a summary gives for listing all failures: it works as it stands."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aqueue import EnqueueFn, Item, ItemFailures, SetDescFn, run_queue
from aqueue_reporters.plain import PlainReporter


class Fails(Item):
    """Fails, and says which it is."""

    def __init__(self, number: int) -> None:
        self.number = number

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        raise ValueError(f"number {self.number}")


def test_command_lists_the_failures_of_a_real_journal(tmp_path: Path) -> None:
    """In a shell, from any folder, whatever the file's name: each failure; with --tracebacks, equal ones once."""
    stream = io.StringIO()
    path = tmp_path / "it's a $(run) é.db"
    with pytest.raises(ItemFailures):
        run_queue(
            [Fails(number) for number in range(3)],
            on_error="continue",
            num_workers=1,
            journal=path,
            reporter=PlainReporter(stream=stream),
        )
    [command] = [line.partition(":")[2] for line in stream.getvalue().splitlines() if "See them all:" in line]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def lines_of(command: str) -> list[str]:
        done = subprocess.run(command, shell=True, cwd="/", env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return [line.strip() for line in done.stdout.splitlines()]

    text = "\n".join(lines_of(command))
    assert all(f"ValueError: number {number}" in text for number in range(3))
    lines = lines_of(f"{command} --tracebacks")
    assert [line for line in lines if "number" in line and not line.startswith("raise")][1:] == [
        "ValueError: number 0",
        "the same traceback as item 1: number 1",
        "the same traceback as item 1: number 2",
    ]
    assert lines.count("Traceback (most recent call last):") == 1
