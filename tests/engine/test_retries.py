"""Further attempts: when there is one, what waits meanwhile, and that no child is doubled.

The policy is `aqueue.retry`; items wait for their next attempt by `_system.timers`.
"""

import threading
from array import array
from collections import Counter, deque
from collections.abc import Callable
from email.utils import formatdate
from enum import Enum
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aqueue
from aqueue import (
    Backend,
    EnqueueFn,
    Item,
    ItemFailures,
    ItemLike,
    Retry,
    RetryAfter,
    SetDescFn,
    parse_retry_after,
    run_queue,
)
from aqueue._engine.engine import Engine
from aqueue._system.timers import MAX_CALLS_AT_ONCE, Timers
from aqueue.errors import ChildrenNotComparable, InvalidArgument, MisplacedCall
from aqueue.events import ItemEnqueued, ItemFailed, ItemRetryScheduled, ItemStarted
from aqueue.testing import EventRecorder
from tests.engine.clocks import run_by_mock_clock
from tests.engine.invariants import check_events, check_result
from tests.engine.jobs import Do

NOW = Retry(first_s=0.0)


def run(items: list[Any], **arguments: Any) -> tuple[Any, EventRecorder]:
    """Run `items` in real time, check what holds for any run, and return what came of it."""
    recorder = EventRecorder()
    try:
        result = run_queue(items, reporter=recorder, **arguments)
    except ItemFailures as failures:
        result = failures.result
    check_events(recorder.events)
    check_result(result, recorder.events)
    return result, recorder


class Failing(Item):
    """Raises what it is given, one after the other, and then returns."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
        if self.errors:
            raise self.errors.pop(0)
        return 1


class Covered(Failing):
    retry = Retry(attempts=3, first_s=0.0, on=OSError)


class FailingHook(Failing):
    """Does so in its hook."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
        enqueue(Do(_nothing))
        return 0

    async def after_children_processed(self) -> int:
        return await Failing.process(self, None, None)  # type: ignore[arg-type]


class CoveredHook(FailingHook):
    retry = Retry(attempts=3, first_s=0.0, on=OSError)


