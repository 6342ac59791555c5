"""What a run survives, seen from outside: programs that are stopped, changed and started again.

`docs/explanation/survival.md` promises each of these, and names its test.
"""

import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.journal.edited import EDITS, KINDS, Field, Shape

# An item says in the file `done` that it ran; those that are to wait do so until the file `go` is there.
_BEGINNING = """
import os, sys
from dataclasses import dataclass, field
from pathlib import Path
import trio
from aqueue import Item, ItemFailures, run_queue

def say(text):
    with open("done", "a") as file:
        file.write(text + chr(10))

"""
_LEAF = """
@dataclass
class Leaf(Item):
    number: int
    async def process(self, enqueue, set_desc):
        if self.number == 2:
            say("waiting")
            while not Path("go").exists():
                await trio.sleep(0.01)
        say(f"leaf {self.number}")
        return self.number
"""
_ROOT = """
@dataclass
class Root(Item):
    async def process(self, enqueue, set_desc):
        for number in range(4):
            enqueue(Leaf(number))
    async def after_children_processed(self):
        from aqueue import child_results
        return child_results()

try:
    result = run_queue([Root()], resume="run.db", reporter="none", num_workers=1, on_error="continue")
except ItemFailures:
    sys.exit(1)
print(result.root_results)
"""
_PROGRAM = _BEGINNING + _LEAF + _ROOT


class Job:
    """A folder with a program that can be started again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, program: str) -> "subprocess.Popen[str]":
        """Start the program."""
        script = self.folder / "job.py"
        script.write_text(program)
        return subprocess.Popen(
            [sys.executable, script], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, program: str) -> tuple[int | None, str, str]:
        """Run the program to its end, and return its exit code and output."""
        with self.start(program) as process:
            stdout, stderr = process.communicate(timeout=60)
        return process.returncode, stdout, stderr

    def interrupt(self, program: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Run the program until its second leaf waits and all before that is in the journal; then send the signal."""
        with self.start(program) as process:
            wait_until(lambda: "waiting" in self.done() and self.count("item.completed") == 3)
            process.send_signal(number)
            if number is not signal.SIGKILL:
                wait_until(lambda: self.count("run.stopping"))
                self.go()
            process.communicate(timeout=60)
        return process.returncode

    def go(self) -> None:
        """Let the leaf that waits go on."""
        (self.folder / "go").touch()

    def done(self) -> list[str]:
        """Return what items have said."""
        path = self.folder / "done"
        return path.read_text().splitlines() if path.exists() else []

    def events(self, journal: str = "run.db") -> list[dict[str, Any]]:
        """Return the events in the journal."""
        path = self.folder / journal
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return [json.loads(text) for (text,) in connection.execute("SELECT event FROM events ORDER BY seq")]

    def last_event(self) -> int:
        """Return the number of the last event in the journal."""
        path = self.folder / "run.db"
        if not path.exists():
            return 0
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
        return int(last)

    def leaves(self, event: str) -> set[int]:
        """Return the numbers of the leaves of which there is such an event."""
        events = self.events()
        leaves = {one["item"] for one in events if one.get("type") == "__main__:Leaf"}
        return leaves & {one["item"] for one in events if one["event"] == event}

    def count(self, event: str) -> int:
        """Return how many events of that type are in the journal."""
        return sum(one["event"] == event for one in self.events())


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Return a job in an empty folder."""
    return Job(tmp_path)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for `condition`, at most 60 s."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_terminated_run_goes_on(job: Job) -> None:
    """SIGTERM lets the running item end and exits with 143; the same command does the rest, and only that."""
    assert job.interrupt(_PROGRAM, signal.SIGTERM) == 128 + signal.SIGTERM
    assert job.done() == ["leaf 0", "leaf 1", "waiting", "leaf 2"]
    returncode, stdout, _ = job.run(_PROGRAM)
    assert (returncode, stdout) == (0, "[[0, 1, 2, 3]]\n")
    assert job.done() == ["leaf 0", "leaf 1", "waiting", "leaf 2", "leaf 3"]


_WITH_STUCK_REPORTER = (
    _BEGINNING
    + """
import threading

class Stuck:
    uses_terminal = False
    def open(self, run): ...
    def close(self, result): ...
    def handle(self, events, view):
        if events:
            threading.Event().wait()  # as in a write to a pipe that nobody reads any more

class Announced(Item):
    async def process(self, enqueue, set_desc): ...

