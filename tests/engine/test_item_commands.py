"""Retry, skip and cancel in a live run: random trees are steered at random moments, and the journal must tell a possible story.

Also `aqueue._engine.search`, `aqueue._engine.reopening`, `aqueue._engine.reruns` and `aqueue._engine.facts`.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, get_args
from unittest import mock

import msgspec
import pytest

from aqueue import Backend, ItemFailures, RunResult, run_queue
from aqueue._engine.engine import Engine
from aqueue._engine.stopping import Stage
from aqueue._verbs import Answer, Cancel, OnItems, Pause, Retry, SeenState, Skip, Unpause
from aqueue.errors import SteeringError
from aqueue.events import NO_DATA, Event, RunSteered
from tests.journal.oracle import Story, told_by
from tests.journal.recorded import events_of
from tests.journal.seeds import LIMITS, group_of, items_of, random_seed, with_policies

CASES: Final = int(os.environ.get("AQUEUE_CASES", "40"))
BY: Final = "anna@laptop via test"
ALL_STATES: Final[tuple[SeenState, ...]] = get_args(SeenState)


class Commander:
    """Gives random commands on items to each run that begins.

    Attributes:
        answers: what came of them, by the verb.
        refused: how many came after the end.
    """

    def __init__(self, random: Random, commands: int) -> None:
        self.answers: list[tuple[OnItems, Answer]] = []
        self.refused = 0
        self.errors: list[BaseException] = []
        self._random = random
        self._left = commands

    @contextmanager
    def steering(self) -> Iterator[None]:
        """Give them within the ``with`` block."""
        add_initial = Engine.add_initial

        async def begin(engine: Engine, *arguments: Any) -> None:
            self._hop(engine, self._random.randint(0, 25))
            await add_initial(engine, *arguments)

        with mock.patch.object(Engine, "add_initial", begin):
            yield
        for error in self.errors:
            raise error

    def _command(self, last: int) -> Retry | Skip | Cancel:
        random = self._random
        numbers = sorted({random.randint(1, last) for _ in range(random.choice([1, 1, 2, 5, 20]))})
        states = ALL_STATES if random.random() < 0.7 else random.sample(ALL_STATES, 2)
        items: dict[SeenState, list[int]] = dict.fromkeys(states, numbers)
        verb = random.choice(["retry", "retry", "rerun", "skip", "cancel", "cancel"])
        match verb:
            case "skip":
                result = random.choice([NO_DATA, msgspec.Raw(b"7")])
                return Skip(by=BY, selector="some", items=items, result=result)
            case "cancel":
                return Cancel(by=BY, selector="some", items=items)
            case _:
                return Retry(by=BY, selector="some", items=items, completed=verb == "rerun")

    def _hop(self, engine: Engine, hops: int) -> None:
        parts = engine.parts

        def step() -> None:
            nonlocal hops
            hops -= 1
            if parts.stopping.stage is Stage.ENDED or not self._left:
                return
            if hops > 0 or not parts.intake.last_id:
                parts.for_items.call_soon(step)
                return
            self._left -= 1
            hops = self._random.randint(0, 25)
            try:
                self._give(engine)
            except BaseException as error:  # in a callback of the loop it would end the whole loop
                self.errors.append(error)
            parts.for_items.call_soon(step)

        parts.for_items.call_soon(step)

    def _give(self, engine: Engine) -> None:
        random, steering = self._random, engine.steering
        if not self._left:
            steering.apply(Unpause(by=BY))
        elif random.random() < 0.15:
            steering.apply(Pause(by=BY) if random.random() < 0.5 else Unpause(by=BY))
        command = self._command(engine.parts.intake.last_id)
        if random.random() < 0.3:
            try:
                self._note(command, steering.apply(command))
            except SteeringError as error:
                self._note(command, error)
        else:
            steering.begin(command, partial(self._note, command))

    def _note(self, command: OnItems, answer: Answer | SteeringError) -> None:
        if isinstance(answer, Answer):
            self.answers.append((command, answer))
        else:
            self.refused += 1
            if not any(why in str(answer) for why in ("has ended", "in a thread", "another command")):
                self.errors.append(answer)


def check(number: int, journal: Path) -> tuple[Story, Commander]:
    """Run the case of this number, and assert all that must hold."""
    random = Random(number)
    program = [random_seed(random, random.randint(1, 12)) for _ in range(random.randint(1, 3))]
    if random.random() < 0.6:
        program = [with_policies(one, number) for one in program]
    commander = Commander(random, random.choice([1, 3, 10, 30]))
    backend: Backend = random.choice(["trio", "asyncio"])
    result: RunResult
    with commander.steering():
        try:
            result = run_queue(
                items_of(program),
                num_workers=random.choice([1, 2, 5]),
                queue_type_name=random.choice(["queue", "stack", "priority"]),
                journal=journal,
                on_error=random.choice(["continue", "continue", "stop"]),
                limits=LIMITS,
                spill_after=random.choice([100_000, 100_000, 100_000]),
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
        numbers = {number for numbers in command.items.values() for number in numbers}
        assert answer.count + sum(answer.others.values()) == len(numbers)
        answered[command.name] += answer.count
    assert all(steered[verb] >= count for verb, count in answered.items())
    assert commander.refused or +steered == +answered


@pytest.mark.parametrize("number", range(CASES))
def test_random_trees_steered_at_random_moments_tell_a_possible_story(number: int, tmp_path: Path) -> None:
    """Trees with groups, retries, hooks and keys; both backends; all queue types; commands in slices and all at once."""
    check(number, tmp_path / "run.db")
