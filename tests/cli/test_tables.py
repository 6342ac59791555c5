"""CSV: what a cell holds, that no cell is run, and that every field of every event and result has its column."""

import csv
import io
import json
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue import ItemResult, iter_results
from aqueue.cli._formats.tables import (
    EVENT_COLUMNS,
    MORE,
    ResultColumns,
    csv_cell,
    result_columns,
    write_events_csv,
    write_results_csv,
)
from aqueue.events import EVENT_TYPES, Counts, ErrorInfo, Event, ItemInterrupted, RunStopping
from aqueue.log_lines import timestamp_of
from aqueue.testing._scripted_runs import CANCELLED, every_event_type, saying
from aqueue.text import visible
from tests.cli.runs import HOSTILE, crashed_and_resumed, recorded
from tests.strategies import event_streams, events, hostile_text

Row = dict[str, str]

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "=cmd|' /C calc'!A0",
    "\u22121",
    "\uff1d1",
    "\uff0b1",
    "\uff0d1",
    "\uff20a",
    "\ufe661",
    "\u207c1",
]
UNSEEN = [" ", "\u3000", "\xa0", "\ufeff", "\u200b", "\u200d", "\x00", "\x1b", "\u2028"]


def table(data: bytes) -> list[Row]:
    """Return the rows of a table."""
    return list(csv.DictReader(io.StringIO(data.decode(), newline=""), strict=True))


def events_table(batches: Sequence[Sequence[Event]], include_data: bool = False) -> list[Row]:
    """Return the rows of the table of events."""
    parts: list[bytes] = []
    write_events_csv(batches, parts.append, include_data)
    return table(b"".join(parts))


def results_table(*results: Any, max_keys: int = 1_000) -> list[Row]:
    """Return the rows of the table of results with these values."""
    rows = [ItemResult(number, "module:Page", result) for number, result in enumerate(results, 1)]
    parts: list[bytes] = []
    write_results_csv(rows, parts.append, result_columns(rows, max_keys))
    return table(b"".join(parts))


# ---- cells ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        (True, "true"),
        (False, "false"),
        (-5, "-5"),
        (12345678901234567890123, "12345678901234567890123"),
        (-0.5, "-0.5"),
        (1e-07, "1e-07"),
        (float("nan"), "nan"),
        (float("-inf"), "'-inf"),
        ("", ""),
        ("plain, with a comma", "plain, with a comma"),
        ("漢字", "漢字"),
        ("a=1", "a=1"),
        ("-5", "'-5"),
        ("two\nlines", "two\\nlines"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\ud800", "\\ud800"),
        ([1, "=x", None], '[1,"=x",null]'),
        ({"a": {"b": "\x7f"}}, '{"a":{"b":"\\u007f"}}'),
    ],
)
def test_cell(value: object, cell: str) -> None:
    """Numbers stay numbers, text is made visible, what has parts is JSON."""
    assert csv_cell(value) == cell


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("before", ["", *UNSEEN, "  \t "])
def test_text_that_a_spreadsheet_would_run_is_kept_from_it(formula: str, before: str) -> None:
    """Also where what is skipped stands before it, and in the wide and small forms of the characters."""
    assert csv_cell(before + formula) == f"'{visible(before + formula)}"


@pytest.mark.parametrize("first", ["\t", "\r", "\n"])
def test_text_that_begins_with_a_tab_or_a_line_break_is_marked(first: str) -> None:
    """OWASP names these as well: they may end a cell, and begin another one."""
    assert csv_cell(f"{first}x") == f"'{visible(first)}x"


@given(st.one_of(hostile_text, st.tuples(st.sampled_from(["", *UNSEEN]), st.sampled_from(FORMULAS)).map("".join)))
def test_no_text_begins_like_a_formula(text: str) -> None:
    """Whatever it is; and a reader of CSV gets the visible text, with at most an apostrophe before it."""
    cell = csv_cell(text)
    written = io.StringIO(newline="")
    csv.writer(written).writerow([cell, "next"])
    (read,) = csv.reader(io.StringIO(written.getvalue(), newline=""), strict=True)

    assert read == [cell, "next"]
    assert cell in (visible(text), f"'{visible(text)}")
    seen = [c for c in cell if unicodedata.category(c) not in ("Cc", "Cf", "Zs", "Zl", "Zp")]
    assert not seen or unicodedata.normalize("NFKC", seen[0])[0] not in "=+-@\u2212"


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_read_as_what_they_were(number: float) -> None:
    """No digit is lost, and none gets an apostrophe."""
    assert json.loads(csv_cell(number)) == number