@dataclass
class Leaf(Item):
    number: int
    async def process(self, enqueue, set_desc):
        while not Path("go").exists():
            await trio.sleep(0.01)
        say(f"leaf {self.number}")

@dataclass
class Root(Item):
    async def process(self, enqueue, set_desc):
        for number in range(20):
            enqueue(Leaf(number))
        for number in range(60_000):
            enqueue(Announced())
        await trio.sleep_forever()

run_queue([Root()], resume="run.db", reporter=Stuck(), num_workers=21)
"""
)


def test_what_completes_while_a_reporter_is_stuck_is_saved(job: Job) -> None:
    """However much such a reporter has not taken: items that completed just before `kill -9` don't run again."""
    with job.start(_WITH_STUCK_REPORTER) as process, killed_at_last(process):
        wait_until(lambda: job.last_event() > 60_000)
        job.go()
        wait_until(lambda: len(job.done()) == 20)
        wait_until(lambda: job.leaves("item.enqueued") == job.leaves("item.completed"))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert len(job.leaves("item.completed")) == 20


def test_what_failed_runs_again_and_nothing_else(job: Job) -> None:
    """Once the cause is mended the failed item and the hook above it run; what was done stays done."""
    failing = _PROGRAM.replace('say(f"leaf', '1 / (self.number != 1); say(f"leaf')
    job.go()
    assert job.run(failing)[0] == 1
    assert job.done() == ["leaf 0", "waiting", "leaf 2", "leaf 3"]
    returncode, stdout, stderr = job.run(_PROGRAM)
    assert (returncode, stdout) == (0, "[[0, 1, 2, 3]]\n")
    assert job.done()[4:] == ["leaf 1"]
    assert "1 outstanding (1 had failed)" in stderr


def test_what_is_outstanding_runs_with_the_new_code(job: Job) -> None:
    """A changed `process` is used for what is left; what was done before stays as it was."""
    job.interrupt(_PROGRAM)
    job.go()
    returncode, stdout, _ = job.run(_PROGRAM.replace('f"leaf', 'f"new leaf'))
    assert (returncode, stdout) == (0, "[[0, 1, 2, 3]]\n")
    assert job.done() == ["leaf 0", "leaf 1", "waiting", "waiting", "new leaf 2", "new leaf 3"]


def test_a_new_field_with_a_default_is_filled_in(job: Job) -> None:
    """Recorded items get the default of a field that they didn't have."""
    job.interrupt(_PROGRAM)
    job.go()
    changed = _PROGRAM.replace(
        "    number: int\n", "    number: int\n    more: list = field(default_factory=lambda: [7])\n"
    )
    returncode, _, stderr = job.run(changed.replace("{self.number}", "{self.number} {self.more}"))
    assert returncode == 0, stderr
    assert job.done()[-2:] == ["leaf 2 [7]", "leaf 3 [7]"]


def test_a_renamed_class_is_an_error_until_it_says_so(job: Job) -> None:
    """A class that is gone is named with the number of items that wait, and nothing changes; then the run goes on."""
    job.interrupt(_PROGRAM)
    job.go()
    before = job.events()
    renamed = re.sub(r"\bLeaf\b", "Sheet", _PROGRAM)
    returncode, _, stderr = job.run(renamed)
    assert returncode == 1
    assert "UnknownItemType" in stderr
    assert "__main__:Leaf (2 outstanding)" in stderr
    assert job.events() == before
    mended = renamed.replace("    number: int\n", '    previous_names = ("Leaf",)\n    number: int\n')
    assert job.run(mended)[:2] == (0, "[[0, 1, 2, 3]]\n")


def test_a_new_field_without_a_default_is_an_error_until_it_has_one(job: Job) -> None:
    """A required field that was not recorded is named, and nothing changes; with a default the run goes on."""
    job.interrupt(_PROGRAM)
    job.go()
    before = job.events()
    changed = _PROGRAM.replace("    number: int\n", "    number: int\n    colour: str\n").replace(
        "Leaf(number)", "Leaf(number, 'red')"
    )
    returncode, _, stderr = job.run(changed)
    assert returncode == 1
    assert "PayloadMismatch" in stderr
    assert "'colour'" in stderr
    assert job.events() == before
    assert job.run(changed.replace("colour: str", "colour: str = 'red'"))[:2] == (0, "[[0, 1, 2, 3]]\n")


