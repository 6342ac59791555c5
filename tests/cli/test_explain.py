"""``aqueue explain``: one item's whole story, and what resuming would do with it; held against what resuming does.

The story is `_history.story`; what resuming would do, `cli._outlook`.
"""

import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from aqueue import EnqueueFn, Item, ItemFailures, SetDescFn, run_queue
from aqueue.errors import JournalDamaged
from aqueue.events import (
    ErrorInfo,
    GroupLimitKnown,
    GroupPaused,
    GroupUnpaused,
    ItemAdopted,
    ItemCancelled,
    ItemChildrenProcessed,
    ItemFailed,
    ItemInterrupted,
    ItemRegrouped,
    ItemReopened,
    ItemRetryScheduled,
    ItemStarted,
    Phase,
    RunPaused,
    RunResumed,
    RunUnpaused,
)
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
    out = aqueue("explain", file, item, "--history").out
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
    assert re.search(r"started by worker \d, after waiting .*, attempt 2", out)
    assert "    raise ConnectionError" in out
    assert 0 < story["work_s"] < 60
    assert 0 < story["wait_s"] < 60


def test_item_is_found_by_what_a_person_knows_of_it(aqueue: Aqueue, file: Path) -> None:
    """Its key, its description, or a part of these or of its error that no other item has."""

    def found(text: str) -> int:
        return int(aqueue("explain", file, text, "--json").json["item"])

    assert found("books") == found("2") == 2  # the key, though other items say more than that
    assert found("books 1") == find(aqueue, file, "books 1")
    assert found("e front pag") == 1
    assert found("=no price") == found("games 3")


def test_text_of_several_items_lists_some(aqueue: Aqueue, tmp_path: Path) -> None:
    """With their numbers, one of which is to be named; the exit code is 2."""
    script = Script()
    for number in range(7):
        script.enqueue(key=f"page\x1b[2J {number}")
    path = write_journal(tmp_path, script.events)
    done = aqueue("explain", path, "page\x1b")
    assert done.code == 2
    assert done.out.count("page\\x1b[2J") == 5
    assert r"7 items have the text 'page\\x1b'; name one by its number: 1, 2, 3, 4, 5, … (" in done.err
    assert aqueue("explain", path, "page", "--json").out == ""
    none = aqueue("explain", path, "Page")
    assert none.code == 2
    assert f"no item has the key or the text 'Page'; see the items with: aqueue items {path}" in none.err
    assert "ITEM is empty" in aqueue("explain", path, "").err


def test_text_that_an_item_no_longer_has_does_not_find_it(aqueue: Aqueue, tmp_path: Path) -> None:
    """Only its last description counts, and its error as long as it shows that."""
    script = Script()
    item = script.enqueue()
    script.start(item)
    script.describe(item, "first page")
    script.fail_for_now(item, due_in_s=0.0)
    script.start(item, attempt=2)
    script.describe(item, "second page")
    path = write_log(tmp_path, script.events)
    assert [aqueue("explain", path, text).code for text in ("first", "it broke", "second")] == [2, 2, 0]


def test_a_parent_tells_how_its_children_stand(aqueue: Aqueue, file: Path) -> None:
    """Children by type and state, and why the hook was not run."""
    explained = aqueue("explain", file, 3, "--json").json

    assert sorted((one["state"], one["count"]) for one in explained["children"]) == [("completed", 3), ("failed", 1)]
    assert "children failed" in aqueue("explain", file, 3).out


def test_a_crash_ends_the_story(aqueue: Aqueue, tmp_path: Path) -> None:
    """An attempt that never ended says so, and resuming begins anew."""
    script = Script(age_s=3_600.0)
    script.start(script.enqueue())
    script.enqueue(parent=1)
    done = aqueue("explain", write_journal(tmp_path, script.events), 1)

    assert "  interrupted after 10 ms, the process was killed or crashed\n" in done.out
    assert "  On resume  it runs again from the start" in done.out
    assert "children recorded so far: 1" in done.out
    waiting = aqueue("explain", tmp_path / "run.db", 2).out
    assert "waits for its parent, item 1, which was interrupted and runs again" in waiting


