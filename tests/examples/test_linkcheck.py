"""The link checker: what it finds on sites that are odd, broken or hostile, how it treats servers, and how it ends."""

import gzip
import json
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from html import escape
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.examples.conftest import Answer, Run, Site, Start, events, load, serve_site, wait_until

web_page = load("web_page")


def put_page(site: Site, path: str, *links: str, more: str = "") -> None:
    """Answer `path` with a page that has these links."""
    anchors = "".join(f'<p><a href="{escape(link)}">x</a>' for link in links)
    site.put(path, f"<!DOCTYPE html><title>x</title>{more}{anchors}", "text/html; charset=utf-8")


def put_redirect(site: Site, path: str, location: str, status: int = 302) -> None:
    """Answer `path` with a redirect."""
    put_status(site, path, status, Location=location)


def put_status(site: Site, path: str, *statuses: int, **headers: str) -> None:
    """Answer `path` with one of the statuses after the other, the last again and again; all but 200 have the headers."""
    left = list(statuses)

    def answer(request: BaseHTTPRequestHandler) -> None:
        status = left.pop(0) if len(left) > 1 else left[0]
        request.send_response(status)
        for name, value in headers.items() if status != 200 else ():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    site.pages[path] = answer


class Report(NamedTuple):
    """What a run of the checker came to.

    Attributes:
        code: its exit code.
        links: the lines of its JSON, by URL.
        stderr: what it said besides.
    """

    code: int
    links: dict[str, dict[str, Any]]
    stderr: str

    def state(self, url: str) -> tuple[str, str]:
        """Return the state of a link and what is wrong with it."""
        link = self.links[url]
        return link["state"], link["problem"]


def report_of(done: "subprocess.CompletedProcess[str]") -> Report:
    """Read the JSON that the checker wrote to stdout."""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    links = {line["url"]: line for line in lines}
    assert len(links) == len(lines), "a link is told twice"
    assert "Traceback" not in done.stderr, done.stderr
    return Report(done.returncode, links, done.stderr)


Check = Callable[..., Report]


@pytest.fixture
def check(run_example: Run) -> Check:
    """Return a function that checks a site by a process of its own."""

    def check(url: str, *options: str | Path) -> Report:
        return report_of(run_example("linkcheck.py", url, "--json", "-", *options))

    return check


@pytest.fixture
def other() -> Iterator[Site]:
    """Serve another site, on a host of its own as far as limits go."""
    with serve_site() as site:
        yield site


def test_a_site_without_broken_links_is_fine(site: Site, other: Site, check: Check) -> None:
    """Pages are followed, links elsewhere only checked, and the exit code is 0."""
    put_page(site, "/", "a", f"{other.url}/page")
    put_page(site, "/a", "/", more='<img src="pic.png"><script src=/s.js></script><link href="style.css">')
    for name in ("/pic.png", "/s.js", "/style.css"):
        site.put(name, "x")
    put_page(other, "/page", "/missing")
    done = check(site.url)
    assert done.code == 0
    assert {url: link["state"] for url, link in done.links.items()} == dict.fromkeys(
        [f"{site.url}{path}" for path in ("/", "/a", "/pic.png", "/s.js", "/style.css")] + [f"{other.url}/page"], "ok"
    )
    assert [(request.method, request.path) for request in other.requests] == [("GET", "/robots.txt"), ("HEAD", "/page")]
    assert {request.path: request.method for request in site.requests} == {
        "/robots.txt": "GET", "/": "GET", "/a": "GET", "/pic.png": "HEAD", "/s.js": "HEAD", "/style.css": "HEAD",
    }  # fmt: skip