def test_times_never_decrease_though_the_clock_was_set_back(job: Job) -> None:
    """A run that is resumed before the time of its last event goes on from that time."""
    job.interrupt(_PROGRAM)
    job.go()
    with closing(sqlite3.connect(job.folder / "run.db")) as connection:  # as if the clock had been a day ahead
        connection.execute(
            "UPDATE events SET event = json_replace(event, '$.at', json_extract(event, '$.at') + 86400.0)"
        )
        connection.commit()
    returncode, stdout, stderr = job.run(_PROGRAM)
    assert (returncode, stdout) == (0, "[[0, 1, 2, 3]]\n"), stderr
    times = [event["at"] for event in job.events()]
    assert times == sorted(times)
    assert times[-1] > time.time() + 80_000


@pytest.mark.parametrize("way", ["backup", "vacuum"])
def test_a_copy_made_during_the_run_goes_on(job: Job, way: str) -> None:
    """What SQLite copies while the run writes is a journal of that moment: resumed, it ends as the run does."""
    with job.start(_PROGRAM) as process:
        wait_until(lambda: "waiting" in job.done() and job.count("item.completed") == 3)
        source = sqlite3.connect(f"{(job.folder / 'run.db').as_uri()}?mode=ro", uri=True)
        with closing(source), closing(sqlite3.connect(job.folder / "copy.db")) as copy:
            if way == "backup":
                source.backup(copy)
            else:
                source.execute("VACUUM INTO ?", (str(job.folder / "copy.db"),))
        copied = job.events("copy.db")
        job.go()
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (0, "[[0, 1, 2, 3]]\n"), stderr
    original = job.events()
    assert original[: len(copied)] == copied
    (job.folder / "done").unlink()
    assert job.run(_PROGRAM.replace("run.db", "copy.db"))[:2] == (0, "[[0, 1, 2, 3]]\n")
    assert job.done() == ["waiting", "leaf 2", "leaf 3"]


@contextmanager
def killed_at_last(process: "subprocess.Popen[str]") -> Iterator[None]:
    """See that a process whose test fails is not waited for."""
    try:
        yield
    finally:
        process.kill()


def test_a_run_whose_lock_file_was_removed_makes_it_again(job: Job) -> None:
    """Within a moment a second run is refused as before, and the first one goes on to its end; the user is told once."""
    with job.start(_PROGRAM) as first, killed_at_last(first):
        wait_until(lambda: "waiting" in job.done() and job.count("item.completed") == 3)
        lock = job.folder / "run.db.lock"
        lock.unlink()
        wait_until(lambda: lock.exists() and lock.read_text())
        code, _, said = job.run(_PROGRAM)
        assert code == 1
        assert f"in use by another run (pid {first.pid} " in said
        job.go()
        stdout, stderr = first.communicate(timeout=60)
    assert (first.returncode, stdout) == (0, "[[0, 1, 2, 3]]\n")
    assert stderr.count("run.db.lock was removed or replaced, and has been created again") == 1
    assert job.done().count("leaf 3") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no lock on the file itself")
def test_no_other_run_can_begin_though_the_lock_file_was_removed(job: Job) -> None:
    """The file itself is locked, too: the second run is refused, however quick it was, and the first goes on to its end."""
    with job.start(_PROGRAM) as first, killed_at_last(first):
        wait_until(lambda: "waiting" in job.done() and job.count("item.completed") == 3)
        first.send_signal(signal.SIGSTOP)  # so that it doesn't notice before the other has tried
        (job.folder / "run.db.lock").unlink()
        code, _, said = job.run(_PROGRAM)
        assert (code, "or lost its lock file" in said) == (1, True), said
        first.send_signal(signal.SIGCONT)
        job.go()
        stdout, stderr = first.communicate(timeout=60)
    assert (first.returncode, stdout) == (0, "[[0, 1, 2, 3]]\n")
    assert stderr.count("run.db.lock was removed or replaced, and has been created again") == 1