# ---- events ---------------------------------------------------------------------------------------------------------


def test_every_field_of_every_event_has_its_column() -> None:
    """A field that is new in an event needs a column, or it would be left out without a word."""
    parts = {ErrorInfo: "error_", Counts: "counts_"}
    wanted = {"event"}
    for cls in EVENT_TYPES.values():
        for field in msgspec.structs.fields(cls):
            prefix = parts.get(field.type)
            wanted |= {prefix + name for name in field.type.__struct_fields__} if prefix else {field.name}

    assert set(EVENT_COLUMNS) - wanted == {"time", "due_time"}
    assert wanted - set(EVENT_COLUMNS) == set()
    assert len(EVENT_COLUMNS) == len(set(EVENT_COLUMNS))


def test_rows_hold_the_fields_of_their_events() -> None:
    """What an event has by default is written out, what it doesn't have is empty; times come in two forms."""
    started, enqueued, *_ = table = events_table([every_event_type()], include_data=True)
    rows = {row["event"]: {name: cell for name, cell in row.items() if cell} for row in table}

    assert list(started) == list(EVENT_COLUMNS)
    assert {name: cell for name, cell in enqueued.items() if cell} == {
        "seq": "2",
        "at": "1700000000.02",
        "time": "2023-11-14T22:13:20.020000Z",
        "event": "item.enqueued",
        "item": "1",
        "parent": "0",
        "type": "module:Folder",
        "track_overall": "false",
        "key": "k",
        "hook": "false",
        "occurrence": "0",
        "payload": '{"url":"/"}',
    }
    assert rows["group.slowed_down"]["due"] == "1700000001.0"
    assert rows["group.slowed_down"]["due_time"] == "2023-11-14T22:13:21.000000Z"
    assert rows["reporter.failed"]["error_type"] == "module:Boom"
    assert rows["reporter.failed"]["error_traceback"].count("\\n") == 3
    assert (rows["run.finished"]["counts_enqueued"], rows["run.finished"]["counts_skipped"]) == ("12", "2")
    (limit, _) = [row for row in table if row["event"] == "group.limit_changed"]
    assert (limit["program"], limit["is_default"]) == ('{"concurrent":2,"per_second":0.5}', "false")
    assert rows["run.workers_changed"]["program"] == "3"
    assert rows["item.skipped"]["had_failed"] == "true"
    assert rows["item.reopened"]["failed"] == "process"
    assert set(rows) == set(EVENT_TYPES)


@pytest.mark.parametrize("include_data", [False, True])
def test_payloads_and_results_are_left_out_unless_asked_for(include_data: bool) -> None:
    """Their columns are there all the same, so that the table has one form."""
    rows = events_table([every_event_type()], include_data)

    assert {row["result"] for row in rows} == ({"", "[1,2]", "x", "2", "by hand"} if include_data else {""})
    assert any(row["payload"] for row in rows) == include_data


def test_table_is_rfc_4180_in_utf_8_without_a_byte_order_mark() -> None:
    """Rows end with CR and LF, quotes are doubled, and the first bytes are the first column's name."""
    parts: list[bytes] = []
    write_events_csv([[RunStopping(1, 2.0, 'a "quoted", 漢 reason')]], parts.append)
    header, row, rest = b"".join(parts).split(b"\r\n")

    assert header.startswith(b"seq,at,time,event,")
    assert '"a ""quoted"", 漢 reason"'.encode() in row
    assert rest == b""


def test_time_that_no_calendar_has_is_left_empty() -> None:
    """The Unix seconds are there."""
    (row,) = events_table([[RunStopping(1, 1e15, "far off")]])

    assert (row["at"], row["time"]) == ("1000000000000000.0", "")


