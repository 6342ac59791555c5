"""The rich reporter's panels: a run as it stands, as lines that fit a terminal."""

from collections.abc import Sequence
from heapq import nsmallest
from typing import Final, NamedTuple

from rich.cells import cell_len

from aqueue.events import Counts
from aqueue.figures import amount, clock, per_second, when_due
from aqueue.text import short_names
from aqueue.view import RunningItem, RunView, TypeView
from aqueue_reporters._pace import Finding, is_early, rate_text, remaining_s, steady_rate
from aqueue_reporters._pen import Pen
from aqueue_reporters._places import Places
from aqueue_reporters._summary import error_line

__all__ = ["Panels"]

_MIN_BOXED_ROWS: Final = 12
_MIN_STACKED_ROWS: Final = 16
"""The panels above each other with two lines for workers and two for types; 4 less without an overall progress."""
_MIN_CELLS: Final = 30
_MAX_STACKED_CELLS: Final = 120
_MIN_SIDE_BY_SIDE_CELLS: Final = 130
_MIN_SIDE_BY_SIDE_CELLS_ON_FEW_ROWS: Final = 110
_FEW_ROWS: Final = 30
_MAX_BAR_CELLS: Final = 60
_MIN_COMPACT_ROWS_WITH_BAR: Final = 6
_RATES_INTERVAL_S: Final = 0.5
"""How often rates are taken anew: figures that change ten times a second can't be read."""
_MIN_RATES_S: Final = 1.0
"""How long a process must have run before it has rates worth showing."""


class _Rates(NamedTuple):
    """Items a second: completed by type, completed in all, and of the overall progress completed and found.

    They are known a moment after the beginning.
    """

    by_type: dict[str, float]
    total: float
    done: float
    found: float
    are_known: bool


