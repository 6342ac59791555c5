"""Plain classes whose `__init__` assigns an attribute that was not recorded: its default is taken, where it is sure."""

import enum
import functools
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from aqueue import Item
from aqueue._codec.class_names import type_name
from aqueue._codec.item_codec import PayloadCodec
from tests.codec.test_round_trips import no_ancestor, no_item

RECORDED = b'{"number":7}'


class Language(enum.Enum):
    EN = "en"
    NO = "no"


class Parameters(Item):
    def __init__(
        self,
        number: int,
        lang: str = "en",
        language: Language = Language.NO,
        *,
        size: float | None = None,
        tags: tuple[int, ...] = (1, 2),
    ) -> None:
        self.number = number
        self.lang = lang
        self.language = language
        self.width = size
        self.tags = tags


class Constants(Item):
    def __init__(self, number: int) -> None:
        if number < 0:
            raise ValueError(number)
        self.number = number
        self.retries = 0
        self.big = 1_000_000
        self.size = -1.5
        self.none = None
        self.names = ("a", b"b")
        self.seen: list[str] = []
        self.found: dict[str, int] = {}
        self.doubled = [number * 2 for number in range(number)] and None
        self.__hidden = True


class Inheriting(Constants):
    pass


class NotInheriting(Constants):
    def __init__(self, number: int, lang: str = "en") -> None:
        super().__init__(number)
        self.lang = lang


class Slots(Item):
    __slots__ = ("lang", "number")

    def __init__(self, number: int, lang: str = "en") -> None:
        self.number = number
        self.lang = lang


class Declared(Item):
    lang: str = "de"
    size: int = 3

    def __init__(self, number: int, lang: str = "en") -> None:
        self.number = number
        self.lang = lang


class Closing(Item):
    def __init__(self, number: int, lang: str = "en") -> None:
        self.number = number
        self.lang = lang
        self.retries = 0
        self.names = [name for name in "ab" if hasattr(self, name)] or None


SURE: list[tuple[type[Any], dict[str, Any]]] = [
    (Parameters, {"lang": "en", "language": Language.NO, "width": None, "tags": (1, 2)}),
    (
        Constants,
        {
            "retries": 0,
            "big": 1_000_000,
            "size": -1.5,
            "none": None,
            "names": ("a", b"b"),
            "seen": [],
            "found": {},
            "_Constants__hidden": True,
        },
    ),
    (NotInheriting, {"lang": "en"}),
    (Slots, {"lang": "en"}),
    (Declared, {"lang": "en", "size": 3}),
    (Closing, {"lang": "en", "retries": 0}),
]


def attributes(item: Any) -> dict[str, Any]:
    """Return the attributes of an item, wherever they are."""
    return {name: getattr(item, name) for name in Slots.__slots__} if isinstance(item, Slots) else dict(vars(item))


@pytest.mark.parametrize(("cls", "expected"), SURE, ids=lambda value: getattr(value, "__name__", ""))
def test_what_init_assigns_is_the_default_of_what_was_not_recorded(cls: Any, expected: dict[str, Any]) -> None:
    """A parameter's default that is stored as it is, and constants; each time, and none that two items share."""
    codec = PayloadCodec()
    one, other = (codec.decode(type_name(cls), RECORDED, no_item) for _ in range(2))
    assert attributes(one) == attributes(other) == {"number": 7, **expected}
    assert getattr(one, "seen", None) is not getattr(other, "seen", ())


def test_a_class_inherits_the_defaults_with_init() -> None:
    """Only the `__init__` that is called counts, and it may be a base's."""
    codec = PayloadCodec()
    restored, expected = (codec.decode(type_name(cls), RECORDED, no_item) for cls in (Inheriting, Constants))
    assert vars(restored) == vars(expected)


def test_what_was_recorded_is_kept() -> None:
    """A default is for what is not there."""
    restored: Any = PayloadCodec().decode(type_name(Parameters), b'{"lang":"no","number":7,"width":2.5}', no_item)
    assert (restored.lang, restored.width, restored.tags) == ("no", 2.5, (1, 2))


@pytest.mark.parametrize("cls", [Slots, Declared])
def test_a_recorded_item_is_that_which_is_enqueued_today(cls: Any) -> None:
    """Both are written alike."""
    codec = PayloadCodec()
    assert codec.canonical(type_name(cls), RECORDED) == codec.encode(cls(7), no_ancestor) != RECORDED


def test_what_an_item_of_today_lacks_is_not_written() -> None:
    """It is stored as it is."""
    item = Declared(7)
    del item.lang, item.number
    item.lang = "de"
    codec = PayloadCodec()
    other = Constants(1)
    del other.retries
    assert "retries" not in codec.attributes("", codec.encode(other, no_ancestor))


def decorated(init: Callable[..., None]) -> Callable[..., None]:
    """Return a function that calls `init` with the number alone."""

    @functools.wraps(init)
    def call(self: Any, number: int, lang: str = "de") -> None:
        init(self, number)

    return call


class Unsure(Item):
    """Assigns what is not known without calling it, each to an attribute of its own."""

    size: int

    def __init__(self, number: int, lang: str = "en", other: str = "x", first: Any = None, kept: Any = 1) -> None:
        self.number = number
        self.upper = lang.upper()
        self.choice = lang or "de"
        self.choice2 = lang if number else "de"
        self.attribute = first and first.lang
        self.twice = 0
        self.twice = 1
        self.counted = 0
        self.counted += 1
        self.filled: list[int] = []
        self.filled.append(number)
        self.pair, self.of = number, lang
        self.chained = self.of_chain = lang
        self.constants = [1, 2]
        self.open = object
        other = lang
        self.other = other
        if number:
            self.branch = 1
        elif first:
            self.branch2 = 1
        else:
            self.branch3 = 1
        for _ in range(number):
            self.loop = 1
        while number > 100:
            self.loop2 = 1
        self.captured = kept

        def change() -> None:
            nonlocal kept
            kept = 2

        change()
        if number == 7:
            return
        self.late = 1

    @property
    def managed(self) -> int:
        return 1


class Trying(Item):
    def __init__(self, number: int) -> None:
        self.number = number
        try:
            self.tried = 1
        except ValueError:
            return
        self.late = 1


class Within(Item):
    def __init__(self, number: int) -> None:
        self.number = number
        with suppress(ValueError):
            self.tried = 1
            self.late = 1


class Managing(Item):
    def __init__(self, number: int, lang: str = "en") -> None:
        self.number = number
        self.lang = lang

    @property
    def lang(self) -> str:
        return self._lang

    @lang.setter
    def lang(self, value: str) -> None:
        self._lang = value


class Setting(Item):
    def __init__(self, number: int, lang: str = "en") -> None:
        self.number = number
        self.lang = lang

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(f"set_{name}", value)


class Decorated(Item):
    @decorated
    def __init__(self, number: int, lang: str = "en") -> None:
        self.number = number
        self.lang = lang


class Policy(Item):
    timeout_s = 30.0

    def __init__(self, number: int) -> None:
        self.number = number
        self.timeout_s = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("cls", [Managing, Setting, Decorated, Policy, Trying, Within, Unsure])
def test_what_is_not_sure_is_not_assigned(cls: Any) -> None:
    """No code runs to find out, and no item gets what a new one would not have."""
    restored: Any = PayloadCodec().decode(type_name(cls), RECORDED, no_item)
    assert vars(restored) == {"number": 7}
