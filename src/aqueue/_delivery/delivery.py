"""Takes the events of a run to its journal, if it has one, and then to its reporters."""

import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import anyio

from aqueue._codec.class_names import type_name
from aqueue._delivery.journal_thread import JournalThread
from aqueue._delivery.open_reporters import terminals_last
from aqueue._delivery.reporter_thread import TICK_INTERVAL_S, ReporterThread
from aqueue._folds.ended_items import ended_items
from aqueue._folds.recording import Recording
from aqueue._folds.snapshot import GROWING, Folds
from aqueue._stream.error_info import error_info
from aqueue._stream.event_stream import SOFT_LIMIT_BYTES, EventStream
from aqueue._stream.item_facts import ItemFacts
from aqueue._system.loop import CallSoon
from aqueue._system.notice import warn
from aqueue.errors import JournalError, ReporterError
from aqueue.events import ErrorInfo, Event, ItemEnqueued, ReporterFailed
from aqueue.reporting import Reporter, RunInfo
from aqueue.result import RunResult
from aqueue.text import visible
from aqueue.view import RunView

if TYPE_CHECKING:
    from aqueue._journal.writer import Journal  # which loads SQLite: for runs that have a journal

__all__ = ["Delivery"]

BATCH_INTERVAL_S: Final = 0.05
"""How long events wait for others, at most, before reporters get them."""

WARN_STUCK_S: Final = 5.0
"""How long a call of a reporter may last before the user is warned."""

DETACH_STUCK_S: Final = 60.0
"""How long a call of a reporter may last before it is detached, if there is a journal, which has what it misses."""

CLOSE_TIMEOUT_S: Final = 5.0
"""How long the end of a run waits for a call of a reporter."""

OPEN_GRACE_S: Final = 0.5
"""How long a run that is stopping waits for a reporter that has not finished opening."""


