"""What can't be restored exactly is refused when it is stored; the message names class, attribute and what to do.

What refuses is `_codec.writer`, when it asks `_codec.object_state` for what an item is made of.
"""

import collections
import contextlib
import dataclasses
import enum
import functools
import re
import sys
import threading
import types
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any, NamedTuple

import attrs
import msgspec
import pydantic
import pytest

from aqueue import Item
from aqueue._codec.class_names import type_name
from aqueue._codec.item_codec import MAX_DEPTH, PayloadCodec
from aqueue.errors import UnstorableItem
from tests.codec.kinds import DataclassItem, Mode, PlainItem, Point, Tree, Worked, same
from tests.codec.test_round_trips import no_ancestor, no_item


def _cached(name: str, function: Callable[[Any], object]) -> Any:
    """Return a cached property that is no method, and so may stand in any kind of class."""
    made = functools.cached_property(function)
    made.__set_name__(object, name)
    return made


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Farther(Point):
    pass


class MyDatetime(datetime):
    pass


class Zone(tzinfo):
    def utcoffset(self, at: datetime | None, /) -> timedelta:
        return timedelta(hours=1)

    def dst(self, at: datetime | None, /) -> timedelta:
        return timedelta(0)

    def tzname(self, at: datetime | None, /) -> str:
        return "mine"


class Plain:
    """Holds one attribute, and is of no special kind."""

    def __init__(self) -> None:
        self.size = 1


class ListItem(list[int], Worked):
    pass


def in_itself() -> list[Any]:
    """Return a list that holds itself."""
    made: list[Any] = []
    made.append(made)
    return made


def nested(depth: int) -> Any:
    """Return lists in lists, `depth` of them."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


REFUSED: dict[str, Any] = {
    "an object of a class of no special kind": Plain(),
    "a dataclass that no annotation names": Point(1),
    "an enum member that no annotation names": Mode.FAST,
    "a lock": threading.Lock(),
    "a function": nested,
    "a class": Point,
    "a module": enum,
    "an exception": ValueError("x"),
    "a complex number": 1j,
    "a range": range(3),
    "a subclass of str": Text("a"),
    "a subclass of int": Number(1),
    "a subclass of datetime": MyDatetime(2026, 1, 1, tzinfo=UTC),
    "a subclass of dict": collections.OrderedDict(a=1),
    "a deque": collections.deque([1]),
    "an iterator": iter([1]),
    "a time in a zone of one's own": datetime(2026, 1, 1, tzinfo=Zone()),
    "a time in a zone nearly UTC": datetime(2026, 1, 1, tzinfo=timezone(timedelta(microseconds=-1))),
    "a time in a zone with a name of its own": datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1), "CET")),
    "a list that holds itself": in_itself(),
    "an item that is no ancestor": DataclassItem("x"),
    "an item that is no Item": ListItem(),
}

WHERE: dict[str, Callable[[Any], Any]] = {
    "the attribute": lambda value: value,
    "in a list": lambda value: [1, value],
    "in a tuple in a dict": lambda value: {"a": (value,)},
    "as a dict's value beside odd keys": lambda value: {1: value, "$x": 2},
}


@pytest.mark.parametrize("where", list(WHERE))
@pytest.mark.parametrize("what", list(REFUSED))
def test_it_is_refused_where_it_is_stored(what: str, where: str) -> None:
    """The message names the class and the attribute, and the three ways to mend it."""
    item = PlainItem("u", WHERE[where](REFUSED[what]))
    with pytest.raises(UnstorableItem) as caught:
        PayloadCodec().encode(item, no_ancestor)
    message = str(caught.value)
    assert message.startswith("tests.codec.kinds:PlainItem can't be stored: attribute 'data': ")
    assert re.search(r"annotate data .*, or define dump\(self\) and .* load\(cls, data\), or leave data out", message)
    assert "\n" not in message


def test_it_is_refused_after_others_were_stored() -> None:
    """That the codec knows the attributes' names from other items doesn't let a value pass."""
    codec = PayloadCodec()
    codec.encode(DataclassItem("u", 1), no_ancestor)
    codec.encode(DataclassItem("u", 1), no_ancestor)
    with pytest.raises(UnstorableItem, match="'data'"):
        codec.encode(DataclassItem("u", Plain()), no_ancestor)


class BaseAnnotated(Item):
    point: Point

    def __init__(self, point: Point) -> None:
        self.point = point


def test_an_object_of_a_subclass_is_refused() -> None:
    """It would come back as an object of the class that the annotation names."""
    with pytest.raises(UnstorableItem, match=r"'point': an object of class tests\.codec\.test_refusals:Farther, which"):
        PayloadCodec().encode(BaseAnnotated(Farther(1)), no_ancestor)


def test_an_object_of_a_subclass_of_the_same_name_is_refused() -> None:
    """Only the class itself is the one that the annotation names."""
    namesake = type("Point", (Point,), {})
    with pytest.raises(UnstorableItem, match="'point': an object of class"):
        PayloadCodec().encode(BaseAnnotated(namesake(1)), no_ancestor)


class Deep(Item):
    tree: Tree


def test_the_path_to_the_attribute_is_named() -> None:
    """What is wrong in a value of a value is found by its whole path, and not to be changed in the item's class."""
    item = Deep()
    item.tree = Tree(1, [Tree(Plain())])
    with pytest.raises(UnstorableItem, match=r"attribute 'tree\.children\.value': ") as caught:
        PayloadCodec().encode(item, no_ancestor)
    assert "; annotate tree.children.value in the body of the class that declares it with " in str(caught.value)


