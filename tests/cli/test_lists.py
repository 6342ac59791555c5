"""``aqueue items`` and ``aqueue failures``: items by state, type and duration, and what failed."""

from pathlib import Path

import pytest

from aqueue.text import visible
from tests.cli import job
from tests.cli.conftest import Aqueue
from tests.cli.scripted import HOSTILE_HOST, Script, on_a_cluster, write_journal, write_log


def numbers(out: str) -> list[int]:
    """Return the item numbers in a printed table."""
    return [int(words[0]) for line in out.splitlines() if (words := line.split()) and words[0].isdecimal()]


def test_items_are_listed_in_the_order_of_enqueue(aqueue: Aqueue, file: Path) -> None:
    """Each with its number, class, state, what it was at, and why it failed."""
    done = aqueue("items", file)

    assert (done.code, done.err) == (0, "")
    assert numbers(done.out) == list(range(1, job.NUM_ITEMS + 1))
    [failed] = [line for line in done.out.splitlines() if " failed " in line]
    assert "ValueError: =no price\\x1b[2J  games 3" in failed


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["--type", "Category"], {"books", "games"}),
        (["--type", "tests.cli.job:Category", "--type", "Front"], {"books", "games", None}),
        (["--state", "failed", "--type", "Product"], {None}),
    ],
)
def test_filters_choose_by_type_and_state(
    aqueue: Aqueue, file: Path, filters: list[str], expected: set[str | None]
) -> None:
    """A class may be named with or without its module, and several times; filters narrow each other."""
    assert {one["key"] for one in aqueue("items", file, "--json", *filters).json_lines} == expected


def test_json_tells_all_of_an_item(aqueue: Aqueue, file: Path) -> None:
    """Numbers, times, attempts and texts come as they were recorded."""
    [book] = [one for one in aqueue("items", file, "--json").json_lines if one["description"] == "books 1"]

    assert (book["state"], book["attempts"], book["error"]) == ("completed", 2, None)
    assert book["enqueued_at"] <= book["started_at"] <= book["ended_at"]
    assert book["duration_s"] == pytest.approx(book["ended_at"] - book["started_at"], abs=1e-4)
    [category] = [one for one in aqueue("items", file, "--json").json_lines if one["key"] == "books"]
    assert category["item"] == book["parent"]


def test_the_slowest_come_first(aqueue: Aqueue, tmp_path: Path) -> None:
    """Those whose last attempt took longest, and those that still run by what they have taken."""
    script = Script(age_s=31.0)
    for wait_s in (1.0, 7.0, 3.0):
        item = script.enqueue()
        script.start(item)
        script.wait(wait_s)
        script.complete(item, duration=wait_s)
    script.start(script.enqueue(), worker=2)
    path = write_log(tmp_path, script.events)

    assert numbers(aqueue("items", path, "--slowest", 3).out) == [4, 2, 3]
    assert numbers(aqueue("items", path, "--slowest", 1, "--state", "completed").out) == [2]


def test_each_state_is_found(aqueue: Aqueue, tmp_path: Path) -> None:
    """Queued, running, retrying, interrupted, completed and failed; outstanding are the first four."""
    script = Script(host=None, pid=None)
    for _ in range(6):
        script.enqueue()
    script.start(2)
    script.start(3, worker=2)
    script.fail_for_now(3, due_in_s=60.0, worker=2)
    script.start(4, worker=2)
    script.interrupt(4)
    script.start(5, worker=3)
    script.complete(5, worker=3)
    script.start(6, worker=3)
    script.fail_now(6, worker=3)
    path = write_log(tmp_path, script.events)

    states = ("queued", "running", "retrying", "interrupted", "completed", "failed")
    assert [numbers(aqueue("items", path, "--state", state).out) for state in states] == [[1], [2], [3], [4], [5], [6]]
    assert numbers(aqueue("items", path, "--state", "outstanding").out) == [1, 2, 3, 4]


def test_a_long_list_is_cut_and_says_how_to_see_all(aqueue: Aqueue, tmp_path: Path) -> None:
    """A person gets 50 rows and the option for more; a program gets all."""
    script = Script()
    for _ in range(60):
        script.enqueue()
    path = write_journal(tmp_path, script.events)
    done = aqueue("items", path)

    assert numbers(done.out)[:-1] == list(range(1, 51))
    assert done.out.endswith("  10 more: --limit 60 shows all\n")
    assert numbers(aqueue("items", path, "--limit", 60).out) == list(range(1, 61))
    assert len(aqueue("items", path, "--json").json_lines) == 60
    assert len(aqueue("items", path, "--json", "-n", 3).json_lines) == 3


