"""A class that has changed since an item was recorded: what goes on, and what is told.

`_codec.item_codec` gives what was recorded to `_codec.reader`; what a class lacks or has got since is for
`_codec.object_state` and `_codec.fields` to know.
"""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any, ClassVar, Self

import attrs
import msgspec
import pydantic
import pytest

from aqueue import Item
from aqueue._codec.class_names import type_name
from aqueue._codec.item_codec import PayloadCodec
from aqueue.errors import PayloadMismatch
from tests.codec.kinds import Point, Worked
from tests.codec.test_round_trips import no_ancestor, no_item

RECORDED = b'{"url":"u"}'


def as_dataclass() -> list[type]:
    """Return a class with a field more that has a default, one with a required one, and one with a field less."""

    @dataclasses.dataclass
    class More(Item):
        url: str
        tries: int = 3
        seen: list[str] = dataclasses.field(default_factory=list)

    @dataclasses.dataclass
    class Required(Item):
        url: str
        size: int

    @dataclasses.dataclass
    class Less(Item):
        pass

    return [More, Required, Less]


def as_attrs() -> list[type]:
    """Return the same three as attrs classes."""

    @attrs.define
    class More(Item):
        url: str
        tries: int = 3
        seen: list[str] = attrs.field(factory=list)

    @attrs.define
    class Required(Item):
        url: str
        size: int

    @attrs.define
    class Less(Item):
        pass

    return [More, Required, Less]


class StructMore(msgspec.Struct, Worked):
    url: str
    tries: int = 3
    seen: list[str] = []


class StructRequired(msgspec.Struct, Worked):
    url: str
    size: int


class StructLess(msgspec.Struct, Worked):
    pass


class ModelMore(pydantic.BaseModel, Worked):
    url: str
    tries: int = 3
    seen: list[str] = pydantic.Field(default_factory=list)


class ModelRequired(pydantic.BaseModel, Worked):
    url: str
    size: int


class ModelLess(pydantic.BaseModel, Worked):
    pass


KINDS: dict[str, Callable[[], list[type]]] = {
    "dataclass": as_dataclass,
    "attrs": as_attrs,
    "struct": lambda: [StructMore, StructRequired, StructLess],
    "pydantic": lambda: [ModelMore, ModelRequired, ModelLess],
}
by_kind = pytest.mark.parametrize("kind", list(KINDS))


@by_kind
def test_a_field_with_a_default_may_be_added(kind: str) -> None:
    """A recorded item gets the default, one of its own, and matches the same item enqueued today."""
    more: Any = KINDS[kind]()[0]
    codec = PayloadCodec()
    one: Any = codec.decode(type_name(more), RECORDED, no_item)
    other: Any = codec.decode(type_name(more), RECORDED, no_item)
    assert (one.url, one.tries, one.seen) == ("u", 3, [])
    assert one.seen is not other.seen
    assert codec.canonical(type_name(more), RECORDED) == codec.encode(more(url="u"), no_ancestor) != RECORDED


@by_kind
def test_a_new_required_field_is_an_error_that_names_it(kind: str) -> None:
    """The message names the class and the field, and says that a default mends it."""
    required = KINDS[kind]()[1]
    name = type_name(required)
    expected = r"Required.* field 'size', .* no default; .*give new fields a default"
    with pytest.raises(PayloadMismatch, match=expected):
        PayloadCodec().decode(name, RECORDED, no_item)
    with pytest.raises(PayloadMismatch, match=expected):
        PayloadCodec().canonical(name, RECORDED)


@by_kind
def test_a_field_that_was_renamed_is_an_error_that_names_it(kind: str) -> None:
    """With a default for the new name every recorded value would be lost without a word."""
    more = KINDS[kind]()[0]
    recorded = b'{"url":"u","attempts":7}'
    expected = (
        r"More was recorded with 'attempts', which it no longer has, and has 'tries', 'seen', which was not recorded"
    )
    with pytest.raises(PayloadMismatch, match=expected):
        PayloadCodec().decode(type_name(more), recorded, no_item)


