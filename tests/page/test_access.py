"""Who may read the page, and steer its run: each attack on a server on this machine that `_page.access` is there for."""

import contextlib
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from subprocess import CompletedProcess
from typing import NamedTuple
from urllib.parse import quote

import anyio.to_thread
import httpx
import psutil
import pytest

from aqueue._page import commands
from aqueue._page.access import Keys
from aqueue._page.server import PageServer
from tests.journal.writing import make_events, write

DEADLINE_S = 30.0
READ = ("/", "/failures", "/events/now", "/static/page.js", "/static/vendor/idiomorph.esm.js", "/nothing")
"""What somebody may try to read."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    """Serve the page of a run."""
    path = tmp_path_factory.mktemp("page") / "run.db"
    write(path, make_events(1, 50))
    with served(PageServer(path)) as server:
        yield server


@contextlib.contextmanager
def served(server: PageServer) -> Iterator[PageServer]:
    """Let a server serve on a thread of its own."""
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server
    server.end()
    thread.join()
    server.close()


@pytest.fixture
def stranger(server: PageServer) -> Iterator[httpx.Client]:
    """Return a browser that has no cookie."""
    with httpx.Client(base_url=server.address) as client:
        yield client


@pytest.fixture
def reader(server: PageServer, stranger: httpx.Client) -> httpx.Client:
    """Return a browser that has opened the printed address."""
    assert stranger.get(server.new_address()).status_code == 200
    return stranger


def place(server: PageServer) -> str:
    """Return the path below which the server has everything."""
    return "/" + server.address.split("/", 3)[3]


# ---- without the address ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", READ)
def test_nothing_is_read_without_a_cookie(stranger: httpx.Client, path: str) -> None:
    """Not even which paths exist; the answer says where the address is."""
    answer = stranger.get(path)
    assert answer.status_code == 401
    assert "aqueue serve" in answer.text
    assert "run.db" not in answer.text


@pytest.mark.parametrize("token", ["", "guessed", "\ud800", "a" * 20_000, "é"])
def test_a_guessed_token_gives_no_cookie(server: PageServer, stranger: httpx.Client, token: str) -> None:
    """Many wrong tokens, with any characters, are refused; the right one works after that."""
    for _ in range(50):
        answer = stranger.get("/enter", params={"token": token.encode("utf-8", "replace").decode()})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
    assert stranger.get("/enter").status_code == 403
    assert stranger.get(server.new_address()).status_code == 200


def test_a_token_works_once(server: PageServer, stranger: httpx.Client) -> None:
    """Somebody who reads it later, in a terminal or in a browser's history, gets nothing and is told what to do."""
    address = server.new_address()
    assert "set-cookie" in stranger.get(address).headers
    stranger.cookies.clear()
    replayed = stranger.get(address)
    assert replayed.status_code == 403
    assert "set-cookie" not in replayed.headers
    assert "Press Enter" in replayed.text


def test_the_address_opened_again_in_the_same_browser_leads_to_the_page(
    server: PageServer, stranger: httpx.Client
) -> None:
    """A reload or the browser's history isn't an attack."""
    address = server.new_address()
    stranger.get(address)
    again = stranger.get(address)
    assert again.status_code == 200
    assert "set-cookie" not in again.headers


def test_the_cookie_is_for_this_server_and_no_script(server: PageServer, stranger: httpx.Client) -> None:
    """Other sites' requests don't have it, nor do servers on other ports, which don't know the path: ports share cookies."""
    cookie = stranger.get(server.new_address()).headers["set-cookie"]
    attributes = cookie.removeprefix("aqueue=")
    assert {"HttpOnly", f"Path={place(server)}", "SameSite=strict"} <= set(re.split("; ", attributes)[1:])
    assert len(attributes.partition(";")[0]) >= 40


@pytest.mark.parametrize("value", ["", "guessed", "é", "a" * 10_000, '"', "; Path=/"])
def test_a_guessed_cookie_is_none(stranger: httpx.Client, value: str) -> None:
    """Any value but one that was given out is refused."""
    assert stranger.get("/", headers=[(b"cookie", f"aqueue={value}".encode())]).status_code == 401


