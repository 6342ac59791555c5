"""``aqueue pause``, ``unpause``, ``workers``, ``limit`` and ``stop``: what they print about a run that is live, and one that isn't."""

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from aqueue import EnqueueFn, Item, Limit, SetDescFn, run_queue
from tests.cli.conftest import Aqueue
from tests.cli.scripted import Script, on_a_cluster, write_journal

_POLL_S: Final = 0.005
GATE: Final = threading.Event()
"""Until it is set, items of `Page` run."""

STARTED: Final = threading.Semaphore(0)
"""Counts how many of them have started."""

WHO: Final = r"\S+@\S+"
TIME: Final = r"\d\d:\d\d"


@dataclass
class Page(Item):
    """One page of a host."""

    group: str
    number: int = 0

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        STARTED.release()
        while not GATE.is_set():
            await anyio.sleep(_POLL_S)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Path]:
    """Return the journal of a run of three workers, which all run a page; one host has a limit of two."""
    GATE.clear()
    while STARTED.acquire(blocking=False):  # those of an earlier test
        pass
    path = tmp_path / "run.db"
    pages = [Page("a.example", number) for number in range(9)] + [
        Page("b.example\x1b[2J", number) for number in range(1)
    ]
    results: list[Any] = []

    def run() -> None:
        limits = {"a.example": Limit(concurrent=2)}
        results.append(run_queue(pages, journal=path, num_workers=3, limits=limits, reporter="none"))

    thread = threading.Thread(target=run)
    thread.start()
    for _ in range(3):
        assert STARTED.acquire(timeout=20)
    try:
        yield path
    finally:
        GATE.set()
        thread.join(20)
        assert results, "the run has raised"


def test_each_verb_says_what_came_of_it_and_what_was_before(aqueue: Aqueue, live: Path) -> None:
    """A command that is repeated says since when and by whom it is so; the exit code is 0 either way."""
    said = []
    for words in (
        ["pause"],
        ["pause"],
        ["unpause"],
        ["unpause"],
        ["pause", "--group", "a.example"],
        ["unpause", "--group", "a.example"],
        ["workers", 3],
        ["workers", 8],
        ["workers", 8],
        ["limit", "a.example", "--per-second", "0.5"],
        ["limit", "a.example", "--per-second", "0.5"],
        ["limit", "a.example", "--default"],
        ["limit", "a.example", "--none"],
        ["stop"],
        ["stop"],
    ):
        done = aqueue(words[0], live, *words[1:])
        assert (done.code, done.err) == (0, "")
        said.append(done.out.rstrip("\n"))
    patterns = [
        r"paused \(3 running items will finish\)",
        rf"already paused since {TIME} by {WHO}",
        rf"unpaused \(paused since {TIME} by {WHO}\)",
        r"not paused",
        r"paused a\.example \(2 running items will finish\)",
        rf"unpaused a\.example \(paused since {TIME} by {WHO}\)",
        r"already 3 workers",
        r"8 workers \(before: 3\)",
        rf"already 8 workers since {TIME} by {WHO}",
        r"a\.example: 0\.5/s \(before: 2 at once\)",
        rf"a\.example: already 0\.5/s since {TIME} by {WHO}",
        r"a\.example: the limit of the program \(before: 0\.5/s\)",
        r"a\.example: no limit \(before: 2 at once\)",
        r"stopping \([3-8] running items will finish\)",
        rf"already stopping: stopped by {WHO}",
    ]
    assert len(said) == len(patterns)
    for one, pattern in zip(said, patterns, strict=True):
        assert re.fullmatch(pattern, one), (one, pattern)


def test_group_that_no_item_has_is_named_along_with_those_that_items_wait_in(aqueue: Aqueue, live: Path) -> None:
    """The command is carried out, since items may come; a warning says that it applies to none, safe to show."""
    done = aqueue("limit", live, "nosuch.example\x1b[2J", "--concurrent", 1)
    assert done.code == 0
    assert done.out == "nosuch.example\\x1b[2J: 1 at once (before: no limit)\n"
    assert done.err.startswith(
        "aqueue: no item waits or runs in the group nosuch.example\\x1b[2J; items wait in: a.example ("
    )
    assert done.err.endswith(f"; to take it back: aqueue limit --default {live} 'nosuch.example\\x1b[2J'\n")
    assert aqueue("limit", live, "nosuch.example\x1b[2J", "--default").err == ""
    pause = aqueue("pause", live, "--group", "nobody").err
    assert pause.endswith(f"; to take it back: aqueue unpause {live} --group nobody\n")


