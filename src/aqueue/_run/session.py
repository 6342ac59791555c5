"""One run in one process: puts the parts together, opens, runs and closes them."""

import os
import signal
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from aqueue._codec.item_codec import PayloadCodec
from aqueue._codec.results import decode_root_results
from aqueue._delivery.delivery import Delivery
from aqueue._engine.context import current_or_none
from aqueue._engine.engine import Engine
from aqueue._engine.failures import Failures
from aqueue._engine.hints import hint
from aqueue._engine.parts import Parts
from aqueue._engine.payloads import Payloads
from aqueue._engine.queues import QUEUE_TYPES
from aqueue._engine.stopping import Stage
from aqueue._folds.outcome import FailureTally
from aqueue._resume.past import Past
from aqueue._run.control import Control
from aqueue._run.settings import Settings
from aqueue._run.uncaught import report
from aqueue._stream.event_stream import EventStream
from aqueue._system.job_control import JobControl
from aqueue._system.loop import CallSoon, call_soon_in_this_loop, running_backend
from aqueue._system.notice import say, stderr_is_terminal
from aqueue._system.signals import HeldInterrupts, SignalHandlers, exception_for, signal_name
from aqueue._version import __version__
from aqueue.errors import InvalidArgument, ItemFailures, JournalError, RecordedFailure
from aqueue.events import SCHEMA_VERSION, RunFinished, RunResumed, RunStarted, RunStatus
from aqueue.reporting import Reporter, RunInfo
from aqueue.result import RunResult
from aqueue.text import visible, visible_repr

if TYPE_CHECKING:
    from aqueue._cluster.cluster import Cluster
    from aqueue._journal.writer import Journal

__all__ = ["Outcome", "Session"]


class Outcome(msgspec.Struct, frozen=True):
    """The result of a session, and the error that the caller is to raise; None for no error."""

    result: RunResult
    error: BaseException | None


