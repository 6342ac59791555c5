"""``aqueue status``: how a run stands, told on one screen and by the exit code.

Run and items are read by `_history.record`, for `cli._record`; whether the process is still there by `_history.process`.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import pytest

from aqueue._resume.editing import edit
from aqueue._verbs import Pause
from aqueue.events import (
    Event,
    GroupLimit,
    GroupLimitChanged,
    GroupLimitKnown,
    GroupPaused,
    ProcessLeft,
    RunPaused,
    RunWorkersChanged,
)
from aqueue.figures import local_minute
from aqueue.text import visible
from tests.cli.conftest import Aqueue
from tests.cli.scripted import HOSTILE_HOST, Script, on_a_cluster, write_journal, write_log


def test_a_failed_run_is_told_with_counts_failures_and_how_to_go_on(aqueue: Aqueue, file: Path) -> None:
    """State, counts by type, failures by error with the place in the user's code, and how to resume."""
    done = aqueue("status", file)

    assert (done.code, done.err) == (1, "")
    lines = done.out.splitlines()
    assert re.fullmatch(rf"{re.escape(file.name)}   failed at \d\d:\d\d", lines[0].rpartition("/")[2])
    assert "  10 of 11 completed   1 failed   1 attempt retried" in lines
    assert [line.split() for line in lines if line.startswith(("  Product", "  Category", "  Front"))] == [
        ["Product", "7", "1"],
        ["Category", "2", "0"],
        ["Front", "1", "0"],
    ]
    assert "ValueError  =no price\\x1b[2J" in done.out
    assert "job.py:" in done.out
    if file.suffix == ".db":
        assert lines[-2:] == [
            f"To retry the failed item, run the same program again (journal {file})",
            f"To accept the failed item: aqueue skip {file} --state failed",
        ]
    else:
        assert lines[-1].startswith("A log can't be resumed")


def test_json_has_the_same(aqueue: Aqueue, file: Path) -> None:
    """A program gets every figure under a name."""
    status = aqueue("status", file, "--json").json

    assert status["state"] == "failed"
    assert status["counts"] == {
        "enqueued": 11,
        "completed": 10,
        "failed": 1,
        "interrupted": 0,
        "deduplicated": 0,
        "retried": 1,
        "skipped": 0,
        "outstanding": 0,
    }
    assert {one["type"].rpartition(":")[2]: one["completed"] for one in status["types"]} == {
        "Front": 1,
        "Category": 2,
        "Product": 7,
    }
    assert [(one["error"], one["count"]) for one in status["failures"]] == [("ValueError", 1)]
    assert status["kind"] == ("journal" if file.suffix == ".db" else "log")


def test_a_failed_run_with_something_outstanding_is_resumed(aqueue: Aqueue, tmp_path: Path) -> None:
    """Resuming does more than retry what failed."""
    script = Script()
    script.enqueue()
    script.start(script.enqueue())
    script.fail_now(2)
    file = write_journal(tmp_path, script.finish("failed"))

    assert aqueue("status", file).out.splitlines()[-2].startswith("To resume, run the same program again")


def test_attempts_are_not_taken_for_items(aqueue: Aqueue, tmp_path: Path) -> None:
    """Of those that were interrupted or retried the heading counts all, and the table the items that are so now."""
    script = Script()
    script.start(script.enqueue())
    for _ in range(2):
        script.interrupt(1)
        script.start(1)
    script.complete(1)
    lines = aqueue("status", write_log(tmp_path, script.finish("completed"))).out.splitlines()

    assert "  1 of 1 completed   2 attempts interrupted" in lines


def test_a_completed_run_has_the_exit_code_0(aqueue: Aqueue, tmp_path: Path) -> None:
    """What succeeded is told by 0, and has nothing to go on with."""
    script = Script()
    script.start(script.enqueue())
    script.complete(1)
    done = aqueue("status", write_log(tmp_path, script.finish("completed")))

    assert done.code == 0
    assert "   completed at " in done.out
    assert "To resume" not in done.out


