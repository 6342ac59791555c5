"""Warns of limits that fail open: what they name is the group of no item, so that nothing slows the items down."""

from typing import Final

from aqueue._engine.groups import SHOWN_GROUPS, GroupedQueue
from aqueue._system.notice import warn
from aqueue.limits import Limits
from aqueue.text import visible_repr

__all__ = ["UnusedLimits"]

_MANY_ITEMS: Final = 1_000
"""After so many items that `limits` applies to none of, it is warned of that, though such items may still come."""


class UnusedLimits:
    """Looks, until it has warned once, whether the limits of a run apply to any item.

    Whether a name is wrong is sure only once all items have run in this process. Before that, and where some had ended
    in an earlier process, whose groups nobody knows, or failed and so enqueued nothing, many have to have run.
    """

    def __init__(self, limits: Limits | None) -> None:
        self._limits = limits
        self._ended_before = 0
        self._has_warned = False

    def begin(self, ended: int) -> None:
        """Note how many items had `ended` before this process took any."""
        self._ended_before = ended

    def look(self, queue: GroupedQueue | None, ended: int, *, is_over: bool) -> None:
        """Warn if no item has had the group of a limit.

        Parameters:
            queue: where the items were queued; None if that doesn't go by groups.
            ended: how many items have ended.
            is_over: whether all items have, and none of them failed.
        """
        if self._limits is None or self._has_warned:
            return
        ended -= self._ended_before
        if is_over and not self._ended_before:
            unused = _describe(self._limits, queue)
        elif ended >= _MANY_ITEMS:
            unused = _describe(self._limits, queue, ended)
        else:
            return
        if unused:
            self._has_warned = True
            warn(unused)


def _describe(limits: Limits | None, queue: GroupedQueue | None, ended: int | None = None) -> str:
    """Say, for a warning, which limits no item has had the group for; empty if there is nothing to say.

    Parameters:
        limits: what each group may do.
        queue: where the items were queued; None if that doesn't go by groups.
        ended: how many items have ended so far, if more may come: then a limit may still find its group as long as
            another has. None if there were all.
    """
    if not limits:
        return ""
    of = "no item" if ended is None else f"none of the first {ended:,} items of this process"
    if queue is None or not queue.seen:
        return f"limits is given, but {of} had a group; items need an attribute or property 'group', a string"
    names = list(queue.unused)
    if not names or (ended is not None and queue.has_limited):
        return ""
    named = ", ".join(map(visible_repr, names[:SHOWN_GROUPS]))
    if len(names) > SHOWN_GROUPS:
        named += f" and {len(names) - SHOWN_GROUPS:,} more"
    seen = ", ".join(map(visible_repr, queue.seen[:SHOWN_GROUPS])) + " and others" * (len(queue.seen) > SHOWN_GROUPS)
    return f"limits names {named}, but {of} had {'that group' if len(names) == 1 else 'these groups'} (seen: {seen})"
