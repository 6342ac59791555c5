"""Random tree jobs as data: what each item does, the items that do it, and what must come of it."""

from random import Random
from typing import Any, Final, Literal

import msgspec
from anyio.lowlevel import checkpoint
from hypothesis import strategies as st

import aqueue
from aqueue import EnqueueFn, SetDescFn

__all__ = ["Expected", "Log", "Plan", "expected", "items_of", "plans", "random_plan"]

Log = list[tuple[str, tuple[int, ...]]]
"""What items did, in order: ``process``, ``hook`` and ``hook ended``, with the item's path from its initial item."""


class Plan(msgspec.Struct, frozen=True):
    """What one item does.

    Attributes:
        children: what it enqueues, between its awaits.
        awaits: how often it lets others run before each child and before its end.
        describes: whether it calls set_desc.
        raises: whether its `process` raises, after all that.
        result: what `process` returns.
        hook: which hook it has.
        hook_awaits: how often the hook lets others run.
        hook_outcome: whether the hook raises, returns None, or what it got from its children.
        priority: its place in a priority queue; the lesser first.
    """

    children: tuple["Plan", ...] = ()
    awaits: int = 0
    describes: bool = False
    raises: bool = False
    result: int | None = None
    hook: Literal["none", "all_success", "all_done"] = "none"
    hook_awaits: int = 0
    hook_outcome: Literal["raises", "none", "gathers"] = "none"
    priority: int = 0


class PlannedError(Exception):
    """Raised by an item whose plan says so."""


class Bare:
    """An item without a hook that does what its plan says."""

    def __init__(self, plan: Plan, log: Log, path: tuple[int, ...]) -> None:
        self.plan = plan
        self.log = log
        self.path = path

    def __lt__(self, other: "Bare") -> bool:
        return self.plan.priority < other.plan.priority

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int | None:
        plan = self.plan
        self.log.append(("process", self.path))
        for number, child in enumerate(plan.children):
            for _ in range(plan.awaits):
                await checkpoint()
            enqueue(_ITEMS[child.hook](child, self.log, (*self.path, number)))
        if plan.describes:
            set_desc(f"item {self.path}")
        for _ in range(plan.awaits):
            await checkpoint()
        if plan.raises:
            raise PlannedError(self.path)
        return plan.result


class Hooked(Bare):
    """One with a hook."""

    async def after_children_processed(self) -> Any:
        self.log.append(("hook", self.path))
        for _ in range(self.plan.hook_awaits):
            await checkpoint()
        self.log.append(("hook ended", self.path))
        if self.plan.hook_outcome == "raises":
            raise PlannedError(self.path)
        return aqueue.child_results() if self.plan.hook_outcome == "gathers" else None


class HookedAnyway(Hooked):
    """One whose hook runs also if descendants failed."""

    after_children_rule = "all_done"


_ITEMS: Final = {"none": Bare, "all_success": Hooked, "all_done": HookedAnyway}


def items_of(roots: list[Plan]) -> tuple[list[Bare], Log]:
    """Return initial items that do what `roots` say, and the log to which they and their children write."""
    log: Log = []
    return [_ITEMS[plan.hook](plan, log, (number,)) for number, plan in enumerate(roots)], log


class Expected(msgspec.Struct, frozen=True):
    """What must come of a plan when everything is run.

    Attributes:
        completed, failed: how many items, its own included.
        hooks: how many hooks run.
        subtree_failed: whether anything in it failed.
        result: what its parent gets.
    """

    completed: int
    failed: int
    hooks: int
    subtree_failed: bool
    result: Any


def expected(plan: Plan) -> Expected:
    """Return what must come of `plan` and all below it with ``on_error="continue"``: the rules, in plain recursion."""
    below = [expected(child) for child in plan.children]
    completed = sum(one.completed for one in below)
    failed = sum(one.failed for one in below)
    hooks = sum(one.hooks for one in below)
    child_failed = any(one.subtree_failed for one in below)
    if plan.raises:
        return Expected(completed, failed + 1, hooks, True, None)
    if plan.hook == "none":
        return Expected(completed + 1, failed, hooks, child_failed, plan.result)
    if child_failed and plan.hook == "all_success":
        return Expected(completed + 1, failed, hooks, True, plan.result)
    if plan.hook_outcome == "raises":
        return Expected(completed, failed + 1, hooks + 1, True, None)
    result: Any = plan.result
    if plan.hook_outcome == "gathers":
        result = [one.result for one in below if one.result is not None]
    return Expected(completed + 1, failed, hooks + 1, child_failed, result)


def _plan(children: st.SearchStrategy[tuple[Plan, ...]], *, failures: bool) -> st.SearchStrategy[Plan]:
    # Of many items few may fail, or hardly a hook would ever run.
    fails = st.integers(0, 9).map(lambda number: number == 9) if failures else st.just(False)
    return st.builds(
        Plan,
        children=children,
        awaits=st.integers(0, 3),
        describes=st.booleans(),
        raises=fails,
        result=st.none() | st.integers(0, 99),
        hook=st.sampled_from(["none", "all_success", "all_done"]),
        hook_awaits=st.integers(0, 3),
        hook_outcome=st.sampled_from(["none", "gathers", "gathers"] + (["raises"] if failures else [])),
        priority=st.integers(0, 3),
    )


def plans(*, failures: bool = True) -> st.SearchStrategy[Plan]:
    """Make up plans of up to some dozens of items; without `failures`, nothing in them raises."""
    return st.recursive(
        _plan(st.just(()), failures=failures),
        lambda below: _plan(st.lists(below, max_size=5).map(tuple), failures=failures),
        max_leaves=30,
    )


def random_plan(random: Random, size: int) -> Plan:
    """Return a plan of about `size` items, made up by `random`."""
    children = []
    left = size - 1
    while left > 0:
        part = random.randint(1, left)
        children.append(random_plan(random, part))
        left -= part
    return Plan(
        children=tuple(children),
        awaits=random.choice([0, 0, 1, 2]),
        describes=random.random() < 0.3,
        raises=random.random() < 0.05,
        result=random.choice([None, 1]),
        hook=random.choice(["none", "all_success", "all_done"]),
        hook_awaits=random.choice([0, 1, 2]),
        hook_outcome=random.choice(["none", "none", "gathers", "gathers", "gathers", "raises"]),
        priority=random.randint(0, 3),
    )
