"""``aqueue replay``: events come when their time has come, on the run's own clock; a person can stop it and speed it up.

`cli._playing.playback` goes by `cli._playing.replay_clock`, and heeds `cli._playing.keyboard` and
`cli._playing.stop_signals`.
"""

import itertools
import json
import math
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqueue._history.opening import open_history
from aqueue.cli._playing.feeding import Feeding
from aqueue.cli._playing.playback import Playback
from aqueue.cli._playing.replay_clock import ReplayClock
from aqueue.events import Event, ItemEnqueued, ItemStarted
from aqueue.reporting import Reporter, StillReporter, resolve_reporters
from aqueue.result import RunResult
from aqueue.testing import EventRecorder
from aqueue.view import RunView
from tests.cli.conftest import Aqueue
from tests.cli.scripted import Script, write_journal, write_log
from tests.processes.pty_process import PtyProcess
from tests.reporters.emulator import Emulator
from tests.strategies import event_streams

REPLAY = [sys.executable, "-c", "from aqueue.cli import main; main()", "replay"]
BEGIN = 1_700_000_000.0


class Stage:
    """Real time that only passes when somebody waits, and keys that are typed at certain moments of it."""

    def __init__(self, *keys: tuple[float, str]) -> None:
        self.now = 0.0
        self._keys = list(keys)

    def monotonic(self) -> float:
        """Return the time, seconds."""
        return self.now

    def wait(self, seconds: float) -> str:
        """Let time pass, until a key is typed at most."""
        assert seconds >= 0
        if self._keys and self._keys[0][0] <= self.now + seconds:
            at, key = self._keys.pop(0)
            self.now = max(self.now, at)
            return key
        self.now += seconds
        return ""


class SlowMachine(Stage):
    """Time that also passes, by so much, whenever somebody asks for it."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def monotonic(self) -> float:
        """Return the time, seconds."""
        self.now += self._seconds
        return self.now


class Seen(EventRecorder):
    """A reporter that notes when each event came, in real time and on its clock."""

    def __init__(self, stage: Stage, clock: Callable[[], float]) -> None:
        super().__init__()
        self._stage = stage
        self._clock = clock
        self.moments: list[tuple[Event, float, float]] = []
        self.ticks: list[tuple[float, float]] = []

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        super().handle(events, view)
        self.moments += [(event, self._stage.now, self._clock()) for event in events]
        self.ticks.append((self._stage.now, self._clock()))


def slow_run(num_items: int = 5, seconds: float = 3.0) -> Script:
    """Return a run of items that take so long each, one after the other."""
    script = Script(at=BEGIN)
    for _ in range(num_items):
        item = script.enqueue(track_overall=True)
        script.start(item)
        script.wait(seconds)
        script.complete(item)
    return script


def play(
    path: Path,
    *keys: tuple[float, str],
    speed: float = 1.0,
    until: int | None = None,
    max_gap_s: float = math.inf,
    stage: Stage | None = None,
) -> tuple[Seen, Stage, str]:
    """Replay the run at `path`; return what a reporter saw, the time at the end, and why it ended."""
    stage = stage or Stage(*keys)
    clock = ReplayClock(speed, stage.monotonic)
    seen = Seen(stage, clock)
    with Feeding([seen], open_history(str(path))) as feeding:
        playback = Playback(
            open_history(str(path)),
            feeding,
            clock,
            until=until,
            max_gap_s=max_gap_s,
            wait=stage.wait,
            monotonic=stage.monotonic,
        )
        end = playback.play()
        feeding.leave("tested")
    return seen, stage, end


@pytest.mark.parametrize("speed", [0.5, 1.0, 10.0])
def test_each_event_comes_when_its_time_has_come(tmp_path: Path, speed: float) -> None:
    """At the time of the run divided by the speed, 50 ms later at most, and on the run's clock not before its own time."""
    events = slow_run().finish("completed")
    seen, stage, end = play(write_log(tmp_path, events), speed=speed)

    assert seen.events == events
    assert end == "run"
    for event, real, virtual in seen.moments:
        assert -1e-5 <= real - (event.at - events[0].at) / speed <= 0.0501
        assert event.at - 1e-6 <= virtual <= event.at + 0.0501 * speed
    assert stage.now == pytest.approx((events[-1].at - events[0].at) / speed, abs=0.0501)


