"""What the runs of the tests of the page do: a feed finds pages at a steady pace, which succeed or fail as it is told."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

import anyio

from aqueue import EnqueueFn, Item, ItemFailures, Limit, Retry, SetDescFn, run_queue
from tests.report.runs import HOSTILE

__all__ = ["HOSTILE_TEXT", "VARIED", "main", "told_file"]

VARIED: Final = "varied"
"""What makes a feed find pages of 60 types, most of which fail in 40 kinds. Any other word is the name of their error."""

HOSTILE_TEXT: Final = HOSTILE.replace("\ud800", "").replace("\0", "")
"""The hostile text, without half a character and without what no class may have in its name."""

_LONG: Final = "WithANameThatIsFarTooLongForAnyColumnAndHasNoPlaceToBreakIt" * 2


def told_file(journal: Path) -> Path:
    """Return the file in which the feed of a run is told how its pages fail; if it is empty, they don't."""
    return journal.with_name("told.txt")


def main(journal: str, workers: int, feed: dict[str, Any]) -> None:
    """Run a feed, recorded in `journal`, or go on with it.

    With ``hostile`` it also has items with hostile texts, with ``flaky`` one that is retried until the feed is told nothing.
    """
    path, is_hostile, is_flaky = Path(journal), feed.pop("hostile", False), feed.pop("flaky", False)
    initial: list[Item] = [Feed(str(told_file(path)), **feed)]
    initial += [Flaky(str(told_file(path)))] * is_flaky
    initial += [Hostile(number) for number in range(20 * is_hostile)]
    limits = {"group 0": Limit(concurrent=max(workers // 2, 1)), HOSTILE_TEXT: Limit(concurrent=5)}
    try:
        run_queue(initial, num_workers=workers, reporter="none", resume=path, on_error="continue", limits=limits)
    except ItemFailures:
        return


@dataclass
class Feed(Item):
    """Finds pages, `batch` each `pace_s` seconds, which take `takes_s` seconds each: `pages` of them, or for ever.

    One of `fails_of` fails as the feed is told.
    """

    told: str
    pace_s: float = 0.05
    takes_s: float = 0.1
    pages: int = 0
    groups: int = 1
    batch: int = 1
    fails_of: int = 1

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        set_desc("the feed")
        first = time.time_ns() // 1_000  # a feed that is resumed finds others
        number = 0
        while not self.pages or number < self.pages:
            told = Path(self.told).read_text("utf-8")
            for _ in range(self.batch):
                page = PAGES[number % len(PAGES)] if told == VARIED else Page
                fails = f"Error{number % 40}{_LONG}" if told == VARIED else told
                fails = fails if number % self.fails_of == 0 else ""
                enqueue(page(first + number, self.takes_s, fails, f"group {number % self.groups}"))
                number += 1
            await anyio.sleep(self.pace_s)


@dataclass
class Page(Item):
    """Takes a while, and fails with an error of a class with that name, if it has one."""

    number: int
    takes_s: float
    fails: str
    group: str

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        set_desc(f"https://example.org/{self.number}")
        await anyio.sleep(self.takes_s)
        if self.fails:
            raise type(self.fails, (Exception,), {})(f"page {self.number} is not there: {self.fails}")


@dataclass
class Flaky(Item):
    """Fails at each attempt with the error that the feed is told, and succeeds once that is none; its key is ``flaky``."""

    retry: ClassVar[Retry | None] = Retry(attempts=1_000, first_s=0.3, factor=1, jitter=0)
    told: str
    key: str = "flaky"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> dict[str, list[int]]:
        set_desc("what is flaky")
        if told := Path(self.told).read_text("utf-8"):
            raise type(told, (Exception,), {})(f"not yet: {told}")
        return {"found": [1, 2, 3]}


@dataclass
class Hostile(Item):
    """Has a hostile text as its type, key, group, description and error; one of ten goes on for ever."""

    number: int
    group: str = HOSTILE_TEXT
    key: str = field(init=False)
    __qualname__: ClassVar[str]

    def __post_init__(self) -> None:
        self.key = f"{self.number}{HOSTILE_TEXT}"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        set_desc(HOSTILE_TEXT)
        if self.number % 10 == 0:
            await anyio.sleep_forever()
        raise type(HOSTILE_TEXT, (Exception,), {})(HOSTILE_TEXT)


Hostile.__qualname__ = Hostile.__name__ = HOSTILE_TEXT
PAGES: Final[list[type[Page]]] = [
    type(f"Page{number}{_LONG}", (Page,), {"__module__": f"tests.page.job{number % 7}"}) for number in range(60)
]
