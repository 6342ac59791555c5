"""Opening a journal: what is made, what is refused and left as it is, and who may write.

Whether a file is a journal that a run may go on with is decided by `_journal.check`.
"""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from aqueue import Backend, EnqueueFn, Item, RunResult, SetDescFn, run_queue
from aqueue._journal import check as journal_check
from aqueue._journal import file as journal_file
from aqueue._journal import open_journals
from aqueue._journal.open_journals import connect_to_read
from aqueue._journal.writer import Journal
from aqueue.errors import (
    AqueueError,
    JournalDamaged,
    JournalError,
    JournalExists,
    JournalLocked,
    JournalTooNew,
    NotAJournal,
    UnstorableItem,
)
from tests.journal.writing import DEADLINE_S, Source, make_events, recorded, wait, write

ROOT = Path(__file__).parents[2]


def start_writer(path: Path) -> subprocess.Popen[str]:
    """Return a process that writes to the journal at `path` until it is stopped."""
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.journal.writer", str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "open\n"
    return writer


def stop(writer: subprocess.Popen[str]) -> None:
    """Kill it."""
    writer.kill()
    writer.communicate(timeout=DEADLINE_S)


def contents(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Return all there is of the files in `folder`."""
    return {
        file.name: (file.read_bytes(), file.stat().st_mtime_ns, file.stat().st_ino)
        for file in folder.iterdir()
        if file.is_file() and not file.name.endswith(".lock")
    }


def test_a_missing_file_is_made(tmp_path: Path) -> None:
    """A journal that isn't there yet is made, empty, by `create` and by `open`."""
    for make in (Journal.create, Journal.open):
        path = tmp_path / f"{make.__name__} ?#%20 ü.db"
        journal = make(path)
        assert (journal.is_new, journal.last_seq, list(journal.recorded())) == (True, 0, [])
        journal.close()
        assert path.read_bytes().startswith(b"SQLite format 3\0")
        assert path.read_bytes()[68:72] == b"aque"


def test_an_empty_file_becomes_a_journal(tmp_path: Path) -> None:
    """An empty file (of `mktemp`, say) is as good as none, for `create` and for `open`."""
    for make in (Journal.create, Journal.open):
        path = tmp_path / make.__name__
        path.touch(mode=0o644)
        make(path).close()
        write(path, make_events(1, 9))
        assert recorded(path) == make_events(1, 9)


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    """The journal, its log and its lock are made for their owner only, whatever the umask is."""
    before = os.umask(0)
    try:
        journal = Journal.create(tmp_path / "run.db")
        source = Source(make_events(1, 9))
        source.start(journal)
        source.flush(lambda: None)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
        assert modes == dict.fromkeys(["run.db", "run.db-wal", "run.db-shm", "run.db.lock"], 0o600)
        assert source.close(DEADLINE_S)
    finally:
        os.umask(before)


def test_a_new_run_does_not_touch_an_existing_file(tmp_path: Path) -> None:
    """`create` refuses a file with something in it, leaves it as it is and names the way to go on with it."""
    path = tmp_path / "run.db"
    write(path, make_events(1, 9))
    before = contents(tmp_path)
    with pytest.raises(JournalExists, match=f"resume={str(path)!r}"):
        Journal.create(path)
    assert contents(tmp_path) == before


def test_closing_leaves_one_file_and_the_lock(tmp_path: Path) -> None:
    """After closing everything is in the one file, which may be copied or moved."""
    path = tmp_path / "run.db"
    write(path, make_events(1, 500))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.db", "run.db.lock"]
    path.rename(tmp_path / "moved.db")
    assert recorded(tmp_path / "moved.db") == make_events(1, 500)


def kill_a_writer(path: Path) -> None:
    """Leave what a run leaves that was killed: most of it is in the log."""
    writer = start_writer(path)
    assert writer.stdout is not None
    writer.stdout.readline()
    stop(writer)


@pytest.mark.parametrize("is_empty", [False, True], ids=["moved", "emptied"])
@pytest.mark.parametrize("open_at", [Journal.create, Journal.open])
def test_the_log_of_a_journal_that_was_moved_away_is_kept(
    tmp_path: Path, open_at: Callable[[Path], Journal], is_empty: bool
) -> None:
    """A new run in its place is refused; with its log moved after it, the old run has all that it had saved."""
    path = tmp_path / "run.db"
    kill_a_writer(path)
    path.rename(tmp_path / "old.db")
    if is_empty:
        path.touch()
    before = contents(tmp_path)
    with pytest.raises(JournalError, match=f"{path}-wal has [0-9,]+ bytes of an earlier run, but") as raised:
        open_at(path)
    assert "named as the journal is now plus -wal" in str(raised.value) and "remove run.db-wal" in str(raised.value)
    assert contents(tmp_path) == before

    (tmp_path / "run.db-wal").rename(tmp_path / "old.db-wal")
    open_at(path).close()
    assert len(recorded(tmp_path / "old.db")) >= 40


def test_an_unfinished_transaction_of_another_file_is_kept(tmp_path: Path) -> None:
    """So does SQLite call the log of a file in another mode, without which that can't be restored."""
    log = tmp_path / "run.db-journal"
    log.write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7 and more")
    with pytest.raises(JournalError, match=r"run\.db-journal has 17 bytes .*named as the journal is now plus -journal"):
        Journal.create(tmp_path / "run.db")
    assert log.stat().st_size == 17


def test_the_log_of_a_removed_journal_does_not_come_back(tmp_path: Path) -> None:
    """Who removes run.db and empties its log gets no event of the old run; the log's index is no data."""
    path = tmp_path / "run.db"
    kill_a_writer(path)
    path.unlink()
    os.truncate(f"{path}-wal", 0)
    assert (tmp_path / "run.db-shm").stat().st_size
    journal = Journal.create(path)
    assert journal.is_new
    journal.close()


def test_what_others_have_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    """Where a journal is made, no file is overwritten or removed that has only a similar name."""
    for name in ("run.db.new", "run.db.new-journal", "run.db.new-wal"):
        (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    write(tmp_path / "run.db", make_events(1, 9))
    after = contents(tmp_path)
    del after["run.db"]
    assert after == before


# ---- what is refused ------------------------------------------------------------------------------------------------


def _journal(path: Path) -> None:
    write(path, make_events(1, 200))


def _no_sqlite(path: Path) -> None:
    path.write_text("id,name\n1,one\n" * 100)


def _short_text(path: Path) -> None:
    path.write_text("x")


def _another_program(path: Path) -> None:
    _execute(path, "CREATE TABLE pages (id)")


def _only_magic(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0")


def _cut_short(path: Path) -> None:
    _journal(path)
    os.truncate(path, path.stat().st_size - 5_000)


def _garbled(path: Path) -> None:
    _journal(path)
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xa5" * 3_900)


def _marked_only(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA application_id = {int.from_bytes(b'aque', 'big')}")
        connection.execute("CREATE TABLE other (id)")
    connection.close()


def _execute(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()


def _with(statement: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        _journal(path)
        _execute(path, statement)

    return make


REFUSED: dict[str, tuple[Callable[[Path], None], type[JournalError], str]] = {
    "text": (_no_sqlite, NotAJournal, "isn't a SQLite file"),
    "one byte": (_short_text, NotAJournal, "isn't a SQLite file"),
    "magic": (_only_magic, NotAJournal, "is a SQLite file, but not a journal"),
    "another program's": (_another_program, NotAJournal, "is a SQLite file, but not a journal"),
    "directory": (Path.mkdir, NotAJournal, "is a folder"),
    "fifo": (os.mkfifo, NotAJournal, "isn't a regular file"),
    "cut short": (_cut_short, JournalDamaged, "is truncated"),
    "garbled": (_garbled, JournalDamaged, "can't be read"),
    "marked": (_marked_only, NotAJournal, "lacks the schema of one"),
    "trigger": (
        _with("CREATE TRIGGER evil AFTER INSERT ON events BEGIN DELETE FROM events; END"), NotAJournal, "trigger evil",
    ),
    "view": (_with("CREATE VIEW mine AS SELECT 1"), NotAJournal, "view mine"),
    "table": (_with("CREATE TABLE mine (id)"), NotAJournal, "table mine"),
    "index": (_with("CREATE INDEX mine ON events (event)"), NotAJournal, "index mine"),
    "no view": (_with("DROP VIEW items"), NotAJournal, "lacks view items"),
    "column": (_with("ALTER TABLE events ADD COLUMN mine"), NotAJournal, "table events"),
    "trigger on migrations": (
        _with("CREATE TRIGGER evil AFTER INSERT ON _sqlite_migrations BEGIN DELETE FROM events; END"),
        NotAJournal,
        "trigger evil",
    ),
    "newer schema": (
        _with("INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('aqueue', 'm999_future')"),
        JournalTooNew,
        "m999_future.*upgrade aqueue",
    ),
    "newer events": (
        _with("""UPDATE events SET event = replace(event, '"schema_version":1', '"schema_version":999') WHERE seq = 1"""),
        JournalTooNew,
        "version 999.*upgrade aqueue",
    ),
    "no start": (_with("UPDATE events SET event = '{}' WHERE seq = 1"), JournalDamaged, "first event"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_sound_journal_is_refused_and_left_as_it_is(name: str, tmp_path: Path) -> None:
    """Each file that can't be gone on with has its own error, stays as it is to the byte, and nothing appears beside."""
    make, error, message = REFUSED[name]
    path = tmp_path / "run.db"
    make(path)
    before = contents(tmp_path)
    with pytest.raises(error, match=message) as raised:
        Journal.open(path)
    assert type(raised.value) is error
    assert str(path) in str(raised.value)
    assert contents(tmp_path) == before


@pytest.mark.skipif(sys.platform != "linux", reason="other systems may refuse such a name")
def test_any_name_that_a_file_can_have_will_do(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, and what means something in a URI."""
    path = tmp_path / os.fsdecode(b"\xff run?mode=memory#%20.db")
    Journal.create(path).close()
    assert path.stat().st_size > 0
    Journal.open(path).close()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other limits")
@pytest.mark.parametrize("length", [256, 255, 252, 250, 248])
@pytest.mark.parametrize("open_at", [Journal.create, Journal.open])
def test_a_name_that_is_too_long_is_told_as_such(
    tmp_path: Path, open_at: Callable[[Path], Journal], length: int
) -> None:
    """A name counts with what is added to it for other files, and no folder is blamed for it."""
    with pytest.raises(JournalError, match="File name too long; choose a shorter name: ") as raised:
        open_at(tmp_path / ("x" * length))
    assert "folder" not in str(raised.value)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other limits")
def test_the_longest_name_that_a_journal_can_have(tmp_path: Path) -> None:
    """247 bytes: the longest name of another file that is made, with -journal, has 255 then."""
    write(tmp_path / ("x" * 247), make_events(1, 9))
    assert recorded(tmp_path / ("x" * 247)) == make_events(1, 9)


@pytest.mark.skipif(not Path("/proc/version").is_file(), reason="needs Linux's /proc")
@pytest.mark.parametrize("open_at", [Journal.create, Journal.open])
@pytest.mark.parametrize("path", ["/proc/version", "/proc/new.db"])
def test_where_nobody_can_make_a_file_no_other_run_is_blamed(open_at: Callable[[str], Journal], path: str) -> None:
    """A lock that can't be made is not one that another run has."""
    with pytest.raises(
        JournalError,
        match=f"the journal.s lock file {path}.lock can.t be (created|used: .*); the journal needs a writable ",
    ):
        open_at(path)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc")
@pytest.mark.parametrize("open_at", [Journal.create, Journal.open])
def test_an_open_pipe_is_no_file_for_a_journal(open_at: Callable[[str], Journal]) -> None:
    """Nor is what leads to it, as /dev/stdout does; the path in the message is the one that was given."""
    reading, writing = os.pipe()
    path = f"/proc/self/fd/{writing}"
    try:
        with pytest.raises(NotAJournal, match=f"^{path} isn't a file with a path; name a file on a local disk"):
            open_at(path)
    finally:
        os.close(reading)
        os.close(writing)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """A path in a folder that isn't there is an error that names the folder; nothing is made."""
    with pytest.raises(JournalError, match=f"no folder {tmp_path / 'runs'}"):
        Journal.open(tmp_path / "runs" / "run.db")
    assert not list(tmp_path.iterdir())


AS_NOBODY = """
import os, sys
from aqueue._journal.writer import Journal
from aqueue.errors import JournalError
Journal.open(sys.argv[2]).close()  # imports what it needs while that may be read
if os.geteuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)
try:
    Journal.open(sys.argv[1])
except JournalError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("mode", "folder_mode", "message"),
    [(0o000, 0o777, "make it readable"), (0o444, 0o777, "is not writable"), (None, 0o555, "needs a writable folder")],
    ids=["unreadable", "unwritable", "folder"],
)
def test_missing_permissions_are_named(mode: int | None, folder_mode: int, message: str) -> None:
    """A file that may not be read or written, and a folder where nothing may be made, are errors that say so."""
    # Not in pytest's own folder: another pytest that begins meanwhile closes that to other users.
    with TemporaryDirectory(prefix="aqueue-") as name:
        Path(name).chmod(0o755)
        _check_permissions(Path(name, "runs"), mode, folder_mode, message)


def _check_permissions(folder: Path, mode: int | None, folder_mode: int, message: str) -> None:
    folder.mkdir()
    path = folder / "run.db"
    if mode is not None:
        write(path, make_events(1, 9))
        path.chmod(mode)
        (folder / "run.db.lock").chmod(0o666)
    folder.chmod(folder_mode)
    try:
        said = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(path), str(folder.parent / "other.db")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
    finally:
        folder.chmod(0o700)
    assert message in said.stdout, said
    assert str(path) in said.stdout


def test_every_error_is_a_journal_error() -> None:
    """`except JournalError` catches whatever is wrong with a journal."""
    for error in (JournalDamaged, JournalExists, JournalLocked, JournalTooNew, NotAJournal):
        assert issubclass(error, JournalError)
        assert issubclass(error, AqueueError)


# ---- the lock -------------------------------------------------------------------------------------------------------


def test_a_second_run_is_refused(tmp_path: Path) -> None:
    """While a process writes a journal no other may: it is told the process and the machine; symbolic links don't help."""
    path = tmp_path / "run.db"
    (tmp_path / "folder").mkdir()
    link = tmp_path / "folder" / "link.db"
    link.symlink_to(path)
    writer = start_writer(path)
    try:
        for name in (path, link):
            with pytest.raises(JournalLocked, match=f"pid {writer.pid} on "):
                Journal.open(name)
    finally:
        stop(writer)


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    """After SIGKILL the journal can be opened at once."""
    path = tmp_path / "run.db"
    stop(start_writer(path))
    Journal.open(path).close()


@pytest.fixture(params=["hard link", "mount"])
def other_name(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Return another name of the journal ``run.db``, which is made: a hard link, or a mount of this one file."""
    path, other = tmp_path / "run.db", tmp_path / "other.db"
    write(path, make_events(1, 9))
    if request.param == "hard link":
        other.hardlink_to(path)
        yield other
        return
    other.touch()
    if subprocess.run(["mount", "--bind", path, other], capture_output=True).returncode:
        pytest.skip("may not mount a file")
    try:
        yield other
    finally:
        subprocess.run(["umount", "-l", str(other)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such locks")
def test_a_second_run_under_another_name_of_the_file_is_refused(tmp_path: Path, other_name: Path) -> None:
    """Two runs that write one file would lose each other's results; once the first has ended, the other name is fine."""
    writer = start_writer(tmp_path / "run.db")
    try:
        with pytest.raises(JournalLocked, match=r"by another name \(a hard link, or a mount of this single file\)"):
            Journal.open(other_name)
    finally:
        writer.terminate()
        stop(writer)
    Journal.open(tmp_path / "run.db").close()
    Journal.open(other_name).close()


def test_a_journal_may_be_closed_while_another_is_looked_for(tmp_path: Path) -> None:
    """Each run closes its journal on a thread of its own, whatever other runs of the process just look for."""
    journal = Journal.create(tmp_path / "run.db")
    another = Journal.create(tmp_path / "another.db")

    class ClosesAnother(tuple[int, int]):
        """An identity during whose comparison another journal is closed."""

        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            another.close()
            return False

        __hash__ = tuple.__hash__

    open_journals.add(journal.path, ClosesAnother((0, 0)), journal.leave_to_the_parent)
    (tmp_path / "a file").touch()
    assert not open_journals.is_open(tmp_path / "a file")
    journal.close()


def test_another_name_of_the_file_is_not_even_read_in_the_same_process(tmp_path: Path, other_name: Path) -> None:
    """To close it would drop the locks that SQLite holds on it, and then a reader's end would take away the log."""
    journal = Journal.open(tmp_path / "run.db")
    for open_at in (Journal.open, connect_to_read):
        with pytest.raises(JournalLocked, match="in this process"):
            open_at(other_name)
    source = Source(make_events(10, 19))
    source.start(journal)
    wait(source.flush)
    subprocess.run([sys.executable, "-c", READ, str(tmp_path / "run.db")], cwd=ROOT, check=True)
    assert (tmp_path / "run.db-wal").exists()
    assert source.close(DEADLINE_S)
    assert recorded(tmp_path / "run.db") == make_events(1, 19)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no lock on the file itself")
def test_a_run_goes_on_while_another_tries_with_a_lock_file_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where somebody removed the lock file, another run has made its own before it is refused; then it is the first one's."""
    path = tmp_path / "run.db"
    journal = Journal.open(path)
    Path(f"{path}.lock").unlink()
    tried = journal_file.lock(path)
    source = Source(make_events(1, 9))
    source.start(journal)
    wait(source.flush)
    assert "lock file" not in capsys.readouterr().err
    tried.release()
    source.events.extend(make_events(10, 19))
    wait(source.flush)
    assert "has been created again" in capsys.readouterr().err
    assert source.close(DEADLINE_S)
    assert (source.errors, recorded(path)) == ([], make_events(1, 19))


READ = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT count(*) FROM events").fetchone()
connection.close()
"""


def test_a_journal_with_hard_links_can_be_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a backup of links makes them (``cp -al``); the user is warned that the log goes by one name only."""
    path = tmp_path / "run.db"
    write(path, make_events(1, 9))
    assert capsys.readouterr().err == ""
    (tmp_path / "backup.db").hardlink_to(path)
    write(path, make_events(10, 19))

    assert "run.db has other names (hard links)" in capsys.readouterr().err
    assert recorded(path) == make_events(1, 19)


def test_a_second_run_in_the_same_process_is_refused(tmp_path: Path) -> None:
    """Two runs in one process can't have the same journal either; once the first is closed, the next may."""
    journal = Journal.open(tmp_path / "run.db")
    with pytest.raises(JournalLocked, match="in this process"):
        Journal.open(tmp_path / "run.db")
    journal.close()
    Journal.open(tmp_path / "run.db").close()


def test_a_refused_file_is_not_locked(tmp_path: Path) -> None:
    """After a file was refused and mended, the same process can open it."""
    path = tmp_path / "run.db"
    write(path, make_events(1, 9))
    _execute(path, "CREATE VIEW mine AS SELECT 1")
    with pytest.raises(NotAJournal):
        Journal.open(path)
    _execute(path, "DROP VIEW mine")
    assert recorded(path) == make_events(1, 9)


FORKING = """
import os, signal, sys
from aqueue._journal.writer import Journal
from tests.journal.writing import make_events, Source

journal = Journal.open(sys.argv[1])
source = Source(make_events(1, 400))
source.start(journal)
child = os.fork()
if child == 0:
    source.close(0.0)
    del journal
    print(os.getpid(), flush=True)
    signal.pause()
assert source.close(60), "closing"
os._exit(0)
"""


def test_a_forked_child_has_no_part_in_the_journal(tmp_path: Path) -> None:
    """A child process that lives on neither keeps the lock nor disturbs what its parent writes."""
    path = tmp_path / "run.db"
    parent = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORKING, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        assert parent.wait(DEADLINE_S) == 0
        assert recorded(path) == make_events(1, 400)
    finally:
        os.kill(child, signal.SIGKILL)
        parent.stdout.close()


# ---- readers --------------------------------------------------------------------------------------------------------


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    """A connection for reading gives the events and refuses to change them."""
    path = tmp_path / "run.db"
    write(path, make_events(1, 9))
    connection = journal_check.connect_read_only(path)
    assert connection.execute("SELECT count(*) FROM events").fetchone() == (9,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM events")
    connection.close()


def fails_in_the_middle() -> Iterator[Item]:
    """Yield an item, and then raise."""
    yield Plain()
    raise ConnectionError("the list broke off")


def no_client() -> AbstractAsyncContextManager[None]:
    """Raise in place of opening something."""
    raise ConnectionError("no client")


class Plain(Item):
    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        pass


class HoldsALock(Plain):
    def __init__(self) -> None:
        self.lock = threading.Lock()


@pytest.mark.parametrize("argument", ["journal", "resume"])
@pytest.mark.parametrize(
    ("items", "lifespan", "error"),
    [
        (lambda: [Plain(), HoldsALock()], None, UnstorableItem),
        (fails_in_the_middle, None, ConnectionError),
        (lambda: [Plain()], no_client, ConnectionError),
    ],
    ids=["unstorable", "iterable", "lifespan"],
)
def test_a_run_in_which_nothing_ran_leaves_no_journal(
    argument: str,
    items: Callable[[], Iterable[Item]],
    lifespan: Any,
    error: type[Exception],
    tmp_path: Path,
    backend: Backend,
) -> None:
    """What kept the first item from running can be mended, and then the very same call begins a new run."""
    path = tmp_path / "run.db"
    files: dict[str, Any] = {argument: path}
    call: Callable[..., RunResult] = partial(run_queue, reporter="none", backend=backend, **files)
    with pytest.raises(error):
        call(items(), lifespan=lifespan)
    assert not path.exists()
    assert call([Plain()]).counts.completed == 1


def test_an_error_of_aqueue_shows_none_of_its_frames(tmp_path: Path, backend: Backend) -> None:
    """The message says what happened; the traceback has the line that called and nothing of event loops."""
    with pytest.raises(JournalError) as caught:
        run_queue([Plain()], reporter="none", backend=backend, journal=tmp_path / "no" / "folder" / "run.db")
    [frame] = traceback.extract_tb(caught.tb)
    assert frame.name == "test_an_error_of_aqueue_shows_none_of_its_frames"
    with pytest.raises(UnstorableItem) as refused:
        run_queue([HoldsALock()], reporter="none", backend=backend, journal=tmp_path / "run.db")
    assert refused.value.__cause__ is None


def test_what_the_users_code_raised_keeps_its_frames(tmp_path: Path) -> None:
    """A dump that fails is the cause, with its own traceback."""

    class Fails(Plain):
        def dump(self) -> str:
            raise ConnectionError("no address")

        @classmethod
        def load(cls, data: str) -> "Fails":
            return cls()

    with pytest.raises(UnstorableItem) as refused:
        run_queue([Fails()], reporter="none", journal=tmp_path / "run.db")
    cause = refused.value.__cause__
    assert isinstance(cause, ConnectionError)
    assert traceback.extract_tb(cause.__traceback__)[-1].name == "dump"
