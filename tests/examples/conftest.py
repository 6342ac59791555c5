"""Runs an example as a user does: a process of its own, its output into pipes."""

import importlib.util
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
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
def folder(tmp_path: Path) -> Path:
    """Return the empty folder in which examples are started."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    return folder


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    """Return the environment of examples: no proxy, no chosen reporter, temporary files in their folder."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    for name in ("AQUEUE_REPORTER", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        environment.pop(name, None)
    return environment | {"TMPDIR": str(folder), "TERM": "xterm-256color"}


@pytest.fixture
def start_example(folder: Path, environment: dict[str, str]) -> Iterator[Start]:
    """Return a function that starts an example with arguments, and with a Ctrl-C that works.

    Shells start what runs in the background with SIGINT ignored, and processes inherit that.
    """

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

    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield start
    signal.signal(signal.SIGINT, previous)


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


@pytest.fixture
def run_example_on_terminal(folder: Path, environment: dict[str, str]) -> Callable[[str], tuple[int, bytes]]:
    """Return a function that runs an example on a pseudo-terminal, and returns its exit code and all that it wrote."""

    def run(name: str) -> tuple[int, bytes]:
        terminal, its_end = os.openpty()
        termios.tcsetwinsize(its_end, (50, 200))
        output = b""
        with subprocess.Popen(
            [sys.executable, EXAMPLES / name],
            stdin=its_end,
            stdout=its_end,
            stderr=its_end,
            cwd=folder,
            env=environment,
        ) as process:
            os.close(its_end)
            with suppress(OSError):  # EIO: the other end was closed
                while part := os.read(terminal, 65536):
                    output += part
            os.close(terminal)
        return process.returncode, output

    return run
