"""The public API is small, written down, documented, and light to import."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
import types
from pathlib import Path
from typing import TypeVar

import pytest

import aqueue
import aqueue_migrations
import aqueue_reporters

EXPECTED = Path(__file__).with_name("public_api.txt")

PACKAGES = (aqueue, aqueue_reporters, aqueue_migrations)


def public_modules() -> list[types.ModuleType]:
    """Import and return every module whose path holds no underscore name."""
    names = [
        info.name for package in PACKAGES for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    public = [name for name in names if not any(part.startswith("_") for part in name.split("."))]
    return [*PACKAGES, *map(importlib.import_module, public)]


MODULES = public_modules()
by_name = pytest.mark.parametrize("module", MODULES, ids=[module.__name__ for module in MODULES])


@by_name
def test_all_is_what_the_module_exports(module: types.ModuleType) -> None:
    """`__all__` names only what exists and leaves out nothing public that the module defines (ruff sees to its order)."""
    names = list(getattr(module, "__all__", []))
    defined = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
        and not isinstance(value, TypeVar)
    }
    # What a sibling needs and users don't, a public module may define without exporting it; it must say so here.
    internal = {
        "aqueue.retry": {"asked_delay_s"},
        # The steps themselves, which `migrations` holds; each name is recorded in the journals.
        "aqueue_migrations.migrations": {
            "m001_events",
            "m002_views",
            "m003_adopted_items_and_latest_results",
            "m004_groups",
            "m005_snapshots",
        },
    }.get(module.__name__, set())
    assert [name for name in names if not hasattr(module, name)] == []
    assert defined - set(names) == internal


def test_the_public_names_are_those_written_down() -> None:
    """A name comes into the API, or goes, only together with the list that a reviewer reads."""
    actual = [f"{module.__name__}.{name}" for module in MODULES for name in getattr(module, "__all__", [])]
    assert sorted(actual) == sorted(EXPECTED.read_text().split())


@by_name
def test_everything_public_has_a_docstring(module: types.ModuleType) -> None:
    """Each public module, class, method, property and function says what it is for."""
    missing = [] if module.__doc__ else [module.__name__]
    for name in getattr(module, "__all__", []):
        value = getattr(module, name)
        if inspect.isclass(value) and value.__module__.partition(".")[0].startswith("aqueue"):
            own = value.__dict__.get("__doc__")
            missing += [] if own else [name]
            missing += [
                f"{name}.{member}"
                for member, attribute in vars(value).items()
                if not member.startswith("_")
                and (inspect.isfunction(attribute) or isinstance(attribute, property | classmethod | staticmethod))
                and not inspect.getdoc(getattr(value, member))
            ]
        elif inspect.isfunction(value) and not inspect.getdoc(value):
            missing.append(name)
    assert missing == []


@by_name
def test_every_public_constant_and_alias_has_a_docstring(module: types.ModuleType) -> None:
    """A name bound in a public module is followed by a string that says what it is."""
    body = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")).body
    missing = []
    for statement, following in zip(body, [*body[1:], ast.Pass()], strict=True):
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name) and target.id in getattr(module, "__all__", []):
                documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                missing += [] if documented else [target.id]
    assert missing == []


def test_reporters_use_only_public_modules_of_aqueue() -> None:
    """What comes with aqueue is made of what anyone's reporter could use."""
    private = []
    for path in Path(aqueue_reporters.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = []
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                imported = [f"{node.module}.{alias.name}" for alias in node.names]
            private += [
                (path.name, name)
                for name in imported
                if name.startswith("aqueue.") and any(part.startswith("_") for part in name.split("."))
            ]
    assert private == []


def test_importing_aqueue_loads_nothing_heavy() -> None:
    """`import aqueue` leaves the libraries of reporters, journal and command line to those who use them."""
    program = (
        "import sys, aqueue; print(*(m for m in ('rich', 'structlog', 'sqlite_utils', 'click') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
