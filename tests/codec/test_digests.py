"""Digests are the same in each version of aqueue: a remote API that has seen an item's identity must know it again."""

from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue._codec import digests as digests_module
from aqueue._codec.digests import (
    KEPT_STATE_BYTES,
    DigestSet,
    KeySet,
    Occurrences,
    child_digest,
    digest_of,
    encoded,
    identity_of,
    state_or_digest,
)

PARENT = bytes(range(16))


@pytest.mark.parametrize(
    ("parent", "type", "key", "payload", "occurrence", "expected"),
    [
        (PARENT, "shop:Page", None, b'{"url":"a"}', 0, "5c07136ef815d79397621e8a3cf1379d"),
        (PARENT, "shop:Page", None, b'{"url":"a"}', 3, "fb2db3ce292899c3284ef83fe00fdf1e"),
        (PARENT, "shop:Page", None, b"x" * 5_000, 0, "94fd0fee3b624ce6ab5c62d53465e5e1"),
        (b"run", "shop:Page", "a", b"", 0, "86ff9ea8b3dbb058f8099aafffe9c9a9"),
        (b"run", "shop:Pagé", "\ud800", b"{}", 1, "793662d4984048a02357d970a9b65251"),
    ],
    ids=["the first", "the fourth of equal ones", "a long payload", "a key", "a lone surrogate"],
)
def test_an_identity_is_the_same_in_each_version(
    parent: bytes, type: str, key: str | None, payload: bytes, occurrence: int, expected: str
) -> None:
    """These are what an earlier version computed; they must not change."""
    assert identity_of(parent, type, key, payload, occurrence).hex() == expected


def test_an_identity_is_made_of_parent_class_and_key_or_payload() -> None:
    """With a key the payload makes no difference; how many were equal before does only without."""
    unkeyed = PARENT + b"shop:Page\0p3\0" + b"x" * 5_000
    assert identity_of(PARENT, "shop:Page", None, b"x" * 5_000, 3) == blake2b(unkeyed, digest_size=16).digest()
    assert identity_of(b"run", "shop:Page", "a", b"x", 3) == blake2b(b"runshop:Page\0ka", digest_size=16).digest()


def test_other_digests_are_the_same_in_each_version() -> None:
    """Those of keys, of children and of states."""
    assert digest_of(encoded("a")).hex() == "27c35e6e9373877f29e562464e46497e"
    assert digest_of(encoded("\ud800")).hex() == "b4fe3de0239399efbfffc79686f435f9"
    assert child_digest("shop:Page", b"ka").hex() == "dcb7c55b7491f39c50ce3f1e69132029"
    long = "99da5101f1f947c80e6ecbf89498bea9946f231eb226e0ded7c80ec4cd723f57"
    assert state_or_digest(b"x" * (KEPT_STATE_BYTES + 1)).hex() == long


def test_a_short_state_is_kept_as_it_is() -> None:
    """Up to 256 bytes it is not digested: most items are never compared."""
    state = b"x" * KEPT_STATE_BYTES
    assert state_or_digest(state) is state


def test_a_set_of_keys_knows_the_class_as_well() -> None:
    """A key is there under the names of its own class alone, and one with a lone surrogate is a key as well."""
    keys = KeySet()
    keys.add("shop:Page", "a")
    keys.add("shop:Page", "\ud800")
    assert keys.knows(["shop:Old", "shop:Page"], "a")
    assert keys.knows(["shop:Page"], "\ud800")
    assert not keys.knows(["shop:Old"], "a")
    assert not keys.knows([], "a")
    assert len(keys) == 2


@given(numbers=st.lists(st.integers(0, 400), max_size=300), few=st.integers(0, 20), split=st.integers(0, 300))
def test_a_set_of_digests_is_a_set(numbers: list[int], few: int, split: int) -> None:
    """Of few or many, and where one digest is in the middle of two others of its bucket."""
    digests = [b"\0\1" + bytes(divmod(number, 20)) for number in numbers]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digests_module, "_FEW", few)
        model = set(digests[:split])
        found = DigestSet(4, b"".join(model))
        for digest in digests[split:]:
            assert found.add(digest) == (digest not in model)
            model.add(digest)
        assert set(found) == model
        assert len(found) == len(model)
        assert all(
            (bytes([0, 1, *divmod(number, 20)]) in found) == (b"\0\1" + bytes(divmod(number, 20)) in model)
            for number in range(400)
        )


def test_equal_children_are_counted() -> None:
    """By class and state."""
    children = Occurrences()
    seen = [("a", b"1"), ("a", b"1"), ("b", b"1"), ("a", b"2"), ("a", b"1"), ("b", b"1")]
    assert [children.count(*child) for child in seen] == [0, 1, 0, 0, 2, 1]