async def _nothing(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    pass


# ---- which errors -------------------------------------------------------------------------------------------------

OS, VALUE, AFTER = OSError("os"), ValueError("value"), RetryAfter(0)


@pytest.mark.parametrize("kinds", [(Failing, Covered), (FailingHook, CoveredHook)], ids=["process", "hook"])
@pytest.mark.parametrize(
    ("error", "without", "covered"),
    [
        (OS, False, True),
        (TimeoutError(), False, True),
        (VALUE, False, False),
        (AFTER, True, True),
        (ExceptionGroup("all", [OS, TimeoutError()]), False, True),
        (ExceptionGroup("mixed", [OS, VALUE]), False, False),
        (ExceptionGroup("deep", [OS, ExceptionGroup("in", [TimeoutError(), AFTER])]), False, True),
        (ExceptionGroup("deep mixed", [OS, ExceptionGroup("in", [OS, VALUE])]), False, False),
        (ExceptionGroup("asked", [AFTER, RetryAfter(0.001)]), True, True),
        (ExceptionGroup("asked, mixed", [AFTER, OS]), False, True),
        (MisplacedCall("aqueue's"), False, False),
    ],
)
def test_which_errors_are_tried_again(
    backend: Backend, kinds: tuple[type[Failing], type[Failing]], error: Exception, without: bool, covered: bool
) -> None:
    """Those that the policy names, a group if all in it are; RetryAfter always; what aqueue raises never."""
    for kind, again in zip(kinds, (without, covered), strict=True):
        result, recorder = run([kind(error)], backend=backend)
        assert result.status == ("completed" if again else "failed"), kind
        assert result.counts.retried == len(recorder.of(ItemRetryScheduled)) == again


@pytest.mark.parametrize(
    ("error", "is_retried"),
    [
        (OSError(5, "five"), True),
        (OSError(4, "four"), False),
        (ExceptionGroup("all", [OSError(5, ""), OSError(6, "")]), True),
        (ExceptionGroup("mixed", [OSError(5, ""), OSError(4, "")]), False),
        (ExceptionGroup("asked", [OSError(5, ""), RetryAfter(0)]), True),
        (RetryAfter(0), True),
        (MisplacedCall("aqueue's"), False),
    ],
)
def test_a_function_says_which_errors_are_retried(backend: Backend, error: Exception, is_retried: bool) -> None:
    """It is asked about each exception in a group, and never about a RetryAfter, nor about what aqueue raises."""

    def on(error: Exception) -> bool:
        assert isinstance(error, OSError)
        assert error.errno is not None
        return error.errno >= 5

    result, _ = run([Failing(error)], retry=Retry(first_s=0.0, on=on), backend=backend)
    assert (result.status, result.counts.retried) == ("completed", 1) if is_retried else ("failed", 0)


def test_a_function_that_raises_retries_nothing_and_is_named_once(
    backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    """The item fails with its own error, and one warning per class names both."""
    items = [Failing(VALUE), Failing(VALUE)]
    policy = Retry(first_s=0.0, on=lambda error: error.status >= 500)  # type: ignore[attr-defined]
    result, recorder = run(items, retry=policy, on_error="continue", backend=backend)
    assert (result.counts.failed, result.counts.retried) == (2, 0)
    assert {failed.error.message for failed in recorder.of(ItemFailed)} == {"value"}
    said = capsys.readouterr().err
    assert said.count("warning") == 1
    assert "Failing are not retried: Retry(on=…) raised AttributeError(" in said
    assert "for ValueError('value')" in said


@pytest.mark.parametrize("kind", [Covered, CoveredHook, Failing, FailingHook])
def test_no_more_attempts_than_allowed(backend: Backend, kind: type[Failing]) -> None:
    """The last of them fails the item, with its own error: 3 by the policy, 5 without one; RetryAfter counts as any."""
    allowed = 3 if "Covered" in kind.__name__ else 5
    errors = [RetryAfter(0.0) for _ in range(9)]
    result, recorder = run([kind(*errors)], backend=backend)
    assert result.status == "failed"
    assert result.counts.retried == allowed - 1
    [failed] = recorder.of(ItemFailed)
    assert failed.attempt == allowed
    assert failed.error.type == "aqueue.retry:RetryAfter"
    phase = "after_children" if "Hook" in kind.__name__ else "process"
    starts = [(event.phase, event.attempt) for event in recorder.of(ItemStarted) if event.item == 1]
    assert starts[-allowed:] == [(phase, number) for number in range(1, allowed + 1)]


def test_process_and_hook_have_their_attempts_each(backend: Backend) -> None:
    """Attempts that `process` used up are not missing to the hook."""

    class Both(Covered):
        async def after_children_processed(self) -> None:
            self.hooks = getattr(self, "hooks", 0) + 1
            if self.hooks < 3:
                raise OS

    result, _ = run([Both(OS, OS)], backend=backend)
    assert result.status == "completed"
    assert result.counts.retried == 4


def test_a_class_says_otherwise_than_the_run(backend: Backend) -> None:
    """`retry = None` means never, whatever the run's default is; without one the default counts."""

    class Never(Failing):
        retry = None

    result, _ = run([Never(OS)], retry=NOW, backend=backend)
    assert result.status == "failed"
    result, _ = run([Failing(OS)], retry=NOW, backend=backend)
    assert result.status == "completed"


def test_a_result_that_json_cannot_carry_is_not_tried_again(backend: Backend) -> None:
    """Only the program can mend that."""

    class Odd(Item):
        retry = NOW

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> object:
            return object()

    result, _ = run([Odd()], backend=backend)
    assert result.status == "failed"
    assert result.counts.retried == 0


def test_a_stray_cancellation_on_asyncio_is_tried_again() -> None:
    """A library that cancels what it should not is as good a reason as any error."""
    import asyncio

    class Stray(Item):
        retry = NOW

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            if aqueue.current().attempt < 3:
                future = asyncio.get_running_loop().create_future()
                future.cancel()
                await future

    result, recorder = run([Stray()], backend="asyncio")
    assert result.status == "completed"
    assert [event.error.type for event in recorder.of(ItemRetryScheduled)] == ["aqueue.errors:StrayCancellation"] * 2


# ---- children ------------------------------------------------------------------------------------------------------


def test_retry_after_needs_a_policy_once_it_has_children(backend: Backend) -> None:
    """Without one, what the next attempt enqueues could not be known again: that is told, and nothing is doubled."""

    async def late(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        enqueue(Do(_nothing))
        raise RetryAfter(0.0)

    with pytest.raises(ItemFailures) as caught:
        run_queue([Do(late)], reporter="none", backend=backend)
    [error] = caught.value.exceptions
    assert isinstance(error, MisplacedCall)
    assert "add 'retry = aqueue.Retry()' to the class" in str(error)
    assert isinstance(error.__cause__, RetryAfter)


def test_a_hook_that_asks_too_often_fails_with_its_own_error(backend: Backend) -> None:
    """RetryAfter in a hook is never blamed for the children that `process` enqueued."""
    with pytest.raises(ItemFailures) as caught:
        run_queue([FailingHook(*[RetryAfter(0.0) for _ in range(9)])], reporter="none", backend=backend)
    assert isinstance(caught.value.exceptions[0], RetryAfter)


class Client:
    """What no payload can carry."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


CLIENT = Client()
LOCK = threading.Lock()


RAN: list[str] = []
"""The names of the children that ran."""


class Child(Item):
    """A child by its payload."""

    def __init__(self, name: str, extra: Any = None) -> None:
        self.name = name
        self.extra = extra

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        extra = self.extra
        if isinstance(extra, PurePosixPath):
            RAN.append(extra.name)
        elif isinstance(extra, Data):
            RAN.append(extra.content[0]["in"])
        elif isinstance(extra, Member):
            RAN.append(f"member {extra.name}")
        elif isinstance(extra, list) and isinstance(extra[0], Member):
            RAN.append(f"members {extra[0].name}")
        else:
            RAN.append(self.name)


class Other(Child):
    """Another class with the same state."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        RAN.append("other of " + self.name)


class Keyed(Child):
    """A child by its key."""

    @property
    def key(self) -> str:
        return self.name


class Data(msgspec.Struct):
    """A value that no annotation names, so that a journal can't store it."""

    content: Any


class Member(Enum):
    """Likewise."""

    a = 1
    b = 2


class Number(int):
    """An item that is a number itself, and can't be stored either."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        RAN.append(f"number {chr(self % 128)}")


LOOP = Child("loop a")
LOOP.extra = [LOOP]


def make_child(name: str, parent: Item) -> ItemLike:
    """Make the child called `name`, whose first word says of what kind.

    What can't be stored is in each attempt the same object.
    """

    class Local(Child):
        pass

    match name.split(maxsplit=1)[0]:
        case "other":
            return Other(name.removeprefix("other of "))
        case "keyed":
            return Keyed(name)
        case "list":
            return Child(name, [name, {"b", "a"}, {"k": (1, 2)}])
        case "lock":
            return Child(name, LOCK)
        case "client":
            return Child(name, CLIENT)
        case "parent":
            return Child(name, parent)
        case "local":
            return Local(name)
        case "url":
            return Child(name.split(maxsplit=1)[0], PurePosixPath("/" + name))
        case "data":
            return Child(name.split(maxsplit=1)[0], Data([{"in": name}]))
        case "member":
            return Child(name.split(maxsplit=1)[0], Member[name[-1]])
        case "members":
            return Child(name.split(maxsplit=1)[0], [Member[name[-1]]])
        case "loop":
            return LOOP
    return Child(name)


STORABLE = ["plain a", "plain b", "other of plain a", "keyed a", "keyed b", "list a", "parent a"]
ANY = [
    *STORABLE,
    "url a",
    "url b",
    "data a",
    "data b",
    "member a",
    "member b",
    "members a",
    "members b",
    "lock a",
    "lock b",
    "client a",
    "local a",
    "loop a",
]


def run_parent(attempts: list[list[str]], **arguments: Any) -> None:
    """Run a parent that enqueues other children in each attempt: each is announced, and runs, once."""
    RAN.clear()

    class Parent(Item):
        retry = Retry(attempts=len(attempts), first_s=0.0)

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            number = aqueue.current().attempt
            for name in attempts[number - 1]:
                enqueue(make_child(name, self))
                await anyio.sleep(0)
            if number < len(attempts):
                raise OSError(number)

    result, recorder = run([Parent()], **arguments)
    assert result.status == "completed"
    most: Counter[str] = Counter()
    for names in attempts:
        most |= Counter(names)
    expected = Counter({name: 1 if name.startswith("keyed") else number for name, number in most.items()})
    assert Counter(RAN) == expected
    announced = recorder.of(ItemEnqueued)[1:]
    assert len(announced) == expected.total()
    if "journal" in arguments:
        places = [(event.type, event.key, bytes(event.payload), event.occurrence) for event in announced]
        assert len(set(places)) == len(places), "two children have one identity"


@given(st.lists(st.lists(st.sampled_from(ANY), max_size=8), min_size=2, max_size=4), st.integers(1, 3))
def test_no_child_is_announced_twice(attempts: list[list[str]], num_workers: int) -> None:
    """Whatever a further attempt enqueues (fewer, more, in another order, several equal ones), each child runs once."""
    run_parent(attempts, num_workers=num_workers)


@settings(max_examples=25)
@given(st.lists(st.lists(st.sampled_from(STORABLE), max_size=8), min_size=2, max_size=4))
def test_no_child_is_announced_twice_with_a_journal(attempts: list[list[str]]) -> None:
    """The same with a journal; and no two children are the same to a resumed run."""
    with TemporaryDirectory() as folder:
        run_parent(attempts, journal=Path(folder) / "run.db")


def nested(depth: int) -> list[Any]:
    """Return a list in a list, and so on."""
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


class Odd:
    """Raises whatever is asked of it."""

    def __eq__(self, other: object) -> bool:
        raise ValueError

    def __hash__(self) -> int:
        raise ValueError

    def __repr__(self) -> str:
        raise ValueError

    def __getattr__(self, name: str) -> Any:
        raise ValueError


class Unhashable(Odd):
    """Says in the usual way that it has no hash."""

    __hash__ = None  # type: ignore[assignment]


class Dumping(Child):
    """Can't say what its state is."""

    def dump(self) -> Any:
        raise ValueError

    @classmethod
    def load(cls, data: Any) -> Any:
        raise ValueError


class Meta(type):
    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise ValueError


@pytest.mark.parametrize(
    "item",
    [
        Child("a", Odd()),
        Child("a", Unhashable()),
        Child("a", {1: Unhashable(), (): LOCK}),
        Child("a", {Member.a, LOCK}),
        Child("a", Meta("Hidden", (), {})()),
        Child("a", nested(100_000)),
        Dumping("a", LOCK),
        Number(10**5_000),
        LOOP,
    ],
    ids=lambda item: type(getattr(item, "extra", item)).__qualname__,
)
def test_a_first_attempt_enqueues_any_child(backend: Backend, item: Any) -> None:
    """However little can be told of a child, it runs, as without a policy."""
    assert run([Do(_enqueuing(item))], retry=NOW, backend=backend)[0].status == "completed"


# ---- children that can't be told apart -------------------------------------------------------------------------------


class Response:
    """Compares by identity, as those of HTTP clients do."""

    def __init__(self, url: str) -> None:
        self.url = url


class ByValue(Response):
    """Compares by value; but nothing says how it is stored."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByValue) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)


class Page(Item):
    """Notes where what it holds is from."""

    def __init__(self, response: Any) -> None:
        self.response = response

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        response = self.response
        RAN.append(response.url if isinstance(response, Response) else "".join(map(str, response)))


class Enqueues(Item):
    """Enqueues in each attempt what it is given for that, lets it run, and fails, but in the last."""

    retry = Retry(attempts=5, first_s=0.0)

    def __init__(self, *attempts: Callable[["Enqueues"], list[Any]]) -> None:
        self.attempts = attempts

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        number = aqueue.current().attempt
        for child in self.attempts[number - 1](self):
            enqueue(child)
            del child
        await anyio.sleep(0.01)
        if number < len(self.attempts):
            raise ConnectionError("no answer")


@pytest.mark.parametrize(
    "make",
    [
        Response,
        ByValue,
        lambda url: deque([url]),
        lambda url: array("b", url.encode()),
        lambda url: iter([url]),
        lambda url: [Response(url)],
    ],
    ids=["identity", "value", "deque", "array", "iterator", "list"],
)
def test_children_that_can_not_be_told_apart_fail_the_next_attempt(
    backend: Backend, make: Callable[[str], Any]
) -> None:
    """Another object may stand for the same child or for another one: neither is guessed, and it is not tried again."""
    RAN.clear()
    parent = Enqueues(lambda _: [Page(make("/a"))], lambda _: [Page(make("/b")), Page(make("/c")), Page(make("/a"))])
    with pytest.raises(ItemFailures) as caught:
        run_queue([parent], reporter="none", backend=backend)
    [error] = caught.value.exceptions
    assert isinstance(error, ChildrenNotComparable)
    assert f"a child of class {__name__}:Page can't be compared with those that an earlier attempt" in str(error)
    assert f"item 1 ({__name__}:Enqueues)" in str(error)
    assert "'response'" in str(error)
    assert caught.value.result.counts.retried == 1
    assert len(RAN) == 1


def test_an_item_that_has_no_attributes_to_tell_is_named_by_its_class(backend: Backend) -> None:
    """An item that is itself a number can't be told apart, either, unless it is the same one."""
    with pytest.raises(ItemFailures) as caught:
        run_queue([Enqueues(lambda _: [Number(97)], lambda _: [Number(97)])], reporter="none", backend=backend)
    [error] = caught.value.exceptions
    assert isinstance(error, ChildrenNotComparable)
    assert f"{__name__}:Number can't be compared" in str(error)


def test_what_is_the_same_object_is_known_again(backend: Backend) -> None:
    """A shared client, and what the parent has kept since, tell children apart, in whatever order they come."""
    RAN.clear()
    a, b, c = Response("/a"), Response("/b"), Response("/c")
    parent = Enqueues(
        lambda _: [Page(a), Child("x", CLIENT)],
        lambda _: [Child("y", CLIENT), Child("x", CLIENT), Page(a), Page(b), Page(c)],
        lambda _: [Page(c), Child("y", CLIENT), Page(b), Child("x", CLIENT), Page(a), Page(Response("/d"))],
    )
    assert run([parent], backend=backend)[0].status == "completed"
    assert sorted(RAN) == ["/a", "/b", "/c", "/d", "x", "y"]


def test_a_bound_method_is_known_again_by_its_parts(backend: Backend) -> None:
    """A callback of the parent is another object each time, though it is the same method of the same object."""
    RAN.clear()

    class Parent(Enqueues):
        def __init__(self) -> None:
            super().__init__(
                lambda _: [Child("one", self.note), Child("two", self.note)],
                lambda _: [Child("two", self.note), Child("one", self.note)],
            )

        def note(self) -> None:
            pass

    assert run([Parent()], backend=backend)[0].status == "completed"
    assert sorted(RAN) == ["one", "two"]


def test_an_ancestor_is_known_again_though_the_run_needs_it_no_more(backend: Backend) -> None:
    """Without a journal nothing keeps an item whose process has ended but its descendants: it is the same object still."""
    RAN.clear()

    class Section(Enqueues):
        def __init__(self, site: Item) -> None:
            super().__init__(
                lambda me: [Child("one", site), Child("two", [me])], lambda me: [Child("two", [me]), Child("one", site)]
            )

    class Site(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            enqueue(Section(self))

    assert run([Site()], backend=backend)[0].status == "completed"
    assert sorted(RAN) == ["one", "two"]


def test_other_children_are_known_again_beside_such_that_can_not_be(backend: Backend) -> None:
    """It is a matter of one class: the others' children are not doubled, nor refused; nor one that comes first now."""
    RAN.clear()
    parent = Enqueues(
        lambda _: [Child("a"), Keyed("b", Response("/b")), Other("c", Response("/c"))],
        lambda _: [Keyed("b", Response("/b")), Child("a"), Page(Response("/d")), Child("e")],
    )
    assert run([parent], backend=backend)[0].status == "completed"
    assert sorted(RAN) == ["/d", "a", "b", "e", "other of c"]


def test_what_children_held_is_freed_and_never_taken_for_another_object() -> None:
    """Only a weak reference is kept; an object at the place of one that is gone is another."""
    codes: list[int] = []

    class Freed(Response):
        def __del__(self) -> None:
            codes.append(id(self))

    def again(parent: Enqueues) -> list[Any]:
        assert len(codes) == 1, "what the child held is still in memory"
        tries: Any = []
        response = Response("/b")
        while id(response) not in codes and len(tries) < 100_000:
            tries.append(response)
            response = Response("/b")
        del tries
        return [Page(response)]

    with pytest.raises(ItemFailures) as caught:
        run_queue([Enqueues(lambda _: [Page(Freed("/a"))], again)], reporter="none")
    assert isinstance(caught.value.exceptions[0], ChildrenNotComparable)


def test_timers_that_are_closed_while_they_give_way_end(backend: Backend) -> None:
    """Many items become due at once, and the run is stopped between two steps of that: it ends."""

    async def main() -> None:
        timers = Timers(anyio.current_time)
        calls: list[int] = []
        for number in range(20 * MAX_CALLS_AT_ONCE):
            timers.after(0.0, partial(calls.append, number))
        with anyio.fail_after(30.0):
            async with anyio.create_task_group() as tasks:
                timers.open(tasks)
                while len(calls) < MAX_CALLS_AT_ONCE:
                    await anyio.lowlevel.checkpoint()
                timers.close()
        # Which task is first after a step is chance, but each has its turn: a step or two more, and no other.
        assert calls == list(range(len(calls)))
        assert MAX_CALLS_AT_ONCE <= len(calls) <= 3 * MAX_CALLS_AT_ONCE

    anyio.run(main, backend=backend)


def _enqueuing(item: Any) -> Any:
    async def enqueuing(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        enqueue(item)

    return enqueuing


def test_three_failures_in_a_row_double_nothing(backend: Backend) -> None:
    """A parent that fails three times after enqueuing a thousand children has a thousand."""
    run_parent([[f"plain {number}" for number in range(1_000)]] * 4, backend=backend)


def test_an_equal_child_of_a_further_attempt_is_the_second(tmp_path: Path) -> None:
    """With a journal, a child that comes to an adopted one is numbered after it, and has a key of its own."""
    keys = []

    class Asking(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            keys.append(aqueue.current().idempotency_key)

    class Parent(Item):
        retry = NOW

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            number = aqueue.current().attempt
            for _ in range(number):
                enqueue(Asking())
            if number < 3:
                raise OSError

    _, recorder = run([Parent()], journal=tmp_path / "run.db")
    assert [event.occurrence for event in recorder.of(ItemEnqueued)[1:]] == [0, 1, 2]
    assert len(set(keys)) == 3


# ---- what is left over ---------------------------------------------------------------------------------------------


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """Gather the engines of the runs of a test."""
    made: list[Engine] = []
    init = Engine.__init__

    def remember(self: Engine, *arguments: Any, **named: Any) -> None:
        init(self, *arguments, **named)
        made.append(self)

    monkeypatch.setattr(Engine, "__init__", remember)
    return made


@pytest.mark.parametrize("kind", [Failing, Covered, FailingHook, CoveredHook])
def test_nothing_is_remembered_of_items_that_ended(
    backend: Backend, engines: list[Engine], kind: type[Failing]
) -> None:
    """After many retries, of classes with a policy and without one, the engine holds nothing about them."""
    items = [kind(*[RetryAfter(0.0)] * (number % 7)) for number in range(70)]
    result, _ = run(items, on_error="continue", backend=backend)
    assert result.counts.retried > 100
    assert result.counts.failed >= 10
    [engine] = engines
    assert not engine.parts.dispatcher.retries._earlier
    assert not engine.parts.dispatcher.retries.retrying
    assert not engine.parts.dispatcher.retries._not_before
    assert not engine.parts.dispatcher.due
    assert not engine.parts.timers._heap


# ---- the clock -----------------------------------------------------------------------------------------------------


def test_waiting_holds_no_worker() -> None:
    """While an item waits an hour for its next attempt, the only worker runs all the others."""
    order = []

    class Page(Item):
        def __init__(self, name: str) -> None:
            self.name = name

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            order.append((self.name, anyio.current_time()))
            if self.name == "first" and aqueue.current().attempt == 1:
                raise RetryAfter(3_600)
            await anyio.sleep(1)

    run_by_mock_clock([Page("first"), Page("second"), Page("third")], num_workers=1)
    assert order == [("first", 0.0), ("second", 0.0), ("third", 1.0), ("first", 3_600.0)]


@pytest.mark.parametrize("kind", [Failing, FailingHook])
def test_the_longest_wait_asked_for_counts(kind: type[Failing]) -> None:
    """Of several RetryAfter in a group the longest, whatever the policy's own waits are."""
    error = ExceptionGroup("both", [RetryAfter(5.0), RetryAfter(500.0)])
    _, recorder = run_by_mock_clock([kind(error)], retry=Retry(first_s=1.0, max_s=2.0))
    [scheduled] = recorder.of(ItemRetryScheduled)
    assert scheduled.due - scheduled.at == pytest.approx(500.0)


# ---- values --------------------------------------------------------------------------------------------------------


@given(
    st.builds(
        Retry,
        first_s=st.floats(0, 31_536_000) | st.integers(0, 100),
        factor=st.floats(1, 1e300) | st.integers(1, 100),
        max_s=st.floats(0, 31_536_000) | st.integers(0, 100),
        jitter=st.floats(0, 1),
    ),
    st.integers(1, 10**9),
    st.floats(0, 1),
)
def test_a_wait_is_within_its_bounds(policy: Retry, failed: int, chance: float) -> None:
    """It is never more than max_s, nor than first_s after the first attempt, and never less than without the jitter."""
    delay_s = policy.delay_s(failed, lambda: chance)
    assert 0 <= delay_s <= policy.max_s
    longest = policy.delay_s(failed, lambda: 0.0)
    assert longest * (1 - policy.jitter) <= delay_s * (1 + 1e-9) + 1e-300
    assert longest <= policy.delay_s(failed + 1, lambda: 0.0)
    if failed == 1:
        assert longest == min(policy.first_s, policy.max_s)
    if policy.first_s == 0:
        assert delay_s == 0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("99999", 3_600.0),
        ("9" * 5_000, 3_600.0),
        ("0" * 30 + "5", 5.0),
        ("-5", 30.0),
        ("1.5", 30.0),
        ("\u0661\u0662", 30.0),
        ("soon", 30.0),
        ("", 30.0),
        (None, 30.0),
        (formatdate(1_000_060, usegmt=True), 60.0),
        (formatdate(1_000_060), 60.0),
        (formatdate(999_000, usegmt=True), 0.0),
        (formatdate(2_000_000, usegmt=True), 3_600.0),
        ("Mon, 12 Jan 1970 13:47:40 -0000", 60.0),
        ("Monday, 12-Jan-70 13:47:40 GMT", 60.0),
        ("Mon Jan 12 13:47:40 1970", 60.0),
        ("Mon, 12 Jan 99999 13:47:40 GMT", 30.0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 3_600.0),
        ("Wed, 21 Oct 99999999999999 07:28:00 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:28:00 +99999999999999", 30.0),
        ("Wed, 21 Oct 2015 99999999999999999999:28:00 GMT", 30.0),
    ],
)
def test_both_forms_of_the_header_are_read(value: str | None, seconds: float) -> None:
    """Seconds and a date; what can't be read gives the default, what is too long the most."""
    assert parse_retry_after(value, now=1_000_000.0) == seconds


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d{1,6} [A-Z][a-z]{2} \d{1,6} \d+:\d+:\d+ ([+-]\d{1,9}|GMT)"))
def test_no_header_raises(value: str) -> None:
    """Whatever a server sends, it is a number from 0 to max_s."""
    assert 0 <= parse_retry_after(value, max_s=100.0) <= 100.0


@pytest.mark.parametrize("value", ["31536001", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT", None, "soon"])
def test_what_a_server_asks_for_is_never_too_long_for_retry_after(value: str | None) -> None:
    """Even where the most that is allowed is, the item is tried again: no header makes `RetryAfter` refuse."""
    year_s = 31_536_000
    assert RetryAfter(parse_retry_after(value, default_s=year_s, max_s=year_s)).seconds == year_s


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attempts": 0}, r"Retry\(attempts=…\) is 0; it must be a whole number, at least 1"),
        ({"attempts": 2.0}, r"attempts=…\) is 2\.0; it must be a whole number"),
        ({"attempts": True}, r"attempts=…\) is True"),
        ({"attempts": None}, r"attempts=…\) is None"),
        ({"first_s": -1}, r"first_s=…\) is -1; it must be a finite number of seconds, from 0 to 31,536,000"),
        ({"first_s": float("nan")}, r"first_s=…\) is nan"),
        ({"first_s": "1"}, r"first_s=…\) is '1'"),
        ({"first_s": 10**400}, r"first_s=…\) is 1000"),
        ({"factor": 0.5}, r"factor=…\) is 0\.5; it must be a finite number, at least 1"),
        ({"first_s": 31_536_001}, r"first_s=…\) is 31536001"),
        ({"max_s": float("inf")}, r"max_s=…\) is inf"),
        ({"max_s": 1e9}, r"max_s=…\) is 1000000000\.0"),
        ({"jitter": 1.5}, r"jitter=…\) is 1\.5; it must be a finite number, from 0 to 1"),
        ({"on": OSError()}, r"Retry\(on=…\) is .*it must be exception classes, or a function"),
        (
            {"on": lambda: True},
            r"Retry\(on=…\) is .*it must be exception classes, or a function that takes the exception",
        ),
        ({"on": (OSError, int)}, r"Retry\(on=…\) has .*int"),
        ({"on": BaseException}, r"Retry\(on=…\) has .*BaseException"),
        ({"on": [OSError]}, r"Retry\(on=…\) is \["),
    ],
)
def test_a_policy_with_a_wrong_value_is_refused(arguments: Any, message: str) -> None:
    """The message names the value and what is allowed."""
    with pytest.raises(InvalidArgument, match=message):
        Retry(**arguments)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e308, 31_536_001, True, "5", None, 10**400])
def test_retry_after_takes_seconds(seconds: Any) -> None:
    """Anything else is refused where it is made."""
    with pytest.raises(
        InvalidArgument,
        match=r"RetryAfter\(seconds=…\) is .*; it must be a finite number of seconds, from 0 to 31,536,000",
    ):
        RetryAfter(seconds)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"retry": 3}, r"^retry is 3; it must be an aqueue\.Retry"),
        ({"retry": True}, r"^retry is True"),
        ({"timeout_s": 0}, r"^timeout_s is 0; it must be a finite number of seconds, more than 0, up to 31,536,000"),
        ({"timeout_s": 10**400}, r"^timeout_s is 1000"),
        ({"timeout_s": 1e9}, r"^timeout_s is 1000000000\.0"),
        ({"timeout_s": "5"}, r"^timeout_s is '5'"),
    ],
)
def test_a_run_or_a_class_with_a_wrong_policy_is_refused(arguments: dict[str, Any], message: str) -> None:
    """Before anything runs; a class is named."""
    with pytest.raises(InvalidArgument, match=message):
        run_queue([Child("a")], reporter="none", **arguments)
    wrong = type("Wrong", (Child,), arguments)
    with pytest.raises(InvalidArgument, match=message.replace("^", r"test_retries:Wrong\.")):
        run_queue([wrong("a")], reporter="none")


