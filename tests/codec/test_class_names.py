"""Which class a type name in a journal means: only one that the program has defined, and never an import.

They are looked up by `_codec.class_names`.
"""

import importlib.util
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from aqueue import EnqueueFn, Item, SetDescFn
from aqueue._codec.class_names import resolve_type, type_name
from aqueue._codec.item_codec import PayloadCodec
from aqueue.errors import UnknownItemType, UnstorableItem
from tests.codec.kinds import PlainItem, SlottedItem
from tests.codec.test_round_trips import no_ancestor, no_item

HERE = __name__


class Outer:
    class Inner:  # noqa: D106
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            """Do nothing."""

    class NotAnItem:  # noqa: D106
        pass


async def process() -> None:
    """Be a function, not a class."""


Alias = PlainItem


def test_items_are_found_wherever_they_are_defined() -> None:
    """A subclass of Item is found even inside a function; another class by its module and qualified name."""

    class Local(Item):
        pass

    assert resolve_type(type_name(Local)) is Local
    assert resolve_type(type_name(SlottedItem)) is SlottedItem
    assert resolve_type(f"{HERE}:Outer.Inner") is Outer.Inner


def test_the_latest_definition_wins() -> None:
    """In a notebook a cell is run again, and its class defined again."""

    def define(number: int) -> type:
        class Cell(Item):
            value = number

        return Cell

    first, second = define(1), define(2)
    assert resolve_type(type_name(first)) is second
    with pytest.raises(UnstorableItem, match="another class has the same name"):
        PayloadCodec().encode(first(), no_ancestor)


def test_a_class_that_a_decorator_replaces_is_found() -> None:
    """`@dataclass(slots=True)` makes a second class; the program knows only that."""

    @dataclass(slots=True)
    class Replaced(Item):
        url: str

    assert resolve_type(type_name(Replaced)) is Replaced
    codec = PayloadCodec()
    assert codec.decode(type_name(Replaced), codec.encode(Replaced("u"), no_ancestor), no_item) == Replaced("u")


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "builtins:int",
        "builtins:eval",
        "subprocess:Popen",
        "no_such_module:Thing",
        f"{HERE}:",
        f"{HERE}:Outer.NotAnItem",
        f"{HERE}:Outer.Inner.process",
        f"{HERE}:process",
        f"{HERE}:Alias",
        f"{HERE}:Outer.Inner.__class__",
        f"{HERE}:Outer.__mro__",
        f"{HERE}.Outer.Inner",
        "",
        ":",
        "a:b:c",
        "this:that\n\x1b[2J",
        "antigravity:fly",
    ],
)
def test_nothing_else_is_found_and_nothing_is_imported(name: str) -> None:
    """A name that a stranger wrote finds only item classes that are defined by that very name."""
    before = set(sys.modules)
    with pytest.raises(UnknownItemType) as caught:
        resolve_type(name)
    assert set(sys.modules) == before
    assert "\x1b" not in str(caught.value)
    assert "previous_names" in str(caught.value)


def test_a_lazy_module_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that loads itself when an attribute is read is asked for none."""
    (tmp_path / "lazy_items.py").write_text("raise SystemExit('loaded')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = importlib.util.find_spec("lazy_items")
    assert spec is not None
    assert spec.loader is not None
    loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "lazy_items", module)
    loader.exec_module(module)
    with pytest.raises(UnknownItemType):
        resolve_type("lazy_items:Thing")


def test_what_stands_for_another_object_is_not_asked_for_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that loads what it stands for when its `__class__` is read is passed over, as a module and in one."""

    class Lazy:
        @property  # type: ignore[misc]
        def __class__(self) -> type:
            raise AssertionError("was loaded")

    holding: Any = types.ModuleType("holding_a_proxy")
    holding.Proxy = Lazy()
    monkeypatch.setitem(sys.modules, "holding_a_proxy", holding)
    monkeypatch.setitem(sys.modules, "a_proxy", Lazy())
    for name in ("holding_a_proxy:Proxy", "a_proxy:Thing", "nowhere:Thing"):
        with pytest.raises(UnknownItemType):
            resolve_type(name)


