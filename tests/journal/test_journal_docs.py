"""The pages on the journal and on failures: each promise names its test, which exists; the reference has the views."""

import ast
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from aqueue import EnqueueFn, Item, SetDescFn, run_queue

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def rows(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its first two lines."""
    _, found, below = text.partition(f"\n## {heading}\n")
    assert found
    lines = below.split("\n## ")[0].splitlines()
    table = [line.strip("|").split(" | ") for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in cells] for cells in table[2:]]


def functions(path: Path) -> set[str]:
    """Return the names of a module's functions."""
    return {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(
    ("page", "heading", "at_least"),
    [("explanation/survival.md", "With a journal", 15), ("howto/failures.md", "Failed items, and resuming", 9)],
)
def test_each_promise_names_a_test_that_exists(page: str, heading: str, at_least: int) -> None:
    """A promise in the table that nobody tests, or whose test was renamed, is found out."""
    text = (DOCS / page).read_text(encoding="utf-8")
    promises = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", first) for first, *_ in rows(text, heading)]
    assert len(promises) >= at_least
    proofs = re.findall(r"^- (.*?): (`tests/.*)$", text.partition("\n## The proofs\n")[2], re.MULTILINE)
    assert [promise for promise, _ in proofs] == promises
    for _, tests in proofs:
        for path, name in re.findall(r"`([\w/.]+)::(\w+)`", tests):
            assert name in functions(ROOT / path), f"{path}::{name}"


def test_the_reference_has_the_views_and_their_columns(tmp_path: Path) -> None:
    """The table of views names each view of a real journal with its columns, in their order."""

    class Nothing(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            pass

    run_queue([Nothing()], reporter="none", journal=tmp_path / "run.db")
    with closing(sqlite3.connect(tmp_path / "run.db")) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'view'")]
        views = {name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")] for name in names}
    text = (DOCS / "reference/journal.md").read_text(encoding="utf-8")
    documented = {name.strip("` "): re.findall(r"`(\w+)`", columns) for name, _, columns in rows(text, "The views")}
    assert documented == views
