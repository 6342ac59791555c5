"""Adoption: a parent that runs again enqueues its children again, and each is matched with the recorded one.

A child with a key matches the recorded one with the same type and key. Another matches by type and payload, the first
such child with the first recorded, the second with the second, and so on.

The program may have been edited in between. A child whose class has other attributes than were recorded matches by the
attributes that both have, if these fit exactly one recorded child and one new child. If that is ambiguous, nothing is
enqueued: a guess would lose a child or run one twice. The caller gets an `AdoptionMismatch`.
"""

from collections.abc import Iterator, Sequence

from aqueue._engine.changed_classes import ChangedClasses
from aqueue._engine.ended_children import EndedChildren
from aqueue._engine.recorded_child import RecordedChild
from aqueue._engine.siblings import Siblings
from aqueue._engine.tree import Node
from aqueue._system.notice import warn
from aqueue.errors import AdoptionMismatch
from aqueue.text import visible

__all__ = ["RecordedChildren"]


class RecordedChildren:
    """The recorded children of a parent that runs again, without those that the parent has already enqueued again.

    Attributes:
        holders: the nodes below the parent whose items refer to the parent's item, each with its recorded state, by number.
            They are decoded once more when it is known which object takes the parent's place.
        first_new: the type, key and payload of the first child that matched no recorded one; None if all matched.
    """

    def __init__(
        self,
        children: Sequence[tuple[str, RecordedChild]],
        changes: ChangedClasses,
        ended: EndedChildren,
        what: str = "a child",
        *,
        is_rerun: bool = False,
    ) -> None:
        """Hold the recorded children of one parent.

        Parameters:
            children: the children that are not done, in the order of enqueue, each with the name of its class today.
            changes: compares them with today's classes.
            ended: the children that are done.
            what: what messages call a child.
            is_rerun: whether the parent runs again although it had completed, since a person asked for it.
        """
        self.holders: list[tuple[Node, bytes]] = []
        self.first_new: tuple[str, str | None, bytes] | None = None
        self._changes = changes
        self._what = what
        self._is_rerun = is_rerun
        types = {type for type, _ in children} | ended.by_key.keys() | ended.by_payload.keys()
        self._of = {type: Siblings(type, changes, ended, what) for type in types}
        self._gone: list[str] | None = None
        for type, child in reversed(children):
            self._of[type].add(child)
        for siblings in self._of.values():
            siblings.leave_room()

    def match(self, type: str, key: str | None, payload: bytes) -> RecordedChild | None:
        """Remove and return the recorded child that matches an item of this type, key and payload; None if the item is new.

        Raises:
            AdoptionMismatch: the class was edited, and the match is ambiguous.
        """
        siblings = self._of.get(type)
        if siblings is None:
            self._refuse_if_renamed(type)
            child = None
        else:
            child = siblings.match(key, payload)
        if child is None:
            if siblings is not None and (key is None or not self._changes.is_duplicate(type, key)):
                siblings.new += 1
            if self.first_new is None:
                self.first_new = type, key, payload
        return child

    def name_others(self, parent: str) -> None:
        """Warn if `parent` enqueued new children of a class and left out completed ones of the same class; a rerun, if it left out any."""
        if self._is_rerun:
            left = sum(siblings.ended_left for siblings in self._of.values())
            if left:
                warn(
                    f"{parent} has run again, and did not enqueue {left:,} of its completed children again; they keep their results"
                )
            return
        for type, siblings in self._of.items():
            if siblings.new and siblings.ended_left:
                self._changes.name_others_once(type, parent, siblings.ended_left, siblings.new)

    def _refuse_if_renamed(self, type: str) -> None:
        """Raise `AdoptionMismatch` if children of classes that no longer exist are recorded: the new child may be one of them."""
        if self._gone is None:
            self._gone = sorted(one for one in self._of if self._changes.is_gone(one))
        if self._gone:
            raise AdoptionMismatch(
                f"{self._what} of class {type} was not enqueued: it may be one of the recorded items of "
                f"{', '.join(self._gone[:5])}, which the program no longer defines. If the class was renamed or moved, add "
                f"previous_names = ({visible(self._gone[0], 300)!r},) to the new class; otherwise keep the old class until "
                "the run has ended. Then run the same command again"
            )

    def has_changed(self, child: RecordedChild, type: str, payload: bytes) -> bool:
        """Return whether `payload`, of the item that matched `child`, differs from what is recorded."""
        return payload != child.state and payload != self._changes.compare(type, child.state)[2]

    def total(self, type: str, payload: bytes) -> int:
        """Return how many recorded children had this type and payload, once all of them are matched."""
        siblings = self._of.get(type)
        return 0 if siblings is None else siblings.total(payload)

    @property
    def left(self) -> int:
        """How many recorded children have not been enqueued again."""
        return sum(siblings.left for siblings in self._of.values())

    def __iter__(self) -> Iterator[RecordedChild]:
        """Yield the children that are neither matched nor done."""
        for siblings in self._of.values():
            yield from siblings.waiting()
