"""ReporterSuite: the requirements on every reporter, as tests."""

import io
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from typing import ClassVar
from unittest import SkipTest

from aqueue.events import Event
from aqueue.reporting import Reporter, SkippingReporter
from aqueue.testing import _scripted_runs as runs
from aqueue.testing._replay import feed, info_of, replay, result_of
from aqueue.view import RunView

__all__ = ["ReporterSuite"]

_PATIENCE_S = 60.0
"""The time in which a reporter must handle one of the suite's runs, seconds."""


class ReporterSuite:
    """The requirements on every reporter. Write a subclass with a name that begins with ``Test``, and run it with pytest.

    For example::

        class TestMyReporter(ReporterSuite):
            def make_reporter(self):
                return MyReporter()

    If `output` returns what the reporter writes, the suite checks that, too.

    Class attributes:
        writes_to_stdout: whether the reporter is meant to write to stdout. Default False.
        output_depends_on_batches: whether its output depends on how the events are cut into batches, as that of a display,
            which may skip to the newest state. Default True.
    """

    writes_to_stdout: ClassVar[bool] = False
    output_depends_on_batches: ClassVar[bool] = True

    def make_reporter(self) -> Reporter:
        """Return a new reporter, not opened yet. Subclasses must override this."""
        raise NotImplementedError(f"{type(self).__qualname__} must define make_reporter(self)")

    def output(self) -> bytes | None:
        """Return all that the newest reporter has written, after its `close`; None if that can't be seen."""
        return None

    def _report(self, events: Sequence[Event], batch_size: int = 100) -> None:
        reporter = self.make_reporter()
        _call_in_thread(lambda: replay(events, reporter, batch_size=batch_size))

    def test_is_a_reporter(self) -> None:
        """It has the attributes of the protocol, and `uses_terminal` even before it is opened."""
        reporter = self.make_reporter()
        assert isinstance(reporter, Reporter), f"{reporter!r} lacks open, handle, close or uses_terminal"
        assert isinstance(reporter.uses_terminal, bool), f"uses_terminal is {reporter.uses_terminal!r}, not a bool"

    def test_can_put_its_terminal_back(self) -> None:
        """A reporter that uses the terminal has release_terminal, which may be called at any time."""
        reporter = self.make_reporter()
        if not reporter.uses_terminal:
            raise SkipTest("it does not use the terminal")
        release: Callable[[], None] = getattr(reporter, "release_terminal")  # noqa: B009  # not in Reporter
        events = runs.every_event_type()
        view = RunView()
        view.apply(events)

        def report() -> None:
            release()
            reporter.open(info_of(events))
            reporter.handle(events, view)
            release()
            release()
            reporter.close(result_of(events, view))
            release()

        before = _streams()
        _call_in_thread(report)
        assert _streams() == before, "it did not restore sys.stdout or sys.stderr"

    def test_takes_no_event_at_all(self) -> None:
        """A run without any event is opened and closed."""
        self._report([])

    def test_takes_empty_batches(self) -> None:
        """It is called without events so that clocks can tick, even before the first event."""
        reporter = self.make_reporter()
        view = RunView()
        events = runs.completed(3)

        def report() -> None:
            reporter.open(info_of(events))
            for _ in range(3):
                reporter.handle([], view)
            view.apply(events)
            reporter.handle(events, view)
            for _ in range(3):
                reporter.handle([], view)
            reporter.close(result_of(events, view))

        _call_in_thread(report)

    def test_takes_every_event_type(self) -> None:
        """It takes each type of event, with each of its fields set."""
        self._report(runs.every_event_type(), batch_size=1)

    def test_skips_event_types_that_it_does_not_know(self) -> None:
        """A later version of aqueue may have more types."""
        self._report(runs.with_an_event_of_the_future())

    def test_takes_a_run_without_items(self) -> None:
        """A run may have nothing to do."""
        self._report(runs.completed(0))

    def test_takes_ten_thousand_events_at_once(self) -> None:
        """A batch may be long."""
        self._report(runs.completed(2_500), batch_size=100_000)

    def test_takes_an_interrupted_run(self) -> None:
        """A run may be stopped, then cancelled, with items outstanding."""
        self._report(runs.interrupted())

    def test_takes_a_run_that_was_cut_off(self) -> None:
        """A reporter may be closed in the middle of a run."""
        for end in (1, 2, 3, 5, 8):
            self._report(runs.every_event_type()[:end])

    def test_takes_a_run_with_many_failures(self) -> None:
        """There may be many failures, each of its own kind."""
        self._report(runs.with_failures(1_200))

    def test_takes_items_that_wait_for_a_retry(self) -> None:
        """Many items may wait, for a day, or only for a worker."""
        self._report(runs.with_retries(300), batch_size=7)

    def test_takes_a_resumed_run(self) -> None:
        """A run may be continued by another process, hours later."""
        self._report(runs.resumed())

    def test_takes_two_hundred_workers(self) -> None:
        """There may be more workers than a terminal has rows."""
        self._report(runs.with_workers(200), batch_size=50)

    def test_takes_a_run_on_a_cluster(self) -> None:
        """Worker processes join, one by one or hundreds at once, die and leave, and hooks outlast their process."""
        for processes, workers, batch_size in ((1, 1, 1), (3, 2, 1), (300, 2, 100_000), (300, 2, 50)):
            self._report(runs.on_a_cluster(processes, workers), batch_size)

    def test_takes_thirty_item_types(self) -> None:
        """There may be more item types than a terminal has rows."""
        self._report(runs.with_types([f"module_{number}:Type{number}" for number in range(30)]))

    def test_takes_odd_item_types(self) -> None:
        """A type's name need not look like module:qualname."""
        self._report(runs.with_types(["", " ", "x", "a:b:c", ":", "<locals>", "m:f.<locals>.C", "類:型", "e" * 5_000]))

    def test_takes_hostile_text(self) -> None:
        """Text from items, in any field, neither breaks it nor reaches a terminal or a log unescaped."""
        for text in HOSTILE_TEXTS:
            self._report(runs.saying(text), batch_size=3)
            _check_output(self.output(), text)

    def test_does_not_change_the_view(self) -> None:
        """Later events are folded into the same view."""
        reporter = self.make_reporter()
        view, twin = RunView(), RunView()
        events = runs.every_event_type()
        changed_after: list[Event] = []

        def report() -> None:
            reporter.open(info_of(events))
            for event in events:
                view.apply([event])
                twin.apply([event])
                reporter.handle([event], view)
                if view != twin and not changed_after:
                    changed_after.append(event)
            reporter.close(result_of(events, view))

        _call_in_thread(report)
        assert not changed_after, f"it changed the view when it handled {changed_after[0]!r}"

    def test_takes_batches_that_can_not_be_changed(self) -> None:
        """A batch is a tuple, which several reporters may share."""
        self._report(runs.every_event_type(), batch_size=100_000)

    def test_takes_a_run_of_which_it_skips_events(self) -> None:
        """A reporter that can skip gets only some of the events while it is behind, with the view after all of them."""
        reporter = self.make_reporter()
        if not (isinstance(reporter, SkippingReporter) and reporter.can_skip):
            raise SkipTest("it gets every event")
        for events in (
            runs.every_event_type(),
            runs.interrupted(),
            runs.with_failures(100),
            runs.with_retries(50),
            runs.on_a_cluster(7, 3),
        ):
            for batch_size, every in ((1, 2), (1, 3), (10, 2), (10, 3)):
                reporter = self.make_reporter()
                _call_in_thread(partial(feed, events, reporter, batch_size, every))

    def test_puts_the_standard_streams_back(self) -> None:
        """After a run, sys.stdout, sys.stderr and their write are what they were."""
        reporter = self.make_reporter()
        before = _streams()
        _call_in_thread(lambda: replay(runs.every_event_type(), reporter))
        assert _streams() == before, "it did not restore sys.stdout or sys.stderr"

    def test_leaves_no_thread_running(self) -> None:
        """Threads that it starts have ended when it is closed."""
        reporter = self.make_reporter()
        before = set(threading.enumerate())
        _call_in_thread(lambda: replay(runs.every_event_type(), reporter))
        left = set(threading.enumerate()) - before
        assert not left, f"it left threads running: {left}"

    def test_keeps_off_stdout(self) -> None:
        """Stdout belongs to the program, unless the reporter is meant to write there."""
        if self.writes_to_stdout:
            raise SkipTest("it is meant to write to stdout")
        reporter = self.make_reporter()
        with redirect_stdout(io.StringIO()) as written:
            _call_in_thread(lambda: replay(runs.every_event_type(), reporter))
        assert not written.getvalue(), f"it wrote to stdout: {written.getvalue()[:200]!r}"

    def test_can_be_made_again(self) -> None:
        """A program may have several runs, one after the other, each with its own reporter."""
        for _ in range(3):
            self._report(runs.completed(5))

    def test_writes_the_same_in_batches_of_any_size(self) -> None:
        """The output of a log doesn't depend on how the events are cut into batches."""
        if self.output_depends_on_batches:
            raise SkipTest("its output depends on the batches")
        outputs = []
        for batch_size in (1, 7, 100_000):
            self._report(runs.every_event_type(), batch_size)
            outputs.append(self.output())
        assert outputs[0] is not None, "output() must be overridden if output_depends_on_batches is False"
        assert outputs[0] == outputs[1] == outputs[2], "its output depends on how the events were cut into batches"


