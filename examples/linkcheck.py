"""Check the links of a web site: which are broken, and which pages they are on.

    python examples/linkcheck.py https://example.org/                      # a table of what is broken
    python examples/linkcheck.py https://example.org/docs/ --json -        # one line of JSON per link
    python examples/linkcheck.py https://example.org/ --resume check.db    # with a journal, so that it can be resumed
    python examples/linkcheck.py --help

Every address is one item, whose `key` is the normalized address, so that it is requested only once, however often and in
whatever spelling it occurs. Its `group` is its host: no host gets more than a few requests at a time, and a host that
asks for a pause (Retry-After, or Crawl-delay in its robots.txt) gets one while the others continue. A page below the
first address is read, and its links are enqueued; other links are only checked. A redirect is a link as well: its target
is an item of its own, under the limits and the robots.txt of its own host.

A broken link is the result of its item, not a failure, so the run continues. An item raises an exception only if another
attempt may succeed and is left. The report is built from the results as they come, or from the journal.
"""

import argparse
import mimetypes
import re
import sys
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TextIO
from urllib.parse import urlsplit
from urllib.robotparser import RobotFileParser

import anyio
import httpx

from aqueue import (
    AqueueError,
    EnqueueFn,
    Item,
    ItemFailures,
    Limit,
    Retry,
    RetryAfter,
    SetDescFn,
    current,
    iter_results,
    parse_retry_after,
    run_queue,
    shared,
    slow_down,
)
from aqueue.text import visible
from link_report import Outcome, Report, tell
from web_page import decode, find_links, is_below, normalise, origin, read_robots, site_of

AGENT = "aqueue-linkcheck"
PAGE_TYPES = ("text/html", "application/xhtml+xml")
MAX_REDIRECTS = 10
MAX_PAUSE_S = 120.0  # the longest wait that a server can ask for
MAX_CRAWL_DELAY_S = 10.0
MAX_PAGE_BYTES = 5_000_000
MAX_ROBOTS_BYTES = 512_000  # the least that a crawler must read (RFC 9309)
GRACE_S = 5.0  # how long requests may take after a Ctrl-C

# --- The items ---


