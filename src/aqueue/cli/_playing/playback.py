"""Plays a recorded run to reporters: hands on each event at its time on the replay clock."""

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Final, Literal

from aqueue._history.history import History, batches
from aqueue._system.notice import say
from aqueue.cli._playing.feeding import BATCH_INTERVAL_S, TICK_INTERVAL_S, Feeding
from aqueue.cli._playing.replay_clock import ReplayClock
from aqueue.events import Event, RunResumed
from aqueue.figures import amount, duration

__all__ = ["KEYS", "Playback"]

KEYS: Final = "space pauses and resumes, + and - change the speed, q quits"
"""What the keys do."""

_MAX_RESUME_GAP_S: Final = 1.0
_MIN_WAIT_S: Final = 0.001
"""Less may be lost in rounding, and then never pass."""

_MAX_WAITING_EVENTS: Final = 20_000
_SPEEDS: Final = (1 / 64, 4_096.0)
"""Between which speeds the keys choose."""

_END_OF_RUN: Final = 2**63

_End = Literal["run", "until", "quit", "no_reporters"]
"""Why it ends: with the run, at the event that was asked for, by a person, or because all reporters have raised."""


class Playback:
    """Plays a run: waits as long as the run took from event to event, on a clock that a person can stop and speed up."""

    def __init__(
        self,
        history: History,
        feeding: Feeding,
        clock: ReplayClock,
        *,
        until: int | None = None,
        max_gap_s: float = math.inf,
        wait: Callable[[float], str],
        is_stopped: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make it; nothing is read yet.

        Parameters:
            history: the run.
            feeding: what gets the events.
            clock: the time of the run, as the reporters know it.
            until: the number of the event to stop after; None for all.
            max_gap_s: how long to wait for an event at most, real seconds.
            wait: waits so many seconds, less if a key is typed; returns the keys.
            is_stopped: returns whether a signal has come.
            monotonic: the real time, seconds.
        """
        self._history = history
        self._feeding = feeding
        self._clock = clock
        self._until = _END_OF_RUN if until is None else until
        self._max_gap_s = max_gap_s
        self._wait = wait
        self._is_stopped = is_stopped
        self._monotonic = monotonic
        self._due: list[Event] = []
        self._fed_at = -math.inf
        self._is_quit = False
        self._was_cut = False

    def play(self) -> _End:
        """Play to the end and return why it ended. Everything that was due has been handed on by then."""
        previous: Event | None = None
        for events in self._batches_of_one_process():
            if previous is None:
                self._clock.set(events[0].at)
            elif isinstance(events[0], RunResumed):
                self._wait_over_gap(events[0].at - previous.at, events[0].at)
            previous = events[-1]
            self._play(events)
            if self._has_ended:
                break
        if self._due and not self._has_ended:
            self._feed()
        if self._feeding.has_lost_reporters:
            return "no_reporters"
        if self._is_quit:
            return "quit"
        return "until" if self._was_cut else "run"

    def say_if_paused(self) -> None:
        """Print that the replay is paused, if it is. A display whose clock stands still draws only when something is printed.

        Safe in a signal handler.
        """
        if self._clock.is_paused:
            say(f"paused at event {amount(self._feeding.view.seq)}: {self._feeding.progress}; press space to continue")

    def _batches_of_one_process(self) -> Iterator[list[Event]]:
        """Yield the events up to the one to stop after, in lists; each `run.resumed` begins a new list."""
        for events in batches(self._history):
            if events and events[-1].seq > self._until:
                self._was_cut = True
                events = events[: bisect_right(events, self._until, key=lambda event: event.seq)]
            starts = [at for at, event in enumerate(events) if isinstance(event, RunResumed) and at]
            for start, end in zip([0, *starts], [*starts, len(events)], strict=True):
                if start < end:
                    yield events[start:end]
            if self._was_cut:
                return

    @property
    def _has_ended(self) -> bool:
        return self._is_quit or self._feeding.has_lost_reporters

    def _play(self, events: list[Event]) -> None:
        start = 0
        while start < len(events) and not self._has_ended:
            end = self._end_of_due(events, start)
            self._due += events[start:end]
            start = end
            if self._due and self._seconds_to_feed <= 0:
                self._feed()
                self._wait_once(0.0)
            if start < len(events):
                self._wait_for(events[start].at)

    def _end_of_due(self, events: list[Event], start: int) -> int:
        if not math.isinf(self._clock.speed):
            return bisect_right(events, self._clock(), lo=start, key=lambda event: event.at)
        if self._clock.is_paused:
            return start
        self._clock.set(events[-1].at)
        return len(events)

    @property
    def _seconds_to_feed(self) -> float:
        """How much longer events may wait to be fed with later ones, seconds."""
        if len(self._due) >= _MAX_WAITING_EVENTS:
            return 0.0
        return self._fed_at + BATCH_INTERVAL_S - self._monotonic()

    def _feed(self) -> None:
        self._feeding.feed(self._due)
        self._due = []
        self._fed_at = self._monotonic()

    # ---- waiting ------------------------------------------------------------------------------------------------

    def _wait_for(self, at: float) -> None:
        """Wait until the time of the run is `at`; meanwhile the reporters get what was due before."""
        waited_s = 0.0
        while not self._has_ended:
            left_s = self._clock.seconds_to(at)
            if left_s <= 0:
                return
            if waited_s >= self._max_gap_s and not self._clock.is_paused:
                say(f"— skipped {duration(at - self._clock())} without events —")
                self._clock.set(at)
                return
            waited_s += self._wait_once(min(left_s, max(self._max_gap_s - waited_s, 0.0)))

    def _wait_over_gap(self, gap_s: float, at: float) -> None:
        """Wait a moment for a gap of `gap_s` seconds between two processes of the run; continue at the time `at`."""
        if self._due:
            self._feed()
        say(f"— resumed after {duration(gap_s)} —")
        self._clock.set(is_held=True)
        left_s = min(gap_s / self._clock.speed, _MAX_RESUME_GAP_S)
        while left_s > 0 and not self._has_ended:
            left_s -= self._wait_once(left_s)
        self._clock.set(at, is_held=False)

    def _wait_once(self, seconds: float) -> float:
        """Wait, at most until reporters must be called, and obey the keys; return how long that took, 0 while paused."""
        before = self._monotonic()
        was_paused = self._clock.is_paused
        if self._due:
            to_feed_s = self._seconds_to_feed
            if to_feed_s <= 0:
                self._feed()
            else:
                seconds = min(seconds, to_feed_s)
        elif before - self._fed_at >= TICK_INTERVAL_S and self._feeding.started is not None:
            self._feeding.tick()
            self._fed_at = before
        if seconds > 0:
            seconds = max(min(seconds, BATCH_INTERVAL_S), _MIN_WAIT_S)
        keys = self._wait(seconds)
        for key in keys:
            self._press(key)
        self._is_quit = self._is_quit or self._is_stopped()
        return 0.0 if was_paused else self._monotonic() - before

    def _press(self, key: str) -> None:
        clock = self._clock
        if key in "qQ":
            self._is_quit = True
        elif key == " ":
            if self._due:
                self._feed()
            clock.set(is_paused=not clock.is_paused)
            self.say_if_paused()
        elif key in "+=-":
            slowest, fastest = _SPEEDS
            if key == "-":
                clock.set(speed=min(max(clock.speed / 2, slowest), fastest))
            elif clock.speed < fastest:
                clock.set(speed=clock.speed * 2)
            say(f"speed {clock.speed:g}")
