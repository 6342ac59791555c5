"""Retry, skip and cancel in a live run: random trees are steered at random moments, and the journal must tell a possible story.

Also `_engine.search`, `_engine.reopening`, `_engine.reruns` and `_engine.facts`.
"""

import os
from collections import Counter
from pathlib import Path
from random import Random
from typing import Final

import msgspec
import pytest

from aqueue import Backend, ItemFailures, RunResult, run_queue
from aqueue.events import Event, RunSteered
from tests.engine.commander import Commander
from tests.journal.oracle import Story, told_by
from tests.journal.recorded import events_of
from tests.journal.seeds import LIMITS, group_of, items_of, random_seed, with_policies

CASES: Final = int(os.environ.get("AQUEUE_CASES", "40"))
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
