"""What items return: what JSON can carry, handed up the tree and freed.

They are encoded by `_codec.results`, wait for a hook in `_engine.tree`, and are part of the run's `aqueue.result`.
"""

import datetime as dt
import enum
import gc
import math
import re
import uuid
import weakref
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest

import aqueue
from aqueue import Backend, EnqueueFn, InvalidResult, Item, ItemFailures, SetDescFn, run_queue
from aqueue._codec.results import encode_result
from aqueue._engine.context import running_attempt
from aqueue.events import ItemChildrenProcessed, ItemCompleted
from aqueue.testing import EventRecorder
from tests.engine.jobs import Do, Noop


class Returns(Item):
    """Returns what it is made with."""

    def __init__(self, value: Any) -> None:
        self.value = value

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> Any:
        return self.value


class Collects(Item):
    """Enqueues its children; its hook returns their results."""

    def __init__(self, *children: Item, own: Any = None) -> None:
        self.children = children
        self.own = own

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> Any:
        for child in self.children:
            enqueue(child)
        return self.own

    async def after_children_processed(self) -> Any:
        return aqueue.child_results()


class ReturnsItsKey(Returns):
    """One whose key is what it returns."""

    @property
    def key(self) -> str:
        return str(self.value)


def test_root_results_have_an_entry_for_each_initial_item(backend: Backend) -> None:
    """Also for one that is dropped since its key is known: those after it keep their places."""
    items = [ReturnsItsKey("a"), ReturnsItsKey("a"), ReturnsItsKey("b")]
    assert run_queue(items, reporter="none", backend=backend).root_results == ["a", None, "b"]


@dataclass
class Point:
    x: int
    when: dt.date


class Size(msgspec.Struct):
    width: int


class Holds(msgspec.Struct):
    things: Any


class Row(msgspec.Struct, array_like=True):
    number: int
    rest: Any


@attrs.define
class Held:
    things: Any


class Colour(enum.Enum):
    RED = "red"


class Odd(enum.Enum):
    """Has values that are no scalars."""

    KEYS = {1: "a", "1": "b"}  # noqa: RUF012  # no attribute, but a member
    BYTES = b"a"


class Level(enum.IntEnum):
    HIGH = 3


Pair = namedtuple("Pair", "a b")  # noqa: PYI024  # that is what people have

