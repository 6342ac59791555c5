"""Runs on Dask's clusters as users make them: in one process, several runs at once, runs in runs, and wrong arguments."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import dask
import pytest
from distributed import Client, LocalCluster

import aqueue
from aqueue import (
    Backend,
    ClusterError,
    EnqueueFn,
    InvalidArgument,
    Item,
    RunResult,
    SetDescFn,
    async_run_queue,
    run_queue,
)
from aqueue._cluster import worker
from aqueue._cluster.dask_transport import DaskTransport
from aqueue._cluster.messages import Answer
from aqueue.events import ItemInterrupted, ItemStarted, ProcessJoined, ProcessLeft
from aqueue.testing import EventRecorder

pytestmark = [
    # Dask's own, when it closes in the midst of things.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

DEADLINE_S = 60.0
"""How long anything may take before a test fails: far longer than it does, seconds."""


def cluster_of_threads(workers: int = 2, **arguments: Any) -> Any:
    """Return a cluster whose scheduler and workers are all in this process."""
    return LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=workers,
        threads_per_worker=1,
        processes=False,
        dashboard_address="127.0.0.1:0",
        silence_logs=50,
        **arguments,
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Have a cluster of two workers in this process, for all tests."""
    with cluster_of_threads() as made:
        yield made


def client_of(cluster: Any, **arguments: Any) -> Any:
    """Return a client of a cluster, or of the address of its scheduler."""
    return Client(cluster, set_as_default=False, **arguments)  # type: ignore[no-untyped-call]


def free_port() -> int:
    """Return a port that nobody listens at."""
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def wait_until(condition: Callable[[], object]) -> None:
    """Wait, in a thread of its own."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


went_on = threading.Event()
"""Set when the items of a test may end; they are all in this process."""

ran: list[int] = []
"""The threads in which items have run."""


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    went_on.clear()
    ran.clear()
    monkeypatch.setattr("aqueue._cluster.cluster.MEMBERS_INTERVAL_S", 0.05)
    yield
    went_on.set()


class Number(Item):
    """Returns its number."""

    def __init__(self, number: int) -> None:
        self.number = number

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
        ran.append(threading.get_ident())
        await anyio.sleep(0.001)
        return self.number


class Waits(Number):
    """Waits until the test lets it go on."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
        ran.append(threading.get_ident())
        while not went_on.is_set():
            await anyio.sleep(0.005)
        return self.number


class Sum(Item):
    """Sums up its children's numbers."""

    def __init__(self, count: int) -> None:
        self.count = count

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for number in range(self.count):
            enqueue(Number(number))

    async def after_children_processed(self) -> int:
        return sum(aqueue.child_results())


class Nested(Item):
    """Runs a queue of its own, on the same cluster."""

    def __init__(self, address: str, count: int) -> None:
        self.address = address
        self.count = count

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
        result = await async_run_queue([Sum(self.count)], cluster=self.address, reporter="none")
        [total] = result.root_results
        assert isinstance(total, int)
        return total


# ---- clusters in one process --------------------------------------------------------------------------------------


def test_a_cluster_of_threads_runs_items_in_each_worker(cluster: Any, backend: Backend) -> None:
    """Two workers in one process are two places."""
    recorder = EventRecorder()
    result = run_queue([Sum(100)], cluster=cluster.scheduler_address, num_workers=3, reporter=recorder, backend=backend)
    assert result.root_results == [4950]
    assert len(recorder.of(ProcessJoined)) == 2
    assert threading.main_thread().ident not in ran
    assert recorder.of(ItemInterrupted) == []


def test_a_worker_that_joins_does_not_end_the_lanes_beside_it(backend: Backend) -> None:
    """Where workers share a process, the lanes of the others are not taken for those of an earlier coordinator."""

    def grow(cluster: Any) -> None:
        wait_until(lambda: len(ran) == 4)
        cluster.scale(3)
        wait_until(lambda: len(ran) == 6)
        went_on.set()

    recorder = EventRecorder()
    with cluster_of_threads() as growing:
        grower = threading.Thread(target=grow, args=(growing,))
        grower.start()
        result = run_queue(
            [Waits(number) for number in range(6)],
            cluster=growing.scheduler_address,
            num_workers=2,
            reporter=recorder,
            backend=backend,
        )
        grower.join()
    assert result.root_results == list(range(6))
    assert len(recorder.of(ProcessJoined)) == 3
    assert not recorder.of(ProcessLeft)
    assert not recorder.of(ItemInterrupted)


