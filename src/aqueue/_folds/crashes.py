"""Keeps the items that were running when processes of the run crashed, and so may have caused the crash."""

import msgspec

__all__ = ["Crashes"]


class Crashes(msgspec.Struct):
    """The crashes in a row up to the last process.

    Attributes:
        count: how many processes in a row, up to the last, ended without `run.finished`.
        suspects: the items that were running in both of the last two of those.
        alone: how many processes in a row crashed while this item was the only one running, by number.
        running_before: the items that were running when the process before crashed.
    """

    count: int = 0
    suspects: frozenset[int] = frozenset()
    alone: dict[int, int] = {}
    running_before: frozenset[int] = frozenset()

    def finish(self) -> None:
        """Note that the process ended by itself: earlier crashes no longer count."""
        self.count = 0
        self.suspects = self.running_before = frozenset()
        self.alone = {}

    def crash(self, running: frozenset[int]) -> None:
        """Note that the process ended without `run.finished` while these items were `running`."""
        self.count += 1
        self.suspects = running & self.running_before if self.count > 1 else frozenset()
        only = next(iter(running)) if len(running) == 1 else None
        self.alone = {only: self.alone.get(only, 0) + 1} if only is not None else {}
        self.running_before = running