class Panels:
    """Draws a run as three panels: what the workers do, what the queue holds, how far it all is.

    It remembers what calm drawing needs: the spinner's turn, the rates of a moment ago, the longest queue so far,
    which types are shown.
    """

    def __init__(self, pen: Pen, *, watched: bool = False) -> None:
        """Make panels.

        Parameters:
            pen: what they are drawn with.
            watched: whether Ctrl-C ends the watching and not the run.
        """
        self._pen = pen
        self._watched = watched
        self._turn = 0
        self._peak_queued = 0
        self._names: dict[str, str] = {}
        self._places = Places(pen)
        self._rates = _Rates({}, 0.0, 0.0, 0.0, are_known=False)
        self._rates_at = 0.0
        self._finding = Finding()
        self._kept: set[str] = set()
        self._kept_for: tuple[float, int, int] = (0.0, 0, 0)

    def lines(self, view: RunView, now: float, columns: int, rows: int) -> list[str]:
        """Return the run at the Unix time `now` as lines for a terminal of `columns` by `rows` cells.

        Each is at most `columns` less 1 cells wide, and they are at most `rows` less 1.
        """
        self._turn += 1
        self._peak_queued = max(self._peak_queued, view.queued, *(t.peak_queued for t in view.types.values()))
        if len(self._names) != len(view.types):
            self._names = {type: self._pen.safe(name, 200) for type, name in short_names(view.types).items()}
        if not 0 <= now - self._rates_at < _RATES_INTERVAL_S or view.state == "finished":
            self._rates = self._take_rates(view, now)
            self._rates_at = now
        cells = max(columns - 1, 1)
        # On a higher terminal, leave some room for what is printed above.
        height = max(rows - 1 - max(rows - 24, 0) // 4, 1)
        stopping = self._stopping(view, min(cells, _MAX_STACKED_CELLS))
        height -= len(stopping)
        wide = cells >= (_MIN_SIDE_BY_SIDE_CELLS if rows >= _FEW_ROWS else _MIN_SIDE_BY_SIDE_CELLS_ON_FEW_ROWS)
        needed = _MIN_STACKED_ROWS if not wide and self._tracked(view) else _MIN_BOXED_ROWS
        if height < needed or cells < _MIN_CELLS:
            lines = self._compact(view, now, cells, height)
        elif wide:
            lines = ["", *self._side_by_side(view, now, cells, height - 1)]
        else:
            lines = ["", *self._stacked(view, now, min(cells, _MAX_STACKED_CELLS), height - 1)]
        return (lines + stopping)[-max(rows - 1, 1) :]

    # Arrangements

    def _stacked(self, view: RunView, now: float, cells: int, height: int) -> list[str]:
        overall = self._overall(view, now, cells)
        workers, types = _share(height - len(overall) - 6, _num_rows(view, height), max(len(view.types), 1))
        return [
            *self._worker_status(view, now, cells, workers),
            *self._queue_stats(view, now, cells, types),
            *overall,
        ]

    def _side_by_side(self, view: RunView, now: float, cells: int, height: int) -> list[str]:
        right_cells = min(cells * 45 // 100, 88)
        left_cells = min(cells - right_cells - 1, 110)
        left = self._worker_status(view, now, left_cells, min(_num_rows(view, height), height - 2))
        overall = self._overall(view, now, right_cells)
        types = min(max(len(view.types), 1), height - len(overall) - 4)
        right = [*self._queue_stats(view, now, right_cells, types), *overall]
        empty = " " * left_cells
        left += [empty] * (len(right) - len(left))
        right += [""] * (len(left) - len(right))
        return [f"{a} {b}" for a, b in zip(left, right, strict=True)]

    def _compact(self, view: RunView, now: float, cells: int, height: int) -> list[str]:
        """Return what matters most where there is no room for panels: totals, and the longest-running items."""
        lines = [self._totals(view, now, cells)]
        if height >= _MIN_COMPACT_ROWS_WITH_BAR and cells >= _MIN_CELLS and (tracked := self._tracked(view)):
            name = self._pen.fit(tracked, min(cell_len(tracked), cells // 4))
            lines = [f"  {name} {self._bar(view.overall, cells - cell_len(name) - 3)}", *lines]
        waiting = next((words for words in self._waiting(view, now) if len(words) + 2 <= cells), "")
        if waiting and height > 1:
            lines = [self._pen.fit("  " + waiting, cells), *lines]
        if height > len(lines) and cells >= _MIN_CELLS:
            rows = min(_num_rows(view, height), height - len(lines))
            lines = [*self._workers(view, now, cells, rows), *lines]
        return lines

    # Worker Status

    def _worker_status(self, view: RunView, now: float, cells: int, rows: int) -> list[str]:
        title = "Worker Status"
        body = self._workers(view, now, cells - 4, rows)
        note = self._busy_note(view, cells - len(title) - 9)
        return self._pen.box(title, note, body, cells, self._latest_failure(view, cells - 6), "bad")

    def _latest_failure(self, view: RunView, cells: int) -> tuple[str, ...]:
        """Say what failed last, cut to `cells`; none if nothing did.

        In the frame, so that the panels keep their place at the first failure.
        """
        if not view.failures or not view.counts.failed:
            return ()
        pen = self._pen
        failure = view.failures[-1]
        name = self._names.get(failure.type, "")
        phase = " after children" if failure.phase == "after_children" else ""
        text = f"{pen.characters.failed} {name}{phase}: {error_line(failure.error, pen)}"
        return (pen.fit(text, min(cell_len(text), cells)),)

    def _busy_note(self, view: RunView, cells: int) -> str:
        """Say how many workers are busy, and on a cluster in how many processes, if it fits."""
        running = amount(len(view.running))
        busy = f"{running} of {amount(view.num_workers)} busy"
        if not view.cluster:
            return busy
        if len(view.running) > view.num_workers:  # a process has left, and hooks of its workers go on
            busy = f"{running} busy"
        count = len(view.processes)
        dot = self._pen.characters.dot
        processes = f"{amount(count)} process{'' if count == 1 else 'es'}"
        if not count and not view.running:
            return processes
        wordings = [f"{busy} {dot} {processes}", busy]
        if self._places.host:
            wordings.insert(0, f"{wordings[0]} on {self._places.host}")
        return next((words for words in wordings if cell_len(words) <= cells), f"{running} busy")

    def _workers(self, view: RunView, now: float, cells: int, rows: int) -> list[str]:
        """Return `rows` lines: one for each worker in its place, or, if they are more, for the busy or longest-running."""
        name_cells = min(max((cell_len(n) for n in self._names.values()), default=4), max(cells // 4, 10))
        longest_s = max((now - item.started_at for item in view.running.values()), default=0.0)
        clock_cells = max(5 if longest_s < 3600 else 8, len(clock(longest_s)))
        if view.cluster:
            self._places.fit(view.processes, cells)
            where_cells = self._places.cells
            name_cells = min(name_cells, max(cells - where_cells - clock_cells - 6, 0))
        else:
            where_cells = len(str(view.num_workers))
        widths = (where_cells, name_cells, max(cells - where_cells - name_cells - clock_cells - 6, 0), clock_cells)
        if _num_rows(view, rows) <= rows:
            lines = [] if view.processes or not view.cluster else [self._no_processes(view, sum(widths, 6))]
            workers = sorted({*view.workers, *view.running}) if view.cluster else view.workers
            return lines + [
                self._busy(item, view, now, widths)
                if (item := view.running.get(worker))
                else self._idle(worker, view, widths)
                for worker in workers
            ]
        running = view.running.values()
        if len(running) < rows:  # in their order, as ever: only idle ones are left out
            shown = sorted(running, key=lambda item: item.worker)
        else:
            shown = nsmallest(rows - 1, running, key=lambda item: (item.started_at, item.worker))
        lines = [self._busy(item, view, now, widths) for item in shown]
        lines += [" " * sum(widths, 6)] * (rows - 1 - len(lines))
        more = len(view.running) - len(shown)
        idle = max(view.num_workers - len(view.running), 0)
        text = f"+{amount(more)} more" if more else f"{amount(idle)} idle"
        if more and idle:
            text += f" {self._pen.characters.dot} {amount(idle)} idle"
        lines.append(self._pen.write("quiet", self._pen.fit(" " * (where_cells + 3) + text, sum(widths, 6))))
        return lines[:rows]

    def _no_processes(self, view: RunView, cells: int) -> str:
        text = "waiting for worker processes" if view.state == "running" else "no worker processes"
        return self._pen.write("quiet", self._pen.fit(text, cells))

    def _busy(self, item: RunningItem, view: RunView, now: float, widths: tuple[int, int, int, int]) -> str:
        pen = self._pen
        where, name, text, time = widths
        spinner = pen.characters.spinner
        said = pen.safe(item.text, 2 * text)
        style = ""
        if item.phase == "after_children":
            said, style = f"after children: {said}" if said else "after children", "quiet"
        if item.attempt > 1:
            said = f"try {item.attempt}: {said}" if said else f"try {item.attempt}"
        said = pen.fit(said, text)
        return (
            f"{pen.write('quiet', self._where(item.worker, view, where, item))}"
            f" {pen.write('accent', spinner[self._turn % len(spinner)])}"
            f" {pen.write('strong', pen.fit(self._names[item.type], name))}"
            f"  {pen.write(style, said) if style else said}"
            f" {pen.write('quiet', clock(now - item.started_at).rjust(time))}"
        )

    def _idle(self, worker: int, view: RunView, widths: tuple[int, int, int, int]) -> str:
        idle = self._pen.fit(f"{self._where(worker, view, widths[0])}   idle", sum(widths, 6))
        return self._pen.write("quiet", idle)

    def _where(self, worker: int, view: RunView, cells: int, item: RunningItem | None = None) -> str:
        """Return a worker's number; on a cluster, where it is, or where the item runs that it is at."""
        if not view.cluster:
            return str(worker).rjust(cells)
        places = self._places
        return self._pen.fit(places.of_worker(worker, view) if item is None else places.of_item(item, view), cells)

    # Queue Stats

    def _queue_stats(self, view: RunView, now: float, cells: int, rows: int) -> list[str]:
        note = self._pen.safe(view.queue_type_name, 40)
        # In the frame what waits takes no row: the panels keep their place when the last one has had its retry.
        return self._pen.box("Queue Stats", note, self._stats(view, cells - 4, rows), cells, self._waiting(view, now))

    def _waiting(self, view: RunView, now: float) -> tuple[str, ...]:
        """Say how many items wait for a retry, and when the next is due; the longest wording first, none if none do."""
        if not view.waiting:
            return ()
        one = view.waiting == 1
        number, wait = amount(view.waiting), "waits" if one else "wait"
        if view.state == "stopping":  # no more items are taken
            return (f"{number} {wait} to be retried", f"{number} to retry")
        when = when_due(view.next_due, now)
        return (
            f"{number} {wait} to be retried{'' if one else ', the next'} {when}",
            f"{number} to retry{'' if one else ', next'} {when}",
            f"{number} to retry",
        )

    def _stats(self, view: RunView, cells: int, rows: int) -> list[str]:
        """Return a heading, a line for the total, and `rows` lines for types, the most active ones."""
        pen = self._pen
        counts = view.counts
        shown = list(view.types.values())
        rest: list[TypeView] = []
        if len(shown) > rows:
            kept = self._most_telling(shown, rows - 1)
            rest = [t for t in shown if t.type not in kept]
            shown = [t for t in shown if t.type in kept]
        more = f"+{amount(len(rest))} more"
        queued_cells = max(6, len(amount(max(self._peak_queued, counts.enqueued))))
        done_cells = max(6, len(amount(counts.enqueued)))
        failed_cells = max(6, len(amount(counts.failed)))
        # Of all names, also of those that are left out: so the columns stay where they are.
        label_cells = max(max((cell_len(name) for name in self._names.values()), default=0), 12)
        spare = cells - queued_cells - done_cells - failed_cells - 6
        # Where it is narrow, names are cut before the rate is left out, but not to less than 15 cells.
        label_cells = min(label_cells, spare // 2 if spare >= 30 else max(spare - 7, min(spare, 15)))
        spare -= label_cells
        rate_cells = 8 if spare >= 9 else 6 if spare >= 7 else 0
        spare -= (rate_cells + 1) if rate_cells else 0
        bar_cells = min(spare - 2, _MAX_BAR_CELLS) if spare >= 8 else 0
        # What is left widens the first column, so that the last one ends at the frame.
        label_cells += spare - (bar_cells + 2 if bar_cells else 0)

        def line(label: str, queued: int, peak: int, done: int, failed: int, rate: float, style: str) -> str:
            parts = [
                pen.write(style, pen.fit(label, label_cells)) if style else pen.fit(label, label_cells),
                "  ",
                _number(pen, queued, queued_cells, style),
            ]
            if bar_cells:
                parts += ("  ", pen.bar(bar_cells, queued / peak if peak else 0.0))
            parts += (
                "  ",
                _number(pen, done, done_cells, style),
                "  ",
                pen.write("bad strong", amount(failed).rjust(failed_cells))
                if failed
                else _number(pen, 0, failed_cells, ""),
            )
            if rate_cells:
                text = per_second(rate) if self._rates.are_known else pen.characters.nothing
                style = style if rate and self._rates.are_known else "quiet"
                parts += (" ", pen.write(style, text.rjust(rate_cells)) if style else text.rjust(rate_cells))
            return "".join(parts)

        heading = [" " * label_cells, "queued".rjust(queued_cells)]
        if bar_cells:
            heading.append("of its peak".ljust(bar_cells) if bar_cells >= 11 else " " * bar_cells)
        heading += ["done".rjust(done_cells), "failed".rjust(failed_cells)]
        head = "  ".join(heading)
        if rate_cells:
            head += " " + "done/s".rjust(rate_cells)
        lines = [
            pen.write("quiet", head),
            line("Total", view.queued, self._peak_queued, counts.completed, counts.failed, self._rates.total, "strong"),
        ]
        rates = self._rates.by_type
        for t in shown:
            rate = rates.get(t.type, 0.0)
            lines.append(line(self._names[t.type], t.queued, t.peak_queued, t.completed, t.failed, rate, ""))
        if rest:
            queued, peak = sum(t.queued for t in rest), sum(t.peak_queued for t in rest)
            done, failed = sum(t.completed for t in rest), sum(t.failed for t in rest)
            lines.append(line(more, queued, peak, done, failed, sum(rates.get(t.type, 0.0) for t in rest), "quiet"))
        lines += [" " * cells] * (rows - len(shown) - bool(rest))
        return lines

    def _most_telling(self, types: Sequence[TypeView], count: int) -> set[str]:
        """Return the names of the `count` types that tell the most: the active first, of those the ones with failures.

        They are chosen as seldom as rates are taken: a line that comes and goes ten times a second can't be read.
        """
        chosen_for = (self._rates_at, count, len(types))
        if self._kept_for != chosen_for:
            self._kept_for = chosen_for
            telling = nsmallest(
                count, types, key=lambda t: (not t.running + t.queued + t.waiting, not t.failed, -t.enqueued)
            )
            self._kept = {t.type for t in telling}
        return self._kept

    # Overall Progress

    def _overall(self, view: RunView, now: float, cells: int) -> list[str]:
        tracked = self._tracked(view)
        if not tracked:
            return [self._totals(view, now, cells)]
        return self._pen.box("Overall Progress", tracked, self._progress(view, now, cells - 4), cells)

    def _tracked(self, view: RunView) -> str:
        """Return the names of the types in the overall progress; empty if there are none."""
        return ", ".join(self._names[t.type] for t in view.types.values() if t.track_overall)

    def _bar(self, c: Counts, cells: int) -> str:
        """Return a bar of what is done and what has failed, and the percentage, in `cells` cells."""
        total = max(c.enqueued, 1)
        percent = f"{(c.completed + c.failed) * 100 // total} %".rjust(6)
        bar = self._pen.bar(cells - 7, c.completed / total, c.failed / total)
        return f"{bar} {self._pen.write('strong', percent)}"

    def _progress(self, view: RunView, now: float, cells: int) -> list[str]:
        pen = self._pen
        c = view.overall
        failed = f" {pen.characters.dot} {amount(c.failed)} failed" if c.failed else ""
        rates = self._rates
        done, found = f"{rate_text(rates.done)} done", f"{rate_text(rates.found)} found"
        remaining = self._remaining(c, view, now)
        of = f"{amount(c.completed)} of {amount(c.enqueued)}"
        elapsed = clock(view.elapsed_s(now))
        return [
            self._bar(c, cells),
            self._spread(
                (f"{of} done{failed}", f"{of} done", of),
                (f"elapsed {elapsed}", elapsed),
                cells,
                "",
            ),
            self._spread(
                (f"{done}, {found}", done) if rates.are_known else ("",),
                remaining,
                cells,
                "quiet",
            ),
        ]

    def _remaining(self, c: Counts, view: RunView, now: float) -> tuple[str, ...]:
        """Return how long it will take, the longest wording first, without claiming what can't be known."""
        if view.state == "stopping":
            return (f"{amount(c.outstanding)} outstanding", f"{amount(c.outstanding)} left")
        if not c.outstanding:
            if not view.queued and not view.waiting and not view.running:
                return ("nothing left", "0 left")
            return ("all found so far ended", "0 left so far", "0 left")
        found = self._rates.found
        done = steady_rate(self._rates.done, found, c.completed, view.elapsed_s(now))
        if done <= 0 or is_early(now - view.started_at):
            return ("remaining: not known yet", "not known yet", "unknown")
        if found >= done:
            return ("found faster than done", "still growing")
        at_this_rate = clock(remaining_s(c.outstanding, done, view, now))
        if found > 0:
            return (f"at least {at_this_rate} remaining", f"at least {at_this_rate}", f"> {at_this_rate}")
        return (f"about {at_this_rate} remaining", f"about {at_this_rate}", at_this_rate)

    def _totals(self, view: RunView, now: float, cells: int) -> str:
        """Return the whole run on one line."""
        c = view.counts
        elapsed, done, found = clock(view.elapsed_s(now)), amount(c.completed), amount(c.enqueued)
        failed = f"{amount(c.failed)} failed" if c.failed else ""
        rate = rate_text(self._rates.total) if self._rates.are_known else ""
        dot = f" {self._pen.characters.dot} "
        variants = [
            dot.join(part for part in parts if part)
            for parts in (
                (f"elapsed {elapsed}", f"{done} done of {found} found", failed, rate),
                (elapsed, f"{done} of {found} done", failed, rate),
                (elapsed, f"{done} of {found} done", failed),
                (elapsed, f"{done} of {found}"),
            )
        ]
        return self._pen.fit("  " + next((v for v in variants if len(v) + 2 <= cells), variants[-1]), cells)

    def _spread(self, left: Sequence[str], right: Sequence[str], cells: int, style: str) -> str:
        """Return one wording of `left` and one of `right` at the two ends of a line: the longest that fit."""
        pen = self._pen
        pairs = ((a, b) for b in right for a in left)
        a, b = next(((a, b) for a, b in pairs if len(a) + len(b) + 2 <= cells), (left[-1], right[-1]))
        text = pen.fit(a, cells - len(b) - 1) + " " + b if len(b) < cells else pen.fit(b, cells)
        return pen.write(style, text) if style else text

    # Stopping

    def _stopping(self, view: RunView, cells: int) -> list[str]:
        if view.state != "stopping":
            return []
        pen = self._pen
        reason = pen.safe(view.stop_reason, 60)
        left = len(view.running)
        items = f"{amount(left)} running item{'' if left == 1 else 's'}"
        if view.cancelling and self._watched:
            doing = f"Cancelling {items}."
        elif view.cancelling:
            doing = f"Cancelling {items}; a third Ctrl-C ends the process at once."
        elif left and self._watched:
            doing = f"Waiting for {items}."
        elif left:
            again = "Ctrl-C again" if view.stop_reason == "Ctrl-C" else "Ctrl-C"
            doing = f"Waiting for {items}; {again} cancels {'it' if left == 1 else 'them'}."
        else:
            doing = "No item runs any more."
        text = f"Stopping: {reason}. {doing}"
        return [pen.write("stopping", pen.fit(line, cells)) for line in _wrapped(text, cells - 2)]

    # Rates

    def _take_rates(self, view: RunView, now: float) -> _Rates:
        by_type = {type: view.rate(now, "completed", type) for type in view.types}
        tracked = [t.type for t in view.types.values() if t.track_overall]
        found = sum(view.rate(now, "enqueued", type) for type in tracked)
        return _Rates(
            by_type,
            sum(by_type.values()),
            sum(by_type[type] for type in tracked),
            self._finding.rate(found, view.overall.enqueued, now),
            are_known=view.state == "finished" or now - view.started_at >= _MIN_RATES_S,
        )


def _number(pen: Pen, number: int, cells: int, style: str) -> str:
    text = amount(number).rjust(cells)
    style = style if number else "quiet"
    return pen.write(style, text) if style else text


def _num_rows(view: RunView, most: int) -> int:
    """Return how many rows the workers take: exactly, if they are at most `most`."""
    if not view.cluster or view.num_workers > most:
        return view.num_workers
    # Besides, what goes on of workers whose process is gone, and that there is no process.
    gone = sum(view.process_of(worker) is None for worker in view.running)
    return view.num_workers + gone + (not view.processes)


def _share(rows: int, first: int, second: int) -> tuple[int, int]:
    """Divide `rows` between two that want `first` and `second`: half each, and what one leaves goes to the other."""
    if first + second <= rows:
        return first, second
    half = rows // 2
    if first <= half:
        return first, rows - first
    if second <= rows - half:
        return rows - second, second
    return half, rows - half


def _wrapped(text: str, cells: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and cell_len(lines[-1]) + 1 + cell_len(word) > cells:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else f"  {word}" if len(lines) == 1 else word
    return [line if line.startswith(" ") else f"  {line}" for line in lines]