@by_kind
def test_a_field_that_is_gone_is_left_out(kind: str) -> None:
    """Its value is dropped, whatever it was; the item matches the same item enqueued today."""
    less = KINDS[kind]()[2]
    codec = PayloadCodec()
    recorded = b'{"url":{"$object":["Gone",{"a":1}]}}'
    restored = codec.decode(type_name(less), recorded, no_item)
    assert not hasattr(restored, "url")
    assert codec.canonical(type_name(less), recorded) == codec.encode(less(), no_ancestor) == b"{}"


def test_a_plain_class_gets_what_its_body_declares() -> None:
    """An attribute declared with a value in the body of a plain class is a field with a default."""

    class Page(Item):
        tries: int = 3

        def __init__(self, url: str, tries: int = 3) -> None:
            self.url = url
            self.tries = tries

    codec = PayloadCodec()
    for _ in range(2):
        restored: Any = codec.decode(type_name(Page), RECORDED, no_item)
        assert vars(restored) == {"url": "u", "tries": 3}
        assert codec.canonical(type_name(Page), RECORDED) == codec.encode(Page("u"), no_ancestor)


def test_what_belongs_to_the_class_is_not_stored_with_items() -> None:
    """A logger, a client or a method in the body of a plain class is no attribute of the item, though annotated."""

    class Page(Item):
        log: logging.Logger = logging.getLogger("page")
        limit: ClassVar[int] = 3
        parse: Callable[[str], str] = str.strip

    assert PayloadCodec().encode(Page(), no_ancestor) == b"{}"


def test_what_the_class_declares_is_kept_as_it_was_recorded() -> None:
    """A default that stands only in the class is stored with the item: changing it changes no recorded item."""

    class Page(Item):
        tries: int = 3

    name = type_name(Page)
    codec = PayloadCodec()
    payload = codec.encode(Page(), no_ancestor)
    Page.tries = 9
    restored: Any = PayloadCodec().decode(name, payload, no_item)
    assert restored.tries == 3


def test_attributes_beside_the_fields_are_not_fields() -> None:
    """What a dataclass's own code has set beside its fields is restored, though a field that is gone is not."""

    @dataclasses.dataclass
    class Page(Item):
        url: str

    item: Any = Page("u")
    item.size = 4
    codec = PayloadCodec()
    payload = codec.encode(item, no_ancestor)
    assert payload == b'{"url":"u","$extra":{"size":4}}'
    restored: Any = codec.decode(type_name(Page), payload, no_item)
    assert restored.size == 4
    assert codec.canonical(type_name(Page), payload) == payload


class Loaded(Item):
    """Has got dump and load."""

    point: Point | None
    timeout_s = 3.0

    def __init__(self, data: Any) -> None:
        self.data = data

    def dump(self) -> Any:
        return self.data

    @classmethod
    def load(cls, data: Any) -> Self:
        return cls(data)


class LoadedModel(pydantic.BaseModel, Worked):
    """The same, and declares fields still."""

    url: str = ""
    point: Point | None = None

    def dump(self) -> Any:
        return self.url

    @classmethod
    def load(cls, data: dict[str, Any]) -> Self:
        return cls(url=",".join(data))


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"{}", {}),
        (RECORDED, {"url": "u"}),
        (b'{"url":{"$tuple":[1]},"point":{"$object":["Point",{"x":1}]}}', {"url": (1,), "point": Point(1)}),
        (b'{"url":"u","$extra":{"size":4}}', {"url": "u", "size": 4}),
        (
            b'{"url":"u","$extra":{"size":4},"$private":{"_seen":{"$set":[]}},"$unset":["url"]}',
            {"url": "u", "size": 4, "_seen": set()},
        ),
    ],
)
def test_load_gets_the_attributes_of_what_was_recorded_before(payload: bytes, expected: dict[str, Any]) -> None:
    """They are restored as far as annotations go, and the item is written as dump says from then on."""
    codec = PayloadCodec()
    restored: Any = codec.decode(type_name(Loaded), payload, no_item)
    assert restored.data == expected
    model: Any = codec.decode(type_name(LoadedModel), payload, no_item)
    assert model.url == ",".join(expected)
    assert codec.canonical(type_name(LoadedModel), payload) == codec.encode(model, no_ancestor)


