"""Runs in journals: whole, live, hostile, damaged and newer ones; and nothing of it is ever changed or locked."""

import os
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw

from aqueue._folds.item_table import ItemTable
from aqueue._history.history import CannotRead, History, batches
from aqueue._history.opening import open_history
from aqueue._journal.writer import Journal
from aqueue.errors import AqueueError, JournalDamaged, JournalTooNew, NotAJournal
from aqueue.events import Event, ItemDescribed, encode
from aqueue.testing._scripted_runs import Script, every_event_type, interrupted, with_retries
from aqueue.view import RunView
from tests.cli.runs import run
from tests.journal.recorded import events_of
from tests.journal.writing import DEADLINE_S, live, make_events, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal is to be."""
    return tmp_path / "run.db"


def read(path: Path) -> list[Event]:
    """Return the events in a journal."""
    with closing(open_history(str(path))) as history:
        return [event for batch in batches(history) for event in batch]


def events_in(history: History) -> list[Event]:
    """Return the next events, as they were recorded."""
    events = []
    while (lines := history.read_lines()) is not None:
        events += [event for _, event in lines]
    return events


def edit(path: Path, *statements: str) -> None:
    """Change a journal as only a stranger would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def write_by_hand(path: Path, rows: list[str]) -> None:
    """Write a journal whose events are these texts, whatever they are."""
    Journal.create(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("INSERT INTO events (event) VALUES (?)", [(row,) for row in rows])


# ---- whole journals -------------------------------------------------------------------------------------------------


def test_real_journal_is_read_as_it_was_written(path: Path) -> None:
    """By both ways of reading, and any of its events again."""
    run(path, reporter="none")
    events = events_of(path)

    assert read(path) == events
    with closing(open_history(str(path))) as history:
        assert [line for line, _ in history.read_lines() or []] == [encode(event) for event in events]
        assert history.events_at([3, 1, 10**9]) == {1: events[0], 3: events[2]}
        assert history.events_at(range(1, len(events) + 1)) == {event.seq: event for event in events}
        assert (history.is_journal, history.is_over, history.missing, history.skipped_lines()) == (True, False, 0, "")


def test_beginning_near_the_end(path: Path) -> None:
    """As many events before it as are asked for, as often as is needed, up to all of them."""
    run(path, reporter="none")
    events = events_of(path)
    with closing(open_history(str(path))) as history:
        for count in (1, 10, len(events) - 1):
            assert history.start_near_end(count)
            assert events_in(history) == events[-count:]
        for count in (len(events), 10**20):
            assert not history.start_near_end(count)
            assert events_in(history) == events


def test_run_of_a_journal_may_be_named(path: Path) -> None:
    """There is one: the first and the last."""
    run(path, reporter="none")
    (run_id,) = {event.run_id for event in events_of(path) if hasattr(event, "run_id")}
    for wanted in ("1", "-1", run_id, run_id[:4]):
        open_history(str(path), run=wanted).close()
    for wanted in ("zz", "x\x1b[2J"):
        with pytest.raises(CannotRead, match=f"has one run, {run_id}, and no run"):
            open_history(str(path), run=wanted)


def test_announcements_are_found_by_number(path: Path) -> None:
    """Whether items are announced all at once or far apart, none before its own, and none that comes later."""
    script = Script()
    announced: dict[int, int] = {}
    for burst in (1, 30, 1, 200, 1, 1, 7):
        for _ in range(burst):
            item = script.enqueue(payload=Raw(b'{"a":1,"item":9,"parent":9,"b":2}'))
            announced[item] = len(script.events)
        script.start(len(announced))
        for _ in range(40):
            script.add(ItemDescribed, item=len(announced), worker=1, text="page")
        script.complete(len(announced))
    write(path, script.events)
    last = len(script.events)
    with closing(open_history(str(path))) as history:
        for item, seq in announced.items():
            found = history.announcement_of(item, last)
            assert found is not None and (found.item, found.seq) == (item, seq)
            assert history.announcement_of(item, seq - 1) is None
        assert history.announcement_of(len(announced) + 1, last) is None
        assert [event.seq for event in history.events_of([9], announced[9], last)] == [announced[9]]


def test_announcements_that_no_run_has_written(path: Path) -> None:
    """Numbers that don't grow, or that skip some, end the search."""
    first = encode(make_events(1, 1)[0]).decode()
    rows = [
        f'{{"event":"item.enqueued","seq":{n},"at":1,"item":{item},"parent":0,"type":"m:T"}}'
        for n, item in enumerate((1, 2, 2, 9, 3), 2)
    ]
    write_by_hand(path, [first, *rows])
    with closing(open_history(str(path))) as history:
        assert [item for item in range(1, 11) if history.announcement_of(item, 6) is not None] == [1, 2]


# ---- beside a run ---------------------------------------------------------------------------------------------------


def test_live_journal_is_read_while_it_is_written(path: Path) -> None:
    """In order and without a gap, and the writer is never held up for long."""
    with live(path) as writer, closing(open_history(str(path))) as history:
        assert writer.stdout is not None
        seen: list[Event] = []
        deadline = time.monotonic() + DEADLINE_S
        while len(seen) < 10_000:
            assert time.monotonic() < deadline
            seen += history.read() or []
            assert int(writer.stdout.readline()) > 0

        # All that the writer was told is saved can be read.
        saved = int(writer.stdout.readline())
        while (events := history.read()) is not None and len(seen) < saved:
            seen += events
        assert len(seen) >= saved
        assert seen == make_events(1, len(seen))


def test_reading_changes_nothing_and_locks_nothing(path: Path) -> None:
    """The bytes, the times and the permissions of the journal stay as they are, and a run may begin beside the reader."""
    write(path, make_events(1, 5_000))
    path.chmod(0o400)
    before = (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode)
    with closing(open_history(str(path))) as history:
        for _ in batches(history):
            pass
        assert (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode) == before
        locks = Path("/proc/locks")
        if locks.exists():
            own = [line for line in locks.read_text().splitlines() if f" {os.getpid()} " in line]
            # In WAL mode a connection holds a shared one on the index that says that it is there, and no other.
            assert [line for line in own if " READ " not in line or f":{path.stat().st_ino} " in line] == []
        for file in path.parent.iterdir():  # SQLite gives the index that the reader made the journal's own permissions
            file.chmod(0o600)
        journal = Journal.open(path)  # takes the lock, and writes to the file
        assert journal.last_seq == 5_000
        journal.close()
    assert path.read_bytes() == before[0]
    assert not path.with_name("run.db-wal").exists() or path.with_name("run.db-wal").stat().st_size == 0


def test_journal_in_a_folder_that_may_not_be_written(path: Path) -> None:
    """Nothing has to be made beside it."""
    write(path, make_events(1, 100))
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        assert read(path) == make_events(1, 100)
    finally:
        path.parent.chmod(0o700)


def test_journal_that_is_removed_or_replaced_meanwhile(path: Path) -> None:
    """Is an error when there is no more to read: what comes would be of another run."""
    write(path, make_events(1, 100))
    with closing(open_history(str(path))) as history:
        path.unlink()
        assert history.read() == make_events(1, 100)
        with pytest.raises(AqueueError, match="was removed or replaced while it was being read; open it again"):
            history.read()


# ---- journals from strangers ----------------------------------------------------------------------------------------


def test_view_in_the_place_of_the_events_is_refused(path: Path) -> None:
    """It could run for ever, or tell each reader something else."""
    write(path, make_events(1, 10))
    edit(
        path,
        "ALTER TABLE events RENAME TO real_events",
        "CREATE VIEW events AS SELECT seq, event FROM real_events",
    )
    with pytest.raises(NotAJournal, match="has objects that aqueue didn't create"):
        open_history(str(path))


def test_trigger_is_refused(path: Path) -> None:
    """Although it could do nothing to who only reads."""
    write(path, make_events(1, 10))
    edit(path, "CREATE TRIGGER mine AFTER INSERT ON events BEGIN SELECT 1; END")
    with pytest.raises(NotAJournal, match="has objects that aqueue didn't create, or that were changed: trigger mine"):
        open_history(str(path))


def test_file_of_another_program_is_refused(path: Path) -> None:
    """SQLite or not."""
    edit(path, "CREATE TABLE mine (x)")
    with pytest.raises(NotAJournal, match="is a SQLite file, but not a journal"):
        open_history(str(path))


def test_nonsense_that_has_the_shape_of_events_is_folded_sanely(path: Path) -> None:
    """Ends without starts, unknown items, huge and negative numbers: no error, no negative count."""
    nonsense = [
        '"item.started","item":99,"type":"m:T","worker":1',
        '"item.started","item":1000,"type":"m:T","worker":0',
        f'"item.started","item":{2**53 + 1},"type":"m:T","worker":1',
        f'"item.completed","item":{10**30},"worker":{10**30},"duration_s":-1',
        '"item.completed","item":7,"worker":-3,"duration_s":1e300,"deduplicated":-5',
        '"item.enqueued","item":5,"parent":5,"type":"m:T"',
        '"item.enqueued","item":5,"parent":900,"type":"m:T"',
        '"item.enqueued","item":0,"parent":0,"type":"m:T"',
        '"item.enqueued","item":-4,"parent":-9,"type":"m:T"',
        '"item.enqueued","item":8,"parent":0,"type":"m:T"',
        '"item.enqueued","item":8,"parent":0,"type":"other:T"',
        '"item.started","item":8,"type":"third:T","worker":4,"attempt":-1',
        '"item.described","item":8,"worker":9,"text":"\\u001b[2J"',
        '"item.children_processed","item":3,"type":"m:T"',
        '"item.children_failed","item":8,"type":"m:T"',
        '"item.reopened","item":8,"type":"m:T","failed":"after_children"',
        '"item.interrupted","item":12',
        '"item.failed","item":12,"type":"x","worker":2,"duration_s":0,"error":{"type":"","message":""},"phase":"after_children"',
        '"item.retry_scheduled","item":12,"worker":2,"error":{"type":"","message":""},"due":-1e300',
        f'"group.slowed_down","group":"g","due":1e300,"item":{10**40}',
        '"run.finished","status":"completed","counts":{"completed":-1,"deduplicated":-7}',
        '"run.finished","status":"completed","counts":{}',
        '"run.started","run_id":"b","schema_version":-1,"aqueue_version":"","num_workers":-1,"queue_type_name":"","pid":-1,"host":""',
    ]
    first = encode(make_events(1, 1)[0]).decode()
    write_by_hand(path, [first, *(f'{{"event":{text},"seq":{n},"at":{n}.5}}' for n, text in enumerate(nonsense, 2))])
    events = read(path)
    view, items = RunView(), ItemTable()
    view.apply(events)
    items.apply(events)

    assert all(count >= 0 for count in msgspec.structs.asdict(view.counts).values())
    assert view.counts.enqueued == len(items)
    states = Counter(items.state_of(row) for row in range(len(items)))
    assert view.counts.failed == states["failed"]
    with closing(open_history(str(path))) as history:
        assert len(history.read_lines() or []) == len(nonsense) + 1


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "",
        "17",
        '{"event":"item.started","seq":3}',
        '{"event":"item.started","seq":3,"at":1}, {"event":"item.started"',
        '{"event":"item.dreamt","x":' + "[" * 2_000_000 + "]" * 2_000_000 + "}",
        '{"event":"item.started","seq":3,"at":1,"item":' + "9" * 5_000 + ',"type":"","worker":1}',
    ],
    ids=["no JSON", "empty", "a number", "lacks fields", "half of two", "too deep", "a number without an end"],
)
def test_row_that_is_no_event_is_named(path: Path, text: str) -> None:
    """And ends the reading: a journal is whole or damaged."""
    first, second = (encode(event).decode() for event in make_events(1, 2))
    write_by_hand(path, [first, second, text])
    with pytest.raises(JournalDamaged, match=r"event 3 in the journal .* can't be read|the journal .* can't be read: "):
        read(path)


