"""What other tools cost beside aqueue and a hand-written loop."""

import tempfile
from functools import partial
from pathlib import Path

from tests.benchmarks.figure import Figure, Part
from tests.benchmarks.measuring import recorded, run_job

PAGES = 2_000


def crawl_ratio(tool: str, folder: Path) -> tuple[float, float]:
    """Return the ratio of the CPU times of a crawl with `tool` and with the loop, and the latter's a page in milliseconds.

    The tool comes first, so that one that is missing costs no crawl.
    """
    cpu_s = []
    for one in (tool, "loop"):
        with tempfile.TemporaryDirectory(dir=folder) as files:
            cpu_s.append(run_job(one, str(PAGES), files, program="crawl.py")["cpu_s"])
    theirs_s, base_s = cpu_s
    return theirs_s / base_s, base_s / PAGES * 1e3


def task_ratio(library: str, others_count: int, journal: bool, folder: Path) -> tuple[float, float]:
    """Return how many times as long `library` takes for an item, and our cost an item in microseconds."""
    count = 1_000_000
    with tempfile.TemporaryDirectory(dir=folder) as theirs:
        others_s = run_job(library, str(others_count), theirs, program="others.py")["wall_s"] / others_count
    ours_s = recorded("leaves", count, *([folder / "run.db"] if journal else []))["wall_s"] / count
    return others_s / ours_s, ours_s * 1e6


CRAWLS = Part(
    "Against others: a crawl",
    "Each tool crawls a site of 2,000 pages of 4 kB, with 20 children per page and 16 requests at a time. The"
    " server is on the same machine, in its own process, which takes less than a tenth of a core. Every tool finds"
    " the links with the same regular expression and has a set of visited URLs; delays, robots.txt and logs are"
    " off. The figures compare the CPU time of the crawling process, with all its threads: when the network is the"
    " bottleneck, this shows how much of a core a tool leaves for other work. Waiting for the disk is not included.\n"
    "\n"
    "An HTTP request is most of the cost of a page, and the tools use different clients: the loop and aqueue use"
    " httpx, Scrapy uses Twisted, and Crawlee's `HttpCrawler` uses impit, which is written in Rust. The figures"
    " therefore compare the tools as they come, and not only their queues. Scrapy and Crawlee also do more per"
    " page: middlewares, sessions, statistics. What they keep on disk differs, too: Scrapy's `JOBDIR` is for a"
    " crawl that is stopped cleanly, while a journal and Crawlee's storage are written all the time.",
    (
        Figure(
            "2,000 pages, aqueue / loop",
            partial(crawl_ratio, "aqueue"),
            1.3,
            seconds=7,
            base_unit="ms of CPU a page",
        ),
        Figure(
            "2,000 pages, aqueue with a journal / loop",
            partial(crawl_ratio, "aqueue-journal"),
            1.5,
            seconds=7,
            base_unit="ms of CPU a page",
        ),
        *(
            Figure(
                f"2,000 pages, {name} / loop",
                partial(crawl_ratio, tool),
                None,
                seconds,
                base_unit="ms of CPU a page",
            )
            for name, tool, seconds in (
                ("Scrapy", "scrapy", 9),
                ("Scrapy with JOBDIR", "scrapy-jobdir", 10),
                ("Crawlee in memory", "crawlee", 7),
                ("Crawlee on disk", "crawlee-disk", 13),
            )
        ),
    ),
)

TASKS = Part(
    "Against others: a task that does nothing",
    "How many times as long a no-op task takes as an item that only sets a description. The durable queues use"
    " SQLite with their own defaults, and are compared with an item with a journal. Celery has its broker in memory"
    " and one solo worker, in one process, and is compared with an item without a journal. A real deployment has a"
    " separate broker, Redis or RabbitMQ, and many workers, so this figure shows what a task costs Celery itself,"
    " and not how many tasks a deployment runs per second.",
    (
        *(
            Figure(
                f"{name} / an item with a journal",
                partial(task_ratio, module, 2_000, True),
                30,
                seconds,
                base_unit="µs an item of ours",
                at_least=True,
            )
            for name, module, seconds in (
                ("huey, SqliteHuey", "huey", 14),
                ("persist-queue, SQLiteAckQueue", "persistqueue", 18),
                ("DBOS, a step on SQLite", "dbos", 20),
            )
        ),
        Figure(
            "Celery, in-memory broker, solo worker / an item",
            partial(task_ratio, "celery", 10_000, False),
            None,
            seconds=12,
            base_unit="µs an item of ours",
        ),
    ),
)
