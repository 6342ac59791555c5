"""The visited set: which keys of which item types have been enqueued, over the whole run."""

from collections.abc import Iterable
from hashlib import blake2b

__all__ = ["KeySet"]


class KeySet:
    """A set of (type, key) pairs, kept as 16-byte digests so that long keys cost no more than short ones.

    Two different pairs have the same digest with a probability of about 1 in 10^26 among a million (2^-128 a pair).
    """

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def add(self, type: str, key: str) -> None:
        """Add a pair."""
        self._digests.add(self._digest(type, key))

    def knows(self, types: Iterable[str], key: str) -> bool:
        """Tell whether `key` is there under one of `types`, the names that one class has or had."""
        return any(self._digest(type, key) in self._digests for type in types)

    def __eq__(self, other: object) -> bool:
        return self._digests == other._digests if isinstance(other, KeySet) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __len__(self) -> int:
        return len(self._digests)

    @staticmethod
    def _digest(type: str, key: str) -> bytes:
        # NUL is in no class name: no two pairs are written alike.
        return blake2b(f"{type}\0{key}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
