"""The limits of groups, and a warning about limits that fail open because no item has the group they name."""

from collections.abc import Mapping
from typing import Any, Final

from aqueue._system.notice import warn
from aqueue.errors import InvalidArgument
from aqueue.limits import Limit, Limits
from aqueue.text import visible_repr

__all__ = ["NO_LIMIT", "GroupLimits", "plain_numbers"]

OTHERS: Final = "*"
"""The name that stands, in a mapping of limits, for the groups not named."""

NO_LIMIT: Final = Limit()

_SHOWN_GROUPS: Final = 3
"""How many groups a warning names."""

_MANY_ITEMS: Final = 1_000
"""After so many items without a match the warning is given, though a matching item may still come."""


def plain_numbers(limit: Limit) -> tuple[int | None, float | None]:
    """Return the numbers of `limit` as events have them: a subclass of int or float can't be encoded."""
    concurrent = None if limit.concurrent is None else int(limit.concurrent)
    return concurrent, None if limit.per_second is None else float(limit.per_second)


class GroupLimits:
    """The limit of each group of a run, and which limits have applied to an item.

    A name is certainly wrong if all items of the run have run in this process and none had that group. The groups of items
    that ended in an earlier process aren't recorded, and items that failed may have enqueued others; in these cases, and
    before the end, the warning needs `_MANY_ITEMS` items without a match.

    Attributes:
        unused: the groups that the limits name and no item has had yet.
        seen: the first few groups that items have had.
        paused: the groups that a person has paused.
        changed: the limits that a person has set, by group.
    """

    def __init__(self, limits: Limits | None) -> None:
        """Take the `limits` of a run; without them, groups can still be slowed down."""
        named = [name for name in limits if name != OTHERS] if isinstance(limits, Mapping) else []
        self.unused = dict.fromkeys(named)
        self.seen: list[str] = []
        self.paused: set[str] = set()
        self.changed: dict[str, Limit] = {}
        self._limits = limits
        self._ended_before = 0
        self._has_warned = False

    def limit(self, name: str | None) -> Limit:
        """Return the limit of the group called `name`: that which a person has set, or else that of the program.

        None names the items without a group. Raises what `program` raises.
        """
        if self.changed and name in self.changed:
            return self.changed[name]
        return self.program(name)

    def program(self, name: str | None) -> Limit:
        """Return the program's own limit of the group called `name`.

        Raises:
            InvalidArgument: `limits` returned neither a `Limit` nor None.
            BaseException: `limits` is a function, and raised it.
        """
        limits = self._limits
        if limits is None or name is None:
            return NO_LIMIT
        limit: Any = limits.get(name, limits.get(OTHERS)) if isinstance(limits, Mapping) else limits(name)
        if limit is None:
            return NO_LIMIT
        if not isinstance(limit, Limit):
            raise InvalidArgument(
                f"limits returned {visible_repr(limit)} for the group {visible_repr(name)}; it must be an aqueue.Limit, or None"
            )
        return limit

    def note(self, name: str) -> None:
        """Record that an item has the group called `name`."""
        self.unused.pop(name, None)
        if len(self.seen) <= _SHOWN_GROUPS and name not in self.seen:
            self.seen.append(name)

    # ---- limits that apply to no item ---------------------------------------------------------------------------

    def begin(self, ended: int) -> None:
        """Record how many items had `ended` before this process took any."""
        self._ended_before = ended

    def look(self, ended: int, *, is_over: bool) -> None:
        """Warn, once per run, if a limit names a group that no item has had.

        Parameters:
            ended: how many items have ended.
            is_over: whether all items have, and none of them failed.
        """
        if not self._limits or self._has_warned:
            return
        ended -= self._ended_before
        is_sure = is_over and not self._ended_before
        if is_sure or ended >= _MANY_ITEMS:
            unused = self._describe_unused(
                "no item" if is_sure else f"none of the first {ended:,} items of this process"
            )
            # While items may still come, the warning is only given if no limit has applied at all.
            if unused and (is_sure or not self._has_limited):
                self._has_warned = True
                warn(unused)

    @property
    def _has_limited(self) -> bool:
        limits = self._limits
        return bool(self.seen) and isinstance(limits, Mapping) and (OTHERS in limits or len(self.unused) < len(limits))

    def _describe_unused(self, which: str) -> str:
        """Return the warning, or an empty string if each limit applies to an item. `which`: the items that were looked at."""
        if not self.seen:
            return f"limits is given, but {which} had a group; items need an attribute or property 'group', a string"
        names = list(self.unused)
        if not names:
            return ""
        named = ", ".join(map(visible_repr, names[:_SHOWN_GROUPS]))
        if len(names) > _SHOWN_GROUPS:
            named += f" and {len(names) - _SHOWN_GROUPS:,} more"
        seen = ", ".join(map(visible_repr, self.seen[:_SHOWN_GROUPS]))
        seen += " and others" * (len(self.seen) > _SHOWN_GROUPS)
        those = "that group" if len(names) == 1 else "these groups"
        return f"limits names {named}, but {which} had {those} (seen: {seen})"
