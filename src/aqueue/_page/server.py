"""Serves the page of a run over HTTP, and sends what changes in it: only what is shown, a few times a second."""

import asyncio
import hashlib
import logging
import re
import secrets
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Final, get_args
from urllib.parse import urlencode

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from aqueue._page.access import CONTROL, ENTER, Access, Keys
from aqueue._page.commands import (
    MAX_BYTES,
    OnItems,
    Refused,
    Runner,
    SetLimit,
    Stop,
    request_of,
)
from aqueue._page.commands import (
    Request as Command,
)
from aqueue._page.control import items_dialog, limit_dialog, stop_dialog
from aqueue._page.followed_run import FollowedRun
from aqueue._page.frame import Parts, shown_views
from aqueue._page.item_query import Order
from aqueue._page.listening import Listener, listen
from aqueue._page.moment import Asked
from aqueue._page.shown import LOOK_S, Shown

__all__ = ["PageServer"]

_SILENCE_S: Final = 5.0
"""After how long without a change a browser gets a sign of life, seconds: without one for 20 s, it says that the server is gone."""

_KEEP_ALIVE_S: Final = 600
"""How long a connection that isn't used stays open, seconds: longer than browsers keep it. Were it closed just when a command is sent,
nobody would know whether that was carried out."""

_SENT_S: Final = 10.0
"""How long a browser may take to send a command, seconds."""

_STATIC: Final = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "reader.js": "text/javascript",
    "control.js": "text/javascript",
    "vendor/idiomorph.esm.js": "text/javascript",
}
"""The files that the page loads, and their types."""

_MAX_FILTER_CHARS: Final = 500
_NUMBER: Final = re.compile("[0-9]{1,15}")
_DECIMAL: Final = re.compile("[0-9]{1,12}([.][0-9]{1,20})?")  # a slider says all the digits of a float

_logger: Final = logging.getLogger(__name__)


