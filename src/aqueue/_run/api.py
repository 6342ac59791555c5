"""run_queue and async_run_queue: check the arguments, wire the parts, run, close, and raise what must be raised."""

import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, get_args

import anyio
import msgspec

from aqueue._arguments import check_one_of
from aqueue._codec.item_codec import PayloadCodec
from aqueue._codec.results import decode_root_results
from aqueue._delivery.delivery import Delivery
from aqueue._engine.context import current_or_none
from aqueue._engine.engine import Engine
from aqueue._engine.failures import Failures
from aqueue._engine.groups import Limits
from aqueue._engine.payloads import Payloads
from aqueue._engine.queues import QUEUE_TYPES, QueueTypeName
from aqueue._engine.stopping import OnError, Stage
from aqueue._folds.outcome import FailureTally
from aqueue._resume.resumption import Resumption, read_past
from aqueue._run.settings import Backend, Lifespan, Settings
from aqueue._stream.event_stream import EventStream
from aqueue._system.job_control import JobControl
from aqueue._system.loop import CallSoon, call_soon_in_this_loop, running_backend
from aqueue._system.notice import say, stderr_is_terminal
from aqueue._system.signals import HeldInterrupts, SignalHandlers, exception_for, signal_name
from aqueue._version import __version__
from aqueue.errors import AqueueError, InvalidArgument, ItemFailures, JournalError, MisplacedCall, RecordedFailure
from aqueue.events import SCHEMA_VERSION, RunFinished, RunResumed, RunStarted, RunStatus
from aqueue.item import ItemLike
from aqueue.reporting import Reporter, ReporterSpec, RunInfo
from aqueue.result import RunResult
from aqueue.retry import Retry
from aqueue.text import visible, visible_repr
from aqueue.tracebacks import is_user_file

if TYPE_CHECKING:
    import distributed

    from aqueue._cluster.cluster import Cluster
    from aqueue._journal.writer import Journal

__all__ = ["async_run_queue", "run_queue"]

_terminal = threading.Lock()
"""Held by the run that redraws the terminal: one a process."""


class _Outcome(msgspec.Struct, frozen=True):
    result: RunResult
    error: BaseException | None