def test_each_broken_link_is_told_with_its_pages(site: Site, check: Check, run_example: Run) -> None:
    """In JSON and in the table a broken link has its reason, the first pages that link to it, and how many do."""
    names = [f"/{number:02}" for number in range(15)]
    put_page(site, "/", *names)
    for name in names:
        put_page(site, name, "gone")
    put_status(site, "/gone", 410)
    done = check(site.url, "--per-host", "1")
    assert done.code == 1
    link = done.links[f"{site.url}/gone"]
    assert link == {
        "url": f"{site.url}/gone",
        "state": "broken",
        "status": 410,
        "problem": "HTTP 410 Gone",
        "redirects": [],
        "pages": 15,
        "found_on": [site.url + name for name in names[:10]],
    }
    table = run_example("linkcheck.py", site.url, "--per-host", "1")
    assert table.returncode == 1
    assert [line.split() for line in table.stdout.splitlines()[2:-1]] == [
        ["HTTP", "410", "Gone", f"{site.url}/gone"],
        *(["on", site.url + name] for name in names[:3]),
        ["on", "12", "more"],
        [],
    ]
    assert table.stdout.endswith("\n17 links on 16 pages: 16 fine, 1 broken\n")


def test_redirects_are_followed_and_told(site: Site, other: Site, check: Check) -> None:
    """A redirect is as good as what it leads to, each address on the way is told, and loops of any kind end."""
    put_page(site, "/", "one", "two", "self", "round", "endless", "to-gone", "away", "nowhere", "bad", "empty", "file")
    put_redirect(site, "/one", "/target", 301)
    put_redirect(site, "/two", "one", 307)
    put_page(site, "/target", "/from-target")
    put_page(site, "/from-target")
    put_redirect(site, "/self", "/self")
    put_redirect(site, "/round", "/round2")
    put_redirect(site, "/round2", "/round3")
    put_redirect(site, "/round3", "/round2")
    put_redirect(site, "/endless", "/endless?0")
    for number in range(30):
        put_redirect(site, f"/endless?{number}", f"/endless?{number + 1}")
    put_redirect(site, "/to-gone", "/gone")
    put_redirect(site, "/away", f"{other.url}/missing")
    put_redirect(site, "/nowhere", "http://[bad")
    put_redirect(site, "/bad", "http://a..b/")
    put_redirect(site, "/file", "file:///etc/passwd")
    put_status(site, "/empty", 302)
    done = check(site.url, "--retries", "0")
    told = {url.removeprefix(site.url): (link["state"], link["problem"]) for url, link in done.links.items()}
    assert {path: state for path, (state, _) in told.items() if state != "broken"} == {
        "/": "ok", "/from-target": "ok", "/one": "redirected", "/two": "redirected",
    }  # fmt: skip
    assert done.links[f"{site.url}/two"]["redirects"] == [f"{site.url}/one", f"{site.url}/target"]
    assert told["/self"][1] == told["/round"][1] == "redirect loop"
    assert done.links[f"{site.url}/round"]["redirects"] == [f"{site.url}/round{number}" for number in (2, 3, 2)]
    assert told["/endless"][1] == "more than 10 redirects"
    assert told["/to-gone"][1] == told["/away"][1] == "HTTP 404 Not here"
    assert told["/nowhere"][1] == "redirects to http://[bad, which isn't a web address"
    assert told["/bad"][1] == "redirects to http://a..b/, which isn't a web address"
    assert told["/file"][1] == "redirects to file:///etc/passwd, which isn't a web address"
    assert told["/empty"][1] == "HTTP 302 Found"


def test_a_site_that_moved_is_checked_where_it_is(site: Site, other: Site, check: Check) -> None:
    """If the first address leads to another host, that is the site whose pages are read."""
    put_redirect(site, "/", f"{other.url}/", 301)
    put_page(other, "/", "a")
    put_page(other, "/a", "missing")
    done = check(site.url)
    assert done.state(f"{site.url}/") == ("redirected", "")
    assert done.state(f"{other.url}/missing")[0] == "broken"


