"""What a run came to, as lines that stay, for the rich and the plain reporter; and how both word failures and the stop."""

import os
import shlex
from collections.abc import Iterator
from typing import Final

from aqueue.events import ErrorInfo, ItemFailed, Phase
from aqueue.figures import amount
from aqueue.result import RunResult
from aqueue.text import first_line, short_names
from aqueue.tracebacks import place, user_frames
from aqueue_reporters._pace import rate_text, time_taken
from aqueue_reporters._pen import Pen

__all__ = ["command", "error_line", "failure_line", "in_hook", "plural", "stopping", "summary_lines"]

_MAX_TYPES: Final = 4
_MAX_GROUPS: Final = 2
_MAX_CODE_CHARS: Final = 60
_MAX_PLACE_CHARS: Final = 300
_MAX_MESSAGE_CHARS: Final = 200


def plural(number: int, noun: str, ending: str = "s") -> str:
    """Return ``1 item`` or ``1,234 items``."""
    return f"{amount(number)} {noun}{'' if number == 1 else ending}"


def in_hook(phase: Phase) -> str:
    """Return what is added to an item's type where its hook failed."""
    return " after children" if phase == "after_children" else ""


def error_name(error: ErrorInfo, pen: Pen) -> str:
    """Return an error's class without its module, safe to show."""
    return pen.safe(error.type.rpartition(":")[2] or error.type, 200)


def _message(error: ErrorInfo, pen: Pen) -> str:
    """Return the first line of an error's message, safe to show. The rest is in `aqueue failures --tracebacks`."""
    return pen.safe(first_line(error.message), _MAX_MESSAGE_CHARS)


def error_line(error: ErrorInfo, pen: Pen) -> str:
    """Return an error's class and the first line of its message, safe to show."""
    return f"{error_name(error, pen)}: {_message(error, pen)}".removesuffix(": ")


def failure_line(failure: ItemFailed, pen: Pen) -> str:
    """Return one failure as a line of its own."""
    name = pen.safe(short_names([failure.type])[failure.type], 200)
    return f"failed: item {failure.item} {name}{in_hook(failure.phase)}: {error_line(failure.error, pen)}"


def stopping(reason: str, running: int, *, cancelling: bool, has_keys: bool) -> str:
    """Return why a run stops, what it waits for, and, if `has_keys`, what Ctrl-C does; `reason` must be safe."""
    if not running:
        return f"stopping: {reason}; no item is running"
    doing = f"stopping: {reason}; {'cancelling' if cancelling else 'waiting for'} {plural(running, 'running item')}"
    if not has_keys:
        return doing
    if cancelling:
        return f"{doing}; a third Ctrl-C ends the process at once"
    return f"{doing}; Ctrl-C{' again' if reason == 'Ctrl-C' else ''} cancels {'it' if running == 1 else 'them'}"


# ---- the summary ----------------------------------------------------------------------------------------------------


def summary_lines(
    result: RunResult, pen: Pen, ended: str, *, is_watched: bool = False, has_journal: bool = False
) -> list[str]:
    """Return the summary of `result`, at most 19 lines: with what follows it, it fits a terminal of 24 lines.

    A terminal wraps a line that is too wide, so that it can still be copied whole.

    Parameters:
        result: the result of the run, or of the run so far.
        pen: how to write.
        ended: how the run ended, such as ``Failed``.
        is_watched: whether it is a run of another process, so that advice on how to start a run is of no use.
        has_journal: whether the result's journal is one: for a run that is read from a log, it is that.
    """
    counts_say_it = result.status == "failed" and result.stop_reason.endswith(" failed")
    if result.stop_reason and not counts_say_it:
        ended += f" ({pen.safe(result.stop_reason, 200)})"
    style = {"completed": "good strong", "failed": "bad strong"}.get(result.status, "stopping")
    lines = [f"{pen.write(style, ended)}   {f' {pen.characters.dot} '.join(_headline(result))}"]
    names = {type: pen.safe(name, 60) for type, name in short_names(result.counts_by_type).items()}
    if len(names) > 1:  # the headline says everything about a single type
        lines += ["", *_types(result, names, pen)]
    if result.counts.failed:
        lines += ["", *_failures(result, names, pen)]
        if result.journal:
            lines += ["", f"  See them all:   {command('failures', result.journal, pen)}"]
        if result.journal and has_journal:
            title = "Accept it:" if result.counts.failed == 1 else "Accept them:"
            lines.append(f"  {title:15} {command('skip', result.journal, pen)} --state failed")
    if not result.journal and not is_watched:
        if result.counts.failed:
            lines += ["", '  To list all failures, and to retry them, pass resume="run.db".']
        elif result.counts.outstanding:
            lines += ["", '  To resume a run where it stopped, pass resume="run.db".']
    return lines


