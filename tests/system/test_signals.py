"""What signals do to a run: real processes, a pseudo-terminal, typed keys and real signals."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.processes.pty_process import PtyProcess

Start = Callable[..., PtyProcess]

CTRL_C = b"\x03"
LOOP_IS_BLOCKED = "an item is blocking the event loop"


@pytest.fixture(params=["rich", "plain", "none"])
def reporter(request: pytest.FixtureRequest) -> str:
    """Name the reporter; the test is run with each."""
    return str(request.param)


def events_of(path: Path) -> list[dict[str, Any]]:
    """Return the events in a file that the jsonl reporter wrote."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def open_gate(gates: Path, name: str = "go") -> None:
    """Let the programs through that wait at the gate."""
    (gates / name).touch()


# ---- the first, the second, the third ---------------------------------------------------------------------------


def test_the_first_ctrl_c_lets_running_items_finish_and_takes_no_more(
    start: Start, gates: Path, tmp_path: Path, reporter: str
) -> None:
    """The first Ctrl-C says what it waits for; running items and their hooks end, no other item starts."""
    log = tmp_path / "log"
    job = start("Gated*2,Quick*9", num_workers=2, reporter=[reporter, f"jsonl:{log}"])
    job.until_mark("started Gated1", "started Gated2")
    job.type(CTRL_C)
    job.until("waiting for the running items" if reporter == "none" else "waiting for 2 running items")
    job.until("Ctrl-C again cancels them")
    job.until_event(log, "run.stopping")  # the signal's handler says so a moment before the loop is told
    open_gate(gates)
    assert job.wait() == -signal.SIGINT
    assert job.marks[-1] == "raised KeyboardInterrupt"
    assert {"hook Gated1", "hook Gated2"} <= set(job.marks)
    events = events_of(log)
    stopping = next(n for n, event in enumerate(events) if event["event"] == "run.stopping")
    taken = [event for event in events[stopping:] if event["event"] == "item.started"]
    assert {event["phase"] for event in taken if "phase" in event} <= {"after_children"}
    assert all(event["type"] == "__main__:Gated" for event in taken)
    assert events[-1]["event"] == "run.finished"
    assert events[-1]["counts"]["completed"] == 2
    if reporter != "none":
        assert "2/11 completed" in job.shown or "9 outstanding" in job.shown
    job.assert_terminal_restored()


def test_the_second_ctrl_c_cancels(start: Start, reporter: str) -> None:
    """The second Ctrl-C cancels the running items; the run ends by KeyboardInterrupt and flushes."""
    job = start("Gated*2,Quick*9", num_workers=2, reporter=reporter)
    job.until_mark("started Gated1", "started Gated2")
    job.type(CTRL_C)
    job.until("waiting for")
    job.type(CTRL_C)
    assert job.wait() == -signal.SIGINT
    assert {mark for mark in job.marks if mark.startswith("cut")} != set()
    assert job.marks[-1] == "raised KeyboardInterrupt"
    if reporter != "none":
        assert "11 outstanding" in job.shown
    job.assert_terminal_restored()


def test_without_grace_the_first_ctrl_c_cancels(start: Start, reporter: str) -> None:
    """With graceful_ctrl_c=False the first signal cancels the running items."""
    job = start("Gated*2", num_workers=2, reporter=reporter, graceful_ctrl_c=False)
    job.until_mark("started Gated1", "started Gated2")
    job.type(CTRL_C)
    assert job.wait() == -signal.SIGINT
    assert len([mark for mark in job.marks if mark.startswith("cut")]) == 2
    job.assert_terminal_restored()


def test_without_grace_too_the_third_ends_the_process(start: Start, reporter: str) -> None:
    """Where the first signal cancels, the third ends the process, and that is what is said, by each alike."""
    job = start("Shielded", reporter=reporter, graceful_ctrl_c=False)
    job.until_mark("started Shielded1")
    job.type(CTRL_C)
    job.until("a third Ctrl-C ends the process at once")
    job.kill(signal.SIGTERM)
    job.kill(signal.SIGHUP)
    assert job.wait() in (-signal.SIGTERM, -signal.SIGHUP)  # which comes first is the system's choice
    job.assert_terminal_restored()


