"""Items on their way between coordinator and lanes: what arrives is what was sent, or is refused with a reason.

What items hold crosses by `_cluster.pickles`; classes by `_cluster.names` or
`_cluster.definitions`.
"""

import enum
import functools
import json
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import cloudpickle  # type: ignore[import-untyped]  # it ships no annotations
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue import EnqueueFn, InvalidArgument, Item, SetDescFn, UnsendableItem
from aqueue._cluster.objects import CoordinatorObjects, LaneObjects
from tests.cluster.classes import KINDS, AttrsMutable, Box, Node, Word, state_of
from tests.cluster.other_process import OtherProcess, no_ancestor, no_number, numbers_of
from tests.strategies import hostile_text

FLAT = 0x80
"""The first byte of an item that took the short way."""

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.binary(max_size=20) | hostile_text
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=10) | st.sampled_from(
    ["size", "__dict__", "process"]
)
values = st.recursive(
    scalars | st.sampled_from([Word.RED, Box, len, Path("p")]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(hostile_text, inner, max_size=3)
        | st.builds(lambda value: Box(held=value), inner)
        | st.frozensets(scalars, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def lane() -> Iterator[OtherProcess]:
    """Return a lane in a process of its own."""
    with OtherProcess() as other:
        yield other


def to_lane(item: Any) -> Any:
    """Return what `item` is in a lane."""
    return LaneObjects().load_item(CoordinatorObjects().dump_item(item, no_number), no_ancestor)


def loaded_with_state(lane: LaneObjects, data: bytes) -> tuple[Any, bytes]:
    """Return the item that `data` is in a lane, and its state, as a lane keeps it while it runs the item."""
    item = lane.load_item(data, no_ancestor)
    return item, lane.dump_state(item, no_number)


def refusal(item: Any) -> str:
    """Return why `item` can't be sent; it is the same by whatever way that is found out."""
    objects = CoordinatorObjects()
    with pytest.raises(UnsendableItem) as dumped:
        objects.dump_item(item, no_number)
    with pytest.raises(UnsendableItem) as enqueued:
        LaneObjects().dump_item(item, no_number)
    assert str(dumped.value) == str(enqueued.value)
    assert str(dumped.value).isprintable()
    return str(dumped.value)


# ---- items of every kind ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", KINDS)
def test_an_item_of_any_kind_is_the_same_in_the_lane(make: Callable[[int], Any]) -> None:
    """Its class and all of its state arrive, wherever the class keeps it."""
    item = make(3)
    CoordinatorObjects().dump_item(item, no_number)
    assert state_of(to_lane(item)) == state_of(item) == state_of(make(3))


@pytest.mark.parametrize("make", KINDS)
def test_a_child_of_any_kind_is_the_same_in_the_coordinator(make: Callable[[int], Any]) -> None:
    """What a lane enqueues arrives in the coordinator with its class and its state."""
    data = LaneObjects().dump_item(make(3), no_number)
    assert state_of(CoordinatorObjects().load_item(data, no_ancestor)) == state_of(make(3))


@pytest.mark.parametrize("make", KINDS)
def test_the_state_that_process_leaves_comes_back(make: Callable[[int], Any], lane: OtherProcess) -> None:
    """After `process` in another process the coordinator has the item as it would be had it run here."""
    item, local = make(3), make(3)
    with pytest.raises(StopIteration):
        local.process(None, None).send(None)
    objects = CoordinatorObjects()
    _, state, error = lane.run(objects, item)
    assert error is None
    changed = item if state is None else objects.apply_state(item, state, no_ancestor)
    assert state_of(changed) == state_of(local)


@pytest.mark.parametrize("make", KINDS)
def test_an_item_that_has_not_changed_sends_nothing_back(make: Callable[[int], Any], lane: OtherProcess) -> None:
    """An item whose `process` leaves it as it is costs no state on the way back, though another process wrote it."""
    item = make(7)
    objects = CoordinatorObjects()
    first = lane.run(objects, item).state
    item = item if first is None else objects.apply_state(item, first, no_ancestor)
    if type(item).__name__ in {"Slots", "Listed"}:  # these change each time
        return
    assert lane.run(objects, item).state is None


@pytest.mark.parametrize("make", KINDS)
def test_the_item_itself_is_changed_unless_only_pickle_can_make_it(make: Callable[[int], Any]) -> None:
    """The state is given to the object that the coordinator has, which others may refer to."""
    item, changed = make(3), make(7)
    same = CoordinatorObjects().apply_state(
        item, LaneObjects().changed_state(changed, b"", no_number) or b"", no_ancestor
    )
    assert state_of(same) == state_of(changed)
    assert (same is item) == (type(item).__name__ not in {"Reduced", "Tuple", "Listed"})


@given(attributes=st.dictionaries(names, scalars, max_size=6))
def test_flat_items_take_the_short_way_and_lose_nothing(attributes: dict[str, Any]) -> None:
    """An item with nothing but scalars is sent as such, arrives as it was, and is found to be unchanged."""
    coordinator, lane = CoordinatorObjects(), LaneObjects()
    data = coordinator.dump_item(Node(**attributes), no_number)
    assert data[0] == FLAT
    for _ in range(2):  # the second time its attributes' names are known
        item, before = loaded_with_state(lane, data)
        assert list(vars(item).items()) == list(attributes.items())
        assert list(map(type, vars(item).values())) == list(map(type, attributes.values()))
        assert lane.changed_state(item, before, no_number) is None
        assert vars(coordinator.load_item(lane.dump_item(item, no_number), no_ancestor)) == attributes


@given(attributes=st.dictionaries(names, values, max_size=4))
def test_nested_values_arrive_as_they_were(attributes: dict[str, Any]) -> None:
    """Whatever the values are made of, the item is the same there, unchanged, and the same when it is back."""
    coordinator, lane = CoordinatorObjects(), LaneObjects()
    coordinator.dump_item(Node(**attributes), no_number)
    item, before = loaded_with_state(lane, coordinator.dump_item(Node(**attributes), no_number))
    assert state_of(item) == (Node, attributes, {}, [])
    assert lane.changed_state(item, before, no_number) is None
    assert vars(coordinator.load_item(lane.dump_item(item, no_number), no_ancestor)) == attributes


@given(attributes=st.dictionaries(names, values, max_size=4), changed=st.dictionaries(names, values, max_size=4))
def test_what_changes_in_the_lane_changes_in_the_coordinator(
    attributes: dict[str, Any], changed: dict[str, Any]
) -> None:
    """Attributes set, added and deleted there are set, added and deleted in the coordinator's own object."""
    coordinator, lane = CoordinatorObjects(), LaneObjects()
    original: Any = Node(**attributes)
    item, before = loaded_with_state(lane, coordinator.dump_item(original, no_number))
    vars(item).clear()
    vars(item).update(changed)
    state = lane.changed_state(item, before, no_number)
    if state is None:
        assert attributes == changed
    else:
        assert coordinator.apply_state(original, state, no_ancestor) is original
    assert vars(original) == changed


def test_slots_that_are_deleted_in_the_lane_are_deleted_here() -> None:
    """An attribute in a slot, or a field of a Struct, that is gone there is gone in the coordinator's object."""
    for make in KINDS:
        item, other = make(3), make(3)
        if type(item).__name__ not in {"SlotsData", "SlotsAndDict", "Slots", "Structure", "FrozenStructure"}:
            continue
        vars(type(other))["size"].__delete__(other)
        state = LaneObjects().changed_state(other, b"", no_number)
        assert state is not None
        CoordinatorObjects().apply_state(item, state, no_ancestor)
        assert not hasattr(item, "size")


def test_what_getstate_leaves_out_stays_in_the_coordinator() -> None:
    """A lock that a class keeps from being sent isn't taken from the coordinator's object when the state comes back."""
    coordinator, lane = CoordinatorObjects(), LaneObjects()
    original: Any = WithoutLock()
    lock = original.lock
    item, before = loaded_with_state(lane, coordinator.dump_item(original, no_number))
    assert vars(item) == {"size": 1, "old": 2}
    item.size = 7
    del item.old
    state = lane.changed_state(item, before, no_number)
    assert state is not None
    coordinator.apply_state(original, state, no_ancestor)
    assert vars(original) == {"size": 7, "lock": lock}


class WithoutLock(Item):
    def __init__(self) -> None:
        self.size = 1
        self.old = 2
        self.lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "lock"}


def test_names_that_are_no_plain_strings_arrive() -> None:
    """Attributes whose names are members of an enum, or no strings at all, are as good as others."""
    item = Node()
    setattr(item, Word.RED, 1)
    vars(item)[5] = 2  # type: ignore[index]
    loaded = to_lane(item)
    assert vars(loaded) == {"red": 1, 5: 2}
    assert [type(name) for name in vars(loaded)] == [Word, int]


def test_a_class_that_hides_its_attributes_is_sent_by_its_state() -> None:
    """A `__getattribute__` or a ``__dict__`` of the class's own doesn't mislead the short way."""

    class Veiled(Item):
        def __getattribute__(self, name: str) -> Any:
            return {} if name == "__dict__" else super().__getattribute__(name)

    class Posing(Item):
        __dict__ = 5  # type: ignore[assignment]

    for cls in (Veiled, Posing):
        objects = CoordinatorObjects()
        try:
            data = objects.dump_item(cls(), no_number)
        except UnsendableItem:
            continue
        assert data[0] != FLAT


# ---- references -------------------------------------------------------------------------------------------------


def test_references_to_ancestors_are_the_ancestors(lane: OtherProcess) -> None:
    """A child that holds its parent and grandparent, made in another process, holds the coordinator's own objects."""
    grandparent = Node(name="g")
    parent = Node(parent=grandparent, made="children")
    objects = CoordinatorObjects()
    children, _, error = lane.run(objects, parent, grandparent)
    assert error is None
    child: Any = objects.load_item(children[0], lambda number: {1: parent, 2: grandparent}[number])
    assert child.parent is parent
    assert child.above is grandparent


def test_ancestors_are_one_object_in_the_lane(lane: OtherProcess) -> None:
    """What an item leaves in its state is, of its ancestors and of itself, the coordinator's own objects."""
    parent = Node(name="p")
    item: Any = Node(parent=parent, again=[parent, {"p": parent}], made="change")
    objects = CoordinatorObjects()
    _, state, error = lane.run(objects, item, parent)
    assert error is None and state is not None
    same: Any = objects.apply_state(item, state, lambda number: {2: parent}[number])
    assert same is item
    assert item.held is item.parent is item.again[0] is item.again[1]["p"] is parent
    assert item.me is item
    assert not hasattr(item, "made")


def test_an_item_with_references_that_does_not_change_sends_nothing_back(lane: OtherProcess) -> None:
    """References are the same on both sides: they are no change."""
    parent = Node(name="p")
    assert lane.run(CoordinatorObjects(), Node(parent=parent, box=Box(held=parent)), parent).state is None


def test_an_item_may_refer_to_itself() -> None:
    """Directly or by way of others; what arrives refers to itself as well."""
    item: Any = Node(size=1)
    item.me, item.others = item, [item, {"me": item}]
    item.box = Box(held=item)
    loaded = to_lane(item)
    assert loaded.me is loaded.others[0] is loaded.others[1]["me"] is loaded.box.held is loaded
    slotted: Any = AttrsMutable(1)
    slotted.name = slotted
    loaded = to_lane(slotted)
    assert loaded.name is loaded


class Ring(msgspec.Struct):
    me: Any = None

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None: ...


def test_an_item_that_would_have_to_be_there_before_it_is_made_is_refused() -> None:
    """A Struct is made of its fields: one that is among its own can't be sent."""
    item = Ring()
    item.me = item
    assert "Ring can't be sent to another process" in refusal(item)


@given(st.data())
def test_families_of_any_shape_keep_their_references(data: st.DataObject) -> None:
    """However many ancestors an item holds, and where, each arrives as that ancestor, and so it does on the way back."""
    family = [Node(number=number) for number in range(data.draw(st.integers(1, 4)))]
    held = data.draw(st.lists(st.sampled_from(family), max_size=5))
    item: Any = Node(held=held, boxes=[Box(one=one) for one in held], by_name=dict(enumerate(held)))
    coordinator, lane = CoordinatorObjects(), LaneObjects()
    there = [Node(number=number) for number in range(len(family))]
    sent = coordinator.dump_item(item, numbers_of(family, 2))
    loaded = lane.load_item(sent, lambda number: there[number - 2])
    before = lane.dump_state(loaded, numbers_of(there, 2))
    in_order = [there[family.index(one)] for one in held]
    for found in (loaded.held, [box.one for box in loaded.boxes], list(loaded.by_name.values())):
        assert list(map(id, found)) == list(map(id, in_order))
    assert lane.changed_state(loaded, before, numbers_of(there, 2)) is None
    back: Any = coordinator.load_item(lane.dump_item(loaded, numbers_of(there, 2)), lambda number: family[number - 2])
    assert list(map(id, back.held)) == list(map(id, held))


# ---- classes that the lanes can't import ------------------------------------------------------------------------


def test_the_classes_of_a_script_work_in_another_process() -> None:
    """Each promise about a script's own classes, which `script.py` lists and tries as ``__main__``, holds."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("script.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    promises: dict[str, bool] = json.loads(done.stdout)
    assert [promise for promise, holds in promises.items() if not holds] == []
    assert len(promises) >= 20


def test_a_class_that_is_defined_later_is_sent_as_well(lane: OtherProcess) -> None:
    """It is sent on its own, and its items come back as objects of the class that this program has."""
    objects = CoordinatorObjects()

    class First(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            self.done = True

    class Second(First):
        pass

    for cls in (First, Second):
        item: Any = cls()
        state = lane.run(objects, item).state
        assert state is not None
        same: Any = objects.apply_state(item, state, no_ancestor)
        assert same is item
        assert item.done
    assert len(objects.definitions) == 2


def test_a_lane_in_the_same_process_uses_the_classes_of_the_program() -> None:
    """A class that would be sent by value is the program's own there, and stays as it is."""

    class Local(Item):
        used: ClassVar[list[int]] = []

        def __init__(self) -> None:
            self.kind = Local

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None: ...

    method = Local.process
    coordinator, lane = CoordinatorObjects(), LaneObjects()
    data = coordinator.dump_item(Local(), no_number)
    for definitions in coordinator.definitions:
        lane.definitions.define(definitions)
    loaded: Any
    loaded = lane.load_item(data, no_ancestor)
    assert type(loaded) is loaded.kind is Local
    assert Local.process is method
    back: Any = coordinator.load_item(lane.dump_item(loaded, no_number), no_ancestor)
    assert type(back) is back.kind is Local


def test_what_is_registered_to_be_pickled_by_value_is_sent(lane: OtherProcess) -> None:
    """A module that the user has told cloudpickle about needs not be on the workers."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        objects = CoordinatorObjects()
        item = WithoutLock()
        objects.dump_item(item, no_number)
        assert len(objects.definitions) == 1
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def test_a_lifespan_that_can_not_be_sent_is_refused() -> None:
    """It is an argument of `run_queue`, and the message names it."""
    lock = threading.Lock()
    with pytest.raises(InvalidArgument, match="lifespan"):
        CoordinatorObjects(lambda: lock)


def test_definitions_that_can_not_be_taken_in_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a module is missing that a class needs, the lane says so, and what to do."""

    class Local(Item):
        data = Vanishing

    coordinator = CoordinatorObjects()
    coordinator.dump_item(Local(), no_number)
    # As it would be in another process, which doesn't find the sender in its own.
    sent = [pickle.dumps((0, *pickle.loads(pickled)[1:])) for pickled in coordinator.definitions]
    monkeypatch.delattr(sys.modules[__name__], "Vanishing")
    assert len(sent) == 1
    with pytest.raises(UnsendableItem, match=r"can't create the classes .*Vanishing.*install the modules"):
        LaneObjects().definitions.define(sent[0])


# ---- what can't be sent -----------------------------------------------------------------------------------------


def local_function() -> Callable[[], None]:
    """Return a function without a name that another process could find."""

    def inside() -> None: ...

    return inside


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (socket.socket, "socket"),
        (threading.Lock, "lock"),
        (lambda: lambda: None, "lambda"),
        (local_function, "inside"),
        (lambda: (number for number in range(3)), "generator"),
        (lambda: functools.partial(lambda: None), "lambda"),
    ],
)
def test_what_can_not_be_sent_is_named(make: Callable[[], Any], reason: str) -> None:
    """The refusal names the class, the attribute and what is in it, and says what to do."""
    value = make()
    try:
        message = refusal(Node(size=1, session=value, name="n"))
        nested = refusal(Node(size=1, session=Box(ok=1, headers={"y": [1], "x": value})))
    finally:
        if isinstance(value, socket.socket):
            value.close()
    for text in (message, nested):
        assert "tests.cluster.classes:Node can't be sent to another process" in text
        assert reason in text
        assert "leave session out of the item and create it in process or in the lifespan" in text
        assert "__getstate__" in text
        assert "attribute 'session'" in text


