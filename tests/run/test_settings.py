"""What run_queue refuses, and what it takes as initial items.

The checks are those of `_run.settings` and of `aqueue._arguments`, which all public functions use.
"""

import functools
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from inspect import signature
from typing import Any

import anyio
import anyio.to_thread
import pytest

import aqueue
from aqueue import (
    Backend,
    InvalidArgument,
    InvalidItem,
    Item,
    MisplacedCall,
    async_run_queue,
    iter_results,
    parse_retry_after,
    run_queue,
)
from aqueue._run.settings import Settings
from aqueue.testing import EventRecorder
from tests.engine.jobs import Do, Noop


class NoPath:
    """Says that it is a path, and stands for none."""

    def __fspath__(self) -> Any:
        return 5


WRONG = [
    ("num_workers", 0, "a whole number, from 1 to 1,000,000"),
    ("num_workers", -1, "a whole number, from 1 to 1,000,000"),
    ("num_workers", True, "a whole number, from 1 to 1,000,000"),
    ("num_workers", 2.5, "a whole number, from 1 to 1,000,000"),
    ("num_workers", "5", "a whole number, from 1 to 1,000,000"),
    ("num_workers", None, "a whole number, from 1 to 1,000,000"),
    ("num_workers", 1_000_001, "from 1 to 1,000,000"),
    ("queue_type_name", "heap", "'queue', 'stack', 'priority'"),
    ("queue_type_name", [], "'queue', 'stack', 'priority'"),
    ("queue_type_name", None, "'queue', 'stack', 'priority'"),
    ("on_error", "ignore", "'stop', 'continue'"),
    ("on_error", True, "'stop', 'continue'"),
    ("graceful_ctrl_c", "yes", "True or False"),
    ("reporter", "ritch", "'rich'"),
    ("reporter", 7, "open, handle, close"),
    ("reporter", EventRecorder, "pass an instance"),
    ("reporter", b"plain", "is b'plain', which isn't a reporter: it is bytes; pass a str"),
    ("reporter", ["plain", bytearray(b"plain")], "it is bytes"),
    ("reporter", {"plain"}, "pass several reporters as one list"),
    ("reporter", [["plain"]], "pass several reporters as one list"),
    ("reporter", "none:x", "'none' takes no argument; write 'none'"),
    ("reporter", "auto:", "'auto' takes no argument; write 'auto'"),
    ("reporter", "plain:x", "'plain' takes no argument; write 'plain'"),
    ("reporter", "jsonl:", "nothing after the colon"),
    ("lifespan", 7, "a function without arguments that returns an async context manager"),
    ("lifespan", lambda path: path, "a function without arguments"),
    ("limits", lambda: None, "a function that takes the group and returns an aqueue.Limit or None"),
    ("only", lambda: True, "a function, not async, that takes the name of an item class"),
    ("journal", "", "the path of a file, or None"),
    ("journal", b"run.db", "the path of a file, or None"),
    ("resume", NoPath(), "the path of a file, or None"),
    ("initial_items", None, "an iterable of items"),
    ("initial_items", "items", "an iterable of items"),
    ("initial_items", b"items", "an iterable of items"),
    ("initial_items", Noop(), "an iterable of items"),
    ("initial_items", Noop, "an iterable of items"),
]


class Untouched(Item):
    """Fails the test if it is run."""

    async def process(self, enqueue: Any, set_desc: Any) -> None:
        pytest.fail("an item was run")


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
def test_a_wrong_argument_is_refused_by_name(backend: Backend, name: str, value: Any, allowed: str) -> None:
    """Each wrong argument raises an InvalidArgument, a ValueError, that names it and says what is allowed."""
    recorder = EventRecorder()
    arguments: dict[str, Any] = {"initial_items": [Untouched()], "reporter": recorder, "backend": backend, name: value}
    with pytest.raises(InvalidArgument) as caught:
        run_queue(**arguments)
    assert isinstance(caught.value, ValueError)
    assert name in str(caught.value)
    assert allowed in str(caught.value)
    assert recorder.calls == []


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
def test_async_run_queue_refuses_the_same(backend: Backend, name: str, value: Any, allowed: str) -> None:
    """async_run_queue checks its arguments as run_queue does."""

    async def main() -> None:
        await async_run_queue(**{"initial_items": [Untouched()], "reporter": "none", name: value})

    with pytest.raises(InvalidArgument, match=name):
        anyio.run(main, backend=backend)


