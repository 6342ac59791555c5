"""Disks that fill up, machines that lose power, and two processes at one journal, through the whole of run_queue."""

import asyncio
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

from aqueue import Backend, EnqueueFn, Item, ItemFailures, SetDescFn, async_run_queue, run_queue
from aqueue.errors import JournalError, JournalLocked
from aqueue.events import Event, ItemStarted
from aqueue.testing import EventRecorder
from aqueue.view import RunView
from tests.journal.oracle import told_by
from tests.journal.recorded import events_of
from tests.journal.seeds import Seed, items_of, random_seed, waits


@contextmanager
def slowly() -> Iterator[None]:
    """Let items wait for a few milliseconds, so that a run has many commits."""
    waits.append(lambda: anyio.sleep(0.01))
    try:
        yield
    finally:
        waits.pop()


def to_the_end(roots: list[Seed], path: Path, backend: Backend = "trio") -> set[Any]:
    """Resume until nothing fails; return what it came to."""
    for _ in range(100):
        with suppress(ItemFailures):
            run_queue(items_of(roots), resume=path, on_error="continue", reporter="none", backend=backend)
            return told_by(events_of(path)).ended_well()
    raise AssertionError("it does not come to an end")


@contextmanager
def files_limited_to(size_bytes: int) -> Iterator[None]:
    """Have every write beyond that place in a file fail, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_fails_stops_the_run_and_what_was_committed_resumes(tmp_path: Path, backend: Backend) -> None:
    """Whichever write it is: the error says so, reporters were shown only what is saved, and it resumes to the end."""
    roots = [random_seed(Random(5), 40)]
    whole = to_the_end(roots, tmp_path / "whole.db")
    frame_bytes = 4_096 + 24
    failed = 0
    for number in range(8, 20):  # SQLite's index of the log alone has the size of eight frames
        path = tmp_path / f"{number}.db"
        recorder = EventRecorder()
        run_queue([], resume=path, reporter="none", backend=backend)  # the file is made
        error: Exception | None = None
        try:
            with slowly(), files_limited_to(32 + number * frame_bytes):
                run_queue(
                    items_of(roots), resume=path, on_error="continue", reporter=recorder, num_workers=2, backend=backend
                )
        except (ItemFailures, JournalError) as raised:
            error = raised
        if isinstance(error, JournalError):
            failed += 1
            assert str(path) in str(error)
            assert "could not be written" in str(error)
            events = events_of(path)
            told_by(events)
            assert recorder.events == events[len(events) - len(recorder.events) :], "what was shown is saved"
        assert to_the_end(roots, path, backend) == whole
    assert failed >= 8


POWER_CUTS = int(os.environ.get("TORTURE_POWER_CUTS", "12"))
"""How many images of a running journal are damaged and resumed, on each backend; `make torture` asks for more."""


class Photographer(EventRecorder):
    """Copies the journal as it is at each call, while the run goes on."""

    def __init__(self, path: Path, folder: Path) -> None:
        super().__init__()
        self.path = path
        self.images: list[Path] = []
        self.folder = folder

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        super().handle(events, view)
        image = self.folder / f"image {len(self.images)}.db"
        shutil.copyfile(self.path, image)
        with suppress(FileNotFoundError):
            shutil.copyfile(f"{self.path}-wal", f"{image}-wal")
        self.images.append(image)


def test_a_power_cut_leaves_a_prefix_that_resumes(tmp_path: Path, backend: Backend) -> None:
    """Copies of a running journal, their log cut off, zeroed or garbled anywhere, are prefixes and resume to the end."""
    roots = [random_seed(Random(8), 25), random_seed(Random(9), 25)]
    path = tmp_path / "run.db"
    camera = Photographer(path, tmp_path)
    with suppress(ItemFailures), slowly():
        run_queue(items_of(roots), resume=path, on_error="continue", reporter=camera, num_workers=2, backend=backend)
    events = events_of(path)
    whole = to_the_end(roots, path)
    random = Random(3)
    lengths = set()
    for number in range(POWER_CUTS):
        taken = random.choice(camera.images)
        image, log = tmp_path / "cut.db", tmp_path / "cut.db-wal"
        for left_over in tmp_path.glob("cut.db*"):
            left_over.unlink()
        shutil.copyfile(taken, image)
        with suppress(FileNotFoundError):
            shutil.copyfile(f"{taken}-wal", log)
        content = log.read_bytes() if log.exists() else b""
        at = random.randrange(len(content) + 1)
        damage = [
            content[:at],
            content[:at] + bytes(len(content) - at),
            content[:at] + random.randbytes(len(content) - at),
        ]
        if log.exists():
            log.write_bytes(damage[number % 3])
        left = events_of(image)
        lengths.add(len(left))
        assert left == events[: len(left)]
        assert to_the_end(roots, image, backend) == whole
    assert len(lengths) > 3, "the images are of several moments"


HOLDER = """
import sys, time, anyio, os
from aqueue import Item, run_queue

class Waits(Item):
    def __init__(self, until): self.until = until
    async def process(self, enqueue, set_desc):
        open(self.until + ".runs", "w").close()
        while not os.path.exists(self.until):
            await anyio.sleep(0.01)

run_queue([Waits(sys.argv[2])], resume=sys.argv[1], reporter="none")
"""


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """It is told whose the journal is and changes nothing; the first is not disturbed; afterwards it is free."""
    path, until = tmp_path / "run.db", tmp_path / "until"
    first = subprocess.Popen([sys.executable, "-c", HOLDER, str(path), str(until)])
    try:
        deadline = time.monotonic() + 60
        while not Path(f"{until}.runs").exists():
            assert first.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(JournalLocked, match=rf"pid {first.pid} on {socket.gethostname()}"):
            run_queue([], resume=path, reporter="none")
        with pytest.raises(JournalError):
            run_queue([], journal=path, reporter="none")
        until.touch()
        assert first.wait(60) == 0
    finally:
        first.kill()
        first.wait()
    assert run_queue([], resume=path, reporter="none").status == "completed"


def test_a_task_that_is_cancelled_again_and_again_is_recorded_to_its_end(tmp_path: Path) -> None:
    """On asyncio `Task.cancel` goes through shields; however often it comes, the journal and the reporters are closed."""
    path = tmp_path / "run.db"
    recorder = EventRecorder()

    class Waits(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(async_run_queue([Waits()], journal=path, reporter=recorder))
        while not recorder.of(ItemStarted):
            await asyncio.sleep(0.001)
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        assert task.cancelled()

    asyncio.run(main())
    assert recorder.result is not None
    assert recorder.result.status == "interrupted"
    assert [event.event for event in events_of(path)][-2:] == ["item.interrupted", "run.finished"]
    assert not Path(f"{path}-wal").exists()
