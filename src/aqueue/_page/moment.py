"""What each view is rendered from: a run as it stands, as it was at an earlier event, or at its end."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec

from aqueue._history.history import History
from aqueue._history.record import RunState, process_ended_at
from aqueue._page.failure_kinds import FailureKinds
from aqueue._page.item_query import ItemReader, Order
from aqueue._page.over_time import Fold
from aqueue.events import Event
from aqueue.view import RunView

__all__ = ["Asked", "Mark", "Moment"]


class Asked(msgspec.Struct, frozen=True):
    """What a browser asks to see: what its address says.

    Attributes:
        view: which view.
        at: the number of the event at which the run is shown; None for now.
        q: the filter of the items, as it was typed.
        order: in which order the items are listed.
        start: the number of the item with which the list begins; None for the first one.
        n: the number of the one item that is shown.
    """

    view: str
    at: int | None = None
    q: str = ""
    order: Order = "newest"
    start: int | None = None
    n: int = 0

    @property
    def parameters(self) -> dict[str, object]:
        """What the address says after its ``?``, but for the moment; without what is as it is by default."""
        order = "" if self.order == "newest" else self.order
        given = {"q": self.q, "order": order, "start": self.start, "n": self.n}
        return {name: value for name, value in given.items() if value}


class Mark(NamedTuple):
    """What happened to a run, to be found on the slider.

    Attributes:
        seq: the number of the event at which the run is shown if one asks for this mark.
        elapsed_s: when, in the run's own time, seconds.
        sign: its icon.
        words: what it was, in a few words; not made safe to show.
    """

    seq: int
    elapsed_s: float
    sign: str
    words: str


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
        items: reads its items from an index; None if there is none so far.
        index_error: why the index can't be made or filled; empty if it can.
        at: the number of the event that is the moment, if that is a past one; None for now.
        marks: what happened to the run, in order, as far as the index has it.
        commands: what people did to the run, the last of it first, as far as the index has it.
        idle_groups: groups in which items waited or ran a moment ago. They stay in sight, so that tables don't jump.
        latest: the run as it stands, if the moment is a past one.
        can_control: whether the person who looks at it may steer the run.
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
    items: ItemReader | None = None
    index_error: str = ""
    at: int | None = None
    marks: Sequence[Mark] = ()
    commands: Sequence[Event] = ()
    idle_groups: Collection[str] = ()
    latest: "Moment | None" = None
    can_control: bool = False

    @property
    def takes_commands(self) -> bool:
        """Whether a command for some of its items can be given from the page."""
        return self.can_control and not self.error

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