ROUND_TRIPS = [
    (0, 0),
    (2**80, 2**80),
    (1.5, 1.5),
    (True, True),
    ("", ""),
    ("é漢👩\u200d👧\x00\n", "é漢👩\u200d👧\x00\n"),
    ([], []),
    ({}, {}),
    ((1, (2,)), [1, [2]]),
    (Pair(1, 2), [1, 2]),
    ({"a": [None, {"b": 1}]}, {"a": [None, {"b": 1}]}),
    ({1: "one", 2: "two"}, {"1": "one", "2": "two"}),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (Point(1, dt.date(2020, 2, 29)), {"x": 1, "when": "2020-02-29"}),
    ([Point(1, dt.date(2020, 2, 29))], [{"x": 1, "when": "2020-02-29"}]),
    (Size(3), {"width": 3}),
    (dt.datetime(2020, 2, 29, 12, tzinfo=dt.UTC), "2020-02-29T12:00:00Z"),
    (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    (Decimal("1.10"), "1.10"),
    (Colour.RED, "red"),
    (Level.HIGH, 3),
    ({1: "a", 2.5: "b", None: "c", False: "d"}, {"1": "a", "2.5": "b", "null": "c", "false": "d"}),
    ({"a": {1: 1}, "b": {"1": 1}}, {"a": {"1": 1}, "b": {"1": 1}}),
    (Holds({1: [Size(2)]}), {"things": {"1": [{"width": 2}]}}),
    (Held({1: [Size(2)]}), {"things": {"1": [{"width": 2}]}}),
    ([Row(1, [Row(2, None)])], [[1, [[2, None]]]]),
    ([dt.timedelta(days=1, seconds=1), dt.time(12, 30)], ["P1DT1S", "12:30:00"]),
    ("x" * 1_000_000, "x" * 1_000_000),
]


@pytest.mark.parametrize(("value", "decoded"), ROUND_TRIPS, ids=lambda value: str(value)[:30])
def test_what_json_can_carry_comes_back_as_json_gives_it(backend: Backend, value: Any, decoded: Any) -> None:
    """The result is on the event as JSON, in root_results, and in the parent's child_results."""
    recorder = EventRecorder()
    result = run_queue([Returns(value), Collects(Returns(value))], reporter=recorder, backend=backend)
    assert result.root_results == [decoded, [decoded]]
    assert msgspec.json.decode(recorder.of(ItemCompleted)[0].result) == decoded


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


def _struct_cycle() -> Holds:
    cycle = Holds([])
    cycle.things.append(cycle)
    return cycle


def _deep(depth: int = 100_000) -> list[Any]:
    deep: list[Any] = []
    for _ in range(depth - 1):
        deep = [deep]
    return deep


class Opaque:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@dataclass
class Bag:
    things: Any


NOT_JSON = {
    "nan": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "nested nan": {"a": [1, math.nan]},
    "nan as a key": {math.nan: 1},
    "bytes": b"a",
    "bytearray": bytearray(b"a"),
    "memoryview": memoryview(b"a"),
    "nested bytes": {"a": [b"a"]},
    "bytes as a key": {b"a": 1},
    "bytes in a dataclass": Bag([b"a"]),
    "bytes as a key in a struct": [Holds({b"a": 1})],
    "bytes in a struct": Holds([{"a": b"a"}]),
    "bytes in a struct in a struct": Holds([Holds(b"a")]),
    "bytes in a struct that is an array": [Row(1, b"a")],
    "bytes in an attrs class": Held(b"a"),
    "bytes in an enum": Odd.BYTES,
    "keys 1": {1: "a", "1": "b"},
    "keys None": {None: "a", "null": "b"},
    "keys True": {"true": "a", True: "b"},
    "keys 1.0": {1.0: "a", "1.0": "b"},
    "keys of an enum": {Level.HIGH: "a", "3": "b"},
    "nested keys": [[], {"a": "{", "b": ({1: "a", "1": "b"},)}],
    "keys of an OrderedDict": OrderedDict({1: "a", "1": "b"}),
    "keys in a dataclass": Bag([{1: "a", "1": "b"}]),
    "keys in a struct": Holds([{1: "a", "1": "b"}]),
    "keys in a struct in a dataclass": Bag([Size(1), Holds({dt.date(2020, 2, 29): "a", "2020-02-29": "b"})]),
    "keys in a struct that is an array": [{"a": 1}, Row(1, {1: "a", "1": "b"})],
    "keys in an attrs class": Held({1: "a", "1": "b"}),
    "keys in an enum": [Odd.KEYS],
    "set in a struct": Holds([{1}]),
    "set in a struct that is an array": {"a": Row(1, [Row(2, {1})])},
    "set in an attrs class": Held({1}),
    "struct in itself": _struct_cycle(),
    "lone surrogate": "\ud800",
    "lone surrogate as a key": {"\ud800": 1},
    "set": {1, 2},
    "frozenset": frozenset([1]),
    "nested set": {"a": [{1}]},
    "set in a dataclass": Bag({1}),
    "object": object(),
    "object without a repr": Opaque(),
    "class": Point,
    "dataclass that holds an object": Bag(object()),
    "function": len,
    "generator": iter(()),
    "tuple as a key": {(1, 2): 3},
    "complex number": 1j,
    "cycle": _cycle(),
    "very deep": _deep(),
    "deeper than can be read again anywhere": _deep(501),
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_what_json_can_not_carry_fails_the_item(backend: Backend, name: str) -> None:
    """The item fails with an InvalidResult that names its class; nothing is silently changed into something else."""
    recorder = EventRecorder()
    with pytest.raises(ItemFailures) as caught:
        run_queue([Returns(NOT_JSON[name])], reporter=recorder, backend=backend)
    [error] = caught.value.exceptions
    assert isinstance(error, InvalidResult)
    assert "tests.engine.test_results:Returns returned" in str(error)
    assert caught.value.result.counts.completed == 0
    assert recorder.of(ItemCompleted) == []


def test_text_is_written_as_all_other_results_are() -> None:
    """Each character alike, whether the result is a string or has one in it."""
    text = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x11000), 0x1F600, 0x10FFFF]))
    assert bytes(encode_result([text], "T")) == b"[" + bytes(encode_result(text, "T")) + b"]"


@pytest.mark.parametrize("value", [_deep(500), ["[" * 501], {'"[{\\': ['\\"[', "]" * 501]}, [[]] * 501])
def test_only_a_deep_result_counts_as_deep(value: Any) -> None:
    """Up to 500 arrays and objects inside each other; brackets in strings and beside each other don't count."""
    assert run_queue([Returns(value)], reporter="none").root_results == [value]


GUIDE = Path(__file__).parents[2] / "docs" / "howto" / "write-items.md"
ROWS = re.findall(
    r"^\| `(.+?)`[^|]* \| (?:`(.+?)`[^|]*|no result) \|$", GUIDE.read_text().split("## Overall")[0], re.MULTILINE
)


@pytest.mark.parametrize(("returned", "back"), ROWS)
def test_the_table_of_results_is_true(returned: str, back: str) -> None:
    """What the guide says of each value that an item may return."""

    @dataclass
    class Point:
        x: int
        y: Any

    names = {**vars(dt), "UUID": uuid.UUID, "Decimal": Decimal, "Colour": Colour, "Point": Point}
    value = eval(returned, names)
    if back == "InvalidResult":
        with pytest.raises(ItemFailures) as caught:
            run_queue([Returns(value)], reporter="none")
        assert isinstance(caught.value.exceptions[0], InvalidResult)
    else:
        assert run_queue([Returns(value)], reporter="none").root_results == ([eval(back)] if back else [])


def test_the_table_of_results_is_there() -> None:
    """Its rows are found."""
    assert len(ROWS) == 17


