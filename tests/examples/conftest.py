"""Runs an example as a user does: a process of its own, its output into pipes. Serves it a site on loopback."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

Start = Callable[..., "subprocess.Popen[str]"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def load(name: str) -> ModuleType:
    """Import an example without running it."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(EXAMPLES))  # as for a script: the modules beside it can be imported
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(EXAMPLES))
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the empty folder in which examples are started."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    return folder


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    """Return the environment of examples: no proxy, no chosen reporter, temporary files in their folder."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    for name in ("AQUEUE_REPORTER", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        environment.pop(name, None)
    return environment | {"TMPDIR": str(folder), "TERM": "xterm-256color"}


@pytest.fixture
def start_example(folder: Path, environment: dict[str, str]) -> Iterator[Start]:
    """Return a function that starts an example with arguments, and with a Ctrl-C that works.

    Shells start what runs in the background with SIGINT ignored, and processes inherit that.
    """

    def start(name: str, *arguments: str | Path) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, EXAMPLES / name, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment,
        )

    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield start
    signal.signal(signal.SIGINT, previous)


@pytest.fixture
def run_example(start_example: Start) -> Run:
    """Return a function that runs an example to its end, at most 100 s, and returns its output and exit code."""

    def run(name: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        with start_example(name, *arguments) as process:
            try:
                stdout, stderr = process.communicate(timeout=100)
            except BaseException:
                process.kill()
                raise
            return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    return run


@pytest.fixture
def run_example_on_terminal(folder: Path, environment: dict[str, str]) -> Callable[[str], tuple[int, bytes]]:
    """Return a function that runs an example on a pseudo-terminal, and returns its exit code and all that it wrote."""

    def run(name: str) -> tuple[int, bytes]:
        terminal, its_end = os.openpty()
        termios.tcsetwinsize(its_end, (50, 200))
        output = b""
        with subprocess.Popen(
            [sys.executable, EXAMPLES / name],
            stdin=its_end,
            stdout=its_end,
            stderr=its_end,
            cwd=folder,
            env=environment,
        ) as process:
            os.close(its_end)
            with suppress(OSError):  # EIO: the other end was closed
                while part := os.read(terminal, 65536):
                    output += part
            os.close(terminal)
        return process.returncode, output

    return run


Answer = Callable[[BaseHTTPRequestHandler], None]


class Request(NamedTuple):
    """What a site was asked for, and when, on the monotonic clock."""

    method: str
    path: str
    at: float


class Site:
    """A server of made-up pages.

    Attributes:
        pages: what answers each path.
        requests: what was asked for, in that order.
        url: where it is, without a slash at the end.
    """

    def __init__(self) -> None:
        self.pages: dict[str, Answer] = {}
        self.requests: list[Request] = []
        self.url = ""

    @property
    def paths(self) -> list[str]:
        """Return the paths that were asked for."""
        return [request.path for request in self.requests]

    def put(
        self, path: str, body: str | bytes, content_type: str = "application/octet-stream", status: int = 200
    ) -> None:
        """Answer `path` with `body`."""
        data = body.encode() if isinstance(body, str) else body

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(status)
            request.send_header("Content-Type", content_type)
            request.send_header("Content-Length", str(len(data)))
            request.end_headers()
            if request.command != "HEAD":
                request.wfile.write(data)

        self.pages[path] = answer


@contextmanager
def serve_site() -> Iterator[Site]:
    """Serve a `Site` on loopback."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.requests.append(Request(self.command, self.path, time.monotonic()))
            answer = site.pages.get(self.path)
            if answer is None:
                self.send_error(404, "Not here")
            else:
                answer(self)

        do_HEAD = do_GET  # noqa: N815  # the name that the base class looks for

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name that the base class gives it
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield site
        finally:
            server.shutdown()


@pytest.fixture
def site() -> Iterator[Site]:
    """Serve a `Site` on loopback."""
    with serve_site() as site:
        yield site


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for `condition`, at most 60 s."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def events(path: Path) -> list[str]:
    """Return the names of the events that were logged so far."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["event"] for line in lines]