def _headline(result: RunResult) -> Iterator[str]:
    """Yield what happened, in the order of what matters most."""
    counts, elapsed_s = result.counts, result.elapsed_s
    if counts.failed and result.status == "failed":
        yield f"{amount(counts.failed)} of {plural(counts.enqueued, 'item')} failed"
    if result.status == "completed":
        yield f"{plural(counts.completed, 'item')} in {time_taken(elapsed_s)}"
        if elapsed_s > 0:
            yield rate_text(counts.completed / elapsed_s)
    elif counts.enqueued:
        yield f"{amount(counts.completed)} completed"
    else:
        yield "no item was run"
    if counts.outstanding:
        yield f"{amount(counts.outstanding)} outstanding"
    if counts.failed and result.status != "failed":
        yield f"{amount(counts.failed)} failed"
    if counts.skipped:
        yield f"{amount(counts.skipped)} skipped"
    if counts.retried:
        yield f"{amount(counts.retried)} retried"
    if counts.deduplicated:
        yield f"{plural(counts.deduplicated, 'duplicate')} skipped"
    if result.status != "completed":
        yield time_taken(elapsed_s)


def _types(result: RunResult, names: dict[str, str], pen: Pen) -> Iterator[str]:
    """Yield a table with a row per type, those with the most items, and a column per state that there is."""
    ranked = sorted(result.counts_by_type.items(), key=lambda entry: -entry[1].enqueued)
    columns = ["completed", *(title for title in ("failed", "skipped", "outstanding") if getattr(result.counts, title))]
    cells_of = {title: max(len(title) + 3, 12) for title in columns}
    width = max(len(names[type]) for type, _ in ranked[:_MAX_TYPES])
    yield pen.write("quiet", " " * (width + 2) + "".join(f"{title:>{cells_of[title]}}" for title in columns))
    for type, counts in ranked[:_MAX_TYPES]:
        shown = {title: amount(number) if (number := getattr(counts, title)) else "" for title in columns}
        cells = [f"{text:>{cells_of[title]}}" for title, text in shown.items()]
        if counts.failed:
            cells[1] = pen.write("bad strong", cells[1])
        yield f"  {names[type]}{' ' * (width - len(names[type]))}{''.join(cells)}".rstrip()
    if len(ranked) > _MAX_TYPES:
        yield pen.write("quiet", f"  and {plural(len(ranked) - _MAX_TYPES, 'more type')}")


def _failures(result: RunResult, names: dict[str, str], pen: Pen) -> Iterator[str]:
    """Yield the most frequent kinds of failures, each with an example and the line of the user's code that raised it."""
    groups = result.failure_groups[:_MAX_GROUPS]
    width = max((len(amount(group.count)) for group in groups), default=0)
    for group in groups:
        name = names.get(group.type) or pen.safe(group.type, 60)
        error = group.first.error
        count = pen.write("bad strong", f"{amount(group.count):>{width}}")
        what = f"{pen.write('strong', name)}{in_hook(group.phase)}: {pen.write('bad', error_name(error, pen))}"
        yield f"  {count} {pen.characters.times} {what}  {_message(error, pen)}".rstrip()
        indent = " " * (width + 5)
        if frames := user_frames(error.traceback)[-1:]:
            code = pen.safe(frames[0].code, _MAX_CODE_CHARS)
            yield f"{indent}{pen.write('quiet', pen.safe(place(frames[0]), _MAX_PLACE_CHARS))}   {code}".rstrip()
        attempts = f", attempt {group.first.attempt}" if group.first.attempt > 1 else ""
        yield f"{indent}{'e.g. ' if group.count > 1 else ''}item {group.first.item}{attempts}"
    if more := max(result.counts.failed - sum(group.count for group in groups), 0):
        yield pen.write("quiet", f"  and {plural(more, 'more failure')}")


def command(name: str, journal: str, pen: Pen) -> str:
    """Return the command line that applies a subcommand to the run in `journal`, safe to show."""
    return f"aqueue {name} {pen.safe(shlex.quote(_from_here(journal)), 5_000)}"


def _from_here(path: str) -> str:
    """Return `path`, an absolute one, as a person in the current folder writes it if it is below that."""
    try:
        below = os.path.relpath(path)
    except (OSError, ValueError):  # the folder is gone, or on another drive
        return path
    return path if below.startswith((os.pardir, "-")) else below
