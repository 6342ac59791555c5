"""Exceptions on their way from a lane to the coordinator: what arrives says all that was said, whatever it is made of."""

import asyncio
import errno
import os
import pickle
import socket
import sqlite3
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Self

import distributed  # noqa: F401  # first: it hashes all exception classes that there are, and `Unhashable` is one
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aqueue.errors
from aqueue import AqueueError, InvalidArgument, Item, RemoteError, RetryAfter, RunResult
from aqueue._cluster.objects import CoordinatorObjects, LaneObjects
from aqueue.errors import ItemFailures, RecordedFailure
from aqueue.events import Counts, ErrorInfo, ItemFailed
from aqueue.text import visible
from tests.cluster.classes import Box, Failing, Node, Plain
from tests.cluster.other_process import OtherProcess
from tests.strategies import hostile_text


@pytest.fixture(scope="module")
def lane() -> Iterator[OtherProcess]:
    """Return a lane in a process of its own."""
    with OtherProcess() as other:
        yield other


def sent(error: BaseException) -> Any:
    """Return what arrives of `error`, as a lane has it."""
    return CoordinatorObjects().load_error(LaneObjects().dump_error(error))


def raised(make: Callable[[], Any]) -> BaseException:
    """Return what `make` raises, or else what it returns, once that was raised."""
    try:
        value = make()
        if isinstance(value, BaseException):
            raise value
    except BaseException as error:
        return error
    raise AssertionError("it raised nothing")


def text_of(error: BaseException) -> str:
    """Return what Python prints of an exception."""
    return "".join(traceback.format_exception(error))


# ---- the exceptions that there are ------------------------------------------------------------------------------


class Picky(Exception):
    """Can't be made of its `args`, as pickle would do."""

    def __init__(self, code: int, *, where: str) -> None:
        super().__init__(f"{code} at {where}")
        self.code = code
        self.where = where


class Counting(Exception):
    made = 0

    def __init__(self) -> None:
        type(self).made += 1


class Own(OSError):
    """Has a property of the name of what `OSError` keeps."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.ENOENT, "is not there", path)

    @property
    def filename(self) -> str:
        return "mine"


class Slotted(Exception):
    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        self.code = code


@dataclass(frozen=True)
class Frozen(Exception):
    code: int


@dataclass
class Data(Exception):
    code: int
    parts: list[int]


class OwnGroup(ExceptionGroup[Exception]):
    """Takes other arguments than a group does."""

    code: int

    def __new__(cls, errors: list[Exception], code: int) -> Self:
        group = super().__new__(cls, f"group {code}", errors)
        group.code = code
        return group

    def __init__(self, errors: list[Exception], code: int) -> None:
        super().__init__(f"group {code}", errors)


class Reduced(Exception):
    """Its `__reduce__` is of no use."""

    def __reduce__(self) -> Any:
        raise RuntimeError


class Model(pydantic.BaseModel):
    size: int


def wrong_sql() -> None:
    """Raise an error of SQLite's."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("nope")


def import_error() -> None:
    """Raise an `ImportError`."""
    from aqueue import nothing  # type: ignore[attr-defined]  # noqa: F401


MAKERS: list[Callable[[], Any]] = [
    lambda: ValueError("no"),
    ValueError,
    lambda: 1 / 0,
    [].pop,
    lambda: dict[str, int]()["key"],
    lambda: KeyError(("a", 1)),
    lambda: Picky(7, where="there"),
    lambda: Slotted(7),
    lambda: Frozen(7),
    lambda: Data(7, [1]),
    lambda: os.stat("/there/is/none"),
    lambda: OSError(errno.EACCES, "no", "a", None, "b"),
    lambda: OSError("only a text"),
    OSError,
    lambda: ConnectionResetError(errno.ECONNRESET, "reset"),
    lambda: socket.gaierror(-2, "unknown"),
    lambda: BlockingIOError(errno.EAGAIN, "later", 5),
    lambda: TimeoutError("late"),
    b"\xff\xfe".decode,
    "\ud800".encode,
    lambda: compile("a b", "file.py", "exec"),
    import_error,
    lambda: Plain(1).nothing,  # type: ignore[attr-defined]
    lambda: eval("undefined + 1"),
    lambda: StopIteration(5),
    lambda: SystemExit(3),
    KeyboardInterrupt,
    asyncio.CancelledError,
    wrong_sql,
    lambda: Model(size="x"),  # type: ignore[arg-type]
    lambda: Reduced("no"),
]


