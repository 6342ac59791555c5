"""A journal from a stranger can make no more than wrong values: nothing is run, imported or made of other classes."""

import contextlib
import dataclasses
import json
import sys
import zoneinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue._codec.class_names import type_name
from aqueue._codec.item_codec import MAX_DEPTH, PayloadCodec, references
from aqueue.errors import PayloadMismatch
from tests.codec import kinds
from tests.codec.kinds import AnnotatedItem, DataclassItem, DumpedItem, PlainItem, PydanticItem, SlottedItem
from tests.codec.test_round_trips import no_ancestor

# Python's own list of time zones imports tzdata, where it is installed: once, and by no name from a payload.
assert "Europe/Berlin" in zoneinfo.available_timezones()

CLASSES: list[type] = [
    AnnotatedItem,
    DataclassItem,
    PlainItem,
    PydanticItem,
    SlottedItem,
    DumpedItem,
    kinds.AttrsItem,
    kinds.StructItem,
    kinds.FrozenStructItem,
    kinds.TupleItem,
]
TAGS = [
    *("$str", "$int", "$float", "$bytes", "$bytearray", "$datetime", "$date", "$time", "$timedelta", "$uuid"),
    *("$decimal", "$path", "$pure_posix_path", "$pure_windows_path", "$tuple", "$set", "$frozenset", "$dict"),
    *("$item", "$enum", "$object", "$dump", "$extra", "$private", "$unset", "$type", "$import", "$", "py/object"),
]
NAMES = [
    *("url", "data", "more", "point", "modes", "either", "literal", "trees", "rights", "made", "later", "model"),
    *("number", "_private", "first_url", "headers", "pair", "range", "process", "__class__", "__dict__", "x"),
]
STRINGS = ["os:system", "Point", "Mode", "FAST", "nan", "0x1", "2026-01-01", "../../etc/passwd", "Europe/Berlin", "x/y"]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=4)
    | st.sampled_from(STRINGS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*TAGS, *NAMES]), inner, max_size=1)
        | st.dictionaries(st.sampled_from([*TAGS, *NAMES]), inner, max_size=4)
    ),
    max_leaves=10,
)
objects = st.dictionaries(st.sampled_from([*NAMES, *TAGS]), json_values, max_size=4) | json_values


class Ancestors:
    """The ancestors of an item, of which there is one.

    Attributes:
        asked: the numbers that were asked for.
    """

    def __init__(self) -> None:
        """None was asked for yet."""
        self.asked: set[int] = set()

    def __call__(self, number: int) -> object:
        """Return the ancestor with that number."""
        self.asked.add(number)
        if number != 1:
            raise PayloadMismatch("no such ancestor")
        return self


@pytest.mark.parametrize("cls", CLASSES, ids=[cls.__name__ for cls in CLASSES])
@given(raw=objects)
def test_any_json_is_restored_or_refused(cls: type, raw: object) -> None:
    """Whatever JSON a payload is, it gives an item of its class or a PayloadMismatch, and no module is imported.

    No ancestor is asked for but those that the payload is known to refer to, without its class.
    """
    codec = PayloadCodec()
    ancestors = Ancestors()
    payload = json.dumps(raw).encode()
    before = set(sys.modules)
    try:
        item = codec.decode(type_name(cls), payload, ancestors)
    except PayloadMismatch as error:
        message = str(error)
    else:
        message = ""
        assert type(item) is cls
    assert "\n" not in message
    assert ancestors.asked <= set(references(payload))
    assert set(sys.modules) - before <= {"tzdata", "tzdata.zoneinfo", "tzdata.zoneinfo.Europe"}


@pytest.mark.parametrize("cls", CLASSES, ids=[cls.__name__ for cls in CLASSES])
@given(data=st.binary(max_size=30))
def test_any_bytes_are_refused_or_restored(cls: type, data: bytes) -> None:
    """Bytes that are no JSON at all give the same error."""
    with contextlib.suppress(PayloadMismatch):
        assert type(PayloadCodec().decode(type_name(cls), data, Ancestors())) is cls


