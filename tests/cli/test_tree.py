"""``aqueue tree``: the items as a tree, with counts, folded where it is large.

The counts below each item are `_folds.tree_shape`.
"""

from pathlib import Path

import pytest

from tests.cli.conftest import Aqueue
from tests.cli.scripted import Script, write_journal, write_log


def test_the_tree_has_each_item_below_its_parent(aqueue: Aqueue, file: Path) -> None:
    """From the initial items down, with states, texts and counts of what is below."""
    lines = aqueue("tree", file).out.splitlines()

    assert lines[0].endswith("run" + file.suffix + "  11 in total: 10 completed, 1 failed")
    assert lines[1] == "└── Front 1 completed  the front page  10 below: 9 completed, 1 failed"
    assert lines[2] == "    ├── Category 2 completed  category books  4 below: 4 completed"
    assert "Product" in lines[3]
    assert lines[3].startswith("    │   ├── ")
    [failed] = [line for line in lines if "failed ValueError" in line]
    assert failed.startswith("        └── ")


def test_depth_cuts_and_says_what_is_below(aqueue: Aqueue, file: Path) -> None:
    """What is deeper is counted."""
    lines = aqueue("tree", file, "--depth", 1).out.splitlines()

    assert len(lines) == 4
    assert lines[3] == "    └── Category 3 completed  category games  … 4 below: 3 completed, 1 failed"


def test_one_item_can_be_the_top(aqueue: Aqueue, file: Path) -> None:
    """ITEM shows the subtree below it."""
    lines = aqueue("tree", file, 3).out.splitlines()

    assert lines[0].startswith("Category 3 completed  category games  4 below")
    assert len(lines) == 5


def test_many_siblings_are_folded_but_failures_are_shown(aqueue: Aqueue, tmp_path: Path) -> None:
    """Of 1,000 children ten lines are left, among them the one that failed and the one that runs; sums are exact."""
    script = Script()
    root = script.enqueue("module:Root")
    script.start(root, "module:Root")
    for _ in range(1_000):
        script.enqueue(parent=root)
    script.complete(root)
    for item in range(2, 500):
        script.start(item)
        script.complete(item)
    script.start(700)
    script.fail_now(700)
    script.finish("failed")
    lines = aqueue("tree", write_journal(tmp_path, script.events)).out.splitlines()

    assert len(lines) == 1 + 1 + 10 + 1
    assert "Page 700 failed" in lines[-2]
    assert lines[-1] == "    └── +990 Page  498 completed, 492 outstanding"


def test_a_wide_tree_is_short_unless_more_is_asked_for(aqueue: Aqueue, tmp_path: Path) -> None:
    """10 branches of 10 have at most 24 lines; --all, --depth and --width show more."""
    script = Script()
    for root in [script.enqueue("module:Root") for _ in range(10)]:
        for _ in range(10):
            script.enqueue(parent=root)
    path = write_journal(tmp_path, script.events)
    assert len(aqueue("tree", path).out.splitlines()) == 1 + 10 + 10
    for more in (["--all"], ["--depth", "3"], ["--width", "10"]):
        assert len(aqueue("tree", path, *more).out.splitlines()) == 1 + 10 + 100, more


def test_a_short_tree_opens_what_has_failures(aqueue: Aqueue, tmp_path: Path) -> None:
    """Of 10 branches of 30 pages three have failed, running or outstanding ones: these are opened, down to those pages."""
    script = Script()
    site = script.enqueue("module:Site")
    for branch in [script.enqueue("module:Branch", parent=site) for _ in range(10)]:
        script.start(branch, "module:Branch")
        for number in range(30):
            page = script.enqueue(parent=branch)
            if (branch, number) == (5, 7):
                continue
            script.start(page, worker=3 if (branch, number) == (7, 7) else 2)
            if (branch, number) == (9, 7):
                script.fail_now(page, worker=2)
            elif (branch, number) != (7, 7):
                script.complete(page, worker=2)
        script.complete(branch)
    path = write_journal(tmp_path, script.events)
    lines = aqueue("tree", path).out.splitlines()

    assert len(lines) <= 24
    shown = "\n".join(lines)
    for state in ("failed Boom: it broke", "running", "queued"):
        assert f" {state}\n" in shown, state
    assert "29 completed" in shown


def test_json_nests_the_same(aqueue: Aqueue, file: Path) -> None:
    """A program gets the items shown, and the sums of those folded."""
    tree = aqueue("tree", file, "--json", "--width", 1).json

    assert tree["below"] == {"total": 11, "completed": 10, "failed": 1, "skipped": 0}
    [front] = tree["children"]
    assert (front["item"], front["error"], [child["item"] for child in front["children"]]) == (1, None, [3])
    category = {"type": "tests.cli.job:Category", "count": 1, "completed": 1, "failed": 0, "skipped": 0, "below": 4}
    assert front["folded"] == [category]


def test_a_chain_of_100_000_items_is_no_deeper_than_asked(aqueue: Aqueue, tmp_path: Path) -> None:
    """Depth costs no stack, and what is below the last level shown is counted."""
    script = Script()
    for item in range(100_000):
        script.enqueue(parent=item)
    lines = aqueue("tree", write_log(tmp_path, script.events), "--depth", 50).out.splitlines()

    assert len(lines) == 52
    assert lines[-1].endswith("99,949 below: 99,949 outstanding")


def test_skipped_items_are_counted_by_themselves(aqueue: Aqueue, tmp_path: Path) -> None:
    """They aren't outstanding, so a branch in which all others have completed is folded as one that has completed."""
    script = Script()
    root = script.enqueue("module:Root")
    script.start(root, "module:Root")
    pages = [script.enqueue(parent=root) for _ in range(30)]
    script.complete(root)
    for page in pages[3:]:
        script.start(page)
        script.complete(page)
    for page in pages[:2]:
        script.skip(page)
    lines = aqueue("tree", write_journal(tmp_path, script.events)).out.splitlines()

    assert lines == [
        f"{tmp_path}/run.db  31 in total: 28 completed, 2 skipped, 1 outstanding",
        "└── Root 1 completed  30 below: 27 completed, 2 skipped, 1 outstanding",
        "    ├── Page 4 queued",
        "    └── +29 Page  27 completed, 2 skipped",
    ]
    [node] = aqueue("tree", tmp_path / "run.db", "--json", "--width", 1).json["children"]
    assert (node["below"]["skipped"], node["folded"][0]["skipped"]) == (2, 2)


@pytest.mark.parametrize("command", ["tree", "explain"])
def test_an_item_that_is_not_there_is_an_error(aqueue: Aqueue, file: Path, command: str) -> None:
    """The message tells which numbers there are."""
    done = aqueue(command, file, 99)

    assert (done.code, done.out) == (2, "")
    assert "has no item 99; its items are 1 to 11" in done.err