def test_the_page_has_no_token_and_leads_to_no_address_with_one(server: PageServer, reader: httpx.Client) -> None:
    """What a person copies from the address bar or the page lets nobody in."""
    token = server.new_address().rpartition("=")[2]
    for path in ("/", "/failures", "/static/page.js"):
        text = reader.get(path).text
        assert token not in text
        assert "token" not in text


def test_old_tokens_and_cookies_do_not_pile_up() -> None:
    """Of tokens that nobody uses the last 20 work, and of cookies the last 100."""
    keys = Keys()
    tokens = [keys.token() for _ in range(25)]
    assert keys.cookie_for(tokens[4]) is None
    assert keys.cookie_for(tokens[5]) is not None
    cookies = [cookie for _ in range(105) if (cookie := keys.cookie_for(keys.token()))]
    assert [keys.has_cookie(cookie) for cookie in (cookies[4], cookies[5], cookies[-1])] == [False, True, True]


# ---- other sites -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8700",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "127.0.0.1@evil.example",
        "127.1",
        "0.0.0.0",
        "[::ffff:7f00:1]",
        "127.0.0.1, evil.example",
        "",
        "x" * 5_000,
    ],
)
def test_a_name_that_is_made_to_lead_here_is_refused(reader: httpx.Client, server: PageServer, host: str) -> None:
    """DNS rebinding: the browser believes that the page is that site's own, so only `Host` tells. Also no token works."""
    for path in (*READ, server.new_address().removeprefix(server.address)):
        answer = reader.get(path, headers={"host": host})
        assert answer.status_code == 400, path
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_the_names_of_this_machine_are_known(reader: httpx.Client, server: PageServer, host: str) -> None:
    """With any port: `ssh -L` may lead from another one."""
    cookies = "; ".join(f"{name}={value}" for name, value in reader.cookies.items())
    for port in ("", ":9000"):
        assert reader.get("/", headers={"host": host + port, "cookie": cookies}).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site", "unknown"])
