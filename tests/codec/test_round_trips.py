"""What is stored is restored: of the same type, equal, and so all that it is made of.

Single values are `_codec.values`; what an annotation allows is `_codec.annotations`; where a class has its state,
`_codec.object_kinds`.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue import Item
from aqueue._codec.class_names import type_name
from aqueue._codec.item_codec import PayloadCodec
from tests.codec.kinds import (
    ITEMS,
    DataclassItem,
    DumpedItem,
    FrozenStructItem,
    PlainItem,
    PydanticItem,
    SmallDataclassItem,
    SmallItem,
    Tree,
    same,
    values,
)


def no_ancestor(value: object) -> None:
    """Say that no object is an ancestor."""


def no_item(number: int) -> object:
    """Refuse to give an ancestor."""
    raise AssertionError(number)


by_kind = pytest.mark.parametrize("kind", list(ITEMS))


@by_kind
@given(data=st.data())
def test_an_item_is_restored_equal_and_of_the_same_type(kind: str, data: st.DataObject) -> None:
    """Whatever an item holds of what can be stored, it holds again when it is restored, the short way as the long."""
    item = data.draw(ITEMS[kind])
    codec = PayloadCodec()
    name = type_name(type(item))
    payload = codec.encode(item, no_ancestor)
    restored = codec.decode(name, payload, no_item)
    assert same(restored, item)
    # Now the codec knows the names of the attributes, and takes the short way where there is one.
    assert codec.encode(item, no_ancestor) == payload
    assert codec.encode(restored, no_ancestor) == payload
    assert same(codec.decode(name, payload, no_item), item)


@by_kind
@given(data=st.data())
def test_the_canonical_payload_is_that_of_an_equal_item(kind: str, data: st.DataObject) -> None:
    """A recorded child matches the same child enqueued again: equal items give the same bytes."""
    item = data.draw(ITEMS[kind])
    equal = copy.deepcopy(item) if not isinstance(item, DumpedItem) else DumpedItem(copy.deepcopy(item.data))
    payload = PayloadCodec().encode(item, no_ancestor)
    assert PayloadCodec().canonical(type_name(type(item)), payload) == PayloadCodec().encode(equal, no_ancestor)


@pytest.mark.parametrize("cls", [SmallItem, SmallDataclassItem])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**63, -(2**63) - 1, 2**70, "\ud800", -0.0, True, 1e16])
def test_the_short_way_lets_nothing_slip_through(cls: Callable[[Any, Any], Any], value: object) -> None:
    """A class whose simple items were stored many times still tells what JSON can't carry, and writes the same bytes."""
    codec = PayloadCodec()
    name = f"{cls.__module__}:{cls.__name__}"
    for _ in range(2):
        codec.decode(name, codec.encode(cls("u", 1), no_ancestor), no_item)
    payload = codec.encode(cls("u", value), no_ancestor)
    assert same(codec.decode(name, payload, no_item), cls("u", value))
    assert payload == PayloadCodec().encode(cls("u", value), no_ancestor)


def test_the_order_of_attributes_and_sets_is_no_difference() -> None:
    """Two equal items give the same bytes although their attributes were set, and their sets filled, in other orders."""
    one, other = PlainItem("u", {"a", "b", 1, None}), PlainItem.__new__(PlainItem)
    other.more, other.data, other.url = [], {None, 1, "b", "a"}, "u"
    codec = PayloadCodec()
    for _ in range(2):  # the long way, then the short
        assert codec.encode(one, no_ancestor) == codec.encode(other, no_ancestor)


def test_dicts_keep_their_order() -> None:
    """A restored dict is iterated in the order in which it was made."""
    codec = PayloadCodec()
    item = PlainItem({"z": 1, "a": 2}, {2: "b", 1: "a"})
    restored: Any = codec.decode(type_name(PlainItem), codec.encode(item, no_ancestor), no_item)
    assert (list(restored.url), list(restored.data)) == (["z", "a"], [2, 1])


def test_the_payload_is_plain_json() -> None:
    """A person reading the journal sees the attributes by name."""
    codec = PayloadCodec()
    assert codec.encode(PlainItem("https://x.y", 3), no_ancestor) == b'{"data":3,"more":[],"url":"https://x.y"}'


