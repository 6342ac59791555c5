"""The map in docs/explanation/architecture.md names every module once, in an order in which imports point up the table only."""

import ast
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "aqueue"
DESIGN = (ROOT / "docs" / "explanation" / "architecture.md").read_text()

BESIDE = {"journal", "log_context", "testing"}
"""Those that the text below the table is about. `_version` is a constant, `__main__` a call."""


def rows(head: str) -> list[list[str]]:
    """Return the modules that each row names of the table whose head begins with `head`."""
    table = DESIGN.partition(f"| {head} |")[2].partition("\n\n")[0]
    return [re.findall(r"`(\w+)`", row.split("|")[1]) for row in table.splitlines()[2:]]


def modules(folder: Path) -> set[str]:
    """Return the names of the modules and packages in `folder`."""
    return {
        path.stem
        for path in folder.iterdir()
        if path.name != "__init__.py" and (path.suffix == ".py" or (path / "__init__.py").exists())
    }


def imports(path: Path, package: str) -> Iterator[str]:
    """Yield the modules of `package` that the module or package at `path` imports as it is loaded, not those in functions."""
    for file in path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]:
        nodes: list[ast.AST] = list(ast.parse(file.read_text()).body)
        while nodes:
            node = nodes.pop()
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                for name in names:
                    if name.startswith(f"{package}."):
                        yield name.removeprefix(f"{package}.").partition(".")[0]
            elif isinstance(node, ast.Try):
                nodes += node.body


@pytest.mark.parametrize(
    ("head", "folder", "package", "elsewhere"),
    [
        ("layer", SOURCE, "aqueue", BESIDE | {"_version", "__main__"}),
        ("module in `_cluster`", SOURCE / "_cluster", "aqueue._cluster", set()),
    ],
)
def test_the_map_is_true(head: str, folder: Path, package: str, elsewhere: set[str]) -> None:
    """Each module has its place in the table and imports only what stands above it or in its own row."""
    table = rows(head)
    named = [name for row in table for name in row]
    assert sorted(named) == sorted(modules(folder) - elsewhere)
    place = dict(zip([tuple(row) for row in table], count(), strict=False))
    row_of = {name: place[tuple(row)] for row in table for name in row}
    for name in named:
        for imported in imports(folder / name, package):
            if imported in row_of:
                assert row_of[imported] <= row_of[name], f"{name} imports {imported}, which stands below it"


def test_what_stands_beside_is_told() -> None:
    """Modules that no row of the table names are named below it."""
    below = DESIGN.partition("| layer |")[2].partition("\n\n")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", below)) == BESIDE
