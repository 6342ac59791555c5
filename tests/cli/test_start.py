"""Ctrl-C while the command starts, most of which is loading modules.

`_system.startup` is in place before anything else is imported.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

INTERRUPTING = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
"""
"""Python loads this as it starts: Ctrl-C comes when the module is looked for."""

CALLS = [[str(Path(sys.executable).with_name("aqueue"))], [sys.executable, "-m", "aqueue"]]


def interrupted(
    folder: Path, command: list[str], module: str, *, ignored: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run `command`, to which Ctrl-C comes when it begins to load `module`."""
    (folder / "sitecustomize.py").write_text(INTERRUPTING)
    environment = os.environ | {"PYTHONPATH": str(folder), "INTERRUPT_AT": module}
    return subprocess.run(
        command,
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.SIG_DFL),
    )


@pytest.mark.parametrize("call", CALLS, ids=["script", "module"])
@pytest.mark.parametrize(
    "module",
    ["aqueue._engine.context", "trio", "aqueue.cli", "click", "aqueue.cli._commands.watch", "aqueue_migrations"],
)
def test_ctrl_c_ends_the_start_without_a_word(tmp_path: Path, call: list[str], module: str) -> None:
    """From the first of aqueue's modules on to those that a subcommand loads, no traceback is shown, and a shell sees 130."""
    (tmp_path / "run.db").write_bytes(b"SQLite format 3\0")
    done = interrupted(tmp_path, ["sh", "-c", '"$@"; exit $?', "sh", *call, "status", "run.db"], module)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("call", CALLS, ids=["script", "module"])
def test_ctrl_c_that_is_ignored_stays_ignored(tmp_path: Path, call: list[str]) -> None:
    """As a shell has it for what runs in the background."""
    done = interrupted(tmp_path, [*call, "--version"], "trio", ignored=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("call", [["-c", "import program"], ["program.py"], ["-m", "program"]], ids=" ".join)
def test_a_program_that_imports_aqueue_handles_ctrl_c_itself(tmp_path: Path, call: list[str]) -> None:
    """To import aqueue changes no program's signal handlers."""
    (tmp_path / "program.py").write_text("try:\n    import aqueue\nexcept KeyboardInterrupt:\n    print('caught')\n")
    done = interrupted(tmp_path, [sys.executable, *call], "trio")
    assert (done.returncode, done.stdout, done.stderr) == (0, "caught\n", "")
