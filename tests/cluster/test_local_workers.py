"""Worker processes on this machine: what they can do, what they leave alone, and that nothing of them is left.

Each is a `_cluster.local_worker`; what it prints comes by `_cluster.local_output`.
"""

import contextlib
import importlib
import io
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
import trio
from distributed import Client
from distributed.security import Security

from aqueue._cluster.local_workers import LocalWorkers, _next_pause_s

_DEADLINE_S: Final = 60.0
"""How long anything may take before the test fails: far longer than it takes on the slowest machine, seconds."""


def connected(workers: LocalWorkers) -> Client:
    """Make a client of theirs."""
    return Client(workers.address, security=workers.security, set_as_default=False)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def started(count: int = 1) -> Iterator[tuple[LocalWorkers, Client]]:
    """Start workers and a client of theirs."""
    workers = LocalWorkers(count)
    try:
        workers.start()
        with connected(workers) as client:
            yield workers, client
    finally:
        workers.close()


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[LocalWorkers, Client]]:
    """Return two workers, and a client of theirs, for tests that leave them as they are."""
    with started(2) as both:
        yield both


@pytest.fixture
def start_script(tmp_path: Path) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Return what runs a script that has no guard, in a session of its own; its temporary files go to `tmp_path`."""
    with contextlib.ExitStack() as running:

        def start(source: str) -> "subprocess.Popen[str]":
            script = tmp_path / "script.py"
            script.write_text(PREAMBLE + textwrap.dedent(source))
            temporary = tmp_path / "temporary"
            temporary.mkdir()
            process = subprocess.Popen(
                [sys.executable, "-W", "error", script],
                env={**os.environ, "TMPDIR": str(temporary)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            running.enter_context(process)
            running.callback(process.kill)
            return process

        yield start


PREAMBLE: Final = """\
import os, sys
from distributed import Client
from aqueue._cluster.local_workers import LocalWorkers

def run(function):
    with Client(workers.address, security=workers.security) as client:
        return client.submit(function, pure=False).result(20)

"""


def until(condition: Callable[[], Any]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def our_threads() -> set[threading.Thread]:
    """Return the threads there are, but for one that every client shares, which Dask never ends."""
    return {thread for thread in threading.enumerate() if not thread.name.startswith("Dask-Offload")}


def read_pids(process: "subprocess.Popen[str]") -> list[int]:
    """Read the line in which a script says which processes its workers are."""
    assert process.stdout is not None
    return [int(word) for word in process.stdout.readline().split()]


def test_each_worker_runs_functions_in_its_process(pair: tuple[LocalWorkers, Client]) -> None:
    """What a client sends to the scheduler's address is run in the processes that `pids` tells."""
    workers, client = pair
    assert sorted(client.run(os.getpid).values()) == sorted(workers.pids)
    assert client.submit(sum, [1, 2]).result(_DEADLINE_S) == 3


def test_what_is_printed_goes_to_the_current_streams(pair: tuple[LocalWorkers, Client]) -> None:
    """Lines arrive where `sys.stdout` and `sys.stderr` lead when they are printed, not when the workers were started."""
    _, client = pair
    printed, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complained):
        client.submit(lambda: print("näïve ✓"), pure=False).result(_DEADLINE_S)
        client.submit(lambda: sys.stderr.buffer.write(b"\xff\n") and sys.stderr.flush(), pure=False).result(_DEADLINE_S)
        until(lambda: printed.getvalue() and complained.getvalue())
    assert (printed.getvalue(), complained.getvalue()) == ("näïve ✓\n", "\\xff\n")