@pytest.mark.parametrize("make", MAKERS)
def test_an_exception_arrives_as_it_was(make: Callable[[], Any]) -> None:
    """Its class, arguments, message, attributes and the text of its traceback are those of the original."""
    error = raised(make)
    arrived = sent(error)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert text_of(arrived) == text_of(error)
    if not isinstance(error, pydantic.ValidationError):  # its arguments are opaque
        assert arrived.args == error.args
        assert vars(arrived) == vars(error)


def test_what_an_oserror_keeps_arrives() -> None:
    """Its number, its text and both its files, though a subclass hides one of them by a property."""
    arrived = sent(OSError(errno.EACCES, "no", "a", None, "b"))
    assert (type(arrived), arrived.errno, arrived.strerror) == (PermissionError, errno.EACCES, "no")
    assert (arrived.filename, arrived.filename2) == ("a", "b")
    own = Own("file")
    assert str(sent(own)) == str(own)
    assert "'file'" in str(own)
    blocking = BlockingIOError(errno.EAGAIN, "later", 5)
    assert sent(blocking).characters_written == 5


def test_what_a_unicode_error_keeps_arrives() -> None:
    """The codec, the object, the place and the reason."""
    arrived = sent(raised(b"ab\xff".decode))
    found = (arrived.encoding, arrived.object, arrived.start, arrived.end, arrived.reason)
    assert found == ("utf-8", b"ab\xff", 2, 3, "invalid start byte")


def test_no_init_is_called() -> None:
    """What a class does when one of its objects is made isn't done again for the one that arrives."""
    error = Counting()
    before = Counting.made
    assert type(sent(error)) is Counting
    assert Counting.made == before


@pytest.mark.parametrize("name", aqueue.errors.__all__)
def test_errors_of_aqueue_arrive_as_their_own_class(name: str) -> None:
    """Each of them, with its message, though some stand for others: a `RemoteError` that was raised is no stand-in."""
    cls: Any = getattr(aqueue.errors, name)
    if cls in {ItemFailures, RecordedFailure}:
        return
    arrived = sent(raised(lambda: cls("the message")))
    assert type(arrived) is cls
    assert str(arrived) == "the message"
    assert isinstance(arrived, AqueueError)


def test_attributes_of_errors_of_aqueue_arrive() -> None:
    """The wait of a `RetryAfter`, the event of a `RecordedFailure`, the result of `ItemFailures`."""
    retry = sent(RetryAfter(2))
    assert (type(retry), retry.seconds, str(retry)) == (RetryAfter, 2.0, "asked for a retry after 2 s")
    failure = ItemFailed(1, 1.0, 3, "m:C", 0, 0.5, ErrorInfo("builtins:ValueError", "no", ""))
    recorded = sent(RecordedFailure(failure))
    assert (type(recorded), recorded.failure) == (RecordedFailure, failure)
    assert str(recorded) == str(RecordedFailure(failure))
    result = RunResult("run", "failed", Counts(2, 0, 2, 0, 0, 0), {}, 1.0, (failure,))
    failures = sent(ItemFailures("2 items", [ValueError("a"), recorded], result))
    assert (type(failures), failures.message, failures.result) == (ItemFailures, "2 items", result)
    assert [type(one) for one in failures.exceptions] == [ValueError, RecordedFailure]
    assert failures.exceptions[1].failure == failure


values = st.none() | st.integers() | hostile_text | st.binary() | st.lists(st.integers()) | st.just(Box)


@given(args=st.lists(values, max_size=4), attributes=st.dictionaries(hostile_text, values, max_size=4))
def test_arguments_and_attributes_arrive(args: list[Any], attributes: dict[str, Any]) -> None:
    """Whatever they are, in whatever number, of whatever names."""
    error = Picky.__new__(Picky, *args)
    vars(error).update(attributes)
    arrived = sent(error)
    assert (type(arrived), arrived.args, vars(arrived)) == (Picky, tuple(args), attributes)


# ---- those that belong together ---------------------------------------------------------------------------------