@pytest.mark.parametrize(
    ("first", "last", "named"), [(50, 50, "1 and 2,000"), (2_001, 6_000, "2,001 and 8,000")], ids=["one", "thousands"]
)
def test_missing_events_are_named(path: Path, first: int, last: int, named: str) -> None:
    """Somebody deleted them, perhaps more than are read at once."""
    write(path, make_events(1, 9_000))
    edit(path, f"DELETE FROM events WHERE seq BETWEEN {first} AND {last}")
    with pytest.raises(JournalDamaged, match=f"lacks events between {named}"):
        read(path)


def test_damaged_page_is_an_error_wherever_it_is_met(path: Path) -> None:
    """By reading on, from the end, or single events: each time one clear line."""
    write(path, make_events(1, 20_000))
    data = bytearray(path.read_bytes())
    for page in range(4, len(data) // 8192):
        data[page * 8192 : page * 8192 + 64] = b"\xff" * 64
    path.write_bytes(data)
    for reading in (read, start_near_end, read_again):
        with pytest.raises(JournalDamaged) as caught:
            reading(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def start_near_end(path: Path) -> None:
    """Begin near the end of a journal."""
    with closing(open_history(str(path))) as history:
        history.start_near_end(10)
        history.read_lines()


def read_again(path: Path) -> None:
    """Read some events of a journal by their numbers."""
    with closing(open_history(str(path))) as history:
        history.events_at([1, 10_000])


def test_journal_that_is_cut_short_is_refused(path: Path) -> None:
    """Half a file is no journal."""
    write(path, make_events(1, 20_000))
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(JournalDamaged, match="is truncated"):
        open_history(str(path))


def test_newer_journal_is_refused(path: Path) -> None:
    """Whether a newer aqueue began the run or went on with it."""
    events = [event for event in every_event_type() if event.event.startswith("run.")]
    texts = [encode(event).decode().replace('"schema_version":1', '"schema_version":9') for event in events]
    first = encode(make_events(1, 1)[0]).decode()
    resumed = next(text for text in texts if "run.resumed" in text)
    write_by_hand(path, [first, resumed])
    with pytest.raises(JournalTooNew, match="upgrade aqueue"):
        read(path)
    path.unlink()
    write_by_hand(path, [texts[0]])
    with pytest.raises(JournalTooNew, match="upgrade aqueue"):
        open_history(str(path))


def test_journal_without_an_event(path: Path) -> None:
    """As it is in the moment before a run begins: nothing to read yet, and no error; an empty file is one."""
    Journal.create(path).close()
    with closing(open_history(str(path))) as history:
        assert history.read() is None
        assert not history.start_near_end(10)
        assert history.read_lines() is None
    path.write_bytes(b"")
    with pytest.raises(CannotRead, match="is empty: nothing is recorded there yet"):
        read(path)


@pytest.mark.parametrize(
    "events", [every_event_type(), interrupted(), with_retries(5)], ids=["every", "stop", "retries"]
)
def test_scripted_run_comes_back_from_a_journal(path: Path, events: list[Event]) -> None:
    """Every type of event."""
    write(path, events)

    assert read(path) == events