def test_clocks_tick_about_ten_times_a_second(tmp_path: Path) -> None:
    """Also while nothing happens; events come at most about twenty times a second."""
    seen, _, _ = play(write_log(tmp_path, slow_run().finish("completed")))

    calls = sorted({real for real, _ in seen.ticks})
    assert max(after - before for before, after in itertools.pairwise(calls)) <= 0.151
    batches = sorted({real for _, real, _ in seen.moments})[:-1]  # at the end nothing waits
    assert min(after - before for before, after in itertools.pairwise(batches)) >= 0.049


def test_as_fast_as_possible_waits_for_nothing(tmp_path: Path) -> None:
    """Every event comes, in order, in a few large batches, and the clock tells their times."""
    script = Script(at=BEGIN)
    for _ in range(30_000):
        item = script.enqueue()
        script.start(item)
        script.complete(item)
    events = script.finish("completed")
    seen, stage, _ = play(write_log(tmp_path, events), speed=math.inf)

    assert stage.now == 0
    assert seen.events == events
    assert seen.calls.count("handle") < 20
    assert seen.ticks[-1][1] == events[-1].at


@given(events=event_streams(), speed=st.sampled_from([3.0, 1e6, math.inf]))
@settings(max_examples=40)
def test_any_run_is_replayed_whole_and_in_order(
    events: list[Event], speed: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A reporter gets what is recorded, none left out and none twice, whatever the run and the speed."""
    seen, _, _ = play(write_log(tmp_path_factory.mktemp("run"), events), speed=speed, max_gap_s=0.2)
    assert seen.events == events


@pytest.mark.parametrize("seconds", [0.0007, 0.011, 0.3])
def test_on_a_slow_machine_events_come_late_but_they_come(tmp_path: Path, seconds: float) -> None:
    """Whatever takes long between two steps, all events come in order, and no wait is less than none."""
    events = slow_run(num_items=20, seconds=0.02).finish("completed")
    seen, _, end = play(write_log(tmp_path, events), stage=SlowMachine(seconds))
    assert (seen.events, end) == (events, "run")


def test_space_pauses_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While it is paused nothing comes, the run's clock stands still, and reporters are called nevertheless."""
    events = slow_run().finish("completed")
    seen, stage, _ = play(write_log(tmp_path, events), (4.0, " "), (64.0, " "))

    assert stage.now == pytest.approx(60 + events[-1].at - events[0].at, abs=0.1)
    during = [virtual for real, virtual in seen.ticks if 4.06 < real < 64]
    assert len(during) > 300
    assert set(during) == {during[0]}
    assert during[0] == pytest.approx(BEGIN + 4, abs=0.1)
    assert "paused at event 6: 1 of 2 completed; press space to continue" in capsys.readouterr().err


def test_plus_and_minus_change_the_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each doubles or halves it; the run's clock does not jump."""
    events = slow_run(num_items=10).finish("completed")
    seen, stage, _ = play(write_log(tmp_path, events), (4.0, "++"), (5.0, "-"))

    took = events[-1].at - events[0].at
    assert stage.now == pytest.approx(4 + 1 + (took - 4 - 4) / 2, abs=0.1)
    assert [line for line in capsys.readouterr().err.splitlines() if "speed" in line] == [
        "speed 2",
        "speed 4",
        "speed 2",
    ]
    clocks = [virtual for _, virtual in seen.ticks]
    assert clocks == sorted(clocks)


def test_the_time_until_a_resume_is_cut_short_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Between a crash and its resume the clock stands still for a second, and a line says how long it was."""
    script = slow_run()
    before = script.events[-1].at
    script.wait(3 * 3600 + 12 * 60)
    script.resume()
    item = script.enqueue()
    script.start(item)
    script.wait(2.0)
    script.complete(item)
    events = script.finish("completed")
    seen, stage, _ = play(write_log(tmp_path, events))

    assert "— resumed after 3 h 12 min —" in capsys.readouterr().err
    assert seen.events == events
    assert stage.now == pytest.approx(before - events[0].at + 1.0 + 2.0, abs=0.2)
    resumed_at = next(real for event, real, _ in seen.moments if event.event == "run.resumed")
    during = [virtual for real, virtual in seen.ticks if resumed_at - 0.9 < real < resumed_at]
    assert len(during) >= 8
    assert all(virtual == pytest.approx(before, abs=0.06) for virtual in during)


def test_a_long_silence_is_kept_unless_it_is_limited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An hour without an event takes an hour, or as long as --max-gap says; then a line tells what was left out."""
    path = write_log(tmp_path, slow_run(num_items=1, seconds=3600.0).finish("completed"))

    assert play(path)[1].now == pytest.approx(3600, abs=0.2)
    assert capsys.readouterr().err == ""
    seen, stage, _ = play(path, max_gap_s=2.0)
    assert stage.now == pytest.approx(2, abs=0.2)
    assert "— skipped 1 h 0 min without events —" in capsys.readouterr().err
    assert [event.event for event in seen.events][-2:] == ["item.completed", "run.finished"]


def test_until_stops_after_that_event(tmp_path: Path) -> None:
    """What comes later is not handed on; an event beyond the last is none to stop at."""
    events = slow_run().finish("completed")
    path = write_log(tmp_path, events)

    seen, _, end = play(path, until=7)
    assert (seen.events, end) == (events[:7], "until")
    assert play(path, until=10_000)[2] == "run"


@pytest.mark.parametrize("key", ["q", "Q"])
def test_q_quits_at_once(tmp_path: Path, key: str) -> None:
    """Nothing is waited for any more."""
    _, stage, end = play(write_log(tmp_path, slow_run().finish("completed")), (4.01, key))
    assert (end, stage.now) == ("quit", 4.01)


def test_q_quits_while_paused_and_between_processes(tmp_path: Path) -> None:
    """Wherever it waits it can be left."""
    script = slow_run(num_items=1)
    script.wait(60.0)
    script.resume()
    path = write_log(tmp_path, script.finish("completed"))
    assert play(path, (1.0, " "), (9.0, "q"))[2] == "quit"
    _, stage, end = play(path, (3.5, "q"))
    assert (end, stage.now) == ("quit", 3.5)


# ---- the reporters ----------------------------------------------------------------------------------------------


def test_reporters_that_take_a_clock_are_given_the_replays() -> None:
    """Those of aqueue that show times take it; the others are made as ever."""
    clock = ReplayClock()
    clock.speed = math.inf
    clock.set(12.0)
    rich, jsonl = resolve_reporters(["rich", "jsonl"], clock=clock)
    (plain,) = resolve_reporters("plain", clock=clock)
    assert vars(rich)["_clock"] is vars(plain)["_clock"] is clock
    assert clock not in vars(jsonl).values()


def test_elapsed_times_and_rates_are_those_of_the_run(tmp_path: Path, aqueue: Aqueue) -> None:
    """A run of an hour is told as one, although its replay takes no time."""
    events = slow_run(num_items=60, seconds=60.0).finish("completed")
    done = aqueue("replay", write_log(tmp_path, events), "--speed", "inf", "--reporter", "plain")
    assert done.code == 0
    assert "Completed   60 items in 1:00:02 · 1.0/min" in done.err


class Still(EventRecorder):
    """A reporter that can leave a moment to be seen."""

    still: tuple[RunResult, int] | None = None

    def close_still(self, result: RunResult, view: RunView) -> None:
        """Keep that it was asked to."""
        self.still = result, view.seq


class Raising(EventRecorder):
    """A reporter that raises at the first failure to like what it sees."""

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        super().handle(events, view)
        if any(isinstance(event, ItemStarted) for event in events):
            raise ValueError("a mistake\x1b[2J")


made: list[EventRecorder] = []


def make_still() -> Reporter:
    """Make a reporter; named by an entry point."""
    made.append(Still())
    return made[-1]


def make_raising() -> Reporter:
    """Make a reporter; named by an entry point."""
    made.append(Raising())
    return made[-1]


@pytest.fixture(autouse=True)
def _plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a distribution with these two as plugins."""
    metadata = tmp_path / "plugins-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plugins\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        f"[aqueue.reporters]\nstill = {__name__}:make_still\nraising = {__name__}:make_raising\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("AQUEUE_REPORTER", raising=False)
    made.clear()


def test_a_moment_is_left_to_be_seen(tmp_path: Path, aqueue: Aqueue) -> None:
    """After --until, reporters that can are asked to leave the moment; the others are told why it ended."""
    path = write_journal(tmp_path, slow_run().finish("completed"))
    done = aqueue("replay", path, "--speed=inf", "--until=7", "--reporter=still", "--reporter=plain")

    assert done.code == 0
    assert isinstance(made[0], StillReporter)
    assert isinstance(made[0], Still)
    assert made[0].still is not None
    result, seq = made[0].still
    assert (seq, made[0].result) == (7, None)
    assert (result.stop_reason, result.status) == ("replayed up to event 7", "interrupted")
    assert result.journal == str(path.resolve())
    assert "Watching ended (replayed up to event 7)   2 completed · " in done.err
    assert "aqueue: replayed up to event 7: 2 of 2 completed; the recording continues" in done.err


def test_a_reporter_that_raises_is_detached_and_the_others_go_on(tmp_path: Path, aqueue: Aqueue) -> None:
    """One warning, made safe to show; with none left the replay ends, with 2."""
    path = write_log(tmp_path, slow_run().finish("completed"))
    done = aqueue("replay", path, "--speed=inf", "--reporter=still", "--reporter=raising")
    assert done.code == 0
    assert done.err.count("raised ValueError: a mistake\\x1b[2J") == 1
    assert made[0].result is not None
    assert made[0].result.status == "completed"

    done = aqueue("replay", path, "--speed=inf", "--reporter=raising")
    assert done.code == 2
    assert "all reporters have failed" in done.err
    assert made[-1].calls == ["open", "handle"]


def test_the_exit_code_is_0_however_the_run_ended(tmp_path: Path, aqueue: Aqueue) -> None:
    """A failed run is replayed well; so is one whose record just ends. Lines that can't be read are told by 2."""
    script = slow_run(num_items=1)
    item = script.enqueue()
    script.start(item)
    path = write_log(tmp_path, script.events)
    done = aqueue("replay", path, "--speed=inf", "--reporter=plain")
    assert done.code == 0
    assert "Interrupted (the recording ends here)   1 completed · 1 outstanding · " in done.err

    script.fail_now(item)
    lines = write_log(tmp_path, script.finish("failed")).read_bytes()
    assert aqueue("replay", path, "--speed=inf", "--reporter=still").code == 0
    assert made[-1].result is not None
    assert [group.count for group in made[-1].result.failure_groups] == [1]
    path.write_bytes(lines.replace(b'{"event":"item.started"', b"gar\x1bbled", 1))
    done = aqueue("replay", path, "--speed=inf", "--reporter=none")
    assert done.code == 2
    assert "line 3 could not be read" in done.err


def test_failures_that_were_run_again_are_none_in_the_end(tmp_path: Path, aqueue: Aqueue) -> None:
    """What a resume took up again counts by what came of it then."""
    script = slow_run(num_items=1)
    items = [script.enqueue() for _ in range(3)]
    for item in items:
        script.start(item)
        script.fail_now(item)
    script.resume()
    for item in items[:2]:
        script.reopen(item)
    script.start(items[0])
    script.complete(items[0])
    script.start(items[1])
    script.fail_now(items[1])
    aqueue("replay", write_log(tmp_path, script.finish("failed")), "--speed=inf", "--reporter=still")
    result = made[-1].result
    assert result is not None
    assert sorted(failure.item for failure in result.failures) == items[1:]
    assert [group.count for group in result.failure_groups] == [2] == [result.counts.failed]


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "fast"])
def test_a_speed_that_is_none(tmp_path: Path, aqueue: Aqueue, speed: str) -> None:
    """It is refused before anything is read."""
    done = aqueue("replay", tmp_path / "none.db", f"--speed={speed}")
    assert done.code == 2
    assert "--speed" in done.err


