"""How the tests of this folder start the program that runs items."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.processes.pty_process import PtyProcess

Start = Callable[..., PtyProcess]


@pytest.fixture
def gates(tmp_path: Path) -> Path:
    """Return the folder in which a test opens gates."""
    folder = tmp_path / "gates"
    folder.mkdir()
    return folder


@pytest.fixture
def start(gates: Path, backend: str) -> Iterator[Start]:
    """Return what starts programs/job.py with items and the arguments of `run_queue`, on the test's backend."""
    with ExitStack() as started:

        def start_job(items: str, *, keeps_output: bool = False, **options: Any) -> PtyProcess:
            env = {"AQUEUE_TEST_GATES": str(gates), **options.pop("env", {})}
            arguments = items, json.dumps({"backend": backend, **options})
            return started.enter_context(PtyProcess("job.py", *arguments, env=env, keeps_output=keeps_output))

        yield start_job
