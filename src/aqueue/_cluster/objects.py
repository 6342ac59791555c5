"""Converts what crosses between coordinator and lanes to bytes and back: items, their state, exceptions, classes."""

from collections.abc import Callable
from typing import Any

from aqueue._cluster.definitions import LaneDefinitions, SentDefinitions
from aqueue._cluster.errors_on_the_wire import dump_error, load_error
from aqueue._cluster.items import Ancestor, AncestorNumber, ItemPickles, is_flat
from aqueue.errors import UnsendableItem

__all__ = ["CoordinatorObjects", "LaneObjects"]


class CoordinatorObjects:
    """The coordinator's side.

    Attributes:
        definitions: what each lane has to be given, in this order, before it loads an item that was dumped since.
    """

    def __init__(self, lifespan: Callable[..., Any] | None = None) -> None:
        """Send the lanes `lifespan` with the first definitions.

        Raises:
            InvalidArgument: it can't be sent.
        """
        self._sent = SentDefinitions(lifespan)
        self._items = ItemPickles(self._sent)
        self.definitions: list[bytes] = self._sent.pickled

    def check_item(self, item: object, ancestor_number: AncestorNumber) -> None:
        """Raise `UnsendableItem` if `item` can't be sent."""
        self._items.check(item, ancestor_number)

    def dump_item(self, item: object, ancestor_number: AncestorNumber) -> bytes:
        """Return `item` as bytes; objects that `ancestor_number` knows are written as references.

        Raises:
            UnsendableItem: it can't be sent.
        """
        return self._items.dump(item, ancestor_number)

    def load_item(self, data: bytes, ancestor: Ancestor) -> object:
        """Return the child that a lane has dumped.

        Raises:
            UnsendableItem: this program can't make it; its class is missing, say.
        """
        return self._items.load(data, ancestor)

    def apply_state(self, item: object, data: bytes, ancestor: Ancestor) -> object:
        """Give `item` the state that its process left it with, and return it; or its replacement, if it can't change.

        Raises:
            UnsendableItem: this program can't make what is in it.
        """
        return self._items.apply_state(item, data, ancestor)

    def load_error(self, data: bytes) -> BaseException:
        """Return the exception that a lane has dumped, or a `RemoteError` that stands for it; never raises."""
        return load_error(data, self._sent.find)


class LaneObjects:
    """A lane's side, in another process; or, with a cluster of threads, in the coordinator's own."""

    def __init__(self) -> None:
        self._definitions = LaneDefinitions()
        self._items = ItemPickles(self._definitions)

    @property
    def lifespan(self) -> Callable[..., Any] | None:
        """What the coordinator was given as such."""
        return self._definitions.lifespan

    def define(self, definitions: bytes) -> None:
        """Take in definitions that the coordinator has pickled.

        Raises:
            UnsendableItem: a class in it can't be made here; a module is missing, say.
        """
        self._definitions.define(definitions)

    def load_item(self, data: bytes, ancestor: Ancestor) -> tuple[object, bytes]:
        """Return the item that the coordinator has dumped, and its state, for `changed_state`.

        Raises:
            UnsendableItem: it can't be made here.
        """
        numbers: dict[int, int] = {}

        def numbered_ancestor(number: int) -> object:
            found = ancestor(number)
            numbers[id(found)] = number
            return found

        item = self._items.load(data, numbered_ancestor)
        if is_flat(data):
            return item, data
        try:
            # Written again: another process's bytes may differ though the state is the same.
            return item, self._items.dump_state(item, lambda value: numbers.get(id(value)))
        except UnsendableItem:  # it is of those that can be loaded only
            return item, b""

    def dump_item(self, item: object, ancestor_number: AncestorNumber) -> bytes:
        """Return a child as bytes.

        Raises:
            UnsendableItem: it can't be sent.
        """
        return self._items.dump(item, ancestor_number)

    def changed_state(self, item: object, before: bytes, ancestor_number: AncestorNumber) -> bytes | None:
        """Return the state of `item` as bytes, or None if it is as it was `before`.

        Raises:
            UnsendableItem: it can't be sent.
        """
        state = self._items.dump_state(item, ancestor_number)
        return None if self._items.is_unchanged(item, state, before) else state

    def dump_error(self, error: BaseException) -> bytes:
        """Return an exception as bytes, with all that it says; never raises."""
        return dump_error(error, self._definitions.key_of)