@pytest.mark.parametrize("gap", ["0", "-1", "nan", "-inf", "long"])
def test_a_gap_that_is_none(tmp_path: Path, aqueue: Aqueue, gap: str) -> None:
    """It is refused before anything is read, by name; what is a number is told which are allowed."""
    done = aqueue("replay", tmp_path / "none.db", f"--max-gap={gap}")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "'--max-gap'" in done.err
    assert "a number above 0" in done.err or gap == "long"


def test_no_reporter_may_write_to_the_file_that_is_read(tmp_path: Path, aqueue: Aqueue) -> None:
    """A slip of the finger would spoil it."""
    path = write_journal(tmp_path, slow_run().finish("completed"))
    before = path.read_bytes()
    done = aqueue("replay", path, "--speed=inf", f"--reporter=jsonl:{tmp_path}/./run.db")
    assert done.code == 2
    assert "would write to the file being read" in done.err
    assert path.read_bytes() == before


def test_help_has_examples(aqueue: Aqueue) -> None:
    """They are what most people read."""
    assert "aqueue replay run.db --speed 10" in aqueue("replay", "--help").out


# ---- on a terminal ----------------------------------------------------------------------------------------------


def hour(folder: Path) -> Path:
    """Return a log of a run of an hour, in which something happens all the time."""
    return write_log(folder, slow_run(num_items=3600, seconds=1.0).finish("completed"))


