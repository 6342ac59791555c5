"""What a class says to aqueue: it counts however it is written, and is no part of the items."""

import dataclasses
import warnings
from typing import Any, NamedTuple

import attr
import attrs
import msgspec
import pydantic
import pytest

from aqueue import EnqueueFn, Item, Retry, SetDescFn
from aqueue._codec.class_names import previous_names_of, type_name
from aqueue._codec.item_codec import PayloadCodec
from aqueue._codec.policies import policies_of
from aqueue._engine.item_class import Policies, look_up_class
from aqueue.errors import InvalidArgument
from tests.codec.kinds import Worked
from tests.codec.test_round_trips import no_ancestor, no_item

RETRY = Retry(attempts=3)


class Plain(Item):
    url: str
    track_overall: bool = True  # type: ignore[misc]
    after_children_rule: str = "all_done"  # type: ignore[assignment,misc]
    previous_names: tuple[str, ...] = ("Old",)  # type: ignore[misc]
    retry: Any = RETRY  # type: ignore[misc]
    timeout_s: float = 30.0  # type: ignore[misc]

    def __init__(self, url: str) -> None:
        self.url = url


@dataclasses.dataclass
class Dataclass(Worked):
    track_overall: bool = True
    after_children_rule: str = "all_done"
    url: str = ""
    previous_names: tuple[str, ...] = ("Old",)
    retry: Any = RETRY
    timeout_s: float = 30.0


@dataclasses.dataclass(slots=True)
class Slotted(Item):
    track_overall: bool = True  # type: ignore[misc]
    after_children_rule: str = "all_done"  # type: ignore[assignment,misc]
    url: str = ""
    previous_names: tuple[str, ...] = ("Old",)  # type: ignore[misc]
    retry: Any = RETRY  # type: ignore[misc]
    timeout_s: float = 30.0  # type: ignore[misc]


@attrs.define
class Attrs(Item):
    track_overall: bool = True  # type: ignore[misc]
    after_children_rule: str = "all_done"  # type: ignore[assignment,misc]
    url: str = ""
    previous_names: tuple[str, ...] = ("Old",)  # type: ignore[misc]
    retry: Any = RETRY  # type: ignore[misc]
    timeout_s: float = 30.0  # type: ignore[misc]


@attr.s
class OldAttrs(Item):
    track_overall = attr.ib(default=True)  # type: ignore[var-annotated]
    after_children_rule = attr.ib(default="all_done")  # type: ignore[var-annotated]
    url = attr.ib(default="")  # type: ignore[var-annotated]
    previous_names = attr.ib(default=("Old",))  # type: ignore[var-annotated]
    retry = attr.ib(default=RETRY)  # type: ignore[var-annotated]
    timeout_s = attr.ib(default=30.0)  # type: ignore[var-annotated]


class Struct(msgspec.Struct, Item):
    track_overall: bool = True  # type: ignore[misc]
    after_children_rule: str = "all_done"  # type: ignore[assignment,misc]
    url: str = ""
    previous_names: tuple[str, ...] = ("Old",)  # type: ignore[misc]
    retry: Any = RETRY  # type: ignore[misc]
    timeout_s: float = 30.0  # type: ignore[misc]


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pydantic's, that a field shadows an attribute of Item

    class Model(pydantic.BaseModel, Item):
        track_overall: bool = True  # type: ignore[misc]
        after_children_rule: str = "all_done"  # type: ignore[assignment,misc]
        url: str = ""
        previous_names: tuple[str, ...] = ("Old",)  # type: ignore[misc]
        retry: Any = RETRY  # type: ignore[misc]
        timeout_s: float = 30.0  # type: ignore[misc]


class Named(NamedTuple):
    track_overall: bool = True
    after_children_rule: str = "all_done"
    url: str = ""
    previous_names: tuple[str, ...] = ("Old",)
    retry: Any = RETRY
    timeout_s: float = 30.0

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        """Do nothing."""


KINDS: list[Any] = [Plain, Dataclass, Slotted, Attrs, OldAttrs, Struct, Model, Named]
by_kind = pytest.mark.parametrize("cls", KINDS)
OLD_PAYLOAD = (
    b'{"track_overall":false,"after_children_rule":"all_success","url":"u","previous_names":{"$tuple":["Older"]},'
    b'"retry":{"$object":["Retry",{"attempts":9}]},"timeout_s":1.5}'
)
"""As older versions wrote it, but that those stored no Retry."""


