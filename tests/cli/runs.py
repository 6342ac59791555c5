"""Real runs in the tests of the exports: with children, retries, hooks, failures, and a crash in the midst."""

from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aqueue
from aqueue import EnqueueFn, Item, ItemFailures, Retry, SetDescFn, run_queue
from aqueue._journal.open_journals import connect_to_read
from aqueue._journal.reader import EventReader
from aqueue.events import Event
from tests.journal.recorded import cut

__all__ = ["HOSTILE", "crashed_and_resumed", "recorded", "run"]

HOSTILE = '=cmd|\x1b[2J\x9b1m\u202e\u2028\x7f\r\n"</script>;'


@dataclass
class Page(Item):
    """Says something, fails as often as it is told, and returns something."""

    number: int
    failures: int = 0

    retry = Retry(attempts=2, first_s=0.0)

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> Any:
        set_desc(f"page {self.number}")
        set_desc(HOSTILE)
        if self.failures >= aqueue.current().attempt:
            raise ValueError(HOSTILE)
        return {"number": -self.number, "text": HOSTILE, "more": [1, None]}


@dataclass
class Folder(Item):
    """Has pages, and a hook. One page needs a second attempt, the last of a folder that is `broken` fails for good."""

    pages: int
    broken: bool = False

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        for number in range(self.pages):
            enqueue(Page(number, failures=1 if number == 1 else 9 if self.broken and number == self.pages - 1 else 0))
        return "listed"

    async def after_children_processed(self) -> list[Any]:
        return aqueue.child_results()


def run(path: Path, **arguments: Any) -> None:
    """Run some folders with the journal at `path`."""
    with suppress(ItemFailures):
        run_queue(
            [Folder(4), Folder(3, broken=True), Page(7)], resume=path, num_workers=3, on_error="continue", **arguments
        )


def recorded(path: Path) -> list[list[Event]]:
    """Return the events in the journal at `path`, in batches."""
    with closing(connect_to_read(path)) as connection:
        reader = EventReader(connection, path)
        events = [event for batch in iter(reader.read, None) for event in batch]
    return [events[start : start + 7] for start in range(0, len(events), 7)]


def crashed_and_resumed(folder: Path, after: int = 25, **arguments: Any) -> Path:
    """Return a journal in `folder` of a run that crashed after its first `after` events and was resumed."""
    run(folder / "whole.db", reporter="none")
    path = cut(folder / "whole.db", after, folder / "crashed.db")
    run(path, **arguments)
    return path
