"""Plain items, which are written and read at once: as by the long way, whatever else an object of the class may have.

The short way is `_codec.plain_items`, and `PayloadCodec.decode`.
"""

import dataclasses
import gc
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from aqueue import EnqueueFn, Item, SetDescFn
from aqueue._codec.item_codec import PayloadCodec
from aqueue.errors import UnstorableItem


def open_class() -> type:
    """Return a class whose objects may have any attributes."""

    class Open(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None: ...

    return Open


def with_default() -> type:
    """Return one with a default that is not in its objects."""

    class Defaulted(Item):
        a: int = 7

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None: ...

    return Defaulted


def answering() -> type:
    """Return one whose objects have an answer for each name."""

    class Answering(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None: ...

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return "an answer"

    return Answering


def declared() -> type:
    """Return one that declares its fields, in an order of their own."""

    @dataclasses.dataclass
    class Declared(Item):
        b: Any
        a: Any
        c: Any = None

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None: ...

    return Declared


def two_fields() -> type:
    """Return one that declares its fields, none with a default."""

    @dataclasses.dataclass
    class TwoFields(Item):
        b: Any
        a: Any

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None: ...

    return TwoFields


def managed() -> type:
    """Return one that keeps an attribute under another name."""

    class Managed(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None: ...

        @property
        def a(self) -> Any:
            return self.c

        @a.setter
        def a(self, value: Any) -> None:
            self.c = value

    return Managed


KINDS: list[Callable[[], type]] = [open_class, with_default, answering, declared, two_fields, managed]
"""Each makes a new class: how CPython keeps an object's attributes depends on the objects of its class before it."""

PLAIN_STATE: dict[str, Any] = {"a": 1, "b": "text"}

SCALARS: list[Any] = [None, True, 2**63 - 1, -(2**63), 1.5, "é", ""]
OTHERS: list[Any] = [2**63, -(2**63) - 1, math.nan, math.inf, "\ud800", b"x", (1,), [1], {"x": 1}, {}]

STATES: list[dict[str, Any]] = [
    *({"a": value, "b": "text"} for value in [*SCALARS, *OTHERS]),
    *({"b": "text", "a": value} for value in [1, *OTHERS]),
    {"a": 1},
    {"b": "text"},
    {"a": 1, "c": "text"},
    {"b": 1, "c": "text"},
    {"c": 1, "d": "text"},
    {"a": 1, "b": "text", "c": None},
    {"a": 1, "b": "text", "d.e": None, "ä": 1},
    {"a": 1, "a.imag": 2},
    {"__orig_class__": 1, "b": 2},
    {},
]
"""What objects may have after one that has what `PLAIN_STATE` has."""


def made(cls: type, state: dict[str, Any], *, with_dict: bool = False) -> Any:
    """Return an object of `cls` with these attributes; `with_dict` asks for its dict, and so makes one."""
    new: Any = cls
    item = new(0, 0) if dataclasses.is_dataclass(cls) else new()
    for name, value in state.items():
        setattr(item, name, value)
    if with_dict:
        assert item.__dict__ is not None
    return item


def written(codec: PayloadCodec, item: object) -> bytes | str:
    """Return what `codec` writes for `item`, or why it does not."""
    try:
        return codec.encode(item, lambda _: None)
    except UnstorableItem as error:
        return str(error)


@pytest.mark.parametrize("first", [PLAIN_STATE, *STATES])
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_before_makes_no_difference(kind: Callable[[], type], first: dict[str, Any]) -> None:
    """A codec that knows a class writes each of its objects as one does that meets it for the first time."""
    cls = kind()
    codec = PayloadCodec()
    written(codec, made(cls, first))
    for state in [first, *STATES]:
        expected = written(PayloadCodec(), made(cls, state))
        assert written(codec, made(cls, state)) == expected
        assert written(codec, made(cls, state, with_dict=True)) == expected


@pytest.mark.parametrize("kind", [open_class, two_fields])
def test_a_plain_item_is_not_made_larger(kind: Callable[[], type]) -> None:
    """Writing an object does not give it a dict, but for the first of its class: a million waiting ones would have one."""
    cls = kind()
    codec = PayloadCodec()
    for number in range(3):
        item = made(cls, {"a": number, "b": "text"})
        assert codec.encode(item, lambda _: None) in (
            b'{"a":%d,"b":"text"}' % number,
            b'{"b":"text","a":%d}' % number,
        )
        if number:
            assert not any(type(held) is dict for held in gc.get_referents(item))


# ---- reading ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(eq=False)
class Place:
    """Can be compared with its like only, as many classes can."""

    x: int

    def __eq__(self, other: object) -> bool:
        return self.x == other.x  # type: ignore[attr-defined, no-any-return]  # that is the point

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass
class Visit(Item):
    """Sometimes plain."""

    place: Place | None

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None: ...


class Bare(msgspec.Struct, dict=True):
    """Has no fields, so that nothing but a dict could hold its state."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None: ...


@pytest.mark.parametrize(
    "items",
    [[Visit(Place(1)), Visit(Place(2))], [Visit(None), Visit(Place(1)), Visit(None), Visit(None)], [Bare()] * 3],
)
def test_what_was_read_before_makes_no_difference(items: list[Any]) -> None:
    """Each item is read as by a codec that meets its class for the first time; no values of the user are compared."""
    codec = PayloadCodec()
    for item in items:
        payload = codec.encode(item, lambda _: None)
        name = f"{__name__}:{type(item).__name__}"
        read = codec.decode(name, payload, lambda _: None)
        assert type(read) is type(item)
        assert codec.encode(read, lambda _: None) == payload
        assert type(getattr(read, "place", None)) is type(getattr(item, "place", None))
