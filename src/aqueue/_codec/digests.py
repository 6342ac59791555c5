"""Digests of keys, items and states: short, and the same in each process and version of aqueue.

A remote API recognizes an item by its identity, so what is hashed must never change.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

__all__ = [
    "DIGEST_BYTES",
    "KEPT_STATE_BYTES",
    "KeySet",
    "child_digest",
    "digest_of",
    "encoded",
    "identity_of",
    "pair_digest",
    "state_or_digest",
]

DIGEST_BYTES: Final = 16
"""The length of a digest; a state's is longer."""

KEPT_STATE_BYTES: Final = 256
"""The length up to which a state is kept as it is, which saves making a digest for each item."""

_STATE_DIGEST_BYTES: Final = 32


def encoded(text: str) -> bytes:
    """Return `text` as UTF-8, lone surrogates and all: an older journal may have a key with one."""
    return text.encode("utf-8", "surrogatepass")


def digest_of(data: bytes) -> bytes:
    """Return the digest of `data`."""
    return blake2b(data, digest_size=DIGEST_BYTES).digest()


def identity_of(parent: bytes, type: str, key: str | None, payload: bytes, occurrence: int) -> bytes:
    """Return the identity of an item: 16 bytes that are the same in every rerun, and no other item's.

    Parameters:
        parent: the identity of its parent; that of the run for an initial item, and for an item with a key, since it is
            chance which of several parents enqueues that first.
        type: the name of its class when it was first enqueued.
        key: its key, if it has one; the payload does not matter then.
        payload: its state when it was first enqueued.
        occurrence: how many earlier children of its parent had the same type and payload.
    """
    digest = blake2b(b"%b%b\0" % (parent, encoded(type)), digest_size=DIGEST_BYTES)
    if key is None:
        digest.update(b"p%d\0" % occurrence)
        digest.update(payload)  # on its own, so that a long payload is not copied
    else:
        digest.update(b"k" + encoded(key))
    return digest.digest()


def child_digest(type: str, what: bytes) -> bytes:
    """Return the digest that tells a child of class `type` from its siblings; `what` is its key or its state."""
    return digest_of(b"%b\0%b" % (encoded(type), what))


def state_or_digest(state: bytes) -> bytes:
    """Return `state`, or the digest of a long one, which would be in memory twice, to compare it with later."""
    return state if len(state) <= KEPT_STATE_BYTES else blake2b(state, digest_size=_STATE_DIGEST_BYTES).digest()


class KeySet:
    """A set of (type, key) pairs, kept as 16-byte digests so that long keys cost no more than short ones.

    Two different pairs have the same digest with a probability of about 1 in 10^26 among a million (2^-128 per pair).
    """

    def __init__(self, digests: bytes | bytearray = b"") -> None:
        """Make a set of the pairs of which `digests` has the `pair_digest`s, one after the other."""
        data = bytes(digests)
        self._digests = {data[start : start + DIGEST_BYTES] for start in range(0, len(data), DIGEST_BYTES)}

    def add(self, type: str, key: str) -> None:
        """Add a pair."""
        self._digests.add(pair_digest(type, key))

    def knows(self, types: Iterable[str], key: str) -> bool:
        """Return whether the set has `key` with one of `types`, the present and former names of a class."""
        return any(pair_digest(type, key) in self._digests for type in types)

    def __eq__(self, other: object) -> bool:
        return self._digests == other._digests if isinstance(other, KeySet) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __len__(self) -> int:
        return len(self._digests)


def pair_digest(type: str, key: str) -> bytes:
    """Return the digest that stands for a pair in a `KeySet`."""
    # NUL is in no class name, so two different pairs give two different texts.
    return digest_of(encoded(f"{type}\0{key}"))
