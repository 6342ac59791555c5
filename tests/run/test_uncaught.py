"""What a program prints at its end if nothing catches the error of a run: the summary, and no traceback below it.

It is `_run.uncaught` that leaves the traceback out; `_run.recorded` says how to go on.
"""

import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import pytest

from aqueue import Backend, EnqueueFn, Item, ItemFailures, SetDescFn, run_queue

PROGRAM = """
import os
import sys
from pathlib import Path

import anyio

from aqueue import Item, ItemFailures, run_queue
from aqueue_reporters.plain import PlainReporter


class Page(Item):
    def __init__(self, number):
        self.number = number

    async def process(self, enqueue, set_desc):
        if self.number % 10 == 0:
            return
        if self.number % 3 == 0:
            raise OSError(f"no page {self.number}")
        raise ValueError(f"no title: {self.number}\\n{enqueue}")


class Waits(Item):
    async def process(self, enqueue, set_desc):
        print("started", flush=True)
        while not Path("go").exists():
            await anyio.sleep(0.01)


def run(items=None, **options):
    options = {"on_error": "continue", "num_workers": 1, "backend": sys.argv[1], "reporter": "plain"} | options
    return run_queue([Page(number) for number in range(130)] if items is None else items, **options)


"""

SUMMARY = [
    "Failed   117 of 130 items failed · 13 completed",
    "",
    "  78 × Page: ValueError  no title: 1",
    r'       job.py:20 in process   raise ValueError(f"no title: {self.number}\n{enqueue}")',
    "       e.g. item 2",
    "  39 × Page: OSError  no page 3",
    '       job.py:19 in process   raise OSError(f"no page {self.number}")',
    "       e.g. item 4",
    "",
]
SEE_THEM = ["  See them all:   aqueue failures run.db", "  Accept them:    aqueue skip run.db --state failed"]
RETRY = "  Retry them:     run job.py again, with the same arguments"

Run = Callable[[str], subprocess.CompletedProcess[str]]


def write(folder: Path, end: str) -> list[str]:
    """Write the program with this end, and return the command that runs it there."""
    (folder / "job.py").write_text(PROGRAM.lstrip() + end + "\n")
    return [sys.executable, "-X", "utf8", "job.py"]


@pytest.fixture
def run(tmp_path: Path, backend: Backend) -> Run:
    """Return what runs the program, as a child whose output goes to pipes, with the end that it is given."""

    def run_with(end: str) -> subprocess.CompletedProcess[str]:
        command = [*write(tmp_path, end), backend]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=60)

    return run_with


def end_of(stderr: str) -> list[str]:
    """Return the lines from the summary on, without how long the run took."""
    lines = stderr.splitlines()
    [start] = [number for number, line in enumerate(lines) if line.startswith(("Failed   ", "Interrupted "))]
    return [lines[start].rpartition(" · ")[0], *lines[start + 1 :]]


def test_the_last_lines_are_the_summary_and_how_to_retry(run: Run) -> None:
    """What matters is at the end of the screen, and the exit code says that the program failed."""
    done = run('run(resume="run.db")')
    assert (done.returncode, done.stdout) == (1, "")
    assert end_of(done.stderr) == [*SUMMARY, *SEE_THEM, RETRY]
    assert len(end_of(done.stderr)) <= 20
    assert "Traceback" not in done.stderr


def test_without_a_journal_each_kind_has_a_traceback_before_the_summary(run: Run) -> None:
    """Nothing else has them; the summary is the last thing on the screen all the same, and says how to get a journal."""
    done = run("run()")
    assert done.returncode == 1
    assert end_of(done.stderr) == [*SUMMARY, '  To list all failures, and to retry them, pass resume="run.db".']
    assert done.stderr.count("  Traceback (most recent call last):\n") == 2
    assert "Exception Group" not in done.stderr


def test_failures_of_another_run_keep_their_traceback(run: Run) -> None:
    """The summary says nothing of them: a lifespan ran them."""
    done = run(
        "from contextlib import asynccontextmanager\n"
        "from aqueue import async_run_queue\n"
        "@asynccontextmanager\n"
        "async def lifespan():\n"
        "    await async_run_queue([Page(2)], reporter='none')\n"
        "    yield\n"
        "run(lifespan=lifespan)"
    )
    assert done.returncode == 1
    assert "ValueError: no title: 2" in done.stderr


def test_an_interrupt_that_an_item_raises_keeps_its_traceback(run: Run) -> None:
    """It is no Ctrl-C: only the traceback says where it comes from."""
    done = run(
        "async def boom(*_): raise KeyboardInterrupt('an item did it')\nPage.process = boom\nrun(resume='run.db')"
    )
    assert "KeyboardInterrupt: an item did it" in done.stderr


@pytest.mark.parametrize("reporter", ['"none"', '"jsonl:run.jsonl"', 'PlainReporter(stream=open(os.devnull, "w"))'])
def test_where_nobody_sees_a_summary_the_traceback_is_printed(run: Run, reporter: str) -> None:
    """Nothing else would say what was wrong."""
    done = run(f'run(reporter={reporter}, resume="run.db")')
    assert done.returncode == 1
    assert "  + Exception Group Traceback (most recent call last):" in done.stderr.splitlines()
    assert "aqueue.errors.ItemFailures: 117 items failed (117 sub-exceptions)" in done.stderr
    assert "ValueError: no title: 1" in done.stderr
    assert f"\n{RETRY}\n" in f"\n{done.stderr}"


HOOK = (
    "sys.excepthook = lambda cls, error, traceback: print(cls.__name__, len(error.exceptions), traceback is not None)"
)


