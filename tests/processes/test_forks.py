"""Items that fork: the child process never takes part in the run.

What a fork does to journals is in `_journal.open_journals`.
"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from aqueue import Backend
from aqueue.events import ItemCompleted
from tests.journal.oracle import told_by
from tests.journal.recorded import events_of

PROGRAM = """
import os, sys
from aqueue import Item, run_queue

path, how, where, backend, *cluster = sys.argv[1:]

def fork():
    child = os.fork()
    if child == 0:
        if how == "raises":
            raise ValueError("in the child")
        if how == "exits":
            os._exit(7)
        return
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

class Page(Item):
    def __init__(self, name): self.name = name
    async def process(self, enqueue, set_desc):
        log = os.open(path + ".log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, f"{self.name}\\n".encode())
        if self.name == "forks":
            if where == "process":
                fork()
            enqueue(Page("child"))

class Forks(Page):
    async def after_children_processed(self):
        if where == "hook":
            fork()

run_queue(
    [Forks("forks"), *map(Page, "abc")], journal=path, num_workers=2, reporter="plain", backend=backend, cluster=(*cluster, None)[0]
)
"""


@pytest.mark.parametrize("where", ["process", "hook", "local:1"])
@pytest.mark.parametrize(("how", "code"), [("returns", "1"), ("raises", "1"), ("exits", "7")])
def test_a_forked_child_that_comes_back_ends(tmp_path: Path, how: str, code: str, where: str, backend: Backend) -> None:
    """It runs no item a second time and says why it ends; the run goes on in the parent. One that calls os._exit is fine."""
    path = tmp_path / "run.db"
    # Python 3.12 and newer warn of each fork of a process with threads, which is what this item does wrong.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, str(path), how]
    command += ["process", backend, where] if where == "local:1" else [where, backend]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, f"{code}\n"), done.stderr
    assert ("called os.fork()" in done.stderr) == (how != "exits")
    assert Counter(Path(f"{path}.log").read_text().split()) == Counter(["forks", "child", *"abc"])
    events = events_of(path)
    told_by(events)
    assert sum(isinstance(event, ItemCompleted) for event in events) == 5
