"""A run is resumed the same with its snapshots, without them, and with damaged ones.

`_delivery.snapshots` makes them from `_folds.snapshot`, which has the `_folds.waiting_items`; `_journal.snapshots` keeps them.
"""

import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqueue import Backend, EnqueueFn, Item, ItemFailures, SetDescFn, run_queue
from aqueue._delivery import snapshots
from aqueue._delivery.snapshots import Snapshots
from aqueue._folds import snapshot
from aqueue._folds.recording import Recording
from aqueue._folds.snapshot import GROWING, Folds
from aqueue._folds.waiting_items import PAGE_ITEMS
from aqueue._journal.snapshots import read_snapshots
from aqueue._journal.writer import Journal
from aqueue._resume.past import fold_recorded, read_past
from aqueue.errors import JournalDamaged, JournalError
from aqueue.events import ErrorInfo, Event, ItemCompleted, ItemEnqueued, ItemFailed, ItemStarted, RunStarted
from aqueue.view import RunView
from tests.cli.test_explain import CrashingRun
from tests.journal.writing import write


def folded(path: Path) -> Folds:
    """Return the state of the run in a journal, as a resume reads it."""
    journal = Journal.open(path)
    try:
        return fold_recorded(journal)
    finally:
        journal.close()


def change(path: Path, sql: str, *arguments: object) -> None:
    """Change a journal as somebody with SQLite would."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(sql, arguments)
        connection.commit()


def seqs(path: Path) -> list[int]:
    """Return the events at which the usable snapshots were made, the last first."""
    with closing(sqlite3.connect(path)) as connection:
        return [seq for seq, parts in read_snapshots(connection, GROWING) if list(parts)]


def of_all(events: list[Event]) -> Folds:
    """Return what all events make, without a snapshot."""
    folds = Folds()
    folds.apply(events)
    return folds


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_with_and_without_snapshots(seed: int) -> None:
    """The events of crashing runs, written by several processes in batches of any size."""
    random = Random(seed)
    events = CrashingRun(random).script.events
    cuts = sorted(random.sample(range(1, len(events) + 1), k=min(len(events), random.randint(1, 6))))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run.db"
        for begin, end in zip([0, *cuts], [*cuts, len(events)], strict=True):
            write(path, events[begin:end])
            whole = of_all(events[:end])
            folds = folded(path)
            assert folds.recording.at_end() == whole.recording.at_end()
            assert folds.view == whole.view
            if end - begin >= snapshots._MIN_EVENTS_AT_END:
                assert folds.snapshot_seq == end
            change(path, "DELETE FROM snapshots WHERE random() % 5 = 0")  # a resume uses another, or none
            again = folded(path)
            assert again.recording.at_end() == whole.recording.at_end()
            assert again.view == whole.view


def large_run() -> list[Event]:
    """Return events of a run with everything that a snapshot has: several pages, keys, results, what has failed."""
    events: list[Event] = [RunStarted(1, 1.0, "run", 2, "1", 5, "queue", 1, "host")]

    def add(cls: Callable[..., Event], **fields: object) -> None:
        events.append(cls(len(events) + 1, 1.0 + len(events), **fields))

    for item in range(1, 3 * PAGE_ITEMS):
        add(
            ItemEnqueued,
            item=item,
            parent=0,
            type="T" if item % 3 else "U",
            key=str(item) if item % 2 else None,
            hook=item % 7 == 0,
        )
    add(ItemEnqueued, item=3 * PAGE_ITEMS, parent=2, type="T")
    for item in range(1, 2 * PAGE_ITEMS):
        add(ItemStarted, item=item, type="T" if item % 3 else "U", worker=1)
        if item % 11 == 0:
            add(
                ItemFailed,
                item=item,
                type="T" if item % 3 else "U",
                worker=1,
                duration_s=1.0,
                error=ErrorInfo("E", "m"),
            )
        else:
            result = {"result": msgspec.Raw(b"1")} if item % 5 == 0 else {}
            add(ItemCompleted, item=item, worker=1, duration_s=1.0, **result)
    add(ItemStarted, item=2 * PAGE_ITEMS, type="T", worker=1)
    return events


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a journal with a large run, two snapshots, and events after them."""
    path = tmp_path_factory.mktemp("snapshots") / "run.db"
    events = large_run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshots, "_MIN_EVENTS", 10**6)
        for begin, end in ((0, 4_000), (4_000, 6_000), (6_000, 6_010)):
            patch.setattr(snapshots, "_MIN_EVENTS_AT_END", 100 if end != 6_010 else 10**6)
            write(path, events[begin:end])
    assert seqs(path) == [6_000, 4_000]
    return path