@by_kind
def test_what_is_annotated_counts_as_what_is_not(cls: Any) -> None:
    """The default of a field is the class's word, wherever that kind of class keeps it."""
    known = look_up_class(cls(url="u"))
    assert known.track_overall
    assert known.all_done
    assert known.names == (type_name(cls), f"{__name__}:Old")
    assert known.policies == Policies(RETRY, 30.0)


@by_kind
def test_it_is_not_stored_with_items(cls: Any) -> None:
    """Neither the first time nor when the codec knows the class."""
    codec = PayloadCodec()
    for number in range(3):
        assert codec.encode(cls(url=str(number)), no_ancestor) == b'{"url":"%d"}' % number


@by_kind
def test_restored_items_have_what_the_class_says_today(cls: Any) -> None:
    """Whatever was recorded by an older version."""
    codec = PayloadCodec()
    for payload in (b'{"url":"u"}', OLD_PAYLOAD, b'{"url":"u"}', OLD_PAYLOAD):
        restored = codec.decode(type_name(cls), payload, no_item)
        assert type_name(type(restored)) == type_name(cls)
        assert {name: getattr(restored, name) for name in ("url", *policies_of(cls))} == {
            "url": "u",
            **policies_of(cls),
        }
        assert codec.encode(restored, no_ancestor) == b'{"url":"u"}'
        assert codec.canonical(type_name(cls), payload) == codec.encode(cls(url="u"), no_ancestor)
        assert codec.attributes(type_name(cls), payload) == {"url": "u"}


@by_kind
def test_what_was_recorded_of_it_is_no_field_that_is_gone(cls: Any) -> None:
    """A field that is new may be one that was renamed, but policies are no fields."""
    payload = b'{"timeout_s":1.5,"$extra":{"retry":null}}'
    if cls in (Named, Model):
        payload = b'{"timeout_s":1.5}'
    elif cls is Plain:
        payload = b'{"timeout_s":1.5,"url":""}'
    restored: Any = PayloadCodec().decode(type_name(cls), payload, no_item)
    assert (restored.url, restored.timeout_s, restored.retry) == ("", 30.0, RETRY)


def test_an_item_may_have_nothing_else() -> None:
    """Its state is empty, each time it is written."""

    @dataclasses.dataclass
    class Bare(Item):
        track_overall: bool = True  # type: ignore[misc]

    codec = PayloadCodec()
    for _ in range(3):
        assert codec.encode(Bare(), no_ancestor) == b"{}"


def test_an_item_that_overrides_one_is_written_like_others_each_time() -> None:
    """A value of its own, whatever it is, is dropped; what else it has is not."""

    class Page(Item):
        timeout_s = 30.0

    codec = PayloadCodec()
    for _ in range(2):
        for state in ({"url": "u"}, {"url": "u", "timeout_s": 5.0}, {"timeout_s": [1]}, {"url": "u", "note": "n"}, {}):
            item: Any = Page()
            vars(item).update(state)
            expected = {name: value for name, value in state.items() if name != "timeout_s"}
            assert codec.attributes(type_name(Page), codec.encode(item, no_ancestor)) == expected


def given_each() -> list[type]:
    """Return classes with a field timeout_s that has no default."""

    class PlainGiven(Item):
        timeout_s: float  # type: ignore[misc]

        def __init__(self, timeout_s: float) -> None:
            self.timeout_s = timeout_s

    @dataclasses.dataclass
    class DataclassGiven(Item):
        timeout_s: float  # type: ignore[misc]

    @dataclasses.dataclass(slots=True)
    class SlottedGiven(Item):
        timeout_s: float  # type: ignore[misc]

    @attrs.define
    class AttrsGiven(Item):
        timeout_s: float  # type: ignore[misc]

    return [PlainGiven, SlotsGiven, DataclassGiven, SlottedGiven, AttrsGiven, StructGiven, ModelGiven, NamedGiven]


class SlotsGiven(Worked):
    __slots__ = ("timeout_s",)

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s


class StructGiven(msgspec.Struct, Item):
    timeout_s: float  # type: ignore[misc]


class ModelGiven(pydantic.BaseModel, Item):
    timeout_s: float  # type: ignore[misc]


class NamedGiven(NamedTuple):
    timeout_s: float

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        """Do nothing."""


