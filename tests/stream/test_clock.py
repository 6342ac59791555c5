"""The clock of a run (`_stream.clock`): it follows the wall clock forward, and never goes back."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue._stream.clock import CLOCK_STEP_S, Clock


@given(st.lists(st.floats(-1e6, 1e6), max_size=20))
def test_the_time_never_decreases_and_is_never_behind(jumps: list[float]) -> None:
    """Whatever the wall clock is set to: after a look at it, the run's time is at most a step behind the latest that it was."""
    with pytest.MonkeyPatch.context() as patch:
        monotonic, wall = 1_000.0, 2_000_000.0
        patch.setattr(time, "monotonic", lambda: monotonic)
        patch.setattr(time, "time", lambda: wall)
        clock = Clock()
        latest, offset = wall - monotonic, clock.offset
        for jump in jumps:
            wall += jump
            monotonic += 1
            wall += 1
            clock.follow_wall_clock()
            latest = max(latest, wall - monotonic)
            assert offset <= clock.offset <= latest
            assert latest - clock.offset <= CLOCK_STEP_S
            offset = clock.offset


def test_a_thread_that_was_held_up_between_two_looks_follows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies between the two clocks is then its own pause, and no jump."""
    clock = Clock()
    offset = clock.offset
    steps = iter([1_000.0, 1_030.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(steps))
    monkeypatch.setattr(time, "time", lambda: offset + 1_030.0)
    clock.follow_wall_clock()
    assert clock.offset == offset