def run_queue(
    initial_items: Iterable[ItemLike],
    *,
    num_workers: int = 5,
    queue_type_name: QueueTypeName = "queue",
    graceful_ctrl_c: bool = True,
    reporter: ReporterSpec = "auto",
    on_error: OnError = "stop",
    lifespan: Lifespan | None = None,
    journal: "str | os.PathLike[str] | None" = None,
    resume: "str | os.PathLike[str] | None" = None,
    retry: Retry | None = None,
    timeout_s: float | None = None,
    limits: Limits | None = None,
    stop_after_s: float | None = None,
    max_items: int | None = None,
    max_failures: int | None = None,
    grace_s: float | None = None,
    retry_failed: bool = True,
    only: Callable[[str], object] | None = None,
    cluster: "str | distributed.Client | None" = None,
    allow_insecure: bool = False,
    backend: Backend = "trio",
) -> RunResult:
    """Run `initial_items` and all that they enqueue, and return what came of it.

    Parameters:
        initial_items: the first items; any iterable, consumed whole before the first item starts.
        num_workers: how many items run at a time, from 1 to 1,000,000, by default 5.
        queue_type_name: the order in which items are taken: ``"queue"``, the default, first in first out, ``"stack"`` last
            in first out, ``"priority"`` the lesser item (``<``) first, equal ones as they came.
        graceful_ctrl_c: what the first Ctrl-C (SIGINT), SIGTERM or SIGHUP does: True, the default, waits for the running
            items, False cancels them. The second cancels, the third ends the process at once.
        reporter: who shows or records the run: ``"auto"``, the default, ``"rich"``, ``"plain"``, ``"jsonl"``,
            ``"jsonl:PATH"``, ``"none"``, the name of a plugin, a `Reporter`, or a sequence of these.
        on_error: ``"stop"``, the default, stops the run gracefully when an item has failed for good, ``"continue"`` runs
            everything else.
        lifespan: a function that returns an async context manager, entered before the first item and left after the
            last; what it yields is `aqueue.shared()`. It isn't called if there are no items. None, the default, for none.
        journal: the file in which to record a new run, so that it can be resumed. It must not exist yet, or be empty.
            None, the default, for no journal.
        resume: the journal of a run to go on with. If there is no such file, a new run is recorded there. Items that
            are recorded as completed are not run again; a run that had completed returns its recorded result at once.
            None, the default, for a new run. Not both `journal` and `resume`.
        retry: when an item that raised is tried again, for the classes that have no `retry` of their own; None, the
            default, for never.
        timeout_s: how long one attempt may take, seconds, more than 0, up to a year, for the classes that have no
            `timeout_s` of their own; None, the default, for as long as it takes.
        limits: how many items of one `group` run at once, and start in a second: a mapping from the group's name to a
            `Limit`, in which ``"*"`` stands for the groups not named, or a function from the name to a `Limit` or None.
            Items without a group are not limited. None, the default, limits none.
        stop_after_s: stop gracefully so long after the first items could start, seconds, from 0 to a year; None, the
            default, for never.
        max_items: stop gracefully when so many items have been run (hooks and further attempts don't count), if more
            wait; at least 1. None, the default, for any number.
        max_failures: stop gracefully when so many items have failed for good, at least 1; it needs
            ``on_error="continue"``. None, the default, for any number.
        grace_s: how long a graceful stop, whatever the reason, waits for the running items before it cancels them;
            seconds, from 0 to a year. None, the default, for as long as they take.
        retry_failed: whether items that are recorded as failed are run again; by default True. False needs `resume`.
        only: which of those: a function that takes the name of an item class, such as ``"shop:Page"``, and returns
            whether its failed items are run again. It needs `resume`. None, the default, for all.
        cluster: where `process` runs, if not in this process; hooks run here in any case. The address of a Dask
            scheduler, such as ``"tls://scheduler:8786"``, a connected `distributed.Client`, or ``"local:4"`` for four
            worker processes on this machine (1 to 1,000). `num_workers` then is how many items each worker process runs
            at a time, and `lifespan` is entered in each of them, and here. It needs the extra ``dask``. None,
            the default, for this process.
        allow_insecure: whether a scheduler on another machine may be reached without TLS, by default False; whoever
            reaches it can run programs.
        backend: the event loop, ``"trio"``, the default, or ``"asyncio"``.

    Returns:
        What the run came to. `RunResult.status` is ``completed``, or ``interrupted`` after `aqueue.stop` or when a
        limit stopped it; `RunResult.stop_reason` then names that. These limits count anew in each process.

    Raises:
        InvalidArgument: an argument, or an attribute of an initial item's class, is not allowed, or `lifespan` returned no
            async context manager; nothing was run.
        InvalidItem: an initial item is not an item; nothing was run.
        UnstorableItem: an initial item has state that the journal can't store; nothing was run.
        ReporterError: a reporter could not be loaded or opened; nothing was run.
        JournalError: the journal can't be used, or can't be written any more; one of its subclasses says why.
        UnknownItemType: the journal has items waiting whose class this program does not have; nothing was changed.
        PayloadMismatch: the journal has an item waiting that today's class can't restore; nothing was changed.
        MisplacedCall: called inside a running event loop, where you use `async_run_queue`; or in a free-threaded Python whose
            global interpreter lock is off.
        ItemFailures: at least one item failed for good. An exception group of their exceptions.
        ItemsNotComparable: ``queue_type_name="priority"``, and two items can't be compared.
        ClusterError: the cluster can't be used, and nothing was run; or it was lost, and did not come back for 10 minutes.
        UnsendableItem: an initial item can't be sent to the cluster; nothing was run.
        KeyboardInterrupt: the run was stopped by Ctrl-C.
        SystemExit: the run was stopped by SIGTERM or SIGHUP (the code is 128 plus the signal's number).
        BaseException: whatever `initial_items` or `lifespan` raised, and `SystemExit`, `KeyboardInterrupt` and the
            like from an item.
    """
    check_one_of("backend", backend, get_args(Backend))
    running = running_backend()
    if running is not None:
        raise MisplacedCall(
            f"run_queue was called inside a running {running} event loop; write 'await async_run_queue(…)' there"
        )
    settings = Settings(
        initial_items,
        num_workers,
        queue_type_name,
        graceful_ctrl_c,
        reporter,
        on_error,
        lifespan,
        journal,
        resume,
        retry,
        timeout_s,
        limits,
        stop_after_s,
        max_items,
        max_failures,
        grace_s,
        retry_failed,
        only,
        cluster,
        allow_insecure,
    )
    # No local variable for the outcome: an error that is raised here holds this frame, which would hold the error.
    try:
        reporters = settings.checked()
        with HeldInterrupts() as held:
            return _unwrap(anyio.run(partial(_run, settings, reporters, held), backend=backend))
    except (AqueueError, KeyboardInterrupt) as error:
        error.__traceback__ = _from_users_code(error.__traceback__)
        raise


