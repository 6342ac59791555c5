"""What a run came to, as lines that stay, for the rich and the plain reporter; and how both word failures and the stop."""

import os
import shlex
from collections.abc import Iterator
from typing import Final

from aqueue.events import Counts, ErrorInfo, ItemFailed, Phase
from aqueue.figures import amount
from aqueue.result import RunResult
from aqueue.text import short_names
from aqueue.tracebacks import place, user_frames
from aqueue_reporters._pace import rate_text, time_taken
from aqueue_reporters._pen import Pen

__all__ = ["error_line", "failure_line", "in_hook", "plural", "stopping", "summary_lines"]

_MAX_TYPES: Final = 50
_MAX_GROUPS: Final = 10
_MAX_FRAMES: Final = 5
_MAX_MESSAGE_CHARS: Final = 300


def plural(number: int, noun: str, ending: str = "s") -> str:
    """Return ``1 item`` or ``1,234 items``."""
    return f"{amount(number)} {noun}{'' if number == 1 else ending}"


def in_hook(phase: Phase) -> str:
    """Return what is added to an item's type where its hook failed."""
    return " after children" if phase == "after_children" else ""


def error_line(error: ErrorInfo, pen: Pen) -> str:
    """Return an error's class, without its module, and its message, safe to show."""
    kind = pen.safe(error.type.rpartition(":")[2] or error.type, 200)
    message = pen.safe(error.message, _MAX_MESSAGE_CHARS)
    return f"{kind}: {message}" if message else kind


def failure_line(failure: ItemFailed, pen: Pen) -> str:
    """Return one failure as a line of its own."""
    name = pen.safe(short_names([failure.type])[failure.type], 200)
    return f"failed: item {failure.item} {name}{in_hook(failure.phase)}: {error_line(failure.error, pen)}"


def stopping(reason: str, running: int, *, cancelling: bool, has_keys: bool) -> str:
    """Return why a run stops, what it waits for, and, if `has_keys`, what Ctrl-C does; `reason` must be safe."""
    if not running:
        return f"stopping: {reason}; no item runs any more"
    doing = f"stopping: {reason}; {'cancelling' if cancelling else 'waiting for'} {plural(running, 'running item')}"
    if not has_keys:
        return doing
    if cancelling:
        return f"{doing}; a third Ctrl-C ends the process at once"
    return f"{doing}; Ctrl-C{' again' if reason == 'Ctrl-C' else ''} cancels {'it' if running == 1 else 'them'}"


# ---- the summary ----------------------------------------------------------------------------------------------------


def summary_lines(result: RunResult, pen: Pen, ended: str) -> list[str]:
    """Return the summary of `result`. A terminal wraps what is wider than it is, so that it can be copied whole.

    Parameters:
        result: what the run came to, so far if it goes on.
        pen: how to write.
        ended: how it ended.
    """
    counts = result.counts
    parts = [_done_and_failed(counts)]
    if counts.outstanding:
        parts.append(f"{amount(counts.outstanding)} outstanding")
    if counts.deduplicated:
        parts.append(f"{amount(counts.deduplicated)} dropped as known")
    if counts.retried:
        parts.append(f"{amount(counts.retried)} retried")
    parts.append(f"{time_taken(result.elapsed_s)} elapsed")
    if result.elapsed_s > 0:
        parts.append(rate_text(counts.completed / result.elapsed_s))
    if result.stop_reason:
        ended += f" ({pen.safe(result.stop_reason, 200)})"
    style = {"completed": "good strong", "failed": "bad strong"}.get(result.status, "stopping")
    lines = [f"{pen.write(style, ended)}: {', '.join(parts)}"]
    names = {type: pen.safe(name, 200) for type, name in short_names(result.counts_by_type).items()}
    ranked = sorted(result.counts_by_type.items(), key=lambda entry: -entry[1].enqueued)
    if len(ranked) > 1:  # of one type the line above has told all
        lines += [f"  {names[type]}: {_done_and_failed(of_type)}" for type, of_type in ranked[:_MAX_TYPES]]
    if len(ranked) > _MAX_TYPES:
        lines.append(pen.write("quiet", f"  +{plural(len(ranked) - _MAX_TYPES, 'more type')}"))
    if counts.failed:
        lines += _failures(result, names, pen)
    return lines


def _done_and_failed(counts: Counts) -> str:
    return f"{amount(counts.completed)}/{amount(counts.enqueued)} done, {amount(counts.failed)} failed"


def _failures(result: RunResult, names: dict[str, str], pen: Pen) -> Iterator[str]:
    """Yield the failures by kind, the most numerous first, each with an example and where the user's code was in it."""
    groups = result.failure_groups[:_MAX_GROUPS]
    for group in groups:
        name = names.get(group.type) or pen.safe(group.type, 200)
        kind = pen.safe(group.error.rpartition(":")[2] or group.error, 200)
        yield f"  {pen.write('bad strong', amount(group.count))} x {pen.write('strong', name)}{in_hook(group.phase)}: {pen.write('bad', kind)}"
        first = group.first
        attempts = f" ({first.attempt} attempts)" if first.attempt > 1 else ""
        message = pen.safe(first.error.message, _MAX_MESSAGE_CHARS)
        yield f"      {'first: ' if group.count > 1 else ''}item {first.item}{attempts}: {message}"
        frames = user_frames(first.error.traceback)[-_MAX_FRAMES:]
        yield from (pen.write("quiet", f"      {pen.safe(place(frame), _MAX_MESSAGE_CHARS)}") for frame in frames)
        if frames and frames[-1].code:
            yield f"        {pen.safe(frames[-1].code, _MAX_MESSAGE_CHARS)}"
    if more := max(result.counts.failed - sum(group.count for group in groups), 0):
        yield pen.write("quiet", f"  +{plural(more, 'more failure')}")
    if result.journal:
        command = f"aqueue failures --tracebacks {shlex.quote(_from_here(result.journal))}"
        yield f"  {pen.write('quiet', 'all, with whole tracebacks:')} {pen.safe(command, 5_000)}"
    elif result.counts.failed > len(groups):
        yield f'  {pen.write("quiet", "to keep all, with whole tracebacks:")} journal="run.db"'


def _from_here(path: str) -> str:
    """Return `path`, an absolute one, as a person in the current folder writes it if it is below that."""
    try:
        below = os.path.relpath(path)
    except (OSError, ValueError):  # the folder is gone, or on another drive
        return path
    return path if below.startswith((os.pardir, "-")) else below