@pytest.mark.parametrize(
    ("mode", "dest"), [("cors", "empty"), ("no-cors", "image"), ("no-cors", "script"), ("navigate", "iframe")]
)
def test_other_sites_read_nothing(reader: httpx.Client, site: str, mode: str, dest: str) -> None:
    """Not even with the cookie, by a fetch, an image, a script or a frame: browsers say who asks."""
    headers = {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": dest}
    for path in READ:
        assert reader.get(path, headers=headers).status_code == 403


def test_a_link_on_another_site_may_lead_to_the_page(reader: httpx.Client, stranger: httpx.Client) -> None:
    """The person who follows it sees the page; the other site doesn't.

    A browser leaves out a SameSite=Strict cookie then. It gets a page that loads the same address again, with it.
    """
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert "aqueue run" in reader.get("/", headers=headers).text
    stranger.cookies.clear()
    again = stranger.get("/failures", headers=headers)
    assert "http-equiv" in again.text
    assert "aqueue run" not in again.text
    assert stranger.get("/failures", headers=headers | {"sec-fetch-site": "same-origin"}).status_code == 401


def test_a_server_on_another_port_gets_no_cookie(server: PageServer) -> None:
    """Browsers send cookies to all ports of a host; another user's server there doesn't know the path, which is a new one each time."""
    with httpx.Client() as browser:
        browser.get(server.new_address())
        elsewhere = f"http://127.0.0.1:9/{server.address.rpartition('/')[0][-3:]}"
        for url in (elsewhere, "http://127.0.0.1:9/", "http://127.0.0.1:9/steal"):
            assert "cookie" not in browser.build_request("GET", url).headers
        assert "cookie" in browser.build_request("GET", f"{server.address}/").headers
    assert len(place(server)) > 16


def test_a_cookie_that_is_slow_to_parse_holds_up_nobody(stranger: httpx.Client) -> None:
    """Python's own parser takes seconds for it (CVE-2024-7592)."""
    began = time.thread_time()
    cookie = b'aqueue="' + b"\\" * 50_000 + b'"'
    assert stranger.get("/", headers=[(b"cookie", cookie)]).status_code == 401
    assert time.thread_time() - began < 1


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", None])
def test_nothing_can_be_asked_of_a_read_only_page(reader: httpx.Client, method: str, origin: str | None) -> None:
    """Neither by a form of another site nor by a script of its own; no header allows another origin anything."""
    for path in (
        "/",
        "/failures",
        "/events/now",
        "/enter",
        "/pause",
        "/control",
        "/control/stop",
        "/control/stop/dialog",
    ):
        answer = reader.request(method, path, headers={"origin": origin} if origin else {}, content=b'{"verb": "stop"}')
        assert answer.status_code == 405
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/failures", "/static/page.css", "/nothing"])
def test_nothing_from_elsewhere_runs_in_the_page(reader: httpx.Client, path: str) -> None:
    """Each answer has the policy: only the page's own files, no inline script or style, no frame around it."""
    headers = reader.get(path).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["form-action"] == "'self'"  # the filter of the items, and the slider
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_refusals_have_the_policy_too(stranger: httpx.Client) -> None:
    """And are never kept by a cache."""
    for answer in (stranger.get("/"), stranger.post("/"), stranger.get("/", headers={"host": "evil.example"})):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../access.py",
        "/static/%2e%2e/access.py",
        "/static/..%2faccess.py",
        "/static/vendor/../../server.py",
        "/static//etc/passwd",
        "/static/page.html",
        "/static/",
        "/static/\x00",
        "/events/../enter",
        "/events/then",
        "/events/",
        "//evil.example/",
    ],
)
def test_there_are_no_other_files(server: PageServer, reader: httpx.Client, path: str) -> None:
    """A path is a name in a list, never a place on the disk."""
    status, body = raw_get(server, path, reader)
    assert status in (400, 404)
    assert b"def " not in body


def raw_get(server: PageServer, path: str, reader: httpx.Client) -> tuple[int, bytes]:
    """Return the answer to a request for `path`, which no client has made a proper one."""
    cookies = "; ".join(f"{name}={value}" for name, value in reader.cookies.items())
    host = server.address.split("/")[2]
    path = path if path.startswith("//") else place(server) + path
    with socket.create_connection((host.partition(":")[0], int(host.partition(":")[2]))) as connection:
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookies}\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]


# ---- requests that are none --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 1_000_000,
        b"GET /" + b"a" * 1_000_000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 1_000,
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 999999999999\r\n\r\nx",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\nx",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"",
    ],
)
def test_huge_and_malformed_requests_are_refused(server: PageServer, reader: httpx.Client, data: bytes) -> None:
    """None is answered with anything of the run, and the server goes on."""
    host, port = server.address.split("/")[2].split(":")
    with socket.create_connection((host, port)) as connection, contextlib.suppress(OSError):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(10)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
        assert not answer or answer.split(b" ", 2)[1] in (b"400", b"401", b"405", b"431")
        assert b"run.db" not in answer
    assert reader.get("/").status_code == 200


def test_only_this_machine_can_connect(server: PageServer) -> None:
    """It listens on a loopback address alone, so that no other machine reaches it whatever it sends."""
    port = int(server.address.split("/")[2].split(":")[1])
    listening = [
        one.laddr for one in psutil.Process().net_connections() if one.status == "LISTEN" and one.laddr.port == port
    ]
    assert [address.ip for address in listening] == ["127.0.0.1"]


# ---- commands ----------------------------------------------------------------------------------------------------


