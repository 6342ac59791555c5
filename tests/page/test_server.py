"""`_page.server`, `_page.shown` and `cli._commands.serve`: a real server process, and what it sends to browsers."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from aqueue._page import shown as page_shown
from aqueue._page.index import Index
from aqueue._page.server import PageServer
from aqueue.events import ItemCompleted
from tests.journal.writing import make_events, write
from tests.page.serving import entered

DEADLINE_S = 30.0
NUM_EVENTS = 4_000


@contextmanager
def serving(
    path: Path, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `aqueue serve` on the journal at `path`; yields the process and the printed address."""
    command = [sys.executable, "-m", "aqueue", "serve", str(path), *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | (environment or {})
    )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            address = re.search(r"http://\S+", line)
            assert address is not None, (line, process.stderr and process.stderr.read())
            yield process, address[0]
        finally:
            process.kill()


def messages(response: httpx.Response) -> Iterator[dict[str, str]]:
    """Yield what a stream sends: the parts that changed."""
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line[6:])


def completed_by(seq: int) -> str:
    """Return what the figures say once these events are read."""
    return f"{sum(isinstance(event, ItemCompleted) for event in make_events(1, seq)):,}"


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Return the journal of a run that has not ended."""
    path = tmp_path / "run.db"
    write(path, make_events(1, NUM_EVENTS))
    return path


# ---- what is sent --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["now", "failures"])
def test_a_stream_begins_with_all_that_is_shown_and_then_has_what_changes(journal: Path, view: str) -> None:
    """A page that reconnects needs nothing of what it had; parts that don't change are not sent again."""
    with (
        serving(journal) as (_, address),
        entered(address) as browser,
        browser.stream("GET", f"/events/{view}") as stream,
    ):
        assert stream.headers["content-type"].startswith("text/event-stream")
        sent = messages(stream)
        parts = next(sent)
        page = browser.get("/" if view == "now" else f"/{view}").text
        assert {"state", "tabs", "notes", "said"} < set(parts)
        assert all(f'id="{name}"' in html and f'id="{name}"' in page for name, html in parts.items())
        write_more(journal, NUM_EVENTS + 400)
        changed: dict[str, str] = {}
        while view == "now" and completed_by(NUM_EVENTS + 400) not in changed.get("figures", ""):
            changed |= next(sent)
        assert "access" not in changed


def write_more(path: Path, last: int) -> None:
    """Append events, as the process of a run does."""
    from aqueue._journal.writer import Journal

    journal = Journal.open(path)
    first = sum(len(batch) for batch in journal.recorded()) + 1
    journal.begin_writing()
    journal.write(make_events(first, last))
    journal.close()


def test_a_stream_is_compressed_message_by_message(journal: Path) -> None:
    """Each can be read as soon as it is there, and what was sent before makes the next ones small."""
    with serving(journal) as (_, address), entered(address) as browser:
        headers = {"accept-encoding": "gzip"}
        with browser.stream("GET", "/events/now", headers=headers) as stream:
            assert stream.headers["content-encoding"] == "gzip"
            raw = stream.iter_raw()
            unzip = zlib.decompressobj(wbits=31)
            first = next(raw)
            text = unzip.decompress(first)
            assert text.endswith(b"\n\n")
            write_more(journal, NUM_EVENTS + 40)
            second = next(raw)
            more = unzip.decompress(second)
            assert more.endswith(b"\n\n")
            assert len(second) < len(more) / 4


def test_a_slow_browser_holds_up_no_other(journal: Path) -> None:
    """It reads nothing for a while; then it gets what has changed, in order, up to now."""
    with ExitStack() as stack:
        _, address = stack.enter_context(serving(journal))
        browser = stack.enter_context(entered(address))
        other = stack.enter_context(entered_again(browser))
        slow = messages(stack.enter_context(browser.stream("GET", "/events/now")))
        next(slow)
        fast = messages(stack.enter_context(other.stream("GET", "/events/now")))
        last = NUM_EVENTS
        for _ in range(7):
            last += 40
            write_more(journal, last)
            while completed_by(last) not in next(fast).get("figures", ""):
                pass
        while completed_by(last) not in next(slow).get("figures", ""):
            pass


@contextmanager
def entered_again(browser: httpx.Client) -> Iterator[httpx.Client]:
    """Return another connection of the same browser."""
    with httpx.Client(base_url=browser.base_url, cookies=browser.cookies, timeout=DEADLINE_S) as other:
        yield other


