"""A user's script, all of it in `__main__`: runs items in another process and prints, as JSON, which promises hold."""

import enum
import functools
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NewType

from typing_extensions import TypeAliasType

sys.path.insert(0, str(Path(__file__).parents[2]))

from aqueue import EnqueueFn, Item, SetDescFn, UnsendableItem
from aqueue._cluster.objects import CoordinatorObjects
from tests.cluster.other_process import OtherProcess, no_ancestor

LOG: list[str] = []
LOCK = threading.Lock()


class Mode(enum.Enum):
    FAST = 1
    SLOW = 2


@dataclass(frozen=True, slots=True)
class Point:
    x: int


class ScriptError(Exception):
    def __init__(self, code: int, where: str) -> None:
        super().__init__(f"{code} at {where}")
        self.code = code
        self.where = where


@functools.lru_cache
def remembered(number: int) -> int:
    """Return the next number."""
    LOG.append("remembered")
    return number + 1


Number = NewType("Number", int)
Alias = TypeAliasType("Alias", int)


class Missing:
    """Its one object is found by the name of a global."""

    def __reduce__(self) -> str:
        return "MISSING"


MISSING = Missing()


def parse(text: str) -> int:
    """Return the number that `text` is."""
    return int(text)


class Parent(Item):
    def __init__(self, name: str) -> None:
        self.name = name

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        LOG.append(self.name)
        enqueue(Child(self.name))
        self.point = Point(len(LOG))
        self.modes = [Mode.SLOW]
        self.parse = parse
        self.kind = Child


class Child(Item):
    def __init__(self, name: str) -> None:
        self.name = name

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.logged = len(LOG)


class Calling(Item):
    """Calls a function that it was given."""

    def __init__(self, function: Any) -> None:
        self.function = function

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.returned = self.function(3)
        self.again = remembered(3)
        self.is_missing = type(MISSING) is Missing
        number: Alias = Number(5)
        self.number = number


class Failing(Item):
    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        raise ScriptError(7, "there")


class Locked(Item):
    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        with LOCK:
            pass


class Slotted:
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.name = f"{self.name}, again"


def lifespan() -> int:
    """Leave something in a global of the script's."""
    LOG.append("lifespan")
    return len(LOG)


def runs(lane: OtherProcess) -> Iterator[tuple[str, bool]]:
    """Run the items, and tell which promises hold."""
    objects = CoordinatorObjects()
    method = Child.process
    parent = Parent("p")
    children, state, _ = lane.run(objects, parent)
    [child] = [objects.load_item(data, no_ancestor) for data in children]
    yield "the child is of the script's own class", type(child) is Child and vars(child) == {"name": "p"}
    assert state is not None
    same: Any = objects.apply_state(parent, state, no_ancestor)
    yield "the state is given to the item itself", same is parent
    yield "a class that the lane learned from another's globals is the script's", type(parent.point) is Point
    yield "a member of the script's enum is the script's", parent.modes == [Mode.SLOW]
    yield "a function of the script is the script's", parent.parse is parse
    yield "a class as a value is the script's", parent.kind is Child
    yield "the script's own class is as it was", Child.process is method
    _, state, _ = lane.run(objects, child)
    assert state is not None
    child = objects.apply_state(child, state, no_ancestor)
    yield "two classes share the globals of their module", vars(child) == {"name": "p", "logged": 1}
    parent.point = Point(5)
    lane.run(objects, parent)
    _, state, _ = lane.run(objects, Child("q"))
    yield "what is sent later leaves the globals as they are", state is not None and b"\x8c\x06logged\x94K\x02" in state
    slotted = Slotted("s")
    _, state, _ = lane.run(objects, slotted)
    assert state is not None
    yield "a class that is no Item is sent as well", objects.apply_state(slotted, state, no_ancestor) is slotted
    yield "its slots are changed", slotted.name == "s, again"
    data = lane.run(objects, Failing()).error
    assert data is not None
    error: Any = objects.load_error(data)
    yield "an exception of the script is of its own class", type(error) is ScriptError
    yield "its __init__ was not called", (error.code, error.where, error.args) == (7, "there", ("7 at there",))
    try:
        objects.dump_item(Locked(), lambda _: None)
    except UnsendableItem as refusal:
        yield "a class whose globals can't be pickled is refused by its name", "__main__:Locked" in str(refusal)
        yield "the refusal names what can't be pickled", "LOCK" in str(refusal)

    calling: Any = Calling(remembered)
    _, state, _ = lane.run(objects, calling)
    assert state is not None
    objects.apply_state(calling, state, no_ancestor)
    yield "a function with a cache is called", calling.returned == 4
    yield "and is the script's own when it comes back", calling.function is remembered
    yield "the code of a class calls it as well", calling.again == 4
    yield "an object that is known by its name is one in the lane", calling.is_missing
    yield "a NewType and a type alias may be used", calling.number == 5
    _, state, _ = lane.run(objects, calling)
    yield "an item of the script that has not changed sends nothing back", state is None

    class Local(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            enqueue(Local())

    children = lane.run(objects, Local()).children
    yield "a local class comes back as itself", [type(objects.load_item(d, no_ancestor)) for d in children] == [Local]

    del Locked.process  # with it the script's classes could not be sent together
    objects = CoordinatorObjects(lifespan)
    yield "the lifespan is run in the lane", lane.call_lifespan(objects) == 1
    _, state, _ = lane.run(objects, Child("r"))
    yield "the lifespan shares the globals of the script", state is not None and b"\x8c\x06logged\x94K\x01" in state
    yield "the definitions of a script are sent at once", len(objects.definitions) == 1


if __name__ == "__main__":
    with OtherProcess() as lane:
        print(json.dumps(dict(runs(lane))))
