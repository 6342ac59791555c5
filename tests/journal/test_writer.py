"""What is written is what happened: every byte, in order, up to some event; and nothing is called saved that isn't."""

import json
import os
import queue
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, Struct
from msgspec.structs import fields, replace

from aqueue._journal import check as journal_check
from aqueue._journal import file as journal_file
from aqueue._journal import reader as journal_reader
from aqueue._journal.writer import Journal
from aqueue._stream.event_stream import BATCH_EVENTS
from aqueue.errors import JournalDamaged, JournalError, JournalTooNew
from aqueue.events import EVENT_TYPES, NO_DATA, Event, ItemEnqueued, RunResumed, RunStarted, encode
from tests.journal.writing import DEADLINE_S, Source, make_events, recorded, wait, write

ROOT = Path(__file__).parents[2]
START = RunStarted(1, 1.0, "run", 1, "0", 5, "queue", 1, "host")

HOSTILE = [
    Raw(text.encode())
    for text in (
        '{"a":1e22,"b":-0.0,"c":0.1000000000000000055,"d":12345678901234567890123,"e":1E+2,"f":-0}',
        r'{"a":"\u0000\ud83d\ude00\u00e9\/\b","b":"é漢😀\u2028","":""}',
        '[ 1,\n  {"spaced" : [ ] } ]',
        '{"same":1,"same":2}',
        "[" * 500 + "]" * 500,
        '"\\""',
        "null",
    )
]

_json = st.sampled_from([NO_DATA, *HOSTILE]) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
).map(lambda value: Raw(json.dumps(value, ensure_ascii=False).encode()))


def _value(annotation: Any) -> st.SearchStrategy[Any]:
    if annotation is Raw:
        return _json
    if annotation is int:
        return st.integers(-(2**63), 2**63 - 1)
    if annotation is float:
        return st.floats(allow_nan=False, allow_infinity=False)  # these two are no JSON
    if annotation == float | None:
        return st.none() | _value(float)
    if isinstance(annotation, type) and issubclass(annotation, Struct):
        return _structs(annotation)
    return st.from_type(annotation)


def _structs(cls: type[Any]) -> st.SearchStrategy[Any]:
    return st.builds(cls, **{field.name: _value(field.type) for field in fields(cls)})


def _numbered(events: list[Event]) -> list[Event]:
    numbered: list[Event] = [START]
    for seq, event in enumerate(events, 2):
        event = replace(event, seq=seq)
        numbered.append(replace(event, schema_version=1) if isinstance(event, RunStarted) else event)
    return numbered


numbered_events = st.lists(st.one_of([_structs(cls) for cls in EVENT_TYPES.values()]), max_size=30).map(_numbered)


@settings(max_examples=60)
@given(numbered_events)
def test_each_row_is_the_encoded_event(events: list[Event]) -> None:
    """Whatever the events are, their rows are byte for byte what `encode` gives, and are read back equal."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.db"
        write(path, events)
        connection = sqlite3.connect(path)
        connection.text_factory = bytes
        rows = connection.execute("SELECT seq, event, typeof(event) FROM events ORDER BY seq").fetchall()
        connection.close()
        assert rows == [(event.seq, encode(event), b"text") for event in events]
        assert [encode(event) for event in recorded(path)] == [encode(event) for event in events]


def test_the_json_of_items_is_kept_to_the_byte(tmp_path: Path) -> None:
    """Numbers, escapes, spaces, newlines and nesting in payloads and results stay as they were written."""
    events: list[Event] = [
        START,
        *(ItemEnqueued(n, 2.0, n - 1, 0, "T", payload=raw) for n, raw in enumerate(HOSTILE, 2)),
    ]
    write(tmp_path / "run.db", events)
    assert [encode(event) for event in recorded(tmp_path / "run.db")] == [encode(event) for event in events]


@pytest.mark.parametrize("count", [1, 2, 3, 1_023, 1_024, 1_025, 2_047, BATCH_EVENTS, BATCH_EVENTS + 1, 25_001])
def test_batches_of_any_size_are_written_whole(count: int, tmp_path: Path) -> None:
    """However many events come at once, all are written, in order."""
    write(tmp_path / "run.db", make_events(1, count))
    assert recorded(tmp_path / "run.db") == make_events(1, count)


def test_a_journal_goes_on_where_it_ended(tmp_path: Path) -> None:
    """Each process appends to what the one before it wrote."""
    for first in (1, 101, 201):
        journal = Journal.open(tmp_path / "run.db")
        assert (journal.last_seq, journal.is_new) == (first - 1, first == 1)
        journal.close()
        write(tmp_path / "run.db", make_events(first, first + 99))
    assert recorded(tmp_path / "run.db") == make_events(1, 300)


def test_events_are_read_in_lists_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first on, or after any other."""
    write(tmp_path / "run.db", make_events(1, 1_000))
    journal = Journal.open(tmp_path / "run.db")
    for size in (1, 7, 1_000, 5_000):
        monkeypatch.setattr(journal_reader, "_READ_EVENTS", size)
        for after in (0, 1, 500, 999, 1_000):
            assert [event for batch in journal.recorded(after=after) for event in batch] == make_events(
                after + 1, 1_000
            )
    journal.close()


