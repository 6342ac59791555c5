"""Makes the data that the page's script draws."""

from collections.abc import Callable
from typing import Any, Final

from aqueue.cli._report._durations import BINS_PER_DECADE, bin_edge
from aqueue.cli._report._fold import Fold
from aqueue.cli._report._processes import Clock
from aqueue.cli._report._series import Period
from aqueue.cli._report._timeline import Span
from aqueue.cli._report._tree import Cell
from aqueue.figures import duration
from aqueue.text import short_names, visible

__all__ = ["SPAN_TEXT_MAX_CHARS", "chart_data"]

SPAN_TEXT_MAX_CHARS: Final = 60
_MAX_SERIES: Final = 7
"""How many types a histogram tells apart at once; the page's colours are one more."""

Points = list[tuple[float, float | None]]


def chart_data(fold: Fold, bins: list[Period], cells: list[Cell]) -> dict[str, Any]:
    """Return the data of all charts. Times are milliseconds since the run's start, the time between processes included.

    All texts in it are made visible.
    """
    clock = fold.processes.clock()
    names = short_names(fold.types)
    return {
        "end": _ms(clock.after(fold.elapsed_s)),
        "gaps": [
            [_ms(clock.before(gap.at)), _ms(clock.after(gap.at)), _gap(gap.crashed, gap.length_s)] for gap in clock.gaps
        ],
        "types": [visible(names[type], 100) for type in fold.types],
        "rate": _stepped(bins, lambda period: round(period.rate, 4), clock),
        "busy": _stepped(bins, lambda period: round(period.busy, 3), clock),
        "workers": _workers(fold, clock),
        "enqueued": _cumulative(bins, lambda period: period.enqueued, clock),
        "done": _cumulative(bins, lambda period: period.done, clock),
        "failed": _cumulative(bins, lambda period: period.failed, clock)
        if any(period.failed for period in bins)
        else [],
        "rows": sorted(fold.timeline.rows),
        "spans": [
            _span(number, span, clock)
            for number, (_, spans) in enumerate(sorted(fold.timeline.rows.items()))
            for span in spans
        ],
        "durations": _durations(fold),
        "cells": [
            [c.parent, c.type, c.item, c.count, c.size, c.failed, round(c.busy_s, 4), int(c.is_cut)] for c in cells
        ],
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1_000, 3)


def _gap(crashed: bool, length_s: float) -> str:
    return f"{'crashed' if crashed else 'stopped'}, resumed after {duration(length_s)}"


def _stepped(bins: list[Period], value: Callable[[Period], float], clock: Clock) -> Points:
    """Return where a line that is level within each period has its corners; within gaps there is none."""
    points: Points = []
    gaps = iter([*(gap.at for gap in clock.gaps), float("inf")])
    gap = next(gaps)
    for period in bins:
        points.append((_ms(clock.after(period.start)), value(period)))
        while gap <= period.end:
            points += [(_ms(clock.before(gap)), value(period)), (_ms(clock.before(gap)), None)]
            if gap < period.end:
                points.append((_ms(clock.after(gap)), value(period)))
            gap = next(gaps)
    if bins:
        points.append((_ms(clock.before(bins[-1].end)), value(bins[-1])))
    return points


def _cumulative(bins: list[Period], value: Callable[[Period], int], clock: Clock) -> Points:
    """Return the corners of a line that rises within each period, and stays level in gaps."""
    points: Points = [(0.0, 0)]
    gaps = iter([*(gap.at for gap in clock.gaps), float("inf")])
    gap = next(gaps)
    before = 0
    for period in bins:
        while gap <= period.end:
            share = (gap - period.start) / (period.end - period.start) if period.end > period.start else 1.0
            level = round(before + share * (value(period) - before), 1)
            points += [(_ms(clock.before(gap)), level), (_ms(clock.after(gap)), level)]
            gap = next(gaps)
        before = value(period)
        points.append((_ms(clock.after(period.end) if period is not bins[-1] else clock.before(period.end)), before))
    return points


def _workers(fold: Fold, clock: Clock) -> Points:
    changes = fold.processes.worker_changes()
    points: Points = [(_ms(clock.after(at)), count) for at, count in changes]
    if changes:
        points.append((_ms(clock.before(fold.elapsed_s)), changes[-1][1]))
    return points


def _span(row: int, span: Span, clock: Clock) -> list[Any]:
    start = _ms(clock.after(span.start))
    end = max(_ms(clock.before(span.end)), start)
    drawn: list[Any] = [row, start, end, span.outcome, span.type, span.count]
    if span.count == 1:
        drawn += [span.item, span.attempt, int(span.is_hook), visible(span.text, SPAN_TEXT_MAX_CHARS)]
    else:
        drawn += [_ms(span.busy_s), span.failed, span.retried, span.interrupted]
    return drawn


def _durations(fold: Fold) -> dict[str, Any]:
    """Return the histogram: its bins, and for each of the most numerous types how many attempts are in each."""
    types = sorted(fold.durations.types.items(), key=lambda entry: -entry[1].count)
    used = [index for _, type in types for index, count in enumerate(type.bins) if count]
    if not used:
        return {"edges": [], "types": []}
    first, end = min(used), max(used) + 1
    series = [[number, list(type.bins[first:end])] for number, type in types[:_MAX_SERIES]]
    if others := types[_MAX_SERIES:]:
        series.append([-1, [sum(type.bins[index] for _, type in others) for index in range(first, end)]])
    return {
        "edges": [duration(bin_edge(index)) for index in range(first, end + 1)],
        "decades": [index - first for index in range(first, end) if index % BINS_PER_DECADE == 0],
        "types": series,
    }
