"""``aqueue explain``: one item's whole story, and what resuming would do with it; held against what resuming does."""

import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import Raw

from aqueue import ItemFailures, run_queue
from aqueue.events import ItemAdopted, ItemStarted, RunResumed
from aqueue.testing import EventRecorder
from aqueue.text import visible
from tests.cli import job
from tests.cli.conftest import Aqueue
from tests.cli.scripted import HOSTILE_HOST, Script, on_a_cluster, write_journal, write_log
from tests.journal.recorded import cut, events_of

ROOT = Path(__file__).parents[2]


def find(aqueue: Aqueue, file: Path, description: str) -> int:
    """Return the number of the item that said this."""
    [item] = [one["item"] for one in aqueue("items", file, "--json").json_lines if one["description"] == description]
    return int(item)


def test_the_story_has_each_attempt_wait_and_error(aqueue: Aqueue, file: Path) -> None:
    """Who enqueued it, what it raised, that it was tried again, and how it ended, in their order."""
    item = find(aqueue, file, "books 1")
    out = aqueue("explain", file, item).out
    story = aqueue("explain", file, item, "--json").json

    assert [chapter["event"] for chapter in story["story"]] == [
        "item.enqueued",
        "item.started",
        "item.described",
        "item.retry_scheduled",
        "item.started",
        "item.described",
        "item.completed",
        *(["run.finished"]),
    ]
    assert story["ancestors"] == [1, 2]
    assert "enqueued by item 2" in out
    assert "ConnectionError: no answer" in out
    assert "attempt 2, after a wait of" in out
    assert "    raise ConnectionError" in out
    assert 0 < story["work_s"] < 60
    assert 0 < story["wait_s"] < 60


def test_a_parent_tells_how_its_children_stand(aqueue: Aqueue, file: Path) -> None:
    """Children by type and state, and why the hook was not run."""
    explained = aqueue("explain", file, 3, "--json").json

    assert sorted((one["state"], one["count"]) for one in explained["children"]) == [("completed", 3), ("failed", 1)]
    assert "something below it has failed" in aqueue("explain", file, 3).out


def test_a_crash_ends_the_story(aqueue: Aqueue, tmp_path: Path) -> None:
    """An attempt that never ended says so, and resuming begins anew."""
    script = Script(age_s=3_600.0)
    script.start(script.enqueue())
    script.enqueue(parent=1)
    done = aqueue("explain", write_journal(tmp_path, script.events), 1)

    assert "nothing more: the process was killed, or it crashed" in done.out
    assert "On resume it runs again, from its beginning" in done.out
    assert "of the children that it enqueues, 1 are known already" in done.out
    waiting = aqueue("explain", tmp_path / "run.db", 2).out
    assert "waits until its parent, item 1, which was cut short, has run again" in waiting


def test_the_story_has_an_adoption_with_other_attributes(aqueue: Aqueue, tmp_path: Path) -> None:
    """Nothing of the attributes themselves is shown."""
    script = Script(age_s=3_600.0)
    item = script.enqueue(key="k", payload=Raw(b'{"token":"old"}'))
    script.begin(RunResumed)
    script.add(ItemAdopted, item=item, type="module:Page", payload=Raw(b'{"token":"new"}'))
    out = aqueue("explain", write_journal(tmp_path, script.events), item).out

    assert "enqueued again with other attributes: it runs with these" in out
    assert "token" not in out


def test_the_story_on_a_cluster_has_each_process(aqueue: Aqueue, tmp_path: Path) -> None:
    """In which the item was started, that one is gone, and where it is now."""
    path = write_log(tmp_path, on_a_cluster().events)
    lines = aqueue("explain", path, 1).out.splitlines()
    told = [line.partition("  ")[2].partition("  ")[2] for line in lines if ":" in line[:8]]

    assert [words.partition(", after")[0] for words in told] == [
        "enqueued as an initial item",
        "started by worker 1 on lost.example:10",
        "cut short in process: its worker process is gone",
        f"started by worker 4 on {visible(HOSTILE_HOST)}:11, attempt 2",
    ]
    assert f"  Worker 4, on {visible(HOSTILE_HOST)}:11, is at it now." in lines


def test_the_outlook_of_an_item_that_was_lost_with_its_process(aqueue: Aqueue, tmp_path: Path) -> None:
    """It was queued again, or ran again, when the run's own process ended; either way it runs again on resume."""
    script = Script(age_s=3_600.0, cluster="tcp://scheduler:8786")
    script.join(1, 2)
    script.join(3, 2)
    for worker in (1, 2):
        script.start(script.enqueue(), worker=worker)
    script.lose(1, 1, 2)
    script.start(2, worker=3, attempt=2)
    path = write_journal(tmp_path, script.events)

    assert "On resume it runs again, from its beginning" in aqueue("explain", path, 1).out
    assert "On resume it runs again, from its beginning: its attempt 2 was cut short" in aqueue("explain", path, 2).out