@given(st.data())
def test_exceptions_that_refer_to_each_other_do_so_when_they_arrive(data: st.DataObject) -> None:
    """Causes, contexts, attributes and arguments of a few exceptions, in cycles or not, lead to each other as before."""
    errors = [ValueError(number) for number in range(data.draw(st.integers(1, 5)))]
    one = st.none() | st.sampled_from(errors)
    for error in errors:
        error.__cause__, error.__context__ = data.draw(one), data.draw(one)
        error.__suppress_context__ = data.draw(st.booleans())
        vars(error).update(other=data.draw(one), several=data.draw(st.lists(one, max_size=3)))
        error.args = (*error.args, data.draw(one))
    pairs: dict[int, Any] = {}

    def compare(original: Any, arrived: Any) -> None:
        if original is None:
            assert arrived is None
        elif id(original) in pairs:
            assert pairs[id(original)] is arrived
        else:
            pairs[id(original)] = arrived
            assert arrived.args[0] == original.args[0]
            assert arrived.__suppress_context__ == original.__suppress_context__
            compare(original.__cause__, arrived.__cause__)
            compare(original.__context__, arrived.__context__)
            compare(original.other, arrived.other)
            compare(original.args[1], arrived.args[1])
            for left, right in zip(original.several, arrived.several, strict=True):
                compare(left, right)

    compare(errors[0], sent(errors[0]))


def test_groups_arrive_with_their_members() -> None:
    """Nested ones, those with more than `Exception`s in them, and those of a user's class that is made otherwise."""
    inner = ExceptionGroup("inner", [Picky(1, where="a"), OwnGroup([KeyError("k")], 5)])
    error = raised(lambda: BaseExceptionGroup("outer", [KeyboardInterrupt(), inner, inner]))
    arrived = sent(error)
    assert type(arrived) is BaseExceptionGroup
    assert arrived.message == "outer"
    assert arrived.exceptions[1] is arrived.exceptions[2]
    assert type(arrived.exceptions[1]) is ExceptionGroup
    own: Any = arrived.exceptions[1].exceptions[1]
    assert (type(own), own.code, own.message) == (OwnGroup, 5, "group 5")
    assert text_of(arrived) == text_of(error)
    assert arrived.split(KeyError)[0] is not None


def test_a_group_without_its_members_is_stood_for() -> None:
    """Members too many levels down are left out, and the last group that had some is a `RemoteError` with its text."""
    error: Exception = ValueError("deep")
    for _ in range(200):
        error = ExceptionGroup("level", [error])
    arrived = sent(error)
    levels = 0
    while isinstance(arrived, ExceptionGroup):
        arrived, levels = arrived.exceptions[0], levels + 1
    assert levels == 50
    assert type(arrived) is RemoteError
    assert str(arrived) == "ExceptionGroup: level (1 sub-exception)"


def test_long_chains_do_not_recurse() -> None:
    """Of 10,000 exceptions, each the cause of the next, those nearest to the last arrive."""
    errors: list[Exception] = [ValueError(0)]
    for number in range(1, 10_000):
        errors.append(ValueError(number))
        errors[-1].__cause__ = errors[-1].__context__ = errors[-2]
    arrived = sent(errors[-1])
    numbers = []
    while arrived is not None:
        numbers.append(arrived.args[0])
        arrived = arrived.__cause__
    assert numbers == list(range(9_999, 9_948, -1))
    while errors:  # so that nothing recurses when they are freed, either
        errors.pop().__cause__ = None


def test_notes_arrive() -> None:
    """Those of an exception, and of one that is stood for."""
    error = ValueError("no")
    error.add_note("first")
    error.add_note("second\x1b")
    assert sent(error).__notes__ == ["first", "second\x1b"]

    class Local(Exception):
        pass

    local = Local()
    local.add_note("a note")
    arrived = sent(local)
    assert (type(arrived), arrived.__notes__) == (RemoteError, ["a note"])
    arrived.add_note("another")


# ---- tracebacks -------------------------------------------------------------------------------------------------


def nested() -> int:
    """Raise a `ValueError`, in a part of the line."""
    text = "y"
    return 1 + int("x" + text)


def failing() -> BaseException:
    """Return an exception that `Failing` raises, with the traceback of another call."""
    try:
        nested()
    except ValueError as error:
        return Picky(1, where=str(error)).with_traceback(error.__traceback__)
    raise AssertionError


