"""What is printed for people: tables and trees on narrow terminals, tracebacks, times, numbers that are refused."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console, RenderableType
from rich.text import Text

from aqueue.cli._commands.tree import _Label
from aqueue.cli._screen import Column, table, traceback_lines
from tests.cli.conftest import Aqueue
from tests.cli.scripted import Script, write_log

COUNTS = ["1,234,567", "89,012", "345", "67,890"]


def drawn(part: RenderableType, cells: int) -> list[str]:
    """Return the lines of `part` on a terminal of so many cells."""
    console = Console(file=io.StringIO(), width=cells, markup=False, highlight=False, emoji=False)
    console.print(part)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("cells", range(14, 101))
def test_a_table_never_cuts_a_number(cells: int) -> None:
    """However narrow the terminal, each number is there in full, and no line is wider than it."""
    columns = [Column("type", may_shrink=True), *(Column(f"count{n}", is_number=True) for n in range(4))]
    lines = drawn(table(columns, [["a type with a long name", *COUNTS]]), cells)

    assert set(COUNTS) <= set(re.findall(r"[0-9,]+[0-9]", "\n".join(lines)))
    assert max(map(len, lines)) <= cells


def test_a_table_without_room_is_broken_into_lines() -> None:
    """Each row begins a line of its own; the titles stand beside the numbers."""
    columns = [Column("item", is_number=True), Column("type"), Column("what", may_shrink=True)]
    rows = [["1", "Page", "the first words of many"], ["2", "Page", ""]]

    assert drawn(table(columns, rows), 24) == [
        "  item 1  Page  the",
        "  first words of many",
        "  item 2  Page",
    ]


@pytest.mark.parametrize("cells", range(12, 81))
def test_a_branch_of_a_tree_never_cuts_a_count(cells: int) -> None:
    """Words are cut, counts are not: they get a line of their own on a narrow terminal."""
    label = _Label(Text("Page 1,234 failed"), Text("  https://example.org/a-long-path"), "5,678 below: 90 failed")
    lines = drawn(label, cells)

    assert {"1,234", "5,678", "90"} <= set(re.findall(r"[0-9,]*[0-9]", "\n".join(lines)))
    assert max(map(len, lines)) <= cells
    assert "" not in lines


def test_a_traceback_is_wrapped_as_it_is_indented() -> None:
    """The marks below its code are left out: below a line that wraps they would mark something else."""
    traceback = (
        '  File "a.py", line 1, in process\n    raise ValueError(text)\n          ^^^^^^^^^^^^^^^^\nValueError: no'
    )
    first, second, _, last = traceback.splitlines()

    assert drawn(traceback_lines(traceback), 80) == [first, second, last]
    assert drawn(traceback_lines(traceback), 20)[-3:] == ["    raise", "    ValueError(text)", "ValueError: no"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["items", "{}", "--limit", "x"], "'x' is not a whole number (0 or more)"),
        (["items", "{}", "--slowest", "0"], "'0' is not a whole number (1 or more)"),
        (["tree", "{}", "--depth", "99"], "'99' is not a whole number (0 to 50)"),
        (["explain", "{}", "-1"], "No such option '-1'"),
        (["explain", "{}", "0"], "'0' is not a whole number (1 or more)"),
        (["status", ""], "FILE is empty; name a journal or log that a run has written"),
        (["watch", "{}", "--reporter", "nonsense"], "--reporter"),
    ],
)
def test_a_wrong_argument_is_named_with_what_may_be_given(
    aqueue: Aqueue, recorded: Path, args: list[str], said: str
) -> None:
    """The message says which argument it is, what was given and what may be; the exit code is 2."""
    done = aqueue(*(arg.format(recorded / "run.db") for arg in args))

    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert ". (" not in done.err


@pytest.mark.parametrize("command", ["status", "items", "failures", "tree", "tail"])
def test_force_color_has_colours_in_a_pipe_too(
    aqueue: Aqueue, recorded: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All subcommands that have colours on a terminal obey it alike, and `NO_COLOR` turns them off all the same."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    plain = aqueue(command, recorded / "run.db").out
    assert "\x1b" not in plain
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = aqueue(command, recorded / "run.db").out
    assert re.search(r"\x1b\[(1;)?3[0-9]m", coloured)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[(1;)?3[0-9]m", aqueue(command, recorded / "run.db").out)


def test_what_matches_nothing_says_so(aqueue: Aqueue, recorded: Path) -> None:
    """An empty answer is told from one that is missing."""
    path = recorded / "run.db"
    assert aqueue("items", path, "--state", "retrying").out == "  no items match\n"
    assert aqueue("failures", path, "--type", "Front").out == "  no item of this type has failed\n"
    tail = aqueue("tail", path, "--item", 999)
    assert (tail.code, tail.out) == (0, "")
    assert tail.err.endswith("run.db match\n")


def test_a_run_without_items_has_no_empty_table(aqueue: Aqueue, tmp_path: Path) -> None:
    """A heading above nothing tells nothing."""
    path = write_log(tmp_path, Script().events)

    assert "type" not in aqueue("status", path).out
    assert "no items yet" in aqueue("items", path).out
    assert "0 in total" not in aqueue("tree", path).out