def _change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()


def test_unknown_event_types_are_left_out_on_reading(tmp_path: Path) -> None:
    """Events of a type that this aqueue doesn't know are no error."""
    path = tmp_path / "run.db"
    write(path, make_events(1, 100))
    _change(path, """UPDATE events SET event = '{"event":"item.sung","seq":50,"at":1.5,"tune":"x"}' WHERE seq = 50""")
    assert [event.seq for event in recorded(path)] == [seq for seq in range(1, 101) if seq != 50]


@pytest.mark.parametrize("text", ["{", "", "[]", '{"event":"item.started","seq":50}', "x'00ff'", '1},{"event":1'])
def test_an_event_that_cannot_be_read_is_named(text: str, tmp_path: Path) -> None:
    """A garbled row is an error that says which one it is."""
    path = tmp_path / "run.db"
    write(path, make_events(1, 100))
    _change(path, f"UPDATE events SET event = '{text.replace(chr(39), chr(39) * 2)}' WHERE seq = 50")
    with pytest.raises(JournalDamaged, match="event 50 "):
        recorded(path)


def test_missing_events_are_named(tmp_path: Path) -> None:
    """A hole in the numbers is an error: what came after it may not be relied on."""
    path = tmp_path / "run.db"
    write(path, make_events(1, 100))
    _change(path, "DELETE FROM events WHERE seq = 50")
    with pytest.raises(JournalDamaged, match="lacks events"):
        recorded(path)


def test_a_journal_that_a_newer_aqueue_went_on_with_is_refused(tmp_path: Path) -> None:
    """Also when an older aqueue had begun it."""
    resumed = RunResumed(2, 2.0, "run", 999, "9", 5, "queue", 1, "host")
    write(tmp_path / "run.db", [START, resumed])
    with pytest.raises(JournalTooNew, match="version 999"):
        recorded(tmp_path / "run.db")


def test_flush_returns_when_all_is_saved(tmp_path: Path) -> None:
    """What there was at `flush` can be read by others once it calls back, and the journal says so before."""
    journal = Journal.open(tmp_path / "run.db")
    source = Source([])
    source.start(journal)
    reader = journal_check.connect_read_only(journal.path)
    for last in range(10, 200, 10):
        source.events.extend(make_events(last - 9, last))
        wait(source.flush)
        assert source.committed == make_events(1, last)
        assert reader.execute("SELECT max(seq) FROM events").fetchone() == (last,)
    reader.close()
    assert source.close(DEADLINE_S)


class FastRun(Source):
    """Makes 3,000 events each time when some are taken, until there are `end` of them."""

    def __init__(self, waiting: int) -> None:
        super().__init__(make_events(1, waiting))
        self.made, self.end = waiting, 300_000
        self.may_be_taken = threading.Event()

    def take(self, most: int | None = None) -> list[Event]:
        assert self.may_be_taken.wait(DEADLINE_S)
        if self.made < self.end:
            self.events.extend(make_events(self.made + 1, self.made + 3_000))
            self.made += 3_000
        return super().take(most)


