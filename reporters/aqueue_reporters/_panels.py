"""The rich reporter's panels: a run as it stands, as lines that fit a terminal.

They are written by a `DrawingPen`, not as rich's own tables and panels: these took 12 ms per frame, 50 times as long, which is a
tenth of the CPU that the run itself has at ten frames per second.
"""

import math
import textwrap
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from typing import Final

from rich.cells import cell_len

from aqueue.events import Counts
from aqueue.figures import amount, clock, local_minute, per_second, person, when_due
from aqueue.text import short_names
from aqueue.view import RunningItem, RunView, TypeView
from aqueue_reporters._drawing_pen import DrawingPen
from aqueue_reporters._pace import rate_text, time_left_s
from aqueue_reporters._summary import command, error_line, in_hook, plural, stopping

__all__ = ["Panels"]

_MIN_ROWS: Final = 16
"""The panels above each other with two lines for workers and two for types; 4 less without an overall progress."""
_MIN_CELLS: Final = 35
"""What the four columns of Queue Stats need, with a name of three characters."""
_MAX_CELLS: Final = 120
_MIN_SIDE_BY_SIDE_CELLS: Final = 130
_MAX_BAR_CELLS: Final = 60
_MIN_BAR_CELLS: Final = 16
"""How long the bar of the overall progress must be to have text beside it."""

_MIN_ROWS_WITH_REST: Final = 3
"""With more rows for workers than that, those that aren't shown and those that are idle have a row each."""

_CALM_S: Final = 5.0
"""For how long workers must have needed fewer rows before they have fewer."""

_GROWING_S: Final = 30.0
"""For how long a total counts as growing after something was found: rates are taken over 10 s, and items may be slower."""
_RATES_INTERVAL_S: Final = 0.5
"""How often rates are computed: figures that change ten times per second can't be read."""
_MIN_RATES_S: Final = 1.0
"""How long a process must have run before it has rates worth showing."""


