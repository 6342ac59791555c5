"""Each reporter that comes with aqueue passes the suite that any reporter must pass."""

import io
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from rich.console import Console

from aqueue.events import ItemCompleted
from aqueue.reporting import Reporter
from aqueue.testing import EventRecorder, ReporterSuite, replay
from aqueue.testing._scripted_runs import completed
from aqueue_reporters.jsonl import JsonlReporter
from aqueue_reporters.plain import PlainReporter
from aqueue_reporters.rich import RichReporter
from tests.reporters.pty_stream import PtyStream


def _clock() -> Callable[[], float]:
    """Return a clock on which enough time passes between two calls for every display to be drawn again."""
    times = count(1_700_000_000, 2)
    return lambda: float(next(times))


class TestEventRecorder(ReporterSuite):
    """The recorder that tests use."""

    def make_reporter(self) -> Reporter:
        """Return a recorder."""
        return EventRecorder()


def test_recorder_keeps_all_it_is_told() -> None:
    """The events in order, by type as well, the calls, and what it was opened and closed with."""
    recorder = EventRecorder()
    events = completed(2)
    result = replay(events, recorder, batch_size=4)
    assert events == recorder.events
    assert [event.item for event in recorder.of(ItemCompleted)] == [1, 2]
    assert ["open", *["handle"] * 6, "close"] == recorder.calls
    assert recorder.run is not None
    assert events[0].at == recorder.run.started_at
    assert result is recorder.result


class TestJsonlToFile(ReporterSuite):
    """The jsonl reporter, to a file."""

    output_depends_on_batches = False

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.made = 0

    def make_reporter(self) -> Reporter:
        """Return one with a file of its own."""
        self.made += 1
        self.path = self.folder / f"{self.made}.jsonl"
        return JsonlReporter(self.path, include_data=True)

    def output(self) -> bytes:
        """Return what is in the file."""
        return self.path.read_bytes()


class TestJsonlToPipe(ReporterSuite):
    """The jsonl reporter, to a stdout that is no terminal."""

    writes_to_stdout = True
    output_depends_on_batches = False

    @pytest.fixture(autouse=True)
    def _keep_monkeypatch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def make_reporter(self) -> Reporter:
        """Return one that writes to stdout."""
        self.stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        self.monkeypatch.setattr(sys, "stdout", self.stdout)
        return JsonlReporter()

    def output(self) -> bytes:
        """Return what is in stdout."""
        return _bytes(self.stdout)


class _OnTerminal(ReporterSuite):
    """What writes to a pseudo-terminal, a new one for each reporter."""

    columns = 80

    @pytest.fixture(autouse=True)
    def _terminals(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setenv("TERM", "xterm-256color")
        self.terminals: list[PtyStream] = []
        yield
        for terminal in self.terminals:
            terminal.finish()

    def new_terminal(self) -> PtyStream:
        """Return one."""
        self.terminals.append(PtyStream(columns=self.columns))
        return self.terminals[-1]

    def output(self) -> bytes:
        """Return what the last terminal got."""
        return self.terminals[-1].finish()


class TestJsonlToTerminal(_OnTerminal):
    """The jsonl reporter, to a stdout that is a terminal."""

    writes_to_stdout = True
    output_depends_on_batches = False

    @pytest.fixture(autouse=True)
    def _keep_monkeypatch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def make_reporter(self) -> Reporter:
        """Return one that writes to stdout."""
        self.monkeypatch.setattr(sys, "stdout", self.new_terminal().stream)
        return JsonlReporter()


class TestPlainOnTerminal(_OnTerminal):
    """The plain reporter, on a terminal."""

    def make_reporter(self) -> Reporter:
        """Return one."""
        return PlainReporter(stream=self.new_terminal().stream, clock=_clock())


class TestPlainOnNarrowTerminal(TestPlainOnTerminal):
    """The plain reporter, on a terminal of ten columns."""

    columns = 10


class TestPlainOnPipe(ReporterSuite):
    """The plain reporter, where there is no terminal."""

    def make_reporter(self) -> Reporter:
        """Return one that writes into memory, a line for every batch."""
        self.stream = io.StringIO()
        return PlainReporter(stream=self.stream, interval_s=0)

    def output(self) -> bytes:
        """Return what it wrote."""
        return self.stream.getvalue().encode()


class TestPlainInAscii(ReporterSuite):
    """The plain reporter, where the encoding is ASCII."""

    def make_reporter(self) -> Reporter:
        """Return one that writes into memory."""
        self.stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        return PlainReporter(stream=self.stream, interval_s=0)

    def output(self) -> bytes:
        """Return what it wrote."""
        return _bytes(self.stream)


def _bytes(stream: io.TextIOWrapper) -> bytes:
    stream.flush()
    below = stream.buffer
    assert isinstance(below, io.BytesIO)
    return below.getvalue()


class TestRichOnTerminal(_OnTerminal):
    """The rich reporter, on a terminal."""

    def make_reporter(self) -> Reporter:
        """Return one."""
        console = Console(file=self.new_terminal().stream, force_terminal=True, color_system="truecolor")
        return RichReporter(console=console, clock=_clock())


class TestRichOnNarrowTerminal(TestRichOnTerminal):
    """The rich reporter, on a terminal of ten columns."""

    columns = 10


class TestRichOnPipe(ReporterSuite):
    """The rich reporter, where there is no terminal."""

    def make_reporter(self) -> Reporter:
        """Return one that writes into memory."""
        self.stream = io.StringIO()
        return RichReporter(console=Console(file=self.stream), clock=_clock())

    def output(self) -> bytes:
        """Return what it wrote."""
        return self.stream.getvalue().encode()