def test_rich_leaves_the_moment_on_the_screen(tmp_path: Path) -> None:
    """After --until the panels stand there, as they were then, above the prompt; the cursor is shown."""
    with PtyProcess(*REPLAY, hour(tmp_path), "--speed", "inf", "--until", "151") as job:
        assert job.wait() == 0
        shown = job.shown
        assert "Overall Progress" in shown
        assert "50 of 50 completed" in shown
        assert "elapsed 0:51" in shown
        assert "replayed up to event 151" in shown
        assert "Interrupted" not in shown
        job.assert_terminal_restored()


@pytest.mark.parametrize("leave", [b"q", b"\x03"])
def test_keys_on_a_terminal(tmp_path: Path, leave: bytes) -> None:
    """Space is obeyed without Enter and not shown; a stopped replay gives the terminal back; so does its end."""
    with PtyProcess(*REPLAY, hour(tmp_path), "--reporter", "rich", keeps_output=True) as job:
        job.until("space pauses and resumes", "Overall Progress")
        job.type(b" ")
        job.until("paused at event")
        job.type(b"\x1a")
        job.wait_stopped()
        job.assert_terminal_usable()
        assert "Overall Progress" not in job.shown
        before = job.text.count("Overall Progress")
        job.foreground()
        job.until_more("Overall Progress", before)
        job.type(b"+")
        job.until("speed 2")
        job.type(b" ")
        job.type(leave)
        assert job.wait() == 0, job.shown
        assert "aqueue: replayed up to event" in job.shown
        assert "Overall Progress" not in job.shown
        job.assert_terminal_restored()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it(tmp_path: Path, number: signal.Signals) -> None:
    """The terminal is put back, its settings too."""
    with PtyProcess(*REPLAY, hour(tmp_path)) as job:
        job.until("Overall Progress")
        job.kill(number)
        assert job.wait() == 128 + number
        job.assert_terminal_restored()


