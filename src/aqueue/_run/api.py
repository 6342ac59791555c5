"""`run_queue` and `async_run_queue`: check the arguments, run, and raise the error of the run."""

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
from aqueue._run.settings import SPILL_AFTER, Backend, Lifespan, Settings
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
"""Held by the run that redraws the terminal; there is at most one per process."""


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
    spill_after: int | None = SPILL_AFTER,
    retry_failed: bool = True,
    only: Callable[[str], object] | None = None,
    cluster: "str | distributed.Client | None" = None,
    allow_insecure: bool = False,
    control: bool = True,
    backend: Backend = "trio",
) -> RunResult:
    """Run `initial_items` and all items that they enqueue, and return the result.

    Parameters:
        initial_items: the first items: an iterable, of which all items are taken before the first one starts.
        num_workers: the number of items that run at a time, from 1 to 1,000,000, by default 5.
        queue_type_name: the order in which items are taken: ``"queue"``, the default, first in first out; ``"stack"``, last in
            first out; ``"priority"``, the lesser item (``<``) first, and equal items first in first out.
        graceful_ctrl_c: whether the first Ctrl-C (SIGINT), SIGTERM or SIGHUP waits for the running items, by default True;
            with False it cancels them. The second cancels them in any case, the third ends the process at once.
        reporter: what shows or records the run: ``"auto"``, the default, ``"rich"``, ``"plain"``, ``"jsonl"``,
            ``"jsonl:PATH"``, ``"web"``, ``"none"``, the name of a plugin, a `Reporter`, or a sequence of these.
        on_error: ``"stop"``, the default, stops the run gracefully when an item has failed for good, ``"continue"`` runs
            everything else.
        lifespan: a function that returns an async context manager, entered before the first item and left after the
            last; what it yields is `aqueue.shared()`. It isn't called if there are no items. None, the default, for none.
        journal: the file in which to record a new run, so that it can be resumed. It must not exist yet, or be empty.
            None, the default, for no journal.
        resume: the journal of a run to continue. If there is no such file, a new run is recorded there. Items that are
            recorded as completed are not run again; if the whole run is completed, its recorded result is returned at
            once. None, the default, for a new run. Give `journal` or `resume`, not both.
        retry: when a failed attempt is followed by another, for classes without a `retry` of their own; None, the
            default, for never.
        timeout_s: the longest time for one attempt, seconds, more than 0, up to a year, for classes without a
            `timeout_s` of their own; None, the default, for no limit.
        limits: how many items of one `group` run at once, and how many start per second: a mapping from the group's name to a
            `Limit`, in which ``"*"`` stands for the groups not named, or a function from the name to a `Limit` or None.
            Items without a group are not limited. None, the default, limits none.
        stop_after_s: the time after which the run stops gracefully, counted from when the first items can start; seconds,
            from 0 to a year. None, the default, for no limit.
        max_items: the number of items after which the run stops gracefully if more wait, at least 1; hooks and further
            attempts don't count. None, the default, for no limit.
        max_failures: the number of items failed for good at which the run stops gracefully, at least 1; it needs
            ``on_error="continue"``. None, the default, for no limit.
        grace_s: how long a graceful stop waits for the running items before it cancels them; seconds, from 0 to a year.
            None, the default, for as long as they take.
        spill_after: with a journal, how many waiting items are kept in memory, at least 1, by default 100,000. The others are read
            back from the journal before their turn, as a resume would restore them: two items that shared an object get equal
            copies. None keeps all in memory, as do a run without a journal and ``queue_type_name="priority"``.
        retry_failed: whether items that are recorded as failed are run again, by default True. False needs `resume`.
        only: which failed items are run again: a function that takes the name of an item class, such as ``"shop:Page"``, and returns
            whether its failed items are run again. It needs `resume`. None, the default, for all.
        cluster: where `process` runs, if not in this process; hooks run here in any case. The address of a Dask
            scheduler, such as ``"tls://scheduler:8786"``, a connected `distributed.Client`, or ``"local:4"`` for four
            worker processes on this machine (1 to 1,000). `num_workers` then is how many items each worker process runs
            at a time, and `lifespan` is entered in each of them, and here. It needs the extra ``dask``. None,
            the default, for this process.
        allow_insecure: whether a scheduler on another machine may be reached without TLS, by default False. Anybody
            who reaches the scheduler can run programs there.
        control: with a journal, whether the run takes commands, such as `aqueue pause`, through a socket next to the journal that only
            the same user can reach, by default True. See `aqueue.steering`.
        backend: the event loop, ``"trio"``, the default, or ``"asyncio"``.

    Returns:
        The result. `RunResult.status` is ``completed``, or ``interrupted`` if `aqueue.stop` or a limit has stopped the run,
        which `RunResult.stop_reason` then names. These limits count from 0 in each process.

    Raises:
        InvalidArgument: an argument, or an attribute of an initial item's class, is not allowed, or `lifespan` didn't
            return an async context manager; nothing was run.
        InvalidItem: an initial item is not an item; nothing was run.
        UnstorableItem: the journal can't store the state of an initial item; nothing was run.
        ReporterError: a reporter could not be loaded or opened; nothing was run.
        JournalError: the journal can't be used, or can't be written any longer; one of its subclasses says why.
        UnknownItemType: items wait in the journal whose class this program doesn't have; nothing was changed.
        PayloadMismatch: an item waits in the journal that today's class can't restore; nothing was changed.
        MisplacedCall: called inside a running event loop, where `async_run_queue` is needed; or in a free-threaded Python
            with the global interpreter lock off.
        ItemFailures: at least one item failed for good. An exception group of their exceptions.
        ItemsNotComparable: ``queue_type_name="priority"``, and two items can't be compared.
        ClusterError: the cluster can't be used, and nothing was run; or it was lost for 10 minutes.
        UnsendableItem: an initial item can't be sent to the cluster; nothing was run.
        KeyboardInterrupt: the run was stopped by Ctrl-C.
        SystemExit: the run was stopped by SIGTERM or SIGHUP (the code is 128 plus the signal's number).
        BaseException: `initial_items` or `lifespan` raised it, or an item raised `SystemExit`, `KeyboardInterrupt` or the
            like.
    """
    settings = Settings(**locals())
    check_one_of("backend", backend, get_args(Backend))
    running = running_backend()
    if running is not None:
        raise MisplacedCall(
            f"run_queue was called inside a running {running} event loop; write 'await async_run_queue(…)' there"
        )
    # No local variable for the outcome: an error that is raised here refers to this frame, which would refer to the error.
    try:
        # Around `checked` as well: it imports reporters, and a KeyboardInterrupt raised inside a callback of Python's import
        # lock is printed and forgotten, so that the Ctrl-C would be lost.
        with HeldInterrupts() as held:
            reporters = settings.checked()
            held.check()
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
    spill_after: int | None = SPILL_AFTER,
    retry_failed: bool = True,
    only: Callable[[str], object] | None = None,
    cluster: "str | distributed.Client | None" = None,
    allow_insecure: bool = False,
    control: bool = True,
) -> RunResult:
    """Do what `run_queue` does in the caller's own event loop, trio or asyncio.

    With `resume`, reading the journal blocks that loop before anything runs: for a second or two, and about 10 µs per
    outstanding item.

    Cancelling it interrupts the running items, delivers the last events, closes the reporters (which takes at most 5 s if a
    reporter is stuck), and raises the cancellation again.

    Its parameters are those of `run_queue` except `backend`; signals are handled only in the main thread.

    Returns:
        The result, as `run_queue` does.

    Raises:
        AqueueError: as `run_queue` does, except that it may be called inside a running event loop.
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

    The messages of aqueue's errors say what happened; the frames in aqueue and in the event loop don't help.
    """
    while traceback is not None and not is_user_file(traceback.tb_frame.f_code.co_filename):
        traceback = traceback.tb_next
    return traceback


def _unwrap(outcome: Outcome) -> RunResult:
    if outcome.error is not None:
        try:
            raise outcome.error
        finally:
            del outcome  # the frames of the error would refer to the error
    return outcome.result


async def _run(settings: Settings, every: list[Reporter], held: HeldInterrupts) -> Outcome:
    """Run, without the reporters that redraw the terminal if another run has it (a run inside another run)."""
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
