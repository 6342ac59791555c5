"""A run that is followed in its journal: as it stands after each look, its past, and what may go wrong.

It is `_page.followed_run`, which folds with `_page.over_time` and `_page.failure_kinds`.
"""

import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqueue._history.history import CannotRead
from aqueue._history.opening import open_history
from aqueue._journal.writer import Journal
from aqueue._page import followed_run
from aqueue._page.failure_kinds import FailureKinds
from aqueue._page.followed_run import FollowedRun
from aqueue._page.over_time import Fold
from aqueue.errors import JournalDamaged, JournalError
from aqueue.events import Event, ItemCompleted, ItemFailed, RunResumed, RunStarted, encode
from aqueue.testing._scripted_runs import (
    Script,
    completed,
    every_event_type,
    on_a_cluster,
    resumed,
    with_failures,
    with_retries,
)
from aqueue.view import RunView
from tests.journal.recorded import events_of
from tests.journal.writing import DEADLINE_S, Source, live, make_events, wait, write
from tests.strategies import event_streams

RUNS = {
    "completed": completed(30),
    "every type": every_event_type(),
    "failures": with_failures(30),
    "retries": with_retries(5),
    "resumed": resumed(),
    "cluster": on_a_cluster(3, 2),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal is to be."""
    return tmp_path / "run.db"


@contextmanager
def followed(path: Path) -> Iterator[FollowedRun]:
    """Follow the run in the journal at `path`."""
    with closing(FollowedRun(path)) as run:
        yield run


def poll_until(run: FollowedRun, is_done: Callable[[], bool]) -> None:
    """Look at the journal until something is so."""
    deadline = time.monotonic() + DEADLINE_S
    while not is_done():
        assert time.monotonic() < deadline
        run.poll()


def state(run: FollowedRun) -> str:
    """Return what the run is doing, as it was found at the last look."""
    return run.state.name


def view_of(events: list[Event]) -> RunView:
    """Return the run as it stands after these events."""
    view = RunView()
    view.apply(events)
    return view


def assert_past_is(run: FollowedRun, events: list[Event]) -> None:
    """Check that what was folded in the background is what these events come to."""
    fold, kinds = Fold(), FailureKinds()
    fold.apply(events)
    kinds.apply(events)
    mine = run.over_time
    assert (mine.types, mine.processes, mine.elapsed_s) == (fold.types, fold.processes, fold.elapsed_s)
    assert (mine.num_crashed, mine.unended, run.num_processes) == (fold.num_crashed, fold.unended, fold.num_processes)
    assert mine.series.bins(mine.elapsed_s) == fold.series.bins(fold.elapsed_s)
    assert mine.durations == fold.durations
    assert run.kinds.groups() == kinds.groups()


def without_snapshots(path: Path) -> None:
    """Remove the snapshots from a journal."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM snapshots")


def run_here(pid: int, host: str = "") -> list[Event]:
    """Return the events of a run that this process began just now, or one with another number or on another machine."""
    now = time.time()
    start = RunStarted(1, now, "run", 1, "1.0", 3, "queue", pid, host or socket.gethostname())
    rest = [msgspec.structs.replace(event, at=now + event.seq / 1_000) for event in make_events(2, 22)]
    return [start, *rest]


# ---- what it shows -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("events", RUNS.values(), ids=RUNS.keys())
def test_view_and_past_are_those_of_all_events(path: Path, events: list[Event]) -> None:
    """Of a run that has ended, whether or not there is a snapshot to begin at."""
    write(path, events)
    for _ in range(2):
        with followed(path) as run:
            poll_until(run, lambda: run.read_share == 1)
            assert run.view == view_of(events)
            assert_past_is(run, events)
            assert run.name == "run.db" and not run.error
        without_snapshots(path)


@settings(max_examples=20)
@given(event_streams(), st.data())
def test_run_that_grows_is_followed(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event], data: st.DataObject
) -> None:
    """Whatever happens in it, and wherever its writer stopped and went on."""
    path = tmp_path_factory.mktemp("journal") / "run.db"
    first, second = sorted(data.draw(st.tuples(st.integers(1, len(events)), st.integers(1, len(events)))))
    write(path, events[:first])
    with followed(path) as run:
        for begin, end in ((first, second), (second, len(events))):
            if end > begin:
                write(path, events[begin:end])
            poll_until(run, lambda end=end: run.read_share == 1 and run.view.seq == end)  # type: ignore[misc]
            assert run.view == view_of(events[:end])
            assert_past_is(run, events[:end])


