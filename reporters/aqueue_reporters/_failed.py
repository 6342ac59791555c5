"""What displays say of failures: which were missed, where the user's own code was, how many are not shown, how to see all."""

import os
import shlex
from collections.abc import Sequence
from typing import Final

from aqueue.events import Event, ItemFailed
from aqueue.result import FailureGroup, RunResult
from aqueue.tracebacks import Frame, user_frames
from aqueue.view import RunView

__all__ = ["MissedFailures", "how_to_list", "innermost_frames", "not_shown"]

_MAX_FRAMES: Final = 5


class MissedFailures:
    """Finds the failures whose events a display was not given, since it was behind and can skip: the latest 20."""

    def __init__(self) -> None:
        """Begin before the first batch."""
        self._seq: int | None = None  # the last event of which it was told

    def before(self, events: Sequence[Event], view: RunView) -> list[ItemFailed]:
        """Return those that came between the last batch and this one, with its view, in their order."""
        told, self._seq = self._seq, view.seq
        if told is None:
            return []
        first = events[0].seq if events else view.seq + 1
        return [failed for failed in view.failures if told < failed.seq < first]


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