class Steered(NamedTuple):
    """A server of a page from which the run can be steered, and the command lines that it has called, which do nothing."""

    server: PageServer
    called: list[list[str]]


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Steered]:
    """Serve such a page."""
    path = tmp_path_factory.mktemp("page") / "run.db"
    write(path, make_events(1, 50))
    called: list[list[str]] = []

    async def call(words: Sequence[str]) -> CompletedProcess[bytes]:
        called.append(list(words))
        return CompletedProcess(words, 0, b"it is so\n", b"")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "_called", call)
        with served(PageServer(path, can_control=True)) as server:
            yield Steered(server, called)


@pytest.fixture
def called(steered: Steered) -> list[list[str]]:
    """Return the command lines that the server calls from now on."""
    steered.called.clear()
    return steered.called


@pytest.fixture
def person(steered: Steered) -> Iterator[httpx.Client]:
    """Return a browser that has opened the printed address, whose requests are those of the page."""
    with httpx.Client(base_url=steered.server.address, timeout=DEADLINE_S) as client:
        assert client.get(steered.server.new_address()).status_code == 200
        client.headers.update({"origin": origin(steered.server), "sec-fetch-site": "same-origin", "content-type": JSON})
        yield client


def origin(server: PageServer | httpx.Client) -> str:
    """Return the origin of the server's pages."""
    address = server.address if isinstance(server, PageServer) else str(server.base_url)
    return "/".join(address.split("/")[:3])


JSON = "application/json"


@pytest.mark.parametrize("left_out", ["origin", "sec-fetch-site", None])
def test_the_page_gives_commands(person: httpx.Client, called: list[list[str]], left_out: str | None) -> None:
    """Browsers that leave out one of the two headers that say who asks are known by the other one."""
    if left_out is not None:
        del person.headers[left_out]
    answer = person.post("/control/pause", content=b"{}")
    assert (answer.status_code, answer.json()) == (200, {"said": "it is so"})
    assert [words[0] for words in called] == ["pause"]
    assert "Pause run" in person.get("/control").text


FOREIGN = (
    "https://evil.example", "null", "", "http://127.0.0.1", "http://127.0.0.1:1", "https://{host}", "http://{host}.evil.example",
    "http://evil.example@{host}", "http://{host}/", "http://localhost:{port}", "http://{host}, http://{host}", "{host}",
)  # fmt: skip


@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_foreign_origin_gives_no_commands(person: httpx.Client, called: list[list[str]], foreign: str) -> None:
    """Neither with the cookie nor if the browser says nothing more: not another site, port, scheme or name of this machine."""
    host = origin(person).partition("//")[2]
    person.headers["origin"] = foreign.format(host=host, port=host.partition(":")[2])
    assert person.post("/control/stop", content=b"{}").status_code == 403
    del person.headers["sec-fetch-site"]
    assert person.post("/control/stop", content=b"{}").status_code == 403
    assert called == []


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none", "unknown", "", "same-origin, cross-site"])
@pytest.mark.parametrize("mode", ["cors", "no-cors", "navigate"])
def test_a_fetch_of_another_site_gives_no_commands(
    person: httpx.Client, called: list[list[str]], site: str, mode: str
) -> None:
    """Also if it could make the browser send the page's own origin, and if it navigates."""
    headers = {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": "document"}
    assert person.post("/control/stop", content=b"{}", headers=headers).status_code == 403
    del person.headers["origin"]
    assert person.post("/control/stop", content=b"{}", headers=headers).status_code == 403
    assert called == []


def test_who_does_not_say_where_it_comes_from_gives_no_commands(person: httpx.Client, called: list[list[str]]) -> None:
    """A browser that sends neither of the two headers is too old to be safe."""
    del person.headers["origin"], person.headers["sec-fetch-site"]
    assert person.post("/control/stop", content=b"{}").status_code == 403
    assert called == []


def test_two_headers_that_differ_give_no_commands(person: httpx.Client, called: list[list[str]]) -> None:
    """Whichever of them comes first."""
    own = origin(person)
    del person.headers["origin"]
    for both in ((own, "https://evil.example"), ("https://evil.example", own)):
        headers = [*person.headers.multi_items(), *(("origin", one) for one in both)]
        assert person.post("/control/stop", content=b"{}", headers=headers).status_code == 403
    assert called == []


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "text/plain;application/json", "", "json"]
)  # fmt: skip
def test_what_a_form_can_send_is_no_command(person: httpx.Client, called: list[list[str]], kind: str) -> None:
    """Its content type is refused, even if the rest is right: another site can send no other without asking first."""
    assert person.post("/control/stop", content=b"{}", headers={"content-type": kind}).status_code == 415
    assert person.options("/control/stop", headers={"access-control-request-method": "POST"}).status_code == 405
    assert called == []