@pytest.mark.parametrize("waiting", [1, BATCH_EVENTS, 3 * BATCH_EVENTS])
def test_flush_does_not_wait_for_the_later_events_of_a_fast_run(tmp_path: Path, waiting: int) -> None:
    """It calls back once what there was is saved, while the run goes on: the answer to a command waits for that."""
    journal = Journal.open(tmp_path / "run.db")
    source = FastRun(waiting)
    saved: list[int] = []

    def on_saved() -> None:
        saved.append(len(source.committed))
        source.end = 0

    source.start(journal)
    source.flush(on_saved)
    source.may_be_taken.set()
    assert source.close(DEADLINE_S)
    assert waiting <= saved[0] <= waiting + BATCH_EVENTS


def test_any_thread_may_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many flushes from many threads at once, each is called back, and once."""
    monkeypatch.setattr("aqueue._delivery.journal_thread.COMMIT_INTERVAL_S", 0.0)  # the writer looks all the time
    interval = sys.getswitchinterval()
    journal = Journal.open(tmp_path / "run.db")
    source = Source([])
    source.start(journal)
    calls: queue.SimpleQueue[int] = queue.SimpleQueue()

    def flush_often(number: int) -> None:
        for _ in range(500):
            source.flush(partial(calls.put, number))

    threads = [threading.Thread(target=flush_often, args=(number,)) for number in range(4)]
    try:
        sys.setswitchinterval(1e-6)
        for thread in threads:
            thread.start()
        called = Counter(calls.get(timeout=DEADLINE_S) for _ in range(4 * 500))
    finally:
        sys.setswitchinterval(interval)
    assert called == dict.fromkeys(range(4), 500)
    for thread in threads:
        thread.join()
    assert source.close(DEADLINE_S)
    assert calls.empty()


def test_a_busy_file_is_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another program is writing to the file the journal waits, says so once, and loses nothing."""
    monkeypatch.setattr(journal_file, "BUSY_TIMEOUT_S", 0.01)
    journal = Journal.open(tmp_path / "run.db")
    other = sqlite3.connect(journal.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    source = Source(make_events(1, 100))
    said = threading.Event()

    def say(message: str) -> None:
        print(message)
        said.set()

    monkeypatch.setattr("aqueue._journal.writer.warn", say)
    source.start(journal)
    assert said.wait(DEADLINE_S)
    assert not source.close(0.1)
    assert not source.committed
    other.execute("ROLLBACK")
    other.close()
    assert source.close(DEADLINE_S)
    assert source.committed == make_events(1, 100)
    assert capsys.readouterr().out.count("is being written by another program") == 1


# ---- crashes --------------------------------------------------------------------------------------------------------


def test_a_killed_writer_leaves_a_prefix(tmp_path: Path) -> None:
    """After SIGKILL at any time all that was said to be saved is there, without a hole, and the next process goes on."""
    path = tmp_path / "run.db"
    seed = random.Random(3)
    events: list[Event] = []
    last = 0
    for _ in range(12):
        writer = subprocess.Popen(
            [sys.executable, "-m", "tests.journal.writer", str(path), str(seed.choice([1, 40, 3_000]))],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        for _ in range(seed.randint(0, 6)):
            writer.stdout.readline()
        threading.Event().wait(seed.random() * 0.01)
        writer.send_signal(signal.SIGKILL)
        said = writer.communicate(timeout=DEADLINE_S)[0].split()
        events = recorded(path)
        assert len(events) >= max(last, *(int(number) for number in said if number.isdigit()), 0)
        last = len(events)
    assert last > 100
    assert events == make_events(1, last)


# ---- faults ---------------------------------------------------------------------------------------------------------


def _write_until_it_fails(journal: Journal, events: list[Event], batch_events: int = 50) -> Source:
    source = Source(list(events))
    source.batch_events = batch_events
    source.start(journal)
    while source.events:
        wait(source.flush)
    source.events.extend(make_events(len(events) + 1, len(events) + 10))  # comes too late: dropped, not saved
    wait(source.flush)
    assert source.close(DEADLINE_S)
    return source


@pytest.mark.parametrize("nth", range(1, 12))
def test_a_full_file_at_any_write(nth: int, tmp_path: Path) -> None:
    """When the n-th write finds no room it is said once, with the cause; all writes before it can be read and gone on with."""
    path = tmp_path / "run.db"
    journal = Journal.open(path)
    (pages,) = journal._connection.execute("PRAGMA page_count").fetchone()
    journal._connection.execute(f"PRAGMA max_page_count = {pages + nth}")
    source = _write_until_it_fails(journal, make_events(1, 2_000))
    (error,) = source.errors
    assert "full; free some space" in str(error)
    assert f"resume={str(path)!r}" in str(error)
    assert recorded(path) == source.committed == make_events(1, len(source.committed))
    write(path, make_events(len(source.committed) + 1, 2_000))
    assert recorded(path) == make_events(1, 2_000)


LIMITED = """
import resource, signal, sys
from aqueue._journal.writer import Journal
from tests.journal.writing import DEADLINE_S, Source, make_events, wait

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal.open(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
source = Source(make_events(1, 4_000))
source.batch_events = 50
source.start(journal)
wait(source.flush)
while source.events:
    wait(source.flush)
source.close(DEADLINE_S)
print(len(source.committed))
print(len(source.errors), source.errors[0])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit of file size")
@pytest.mark.parametrize("nth", range(12))
def test_an_input_output_error_at_any_write(nth: int, tmp_path: Path) -> None:
    """When the system refuses the n-th write (here by a limit of file size) all writes before it are there."""
    path = tmp_path / "run.db"
    said = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), str(20_000 + nth * 9_000)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert said.returncode == 0, said.stderr
    committed, error = said.stdout.splitlines()
    assert error.startswith("1 ")
    assert "a disk read or write failed" in error or "full; free some space" in error
    assert recorded(path) == make_events(1, int(committed))
    write(path, make_events(int(committed) + 1, 4_000))


def test_a_full_disk(tmp_path: Path) -> None:
    """On a disk that is really full the error says so, and after making room the run can go on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a small disk")
    try:
        filler = disk / "filler"
        filler.write_bytes(bytes(300_000))
        source = _write_until_it_fails(Journal.open(disk / "run.db"), make_events(1, 4_000))
        (error,) = source.errors
        assert "full; free some space" in str(error)
        filler.unlink()
        assert recorded(disk / "run.db") == source.committed == make_events(1, len(source.committed))
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(bytes(1_000_000))
        with pytest.raises(JournalError, match=r"free some space|No space"):
            Journal.create(disk / "new.db")
        assert not (disk / "new.db").exists()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("victim", ["run.db", "run.db-wal"])
def test_a_journal_that_is_removed_while_it_is_written(victim: str, tmp_path: Path) -> None:
    """The system lets one write to a removed file for ever; the journal notices and calls nothing saved."""
    journal = Journal.open(tmp_path / "run.db")
    source = Source(make_events(1, 10))
    source.start(journal)
    wait(source.flush)
    (tmp_path / victim).unlink()
    source.events.extend(make_events(11, 20))
    wait(source.flush)
    assert source.close(DEADLINE_S)
    (error,) = source.errors
    assert "was removed or replaced" in str(error)
    assert source.committed == make_events(1, 10)


def test_a_journal_that_is_cut_short_while_it_is_written(tmp_path: Path) -> None:
    """By a shell's redirection, say: SQLite would write on, and nothing of it could be read."""
    path = tmp_path / "run.db"
    journal = Journal.open(path)
    source = Source(make_events(1, 10))
    source.start(journal)
    wait(source.flush)
    os.truncate(path, 0)
    source.events.extend(make_events(11, 20))
    wait(source.flush)
    assert source.close(DEADLINE_S)
    (error,) = source.errors
    assert "to 0 bytes by another program" in str(error)
    assert source.committed == make_events(1, 10)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.5], ids=["emptied", "no header", "half"])
