"""Folders with short paths, which the paths of sockets need."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a folder in which everybody may look for files."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name).resolve()
        path.chmod(0o755)
        yield path


@pytest.fixture
def journal(folder: Path) -> Path:
    """Make an empty file where the journal would be."""
    path = folder / "run.db"
    path.touch()
    return path


@pytest.fixture(autouse=True)
def tmp(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep sockets out of the folders of the user who runs the tests: make another temporary folder."""
    path = folder / "t"
    path.mkdir()
    path.chmod(0o1777)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path