@pytest.mark.parametrize("number", range(8))
def test_what_each_item_is_given_is_data(number: int) -> None:
    """It configures nothing, and is stored."""
    cls: Any = given_each()[number]
    item = cls(timeout_s=1.5)
    codec = PayloadCodec()
    assert look_up_class(item).policies == Policies()
    payload = codec.encode(item, no_ancestor)
    assert payload == b'{"timeout_s":1.5}'
    restored: Any = codec.decode(type_name(cls), payload, no_item)
    assert restored.timeout_s == 1.5
    assert codec.attributes(type_name(cls), payload) == {"timeout_s": 1.5}


def test_a_subclass_may_say_something_else() -> None:
    """With an annotation or without, what the subclass says goes before the field of its base."""

    class Unannotated(Dataclass):
        timeout_s = 60.0
        track_overall = False

    @dataclasses.dataclass
    class Further(Unannotated):
        depth: int = 0

    @attrs.define
    class Untracked(Attrs):
        track_overall: bool = False  # type: ignore[misc]

    classes: list[Any] = [Unannotated, Further]
    for cls in classes:
        known = look_up_class(cls(url="u"))
        assert (known.policies.timeout_s, known.track_overall, known.all_done) == (60.0, False, True)
        assert previous_names_of(cls) == ()
    assert not look_up_class(Untracked()).track_overall
    assert PayloadCodec().encode(Untracked(url="u"), no_ancestor) == b'{"url":"u"}'


def made_for_each() -> list[type]:
    """Return classes that have policies made for each object."""

    @dataclasses.dataclass
    class DataclassMade(Item):
        retry: Any = dataclasses.field(default_factory=lambda: RETRY)  # type: ignore[misc]

    @attrs.define
    class AttrsMade(Item):
        retry: Any = attrs.field(factory=lambda: RETRY)  # type: ignore[misc]

    return [DataclassMade, AttrsMade, StructMade, ModelMade]


class StructMade(msgspec.Struct, Item):
    retry: Any = msgspec.field(default_factory=lambda: RETRY)  # type: ignore[misc]


class ModelMade(pydantic.BaseModel, Item):
    retry: Any = pydantic.Field(default_factory=lambda: RETRY)  # type: ignore[misc]


@pytest.mark.parametrize("number", range(4))
def test_a_policy_made_for_each_item_is_refused(number: int) -> None:
    """It is asked of the class, which has none then."""
    with pytest.raises(InvalidArgument, match=r"Made\.retry is .*; it must be an aqueue\.Retry"):
        look_up_class(made_for_each()[number]())


@by_kind
def test_a_value_that_an_item_has_of_its_own_is_warned_of(cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no effect and would be lost, which is said once for a class; one that is equal is none."""
    heard: list[str] = []
    monkeypatch.setattr("aqueue._engine.item_class.warn", heard.append)
    item = cls(url="u")
    look_up_class(item)
    if cls is Plain:
        item.timeout_s = 5.0
    else:
        look_up_class(cls(url="u", timeout_s=float("30"), retry=Retry(attempts=3)))
        item = cls(url="u", timeout_s=5.0)
    assert heard == []
    for _ in range(2):
        look_up_class(item)
    [warning] = heard
    assert warning == (
        f"{type_name(cls)}.timeout_s is 30.0, but an item of that class sets it to 5.0, which has no effect and is not "
        "stored: aqueue reads timeout_s from the class; to give each item its own value, use another name"
    )


def test_what_cannot_be_compared_is_not_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the user's objects do."""
    heard: list[str] = []
    monkeypatch.setattr("aqueue._engine.item_class.warn", heard.append)

    class Broken:
        def __eq__(self, other: object) -> bool:
            raise AssertionError

        __hash__ = None  # type: ignore[assignment]

    class Page(Item):
        timeout_s = 30.0

    item: Any = Page()
    item.timeout_s = Broken()
    look_up_class(item)
    assert heard == []


def test_values_in_items_keep_all_that_they_have() -> None:
    """Only items configure aqueue."""

    @dataclasses.dataclass
    class Options:
        timeout_s: float = 30.0

    class Page(Item):
        options: Options

        def __init__(self, options: Options) -> None:
            self.options = options

    Page.__annotations__["options"] = Options
    codec = PayloadCodec()
    payload = codec.encode(Page(Options(5.0)), no_ancestor)
    assert payload == b'{"options":{"$object":["Options",{"timeout_s":5.0}]}}'
    restored: Any = codec.decode(type_name(Page), payload, no_item)
    assert restored.options == Options(5.0)
