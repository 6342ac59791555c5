"""Folds the failures of a run by kind: how many are failed now, and when they failed. No I/O, no clock."""

from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec

from aqueue._folds.outcome import FailureTally
from aqueue._page.html import counted
from aqueue.events import (
    Event,
    ItemDescribed,
    ItemFailed,
    ItemReopened,
    ItemSkipped,
    Phase,
    RunEdited,
    RunResumed,
    RunStarted,
)
from aqueue.result import FailureGroup

__all__ = ["FailureKinds", "KindHistory", "densest"]

_NUM_BINS: Final = 64
_FIRST_WIDTH_S: Final = 0.001
_NUM_LATEST: Final = 3
_MAX_KINDS: Final = 1_000
_MAX_GROUPS: Final = 100  # of those that a `FailureTally` returns
_BOUNDS: Final = {RunStarted, RunResumed, RunEdited}
_COUNTED: Final = {ItemFailed, ItemReopened, ItemSkipped, *_BOUNDS}


class KindHistory(msgspec.Struct):
    """When the failures of a kind happened, also those of items that ran again since.

    Attributes:
        first_at, last_at: when the first and the last happened, Unix time in seconds.
        bins: how many happened in each stretch of the run's own time, which are `width_s` seconds long.
        width_s: see `bins`.
        latest: the last of them, at most 3, without those of items that ran again or were skipped; each with what the item was
            described with then, empty if it wasn't.
    """

    first_at: float
    last_at: float = 0.0
    bins: list[int] = msgspec.field(default_factory=lambda: [0] * _NUM_BINS)
    width_s: float = _FIRST_WIDTH_S
    latest: "deque[tuple[ItemFailed, str]]" = msgspec.field(default_factory=lambda: deque(maxlen=_NUM_LATEST))

    def add(self, event: ItemFailed, elapsed_s: float, text: str) -> None:
        """Count a failure, `elapsed_s` seconds after the run's start, of an item described with `text`."""
        while (index := int(elapsed_s / self.width_s)) >= _NUM_BINS:
            self.bins = [sum(self.bins[at : at + 2]) for at in range(0, _NUM_BINS, 2)] + [0] * (_NUM_BINS // 2)
            self.width_s *= 2
        self.bins[index] += 1
        self.last_at = event.at
        self.latest.append((event, text))

    def bars(self, elapsed_s: float, number: int) -> list[int]:
        """Return how many happened in each of `number` equal parts of the `elapsed_s` seconds that the run took."""
        bars = [0] * number
        for index, count in enumerate(self.bins):
            middle_s = (index + 0.5) * self.width_s
            bars[min(int(middle_s / elapsed_s * number), number - 1) if elapsed_s > 0 else 0] += count
        return bars


class FailureKinds:
    """The failures of a run by kind."""

    def __init__(self) -> None:
        self._tally = FailureTally()
        self._histories: dict[tuple[str, Phase, str], KindHistory] = {}
        self._epoch = 0.0  # the Unix time less this is the run's own time
        self._at = 0.0  # until when that time counts, Unix time in seconds
        self._goes_on = True  # whether time passes: not while a command edits a run without a process
        self._described: dict[int, ItemDescribed] = {}  # by worker
        self._with_latest: dict[int, KindHistory] = {}  # by item: the kind among whose latest it is

    def apply(self, events: Sequence[Event]) -> None:
        """Fold `events`, which must follow those applied so far."""
        types = set(map(type, events))  # a tenth of the time that it takes to look at each event
        if types.isdisjoint(_COUNTED):
            if ItemDescribed in types:
                self._described.update((event.worker, event) for event in events if type(event) is ItemDescribed)
            self._at = events[-1].at if events and self._goes_on else self._at
            return
        at, goes_on = self._at, self._goes_on
        for event in events:
            if type(event) is ItemDescribed:
                self._described[event.worker] = event
            elif type(event) is ItemFailed:
                self._add(event, (event.at if goes_on else at) - self._epoch)
            elif type(event) is ItemSkipped or (type(event) is ItemReopened and event.failed is not None):
                self._take_back(event.item)
            elif type(event) in _BOUNDS:
                goes_on = isinstance(event, RunStarted)  # RunResumed is one
                if goes_on:
                    self._epoch += event.at - at if at else event.at
                self._described.clear()
            if goes_on:
                at = event.at
        self._at, self._goes_on = at, goes_on
        self._tally.apply(events)

    def _add(self, event: ItemFailed, elapsed_s: float) -> None:
        kind = (event.type, event.phase, event.error.type)
        history = self._histories.get(kind)
        if history is None:
            if len(self._histories) >= _MAX_KINDS:
                self._forget_half()
            history = self._histories[kind] = KindHistory(event.at)
        described = self._described.get(event.worker)
        if len(history.latest) == _NUM_LATEST:
            self._with_latest.pop(history.latest[0][0].item, None)
        self._with_latest[event.item] = history
        text = described.text if described is not None and described.item == event.item else ""
        history.add(event, max(elapsed_s, 0.0), text)

    def _take_back(self, item: int) -> None:
        """Let an item that runs again or was skipped be none of the latest."""
        history = self._with_latest.pop(item, None)
        if history is not None:
            kept = [one for one in history.latest if one[0].item != item]
            history.latest = deque(kept, _NUM_LATEST)

    @property
    def how_many(self) -> str:
        """How many kinds there are of which items are failed now, in words: `groups` has at most 100."""
        number = len(self.groups())
        return counted(number, "kind") if number < _MAX_GROUPS else f"{number} kinds or more"

    def _forget_half(self) -> None:
        """Forget the kinds that haven't happened for longest."""
        latest = sorted(self._histories.items(), key=lambda one: one[1].last_at)
        self._histories = dict(latest[len(latest) // 2 :])
        histories = self._histories.values()
        self._with_latest = {one.item: history for history in histories for one, _ in history.latest}

    def groups(self) -> list[tuple[FailureGroup, KindHistory]]:
        """Return the kinds of which items are failed now, the most numerous first, at most 100.

        Of a kind of which the history was forgotten, it has no bins and one failure.
        """
        return [
            (group, self._histories.get((group.type, group.phase, group.error)) or _history_of(group.first))
            for group in self._tally.groups()
        ]


def densest(bars: Sequence[int], width: int) -> tuple[int, int]:
    """Return where the `width` bars next to each other begin that count most, the first of several, and how much they count."""
    counts = [sum(bars[at : at + width]) for at in range(len(bars) - width + 1)]
    most = max(counts)
    return counts.index(most), most


def _history_of(event: ItemFailed) -> KindHistory:
    return KindHistory(event.at, event.at, latest=deque([(event, "")], _NUM_LATEST))