def test_the_settings_are_the_parameters() -> None:
    """Both functions hand on what they are given by its name: each parameter is a setting, in the same order."""
    names = list(Settings.__struct_fields__)
    assert names == [*signature(run_queue).parameters]
    assert names[:-1] == [*signature(async_run_queue).parameters]


@pytest.mark.parametrize("value", ["curio", "", None, 3])
def test_an_unknown_backend_is_refused(value: Any) -> None:
    """The backend is trio or asyncio."""
    with pytest.raises(InvalidArgument, match=r"backend is .*'trio', 'asyncio'"):
        run_queue([Untouched()], backend=value)


class NoProcess:
    pass


class SyncProcess:
    def process(self, enqueue: Any, set_desc: Any) -> None:
        pass


class SyncHook(Noop):
    def after_children_processed(self) -> None:  # type: ignore[override]
        pass


class BadRule(Noop):
    after_children_rule = "any_done"  # type: ignore[assignment]


class NoParameters:
    async def process(self) -> None:
        pass


class GreedyHook(Noop):
    async def after_children_processed(self, results: Any) -> None:  # type: ignore[override]
        pass


class BadTracking(Noop):
    track_overall = "no"  # type: ignore[assignment]


class BadNames(Noop):
    previous_names = 5  # type: ignore[assignment]


class NumberedKey(Noop):
    key = 5


class NumberedGroup(Noop):
    group = 5


class BrokenRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


WRONG_ITEMS = [
    (Noop, InvalidItem, "is a class, not an item; enqueue an instance"),
    (NoProcess(), InvalidItem, "has no method 'async def process"),
    ("item", InvalidItem, "has no method 'async def process"),
    (None, InvalidItem, "has no method 'async def process"),
    (BrokenRepr(), InvalidItem, "BrokenRepr"),
    (SyncProcess(), InvalidItem, "SyncProcess.process is not async"),
    (SyncHook(), InvalidItem, "SyncHook.after_children_processed is not async"),
    (BadRule(), InvalidArgument, "after_children_rule is 'any_done'; it must be one of 'all_success', 'all_done'"),
    (
        NoParameters(),
        InvalidItem,
        "NoParameters.process can't be called with enqueue and set_desc; write 'async def process",
    ),
    (GreedyHook(), InvalidItem, "GreedyHook.after_children_processed can't be called without arguments; write"),
    (BadTracking(), InvalidArgument, "BadTracking.track_overall is 'no'; it must be True or False"),
    (BadNames(), InvalidArgument, "BadNames.previous_names is 5; it must be a tuple of names"),
    (NumberedKey(), InvalidItem, "NumberedKey.key is 5; it must be a string or None"),
    (NumberedGroup(), InvalidItem, "NumberedGroup.group is 5; it must be a string or None"),
]


@pytest.mark.parametrize(("item", "error", "message"), WRONG_ITEMS)
def test_a_wrong_initial_item_is_refused_before_anything_runs(
    backend: Backend, item: Any, error: type[Exception], message: str
) -> None:
    """One wrong item among the initial ones, and none is run."""
    with pytest.raises(error) as caught:
        run_queue([Untouched(), item], reporter="none", backend=backend)
    assert message in str(caught.value)


@pytest.mark.parametrize(("item", "error", "message"), WRONG_ITEMS)
def test_a_wrong_item_is_refused_by_enqueue(backend: Backend, item: Any, error: type[Exception], message: str) -> None:
    """`enqueue` raises, announces nothing, and the item may go on."""
    caught: list[Exception] = []

    async def process(enqueue: Any, set_desc: Any) -> None:
        try:
            enqueue(item)
        except error as refused:
            caught.append(refused)
        enqueue(Noop())

    result = run_queue([Do(process)], reporter="none", backend=backend)
    assert message in str(caught[0])
    assert (result.status, result.counts.enqueued) == ("completed", 2)


@pytest.mark.parametrize("reporter", [[], ["none"], "none"])
def test_no_reporter_at_all(backend: Backend, reporter: Any) -> None:
    """An empty sequence of reporters is as good as "none"."""
    assert run_queue([Noop()], reporter=reporter, backend=backend).counts.completed == 1


def _generator() -> Iterator[Noop]:
    yield Noop()
    yield Noop()


