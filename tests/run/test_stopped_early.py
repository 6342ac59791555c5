"""A signal that comes before the first item: nothing has run, nothing is lost, and the same call goes on.

Signals are in place before `_run.session` starts the engine; how to go on is said by `_run.recorded`.
"""

import signal
import sys
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from aqueue import Backend, EnqueueFn, Item, ItemFailures, RunInfo, RunResult, SetDescFn, run_queue, stop
from aqueue._engine.context import steer
from aqueue._engine.stopping import OnError
from aqueue._run.recorded import _what_is_left
from aqueue._run.settings import Settings
from aqueue._verbs import Cancel
from aqueue.events import Event, ItemEnqueued, RunFinished, RunStarted, RunStopping
from aqueue.view import RunView
from tests.journal.recorded import events_of


class Leaf(Item):
    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        pass


class Interrupts:
    """A reporter that is interrupted while it opens."""

    uses_terminal = False

    def open(self, run: RunInfo) -> None:
        signal.raise_signal(signal.SIGTERM)

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        pass

    def close(self, result: RunResult) -> None:
        pass


@pytest.mark.skipif(not hasattr(signal, "SIGTERM"), reason="needs signals")
def test_a_signal_while_reporters_open_is_told_after_the_start(tmp_path: Path, backend: Backend) -> None:
    """The journal begins with the run's start, whatever comes before it; the run is interrupted, and can be resumed."""
    path = tmp_path / "run.db"
    with pytest.raises(SystemExit) as ended:
        run_queue([Leaf()], reporter=Interrupts(), resume=path, backend=backend)
    assert ended.value.code == 128 + signal.SIGTERM
    events = events_of(path)
    # Python calls the handler in the main thread a moment later, when the initial items may have been announced.
    kinds = [type(event) for event in events if not isinstance(event, ItemEnqueued)]
    assert kinds == [RunStarted, RunStopping, RunFinished]
    assert isinstance(events[0], RunStarted)
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert last.status == "interrupted"
    assert run_queue([Leaf()], reporter="none", resume=path, backend=backend).counts.completed == 1


class LosesCtrlC(Interrupts):
    """A reporter with a Ctrl-C where Python only prints exceptions, as it happens in the import of a reporter's modules."""

    @property
    def uses_terminal(self) -> bool:  # type: ignore[override]  # the others have an attribute
        _ = weakref.ref(Leaf(), lambda _: signal.raise_signal(signal.SIGINT))
        return False


def test_ctrl_c_while_reporters_are_loaded_is_not_lost(backend: Backend) -> None:
    """A `KeyboardInterrupt` that Python would print and forget ends the call, and no item runs."""
    items = iter([Leaf()])
    with pytest.raises(KeyboardInterrupt):
        run_queue(items, reporter=LosesCtrlC(), backend=backend)
    assert next(items, None) is not None


def interrupted(count: int) -> Iterator[Item]:
    """Yield items; a signal comes before the last."""
    for number in range(count):
        if number == count - 1:
            signal.raise_signal(signal.SIGTERM)
        yield Leaf()


@pytest.mark.parametrize("count", [1, 3])
def test_a_run_stopped_before_all_its_items_were_known_is_not_completed(
    count: int, tmp_path: Path, backend: Backend
) -> None:
    """Whoever asks for its state is not told that all is done; once it goes on, everything runs."""
    path = tmp_path / "run.db"
    with pytest.raises(SystemExit):
        run_queue(interrupted(count), reporter="none", resume=path, backend=backend)
    last = events_of(path)[-1]
    assert isinstance(last, RunFinished)
    assert last.status == "interrupted"
    resumed = run_queue([Leaf() for _ in range(count)], reporter="none", resume=path, backend=backend)
    assert (resumed.status, resumed.counts.completed) == ("completed", count)


# ---- how to go on -----------------------------------------------------------------------------------------------------


class Stops(Item):
    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        stop("enough")
        enqueue(Leaf())


@pytest.mark.parametrize(
    ("is_terminal", "program", "said"),
    [
        (True, "shop.py", "python -O shop.py --token 's3cret \\x1b'"),
        (False, "shop.py", "run shop.py again, with the same arguments"),
        (False, "-c", "run the same command again"),
    ],
    ids=["terminal", "log", "no file"],
)
def test_arguments_are_shown_to_the_person_who_typed_them_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_terminal: bool,
    program: str,
    said: str,
) -> None:
    """The line that says how to go on is whole on a terminal; what CI or journald keeps has no argument in it."""
    monkeypatch.setattr(sys, "orig_argv", ["python", "-O", program, "--token", "s3cret \x1b"])
    monkeypatch.setattr(sys, "argv", [program, "--token", "s3cret \x1b"])
    monkeypatch.setattr("aqueue._run.recorded.stderr_is_terminal", lambda: is_terminal)
    run_queue([Stops()], reporter="none", resume=tmp_path / "run.db")
    assert f"\n  Resume:         {said}\n" in f"\n{capsys.readouterr().err}"