class Session:
    """One run in one process, from opening to closing."""

    def __init__(
        self,
        settings: Settings,
        reporters: list[Reporter],
        journal: "Journal | None",
        past: Past | None,
        held: HeldInterrupts,
    ) -> None:
        self._settings = settings
        self._reporters = reporters
        self._past = past
        self._held = held
        self._journal = journal
        self._journal_path = "" if journal is None else str(journal.path)
        self._has_begun = False
        self._run_id = os.urandom(8).hex() if past is None else past.recording.run_id
        self._call_soon = call_soon_in_this_loop()
        self._stream = EventStream(self._call_soon)
        self._delivery = Delivery(self._stream, reporters, journal, self._call_soon)
        self._cluster = (
            None if settings.cluster is None else _cluster(settings, self._run_id, self._call_soon, journal is not None)
        )
        if past is not None:
            self._stream.continue_after(past.recording.last_seq, past.recording.last_at)
            self._delivery.begin_with(past.view, past.folds)
        self._signals = SignalHandlers(
            self._on_signal, self._on_unanswered, self._delivery.release_terminals, self._call_soon
        )
        draws = any(reporter.uses_terminal for reporter in reporters)
        self._job_control = (
            JobControl(self._delivery.suspend_terminals, self._delivery.resume_terminals) if draws else nullcontext()
        )
        self._tally = FailureTally()
        self._parts = Parts(
            self._stream,
            QUEUE_TYPES[settings.queue_type_name](),
            self._call_soon,
            failures=Failures(self._tally.add, self._tally.remove, may_be_taken_back=journal is not None),
            on_error=settings.on_error,
            stop_limits=settings.stop_limits,
            payloads=None if journal is None else Payloads(PayloadCodec(), self._run_id, self._stream.add_large),
            policies=settings.policies,
            limits=settings.limits,
            is_elsewhere=self._cluster is not None,
            spill_after=settings.spill_after,
            read_items=self._delivery.read_items,
            read_again=None if journal is None else self._delivery.read_again,
            read_facts=None if journal is None else self._delivery.read_facts,
        )
        self._stopping = self._parts.stopping
        self._engine = Engine(self._parts, settings.num_workers, self._cluster)
        self._control: Control | None = None
        if journal is not None:
            self._control = Control(journal.path, self._engine.steering, self._delivery, self._call_soon)

    async def run(self) -> Outcome:
        self._stopping.hold()
        # Inside an item of another run, that run handles the signals: it waits for this one or cancels it.
        with nullcontext() if current_or_none() is not None else self._signals, self._job_control:
            self._held.deliver()
            try:
                if self._cluster is not None:
                    await self._cluster.open()
                return await self._run()
            finally:  # already closed, unless something went wrong
                if self._control is not None:
                    await self._control.close()
                self._delivery.end_journal()
                if self._cluster is not None:
                    await self._cluster.close()

    async def _run(self) -> Outcome:
        settings = self._settings
        stream, delivery = self._stream, self._delivery
        error: BaseException | None = None
        started_at = stream.now()
        path = "" if self._journal is None else str(self._journal.path)
        info = RunInfo(self._run_id, settings.num_workers, settings.queue_type_name, started_at, journal=path)
        if not await delivery.open(info):
            raise delivery.cancellation or exception_for(self._signals.first or signal.SIGINT)
        delivery.start_journal(self._on_journal_failed)
        started = stream.emit(
            RunStarted if self._past is None else RunResumed,
            self._run_id,
            SCHEMA_VERSION,
            __version__,
            settings.num_workers,
            settings.queue_type_name,
            os.getpid(),
            visible(socket.gethostname(), 255),
            "" if self._cluster is None else visible(self._cluster.address, 500),
        )
        self._stopping.release()
        if self._control is not None:
            if self._past is not None:
                self._control.restore(self._past.recording.in_force, started)
            if settings.control:
                self._control.open()
        try:
            if delivery.cancellation is not None:
                raise delivery.cancellation
            await self._run_items()
        except BaseException as raised:
            error = raised
        result = await self._close(started_at, error)
        error = delivery.cancellation or error
        error = self._what_to_raise(result, error)
        has_summary = any(getattr(reporter, "has_summary", False) for reporter in self._reporters)
        is_ctrl_c = self._signals.first is not None and isinstance(error, KeyboardInterrupt)
        if (
            has_summary
            and error is not None
            and (is_ctrl_c or (isinstance(error, ItemFailures) and error.result is result))
        ):
            report(error)
        return Outcome(result, error)

    async def _run_items(self) -> None:
        engine = self._engine
        try:
            if self._past is not None:
                self._past.restore(engine)
            await engine.add_initial(self._settings.initial_items)
            if self._past is not None:
                assert self._settings.resume is not None
                name = visible(os.fsdecode(self._settings.resume), 1_000)
                self._past.say_what_is_resumed(name, has_all=self._parts.intake.recorded_roots is None)
                assert self._control is not None
                self._control.say_what_is_in_force()
            if not self._parts.tree.open_roots or self._stopping.stage is not Stage.RUNNING:
                return
            # Before an item runs, the beginning must be saved: idempotency keys are made from the run's id, and poison items
            # are recognized by the number of processes that began.
            await self._delivery.saved()
            if self._settings.lifespan is None:
                self._has_begun = True
                await engine.run()
                return
            # A second signal cancels the lifespan only while it is entered or left; in between it cancels the items.
            with anyio.CancelScope() as scope:
                self._stopping.cancel_in_future(scope)
                try:
                    async with _checked(self._settings.lifespan()) as shared:
                        self._parts.for_items.shared = shared
                        self._has_begun = True
                        await engine.run()
                except Exception as error:
                    if not self._has_begun and (advice := hint(error)):
                        error.add_note(f"aqueue: raised by lifespan; {advice}")
                    raise
        finally:
            engine.unlink_all()  # also if `initial_items` or the lifespan raised: restored nodes may be a long chain

    async def _close(self, started_at: float, error: BaseException | None) -> RunResult:
        stream, delivery = self._stream, self._delivery
        engine, parts = self._engine, self._parts
        await delivery.drain()  # so that a reporter that fails now is still recorded before the last event
        status: RunStatus = engine.status
        if error is not None:
            status = "failed" if isinstance(error, Exception) else "interrupted"
        by_type = parts.classes.counts
        counts = engine.counts
        self._stopping.end()
        stream.finish(RunFinished(stream.next_seq(), stream.now(), status, counts))
        result = RunResult(
            self._run_id,
            status,
            counts,
            by_type,
            stream.now() - started_at + (0.0 if self._past is None else self._past.recording.elapsed_s),
            tuple(parts.failures.listed.values()),
            self._tally.groups(),
            decode_root_results(parts.intake.roots, parts.tree.root_results),
            self._stopping.reason,
            self._journal_path,
        )
        await delivery.close(result)
        if self._control is not None:
            await self._control.close()
        if self._journal is not None and not self._has_begun and isinstance(error, Exception):
            # Such as an initial item that can't be stored: once that is fixed, ``journal=`` must not find this run.
            self._journal.discard()
        await delivery.close_journal()
        return result

    def _what_to_raise(self, result: RunResult, error: BaseException | None) -> BaseException | None:
        raised = self._stopping.error
        if raised is not None and (error is None or not isinstance(raised, Exception)):
            return raised
        if error is not None:
            return error
        if self._signals.first is not None:
            return exception_for(self._signals.first)
        failures = self._parts.failures
        if not failures.count and not failures.recorded:
            return None
        listed = [*failures.exceptions.values(), *(RecordedFailure(one) for one in failures.not_alive.values())]
        failed = result.counts.failed
        message = f"{failed:,} item{'s' if failed > 1 else ''} failed"
        if failed > len(listed):
            message += f"; the first {len(listed):,} are listed"
        return ItemFailures(message, listed, result)

    def _on_journal_failed(self, error: JournalError) -> None:
        """End the run at once: nothing that runs now would be recorded."""
        self._stopping.fail(error, "the journal can't be written or read", cancel=True)

    # ---- signals ------------------------------------------------------------------------------------------------

    def _on_signal(self, number: int, count: int) -> None:
        """Stop the run; called between any two steps of the main thread's work, so it only schedules that in the loop."""
        cancel = count > 1 or not self._settings.graceful_ctrl_c or self._stopping.stage is not Stage.RUNNING
        if cancel:
            self._stream.may_block = False  # `enqueue` may be blocking this very thread
        self._call_soon(partial(self._stopping.stop, signal_name(number), cancel=cancel))
        if stderr_is_terminal() and not any(reporter.uses_terminal for reporter in self._reporters):
            doing = "cancelling the running items" if cancel else "waiting for the running items"
            say(f"\naqueue: {signal_name(number)}: {doing}; {_next_signal(number, cancel)}")
        if self._parts.intake.is_asking:
            # Nothing runs yet but the source of the initial items, in this very thread, which may block for ever.
            raise exception_for(number)

    def _on_unanswered(self, count: int) -> None:
        """Explain why nothing happens; called in the thread that watches the signals."""
        if self._stopping.stage is not Stage.ENDED:
            say(f"aqueue: an item is blocking the event loop, so the run can't stop yet; {_THIRD_SIGNAL}")


