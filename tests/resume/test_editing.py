"""Commands on a run that no process runs: what `_resume.editing` appends, and what a resume makes of it."""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aqueue import (
    Backend,
    EnqueueFn,
    Item,
    JournalError,
    Limit,
    NotAJournal,
    SetDescFn,
    SteeringError,
    run_queue,
    steering,
)
from aqueue._history.process import liveness
from aqueue._journal.writer import Journal
from aqueue._resume.editing import edit
from aqueue._resume.past import fold_recorded
from aqueue._verbs import AnyCommand, Pause, SetLimit, SetWorkers, Stop, Unpause, this_person
from aqueue.events import (
    Event,
    GroupLimitChanged,
    GroupPaused,
    ItemInterrupted,
    ItemStarted,
    RunEdited,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    RunWorkersChanged,
)
from aqueue.view import RunView
from tests.cli.scripted import on_a_cluster, write_journal
from tests.journal.oracle import told_by
from tests.journal.recorded import cut, events_of

BY = "anna@laptop via test"


class Leaf(Item):
    group = "a"

    def __init__(self, number: int) -> None:
        self.number = number

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
        return self.number


def recorded(path: Path, **arguments: Any) -> list[Event]:
    """Run six items, record them at `path`, and return the events."""
    run_queue([Leaf(number) for number in range(6)], resume=path, reporter="none", num_workers=2, **arguments)
    return events_of(path)


def view_of(path: Path) -> RunView:
    """Return the run in the journal at `path`."""
    view = RunView()
    view.apply(events_of(path))
    return view


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """Return the journal of a run that crashed while item 1 was running, as its first one."""
    whole = tmp_path / "whole.db"
    events = recorded(whole)
    first = next(event for event in events if isinstance(event, ItemStarted))
    return cut(whole, first.seq, tmp_path / "run.db")


def test_command_on_a_crashed_run_closes_the_account_of_its_process(crashed: Path) -> None:
    """`run.edited`, what was interrupted, the command; the night until then isn't the run's, and no process is added."""
    before = events_of(crashed)
    assert isinstance(before[-1], ItemStarted)
    answer = edit(crashed, Pause(by=BY))
    assert (answer.changed, answer.is_live) == (True, False)
    edited, interrupted, paused = events_of(crashed)[len(before) :]
    assert isinstance(edited, RunEdited)
    assert isinstance(interrupted, ItemInterrupted)
    assert isinstance(paused, RunPaused)
    assert edited.by == paused.by == BY
    assert (interrupted.item, interrupted.reason, interrupted.worker) == (1, "crash", before[-1].worker)
    view = view_of(crashed)
    assert view.elapsed_s(paused.at + 1e6) == pytest.approx(before[-1].at - before[0].at)
    assert view.status == "interrupted"
    assert not view.running
    again = edit(crashed, Pause(by="ben@desk via test"))
    assert (again.changed, again.since, again.by) == (False, paused.at, BY)
    assert len(events_of(crashed)) == len(before) + 3


def test_group_of_which_an_item_ran_in_the_crash_is_known(tmp_path: Path) -> None:
    """That item will run again."""
    whole = tmp_path / "whole.db"
    run_queue([Leaf(1)], journal=whole, reporter="none")
    first = next(event for event in events_of(whole) if isinstance(event, ItemStarted))
    crashed = cut(whole, first.seq, tmp_path / "run.db")
    assert edit(crashed, Pause(by=BY, group="a")).is_known
    assert not edit(crashed, Pause(by=BY, group="b")).is_known


def test_edited_run_counts_one_crash_and_interrupts_once(crashed: Path, backend: Backend) -> None:
    """A resume after the command doesn't interrupt the item again, nor count the command as a process that crashed."""
    edit(crashed, Pause(by=BY))
    edit(crashed, Unpause(by=BY))
    recorded(crashed, backend=backend)
    events = events_of(crashed)
    told_by(events)
    assert sum(isinstance(event, ItemInterrupted) for event in events) == 1
    assert sum(isinstance(event, RunResumed) for event in events) == 1
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    assert (finished.status, finished.counts.completed, finished.counts.interrupted) == ("completed", 6, 1)


