"""What is known about each class of items, looked up once, and the counts of its items."""

from collections.abc import Callable
from typing import Any

from aqueue._engine.item_class import ItemClass, Policies, look_up_class
from aqueue._engine.misspelt import warn_of_misspelt
from aqueue.events import Counts

__all__ = ["ClassRegistry"]


class ClassRegistry:
    """The classes of a run's items.

    Attributes:
        by_type: an entry per class, by the class itself; the first look-up for each enqueued item.
        policies: the policies of classes that don't set their own.
        is_elsewhere: whether `process` runs in other processes.
    """

    def __init__(self, policies: Policies, on_grouped: Callable[[], object], *, is_elsewhere: bool) -> None:
        """Start without classes.

        Parameters:
            policies: the policies of classes that don't set their own.
            on_grouped: called when a class is found whose items have groups.
            is_elsewhere: whether `process` runs in other processes. An attempt is then more than a call, for every class.
        """
        self.by_type: dict[type, ItemClass] = {}
        self.policies = policies
        self._on_grouped = on_grouped
        self.is_elsewhere = is_elsewhere
        self._by_looks: dict[tuple[object, ...], ItemClass] = {}

    def look_up(self, item: Any) -> ItemClass:
        """Return what is known about the class of `item`, which is not in `by_type` yet.

        Raises:
            InvalidItem, InvalidArgument: see `look_up_class`.
        """
        cls = self.known(look_up_class(item, self.policies))
        warn_of_misspelt(type(item))
        # If only this instance has a `process`, the next one of the class may differ.
        if hasattr(type(item), "process"):
            self.by_type[type(item)] = cls
        return cls

    def announced_as(self, item: Any, type_: str, *, track_overall: bool, hook: bool) -> ItemClass:
        """Return what is known about the class of `item`, which an earlier process may have announced in other words."""
        today = self.by_type.get(type(item)) or self.look_up(item)
        if today.type == type_ and today.track_overall is track_overall and today.hook is hook:
            return today
        return self.known(today.announced_as(type_, track_overall=track_overall, hook=hook))

    def known(self, found: ItemClass) -> ItemClass:
        """Return the entry that equals `found` in all that readers see, or add `found`."""
        if found.grouped:
            self._on_grouped()
        if self.is_elsewhere:
            found.is_plain = False
        return self._by_looks.setdefault(found.looks, found)

    def skipped(self, cls: ItemClass) -> ItemClass:
        """Return an entry for items of this class that are skipped."""
        return self.known(cls.as_skipped())

    @property
    def counts(self) -> dict[str, Counts]:
        """The counts of items per type."""
        counts: dict[str, Counts] = {}
        for cls in self._by_looks.values():
            more = counts.get(cls.type, Counts())
            counts[cls.type] = Counts(
                more.enqueued + cls.enqueued,
                more.completed + cls.completed,
                more.failed + cls.failed,
                more.interrupted + cls.interrupted,
                more.deduplicated + cls.deduplicated,
                more.retried + cls.retried,
                more.skipped + cls.skipped,
            )
        return counts

    @property
    def ended(self) -> int:
        """How many items have completed or failed for good."""
        return sum(cls.completed + cls.failed for cls in self._by_looks.values())
