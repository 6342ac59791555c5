"""The attributes of recorded payloads, by which items of a class that has changed are told apart."""

from typing import Any

import pytest

from aqueue._codec.class_names import type_name
from aqueue._codec.item_codec import PayloadCodec
from aqueue.errors import PayloadMismatch
from tests.codec.kinds import DataclassItem, DumpedItem, PydanticItem, SmallItem
from tests.codec.test_round_trips import no_ancestor


def attributes(item: object) -> dict[str, Any]:
    """Return the attributes of what is written for `item`."""
    codec = PayloadCodec()
    return codec.attributes(type_name(type(item)), codec.encode(item, no_ancestor))


def test_they_are_what_json_gives_back() -> None:
    """A value that JSON lacks stays as it was written."""
    assert attributes(SmallItem("u", 3)) == {"url": "u", "number": 3}
    assert attributes(SmallItem({"$": [1]}, (1,))) == {"url": {"$dict": [["$", [1]]]}, "number": {"$tuple": [1]}}


def test_those_that_are_no_fields_are_among_them() -> None:
    """Nobody sees where they were recorded."""
    item: Any = DataclassItem("u", start=4)
    assert attributes(item) == {"url": "u", "data": None, "made": [], "alone": 7, "beside": 4}
    model: Any = PydanticItem.model_validate({"url": "u", "other": 1})
    assert attributes(model) == {"url": "u", "model": None, "number": 1, "other": 1, "_private": 0}


def test_what_dump_returned_is_one() -> None:
    """It is compared as a whole."""
    assert attributes(DumpedItem({"a": 1})) == {"$dump": {"a": 1}}


def test_the_class_may_be_gone() -> None:
    """Children that have ended are told apart though nobody can make them again."""
    assert PayloadCodec().attributes("gone:Page", b'{"url":"u","$extra":{"n":1}}') == {"url": "u", "n": 1}


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"{", b'{"$extra":1}', b'{"$private":[[1,2]]}', b'{"$extra":null}', b'{"a":' * 5000]
)
def test_what_was_never_written_is_refused(payload: bytes) -> None:
    """As when an item is made of it."""
    with pytest.raises(PayloadMismatch, match="an item of gone:Page can't be restored"):
        PayloadCodec().attributes("gone:Page", payload)