@pytest.mark.parametrize("command", ["items", "failures", "results", "tail"])
def test_an_unknown_type_is_an_error_that_names_the_known_ones(aqueue: Aqueue, file: Path, command: str) -> None:
    """A misspelt class doesn't look like an empty list, whichever the subcommand."""
    done = aqueue(command, file, "--type", "NoSuchClass")

    assert (done.code, done.out) == (2, "")
    assert "no items of a type 'NoSuchClass'" in done.err
    assert "tests.cli.job:Product" in done.err


def test_failures_are_told_by_kind_and_one_by_one(aqueue: Aqueue, file: Path) -> None:
    """How many of each kind and where in the user's code; then each item with its message."""
    done = aqueue("failures", file)

    assert done.code == 0
    assert "1  Product  ValueError" in done.out
    assert "job.py:" in done.out
    assert "ValueError: =no price\\x1b[2J" in done.out
    assert "\x1b" not in done.out


def test_tracebacks_are_whole_and_safe(aqueue: Aqueue, file: Path) -> None:
    """Each line of the traceback is a line, and nothing in it reaches the terminal raw."""
    out = aqueue("failures", file, "--tracebacks").out

    assert "  Traceback (most recent call last):" in out.splitlines()
    assert "  ValueError: =no price\\x1b[2J" in out.splitlines()
    assert "\x1b" not in out


def test_failures_and_items_of_a_cluster_say_where_they_ran(aqueue: Aqueue, tmp_path: Path) -> None:
    """Host and number of the worker process; of an item that ran again, the last one."""
    path = write_log(tmp_path, on_a_cluster().events)
    [failure] = aqueue("failures", path, "--json").json_lines
    items = aqueue("items", path, "--json").json_lines

    assert (failure["item"], failure["worker"], failure["host"], failure["pid"]) == (4, 4, HOSTILE_HOST, 11)
    assert f", on {visible(HOSTILE_HOST)}:11" in aqueue("failures", path, "--tracebacks").out
    assert [(one["item"], one["host"], one["pid"]) for one in items] == [
        (1, HOSTILE_HOST, 11),
        (2, HOSTILE_HOST, 11),
        (3, "lost.example", 10),
        (4, HOSTILE_HOST, 11),
    ]


def test_failed_hook_of_a_cluster_ran_in_no_worker_process(aqueue: Aqueue, tmp_path: Path) -> None:
    """Hooks run in the run's own process, whatever worker they belong to."""
    script = on_a_cluster()
    script.fail_now(2, worker=3, phase="after_children")
    path = write_log(tmp_path, script.events)

    assert [(one["item"], one["host"]) for one in aqueue("failures", path, "--json").json_lines] == [
        (2, None),
        (4, HOSTILE_HOST),
    ]


def test_without_a_cluster_nothing_ran_elsewhere(aqueue: Aqueue, file: Path) -> None:
    """There is no worker process to name."""
    assert {(one["host"], one["pid"]) for one in aqueue("items", file, "--json").json_lines} == {(None, None)}
    assert {(one["host"], one["pid"]) for one in aqueue("failures", file, "--json").json_lines} == {(None, None)}


def test_failures_that_were_taken_up_again_are_gone(aqueue: Aqueue, tmp_path: Path) -> None:
    """An item that a resumed run has taken up again is no failure, by kind as well as one by one."""
    script = Script()
    for _ in range(2):
        script.start(script.enqueue())
        script.fail_now(script.last_item)
    script.finish("failed")
    script.resume()
    script.reopen(1)
    path = write_journal(tmp_path, script.events)
    done = aqueue("failures", path)

    assert done.out.splitlines()[2].split()[:2] == ["1", "Page"]
    assert [one["item"] for one in aqueue("failures", path, "--json").json_lines] == [2]


def test_nothing_failed_is_said(aqueue: Aqueue, tmp_path: Path) -> None:
    """An empty list says that it is empty."""
    script = Script()
    script.enqueue()

    assert aqueue("failures", write_log(tmp_path, script.events)).out == "  nothing has failed\n"