def test_files_are_sent_once(journal: Path) -> None:
    """A browser asks whether its copy is the latest, and is told so without getting it again."""
    with serving(journal) as (_, address), entered(address) as browser:
        for name, kind in (("page.css", "text/css"), ("page.js", "text/javascript"), ("reader.js", "text/javascript")):
            answer = browser.get(f"/static/{name}")
            assert answer.headers["content-type"].startswith(kind)
            again = browser.get(f"/static/{name}", headers={"if-none-match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")


def test_the_library_is_the_one_that_its_readme_names() -> None:
    """The sum is that of the published file."""
    from hashlib import sha256
    from importlib.resources import files

    folder = files("aqueue._page") / "static" / "vendor"
    assert sha256((folder / "idiomorph.esm.js").read_bytes()).hexdigest() in (folder / "README.md").read_text("utf-8")


# ---- items and the past --------------------------------------------------------------------------------------------


def reloaded(browser: httpx.Client, path: str, has: str) -> str:
    """Load a page again and again until it says something; return it."""
    end = time.monotonic() + DEADLINE_S
    while True:
        answer = browser.get(path)
        assert answer.status_code == 200
        if has in answer.text:
            return answer.text
        assert time.monotonic() < end, answer.text
        time.sleep(0.1)


def test_items_that_match_are_sent_as_they_change(journal: Path) -> None:
    """A stream has the list for the filter in its address, and what comes later; the page shows the same."""
    path = "?q=key:none+state:completed&order=oldest"
    with serving(journal) as (_, address), entered(address) as browser:
        page = reloaded(browser, "/items?q=state:completed", "999 items match")
        assert 'value="state:completed"' in page
        with browser.stream("GET", "/events/items?q=state:completed&order=oldest") as stream:
            sent = messages(stream)
            shown: dict[str, str] = {}
            while "999 items match" not in shown.get("listing", ""):
                shown |= next(sent)
            assert 'id="row-1"' in shown["listing"]
            write_more(journal, NUM_EVENTS + 40)
            while "1,009 items match" not in shown["listing"]:
                shown |= next(sent)
        assert "No item matches" in reloaded(browser, f"/items{path}", "No item matches")
        page = reloaded(browser, "/item?n=1", "page 1")
        assert "No item has the number 5,000" in reloaded(browser, "/item?n=5000", "No item has")


def test_page_as_it_was(journal: Path) -> None:
    """At an event that its address names; one that is beyond the last event is the last, and there is no event 0."""
    with serving(journal) as (_, address), entered(address) as browser:
        for view in ("./", "failures", "items", "item?n=3"):
            joint = "&" if "?" in view else "?"
            page = reloaded(browser, f"/{view}{joint}at=41".replace("./", ""), "You are looking at")
            assert "event <b>41</b> of 4,000" in page
            assert page.count("<main") == page.count("</main>") == 1
        assert f"<dd>{completed_by(41)} " in browser.get("/?at=41").text
        assert "event <b>4,000</b> of 4,000" in browser.get("/?at=999999999999999").text
        assert "event <b>1</b> of 4,000" in browser.get("/?at=0").text
        with browser.stream("GET", "/events/now?at=41") as stream:
            parts = next(messages(stream))
            assert "event <b>41</b>" in parts["banner"] and parts["main"].startswith("<main")


def test_time_leads_to_the_event_that_was_then(journal: Path) -> None:
    """The slider sends the run's own time; what else was asked for stays."""
    with serving(journal) as (_, address), entered(address) as browser:
        reloaded(browser, "/?at=1", "You are looking at")
        for seconds, seq in (
            ("0", 1),
            ("0.5", 501),
            ("0.50000000000000011", 501),
            ("3.999", 4_000),
            ("999999999999", 4_000),
        ):
            answer = browser.get("/items", params={"q": "a&b=c", "t": seconds, "at": "7"})
            assert answer.status_code == 303
            where = httpx.URL(answer.headers["location"])
            assert where.path == browser.base_url.join("items").path
            assert dict(where.params) == {"q": "a&b=c", "at": str(seq)}
            assert (
                browser.get(answer.headers["location"].removeprefix(browser.base_url.path.rstrip("/"))).status_code
                == 200
            )


@pytest.mark.parametrize(
    "query",
    [
        "at=", "at=x", "at=-1", "at=1e9", "at=9999999999999999", "at=%D9%A3", "at=1&at=2", "at=%00", "t=", "t=x", "t=-1", "t=nan",
        "t=1e9", "t=1.", "n=x", "n=-1", "n=0", "n=999999999999999", "start=x", "start=0", "start=999999999999999", "order=x",
        "order=newest%27", "q=%00", "q=%ff%ed%a0%80", "q=" + "x" * 3_000, "q=" + "%22" * 400, "q=state:x", "q=%27%20OR%201=1", "x=y",
        "q=a%00b&order=slowest", "q=" + "subtree:1+" * 40, "q=" + "x+" * 250, "q=" + "type:Page+" * 50,
    ],
)  # fmt: skip
def test_nonsense_in_an_address_is_as_if_it_were_not_there(served: httpx.Client, query: str) -> None:
    """Each view is shown, and no error."""
    for view in ("", "failures", "items", "item"):
        answer = served.get(f"/{view}?{query}")
        assert answer.status_code in {200, 303}
        assert "can't be drawn" not in answer.text and "can't be read" not in answer.text
        if answer.status_code == 200:
            assert answer.text.count("<main") == 1


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Yield a browser that shows a run whose items are all indexed."""
    path = tmp_path_factory.mktemp("run") / "run.db"
    write(path, make_events(1, NUM_EVENTS))
    with serving(path) as (_, address), entered(address) as browser:
        reloaded(browser, "/items", "1,000 items")
        yield browser


class Slow(Index):
    """An index that waits until the test lets it go on."""

    may_fill = threading.Event()

    def fill(self) -> bool:
        """Fill it once that may be."""
        return self.may_fill.is_set() and super().fill()


@contextmanager
def in_this_process(path: Path) -> Iterator[httpx.Client]:
    """Serve a journal by a thread of this process; yields a browser."""
    page = PageServer(path)
    thread = threading.Thread(target=page.serve)
    thread.start()
    try:
        with entered(page.new_address()) as browser:
            yield browser
    finally:
        page.end()
        thread.join()
        page.close()


def test_past_that_is_not_read_yet(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said that it is being read, and then it is there, in the same stream."""
    monkeypatch.setattr(page_shown, "Index", Slow)
    monkeypatch.setattr(Slow, "may_fill", threading.Event())
    with in_this_process(journal) as browser:
        assert "The past is being read" in browser.get("/?at=50").text
        assert "items are being read" in browser.get("/items").text or "Nothing" in browser.get("/items").text
        answer = browser.get("/items?t=1.5&q=x")
        assert answer.status_code == 303 and "q=x" in answer.headers["location"]
        with browser.stream("GET", "/events/failures?at=50") as stream:
            sent = messages(stream)
            assert "The past is being read: 0 %." in next(sent)["main"]
            Slow.may_fill.set()
            shown: dict[str, str] = {}
            while "event <b>50</b>" not in shown.get("banner", ""):
                shown |= next(sent)
            assert 'id="list"' in shown["main"]


def test_index_that_can_not_be_written(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is shown without it, and it is said why its items and its past aren't."""

    class Broken(Index):
        def fill(self) -> bool:
            raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(page_shown, "Index", Broken)
    with in_this_process(journal) as browser:
        assert "disk I/O error" in reloaded(browser, "/items", "can't be filled")
        assert "can't be filled" in browser.get("/?at=50").text
        assert 'id="figures"' in browser.get("/").text and "can't be filled" not in browser.get("/").text


def test_index_that_is_damaged_is_made_again(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while it is served: the list is there again without a restart."""
    made: list[Index] = []

    class Damaged(Index):
        def _fill(self) -> bool:
            if self not in made:
                made.append(self)
                if len(made) == 1:
                    raise sqlite3.DatabaseError("database disk image is malformed")
            return super()._fill()

    monkeypatch.setattr(page_shown, "Index", Damaged)
    monkeypatch.setattr(page_shown, "LOOK_S", 0.05)
    with in_this_process(journal) as browser:
        reloaded(browser, "/items", 'id="row-1000"')
    assert len(made) == 2


# ---- the process ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_ends_it_at_once_though_browsers_are_connected(journal: Path, end: signal.Signals) -> None:
    """Streams have no end of their own, and are not waited for."""
    with (
        serving(journal) as (process, address),
        entered(address) as browser,
        browser.stream("GET", "/events/now") as stream,
    ):
        next(messages(stream))
        began = time.monotonic()
        process.send_signal(end)
        assert process.wait(DEADLINE_S) in (0, 128 + end)
        assert time.monotonic() - began < 5
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_the_journal_is_only_read(journal: Path) -> None:
    """Byte for byte the same after a page was shown, and a run may go on writing it meanwhile."""

    def content() -> list[tuple[Any, ...]]:
        with sqlite3.connect(journal) as connection:
            return connection.execute("SELECT * FROM events ORDER BY seq").fetchall()

    before = content()
    with serving(journal) as (_, address), entered(address) as browser:
        browser.get("/")
        browser.get("/failures")
        write_more(journal, NUM_EVENTS + 4)
    assert content()[: len(before)] == before


def test_a_port_that_is_taken_is_named(journal: Path) -> None:
    """With `--port` only that port will do; without, another one is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = failed(str(journal), "--port", str(port))
        assert done.returncode == 2
        assert f"port {port}" in done.stderr
        assert "--port" in done.stderr
    with serving(journal) as (_, first), serving(journal) as (_, second):
        assert first.partition("/enter")[0] != second.partition("/enter")[0]
        with entered(first) as browser, entered(second) as other:
            assert browser.get("/").status_code == other.get("/").status_code == 200


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none/run.db", None, "there is no folder"),
        ("log.jsonl", b'{"event": "run.started"}\n', "not"),
        ("-", None, "not standard input"),
    ],
)
def test_what_is_no_journal_is_refused(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    """The message names the file and what to do."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = failed(name, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_journal_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    """The server may be started before the run. It says so at once, and Ctrl-C ends the wait."""
    path = tmp_path / "run.db"
    command = [sys.executable, "-m", "aqueue", "serve", str(path)]
    for is_made in (False, True):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stderr is not None
            try:
                assert process.stderr.readline() == f"aqueue: {path} doesn't exist yet; waiting for it\n"
                if is_made:
                    write(path, make_events(1, 50))
                    address = process.stdout.readline().split()[-1]
                    with entered(address) as browser:
                        assert "run.db" in browser.get("/").text
                process.send_signal(signal.SIGINT)
                assert process.wait(DEADLINE_S) == (0 if is_made else 130)
                assert "Traceback" not in process.stderr.read()
            finally:
                process.kill()
    path.unlink()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "can't be listened on" in failed(str(path), "--port", str(taken.getsockname()[1])).stderr


def test_without_the_extra_it_says_what_to_install(journal: Path, tmp_path: Path) -> None:
    """Only those who use the page need its packages."""
    blocker = tmp_path / "sitecustomize.py"
    blocker.write_text("import sys\nsys.modules['starlette'] = None\n")
    done = failed(str(journal), env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 2
    assert "pip install '/path/to/aqueue[web]'" in done.stderr


def failed(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `aqueue serve`, which is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "aqueue", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        **options,
    )


def test_enter_prints_another_address(journal: Path) -> None:
    """For a second browser: the first address has been used."""
    import pexpect

    child = pexpect.spawn(sys.executable, ["-m", "aqueue", "serve", str(journal)], encoding="utf-8", timeout=DEADLINE_S)
    child.expect(r"(http://\S+)\r\n")
    first = str(child.match.group(1))
    child.expect("Press Enter")
    with entered(first):
        child.sendline("")
        child.expect(r"(http://\S+)\r\n")
        second = str(child.match.group(1))
        assert second != first
        with entered(second) as other:
            assert other.get("/").status_code == 200
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()


def test_open_tells_the_address_to_nobody_else(journal: Path, tmp_path: Path) -> None:
    """All users see the arguments of a browser: it gets a file that only its user can read. The server doesn't wait for it."""
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(
        f"#!{sys.executable}\nimport os, pathlib, sys, time, urllib.parse\n"
        "page = urllib.parse.urlsplit(sys.argv[1]).path\n"
        "mode = oct(os.stat(os.path.dirname(page)).st_mode)[-3:]\n"
        f"pathlib.Path({str(seen)!r}).write_text('\\n'.join([sys.argv[1], mode, open(page).read()]))\ntime.sleep(60)\n"
    )
    browser.chmod(0o700)
    with serving(journal, "--open", environment={"BROWSER": f"{browser} %s"}) as (_, address):
        end = time.monotonic() + DEADLINE_S
        while not seen.exists() or not seen.read_text():
            assert time.monotonic() < end
            time.sleep(0.05)
        argument, mode, page = seen.read_text().split("\n", 2)
        assert argument.startswith("file://")
        assert "token" not in argument
        assert mode == "700"
        found = re.search(r"http://[^\"]+", page)
        assert found is not None
        with entered(found[0]) as one, entered(address) as other:
            assert one.get("/").status_code == other.get("/").status_code == 200


def test_the_head_of_a_stream_has_an_end(journal: Path) -> None:
    """A page that has lost its stream asks so whether the server knows it."""
    with serving(journal) as (_, address), entered(address) as browser:
        assert browser.head("/events/now").status_code == 200
        browser.cookies.clear()
        assert browser.head("/events/now").status_code == 401


def test_a_view_that_can_not_be_drawn_says_so(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in a view ends neither the server nor its policy, and the others are shown."""
    monkeypatch.setitem(page_shown._VIEWS, "now", (lambda _: 1 // 0, page_shown._VIEWS["now"][1]))
    page = PageServer(journal)
    thread = threading.Thread(target=page.serve)
    thread.start()
    with entered(page.new_address()) as browser:
        answer = browser.get("/")
        assert "This view can't be drawn" in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert 'id="list"' in browser.get("/failures").text
    page.end()
    thread.join()
    page.close()
