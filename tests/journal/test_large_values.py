"""Large results and attributes: read back in bounded memory, refused one by one, and waited for where they outrun the disk.

They are read back, in parts, by `_journal.reader`.
"""

import gc
import random
import sqlite3
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from msgspec import Raw

from aqueue import (
    Backend,
    EnqueueFn,
    InvalidResult,
    Item,
    ItemFailures,
    SetDescFn,
    UnstorableItem,
    async_run_queue,
    current,
    iter_results,
    run_queue,
    stop,
)
from aqueue._codec import results
from aqueue._codec.digests import identity_of
from aqueue._codec.item_codec import PayloadCodec
from aqueue._engine import payloads
from aqueue._engine.payloads import Payloads
from aqueue._folds.recording import ROOT, Recording
from aqueue._history.history import batches
from aqueue._history.journal_history import JournalHistory
from aqueue._journal import reader as journal_reader
from aqueue._journal import writer as journal_writer
from aqueue._journal.open_journals import connect_to_read
from aqueue._journal.reader import EventReader, read_events_at
from aqueue._stream import event_stream
from aqueue.events import Event, ItemCompleted, ItemDescribed, ItemEnqueued, RunStarted, encode
from tests.journal.recorded import events_of
from tests.journal.writing import recorded, write

START = RunStarted(1, 1.0, "run", 1, "0", 5, "queue", 1, "host")
PATIENCE_S = 60.0


class Page(Item):
    """Holds a text of some length, and returns one."""

    def __init__(self, number: int, holds: int = 0, returns: int = 0) -> None:
        self.number = number
        self.text = "x" * holds
        self.returns = returns

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        return "x" * self.returns


class Book(Item):
    """Enqueues its pages, and stops the run at once or in the end."""

    def __init__(self, pages: int, holds: int = 0, returns: int = 0) -> None:
        self.pages = pages
        self.holds = holds
        self.returns = returns

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for number in range(self.pages):
            enqueue(Page(number, self.holds, self.returns))
        if self.holds:
            stop("for today")


class Last(Item):
    """Stops the run."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        stop("for today")


class Grows(Item):
    """Has a hook, and long attributes once its process has run."""

    def __init__(self) -> None:
        self.text = ""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.text = "x" * 2_000

    async def after_children_processed(self) -> None:
        pass


class Sums(Item):
    """Returns much from its hook."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        return "of process"

    async def after_children_processed(self) -> str:
        return "x" * 2_000


@pytest.fixture
def small_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let SQLite take no text longer than 500,000 bytes, and events be read and written in parts to match."""
    connect = sqlite3.connect

    def limited(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 500_000)
        return connection

    monkeypatch.setattr(sqlite3, "connect", limited)
    monkeypatch.setattr(journal_reader, "_READ_BYTES", 100_000)
    monkeypatch.setattr(journal_writer, "_SLICE_BYTES", 50_000)


@pytest.mark.usefixtures("small_sqlite")
def test_a_run_goes_on_however_much_its_items_returned(backend: Backend, tmp_path: Path) -> None:
    """Their results together are longer than any text that SQLite takes; the commands and `iter_results` read them, too."""
    path = tmp_path / "run.db"
    pages = [*(Page(number, returns=20_000) for number in range(60)), Last(), Page(60, returns=20_000)]
    first = run_queue(pages, resume=path, num_workers=1, reporter="none", backend=backend)
    assert (first.counts.completed, first.status) == (61, "interrupted")
    again = run_queue(pages, resume=path, num_workers=1, reporter="none", backend=backend)
    assert (again.counts.completed, again.status) == (62, "completed")
    assert again.root_results == ["x" * 20_000] * 60 + [None, "x" * 20_000]
    assert sum(1 for _ in iter_results(path)) == 61
    with closing(JournalHistory(path)) as history:
        events = [event for batch in batches(history) for event in batch]
        assert [encode(event) for event in events] == [encode(event) for event in events_of(path)]
        assert len(history.events_at(range(1, len(events) + 1))) == len(events)


@pytest.mark.usefixtures("small_sqlite")
def test_a_run_goes_on_however_long_the_attributes_of_waiting_items_are(backend: Backend, tmp_path: Path) -> None:
    """Those of a parent that has ended, and initial items."""
    kinds: dict[str, list[Item]] = {
        "children": [Book(60, holds=20_000)],
        "roots": [Last(), *(Page(number, holds=20_000) for number in range(60))],
    }
    for name, items in kinds.items():
        path = tmp_path / f"{name}.db"
        first = run_queue(items, resume=path, num_workers=1, reporter="none", backend=backend)
        assert (first.counts.completed, first.counts.outstanding) == (1, 60)
        again = run_queue(items, resume=path, num_workers=1, reporter="none", backend=backend)
        assert (again.counts.completed, again.status) == (61, "completed")


def _events(sizes: list[int], texts: Callable[[int], str] = lambda size: "x" * size) -> list[Event]:
    """Return events with results and descriptions in turn, of these lengths."""
    events: list[Event] = [START]
    for seq, size in enumerate(sizes, 2):
        if seq % 3:
            events.append(ItemCompleted(seq, 1.0, seq, 1, 0.0, result=Raw(f'"{texts(size)}"'.encode())))
        else:
            events.append(ItemDescribed(seq, 1.0, seq, 1, texts(size)))
    return events


@pytest.mark.parametrize("seed", range(6))
def test_events_of_any_sizes_are_written_and_read_in_bounded_parts(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No part is longer than the bound and one event; none is lost, doubled or changed, whatever the order of sizes."""
    monkeypatch.setattr(journal_reader, "_READ_BYTES", 5_000)
    monkeypatch.setattr(journal_reader, "_READ_EVENTS", 40)
    monkeypatch.setattr(journal_writer, "_SLICE_BYTES", 3_000)
    dice = random.Random(seed)
    sizes = [dice.choice([1, 10, 10, 900, 6_000, dice.randrange(3_000)]) for _ in range(150)]
    sizes[50:100] = [10] * 50 if seed % 2 else [5_500] * 50
    events = _events(sizes, lambda size: ("aé😀\\n" * size)[:size].rstrip("\\"))
    path = tmp_path / "run.db"
    write(path, events)
    with closing(connect_to_read(path)) as connection:
        reader = EventReader(connection, path)
        read: list[Event] = []
        while (batch := reader.read()) is not None:
            assert sum(len(encode(event).decode()) for event in batch[:-1]) <= 5_000
            read += batch
        assert reader.after == len(events)
        for seqs in (list(range(1, len(events) + 1)), [5, 2, 90], [7]):
            assert {event.seq: encode(event) for event in read_events_at(connection, path, seqs)} == {
                seq: encode(events[seq - 1]) for seq in seqs
            }
    assert [encode(event) for event in read] == [encode(event) for event in events]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT DISTINCT typeof(event) FROM events").fetchall() == [("text",)]