def test_in_the_background_it_goes_on(tmp_path: Path) -> None:
    """After bg it touches neither the terminal nor its keys, and ends by itself."""
    with PtyProcess(*REPLAY, hour(tmp_path), "--speed", "600", "--reporter", "rich", keeps_output=True) as job:
        job.until("Overall Progress")
        job.type(b"\x1a")
        job.wait_stopped()
        job.background()
        assert job.wait() == 0, job.shown
        assert "Completed" in job.shown
        job.assert_terminal_restored()


def test_the_panels_of_a_replay_tell_the_runs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes into the run its display says so, but for a few seconds between two draws."""
    with Emulator(columns=100, rows=30) as terminal:
        monkeypatch.setattr(sys, "stderr", terminal.stream)
        monkeypatch.setenv("TERM", "xterm-256color")
        stage = Stage()
        clock = ReplayClock(60.0, stage.monotonic)
        history = open_history(str(hour(tmp_path)))
        with Feeding(resolve_reporters("rich", clock=clock), history) as feeding:
            playback = Playback(
                history,
                feeding,
                clock,
                wait=stage.wait,
                is_stopped=lambda: stage.now >= 10,
                monotonic=stage.monotonic,
            )
            assert playback.play() == "quit"
            terminal.until(lambda: any("elapsed 9:5" in line or "elapsed 10:0" in line for line in terminal.lines()))
            assert any(
                re.search(r"(0\.9|1\.[01])/s completed, (0\.9|1\.[01])/s found", line) for line in terminal.lines()
            )


def test_events_are_those_of_the_record(tmp_path: Path, aqueue: Aqueue) -> None:
    """Replayed into a log, a run is recorded as it was."""
    events = slow_run().finish("completed")
    copy = tmp_path / "copy.jsonl"
    aqueue("replay", write_journal(tmp_path, events), "--speed=inf", f"--reporter=jsonl:{copy}")
    lines = [json.loads(line) for line in copy.read_text().splitlines()]
    assert [line["seq"] for line in lines] == [event.seq for event in events]
    assert sum(line["event"] == "item.enqueued" for line in lines) == sum(isinstance(e, ItemEnqueued) for e in events)
