"""Makes the charts of the page: a sentence that says what each shows, its controls, and its data as a table."""

from typing import Final

from aqueue.cli._report._chart_data import SPAN_TEXT_MAX_CHARS
from aqueue.cli._report._fold import Fold
from aqueue.cli._report._html import Html, clock, counted, joined, percent, rate, table, text
from aqueue.cli._report._series import Period
from aqueue.cli._report._timeline import MAX_ROWS
from aqueue.cli._report._tree import MAX_CELLS, Cell
from aqueue.figures import amount, duration
from aqueue.text import short_names

__all__ = ["durations", "over_time", "timeline", "tree"]

_MAX_TYPES: Final = 100
_MAX_LEVEL_ROWS: Final = 200
_HOLLOW: Final = {
    "cut short": {"interrupted", "crashed"},
    "still running": {"running"},
    "no end recorded": {"unended"},
}
"""Which outcomes of attempts are drawn hollow, by what a legend says of them."""


def over_time(fold: Fold, bins: list[Period], few_bins: list[Period]) -> Html:
    """Return the charts of what happened when: throughput, found and done, busy workers.

    Parameters:
        fold: the run.
        bins: what the charts draw.
        few_bins: the same in bins that are few enough for a table.
    """
    counts = fold.view.counts
    elapsed_s = fold.elapsed_s
    elapsed = duration(elapsed_s)
    width = duration(bins[0].end - bins[0].start)
    best = max(bins, key=lambda period: period.rate)
    average = counts.completed / elapsed_s if elapsed_s else 0.0
    throughput = (
        f"Items completed a second: {rate(average)} on average over {elapsed}, and at most {rate(best.rate)}, "
        f"at {clock(best.start)}; each step is {width}."
    )
    failed = f", and {amount(counts.failed)} had failed" if counts.failed else ""
    found = (
        f"How many items had been found, and how many of them were done: in the end {amount(counts.enqueued)} found, "
        f"{amount(counts.completed)} done{failed}."
    )
    busy_s = sum(period.busy * (period.end - period.start) for period in bins)
    most = amount(fold.processes.most_workers)
    if any(process.cluster for process in fold.processes.first):
        most = f"at most {most}"
    busy = (
        f"Workers that were busy: {busy_s / elapsed_s if elapsed_s else 0.0:.1f} of "
        f"{most} on average. The dashed line is how many there were."
    )
    from_to = [(f"{clock(period.start)} – {clock(period.end)}", period) for period in few_bins]
    return joined(
        [
            _figure(
                "rate",
                "Throughput",
                throughput,
                table(
                    "Items completed",
                    ["Time", "Completed", "A second"],
                    [(when, amount(period.completed), rate(period.rate)) for when, period in from_to],
                    (1, 2),
                ),
            ),
            _figure(
                "found",
                "Found and done",
                found,
                table(
                    "Items found, done and failed by the end of each part of the run",
                    ["Time", "Found", "Done", "Failed"],
                    [
                        (when, amount(period.enqueued), amount(period.done), amount(period.failed))
                        for when, period in from_to
                    ],
                    (1, 2, 3),
                ),
                _legend([("found", "found"), ("done", "done"), *([("failed", "failed")] if counts.failed else [])]),
            ),
            _figure(
                "busy",
                "Concurrency",
                busy,
                table(
                    "Busy workers, on average",
                    ["Time", "Busy workers"],
                    [(when, f"{period.busy:.1f}") for when, period in from_to],
                    (1,),
                ),
            ),
        ]
    )


def timeline(fold: Fold) -> Html:
    """Return the chart of what each worker did."""
    line = fold.timeline
    attempts = sum(totals.attempts for totals in line.totals.values())
    drawn = sum(span.count for spans in line.rows.values() for span in spans)
    bars = sum(map(len, line.rows.values()))
    single = sum(span.count == 1 for spans in line.rows.values() for span in spans)
    gaps = fold.processes.clock().gaps
    said = f"What each worker did: {counted(drawn, 'attempt')} in {counted(bars, 'bar')}, in {counted(len(line.rows), 'row')}."
    if len(line.totals) > len(line.rows):
        said += f" Workers above {MAX_ROWS} are left out, {amount(len(line.totals) - len(line.rows))} of them, with "
        said += f"{counted(attempts - drawn, 'attempt')}."
    if any(process.cluster for process in fold.processes.first):
        said += " On a cluster the number of a worker may have been that of several, one after the other."
    if single < drawn:
        said += (
            f" Each attempt longer than {duration(line.limit_s)} is a bar of its own; of the shorter ones, "
            f"{amount(drawn - single)} next to each other are drawn together, in {amount(bars - single)} paler bars."
        )
    if gaps:
        length = duration(sum(gap.length_s for gap in gaps))
        crashes = sum(gap.crashed for gap in gaps)
        if len(gaps) == 1:
            said += f" The gap is the time between two processes, {length}{', after a crash' if crashes else ''}."
        else:
            said += f" The {amount(len(gaps))} gaps are the time between processes, {length} in all; "
            said += f"{amount(crashes)} of them came after a crash."
        said += " A long gap is drawn shortened."
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
    outcomes = {span.outcome for spans in line.rows.values() for span in spans}
    legend = [("completed", "completed")]
    legend += [("failed", "failed: the whole height")] if "failed" in outcomes else []
    legend += [("retried", "failed, tried again: half the height")] if "retried" in outcomes else []
    legend += [("paler", "several short ones")] if single < drawn else []
    legend += (
        [("below", "some of them failed")]
        if any(s.count > 1 and s.failed for r in line.rows.values() for s in r)
        else []
    )
    if unended := [words for words, hollow in _HOLLOW.items() if outcomes & hollow]:
        legend.append(("hollow", f"{' or '.join(unended)}: hollow"))
    return _figure(
        "timeline",
        "Workers",
        said,
        table("Totals of each worker", columns, rows, range(6)),
        _legend(legend),
        _controls(
            "timeline",
            [
                ("previous", "←", "Previous bar"),
                ("next", "→", "Next bar"),
                ("up", "↑", "Worker above"),
                ("down", "↓", "Worker below"),
                ("in", "+", "Zoom in"),
                ("out", "\u2212", "Zoom out"),
            ],
            f"Select a bar with these buttons or the arrow keys, or in the chart, to read what it is. Descriptions are cut at "
            f"{SPAN_TEXT_MAX_CHARS} characters.",
        ),
    )


