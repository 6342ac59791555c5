"""Kill the workers of runs on a cluster, and their coordinators, at random moments; see that nothing is lost or done twice.

``python -m tests.torture.cluster --kills 50``. As in ``python -m tests.torture``, each run is a random tree, whose
items write what they really do to a file; here most of them do so in worker processes. The trees are run to their end
once more in one process, undisturbed, and must come to the same.
"""

import os
import random
import signal
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import psutil

from aqueue import ItemFailures, run_queue
from aqueue.events import ItemInterrupted, ProcessLeft
from tests.journal.seeds import items_of
from tests.torture.__main__ import ALL, CRASHED, ENDED, FAILED, Again, Tree, main
from tests.torture.hearing import heard

COORDINATOR: Final = {"none": 30, "SIGKILL": 6, "SIGINT": 1, "SIGINT twice": 1, "SIGTERM": 1}
"""How coordinators end before their time, and how often beside the others."""

_MARK: Final = "AQUEUE_TORTURE"


class ClusterTree(Tree):
    """A tree that runs on a cluster, whose workers are killed."""

    def __init__(self, folder: Path, number: int, size: int) -> None:
        super().__init__(folder, number, size)
        self.fates = COORDINATOR
        self.arguments["on_error"] = "continue"  # to start a cluster anew after each failure takes too long
        self.losses = 0
        self.lost_attempts = 0

    def run(self, journal: Path, log: Path, fate: str, at: int, again: Again = ALL) -> int:
        os.environ[_MARK] = str(journal)
        pids = Path(f"{log}.pids")
        pids.unlink(missing_ok=True)
        threading.Thread(target=_kill_workers, args=(at % 6, self.random, pids), daemon=True).start()
        try:
            run_queue(
                items_of(self.roots),
                resume=journal,
                reporter="none",
                lifespan=partial(heard, str(log)),
                cluster="local:2",
                **self.arguments,
                **again.arguments,
            )
        except ItemFailures:
            return FAILED
        except (KeyboardInterrupt, SystemExit):
            return CRASHED
        return ENDED

    def live(self, fate: str) -> int:
        code = super().live(fate)
        _wait_for_workers(str(self.journal))
        self.losses = sum(isinstance(one, ProcessLeft) and one.reason == "lost" for one in self.story.events)
        self.lost_attempts = sum(
            isinstance(one, ItemInterrupted) and one.reason == "worker_lost" for one in self.story.events
        )
        self.kills["SIGKILL of a worker"] = self.losses
        return code


def _kill_workers(kills: int, chance: random.Random, pids: Path) -> None:
    """Kill worker processes of this process, `kills` times, of those that run items: `pids` has their numbers."""
    while not pids.exists():
        time.sleep(0.01)
    for _ in range(kills):
        time.sleep(chance.random() * 0.25)
        at_work = [int(line) for line in pids.read_text().split()]
        workers = [one.pid for one in psutil.Process().children() if one.pid in at_work]
        if workers:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(workers), signal.SIGKILL)


def _wait_for_workers(mark: str) -> None:
    """Wait until none of the worker processes of a run is left; after a minute, fail."""
    deadline = time.monotonic() + 60
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            while process.environ().get(_MARK) == mark and process.is_running():
                assert time.monotonic() < deadline, f"worker process {process.pid} does not end"
                time.sleep(0.01)


if __name__ == "__main__":
    main("python -m tests.torture.cluster", __doc__, kills=50, size=200, make_tree=ClusterTree)
