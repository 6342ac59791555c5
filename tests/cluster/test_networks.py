"""A cluster of machines with a network between them, which is cut: each is a network namespace of this one."""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from aqueue.events import ItemInterrupted, ProcessJoined, ProcessLeft
from tests.cluster.jobs import pids, wait_for
from tests.journal.oracle import told_by
from tests.journal.recorded import events_of

ROOT = Path(__file__).parents[2]
PYTHON = sys.executable

_COORDINATOR = """
import sys
from aqueue import run_queue
from tests.cluster.jobs import Root
result = run_queue(
    [Root(int(sys.argv[4]), sys.argv[2])],
    cluster=sys.argv[1], num_workers=5, journal=sys.argv[3], reporter="none", allow_insecure=True,
)
assert result.status == "completed"
"""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


def _why_not() -> str:
    """Return why there can be no network namespaces here; empty if there can."""
    if shutil.which("ip") is None:
        return "there is no ip command (of iproute2)"
    name = f"aq{os.getpid()}"
    try:
        _ip("netns", "add", name)
        try:
            _ip("-n", name, "link", "add", "one", "type", "veth", "peer", "name", "other")
        finally:
            _ip("netns", "del", name)
    except (OSError, subprocess.SubprocessError):
        return "network namespaces can't be made: that takes root, and a kernel with veth"
    return ""


_REASON = _why_not() if sys.platform == "linux" else "network namespaces are Linux's"

pytestmark = pytest.mark.skipif(bool(_REASON), reason=_REASON)


class Network:
    """Machines on one switch. All names are this process's own."""

    def __init__(self) -> None:
        self._prefix = f"aq{os.getpid()}"
        self._machines: list[str] = []
        self._switch = f"{self._prefix}sw"
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "bridge", "up")

    def add(self, name: str) -> str:
        """Add a machine, and return its address."""
        machine = f"{self._prefix}{name}"
        _ip("netns", "add", machine)
        self._machines.append(machine)
        address = f"10.213.7.{len(self._machines)}"
        _ip("-n", self._switch, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", machine)
        _ip("-n", self._switch, "link", "set", name, "master", "bridge", "up")
        _ip("-n", machine, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", machine, "link", "set", "eth0", "up")
        _ip("-n", machine, "link", "set", "lo", "up")
        return address

    def cut(self, name: str) -> None:
        """Pull a machine's cable."""
        _ip("-n", self._switch, "link", "set", name, "down")

    def mend(self, name: str) -> None:
        """Put it in again."""
        _ip("-n", self._switch, "link", "set", name, "up")

    def close(self) -> None:
        for machine in [*self._machines, self._switch]:
            with suppress(subprocess.SubprocessError):
                _ip("netns", "del", machine)

    @contextmanager
    def program(self, name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run Python on a machine, and kill it at the end."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s",  # the least that it can be
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s",
        }
        process = subprocess.Popen(
            ["ip", "netns", "exec", f"{self._prefix}{name}", PYTHON, *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE if name == "home" else subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()


@pytest.fixture
def network() -> Iterator[Network]:
    """Make a network with a scheduler, two workers and the machine at home."""
    network = Network()
    try:
        with ExitStack() as programs:
            address = network.add("boss")
            network.add("home")
            options = ["--host", address, "--port", "8786", "--dashboard-address", f"{address}:0"]
            programs.enter_context(network.program("boss", "-m", "distributed.cli.dask_scheduler", *options))
            for name in ("one", "two"):
                own = network.add(name)
                options = ["--host", own, "--nthreads", "1", "--no-nanny", "--dashboard-address", f"{own}:0"]
                programs.enter_context(
                    network.program(name, "-m", "distributed.cli.dask_worker", f"tcp://{address}:8786", *options)
                )
            yield network
    finally:
        network.close()


ADDRESS = "tcp://10.213.7.1:8786"


def check(count: int, coordinator: "subprocess.Popen[bytes]", journal: Path, log: Path) -> Counter[str]:
    """Wait for the run of `count` leaves, see that it ended well, and return how often each leaf ran to its end."""
    assert coordinator.stderr is not None
    errors = coordinator.stderr.read().decode()
    assert coordinator.wait(90) == 0, errors
    story = told_by(events_of(journal))
    assert set(story.state.values()) == {"closed"}
    assert story.root_results() == [str(count * (count - 1) // 2).encode()]
    ended = Counter(line.split()[1] for line in log.read_text().splitlines() if line.startswith("ends "))
    assert set(ended) == {str(number) for number in range(count)}
    return ended


def test_the_items_of_a_machine_that_is_cut_off_run_elsewhere(network: Network, tmp_path: Path) -> None:
    """A worker whose network is gone is given up; what it goes on to do does no harm, nor does its return."""
    log, journal = tmp_path / "log", tmp_path / "run.db"
    with network.program("home", "-c", _COORDINATOR, ADDRESS, str(log), str(journal), "300") as coordinator:
        wait_for(str(log), 40)
        deadline = time.monotonic() + 60
        while len(pids(str(log))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        network.cut("one")
        while not any(isinstance(event, ProcessLeft) for event in events_of(journal)):
            assert time.monotonic() < deadline, "the machine is not given up"
            time.sleep(0.2)
        network.mend("one")
        ended = check(300, coordinator, journal, log)
    events = events_of(journal)
    left = [event for event in events if isinstance(event, ProcessLeft)]
    assert [event.reason for event in left] == ["lost"]
    interrupted = sum(isinstance(event, ItemInterrupted) for event in events)
    assert 1 <= interrupted <= 5
    assert sum(ended.values()) <= 300 + interrupted


def test_a_coordinator_whose_network_is_gone_for_a_while_loses_nothing(network: Network, tmp_path: Path) -> None:
    """Shorter than the lease: what runs on the workers goes on, and nothing runs twice."""
    log, journal = tmp_path / "log", tmp_path / "run.db"
    with network.program("home", "-c", _COORDINATOR, ADDRESS, str(log), str(journal), "200") as coordinator:
        wait_for(str(log), 40)
        network.cut("home")
        time.sleep(15)  # longer than it takes for the connection to break
        network.mend("home")
        ended = check(200, coordinator, journal, log)
    assert set(ended.values()) == {1}
    events = events_of(journal)
    assert sum(isinstance(event, ProcessJoined) for event in events) == 2
    assert not any(isinstance(event, ItemInterrupted | ProcessLeft) for event in events)
