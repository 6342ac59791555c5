"""Retry, skip and cancel in a live run: random trees are steered at random moments, and the journal must tell a possible story.

Also `_engine.search`, `_engine.reopening` and `_engine.reruns`.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Final

import anyio
import msgspec
import pytest
import trio

from aqueue import Backend, EnqueueFn, Item, ItemFailures, RunResult, SetDescFn, current, run_queue
from aqueue._engine.attempt import Attempt, EngineForItems
from aqueue._engine.context import running_attempt
from aqueue._engine.steering import Steering
from aqueue._engine.turns import SLICE_S, Turns
from aqueue._verbs import Answer, Cancel, Retry, Skip
from aqueue.errors import SteeringError
from aqueue.events import (
    Event,
    ItemChildrenProcessed,
    ItemCompleted,
    ItemFailed,
    ItemInterrupted,
    ItemReopened,
    ItemSkipped,
    ItemStarted,
    RunSteered,
)
from aqueue.testing import EventRecorder
from tests.engine.commander import BY, Commander
from tests.engine.invariants import check_events
from tests.engine.jobs import Do, Noop
from tests.journal.oracle import Story, told_by
from tests.journal.recorded import events_of
from tests.journal.seeds import LIMITS, group_of, items_of, random_seed, with_policies

CASES: Final = int(os.environ.get("AQUEUE_CASES", "40"))
LONG_S: Final = 60.0
GROUPS: Final = ("group 1", "group 2", "group 3")


def check(number: int, journal: Path) -> tuple[Story, Commander]:
    """Run the case of this number, and assert all that must hold."""
    random = Random(number)
    program = [random_seed(random, random.randint(1, 12)) for _ in range(random.randint(1, 3))]
    if random.random() < 0.6:
        program = [with_policies(one, number) for one in program]
    commander = Commander(random, GROUPS, LIMITS, steers_items=True)
    backend: Backend = random.choice(["trio", "asyncio"])
    result: RunResult
    with commander.steering(random.choice([1, 3, 10, 30])):
        try:
            result = run_queue(
                items_of(program),
                num_workers=random.choice([1, 2, 5]),
                queue_type_name=random.choice(["queue", "stack", "priority"]),
                journal=journal,
                on_error=random.choice(["continue", "continue", "stop"]),
                limits=LIMITS,
                reporter="none",
                backend=backend,
            )
        except ItemFailures as failures:
            result = failures.result
    events = events_of(journal)
    story = told_by(events, group_of)
    assert result.counts == story.counts
    failed = {item for item, state in story.state.items() if state in ("failed", "hook failed")}
    assert {one.item for one in result.failures} == failed
    assert sum(group.count for group in result.failure_groups) == len(failed)
    if result.status != "interrupted" and not result.stop_reason:
        assert set(story.state.values()) <= {"closed", "closed over", "failed", "hook failed"}, story.state
        assert (result.status == "failed") == bool(failed)
    told = [msgspec.json.decode(one) if one else None for one in story.root_results()]
    if not any(one.key for one in program):
        assert result.root_results == told[: len(result.root_results)], (result.root_results, told)
    _check_answers(events, commander)
    return story, commander


def _check_answers(events: list[Event], commander: Commander) -> None:
    steered: Counter[str] = Counter()
    for event in events:
        if isinstance(event, RunSteered):
            steered[event.verb] += event.count
    answered: Counter[str] = Counter()
    for command, answer in commander.answers:
        answered[command.name] += answer.count
    assert all(steered[verb] >= count for verb, count in answered.items())
    assert commander.num_refused or +steered == +answered


@pytest.mark.parametrize("number", range(CASES))
def test_random_trees_steered_at_random_moments_tell_a_possible_story(number: int, tmp_path: Path) -> None:
    """Trees with groups, retries, hooks and keys; both backends; all queue types; commands in slices and all at once."""
    check(number, tmp_path / "run.db")


# ---- at certain moments -----------------------------------------------------------------------------------------


class Bad(Item):
    """Fails at its first attempt."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        if current().attempt == 1:
            raise ValueError


