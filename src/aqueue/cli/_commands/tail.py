"""``aqueue tail``: prints the last events of a run, one line each, and follows new ones."""

import os
import select
import stat
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import click
from msgspec.structs import replace

from aqueue._history.history import History, Line
from aqueue._history.known_items import UNKNOWN_TYPE
from aqueue._history.opening import STANDARD_INPUT, open_history
from aqueue._journal.file import identity, shown
from aqueue.cli import _app, _screen
from aqueue.cli._commands.chosen_events import LEVELS, ChosenEvents, RunningTypes, event_option
from aqueue.cli._formats.event_lines import EventLines
from aqueue.cli._item_types import type_option, unknown_types
from aqueue.errors import JournalError
from aqueue.events import Event
from aqueue.log_lines import Level, record_of, render_record, safe_line

__all__ = ["tail", "wait_for"]

_POLL_S: Final = 0.1
_REPORT_INTERVAL_S: Final = 5.0
_FIRST_WINDOW: Final = 2_000
_WINDOW_GROWTH: Final = 8
_TYPES_WINDOW: Final = 100_000
"""After so many events no more are read only to learn the type of an item that has run for long."""


class _ChosenEvent(NamedTuple):
    """A chosen event, with its line of JSON and the type of its item."""

    line: bytes
    event: Event
    type: str


class _Printer:
    """Prints events, as lines for people or as JSON.

    Attributes:
        has_printed: whether there was any.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._lines = None if as_json else EventLines(sys.stdout)
        self.has_printed = False

    def print(self, found: Iterable[_ChosenEvent], history: History) -> None:
        """Print the next events, which come from `history`."""
        if self._lines is not None:
            self._lines.measure()
            write = self._lines.write
            text = "".join(write(event, type) for _, event, type in found)
        elif history.is_journal:
            text = "".join(f"{_log_line(event).decode()}\n" for _, event, _ in found)
        else:
            text = "".join(f"{safe_line(line).decode()}\n" for line, _, _ in found)
        if text:
            self.has_printed = True
            sys.stdout.write(text)
            sys.stdout.flush()


def _log_line(event: Event) -> bytes:
    """Return the line that the jsonl reporter writes for `event`."""
    try:
        return render_record(record_of(event))
    except (ValueError, OverflowError, OSError):  # a time that no date has, which only an edited journal has
        return render_record(record_of(replace(event, at=0.0)) | {"timestamp": None, "at": event.at})


def _choose(
    lines: Iterable[Line], types: RunningTypes, chosen: ChosenEvents, *, may_be_unknown: bool
) -> Iterator[_ChosenEvent]:
    """Yield the chosen events; with `may_be_unknown`, also those whose type isn't known and may be a chosen one."""
    for line, event in lines:
        type = types.type_of(event)
        if chosen.has(event, type) and (may_be_unknown or not chosen.types or type != UNKNOWN_TYPE):
            yield _ChosenEvent(line, event, type)


def _print_rest(history: History, types: RunningTypes, chosen: ChosenEvents, printer: _Printer) -> None:
    """Print what has been recorded since the last read."""
    while True:
        lines = history.read_lines()
        for notice in history.take_notices():
            _screen.say(notice)
        if lines is None:
            return
        printer.print(_choose(lines, types, chosen, may_be_unknown=False), history)


def _read_last(history: History, count: int, chosen: ChosenEvents) -> tuple[Sequence[_ChosenEvent], RunningTypes]:
    """Return the last `count` chosen events, and the types of the items that run at the end.

    Read a part of the file before its end, and larger ones while events, or the starts of their items, may be missing.
    """
    window = max(_FIRST_WINDOW, 4 * count)
    while True:
        is_part = history.start_near_end(window)
        types = RunningTypes()
        found: deque[_ChosenEvent] = deque(maxlen=count)
        while (lines := history.read_lines()) is not None:
            found.extend(_choose(lines, types, chosen, may_be_unknown=is_part))
        lacks_types = any(one.type == UNKNOWN_TYPE for one in found)
        is_enough = len(found) == count and not (lacks_types and (chosen.types or window < _TYPES_WINDOW))
        if is_enough or not is_part:
            return found, types
        window *= _WINDOW_GROWTH


def _tail_once(file: str, count: int | None, chosen: ChosenEvents, printer: _Printer) -> History:
    """Print the last events in `file`; return what was read.

    Raises:
        click.UsageError: all of it was read, and it has no item of one of the wanted types; of standard input, which may be only
            a part of a log, that is only said.
    """
    history = _app.closed_at_end(open_history(file, whole_log=True))
    if count is None:
        _print_rest(history, RunningTypes(), chosen, printer)
        is_whole = True
    else:
        found, _ = _read_last(history, count, chosen)
        printer.print(found, history)
        is_whole = len(found) < count
    if is_whole and (error := unknown_types(chosen.types, chosen.seen)):
        if history.path is not None:
            raise error
        _screen.say(error.message)
    elif is_whole and count != 0 and not printer.has_printed:
        _screen.say(f"no events in {history.name} match")
    return history


