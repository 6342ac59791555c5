"""What a journal needs of an item: its state as JSON, and an identity that is the same in every rerun."""

from contextlib import suppress
from functools import partial
from typing import Any, Final

import msgspec

from aqueue._codec.digests import KEPT_STATE_BYTES, identity_of, state_or_digest
from aqueue._codec.item_codec import PayloadCodec
from aqueue._codec.results import LARGE_BYTES, MAX_BYTES, OnLarge
from aqueue._engine.item_class import ItemClass
from aqueue._engine.tree import JournaledNode, Node
from aqueue._system.notice import warn
from aqueue.errors import AqueueError, PayloadMismatch, UnstorableItem
from aqueue.events import NO_DATA, ItemEnqueued

__all__ = ["Payloads", "ancestor", "ancestor_id"]

_REFERENCE: Final = b'"$item"'
"""What every payload has in it that refers to an ancestor."""


def ancestor_id(parent: Node | None, candidate: object) -> int | None:
    """Return the number of `candidate`, if it is the item of `parent` or of a node above it."""
    while parent is not None:
        if parent.item is candidate:
            return parent.id
        parent = parent.parent
    return None


def ancestor(node: Node | None, number: int) -> Any:
    """Return the item numbered `number`, of `node` or of a node above it.

    Raises:
        LookupError: there is none.
    """
    while node is not None and node.id != number:
        node = node.parent
    if node is None:
        raise LookupError(f"item {number} is not above")
    return node.item


class Payloads:
    """Encodes items, detects changes of their state, and computes their identities.

    Attributes:
        codec: encodes and decodes items.
    """

    def __init__(self, codec: PayloadCodec, run_id: str, on_large: OnLarge | None = None) -> None:
        """Encode with `codec`; call `on_large` for each large state that is recorded."""
        self.codec = codec
        self._write_plain = codec.write_plain
        self._run_identity = run_id.encode()
        self._on_large = on_large
        self._warned: set[str] = set()

    # ---- states -------------------------------------------------------------------------------------------------

    def state(self, item: object, parent: Node | None) -> bytes:
        """Return the state of `item`, a child of `parent`, as JSON.

        Raises:
            UnstorableItem: it can't be restored exactly.
        """
        write = self._write_plain.get(type(item))
        if write is not None:
            state = write(item)
            if state is not None:
                return state
        return self.codec.encode(item, partial(ancestor_id, parent))

    def keep_long(self, state: bytes, type: str) -> bytes:
        """Return `state_or_digest` of a state that will be recorded; `type` is the class for a warning.

        Raises:
            UnstorableItem: it is longer than a row of a journal can be.
        """
        if len(state) > LARGE_BYTES:
            self._look_at_large(state, type)
        return state_or_digest(state)

    @staticmethod
    def refuse_too_long(state: bytes, type: str) -> None:
        """Raise `UnstorableItem` if a state is longer than a row of a journal can be."""
        if len(state) > MAX_BYTES:
            raise UnstorableItem(
                f"{type} can't be stored: its attributes take {len(state):,} bytes as JSON, but a journal holds "
                f"at most {MAX_BYTES:,}; write large data to a file, and keep the file's path in the item"
            )

    def _look_at_large(self, state: bytes, type: str) -> None:
        self.refuse_too_long(state, type)
        if self._on_large is not None:
            self._on_large(type, "attributes", len(state))

    def changed_state(self, node: Node) -> msgspec.Raw:
        """Return the state of the item of `node` if it has changed since it was recorded; otherwise `NO_DATA`.

        Raises:
            UnstorableItem: a decoded copy would differ from it, or it is longer than a row of a journal can be.
        """
        state = self.state(node.item, node.parent)
        kept = state_or_digest(state)
        if kept == node.state:
            return NO_DATA
        if len(state) > LARGE_BYTES:
            self._look_at_large(state, node.cls.type)
        self.identity(node)  # compute it from the old state, before that is replaced
        node.state = kept
        return msgspec.Raw(state)

    def check_unchanged(self, node: Node) -> None:
        """Warn, once per class, if the state of an item changed after its `process`: such a change isn't recorded."""
        type = node.cls.type
        if type in self._warned:
            return
        try:
            changed = state_or_digest(self.state(node.item, node.parent)) != node.state
        except AqueueError:
            changed = True
        if changed:
            self._warned.add(type)
            warn(
                f"item {node.id} ({type}) was changed after its process had ended (by a child, for example); a crash loses that "
                "change. Return results from the children, and read them with aqueue.child_results() instead"
            )

    def decode(self, type: str, state: bytes, parent: Node | None) -> object:
        """Return an item with this state, a child of `parent`.

        Raises:
            UnknownItemType, PayloadMismatch: see `PayloadCodec.decode`.
        """
        return self.codec.decode(type, state, partial(ancestor, parent))

    def announced_node(
        self, event: ItemEnqueued, state: bytes, item: object, parent: Node | None, cls: ItemClass, group: str | None
    ) -> JournaledNode:
        """Return a new node of an item that waits as it was announced, with this state."""
        identity = b""
        if event.key is not None:
            identity = self.identity_of_keyed(event.type, event.key)
        elif len(state) > KEPT_STATE_BYTES:
            identity = self.identity_of_long(parent, event.type, state, event.occurrence)
        return JournaledNode(
            event.item,
            item,
            parent,
            cls,
            group=group,
            state=state_or_digest(state),
            occurrence=event.occurrence,
            identity=identity,
        )

    def restore(self, node: Node, state: bytes) -> None:
        """Decode the item of `node` once more, if it refers to an ancestor, which may be another object by now."""
        if _REFERENCE in state:
            # It could be decoded before, so an error now comes from the class's own code; then the item stays as it is.
            with suppress(PayloadMismatch):
                node.item = self.decode(node.cls.type, state, node.parent)

    # ---- identities ---------------------------------------------------------------------------------------------

    def identity_of_keyed(self, type: str, key: str) -> bytes:
        """Return the identity of an item with a key.

        It is computed at once, since the node doesn't keep the key. The same holds for a long state. All other identities are
        computed by `identity` when asked for, which is rare.
        """
        return identity_of(self._run_identity, type, key, b"", 0)

    def identity_of_long(self, parent: Node | None, type: str, payload: bytes, occurrence: int) -> bytes:
        """Return the identity of a child of `parent` that has no key, and whose node doesn't keep its state."""
        above = self._run_identity if parent is None else self.identity(parent)
        return identity_of(above, type, None, payload, occurrence)

    def identity(self, node: Node) -> bytes:
        """Return the identity of the item of `node`. Safe in any thread while the item runs."""
        unknown: list[tuple[Node, bytes]] = []
        above: Node | None = node
        identity = self._run_identity
        while above is not None:
            state = above.state  # read before `identity`: `changed_state` sets them in the other order
            if above.identity:
                identity = above.identity
                break
            unknown.append((above, state))
            above = above.parent
        for below, state in reversed(unknown):
            identity = below.identity = identity_of(identity, below.cls.type, None, state, below.occurrence)
        return identity
