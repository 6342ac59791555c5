"""Crawls a site on this machine once with one tool, in this process, and prints what it cost as one JSON object.

    python crawl.py loop 2000 folder/            # the hand-written loop with httpx
    python crawl.py aqueue 2000 folder/          # aqueue with httpx
    python crawl.py aqueue-journal 2000 folder/  # the same, recorded
    python crawl.py scrapy 2000 folder/          # its own HTTP client, Twisted's; its queue is in memory
    python crawl.py scrapy-jobdir 2000 folder/   # the same, its queue on disk
    python crawl.py crawlee 2000 folder/         # its HttpCrawler with its own HTTP client, impit; storage in memory
    python crawl.py crawlee-disk 2000 folder/    # the same, its storage on disk

Every tool starts at page 0 of `pages_server.py`, which is in a process of its own, has 16 requests under way at a time,
finds the links by the same regular expression, and gets each page once, by a visited set. Delays, robots.txt, logs and
consoles are switched off, everything else is as the tool comes. What is timed is the run from its start to its end,
without imports, but for what Scrapy loads only when it starts: a quarter of a second.

An HTTP request is most of what a page costs, and the HTTP clients differ: so this compares the tools as they are used,
not their queues alone. Nor do the tools do the same: Scrapy and Crawlee pass each page through their middlewares,
sessions and statistics; Scrapy's queue on disk is for a crawl that is ended properly, while a journal and Crawlee's
storage are written as they go.

If a library is missing, this exits with 3. If not every page was got exactly once, it fails.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import trio

import aqueue
from hand_written_loop import hand_written_loop
from others import MISSING

CONCURRENT = 16
LINK = re.compile(rb'<a href="([^"]+)"')

MODULES = {
    "scrapy": ("crawler",),
    "crawlee": ("configuration", "crawlers", "storage_clients"),
}

got: list[str] = []  # the URLs of all pages, in the order in which they came


def links(url: str, body: bytes) -> list[str]:
    """Note that a page was got, and return the URLs that it links to."""
    got.append(url)
    return [urljoin(url, link.decode()) for link in LINK.findall(body)]


def client() -> httpx.AsyncClient:
    """Make the client of the loop and of aqueue."""
    return httpx.AsyncClient()


class Page(aqueue.Item):
    """A page, for aqueue: `key` is the visited set."""

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def key(self) -> str:
        return self.url

    async def process(self, enqueue: aqueue.EnqueueFn, set_desc: aqueue.SetDescFn) -> None:
        set_desc(self.url)
        response = await aqueue.shared().get(self.url)
        for url in links(self.url, response.content):
            enqueue(Page(url))


def crawl_by_aqueue(start: str, journal: Path | None = None) -> None:
    """Crawl with aqueue."""
    aqueue.run_queue([Page(start)], num_workers=CONCURRENT, reporter="none", lifespan=client, journal=journal)


class LoopPage:
    """A page, for the hand-written loop, with a visited set of its own."""

    def __init__(self, url: str, http: httpx.AsyncClient, seen: set[str]) -> None:
        self.url = url
        self.http = http
        self.seen = seen

    async def process(self, enqueue: Callable[[Any], None], set_desc: Callable[[str], None]) -> None:
        set_desc(self.url)
        response = await self.http.get(self.url)
        for url in links(self.url, response.content):
            if url not in self.seen:
                self.seen.add(url)
                enqueue(LoopPage(url, self.http, self.seen))


def crawl_by_loop(start: str) -> None:
    """Crawl with the hand-written loop."""

    async def crawl() -> None:
        async with client() as http:
            await hand_written_loop([LoopPage(start, http, {start})], CONCURRENT)

    trio.run(crawl)


def crawl_by_scrapy(start: str, **settings: Any) -> None:
    """Crawl with Scrapy."""
    scrapy: Any = import_module("scrapy")
    process: Any = import_module("scrapy.crawler").CrawlerProcess(
        {
            "AUTOTHROTTLE_ENABLED": False,
            "CONCURRENT_REQUESTS": CONCURRENT,
            "CONCURRENT_REQUESTS_PER_DOMAIN": CONCURRENT,
            "DOWNLOAD_DELAY": 0,
            "LOG_ENABLED": False,
            "LOG_INSTALL_ROOT_HANDLER": False,
            "ROBOTSTXT_OBEY": False,
            "TELNETCONSOLE_ENABLED": False,
            **settings,
        }
    )

    class Pages(scrapy.Spider):  # type: ignore[misc]
        name = "pages"

        async def start(self) -> AsyncGenerator[Any, None]:
            yield scrapy.Request(start)  # of those in `start_urls` it would not note that they were visited

        def parse(self, response: Any) -> Iterator[Any]:
            for url in links(response.url, response.body):
                yield scrapy.Request(url)

    process.crawl(Pages)
    process.start()


def crawl_by_crawlee(start: str, folder: Path | None = None) -> None:
    """Crawl with Crawlee's HttpCrawler, its storage in `folder` or in memory."""
    library: Any = import_module("crawlee")
    crawlers: Any = import_module("crawlee.crawlers")
    storage: Any = import_module("crawlee.storage_clients")
    configuration: Any = import_module("crawlee.configuration").Configuration

    async def crawl() -> None:
        crawler = crawlers.HttpCrawler(
            concurrency_settings=library.ConcurrencySettings(
                min_concurrency=CONCURRENT, desired_concurrency=CONCURRENT, max_concurrency=CONCURRENT
            ),
            configuration=configuration(storage_dir=str(folder or "storage"), log_level="ERROR"),
            configure_logging=False,
            storage_client=storage.FileSystemStorageClient() if folder else storage.MemoryStorageClient(),
        )

        @crawler.router.default_handler  # type: ignore[untyped-decorator]
        async def handle(context: Any) -> None:
            await context.add_requests(links(context.request.url, await context.http_response.read()))

        await crawler.run([start])

    import_module("logging").disable()
    asyncio.run(crawl())


