"""Commands that reach a live run through its control socket, by `aqueue.steering`; what the run says is `_run.control`'s.

The messages are `_verbs`'. Items send the commands here, each in a thread, so that the loop can carry them out.
"""

import stat
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from aqueue import Backend, EnqueueFn, JournalError, Limit, MisplacedCall, SetDescFn, SteeringError, run_queue, steering
from aqueue._delivery.delivery import Delivery
from aqueue._engine.steering import Steering
from aqueue._journal.writer import Journal
from aqueue.events import Event, RunPaused, RunStopping, RunUnpaused, RunWorkersChanged
from aqueue.steering import Answer
from tests.engine.invariants import check_events
from tests.engine.jobs import Do, Noop
from tests.journal.recorded import events_of

FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {}


class Storable(Do):
    """A job that a journal stores by the name of what it does."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await FUNCTIONS[self.name](enqueue, set_desc)


def run(path: Path, function: Callable[..., Any], *others: Any, **arguments: Any) -> Any:
    """Run an item that does what `function` does, and others, recorded at `path`."""
    FUNCTIONS["it"] = function
    return run_queue([Storable("it"), *others], resume=path, reporter="none", **arguments)


async def in_thread(function: Callable[..., Answer], *arguments: Any, **named: Any) -> Answer:
    """Call a blocking function while the loop runs."""
    return await anyio.to_thread.run_sync(partial(function, *arguments, **named))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the run is recorded."""
    return tmp_path / "run.db"


def test_each_verb_reaches_a_live_run_and_is_committed_when_it_is_answered(path: Path, backend: Backend) -> None:
    """The socket is only for its user, the answer comes after the commit, and nothing is left behind."""

    def has_recorded(kind: type[Event]) -> bool:
        return any(isinstance(event, kind) and event.by.endswith("via page") for event in events_of(path))  # type: ignore[attr-defined]

    async def steer(*_: Any) -> None:
        found = Path(f"{path}.sock").stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
        answer = await in_thread(steering.pause, path, via="page")
        assert (answer.changed, answer.is_live, answer.running) == (True, True, 1)
        assert has_recorded(RunPaused)
        assert not (await in_thread(steering.pause, path)).changed
        assert (await in_thread(steering.workers, path, 3, via="page")).num_workers == 1
        assert has_recorded(RunWorkersChanged)
        assert (await in_thread(steering.limit, path, "a", Limit(per_second=2.0))).changed
        assert (await in_thread(steering.limit, path, "a", "default")).per_second == 2.0
        assert (await in_thread(steering.unpause, path, via="page")).by.endswith("via page")
        assert has_recorded(RunUnpaused)
        assert (await in_thread(steering.stop, path, via="page")).is_stopping
        assert has_recorded(RunStopping)

    result = run(path, steer, Noop(), num_workers=1, backend=backend)
    assert result.stop_reason.startswith("stopped by ")
    check_events(events_of(path))
    assert sorted(file.name for file in path.parent.iterdir()) == ["run.db", "run.db.lock"]
    answer = steering.pause(path)  # now it isn't live, and the command goes into its journal
    assert not answer.is_live