def test_nothing_listens_but_on_loopback(pair: tuple[LocalWorkers, Client]) -> None:
    """Neither this process nor a worker can be reached from another machine."""
    workers, _ = pair
    listening = [
        connection.laddr.ip
        for pid in (os.getpid(), *workers.pids)
        for connection in psutil.Process(pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 2
    assert set(listening) == {"127.0.0.1"}


def test_items_read_nothing_from_standard_input(pair: tuple[LocalWorkers, Client]) -> None:
    """An item that reads its standard input comes to its end at once, and the worker lives on."""
    _, client = pair
    assert client.submit(lambda: sys.stdin.read() + "", pure=False).result(_DEADLINE_S) == ""
    assert client.submit(os.getpid, pure=False).result(_DEADLINE_S)


def test_programs_that_items_start_have_the_environment_as_it_was(pair: tuple[LocalWorkers, Client]) -> None:
    """The workers' own `sys.path` is not handed on to programs of perhaps another Python."""
    _, client = pair
    there = client.submit(lambda: dict(os.environ), pure=False).result(_DEADLINE_S)
    here = dict(os.environ)
    for environment in (here, there):
        del environment["PYTEST_CURRENT_TEST"]
    assert there == here


def test_the_module_search_path_is_the_same(pair: tuple[LocalWorkers, Client]) -> None:
    """A worker looks for modules where this process does, in the same order, but for its own folder of uploads."""
    _, client = pair
    there = client.submit(lambda: sys.path, pure=False).result(_DEADLINE_S)
    here = [entry or os.getcwd() for entry in sys.path]
    assert "scratch" in there[0]
    assert there[1:] == here


@pytest.mark.parametrize("named", [True, False])
def test_modules_beside_the_script_can_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    """A module is found in the folder that comes first, even if that is only known as the current one."""
    (tmp_path / "beside.py").write_text("def answer(): return 42")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path if named else "")
    answer = importlib.import_module("beside").answer
    monkeypatch.delitem(sys.modules, "beside")
    with started() as (_, client):
        assert client.submit(answer).result(_DEADLINE_S) == 42


def test_a_killed_worker_is_replaced(capfd: pytest.CaptureFixture[str]) -> None:
    """In place of a worker that was killed there is soon another one, which works; Dask says nothing about it."""
    with started() as (workers, client):
        [first] = workers.pids
        os.kill(first, signal.SIGKILL)
        until(lambda: workers.pids not in ([], [first]))
        assert [client.submit(os.getpid, pure=False).result(_DEADLINE_S)] == workers.pids
    assert capfd.readouterr() == ("", "")


def test_pauses_grow_with_short_lives() -> None:
    """A worker that has lived is replaced at once; one that dies young again and again is started ever more seldom."""
    pauses = [0.0]
    for lifetime_s in (50, 0.1, 0.1, 0.1, 0.1, 2, 0, *[0] * 20):
        pauses.append(_next_pause_s(pauses[-1], lifetime_s))
    assert pauses[:8] == [0, 0, 0.25, 0.5, 1, 2, 0, 0.25]
    assert pauses[-1] == 30


def test_workers_end_with_a_killed_parent(start_script: Callable[..., "subprocess.Popen[str]"], tmp_path: Path) -> None:
    """SIGKILL to the program leaves neither workers nor files, though nothing of it could tidy up."""
    process = start_script("""
        workers = LocalWorkers(2)
        workers.start()
        print(*workers.pids, flush=True)
        sys.stdin.read()
    """)
    pids = read_pids(process)
    assert len(pids) == 2
    process.kill()
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_script_needs_no_guard(start_script: Callable[..., "subprocess.Popen[str]"]) -> None:
    """A script without `if __name__ == "__main__"` is run once, its functions run in workers, and nothing else is said."""
    process = start_script("""
        print("started")
        workers = LocalWorkers(1)
        workers.start()
        def answer():
            print("in a worker")
            return 42
        answer = run(answer)
        workers.close()
        print(answer)
    """)
    output, errors = process.communicate(timeout=_DEADLINE_S)
    assert errors == ""
    assert sorted(output.splitlines()) == ["42", "in a worker", "started"]
    assert process.returncode == 0


def test_ctrl_c_leaves_workers_alone(start_script: Callable[..., "subprocess.Popen[str]"]) -> None:
    """A SIGINT to the program's process group, as a typed Ctrl-C sends it, is the program's business alone."""
    process = start_script("""
        workers = LocalWorkers(1)
        workers.start()
        try:
            print(*workers.pids, flush=True)
            sys.stdin.read()
        except KeyboardInterrupt:
            print(run(os.getpid))
        workers.close()
    """)
    pids = read_pids(process)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=_DEADLINE_S) == (f"{pids[0]}\n", "")


