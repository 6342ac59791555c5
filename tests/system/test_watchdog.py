"""What is told of code that keeps the event loop to itself, and of attempts that go on after their time."""

import bdb
import importlib
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest

import aqueue
from aqueue import Backend, EnqueueFn, Item, ItemFailures, RunInfo, RunResult, SetDescFn, async_run_queue, run_queue
from aqueue._engine import timeouts
from aqueue._stream import event_stream
from aqueue._system import notice, watchdog
from aqueue.events import Event, LoopBlocked
from aqueue.testing import EventRecorder
from aqueue.view import RunView
from tests.engine.jobs import Do, Noop, WithHook
from tests.journal.recorded import events_of

PATIENCE_S = 0.2
LONG_S = 20.0

Blocking = Callable[[], Any]


class Heard:
    """What is said on standard error, and a way to wait for that, which blocks the thread.

    Attributes:
        warnings: the lines.
        any: set when there is one.
    """

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.any = threading.Event()

    def say(self, message: str) -> None:
        """Take note of a line."""
        self.warnings.append(message)
        self.any.set()


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the watchdog warn early."""
    monkeypatch.setattr(watchdog, "PATIENCE_S", PATIENCE_S)
    monkeypatch.setattr(watchdog, "BLOCKED_S", PATIENCE_S / 2)
    monkeypatch.setattr(timeouts, "PATIENCE_S", PATIENCE_S)
    monkeypatch.setattr(watchdog, "INTERVAL_S", 0.05)
    monkeypatch.setattr(watchdog, "LOOK_S", 0.01)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    """Return what is written to standard error; afterwards, no thread of a run is left."""
    stderr = Heard()
    monkeypatch.setattr(notice, "say", stderr.say)
    yield stderr
    assert "aqueue-watchdog" not in [thread.name for thread in threading.enumerate()]


def line_of(function: Callable[..., Any], offset: int = 1) -> str:
    """Return how a warning names a line of `function`, the one after its ``def`` if nothing else is said."""
    code = function.__code__
    return f"{Path(code.co_filename).name}:{code.co_firstlineno + offset}"


def blocking(block: Blocking) -> Item:
    """Return an item whose `process` calls `block`."""

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        block()

    return Do(process)


class OddlyNamed(Item):
    """Calls a function whose file has a name that isn't UTF-8."""

    names: ClassVar[dict[str, Any]] = {}

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.names["block"](4 * PATIENCE_S)


def too_long() -> None:
    """Block for so long that it would be told, were there anything to tell."""
    time.sleep(4 * PATIENCE_S)