class Panels:
    """Draws a run as three panels: what the workers do, what the queue holds, how far the run is.

    Between frames it keeps what would make the display restless if it changed with each frame: the rates, the longest queue
    so far, which types are shown.
    """

    def __init__(self, pen: DrawingPen, *, watched: bool = False, journal: str = "") -> None:
        """Make panels.

        Parameters:
            pen: what they are drawn with.
            watched: whether Ctrl-C ends `aqueue watch`, not the run.
            journal: the path of the file that records the run; empty if it isn't known.
        """
        self._pen = pen
        self._watched = watched
        self._journal = journal
        self._turn = 0
        self._peak_queued = 0
        self._names: dict[str, str] = {}
        self._refreshed_at = 0.0
        self._rates: dict[str, float] = {}  # items per second that complete, by type
        self._found = 0.0  # items per second that are found, of the overall progress
        self._found_at = -math.inf  # when some were found last
        self._rows = _Rows()
        self._ranked: list[TypeView] = []  # those that tell the most first

    def lines(self, view: RunView, now: float, columns: int, rows: int) -> list[str]:
        """Return the run at the Unix time `now` as lines for a terminal of `columns` by `rows` cells.

        Each is at most `columns` less 1 cells wide, and they are at most `rows` less 1.
        """
        self._turn += 1
        self._rows.want(_needed_rows(view), now)
        self._peak_queued = max(self._peak_queued, view.queued, *(t.peak_queued for t in view.types.values()))
        is_new = len(self._names) != len(view.types)
        if is_new or not 0 <= now - self._refreshed_at < _RATES_INTERVAL_S or view.state == "finished":
            self._refresh(view, now)
        cells = max(columns - 1, 1)
        # On a higher terminal, leave some room for what is printed above.
        height = max(rows - 1 - max(rows - 24, 0) // 4, 1)
        stops = self._stopping(view, min(cells, _MAX_CELLS))
        height -= len(stops)
        is_wide = cells >= _MIN_SIDE_BY_SIDE_CELLS
        if cells < _MIN_CELLS or height < _MIN_ROWS - (4 if is_wide or not self._tracked(view) else 0):
            lines = self._compact(view, now, cells, height)
        elif is_wide:
            lines = ["", *self._side_by_side(view, now, cells, height - 1)]
        else:
            lines = ["", *self._stacked(view, now, min(cells, _MAX_CELLS), height - 1)]
        return (lines + stops)[-max(rows - 1, 1) :]

    def _refresh(self, view: RunView, now: float) -> None:
        """Compute what changes less often than the rest, so that it can be read: the rates, and which types come first."""
        self._refreshed_at = now
        self._names = {type: self._pen.safe(name, 200) for type, name in short_names(view.types).items()}
        self._rates = {type: view.rate(now, "completed", type) for type in view.types}
        self._found = sum(view.rate(now, "enqueued", t.type) for t in view.types.values() if t.track_overall)
        if self._found:
            self._found_at = now
        self._ranked = sorted(
            view.types.values(), key=lambda t: (not t.running + t.queued + t.waiting, not t.failed, -t.enqueued)
        )

    def _rate(self, types: Iterable[TypeView]) -> float:
        return sum(self._rates.get(t.type, 0.0) for t in types)

    @staticmethod
    def _has_rates(view: RunView, now: float) -> bool:
        return view.state == "finished" or now - view.started_at >= _MIN_RATES_S

    # Arrangements

    def _stacked(self, view: RunView, now: float, cells: int, height: int) -> list[str]:
        overall = self._overall(view, now, cells)
        room, workers = height - len(overall) - 6, self._rows.wanted
        # Half of the room each, and what one leaves goes to the other.
        types = min(max(len(view.types), 1), max(room - room // 2, room - workers))
        return [
            *self._worker_status(view, now, cells, min(workers, room - types)),
            *self._queue_stats(view, now, cells, types),
            *overall,
        ]

    def _side_by_side(self, view: RunView, now: float, cells: int, height: int) -> list[str]:
        right_cells = min(cells * 45 // 100, 88)
        left_cells = min(cells - right_cells - 1, 110)
        left = self._worker_status(view, now, left_cells, min(self._rows.wanted, height - 2))
        overall = self._overall(view, now, right_cells)
        types = min(max(len(view.types), 1), height - len(overall) - 4)
        right = [*self._queue_stats(view, now, right_cells, types), *overall]
        left += [" " * left_cells] * (len(right) - len(left))
        right += [""] * (len(left) - len(right))
        return [f"{a} {b}" for a, b in zip(left, right, strict=True)]

    def _compact(self, view: RunView, now: float, cells: int, height: int) -> list[str]:
        """Return what matters most where there is no room for panels: the totals, and the longest-running items."""
        rows = min(self._rows.wanted, height - 1) if cells >= _MIN_CELLS else 0
        workers = self._workers(view, now, cells, rows) if rows > 0 else []
        return [*workers, self._totals(view, now, cells)]

    # Worker Status

    def _worker_status(self, view: RunView, now: float, cells: int, rows: int) -> list[str]:
        pen, busy = self._pen, len(view.running)
        # Once a process has left, hooks of its workers may still run.
        note = f"{amount(busy)} of {amount(max(view.num_workers, busy))} busy"
        if (paused := view.in_force.paused) is not None and view.state != "finished":
            note = f"paused {local_minute(paused.at, now)} by {pen.safe(person(paused.by), 100)}"
        elif view.cluster:
            note += f" {pen.characters.dot} {plural(len(view.processes), 'process', 'es')}"
        # In the frame, so that the panels keep their place when there is something to say.
        limited_by = pen.safe(view.limited_by(now), 200)
        feet = [(limited_by, "stopping" if paused is not None else "")] if limited_by else []
        return pen.box("Worker Status", note, self._workers(view, now, cells - 4, rows), cells, feet)

    def _workers(self, view: RunView, now: float, cells: int, rows: int) -> list[str]:
        """Return `rows` lines: one for each busy worker, or, if they are more, for the longest-running items.

        Idle workers share a line.
        """
        where = max(cells // 5, 10) if view.cluster else len(str(view.num_workers))
        longest_s = max((now - item.started_at for item in view.running.values()), default=0.0)
        time = max(5 if longest_s < 3600 else 8, len(clock(longest_s)))
        name = min(max(map(cell_len, self._names.values()), default=4), max(cells // 4, 10))
        name = min(name, max(cells - where - time - 6, 0))
        widths = (where, name, max(cells - where - name - time - 6, 0), time)

        indent = "" if view.cluster and not view.processes else " " * (where + 3)

        def quiet(text: str) -> str:
            return self._pen.write("quiet", self._pen.fit(f"{indent}{text}" if text else "", sum(widths, 6)))

        items, idle = list(view.running.values()), self._idle(view, sum(widths, 6) - where - 3)
        rest: list[str] = []
        if len(items) + bool(idle) > rows:
            shown = max(rows - 1 - (bool(idle) and rows > _MIN_ROWS_WITH_REST), 0)
            rest = [f"{self._pen.characters.ellipsis} {amount(len(items) - shown)} more", *([idle] if idle else [])]
            if shown + len(rest) > rows:
                rest = [f" {self._pen.characters.dot} ".join(rest)]
            items, idle = nsmallest(shown, items, key=lambda item: (item.started_at, item.worker)), ""
        placed = self._rows.place(items, rows - len(rest), has_idle=bool(idle))
        lines = ["" if item is None else self._busy(item, view, now, widths) for item in placed]
        if idle:  # below all others, or, where it has no row of its own, in that of an idle worker
            last = max(row for row, line in enumerate(lines) if not line)
            lines[last] = quiet(idle)
        return [line or quiet("") for line in lines] + [quiet(line) for line in rest]

    def _idle(self, view: RunView, cells: int) -> str:
        """Return how many workers are idle, and what lets them start again if a person has paused them."""
        idle = view.num_idle
        if view.cluster and not view.processes:
            return "waiting for worker processes" if view.state == "running" else "no worker processes"
        if not idle:
            return ""
        text = f"{amount(idle)} idle"
        if view.in_force.paused is None or view.state != "running" or not self._journal:
            return text
        unpause = f"{text}: {command('unpause', self._journal, self._pen)}"
        return (
            unpause if cell_len(unpause) <= cells else f"{text}: aqueue unpause"
        )  # part of a path would be another file

    def _busy(self, item: RunningItem, view: RunView, now: float, widths: tuple[int, int, int, int]) -> str:
        pen = self._pen
        where, name, text, time = widths
        spinner = pen.characters.spinner
        is_hook = item.phase == "after_children"
        said = [f"try {item.attempt}"] * (item.attempt > 1) + ["after children"] * is_hook
        said += [pen.safe(item.text, 2 * text)] * bool(item.text)
        return (
            f"{pen.write('quiet', self._where(item.worker, view, where, is_hook=is_hook))}"
            f" {pen.write('accent', spinner[self._turn % len(spinner)])}"
            f" {pen.write('strong', pen.fit(self._names[item.type], name))}"
            f"  {pen.write('quiet' if is_hook else '', pen.fit(': '.join(said), text))}"
            f" {pen.write('quiet', clock(now - item.started_at).rjust(time))}"
        )

    def _where(self, worker: int, view: RunView, cells: int, *, is_hook: bool = False) -> str:
        """Return a worker's number; on a cluster, the host and number of its process, or that a hook runs here."""
        if not view.cluster:
            return str(worker).rjust(cells)
        process = view.process_of(worker)
        if is_hook:
            place = "here"
        elif process is None:
            place = self._pen.characters.nothing
        else:
            host = process.host if process.host.rpartition(".")[2].isdigit() else process.host.partition(".")[0]
            place = f"{self._pen.safe(host, 100)}:{process.pid}"
        while cell_len(place) > cells:  # the end tells more
            place = self._pen.characters.ellipsis + place[2:]
        return self._pen.fit(place, cells)

    # Queue Stats

    def _queue_stats(self, view: RunView, now: float, cells: int, rows: int) -> list[str]:
        feet = []
        if view.waiting:
            waiting = f"{amount(view.waiting)} retrying"
            if view.state != "stopping":  # else no more items are taken
                waiting += f", {'' if view.waiting == 1 else 'the next '}{when_due(view.next_due, now)}"
            feet.append((waiting, ""))
        if view.failures:
            failure = view.failures[-1]
            name = f"item {failure.item} {self._names.get(failure.type, '')}{in_hook(failure.phase)}"
            feet.append((f"{self._pen.characters.failed} {name}: {error_line(failure.error, self._pen)}", "bad"))
        note = self._pen.safe(view.queue_type_name, 40)
        # In the frame, they take no row: the panels keep their place when the last item has had its retry.
        return self._pen.box("Queue Stats", note, self._stats(view, now, cells - 4, rows), cells, feet)

    def _stats(self, view: RunView, now: float, cells: int, rows: int) -> list[str]:
        """Return a heading, a line for the total, and `rows` lines for types, the most active ones."""
        pen = self._pen
        counts = view.counts
        first = self._ranked if len(self._ranked) <= rows else self._ranked[: rows - 1]
        kept = {t.type for t in first}
        shown = [t for t in view.types.values() if t.type in kept]
        rest = [t for t in view.types.values() if t.type not in kept]
        numbers = (max(self._peak_queued, counts.enqueued), counts.enqueued, counts.failed)
        titles = ("waiting", "completed", "failed")
        widths = (max(len(title), len(amount(number))) for title, number in zip(titles, numbers, strict=True))
        queued_cells, completed_cells, failed_cells = widths
        spare = cells - queued_cells - completed_cells - failed_cells - 6
        # There, once a person has skipped something, and where there is room.
        skipped_cells = max(len("skipped"), len(amount(counts.skipped))) + 2 if counts.skipped and spare >= 36 else 0
        spare -= skipped_cells
        # A narrow terminal shows no rate. The longest of all names counts, shown or not, so that columns stay where they are.
        rate_cells = 8 if spare >= 28 else 0
        retrying_cells = 10 if spare >= 40 else 0
        spare -= retrying_cells
        longest = max(map(cell_len, self._names.values()), default=0)
        label_cells = min(max(longest, 12), max((spare - rate_cells) // 2, 15), spare - rate_cells)
        bar_cells = min(spare - rate_cells - label_cells - 2, _MAX_BAR_CELLS)
        bar_cells = bar_cells if bar_cells >= 6 else 0
        # What is left widens the first column, so that the last one ends at the frame.
        label_cells = spare - rate_cells - (bar_cells + 2 if bar_cells else 0)
        has_rates = self._has_rates(view, now)

        def line(label: str, types: Sequence[TypeView], peak: int, style: str) -> str:
            queued, failed = sum(t.queued for t in types), sum(t.failed for t in types)
            rate = self._rate(types)
            bar = f"  {pen.bar(bar_cells, queued / peak if peak else 0.0)}" if bar_cells else ""
            cells = [
                pen.write(style, pen.fit(label, label_cells)),
                _number(pen, queued, queued_cells, style) + bar,
                _number(pen, sum(t.completed for t in types), completed_cells, style),
                _number(pen, failed, failed_cells, "bad strong"),
            ]
            if skipped_cells:
                cells.append(_number(pen, sum(t.skipped for t in types), skipped_cells - 2, style))
            if retrying_cells:
                cells.append(_number(pen, sum(t.waiting for t in types), retrying_cells - 2, style))
            if rate_cells:
                text = per_second(rate) if has_rates else pen.characters.nothing
                cells.append(pen.write(style if rate and has_rates else "quiet", text.rjust(rate_cells - 2)))
            return "  ".join(cells)

        bar = f"  {'of its peak' if bar_cells >= 11 else '':{bar_cells}}" if bar_cells else ""
        heading = f"{'':{label_cells}}  {'waiting':>{queued_cells}}{bar}  {'completed':>{completed_cells}}"
        heading += f"  {'failed':>{failed_cells}}" + (f"{'skipped':>{skipped_cells}}" if skipped_cells else "")
        heading += f"{'retrying':>{retrying_cells}}" if retrying_cells else ""
        heading += f"{'now/s':>{rate_cells}}" if rate_cells else ""
        lines = [
            pen.write("quiet", heading),
            line("Total", list(view.types.values()), self._peak_queued, "strong"),
            *(line(self._names[t.type], [t], t.peak_queued, "") for t in shown),
        ]
        if rest:
            lines.append(line(f"+{amount(len(rest))} more", rest, sum(t.peak_queued for t in rest), "quiet"))
        return lines + [" " * cells] * (rows - len(shown) - bool(rest))

    # Overall Progress

    def _tracked(self, view: RunView) -> str:
        """Return the names of the types in the overall progress; empty if there are none."""
        return ", ".join(self._names[t.type] for t in view.types.values() if t.track_overall)

    def _overall(self, view: RunView, now: float, cells: int) -> list[str]:
        """Return how far the types are that count in the overall progress; without one the whole run, on one line."""
        tracked = self._tracked(view)
        if not tracked:
            return [self._totals(view, now, cells)]
        pen, counts, inner = self._pen, view.overall, cells - 4
        total, good = max(counts.enqueued, 1), counts.completed + counts.skipped
        is_growing = now - self._found_at < _GROWING_S and view.state == "running"
        text = f"{amount(counts.completed)} of {amount(counts.enqueued)} "
        skipped = f", {amount(counts.skipped)} skipped" if counts.skipped else ""
        # A share of what may become more tells nothing.
        text += (
            f"found so far{skipped}"
            if is_growing
            else f"completed{skipped} {pen.characters.dot} {good * 100 // total} %"
        )
        text = text.rjust(len(text) - len(amount(counts.completed)) + len(amount(counts.enqueued)))
        rate = self._rate(t for t in view.types.values() if t.track_overall)
        elapsed, left = f"elapsed {clock(view.elapsed_s(now))}", self._remaining(counts, rate, view, now)
        bar_cells = inner - len(text) - 2
        if bar_cells < _MIN_BAR_CELLS:
            bar = pen.bar(inner, good / total, counts.failed / total, is_open=is_growing)
            rates = self._rates_text(rate, inner - cell_len(left) - 1, view, now, is_growing=is_growing)
            if len(text) + len(elapsed) >= inner:
                text = text.replace(skipped, "")
            body = [
                bar,
                self._spread(text.strip(), elapsed, inner),
                pen.write("quiet", self._spread(rates, left, inner)),
            ]
        else:
            bar = pen.bar(bar_cells, good / total, counts.failed / total, is_open=is_growing)
            times = f"{elapsed} {pen.characters.dot} {left}" if left else elapsed
            rates = self._rates_text(rate, inner - cell_len(times) - 1, view, now, is_growing=is_growing)
            body = [f"{bar}  {pen.write('strong', text)}", pen.write("quiet", self._spread(rates, times, inner))]
        return pen.box("Overall Progress", tracked, body, cells)

    def _rates_text(self, rate: float, cells: int, view: RunView, now: float, *, is_growing: bool) -> str:
        """Return how many items complete per second, and are found, as far as there is room."""
        if not self._has_rates(view, now):
            return ""
        completed = f"{rate_text(rate)} completed"
        found = f"{completed}, {rate_text(self._found)} found"
        texts = [f"{found}: still growing", found, completed] if is_growing else [completed]
        return next((text for text in texts if len(text) <= cells), completed)

    def _remaining(self, counts: Counts, rate: float, view: RunView, now: float) -> str:
        """Return how long it will take at `rate` items per second, without claiming what can't be known."""
        if view.state == "stopping" or not counts.outstanding:
            is_over = not view.queued and not view.waiting and not view.running
            return "nothing left" if is_over else f"{amount(counts.outstanding)} outstanding"
        left_s = time_left_s(counts, rate, self._found, view, now)
        if left_s is None:
            return ""
        return f"{'at least' if self._found else 'about'} {when_due(left_s, 0.0).removeprefix('in ')} left"

    def _totals(self, view: RunView, now: float, cells: int) -> str:
        """Return the whole run on one line."""
        counts = view.counts
        parts = [
            f"elapsed {clock(view.elapsed_s(now))}",
            f"{amount(counts.completed)} of {amount(counts.enqueued)} completed",
        ]
        if counts.failed:
            parts.append(f"{amount(counts.failed)} failed")
        if counts.skipped:
            parts.append(f"{amount(counts.skipped)} skipped")
        if self._has_rates(view, now):
            parts.append(rate_text(self._rate(view.types.values())))
        return self._pen.fit("  " + f" {self._pen.characters.dot} ".join(parts), cells)

    def _spread(self, left: str, right: str, cells: int) -> str:
        """Return both texts at the two ends of a line; where there isn't room for both, `left` is cut."""
        right = self._pen.cut(right, cells)
        return f"{self._pen.fit(left, cells - cell_len(right) - 1)} {right}" if cell_len(right) < cells else right

    # Stopping

    def _stopping(self, view: RunView, cells: int) -> list[str]:
        if view.state != "stopping":
            return []
        reason = self._pen.safe(view.stop_reason, 60)
        text = stopping(reason, len(view.running), cancelling=view.cancelling, has_keys=not self._watched)
        lines = textwrap.wrap(text, max(cells - 2, 1))
        return [self._pen.write("stopping", self._pen.fit(f"  {line}", cells)) for line in lines]


def _number(pen: DrawingPen, number: int, cells: int, style: str) -> str:
    return pen.write(style if number else "quiet", amount(number).rjust(cells))


def _needed_rows(view: RunView) -> int:
    """Return how many rows the workers need now: one for each that is busy, and one for all that are idle."""
    has_idle = view.num_idle > 0 or (bool(view.cluster) and not view.processes)
    return len(view.running) + has_idle


class _Rows:
    """Gives each busy worker a row, so that rows move as little as possible.

    There are as many as the workers needed at most in the last few seconds. A worker keeps its row while it is busy, and until
    another one needs it.

    Attributes:
        wanted: how many rows the workers need.
    """

    def __init__(self) -> None:
        self.wanted = 1
        self._owners: list[int] = []  # the worker that has or had each row; 0 for none
        self._most = 0
        self._counted_since = 0.0

    def want(self, needed: int, now: float) -> None:
        """Note that the workers need so many rows at the Unix time `now`: grow at once, shrink after a calm while."""
        self._most = max(self._most, needed)
        if needed >= self.wanted or not 0 <= now - self._counted_since < _CALM_S:
            self.wanted = max(self._most, 1)
            self._most = needed
            self._counted_since = now

    def place(self, items: Iterable[RunningItem], rows: int, *, has_idle: bool) -> list[RunningItem | None]:
        """Return which of `items`, at most as many as `rows`, is shown in each row.

        Parameters:
            items: what the workers run.
            rows: how many rows there are.
            has_idle: whether one row is needed for the idle workers; it is best the last.
        """
        owners = self._owners = (self._owners + [0] * rows)[:rows]
        running = {item.worker: item for item in items}
        placed = [running.pop(owner, None) for owner in owners]
        free = [row for row, item in enumerate(placed) if item is None]
        free.sort(key=lambda row: (has_idle and row == rows - 1, owners[row] != 0, row))
        for row, worker in zip(free, sorted(running), strict=False):
            placed[row], owners[row] = running[worker], worker
        return placed