def test_worker_that_nobody_knows_is_left_empty() -> None:
    """As in journals of before these events had one; workers have numbers from 1."""
    [old, new] = events_table([[ItemInterrupted(1, 2.0, 7), ItemInterrupted(2, 2.0, 7, worker=3)]])
    assert (old["worker"], new["worker"]) == ("", "3")


def test_no_events_are_an_empty_table() -> None:
    """It has its header."""
    parts: list[bytes] = []
    write_events_csv([], parts.append)

    assert b"".join(parts).decode() == ",".join(EVENT_COLUMNS) + "\r\n"


def test_table_is_written_while_events_come() -> None:
    """Nothing waits for the end of the run."""
    parts: list[bytes] = []
    written = []
    events = every_event_type()

    def batches() -> Any:
        for _ in range(100):
            written.append(len(parts))
            yield events

    write_events_csv(batches(), parts.append)

    assert len(set(written)) > 3


@given(event_streams(hostile_text))
def test_no_cell_of_any_run_is_run_or_seen_as_more(events: list[Event]) -> None:
    """A row an event, each cell on one line, and none a formula."""
    rows = events_table([events], include_data=True)

    assert [row["seq"] for row in rows] == [str(event.seq) for event in events]
    assert all(
        visible(cell) == cell and not cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values()
    )


def plainly(event: Event) -> list[str]:
    """Return the cells of an event, one by one."""
    fields = {"event": event.event, "time": timestamp_of(event.at), **msgspec.structs.asdict(event)}
    for name in ("error", "counts"):
        if name in fields:
            fields |= {f"{name}_{part}": value for part, value in msgspec.structs.asdict(fields[name]).items()}
    for name in ("payload", "result"):
        fields[name] = msgspec.json.decode(raw) if (raw := fields.get(name)) else None
    fields["worker"] = fields.get("worker") or None
    with suppress(KeyError, ValueError):
        fields["due_time"] = timestamp_of(fields["due"])
    return [csv_cell(fields.get(name)) for name in EVENT_COLUMNS]


@given(st.lists(st.lists(events)))
def test_table_of_any_events(batches: list[list[Event]]) -> None:
    """It is what Python's writer of CSV makes of the cells, in the order of the events, however they come."""
    written = io.StringIO(newline="")
    csv.writer(written).writerows([EVENT_COLUMNS, *(plainly(event) for batch in batches for event in batch)])
    parts: list[bytes] = []
    write_events_csv(batches, parts.append, include_data=True)

    assert b"".join(parts).decode() == written.getvalue()


def test_hostile_text_of_every_field() -> None:
    """Types, keys, descriptions, errors, groups, reporters, reasons, hosts, clusters and people are all made safe."""
    rows = [row for row in events_table([saying(HOSTILE)]) if row["error_type"] != CANCELLED.type]
    fields = (
        "type",
        "key",
        "text",
        "error_type",
        "error_message",
        "group",
        "reporter",
        "reason",
        "host",
        "cluster",
        "by",
    )
    said = f"'{visible(HOSTILE)}"

    for name in fields:
        assert {row[name] for row in rows} <= {"", said, f"{said}.example", "host", "worker_lost", "lost", "left"}, name
        assert said in {row[name] for row in rows}, name


# ---- results --------------------------------------------------------------------------------------------------------


def test_keys_of_objects_are_columns() -> None:
    """In the order in which they first come; what is nested is JSON, what a result lacks is empty."""
    assert results_table({"b": -1, "a": "=x"}, {"a": [1, {"c": 2}], "n": None, "t": True}) == [
        {"item": "1", "type": "module:Page", "b": "-1", "a": "'=x", "n": "", "t": ""},
        {"item": "2", "type": "module:Page", "b": "", "a": '[1,{"c":2}]', "n": "", "t": "true"},
    ]


