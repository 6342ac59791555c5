"""The mirror: what it copies and proves, and what it makes of listings that are odd, broken or hostile."""

import hashlib
import html
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from unittest import mock
from urllib.parse import quote

import httpx
import pyte
import pytest

from tests.examples.conftest import Run, Site, Start, events, load, wait_until

standard_library = load("standard_library")


def put_listing(site: Site, path: str, *references: str) -> None:
    """Answer `path` with a page that has these links."""
    links = "".join(f'<li><a href="{html.escape(reference)}">x</a></li>' for reference in references)
    site.put(path, f"<!DOCTYPE html><ul>{links}</ul>", "text/html; charset=utf-8")


def put_folder(site: Site, folder: Path, path: str, make_listing: Callable[[str, list[str]], str]) -> None:
    """Serve a folder with listings in a style."""
    names: list[str] = []
    for child in sorted(folder.iterdir()):
        name = quote(os.fsencode(child.name))
        names.append(name + "/" * child.is_dir())
        if child.is_dir():
            put_folder(site, child, f"{path}{name}/", make_listing)
        else:
            site.put(f"{path}{name}", child.read_bytes())
    site.put(path, make_listing(path, names), "text/html;charset=UTF-8")


def apache_listing(path: str, names: list[str]) -> str:
    """Return a listing as Apache writes it: fancy indexing, with links that sort and one to the parent."""
    rows = "".join(
        f'<tr><td valign="top"><a href="{name}"><img src="/icons/x.gif" alt="[ ]"></a></td>'
        f'<td><a href="{name}">{name}</a></td><td align="right">2024-05-01 12:00</td><td>1.2K</td></tr>'
        for name in names
    )
    return (
        f'<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN"><html><head><title>Index of {path}</title></head><body>'
        '<table><tr><th><a href="?C=N;O=D">Name</a></th><th><a href="?C=M;O=A">Last modified</a></th></tr>'
        f'<tr><td><a href="{path.rsplit("/", 2)[0]}/">Parent Directory</a></td></tr>{rows}</table></body></html>'
    )


def nginx_listing(path: str, names: list[str]) -> str:
    """Return a listing as nginx writes it."""
    rows = "".join(f'<a href="{name}">{name}</a>    01-May-2024 12:00    1234\r\n' for name in names)
    return f'<html><head><title>Index of {path}</title></head><body><pre><a href="../">../</a>\r\n{rows}</pre></body></html>'


def absolute_listing(path: str, names: list[str]) -> str:
    """Return a listing whose links are absolute paths, as some file browsers write them."""
    return "".join(f'<A HREF="{path}{name}#top">{name}</A>' for name in [*names, "../", "./"])