def test_the_story_has_an_adoption_with_other_attributes(aqueue: Aqueue, tmp_path: Path) -> None:
    """Nothing of the attributes themselves is shown."""
    script = Script(age_s=3_600.0)
    item = script.enqueue(key="k", payload=Raw(b'{"token":"old"}'))
    script.begin(RunResumed)
    script.add(ItemAdopted, item=item, type="module:Page", payload=Raw(b'{"token":"new"}'))
    out = aqueue("explain", write_journal(tmp_path, script.events), item).out

    assert "adopted with different attributes" in out
    assert "token" not in out


def test_the_story_on_a_cluster_has_each_process(aqueue: Aqueue, tmp_path: Path) -> None:
    """In which the item was started, that one is gone, and where it is now."""
    path = write_log(tmp_path, on_a_cluster().events)
    lines = aqueue("explain", path, 1, "--history").out.splitlines()
    told = [line.partition("  ")[2].partition("  ")[2] for line in lines if ":" in line[:8]]

    assert [re.sub(",? after (waiting )?[^,]+", "", words) for words in told] == [
        "enqueued",
        "started by worker 1 on lost.example:10",
        "interrupted, worker process lost",
        f"started by worker 4 on {visible(HOSTILE_HOST)}:11, attempt 2",
    ]
    assert lines[-1].endswith(f"  worker 4 on {visible(HOSTILE_HOST)}:11 is running it.")


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

    assert "On resume  it runs again from the start" in aqueue("explain", path, 1).out
    assert "On resume  it runs again from the start: attempt 2 was interrupted" in aqueue("explain", path, 2).out


def test_a_hook_on_a_cluster_runs_in_the_runs_own_process(aqueue: Aqueue, tmp_path: Path) -> None:
    """It is told of the item's process where that ran, and not of its hook."""
    out = aqueue("explain", write_log(tmp_path, on_a_cluster().events), 2, "--history").out

    assert f"started by worker 3 on {visible(HOSTILE_HOST)}:11, after" in out
    assert "started by worker 3, hook\n" in out
    assert "worker 3 is running it." in out


def test_a_log_can_not_be_resumed_and_says_so(aqueue: Aqueue, tmp_path: Path) -> None:
    """What is no journal promises nothing."""
    script = Script(age_s=3_600.0)
    script.enqueue()

    assert "a log can't be resumed" in aqueue("explain", write_log(tmp_path, script.events), 1).out


def test_the_outlook_in_a_journal_that_no_run_has_written(aqueue: Aqueue, tmp_path: Path) -> None:
    """The story is told all the same, and that a resume refuses it."""
    script = Script(age_s=3_600.0)
    script.start(script.enqueue())
    script.complete(1)
    script.enqueue(parent=1)  # which had ended, with all below it
    path = write_journal(tmp_path, script.events)
    told = aqueue("explain", path, 1)

    assert told.code == 0
    assert "this journal can't be resumed" in told.out
    with pytest.raises(JournalDamaged, match="can't be resumed"):
        run_queue([], resume=path, reporter="none")


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
    if any(f"On resume it {verb}" in said for verb in ("runs", "is retried", "waits for its parent")):
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
    assert "runs again from the start" in outlooks[0]
    assert "It runs first and alone" in outlooks[1]
    assert "fails with PoisonItem instead of running" in outlooks[2]

    script.give_up(1)
    script.finish("failed")
    path = write_journal(tmp_path, script.events, "given_up.db")
    assert "first and alone" in aqueue("explain", path, 1, "--json").json["outlook"]
    script.resume()
    script.reopen(1)
    script.start(1, attempt=5)
    path = write_journal(tmp_path, script.events, "again.db")
    assert "fails with PoisonItem instead of running" in aqueue("explain", path, 1, "--json").json["outlook"]


def test_the_outlook_of_what_ran_elsewhere_when_its_coordinator_crashed(aqueue: Aqueue, tmp_path: Path) -> None:
    """On a cluster an item's process is not why the run's own process crashed, however often it did, but a hook may be."""
    address = "tcp://scheduler:8786"
    script = Script(age_s=30_000.0, cluster=address)
    script.enqueue(hook=True)
    script.enqueue(hook=True)
    script.start(2, worker=2)
    script.complete(2, worker=2)
    for attempt in (1, 2, 3, 4):
        if attempt > 1:
            script.begin(RunResumed, cluster=address)
            script.interrupt(1, "crash")
        script.start(1, attempt=attempt)
    of_process = str(aqueue("explain", write_journal(tmp_path, script.events), 1, "--json").json["outlook"])
    script.complete(1)
    for attempt in (1, 2, 3):
        if attempt > 1:
            script.begin(RunResumed, cluster=address)
            script.add(ItemInterrupted, item=2, phase="after_children", reason="crash")
        script.start(2, worker=2, phase="after_children", attempt=attempt)
    of_hook = str(aqueue("explain", write_journal(tmp_path, script.events, "hook.db"), 2, "--json").json["outlook"])

    assert of_process == "On resume it runs again from the start: attempt 4 was interrupted."
    assert "On resume its hook fails with PoisonItem instead of running" in of_hook