def test_command_on_a_run_that_stops_holds_from_its_resume_on(aqueue: Aqueue, live: Path) -> None:
    """A second stop can cancel what the first one waits for."""
    aqueue("stop", live)
    assert "; it is stopping: this holds from its resume on)" in aqueue("pause", live).out
    assert aqueue("stop", live, "--now").out.startswith("stopping (")


def test_run_that_is_not_live_is_steered_through_its_journal(aqueue: Aqueue, tmp_path: Path) -> None:
    """The answer says so; there is nothing to stop; `status` shows what is in force, and `tail` who set it."""
    script = Script(num_workers=4)
    script.start(script.enqueue())
    path = write_journal(tmp_path, script.events)
    suffix = "no process runs it: this holds from its resume on"
    assert aqueue("pause", path).out == f"paused ({suffix})\n"
    assert aqueue("workers", path, 2).out == f"2 workers (before: 4; {suffix})\n"
    assert (
        aqueue("limit", path, "a", "--concurrent", "3").out == f"a: 3 at once (before: as in the program; {suffix})\n"
    )
    assert aqueue("stop", path).out == f"{path} isn't running: there is nothing to stop\n"
    assert aqueue("stop", path, "--json").json["changed"] is False
    status = aqueue("status", path)
    assert status.code == 3
    assert re.search(rf"In force +paused {TIME} by {WHO}\n", status.out)
    assert re.search(rf"\n +2 workers, set {TIME} by {WHO} \(program: 4\)\n", status.out)
    tail = aqueue("tail", path, "-n", "20").out
    assert re.search(rf"run paused +by {WHO} via command", tail)
    assert tail.count("run edited") == 3


def test_answer_as_json_has_every_field(aqueue: Aqueue, live: Path) -> None:
    """For scripts: no field is left out, whatever its value."""
    answer = aqueue("limit", live, "nobody", "--concurrent", 2, "--json").json
    assert answer["changed"] is answer["is_live"] is True
    assert answer["is_known"] is False
    assert answer["groups"].keys() <= {"a.example", "b.example\x1b[2J"}
    assert list(answer) == [
        *("changed", "is_live", "is_stopping", "running", "since", "by", "num_workers"),
        *("concurrent", "per_second", "is_known", "groups", "reason", "count", "others"),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("limit", "a"), "give --concurrent N, --per-second R or both; or --none; or --default"),
        (("limit", "a", "--none", "--default"), "give --concurrent N, --per-second R or both; or --none; or --default"),
        (
            ("limit", "a", "--none", "--concurrent", 1),
            "give --concurrent N, --per-second R or both; or --none; or --default",
        ),
        (("limit", "a", "--concurrent", 0), "'0' is not a whole number (1 or more)"),
        (("limit", "a", "--per-second", "0"), "0.0 is not in the range x>0"),
        (("limit", "a", "--per-second", "nan"), "Limit(per_second=…) is nan"),
        (("limit", "a", "--per-second", "inf"), "Limit(per_second=…) is inf"),
        (("workers", 0), "'0' is not a whole number (1 to 1000000)"),
        (("workers", "many"), "'many' is not a whole number"),
    ],
)
def test_wrong_arguments_reach_no_run(aqueue: Aqueue, tmp_path: Path, words: tuple[Any, ...], said: str) -> None:
    """The exit code is 2, and the line says what is allowed."""
    done = aqueue(words[0], tmp_path / "none.db", *words[1:])
    assert done.code == 2
    assert said in done.err


def test_what_can_not_be_steered_says_why(aqueue: Aqueue, tmp_path: Path, recorded: Path) -> None:
    """A missing file, a log, standard input, and the workers of a run on a cluster."""
    assert "there is no journal at" in aqueue("pause", tmp_path / "none.db").err
    assert "isn't a SQLite file, so it isn't a journal" in aqueue("pause", recorded / "run.jsonl").err
    assert "there is no journal at" in aqueue("pause", "-").err
    cluster = write_journal(tmp_path, on_a_cluster().events)
    done = aqueue("workers", cluster, 3)
    assert done.code == 2
    assert "start or stop worker processes" in done.err
