"""Whatever becomes of single messages and processes, a run on a cluster comes to what it comes to in one process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

from aqueue import Backend, ItemFailures, RunInfo, SteeringError, run_queue, steering
from aqueue._verbs import SetWorkers
from aqueue.errors import JournalError
from aqueue.events import ItemStarted, ProcessJoined
from aqueue.testing import EventRecorder
from tests.cluster.memory_transport import MemoryTransport
from tests.engine.commander import Commander
from tests.journal.oracle import Story, told_by
from tests.journal.recorded import events_of
from tests.journal.seeds import LIMITS, Seed, group_of, items_of, random_seed, waits, with_policies


def run(seeds: list[Seed], journal: Path, **arguments: Any) -> Story:
    """Run `seeds` until all have ended well, and return what the journal tells."""
    for _ in range(12):
        try:
            run_queue(items_of(seeds), resume=journal, reporter="none", on_error="continue", **arguments)
        except ItemFailures:
            continue
        return told_by(events_of(journal), group_of)
    raise AssertionError("it always fails")


def job(random: Random, number: int, size: int, backend: Backend) -> tuple[list[Seed], dict[str, Any]]:
    """Return two seeds of about `size` items, every other time with policies, and what `run_queue` is to be given."""
    seeds = [random_seed(random, size) for _ in range(2)]
    arguments: dict[str, Any] = {"num_workers": random.choice([1, 3, 20]), "backend": backend}
    if number % 2:
        seeds = [with_policies(seed, number) for seed in seeds]
        arguments["limits"] = LIMITS
    return seeds, arguments


@contextmanager
def slow_items(random: Random) -> Iterator[None]:
    """Have items wait for a few milliseconds where they would only let others run."""
    waits.append(lambda: anyio.sleep(random.choice([0.0, 0.001, 0.004])))
    try:
        yield
    finally:
        waits.pop()


@contextmanager
def fate(transport: MemoryTransport, random: Random) -> Iterator[None]:
    """Let processes join, and kill others, at any moment."""
    is_over = threading.Event()

    def strike() -> None:
        while not is_over.wait(random.random() / 10):
            transport.join()
            addresses = transport.addresses
            if len(addresses) > 2:
                transport.kill(random.choice(addresses))

    killer = threading.Thread(target=strike)
    killer.start()
    try:
        yield
    finally:
        is_over.set()
        killer.join()


def mortal_processes(random: Random, monkeypatch: pytest.MonkeyPatch) -> MemoryTransport:
    """Return the transport of a cluster of three processes, which soon notices that one has died; for `fate`."""
    transport = MemoryTransport(random, 3, faults=0.1)
    transport.use(monkeypatch)
    monkeypatch.setattr("aqueue._cluster.cluster.LEASE_S", 1.0)
    return transport


@pytest.mark.parametrize("number", range(5))
def test_lost_late_and_doubled_messages_change_nothing(
    number: int, tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 30 % of all messages lost, come again late, or unanswered, all ends as it does in one process."""
    random = Random(number)
    seeds, arguments = job(random, number, 25, backend)
    arguments["queue_type_name"] = random.choice(["queue", "stack", "priority"])
    whole = run(seeds, tmp_path / "whole.db", **arguments)
    transport = MemoryTransport(random, faults=0.3, loses_ends=number % 3 == 0)
    transport.use(monkeypatch)
    with slow_items(random):
        story = run(seeds, tmp_path / "cluster.db", cluster="local:2", **arguments)
    assert story.ended_well() == whole.ended_well()
    assert story.root_results() == whole.root_results()
    assert len(transport.counts) == 4, transport.counts