def test_in_a_notebook_there_is_no_command_to_go_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor at Python's prompt: it is the call that goes on, not the program that shows the prompt."""
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)
    run_queue([Stops()], reporter="none", resume=tmp_path / "run.db")
    assert "  Resume:         make the same call again\n" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    run_queue([Stops()], reporter="none", resume=tmp_path / "other.db")
    assert "  Resume:         run this cell again\n" in capsys.readouterr().err


def test_a_journal_of_a_new_run_is_to_be_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same call would be refused: it is told what to change in it."""
    path = tmp_path / "run.db"
    run_queue([Stops()], reporter="none", journal=path)
    advice = f"pass resume={str(path)!r} instead of journal={str(path)!r}, and run it again"
    assert f"  Resume:         {advice}\n" in capsys.readouterr().err


class Fails(Item):
    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        raise ValueError("no")


@pytest.mark.parametrize(
    ("failed", "outstanding", "chosen", "said"),
    [
        (1, 0, {}, "Retry it:"),
        (2, 0, {}, "Retry them:"),
        (1, 1, {}, "Retry it and run the 1 outstanding:"),
        (1_000, 1_234, {}, "Retry them and run the 1,234 outstanding:"),
        (1, 0, {"retry_failed": False}, "Retry it (with retry_failed=True):"),
        (2, 0, {"retry_failed": False}, "Retry them (with retry_failed=True):"),
        (2, 1_234, {"retry_failed": False}, "Run the 1,234 outstanding:"),
        (2, 0, {"only": lambda _: True}, "Retry some of them:"),
        (0, 3, {}, "Run the 3 outstanding:"),  # others were cancelled
    ],
)
def test_what_the_next_run_does_is_said(failed: int, outstanding: int, chosen: dict[str, Any], said: str) -> None:
    """After failures: whether it retries them, and how many others it runs."""
    settings = cast(Settings, SimpleNamespace(**{"retry_failed": True, "only": None, **chosen}))
    assert _what_is_left(settings, failed, outstanding) == said


@pytest.mark.parametrize(
    ("count", "on_error", "said"),
    [
        (1, "continue", "  Retry it:       "),
        (3, "continue", "  Retry them:     "),
        (3, "stop", "  Retry it and run the 2 outstanding: "),
    ],
)
def test_after_failures_the_last_line_says_how_to_retry_them(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    on_error: OnError,
    said: str,
) -> None:
    """With `resume=` the same call does it; with `journal=` another argument."""
    monkeypatch.setattr(sys, "argv", ["-c"])  # not a command that could be named
    items = [Fails() for _ in range(count)]
    path = tmp_path / "run.db"
    with pytest.raises(ItemFailures):
        run_queue(items, reporter="none", num_workers=1, on_error=on_error, journal=path)
    advice = f"pass resume={str(path)!r} instead of journal={str(path)!r}, and run it again"
    assert capsys.readouterr().err.splitlines()[-1] == said + advice
    with pytest.raises(ItemFailures):
        run_queue(items, reporter="none", num_workers=1, on_error=on_error, resume=tmp_path / "other.db")
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"{said}run the same command again")


class Cancels(Item):
    """Has another item cancelled, which waits; perhaps another one fails."""

    fails_itself = False

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        enqueue(Fails())
        steer(Cancel(by="anna@laptop via aqueue", selector="2", items={"queued": [2]}))
        if self.fails_itself:
            raise ValueError("no")


def test_a_cancelled_item_is_retried_by_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No resume runs it again, so the last line isn't the program's own command."""
    path = tmp_path / "it's.db"
    with pytest.raises(ItemFailures) as raised:
        run_queue([Cancels()], reporter="plain", num_workers=1, resume=path)
    assert [str(error) for error in raised.value.exceptions] == ["cancelled by anna@laptop"]
    assert capsys.readouterr().err.splitlines()[-6:] == [
        "  1 × Fails: CancelledByUser  cancelled by anna@laptop",
        "      item 2",
        "",
        f"  See them all:   aqueue failures {quote(str(path))}",
        f"  Accept it:      aqueue skip {quote(str(path))} --state failed",
        f"  Retry it:       aqueue retry {quote(str(path))} --state failed",
    ]


def test_a_cancelled_item_is_not_outstanding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume retries what has failed by itself, and there is nothing else for it to run."""
    monkeypatch.setattr(Cancels, "fails_itself", True)
    with pytest.raises(ItemFailures):
        run_queue([Cancels()], reporter="none", num_workers=1, journal=tmp_path / "run.db")
    assert "  Retry it:       pass resume=" in capsys.readouterr().err