def test_a_run_stops_if_another_has_begun_since_its_lock_file_was_removed(job: Job) -> None:
    """Where only the lock file is locked, the first stops and says why, without writing; the second goes on to the end."""
    program = "import fcntl; vars(fcntl).pop('F_OFD_SETLK', None)\n" + _PROGRAM
    with job.start(program) as first, killed_at_last(first):
        wait_until(lambda: "waiting" in job.done() and job.count("item.completed") == 3)
        before = job.events()
        first.send_signal(signal.SIGSTOP)  # so that it doesn't notice before the other has begun
        (job.folder / "run.db.lock").unlink()
        with job.start(program) as second, killed_at_last(second):
            wait_until(lambda: job.count("run.resumed") and job.done().count("waiting") == 2)
            first.send_signal(signal.SIGCONT)
            _, stderr = first.communicate(timeout=60)
            assert first.returncode == 1
            assert "was removed or replaced while the run was writing the journal" in stderr
            assert f"in use by another run (pid {second.pid} " in stderr
            job.go()
            stdout, _ = second.communicate(timeout=60)
    assert (second.returncode, stdout) == (0, "[[0, 1, 2, 3]]\n")
    events = job.events()
    assert events[: len(before)] == before
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["event"] for event in events].count("run.finished") == 1


_EDITED = """
import anyio, os
from pathlib import Path
from aqueue import Item, ItemFailures, run_queue

HERE = Path(__file__).parent

def say(text):
    file = os.open(HERE / "done", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (text + chr(10)).encode())

async def go():
    while not (HERE / "go").exists():
        await anyio.sleep(0.01)

async def tell(leaf):
    number = NUMBER_OF(leaf)
    if number % 10 == 2:
        say("waiting")
        await go()
    say(f"leaf {number}")
"""
_EDITED_RUN = """
class Root(Item):
    async def process(self, enqueue, set_desc):
        for n in CHILDREN:
            enqueue(new(n))
        await go()

if __name__ == "__main__":
    items = [Root()] * bool(CHILDREN) + [new(n) for n in INITIAL]
    run_queue(items, resume="run.db", reporter="none", num_workers=3, cluster=CLUSTER)
"""
FIRST = (Field("number", "int", given="n"), Field("site", "str", given="'s'"))
Numbers = tuple[tuple[int, ...], tuple[int, ...]]
CHILDREN: Numbers = (0, 1, 2, 3), ()
INITIAL: Numbers = (), (10, 11, 12, 13)
BOTH: Numbers = CHILDREN[0], INITIAL[1]


def edited(shape: Shape, numbers: Numbers = BOTH, cluster: str | None = None) -> str:
    """Return a program with items of a class of this shape, as children and initial ones. Those of numbers 2 and 12 wait."""
    given = ", ".join(f"{field.name}={field.given}" for field in shape.fields if field.given)
    parts = [
        _EDITED,
        shape.source(),
        f"NUMBER_OF = lambda leaf: int(leaf.{shape.identifying})" if shape.identifying else "",
        f"new = lambda n: {shape.name}({given})",
        f"CHILDREN, INITIAL = {numbers}",
        f"CLUSTER = {cluster!r}",
        _EDITED_RUN,
    ]
    return "\n".join(parts)


def first_shape(kind: str) -> Shape:
    """Return what the class looks like before it is edited."""
    return Shape(kind, FIRST, module="__main__")


def kill_midway(job: Job, program: str, *, completed: int, waiting: int) -> None:
    """Run the program until so many items have completed and so many wait, so that nothing more happens; and kill it."""
    with job.start(program) as process, killed_at_last(process):
        wait_until(lambda: (job.count("item.completed"), job.done().count("waiting")) == (completed, waiting))
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    psutil.wait_procs(workers, timeout=60)  # on a cluster: they end by themselves, before the items that wait do
    job.go()


def ran(job: Job) -> list[str]:
    """Return which leaves ran to their ends, sorted."""
    return sorted(one for one in job.done() if one != "waiting")


def all_of(numbers: Numbers, times: int = 1) -> list[str]:
    """Return what leaves of these numbers say when each has run so often."""
    return sorted([f"leaf {number}" for of in numbers for number in of] * times)


EDITS_OF_THE_SAME = [
    "add a constant",
    "add one with a default, and pass another value",
    "remove site",
    "add a key",
    "annotate timeout_s",
]


