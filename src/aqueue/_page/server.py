"""Serves the page of a run over HTTP, and sends what changes in it: only what is shown, a few times a second."""

import asyncio
import hashlib
import logging
import secrets
import time
import zlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from aqueue._page.access import ENTER, Access, Keys
from aqueue._page.failures import failures_layout, failures_parts
from aqueue._page.followed_run import FollowedRun
from aqueue._page.frame import VIEWS, Parts, document, frame_parts
from aqueue._page.html import Html
from aqueue._page.listening import Listener, listen
from aqueue._page.moment import Moment
from aqueue._page.now import now_layout, now_parts

__all__ = ["PageServer"]

INTERVAL_S: Final = 0.4
"""How often the run is looked at, and what changed is sent, seconds."""

_LOOK_S: Final = 5.0
"""How often the run is read while no browser is there, seconds."""

_SILENCE_S: Final = 5.0
"""After how long without a change a browser gets a sign of life, seconds: without one for 20 s, it says that the server is gone."""

_STATIC: Final = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "vendor/idiomorph.esm.js": "text/javascript",
}
"""The files that the page loads, and their types."""

_VIEWS: Final[dict[str, tuple[Callable[[Moment], Parts], Callable[[Parts], Html]]]] = {
    "now": (now_parts, now_layout),
    "failures": (failures_parts, failures_layout),
}
"""By name: what renders the parts of a view, and what puts them together."""


_NOT_DRAWN: Final = Html(
    """<div id="notes"><p class="note bad"><b>This view can't be drawn.</b> This is a bug in aqueue; the terminal of aqueue serve """
    """says more. Please report it.</p></div>"""
)
_EMPTY_FRAME: Final[Parts] = {name: Html(f'<p id="{name}" hidden></p>') for name in ("state", "tabs", "notes", "said")}

_logger: Final = logging.getLogger(__name__)


class _Shown:
    """The run, read and rendered on a thread of its own; each view once per look, for however many browsers.

    While no browser is there, it is read every few seconds.
    """

    def __init__(self, run: FollowedRun, thread: ThreadPoolExecutor) -> None:
        self._run = run
        self._thread = thread
        self._rendered: dict[str, Parts] = {}
        self._looked_at = 0.0
        self._lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self.is_ending = asyncio.Event()

    def end(self) -> None:
        """Show nothing more; from any thread."""
        with suppress(RuntimeError):  # the loop has been closed
            self._loop.call_soon_threadsafe(self.is_ending.set)

    async def parts(self, view: str) -> Parts:
        """Return the parts of a view, with its frame, as they are now or were a moment ago."""
        async with self._lock:
            await self._look()
            if view not in self._rendered:
                self._rendered[view] = await self._loop.run_in_executor(self._thread, self._render, view)
            return self._rendered[view]

    async def _look(self) -> None:
        """Read what has happened, unless that was done a moment ago. The lock must be held."""
        if self._loop.time() - self._looked_at >= INTERVAL_S:
            await self._loop.run_in_executor(self._thread, self._run.poll)
            self._rendered.clear()
            self._looked_at = self._loop.time()

    async def document(self, view: str) -> str:
        """Return the whole page."""
        parts = await self.parts(view)
        main = Html("") if parts.get("notes") is _NOT_DRAWN else _VIEWS[view][1](parts)
        return document(self._run.name, view, _EMPTY_FRAME | parts, main)

    def _render(self, view: str) -> Parts:
        try:
            return frame_parts(self._run, view) | _VIEWS[view][0](self._run)
        except Exception:
            _logger.exception("a view can't be drawn")
            return {"notes": _NOT_DRAWN}

    async def read(self) -> None:
        """Read what happens, whether or not a browser is there: else one that comes after a night would wait for all of that."""
        while not self.is_ending.is_set():
            is_busy = self._run.read_share < 1 and not self._run.error
            async with self._lock:
                await self._look()
            await asyncio.sleep(INTERVAL_S / 10 if is_busy else _LOOK_S)


