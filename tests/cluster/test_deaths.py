"""Runs on real clusters whose parts die: workers, schedulers, coordinators, the network.

A lane's end of the connection is `_cluster.worker`.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest
from distributed import Client, LocalCluster
from distributed.security import Security

from aqueue import ClusterError, ItemFailures, PoisonItem, RunResult, run_queue
from aqueue.events import ItemCompleted, ItemInterrupted, ProcessJoined, ProcessLeft
from tests.cluster.jobs import Poison, Root, note, pids, wait_for
from tests.journal.oracle import told_by
from tests.journal.recorded import events_of

ROOT = Path(__file__).parents[2]

pytestmark = [
    # Dask's own, when it closes in the midst of things.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition` holds, 60 s at most."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        time.sleep(0.02)


@contextmanager
def meanwhile(do: Callable[[], None]) -> Iterator[None]:
    """Do something in another thread."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            do()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if errors:
        raise errors[0]


@contextmanager
def local_cluster(**arguments: Any) -> Iterator[Any]:
    """Have a cluster of Dask's of two worker processes."""
    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0", silence_logs=50, **arguments
    ) as cluster:
        yield cluster


def client_of(cluster: Any) -> Any:
    """Return a client of a cluster, or of the address of its scheduler."""
    return Client(cluster)  # type: ignore[no-untyped-call]


