"""Items of every kind of class, which both sides can import; each changes itself in `process` as it is told."""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import attrs
import msgspec
import pydantic

from aqueue import EnqueueFn, Item, SetDescFn

__all__ = [
    "KINDS",
    "AttrsFrozen",
    "AttrsMutable",
    "Box",
    "Failing",
    "Node",
    "Word",
    "state_of",
]


class Word(enum.StrEnum):
    """Its members are strings, but no plain ones."""

    RED = "red"


class Box:
    """A value that is no scalar."""

    def __init__(self, /, **attributes: Any) -> None:
        vars(self).update(attributes)

    def __eq__(self, other: object) -> bool:
        return type(other) is Box and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]


class Node(Item):
    """Has what it is given; `process` enqueues what `children` returns and then calls `change`."""

    def __init__(self, /, **attributes: Any) -> None:
        vars(self).update(attributes)

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        made = getattr(self, "made", None)
        if made == "children":
            enqueue(Node(parent=self, above=vars(self).get("parent")))
        elif made == "change":
            self.count = vars(self).get("count", 0) + 1
            self.held = self.__dict__.get("parent")
            self.me = self
            vars(self).pop("made")


class Failing(Item):
    """Raises what `make` returns."""

    def __init__(self, make: Callable[[], BaseException]) -> None:
        self.make = make

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        raise self.make()


class Plain(Item):
    def __init__(self, size: int, name: str = "n") -> None:
        self.size = size
        self.name = name

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.size = 7


class NoItem:
    """An item by its `process` alone."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.list = [size]

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.size = 7


@dataclass
class Data(Item):
    size: int
    name: str = "n"
    parts: list[Any] = field(default_factory=list)

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.size = 7


@dataclass(frozen=True)
class FrozenData(Item):
    size: int

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        object.__setattr__(self, "size", 7)


@dataclass(slots=True)
class SlotsData:
    size: int
    name: str = "n"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.size = 7


@dataclass(frozen=True, slots=True)
class FrozenSlotsData:
    size: int
    name: str = "n"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        object.__setattr__(self, "size", 7)


@dataclass(slots=True)
class SlotsAndDict(Item):
    """Its base has a ``__dict__``."""

    size: int

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.size = 7


class Slots:
    __slots__ = ("__hidden", "missing", "size")

    missing: int

    def __init__(self, size: int) -> None:
        self.size = size
        self.__hidden = [size]

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.size = 7
        self.__hidden.append(7)


@attrs.define
class AttrsMutable:
    size: int
    name: str = "n"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.size = 7


@attrs.frozen
class AttrsFrozen:
    size: int
    name: str = "n"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        object.__setattr__(self, "size", 7)


class Structure(msgspec.Struct):
    size: int
    name: str = "n"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.size = 7


class FrozenStructure(msgspec.Struct, frozen=True, kw_only=True):
    size: int

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        msgspec.structs.force_setattr(self, "size", 7)


class CountingStructure(msgspec.Struct, dict=True):
    """Its ``__post_init__`` is not to be called again."""

    size: int
    made: int = 0

    def __post_init__(self) -> None:
        self.made += 1
        self.more = [self.made]

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.size = 7


class Model(pydantic.BaseModel):
    size: int
    parts: list[int] = pydantic.Field(default_factory=list)
    _hidden: int = pydantic.PrivateAttr(default=3)

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.size = 7
        self._hidden = 8


class FrozenModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="allow")

    size: int

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        vars(self)["size"] = 7


class OwnState(Item):
    """Has a ``__getstate__`` and a ``__setstate__``."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __getstate__(self) -> Any:
        return ["state", self.size]

    def __setstate__(self, state: Any) -> None:
        assert state[0] == "state"
        self.size = state[1]

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.size = 7


class Reduced(Item):
    """Only its ``__reduce__`` knows how it is made."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __reduce__(self) -> Any:
        return Reduced, (self.size,)

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.size = 7


class Tuple(NamedTuple):
    size: int
    name: str = "n"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        """Nothing can be changed."""


class Listed(list[int]):
    """Has its state where only pickle finds it, and more in its ``__dict__``."""

    def __init__(self, size: int) -> None:
        super().__init__([size])
        self.size = size

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        self.append(7)
        self.size = 7


class WithProperty(Item):
    """What its property returns is in its ``__dict__`` under the property's own name, as well."""

    def __init__(self, size: int) -> None:
        vars(self)["size"] = size

    @property
    def size(self) -> int:
        value: int = vars(self)["size"]
        return value

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        vars(self)["size"] = 7


class Guarded(Item):
    """Allows no attribute to be set, and makes up those that it doesn't have."""

    def __init__(self, size: int) -> None:
        vars(self)["size"] = size

    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError(name)

    def __getattr__(self, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return f"made up: {name}"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        vars(self)["size"] = 7


KINDS: list[Callable[[int], Any]] = [
    Plain,
    NoItem,
    Data,
    FrozenData,
    SlotsData,
    FrozenSlotsData,
    SlotsAndDict,
    Slots,
    AttrsMutable,
    AttrsFrozen,
    Structure,
    lambda size: FrozenStructure(size=size),
    CountingStructure,
    lambda size: Model(size=size),
    lambda size: FrozenModel.model_validate({"size": size, "other": [size]}),
    OwnState,
    Reduced,
    Tuple,
    Listed,
    WithProperty,
    Guarded,
]


def state_of(item: Any) -> Any:
    """Return the class of `item` and all that it has, wherever it has it."""
    slots = {
        name: getattr(item, name)
        for base in type(item).__mro__
        for name, descriptor in vars(base).items()
        if type(descriptor).__name__ == "member_descriptor" and hasattr(item, name)
    }
    values = list(item) if isinstance(item, list | tuple) else []
    return type(item), dict(getattr(item, "__dict__", {})), slots, values
