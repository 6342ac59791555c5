"""What the summaries say of failures: where the user's own code was, how many are not shown, how to see them all."""

import os
import shlex
from collections.abc import Sequence
from typing import Final

from aqueue.events import ItemFailed
from aqueue.result import FailureGroup, RunResult
from aqueue.tracebacks import Frame, user_frames

__all__ = ["how_to_list", "innermost_frames", "not_shown"]

_MAX_FRAMES: Final = 5


def _from_here(path: str) -> str:
    """Return `path`, an absolute one, as a person in the current folder writes it if it is below that."""
    try:
        below = os.path.relpath(path)
    except (OSError, ValueError):  # the folder is gone, or on another drive
        return path
    return path if below.startswith((os.pardir, "-")) else below


def innermost_frames(failure: ItemFailed) -> list[Frame]:
    """Return the frames of the user's own code in which it failed, at most 5, the innermost last; not made safe."""
    return user_frames(failure.error.traceback)[-_MAX_FRAMES:]


def not_shown(result: RunResult, groups: Sequence[FailureGroup]) -> int:
    """Return how many of the run's failures are in none of the `groups` that are shown."""
    return max(result.counts.failed - sum(group.count for group in groups), 0)


def how_to_list(result: RunResult, groups: Sequence[FailureGroup]) -> tuple[str, str] | None:
    """Return what shows every failure: what it is for, and the command, or the argument of `run_queue`, itself.

    None if there is no journal and each failure is shown. Neither text is made safe.

    Parameters:
        result: what the run came to.
        groups: those whose first failure is shown.
    """
    if result.journal:
        return "all, with whole tracebacks", f"aqueue failures --tracebacks {shlex.quote(_from_here(result.journal))}"
    if result.counts.failed > len(groups):
        return "to keep all, with whole tracebacks", 'journal="run.db"'
    return None