@pytest.mark.parametrize("make", KINDS)
def test_the_attribute_is_named_in_items_of_every_kind(make: Callable[[int], Any]) -> None:
    """Wherever a class keeps its state, the refusal says which attribute is the one."""
    item = make(3)
    if type(item).__name__ in {"OwnState", "Reduced", "Tuple", "Listed"}:  # only their own methods know their state
        return
    lock = threading.Lock()
    if type(item).__name__ == "WithProperty" or not hasattr(type(item), "size"):
        vars(item)["size"] = [lock]
    else:
        vars(type(item))["size"].__set__(item, [lock])
    assert "attribute 'size' can't be pickled" in refusal(item)


def test_what_refers_to_the_item_is_not_taken_for_the_culprit() -> None:
    """An attribute that leads back to the item isn't named because another one can't be sent."""
    item: Any = Node(size=1)
    item.session = Box(owner=item)
    item.around = {"me": item}
    item.around["again"] = item.around
    item.lock = threading.Lock()
    assert "attribute 'lock' can't be pickled" in refusal(item)
    item.lock = None
    item.session.inner = [item, threading.Lock()]
    assert "attribute 'session' can't be pickled" in refusal(item)


def test_values_that_are_made_too_deep_are_refused() -> None:
    """A list of lists of lists, 100,000 deep, is no reason to crash."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    try:
        assert "RecursionError" in refusal(Node(deep=deep))
    finally:
        while deep:  # so that nothing recurses when it is freed, either
            deep = deep.pop()


class Hostile:
    """Raises whatever is asked of it."""

    def __init__(self, error: Exception) -> None:
        object.__setattr__(self, "error", error)

    def __getattribute__(self, name: str) -> Any:
        raise object.__getattribute__(self, "error")

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise object.__getattribute__(self, "error")

    def __eq__(self, other: object) -> bool:
        raise object.__getattribute__(self, "error")

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        raise object.__getattribute__(self, "error")


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class LyingMeta(type):
    """Says that all its classes are one."""

    def __eq__(cls, other: object) -> bool:
        return isinstance(other, LyingMeta)

    def __hash__(cls) -> int:
        return 1

    def __getattr__(cls, name: str) -> Any:
        raise RuntimeError(name)


class Liar(metaclass=LyingMeta):
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


class BadState(Item):
    def __getstate__(self) -> Any:
        raise MuteError

    def __init__(self) -> None:
        self.size = 1


class BadReduce(Item):
    def __reduce__(self) -> Any:
        return 5


class BadModule(Item):
    pass


BadModule.__module__ = 5  # type: ignore[assignment]


class OddDict(dict[Any, Any]):
    def items(self) -> Any:
        raise MuteError


@pytest.mark.parametrize(
    "make",
    [
        lambda: Node(value=Hostile(MuteError())),
        lambda: Node(value=Hostile(ValueError("\x1b[2J"))),
        lambda: Hostile(ValueError("x")),
        lambda: Node(value=MuteError()),
        lambda: Node(value=Liar(lock=threading.Lock())),
        lambda: Liar(lock=threading.Lock()),
        BadState,
        BadReduce,
        BadModule,
        lambda: Node(value=BadState()),
        lambda: Node(value=OddDict(a=threading.Lock())),
        lambda: Node(value={Box: 1, "\x1b[2J\n": threading.Lock()}),
        lambda: Node(value=sys.modules),
        lambda: Node(value=sys._getframe()),
        lambda: Node(**{"\x1b[2J": threading.Lock()}),
        lambda: 5,
        lambda: Node,
        object,
    ],
)
def test_odd_objects_are_sent_or_refused_and_raise_nothing_else(make: Callable[[], Any]) -> None:
    """Whatever an object's own methods do, the outcome is an item or an `UnsendableItem` with a safe message."""
    for objects in (CoordinatorObjects(), LaneObjects()):
        message = ""
        try:
            data = objects.dump_item(make(), no_number)
            LaneObjects().load_item(data, no_ancestor)
        except UnsendableItem as error:
            message = str(error)
        assert message.isprintable()


