"""Folds a run's events into a table with a row per item, in columns of about 80 bytes per item.

Texts (descriptions, keys, errors) are not kept, but the numbers of the events that have them, so that they can be read
again for the few items that are shown.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Final, Literal, get_args

from aqueue import events as ev
from aqueue.events import Event, ItemCompleted, ItemDescribed, ItemEnqueued, ItemStarted
from aqueue.view import WorkerProcess, WorkerProcesses

__all__ = ["OUTSTANDING", "STATES", "ItemTable", "State"]

State = Literal["queued", "running", "retrying", "interrupted", "completed", "failed", "skipped"]
"""What an item is: ``queued``: to be started; ``running``: a worker runs it or its hook; ``retrying``: it failed and waits
for its next attempt; ``interrupted``: an attempt was cut short, by a cancellation or a crash; ``completed``: its `process`
has returned, and its hook has not failed; ``failed``: for good; ``skipped``: by a person.
"""

STATES: Final[tuple[State, ...]] = get_args(State)
_QUEUED, _RUNNING, _RETRYING, _INTERRUPTED, _COMPLETED, _FAILED, _SKIPPED = range(7)

OUTSTANDING: Final[frozenset[State]] = frozenset({"queued", "running", "retrying", "interrupted"})
"""The states of items that have neither completed nor failed, and were not skipped."""

_HAS_HOOK, _ENDED, _IN_HOOK, _HAD_HOOK = 1, 2, 4, 8
_MAX_COUNT: Final = 0xFFFFFFFF
_MAX_PROCESSES: Final = 10_000
"""How many worker processes are remembered; for items that ran in later ones, the process is not known."""


class ItemTable:
    """All items of a run, a row for each. Rows are in the order of enqueue, counted from 0.

    The events must be consistent (see `aqueue._history.repair`).

    Attributes:
        types: the item types in the order of their first item; `type_number` holds indexes of it.
        parent_row: the row of each item's parent; -1 for initial items.
        enqueued_at, started_at, ended_at: when it was announced, last started, and when that attempt ended; Unix time in
            seconds, 0.0 for never.
        duration_s: how long the last attempt of its `process` that ended took, and the last of its hook since then, seconds.
        attempts: how often its `process` was started.
        worker: the worker that last took it; 0 for none.
        enqueued_seq, described_seq, failed_seq: the numbers of the events that announced it, last described it, and last
            said that an attempt failed; 0 for none.
        due: when those that wait may start again, by row; Unix time in seconds.
        group_seq: the number of the event that has its latest group, by row, if that isn't the one that announced it.
        last_at: the time of the last event, Unix time in seconds.
    """

    def __init__(self) -> None:
        self.types: list[str] = []
        self.type_number = array("I")
        self.parent_row = array("q")
        self.enqueued_at = array("d")
        self.started_at = array("d")
        self.ended_at = array("d")
        self.duration_s = array("f")
        self.attempts = array("I")
        self.worker = array("I")
        self.enqueued_seq = array("q")
        self.described_seq = array("q")
        self.failed_seq = array("q")
        self.due: dict[int, float] = {}
        self.group_seq: dict[int, int] = {}
        self.last_at = 0.0
        self._crashed_at = 0.0  # when the process before the last one was last heard of
        self._state = bytearray()
        self._flags = bytearray()
        self._process_s = array("f")  # `duration_s` without the hook, once that has started
        self._type_numbers: dict[str, int] = {}
        self._first = 1  # the number of the item in row 0, as long as numbers follow each other
        self._rows: dict[int, int] | None = None  # where they don't
        self._numbers: list[int] = []
        self._processes = WorkerProcesses()
        # On a cluster, by row: the worker process in which it last started, as an index of the list below; 0 for not known.
        self._process_index = array("I")
        self._known_processes: list[WorkerProcess | None] = [None]
        self._index_of_process: dict[int, int] = {}  # by the number of its first worker
        # The columns that are 0 for a new item.
        self._zero_at_first = (
            *(self.started_at, self.ended_at, self.duration_s, self._process_s, self.attempts, self.worker),
            *(self.described_seq, self.failed_seq, self._process_index),
        )

    def __len__(self) -> int:
        return len(self._state)

    # ---- asking -------------------------------------------------------------------------------------------------

    def row_of(self, item: int) -> int | None:
        """Return the row of the item with this number; None if there is none."""
        if self._rows is not None:
            return self._rows.get(item)
        row = item - self._first
        return row if 0 <= row < len(self._state) else None

    def item_of(self, row: int) -> int:
        """Return the number of the item in a row."""
        return self._first + row if self._rows is None else self._numbers[row]

    def parent_of(self, row: int) -> int:
        """Return the number of the parent of the item in a row; 0 for an initial item."""
        parent = self.parent_row[row]
        return self.item_of(parent) if parent >= 0 else 0

    def type_of(self, row: int) -> str:
        """Return its type."""
        return self.types[self.type_number[row]]

    def state_of(self, row: int) -> State:
        """Return its state."""
        return STATES[self._state[row]]

    def rows_in(self, states: Iterable[State], type_numbers: frozenset[int] | None = None) -> Iterator[int]:
        """Yield the rows of the items in one of these states, and of these types, unless `type_numbers` is None."""
        wanted = bytes(state in set(states) for state in STATES)
        of_type = self.type_number
        for row, state in enumerate(self._state):
            if wanted[state] and (type_numbers is None or of_type[row] in type_numbers):
                yield row

    def is_in(self, *states: State) -> bytes:
        """Return a byte for each row: 1 if its item is in one of `states`, else 0."""
        wanted = {STATES.index(state) for state in states}
        return bytes(self._state).translate(bytes(number in wanted for number in range(256)))

    def counts(self) -> dict[tuple[int, State], int]:
        """Return how many items of each type, by its index, are in each state; states without items are left out."""
        found = Counter(zip(self.type_number, self._state, strict=True))
        return {(number, STATES[state]): count for (number, state), count in found.items()}

    def process_of(self, row: int) -> WorkerProcess | None:
        """Return the worker process in which its `process` last started; None without a cluster, or if not known."""
        return self._known_processes[self._process_index[row]]

    def has_hook(self, row: int) -> bool:
        """Return whether its class has an `after_children_processed` of its own."""
        return bool(self._flags[row] & _HAS_HOOK)

    def is_in_hook(self, row: int) -> bool:
        """Return whether its hook is running."""
        return bool(self._flags[row] & _IN_HOOK)

    def is_closed(self, row: int) -> bool:
        """Return whether it and everything below it, its hook included, have ended well."""
        return bool(self._flags[row] & _ENDED)

    def lose_workers(self) -> None:
        """Note that the process has crashed: what was running is interrupted."""
        for row in list(self.rows_in(("running",))):
            state = _COMPLETED if self._flags[row] & _IN_HOOK else _INTERRUPTED
            self._end(row, state, self.last_at, self.last_at - self.started_at[row])

    # ---- folding ------------------------------------------------------------------------------------------------

    def apply(self, events: Sequence[Event]) -> None:
        """Fold `events`, which must follow those applied so far."""
        state, started_at, ended_at, duration_s = self._state, self.started_at, self.ended_at, self.duration_s
        attempts, workers, described_seq = self.attempts, self.worker, self.described_seq
        at = self.last_at
        known = self._index_of_process
        # Those that were announced come first: nothing names an item earlier, and it depends on nothing but its parent.
        if new := [event for event in events if type(event) is ItemEnqueued]:
            self._add(new)
        first, rows = self._first, self._rows
        for event in events:
            previous_at, at = at, event.at
            cls = type(event)
            if cls is ItemDescribed:
                assert isinstance(event, ItemDescribed)
                row = event.item - first if rows is None else rows[event.item]
                described_seq[row] = event.seq
            elif cls is ItemStarted:
                assert isinstance(event, ItemStarted)
                row = event.item - first if rows is None else rows[event.item]
                if state[row] == _RETRYING:
                    self.due.pop(row, None)
                state[row] = _RUNNING
                started_at[row] = at
                ended_at[row] = 0.0
                worker = event.worker
                workers[row] = worker if 0 <= worker <= _MAX_COUNT else min(max(worker, 0), _MAX_COUNT)
                if event.phase == "process":
                    if known:  # never without a cluster
                        process = self._processes.of(worker)
                        self._process_index[row] = known[process.first_worker] if process is not None else 0
                    attempt = event.attempt
                    attempts[row] = attempt if 0 <= attempt <= _MAX_COUNT else min(max(attempt, 0), _MAX_COUNT)
                    if attempt > 1:  # after a snapshot, how its hook ended may not be among the events
                        self._flags[row] &= ~(_IN_HOOK | _HAD_HOOK)
                else:
                    if self._flags[row] & _HAD_HOOK:
                        duration_s[row] = self._process_s[row]
                    else:
                        self._process_s[row] = duration_s[row]
                    self._flags[row] |= _IN_HOOK | _HAD_HOOK
            elif cls is ItemCompleted:
                assert isinstance(event, ItemCompleted)
                row = event.item - first if rows is None else rows[event.item]
                state[row] = _COMPLETED
                ended_at[row] = at
                duration_s[row] = event.duration_s
            elif cls is not ItemEnqueued:
                self._apply_rare(event, previous_at)
        self.last_at = at

    def _add(self, new: list[ItemEnqueued]) -> None:
        """Add items column by column: an append to each column for each item takes four times as long."""
        numbers, row, first = self._type_numbers, len(self._state), self._first
        items = [event.item for event in new]
        if not row:
            first = self._first = items[0]
        if self._rows is None and items != list(range(first + row, first + row + len(items))):
            self._number_by_dict()
        if self._rows is None:
            parents = [event.parent - first if first <= event.parent < event.item else -1 for event in new]
        else:
            self._rows.update(zip(items, count(row)))  # which has no end
            self._numbers += items
            parents = [self._rows.get(event.parent, -1) for event in new]
        types = [event.type for event in new]
        for name in dict.fromkeys(types):
            if name not in numbers:
                numbers[name] = len(self.types)
                self.types.append(name)
        self.parent_row.extend(parents)
        self.type_number.extend([numbers[name] for name in types])
        self.enqueued_at.extend([event.at for event in new])
        self.enqueued_seq.extend([event.seq for event in new])
        self._flags.extend([_HAS_HOOK if event.hook else 0 for event in new])
        self._state.extend([_QUEUED] * len(new))
        for column in self._zero_at_first:
            column.frombytes(bytes(column.itemsize * len(new)))

    def _number_by_dict(self) -> None:
        """Look items up in a dict from now on: in a log that lacks lines, their numbers don't follow each other."""
        self._numbers = list(range(self._first, self._first + len(self._state)))
        self._rows = {item: row for row, item in enumerate(self._numbers)}

    def _apply_rare(self, event: Event, previous_at: float) -> None:
        match event:
            case ev.RunStarted():  # RunResumed is one
                self._processes.clear()
                if isinstance(event, ev.RunResumed):
                    self._crashed_at = previous_at
            case ev.ProcessJoined():
                process = self._processes.join(event)
                is_kept = len(self._known_processes) <= _MAX_PROCESSES
                self._index_of_process[event.first_worker] = len(self._known_processes) if is_kept else 0
                self._known_processes += [process] if is_kept else []
            case ev.ProcessLeft():
                self._processes.leave(event)
            case ev.ItemFailed():
                row = self._row(event.item)
                self._end(row, _FAILED, event.at, event.duration_s)
                self.failed_seq[row] = event.seq
            case ev.ItemRetryScheduled():
                row = self._row(event.item)
                self._end(row, _RETRYING, event.at, event.at - self.started_at[row])
                self.failed_seq[row] = event.seq
                self.due[row] = event.due
            case ev.ItemInterrupted():
                row = self._row(event.item)
                state = _COMPLETED if event.phase == "after_children" else _INTERRUPTED
                # For a crash this event comes with the resume, which may be a week later.
                at = self._crashed_at if event.reason == "crash" else event.at
                self._end(row, state, at, max(at - self.started_at[row], 0.0))
            case ev.ItemChildrenProcessed():
                row = self._row(event.item)
                if self._state[row] in (_RUNNING, _RETRYING):
                    self._end(row, _COMPLETED, event.at, event.at - self.started_at[row])
                self._flags[row] |= _ENDED
            case ev.ItemChildrenFailed():
                self._leave_hook(self._row(event.item), event.at)
            case ev.ItemReopened():
                row = self._row(event.item)
                self._leave_hook(row, event.at)
                self._flags[row] &= ~_ENDED
                if event.rerun or event.failed == "process":
                    self._state[row] = _QUEUED
                    self.group_seq[row] = event.seq
                elif event.failed is not None:
                    self._state[row] = _COMPLETED
                elif event.ended is not None and self._state[row] == _QUEUED:  # its earlier events were not read
                    self._state[row] = _SKIPPED if event.skipped else _COMPLETED
            case _:
                self._apply_steering(event, previous_at)

    def _apply_steering(self, event: Event, previous_at: float) -> None:
        match event:
            case ev.RunEdited():
                self._crashed_at = previous_at
            case ev.ItemSkipped():
                row = self._row(event.item)
                self._state[row] = _SKIPPED
                self.due.pop(row, None)
            case ev.ItemRegrouped():
                self.group_seq[self._row(event.item)] = event.seq
            case ev.ItemRescheduled():
                row = self._row(event.item)
                if self._state[row] == _RETRYING:
                    self.due[row] = event.due
            case _:
                pass

    def _leave_hook(self, row: int, at: float) -> None:
        """End the hook of an item, or its wait for a retry of the hook: a descendant has failed."""
        if self._state[row] == _RUNNING:
            self._end(row, _COMPLETED, at, at - self.started_at[row])
        elif self._state[row] == _RETRYING:
            self._state[row] = _COMPLETED
            self.due.pop(row, None)

    def _row(self, item: int) -> int:
        row = self.row_of(item)
        if row is None:
            raise KeyError(item)
        return row

    def _end(self, row: int, state: int, at: float, duration_s: float) -> None:
        self._state[row] = state
        self.ended_at[row] = at
        self.duration_s[row] = duration_s + (self.duration_s[row] if self._flags[row] & _IN_HOOK else 0.0)
        self._flags[row] &= ~_IN_HOOK
        self.due.pop(row, None)