@pytest.fixture
def copy(journal: Path, tmp_path: Path) -> Path:
    """Return a copy of that journal."""
    path = tmp_path / "run.db"
    path.write_bytes(journal.read_bytes())
    return path


def check(path: Path, snapshot_seq: int) -> None:
    """Check that a resume uses this snapshot, and gets what all events make."""
    folds = folded(path)
    whole = of_all(large_run()[:6_010])
    assert folds.snapshot_seq == snapshot_seq
    assert folds.recording.at_end() == whole.recording.at_end()
    assert folds.view == whole.view


def test_the_last_snapshot_is_used(copy: Path) -> None:
    """And the events after it."""
    check(copy, 6_000)


@pytest.mark.parametrize("name", ["head", "view", "records", "pages", "keys", "roots", "root_results", "last"])
@pytest.mark.parametrize("how", ["cut", "flipped", "missing", "emptied", "text", "nothing"])
def test_a_damaged_part(copy: Path, name: str, how: str) -> None:
    """The snapshot before is used, or none if both need the part."""
    with closing(sqlite3.connect(copy)) as connection:
        (seq, part, data) = connection.execute(
            "SELECT seq, part, data FROM snapshots WHERE name = ? ORDER BY seq DESC", (name,)
        ).fetchone()
    at = len(data) // 2
    changed: object = {
        "cut": data[:at],
        "flipped": data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :],
        "emptied": b"",
        "text": "text",
        "nothing": zlib.compress(b""),
    }.get(how)
    if how == "nothing" and name in GROWING:
        return  # only somebody who knows how they are written can have done that
    if how == "missing":
        change(copy, "DELETE FROM snapshots WHERE seq = ? AND part = ?", seq, part)
    else:
        change(copy, "UPDATE snapshots SET data = ? WHERE seq = ? AND part = ?", changed, seq, part)
    check(copy, 4_000 if seq == 6_000 else 0)  # all keys are in the first one


@pytest.mark.parametrize("name", GROWING)
def test_a_part_that_all_snapshots_need(copy: Path, name: str) -> None:
    """Without it neither is used."""
    change(copy, "DELETE FROM snapshots WHERE seq = 4000 AND name = ?", name)
    check(copy, 0)


def test_no_snapshot_at_all(copy: Path) -> None:
    """The table may be emptied at any time."""
    change(copy, "DELETE FROM snapshots")
    check(copy, 0)