# ---- what raises where nobody can be told ---------------------------------------------------------------------------


class Host:
    """Gives the group of an item, or whatever `limits` is asked for, and raises from its second use on."""

    def __init__(self) -> None:
        self.uses = 0

    def use(self) -> None:
        self.uses += 1
        if self.uses > 1:
            raise LookupError("the host is unknown")


class OfHost(Failing):
    """One whose group raises from its second attempt on."""

    retry = Retry(attempts=3, first_s=0.0)

    def __init__(self, *errors: BaseException, host: Host | None) -> None:
        super().__init__(*errors)
        self.host = host

    @property
    def group(self) -> str:
        if self.host is not None:
            self.host.use()
        return "host"


@pytest.mark.parametrize("queue_type_name", ["queue", "stack", "priority"])
@pytest.mark.parametrize("where", ["group", "limits"])
def test_a_group_that_raises_at_a_retry_fails_the_attempt(backend: Backend, where: str, queue_type_name: Any) -> None:
    """What `group` or `limits` raises when an item is tried again counts as its attempt, and harms no other item."""
    host = Host()

    def limits(name: str) -> aqueue.Limit | None:
        if where == "limits":
            host.use()
        return None

    class Other(Failing):
        def __lt__(self, other: object) -> bool:
            return False

    class Ordered(OfHost, Other):
        pass

    bad = Ordered(ValueError("first"), host=host if where == "group" else None)
    result, recorder = run(
        [bad, *(Other() for _ in range(20))],
        limits=limits,
        num_workers=2,
        on_error="continue",
        queue_type_name=queue_type_name,
        backend=backend,
    )
    assert (result.status, result.counts.completed, result.counts.retried) == ("failed", 20, 2)
    [failure] = recorder.of(ItemFailed)
    assert (failure.item, failure.attempt, failure.error.message) == (1, 3, "the host is unknown")