TOOLS: dict[str, Callable[[str, Path], None]] = {
    "loop": lambda start, folder: crawl_by_loop(start),
    "aqueue": lambda start, folder: crawl_by_aqueue(start),
    "aqueue-journal": lambda start, folder: crawl_by_aqueue(start, folder / "crawl.db"),
    "scrapy": lambda start, folder: crawl_by_scrapy(start),
    "scrapy-jobdir": lambda start, folder: crawl_by_scrapy(start, JOBDIR=str(folder / "job")),
    "crawlee": lambda start, folder: crawl_by_crawlee(start),
    "crawlee-disk": lambda start, folder: crawl_by_crawlee(start, folder / "storage"),
}


@contextmanager
def site(count: int) -> Iterator[tuple[str, Callable[[], float]]]:
    """Serve a site of `count` pages; give the URL of its first page, and what ends it and tells its CPU time."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "pages_server.py"), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        try:
            yield (
                f"http://127.0.0.1:{server.stdout.readline().strip()}/page/0",
                lambda: float(server.communicate()[0]),
            )
        finally:
            server.kill()


def load(library: str) -> None:
    """Import what the crawl would else import while it is timed; exit if the library is missing."""
    try:
        if library in MODULES:
            import_module(library)
    except ImportError:
        sys.exit(MISSING)
    for module in MODULES.get(library, ()):
        import_module(f"{library}.{module}")


def main() -> None:
    """Crawl with the tool that the command line names."""
    tool, count, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]  # the site is on this machine
    load(tool.partition("-")[0])
    with site(count) as (start, end):
        cpu_s = time.process_time()
        began = time.perf_counter()
        TOOLS[tool](start, folder)
        wall_s = time.perf_counter() - began
        cpu_s = time.process_time() - cpu_s
        server_cpu_s = end()
    if len(got) != count or len(set(got)) != count:
        sys.exit(f"{tool} got {len(set(got))} of {count} pages, {len(got)} in all")
    print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s, "server_cpu_s": server_cpu_s}))


if __name__ == "__main__":
    main()