async def async_run_queue(
    initial_items: Iterable[ItemLike],
    *,
    num_workers: int = 5,
    queue_type_name: QueueTypeName = "queue",
    graceful_ctrl_c: bool = True,
    reporter: ReporterSpec = "auto",
    on_error: OnError = "stop",
    lifespan: Lifespan | None = None,
    journal: "str | os.PathLike[str] | None" = None,
    resume: "str | os.PathLike[str] | None" = None,
    retry: Retry | None = None,
    timeout_s: float | None = None,
    limits: Limits | None = None,
    stop_after_s: float | None = None,
    max_items: int | None = None,
    max_failures: int | None = None,
    grace_s: float | None = None,
    retry_failed: bool = True,
    only: Callable[[str], object] | None = None,
    cluster: "str | distributed.Client | None" = None,
    allow_insecure: bool = False,
) -> RunResult:
    """Do what `run_queue` does in the caller's own event loop, trio or asyncio.

    With `resume`, reading what is recorded takes that loop's time: about 5 µs an item, before anything runs.

    Cancelling it interrupts the running items, hands the last events on, closes the reporters (which takes at most
    5 s with a reporter that is stuck), and raises the cancellation again.

    Its parameters are those of `run_queue` but for `backend`; signals are handled only in the main thread.

    Returns:
        What the run came to, as `run_queue` does.

    Raises:
        AqueueError: as `run_queue` does, but that it may be called inside a running event loop.
        KeyboardInterrupt, SystemExit, BaseException: as `run_queue` does.
    """
    settings = Settings(
        initial_items,
        num_workers,
        queue_type_name,
        graceful_ctrl_c,
        reporter,
        on_error,
        lifespan,
        journal,
        resume,
        retry,
        timeout_s,
        limits,
        stop_after_s,
        max_items,
        max_failures,
        grace_s,
        retry_failed,
        only,
        cluster,
        allow_insecure,
    )
    try:
        reporters = settings.checked()
        return _unwrap(await _run(settings, reporters, HeldInterrupts()))
    except AqueueError as error:
        error.__traceback__ = _from_users_code(error.__traceback__)
        raise


def _from_users_code(traceback: TracebackType | None) -> TracebackType | None:
    """Return `traceback` from its first frame in the user's own code on; None if there is none.

    What aqueue raises says in its message what happened: where in aqueue, and in which event loop, is no help.
    """
    while traceback is not None and not is_user_file(traceback.tb_frame.f_code.co_filename):
        traceback = traceback.tb_next
    return traceback


def _unwrap(outcome: _Outcome) -> RunResult:
    if outcome.error is not None:
        try:
            raise outcome.error
        finally:
            del outcome  # the error's frames would hold the error
    return outcome.result


