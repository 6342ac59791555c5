"""A run as it was after one of its earlier events, and what happened to it, which leads there."""

import time
from collections.abc import Iterator
from typing import Final

from aqueue._history.event_words import details, name_of
from aqueue._history.record import RunState
from aqueue._page.failure_kinds import FailureKinds, densest
from aqueue._page.item_query import ItemReader
from aqueue._page.moment import Mark, Moment
from aqueue._page.over_time import Fold
from aqueue.events import (
    Event,
    RunEdited,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStopping,
    RunUnpaused,
)
from aqueue.figures import amount, person

__all__ = ["PastMoment", "commands_of", "elapsed_at", "marks_of", "time_at", "what_was_done"]

_LOOK_S: Final = 0.1
_CHUNK_EVENTS: Final = 500
_MAX_MARKS: Final = 200
_MAX_COMMANDS: Final = 50
_BURST_SHARE: Final = 0.6
_BURST_BINS: Final = 3
_NUM_BINS: Final = 60
_MIN_BURST: Final = 10


class PastMoment(Moment):
    """A run as it was after the event `at`."""

    def __init__(self, latest: Moment, items: ItemReader, at: int) -> None:
        """Fold the run again up to there, from the nearest view that the index has.

        Parameters:
            latest: the run as it stands.
            items: reads its index.
            at: the number of the event; at most that of its last event.

        Raises:
            KeyError, IndexError: the journal holds what no run can have written.
            JournalError: it can't be read.
        """
        self.name, self.history, self.latest, self.items, self.at = latest.name, latest.history, latest, items, at
        self.index_error = latest.index_error
        self.view = items.view_at(at)
        self.now = self.view.at
        name = self.view.status if self.view.state == "finished" else None
        self.state = RunState(name or "running", "")
        self.kinds = FailureKinds()
        self._seqs = items.changes_of_failures(at)
        self._num_read = self._num_processes = 0
        self.look()

    def look(self) -> None:
        """Read for a while what is left of the failures: of each, its event must be read, and there may be 100,000."""
        assert self.items is not None
        end = time.monotonic() + _LOOK_S
        while self._num_read < len(self._seqs) and time.monotonic() < end:
            events = self.items.events_at(self._seqs[self._num_read : self._num_read + _CHUNK_EVENTS])
            self.kinds.apply(events)
            self._num_processes += sum(isinstance(event, RunStarted) for event in events)  # RunResumed is one
            self._num_read += _CHUNK_EVENTS

    @property
    def over_time(self) -> Fold:  # type: ignore[override]  # of the whole run: charts show where in it the moment is
        """Counts over the time of the whole run."""
        assert self.latest is not None
        return self.latest.over_time

    @property
    def read_share(self) -> float:  # type: ignore[override]
        """How much of these, and of the failures up to the moment, is read."""
        assert self.latest is not None
        return min(self.latest.read_share, self._num_read / max(len(self._seqs), 1), 1.0)

    @property
    def num_processes(self) -> int:
        """How many processes had run it by then."""
        return self._num_processes


# ---- the run's own time --------------------------------------------------------------------------------------------


def elapsed_at(fold: Fold, at: float) -> float:
    """Return the run's own time at the Unix time `at`, seconds."""
    elapsed_s = 0.0
    for process in fold.processes:
        if process.started.at > at:
            break
        ended_at = process.ended_at if process.end != "unknown" else at
        elapsed_s = process.before_s + min(at, ended_at) - process.started.at
    return elapsed_s


def time_at(fold: Fold, elapsed_s: float) -> float:
    """Return the Unix time at which the run had taken `elapsed_s` seconds."""
    process = next((one for one in reversed(fold.processes) if one.before_s <= elapsed_s), None)
    return 0.0 if process is None else process.started.at + elapsed_s - process.before_s


# ---- marks ---------------------------------------------------------------------------------------------------------


def marks_of(run: Moment, items: ItemReader) -> list[Mark]:
    """Return what happened to a run that has been read whole."""
    fold = run.over_time
    events = items.events_of_run()
    crashes = [crashed for _, _, crashed in fold.gaps()]
    marks = [Mark(seq, elapsed_at(fold, event.at), *said) for event in events for seq, said in _said_of(event, crashes)]
    marks = marks[:_MAX_MARKS] + list(_bursts(run, items))
    return sorted(marks)


def commands_of(items: ItemReader) -> list[Event]:
    """Return the last events that a person's command has caused, the latest first."""
    by_people = [
        event for event in items.events_of_run() if getattr(event, "by", "") and not isinstance(event, RunEdited)
    ]
    return by_people[: -_MAX_COMMANDS - 1 : -1]


def what_was_done(event: Event) -> str:
    """Return what a person did, in the words of `aqueue tail`, without who it was; not made safe to show."""
    said = " ".join([name_of(event)[1], *(part.strip() for _, part in details(event))])
    said = said.removeprefix("steered ").removeprefix("run ")
    return said.removesuffix(f"by {getattr(event, 'by', '')}").rstrip(" ,")


def _said_of(event: Event, crashes: list[bool]) -> Iterator[tuple[int, tuple[str, str]]]:
    """Yield the number of the event at which the run is shown, the icon and the words, if `event` is worth a mark.

    `crashes` are whether the processes of the run crashed; each resume takes the first of them.
    """
    match event:
        case RunResumed():
            if crashes and crashes.pop(0):
                yield event.seq - 1, ("cross", "killed")
            yield event.seq, ("run", "resumed")
        case RunStopping():
            yield event.seq, ("stop", f"stopping: {event.reason}")
        case RunFinished():
            yield event.seq, ("check" if event.status == "completed" else "stop", event.status)
        case RunEdited():
            pass  # what a person did without a process of the run follows
        case _ if by := getattr(event, "by", ""):
            sign = "pause" if isinstance(event, RunPaused) else "run" if isinstance(event, RunUnpaused) else "hand"
            yield event.seq, (sign, f"{what_was_done(event)} by {person(by)}")
        case _:
            pass


def _bursts(run: Moment, items: ItemReader) -> Iterator[Mark]:
    """Yield the end of a stretch of the run in which most of its failures happened."""
    elapsed_s = run.over_time.elapsed_s
    bars = [0] * _NUM_BINS
    for _, history in run.kinds.groups():
        bars = [sum(pair) for pair in zip(bars, history.bars(elapsed_s, _NUM_BINS), strict=True)]
    begin, count = densest(bars, _BURST_BINS)
    if count >= _MIN_BURST and count >= _BURST_SHARE * sum(bars):
        end_s = (begin + _BURST_BINS) / _NUM_BINS * elapsed_s
        seq = items.seq_at(time_at(run.over_time, end_s), items.seq)
        yield Mark(seq, end_s, "cross", f"{amount(count)} failed")