def test_pause_holds_at_the_resume_and_says_so(
    crashed: Path, backend: Backend, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing starts, and the start of the process says since when, by whom, and what ends it."""
    edit(crashed, Pause(by="anna@lap\x1b[2Jtop via test"))
    capfd.readouterr()
    result = run_queue(
        [Leaf(number) for number in range(6)], resume=crashed, reporter="none", stop_after_s=0.05, backend=backend
    )
    assert (result.status, result.counts.completed) == ("interrupted", 0)
    err = capfd.readouterr().err
    assert "\x1b" not in err
    said = next(line for line in err.splitlines() if "paused since" in line)
    assert said.endswith(f" by anna@lap\\x1b[2Jtop; nothing starts until: aqueue unpause {crashed}")
    steering.unpause(crashed)
    assert recorded(crashed)[-1].event == "run.finished"
    assert view_of(crashed).status == "completed"


def test_number_of_workers_holds_until_the_program_passes_another(
    crashed: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The resume line says which number holds, and why."""
    assert edit(crashed, SetWorkers(by=BY, num_workers=2)).changed is False
    answer = edit(crashed, SetWorkers(by=BY, num_workers=5))
    assert (answer.changed, answer.num_workers) == (True, 2)
    event = events_of(crashed)[-1]
    assert isinstance(event, RunWorkersChanged)
    assert (event.num_workers, event.program) == (5, 2)
    run_queue([Leaf(0)], resume=crashed, num_workers=2, reporter="none", max_items=1)
    assert "aqueue: as set by commands: 5 workers (anna@laptop; the program passes 2)" in capfd.readouterr().err
    assert view_of(crashed).num_workers == 5
    run_queue([Leaf(0)], resume=crashed, num_workers=3, reporter="none", max_items=1)
    err = capfd.readouterr().err
    assert "aqueue: 3 workers, as the program passes now; anna@laptop had set 5 before" in err
    assert "as set by commands" not in err
    assert view_of(crashed).num_workers == 3


def test_limit_holds_until_the_program_has_another(crashed: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A limit that was set while no process was there is kept; once the program's own is known, a change of that ends it."""
    items = [Leaf(number) for number in range(6)]
    assert edit(crashed, SetLimit(by=BY, group="a", concurrent=1)).changed
    run_queue(items, resume=crashed, limits={"a": Limit(concurrent=2)}, reporter="none", max_items=1)
    assert "aqueue: as set by commands: a 1 at once (anna@laptop)" in capfd.readouterr().err
    known = view_of(crashed).in_force.limits["a"]
    assert known.program is not None
    assert (known.program.concurrent, known.by, known.concurrent) == (2, BY, 1)
    first = next(event for event in events_of(crashed) if isinstance(event, GroupLimitChanged))
    assert known.at == first.at, "it was set then, not when the run was resumed"
    run_queue(items, resume=crashed, limits={"a": Limit(concurrent=2)}, reporter="none", max_items=1)
    assert view_of(crashed).in_force.limits == {"a": known}
    run_queue(items, resume=crashed, limits={"a": Limit(per_second=1000.0)}, reporter="none", max_items=1)
    assert view_of(crashed).in_force.limits == {}
    err = capfd.readouterr().err
    assert "aqueue: a has the program's limit, which was changed since anna@laptop had set 1 at once" in err
    last = [event for event in events_of(crashed) if isinstance(event, GroupLimitChanged)][-1]
    assert last.is_default
    assert last.by == this_person("program"), "it is not anna who has taken it back"


def test_command_on_a_completed_run_holds_for_what_comes(tmp_path: Path) -> None:
    """The run stays completed; a resume with a new initial item finds the pause."""
    path = tmp_path / "run.db"
    recorded(path)
    answer = edit(path, Pause(by=BY, group="a"))
    assert (answer.changed, answer.is_known) == (True, False)
    assert view_of(path).status == "completed"
    assert isinstance(events_of(path)[-1], GroupPaused)
    result = run_queue(
        [Leaf(number) for number in range(7)], resume=path, reporter="none", num_workers=2, stop_after_s=0.05
    )
    assert (result.status, result.counts.outstanding) == ("interrupted", 1)


def test_stop_of_a_run_that_is_not_live_changes_nothing(crashed: Path) -> None:
    """There is nothing to stop; nor is there a pause to end. Not a byte is written."""
    before = crashed.read_bytes()
    assert edit(crashed, Stop(by=BY)).changed is False
    assert edit(crashed, Unpause(by=BY)).changed is False
    assert crashed.read_bytes() == before


def test_number_of_workers_on_a_cluster_is_refused(tmp_path: Path) -> None:
    """The number is that of the worker processes; other commands work."""
    path = write_journal(tmp_path, on_a_cluster().events)
    before = events_of(path)
    with pytest.raises(SteeringError, match="start or stop worker processes"):
        edit(path, SetWorkers(by=BY, num_workers=4))
    assert events_of(path) == before
    assert edit(path, Pause(by=BY)).changed


# ---- what can't be edited ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [steering.pause, steering.unpause, steering.stop])
def test_file_that_is_no_journal_is_left_alone(tmp_path: Path, verb: Callable[[Path], Any]) -> None:
    """A missing file isn't made, and neither another file, a log nor an empty one is changed."""
    with pytest.raises(JournalError, match=r"there is no journal at .*/none.db; name the file that a run has written"):
        verb(tmp_path / "none.db")
    empty = tmp_path / "empty.db"
    empty.touch()
    with pytest.raises(JournalError, match="there is no journal at"):
        verb(empty)
    log = tmp_path / "run.jsonl"
    log.write_text('{"event": "run.started"}\n')
    with pytest.raises(NotAJournal, match="isn't a SQLite file"):
        verb(log)
    with pytest.raises(NotAJournal, match="is a folder"):
        verb(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["empty.db", "run.jsonl"]
    assert empty.stat().st_size == 0


def test_journal_without_a_run_is_refused(tmp_path: Path) -> None:
    """A journal that a program has only just made has no run that could be steered."""
    path = tmp_path / "run.db"
    Journal.create(path).close()
    with pytest.raises(SteeringError, match=r"^nothing is recorded in .*/run.db; name the journal of a run$"):
        edit(path, Pause(by=BY))
    assert path.exists()


def test_edit_that_can_not_be_written_changes_nothing(crashed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says that it isn't saved; the journal is unlocked and can be edited again."""
    before = events_of(crashed)

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "_insert_all", full)
        with pytest.raises(JournalError, match="could not be written after event"):
            edit(crashed, Pause(by=BY))
    assert events_of(crashed) == before
    assert edit(crashed, Pause(by=BY)).changed


def test_ctrl_c_while_it_is_written_stays_what_it_is(crashed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written then, and the journal is unlocked."""
    before = events_of(crashed)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "_insert_all", interrupt)
        with pytest.raises(KeyboardInterrupt):
            edit(crashed, Pause(by=BY))
    assert events_of(crashed) == before
    assert edit(crashed, Pause(by=BY)).changed


def test_newer_journal_is_refused_and_left_alone(crashed: Path) -> None:
    """An older aqueue would misread what the newer one has set."""
    with closing(sqlite3.connect(crashed)) as connection, connection:
        connection.execute(
            "UPDATE events SET event = replace(event, '\"schema_version\":2', '\"schema_version\":99') WHERE seq = 1"
        )
    before = crashed.read_bytes()
    with pytest.raises(JournalError, match="newer aqueue"):
        edit(crashed, Pause(by=BY))
    assert crashed.read_bytes() == before


# ---- at the same time as others ---------------------------------------------------------------------------------


@pytest.mark.parametrize("is_same_process", [False, True])
def test_run_that_starts_waits_for_a_command_and_two_commands_for_each_other(
    crashed: Path, is_same_process: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command has the lock while it reads the journal: neither a cron job nor a second person fails because of it."""
    reading, go = threading.Event(), threading.Event()
    fold = fold_recorded

    def slow(*arguments: Any) -> Any:
        reading.set()
        assert go.wait(10)
        return fold(*arguments)

    monkeypatch.setattr("aqueue._resume.editing.fold_recorded", slow)
    first = threading.Thread(target=edit, args=(crashed, SetWorkers(by=BY, num_workers=1)))
    first.start()
    assert reading.wait(10)
    assert Path(f"{crashed}.lock").read_text().startswith("a command, pid ")
    last = next(event for event in reversed(events_of(crashed)) if isinstance(event, RunStarted))
    gone = msgspec.structs.replace(last, pid=0)
    assert liveness(gone, crashed) == "gone", "a command is not the process of the run"
    others: list[Callable[[Path], Any]] = [Journal.open, lambda path: edit(path, Pause(by=BY))]
    if not is_same_process:  # as if nobody here had it open
        monkeypatch.setattr("aqueue._journal.open_journals._open", {})
    timer = threading.Timer(0.1, go.set)
    timer.start()
    for open_it in others:
        opened = open_it(crashed)
        if isinstance(opened, Journal):
            opened.close()
    first.join()
    assert [type(event) for event in events_of(crashed)[-3:]] == [RunWorkersChanged, RunEdited, RunPaused]


def test_run_that_starts_waits_for_a_command_that_has_not_said_yet_that_it_is_one(
    crashed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock file names its last owner until the next one has written there."""
    name = Path(f"{crashed}.lock")
    Journal.open(crashed).close()
    before = name.read_text()
    assert not before.startswith("a command")
    command = Journal.open(crashed, is_command=True)
    name.write_text(before)
    monkeypatch.setattr("aqueue._journal.open_journals.is_open", lambda _: False)
    timer = threading.Timer(0.03, command.close)
    timer.start()
    Journal.open(crashed).close()
    timer.join()


def test_unknown_command_is_a_bug() -> None:
    """The types are closed: what isn't among them can't come out of a line of JSON."""
    from aqueue._verbs import command_of, line_of

    commands: list[AnyCommand] = [Pause(by=BY), Stop(by=BY, now=True), SetLimit(by=BY, group="ä", per_second=0.5)]
    for command in commands:
        assert command_of(line_of(command)) == command
    for line in (b"", b"{}", b"null", b'{"verb":"eval","by":"x"}', b'{"verb":"pause","by":"x","more":1}', b"\xff"):
        with pytest.raises(SteeringError, match=r"^the run does not know this command"):
            command_of(line)
