"""Importing this makes runs of this process spill nearly all waiting items, and write snapshots every few events.

So what a test runs with a journal is read back from it, and what a test resumes is resumed from a snapshot.
"""

from typing import Any

from aqueue._delivery import snapshots
from aqueue._engine import parts
from aqueue._engine.spilling import Spilling
from aqueue._resume import live_items
from aqueue._run.settings import SPILL_AFTER

_MOST = 3

snapshots._MIN_EVENTS = 7
snapshots._MIN_EVENTS_AT_END = 3
snapshots._EVENTS_PER_ITEM = 0
live_items._FIRST_SETTLED = 2


class SpillsMore(Spilling):
    """Spills more nodes than a run does unless it is asked."""

    def __init__(self, most: int, *others: Any) -> None:
        super().__init__(_MOST if most == SPILL_AFTER else most, *others)


setattr(parts, "Spilling", SpillsMore)  # noqa: B010  # mypy refuses an assignment to a class