class Delivery:
    """The consumer of a run's events.

    With a journal, one thread takes the events and commits them, independently of the reporters. A second thread passes the
    committed events, or without a journal those that it takes itself, to the thread of each reporter, and never waits for
    one. So what is shown is saved. If a reporter that needs every event is slower than the run, the run pauses: see
    `EventStream.wait_for_room`.

    All methods are called in the loop's thread, except those that say otherwise.

    Attributes:
        cancellation: a cancellation that came while the reporters were opened or closed; it doesn't interrupt that, and
            must be raised afterwards.
    """

    def __init__(
        self, stream: EventStream, reporters: Sequence[Reporter], journal: "Journal | None", call_soon: CallSoon
    ) -> None:
        """Connect to `stream`, unless there is neither a reporter nor a journal: then its events are only counted.

        Parameters:
            stream: has the events.
            reporters: get them all, but for those that can skip some.
            journal: gets the events first; it is written from `start_journal` on.
            call_soon: calls a function in the loop, from any thread.
        """
        self._stream = stream
        self._reporters = [
            ReporterThread(reporter, RunView(), self._on_raised, self._on_progress)
            for reporter in terminals_last(reporters)
        ]
        self._journal = journal
        self._journal_thread: JournalThread | None = None
        self._is_closing = False
        self._reads: list[anyio.Event] = []  # set when what reads facts from the journal has ended
        self._folds = Folds()
        self._journal_closed = anyio.Event()
        self._committed: list[Event] = []  # those that the reporters have not got yet
        self._call_soon = call_soon
        self.cancellation: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._asked = "open"  # then "drained", when all events have been handed on once, then "closed"
        self._stage = "open"
        self._stage_changed = anyio.Event()
        self._result: RunResult | None = None
        if reporters or journal is not None:
            stream.connect(self)

    def begin_with(self, view: RunView, folds: Folds) -> None:
        """Let the reporters begin with `view`, the run as recorded so far, and its snapshots with `folds`."""
        self._folds = folds
        for number, reporter in enumerate(self._reporters):
            reporter.view = view.copy() if number else view  # a view is large if many items wait for a retry

    # ---- as the stream's consumer -------------------------------------------------------------------------------

    @property
    def is_taking(self) -> bool:
        """Whether a thread takes events."""
        return (self._journal_thread is not None and self._journal_thread.is_alive) or self._is_showing

    @property
    def slowest(self) -> str:
        """What is behind: ``journal``, or the class of a reporter."""
        stream = self._stream
        is_reporter = stream.lag > len(stream.events) or stream.lag_bytes > SOFT_LIMIT_BYTES // 2
        if self._journal is not None and not is_reporter:
            return "journal"
        slowest = max(self._logs, key=lambda log: (log.waiting, log.waiting_bytes), default=None)
        return "" if slowest is None else slowest.name

    @property
    def _logs(self) -> list[ReporterThread]:
        """The open reporters that need every event."""
        return [reporter for reporter in self._reporters if reporter.stage == "open" and not reporter.can_skip]

    def hurry(self) -> None:
        """Take events, and pass them to the reporters, now: events between the two threads are not counted anywhere."""
        if self._journal_thread is not None:
            self._journal_thread.hurry()
        self._wake.set()

    async def saved(self) -> None:
        """Wait until all events so far are committed to the journal, or writing has failed."""
        await self._saving_all().wait()

    def _saving_all(self) -> anyio.Event:
        """Return an event that is set once all events so far are committed, or writing has failed."""
        saved = anyio.Event()
        if self._journal_thread is None:
            saved.set()
        else:
            self._journal_thread.flush(lambda: self._call_soon(saved.set))
        return saved

    def when_saved(self, then: Callable[[bool], None]) -> None:
        """Call `then` on any thread once all events so far are committed, with True, or can't be, with False.

        Only in a run with a journal.
        """
        thread = self._journal_thread
        assert thread is not None
        thread.flush(lambda: then(not thread.has_failed))

    # ---- the journal --------------------------------------------------------------------------------------------

    def start_journal(self, on_failed: Callable[[JournalError], None]) -> None:
        """Start the journal's thread; `on_failed` is called in the loop if it can't write the events."""
        if self._journal is not None:
            from aqueue._delivery.snapshots import Snapshots  # which loads SQLite

            self._journal_thread = JournalThread(
                self._journal,
                self._stream,
                Snapshots(self._journal.snapshot_writer(GROWING, self._folds.snapshot_seq), self._folds),
                self._on_committed,
                lambda error: self._call_soon(lambda: on_failed(error)),
                lambda: self._call_soon(self._journal_closed.set),
            )

    def read_items(self, numbers: Sequence[int], on_read: Callable[[dict[int, ItemEnqueued]], None]) -> None:
        """Read the announcements of live items from the journal, and call `on_read` with them in the loop, by number.

        It isn't called if the journal can't be read; then the run ends as if the journal couldn't be written.
        """

        def on_events(events: list[Event]) -> None:
            found = {event.item: event for event in events if isinstance(event, ItemEnqueued)}
            self._call_soon(lambda: on_read(found))

        assert self._journal_thread is not None
        self._journal_thread.read(lambda recording: recording.announced_by(numbers), on_events)

    def read_again(
        self, items: Sequence[int], parents: Sequence[int], on_read: Callable[[list[Event], set[int]], None]
    ) -> None:
        """Read what is needed to run live items again, and call `on_read` with it in the loop; otherwise as `read_items`.

        Parameters:
            items: the items whose objects are needed: the event that announced each, and that with its latest state.
            parents: those of them, or others, whose children are needed: the events that announced these.
            on_read: gets the events, and those of `parents` about whose children they don't tell all.
        """
        forgetful: set[int] = set()

        def question(recording: Recording) -> list[int]:
            forgetful.update(recording.facts.forgotten_below.intersection(parents))
            return recording.needed_again(items, parents)

        assert self._journal_thread is not None
        self._journal_thread.read(question, lambda events: self._call_soon(lambda: on_read(events, forgetful)))

    def read_facts(self, items: Sequence[int], on_read: Callable[[dict[int, ItemFacts] | Exception], None]) -> None:
        """Read what the journal tells of items and of their ancestors, ended or not, in a thread of its own.

        Parameters:
            items: the numbers of the items.
            on_read: called in the loop with the facts by number, as of some time after this call; or with why they can't be read.
        """
        from aqueue._journal.reader import read_all  # which loads SQLite

        journal = self._journal
        assert journal is not None

        def batches() -> Iterator[list[Event]]:
            for events in read_all(journal.path):
                if self._is_closing:
                    raise JournalError("the run has ended")
                yield events

        def read() -> None:
            try:
                end(ended_items(items, batches))
            except Exception as error:
                end(error)

        def end(found: dict[int, ItemFacts] | Exception) -> None:
            self._call_soon(lambda: on_read(found))
            self._call_soon(has_read.set)

        def start(_: bool) -> None:
            try:
                threading.Thread(target=read, name="aqueue-facts", daemon=True).start()
            except RuntimeError as error:  # there are too many threads; this one must go on writing
                end(error)

        has_read = anyio.Event()
        self._reads = [one for one in self._reads if not one.is_set()] + [has_read]
        self.when_saved(start)

    def _on_committed(self, batch: list[Event]) -> None:
        if self._is_showing:
            self._committed.extend(batch)

    def end_journal(self) -> None:
        """Let the journal's thread write what is left and close the file; returns at once."""
        if self._journal_thread is not None:
            self._journal_thread.end()

    async def close_journal(self) -> None:
        """Write what is left and close the journal's file; takes as long as that takes."""
        self._is_closing = True
        for has_read in self._reads:  # a file that is being read can't be closed without leaving something behind
            await self._wait_in_any_case(has_read)
        self.end_journal()
        while self._journal_thread is not None and self._journal_thread.is_alive:
            await self._wait_in_any_case(self._journal_closed, CLOSE_TIMEOUT_S)
            if self._journal_closed.is_set():
                return
            warn("the journal is still being written: the disk is slow, or millions of items wait")

    # ---- the reporters, from their opening to their end ---------------------------------------------------------

    @property
    def _is_showing(self) -> bool:
        return self._thread is not None and self._thread.is_alive() and self._stage != "closed"

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
        self._thread = threading.Thread(target=self._show, name="aqueue-delivery", daemon=True)
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
                warn(f"reporter {reporter.name} had not finished opening; nothing has been run")
                return False
        return True

    async def _wait_opened(self, reporter: ReporterThread) -> None:
        """Wait until `reporter` is open or has failed; once the run is stopping or cancelled, only a moment more."""
        while reporter.stage == "opening":
            is_wanted = self._stream.may_pause and self.cancellation is None
            try:
                with anyio.move_on_after(None if is_wanted else OPEN_GRACE_S, shield=not is_wanted) as waiting:
                    await self._stream.wait_for_change()
            except anyio.get_cancelled_exc_class() as error:
                self.cancellation = error
            else:
                if waiting.cancelled_caught:
                    return

    async def drain(self) -> None:
        """Wait until reporters have had all events; at most 5 s for one call of a reporter."""
        await self._wait_in_any_case(self._saving_all())
        await self._reach("drained")

    async def close(self, result: RunResult) -> None:
        """Pass on what is left, close the reporters and end their threads; waits at most 5 s for one call of a reporter."""
        await self._wait_in_any_case(self._saving_all())
        await self._reach("closed", result)

    async def _reach(self, stage: str, result: RunResult | None = None) -> None:
        self._stage_changed = reached = anyio.Event()  # before checking whether a thread is left to set it
        self._result = result
        self._asked = stage
        self._wake.set()
        if self._is_showing:
            await self._wait_in_any_case(reached)

    async def _wait_in_any_case(self, reached: anyio.Event, timeout_s: float | None = None) -> None:
        """Wait, at most `timeout_s` seconds. Keep a `Task.cancel` of asyncio, which ignores shields, for later."""
        while not reached.is_set():
            try:
                with anyio.move_on_after(timeout_s, shield=True) as waiting:
                    await reached.wait()
            except anyio.get_cancelled_exc_class() as error:
                self.cancellation = error
            else:
                if waiting.cancelled_caught:
                    return

    def release_terminals(self) -> None:
        """Restore every terminal that a reporter has changed; safe in a signal handler and on any thread."""
        for reporter in self._reporters:
            reporter.opened.release_terminals()

    def suspend_terminals(self) -> None:
        """Restore the terminals until `resume_terminals`; safe in a signal handler."""
        for reporter in self._reporters:
            reporter.opened.suspend_terminals()

    def resume_terminals(self) -> None:
        """Let reporters draw again; safe in a signal handler."""
        for reporter in self._reporters:
            reporter.opened.resume_terminals()

    # ---- the thread that shows ----------------------------------------------------------------------------------

    def _show(self) -> None:
        """Pass events to the reporters and check for stuck ones, until all are closed; announce the end in any case."""
        try:
            has_more, is_ending, looked_at = False, False, time.monotonic()
            while True:
                self._wake.wait(BATCH_INTERVAL_S if has_more else TICK_INTERVAL_S)
                self._wake.clear()
                asked = self._asked  # read before `_give`, so that all events so far are given before the answer
                has_more = self._give()
                if asked != "open" and not is_ending:
                    is_ending = True
                    for reporter in self._reporters:
                        reporter.forget_stuck()
                        reporter.end_soon()
                now = time.monotonic()
                # Time in which the process was stopped, or got no CPU, doesn't count.
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
        except BaseException as error:  # a bug in aqueue; the run and the journal continue
            for reporter in self._reporters:
                reporter.fail(error)
        finally:
            self._stream.lag = self._stream.lag_bytes = 0
            self._announce("closed")
            self._call_soon(self._stream.wake_waiting)  # no thread makes room any more

    def _give(self) -> bool:
        """Pass the new events to the reporters, and return whether there were any."""
        stream = self._stream
        if self._journal is None:
            batch = stream.take()
            size = stream.bytes_written = stream.bytes_taken
        else:
            # Each is atomic under the GIL; the journal's thread only appends at the other end.
            size = stream.bytes_written
            batch = self._committed[:]
            del self._committed[: len(batch)]
        if batch:
            for reporter in self._reporters:
                reporter.give(batch, size)
        logs = self._logs
        stream.lag = max((log.waiting for log in logs), default=0)
        stream.lag_bytes = max((log.waiting_bytes for log in logs), default=0)
        if not any(reporter.stage == "opening" for reporter in self._reporters):
            stream.wake_if_room()
        return bool(batch)

    def _look_after(self, passed_s: float, *, is_ending: bool) -> None:
        """Warn about reporters that are stuck, and detach or leave behind those that are stuck for too long.

        Parameters:
            passed_s: the time since the last look, seconds.
            is_ending: whether the end of the run waits for them.
        """
        for reporter in self._reporters:
            if reporter.stage not in ("opening", "open"):
                continue
            stuck_s, is_open = reporter.stuck_for(passed_s), reporter.stage == "open"
            if is_ending:
                if stuck_s >= CLOSE_TIMEOUT_S and is_open:
                    reporter.leave_behind()
                    _warn(
                        f"reporter {reporter.name} did not accept the last events within {CLOSE_TIMEOUT_S:g} s, so the run "
                        f"ended without it{self._where_the_rest_is()}"
                    )
                continue
            if is_open and reporter.can_skip:
                continue
            if stuck_s >= WARN_STUCK_S and not reporter.is_named:
                reporter.is_named = True
                then = (
                    "the run waits for it if it falls too far behind"
                    if self._journal is None
                    else f"after {DETACH_STUCK_S:g} s the run continues without it"
                )
                _warn(
                    f"reporter {reporter.name} has been blocked for {WARN_STUCK_S:g} s, and {then}; check that its output is "
                    "being read, and that the disk isn't full"
                    if is_open
                    else f"reporter {reporter.name} has not finished opening; no item runs until it has"
                )
            if stuck_s >= DETACH_STUCK_S and is_open and self._journal is not None:
                error = ReporterError(f"has been blocked for {DETACH_STUCK_S:g} s{self._where_the_rest_is()}")
                reporter.let_go()
                self._on_failed(reporter.name, error_info(error), str(error))

    def _where_the_rest_is(self) -> str:
        """Return, for a message, how to get what a reporter has not written; empty without a journal."""
        if self._journal is None:
            return ""
        path = shlex.quote(str(self._journal.path))
        return (
            f"; the journal has the events that it missed: 'aqueue export {path} --format jsonl' writes every event, and "
            f"'aqueue replay {path} --speed inf --reporter …' passes them to any reporter"
        )

    # ---- on any thread ------------------------------------------------------------------------------------------

    def _on_progress(self) -> None:
        if self._stream.is_waited_for or self._asked != self._stage:
            self._wake.set()

    def _on_raised(self, reporter: Reporter, error: BaseException) -> None:
        info = error_info(error)
        self._on_failed(type_name(type(reporter)), info, f"raised {info.type}: {visible(info.message, 500)}")

    def _on_failed(self, reporter: str, error: ErrorInfo, why: str) -> None:
        self._call_soon(lambda: self._record_failure(reporter, error))
        _warn(f"reporter {reporter} {why}; the run continues without it")

    def _record_failure(self, reporter: str, error: ErrorInfo) -> None:
        if not self._stream.is_finished:
            self._stream.emit(ReporterFailed, reporter, error)

    def _announce(self, stage: str) -> None:
        self._stage = stage
        self._call_soon(self._stage_changed.set)


def _warn(message: str) -> None:
    """Warn on a separate thread, since a stuck display blocks those that print."""
    thread = threading.Thread(target=warn, args=(message,), name="aqueue-warning", daemon=True)
    thread.start()
    thread.join(1.0)  # so that, as a rule, it is said before what comes next