def _tail_and_follow(file: str, count: int | None, chosen: ChosenEvents, printer: _Printer) -> History:
    """Print the last events in `file` and follow it until no more can come; return what was read."""
    is_new = False
    while True:
        if file != STANDARD_INPUT:
            is_new |= wait_for(file)
        was = identity(file)
        history = _app.closed_at_end(open_history(file, follows=True, whole_log=True))
        types = RunningTypes()
        try:
            if count is not None and not is_new and history.path is not None:
                found, types = _read_last(history, count, chosen)
                printer.print(found, history)
            _follow(history, types, chosen, printer)
        except JournalError:
            if identity(file) == was:
                raise
        else:
            return history
        history.close()
        _screen.say(f"{history.name} was removed or replaced; reading the new file from its start")
        is_new = True


def wait_for(file: str) -> bool:
    """Wait until `file` exists and isn't empty; return whether it had to wait."""
    waited = False
    while True:
        try:
            status = os.stat(file)
        except FileNotFoundError:
            if not waited:
                _screen.say(f"{shown(file)} doesn't exist yet; waiting for it")
        except (OSError, ValueError):  # opening it gives a better message
            return waited
        else:
            if status.st_size or not stat.S_ISREG(status.st_mode):
                return waited
        waited = True
        _pause()


def _follow(history: History, types: RunningTypes, chosen: ChosenEvents, printer: _Printer) -> None:
    """Print new events, and say which lines can't be read, until no more can come."""
    skipped, reported_at = "", -_REPORT_INTERVAL_S
    while True:
        _print_rest(history, types, chosen, printer)
        if history.is_over:
            return
        now = time.monotonic()
        if now - reported_at >= _REPORT_INTERVAL_S and (new := history.skipped_lines()) != skipped:
            skipped, reported_at = new, now
            _screen.say(skipped)
        _pause()


def _pause() -> None:
    """Wait a moment; raise if the reader of standard output has gone.

    Raises:
        BrokenPipeError: the reader of the pipe has left.
    """
    try:
        poller = select.poll()
        poller.register(sys.stdout.fileno(), 0)  # a closed pipe is reported without being asked for
    except (AttributeError, OSError, ValueError):  # Windows has none of this; or stdout is no file
        time.sleep(_POLL_S)
        return
    if poller.poll(_POLL_S * 1_000):
        raise BrokenPipeError


@_app.command(
    "Print the last events, and with -f new ones as they come.",
    "aqueue tail run.db",
    "aqueue tail -f run.jsonl --level warning",
    "aqueue tail run.db -n all --item 17",
    "aqueue tail run.db -n 1 --event failed --type Page",
    "aqueue tail run.jsonl -n all --event item.completed --json | jq .duration_s",
    "ssh host tail -f run.jsonl | aqueue tail -f -",
)
@click.option("-f", "--follow", is_flag=True, help="Keep printing new events until Ctrl-C.")
@click.option(
    "-n",
    "--lines",
    "count",
    type=_app.WholeNumber(0, word="all"),
    default=10,
    show_default=True,
    help="Print the last N events that match; 'all' for all of them.",
)
@event_option
@type_option
@click.option(
    "--item",
    "items",
    metavar="NUMBER",
    type=_app.WholeNumber(1),
    multiple=True,
    help="Only events of the item with this number. Repeatable.",
)
@click.option(
    "--level",
    metavar="LEVEL",
    type=click.Choice(LEVELS),
    default="debug",
    help=f"Only events of this level and above: {', '.join(LEVELS)}. Descriptions are the only debug events.  [default: debug]",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON lines: those of the log or, for a journal, those that the jsonl reporter would have written.",
)
def tail(
    file: str,
    *,
    follow: bool,
    count: int | None,
    events: frozenset[str],
    types: tuple[str, ...],
    items: tuple[int, ...],
    level: Level,
    as_json: bool,
) -> None:
    """Print the last events of FILE, one line per event, and with -f new ones as they come.

    A line has the local time, the level (D for debug, W for warning, E for error), what happened, the item's number, type
    and worker, and the details. On a terminal, lines are cut to its width; in a pipe they are whole. If a log has several
    runs, all of them are read.

    With -f, tail waits for a FILE that doesn't exist yet. It continues when a log is rotated, truncated or recreated, and
    after the run has ended, because the run may be resumed. From a pipe it prints everything that comes, whatever -n says.
    """
    chosen = ChosenEvents(events, types, frozenset(items), level)
    printer = _Printer(as_json=as_json)
    go = _tail_and_follow if follow else _tail_once
    _app.finish(go(file, count, chosen, printer))
