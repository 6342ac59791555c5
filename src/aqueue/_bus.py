"""The bus: numbers events and hands them, in batches and in order, to the reporters on a thread of their own."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from traceback import TracebackException
from typing import Any, Final, Protocol

import anyio

from aqueue._attached import AttachedReporters
from aqueue._loop import CallSoon
from aqueue._notice import warn
from aqueue.errors import JournalError, ReporterError
from aqueue.events import ErrorInfo, Event, ReporterFailed
from aqueue.item import type_name
from aqueue.reporting import Reporter, RunInfo
from aqueue.result import RunResult
from aqueue.text import visible, without_surrogates
from aqueue.view import RunView

__all__ = ["Bus", "JournalWriter", "error_info", "name_and_message"]

BATCH_INTERVAL_S: Final = 0.05
"""How long events wait for others, at most, before reporters get them."""

TICK_INTERVAL_S: Final = 0.1
"""How often reporters are called while nothing happens, so that clocks tick."""

BATCH_EVENTS: Final = 10_000
"""How many events a reporter gets in one call, at most."""

HURRY_EVENTS: Final = 4_000
"""With so many, the journal writes at once, beside the run, rather than when the run must wait for it."""

SOFT_LIMIT_EVENTS: Final = 40_000
"""With so many events not yet handed on, workers pause between items."""

HARD_LIMIT_EVENTS: Final = 200_000
"""With so many, `enqueue` and `set_desc` themselves wait: about 30 MB."""

CLOSE_TIMEOUT_S: Final = 5.0
"""How long the end of a run waits for a reporter that makes no progress."""

CLOCK_STEP_S: Final = 0.1

_MESSAGE_CHARS: Final = 10_000
_TRACEBACK_CHARS: Final = 20_000
_MIN_SAID_CHARS: Final = 200


def name_and_message(error: BaseException) -> tuple[str, str]:
    """Return the name of the class of `error`, and its message as it is, whatever its `__str__` does."""
    cls = type(error)
    name = visible(cls.__qualname__, 1_000) if cls.__module__ == "builtins" else type_name(cls)
    try:
        return name, str.__str__(str(error))
    except Exception:  # the user's __str__
        return name, "(its message can't be shown: __str__ raised)"


def error_info(error: BaseException) -> ErrorInfo:
    """Return `error` as data: encodable, cut to size, whatever its `__str__` does."""
    name, message = name_and_message(error)
    try:
        lines = _traceback_of(error)
    except Exception:  # a __str__ or __repr__ in the chain
        lines = ""
    return ErrorInfo(name, without_surrogates(message[:_MESSAGE_CHARS]), without_surrogates(lines))


def _traceback_of(error: BaseException) -> str:
    """Return the formatted traceback of `error`, cut to size.

    What the exceptions say is cut first, all of it to the same length, so that the frames stay, which tell where to look;
    if there are too many of those, the end of the traceback stays.
    """
    whole = TracebackException.from_exception(error, compact=True)
    lines = "".join(whole.format())
    if len(lines) > _TRACEBACK_CHARS:
        every = [whole]
        for one in every:  # it grows while it is gone through
            every += filter(None, (one.__cause__, one.__context__, *(one.exceptions or ())))
        asked: list[TracebackException] = []  # `format` asks each that it shows what it says: of a large group not all
        for one in every:
            one.format_exception_only = partial(_nothing, asked, one)  # type: ignore[method-assign, assignment]
        frames = len("".join(whole.format()))
        most = max((_TRACEBACK_CHARS - frames) // len(asked), _MIN_SAID_CHARS)
        while (
            len(lines) > _TRACEBACK_CHARS and most >= _MIN_SAID_CHARS
        ):  # more than once where a group's indents are many
            for one in every:
                one.format_exception_only = partial(_said, one, most)  # type: ignore[method-assign, assignment]
            lines = "".join(whole.format())
            most //= 2
    return lines[-_TRACEBACK_CHARS:]


def _nothing(asked: list[TracebackException], one: TracebackException, **options: Any) -> list[str]:
    """Say nothing, and note that `one` was asked."""
    asked.append(one)
    return []


def _said(one: TracebackException, most: int, **options: Any) -> list[str]:
    """Return what `one` says, its class, message and notes, cut in the middle to `most` characters."""
    said = "".join(TracebackException.format_exception_only(one, **options))
    return [said if len(said) <= most else f"{said[: most - most // 4 - 3]} … {said[len(said) - most // 4 :]}"]


class Clock:
    """Unix time that never decreases: the monotonic clock and an `offset` that only ever grows.

    The time is ``time.monotonic() + clock.offset``; where every nanosecond counts, that is written out.
    """

    __slots__ = ("_lock", "offset")

    def __init__(self) -> None:
        self.offset = time.time() - time.monotonic()
        self._lock = threading.Lock()

    def follow_wall_clock(self) -> None:
        """Grow the offset where the wall clock has got ahead of the monotonic one (a laptop that slept).

        From any thread: those of the journal and of the reporters both look, and one jump must not count twice.
        """
        before = time.monotonic()
        wall = time.time()
        if time.monotonic() - before < CLOCK_STEP_S / 10:  # else this thread was held up in between
            offset = wall - before
            if offset - self.offset > CLOCK_STEP_S:
                with self._lock:
                    self.offset = max(self.offset, offset)


class JournalWriter(Protocol):
    """What the bus needs of a journal; see `aqueue._journal.Journal`."""

    def start(
        self,
        take: Callable[[], list[Event]],
        committed: Callable[[list[Event]], None],
        failed: Callable[[JournalError], None],
    ) -> None: ...
    def wake(self) -> None: ...
    def flush(self, on_done: Callable[[], None]) -> None: ...
    def close(self, timeout_s: float) -> bool: ...


class Bus:
    """Numbers events and hands them to the journal, if there is one, and to reporters.

    The hot path is `append`, `next_seq` and `now`: an event is built with the two and appended to a list. The
    reporters' thread takes what has come about every 50 ms, folds it into the view, and calls each reporter. It may
    be slower than the run (then workers pause, see `wait_for_room`) or blocked: the event loop never waits for it
    inside an item's code, but at the hard limit. With a journal, its thread takes the events first, and reporters get
    them once they are committed: what is shown is saved.

    All methods are called in the loop's thread, but for those that say otherwise.

    Attributes:
        append: adds an event.
        next_seq: returns the number for the next event.
        clock: tells the time for the next event.
        events: those not yet handed on.
        view: the run as the reporters know it; belongs to their thread while that runs.
        may_pause: whether workers wait between items for reporters that lag; not once the run is being stopped.
        may_block: whether `enqueue` waits for them at the hard limit; not once the running items are cancelled.
        cancellation: one that came while the bus was opened or closed, which it doesn't cut short; to be raised then.
    """

    def __init__(
        self,
        reporters: Sequence[Reporter],
        call_soon: CallSoon,
        journal: JournalWriter | None = None,
    ) -> None:
        """Make a bus; nothing is started before `open`.

        Parameters:
            reporters: those that get the events; without any, and without a journal, events are only counted.
            call_soon: has a function called in the loop.
            journal: gets the events first.
        """
        self._has_reporters = bool(reporters)
        self._reporters = AttachedReporters(reporters, self._on_raised)
        self._call_soon = call_soon
        self._journal = journal
        self.events: list[Event] | deque[Event] = [] if reporters or journal is not None else deque(maxlen=0)
        self._for_reporters: list[Event] | deque[Event] = self.events if journal is None else []
        self._ending = False
        self._finished = False
        self._saving = 0
        self.append = self.events.append
        self.next_seq = count(1).__next__
        self.view = RunView()
        self.clock = Clock()
        self.may_pause = True
        self.may_block = True
        self.cancellation: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._room: anyio.Event | None = None
        self._stage = "open"  # then "drained", when all events have been handed on once, then "closed"
        self._asked = "open"
        self._stage_changed = anyio.Event()
        self._open_error: ReporterError | None = None
        self._result: RunResult | None = None

    def continue_after(self, seq: int, at: float, view: RunView) -> None:
        """Go on with a recorded run whose last event was number `seq`, at the Unix time `at`, and which stood at `view`."""
        self.next_seq = count(seq + 1).__next__
        self.view = view
        self.clock.offset += max(at - self.now(), 0.0)

    # ---- the hot path -------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the time for the next event: Unix time in seconds, never less than before, whatever the clock does.

        The reporters' thread sees to it that it follows the wall clock after the machine has slept.
        """
        return time.monotonic() + self.clock.offset

    @property
    def is_full(self) -> bool:
        """Whether `enqueue` must wait for the reporters."""
        return len(self.events) >= HARD_LIMIT_EVENTS

    @property
    def is_crowded(self) -> bool:
        """Whether workers should pause between items."""
        return len(self.events) >= SOFT_LIMIT_EVENTS or self._reporters_lag

    @property
    def _reporters_lag(self) -> bool:
        """Whether so much that is saved waits for the reporters that the journal should wait, too."""
        return len(self._for_reporters) >= SOFT_LIMIT_EVENTS and self._alive

    # ---- waiting for the reporters ------------------------------------------------------------------------------

    def make_room(self) -> None:
        """Hurry the journal where many events wait; block until there is room below the hard limit, or that must end."""
        if self._journal is not None and len(self.events) >= HURRY_EVENTS:
            self._journal.wake()
        while self.is_full and self.may_block and self._is_read:
            self._hurry()
            time.sleep(0.005)

    async def wait_for_room(self) -> None:
        """Wait until reporters have caught up, or waiting must end."""
        while self.is_crowded and self.may_pause and self._is_read:
            if self._room is None:
                self._room = anyio.Event()
            self._hurry()
            await self._room.wait()

    @property
    def _is_read(self) -> bool:
        return self._journal is not None or self._alive

    def _hurry(self) -> None:
        self._wake.set()
        if self._journal is not None:
            self._journal.wake()

    def wake_waiting(self) -> None:
        """Let those that wait for room look again."""
        if self._room is not None:
            self._room.set()
            self._room = None

    # ---- opening and closing ------------------------------------------------------------------------------------

    @property
    def _alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    async def open(self, run: RunInfo) -> None:
        """Start the reporters' thread and open the reporters.

        Raises:
            ReporterError: one raised; those that were open are closed.
        """
        if not self._has_reporters:
            return
        self._thread = threading.Thread(target=self._work, args=(run,), name="aqueue-reporters", daemon=True)
        opened = self._stage_changed
        self._thread.start()
        await self._wait_in_any_case(opened)
        if self._open_error is not None:
            raise ReporterError(f"{self._open_error}; nothing has been run") from self._open_error.__cause__

    def start_journal(self, on_failed: Callable[[JournalError], None]) -> None:
        """Have the journal take events from now on; `on_failed` is called in the loop if it can't write them."""
        if self._journal is not None:
            self._journal.start(
                self._take_for_journal,
                self._take_committed,
                lambda error: self._call_soon(lambda: on_failed(error)),
            )

    def _take_for_journal(self) -> list[Event]:
        """On the journal's thread: return the next events; none while reporters are far behind."""
        self.clock.follow_wall_clock()
        if self._reporters_lag and self.may_pause and not self._ending and not self._saving:
            return []
        events = self.events
        assert isinstance(events, list)
        batch = events[:BATCH_EVENTS]
        del events[: len(batch)]
        if self._room is not None and len(events) < SOFT_LIMIT_EVENTS // 2 and not self._reporters_lag:
            self._call_soon(self.wake_waiting)
        return batch

    def _take_committed(self, batch: list[Event]) -> None:
        if self._alive:
            self._for_reporters.extend(batch)

    async def saved(self) -> None:
        """Wait until all events so far are committed to the journal, or writing has failed."""
        self._saving += 1
        try:
            await self._saving_all().wait()
        finally:
            self._saving -= 1

    def _saving_all(self) -> anyio.Event:
        """Return an event that is set once all events so far are committed, or writing has failed."""
        saved = anyio.Event()
        if self._journal is None:
            saved.set()
        else:
            self._journal.flush(lambda: self._call_soon(saved.set))
        return saved

    def finish(self, event: Event) -> None:
        """Append the last event: nothing comes after it, not even that a reporter failed over it."""
        self._finished = True
        self.append(event)

    async def close_journal(self) -> None:
        """Write what is left and close the journal's file; takes as long as that takes."""
        journal = self._journal
        if journal is None:
            return
        closed = anyio.Event()

        def close() -> None:
            while not journal.close(CLOSE_TIMEOUT_S):
                warn("the disk is slow; the journal is still being written")
            self._call_soon(closed.set)

        threading.Thread(target=close, name="aqueue-journal-close", daemon=True).start()
        await self._wait_in_any_case(closed)

    async def drain(self) -> None:
        """Wait until reporters have had all events; at most 5 s without progress."""
        await self._reach("drained", None)

    async def close(self, result: RunResult) -> None:
        """Hand on what is left, close the reporters and end their thread; waits at most 5 s without progress."""
        await self._reach("closed", result)

    async def _reach(self, stage: str, result: RunResult | None) -> None:
        self._ending = True
        await self._wait_in_any_case(self._saving_all())
        if not self._alive:
            return
        self._stage_changed = reached = anyio.Event()
        self._result = result
        self._asked = stage
        self._wake.set()
        seen = -1
        while not reached.is_set() and seen != self._reporters.calls:
            seen = self._reporters.calls
            if await self._wait_shielded(reached, CLOSE_TIMEOUT_S):
                seen = -1
        if not reached.is_set():
            # It is stuck in a write. It is a daemon thread: the process can end without it.
            self.release_terminals()
            self._thread = None
            warn(f"the reporters did not take the last events within {CLOSE_TIMEOUT_S:g} s and were left behind")

    async def _wait_in_any_case(self, reached: anyio.Event) -> None:
        while not reached.is_set():
            await self._wait_shielded(reached, float("inf"))

    async def _wait_shielded(self, reached: anyio.Event, timeout_s: float) -> bool:
        """Wait, and return whether that was cut short by asyncio's own `Task.cancel`, which goes through shields."""
        try:
            with anyio.move_on_after(timeout_s, shield=True):
                await reached.wait()
        except anyio.get_cancelled_exc_class() as error:
            self.cancellation = error
            return True
        return False

    def release_terminals(self) -> None:
        """Put back every terminal that a reporter has changed; safe in a signal handler and on any thread."""
        self._reporters.release_terminals()

    def suspend_terminals(self) -> None:
        """Put the terminals back until `resume_terminals`; safe in a signal handler."""
        self._reporters.suspend_terminals()

    def resume_terminals(self) -> None:
        """Let reporters draw again; safe in a signal handler."""
        self._reporters.resume_terminals()

    # ---- the reporters' thread ----------------------------------------------------------------------------------

    def _work(self, run: RunInfo) -> None:
        try:
            self._reporters.open(run)
        except ReporterError as error:
            self._open_error = error
            self._reporters.close(RunResult(run.run_id, "interrupted", self.view.counts, {}, 0.0))
            self._announce("closed")
            return
        self._announce("open")
        busy = False
        while True:
            self._wake.wait(BATCH_INTERVAL_S if busy else TICK_INTERVAL_S)
            self._wake.clear()
            asked = self._asked
            busy = False
            for batch in self._batches():
                busy = busy or bool(batch)
                self._hand_on(batch)
            self.clock.follow_wall_clock()
            if asked != self._stage:
                if asked == "closed":
                    assert self._result is not None
                    self._reporters.close(self._result)
                    self._announce("closed")
                    return
                self._announce(asked)

    def _batches(self) -> Iterator[list[Event]]:
        """Yield what has come, in parts; an empty one if nothing has."""
        events = self._for_reporters
        assert isinstance(events, list)
        left = len(events)
        while True:
            # Each of these is one step under the interpreter's lock; the loop only ever appends at the other end.
            batch = events[:BATCH_EVENTS]
            del events[: len(batch)]
            yield batch
            left -= len(batch)
            if self._room is not None and self._journal is None and len(events) < SOFT_LIMIT_EVENTS // 2:
                self._call_soon(self.wake_waiting)
            if left <= 0 or not batch:
                return

    def _hand_on(self, batch: list[Event]) -> None:
        try:
            self.view.apply(batch)
        except Exception as error:  # a mistake in aqueue; the run and the journal go on all the same
            self._reporters.detach_all(error)
            return
        self._reporters.hand_on(batch, self.view)

    def _on_raised(self, reporter: Reporter, error: BaseException) -> None:
        name = type_name(type(reporter))
        info = error_info(error)
        self._call_soon(lambda: self._tell_of_failure(name, info))
        warn(f"reporter {name} raised {info.type}: {visible(info.message, 500)}; the run goes on without it")

    def _tell_of_failure(self, reporter: str, error: ErrorInfo) -> None:
        if not self._finished:
            self.append(ReporterFailed(self.next_seq(), self.now(), reporter, error))

    def _announce(self, stage: str) -> None:
        self._stage = stage
        self._call_soon(self._stage_changed.set)
