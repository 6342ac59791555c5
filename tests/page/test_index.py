"""The index of a run, `_page.index`: for any journal and any way to fill it, it says what the folds of all events say."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqueue import ItemFailures, run_queue
from aqueue import events as ev
from aqueue._folds.item_table import STATES, ItemTable
from aqueue._folds.snapshot import view_from
from aqueue._history.journal_history import JournalHistory
from aqueue._journal import reader
from aqueue._page import index
from aqueue._page.index import NUMBER_OF, Index, index_path, last_view
from aqueue.errors import JournalError
from aqueue.events import Event
from aqueue.testing import _scripted_runs as scripted
from aqueue.text import without_surrogates
from aqueue.view import RunView
from tests.cli.scripted import write_journal
from tests.journal.recorded import cut, events_of
from tests.journal.seeds import Seed, items_of, seeds
from tests.journal.writing import make_events, write
from tests.page.job import HOSTILE_TEXT
from tests.report.runs import HOSTILE
from tests.strategies import SCRIPTED_RUNS, encodable_text, event_streams

SCRIPTED = [
    *SCRIPTED_RUNS,
    scripted.saying(HOSTILE_TEXT),
]
histories = st.one_of(event_streams(), event_streams(encodable_text), st.sampled_from(SCRIPTED))
GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*.db"))


@contextmanager
def indexed(journal: Path, path: Path) -> Iterator[Index]:
    """Open the index at `path` of a journal, or make it."""
    with closing(Index(path, JournalHistory(journal))) as one:
        yield one


def fill(one: Index) -> None:
    """Fill an index to the end of its journal."""
    while one.fill():
        pass


@contextmanager
def in_batches_of(batch: int, view: int, read: int = 1) -> Iterator[None]:
    """Let indexes be filled by so many events at a time, and have a view each so many; a journal is read `read` at a time."""
    with (
        patch.object(index, "_BATCH_EVENTS", batch),
        patch.object(index, "_VIEW_EVENTS", view),
        patch.object(reader, "_READ_EVENTS", read),
    ):
        yield


def all_rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return what an index says, but for the views, of which there may be more or fewer."""
    with closing(sqlite3.connect(path)) as connection:
        types = dict(connection.execute("SELECT type, name FROM types"))
        items = connection.execute("SELECT * FROM items ORDER BY item").fetchall()
        return {
            "items": [(*row[:2], types[row[2]], *row[3:]) for row in items],
            "changes": connection.execute("SELECT * FROM changes ORDER BY seq").fetchall(),
            "notable": connection.execute("SELECT * FROM notable ORDER BY seq").fetchall(),
            "mark": connection.execute("SELECT * FROM mark").fetchall(),
        }


def cut_text(value: str | None) -> str | None:
    """Return a text as an index keeps it."""
    return None if value is None else without_surrogates(value[: index._MAX_CHARS])


def texts_of(events: Sequence[Event], item: int) -> tuple[str | None, ...]:
    """Return the key, group, description, class and message of the error that the events of an item say last."""
    key = group = description = error_type = error = None
    for event in events:
        if getattr(event, "item", 0) != item:
            continue
        match event:
            case ev.ItemEnqueued():
                key, group = event.key, event.group
            case ev.ItemRegrouped():
                group = event.group
            case ev.ItemReopened() if event.rerun or event.failed == "process":
                group = event.group
            case ev.ItemDescribed():
                description = event.text
            case ev.ItemFailed() | ev.ItemRetryScheduled():
                error_type, error = event.error.type, event.error.message
            case _:
                pass
    return (cut_text(key), None if group is None else without_surrogates(group), *map(cut_text, (description, error_type, error)))  # fmt: skip