def test_newlines_in_a_large_payload_stay(tmp_path: Path) -> None:
    """JSON that somebody else wrote may have them between its values; its row is written alone, or among others."""
    large = Raw(b'[1,\n\n"' + b"x" * 5_000_000 + b'"\n]')
    events: list[Event] = [START, *(ItemEnqueued(n, 2.0, n - 1, 0, "T", payload=large) for n in range(2, 5))]
    write(tmp_path / "run.db", events)
    write(tmp_path / "run.db", [ItemEnqueued(5, 2.0, 4, 0, "T", payload=large)])
    assert [event.payload for event in recorded(tmp_path / "run.db") if isinstance(event, ItemEnqueued)] == [large] * 4


def test_reading_takes_as_much_memory_as_is_live(tmp_path: Path) -> None:
    """Of 80 MB of results, and small ones that a hook waits for, only the numbers of the small ones' events stay."""
    path = tmp_path / "run.db"
    large = Raw(b'"' + b"x" * 2_000_000 + b'"')
    events: list[Event] = [START, ItemEnqueued(2, 1.0, 1, 0, "T", hook=True), ItemEnqueued(3, 1.0, 2, 0, "T")]
    item = 2
    for _ in range(40):
        for parent, result in ((1, Raw(b'"small"')), (2, large)):
            item += 1
            events.append(ItemEnqueued(len(events) + 1, 1.0, item, parent, "T"))
            events.append(ItemCompleted(len(events) + 1, 1.0, item, 1, 0.0, result=result))
    small = {event.item: event.seq for event in events if isinstance(event, ItemCompleted) and event.item % 2}
    write(path, events)
    del events, large
    recording = Recording()
    with closing(connect_to_read(path)) as connection:
        reader = EventReader(connection, path)
        gc.collect()
        tracemalloc.start()
        try:
            while (batch := reader.read()) is not None:
                recording.apply(batch)
            del batch
            now, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert recording.live[1].results == small
    assert recording.live[ROOT].results is None
    assert now < 1_000_000
    assert most < 50_000_000


# ---- what can't be stored ------------------------------------------------------------------------------------------