class Mid(Item):
    """Has a hook, which does what `STEER` says."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None: ...

    async def after_children_processed(self) -> None:
        await STEER[0]()


class Top(Item):
    """Has a hook that runs whatever has failed below."""

    after_children_rule = "all_done"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        enqueue(Bad())
        enqueue(Mid())

    async def after_children_processed(self) -> None: ...


def engine() -> EngineForItems:
    """Return the engine that runs the item that calls this."""
    found = running_attempt.get()
    assert isinstance(found, Attempt)
    return found.engine


ENGINE: Final[list[EngineForItems]] = []
STEER: Final[list[Callable[[], Awaitable[None]]]] = []


def test_hook_that_is_due_next_waits_for_what_is_retried_below(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker gives way between two hooks: a command may come then."""
    answers: list[Answer] = []

    async def give_way(turns: Turns, attempt: Attempt) -> None:
        if attempt.phase == "after_children" and not answers:
            answers.append(ENGINE[-1].steer(Retry(by=BY, selector="2", items={"failed": [2]})))

    async def steer() -> None:
        ENGINE.append(engine())
        end = time.monotonic() + SLICE_S
        while time.monotonic() <= end:
            pass

    STEER[:] = [steer]
    monkeypatch.setattr(Turns, "give_way", give_way)
    run_queue(
        [Top()], num_workers=1, journal=tmp_path / "run.db", on_error="continue", reporter="none", backend=backend
    )
    assert [answer.count for answer in answers] == [1]
    events = events_of(tmp_path / "run.db")
    check_events(events)
    assert [type(event) for event in events if getattr(event, "item", 0) == 1][-3:] == [
        *(ItemReopened, ItemStarted, ItemChildrenProcessed),
    ]


def test_hook_runs_until_all_that_it_has_started_has_ended(tmp_path: Path) -> None:
    """It has left a nursery open, in which a task takes its time to end: so long nothing below may be retried or skipped."""
    answers: list[Answer] = []

    async def steer() -> None:
        of_run = engine()

        async def end() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                answers.append(of_run.steer(Retry(by=BY, selector="2", items={"failed": [2], "retrying": [2]})))
                answers.append(of_run.steer(Skip(by=BY, selector="2", items={"failed": [2]})))

        nursery = trio.open_nursery()
        KEPT.append(nursery)
        (await nursery.__aenter__()).start_soon(end)

    STEER[:] = [steer]
    with pytest.raises(ItemFailures):
        run_queue([HookOverBad()], num_workers=1, journal=tmp_path / "run.db", on_error="continue", reporter="none")
    assert [answer.others for answer in answers] == [{"hook": 1}, {"hook": 1}]
    check_events(events_of(tmp_path / "run.db"))


class HookOverBad(Mid):
    """Has a hook, which does what `STEER` says, over something that has failed."""

    after_children_rule = "all_done"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        enqueue(Bad())


KEPT: Final[list[object]] = []