def durations(fold: Fold) -> Html:
    """Return the histogram of how long attempts took."""
    names = short_names(fold.types)
    types = sorted(fold.durations.types.items(), key=lambda entry: -entry[1].count)
    count = sum(type.count for _, type in types)
    said = f"How long {counted(count, 'attempt')} took, hooks included, on a logarithmic scale; those cut short don't count."
    if types:
        number, most = types[0]
        said += (
            f" Of {names[fold.types[number]][:100]}, the most frequent type, half took at most about "
            f"{duration(most.quantile(0.5))}, and the longest {duration(most.longest_s)}."
        )
    rows = [
        (
            text(names[fold.types[number]], 200),
            amount(type.count),
            duration(type.total_s),
            duration(type.total_s / type.count),
            duration(type.quantile(0.5)),
            duration(type.quantile(0.95)),
            duration(type.longest_s),
        )
        for number, type in types[:_MAX_TYPES]
    ]
    columns = ["Type", "Attempts", "All together", "Mean", "Half took at most", "95 % took at most", "Longest"]
    control = Html(
        '<p class="controls"><label>Type <select id="durations-type"><option value="">all</option></select></label></p>'
    )
    caption = "How long attempts took; the shares are read from the histogram, and so within a few per cent"
    return _figure(
        "durations",
        "Durations",
        said,
        table(caption, columns, rows, range(1, 7)),
        Html('<ul class="legend" id="durations-legend"></ul>'),
        control,
    )


def tree(fold: Fold, cells: list[Cell]) -> Html:
    """Return the tree of items as an icicle."""
    items = len(fold.tree.parents) - 1
    levels = fold.tree.levels(fold.failed)
    depth = max((level for level, _ in levels), default=0)
    cut = sum(cell.is_cut for cell in cells)
    said = (
        f"The tree of {counted(items, 'item')}, {counted(depth, 'level')} deep: below each item the items that it enqueued, as "
        f"wide as they are many with all below them. Many of one type are one cell."
    )
    if cut:
        said += f" This page has the {amount(len(cells))} largest cells, {MAX_CELLS:,} being the most; {amount(cut)} of them, "
        said += "marked with …, have items below that are left out."
    names = short_names(fold.types)
    ranked = sorted(levels.items(), key=lambda entry: (entry[0][0], -entry[1].items))
    rows = [
        (level, text(names[fold.types[number]], 200), amount(of.items), amount(of.failed), duration(of.busy_s))
        for (level, number), of in ranked[:_MAX_LEVEL_ROWS]
    ]
    caption = "Items by level and type" + (f", the first {_MAX_LEVEL_ROWS} rows" if len(ranked) > len(rows) else "")
    path = Html('<nav aria-label="Where in the tree"><ol class="path" id="tree-path"></ol></nav>')
    controls = _controls(
        "tree",
        [
            ("previous", "←", "Previous cell"),
            ("next", "→", "Next cell"),
            ("up", "↑", "Cell above"),
            ("down", "↓", "Cell below"),
            ("in", "+", "Zoom in on the selected cell"),
            ("out", "\u2212", "Zoom out"),
        ],
        "Select a cell with these buttons or the arrow keys, zoom with + and \u2212; or click in the chart.",
    )
    columns = ["Level", "Type", "Items", "Failed", "Time at work"]
    return _figure(
        "tree",
        "Tree of items",
        said,
        table(caption, columns, rows, (0, 2, 3, 4)),
        Html('<ul class="legend" id="tree-legend"></ul>'),
        joined([controls, path]),
    )


def _figure(name: str, title: str, said: str, data: Html, legend: Html | str = "", controls: Html | str = "") -> Html:
    return Html(
        f'<figure id="{name}"><figcaption><h3>{title}</h3><p>{text(said)}</p></figcaption>\n'
        f'<div class="drawn">{text(controls)}{text(legend)}'
        f'<div class="chart" id="{name}-chart" role="img" aria-label="{text(f"{title}. {said}")}"></div></div>\n'
        f"<details><summary>{title}: the data as a table</summary>{data}</details></figure>\n"
    )


def _legend(entries: list[tuple[str, str]]) -> Html:
    return Html(
        '<ul class="legend">'
        + "".join(f'<li><i class="{name}" aria-hidden="true"></i>{text(title)}</li>' for name, title in entries)
        + "</ul>"
    )


def _controls(chart: str, buttons: list[tuple[str, str, str]], hint: str) -> Html:
    """Return buttons for what the mouse does in the chart, and a line that says what is selected."""
    shown = "".join(
        f'<button type="button" data-do="{do}" aria-label="{label}" title="{label}">{sign}</button>'
        for do, sign, label in buttons
    )
    return Html(
        f'<div class="controls" id="{chart}-controls" role="group" aria-label="{chart.capitalize()} controls">{shown}'
        f'</div><p class="selected" id="{chart}-selected" role="status">{text(hint)}</p>'
    )