def content(folder: Path) -> dict[str, bytes | None]:
    """Return all files and folders below `folder`; the value of a folder is None."""
    return {str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a folder with the names that tell a careful program from a careless one."""
    folder = tmp_path / "source"
    for name in ("a/b/c", "empty", "with space & 100%", ".hidden"):
        (folder / name).mkdir(parents=True)
    files = [
        "plain.txt", "a/two words.txt", "a/b/c#d?e=f&g.txt", "a/b/c/50%25.txt", "a/b/a:b.txt", "a/ünïcödé-日本.txt",
        "with space & 100%/quote'\"<i>.txt", ".hidden/.file", "empty.bin", "a/new\nline", "a/x;y",
    ]  # fmt: skip
    for number, name in enumerate(files):
        (folder / name).write_bytes(os.urandom(number * 7_000))
    with suppress(OSError):  # some file systems take only Unicode
        Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.txt")).write_bytes(b"latin")
    return folder


@pytest.mark.parametrize("make_listing", [apache_listing, nginx_listing, absolute_listing])
@pytest.mark.parametrize("slash", ["/", ""])
def test_a_listing_is_mirrored_whole(
    site: Site,
    source: Path,
    tmp_path: Path,
    run_example: Run,
    make_listing: Callable[[str, list[str]], str],
    slash: str,
) -> None:
    """Whatever server wrote the listings, the copy has all of the source and nothing else, and so has the digest."""
    put_folder(site, source, "/pub/odd%20place/", make_listing)
    done = run_example("mirror.py", f"{site.url}/pub/odd%20place{slash}", tmp_path / "copy")
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "copy") == content(source)
    assert done.stdout == f"digest {standard_library.scan(source)['']}\n"


def test_python_s_own_server_is_mirrored(source: Path, tmp_path: Path, run_example: Run) -> None:
    """Its listings and its HTTP/1.0 do as well, and names can be left out."""
    for name in source.glob("caf*"):  # this server encodes a name that isn't Unicode as no other does
        name.unlink()
    with http_server(source) as url:
        done = run_example("mirror.py", url, tmp_path / "copy", "--exclude", "empty", "--exclude", "plain.txt")
    assert done.returncode == 0, done.stderr
    (source / "empty").rmdir()
    (source / "plain.txt").unlink()
    assert content(tmp_path / "copy") == content(source)


@contextmanager
def http_server(folder: Path) -> Generator[str, None, None]:
    """Serve `folder` by `python -m http.server`, and return its URL."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().partition("(")[2].partition(")")[0]
        finally:
            server.terminate()


def test_the_standard_library_is_mirrored_and_proven(tmp_path: Path, run_example: Run) -> None:
    """Without a URL, thousands of real files arrive, and the digest is that of the source folder."""
    done = run_example("mirror.py", "stdlib", tmp_path / "copy")
    assert done.returncode == 0, done.stderr
    source = Path(os.__file__).parent
    expected = {
        str(path.relative_to(source)): None if path.is_dir() else hashlib.sha256(path.read_bytes()).digest()
        for path in source.rglob("*")
        if not set(path.relative_to(source).parts) & {"site-packages", "dist-packages", "__pycache__"}
    }
    copy = {name: data and hashlib.sha256(data).digest() for name, data in content(tmp_path / "copy").items()}
    assert {name: data or None for name, data in copy.items()}.keys() == expected.keys()
    assert all(copy[name] == digest for name, digest in expected.items() if copy[name])
    files = sum(digest is not None for digest in expected.values())
    assert f" matches the source folder: {files} files, {len(expected) - files + 1} directories, " in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_the_demo_is_live_on_a_terminal(run_example_on_terminal: Callable[[str], tuple[int, bytes]]) -> None:
    """As `make demo` runs it: the panels are drawn while it runs, the cursor is put back, and the proof stands last."""
    returncode, output = run_example_on_terminal("mirror.py")
    assert returncode == 0, output
    screen = pyte.Screen(200, 50)
    stream = pyte.ByteStream(screen)
    shown: set[str] = set()
    for part in output.splitlines(keepends=True):
        stream.feed(part)
        shown |= {title for title in ("Worker Status", "Queue Stats", "Overall Progress") if title in part.decode()}
    assert shown == {"Worker Status", "Queue Stats", "Overall Progress"}
    lines = [line.rstrip() for line in screen.display if line.strip()]
    assert " matches the source folder: " in lines[-1]
    assert not any("Worker Status" in line for line in lines)
    assert not screen.cursor.hidden


def test_a_copy_that_differs_is_found_out(source: Path, tmp_path: Path) -> None:
    """A digest that is not the source's is an error that names what differs: changed, missing or too much."""
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    (copy / "a/x;y").write_text("changed")
    (copy / "plain.txt").unlink()
    (copy / "more").mkdir()
    digest = standard_library.scan(copy)[""]
    with pytest.raises(standard_library.Difference) as caught:
        standard_library.check(digest, copy, source)
    first, *paths = str(caught.value).splitlines()
    assert first.startswith(f"digest {digest} differs from {standard_library.scan(source)['']} ")
    assert [path.strip() for path in paths] == ["./", "a/", "a/x;y", "more/", "plain.txt"]


def test_a_hostile_listing_writes_nothing_outside(site: Site, tmp_path: Path, run_example: Run) -> None:
    """Links that lead out of the folder, encoded or not, are neither followed nor written; the others are mirrored."""
    elsewhere = [
        "../", "..", "../secret.txt", "/secret.txt", "/", "//127.0.0.2/secret.txt", "http://127.0.0.2/pub/secret.txt",
        f"{site.url.replace('http', 'https')}/pub/secret.txt", "javascript:alert(1)", "mailto:a@example.org", "?C=N;O=D",
        "#top", "", ".", "./", "http://[bad", "file:///etc/passwd", "deep/er.txt", "/pub/../secret.txt", "good.txt?x=1",
    ]  # fmt: skip
    refused = [
        "%2e%2e%2fsecret.txt", "..%2f..%2fsecret.txt", "%2e%2e/", "%2e%2e", "%2e", "%2fetc%2fpasswd", "/pub/%2e%2e/",
        "nul%00.txt", r"..\secret.txt", r"%5c..%5csecret.txt", r"C:%5csecret.txt".replace(":", "%3a"),
    ]  # fmt: skip
    put_listing(site, "/pub/", *elsewhere, *refused, "good.txt", " sub/ ", "/pub/also%20good.txt")
    put_listing(site, "/pub/sub/", "../", "../../secret.txt", "%2e%2e%2f%2e%2e%2fsecret.txt")
    site.put("/pub/good.txt", "good")
    site.put("/pub/also%20good.txt", "also")
    inner = tmp_path / "inner"
    inner.mkdir()
    done = run_example("mirror.py", f"{site.url}/pub/", inner / "copy")
    assert done.returncode == 1
    assert content(inner) == {
        "copy": None, "copy/good.txt": b"good", "copy/also good.txt": b"also", "copy/sub": None,
    }  # fmt: skip
    assert sorted(site.paths) == ["/pub/", "/pub/also%20good.txt", "/pub/good.txt", "/pub/sub/"]
    for reference in refused:
        assert f"the link {reference!r} isn't a valid file name" in done.stderr
    for reference in elsewhere:
        assert f"the link {reference!r} " not in done.stderr


def test_a_name_that_is_both_file_and_folder_fails_its_directory(site: Site, tmp_path: Path, run_example: Run) -> None:
    """A folder on disk can't hold both: the directory fails and says so, and the rest is mirrored."""
    put_listing(site, "/", "twin", "twin/", "other")
    site.put("/twin", "file")
    site.put("/other", "other")
    done = run_example("mirror.py", site.url, tmp_path / "copy")
    assert done.returncode == 1
    assert "'twin' is both a file and a folder" in done.stderr
    assert content(tmp_path / "copy") == {"twin": b"file", "other": b"other"}


def test_what_fails_is_named_and_the_rest_is_mirrored(site: Site, tmp_path: Path, run_example: Run) -> None:
    """Each failure names its URL and reason, leaves no file, and the exit code is 1."""

    def truncate(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100000")
        request.end_headers()
        request.wfile.write(b"x" * 50_000)

    def redirect(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302, "Found")
        request.send_header("Location", "http://127.0.0.2/elsewhere")
        request.end_headers()

    put_listing(site, "/", "gone", "broken", "cut", "moved", "closed/", "text/", "good")
    site.put("/broken", "oops", status=500)
    site.pages["/cut"] = truncate
    site.pages["/moved"] = redirect
    site.put("/closed/", "no", status=403)
    site.put("/text/", "no listing", "text/plain")
    site.put("/good", "good")
    done = run_example("mirror.py", site.url, tmp_path / "copy")
    assert done.returncode == 1
    assert content(tmp_path / "copy") == {"good": b"good"}
    report = done.stderr[done.stderr.index("the mirror is incomplete") :]
    for line in (
        "/gone: HTTP 404 Not here",
        "/broken: HTTP 500 Internal Server Error",
        "/cut: RemoteProtocolError: ",
        "/moved: HTTP 302 Found to http://127.0.0.2/elsewhere",
        "/closed/: HTTP 403 Forbidden",
        "/text/: not a directory listing",
    ):
        assert f"{site.url}{line}" in report
    assert "Traceback" not in report


def test_a_server_that_is_not_there_is_named(tmp_path: Path, run_example: Run) -> None:
    """Where nothing listens, the failure names the URL."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    done = run_example("mirror.py", f"http://127.0.0.1:{port}/pub", tmp_path / "copy")
    assert done.returncode == 1
    assert f"http://127.0.0.1:{port}/pub/: ConnectError: " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("example.org", "copy"), "URL must start with http"),
        (("http://example.org/",), "DEST is missing"),
        (("--resume", "run.db"), "DEST is missing"),
    ],
)
def test_wrong_arguments_are_explained(run_example: Run, arguments: tuple[str, ...], message: str) -> None:
    """A URL without a scheme or without a destination is refused before anything runs."""
    done = run_example("mirror.py", *arguments)
    assert done.returncode == 2
    assert message in done.stderr


HALF: int = 1_000_000
"""More than a file's buffer, which is 128 KiB since Python 3.14: so that some of it is on the disk."""


class SlowFile:
    """A file whose second half is sent only once `release` is set."""

    def __init__(self, site: Site, path: str) -> None:
        self.release = threading.Event()
        site.pages[path] = self._answer

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(2 * HALF))
        request.end_headers()
        request.wfile.write(b"x" * HALF)
        self.release.wait(60)
        request.wfile.write(b"y" * HALF)


def is_under_way(copy: Path) -> bool:
    """Tell whether some of a `SlowFile` is on the disk; other files are smaller, and may be renamed at any moment."""
    for path in copy.glob(".*.part"):
        with suppress(FileNotFoundError):
            if path.stat().st_size > 1_000:
                return True
    return False


def test_ctrl_c_finishes_what_is_being_downloaded(site: Site, tmp_path: Path, start_example: Start) -> None:
    """After one Ctrl-C the file under way becomes whole, nothing else is begun, and the exit code is 130."""
    slow = SlowFile(site, "/slow")
    put_listing(site, "/", "never", "slow")  # a stack: the last is taken first
    site.put("/never", "never")
    copy, log = tmp_path / "copy", tmp_path / "log"
    with start_example("mirror.py", site.url, copy, "--workers", "1", "--reporter", f"jsonl:{log}") as process:
        wait_until(lambda: is_under_way(copy))
        process.send_signal(signal.SIGINT)
        wait_until(lambda: "run.stopping" in events(log))
        slow.release.set()
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert content(copy) == {"slow": b"x" * HALF + b"y" * HALF}


def test_a_second_ctrl_c_leaves_no_half_written_file(site: Site, tmp_path: Path, start_example: Start) -> None:
    """After two Ctrl-C the download is cancelled, and neither the file nor a part of it is left."""
    slow = SlowFile(site, "/slow")
    put_listing(site, "/", "slow", "done")
    site.put("/done", "done")
    copy, log = tmp_path / "copy", tmp_path / "log"
    with start_example("mirror.py", site.url, copy, "--workers", "1", "--reporter", f"jsonl:{log}") as process:
        wait_until(lambda: is_under_way(copy))
        process.send_signal(signal.SIGINT)
        wait_until(lambda: "run.stopping" in events(log))
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    slow.release.set()
    assert process.returncode == 130, stderr
    assert content(copy) == {"done": b"done"}


def completed_urls(journal: Path) -> set[str]:
    """Return the relative URLs of the items that the journal says are completed."""
    if not journal.exists():
        return set()
    with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as connection:
        recorded = [json.loads(text) for (text,) in connection.execute("SELECT event FROM events ORDER BY seq")]
    urls = {event["item"]: event["payload"]["url"] for event in recorded if event["event"] == "item.enqueued"}
    return {urls[event["item"]] for event in recorded if event["event"] == "item.completed"}


@pytest.mark.parametrize("signals", [(signal.SIGINT,), (signal.SIGINT, signal.SIGINT), (signal.SIGKILL,)])
def test_an_interrupted_mirror_goes_on(
    site: Site, tmp_path: Path, start_example: Start, run_example: Run, signals: tuple[signal.Signals, ...]
) -> None:
    """After Ctrl-C, once or twice, and after SIGKILL the same command fetches only what was not completed."""
    for name in ("a", "b", "b/c"):
        (tmp_path / "source" / name).mkdir(parents=True)
        for number in range(10):
            (tmp_path / "source" / name / f"{number}: ü&.txt").write_bytes(os.urandom(30_000))
    (tmp_path / "source/b/slow").write_bytes(b"x" * HALF + b"y" * HALF)
    put_folder(site, tmp_path / "source", "/pub/", apache_listing)
    whole_slow = site.pages["/pub/b/slow"]
    slow = SlowFile(site, "/pub/b/slow")
    copy, journal, log = tmp_path / "copy", tmp_path / "mirror.db", tmp_path / "log"
    arguments = ("mirror.py", f"{site.url}/pub", copy, "--resume", journal, "--workers", "2")
    with start_example(*arguments, "--reporter", f"jsonl:{log}") as process:
        wait_until(lambda: "/pub/b/slow" in site.paths and len(completed_urls(journal)) >= 12)
        process.send_signal(signals[0])
        if len(signals) > 1:
            wait_until(lambda: "run.stopping" in events(log))
            process.send_signal(signals[1])
            process.wait(60)
        slow.release.set()
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == (130 if signal.SIGINT in signals else -signal.SIGKILL)
    assert ("  Resume:         run " in stderr) == (signal.SIGINT in signals)
    completed = completed_urls(journal)
    assert ("b/slow" in completed) == (signals == (signal.SIGINT,))
    site.requests.clear()
    site.pages["/pub/b/slow"] = whole_slow
    done = run_example(*arguments)
    assert done.returncode == 0, done.stderr
    assert f"resuming {journal}: {len(completed)} completed" in done.stderr
    everything = {path.removeprefix("/pub/") for path in site.pages}
    assert {path.removeprefix("/pub/") for path in site.paths} == everything - completed
    assert content(copy) == content(tmp_path / "source")
    assert done.stdout == f"digest {standard_library.scan(tmp_path / 'source')['']}\n"


def test_a_mirror_that_was_completed_is_not_fetched_again(site: Site, tmp_path: Path, run_example: Run) -> None:
    """Run once more with its journal, it says the same digest and asks for nothing."""
    put_listing(site, "/", "a")
    site.put("/a", "a")
    first, second = (run_example("mirror.py", site.url, tmp_path / "c", "--resume", tmp_path / "j") for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout == second.stdout
    assert site.paths == ["/", "/a"]


def test_the_journal_of_another_mirror_is_told(site: Site, tmp_path: Path, run_example: Run) -> None:
    """A digest is never that of something else: a journal that has another source is an error that names it."""
    for name in ("/one/", "/two/"):
        put_listing(site, name, "a")
        site.put(f"{name}a", name)
    first = run_example("mirror.py", f"{site.url}/one/", tmp_path / "c", "--resume", tmp_path / "j")
    second = run_example("mirror.py", f"{site.url}/two/", tmp_path / "d", "--resume", tmp_path / "j")
    assert (first.returncode, second.returncode) == (0, 1)
    assert f"{tmp_path / 'j'} is the journal of a mirror with another URL or --exclude" in second.stderr


def test_the_journal_of_a_mirror_that_left_out_others_is_told(site: Site, tmp_path: Path, run_example: Run) -> None:
    """What is left out is a part of what is mirrored: the order of the options is not, but another one is an error."""
    put_listing(site, "/", "a", "b", "c")
    for name in ("/a", "/b", "/c"):
        site.put(name, name)

    def run(*exclude: str) -> subprocess.CompletedProcess[str]:
        options = [word for name in exclude for word in ("--exclude", name)]
        return run_example("mirror.py", site.url, tmp_path / "c", "--resume", tmp_path / "j", *options)

    first, same, another = run("a", "b"), run("b", "a"), run("a")
    assert (first.returncode, same.returncode, another.returncode) == (0, 0, 1)
    assert first.stdout == same.stdout
    assert "is the journal of a mirror with another URL or --exclude; name another file" in another.stderr


def test_the_server_can_be_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for `make demo`: it waits for about as long as it is told, in all, and what it sends is whole."""
    (tmp_path / "folder").mkdir()
    files = {"small": b"x", "folder/large": os.urandom(300_000), "empty": b""}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    monkeypatch.setattr(standard_library, "FOLDER", tmp_path)
    assert standard_library.count_waits(tmp_path) == 2 + len(files) + 300_000 // 65_536
    with standard_library.serve(1.0) as url:
        began = time.monotonic()
        for name in ["", "folder/", *files]:
            assert httpx.get(url + name, trust_env=False).content == files.get(name, mock.ANY)
        assert 0.5 < time.monotonic() - began < 30


def test_the_server_ends_with_its_process(tmp_path: Path, start_example: Start) -> None:
    """The server of the standard library is gone soon after the example was killed."""
    log = tmp_path / "log"
    with start_example("mirror.py", "--workers", "1", "--reporter", f"jsonl:{log}") as process:
        wait_until(lambda: "item.described" in events(log))
        process.kill()
    described = next(json.loads(line) for line in log.read_text().splitlines() if "item.described" in line)
    port = int(described["text"].split(":")[2].split("/")[0])

    def refuses() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 10).close()
        except ConnectionRefusedError:
            return True
        return False

    wait_until(refuses)