def test_a_hook_s_wrong_result_fails_the_item(backend: Backend) -> None:
    """What the hook returns is held to the same."""

    class Bad(Noop):
        async def after_children_processed(self) -> Any:
            return {1}

    with pytest.raises(ItemFailures) as caught:
        run_queue([Bad()], reporter="none", backend=backend)
    assert isinstance(caught.value.exceptions[0], InvalidResult)


def test_child_results_are_in_the_order_of_enqueue(backend: Backend) -> None:
    """Whichever child ends first, results stand in the order of enqueue, those that are None left out."""
    children = [Collects(Returns(1)), Returns(2), Noop(), Collects(Collects(Returns(3))), Returns(None), Returns(0)]
    for queue_type_name in ("queue", "stack"):
        result = run_queue(
            [Collects(*children)], queue_type_name=queue_type_name, num_workers=3, reporter="none", backend=backend
        )
        assert result.root_results == [[[1], 2, [[3]], 0]]


def test_the_hook_s_result_replaces_that_of_process(backend: Backend) -> None:
    """A hook that returns something other than None has the last word, and None leaves what process returned."""

    class Keeps(Returns):
        async def after_children_processed(self) -> None:
            pass

    recorder = EventRecorder()
    result = run_queue([Collects(own="own"), Keeps("kept")], reporter=recorder, backend=backend, num_workers=1)
    assert result.root_results == [[], "kept"]
    assert [bytes(event.result) for event in recorder.of(ItemChildrenProcessed)] == [b"[]", b""]


def test_an_item_whose_subtree_failed_before_its_hook_keeps_the_result_of_its_process(backend: Backend) -> None:
    """It was there to be read since its process returned: only its own failure takes it away."""

    async def fail(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        raise ValueError

    with pytest.raises(ItemFailures) as caught:
        run_queue([Collects(Do(fail), own=1), Returns(2)], on_error="continue", reporter="none", backend=backend)
    assert caught.value.result.root_results == [1, 2]


def test_root_results_of_a_run_without_any(backend: Backend) -> None:
    """A million initial items without results need no list of a million Nones."""
    assert run_queue([Noop(), Noop()], reporter="none", backend=backend).root_results == []


def test_a_result_is_what_it_was_when_it_was_returned(backend: Backend) -> None:
    """It is encoded when it is returned: changing the object afterwards changes nothing, and each call gives a copy."""
    shared = [1]

    class Twice(Collects):
        async def after_children_processed(self) -> Any:
            shared.append(2)
            aqueue.child_results()[0].append(3)
            return aqueue.child_results()

    assert run_queue([Twice(Returns(shared))], reporter="none", backend=backend).root_results == [[[1]]]


@pytest.mark.parametrize("ask", ["child_results", "shared"])
def test_misplaced_calls_inside_process(backend: Backend, ask: str) -> None:
    """child_results works only in the hook, and shared only with a lifespan: the error says so."""

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        with pytest.raises(aqueue.MisplacedCall, match=rf"aqueue\.{ask}\(\)"):
            getattr(aqueue, ask)()

    assert run_queue([Do(process)], reporter="none", backend=backend).status == "completed"


def test_results_are_freed_when_the_parent_s_hook_has_run(backend: Backend) -> None:
    """Results are held only while a parent with a hook waits for them."""
    from aqueue._engine.tree import Node

    held: list[int] = []

    class Observes(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            enqueue(Collects(*(Returns("x" * 1_000) for _ in range(10))))
            enqueue(Without(*(Returns("x" * 1_000) for _ in range(10))))

        async def after_children_processed(self) -> None:
            # Nodes are kept out of the garbage collector: what they hold is found through the results themselves.
            held.append(sum(len(bytes(one)) for one in _raws()))

    class Without(Collects):
        after_children_processed = Item.after_children_processed

    def _raws() -> Iterator[msgspec.Raw]:
        attempt = running_attempt.get()
        node = attempt.node  # type: ignore[attr-defined]
        assert isinstance(node, Node)
        yield from (node.child_results or {}).values()

    run_queue([Observes()], reporter="none", num_workers=1, backend=backend)
    # One child's hook returned the list of its children's results; the other has none of its own to hand on.
    assert held == [len('["' + "x" * 1_000 + '"]') + 9 * len(',"' + "x" * 1_000 + '"')]


def test_an_object_that_was_returned_is_not_kept(backend: Backend) -> None:
    """After its encoding the object itself is let go, once the worker goes on."""
    references: list[weakref.ref[Any]] = []
    alive: list[bool] = []

    class Value(dict[str, int]):
        pass

    async def give(enqueue: EnqueueFn, set_desc: SetDescFn) -> Any:
        value = Value(a=1)
        references.append(weakref.ref(value))
        return value

    async def look(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        pass

    async def look_again(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        gc.collect()
        alive.append(references[0]() is not None)

    run_queue([Do(give), Do(look), Do(look_again)], num_workers=1, reporter="none", backend=backend)
    assert alive == [False]
