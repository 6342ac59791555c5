"""Runs that nobody ran, as journals and logs."""

import os
import socket
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from aqueue._journal.file import connect, make
from aqueue.events import (
    ErrorInfo,
    Event,
    ItemCompleted,
    ItemDescribed,
    ItemReopened,
    RunResumed,
    RunStarted,
    RunStopping,
    encode,
    encode_lines,
)
from aqueue.testing._scripted_runs import BOOM
from aqueue.testing._scripted_runs import Script as BaseScript

__all__ = ["HOSTILE_HOST", "Script", "on_a_cluster", "write_journal", "write_log"]


class Script(BaseScript):
    """A run whose process, machine and time can be told."""

    def __init__(
        self,
        num_workers: int = 3,
        *,
        host: str | None = "elsewhere.example",
        pid: int | None = 1234,
        at: float | None = None,
        age_s: float = 0.0,
        run_id: str = "3b1f",
        cluster: str = "",
    ) -> None:
        """Begin a run.

        Parameters:
            num_workers: how many workers it has.
            host: its machine; None for this one.
            pid: its process; None for this one.
            at: when it began, Unix time in seconds; None for now.
            age_s: how long before that, seconds.
            run_id: what names it.
            cluster: the address of its cluster; empty for none.
        """
        self._pid = os.getpid() if pid is None else pid
        self._host = socket.gethostname() if host is None else host
        self._run_id = run_id
        self._begin_at = (time.time() if at is None else at) - age_s
        super().__init__(num_workers, cluster)

    def begin(self, cls: type[RunStarted], host: str = "host", cluster: str = "") -> None:
        """Start or resume."""
        if not self.events:
            self._at = self._begin_at
        self.add(
            cls,
            run_id=self._run_id,
            schema_version=1,
            aqueue_version="1.0",
            num_workers=self._num_workers,
            queue_type_name="queue",
            pid=self._pid,
            host=self._host,
            cluster=cluster,
        )

    def describe(self, item: int, text: str, worker: int = 1, **fields: Any) -> None:
        """Say what it is at."""
        self.add(ItemDescribed, item=item, worker=worker, text=text, **fields)

    def complete(self, item: int, worker: int = 1, *, duration: float = 0.25, **fields: Any) -> None:
        """Complete it."""
        self.add(ItemCompleted, item=item, worker=worker, duration_s=duration, **fields)

    def fail_now(self, item: int, worker: int = 1, **fields: Any) -> None:
        """Let it fail for good."""
        self.fail(item, BOOM, worker=worker, **fields)

    def fail_hostile(self, item: int, type: str, text: str) -> None:
        """Let it fail with this text wherever an error has text."""
        self.fail(item, ErrorInfo(text, text, f"Traceback (most recent call last):\n  {text}\n{text}: {text}\n"), type)

    def stop(self, reason: str) -> None:
        """Let no more items be taken."""
        self.add(RunStopping, reason=reason)

    def give_up(self, item: int) -> None:
        """Let it fail for ending the process, without being run."""
        self.start(item, attempt=4)
        self.fail(item, ErrorInfo("aqueue.errors:PoisonItem", "it was not run again"))

    def resume(self) -> None:
        """Go on in another process."""
        self.begin(RunResumed)

    def reopen(self, item: int, type: str = "module:Page") -> None:
        """Take a failed item up again."""
        self.add(ItemReopened, item=item, type=type, failed="process")

    @property
    def last_item(self) -> int:
        """The number of the item that was enqueued last."""
        return self._items


def on_a_cluster() -> Script:
    """Return a run on a cluster that goes on: a worker process died, what it was at runs again, and one more has failed.

    Item 1 and the hook of item 2 run now; item 3 is queued again, and item 4 has failed.
    """
    script = Script(2, host=None, pid=None, cluster="tcp://scheduler:8786")
    script.join(1, 2, host="lost.example", pid=10)
    script.join(3, 2, host=HOSTILE_HOST, pid=11)
    items = [script.enqueue() for _ in range(4)]
    for item, worker in zip(items[:3], (1, 3, 2), strict=True):
        script.start(item, worker=worker)
    script.complete(items[1], worker=3)
    script.start(items[1], worker=3, phase="after_children")
    script.start(items[3], worker=4)
    script.lose(1, items[0], items[2], ignored=1)
    script.fail_now(items[3], worker=4)
    script.start(items[0], worker=4, attempt=2)
    return script


HOSTILE_HOST = "node\x1b[2J.example"


def write_log(folder: Path, events: Sequence[Event], name: str = "run.jsonl") -> Path:
    """Write a log of `events` into `folder`."""
    path = folder / name
    path.write_bytes(encode_lines(list(events)))
    return path


def write_journal(folder: Path, events: Sequence[Event], name: str = "run.db") -> Path:
    """Write a journal of `events` into `folder`."""
    path = folder / name
    make(path)
    with closing(connect(path, "rw")) as connection:
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO events (seq, event) VALUES (?, ?)", [(event.seq, encode(event).decode()) for event in events]
        )
        connection.execute("COMMIT")
    return path