def test_live_journal_is_followed_while_it_is_written(path: Path) -> None:
    """After each look, the view is that of the events up to the number that it says."""
    events = make_events(1, 9_000)
    write(path, events[:1])
    with followed(path) as run:
        source = Source([])
        source.start(Journal.open(path))
        seqs = [run.view.seq]
        for begin, end in pairwise([1, *range(1_000, 9_001, 1_000)]):
            source.events.extend(events[begin:end])
            source.hurry()
            run.poll()
            seqs.append(run.view.seq)
            assert run.view == view_of(events[: run.view.seq])
            assert 0 <= run.read_share <= 1
        assert source.close(DEADLINE_S)
        run.poll()
        poll_until(run, lambda: run.read_share == 1)
        assert seqs == sorted(seqs)
        assert run.view == view_of(events)
        assert_past_is(run, events)


def test_journal_of_another_process_is_followed(path: Path) -> None:
    """It grows between two looks, the view with it, and what was read is always a beginning of what was written."""
    with writing(path) as process, followed(path) as run:
        poll_until(run, lambda: run.view.seq > 5_000)
        events = make_events(1, run.view.seq)
        assert run.view == view_of(events)
        assert process.poll() is None
        assert not run.error


def test_processes_that_end_and_go_on_are_followed(path: Path) -> None:
    """The last one that closes a journal tidies it up, but not while it is followed: nothing more would be seen."""
    program = "import sys; from pathlib import Path; from tests.journal.writing import make_events, write; "
    program += "write(Path(sys.argv[1]), make_events(int(sys.argv[2]), int(sys.argv[3])))"
    write(path, make_events(1, 100))
    with followed(path) as run:
        for first, last in ((101, 300), (301, 400)):
            command = [sys.executable, "-c", program, str(path), str(first), str(last)]
            subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": "."}, timeout=DEADLINE_S)
            run.poll()
            assert run.view == view_of(make_events(1, last))
            assert (run.read_share, run.error) == (1, "")