def test_the_outlook_of_an_item_that_one_which_runs_alone_holds(aqueue: Aqueue, tmp_path: Path) -> None:
    """It doesn't wait for its parent: once it has been held while that ran, no other object can take its place."""
    script = Script(age_s=30_000.0)
    for parent, payload in ((0, b"{}"), (1, b"{}"), (2, b'{"above":[{"$item":2}]}')):
        script.start(script.enqueue(parent=parent, payload=Raw(payload)), worker=parent + 1)
    script.begin(RunResumed)
    for item in (1, 2, 3):
        script.interrupt(item, "crash")
    path = write_journal(tmp_path, script.events)
    assert "waits for its parent, item 1," in aqueue("explain", path, 2, "--json").json["outlook"]

    script.start(3, attempt=2)
    path = write_journal(tmp_path, script.events, "alone.db")
    assert "runs first and alone" in aqueue("explain", path, 3, "--json").json["outlook"]
    assert "runs again from the start" in aqueue("explain", path, 2, "--json").json["outlook"]


class Quiet(Item):
    """Does nothing, twice."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None: ...
    async def after_children_processed(self) -> None: ...


class CrashingRun:
    """Makes up a run of a few items in several processes, most of which crash.

    Attributes:
        script: its events.
    """

    def __init__(self, random: Random) -> None:
        """Make up a run by `random`."""
        self.random = random
        self.script = Script(age_s=1_000_000.0, cluster=self._cluster())
        self._waiting: list[tuple[int, Phase]] = []
        self._running: dict[int, Phase] = {}
        self._failed: dict[int, Phase] = {}
        self._parents: dict[int, int] = {}
        self._open: dict[int, int] = {}  # its process, and its children that have not ended well, by item
        for _ in range(random.randint(1, 3)):
            self._enqueue(0)
        for _ in range(random.randint(0, 6)):
            self._step()
        for _ in range(random.randint(0, 5)):
            at_crash = set(self._running)
            self._resume()
            if at_crash and random.random() < 0.8:
                self._start([entry for entry in self._waiting if entry[0] in at_crash])
            else:
                for _ in range(random.randint(0, 6)):
                    self._step()
            if random.random() < 0.2:
                self._interrupt("cancelled")
                self.script.finish("failed" if self._failed else "interrupted")

    def _cluster(self) -> str:
        return self.random.choice(("", "", "tcp://scheduler:8786"))

    def _enqueue(self, parent: int) -> None:
        item = self.script.enqueue("tests.cli.test_explain:Quiet", parent, hook=True, payload=Raw(b"{}"))
        self._parents[item] = parent
        self._open[item] = 1
        self._open[parent] = self._open.get(parent, 0) + 1
        self._waiting.append((item, "process"))

    def _interrupt(self, reason: str) -> None:
        for item, phase in self._running.items():
            self.script.add(ItemInterrupted, item=item, phase=phase, reason=reason)
            self._waiting.append((item, phase))
        self._running.clear()

    def _resume(self) -> None:
        self.script.wait(60.0)
        self.script.begin(RunResumed, cluster=self._cluster())
        self._interrupt("crash")
        for item, phase in self._failed.items():
            self.script.add(ItemReopened, item=item, type="tests.cli.test_explain:Quiet", failed=phase)
            self._waiting.append((item, phase))
        self._failed.clear()

    def _step(self) -> None:
        act = self.random.choice(["start"] * 6 + ["end"] * 3 + ["fail", "wait", "give up", "enqueue"])
        if act in ("start", "give up") and self._waiting:
            item = self._start(self._waiting)
            if act == "give up":
                self._fail(item, self._running.pop(item), "aqueue.errors:PoisonItem")
        elif act == "enqueue" and (parents := [item for item, phase in self._running.items() if phase == "process"]):
            self._enqueue(self.random.choice(parents))
        elif act in ("end", "fail", "wait") and self._running:
            item = self.random.choice(list(self._running))
            phase = self._running.pop(item)
            if act == "fail":
                self._fail(item, phase, "builtins:OSError")
            elif act == "wait":
                self.script.fail_for_now(item, 1.0, worker=item, phase=phase)
                self._waiting.append((item, phase))
            elif phase == "process":
                self.script.complete(item, worker=item)
                self._end_part(item)
            else:
                self.script.add(ItemChildrenProcessed, item=item, type="tests.cli.test_explain:Quiet")
                self._end_part(self._parents[item])

    def _start(self, among: list[tuple[int, Phase]]) -> int:
        item, phase = self.random.choice(among)
        self._waiting.remove((item, phase))
        self.script.start(item, "tests.cli.test_explain:Quiet", worker=item, phase=phase)
        self._running[item] = phase
        return item

    def _fail(self, item: int, phase: Phase, error: str) -> None:
        self.script.fail(item, ErrorInfo(error, ""), "tests.cli.test_explain:Quiet", worker=item, phase=phase)
        self._failed[item] = phase

    def _end_part(self, item: int) -> None:
        self._open[item] -= 1
        if item and not self._open[item]:
            self._waiting.append((item, "after_children"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.integers(0, 2**32))
def test_the_outlook_after_crashes_is_what_resuming_does(aqueue: Aqueue, seed: int) -> None:
    """Those items are given up, tried alone before all others, and run, whose outlook says so; on a cluster, too."""
    script = CrashingRun(Random(seed)).script
    items = range(1, script.last_item + 1)
    with TemporaryDirectory() as folder:
        path = write_journal(Path(folder), script.events)
        said = {item: str(aqueue("explain", path, item, "--json").json["outlook"]) for item in items}
        recorder = EventRecorder()
        with suppress(ItemFailures):
            run_queue([], num_workers=2, reporter=recorder, resume=path, on_error="continue")
    given_up = {event.item for event in recorder.of(ItemFailed) if event.error.type == "aqueue.errors:PoisonItem"}
    assert {item for item in items if "PoisonItem" in said[item] or "stays failed until" in said[item]} == given_up
    alone = {item for item in items if "first and alone" in said[item]}
    first = alone | given_up
    starts = recorder.of(ItemStarted)
    # Hooks that are due may come between them, one by one, too.
    in_order = dict.fromkeys(event.item for event in starts if event.item in first or event.phase == "process")
    assert set(list(in_order)[: len(first)]) == first
    runs = ("On resume it runs", "On resume it is retried", "On resume it waits")
    assert {item for item in items if any(words in said[item] for words in runs)} == {
        event.item for event in starts if event.phase == "process" and event.item not in given_up
    }
    hooks = {item for item in items if "On resume its hook runs" in said[item]}
    assert hooks <= {event.item for event in starts if event.phase == "after_children"}


def test_an_equal_traceback_is_shown_once(aqueue: Aqueue, tmp_path: Path) -> None:
    """Of several attempts that failed in the same way, the first has the traceback."""
    script = Script()
    item = script.enqueue()
    error = ErrorInfo("OSError", "no answer", "Traceback of it\nOSError: no answer")
    for attempt in (1, 2, 3):
        script.start(item, attempt=attempt)
        due = script.events[-1].at + 1.0
        script.add(ItemRetryScheduled, item=item, worker=1, error=error, due=due, attempt=attempt)
    path = write_journal(tmp_path, script.events)
    out = aqueue("explain", path, item, "--history").out

    assert "Traceback of it" not in aqueue("explain", path, item).out
    assert out.count("Traceback of it") == 1
    assert out.count("the same traceback") == 2


def test_the_story_says_who_did_what(aqueue: Aqueue, tmp_path: Path) -> None:
    """Who skipped, cancelled, or ran again an item; the wait of one that was cancelled while it waited ends then."""
    script = Script()
    skipped, cancelled, given_up = script.enqueue(), script.enqueue(), script.enqueue()
    script.start(skipped)
    script.fail_now(skipped)
    script.skip(skipped, had_failed=True)
    script.start(cancelled)
    script.steer("cancel", str(cancelled), by="bob@host via aqueue")
    script.add(ItemCancelled, item=cancelled)
    script.fail_now(cancelled)
    script.wait(30)
    script.cancel(given_up)
    script.wait(3_600)
    script.resume()
    script.open_again(cancelled, failed="process")
    path = write_journal(tmp_path, script.events)

    def told(item: int) -> list[str]:
        return [chapter["text"] for chapter in aqueue("explain", path, item, "--json").json["story"]]

    assert told(skipped)[3:] == ["skipped by anna@host via aqueue, after its failure", told(1)[-1]]
    assert told(cancelled)[2] == "cancelled by bob@host via aqueue"
    assert told(cancelled)[-1] == "reopened it runs again", "a resume did that"
    assert told(given_up)[1].startswith("failed by anna@host via aqueue, while it waited: CancelledByUser: ")
    story = aqueue("explain", path, given_up, "--json").json
    assert (story["work_s"], round(story["wait_s"])) == (0.0, 30)
    assert aqueue("explain", path, skipped, "--json").json["outlook"] == "It won't run again: it was skipped."


@pytest.mark.parametrize("is_live", [True, False])
def test_outlook_of_a_failed_item_names_what_a_person_can_do(aqueue: Aqueue, tmp_path: Path, is_live: bool) -> None:
    """As long as the run lives, it isn't run again by itself; a log can't be steered."""
    script = Script(host=None if is_live else "elsewhere.example", pid=None, age_s=0.0 if is_live else 9_000)
    item = script.enqueue()
    script.start(item)
    script.fail_now(item)
    script.add(RunPaused, by="anna@host via aqueue")
    path = write_journal(tmp_path, script.events)
    skip = f"ccept it: aqueue skip {path} {item}"
    outlook = str(aqueue("explain", path, item, "--json").json["outlook"])
    if is_live:
        assert outlook.endswith(
            f"by itself until the run is resumed. To run it again: aqueue retry {path} {item}; to a{skip}"
        )
    else:
        assert f"To leave it failed, use retry_failed=False or only=…. To a{skip}. The run was paused at " in outlook
    assert "aqueue skip" not in aqueue("explain", write_log(tmp_path, script.events), item).out


def test_outlook_of_cancelled_items(aqueue: Aqueue, tmp_path: Path) -> None:
    """They stay failed; one that was interrupted before it could fail does so at the resume."""
    script = Script(host="elsewhere.example", pid=1, age_s=9_000)
    waiting, running = script.enqueue(), script.enqueue()
    script.cancel(waiting)
    script.start(running)
    script.steer("cancel", str(running))
    script.add(ItemCancelled, item=running)
    path = write_journal(tmp_path, script.events)

    def outlook(item: int) -> str:
        return str(aqueue("explain", path, item, "--json").json["outlook"])

    assert outlook(waiting) == (
        f"It stays failed, also on resume: a person cancelled it. To run it again: aqueue retry {path} {waiting}; "
        f"to accept it: aqueue skip {path} {waiting}"
    )
    assert outlook(running).startswith("On resume it fails instead of running: a person cancelled it while it ran")


@pytest.mark.parametrize("is_live", [True, False])
def test_a_waiting_item_says_who_has_paused_it(aqueue: Aqueue, tmp_path: Path, is_live: bool) -> None:
    """The run, or the group in which it waits now; nothing of an item that runs or has ended, or of another group."""
    script = Script(
        host=None if is_live else "elsewhere.example", pid=None if is_live else 1, age_s=0 if is_live else 9_000
    )
    ended, other, queued, moved = (
        script.enqueue(group="a"),
        script.enqueue(),
        script.enqueue(group="a"),
        script.enqueue(),
    )
    script.start(ended, group="a")
    script.complete(ended)
    script.add(ItemRegrouped, item=moved, type="module:Page", group="a b")
    for group in ("a", "a b"):
        script.add(GroupPaused, group=group, by="anna\x1b[2J@laptop via aqueue")

    def told(item: int) -> str:
        path = write_journal(tmp_path, script.events, f"{len(script.events)}-{item}.db")
        outlook = aqueue("explain", path, item, "--json").json["outlook"]
        return re.sub(r"\d\d\d\d-\d\d-\d\d |\d\d:\d\d", "", outlook).replace(str(path), "run.db")

    by = "by anna\\x1b[2J@laptop. To let it start: aqueue unpause"
    assert told(queued).endswith(f". Its group a was paused at  {by} run.db --group a")
    assert told(moved).endswith(f". Its group a b was paused at  {by} run.db --group 'a b'")
    assert "paused" not in told(other) + told(ended)
    script.add(RunPaused, by="anna@laptop via aqueue")
    assert told(queued).endswith(". The run was paused at  by anna@laptop. To let it start: aqueue unpause run.db")
    assert told(queued).startswith("It is queued. The run" if is_live else "On resume it runs: ")
    assert "paused" in told(other) and "paused" not in told(ended)


def test_attempts_that_a_command_found_after_a_crash_end_with_it(aqueue: Aqueue, tmp_path: Path) -> None:
    """When the process was last heard of, though the command came hours later."""
    script = Script()
    item = script.enqueue()
    script.start(item)
    script.wait(10)
    script.describe(item, "slow")
    script.wait(7_200)
    script.edit()
    script.interrupt(item, "crash")
    script.skip(item)
    story = aqueue("explain", write_journal(tmp_path, script.events), item, "--json").json

    assert story["work_s"] < 11
    assert story["wait_s"] > 7_000, "it waited for the command"


HTTP_ERROR = ErrorInfo(
    "httpx:HTTPStatusError",
    "404 Not Found\x1b[2J\nFor more information: https://example.org/404",
    'Traceback (most recent call last):\n  File "/x/site-packages/httpx.py", line 9, in raise_for_status\n    raise it\n'
    '  File "shop.py", line 40, in process\n    raise it\nhttpx.HTTPStatusError: 404 Not Found\n',
)


def gone_page(tmp_path: Path, attempts: int = 2) -> Path:
    """Return the journal of an ended run in which item 3 failed; its attempts took a quarter of a second each."""
    script = Script(host="elsewhere.example", pid=1)
    shop = script.enqueue("module:Shop")
    category = script.enqueue("module:Category", parent=shop, key="category 12")
    page = script.enqueue(parent=category, key="https://example.org/gone.html\x1b[2J", group="example.org")
    script.add(GroupLimitKnown, group="example.org", concurrent=2)
    script.wait(2_460)
    for attempt in range(1, attempts + 1):
        script.start(page, attempt=attempt, group="example.org")
        script.wait(0.24)
        if attempt == attempts:
            script.fail(page, HTTP_ERROR, attempt=attempt)
        else:
            due = script.events[-1].at + 4.25
            script.add(ItemRetryScheduled, item=page, worker=1, error=HTTP_ERROR, due=due, attempt=attempt)
            script.wait(3.99)
    script.finish("failed")
    return write_journal(tmp_path, script.events)


def test_the_screen(aqueue: Aqueue, tmp_path: Path) -> None:
    """Where the item comes from, a line per attempt, what it waited for, and what becomes of it."""
    path = gone_page(tmp_path)
    out = re.sub(r"(\d\d-\d\d )?\d\d:\d\d:\d\d", "13:40:02", aqueue("explain", path, 3).out)

    assert out.replace(str(path), "run.db").splitlines() == [
        "item 3   Page   failed",
        "  https://example.org/gone.html\\x1b[2J",
        "",
        "  Path       Shop 1 › Category 2 (category 12) › this",  # noqa: RUF001
        "  Attempts   1  13:40:02  failed after 0.25 s   HTTPStatusError: 404 Not Found\\x1b[2J   shop.py:40 in process",
        "             2  13:40:02  failed after 0.25 s   the same error",
        "                          every event, with tracebacks: aqueue explain run.db 3 --history",
        "  Waited     41 min 0 s in the queue (example.org: 2 at once), 4.00 s to retry",
        "  On resume  it runs again, because it failed. To leave it failed, use retry_failed=False or only=…. To accept it: aqueue skip run.db 3",
    ]


@pytest.mark.parametrize("cells", [30, 60, 200])
def test_the_screen_on_a_terminal(aqueue: Aqueue, tmp_path: Path, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is wider, nothing is cut, and nothing in a text acts on the terminal."""
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(cells))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    styled = aqueue("explain", gone_page(tmp_path), 3).out
    plain = re.sub(r"\x1b\[[0-9;]*m", "", styled)

    assert plain != styled
    assert "\x1b" not in plain
    assert max(len(line.rstrip()) for line in plain.splitlines()) <= cells
    words = "".join(plain.split())
    assert "shop.py:40inprocess" in words and "404NotFound\\x1b[2J" in words and "thesameerror" in words


