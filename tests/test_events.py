"""Events: their one encoding, and that readers skip what they don't know."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue.events import (
    EVENT_TYPES,
    NO_DATA,
    Counts,
    ErrorInfo,
    Event,
    ItemCompleted,
    ItemEnqueued,
    ItemFailed,
    ItemStarted,
    RunStarted,
    RunStopping,
    decode,
    encode,
    encode_lines,
)
from tests.strategies import events


@given(events)
def test_decoding_gives_back_what_was_encoded(event: Event) -> None:
    """Every event, of every type and with any fields, survives the encoding."""
    assert event == decode(encode(event))


@given(st.lists(events, max_size=5))
def test_lines_are_one_event_each(several: list[Event]) -> None:
    """A batch is encoded as JSON Lines, whatever newlines the text holds."""
    lines = encode_lines(several).split(b"\n")

    assert lines.pop() == b""
    assert several == [decode(line) for line in lines]


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_event_names_itself(name: str) -> None:
    """The attribute and the encoded field `event` hold the name under which EVENT_TYPES lists the type."""
    cls = EVENT_TYPES[name]
    values: dict[object, Any] = {int: 1, float: 1.0, str: "x", ErrorInfo: ErrorInfo("E", "m"), Counts: Counts()}
    required = {f.name: values.get(f.type, "completed") for f in msgspec.structs.fields(cls) if f.required}
    event = cls(**required)

    assert event.event == name
    assert json.loads(encode(event))["event"] == name


def test_all_event_types_are_listed() -> None:
    """EVENT_TYPES leaves no event out."""

    def subclasses(cls: type[Event]) -> set[type[Event]]:
        return {cls, *(deeper for sub in cls.__subclasses__() for deeper in subclasses(sub))}

    defined = {cls for cls in subclasses(Event) if cls.__module__ == "aqueue.events"}

    assert defined - {Event} == set(EVENT_TYPES.values())


def test_defaults_are_left_out() -> None:
    """What every reader can assume is not written."""
    assert list(json.loads(encode(ItemStarted(1, 2.0, 3, "m:T", 4)))) == [
        "event",
        "seq",
        "at",
        "item",
        "type",
        "worker",
    ]
    assert "result" not in json.loads(encode(ItemCompleted(1, 2.0, 3, 4, 0.5, result=NO_DATA)))


def test_start_that_was_written_before_there_were_clusters() -> None:
    """Its items ran in its own process; and one whose items do is written as it was then."""
    start = RunStarted(1, 2.0, "run", 1, "0", 5, "queue", 7, "host")
    line = (
        b'{"event":"run.started","seq":1,"at":2.0,"run_id":"run","schema_version":1,"aqueue_version":"0","num_workers":5,'
        b'"queue_type_name":"queue","pid":7,"host":"host"}'
    )

    assert decode(line) == start
    assert encode(start) == line


def test_result_is_json_in_json() -> None:
    """A result is part of the line, not a string that holds JSON."""
    event = ItemCompleted(1, 2.0, 3, 4, 0.5, result=msgspec.Raw(b'{"pages":[1,2]}'))

    assert json.loads(encode(event))["result"] == {"pages": [1, 2]}


def test_unknown_event_type_is_skipped() -> None:
    """What a later aqueue wrote reads as None."""
    assert decode(b'{"event":"item.dreamt","seq":1,"at":2.0,"of":["sheep"]}') is None


def test_unknown_fields_are_skipped() -> None:
    """A field that a later aqueue added does not matter."""
    assert decode('{"event":"run.stopping","seq":1,"at":2,"reason":"x","mood":"grim"}') == RunStopping(1, 2.0, "x")


@given(events, st.data())
def test_torn_line_is_an_error(event: Event, data: st.DataObject) -> None:
    """A line that was cut off anywhere does not pass for an event."""
    line = encode(event)
    cut = data.draw(st.integers(0, len(line) - 1))

    with pytest.raises(msgspec.DecodeError):
        decode(line[:cut])


@pytest.mark.parametrize(
    "line",
    [
        b'{"event":"item.started","seq":1,"at":2.0}',
        b'{"event":"item.started","seq":"one","at":2.0,"item":1,"type":"m:T","worker":1}',
        b'{"seq":1,"at":2.0}',
        b"[]",
        b"17",
    ],
)
def test_known_type_with_wrong_fields_is_an_error(line: bytes) -> None:
    """A field that is missing or of the wrong type is not taken for something unknown."""
    with pytest.raises(msgspec.ValidationError):
        decode(line)


def test_events_do_not_change() -> None:
    """What has happened has happened."""
    event = ItemEnqueued(1, 2.0, 3, 0, "m:T")

    with pytest.raises(AttributeError):
        event.item = 4  # type: ignore[misc]


def test_outstanding_is_what_has_not_come_to_an_end() -> None:
    """Neither completed nor failed."""
    assert Counts(enqueued=10, completed=6, failed=1, interrupted=2).outstanding == 3


def test_failure_keeps_the_error() -> None:
    """The error's type, message and traceback are part of the line."""
    error = ErrorInfo("m:E", "broke", "Traceback …")
    event = ItemFailed(1, 2.0, 3, "m:T", 4, 0.5, error)

    assert json.loads(encode(event))["error"] == {"type": "m:E", "message": "broke", "traceback": "Traceback …"}