class Link(Item):
    """An address to check, and to read if it is a page of the site.

    The site is everything that begins with `site`, a host and a folder. The first link has no `site`: it begins its own.
    """

    track_overall = True

    def __init__(self, url: str, site: str = "", redirects: int = 0) -> None:
        self.url = url
        self.site = site
        self.redirects = redirects

    @property
    def key(self) -> str:
        return self.url

    @property
    def group(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def is_ours(self) -> bool:
        return not self.site or is_below(self.url, self.site)

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> Outcome:
        checker: Checker = shared()
        set_desc(self.url)
        try:
            outcome = await self.check(checker, enqueue)
        except (*TEMPORARY, Unreachable) as error:
            host = checker.hosts[origin(self.url)]
            if checker.retry.covers(error) and current().attempts_left and not host.refuses:
                raise
            host.refuses = host.refuses or (isinstance(error, Busy) and error.status == 429)
            outcome = self.outcome("broken", reason(error))
            if isinstance(error, Busy):
                outcome["status"] = error.status
        checker.report.add(outcome)
        return outcome

    def outcome(self, state: str, problem: str = "") -> Outcome:
        return Outcome(url=self.url, state=state, problem=problem, redirects=self.redirects)

    async def check(self, checker: "Checker", enqueue: EnqueueFn) -> Outcome:
        if not await checker.may_fetch(self.url):
            return self.outcome("skipped", "robots.txt forbids it")
        is_page = self.is_ours and mimetypes.guess_type(urlsplit(self.url).path)[0] in {None, *PAGE_TYPES}  # probably
        with anyio.fail_after(checker.options.timeout):
            response, html = await self.fetch(checker, "GET" if is_page or current().attempt > 1 else "HEAD")
        if response.has_redirect_location:
            outcome = self.redirect(checker, enqueue, response.headers["location"])
        elif not response.is_success:
            outcome = self.outcome("broken", answer(response))
        else:
            outcome = self.outcome("ok")
            if html is not None:
                site = self.site or site_of(self.url)
                outcome["links"], outcome["invalid"] = find_links(self.url, html)
                outcome["links"] = [url for url in outcome["links"] if checker.wants(url, site)]
                for url in outcome["links"]:
                    enqueue(Link(url, site))
        outcome["status"] = response.status_code
        return outcome

    async def fetch(self, checker: "Checker", method: str) -> tuple[httpx.Response, str | None]:
        """Request this address, and return the response, and its text if it is a page of the site.

        Some servers don't support HEAD or answer it wrongly, so after an error the address is requested again with GET.
        """
        async with checker.client.stream(method, self.url) as response:
            is_page = self.is_ours and response.is_success and media_type(response) in PAGE_TYPES
            if method == "GET" or not (is_page or (response.is_error and response.status_code != 429)):
                checker.raise_if_busy(self.url, response)
                if not is_page:
                    return response, None
                return response, decode(await read(response, MAX_PAGE_BYTES), response.charset_encoding)
        return await self.fetch(checker, "GET")

    def redirect(self, checker: "Checker", enqueue: EnqueueFn, location: str) -> Outcome:
        with suppress(ValueError):
            if url := normalise(location, self.url):
                if self.redirects == MAX_REDIRECTS:
                    return self.outcome("broken", f"more than {MAX_REDIRECTS} redirects")
                if self.site and not checker.wants(url, self.site):
                    return self.outcome("skipped", f"redirects to {url}, which is skipped")
                enqueue(Link(url, self.site, self.redirects + 1))
                outcome = self.outcome("redirect")
                outcome["to"] = url
                return outcome
        return self.outcome("broken", f"redirects to {visible(location, 200)}, which isn't a web address")


class Busy(RetryAfter):
    """The server can't answer now."""

    def __init__(self, wait_s: float, response: httpx.Response) -> None:
        super().__init__(wait_s)
        self.status = response.status_code
        self.answer = "robots.txt: " * (response.url.path == "/robots.txt") + answer(response)

    def __str__(self) -> str:
        return self.answer


class Unreachable(Exception):
    """A host could not be reached before, so it is not asked again."""


TEMPORARY = (httpx.RequestError, TimeoutError, Busy)  # another attempt may succeed

# --- What they share ---


@dataclass
class Host:
    """What this process knows about a scheme, host and port."""

    lock: anyio.Lock = field(default_factory=anyio.Lock)
    rules: RobotFileParser | None = None
    tries: int = 0  # to fetch the rules
    error: Exception | None = None  # of the latest try
    next_at: float = 0.0  # when its Crawl-delay will be over
    refuses: bool = False  # whether it said "too many requests" to every attempt at a link


class Checker:
    """The client, the hosts and the report."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.retry = Retry(attempts=options.retries + 1, on=TEMPORARY)
        self.hosts: defaultdict[str, Host] = defaultdict(Host)
        self.report = Report()
        self.client: httpx.AsyncClient
        self.was_opened = False

    @asynccontextmanager
    async def open(self) -> AsyncGenerator["Checker", None]:
        async with httpx.AsyncClient(
            headers={"user-agent": f"{AGENT}/1.0", "accept": "text/html,*/*;q=0.9"},
            limits=httpx.Limits(max_connections=self.options.workers),
            timeout=self.options.timeout,
        ) as self.client:
            self.was_opened = True
            yield self

    def wants(self, url: str, site: str) -> bool:
        is_external = urlsplit(url).netloc != site.partition("/")[0]
        is_excluded = any(pattern.search(url) for pattern in self.options.exclude)
        return not is_excluded and not (is_external and self.options.no_external)

    async def may_fetch(self, url: str) -> bool:
        """Return whether robots.txt allows `url`; if so, first wait for its turn."""
        if self.options.ignore_robots:
            return True
        host = self.hosts[origin(url)]
        tries = host.tries
        async with host.lock:
            if host.rules is None:
                if host.tries >= self.retry.attempts:
                    raise Unreachable(reason(host.error))
                if host.error is not None and host.tries > tries:
                    raise host.error  # another item has just tried, while this one waited for the lock
                host.tries += 1
                try:
                    host.rules = await self.fetch_rules(url)
                except TEMPORARY as error:
                    host.error = error
                    if host.tries < self.retry.attempts:
                        slow_down(urlsplit(url).netloc, self.retry.delay_s(host.tries))
                    raise
        if not host.rules.can_fetch(AGENT, url):
            return False
        if delay_s := min(float(host.rules.crawl_delay(AGENT) or 0), MAX_CRAWL_DELAY_S):
            turn = max(anyio.current_time(), host.next_at)
            host.next_at = turn + delay_s
            slow_down(urlsplit(url).netloc, host.next_at - anyio.current_time())
            await anyio.sleep_until(turn)  # now, except for items that waited for the rules
        return True

    async def fetch_rules(self, url: str) -> RobotFileParser:
        """Fetch robots.txt. If there is none (4xx), everything is allowed; if it can't be reached, nothing (RFC 9309)."""
        text = ""
        with anyio.fail_after(self.options.timeout), suppress(httpx.TooManyRedirects):
            async with self.client.stream("GET", f"{origin(url)}/robots.txt", follow_redirects=True) as response:
                self.raise_if_busy(url, response)
                if response.is_success:
                    text = (await read(response, MAX_ROBOTS_BYTES)).decode("utf-8-sig", "replace")
        return read_robots(text)

    def raise_if_busy(self, url: str, response: httpx.Response) -> None:
        """Raise if the server is too busy, and pause its group if it asks for that."""
        if response.status_code != 429 and not response.is_server_error:
            return
        asked = response.headers.get("retry-after")
        wait_s = parse_retry_after(asked, default_s=self.retry.delay_s(current().attempt), max_s=MAX_PAUSE_S)
        if asked and not self.hosts[origin(url)].refuses:
            slow_down(urlsplit(url).netloc, wait_s)
        raise Busy(wait_s, response)


# --- Answers ---


async def read(response: httpx.Response, most: int) -> bytes:
    """Return the body, its first `most` bytes if it is longer."""
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) >= most:
            break
    return bytes(body[:most])