async def _run(settings: Settings, every: list[Reporter], held: HeldInterrupts) -> _Outcome:
    """Run with the terminal to itself, or without the reporters that need it (a run inside another run)."""
    owner = any(reporter.uses_terminal for reporter in every)
    owns_terminal = owner and _terminal.acquire(blocking=False)
    reporters = [one for one in every if owns_terminal or not one.uses_terminal]
    try:
        if settings.journal is None and settings.resume is None:
            outcome = await _Run(settings, reporters, None, None, held).run()
        else:
            outcome = await _run_recorded(settings, reporters, held)
    finally:
        if owns_terminal:
            _terminal.release()
    if isinstance(outcome.error, anyio.get_cancelled_exc_class()):
        return _Outcome(_unwrap(outcome), None)  # raised here, where the loop sees it
    return outcome


async def _run_recorded(settings: Settings, reporters: list[Reporter], held: HeldInterrupts) -> _Outcome:
    """Run with a journal: a new one, or go on with what it has recorded."""
    from aqueue._journal.writer import Journal  # SQLite is for those who have a journal

    if settings.resume is not None:
        journal = Journal.open(settings.resume)
    else:
        assert settings.journal is not None
        journal = Journal.create(settings.journal)
    try:
        past = None if journal.is_new else read_past(journal, held.check, settings.runs_again)
        if past is not None:
            assert settings.resume is not None
            name = visible(os.fsdecode(settings.resume), 1_000)
            if past.is_completed:
                with held.let_through():
                    items = iter(settings.initial_items)
                    new = past.first_new(items)
                if not new:
                    result = msgspec.structs.replace(past.result(), journal=str(journal.path))
                    say(f"aqueue: {name} is complete: {result.counts.completed:,} completed; nothing is left to do")
                    return _Outcome(result, None)
                settings = msgspec.structs.replace(settings, initial_items=_consumed(new, items))
                del new, items
        outcome = await _Run(settings, reporters, journal, past, held).run()
    finally:
        journal.abandon()
    if outcome.result.status == "interrupted":
        say(f"aqueue: to go on: {_how_to_resume(settings, str(journal.path))}")
    elif isinstance(outcome.error, ItemFailures):
        say(f"aqueue: to run what failed again, and what is left: {_how_to_resume(settings, str(journal.path))}")
    return outcome


def _consumed(first: list[ItemLike], others: Iterator[ItemLike]) -> Iterator[ItemLike]:
    """Yield the `first` items, emptying the list so that they can be freed when they have ended, and then the `others`."""
    while first:
        yield first.pop()
    yield from others


def _how_to_resume(settings: Settings, path: str) -> str:
    if settings.resume is not None:
        return _same_again()
    return (
        f"give run_queue resume={path!r} instead of journal={os.fspath(settings.journal or path)!r}, and run it again"
    )


def _same_again() -> str:
    """Return what begins this program, or this call, once more, safe to show.

    The arguments, among which may be a password, are shown only to the person who typed them: CI logs and journald keep
    what is printed, for others to read.
    """
    if hasattr(sys, "ps1"):  # Python's own prompt, IPython's, or a notebook
        return "make the same call again"
    if stderr_is_terminal():
        return f"run the same command again: {visible(shlex.join(sys.orig_argv), 2_000)}"
    program = sys.argv[0] if sys.argv else ""
    if program in ("", "-c"):
        return "run the same command again"
    return f"run the same command again: {visible(program, 1_000)} with the same arguments"