@pytest.mark.parametrize(
    "items", [[Noop(), Noop()], (Noop(), Noop()), {Noop(), Noop()}, deque([Noop(), Noop()]), _generator, map],
    ids=["list", "tuple", "set", "deque", "generator", "map"],
)  # fmt: skip
def test_any_iterable_of_items(backend: Backend, items: Any) -> None:
    """Initial items come in any iterable, one that can be read only once, too."""
    if items is _generator:
        items = _generator()
    elif items is map:
        items = (Noop() for _ in range(2))
    assert run_queue(items, reporter="none", backend=backend).counts.completed == 2


def test_initial_items_are_consumed_whole_before_the_first_start(backend: Backend) -> None:
    """Nothing runs while the iterable still gives items, and that happens on the caller's thread."""
    happened: list[str] = []

    async def process(enqueue: Any, set_desc: Any) -> None:
        happened.append("run")

    def items() -> Iterator[Item]:
        for _ in range(3):
            happened.append("given")
            yield Do(process)

    run_queue(items(), reporter="none", backend=backend)
    assert happened == ["given"] * 3 + ["run"] * 3


@pytest.mark.parametrize("items", [[], (), set(), iter(())], ids=["list", "tuple", "set", "iterator"])
def test_no_items_at_all(backend: Backend, items: Iterable[Item]) -> None:
    """A run without items returns at once as completed, and its lifespan is not entered."""
    recorder = EventRecorder()

    def lifespan() -> Any:
        pytest.fail("lifespan was called")

    result = run_queue(items, reporter=recorder, lifespan=lifespan, backend=backend)
    assert (result.status, result.counts.enqueued, result.root_results) == ("completed", 0, [])
    assert [event.event for event in recorder.events] == ["run.started", "run.finished"]


def test_an_iterable_that_raises(backend: Backend) -> None:
    """What the iterable raises comes out, nothing has run, and reporters are closed."""
    recorder = EventRecorder()
    error = LookupError("no more")

    def items() -> Iterator[Item]:
        yield Untouched()
        raise error

    with pytest.raises(LookupError) as caught:
        run_queue(items(), reporter=recorder, backend=backend)
    assert caught.value is error
    assert recorder.calls[-1] == "close"
    assert [event.event for event in recorder.events] == ["run.started", "item.enqueued", "run.finished"]


@pytest.mark.parametrize("asked", ["trio", "asyncio"])
def test_run_queue_inside_a_running_loop_names_async_run_queue(backend: Backend, asked: Any) -> None:
    """Inside any event loop, run_queue would block it: it raises and says what to call, whichever it was asked for."""

    async def main() -> None:
        with pytest.raises(MisplacedCall, match=rf"running {backend} event loop.*await async_run_queue"):
            run_queue([Untouched()], reporter="none", backend=asked)

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("asked", ["trio", "asyncio"])
def test_run_queue_in_a_thread_beside_a_running_loop(backend: Backend, asked: Any) -> None:
    """A thread that an event loop started has no loop of its own: run_queue works there."""

    async def main() -> int:
        def run() -> int:
            return run_queue([Noop()], reporter="none", backend=asked).counts.completed

        return await anyio.to_thread.run_sync(run)

    assert anyio.run(main, backend=backend) == 1


async def _coroutine() -> object:
    return object()


async def _undecorated() -> AsyncIterator[object]:
    yield object()


@pytest.mark.parametrize(
    ("lifespan", "returned", "mend"),
    [
        (lambda: 5, "5", "decorate an"),
        (lambda: None, "None", "decorate an"),
        (_coroutine, "<coroutine object", "decorate it"),
        (_undecorated, "<async_generator object", "decorate it"),
        (contextmanager(lambda: iter([1])), "_GeneratorContextManager object", "'async def' with one yield"),
    ],
)
def test_lifespan_that_is_no_context_manager(backend: Backend, lifespan: Any, returned: str, mend: str) -> None:
    """A lifespan that returns something else fails the run before the first item: the error says what, and the remedy."""
    recorder = EventRecorder()
    with pytest.raises(InvalidArgument) as caught:
        run_queue([Untouched()], reporter=recorder, lifespan=lifespan, backend=backend)
    message = str(caught.value)
    assert message.startswith("lifespan returned ")
    assert returned in message
    assert "which isn't an async context manager" in message
    assert mend in message
    assert recorder.result is not None
    assert recorder.result.status == "failed"


def test_lifespan_gives_what_shared_returns(backend: Backend) -> None:
    """`aqueue.shared()` is, in every item and hook, the very object that lifespan yielded."""
    seen: list[int] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[object]:
        yield seen

    async def process(enqueue: Any, set_desc: Any) -> None:
        aqueue.shared().append(1)

    run_queue([Do(process), Do(process)], reporter="none", lifespan=lifespan, backend=backend)
    assert seen == [1, 1]