def test_the_traceback_of_another_process_is_told(lane: OtherProcess) -> None:
    """Printed here, it names the files, functions and lines there, and underlines what failed in them."""
    data = lane.run(CoordinatorObjects(), Failing(failing)).error
    assert data is not None
    arrived = CoordinatorObjects().load_error(data)
    local = raised(lambda: Failing(failing).process(None, None).send(None))  # type: ignore[arg-type]
    assert type(arrived) is Picky
    lines, local_lines = text_of(arrived).splitlines(), text_of(local).splitlines()
    at = next(index for index, line in enumerate(lines) if "in process" in line)
    local_at = next(index for index, line in enumerate(local_lines) if "in process" in line)
    assert lines[at:] == local_lines[local_at:]
    assert f'  File "{__file__}", line {failing.__code__.co_firstlineno + 3}, in failing' in lines
    assert f'  File "{__file__}", line {nested.__code__.co_firstlineno + 3}, in nested' in lines
    assert any("^" in line for line in lines)


def test_long_tracebacks_keep_their_ends() -> None:
    """A recursion without an end is told in part, and nothing recurses here for it."""

    def recurse(depth: int) -> None:
        if depth:
            recurse(depth - 1)
        raise ValueError

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        error = raised(lambda: recurse(5_000))
    finally:
        sys.setrecursionlimit(limit)
    arrived = sent(error)
    frames = [frame.f_code.co_name for frame, _ in traceback.walk_tb(arrived.__traceback__)]
    assert len(frames) == 2_000
    assert frames[:3] == ["raised", "<lambda>", "recurse"]
    lines = [line for _, line in traceback.walk_tb(arrived.__traceback__)]
    assert lines[-1] == recurse.__code__.co_firstlineno + 3


def test_code_of_odd_names_is_told() -> None:
    """Files and functions may be called anything; a frame is made whatever it is."""
    code = compile("def f():\n\n  1 / 0\nf()", "odd \x1b\u2028 {} \udc80.py", "exec")
    error = raised(lambda: exec(code.replace(co_name="x\x00y"), {"__name__": 5}))
    found = [(f.f_code.co_filename, f.f_code.co_name, line) for f, line in traceback.walk_tb(sent(error).__traceback__)]
    assert found[-2:] == [("odd \x1b\u2028 {} \udc80.py", "x\x00y", 4), ("odd \x1b\u2028 {} \udc80.py", "f", 3)]


def test_an_exception_that_was_not_raised_has_no_traceback() -> None:
    """And so it is when it arrives."""
    assert sent(ValueError()).__traceback__ is None


# ---- what can't be sent -----------------------------------------------------------------------------------------


def test_attributes_that_can_not_be_pickled_are_left_out() -> None:
    """They cost no more than themselves; an argument is replaced by its text."""
    error = Picky(1, where="here")
    lock = threading.Lock()
    vars(error).update(lock=lock, after=2, holder=Node(lock=lock))
    error.args = ("a", lock, [lock], 3)
    arrived = sent(error)
    assert vars(arrived) == {"code": 1, "where": "here", "after": 2}
    assert arrived.args == ("a", repr(lock), repr([lock]), 3)


def test_attributes_that_are_huge_are_left_out() -> None:
    """What would take a megabyte or more isn't sent with an exception, unless it is an argument."""
    error = ValueError("x" * 2_000_000)
    vars(error).update(page="y" * 2_000_000, pages=["z" * 2_000_000], size=1)
    arrived = sent(error)
    assert vars(arrived) == {"size": 1}
    assert arrived.args == error.args


class Vanishing(Exception):
    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.url = "u"


@given(text=hostile_text)
def test_a_class_that_is_missing_here_is_stood_for(text: str) -> None:
    """The stand-in's text names the class and the message, and can't steer a terminal."""
    error = raised(lambda: Vanishing(text))
    error.__cause__ = KeyError("cause")
    data = LaneObjects().dump_error(error)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(sys.modules[__name__], "Vanishing")
        arrived = CoordinatorObjects().load_error(data)
    assert type(arrived) is RemoteError
    assert str(arrived).startswith(f"{__name__}:Vanishing" + (": " if text else ""))
    assert visible(str(arrived)) == str(arrived)
    assert isinstance(arrived.__cause__, KeyError)
    assert [frame.f_code.co_name for frame, _ in traceback.walk_tb(arrived.__traceback__)] == ["raised"]


def test_huge_messages_are_cut_where_they_are_stood_for() -> None:
    """A stand-in has the message's first 10,000 characters."""

    class Local(Exception):
        pass

    text = str(sent(Local("x" * 5_000_000)))
    assert "test_huge_messages_are_cut_where_they_are_stood_for.<locals>.Local: xxx" in text
    assert 10_000 < len(text) < 10_300
    assert text.endswith("…")


