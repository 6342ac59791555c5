"""Making whole what a log lacks, so that every fold may rely on a consistent run.

A journal has every event. A log may not: somebody cut it, a processor dropped records, a disk spoiled a line, or it began
when the run was resumed. `Mender` puts in what must have happened, and leaves out what came twice or can't be. It changes
nothing in a stream that lacks nothing.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from aqueue.events import (
    SCHEMA_VERSION,
    Event,
    GroupSlowedDown,
    ItemChildrenFailed,
    ItemChildrenProcessed,
    ItemCompleted,
    ItemDescribed,
    ItemEnqueued,
    ItemFailed,
    ItemInterrupted,
    ItemReopened,
    ItemRetryScheduled,
    ItemStarted,
    Phase,
    RunFinished,
    RunStarted,
)

__all__ = ["UNKNOWN_TYPE", "Mender"]

UNKNOWN_TYPE: Final = "?"
"""The type of an item of which no event that is there tells it."""

_NO_WORKER: Final = 0
_MAX_NUMBER: Final = 2**53
_MAX_AT: Final = 253_402_300_799.0
"""The end of the year 9999, Unix time in seconds: later times can't be written as dates."""

_COMPLETED: Final = 1
_EMPTY: Final = bytearray()
_FAILED: Final[dict[Phase, int]] = {"process": 2, "after_children": 4}