@pytest.mark.parametrize("item", ["Swallowing", "Shielded"])
def test_the_third_ctrl_c_ends_what_can_not_be_cancelled(start: Start, item: str, reporter: str) -> None:
    """An item that doesn't let itself be cancelled can't keep the process alive, nor the answers from the screen."""
    job = start(item, reporter=reporter)
    job.until_mark(f"started {item}1")
    job.type(CTRL_C)
    job.until("waiting for")
    job.type(CTRL_C)
    job.until("cancelling")
    job.type(CTRL_C)
    assert job.wait() == -signal.SIGINT
    assert "raised KeyboardInterrupt" not in job.marks
    job.assert_terminal_restored()


@pytest.mark.parametrize(("item", "reporter"), [("Sleeping", "rich"), ("InC", "plain"), ("InC", "none")])
def test_an_item_that_blocks_the_loop_is_named_as_the_cause(start: Start, item: str, reporter: str) -> None:
    """If the loop is blocked, in Python or in C, the screen says so about a second after Ctrl-C; the third ends it."""
    job = start(item, reporter=reporter)
    job.until_mark(f"started {item}1")
    job.type(CTRL_C)
    said = f"{LOOP_IS_BLOCKED}, so the run can't stop yet; a third Ctrl-C ends the process at once"
    job.until(said)
    job.type(CTRL_C)
    job.until_more(said, 1)
    job.type(CTRL_C)
    assert job.wait() in (-signal.SIGINT, 128 + signal.SIGINT)
    assert "raised KeyboardInterrupt" not in job.marks
    job.assert_terminal_restored()


@pytest.mark.parametrize(("number", "name", "code"), [(signal.SIGTERM, "SIGTERM", 143), (signal.SIGHUP, "SIGHUP", 129)])
def test_other_signals_end_by_system_exit(
    start: Start, gates: Path, number: int, name: str, code: int, reporter: str
) -> None:
    """SIGTERM and SIGHUP stop as Ctrl-C does, and end by SystemExit with 128 plus the signal."""
    job = start("Gated,Quick", num_workers=1, reporter=reporter)
    job.until_mark("started Gated1")
    job.kill(number)
    job.until(name)
    open_gate(gates)
    assert job.wait() == code
    assert job.marks[-2:] == ["hook Gated1", f"raised SystemExit {code}"]
    job.assert_terminal_restored()


def test_mixed_signals_count_together(start: Start) -> None:
    """A SIGTERM after a Ctrl-C cancels, a SIGHUP after both kills; what is raised is the first signal's."""
    job = start("Gated,Swallowing", num_workers=2, reporter="plain")
    job.until_mark("started Gated1", "started Swallowing1")
    job.kill(signal.SIGTERM)
    job.until("waiting for 2 running items")
    job.type(CTRL_C)
    job.until("stopping: Ctrl-C; cancelling")
    job.kill(signal.SIGHUP)
    assert job.wait() == -signal.SIGHUP
    job.assert_terminal_restored()


def test_a_signal_after_a_failure_cancels(start: Start) -> None:
    """While on_error="stop" waits for the running items, the first Ctrl-C goes on to cancel them."""
    job = start("Gated,Fails", num_workers=2, reporter="plain", on_error="stop")
    job.until("waiting for 1 running item")
    job.type(CTRL_C)
    assert job.wait() == -signal.SIGINT
    assert any(mark.startswith("cut Gated1") for mark in job.marks)
    assert job.marks[-1] == "raised KeyboardInterrupt"
    job.assert_terminal_restored()


def test_with_no_reporter_one_line_answers_at_once(start: Start, gates: Path) -> None:
    """On a terminal, a person who presses Ctrl-C gets an answer even with reporter="none": one line."""
    job = start("Gated", reporter="none")
    job.until_mark("started Gated1")
    job.type(CTRL_C)
    job.until("aqueue: Ctrl-C: waiting for the running items; Ctrl-C again cancels them")
    assert job.text.count("aqueue:") == 1
    open_gate(gates)
    job.wait()
    job.assert_terminal_restored()