@contextmanager
def writing(path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Have another process write a journal, without an end, 40 events at a time; yields it once some are there."""
    with live(path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n" or path.exists()
        yield process


# ---- snapshots and the past ----------------------------------------------------------------------------------------


def test_view_begins_at_a_snapshot(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then only what follows it is read for the view, which is there at once; the past takes as long as it takes."""
    monkeypatch.setattr(followed_run, "_PAST_S", 0.0)
    events = make_events(1, 20_000)
    write(path, events)
    with closing(open_history(str(path))) as history:
        folds = history.start_at_snapshot()
    assert folds is not None and folds.snapshot_seq > 10_000

    with followed(path) as run:
        assert run.view == view_of(events)
        assert run.read_share == 0 and not run.kinds.groups() and not run.num_processes
    without_snapshots(path)
    with followed(path) as run:
        assert run.view == view_of(events)


def test_past_is_read_some_at_each_look(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its share grows from below 1 to 1, also while the run goes on."""
    monkeypatch.setattr(followed_run, "_PAST_S", 0.0)  # none at first
    events = make_events(1, 16_000)
    write(path, events[:10_000])
    with followed(path) as run:
        clock = iter(range(1_000_000))
        # Each look has time for one batch of events.
        monkeypatch.setattr(followed_run, "time", SimpleNamespace(monotonic=lambda: next(clock), time=time.time))
        monkeypatch.setattr(followed_run, "_PAST_S", 1.5)
        shares = [run.read_share]
        while shares[-1] < 1:
            if len(shares) == 3:
                write(path, events[10_000:])
            run.poll()
            shares.append(run.read_share)
            assert run.view == view_of(events[: run.view.seq])
        assert len(shares) > 5 and shares[0] == 0 and max(shares) == 1
        assert run.view.seq == 16_000
        assert_past_is(run, events)


def test_share_is_never_above_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although what was written between the two parts of a look is in the past first."""
    events = make_events(1, 3_000)
    write(path, events[:2_000])
    with followed(path) as run:
        follow = run._follow

        def follow_slowly() -> None:
            follow()
            write(path, events[2_000:])

        monkeypatch.setattr(run, "_follow", follow_slowly)
        run.poll()
        assert (run.read_share, run.view.seq) == (1, 2_000)
        monkeypatch.setattr(run, "_follow", follow)
        run.poll()
        assert (run.read_share, run.view.seq) == (1, 3_000)


def test_events_that_do_not_fit_a_snapshot_are_repaired(path: Path) -> None:
    """No run can have written them; all is read from the first event then, and repaired."""
    script = Script()
    script.start(script.enqueue())
    events = [*script.events, *(ItemCompleted(4 + n, script.events[-1].at, 99, 9, 0.5) for n in range(3))]
    write(path, script.events)
    with closing(sqlite3.connect(path)) as connection, connection:
        rows = [(encode(event).decode(),) for event in events[3:]]
        connection.executemany("INSERT INTO events (event) VALUES (?)", rows)
    with closing(open_history(str(path))) as history:
        assert history.start_at_snapshot() is not None
    with followed(path) as run, closing(open_history(str(path))) as history:
        repaired = view_of([event for batch in iter(history.read, None) for event in batch])
        assert run.view == repaired
        assert (run.read_share, run.error) == (1, "")


# ---- what may go wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["removed", "replaced"])
@pytest.mark.parametrize("is_past_read", [True, False], ids=["past read", "past unread"])
def test_journal_that_is_removed_or_replaced_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch, how: str, is_past_read: bool
) -> None:
    """The figures stay as they were, nothing of another run gets into them, and nothing is raised."""
    events = with_failures(500)
    write(path, events)
    if not is_past_read:
        monkeypatch.setattr(followed_run, "_PAST_S", 0.0)
    with followed(path) as run:
        monkeypatch.undo()
        if how == "removed":
            path.unlink()
        else:
            other = path.with_name("other.db")
            write(other, make_events(1, 9_000))
            other.rename(path)
        for _ in range(3):
            run.poll()
            assert "was removed or replaced while it was being read; open it again" in run.error
            assert run.view == view_of(events)
        assert state(run) == "interrupted"  # nothing that is said of the file is of this run
        assert run.read_share == is_past_read
        assert_past_is(run, events if is_past_read else [])


def test_damaged_past_is_an_error(path: Path) -> None:
    """Somebody has deleted an event before the snapshot: the view is there, the charts are not."""
    events = make_events(1, 9_000)
    write(path, events)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM events WHERE seq = 4000")
    with followed(path) as run:
        for _ in range(3):
            run.poll()
        assert "lacks events between" in run.error
        assert run.view == view_of(events)
        assert run.read_share < 1


def test_damage_that_comes_later_is_an_error(path: Path) -> None:
    """A row that is no event."""
    write(path, make_events(1, 100))
    with followed(path) as run:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("INSERT INTO events (event) VALUES ('nonsense')")
        for _ in range(2):
            run.poll()
            assert "event 101 in the journal" in run.error
            assert run.view == view_of(make_events(1, 100))


def test_what_is_no_journal_can_not_be_followed(path: Path) -> None:
    """A file that isn't there, is empty or something else, and a folder."""
    with pytest.raises((CannotRead, JournalError)):
        FollowedRun(path)
    path.write_bytes(b"")
    with pytest.raises(CannotRead, match="is empty: nothing is recorded there yet"):
        FollowedRun(path)
    path.write_text("nonsense\n" * 1_000)
    with pytest.raises(JournalError):
        FollowedRun(path)
    with pytest.raises((CannotRead, JournalError)):
        FollowedRun(path.parent)
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    with pytest.raises(JournalError, match="is a SQLite file, but not a journal"):
        FollowedRun(path)


def test_journal_without_an_event_is_followed(path: Path) -> None:
    """As it is in the moment before a run begins; what comes then is seen."""
    Journal.create(path).close()
    with followed(path) as run:
        assert (run.view.state, run.read_share, run.elapsed_s, run.error) == ("new", 1, 0, "")
        write(path, completed(2))
        run.poll()
        assert (run.state.name, run.num_processes) == ("completed", 1)


# ---- its state -----------------------------------------------------------------------------------------------------


def test_state_of_a_process_that_is_killed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs while its process holds the journal, is interrupted once that is gone, and runs again once resumed."""
    monkeypatch.setattr(followed_run, "_LIVENESS_S", 0.0)
    with writing(path) as process, followed(path) as run:
        poll_until(run, lambda: run.view.seq > 0)
        assert state(run) == "running"
        assert run.until == run.now >= time.time() - 60
        process.kill()
        process.communicate(timeout=DEADLINE_S)
        poll_until(run, lambda: state(run) == "interrupted")
        assert run.until == run.view.at
        assert run.elapsed_s == run.view.at - run.view.started_at  # not until now

        seq, now = run.view.seq, time.time()
        start = RunResumed(seq + 1, now, "run", 1, "1.0", 3, "queue", os.getpid(), socket.gethostname())
        journal = Journal.open(path)
        source = Source([start])
        source.start(journal)
        wait(source.flush)
        poll_until(run, lambda: run.view.seq > seq)
        assert state(run) == "running"
        assert source.close(DEADLINE_S)
        assert run.view == view_of(events_of(path))


def test_process_is_looked_for_at_once_after_a_resume(path: Path) -> None:
    """But otherwise only every few seconds: until then the run counts as running."""
    write(path, run_here(os.getpid()))
    with followed(path) as run:
        assert state(run) == "running"
        start = RunResumed(23, time.time(), "run", 1, "1.0", 3, "queue", 2**22 + 1, socket.gethostname())
        write(path, [start])
        run.poll()
        assert state(run) == "interrupted"


def test_clock_that_is_set_back_delays_no_look_at_the_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How often it is looked for is measured by a clock that nobody sets."""
    monotonic_s, wall_s = [1_000.0], [time.time() + 3_600]
    fake = SimpleNamespace(monotonic=lambda: monotonic_s[0], time=lambda: wall_s[0])
    monkeypatch.setattr(followed_run, "time", fake)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    write(path, run_here(process.pid))
    with followed(path) as run:
        assert state(run) == "running"
        process.communicate(b"\n")
        wall_s[0] -= 3_600
        monotonic_s[0] += 60
        run.poll()
        assert state(run) == "interrupted"


@pytest.mark.parametrize(("age_s", "name"), [(5.0, "running"), (300.0, "interrupted")])
def test_run_on_another_machine_is_judged_by_its_silence(path: Path, age_s: float, name: str) -> None:
    """Its process can't be seen from here."""
    events = [msgspec.structs.replace(event, at=event.at - age_s) for event in run_here(1, "elsewhere.example.org")]
    write(path, events)
    with followed(path) as run:
        assert (run.state.name, run.state.liveness) == (name, "elsewhere")


@pytest.mark.parametrize("num_groups", [3, 30])
def test_groups_stay_in_sight_for_a_moment(path: Path, monkeypatch: pytest.MonkeyPatch, num_groups: int) -> None:
    """A table of few groups would jump each time that one has nothing to do; of many, nothing is remembered."""
    wall_s = [0.0]
    monkeypatch.setattr(followed_run, "time", SimpleNamespace(monotonic=time.monotonic, time=lambda: wall_s[0]))
    script = Script()
    items = [script.enqueue(group=f"group {number}") for number in range(num_groups)]
    script.start(items[0], group="group 0")
    write(path, script.events)
    wall_s[0] = script.events[-1].at
    with followed(path) as run:
        assert set(run.idle_groups) == set()
        num_before = len(script.events)
        script.complete(items[0])
        write(path, script.events[num_before:])
        run.poll()
        assert set(run.idle_groups) == ({"group 0"} if num_groups == 3 else set())
        wall_s[0] += 11
        run.poll()
        assert set(run.idle_groups) == set()


def test_now_is_not_before_the_last_event(path: Path) -> None:
    """Where the clock is behind that of the run, nothing has a negative age."""
    events = [msgspec.structs.replace(event, at=event.at + 600) for event in run_here(os.getpid())]
    write(path, events)
    with followed(path) as run:
        assert run.now == run.view.at == events[-1].at


def test_end_of_a_run_does_not_move_with_commands_that_follow(path: Path) -> None:
    """A person who skips something an hour later doesn't make it last longer."""
    script = Script()
    item = script.enqueue()
    script.start(item)
    script.wait(10)
    script.fail(item, with_failures(1)[3].error)  # type: ignore[attr-defined]
    ended_at = script.finish("failed")[-1].at
    started_at = script.events[0].at
    script.wait(3_600)
    script.edit()
    script.skip(item, had_failed=True)
    write(path, script.events)
    with followed(path) as run:
        assert state(run) == "completed"
        assert run.elapsed_s == pytest.approx(ended_at - started_at)
        assert run.ended_at == pytest.approx(ended_at)
        assert any(isinstance(event, ItemFailed) for event in script.events) and not run.kinds.groups()


def test_closing_closes_both_connections(path: Path) -> None:
    """Nothing of the journal stays open."""
    write(path, completed(2))
    run = FollowedRun(path)
    run.close()
    for history in (run.history, run._past):
        with pytest.raises(JournalError, match="closed database"):
            history.events_at([1])


def test_error_of_the_disk_may_pass(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page says so as long as it lasts, and goes on with the figures of now."""
    events = make_events(1, 400)
    write(path, events)
    with followed(path) as run:

        def fail() -> None:
            raise JournalDamaged("the journal run.db can't be read") from sqlite3.OperationalError("disk I/O error")

        with monkeypatch.context() as patch:
            patch.setattr(run.history, "read", fail)
            for _ in range(2):
                run.poll()
                assert "can't be read" in run.error
        write(path, [*events, *make_events(401, 800)][400:])
        run.poll()
        assert run.error == ""
        assert run.view == view_of(make_events(1, 800))


def test_figures_that_would_be_wrong_are_not_shown_as_right(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read and couldn't be folded is lost: from then on the page says that the journal can't be read."""
    write(path, make_events(1, 400))
    with followed(path) as run:

        def fail(_: object) -> None:
            raise MemoryError

        write(path, make_events(401, 800))
        with monkeypatch.context() as patch:
            patch.setattr(type(run.view), "apply", lambda *_: fail(None))
            run.poll()
        assert "MemoryError" in run.error
        run.poll()
        assert "MemoryError" in run.error
        assert state(run) == "interrupted"
