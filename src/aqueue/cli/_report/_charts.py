"""The charts that only the report has: a sentence that says what each shows, its data, and that data as a table."""

from collections import Counter
from typing import Any, Final

from aqueue._folds.tree_shape import TreeShape
from aqueue._history.record import Record
from aqueue._page.html import Html, counted, joined, percent, table, text
from aqueue._page.over_time import BINS_PER_DECADE, Fold, bin_edge
from aqueue._page.pictures import chart
from aqueue._page.timeline import MAX_ROWS, Span
from aqueue.cli._record import cut_tree
from aqueue.figures import amount, duration
from aqueue.text import short_names, visible

__all__ = ["MAX_CELLS", "chart_data", "concurrency", "durations", "timeline", "tree", "tree_cells"]

MAX_CELLS: Final = 3_000
_MAX_SIBLINGS: Final = 20
_MAX_LEVELS: Final = 40
_MAX_TYPES: Final = 100
_MAX_LEVEL_ROWS: Final = 200
_MAX_SERIES: Final = 7
"""How many types a histogram shows one by one; the page has one more color, for all others."""

_MAX_BINS: Final = 150
_SPAN_TEXT_MAX_CHARS: Final = 60
_HOLLOW: Final = {
    "interrupted": {"interrupted", "crashed"},
    "still running": {"running"},
    "no end recorded": {"unended"},
}
"""Which outcomes of attempts are drawn hollow, by their name in the legend."""

_MOVES: Final = (("previous", "←", "Previous"), ("next", "→", "Next"), ("up", "↑", "Above"), ("down", "↓", "Below"))
_ZOOMS: Final = (("in", "+", "Zoom in"), ("out", "\u2212", "Zoom out"))

Cell = list[int]
"""A part of the tree: its parent's index (-1 for the run), type, item (0 for several), how many siblings it is, how many
items with all below them, how many of those failed (of several: of these siblings), how many of them were skipped, and
whether items below it are left out.
"""


def chart_data(fold: Fold, cells: list[Cell]) -> dict[str, Any]:
    """Return the data of all charts. Times are milliseconds of the run's own time. All texts in it are made visible."""
    names = short_names(fold.types)
    return {
        "end": _ms(fold.elapsed_s),
        "gaps": [
            [_ms(at), f"{'crashed' if crashed else 'stopped'}, resumed after {duration(length_s)}"]
            for at, length_s, crashed in fold.gaps()
        ],
        "types": [visible(names[type], 100) for type in fold.types],
        "rows": sorted(fold.timeline.rows),
        "spans": [
            _span(number, span)
            for number, (_, spans) in enumerate(sorted(fold.timeline.rows.items()))
            for span in spans
        ],
        "durations": _histogram(fold),
        "cells": cells,
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1_000, 3)


def _span(row: int, span: Span) -> list[Any]:
    drawn: list[Any] = [row, _ms(span.start), _ms(span.end), span.outcome, span.type, span.count]
    if span.count > 1:
        return [*drawn, _ms(span.busy_s), span.failed]
    return [*drawn, span.item, span.attempt, int(span.is_hook), visible(span.text, _SPAN_TEXT_MAX_CHARS)]


def _histogram(fold: Fold) -> dict[str, Any]:
    """Return the histogram: its bins, and for each of the most numerous types how many attempts are in each."""
    types = sorted(fold.durations.items(), key=lambda entry: -entry[1].count)
    used = [index for _, of in types for index, count in enumerate(of.bins) if count]
    if not used:
        return {"edges": [], "types": []}
    shown = range(min(used), max(used) + 1)
    series = [[number, of.bins[shown.start : shown.stop].tolist()] for number, of in types[:_MAX_SERIES]]
    if others := types[_MAX_SERIES:]:
        series.append([-1, [sum(of.bins[index] for _, of in others) for index in shown]])
    return {
        "edges": [duration(bin_edge(index)) for index in range(shown.start, shown.stop + 1)],
        "decades": [index - shown.start for index in shown if index % BINS_PER_DECADE == 0],
        "types": series,
    }


def concurrency(fold: Fold) -> Html:
    """Return the chart of how many workers were busy, and how many there were."""
    bins = fold.series.bins(fold.elapsed_s, _MAX_BINS)
    busy_s = sum(period.busy * (period.end - period.start) for period in bins)
    most = amount(max((process.num_workers for process in fold.processes), default=0))
    if any(process.started.cluster for process in fold.processes):
        most = f"at most {most}"
    said = f"{busy_s / fold.elapsed_s:.1f} of {most} on average"
    drawn = chart(
        f"Busy workers over the run: {said}.",
        bins,
        [("found", lambda period: period.workers), ("done", lambda period: period.busy)],
        [(at, "killed" if crashed else "stopped") for at, _, crashed in fold.gaps()],
        is_stepped=True,
    )
    legend = '<li><i class="key found"></i>workers</li><li><i class="key done"></i>busy</li>'
    return Html(
        f'<figure id="busy" class="card whole"><figcaption><h2>Busy workers</h2><span class="quiet">{text(said)}</span>'
        f'<ul class="legend end">{legend}</ul></figcaption>{drawn}</figure>\n'
    )