@pytest.mark.parametrize(
    "end",
    [
        f"{HOOK}\nrun()",
        f"try:\n    run()\nexcept ItemFailures:\n    pass\n{HOOK}\nrun()",
        f"try:\n    run()\nexcept ItemFailures:\n    {HOOK}\n    raise",
    ],
    ids=["before the run", "between two runs", "after the run"],
)
def test_a_hook_of_the_program_gets_the_error(run: Run, end: str) -> None:
    """Such as one that reports errors to a service: it is called as ever, with everything."""
    done = run(end)
    assert (done.returncode, done.stdout) == (1, "ItemFailures 117 True\n")
    assert "Exception Group" not in done.stderr


@pytest.mark.parametrize("how", ["raise LookupError('other')", "raise LookupError('other') from error"])
def test_another_error_has_its_traceback(run: Run, how: str) -> None:
    """Also one that was raised because of the failures: its traceback has theirs in it."""
    done = run(f"try:\n    run()\nexcept ItemFailures as error:\n    {how}")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[-1] == "LookupError: other"
    assert "  | aqueue.errors.ItemFailures: 117 items failed (117 sub-exceptions)" in lines


def test_an_error_after_a_caught_one_has_its_traceback(run: Run) -> None:
    """The failures of a run have nothing to do with what comes later."""
    done = run("try:\n    run()\nexcept ItemFailures:\n    pass\nraise LookupError('other')")
    assert done.returncode == 1
    assert end_of(done.stderr)[len(SUMMARY) + 1 :][0] == "Traceback (most recent call last):"
    assert done.stderr.endswith("\nLookupError: other\n")
    assert "ItemFailures" not in done.stderr


@contextmanager
def started(folder: Path, backend: Backend, end: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """Start the program, wait until its first item waits, send SIGINT, and return the process and its stderr."""
    command = [*write(folder, end), backend]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    ) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            assert process.stdout.readline() == "started\n"
            process.send_signal(signal.SIGINT)
            yield process, process.stderr
        finally:
            process.kill()  # unless it has ended


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_ctrl_c_prints_no_traceback(tmp_path: Path, backend: Backend) -> None:
    """The signal ends the program, as it does others, so a shell stops its loop; the last line says how to go on."""
    with started(tmp_path, backend, 'run([Waits() for _ in range(3)], resume="run.db")') as (process, stderr):
        assert stderr.readline() == "stopping: Ctrl-C; waiting for 1 running item\n"
        (tmp_path / "go").touch()
        said = stderr.read()
        assert process.wait() == -signal.SIGINT
    assert end_of(said) == [
        "Interrupted (Ctrl-C)   1 completed · 2 outstanding",
        "",
        "  Resume:         run job.py again, with the same arguments",
    ]
    assert "Traceback" not in said
    assert "KeyboardInterrupt" not in said


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_ctrl_c_without_a_summary_prints_the_traceback(tmp_path: Path, backend: Backend) -> None:
    """As Python does."""
    end = 'run([Waits() for _ in range(3)], reporter="none", graceful_ctrl_c=False)'
    with started(tmp_path, backend, end) as (process, stderr):
        lines = stderr.read().splitlines()
        assert process.wait() == -signal.SIGINT
    assert (lines[0], lines[-1]) == ("Traceback (most recent call last):", "KeyboardInterrupt")


# ---- what code that catches the error has -----------------------------------------------------------------------------


class Fails(Item):
    def __init__(self, number: int) -> None:
        self.number = number

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        raise ValueError(f"number {self.number}")


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch, backend: Backend, tmp_path: Path) -> Callable[..., ItemFailures]:
    """Return what runs items that fail, and returns the error."""
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)  # and put it back
    monkeypatch.delitem(sys.modules, "IPython", raising=False)

    numbers = count()

    def failures_of(**options: Any) -> ItemFailures:
        items = [Fails(number) for number in range(3)]
        journal = tmp_path / f"{next(numbers)}.db"
        with pytest.raises(ItemFailures) as raised:
            run_queue(items, on_error="continue", num_workers=1, backend=backend, journal=journal, **options)
        return raised.value

    return failures_of


@pytest.mark.parametrize("reporter", ["plain", "none"])
def test_who_catches_the_error_has_everything(fail: Callable[..., ItemFailures], reporter: str) -> None:
    """All exceptions, with their tracebacks, whether a summary was printed or not: `logging.exception` shows them."""
    error = fail(reporter=reporter)
    assert [str(one) for one in error.exceptions] == ["number 0", "number 1", "number 2"]
    text = "".join(traceback.format_exception(error))
    assert [text.count(f"ValueError: number {number}\n") for number in range(3)] == [1, 1, 1]
    assert text.count(", in process\n") == 3


def test_the_hook_is_replaced_only_if_a_summary_was_printed(fail: Callable[..., ItemFailures]) -> None:
    """A program that shows no summary is left alone."""
    fail(reporter="none")
    assert sys.excepthook is sys.__excepthook__
    fail(reporter="plain")
    assert sys.excepthook is not sys.__excepthook__


def test_in_a_notebook_one_line_takes_the_place_of_the_traceback(
    fail: Callable[..., ItemFailures], monkeypatch: pytest.MonkeyPatch
) -> None:
    """IPython asks the error itself for what to print. Elsewhere the error has no such attribute."""
    assert not hasattr(fail(reporter="plain"), "_render_traceback_")
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    assert not hasattr(fail(reporter="none"), "_render_traceback_")
    error: Any = fail(reporter="plain")
    assert error._render_traceback_() == ["ItemFailures: 3 items failed"]
