"""`run_queue` and `async_run_queue`: check the arguments, run, and raise what must be raised."""

import os
import threading
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, get_args

import anyio

from aqueue._arguments import check_one_of
from aqueue._engine.queues import QueueTypeName
from aqueue._engine.stopping import OnError
from aqueue._run.recorded import run_recorded
from aqueue._run.session import Outcome, Session
from aqueue._run.settings import Backend, Lifespan, Settings
from aqueue._system.loop import running_backend
from aqueue._system.signals import HeldInterrupts
from aqueue.errors import AqueueError, MisplacedCall
from aqueue.item import ItemLike
from aqueue.limits import Limits
from aqueue.reporting import Reporter, ReporterSpec
from aqueue.result import RunResult
from aqueue.retry import Retry
from aqueue.tracebacks import is_user_file

if TYPE_CHECKING:
    import distributed

__all__ = ["async_run_queue", "run_queue"]

_terminal = threading.Lock()
"""Held by the run that redraws the terminal: one per process."""


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
        limit stopped it; `RunResult.stop_reason` then names that. These limits count from 0 in each process.

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
    settings = Settings(**locals())
    check_one_of("backend", backend, get_args(Backend))
    running = running_backend()
    if running is not None:
        raise MisplacedCall(
            f"run_queue was called inside a running {running} event loop; write 'await async_run_queue(…)' there"
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

    With `resume`, reading what is recorded takes that loop's time: about 5 µs per item, before anything runs.

    Cancelling it interrupts the running items, hands the last events on, closes the reporters (which takes at most
    5 s with a reporter that is stuck), and raises the cancellation again.

    Its parameters are those of `run_queue` but for `backend`; signals are handled only in the main thread.

    Returns:
        What the run came to, as `run_queue` does.

    Raises:
        AqueueError: as `run_queue` does, but that it may be called inside a running event loop.
        KeyboardInterrupt, SystemExit, BaseException: as `run_queue` does.
    """
    settings = Settings(**locals())
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


def _unwrap(outcome: Outcome) -> RunResult:
    if outcome.error is not None:
        try:
            raise outcome.error
        finally:
            del outcome  # the error's frames would hold the error
    return outcome.result


async def _run(settings: Settings, every: list[Reporter], held: HeldInterrupts) -> Outcome:
    """Run with the terminal to itself, or without the reporters that need it (a run inside another run)."""
    owner = any(reporter.uses_terminal for reporter in every)
    owns_terminal = owner and _terminal.acquire(blocking=False)
    reporters = [one for one in every if owns_terminal or not one.uses_terminal]
    try:
        if settings.journal is None and settings.resume is None:
            outcome = await Session(settings, reporters, None, None, held).run()
        else:
            outcome = await run_recorded(settings, reporters, held)
    finally:
        if owns_terminal:
            _terminal.release()
    if isinstance(outcome.error, anyio.get_cancelled_exc_class()):
        return Outcome(_unwrap(outcome), None)  # raised here, where the loop sees it
    return outcome