def test_a_lane_that_is_there_before_it_is_asked_for_begins_at_once(
    cluster: Any, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has nothing to report yet, and what it waits for is sent when it has answered: so it does, at once."""
    monkeypatch.setattr("aqueue._cluster.link.POLL_S", 3_600.0)
    exchange = DaskTransport.exchange

    async def late(self: DaskTransport, address: str, lane: str, *arguments: Any) -> Answer:
        while lane not in worker._lanes:
            await asyncio.sleep(0.001)
        return await exchange(self, address, lane, *arguments)

    monkeypatch.setattr(DaskTransport, "exchange", late)
    result = run_queue([Sum(3)], cluster=cluster.scheduler_address, reporter="none", backend=backend)
    assert result.root_results == [3]


def test_the_users_client_is_used_and_left_open(cluster: Any, backend: Backend) -> None:
    """It can be used as before when the run is over, and for the next run."""
    with client_of(cluster) as client:
        for _ in range(2):
            assert run_queue([Sum(5)], cluster=client, reporter="none", backend=backend).root_results == [10]
        assert client.status == "running"
        assert client.submit(sum, [1, 2], pure=False).result() == 3


# ---- several runs -------------------------------------------------------------------------------------------------


def test_runs_in_items_do_not_wait_for_each_other(cluster: Any, backend: Backend) -> None:
    """Each worker has all its lanes, of however many runs, though it has one thread for tasks."""
    result = run_queue(
        [Nested(cluster.scheduler_address, count) for count in (3, 4, 5)],
        cluster=cluster.scheduler_address,
        num_workers=2,
        reporter="none",
        backend=backend,
    )
    assert result.root_results == [3, 6, 10]


def test_two_runs_at_once_share_a_cluster(cluster: Any, backend: Backend) -> None:
    """Neither waits for the other's end, and each gets its own results."""
    address = cluster.scheduler_address
    results: list[RunResult] = []

    def run_other() -> None:
        wait_until(lambda: ran)
        results.append(run_queue([Sum(10)], cluster=address, reporter="none", backend=backend))
        went_on.set()

    other = threading.Thread(target=run_other)
    other.start()
    result = run_queue([Waits(7)], cluster=address, reporter="none", backend=backend)
    other.join()
    assert result.root_results == [7]
    assert results[0].root_results == [45]


# ---- what can't be used -------------------------------------------------------------------------------------------


def closed_client(cluster: Any) -> Any:
    """Return a client that is closed."""
    client = client_of(cluster)
    client.close()
    return client


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (5, "cluster is 5; it must be a scheduler's address such as"),
        (True, "cluster is True; it must be a scheduler's address"),
        (["local:2"], r"cluster is \['local:2'\]; it must be a scheduler's address"),
        ("", "cluster is ''; it must be a scheduler's address"),
        ("nonsense", "cluster is 'nonsense'; it must be a scheduler's address"),
        ("tcp://host", "cluster is 'tcp://host'; it must be a scheduler's address"),
        ("tcp://host:65536", "cluster is 'tcp://host:65536'; it must be a scheduler's address"),
        ("local:0", "cluster is 'local:0'; after 'local:' write the number of worker processes, 1 to 1,000"),
        ("local:x", "cluster is 'local:x'; after 'local:' write the number"),
        ("local:-1", "cluster is 'local:-1'; after 'local:' write the number"),
        ("local:1001", "cluster is 'local:1001'; after 'local:' write the number"),
        ("local:", "cluster is 'local:'; after 'local:' write the number"),
        ("tcp://10.1.1.1:8786", "cluster is 'tcp://10.1.1.1:8786', a scheduler on another machine without TLS"),
        ("10.1.1.1:8786", "cluster is '10.1.1.1:8786', a scheduler on another machine without TLS"),
        ("ws://example.org:80", "'ws://example.org:80', a scheduler on another machine without TLS"),
    ],
)
def test_a_value_that_is_no_cluster_is_refused(given: Any, says: str, backend: Backend, tmp_path: Path) -> None:
    """The message names the argument and what is allowed, and no journal is left."""
    with pytest.raises(InvalidArgument, match=says):
        run_queue([Number(1)], cluster=given, backend=backend, journal=tmp_path / "run.db")
    assert list(tmp_path.iterdir()) == []