def test_two_classes_of_one_name_are_told_apart_or_refused() -> None:
    """An annotation that names two classes of the same name says nothing about which one a payload means."""
    other = dataclasses.make_dataclass("Point", ["x"])

    class Ambiguous(Item):
        pass

    Ambiguous.__annotations__ = {"point": Point | other}
    item: Any = Ambiguous()
    item.point = Point(1)
    with pytest.raises(UnstorableItem, match=r"'point': .*names two classes called Point"):
        PayloadCodec().encode(item, no_ancestor)


def test_the_limit_of_nesting() -> None:
    """Data nested to the limit is restored; deeper data is refused, because SQLite would refuse the whole batch."""
    codec = PayloadCodec()
    name = type_name(PlainItem)
    deepest = PlainItem(nested(MAX_DEPTH - 1), 1)
    payload = codec.encode(deepest, no_ancestor)
    assert payload.count(b"[") == MAX_DEPTH  # one is the empty list of the third attribute
    restored = codec.decode(name, payload, no_item)
    assert codec.encode(restored, no_ancestor) == payload
    with pytest.raises(UnstorableItem, match=f"'url': data nested deeper than {MAX_DEPTH}"):
        codec.encode(PlainItem(nested(MAX_DEPTH), 1), no_ancestor)


def test_a_name_that_could_not_be_restored_is_refused() -> None:
    """An attribute can't pretend to be a part of the payload's own."""
    for name in ("$dump", "__class__", "\ud800"):
        item = PlainItem("u", 1)
        item.__dict__[name] = 1
        with pytest.raises(UnstorableItem, match="has a name that can't be restored"):
            PayloadCodec().encode(item, no_ancestor)


def test_a_name_of_a_class_of_its_own_is_refused() -> None:
    """It would come back as a plain string, also after a plain string that is equal to it was found good."""
    for name in ("beside", Text("beside")):
        item: Any = PlainItem("u", 1)
        item.__dict__[name] = 1
        if type(name) is str:
            assert b'"beside":1' in PayloadCodec().encode(item, no_ancestor)
        else:
            with pytest.raises(UnstorableItem, match="has a name that can't be restored"):
                PayloadCodec().encode(item, no_ancestor)


def test_a_field_that_is_not_set_is_refused() -> None:
    """A dataclass's field that was deleted could not be told from one that is new."""
    item = DataclassItem("u")
    del item.url
    with pytest.raises(UnstorableItem, match="attribute 'url' is not set"):
        PayloadCodec().encode(item, no_ancestor)


def test_a_class_with_state_of_its_base_is_refused() -> None:
    """What a list or an exception keeps beside attributes is not seen, so its subclass can't be stored."""
    with pytest.raises(UnstorableItem, match=r"ListItem can't be stored: it is a subclass of a built-in type"):
        PayloadCodec().encode(ListItem([1]), no_ancestor)


