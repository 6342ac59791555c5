"""The tables of `aqueue export --format sqlite`: they tell what the other readers of the same events tell, at every prefix."""

import json
import os
import re
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from sqlite_utils import Database

from aqueue import ItemFailures, run_queue
from aqueue._folds.item_table import ItemTable
from aqueue._history.repair import Repairer
from aqueue.cli._formats.sqlite_tables import STATE_AFTER, Tables
from aqueue.events import (
    EVENT_TYPES,
    Event,
    GroupLimit,
    GroupLimitChanged,
    GroupLimitKnown,
    GroupPaused,
    GroupSlowedDown,
    GroupUnpaused,
    ItemAdopted,
    ItemChildrenFailed,
    ItemChildrenProcessed,
    ItemCompleted,
    ItemFailed,
    ItemInterrupted,
    ItemRegrouped,
    ItemRetryScheduled,
    ItemSkipped,
    ItemStarted,
    RunEdited,
    RunResumed,
    encode,
)
from aqueue.testing import _scripted_runs as scripted
from aqueue.testing._scripted_runs import ANNA
from aqueue_migrations.migrations import migrations
from tests.cli.conftest import Aqueue, Done
from tests.cli.runs import HOSTILE, crashed_and_resumed
from tests.cli.scripted import write_journal, write_log
from tests.journal.recorded import cut, events_of
from tests.journal.seeds import Seed, items_of, seeds
from tests.strategies import SCRIPTED_RUNS, event_streams

Row = dict[str, Any]

SCRIPTED = [
    *SCRIPTED_RUNS,
    scripted.saying(HOSTILE),
]
STEERED = scripted.every_event_type()
each_scripted = pytest.mark.parametrize("run", SCRIPTED)
histories = st.one_of(event_streams(), st.sampled_from(SCRIPTED))


def rows(connection: sqlite3.Connection, query: str) -> list[Row]:
    """Return what `query` gives."""
    cursor = connection.execute(query)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def everything(connection: sqlite3.Connection) -> dict[str, Any]:
    """Return all that a file has: its schema, and the rows of each table by their keys."""
    schema = rows(connection, "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name")
    tables = [row["name"] for row in schema if row["type"] == "table"]
    return {"": schema, **{name: rows(connection, f"SELECT * FROM {name} ORDER BY 1") for name in tables}}


@contextmanager
def folded(*parts: Sequence[Event]) -> Iterator[sqlite3.Connection]:
    """Give the tables of a run that were made from the first part of its events, and brought up to date with each other."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for part in parts:
            tables = Tables(connection)
            tables.apply(part)
            tables.finish("run.db")
        yield connection


@contextmanager
def viewed(events: Iterable[Event]) -> Iterator[sqlite3.Connection]:
    """Give the table and the views of a journal."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrations.apply(Database(connection))
        connection.executemany(
            "INSERT INTO events VALUES (?, ?)", [(event.seq, encode(event).decode()) for event in events]
        )
        yield connection


# ---- what they say --------------------------------------------------------------------------------------------------


def test_each_type_of_event_says_what_becomes_of_the_state() -> None:
    """One that is new must be added, or the tables would pass over it."""
    assert set(STATE_AFTER) == {cls for name, cls in EVENT_TYPES.items() if name.startswith("item.")}


def check_items(run: Sequence[Event]) -> None:
    """See that the table of items is that of `aqueue items`; only that one has no state `waiting`."""
    table = ItemTable()
    table.apply(run)
    failed_below = {event.item for event in run if isinstance(event, ItemChildrenFailed)}
    with folded(run) as connection:
        found = rows(connection, "SELECT * FROM items ORDER BY id")
    assert [row["id"] for row in found] == [table.item_of(number) for number in range(len(table))]
    for number, row in enumerate(found):
        state = table.state_of(number)
        if row["state"] == "waiting":
            assert (state, table.is_closed(number)) == ("completed", False)
        else:
            assert row["state"] == state
        if row["state"] == "completed" and (row["children"] or row["hook"]):
            assert table.is_closed(number) or row["id"] in failed_below
        assert row["type"] == table.type_of(number)
        assert (row["parent"] or 0) == table.parent_of(number)
        assert row["depth"] == (0 if row["parent"] is None else found[table.parent_row[number]]["depth"] + 1)
        assert row["children"] == list(table.parent_row).count(number)
        assert row["attempts"] == table.attempts[number]
        assert row["enqueued_at"] == table.enqueued_at[number]
        assert row["due"] == table.due.get(number)
        assert row["hook"] == table.has_hook(number)