def test_no_property_of_a_class_is_run() -> None:
    """Looking for a class calls nothing of the classes on the way."""

    class Meta(type):
        @property
        def Trap(cls) -> Any:  # noqa: N802
            raise AssertionError("was run")

    class Holder(metaclass=Meta):
        pass

    module = types.ModuleType("holding")
    module.Holder = Holder  # type: ignore[attr-defined]
    sys.modules["holding"] = module
    try:
        with pytest.raises(UnknownItemType):
            resolve_type("holding:Holder.Trap")
    finally:
        del sys.modules["holding"]


def test_a_class_that_could_not_be_found_is_refused_when_it_is_stored() -> None:
    """It is better to hear of it before the crash than after."""

    class Hidden:
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            """Do nothing."""

    with pytest.raises(UnstorableItem, match="can't be found by its name"):
        PayloadCodec().encode(Hidden(), no_ancestor)


class Renamed(Item):
    previous_names: ClassVar = [f"{HERE}:Before", "Earlier", "elsewhere:Moved"]

    def __init__(self) -> None:
        self.url = "u"


class HeirOfRenamed(Renamed):
    pass


class RenamedPlain:
    previous_names = (f"{HERE}:PlainBefore",)

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        """Do nothing."""


@pytest.mark.parametrize("name", [f"{HERE}:Before", f"{HERE}:Earlier", "elsewhere:Moved"])
def test_a_renamed_class_is_found_by_its_previous_names(name: str) -> None:
    """A class says which names it had, with or without the module; its subclasses had other ones."""
    assert resolve_type(name) is Renamed
    codec = PayloadCodec()
    payload = codec.encode(Renamed(), no_ancestor)
    assert type(codec.decode(name, payload, no_item)) is Renamed
    assert codec.canonical(name, payload) == payload


def test_a_renamed_class_need_not_be_an_item() -> None:
    """Other classes are found by their previous names at the top level of their modules."""
    assert resolve_type(f"{HERE}:PlainBefore") is RenamedPlain


def test_a_class_of_today_goes_before_previous_names() -> None:
    """A name that is in use means the class that uses it."""

    class Used(Item):
        pass

    class Claiming(Item):
        previous_names: ClassVar = [type_name(Used)]

    assert resolve_type(type_name(Used)) is Used
    assert resolve_type(type_name(Claiming)) is Claiming


def test_two_classes_that_claim_one_name_are_an_error() -> None:
    """It can't be known which of them was meant, so the message names both."""

    class One(Item):
        previous_names: ClassVar = ["claimed:Twice"]

    class Other(Item):
        previous_names: ClassVar = ["claimed:Twice"]

    with pytest.raises(UnknownItemType, match=r"previous_names of several item classes \(.*One, .*Other\)"):
        resolve_type("claimed:Twice")
    del One, Other


def test_a_class_of_the_main_program_is_found_in_it(tmp_path: Path) -> None:
    """A script's own classes are those of ``__main__``, in this process and in the next."""
    script = tmp_path / "job.py"
    script.write_text(
        "import sys\n"
        "from aqueue._codec.item_codec import PayloadCodec\n"
        "class Page:\n"
        "    def __init__(self, url): self.url = url\n"
        "    async def process(self, enqueue, set_desc): pass\n"
        "codec = PayloadCodec()\n"
        "if sys.argv[1:]:\n"
        "    print(codec.decode('__main__:Page', sys.argv[1].encode(), None).url)\n"
        "else:\n"
        "    print(codec.encode(Page('https://x.y'), lambda value: None).decode())\n"
    )

    def run(*args: str) -> str:
        return subprocess.run(
            [sys.executable, script, *args], capture_output=True, text=True, check=True
        ).stdout.strip()

    assert run(run()) == "https://x.y"


class _NoModule:
    """Says that it is a module, and has no attributes: as the libraries that cffi has loaded."""

    __slots__ = ()

    @property  # type: ignore[misc]  # what it says is not so
    def __class__(self) -> type:
        return types.ModuleType


def test_what_only_says_that_it_is_a_module_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other libraries put such things among the modules; a class that is gone is named nevertheless."""
    monkeypatch.setitem(sys.modules, "no_module", _NoModule())
    with pytest.raises(UnknownItemType, match="gone:Page"):
        resolve_type("gone:Page")
    with pytest.raises(UnknownItemType, match="no_module:Page"):
        resolve_type("no_module:Page")