def test_what_dump_returned_is_given_to_load_as_it_was() -> None:
    """Whatever it is; and only a class with load can read it."""

    class Bare(Item):
        pass

    codec = PayloadCodec()
    restored: Any = codec.decode(type_name(Loaded), b'{"timeout_s":1.5,"url":"u","$extra":{"timeout_s":2.5}}', no_item)
    assert restored.data == {"url": "u"}  # without what the class says to aqueue
    for data in ({"url": "u", "timeout_s": 1.5}, [1], None):
        restored = codec.decode(type_name(Loaded), codec.encode(Loaded(data), no_ancestor), no_item)
        assert restored.data == data
    with pytest.raises(PayloadMismatch, match=r"Bare never stores anything as '\$dump'"):
        codec.decode(type_name(Bare), b'{"$dump":1}', no_item)


def test_what_load_can_do_nothing_with_is_told() -> None:
    """A class of a value is known by annotations alone, and what load raises is told with the way out."""
    with pytest.raises(
        PayloadMismatch, match=r"attribute 'other': an object of a class 'Point', which the attribute's"
    ):
        PayloadCodec().decode(type_name(Loaded), b'{"other":{"$object":["Point",{"x":1}]}}', no_item)

    class Raising(Item):
        def dump(self) -> int:
            return 1

        @classmethod
        def load(cls, data: dict[str, int]) -> object:
            return data["size"]

    expected = (
        r"creating an object of .*Raising raised KeyError: 'size'; .*load\(cls, data\), which gets a dict of the "
        r"attributes for items that were recorded without dump"
    )
    with pytest.raises(PayloadMismatch, match=expected):
        PayloadCodec().decode(type_name(Raising), RECORDED, no_item)


def test_what_load_raises_or_returns_wrongly_is_told() -> None:
    """The user's own load is named with its error."""

    class Raising(Item):
        def dump(self) -> int:
            return 1

        @classmethod
        def load(cls, data: int) -> object:
            if data == 1:
                raise KeyError("size")
            return data

    with pytest.raises(PayloadMismatch, match=r"creating an object of .*Raising raised KeyError: 'size'"):
        PayloadCodec().decode(type_name(Raising), b'{"$dump":1}', no_item)
    with pytest.raises(PayloadMismatch, match=r"load\(\) of .*Raising returned an object of builtins:int"):
        PayloadCodec().decode(type_name(Raising), b'{"$dump":2}', no_item)


def test_a_value_class_may_be_renamed() -> None:
    """Where an annotation names only one class, the value is of that one, whatever its name was."""

    class Page(Item):
        point: Point | None

    recorded = b'{"point":{"$object":["OldPoint",{"x":1}]}}'
    codec = PayloadCodec()
    restored: Any = codec.decode(type_name(Page), recorded, no_item)
    assert restored.point == Point(1)
    assert codec.canonical(type_name(Page), recorded) == codec.encode(restored, no_ancestor)


def test_a_member_that_an_enum_has_no_more_is_told() -> None:
    """The message names the attribute that held it."""
    from tests.codec.kinds import AnnotatedItem

    with pytest.raises(PayloadMismatch, match=r"attribute 'modes': .*'GONE'"):
        PayloadCodec().decode(type_name(AnnotatedItem), b'{"modes":{"$set":[{"$enum":["Mode","GONE"]}]}}', no_item)
