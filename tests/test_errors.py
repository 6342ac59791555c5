"""aqueue's errors: nothing in a message steers the terminal that it is printed on."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given

import aqueue
from aqueue import AqueueError, EnqueueFn, Item, SetDescFn, UnknownItemType, run_queue
from aqueue.text import visible
from tests.strategies import hostile_text

HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202e"


def _classes(base: type[AqueueError]) -> Iterator[type[AqueueError]]:
    yield base
    for cls in base.__subclasses__():
        if cls.__module__ == "aqueue.errors":
            yield from _classes(cls)


MADE_OF_A_MESSAGE = [cls for cls in _classes(AqueueError) if "__init__" not in vars(cls) or cls is AqueueError]


@pytest.mark.parametrize("cls", MADE_OF_A_MESSAGE)
@given(text=hostile_text)
def test_a_message_shows_no_character_raw_that_a_terminal_acts_on(cls: type[AqueueError], text: str) -> None:
    """Whatever name, key or path of a stranger gets into it, for every class of error; safe text stays as it is."""
    message = str(cls(f"the item {text} is one"))
    assert message == visible(message)
    assert str(cls(message)) == message


class Stops(Item):
    """Ends the run before anything else of it runs."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        aqueue.stop("enough")


class Waits(Item):
    """Waits in the journal."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        pass


def test_a_class_that_a_journal_names_is_shown_safely(tmp_path: Path) -> None:
    """A name that no class can have, in a journal that somebody has edited, is refused and shown with escapes."""
    path = tmp_path / "run.db"
    run_queue([Stops(), Waits()], journal=path, reporter="none", num_workers=1)
    with closing(sqlite3.connect(path)) as connection, connection:
        name = f"{Waits.__module__}:{Waits.__qualname__}"
        escaped = HOSTILE.replace("\x1b", "\\u001b").replace("\x07", "\\u0007")
        connection.execute("UPDATE events SET event = replace(event, ?, ?)", (name, escaped))
        connection.execute("DELETE FROM snapshots")
    with pytest.raises(UnknownItemType) as caught:
        run_queue([], resume=path, reporter="none")
    assert str(caught.value).isprintable()
    assert r"\x1b]0;owned\x07\x1b[2J\u202e" in str(caught.value)