def test_load_must_be_a_class_method() -> None:
    """Without its object there is nothing on which load could be called."""

    class Wrong(Item):
        def dump(self) -> int:
            return 1

        def load(self, data: int) -> None:
            """Lack the decorator."""

    with pytest.raises(UnstorableItem, match="write '@classmethod' above it"):
        PayloadCodec().encode(Wrong(), no_ancestor)


def test_what_dump_raises_is_told() -> None:
    """The error of the user's own dump is the cause, and is quoted."""

    class Raising(Item):
        def dump(self) -> int:
            raise ZeroDivisionError("no\nsize")

        @classmethod
        def load(cls, data: int) -> "Raising":
            return cls()

    with pytest.raises(UnstorableItem, match=r"its dump\(\) raised ZeroDivisionError: no\\nsize") as caught:
        PayloadCodec().encode(Raising(), no_ancestor)
    assert isinstance(caught.value.__cause__, Exception)


def test_a_method_called_load_alone_is_the_users_own() -> None:
    """Only both, dump and load, decide what is stored."""

    class Loading(Item):
        def __init__(self) -> None:
            self.url = "u"

        async def load(self) -> None:
            """Fetch the page."""

    assert PayloadCodec().encode(Loading(), no_ancestor) == b'{"url":"u"}'


class Caching(Item):
    def __init__(self, url: str) -> None:
        self.url = url

    @functools.cached_property
    def parsed(self) -> object:
        return Plain()


@dataclasses.dataclass
class CachingDataclass(Item):
    url: str
    parsed = _cached("parsed", lambda self: Plain())


@attrs.define
class CachingAttrs(Worked):
    url: str

    @functools.cached_property
    def parsed(self) -> object:
        return Plain()


@attrs.define
class CachingMoreAttrs(CachingAttrs):
    @functools.cached_property
    def more(self) -> object:
        return Plain()


class CachingStruct(msgspec.Struct, Worked, dict=True):
    url: str
    parsed = _cached("parsed", lambda self: Plain())


class CachingModel(pydantic.BaseModel, Worked):
    url: str

    @functools.cached_property
    def parsed(self) -> object:
        return Plain()


class _Named(NamedTuple):
    url: str


class CachingTuple(_Named, Worked):
    parsed = _cached("parsed", lambda self: Plain())


@pytest.mark.parametrize(
    "cls",
    [
        Caching,
        CachingDataclass,
        CachingAttrs,
        CachingMoreAttrs,
        CachingStruct,
        CachingModel,
        CachingTuple,
    ],
)
def test_a_cached_property_is_not_state(cls: Any) -> None:
    """What was only computed from the attributes is computed again, whatever kind of class it is in."""
    item = cls(url="u")
    codec = PayloadCodec()
    for _ in range(2):
        assert codec.encode(item, no_ancestor) == b'{"url":"u"}'
        assert item.parsed
        assert cls is not CachingMoreAttrs or item.more


class SetInInit(Caching):
    def __init__(self, parsed: str) -> None:
        super().__init__("u")
        self.parsed = parsed


class SetInFactory(Caching):
    @classmethod
    def make(cls, parsed: str) -> "SetInFactory":
        made = cls("u")
        made.parsed = parsed
        return made


class SetFromOutside(Caching):
    parsed: str

    @classmethod
    def make(cls, parsed: str) -> "SetFromOutside":
        made = cls("u")
        setattr(made, "parsed", parsed)  # noqa: B010  # as code elsewhere would
        return made


@dataclasses.dataclass
class SetInDataclass(CachingDataclass):
    parsed: str = "u"


@attrs.define
class SetInAttrs(CachingAttrs):
    def __attrs_post_init__(self) -> None:
        self.parsed = self.url
        self.url = "u"


class SetInStruct(CachingStruct, dict=True):
    def __post_init__(self) -> None:
        self.parsed = self.url
        self.url = "u"


class OverriddenByValue(Caching):
    parsed = "of the class"

    def __init__(self, parsed: str) -> None:
        super().__init__("u")
        vars(self)["parsed"] = parsed


@pytest.mark.parametrize(
    "make",
    [
        SetInInit,
        SetInFactory.make,
        SetFromOutside.make,
        functools.partial(SetInDataclass, "u"),
        SetInAttrs,
        SetInStruct,
        OverriddenByValue,
    ],
    ids=["init", "factory", "annotated", "dataclass", "attrs", "struct", "value"],
)
def test_what_is_set_over_a_cached_property_is_state(make: Callable[[str], Any]) -> None:
    """Two items that differ in it have payloads that differ, and are restored with it."""
    codec = PayloadCodec()
    one, other = (codec.encode(make(value), no_ancestor) for value in ("one", "other"))
    assert one != other
    restored: Any = codec.decode(type_name(type(make("one"))), one, no_item)
    assert (restored.url, restored.parsed) == ("u", "one")