def test_run_without_control_takes_no_commands(path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket is made; a command says who has the journal, and that the run takes none."""
    monkeypatch.setattr(steering, "_PATIENCE_S", 0.1)

    async def steer(*_: Any) -> None:
        assert not Path(f"{path}.sock").exists()
        with pytest.raises(
            SteeringError, match=r"takes no commands: it was started with control=False, .* in use by another run"
        ):
            await in_thread(steering.pause, path)

    assert run(path, steer, control=False, backend=backend).status == "completed"


def test_command_in_the_loop_of_its_run_is_refused_instead_of_waiting_for_itself(path: Path, backend: Backend) -> None:
    """The error names both ways that work."""

    async def steer(*_: Any) -> None:
        with pytest.raises(MisplacedCall, match=r"would block the event loop .*await anyio.to_thread.run_sync"):
            steering.pause(path)

    assert run(path, steer, backend=backend).status == "completed"


def test_command_in_the_loop_of_another_run_is_carried_out(path: Path, backend: Backend) -> None:
    """A program may have the run in a thread, and its own event loop in another: that one doesn't wait for itself."""
    answers: list[Answer] = []
    is_running = threading.Event()

    async def wait(*_: Any) -> None:
        is_running.set()
        while not answers:
            await anyio.sleep(0.005)

    async def steer() -> None:
        answers.append(steering.workers(path, 3))

    thread = threading.Thread(target=partial(run, path, wait, backend=backend))
    thread.start()
    assert is_running.wait(20)
    anyio.run(steer, backend=backend)
    thread.join(20)
    assert (answers[0].changed, answers[0].is_live) == (True, True)


def test_answer_waits_for_the_commit(path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk is slow, nothing is said to be saved; the caller is told why it waits."""
    write, slow = Journal.write, threading.Event()
    slow.set()

    def wait(journal: Journal, batch: list[Event]) -> None:
        slow.wait(10)
        write(journal, batch)

    monkeypatch.setattr(Journal, "write", wait)
    apply, applied = Steering.apply, threading.Event()

    def note(*arguments: Any) -> Answer:
        answer = apply(*arguments)
        applied.set()
        return answer

    monkeypatch.setattr(Steering, "apply", note)
    answers: list[Answer] = []

    async def steer(*_: Any) -> None:
        slow.clear()
        thread = threading.Thread(target=lambda: answers.append(steering.workers(path, 4)))
        thread.start()
        await anyio.to_thread.run_sync(applied.wait)
        await anyio.sleep(0.1)
        assert not answers
        assert not any(isinstance(event, RunWorkersChanged) for event in events_of(path))
        slow.set()
        await anyio.to_thread.run_sync(thread.join)
        assert answers[0].changed
        assert any(isinstance(event, RunWorkersChanged) for event in events_of(path))

    assert run(path, steer, num_workers=2, backend=backend).status == "completed"


def test_command_that_can_not_be_saved_says_so(path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that can't be written stops the run, and the answer isn't that the command holds."""
    refused: list[str] = []

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async def steer(*_: Any) -> None:
        monkeypatch.setattr(Journal, "_insert_all", full)
        try:
            await in_thread(steering.pause, path)
        except SteeringError as error:
            refused.append(str(error))
            raise

    with pytest.raises(JournalError, match="No space left"):
        run(path, steer, backend=backend)
    # The run cancels the item, but not its thread; the refusal is what that got.
    assert not refused or refused == [
        "the command was carried out, but the journal can't be written any more, so the run has stopped"
    ]


def test_error_that_nobody_expects_is_no_end_of_the_run(
    path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is raised in a callback of the loop, where trio would take it for an error of its own and end everything."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    async def steer(*_: Any) -> None:
        monkeypatch.setattr(Steering, "apply", fail)
        with pytest.raises(SteeringError, match="could not carry out the command; its standard error says why"):
            await in_thread(steering.pause, path)

    assert run(path, steer, backend=backend).status == "completed"
    assert "commands to this run may fail: ZeroDivisionError('a bug'); the run continues" in capfd.readouterr().err


def test_paused_run_reminds_of_it(
    path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every ten minutes it says on standard error what would let it continue; no longer than it is paused."""
    monkeypatch.setattr("aqueue._engine.steering.REMIND_S", 0.05)

    async def steer(*_: Any) -> None:
        steering.pause()
        await anyio.sleep(0.18)
        steering.unpause()
        capfd.readouterr()  # it has said it by now
        steering.pause()
        steering.unpause()
        await anyio.sleep(0.1)

    said = []
    read = capfd.readouterr

    def readouterr() -> Any:
        said.append(read().err)
        return said[-1]

    monkeypatch.setattr(capfd, "readouterr", readouterr)
    run(path, steer, backend=backend)
    assert said[0].count(f"; nothing starts until: aqueue unpause {path}") in (2, 3)
    assert "nothing starts" not in read().err


def test_run_that_has_just_ended_finds_the_command_in_its_journal(
    path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that comes while the run closes isn't lost: it is applied once the journal is free."""
    answers: list[Answer] = []
    threads: list[threading.Thread] = []
    close = Delivery.close

    async def steer_and_close(delivery: Delivery, *arguments: Any) -> None:
        threads.append(threading.Thread(target=lambda: answers.append(steering.pause(path))))
        threads[0].start()
        await anyio.sleep(0.05)
        await close(delivery, *arguments)

    monkeypatch.setattr(Delivery, "close", steer_and_close)

    async def nothing(*_: Any) -> None:
        pass

    assert run(path, nothing, backend=backend).status == "completed"
    threads[0].join(10)
    assert [(answer.changed, answer.is_live) for answer in answers] == [(True, False)]
    assert isinstance(events_of(path)[-1], RunPaused)


def test_socket_that_can_not_be_made_is_one_warning(
    path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The run continues; commands work once it has ended."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("aqueue._control.server._listen", refuse)
    monkeypatch.setattr(steering, "_PATIENCE_S", 0.1)

    async def steer(*_: Any) -> None:
        with pytest.raises(SteeringError, match="its control socket can't be made, or"):
            await in_thread(steering.pause, path)

    assert run(path, steer, backend=backend).status == "completed"
    assert capfd.readouterr().err.count("can't be steered from outside") == 1
    assert steering.pause(path).changed


@pytest.mark.parametrize("control", [None, 1, "yes"])
def test_control_is_true_or_false(path: Path, control: Any) -> None:
    """As every other switch of a run."""
    with pytest.raises(ValueError, match=r"^control is .*; it must be True or False$"):
        run_queue([Noop()], journal=path, control=control)