def test_a_long_history_is_shortened(aqueue: Aqueue, tmp_path: Path) -> None:
    """The first and the last attempts are shown, and which command shows all."""
    out = aqueue("explain", gone_page(tmp_path, 60), 3).out
    assert re.findall(r"(\d+) +(?:\d\d-\d\d )?\d\d:\d\d:\d\d  failed", out) == [
        str(number) for number in (*range(1, 11), *range(51, 61))
    ]
    assert "… 40 more\n" in out
    assert out.count("HTTPStatusError") == 2, "on both sides of what is left out"


def test_a_long_path_is_shortened(aqueue: Aqueue, tmp_path: Path) -> None:
    """Its two ends are named."""
    script = Script()
    for parent in range(12):
        script.enqueue(parent=parent)
    path = write_journal(tmp_path, script.events)

    assert "  Path      Page 1 › Page 2 › Page 3 › … 5 more › Page 9 › Page 10 › Page 11 › this\n" in (  # noqa: RUF001
        aqueue("explain", path, 12).out
    )


def test_hooks_and_what_people_did_are_among_the_attempts(aqueue: Aqueue, tmp_path: Path) -> None:
    """A hook's attempts are marked; a command says who gave it; an attempt that runs says for how long."""
    script = Script(age_s=30)
    item = script.enqueue(hook=True)
    script.start(item)
    script.interrupt(item, "worker_lost")
    script.start(item)
    script.complete(item)
    for attempt in (1, 2):
        script.start(item, phase="after_children", attempt=attempt)
        script.fail_for_now(item, 0.0, phase="after_children", attempt=attempt)
    script.skip(item, phase="after_children")
    child = script.enqueue()
    script.start(child)
    lines = aqueue("explain", write_journal(tmp_path, script.events), item).out.splitlines()
    told = [re.sub(r"(\d\d-\d\d )?\d\d:\d\d:\d\d", "@", line[12:].strip()) for line in lines[2:8]]

    assert told == [
        "an initial item",
        "1       @  interrupted after 10 ms, worker process lost",
        "1       @  completed after 0.25 s",
        "hook    @  failed after 10 ms   Boom: it broke",
        "hook 2  @  failed after 10 ms   the same error",
        "@  skipped by anna@host via aqueue, hook",
    ]
    assert re.search(r"  running for \d\d\.\d s\n", aqueue("explain", tmp_path / "run.db", child).out)


