"""Adoption: a parent that runs again enqueues its children again, and each is matched with the recorded one.

A child with a key matches the recorded one with the same type and key. Another matches by type and payload, the first
such child with the first recorded, the second with the second, and so on.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

import msgspec

from aqueue._tree import Node
from aqueue.errors import PayloadMismatch, UnknownItemType, UnstorableItem

__all__ = ["RecordedChild", "RecordedChildren"]


class RecordedChild(msgspec.Struct, gc=False, eq=False):
    """A child that an earlier attempt of its parent enqueued.

    Attributes:
        id: its number.
        node: its node; None if its subtree has ended well, so that nothing is left to do.
        type: the name of its class today, or the recorded one if that class is gone.
        key: its key, if it has one.
        payload: its recorded payload.
    """

    id: int
    node: Node | None
    type: str
    key: str | None
    payload: bytes


class RecordedChildren:
    """The recorded children of a parent that runs again, less those that it has enqueued again."""

    def __init__(self, children: list[RecordedChild], canonical: Callable[[str, bytes], bytes]) -> None:
        """Take `children`, in the order in which they were enqueued.

        `canonical` writes a payload as today's class of that name writes it; it is used only once a child matches nothing.
        """
        self._canonical: Callable[[str, bytes], bytes] | None = canonical
        self._by_key: dict[tuple[str, str], RecordedChild] = {}
        self._by_payload: dict[tuple[str, bytes], deque[RecordedChild]] = {}
        self._left = 0
        for child in children:
            self._add(child)

    def _add(self, child: RecordedChild) -> None:
        self._left += 1
        if child.key is not None:
            self._by_key[child.type, child.key] = child
        else:
            self._by_payload.setdefault((child.type, child.payload), deque()).append(child)

    def match(self, type: str, key: str | None, payload: bytes) -> RecordedChild | None:
        """Take out and return the recorded child that an item of this type, key and payload repeats, if any."""
        if not self._left:
            return None
        if key is not None:
            child = self._by_key.pop((type, key), None)
        else:
            child = self._take(type, payload)
            if child is None and self._canonical is not None:
                self._rewrite()
                child = self._take(type, payload)
        if child is not None:
            self._left -= 1
        return child

    def _take(self, type: str, payload: bytes) -> RecordedChild | None:
        found = self._by_payload.get((type, payload))
        if found is None:
            return None
        child = found.popleft()
        if not found:
            del self._by_payload[type, payload]
        return child

    def _rewrite(self) -> None:
        """Write all payloads as today's classes do: a field may have been added since."""
        canonical, self._canonical = self._canonical, None
        assert canonical is not None
        children = sorted(
            (child for found in self._by_payload.values() for child in found),
            key=lambda child: child.id,
        )
        self._by_payload.clear()
        for child in children:
            payload = child.payload
            # A child that has ended may be of a class that is gone, or is no longer what it was.
            with suppress(UnknownItemType, PayloadMismatch, UnstorableItem):
                payload = canonical(child.type, payload)
            self._by_payload.setdefault((child.type, payload), deque()).append(child)

    def __iter__(self) -> Iterator[RecordedChild]:
        """Iterate over those not matched."""
        yield from self._by_key.values()
        for found in self._by_payload.values():
            yield from found
