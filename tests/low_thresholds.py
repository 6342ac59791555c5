"""Importing this makes runs of this process spill nearly all waiting items, and write snapshots every few events.

So what a test runs with a journal is read back from it, and what a test resumes is resumed from a snapshot.
"""

from typing import Any

from aqueue._delivery import snapshots
from aqueue._engine import parts
from aqueue._engine.spilling import Spilling
from aqueue._resume import live_items
from aqueue._run.settings import SPILL_AFTER

snapshots._MIN_EVENTS = 7
snapshots._MIN_EVENTS_AT_END = 3
snapshots._EVENTS_PER_ITEM = 0
live_items._FIRST_SETTLED = 2


class SpillsMore(Spilling):
    """Spills more nodes than a run does unless it is asked: all but 3, or where many are spilled, all but 1,000."""

    def __init__(self, most: int, *others: Any) -> None:
        self._asked = None if most == SPILL_AFTER else most
        super().__init__(most, *others)

    @property
    def most(self) -> int:
        return self._asked or (3 if self.num_spilled < 200 else 1_000)

    @most.setter
    def most(self, _: int) -> None:
        pass


setattr(parts, "Spilling", SpillsMore)  # noqa: B010  # mypy refuses an assignment to a class
