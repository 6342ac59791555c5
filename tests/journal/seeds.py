"""Random tree jobs that can be journalled: what each item does is data, and so is all that it has to know.

Each item tells a function what it really does, at the moment it does it: to a list in this process, or to a file that
outlives it.
"""

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, ClassVar, Final, Literal, Self

import anyio
import msgspec
from anyio.lowlevel import checkpoint
from hypothesis import strategies as st

import aqueue
from aqueue import EnqueueFn, Item, Limit, Retry, RetryAfter, SetDescFn
from aqueue.events import ItemEnqueued

__all__ = [
    "LIMITS",
    "Bare",
    "Hooked",
    "HookedAnyway",
    "Seed",
    "SeedError",
    "children_of",
    "class_of",
    "group_of",
    "items_of",
    "makes",
    "random_seed",
    "seed_of",
    "seeds",
    "tell",
    "text_of",
    "with_policies",
]


class Seed(msgspec.Struct, frozen=True, omit_defaults=True):
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
        policy: whether its class may be tried again, and whether that has a timeout, too; both have a group.
        raises: what the attempts that fail do: raise an error, ask to be tried again later, or hang (which without a
            timeout is an error, too).
        halfway: whether the attempts that fail enqueue only the first half of the children.
        group: the number of its group, if it has a policy; 0 for none.
        pauses: whether it slows its group down.
        differs: how the children of its later attempts differ from those of the first; 0 for not at all.
        is_fresh: whether `process` returns the number of its attempt, instead of `result`.
        name: a number that no other has in its tree; 0 for none. What has one never has equal siblings.
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
    policy: Literal["none", "retried", "timed"] = "none"
    raises: Literal["error", "asks", "hangs"] = "error"
    halfway: bool = False
    group: int = 0
    pauses: bool = False
    differs: int = 0
    is_fresh: bool = False
    name: int = 0


