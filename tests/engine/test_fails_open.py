"""What would be without effect in silence is warned of: limits that name no item's group, class attributes misspelt."""

import re
from collections.abc import Callable
from contextlib import suppress
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
    SetDescFn,
    run_queue,
    slow_down,
)
from tests.engine.jobs import Noop


class Heard(list[str]):
    """What was warned of."""


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """Collect the warnings of a run, and of items."""
    heard = Heard()
    monkeypatch.setattr("aqueue._engine.warn", heard.append)
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