def test_a_log_that_is_cut_short_while_it_is_written(tmp_path: Path, share: float) -> None:
    """As ``: > run.db-wal`` does it: SQLite would go on behind the hole, and copy zeros into the file at the end.

    What the file has and what is whole in the log is there for a resume.
    """
    path = tmp_path / "run.db"
    write(path, make_events(1, 100))
    journal = Journal.open(path)
    source = Source([])
    source.start(journal)
    for last in range(200, 2_100, 100):
        source.events.extend(make_events(last - 99, last))
        wait(source.flush)
    log = tmp_path / "run.db-wal"
    os.truncate(log, int(log.stat().st_size * share))
    source.events.extend(make_events(2_001, 2_010))
    wait(source.flush)
    assert source.close(DEADLINE_S)
    (error,) = source.errors
    assert "run.db-wal was truncated by another program" in str(error)
    assert source.committed == make_events(101, 2_000)
    rest = recorded(path)
    assert rest == make_events(1, len(rest))
    assert len(rest) > 800 if share == 0.5 else len(rest) == 100
    write(path, make_events(len(rest) + 1, 2_100))


def test_a_log_that_is_cut_short_while_a_commit_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at the log and the end of the commit."""
    path = tmp_path / "run.db"
    write(path, make_events(1, 100))
    journal = Journal.open(path)
    source = Source(make_events(101, 2_000))
    source.start(journal)
    wait(source.flush)
    monkeypatch.setattr(journal, "_check_log", lambda: os.truncate(f"{path}-wal", 0))
    source.events.extend(make_events(2_001, 2_010))
    wait(source.flush)
    assert source.close(DEADLINE_S)
    (error,) = source.errors
    assert "run.db-wal was truncated by another program" in str(error)
    assert recorded(path) == make_events(1, 100)


def test_a_log_that_another_connection_empties_just_after_a_commit_is_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the run has looked at what it committed."""
    path = tmp_path / "run.db"
    journal = Journal.open(path)
    source = Source([])
    check_place = journal._check_place

    def empty_before() -> None:
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        check_place()

    monkeypatch.setattr(journal, "_check_place", empty_before)
    source.start(journal)
    for last in (100, 200, 300):
        source.events.extend(make_events(last - 99, last))
        wait(source.flush)
    assert source.close(DEADLINE_S)
    assert source.errors == []
    assert recorded(path) == make_events(1, 300)


