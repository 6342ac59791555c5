"""EventRecorder: a reporter that keeps the events of a run."""

from collections.abc import Sequence
from typing import TypeVar

from aqueue.events import Event
from aqueue.reporting import RunInfo
from aqueue.result import RunResult
from aqueue.view import RunView

__all__ = ["EventRecorder"]

E = TypeVar("E", bound=Event)


class EventRecorder:
    """A reporter that keeps everything it is called with, for a test to check after the run.

    Attributes:
        run: the argument of `open`; None before.
        events: all events, in order.
        calls: the names of the calls to it, in order: ``open``, ``handle``, …, ``close``.
        result: the argument of `close`; None before.
    """

    uses_terminal = False

    def __init__(self) -> None:
        self.run: RunInfo | None = None
        self.events: list[Event] = []
        self.calls: list[str] = []
        self.result: RunResult | None = None

    def open(self, run: RunInfo) -> None:
        """Keep `run`."""
        self.calls.append("open")
        self.run = run

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Keep `events`."""
        self.calls.append("handle")
        self.events.extend(events)

    def close(self, result: RunResult) -> None:
        """Keep `result`."""
        self.calls.append("close")
        self.result = result

    def of(self, cls: type[E]) -> list[E]:
        """Return the events of the type `cls`, in order: ``recorder.of(ItemCompleted)``."""
        return [event for event in self.events if isinstance(event, cls)]
