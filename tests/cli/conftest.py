"""The command, called as a person calls it, and runs that were recorded for it to read."""

import io
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aqueue import ItemFailures, run_queue
from aqueue.cli import main
from aqueue_reporters.jsonl import JsonlReporter
from tests.cli import job

__all__ = ["Aqueue", "Done"]


class Done(NamedTuple):
    """What a call of the command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as one JSON value."""
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        """What it printed, as lines of JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


Aqueue = Callable[..., Done]


@pytest.fixture
def aqueue(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Aqueue:
    """Return a function that calls the command in this process."""

    def call(*args: object) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        assert "Traceback" not in err
        return Done(ended.value.code, out, err)

    monkeypatch.setattr(sys, "stdin", io.StringIO())
    return call


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was recorded in ``run.db``, and logged with its results in ``run.jsonl``."""
    folder = tmp_path_factory.mktemp("recorded")
    log = JsonlReporter(folder / "run.jsonl", include_data=True)
    with suppress(ItemFailures):
        run_queue(job.shop(), num_workers=3, reporter=log, journal=folder / "run.db", on_error="continue")
    return folder


@pytest.fixture(params=["run.db", "run.jsonl"])
def file(recorded: Path, request: pytest.FixtureRequest) -> Path:
    """Return the journal, and then the log, of the same run."""
    return recorded / str(request.param)