def test_commands_need_the_cookie(steered: Steered, person: httpx.Client, called: list[list[str]]) -> None:
    """Not a token, whether guessed, used or new: it is no part of the address of a command."""
    used = steered.server.new_address()
    person.get(used)
    person.cookies.clear()
    token = used.partition("=")[2]
    for cookie in ("", "aqueue=", "aqueue=guessed", f"aqueue={token}", "other=1"):
        for query in ("", f"?token={token}", f"?token={steered.server.new_address().partition('=')[2]}"):
            answer = person.post(f"/control/stop{query}", content=b"{}", headers={"cookie": cookie})
            assert answer.status_code == 401
    assert called == []


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8700", "127.0.0.1.evil.example", "0.0.0.0", ""])
def test_a_name_that_is_made_to_lead_here_gives_no_commands(
    person: httpx.Client, called: list[list[str]], host: str
) -> None:
    """DNS rebinding: the browser believes that the site asks itself, so that the origin is its own."""
    headers = {"host": host, "origin": f"http://{host}"}
    assert person.post("/control/stop", content=b"{}", headers=headers).status_code == 400
    assert called == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_commands_are_posted(person: httpx.Client, called: list[list[str]], method: str) -> None:
    """No link, image or other method gives any; and nothing else takes a POST."""
    for path in ("/control/stop", "/control/stop/dialog"):
        assert person.request(method, path, content=b"{}").status_code == 405
    for path in ("/", "/control", "/failures", "/events/now", "/static/page.js", "/enter"):
        assert person.post(path, content=b"{}").status_code == 405
    assert called == []


@pytest.mark.parametrize(
    "verb", ["serve", "export", "status", "Stop", "stop ", "stop/", "-h", "dialog", "stop/now", "\x00", "..%2fstop"]
)
def test_there_are_no_other_verbs(person: httpx.Client, called: list[list[str]], verb: str) -> None:
    """A verb is a name in a list, and no other subcommand is called."""
    for end in ("", "/dialog"):
        answer = person.post(f"/control/{quote(verb, safe='/%')}{end}", content=b"{}", follow_redirects=False)
        assert answer.status_code in (307, 404)  # with a slash at the end, it leads to the path without
    assert called == []


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("pause", b""),
        ("pause", b"null"),
        ("pause", b"[]"),
        ("pause", b"{"),
        ("pause", b"{}{}"),
        ("pause", b"\xff"),
        ("pause", b'{"group": "\xff"}'),
        ("pause", b'{"group": "\\ud800"}'),
        ("pause", b'{"group": "a\\u0000b"}'),
        ("pause", b'{"group": 1}'),
        ("pause", b'{"group": ["a"]}'),
        ("pause", b'{"group": "%s"}' % (b"x" * 10_001)),
        ("pause", b'{"via": "somebody"}'),
        ("pause", b'{"file": "/etc/passwd"}'),
        ("pause", b"[" * 60_000),
        ("workers", b"{}"),
        ("workers", b'{"number": "4"}'),
        ("workers", b'{"number": 0}'),
        ("workers", b'{"number": 1.5}'),
        ("workers", b'{"number": true}'),
        ("workers", b'{"number": 1e99}'),
        ("workers", b'{"number": %s}' % (b"9" * 5_000)),
        ("limit", b"{}"),
        ("limit", b'{"group": "a", "concurrent": 0}'),
        ("limit", b'{"group": "a", "concurrent": -1}'),
        ("limit", b'{"group": "a", "per_second": 0}'),
        ("limit", b'{"group": "a", "per_second": NaN}'),
        ("limit", b'{"group": "a", "per_second": 1e999}'),
        ("limit", b'{"group": "a", "is_default": 1}'),
        ("stop", b'{"now": "no"}'),
        ("retry", b'{"items": [0]}'),
        ("retry", b'{"items": [%s1]}' % (b"1," * 1_000)),
        ("retry", b'{"items": 1}'),
        ("retry", b'{"states": ["gone"]}'),
        ("retry", b'{"types": [""]}'),
        ("retry", b'{"types": [%s"a"]}' % (b'"a",' * 100)),
        ("retry", b'{"error": ""}'),
        ("retry", b'{"subtree": "1"}'),
        ("skip", b'{"completed": true}'),
        ("skip", b'{"result": 1}'),
        ("cancel", b'{"selector": "--yes"}'),
    ],
)
def test_what_is_no_request_is_refused(person: httpx.Client, called: list[list[str]], verb: str, body: bytes) -> None:
    """Each field has its type and its bounds, and there are no others; the answer says what was wrong, safe to show."""
    for end in ("", "/dialog"):
        answer = person.post(f"/control/{verb}{end}", content=body)
        assert answer.status_code == 400
        assert answer.json()["error"].isprintable()
    assert called == []