def _cluster(settings: Settings, run_id: str, call_soon: CallSoon, has_journal: bool) -> "Cluster":
    """Return the cluster of the checked `settings`, not connected yet.

    Raises:
        InvalidArgument: the lifespan can't be sent.
    """
    from aqueue._cluster.cluster import Cluster  # Dask is for those who have a cluster
    from aqueue._cluster.dask_transport import DaskTransport

    backend = running_backend()
    assert backend is not None
    assert settings.cluster is not None
    return Cluster(
        DaskTransport(settings.cluster, allow_insecure=settings.allow_insecure),
        call_soon,
        num_workers=settings.num_workers,
        backend=backend,
        lifespan=settings.lifespan,
        has_journal=has_journal,
        run_id=run_id,
    )


def _checked(made: AbstractAsyncContextManager[Any]) -> AbstractAsyncContextManager[Any]:
    """Return `made`, which `lifespan` returned.

    Raises:
        InvalidArgument: it isn't an async context manager.
    """
    if isinstance(made, AbstractAsyncContextManager):  # any class with the methods
        return made
    shown = visible_repr(made)
    if isinstance(made, Coroutine):
        made.close()  # it will never be awaited, and Python would warn
    if isinstance(made, AsyncIterator | AbstractContextManager | Coroutine):
        advice = "write it as an 'async def' with one yield, and decorate it with contextlib.asynccontextmanager"
    else:
        advice = "decorate an 'async def' that has one yield with contextlib.asynccontextmanager, for example"
    raise InvalidArgument(f"lifespan returned {shown}, which isn't an async context manager; {advice}")


_THIRD_SIGNAL = "a third Ctrl-C ends the process at once"  # also where the first one cancels, or a failure stopped it


def _next_signal(number: int, cancelling: bool) -> str:
    """Return what the next signal does, in the words of the reporters that draw on the terminal."""
    return _THIRD_SIGNAL if cancelling else f"Ctrl-C{' again' if number == signal.SIGINT else ''} cancels them"
