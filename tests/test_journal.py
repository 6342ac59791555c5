"""The results of a run, one after the other, from its journal."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aqueue import (
    EnqueueFn,
    InvalidArgument,
    Item,
    ItemResult,
    JournalError,
    JournalLocked,
    NotAJournal,
    SetDescFn,
    iter_results,
    run_queue,
)


class Value(Item):
    """Returns what it was given."""

    def __init__(self, value: Any) -> None:
        self.value = value

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> Any:
        return self.value


class Parent(Item):
    """Returns one result, and another one from its hook."""

    def __init__(self, children: list[Any], from_hook: str | None) -> None:
        self.children = children
        self.from_hook = from_hook

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        for child in self.children:
            enqueue(Value(child))
        return "of process"

    async def after_children_processed(self) -> str | None:
        return self.from_hook


VALUE = f"{__name__}:Value"
PARENT = f"{__name__}:Parent"


def test_results_come_by_number_with_their_types(tmp_path: Path) -> None:
    """Each item with a result is there once, in the order of numbers; its hook's result replaces its own."""
    roots = [Parent(["a", None, 3], "of hook"), Parent([], None), Value({"result": [1, 2.5, None, "ü\n"]}), Value(None)]
    result = run_queue(roots, reporter="none", num_workers=1, queue_type_name="stack", journal=tmp_path / "run.db")
    assert list(iter_results(tmp_path / "run.db")) == [
        ItemResult(1, PARENT, "of hook"),
        ItemResult(2, PARENT, "of process"),
        ItemResult(3, VALUE, {"result": [1, 2.5, None, "ü\n"]}),
        ItemResult(5, VALUE, "a"),
        ItemResult(7, VALUE, 3),
    ]
    assert list(result.iter_results()) == list(iter_results(tmp_path / "run.db"))


def test_text_that_looks_like_a_result_is_none(tmp_path: Path) -> None:
    """State and keys that hold the word are not taken for results."""

    class Tricky(Item):
        def __init__(self) -> None:
            self.result: object = None

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            set_desc('{"result":1}')
            self.result = {"result": 2}

        async def after_children_processed(self) -> None:
            pass

    run_queue([Tricky()], reporter="none", journal=tmp_path / "run.db")
    with closing(sqlite3.connect(tmp_path / "run.db")) as connection:
        [(completed,)] = connection.execute("SELECT event FROM events WHERE event LIKE '%item.completed%'").fetchall()
    assert '"result":' in completed
    assert list(iter_results(tmp_path / "run.db")) == []


def test_a_resumed_run_that_had_completed_has_them_too(tmp_path: Path) -> None:
    """The recorded result of a run that is not run again leads to the results all the same."""
    for _ in range(2):
        result = run_queue([Value("a")], reporter="none", resume=tmp_path / "run.db")
        assert [one.result for one in result.iter_results()] == ["a"]


def test_a_run_without_a_journal_says_so() -> None:
    """Where nothing was recorded, that is the error, and the way out is named."""
    result = run_queue([Value("a")], reporter="none")
    assert result.journal == ""
    with pytest.raises(InvalidArgument, match="journal="):
        next(result.iter_results())


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    """A file of something else and one that isn't there are errors at the first step; nothing is made or changed."""
    other = tmp_path / "other.db"
    other.write_bytes(b"something else")
    with pytest.raises(NotAJournal):
        next(iter_results(other))
    with pytest.raises(JournalError, match="no journal at"):
        next(iter_results(tmp_path / "none.db"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.db"]
    assert other.read_bytes() == b"something else"


def test_reading_inside_the_run_that_writes_is_refused(tmp_path: Path) -> None:
    """An item that reads its own run's journal would take the file's locks from the run: it gets an error."""
    caught = []

    class Curious(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            with pytest.raises(JournalLocked) as error:
                next(iter_results(tmp_path / "run.db"))
            caught.append(str(error.value))

    run_queue([Curious()], reporter="none", journal=tmp_path / "run.db")
    assert "another process" in caught[0]


_READER = """
import json, sys
from aqueue import iter_results
results = iter_results(sys.argv[1])
print(json.dumps([one.result for one in results]))
"""


def test_another_process_reads_while_the_run_writes(tmp_path: Path) -> None:
    """A reader sees the results that are committed, and the run goes on as if nobody were there."""
    seen: list[object] = []

    class Late(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
            while not (seen and seen[-1]):
                done = subprocess.run(
                    [sys.executable, "-c", _READER, tmp_path / "run.db"], capture_output=True, text=True, check=True
                )
                seen.append(json.loads(done.stdout))
            return "late"

    result = run_queue([Value("early"), Late()], reporter="none", num_workers=1, journal=tmp_path / "run.db")
    assert seen[-1] == ["early"]
    assert [one.result for one in result.iter_results()] == ["early", "late"]


_PEAK = """
import resource, sys
from aqueue import iter_results
results = iter_results(sys.argv[1])
next(results)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = 1 + sum(1 for one in results if len(one.result) == 1000)
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_number_of_results(tmp_path: Path) -> None:
    """50 MB of results are read with a few MB more than one result takes."""

    class Many(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            for number in range(50_000):
                enqueue(Value(f"{number:01000}"))

    run_queue([Many()], reporter="none", journal=tmp_path / "run.db")
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, tmp_path / "run.db"], capture_output=True, text=True, check=True
    )
    count, grown_kb = map(int, done.stdout.split())
    assert count == 50_000
    assert grown_kb < 15_000