def test_a_log_that_can_not_be_looked_at_is_no_reason_to_stop(tmp_path: Path) -> None:
    """The program may have used up its file descriptors; SQLite has the file open."""
    journal = Journal.open(tmp_path / "run.db")
    source = Source([])
    source.start(journal)
    source.events.extend(make_events(1, 100))
    wait(source.flush)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        source.events.extend(make_events(101, 200))
        wait(source.flush)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert source.close(DEADLINE_S)
    assert source.errors == []
    assert recorded(tmp_path / "run.db") == make_events(1, 200)


@pytest.mark.parametrize("mode", ["TRUNCATE", "RESTART"])
def test_a_log_that_another_connection_has_copied_and_emptied_is_fine(tmp_path: Path, mode: str) -> None:
    """That is what SQLite's own checkpoints do, of a backup program, say."""
    path = tmp_path / "run.db"
    journal = Journal.open(path)
    source = Source([])
    source.start(journal)
    last = 0
    for count in (4_000, 3, 300, 9_000):
        source.events.extend(make_events(last + 1, last + count))
        last += count
        wait(source.flush)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()[0] == 0
    assert source.close(DEADLINE_S)
    assert source.errors == []
    assert recorded(path) == make_events(1, last)


def test_events_that_do_not_follow_are_refused(tmp_path: Path) -> None:
    """A journal never has a hole or an event twice, whatever it is given."""
    source = _write_until_it_fails(Journal.open(tmp_path / "run.db"), [*make_events(1, 10), *make_events(10, 20)], 10)
    assert len(source.errors) == 1
    assert recorded(tmp_path / "run.db") == source.committed == make_events(1, 10)