class SetInModel(CachingModel):
    def model_post_init(self, context: object) -> None:
        self.parsed = self.url


def test_what_is_set_over_a_cached_property_of_a_model_is_refused() -> None:
    """A pydantic model is made of its fields; there is no place for it."""
    with pytest.raises(UnstorableItem, match="attribute 'parsed'"):
        PayloadCodec().encode(SetInModel(url="u"), no_ancestor)


def test_annotations_that_only_a_checker_can_resolve_do_no_harm() -> None:
    """They name no class for the codec; plain values are stored all the same, and the other annotations hold."""

    class Typed(Item):
        client: "OnlyForCheckers"  # type: ignore[name-defined]  # noqa: F821
        point: "Point"

    item: Any = Typed()
    item.client, item.point = None, Point(2)
    codec = PayloadCodec()
    restored = codec.decode(type_name(Typed), codec.encode(item, no_ancestor), no_item)
    assert same(restored, item)
    item.client = Point(3)
    with pytest.raises(UnstorableItem, match="'client'"):
        codec.encode(item, no_ancestor)


@pytest.mark.skipif(
    sys.version_info < (3, 14), reason="older Pythons evaluate an annotation where the class is defined"
)
def test_an_annotation_that_names_nothing_yet_hides_no_other() -> None:
    """From Python 3.14 on, what only a checker imports needs no quotes; the other annotations of its class hold."""
    source = """
class Unquoted(Item):
    client: OnlyForCheckers
    def __init__(self, client: OnlyForCheckers, point: Point) -> None:
        self.client, self.point = client, point
"""
    names: dict[str, Any] = {"Item": Item, "Point": Point, "__name__": __name__}
    exec(source, names)
    item = names["Unquoted"](None, Point(2))
    codec = PayloadCodec()
    restored = codec.decode(type_name(type(item)), codec.encode(item, no_ancestor), no_item)
    assert same(restored, item)


class Unevaluated(msgspec.Struct, Worked):
    """One with an annotation that only type checkers understand."""

    client: "OnlyForCheckers"  # type: ignore[name-defined]  # noqa: F821


def test_a_struct_with_an_annotation_that_names_nothing_is_stored() -> None:
    """Its fields are known without the annotation, which only says of which classes objects may be."""
    item = Unevaluated(None)
    codec = PayloadCodec()
    assert same(codec.decode(type_name(Unevaluated), codec.encode(item, no_ancestor), no_item), item)
    with pytest.raises(UnstorableItem, match="'client'"):
        codec.encode(Unevaluated(Point(3)), no_ancestor)


def test_an_item_that_holds_itself_is_refused() -> None:
    """It is not its own ancestor."""
    item = PlainItem("u", 1)
    item.data = item
    with pytest.raises(UnstorableItem, match=r"'data': an item of class .*that is not one of this item's ancestors"):
        PayloadCodec().encode(item, no_ancestor)


def test_a_refused_item_changes_nothing() -> None:
    """An item is as it was after it was refused, and can be stored once it is mended."""
    item = PlainItem("u", Plain())
    codec = PayloadCodec()
    before = dict(vars(item))
    with contextlib.suppress(UnstorableItem):
        codec.encode(item, no_ancestor)
    assert vars(item) == before
    item.data = 1
    assert codec.encode(item, no_ancestor) == b'{"data":1,"more":[],"url":"u"}'


class ConfiguresAnother(Item):
    """Has a method that assigns an attribute of another object, called as its own cached property is."""

    def __init__(self, url: str) -> None:
        self.url = url

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(self.url)

    def configure(self, parser: Any) -> None:
        parser.pattern = self.pattern


def test_a_cached_property_that_is_assigned_to_another_object_is_not_state() -> None:
    """It is what it computes, whatever else has an attribute of that name."""
    item = ConfiguresAnother("u")
    item.configure(types.SimpleNamespace())
    assert PayloadCodec().encode(item, no_ancestor) == b'{"url":"u"}'