class Vanishing:
    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None: ...

    def __init__(self) -> None:
        self.size = 1


def test_a_class_that_the_other_side_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be made from what was sent raises `UnsendableItem`, which names the class and what to see to."""
    flat = CoordinatorObjects().dump_item(Vanishing(), no_number)
    long = CoordinatorObjects().dump_item(vars_with(Vanishing(), parts=[1]), no_number)
    state = LaneObjects().changed_state(vars_with(Vanishing(), kind=Vanishing), b"", no_number)
    held = CoordinatorObjects().dump_item(Node(value=Vanishing()), no_number)
    assert state is not None
    monkeypatch.delattr(sys.modules[__name__], "Vanishing")
    for data in (flat, long):
        for objects in (CoordinatorObjects(), LaneObjects()):
            with pytest.raises(UnsendableItem, match="test_objects:Vanishing can't be restored"):
                objects.load_item(data, no_ancestor)
    with pytest.raises(UnsendableItem, match=r"Node can't be restored .* same modules, in the same versions"):
        LaneObjects().load_item(held, no_ancestor)
    with pytest.raises(UnsendableItem, match="Node can't be restored"):
        CoordinatorObjects().apply_state(Node(), state, no_ancestor)


def vars_with(item: Any, **attributes: Any) -> Any:
    """Return `item` with more attributes."""
    vars(item).update(attributes)
    return item


def test_a_name_that_means_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the other side has a function, a number or an abstract class of that name, no item is made."""
    data = CoordinatorObjects().dump_item(Vanishing(), no_number)
    abstract = type("Vanishing", (), {})
    abstract.__abstractmethods__ = frozenset({"process"})  # type: ignore[attr-defined]
    for other in (5, local_function, abstract):
        monkeypatch.setattr(sys.modules[__name__], "Vanishing", other)
        with pytest.raises(UnsendableItem, match="Vanishing can't be restored"):
            LaneObjects().load_item(data, no_ancestor)


