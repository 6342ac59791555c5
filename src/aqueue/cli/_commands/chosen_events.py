"""Chooses events by their name, level, item and item type."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, get_args

import click
from click.shell_completion import CompletionItem

from aqueue import events as ev
from aqueue import log_lines
from aqueue._history.known_items import UNKNOWN_TYPE
from aqueue._history.selecting import matches_type
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
    """Remembers the types of running items, which not every event names."""

    def __init__(self) -> None:
        self._types: dict[int, str] = {}

    def type_of(self, event: ev.Event) -> str:
        """Return the type of the item of `event`; call it for each event in order.

        It is empty for an event without an item, and `UNKNOWN_TYPE` if no event so far has named it.
        """
        types = self._types
        if type(event) is ev.RunStarted:  # another run in the same log, whose items are numbered from 1 again
            types.clear()
        item: int = getattr(event, "item", 0)
        if not item:
            return ""
        found: str = getattr(event, "type", "") or types.get(item, UNKNOWN_TYPE)
        if isinstance(event, ev.ItemStarted):
            # No more than workers, unless a log lacks the ends of attempts.
            if len(types) >= _MAX_RUNNING and item not in types:
                del types[next(iter(types))]
            types[item] = found
        elif isinstance(event, _ENDS):
            types.pop(item, None)
        return found


class ChosenEvents:
    """A filter for events.

    Attributes:
        types: the wanted types of items, names as given on the command line; none for all.
        seen: the types that came, the first 1,000; none if all are wanted.
    """

    def __init__(
        self,
        events: frozenset[str] = frozenset(),
        types: Sequence[str] = (),
        items: frozenset[int] = frozenset(),
        level: Level = "debug",
    ) -> None:
        """Choose the events that meet all conditions.

        Parameters:
            events: names of events; none for all.
            types: types of items, names as given on the command line; none for all.
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
        """Return whether `event` is chosen.

        Parameters:
            event: any event.
            type: the type of its item; `UNKNOWN_TYPE` counts as any of the chosen types.
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
            raise click.BadParameter(f"no event is called {visible(name, 100)!r}; the events are {known}", ctx, param)
        found |= meant
    return frozenset(found)


def _is_named(event: str, name: str) -> bool:
    """Return whether `name` is the event's whole name, the part before or after the dot, or the first word after it."""
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
    help="Only events of this name: item.failed, or failed for short; item stands for all item events. Repeatable.",
)
"""Which events, by their names; the command gets the whole names."""
