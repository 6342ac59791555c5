"""Random tree jobs that can be journalled: what each item does is data, and so is all that it has to know.

Each item tells a function what it really does, at the moment it does it: to a list in this process, or to a file that
outlives it.
"""

from collections.abc import Callable
from random import Random
from typing import Any, Literal

import msgspec
from anyio.lowlevel import checkpoint
from hypothesis import strategies as st

import aqueue
from aqueue import EnqueueFn, Item, SetDescFn

__all__ = ["Bare", "Hooked", "HookedAnyway", "Seed", "SeedError", "items_of", "random_seed", "seeds", "tell"]


class Seed(msgspec.Struct, frozen=True, omit_defaults=True, array_like=True):
    """What an item does, and all below it. Two items of one seed and parent are equal siblings.

    Attributes:
        children: what it enqueues, between its awaits.
        awaits: how often it lets others run before each child and before its end.
        key: the number of its key; 0 for none. Which of the items with one key runs is chance, and so whose child it
            is: they are all equal, and give no result.
        result: what `process` returns; 0 for None.
        hook: which hook it has.
        gathers: whether its hook returns what it got from its children, or nothing.
        fails: how many attempts at its `process` fail, after all children were enqueued.
        hook_fails: how many attempts at its hook fail.
        describes: whether it calls set_desc.
        priority: its place in a priority queue; the lesser first.
    """

    children: tuple["Seed", ...] = ()
    awaits: int = 0
    key: int = 0
    result: int = 0
    hook: Literal["none", "all_success", "all_done"] = "none"
    gathers: bool = False
    fails: int = 0
    hook_fails: int = 0
    describes: bool = False
    priority: int = 0


class SeedError(Exception):
    """Raised by an attempt that its seed says fails."""


Did = Literal["process", "processed", "hook", "hooked"]

tell: list[Callable[[Did, str], None]] = []
"""What hears of all that items do: what it is, and the item's idempotency key."""

waits: list[Callable[[], Any]] = [checkpoint]
"""What an item awaits; the last one counts."""


def _tell(what: Did) -> None:
    for hears in tell:
        hears(what, aqueue.current().idempotency_key)


class Bare(Item):
    """Does what its seed says."""

    def __init__(self, seed: Seed) -> None:
        self.seed = msgspec.json.encode(seed).decode()
        self.saw = 0

    @property
    def parsed(self) -> Seed:
        return msgspec.json.decode(self.seed, type=Seed)

    @property
    def key(self) -> str | None:
        return f"key {self.parsed.key}" if self.parsed.key else None  # of one key, all that seeds have are equal

    def __lt__(self, other: "Bare") -> bool:
        return self.parsed.priority < other.parsed.priority

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int | None:
        seed = self.parsed
        _tell("process")
        for child in seed.children:
            for _ in range(seed.awaits):
                await waits[-1]()
            enqueue(_CLASSES[child.hook](child))
        if seed.describes:
            set_desc("is nearly there")
        for _ in range(seed.awaits):
            await waits[-1]()
        if aqueue.current().attempt <= seed.fails:
            raise SeedError("process")
        self.saw = len(seed.children) + 1  # state that the hook needs
        _tell("processed")
        return (seed.result or None) if not seed.key else None


class Hooked(Bare):
    """One with a hook."""

    async def after_children_processed(self) -> Any:
        seed = self.parsed
        _tell("hook")
        assert self.saw == len(seed.children) + 1, "the hook does not see what process has left"
        for _ in range(seed.awaits):
            await waits[-1]()
        if aqueue.current().attempt <= seed.hook_fails:
            raise SeedError("hook")
        _tell("hooked")
        return aqueue.child_results() if seed.gathers and not seed.key else None


class HookedAnyway(Hooked):
    """One whose hook runs also if descendants failed."""

    after_children_rule = "all_done"


_CLASSES: dict[str, type[Bare]] = {"none": Bare, "all_success": Hooked, "all_done": HookedAnyway}


def items_of(seeds: list[Seed]) -> list[Bare]:
    """Return initial items that do what `seeds` say."""
    return [_CLASSES[seed.hook](seed) for seed in seeds]


KEYED = (
    Seed(key=1),
    Seed(key=2, hook="all_success", awaits=2),
    Seed(key=3, children=(Seed(key=1), Seed(awaits=1), Seed(key=4), Seed(key=4)), awaits=1, hook="all_done"),
    Seed(key=4, fails=1),
    Seed(key=5, children=(Seed(), Seed()), hook="all_success", hook_fails=1),
)
"""The items with a key: each key stands for one of these, wherever in a tree it comes."""


def _seed(children: st.SearchStrategy[tuple[Seed, ...]]) -> st.SearchStrategy[Seed]:
    # Most do the plain thing, or hardly a hook would run before all failures are through.
    return st.builds(
        Seed,
        children=children,
        awaits=st.integers(0, 2),
        result=st.sampled_from([0, 0, 1, 2]),
        hook=st.sampled_from(["none", "all_success", "all_done"]),
        gathers=st.booleans(),
        fails=st.sampled_from([0] * 8 + [1, 2]),
        hook_fails=st.sampled_from([0] * 8 + [1, 2]),
        describes=st.booleans(),
        priority=st.integers(0, 2),
    )


def seeds() -> st.SearchStrategy[Seed]:
    """Make up seeds of up to some dozens of items, equal siblings among them."""
    return st.recursive(
        _seed(st.just(())) | st.sampled_from(KEYED),
        lambda below: _seed(
            st.lists(below, max_size=4).flatmap(
                lambda made: st.just(tuple(made)) | st.just((*made, *made[:1])) | st.just((*made, *made[:1], *made[:1]))
            )
        ),
        max_leaves=12,
    )


def random_seed(random: Random, size: int) -> Seed:
    """Return a seed of about `size` items, made up by `random`."""
    children: list[Seed] = []
    left = size - 1
    while left > 0:
        if random.random() < 0.1:
            children.append(random.choice(KEYED))
            left -= 1
            continue
        part = random.randint(1, left)
        child = random_seed(random, part)
        children.append(child)
        left -= part
        if left >= part and random.random() < 0.15:
            children.append(child)
            left -= part
    return Seed(
        children=tuple(children),
        awaits=random.choice([0, 1, 1, 2]),
        result=random.choice([0, 1, 2]),
        hook=random.choice(["none", "all_success", "all_done"]),
        gathers=random.random() < 0.7,
        fails=random.choice([0] * 15 + [1, 2]),
        hook_fails=random.choice([0] * 15 + [1]),
        describes=random.random() < 0.3,
        priority=random.randint(0, 3),
    )