def timeline(fold: Fold) -> Html:
    """Return the chart of what each worker did."""
    line = fold.timeline
    spans = [span for row in line.rows.values() for span in row]
    attempts = sum(totals.attempts for totals in line.totals.values())
    drawn = sum(span.count for span in spans)
    single = [span for span in spans if span.count == 1]
    said = f"{counted(drawn, 'attempt')} as {counted(len(spans), 'bar')} in {counted(len(line.rows), 'row')}."
    if len(line.totals) > len(line.rows):
        said += f" Left out: {counted(len(line.totals) - len(line.rows), 'worker')} numbered above {MAX_ROWS}, with "
        said += f"{counted(attempts - drawn, 'attempt')}."
    if any(process.started.cluster for process in fold.processes):
        said += " On a cluster, several workers may have had the same number, one after the other."
    if len(single) < drawn:
        said += (
            f" Each attempt longer than {duration(line.limit_s)} has its own bar; {amount(drawn - len(single))} shorter ones "
            f"share {counted(len(spans) - len(single), 'paler bar')} with their neighbors."
        )
    if gaps := list(fold.gaps()):
        said += (
            f" The time between processes, {duration(sum(length_s for _, length_s, _ in gaps))} in total, is left out; "
        )
        said += "a line across the chart marks each gap."
    rows = [
        (
            worker,
            amount(totals.attempts),
            duration(totals.busy_s),
            percent(totals.busy_s, fold.elapsed_s),
            duration(totals.longest_s),
            amount(totals.failed),
        )
        for worker, totals in sorted(line.totals.items())[:MAX_ROWS]
    ]
    columns = ["Worker", "Attempts", "Busy", "Share of the run", "Longest", "Failed"]
    outcomes = {span.outcome for span in single}
    unended = " or ".join(words for words, hollow in _HOLLOW.items() if outcomes & hollow)
    legend = [
        ("completed", "completed", True),
        ("failed", "failed (full height)", "failed" in outcomes),
        ("retried", "failed, retried (half height)", "retried" in outcomes),
        ("paler", "several short attempts", len(single) < drawn),
        ("below", "some of these failed", any(span.count > 1 and span.failed for span in spans)),
        ("hollow", f"{unended} (hollow)", bool(unended)),
        ("skipped", "skipped by a person (hollow)", "skipped" in outcomes),
    ]
    hint = (
        "To read about a bar, select it with these buttons, with the arrow keys or by a click. "
        f"Descriptions are cut at {_SPAN_TEXT_MAX_CHARS} characters."
    )
    return _figure(
        "timeline",
        "What each worker did",
        said,
        _data("Workers", table("Totals of each worker", columns, rows, range(6))),
        _legend([(name, words) for name, words, is_there in legend if is_there]),
        _controls("timeline", hint),
    )


def durations(fold: Fold) -> Html:
    """Return the histogram of how long attempts took."""
    names = short_names(fold.types)
    types = sorted(fold.durations.items(), key=lambda entry: -entry[1].count)
    count = sum(of.count for _, of in types)
    said = f"How long {counted(count, 'attempt')} took, hooks included, interrupted attempts not. The scale is logarithmic."
    if types:
        number, most = types[0]
        said += (
            f" For {names[fold.types[number]][:100]}, the most frequent type, the median is about "
            f"{duration(most.quantile(0.5))}, and the longest took {duration(most.longest_s)}."
        )
    rows = [
        (
            text(names[fold.types[number]], 200),
            amount(of.count),
            *map(duration, (of.total_s, of.total_s / of.count, of.quantile(0.5), of.quantile(0.95), of.longest_s)),
        )
        for number, of in types[:_MAX_TYPES]
    ]
    columns = ["Type", "Attempts", "Total", "Mean", "Median", "95th percentile", "Longest"]
    control = Html(
        '<p class="moves"><label>Type <select id="durations-type"><option value="">all</option></select></label></p>'
    )
    caption = "How long attempts took; medians and percentiles are from the histogram, accurate to a few percent"
    legend = Html('<ul class="legend" id="durations-legend"></ul>')
    data = _data("Durations", table(caption, columns, rows, range(1, 7)))
    return _figure("durations", "Durations", said, data, legend, control)


