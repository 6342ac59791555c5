"""What becomes of a run when an item raises, whatever it raises.

What follows from one is for `_engine.outcomes`; which count as failures is `_engine.exceptions`; errors as data are `_stream.error_info`.
"""

import asyncio
import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
import msgspec
import pytest
from anyio.lowlevel import checkpoint

from aqueue import (
    Backend,
    EnqueueFn,
    InvalidItem,
    Item,
    ItemFailures,
    RecordedFailure,
    Retry,
    SetDescFn,
    StrayCancellation,
    run_queue,
)
from aqueue._folds.outcome import FailureTally
from aqueue._stream.error_info import error_info
from aqueue.events import ErrorInfo, ItemCompleted, ItemFailed, ItemInterrupted, ItemStarted, RunFinished, RunStopping
from aqueue.testing import EventRecorder
from aqueue.tracebacks import user_frames
from tests.engine.invariants import check_events, check_result
from tests.engine.jobs import Do, Noop


class Raises(Item):
    """Raises what it is made with."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        raise self.error


class RaisesInHook(Raises):
    """Raises what it is made with, in its hook."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        pass

    async def after_children_processed(self) -> None:
        raise self.error


def fail(backend: Backend, *items: Any, **arguments: Any) -> tuple[ItemFailures, EventRecorder]:
    """Run `items`, of which some must fail; check what holds for any run."""
    recorder = EventRecorder()
    with pytest.raises(ItemFailures) as caught:
        run_queue(items, reporter=recorder, backend=backend, **arguments)
    check_events(recorder.events)
    check_result(caught.value.result, recorder.events)
    return caught.value, recorder


# ---- on_error ----------------------------------------------------------------------------------------------------


def test_the_first_failure_stops_the_run(backend: Backend) -> None:
    """By default nothing more is taken after a failure, the stop is announced, and the rest is outstanding."""
    failures, recorder = fail(backend, Noop(), Raises(ValueError("no")), Noop(), Noop(), num_workers=1)
    assert failures.result.status == "failed"
    assert (failures.result.counts.completed, failures.result.counts.outstanding) == (1, 2)
    assert failures.result.stop_reason == "item 2 (tests.engine.test_failures:Raises) failed"
    [stopping] = recorder.of(RunStopping)
    assert (stopping.reason, stopping.cancelling) == (failures.result.stop_reason, False)