class Mender:
    """Follows the events of one run and hands them on, consistent.

    Memory: three bytes an item, and what is running.

    Attributes:
        missing: how many events are not there, as far as the numbers tell.
        repeated: how many came twice, out of order or where they can't be, and were left out.
    """

    def __init__(self) -> None:
        self.missing = 0
        self.repeated = 0
        self._seq = 0
        self._at = 0.0
        self._items = _KnownItems()
        self._running: dict[int, int] = {}  # by worker: twice the item, and one more in its hook
        self._workers: dict[int, int] = {}  # by item
        self._whole: list[Event] = []

    def mend(self, events: Iterable[Event]) -> list[Event]:
        """Return `events`, which follow those before, with what they lack and without what they repeat.

        One loop over local names for the most frequent events where nothing is amiss: this runs for every event read.
        """
        whole = self._whole = []
        append = whole.append
        running, workers, items = self._running, self._workers, self._items
        seq, at = self._seq, self._at
        first, flags = items.last_span
        for event in events:
            if event.seq != seq + 1 or not at <= event.at <= _MAX_AT:
                if not seq < event.seq <= _MAX_NUMBER:
                    self.repeated += 1
                    continue
                self.missing += event.seq - seq - 1
                if not at <= event.at <= _MAX_AT:  # times never decrease
                    event = replace(event, at=at)
            if not seq and not isinstance(event, RunStarted):
                append(RunStarted(event.seq, event.at, "", SCHEMA_VERSION, "", 0, "", 0, ""))
            seq, at = event.seq, event.at
            cls = type(event)
            if cls is ItemDescribed:
                assert isinstance(event, ItemDescribed)
                if running.get(event.worker) == 2 * event.item:
                    append(event)
                    continue
            elif cls is ItemStarted:
                assert isinstance(event, ItemStarted)
                item, worker = event.item, event.worker
                offset = item - first
                if (
                    event.phase == "process"
                    and 0 <= offset < len(flags)
                    and not flags[offset]
                    and worker not in running
                    and item not in workers
                ):
                    running[worker] = 2 * item
                    workers[item] = worker
                    append(event)
                    continue
            elif cls is ItemCompleted:
                assert isinstance(event, ItemCompleted)
                item, worker = event.item, event.worker
                offset = item - first
                if running.get(worker) == 2 * item and 0 <= offset < len(flags):
                    del running[worker], workers[item]
                    flags[offset] |= _COMPLETED
                    append(event)
                    continue
            elif cls is ItemEnqueued:
                assert isinstance(event, ItemEnqueued)
                if (
                    flags
                    and event.item == first + len(flags)
                    and (not event.parent or 0 <= event.parent - first < len(flags))
                ):
                    items.append(event.type)
                    append(event)
                    continue
            self._seq, self._at = seq, at
            if self._may_come(event):
                append(event)
            else:
                self.repeated += 1
            first, flags = items.last_span
        self._seq, self._at = seq, at
        return whole

    def _may_come(self, event: Event) -> bool:
        """Put in what must have come before `event`, keep track, and tell whether it may come at all."""
        cls = type(event)
        item = getattr(event, "item", None)
        if item is not None and not 0 < item <= _MAX_NUMBER and cls is not GroupSlowedDown:
            return False
        if cls is ItemEnqueued:
            assert isinstance(event, ItemEnqueued)
            if not 0 <= event.parent < event.item:  # parents come first
                return False
            if event.parent:
                self._announce(event, event.parent)
            if event.item in self._items:
                return False
            self._items.add(event.item, event.type)
            return True
        if cls is ItemStarted:
            assert isinstance(event, ItemStarted)
            return self._prepare_start(event)
        if cls is ItemDescribed:
            assert isinstance(event, ItemDescribed)
            # It may come from the hook, too.
            is_in_hook = self._running.get(event.worker) == _coded(event.item, "after_children")
            return is_in_hook or self._see_running(event, event.item, event.worker)
        if cls is ItemCompleted:
            assert isinstance(event, ItemCompleted)
            if not self._see_running(event, event.item, event.worker, attempt=event.attempt):
                return False
            self._note_end(event.worker)
            self._items.flag(event.item, _COMPLETED)
            return True
        return self._rare_may_come(event)

    def _rare_may_come(self, event: Event) -> bool:
        match event:
            case ItemFailed():
                if not self._see_running(event, event.item, event.worker, event.phase, event.attempt, event.type):
                    return False
                self._note_end(event.worker)
                self._items.flag(event.item, _FAILED[event.phase])
            case ItemRetryScheduled():
                if not self._see_running(event, event.item, event.worker, event.phase, event.attempt):
                    return False
                self._note_end(event.worker)
            case ItemInterrupted():
                self._announce(event, event.item)
                worker = self._workers.get(event.item)
                if worker is not None:
                    self._note_end(worker)
            case ItemChildrenProcessed():
                self._see_completed(event, event.item, event.type)
                self._end_hook(event)
            case ItemChildrenFailed():
                self._announce(event, event.item, event.type)
                self._end_hook(event)
            case ItemReopened():
                return self._prepare_reopened(event)
            case GroupSlowedDown():
                if 0 < event.item <= _MAX_NUMBER:
                    self._announce(event, event.item)
            case RunFinished():
                for worker in list(self._running):
                    self._end_attempt(event, worker)
            case _:
                pass
        return True

    def _announce(self, event: Event, item: int, type: str = UNKNOWN_TYPE) -> None:
        if item not in self._items:
            self._whole.append(ItemEnqueued(event.seq, event.at, item, 0, type))
            self._items.add(item, type)

    def _see_completed(self, event: Event, item: int, type: str) -> None:
        """See that the `process` of `item` has completed: what comes next says so."""
        self._announce(event, item, type)
        if not self._items.flags(item) & _COMPLETED and self._see_running(event, item, _NO_WORKER):
            self._whole.append(ItemCompleted(event.seq, event.at, item, _NO_WORKER, 0.0))
            self._note_end(_NO_WORKER)
            self._items.flag(item, _COMPLETED)

    def _see_running(
        self,
        event: Event,
        item: int,
        worker: int,
        phase: Phase = "process",
        attempt: int = 1,
        type: str = UNKNOWN_TYPE,
    ) -> bool:
        """See that `worker` is at `item`, as `event` says; return False if it can't be."""
        if self._running.get(worker) == _coded(item, phase):
            return True
        self._announce(event, item, type)
        start = ItemStarted(event.seq, event.at, item, self._items.type_of(item), worker, phase, attempt)
        if not self._prepare_start(start):
            return False
        self._whole.append(start)
        return True

    def _prepare_start(self, start: ItemStarted) -> bool:
        item, phase = start.item, start.phase
        self._announce(start, item, start.type)
        if phase == "process":
            if self._items.flags(item) & _COMPLETED:
                return False
        else:
            self._see_completed(start, item, start.type)
        self._end_attempt(start, self._workers.get(item))
        self._end_attempt(start, start.worker)
        if self._items.flags(item) & _FAILED[phase]:
            self._whole.append(ItemReopened(start.seq, start.at, item, start.type, phase))
            self._items.unflag(item, _FAILED[phase])
        self._running[start.worker] = _coded(item, phase)
        self._workers[item] = start.worker
        return True

    def _prepare_reopened(self, event: ItemReopened) -> bool:
        if event.failed == "after_children":
            self._see_completed(event, event.item, event.type)
        self._announce(event, event.item, event.type)
        self._end_attempt(event, self._workers.get(event.item))
        if event.failed is None:
            return True
        flag = _FAILED[event.failed]
        had_failed = bool(self._items.flags(event.item) & flag)
        self._items.unflag(event.item, flag)
        return had_failed  # if not, that it had isn't known, and it is queued or running as far as is known

    def _end_hook(self, event: ItemChildrenProcessed | ItemChildrenFailed) -> None:
        worker = self._workers.get(event.item)
        if worker is not None:
            if self._running[worker] == _coded(event.item, "process"):  # its end is missing
                self._end_attempt(event, worker)
            else:
                self._note_end(worker)

    def _end_attempt(self, event: Event, worker: int | None) -> None:
        running = self._running.get(worker) if worker is not None else None
        if worker is not None and running is not None:
            phase: Phase = "after_children" if running % 2 else "process"
            self._whole.append(ItemInterrupted(event.seq, event.at, running // 2, phase, reason="worker_lost"))
            self._note_end(worker)

    def _note_end(self, worker: int) -> None:
        del self._workers[self._running.pop(worker) // 2]


def _coded(item: int, phase: Phase) -> int:
    """Return what a worker is at as one number, which takes no memory of its own where it is small."""
    return 2 * item + (phase != "process")


class _KnownItems:
    """Which items were announced, each one's type and flags: three bytes an item where their numbers follow each other."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._starts: list[int] = []  # sorted, as the spans beside them
        self._spans: list[tuple[array[int], bytearray]] = []

    @property
    def last_span(self) -> tuple[int, bytearray]:
        """The first item of the span with the greatest numbers, and the flags of all in it."""
        return (self._starts[-1], self._spans[-1][1]) if self._starts else (1, _EMPTY)

    def _find(self, item: int) -> "tuple[array[int], bytearray, int] | None":
        at = bisect_right(self._starts, item) - 1
        if at < 0:
            return None
        types, flags = self._spans[at]
        offset = item - self._starts[at]
        return (types, flags, offset) if offset < len(types) else None

    def _get(self, item: int) -> "tuple[array[int], bytearray, int]":
        found = self._find(item)
        assert found is not None
        return found

    def __contains__(self, item: int) -> bool:
        return self._find(item) is not None

    def type_of(self, item: int) -> str:
        """Return the type of a known item."""
        types, _, offset = self._get(item)
        return self._names[types[offset]]

    def flags(self, item: int) -> int:
        """Return the flags of a known item."""
        _, flags, offset = self._get(item)
        return flags[offset]

    def flag(self, item: int, flag: int) -> None:
        """Set a flag of a known item."""
        _, flags, offset = self._get(item)
        flags[offset] |= flag

    def unflag(self, item: int, flag: int) -> None:
        """Take a flag off a known item."""
        _, flags, offset = self._get(item)
        flags[offset] &= ~flag

    def append(self, type: str) -> None:
        """Note that the item after the last one of the last span, which there must be, was announced."""
        number = self._numbers.get(type)
        types, flags = self._spans[-1]
        types.append(self._number(type) if number is None else number)
        flags.append(0)

    def _number(self, type: str) -> int:
        number = self._numbers.get(type)
        if number is None:
            number = self._numbers[type] = min(len(self._names), 0xFFFF)
            if number == len(self._names):
                self._names.append(type)
        return number

    def add(self, item: int, type: str) -> None:
        """Note that `item`, which is not known yet, was announced."""
        number = self._number(type)
        at = bisect_right(self._starts, item) - 1
        if at >= 0 and item == self._starts[at] + len(self._spans[at][0]):
            types, flags = self._spans[at]
            types.append(number)
            flags.append(0)
        else:
            self._starts.insert(at + 1, item)
            self._spans.insert(at + 1, (array("H", (number,)), bytearray(1)))
