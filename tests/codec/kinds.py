"""Item classes of every kind that can be stored, a strategy for each, and a comparison that lets nothing pass."""

import dataclasses
import enum
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Generic, Literal, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
from hypothesis import strategies as st

from aqueue import EnqueueFn, Item, SetDescFn


class Mode(enum.Enum):
    FAST = 1
    SLOW = "slow"
    TWIN = (1, 2)


class Speed(enum.StrEnum):
    LOW = "low"
    HIGH = "high"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


@dataclass(frozen=True)
class Point:
    x: int
    y: float = 0.0


@dataclass
class Tree:
    value: Any
    children: list["Tree"] = field(default_factory=list)


@attrs.frozen
class Range:
    low: int
    high: int = attrs.field(default=attrs.Factory(lambda self: self.low + 1, takes_self=True))


class Header(msgspec.Struct, frozen=True):
    name: str
    values: tuple[str, ...] = ()


class Model(pydantic.BaseModel):
    size: int
    mode: Mode = Mode.FAST


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Celsius:
    """Kept by dump and load: its one attribute is not what it is made from."""

    def __init__(self, degrees: float) -> None:
        self._kelvin = degrees + 273.15

    def dump(self) -> list[float]:
        return [self._kelvin]

    @classmethod
    def load(cls, data: list[float]) -> "Celsius":
        made = cls(0.0)
        [made._kelvin] = data
        return made

    def __eq__(self, other: object) -> bool:
        return type(other) is Celsius and other._kelvin == self._kelvin

    __hash__ = None  # type: ignore[assignment]


class Worked:
    """What every kind of item here has: a process, without being an `Item`."""

    __slots__ = ()

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        """Do nothing."""


class PlainItem(Item):
    def __init__(self, *values: Any) -> None:
        self.url = values[0]
        self.data = values[1]
        self.more = list(values[2:])


class SmallItem(Item):
    """Two attributes that JSON mostly has: the short way, where nothing may slip through."""

    def __init__(self, url: Any, number: Any) -> None:
        self.url = url
        self.number = number


@dataclass
class SmallDataclassItem(Item):
    url: Any
    number: Any


class SlottedItem(Worked):
    __slots__ = ("__hidden", "unset", "url")

    def __init__(self, url: Any, hidden: Any) -> None:
        self.url = url
        self.__hidden = hidden


class AnnotatedItem(Item):
    point: Point
    modes: set[Mode]
    speed: Speed | None = None
    rights: Rights
    trees: dict[str, list[Tree]]
    either: Point | Range | Header | Model | Pair | Celsius
    literal: Literal[Mode.SLOW, "other"]


class InitAnnotatedItem(Item):
    def __init__(self, point: Point, mode: "Mode") -> None:
        self.point = point
        self.mode = mode


@dataclass
class DataclassItem(Item):
    url: Any
    data: Any = None
    made: list[Any] = field(default_factory=list, kw_only=True)
    later: Any = field(init=False)
    alone: int = field(init=False, default=7)
    start: dataclasses.InitVar[int] = 0

    def __post_init__(self, start: int) -> None:
        self.beside = start


@dataclass(frozen=True, slots=True)
class FrozenItem(Item):
    url: Any
    tree: Tree | None = None


@dataclass(frozen=True, kw_only=True)
class InheritingItem(Worked):
    base: Any
    point: Point = Point(0)


@dataclass(frozen=True, kw_only=True)
class InheritedItem(InheritingItem):
    extra: Any = None


@attrs.define
class AttrsItem(Worked):
    url: Any
    range: Range = Range(1)
    _private: Any = None


@attrs.frozen(slots=False)
class FrozenAttrsItem(Worked):
    url: Any
    ranges: list[Range] = attrs.field(factory=list)


class StructItem(msgspec.Struct, Worked, tag="struct", rename="camel"):
    first_url: Any
    headers: dict[str, Header] = {}


class FrozenStructItem(msgspec.Struct, Worked, frozen=True, kw_only=True, array_like=True, gc=False):
    url: Any
    pair: Pair | None = None