def test_a_stuck_output_does_not_keep_the_program_from_ending(
    start_script: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    """While nobody takes what they print, workers wait; closing them does not wait, and the program ends as always."""
    process = start_script(f"""
        workers = LocalWorkers(1)
        workers.start()
        def flood():
            for number in range(20_000):
                print("a line of fifty characters, to fill the pipe " + str(number))
                if number == 1_000:
                    open({str(tmp_path / "flooded")!r}, "w").close()
        with Client(workers.address, security=workers.security) as client:
            flooding = client.submit(flood)
            sys.stdin.readline()
            assert not flooding.done()
            workers.close()
    """)
    until((tmp_path / "flooded").exists)
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.wait(_DEADLINE_S) == 0


def test_a_last_line_without_its_newline_is_shown() -> None:
    """What a worker printed last is shown when it ends, and ends with a newline."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        with started() as (_, client):
            client.submit(lambda: print("half", end="")).result(_DEADLINE_S)
        assert printed.getvalue() == "half\n"


def test_close_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `close` there is no thread, process, open file, temporary file or folder to import from that was not before.

    Nor is there what an item had started.
    """
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    this = psutil.Process()
    threads, files, path = our_threads(), this.num_fds(), list(sys.path)
    workers = LocalWorkers(2)
    workers.start()
    pids = workers.pids
    assert sys.path == path
    with connected(workers) as client:
        pids.append(client.submit(lambda: subprocess.Popen(["sleep", "600"]).pid).result(_DEADLINE_S))
    workers.close()
    workers.close()
    until(lambda: not any(map(psutil.pid_exists, pids)))
    assert workers.pids == []
    assert our_threads() == threads
    assert (this.num_fds(), sys.path, list(tmp_path.iterdir())) == (files, path, [])


def test_nobody_else_can_connect() -> None:
    """The scheduler lets in only who has the key of this run, which no other user of the machine can see anywhere."""
    with started() as (workers, _):
        assert workers.address.startswith("tls://127.0.0.1:")
        without_tls = workers.address.replace("tls://", "tcp://")
        others = Security.temporary()  # type: ignore[no-untyped-call]
        for address, security in ((without_tls, None), (workers.address, others)):
            with pytest.raises(OSError, match=r"Timed out|reset|closed|certificate does not match"):
                _ = Client(address, security=security, timeout=1, set_as_default=False)  # type: ignore[no-untyped-call]
        key: Any = workers.security
        [pid] = workers.pids
        process = psutil.Process(pid)
        assert "PRIVATE KEY" in key.tls_worker_key
        assert not any("PRIVATE KEY" in one for one in [*process.cmdline(), *process.environ().values()])


def test_a_worker_that_can_not_be_asked_is_killed() -> None:
    """A worker that is inside a call which stops all of Python's threads ends soon after `close` nevertheless."""
    with started() as (workers, client):
        [pid] = workers.pids
        busy = client.submit(lambda: re.match("(a+)+$", "a" * 60 + "b"))
        until(lambda: psutil.Process(pid).cpu_percent(0.1) > 50)
        assert not busy.done()  # type: ignore[no-untyped-call]
        began = time.monotonic()
        workers.close()
        assert time.monotonic() - began < 4
        assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("executable", ["", "/bin/true", "/nowhere/python"])
def test_a_program_that_is_no_python_is_refused(monkeypatch: pytest.MonkeyPatch, executable: str) -> None:
    """Where `sys.executable` is not Python, `start` says so, and `close` has nothing to do."""
    monkeypatch.setattr("sys.executable", executable)
    threads = our_threads()
    workers = LocalWorkers(1)
    with pytest.raises((OSError, RuntimeError), match=re.escape(repr(executable))):
        workers.start()
    workers.close()
    assert our_threads() == threads


def test_a_worker_that_ends_at_its_start_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the workers can't run, `start` says so, what the first that ended said is shown, and `close` tidies up."""
    (tmp_path / "distributed.py").write_text("raise ImportError('a module of the same name')")
    monkeypatch.syspath_prepend(tmp_path)
    threads = our_threads()
    workers = LocalWorkers(1)
    with pytest.raises(RuntimeError, match="exit code 1 before it was ready; look at what it printed"):
        workers.start()
    workers.close()
    assert our_threads() == threads
    assert capsys.readouterr().err.endswith("ImportError: a module of the same name\n")


def test_they_start_in_a_thread_of_a_trio_program() -> None:
    """A program that runs trio can start workers in a thread, and close them in another."""

    async def program() -> int:
        workers = LocalWorkers(1)
        try:
            await trio.to_thread.run_sync(workers.start)
            return len(workers.pids)
        finally:
            await trio.to_thread.run_sync(workers.close)

    assert trio.run(program) == 1
