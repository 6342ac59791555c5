"""The small examples: each runs as it is, and does what its first lines say."""

import io
import re
from collections import Counter
from pathlib import Path

import pytest

from aqueue import Reporter
from aqueue.testing import ReporterSuite
from tests.examples.conftest import EXAMPLES, Run, load


def test_simple_prints_what_its_products_cost(run_example: Run) -> None:
    """The tree's reduce reaches the root: a total and a count that fit each other; progress goes elsewhere."""
    done = run_example("simple.py")
    assert done.returncode == 0, done.stderr
    match = re.fullmatch(r"(\d+) products cost (\d+\.\d\d) in total\n", done.stdout)
    assert match is not None, done.stdout
    products, total = int(match[1]), float(match[2])
    assert products >= 5 * 2 * 5
    assert 1.0 * products <= total <= 50.0 * products
    # On a pipe the progress is plain lines on stderr, without escape sequences, down to a summary of each type.
    assert "\x1b" not in done.stderr
    for name in ("Shop", "Category", "Page", "Product"):
        assert name in done.stderr


def test_priority_follows_the_cheapest_way_first(run_example: Run) -> None:
    """Items leave the queue by their order, also those that are enqueued while it is being worked off."""
    done = run_example("priority.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "  0  Ash",
        "  2  Ash > Cedar",
        "  5  Ash > Cedar > Birch",
        "  8  Ash > Cedar > Birch > Fir",
        "  9  Ash > Cedar > Birch > Fir > Dogwood",
        " 10  Ash > Cedar > Birch > Fir > Dogwood > Elm",
    ]


def test_custom_reporter_prints_milestones(run_example: Run) -> None:
    """A reporter of four members is told of the start, of each quarter, and of the end."""
    done = run_example("custom_reporter.py")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "started with 5 workers"
    shares = [int(match[1]) for line in lines if (match := re.fullmatch(r"(\d+) %: \d+ of 100", line))]
    assert shares == sorted(set(shares))
    assert shares[-1] == 100
    assert re.fullmatch(r"completed after \d+\.\d s", lines[-1])


def test_asyncio_libraries_work(run_example: Run) -> None:
    """With the asyncio backend, items use asyncio's streams and threads, and a server from `lifespan`."""
    done = run_example("asyncio_libraries.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "5 keys, 160 bytes\n"


def test_cluster_counts_words_in_worker_processes(run_example: Run) -> None:
    """What worker processes have counted is added up here, and is what one process counts."""
    done = run_example("cluster.py")
    assert done.returncode == 0, done.stderr
    example = load("cluster")
    books = range(example.SHELVES * example.BOOKS_ON_A_SHELF)
    words = Counter(word for book in books for word in example.made_up_text(book).split())
    *lines, last = done.stdout.splitlines()
    assert lines == [f"{count:7,} {word}" for word, count in words.most_common(3)]
    assert last in {"counted by 1 worker process", "counted by 2 worker processes"}


class TestMilestoneReporter(ReporterSuite):
    """The custom reporter stands whatever a reporter must stand."""

    def make_reporter(self) -> Reporter:
        self.stream = io.StringIO()
        reporter: Reporter = load("custom_reporter").MilestoneReporter(self.stream)
        return reporter

    def output(self) -> bytes:
        return self.stream.getvalue().encode()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: str(path.name))
def test_each_example_says_how_to_run_it(path: Path) -> None:
    """The first lines of an example tell what it shows and give its command; importing it runs nothing."""
    text = load(path.stem).__doc__
    assert text is not None
    if path.stem not in {"standard_library", "web_page", "link_report"}:
        assert f"python examples/{path.name}" in text