# ---- at every stage of a run ------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", ["slowly", "stuck"])
def test_while_the_initial_items_are_consumed(start: Start, items: str) -> None:
    """One Ctrl-C ends a run whose initial items are still coming, even if their source blocks: nothing runs yet."""
    job = start(items, reporter="plain")
    job.until_mark("consuming")
    job.type(CTRL_C)
    assert job.wait() == -signal.SIGINT
    assert job.marks[-1] == "raised KeyboardInterrupt"
    job.assert_terminal_restored()


def test_a_source_that_blocks_is_ended_by_sigterm_as_well(start: Start) -> None:
    """SIGTERM, too, ends a run whose source of initial items blocks."""
    job = start("stuck", reporter="plain")
    job.until_mark("consuming")
    job.kill(signal.SIGTERM)
    assert job.wait() == 143
    assert job.marks[-1] == "raised SystemExit 143"
    job.assert_terminal_restored()


def test_while_the_lifespan_is_entered(start: Start, gates: Path) -> None:
    """A first Ctrl-C lets the lifespan be entered and left again; no item starts."""
    job = start("Gated", reporter="plain", lifespan="opening")
    job.until_mark("entering")
    job.type(CTRL_C)
    job.until("stopping")
    open_gate(gates)
    assert job.wait() == -signal.SIGINT
    assert job.marks == ["ready", "entering", "entered", "left", "raised KeyboardInterrupt"]
    job.assert_terminal_restored()


def test_a_lifespan_that_hangs_at_its_entry_is_cancelled(start: Start) -> None:
    """A second Ctrl-C cancels a lifespan that never gets open."""
    job = start("Gated", reporter="plain", lifespan="opening")
    job.until_mark("entering")
    job.type(CTRL_C)
    job.until("stopping")
    job.type(CTRL_C)
    assert job.wait() == -signal.SIGINT
    assert job.marks == ["ready", "entering", "raised KeyboardInterrupt"]
    job.assert_terminal_restored()


def test_a_lifespan_that_hangs_at_its_end_is_cancelled(start: Start) -> None:
    """Two signals cancel a lifespan that doesn't end after the last item."""
    job = start("Quick", reporter="plain", lifespan="closing")
    job.until_mark("leaving")
    job.type(CTRL_C)
    job.until("stopping")
    job.type(CTRL_C)
    assert job.wait() == -signal.SIGINT
    assert job.marks[-1] == "raised KeyboardInterrupt"
    job.assert_terminal_restored()


def test_cancelled_items_leave_the_lifespan_its_time(start: Start) -> None:
    """The signal that cancels the items does not cancel the end of the lifespan."""
    job = start("Gated", reporter="plain", lifespan="with_tasks", graceful_ctrl_c=False)
    job.until_mark("started Gated1")
    job.type(CTRL_C)
    assert job.wait() == -signal.SIGINT
    assert job.marks[-2:] == ["left", "raised KeyboardInterrupt"]
    job.assert_terminal_restored()


def test_between_items(start: Start, reporter: str) -> None:
    """A Ctrl-C between items that are over at once stops the run."""
    job = start("Endless", reporter=reporter)
    job.until_mark("going")
    job.type(CTRL_C)
    assert job.wait() == -signal.SIGINT
    assert job.marks[-1] == "raised KeyboardInterrupt"
    job.assert_terminal_restored()


def test_while_hooks_run(start: Start, gates: Path) -> None:
    """A running hook counts as a running item: the first Ctrl-C waits for it."""
    job = start("GatedHook,Quick", num_workers=1, reporter="plain")
    job.until_mark("hook GatedHook1")
    job.type(CTRL_C)
    job.until("waiting for 1 running item")
    open_gate(gates)
    assert job.wait() == -signal.SIGINT
    assert "hook ended GatedHook1" in job.marks
    assert "Interrupted (Ctrl-C)   1 completed · 1 outstanding" in job.shown
    job.assert_terminal_restored()