class PageServer:
    """Serves the page of the run in a journal to browsers.

    Attributes:
        address: where it is served, without a token.
    """

    def __init__(
        self, path: Path, listener: Listener | None = None, *, linger_s: float | None = None, can_control: bool = False
    ) -> None:
        """Read the journal at `path`.

        Parameters:
            path: the journal.
            listener: where browsers reach it, which `close` closes; by default on this machine alone.
            linger_s: `serve` ends once no process has run the run and no browser has shown it for so long, seconds; None for
                never.
            can_control: whether the run can be steered from the page.

        Raises:
            JournalError, CannotRead: the journal can't be read.
            CannotListen: no port is free.
        """
        self._thread = ThreadPoolExecutor(1, "aqueue-page")
        self._index_thread = ThreadPoolExecutor(1, "aqueue-index")
        self._run = self._thread.submit(FollowedRun, path).result()
        self._run.can_control = can_control
        self._runner = Runner(path)
        self._views = shown_views(can_control)
        self._keys = Keys()
        self._listener = listener or listen()
        self._place = f"/{secrets.token_urlsafe(12)}"
        self.address = self._listener.origin + self._place
        self._shown: Shown | None = None
        self._linger_s = linger_s
        self._num_streams = 0
        config = uvicorn.Config(
            self.app,
            lifespan="on",
            ws="none",
            log_config=None,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=_KEEP_ALIVE_S,
            server_header=False,
            proxy_headers=False,  # a request says itself where it was sent to
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
        if self._shown is not None:
            self._index_thread.submit(self._shown.close_index).result()
        self._thread.submit(self._run.close).result()
        self._thread.shutdown()
        self._index_thread.shutdown()

    def _end_streams(self) -> None:
        """Let streams end, for which the server would wait."""
        if self._shown is not None:
            self._shown.end()

    @property
    def app(self) -> Starlette:
        """The application: all that is served, below a path of its own."""
        routes = [Route("/" if view == "now" else f"/{view}", partial(self._page, view)) for view in self._views]
        routes += [Route("/events/{view}", self._events), Route("/static/{name:path}", _static)]
        if self._run.can_control:
            routes += [
                Route(f"{CONTROL}{{verb}}{end}", partial(self._control, handle), methods=["POST"])
                for end, handle in (("", self._carry_out), ("/dialog", self._dialog))
            ]
        guard = partial(
            Access, keys=self._keys, place=self._place, hosts=self._listener.names, can_control=self._run.can_control
        )
        access = Middleware(guard)
        return Starlette(routes=[Mount(self._place, routes=routes)], middleware=[access], lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._shown = Shown(self._run, self._thread, self._index_thread)
        async with AsyncExitStack() as stack:
            tasks = [
                self._shown.read(),
                self._shown.fill(),
                *([self._linger(self._linger_s)] if self._linger_s is not None else []),
            ]
            for task in tasks:
                stack.callback(asyncio.create_task(task).cancel)
            yield

    async def _linger(self, linger_s: float) -> None:
        """End once nobody has run or looked at the run for `linger_s` seconds."""
        assert self._shown is not None
        idle_since = time.monotonic()
        while time.monotonic() - idle_since < linger_s:
            await asyncio.sleep(min(linger_s / 10, LOOK_S))
            if self._num_streams or self._run.state.name == "running":
                idle_since = time.monotonic()
        self.end()

    async def _page(self, view: str, request: Request) -> Response:
        assert self._shown is not None
        asked = _asked(view, request)
        if (elapsed_s := request.query_params.get("t")) is not None and _DECIMAL.fullmatch(elapsed_s):
            asked = msgspec.structs.replace(asked, at=await self._shown.seq_at(float(elapsed_s)))
            parameters = {name: value for name, value in request.query_params.items() if name not in ("t", "at")}
            at = {} if asked.at is None else {"at": asked.at}
            return RedirectResponse(f"{request.url.path}?{urlencode(parameters | at)}", HTTPStatus.SEE_OTHER)
        return Response(await self._shown.document(asked), media_type="text/html")

    async def _events(self, request: Request) -> Response:
        view = request.path_params["view"]
        if view not in self._views:
            return PlainTextResponse("There is no such view.\n", HTTPStatus.NOT_FOUND)
        asked = _asked(view, request)
        if request.method == "HEAD":  # which has no end otherwise
            return Response(media_type="text/event-stream")
        messages = self._counted(self._messages(asked))
        headers = {}
        if "gzip" in request.headers.get("accept-encoding", ""):
            messages = _compressed(messages)
            headers["Content-Encoding"] = "gzip"
        return StreamingResponse(messages, media_type="text/event-stream", headers=headers)

    async def _control(self, handle: Callable[[str, Command], Awaitable[Response]], request: Request) -> Response:
        """Answer a command: with what came of it, or with why nothing did, as JSON."""
        verb = request.path_params["verb"]
        try:
            asked = request_of(verb, await _body(request))
            if self._run.error:  # the command would find its journal by name, which may be another run's by now
                raise Refused(HTTPStatus.CONFLICT, "the journal of this run can't be read any more")
            return await handle(verb, asked)
        except Refused as refused:
            return _json({"error": refused.why}, refused.status)

    async def _carry_out(self, verb: str, asked: Command) -> Response:
        return _json({"said": await self._runner.carry_out(verb, asked)})

    async def _dialog(self, verb: str, asked: Command) -> Response:
        """Answer with what a dialog shows before a command is given, as HTML."""
        assert self._shown is not None
        command = self._runner.in_terminal(verb, asked)
        match asked:
            case Stop():
                html = await self._shown.drawn(lambda run: stop_dialog(run, command))
            case SetLimit():
                html = await self._shown.drawn(lambda run: limit_dialog(run, asked.group))
            case OnItems():
                preview = await self._runner.preview(verb, asked)
                html = await self._shown.drawn(lambda run: items_dialog(run, verb, asked, preview, command))
            case _:
                raise Refused(HTTPStatus.NOT_FOUND, "this command has no dialog")
        return Response(html, media_type="text/html")

    async def _counted(self, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self._num_streams += 1
        try:
            async for message in messages:
                yield message
        finally:
            self._num_streams -= 1

    async def _messages(self, asked: Asked) -> AsyncIterator[bytes]:
        """Yield what a browser needs to show what is asked for: all of it, then what changed.

        A slow browser gets the difference to what it got last, whenever it is ready: nothing waits for it in memory.
        """
        shown = self._shown
        assert shown is not None
        sent: Parts = {}
        silent_s = 0.0
        while not shown.is_ending.is_set():
            parts = await shown.parts(asked)
            changed = {name: str(html) for name, html in parts.items() if sent.get(name) != html}
            sent = parts
            silent_s = 0.0 if changed else silent_s + shown.interval_s
            if changed:
                yield b"data: %b\n\n" % msgspec.json.encode(changed)
            elif silent_s >= _SILENCE_S:
                silent_s = 0.0
                yield b"data: {}\n\n"
            with suppress(TimeoutError):
                await asyncio.wait_for(shown.is_ending.wait(), shown.interval_s)


def _asked(view: str, request: Request) -> Asked:
    """Return what an address asks for; what makes no sense in it is as if it weren't there."""
    given = request.query_params

    def number(name: str) -> int | None:
        value = given.get(name, "")
        return int(value) if _NUMBER.fullmatch(value) else None

    order: Order = next((one for one in get_args(Order) if one == given.get("order")), "newest")
    return Asked(view, number("at"), given.get("q", "")[:_MAX_FILTER_CHARS], order, number("start"), number("n") or 0)


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


def _json(value: dict[str, str], status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def _body(request: Request) -> bytes:
    """Return what a browser has sent.

    Raises:
        Refused: it is too long, or doesn't come.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(_SENT_S):
            async for part in request.stream():
                body += part
                if len(body) > MAX_BYTES:
                    raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a command has at most {MAX_BYTES:,} bytes")
    except (TimeoutError, ClientDisconnect) as error:
        raise Refused(HTTPStatus.REQUEST_TIMEOUT, "the command was not sent to its end") from error
    return bytes(body)


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
