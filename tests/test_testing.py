"""The reporter suite catches what it is there to catch.

The suite is `testing._suite`: `testing._replay` gives the runs of `testing._scripted_runs` to a reporter. The reporters here
are all made from `testing._recorder`.
"""

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from unittest import SkipTest

import pytest

from aqueue.events import Event, ItemCompleted, ItemDescribed, ItemEnqueued
from aqueue.reporting import Reporter, RunInfo
from aqueue.result import RunResult
from aqueue.testing import EventRecorder, ReporterSuite
from aqueue.view import RunView


class Bad(EventRecorder):
    """A reporter with one fault; a subclass says which. What it would write is kept in `written`."""

    def __init__(self) -> None:
        super().__init__()
        self.written = ""


class RaisesForAnUnknownEvent(Bad):
    """It knows all events that there are today."""

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Look each up."""
        for event in events:
            if type(event).__module__ != "aqueue.events":
                raise TypeError(event)


class NeedsAnEvent(Bad):
    """It takes for granted that something happens."""

    def close(self, result: RunResult) -> None:
        """Look at the last event."""
        self.written += str(self.events[-1])


class NeedsABatch(Bad):
    """It takes for granted that a batch has events."""

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Look at the first event."""
        self.written += str(events[0])


class NeedsAColon(Bad):
    """It takes for granted what an item type looks like."""

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Split each type."""
        for name in view.types:
            _, _ = name.split(":")


class ShowsWhatItemsSay(Bad):
    """It writes descriptions as they are."""

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Write them."""
        self.written += "".join(event.text for event in events if isinstance(event, ItemDescribed))


class ChangesTheView(Bad):
    """It counts for itself, in the view."""

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Count."""
        view.seq += 1


class ChangesTheBatch(Bad):
    """It takes the events out of the batch."""

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Take them."""
        assert isinstance(events, list)
        events.clear()


class MissesWhatItSkips(Bad):
    """It says that it can skip events, and takes for granted that it has had all."""

    can_skip = True

    def __init__(self) -> None:
        super().__init__()
        self.types: dict[int, str] = {}

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Look up what it was told."""
        for event in events:
            if isinstance(event, ItemEnqueued):
                self.types[event.item] = event.type
            elif isinstance(event, ItemCompleted):
                self.written += self.types[event.item]


class KeepsStderr(Bad):
    """It forgets to put stderr back."""

    def open(self, run: RunInfo) -> None:
        """Replace it."""
        sys.stderr = sys.stdout


class CountsWorkersFromOne(Bad):
    """It takes for granted that all workers are there from the beginning, and stay."""

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Show a line for each."""
        lines = [""] * view.num_workers
        for worker, item in view.running.items():
            lines[worker - 1] = item.text


class LeavesAThread(Bad):
    """It forgets to end its thread."""

    ended = threading.Event()

    def open(self, run: RunInfo) -> None:
        """Start it."""
        threading.Thread(target=self.ended.wait, daemon=True).start()


class Prints(Bad):
    """It writes to stdout."""

    def close(self, result: RunResult) -> None:
        """Write."""
        sys.stdout.write("done\n")


class WritesPerBatch(Bad):
    """It writes a line a batch."""

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Write one."""
        self.written += f"{len(events)}\n"


class OpensOnlyOnce(Bad):
    """It can't be used for a second run."""

    opened = False

    def open(self, run: RunInfo) -> None:
        """Refuse the second time."""
        if OpensOnlyOnce.opened:
            raise RuntimeError("it was opened before")
        OpensOnlyOnce.opened = True


class HasNoRelease(Bad):
    """It says that it uses the terminal and can't put it back."""

    uses_terminal = True


class IsUnsure(Bad):
    """It does not say whether it uses the terminal."""

    uses_terminal = None  # type: ignore[assignment]


def suite_of(cls: type[Bad]) -> ReporterSuite:
    """Return the suite for a class of reporters."""

    class Suite(ReporterSuite):
        output_depends_on_batches = False

        def make_reporter(self) -> Reporter:
            self.made = cls()
            return self.made

        def output(self) -> bytes:
            return self.made.written.encode("utf-8", "replace")

    return Suite()


@pytest.fixture(autouse=True)
def _put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    OpensOnlyOnce.opened = False
    LeavesAThread.ended.clear()
    yield
    LeavesAThread.ended.set()


@pytest.mark.parametrize(
    ("cls", "test"),
    [
        (RaisesForAnUnknownEvent, "test_skips_event_types_that_it_does_not_know"),
        (NeedsAnEvent, "test_takes_no_event_at_all"),
        (NeedsABatch, "test_takes_empty_batches"),
        (NeedsAColon, "test_takes_odd_item_types"),
        (ShowsWhatItemsSay, "test_takes_hostile_text"),
        (ChangesTheView, "test_does_not_change_the_view"),
        (ChangesTheBatch, "test_takes_batches_that_can_not_be_changed"),
        (MissesWhatItSkips, "test_takes_a_run_of_which_it_skips_events"),
        (KeepsStderr, "test_puts_the_standard_streams_back"),
        (CountsWorkersFromOne, "test_takes_a_run_on_a_cluster"),
        (LeavesAThread, "test_leaves_no_thread_running"),
        (Prints, "test_keeps_off_stdout"),
        (WritesPerBatch, "test_writes_the_same_in_batches_of_any_size"),
        (OpensOnlyOnce, "test_can_be_made_again"),
        (HasNoRelease, "test_can_put_its_terminal_back"),
        (IsUnsure, "test_is_a_reporter"),
    ],
)
def test_fault_is_caught(cls: type[Bad], test: str) -> None:
    """Each fault by the test that is there for it, which a recorder without the fault passes."""
    try:
        getattr(suite_of(Bad), test)()
    except SkipTest:
        assert cls in (HasNoRelease, MissesWhatItSkips)

    with pytest.raises((AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)):
        getattr(suite_of(cls), test)()


def test_suite_without_a_reporter_says_what_to_write() -> None:
    """The one method that a subclass must have."""
    with pytest.raises(NotImplementedError, match="ReporterSuite must define make_reporter"):
        ReporterSuite().test_is_a_reporter()


def test_import_brings_no_pytest() -> None:
    """The recorder is of use under any test runner."""
    code = "import sys, aqueue.testing; sys.exit('pytest' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