@pytest.mark.parametrize("number", range(5))
def test_processes_that_die_and_join_change_nothing(
    number: int, tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With processes that are killed and joined at any moment, all ends as it does in one process."""
    random = Random(number)
    seeds, arguments = job(random, number, 40, backend)
    whole = run(seeds, tmp_path / "whole.db", **arguments)
    transport = mortal_processes(random, monkeypatch)
    with slow_items(random), fate(transport, random):
        story = run(seeds, tmp_path / "cluster.db", cluster="local:3", **arguments)
    assert story.ended_well() == whole.ended_well()
    joined = {event.first_worker: event for event in story.events if isinstance(event, ProcessJoined)}
    assert all(
        any(first <= event.worker < first + one.num_workers for first, one in joined.items())
        for event in story.events
        if isinstance(event, ItemStarted)
    )


@pytest.mark.parametrize("number", range(4))
def test_commands_at_any_moment_change_only_when_things_happen(
    number: int, tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pauses and limits hold on a cluster as elsewhere; another number of workers is refused."""
    random = Random(number)
    seeds, arguments = job(random, number, 25, backend)
    whole = run(seeds, tmp_path / "whole.db", **arguments)
    MemoryTransport(random, faults=0.1).use(monkeypatch)
    commander = Commander(random, ["group 1", "group 2", "group 3"], LIMITS if number % 2 else None)
    with slow_items(random), commander.steering(commands=8):
        story = run(seeds, tmp_path / "cluster.db", cluster="local:2", **arguments)
    assert story.ended_well() == whole.ended_well()
    assert commander.given
    assert not any(isinstance(command, SetWorkers) for command in commander.given)


@pytest.mark.parametrize("number", range(4))
def test_items_are_steered_at_any_moment(
    number: int, tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retries, skips and cancels tell a possible story on a cluster, too, also when processes die and join."""
    random = Random(number)
    seeds, arguments = job(random, number, 25, backend)
    transport = mortal_processes(random, monkeypatch)
    commander = Commander(random, ["group 1", "group 2", "group 3"], LIMITS if number % 2 else None, steers_items=True)
    deaths = nullcontext() if number % 2 else fate(transport, random)
    with slow_items(random), commander.steering(commands=20), deaths, suppress(ItemFailures):
        run_queue(items_of(seeds), journal=tmp_path / "run.db", cluster="local:2", on_error="continue", **arguments)
    told_by(events_of(tmp_path / "run.db"), group_of)
    assert commander.answers


@pytest.mark.parametrize("verb", [steering.skip, steering.cancel])
def test_run_whose_last_items_are_dropped_ends_without_any_process(
    verb: Any, tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is there to notice that nothing is left, since no worker process has joined."""
    path = tmp_path / "run.db"
    MemoryTransport(Random(1), 0).use(monkeypatch)
    answers: list[Any] = []

    def command() -> None:
        while sum(answer.count for answer in answers) < 3:
            with suppress(JournalError):  # it isn't there yet
                answers.append(verb(path, steering.Selector(states=["queued"])))

    commanding = threading.Thread(target=command)
    commanding.start()
    with suppress(ItemFailures):
        run_queue(
            items_of([Seed(), Seed(), Seed()]),
            journal=path,
            reporter="none",
            cluster="tcp://nowhere:1",
            on_error="continue",
            backend=backend,
        )
    commanding.join(30)
    assert all(answer.is_live for answer in answers if answer.count)


def test_command_reaches_a_run_on_a_cluster_through_its_socket(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause, the refusal of another number of workers with what to do instead, and a stop."""
    path = tmp_path / "run.db"
    MemoryTransport(Random(1)).use(monkeypatch)
    answers: list[Any] = []

    def command() -> None:
        assert is_there.wait(30)
        while not any(isinstance(event, ItemStarted) for event in events_of(path)):
            is_over.wait(0.01)
        answers.append(steering.pause(path))
        with pytest.raises(SteeringError, match="start or stop worker processes"):
            steering.workers(path, 8)
        answers.append(steering.stop(path))

    is_there, is_over = threading.Event(), threading.Event()

    class Opened(EventRecorder):
        def open(self, run: RunInfo) -> None:
            is_there.set()

    commanding = threading.Thread(target=command)
    commanding.start()
    waits.append(lambda: anyio.sleep(0.02))
    try:
        seeds = [Seed(awaits=3, children=tuple(Seed(awaits=3, result=n) for n in range(1, 30)))]
        result = run_queue(
            items_of(seeds), journal=path, reporter=Opened(), cluster="local:2", num_workers=2, backend=backend
        )
    finally:
        waits.pop()
        commanding.join(30)
    assert [(answer.changed, answer.is_live) for answer in answers] == [(True, True), (True, True)]
    assert result.status == "interrupted"
    told_by(events_of(path), group_of)