def children_of(seed: Seed, attempt: int) -> tuple[Seed, ...]:
    """Return what an attempt enqueues, the first being 1, if it comes that far."""
    children = seed.children
    if seed.differs and attempt > 1:
        match (seed.differs + attempt) % 4:
            case 0:
                children = children[:0:-1]
            case 1 if not seed.name:
                children = (*children, *children[:2])
            case 1 | 2:
                children = (Seed(result=100 + attempt, name=1000 * seed.name + attempt), *children)
            case _:
                children = children[::-1]
    return children[: len(children) // 2] if attempt <= seed.fails and seed.halfway else children


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

    timeout_s: ClassVar[float | None] = None
    seed: str
    saw: int

    @classmethod
    def of(cls, seed: Seed) -> Self:
        """Return an item that does what `seed` says."""
        made = cls()  # without a method for it, so that a class of any kind may be a subclass
        made.seed = text_of(seed)
        made.saw = 0
        return made

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
        attempt = aqueue.current().attempt
        if seed.pauses:
            aqueue.slow_down(_group(seed) or "nobody's", PAUSE_S)
        for child in children_of(seed, attempt):
            for _ in range(seed.awaits):
                await waits[-1]()
            enqueue(_item_of(child))
        if seed.describes:
            set_desc("is nearly there")
        for _ in range(seed.awaits):
            await waits[-1]()
        if attempt <= seed.fails:
            await self.fail("process")
        self.saw = len(seed.children) + 1  # state that the hook needs
        _tell("processed")
        if seed.key:
            return None
        return attempt if seed.is_fresh else seed.result or None

    async def fail(self, where: str) -> None:
        raises = self.parsed.raises
        if raises == "asks":
            raise RetryAfter(ASKED_S)
        if raises == "hangs" and self.timeout_s is not None:
            await anyio.sleep_forever()
        raise SeedError(where)


class Hooked(Bare):
    """One with a hook."""

    async def after_children_processed(self) -> Any:
        seed = self.parsed
        _tell("hook")
        assert self.saw == len(seed.children) + 1, "the hook does not see what process has left"
        for _ in range(seed.awaits):
            await waits[-1]()
        if aqueue.current().attempt <= seed.hook_fails:
            await self.fail("hook")
        _tell("hooked")
        return aqueue.child_results() if seed.gathers and not seed.key else None


class HookedAnyway(Hooked):
    """One whose hook runs also if descendants failed."""

    after_children_rule = "all_done"


class _Retried(Bare):
    """What may be tried again, and has a group."""

    retry = Retry(attempts=3, first_s=0.02, max_s=0.05, jitter=1.0)

    @property
    def group(self) -> str | None:
        return _group(self.parsed)


class RetriedBare(_Retried):
    """One without a hook."""


class RetriedHooked(_Retried, Hooked):
    """One with a hook."""


class RetriedHookedAnyway(_Retried, HookedAnyway):
    """One whose hook runs also if descendants failed."""


class _Timed(_Retried):
    """What has a timeout besides, and other attempts."""

    retry = Retry(attempts=2, first_s=0.0)
    timeout_s = 0.05


class TimedBare(_Timed):
    """One without a hook."""


class TimedHooked(_Timed, Hooked):
    """One with a hook."""


class TimedHookedAnyway(_Timed, HookedAnyway):
    """One whose hook runs also if descendants failed."""


_CLASSES: dict[str, dict[str, type[Bare]]] = {
    "none": {"none": Bare, "all_success": Hooked, "all_done": HookedAnyway},
    "retried": {"none": RetriedBare, "all_success": RetriedHooked, "all_done": RetriedHookedAnyway},
    "timed": {"none": TimedBare, "all_success": TimedHooked, "all_done": TimedHookedAnyway},
}


makes: list[Callable[[type[Bare], Seed], Bare]] = [lambda cls, seed: cls.of(seed)]
"""What makes an item of one of these classes, or of what is in its place; the last one counts."""


def class_of(seed: Seed) -> type[Bare]:
    """Return the class of items that do what `seed` says."""
    return _CLASSES[seed.policy][seed.hook]


def _item_of(seed: Seed) -> Bare:
    return makes[-1](class_of(seed), seed)


def _group(seed: Seed) -> str | None:
    return f"group {seed.group}" if seed.group and seed.policy != "none" else None


def items_of(seeds: Iterable[Seed]) -> list[Bare]:
    """Return initial items that do what `seeds` say."""
    return [_item_of(seed) for seed in seeds]


def text_of(seed: Seed) -> str:
    """Return `seed` as text, as it is in items."""
    return msgspec.json.encode(seed).decode()


def seed_of(event: ItemEnqueued) -> Seed:
    """Return the seed of an item of this module, by its announcement."""
    return msgspec.json.decode(msgspec.json.decode(event.payload)["seed"], type=Seed)


def group_of(event: ItemEnqueued) -> str | None:
    """Return the group of an item of this module, by its announcement."""
    return _group(seed_of(event))


ASKED_S: Final = 0.01
"""For how long an item asks to wait that asks for it, seconds."""

PAUSE_S: Final = 0.02
"""For how long an item slows its group down that does so, seconds."""

LIMITS: Final = {"group 1": Limit(concurrent=1), "group 2": Limit(per_second=100), "*": Limit(concurrent=2)}
"""What the groups may do at most."""


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


def with_policies(seed: Seed, salt: int) -> Seed:
    """Return `seed` with policies for itself and for most that is below it; the same for seeds that are equal.

    Parameters:
        seed: a seed without policies.
        salt: makes for other policies; one number for all the seeds of a run.
    """
    random = Random(msgspec.json.encode((seed, salt)))
    policy: Literal["none", "retried", "timed"] = random.choice(["none", "retried", "retried", "timed"])
    more = (
        random.choice([0, 0, 1, 2, 4]) if policy != "none" else 0
    )  # attempts, so that most come to no failure for good
    hook_more = random.choice([0, 0, 0, 1, 3]) if policy != "none" and seed.hook != "none" else 0
    return msgspec.structs.replace(
        seed,
        children=tuple(with_policies(child, salt) for child in seed.children),
        fails=max(seed.fails, more),
        hook_fails=max(seed.hook_fails, hook_more),
        policy=policy,
        raises=random.choice(["error", "error", "asks", "hangs"]),
        halfway=random.random() < 0.3,
        group=random.choice([0, 1, 2, 3]),
        pauses=random.random() < 0.1,
    )