def check(path: Path, events: Sequence[Event]) -> None:
    """See that the index at `path` says what the folds of these events say, at each of them."""
    table = ItemTable()
    changes: list[tuple[int, int, int]] = []
    for event in events:
        table.apply([event])
        if not isinstance(event, ev.ItemDescribed) and (named := getattr(event, "item", 0)):
            place = table.row_of(named)
            if place is not None:
                changes.append((named, event.seq, NUMBER_OF[table.state_of(place)]))
    found = all_rows(path)
    assert found["changes"] == changes
    assert [row[0] for row in found["items"]] == [table.item_of(row) for row in range(len(table))]
    by_item: dict[int, list[Event]] = {}
    for event in events:
        by_item.setdefault(getattr(event, "item", 0), []).append(event)
    for number, row in enumerate(found["items"]):
        item: int = row[0]
        parent, type, key, group, enqueued_at, state, changed_at, attempts, started_at, took_s = row[1:11]
        description, described_seq, error_type, error = row[11:]
        assert (parent, type) == (table.parent_of(number), without_surrogates(table.type_of(number)))
        assert (STATES[state], attempts) == (table.state_of(number), table.attempts[number])
        assert (enqueued_at, started_at or 0.0) == (table.enqueued_at[number], table.started_at[number])
        assert (key, group, description, error_type, error) == texts_of(by_item[item], item)
        assert described_seq == (table.described_seq[number] or None)
        assert changed_at >= enqueued_at or events != sorted(events, key=lambda event: event.at)
        if table.state_of(number) in ("failed", "interrupted", "retrying"):
            assert changed_at == table.ended_at[number] or table.ended_at[number] == 0.0
        ends = [event for event in by_item[item] if isinstance(event, ev.ItemCompleted | ev.ItemFailed)]
        assert took_s == (ends[-1].duration_s if ends else None)
    check_views(path, events)


def check_views(path: Path, events: Sequence[Event]) -> None:
    """See that each view that an index has is that of the events up to its number."""
    with closing(sqlite3.connect(path)) as connection:
        views = connection.execute("SELECT * FROM views ORDER BY seq").fetchall()
        for seq, data in views:
            view = RunView()
            view.apply([event for event in events if event.seq <= seq])
            assert view_from(data) == view == last_view(connection, seq)
            assert view.seq == seq


# ---- what it says --------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(histories, st.integers(1, 40), st.integers(1, 40), st.integers(1, 20))
def test_index_of_any_run(events: list[Event], batch: int, view: int, read: int) -> None:
    """However many events come at a time, it is what the folds say."""
    with TemporaryDirectory() as folder, in_batches_of(batch, view, read):
        journal, path = Path(folder, "run.db"), Path(folder, "index.db")
        write(journal, events)
        events = events_of(journal)  # as they can be written
        with indexed(journal, path) as one:
            fill(one)
            assert one.seq == len(events)
        check(path, events)


@pytest.mark.parametrize("events", SCRIPTED)
def test_index_that_is_closed_after_each_event(tmp_path: Path, events: list[Event]) -> None:
    """The next server begins where the last one was, and the views that both have kept are those of all events."""
    journal, path = tmp_path / "run.db", tmp_path / "index.db"
    write(journal, events)
    events = events_of(journal)
    with in_batches_of(1, 3):
        for number in range(len(events)):
            with indexed(journal, path) as one:
                assert one.seq == number
                assert one.fill()
        with indexed(journal, path) as one:
            assert not one.fill()
    check(path, events)
    with closing(sqlite3.connect(path)) as connection:
        (views,) = connection.execute("SELECT count(*) FROM views").fetchone()
    assert views == len(events) // 3


@settings(max_examples=30)
@given(histories, st.lists(st.tuples(st.integers(0, 1), st.integers(1, 30)), max_size=12), st.integers(1, 30))
def test_servers_that_take_turns(events: list[Event], turns: list[tuple[int, int]], view: int) -> None:
    """Two of them with the same index: each goes on where the other has ended."""
    with TemporaryDirectory() as folder:
        journal, path = Path(folder, "run.db"), Path(folder, "index.db")
        write(journal, events)
        events = events_of(journal)
        with indexed(journal, path) as first:
            second = Index(path, first._history.again())
            with closing(second):
                for which, batch in turns:
                    with in_batches_of(batch, view):
                        (first, second)[which].fill()
                fill(second)
                assert not first.fill()
                assert first.seq == second.seq == len(events)
        check(path, events)


