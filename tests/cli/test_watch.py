"""``aqueue watch``: a run of another process is shown as it goes on, and is not touched, whatever becomes of the watcher.

The reporters get the run from `cli._playing.feeding`; their result is folded by `_folds.outcome`.
"""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aqueue._history.opening import open_history
from aqueue.cli._commands.watch import follow
from aqueue.cli._playing.feeding import Feeding
from aqueue.events import Event, encode_lines
from aqueue.testing import EventRecorder
from aqueue.testing._scripted_runs import completed
from aqueue.view import RunView
from tests.cli.conftest import Aqueue
from tests.cli.scripted import Script, write_journal, write_log
from tests.journal.recorded import events_of
from tests.processes.pty_process import PROGRAMS, PtyProcess

WATCH = [sys.executable, "-c", "from aqueue.cli import main; main()", "watch"]
DEADLINE_S = 60.0


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition` holds; fail with `what` if that takes too long."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.01)


class Job:
    """A run in a process of its own: 20 quick items, then one that waits until it is told to end, then 9 quick ones."""

    def __init__(self, folder: Path) -> None:
        self.journal = folder / "run.db"
        self.log = folder / "run.jsonl"
        self._gates = folder / "gates"
        self._gates.mkdir()
        self.start()

    def start(self) -> None:
        """Begin the run, or go on with it in another process."""
        arguments = {"resume": str(self.journal), "reporter": f"jsonl:{self.log}", "num_workers": 1}
        self.process = subprocess.Popen(
            [sys.executable, PROGRAMS / "job.py", "Quick*20,Gated,Quick*9", json.dumps(arguments)],
            env={**os.environ, "AQUEUE_TEST_GATES": str(self._gates)},
            stderr=subprocess.DEVNULL,
        )
        until(lambda: self.log.exists() and b"waiting Gated1" in self.log.read_bytes(), "the item that waits")

    def end(self) -> None:
        """Let the run end, and wait for that."""
        (self._gates / "go").touch()
        assert self.process.wait(DEADLINE_S) == 0

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait(DEADLINE_S)

    @property
    def is_going_on(self) -> bool:
        """Whether its process is there and its journal says that it has not ended."""
        return self.process.poll() is None and events_of(self.journal)[-1].event != "run.finished"


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    """Return a run that is going on, 20 of 30 items done."""
    job = Job(tmp_path)
    yield job
    job.kill()


def watch(file: Path, *options: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Watch without a terminal, to the end."""
    return subprocess.run(
        [*WATCH, str(file), *options], capture_output=True, text=True, timeout=DEADLINE_S, check=False, **more
    )


class Watcher:
    """A watcher without a terminal."""

    def __init__(self, *words: str | Path, **more: Any) -> None:
        self.process = subprocess.Popen(
            [*WATCH, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
        )

    def end(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and what it wrote to standard error."""
        _, err = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, err


def until_caught_up(watcher: PtyProcess) -> None:
    """Wait until a watcher knows that it has read all there is: not before does it draw again, since time passes."""
    watcher.until("waiting Gated1")
    for _ in range(2):  # the first may be of the same draw
        watcher.until_more("elapsed", watcher.text.count("elapsed"))


def watched(job: Job, copy: Path, *options: str) -> Watcher:
    """Return a watcher that has caught up with the run, and writes what it is told to `copy`."""
    watcher = Watcher(job.journal, f"--reporter=jsonl:{copy}", *options)
    until(lambda: copy.exists() and b"waiting Gated1" in copy.read_bytes(), "what is recorded so far")
    time.sleep(0.5)  # until it has looked for more: nothing shows that
    return watcher


# ---- from beginning to end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["journal", "log"])
def test_a_run_is_shown_until_it_ends(job: Job, kind: str) -> None:
    """The panels come at once, with what was done before; the summary replaces them when the run ends."""
    with PtyProcess(*WATCH, job.journal if kind == "journal" else job.log) as watcher:
        watcher.until("Worker Status", "waiting Gated1", "elapsed")
        job.end()
        assert watcher.wait() == 0
        assert "✓ Completed   30 items in " in watcher.shown
        assert "Worker Status" not in watcher.shown
        watcher.assert_terminal_restored()


def test_reporters_get_every_event_in_order(job: Job, tmp_path: Path) -> None:
    """Those recorded before it was attached and those that came after, none left out and none twice."""
    copy = tmp_path / "copy.jsonl"
    watcher = watched(job, copy, "--reporter=plain")
    job.end()
    code, err = watcher.end()
    assert code == 0
    assert [json.loads(line)["seq"] for line in copy.read_text().splitlines()] == [
        event.seq for event in events_of(job.journal)
    ]
    assert "Completed   30 items in " in err


@pytest.mark.parametrize("write", [write_log, write_journal])
def test_a_run_that_has_ended_is_shown_as_it_ended(
    tmp_path: Path, aqueue: Aqueue, write: Callable[[Path, list[Event]], Path]
) -> None:
    """At once, and the exit code tells how."""
    script = Script(age_s=86_400.0)
    for item in [script.enqueue() for _ in range(3)]:
        script.start(item)
        script.wait(20.0)
        if item == 3:
            script.fail_now(item)
        else:
            script.complete(item)
    done = aqueue("watch", write(tmp_path, script.finish("failed")), "--reporter=plain")
    assert done.code == 1
    assert "Failed   1 of 3 items failed · 2 completed · 1:00\n" in done.err


# ---- detaching --------------------------------------------------------------------------------------------------


def test_ctrl_c_detaches_and_the_run_goes_on(job: Job) -> None:
    """One line instead of the panels; the terminal is as before; the run neither ends nor waits."""
    with PtyProcess(*WATCH, job.journal, keeps_output=True) as watcher:
        until_caught_up(watcher)
        watcher.type(b"\x03")
        assert watcher.wait() == 4
        assert "Detached; the run continues: 20 of 30 completed." in watcher.shown
        assert "Worker Status" not in watcher.shown
        watcher.assert_terminal_restored()
    assert job.is_going_on
    job.end()
    assert events_of(job.journal)[-1].event == "run.finished"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_detach(job: Job, number: signal.Signals) -> None:
    """Also where it draws: the terminal is put back."""
    with PtyProcess(*WATCH, job.log) as watcher:
        until_caught_up(watcher)
        watcher.kill(number)
        assert watcher.wait() == 4
        assert "Detached; the run continues" in watcher.shown
        watcher.assert_terminal_restored()
    assert job.is_going_on


def test_a_terminal_that_is_lost(job: Job) -> None:
    """As when a connection breaks: the watcher ends by itself, the run doesn't."""
    with PtyProcess(*WATCH, job.journal) as watcher:
        until_caught_up(watcher)
        watcher.hang_up()
        assert watcher.wait() == 4
    assert job.is_going_on


def test_reporters_without_a_terminal_are_closed_when_it_is_left(job: Job, tmp_path: Path) -> None:
    """They are told why; what they have written is whole."""
    copy = tmp_path / "copy.jsonl"
    watcher = watched(job, copy, "--reporter=plain")
    watcher.process.terminate()
    code, err = watcher.end()
    assert code == 4
    assert "Watching ended (detached: the run continues)   20 completed · 10 outstanding · " in err
    assert err.endswith("Detached; the run continues: 20 of 30 completed.\n")
    assert copy.read_bytes().endswith(b"\n")
    assert job.is_going_on


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    """As `head` does: no word on standard error, and the exit code of all subcommands for that."""
    path = write_log(tmp_path, completed(5_000))
    command = [*WATCH, str(path), "--reporter=jsonl"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert (process.wait(DEADLINE_S), said) == (141, b"")


def test_stopped_and_continued(job: Job) -> None:
    """While Ctrl-Z has stopped it the terminal is usable; after fg it is up to date, and shows the end."""
    with PtyProcess(*WATCH, job.journal, keeps_output=True) as watcher:
        watcher.until("waiting Gated1")
        watcher.type(b"\x1a")
        watcher.wait_stopped()
        watcher.assert_terminal_usable()
        assert "Worker Status" not in watcher.shown
        before = watcher.text.count("Worker Status")
        watcher.foreground()
        watcher.until_more("Worker Status", before)
        watcher.type(b"\x1a")
        watcher.wait_stopped()
        job.end()
        watcher.foreground()
        assert watcher.wait() == 0
        assert "✓ Completed   30 items in " in watcher.shown
        watcher.assert_terminal_restored()


# ---- the run is not touched -----------------------------------------------------------------------------------------


def test_a_killed_watcher_leaves_nothing_that_matters(job: Job, tmp_path: Path) -> None:
    """The run ends well, and its journal is as without it."""
    copy = tmp_path / "copy.jsonl"
    watcher = watched(job, copy)
    watcher.process.kill()
    watcher.end()
    job.end()
    assert events_of(job.journal)[-1].event == "run.finished"
    assert {path.name for path in tmp_path.glob("run.db*")} <= {"run.db", "run.db.lock"}


def test_a_watched_run_can_crash_be_resumed_end_and_be_packed(job: Job, tmp_path: Path) -> None:
    """Whoever reads holds no lock between two reads: the next process starts, ends and folds its WAL into the file."""
    recorder = EventRecorder()
    with closing(open_history(str(job.journal), follows=True)) as history, Feeding([recorder], history) as feeding:

        def read() -> int:
            while (events := history.read()) is not None:
                feeding.feed(events)
            return len(recorder.events)

        until(lambda: read() and "Gated1" in str(recorder.events[-1]), "what is recorded so far")
        job.kill()
        job.log.unlink()
        job.start()
        read()
        job.end()
        with closing(sqlite3.connect(job.journal)) as connection:
            assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
        assert follow(history, feeding, lambda: False) == "finished"
        feeding.close()
    assert recorder.events == events_of(job.journal)
    assert [event.event for event in recorder.events].count("run.resumed") == 1
    assert recorder.result is not None
    assert (recorder.result.status, recorder.result.counts.completed) == ("completed", 30)


# ---- runs that end otherwise ------------------------------------------------------------------------------------


def test_a_run_that_was_killed(job: Job) -> None:
    """It is noticed soon, told as an interrupted run, with how to go on, and by the exit code."""
    with PtyProcess(*WATCH, job.journal, columns=200) as watcher:
        watcher.until("waiting Gated1")
        job.kill()
        assert watcher.wait() == 3
        assert f"Interrupted (its process, pid {job.process.pid}, is gone)" in watcher.shown
        assert f"to resume, run the same program again (journal {job.journal})" in watcher.shown
        watcher.assert_terminal_restored()


def test_a_run_that_was_stopped(job: Job) -> None:
    """Its own end is shown, and how to go on."""
    watcher = Watcher(job.journal, "--reporter=plain")
    job.process.send_signal(signal.SIGINT)
    until(lambda: b"run.stopping" in job.log.read_bytes(), "the stop")
    job.process.send_signal(signal.SIGINT)
    code, err = watcher.end()
    assert code == 3
    assert "Interrupted (Ctrl-C)   20 completed · 10 outstanding · " in err
    assert "to resume, run the same program again" in err


class Time:
    """Real time that only passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Return the time, seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def followed(path: Path, reporter: EventRecorder, for_s: float = 60.0) -> tuple[str, Time]:
    """Follow the run at `path` for so many seconds at most; return why that ended, and the time."""
    clock = Time()
    with closing(open_history(str(path), follows=True)) as history, Feeding([reporter], history) as feeding:
        end = follow(history, feeding, lambda: clock.now >= for_s, monotonic=clock.monotonic, sleep=clock.sleep)
    return end, clock


def test_a_file_in_which_nothing_is_recorded_yet_is_waited_for_with_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, so that nobody takes an empty screen for a fault."""
    path = tmp_path / "run.jsonl"
    path.touch()

    assert followed(path, EventRecorder(), for_s=3.0)[0] == "detached"
    assert capsys.readouterr().err.count(f"aqueue: {path} has no events of a run yet; waiting for them\n") == 1


@pytest.mark.parametrize("write", [write_log, write_journal])
def test_a_file_that_is_not_there_yet_is_waited_for(
    tmp_path: Path, write: Callable[[Path, Sequence[Event]], Path]
) -> None:
    """A watcher may be there before the run; Ctrl-C ends the wait."""
    file = tmp_path / ("run.db" if write is write_journal else "run.jsonl")
    waiting = Watcher(file, "--reporter", "none")
    assert waiting.process.stderr is not None
    assert waiting.process.stderr.readline() == f"aqueue: {file} doesn't exist yet; waiting for it\n"
    waiting.process.send_signal(signal.SIGINT)
    assert waiting.end() == (130, "")
    watcher = Watcher(file, "--reporter", "none")
    assert watcher.process.stderr is not None
    watcher.process.stderr.readline()
    (tmp_path / "new").mkdir()
    write(tmp_path / "new", completed(3)).rename(file)

    assert watcher.end() == (0, "")


def begun(**options: Any) -> Script:
    """Return a run that has begun, with an item at work."""
    script = Script(**options)
    script.start(script.enqueue())
    return script


def test_clocks_tick_while_nothing_happens(tmp_path: Path) -> None:
    """About ten times a second."""
    recorder = EventRecorder()
    end, _ = followed(write_log(tmp_path, begun().events), recorder)
    assert end == "detached"
    assert 400 <= recorder.calls.count("handle") <= 602


def test_whether_the_process_is_there_is_looked_up_in_time(tmp_path: Path) -> None:
    """One that has ended is noticed about a second after its last event; the others are not taken for gone."""
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    pid = int(ended.stdout)
    end, clock = followed(write_log(tmp_path, begun(host=None, pid=pid).events), EventRecorder())
    assert end == "gone"
    assert 0.9 <= clock.now <= 1.2
    for script in (begun(host=None, pid=None), begun(host="elsewhere.example", pid=pid)):
        assert followed(write_log(tmp_path, script.events), EventRecorder())[0] == "detached"
    lacking = begun(host=None, pid=pid).events[1:]
    assert followed(write_log(tmp_path, lacking), EventRecorder())[0] == "detached"


def test_another_run_begins_in_the_log(tmp_path: Path, aqueue: Aqueue) -> None:
    """The first is over then, as its process must be."""
    path = write_log(tmp_path, begun(host=socket.gethostname()).events)
    with path.open("ab") as log:
        log.write(encode_lines(begun(run_id="next").events))
    done = aqueue("watch", path, "--run=1", "--reporter=plain")
    assert done.code == 3
    assert "is gone; the log continues with another run" in done.err


# ---- logs that come through a pipe ------------------------------------------------------------------------------


def test_a_log_comes_through_a_pipe(tmp_path: Path) -> None:
    """As from another machine: it is shown while it comes, and its end is the run's."""
    events = completed(10)
    copy = tmp_path / "copy.jsonl"
    reading, writing = os.pipe()
    watcher = Watcher("-", "--reporter=plain", f"--reporter=jsonl:{copy}", stdin=reading)
    os.close(reading)
    data = encode_lines(events)
    half = len(data) // 2  # in the midst of a line
    os.write(writing, data[:half])
    until(lambda: copy.exists() and copy.read_bytes().count(b"\n") == data[:half].count(b"\n"), "the first half")
    os.write(writing, data[half:])
    code, err = watcher.end()
    os.close(writing)
    assert code == 0
    assert "Completed   10 items in " in err


@pytest.mark.parametrize(("age_s", "code", "state"), [(0.0, 4, "running"), (3600.0, 3, "interrupted")])
def test_a_log_that_ends_before_the_run(tmp_path: Path, age_s: float, code: int, state: str) -> None:
    """What is known of the run then: it goes on, as far as anyone can tell, or it has been silent for long."""
    path = write_log(tmp_path, begun(age_s=age_s).events)
    with path.open("rb") as log:
        done = watch(Path("-"), "--reporter=plain", stdin=log)
    assert done.returncode == code
    assert "Interrupted (the log ends here)   0 completed · 1 outstanding · " in done.stderr
    assert f"aqueue: the log ends here; {state}: pid 1234 on elsewhere.example" in done.stderr


def test_which_run_of_a_pipe_can_not_be_chosen() -> None:
    """It is refused rather than ignored."""
    done = watch(Path("-"), "--run=2", input="")
    assert done.returncode == 2
    assert "--run" in done.stderr


# ---- reporters --------------------------------------------------------------------------------------------------


class Raising(EventRecorder):
    """A reporter that raises once an item has completed."""

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        super().handle(events, view)
        if view.counts.completed:
            raise OSError("no space left")


def make_raising() -> Raising:
    """Make a reporter; named by an entry point."""
    return Raising()


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a distribution whose entry point names it."""
    metadata = tmp_path / "plugins-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plugins\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[aqueue.reporters]\nraising = {__name__}:make_raising\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_a_reporter_that_raises_is_left_out(tmp_path: Path, aqueue: Aqueue, plugin: None) -> None:
    """One warning, and the others go on; with none left, watching ends with 2."""
    path = write_log(tmp_path, completed(3))
    done = aqueue("watch", path, "--reporter=raising", "--reporter=plain")
    assert done.code == 0
    assert done.err.count("Raising raised OSError: no space left; it gets no more events") == 1
    assert "Completed   3 items in " in done.err

    done = aqueue("watch", path, "--reporter=raising")
    assert done.code == 2
    assert "all reporters have failed" in done.err


def test_a_reporter_that_can_not_be_opened(tmp_path: Path, aqueue: Aqueue) -> None:
    """One line says why."""
    done = aqueue("watch", write_log(tmp_path, completed(3)), f"--reporter=jsonl:{tmp_path}/no/such/folder/copy")
    assert done.code == 2
    assert "could not be opened" in done.err


def test_without_reporters_it_waits_for_the_end(job: Job) -> None:
    """For scripts: nothing is written, and the exit code tells how the run ended."""
    watcher = Watcher(job.journal, "--reporter=none")
    job.end()
    assert watcher.end() == (0, "")


def test_a_reporter_that_is_stuck_does_not_keep_it(tmp_path: Path) -> None:
    """It writes into a pipe that nobody reads: a signal ends the watcher all the same, some seconds later."""
    path = write_log(tmp_path, completed(5_000))
    reading, writing = os.pipe()
    process = subprocess.Popen([*WATCH, str(path), "--reporter=jsonl"], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert os.read(reading, 1)
    process.terminate()
    _, err = process.communicate(timeout=DEADLINE_S)
    os.close(reading)
    assert process.returncode == 128 + signal.SIGTERM
    assert b"waiting for a reporter that is stuck" in err


def test_a_journal_that_is_replaced(job: Job, tmp_path: Path) -> None:
    """It is told, and the terminal is put back."""
    with PtyProcess(*WATCH, job.journal, columns=200) as watcher:
        watcher.until("waiting Gated1")
        job.journal.rename(tmp_path / "moved.db")
        assert watcher.wait() == 2
        assert "was removed or replaced" in watcher.shown
        watcher.assert_terminal_restored()


def test_what_can_not_be_watched(tmp_path: Path, aqueue: Aqueue) -> None:
    """A file that is something else is told in one line."""
    (tmp_path / "text").write_text("no run\n")
    done = aqueue("watch", tmp_path / "text")
    assert (done.code, done.err.count("\n")) == (2, 1)


def test_help_has_examples(aqueue: Aqueue) -> None:
    """They are what most people read."""
    assert "ssh host tail -f -n +1 run.jsonl | aqueue watch -" in aqueue("watch", "--help").out
