"""JSON lines: the jsonl reporter's own lines again, from a journal, and results a line each."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue import ItemResult, iter_results
from aqueue.cli._formats.lines import write_events_jsonl, write_results_jsonl
from aqueue.events import Event, ItemInterrupted
from aqueue.log_lines import LEVELS, level_of, line_of, record_of, render_record, timestamp_of
from aqueue.testing import replay
from aqueue.testing._scripted_runs import every_event_type, saying
from aqueue.text import visible
from aqueue_reporters.jsonl import JsonlReporter
from tests.cli.runs import HOSTILE, crashed_and_resumed, recorded, run
from tests.strategies import event_streams, events, hostile_text


def lines_of(batches: list[list[Event]], include_data: bool = False) -> bytes:
    """Return the lines of these events."""
    parts: list[bytes] = []
    write_events_jsonl(batches, parts.append, include_data)
    return b"".join(parts)


@pytest.mark.parametrize("include_data", [False, True])
def test_log_made_of_a_journal_is_that_which_the_reporter_wrote(tmp_path: Path, include_data: bool) -> None:
    """Byte for byte, for a real run with failures, retries, hooks and hostile text."""
    log = tmp_path / "run.jsonl"
    run(tmp_path / "run.db", reporter=JsonlReporter(log, include_data=include_data))

    assert lines_of(recorded(tmp_path / "run.db"), include_data) == log.read_bytes()
    assert (b'"result"' in log.read_bytes()) == include_data


def test_log_of_a_run_with_two_processes(tmp_path: Path) -> None:
    """What the reporter wrote after a crash is the end of the whole log."""
    log = tmp_path / "run.jsonl"
    path = crashed_and_resumed(tmp_path, reporter=f"jsonl:{log}")
    whole = lines_of(recorded(path))

    assert whole.endswith(log.read_bytes())
    assert json.loads(log.read_bytes().splitlines()[0])["event"] == "run.resumed"
    assert [json.loads(line)["seq"] for line in whole.splitlines()] == list(range(1, whole.count(b"\n") + 1))


@given(event_streams(hostile_text))
def test_any_run_gives_the_lines_of_the_reporter(tmp_path_factory: pytest.TempPathFactory, events: list[Event]) -> None:
    """Whatever is in it, and although no journal could hold some of it."""
    log = tmp_path_factory.mktemp("log") / "run.jsonl"
    replay(events, JsonlReporter(log, include_data=True))

    assert lines_of([events], include_data=True) == log.read_bytes()


@pytest.mark.parametrize("events", [every_event_type(), saying(HOSTILE)], ids=["every type", "hostile"])
def test_lines_can_be_shown_on_a_terminal(events: list[Event]) -> None:
    """Each is one line, without a character that would steer anything."""
    lines = lines_of([events[:5], [], events[5:]], include_data=True).decode().split("\n")

    assert len(lines) == len(events) + 1
    assert [line for line in lines if visible(line) != line] == []


def test_results_are_a_line_each(tmp_path: Path) -> None:
    """With the item's number and type; the text of a result can be shown and reads as what it was."""
    path = crashed_and_resumed(tmp_path, reporter="none")
    parts: list[bytes] = []
    write_results_jsonl(iter_results(path), parts.append)
    lines = b"".join(parts).decode().split("\n")

    assert [json.loads(line) for line in lines[:-1]] == [
        {"item": one.item, "type": one.type, "result": one.result} for one in iter_results(path)
    ]
    assert [line for line in lines if visible(line) != line] == []


def test_results_that_utf_8_lacks_are_written_all_the_same() -> None:
    """A lone surrogate becomes the replacement character."""
    parts: list[bytes] = []
    write_results_jsonl([ItemResult(1, "m:T", {"\ud800": ["\udfff"]})], parts.append)

    assert b"".join(parts).decode() == '{"item":1,"type":"m:T","result":{"\ufffd":["\ufffd"]}}\n'


# ---- the records themselves -----------------------------------------------------------------------------------------


@given(events, st.booleans())
def test_a_line_is_its_rendered_record(event: Event, include_data: bool) -> None:
    """Byte for byte, whatever the event holds, though it is made from the event's own JSON."""
    assert line_of(event, include_data) == render_record(record_of(event, include_data))


@given(event_streams(hostile_text), st.booleans())
def test_lines_of_hostile_text_are_rendered_records(events: list[Event], include_data: bool) -> None:
    """Text that terminals act on, and lone surrogates, which JSON can't hold."""
    for event in events:
        assert line_of(event, include_data) == render_record(record_of(event, include_data))


def test_record_of_an_event() -> None:
    """First what a person looks for, then the event's own fields, without those that have their default."""
    stopping, enqueued = (
        next(event for event in every_event_type() if event.event == name) for name in ("run.stopping", "item.enqueued")
    )

    assert list(record_of(stopping).items()) == [
        ("timestamp", "2023-11-14T22:13:20.230000Z"),
        ("level", "warning"),
        ("event", "run.stopping"),
        ("seq", stopping.seq),
        ("at", stopping.at),
        ("reason", "SIGINT"),
    ]
    assert "payload" not in record_of(enqueued)
    assert record_of(enqueued, include_data=True)["payload"] == {"url": "/"}


def test_attempt_that_ends_as_a_person_wants_is_nothing_to_be_warned_of() -> None:
    """Its item is skipped. That a person cancels one is: it fails."""
    levels = {event.reason: level_of(event) for event in every_event_type() if isinstance(event, ItemInterrupted)}
    assert levels == {"crash": "warning", "skipped": "info", "worker_lost": "warning"}


def test_levels_are_known_by_type() -> None:
    """A type that is not listed is information."""
    assert {level_of(event) for event in every_event_type()} == {"debug", "info", "warning", "error"}
    assert [level_of(event) for event in every_event_type() if type(event) in LEVELS] != []
    assert {level_of(event) for event in every_event_type() if type(event) not in LEVELS} == {"info"}


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ({"a": [1, None, "é\u3000"]}, '{"a":[1,null,"é\u3000"]}'),
        ("\x1b\x7f\u202e\U000e0041", '"\\u001b\\u007f\\u202e\\udb40\\udc41"'),
        ({"odd": 1 + 2j}, '{"odd":"(1+2j)"}'),
        (("\ud800", {"\ud800": 1}), '["\ufffd",{"\ufffd":1}]'),
    ],
)
def test_values_are_rendered_on_one_visible_line(value: Any, line: str) -> None:
    """Any value, not records alone; what can't be seen is an escape of JSON's."""
    assert render_record(value).decode() == line


@pytest.mark.parametrize("at", [1e15, float("nan"), float("inf")])
def test_time_that_no_calendar_has_is_an_error(at: float) -> None:
    """It is no time of any run."""
    with pytest.raises((ValueError, OverflowError, OSError)):
        timestamp_of(at)
