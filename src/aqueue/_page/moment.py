"""What each view is rendered from: a run as it stands, as it was at an earlier event, or at its end."""

from aqueue._history.history import History
from aqueue._history.record import RunState, process_ended_at
from aqueue._page.failure_kinds import FailureKinds
from aqueue._page.over_time import Fold
from aqueue.view import RunView

__all__ = ["Moment"]


class Moment:
    """A run at a moment.

    Attributes:
        name: the file's name, not made safe to show.
        history: from which it is read.
        view: the run, folded from all events up to the moment.
        state: what it is doing.
        now: the moment, Unix time in seconds; not before the last of these events.
        over_time: counts over time, as far as they are read.
        kinds: the failures by kind, as far as they are read.
        read_share: how much of what both of these need is read, from 0 to 1.
        error: why the run can't be read any more; empty if it can.
    """

    name: str
    history: History
    view: RunView
    state: RunState
    now: float
    over_time: Fold
    kinds: FailureKinds
    read_share: float = 1.0
    error: str = ""

    @property
    def num_processes(self) -> int:
        """How many processes have run it, as far as that is read."""
        return self.over_time.num_processes

    @property
    def until(self) -> float:
        """Until when the run's time counts, Unix time in seconds: the moment, or the last event before it."""
        return self.now if self.state.name == "running" else self.view.at

    @property
    def elapsed_s(self) -> float:
        """How long the run has taken, seconds, without the time between processes."""
        return self.view.elapsed_s(self.until)

    @property
    def ended_at(self) -> float:
        """When its last process ended, as far as is recorded, Unix time in seconds. Commands that follow don't count."""
        return process_ended_at(self.view, self.until)