VIEW_STATES = {"retrying": {"queued"}, "waiting": {"waiting", "interrupted", "completed"}}
"""What the journal's view calls items that wait for an attempt, and for their hooks: interrupted ones, and without children."""


def check_views(run: Sequence[Event]) -> None:
    """See that the tables have the rows of the journal's views of the same names."""
    with folded(run) as tables, viewed(run) as views:
        for name in ("failures", "results", "runs"):
            columns = [row["name"] for row in rows(views, f"PRAGMA table_info({name})")]
            query = f"SELECT {', '.join(columns)} FROM {name} ORDER BY 1, 2"
            expected = rows(views, query)
            if name == "runs":  # where the view has nothing for 0
                expected = [
                    {key: 0 if row["ended_at"] and value is None else value for key, value in row.items()}
                    for row in expected
                ]
            assert rows(tables, query) == expected, name
        expected = rows(views, "SELECT * FROM items ORDER BY id")
        found = rows(tables, "SELECT * FROM items ORDER BY id")
    for row, other in zip(found, expected, strict=True):
        assert other["state"] in VIEW_STATES.get(row["state"], {row["state"]}), row
        same = {name: row[name] for name in other} | {"parent": row["parent"] or 0, "state": other["state"]}
        assert same == other


@given(histories)
def test_items_are_those_of_the_command(run: list[Event]) -> None:
    """Of any run."""
    check_items(run)


