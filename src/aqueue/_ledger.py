"""What is written down about an item when there is a journal: its state, and what makes it the same in every rerun."""

from functools import partial
from hashlib import blake2b

import msgspec

from aqueue._notice import warn
from aqueue._payload import PayloadCodec
from aqueue._tree import Node
from aqueue.errors import AqueueError
from aqueue.events import NO_DATA

__all__ = ["Ledger", "identity_of"]

_IDENTITY_BYTES = 16


def identity_of(parent: bytes, type: str, key: str | None, payload: bytes, occurrence: int) -> bytes:
    """Return a digest of what an item is: 16 bytes that are the same in every rerun, and its own.

    Parameters:
        parent: the identity of its parent; the run's for an initial item, and for one with a key: which of several
            parents is the first to enqueue that is chance.
        type: the name of its class when it was enqueued first.
        key: its key, if it has one; then the payload does not matter.
        payload: its state when it was enqueued first.
        occurrence: how many earlier children of its parent had the same type and payload.
    """
    what = b"p%d\0%b" % (occurrence, payload) if key is None else b"k" + key.encode("utf-8", "surrogatepass")
    whole = b"%b%b\0%b" % (parent, type.encode("utf-8", "surrogatepass"), what)
    return blake2b(whole, digest_size=_IDENTITY_BYTES).digest()


def _ancestor_id(parent: Node | None, candidate: object) -> int | None:
    """Return the number of `candidate` if that is the item of `parent` or of a node above it."""
    while parent is not None:
        if parent.item is candidate:
            return parent.id
        parent = parent.parent
    return None


class Ledger:
    """Encodes items, and notices when their state changes."""

    def __init__(self, codec: PayloadCodec, run_id: str) -> None:
        self._codec = codec
        self._run_identity = run_id.encode()
        self._warned: set[str] = set()

    def state(self, item: object, parent: Node | None) -> bytes:
        """Return the state of `item`, a child of `parent`, as JSON.

        Raises:
            UnstorableItem: it can't be restored exactly.
        """
        return self._codec.encode(item, partial(_ancestor_id, parent))

    def changed_state(self, node: Node) -> msgspec.Raw:
        """Return the state of `node`'s item after its `process` if that has changed since it was recorded."""
        state = self.state(node.item, node.parent)
        now = hash(state)
        if now == node.payload_hash:
            return NO_DATA
        node.payload_hash = now
        return msgspec.Raw(state)

    def check_unchanged(self, node: Node) -> None:
        """Warn, once a class, if the state of `node`'s item has changed since its `process` ended: that isn't kept."""
        type = node.cls.type
        if type in self._warned:
            return
        try:
            changed = hash(self.state(node.item, node.parent)) != node.payload_hash
        except AqueueError:
            changed = True
        if changed:
            self._warned.add(type)
            warn(
                f"{type}: its state was changed after its process had ended (by a child, say); after a crash that change "
                "would be lost. Return results from the children and use aqueue.child_results() instead"
            )

    @staticmethod
    def occurrence(type: str, payload: bytes, occurrences: dict[int, int]) -> int:
        """Count a child of `type` and `payload` in `occurrences`, and return how many there were before."""
        equal = hash(type) ^ hash(payload)  # both are kept with their objects; a tuple's would be made anew
        before = occurrences.get(equal, 0)
        occurrences[equal] = before + 1
        return before

    def identity(self, parent: Node | None, type: str, key: str | None, payload: bytes, occurrence: int) -> bytes:
        """Return what makes a child of `parent` the same in every rerun."""
        above = self._run_identity if parent is None or key is not None else parent.identity
        return identity_of(above, type, key, payload, occurrence)