def _call_in_thread(call: Callable[[], object]) -> None:
    """Call a function in a thread of its own, as a run calls reporters, and raise what it raises."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # it is raised again below, in the test's thread
            raised.append(error)

    thread = threading.Thread(target=run, name="reporter suite", daemon=True)
    thread.start()
    thread.join(_PATIENCE_S)
    assert not thread.is_alive(), f"the reporter did not return within {_PATIENCE_S:.0f} s"
    if raised:
        raise raised[0]


def _streams() -> list[object]:
    return [sys.stdout, sys.stderr, *(getattr(stream, "write", None) for stream in (sys.stdout, sys.stderr))]


HOSTILE_TEXTS = (
    "\x1b[7;5;31;47mred",
    "\x1b[2;3H\x1b[9;9Hjumped",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x1b]0;title\x1b\\",
    "\x9b7;5;31;47mred",
    "\x9d52;c;ZXZpbA==\x9c",
    "two\nlines\r\nand\rmore\x0b\x0c\x85\u2028\u2029end",
    "\u202eright to left\u202c\u2066isolate\u2069\u200f\u061c",
    "[/red][bold]markup[/] \\[link=x]",
    "%s %d {0} {name}",
    "lone \ud800 surrogate \udfff",
    "\x00\x07\x08\x7f",
    "\U000e0041\U000e0042tags \ufeff\u00ad",
    "wide 漢字 👩\u200d👩\u200d👧 e\u0301\u0302",
    "long " * 200_000,
    "",
)

# None of these may reach a terminal or a log. Reporters use other sequences themselves.
_FORBIDDEN = tuple(
    text.encode()
    for text in (
        "\x1b[7;5;31;47m", "\x1b[9;9H", "\x1b]52", "\x1b]0;title", "\x00", "\x08", "\x0b", "\x0c", "\x7f",
        *map(chr, range(0x80, 0xA0)), "\u2028", "\u2029", "\u202e", "\u2066", "\u2069", "\u200f", "\u061c",
        "\U000e0041", "\ufeff", "\u00ad",
    )
)  # fmt: skip


def _check_output(output: bytes | None, text: str) -> None:
    if output is None:
        return
    is_ascii = output.isascii()
    for sequence in _FORBIDDEN:
        if sequence.isascii() or not is_ascii:
            assert sequence not in output, f"it wrote {sequence!r} for the text {text[:60]!r}"