@pytest.mark.parametrize(
    ("kind", "edit"),
    [
        *((kind, edit) for kind in KINDS for edit in EDITS_OF_THE_SAME),
        ("dataclass", "reorder"),
        ("attrs", "rename the class"),
        ("struct", "add a base class that has the number"),
        ("pydantic", "remove the key"),
        ("plain", "change timeout_s"),
    ],
)
def test_what_is_done_stays_done_though_its_class_was_edited(job: Job, kind: str, edit: str) -> None:
    """Each child of the parent that runs again, and each initial item, is known again; it runs to its end once."""
    first = first_shape(kind)
    if edit in ("remove the key", "change timeout_s"):
        first = EDITS["add a key"](EDITS["annotate timeout_s"](first))
    kill_midway(job, edited(first), completed=5, waiting=2)
    returncode, _, stderr = job.run(edited(EDITS[edit](first)))
    assert returncode == 0, stderr
    assert ran(job) == all_of(BOTH)
    assert job.count("item.enqueued") == 9


REFUSED = {
    # the edit: the error for what is outstanding, and the edit that puts it right; none for the class as it was
    "add one without a default": ("PayloadMismatch", "add one with a default, and pass values that differ"),
    "rename the number": ("PayloadMismatch", ""),
    "remove the number": ("AdoptionMismatch", ""),
    "rename the class, and forget its previous name": ("UnknownItemType", "rename the class"),
}


@pytest.mark.parametrize(
    ("kind", "edit", "numbers"),
    [(kind, edit, CHILDREN if at % 2 else INITIAL) for at, (edit, kind) in enumerate(product(REFUSED, KINDS))],
)
def test_an_edit_that_leaves_open_which_item_is_which_is_refused(
    job: Job, kind: str, edit: str, numbers: Numbers
) -> None:
    """Nothing is announced a second time; once the code is put right, the same command does the rest, and only that."""
    error, put_right = REFUSED[edit]
    first = first_shape(kind)
    again = EDITS[put_right](first) if put_right else first
    kill_midway(job, edited(first, numbers), completed=3, waiting=1)
    enqueued = job.count("item.enqueued")
    if (kind, edit) == ("plain", "add one without a default"):  # restored without it, and then enqueued with it
        again = EDITS[edit](first)
    else:
        if (kind, edit) == ("plain", "rename the number"):  # such a class takes whatever was recorded
            error = "AdoptionMismatch"
        returncode, _, stderr = job.run(edited(EDITS[edit](first), numbers))
        assert (returncode, error in stderr) == (1, True), stderr
        assert job.count("item.enqueued") == enqueued
    returncode, _, stderr = job.run(edited(again, numbers))
    assert returncode == 0, stderr
    assert ran(job) == all_of(numbers)
    assert job.count("item.enqueued") == enqueued


def test_a_renamed_class_of_which_all_is_done_is_refused(job: Job) -> None:
    """Its items would run again: the error names previous_names, and with these nothing is left to do."""
    first = first_shape("dataclass")
    done = (0, 1, 3), ()
    kill_midway(job, edited(first, done), completed=3, waiting=0)
    returncode, _, stderr = job.run(edited(EDITS["rename the class, and forget its previous name"](first), done))
    assert (returncode, "AdoptionMismatch" in stderr, "previous_names" in stderr) == (1, True, True), stderr
    assert job.run(edited(EDITS["rename the class"](first), done))[0] == 0
    assert ran(job) == all_of(done)
    assert job.count("item.enqueued") == 4


@pytest.mark.parametrize("edit", ["change the number's type", "change the key"])
def test_items_with_another_value_are_new(job: Job, edit: str) -> None:
    """They run, and what was recorded of the old ones, and is outstanding, does so too, with a warning."""
    first = first_shape("plain")
    if edit == "change the key":
        first = EDITS["add a key"](first)
    kill_midway(job, edited(first, CHILDREN), completed=3, waiting=1)
    returncode, _, stderr = job.run(edited(EDITS[edit](first), CHILDREN))
    assert (returncode, "did not enqueue 1 of its recorded children again" in stderr) == (0, True), stderr
    assert ran(job) == all_of(CHILDREN, 2)
    assert job.count("item.enqueued") == 9


def test_another_start_with_the_same_journal_is_told(job: Job) -> None:
    """Both runs are in one journal then, and all of both runs; a warning says so."""
    first = first_shape("plain")
    kill_midway(job, edited(first, INITIAL), completed=3, waiting=1)
    returncode, _, stderr = job.run(edited(first, ((), (20, 21))))
    assert returncode == 0, stderr
    assert "2 new initial items" in stderr
    assert "4 recorded initial items are not among today's" in stderr
    assert "aqueue: warning: none of the initial items recorded in run.db is among today's" in stderr
    assert ran(job) == all_of(((20, 21), INITIAL[1]))
