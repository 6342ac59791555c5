"""The bus: numbers events and hands them, in batches and in order, to the reporters, each on a thread of its own."""

import shlex
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Final, Literal, Protocol

import anyio

from aqueue._attached import BATCH_EVENTS, TICK_INTERVAL_S, ReporterThread
from aqueue._codec.class_names import type_name
from aqueue._stream.clock import Clock
from aqueue._stream.error_info import error_info
from aqueue._system.loop import CallSoon
from aqueue._system.notice import warn
from aqueue.errors import JournalError, ReporterError
from aqueue.events import ErrorInfo, Event, ReporterFailed
from aqueue.reporting import Reporter, RunInfo
from aqueue.result import RunResult
from aqueue.text import visible
from aqueue.view import RunView

__all__ = ["Bus", "JournalWriter"]

BATCH_INTERVAL_S: Final = 0.05
"""How long events wait for others, at most, before reporters get them."""

HURRY_EVENTS: Final = 4_000
"""With so many, the journal writes at once, beside the run, rather than when the run must wait for it."""

SOFT_LIMIT_EVENTS: Final = 40_000
"""With so many events not yet handed on, workers pause between items."""

HARD_LIMIT_EVENTS: Final = 200_000
"""With so many, `enqueue` and `set_desc` themselves wait: about 30 MB."""

WARN_STUCK_S: Final = 5.0
"""How long a call of a reporter may last before the user is told."""

DETACH_STUCK_S: Final = 60.0
"""How long a call of a reporter may last before it is detached; where there is a journal, from which to make up for it."""

SOFT_LIMIT_BYTES: Final = 64_000_000
"""With so many bytes of large values that are not yet in the journal, or wait for a log, workers pause between items."""

HARD_LIMIT_BYTES: Final = 128_000_000
"""With so many, whatever brings another one waits."""

WARN_BYTES: Final = 10_000_000
"""How long a value may be before the user is told: to encode it stops the event loop for about 100 ms."""

CLOSE_TIMEOUT_S: Final = 5.0
"""How long the end of a run waits for a call of a reporter."""

OPEN_GRACE_S: Final = 0.5
"""How long a run that is to stop waits for a reporter that is still being opened."""