class PydanticItem(pydantic.BaseModel, Worked):
    model_config = pydantic.ConfigDict(extra="allow", arbitrary_types_allowed=True)

    url: Any
    model: Model | None = None
    number: int = 1
    _private: Any = pydantic.PrivateAttr(default=0)
    _unset: int = pydantic.PrivateAttr()


class RootItem(pydantic.RootModel[list[Model]], Worked):
    pass


class BothItem(pydantic.BaseModel, Item):
    url: Any


class StructAndItem(msgspec.Struct, Item):
    url: Any


T = TypeVar("T")


@dataclass
class GenericItem(Item, Generic[T]):
    value: T


class TupleItem(NamedTuple):
    url: Any
    point: Point | None = None

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        """Do nothing."""


class DumpedItem(Item):
    def __init__(self, data: Any) -> None:
        self.opened = open  # nothing that could be stored
        self.data = data

    def dump(self) -> Any:
        return self.data

    @classmethod
    def load(cls, data: Any) -> "DumpedItem":
        return cls(data)


texts = st.text(st.characters(exclude_categories=[]), max_size=8)  # lone surrogates too
zones = st.none() | st.just(UTC) | st.sampled_from([ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata")])
offsets = (
    st.timedeltas(timedelta(hours=-23), timedelta(hours=23))
    .filter(lambda offset: not offset or abs(offset) >= timedelta(seconds=1))  # others are refused
    .map(timezone)
)
folds = st.sampled_from([0, 1])
moments = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold), st.datetimes(), zones | offsets, folds
)
hashable_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**200), max_value=2**200)
    | st.sampled_from([2**63, 2**63 - 1, -(2**63), -(2**63) - 1, 2**64, 1.0, -0.0, 1e16, 5e-324])
    | st.floats()
    | texts
    | st.binary(max_size=8)
    | moments
    | st.dates()
    | st.builds(lambda at, zone, fold: at.replace(tzinfo=zone, fold=fold), st.times(), zones, folds)
    | st.timedeltas()
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.sampled_from([Decimal("-0.00"), Decimal("NaN"), Decimal("-Infinity"), Decimal("1E+9999")])
    | texts.map(lambda text: Path(text.replace("\0", "")))
    | st.sampled_from([PurePosixPath("/a/../b"), PureWindowsPath(r"C:\a"), PureWindowsPath("//server/share/x")])
)
hashables = st.recursive(
    hashable_scalars,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from(["a", "", "$item", "$object", "$$", "\ud800"]) | hashables
values = st.recursive(
    hashables | st.binary(max_size=4).map(bytearray) | st.sampled_from([Decimal("sNaN12"), Decimal("-sNaN")]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(texts, inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=3)
        | st.sets(hashables, max_size=3)
    ),
    max_leaves=8,
)
points = st.builds(Point, st.integers(), st.floats())
ranges = st.builds(Range, st.integers()) | st.builds(Range, st.integers(), st.integers())
headers = st.builds(Header, texts, st.lists(texts, max_size=2).map(tuple))
models = st.builds(Model, size=st.integers()) | st.builds(Model, size=st.integers(), mode=st.sampled_from(Mode))
pairs = st.builds(Pair, st.integers(), texts)
trees = st.recursive(
    st.builds(Tree, values), lambda inner: st.builds(Tree, values, st.lists(inner, max_size=2)), max_leaves=3
)
celsius = st.builds(Celsius, st.floats(-100, 100))


def _annotated(**attributes: Any) -> AnnotatedItem:
    item = AnnotatedItem()
    vars(item).update(attributes)
    return item


def _with(item: Any, **attributes: Any) -> Any:
    for name, value in attributes.items():
        setattr(item, name, value)
    return item


ITEMS: dict[str, st.SearchStrategy[Any]] = {
    "plain": st.builds(PlainItem, values, values, values),
    "plain, few attributes": st.builds(PlainItem, texts, st.integers() | st.floats()),
    "small": st.builds(SmallItem, hashable_scalars, hashable_scalars),
    "small dataclass": st.builds(SmallDataclassItem, hashable_scalars, hashable_scalars),
    "slots": st.builds(SlottedItem, values, values),
    "annotated": st.builds(
        _annotated,
        point=points,
        modes=st.sets(st.sampled_from(Mode)),
        rights=st.integers(0, 7).map(Rights),
        trees=st.dictionaries(texts, st.lists(trees, max_size=2), max_size=2),
        either=points | ranges | headers | models | pairs | celsius,
        literal=st.sampled_from([Mode.SLOW, "other"]),
    ),
    "annotated, default set": st.builds(_annotated, speed=st.sampled_from(Speed)),
    "annotated in __init__": st.builds(InitAnnotatedItem, points, st.sampled_from(Mode)),
    "dataclass": st.builds(DataclassItem, values, values, made=st.lists(values, max_size=2), start=st.integers()),
    "dataclass, later set": st.builds(DataclassItem, texts).flatmap(
        lambda item: st.builds(_with, st.just(item), later=values, unforeseen=values)
    ),
    "frozen slotted dataclass": st.builds(FrozenItem, values, st.none() | trees),
    "inherited dataclass": st.builds(InheritedItem, base=values, point=points, extra=values),
    "attrs": st.builds(AttrsItem, values, ranges, values),
    "frozen attrs": st.builds(FrozenAttrsItem, values, st.lists(ranges, max_size=2)),
    "struct": st.builds(StructItem, values, st.dictionaries(texts, headers, max_size=2)),
    "frozen struct": st.builds(FrozenStructItem, url=values, pair=st.none() | pairs),
    "pydantic": st.builds(PydanticItem, url=values, model=st.none() | models, other=values).flatmap(
        lambda item: st.builds(_with, st.just(item), _private=values)
    ),
    "pydantic, number set": st.builds(PydanticItem, url=texts, number=st.integers()),
    "pydantic root": st.builds(RootItem, st.lists(models, max_size=2)),
    "pydantic and Item": st.builds(BothItem, url=values),
    "struct and Item": st.builds(StructAndItem, values),
    "generic": st.builds(GenericItem[int], st.integers()),
    "named tuple": st.builds(TupleItem, values, st.none() | points),
    "dumped": st.builds(DumpedItem, values),
}
"""For each kind of item a strategy that makes some."""


def attributes(value: object) -> dict[str, Any]:
    """Return the attributes of an object, wherever it keeps them."""
    found = dict(getattr(value, "__dict__", {}))
    if isinstance(value, msgspec.Struct):
        found.update({name: getattr(value, name) for name in value.__struct_fields__})
        return found
    for base in type(value).__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            mangled = f"_{base.__name__.lstrip('_')}{name}" if name.startswith("__") and name[-2:] != "__" else name
            if mangled not in ("__dict__", "__weakref__") and hasattr(value, mangled):
                found[mangled] = getattr(value, mangled)
    found.pop("__orig_class__", None)
    return found


_EXACT: dict[type, Callable[[Any], object]] = {
    float: repr,
    Decimal: repr,
    datetime: lambda at: (at.isoformat(), at.fold, at.tzinfo),
    time: lambda at: (at.isoformat(), at.fold, at.tzinfo),
}


def same(one: Any, other: Any) -> bool:
    """Return whether two values are of the same type and equal, and so all that they are made of; NaN is equal to NaN."""
    cls = type(one)
    if cls is not type(other):
        return False
    if cls in _EXACT:
        return _EXACT[cls](one) == _EXACT[cls](other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))  # in the same order
    if isinstance(one, set | frozenset):
        return len(one) == len(other) and all(any(same(a, b) for b in other) for a in one)
    if cls in (str, int, bool, type(None), bytes, bytearray, date, timedelta, uuid.UUID) or isinstance(
        one, Path | PurePosixPath | PureWindowsPath
    ):
        return bool(one == other)
    if isinstance(one, enum.Enum):
        return one is other
    mine, others = attributes(one), attributes(other)
    # What a class declares with a default is an attribute of its own on a restored object.
    names = {*mine, *others} - {"opened"}
    return all(
        hasattr(one, name) and hasattr(other, name) and same(getattr(one, name), getattr(other, name)) for name in names
    )