@given(event_streams(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
def test_tables_are_the_views_of_the_journal(run: list[Event]) -> None:
    """Of any run, but for texts with a null character, which SQLite's JSON functions cut there."""
    check_views(run)


@settings(max_examples=20, deadline=None)
@given(st.lists(seeds(), min_size=1, max_size=3), st.lists(st.tuples(st.integers(0, 100), st.booleans()), max_size=3))
def test_runs_that_go_on(roots: list[Seed], cuts: list[tuple[int, bool]]) -> None:
    """Real ones that fail, are cut off, and are resumed with their failed items or without; and updates at each cut."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "run.db")
        ends = []
        for number, (percent, retry_failed) in enumerate([(0, True), *cuts, (100, True)]):
            if number:
                ends.append(len(events_of(path)) * percent // 100)
                path = cut(path, ends[-1], Path(folder, f"cut {number}.db"))
            arguments: dict[str, Any] = {"retry_failed": retry_failed} if number else {}
            with suppress(ItemFailures):
                run_queue(items_of(roots), resume=path, reporter="none", on_error="continue", **arguments)
            check_items(events_of(path))
            check_views(events_of(path))
        run = events_of(path)
    check_updates(run, sorted(ends))


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[1] / "golden").glob("*.db")), ids=lambda path: path.stem
)
def test_journals_of_every_version(path: Path, tmp_path: Path) -> None:
    """Those that an earlier aqueue wrote lack some fields."""
    run = events_of(Path(shutil.copyfile(path, tmp_path / "run.db")))
    check_items(run)
    check_views(run)


# ---- updates --------------------------------------------------------------------------------------------------------


def check_updates(run: Sequence[Event], ends: Sequence[int]) -> None:
    """See that tables that are brought up to date from each end to the next are those of all events at once."""
    parts = [run[first:last] for first, last in pairwise([0, *ends, len(run)])]
    with folded(run) as whole, folded(*parts) as updated:
        assert everything(updated) == everything(whole)


@each_scripted
def test_updates_at_every_event(run: list[Event]) -> None:
    """However far the tables were made, an update makes them what they would be if they were made at once."""
    with folded(run) as connection:
        whole = everything(connection)
    for end in range(len(run)):
        with folded(run[:end], run[end:]) as connection:
            assert everything(connection) == whole
    check_updates(run, range(len(run)))


@given(histories, st.lists(st.integers(0, 300), max_size=5))
def test_updates_of_any_run(run: list[Event], ends: list[int]) -> None:
    """Several times, and at any events."""
    check_updates(run, sorted(min(end, len(run)) for end in ends))


@given(histories, st.integers(1, 50))
def test_batches_make_no_difference(run: list[Event], size: int) -> None:
    """Events that come together may be folded in another order, each batch by itself."""
    with folded(run) as at_once, closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        tables = Tables(connection)
        for start in range(0, len(run), size):
            tables.apply(run[start : start + size])
        tables.finish("run.db")
        assert everything(connection) == everything(at_once)


# ---- attempts, groups and keys --------------------------------------------------------------------------------------


@given(histories)
def test_attempts(run: list[Event]) -> None:
    """A row for each start, with how it ended; for a crash that is when its process was last heard of."""
    starts = {event.seq: event for event in run if isinstance(event, ItemStarted)}
    outcomes: dict[type[Event], str] = {
        ItemCompleted: "completed",
        ItemChildrenProcessed: "completed",
        ItemFailed: "failed",
        ItemRetryScheduled: "retried",
        ItemInterrupted: "interrupted",
    }
    running: dict[int, int] = {}
    expected: dict[int, tuple[str, float | None]] = dict.fromkeys(starts, ("running", None))
    crashed_at = 0.0
    for before, event in pairwise([run[0], *run]):
        if isinstance(event, RunResumed | RunEdited):
            crashed_at = before.at
        elif isinstance(event, ItemStarted):
            running[event.item] = event.seq
        elif outcome := outcomes.get(type(event)):
            is_crash = isinstance(event, ItemInterrupted) and event.reason == "crash"
            if seq := running.pop(getattr(event, "item", 0), 0):
                expected[seq] = outcome, crashed_at if is_crash else event.at
    with folded(run) as connection:
        found = rows(connection, "SELECT * FROM attempts")
        broken = connection.execute("PRAGMA foreign_key_check").fetchall()

    assert {row["seq"]: (row["outcome"], row["ended_at"]) for row in found} == expected
    for row in found:
        start = starts[row["seq"]]
        assert (row["item"], row["phase"], row["attempt"], row["worker"], row["started_at"]) == (
            *(start.item, start.phase, start.attempt, start.worker, start.at),
        )
        assert (row["duration_s"] is None) == (row["outcome"] == "running")
        assert row["duration_s"] is None or row["duration_s"] >= 0
    assert broken == []


def test_groups() -> None:
    """How many items wait in each, and what holds them back."""
    script = scripted.Script()
    first, second, third = (script.enqueue(group=group) for group in ("a", "a", "b"))
    script.start(first)
    script.fail(first, scripted.BOOM)
    script.add(GroupLimitKnown, group="a", concurrent=2)
    script.add(GroupSlowedDown, group="b", due=1_700_000_100.0, item=third)
    script.add(ItemRegrouped, item=second, type="module:Page", group="c", before="a")
    with folded(script.events) as connection:
        columns = "name, items, outstanding, failed, concurrent, per_second, paused_until"
        assert [tuple(row.values()) for row in rows(connection, f"SELECT {columns} FROM groups ORDER BY name")] == [
            ("a", 1, 0, 1, 2, None, None),
            ("b", 1, 1, 0, None, None, 1_700_000_100.0),
            ("c", 1, 1, 0, None, None, None),
        ]


def test_groups_that_people_steer() -> None:
    """Who paused them or changed their limits, until somebody takes it back; a group may have no item yet."""
    script, told = scripted.Script(), []
    group = {"group": "a", "by": ANNA}
    script.add(GroupLimitKnown, group="a", concurrent=8)
    script.add(GroupLimitChanged, concurrent=1, per_second=0.5, program=GroupLimit(8), **group)
    script.add(GroupPaused, **group)
    script.add(GroupLimitChanged, **group)
    script.add(GroupUnpaused, **group)
    script.add(GroupLimitChanged, is_default=True, program=GroupLimit(8), **group)
    script.add(GroupLimitChanged, is_default=True, **group)
    for end in range(2, len(script.events) + 1):
        with folded(script.events[:end]) as connection:
            told += connection.execute("SELECT concurrent, per_second, limit_by, paused_by FROM groups").fetchall()
    assert told == [
        (8, None, None, None),
        (1, 0.5, ANNA, None),
        (1, 0.5, ANNA, ANNA),
        (None, None, ANNA, ANNA),
        (None, None, ANNA, None),
        (8, None, None, None),
        (None, None, None, None),
    ]


def test_commands_on_a_run_without_a_process() -> None:
    """They are part of no process: neither of the crashed one before them, whose attempts ended with it, nor of the next."""
    script = scripted.Script()
    running, waiting = script.enqueue(), script.enqueue()
    script.start(running)
    crashed = script.events[-1].at
    script.wait(3_600)
    script.edit()
    edited = script.events[-1].at
    script.interrupt(running, "crash")
    script.skip(waiting)
    script.wait(3_600)
    script.begin(RunResumed)
    resumed = script.events[-1].at
    script.start(running, attempt=2)
    script.complete(running, attempt=2)
    script.finish("completed")
    parts = script.events[:5], script.events[5:6], script.events[6:]
    with folded(*parts) as connection:
        runs = rows(connection, "SELECT started_at, last_at, edited_at, status, completed, skipped FROM runs")
        attempts = rows(connection, "SELECT ended_at, duration_s FROM attempts WHERE reason = 'crash'")

    assert [tuple(row.values()) for row in runs] == [
        (script.events[0].at, crashed, edited, "crashed", None, None),
        (resumed, script.events[-1].at, None, "completed", 1, 1),
    ]
    assert [tuple(row.values()) for row in attempts] == [(crashed, 0.0)]


def test_results_of_items_that_people_skip_cancel_or_run_again() -> None:
    """What a person gives takes the place of what the item returned; a cancelled hook leaves that for its next attempt."""
    script, told = scripted.Script(), []
    item = script.enqueue(hook=True)

    def tell() -> None:
        check_items(script.events)
        check_views(script.events)
        with folded(script.events) as connection:
            told.append(
                connection.execute(
                    "SELECT state, phase, result FROM items LEFT JOIN results ON item = id WHERE parent IS NULL"
                ).fetchone()
            )

    script.start(item)
    script.complete(item, result=Raw(b'"own"'))
    tell()
    script.cancel(item, phase="after_children")
    tell()
    script.open_again(item, failed="after_children")
    script.start(item, phase="after_children")
    script.end_hook(item)
    tell()
    script.open_again(item, rerun=True, ended=script.ended(item))
    tell()
    script.skip(item, result=Raw(b'"given"'))
    tell()
    script.open_again(item, rerun=True, skipped=True, ended=script.ended(item))
    script.start(item, attempt=2)
    script.fail(item, scripted.BOOM, attempt=2)
    tell()
    script.skip(item, had_failed=True)
    tell()
    script.open_again(item, rerun=True, skipped=True, ended=script.ended(item))
    script.start(item, attempt=3)
    child = script.enqueue(parent=item)
    script.complete(item, attempt=3, result=Raw(b'"third"'))
    script.start(child)
    script.complete(child)
    script.start(item, phase="after_children", attempt=2)
    script.fail(item, scripted.BOOM, phase="after_children", attempt=2)
    script.skip(item, phase="after_children", had_failed=True)
    script.add(ItemChildrenProcessed, item=item, type="module:Page")
    tell()
    assert told == [
        ("waiting", "process", '"own"'),
        ("failed", None, None),
        ("completed", "process", '"own"'),
        ("queued", "process", '"own"'),
        ("skipped", "skipped", '"given"'),
        ("failed", None, None),
        ("skipped", None, None),
        ("skipped", None, None),
    ]


@given(event_streams(), st.randoms(use_true_random=False), st.sampled_from([3, 5, 20]))
def test_logs_that_lack_events(run: list[Event], random: Random, one_in: int) -> None:
    """The states of items are those of the command, although it may be an event about an ancestor that tells them."""
    repaired = Repairer().repair([event for event in run if random.randrange(one_in)])
    table = ItemTable()
    table.apply(repaired)
    with folded(repaired) as connection:
        found = rows(connection, "SELECT * FROM items")
    assert len(found) == len(table)
    for row in found:
        number = table.row_of(row["id"])
        assert number is not None
        state = "completed" if row["state"] == "waiting" else row["state"]
        assert (state, row["due"], row["attempts"]) == (
            *(table.state_of(number), table.due.get(number), table.attempts[number]),
        )


@pytest.mark.parametrize(
    ("lacks", "expected"),
    [
        ((), "skipped"),
        ((ItemSkipped,), "failed"),
        ((ItemFailed, ItemSkipped), "waiting"),
    ],
)
def test_an_ancestor_that_is_reopened_is_what_is_known_of_it(lacks: tuple[type[Event], ...], expected: str) -> None:
    """A log that lacks how it failed, or that it was skipped, contradicts what `item.reopened` says of it."""
    script = scripted.Script()
    folder = script.enqueue(type="module:Folder")
    script.start(folder, type="module:Folder")
    page = script.enqueue(parent=folder)
    script.fail(folder, scripted.BOOM, type="module:Folder")
    script.start(page)
    script.complete(page)
    script.skip(folder, type="module:Folder", had_failed=True)
    script.add(ItemChildrenProcessed, item=page, type="module:Page")
    script.add(ItemChildrenProcessed, item=folder, type="module:Folder")
    script.open_again(folder, type="module:Folder", skipped=True, ended=script.ended(folder))
    script.open_again(page, rerun=True, ended=script.ended(page))
    repaired = Repairer().repair([event for event in script.events if not isinstance(event, lacks)])
    table = ItemTable()
    table.apply(repaired)
    assert table.state_of(0) == expected.replace("waiting", "completed")
    with folded(repaired) as connection:
        assert rows(connection, "SELECT state FROM items ORDER BY id") == [{"state": expected}, {"state": "queued"}]


def test_an_item_that_ended_waits_for_no_retry_though_a_log_lacks_how() -> None:
    """Its hook was skipped, which only the event after that tells."""
    script = scripted.Script()
    item = script.enqueue(hook=True)
    script.start(item)
    script.complete(item)
    script.start(item, phase="after_children")
    script.fail_for_now(item, due_in_s=60, phase="after_children")
    script.add(ItemChildrenProcessed, item=item, type="module:Page")
    table = ItemTable()
    table.apply(script.events)
    assert (table.state_of(0), table.due) == ("completed", {})
    with folded(script.events) as connection:
        assert rows(connection, "SELECT state, due FROM items") == [{"state": "completed", "due": None}]


@given(event_streams())
def test_durations_are_those_of_the_command(run: list[Event]) -> None:
    """The last attempt at `process` that has ended, and the last at its hook since then; 0 as long as it is cancelled."""
    table = ItemTable()
    table.apply(run)
    last = {event.item: event for event in run if isinstance(event, ItemStarted | ItemFailed)}
    was_cancelled = {event.item for event in run if isinstance(event, ItemFailed) and not event.worker}
    with folded(run) as connection:
        attempts = rows(connection, "SELECT * FROM attempts ORDER BY seq DESC")
    for number in range(len(table)):
        item, expected = table.item_of(number), 0.0
        if item not in was_cancelled:
            of_item = [row for row in attempts if row["item"] == item]
            for row in [one for one in of_item if one["phase"] == "process" and one["duration_s"] is not None][:1]:
                later = [one for one in of_item if one["seq"] > row["seq"] and one["phase"] != "process"][:1]
                expected = row["duration_s"] + sum(one["duration_s"] or 0.0 for one in later)
        elif last[item].worker:  # it has started again
            continue
        assert table.duration_s[number] == pytest.approx(expected, abs=1e-3)


def test_payloads_are_those_that_an_item_has_now() -> None:
    """As it was enqueued, adopted or completed last; JSON as it was written."""
    script = scripted.Script()
    item = script.enqueue(payload=Raw(b'{"n": 1e22}'))
    payloads = []
    script.add(ItemAdopted, item=item, type="module:Page", payload=Raw(b'{"n":2}'))
    script.add(ItemAdopted, item=item, type="module:Page", key="k")
    script.start(item)
    script.complete(item, payload=Raw(b'{"n":3}'))
    for end in range(2, len(script.events) + 1):
        with folded(script.events[:end]) as connection:
            payloads += [row["payload"] for row in rows(connection, "SELECT payload FROM items")]
    assert payloads == ['{"n": 1e22}', '{"n":2}', '{"n":2}', '{"n":2}', '{"n":3}']


# ---- the command ----------------------------------------------------------------------------------------------------


def tables_of(path: Path, *, without: str = "") -> dict[str, Any]:
    """Return all that the file at `path` has, except which file it was made from, and some columns."""
    with closing(sqlite3.connect(path)) as connection:
        found = everything(connection)
    for row in (row for table in found.values() for row in table):
        row.pop("source", None)
        for name in without.split():
            row.pop(name, None)
    return found


COMMAND_STATES = {"waiting": {"completed"}, "running": {"interrupted", "completed"}}
"""What the command calls items that wait for their hooks, and those that a process ran, or their hooks, when it crashed."""


def check_command(aqueue: Aqueue, journal: Path, exported: Path) -> None:
    """See that the tables have what other subcommands say of the same journal."""
    tables = tables_of(exported)
    for row, told in zip(tables["items"], aqueue("items", journal, "--all", "--json").json_lines, strict=True):
        assert (row["id"], row["parent"] or 0, row["type"], row["key"]) == tuple(
            told[name] for name in ("item", "parent", "type", "key")
        )
        assert told["state"] in COMMAND_STATES.get(row["state"], {row["state"]})
        assert (row["attempts"], row["enqueued_at"], row["due"]) == tuple(
            told[name] for name in ("attempts", "enqueued_at", "due")
        )
        assert (row["description"] or "", row["worker"] is None) == (told["description"], told["worker"] is None)
        if told["error"] is not None:
            assert row["error"] == f"{told['error']['type']}: {told['error']['message']}"
    results = {row["item"]: json.loads(row["result"]) for row in tables["results"]}
    assert results == {line["item"]: line["result"] for line in aqueue("results", journal).json_lines}
    failed = {line["item"] for line in aqueue("failures", journal, "--json").json_lines}
    assert {row["item"] for row in tables["failures"]} == failed


def test_steered_run(aqueue: Aqueue, tmp_path: Path) -> None:
    """The command tells the same of many a beginning of a run that people steer; an update brings the tables there."""
    for end in [*range(5, len(STEERED), 5), len(STEERED)]:
        journal = write_journal(tmp_path, STEERED[:end], f"{end}.db")
        assert aqueue("export", journal, "--format", "sqlite", "-o", tmp_path / "tables.db", "--update").code == 0
        check_command(aqueue, journal, tmp_path / "tables.db")


def test_real_run(aqueue: Aqueue, tmp_path: Path) -> None:
    """From a journal, an update of a part of it, and its log; text is as it is, and the command tells the same."""
    journal = crashed_and_resumed(tmp_path, reporter="none")
    whole, updated, of_log = (tmp_path / name for name in ("whole.db", "updated.db", "log.db"))
    part = cut(journal, 40, tmp_path / "part.db")
    assert aqueue("export", journal, "--format", "sqlite", "-o", whole) == Done(0, "", "")
    for source in (part, part, journal, journal):
        assert aqueue("export", source, "--format", "sqlite", "-o", updated, "--update") == Done(0, "", "")
    aqueue("export", journal, "--include-data", "-o", tmp_path / "run.jsonl")
    assert aqueue("export", tmp_path / "run.jsonl", "--format", "sqlite", "-o", of_log) == Done(0, "", "")

    assert tables_of(updated) == tables_of(whole)
    # The log has the same JSON in another form.
    assert tables_of(of_log, without="payload result process_result") == tables_of(
        whole, without="payload result process_result"
    )
    assert HOSTILE in {row["error_message"] for row in tables_of(whole)["failures"]}
    assert all(json.loads(row["payload"]) for row in tables_of(whole)["items"])
    check_command(aqueue, journal, whole)


def test_update_from_a_log(aqueue: Aqueue, tmp_path: Path) -> None:
    """A log that lacks lines is repaired as for other subcommands; what was there before is not folded again."""
    for run in SCRIPTED[:-1]:
        lacking = [event for number, event in enumerate(run) if number % 5 != 3]
        for end in range(1, len(lacking), 7):
            write_log(tmp_path, lacking[:end])
            aqueue("export", tmp_path / "run.jsonl", "--format", "sqlite", "-o", tmp_path / "updated.db")
            write_log(tmp_path, lacking)
            done = aqueue(
                "export", tmp_path / "run.jsonl", "--format", "sqlite", "-o", tmp_path / "updated.db", "--update"
            )
            assert done.code == 0
            aqueue("export", tmp_path / "run.jsonl", "--format", "sqlite", "-o", tmp_path / "whole.db")
            assert tables_of(tmp_path / "updated.db") == tables_of(tmp_path / "whole.db")


def another_run() -> list[Event]:
    """Return the beginning of a run that the other events aren't of."""
    return [msgspec.structs.replace(event, run_id="9e0d") if event.seq == 1 else event for event in SCRIPTED[0]]


def earlier(run: Sequence[Event]) -> list[Event]:
    """Return the events of a run as if all had happened a second earlier: of a copy that went its own way, say."""
    return [msgspec.structs.replace(event, at=event.at - 1) for event in run]


@pytest.mark.parametrize(
    ("write_file", "events", "why"),
    [
        (write_journal, another_run(), "it has the run 3b1f, and {name} has the run 9e0d; name another file"),
        (write_log, another_run(), "it has the run 3b1f, and {name} has the run 9e0d; name another file"),
        (
            write_journal,
            SCRIPTED[0][:-1],
            "made up to event 22, which isn't in {name} or is another one there; leave out",
        ),
        (write_log, SCRIPTED[0][:-1], "made up to event 22, which isn't in {name} or is another one there; leave out"),
        (
            write_journal,
            earlier(SCRIPTED[0]),
            "made up to event 22, which isn't in {name} or is another one there; leave",
        ),
        (write_log, SCRIPTED[0][5:], "it has the run 3b1f, and {name} has the run ; name another file"),
    ],
)
def test_update_of_other_events(aqueue: Aqueue, tmp_path: Path, write_file: Any, events: list[Event], why: str) -> None:
    """Of another run, or of fewer events or others than those that the tables have: refused, and nothing is changed."""
    target = tmp_path / "tables.db"
    write_journal(tmp_path, SCRIPTED[0])
    aqueue("export", tmp_path / "run.db", "--format", "sqlite", "-o", target)
    before = target.read_bytes()
    file = write_file(tmp_path, events, "other")
    done = aqueue("export", file, "--format", "sqlite", "-o", target, "--update")

    assert (done.code, target.read_bytes()) == (2, before)
    assert f"--output: {target} can't be updated: " in done.err
    assert why.format(name=file) in done.err


def test_update_of_something_else(aqueue: Aqueue, tmp_path: Path) -> None:
    """Text, a journal, a database of somebody's, tables of another version: refused, with what to do, and unchanged."""
    write_journal(tmp_path, SCRIPTED[0])
    write_journal(tmp_path, SCRIPTED[0], "journal.db")
    (tmp_path / "text.db").write_text("text")
    aqueue("export", tmp_path / "run.db", "--format", "sqlite", "-o", tmp_path / "version.db")
    for name, statement in {"other.db": "CREATE TABLE t (a)", "version.db": "PRAGMA user_version = 99"}.items():
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            connection.execute(statement)
    for name, why in {
        "text.db": "it isn't a SQLite file; name another file",
        "journal.db": "it wasn't made by 'aqueue export --format sqlite'; name another file",
        "other.db": "it wasn't made by 'aqueue export --format sqlite'; name another file",
        "version.db": "another version of aqueue made it; leave out --update to make it again",
    }.items():
        before = (tmp_path / name).read_bytes()
        done = aqueue("export", tmp_path / "run.db", "--format", "sqlite", "-o", tmp_path / name, "--update")
        assert (done.code, (tmp_path / name).read_bytes()) == (2, before)
        assert f"--output: {tmp_path / name} can't be updated: {why} (see" in done.err


def test_run_that_goes_on(aqueue: Aqueue, tmp_path: Path) -> None:
    """What is committed is in the tables, and what comes after that in the next update, while somebody has them open."""
    run, arguments = scripted.completed(100), ("--format", "sqlite", "-o", tmp_path / "tables.db", "--update")
    write_journal(tmp_path, run[:100])
    with closing(sqlite3.connect(tmp_path / "run.db", isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("BEGIN")
        writer.executemany(
            "INSERT INTO events VALUES (?, ?)", [(event.seq, encode(event).decode()) for event in run[100:]]
        )
        assert aqueue("export", tmp_path / "run.db", *arguments).code == 0
        with closing(sqlite3.connect(tmp_path / "tables.db")) as reader:
            assert reader.execute("SELECT seq FROM export").fetchall() == [(100,)]
            writer.execute("COMMIT")
            assert aqueue("export", tmp_path / "run.db", *arguments).code == 0
            assert reader.execute("SELECT seq FROM export").fetchall() == [(len(run),)]


def test_update_makes_a_file_that_is_not_there(aqueue: Aqueue, tmp_path: Path) -> None:
    """So that the same command line can be used each time."""
    write_journal(tmp_path, SCRIPTED[0])
    assert aqueue("export", tmp_path / "run.db", "--format", "sqlite", "-o", tmp_path / "new.db", "--update").code == 0
    assert len(tables_of(tmp_path / "new.db")["items"]) == 5


@pytest.mark.parametrize("update", [True, False])
def test_an_update_that_was_killed(aqueue: Aqueue, tmp_path: Path, update: bool) -> None:
    """The file is as it was before, for readers and for the next update; and a new export isn't undone by what is left."""
    run = scripted.completed(500)
    target, killed = tmp_path / "tables.db", tmp_path / "killed.db"
    write_journal(tmp_path, run[:1000])
    aqueue("export", tmp_path / "run.db", "--format", "sqlite", "-o", target)
    before = tables_of(target)
    with closing(sqlite3.connect(target, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 5")  # so that it writes before the end
        connection.execute("BEGIN")
        Tables(connection).apply(run[1000:])
        for suffix in ("", "-journal"):
            shutil.copyfile(f"{target}{suffix}", f"{killed}{suffix}")
    assert killed.read_bytes() != target.read_bytes()
    if update:
        shutil.copyfile(killed, tmp_path / "other.db")
        shutil.copyfile(f"{killed}-journal", tmp_path / "other.db-journal")
        assert tables_of(tmp_path / "other.db") == before
    (tmp_path / "run.db").unlink()
    write_journal(tmp_path, run)
    aqueue("export", tmp_path / "run.db", "--format", "sqlite", "-o", killed, *(["--update"] if update else []))
    aqueue("export", tmp_path / "run.db", "--format", "sqlite", "-o", target)

    assert tables_of(killed) == tables_of(target)


@pytest.mark.parametrize("update", [True, False])
def test_a_journal_that_is_damaged_later_on(aqueue: Aqueue, tmp_path: Path, update: bool) -> None:
    """What was read before is not kept: neither in the tables nor as another file."""
    run = scripted.completed(1_000)
    write_journal(tmp_path, run[:100])
    aqueue("export", tmp_path / "run.db", "--format", "sqlite", "-o", tmp_path / "tables.db")
    before = tables_of(tmp_path / "tables.db")
    (tmp_path / "run.db").unlink()
    write_journal(tmp_path, run)
    with closing(sqlite3.connect(tmp_path / "run.db")) as connection, connection:
        connection.execute("DELETE FROM events WHERE seq = 3000")
    names = set(tmp_path.glob("*tables*"))
    options = ["--update"] if update else []
    done = aqueue("export", tmp_path / "run.db", "--format", "sqlite", "-o", tmp_path / "tables.db", *options)

    assert done.code == 2
    assert "lacks events" in done.err
    assert tables_of(tmp_path / "tables.db") == before
    assert set(tmp_path.glob("*tables*")) == names


def test_a_number_that_no_run_has(aqueue: Aqueue, tmp_path: Path) -> None:
    """SQLite holds 64 bits; a stranger's file may say anything."""
    script = scripted.Script()
    script.start(script.enqueue(), worker=2**64)
    write_journal(tmp_path, script.events)
    done = aqueue("export", tmp_path / "run.db", "--format", "sqlite", "-o", tmp_path / "tables.db")

    assert done.code == 2
    assert "has a number that no run has" in done.err
    assert not (tmp_path / "tables.db").exists()


def test_options_that_do_not_fit(aqueue: Aqueue, tmp_path: Path) -> None:
    """Each error says what to do."""
    write_journal(tmp_path, SCRIPTED[0])
    os.mkfifo(tmp_path / "pipe")
    for arguments, why in {
        ("--format", "sqlite"): "sqlite can't be written to standard output; name a file with -o",
        ("--format", "sqlite", "-o", "-"): "sqlite can't be written to standard output; name a file with -o",
        ("--format", "csv", "--update"): "--update works only with sqlite; add --format sqlite",
        ("--format", "sqlite", "--include-data"): "--include-data works only with jsonl and csv; leave it out",
        ("--format", "sqlite", "-o", tmp_path / "run.db"): "run.db is the file being read; name another file",
        ("--format", "sqlite", "-o", tmp_path / "no" / "x.db"): "can't write",
        ("--format", "sqlite", "-o", tmp_path / "pipe"): "pipe isn't a regular file; name a file for the tables",
        (
            "--format",
            "sqlite",
            "-o",
            tmp_path / "pipe",
            "--update",
        ): "pipe isn't a regular file; name a file for the tables",
    }.items():
        done = aqueue("export", tmp_path / "run.db", *arguments)
        assert (done.code, why in done.err) == (2, True), done.err


def test_what_a_person_adds_stays(aqueue: Aqueue, tmp_path: Path) -> None:
    """Views, indexes and a full-text index in the tables are kept by an update, and its triggers take part in it."""
    run, target = scripted.completed(100), tmp_path / "tables.db"
    write_journal(tmp_path, run[:150])
    aqueue("export", tmp_path / "run.db", "--format", "sqlite", "-o", target)
    with closing(Database(target)) as database:
        database.table("items").enable_fts(["description"], create_triggers=True)
        database.table("attempts").create_index(["worker"])
        database.create_view("slow", "SELECT * FROM items WHERE duration_s > 1")
        before = set(database.table_names()) | set(database.view_names())
    (tmp_path / "run.db").unlink()
    write_journal(tmp_path, run)
    assert aqueue("export", tmp_path / "run.db", "--format", "sqlite", "-o", target, "--update").code == 0
    with closing(Database(target)) as database:
        assert set(database.table_names()) | set(database.view_names()) == before
        assert [row["id"] for row in database.table("items").search('"page 99"')] == [99]


@each_scripted
def test_statements_use_indexes(run: list[Event]) -> None:
    """No statement of the fold reads a table row by row, or an update would take longer the larger the tables are."""
    plans: list[str] = []
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        tables = Tables(connection)
        tables.finish("run.db")
        said: list[str] = []
        connection.set_trace_callback(said.append)
        tables.apply(run)
        connection.set_trace_callback(None)
        for statement in {re.sub(r"\s+", " ", text) for text in said}:
            plans += [f"{row[3]}: {statement}" for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
    assert plans
    assert [plan for plan in plans if plan.startswith("SCAN") and not plan.startswith("SCAN runs")] == []
