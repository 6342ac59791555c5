"""Chooses events by name, level, item and the item's type, which not every event has."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, get_args

import click
from click.shell_completion import CompletionItem

from aqueue import events as ev
from aqueue import log_lines
from aqueue._history.known_items import UNKNOWN_TYPE
from aqueue.cli._app import matches_type
from aqueue.events import EVENT_TYPES
from aqueue.log_lines import Level
from aqueue.text import visible

__all__ = ["LEVELS", "ChosenEvents", "RunningTypes", "event_option"]

LEVELS: Final[tuple[Level, ...]] = get_args(Level)
"""The levels, from that which matters least."""

_RANKS: Final = {level: rank for rank, level in enumerate(LEVELS)}
_MAX_RUNNING: Final = 65_536
_MAX_TYPES: Final = 1_000
_ENDS: Final = (
    *(ev.ItemCompleted, ev.ItemFailed, ev.ItemRetryScheduled, ev.ItemInterrupted),
    *(ev.ItemChildrenProcessed, ev.ItemChildrenFailed),
)


class RunningTypes:
    """Knows the types of the items that run, for the events that don't tell them."""

    def __init__(self) -> None:
        self._types: dict[int, str] = {}

    def type_of(self, event: ev.Event) -> str:
        """Return the type of the item of `event`, which follows those asked before.

        It is empty if the event is of no item, and `UNKNOWN_TYPE` if none of the events tells it.
        """
        types = self._types
        if type(event) is ev.RunStarted:  # another run in the same log, whose items are numbered from 1 again
            types.clear()
        item: int = getattr(event, "item", 0)
        if not item:
            return ""
        found: str = getattr(event, "type", "") or types.get(item, UNKNOWN_TYPE)
        if isinstance(event, ev.ItemStarted):
            # As many as there are workers, but for a log that lacks ends.
            if len(types) >= _MAX_RUNNING and item not in types:
                del types[next(iter(types))]
            types[item] = found
        elif isinstance(event, _ENDS):
            types.pop(item, None)
        return found


class ChosenEvents:
    """Which events are wanted.

    Attributes:
        types: the wanted types of items, as a person names them; none for all.
        seen: the types that came, the first 1,000; none if all are wanted.
    """

    def __init__(
        self,
        events: frozenset[str] = frozenset(),
        types: Sequence[str] = (),
        items: frozenset[int] = frozenset(),
        level: Level = "debug",
    ) -> None:
        """Want those that meet all of these.

        Parameters:
            events: names of events; none for all.
            types: types of items, as a person names them; none for all.
            items: numbers of items; none for all.
            level: the least level.
        """
        self.types = types
        self.seen: dict[str, None] = {}
        self._has_type = lru_cache(_MAX_TYPES)(lambda type: any(matches_type(name, type) for name in types))
        self._items = items
        self._rank = _RANKS[level]
        self._classes = {
            cls
            for name, cls in EVENT_TYPES.items()
            if (not events or name in events) and _RANKS[log_lines.LEVELS.get(cls, "info")] >= _RANKS[level]
        }

    def has(self, event: ev.Event, type: str) -> bool:
        """Return whether `event` is wanted.

        Parameters:
            event: any event.
            type: the type of its item; with `UNKNOWN_TYPE` it is wanted if it would be with one of the wanted types.
        """
        if self.types and type not in ("", UNKNOWN_TYPE) and len(self.seen) < _MAX_TYPES:
            self.seen[type] = None
        return (
            event.__class__ in self._classes
            and _RANKS[log_lines.level_of(event)] >= self._rank
            and (not self._items or getattr(event, "item", 0) in self._items)
            and (not self.types or (type != "" and (type == UNKNOWN_TYPE or self._has_type(type))))
        )


def _events_named(ctx: click.Context, param: click.Parameter, names: Sequence[str]) -> frozenset[str]:
    found: set[str] = set()
    for name in names:
        meant = {event for event in EVENT_TYPES if _is_named(event, name)}
        if not meant:
            known = ", ".join(EVENT_TYPES)
            raise click.BadParameter(f"there is no event {visible(name, 100)!r}; there are {known}", ctx, param)
        found |= meant
    return frozenset(found)


def _is_named(event: str, name: str) -> bool:
    """Return whether `name` is all of the event's name, its first or its last part, or the first word of that."""
    kind, _, what = event.partition(".")
    return name in {event, kind, what} or f"{what}_".startswith(f"{name}_")


def _complete_events(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    kinds = dict.fromkeys(event.partition(".")[0] for event in EVENT_TYPES)
    return [CompletionItem(name) for name in [*kinds, *EVENT_TYPES] if name.startswith(incomplete)]


event_option = click.option(
    "--event",
    "events",
    metavar="EVENT",
    multiple=True,
    callback=_events_named,
    shell_complete=_complete_events,
    help="Only events of this name, such as item.failed, or failed; item stands for all of them. May be given several times.",
)
"""Which events, by their names; the command gets the whole names."""