def tree(record: Record, cells: list[Cell]) -> Html:
    """Return the tree of items as an icicle."""
    levels = _levels(record)
    depth = max((level for level, _ in levels), default=0)
    cut = sum(cell[-1] for cell in cells)
    said = (
        f"The tree of {counted(len(record.items), 'item')}, {counted(depth, 'level')} deep. Below each item are those that it "
        "enqueued; the width shows the number of items in the subtree. Many siblings of one type share one cell."
    )
    if cut:
        said += f" This page has {amount(len(cells))} cells, of at most {MAX_CELLS:,}. Below {amount(cut)} of them, marked with …, "
        said += "items are left out."
    ranked = sorted(levels.items(), key=lambda entry: (entry[0][0], -entry[1]["items"]))
    counted_columns = ["Items", "Failed", *(["Skipped"] if record.view.counts.skipped else [])]
    rows = [
        (level, record.names[record.items.types[number]], *(amount(of[name.lower()]) for name in counted_columns))
        for (level, number), of in ranked[:_MAX_LEVEL_ROWS]
    ]
    caption = "Items by level and type" + (f", the first {_MAX_LEVEL_ROWS} rows" if len(ranked) > len(rows) else "")
    hint = "Select a cell with these buttons or the arrow keys and zoom with + and \u2212, or click in the chart."
    path = Html('<nav aria-label="Position in the tree"><ol class="trail" id="tree-path"></ol></nav>')
    return _figure(
        "tree",
        "Tree of items",
        said,
        _data("Tree of items", table(caption, ["Level", "Type", *counted_columns], rows, (0, *range(2, 5)))),
        Html('<ul class="legend" id="tree-legend"></ul>'),
        joined([_controls("tree", hint), path]),
    )


def tree_cells(record: Record, fold: Fold) -> list[Cell]:
    """Return the cells of the tree, at most 3,000, each after the one above it. The first is the run."""
    items = record.items
    shape = TreeShape(items)
    cuts = cut_tree(shape, None, _MAX_LEVELS, _MAX_SIBLINGS)
    counts = record.view.counts
    cells: list[Cell] = [[-1, -1, 0, 1, len(items), counts.failed, counts.skipped, 0]]
    index_of = {-1: 0}
    for row, cut in cuts.items():
        above = index_of.get(row)
        if above is None:
            continue
        if len(cells) + len(cut.children) + len(cut.folded) > MAX_CELLS:
            cells[above][-1] = 1
            continue
        for child in cut.children:
            index_of[child] = len(cells)
            below = shape.below(child)
            failed = below.failed + (items.state_of(child) == "failed")
            skipped = below.skipped + (items.state_of(child) == "skipped")
            is_cut = int(child not in cuts and below.total > 0)
            type_number = fold.type_number(items.type_of(child))
            cells.append([above, type_number, items.item_of(child), 1, below.total + 1, failed, skipped, is_cut])
        for group in cut.folded:
            size = group.count + group.below
            type_number = fold.type_number(group.type)
            cells.append([above, type_number, 0, group.count, size, group.failed, group.skipped, int(group.below > 0)])
    return cells


def _levels(record: Record) -> dict[tuple[int, int], Counter[str]]:
    """Return how many items there are, have failed, and were skipped, by level and type; initial items are at level 1.

    Level 40 includes all deeper ones.
    """
    items = record.items
    level_below = [*range(1, _MAX_LEVELS + 1), _MAX_LEVELS]
    depths = bytearray(len(items) + 1)  # the last one, which has the index -1, is the run
    for row, parent in enumerate(items.parent_row):
        depths[row] = level_below[depths[parent]]
    counts = Counter(zip(depths, items.type_number))  # noqa: B905  # without the run
    levels = {level: Counter(items=count) for level, count in counts.items()}
    for row in items.rows_in(("failed", "skipped")):
        levels[depths[row], items.type_number[row]][items.state_of(row)] += 1
    return levels


def _figure(
    name: str, title: str, said: str, data: Html | str = "", legend: Html | str = "", controls: Html | str = ""
) -> Html:
    return Html(
        f'<figure id="{name}" class="card whole plotted"><figcaption><h2>{title}</h2><p class="quiet">{text(said)}</p></figcaption>\n'
        f'<div class="drawn">{text(controls)}{text(legend)}'
        f'<div class="plot" id="{name}-chart" role="img" aria-label="{text(f"{title}. {said}")}"></div></div>\n'
        f"{data}</figure>\n"
    )


def _data(title: str, data: Html) -> Html:
    return Html(f"<details><summary>{title}: the data as a table</summary>{data}</details>")


def _legend(entries: list[tuple[str, str]]) -> Html:
    shown = (f'<li><i class="{name}" aria-hidden="true"></i>{text(title)}</li>' for name, title in entries)
    return Html(f'<ul class="legend">{"".join(shown)}</ul>')


def _controls(chart: str, hint: str) -> Html:
    """Return buttons for what the mouse can do in the chart, and the line that says what is selected."""
    shown = "".join(
        f'<button type="button" data-do="{do}" aria-label="{label}" title="{label}">{sign}</button>'
        for do, sign, label in (*_MOVES, *_ZOOMS)
    )
    return Html(
        f'<div class="moves" id="{chart}-controls" role="group" aria-label="{chart.capitalize()} controls">{shown}'
        f'</div><p class="selected" id="{chart}-selected" role="status">{text(hint)}</p>'
    )
