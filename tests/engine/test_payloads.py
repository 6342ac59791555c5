"""An item's identity: the value is what the journal's events make it, whenever it is asked for and by whom.

It is worked out when `_engine.intake` announces the item, or later.
"""

from pathlib import Path

import anyio
import pydantic

import aqueue
from aqueue import EnqueueFn, Item, SetDescFn, run_queue
from aqueue._codec.digests import identity_of
from aqueue.events import ItemEnqueued, RunStarted
from tests.journal.recorded import events_of

asked: dict[int, set[str]] = {}
"""What each item was told when it asked for its identity, by its number."""


def ask() -> None:
    """Ask for the running item's identity."""
    current = aqueue.current()
    asked.setdefault(current.id, set()).add(current.idempotency_key)


def recorded_identities(path: Path) -> dict[int, str]:
    """Return the identities of all items as the journal at `path` has them, by their numbers."""
    run = b""
    found: dict[int, bytes] = {}
    for event in events_of(path):
        if isinstance(event, RunStarted):
            run = event.run_id.encode()
        elif isinstance(event, ItemEnqueued):
            above = run if event.parent == 0 or event.key is not None else found[event.parent]
            found[event.item] = identity_of(above, event.type, event.key, bytes(event.payload), event.occurrence)
    return {number: identity.hex() for number, identity in found.items()}


class Link(Item):
    """One link of a chain; the last asks."""

    def __init__(self, left: int) -> None:
        self.left = left

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        if self.left:
            enqueue(Link(self.left - 1))
        else:
            ask()


def test_an_item_deep_down_may_be_the_first_to_ask(tmp_path: Path) -> None:
    """Below 5,000 ancestors of which none has asked, an item is told what its whole line of ancestors makes it."""
    asked.clear()
    run_queue([Link(5_000)], reporter="none", journal=tmp_path / "run.db")
    assert len(asked) == 1
    for number, keys in asked.items():
        assert keys == {recorded_identities(tmp_path / "run.db")[number]}


class Changing(Item):
    """One whose state changes while it runs, and which asks when it is told to."""

    def __init__(self, text: str, asks_at: str, children: tuple[str, ...] = ()) -> None:
        self.text = text
        self.asks_at = asks_at
        self.children = children

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        if self.asks_at == "start":
            ask()
        self.text += " and more"
        for text in self.children:
            enqueue(Changing(text, self.asks_at))
        if self.asks_at == "end":
            ask()

    async def after_children_processed(self) -> None:
        if self.asks_at == "hook":
            ask()


class Keyed(Changing):
    """One with a key."""

    @property
    def key(self) -> str:
        return self.text


def test_when_it_is_asked_for_makes_no_difference(tmp_path: Path) -> None:
    """At the start, at the end or only in the hook, after the state has changed; for short states, long and equal ones."""
    asked.clear()
    texts = ("short", "equal", "equal", "long " * 100, "equal " * 100, "equal " * 100)
    moments = ("start", "end", "hook")
    items = [make(moment, moment, texts) for moment in moments for make in (Changing, Keyed)]
    run_queue(items, reporter="none", journal=tmp_path / "run.db")
    expected = recorded_identities(tmp_path / "run.db")
    assert len(set(expected.values())) == len(expected) == len(moments) * 2 * (1 + len(texts))
    assert asked == {number: {identity} for number, identity in expected.items()}


class Pages(Item):
    """One that is the first to ask from a thread, and has `ask` called there."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await anyio.to_thread.run_sync(ask)


def test_a_thread_of_an_item_may_ask(tmp_path: Path) -> None:
    """From a thread that an item waits for, its identity is the same."""
    asked.clear()
    run_queue([Pages("a"), Pages("b")], reporter="none", journal=tmp_path / "run.db")
    assert asked == {number: {identity} for number, identity in recorded_identities(tmp_path / "run.db").items()}


class Model(pydantic.BaseModel, Item):
    """One whose payload also says which fields were not set."""

    url: str
    tries: int = 3

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        ask()


def test_a_new_equal_of_a_recorded_model_has_an_identity_of_its_own(tmp_path: Path) -> None:
    """The second of two equal items, of which the first was recorded before, is told from that."""
    asked.clear()
    path = tmp_path / "run.db"
    for count in (1, 2, 3):
        run_queue([Model(url="a") for _ in range(count)], reporter="none", resume=path)
    assert asked == {number: {identity} for number, identity in recorded_identities(path).items()}
    assert len(set.union(*asked.values())) == 3


def test_without_a_journal_there_is_none() -> None:
    """Nothing is the same in a rerun that can't be: the identity is empty."""
    asked.clear()
    run_queue([Link(0)], reporter="none")
    assert asked == {1: {""}}
