"""``aqueue items``: the items of a run by state, type and duration; the list itself is `cli._lists`."""

from pathlib import Path

import pytest

from tests.cli import job
from tests.cli.conftest import Aqueue
from tests.cli.scripted import Script, write_journal, write_log


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
        (["2", "3", "--type", "Category"], {"books", "games"}),
        (["--key", "b*"], {"books"}),
        (["--text", "book", "--type", "Category"], {"books"}),
        (["--error", "Value*"], {None}),
        (["--error", "tests.*"], set()),
        (["--subtree", "2", "--type", "Category"], {"books"}),
        (["--group", "none"], set()),
        (["--state", "outstanding"], set()),
    ],
)
def test_filters_choose_items(aqueue: Aqueue, file: Path, filters: list[str], expected: set[str | None]) -> None:
    """A class may be named with or without its module, and several times; filters narrow each other. See `cli._selector`."""
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
    """Those that took longest in their last round, and those that still run by what they have taken."""
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


def test_what_an_item_took_is_its_process_and_its_hook(aqueue: Aqueue, tmp_path: Path) -> None:
    """Of a hook that ran for 10 ms after 1.5 s of process, and of one that still runs."""
    script = Script(age_s=4.0)
    for _ in range(2):
        item = script.enqueue(hook=True)
        script.start(item)
        script.complete(item, duration=1.5)
        script.start(item, phase="after_children")
        if item == 1:  # each event comes 10 ms after the one before
            script.end_hook(item)
    path = write_log(tmp_path, script.events)
    ended, running = aqueue("items", path, "--json").json_lines

    assert ended["duration_s"] == pytest.approx(1.51, abs=0.001)
    assert running["duration_s"] > 1.5 + 3.0


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
    assert done.out.endswith("  10 more; use --all to see them\n")
    assert numbers(aqueue("items", path, "--limit", 60).out) == list(range(1, 61))
    assert numbers(aqueue("items", path, "--all").out) == list(range(1, 61))
    assert len(aqueue("items", path, "--json").json_lines) == 60
    assert len(aqueue("items", path, "--json", "-n", 3).json_lines) == 3
