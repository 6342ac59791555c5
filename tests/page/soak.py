"""Watch a fast run in a browser for an hour; then scroll and filter its items. Neither side's memory may grow.

``python -m tests.page.soak --seconds 3600``, or `make page-soak`. The run makes 10,000 events per second, and one page of
500 fails, in 40 kinds. A browser shows its figures all the time, another one the list of its items. Once a minute the
soak notes what the server and the two pages need. In an hour there are 9,000,000 items, and a journal and an index of 10 GB
where temporary files go.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import psutil

from tests.browser import chromium
from tests.page.job import VARIED
from tests.page.serving import Run, Server
from tests.page.test_browser import Visit

_FEED: Final[dict[str, Any]] = {"pace_s": 0.02, "takes_s": 0.03, "batch": 50, "groups": 3, "fails_of": 500}
_SETTLED: Final = 0.2
"""The part of the time after which memory must not grow any more."""
_SERVER_MARGIN_MB: Final = 25.0
"""How much larger the server may be in the end: SQLite's cache of the index, and arenas of the allocator."""
_SERVER_BYTES_PER_ITEM: Final = 6.0
"""Its two readers of the journal know the state of each item, in two bytes, to notice events that can't be."""
_HEAP_MARGIN_MB: Final = 2.0
_NODES_MARGIN: Final = 300
_SIZE: Final = "document.querySelectorAll('*').length"
_LISTED: Final = "document.querySelector('#listing tbody tr, #listing .nothing') && !document.querySelector('.lag')"
_SEARCHED: Final = f"{_LISTED} && !/are searched/.test(document.querySelector('#listing').innerText)"


class Sample(NamedTuple):
    """What was needed at one time.

    Attributes:
        completed: how many items had completed.
        server_mb: the memory of the server.
        heap_mb, nodes, updates: of each page, JavaScript's heap, the nodes of the DOM, and how many updates it has had.
    """

    completed: int
    server_mb: float
    heap_mb: tuple[float, ...]
    nodes: tuple[int, ...]
    updates: tuple[int, ...]

    def __str__(self) -> str:
        pages = zip(("now", "items"), self.heap_mb, self.nodes, self.updates, strict=True)
        return f"{self.completed:10,} completed; server {self.server_mb:.0f} MB; " + "; ".join(
            f"{name} {heap:.1f} MB, {nodes} nodes, {updates} updates" for name, heap, nodes, updates in pages
        )


def sample(server: Server, visits: Sequence[Visit]) -> Sample:
    """Take a sample of a server and of pages, the first of which shows the figures."""
    found = []
    for visit in visits:
        metrics = visit.metrics()
        found.append((metrics["JSHeapUsedSize"] / 1e6, int(metrics["Nodes"]), int(visit.js("seen.messages"))))
    completed = visits[0].js("figure('Completed')")
    return Sample(completed, psutil.Process(server.process.pid).memory_info().rss / 1e6, *zip(*found, strict=True))


def check_flat(samples: Sequence[Sample]) -> None:
    """See that what is needed in the last fifth is what was needed in the second, and that both pages were updated.

    What the server needs for each item doesn't count.
    """
    needs = {
        "server without its items, MB": (
            [one.server_mb - one.completed * _SERVER_BYTES_PER_ITEM / 1e6 for one in samples],
            _SERVER_MARGIN_MB,
        )
    }
    fifth = int(len(samples) * _SETTLED)
    assert fifth, "there were too few samples"
    for number, name in enumerate(("now", "items")):
        needs[f"page {name}, MB"] = [one.heap_mb[number] for one in samples], _HEAP_MARGIN_MB
        needs[f"page {name}, nodes"] = [one.nodes[number] for one in samples], _NODES_MARGIN
        updates = [one.updates[number] for one in samples]
        assert all(after > before for before, after in pairwise(updates)), f"page {name} stood still"
    for what, (values, margin) in needs.items():
        then, now = max(values[fifth : 2 * fifth]), max(values[-fifth:])
        print(f"{what}: {then:,.1f} -> {now:,.1f}")
        assert now <= then + margin, f"{what} grows"


def check_lists(visit: Visit, num_items: int) -> None:
    """Scroll and filter the items as a person does; print how long each step takes until its rows are there."""
    visit.page.goto(visit.page.url.partition("/items")[0] + "/items")
    visit.until(_LISTED)
    most = visit.js(_SIZE) + 300

    def timed(step: Callable[..., object], *arguments: object) -> float:
        began = time.monotonic()
        step(*arguments)
        visit.until(_LISTED)
        assert visit.js(_SIZE) < most, "the page grows"
        return (time.monotonic() - began) * 1e3

    def click() -> None:
        with visit.page.expect_navigation():
            visit.page.get_by_role("link", name="Next 100").click()

    def search(words: str) -> None:
        visit.page.locator("#q").fill(words)
        with visit.page.expect_navigation():
            visit.press("Enter")

    clicks = [timed(click) for _ in range(30)]
    print(f"next 100 items: {median(clicks):.0f} ms, at most {max(clicks):.0f} ms")
    jumps = [timed(visit.open, f"/items?start={number}") for number in range(1, num_items, num_items // 20 + 1)]
    print(f"100 items anywhere: {median(jumps):.0f} ms, at most {max(jumps):.0f} ms")
    for words in ("state:failed", 'group:"group 1" state:completed', "type:Feed", "777777", "lighthouse"):
        first = timed(search, words)
        visit.until(_SEARCHED)
        print(f"{words}: {first:.0f} ms until rows are there; {visit.text('#listing-title')}")


def main(seconds: float) -> None:
    """Watch, and look; fail if anything grows or stands still."""
    with TemporaryDirectory() as folder, chromium() as browser:
        os.environ["XDG_CACHE_HOME"] = folder
        journal = Path(folder, "run.db")
        with (
            Run(journal, workers=200, fails=VARIED, **_FEED) as run,
            Server(journal) as server,
            Visit(browser, server) as now,
            Visit(browser, server, "/items") as items,
        ):
            began = time.monotonic()
            now.until("figure('Completed') > 1000")
            samples: list[Sample] = []
            while (passed_s := time.monotonic() - began) < seconds:
                samples.append(sample(server, (now, items)))
                print(f"{passed_s:6.0f} s  {samples[-1]}", flush=True)
                time.sleep(min(60.0, seconds / 20))
            check_flat(samples)
            run.kill()
            now.until_says("Process gone")
            num_items = now.js("figure('Completed')")
            check_lists(items, num_items)
            assert now.messages == items.messages == []


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long the run is watched (default 3600)")
    main(parser.parse_args().seconds)