def test_the_first_failure_lets_running_items_end(backend: Backend) -> None:
    """The stop is a graceful one: what runs is not cancelled."""
    failed = False

    async def wait_for_failure(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        while not failed:
            await checkpoint()
        for _ in range(20):
            await checkpoint()

    async def raise_late(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        nonlocal failed
        await checkpoint()
        failed = True
        raise ValueError

    failures, recorder = fail(backend, Do(wait_for_failure), Do(raise_late), Noop(), num_workers=2)
    assert [event.item for event in recorder.of(ItemCompleted)] == [1]
    assert failures.result.counts.outstanding == 1


def test_continue_runs_everything_else(backend: Backend) -> None:
    """With on_error="continue" no stop is announced, all else runs, and the run still raises in the end."""
    failures, recorder = fail(
        backend, Raises(ValueError()), Noop(), Raises(LookupError()), Noop(), on_error="continue", num_workers=1
    )
    assert recorder.of(RunStopping) == []
    assert failures.result.status == "failed"
    assert (failures.result.counts.completed, failures.result.counts.failed) == (2, 2)
    assert [type(error) for error in failures.exceptions] == [ValueError, LookupError]


# ---- ItemFailures ------------------------------------------------------------------------------------------------


def test_item_failures_hold_the_very_exceptions(backend: Backend) -> None:
    """The group has the original exceptions, each with a note that names the item, and the result."""
    error = ValueError("no")
    failures, recorder = fail(backend, Raises(error))
    assert failures.exceptions == (error,)
    assert error.__notes__ == ["aqueue: raised by item 1 (tests.engine.test_failures:Raises) in process"]
    assert failures.message == "1 item failed"
    assert failures.result == recorder.result
    [event] = recorder.of(ItemFailed)
    assert (event.error.type, event.error.message) == ("ValueError", "no")
    assert event.error.traceback.endswith("ValueError: no\n")


def test_tracebacks_begin_with_the_item_s_own_code(backend: Backend) -> None:
    """Neither the exception nor the event shows the engine's frames."""
    failures, recorder = fail(backend, Raises(ValueError("no")))
    traceback = failures.exceptions[0].__traceback__
    assert traceback is not None
    assert traceback.tb_frame.f_code.co_filename == __file__
    assert "/_engine/" not in recorder.of(ItemFailed)[0].error.traceback


def test_failures_are_grouped_by_class_phase_and_error(backend: Backend) -> None:
    """The result counts each kind in full, beyond the failures that it lists, and gives the first of it."""

    async def many(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        enqueue(RaisesInHook(KeyError("hook")))
        for number in range(1_200):
            enqueue(Raises(ValueError(number) if number % 3 else KeyError(number)))

    failures, _ = fail(backend, Do(many), on_error="continue", num_workers=1)
    groups = [(g.type.rpartition(":")[2], g.phase, g.error, g.count) for g in failures.result.failure_groups]
    assert groups == [
        ("Raises", "process", "ValueError", 800),
        ("Raises", "process", "KeyError", 400),
        ("RaisesInHook", "after_children", "KeyError", 1),
    ]
    assert [group.first.error.message for group in failures.result.failure_groups] == ["1", "0", "'hook'"]


def test_groups_of_failures_are_bounded() -> None:
    """A hundred are listed, of the first thousand kinds, and those that are listed are counted to the last."""
    tally = FailureTally()
    for number in range(3_000):
        for _ in range({999: 2, 1_000: 3}.get(number, 1)):
            tally.add(ItemFailed(number, 0.0, number, "m:C", 1, 0.0, ErrorInfo(f"E{number}", "")))
    groups = tally.groups()
    assert len(groups) == 100
    assert [(group.error, group.count) for group in groups[:3]] == [("E999", 2), ("E0", 1), ("E1", 1)]


def test_except_star_and_split(backend: Backend) -> None:
    """Parts of the group are ItemFailures with the same result."""
    failures, _ = fail(backend, Raises(ValueError()), Raises(LookupError()), on_error="continue")
    matching, rest = failures.split(ValueError)
    assert isinstance(matching, ItemFailures)
    assert isinstance(rest, ItemFailures)
    assert matching.result is failures.result
    assert rest.result is failures.result
    seen: list[type] = []
    try:
        raise failures
    except* ValueError as group:
        seen.append(type(group))
    except* LookupError as group:
        seen.append(type(group))
    assert seen == [ItemFailures, ItemFailures]


def test_item_failures_can_be_pickled(backend: Backend) -> None:
    """A run in a worker process can hand its failures back, with their result and notes."""
    failures, _ = fail(backend, Raises(ValueError("no")))
    again = pickle.loads(pickle.dumps(failures))
    assert isinstance(again, ItemFailures)
    assert again.result == failures.result
    assert again.message == failures.message
    assert again.exceptions[0].args == ("no",)
    assert again.exceptions[0].__notes__ == failures.exceptions[0].__notes__


def test_at_most_a_hundred_exceptions_are_kept_alive(backend: Backend) -> None:
    """Further failures are listed as RecordedFailure, up to a thousand, and all are counted."""

    async def many(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for number in range(1_200):
            enqueue(Raises(ValueError(number)))

    failures, recorder = fail(backend, Do(many), on_error="continue")
    kinds = [type(error) for error in failures.exceptions]
    assert kinds == [ValueError] * 100 + [RecordedFailure] * 900
    assert failures.message == "1,200 items failed; the first 1,000 are listed"
    assert failures.result.counts.failed == 1_200
    assert len(failures.result.failures) == 1_000
    recorded = failures.exceptions[100]
    assert isinstance(recorded, RecordedFailure)
    hostile = msgspec.structs.replace(recorded.failure, error=ErrorInfo("ValueError", "\x1b[31mred\u202e"))
    assert str(RecordedFailure(hostile)).endswith(r"ValueError: \x1b[31mred\u202e")
    assert recorded.failure == recorder.of(ItemFailed)[100]
    assert str(recorded) == (
        f"item {recorded.failure.item} (tests.engine.test_failures:Raises): ValueError: {recorded.failure.error.message}"
    )
    assert pickle.loads(pickle.dumps(recorded)).failure == recorded.failure


# ---- odd exceptions ----------------------------------------------------------------------------------------------


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")

    __repr__ = __str__


@dataclass(frozen=True)
class Frozen(Exception):
    code: int


class NoNotes(Exception):
    def add_note(self, note: str) -> None:
        raise RuntimeError("no notes")


@pytest.mark.parametrize(
    "error",
    [
        Unprintable(),
        Frozen(3),
        NoNotes(),
        ValueError("x" * 1_000_000),
        ValueError("\ud800\x1b[2J\n" * 10),
        ExceptionGroup("both", [ValueError(1), LookupError(2)]),
        StopAsyncIteration(),
        RecursionError(),
        MemoryError(),
        TimeoutError(),
        ItemFailures,
    ],
    ids=lambda error: getattr(error, "__name__", type(error).__name__),
)
def test_any_exception_fails_the_item_alone(backend: Backend, error: Any) -> None:
    """Whatever the exception is like, the item fails with it, its event can be encoded, and the others run."""
    from aqueue.events import decode, encode

    if error is ItemFailures:
        error = fail(backend, Raises(ValueError("inner")))[0]
    failures, recorder = fail(backend, Noop(), Raises(error), Noop(), on_error="continue")
    assert failures.exceptions == (error,)
    assert failures.result.counts.completed == 2
    [event] = recorder.of(ItemFailed)
    assert decode(encode(event)) == event
    assert len(event.error.message) <= 10_000
    assert len(event.error.traceback) <= 20_000
    if not isinstance(error, NoNotes):
        assert "aqueue: raised by item 2 " in error.__notes__[-1]


LONG = "a long line\n" * 10_000


def raise_inner() -> None:
    """Raise an error that has much to say."""
    raise LookupError(f"inner {LONG}")


def raise_outer(how: str) -> None:
    """Raise an error that has much to say, and others that belong to it."""
    match how:
        case "cause":
            try:
                raise_inner()
            except LookupError as error:
                raise ValueError(f"outer {LONG}") from error
        case "context":
            try:
                raise_inner()
            except LookupError:
                raise ValueError(f"outer {LONG}")  # noqa: B904  # it is what is tested
        case "group":
            try:
                raise_inner()
            except LookupError as error:
                raise ExceptionGroup(f"outer {LONG}", [error, ExceptionGroup(f"middle {LONG}", [error])])  # noqa: B904  # the same
        case "many members":
            try:
                raise_inner()
            except LookupError as error:
                raise ExceptionGroup("outer", [error, *(ValueError(LONG) for _ in range(40))])  # noqa: B904  # the same
        case "notes":
            try:
                raise_inner()
            except LookupError as error:
                error.add_note(f"outer {LONG}")
                error.add_note(LONG)
                raise
        case "syntax":
            try:
                raise_inner()
            except LookupError:
                compile(f"outer = ({LONG!r} {LONG!r}", "", "exec")


@pytest.mark.parametrize("how", ["cause", "context", "group", "many members", "notes", "syntax"])
def test_a_long_message_leaves_the_frames_in_the_traceback(how: str) -> None:
    """However much an exception, its notes, its cause and its members say, it is seen where each was raised."""
    with pytest.raises((LookupError, ValueError, ExceptionGroup, SyntaxError)) as caught:
        raise_outer(how)
    traceback = error_info(caught.value).traceback
    assert traceback.startswith(("Traceback (most recent call last):", "  + Exception Group Traceback"))
    assert ", in raise_outer\n" in traceback
    assert ", in raise_inner\n" in traceback
    assert "LookupError: inner a long line\n" in traceback
    assert user_frames(traceback)
    assert len(traceback) <= 20_000


def test_too_many_frames_leave_the_end_of_the_traceback() -> None:
    """Where the frames alone are more than is kept, the innermost stay, and the error."""

    def even(number: int) -> None:
        odd(number - 1)

    def odd(number: int) -> None:
        if number < 0:
            raise_inner()
        even(number - 1)

    with pytest.raises(LookupError) as caught:
        even(400)
    traceback = error_info(caught.value).traceback
    assert len(traceback) == 20_000
    assert "LookupError: inner a long line\n" in traceback
    assert [frame.function for frame in user_frames(traceback)][-2:] == ["odd", "raise_inner"]


def test_of_a_long_message_the_beginning_and_the_end_are_kept() -> None:
    """The last note is aqueue's own, or says what to do."""
    error = ValueError(f"begin {LONG}")
    error.add_note("the end")
    traceback = error_info(error).traceback
    assert traceback.startswith("ValueError: begin a long line\n")
    assert traceback.endswith("\nthe end\n")
    assert 10_000 < len(traceback) <= 20_000


def test_one_exception_object_raised_by_several_items(backend: Backend) -> None:
    """It is listed once, with the note of the first; the others are listed as they were recorded."""
    error = ValueError("shared")
    failures, recorder = fail(backend, *(Raises(error) for _ in range(3)), on_error="continue", num_workers=1)
    first, *others = failures.exceptions
    assert first is error
    assert [one.failure for one in others if isinstance(one, RecordedFailure)] == recorder.of(ItemFailed)[1:]
    assert [note.partition(" (")[0] for note in error.__notes__] == ["aqueue: raised by item 1"]
    assert not any("raised by item" in failure.error.traceback for failure in recorder.of(ItemFailed))


@pytest.mark.parametrize("how", ["itself", "cause", "context", "group", "retried"])
def test_an_exception_that_is_raised_again_does_not_grow(how: str, backend: Backend) -> None:
    """Its traceback has the frames of one time, however often items raise it, and so each failure costs the same."""
    error = ConnectionError("the client is closed")

    class Reads(Item):
        retry = Retry(attempts=3, first_s=0.0) if how == "retried" else None

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            try:
                raise error
            except ConnectionError:
                if how == "cause":
                    raise ValueError from error
                if how == "context":
                    raise ValueError  # noqa: B904  # what it is about
                if how == "group":
                    raise ExceptionGroup("all", [error]) from None
                raise

    _, recorder = fail(backend, *(Reads() for _ in range(150)), on_error="continue", num_workers=1)
    last = recorder.of(ItemFailed)[-1].error.traceback
    assert last.count("raise error") == 1, last
    frames = 0
    traceback = error.__traceback__
    while traceback is not None:
        frames += 1
        traceback = traceback.tb_next
    assert frames <= 2


def test_exceptions_keep_their_frames_for_others_who_have_them(backend: Backend) -> None:
    """One that an item keeps, and one that is being handled where the run is called, have the frames that they had."""
    kept: list[Exception] = []

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        try:
            raise LookupError("kept")
        except LookupError as error:
            kept.append(error)
            raise ValueError("other") from error

    class Tries(Do):
        retry = Retry(attempts=2, first_s=0.0)

    frames = traceback.StackSummary()
    try:
        raise_inner()
    except LookupError as outer:
        fail(backend, *(Tries(process) for _ in range(110)), on_error="continue")
        frames = traceback.extract_tb(outer.__traceback__)
    assert frames[-1].name == "raise_inner"
    assert len(kept) == 220
    assert all(error.__traceback__ is not None for error in kept)


def test_stop_iteration_is_an_exception_like_others(backend: Backend) -> None:
    """StopIteration out of a coroutine becomes a RuntimeError, as Python has it, and fails the item."""
    failures, _ = fail(backend, Raises(StopIteration(1)), Noop(), on_error="continue")
    assert isinstance(failures.exceptions[0], RuntimeError)
    assert failures.result.counts.completed == 1


def test_an_uncaught_error_of_enqueue_fails_the_item(backend: Backend) -> None:
    """An object that is no item fails the one that enqueued it, whose other children run."""

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        enqueue(Noop())
        enqueue("not an item")  # type: ignore[arg-type]

    failures, _ = fail(backend, Do(process), on_error="continue")
    assert isinstance(failures.exceptions[0], InvalidItem)
    assert (failures.result.counts.enqueued, failures.result.counts.completed) == (2, 1)


def test_a_process_with_a_wrong_signature_is_refused(backend: Backend) -> None:
    """What can't be called with (enqueue, set_desc) is no item: it is refused, by a TypeError, where it is enqueued."""

    class Wrong:
        async def process(self) -> None:
            pass

    async def process(enqueue: Any, set_desc: Any) -> None:
        enqueue(Wrong())

    failures, _ = fail(backend, Do(process))
    assert isinstance(failures.exceptions[0], InvalidItem)
    assert isinstance(failures.exceptions[0], TypeError)


# ---- what ends the run -------------------------------------------------------------------------------------------


class Cleanup(BaseException):
    """One that derives from BaseException, as some libraries' do."""


@pytest.mark.parametrize("error", [SystemExit(7), KeyboardInterrupt(), Cleanup(), GeneratorExit()], ids=repr)
@pytest.mark.parametrize("in_hook", [False, True])
def test_what_is_no_exception_interrupts_everything_and_comes_out_bare(
    backend: Backend, error: BaseException, in_hook: bool
) -> None:
    """SystemExit and the like from an item cancel what runs, are flushed to reporters, and come out themselves."""
    recorder = EventRecorder()
    started = 0

    async def wait(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        nonlocal started
        started += 1
        await anyio.sleep_forever()

    class Exits(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            while started < 2:
                await checkpoint()
            if not in_hook:
                raise error

        async def after_children_processed(self) -> None:
            raise error

    items = [Do(wait), Do(wait), Exits(), Noop(), Noop(), Noop()]
    with pytest.raises(type(error)) as caught:
        run_queue(items, num_workers=3, on_error="continue", reporter=recorder, backend=backend)
    assert caught.value is error
    assert sorted(event.item for event in recorder.of(ItemInterrupted)) == [1, 2, 3]
    [stopping] = recorder.of(RunStopping)
    assert stopping.cancelling
    assert recorder.of(RunFinished)[0].status == "interrupted"
    assert recorder.calls[-1] == "close"
    check_events(recorder.events)


def test_a_group_with_system_exit_in_it_ends_the_run(backend: Backend) -> None:
    """A task group inside an item may wrap a SystemExit: the group comes out as it was raised."""
    error = BaseExceptionGroup("group", [ValueError(), SystemExit(3)])
    with pytest.raises(BaseExceptionGroup) as caught:
        run_queue([Raises(error), Noop()], reporter="none", backend=backend)
    assert caught.value is error


def test_a_failure_before_a_system_exit_does_not_hide_it(backend: Backend) -> None:
    """SystemExit comes out, although items had failed before it."""
    with pytest.raises(SystemExit):
        run_queue(
            [Raises(ValueError()), Raises(SystemExit(1))],
            num_workers=1,
            on_error="continue",
            reporter="none",
            backend=backend,
        )


# ---- cancellations that nobody asked for -------------------------------------------------------------------------


async def _await_a_cancelled_task(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    task = asyncio.ensure_future(asyncio.sleep(0))
    task.cancel()
    await task


async def _raise_cancelled(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    raise asyncio.CancelledError("stray")


async def _raise_cancelled_in_a_group(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    raise BaseExceptionGroup("group", [asyncio.CancelledError(), ValueError()])


async def _cancel_own_task(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    "process", [_await_a_cancelled_task, _raise_cancelled, _raise_cancelled_in_a_group, _cancel_own_task]
)
def test_a_stray_cancellation_fails_the_item_alone(process: Callable[..., Any]) -> None:
    """On asyncio, a CancelledError that nobody asked for fails the item with a StrayCancellation; the rest runs."""

    async def sleep(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    failures, recorder = fail(
        "asyncio", Do(process), *(Do(sleep) for _ in range(9)), Do(process), num_workers=2, on_error="continue"
    )
    assert [type(error) for error in failures.exceptions] == [StrayCancellation, StrayCancellation]
    assert "was cancelled, but not by aqueue" in str(failures.exceptions[0])
    assert isinstance(failures.exceptions[0].__cause__, asyncio.CancelledError | BaseExceptionGroup)
    assert failures.result.counts.completed == 9
    assert recorder.of(ItemInterrupted) == []


def test_a_stray_cancellation_stops_the_run_by_default() -> None:
    """It is a failure like any other: with on_error="stop" the run is stopped, and idle workers end."""
    failures, _ = fail("asyncio", Do(_cancel_own_task), Noop(), num_workers=1)
    assert isinstance(failures.exceptions[0], StrayCancellation)
    assert failures.result.counts.outstanding == 1


def test_a_cancel_scope_inside_an_item_is_its_own_business(backend: Backend) -> None:
    """Timeouts inside an item neither interrupt nor fail it."""

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep_forever()
        with anyio.move_on_after(0):
            await anyio.sleep_forever()
        return "went on"

    assert run_queue([Do(process)], reporter="none", backend=backend).root_results == ["went on"]


# ---- cancellations that were asked for ---------------------------------------------------------------------------


def _exit_once(ready: Callable[[], bool]) -> Do:
    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        while not ready():
            await checkpoint()
        raise SystemExit

    return Do(process)


def test_an_item_that_returns_after_its_cancellation_is_completed(backend: Backend) -> None:
    """Swallowing the cancellation and returning counts: what was done was done."""
    started = False

    async def swallow(enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        nonlocal started
        started = True
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            set_desc("cleaned up")
        return "done"

    recorder = EventRecorder()
    with pytest.raises(SystemExit):
        run_queue([Do(swallow), _exit_once(lambda: started)], num_workers=2, reporter=recorder, backend=backend)
    assert [event.item for event in recorder.of(ItemCompleted)] == [1]
    assert [event.item for event in recorder.of(ItemInterrupted)] == [2]
    check_events(recorder.events)


def test_an_item_that_raises_after_its_cancellation_is_interrupted(backend: Backend) -> None:
    """An error on the way out of a cancelled item is no failure of it."""
    started = False

    async def stumble(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        nonlocal started
        started = True
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("while cleaning up")

    recorder = EventRecorder()
    with pytest.raises(SystemExit):
        run_queue([Do(stumble), _exit_once(lambda: started)], num_workers=2, reporter=recorder, backend=backend)
    assert sorted(event.item for event in recorder.of(ItemInterrupted)) == [1, 2]
    assert recorder.of(ItemFailed) == []
    check_events(recorder.events)


def test_nothing_is_taken_after_a_cancellation(backend: Backend) -> None:
    """Once an attempt was interrupted, items that wait are left alone."""
    recorder = EventRecorder()
    with pytest.raises(SystemExit):
        run_queue([Raises(SystemExit()), *(Noop() for _ in range(20))], reporter=recorder, backend=backend)
    assert len(recorder.of(ItemStarted)) <= 5
    check_events(recorder.events)
