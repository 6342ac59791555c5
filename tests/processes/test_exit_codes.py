"""How a script that runs items ends: its exit code, and that nothing is printed but what must be."""

from collections.abc import Callable
from pathlib import Path

from tests.processes.pty_process import PtyProcess

Start = Callable[..., PtyProcess]


def test_an_item_that_exits_ends_the_process_with_its_code(start: Start, gates: Path) -> None:
    """SystemExit(3) in an item interrupts the others, flushes, and is the script's exit code."""
    job = start("Exits,Gated", num_workers=2, reporter="plain")
    job.until_mark("started Gated1", "started Exits1")
    # Only Exits listens to this gate soon enough: both wait for it, and the first to raise cuts the other short.
    (gates / "go").touch()
    assert job.wait() == 3
    assert job.marks[-1] == "raised SystemExit 3"
    assert "Interrupted" in job.shown
    job.assert_terminal_restored()
