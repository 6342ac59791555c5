"""The job of the golden journals. What is here may get more, but must go on to read what it has written."""

import enum
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import aqueue
from aqueue import EnqueueFn, Item, SetDescFn

__all__ = ["Leaf", "Site", "roots"]


class Colour(enum.Enum):
    RED = 1


@dataclass
class Leaf(Item):
    """One with a field of each kind that is stored in its own way."""

    name: str
    parent: Item | None = None
    fails: int = 0
    colour: Colour = Colour.RED
    at: datetime = datetime(2024, 2, 29, 12, tzinfo=UTC)
    uuid: UUID = field(default=UUID(int=7))
    amount: Decimal = Decimal("1.10")
    raw: bytes = b"\0\xff"
    path: PurePosixPath = field(default=PurePosixPath("/a/b"))
    numbers: frozenset[int] = frozenset({1, 2})
    pair: tuple[int, str] = (1, "one")
    big: int = 10**30
    nothing: None = None
    many: list[dict[str, int]] = field(default_factory=lambda: [{"x": 1}])

    track_overall = True

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> Any:
        set_desc(f"at {self.name}")
        if self.name == "stops":
            aqueue.stop("enough for now")
        if self.name == "exits" and aqueue.current().attempt == 1:
            raise SystemExit(1)
        if aqueue.current().attempt <= self.fails:
            raise ValueError(self.name)
        assert self == Leaf(self.name, self.parent, self.fails), "it was not restored as it was"
        return {"leaf": self.name}


class Site(Item):
    """One with a hook, a key and state that `process` sets."""

    visit: int = 0  # came later: journals of before lack it

    def __init__(self, name: str, leaves: list[str]) -> None:
        self.name = name
        self.leaves = leaves
        self.seen = 0

    @property
    def key(self) -> str:
        return self.name

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for leaf in self.leaves:
            enqueue(Leaf(leaf, self, fails=1 if leaf == "fails" else 0))
        self.seen = len(self.leaves)
        if self.name == "outer":
            enqueue(Site("inner", ["equal", "equal"]))
            enqueue(Site("inner", ["never"]))
            self.seen += 1
        if self.name == "again" and aqueue.current().attempt == 1:
            raise ConnectionError("after its children were enqueued")

    async def after_children_processed(self) -> list[Any]:
        results = aqueue.child_results()
        assert len(results) == self.seen
        return results


def roots(visit: int = 0) -> list[Item]:
    """Return the initial items, one of which has an attribute that is not part of its key."""
    late = Site("late", ["stops", "a", "b", "c"])
    late.visit = visit
    return [
        Site("outer", ["fails", "good"]),
        Leaf("exits"),
        late,
        Site("again", ["x", "x"]),
    ]