def test_a_row_has_room_for_a_result_and_attributes() -> None:
    """However long they are, as long as each is accepted."""
    with closing(sqlite3.connect(":memory:")) as connection:
        assert connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) > 2 * results.MAX_BYTES + 1_000_000


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a value have no more than 1,000 bytes."""
    for module in (results, payloads):
        monkeypatch.setattr(module, "LARGE_BYTES", 500)
        monkeypatch.setattr(module, "MAX_BYTES", 1_000)


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("with_journal", [True, False])
@pytest.mark.parametrize("item", [Page(0, returns=2_000), Sums()], ids=["from process", "from the hook"])
def test_a_result_that_is_too_long_fails_its_item(
    item: Item, backend: Backend, *, with_journal: bool, tmp_path: Path
) -> None:
    """The others complete, with a journal or without; the error says how long it is and what to do."""
    journal = tmp_path / "run.db" if with_journal else None
    items = [Page(1, returns=10), item, Page(2, returns=998)]
    with pytest.raises(ItemFailures) as caught:
        run_queue(items, resume=journal, reporter="none", on_error="continue", backend=backend)
    [error] = caught.value.exceptions
    assert isinstance(error, InvalidResult)
    assert f"{type(item).__name__} returned a result of 2,002 bytes as JSON, but a journal holds at most 1,000" in str(
        error
    )
    assert "path" in str(error)
    assert caught.value.result.root_results == ["x" * 10, None, "x" * 998]
    if journal is not None:
        with pytest.raises(ItemFailures) as caught:
            run_queue(items, resume=journal, reporter="none", on_error="continue", backend=backend)
        assert caught.value.result.counts.completed == 2


@pytest.mark.usefixtures("small_limit")
def test_attributes_that_are_too_long_fail_who_enqueues_or_has_them(backend: Backend, tmp_path: Path) -> None:
    """`enqueue` raises; an item whose process has made them so long fails; the others complete."""
    items = [Book(1, holds=2_000), Grows(), Page(0, holds=900)]
    with pytest.raises(ItemFailures) as caught:
        run_queue(items, journal=tmp_path / "run.db", reporter="none", on_error="continue", backend=backend)
    errors = caught.value.exceptions
    assert [type(error) for error in errors] == [UnstorableItem, UnstorableItem]
    assert all("as JSON, but a journal holds at most 1,000" in str(error) for error in errors)
    assert {str(error).partition(" can't be stored")[0] for error in errors} == {
        f"{__name__}:Page",
        f"{__name__}:Grows",
    }
    assert caught.value.result.counts.completed == 1
    without = run_queue(items[1:], reporter="none", backend=backend)
    assert without.status == "completed"


@pytest.mark.parametrize("with_journal", [True, False])
def test_a_class_whose_values_are_very_large_is_named_once(
    backend: Backend,
    *,
    with_journal: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The warning says what to do. Attributes are only written where there is a journal."""
    monkeypatch.setattr(event_stream, "WARN_BYTES", 20_000)
    journal = tmp_path / "run.db" if with_journal else None
    items = [Page(0, returns=19_000), *(Page(n, returns=30_000) for n in range(3)), Book(2, holds=30_000)]
    run_queue(items, journal=journal, reporter="none", num_workers=1, backend=backend)
    said = [line for line in capsys.readouterr().err.splitlines() if " MB" in line]
    assert len(said) == 1
    assert said[0].startswith(f"aqueue: warning: {__name__}:Page: a result of 0 MB; ")
    assert said[0].endswith("write large data to a file, and return its path")
    monkeypatch.setattr(event_stream, "WARN_BYTES", 10_000)
    run_queue([Book(2, holds=30_000)], journal=tmp_path / "2.db", reporter="none", num_workers=1, backend=backend)
    said = [line for line in capsys.readouterr().err.splitlines() if " MB" in line]
    assert [line.partition(";")[0] for line in said] == [f"aqueue: warning: {__name__}:Page: attributes of 0 MB"]


# ---- memory and waiting --------------------------------------------------------------------------------------------


def test_a_large_value_is_copied_once() -> None:
    """While it is encoded, and what tells the item from others is made of it, nothing but its JSON comes into being."""
    codec = PayloadCodec()
    written = Payloads(codec, "run")
    written.state(Page(0, holds=10), None)
    item = Page(1, holds=10_000_000)

    def state() -> object:
        state = written.state(item, None)
        kept = written.keep_long(state, "Page")
        return state, identity_of(b"run", "Page", None, kept, 0)

    for make in (state, lambda: results.encode_result(item.text, "Page")):
        tracemalloc.start()
        try:
            made = make()
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert made is not None
        assert most < 16_000_000  # msgspec makes room for half as much again, of which nothing is touched


class Disk:
    """Stands for a slow disk: keeps the journal at `path` from being written from `hold` to `let_go`."""

    path = Path()
    connection: sqlite3.Connection
    ran = 0

    def hold(self) -> None:
        self.connection = sqlite3.connect(self.path, timeout=PATIENCE_S, isolation_level=None, check_same_thread=False)
        self.connection.execute("BEGIN IMMEDIATE")

    def let_go(self) -> None:
        self.connection.rollback()
        self.connection.close()