class Unloadable(Item):
    """Can be pickled, but not be unpickled."""

    def __init__(self) -> None:
        self.size = 1

    def __setstate__(self, state: Any) -> None:
        raise MuteError


def test_a_setstate_that_raises_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal names the class and its `__setstate__`, on the way there and back."""
    item = Unloadable()
    with pytest.raises(UnsendableItem, match=r"Unloadable can't be restored .*MuteError.*__setstate__"):
        to_lane(item)
    state = LaneObjects().changed_state(item, b"", no_number)
    assert state is not None
    with pytest.raises(UnsendableItem, match=r"Unloadable can't be restored .*MuteError"):
        CoordinatorObjects().apply_state(item, state, no_ancestor)


def test_an_ancestor_that_is_missing_is_told() -> None:
    """A reference to an item that is not above raises what is documented."""
    parent = Node()
    data = CoordinatorObjects().dump_item(Node(parent=parent), numbers_of([parent], 1))
    with pytest.raises(UnsendableItem, match="Node can't be restored"):
        LaneObjects().load_item(data, no_ancestor)


def test_a_class_made_in_the_lane_alone_is_refused() -> None:
    """The coordinator couldn't make objects of it: the lane says so when such a child is enqueued."""

    class Local(Item):
        pass

    class Mode(enum.Enum):
        FAST = 1

    lane = LaneObjects()
    with pytest.raises(UnsendableItem, match=r"Local can't be sent .*defined inside a function.*top level of a module"):
        lane.dump_item(Local(), no_number)
    with pytest.raises(UnsendableItem, match=r"Node can't be sent .*attribute 'mode'.*defined inside a function"):
        lane.dump_item(Node(mode=Mode.FAST), no_number)
    with pytest.raises(UnsendableItem, match=r"attribute 'mode'"):
        lane.changed_state(Node(mode=Mode.FAST), b"", no_number)