def test_command_fails_alone_if_the_journal_can_not_be_read(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread can be started for that: the run continues, and ends."""
    start = threading.Thread.start
    answers: list[Answer | SteeringError] = []

    def start_but_one(thread: threading.Thread) -> None:
        if thread.name == "aqueue-facts":
            raise RuntimeError("can't start new thread")
        start(thread)

    async def retry() -> None:
        command = Retry(by=BY, selector="1", items={"completed": [1]}, completed=True)
        STEERING[-1].begin(command, answers.append)
        while not answers:
            await anyio.sleep(0.001)

    init = Steering.__init__

    def note(steering: Steering, *arguments: Any) -> None:
        init(steering, *arguments)
        STEERING.append(steering)

    STEER[:] = [retry]
    monkeypatch.setattr(Steering, "__init__", note)
    monkeypatch.setattr(threading.Thread, "start", start_but_one)
    result = run_queue([Noop(), Mid()], num_workers=1, journal=tmp_path / "run.db", reporter="none", backend=backend)
    assert result.status == "completed"
    assert [str(answer) for answer in answers] == ["the journal can't be read: can't start new thread"]


STEERING: Final[list[Steering]] = []


# ---- items that run ---------------------------------------------------------------------------------------------


class Limited(Do):
    """One with a timeout."""

    timeout_s = 0.02


def run_and_steer(verb: type[Skip] | type[Cancel], items: list[Item], number: int, backend: Backend) -> EventRecorder:
    """Run `items` in one worker, and in another one an item that steers item `number` as soon as that runs; return what happened."""
    recorder = EventRecorder()
    BEGUN.clear()

    async def steer(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        while BEGUN[-1:] != [number]:
            await anyio.sleep(0.001)
        steered = verb(by=BY, selector=str(number), items={"running": [number]})
        assert engine().steer(steered).count == 1

    with suppress(ItemFailures):
        run_queue([Do(steer), *items], num_workers=2, on_error="continue", reporter=recorder, backend=backend)
    check_events(recorder.events)
    return recorder


BEGUN: Final[list[int]] = []


async def wait(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Wait until it is cancelled."""
    BEGUN.append(current().id)
    await anyio.sleep(LONG_S)


def outcomes(recorder: EventRecorder, item: int) -> list[type[Event]]:
    """Return how the attempts at an item ended."""
    ends = ItemCompleted | ItemFailed | ItemInterrupted | ItemSkipped
    return [type(event) for event in recorder.events if isinstance(event, ends) and event.item == item]


@pytest.mark.parametrize("limited", [1, 2])
@pytest.mark.parametrize(
    ("verb", "ends"), [(Skip, [ItemInterrupted, ItemSkipped]), (Cancel, [ItemFailed])], ids=["skip", "cancel"]
)
def test_command_reaches_what_runs_after_a_timeout(
    verb: Any, ends: list[type[Event]], limited: int, backend: Backend
) -> None:
    """The worker whose earlier items took too long can still cancel what it runs."""
    number = limited + 2
    recorder = run_and_steer(verb, [*(Limited(wait) for _ in range(limited)), Do(wait)], number, backend)
    assert outcomes(recorder, number) == ends


@pytest.mark.parametrize(
    ("verb", "ends"), [(Skip, [ItemInterrupted, ItemSkipped]), (Cancel, [ItemCompleted])], ids=["skip", "cancel"]
)
def test_item_that_ignores_the_command_until_its_time_is_over(
    verb: Any, ends: list[type[Event]], backend: Backend
) -> None:
    """If it returns all the same, it has completed, unless it was skipped; the next failure in its worker is its own."""

    async def insist(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        BEGUN.append(current().id)
        with anyio.CancelScope(shield=True):
            await anyio.sleep(5 * Limited.timeout_s)

    async def fail(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        raise ValueError

    recorder = run_and_steer(verb, [Limited(insist), Do(fail)], 2, backend)
    assert outcomes(recorder, 2) == ends
    assert [event.error.type for event in recorder.of(ItemFailed)] == ["ValueError"]


@pytest.mark.parametrize(
    ("command", "verb"),
    [
        (Retry(by=BY, selector="1", items={"completed": [1]}, completed=True), "retry"),
        (Skip(by=BY, selector="5", items={"queued": [5]}), "skip"),
    ],
    ids=["completed", "spilled"],
)
def test_what_must_be_read_first_is_not_done_at_once(
    tmp_path: Path, backend: Backend, command: Retry | Skip, verb: str
) -> None:
    """An item that gives the command is told what to call instead."""

    async def steer() -> None:
        with pytest.raises(SteeringError, match=rf"in a thread: await anyio.* steering\.{verb}\("):
            engine().steer(command)

    STEER[:] = [steer]
    items = [Noop(), Mid(), *(Noop() for _ in range(6))]
    result = run_queue(
        items, num_workers=1, journal=tmp_path / "run.db", spill_after=1, reporter="none", backend=backend
    )
    assert result.counts.completed == 8