def test_results_that_are_no_objects_have_a_column_of_their_own() -> None:
    """It is there only if it is needed."""
    assert results_table("text", 5, [1], {"a": 1}) == [
        {"item": "1", "type": "module:Page", "result": "text", "a": ""},
        {"item": "2", "type": "module:Page", "result": "5", "a": ""},
        {"item": "3", "type": "module:Page", "result": "[1]", "a": ""},
        {"item": "4", "type": "module:Page", "result": "", "a": "1"},
    ]
    assert list(results_table({"result": 1})[0]) == ["item", "type", "result"]
    assert results_table() == []


def test_names_are_never_the_same() -> None:
    """A key that is called like another column, whatever its case, or not at all, gets a longer name."""
    result = {"item": 1, "Type": 2, "result": 3, "": 4, "a": 5, "A": 6, "result.A": 7, MORE: 8, "=a": 9, "'=a": 10}
    names = result_columns([ItemResult(1, "m:T", result), ItemResult(2, "m:T", 0)]).names

    assert names == [
        "item", "type", "result", "result.item", "result.Type", "result.result", "result.", "a", "result.A",
        "result.result.A", "result.…", "'=a", "result.'=a",
    ]  # fmt: skip
    assert results_table(result, 0)[0] == dict(
        zip(names, ["1", "module:Page", "", *map(str, range(1, 11))], strict=True)
    )


def test_names_do_nothing_either() -> None:
    """A key may be a formula, or steer a terminal."""
    assert list(results_table({HOSTILE: 1})[0])[2:] == [f"'{visible(HOSTILE)}"]


def test_keys_without_a_column_are_together_in_one() -> None:
    """There is an end to how wide a table can be."""
    rows = results_table(*({f"k{number}": number, "same": "x"} for number in range(1_500)))

    assert len(rows[0]) == 2 + 1_000 + 1
    assert rows[0][MORE] == ""
    assert rows[1_499] == {
        **dict.fromkeys(rows[0], ""),
        "item": "1500",
        "type": "module:Page",
        "same": "x",
        MORE: '{"k1499":1499}',
    }


@pytest.mark.parametrize("result", [{"b": 1}, 5])
def test_result_without_a_column_is_counted(result: Any) -> None:
    """Nothing is left out in silence."""
    parts: list[bytes] = []
    rows = [ItemResult(1, "m:T", result), ItemResult(2, "m:T", {"a": 1})]

    assert write_results_csv(rows, parts.append, ResultColumns(("a",))) == 1
    assert b"".join(parts) == b"item,type,a\r\n2,m:T,1\r\n"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | hostile_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(hostile_text, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(json_values, max_size=6), st.integers(1, 5))
def test_any_results_make_a_table(results: list[Any], max_keys: int) -> None:
    """Each value is in one cell, in a column that its key alone has; no text in it is a formula."""
    rows = results_table(*results, max_keys=max_keys)

    assert len(rows) == len(results)
    for row, result in zip(rows, results, strict=True):
        assert None not in row and all(visible(cell) == cell for cell in [*row, *row.values()])
        own = [cell for cell in list(row.values())[2:] if cell]
        expected = [csv_cell(value) for value in result.values()] if isinstance(result, dict) else [csv_cell(result)]
        if not row.get(MORE):
            assert sorted(own) == sorted(cell for cell in expected if cell)


# ---- real runs ------------------------------------------------------------------------------------------------------


def test_real_run(tmp_path: Path) -> None:
    """Events and results of a journal are all there."""
    path = crashed_and_resumed(tmp_path, reporter="none")
    batches = recorded(path)
    rows = events_table(batches, include_data=True)
    results = list(iter_results(path))
    parts: list[bytes] = []
    write_results_csv(iter_results(path), parts.append, result_columns(iter_results(path)))

    assert [row["event"] for row in rows] == [event.event for batch in batches for event in batch]
    assert [row["seq"] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]
    assert {row["text"] for row in rows} >= {f"'{visible(HOSTILE)}", "page 1"}
    written = table(b"".join(parts))
    assert [(row["item"], row["type"]) for row in written] == [(str(one.item), one.type) for one in results]
    pages = [row for row in written if row["type"].endswith(":Page")]
    assert {row["text"] for row in pages} == {f"'{visible(HOSTILE)}"}
    assert {"-7", "0", "-1"} <= {row["number"] for row in pages}