def free_port() -> int:
    """Return a port that nobody listens at."""
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def program(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python in a process of its own group, and kill it at the end."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), **environment},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def scheduler(port: int) -> Any:
    """Run a scheduler."""
    return program("-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")


def worker(port: int, **environment: str) -> Any:
    """Run a worker."""
    options = ["--nthreads", "1", "--no-dashboard", "--no-nanny"]
    return program("-m", "distributed.cli.dask_worker", f"tcp://127.0.0.1:{port}", *options, **environment)


def check(result: RunResult, count: int, journal: Path, log: Path) -> Counter[str]:
    """Check a run of `count` leaves that has ended well, and return how often each leaf ran to its end."""
    assert result.status == "completed"
    assert result.root_results == [count * (count - 1) // 2]
    story = told_by(events_of(journal))
    assert set(story.state.values()) == {"closed"}
    ended = Counter(line.split()[1] for line in log.read_text().splitlines() if line.startswith("ends "))
    assert set(ended) == {str(number) for number in range(count)}
    return ended


def test_a_worker_that_hangs_is_given_up_after_its_time(tmp_path: Path) -> None:
    """What a stopped process was at runs elsewhere once the scheduler has given it up, and what it says later is no use."""
    log, journal = tmp_path / "log", tmp_path / "run.db"
    with dask.config.set({"distributed.scheduler.worker-ttl": "1s"}), local_cluster() as cluster:
        stopped: list[int] = []

        def stop() -> None:
            wait_for(str(log), 10)
            stopped.append(min(pids(str(log))))
            os.kill(stopped[0], signal.SIGSTOP)

        with meanwhile(stop):
            result = run_queue(
                [Root(200, str(log))],
                cluster=cluster.scheduler_address,
                num_workers=5,
                journal=journal,
                spill_after=None,  # no worker waits for items that are read back
            )
        with suppress(ProcessLookupError):
            os.kill(stopped[0], signal.SIGCONT)
    ended = check(result, 200, journal, log)
    assert sum(ended.values()) <= 205
    events = events_of(journal)
    assert [event.reason for event in events if isinstance(event, ProcessLeft)] == ["lost"]
    assert 1 <= sum(isinstance(event, ItemInterrupted) for event in events) <= 5


def test_an_item_that_kills_its_process_fails_and_the_others_do_not(tmp_path: Path) -> None:
    """After two deaths it runs alone, after the third it fails as `PoisonItem`; all else ends well."""
    log, journal = tmp_path / "log", tmp_path / "run.db"
    with pytest.raises(ItemFailures) as caught:
        run_queue(
            [Root(100, str(log), 0.02), Poison(str(log))],
            cluster="local:2",
            num_workers=5,
            journal=journal,
            on_error="continue",
            reporter="none",
        )
    [failure] = caught.value.exceptions
    assert isinstance(failure, PoisonItem)
    assert re.search(r"item 2 \(tests.cluster.jobs:Poison\) was running in 3 worker processes that died", str(failure))
    story = told_by(events_of(journal))
    assert Counter(story.state.values()) == {"closed": 101, "failed": 1}
    lines = log.read_text().splitlines()
    assert sum(line.startswith("poison") for line in lines) == 3
    dead = [line.split()[1] for line in lines if line.startswith("poison")]
    assert lines.index(f"poison {dead[2]}") >= 0
    alone = [line for line in lines if line.startswith("begins") and line.endswith(f" {dead[2]}")]
    ended = [line for line in lines if line.startswith("ends") and line.endswith(f" {dead[2]}")]
    assert len(alone) == len(ended), "others ran beside it the third time"


def test_with_tls_all_is_as_without(tmp_path: Path) -> None:
    """A client with certificates is used as it is, and left open."""
    log, journal = tmp_path / "log", tmp_path / "run.db"
    with (
        local_cluster(security=Security.temporary(), protocol="tls") as cluster,  # type: ignore[no-untyped-call]
        client_of(cluster) as client,
    ):
        result = run_queue([Root(50, str(log), 0.01)], cluster=client, num_workers=10, journal=journal)
        assert client.status == "running"
        assert client.submit(sum, [1, 2]).result() == 3
        assert client.run(os.getpid)
    check(result, 50, journal, log)
    [joined, *_] = [event for event in events_of(journal) if isinstance(event, ProcessJoined)]
    assert joined.pid in pids(str(log))


def test_a_scheduler_that_comes_back_is_used_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """When the scheduler is killed and another takes its address, the run goes on."""
    log, journal = tmp_path / "log", tmp_path / "run.db"
    port = free_port()
    with scheduler(port) as first, worker(port), worker(port):
        again: list[Any] = []

        def kill() -> None:
            wait_for(str(log), 20)
            os.killpg(first.pid, signal.SIGKILL)
            first.wait()
            for start in (scheduler(port), worker(port)):
                start.__enter__()
                again.append(start)

        try:
            with meanwhile(kill):
                result = run_queue(
                    [Root(150, str(log))], cluster=f"tcp://127.0.0.1:{port}", num_workers=3, journal=journal
                )
        finally:
            for one in again:
                one.__exit__(None, None, None)
    check(result, 150, journal, log)


def test_a_scheduler_that_stays_away_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the scheduler is killed and none comes, the run fails, and goes on later without any cluster."""
    monkeypatch.setattr("aqueue._cluster.cluster.PATIENCE_S", 5.0)
    log, journal = tmp_path / "log", tmp_path / "run.db"
    port = free_port()
    with scheduler(port) as only, worker(port), worker(port):

        def kill() -> None:
            wait_for(str(log), 20)
            os.killpg(only.pid, signal.SIGKILL)

        with (
            dask.config.set({"distributed.comm.timeouts.connect": "2s"}),  # for so long its client tries
            meanwhile(kill),
            pytest.raises(ClusterError, match=rf"scheduler at tcp://127.0.0.1:{port} has not answered"),
        ):
            run_queue([Root(150, str(log))], cluster=f"tcp://127.0.0.1:{port}", num_workers=3, journal=journal)
    result = run_queue([Root(150, str(log))], resume=journal, num_workers=30)
    check(result, 150, journal, log)


_COORDINATOR = """
import sys
import aqueue._cluster.cluster
from aqueue import run_queue
from tests.cluster.jobs import Root
aqueue._cluster.cluster.LEASE_S = float(sys.argv[4])
run_queue([Root(200, sys.argv[2])], cluster=sys.argv[1], num_workers=5, resume=sys.argv[3])
"""


@pytest.mark.parametrize("lease_s", [3.0, 60.0])
def test_a_coordinator_that_is_killed_is_followed_by_another(lease_s: float, tmp_path: Path) -> None:
    """Its lanes end with their lease, or when the next coordinator comes; what was recorded is not done again."""
    log, journal = tmp_path / "log", tmp_path / "run.db"
    with local_cluster() as cluster:
        address = cluster.scheduler_address
        with program("-c", _COORDINATOR, address, str(log), str(journal), str(lease_s)) as coordinator:
            wait_for(str(log), 30)
            until(lambda: len(_recorded(journal)) >= 20, "20 items are recorded as completed")
            coordinator.kill()
            coordinator.wait()
        recorded = _recorded(journal)
        if lease_s < 10:
            with client_of(address) as client:
                deadline = time.monotonic() + 30
                while any(client.run(_lanes).values()):
                    assert time.monotonic() < deadline, "the lanes have not ended by themselves"
                    time.sleep(0.1)
        note(str(log), "again")
        result = run_queue([Root(200, str(log))], cluster=address, num_workers=5, resume=journal)
    check(result, 200, journal, log)
    again = log.read_text().partition("again\n")[2]
    for item in recorded - {1}:
        assert f"begins {item - 2} " not in again, f"leaf {item - 2} was recorded as done, and ran again"


def _recorded(journal: Path) -> set[int]:
    """Return the items that are recorded as completed, also while a run is writing."""
    return {event.item for event in events_of(journal) if isinstance(event, ItemCompleted)}


def _lanes() -> int:
    from aqueue._cluster.worker import _lanes

    return len(_lanes)


def test_workers_join_and_leave_in_the_middle(tmp_path: Path) -> None:
    """A process that joins gets items; one that is retired is left, and what it was at runs again."""
    log, journal = tmp_path / "log", tmp_path / "run.db"
    gate, last_gate = tmp_path / "gate", tmp_path / "last gate"
    with local_cluster() as cluster:

        def change() -> None:
            try:
                join()
            finally:
                gate.touch()
            try:
                with client_of(cluster.scheduler_address) as client:
                    client.retire_workers([min(client.scheduler_info(n_workers=-1)["workers"])])
                until(lambda: any(isinstance(event, ProcessLeft) for event in events_of(journal)), "a process leaves")
            finally:
                last_gate.touch()

        def join() -> None:
            wait_for(str(log), 20)
            cluster.scale(3)
            until(lambda: len(pids(str(log))) == 3, "the third process gets items")

        items = [Root(300, str(log), gate=str(gate), last_gate=str(last_gate))]
        with meanwhile(change):
            result = run_queue(items, cluster=cluster.scheduler_address, num_workers=3, journal=journal)
    check(result, 300, journal, log)
    events = events_of(journal)
    assert sum(isinstance(event, ProcessJoined) for event in events) == 3
    assert [event.reason for event in events if isinstance(event, ProcessLeft)] == ["left"]
    story = told_by(events)
    assert story.interrupted <= 3


@pytest.mark.parametrize(
    ("site", "says"),
    [
        (
            "import sys; sys.version_info\nimport platform\nplatform.python_version = lambda: '3.8.1'",
            "it has Python 3.8.1",
        ),
        (
            "import importlib.metadata as m\nm.version = lambda name, old=m.version: '0.0.1' if name == 'aqueue' else old(name)",
            "it has aqueue 0.0.1, and your program",
        ),
        (
            """
import importlib.metadata as m
def version(name, old=m.version):
    if name == 'aqueue':
        raise m.PackageNotFoundError(name)
    return old(name)
m.version = version
""",
            "aqueue is not installed there",
        ),
    ],
)
def test_a_worker_that_can_not_run_items_is_named_at_the_start(site: str, says: str, tmp_path: Path) -> None:
    """One with another Python, another aqueue or none at all keeps a run from beginning, and no journal is left."""
    (tmp_path / "sitecustomize.py").write_text(site)
    port, journal = free_port(), tmp_path / "run.db"
    address = f"tcp://127.0.0.1:{port}"
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    with scheduler(port), worker(port, PYTHONPATH=path):
        with client_of(address) as client:
            client.wait_for_workers(1, timeout=30)
        with pytest.raises(
            ClusterError,
            match=rf"a worker process of the cluster at tcp://\S+ can't run items: tcp://127.0.0.1:[0-9]+: {says}",
        ):
            run_queue([Root(1, str(tmp_path / "log"))], cluster=address, journal=journal)
    assert not journal.exists()


def test_no_process_of_a_local_cluster_is_left(tmp_path: Path) -> None:
    """When a run with `local:N` has ended, so have its worker processes."""
    run_queue([Root(10, str(tmp_path / "log"))], cluster="local:2", num_workers=5, reporter="none")
    used = pids(str(tmp_path / "log"))
    assert used
    assert not any(psutil.pid_exists(pid) for pid in used)