def test_what_blocks_is_named_with_its_line(backend: Backend, heard: Heard) -> None:
    """The warning says which method it was, where it was just then, and what to do instead."""

    class Page(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            assert heard.any.wait(LONG_S)

    run_queue([Page()], reporter="none", backend=backend)
    [warning] = heard.warnings
    assert warning.startswith(f"aqueue: warning: {Page.process.__qualname__} blocked the event loop for 0.")
    assert f" s, at {line_of(Page.process)}; nothing else can run meanwhile" in warning
    assert "anyio.to_thread.run_sync" in warning


def test_what_blocked_is_an_event(backend: Backend, heard: Heard) -> None:
    """Each time, and not only the first: which method it was, the line in it, and for how long; short calls are none."""

    def parse() -> None:
        heard.any.clear()
        assert heard.any.wait(LONG_S) or heard.warnings

    class Page(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            if heard.warnings:
                too_long()
            else:
                parse()

    recorder = EventRecorder()
    run_queue([Page(), Page(), Noop()], num_workers=1, reporter=recorder, backend=backend)
    first, second = recorder.of(LoopBlocked)
    assert (first.method, first.where) == (Page.process.__qualname__, f"{line_of(parse, 2)} in {parse.__qualname__}")
    assert (second.method, second.where) == (Page.process.__qualname__, f"{line_of(too_long, 2)} in too_long")
    assert first.duration_s >= PATIENCE_S
    assert 4 * PATIENCE_S >= second.duration_s >= PATIENCE_S / 2
    assert [type(event).__name__ for event in recorder.events][-1] == "RunFinished"


def test_a_file_name_that_can_not_be_encoded_ends_no_run(backend: Backend, heard: Heard, tmp_path: Path) -> None:
    """The event has it in characters that any file can hold."""
    code = compile("import time\ndef block(seconds):\n    time.sleep(seconds)\n", "odd\udcff.py", "exec")
    exec(code, OddlyNamed.names)
    run_queue([OddlyNamed()], reporter="none", journal=tmp_path / "run.db", backend=backend)
    [event] = [event for event in events_of(tmp_path / "run.db") if isinstance(event, LoopBlocked)]
    assert "odd\\udcff.py:3 in block" in event.where


def test_each_function_is_told_once(backend: Backend, heard: Heard) -> None:
    """However often it blocks again; another function is another warning."""

    class Page(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            assert heard.any.wait(LONG_S)
            too_long()

    class Other(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            heard.any.clear()
            assert heard.any.wait(LONG_S)

    run_queue([Page(), Page(), Other()], num_workers=1, reporter="none", backend=backend)
    assert [warning.split()[2] for warning in heard.warnings] == [Page.process.__qualname__, Other.process.__qualname__]


def test_a_function_that_process_calls_is_the_place(backend: Backend, heard: Heard) -> None:
    """The method is named that the engine called, and the innermost line of the user's own code."""

    def parse() -> None:
        assert heard.any.wait(LONG_S)

    run_queue([blocking(parse)], reporter="none", backend=backend)
    [warning] = heard.warnings
    assert f"at {line_of(parse)} in {parse.__qualname__};" in warning
    assert f"{blocking.__qualname__}.<locals>.process blocked" not in warning  # `Do.process` awaits that
    assert f"{Do.process.__qualname__} blocked" in warning


def test_a_nested_task_is_told(backend: Backend, heard: Heard) -> None:
    """A task that an item has started is named by its own function."""

    async def nested() -> None:
        assert heard.any.wait(LONG_S)

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(nested)

    run_queue([Do(process)], reporter="none", backend=backend)
    [warning] = heard.warnings
    assert f"{nested.__qualname__} blocked the event loop" in warning
    assert f"at {line_of(nested)};" in warning


def test_a_hook_is_told(backend: Backend, heard: Heard) -> None:
    """It is the engine that calls it, as it calls `process`; with a limit of time, too."""

    class Page(Noop):
        async def after_children_processed(self) -> None:
            assert heard.any.wait(LONG_S)

    run_queue([Page()], reporter="none", timeout_s=LONG_S, backend=backend)
    [warning] = heard.warnings
    assert f"{Page.after_children_processed.__qualname__} blocked" in warning
    assert line_of(Page.after_children_processed) in warning


@pytest.mark.parametrize("name", ["key", "group"])
def test_a_property_that_the_engine_reads_is_told(backend: Backend, heard: Heard, name: str) -> None:
    """It is read where the item is enqueued: that method is named, and the property as the place."""

    def read(item: Item) -> str:
        assert heard.any.wait(LONG_S)
        return "same"

    page = type("Page", (Noop,), {name: property(read)})

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        enqueue(page())

    run_queue([Do(process)], reporter="none", backend=backend)
    [warning] = heard.warnings
    assert f"{Do.process.__qualname__} blocked" in warning
    assert f"at {line_of(read)} in {read.__qualname__};" in warning


def test_a_comparison_is_told(backend: Backend, heard: Heard) -> None:
    """Where the queue itself compares two items, their method is all there is to name."""
    ready = False

    class Page(Noop):
        def __lt__(self, other: object) -> bool:
            if ready:
                assert heard.any.wait(LONG_S)
            return False

    class First(Noop):
        def __lt__(self, other: object) -> bool:
            return True

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            nonlocal ready
            ready = True

    Page.__lt__.__qualname__ = "Page.__lt__"
    run_queue(
        [First(), Page(), Page(), Page()], queue_type_name="priority", num_workers=1, reporter="none", backend=backend
    )
    [warning] = heard.warnings
    assert f"{line_of(Page.__lt__, 2)};" in warning


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return an installed package, with a function that waits for an event and an item that does so."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "slow_library.py").write_text(
        "class Page:\n"
        "    def __init__(self, event):\n"
        "        self.event = event\n"
        "    async def process(self, enqueue, set_desc):\n"
        "        wait(self.event)\n"
        "def wait(event):\n"
        "    assert event.wait(60)\n"
    )
    monkeypatch.syspath_prepend(folder)
    yield importlib.import_module("slow_library")
    del sys.modules["slow_library"]


def test_in_a_package_the_line_that_called_it_is_told(backend: Backend, heard: Heard, library: Any) -> None:
    """What a user can change is the call, not the package."""

    class Page(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            library.wait(heard.any)

    run_queue([Page()], reporter="none", backend=backend)
    [warning] = heard.warnings
    assert f"{Page.process.__qualname__} blocked" in warning
    assert f"at {line_of(Page.process)};" in warning
    assert "slow_library" not in warning


def test_a_program_that_is_itself_installed_is_told(backend: Backend, heard: Heard, library: Any) -> None:
    """Items may live in an installed package, as they do in most containers."""
    run_queue([library.Page(heard.any)], reporter="none", backend=backend)
    [warning] = heard.warnings
    assert "Page.process blocked the event loop" in warning
    assert "at slow_library.py:7 in wait;" in warning


def test_a_call_that_keeps_the_interpreter_to_itself_is_told(backend: Backend, heard: Heard) -> None:
    """Nothing can be told before it is over, but then it is: a slow regular expression, for instance."""
    rounds, used_s = 1_000_000, 0.0
    while used_s < 3 * PATIENCE_S:
        began, rounds = time.thread_time(), 2 * rounds
        sum(range(rounds))
        used_s = time.thread_time() - began

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await anyio.sleep(0.1)
        end = time.monotonic() + LONG_S
        while not heard.any.is_set() and time.monotonic() < end:  # the watchdog may come too late to see one of them
            sum(range(rounds))
            await anyio.sleep(0)

    run_queue([Do(process)], reporter="none", backend=backend)
    [warning] = heard.warnings
    assert f"{Do.process.__qualname__} blocked" in warning


def test_other_tasks_of_the_loop_are_told(backend: Backend, heard: Heard) -> None:
    """In a loop of the caller's own, whoever blocks it."""

    async def of_the_caller() -> None:
        await begun[0].wait()
        assert heard.any.wait(LONG_S)

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        begun[0].set()
        await anyio.sleep(0.01)

    async def main() -> None:
        begun.append(anyio.Event())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(of_the_caller)
            await async_run_queue([Do(process)], reporter="none")

    begun: list[anyio.Event] = []  # made in the loop
    anyio.run(main, backend=backend)
    [warning] = heard.warnings
    assert f"{of_the_caller.__qualname__} blocked" in warning


# ---- what is not told -------------------------------------------------------------------------------------------


def test_a_loop_with_nothing_to_do_is_not_told(backend: Backend, heard: Heard) -> None:
    """Items that await leave the loop to others, however long they take."""

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await anyio.sleep(4 * PATIENCE_S)

    run_queue([Do(process)], reporter="none", backend=backend)
    assert heard.warnings == []


def test_many_short_calls_are_not_told(backend: Backend, heard: Heard) -> None:
    """When many items are due at once the loop is late, but none of them is to blame."""

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        time.sleep(PATIENCE_S / 10)

    run_queue([Do(process) for _ in range(40)], num_workers=40, reporter="none", backend=backend)
    assert heard.warnings == []


def test_a_debugger_is_not_told(backend: Backend, heard: Heard) -> None:
    """Who looks at a program that stands still knows that it does."""

    class Debugger(bdb.Bdb):
        def user_line(self, frame: Any) -> None:
            too_long()
            self.set_continue()

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        Debugger().set_trace()
        await anyio.sleep(0)

    traced = sys.gettrace()
    try:
        run_queue([Do(process)], reporter="none", backend=backend)
    finally:
        sys.settrace(traced)
    assert heard.warnings == []


def test_waiting_for_reporters_is_not_told(backend: Backend, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the hard limit `enqueue` blocks on purpose: it is no fault of the item that calls it."""
    monkeypatch.setattr(event_stream, "HARD_LIMIT_EVENTS", 2_000)

    class Slow:
        uses_terminal = False
        was_slow = False

        def open(self, run: RunInfo) -> None:
            pass

        def handle(self, events: Sequence[Event], view: RunView) -> None:
            if len(events) > 100 and not self.was_slow:
                self.was_slow = True
                too_long()

        def close(self, result: RunResult) -> None:
            pass

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for _ in range(8_000):
            enqueue(Noop())

    run_queue([Do(process)], reporter=Slow(), backend=backend)
    assert heard.warnings == []


# ---- attempts that go on after their time -----------------------------------------------------------------------


class Limited(WithHook):
    """Has a limit of time."""

    timeout_s = 0.01


async def nothing(*arguments: Any) -> None:
    """Do nothing."""


def shielding(heard: Heard) -> Callable[..., Awaitable[None]]:
    """Return what awaits in a shield, until that has been told and a while longer."""

    async def shield(*arguments: Any) -> None:
        with anyio.CancelScope(shield=True), anyio.fail_after(LONG_S):
            while not heard.any.is_set():
                await anyio.sleep(0.01)
            await anyio.sleep(4 * PATIENCE_S)

    return shield


@pytest.mark.parametrize("in_hook", [False, True])
def test_an_attempt_that_shields_itself_is_told_once_a_class(backend: Backend, heard: Heard, in_hook: bool) -> None:
    """The warning names the item, its class, its limit, and why it may go on; others of its class are not told."""

    class Other(Limited):
        pass

    shield = shielding(heard)
    does = (nothing, shield) if in_hook else (shield, nothing)
    run_queue([Limited(*does), Limited(*does), Other(*does)], reporter="none", backend=backend)
    first, second = sorted(heard.warnings, key=lambda warning: "Other" in warning)
    assert ":Limited) is still running 0." in first
    assert "s after its timeout_s=0.01: it shields itself from cancellation, ignores it, or waits for" in first
    assert "item 3 (" in second
    assert "Other) is still running" in second


def test_those_who_could_not_be_cancelled_yet_are_not_told(backend: Backend, heard: Heard) -> None:
    """Who blocks the loop is told; not those whose time has passed meanwhile, and not that it shields itself."""

    async def block(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await anyio.sleep(0.005)
        assert heard.any.wait(LONG_S)
        too_long()

    async def wait(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await anyio.sleep(LONG_S)

    class Patient(Limited):
        timeout_s = (
            PATIENCE_S  # on a busy machine, too, not over before one of them blocks, and over long before that ends
        )

    items = [Patient(block, nothing), *(Patient(wait, nothing) for _ in range(20))]
    with pytest.raises(ItemFailures):
        run_queue(items, num_workers=30, on_error="continue", reporter="none", backend=backend)
    [warning] = heard.warnings
    assert "blocked the event loop" in warning


# ---- the thread -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled", "stopped"])
def test_the_thread_ends_with_the_run(backend: Backend, how: str) -> None:
    """However that ends, and whatever the watchdog is waiting for."""

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        assert "aqueue-watchdog" in [thread.name for thread in threading.enumerate()]
        if how == "failed":
            raise ValueError
        if how == "stopped":
            aqueue.stop("enough")
        if how == "cancelled":
            scopes[0].cancel()
            await anyio.sleep(LONG_S)

    async def main() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await async_run_queue([Do(process)], reporter="none")

    scopes: list[anyio.CancelScope] = []
    try:
        anyio.run(main, backend=backend)
    except ItemFailures:
        assert how == "failed"
    assert "aqueue-watchdog" not in [thread.name for thread in threading.enumerate()]


def test_frames_are_let_go_of_in_the_loops_thread(backend: Backend, heard: Heard) -> None:
    """What was local in a call that blocked is freed where it belongs, not in the watchdog's thread."""
    freed: list[int] = []

    class Owned:
        def __del__(self) -> None:
            freed.append(threading.get_ident())

    class Page(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            owned = Owned()
            time.sleep(PATIENCE_S / 2)
            assert owned is not None

    run_queue([Page() for _ in range(6)], num_workers=6, reporter="none", backend=backend)
    assert freed == [threading.get_ident()] * 6