@pytest.mark.parametrize("crashed", [False, True])
def test_when_a_run_ended_is_not_when_a_person_changed_it_later(aqueue: Aqueue, tmp_path: Path, crashed: bool) -> None:
    """A command on a run without a process comes hours later; the process ended, or crashed, before it."""
    script = Script()
    script.start(script.enqueue())
    if not crashed:
        script.complete(1)
        script.finish("completed")
    ended_at = script.events[-1].at
    file = write_journal(tmp_path, script.events)
    with mock.patch("time.time", return_value=ended_at + 7_200):
        edit(file, Pause(by="anna@laptop via test"))
    head = aqueue("status", file).out.splitlines()[0]
    word = "interrupted" if crashed else "completed"
    assert head.endswith(f"   {word} at {local_minute(ended_at, time.time())}")


def with_an_end(end: Literal["skipped", "cancelled", "retried"]) -> Script:
    """Return a run in which one item failed, which was skipped, and another one was skipped, cancelled, or failed and retried."""
    script = Script()
    first, second, third = (script.enqueue() for _ in range(3))
    script.start(first)
    script.fail_now(first)
    script.start(second)
    script.complete(second)
    script.skip(first, had_failed=True)
    if end == "skipped":
        script.skip(third)
    elif end == "cancelled":
        script.cancel(third)
    else:
        script.start(third)
        script.fail_now(third)
        script.steer("retry", f"{third}")
        script.reopen(third)
        script.start(third, attempt=2)
        script.complete(third, attempt=2)
    return script


@pytest.mark.parametrize(
    ("end", "status", "code", "figures"),
    [
        ("skipped", "completed", 0, "1 of 3 completed   2 skipped"),
        ("cancelled", "failed", 1, "1 of 3 completed   1 failed   1 skipped"),
        ("retried", "completed", 0, "2 of 3 completed   1 skipped"),
    ],
)
@pytest.mark.parametrize("command", [["status"], ["watch", "--reporter", "none"]])
def test_what_is_failed_at_the_end_makes_the_exit_code(
    aqueue: Aqueue, tmp_path: Path, end: Any, status: Any, code: int, figures: str, command: list[str]
) -> None:
    """Items that were skipped, or retried with success, aren't; those that were cancelled are, and are of a kind of their own."""
    file = write_journal(tmp_path, with_an_end(end).finish(status))
    assert aqueue(command[0], file, *command[1:]).code == code
    shown = aqueue("status", file).out
    assert f"  {figures}\n" in shown
    assert ("CancelledByUser" in shown) == (end == "cancelled")
    assert aqueue("failures", file).out.count("CancelledByUser") == (2 if end == "cancelled" else 0)
    how = "To retry the cancelled item, use aqueue retry; then run the same program again"
    assert (how in shown) == (end == "cancelled"), "a resume leaves it as it is"


def test_skipping_what_failed_after_the_end_completes_the_run(aqueue: Aqueue, tmp_path: Path) -> None:
    """If nothing is left: after a process that stopped early a hook may be, and if an ancestor is reopened, it is."""
    codes: list[int] = []
    for stopped, reopened in ((False, False), (True, False), (False, True)):
        script = with_an_end("cancelled")
        if stopped:
            script.stop("item 3 failed")
        script.finish("failed")
        script.edit()
        script.skip(3, had_failed=True)
        if reopened:
            script.open_again(2)
        shown = aqueue("status", write_journal(tmp_path, script.events, f"{len(codes)}.db"))
        codes.append(shown.code)
        assert ("To finish (hooks may be left), run the same program again" in shown.out) == (shown.code == 3)
    assert codes == [0, 3, 3]


def test_a_failed_item_that_runs_again_is_no_failure(aqueue: Aqueue, tmp_path: Path) -> None:
    """While it runs it isn't listed; the run is still running."""
    script = Script(host=None, pid=None)
    for item in (script.enqueue(), script.enqueue()):
        script.start(item)
        script.fail_now(item)
    script.steer("retry", "1")
    script.reopen(1)
    script.start(1, attempt=2)
    file = write_log(tmp_path, script.events)

    assert aqueue("status", file).code == 4
    assert [one["item"] for one in aqueue("failures", file, "--json").json_lines] == [2]
    assert aqueue("status", file, "--json").json["failures"][0]["first_item"] == 2