@pytest.mark.parametrize(
    "change", ['INSERT INTO events (event) VALUES (\'{"event":"theirs"}\')', "DELETE FROM events WHERE seq = 10"]
)
def test_another_program_that_writes_events_is_noticed(change: str, tmp_path: Path) -> None:
    """An event gets the row of its number or none: the run stops if another program added rows, or took some away."""
    path = tmp_path / "run.db"
    journal = Journal.open(path)
    source = Source(make_events(1, 10))
    source.start(journal)
    wait(source.flush)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(change)
    source.events.extend(make_events(11, 20))
    wait(source.flush)
    assert source.close(DEADLINE_S)
    (error,) = source.errors
    assert "another program" in str(error)
    assert source.committed == make_events(1, 10)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM events WHERE seq > 11").fetchone() == (0,)


def test_a_reader_watches_all_along(tmp_path: Path) -> None:
    """A reader with a transaction open sees one state, holds nobody up, and sees the rest afterwards."""
    journal = Journal.open(tmp_path / "run.db")
    source = Source(make_events(1, 10))
    source.start(journal)
    wait(source.flush)
    reader = journal_check.connect_read_only(journal.path)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM events").fetchone() == (10,)
    source.events.extend(make_events(11, 50_000))
    wait(source.flush)
    assert len(source.committed) == 50_000
    assert reader.execute("SELECT count(*) FROM events").fetchone() == (10,)
    reader.execute("COMMIT")
    assert reader.execute("SELECT count(*) FROM events").fetchone() == (50_000,)
    assert source.close(DEADLINE_S)
    assert reader.execute("SELECT count(*) FROM events").fetchone() == (50_000,)
    reader.close()
    assert recorded(tmp_path / "run.db") == make_events(1, 50_000)


def test_power_loss_leaves_a_prefix(tmp_path: Path) -> None:
    """Of 300 states that a disk may be in after power loss, each opens and holds the first events, without a hole."""
    path = tmp_path / "run.db"
    journal = Journal.open(path)
    source = Source([])
    source.start(journal)
    seed = random.Random(7)
    image = tmp_path / "image.db"
    log = tmp_path / "image.db-wal"
    disk = tmp_path / "disk"
    disk.mkdir()
    prefixes: set[int] = set()
    last = 0
    for _ in range(30):
        count = seed.choice([1, 40, 700])
        source.events.extend(make_events(last + 1, last + count))
        last += count
        wait(source.flush)
        # Another process copies: if this one closed the file, SQLite would lose its locks on it.
        subprocess.run(["cp", path, f"{path}-wal", disk], check=True)
        data = (disk / "run.db").read_bytes()
        written = (disk / "run.db-wal").read_bytes()
        for _ in range(10):
            torn = bytearray(written)
            offset = seed.randrange(len(torn)) if torn else 0
            match seed.randrange(3):
                case 0:
                    del torn[offset:]
                case 1:
                    torn[offset:] = bytes(len(torn) - offset)
                case _:
                    torn[offset : offset + 100] = seed.randbytes(len(torn[offset : offset + 100]))
            image.write_bytes(data)
            log.write_bytes(torn)
            (tmp_path / "image.db-shm").unlink(missing_ok=True)
            events = recorded(image)
            assert events == make_events(1, len(events))
            assert len(events) <= last
            prefixes.add(len(events))
    assert source.close(DEADLINE_S)
    assert len(prefixes) > 20


def test_the_limit_of_open_files_and_the_like_are_told(tmp_path: Path) -> None:
    """When SQLite can't open the file the error is a JournalError that says what to look at."""
    path = tmp_path / "run.db"
    write(path, make_events(1, 10))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Those that are open stay so; a new one would get a higher number than standard error's, which nobody may have now.
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(JournalError, match=r"run\.db"):
            Journal.open(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert recorded(path) == make_events(1, 10)