class PageServer:
    """Serves the page of the run in a journal to browsers.

    Attributes:
        address: where it is served, without a token.
    """

    def __init__(self, path: Path, listener: Listener | None = None, *, linger_s: float | None = None) -> None:
        """Read the journal at `path`.

        Parameters:
            path: the journal.
            listener: where browsers reach it, which `close` closes; by default on this machine alone.
            linger_s: `serve` ends once no process has run the run and no browser has shown it for so long, seconds; None for
                never.

        Raises:
            JournalError, CannotRead: the journal can't be read.
            CannotListen: no port is free.
        """
        self._thread = ThreadPoolExecutor(1, "aqueue-page")
        self._run = self._thread.submit(FollowedRun, path).result()
        self._keys = Keys()
        self._listener = listener or listen()
        self._place = f"/{secrets.token_urlsafe(12)}"
        self.address = self._listener.origin + self._place
        self._shown: _Shown | None = None
        self._linger_s = linger_s
        self._num_streams = 0
        config = uvicorn.Config(
            self.app, lifespan="on", ws="none", log_config=None, timeout_graceful_shutdown=1, server_header=False
        )
        config.load()
        config.ssl = (
            self._listener.tls
        )  # uvicorn would read the files itself, and its errors don't say what is wrong in which
        self._server = _Server(config, self._end_streams)

    def new_address(self) -> str:
        """Return the address with a token that lets one browser in."""
        return f"{self.address}{ENTER}?token={self._keys.token()}"

    def serve(self) -> None:
        """Serve until a signal or `end` ends it."""
        with suppress(KeyboardInterrupt):  # uvicorn raises the signal again once all is closed
            self._server.run(sockets=[self._listener.socket])

    def end(self) -> None:
        """Let `serve` end; from any thread."""
        self._server.should_exit = True
        self._end_streams()

    def close(self) -> None:
        """Close the journal and the socket."""
        self._listener.socket.close()
        self._thread.submit(self._run.close).result()
        self._thread.shutdown()

    def _end_streams(self) -> None:
        """Let streams end, for which the server would wait."""
        if self._shown is not None:
            self._shown.end()

    @property
    def app(self) -> Starlette:
        """The application: all that is served, below a path of its own."""
        routes = [Route("/" if view == "now" else f"/{view}", partial(self._page, view)) for view in VIEWS]
        routes += [Route("/events/{view}", self._events), Route("/static/{name:path}", _static)]
        access = Middleware(Access, keys=self._keys, place=self._place, hosts=self._listener.names)
        return Starlette(routes=[Mount(self._place, routes=routes)], middleware=[access], lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._shown = _Shown(self._run, self._thread)
        async with AsyncExitStack() as stack:
            tasks = [self._shown.read(), *([self._linger(self._linger_s)] if self._linger_s is not None else [])]
            for task in tasks:
                stack.callback(asyncio.create_task(task).cancel)
            yield

    async def _linger(self, linger_s: float) -> None:
        """End once nobody has run or looked at the run for `linger_s` seconds."""
        assert self._shown is not None
        idle_since = time.monotonic()
        while time.monotonic() - idle_since < linger_s:
            await asyncio.sleep(min(linger_s / 10, _LOOK_S))
            if self._num_streams or self._run.state.name == "running":
                idle_since = time.monotonic()
        self.end()

    async def _page(self, view: str, _: Request) -> Response:
        assert self._shown is not None
        return Response(await self._shown.document(view), media_type="text/html")

    async def _events(self, request: Request) -> Response:
        view = request.path_params["view"]
        if view not in VIEWS:
            return PlainTextResponse("There is no such view.\n", HTTPStatus.NOT_FOUND)
        if request.method == "HEAD":  # which has no end otherwise
            return Response(media_type="text/event-stream")
        messages = self._counted(self._messages(view))
        headers = {}
        if "gzip" in request.headers.get("accept-encoding", ""):
            messages = _compressed(messages)
            headers["Content-Encoding"] = "gzip"
        return StreamingResponse(messages, media_type="text/event-stream", headers=headers)

    async def _counted(self, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self._num_streams += 1
        try:
            async for message in messages:
                yield message
        finally:
            self._num_streams -= 1

    async def _messages(self, view: str) -> AsyncIterator[bytes]:
        """Yield what a browser needs to show `view`: all of it, then what changed.

        A slow browser gets the difference to what it got last, whenever it is ready: nothing waits for it in memory.
        """
        shown = self._shown
        assert shown is not None
        sent: Parts = {}
        silent_s = 0.0
        while not shown.is_ending.is_set():
            parts = await shown.parts(view)
            changed = {name: str(html) for name, html in parts.items() if sent.get(name) != html}
            sent = parts
            silent_s = 0.0 if changed else silent_s + INTERVAL_S
            if changed:
                yield b"data: %b\n\n" % msgspec.json.encode(changed)
            elif silent_s >= _SILENCE_S:
                silent_s = 0.0
                yield b"data: {}\n\n"
            with suppress(TimeoutError):
                await asyncio.wait_for(shown.is_ending.wait(), INTERVAL_S)


class _Server(uvicorn.Server):
    """Tells at once of a signal that ends it: uvicorn itself first waits for answers that are being sent."""

    def __init__(self, config: uvicorn.Config, on_end: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_end = on_end

    def handle_exit(self, sig: int, frame: object) -> None:
        super().handle_exit(sig, frame)  # type: ignore[arg-type]
        self._on_end()


async def _compressed(messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield `messages` as one gzip stream, each in full: what was sent before makes them a tenth of their size."""
    compressor = zlib.compressobj(6, wbits=31)
    async for message in messages:
        yield compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _STATIC:
        return PlainTextResponse("There is no such file.\n", HTTPStatus.NOT_FOUND)
    content = (files("aqueue._page") / "static" / name).read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(content, media_type=_STATIC[name], headers=headers)
