"""The run as browsers see it: read and rendered on threads of its own, with its index and its past."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

from aqueue._page.control import control_layout, control_parts
from aqueue._page.dock import dock_parts
from aqueue._page.failures import failures_layout, failures_parts
from aqueue._page.followed_run import FollowedRun
from aqueue._page.frame import Parts, document, frame_parts, href
from aqueue._page.html import Html, text
from aqueue._page.index import Index, index_path
from aqueue._page.item import item_layout, item_parts
from aqueue._page.item_query import ItemReader
from aqueue._page.items import index_note, items_layout, items_parts
from aqueue._page.moment import Asked, Moment
from aqueue._page.now import now_layout, now_parts
from aqueue._page.past import PastMoment, commands_of, marks_of, time_at
from aqueue.errors import JournalError

__all__ = ["LOOK_S", "Shown"]

INTERVAL_S: Final = 0.4
"""How often the run is looked at, and what changed is sent, seconds."""

LOOK_S: Final = 5.0
"""How often the run is read while no browser is there, seconds."""

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

_REST: Final = 100.0
"""As long as no browser shows what the index is for, it is filled again after this many times the time that it took."""

_OF_INDEX: Final = ("items", "item", "control")
"""The views that show what is in the index."""

_logger: Final = logging.getLogger(__name__)


class Shown:
    """The run, read and rendered on a thread of its own; each view once per look, for however many browsers.

    While no browser is there, it is read every few seconds. The index is filled on another thread: at once if a browser shows what
    needs it, or if nothing else is left to read of a run that has ended. Else it takes a hundredth of a core: of a run that makes
    10,000 events per second, it would take 5 % without these rests.

    Attributes:
        interval_s: how often the run is looked at, and what changed is sent, seconds.
        is_ending: set once nothing more is shown.
    """

    def __init__(self, run: FollowedRun, thread: ThreadPoolExecutor, index_thread: ThreadPoolExecutor) -> None:
        self._run = run
        self._thread = thread
        self._index_thread = index_thread
        self._index: Index | None = None
        self._read_index: Index | None = None  # from which the items are read
        self._index_path: Path | None = None
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
        self.interval_s = INTERVAL_S
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
        if self._loop.time() - self._looked_at >= self.interval_s:
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
            if goes_on or seen != self._seen or self._looked_at - self._rendered_at >= LOOK_S:
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
        if self._read_index is not None:
            self._read_index.forget_if_damaged(error)

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
                    return (
                        frame_parts(self._run, asked)
                        | dock_parts(self._run, asked)
                        | {"main": _waiting(self._run, asked)}
                    )
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
            pause_s = self.interval_s
            if (is_wanted or is_idle or is_seen) and run.view.run_id:
                try:
                    has_more = await loop.run_in_executor(self._index_thread, self._fill)
                    run.index_error = ""
                    pause_s = 0.0 if has_more else self.interval_s / 2
                    self._rests_until = loop.time() + (loop.time() - began_at) * _REST
                except (JournalError, sqlite3.Error, OSError) as error:  # such as a full disk
                    run.index_error = str(error)
                    pause_s = LOOK_S
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
        if self._index is not None and self._index.is_damaged:
            self._index.close()
            self._index = None
        if self._index is None:
            reader = self._run.reader()
            assert reader.path is not None
            self._index_path = self._index_path or index_path(self._run.view.run_id, reader.path)
            self._index = Index(self._index_path, reader)
        return self._index.fill()

    async def read(self) -> None:
        """Read what happens, whether or not a browser is there: else one that comes after a night would wait for all of that."""
        while not self.is_ending.is_set():
            is_busy = self._run.read_share < 1 and not self._run.error
            async with self._lock:
                await self._poll()
            await asyncio.sleep(self.interval_s / 10 if is_busy else LOOK_S)


def _main(layout: Html, *, is_busy: bool = False) -> Html:
    return Html(f'<main id="main" class="wrap" tabindex="-1"{" aria-busy=true" * is_busy}>{layout}</main>')


def _waiting(run: FollowedRun, asked: Asked) -> Html:
    """Return what is shown until the index has the moment that is asked for."""
    share = 0.0 if run.items is None or not run.view.seq else run.items.seq / run.view.seq
    failed = index_note(run) if run.index_error else ""
    back = href(run, asked.view, **asked.parameters)
    said = (
        f'<p class="card nothing">The past is being read: {share * 100:.0f} %. '
        f'<a class="button" id="live" data-keep href="{back}">Back to the present</a></p>{failed}'
    )
    return _main(Html(said), is_busy=True)