def test_allow_insecure_is_about_clusters_only(backend: Backend) -> None:
    """Without a cluster it is refused, and so is what is no bool."""
    with pytest.raises(InvalidArgument, match="allow_insecure=True applies to the connection to a cluster"):
        run_queue([Number(1)], allow_insecure=True, backend=backend)
    with pytest.raises(InvalidArgument, match="allow_insecure is 1; it must be True or False"):
        run_queue([Number(1)], cluster="local:1", allow_insecure=1, backend=backend)  # type: ignore[arg-type]


def test_a_client_that_is_closed_is_refused(cluster: Any, backend: Backend) -> None:
    """Rather than that it is waited for."""
    with pytest.raises(InvalidArgument, match="cluster is a closed Client; pass a connected one"):
        run_queue([Number(1)], cluster=closed_client(cluster), backend=backend)


def test_an_asynchronous_client_is_refused(cluster: Any) -> None:
    """It lives in the caller's event loop, which can't serve the run as well."""

    async def give_it() -> None:
        async with client_of(cluster.scheduler_address, asynchronous=True) as client:
            with pytest.raises(InvalidArgument, match="cluster is an asynchronous Client"):
                await async_run_queue([Number(1)], cluster=client)

    anyio.run(give_it, backend="asyncio")


def test_tls_without_certificates_is_refused_at_once(backend: Backend, tmp_path: Path) -> None:
    """Nothing is tried that could not work."""
    began_at = time.monotonic()
    with pytest.raises(ClusterError, match=r"tls://127.0.0.1:9 can't be reached: .*no certificates for TLS"):
        run_queue([Number(1)], cluster="tls://127.0.0.1:9", backend=backend, journal=tmp_path / "run.db")
    assert time.monotonic() - began_at < 10.0
    assert not (tmp_path / "run.db").exists()


def test_a_scheduler_that_is_not_there_leaves_no_journal(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the address, and the next run can be recorded in the same file."""
    monkeypatch.setattr("aqueue._cluster.dask_transport.CONNECT_S", 0.2)
    journal = tmp_path / "run.db"
    port = free_port()
    with pytest.raises(ClusterError, match=rf"the scheduler at tcp://127.0.0.1:{port} can't be reached"):
        run_queue([Number(1)], cluster=f"tcp://127.0.0.1:{port}", backend=backend, journal=journal)
    assert not journal.exists()
    assert run_queue([Number(1)], backend=backend, journal=journal, reporter="none").root_results == [1]


# ---- a connection that is lost ------------------------------------------------------------------------------------


def test_a_client_that_has_given_up_is_replaced(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """When the scheduler comes back later than Dask's client waits for it, the run goes on with another one."""
    gave_up = threading.Event()
    reconnect = DaskTransport.reconnect

    async def spy(self: DaskTransport) -> None:
        if self._client.status == "closed":
            gave_up.set()
        await reconnect(self)

    monkeypatch.setattr(DaskTransport, "reconnect", spy)
    monkeypatch.setattr("aqueue._cluster.dask_transport.CONNECT_S", 1.0)
    port = free_port()
    later: list[Any] = []
    recorder = EventRecorder()

    def restart() -> None:
        wait_until(lambda: ran)
        first.close()
        wait_until(gave_up.is_set)
        later.append(cluster_of_threads(1, host="127.0.0.1", scheduler_port=port, protocol="tcp"))
        wait_until(lambda: len(ran) > 1)
        went_on.set()

    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        first = cluster_of_threads(1, host="127.0.0.1", scheduler_port=port, protocol="tcp")
        restarter = threading.Thread(target=restart)
        restarter.start()
        try:
            result = run_queue([Waits(3)], cluster=f"tcp://127.0.0.1:{port}", reporter=recorder, backend=backend)
        finally:
            restarter.join()
            for one in (first, *later):
                one.close()
    assert gave_up.is_set()
    assert result.root_results == [3]
    assert [event.attempt for event in recorder.of(ItemStarted)] == [1, 2]
    assert [event.reason for event in recorder.of(ItemInterrupted)] == ["worker_lost"]
    assert "Traceback" not in capfd.readouterr().err
