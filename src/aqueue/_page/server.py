"""Serves the page of a run over HTTP, and sends what changes in it: only what is shown, a few times a second."""

import asyncio
import hashlib
import logging
import re
import secrets
import sqlite3
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
from aqueue._page.control import control_layout, control_parts, items_dialog, limit_dialog, stop_dialog
from aqueue._page.dock import dock_parts
from aqueue._page.failures import failures_layout, failures_parts
from aqueue._page.followed_run import FollowedRun
from aqueue._page.frame import Parts, document, frame_parts, shown_views
from aqueue._page.html import Html, text
from aqueue._page.index import Index, index_path
from aqueue._page.item import item_layout, item_parts
from aqueue._page.item_query import ItemReader, Order
from aqueue._page.items import index_note, items_layout, items_parts
from aqueue._page.listening import Listener, listen
from aqueue._page.moment import Asked, Moment
from aqueue._page.now import now_layout, now_parts
from aqueue._page.past import PastMoment, commands_of, marks_of, time_at
from aqueue.errors import JournalError

__all__ = ["PageServer"]

INTERVAL_S: Final = 0.4
"""How often the run is looked at, and what changed is sent, seconds."""

_LOOK_S: Final = 5.0
"""How often the run is read while no browser is there, seconds."""

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

_VIEWS: Final[dict[str, tuple[Callable[[Moment, Asked], Parts], Callable[[Parts], Html]]]] = {
    "now": (lambda run, _: now_parts(run), now_layout),
    "failures": (lambda run, _: failures_parts(run), failures_layout),
    "items": (items_parts, items_layout),
    "item": (item_parts, item_layout),
    "control": (lambda run, _: control_parts(run), control_layout),
}
"""By name: what renders the parts of a view, and what puts them together."""


_NOT_DRAWN: Final = Html(
    """<div id="notes"><p class="note bad"><b>This view can't be drawn.</b> This is a bug in aqueue; the terminal of aqueue serve """
    """says more. Please report it.</p></div>"""
)
_EMPTY_FRAME: Final[Parts] = {
    name: Html(f'<p id="{name}" hidden></p>') for name in ("state", "access", "tabs", "banner", "notes", "dock", "said")
}
_MAX_PAST: Final = 4
"""How many moments of the past are kept."""

_MAX_RENDERED: Final = 100
_MARKS_S: Final = 2.0
"""How often it is looked for what has happened to the run, seconds."""

_WANTED_S: Final = 30.0
"""For how long after a browser has shown what the index is for, the index of a live run is kept up to date, seconds."""

_MAX_FILTER_CHARS: Final = 500
_REST: Final = 100.0
"""As long as no browser shows what the index is for, it is filled again after this many times the time that it took."""

_OF_INDEX: Final = ("items", "item", "control")
"""The views that show what is in the index."""

_NUMBER: Final = re.compile("[0-9]{1,15}")
_DECIMAL: Final = re.compile("[0-9]{1,12}([.][0-9]{1,20})?")  # a slider says all the digits of a float

_logger: Final = logging.getLogger(__name__)


