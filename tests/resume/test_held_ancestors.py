"""However a journal is cut, each item is one object, for itself and for all descendants that refer to it.

The objects of live items are made by `_resume.live_items`.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aqueue
from aqueue import Backend, EnqueueFn, Item, ItemFailures, SetDescFn, run_queue
from aqueue.events import ItemEnqueued
from tests.journal.oracle import told_by
from tests.journal.recorded import cut, events_of

Plan = list[Any]
"""How many attempts of its `process` and of its hook fail, whether it has one, which ancestors it holds, and its children."""


class Holding(Item):
    """Does what its plan says; holds some of its ancestors."""

    objects: ClassVar["dict[str, Holding]"] = {}
    """What each item is in this process, by its name: the one that runs, or that another holds."""
    mistakes: ClassVar[list[str]] = []

    def __init__(self, name: str, plan: Plan, above: "Sequence[Holding]") -> None:
        self.name = name
        self.plan = plan
        self.above = list(above)

    def __lt__(self, other: "Holding") -> bool:
        return self.name[::-1] < other.name[::-1]

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        fails, _, _, children = self.plan
        self.check()
        for number, child in enumerate(children):
            above = [one for place, one in enumerate([*self.above, self]) if child[2] >> place & 1]
            enqueue((Hooked if child[1] is not None else Holding)(f"{self.name}.{number}", child, above))
        if aqueue.current().attempt <= fails:
            raise ZeroDivisionError

    def check(self) -> None:
        for one in [self, *self.above]:
            if self.objects.setdefault(one.name, one) is not one:
                self.mistakes.append(f"{self.name} has another {one.name}")
            if one is not self:
                one.check()


class Hooked(Holding):
    """One with a hook."""

    async def after_children_processed(self) -> None:
        self.check()
        if aqueue.current().attempt <= self.plan[1]:
            raise ZeroDivisionError


def plan_of(children: st.SearchStrategy[list[Plan]]) -> st.SearchStrategy[Plan]:
    """Make up plans with these children."""
    fails = st.sampled_from([0, 0, 0, 1, 2])
    return st.tuples(fails, st.none() | st.sampled_from([0, 0, 1]), st.integers(0, 15), children).map(list)


plans = st.recursive(plan_of(st.just([])), lambda below: plan_of(st.lists(below, max_size=3)), max_leaves=8)


def resume(path: Path, roots: list[Plan], **arguments: Any) -> str:
    """Run `roots` with the journal at `path`, in what stands for a process of its own; return the run's status."""
    Holding.objects.clear()
    Holding.mistakes.clear()
    items = [(Hooked if root[1] is not None else Holding)(str(number), root, ()) for number, root in enumerate(roots)]
    status = "failed"
    with suppress(ItemFailures):
        status = run_queue(items, resume=path, reporter="none", **arguments).status
    assert not Holding.mistakes
    return status


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(
    st.lists(plans, min_size=1, max_size=2),
    st.integers(1, 3),
    st.sampled_from(["queue", "stack", "priority"]),
    st.sampled_from(["stop", "continue"]),
    st.lists(st.integers(0, 100), min_size=1, max_size=3),
)
def test_held_ancestors_are_the_objects_that_run(
    backend: Backend, roots: list[Plan], num_workers: int, queue_type_name: Any, on_error: Any, cuts: list[int]
) -> None:
    """Of any prefix, also of one that was resumed before; and the same items run as without a crash."""
    arguments: dict[str, Any] = {
        "num_workers": num_workers,
        "queue_type_name": queue_type_name,
        "on_error": on_error,
        "backend": backend,
    }
    with TemporaryDirectory() as folder:
        path = Path(folder, "whole.db")
        resume(path, roots, **arguments)
        for number, percent in enumerate(cuts):
            path = cut(path, len(events_of(path)) * percent // 100, Path(folder, f"cut {number}.db"))
            resume(path, roots, **arguments)
            told_by(events_of(path))
        for _ in range(100):
            if resume(path, roots, **arguments) == "completed":
                break
        events = events_of(path)
        told_by(events).ended_well()
        assert sum(isinstance(event, ItemEnqueued) for event in events) == sum(map(size_of, roots))


def size_of(plan: Plan) -> int:
    """Return how many items `plan` is for."""
    return 1 + sum(map(size_of, plan[3]))