def test_an_ancestor_is_restored_as_the_same_object() -> None:
    """A child's links to its parents lead to the parents themselves, also from inside containers and values."""
    grandparent, parent = PlainItem("a", 1), DataclassItem("b")
    numbers = {id(grandparent): 3, id(parent): 17}
    objects = {3: grandparent, 17: parent}
    child = DataclassItem(parent, {"up": [grandparent, (parent,)]}, made=[parent, None])
    codec = PayloadCodec()
    payload = codec.encode(child, lambda value: numbers.get(id(value)))
    restored: Any = codec.decode(type_name(DataclassItem), payload, objects.__getitem__)
    assert restored.url is parent
    assert restored.made[0] is parent
    assert restored.data["up"][0] is grandparent
    assert restored.data["up"][1][0] is parent
    # Matching a recorded child needs only the number of its parent, not the parent.
    assert codec.canonical(type_name(DataclassItem), payload) == payload


def test_a_dumped_item_may_refer_to_an_ancestor() -> None:
    """What dump returns may hold an ancestor, and load gets that same object."""
    parent = PlainItem("a", 1)
    codec = PayloadCodec()
    payload = codec.encode(DumpedItem({"up": parent}), lambda value: 5 if value is parent else None)
    restored: Any = codec.decode(type_name(DumpedItem), payload, {5: parent}.__getitem__)
    assert restored.data["up"] is parent
    assert codec.canonical(type_name(DumpedItem), payload) == payload


def test_no_constructor_is_called() -> None:
    """Restoring has no side effect that a constructor has, and no need of its arguments."""
    made = []

    class Announcing(PlainItem):
        def __init__(self) -> None:
            made.append(self)
            super().__init__("u", 1)

    codec = PayloadCodec()
    payload = codec.encode(Announcing(), no_ancestor)
    restored = codec.decode(type_name(Announcing), payload, no_item)
    assert type(restored) is Announcing
    assert len(made) == 1


@dataclass
class Linked:
    outer: Self | None = None


@dataclass(slots=True)
class DerivedLinked(Linked):
    others: "tuple[Self, ...]" = ()


@attrs.define
class AttrsLinked:
    outer: Self | None = None


class StructLinked(msgspec.Struct):
    outer: Self | None = None


class ModelLinked(pydantic.BaseModel):
    outer: Self | None = None


class NamedLinked(NamedTuple):
    outer: Self | None = None  # type: ignore[misc]  # mypy knows no Self in a named tuple; Python does


class Searched(Item):
    at: Linked | DerivedLinked | AttrsLinked | StructLinked | ModelLinked | NamedLinked

    def __init__(self, at: Any) -> None:
        self.at = at


@pytest.mark.parametrize(
    "at",
    [
        Linked(Linked()),
        DerivedLinked(DerivedLinked(), (DerivedLinked(),)),
        AttrsLinked(AttrsLinked()),  # type: ignore[arg-type]  # mypy takes no Self for the class itself here
        StructLinked(StructLinked()),
        ModelLinked(outer=ModelLinked()),
        NamedLinked(NamedLinked()),
    ],
    ids=lambda at: type(at).__name__,
)
def test_self_in_an_annotation_names_the_class_that_has_it(at: object) -> None:
    """An object whose field is annotated with `Self` holds another one of its class, and both are restored."""
    codec = PayloadCodec()
    item = Searched(at)
    assert same(codec.decode(type_name(Searched), codec.encode(item, no_ancestor), no_item), item)


def test_pydantic_keeps_which_fields_were_set() -> None:
    """What a model tells about itself (`exclude_unset`, extra fields) is the same after a resume."""
    item = PydanticItem(url="u", unforeseen=3)  # type: ignore[call-arg]
    codec = PayloadCodec()
    restored: Any = codec.decode(type_name(PydanticItem), codec.encode(item, no_ancestor), no_item)
    assert restored == item
    assert restored.model_dump(exclude_unset=True) == {"url": "u", "unforeseen": 3}


def test_a_struct_without_garbage_collection_keeps_its_options() -> None:
    """A Struct is made by its own constructor, so its options hold for a restored one."""
    codec = PayloadCodec()
    item = FrozenStructItem(url=[1])
    restored: Any = codec.decode(type_name(FrozenStructItem), codec.encode(item, no_ancestor), no_item)
    with pytest.raises(AttributeError):
        restored.url = 2


@given(values, st.integers(1, 160))
def test_deep_values_are_restored(value: object, depth: int) -> None:
    """Nesting is no difficulty below the limit."""
    for _ in range(depth):
        value = [value]
    codec = PayloadCodec()
    item = PlainItem(value, Tree(value=None).value)
    assert same(codec.decode(type_name(PlainItem), codec.encode(item, no_ancestor), no_item), item)