class _Shown:
    """The run, read and rendered on a thread of its own; each view once per look, for however many browsers.

    While no browser is there, it is read every few seconds. The index is filled on another thread: at once if a browser shows what
    needs it, or if nothing else is left to read of a run that has ended. Else it takes a hundredth of a core: of a run that makes
    10,000 events per second, it would take 5 % without these rests.
    """

    def __init__(self, run: FollowedRun, thread: ThreadPoolExecutor, index_thread: ThreadPoolExecutor) -> None:
        self._run = run
        self._thread = thread
        self._index_thread = index_thread
        self._index: Index | None = None
        self._read_index: Index | None = None  # from which the items are read
        self._index_path: Path | None = None
        self._is_damaged = False  # whether the index is to be made again
        self._past: dict[int, PastMoment] = {}
        self._rendered: dict[Asked, Parts] = {}
        self._looked_at = self._rendered_at = 0.0
        self._is_partial = False  # whether more will be shown, although nothing happens
        self._seen: tuple[object, ...] = ()  # what the run was like when its views were rendered
        self._marked_at = -_MARKS_S
        self._wanted_at = self._seen_at = -_WANTED_S
        self._rests_until = 0.0
        self._lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self.is_ending = asyncio.Event()

    def end(self) -> None:
        """Show nothing more; from any thread."""
        with suppress(RuntimeError):  # the loop has been closed
            self._loop.call_soon_threadsafe(self.is_ending.set)

    async def parts(self, asked: Asked) -> Parts:
        """Return the parts of a view, with its frame, as they are now or were a moment ago."""
        loop = self._loop
        self._seen_at = loop.time()
        if asked.view in _OF_INDEX or asked.at is not None:
            self._wanted_at = self._seen_at
        async with self._lock:
            await self._poll()
            if asked not in self._rendered:
                if len(self._rendered) >= _MAX_RENDERED:
                    self._rendered.clear()
                self._rendered[asked] = await loop.run_in_executor(self._thread, self._render, asked)
            return self._rendered[asked]

    async def _poll(self) -> None:
        if self._loop.time() - self._looked_at >= INTERVAL_S:
            await self._loop.run_in_executor(self._thread, self._look)
            self._looked_at = self._loop.time()
            run = self._run
            seen = (
                run.view.seq,
                run.items and run.items.seq,
                run.state,
                run.error,
                run.index_error,
                run.read_share,
                run.marks,
            )
            goes_on = run.state.name == "running" or self._is_partial
            if goes_on or seen != self._seen or self._looked_at - self._rendered_at >= _LOOK_S:
                self._rendered.clear()
                self._seen, self._rendered_at, self._is_partial = seen, self._looked_at, False

    async def document(self, asked: Asked) -> str:
        """Return the whole page."""
        parts = _EMPTY_FRAME | await self.parts(asked)
        main = parts.get("main") or Html("")
        if not main and parts["notes"] is not _NOT_DRAWN:
            main = _VIEWS[asked.view][1](parts)
        return document(self._run.name, asked, parts, main)

    async def seq_at(self, elapsed_s: float) -> int | None:
        """Return the number of the last event before the run had taken so long, seconds; None if that isn't known yet."""
        self._wanted_at = self._loop.time()
        async with self._lock:
            return await self._loop.run_in_executor(self._thread, self._seq_at, elapsed_s)

    async def drawn(self, draw: Callable[[Moment], Html]) -> Html:
        """Return what `draw` makes of the run as it is now or was a moment ago."""
        async with self._lock:
            return await self._loop.run_in_executor(self._thread, draw, self._run)

    # ---- on the thread -------------------------------------------------------------------------------------------

    def _look(self) -> None:
        self._run.poll()
        try:
            self._look_at_index()
        except sqlite3.Error as error:
            self._note_damage(error)
        except JournalError:  # as `poll` has found, or will the next time
            pass

    def _look_at_index(self) -> None:
        run, now = self._run, time.monotonic()
        if self._read_index is not self._index:
            if run.items is not None:
                run.items.close()
            self._read_index = self._index
            run.items = None if self._index is None else ItemReader(self._index.connect(), run.reader())
            self._past.clear()
        if run.items is not None:
            run.items.refresh()
            if run.read_share == 1 and now - self._marked_at >= _MARKS_S:
                self._marked_at = now
                run.marks, run.commands = marks_of(run, run.items), commands_of(run.items)

    def _note_damage(self, error: sqlite3.Error) -> None:
        if self._read_index is not None and self._read_index.forget_if_damaged(error):
            self._is_damaged = True

    def _seq_at(self, elapsed_s: float) -> int | None:
        run = self._run
        if run.items is None or not run.over_time.num_processes:
            return None
        return run.items.seq_at(time_at(run.over_time, elapsed_s), run.view.seq)  # which the index may not have yet

    def _render(self, asked: Asked) -> Parts:
        try:
            moment: Moment = self._run
            if asked.at is not None:
                past = self._past_at(asked.at)
                if past is None:
                    return frame_parts(self._run, asked) | dock_parts(self._run, asked) | {"main": _waiting(self._run)}
                moment = past
            frame = frame_parts(moment, asked) | dock_parts(moment, asked)
            parts, layout = _VIEWS[asked.view]
            shown = parts(moment, asked)
            self._is_partial |= moment.read_share < 1 or (moment.items is not None and moment.items.is_searching)
            # Of the past nothing changes but what isn't read yet.
            return frame | ({"main": _main(layout(shown))} if moment.latest is not None else shown)
        except sqlite3.Error as error:
            self._note_damage(error)
            return {
                "notes": Html(
                    f'<div id="notes"><p class="note bad"><b>The index can\'t be read.</b> {text(error, 300)}</p></div>'
                )
            }
        except Exception:
            _logger.exception("a view can't be drawn")
            return {"notes": _NOT_DRAWN}

    def _past_at(self, at: int) -> PastMoment | None:
        """Return the run after the event of this number, or its last one; None if the index isn't so far."""
        run = self._run
        at = max(min(at, run.view.seq), 1)
        if run.items is None or run.items.seq < at:
            return None
        if at not in self._past:
            while len(self._past) >= _MAX_PAST:
                del self._past[next(iter(self._past))]
            self._past[at] = PastMoment(run, run.items, at)
        self._past[at].look()
        return self._past[at]

    # ---- reading on ----------------------------------------------------------------------------------------------

    async def fill(self) -> None:
        """Fill the index, whenever that is worth it."""
        loop, run = self._loop, self._run
        while not self.is_ending.is_set():
            began_at = loop.time()
            is_wanted = began_at - self._wanted_at < _WANTED_S
            is_idle = run.state.name != "running" and run.read_share == 1
            is_seen = began_at - self._seen_at < _WANTED_S and began_at >= self._rests_until
            pause_s = INTERVAL_S
            if (is_wanted or is_idle or is_seen) and run.view.run_id:
                try:
                    has_more = await loop.run_in_executor(self._index_thread, self._fill)
                    run.index_error = ""
                    pause_s = 0.0 if has_more else INTERVAL_S / 2
                    self._rests_until = loop.time() + (loop.time() - began_at) * _REST
                except (JournalError, sqlite3.Error, OSError) as error:  # such as a full disk
                    run.index_error = str(error)
                    pause_s = _LOOK_S
                except Exception as error:
                    _logger.exception("the index can't be filled")
                    run.index_error = f"{type(error).__name__}: {error}; this is a bug in aqueue, please report it"
                    return
            await asyncio.sleep(pause_s)

    def close_index(self) -> None:
        """Close the index; on its thread."""
        if self._index is not None:
            self._index.close()

    def _fill(self) -> bool:
        if self._is_damaged:
            self.close_index()
            self._index, self._is_damaged = None, False
        if self._index is None:
            reader = self._run.reader()
            assert reader.path is not None
            self._index_path = self._index_path or index_path(self._run.view.run_id, reader.path)
            self._index = Index(self._index_path, reader)
        try:
            return self._index.fill()
        except sqlite3.Error as error:
            self._is_damaged = self._index.forget_if_damaged(error)
            raise

    async def read(self) -> None:
        """Read what happens, whether or not a browser is there: else one that comes after a night would wait for all of that."""
        while not self.is_ending.is_set():
            is_busy = self._run.read_share < 1 and not self._run.error
            async with self._lock:
                await self._poll()
            await asyncio.sleep(INTERVAL_S / 10 if is_busy else _LOOK_S)


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
        self._shown: _Shown | None = None
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
        self._shown = _Shown(self._run, self._thread, self._index_thread)
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
            await asyncio.sleep(min(linger_s / 10, _LOOK_S))
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
            silent_s = 0.0 if changed else silent_s + INTERVAL_S
            if changed:
                yield b"data: %b\n\n" % msgspec.json.encode(changed)
            elif silent_s >= _SILENCE_S:
                silent_s = 0.0
                yield b"data: {}\n\n"
            with suppress(TimeoutError):
                await asyncio.wait_for(shown.is_ending.wait(), INTERVAL_S)


def _asked(view: str, request: Request) -> Asked:
    """Return what an address asks for; what makes no sense in it is as if it weren't there."""
    given = request.query_params

    def number(name: str) -> int | None:
        value = given.get(name, "")
        return int(value) if _NUMBER.fullmatch(value) else None

    order: Order = next((one for one in get_args(Order) if one == given.get("order")), "newest")
    return Asked(view, number("at"), given.get("q", "")[:_MAX_FILTER_CHARS], order, number("start"), number("n") or 0)


def _main(layout: Html) -> Html:
    return Html(f'<main id="main" class="wrap" tabindex="-1">{layout}</main>')


def _waiting(run: FollowedRun) -> Html:
    """Return what is shown until the index has the moment that is asked for."""
    share = 0.0 if run.items is None or not run.view.seq else run.items.seq / run.view.seq
    failed = index_note(run) if run.index_error else ""
    return _main(Html(f'<p class="card nothing">The past is being read: {share * 100:.0f} %.</p>{failed}'))


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