class JournalWriter(Protocol):
    """What the bus needs of a journal; see `aqueue._journal.writer.Journal`."""

    path: Path

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

    The hot path is `append`, `next_seq` and `now`: an event is built with the two and appended to a list. The delivering
    thread takes what has come about every 50 ms and gives it to the threads of the reporters, of which none can hold it
    up. A reporter that gets every event may be slower than the run (then workers pause, see `wait_for_room`) or blocked:
    the event loop never waits for it inside an item's code, but at the hard limit. With a journal, its thread takes the
    events first, whatever the reporters do, and they get them once they are committed: what is shown is saved.

    All methods are called in the loop's thread, but for those that say otherwise.

    Attributes:
        append: adds an event.
        next_seq: returns the number for the next event.
        clock: tells the time for the next event.
        events: those not yet taken.
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
        # Terminals are opened last, so that a log that can't be opened leaves nothing on the screen.
        self._reporters = [
            ReporterThread(reporter, RunView(), self._on_raised, self._on_progress)
            for reporter in sorted(reporters, key=lambda reporter: reporter.uses_terminal)
        ]
        self._call_soon = call_soon
        self._journal = journal
        self.events: list[Event] | deque[Event] = [] if reporters or journal is not None else deque(maxlen=0)
        self._for_reporters: list[Event] | deque[Event] = self.events if journal is None else []
        # How many events, and bytes of large values, wait for the slowest reporter that gets every event.
        self._lag = self._lag_bytes = 0
        self._finished = False
        self.append = self.events.append
        self.next_seq = count(1).__next__
        self.clock = Clock()
        self.may_pause = True
        self.may_block = True
        self.cancellation: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._room: anyio.Event | None = None
        self._warned: set[str] = set()
        self._bytes = self._bytes_taken = self._bytes_written = 0  # of large values, from the start on
        self._asked = "open"  # then "drained", when all events have been handed on once, then "closed"
        self._stage = "open"
        self._stage_changed = anyio.Event()
        self._result: RunResult | None = None

    def continue_after(self, seq: int, at: float, view: RunView) -> None:
        """Go on with a recorded run whose last event was number `seq`, at the Unix time `at`, and which stood at `view`."""
        self.next_seq = count(seq + 1).__next__
        for number, reporter in enumerate(self._reporters):
            reporter.view = view.copy() if number else view  # which is large if many items wait for a retry
        self.clock.offset += max(at - self.now(), 0.0)

    # ---- the hot path -------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the time for the next event: Unix time in seconds, never less than before, whatever the clock does.

        Other threads see to it that it follows the wall clock after the machine has slept.
        """
        return time.monotonic() + self.clock.offset

    @property
    def is_full(self) -> bool:
        """Whether `enqueue` must wait for the journal and the reporters."""
        return self._waiting >= HARD_LIMIT_EVENTS or self._waiting_bytes >= HARD_LIMIT_BYTES

    @property
    def is_crowded(self) -> bool:
        """Whether workers should pause between items."""
        return self._waiting >= SOFT_LIMIT_EVENTS or self._waiting_bytes >= SOFT_LIMIT_BYTES

    @property
    def _waiting(self) -> int:
        return len(self.events) + self._lag

    @property
    def _waiting_bytes(self) -> int:
        return self._bytes - self._bytes_written + self._lag_bytes

    # ---- waiting for the reporters ------------------------------------------------------------------------------

    def make_room(self) -> None:
        """Hurry the journal where many events wait; block until there is room below the hard limit, or that must end."""
        if self._journal is not None and len(self.events) >= HURRY_EVENTS:
            self._journal.wake()
        while self.is_full and self.may_block and self._is_read:
            self._hurry()
            time.sleep(0.005)

    def add_large(self, type: str, what: Literal["result", "attributes"], size: int) -> None:
        """Count a value of `size` bytes, which the next event has, of an item of class `type`.

        Block while there is no room for what an item enqueues, which may be any number. Of results each worker has one, and
        then pauses: to block for those would keep the loop from answering a signal while a log is stuck. Warn, once a
        class, if it is too large to be handled well.
        """
        if self._journal is not None or self._reporters:
            if what == "attributes" and self.is_full:
                self.make_room()
            self._bytes += size
        if size > WARN_BYTES and type not in self._warned:
            self._warned.add(type)
            advice = "return its path" if what == "result" else "keep its path"
            warn(
                f"{type}: {'a result' if what == 'result' else 'attributes'} of {size / 1e6:,.0f} MB; while so much is encoded "
                f"nothing else runs, and a resume reads it again; write what is large to a file, and {advice}"
            )

    async def wait_for_room(self) -> None:
        """Wait until reporters have caught up, or waiting must end."""
        while self.is_crowded and self.may_pause and self._is_read:
            await self._wait_for_change()

    async def _wait_for_change(self) -> None:
        """Wait until there is room, or `wake_waiting` is called."""
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

    def _wake_if_room(self) -> None:
        """On any thread: wake those that wait, if they may go on for a while."""
        if self._room is not None and self._waiting < SOFT_LIMIT_EVENTS // 2:
            self._call_soon(self.wake_waiting)

    # ---- opening and closing ------------------------------------------------------------------------------------

    @property
    def _alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    async def open(self, run: RunInfo) -> bool:
        """Open the reporters, one after the other.

        A stop or a cancellation ends the wait for one that is stuck in its `open`.

        Returns:
            Whether they are open. If not, the run was stopped or cancelled meanwhile.

        Raises:
            ReporterError: one raised.

        Unless all are open, those that were are closed.
        """
        if not self._reporters:
            return True
        self._thread = threading.Thread(target=self._deliver, name="aqueue-delivery", daemon=True)
        self._thread.start()
        for reporter in self._reporters:
            reporter.start(run)
            await self._wait_opened(reporter)
            if reporter.stage != "open":
                view = reporter.view
                await self._reach("closed", RunResult(run.run_id, "interrupted", view.counts, {}, 0.0))
                if reporter.open_error is not None:
                    raise ReporterError(
                        f"{reporter.open_error}; nothing has been run"
                    ) from reporter.open_error.__cause__
                warn(f"reporter {reporter.name} was still being opened; nothing has been run")
                return False
        return True

    async def _wait_opened(self, reporter: ReporterThread) -> None:
        """Wait until `reporter` is open or has failed; once the run is to stop or is cancelled, only a moment more."""
        while reporter.stage == "opening":
            is_wanted = self.may_pause and self.cancellation is None
            try:
                with anyio.move_on_after(None if is_wanted else OPEN_GRACE_S, shield=not is_wanted) as waiting:
                    await self._wait_for_change()
            except anyio.get_cancelled_exc_class() as error:
                self.cancellation = error
            else:
                if waiting.cancelled_caught:
                    return

    def start_journal(self, on_failed: Callable[[JournalError], None]) -> None:
        """Have the journal take events from now on; `on_failed` is called in the loop if it can't write them."""
        if self._journal is not None:
            self._journal.start(
                self._take_for_journal,
                self._take_committed,
                lambda error: self._call_soon(lambda: on_failed(error)),
            )

    def _take_for_journal(self) -> list[Event]:
        """On the journal's thread: return the next events."""
        self.clock.follow_wall_clock()
        events = self.events
        assert isinstance(events, list)
        size = self._bytes  # before the look at the events, which then have all of it, or it was not needed
        batch = events[:BATCH_EVENTS]
        del events[: len(batch)]
        if len(batch) < BATCH_EVENTS:
            self._bytes_taken = size
            if not batch:
                self._bytes_written = size
        self._wake_if_room()
        return batch

    def _take_committed(self, batch: list[Event]) -> None:
        if self._alive:
            self._for_reporters.extend(batch)
        self._bytes_written = self._bytes_taken
        if self._room is not None and not self.is_crowded:
            self._call_soon(self.wake_waiting)

    async def saved(self) -> None:
        """Wait until all events so far are committed to the journal, or writing has failed."""
        await self._saving_all().wait()

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
        """Wait until reporters have had all events; at most 5 s for one call of a reporter."""
        await self._wait_in_any_case(self._saving_all())
        await self._reach("drained")

    async def close(self, result: RunResult) -> None:
        """Hand on what is left, close the reporters and end their threads; waits at most 5 s for one call of a reporter."""
        await self._wait_in_any_case(self._saving_all())
        await self._reach("closed", result)

    async def _reach(self, stage: str, result: RunResult | None = None) -> None:
        self._stage_changed = reached = anyio.Event()  # before the look whether there is still somebody to set it
        self._result = result
        self._asked = stage
        self._wake.set()
        if self._alive and self._stage != "closed":
            await self._wait_in_any_case(reached)

    async def _wait_in_any_case(self, reached: anyio.Event) -> None:
        """Wait; asyncio's own `Task.cancel`, which goes through shields, is kept for later."""
        while not reached.is_set():
            try:
                with anyio.CancelScope(shield=True):
                    await reached.wait()
            except anyio.get_cancelled_exc_class() as error:
                self.cancellation = error

    def release_terminals(self) -> None:
        """Put back every terminal that a reporter has changed; safe in a signal handler and on any thread."""
        for reporter in self._reporters:
            reporter.release_terminal()

    def suspend_terminals(self) -> None:
        """Put the terminals back until `resume_terminals`; safe in a signal handler."""
        for reporter in self._reporters:
            reporter.suspend_terminal()

    def resume_terminals(self) -> None:
        """Let reporters draw again; safe in a signal handler."""
        for reporter in self._reporters:
            reporter.resume_terminal()

    # ---- the delivering thread ----------------------------------------------------------------------------------

    def _deliver(self) -> None:
        """Give the reporters what has come and look after them, until they are closed; whatever comes, say so at the end."""
        try:
            has_more, is_ending, looked_at = False, False, time.monotonic()
            while True:
                self._wake.wait(BATCH_INTERVAL_S if has_more else TICK_INTERVAL_S)
                self._wake.clear()
                asked = self._asked  # before the look at what has come, of which all comes before the answer
                has_more = self._give()
                if asked != "open" and not is_ending:
                    is_ending = True
                    for reporter in self._reporters:
                        reporter.forget_stuck()
                        reporter.end_soon()
                self.clock.follow_wall_clock()
                now = time.monotonic()
                # A process that was stopped, or got no time, has not waited for its reporters.
                self._look_after(min(now - looked_at, 2 * TICK_INTERVAL_S), is_ending=is_ending)
                looked_at = now
                if asked == "closed":
                    assert self._result is not None
                    for reporter in self._reporters:
                        reporter.close(self._result)
                    if all(reporter.stage != "open" for reporter in self._reporters):
                        return
                elif asked != self._stage and all(
                    reporter.is_idle or reporter.stage != "open" for reporter in self._reporters
                ):
                    self._announce(asked)
        except BaseException as error:  # a mistake in aqueue; the run and the journal go on all the same
            for reporter in self._reporters:
                reporter.fail(error)
        finally:
            self._lag = self._lag_bytes = 0
            self._announce("closed")

    def _give(self) -> bool:
        """Give the reporters what has come, and return whether that was anything."""
        events = self._for_reporters
        assert isinstance(events, list)
        # Each of these is one step under the interpreter's lock; the other threads only ever append at the other end.
        size = self._bytes_written if self._journal is not None else self._bytes
        batch = events[:]
        del events[: len(batch)]
        if self._journal is None:
            self._bytes_written = size
        if batch:
            for reporter in self._reporters:
                reporter.give(batch, size)
        logs = [reporter for reporter in self._reporters if reporter.stage == "open" and not reporter.can_skip]
        self._lag = max((log.waiting for log in logs), default=0)
        self._lag_bytes = max((log.waiting_bytes for log in logs), default=0)
        if not any(reporter.stage == "opening" for reporter in self._reporters):
            self._wake_if_room()
        return bool(batch)

    def _look_after(self, passed_s: float, *, is_ending: bool) -> None:
        """See which reporters are stuck.

        Parameters:
            passed_s: the time since the last look, seconds.
            is_ending: whether the run's end waits for them.
        """
        for reporter in self._reporters:
            if reporter.stage not in ("opening", "open"):
                continue
            stuck_s = reporter.stuck_for(passed_s)
            if is_ending:
                if stuck_s >= CLOSE_TIMEOUT_S and reporter.stage == "open":
                    reporter.leave_behind()
                    _warn(
                        f"reporter {reporter.name} did not take the last events within {CLOSE_TIMEOUT_S:g} s and was left "
                        f"behind{self._where_the_rest_is()}"
                    )
            elif reporter.stage == "opening":
                if stuck_s >= WARN_STUCK_S and not reporter.is_named:
                    reporter.is_named = True
                    _warn(f"reporter {reporter.name} is still being opened; nothing is run before")
            elif not reporter.can_skip:
                self._look_after_log(reporter, stuck_s)

    def _look_after_log(self, reporter: ReporterThread, stuck_s: float) -> None:
        if stuck_s >= WARN_STUCK_S and not reporter.is_named:
            reporter.is_named = True
            then = (
                "the run waits for it if it falls too far behind"
                if self._journal is None
                else f"after {DETACH_STUCK_S:g} s the run goes on without it"
            )
            _warn(
                f"reporter {reporter.name} has taken nothing for {WARN_STUCK_S:g} s, and {then}; see that somebody reads what "
                "it writes, or that there is room for it"
            )
        if stuck_s >= DETACH_STUCK_S and self._journal is not None:
            error = ReporterError(f"has taken nothing for {DETACH_STUCK_S:g} s{self._where_the_rest_is()}")
            reporter.let_go()
            self._on_failed(reporter.name, error_info(error), str(error))

    def _where_the_rest_is(self) -> str:
        """Return, for a message, where to find what a reporter has not written; empty without a journal."""
        if self._journal is None:
            return ""
        path = shlex.quote(str(self._journal.path))
        return (
            f"; what it would have written is in the journal: 'aqueue export {path} --format jsonl' writes every event, and "
            f"'aqueue replay {path} --speed inf --reporter …' gives them to any reporter"
        )

    # ---- on any thread ------------------------------------------------------------------------------------------

    def _on_progress(self) -> None:
        if self._room is not None or self._asked != self._stage:
            self._wake.set()

    def _on_raised(self, reporter: Reporter, error: BaseException) -> None:
        info = error_info(error)
        self._on_failed(type_name(type(reporter)), info, f"raised {info.type}: {visible(info.message, 500)}")

    def _on_failed(self, reporter: str, error: ErrorInfo, why: str) -> None:
        self._call_soon(lambda: self._tell_of_failure(reporter, error))
        _warn(f"reporter {reporter} {why}; the run goes on without it")

    def _tell_of_failure(self, reporter: str, error: ErrorInfo) -> None:
        if not self._finished:
            self.append(ReporterFailed(self.next_seq(), self.now(), reporter, error))

    def _announce(self, stage: str) -> None:
        self._stage = stage
        self._call_soon(self._stage_changed.set)


def _warn(message: str) -> None:
    """Warn, on a thread of its own: a display that is stuck holds up who prints, and this must not be held up."""
    thread = threading.Thread(target=warn, args=(message,), name="aqueue-warning", daemon=True)
    thread.start()
    thread.join(1.0)  # so that, as a rule, it is said before what comes next