def test_a_snapshot_of_another_version(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer or older aqueue may have folded something else."""
    monkeypatch.setattr(snapshot, "_this", lambda: ("0", 1, "little"))
    check(copy, 0)


def test_a_snapshot_of_another_journal(copy: Path, tmp_path: Path) -> None:
    """The event at which it was made is another one here."""
    other = tmp_path / "other.db"
    events = [msgspec.structs.replace(event, at=event.at + 1_000) for event in large_run()[:6_010]]
    write(other, events)
    change(other, "DELETE FROM snapshots")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("ATTACH ? AS copied", (str(copy),))
        connection.execute("INSERT INTO snapshots SELECT * FROM copied.snapshots")
        connection.commit()
    folds = folded(other)
    assert folds.snapshot_seq == 0
    assert folds.recording.at_end() == of_all(events).recording.at_end()


def test_events_that_are_gone(copy: Path) -> None:
    """A snapshot of events that the journal has lost isn't used."""
    change(copy, "DELETE FROM events WHERE seq > 5000")
    folds = folded(copy)
    assert folds.snapshot_seq == 4_000
    assert folds.recording.at_end() == of_all(large_run()[:5_000]).recording.at_end()


def test_a_snapshot_that_does_not_fit_what_follows(copy: Path) -> None:
    """One that a bug has made wrong is not used, if the events after it show it; the one before is."""
    with closing(sqlite3.connect(copy)) as connection:
        parts = connection.execute("SELECT part FROM snapshots WHERE seq = 6000 AND name = 'pages'").fetchall()
    for (part,) in parts:
        nothing = zlib.compress(msgspec.msgpack.encode([]))
        change(copy, "UPDATE snapshots SET data = ? WHERE seq = 6000 AND part = ?", nothing, part)
    check(copy, 4_000)


def test_two_snapshots_are_kept(copy: Path) -> None:
    """And of those before them, only what later ones need."""
    events = large_run()
    for begin, end in ((6_010, 6_100), (6_100, 6_200)):
        write(copy, events[begin:end])
        assert seqs(copy)[0] == end
    with closing(sqlite3.connect(copy)) as connection:
        kept = {seq for (seq,) in connection.execute("SELECT DISTINCT seq FROM snapshots WHERE name = 'last'")}
        older = connection.execute("SELECT DISTINCT name FROM snapshots WHERE seq < ?", (min(kept),)).fetchall()
    assert len(kept) == 2
    assert {name for (name,) in older} == set(GROWING)
    assert folded(copy).recording.at_end() == of_all(events[:6_200]).recording.at_end()


def test_what_was_not_finished_goes(copy: Path) -> None:
    """A process was killed while it wrote a snapshot; the next one begins where the last whole one ends."""
    change(copy, "DELETE FROM snapshots WHERE seq = 6000 AND name = 'last'")
    events = large_run()
    write(copy, events[6_010:])
    assert folded(copy).recording.at_end() == of_all(events).recording.at_end()
    assert seqs(copy)[0] == len(events)
    assert 6_000 not in seqs(copy)


class Table:
    """Stands where a writer of snapshots does; notes what it is given."""

    def __init__(self, fails: int = 0) -> None:
        self.written: dict[int, set[str]] = {}
        self.tried: list[int] = []
        self._fails = fails

    def write(self, seq: int, parts: Iterable[tuple[str, bytes]]) -> None:
        self.tried.append(seq)
        if self._fails:
            self._fails -= 1
            raise sqlite3.OperationalError("database is locked")
        self.written[seq] = {name for name, _ in parts}


def snapshots_of(table: Table, events: list[Event], batch: int, folds: Folds | None = None) -> None:
    """Have snapshots made of `events`, which come in batches."""
    maker = Snapshots(table, Folds() if folds is None else folds)  # type: ignore[arg-type]
    for begin in range(0, len(events), batch):
        maker.apply(events[begin : begin + batch])
    maker.apply([], is_last=True)


def test_how_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many events, or so many per live item if that is more; at the end, after fewer."""
    monkeypatch.setattr(snapshots, "_MIN_EVENTS", 100)
    monkeypatch.setattr(snapshots, "_MIN_EVENTS_AT_END", 20)
    events = large_run()
    for per_item, expected in ((0, [100, 200, 300]), (2, [310])):
        monkeypatch.setattr(snapshots, "_EVENTS_PER_ITEM", per_item)
        table = Table()
        snapshots_of(table, events[:310], 10)
        assert list(table.written) == expected
    table = Table()
    snapshots_of(table, events[:15], 5)
    assert not table.written


def test_a_process_that_begins_behind_makes_one_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process before was killed: what it did needn't be folded by the next resume, too."""
    monkeypatch.setattr(snapshots, "_MIN_EVENTS", 10**6)
    monkeypatch.setattr(snapshots, "_MIN_EVENTS_AT_END", 50)
    events = large_run()
    for done, expected in ((60, [61]), (40, [])):
        table = Table()
        snapshots_of(table, events[done : done + 1], 1, of_all(events[:done]))
        assert table.tried == expected


def test_a_table_that_cannot_be_written(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program has locked it, say: the next snapshot is tried later, and has all that this one would have had."""
    monkeypatch.setattr(snapshots, "_MIN_EVENTS", 50)
    table = Table(fails=1)
    snapshots_of(table, large_run()[:200], 10)
    assert table.tried == [50, 100, 150, 200]
    assert "keys" in table.written[100]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("statement", ["DELETE", "INSERT", "COMMIT"])
@pytest.mark.parametrize("at", range(1, 5))
def test_a_statement_that_fails(tmp_path: Path, statement: str, at: int) -> None:
    """Whichever it is, nothing is lost or counted twice: the next snapshot is right."""
    path = tmp_path / "run.db"
    events = large_run()
    journal = Journal.open(path)
    journal.begin_writing()
    connection = _Failing(journal._connection, statement, at)
    journal._connection = connection  # type: ignore[assignment]
    maker = Snapshots(journal.snapshot_writer(GROWING, 0), Folds())
    for begin in range(0, 400, 40):
        connection.is_armed = False
        journal.write(events[begin : begin + 40])
        connection.is_armed = True
        maker.apply(events[begin : begin + 40])
    journal.close()
    folds = folded(path)
    assert folds.snapshot_seq >= 320
    assert folds.recording.at_end() == of_all(events[:400]).recording.at_end()


class _Failing:
    """A connection of which one statement fails: the one that is the `at`-th of its kind."""

    def __init__(self, connection: sqlite3.Connection, statement: str, at: int) -> None:
        self._connection = connection
        self._statement = statement
        self._left = at
        self.is_armed = False

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        if self.is_armed and sql.startswith(self._statement):
            self._left -= 1
            if not self._left:
                raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(sql, parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def test_a_log_that_is_cut_after_a_snapshot_stops_the_run(tmp_path: Path) -> None:
    """As after any other commit: what comes later would be lost."""
    path = tmp_path / "run.db"
    events = large_run()
    journal = Journal.open(path)
    journal.begin_writing()
    maker = Snapshots(journal.snapshot_writer(GROWING, 0), Folds())
    journal.write(events[:40])
    size = Path(f"{path}-wal").stat().st_size
    maker.apply(events[:40])
    assert Path(f"{path}-wal").stat().st_size > size
    os.truncate(f"{path}-wal", size)
    with pytest.raises(JournalError, match="was truncated by another program"):
        journal.write(events[40:80])
    journal.close()


def test_a_missing_event_of_a_live_item_is_named(copy: Path) -> None:
    """The snapshot doesn't hide it."""
    live = next(one for one in folded(copy).recording.at_end().live.values() if one.id)
    change(copy, "DELETE FROM events WHERE seq = ?", live.enqueued_seq)
    journal = Journal.open(copy)
    with pytest.raises(JournalDamaged, match=f"lacks event {live.enqueued_seq:,}"):
        read_past(journal, lambda: None)
    journal.close()


def test_a_journal_that_sqlite_itself_makes_smaller(tmp_path: Path, backend: Backend) -> None:
    """With auto_vacuum, SQLite truncates the file when old snapshots leave pages free."""
    path = tmp_path / "run.db"
    journal = Journal.open(path)
    journal.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA auto_vacuum = FULL")
        connection.execute("VACUUM")
        connection.execute("INSERT INTO snapshots VALUES (99, 0, 'old', zeroblob(5000000))")
        connection.commit()
    result = run_queue(roots(), resume=path, reporter="none", backend=backend)
    assert result.status == "completed"
    assert path.stat().st_size < 4_000_000


@pytest.mark.parametrize("error", [KeyError, MemoryError])
def test_a_fold_that_fails_ends_no_run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Snapshots end, once, with a warning: what was folded halfway must not be written. Only spilled items can't be found."""
    maker = Snapshots(Table(), Folds())  # type: ignore[arg-type]

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(RunView, "apply", fail)
    for _ in range(2):
        maker.apply([RunStarted(1, 1.0, "run", 2, "0", 1, "queue", 1, "host")])
    maker.apply([], is_last=True)
    assert capfd.readouterr().err.count("no more snapshots are made") == 1
    with pytest.raises(JournalError, match="nothing is lost"):
        maker.recording.announced_by([1])


def test_items_are_kept_in_pages_only_while_that_is_less() -> None:
    """Of a million items, each of which ends before the one after the next begins, no page is left behind."""
    recording = Recording()
    events = large_run()[:1]
    recording.apply(events)
    for item in range(1, 40_000):
        seq = 3 * item
        batch: list[Event] = [ItemEnqueued(seq, 1.0, item, 0, "T"), ItemStarted(seq + 1, 1.0, item, "T", 1)]
        if item % 500:  # the others keep running
            batch.append(ItemCompleted(seq + 2, 1.0, item, 1, 1.0))
        recording.apply(batch)
    assert len(recording.waiting.pages) <= 1
    assert recording.num_live == 39_999 // 500
    assert {one.running for one in recording.at_end().live.values()} == {None, "process"}


class Keyed(Item):
    """A third of these fail in each of the first three processes."""

    salt = 3

    def __init__(self, number: int, depth: int) -> None:
        self.number = number
        self.depth = depth

    @property
    def key(self) -> str:
        return f"{self.depth}/{self.number}"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
        for number in range(self.number) if self.depth else ():
            enqueue(Keyed(number, self.depth - 1))
        if zlib.crc32(self.key.encode()) % 3 == Keyed.salt:
            raise ValueError(self.key)
        return self.number

    async def after_children_processed(self) -> int:
        return self.number + 1


def roots() -> Iterator[Item]:
    """Yield the initial items."""
    return (Keyed(number, 2) for number in range(1, 12))


@pytest.mark.parametrize("has_snapshots", [True, False])
def test_runs_with_failures_resumed(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch, has_snapshots: bool
) -> None:
    """Results, keys and counts in the end are those of a run that never failed."""
    path = tmp_path / "run.db"
    result = None
    for salt in range(4):
        monkeypatch.setattr(Keyed, "salt", salt)
        with suppress(ItemFailures):
            result = run_queue(roots(), resume=path, reporter="none", on_error="continue", backend=backend)
        if not has_snapshots:
            change(path, "DELETE FROM snapshots")
    plain = run_queue(roots(), reporter="none", backend=backend)
    assert result is not None
    assert result.root_results == plain.root_results
    assert result.counts.completed == plain.counts.completed
    assert result.counts.enqueued == plain.counts.enqueued
    assert bool(seqs(path)) == has_snapshots
