"""What the layers in pyproject.toml can't say of the source: no two files need each other, and each package has its map.

The layers, which import-linter checks, say which package may import which. Within a package, the list of modules in the
docstring of its `__init__` is the map: from the bottom up, each module imports only from lines before its own. The tests of
a module are found by its name: in a file that is named after it, or by a search for its name in the tests' docstrings.
"""

import ast
import pkgutil
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = (ROOT / "src", ROOT / "reporters", ROOT / "migrations")
FILES = {
    ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__"): path
    for source in SOURCES
    for path in source.rglob("*.py")
}
PACKAGES = sorted(name for name, path in FILES.items() if name.startswith("aqueue.") and path.name == "__init__.py")

PICTURES = sorted((ROOT / "docs/explanation").glob("architecture-*.svg"))
MODULES = sorted(name for name, path in FILES.items() if path.name != "__init__.py")
TESTS = {
    path: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    for path in (ROOT / "tests").rglob("test_*.py")
}

FOR_TYPES_ALONE = {("aqueue.errors", "aqueue.result")}
"""Imports under `TYPE_CHECKING` that close a circle: `ItemFailures` has the result, which can read a journal, which has errors."""


def imports(name: str) -> Iterator[str]:
    """Yield the modules that the module called `name` imports, in functions and for types, too."""
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)
        elif isinstance(node, ast.ImportFrom) and node.module in FILES:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in FILES else node.module


def lines_of_map(package: str) -> list[list[str]]:
    """Return the modules that each line of the list in the docstring of `package` names."""
    docstring = ast.get_docstring(ast.parse(FILES[package].read_text(encoding="utf-8"))) or ""
    return [re.findall(r"`(\w+)`", head) for head in re.findall(r"^- ((?:`\w+`(?:, )?)+):", docstring, re.MULTILINE)]


def test_no_two_files_need_each_other() -> None:
    """No module imports itself by way of others, wherever in them the imports are."""
    graph = {name: {one for one in imports(name) if (name, one) not in FOR_TYPES_ALONE} - {name} for name in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_what_is_imported_for_types_alone_can_not_be_avoided() -> None:
    """Each import that the test above leaves out would close a circle."""
    for name, imported in FOR_TYPES_ALONE:
        assert imported in imports(name)
        reached = {imported}
        for one in (found := [imported]):
            found += set(imports(one)) - reached
            reached.update(found)
        assert name in reached


@pytest.mark.parametrize("package", PACKAGES)
def test_the_docstring_of_a_package_is_its_map(package: str) -> None:
    """It names each module once, on a line after those of the modules that this one imports."""
    lines = lines_of_map(package)
    named = [name for line in lines for name in line]
    folder = FILES[package].parent
    inside = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    assert sorted(named) == sorted(inside - {"__init__"})
    line_of = {name: number for number, line in enumerate(lines) for name in line}
    for module in FILES:
        name = module.removeprefix(f"{package}.").partition(".")[0]
        if module.startswith(f"{package}.") and name in line_of:
            for imported in imports(module):
                other = imported.removeprefix(f"{package}.").partition(".")[0]
                if imported.startswith(f"{package}.") and other != name:
                    assert line_of[other] < line_of[name], f"{name} imports {other}, which the map has not above it"


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_the_picture_has_every_part_once(picture: Path) -> None:
    """What is in the font of code are the modules and packages of aqueue, each once."""
    drawn = re.findall(r"<text [^>]*monospace[^>]*>([^<]+)</text>", picture.read_text(encoding="utf-8"))
    parts = {name.split(".")[1] for name in FILES if name.startswith("aqueue.")}
    assert sorted(drawn) == sorted(parts)


def test_the_names_on_the_page_are_those_of_the_source() -> None:
    """Whatever the page on the architecture calls `_package.module` or `_package.module.Class.method` is there."""
    page = (ROOT / "docs/explanation/architecture.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`(_[a-z_]+(?:\.\w+)+)`", page))
    assert names
    for name in names:
        pkgutil.resolve_name(f"aqueue.{name}")


@pytest.mark.parametrize("module", MODULES)
def test_the_tests_of_a_module_are_found_by_its_name(module: str) -> None:
    """`_engine.tree` has tests/engine/test_tree.py, or test_tree_….py, or a docstring of a test file with `_engine.tree` in it."""
    *packages, name = [part.strip("_") for part in module.removeprefix("aqueue.").removeprefix("aqueue_").split(".")]
    folder = next(
        (ROOT / "tests" / one for one in reversed(packages) if (ROOT / "tests" / one).is_dir()), ROOT / "tests"
    )
    by_file = [path for path in TESTS if path.parent == folder and re.fullmatch(rf"test_{name}(_\w+)?\.py", path.name)]
    written = f"`{module.removeprefix('aqueue.') if packages else module}`"
    by_docstring = [path for path, text in TESTS.items() if written in text]
    assert by_file or by_docstring, f"no test file is named after {module}, and no docstring of one names it"


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT / "tests")))
def test_the_modules_that_a_test_names_exist(path: Path) -> None:
    """A name like `_engine.tree` in the docstring of a test file is that of a module."""
    for name in re.findall(r"`((?:_\w+|cli|testing|aqueue_\w+)\.[\w.]+)`", TESTS[path]):
        assert name in FILES or f"aqueue.{name}" in FILES, name