disk = Disk()


@pytest.fixture
def slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the journal of the test a disk that can be held up, and bounds that are soon reached."""
    disk.path = tmp_path / "run.db"
    disk.ran = 0
    monkeypatch.setattr(event_stream, "SOFT_LIMIT_BYTES", 200_000)
    monkeypatch.setattr(event_stream, "HARD_LIMIT_BYTES", 10_000_000)


class Counted(Page):
    """Counts those that ran; the first holds up the disk."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        if self.number == 0:
            disk.hold()
        disk.ran += 1
        return await super().process(enqueue, set_desc)


class Counting(Item):
    """Holds up the disk, and enqueues items with long attributes."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        disk.hold()
        for number in range(1_000):
            enqueue(Page(number, holds=50_000))
            disk.ran += 1


@pytest.mark.usefixtures("slow_disk")
def test_workers_pause_while_large_results_wait_for_the_disk(backend: Backend) -> None:
    """However few events that are; the loop runs on, and afterwards nothing is lost."""
    paused_at: list[int] = []

    async def watch() -> None:
        still, before = 0, -1
        with anyio.fail_after(PATIENCE_S):
            while still < 1_000:
                still = still + 1 if disk.ran and disk.ran == before else 0
                before = disk.ran
                await checkpoint()
        paused_at.append(disk.ran)
        disk.let_go()

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            items = (Counted(number, returns=5_000) for number in range(5_000))
            result = await async_run_queue(items, journal=disk.path, num_workers=4, reporter="none")
            assert result.counts.completed == 5_000

    anyio.run(main, backend=backend)
    assert paused_at[0] < 5_000
    assert sum(1 for _ in iter_results(disk.path)) == 5_000


@pytest.mark.usefixtures("slow_disk")
def test_enqueue_blocks_while_many_large_items_wait_for_the_disk(backend: Backend) -> None:
    """One item that enqueues without end waits inside `enqueue`, and goes on."""
    blocked_at: list[int] = []

    def watch() -> None:
        before = -1
        pause = threading.Event()
        while disk.ran != before or disk.ran == 0:
            before = disk.ran
            pause.wait(0.2)
        blocked_at.append(disk.ran)
        disk.let_go()

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = run_queue([Counting()], journal=disk.path, reporter="none", backend=backend)
    watcher.join()
    assert blocked_at[0] < 250
    assert result.counts.completed == 1_001


@pytest.mark.usefixtures("slow_disk")
def test_large_items_that_are_dropped_take_no_room(backend: Backend) -> None:
    """Of many with the same key all but one are dropped, and nothing waits for those."""

    class Keyed(Page):
        key = "the same"

    items = (Keyed(number, holds=5_000) for number in range(1_000))
    result = run_queue(items, journal=disk.path, reporter="none", backend=backend)
    assert (result.counts.completed, result.counts.deduplicated) == (1, 999)


def test_results_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    """80 MB of results, of which a process that goes through them never has more than a few."""
    path = tmp_path / "run.db"
    run_queue([Page(number, returns=2_000_000) for number in range(40)], journal=path, reporter="none")
    program = """
import resource, sys
from aqueue import iter_results
import aqueue._journal.writer

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000

before = peak_mb()
print(sum(len(one.result) for one in iter_results(sys.argv[1])), peak_mb() - before)
"""
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=PATIENCE_S)
    length, grown_mb = done.stdout.split()
    assert int(length) == 80_000_000
    assert float(grown_mb) < 45


class Keyed(Item):
    """Is known again by its key, whatever it holds."""

    key = "the one"

    def __init__(self, text: str) -> None:
        self.text = text

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        return self.text


class EnqueuesAgain(Item):
    """Is interrupted once, and then enqueues its child with more than a journal can hold."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        if current().attempt == 1:
            enqueue(Keyed("as recorded"))
            stop("for today")
            await anyio.sleep_forever()
        with pytest.raises(UnstorableItem):
            enqueue(Keyed("x" * 2_000))


def test_a_recorded_child_whose_new_attributes_are_too_long_runs_as_it_was_recorded(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not lost for being refused, nor taken for a duplicate."""
    path = tmp_path / "run.db"
    run_queue([EnqueuesAgain()], resume=path, grace_s=0.0, num_workers=1, reporter="none", backend=backend)
    monkeypatch.setattr(payloads, "MAX_BYTES", 1_000)
    result = run_queue([EnqueuesAgain()], resume=path, num_workers=1, reporter="none", backend=backend)
    assert (result.status, result.counts.completed) == ("completed", 2)
    assert [one.result for one in iter_results(path)] == ["as recorded"]
