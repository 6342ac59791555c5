"""What a user installs: the sdist, the wheel made from it, and an editable install are all whole, and typed.

These build aqueue and install it, with its dependencies, into new virtual environments: `make package-test`.
"""

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("use_all_three.py")
PACKAGES = {"aqueue", "aqueue_reporters", "aqueue_migrations"}

WELL_TYPED = """\
from typing import Any, assert_type

from aqueue import EnqueueFn, Item, RunResult, SetDescFn, run_queue
from aqueue_reporters.jsonl import JsonlReporter
import aqueue_migrations


class Page(Item):
    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        enqueue(Page())


assert_type(run_queue([Page()], reporter=JsonlReporter("run.jsonl")), RunResult)
"""

ILL_TYPED = """\
from aqueue import run_queue

run_queue(["not an item"], num_workers="many")
"""


def call(command: Sequence[str | Path], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in `cwd` with nothing of the checkout or of an active environment in its surroundings."""
    outside = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "AQUEUE_REPORTER")
    environment = {name: value for name, value in os.environ.items() if name not in outside}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def call_well(command: Sequence[str | Path], cwd: Path) -> str:
    """Do the same for a command that must succeed; return what it printed."""
    done = call(command, cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from the sdist; return both."""
    folder = tmp_path_factory.mktemp("dist")
    call_well([sys.executable, "-m", "build", "--outdir", folder, ROOT], folder)
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="session", params=["wheel", "editable"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Install aqueue into a new virtual environment; return that one's Python and the folder aqueue is now in."""
    venv = tmp_path_factory.mktemp(f"venv-{request.param}") / "venv"
    call_well([sys.executable, "-m", "venv", venv], venv.parent)
    python = venv / "bin" / "python"
    install: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if request.param == "wheel":
        _, wheel = request.getfixturevalue("distributions")
        call_well([*install, wheel], venv.parent)
        return python, venv
    call_well([*install, "--editable", ROOT], venv.parent)
    return python, ROOT


def test_the_wheel_holds_the_three_packages_alone(distributions: tuple[Path, Path]) -> None:
    """The wheel installs three typed packages, their entry points, and nothing else."""
    with zipfile.ZipFile(distributions[1]) as wheel:
        names = set(wheel.namelist())
        [metadata] = [wheel.read(name).decode() for name in names if name.endswith(".dist-info/METADATA")]
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == PACKAGES
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert [name for name in names if name.endswith(".pyc")] == []
    vendor = "aqueue/cli/_report/vendor/"
    assert {f"{vendor}{file}" for file in ("echarts.min.js", "LICENSE", "NOTICE")} <= names
    page = "aqueue/_page/static/"
    page_files = ("page.html", "page.css", "page.js", "reader.js", "vendor/idiomorph.esm.js")
    assert {f"{page}{file}" for file in page_files} <= names
    assert any(name.endswith(".dist-info/entry_points.txt") for name in names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert "License-Expression: MIT AND Apache-2.0 AND BSD-3-Clause AND 0BSD\n" in metadata


def test_the_sdist_holds_what_it_takes_to_test_and_document(distributions: tuple[Path, Path]) -> None:
    """The sdist is the checkout without its history, its CI and what tools left behind."""
    with tarfile.open(distributions[0]) as sdist:
        names = [name.partition("/")[2] for name in sdist.getnames()]
    folders = {"docs", "examples", "migrations", "reporters", "src", "tests"}
    files = {".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "PKG-INFO", "README.md"}
    files.add("pyproject.toml")
    assert {name.partition("/")[0] for name in names} == folders | files
    assert [name for name in names if "__pycache__" in name or "_build" in name] == []


def test_all_three_packages_work(installed: tuple[Path, Path], tmp_path: Path) -> None:
    """In an empty folder, all three packages are imported from where they were installed, and a run works."""
    python, root = installed
    assert call_well([python, "-I", "-W", "error", PROGRAM, root], tmp_path) == ""


def test_a_cluster_needs_the_extra(installed: tuple[Path, Path], tmp_path: Path) -> None:
    """Without Dask a run on a cluster is refused, and told what to install; everything else works."""
    python, _ = installed
    program = "import aqueue; aqueue.run_queue([], cluster='local:2')"
    done = subprocess.run([python, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "aqueue.errors.ClusterError: a run on a cluster needs Dask's distributed; install aqueue with its extra: pip "
        "install '/path/to/aqueue[dask]'"
    )


def test_the_command_is_there_and_has_all_it_needs(installed: tuple[Path, Path], tmp_path: Path) -> None:
    """In an empty folder, `aqueue` reads what a run has written, and makes a report with the page's parts in it."""
    python, root = installed
    call_well([python, "-I", "-W", "error", PROGRAM, root], tmp_path)
    command = python.with_name("aqueue")
    assert call_well([command, "status", "trio.jsonl"], tmp_path).startswith("trio.jsonl   ")
    call_well([command, "report", "trio.jsonl", "-o", "report.html"], tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "</html>" in page
    assert "Apache ECharts" in page


def test_mypy_sees_the_types(installed: tuple[Path, Path], tmp_path: Path) -> None:
    """Installed, aqueue type-checks in mypy's strict mode: right code passes, wrong code doesn't."""
    mypy: list[str | Path] = [sys.executable, "-m", "mypy", "--strict", "--python-executable", installed[0], "-c"]
    call_well([*mypy, WELL_TYPED], tmp_path)
    wrong = call([*mypy, ILL_TYPED], tmp_path)
    assert (wrong.returncode, wrong.stdout.count(" error: ")) == (1, 2), wrong.stdout


def test_basedpyright_sees_the_types(installed: tuple[Path, Path], tmp_path: Path) -> None:
    """Installed, aqueue type-checks in basedpyright: right code passes, wrong code doesn't."""
    pyright: list[str | Path] = [sys.executable, "-m", "basedpyright", "--level", "error", "--pythonpath", installed[0]]
    (tmp_path / "well.py").write_text(WELL_TYPED, encoding="utf-8")
    (tmp_path / "ill.py").write_text(ILL_TYPED, encoding="utf-8")
    call_well([*pyright, "well.py"], tmp_path)
    wrong = call([*pyright, "ill.py"], tmp_path)
    assert (wrong.returncode, wrong.stdout.count(" error: ")) == (1, 2), wrong.stdout
