"""What would be without effect in silence is warned of: limits that name no item's group, class attributes misspelt.

The limits are looked at by `_engine.group_limits`.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest

import aqueue
from aqueue import (
    Backend,
    EnqueueFn,
    Item,
    ItemFailures,
    Limit,
    Retry,
    SetDescFn,
    run_queue,
    slow_down,
)
from aqueue._engine.misspelt import warn_of_misspelt
from tests.engine.jobs import Noop


class Heard(list[str]):
    """What was warned of."""


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """Collect the warnings of a run, and of items."""
    heard = Heard()
    monkeypatch.setattr("aqueue._engine.group_limits.warn", heard.append)
    monkeypatch.setattr("aqueue._engine.misspelt.warn", heard.append)
    return heard


class Page(Item):
    """Has a group, or none."""

    def __init__(self, group: str | None) -> None:
        self.group = group

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None: ...


class Index(Item):
    """Has no group; enqueues pages, and then does what it is given."""

    def __init__(self, groups: list[str | None], then: Callable[[], Any] = lambda: None) -> None:
        self.groups = groups
        self.then = then

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for group in self.groups:
            enqueue(Page(group))
        self.then()


LIMIT = Limit(per_second=1e9)

# ---- limits that fail open --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "groups", "told"),
    [
        (
            {"127.0.0.1": LIMIT},
            ["127.0.0.1:8765"] * 3,
            "limits names '127.0.0.1', but no item had that group (seen: '127.0.0.1:8765')",
        ),
        ({"a": LIMIT, "b": LIMIT}, ["a", "c", None], "limits names 'b', but no item had that group (seen: 'a', 'c')"),
        (
            {**{f"l{number}": LIMIT for number in range(5)}, "*": LIMIT},
            [f"\x1b{number}" for number in range(9)],
            r"limits names 'l0', 'l1', 'l2' and 2 more, but no item had these groups (seen: '\x1b0', '\x1b1', '\x1b2' and others)",
        ),
        ({"a": LIMIT}, [None, None], "limits is given, but no item had a group"),
        ({"*": LIMIT}, [None], "limits is given, but no item had a group"),
        (lambda group: LIMIT, [None], "limits is given, but no item had a group"),
    ],
    ids=["another", "one of two", "many", "none", "all others, none", "function, none"],
)
def test_limits_that_no_item_has_the_group_for_are_told_at_the_end(
    backend: Backend, heard: Heard, limits: Any, groups: list[str | None], told: str
) -> None:
    """The warning names those of `limits`, and some groups that items had."""
    run_queue([Index(groups)], limits=limits, backend=backend, reporter="none")
    [warning] = heard
    assert warning.startswith(told)


@pytest.mark.parametrize(
    ("limits", "groups"),
    [
        ({"a": LIMIT, "b": LIMIT}, ["c", "b", "a"]),
        ({"*": LIMIT}, ["a", None]),
        ({}, [None]),
        (None, [None, "a"]),
        (lambda group: None, ["a"]),
    ],
    ids=["all named", "all others", "empty", "no limits", "function"],
)
def test_limits_that_have_their_groups_are_not_told(
    backend: Backend, heard: Heard, limits: Any, groups: list[str | None]
) -> None:
    """Each name that an item's group has is right; a function names none."""
    run_queue([Index(groups)], limits=limits, backend=backend, reporter="none")
    assert heard == []


def test_a_group_that_is_only_slowed_down_is_not_one_that_an_item_had(backend: Backend, heard: Heard) -> None:
    """Who writes the wrong name in both places hears of it."""
    run_queue(
        [Index(["host:80"], lambda: slow_down("host", 0.0))], limits={"host": LIMIT}, backend=backend, reporter="none"
    )
    [warning] = heard
    assert "names 'host', but no item had that group (seen: 'host:80')" in warning


class Waits(Item):
    """Waits until something was warned of."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        with anyio.fail_after(60):
            while not self.heard:
                await anyio.sleep(0.01)


@pytest.mark.parametrize("group", ["127.0.0.1:8765", None])
def test_a_run_at_full_speed_is_told_while_it_goes_on(backend: Backend, heard: Heard, group: str | None) -> None:
    """After 1,000 items of which `limits` has applied to none; once."""
    run_queue([Index([group] * 1_000), Waits(heard)], limits={"127.0.0.1": LIMIT}, backend=backend, reporter="none")
    [warning] = heard
    assert re.match(r"limits .*, but none of the first 1,0\d\d items of this process had ", warning)
    assert group is None or "(seen: '127.0.0.1:8765')" in warning


def fail() -> None:
    """Raise."""
    raise ValueError


@pytest.mark.parametrize("then", [lambda: aqueue.stop("enough"), fail], ids=["stopped", "failed"])
def test_a_run_that_did_not_get_to_its_end_is_not_told(backend: Backend, heard: Heard, then: Callable[[], Any]) -> None:
    """Items of that group may have been still to come."""
    with suppress(ItemFailures):
        run_queue([Index(["b"], then)], limits={"a": LIMIT}, backend=backend, reporter="none", on_error="continue")
    assert heard == []


class Kept(Item):
    """Has a group, and ends the run the first time that it is told to."""

    stops: ClassVar[bool] = False

    def __init__(self, group: str) -> None:
        self.group = group

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        if self.stops:
            aqueue.stop("enough")


def test_a_group_whose_items_had_all_ended_before_a_resume_is_not_told(
    backend: Backend, heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left is of other groups, or of none: that is no mistake."""
    arguments: dict[str, Any] = {"limits": {"a": LIMIT}, "backend": backend, "reporter": "none", "num_workers": 1}
    items = [Kept("a"), Kept("b"), Noop()]
    monkeypatch.setattr(Kept, "stops", True)
    assert run_queue(items, resume=tmp_path / "run.db", **arguments).status == "interrupted"
    monkeypatch.setattr(Kept, "stops", False)
    assert run_queue(items, resume=tmp_path / "run.db", **arguments).status == "completed"
    assert heard == []