class _Run:
    """One run in one process, from opening to closing."""

    def __init__(
        self,
        settings: Settings,
        reporters: list[Reporter],
        journal: "Journal | None",
        past: Resumption | None,
        held: HeldInterrupts,
    ) -> None:
        self._settings = settings
        self._reporters = reporters
        self._past = past
        self._held = held
        self._journal = journal
        self._journal_path = "" if journal is None else str(journal.path)
        self._has_begun = False
        self._run_id = os.urandom(8).hex() if past is None else past.run_id
        self._call_soon = call_soon_in_this_loop()
        self._stream = EventStream(self._call_soon)
        self._delivery = Delivery(self._stream, reporters, journal, self._call_soon)
        self._cluster = (
            None if settings.cluster is None else _cluster(settings, self._run_id, self._call_soon, journal is not None)
        )
        if past is not None:
            self._stream.continue_after(past.last_seq, past.last_at)
            self._delivery.begin_with(past.view)
        self._signals = SignalHandlers(
            self._on_signal, self._on_unanswered, self._delivery.release_terminals, self._call_soon
        )
        draws = any(reporter.uses_terminal for reporter in reporters)
        self._job_control = (
            JobControl(self._delivery.suspend_terminals, self._delivery.resume_terminals) if draws else nullcontext()
        )
        self._tally = FailureTally()
        self._engine = Engine(
            self._stream,
            QUEUE_TYPES[settings.queue_type_name](),
            self._call_soon,
            settings.num_workers,
            settings.on_error,
            Failures(self._tally.add),
            None if journal is None else Payloads(PayloadCodec(), self._run_id, self._stream.add_large),
            settings.policies,
            settings.limits,
            settings.stop_limits,
            self._cluster,
        )

    async def run(self) -> _Outcome:
        self._engine.stopping.hold()
        # Within an item of another run, that run's signals are enough: it waits for this one or cancels it.
        with nullcontext() if current_or_none() is not None else self._signals, self._job_control:
            self._held.deliver()
            try:
                if self._cluster is not None:
                    await self._cluster.open()
                return await self._run()
            finally:
                self._delivery.end_journal()  # which has been closed, unless something went wrong
                if self._cluster is not None:
                    await self._cluster.close()

    async def _run(self) -> _Outcome:
        settings = self._settings
        stream, delivery = self._stream, self._delivery
        error: BaseException | None = None
        started_at = stream.now()
        if not await delivery.open(RunInfo(self._run_id, settings.num_workers, settings.queue_type_name, started_at)):
            raise delivery.cancellation or exception_for(self._signals.first or signal.SIGINT)
        delivery.start_journal(self._on_journal_failed)
        stream.emit(
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
        self._engine.stopping.release()
        try:
            if delivery.cancellation is not None:
                raise delivery.cancellation
            await self._run_items()
        except BaseException as raised:
            error = raised
        result = await self._close(started_at, error)
        error = delivery.cancellation or error
        return _Outcome(result, self._what_to_raise(result, error))

    async def _run_items(self) -> None:
        engine = self._engine
        try:
            if self._past is not None:
                self._past.restore(engine)
            await engine.add_initial(self._settings.initial_items)
            if self._past is not None:
                assert self._settings.resume is not None
                name = visible(os.fsdecode(self._settings.resume), 1_000)
                self._past.say_what_is_resumed(name, has_all=engine.intake.recorded_roots is None)
            if not engine.tree.open_roots or engine.stopping.stage is not Stage.RUNNING:
                return
            # Items' idempotency keys hang on the run's name, and poison items are told by how many processes began.
            await self._delivery.saved()
            if self._settings.lifespan is None:
                self._has_begun = True
                await engine.run()
                return
            # A second signal cancels the lifespan only while it is entered or left: it is the items' turn in between.
            with anyio.CancelScope() as engine.stopping.scope:
                async with _checked(self._settings.lifespan()) as shared:
                    engine.shared = shared
                    self._has_begun = True
                    await engine.run()
        finally:
            engine.unlink_all()  # also if `initial_items` or the lifespan raised: restored nodes may be a long chain

    async def _close(self, started_at: float, error: BaseException | None) -> RunResult:
        stream, delivery = self._stream, self._delivery
        engine = self._engine
        await delivery.drain()  # so that a reporter that fails now is still told of before the last event
        status: RunStatus = engine.status
        if error is not None:
            status = "failed" if isinstance(error, Exception) else "interrupted"
        by_type = engine.classes.counts
        counts = engine.counts
        engine.stopping.stage = Stage.ENDED  # nothing more is announced: a signal or a late `stop` comes too late
        stream.finish(RunFinished(stream.next_seq(), stream.now(), status, counts))
        result = RunResult(
            self._run_id,
            status,
            counts,
            by_type,
            stream.now() - started_at + (0.0 if self._past is None else self._past.elapsed_s),
            tuple(engine.failures.listed),
            self._tally.groups(),
            decode_root_results(engine.intake.roots, engine.tree.root_results),
            engine.stopping.reason,
            self._journal_path,
        )
        await delivery.close(result)
        if self._journal is not None and not self._has_begun and isinstance(error, Exception):
            # An initial item that can't be stored, say: once it can be, ``journal=`` must not find this run.
            self._journal.discard()
        await delivery.close_journal()
        return result

    def _what_to_raise(self, result: RunResult, error: BaseException | None) -> BaseException | None:
        engine = self._engine
        if engine.stopping.error is not None and not isinstance(engine.stopping.error, Exception):
            return engine.stopping.error
        if error is not None:
            return error
        if engine.stopping.error is not None:
            return engine.stopping.error
        if self._signals.first is not None:
            return exception_for(self._signals.first)
        failures = engine.failures
        if not failures.count and not failures.recorded:
            return None
        listed = [*failures.exceptions, *(RecordedFailure(one) for one in failures.not_alive)]
        failed = result.counts.failed
        message = f"{failed:,} item{'s' if failed > 1 else ''} failed"
        if failed > len(listed):
            message += f"; the first {len(listed):,} are listed"
        return ItemFailures(message, listed, result)

    def _on_journal_failed(self, error: JournalError) -> None:
        """End the run at once: nothing that runs now would be recorded."""
        self._engine.stopping.fail(error, "the journal can't be written", cancel=True)

    # ---- signals ------------------------------------------------------------------------------------------------

    def _on_signal(self, number: int, count: int) -> None:
        """Called between any two steps of the main thread's work: only tell the loop."""
        engine = self._engine
        cancel = count > 1 or not self._settings.graceful_ctrl_c or engine.stopping.stage is not Stage.RUNNING
        if cancel:
            self._stream.may_block = False  # it may be in this very thread that `enqueue` waits
        self._call_soon(partial(engine.stopping.stop, signal_name(number), cancel=cancel))
        if stderr_is_terminal() and not any(reporter.uses_terminal for reporter in self._reporters):
            doing = "cancelling the running items" if cancel else "waiting for the running items"
            say(f"\naqueue: {signal_name(number)}: {doing}; {_next_signal(number, cancel)}")
        if engine.intake.is_asking:
            # Nothing runs yet but the source of the initial items, in this very thread; it may block for good.
            raise exception_for(number)

    def _on_unanswered(self, count: int) -> None:
        """Called in the thread that watches the signals."""
        if self._engine.stopping.stage is not Stage.ENDED:
            say(f"aqueue: an item is keeping the event loop to itself, so the run can't stop yet; {_THIRD_SIGNAL}")


def _cluster(settings: Settings, run_id: str, call_soon: CallSoon, has_journal: bool) -> "Cluster":
    """Return the cluster that `settings`, which are checked, name, not connected yet.

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
    """Return what `lifespan` returned.

    Raises:
        InvalidArgument: it is no async context manager.
    """
    if isinstance(made, AbstractAsyncContextManager):  # by its methods, whatever its class
        return made
    shown = visible_repr(made)
    if isinstance(made, Coroutine):
        made.close()  # it will never be awaited, and Python would warn
    if isinstance(made, AsyncIterator | AbstractContextManager | Coroutine):
        mend = "write it as 'async def' with one yield, and decorate it with contextlib.asynccontextmanager"
    else:
        mend = "return one, such as contextlib.asynccontextmanager makes of an 'async def' with one yield"
    raise InvalidArgument(
        f"lifespan was called before the first item, and returned {shown}, which is no async context manager; {mend}"
    )


_THIRD_SIGNAL = "a third Ctrl-C ends the process at once"  # also where the first one cancels, or a failure stopped it


def _next_signal(number: int, cancelling: bool) -> str:
    """Say what the next one does, in the words of the reporters that draw on the terminal."""
    return _THIRD_SIGNAL if cancelling else f"Ctrl-C{' again' if number == signal.SIGINT else ''} cancels them"