def test_one_that_can_not_be_sent_costs_no_other() -> None:
    """Those that belong to it arrive, each as it can."""

    class Local(Exception):
        pass

    error = ExceptionGroup("group", [Local("a"), ValueError("b")])
    cause = error.__cause__ = Local("c")
    cause.__context__ = KeyError("d")
    arrived = sent(error)
    assert [type(one) for one in arrived.exceptions] == [RemoteError, ValueError]
    arrived_cause: Any = arrived.__cause__
    assert type(arrived_cause) is RemoteError
    assert getattr(arrived_cause.__context__, "args", None) == ("d",)


class Raising(Exception):
    """Whatever is asked of it raises."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __setattr__(self, name: str, value: object) -> None:
        raise RuntimeError(name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]


class Mute(Exception):
    """Has no text."""

    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # noqa: PLE0307


class Masked(Exception):
    """Has properties where others have what Python put there."""

    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise RuntimeError

    @property
    def args(self) -> Any:  # type: ignore[override]
        raise RuntimeError

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError


class Text(str):
    """A string of a class of its own."""

    __slots__ = ()

    def isprintable(self) -> bool:
        raise RuntimeError


class Texting(Exception):
    def __str__(self) -> str:
        return Text("text")


class MaskedGroup(ExceptionGroup[Exception]):
    message: Any = property(lambda self: 1 / 0)
    exceptions: Any = property(lambda self: 1 / 0)


class Meta(type):
    """Says that all its classes are one, and can't be hashed."""

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]


class Unhashable(Exception, metaclass=Meta):
    pass


@pytest.mark.parametrize(
    "make",
    [
        Raising,
        Mute,
        Masked,
        Texting,
        Unhashable,
        lambda: MaskedGroup("m", [ValueError()]),
        lambda: ValueError(Raising()),
        lambda: ValueError(Text("x")),
        lambda: ValueError(Box(a=Raising())),
    ],
)
def test_odd_exceptions_are_of_their_class_and_cost_no_other(make: Callable[[], BaseException]) -> None:
    """Whatever its methods and properties do, an exception arrives, and what it was raised from does too."""
    error = make()
    outer = ValueError("outer")
    BaseException.__dict__["__context__"].__set__(error, KeyError("context"))
    outer.__context__ = error
    try:
        raise outer
    except ValueError:
        arrived = sent(outer)
    assert type(arrived) is ValueError
    assert type(arrived.__context__) is type(error)
    assert BaseException.__dict__["__context__"].__get__(arrived.__context__).args == ("context",)


def test_names_of_attributes_that_are_no_strings_are_left_out() -> None:
    """They can't be reached by a dot, and don't keep the others from being sent."""
    error = ValueError("no")
    vars(error).update({Text("a"): 1, "b": 2})
    vars(error)[5] = threading.Lock()  # type: ignore[index]
    assert vars(sent(error)) == {"a": 1, "b": 2}


def test_an_attribute_that_is_a_class_of_the_coordinator_is_that() -> None:
    """Also one that was sent by value: it comes back as the program's own."""

    class Local(Item):
        pass

    coordinator, lane = CoordinatorObjects(), LaneObjects()
    coordinator.dump_item(Local(), lambda _: None)
    for definitions in coordinator.definitions:
        lane.definitions.define(definitions)
    error = ValueError(Local)
    vars(error)["cls"] = Local
    arrived: Any = coordinator.load_error(lane.dump_error(error))
    assert arrived.args == (Local,)
    assert arrived.cls is Local


def test_a_class_name_that_means_something_else_is_stood_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number, a function or a class of no exceptions is not made into one."""
    data = LaneObjects().dump_error(Vanishing("x"))
    for other in (5, failing, Box, InvalidArgument("x")):
        monkeypatch.setattr(sys.modules[__name__], "Vanishing", other)
        arrived = CoordinatorObjects().load_error(data)
        assert (type(arrived), str(arrived)) == (RemoteError, f"{__name__}:Vanishing: x")


@given(st.binary(max_size=100) | st.sampled_from([pickle.dumps(None), pickle.dumps([]), pickle.dumps([5])]))
def test_what_is_no_exception_is_told(data: bytes) -> None:
    """Bytes that can't be read at all are no reason to raise."""
    if data[:1] in {b"c", b"i", b"\x93", b"R", b"o"}:  # pickles that could run code
        data = b"\x80" + data
    assert type(CoordinatorObjects().load_error(data)) is RemoteError