def test_a_resume_at_full_speed_is_told(backend: Backend, heard: Heard, tmp_path: Path) -> None:
    """So many items that `limits` applies to none of are one, whatever earlier processes ran."""
    arguments: dict[str, Any] = {"limits": {"a": LIMIT}, "backend": backend, "reporter": "none"}
    run_queue([Kept("a")], resume=tmp_path / "run.db", **arguments)
    assert heard == []
    run_queue([Kept("a"), *(Kept(f"b{number}") for number in range(1_000))], resume=tmp_path / "run.db", **arguments)
    [warning] = heard
    assert "none of the first 1,000 items of this process had that group (seen: 'b0', 'b1', 'b2' and others)" in warning


# ---- class attributes that are misspelt -------------------------------------------------------------------------


def defines(**attributes: Any) -> type[Item]:
    """Return a new class with these attributes."""
    return type("Leaf", (Noop,), {"__qualname__": "Leaf", "__module__": "shop", **attributes})


@pytest.mark.parametrize(
    ("attribute", "value", "told"),
    [
        ("timeout", 5, "timeout_s, in seconds"),
        ("timeout_seconds", 2.5, "timeout_s, in seconds"),
        ("timeout_ms", timedelta(seconds=5), "timeout_s, in seconds"),
        ("retries", 3, "retry, such as Retry(attempts=3)"),
        ("retry_policy", Retry(), "retry, such as Retry(attempts=3)"),
        ("max_attempts", 3, "retry, such as Retry(attempts=3)"),
        ("grp", "shop", "group"),
        ("groups", "shop", "group"),
        ("keys", "a", "key"),
        ("track_overal", True, "track_overall"),
        ("after_children_rules", "all_done", "after_children_rule"),
        ("previous_name", ("shop:Page",), "previous_names"),
        ("rate_limit", 5, "run_queue(limits=…), by the items' group"),
        ("limit", Limit(per_second=5), "run_queue(limits=…), by the items' group"),
    ],
)
def test_a_class_attribute_that_looks_like_aqueues_is_told_once(
    backend: Backend, heard: Heard, attribute: str, value: Any, told: str
) -> None:
    """The warning names class, attribute and the right name; however many items and runs there are."""
    cls = defines(**{attribute: value})
    for _ in range(2):
        run_queue([cls(), cls()], backend=backend, reporter="none")
    [warning] = heard
    assert warning.startswith(f"shop:Leaf.{attribute} has no effect; did you mean {told}?")


@dataclass
class Fields(Noop):
    """Has fields of its own, of such names."""

    timeout: float = 5.0
    retries: int = 3
    groups: str = ""


class Uses(Noop):
    """Uses what it has, in one way or another."""

    timeout = 5
    retries = 3
    max_retries = 5
    grp = "a"
    keys = "b"
    time_limit = 9.0

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await anyio.sleep(0 * self.timeout)
        assert all(self.retries for _ in range(3))

    @property
    def other(self) -> str:
        return self.grp

    @cached_property
    def another(self) -> str:
        return self.keys

    @classmethod
    def made(cls) -> int:
        return cls.max_retries

    @staticmethod
    def named(item: "Uses") -> Any:
        return getattr(item, "time_limit")  # noqa: B009  # as code does that is written for any name


class Methods(Noop):
    """Has methods and properties of such names."""

    def timeout(self) -> None: ...
    def keys(self) -> list[str]:
        return []

    @property
    def grp(self) -> str:
        return ""

    @staticmethod
    def retries() -> int:
        return 3


class Right(Noop):
    """Says it in the right way, and has the parts of that as well."""

    timeout = 5
    timeout_s = 2 * timeout
    retries = 3
    retry = Retry(attempts=retries)


class Annotated(Noop):
    """Says of its attributes what they are."""

    timeout: float = 5.0
    retries: "Missing" = 3  # type: ignore[name-defined]  # noqa: F821


class Others(Noop):
    """Has what is something else by its name or its value."""

    _timeout = 5
    TIMEOUT = 5
    RETRIES = 3
    timeout = "5 s"
    retries = ()
    keys = ("a", "b")
    entry = 3
    limit_name = 10
    country = 5
    key2 = "a"
    tracks = 7
    ready = True
    time = 5.0
    out = 4


@pytest.mark.parametrize("cls", [Fields, Uses, Methods, Right, Annotated, Others, Page])
def test_attributes_that_are_the_users_own_are_not_told(heard: Heard, cls: type[Item]) -> None:
    """Fields, attributes that the class's own code uses, methods, properties, constants, other kinds of values."""
    warn_of_misspelt(cls)
    assert heard == []


async def failing(item: Item, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    """Raise."""
    raise ValueError


def test_a_class_that_is_resumed_is_told(backend: Backend, heard: Heard, tmp_path: Path) -> None:
    """Once, whether its items come from the journal only, or from the program as well."""
    arguments: dict[str, Any] = {"resume": tmp_path / "run.db", "backend": backend, "reporter": "none"}
    with pytest.raises(ItemFailures):
        run_queue([defines(process=failing)()], **arguments)
    assert heard == []
    cls = defines(process=failing, timeout=5)
    for items in ([], [cls()]):
        with pytest.raises(ItemFailures):
            run_queue(items, **arguments)
    assert len([warning for warning in heard if "timeout_s" in warning]) == 1