def test_a_huge_request_is_refused(person: httpx.Client, called: list[list[str]]) -> None:
    """However it says its length, or doesn't; the server reads no more of it than a command has, and goes on."""
    body = b'{"group": "' + b"x" * 1_000_000 + b'"}'
    for content in (body, iter([body] * 20)):
        with contextlib.suppress(httpx.WriteError):  # the server has closed the connection
            assert person.post("/control/pause", content=content).status_code == 413
    assert person.post("/control/pause", content=b"{}" + b" " * 65_535).status_code == 413
    assert called == []
    assert person.post("/control/pause", content=b"{}" + b" " * 65_534).status_code == 200


TEXTS = (
    "--now",
    "-h",
    "--",
    "; touch /tmp/x",
    "$(id)",
    "`id`",
    "a b",
    "'\"",
    "<script>",
    "é\u202e\n\x1b[2J",
    "%s",
    "=",
    "@file",
    "*",
)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_no_option_and_no_shell_reads_it(person: httpx.Client, called: list[list[str]], text: str) -> None:
    """Whatever it is, it is the value of the option that it was given for, or comes after the mark that ends all options."""
    for verb, fields in (
        ("pause", {"group": text}),
        ("limit", {"group": text}),
        ("skip", {"types": [text], "key": text}),
    ):
        assert person.post(f"/control/{verb}", json=fields).status_code == 200
    pause, limit, skip = called
    assert f"--group={text}" in pause
    assert limit[-1] == text and ("--" in limit[:-1] or not text.startswith("-"))
    assert {f"--type={text}", f"--key={text}"} < set(skip)


def test_too_many_commands_wait(person: httpx.Client, steered: Steered, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two run at a time, eight more wait, and others are told to try again."""
    release, running = threading.Event(), []

    async def call(words: Sequence[str]) -> CompletedProcess[bytes]:
        running.append(words)
        most.append(len(running))
        await anyio.to_thread.run_sync(release.wait)
        running.remove(words)
        return CompletedProcess(words, 0, b"it is so\n", b"")

    most: list[int] = []
    monkeypatch.setattr(commands, "_called", call)
    with ThreadPoolExecutor(14) as threads:
        asked = [threads.submit(person.post, "/control/workers", json={"number": n}) for n in range(1, 15)]
        refused = [one.result() for one in islice(as_completed(asked), 4)]
        release.set()
        done = [one.result() for one in asked]
    assert {one.status_code for one in refused} == {429}
    assert "try again" in refused[0].json()["error"]
    assert Counter(one.status_code for one in done) == {200: 10, 429: 4}
    assert max(most) == 2