@pytest.mark.parametrize("name", ["key", "group"])
def test_a_property_that_raises_an_attribute_error_is_no_missing_one(backend: Backend, name: str) -> None:
    """A mistake in `key` or `group` comes out, rather than that the item counts as one without."""

    def mistaken(self: Any) -> str:
        return str(self.missing)

    wrong = type("Wrong", (Noop,), {name: property(mistaken)})
    with pytest.raises(AttributeError, match="missing"):
        run_queue([wrong()], reporter="none", backend=backend)


def test_a_decorated_process_is_known_by_its_own_parameters(backend: Backend) -> None:
    """What a decorator passes to the function that it wraps is its own affair."""

    def connected(process: Any) -> Any:
        @functools.wraps(process)
        async def connecting(self: Any, enqueue: Any, set_desc: Any) -> Any:
            return await process(self, enqueue, set_desc, "connection")

        return connecting

    class Decorated(Item):
        @connected
        async def process(self, enqueue: Any, set_desc: Any, connection: str) -> str:
            return connection

    assert run_queue([Decorated()], reporter="none", backend=backend).root_results == ["connection"]


def test_a_decorated_function_is_known_by_its_own_parameters(backend: Backend) -> None:
    """A lifespan whose decorator passes it something is taken, as is any other function."""

    def with_pool(lifespan: Any) -> Any:
        @functools.wraps(lifespan)
        def make() -> Any:
            return lifespan("pool")

        return make

    @with_pool
    @asynccontextmanager
    async def lifespan(pool: str) -> AsyncIterator[str]:
        yield pool

    seen: list[str] = []

    async def process(enqueue: Any, set_desc: Any) -> None:
        seen.append(aqueue.shared())

    run_queue([Do(process)], reporter="none", lifespan=lifespan, backend=backend)
    assert seen == ["pool"]


@pytest.mark.parametrize("reason", [5, None, b"enough"])
def test_stop_takes_a_string(backend: Backend, reason: Any) -> None:
    """Anything else is refused in the item's own code, and the run goes on."""

    async def process(enqueue: Any, set_desc: Any) -> None:
        with pytest.raises(InvalidArgument, match=r"stop\(reason=…\) is .*; it must be a string"):
            aqueue.stop(reason)

    result = run_queue([Do(process)], reporter="none", backend=backend)
    assert (result.status, result.stop_reason) == ("completed", "")


@pytest.mark.parametrize("path", [5, None, b"run.db", True, [], NoPath()])
def test_iter_results_takes_a_path(path: Any) -> None:
    """Anything else is refused by name."""
    with pytest.raises(InvalidArgument, match=r"^path is .*; it must be the path of a journal"):
        next(iter_results(path))


def test_iter_results_of_a_run_without_a_journal() -> None:
    """The empty path of such a result is told apart from a missing file: the message says how to get a journal."""
    with pytest.raises(InvalidArgument, match=r"path is '', which stands for no journal; .*resume=…"):
        next(run_queue([], reporter="none").iter_results())


NAN, INFINITY = float("nan"), float("inf")
NO_HEADERS: list[Any] = [5, 5.0, b"5", [], True]
NO_DURATIONS: list[Any] = [-1, NAN, INFINITY, "5", None, True]
NO_TIMES: list[Any] = [-1, NAN, INFINITY, "5", True, 10**400]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("value", value) for value in NO_HEADERS],
        *[("default_s", value) for value in NO_DURATIONS],
        *[("max_s", value) for value in NO_DURATIONS],
        *[("now", value) for value in NO_TIMES],
    ],
)
def test_parse_retry_after_refuses_what_is_no_header_or_number(name: str, value: Any) -> None:
    """Whatever it reads, each wrong argument is refused by name: a server's answer must not decide whether it shows."""
    with pytest.raises(InvalidArgument, match=rf"^parse_retry_after\({name}=…\) is .*; it must be "):
        parse_retry_after(**{"value": "5", name: value})


def test_a_python_without_its_interpreter_lock_is_refused(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Free-threaded builds are not tested, so nothing runs in one until the lock is on; the error says how."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with pytest.raises(MisplacedCall, match="free-threaded build; start Python with PYTHON_GIL=1"):
        run_queue([Noop()], reporter="none", backend=backend)
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)
    assert run_queue([Noop()], reporter="none", backend=backend).counts.completed == 1
