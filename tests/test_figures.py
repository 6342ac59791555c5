"""Counts, rates and times as people read them."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue.figures import amount, clock, duration, limit_words, local_minute, per_second, person, time_ago, when_due


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-1.0, "0 s"),
        (0.0, "0 s"),
        (0.000_25, "250 µs"),
        (0.000_999_6, "1 ms"),
        (0.003_2, "3.2 ms"),
        (0.25, "0.25 s"),
        (9.994, "9.99 s"),
        (12.34, "12.3 s"),
        (59.96, "1 min 0 s"),
        (125.0, "2 min 5 s"),
        (12_000.0, "3 h 20 min"),
        (349_200.0, "4 d 1 h"),
        (math.inf, "inf s"),
    ],
)
def test_durations_have_three_figures_or_two_units(seconds: float, expected: str) -> None:
    """Whatever the size, it can be read at a glance."""
    assert duration(seconds) == expected


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_no_number_is_too_odd(seconds: float) -> None:
    """What a spoiled file says is written somehow, and never raises."""
    assert duration(seconds)
    if not math.isnan(seconds):
        assert clock(seconds)
        assert when_due(seconds, 0.0)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-5.0, "0:00"), (7.9, "0:07"), (754.0, "12:34"), (3_723.0, "1:02:03"), (183_845.0, "2d 03:04:05")],
)
def test_a_clock_has_whole_seconds(seconds: float, expected: str) -> None:
    """As a clock shows them."""
    assert clock(seconds) == expected


def test_counts_and_rates_are_grouped() -> None:
    """Thousands are told apart; a rate has a decimal only where it tells something."""
    assert [amount(1_234_567), per_second(0.04), per_second(99.9), per_second(1_234.5)] == [
        "1,234,567",
        "0.0",
        "99.9",
        "1,234",
    ]


@pytest.mark.parametrize(
    ("due", "expected"),
    [(-1.0, "now"), (0.0, "now"), (11.2, "in 12 s"), (100.0, "in 2 min"), (6_000.0, "in 2 h")],
)
def test_when_something_is_due_is_rounded_up(due: float, expected: str) -> None:
    """Nobody is told to come too early."""
    assert when_due(due, 0.0) == expected


@pytest.mark.parametrize(
    ("concurrent", "per_second", "expected"),
    [(2, None, "2 at once"), (None, 0.02, "0.02/s"), (1_000, 50.0, "1,000 at once, 50/s"), (None, None, "")],
)
def test_a_limit_in_words(concurrent: int | None, per_second: float | None, expected: str) -> None:
    """Both figures where there are both; a small rate is not rounded away."""
    assert limit_words(concurrent, per_second) == expected


@pytest.mark.parametrize("by", ["anna@laptop via aqueue", "anna@laptop", "anna@laptop via aqueue via page"])
def test_who_gave_a_command_is_told_without_how(by: str) -> None:
    """And a name without it is left as it is."""
    assert person(by) == "anna@laptop"


def test_a_minute_has_the_date_of_another_day() -> None:
    """Local time in both cases."""
    at = time.mktime((2026, 11, 29, 14, 3, 9, 0, 0, -1))
    assert local_minute(at, at + 60) == "14:03"
    assert local_minute(at, at + 86_400) == "2026-11-29 14:03"
    assert local_minute(1e300, at) == "?"


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1, "0 s ago"), (9.9, "9 s ago"), (59.9, "59 s ago"), (189, "3 min 9 s ago")]
)
def test_how_long_ago(seconds: float, words: str) -> None:
    """Whole seconds, in the units that durations have everywhere."""
    assert time_ago(seconds) == words