def test_what_another_attempt_mends_is_fine(site: Site, check: Check) -> None:
    """A server that fails twice and a connection that breaks once are no broken links."""

    def break_once(request: BaseHTTPRequestHandler) -> None:
        put_page(site, "/broken-once")

    put_page(site, "/", "500", "broken-once")
    put_status(site, "/500", 500, 500, 200)
    site.pages["/broken-once"] = break_once
    done = check(site.url, "--retries", "2")
    assert done.code == 0, done
    assert site.paths.count("/500") == 3
    assert site.paths.count("/broken-once") == 2


def test_what_no_attempt_mends_is_told(site: Site, check: Check) -> None:
    """Errors of the server and broken connections are results, with their reason, and the run goes on."""

    def break_chunks(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n")
        request.wfile.write(b"5\r\n<a hr\r\nzzz\r\n")

    def cut_chunks(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n<a hr"
        )

    def lie_about_gzip(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\nno gzip")

    def answer_nonsense(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"\x1b[31mSSH-2.0\r\n\r\n")

    def close(request: BaseHTTPRequestHandler) -> None:
        pass

    broken: dict[str, Answer] = {
        "/chunks": break_chunks, "/cut": cut_chunks, "/gzip": lie_about_gzip, "/nonsense": answer_nonsense,
        "/closed": close,
    }  # fmt: skip
    put_page(site, "/", *broken, "500", "403", "good", "http://127.0.0.1:1/dead", "http://a..b/", "http://h:99999/")
    site.pages |= broken
    put_status(site, "/500", 500)
    put_status(site, "/403", 403)
    put_page(site, "/good")
    done = check(site.url, "--retries", "1")
    assert done.code == 1
    told = {url.removeprefix(site.url): link["problem"] for url, link in done.links.items()}
    assert told["/chunks"].startswith("RemoteProtocolError: ")
    assert told["/cut"].startswith("RemoteProtocolError: ")
    assert told["/gzip"].startswith("DecodingError: ")
    assert told["/nonsense"].startswith("RemoteProtocolError: ")
    assert told["/closed"].startswith("RemoteProtocolError: ")
    assert told["/500"] == "HTTP 500 Internal Server Error"
    assert told["/403"] == "HTTP 403 Forbidden"
    assert told["http://127.0.0.1:1/dead"].startswith("ConnectError: ")
    assert told["http://a..b/"] == told["http://h:99999/"] == "not a valid URL"
    assert told["/good"] == told["/"] == ""
    assert {path: site.paths.count(path) for path in (*broken, "/500", "/403")} == dict.fromkeys(
        [*broken, "/500"], 2
    ) | {"/403": 1}


def test_a_page_that_hangs_is_given_up(site: Site, check: Check) -> None:
    """A server that doesn't answer, or sends a byte now and then for ever, costs no more than the timeout."""
    release = threading.Event()

    def hang(request: BaseHTTPRequestHandler) -> None:
        release.wait(60)

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")
        while not release.wait(0.2):
            request.wfile.write(b"x")
            request.wfile.flush()

    put_page(site, "/", "hang", "drip", "good")
    site.pages |= {"/hang": hang, "/drip": drip}
    put_page(site, "/good")
    try:
        done = check(site.url, "--timeout", "2", "--retries", "0")
    finally:
        release.set()
    assert done.state(f"{site.url}/hang") == done.state(f"{site.url}/drip") == ("broken", "timed out")
    assert done.state(f"{site.url}/good") == ("ok", "")


def test_head_is_asked_again_with_get_where_it_is_refused(site: Site, other: Site, check: Check) -> None:
    """A server that answers HEAD with an error, or not at all, doesn't make a good link broken."""

    def refuse_head(status: int | None) -> Answer:
        def answer(request: BaseHTTPRequestHandler) -> None:
            if request.command == "GET":
                request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            elif status is not None:
                request.send_error(status)

        return answer

    statuses = (400, 403, 404, 405, 501, 503, None)
    for status in statuses:
        other.pages[f"/{status}"] = refuse_head(status)
    put_page(site, "/", *(f"{other.url}/{status}" for status in statuses), "pic.png")
    put_page(site, "/pic.png", "found")  # a page for all its name: it is read
    site.put("/found", "x")
    done = check(site.url, "--retries", "1")
    assert done.code == 0, done.links
    assert done.state(f"{site.url}/found") == ("ok", "")
    for status in statuses:
        assert [request.method for request in other.requests if request.path == f"/{status}"] == ["HEAD", "GET"]


@pytest.mark.parametrize("form", ["seconds", "date"])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(site: Site, other: Site, check: Check, form: str, status: int) -> None:
    """A server that asks for a pause gets it, from all its pages, while another host is checked meanwhile."""
    until = 0.0

    def ask_for_pause(request: BaseHTTPRequestHandler) -> None:
        nonlocal until
        put_page(site, "/busy")
        date = datetime.now(UTC) + timedelta(seconds=3)
        value = "2" if form == "seconds" else format_datetime(date.astimezone(UTC), usegmt=True)
        asked_s = 2.0 if form == "seconds" else parsedate_to_datetime(value).timestamp() - time.time()
        until = time.monotonic() + asked_s
        request.send_response(status)
        request.send_header("Retry-After", value)
        request.end_headers()

    put_page(site, "/", "busy", "a", "b", *(f"{other.url}/{number}" for number in range(5)))
    site.pages["/busy"] = ask_for_pause
    for name in ("/a", "/b"):
        put_page(site, name)
    for number in range(5):
        put_page(other, f"/{number}")
    done = check(site.url, "--per-host", "1")
    assert done.code == 0, done
    later = [request.at for request in site.requests[3:]]
    assert site.paths[:3] == ["/robots.txt", "/", "/busy"]
    assert len(later) == 3
    assert all(at >= until - 0.05 for at in later)
    assert sum(request.at < until for request in other.requests) == 6


def test_a_host_that_refuses_for_ever_is_told(site: Site, other: Site, check: Check) -> None:
    """Once a link got "too many requests" to its last attempt, the others of its host get one attempt each."""
    put_page(site, "/", *(f"{other.url}/{number}" for number in range(8)))
    put_status(other, "/robots.txt", 404)
    for number in range(8):
        put_status(other, f"/{number}", 429, Retry_After="0")
    done = check(site.url, "--retries", "2", "--per-host", "1")
    assert {link["problem"] for url, link in done.links.items() if url.startswith(other.url)} == {
        "HTTP 429 Too Many Requests"
    }
    assert max(other.paths.count(f"/{number}") for number in range(8)) == 3
    assert 1 + 3 + 7 <= len(other.paths) <= 1 + 3 * 2 + 6  # two were under way by turns


def test_no_host_gets_more_requests_at_once_than_allowed(site: Site, other: Site, check: Check) -> None:
    """However many workers there are, each host answers at most `--per-host` requests at a time, and as many as that."""
    most: dict[str, int] = {}

    def count(name: str) -> Answer:
        changed = threading.Condition()
        running = 0

        def answer(request: BaseHTTPRequestHandler) -> None:
            nonlocal running
            with changed:
                running += 1
                most[name] = max(most.get(name, 0), running)
                changed.notify_all()
                changed.wait_for(lambda: running > 3, timeout=0.1)  # time for one too many to come
                running -= 1
            request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        return answer

    answers = {"site": count("site"), "other": count("other")}
    put_page(site, "/", *(f"/{number}" for number in range(18)), *(f"{other.url}/{number}" for number in range(18)))
    for number in range(18):
        site.pages[f"/{number}"] = answers["site"]
        other.pages[f"/{number}"] = answers["other"]
    done = check(site.url, "--per-host", "3", "--workers", "30")
    assert done.code == 0
    assert most == {"site": 3, "other": 3}


def test_robots_txt_is_obeyed(site: Site, other: Site, check: Check) -> None:
    """What it forbids is not asked for, it is fetched once a host, and `--ignore-robots` doesn't ask."""
    site.put("/robots.txt", "\ufeffUser-agent: *\nAllow: //[\nCrawl-delay: ²\nDisallow: /private\n", "text/plain")
    put_page(site, "/", "private/a", "public", f"{other.url}/x", f"{other.url}/y")
    put_page(site, "/public", "private/b")
    put_page(site, "/private/a")
    other.put(
        "/robots.txt", "User-agent: another\nDisallow: /\n\nUser-agent: aqueue-linkcheck\nDisallow: /x", "text/plain"
    )
    other.put("/y", "x")
    done = check(site.url)
    assert done.code == 0
    for url in (f"{site.url}/private/a", f"{site.url}/private/b", f"{other.url}/x"):
        assert done.state(url) == ("skipped", "robots.txt forbids it")
    assert site.paths.count("/robots.txt") == other.paths.count("/robots.txt") == 1
    assert not {"/private/a", "/private/b", "/x"} & {*site.paths, *other.paths}
    site.requests.clear()
    done = check(site.url, "--ignore-robots")
    assert done.state(f"{site.url}/private/a") == ("ok", "")
    assert done.code == 1
    assert "/robots.txt" not in site.paths


def test_a_start_that_robots_txt_forbids_is_no_success(site: Site, check: Check) -> None:
    """If nothing could be checked, the exit code is not 0."""
    site.put("/robots.txt", "User-agent: *\nDisallow: /", "text/plain")
    done = check(site.url)
    assert done.code == 1
    assert done.state(f"{site.url}/") == ("skipped", "robots.txt forbids it")


@pytest.mark.parametrize("status", [401, 404])
def test_without_robots_txt_everything_is_allowed(site: Site, check: Check, status: int) -> None:
    """A robots.txt that isn't there (4xx) forbids nothing; a redirect of it is followed."""
    put_page(site, "/")
    put_redirect(site, "/robots.txt", "/elsewhere.txt")
    put_status(site, "/elsewhere.txt", status)
    assert check(site.url).code == 0
    assert site.paths == ["/robots.txt", "/elsewhere.txt", "/"]


def test_a_robots_txt_that_cannot_be_reached_forbids_everything(site: Site, other: Site, check: Check) -> None:
    """After a few attempts, once for all its links, the host counts as unreachable; one that recovers does not."""
    put_page(site, "/", *(f"{other.url}/{number}" for number in range(20)))
    put_status(site, "/robots.txt", 500, 404)
    put_status(other, "/robots.txt", 500)
    done = check(site.url, "--retries", "1")
    assert done.code == 1
    assert done.state(f"{site.url}/") == ("ok", "")
    assert other.paths == ["/robots.txt"] * 2
    assert other.requests[1].at - other.requests[0].at >= 0.5  # not at once by another link of the host
    told = {link["problem"] for url, link in done.links.items() if url.startswith(other.url)}
    assert told == {"robots.txt: HTTP 500 Internal Server Error"}


def test_crawl_delay_is_kept(site: Site, check: Check) -> None:
    """Requests to a host that names a delay are that far apart, also those that waited for its robots.txt together."""
    site.put("/robots.txt", "User-agent: *\nCrawl-delay: 1\n", "text/plain")
    put_page(site, "/", "a", "b", "c")
    for name in ("/a", "/b", "/c"):
        put_page(site, name)
    done = check(site.url)
    assert done.code == 0
    times = [request.at for request in site.requests[1:]]
    assert len(times) == 4
    assert times[-1] - times[0] >= 2.9


def test_a_crawl_delay_holds_up_no_other_host(site: Site, other: Site, check: Check) -> None:
    """Even a single worker checks another host while it may not ask the first."""
    site.put("/robots.txt", "User-agent: *\nCrawl-delay: 2\n", "text/plain")
    put_page(site, "/", "a", f"{other.url}/1", f"{other.url}/2")
    put_page(site, "/a")
    done = check(site.url, "--workers", "1", "--retries", "0")
    assert done.code == 1
    assert other.paths == ["/robots.txt", "/1", "/1", "/2", "/2"]  # HEAD and GET: they are not there
    assert other.requests[-1].at < site.requests[-1].at
    assert site.paths == ["/robots.txt", "/", "/a"]


def test_one_address_is_asked_for_once_however_it_is_spelled(site: Site, check: Check) -> None:
    """Fragments, escapes, dot segments, the case of the host and a default port make no other address; a query does."""
    port = site.url.rpartition(":")[2]
    spellings = [
        "page?q=1", "./page?q=1", "x/../page?q=1", "page?q=1#top", "%70age?q=1", f"HTTP://127.0.0.1:{port}/page?q=1",
        " page?q=1\n", "/a/./b/../../page?q=1",
    ]  # fmt: skip
    put_page(site, "/", *spellings, "page?q=2", "ü", "%c3%bc", "%C3%BC#x")
    for path in ("/page?q=1", "/page?q=2", "/%C3%BC"):
        put_page(site, path)
    done = check(site.url)
    assert done.code == 0
    assert sorted(site.paths) == ["/", "/%C3%BC", "/page?q=1", "/page?q=2", "/robots.txt"]
    assert len(done.links) == 4


def test_what_is_not_on_the_web_is_left_alone(site: Site, check: Check) -> None:
    """Links for mail, scripts, telephones and data are not checked, and what is no URL at all is told."""
    put_page(
        site, "/", "mailto:a@example.org", "javascript:void(0)", "JavaScript:x", "data:text/plain,x", "tel:+1", "#top", "",
        "http://[bad", "https://exa mple.org/\x1b[31m",
        more='<link rel="preconnect" href="http://127.0.0.1:1/"><base target="_blank">',
    )  # fmt: skip
    done = check(site.url)
    assert {url: link["problem"] for url, link in done.links.items()} == {
        f"{site.url}/": "", "http://[bad": "not a valid URL", r"https://exa mple.org/\x1b[31m": "not a valid URL",
    }  # fmt: skip


def test_pages_are_read_whatever_their_encoding(site: Site, check: Check) -> None:
    """The charset of the header counts, or the page's own; an unknown or absurd one is passed over; so is a base URL."""
    pages = {
        "latin": ("text/html; charset=iso-8859-1", '<a href="/é1">'.encode("latin-1")),
        "meta": ("text/html", '<META CHARSET="windows-1252"><a href="/é2">'.encode("cp1252")),
        "utf16": ("text/html; charset=utf-16", '<a href="/é3">'.encode("utf-16")),
        "unknown": ("text/html; charset=no-such-thing", '<a href="/é4">'.encode()),
        "hex": ("text/html; charset=hex", '<meta charset=rot13><a href="/é5">'.encode()),
        "idna": ("text/html; charset=idna", b'<a href="/6">' + b"x" * 100),
        "bom": ("Application/XHTML+XML", '<a href="/é7"/>'.encode("utf-8-sig")),
        "garbage": ("text/html", b'\xff\xfe\x00<a href="/8">\x80<![broken <a =">'),
        "base": ("text/html", b'<base href="/deep/"><base href="/no/"><a href="9"><a href="/no" href="/yes">'),
    }
    for name, (content_type, body) in pages.items():
        site.put(f"/{name}", body, content_type)
    packed = gzip.compress(b'<a href="/10">')
    site.pages["/gzip"] = lambda request: (
        request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\n" + packed),
        None,
    )[1]
    put_page(site, "/", *pages, "gzip", "pdf")
    site.put("/pdf", '<a href="/not-read">', "application/pdf")
    done = check(site.url)
    broken = {url.removeprefix(site.url) for url, link in done.links.items() if link["state"] == "broken"}
    assert broken == {*(f"/%C3%A9{n}" for n in (1, 2, 3, 4, 5, 7)), "/6", "/8", "/deep/9", "/no", "/10"}


def test_only_what_is_below_the_first_address_is_read(site: Site, other: Site, check: Check) -> None:
    """Pages beside the first one's folder are only checked; other hosts and what matches --exclude are left out on demand."""
    put_page(site, "/docs/index.html", "sub/page", "../blog", "/docs2/page", f"{other.url}/x", "logout", "moved")
    put_page(site, "/docs/sub/page")
    for path in ("/blog", "/docs2/page"):
        put_page(site, path, "missing")
    put_redirect(site, "/docs/moved", f"{other.url}/y")
    done = check(f"{site.url}/docs/index.html", "--no-external", "--exclude", "log(in|out)")
    assert done.code == 0, done.links
    assert not other.requests
    assert "/docs/logout" not in site.paths
    assert done.state(f"{site.url}/docs/moved") == ("skipped", f"redirects to {other.url}/y, which is skipped")


def test_nothing_of_a_page_reaches_the_terminal_raw(site: Site, run_example: Run) -> None:
    """Escape sequences and markup in addresses and reasons are shown, not obeyed."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 404 \x1b]0;owned\x07[red]x[/red]\r\nContent-Length: 0\r\n\r\n")

    hostile = "x\x1b[31m[bold]\u202ex"
    put_page(site, "/", hostile, f"http://[{hostile}", "404")
    site.pages["/404"] = answer
    put_status(site, "/moved", 302, Location="file:\x1b[31m")
    done = run_example("linkcheck.py", f"{site.url}/", f"{site.url}/moved", "--retries", "0", "--verbose")
    assert done.returncode == 1
    for text in (done.stdout, done.stderr):
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert r"   x\x1b[31m[bold]\u202ex" in done.stdout
    assert r"http://[x\x1b[31m[bold]\u202ex" in done.stdout


def test_two_thousand_pages_take_seconds(site: Site, tmp_path: Path, check: Check) -> None:
    """A site of 2,000 pages with 20 links each is checked whole, each page once."""
    count = 2_000
    put_page(site, "/", "0")
    for number in range(count):
        put_page(site, f"/{number}", *(str((number * 7 + step) % count) for step in range(20)))
    site.put("/1999", "no", status=404)
    done = check(site.url)
    assert len(done.links) == count + 1
    assert [url for url, link in done.links.items() if link["state"] == "broken"] == [f"{site.url}/1999"]
    assert done.links[f"{site.url}/1999"]["pages"] == 19  # and itself, which is no page
    assert len(site.paths) == count + 2


def checked(journal: Path) -> int:
    """Return how many links the journal says are checked."""
    if not journal.exists():
        return 0
    with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as connection:
        names = [json.loads(text)["event"] for (text,) in connection.execute("SELECT event FROM events")]
    return names.count("item.completed")


def test_an_interrupted_check_goes_on(
    site: Site, tmp_path: Path, start_example: Start, run_example: Run, check: Check
) -> None:
    """After Ctrl-C the same command asks only for what is left, and its report is that of an uninterrupted check."""
    release = threading.Event()
    names = [f"/{number}" for number in range(20)]
    put_page(site, "/", *names, "gone")
    for name in names:
        put_page(site, name, "missing", "/")
    expected = check(site.url, "--per-host", "1")  # one after the other: the first pages with a link are known
    whole = site.pages["/9"]

    def hang(request: BaseHTTPRequestHandler) -> None:
        release.wait(60)
        whole(request)

    site.pages["/9"] = hang
    site.requests.clear()
    journal, log = tmp_path / "check.db", tmp_path / "log"
    options = ("linkcheck.py", site.url, "--json", "-", "--resume", journal, "--per-host", "1")
    with start_example(*options, "--reporter", f"jsonl:{log}") as process:
        wait_until(lambda: "/9" in site.paths and checked(journal) >= 10)
        process.send_signal(signal.SIGINT)
        wait_until(lambda: "run.stopping" in events(log))
        release.set()
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "  Resume:         run " in stderr
    first = {line["url"]: line["state"] for line in map(json.loads, stdout.splitlines())}
    assert first[f"{site.url}/8"] == "ok"
    assert first[f"{site.url}/19"] == "unchecked"
    done_before = {url.removeprefix(site.url) for url, state in first.items() if state != "unchecked"}
    assert {"/", *names[:10]} == done_before
    site.pages["/9"] = whole
    site.requests.clear()
    second = report_of(run_example(*options))
    assert second.links == expected.links
    assert second.code == 1
    assert sorted(site.paths) == sorted({"/robots.txt", "/missing", "/gone", *names} - done_before)
    site.requests.clear()
    third = report_of(run_example(*options))
    assert third.links == expected.links
    assert not site.requests
    assert "delete that file to check again" in third.stderr


def test_a_check_stops_after_as_many_links_as_it_may(site: Site, tmp_path: Path, check: Check) -> None:
    """With --max-links the report tells what was not checked yet, and with a journal the next one goes on there."""
    put_page(site, "/", *(f"/{number}" for number in range(9)))
    for number in range(9):
        put_page(site, f"/{number}")
    options = (site.url, "--max-links", "4", "--resume", tmp_path / "check.db")
    counts = [[link["state"] for link in check(*options).links.values()].count("ok") for _ in range(3)]
    assert counts == [4, 8, 10]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("example.org",), "URL must start with http"),
        (("http://[bad",), "'http://[bad' is not a valid URL"),
        ((), "required: URL"),
        (("http://127.0.0.1:1/", "--workers", "0"), "num_workers is 0"),
        (("http://127.0.0.1:1/", "--per-host", "0"), "it must be a whole number, at least 1"),
        (("http://127.0.0.1:1/", "--timeout", "0"), "--timeout must be more than 0"),
        (("http://127.0.0.1:1/", "--retries", "-1"), "Retry(attempts=…) is 0"),
        (("http://127.0.0.1:1/", "--exclude", "("), "--exclude: missing )"),
        (("http://127.0.0.1:1/", "--json", "no/such/folder"), "No such file or directory"),
        (("http://127.0.0.1:1/", "--resume", "/dev/null"), "/dev/null"),
    ],
)
def test_wrong_usage_is_explained(run_example: Run, arguments: tuple[str, ...], message: str) -> None:
    """What can't be done is refused with the exit code 2 and a line that says why."""
    done = run_example("linkcheck.py", *arguments)
    assert done.returncode == 2, done
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("HTTP://EXAMPLE.org:80", "http://example.org/"),
        ("https://example.org:443/a", "https://example.org/a"),
        ("http://example.org:8080/a/../b/./c#f", "http://example.org:8080/b/c"),
        ("http://example.org/%7ea%2fb%c3%a9", "http://example.org/~a%2Fb%C3%A9"),
        ("http://example.org/a?b=%41&c=d#e", "http://example.org/a?b=A&c=d"),
        ("http://example.org/a?", "http://example.org/a?"),
        ("http://bücher.example/ü", "http://xn--bcher-kva.example/%C3%BC"),
        ("http://[::1]:80/", "http://[::1]/"),
        ("ftp://example.org/", ""),
        ("mailto:a@example.org", ""),
    ],
)
def test_addresses_have_one_normal_form(reference: str, expected: str) -> None:
    """An address in any spelling becomes the one by which it is known, and that stays as it is."""
    assert web_page.normalise(reference) == expected
    if expected:
        assert web_page.normalise(expected) == expected