def test_a_hook_on_a_cluster_runs_in_the_runs_own_process(aqueue: Aqueue, tmp_path: Path) -> None:
    """It is told of the item's process where that ran, and not of its hook."""
    out = aqueue("explain", write_log(tmp_path, on_a_cluster().events), 2).out

    assert f"started by worker 3 on {visible(HOSTILE_HOST)}:11, after" in out
    assert "its hook started by worker 3\n" in out
    assert "Worker 3 is at it now." in out


def test_a_log_can_not_be_resumed_and_says_so(aqueue: Aqueue, tmp_path: Path) -> None:
    """What is no journal promises nothing."""
    script = Script(age_s=3_600.0)
    script.enqueue()

    assert "A log can't be resumed" in aqueue("explain", write_log(tmp_path, script.events), 1).out


def test_the_outlook_is_what_resuming_does(aqueue: Aqueue, tmp_path: Path) -> None:
    """Of a run cut off at any event, exactly those items whose outlook says so are run by the resume."""
    whole = tmp_path / "whole.db"
    # In another process, which is gone when its run is looked at.
    program = "import sys; from tests.cli.job import main; main(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, whole], check=True, cwd=ROOT)
    num_events = len(events_of(whole))
    for after in range(2, num_events + 1, 3):
        path = cut(whole, after, tmp_path / f"cut-{after}.db")
        announced = [one["item"] for one in aqueue("items", path, "--json").json_lines]
        promised = {item for item in announced if "run_again" in outlook_of(aqueue, path, item)}
        hooks = {item for item in announced if "hook_again" in outlook_of(aqueue, path, item)}
        recorder = EventRecorder()
        with pytest.raises(ItemFailures):
            run_queue(job.shop(), num_workers=2, reporter=recorder, resume=path, on_error="continue")

        starts = [event for event in recorder.of(ItemStarted) if event.item in announced]
        assert {event.item for event in starts if event.phase == "process"} == promised, after
        assert {event.item for event in starts if event.phase == "after_children"} <= hooks, after


def outlook_of(aqueue: Aqueue, path: Path, item: int) -> set[str]:
    """Return what the outlook of an item promises: that its process runs again, that its hook may."""
    said = str(aqueue("explain", path, item, "--json").json["outlook"])
    promises = set()
    if any(f"On resume it {verb}" in said for verb in ("runs", "is tried again", "waits until")):
        promises.add("run_again")
    if promises or "hook runs" in said:
        promises.add("hook_again")
    return promises


def crash_and_resume(script: Script, item: int, after_s: float = 3_600.0) -> None:
    """Let the process crash in the midst of an attempt, and the run be resumed a while later."""
    script.wait(0.5)
    script.describe(item, "still at it")
    script.wait(after_s)
    script.resume()
    script.interrupt(item, "crash")


def test_the_time_between_processes_is_no_work(aqueue: Aqueue, tmp_path: Path) -> None:
    """An attempt that a crash cut short took until the crash, not until the resume a day later."""
    script = Script(age_s=90_000.0)
    script.start(script.enqueue())
    crash_and_resume(script, 1, after_s=86_400.0)
    path = write_journal(tmp_path, script.events)
    explained = aqueue("explain", path, 1, "--json").json
    [item] = aqueue("items", path, "--json").json_lines

    assert 0.5 <= explained["work_s"] < 1
    assert 0.5 <= item["duration_s"] < 1


def test_what_a_run_is_at_is_counted_until_now(aqueue: Aqueue, tmp_path: Path) -> None:
    """An attempt that goes on has taken something already."""
    script = Script(age_s=30.0)
    script.start(script.enqueue())

    assert 29 < aqueue("explain", write_log(tmp_path, script.events), 1, "--json").json["work_s"] < 300


def test_the_outlook_of_an_item_that_ends_the_process(aqueue: Aqueue, tmp_path: Path) -> None:
    """Alone in three crashes in a row, it fails; given up and tried once more, one crash is enough."""
    script = Script(age_s=30_000.0)
    script.enqueue()
    outlooks = []
    for attempt in (1, 2, 3):
        script.start(1, attempt=attempt)
        path = write_journal(tmp_path, script.events, f"{attempt}.db")
        outlooks.append(str(aqueue("explain", path, 1, "--json").json["outlook"]))
        crash_and_resume(script, 1)
    assert "runs again, from its beginning" in outlooks[0]
    assert "It runs alone, before all others" in outlooks[1]
    assert "fails, as PoisonItem, and is not run" in outlooks[2]

    script.give_up(1)
    script.finish("failed")
    path = write_journal(tmp_path, script.events, "given_up.db")
    assert "alone and before all others" in aqueue("explain", path, 1, "--json").json["outlook"]
    script.resume()
    script.reopen(1)
    script.start(1, attempt=5)
    path = write_journal(tmp_path, script.events, "again.db")
    assert "fails, as PoisonItem, and is not run" in aqueue("explain", path, 1, "--json").json["outlook"]
