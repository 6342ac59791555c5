"""Runs an example as a user does: a process of its own, its output into pipes."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

Start = Callable[..., "subprocess.Popen[str]"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def load(name: str) -> ModuleType:
    """Import an example without running it."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(EXAMPLES))  # as for a script: the modules beside it can be imported
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(EXAMPLES))
    return module


@pytest.fixture
def start_example(tmp_path: Path) -> Start:
    """Return a function that starts an example with arguments, in an empty folder; its temporary files go there too."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment.pop("AQUEUE_REPORTER", None)
    environment["TMPDIR"] = str(folder)

    def start(name: str, *arguments: str | Path) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, EXAMPLES / name, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment,
        )

    return start


@pytest.fixture
def run_example(start_example: Start) -> Run:
    """Return a function that runs an example to its end, at most 100 s, and returns its output and exit code."""

    def run(name: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        with start_example(name, *arguments) as process:
            try:
                stdout, stderr = process.communicate(timeout=100)
            except BaseException:
                process.kill()
                raise
            return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    return run