def test_a_crashed_run_is_interrupted_and_its_running_items_too(aqueue: Aqueue, tmp_path: Path) -> None:
    """A process that is gone without a word runs nothing any more, whatever the last events say."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    script = Script(host=None, pid=process.pid)
    script.start(script.enqueue())
    script.enqueue("module:Later")
    done = aqueue("status", write_journal(tmp_path, script.events), "--json")

    assert done.code == 3
    status = done.json
    assert (status["state"], status["running"]) == ("interrupted", [])
    assert [one["interrupted"] for one in status["types"]] == [1, 0]
    assert status["oldest_outstanding"]["item"] == 1
    assert f"pid {process.pid} is gone" in status["why"]


def test_a_run_whose_process_is_there_is_running(aqueue: Aqueue, tmp_path: Path) -> None:
    """A log whose process still runs is that of a running run, with what its workers are at."""
    script = Script(host=None, pid=None)
    script.start(script.enqueue(), attempt=2)
    script.describe(1, "https://example.org/")
    done = aqueue("status", write_log(tmp_path, script.events))

    assert done.code == 4
    assert re.search(rf"   running since \d\d:\d\d \(pid {os.getpid()} on {socket.gethostname()}\)\n", done.out)
    assert "attempt 2: https://example.org/" in done.out


def test_a_wait_is_told_rightly_though_the_clock_was_set_back(aqueue: Aqueue, tmp_path: Path) -> None:
    """Of a run that goes on, and whose events are a day ahead of the clock, what waits is due in as long as it waits."""
    script = Script(host=None, pid=None, age_s=-86_400.0)
    script.start(script.enqueue())
    script.fail_for_now(1, 12.0)
    file = write_log(tmp_path, script.events)

    assert "  Retrying  1 item, due in 12 s\n" in aqueue("status", file).out
    assert "in 12 s" in aqueue("explain", file, 1).out


def test_a_process_that_only_has_the_same_number_is_not_taken_for_the_run(aqueue: Aqueue, tmp_path: Path) -> None:
    """A number that a later process got tells nothing: it began after the run did."""
    script = Script(host=None, pid=None, at=1_000_000_000.0)
    script.start(script.enqueue())

    assert aqueue("status", write_log(tmp_path, script.events)).code == 3


@pytest.mark.parametrize(("age_s", "code"), [(5.0, 4), (3_600.0, 3)])
def test_a_run_on_another_machine_is_judged_by_its_silence(
    aqueue: Aqueue, tmp_path: Path, age_s: float, code: int
) -> None:
    """Where nobody can look, a run counts as running for a minute after its last event, and the text says why."""
    script = Script(host="elsewhere.example", age_s=age_s)
    script.start(script.enqueue())
    done = aqueue("status", write_log(tmp_path, script.events))

    assert done.code == code
    assert "on elsewhere.example, which can't be checked from here" in done.out


SHOWN_HOST = visible(HOSTILE_HOST)


@pytest.mark.parametrize("write", [write_log, write_journal])
def test_a_run_on_a_cluster_is_told_with_its_processes(
    aqueue: Aqueue, tmp_path: Path, write: Callable[[Path, list[Event]], Path]
) -> None:
    """How many workers are in how many processes, where each item runs, and how busy each process is."""
    lines = aqueue("status", write(tmp_path, on_a_cluster().events)).out.splitlines()

    assert any(line.endswith("   2 workers in 1 process") for line in lines)
    at = lines.index("Running  2 of 2 workers")
    assert lines[at + 1].split() == ["item", "type", "for", "on"]
    assert [line.split()[::3] for line in lines[at + 2 : at + 4]] == [
        ["2", f"{socket.gethostname()}:{os.getpid()}"],
        ["1", f"{SHOWN_HOST}:11"],
    ]
    at = lines.index("Worker processes  1")
    assert [line.split() for line in lines[at + 1 : at + 3]] == [["workers", "busy"], [f"{SHOWN_HOST}:11", "2", "1"]]


def test_json_tells_where_items_run(aqueue: Aqueue, tmp_path: Path) -> None:
    """The scheduler, the worker processes, and host and number of the process in which each item runs."""
    status = aqueue("status", write_log(tmp_path, on_a_cluster().events), "--json").json

    assert (status["cluster"], status["num_workers"]) == ("tcp://scheduler:8786", 2)
    assert status["worker_processes"] == [{"first_worker": 3, "num_workers": 2, "host": HOSTILE_HOST, "pid": 11}]
    assert [(one["item"], one["phase"], one["host"], one["pid"]) for one in status["running"]] == [
        (2, "after_children", socket.gethostname(), os.getpid()),
        (1, "process", HOSTILE_HOST, 11),
    ]


def test_many_processes_are_cut_to_a_screen(aqueue: Aqueue, tmp_path: Path) -> None:
    """Of 30 the busiest ten are shown, and the others in one row."""
    script = Script(host=None, pid=None, cluster="tcp://scheduler:8786")
    for number in range(30):
        script.join(1 + 2 * number, 2, pid=number)
    for worker in (60, 59, 57, 1):
        script.start(script.enqueue(), worker=worker)
    lines = aqueue("status", write_log(tmp_path, script.events)).out.splitlines()
    at = lines.index("Worker processes  30")

    assert [line.split() for line in lines[at + 2 : at + 13]] == [
        ["node:29", "2", "2"],
        ["node:0", "2", "1"],
        ["node:28", "2", "1"],
        *[[f"node:{number}", "2", "0"] for number in range(1, 8)],
        ["+20", "more", "40", "0"],
    ]


def test_hooks_that_outlast_their_process_are_not_of_no_workers(aqueue: Aqueue, tmp_path: Path) -> None:
    """They are counted, but not as some of so many workers."""
    script = on_a_cluster()
    script.interrupt(1, reason="worker_lost")
    script.add(ProcessLeft, first_worker=3, reason="lost")

    assert "Running  1" in aqueue("status", write_log(tmp_path, script.events)).out.splitlines()


def test_a_run_without_a_cluster_says_nothing_of_one(aqueue: Aqueue, tmp_path: Path) -> None:
    """Its items run in its own process."""
    script = Script(host=None, pid=None)
    script.start(script.enqueue())
    path = write_log(tmp_path, script.events)
    status = aqueue("status", path, "--json").json

    assert (status["cluster"], status["worker_processes"]) == (None, [])
    assert (status["running"][0]["host"], status["running"][0]["pid"]) == (socket.gethostname(), os.getpid())
    out = aqueue("status", path).out
    assert "1 of 3 workers" in out and "process" not in out.partition("Running")[2].partition("Running")[2]


def test_waiting_items_are_told_with_the_time_of_the_next(aqueue: Aqueue, tmp_path: Path) -> None:
    """What waits for its next attempt is counted, and when the first of it may start."""
    script = Script(host=None, pid=None)
    script.start(script.enqueue())
    script.fail_for_now(1, due_in_s=3_590.0)
    done = aqueue("status", write_log(tmp_path, script.events))

    assert "  Retrying  1 item, due in 60 min\n" in done.out


def test_a_limit_that_keeps_workers_idle_is_named(aqueue: Aqueue, tmp_path: Path) -> None:
    """As the display of the run says it, and safe to show; nothing of it once the run has ended."""
    script = Script(host=None, pid=None)
    for _ in range(5):
        script.enqueue(group="evil\x1b[2J.example")
    script.add(GroupLimitKnown, group="evil\x1b[2J.example", per_second=0.5)
    said = "limited by evil\x1b[2J.example: 0.5/s, 5 waiting; 3 of 3 workers idle"
    file = write_log(tmp_path, script.events)
    assert aqueue("status", file).out.splitlines()[0].endswith(f")   {visible(said)}")
    assert json.loads(aqueue("status", file, "--json").out)["limited_by"] == said
    ended = write_log(tmp_path, script.finish("interrupted"))
    assert "limited" not in aqueue("status", ended).out
    assert json.loads(aqueue("status", ended, "--json").out)["limited_by"] is None


def steered(*, pid: int | None = None) -> Script:
    """Return a run in which people have set everything that they can."""
    script = Script(host=None, pid=pid)
    for _ in range(3):
        script.enqueue(group="a")
    script.add(RunWorkersChanged, num_workers=1, program=3, by="anna@laptop via aqueue")
    script.add(GroupPaused, group="evil\x1b[2J", by="ben\x1b[2J@host via aqueue")
    own = GroupLimit(per_second=5.0)
    script.add(GroupLimitChanged, group="a", per_second=2.0, program=own, by="anna@laptop via aqueue")
    script.add(GroupLimitChanged, group="b", by="anna@laptop via aqueue")
    script.add(RunPaused, by="anna@laptop via aqueue")
    return script


@pytest.mark.parametrize("is_live", [True, False])
def test_what_people_have_set_is_told(aqueue: Aqueue, tmp_path: Path, is_live: bool) -> None:
    """By whom and since when, next to what the program has; also of a run that nobody runs. Safe to show."""
    script = steered()
    events = script.events if is_live else script.finish("interrupted")
    file = write_log(tmp_path, events)
    lines = aqueue("status", file).out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("  In force"))
    now = time.strftime("%H:%M", time.localtime(events[-1].at))
    shown = [re.sub(r"\d\d:\d\d", "14:03", re.sub(r"\d s ago", "0 s ago", line)) for line in lines[at : at + 6]]
    assert shown == [
        "  In force  1 worker, set 14:03 by anna@laptop (program: 3)",
        "            evil\\x1b[2J paused 14:03 by ben\\x1b[2J@host",
        "            a 2/s, set 14:03 by anna@laptop (program: 5/s)",
        "            b no limit, set 14:03 by anna@laptop",
        "            paused 14:03 by anna@laptop",
        "  Oldest    item 1 Page, waiting, enqueued 0 s ago",
    ]
    assert now in lines[at]
    assert lines[0].endswith("   paused by anna@laptop: 3 waiting") == is_live
    status = aqueue("status", file, "--json").json
    assert [(one["what"], one["group"], one["value"], one["program"]) for one in status["in_force"]] == [
        ("workers", None, 1, 3),
        ("pause", "evil\x1b[2J", None, None),
        ("limit", "a", {"concurrent": None, "per_second": 2.0}, {"concurrent": None, "per_second": 5.0}),
        ("limit", "b", {"concurrent": None, "per_second": None}, None),
        ("pause", None, None, None),
    ]
    paused = next(event for event in events if isinstance(event, RunPaused))
    assert (status["in_force"][-1]["since"], status["in_force"][-1]["by"]) == (paused.at, paused.by)


def test_shares_of_the_time_are_told_to_programs(aqueue: Aqueue, tmp_path: Path) -> None:
    """Of the last minute and of the whole run, under the names that `RunView.shares` has."""
    script = Script(age_s=100.0)
    script.start(script.enqueue())
    script.wait(99.97)
    script.complete(1)
    status = aqueue("status", write_log(tmp_path, script.finish("completed")), "--json").json

    for over, of_s in (("last_minute", 60), ("run", 100)):
        shares = status["shares"][over]
        assert shares.pop("of_s") == pytest.approx(of_s, abs=0.1)
        assert {name: round(share, 2) for name, share in shares.items() if share} == {"empty": 1.0}
        assert len(shares) == 7


def test_many_types_are_cut_to_a_screen_and_none_is_lost(aqueue: Aqueue, tmp_path: Path) -> None:
    """Of 30 types the most numerous are shown, and the others in one row."""
    script = Script()
    for number in range(30):
        script.enqueue(f"module:Type{number}")
    lines = aqueue("status", write_log(tmp_path, script.finish("interrupted"))).out.splitlines()

    assert ["+10", "more", "types", "0", "10"] in [line.split() for line in lines]
    assert len(lines) < 40


def test_the_lost_events_of_a_log_are_told(aqueue: Aqueue, tmp_path: Path) -> None:
    """A log that lacks events is read all the same, and says that its figures may be off."""
    script = Script()
    script.start(script.enqueue())
    script.complete(1)
    events = script.finish("completed")
    done = aqueue("status", write_log(tmp_path, [event for event in events if event.seq != 3]))

    assert done.code == 0
    assert "1 of 1 completed" in done.out
    assert "events missing from this log: 1; figures may be off" in done.out
