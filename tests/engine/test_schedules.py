"""A thousand seeded schedules on trio: what happens must not depend on who is woken first.

Who is woken is for the `_engine.dispatcher` to say; those who are woken are `_engine.workers`.
"""

from random import Random

import pytest
import trio

from aqueue import ItemFailures, OnError, run_queue
from aqueue.testing import EventRecorder
from tests.engine.invariants import check_events, check_result
from tests.engine.trees import expected, items_of, random_plan


@pytest.fixture
def seeded_scheduler(monkeypatch: pytest.MonkeyPatch) -> Random:
    """Make trio order its runnable tasks by a random generator of ours: a private switch, used here alone."""
    random = Random(0)
    monkeypatch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
    monkeypatch.setattr(trio._core._run, "_r", random)
    return random


@pytest.mark.parametrize("hundred", range(10))
def test_any_schedule_keeps_the_invariants(seeded_scheduler: Random, hundred: int) -> None:
    """For each of a hundred seeds, a random tree under a random schedule comes to exactly what its plan says."""
    for seed in range(hundred * 100, hundred * 100 + 100):
        seeded_scheduler.seed(seed)
        random = Random(seed)
        roots = [random_plan(random, random.randint(1, 15)) for _ in range(random.randint(1, 3))]
        items, _ = items_of(roots)
        recorder = EventRecorder()
        on_error: OnError = random.choice(["stop", "continue"])
        try:
            result = run_queue(
                items,
                num_workers=random.randint(1, 6),
                queue_type_name=random.choice(["queue", "stack", "priority"]),
                on_error=on_error,
                reporter=recorder,
            )
        except ItemFailures as failures:
            result = failures.result
        check_events(recorder.events)
        check_result(result, recorder.events)
        outcomes = [expected(plan) for plan in roots]
        if on_error == "continue" or not any(one.failed for one in outcomes):
            assert result.counts.completed == sum(one.completed for one in outcomes), f"seed {seed}"
            assert result.counts.failed == sum(one.failed for one in outcomes), f"seed {seed}"
