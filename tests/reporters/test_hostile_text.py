"""Whatever items say: no reporter writes an escape sequence of theirs, and every line of the log is one line of JSON."""

import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from rich.console import Console

from aqueue.events import Event, ItemDescribed
from aqueue.reporting import Reporter
from aqueue.testing import replay
from aqueue.testing._scripted_runs import (
    every_event_type,
    interrupted,
    on_a_cluster,
    saying,
    with_failures,
    with_workers,
)
from aqueue.text import without_surrogates
from aqueue_reporters.jsonl import JsonlReporter
from aqueue_reporters.plain import PlainReporter
from aqueue_reporters.rich import RichReporter
from tests.reporters.pty_stream import PtyStream
from tests.strategies import encodable_text, event_streams, hostile_text, long_hostile_text

HARMLESS_RUNS = [
    every_event_type(),
    interrupted(),
    with_failures(30),
    with_workers(40),
    on_a_cluster(20, 2),
    saying("harmless"),
]
SEQUENCE = re.compile("\x1b\\[[0-9;:?]*[A-Za-z]")
FEW = settings(max_examples=3)


def clock() -> Callable[[], float]:
    """Return a clock on which enough time passes between two calls for every display to be drawn again."""
    times = count(1_700_000_000, 2)
    return lambda: float(next(times))


def jsonl(events: list[Event]) -> str:
    """Return what the jsonl reporter writes to a file."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "run.jsonl")
        replay(events, JsonlReporter(path, include_data=True), batch_size=3)
        return path.read_bytes().decode()


def in_memory(events: list[Event], make: Callable[[io.StringIO], Reporter]) -> str:
    """Return what a reporter writes where there is no terminal."""
    stream = io.StringIO()
    replay(events, make(stream), batch_size=3)
    return stream.getvalue()


def on_terminal(events: list[Event], make: Callable[[PtyStream], Reporter]) -> str:
    """Return what a reporter writes to a terminal."""
    terminal = PtyStream(columns=60, rows=20)
    try:
        replay(events, make(terminal), batch_size=3)
    finally:
        output = terminal.finish()
    return output.decode()


def plain_in_memory(events: list[Event]) -> str:
    """Return what the plain reporter writes to a pipe."""
    return in_memory(events, lambda stream: PlainReporter(stream=stream, interval_s=0, clock=clock()))


def plain_on_terminal(events: list[Event]) -> str:
    """Return what the plain reporter writes to a terminal."""
    return on_terminal(events, lambda terminal: PlainReporter(stream=terminal.stream, clock=clock()))


def rich_in_memory(events: list[Event]) -> str:
    """Return what the rich reporter writes to a pipe."""
    return in_memory(events, lambda stream: RichReporter(console=Console(file=stream), clock=clock()))


def rich_on_terminal(events: list[Event]) -> str:
    """Return what the rich reporter writes to a terminal."""

    def make(terminal: PtyStream) -> Reporter:
        console = Console(file=terminal.stream, force_terminal=True, color_system="truecolor")
        return RichReporter(console=console, clock=clock())

    return on_terminal(events, make)


DISPLAYS = [plain_in_memory, plain_on_terminal, rich_in_memory, rich_on_terminal]


@pytest.fixture(scope="module", autouse=True)
def _capable_terminal() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", "xterm-256color")
        yield


@pytest.fixture(scope="module", params=DISPLAYS, ids=lambda display: display.__name__)
def display(request: pytest.FixtureRequest) -> Callable[[list[Event]], str]:
    """Give each way of showing a run."""
    shown: Callable[[list[Event]], str] = request.param
    return shown


@pytest.fixture(scope="module")
def own_sequences(display: Callable[[list[Event]], str]) -> set[str]:
    """Give the escape sequences that the display writes of its own, whatever items say."""
    return {sequence for run in HARMLESS_RUNS for sequence in SEQUENCE.findall(display(run))}


def check_shown(output: str, own_sequences: set[str]) -> None:
    """Check that the output is text, ends of lines and the display's own sequences, and nothing else."""
    sequences = SEQUENCE.findall(output)
    # How far the cursor goes up depends on how many lines there are to draw.
    foreign = {sequence for sequence in sequences if not re.fullmatch("\x1b\\[[0-9]*A", sequence)} - own_sequences
    assert not foreign
    rest = SEQUENCE.sub("", output)
    acted_on = {c for c in set(rest) if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert acted_on <= {"\r", "\n", "\u200c", "\u200d"}


@given(hostile_text)
def test_display_writes_only_its_own_sequences(
    display: Callable[[list[Event]], str], own_sequences: set[str], text: str
) -> None:
    """Whatever stands in descriptions, type names, errors, tracebacks and reasons."""
    check_shown(display(saying(text)), own_sequences)


@FEW
@given(long_hostile_text)
def test_display_cuts_what_is_long(display: Callable[[list[Event]], str], own_sequences: set[str], text: str) -> None:
    """A megabyte of it makes no difference, and is not shown."""
    output = display(saying(text))

    check_shown(output, own_sequences)
    assert len(output) < 100_000


@given(event_streams(hostile_text))
def test_display_writes_only_its_own_sequences_in_any_run(
    display: Callable[[list[Event]], str], own_sequences: set[str], events: list[Event]
) -> None:
    """Wherever the text comes in the course of a run."""
    check_shown(display(events), own_sequences)


def check_log(output: str, events: list[Event]) -> list[dict[str, object]]:
    """Check that the output is a line of JSON for each event, with nothing in it that can't be seen."""
    lines = output.split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(events)
    for line in lines:
        assert len(line.splitlines()) == 1
        assert {unicodedata.category(c) for c in set(line)}.isdisjoint(("Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"))
    records = [json.loads(line) for line in lines]
    assert [record["seq"] for record in records] == [event.seq for event in events]
    return records


@given(hostile_text)
def test_log_lines_are_lines_of_json(text: str) -> None:
    """Whatever stands in it, each line is one line, parses, and says what was said."""
    events = saying(text)
    records = check_log(jsonl(events), events)

    said = [record["text"] for record in records if record["event"] == "item.described"]
    assert said == [without_surrogates(event.text) for event in events if isinstance(event, ItemDescribed)]


@FEW
@given(long_hostile_text)
def test_long_log_lines_are_lines_of_json(text: str) -> None:
    """A megabyte of it, too."""
    events = saying(text)[:2]
    check_log(jsonl(events), events)


@given(event_streams(hostile_text))
def test_log_of_any_run_is_lines_of_json(events: list[Event]) -> None:
    """Wherever the text comes in the course of a run."""
    check_log(jsonl(events), events)


@given(event_streams(encodable_text))
def test_log_holds_the_events(events: list[Event]) -> None:
    """A line has each field of its event, whatever is escaped in it."""
    for record, event in zip(check_log(jsonl(events), events), events, strict=True):
        assert record["event"] == event.event
        for name in event.__struct_fields__:
            value = getattr(event, name)
            if name in record and isinstance(value, (str, int, float)):
                assert record[name] == value