def test_waits_are_told_by_their_reasons(aqueue: Aqueue, tmp_path: Path) -> None:
    """Only those that events tell; a pause of a group counts while the item is in it, and no time counts twice."""
    script = Script(age_s=90_000)
    script.add(RunPaused, by="anna")
    item = script.enqueue(group="a")
    script.wait(10)
    script.add(RunUnpaused, by="anna")
    script.add(GroupPaused, group="b", by="anna")
    script.wait(20)
    script.add(ItemRegrouped, item=item, type="module:Page", group="b", before="a")
    script.wait(40)
    script.add(GroupUnpaused, group="b", by="anna")
    script.start(item, group="b")
    script.fail_for_now(item, 80.0)
    script.wait(30)
    script.add(RunPaused, by="anna")
    script.wait(90)
    script.finish("interrupted")
    script.wait(3_600)
    script.resume()
    script.wait(5)
    script.add(RunUnpaused, by="anna")
    script.wait(7)
    script.start(item, attempt=2, group="b")
    script.complete(item)
    path = write_journal(tmp_path, script.events)
    story = aqueue("explain", path, item, "--json").json

    assert {reason: round(wait) for reason, wait in story["waits_s"].items()} == {
        "queue": 20 + 7,
        "retry": 80,
        "paused": 10 + 40 + 40 + 5,
        "no_process": 3_600,
    }
    assert story["wait_s"] == pytest.approx(sum(story["waits_s"].values()))
    assert re.search(
        r"  Waited     27.\d s in the queue, 1 min 20 s to retry, 1 min 35 s paused, 1 h 0 min while no process ran\n",
        aqueue("explain", path, item).out,
    )


def test_what_is_left_out_counts_as_no_wait(aqueue: Aqueue, tmp_path: Path) -> None:
    """Of a very long story, what the middle would tell of attempts and waits isn't made up."""
    path = gone_page(tmp_path, 1_500)
    story = aqueue("explain", path, 3, "--json").json

    assert story["story_left_out"] == 1_002
    assert story["work_s"] == pytest.approx(0.25 * (1_500 - 1_002 / 2 - 1))
    assert story["waits_s"]["retry"] == pytest.approx(4.0 * (1_500 - 1_002 / 2 - 1))
    assert "… 979 more, and 1,002 events\n" in aqueue("explain", path, 3).out