@settings(max_examples=20)
@given(event_streams(), st.data())
def test_run_that_grows(events: list[Event], data: st.DataObject) -> None:
    """An index that is open, and one that is opened again, has what was written meanwhile."""
    cuts = sorted(data.draw(st.lists(st.integers(1, len(events)), max_size=3)))
    with TemporaryDirectory() as folder, in_batches_of(10, 25):
        journal, path = Path(folder, "run.db"), Path(folder, "index.db")
        bounds = [0, *cuts, len(events)]
        write(journal, events[: bounds[1]] or events[:1])
        with indexed(journal, path) as one:
            fill(one)
            for first, last in pairwise([max(bounds[1], 1), *bounds[2:]]):
                write(journal, events[first:last])
                fill(one)
                assert one.seq == last
        check(path, events_of(journal))


@settings(max_examples=10)
@given(st.lists(seeds(), min_size=1, max_size=3), st.lists(st.tuples(st.integers(0, 100), st.booleans()), max_size=3))
def test_real_runs_that_go_on(roots: list[Seed], cuts: list[tuple[int, bool]]) -> None:
    """They fail, are cut off, and are resumed with their failed items or without; the index was made before that."""
    with TemporaryDirectory() as folder, in_batches_of(50, 40, 7):
        path = Path(folder, "run.db")
        for number, (percent, retry_failed) in enumerate([(0, True), *cuts, (100, True)]):
            if number:
                path = cut(path, len(events_of(path)) * percent // 100, Path(folder, f"cut {number}.db"))
            arguments: dict[str, Any] = {"retry_failed": retry_failed} if number else {}
            with suppress(ItemFailures):
                run_queue(items_of(roots), resume=path, reporter="none", on_error="continue", **arguments)
            with indexed(path, Path(folder, "index.db")) as one:
                fill(one)
            check(Path(folder, "index.db"), events_of(path))


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
def test_journals_of_every_version(golden: Path, tmp_path: Path) -> None:
    """Those that an earlier aqueue wrote lack some fields."""
    journal = tmp_path / "run.db"
    journal.write_bytes(golden.read_bytes())
    with in_batches_of(10, 1), indexed(journal, tmp_path / "index.db") as one:
        fill(one)
    check(tmp_path / "index.db", events_of(journal))


def test_crash_is_when_the_process_was_last_heard_of(tmp_path: Path) -> None:
    """The event that says so comes with the resume, in another batch."""
    script = scripted.Script()
    item = script.enqueue()
    script.start(item)
    crashed_at = script.events[-1].at
    script.wait(86_400)
    script.begin(ev.RunResumed)
    script.interrupt(item, "crash")
    write(tmp_path / "run.db", script.events)
    with in_batches_of(1, 10):
        for _ in script.events:
            with indexed(tmp_path / "run.db", tmp_path / "index.db") as one:
                one.fill()
    (row,) = all_rows(tmp_path / "index.db")["items"]
    assert row[7] == crashed_at


# ---- an index that can't be used -----------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Return the journal of a run with an event of each type."""
    path = tmp_path / "run.db"
    write(path, scripted.every_event_type())
    return path


@pytest.fixture
def filled(journal: Path, tmp_path: Path) -> Path:
    """Return its index."""
    path = tmp_path / "index.db"
    with in_batches_of(10, 10), indexed(journal, path) as one:
        fill(one)
    return path


def overwrite(begin: int, size: int) -> Callable[[Path], None]:
    """Return what overwrites bytes of a file."""

    def spoil(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(begin)
            file.write(b"\xff" * size)

    return spoil


def another_file(statements: str) -> Callable[[Path], None]:
    """Return what puts another SQLite file in the place of an index."""

    def put(path: Path) -> None:
        path.unlink()
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(statements)

    return put


def statement(sql: str) -> Callable[[Path], None]:
    """Return what changes an index by a statement."""

    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(sql)

    return change


SPOILED: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "empty": lambda path: os.truncate(path, 0),
    "cut": lambda path: os.truncate(path, 100),
    "cut in a page": lambda path: os.truncate(path, path.stat().st_size - 5_000),
    "text": overwrite(0, 100_000),
    "header": overwrite(0, 30),
    "schema": overwrite(100, 3_000),
    "pages": overwrite(4_096, 100_000),
    "another file": another_file("CREATE TABLE items (x); CREATE INDEX children ON items (x); INSERT INTO items VALUES (1)"),
    "numbered": another_file("CREATE TABLE mark (x INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO mark VALUES (7)"),
    "view": another_file("CREATE VIEW items AS SELECT 1"),
    "another version": statement("UPDATE mark SET version = 'another', seq = 3"),
    "no mark": statement("DELETE FROM mark"),
    "no table of views": statement("DROP TABLE views"),
    "no view": statement("DELETE FROM views"),
    "mark beyond the end": statement("UPDATE mark SET seq = 1000000"),
}  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_index_that_is_spoiled_is_made_again(journal: Path, filled: Path, spoil: Callable[[Path], None]) -> None:
    """Any other file in its place is replaced: all of it is in the journal."""
    whole = all_rows(filled)
    spoil(filled)
    for _ in range(3):  # what is found only while it is filled removes it, and the next server makes another
        with suppress(sqlite3.DatabaseError), indexed(journal, filled) as one:
            fill(one)
            break
    assert all_rows(filled) == whole
    check_views(filled, events_of(journal))
    assert stat.S_IMODE(filled.stat().st_mode) == 0o600


def test_index_is_sound_after_damage_that_is_found_late(journal: Path, filled: Path) -> None:
    """A server that finds it while it fills can't go on; the next one makes another."""
    os.truncate(filled, 0)
    with in_batches_of(10, 10, 10), indexed(journal, filled) as one:
        one.fill()
        one._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        overwrite(4_096, filled.stat().st_size - 4_096)(filled)
        one._connection.execute("PRAGMA cache_size = 1")
        with pytest.raises(sqlite3.DatabaseError, match="malformed"):
            fill(one)
        assert not filled.exists()
    with indexed(journal, filled) as one:
        fill(one)
    check(filled, events_of(journal))


def test_large_attributes_are_not_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction ends after so many bytes of them."""
    script = scripted.Script()
    for _ in range(30):
        script.enqueue(payload=msgspec.Raw(b'"%b"' % (b"x" * 1_000)))
    monkeypatch.setattr(index, "_BATCH_BYTES", 5_000)
    monkeypatch.setattr(reader, "_READ_EVENTS", 1)
    with indexed(write_journal(tmp_path, script.events), tmp_path / "index.db") as one:
        assert one.fill()
        assert one.seq < 10


def fork(events: list[Event], at: int) -> list[Event]:
    """Return a run that is another one after the event `at`."""
    script = scripted.Script()
    script.events = events[:at]
    script._at = events[at - 1].at + 5
    script._items = sum(isinstance(event, ev.ItemEnqueued) for event in script.events)
    for _ in range(40):
        script.enqueue("other:Page")
    return script.events


@pytest.mark.parametrize("number", [1, 4, 30, 70])
def test_copy_of_a_journal_that_went_on_otherwise(tmp_path: Path, number: int) -> None:
    """With fewer events or more than the one that was there before, in the place of that."""
    journal, path = tmp_path / "run.db", tmp_path / "index.db"
    for events in (make_events(1, 60), fork(make_events(1, 60), 20)[:number], make_events(1, 60)):
        journal.unlink(missing_ok=True)
        write(journal, events)
        with in_batches_of(7, 10), indexed(journal, path) as one:
            fill(one)
            assert one.seq == len(events)
        check(path, events)


def test_two_copies_are_never_mixed(tmp_path: Path) -> None:
    """Two servers with one index, each of its own copy of a journal: what the index has is of one of them."""
    path, runs = tmp_path / "index.db", (make_events(1, 60), fork(make_events(1, 60), 20))
    journals = (tmp_path / "one.db", tmp_path / "two.db")
    for journal, events in zip(journals, runs, strict=True):
        write(journal, events)
    with in_batches_of(30, 10), indexed(journals[0], path) as one:
        one.fill()
        subprocess.run([sys.executable, "-c", FILL, str(journals[1]), str(path), "30"], check=True)
        one.fill()
        seq = one.seq
    check(path, runs[0][:seq])


@pytest.mark.parametrize("method", ["_add", "_apply_to_view", "_keep_view"])
def test_error_of_the_disk_may_pass(journal: Path, tmp_path: Path, method: str) -> None:
    """An index that couldn't be written goes on later, and lacks nothing of what was read meanwhile."""
    path, error = tmp_path / "other.db", sqlite3.OperationalError("disk I/O error")
    with in_batches_of(10, 10, 10), indexed(journal, path) as one:
        for _ in range(3):
            with pytest.raises(sqlite3.OperationalError), patch.object(one, method, side_effect=error):
                one.fill()
            assert one.fill()
        fill(one)
    check(path, events_of(journal))


def test_number_that_no_index_can_have(tmp_path: Path) -> None:
    """A stranger's journal may have any number: the index of that can't be filled, which is an error of the journal."""
    journal = tmp_path / "run.db"
    write(journal, make_events(1, 20))
    with closing(sqlite3.connect(journal)) as connection, connection:
        large = ev.encode(make_events(18, 18)[0]).decode().replace('"item":5', f'"item":{2**70}')
        assert str(2**70) in large
        connection.execute("UPDATE events SET event = ? WHERE seq = 18", (large,))
    with indexed(journal, tmp_path / "index.db") as one, pytest.raises(JournalError, match="no run can have written"):
        fill(one)


# ---- the process ---------------------------------------------------------------------------------------------------

FILL = """
import sys, time
from pathlib import Path
from aqueue._history.journal_history import JournalHistory
from aqueue._journal import reader
from aqueue._page import index
reader._READ_EVENTS = index._BATCH_EVENTS = int(sys.argv[3])
index._VIEW_EVENTS = 40
one = index.Index(Path(sys.argv[2]), JournalHistory(Path(sys.argv[1])))
if len(sys.argv) < 5:
    one.fill()
while len(sys.argv) == 5 and one.fill():
    print(one.seq, flush=True)
one.close()
"""


def test_process_that_is_killed_while_it_fills(tmp_path: Path) -> None:
    """Again and again (SIGKILL), wherever it is: the next one goes on, and the index is that of all events."""
    journal, path = tmp_path / "run.db", tmp_path / "index.db"
    write(journal, events := make_events(1, 3_000))
    seen = 0
    for _ in range(6):
        command = [sys.executable, "-c", FILL, str(journal), str(path), "5", "on"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            begins_at = int(process.stdout.readline())
            assert begins_at > seen
            for _ in range(20):
                seen = int(process.stdout.readline() or seen)
            process.send_signal(signal.SIGKILL)
    with indexed(journal, path) as one:
        assert seen <= one.seq < len(events)
        fill(one)
    check(path, events)


def test_only_its_owner_can_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: Path) -> None:
    """The folder, the file, and those that SQLite makes for it, with any umask."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    old = os.umask(0)
    try:
        path = index_path("run", journal)
        with indexed(journal, path) as one:
            one.fill()
            assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
            assert len(list(path.parent.iterdir())) == 3
    finally:
        os.umask(old)
    assert path.is_relative_to(tmp_path / "caches" / "aqueue") or sys.platform == "darwin"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_each_journal_has_its_own(tmp_path: Path) -> None:
    """By the id of its run and by its place, which may be hostile, and for each version: two would drop each other's tables."""
    paths = [index_path(run, tmp_path / name) for run in ("a", "b", HOSTILE) for name in ("x", "y", "\udcff")]
    assert len(set(paths)) == 9
    assert index_path("a", tmp_path / "x") == paths[0]
    with patch.object(index, "_VERSION", 0):
        assert index_path("a", tmp_path / "x") not in paths
    assert len({path.parent for path in paths}) == 1


IN_A_FOLDER_OF_ITS_OWN = """
import sys
from pathlib import Path
from aqueue._page.index import index_path
print(index_path("run", Path("run.db")))
"""


def test_folder_for_caches_that_can_not_be_written(tmp_path: Path) -> None:
    """The index is among the temporary files then, and is removed with the process."""
    caches, temporary = tmp_path / "caches", tmp_path / "temporary"
    caches.write_text("no folder")
    temporary.mkdir()
    environment = os.environ | {"XDG_CACHE_HOME": str(caches), "HOME": str(caches), "TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, "-c", IN_A_FOLDER_OF_ITS_OWN], env=environment, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).is_relative_to(temporary)
    assert list(temporary.iterdir()) == []


def test_old_indexes_are_deleted(journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that nobody has opened for 30 days; to open one is to use it, though nothing is written."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    used, unused = index_path("used", journal), index_path("unused", journal)
    for path in (used, unused):
        with indexed(journal, path) as one:
            fill(one)
        os.utime(path, (time.time() - 29 * 86_400,) * 2)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).touch()
    assert index_path("used", journal).exists() and unused.exists()
    with indexed(journal, used):
        pass
    monkeypatch.setattr(index, "time", lambda: time.time() + 2 * 86_400)
    index_path("other", journal)
    assert {path.name for path in used.parent.iterdir()} - {f"{used.name}-wal", f"{used.name}-shm"} == {used.name}


# ---- what no run can have written ----------------------------------------------------------------------------------


def strange(number: int, **fields: Any) -> list[Event]:
    """Return a run with an event that says something strange."""
    events = make_events(1, 40)
    events[number] = type(events[number])(
        **{name: getattr(events[number], name) for name in events[number].__struct_fields__} | fields
    )
    return events


STRANGE = {
    "item that nobody announced": strange(6, item=30),
    "its own parent": strange(1, parent=1),
    "parent that comes later": strange(5, parent=9),
    "negative parent": strange(5, parent=-1),
    "number of no item": strange(5, item=0),
    "negative number": strange(5, item=-3),
    "the same item twice": strange(5, item=1),
    "number that is too large": strange(5, item=2**53),
    "attempt that is too large": strange(6, attempt=2**53),
    "time before the start": strange(5, at=-1e9),
    "time that no calendar has": strange(5, at=1e300),
    "nothing but ends": [event for event in scripted.every_event_type() if not isinstance(event, ev.ItemEnqueued)],
}  # fmt: skip


@pytest.mark.parametrize("events", STRANGE.values(), ids=STRANGE)
def test_journal_that_no_run_can_have_written(tmp_path: Path, events: list[Event]) -> None:
    """A stranger's: it is indexed as far as it makes sense, and nothing raises or never ends."""
    journal, path = tmp_path / "run.db", tmp_path / "index.db"
    write(journal, make_events(1, 1))
    rows = [(number, ev.encode(event).decode()) for number, event in enumerate(events, 1)]
    with closing(sqlite3.connect(journal)) as connection, connection:
        connection.execute("DELETE FROM events")
        connection.executemany("INSERT INTO events VALUES (?, ?)", rows)
    with in_batches_of(5, 7, 3):
        for _ in range(2):
            with indexed(journal, path) as one:
                fill(one)
                assert one.seq == len(events)
    parents = [row[1] < max(row[0], 1) for row in all_rows(path)["items"]]
    assert all(parents)