def media_type(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


def answer(response: httpx.Response) -> str:
    return visible(f"HTTP {response.status_code} {response.reason_phrase}".strip(), 200)


def reason(error: Exception | None) -> str:
    """Return why something could not be reached, in words."""
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return "timed out"
    if isinstance(error, Busy | Unreachable):
        return str(error)
    return visible(f"{type(error).__name__}: {error}", 200)


# --- The run ---


def main() -> int:
    """Run the example and return the exit code."""
    options = read_arguments()
    try:
        with open(options.json, "w") if options.json not in {"", "-"} else nullcontext(sys.stdout) as lines:
            return check(options, lines)
    except (OSError, AqueueError) as error:
        print(f"linkcheck.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def check(options: argparse.Namespace, lines: TextIO) -> int:
    """Check the links, report, and return the exit code."""
    checker = Checker(options)
    code = 0
    try:
        run_queue(
            initial_items=[Link(url) for url in options.urls],
            num_workers=options.workers,
            limits={"*": Limit(options.per_host, options.rate)},
            retry=checker.retry,
            on_error="continue",
            max_items=options.max_links,
            grace_s=GRACE_S,
            lifespan=checker.open,
            reporter=options.reporter,
            resume=options.resume,
        )
    except ItemFailures as failures:  # a bug in this program
        print(visible(f"linkcheck.py: {failures.message}: {failures.exceptions[0]!r}", 500), file=sys.stderr)
        code = 2
    except KeyboardInterrupt:  # report what is known so far
        code = 130
    report = checker.report
    if options.resume:
        report = Report()
        for item in iter_results(options.resume):
            report.add(item.result)
    is_fine = tell(report, options, lines)
    if options.resume and not checker.was_opened:
        print(f"This report is from {visible(options.resume)}; delete that file to check again.", file=sys.stderr)
    return code or int(not is_fine)


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Check the links of a web site: which are broken, and which pages they are on.\n"
        "Pages below URL's folder are read; other links are only checked.",
        epilog="exit codes: 0 all links are fine, 1 some are broken, 2 wrong usage, 130 interrupted by Ctrl-C\n\n"
        "examples:\n"
        "  linkcheck.py https://example.org/                     a whole site\n"
        "  linkcheck.py https://example.org/docs/ --no-external  one folder, and no other hosts\n"
        "  linkcheck.py https://example.org/ --resume check.db   can be interrupted and resumed\n"
        "  linkcheck.py http://localhost:8000/ --per-host 16     your own server\n"
        "  linkcheck.py https://example.org/ --json - | jq 'select(.state == \"broken\")'\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("urls", metavar="URL", nargs="+", help="where to start")
    parser.add_argument(
        "--json", metavar="FILE", default="", help="write one line of JSON per link to FILE; - for stdout"
    )
    parser.add_argument("--resume", metavar="FILE", help="record the check in FILE, or resume the one recorded there")
    parser.add_argument("--no-external", action="store_true", help="skip links to other hosts")
    parser.add_argument(
        "--exclude", metavar="REGEX", action="append", default=[], help="skip matching links; repeatable"
    )
    parser.add_argument("--ignore-robots", action="store_true", help="don't read robots.txt (for your own site)")
    parser.add_argument("--max-links", metavar="N", type=int, help="check at most N links this time")
    parser.add_argument(
        "--workers", metavar="N", type=int, default=16, help="concurrent requests (default: %(default)s)"
    )
    parser.add_argument(
        "--per-host", metavar="N", type=int, default=4, help="concurrent requests per host (default: %(default)s)"
    )
    parser.add_argument("--rate", metavar="N", type=float, help="requests per second and host (default: no limit)")
    parser.add_argument(
        "--timeout", metavar="S", type=float, default=30.0, help="seconds per request (default: %(default)g)"
    )
    parser.add_argument(
        "--retries", metavar="N", type=int, default=3, help="retries after a failure (default: %(default)s)"
    )
    parser.add_argument("--verbose", action="store_true", help="also list redirected and skipped links")
    parser.add_argument("--reporter", default="auto", help="auto, rich, plain, jsonl or none (default: %(default)s)")
    options = parser.parse_args()
    try:
        options.exclude = [re.compile(pattern) for pattern in options.exclude]
        options.urls = [normalise(url) for url in options.urls]
    except re.error as error:
        parser.error(f"--exclude: {error}")
    except ValueError as error:
        parser.error(str(error))
    if "" in options.urls:
        parser.error("URL must start with http:// or https://")
    if not options.timeout > 0:
        parser.error("--timeout must be more than 0")
    return options


if __name__ == "__main__":
    sys.exit(main())