WRONG: dict[str, Any] = {
    "an unknown tag": {"$type": "os:system"},
    "a tag beside other keys": {"$tuple": [], "a": 1},
    "a class that the annotation doesn't name": {"$object": ["Popen", {"args": ["true"]}]},
    "an item class as a value": {"$object": ["PlainItem", {}]},
    "an enum that the annotation doesn't name": {"$enum": ["Mode", "FAST"]},
    "bytes that are no base64": {"$bytes": "%"},
    "a set of lists": {"$set": [[]]},
    "a dict of one": {"$dict": [[1]]},
    "a dict with lists as keys": {"$dict": [[[], 1]]},
    "a zone that is a path": {"$datetime": ["2026-01-01T00:00:00", "../../etc/passwd", 0]},
    "a zone that is a module": {"$datetime": ["2026-01-01T00:00:00", "this/that", 0]},
    "a wrong fold": {"$time": ["12:00", None, 2]},
    "an interval out of range": {"$timedelta": [10**12, 0, 0]},
    "an interval of floats": {"$timedelta": [0.5, 0, 0]},
    "a number as a path": {"$path": 3},
    "a float as an integer": {"$int": "1.5"},
    "another float": {"$float": "1e5"},
    "a boolean as an item": {"$item": True},
    "a float as an item": {"$item": 1.0},
    "an item that is no ancestor": {"$item": 2},
}


@pytest.mark.parametrize("what", list(WRONG))
def test_what_is_never_written_is_refused(what: str) -> None:
    """A payload that aqueue would not have written is told from one that it has, by class and attribute."""
    before = set(sys.modules)
    payload = json.dumps({"url": "u", "data": {"a": [WRONG[what]]}}).encode()
    with pytest.raises(PayloadMismatch) as caught:
        PayloadCodec().decode(type_name(PlainItem), payload, Ancestors())
    assert set(sys.modules) == before
    if what != "an item that is no ancestor":
        assert "kinds:PlainItem can't be restored: attribute 'data': " in str(caught.value)


@pytest.mark.parametrize("name", ["__class__", "__dict__", "__init__"])
def test_no_special_attribute_is_set(name: str) -> None:
    """An object's class and methods are not data."""
    with pytest.raises(PayloadMismatch, match="has a name that can't be restored"):
        PayloadCodec().decode(type_name(PlainItem), json.dumps({name: "x"}).encode(), Ancestors())


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"$tuple":[', '{"$dict":[[0,', '{"$object":["Tree",{"value":'])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 10, 3_000, 200_000])
def test_deep_nesting_is_refused(opening: str, depth: int) -> None:
    """A payload nested however deep is an error, not the end of the process."""
    payload = ('{"data":' + opening * depth).encode()
    closing = {"[": "]", "{": "}"}
    payload += "".join(closing[c] for c in reversed(opening) if c in closing).encode() * depth + b"}"
    payload = payload.replace(b"[]", b"[1]").replace(b":}", b":1}").replace(b",]", b",1]")
    with pytest.raises(PayloadMismatch):
        PayloadCodec().decode(type_name(PlainItem), payload, Ancestors())


def test_a_long_payload_is_read() -> None:
    """Ten megabytes of values are only that, whatever kind they are of."""
    codec = PayloadCodec()
    for data in ("x" * 10_000_000, {"$int": "0x" + "f" * 10_000_000}, {"$decimal": "1" * 1_000_000}, [1] * 1_000_000):
        item: Any = codec.decode(type_name(PlainItem), json.dumps({"data": data}).encode(), Ancestors())
        assert item.data


def test_a_huge_number_is_refused_or_exact() -> None:
    """Numbers that JSON may hold and Python's floats not are no infinity."""
    codec = PayloadCodec()
    with pytest.raises(PayloadMismatch):
        codec.decode(type_name(PlainItem), b'{"data":1e999}', Ancestors())


def test_values_in_a_payload_are_trusted_only_as_values() -> None:
    """An attribute may get a value of another type than the class annotates: it is data, and the class must expect it."""
    item: Any = PayloadCodec().decode(type_name(AnnotatedItem), b'{"point":"no point"}', Ancestors())
    assert item.point == "no point"
    assert dataclasses.is_dataclass(kinds.Point)
    assert PayloadCodec().encode(item, no_ancestor)
