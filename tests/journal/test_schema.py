"""The journal's schema: the sum of its migrations, the same for aqueue and for sqlite-utils; and its views.

The migrations are `aqueue_migrations.migrations`.
"""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from sqlite_utils import Database

from aqueue._journal.writer import Journal
from aqueue.events import (
    EVENT_TYPES,
    Counts,
    ErrorInfo,
    Event,
    ItemAdopted,
    ItemChildrenProcessed,
    ItemCompleted,
    ItemDescribed,
    ItemEnqueued,
    ItemFailed,
    ItemInterrupted,
    ItemReopened,
    ItemRetryScheduled,
    ItemStarted,
    ProcessLeft,
    RunFinished,
    RunResumed,
    RunStarted,
    encode,
)
from aqueue.testing._scripted_runs import on_a_cluster
from aqueue_migrations.migrations import APPLICATION_ID, migrations
from tests.journal.writing import DEADLINE_S, make_events, recorded, write

ROOT = Path(__file__).parents[2]
with closing(Database(memory=True)) as empty:
    NAMES = [migration.name for migration in migrations.pending(empty)]
VIEWS = ["failures", "items", "results", "runs", "workers"]


def schema(path: Path) -> set[tuple[Any, ...]]:
    """Return everything that the file's schema says."""
    with closing(sqlite3.connect(path)) as connection:
        return set(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema"))


def migrate(path: Path, *arguments: str) -> None:
    """Run sqlite-utils's command on the folder of migrations, as a person would."""
    command = [sys.executable, "-m", "sqlite_utils", "migrate", str(path), str(ROOT / "migrations"), *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=DEADLINE_S)


def test_a_fresh_schema_is_the_sum_of_the_migrations(tmp_path: Path) -> None:
    """What aqueue makes is what the migrations make, one after the other, by themselves and by sqlite-utils's command."""
    Journal.create(tmp_path / "run.db").close()
    for name in [*NAMES[1:], None]:
        with closing(sqlite3.connect(tmp_path / "steps.db", isolation_level=None)) as connection:
            migrations.apply(Database(connection), stop_before=name)
    migrate(tmp_path / "command.db")
    assert schema(tmp_path / "run.db") == schema(tmp_path / "steps.db") == schema(tmp_path / "command.db")
    with closing(sqlite3.connect(tmp_path / "command.db")) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


def test_a_file_that_sqlite_utils_made_is_a_journal(tmp_path: Path) -> None:
    """`sqlite-utils migrate` makes an empty journal; on one with events it changes nothing."""
    path = tmp_path / "run.db"
    migrate(path)
    write(path, make_events(1, 50))
    before = schema(path)
    migrate(path)
    assert schema(path) == before
    assert recorded(path) == make_events(1, 50)


@pytest.mark.parametrize("name", NAMES[1:])
def test_an_older_journal_is_brought_up_to_date(name: str, tmp_path: Path) -> None:
    """A journal that lacks the newer migrations opens, keeps its events and gets them."""
    path = tmp_path / "run.db"
    migrate(path, "--stop-before", f"aqueue:{name}")
    with closing(sqlite3.connect(path)) as connection:
        connection.executemany(
            "INSERT INTO events VALUES (?, ?)",
            [(event.seq, encode(event).decode()) for event in make_events(1, 20)],
        )
        connection.commit()
    assert recorded(path) == make_events(1, 20)
    Journal.create(tmp_path / "new.db").close()
    assert schema(path) == schema(tmp_path / "new.db")


def test_analyze_does_no_harm(tmp_path: Path) -> None:
    """The tables that ANALYZE leaves, which `sqlite-utils analyze-tables` and others run, are no reason to refuse."""
    path = tmp_path / "run.db"
    write(path, make_events(1, 50))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("ANALYZE")
    write(path, make_events(51, 60))
    assert recorded(path) == make_events(1, 60)


# ---- the views ------------------------------------------------------------------------------------------------------

OOPS = ErrorInfo("ValueError", "no [b]price[/b]", "Traceback …")


def a_run() -> list[Event]:
    """Return two processes of a run, with an item in each state."""
    seq = iter(range(1, 1_000))

    def add(cls: type[Any], **fields: Any) -> Event:
        number = next(seq)
        event: Event = cls(seq=number, at=100.0 + number, **fields)
        return event

    def begin(cls: type[Any]) -> Event:
        return add(
            cls,
            run_id="r1",
            schema_version=1,
            aqueue_version="0.1",
            num_workers=2,
            queue_type_name="stack",
            pid=7,
            host="here",
        )

    return [
        begin(RunStarted),  # 1
        add(ItemEnqueued, item=1, parent=0, type="shop:Index", key="k"),  # 2
        add(ItemStarted, item=1, type="shop:Index", worker=1),  # 3
        *(add(ItemEnqueued, item=item, parent=1, type="shop:Page") for item in range(2, 9)),  # 4 to 10
        add(ItemDescribed, item=1, worker=1, text="first"),  # 11
        add(ItemDescribed, item=1, worker=1, text="second"),  # 12
        add(ItemCompleted, item=1, worker=1, duration_s=0.5),  # 13
        add(ItemStarted, item=2, type="shop:Page", worker=2),  # 14
        add(ItemRetryScheduled, item=2, worker=2, error=OOPS, due=116.0),  # 15
        add(ItemStarted, item=2, type="shop:Page", worker=2, attempt=2),  # 16
        add(ItemCompleted, item=2, worker=2, duration_s=0.25, attempt=2, result=Raw(b'{"price": 1e22}')),  # 17
        add(ItemStarted, item=3, type="shop:Page", worker=1),  # 18
        add(ItemFailed, item=3, type="shop:Page", worker=1, duration_s=0.125, error=OOPS),  # 19
        add(ItemStarted, item=4, type="shop:Page", worker=1),  # 20
        add(ItemInterrupted, item=4),  # 21
        add(ItemStarted, item=5, type="shop:Page", worker=1),  # 22
        add(ItemFailed, item=5, type="shop:Page", worker=1, duration_s=0.125, error=OOPS),  # 23
        begin(RunResumed),  # 24
        add(ItemReopened, item=5, type="shop:Page"),  # 25
        add(ItemStarted, item=6, type="shop:Page", worker=2),  # 26
        add(ItemStarted, item=7, type="shop:Page", worker=1),  # 27
        add(ItemCompleted, item=7, worker=1, duration_s=1.0, result=Raw(b'"a"')),  # 28
        add(ItemStarted, item=7, type="shop:Page", worker=1, phase="after_children"),  # 29
        add(ItemChildrenProcessed, item=7, type="shop:Page", result=Raw(b"[1,2]")),  # 30
        add(ItemAdopted, item=8, type="shop:Page", payload=Raw(b'{"n":8}')),  # 31
        add(RunFinished, status="interrupted", counts=Counts(8, 3, 1)),  # 32
    ]


def rows(path: Path, query: str) -> list[dict[str, Any]]:
    """Return what `query` gives."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query)]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Return the path of a journal that holds `a_run`."""
    path = tmp_path / "run.db"
    write(path, a_run())
    return path


def test_items_are_shown_with_their_state(journal: Path) -> None:
    """The view `items` has a row for each item: its state in a word, and what its last events said."""
    states = {row["id"]: row["state"] for row in rows(journal, "SELECT id, state FROM items")}
    assert states == {
        1: "waiting", 2: "completed", 3: "failed", 4: "interrupted", 5: "queued", 6: "running", 7: "completed", 8: "queued",
    }  # fmt: skip
    first, second, third = rows(journal, "SELECT * FROM items WHERE id <= 3 ORDER BY id")
    assert first == {
        "id": 1,
        "parent": 0,
        "type": "shop:Index",
        "key": "k",
        "group_name": None,
        "state": "waiting",
        "attempts": 1,
        "enqueued_at": 102.0,
        "started_at": 103.0,
        "ended_at": 113.0,
        "duration_s": 0.5,
        "worker": 1,
        "description": "second",
        "error": None,
    }
    assert (second["attempts"], second["started_at"], second["error"]) == (2, 116.0, None)
    assert (third["ended_at"], third["error"]) == (119.0, "ValueError: no [b]price[/b]")
    (hook,) = rows(journal, "SELECT * FROM items WHERE id = 7")
    assert (hook["attempts"], hook["duration_s"], hook["ended_at"]) == (1, 1.0, 128.0)


def test_the_view_of_items_knows_every_type_of_event(journal: Path) -> None:
    """Each says what it does to the state of an item; one that comes later leaves the state as it is."""
    [(sql,)] = [tuple(row.values()) for row in rows(journal, "SELECT sql FROM sqlite_schema WHERE name = 'items'")]
    for name in EVENT_TYPES:
        assert not name.startswith("item.") or f'"event":"{name}"' in sql, name
    before = rows(journal, "SELECT * FROM items")
    with closing(sqlite3.connect(journal)) as connection, connection:
        connection.execute(
            """INSERT INTO events (event) VALUES ('{"event":"item.praised","seq":33,"at":133.0,"item":3}')"""
        )
    assert rows(journal, "SELECT * FROM items") == before


def test_runs_on_a_cluster_have_the_same_views(tmp_path: Path) -> None:
    """Worker processes are in no view; an item that was lost with one is interrupted until it starts again."""
    path = tmp_path / "run.db"
    events = on_a_cluster(3, 2)
    lost = next(number for number, event in enumerate(events) if isinstance(event, ProcessLeft)) + 2
    write(path, events[:lost])
    before = rows(path, "SELECT id, state, attempts FROM items WHERE id <= 3")
    write(path, events[lost:])

    assert [tuple(row.values()) for row in before] == [(1, "interrupted", 1), (2, "interrupted", 1), (3, "running", 1)]
    assert recorded(path) == events
    assert [tuple(row.values()) for row in rows(path, "SELECT state, attempts, worker FROM items WHERE id <= 3")] == [
        ("completed", 2, 1),
        ("completed", 2, 2),
        ("completed", 1, 3),
    ]
    assert [row["num_workers"] for row in rows(path, "SELECT num_workers FROM runs")] == [2]
    assert [row["started"] for row in rows(path, "SELECT started FROM workers ORDER BY worker")] == [3, 2, 1, 1, 1, 1]


def test_failures_are_those_that_stand(journal: Path) -> None:
    """The view `failures` leaves out an item that was taken up again."""
    assert rows(journal, "SELECT * FROM failures") == [
        {
            "item": 3,
            "type": "shop:Page",
            "phase": "process",
            "attempt": 1,
            "at": 119.0,
            "error_type": "ValueError",
            "error_message": "no [b]price[/b]",
            "traceback": "Traceback …",
        }
    ]


def test_results_are_json(journal: Path) -> None:
    """The view `results` has each item's result as JSON, its hook's if there is one."""
    found = rows(journal, "SELECT * FROM results ORDER BY item")
    assert [(row["item"], row["type"], json.loads(row["result"])) for row in found] == [
        (2, "shop:Page", {"price": 1e22}),
        (7, "shop:Page", [1, 2]),
    ]


def test_workers_are_counted(journal: Path) -> None:
    """The view `workers` tells what each worker did."""
    assert rows(journal, "SELECT * FROM workers ORDER BY worker") == [
        {
            "worker": 1, "started": 6, "completed": 2, "failed": 2, "retried": 0, "busy_s": 1.75, "last_at": 129.0,
        },
        {
            "worker": 2, "started": 3, "completed": 1, "failed": 0, "retried": 1, "busy_s": 0.25, "last_at": 126.0,
        },
    ]  # fmt: skip


def test_runs_are_processes(journal: Path) -> None:
    """The view `runs` has a row for each process of the run and says how it ended."""
    found = rows(journal, "SELECT * FROM runs")
    assert [(row["seq"], row["started_at"], row["ended_at"], row["status"]) for row in found] == [
        (1, 101.0, None, "crashed"),
        (24, 124.0, 132.0, "interrupted"),
    ]
    assert (found[1]["enqueued"], found[1]["completed"], found[1]["failed"]) == (8, 3, 1)
    assert {row["run_id"] for row in found} == {"r1"}


@pytest.mark.parametrize("view", VIEWS)
def test_views_open_in_sqlite_utils(view: str, journal: Path) -> None:
    """Each view is plain SQL: the sqlite-utils command shows it."""
    command = [sys.executable, "-m", "sqlite_utils", "rows", str(journal), view]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE_S)
    assert len(json.loads(said.stdout)) == len(rows(journal, f"SELECT * FROM {view}")) > 0


@pytest.mark.parametrize("view", VIEWS)
def test_views_of_a_journal_without_events_are_empty(view: str, tmp_path: Path) -> None:
    """Before the first event there is nothing to see, and no error."""
    Journal.create(tmp_path / "run.db").close()
    assert rows(tmp_path / "run.db", f"SELECT * FROM {view}") == []
